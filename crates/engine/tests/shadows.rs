//! What moves when a channel gets another policy, or one beside its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::ecosystem::Ecosystem;
use airlock_engine::judge::{self, How};
use airlock_engine::publish::{self, Along};
use airlock_engine::{channel, policy, shadow, sync};
use airlock_testkit::{Kit, conda};
use serde_json::json;

const NO_X: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"no-x\"\naction = \"deny\"\nwhen = { name = [\"x\"] }\n";

const WARNS: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"w\"\naction = \"warn\"\nwhen = { name = [\"x\"] }\n";

async fn filled() -> Kit {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("x", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, &kit.path().join("source"), &[]).await;
    policy::set(&kit.station, "strict", NO_X).await.unwrap();
    policy::set(&kit.station, "default", WARNS).await.unwrap();
    kit.sync("main").await;
    kit
}

#[tokio::test]
async fn what_was_judged_before_a_channel_got_another_policy_is_not_published_after() {
    let kit = filled().await;
    let before = channel::find(&kit.station, "main").await.unwrap();
    policy::set(&kit.station, "other", NO_X).await.unwrap();
    let how = How { anew: true, ..How::default() };
    // Something to publish, so that it would be.
    kit.block("main", "y").await;
    let judged = judge::judge(&kit.station, &before, &how, None).await.unwrap();
    channel::set_policy(&kit.station, "main", "strict").await.unwrap();
    let refused = publish::publish(&kit.station, &judged, Along::default(), "test").await.unwrap_err();
    assert!(refused.is_race, "{refused}");
    // Whoever goes on with the channel as it was judges by what it is now.
    sync::rejudge(&kit.station, &before, &How::default(), false, "test").await.unwrap();
    let view = kit.view();
    let now = view.channel("main").await.unwrap().unwrap();
    assert_eq!(now.newest.counts.deny, 1);
    assert_eq!(now.newest.inputs.policy, policy::find(&kit.station, "strict").await.unwrap().id);
}

#[tokio::test]
async fn a_shadow_is_asked_again_when_the_channel_or_its_text_is_another_and_only_then() {
    let kit = filled().await;
    let main = channel::find(&kit.station, "main").await.unwrap();
    assert_eq!(shadow::ask(&kit.station, &main, true).await.unwrap(), None);
    assert!(shadow::set(&kit.station, &main, Some("strict")).await.unwrap());
    assert!(!shadow::set(&kit.station, &main, Some("strict")).await.unwrap());
    let entries = async || kit.station.store.db.ledger_head().await.unwrap().number;
    let denies = async || {
        let said = shadow::ask(&kit.station, &main, true).await.unwrap().unwrap().report.unwrap();
        (said.differences.newly.deny, said.snapshot)
    };
    let at = entries().await;
    let told = shadow::ask(&kit.station, &main, false).await.unwrap().unwrap();
    assert_eq!(told.report.unwrap().differences.newly.deny, 1);
    assert_eq!(entries().await, at, "it was told, and not kept");
    let (newly, first) = denies().await;
    assert_eq!(newly, 1);
    let at = entries().await;
    assert_eq!(denies().await, (1, first));
    assert_eq!(entries().await, at, "nothing to ask");
    policy::set(&kit.station, "strict", WARNS).await.unwrap();
    assert_eq!(denies().await, (0, first));
    policy::set(&kit.station, "strict", NO_X).await.unwrap();
    kit.block("main", "x").await;
    kit.judge("main").await;
    let (newly, second) = denies().await;
    assert_eq!(newly, 0, "it is denied by now");
    assert_ne!(first, second);
}
