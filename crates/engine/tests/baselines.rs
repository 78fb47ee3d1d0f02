//! How much one baseline may accept, so that decisions can always be made and read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use airlock_core::decision::{Accepted, Ruling, Scope, Weighed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_engine::decide;
use airlock_testkit::Kit;

async fn filled() -> Kit {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&airlock_testkit::conda("x", "1.0"), &serde_json::json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, &kit.path().join("source"), &[]).await;
    kit
}

async fn accept(kit: &Kit, files: BTreeMap<String, Accepted>) -> Result<(), String> {
    let ruling = Ruling::Baseline { scope: Scope::of("main", "*"), files };
    let until = Some("2100-01-01".parse().unwrap());
    decide::decide(&kit.station, ruling, "r", until).await.map(|_| ()).map_err(|e| e.to_string())
}

fn files(count: usize, rule: &str) -> BTreeMap<String, Accepted> {
    let weighed = Weighed {
        rule: rule.to_owned(),
        said: Digest::of(b""),
        advisory: None,
        known: Digest::of(b""),
        unknown: false,
    };
    let file = Accepted { sha256: None, weighed: vec![weighed] };
    (0..count).map(|n| (format!("noarch/x-{n}-0.conda"), file.clone())).collect()
}

#[tokio::test]
async fn a_baseline_of_too_many_files_is_refused() {
    let kit = filled().await;
    let refused = accept(&kit, files(50_001, "r")).await.unwrap_err();
    assert!(refused.contains("50001 files are too many for one baseline"), "{refused}");
    accept(&kit, files(1, "r")).await.unwrap();
}

#[tokio::test]
async fn what_is_weighed_never_takes_the_room_that_a_block_needs() {
    let kit = filled().await;
    let long = "r".repeat(33 << 20);
    accept(&kit, files(1, &long)).await.unwrap();
    let refused = accept(&kit, files(1, &long)).await.unwrap_err();
    assert!(refused.contains("larger than 64 MiB"), "{refused}");
    kit.block("main", "x").await;
}
