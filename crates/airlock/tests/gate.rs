//! What an import would change is shown before, and where a station says so it waits for a second person.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_testkit::{conda, osv};
use common::{Answer, NOW, Station, World, is_whole, published, text};
use serde_json::{Value, json};

/// Two weeks and a day after [`NOW`].
const LATER: &str = "2026-03-16T12:00:00Z";

/// A sender, and a receiver where two administrators take in bundles together.
struct Gate {
    world: World,
    low: Station,
    high: Station,
    tokens: BTreeMap<&'static str, String>,
    disks: usize,
}

impl Gate {
    async fn new(two_person: &str) -> Self {
        Self::of(World::new().await, two_person)
    }

    fn of(world: World, two_person: &str) -> Self {
        let low = world.connected("low");
        low.run(&["sync"]).exits(0);
        let high = world.station("high", "isolated");
        high.trust(&low);
        let mut tokens = BTreeMap::new();
        for name in ["adam", "alma"] {
            high.run(&["user", "add", name, "--role", "administrator"]).exits(0);
            tokens.insert(name, high.json(&["token", "add", name])["secret"].as_str().unwrap().to_owned());
        }
        let config = high.dir.join("airlock.toml");
        let people = format!("\n[people]\nrequire_login = true\ntwo_person = [{two_person}]\n");
        std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &people).unwrap();
        Self { world, low, high, tokens, disks: 0 }
    }

    fn at(&self, now: &str, user: &str, args: &[&str]) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["--station", text(&self.high.dir), "--now", now, "--as", user])
            .args(args)
            .env("AIRLOCK_TOKEN", &self.tokens[user])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer {
            status: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn run(&self, user: &str, args: &[&str]) -> Answer {
        self.at(NOW, user, args)
    }

    fn export(&mut self, more: &[&str]) -> PathBuf {
        self.disks += 1;
        let disk = self.world.path(&format!("disk-{}", self.disks));
        self.low.run(&[&["export", text(&disk)], more].concat()).exits(0);
        disk
    }

    /// The source gets a package, and what is known changes.
    fn goes_on(&self, package: &str, known: &[Value]) {
        goes_on(&self.world, &self.low, package, known);
    }

    fn proposals(&self) -> Vec<Value> {
        let all = self.run("adam", &["--json", "proposals", "list"]).exits(0).json();
        all["proposals"].as_array().unwrap().clone()
    }

    /// The name of the one proposal.
    fn only(&self) -> String {
        let all = self.proposals();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]["id"].as_str().unwrap().to_owned()
    }

    fn confirm(&self, user: &str) -> Answer {
        self.run(user, &["proposals", "confirm", &self.only()])
    }

    fn verdict(&self, spec: &str) -> String {
        let said = self.run("adam", &["--json", "explain", "main", spec]);
        if said.stdout.is_empty() {
            return "nowhere".to_owned();
        }
        said.json()["artifacts"][0]["verdict"].as_str().unwrap().to_owned()
    }

    fn waiting(&self) -> usize {
        std::fs::read_dir(self.high.dir.join("waiting")).map_or(0, Iterator::count)
    }
}

fn goes_on(world: &World, low: &Station, package: &str, known: &[Value]) {
    let mut source = world.kit.conda_source("conda");
    let first =
        [("idna", "3.6"), ("idna", "3.10"), ("requests", "1.0"), ("requests", "2.0"), ("other", "1.0")];
    for (name, version) in first.into_iter().chain([(package, "1.0")]) {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
    world.know(known);
    low.run(&["advisories", "update"]).exits(0);
    low.run(&["sync"]).exits(0);
}

/// What the store has, beside what waits in an intake.
fn blobs(station: &Station) -> Vec<PathBuf> {
    let all = common::files(&station.dir.join("blobs")).into_keys();
    all.filter(|path| !path.components().any(|part| part.as_os_str() == "staging")).collect()
}

/// What is known in the beginning.
fn known() -> Vec<Value> {
    vec![osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5), osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)]
}

/// Known later: no version of idna is good any more, and of requests nothing is said.
fn stricter() -> Vec<Value> {
    vec![osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5), osv("PYSEC-2026-7", "PyPI", "idna", "4.0", 9.8)]
}

fn changes(said: &Value) -> Vec<Value> {
    let mut all = said["changes"].as_array().unwrap().clone();
    all.sort_by_key(Value::to_string);
    all
}

#[tokio::test]
async fn a_plan_says_what_the_import_does_then_and_changes_nothing() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    for (number, package, records) in [(1, "fresh", known()), (2, "fresher", stricter())] {
        goes_on(&world, &low, package, &records);
        let disk = world.path(&format!("disk-{number}"));
        low.run(&["export", text(&disk)]).exits(0);
        let before = (high.json(&["status"]), high.json(&["ledger", "log"]), blobs(&high));
        let plan = high.run(&["--json", "import", text(&disk), "--plan"]).exits(0).json();
        let after = (high.json(&["status"]), high.json(&["ledger", "log"]), blobs(&high));
        assert_eq!(after, before, "a plan changed something");
        let shown = high.run(&["import", text(&disk), "--plan"]).exits(0);
        let shown = shown.shows(&format!("would take in bundle {number} of "));
        if number == 1 {
            shown.shows("channel main (new)").shows("new: 2026-03-01T12:00:00Z");
        } else {
            // What the sender knows by now denies here too; what of it is milder would wait.
            shown
                .shows("1 newly offered, 1 newly held, 2 no longer listed")
                .shows("1 record became milder and would wait");
        }
        let done = high.run(&["--json", "import", text(&disk)]).exits(0).json();
        assert!(!changes(&done).is_empty());
        assert_eq!(changes(&plan), changes(&done));
        let counts = |said: &Value| -> Vec<Value> {
            said["channels"].as_array().unwrap().iter().map(|c| json!([c["channel"], c["counts"]])).collect()
        };
        assert_eq!(counts(&plan), counts(&done));
        high.run(&["import", text(&disk), "--plan"]).exits(0).says("");
    }
    let again = high.run(&["--json", "import", text(&world.path("disk-2")), "--plan"]).exits(0).json();
    assert_eq!((&again["bundles"][0]["again"], &again["plan"]), (&json!(true), &json!([null])));
    is_whole(&high);
}

#[tokio::test]
async fn a_bundle_waits_for_a_second_person_and_what_it_says_more_strictly_does_not() {
    let mut gate = Gate::new("\"import\"").await;
    let disk = gate.export(&[]);
    gate.high.run(&["import", text(&disk)]).exits(1).says("asks who you are");
    let before = gate.run("adam", &["--json", "channel", "list"]).stdout;
    gate.run("adam", &["import", text(&disk)])
        .exits(1)
        .says("waits for a second person")
        .says("take in bundle 1");
    // Again, it is the same proposal.
    gate.run("adam", &["import", text(&disk)]).exits(1).says(&gate.only());
    assert_eq!(gate.run("adam", &["--json", "channel", "list"]).stdout, before);
    assert_eq!(blobs(&gate.high), [] as [PathBuf; 0]);
    gate.confirm("adam").exits(1).says("needs another person");
    // Whoever confirms needs no medium.
    std::fs::remove_dir_all(&disk).unwrap();
    let low = published(&gate.low);
    gate.confirm("alma").exits(0);
    assert_eq!((published(&gate.high), gate.waiting()), (low, 0));
    let log = gate.run("adam", &["--json", "ledger", "log"]).json();
    let entries = log["entries"].as_array().unwrap();
    let entry = entries.iter().map(|e| &e["entry"]).find(|e| e["action"] == "bundle.import").unwrap();
    assert!(
        entry["actor"].as_str().unwrap().starts_with("adam (token), confirmed by alma (token"),
        "{entry}"
    );

    gate.goes_on("fresh", &stricter());
    let disk = gate.export(&[]);
    assert_eq!(gate.verdict("idna==3.10"), "admitted");
    gate.run("adam", &["import", text(&disk)]).exits(1).says("waits for a second person");
    // What is vulnerable is denied, what is new is not there; nothing of what became milder acts.
    let (idna, requests) = (gate.verdict("idna==3.10"), gate.verdict("requests==1.0"));
    assert_eq!((idna.as_str(), requests.as_str()), ("denied", "held"));
    assert_eq!(gate.verdict("fresh"), "nowhere");
    // Whoever is asked sees what their word changes, and what counts without it.
    let id = gate.only();
    let would = gate.proposals()[0]["would"].clone();
    let main = would["plan"]["channels"].as_array().unwrap().iter().find(|c| c["channel"] == "main").unwrap();
    let counts = ["offered", "held", "denied", "removed"].map(|count| main[count].as_u64().unwrap());
    assert_eq!(would["stricter"].as_object().unwrap().values().collect::<Vec<_>>(), [1], "{would}");
    gate.run("alma", &["proposals", "show", &id])
        .exits(0)
        .shows("channel main  1 newly offered")
        .shows("1 record stricter, which counts already")
        .shows("1 record became milder and would wait for a person")
        .shows("\"act\": \"import\"");
    gate.run("alma", &["proposals", "list"]).exits(0).shows("1 newly offered");
    assert_eq!(gate.run("alma", &["--json", "proposals", "show", &id]).exits(0).json()["would"], would);
    gate.at(LATER, "alma", &["proposals", "confirm", &id]).exits(1).says("has ended");
    let done = gate.run("alma", &["--json", "proposals", "confirm", &id]).exits(0).json();
    assert_eq!(gate.verdict("fresh"), "admitted");
    let became = |verdict: Value| {
        let is_it = |c: &&Value| c["channel"] == "main" && c["from"] != c["to"] && c["to"] == verdict;
        changes(&done).iter().filter(is_it).count() as u64
    };
    let done = [json!("admitted"), json!("held"), json!("denied"), Value::Null].map(became);
    assert!(counts == done && done[0] == 1, "{counts:?} {done:?}");
    // The feed says it by itself now; what waits is what became milder.
    let waits = gate.run("adam", &["--json", "advisories", "waiting"]).exits(0).json().to_string();
    assert!(waits.contains("PYSEC-1") && !waits.contains("PYSEC-2026-7"), "{waits}");
    is_whole(&gate.high);
}

#[tokio::test]
async fn a_bundle_that_was_let_go_leaves_what_it_said_more_strictly() {
    let mut gate = Gate::new("\"import\"").await;
    let disk = gate.export(&[]);
    gate.run("adam", &["--break-glass", "nobody else is here", "import", text(&disk)]).exits(0);
    assert_eq!(gate.verdict("idna==3.10"), "admitted");
    gate.goes_on("fresh", &stricter());
    let disk = gate.export(&[]);
    gate.run("adam", &["import", text(&disk)]).exits(1);
    let open = gate.proposals().into_iter().find(|p| p["state"] == "open").unwrap();
    gate.run("adam", &["proposals", "withdraw", open["id"].as_str().unwrap()]).exits(0);
    assert_eq!(gate.verdict("idna==3.10"), "denied");
    let said = gate.run("adam", &["advisories", "waiting"]).exits(0);
    assert!(said.stdout.contains("PYSEC-2026-7"), "{said:?}");
    // What is kept of it goes with garbage.
    gate.run("adam", &["gc"]).exits(0);
    assert_eq!(gate.waiting(), 0);
    // Nobody signed a tree, so that there is nothing that a second person could confirm.
    let tree = gate.world.path("conda");
    gate.run("adam", &["import", text(&tree), "--channel", "tree"]).exits(1).says("cannot be proposed");
}

#[tokio::test]
async fn volumes_of_several_days_end_in_one_proposal() {
    let mut gate = Gate::of(World::large().await, "\"import\"");
    let disk = gate.export(&["--capacity", "4200 kB"]);
    let volumes: Vec<PathBuf> = std::fs::read_dir(&disk).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(volumes.len() > 1, "{volumes:?}");
    let (last, first) = volumes.split_last().unwrap();
    for volume in first {
        gate.run("adam", &["import", text(volume)]).exits(1).says("is not whole yet");
        assert_eq!(gate.proposals(), [] as [Value; 0]);
    }
    gate.at(LATER, "adam", &["import", text(last)]).exits(1).says("waits for a second person");
    let id = gate.only();
    gate.at(LATER, "alma", &["proposals", "confirm", &id]).exits(0);
    assert_eq!(published(&gate.low), published_at(&gate));
}

#[tokio::test]
async fn what_came_of_a_bundle_goes_when_its_proposal_ends_unless_another_one_names_it() {
    let mut gate = Gate::new("\"import\", \"trust\"").await;
    let disk = gate.export(&[]);
    let import = |gate: &Gate| gate.run("adam", &["import", text(&disk)]).exits(1);
    let kept = |gate: &Gate| {
        let staging = std::fs::read_dir(gate.high.dir.join("blobs/staging")).unwrap();
        let intakes =
            staging.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("import-"));
        (gate.waiting(), intakes.count())
    };
    import(&gate).says("waits for a second person");
    assert_eq!(kept(&gate), (1, 1));
    gate.run("alma", &["proposals", "withdraw", &gate.only()]).exits(0);
    assert_eq!(kept(&gate), (0, 0));
    // It is proposed for another state too, and one of the two is let go.
    import(&gate);
    let first = gate.only();
    let key = gate.low.key();
    let print = gate.low.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
    let add =
        ["trust", "add", "low", text(&key), "--fingerprint", &print, "--channel", "main", "--channel", "py"];
    gate.run("adam", &["trust", "revoke", "low"]).exits(0);
    gate.run("adam", &add).exits(1).says("waits for a second person");
    let trust = gate.proposals().into_iter().find(|p| p["act"]["act"] == "trust").unwrap();
    gate.run("alma", &["proposals", "confirm", trust["id"].as_str().unwrap()]).exits(0);
    import(&gate);
    assert_eq!(gate.proposals().len(), 2);
    gate.run("adam", &["proposals", "withdraw", &first]).exits(0);
    assert_eq!(kept(&gate), (1, 1));
    // It ends by its date, and goes with what is proposed next.
    let add = ["trust", "add", "other", text(&key), "--fingerprint", &print];
    gate.at(LATER, "adam", &add).exits(1).says("waits for a second person");
    assert_eq!((gate.proposals().len(), kept(&gate)), (1, (0, 0)));
}

/// What the receiver publishes, asked at the later moment, before which its ledger ends no more.
fn published_at(gate: &Gate) -> Vec<Value> {
    let content = |channel: &str| {
        gate.at(LATER, "adam", &["--json", "snapshot", "show", channel]).json()["content"].clone()
    };
    vec![content("main"), content("py")]
}

#[tokio::test]
async fn going_back_to_an_older_bundle_needs_two_persons_a_reason_and_nothing_that_speaks_against_it() {
    let mut gate = Gate::new("\"rollback\"").await;
    let first = gate.export(&[]);
    gate.run("adam", &["import", text(&first)]).exits(0);
    let of_first = published(&gate.high);
    gate.goes_on("fresh", &known());
    let second = gate.export(&[]);
    gate.run("adam", &["import", text(&second)]).exits(0);
    let of_second = published(&gate.high);
    assert_ne!(of_first, of_second);

    gate.run("adam", &["import", text(&first)])
        .exits(3)
        .says("is older than bundle 2")
        .says("--allow-rollback");
    gate.run("adam", &["import", text(&first), "--allow-rollback"]).exits(2);
    let back = ["import", text(&first), "--allow-rollback", "--reason", "fresh breaks the build"];
    let planned = gate.run("adam", &[&back[..], &["--plan"]].concat()).exits(0);
    planned.shows("would go back to bundle 1").shows("1 no longer listed");
    gate.run("adam", &back).exits(1).says("going back: fresh breaks the build");
    assert_eq!(published(&gate.high), of_second);
    // Its number is behind, and it waits all the same.
    assert_eq!(gate.waiting(), 1);
    gate.run("adam", &["gc", "--grace", "0 seconds"]).exits(0);
    assert_eq!(gate.waiting(), 1);
    gate.confirm("alma").exits(0);
    assert_eq!(published(&gate.high), of_first);
    gate.run("adam", &["import", text(&first)]).exits(0).says("was taken in before");
    // The numbers stay where they were: forward it goes without a word, and to nothing in between.
    let receipt = gate.world.path("receipt");
    gate.run("adam", &["import", text(&first), "--receipt-out", text(&receipt)]).exits(0);
    let told: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(told["receipt"]["last"]["number"], 2);
    gate.run("adam", &["import", text(&second)]).exits(0);
    assert_eq!(published(&gate.high), of_second);

    // The sender denies something, of which no feed tells.
    gate.low.run(&["block", "main", "fresh", "--reason", "stolen name"]).exits(0);
    let third = gate.export(&["--receipt", text(&receipt)]);
    gate.run("adam", &["import", text(&third)]).exits(0);
    gate.run("adam", &[&["import", text(&second)], &back[2..]].concat())
        .exits(1)
        .says("would come back")
        .says("fresh");
    // Not in two steps either, the first of which leads to where it was not there yet.
    gate.run("adam", &back).exits(1).says("going back");
    gate.confirm("alma").exits(0);
    assert_eq!(published(&gate.high), of_first);
    gate.run("adam", &[&["import", text(&second)], &back[2..]].concat())
        .exits(1)
        .says("would come back")
        .says("fresh");
    assert_eq!(published(&gate.high), of_first);
    is_whole(&gate.high);
    assert!(Path::new(&receipt).exists());
}
