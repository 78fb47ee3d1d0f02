//! Pages: what they say, and what no hostile text can make them do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::time::Span;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options, Side, Station};
use airlock_engine::view::View;
use airlock_engine::{bundle, channel, policy, trust};
use airlock_formats::make::CondaPackage;
use airlock_testkit::{Kit, conda, osv, wheel};
use axum::http::Method;
use common::{Answer, Server, ask, server};
use serde_json::{Value, json};

const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'";

/// An advisory whose every text is hostile.
fn evil_advisory() -> Value {
    let mut record = osv("CVE-2024-3651", "PyPI", "idna", "3.7", 7.5);
    record["summary"] = json!(EVIL);
    record["details"] = json!(EVIL);
    record["aliases"] = json!(["<b>GHSA</b>"]);
    record
}

async fn page(server: &Server, uri: &str) -> Answer {
    server.ask(Method::GET, uri, &[("host", "packages.example:8080"), ("accept", "text/html")]).await
}

async fn text(server: &Server, uri: &str) -> String {
    let answer = page(server, uri).await;
    assert!(answer.status.is_success(), "{uri}: {}", answer.status);
    answer.text()
}

async fn as_json(server: &Server, uri: &str) -> Value {
    let answer = server.ask(Method::GET, uri, &[("accept", "application/json")]).await;
    assert_eq!(answer.header("content-type"), "application/json", "{uri}");
    answer.json()
}

/// Every address that a page has links or forms to.
fn links(html: &str) -> Vec<String> {
    let attributes = [" href=\"", " src=\"", " action=\""];
    let mut out = Vec::new();
    for attribute in attributes {
        out.extend(
            html.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&")),
        );
    }
    out
}

const PAGES: [&str; 12] = [
    "/",
    "/channels/main",
    "/channels/py",
    "/channels/main?verdict=withheld&sort=reason",
    "/packages/main/idna",
    "/packages/main/idna/3.6",
    "/packages/main/x264/1%21164.3095",
    "/packages/py/idna",
    "/packages/py/idna/3.7",
    "/packages/py/nothing",
    "/packages/py/idna/99",
    "/channels/nothing",
];

#[tokio::test]
async fn no_page_runs_or_asks_for_anything_else() {
    let server = server(&[evil_advisory()]).await;
    for uri in PAGES {
        let answer = page(&server, uri).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("script-src 'none'"),
            "{uri}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{uri}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{uri}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{uri}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{uri}");
        let html = answer.text();
        for forbidden in ["<script", "<style", " style=", "javascript:", "<img", "<iframe"] {
            assert!(!html.contains(forbidden), "{uri} holds {forbidden}");
        }
        let tags = html.split('<').map(|t| t.split('>').next().unwrap());
        assert!(tags.clone().all(|t| !t.contains(" on")), "{uri} handles events");
    }
}

#[tokio::test]
async fn every_link_is_relative_and_leads_somewhere() {
    let server = server(&[evil_advisory()]).await;
    for uri in PAGES {
        let depth = uri.split('?').next().unwrap().matches('/').count() - 1;
        for link in links(&page(&server, uri).await.text()) {
            assert!(!link.starts_with('/') && !link.contains("://"), "{uri} links to {link}");
            if link.starts_with('#') {
                continue;
            }
            let ups = link.matches("../").count();
            assert!(ups <= depth, "{uri} links out of the station: {link}");
            let path = uri.split('?').next().unwrap();
            let folder = path.rsplitn(ups + 2, '/').last().unwrap();
            let rest = link.trim_start_matches("./").trim_start_matches("../").split('#').next().unwrap();
            let target = if rest.starts_with('?') || rest.is_empty() && ups == 0 && !link.starts_with('.') {
                format!("{path}{rest}")
            } else {
                format!("{folder}/{rest}")
            };
            let status = server.status(&target).await;
            assert_eq!(status, 200, "{uri} links to {link}, which is {target}");
        }
    }
}

#[tokio::test]
async fn hostile_texts_are_shown_as_they_are() {
    let kit = Kit::new(&[evil_advisory()]).await;
    let mut source = kit.pypi_source("pypi");
    let evil = airlock_formats::make::Wheel { summary: EVIL, license: EVIL, ..wheel("idna", "3.6") };
    source.add_wheel(&evil, &Value::Null);
    source.add_wheel(
        &airlock_formats::make::Wheel { summary: EVIL, license: EVIL, ..wheel("idna", "3.7") },
        &Value::Null,
    );
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("py").await;
    let mut source = kit.conda_source("conda");
    source.add(&CondaPackage { license: EVIL, summary: EVIL, ..conda("idna", "3.7") }, &Value::Null);
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let server = Server::over(kit);
    for uri in [
        "/packages/py/idna",
        "/packages/py/idna/3.6",
        "/packages/py/idna/3.7",
        "/packages/main/idna",
        "/channels/py",
    ] {
        let html = text(&server, uri).await;
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>GHSA"), "{uri}");
    }
    let html = text(&server, "/packages/py/idna/3.6").await;
    assert!(html.contains("&#60;script&#62;alert(1)"));
    for name in ["%3Cscript%3E", "a%22onload%3Dx", "%FF", "..%2F..%2Fetc"] {
        for uri in
            [format!("/packages/py/{name}"), format!("/packages/py/idna/{name}"), format!("/channels/{name}")]
        {
            let answer = page(&server, &uri).await;
            assert_eq!(answer.status, 404, "{uri}");
            assert!(!answer.text().contains("<script>") && !answer.text().contains("\"onload"), "{uri}");
        }
    }
    let html = text(&server, "/channels/py?q=%22%3E%3Cscript%3E&sort=%22&verdict=%3C&after=%22%3E").await;
    assert!(!html.contains("<script") && html.contains("value=\"&#34;&#62;&#60;script&#62;\""));
}

#[tokio::test]
async fn a_package_page_says_what_to_type_and_why_not_the_others() {
    let server = server(&[evil_advisory()]).await;
    let html = text(&server, "/packages/py/idna").await;
    assert!(html.contains("You may install"));
    assert!(html.contains("pip install --index-url http://packages.example:8080/pypi/py/simple/ idna==3.7"));
    for part in [
        "denied",
        "cvss-above-7",
        "CVE-2024-3651",
        "high 7.5",
        "Why it matches 3.6",
        "PEP 440",
        "tell your security officer",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let html = text(&server, "/packages/main/idna").await;
    assert!(
        html.contains(
            "conda install --override-channels -c http://packages.example:8080/conda/main idna=3.7"
        )
    );
    assert!(html.contains("a map or a rule of names that nobody here has reviewed"));
    let html = text(&server, "/packages/main/idna/3.6").await;
    assert!(html.contains("this version may not be installed") && html.contains(">3.7</a>"));
    assert!(html.contains("osv:PyPI/idna (conda idna"));
    let html = text(&server, "/packages/main/x264/1!164.3095").await;
    assert!(
        html.contains("Unknown coverage: no advisory could have matched; this is not the same as clean.")
    );
    assert!(html.contains("&#39;x264=1!164.3095&#39;"));
}

#[tokio::test]
async fn names_are_found_however_they_are_spelt() {
    let server = server(&[]).await;
    for uri in [
        "/packages/py/Zope.Interface",
        "/packages/py/zope_interface",
        "/packages/py/zope-interface/6.0%2Blocal",
        "/packages/main/IDNA",
    ] {
        assert_eq!(server.status(uri).await, 200, "{uri}");
    }
    // Equal versions are one version, whatever their text.
    assert!(text(&server, "/packages/py/idna/3.7.0").await.contains("idna 3.7 "));
}

#[tokio::test]
async fn what_nobody_knows_is_answered_with_what_to_do() {
    let server = server(&[]).await;
    let answer = page(&server, "/packages/py/x264").await;
    assert_eq!(answer.status, 404);
    let html = answer.text();
    for part in [
        "Nobody here knows x264 in channel py",
        "x264 in main",
        "please add x264 to channel py",
        "channels/py?q=x264",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let answer = page(&server, "/packages/py/idna/99").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("knows no version 99 of idna"));
    let answer = page(&server, "/channels/mian").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("../channels/main"));
    let answer = server.ask(Method::GET, "/packages/py/x264", &[("accept", "application/json")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "application/problem+json"));
    assert_eq!(answer.json()["status"], 404);
    assert!(!answer.header("content-security-policy").is_empty());
}

#[tokio::test]
async fn programs_get_the_same_as_json() {
    let server = server(&[evil_advisory()]).await;
    let status = as_json(&server, "/").await;
    assert!(status["fingerprint"].is_string() && status["feeds"][0]["age_seconds"].is_number());
    assert_eq!(status["channels"].as_array().unwrap().len(), 2);
    let channel = as_json(&server, "/channels/py").await;
    assert_eq!(channel["total"], 2);
    let idna = &channel["packages"][0];
    assert_eq!((&idna["name"], &idna["newest"], &idna["denied"]), (&json!("idna"), &json!("3.7"), &json!(1)));
    assert_eq!(
        idna["whys"][0],
        json!({"rules": ["cvss-above-7"], "advisory": "CVE-2024-3651", "score": 7.5, "by_sender": false})
    );
    let package = as_json(&server, "/packages/py/idna").await;
    assert_eq!(package["artifacts"].as_array().unwrap().len(), 3);
    let version = as_json(&server, "/packages/py/idna/3.6").await;
    let artifact = &version["artifacts"][0];
    assert_eq!((&artifact["verdict"], &artifact["nearest"]), (&json!("denied"), &json!("3.7")));
    assert_eq!(artifact["findings"][0]["score"], json!(7.5));
}

#[tokio::test]
async fn an_empty_station_says_what_would_be_here() {
    for (side, word) in [(Side::Connected, "airlock channel add"), (Side::Isolated, "airlock import DIR")] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            clock: Clock::System,
            actor: "test".to_owned(),
            threads: 1,
            progress: Progress::default(),
        };
        let station = Station::init(dir.path(), "<new> station", side, options).await.unwrap();
        let site = airlock_web::Site::new(airlock_web::App::new(View::new(station), Vec::new()));
        let html = ask(&site, Method::GET, "/", &[]).await.text();
        for part in [
            "&#60;new&#62; station",
            "Nothing is held",
            word,
            "No feed here tells which versions are affected",
            "airlock advisories add osv",
        ] {
            assert!(html.contains(part), "{part}");
        }
    }
}

#[tokio::test]
async fn a_channel_that_was_never_filled_says_how_to_fill_it() {
    let kit = Kit::new(&[]).await;
    let source = kit.pypi_source("pypi");
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    let server = Server::over(kit);
    assert!(text(&server, "/").await.contains("airlock sync py"));
    let answer = page(&server, "/channels/py").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("airlock sync py"));
}

#[tokio::test]
async fn stale_knowledge_is_said_loudly() {
    let mut server = server(&[evil_advisory()]).await;
    assert!(!text(&server, "/").await.contains("is stale"));
    server.kit.pass(Span::days(46));
    server.refresh();
    assert!(text(&server, "/").await.contains("is stale: it was read 46 days ago"));
    assert!(text(&server, "/channels/py").await.contains("What is known here of vulnerabilities is stale"));
    assert!(
        text(&server, "/packages/py/idna").await.contains("What is known here of vulnerabilities is stale")
    );
}

#[tokio::test]
async fn a_block_is_seen_at_once() {
    let mut server = server(&[]).await;
    let before = as_json(&server, "/channels/py?q=idna").await;
    assert_eq!(
        (&before["packages"][0]["admitted"], &before["packages"][0]["denied"]),
        (&json!(3), &json!(0))
    );
    server.kit.block("py", "idna==3.6").await;
    server.refresh();
    let after = as_json(&server, "/channels/py?q=idna").await;
    assert_eq!((&after["packages"][0]["admitted"], &after["packages"][0]["denied"]), (&json!(2), &json!(1)));
    assert_eq!(after["packages"][0]["whys"][0]["rules"], json!(["blocked"]));
    let html = text(&server, "/packages/py/idna/3.6").await;
    assert!(html.contains("this version may not be installed") && html.contains("a person blocked it"));
    // What was blocked a moment ago is not named as the nearest that passes either.
    server.kit.block("py", "idna==3.7").await;
    server.refresh();
    for artifact in as_json(&server, "/packages/py/idna").await["artifacts"].as_array().unwrap() {
        assert_eq!((&artifact["verdict"], &artifact["nearest"]), (&json!("denied"), &Value::Null));
    }
    assert!(text(&server, "/packages/py/idna").await.contains("No version of this package may be installed"));
}

#[tokio::test]
async fn what_the_source_dropped_is_not_offered_and_says_so() {
    let mut server = server(&[]).await;
    let mut source = server.kit.pypi_source("pypi");
    source.add_wheel(&wheel("idna", "3.7"), &Value::Null);
    source.write();
    server.kit.sync("py").await;
    server.refresh();
    let html = text(&server, "/packages/py/idna").await;
    assert!(html.contains("idna==3.7") && html.contains("no longer listed"));
    let html = text(&server, "/packages/py/idna/3.6").await;
    assert!(html.contains("this version may not be installed. The nearest that passes is"));
}

#[tokio::test]
async fn many_versions_do_not_hide_those_that_were_kept_out() {
    let kit = Kit::new(&[evil_advisory()]).await;
    let mut source = kit.pypi_source("pypi");
    for minor in (0..7).chain(8..150) {
        source.add_wheel(&wheel("idna", &format!("3.{minor}")), &Value::Null);
    }
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("py").await;
    let server = Server::over(kit);
    let html = text(&server, "/packages/py/idna").await;
    assert!(html.contains("packages/py/idna/3.149\"") && html.contains("packages/py/idna/3.0\""));
    assert!(!html.contains("packages/py/idna/3.50\"") && html.contains("?verdict=admitted&#38;after=3.125"));
    assert!(html.len() < 100_000, "{}", html.len());
    let html = text(&server, "/packages/py/idna?verdict=admitted&after=3.125").await;
    assert!(html.contains("packages/py/idna/3.50\"") && !html.contains("packages/py/idna/3.126\""));
}

#[tokio::test]
async fn what_the_sender_left_out_is_shown_as_such() {
    let server = server(&[evil_advisory()]).await;
    let kit = Kit::new(&[]).await;
    let from = &server.kit.station;
    let disk = kit.path().join("disk");
    bundle::export::export(from, &disk, &bundle::export::What::default()).await.unwrap();
    let key = airlock_core::hex::decode(&from.key.public_hex()).unwrap();
    trust::add(&kit.station, "north", key, &from.key.fingerprint(), trust::Limits::default()).await.unwrap();
    bundle::import::import(&kit.station, &disk).await.unwrap();
    let inside = Server::over(kit);
    let html = text(&inside, "/packages/py/idna").await;
    assert!(
        html.contains("left out by sender")
            && html.contains("where it comes from")
            && html.contains("CVE-2024-3651")
    );
    let html = text(&inside, "/channels/py").await;
    assert!(html.contains("The sender left out 1 more."));
    let row = as_json(&inside, "/channels/py?verdict=left-out").await;
    assert_eq!((&row["total"], &row["packages"][0]["left_out"]), (&json!(1), &json!(1)));
    // The same judgements are ours on the one station and the sender's on the other.
    let row = as_json(&server, "/channels/py?q=idna").await;
    assert_eq!((&row["packages"][0]["left_out"], &row["packages"][0]["denied"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn the_pages_of_a_child_say_what_its_parent_lets_leave_and_why() {
    let kit = Kit::new(&[]).await;
    let mut source = kit.pypi_source("pypi");
    source.add_wheel(&wheel("idna", "3.6"), &json!({}));
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("py").await;
    let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: None };
    let child =
        Channel { name: "py/dev".into(), ecosystem: Ecosystem::Pypi, feed, policy: "inherited".into() };
    channel::add(&kit.station, child).await.unwrap();
    kit.sync("py/dev").await;
    let rule = "name = \"r\"\naction = \"deny\"\ngrace = \"7 days\"\nwhen = { name = [\"idna\"] }";
    policy::set(&kit.station, "default", &format!("[policy]\nname = \"p\"\n[[rule]]\n{rule}\n"))
        .await
        .unwrap();
    kit.judge("py").await;
    let server = Server::over(kit);
    let html = text(&server, "/packages/py/dev/idna").await;
    let row = html.split("denied from ").nth(1).unwrap().split("</td>").next().unwrap();
    assert!(row.contains("2026-03-08") && row.contains("on: r</small>"), "{row}");
    assert!(!html.contains("no rule speaks against it"));
    assert!(text(&server, "/packages/py/dev/idna/3.6").await.contains("denied from "));
}

#[tokio::test]
async fn a_long_channel_comes_in_pages_and_can_be_searched() {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("conda");
    let names: Vec<String> = (0..250).map(|i| format!("package-{i:03}")).collect();
    for name in &names {
        source.add(&conda(name, "1.0"), &Value::Null);
    }
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let server = Server::over(kit);
    let mut seen = Vec::new();
    let mut uri = "/channels/main".to_owned();
    for _ in 0..3 {
        let page = as_json(&server, &uri).await;
        seen.extend(
            page["packages"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()),
        );
        uri = format!("/channels/main?after={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, names);
    let html = text(&server, "/channels/main?after=package-099").await;
    assert!(html.contains("250, 101 to 200 shown") && html.contains("rel=\"next\""));
    assert!(html.len() < 100_000, "{}", html.len());
    assert_eq!(as_json(&server, "/channels/main?q=Package-00").await["total"], 10);
    let html = text(&server, "/channels/main?q=nothing").await;
    assert!(html.contains("No package fits"));
}

#[tokio::test]
async fn the_style_sheet_is_asked_for_once() {
    let server = server(&[]).await;
    let html = text(&server, "/packages/py/idna").await;
    let link = links(&html).into_iter().find(|l| l.contains("airlock.css?v=")).unwrap();
    let uri = link.replace("../../", "/");
    let answer = server.get(&uri).await;
    assert_eq!(answer.header("content-type"), "text/css; charset=utf-8");
    assert!(answer.header("cache-control").contains("immutable"));
    assert!(!answer.text().contains("http://") && !answer.text().contains("@import"));
    let tag = answer.header("etag").to_owned();
    let again = ask(&server.site, Method::GET, &uri, &[("if-none-match", &tag)]).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(server.status("/static/..%2Fsecret").await, 404);
}

#[tokio::test]
async fn commands_name_the_host_that_the_reader_used() {
    let server = server(&[]).await;
    let with = |headers: &'static [(&'static str, &'static str)]| {
        let site = server.site.clone();
        async move { ask(&site, Method::GET, "/packages/py/idna", headers).await.text() }
    };
    // Anybody can send this header; it counts from a configured proxy only.
    let spoofed = with(&[("host", "pkg.example"), ("x-forwarded-proto", "https")]).await;
    assert!(spoofed.contains("--index-url http://pkg.example/pypi/py/simple/"));
    let hostile = with(&[("host", "x'$(reboot)")]).await;
    assert!(!hostile.contains("reboot") && hostile.contains("http://THIS-STATION/pypi/py/simple/"));
}

#[tokio::test]
async fn what_was_ruled_of_a_finding_is_shown_with_whether_it_counts() {
    let mut server = server(&[evil_advisory()]).await;
    let rule = async |kit: &airlock_testkit::Kit, status| {
        let scope = airlock_core::decision::Scope::of("py", "idna");
        let reason = format!("looked at it {EVIL}");
        airlock_engine::decide::status(&kit.station, scope, ("CVE-2024-3651", status), None, &reason, None)
            .await
            .unwrap();
        kit.judge("py").await;
    };
    rule(&server.kit, airlock_core::matching::Status::Cleared).await;
    server.refresh();
    let html = text(&server, "/packages/py/idna/3.6").await;
    assert!(html.contains("<b>cleared</b> by decision d1 for 1 file: looked at it"), "{html}");
    assert!(!html.contains("does not count") && !html.contains(EVIL));
    let mut record = evil_advisory();
    record["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "0"}, {"fixed": "3.8"}]);
    server.kit.know(&[record]).await;
    server.kit.judge("py").await;
    server.refresh();
    let html = text(&server, "/packages/py/idna/3.6").await;
    assert!(
        html.contains("does not count</b>") && html.contains("says otherwise what is affected"),
        "{html}"
    );
    assert!(html.contains(">reported</span>"), "{html}");
}
