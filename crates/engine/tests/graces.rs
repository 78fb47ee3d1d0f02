//! A grace over time: replayed when it is forgotten, held against a deadline when a channel goes back, told of in children.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::snapshot::Snapshot;
use airlock_core::spec::Spec;
use airlock_core::time::Span;
use airlock_engine::{channel, explain, history, policy, replay};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

async fn newest(kit: &Kit) -> Id<Snapshot> {
    Id::new(kit.station.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap())
}

/// A policy of these rules, under a name.
async fn rules(kit: &Kit, name: &str, rules: &[&str]) {
    let quiet = "name = \"quiet\"\naction = \"warn\"\nwhen = { yanked = true }";
    let rules: String = rules.iter().chain([&quiet]).map(|rule| format!("[[rule]]\n{rule}\n")).collect();
    let text = format!("[policy]\nname = \"p\"\nhold_deadline = \"14 days\"\n{rules}");
    policy::set(&kit.station, name, &text).await.unwrap();
}

#[tokio::test]
async fn what_was_judged_after_a_grace_was_forgotten_is_replayed_as_it_is() {
    let mut kit = Kit::new(&[]).await;
    kit.identify(&json!({"idna": "idna", "other": "other"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("idna", "3.6"), &json!({}));
    source.add(&conda("other", "1.0"), &json!({}));
    source.write();
    let rule = "name = \"r\"\naction = \"deny\"\ngrace = \"7 days\"\nwhen = { cvss = { above = 7.0 } }";
    rules(&kit, "default", &[rule]).await;
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let graced = async |kit: &Kit| {
        let view = kit.view();
        let channel = view.channel("main").await.unwrap().unwrap();
        let judgement = view.judgement(&channel, "noarch/idna").await.unwrap().unwrap();
        judgement.artifacts.values().next().unwrap().graced.clone()
    };
    kit.know(&[osv("PYSEC-1", "PyPI", "idna", "4", 9.0)]).await;
    kit.judge("main").await;
    kit.pass(Span::days(1));
    kit.know(&[osv("PYSEC-1", "PyPI", "idna", "4", 2.0)]).await;
    kit.judge("main").await;
    assert!(graced(&kit).await.unwrap().forgotten_at.is_some());
    // The end that was announced passes, and some days later another package gets a file.
    kit.pass(Span::days(6));
    kit.judge("main").await;
    kit.pass(Span::days(5));
    source.add(&conda("other", "2.0"), &json!({}));
    source.write();
    kit.sync("main").await;
    let replayed = replay::replay(&kit.station, "main", newest(&kit).await).await.unwrap();
    assert!(replayed.equal, "{replayed:?}");
    assert_eq!(graced(&kit).await, None);
}

#[tokio::test]
async fn going_back_takes_no_deadline_away_for_a_grace_that_ends_later() {
    for (grace, goes) in [(30, false), (7, true)] {
        let mut kit = Kit::new(&[]).await;
        let mut source = kit.conda_source("source");
        source.add(&conda("other", "1.0"), &json!({}));
        source.write();
        let look = "name = \"look\"\naction = \"hold\"\nwhen = { yanked = true }";
        rules(&kit, "default", &[look]).await;
        kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        kit.sync("main").await;
        let first = newest(&kit).await;
        kit.pass(Span::days(7));
        source.add(&conda("other", "1.0"), &json!({"revoked": true}));
        source.write();
        // It is offered for 14 days until somebody looked, and denied when its grace ends.
        let deny = format!(
            "name = \"no-other\"\naction = \"deny\"\ngrace = \"{grace} days\"\nwhen = {{ name = [\"other\"] }}"
        );
        rules(&kit, "default", &[look, &deny]).await;
        kit.sync("main").await;
        let main = channel::find(&kit.station, "main").await.unwrap();
        let went = history::rollback(&kit.station, &main, first, "r", true).await;
        assert_eq!(went.is_ok(), goes, "{grace}: {went:?}");
        if let Err(error) = went {
            assert!(error.message.contains("noarch/other-1.0-0.conda"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_child_says_of_what_its_parent_lets_leave_from_when_on_it_is_denied() {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("bad", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let sooner = "name = \"sooner\"\naction = \"deny\"\ngrace = \"3 days\"\nwhen = { name = [\"bad\"] }";
    for (name, its) in [("main/dev", "inherited"), ("main/strict", "strict")] {
        let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: None };
        rules(&kit, "strict", &[]).await;
        let child = Channel { name: name.into(), ecosystem: Ecosystem::Conda, feed, policy: its.into() };
        channel::add(&kit.station, child).await.unwrap();
        kit.sync(name).await;
    }
    rules(&kit, "strict", &[sooner]).await;
    rules(&kit, "default", &[&sooner.replace("sooner", "later").replace('3', "7")]).await;
    for name in ["main", "main/dev", "main/strict"] {
        kit.judge(name).await;
    }
    let now = kit.now().await;
    let told = async |name: &str| {
        let view = kit.view();
        let channel = view.channel(name).await.unwrap().unwrap();
        let spec = Spec::parse(Ecosystem::Conda, "bad").unwrap();
        let told = explain::explain(&view, &channel, &spec).await.unwrap().artifacts.remove(0);
        (told.verdict, told.denied_from)
    };
    for (name, days) in [("main", 7), ("main/dev", 7), ("main/strict", 3)] {
        assert_eq!(told(name).await, ("admitted", Some(now.after(Span::days(days)))), "{name}");
    }
    // What a person blocks there leaves no more: it is not there.
    kit.block("main", "bad").await;
    for name in ["main", "main/dev", "main/strict"] {
        assert_eq!(told(name).await.0, "denied", "{name}");
    }
    assert_eq!(told("main/dev").await.1, None);
}
