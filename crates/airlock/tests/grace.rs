//! A rule with a grace: what is published stays, is announced, and goes when the grace ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_testkit::osv;
use common::{Answer, Station, World, airlock};
use serde_json::{Value, json};

fn on(station: &Station, time: &str, args: &[&str]) -> Answer {
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", time, "--quiet"];
    all.extend(args);
    airlock(&all)
}

/// A station with a grace, on which everything is published.
async fn graced() -> (World, Station) {
    let world = World::new().await;
    world.know(&[osv("PYSEC-1", "PyPI", "nothing", "2.0", 5.0)]);
    let station = world.connected("low");
    let policy = std::fs::read_to_string(write(&world, &station)).unwrap();
    assert!(policy.contains("grace"));
    station.run(&["policy", "set", "default", world.path("graced.toml").to_str().unwrap()]).exits(0);
    station.run(&["sync"]).exits(0);
    (world, station)
}

fn write(world: &World, station: &Station) -> std::path::PathBuf {
    let policy = station.run(&["policy", "show", "default"]).exits(0).stdout;
    let at = policy.find("name = \"cvss-above-7\"").unwrap();
    let (before, rule) = policy.split_at(at);
    let path = world.path("graced.toml");
    std::fs::write(
        &path,
        before.to_owned() + &rule.replacen("action = \"deny\"", "action = \"deny\"\ngrace = \"7 days\"", 1),
    )
    .unwrap();
    path
}

fn notices(station: &Station) -> Vec<Value> {
    let server = station.serve();
    let (status, body) = server.get("conda/main/notices.json", "*/*");
    assert_eq!(status, 200);
    let notices: Value = serde_json::from_slice(&body).unwrap();
    notices["notices"].as_array().unwrap().clone()
}

const BEFORE: &str = "2026-03-12T11:59:59Z";
const END: &str = "2026-03-12T12:00:00Z";

#[tokio::test]
async fn what_is_published_is_announced_and_leaves_when_its_grace_ends() {
    let (world, station) = graced().await;
    let file = station.json(&["explain", "main", "idna==3.6"])["artifacts"][0]["artifact"]
        .as_str()
        .unwrap()
        .to_owned();
    let paths = [format!("conda/main/{file}"), format!("conda/main@2026-03-01/{file}")];
    let statuses = || {
        let server = station.serve();
        paths.clone().map(|path| server.get(&path, "*/*").0)
    };
    assert_eq!(notices(&station), [] as [Value; 0]);

    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5)]);
    let told = on(&station, "2026-03-05T12:00:00Z", &["advisories", "update"]).exits(0);
    assert!((told.stdout.clone() + &told.stderr).contains("denied when a grace ends"), "{told:?}");
    assert_eq!(statuses(), [200, 200]);
    let explained = on(&station, BEFORE, &["--json", "explain", "main", "idna==3.6"]).json();
    let one = &explained["artifacts"][0];
    assert_eq!((&one["verdict"], &one["denied_from"]), (&json!("admitted"), &json!(END)));
    assert_eq!(one["flips_at"], END);
    on(&station, BEFORE, &["explain", "main", "idna==3.6"])
        .exits(0)
        .shows("offered until 2026-03-12T12:00:00Z, and denied then");
    let said = notices(&station);
    let [notice] = &said[..] else { panic!("{said:?}") };
    assert_eq!(
        notice["message"],
        "Denied in channel main from 2026-03-12T12:00:00Z on: idna 3.6 (cvss-above-7: PYSEC-2024-60)"
    );
    assert_eq!(notice["expired_at"], "2026-03-12T12:00:00+00:00");
    // The same file would not be let in now.
    let twin = world.path("conda");
    on(
        &station,
        BEFORE,
        &["channel", "add", "new", "--ecosystem", "conda", "--source", twin.to_str().unwrap()],
    )
    .exits(0);
    on(&station, BEFORE, &["sync", "new"]).exits(0);
    let new = on(&station, BEFORE, &["--json", "explain", "new", "idna==3.6"]).json();
    assert_eq!(new["artifacts"][0]["verdict"], "denied");

    // A second before, it is there; a second later it is not, and nobody did anything but let time judge.
    on(&station, BEFORE, &["judge"]).exits(0);
    assert_eq!(statuses(), [200, 200]);
    on(&station, END, &["judge", "main"]).exits(0).shows("admitted -> denied");
    assert_eq!(statuses(), [403, 403]);
    assert_eq!(notices(&station), [] as [Value; 0]);
    let index: Value = {
        let server = station.serve();
        serde_json::from_slice(&server.get("conda/main/noarch/repodata.json", "*/*").1).unwrap()
    };
    assert!(!index.to_string().contains("idna-3.6"));
    on(&station, END, &["replay", "main"]).exits(0);
}

#[tokio::test]
async fn what_is_blocked_or_exploited_meanwhile_goes_at_once() {
    let (world, station) = graced().await;
    world.know(&[osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5)]);
    on(&station, "2026-03-05T12:00:00Z", &["advisories", "update"]).exits(0);
    assert_eq!(notices(&station).len(), 1);
    on(&station, "2026-03-06T12:00:00Z", &["block", "main", "idna==3.6", "--reason", "now"]).exits(0);
    assert_eq!(notices(&station), [] as [Value; 0], "what is blocked leaves no more");
    // In the other channel an exploit becomes known.
    let verdict = |time: &str| {
        on(&station, time, &["--json", "explain", "py", "idna==3.6"]).json()["artifacts"][0]["verdict"]
            .clone()
    };
    assert_eq!(verdict("2026-03-06T12:00:00Z"), "admitted");
    let kev = json!({"catalogVersion": "1", "dateReleased": "2026-03-07T00:00:00Z", "count": 1, "vulnerabilities": [
        {"cveID": "CVE-2024-3651", "dateAdded": "2026-03-07"}]});
    let path = world.kit.write("feeds/kev.json", kev.to_string().as_bytes());
    let mut record = osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5);
    record["aliases"] = json!(["CVE-2024-3651"]);
    world.know(&[record]);
    on(&station, "2026-03-07T12:00:00Z", &["advisories", "add", "kev", path.to_str().unwrap()]).exits(0);
    on(&station, "2026-03-07T12:00:00Z", &["advisories", "update"]).exits(0);
    assert_eq!(verdict("2026-03-07T12:00:00Z"), "denied");
}
