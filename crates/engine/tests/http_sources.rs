//! Sources over HTTP: what is asked for, what is not asked for twice, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_engine::error::{Error, Kind};
use airlock_engine::sync::Outcome;
use airlock_engine::{channel, sync};
use airlock_formats::conda as codec;
use airlock_testkit::{Kit, conda, wheel};
use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

/// One answer of the upstream.
#[derive(Clone)]
struct Page {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Page {
    fn of(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: vec![], body: body.into() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An upstream that says what it is told to, and notes what it was asked: path and status.
#[derive(Clone, Default)]
struct Upstream {
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Upstream {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let me = self.clone();
        let answer = move |_: Method, uri: Uri, headers: HeaderMap| async move { me.answer(&uri, &headers) };
        tokio::spawn(
            async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() },
        );
        format!("http://{address}")
    }

    fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let page = self.pages.lock().unwrap().get(uri.path()).cloned();
        let page = page.unwrap_or(Page { status: 404, headers: vec![], body: vec![] });
        let etag = page.headers.iter().find(|(n, _)| *n == "etag").map(|(_, v)| v.clone());
        let known = headers.get("if-none-match").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = if etag.is_some() && etag == known { 304 } else { page.status };
        self.asked.lock().unwrap().push((uri.path().to_owned(), status));
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in &page.headers {
            response = response.header(*name, value);
        }
        response.body(if status == 304 { Body::empty() } else { Body::from(page.body) }).unwrap()
    }

    fn set(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn add(kit: &Kit, ecosystem: Ecosystem, location: String, only: &[&str]) -> Channel {
    let only = only.iter().map(|s| (*s).to_owned()).collect();
    let feed = ChannelFeed::Source { location, subdirs: vec![], only, exclude: vec![] };
    let channel = Channel { name: "c".to_owned(), ecosystem, feed, policy: "default".to_owned() };
    channel::add(&kit.station, channel).await.unwrap()
}

async fn run(kit: &Kit, channel: &Channel) -> Result<Outcome, Error> {
    sync::sync(&kit.station, channel, sync::Wish::default()).await
}

/// Packages and their repodata, put on the upstream below `/noarch/`.
fn put_conda(upstream: &Upstream, names: &[&str]) -> serde_json::Value {
    let mut records = serde_json::Map::new();
    for name in names {
        let package = conda(name, "1.0");
        let bytes = package.conda().unwrap();
        let file = package.file_name("conda");
        records.insert(file.clone(), package.record(&bytes));
        upstream.set(&format!("/noarch/{file}"), Page::of(bytes));
    }
    json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": records, "repodata_version": 1})
}

fn paths(asked: &[(String, u16)]) -> Vec<(&str, u16)> {
    asked.iter().map(|(p, s)| (p.as_str(), *s)).collect()
}

#[tokio::test]
async fn an_index_that_did_not_change_is_not_read_again_and_no_file_twice() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let index = put_conda(&upstream, &["a", "b"]).to_string();
    upstream.set("/noarch/repodata.json", Page::of(index).with("etag", "\"one\""));
    let channel = add(&kit, Ecosystem::Conda, upstream.start().await, &[]).await;
    assert_eq!(run(&kit, &channel).await.unwrap().counts.admit, 2);
    let asked = upstream.asked();
    assert!(paths(&asked).contains(&("/noarch/repodata.json.zst", 404)));
    assert!(paths(&asked).contains(&("/noarch/a-1.0-0.conda", 200)));
    let again = run(&kit, &channel).await.unwrap();
    assert_eq!((again.counts.admit, again.snapshot), (2, None));
    assert_eq!(
        paths(&upstream.asked()),
        [("/noarch/repodata.json.zst", 404), ("/noarch/repodata.json", 304)]
    );
    // One more package: only that one is fetched.
    let index = put_conda(&upstream, &["a", "b", "c"]).to_string();
    upstream.set("/noarch/repodata.json", Page::of(index).with("etag", "\"two\""));
    assert_eq!(run(&kit, &channel).await.unwrap().fetched.files, 1);
}

#[tokio::test]
async fn a_channel_of_a_few_names_reads_their_shards_alone() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let index = put_conda(&upstream, &["a", "b"]);
    let read = codec::read_repodata("noarch", "x", index.to_string().as_bytes()).unwrap();
    let mut names = BTreeMap::new();
    for shard in read.shards.values() {
        let (name, bytes) = codec::shard(shard).unwrap();
        upstream.set(&format!("/noarch/shards/{name}.msgpack.zst"), Page::of(bytes));
        names.insert(shard.name.clone(), name);
    }
    let packed = codec::shard_index("noarch", None, &names).unwrap();
    upstream.set("/noarch/repodata_shards.msgpack.zst", Page::of(packed));
    let channel = add(&kit, Ecosystem::Conda, upstream.start().await, &["a"]).await;
    assert_eq!(run(&kit, &channel).await.unwrap().counts.admit, 1);
    let shard_a = format!("/noarch/shards/{}.msgpack.zst", names["a"]);
    assert_eq!(
        paths(&upstream.asked()),
        [
            ("/noarch/repodata_shards.msgpack.zst", 200),
            (shard_a.as_str(), 200),
            ("/noarch/a-1.0-0.conda", 200)
        ]
    );
    // The index is read again, since this upstream gives no validator; the shard that did not change is not.
    run(&kit, &channel).await.unwrap();
    assert_eq!(paths(&upstream.asked()), [("/noarch/repodata_shards.msgpack.zst", 200)]);
    // A shard that does not hash to its name is refused, and nothing changes.
    upstream.set(&shard_a, Page::of(b"other".to_vec()));
    let kit = Kit::new(&[]).await;
    let base = upstream.start().await;
    let channel = add(&kit, Ecosystem::Conda, base, &["a"]).await;
    let error = run(&kit, &channel).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unsafe, "{error}");
}

#[tokio::test]
async fn an_upstream_does_not_choose_whom_this_station_talks_to() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let base = upstream.start().await;
    let port = base.rsplit(':').next().unwrap().to_owned();
    let mut index = put_conda(&upstream, &["a"]);
    index["info"]["base_url"] = format!("http://localhost:{port}/noarch/").into();
    upstream.set("/noarch/repodata.json", Page::of(index.to_string()));
    let channel = add(&kit, Ecosystem::Conda, base.clone(), &[]).await;
    let outcome = run(&kit, &channel).await.unwrap();
    assert_eq!((outcome.counts.admit, outcome.counts.hold), (0, 1));
    assert!(outcome.fetched.faults[0].1.detail().contains("may not connect to `localhost`"));
    assert!(!upstream.asked().iter().any(|(p, _)| p.ends_with(".conda")));
    // Nor by a redirect.
    let away =
        Page { status: 302, headers: vec![("location", format!("http://localhost:{port}/x"))], body: vec![] };
    upstream.set("/noarch/repodata.json", away);
    let error = run(&kit, &channel).await.unwrap_err();
    assert!(error.message.contains("redirects to where it may not lead"), "{error}");
}

#[tokio::test]
async fn answers_that_are_no_index_publish_nothing() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let good = put_conda(&upstream, &["a"]).to_string();
    upstream.set("/noarch/repodata.json", Page::of(good.clone()));
    let channel = add(&kit, Ecosystem::Conda, upstream.start().await, &[]).await;
    run(&kit, &channel).await.unwrap();
    for (page, text) in [
        (Page::of("<!DOCTYPE html><title>Sign in</title>"), "a page for people came"),
        (Page::of(&good.as_bytes()[..good.len() - 5]), "not a valid index"),
        (Page { status: 500, headers: vec![], body: vec![] }, "500"),
        (Page { status: 403, headers: vec![], body: vec![] }, "403"),
    ] {
        upstream.set("/noarch/repodata.json", page);
        let error = run(&kit, &channel).await.unwrap_err();
        assert!(error.message.contains(text) && error.kind == Kind::Fault && error.hint.is_some(), "{error}");
        let view = kit.view();
        assert_eq!(view.channel("c").await.unwrap().unwrap().snapshot.counts.admit, 1);
    }
}

#[tokio::test]
async fn a_file_of_another_length_or_content_is_not_taken() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let index = put_conda(&upstream, &["a", "b", "c"]).to_string();
    upstream.set("/noarch/repodata.json", Page::of(index));
    let bytes = conda("b", "1.0").conda().unwrap();
    upstream.set("/noarch/a-1.0-0.conda", Page::of(conda("other", "1.0").conda().unwrap()));
    upstream.set("/noarch/b-1.0-0.conda", Page::of(&bytes[..bytes.len() - 1]));
    let channel = add(&kit, Ecosystem::Conda, upstream.start().await, &[]).await;
    let outcome = run(&kit, &channel).await.unwrap();
    assert_eq!((outcome.counts.admit, outcome.fetched.faults.len()), (1, 2));
}

#[tokio::test]
async fn simple_pages_are_read_as_json_and_as_html() {
    let upstream = Upstream::default();
    let kit = Kit::new(&[]).await;
    let file = wheel("idna", "3.10");
    let (name, bytes) = (file.file_name(), file.bytes().unwrap());
    let sha256 = airlock_core::id::Digest::of(&bytes);
    upstream.set(&format!("/files/{name}"), Page::of(bytes));
    let page = format!("<html><body><a href=\"../../files/{name}#sha256={sha256}\">{name}</a></body></html>");
    upstream.set(
        "/simple/idna/",
        Page::of(page).with("content-type", "text/html; charset=utf-8").with("etag", "\"a\""),
    );
    let channel = add(&kit, Ecosystem::Pypi, upstream.start().await, &["idna", "absent"]).await;
    assert_eq!(run(&kit, &channel).await.unwrap().counts.admit, 1);
    let _ = upstream.asked();
    assert_eq!(run(&kit, &channel).await.unwrap().counts.admit, 1);
    assert!(paths(&upstream.asked()).contains(&("/simple/idna/", 304)));
    let files =
        json!([{"filename": name, "url": format!("../../files/{name}"), "hashes": {"sha256": sha256}}]);
    let page = json!({"meta": {"api-version": "1.1"}, "name": "idna", "files": files}).to_string();
    upstream.set("/simple/idna/", Page::of(page).with("content-type", "application/vnd.pypi.simple.v1+json"));
    assert_eq!(run(&kit, &channel).await.unwrap().counts.admit, 1);
    upstream.set("/simple/idna/", Page::of("x").with("content-type", "text/plain"));
    let error = run(&kit, &channel).await.unwrap_err();
    assert!(error.message.contains("not a Simple page"), "{error}");
}
