//! A block acts before anything is judged, and nothing that was judged before it gets past it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::ecosystem::Ecosystem;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::judge::{self, How};
use airlock_engine::publish::{self, Along};
use airlock_engine::view::FileAnswer;
use airlock_engine::{channel, sync};
use airlock_testkit::{Kit, conda};
use serde_json::json;

async fn kit() -> Kit {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("good", "1.0"), &json!({}));
    source.add(&conda("bad", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    kit
}

#[tokio::test]
async fn a_blocked_file_is_refused_before_anything_is_judged() {
    let kit = kit().await;
    let view = kit.view();
    let answer = |file: &'static str| {
        let view = &view;
        async move {
            let channel = view.channel("main").await.unwrap().unwrap();
            view.file(&channel, "noarch/bad", file).await.unwrap()
        }
    };
    assert!(matches!(answer("bad-1.0-0.conda").await, FileAnswer::Serve(_)));
    kit.block("main", "bad").await;
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let refused = view.file(&channel, "noarch/bad", "bad-1.0-0.conda").await.unwrap();
    assert!(matches!(refused, FileAnswer::Withheld { reason, .. } if reason.contains("a test says so")));
}

#[tokio::test]
async fn what_was_judged_before_a_block_is_not_published_after_it() {
    let kit = kit().await;
    let channel = channel::find(&kit.station, "main").await.unwrap();
    kit.know(&[airlock_testkit::osv("PYSEC-9", "PyPI", "x", "2", 7.5)]).await;
    let judgment = judge::judge(&kit.station, &channel, &How::default(), None).await.unwrap();
    assert!(!judgment.unchanged);
    kit.block("main", "bad").await;
    let error = publish::publish(&kit.station, &judgment, Along::default(), "test").await.unwrap_err();
    assert!(error.message.contains("run this one again"), "{error}");
    sync::rejudge(&kit.station, &channel, &How::default(), false, "test").await.unwrap();
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    assert!(channel.blocks.reason("noarch/bad", "bad-1.0-0.conda").is_some());
    assert_eq!(channel.snapshot.counts.deny, 1);
}

#[tokio::test]
async fn what_is_blocked_does_not_leave_on_a_disk_either() {
    let kit = kit().await;
    kit.block("main", "bad").await;
    let disk = kit.path().join("disk");
    let report = export::export(&kit.station, &disk, &What::default()).await.unwrap();
    assert_eq!(report.files, 1);
    let manifest = std::fs::read_to_string(disk.join("AIRLOCK.json")).unwrap();
    assert!(manifest.contains("good-1.0-0.conda") && !manifest.contains("bad-1.0-0.conda"));
}

#[tokio::test]
async fn a_snapshot_of_the_past_does_not_bring_back_what_is_blocked() {
    let kit = kit().await;
    kit.block("main", "bad").await;
    kit.judge("main").await;
    let view = kit.view();
    let now = kit.now().await;
    let newest = view.channel("main").await.unwrap().unwrap();
    let first = newest.snapshot.inputs.previous.unwrap();
    for when in [first.to_string(), now.date()] {
        let past = view.channel_at("main", &when).await.unwrap().unwrap();
        let answer = view.file(&past, "noarch/bad", "bad-1.0-0.conda").await.unwrap();
        assert!(matches!(answer, FileAnswer::Withheld { .. }), "{when}");
        let good = view.file(&past, "noarch/good", "good-1.0-0.conda").await.unwrap();
        assert!(matches!(good, FileAnswer::Serve(_)), "{when}");
    }
}
