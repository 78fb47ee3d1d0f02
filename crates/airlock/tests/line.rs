//! The whole line through the command line: what passes, what does not, and that it comes out the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::id::Digest;
use airlock_testkit::osv;
use common::{World, airlock};
use serde_json::{Value, json};

fn verdicts(explained: &Value) -> Vec<(String, String)> {
    let text = |a: &Value, key: &str| a[key].as_str().unwrap().to_owned();
    explained["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (text(a, "version"), text(a, "verdict")))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn what_is_vulnerable_is_kept_out_and_explained_on_both_sides() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    for station in [&low, &high] {
        for channel in ["main", "py"] {
            let explained = station.json(&["explain", channel, "idna"]);
            assert_eq!(verdicts(&explained), pairs(&[("3.10", "admitted"), ("3.6", "denied")]));
            let denied = &explained["artifacts"][1];
            assert_eq!(denied["nearest"], "3.10");
            assert_eq!(denied["findings"][0]["score"], 7.5);
            assert_eq!(denied["rules"][0]["rule"], "cvss-above-7");
        }
        let held = station.json(&["explain", "main", "requests"]);
        assert_eq!(verdicts(&held), pairs(&[("2.0", "admitted"), ("1.0", "held")]));
        let unknown = station.json(&["explain", "main", "other"]);
        assert_eq!(unknown["artifacts"][0]["coverage"], "unknown");
        assert_eq!(unknown["artifacts"][0]["rules"][0]["rule"], "unknown-coverage");
    }
    let content = |s: &common::Station| s.json(&["snapshot", "show", "main"])["content"].clone();
    assert_eq!(content(&low), content(&high));
    low.run(&["explain", "main", "idna==3.6"]).exits(1);
    low.run(&["explain", "main", "absent"]).exits(1).says("knows nothing that matches");
}

#[tokio::test]
async fn equal_inputs_give_equal_snapshots_on_any_machine_in_any_order_with_any_number_of_threads() {
    let world = World::new().await;
    let snapshot = |name: &str, threads: &str| {
        let station = world.connected(name);
        station.run(&["--threads", threads, "sync"]).exits(0);
        ["main", "py"].map(|c| {
            let shown = station.json(&["snapshot", "show", c]);
            (shown["id"].clone(), shown["content"].clone())
        })
    };
    let one = snapshot("one", "1");
    assert_eq!(one, snapshot("eight/deep/down", "8"));
    // The same records, written the other way round.
    for path in ["conda/noarch/repodata.json", "pypi/simple/idna/index.json"] {
        let file = world.path(path);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, shuffled(&serde_json::from_str(&text).unwrap())).unwrap();
        assert_ne!(std::fs::read_to_string(&file).unwrap(), text);
    }
    let feed = world.path("feeds/osv.jsonl");
    let lines = std::fs::read_to_string(&feed).unwrap();
    let reversed: Vec<&str> = lines.lines().rev().collect();
    std::fs::write(&feed, reversed.join("\n")).unwrap();
    assert_eq!(one, snapshot("shuffled", "3"));
}

/// JSON with every object and every list of objects written backwards.
fn shuffled(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let parts: Vec<String> =
                members.iter().rev().map(|(k, v)| format!("{}: {}", json!(k), shuffled(v))).collect();
            format!("{{{}}}", parts.join(" ,\n"))
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let parts: Vec<String> = items.iter().rev().map(shuffled).collect();
            format!("[{}]", parts.join(", "))
        }
        other => other.to_string(),
    }
}

#[tokio::test]
async fn running_again_with_nothing_new_publishes_nothing() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let before = low.json(&["snapshot", "show", "main"]);
    let again = low.json(&["sync", "main"]);
    assert_eq!(again["channels"][0]["snapshot"], Value::Null);
    assert_eq!(again["channels"][0]["fetched"]["files"], 0);
    assert_eq!(again["changes"], json!([]));
    assert_eq!(low.json(&["snapshot", "show", "main"]), before);
}

#[tokio::test]
async fn an_advisory_that_arrives_denies_at_once_everywhere_without_a_sync() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let server = low.serve();
    let file = "conda/main/noarch/idna-3.10-0.conda";
    let wheel = "pypi/py/packages/idna/idna-3.10-py3-none-any.whl";
    assert_eq!((server.get(file, "*/*").0, server.get(wheel, "*/*").0), (200, 200));
    assert_eq!(server.get(&format!("{wheel}.metadata"), "*/*").0, 200);
    let index = server.get("conda/main/noarch/repodata_shards.msgpack.zst", "*/*").1;
    let shard = airlock_formats_shard(&index, "idna");
    let old_shard = format!("conda/main/noarch/shards/{shard}.msgpack.zst");
    assert_eq!(server.get(&old_shard, "*/*").0, 200);

    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-NEW", "PyPI", "idna", "4.0", 9.8),
    ]);
    let update = low.json(&["advisories", "update"]);
    let denied: Vec<&Value> =
        update["changes"].as_array().unwrap().iter().filter(|c| c["to"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{update}");
    assert_eq!((&denied[0]["from"], &denied[0]["version"]), (&json!("admitted"), &json!("3.10")));
    assert!(denied[0]["why"].as_str().unwrap().contains("PYSEC-NEW"));
    // Within two seconds the server knows.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for path in [
        file.to_owned(),
        wheel.to_owned(),
        format!("{wheel}.metadata"),
        file.replace("main", "main@2026-03-01"),
    ] {
        assert_eq!(server.get(&path, "*/*").0, 403, "{path}");
    }
    for (path, accept) in [
        ("conda/main/noarch/repodata.json", "*/*"),
        ("pypi/py/simple/idna/", "application/vnd.pypi.simple.v1+json"),
        ("pypi/py/simple/idna/", "text/html"),
    ] {
        let (_, body) = server.get(path, accept);
        assert!(!String::from_utf8_lossy(&body).contains("idna-3.10"), "{path} still offers it");
    }
    assert_eq!(server.get(&old_shard, "*/*").0, 200, "clients that cached the old index can read its shards");
}

/// The name of a package's shard in a shard index.
fn airlock_formats_shard(index: &[u8], name: &str) -> Digest {
    airlock_formats::conda::read_shard_index("noarch", index).unwrap().shards[name]
}

#[tokio::test]
async fn a_block_needs_no_sync() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    low.run(&["block", "main", "other", "--reason", "not needed here"]).exits(0);
    let explained = low.json(&["explain", "main", "other"]);
    assert_eq!(verdicts(&explained), pairs(&[("1.0", "denied")]));
}

fn waive(station: &common::Station, scope: &str, rule: &str, advisory: &str) -> common::Answer {
    let until = ["--advisory", advisory, "--expires", "2026-04-01", "--reason", "looked at"];
    let mut args = vec!["review", "waive", "main", "--scope", scope, "--rule", rule];
    args.extend(until);
    station.run(&args)
}

#[tokio::test]
async fn a_waiver_lifts_one_rule_for_one_scope_until_a_date() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let verdict = |spec: &str| low.json(&["explain", "main", spec])["artifacts"][0]["verdict"].clone();
    waive(&low, "requests==1.0", "unscored", "PYSEC-1").exits(0);
    // The rule on scores above 7 cannot be decided without a score, and still holds.
    assert_eq!(verdict("requests==1.0"), "held");
    waive(&low, "requests==1.0", "cvss-above-7", "PYSEC-1").exits(0);
    waive(&low, "idna==3.6", "cvss-above-7", "PYSEC-2024-60").exits(0);
    low.run(&["sync", "main"]).exits(0);
    assert_eq!((verdict("requests==1.0"), verdict("idna==3.6")), (json!("admitted"), json!("admitted")));
    let later = low.json(&["judge", "main", "--as-of", "2026-04-02"]);
    let changes = later["changes"].as_array().unwrap().clone();
    let change = changes.into_iter().find(|c| c["name"] == "idna").unwrap_or_default();
    assert_eq!((&change["from"], &change["to"]), (&json!("admitted"), &json!("denied")), "{later}");
    waive(&low, "x", "no-such-rule", "PYSEC-1").exits(2).says("has no rule");
    let unnamed = [
        "review",
        "waive",
        "main",
        "--scope",
        "x",
        "--rule",
        "unscored",
        "--expires",
        "2026-04-01",
        "--reason",
        "r",
    ];
    low.run(&unnamed).exits(2).says("rests on vulnerabilities, and none is named");
    low.run(&["review", "revoke", "d1", "--reason", "r"]).exits(0);
    low.run(&["review", "revoke", "d1", "--reason", "r"]).exits(2).says("cannot be taken back");
}

#[tokio::test]
async fn a_bad_record_is_left_out_by_name_and_a_bad_index_publishes_nothing() {
    let world = World::new().await;
    let low = world.connected("low");
    let index = world.path("conda/noarch/repodata.json");
    let good = std::fs::read_to_string(&index).unwrap();
    let bad = good.replacen(
        "\"packages.conda\":{",
        "\"packages.conda\":{\"../evil-1-0.conda\":{\"name\":\"evil\",\"version\":\"1\",\"build\":\"0\"},",
        1,
    );
    assert_ne!(good, bad);
    std::fs::write(&index, &bad).unwrap();
    let synced = low.json(&["sync", "main"]);
    assert_eq!(synced["channels"][0]["left_out"]["count"], 1);
    assert_eq!(synced["channels"][0]["left_out"]["records"][0]["file"], "../evil-1-0.conda");
    let before = low.json(&["snapshot", "show", "main"]);
    std::fs::write(&index, &bad[..bad.len() / 2]).unwrap();
    low.run(&["sync", "main"]).exits(4).says("not a valid index");
    assert_eq!(low.json(&["snapshot", "show", "main"]), before);
}

#[tokio::test]
async fn bytes_that_do_not_fit_their_record_are_kept_out_and_named() {
    let world = World::new().await;
    let low = world.connected("low");
    let file = world.path("conda/noarch/other-1.0-0.conda");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let synced = low.json(&["sync", "main"]);
    let faults = &synced["channels"][0]["fetched"]["faults"];
    assert_eq!(faults[0]["file"], "other-1.0-0.conda");
    assert!(faults[0]["reason"].as_str().unwrap().contains("hash to"));
    assert_eq!(verdicts(&low.json(&["explain", "main", "other"])), pairs(&[("1.0", "denied")]));
    // When the source is whole again, so is the channel.
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    low.run(&["sync", "main"]).exits(0);
    assert_eq!(verdicts(&low.json(&["explain", "main", "other"])), pairs(&[("1.0", "admitted")]));
}

#[tokio::test]
async fn the_ledger_names_who_did_what_and_is_whole() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let log = low.json(&["ledger", "log"]);
    let entries = log["entries"].as_array().unwrap();
    assert!(entries.iter().all(|e| e["entry"]["actor"] == "ada"));
    let actions: Vec<&str> = entries.iter().map(|e| e["entry"]["action"].as_str().unwrap()).collect();
    for action in ["station.init", "feed.add", "channel.add", "channel.publish"] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    assert_eq!(low.json(&["ledger", "verify"])["entries"], entries.len());
}

#[test]
fn wrong_usage_says_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    airlock(&["--station", path, "status"]).exits(2).says("airlock init");
    airlock(&["init", path, "--name", "x"]).exits(0);
    airlock(&["init", path, "--name", "x"]).exits(2).says("is a station already");
    let at = |args: &[&str]| {
        let mut all = vec!["--station", path];
        all.extend(args);
        airlock(&all)
    };
    at(&["sync"]).exits(2).says("airlock channel add");
    at(&["channel", "add", "T/x", "--ecosystem", "conda", "--source", "/tmp"])
        .exits(2)
        .says("cannot name a channel");
    at(&["channel", "add", "t", "--ecosystem", "conda", "--source", "/tmp"])
        .exits(2)
        .says("cannot name a channel");
    at(&["advisories", "add", "cves", "/tmp"]).exits(2).says("use one of osv");
    at(&["export", "/tmp/airlock-never"]).exits(2).says("airlock sync");
    at(&["policy", "show"]).exits(0);
}

#[test]
fn the_demonstration_runs_by_itself() {
    let shown = airlock(&["demo", "--exit"]).exits(0);
    assert!(shown.stdout.contains("7. It serves inside, and a client installs"), "{}", shown.stdout);
    assert!(shown.stdout.contains("nearest version that passes: 3.10"));
}
