//! What is ruled at one station, told to another as VEX.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::advisory::FeedKind;
use airlock_core::assess::Justification;
use airlock_core::assess::Statements;
use airlock_core::decision::{Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::matching::Status;
use airlock_core::spec::Spec;
use airlock_core::trie::TreeId;
use airlock_engine::{decide, explain, feeds, vex};
use airlock_formats::feeds::vex::write::{csaf, openvex};
use airlock_testkit::{Kit, conda, osv, sdist, wheel};
use serde_json::{Value, json};

/// A station that offers vulnerable packages of both ecosystems, and the hash of a wheel.
async fn station() -> (Kit, Digest) {
    let records = [
        osv("PYSEC-1", "PyPI", "openssl-py", "9", 9.0),
        osv("PYSEC-2", "PyPI", "django", "9", 9.0),
        osv("PYSEC-3", "PyPI", "django", "9", 9.0),
        osv("PYSEC-4", "PyPI", "flask", "9", 9.0),
    ];
    let kit = Kit::new(&records).await;
    kit.identify(&json!({"openssl": "openssl-py"})).await;
    let mut source = kit.conda_source("conda-source");
    source.add(&conda("openssl", "3.0.8"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    let mut source = kit.pypi_source("pypi-source");
    let mut flask = None;
    for name in ["django", "flask"] {
        flask = Some(Digest::of(&source.add_wheel(&wheel(name, "4.2"), &json!({}))));
        source.add_sdist(&sdist(name, "4.2"), &json!({}));
    }
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("main").await;
    kit.sync("py").await;
    (kit, flask.unwrap())
}

/// File, vulnerability, state and reason of everything in a channel.
async fn states(kit: &Kit, channel: &str) -> Vec<(String, String, Status, String)> {
    let view = kit.view();
    let channel = view.channel(channel).await.unwrap().unwrap();
    let all = Spec::parse(channel.channel.ecosystem, "*").unwrap();
    let mut out = Vec::new();
    for artifact in explain::explain(&view, &channel, &all).await.unwrap().artifacts {
        for finding in artifact.findings {
            let reason = finding.assessed.map(|a| a.reason).unwrap_or_default();
            out.push((artifact.artifact.clone(), finding.advisory, finding.status, reason));
        }
    }
    out.sort();
    out
}

async fn written(kit: &Kit, channel: &str) -> (Value, Value) {
    let view = kit.view();
    let channel = view.channel(channel).await.unwrap().unwrap();
    let document = vex::document(&view, &channel).await.unwrap();
    (openvex(&document), csaf(&document))
}

#[tokio::test]
async fn what_one_station_rules_another_reads_and_comes_to_the_same() {
    let (kit, flask) = station().await;
    let rule = async |channel: &str, spec: &str, id: &str, status, justification| {
        let (scope, why) = (Scope::of(channel, spec), format!("{id} was looked at"));
        decide::status(&kit.station, scope, (id, status), justification, &why, None).await.unwrap();
        kit.judge(channel).await;
    };
    let unreached = Some(Justification::VulnerableCodeNotInExecutePath);
    rule("main", "openssl", "PYSEC-1", Status::Cleared, unreached).await;
    rule("py", "django", "PYSEC-2", Status::Mitigated, None).await;
    rule("py", "django", "PYSEC-3", Status::Disputed, None).await;
    // Only one file of a release.
    let scope = Scope { sha256: Some(flask), ..Scope::of("py", "flask") };
    decide::status(&kit.station, scope, ("PYSEC-4", Status::Cleared), unreached, "this file only", None)
        .await
        .unwrap();
    kit.judge("py").await;
    kit.sync("py").await;

    for form in [0, 1] {
        let (other, _) = station().await;
        for channel in ["main", "py"] {
            let (open, csaf) = written(&kit, channel).await;
            let document = if form == 0 { open } else { csaf };
            let path = other.write(&format!("{channel}.json"), document.to_string().as_bytes());
            feeds::add(&other.station, FeedKind::Vex, &path.display().to_string()).await.unwrap();
        }
        feeds::update(&other.station, &[]).await.unwrap();
        for channel in ["main", "py"] {
            let ruling =
                Ruling::Statements { scope: Scope::of(channel, "*"), source: format!("vex-{channel}") };
            decide::decide(&other.station, ruling, "we work together", None).await.unwrap();
            other.sync(channel).await;
            other.judge(channel).await;
            assert_eq!(states(&kit, channel).await, states(&other, channel).await, "{channel} {form}");
        }
    }
    // What a document says beyond that is kept as it was written.
    let (open, _) = written(&kit, "py").await;
    let (other, _) = station().await;
    let path = other.write("py.json", open.to_string().as_bytes()).display().to_string();
    let name = feeds::add(&other.station, FeedKind::Vex, &path).await.unwrap();
    feeds::update(&other.station, &[]).await.unwrap();
    let head = feeds::head_of(&other.station, &name).await.unwrap().unwrap();
    let tree = TreeId::<Id<Statements>>::new(head.content);
    let raw = airlock_core::canon::Canonical::parse(&open.to_string()).unwrap();
    let db = &other.station.store.db;
    let key = airlock_core::assess::document_key(&raw);
    let found = airlock_engine::tree_edit::find_many(db, tree, [key.as_str()]).await.unwrap();
    assert_eq!(db.get(found[&key]).await.unwrap().document, Some(raw));
    let purls: Vec<&str> = open["statements"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["products"].as_array().unwrap())
        .map(|p| p["@id"].as_str().unwrap())
        .collect();
    // A release that was ruled as a whole goes by its version; one file of one by its name.
    assert_eq!(
        purls,
        [
            "pkg:pypi/django@4.2",
            "pkg:pypi/django@4.2",
            "pkg:pypi/flask@4.2?file_name=flask-4.2-py3-none-any.whl"
        ]
    );
}
