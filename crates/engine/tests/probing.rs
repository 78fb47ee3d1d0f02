//! Artifacts that only what they say of themselves could release: fetched, opened, and kept from everybody until then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::ecosystem::Ecosystem;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::fetch::Probing;
use airlock_engine::policy;
use airlock_engine::view::FileAnswer;
use airlock_formats::make::Wheel;
use airlock_testkit::{Kit, osv, wheel};
use serde_json::json;

/// Nothing but MIT, and nothing that has no score.
const POLICY: &str = r#"
[policy]
name = "default"
[[rule]]
name = "licences"
action = "deny"
when = { not = { licence = ["MIT"] } }
[[rule]]
name = "unscored"
action = "hold"
when = { cvss = "missing" }
"#;

/// A station with wheels of these names and licences in a source.
async fn kit(wheels: &[(&str, &str)]) -> Kit {
    let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "unscored", "2", 0.0)]).await;
    policy::set(&kit.station, "default", POLICY).await.unwrap();
    let mut source = kit.pypi_source("pypi");
    for (name, license) in wheels {
        source.add_wheel(&Wheel { license, ..wheel(name, "1.0") }, &json!({}));
    }
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit
}

async fn is_served(kit: &Kit, name: &str) -> bool {
    let view = kit.view();
    let channel = view.channel("py").await.unwrap().unwrap();
    let file = format!("{name}-1.0-py3-none-any.whl");
    matches!(view.file(&channel, name, &file).await.unwrap(), FileAnswer::Serve(_))
}

#[tokio::test]
async fn what_only_its_own_licence_could_release_is_opened_and_kept_from_everybody_until_it_does() {
    let kit = kit(&[("free", "MIT"), ("bound", "Proprietary"), ("silent", ""), ("unscored", "MIT")]).await;
    let outcome = kit.sync("py").await;
    let counts = outcome.counts;
    assert_eq!((counts.admit, counts.hold, counts.deny), (1, 2, 1), "{:?}", outcome.fetched);
    // What a person has to look at anyway is not fetched for that.
    assert_eq!((outcome.fetched.files, outcome.fetched.probed, outcome.fetched.unprobed), (3, 3, 0));
    assert!(is_served(&kit, "free").await);
    for name in ["bound", "silent", "unscored"] {
        assert!(!is_served(&kit, name).await, "{name}");
    }
    // Nor does it leave on a disk.
    let disk = kit.path().join("disk");
    assert_eq!(export::export(&kit.station, &disk, &What::default()).await.unwrap().files, 2);
    let manifest = std::fs::read_to_string(disk.join("AIRLOCK.json")).unwrap();
    assert!(manifest.contains("free-1.0"));
    for name in ["bound", "silent", "unscored"] {
        assert!(!manifest.contains(name), "{name}");
    }
    // It is opened once.
    let again = kit.sync("py").await;
    assert_eq!((again.fetched.files, again.counts), (0, counts));
}

#[tokio::test]
async fn a_run_opens_what_its_budget_allows_and_the_next_one_goes_on() {
    let mut kit = kit(&[("one", "MIT"), ("two", "MIT"), ("three", "MIT")]).await;
    kit.station.config.probing = Probing { files: 1, ..Probing::default() };
    for (admitted, waiting) in [(1, 2), (2, 1), (3, 0)] {
        let outcome = kit.sync("py").await;
        assert_eq!((outcome.counts.admit, outcome.fetched.unprobed), (admitted, waiting));
        let mut served = 0;
        for name in ["one", "two", "three"] {
            served += u64::from(is_served(&kit, name).await);
        }
        assert_eq!(served, admitted);
    }
}

#[tokio::test]
async fn what_is_only_warned_of_is_fetched_whatever_the_budget() {
    let mut kit = kit(&[("one", "Proprietary"), ("two", "MIT")]).await;
    kit.station.config.probing = Probing { files: 0, bytes: 0 };
    policy::set(&kit.station, "default", &POLICY.replacen("\"deny\"", "\"warn\"", 1)).await.unwrap();
    let outcome = kit.sync("py").await;
    assert_eq!((outcome.counts.admit, outcome.counts.hold), (2, 0));
    assert_eq!((outcome.fetched.probed, outcome.fetched.unprobed), (0, 0));
}
