//! Flaws that other package servers had, as far as they concern reading: each test is one class of them.
//! Traversal, trust in headers and smuggling are in `hostile.rs`, texts of packages on pages in `pages.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_testkit::conda;
use axum::http::Method;
use common::{SMALL, Server, against_idna, server};
use serde_json::Value;

const WHEEL: &str = "/pypi/py/packages/idna/idna-3.7-py3-none-any.whl";

/// Asks until the answer has this status; a test that waits in vain is ended from outside.
async fn until(server: &Server, uri: &str, status: u16) {
    while server.status(uri).await != status {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_client_makes_up_changes_no_kept_answer() {
    let server = server(&[]).await;
    for uri in [SMALL, "/conda/main/noarch/repodata.json", "/pypi/py/simple/idna/", WHEEL] {
        for poison in [
            [("host", "evil.example"), ("x-forwarded-host", "evil.example")],
            [("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/evil")],
            [("range", "bytes=0-1"), ("if-range", "\"no\"")],
            [("if-none-match", "*"), ("x-original-url", "/evil")],
            [("accept", "application/vnd.pypi.simple.v1+json"), ("accept-encoding", "evil")],
            [("origin", "https://evil.example"), ("cookie", "a=b")],
            [("range", "bytes=99999999-"), ("if-match", "\"no\"")],
        ] {
            let first = server.ask(Method::HEAD, uri, &poison).await;
            let second = server.ask(Method::GET, uri, &poison).await;
            assert!(!format!("{first:?}{second:?}").contains("evil.example"), "{uri} {poison:?}");
        }
        let kept = server.get(uri).await;
        let anew = Server::over_same(&server).get(uri).await;
        assert_eq!((kept.status, kept.headers, kept.body), (anew.status, anew.headers, anew.body), "{uri}");
    }
}

#[tokio::test]
async fn an_answer_that_is_kept_ends_when_its_file_is_blocked() {
    let server = server(&[]).await;
    let dated = format!("/conda/main@{}/noarch/idna-3.7-0.conda", server.snapshot("main").await);
    let metadata = format!("{WHEEL}.metadata");
    let all = [SMALL, &dated, WHEEL, &metadata];
    for uri in all.into_iter().cycle().take(100) {
        assert_eq!(server.status(uri).await, 200, "{uri}");
    }
    server.kit.block("main", "idna==3.7").await;
    server.kit.block("py", "idna==3.7").await;
    for uri in all {
        until(&server, uri, 403).await;
        for (name, value) in [("range", "bytes=0-1"), ("if-none-match", "*"), ("if-match", "*"), ("x", "y")] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(server.ask(method, uri, &[(name, value)]).await.status, 403, "{uri} {name}");
            }
        }
    }
}

#[tokio::test]
async fn knowing_a_hash_or_another_channel_opens_nothing() {
    let server = server(&[against_idna()]).await;
    let mut source = server.kit.conda_source("secret");
    source.add(&conda("secret", "1.0"), &Value::Null);
    source.write();
    server.kit.add_channel("closed", Ecosystem::Conda, source.path(), &[]).await;
    server.kit.sync("closed").await;
    let file = server.get("/conda/closed/noarch/secret-1.0-0.conda").await;
    assert_eq!(file.status, 200);
    let blob = Digest::of(&file.body).to_string();
    let shard = server.shards("closed").await["secret"].clone();
    assert_eq!(server.status(&format!("/conda/closed/noarch/shards/{shard}.msgpack.zst")).await, 200);
    for uri in [
        format!("/conda/main/noarch/shards/{shard}.msgpack.zst"),
        format!("/conda/closed/linux-64/shards/{shard}.msgpack.zst"),
        format!("/conda/main/noarch/shards/{blob}.msgpack.zst"),
        "/conda/main/noarch/secret-1.0-0.conda".to_owned(),
        format!("/conda/main@{}/noarch/secret-1.0-0.conda", server.snapshot("closed").await),
        format!("/conda/main/noarch/{blob}"),
        format!("/pypi/py/packages/secret/{blob}"),
        "/pypi/closed/packages/secret/secret-1.0-0.conda".to_owned(),
        format!("/blobs/{}/{blob}", &blob[..2]),
        format!("/{blob}"),
        format!("/static/{blob}"),
    ] {
        assert_eq!(server.status(&uri).await, 404, "{uri}");
    }
    // Denied is denied for everything that belongs to the file.
    for uri in [
        "/conda/main/noarch/idna-3.6-0.conda",
        "/pypi/py/packages/idna/idna-3.6-py3-none-any.whl",
        "/pypi/py/packages/idna/idna-3.6-py3-none-any.whl.metadata",
    ] {
        assert_eq!(server.status(uri).await, 403, "{uri}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_denied_file_is_another_file() {
    let server = server(&[against_idna()]).await;
    for uri in [
        "/conda/main/noarch/idna-3.6-0.conda",
        "/conda/main/noarch/%69dna-3.6-0.conda",
        "/conda/main/noarch/idna%2d3%2e6-0.conda",
        "/conda/main/noarch/IDNA-3.6-0.conda",
        "/conda/main/noarch/idna-3.6-0.conda?x=1",
        "/conda/main/noarch/idna-3.6-0.CONDA",
        "/conda/main/noarch/idna-3.6-0.conda.",
        "/conda/main/noarch/idna-3.6-0.conda/",
        "/conda/main/noarch//idna-3.6-0.conda",
        "/conda/main/noarch/./idna-3.6-0.conda",
        "/conda/MAIN/noarch/idna-3.6-0.conda",
        "/conda/main/linux-64/idna-3.6-0.conda",
        "/t/token/conda/main/noarch/idna-3.6-0.conda",
        "/pypi/py/packages/idna/idna-3.6-py3-none-any.whl",
        "/pypi/py/packages/IDNA/idna-3.6-py3-none-any.whl",
        "/pypi/py/packages/idna/IDNA-3.6-py3-none-any.whl",
        "/pypi/py/packages/other/idna-3.6-py3-none-any.whl",
        "/pypi/py/packages/idna/idna-3.6.0-py3-none-any.whl",
        "/pypi/py/packages/idna/idna-3.6-py3-none-any.whl.metadata.metadata",
    ] {
        let status = server.status(uri).await;
        assert!([400, 403, 404].contains(&status), "{uri}: {status}");
    }
}

#[tokio::test]
async fn a_redirect_never_leaves_this_server() {
    let server = server(&[]).await;
    for uri in [
        "/pypi/py/simple",
        "/pypi/py/simple//evil.example",
        "/pypi/py/simple//evil.example/",
        "/pypi/py/simple/%2F%2Fevil.example/",
        "/pypi/py/simple/%5C%5Cevil.example",
        "/pypi/py/simple/https:evil.example",
        "/pypi/py/simple/Evil.Example",
        "/pypi/py/simple/..%2Fevil",
        "/pypi/py/simple?next=https://evil.example",
        "//evil.example/%2e%2e",
        "/pypi/py/simple/IDNA",
    ] {
        let answer = server.get(uri).await;
        let location = answer.header("location");
        assert_eq!(location.is_empty(), !answer.status.is_redirection(), "{uri}");
        assert!(
            !location.contains(['/', '\\', ':'])
                || ["simple/", "idna/", "evil-example/"].contains(&location)
                || location.starts_with("../") && !location.contains("//"),
            "{uri}: {location}"
        );
    }
}

#[tokio::test]
async fn nothing_of_a_package_or_request_gets_into_a_header_but_encoded() {
    let server = server(&[against_idna()]).await;
    for uri in [
        "/conda/main/noarch/idna-3.6-0.conda",
        "/pypi/py/simple/zope-interface/",
        WHEEL,
        "/conda/main/noarch/x264-1!164.3095-0.conda",
        "/conda/main/noarch/%0d%0aSet-Cookie:%20a=b",
        "/packages/py/%0d%0aSet-Cookie:%20a=b",
        "/pypi/py/simple/a%0d%0ab/",
        "/channels/%22%3e%3cscript%3e",
    ] {
        let answer = server.get(uri).await;
        assert!(!answer.headers.contains_key("set-cookie"), "{uri}");
        for (name, value) in &answer.headers {
            let is_plain = value.as_bytes().iter().all(|b| (0x20..0x7f).contains(b));
            assert!(is_plain && !value.as_bytes().contains(&b'\r'), "{uri} {name}: {value:?}");
        }
        if uri.ends_with(".whl") || uri.ends_with("0.conda") && answer.status == 200 {
            assert_eq!(answer.header("content-disposition"), "attachment", "{uri}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{uri}");
        }
    }
}

#[tokio::test]
async fn what_an_index_says_of_a_file_is_what_is_served() {
    let server = server(&[]).await;
    let index = server.get("/conda/main/noarch/repodata.json").await.json();
    let mut seen = 0;
    for (file, record) in index["packages.conda"].as_object().unwrap() {
        let answer = server.get(&format!("/conda/main/noarch/{file}")).await;
        assert_eq!(record["sha256"], Digest::of(&answer.body).to_string(), "{file}");
        assert_eq!(record["size"], answer.body.len(), "{file}");
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
    for (name, hash) in server.shards("main").await {
        let answer = server.get(&format!("/conda/main/noarch/shards/{hash}.msgpack.zst")).await;
        assert_eq!(Digest::of(&answer.body).to_string(), hash, "{name}");
    }
}

#[tokio::test]
async fn an_older_index_is_rendered_once_for_all_who_ask_and_hang_up() {
    let server = server(&[]).await;
    let old = server.snapshot("main").await;
    server.kit.know(&[against_idna()]).await;
    server.kit.judge("main").await;
    let uri = format!("/conda/main@{old}/noarch/repodata.json");
    let hanging_up = (0..200).map(|_| {
        let (site, uri) = (server.site.clone(), uri.clone());
        tokio::spawn(async move { common::ask(&site, Method::GET, &uri, &[]).await })
    });
    let hanging_up: Vec<_> = hanging_up.collect();
    tokio::task::yield_now().await;
    for one in hanging_up.iter().skip(1) {
        one.abort();
    }
    let answer = server.get(&uri).await;
    assert!(answer.text().contains("idna-3.6-0.conda"));
    for one in hanging_up {
        if let Ok(same) = one.await {
            assert_eq!(same.body, answer.body);
        }
    }
}

/// Two servers over one station: what one has told a client of, the other does not deny.
#[tokio::test]
async fn what_another_server_told_a_client_of_is_there() {
    let server = server(&[]).await;
    let other = Server::over_same(&server);
    let mut source = server.kit.conda_source("conda");
    for round in 0..3 {
        // The other server has just read what was then.
        assert_eq!(other.get("/conda/main/noarch/repodata.json").await.status, 200);
        let name = format!("fresh{round}");
        source.add(&conda(&name, "1.0"), &Value::Null);
        source.write();
        server.kit.sync("main").await;
        let snapshot = server.snapshot("main").await;
        for uri in [
            format!("/conda/main/noarch/{name}-1.0-0.conda"),
            format!("/conda/main@{snapshot}/noarch/{name}-1.0-0.conda"),
        ] {
            assert_eq!(other.get(&uri).await.status, 200, "{uri}");
        }
    }
}
