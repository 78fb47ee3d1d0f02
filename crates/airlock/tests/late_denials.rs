//! What was let in, and is denied before it leaves: by an advisory that arrives, an approval that is taken back, a waiver
//! that ends. Real clients ask both stations, and both ledgers say why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use airlock_testkit::{conda, osv, wheel};
use common::clients::{fails_saying, python, rattler, succeeds};
use common::{Answer, Server, Station, World, airlock, text};
use serde_json::{Value, json};

/// When feeds are read for the last time before the export.
const READ: &str = "2026-03-14T12:00:00Z";
/// Behind the end of the waiver, and of the time for which what was offered stays when it comes to be held.
const LATER: &str = "2026-03-16T12:00:00Z";
/// What an advisory denies, what is let in no longer, and what is waived no longer.
const LATE: [&str; 3] = ["tree", "bush", "weed"];
const CHANNELS: [&str; 2] = ["main", "py"];

fn at(station: &Station, now: &str, args: &[&str]) -> Answer {
    let mut all = vec!["--station", text(&station.dir), "--now", now, "--quiet"];
    all.extend(args);
    airlock(&all)
}

/// `tree` and `bush` without a score, `weed` with one above 7, and `leaf`, against which nothing is known.
async fn world() -> World {
    let world = World::new().await;
    let mut source = world.kit.conda_source("conda");
    let mut index = world.kit.pypi_source("pypi");
    for name in LATE.into_iter().chain(["leaf"]) {
        for version in ["1.0", "2.0"] {
            source.add(&conda(name, version), &json!({}));
            index.add_wheel(&wheel(name, version), &json!({}));
        }
    }
    source.write();
    index.write();
    world.know(&known(0.0));
    let names = br#"{"tree":"tree","bush":"bush","weed":"weed","leaf":"leaf"}"#;
    world.kit.write("feeds/identities.json", names);
    world
}

/// What is known when `tree` has this score.
fn known(tree: f64) -> [Value; 3] {
    [
        osv("PYSEC-TREE", "PyPI", "tree", "2.0", tree),
        osv("PYSEC-BUSH", "PyPI", "bush", "2.0", 0.0),
        osv("PYSEC-WEED", "PyPI", "weed", "2.0", 9.0),
    ]
}

/// A person lets in all three. The decisions on `bush`.
fn let_in(station: &Station) -> Vec<String> {
    let mut on_bush = Vec::new();
    for channel in CHANNELS {
        for name in ["tree", "bush"] {
            station.run(&["explain", channel, &format!("{name}==1.0")]).exits(1).shows("unscored");
            let approve = ["review", "approve", channel, "--scope", name, "--reason", "looked at it"];
            let made = station.json(&approve);
            if name == "bush" {
                on_bush.push(made["decision"]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned());
            }
        }
        let waive = [
            "review",
            "waive",
            channel,
            "--scope",
            "weed==1.0",
            "--rule",
            "cvss-above-7",
            "--advisory",
            "PYSEC-WEED",
            "--expires",
            "2026-03-15",
            "--reason",
            "no other way until then",
        ];
        station.run(&waive).exits(0);
    }
    on_bush
}

/// Whether pip and rattler get version 1.0 of each.
fn install(python: &Path, world: &World, server: &Server, into: &str) {
    let (pip, conda) = (world.path(&format!("{into}-pip")), world.path(&format!("{into}-conda")));
    succeeds(with_pip(python, server, &pip, &LATE.map(|name| format!("{name}==1.0"))));
    let specs = LATE.map(|name| format!("{name} ==1.0"));
    let asked = [specs.iter().map(String::as_str).collect()];
    rattler(python, &server.url("conda/main"), &json!([]), text(&conda), &asked);
    for name in LATE {
        assert!(pip.join(format!("{name}-1.0.dist-info/METADATA")).is_file());
        assert!(conda.join(format!("conda-meta/{name}-1.0-0.json")).is_file());
    }
}

fn with_pip(python: &Path, server: &Server, target: &Path, specs: &[String]) -> Command {
    let mut command = Command::new(python);
    let index = server.url("pypi/py/simple/");
    command.args([
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--isolated",
        "--upgrade",
    ]);
    command.args(["--index-url", &index, "--target"]).arg(target).args(specs);
    command
}

/// Clients find none of the three, but what nobody denies; who asks for a file by its address is told why.
fn is_refused(python: &Path, world: &World, server: &Server, into: &str) {
    let target = world.path(into);
    for (name, rule, advisory) in [
        ("tree", "cvss-above-7", "PYSEC-TREE"),
        ("bush", "unscored", "PYSEC-BUSH"),
        ("weed", "cvss-above-7", "PYSEC-WEED"),
    ] {
        let pip = with_pip(python, server, &target, &[format!("{name}==1.0")]);
        fails_saying(pip, "from versions: 2.0");
        let spec = format!("{name} ==1.0");
        let got = rattler(python, &server.url("conda/main"), &json!([]), "", &[vec![&spec], vec![name]]);
        assert_eq!(got, [vec![], vec![format!("noarch/{name}-2.0-0.conda")]]);
        for path in [
            format!("conda/main/noarch/{name}-1.0-0.conda"),
            format!("pypi/py/packages/{name}/{name}-1.0-py3-none-any.whl"),
        ] {
            let (status, body) = server.get(&path, "*/*");
            assert_eq!(status, 403, "{path}");
            let problem: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["nearest"], "2.0", "{problem}");
            let told = problem.to_string();
            assert!(told.contains(rule) && told.contains(advisory), "{told}");
        }
    }
    succeeds(with_pip(python, server, &target, &["leaf==1.0".to_owned()]));
}

/// The entries of a ledger that did one of these, oldest first.
fn entries(station: &Station, actions: &[&str]) -> Vec<Value> {
    let lines = at(station, LATER, &["ledger", "export"]).exits(0).stdout;
    let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone());
    all.filter(|entry| actions.contains(&entry["action"].as_str().unwrap())).collect()
}

/// Why a channel was published and how many verdicts changed by it, oldest first.
fn published(station: &Station, channel: &str) -> Vec<(String, u64)> {
    let all = entries(station, &["channel.publish"]).into_iter();
    let ours = all.filter(|entry| entry["subject"] == format!("channel/{channel}"));
    ours.map(|entry| {
        let detail = &entry["detail"];
        (detail["why"].as_str().unwrap().to_owned(), detail["changes"].as_u64().unwrap())
    })
    .filter(|(_, changes)| *changes > 0)
    .collect()
}

fn ledgers_say_why(low: &Station, behind: &[&Station], on_bush: &[String]) {
    for station in behind.iter().chain([&low]) {
        at(station, LATER, &["ledger", "verify"]).exits(0);
    }
    let revoked: Vec<Value> = entries(low, &["decision.add"]).split_off(6);
    let revoked = revoked.iter().map(|entry| entry["detail"]["ruling"]["revoke"]["decision"].clone());
    assert_eq!(revoked.collect::<Vec<_>>(), *on_bush);
    let expired = entries(low, &["decision.expire"]);
    assert_eq!(expired.len(), 2, "{expired:?}");
    assert!(expired.iter().all(|entry| entry["time"] == LATER), "{expired:?}");
    let exported = entries(low, &["bundle.export"]).pop().unwrap();
    for channel in CHANNELS {
        let whys = published(low, channel);
        let last: Vec<(&str, u64)> =
            whys.iter().rev().take(2).rev().map(|(why, n)| (why.as_str(), *n)).collect();
        assert_eq!(last, [("advisories update", 1), ("before export", 2)], "{whys:?}");
    }
    for station in behind {
        let imported = entries(station, &["bundle.import"]).pop().unwrap();
        assert_eq!(imported["detail"]["manifest"], exported["detail"]["manifest"]);
        let head = imported["detail"]["sender_ledger"]["number"].as_u64().unwrap();
        assert_eq!(
            head + 1,
            exported["number"].as_u64().unwrap(),
            "it binds all that the sender's ledger tells"
        );
        for channel in CHANNELS {
            let (why, _) = published(station, channel).pop().unwrap();
            assert!(why.starts_with("import 2 of low-"), "{why}");
        }
    }
}

#[tokio::test]
async fn what_was_let_in_and_is_denied_before_the_export_does_not_leave() {
    let Some(python) = python() else { return };
    let world = world().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let on_bush = let_in(&low);
    low.run(&["sync"]).exits(0);
    install(&python, &world, &low.serve(), "before");
    // A station that took them in while they were let in.
    let first = world.path("first");
    low.run(&["export", text(&first)]).exits(0);
    let early = world.station("early", "isolated");
    early.trust(&low);
    early.run(&["import", text(&first)]).exits(0);
    let_in(&early);
    install(&python, &world, &early.serve(), "early");

    // An advisory gets a score, and an approval is taken back.
    world.know(&known(9.8));
    low.run(&["advisories", "update"]).exits(0).shows("PYSEC-TREE");
    for id in &on_bush {
        low.run(&["review", "revoke", id, "--reason", "looked again"]).exits(0);
    }
    low.run(&["review", "queue", "main", "bush"]).exits(0).shows("offered until 2026-03-15");
    at(&low, READ, &["advisories", "update"]).exits(0);
    // Nobody judges when the waiver ends and the time of what was offered is over.
    for spec in ["bush==1.0", "weed==1.0"] {
        at(&low, READ, &["explain", "main", spec]).exits(0);
    }
    let second = world.path("second");
    at(&low, LATER, &["export", text(&second)]).exits(0);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(second.join("AIRLOCK.json")).unwrap()).unwrap();
    let names: Vec<&str> =
        manifest["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"tree-2.0-0.conda") && names.contains(&"leaf-1.0-py3-none-any.whl"), "{names:?}");
    assert!(
        !names.iter().any(|n| LATE.iter().any(|late| n.starts_with(&format!("{late}-1.0")))),
        "{names:?}"
    );
    airlock(&["verify", text(&second), "--key", text(&low.key())]).exits(0);

    // Neither who never had them nor who has them offers them after it.
    let high = world.station("high", "isolated");
    high.trust(&low);
    for (station, name) in [(&high, "high"), (&early, "early-later")] {
        at(station, LATER, &["import", text(&second)]).exits(0);
        is_refused(&python, &world, &station.serve_at(LATER), name);
    }
    let server = low.serve_at(LATER);
    for name in LATE {
        assert_eq!(server.get(&format!("conda/main/noarch/{name}-1.0-0.conda"), "*/*").0, 403, "{name}");
    }
    drop(server);
    ledgers_say_why(&low, &[&high, &early], &on_bush);
}
