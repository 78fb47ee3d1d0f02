//! Held files that are carried over the gap, for people on the other side to judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::PathBuf;

use airlock_testkit::{conda, osv};
use common::{Answer, Station, World, copy, is_whole, text};
use serde_json::{Value, json};

/// A policy that says nothing of its own of what the sender holds.
const SILENT: &str = "[policy]\nname = \"default\"\n[[rule]]\nname = \"bad\"\naction = \"deny\"\nwhen = { name = [\"nothing\"] }\n";

/// `requests` 1.0 is held by the sender, since its vulnerability has no score.
struct Gate {
    world: World,
    low: Station,
    high: Station,
    disks: usize,
}

impl Gate {
    async fn new(policy: Option<&str>) -> Self {
        let world = World::new().await;
        let low = world.connected("low");
        low.run(&["sync"]).exits(0);
        let high = world.station("high", "isolated");
        high.trust(&low);
        if let Some(policy) = policy {
            let file = world.kit.write("policy.toml", policy.as_bytes());
            high.run(&["policy", "set", "default", text(&file)]).exits(0);
        }
        Self { world, low, high, disks: 0 }
    }

    fn disk(&mut self) -> PathBuf {
        self.disks += 1;
        self.world.path(&format!("disk-{}", self.disks))
    }

    /// A bundle that goes over, and what the export said.
    fn cross(&mut self, more: &[&str]) -> Value {
        let disk = self.disk();
        let said = self.low.run(&[&["--json", "export", text(&disk)], more].concat()).exits(0).json();
        self.high.run(&["import", text(&disk), "--receipt-out", text(&self.receipt())]).exits(0);
        said
    }

    fn receipt(&self) -> PathBuf {
        self.world.path("receipt")
    }

    /// The same as a delta, with what is held.
    fn delta(&mut self) -> Value {
        let receipt = self.receipt();
        self.cross(&["--include", "held", "--receipt", text(&receipt)])
    }

    fn know(&self, records: &[Value]) {
        self.world.know(records);
        self.low.run(&["advisories", "update"]).exits(0);
        self.low.run(&["judge"]).exits(0);
    }

    fn explained(&self, spec: &str) -> Answer {
        self.high.run(&["explain", "main", spec])
    }
}

fn known(more: &[Value]) -> Vec<Value> {
    let first =
        [osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5), osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)];
    first.into_iter().chain(more.iter().cloned()).collect()
}

#[tokio::test]
async fn what_is_held_crosses_is_offered_to_nobody_and_waits_for_a_person_there() {
    let mut gate = Gate::new(Some(SILENT)).await;
    // By itself a bundle carries what is published, and can be read by whoever reads the first layout.
    let plain = gate.cross(&[]);
    assert_eq!(plain["held"], Value::Null);
    let manifest = std::fs::read_to_string(gate.world.path("disk-1/AIRLOCK.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((&manifest["format"], &manifest["channels"]["main"]["held"]), (&json!(1), &Value::Null));
    gate.explained("requests==1.0").exits(1).shows("held");
    gate.high.run(&["review", "show", "main", "requests"]).exits(1).says("waits for a person");

    // A plan fetches nothing; the export does.
    let receipt = gate.receipt();
    let disk = gate.disk();
    let planned = gate.low.json(&["export", text(&disk), "--include", "held", "--plan"]);
    assert_eq!(planned["held"], json!({"carried": 0, "not_here": 2}));
    let held = gate.delta();
    assert_eq!((&held["held"], &held["files"]), (&json!({"carried": 2, "not_here": 0}), &json!(3)));
    let queue = gate.high.run(&["review", "queue", "main"]).exits(0);
    queue.shows("requests 1.0").shows("held by held-by-sender: PYSEC-1 (there by unscored)");
    gate.explained("requests==1.0").exits(1).shows("there by unscored");
    let server = gate.high.serve();
    let path = "conda/main/noarch/requests-1.0-0.conda";
    assert_eq!(server.get(path, "*/*").0, 403);
    is_whole(&gate.high);
    is_whole(&gate.low);

    gate.high
        .run(&["review", "approve", "main", "--scope", "requests==1.0", "--reason", "used offline only"])
        .exits(0);
    assert_eq!(server.get(path, "*/*").0, 200);
    // Who let it in did so for the channels below, too.
    gate.high.run(&["channel", "add", "main/dev"]).exits(0);
    gate.high.run(&["sync", "main/dev"]).exits(0);
    gate.high.run(&["explain", "main/dev", "requests==1.0"]).exits(0);
    // What comes next changes nothing of that, carried again or not; nothing is carried twice.
    let again = gate.delta();
    assert_eq!((&again["files"], &again["held"]["carried"]), (&json!(0), &json!(2)));
    gate.explained("requests==1.0").exits(0);
    gate.cross(&["--receipt", text(&receipt)]);
    gate.explained("requests==1.0").exits(0);
    gate.high.run(&["gc", "--grace", "0 seconds"]).exits(0);
    gate.low.run(&["gc", "--grace", "0 seconds"]).exits(0);
    gate.delta();
    gate.explained("requests==1.0").exits(0);
    is_whole(&gate.high);
    is_whole(&gate.low);

    // Something else becomes known to the sender that has no score: that was weighed by nobody.
    gate.know(&known(&[osv("PYSEC-9", "PyPI", "requests", "2.0", 0.0)]));
    gate.delta();
    gate.explained("requests==1.0").exits(1).shows("PYSEC-9");
    assert_eq!(server.get(path, "*/*").0, 403);
    gate.high.run(&["replay", "main"]).exits(0);
}

#[tokio::test]
async fn what_the_sender_denies_or_lets_in_is_held_no_more() {
    let mut gate = Gate::new(Some(SILENT)).await;
    gate.cross(&["--include", "held"]);
    let approve = ["review", "approve", "main", "--scope", "requests", "--reason", "r"];
    gate.high.run(&approve).exits(0);
    gate.explained("requests==1.0").exits(0);
    // Its sender denies it, also where nobody asks for what is held.
    gate.low.run(&["block", "main", "requests==1.0", "--reason", "stolen name"]).exits(0);
    let receipt = gate.receipt();
    gate.cross(&["--receipt", text(&receipt)]);
    gate.explained("requests==1.0").exits(1).shows("stolen name");
    let content = gate.high.json(&["snapshot", "show", "main"])["content"].clone();
    assert_eq!(content, gate.low.json(&["snapshot", "show", "main"])["content"]);
    // Going back does not bring back what waited for a person there.
    let list = gate.high.json(&["snapshot", "list", "main"]);
    let snapshots = list["snapshots"].as_array().unwrap();
    let older = snapshots.last().unwrap()["id"].as_str().unwrap();
    gate.high
        .run(&["snapshot", "rollback", &format!("main@{older}"), "--reason", "r"])
        .exits(1)
        .says("requests-1.0");
    gate.low.run(&["review", "revoke", "d1", "--reason", "it was not"]).exits(0);
    gate.low.run(&approve).exits(0);
    gate.delta();
    gate.explained("requests==1.0").exits(0);
    let low = gate.low.json(&["snapshot", "show", "main"])["content"].clone();
    assert_eq!(gate.high.json(&["snapshot", "show", "main"])["content"], low);
    is_whole(&gate.high);
}

#[tokio::test]
async fn what_the_sender_has_no_more_is_offered_by_no_going_back() {
    let mut gate = Gate::new(Some(SILENT)).await;
    gate.cross(&["--include", "held"]);
    let list = gate.high.json(&["snapshot", "list", "main"]);
    let older = list["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let mut source = gate.world.kit.conda_source("conda");
    for (name, version) in [("idna", "3.6"), ("idna", "3.10"), ("requests", "2.0"), ("other", "1.0")] {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
    gate.low.run(&["sync"]).exits(0);
    gate.delta();
    let queue = gate.high.run(&["review", "queue", "main"]).exits(0);
    assert!(!queue.stdout.contains("requests"), "{queue:?}");
    // Nobody knows by what it would be held, and it is all the same.
    gate.high.run(&["snapshot", "rollback", &format!("main@{older}"), "--reason", "r"]).exits(0);
    gate.explained("requests==1.0").exits(1).shows("rule held-by-sender (hold)");
    is_whole(&gate.high);
}

#[tokio::test]
async fn the_receivers_own_policy_denies_what_its_sender_holds() {
    let deny = SILENT.replace("nothing", "requests");
    let mut gate = Gate::new(Some(&deny)).await;
    gate.cross(&["--include", "held"]);
    gate.explained("requests==1.0").exits(1).shows("denied").shows("rule bad");
    gate.high.run(&["review", "show", "main", "requests"]).exits(1);
}

#[tokio::test]
async fn a_bundle_with_what_is_held_is_whole_or_refused_and_split_over_volumes() {
    let mut gate = Gate::new(None).await;
    let disk = gate.disk();
    gate.low.run(&["export", text(&disk), "--include", "held"]).exits(0);
    let manifest: Value = serde_json::from_slice(&std::fs::read(disk.join("AIRLOCK.json")).unwrap()).unwrap();
    assert_eq!(manifest["format"], 6);
    gate.low.run(&["verify", text(&disk), "--key", text(&gate.low.key())]).exits(0);
    let lost = gate.world.path("lost");
    copy(&disk, &lost);
    let files = manifest["files"].as_array().unwrap();
    let held = files.iter().find(|f| f["name"] == "requests-1.0-0.conda").unwrap();
    std::fs::remove_file(lost.join(held["path"].as_str().unwrap())).unwrap();
    gate.high.run(&["import", text(&lost)]).exits(3).says("is missing");
    gate.high.run(&["import", text(&disk)]).exits(0);
    gate.explained("requests==1.0").exits(1).shows("rule unscored").shows("rule held-by-sender");
    // Both are approved together.
    gate.high.run(&["review", "approve", "main", "--scope", "requests", "--reason", "r"]).exits(0);
    gate.explained("requests==1.0").exits(0);
}
