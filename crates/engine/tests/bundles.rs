//! Bundles that a trusted key signed and that are wrong all the same: nothing of them counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use airlock_core::bundle::Base;
use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::trie::TreeId;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{import, verify};
use airlock_engine::error::{Error, Kind};
use airlock_engine::station::{Side, Station};
use airlock_engine::{trees, trust};
use airlock_formats::make::CondaPackage;
use airlock_testkit::{Kit, conda, fuzz, osv, wheel};
use serde_json::{Value, json};

/// A sender that published one package, its bundle, and a receiver that trusts it.
struct Gap {
    low: Kit,
    high: Station,
    disks: usize,
}

impl Gap {
    async fn new() -> Self {
        let low = Kit::new(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5)]).await;
        let mut source = low.conda_source("source");
        source.add(&conda("good", "1.0"), &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        let key = low.station.key.public();
        trust::add(&high, "low", key, &low.station.key.fingerprint(), trust::Limits::default())
            .await
            .unwrap();
        Self { low, high, disks: 0 }
    }

    async fn export(&mut self) -> PathBuf {
        self.disks += 1;
        let disk = self.low.path().join(format!("disk-{}", self.disks));
        export::export(&self.low.station, &disk, &What::default()).await.unwrap();
        disk
    }

    /// Changes the manifest and signs it again with the sender's own key.
    fn forge(&self, disk: &Path, change: impl FnOnce(&mut Value)) {
        let path = disk.join("AIRLOCK.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        let text = Canonical::of(&manifest).unwrap();
        std::fs::write(&path, text.as_str()).unwrap();
        let line = self.low.station.key.sign(text.as_str().as_bytes());
        std::fs::write(disk.join("AIRLOCK.sig"), format!("{line}\n")).unwrap();
    }

    /// Imports what must be refused, and checks that nothing that counts has moved.
    async fn refused(&self, disk: &Path) -> Error {
        let before =
            (self.high.store.db.refs("").await.unwrap(), self.high.store.db.ledger_head().await.unwrap());
        let error = import::import(&self.high, disk).await.unwrap_err();
        let after =
            (self.high.store.db.refs("").await.unwrap(), self.high.store.db.ledger_head().await.unwrap());
        assert_eq!(before, after, "{error}");
        assert!(error.kind == Kind::Unsafe && error.hint.is_some(), "{error:?}");
        error
    }
}

#[tokio::test]
async fn a_bundle_that_lacks_what_it_names_is_refused_as_incomplete() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    let absent = "00".repeat(32);
    for (change, text) in [
        (("feeds", "content"), "advisories of the bundle are incomplete"),
        (("channels", "snapshot"), "is incomplete"),
        (("channels", "content"), "other things of channel"),
        (("channels", "facts"), "is incomplete"),
    ] {
        let copy = gap.low.path().join(format!("{}-{}", change.0, change.1));
        copy_dir(&disk, &copy);
        gap.forge(&copy, |m| {
            let (_, first) = m[change.0].as_object_mut().unwrap().iter_mut().last().unwrap();
            first[change.1] = absent.clone().into();
        });
        let error = gap.refused(&copy).await;
        assert!(error.message.contains(text), "{change:?}: {error}");
    }
    import::import(&gap.high, &disk).await.unwrap();
}

#[tokio::test]
async fn a_manifest_cannot_lead_out_of_its_folder_or_name_a_file_twice() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    for path in ["../outside", "/etc/passwd", "files/aa/../../x", "files/aa/.hidden", "AIRLOCK.json"] {
        let copy = gap.low.path().join(format!("path-{}", path.replace('/', "_")));
        copy_dir(&disk, &copy);
        gap.forge(&copy, |m| m["files"][0]["path"] = path.into());
        assert!(gap.refused(&copy).await.message.contains("outside the bundle"), "{path}");
    }
    // Also where a medium that knows no capitals has one file for both, and beside what is no artifact.
    let like = |path: &Value| {
        let (folder, rest) = path.as_str().unwrap().split_once('/').unwrap();
        Value::from(format!("{folder}/{}", rest.to_ascii_uppercase()))
    };
    type Harm<'a> = &'a dyn Fn(&mut Value);
    let harms: [Harm<'_>; 3] = [
        &|m| {
            let mut again = m["files"][0].clone();
            again["path"] = like(&again["path"]);
            m["files"].as_array_mut().unwrap().push(again);
        },
        &|m| m["files"][0]["path"] = like(&m["objects"][0]["path"]),
        &|m| m["extra"][0]["path"] = like(&m["objects"][0]["path"]),
    ];
    for (at, harm) in harms.iter().enumerate() {
        let copy = gap.low.path().join(format!("like-{at}"));
        copy_dir(&disk, &copy);
        gap.forge(&copy, harm);
        let error = gap.refused(&copy).await;
        assert!(error.message.contains("twice"), "{at}: {error}");
    }
    gap.forge(&disk, |m| {
        let again = m["files"][0].clone();
        m["files"].as_array_mut().unwrap().push(again);
    });
    assert!(gap.refused(&disk).await.message.contains("twice"));
}

#[tokio::test]
async fn a_manifest_says_nothing_that_shows_as_something_else() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    for text in ["low\n  to       high", "low\u{1b}[8m", "low\u{202e}hgih"] {
        for place in ["sender", "recipient", "file"] {
            let copy = gap.low.path().join(format!("said-{place}-{}", text.len()));
            let _ = std::fs::remove_dir_all(&copy);
            copy_dir(&disk, &copy);
            gap.forge(&copy, |m| match place {
                "sender" => m["sender"]["name"] = text.into(),
                "recipient" => m["recipient"] = text.into(),
                _ => m["files"][0]["name"] = text.into(),
            });
            let error = gap.refused(&copy).await;
            assert!(error.message.contains("show as something else"), "{place}: {error}");
            assert!(!error.message.chars().any(char::is_control), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_ended_and_belongs_to_one_key() {
    let mut gap = Gap::new().await;
    let first = gap.export().await;
    import::import(&gap.high, &first).await.unwrap();
    let second = gap.export().await;
    let forged = gap.low.path().join("forged");
    copy_dir(&second, &forged);
    gap.forge(&forged, |m| m["predecessor"] = "00".repeat(32).into());
    assert!(gap.refused(&forged).await.message.contains("does not follow from bundle 1"));
    gap.forge(&forged, |m| m["number"] = 1_000_000.into());
    assert!(gap.refused(&forged).await.message.contains("too far ahead"));
    gap.forge(&forged, |m| m["number"] = 1.into());
    assert!(gap.refused(&forged).await.message.contains("another bundle with number 1"));
    // Another sender, trusted too, takes up the stream.
    let other = Kit::new(&[]).await;
    let mut source = other.conda_source("source");
    source.add(&conda("evil", "1.0"), &json!({}));
    source.write();
    other.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    other.sync("main").await;
    let key = &other.station.key;
    trust::add(&gap.high, "other", key.public(), &key.fingerprint(), trust::Limits::default()).await.unwrap();
    let disk = other.path().join("disk");
    export::export(&other.station, &disk, &What::default()).await.unwrap();
    let stream = export::stream_of(&gap.low.station, None);
    let strange = Gap { low: other, high: gap.high.clone(), disks: 0 };
    strange.forge(&disk, |m| {
        m["stream"] = stream.into();
        m["number"] = 2.into();
    });
    assert!(strange.refused(&disk).await.message.contains("belongs to another key"));
    import::import(&gap.high, &second).await.unwrap();
}

#[tokio::test]
async fn a_bundle_from_the_future_is_refused() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    gap.forge(&disk, |m| m["created"] = "2099-01-01T00:00:00Z".into());
    assert!(gap.refused(&disk).await.message.contains("2099"));
    gap.forge(&disk, |m| {
        m["created"] = airlock_testkit::NOW.into();
        let (_, feed) = m["feeds"].as_object_mut().unwrap().iter_mut().next().unwrap();
        feed["read_at"] = "2099-01-01T00:00:00Z".into();
    });
    assert!(gap.refused(&disk).await.message.contains("was read after the bundle was written"));
}

#[tokio::test]
async fn an_import_that_stopped_before_it_was_judged_goes_on() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    import::import(&gap.high, &disk).await.unwrap();
    // As if it had been killed after the commit: what was published is gone.
    let name = "channel/main/snapshot";
    let change = gap.high.move_ref(name, None).await.unwrap();
    gap.high.commit(vec![change], "test", name, &json!({})).await.unwrap();
    let report = import::import(&gap.high, &disk).await.unwrap();
    assert!(report.again && report.outcomes[0].snapshot.is_some());
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_wheel_of_a_channel_that_a_delta_adds_keeps_its_metadata() {
    let low = Kit::new(&[]).await;
    let mut index = low.pypi_source("pypi");
    index.add_wheel(&wheel("good", "1.0"), &json!({}));
    index.write();
    low.add_channel("one", Ecosystem::Pypi, index.path(), &[]).await;
    low.sync("one").await;
    let options = low.station.options.clone();
    let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
    let key = low.station.key.public();
    trust::add(&high, "low", key, &low.station.key.fingerprint(), trust::Limits::default()).await.unwrap();
    let disk = low.path().join("first");
    let first = export::export(&low.station, &disk, &What::default()).await.unwrap();
    import::import(&high, &disk).await.unwrap();
    low.add_channel("two", Ecosystem::Pypi, index.path(), &[]).await;
    low.sync("two").await;
    let base = Some(Base { number: first.number, manifest: first.manifest.unwrap() });
    let disk = low.path().join("second");
    let second = export::export(&low.station, &disk, &What { base, ..What::default() }).await.unwrap();
    assert_eq!((second.files, second.left_out), (0, 2), "the delta carries the wheel or its METADATA again");
    import::import(&high, &disk).await.unwrap();
    let mut named = Vec::new();
    for channel in ["one", "two"] {
        let root = high.store.db.find_ref(&format!("channel/{channel}/facts")).await.unwrap().unwrap();
        let ids = trees::load::<Id<Facts>>(&high.store.db, TreeId::new(root)).await.unwrap();
        let facts = high.store.db.get(ids["good"]).await.unwrap();
        named.extend(facts.files.values().map(|fact| fact.file.as_ref().unwrap().metadata));
    }
    assert!(named.len() == 2 && named[0].is_some() && named[0] == named[1], "{named:?}");
}

#[tokio::test]
async fn a_file_that_lies_in_two_subdirs_comes_in_in_both() {
    let mut gap = Gap::new().await;
    let mut source = gap.low.conda_source("both");
    // As packages were built that say of no subdir that they are for it.
    let index = json!({"name": "x", "version": "1", "build": "0", "build_number": 0, "depends": [], "license": "MIT"});
    let info = fuzz::tar(&[("info/index.json", index.to_string().as_bytes())]);
    let (package, bytes) = (conda("x", "1"), fuzz::conda_of(&info, &fuzz::tar(&[("a", b"a")])));
    for subdir in ["linux-64", "noarch"] {
        source.add_bytes(&CondaPackage { subdir, ..package }, &bytes, &json!({}));
    }
    source.write();
    gap.low.add_channel("both", Ecosystem::Conda, source.path(), &["linux-64"]).await;
    assert_eq!(gap.low.sync("both").await.counts.admit, 2);
    let disk = gap.export().await;
    let report = import::import(&gap.high, &disk).await.unwrap();
    let both = report.outcomes.iter().find(|outcome| outcome.channel == "both").unwrap();
    assert_eq!((both.counts.admit, both.counts.hold, both.counts.deny), (2, 0, 0));
}

#[tokio::test]
async fn while_one_import_runs_another_of_the_stream_is_told_so() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    let stream = export::stream_of(&gap.low.station, None);
    for what in [format!("import/{stream}"), "channel/main".to_owned()] {
        let held = gap.high.lease(&what, "a test").await.unwrap();
        let error = import::import(&gap.high, &disk).await.unwrap_err();
        assert!(error.kind == Kind::Fault && error.message.contains("a test"), "{error}");
        drop(held);
    }
    import::import(&gap.high, &disk).await.unwrap();
    let _held = gap.low.station.lease(&format!("export/{stream}"), "a test").await.unwrap();
    let error =
        export::export(&gap.low.station, &gap.low.path().join("x"), &What::default()).await.unwrap_err();
    assert!(error.message.contains("a test"), "{error}");
}

#[tokio::test]
async fn a_bundle_whose_medium_vanishes_is_a_fault_and_one_that_lacks_a_file_is_refused() {
    let mut gap = Gap::new().await;
    let disk = gap.export().await;
    let opened = verify::open(&disk, &[gap.low.station.key.public()]).unwrap();
    opened.check_listing().unwrap();
    let kind = || opened.check_listing().unwrap_err().kind;
    std::fs::rename(disk.join("files"), gap.low.path().join("kept")).unwrap();
    assert_eq!(kind(), Kind::Unsafe);
    std::fs::rename(&disk, gap.low.path().join("pulled")).unwrap();
    std::fs::create_dir(&disk).unwrap();
    assert_eq!(kind(), Kind::Fault);
}

#[tokio::test]
async fn what_another_export_is_about_to_name_is_not_tidied_away_and_what_nothing_names_goes_when_it_is_old()
{
    let mut gap = Gap::new().await;
    let sent = gap.low.station.dir.join("sent");
    std::fs::create_dir_all(&sent).unwrap();
    // Of another stream, which takes its number next.
    let other = sent.join(format!("{}.json.zst", "ab".repeat(32)));
    std::fs::write(&other, "x").unwrap();
    gap.export().await;
    assert!(other.exists());
    let all = || std::fs::read_dir(&sent).unwrap().map(|entry| entry.unwrap().path());
    let age = |path: &Path| {
        let then = SystemTime::now() - Duration::from_secs(25 * 3600);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    };
    let own: Vec<PathBuf> = all().filter(|path| *path != other).collect();
    assert!(!own.is_empty());
    all().for_each(|path| age(&path));
    gap.export().await;
    assert!(!other.exists() && own.iter().all(|path| path.exists()));
}
