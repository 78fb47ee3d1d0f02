//! Channels that stand still, and channels that go back: what is denied meanwhile acts all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_testkit::{conda, osv};
use common::{Answer, Station, World, airlock};
use serde_json::{Value, json};

const FIRST: &str = "2026-03-01T12:00:00Z";
const WEEK: &str = "2026-03-08T12:00:00Z";

fn at(station: &Station, now: &str, args: &[&str]) -> Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", now, "--quiet"];
    all.extend(args);
    airlock(&all)
}

/// What a channel offers at a moment.
fn offered(station: &Station, now: &str) -> Vec<String> {
    let explained = at(station, now, &["--json", "explain", "main", "*"]).json();
    let all = explained["artifacts"].as_array().unwrap().iter();
    let offered = all.filter(|a| a["verdict"] == "admitted" && a["gone"] == false);
    let mut out: Vec<String> = offered.map(|a| a["artifact"].as_str().unwrap().to_owned()).collect();
    out.sort();
    out
}

/// The source has another version of `other`, and does not have `requests` any more.
fn moves_on(world: &World) {
    let mut source = world.kit.conda_source("conda");
    for (name, version) in [("idna", "3.6"), ("idna", "3.10"), ("other", "1.0"), ("other", "2.0")] {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
}

const THREE: [&str; 3] =
    ["noarch/idna-3.10-0.conda", "noarch/other-1.0-0.conda", "noarch/requests-2.0-0.conda"];

#[tokio::test]
async fn a_frozen_channel_offers_nothing_new_until_a_date_and_still_denies() {
    let world = World::new().await;
    let station = world.connected("low");
    at(&station, FIRST, &["sync"]).exits(0);
    assert_eq!(offered(&station, FIRST), THREE);
    let freeze = ["channel", "freeze", "main", "--reason", "end of the quarter"];
    at(&station, FIRST, &freeze).exits(2);
    at(&station, FIRST, &[&freeze[..], &["--until", "2026-02-01"]].concat()).exits(2);
    at(&station, FIRST, &[&freeze[..], &["--until", "2026-03-10"]].concat()).exits(0);
    moves_on(&world);
    at(&station, WEEK, &["sync"]).exits(0);
    assert_eq!(offered(&station, WEEK), THREE);
    // What would be let in waits too.
    world.know(&[osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)]);
    at(&station, WEEK, &["advisories", "update"]).exits(0);
    assert_eq!(offered(&station, WEEK), THREE);
    at(&station, WEEK, &["explain", "main", "idna=3.6"])
        .exits(1)
        .shows("rule frozen (hold)")
        .shows("end of the quarter");
    // What is denied acts at once, and what comes to be held stays until the end.
    world.know(&[osv("PYSEC-3", "PyPI", "idna", "4", 9.0), osv("PYSEC-1", "PyPI", "requests", "3.0", 0.0)]);
    at(&station, WEEK, &["advisories", "update"]).exits(0);
    assert_eq!(offered(&station, WEEK), THREE[1..]);
    at(&station, "2026-03-10T00:00:00Z", &["sync", "main"]).exits(0);
    assert_eq!(
        offered(&station, "2026-03-10T00:00:00Z"),
        ["noarch/other-1.0-0.conda", "noarch/other-2.0-0.conda"]
    );
    let log: Value = station.json(&["ledger", "log"]);
    let actions = log["entries"].as_array().unwrap().iter().map(|e| e["entry"]["action"].as_str().unwrap());
    assert_eq!(actions.filter(|a| *a == "decision.expire").count(), 1);
}

#[tokio::test]
async fn going_back_a_week_does_not_bring_back_what_was_denied_since() {
    let world = World::new().await;
    let station = world.connected("low");
    at(&station, FIRST, &["sync"]).exits(0);
    moves_on(&world);
    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-9", "PyPI", "requests", "3.0", 9.0),
    ]);
    at(&station, WEEK, &["advisories", "update"]).exits(0);
    at(&station, WEEK, &["sync"]).exits(0);
    let now = ["noarch/idna-3.10-0.conda", "noarch/other-1.0-0.conda", "noarch/other-2.0-0.conda"];
    assert_eq!(offered(&station, WEEK), now);
    let diff = at(&station, WEEK, &["snapshot", "diff", "main@2026-03-01"]).exits(0);
    diff.shows("+ noarch/other-2.0-0.conda").shows("- noarch/requests-2.0-0.conda");
    let back = ["snapshot", "rollback", "main@2026-03-01", "--reason", "other 2.0 does not work"];
    at(&station, WEEK, &[&back[..], &["--dry-run"]].concat()).exits(0).shows("other-2.0");
    assert_eq!(offered(&station, WEEK), now, "nothing changed");
    at(&station, WEEK, &back).exits(0);
    assert_eq!(offered(&station, WEEK), ["noarch/idna-3.10-0.conda", "noarch/other-1.0-0.conda"]);
    at(&station, WEEK, &["explain", "main", "requests=2.0"]).exits(1).shows("PYSEC-9");
    at(&station, WEEK, &["replay", "main"]).exits(0).shows("is what its inputs give");
    at(&station, WEEK, &["ledger", "verify"]).exits(0);
    // The next reading starts from nothing, and so misses nothing.
    at(&station, WEEK, &["sync", "main"]).exits(0);
    assert_eq!(offered(&station, WEEK), now);
    // A frozen channel does not go back.
    let freeze = ["channel", "freeze", "main", "--reason", "r", "--until", "2026-03-20"];
    at(&station, WEEK, &freeze).exits(0);
    at(&station, WEEK, &back).exits(1).says("is frozen by decision d1");
}

#[tokio::test]
async fn what_the_index_says_of_a_file_today_is_not_forgotten_by_going_back() {
    let world = World::new().await;
    let station = world.connected("low");
    let file = world.path("strict.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_default()
        + "[policy]\nname = \"p\"\n[[rule]]\nname = \"withdrawn\"\naction = \"deny\"\nwhen = { any = [{ yanked = true }, { removed = true }] }\n";
    std::fs::write(&file, text).unwrap();
    at(&station, FIRST, &["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    at(&station, FIRST, &["sync"]).exits(0);
    moves_on(&world);
    at(&station, WEEK, &["sync"]).exits(0);
    let back = ["snapshot", "rollback", "main@2026-03-01", "--reason", "r"];
    let refused =
        at(&station, WEEK, &back).exits(1).says("would come back").says("noarch/requests-1.0-0.conda");
    refused.says("airlock review reject main --scope SPEC");
    at(&station, WEEK, &["block", "main", "requests", "--reason", "they took it away"]).exits(0);
    at(&station, WEEK, &back).exits(0);
    let offered = offered(&station, WEEK);
    assert!(offered.contains(&"noarch/other-1.0-0.conda".to_owned()), "{offered:?}");
    assert!(
        !offered.iter().any(|file| file.contains("requests") || file.contains("other-2.0")),
        "{offered:?}"
    );
}

#[tokio::test]
async fn what_waits_for_a_person_does_not_lose_its_deadline_by_going_back() {
    let world = World::new().await;
    let station = world.connected("low");
    let file = world.path("look.toml");
    std::fs::write(
        &file,
        "[policy]\nname = \"p\"\n[[rule]]\nname = \"look\"\naction = \"hold\"\nwhen = { yanked = true }\n",
    )
    .unwrap();
    at(&station, FIRST, &["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    at(&station, FIRST, &["sync"]).exits(0);
    // Its publisher withdraws it: it is offered until somebody looked.
    let mut source = world.kit.conda_source("conda");
    source.add(&conda("other", "1.0"), &json!({"revoked": true}));
    source.write();
    at(&station, WEEK, &["sync", "--accept-shrink"]).exits(0);
    at(&station, WEEK, &["explain", "main", "other"]).exits(0).shows("offered until 2026-03-22");
    let back = ["snapshot", "rollback", "main@2026-03-01", "--reason", "r"];
    at(&station, WEEK, &back).exits(1).says("would come back").says("noarch/other-1.0-0.conda");
    let reject = ["review", "reject", "main", "--scope", "other", "--reason", "r", "--expires", "2026-04-01"];
    at(&station, WEEK, &reject).exits(0);
    at(&station, WEEK, &back).exits(0);
    assert!(!offered(&station, WEEK).iter().any(|file| file.contains("other")));
}

#[tokio::test]
async fn what_leaves_when_a_grace_ends_does_not_stand_in_the_way_of_going_back() {
    let world = World::new().await;
    let station = world.connected("low");
    let file = world.path("graced.toml");
    let rule = "name = \"no-other\"\naction = \"deny\"\ngrace = \"7 days\"\nwhen = { name = [\"other\"] }";
    std::fs::write(
        &file,
        "[policy]\nname = \"p\"\n[[rule]]\nname = \"w\"\naction = \"warn\"\nwhen = { yanked = true }\n",
    )
    .unwrap();
    at(&station, FIRST, &["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    at(&station, FIRST, &["sync"]).exits(0);
    moves_on(&world);
    at(&station, WEEK, &["sync", "--accept-shrink"]).exits(0);
    std::fs::write(&file, format!("[policy]\nname = \"p\"\n[[rule]]\n{rule}\n")).unwrap();
    at(&station, WEEK, &["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    at(&station, WEEK, &["explain", "main", "other=1.0"]).exits(0).shows("2026-03-15");
    at(&station, WEEK, &["snapshot", "rollback", "main@2026-03-01", "--reason", "r"]).exits(0);
    assert!(offered(&station, WEEK).contains(&"noarch/other-1.0-0.conda".to_owned()));
    // Its end stands.
    at(&station, "2026-03-15T12:00:00Z", &["judge", "main"]).exits(0);
    assert!(!offered(&station, "2026-03-15T12:00:00Z").iter().any(|file| file.contains("other")));
}
