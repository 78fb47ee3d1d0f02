//! conda channels as clients see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::id::Digest;
use airlock_core::time::Span;
use airlock_formats::{conda as formats, msgpack};
use airlock_testkit::osv;
use common::{Server, against_idna, server};
use serde_json::{Value, json};

fn unzstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(bytes, 64 << 20).unwrap()
}

#[tokio::test]
async fn every_subdir_has_all_indexes_even_if_it_is_empty() {
    let server = server(&[]).await;
    let dated = format!("main@{}", &server.snapshot("main").await[..12]);
    for channel in ["main", dated.as_str(), "main@2026-03-01"] {
        for subdir in ["noarch", "linux-64", "osx-64"] {
            for (file, content_type) in [
                ("repodata.json", "application/json"),
                ("repodata.json.zst", "application/zstd"),
                ("repodata_shards.msgpack.zst", "application/zstd"),
                ("run_exports.json", "application/json"),
                ("run_exports.json.zst", "application/zstd"),
            ] {
                let uri = format!("/conda/{channel}/{subdir}/{file}");
                let answer = server.get(&uri).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.header("content-type")),
                    (200, content_type),
                    "{uri}"
                );
                assert_eq!(answer.header("cache-control"), "public, max-age=60");
            }
        }
        assert_eq!(
            server.get(&format!("/conda/{channel}/notices.json")).await.json(),
            json!({"notices": []})
        );
    }
    let data = server.get("/conda/main/channeldata.json").await.json();
    assert_eq!(data["subdirs"], json!(["linux-64", "noarch", "osx-64"]));
    assert_eq!(data["packages"]["idna"]["timestamp"], 1_748_766_600, "in seconds");
    // Where a package lies is what the indexes say.
    let mut subdirs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for subdir in ["linux-64", "noarch", "osx-64"] {
        let index = server.get(&format!("/conda/main/{subdir}/repodata.json")).await.json();
        let records = ["packages", "packages.conda"].into_iter().flat_map(|table| {
            index[table].as_object().into_iter().flatten().map(|(_, record)| record["name"].clone())
        });
        for name in records {
            subdirs.entry(name.as_str().unwrap().to_owned()).or_default().insert(subdir.to_owned());
        }
    }
    assert!(!subdirs.is_empty());
    for (name, of) in &subdirs {
        assert_eq!(data["packages"][name]["subdirs"], json!(of), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_never_html() {
    let server = server(&[]).await;
    for uri in [
        "/conda/main/noarch/repodata.jlap",
        "/conda/main/noarch/repodata.json.bz2",
        "/conda/main/noarch/current_repodata.json",
        "/conda/main/noarch/repodata_from_packages.json",
        "/conda/main/noarch/index.html",
        "/conda/main/noarch/",
        "/conda/main/noarch",
        "/conda/main",
        "/conda/main/key_mgr.json",
        "/conda/main/1.root.json",
        "/conda/main/win-64/repodata.json",
        "/conda/main/win-64/repodata_shards.msgpack.zst",
        "/conda/main/label/dev/noarch/repodata.json",
        "/conda/main/noarch/absent-1.0-0.conda",
        "/conda/main/linux-64/idna-3.7-0.conda",
        "/conda/main/noarch/shards/0000000000000000000000000000000000000000000000000000000000000000.msgpack.zst",
        "/conda/main/noarch/shards/x.msgpack.zst",
        "/conda/absent/noarch/repodata_shards.msgpack.zst",
        "/conda/py/noarch/repodata.json",
        "/pypi/main/simple/",
        "/conda/main@2020-01-01/noarch/repodata.json",
        "/conda/main@0123456789abcdef/noarch/repodata.json",
        "/conda/main@/noarch/repodata.json",
        "/conda/",
        "/nowhere",
    ] {
        let answer = server.get(uri).await;
        assert_eq!(answer.status, 404, "{uri}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{uri}");
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["type"]), (&json!(404), &json!("about:blank")), "{uri}");
        assert!(answer.body.len() < 500);
    }
}

#[tokio::test]
async fn all_forms_of_an_index_say_the_same() {
    let server = server(&[against_idna()]).await;
    let plain = server.get("/conda/main/noarch/repodata.json").await;
    let packed = server.get("/conda/main/noarch/repodata.json.zst").await;
    assert_eq!(unzstd(&packed.body), plain.body);
    let repodata = plain.json();
    let listed: Vec<&String> = repodata["packages.conda"].as_object().unwrap().keys().collect();
    assert_eq!(
        listed,
        [
            "idna-3.7-0.conda",
            "large-1.0-0.conda",
            "py-sirius-ms-2.1+sirius6.0.7-0.conda",
            "x264-1!164.3095-0.conda"
        ]
    );
    assert_eq!(repodata["repodata_version"], 1, "never 3, and 2 only with a base_url");
    let info = &repodata["info"];
    assert_eq!(
        (&info["subdir"], &info["base_url"], &info["channel_relations"]),
        (&json!("noarch"), &Value::Null, &Value::Null)
    );
    assert!(!plain.text().contains("evil.example"));
    let kept = &repodata["packages.conda"]["py-sirius-ms-2.1+sirius6.0.7-0.conda"]["indexed_timestamp"];
    assert_eq!(kept, &json!(1_748_766_600_001_i64));
    let exports = server.get("/conda/main/noarch/run_exports.json").await.json();
    let exported: Vec<&String> = exports["packages.conda"].as_object().unwrap().keys().collect();
    assert_eq!(exported, listed);

    let mut from_shards = Vec::new();
    for (name, hash) in server.shards("main").await {
        let uri = format!("/conda/main/noarch/shards/{hash}.msgpack.zst");
        let shard = server.get(&uri).await;
        assert_eq!((shard.status.as_u16(), Digest::of(&shard.body).to_string()), (200, hash), "{name}");
        assert_eq!(shard.header("content-type"), "application/zstd");
        assert_eq!(shard.header("cache-control"), "public, max-age=31536000, immutable");
        let read = formats::read_shard("noarch", &name, &shard.body).unwrap();
        from_shards.extend(read.shards.into_values().flat_map(|s| s.entries.into_keys()));
    }
    from_shards.sort();
    assert_eq!(from_shards, listed.into_iter().cloned().collect::<Vec<String>>());
}

#[tokio::test]
async fn the_sharded_index_is_what_every_client_can_read() {
    let server = server(&[]).await;
    let packed = server.get("/conda/main/noarch/repodata_shards.msgpack.zst").await.body;
    let raw = unzstd(&packed);
    // fixmap, str "info"; a name's hash is `bin 32`, not text.
    assert_eq!(&raw[..6], b"\x83\xa4info");
    let at = raw.windows(5).position(|w| w == b"\xa4idna").unwrap();
    assert_eq!(&raw[at + 5..at + 7], b"\xc4\x20");
    let index: Value = serde_json::from_str(&msgpack::to_json(&raw).unwrap()).unwrap();
    assert_eq!(index["version"], 1);
    let info = &index["info"];
    assert_eq!(
        (&info["subdir"], &info["base_url"], &info["shards_base_url"]),
        (&json!("noarch"), &json!("./"), &json!("./shards/"))
    );
    let hash = server.shards("main").await.remove("idna").unwrap();
    let shard = unzstd(&server.get(&format!("/conda/main/noarch/shards/{hash}.msgpack.zst")).await.body);
    let shard: Value = serde_json::from_str(&msgpack::to_json(&shard).unwrap()).unwrap();
    assert_eq!(shard["packages"], json!({}));
    assert_eq!(shard["packages.conda"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn records_keep_what_nobody_here_understands() {
    let server = server(&[]).await;
    let text = server.get("/conda/main/noarch/repodata.json").await.text();
    for kept in ["\"big\":12345678901234567890", "\"license\":null", "\"track_features\":[\"a\",\"b\"]"] {
        assert!(text.contains(kept), "{kept}");
    }
}

#[tokio::test]
async fn a_package_is_served_byte_for_byte() {
    let server = server(&[]).await;
    for (uri, file) in [
        (common::LARGE, "conda/noarch/large-1.0-0.conda"),
        (common::SMALL, "conda/noarch/idna-3.7-0.conda"),
        ("/conda/main/linux-64/archful-1.0-0.tar.bz2", "conda/linux-64/archful-1.0-0.tar.bz2"),
        ("/conda/main@2026-03-01/noarch/idna-3.7-0.conda", "conda/noarch/idna-3.7-0.conda"),
    ] {
        let answer = server.get(uri).await;
        assert!(answer.body == std::fs::read(server.kit.path().join(file)).unwrap(), "{uri}");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("cache-control"), "public, no-cache");
        assert_eq!(answer.header("content-disposition"), "attachment");
    }
}

/// Two snapshots: `idna` 3.6 is in the first and denied in the second.
async fn denied_later() -> (Server, String, String) {
    let mut server = server(&[]).await;
    let first = server.snapshot("main").await;
    let shard = server.shards("main").await.remove("idna").unwrap();
    server.kit.know(&[against_idna()]).await;
    server.kit.judge("main").await;
    server.refresh();
    assert_ne!(server.snapshot("main").await, first);
    (server, first, shard)
}

#[tokio::test]
async fn a_denied_file_is_refused_by_every_url_and_says_why() {
    let (server, first, _) = denied_later().await;
    for channel in
        ["main".to_owned(), format!("main@{first}"), format!("main@{}", &first[..12]), "t/x/main".to_owned()]
    {
        let answer = server.get(&format!("/conda/{channel}/noarch/idna-3.6-0.conda")).await;
        assert_eq!(answer.status, 403, "{channel}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("cache-control"), "no-store");
        let problem = answer.json();
        assert!(problem["title"].as_str().unwrap().contains("idna-3.6-0.conda"), "{problem}");
        assert_eq!(problem["detail"], "cvss-above-7: CVE-2024-3651");
        assert_eq!(
            (&problem["nearest"], &problem["version"], &problem["status"]),
            (&json!("3.7"), &json!("3.6"), &json!(403))
        );
        assert_eq!(server.status(&format!("/conda/{channel}/noarch/idna-3.7-0.conda")).await, 200);
    }
    for index in ["repodata.json", "run_exports.json"] {
        assert!(
            !server.get(&format!("/conda/main/noarch/{index}")).await.text().contains("idna-3.6"),
            "{index}"
        );
    }
}

#[tokio::test]
async fn an_old_shard_stays_readable_and_its_denied_file_does_not() {
    let (mut server, first, old) = denied_later().await;
    let new = server.shards("main").await.remove("idna").unwrap();
    assert_ne!(new, old);
    let uri = |channel: &str, hash: &str| format!("/conda/{channel}/noarch/shards/{hash}.msgpack.zst");
    let shard = server.get(&uri("main", &old)).await;
    let read = formats::read_shard("noarch", "idna", &shard.body).unwrap();
    assert!(read.shards.values().any(|s| s.entries.contains_key("idna-3.6-0.conda")));
    assert_eq!(server.status("/conda/main/noarch/idna-3.6-0.conda").await, 403);
    // Knowing a hash opens no other place.
    assert_eq!(server.status(&format!("/conda/main/linux-64/shards/{old}.msgpack.zst")).await, 404);
    assert_eq!(server.status(&uri("main", &old.to_uppercase())).await, 404);

    server.kit.pass(Span::days(8));
    server.refresh();
    assert_eq!(server.status(&uri("main", &old)).await, 404, "a week is over");
    assert_eq!(server.status(&uri("main", &new)).await, 200, "what the newest index names never ends");
    assert_eq!(
        server.status(&uri(&format!("main@{first}"), &old)).await,
        200,
        "what a snapshot names neither"
    );
    assert_eq!(server.status(&uri(&format!("main@{first}"), &new)).await, 404);
}

#[tokio::test]
async fn an_older_snapshot_has_its_own_indexes_of_one_generation() {
    let (mut server, first, old) = denied_later().await;
    let channel = format!("main@{first}");
    let plain = server.get(&format!("/conda/{channel}/noarch/repodata.json")).await;
    let packed = server.get(&format!("/conda/{channel}/noarch/repodata.json.zst")).await;
    assert!(plain.text().contains("idna-3.6-0.conda"));
    assert_eq!(unzstd(&packed.body), plain.body);
    assert_ne!(plain.header("etag"), packed.header("etag"));
    assert_eq!(server.shards(&channel).await["idna"], old);

    let second = server.snapshot("main").await;
    server.kit.know(&[against_idna(), osv("CVE-2", "PyPI", "large", "2", 7.5)]).await;
    server.kit.judge("main").await;
    server.refresh();
    let mut etags = BTreeSet::new();
    for (channel, idna, large) in
        [("main".to_owned(), false, false), (format!("main@{second}"), false, true), (channel, true, true)]
    {
        let index = server.get(&format!("/conda/{channel}/noarch/repodata.json")).await;
        let lists = |file: &str| index.text().contains(file);
        assert_eq!((lists("idna-3.6"), lists("large-1.0")), (idna, large), "{channel}");
        etags.insert(index.header("etag").to_owned());
    }
    assert_eq!(etags.len(), 3);
}

#[tokio::test]
async fn a_block_acts_on_a_running_server_within_a_second() {
    let server = server(&[]).await;
    let uri = common::SMALL;
    assert_eq!(server.status(uri).await, 200);
    server.kit.block("main", "idna==3.7").await;
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    let answer = server.get(uri).await;
    assert_eq!(answer.status, 403);
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap().contains("a test says so"), "{problem}");
    assert_eq!(problem["nearest"], "3.6", "not the version that was just blocked");
}

#[tokio::test]
async fn derived_indexes_that_are_gone_from_the_store_are_derived_again() {
    let server = server(&[]).await;
    let uri = "/conda/main/noarch/repodata.json";
    let before = server.get(uri).await;
    let rendered = server.kit.view().channel("main").await.unwrap().unwrap().rendered.unwrap();
    let blob = server.kit.station.store.blobs.find(rendered.files["noarch/repodata.json"].sha256).unwrap();
    std::fs::remove_file(blob.path()).unwrap();
    let after = server.get(uri).await;
    assert_eq!((after.status.as_u16(), after.body), (200, before.body));
}

#[tokio::test]
async fn a_package_that_is_gone_from_the_store_is_a_fault_that_says_what_to_do() {
    let server = server(&[]).await;
    let view = server.kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let file = view.file(&channel, "noarch/idna", "idna-3.7-0.conda").await.unwrap();
    let airlock_engine::view::FileAnswer::Serve(blob) = file else { panic!("{file:?}") };
    std::fs::remove_file(blob.path()).unwrap();
    let answer = server.get(common::SMALL).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["hint"], "run `airlock fsck --repair`: it fetches again what can be fetched");
}
