//! Bundles that are published over HTTP and read from inside: on a bad link, after a run that was broken off, and changed on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::snapshot::Snapshot;
use airlock_engine::age::identity;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::pull;
use airlock_engine::error::Kind;
use airlock_engine::network::Period;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust;
use airlock_engine::upstream::Location;
use airlock_testkit::wire::{Act, Ranged, Request, Wire, answer};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

/// A station with some packages of a size that a bad link cuts, and one inside that may ask the loopback.
async fn two() -> (Kit, Station) {
    let low = Kit::new(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5)]).await;
    let mut source = low.conda_source("source");
    for n in 0..5u32 {
        let payload: Vec<u8> =
            (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761 + n) >> 13) as u8).collect();
        let content: [(&str, &[u8]); 1] = [("share/data", &payload)];
        let name = format!("p{n}");
        let mut package = conda(&name, "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
    }
    source.write();
    low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    low.sync("main").await;
    let options = low.station.options.clone();
    let mut high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
    high.config.hosts.push("127.0.0.1".to_owned());
    high.config.network.all.retry_base = Some(Period::milliseconds(3));
    let key = &low.station.key;
    trust::add(&high, "low", key.public(), &key.fingerprint(), trust::Limits::default()).await.unwrap();
    (low, high)
}

async fn exported(low: &Kit, what: &What) -> PathBuf {
    let disk = low.path().join("disk");
    export::export(&low.station, &disk, what).await.unwrap();
    disk
}

/// A file of a folder, over connections that bring so many bytes each.
fn served(folder: &Path, request: &Request, cut: usize) -> Vec<Act> {
    match std::fs::read(folder.join(request.target.trim_start_matches("/b/"))) {
        Ok(bytes) => Ranged { cut, ..Ranged::new(bytes) }.answer(request),
        Err(_) => answer("404 Not Found", &[], "no"),
    }
}

/// Artifacts that wait in an intake.
fn taken(staging: &Path) -> usize {
    let mut folders = vec![staging.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files += usize::from(entry.metadata().unwrap().len() > 1000),
            }
        }
    }
    files
}

async fn content(station: &Station) -> String {
    let id = station.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap();
    let snapshot: Snapshot = station.store.db.get(Id::new(id)).await.unwrap();
    snapshot.content.digest().to_string()
}

fn location(wire: &Wire) -> Location {
    Location::parse(&format!("{}/b", wire.base)).unwrap()
}

#[tokio::test]
async fn a_published_bundle_is_taken_in_over_a_link_that_breaks_and_nothing_is_fetched_twice() {
    for capacities in [vec![], vec![700_000]] {
        let (low, high) = two().await;
        let disk = exported(&low, &What { capacities: capacities.clone(), ..What::default() }).await;
        let folder = disk.clone();
        let good = Wire::start(move |request, _| served(&folder, request, 30_000)).await;
        // The first run meets a file that never comes, after the others came.
        let folder = disk.clone();
        let seen = std::sync::atomic::AtomicUsize::new(0);
        let bad = Wire::start(move |request, before| {
            let is_first = request.target.ends_with(".conda")
                && before == 0
                && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            match is_first || (request.target.ends_with(".conda") && before > 0) {
                true => vec![Act::Pause(std::time::Duration::from_millis(if is_first { 700 } else { 0 }))],
                false => served(&folder, request, usize::MAX),
            }
        })
        .await;
        let first = pull::import(&high, &location(&bad)).await;
        let whole = taken(&high.dir.join("blobs/staging"));
        assert!(whole > 0, "nothing came before");
        let done = pull::import(&high, &location(&good)).await.unwrap();
        assert_eq!((done.number, done.files, done.taken.incomplete.is_none()), (1, 5, true));
        assert_eq!(content(&high).await, content(&low.station).await);
        let names: Vec<String> = good.asked().into_iter().map(|r| r.target).collect();
        assert!(first.is_err(), "one file never came");
        let again: std::collections::BTreeSet<&String> =
            names.iter().filter(|n| n.ends_with(".conda")).collect();
        assert_eq!(again.len(), 5 - whole, "{names:?}");
        // No listing was asked for, and nothing but what the manifest names.
        assert!(names.iter().all(|name| !name.ends_with('/')), "{names:?}");
        // A second time nothing but what says so is fetched.
        assert!(pull::import(&high, &location(&good)).await.unwrap().again);
        assert!(good.asked().iter().all(|r| !r.target.ends_with(".conda")));
        let keys = vec![low.station.key.public()];
        let opened = pull::check(&high, &location(&good), keys, false).await.unwrap();
        assert_eq!(opened.manifest.number, 1);
    }
}

#[tokio::test]
async fn a_published_bundle_that_was_changed_or_is_a_strangers_is_refused_before_anything_counts() {
    let (low, high) = two().await;
    let disk = exported(&low, &What::default()).await;
    let folder = disk.clone();
    let wire = Wire::start(move |request, _| {
        let mut bytes = std::fs::read(folder.join(&request.target[3..])).unwrap_or_default();
        if request.target.ends_with(".conda")
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        Ranged::new(bytes).answer(request)
    })
    .await;
    let before = high.store.db.refs("").await.unwrap();
    let error = pull::import(&high, &location(&wire)).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("changed or is damaged"), "{error}");
    let error =
        pull::check(&high, &location(&wire), vec![low.station.key.public()], false).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe, "{error}");
    let folder = disk.clone();
    let wire = Wire::start(move |request, _| served(&folder, request, usize::MAX)).await;
    // Of whom nobody trusts nothing but the manifest is read.
    trust::revoke(&high, "low").await.unwrap();
    let error = pull::import(&high, &location(&wire)).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("not trusted"), "{error}");
    assert!(wire.asked().iter().all(|r| r.target.contains("AIRLOCK.")));
    let mut after = high.store.db.refs("").await.unwrap();
    after.extend(before.iter().filter(|(name, _)| name.starts_with("trust/")).map(|(n, d)| (n.clone(), *d)));
    assert_eq!(after, before);
    // Where it may not ask, it does not.
    let mut shut = high;
    shut.config.hosts.clear();
    let error = pull::import(&shut, &location(&wire)).await.unwrap_err();
    assert!(error.message.contains("may not connect to `127.0.0.1`"), "{error:?}");
}

#[tokio::test]
async fn a_published_bundle_that_is_sealed_comes_in_where_it_is_sealed_to_and_nobody_else_fetches_its_files()
{
    let (low, high) = two().await;
    let seal = identity::ensure(&high, false).await.unwrap();
    let disk = exported(&low, &What { seal, capacities: vec![700_000], ..What::default() }).await;
    let wire = Wire::start(move |request, _| served(&disk, request, usize::MAX)).await;
    let (own, aside) = (identity::path(&high.dir), high.dir.join("aside"));
    std::fs::rename(&own, &aside).unwrap();
    let error = pull::import(&high, &location(&wire)).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("no identity"), "{error}");
    assert!(wire.asked().iter().all(|request| !request.target.contains("/files/")));
    let keys = vec![low.station.key.public()];
    pull::check(&high, &location(&wire), keys, false).await.unwrap();
    std::fs::rename(&aside, &own).unwrap();
    let done = pull::import(&high, &location(&wire)).await.unwrap();
    assert_eq!((done.files, done.taken.incomplete.is_none()), (5, true));
    assert_eq!(content(&high).await, content(&low.station).await);
}

#[tokio::test]
async fn a_file_that_has_to_come_from_its_beginning_again_comes() {
    let (low, high) = two().await;
    let disk = exported(&low, &What::default()).await;
    let folder = disk.clone();
    // No tag, no ranges: the first answer breaks off, and the next is the whole file.
    let wire = Wire::start(move |request, before| {
        let cut = if before == 0 { 50_000 } else { usize::MAX };
        let bytes = std::fs::read(folder.join(&request.target[3..])).unwrap();
        Ranged { cut, etag: String::new(), ..Ranged::new(bytes) }.answer(request)
    })
    .await;
    let done = pull::import(&high, &location(&wire)).await.unwrap();
    assert!(done.taken.incomplete.is_none(), "{done:?}");
    assert_eq!(content(&high).await, content(&low.station).await);
}

#[tokio::test]
async fn a_published_file_that_never_ends_is_left_where_the_manifest_ends_it() {
    let (low, high) = two().await;
    let disk = exported(&low, &What::default()).await;
    let folder = disk.clone();
    let wire = Wire::start(move |request, _| match request.target.ends_with(".conda") {
        true => {
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            vec![Act::Send(head), Act::Forever(vec![7; 1 << 16])]
        }
        false => served(&folder, request, usize::MAX),
    })
    .await;
    let before = high.store.db.refs("").await.unwrap();
    let error = pull::import(&high, &location(&wire)).await.unwrap_err();
    assert!(error.message.contains("is larger than"), "{error}");
    assert_eq!(high.store.db.refs("").await.unwrap(), before);
}
