//! What is known of vulnerabilities crosses by itself, in one file: a bundle of the same stream that brings no channel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use airlock_core::ecosystem::Ecosystem;
use airlock_core::time::Span;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{file, import, receipt};
use airlock_engine::error::Kind;
use airlock_engine::judge::How;
use airlock_engine::station::{Clock, Side, Station};
use airlock_engine::{channel, feeds, gc, sync, trust};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

struct Gap {
    low: Kit,
    high: Station,
}

impl Gap {
    async fn new() -> Self {
        let low = Kit::new(&[]).await;
        low.identify(&json!({"idna": "idna"})).await;
        let mut source = low.conda_source("source");
        source.add(&conda("idna", "3.6"), &json!({}));
        source.add(&conda("other", "1.0"), &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        let key = low.station.key.public();
        trust::add(&high, "low", key, &low.station.key.fingerprint(), trust::Limits::default())
            .await
            .unwrap();
        Self { low, high }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.low.path().join(name)
    }

    async fn receipt(&self) -> airlock_core::bundle::Base {
        let stream = export::stream_of(&self.low.station, None);
        let path = self.path("receipt.json");
        receipt::write(&self.high, &stream, None, &path).await.unwrap();
        receipt::read(&path).unwrap().last.unwrap()
    }

    async fn denied(&self) -> u64 {
        let channel = channel::find(&self.high, "main").await.unwrap();
        sync::rejudge(&self.high, &channel, &How::default(), true, "test").await.unwrap().counts.deny
    }
}

#[tokio::test]
async fn an_advisory_crosses_in_one_file_and_denies_without_a_package() {
    let gap = Gap::new().await;
    let full = export::export(&gap.low.station, &gap.path("disk"), &What::default()).await.unwrap();
    import::import(&gap.high, &gap.path("disk")).await.unwrap();
    assert_eq!((full.files, gap.denied().await), (2, 0));

    gap.low.know(&[osv("PYSEC-1", "PyPI", "idna", "3.7", 9.0)]).await;
    let base = Some(gap.receipt().await);
    let only = What { advisories: true, base, ..What::default() };
    let report = file::export(&gap.low.station, &gap.path("advisories.tar"), &only).await.unwrap();
    assert_eq!((report.number, report.files, report.channels.len()), (2, 0, 0));
    let left: Vec<_> = std::fs::read_dir(gap.low.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".tmp"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let came = file::import(&gap.high, &gap.path("advisories.tar")).await.unwrap();
    assert_eq!((came.number, came.files), (2, 0));
    assert_eq!(gap.denied().await, 1);
    assert_eq!(came.outcomes[0].counts.deny, 1, "it acts at once");

    // The same again is nothing new, an older one is refused, one that was changed too.
    assert!(file::import(&gap.high, &gap.path("advisories.tar")).await.unwrap().again);
    let again = export::export(&gap.low.station, &gap.path("disk-3"), &only).await.unwrap();
    assert_eq!(again.number, 3);
    let base = gap.receipt().await;
    import::import(&gap.high, &gap.path("disk-3")).await.unwrap();
    let error = file::import(&gap.high, &gap.path("advisories.tar")).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("older than bundle 3"), "{error}");
    let mut bytes = std::fs::read(gap.path("advisories.tar")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(gap.path("changed.tar"), bytes).unwrap();
    assert!(file::import(&gap.high, &gap.path("changed.tar")).await.is_err());

    // A bundle on top of it carries no package again: what its base left out, the one before brought.
    for station in [&gap.low.station, &gap.high] {
        let now = SystemTime::now() + Duration::from_secs(7 * 86_400);
        gc::gc(station, gc::How { dry: false, grace: Span::days(1), now }).await.unwrap();
    }
    let on_top = What { base: Some(base), ..What::default() };
    let next = export::export(&gap.low.station, &gap.path("disk-4"), &on_top).await.unwrap();
    assert_eq!((next.files, next.left_out), (0, 1), "{next:?}");
    import::import(&gap.high, &gap.path("disk-4")).await.unwrap();
}

#[tokio::test]
async fn the_age_of_what_crossed_is_that_of_the_reading_and_not_of_the_import() {
    let mut gap = Gap::new().await;
    gap.low.pass(Span::days(30));
    let file = gap.path("advisories.tar");
    let only = What { advisories: true, ..What::default() };
    file::export(&gap.low.station, &file, &only).await.unwrap();
    let read_at = feeds::heads(&gap.low.station).await.unwrap()["osv"].read_at;
    gap.high.options.clock = Clock::Fixed(gap.low.now().await);
    file::import(&gap.high, &file).await.unwrap();
    let stream = export::stream_of(&gap.low.station, None);
    let heads = feeds::heads(&gap.high).await.unwrap();
    assert_eq!(heads[&format!("{stream}/osv")].read_at, read_at);
    // Where nothing was read there is nothing to hand over.
    let error = file::export(&gap.high, &gap.path("none.tar"), &only).await.map(|r| r.number);
    assert!(error.is_ok(), "an isolated station hands on what it was given");
    let options = gap.low.station.options.clone();
    let blank = Station::init(&gap.path("blank"), "blank", Side::Connected, options).await.unwrap();
    let error = file::export(&blank, &gap.path("none.tar"), &only).await.unwrap_err();
    assert!(error.message.contains("no feed was read"), "{error}");
}

#[tokio::test]
async fn a_bundle_states_the_oldest_layout_that_has_what_is_in_it() {
    let gap = Gap::new().await;
    let format = async |name: &str| {
        export::export(&gap.low.station, &gap.path(name), &What::default()).await.unwrap();
        let manifest = std::fs::read(gap.path(name).join("AIRLOCK.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&manifest).unwrap()["format"].as_u64()
    };
    assert_eq!(format("one").await, Some(1), "a station that was not updated reads it");
    let said =
        json!({"vulnerability": {"name": "CVE-1-1"}, "products": [{"@id": "pkg:pypi/x"}], "status": "fixed"});
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [said]});
    let path = gap.low.write("vex.json", vex.to_string().as_bytes()).display().to_string();
    feeds::add(&gap.low.station, airlock_core::advisory::FeedKind::Vex, &path).await.unwrap();
    feeds::update(&gap.low.station, &[]).await.unwrap();
    assert_eq!(
        format("two").await,
        Some(2),
        "one that does not know statements says that it is to be updated"
    );
    import::import(&gap.high, &gap.path("two")).await.unwrap();
}
