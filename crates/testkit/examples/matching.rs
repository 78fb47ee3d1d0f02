//! How long matching alone takes: `matching STATION CHANNEL` matches every version of every name that the channel's
//! source lists with every advisory that may concern it, all of which is in memory before the clock starts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Instant;

use airlock_core::advisory::Slice;
use airlock_core::id::Id;
use airlock_core::matching::{self, Lookup};
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Upstream;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options, Station};
use airlock_engine::{channel, feeds, trees};

/// Shards that are read at once.
const SHARDS_AT_ONCE: usize = 1000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, name] = args.as_slice() else {
        eprintln!("matching STATION CHANNEL");
        std::process::exit(2);
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options =
        Options { clock: Clock::System, actor: "test".to_owned(), threads, progress: Progress::default() };
    let station = Station::open(Path::new(dir), options).await.unwrap();
    let channel = channel::find(&station, name).await.unwrap();
    let db = &station.store.db;
    let upstream = db.find_ref(&channel::ref_name(name, "upstream")).await.unwrap().unwrap();
    let upstream: Upstream = db.get(Id::new(upstream)).await.unwrap();
    let shards: Vec<(String, Id<Shard>)> =
        trees::load(db, upstream.tree).await.unwrap().into_iter().collect();
    let (_, set) = feeds::current(&station).await.unwrap();
    let identities = trees::load(db, set.identities).await.unwrap();
    let ids = trees::load(db, set.slices).await.unwrap();
    let all: Vec<Id<Slice>> = ids.values().copied().collect();
    let slices: HashMap<_, Slice> = trees::objects(db, &all).await.unwrap();
    let (mut work, mut records) = (Vec::new(), 0);
    for chunk in shards.chunks(SHARDS_AT_ONCE) {
        let wanted: Vec<Id<Shard>> = chunk.iter().map(|(_, id)| *id).collect();
        let read = trees::objects(db, &wanted).await.unwrap();
        for (key, id) in chunk {
            let shard = &read[&id.digest()];
            records += shard.entries.len();
            let artifacts = shard.entries.iter().filter_map(|(f, e)| Artifact::read(shard, f, e).ok());
            let versions: BTreeSet<String> = artifacts.map(|a| a.version).collect();
            let name = ShardKey::parse(key).name;
            let lookups = matching::lookups(channel.ecosystem, &name, identities.get(&name));
            work.push((lookups, versions));
        }
    }
    let begin = Instant::now();
    let (mut matched, mut findings) = (0, 0);
    for (lookups, versions) in &work {
        let found: Vec<(Lookup, &Slice)> = lookups
            .iter()
            .filter_map(|l| Some((l.clone(), slices.get(&ids.get(l.key.as_str())?.digest())?)))
            .collect();
        for version in versions {
            matched += 1;
            findings += matching::match_version(&found, version).len();
        }
    }
    println!(
        "{:.3} s on one thread: {} names, {matched} versions, {records} records, {findings} findings",
        begin.elapsed().as_secs_f64(),
        work.len(),
    );
}
