//! A policy beside the one in force: it reports what it would do, and nothing comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::policy::PolicyText;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options};
use airlock_testkit::osv;
use common::{Answer, NOW, Station, World, airlock};
use serde_json::Value;

/// Stricter with scores, and milder with what has none.
const STRICT: &str = "[policy]\nname = \"strict\"\n[[rule]]\nname = \"no-other\"\naction = \"deny\"\nwhen = { name = [\"other\"] }\n\
    [[rule]]\nname = \"look-at-new\"\naction = \"hold\"\nwhen = { name = [\"idna\"] }\n";

async fn shadowed() -> (World, Station) {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    set(&world, &station, "strict", STRICT);
    (world, station)
}

fn set(world: &World, station: &Station, name: &str, text: &str) {
    let file = world.path("policy.toml");
    std::fs::write(&file, text).unwrap();
    station.run(&["policy", "set", name, file.to_str().unwrap()]).exits(0);
}

/// The same with what is said beside the answer.
fn aloud(station: &Station, args: &[&str]) -> Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", NOW];
    all.extend(args);
    airlock(&all)
}

fn snapshot(station: &Station, channel: &str) -> Value {
    let status: Value = station.json(&["status"]);
    let all = status["channels"].as_array().unwrap();
    all.iter().find(|c| c["name"] == channel).unwrap()["snapshot"].clone()
}

fn actions(station: &Station) -> Vec<String> {
    let ledger: Value = station.json(&["ledger", "log"]);
    let all = ledger["entries"].as_array().unwrap();
    all.iter().map(|e| e["entry"]["action"].as_str().unwrap().to_owned()).collect()
}

fn newly(station: &Station, channel: &str) -> Value {
    station.json(&["policy", "shadow", channel])["shadow"]["report"]["differences"]["newly"].clone()
}

/// Leaves a policy that this program does not read, as a newer one may.
async fn spoil(station: &Station, name: &str) {
    let options = Options {
        clock: Clock::Fixed(NOW.parse().unwrap()),
        actor: "ada".to_owned(),
        threads: 1,
        progress: Progress::default(),
    };
    let station = airlock_engine::station::Station::open(&station.dir, options).await.unwrap();
    let id = station.store.db.put(&PolicyText { text: "no policy".to_owned() }).await.unwrap();
    let change = station.move_ref(name, Some(id.digest())).await.unwrap();
    station.commit(vec![change], "policy.set", name, &serde_json::json!({})).await.unwrap();
}

const SAID: &str = "policy strict beside it would newly deny 1, hold 2 and admit 1";

#[tokio::test]
async fn a_shadow_tells_what_it_would_do_by_rule_and_nothing_comes_of_it() {
    let (_world, station) = shadowed().await;
    station.run(&["policy", "shadow", "main"]).exits(1).says("no policy stands beside");
    station.run(&["channel", "set", "main"]).exits(2);
    station.run(&["channel", "set", "main", "--shadow", "none"]).exits(2).says("there is no policy `none`");
    let before = (snapshot(&station, "main"), station.json(&["explain", "main", "*"]));
    station.run(&["channel", "set", "main", "--shadow", "strict"]).exits(0).shows(SAID);
    assert_eq!((snapshot(&station, "main"), station.json(&["explain", "main", "*"])), before);

    let told = station.run(&["policy", "shadow", "main"]).exits(0).shows(SAID);
    // What is stricter by its own rules, what is milder by those in force; denied by score and held by the shadow is milder.
    let told = told.shows("rule look-at-new   hold 1").shows("rule no-other      deny 1");
    let told = told.shows("rule cvss-above-7  hold 1, admit 1").shows("admitted -> denied");
    told.shows("noarch/other-1.0").shows("since 2026-03-01");
    station.run(&["status"]).exits(0).shows(&format!("Channel main: {SAID}"));
    assert_eq!(station.json(&["channel", "show", "main"])["shadow"]["policy"], "strict");
    let server = station.serve();
    let (status, page) = server.get("channels/main", "text/html");
    assert_eq!(status, 200);
    assert!(String::from_utf8(page).unwrap().contains(SAID));
    // It enters nothing that a snapshot is made of.
    station.run(&["judge"]).exits(0);
    station.run(&["replay", "main"]).exits(0);
    assert_eq!(snapshot(&station, "main"), before.0);
    station.run(&["fsck"]).exits(0);
    station.run(&["gc", "--grace", "0s"]).exits(0);
    station.run(&["policy", "shadow", "main"]).exits(0).shows(SAID);
    assert_eq!(
        actions(&station).iter().filter(|a| *a == "shadow.judge").count(),
        1,
        "asked once of one snapshot"
    );

    station.run(&["channel", "set", "main", "--no-shadow"]).exits(0);
    station.run(&["policy", "shadow", "main"]).exits(1);
    station.run(&["ledger", "verify"]).exits(0);
}

#[tokio::test]
async fn a_shadow_follows_what_is_published_and_its_own_text() {
    let (world, station) = shadowed().await;
    station.run(&["channel", "add", "main/team"]).exits(0);
    station.run(&["sync", "main"]).exits(0);
    for channel in ["main", "main/team"] {
        station.run(&["channel", "set", channel, "--shadow", "strict"]).exits(0);
    }
    assert_eq!(newly(&station, "main")["deny"], 1);
    assert_eq!(newly(&station, "main/team"), serde_json::json!({"admit": 0, "deny": 1, "hold": 1}));
    // What the rules in force come to deny themselves is no difference any more.
    world
        .know(&[osv("PYSEC-9", "PyPI", "other", "9", 9.0), osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5)]);
    world.kit.write("feeds/identities.json", br#"{"idna":"idna","requests":"requests","other":"other"}"#);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["sync"]).exits(0);
    let status = station.json(&["status"]);
    let main = status["channels"].as_array().unwrap().iter().find(|c| c["name"] == "main").unwrap();
    assert_eq!(main["shadow"]["report"]["differences"]["newly"]["deny"], 0, "asked with the sync: {main}");
    set(&world, &station, "strict", &STRICT.replace("\"other\"", "\"requests\""));
    assert_eq!(newly(&station, "main")["deny"], 2);
}

#[tokio::test]
async fn a_shadow_that_fails_is_said_and_holds_up_no_denial() {
    let (world, station) = shadowed().await;
    station.run(&["channel", "set", "main", "--shadow", "strict"]).exits(0);
    spoil(&station, "policy/strict").await;
    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "4", 7.5)]);
    station.run(&["advisories", "update"]).exits(0);
    station.run(&["explain", "main", "idna==3.10"]).exits(1).shows("rule cvss-above-7 (deny)");
    aloud(&station, &["judge"]).exits(0);
    station.run(&["policy", "shadow", "main"]).exits(0).shows("cannot tell what it would do");
}

#[tokio::test]
async fn a_channel_is_put_under_another_policy_with_a_preview() {
    let (_world, station) = shadowed().await;
    let set = ["channel", "set", "main", "--policy", "strict"];
    station.run(&[&set[..], &["--dry-run"]].concat()).exits(0).shows("admitted -> denied  noarch/other-1.0");
    assert_eq!(station.json(&["channel", "show", "main"])["policy"], "default");
    station.run(&["explain", "main", "other"]).exits(0);
    station.run(&set).exits(0).shows("admitted -> denied  noarch/other-1.0");
    station.run(&["explain", "main", "other"]).exits(1).shows("rule no-other (deny)");
    assert!(actions(&station).contains(&"channel.set".to_owned()));
    let entries = actions(&station).len();
    station.run(&set).exits(0);
    assert_eq!(actions(&station).len(), entries, "nothing moved");
    station.run(&["ledger", "verify"]).exits(0);
}
