//! How long policy alone takes, and possible closure alone: `judging STATION CHANNEL POLICY` judges every record that the
//! channel's source lists by the policy in a file, and finds what could no longer be installed then. Everything that is
//! known of a shard is in memory as the store's objects say it before the clock starts, so that nothing is read or unpacked;
//! matching belongs to it, and so does making sense of each record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use airlock_core::advisory::{Epss, Kev, Slice};
use airlock_core::closure::{Graph, Known, Part};
use airlock_core::decision::Decisions;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::judge::{Context, Local, feeds_read, judge_local};
use airlock_core::matching::{self, Lookup};
use airlock_core::object::Object;
use airlock_core::policy::Policy;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::trie::TreeId;
use airlock_core::verdict::Judgement;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options, Station};
use airlock_engine::{channel, feeds, trees};

/// Objects that are read at once.
const OBJECTS_AT_ONCE: usize = 1000;

/// What is known of one shard.
struct Work {
    key: String,
    shard: Shard,
    facts: Option<Facts>,
    before: Option<Judgement>,
    identity: Option<Identity>,
    lookups: Vec<Lookup>,
}

/// Everything under a tree, by key.
async fn all<T: Object>(station: &Station, root: TreeId<Id<T>>) -> HashMap<String, T> {
    let db = &station.store.db;
    let ids: Vec<(String, Id<T>)> = trees::load(db, root).await.unwrap().into_iter().collect();
    let mut out = HashMap::new();
    for chunk in ids.chunks(OBJECTS_AT_ONCE) {
        let wanted: Vec<Id<T>> = chunk.iter().map(|(_, id)| *id).collect();
        let packed = trees::packed(db, &wanted).await.unwrap();
        let found: HashMap<Digest, _> = packed.into_iter().map(|one| (one.digest(), one)).collect();
        for (key, id) in chunk {
            let bytes = found[&id.digest()].unpack().unwrap();
            out.insert(key.clone(), airlock_core::object::decode(&bytes).unwrap());
        }
    }
    out
}

/// Judges a shard.
fn judge(cx: &Context<'_>, one: &Work, slices: &HashMap<String, Slice>) -> Judgement {
    let slices: Vec<(Lookup, &Slice)> =
        one.lookups.iter().filter_map(|l| Some((l.clone(), slices.get(l.key.as_str())?))).collect();
    let local = Local {
        upstream: Some(&one.shard),
        listed: Some(&one.shard),
        facts: one.facts.as_ref(),
        identity: one.identity.as_ref(),
        slices: &slices,
        statements: &[],
        previous: one.before.as_ref(),
        lacks: None,
        sent: None,
    };
    judge_local(cx, &ShardKey::parse(&one.key), &local)
}

/// Judges all of it on so many threads, and gives each judgement back as the command does when it is packed: how many files
/// were judged, and in how many seconds.
fn judge_all(
    cx: &Context<'_>,
    work: &[Work],
    slices: &HashMap<String, Slice>,
    threads: usize,
) -> (usize, f64) {
    let next = AtomicUsize::new(0);
    let some = || {
        let one = || work.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(one).map(|one| judge(cx, one, slices).artifacts.len()).sum::<usize>()
    };
    let begin = Instant::now();
    let judged = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    (judged, begin.elapsed().as_secs_f64())
}

/// How much of it cannot be installed.
fn impossible(ecosystem: Ecosystem, work: &[Work], judged: &[Judgement]) -> usize {
    let mut graph = Graph::new(ecosystem);
    for (one, now) in work.iter().zip(judged) {
        let known = Known {
            upstream: Some(&one.shard),
            listed: Some(&one.shard),
            facts: one.facts.as_ref(),
            before: one.before.as_ref(),
            now,
            before_fetch: false,
        };
        graph.add(Part::of(&one.key, &known));
    }
    let [_, now] = graph.impossible();
    now.len()
}

fn main() {
    // As the command holds memory, since what is measured is what the command does.
    airlock_memory::give_back_soon();
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, name, policy] = args.as_slice() else {
        eprintln!("judging STATION CHANNEL POLICY");
        std::process::exit(2);
    };
    let options =
        Options { clock: Clock::System, actor: "test".to_owned(), threads: 1, progress: Progress::default() };
    let station = Station::open(Path::new(dir), options).await.unwrap();
    let channel = channel::find(&station, name).await.unwrap();
    let policy = Policy::parse(&std::fs::read_to_string(policy).unwrap()).unwrap();
    let db = &station.store.db;
    let at = async |part: &str| db.find_ref(&channel::ref_name(name, part)).await.unwrap().unwrap();
    let upstream: Upstream = db.get(Id::new(at("upstream").await)).await.unwrap();
    let snapshot: Snapshot = db.get(Id::new(at("snapshot").await)).await.unwrap();
    let (_, set) = feeds::current(&station).await.unwrap();
    let (kev, epss): (Kev, Epss) = (db.get(set.kev).await.unwrap(), db.get(set.epss).await.unwrap());
    let identities = trees::load(db, set.identities).await.unwrap();
    let slices: HashMap<String, Slice> = all(&station, set.slices).await;
    let mut facts = all::<Facts>(&station, snapshot.inputs.facts).await;
    let mut before = all::<Judgement>(&station, snapshot.judgement).await;
    let mut work: Vec<Work> = Vec::new();
    for (key, shard) in all::<Shard>(&station, upstream.tree).await {
        let identity = identities.get(&shard.name).cloned();
        let lookups = matching::lookups(channel.ecosystem, &shard.name, identity.as_ref());
        let (facts, before) = (facts.remove(&key), before.remove(&key));
        work.push(Work { key, shard, facts, before, identity, lookups });
    }
    work.sort_by(|a, b| a.key.cmp(&b.key));
    let records: usize = work.iter().map(|one| one.shard.entries.len()).sum();
    let decisions = Decisions::default();
    let source = channel::source(&channel).unwrap();
    let cx = Context {
        channel: name,
        ecosystem: channel.ecosystem,
        source: &source,
        policy: &policy,
        decisions: &decisions,
        kev: &kev,
        epss: &epss,
        ranks: None,
        feeds_read: feeds_read(&set),
        now: station.now().await.unwrap(),
        needs_bytes: false,
        looks_ahead: false,
    };
    let (judged, alone) = judge_all(&cx, &work, &slices, 1);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (again, together) = judge_all(&cx, &work, &slices, processors);
    assert_eq!((judged, again), (records, records), "every file is judged");
    let judged: Vec<Judgement> = work.iter().map(|one| judge(&cx, one, &slices)).collect();
    let begin = Instant::now();
    let impossible = impossible(channel.ecosystem, &work, &judged);
    println!(
        "policy and matching over {records} records in memory: {alone:.3} s on one thread, {together:.3} s on {processors}; \
         possible closure of them: {:.3} s, {impossible} that cannot be installed",
        begin.elapsed().as_secs_f64(),
    );
}
