//! What is held, looked at by a person: queued with what is needed, approved, rejected, waived until it is fixed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_formats::make::CondaPackage;
use airlock_testkit::{conda, osv};
use common::{NOW, Station, World, airlock};
use serde_json::{Value, json};

async fn synced() -> (World, Station) {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    (world, station)
}

/// The same at another moment.
fn later(station: &Station, now: &str, args: &[&str]) -> common::Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", now, "--quiet"];
    all.extend(args);
    airlock(&all)
}

fn actions(station: &Station) -> Vec<String> {
    let ledger: Value = station.json(&["ledger", "log"]);
    let all = ledger["entries"].as_array().unwrap();
    all.iter().map(|e| e["entry"]["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_held_waits_in_a_queue_and_is_approved_as_far_as_it_was_weighed() {
    let (world, station) = synced().await;
    let told = station.run(&["review", "queue", "main"]).exits(0);
    let told = told
        .shows("requests 1.0: 1 file")
        .shows("held by unscored: PYSEC-1")
        .shows("no score, fixed from 2.0");
    told.shows("nearest version that is offered: 2.0")
        .shows("airlock review approve main --scope 'requests==1.0'");
    let queue: Value = station.json(&["review", "queue", "main"]);
    assert_eq!(queue["held"].as_array().unwrap().len(), 1);
    station.run(&["review", "queue", "main", "idna"]).exits(0).shows("Nothing in main waits");

    let approve =
        ["review", "approve", "main", "--scope", "requests", "--reason", "looked at it", "--ticket", "SEC-7"];
    station.run(&[&approve[..], &["--dry-run"]].concat()).exits(0).shows("held -> admitted");
    assert!(!actions(&station).contains(&"decision.add".to_owned()), "nothing was decided");
    station.run(&approve).exits(0);
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "requests=1.0"]).exits(0).shows("waived by decision d1");
    station
        .run(&["review", "list"])
        .exits(0)
        .shows("approve requests in main: 1 file, held by cvss-above-7 and unscored")
        .shows("(SEC-7)");
    station.run(&["review", "queue", "main"]).exits(0).shows("Nothing in main waits");
    station.run(&approve).exits(1).says("nothing is held that `requests` means");

    // Nothing that is not held is approved: no other file, and no other build.
    let hash = "0".repeat(64);
    let none = [&approve[..], &["--sha256", &hash]].concat();
    station.run(&none).exits(1).says("nothing is held");
    // What is denied is not approved, and what becomes known later holds again.
    station.run(&["review", "approve", "main", "--scope", "idna", "--reason", "r"]).exits(1);
    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0),
        osv("PYSEC-2", "PyPI", "requests", "2.0", 0.0),
    ]);
    station.run(&["advisories", "update"]).exits(0);
    // It is offered already, and gets a deadline.
    let queue = station.run(&["review", "queue", "main"]).exits(0);
    queue.shows("offered until 2026-03-15").shows("held by unscored: PYSEC-2");
    world.know(&[osv("PYSEC-1", "PyPI", "requests", "2.0", 9.0)]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["explain", "main", "requests=1.0"]).exits(1).shows("rule cvss-above-7 (deny)");
}

#[tokio::test]
async fn what_is_held_is_shown_with_who_needs_it_and_what_changed() {
    let (world, station) = synced().await;
    let mut source = world.kit.conda_source("conda");
    let depends = ["urllib3 >=1"];
    let old = CondaPackage { depends: &depends, ..conda("requests", "0.9") };
    source.add(&old, &json!({"license": "MIT", "home": "a\u{1b}[2J"}));
    source.add(&conda("requests", "1.0"), &json!({"license": "GPL-3.0-only"}));
    source.add(&CondaPackage { depends: &["requests ==1.0"], ..conda("app", "1") }, &json!({}));
    source.add(&CondaPackage { depends: &["requests"], ..conda("any", "1") }, &json!({}));
    source.write();
    world.know(&[
        osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0),
        osv("PYSEC-9", "PyPI", "requests", "0.9.5", 5.0),
    ]);
    station.run(&["advisories", "update"]).exits(0);
    let approve = ["review", "approve", "main", "--scope", "requests==0.9", "--reason", "in use"];
    station.run(&["sync", "main", "--accept-shrink"]).exits(0);
    station.run(&approve).exits(0);
    station.run(&["sync", "main"]).exits(0);

    let file = "noarch/requests-1.0-0.conda";
    let shown = station.run(&["review", "show", "main", file]).exits(0);
    let shown = shown
        .shows("requests 1.0: 1 file")
        .shows("required by 2 files that are offered (for 1 of them nothing else that is offered would do)")
        .shows("noarch/app-1-0.conda: requires requests ==1.0, and nothing else that is offered would do")
        .shows(&format!("  {file} since noarch/requests-0.9-0.conda, "))
        .shows("    depends on: - urllib3 >=1\n")
        .shows("    licence: MIT -> GPL-3.0-only\n")
        .shows("    record: - home a\u{fffd}[2J\n")
        .shows("    no longer open: PYSEC-9: medium 5.3: requests is vulnerable\n")
        .shows("  Next: `airlock review approve main --scope 'requests==1.0'");
    assert!(!shown.stdout.contains('\u{1b}'));
    let json: Value = station.json(&["review", "show", "main", "requests"]);
    let held = &json["held"][0];
    assert_eq!((&json["channel"], &held["artifacts"]), (&json!("main"), &json!([file])));
    assert_eq!(held["requests"], json!([]));
    assert_eq!(held["dependents"]["offered_only_this"], 1);
    assert_eq!(held["dependents"]["first"][0]["artifact"], "noarch/app-1-0.conda");
    let since = &held["since"][0];
    assert_eq!((&since["version"], &since["is_above"]), (&json!("0.9"), &json!(false)));
    let gone = json!({"name": "urllib3", "from": "urllib3 >=1", "to": null});
    assert_eq!(since["changes"]["dependencies"], json!([gone]));
    // The queue counts what depends on it, and says where the rest is.
    station
        .run(&["review", "queue", "main"])
        .exits(0)
        .shows("  required by 2 files that are offered")
        .shows("Next: `airlock review show main 'requests==1.0'` says what changed; `airlock review approve");
    station.run(&["review", "show", "main", "any"]).exits(1).says("nothing of `any` in channel `main` waits");
    station.run(&["review", "show", "main", "a*"]).exits(2).says("means several packages");
}

#[tokio::test]
async fn what_is_rejected_is_denied_and_says_why() {
    let (_world, station) = synced().await;
    let reject = ["review", "reject", "main", "--scope", "requests==1.0", "--reason", "use 2.0"];
    let shown = station.run(&[&reject[..], &["--dry-run"]].concat()).exits(0).shows("held -> denied");
    assert!(!shown.stdout.contains("-> admitted"), "{}", shown.stdout);
    station.run(&reject).exits(0);
    station
        .run(&["explain", "main", "requests=1.0"])
        .exits(1)
        .shows("rule rejected (deny)")
        .shows("by ada: use 2.0");
    station.run(&["explain", "main", "requests=2.0"]).exits(0);
    station.run(&["review", "revoke", "d1", "--reason", "after all"]).exits(0);
    station.run(&["review", "queue", "main"]).exits(0).shows("requests 1.0");
    station.run(&["ledger", "verify"]).exits(0);
}

#[tokio::test]
async fn a_waiver_ends_by_its_date_or_with_a_fix_and_the_ledger_says_so() {
    let (world, station) = synced().await;
    // Nobody fixed it yet.
    let mut open = osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5);
    open["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "0"}, {"last_affected": "3.6"}]);
    world.know(std::slice::from_ref(&open));
    station.run(&["advisories", "update"]).exits(0);
    let waive =
        ["review", "waive", "main", "--scope", "idna", "--rule", "cvss-above-7", "--reason", "no fix yet"];
    station.run(&waive).exits(2);
    station.run(&[&waive[..], &["--until-fixed"]].concat()).exits(2);
    let named = [&waive[..], &["--advisory", "PYSEC-2024-60"]].concat();
    station.run(&[&named[..], &["--until-fixed"]].concat()).exits(0);
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "idna=3.6"]).exits(0).shows("waived by decision d1");
    station.run(&["review", "list"]).exits(0).shows("until fixed");
    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5)]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["explain", "main", "idna=3.6"]).exits(1).shows("rule cvss-above-7 (deny)");

    // Until a date.
    station.run(&[&named[..], &["--expires", "2026-03-05"]].concat()).exits(0);
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "idna=3.6"]).exits(0);
    assert!(!actions(&station).contains(&"decision.expire".to_owned()));
    later(&station, "2026-03-05T00:00:00Z", &["judge"]).exits(0);
    later(&station, "2026-03-05T00:00:00Z", &["explain", "main", "idna=3.6"]).exits(1);
    let expired: Vec<String> = actions(&station).into_iter().filter(|a| a == "decision.expire").collect();
    assert_eq!(expired.len(), 1, "once, and in the channel that it is about");
    later(&station, "2026-03-06T00:00:00Z", &["judge"]).exits(0);
    assert_eq!(actions(&station).iter().filter(|a| *a == "decision.expire").count(), 1);
    assert!(NOW < "2026-03-05");
}

#[tokio::test]
async fn what_old_feeds_hold_is_approved_until_a_date_only() {
    let (_world, station) = synced().await;
    let old = "2026-06-01T12:00:00Z";
    later(&station, old, &["judge"]).exits(0);
    let approve = ["review", "approve", "main", "--scope", "*", "--reason", "the bundle is late"];
    later(&station, old, &approve).exits(2).says("rule `stale-advisories` asks how old feeds are");
    later(&station, old, &[&approve[..], &["--expires", "2026-06-08"]].concat()).exits(0);
    later(&station, old, &["explain", "main", "other"]).exits(0).shows("waived by decision d1");
    let after = "2026-06-08T00:00:00Z";
    later(&station, after, &["judge"]).exits(0);
    later(&station, after, &["explain", "main", "other"]).exits(0).shows("offered until");
    // By other rules alone it needs none.
    later(&station, after, &[&approve[..], &["--rule", "unscored"]].concat()).exits(0);
}

#[tokio::test]
async fn what_is_approved_while_it_is_withdrawn_is_approved_as_such() {
    let (world, station) = synced().await;
    let file = world.path("look.toml");
    let rule =
        "[policy]\nname = \"p\"\n[[rule]]\nname = \"look\"\naction = \"hold\"\nwhen = { yanked = true }\n";
    std::fs::write(&file, rule).unwrap();
    station.run(&["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    let mut source = world.kit.conda_source("conda");
    source.add(&airlock_testkit::conda("new", "1.0"), &json!({"revoked": true}));
    source.write();
    station.run(&["sync", "main", "--accept-shrink"]).exits(0);
    station.run(&["explain", "main", "new"]).exits(1).shows("rule look (hold)");
    station.run(&["review", "approve", "main", "--scope", "new", "--reason", "it works"]).exits(0);
    station.run(&["sync", "main"]).exits(0);
    station.run(&["explain", "main", "new"]).exits(0).shows("waived by decision d1");
}

#[tokio::test]
async fn what_has_no_hash_yet_is_said_to_wait_once_more() {
    let (world, station) = synced().await;
    let mut source = world.kit.conda_source("conda");
    source.add(&airlock_testkit::conda("requests", "1.5"), &json!({"sha256": null}));
    source.write();
    world.know(&[osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["sync", "main", "--accept-shrink"]).exits(0);
    let dir = ["--station", station.dir.to_str().unwrap(), "--now", NOW];
    let approve = ["review", "approve", "main", "--scope", "requests==1.5", "--reason", "r"];
    airlock(&[&dir[..], &approve].concat())
        .exits(0)
        .says("1 file of what is approved: the index gives no SHA-256");
    station.run(&["sync", "main"]).exits(0);
    station.run(&["explain", "main", "requests=1.5"]).exits(1).shows("rule unscored (hold");
    let again = airlock(&[&dir[..], &approve].concat()).exits(0);
    assert!(!again.stderr.contains("no SHA-256"), "{}", again.stderr);
    station.run(&["sync", "main"]).exits(0);
    station.run(&["explain", "main", "requests=1.5"]).exits(0);
}

#[tokio::test]
async fn a_policy_that_takes_a_name_of_every_channel_is_refused_before_it_is_set() {
    let (world, station) = synced().await;
    let file = world.path("taken.toml");
    let rule = "[policy]\nname = \"p\"\n[[rule]]\nname = \"not-fetched\"\naction = \"warn\"\nwhen = { kev = true }\n";
    std::fs::write(&file, rule).unwrap();
    let file = file.to_str().unwrap();
    let taken = "`not-fetched` is the name of a rule that every channel has";
    station.run(&["policy", "check", file]).exits(1).says(taken);
    station.run(&["policy", "preview", "default", file]).exits(2).says(taken);
    station.run(&["policy", "set", "default", file]).exits(2).says(taken);
}
