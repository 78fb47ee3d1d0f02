//! A clock that jumped or was set back stops what would believe it, and a person lets it go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_testkit::conda;
use common::{Answer, Station, World, airlock};
use serde_json::{Value, json};

/// Runs a command by the system's clock.
fn by_clock(station: &Station, args: &[&str]) -> Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--quiet"];
    all.extend(args);
    airlock(&all)
}

/// Says that a run saw the clock at another time.
fn seen(station: &Station, time: &str) {
    std::fs::write(station.dir.join("clock.json"), format!("{{\"seen\":\"{time}\"}}")).unwrap();
}

/// What was done by the ledger, and the latest time that it bears.
fn told(station: &Station) -> (Vec<String>, String) {
    let log = by_clock(station, &["--json", "ledger", "log"]).json();
    let entries = log["entries"].as_array().unwrap_or_else(|| panic!("{log}"));
    let of = |member: &str| {
        entries.iter().map(|e| e["entry"][member].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (of("action"), of("time").into_iter().max().unwrap())
}

fn published(station: &Station, channel: &str) -> Value {
    by_clock(station, &["--json", "snapshot", "show", channel]).json()["content"].clone()
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_stops_publishing_and_importing_until_a_person_confirms_it() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let before = published(&low, "main");
    let mut source = world.kit.conda_source("conda");
    for (name, version) in [("idna", "3.10"), ("requests", "2.0"), ("other", "1.0"), ("fresh", "1.0")] {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
    seen(&low, "2026-03-01T12:00:00Z");
    let last = told(&low).1;
    by_clock(&low, &["sync", "main"]).exits(3).says("airlock clock confirm");
    assert_eq!(published(&low, "main"), before);
    // A block waits for nobody, and rules although nothing is published.
    let blocked = by_clock(&low, &["block", "main", "other", "--reason", "now"]);
    assert!(blocked.stderr.contains("clock"), "{blocked:?}");
    let why = by_clock(&low, &["--json", "explain", "main", "other"]).json();
    assert_eq!(why["artifacts"][0]["verdict"], "denied", "{why}");
    // Neither does what becomes known, and what is written meanwhile does not move the station's time.
    world.know(&[airlock_testkit::osv("PYSEC-9", "PyPI", "requests", "9", 9.8)]);
    by_clock(&low, &["advisories", "update"]).exits(3).says("clock");
    let source = world.path("pypi");
    let add = ["channel", "add", "more", "--ecosystem", "pypi", "--source", source.to_str().unwrap()];
    by_clock(&low, &add).exits(0);
    let (actions, time) = told(&low);
    assert!(actions.contains(&"channel.deny".to_owned()), "{actions:?}");
    assert_eq!(time, last);
    // Nor does the clock count for anything where nobody can say when it was seen.
    std::fs::write(low.dir.join("clock.json"), "").unwrap();
    by_clock(&low, &["sync", "main"]).exits(4).says("airlock clock confirm");
    by_clock(&low, &[&["channel", "add", "again"], &add[3..]].concat()).exits(0);
    assert_eq!(told(&low).1, last);
    let known = by_clock(&low, &["--json", "explain", "main", "requests==2.0"]).json();
    let file = known["artifacts"][0]["artifact"].as_str().unwrap().to_owned();
    assert_eq!(low.serve().get(&format!("conda/main/{file}"), "*/*").0, 403, "{known}");
    seen(&high, "2020-01-01T00:00:00Z");
    by_clock(&high, &["import", world.path("pypi").to_str().unwrap(), "--channel", "tree"]).exits(3);
    let state = high.state();
    by_clock(&high, &["import", disk.to_str().unwrap()]).exits(3).says("days after this station last saw it");
    assert_eq!(high.state(), state);
    for station in [&low, &high] {
        by_clock(station, &["clock", "confirm", "--reason", " "]).exits(2);
        by_clock(station, &["clock", "confirm", "--reason", "compared with the radio clock"]).exits(0);
        let log = by_clock(station, &["ledger", "log"]);
        assert!(log.stdout.contains("clock.confirm"), "{log:?}");
    }
    by_clock(&low, &["sync", "main"]).exits(0);
    assert!(low.dir.join("clock.json").exists());
    assert_ne!(published(&low, "main"), before);
    by_clock(&high, &["import", disk.to_str().unwrap()]).exits(0);
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_not_believed_either() {
    let world = World::new().await;
    let (_, disk, high) = world.across();
    // Somebody wrote to the ledger when the clock was far ahead.
    let ahead = |args: &[&str]| {
        let mut all =
            vec!["--station", high.dir.to_str().unwrap(), "--quiet", "--now", "2199-01-01T00:00:00Z"];
        all.extend(args);
        airlock(&all)
    };
    let source = world.path("conda");
    ahead(&["channel", "add", "x", "--ecosystem", "conda", "--source", source.to_str().unwrap()]).exits(0);
    by_clock(&high, &["import", disk.to_str().unwrap()]).exits(3).says("the ledger was written");
    by_clock(&high, &["clock", "confirm", "--reason", "the other one was wrong"]).exits(0);
    by_clock(&high, &["import", disk.to_str().unwrap()]).exits(0);
    // Time that was given is a person's own word.
    ahead(&["judge"]).exits(0);
}
