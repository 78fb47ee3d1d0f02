//! Damage is found, named, kept from clients, and mended where that is possible.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::Snapshot;
use airlock_engine::fsck::{self, Kind, Report, What};
use airlock_engine::publish::{self, Rendered, RenderedFile};
use airlock_engine::view::FileAnswer;
use airlock_engine::{render, scrub, status};
use airlock_testkit::{Kit, conda, wheel};
use serde_json::json;

const FILE: &str = "good-1.0-0.conda";

struct Damaged {
    kit: Kit,
    conda: Digest,
    wheel: Digest,
}

async fn station() -> Damaged {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    let bytes = source.add(&conda("good", "1.0"), &json!({}));
    source.add(&conda("other", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    let mut pypi = kit.pypi_source("pypi");
    let wheel = pypi.add_wheel(&wheel("idna", "3.10"), &json!({}));
    pypi.write();
    kit.add_channel("py", Ecosystem::Pypi, pypi.path(), &[]).await;
    kit.sync("main").await;
    kit.sync("py").await;
    Damaged { kit, conda: Digest::of(&bytes), wheel: Digest::of(&wheel) }
}

impl Damaged {
    fn path(&self, digest: Digest) -> PathBuf {
        self.kit.station.store.blobs.find(digest).unwrap().path().to_owned()
    }

    /// Flips one bit in the middle of a file.
    fn rot(&self, digest: Digest) {
        let file = std::fs::File::options().read(true).write(true).open(self.path(digest)).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    }

    async fn fsck(&self, repair: bool) -> Report {
        fsck::fsck(&self.kit.station, &What { repair, ..What::default() }).await.unwrap()
    }

    /// The same, where a refusal is no damage.
    async fn serves_or_refuses(&self) -> bool {
        let view = self.kit.view();
        let channel = view.channel("main").await.unwrap().unwrap();
        matches!(view.file(&channel, "noarch/good", FILE).await.unwrap(), FileAnswer::Serve(_))
    }

    async fn serves(&self) -> bool {
        let view = self.kit.view();
        let channel = view.channel("main").await.unwrap().unwrap();
        match view.file(&channel, "noarch/good", FILE).await {
            Ok(answer) => matches!(answer, FileAnswer::Serve(_)),
            Err(e) => {
                assert!(e.hint.as_ref().unwrap().contains("airlock fsck --repair"), "{e:?}");
                false
            }
        }
    }
}

#[tokio::test]
async fn a_station_in_order_is_clean() {
    let s = station().await;
    let report = s.fsck(false).await;
    assert!(report.is_clean() && report.damages.is_empty(), "{:?}", report.damages);
    assert!(report.objects > 10 && report.files >= 10 && report.bytes > 1000 && report.ledger_entries > 3);
}

#[tokio::test]
async fn a_damaged_file_is_named_kept_from_clients_and_fetched_again() {
    let s = station().await;
    s.rot(s.conda);
    let found = s.fsck(false).await;
    let [damage] = found.damages.as_slice() else { panic!("{:?}", found.damages) };
    let place = damage.places[0].to_string();
    assert!(place.starts_with("channel/main/") && place.contains(FILE), "{place}");
    assert_eq!((damage.kind, damage.id, damage.repaired), (Kind::File, Some(s.conda), false));
    assert!(!s.serves().await);
    assert_eq!(status::status(&s.kit.station).await.unwrap().damaged, 1);
    let mended = s.fsck(true).await;
    assert!(mended.is_clean() && mended.damages.len() == 1, "{:?}", mended.damages);
    assert!(s.serves().await);
    assert_eq!(status::status(&s.kit.station).await.unwrap().damaged, 0);
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn missing_files_and_metadata_come_again_and_other_bytes_do_not() {
    let s = station().await;
    let db = &s.kit.station.store.db;
    let facts = db.find_ref("channel/py/facts").await.unwrap().unwrap();
    let tree = airlock_core::trie::TreeId::<airlock_core::id::Id<airlock_core::fact::Facts>>::new(facts);
    let facts = airlock_engine::trees::load(db, tree).await.unwrap();
    let facts = db.get(*facts.values().next().unwrap()).await.unwrap();
    let metadata = facts.files.values().next().unwrap().file.as_ref().unwrap().metadata.unwrap();
    for digest in [s.wheel, s.conda, metadata] {
        std::fs::remove_file(s.path(digest)).unwrap();
    }
    // What the source has now is something else under the same name.
    std::fs::write(s.kit.path().join("source/noarch").join(FILE), b"something else").unwrap();
    let report = s.fsck(true).await;
    assert_eq!(report.damages.len(), 3);
    for damage in &report.damages {
        assert_eq!(damage.repaired, damage.id != Some(s.conda), "{damage:?}");
    }
    assert!(!report.is_clean() && !s.serves().await);
    assert!(s.kit.station.store.blobs.find(metadata).is_some());
}

#[tokio::test]
async fn damaged_indexes_are_made_anew() {
    let s = station().await;
    let view = s.kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let rendered = channel.rendered.unwrap();
    s.rot(rendered.files["noarch/repodata.json"].sha256);
    std::fs::remove_file(s.path(rendered.files["noarch/repodata_shards.msgpack.zst"].sha256)).unwrap();
    let found = s.fsck(false).await;
    assert_eq!(found.damages.len(), 2);
    assert!(found.damages[0].places[0].to_string().contains("channel/main/rendered, noarch/repodata"));
    assert!(s.fsck(true).await.is_clean());
    assert!(s.fsck(false).await.damages.is_empty());
}

/// Another program may have rendered what is damaged, in other bytes: they never come back, and need not.
#[tokio::test]
async fn damaged_indexes_that_come_out_in_other_bytes_are_mended_too() {
    let s = station().await;
    let (blobs, db) = (&s.kit.station.store.blobs, &s.kit.station.store.db);
    let mut staged = blobs.stage().unwrap();
    staged.write(b"{\"of\":\"another program\"}").unwrap();
    let size = staged.size();
    let mut batch = blobs.batch();
    let sha256 = batch.add(staged, None).unwrap();
    batch.commit().unwrap();
    let at = async |part: &str| db.find_ref(&format!("channel/main/{part}")).await.unwrap();
    let mut rendered: Rendered = db.get(Id::new(at("rendered").await.unwrap())).await.unwrap();
    rendered.files.insert("noarch/repodata.json".to_owned(), RenderedFile { sha256, size });
    let now = (Id::<Snapshot>::new(at("snapshot").await.unwrap()), at("rendered").await);
    publish::replace_rendered(&s.kit.station, "main", now, &rendered).await.unwrap();
    s.rot(sha256);
    let repaired = s.fsck(true).await;
    assert_eq!(
        repaired.damages.iter().map(|d| (d.id, d.repaired)).collect::<Vec<_>>(),
        [(Some(sha256), true)]
    );
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn what_describes_the_indexes_is_made_anew_with_them() {
    let s = station().await;
    let db = &s.kit.station.store.db;
    // What becomes known of a file that is not published changes facts, and no index.
    let mut source = s.kit.conda_source("source");
    source.add(&conda("good", "1.0"), &json!({}));
    source.add(&conda("other", "1.0"), &json!({}));
    source.add(&conda("good", "2.0"), &json!({"sha256": Digest::of(b"other bytes").to_string()}));
    source.write();
    let rendered = db.find_ref("channel/main/rendered").await.unwrap();
    s.kit.sync("main").await;
    assert_eq!(db.find_ref("channel/main/rendered").await.unwrap(), rendered);
    let channel = s.kit.view().channel("main").await.unwrap().unwrap();
    let slots = channel.rendered.unwrap().layout.clone().unwrap().slots.digest();
    for lost in [Some(slots), None] {
        let root = db.find_ref("channel/main/rendered").await.unwrap().unwrap();
        let lost = lost.unwrap_or(root);
        assert_eq!(db.remove_damaged(&[lost]).await.unwrap(), 1);
        let found = s.fsck(false).await;
        assert_eq!(found.damages.iter().map(|d| d.id).collect::<Vec<_>>(), [Some(lost)]);
        assert!(s.fsck(true).await.is_clean());
        assert!(s.fsck(false).await.damages.is_empty());
    }
    let root = db.find_ref("channel/py/rendered").await.unwrap().unwrap();
    assert_eq!(db.remove_damaged(&[root]).await.unwrap(), 1);
    assert!(s.fsck(true).await.is_clean());
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn a_channel_whose_rendered_object_is_lost_is_judged_and_published_all_the_same() {
    let s = station().await;
    let db = &s.kit.station.store.db;
    let root = db.find_ref("channel/main/rendered").await.unwrap().unwrap();
    assert_eq!(db.remove_damaged(&[root]).await.unwrap(), 1);
    assert!(s.serves().await);
    s.kit.block("main", "good").await;
    assert_eq!(s.kit.judge("main").await.counts.deny, 1);
    assert!(!s.serves_or_refuses().await);
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn what_a_disk_changed_in_an_index_is_not_taken_over_into_the_next() {
    type Harm = fn(&std::path::Path);
    let harms: [Harm; 3] = [
        // A byte of the record that stays.
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let at = bytes.windows(FILE.len()).position(|w| w == FILE.as_bytes()).unwrap();
            bytes[at + FILE.len() + 10] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
        |path| std::fs::File::options().write(true).open(path).unwrap().set_len(40).unwrap(),
        |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        },
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        let mut s = station().await;
        let channel = s.kit.view().channel("main").await.unwrap().unwrap();
        let index = s.path(channel.rendered.unwrap().files["noarch/repodata.json"].sha256);
        harm(&index);
        s.kit.pass(airlock_core::time::Span::days(1));
        s.kit.block("main", "other").await;
        s.kit.judge("main").await;
        let channel = s.kit.view().channel("main").await.unwrap().unwrap();
        let all = render::to_memory(&s.kit.station, &channel.snapshot).await.unwrap();
        assert!(!all["noarch/repodata.json"].windows(5).any(|w| w == b"other"), "harm {n}");
        for (path, file) in &channel.rendered.unwrap().files {
            assert_eq!(std::fs::read(s.path(file.sha256)).unwrap(), all[path], "harm {n}, {path}");
        }
    }
}

#[tokio::test]
async fn missing_objects_are_named_and_a_source_tells_them_again() {
    let s = station().await;
    let db = &s.kit.station.store.db;
    let view = s.kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let upstream = db.get(channel.snapshot.inputs.upstream).await.unwrap();
    let shards = airlock_engine::trees::load(db, upstream.tree).await.unwrap();
    let shard = shards["noarch/good"].digest();
    assert_eq!(db.remove_damaged(&[shard]).await.unwrap(), 1);
    let found = s.fsck(false).await;
    let [damage] = found.damages.as_slice() else { panic!("{:?}", found.damages) };
    assert_eq!((damage.kind, damage.id), (Kind::Object, Some(shard)));
    assert!(damage.places.iter().any(|p| p.to_string().contains("noarch/good")), "{damage:?}");
    let repaired = s.fsck(true).await;
    assert!(repaired.damages[0].next.as_ref().unwrap().contains("airlock sync main"));
    s.kit.sync("main").await;
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn an_index_of_feeds_that_is_damaged_is_made_anew() {
    let s = station().await;
    let db = &s.kit.station.store.db;
    let index = db.find_ref("index/advisories").await.unwrap().unwrap();
    db.remove_damaged(&[index]).await.unwrap();
    assert!(!s.fsck(false).await.is_clean());
    let report = s.fsck(true).await;
    assert!(report.is_clean(), "{:?}", report.damages);
    assert!(s.fsck(false).await.damages.is_empty());
}

#[tokio::test]
async fn only_the_channels_asked_for_are_read() {
    let s = station().await;
    s.rot(s.conda);
    let only = |name: &str| What { channels: vec![name.to_owned()], repair: false };
    let other = fsck::fsck(&s.kit.station, &only("py")).await.unwrap();
    assert!(other.is_clean() && other.files == 2, "{other:?}");
    assert!(!fsck::fsck(&s.kit.station, &only("main")).await.unwrap().is_clean());
    assert!(fsck::fsck(&s.kit.station, &only("absent")).await.is_err());
}

#[tokio::test]
async fn scrubbing_sets_damaged_bytes_aside_and_says_so() {
    let mut s = station().await;
    s.kit.station.config.scrub.bytes_per_second = u64::MAX;
    let said = Mutex::new(Vec::new());
    let tell = |text: &str| said.lock().unwrap().push(text.to_owned());
    assert_eq!(scrub::round(&s.kit.station, &tell).await.unwrap(), 0);
    s.rot(s.conda);
    assert_eq!(scrub::round(&s.kit.station, &tell).await.unwrap(), 1);
    let said = said.into_inner().unwrap();
    assert!(said.len() == 1 && said[0].contains(&s.conda.to_string()), "{said:?}");
    assert!(!s.serves().await);
    assert!(s.fsck(true).await.is_clean());
    assert!(s.serves().await);
}

#[tokio::test]
async fn a_round_goes_on_where_the_last_one_stopped() {
    let s = station().await;
    s.rot(s.conda);
    let place = s.kit.station.dir.join("cache/scrub");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, format!("{}\n", "f".repeat(64))).unwrap();
    assert_eq!(scrub::round(&s.kit.station, &|_| ()).await.unwrap(), 0);
    assert!(!place.exists());
    assert_eq!(scrub::round(&s.kit.station, &|_| ()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_repair_never_puts_the_indexes_of_an_old_snapshot_over_those_of_a_newer_one() {
    let s = station().await;
    let (station, db) = (&s.kit.station, &s.kit.station.store.db);
    let at = async |part: &str| db.find_ref(&format!("channel/main/{part}")).await.unwrap();
    let seen = (Id::<Snapshot>::new(at("snapshot").await.unwrap()), at("rendered").await);
    let old = Rendered { renderer: 1, ..Rendered::default() };
    s.kit.block("main", "other").await;
    s.kit.judge("main").await;
    let newer = at("rendered").await;
    assert_ne!(newer, seen.1);
    let race = publish::replace_rendered(station, "main", seen, &old).await.unwrap_err();
    assert!(race.is_race, "{race:?}");
    // Also where only the snapshot moved.
    let race = publish::replace_rendered(station, "main", (seen.0, newer), &old).await.unwrap_err();
    assert!(race.is_race, "{race:?}");
    assert_eq!(at("rendered").await, newer);
    let now = (Id::<Snapshot>::new(at("snapshot").await.unwrap()), newer);
    publish::replace_rendered(station, "main", now, &old).await.unwrap();
    assert_ne!(at("rendered").await, newer);
}
