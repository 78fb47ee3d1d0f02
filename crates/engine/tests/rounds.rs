//! Ten rounds over three stations, with disks that are lost and one that is replayed: who has receipts ends where a full export ends,
//! and little is carried but what is new.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use airlock_core::bundle::Base;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::Snapshot;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{import, receipt, verify};
use airlock_engine::error::Kind;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust;
use airlock_testkit::{CondaSource, Kit, conda, osv};
use serde_json::{Value, json};

/// Packages that are new in a round, and the bytes of each.
const NEW: usize = 4;
const PAYLOAD: u32 = 500_000;

async fn station(kit: &Kit, name: &str, of: &Station) -> Station {
    let options = kit.station.options.clone();
    let station = Station::init(&kit.path().join(name), name, Side::Isolated, options).await.unwrap();
    let key = &of.key;
    trust::add(&station, &of.config.name, key.public(), &key.fingerprint(), trust::Limits::default())
        .await
        .unwrap();
    station
}

async fn content(station: &Station) -> Digest {
    let id = station.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap();
    let snapshot: Snapshot = station.store.db.get(Id::new(id)).await.unwrap();
    snapshot.content.digest()
}

fn grow(source: &mut CondaSource, round: usize) {
    for n in 0..NEW {
        let mut x = (round * 31 + n + 1) as u32;
        let noise = (0..PAYLOAD).map(|_| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x as u8
        });
        let payload: Vec<u8> = noise.collect();
        let content: [(&str, &[u8]); 1] = [("share/data", &payload)];
        let name = format!("p{round}-{n}");
        let mut package = conda(&name, "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
    }
    source.write();
}

/// Bytes of a folder.
fn bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        sum += match entry.file_type().unwrap().is_dir() {
            true => bytes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        };
    }
    sum
}

/// One gap: what its sender was told last, and what was carried over it.
struct Crossing {
    base: Option<Base>,
    had: BTreeSet<Digest>,
    carried: u64,
    new: u64,
    disks: Vec<PathBuf>,
    /// The last disk never came.
    lost: bool,
}

impl Crossing {
    fn new() -> Self {
        Self { base: None, had: BTreeSet::new(), carried: 0, new: 0, disks: Vec::new(), lost: false }
    }

    async fn cross(&mut self, kit: &Kit, from: &Station, to: &Station, is_lost: bool) {
        let disk = kit.path().join(format!("{}-{}", from.config.name, self.disks.len()));
        export::export(from, &disk, &What { base: self.base, ..What::default() }).await.unwrap();
        self.disks.push(disk.clone());
        if is_lost {
            self.lost = true;
            return;
        }
        let opened = verify::open(&disk, &[from.key.public()]).unwrap();
        self.carried += bytes(&disk);
        for file in opened.manifest.files.iter() {
            self.new += if self.had.insert(file.sha256) { file.size } else { 0 };
        }
        let report = import::import(to, &disk).await.unwrap();
        assert!(report.failed.is_none() && !report.again, "{report:?}");
        // A disk that somebody keeps back shows as a gap in the numbers.
        assert_eq!(report.skipped, u64::from(std::mem::take(&mut self.lost)), "{report:?}");
        let path = kit.path().join("receipt");
        self.base = receipt::write(to, &report.stream, None, &path).await.unwrap().last;
    }
}

#[tokio::test]
async fn ten_rounds_over_three_stations_with_lost_and_replayed_disks_end_as_full_exports_do() {
    let mut kit = Kit::new(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5)]).await;
    let mut source = kit.conda_source("source");
    grow(&mut source, 0);
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.station.config.name = "low".to_owned();
    let staging = station(&kit, "staging", &kit.station).await;
    let high = station(&kit, "high", &staging).await;
    let (mut first, mut second) = (Crossing::new(), Crossing::new());
    for round in 0..10 {
        grow(&mut source, round);
        if round == 5 {
            source.remove("noarch", "p1-0-1.0-0.conda");
            source.write();
        }
        kit.sync("main").await;
        first.cross(&kit, &kit.station, &staging, round == 3).await;
        second.cross(&kit, &staging, &high, round == 6).await;
        if round == 8 {
            // Somebody plugs in an old disk again.
            let error = import::import(&high, &second.disks[4]).await.unwrap_err();
            assert!(error.kind == Kind::Unsafe && error.message.contains("older than"), "{error}");
        }
        assert_eq!(content(&staging).await == content(&kit.station).await, round != 3, "round {round}");
        assert_eq!(content(&high).await == content(&staging).await, round != 6, "round {round}");
    }
    for (n, from, crossing) in [(1, &kit.station, &first), (2, &staging, &second)] {
        // Whoever gets all at once gets the same.
        let fresh = station(&kit, &format!("fresh{n}"), from).await;
        let disk = kit.path().join(format!("full{n}"));
        let what = What { to: Some("fresh".to_owned()), ..What::default() };
        export::export(from, &disk, &what).await.unwrap();
        import::import(&fresh, &disk).await.unwrap();
        assert_eq!(content(&fresh).await, content(&high).await);
        let (carried, new) = (crossing.carried as f64, crossing.new as f64);
        println!("gap {n}: {carried} bytes were carried, {new} of new files: {:.4}", carried / new);
        assert!(carried <= new * 1.05, "{carried} bytes were carried for {new} new ones");
    }
    // The last ledger names all hops.
    let entries = high.store.db.ledger(1, 10_000).await.unwrap();
    let last = entries.iter().rfind(|(e, _)| e.action == "bundle.import").unwrap();
    let detail: Value = serde_json::from_str(last.0.detail.as_str()).unwrap();
    let way: Vec<&str> = detail["via"]["main"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| hop["sender"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(way, ["low", "staging"], "{detail}");
    assert_eq!(detail["via"]["main"][0]["bundle"]["number"], 10);
}
