//! PyPI channels as clients see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_testkit::{UPLOADED, osv, wheel};
use axum::http::Method;
use common::{Server, against_idna, server};
use serde_json::{Value, json};

const JSON: &str = "application/vnd.pypi.simple.v1+json";
const HTML: &str = "application/vnd.pypi.simple.v1+html";
const PLAIN: &str = "text/html; charset=utf-8";

async fn project(server: &Server, uri: &str) -> Value {
    server.ask(Method::GET, uri, &[("accept", JSON)]).await.json()
}

#[tokio::test]
async fn clients_get_the_form_they_ask_for() {
    let server = server(&[]).await;
    for uri in ["/pypi/py/simple/", "/pypi/py/simple/idna/", "/pypi/py@2026-03-01/simple/idna/"] {
        for (accept, expected) in [
            (None, Some(PLAIN)),
            (Some("*/*"), Some(PLAIN)),
            (Some("text/html"), Some(PLAIN)),
            (Some(JSON), Some(JSON)),
            (Some(HTML), Some(HTML)),
            (Some("application/vnd.pypi.simple.latest+json"), Some(JSON)),
            (
                Some(
                    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
                ),
                Some(JSON),
            ),
            (Some("text/html;q=0.5, application/vnd.pypi.simple.v1+json;q=0.4"), Some(PLAIN)),
            (Some("application/json"), None),
            (Some("application/vnd.pypi.simple.v2+json"), None),
        ] {
            let headers: Vec<(&str, &str)> = accept.iter().map(|a| ("accept", *a)).collect();
            for method in [Method::GET, Method::HEAD] {
                let answer = server.ask(method, uri, &headers).await;
                assert_eq!(answer.header("vary"), "Accept", "{uri} {accept:?}");
                match expected {
                    Some(form) => {
                        assert_eq!(
                            (answer.status.as_u16(), answer.header("content-type")),
                            (200, form),
                            "{accept:?}"
                        );
                        assert_eq!(answer.header("cache-control"), "public, max-age=60");
                    }
                    None => assert_eq!(answer.status, 406, "{accept:?}"),
                }
            }
        }
        let lines = [("accept", "application/json"), ("accept", JSON)];
        assert_eq!(server.ask(Method::GET, uri, &lines).await.header("content-type"), JSON, "in two lines");
    }
}

#[tokio::test]
async fn each_form_has_an_etag_of_its_own() {
    let server = server(&[]).await;
    let uri = "/pypi/py/simple/idna/";
    let mut etags = std::collections::BTreeSet::new();
    for accept in [JSON, HTML, "text/html"] {
        let answer = server.ask(Method::GET, uri, &[("accept", accept)]).await;
        let etag = answer.header("etag").to_owned();
        assert!(etag.contains(&Digest::of(&answer.body).to_string()));
        let again = server.ask(Method::GET, uri, &[("accept", accept), ("if-none-match", &etag)]).await;
        assert_eq!((again.status.as_u16(), again.header("vary")), (304, "Accept"));
        etags.insert(etag);
    }
    assert_eq!(etags.len(), 3);
    for etag in &etags {
        let other = server.ask(Method::GET, uri, &[("accept", JSON), ("if-none-match", etag)]).await;
        let same = server.ask(Method::GET, uri, &[("accept", JSON)]).await.header("etag") == etag;
        assert_eq!(other.status == 304, same);
    }
}

#[tokio::test]
async fn a_page_lists_files_with_size_hash_and_time() {
    let server = server(&[]).await;
    let page = project(&server, "/pypi/py/simple/idna/").await;
    assert_eq!((&page["name"], &page["versions"]), (&json!("idna"), &json!(["3.6", "3.7"])));
    let files = page["files"].as_array().unwrap();
    assert_eq!(files.len(), 3);
    for file in files {
        let name = file["filename"].as_str().unwrap();
        let bytes = server.get(&format!("/pypi/py/packages/idna/{name}")).await.body;
        assert_eq!(
            (file["size"].as_u64(), &file["upload-time"]),
            (Some(bytes.len() as u64), &json!(UPLOADED)),
            "{name}"
        );
        assert_eq!(file["hashes"]["sha256"], Digest::of(&bytes).to_string());
        assert_eq!(file["url"], format!("../../packages/idna/{name}"));
        assert_eq!((&file["provenance"], &file["_private"]), (&Value::Null, &Value::Null));
        let metadata = server.get(&format!("/pypi/py/packages/idna/{name}.metadata")).await;
        match file["core-metadata"]["sha256"].as_str() {
            Some(hash) => {
                assert_eq!(
                    (metadata.status.as_u16(), Digest::of(&metadata.body).to_string()),
                    (200, hash.to_owned())
                );
                assert!(metadata.text().starts_with("Metadata-Version"));
            }
            None => assert_eq!(metadata.status, 404, "{name}: what is not advertised is not there"),
        }
    }
    assert_eq!(files.iter().filter(|f| f["core-metadata"].is_object()).count(), 2, "both wheels");
    let html = server.get("/pypi/py/simple/idna/").await.text();
    assert!(html.contains("href=\"../../packages/idna/idna-3.7.tar.gz#sha256="), "{html}");
    let yanked = server.get("/pypi/py/simple/zope-interface/").await;
    assert!(yanked.text().contains("data-yanked=\"&lt;broken&gt; &amp; &quot;bad&quot;\""));
    assert_eq!(yanked.header("content-security-policy"), "default-src 'none'");
}

#[tokio::test]
async fn a_source_in_html_is_served_as_both() {
    let server = server(&[]).await;
    let mut source = server.kit.pypi_source("html");
    source.add_wheel(&wheel("idna", "3.7"), &Value::Null);
    source.write_html();
    server.kit.add_channel("html", Ecosystem::Pypi, source.path(), &[]).await;
    server.kit.sync("html").await;
    let page = project(&server, "/pypi/html/simple/idna/").await;
    assert!(page["files"][0]["size"].as_u64().is_some_and(|s| s > 0));
    assert_eq!(server.status("/pypi/html/packages/idna/idna-3.7-py3-none-any.whl.metadata").await, 200);
}

#[tokio::test]
async fn the_index_lists_what_is_offered() {
    let all_denied = osv("CVE-1", "PyPI", "zope-interface", "7", 7.5);
    let server = server(&[all_denied]).await;
    let list = server.ask(Method::GET, "/pypi/py/simple/", &[("accept", JSON)]).await.json();
    assert_eq!(list["projects"], json!([{"name": "idna"}]));
    assert_eq!(list["meta"]["api-version"], "1.4");
    let answer = server.get("/pypi/py/simple/zope-interface/").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["package"], "../../../../packages/py/zope-interface");
    let unknown = server.get("/pypi/py/simple/absent/").await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["package"]), (404, &Value::Null));
}

#[tokio::test]
async fn other_spellings_are_redirected_to_the_one() {
    let server = server(&[]).await;
    for (uri, location) in [
        ("/pypi/py/simple", "simple/"),
        ("/pypi/py/simple/idna", "idna/"),
        ("/pypi/py/simple/IDNA", "idna/"),
        ("/pypi/py/simple/zope_.interface/", "../zope-interface/"),
        ("/pypi/py@2026-03-01/simple/zope%2Einterface", "zope-interface/"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.ask(method, uri, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (301, location), "{uri}");
        }
    }
    for uri in [
        "/pypi/py/",
        "/pypi/py",
        "/pypi/py/simple//",
        "/pypi/py/simple/idna/x",
        "/pypi/py/simple/--/",
        "/pypi/py/idna/json",
    ] {
        assert_eq!(server.status(uri).await, 404, "{uri}");
    }
}

#[tokio::test]
async fn a_denied_file_is_hidden_and_refused_with_its_metadata() {
    let mut server = server(&[]).await;
    let file = "packages/idna/idna-3.6-py3-none-any.whl";
    let first = server.snapshot("py").await;
    assert_eq!(server.status(&format!("/pypi/py/{file}.metadata")).await, 200);
    server.kit.know(&[against_idna()]).await;
    server.kit.judge("py").await;
    server.refresh();
    for channel in
        ["py".to_owned(), format!("py@{first}"), format!("py@{}", &first[..16]), "t/tk/py".to_owned()]
    {
        for file in [
            file.to_owned(),
            format!("{file}.metadata"),
            file.replace("/idna/", "/Idna/"),
            file.replace("-3", "%2D3"),
        ] {
            let answer = server.get(&format!("/pypi/{channel}/{file}")).await;
            assert_eq!(answer.status, 403, "{channel} {file}");
            let problem = answer.json();
            assert_eq!(
                (&problem["detail"], &problem["nearest"]),
                (&json!("cvss-above-7: CVE-2024-3651"), &json!("3.7"))
            );
        }
        let page = project(&server, &format!("/pypi/{channel}/simple/idna/")).await;
        assert!(!page.to_string().contains("3.6-py3"), "{channel}: {page}");
    }
    let ranged = server.ask(Method::GET, &format!("/pypi/py/{file}"), &[("range", "bytes=0-9")]).await;
    assert_eq!(ranged.status, 403);
    let known = [("if-none-match", "*")];
    assert_eq!(server.ask(Method::GET, &format!("/pypi/py/{file}"), &known).await.status, 403);
}

#[tokio::test]
async fn a_block_hides_a_file_before_anything_is_judged() {
    let mut server = server(&[]).await;
    assert_eq!(project(&server, "/pypi/py/simple/idna/").await["files"].as_array().unwrap().len(), 3);
    server.kit.block("py", "idna==3.7").await;
    server.refresh();
    let page = project(&server, "/pypi/py/simple/idna/").await;
    assert_eq!(page["versions"], json!(["3.6"]));
    assert_eq!(server.status("/pypi/py/packages/idna/idna-3.7.tar.gz").await, 403);
    assert_eq!(server.status("/pypi/py/packages/idna/idna-3.6-py3-none-any.whl").await, 200);
}
