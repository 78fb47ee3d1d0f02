//! What runs today, accepted in one act until a date: previewed, recorded, ended, and void where something becomes known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_testkit::osv;
use common::{Answer, NOW, Station, World, airlock, hash};
use serde_json::{Value, json};

async fn synced() -> (World, Station) {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    (world, station)
}

/// The same at another moment, with what is said beside the answer.
fn at(station: &Station, now: &str, args: &[&str]) -> Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", now];
    all.extend(args);
    airlock(&all)
}

fn entries(station: &Station, action: &str) -> Vec<Value> {
    let ledger: Value = station.json(&["ledger", "log"]);
    let all = ledger["entries"].as_array().unwrap().iter().map(|e| e["entry"].clone());
    all.filter(|e| e["action"] == action).collect()
}

const UNTIL: &str = "2026-04-01";
const ACCEPT: [&str; 7] = ["review", "baseline", "main", "--expires", UNTIL, "--reason", "runs today"];

#[tokio::test]
async fn what_runs_today_is_accepted_in_one_act_that_is_previewed_recorded_and_ends() {
    let (world, station) = synced().await;
    station.run(&ACCEPT[..3]).exits(2);
    let past = ["review", "baseline", "main", "--expires", "2026-02-01", "--reason", "r"];
    station.run(&past).exits(2).says("it would have ended on 2026-02-01");

    let preview = at(&station, NOW, &[&ACCEPT[..], &["--dry-run"]].concat()).exits(0);
    let preview = preview.shows("denied -> admitted  noarch/idna-3.6").shows("held -> admitted");
    preview.says("baseline * in main: 2 files, kept out by cvss-above-7 and unscored, until 2026-04-01");
    assert!(entries(&station, "decision.add").is_empty(), "nothing was decided");
    station.run(&["review", "queue", "main"]).exits(0).shows("requests 1.0");

    station.run(&[&ACCEPT[..], &["--ticket", "SEC-9"]].concat()).exits(0);
    let recorded = entries(&station, "decision.add");
    assert_eq!(recorded.len(), 1);
    let files = &recorded[0]["detail"]["ruling"]["baseline"]["files"];
    assert_eq!(files.as_object().unwrap().len(), 2, "{recorded:?}");
    let list = station.run(&["review", "list"]).exits(0);
    list.shows("baseline * in main: 2 files").shows("until 2026-04-01").shows("runs today (SEC-9)");
    station.run(&["review", "queue", "main"]).exits(0).shows("Nothing in main waits");
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "idna==3.6"]).exits(0).shows("waived by decision d1");
    station.run(&["explain", "py", "idna==3.6"]).exits(1);
    station.run(&ACCEPT).exits(1).says("nothing that `*` means is kept out");

    // What comes later is no part of it.
    let mut source = world.kit.conda_source("conda");
    for version in ["3.5", "3.6"] {
        source.add(&airlock_testkit::conda("idna", version), &json!({}));
    }
    source.add(&airlock_testkit::conda("requests", "1.0"), &json!({}));
    source.write();
    station.run(&["sync", "main", "--accept-shrink"]).exits(0);
    station.run(&["explain", "main", "idna==3.5"]).exits(1).shows("rule cvss-above-7 (deny)");
    station.run(&["explain", "main", "idna==3.6"]).exits(0);

    let end = "2026-04-01T00:00:00Z";
    at(&station, end, &["judge"]).exits(0);
    at(&station, end, &["explain", "main", "idna==3.6"]).exits(1).shows("rule cvss-above-7 (deny)");
    assert_eq!(entries(&station, "decision.expire").len(), 1);
    station.run(&["ledger", "verify"]).exits(0);
    station.run(&["replay", "main"]).exits(0);
}

#[tokio::test]
async fn what_is_exploited_or_malicious_or_blocked_is_in_no_baseline_and_new_knowledge_ends_one() {
    let (world, station) = synced().await;
    let mut malware = osv("MAL-2026-1", "PyPI", "requests", "2.0", 0.0);
    malware["database_specific"] = json!({"malicious-packages-origins": []});
    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5), malware]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["block", "main", "other", "--reason", "not here"]).exits(0);
    let told = at(&station, NOW, &ACCEPT).exits(0);
    told.says(
        "not accepted, since something exploited or malicious stands against it: 1 file: noarch/requests-1.0",
    )
    .says("baseline * in main: 1 file, kept out by cvss-above-7");
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "idna==3.6"]).exits(0);
    station.run(&["explain", "main", "requests==1.0"]).exits(1);
    station.run(&["explain", "main", "other"]).exits(1);

    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-2026-7", "PyPI", "idna", "3.7", 9.1),
    ]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["explain", "main", "idna==3.6"]).exits(1).shows("PYSEC-2026-7");
    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5)]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["explain", "main", "idna==3.6"]).exits(0);
    station.run(&["review", "revoke", "d2", "--reason", "updated"]).exits(0);
    station.run(&["explain", "main", "idna==3.6"]).exits(1);
}

#[tokio::test]
async fn with_lock_files_only_what_they_hold_is_accepted() {
    let (world, station) = synced().await;
    let lock = world.path("requirements.txt");
    std::fs::write(&lock, "requests==1.0\n").unwrap();
    let lock = lock.to_str().unwrap();
    let accept = ["review", "baseline", "py", "--expires", UNTIL, "--reason", "runs today"];
    let wanted = [&accept[..], &["--from", lock]].concat();
    at(&station, NOW, &wanted)
        .exits(0)
        .says("baseline * in py: 1 file, kept out by cvss-above-7 and unscored");
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "py", "requests==1.0"]).exits(0);
    station.run(&["explain", "py", "idna==3.6"]).exits(1);

    // A list of a conda environment names files and what they are.
    let file = station.json(&["explain", "main", "idna==3.6"])["artifacts"][0]["artifact"].clone();
    let file = file.as_str().unwrap();
    let sha256 = hash(&world.path("conda").join(file));
    let list = world.path("explicit.txt");
    let text = |hash: &str| format!("@EXPLICIT\nhttps://upstream.example/conda/{file}#sha256:{hash}\n");
    let from = [&ACCEPT[..], &["--from", list.to_str().unwrap()]].concat();
    std::fs::write(&list, text(&"0".repeat(64))).unwrap();
    station.run(&from).exits(1).says("nothing that `*` means is kept out");
    std::fs::write(&list, text(&sha256.to_string())).unwrap();
    at(&station, NOW, &from).exits(0).says("baseline * in main: 1 file, kept out by cvss-above-7");
    std::fs::write(&list, "no lock file\0").unwrap();
    station.run(&from).exits(2).says("explicit.txt");
}
