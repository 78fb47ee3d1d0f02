//! A child channel adds to what its parent restricts, and never lifts any of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::decision::{Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::judge::{self, How};
use airlock_engine::publish::{self, Along};
use airlock_engine::view::FileAnswer;
use airlock_engine::{channel, child, decide, fsck, gc, policy, replay, sync};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

fn below(name: &str) -> Channel {
    let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: None };
    Channel { name: name.to_owned(), ecosystem: Ecosystem::Conda, feed, policy: "default".to_owned() }
}

/// `main` with three packages, its child `main/dev` and that one's child `main/dev/ada`.
async fn kit() -> Kit {
    let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "other", "2", 7.5)]).await;
    kit.identify(&json!({"good": "good", "bad": "bad", "other": "other"})).await;
    let mut source = kit.conda_source("source");
    for (name, version) in [("good", "1.0"), ("bad", "1.0"), ("other", "1.0"), ("other", "2.0")] {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    for name in ["main/dev", "main/dev/ada"] {
        channel::add(&kit.station, below(name)).await.unwrap();
        kit.sync(name).await;
    }
    kit
}

/// The files that a channel offers.
async fn offered(kit: &Kit, name: &str) -> Vec<String> {
    let view = kit.view();
    let channel = view.channel(name).await.unwrap().unwrap();
    let mut out = Vec::new();
    for id in view.content(&channel).await.unwrap().into_values() {
        out.extend(view.object(id).await.unwrap().entries.keys().cloned());
    }
    out.sort();
    out
}

async fn file(kit: &Kit, name: &str, package: &str) -> FileAnswer {
    let view = kit.view();
    let channel = view.channel(name).await.unwrap().unwrap();
    view.file(&channel, &format!("noarch/{package}"), &format!("{package}-1.0-0.conda")).await.unwrap()
}

const THREE: [&str; 3] = ["bad-1.0-0.conda", "good-1.0-0.conda", "other-2.0-0.conda"];

#[tokio::test]
async fn a_child_offers_what_its_parent_does_and_says_why_the_rest_is_not_there() {
    let kit = kit().await;
    for name in ["main", "main/dev", "main/dev/ada"] {
        assert_eq!(offered(&kit, name).await, THREE, "{name}");
        assert!(matches!(file(&kit, name, "good").await, FileAnswer::Serve(_)), "{name}");
        let FileAnswer::Withheld { reason, .. } = file(&kit, name, "other").await else { panic!("{name}") };
        assert!(reason.contains("cvss-above-7: PYSEC-1"), "{name}: {reason}");
    }
    // What lifts the rule in the child lifts nothing in the parent.
    let waive = Ruling::Waive {
        rule: "cvss-above-7".to_owned(),
        scope: Scope::of("main/dev", "other"),
        advisory: Some("PYSEC-1".to_owned()),
    };
    decide::decide(&kit.station, waive, "r", Some("2027-01-01".parse().unwrap())).await.unwrap();
    kit.judge("main/dev").await;
    assert_eq!(offered(&kit, "main/dev").await, THREE);
}

#[tokio::test]
async fn what_a_parent_denies_is_denied_in_its_children_before_they_are_judged() {
    let kit = kit().await;
    // Only the parent's block set knows of it yet.
    kit.block("main", "bad").await;
    for name in ["main", "main/dev", "main/dev/ada"] {
        assert!(matches!(file(&kit, name, "bad").await, FileAnswer::Withheld { .. }), "{name}");
    }
    // Then only the parent was judged, as when that was broken off behind it: its snapshots of the past are no way either.
    let main = channel::find(&kit.station, "main").await.unwrap();
    sync::rejudge(&kit.station, &main, &How::default(), false, "test").await.unwrap();
    let dev = channel::find(&kit.station, "main/dev").await.unwrap();
    assert!(child::is_behind(&kit.station, &dev).await.unwrap());
    let view = kit.view();
    let past = view.channel_at("main/dev", &kit.now().await.date()).await.unwrap().unwrap();
    let answer = view.file(&past, "noarch/bad", "bad-1.0-0.conda").await.unwrap();
    assert!(matches!(answer, FileAnswer::Withheld { .. }));
    let judged = sync::descend(&kit.station, &["main"], "test").await.unwrap();
    let names: Vec<&str> = judged.outcomes.iter().map(|o| o.channel.as_str()).collect();
    assert_eq!(names, ["main/dev", "main/dev/ada"]);
    assert!(!child::is_behind(&kit.station, &dev).await.unwrap());
    for name in ["main", "main/dev", "main/dev/ada"] {
        assert_eq!(offered(&kit, name).await, THREE[1..], "{name}");
    }
}

#[tokio::test]
async fn a_childs_own_policy_and_filters_only_take_away() {
    let kit = kit().await;
    let text = "[policy]\nname = \"strict\"\n[[rule]]\nname = \"no-bad\"\naction = \"deny\"\nwhen = { name = [\"bad\"] }\n";
    policy::set(&kit.station, "strict", text).await.unwrap();
    let strict = Channel { policy: "strict".to_owned(), ..below("main/strict") };
    channel::add(&kit.station, strict).await.unwrap();
    kit.sync("main/strict").await;
    assert_eq!(offered(&kit, "main/strict").await, THREE[1..]);
    let feed = ChannelFeed::Parent { only: vec!["o*".to_owned()], exclude: Vec::new(), exactly: None };
    channel::add(&kit.station, Channel { feed, ..below("main/few") }).await.unwrap();
    kit.sync("main/few").await;
    assert_eq!(offered(&kit, "main/few").await, THREE[2..]);
    let files = || -> channel::Exactly {
        [("noarch/good".to_owned(), ["good-1.0-0.conda".to_owned(), "not-there".to_owned()].into())].into()
    };
    let error = channel::set_exactly(&kit.station, "main/few", files()).await.unwrap_err();
    assert!(error.message.contains("which would take of these files"), "{error}");
    channel::set_exactly(&kit.station, "main/dev", files()).await.unwrap();
    kit.sync("main/dev").await;
    assert_eq!(offered(&kit, "main/dev").await, THREE[1..2]);
}

#[tokio::test]
async fn what_leaves_a_parent_soon_is_announced_where_a_child_has_it_and_nowhere_else() {
    let kit = kit().await;
    let feed = ChannelFeed::Parent { only: vec!["o*".to_owned()], exclude: Vec::new(), exactly: None };
    channel::add(&kit.station, Channel { feed, ..below("main/few") }).await.unwrap();
    kit.sync("main/few").await;
    let rule = "name = \"r\"\naction = \"deny\"\ngrace = \"7 days\"\nwhen = { name = [\"bad\", \"other\"] }";
    policy::set(&kit.station, "default", &format!("[policy]\nname = \"p\"\n[[rule]]\n{rule}\n"))
        .await
        .unwrap();
    kit.judge("main").await;
    let view = kit.view();
    for (name, expected) in
        [("main", &["bad-1.0-0.conda", "other-2.0-0.conda"][..]), ("main/few", &THREE[2..])]
    {
        let channel = view.channel(name).await.unwrap().unwrap();
        let leaving = view.leaving(&channel).await.unwrap();
        assert_eq!(leaving.leaving().map(|(_, file, _)| file).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_child_is_published_from_no_parent_of_before() {
    let kit = kit().await;
    let dev = channel::find(&kit.station, "main/dev").await.unwrap();
    policy::set(
        &kit.station,
        "default",
        "[policy]\nname = \"open\"\n[[rule]]\nname = \"kev\"\naction = \"deny\"\nwhen = { kev = true }\n",
    )
    .await
    .unwrap();
    let judgment = judge::judge(&kit.station, &dev, &How::default(), None).await.unwrap();
    assert!(!judgment.unchanged);
    kit.judge("main").await;
    let error = publish::publish(&kit.station, &judgment, Along::default(), "test").await.unwrap_err();
    assert!(error.is_race, "{error}");
}

#[tokio::test]
async fn a_child_is_replayed_collected_checked_and_carried_like_any_channel() {
    let kit = kit().await;
    let view = kit.view();
    let dev = view.channel("main/dev").await.unwrap().unwrap();
    assert!(replay::replay(&kit.station, "main/dev", dev.id).await.unwrap().equal);
    let grace = airlock_core::time::Span::seconds(0);
    gc::gc(&kit.station, gc::How { dry: false, grace, now: std::time::SystemTime::now() }).await.unwrap();
    assert!(fsck::fsck(&kit.station, &fsck::What::default()).await.unwrap().damages.is_empty());
    // What became known of the parent's packages is judged there before the child leaves.
    kit.know(&[osv("PYSEC-2", "PyPI", "good", "2", 9.0)]).await;
    let disk = kit.path().join("disk");
    let what = What { channels: ["main/dev".to_owned()].into(), ..What::default() };
    export::export(&kit.station, &disk, &what).await.unwrap();
    let manifest = std::fs::read_to_string(disk.join("AIRLOCK.json")).unwrap();
    assert!(manifest.contains("bad-1.0-0.conda") && !manifest.contains("good-1.0-0.conda"));
    assert_eq!(offered(&kit, "main").await, [THREE[0], THREE[2]]);
}

#[tokio::test]
async fn families_are_checked_where_they_are_made() {
    let kit = kit().await;
    let refused = async |channel: Channel| channel::add(&kit.station, channel).await.unwrap_err().message;
    assert!(refused(below("nowhere/dev")).await.contains("no channel `nowhere`"));
    assert!(refused(below("alone")).await.contains("has no parent"));
    assert!(refused(below("main/simple")).await.contains("cannot name a channel"));
    let pypi = Channel { ecosystem: Ecosystem::Pypi, ..below("main/py") };
    assert!(refused(pypi).await.contains("is of ecosystem conda"));
    let source = kit.path().join("source").display().to_string();
    let feed = ChannelFeed::Source { location: source, subdirs: vec![], only: vec![], exclude: vec![] };
    assert!(refused(Channel { feed, ..below("main/own") }).await.contains("reads from that"));
}
