//! Fills a station for measurements, without an upstream:
//!
//!     plant STATION --files N --bytes B     a channel `planted` of N conda packages of B bytes of noise each
//!     plant STATION CHANNEL --facts-only    every record of the channel's source counts as fetched, with what it declares
//!     plant STATION CHANNEL --carried FILE  what the channel publishes counts as carried; FILE is the receipt of who has it
//!
//! The station is made where there is none. The planted channel is judged and published in the end; where only facts
//! are planted, the next `sync` has everything to do but the fetching.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::collections::BTreeMap;
use std::path::Path;

use airlock_core::advisory::FeedKind;
use airlock_core::bundle::Base;
use airlock_core::canon::Canonical;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::{Fact, Facts, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::record::Artifact;
use airlock_core::shard::{Entry, Shard};
use airlock_core::snapshot::Upstream;
use airlock_core::trie::TreeId;
use airlock_engine::bundle::{ExportState, Exported, ImportState, export, receipt};
use airlock_engine::judge::How;
use airlock_engine::progress::Progress;
use airlock_engine::station::{CONFIG, Clock, Options, Side, Station};
use airlock_engine::{channel, feeds, mirror, sync, trees};
use airlock_testkit::osv;
use serde_json::json;

/// Packages under one name.
const PER_NAME: usize = 10;
/// Shards that are held at once.
const SHARDS_AT_ONCE: usize = 1000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str| {
        let at = args.iter().position(|a| a == flag)?;
        args.get(at + 1)?.parse::<usize>().ok()
    };
    match (args.as_slice(), number("--files"), number("--bytes")) {
        ([dir, name, flag], ..) if flag == "--facts-only" => {
            let station = open(Path::new(dir)).await;
            facts_only(&station, &channel::find(&station, name).await.unwrap()).await;
        }
        ([dir, name, flag, receipt], ..) if flag == "--carried" => {
            carried(&open(Path::new(dir)).await, name, Path::new(receipt)).await;
        }
        ([dir, ..], Some(files), Some(bytes)) => {
            let station = open(Path::new(dir)).await;
            files_too(&station, files, bytes).await;
        }
        _ => {
            eprintln!(
                "plant STATION --files N --bytes B | plant STATION CHANNEL --facts-only | plant STATION CHANNEL --carried FILE"
            );
            std::process::exit(2);
        }
    }
}

async fn open(dir: &Path) -> Station {
    let options = Options {
        clock: Clock::System,
        actor: "plant".to_owned(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        progress: Progress::default(),
    };
    match dir.join(CONFIG).exists() {
        true => Station::open(dir, options).await.unwrap(),
        false => {
            let station = Station::init(dir, "planted", Side::Connected, options).await.unwrap();
            // Without any knowledge of vulnerabilities everything would be held.
            let feed = dir.join("planted-osv.jsonl");
            std::fs::write(&feed, format!("{}\n", osv("TEST-0", "PyPI", "nothing-of-this-name", "1", 0.0)))
                .unwrap();
            feeds::add(&station, FeedKind::Osv, &feed.display().to_string()).await.unwrap();
            feeds::update(&station, &[]).await.unwrap();
            station
        }
    }
}

/// Bytes that do not compress, and are others for each file.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

async fn files_too(station: &Station, files: usize, bytes: usize) {
    let source = station.dir.join("planted-source");
    std::fs::create_dir_all(&source).unwrap();
    let feed = ChannelFeed::Source {
        location: source.display().to_string(),
        subdirs: vec![],
        only: vec![],
        exclude: vec![],
    };
    let channel = Channel {
        name: "planted".to_owned(),
        ecosystem: Ecosystem::Conda,
        feed,
        policy: "default".to_owned(),
    };
    let channel = channel::add(station, channel).await.unwrap();
    let now = station.now().await.unwrap();
    let (mut shards, mut facts) = (BTreeMap::new(), BTreeMap::new());
    let mut batch = station.store.blobs.batch();
    for i in 0..files {
        let (name, version) = (format!("planted-{:06}", i / PER_NAME), format!("1.{}", i % PER_NAME));
        let file = format!("{name}-{version}-0.conda");
        let mut staged = station.store.blobs.stage().unwrap();
        staged.write(&noise(i, bytes)).unwrap();
        let sha256 = batch.add(staged, None).unwrap();
        let record = json!({
            "name": name, "version": version, "build": "0", "build_number": 0, "depends": ["python >=3.10"],
            "license": "MIT", "sha256": sha256, "size": bytes, "subdir": "noarch", "noarch": "generic",
            "timestamp": 1_700_000_000_000_u64,
        });
        let key = format!("noarch/{name}");
        let entry = Entry { table: "packages.conda".to_owned(), record: Canonical::of(&record).unwrap() };
        let shard = shards
            .entry(key.clone())
            .or_insert_with(|| Shard::new(Ecosystem::Conda, name, Some("noarch".to_owned())));
        shard.entries.insert(file.clone(), entry);
        let known: &mut Facts = facts.entry(key).or_default();
        known
            .files
            .insert(file, Fact { first_seen: now, file: Some(pinned(sha256, bytes as u64)), fault: None });
    }
    batch.commit().unwrap();
    let db = &station.store.db;
    let upstream = Upstream {
        ecosystem: Ecosystem::Conda,
        tree: trees::store_all(db, &shards).await.unwrap(),
        subdirs: BTreeMap::from([(
            "noarch".to_owned(),
            Canonical::of(&json!({"info": {"subdir": "noarch"}, "repodata_version": 1})).unwrap(),
        )]),
        origin: None,
    };
    let upstream = db.put(&upstream).await.unwrap().digest();
    let facts = trees::store_all(db, &facts).await.unwrap().digest();
    publish(station, &channel, &[("upstream", upstream), ("facts", facts)]).await;
}

fn pinned(sha256: Digest, size: u64) -> FileFact {
    FileFact {
        sha256,
        size,
        metadata: None,
        licence: Some("MIT".to_owned()),
        summary: Some("Planted for a measurement".to_owned()),
        requires: vec![],
        run_exports: None,
        security: Vec::new(),
    }
}

async fn facts_only(station: &Station, channel: &Channel) {
    let db = &station.store.db;
    let now = station.now().await.unwrap();
    let (upstream, ..) =
        mirror::mirror(station, channel, &mirror::Origin::of(channel).unwrap(), true).await.unwrap();
    let upstream: Upstream = db.get(upstream).await.unwrap();
    let shards = trees::load(db, upstream.tree).await.unwrap();
    let shards: Vec<(String, Id<Shard>)> = shards.into_iter().collect();
    let mut facts: BTreeMap<String, Id<Facts>> = BTreeMap::new();
    for chunk in shards.chunks(SHARDS_AT_ONCE) {
        let ids: Vec<Id<Shard>> = chunk.iter().map(|(_, id)| *id).collect();
        let read = trees::objects(db, &ids).await.unwrap();
        let mut encoded = Vec::new();
        for (key, id) in chunk {
            let shard = &read[&id.digest()];
            let fact = |(file, entry): (&String, &Entry)| {
                let artifact = Artifact::read(shard, file, entry).ok()?;
                let sha256 = artifact.sha256.unwrap_or_else(|| Digest::of(file.as_bytes()));
                let pinned = pinned(sha256, artifact.size.unwrap_or(0));
                Some((file.clone(), Fact { first_seen: now, file: Some(pinned), fault: None }))
            };
            let known = Facts { files: shard.entries.iter().filter_map(fact).collect(), ..Facts::default() };
            facts.insert(key.clone(), trees::encode_into(&known, &mut encoded).unwrap());
        }
        db.put_many(&encoded).await.unwrap();
    }
    let root: TreeId<Id<Facts>> = trees::store(db, &facts).await.unwrap();
    point(station, channel, &[("facts", root.digest())]).await;
}

/// The stream's first bundle brought what the channel publishes now, with all that is known of vulnerabilities; and a
/// station that took it in answers.
async fn carried(station: &Station, name: &str, receipt: &Path) {
    let db = &station.store.db;
    let stream = export::stream_of(station, None);
    let bundle = Base { number: 1, manifest: Digest::of(b"a bundle that nobody wrote") };
    let snapshot = db.find_ref(&channel::ref_name(name, "snapshot")).await.unwrap().unwrap();
    let brought = Exported {
        held: BTreeMap::new(),
        bundle,
        channels: BTreeMap::from([(name.to_owned(), Id::new(snapshot))]),
        feeds: feeds::heads(station).await.unwrap(),
        ledger: Some(db.ledger_head().await.unwrap()),
        answers: None,
    };
    let state = db.put(&ExportState { bundles: vec![brought] }).await.unwrap();
    refer(station, &format!("export/{stream}"), state.digest()).await;
    let receiver = open(&receipt.with_extension("receiver")).await;
    let taken = ImportState {
        stands_at: None,
        written: None,
        bundles: vec![bundle],
        public_key: station.key.public_hex(),
        root: None,
        ledger: db.ledger_head().await.unwrap(),
        via: BTreeMap::new(),
    };
    let taken = receiver.store.db.put(&taken).await.unwrap();
    refer(&receiver, &format!("import/{stream}"), taken.digest()).await;
    receipt::write(&receiver, &stream, None, receipt).await.unwrap();
}

async fn refer(station: &Station, name: &str, to: Digest) {
    let change = station.move_ref(name, Some(to)).await.unwrap();
    station.commit(vec![change], "test.plant", name, &json!({})).await.unwrap();
}

async fn point(station: &Station, channel: &Channel, parts: &[(&str, Digest)]) {
    let mut refs = Vec::new();
    for (part, to) in parts {
        let name = channel::ref_name(&channel.name, part);
        refs.push(station.move_ref(&name, Some(*to)).await.unwrap());
    }
    let subject = format!("channel/{}", channel.name);
    station.commit(refs, "test.plant", &subject, &json!({})).await.unwrap();
}

async fn publish(station: &Station, channel: &Channel, parts: &[(&str, Digest)]) {
    point(station, channel, parts).await;
    let outcome = sync::rejudge(station, channel, &How::default(), false, "planted").await.unwrap();
    println!("{}: {} admitted, {} held", channel.name, outcome.counts.admit, outcome.counts.hold);
}
