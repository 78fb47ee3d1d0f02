//! What holds for every answer: methods, validators, ranges, paths.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::id::Digest;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request};
use common::{LARGE, SMALL, against_idna, server};

const REPRESENTATIONS: [&str; 11] = [
    LARGE,
    SMALL,
    "/conda/main/channeldata.json",
    "/conda/main/notices.json",
    "/conda/main/noarch/repodata.json",
    "/conda/main/noarch/repodata.json.zst",
    "/conda/main/noarch/repodata_shards.msgpack.zst",
    "/conda/main/noarch/run_exports.json.zst",
    "/pypi/py/simple/",
    "/pypi/py/simple/idna/",
    "/pypi/py/packages/idna/idna-3.7-py3-none-any.whl.metadata",
];

#[tokio::test]
async fn head_says_what_get_says() {
    let server = server(&[against_idna()]).await;
    let refused =
        ["/conda/main/noarch/idna-3.6-0.conda", "/conda/main/noarch/repodata.jlap", "/nowhere", "/healthz"];
    for uri in REPRESENTATIONS.iter().chain(&refused) {
        let get = server.get(uri).await;
        let head = server.ask(Method::HEAD, uri, &[]).await;
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{uri}");
        assert!(head.body.is_empty(), "{uri}");
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{uri}");
        assert!(!get.headers.contains_key("content-encoding"), "{uri}");
        if *uri != "/healthz" {
            assert_eq!(get.header("x-content-type-options"), "nosniff", "{uri}");
        }
    }
}

#[tokio::test]
async fn the_etag_is_the_hash_of_the_bytes_and_differs_between_representations() {
    let server = server(&[]).await;
    let mut seen = std::collections::BTreeSet::new();
    for uri in REPRESENTATIONS {
        let answer = server.get(uri).await;
        assert_eq!(answer.status, 200, "{uri}");
        assert_eq!(answer.header("etag"), format!("\"{}\"", Digest::of(&answer.body)), "{uri}");
        assert_eq!(answer.header("accept-ranges"), "bytes", "{uri}");
        assert!(seen.insert(answer.header("etag").to_owned()), "{uri}");
    }
}

#[tokio::test]
async fn a_known_etag_is_answered_with_not_modified() {
    let server = server(&[]).await;
    for uri in [SMALL, "/conda/main/noarch/repodata.json.zst", "/pypi/py/simple/idna/"] {
        let etag = server.get(uri).await.header("etag").to_owned();
        let long = format!("\"a\", W/{etag} ,\"b\"");
        for (name, value, status) in [
            ("if-none-match", etag.as_str(), 304),
            ("if-none-match", long.as_str(), 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"other\"", 200),
            ("if-none-match", etag.trim_matches('"'), 200),
            ("if-modified-since", "Wed, 21 Oct 2099 07:28:00 GMT", 200),
            ("if-match", etag.as_str(), 200),
            ("if-match", "*", 200),
            ("if-match", "\"other\"", 412),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = server.ask(method, uri, &[(name, value)]).await;
                assert_eq!(answer.status, status, "{uri} {name}: {value}");
                if status == 304 {
                    assert!(answer.body.is_empty());
                    assert_eq!(answer.header("etag"), etag);
                    assert!(!answer.header("cache-control").is_empty());
                }
            }
        }
        let both = [("if-none-match", "\"other\""), ("if-modified-since", "Wed, 21 Oct 2099 07:28:00 GMT")];
        assert_eq!(server.ask(Method::GET, uri, &both).await.status, 200);
        let both = [("if-none-match", etag.as_str()), ("range", "bytes=0-1")];
        assert_eq!(server.ask(Method::GET, uri, &both).await.status, 304);
    }
}

#[tokio::test]
async fn one_range_is_answered_with_that_part() {
    let server = server(&[]).await;
    for uri in [LARGE, SMALL, "/conda/main/noarch/repodata.json", "/pypi/py/simple/"] {
        let whole = server.get(uri).await.body;
        let len = whole.len();
        let table = [
            ("bytes=0-0".to_owned(), 206, 0..1),
            ("bytes=5-".to_owned(), 206, 5..len),
            (format!("bytes=3-{}", len - 2), 206, 3..len - 1),
            (format!("bytes={}-", len - 1), 206, len - 1..len),
            (format!("bytes=1-{}", len * 2), 206, 1..len),
            ("bytes=-7".to_owned(), 206, len - 7..len),
            (format!("bytes=-{}", len + 1), 206, 0..len),
            (format!("bytes=-{}", u64::MAX), 206, 0..len),
            (format!("bytes={len}-"), 416, 0..0),
            ("bytes=0-1,4-5".to_owned(), 200, 0..len),
            ("bytes=5-2".to_owned(), 200, 0..len),
            ("pages=1-2".to_owned(), 200, 0..len),
            ("nonsense".to_owned(), 200, 0..len),
        ];
        for (range, status, part) in table {
            let answer = server.ask(Method::GET, uri, &[("range", &range)]).await;
            assert_eq!(answer.status, status, "{uri} {range}");
            match status {
                206 => {
                    let expected = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                    assert_eq!(answer.header("content-range"), expected, "{uri} {range}");
                }
                416 => {
                    assert_eq!(answer.header("content-range"), format!("bytes */{len}"));
                    continue;
                }
                _ => assert!(!answer.headers.contains_key("content-range"), "{uri} {range}"),
            }
            assert!(answer.body == whole[part.clone()], "{uri} {range}");
            assert_eq!(answer.header("content-length"), part.len().to_string());
        }
        let head = server.ask(Method::HEAD, uri, &[("range", "bytes=0-1")]).await;
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, len.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_range_of_another_file_gets_the_whole() {
    let server = server(&[]).await;
    let etag = server.get(SMALL).await.header("etag").to_owned();
    let weak = format!("W/{etag}");
    for (value, status) in
        [(etag.as_str(), 206), ("\"other\"", 200), (&weak, 200), ("Wed, 21 Oct 2099 07:28:00 GMT", 200)]
    {
        let answer = server.ask(Method::GET, SMALL, &[("range", "bytes=1-2"), ("if-range", value)]).await;
        assert_eq!(answer.status, status, "{value}");
    }
}

#[tokio::test]
async fn names_are_the_same_raw_and_encoded_and_a_plus_is_no_space() {
    let server = server(&[]).await;
    for uri in [
        "/conda/main/noarch/x264-1!164.3095-0.conda",
        "/conda/main/noarch/x264-1%21164.3095-0.conda",
        "/conda/main/noarch/py-sirius-ms-2.1+sirius6.0.7-0.conda",
        "/conda/main/noarch/py%2Dsirius%2dms-2.1%2Bsirius6.0.7-0.conda",
        "/conda/%6dain/noarch/idna-3.7-0.conda",
        "/pypi/py/packages/zope-interface/zope_interface-6.0+local-py3-none-any.whl",
        "/pypi/py/packages/Zope.Interface/zope%5Finterface-6.0%2blocal-py3-none-any.whl",
    ] {
        assert_eq!(server.status(uri).await, 200, "{uri}");
    }
    assert_eq!(server.status("/conda/main/noarch/py-sirius-ms-2.1%20sirius6.0.7-0.conda").await, 400);
}

#[tokio::test]
async fn paths_that_hide_something_are_refused() {
    let server = server(&[]).await;
    for uri in [
        "/conda/main/noarch/..%2Fidna-3.7-0.conda",
        "/conda/main/noarch/%2e%2e/noarch/idna-3.7-0.conda",
        "/conda/main/noarch/../noarch/idna-3.7-0.conda",
        "/conda/main//noarch/idna-3.7-0.conda",
        "/conda/main/noarch/./idna-3.7-0.conda",
        "/conda/main/noarch/idna-3.7-0.conda%00",
        "/conda/main/noarch/idna-3.7-0.conda%2500",
        "/conda/main/noarch%5Cidna-3.7-0.conda",
        "/conda/main/noarch%2fidna-3.7-0.conda",
        "/conda/main/noarch/x264-1%2521164.3095-0.conda",
        "/conda/main/noarch/idna-3.7-0.conda/",
        "/conda/t/noarch/idna-3.7-0.conda",
        "/conda//etc/passwd",
        "/pypi/py/packages/idna/%2e%2e%2f%2e%2e%2fairlock.toml",
        "/pypi/py/packages/idna/idna-3.7-py3-none-any.whl/",
    ] {
        let answer = server.get(uri).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{uri}: {}", answer.status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{uri}");
    }
}

#[tokio::test]
async fn a_token_in_the_path_is_passed_over_and_never_repeated() {
    let server = server(&[against_idna()]).await;
    for uri in
        ["/conda/t/tk-secret/main/noarch/repodata.json", "/conda/main/t/tk-secret/noarch/repodata.json"]
    {
        assert_eq!(server.status(uri).await, 200, "{uri}");
    }
    for file in ["idna-3.6-0.conda", "absent-1-0.conda", "%ff"] {
        let answer = server.get(&format!("/conda/t/tk-secret/main/noarch/{file}")).await;
        assert!(answer.status.is_client_error());
        assert!(!format!("{answer:?}").contains("tk-secret"));
    }
    assert_eq!(server.status("/pypi/t/tk-secret/py/simple/").await, 200);
}

#[tokio::test]
async fn the_server_holds_under_the_prefix_of_a_proxy() {
    let server = server(&[against_idna()]).await;
    let ask = async |uri: &str, headers: &[(&str, &str)]| {
        // What a proxy does: it takes its prefix away.
        server.ask(Method::GET, uri.strip_prefix("/deep/airlock").unwrap(), headers).await
    };
    for (from, to) in [
        ("/deep/airlock/pypi/py/simple", "/deep/airlock/pypi/py/simple/"),
        ("/deep/airlock/pypi/py/simple/IDNA", "/deep/airlock/pypi/py/simple/idna/"),
        ("/deep/airlock/pypi/py/simple/Zope.Interface/", "/deep/airlock/pypi/py/simple/zope-interface/"),
    ] {
        let answer = ask(from, &[]).await;
        assert_eq!(answer.status, 301, "{from}");
        assert_eq!(resolve(from, answer.header("location")), to, "{from}");
        assert_eq!(ask(to, &[]).await.status, 200, "{to}");
    }
    let page = "/deep/airlock/pypi/py/simple/idna/";
    let json = ask(page, &[("accept", "application/vnd.pypi.simple.v1+json")]).await.json();
    for file in json["files"].as_array().unwrap() {
        let url = resolve(page, file["url"].as_str().unwrap());
        assert_eq!(ask(&url, &[]).await.status, 200, "{url}");
    }
    for denied in [
        "/deep/airlock/conda/main/noarch/idna-3.6-0.conda",
        "/deep/airlock/conda/t/token/main/noarch/idna-3.6-0.conda",
        "/deep/airlock/pypi/py/packages/idna/idna-3.6-py3-none-any.whl.metadata",
    ] {
        let answer = ask(denied, &[]).await;
        let channel = if denied.contains("conda") { "main" } else { "py" };
        let page = format!("/deep/airlock/packages/{channel}/idna/3.6");
        assert_eq!(resolve(denied, answer.json()["package"].as_str().unwrap()), page);
        let link = answer.header("link");
        assert_eq!(
            resolve(denied, link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"help\"").unwrap()),
            page
        );
    }
}

/// Resolves a relative reference without a query.
fn resolve(base: &str, reference: &str) -> String {
    assert!(!reference.starts_with('/') && !reference.contains("//"), "{reference} is not path-relative");
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in reference.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[tokio::test]
async fn the_station_says_that_it_runs() {
    let server = server(&[]).await;
    for uri in ["/healthz", "/readyz"] {
        let answer = server.get(uri).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok\n"));
    }
    assert_eq!(server.ask(Method::POST, SMALL, &[]).await.status, 405);
    assert_eq!(server.ask(Method::DELETE, "/pypi/py/simple/", &[]).await.status, 405);
}

/// Odd paths and headers, put together at random; the seed is fixed, so that a failure comes again.
#[tokio::test]
async fn no_request_makes_the_server_fail() {
    const PIECES: [&str; 40] = [
        "/",
        "/",
        "/",
        "conda",
        "pypi",
        "main",
        "py",
        "t",
        "noarch",
        "linux-64",
        "simple",
        "packages",
        "shards",
        "idna",
        "idna-3.7-0.conda",
        "idna-3.7-py3-none-any.whl",
        ".metadata",
        "repodata.json",
        ".zst",
        "@",
        "%40",
        "%",
        "%2F",
        "%00",
        "%ff",
        "..",
        ".",
        "-",
        "--",
        "-.conda",
        "-0.whl",
        "+",
        "!",
        "~",
        "?x=%zz",
        "é",
        "\\",
        "2026-03-01",
        "0123456789ab",
        "repodata_shards.msgpack.zst",
    ];
    const HEADERS: [&str; 9] = [
        "range",
        "if-range",
        "if-none-match",
        "if-match",
        "accept",
        "if-modified-since",
        "host",
        "accept-encoding",
        "content-length",
    ];
    const VALUES: [&[u8]; 22] = [
        b"bytes=",
        b"0",
        b"-",
        b"18446744073709551616",
        b",",
        b"\"",
        b"W/",
        b"*",
        b"*/*",
        b";q=",
        b"1e999",
        b"NaN",
        b"\xff",
        b"\x80",
        b"text/html",
        b"application/vnd.pypi.simple.v1+json",
        b" ",
        b"\t",
        b"=",
        b"bytes=0-",
        b"q",
        b"/",
    ];
    let server = server(&[against_idna()]).await;
    let mut state = 42u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    };
    let mut asked = 0;
    for _ in 0..4000 {
        let starts = [
            "/conda/main/noarch/",
            "/conda/main@",
            "/pypi/py/simple/",
            "/pypi/py/packages/idna/",
            "/conda/",
            "/",
        ];
        let mut uri = starts[next(starts.len())].to_owned();
        for _ in 0..next(7) {
            uri.push_str(PIECES[next(PIECES.len())]);
        }
        let mut request =
            Request::builder().method(if next(4) == 0 { Method::HEAD } else { Method::GET }).uri(&uri);
        for _ in 0..next(4) {
            let value: Vec<u8> = (0..next(5)).flat_map(|_| VALUES[next(VALUES.len())].to_vec()).collect();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request = request.header(HeaderName::from_static(HEADERS[next(HEADERS.len())]), value);
            }
        }
        let Ok(request) = request.body(Body::empty()) else { continue };
        let response = server.site.answer(request).await;
        assert!(response.status().as_u16() < 500, "{uri}: {}", response.status());
        asked += 1;
    }
    assert!(asked > 3000, "most of it can be asked at all: {asked}");
}
