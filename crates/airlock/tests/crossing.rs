//! What holds between stations over several bundles: what a sender denies later, what it knows without a receipt, whose receipts it
//! believes, and what either sees when the other was restored from a backup.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_testkit::conda;
use common::{Server, Station, World, airlock, published, text};
use serde_json::{Value, json};

const ANY: &str = "*/*";

/// The path of the only file of this package that a station's channel offers, and the id of what is published.
fn offered(station: &Station, name: &str) -> (String, String) {
    let shown = station.json(&["explain", "main", name]);
    let artifact = shown["artifacts"][0]["artifact"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
    let snapshot = station.json(&["snapshot", "show", "main"])["id"].as_str().unwrap().to_owned();
    (artifact, snapshot)
}

/// What a server answers once it has this status, which is to be within seconds of what another process published.
fn answers(server: &Server, path: &str, status: u16) -> String {
    let began = Instant::now();
    loop {
        let (found, body) = server.get(path, ANY);
        if found == status {
            return String::from_utf8_lossy(&body).into_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{path} is still answered with {found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A copy of a station, as a backup is.
fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn what_its_sender_denies_later_is_served_at_no_date_any_more() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", text(&disk)]).exits(0);
    let (file, first) = offered(&high, "other");
    let server = high.serve();
    let paths = [format!("conda/main/{file}"), format!("conda/main@{first}/{file}")];
    for path in &paths {
        assert_eq!(server.get(path, ANY).0, 200, "{path}");
    }

    // Nothing that this station knows or rules speaks against it.
    low.run(&["block", "main", "other", "--reason", "stolen name"]).exits(0);
    let second = world.path("second");
    low.run(&["export", text(&second)]).exits(0);
    high.run(&["import", text(&second)]).exits(0);
    for path in &paths {
        let body = answers(&server, path, 403);
        assert!(body.contains("stolen name"), "{path}: {body}");
    }
    high.run(&["explain", "main", "other"]).exits(1).shows("stolen name");
    // A replay finds the same, and whoever judges later does.
    high.run(&["replay", "main"]).exits(0);
    high.run(&["judge", "main", "--anew"]).exits(0);
    assert_eq!(server.get(&paths[1], ANY).0, 403);
    // Nor is it by going back to where the sender had not said it yet.
    let reason = ["--allow-rollback", "--reason", "the newest one broke something"];
    high.run(&[&["import", text(&disk)], &reason[..]].concat()).exits(1).says("would come back");
    assert_eq!(server.get(&paths[1], ANY).0, 403);

    // The sender takes that back, which is its own word.
    let decision = low.json(&["review", "list"]);
    let id = decision["decisions"][0]["id"].as_str().unwrap_or_else(|| panic!("{decision}")).to_owned();
    low.run(&["review", "revoke", &id, "--reason", "it was not"]).exits(0);
    low.run(&["judge"]).exits(0);
    let third = world.path("third");
    low.run(&["export", text(&third)]).exits(0);
    high.run(&["import", text(&third)]).exits(0);
    for path in &paths {
        answers(&server, path, 200);
    }
    assert_eq!(published(&low), published(&high));
}

#[tokio::test]
async fn going_back_to_before_a_file_was_there_keeps_what_its_sender_denied_since() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", text(&disk)]).exits(0);
    let mut source = world.kit.conda_source("conda");
    source.add(&conda("fresh", "1.0"), &json!({}));
    source.write();
    low.run(&["sync"]).exits(0);
    let second = exported(&world, &low, "second", &[]);
    high.run(&["import", text(&second)]).exits(0);
    let (file, with_it) = offered(&high, "fresh");
    low.run(&["block", "main", "fresh", "--reason", "stolen name"]).exits(0);
    let third = exported(&world, &low, "third", &[]);
    high.run(&["import", text(&third)]).exits(0);
    let server = high.serve();
    let path = format!("conda/main@{with_it}/{file}");
    answers(&server, &path, 403);
    let back = ["--allow-rollback", "--reason", "the newest one broke something"];
    high.run(&[&["import", text(&disk)], &back[..]].concat()).exits(0);
    let server = high.serve();
    assert!(answers(&server, &path, 403).contains("stolen name"));
}

#[tokio::test]
async fn what_a_parent_denies_reaches_whoever_takes_in_its_child_alone() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["channel", "add", "main/team"]).exits(0);
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    let alone = ["--channel", "main/team"];
    high.run(&["import", text(&exported(&world, &low, "first", &alone))]).exits(0);
    let shown = high.json(&["explain", "main/team", "other"]);
    let file = shown["artifacts"][0]["artifact"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
    let first = high.json(&["snapshot", "show", "main/team"])["id"].as_str().unwrap().to_owned();
    low.run(&["block", "main", "other", "--reason", "stolen name"]).exits(0);
    high.run(&["import", text(&exported(&world, &low, "second", &alone))]).exits(0);
    let server = high.serve();
    for path in [format!("conda/main/team/{file}"), format!("conda/main/team@{first}/{file}")] {
        assert!(answers(&server, &path, 403).contains("stolen name"), "{path}");
    }
}

/// A bundle of a station in a folder of its own.
fn exported(world: &World, low: &Station, name: &str, more: &[&str]) -> PathBuf {
    let disk = world.path(name);
    low.run(&[&["export", text(&disk)], more].concat()).exits(0);
    disk
}

/// Which bundle a folder holds, on top of which other.
fn numbers(low: &Station, disk: &Path) -> (u64, Option<u64>) {
    let header = low.json(&["verify", text(disk), "--key", text(&low.key()), "--header"]);
    (header["number"].as_u64().unwrap(), header["base"]["number"].as_u64().or(header["base"].as_u64()))
}

fn receipt(world: &World, high: &Station, disk: &Path, name: &str) -> PathBuf {
    let path = world.path(name);
    high.run(&["import", text(disk), "--receipt-out", text(&path)]).exits(0);
    path
}

#[tokio::test]
async fn a_delta_to_the_last_bundle_needs_no_receipt_and_a_lost_one_is_said() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    // The first brings everything.
    let first = exported(&world, &low, "first", &["--to", "high", "--since-last"]);
    assert_eq!(numbers(&low, &first), (1, None));
    high.run(&["import", text(&first)]).exits(0);
    low.run(&["block", "main", "other", "--reason", "stolen name"]).exits(0);
    let second = exported(&world, &low, "second", &["--to", "high", "--since-last"]);
    assert_eq!(numbers(&low, &second), (2, Some(1)));
    low.run(&["block", "py", "other", "--reason", "stolen name"]).exits(0);
    let third = exported(&world, &low, "third", &["--to", "high", "--since-last"]);
    assert_eq!(numbers(&low, &third), (3, Some(2)));
    // Another peer has a state of its own.
    assert_eq!(
        numbers(&low, &exported(&world, &low, "others", &["--to", "else", "--since-last"])),
        (1, None)
    );

    // One that took its number and was broken off before its signature was written: nothing rests on it.
    let broken = exported(&world, &low, "broken", &["--to", "high", "--since-last"]);
    assert_eq!(numbers(&low, &broken), (4, Some(3)));
    let digest = Digest::of(&std::fs::read(broken.join("AIRLOCK.json")).unwrap());
    std::fs::remove_file(low.dir.join(format!("sent/{digest}.written"))).unwrap();
    let fifth = exported(&world, &low, "fifth", &["--to", "high", "--since-last"]);
    assert_eq!(numbers(&low, &fifth), (5, Some(3)));

    // The second disk is lost: the third waits for it, and a receipt of what is there brings the rest.
    high.run(&["import", text(&third)])
        .exits(1)
        .says("bundle 3 builds on bundle 2, which was never taken in");
    let answer = receipt(&world, &high, &first, "answer");
    let sixth = exported(&world, &low, "sixth", &["--to", "high", "--receipt", text(&answer)]);
    assert_eq!(numbers(&low, &sixth), (6, Some(1)));
    high.run(&["import", text(&sixth)]).exits(0);
    assert_eq!(published(&low), published(&high));
    low.run(&["export", text(&world.path("no")), "--since-last", "--full"]).exits(2);
}

#[tokio::test]
async fn a_receipt_by_another_key_answers_for_no_peer_unless_somebody_vouches_for_it() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let [high, other] = ["high", "other"].map(|name| {
        let station = world.station(name, "isolated");
        station.trust(&low);
        station
    });
    let first = exported(&world, &low, "first", &["--to", "high"]);
    let answer = receipt(&world, &high, &first, "answer");
    let theirs = receipt(&world, &other, &first, "theirs");
    let to_high = |disk: &str, receipt: &Path| {
        low.run(&["export", text(&world.path(disk)), "--to", "high", "--receipt", text(receipt)])
    };
    to_high("second", &answer).exits(0).shows("the first receipt of `high`");
    to_high("third", &theirs).exits(3).says("another key answered for `high`").says("--link-only");
    assert!(!world.path("third").exists());
    to_high("fourth", &answer).exits(0);
    // Whoever else is trusted here answers for nobody but itself.
    low.trust_as("staging", &other);
    to_high("fifth", &theirs).exits(3);
    low.run(&["trust", "revoke", "staging"]).exits(0);
    // Somebody had the fingerprint read to him, and the key of before is that station's no more.
    low.trust_as("high", &other);
    to_high("sixth", &theirs).exits(0).shows("the first receipt of `other`");
    to_high("seventh", &answer).exits(3).says("another key is trusted here as `high`");
}

#[tokio::test]
async fn a_receiver_that_was_restored_from_a_backup_is_seen_by_both_sides() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let first = receipt(&world, &high, &disk, "first-receipt");
    let backup = world.path("backup");
    copied(&high.dir, &backup);
    let second = exported(&world, &low, "second", &["--receipt", text(&first)]);
    let newer = receipt(&world, &high, &second, "newer");
    // What was said before is no news, and an older receipt is none either.
    low.run(&["export", text(&world.path("third")), "--receipt", text(&newer)]).exits(0);

    std::fs::remove_dir_all(&high.dir).unwrap();
    copied(&backup, &high.dir);
    let whole = exported(&world, &low, "whole", &[]);
    let told = high.json(&["import", text(&whole)]);
    let forgotten = told["bundles"][0]["forgotten"].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(forgotten.contains("restored from a backup"), "{forgotten}");
    let log = high.json(&["ledger", "log"]);
    let noted = |one: &Value| one["entry"]["detail"]["forgotten"].is_string();
    assert!(log["entries"].as_array().is_some_and(|log| log.iter().any(noted)), "{log}");

    let after = receipt(&world, &high, &whole, "after");
    let report = low.json(&["export", text(&world.path("again")), "--receipt", text(&after)]);
    let heard = report["heard"][0].as_str().unwrap_or_else(|| panic!("{report}"));
    assert!(heard.contains("restored from a backup"), "{heard}");
    // From here on that past counts.
    let last = exported(&world, &low, "last", &["--receipt", text(&after)]);
    let told = high.json(&["import", text(&last)]);
    assert!(told["bundles"][0]["forgotten"].is_null(), "{told}");
}

#[tokio::test]
async fn a_sender_that_was_restored_from_a_backup_is_not_believed_for_a_number_that_came_already() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", text(&disk)]).exits(0);
    let backup = world.path("backup");
    copied(&low.dir, &backup);
    let second = exported(&world, &low, "second", &[]);
    high.run(&["import", text(&second)]).exits(0);
    let before = published(&high);

    std::fs::remove_dir_all(&low.dir).unwrap();
    copied(&backup, &low.dir);
    low.run(&["block", "main", "other", "--reason", "stolen name"]).exits(0);
    let again = exported(&world, &low, "again", &[]);
    assert_eq!(numbers(&low, &again).0, 2);
    let restored = "the sender was restored from a backup";
    high.run(&["import", text(&again)]).exits(3).says("another bundle with number 2").says(restored);
    // Nor for the one behind it, whose number nobody saw.
    let next = exported(&world, &low, "next", &[]);
    high.run(&["import", text(&next)]).exits(3).says("does not follow from bundle 2").says(restored);
    assert_eq!(published(&high), before);
}

/// A policy by which nothing that has a known vulnerability is offered without a person.
const STRICT: &str = r#"
    [policy]
    name = "strict"
    description = "People look at whatever is known to be vulnerable"
    [[rule]]
    name = "vulnerable"
    action = "hold"
    when = { status = ["reported", "active"] }
"#;

/// What a policy of this station holds is approved by somebody there.
fn approved(station: &Station, rule: &str) {
    station.run(&["explain", "main", "requests==1.0"]).exits(1).shows(rule);
    let reason = format!("looked at where {rule} asks");
    station.run(&["review", "approve", "main", "--scope", "requests==1.0", "--reason", &reason]).exits(0);
    station.run(&["judge"]).exits(0);
}

#[tokio::test]
async fn what_is_approved_at_each_of_three_stations_arrives_and_the_last_ledger_names_all_hops() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    approved(&low, "unscored");
    low.run(&["sync"]).exits(0);
    let [staging, high] = ["staging", "high"].map(|name| world.station(name, "isolated"));
    staging.trust(&low);
    high.trust_as("staging", &staging);
    let strict = world.path("strict.toml");
    std::fs::write(&strict, STRICT).unwrap();
    for station in [&staging, &high] {
        station.run(&["policy", "set", "strict", text(&strict)]).exits(0);
    }

    let to_staging = exported(&world, &low, "to-staging", &[]);
    staging.run(&["import", text(&to_staging)]).exits(0);
    // Each station has its own rules, and what the one before let in is let in by nobody here.
    staging.run(&["channel", "set", "main", "--policy", "strict"]).exits(0);
    staging.run(&["judge"]).exits(0);
    let offers = |station: &Station, what: &str| station.run(&["explain", "main", what]).status == 0;
    assert!(!offers(&staging, "requests==1.0"));
    let early = exported(&world, &staging, "early", &[]);
    high.run(&["import", text(&early)]).exits(0);
    assert!(!offers(&high, "requests==1.0") && offers(&high, "requests==2.0"));

    approved(&staging, "vulnerable");
    let to_high = exported(&world, &staging, "to-high", &[]);
    high.run(&["import", text(&to_high)]).exits(0);
    approved(&high, "unscored");
    assert!(offers(&high, "requests==1.0"));
    let server = high.serve();
    let (file, _) = offered(&high, "requests==1.0");
    assert_eq!(server.get(&format!("conda/main/{file}"), ANY).0, 200);

    let log = high.json(&["ledger", "log"]);
    let entries = log["entries"].as_array().unwrap_or_else(|| panic!("{log}"));
    let last = entries.iter().rev().find(|one| one["entry"]["action"] == "bundle.import").unwrap();
    let hops: Vec<&str> = last["entry"]["detail"]["via"]["main"]
        .as_array()
        .unwrap_or_else(|| panic!("{last}"))
        .iter()
        .map(|hop| hop["sender"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(hops, ["low", "staging"]);
}

#[tokio::test]
async fn that_a_senders_decisions_count_nowhere_else_is_said_to_whoever_wants_to_accept_them() {
    let world = World::new().await;
    let (low, high) = (world.connected("low"), world.station("high", "isolated"));
    let print = low.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
    let key = low.key();
    let add = ["trust", "add", "low", text(&key), "--fingerprint", &print, "--accept"];
    for what in ["decisions", "waivers", "decisions,waivers,loosening"] {
        high.run(&[&add[..], &[what]].concat())
            .exits(2)
            .says("count on no other station")
            .says("review waive");
    }
    assert_eq!(high.json(&["trust", "list"])["trusted"].as_array().map(Vec::len), Some(0));
    high.run(&[&add[..], &["loosening"]].concat()).exits(0);
}

/// Two months later, when nothing came any more.
const LATER: &str = "2026-05-01T12:00:00Z";

#[tokio::test]
async fn that_no_bundle_comes_any_more_is_said_and_what_rests_on_old_knowledge_is_held() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", text(&disk)]).exits(0);
    let now = high.json(&["status"]);
    assert_eq!(
        (&now["streams"][0]["number"], &now["streams"][0]["age_seconds"]),
        (&1.into(), &0.into()),
        "{now}"
    );
    let silence = "No bundle of stream ";
    assert!(!high.run(&["status"]).stdout.contains(silence));
    let at = |station: &Station, args: &[&str]| {
        airlock(&[&["--station", text(&station.dir), "--now", LATER, "--quiet"], args].concat())
    };
    at(&high, &["status"]).exits(0).shows(silence).shows("since bundle 1, which was written 61 days ago");
    let server = high.serve_at(LATER);
    assert!(answers(&server, "", 200).contains("which was written 61 days ago"));

    // Whoever withholds bundles gets nothing in by an old one.
    let late = world.path("late");
    airlock(&["init", text(&late), "--name", "late", "--side", "isolated", "--now", LATER]).exits(0);
    let late = Station { dir: late };
    let print = low.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
    at(&late, &["trust", "add", "low", text(&low.key()), "--fingerprint", &print]).exits(0);
    at(&late, &["import", text(&disk)]).exits(0);
    at(&late, &["explain", "main", "other"]).exits(1).shows("stale-advisories");
}
