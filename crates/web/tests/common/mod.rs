//! A filled station, and asking it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use airlock_core::ecosystem::Ecosystem;
use airlock_testkit::{Kit, conda, osv, sdist, wheel};
use airlock_web::{App, Site};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};

/// A package that goes out in more than one piece.
pub const LARGE: &str = "/conda/main/noarch/large-1.0-0.conda";
/// One that does not.
pub const SMALL: &str = "/conda/main/noarch/idna-3.7-0.conda";

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

/// A server over a kit.
pub struct Server {
    pub kit: Kit,
    pub site: Arc<Site>,
}

impl Server {
    pub fn over(kit: Kit) -> Self {
        let site = Arc::new(Site::new(App::new(kit.view(), Vec::new())));
        Self { kit, site }
    }

    /// Another server over the same station, which remembers nothing.
    pub fn over_same(other: &Self) -> Asked {
        Asked(Site::new(App::new(other.kit.view(), Vec::new())))
    }

    /// Forgets what it believed of the refs.
    pub fn refresh(&mut self) {
        self.site = Arc::new(Site::new(App::new(self.kit.view(), Vec::new())));
    }

    pub async fn ask(&self, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.site, method, uri, headers).await
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.ask(Method::GET, uri, &[]).await
    }

    pub async fn status(&self, uri: &str) -> u16 {
        self.get(uri).await.status.as_u16()
    }

    /// The id of a channel's newest snapshot.
    pub async fn snapshot(&self, channel: &str) -> String {
        self.kit.view().channel(channel).await.unwrap().unwrap().id.to_string()
    }

    /// The names of the shards of a subdir, by package.
    pub async fn shards(&self, channel: &str) -> std::collections::BTreeMap<String, String> {
        let index = self.get(&format!("/conda/{channel}/noarch/repodata_shards.msgpack.zst")).await;
        let index = airlock_formats::conda::read_shard_index("noarch", &index.body).unwrap();
        index.shards.into_iter().map(|(name, digest)| (name, digest.to_string())).collect()
    }
}

/// A server without a kit of its own.
pub struct Asked(Site);

impl Asked {
    pub async fn get(&self, uri: &str) -> Answer {
        ask(&self.0, Method::GET, uri, &[]).await
    }
}

pub async fn ask(site: &Site, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = site.answer(request.body(Body::empty()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// An advisory against every `idna` before 3.7.
pub fn against_idna() -> Value {
    osv("CVE-2024-3651", "PyPI", "idna", "3.7", 7.5)
}

/// Bytes that no compressor makes smaller.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A conda channel `main` and a PyPI channel `py`; `records` is what is known of vulnerabilities.
pub async fn server(records: &[Value]) -> Server {
    let kit = Kit::new(records).await;
    kit.identify(&json!({"idna": "idna", "large": "large"})).await;
    fill_conda(&kit).await;
    fill_pypi(&kit).await;
    Server::over(kit)
}

async fn fill_conda(kit: &Kit) {
    let mut source = kit.conda_source("conda");
    let odd = json!({"big": 12_345_678_901_234_567_890_u64, "license": null, "track_features": ["a", "b"]});
    source.add(&conda("idna", "3.6"), &odd);
    source.add(&conda("idna", "3.7"), &json!({"url": "https://evil.example/idna.conda"}));
    source.add(&conda("x264", "1!164.3095"), &Value::Null);
    source
        .add(&conda("py-sirius-ms", "2.1+sirius6.0.7"), &json!({"indexed_timestamp": 1_748_766_600_001_i64}));
    let noise = noise(3 << 20);
    let large =
        airlock_formats::make::CondaPackage { files: &[("share/noise", &noise)], ..conda("large", "1.0") };
    source.add(&large, &Value::Null);
    let arch = airlock_formats::make::CondaPackage { subdir: "linux-64", ..conda("archful", "1.0") };
    source.add_tar_bz2(&arch, &Value::Null);
    let info = source.index("noarch");
    info["info"]["base_url"] = json!("./");
    info["info"]["channel_relations"] = json!({"base": "../other"});
    info["repodata_version"] = json!(2);
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &["linux-64", "osx-64"]).await;
    kit.sync("main").await;
}

async fn fill_pypi(kit: &Kit) {
    let mut source = kit.pypi_source("pypi");
    source.add_wheel(&wheel("idna", "3.6"), &json!({"provenance": "https://evil.example/p"}));
    source.add_wheel(&wheel("idna", "3.7"), &json!({"core-metadata": false, "_private": 1}));
    source.add_sdist(&sdist("idna", "3.7"), &Value::Null);
    source.add_wheel(&wheel("Zope.Interface", "6.0+local"), &json!({"yanked": "<broken> & \"bad\""}));
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("py").await;
}
