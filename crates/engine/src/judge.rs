//! Judging a channel with what is known now.
//!
//! Inputs are read from the store in batches, each shard is judged by itself on several threads, and what
//! comes out is the same whatever the number of threads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use airlock_core::advisory::{AdvisorySet, Epss, Kev, Slice};
use airlock_core::block::BlockSet;
use airlock_core::channel::Channel;
use airlock_core::decision::Decisions;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::judge::{self, Context, Local, Settled};
use airlock_core::matching::{self, Lookup};
use airlock_core::object::{self, Encoded, Object};
use airlock_core::policy::{Policy, PolicyText};
use airlock_core::publish;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Inputs, Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::{self, TreeId};
use airlock_core::verdict::{Judged, Judgement};

use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::station::Station;
use crate::{feeds, policy, trees};

/// Shards that are read and judged at once.
const CHUNK: usize = 2048;

/// How to judge.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// At another moment than now.
    pub as_of: Option<Time>,
    /// By another policy than the channel's.
    pub policy: Option<String>,
    /// Before the fetch: ask what would be admitted if its bytes were here.
    pub without_bytes: bool,
}

/// A change of one artifact's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictChange {
    /// The channel.
    pub channel: String,
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The verdict before; none if it is new.
    pub from: Option<&'static str>,
    /// The verdict now; none if it is gone.
    pub to: Option<&'static str>,
    /// Why.
    pub why: String,
}

/// A judgement of a channel that is not published yet.
#[derive(Debug)]
pub struct Judgment {
    /// The channel.
    pub channel: Channel,
    /// What would be published.
    pub snapshot: Snapshot,
    /// The judgements by shard key.
    pub judgements: BTreeMap<String, Judgement>,
    /// The published shards by shard key, as objects.
    pub content: BTreeMap<String, Id<Shard>>,
    /// What is denied of everything that a kept snapshot lists.
    pub blocks: BlockSet,
    /// What changes.
    pub changes: Vec<VerdictChange>,
    /// Every object that the snapshot needs and that is not stored yet.
    pub objects: Vec<Encoded>,
    /// The snapshot before it.
    pub previous: Option<Id<Snapshot>>,
    /// What stood in the refs that make verdicts stricter when judging began: block set, decisions, advisories,
    /// policy. If one of them moved since, this judgement may not know of a denial.
    pub known: Vec<(String, Option<Digest>)>,
    /// Whether the snapshot says nothing that the one before did not say.
    pub unchanged: bool,
}

/// Everything that a channel is judged from.
struct Loaded {
    upstream_id: Id<Upstream>,
    upstream: Upstream,
    shards: BTreeMap<String, Id<Shard>>,
    facts_root: TreeId<Id<Facts>>,
    facts: BTreeMap<String, Id<Facts>>,
    listed_root: TreeId<Id<Shard>>,
    listed: BTreeMap<String, Id<Shard>>,
    previous_id: Option<Id<Snapshot>>,
    previous: Option<Snapshot>,
    before: BTreeMap<String, Id<Judgement>>,
    set_id: Id<AdvisorySet>,
    set: AdvisorySet,
    kev: Kev,
    epss: Epss,
    identities: BTreeMap<String, Identity>,
    slices: BTreeMap<String, Id<Slice>>,
    decisions_id: Id<Decisions>,
    decisions: Decisions,
    policy_id: Id<PolicyText>,
    policy: Policy,
    known: Vec<(String, Option<Digest>)>,
    now: Time,
}

/// What stands in the refs that make verdicts stricter.
async fn known(station: &Station, channel: &Channel) -> Result<Vec<(String, Option<Digest>)>> {
    let policy = format!("policy/{}", channel.policy);
    let blocks = ref_name(&channel.name, "blocks");
    let mut known = Vec::new();
    for name in [blocks, crate::decide::REF.to_owned(), feeds::SET.to_owned(), policy] {
        let at = station.store.db.find_ref(&name).await?;
        known.push((name, at));
    }
    Ok(known)
}

/// The decisions of a station.
pub async fn decisions(station: &Station) -> Result<(Id<Decisions>, Decisions)> {
    match station.store.db.find_ref(crate::decide::REF).await? {
        Some(id) => Ok((Id::new(id), station.store.db.get(Id::new(id)).await?)),
        None => {
            let none = Decisions::default();
            Ok((station.store.db.put(&none).await?, none))
        }
    }
}

type Tree<T> = (TreeId<Id<T>>, BTreeMap<String, Id<T>>);

async fn tree_of<T: Object>(station: &Station, root: Option<Digest>) -> Result<Tree<T>> {
    let db = &station.store.db;
    match root {
        Some(id) => Ok((TreeId::new(id), trees::load(db, TreeId::new(id)).await?)),
        None => {
            let none = BTreeMap::new();
            Ok((trees::store(db, &none).await?, none))
        }
    }
}

impl Loaded {
    async fn read(
        station: &Station,
        channel: &Channel,
        how: &How,
        upstream: Option<Id<Upstream>>,
    ) -> Result<Self> {
        let db = &station.store.db;
        let name = &channel.name;
        // Before anything that they name is read: what moves in between is noticed when it is published.
        let known = known(station, channel).await?;
        // All of the channel at one moment.
        let refs = db.refs(&ref_name(name, "")).await?;
        let at = |part: &str| refs.get(&ref_name(name, part)).copied();
        let upstream_id = match upstream {
            Some(id) => id,
            None => Id::new(at("upstream").ok_or_else(|| {
                Error::usage(format!("channel `{name}` was never filled"))
                    .hint(format!("run `airlock sync {name}`"))
            })?),
        };
        let upstream: Upstream = db.get(upstream_id).await?;
        let shards = trees::load(db, upstream.tree).await?;
        let (facts_root, facts) = tree_of(station, at("facts")).await?;
        let (listed_root, listed) = tree_of(station, at("listed")).await?;
        let previous_id = at("snapshot").map(Id::<Snapshot>::new);
        let previous = match previous_id {
            Some(id) => Some(db.get(id).await?),
            None => None,
        };
        let before = match &previous {
            Some(snapshot) => trees::load(db, snapshot.judgement).await?,
            None => BTreeMap::new(),
        };
        let (set_id, set) = feeds::current(station).await?;
        let (decisions_id, decisions) = decisions(station).await?;
        let (policy_id, policy) = match &how.policy {
            Some(text) => {
                let policy = policy::read(text)?;
                (object::encode(&PolicyText { text: text.clone() })?.0, policy)
            }
            None => {
                let named = policy::find(station, &channel.policy).await?;
                (named.id, named.policy)
            }
        };
        Ok(Self {
            upstream_id,
            shards,
            facts_root,
            facts,
            listed_root,
            listed,
            previous_id,
            previous,
            before,
            kev: db.get(set.kev).await?,
            epss: db.get(set.epss).await?,
            identities: trees::load(db, set.identities).await?,
            slices: trees::load(db, set.slices).await?,
            set_id,
            set,
            decisions_id,
            decisions,
            policy_id,
            policy,
            known,
            now: match how.as_of {
                Some(time) => time,
                None => station.now().await?,
            },
            upstream,
        })
    }

    /// Whether this block set stood there when judging began.
    fn holds_blocks(&self, channel: &Channel, blocks: Digest) -> bool {
        let name = ref_name(&channel.name, "blocks");
        self.known.iter().any(|(known, at)| *known == name && *at == Some(blocks))
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            upstream: self.upstream_id,
            facts: self.facts_root,
            advisories: self.set_id,
            policy: self.policy_id,
            decisions: self.decisions_id,
            listed: self.listed_root,
            previous: self.previous_id,
            now: self.now,
            rules_revision: airlock_core::RULES_REVISION,
        }
    }
}

/// The objects of one chunk of shards.
struct Chunk {
    keys: Vec<String>,
    shards: HashMap<Digest, Shard>,
    facts: HashMap<Digest, Facts>,
    before: HashMap<Digest, Judgement>,
    slices: HashMap<Digest, Slice>,
}

/// What judging one shard gave.
struct One {
    key: String,
    judgement: Judgement,
    published: Option<(Id<Shard>, Encoded)>,
    settled: Settled,
    changes: Vec<VerdictChange>,
}

/// Judges a channel. Nothing is published and no ref moves.
///
/// `upstream` is what to judge, where that is not what the channel holds now.
pub async fn judge(
    station: &Station,
    channel: &Channel,
    how: &How,
    upstream: Option<Id<Upstream>>,
) -> Result<Judgment> {
    let loaded = Arc::new(Loaded::read(station, channel, how, upstream).await?);
    let keys: BTreeSet<&String> = loaded.shards.keys().chain(loaded.listed.keys()).collect();
    let keys: Vec<String> = keys.into_iter().cloned().collect();
    let mut judgements = BTreeMap::new();
    let mut content = BTreeMap::new();
    let mut objects = Vec::new();
    let mut settled = Settled::default();
    let mut changes = Vec::new();
    for keys in keys.chunks(CHUNK) {
        let chunk = read_chunk(station, channel, &loaded, keys).await?;
        let (loaded, channel, needs_bytes) = (loaded.clone(), channel.clone(), !how.without_bytes);
        let threads = station.options.threads;
        let work = move || judge_chunk(&loaded, &channel, &chunk, needs_bytes, threads);
        for one in joined(tokio::task::spawn_blocking(work).await)? {
            settled.merge(one.settled);
            changes.extend(one.changes);
            if let Some((id, encoded)) = one.published {
                content.insert(one.key.clone(), id);
                objects.push(encoded);
            }
            judgements.insert(one.key, one.judgement);
        }
    }
    let mut ids = BTreeMap::new();
    for (key, judgement) in &judgements {
        ids.insert(key.clone(), trees::encode_into(judgement, &mut objects)?);
    }
    let (judgement, nodes) = trie::build(&ids)?;
    objects.extend(nodes);
    let (content_root, nodes) = trie::build(&content)?;
    objects.extend(nodes);
    let snapshot = Snapshot {
        channel: channel.name.clone(),
        ecosystem: channel.ecosystem,
        inputs: loaded.inputs(),
        content: content_root,
        judgement,
        subdirs: loaded.upstream.subdirs.clone(),
        counts: settled.counts,
        valid_until: settled.valid_until,
    };
    Ok(Judgment {
        channel: channel.clone(),
        unchanged: loaded.previous.as_ref().is_some_and(|before| says_the_same(before, &snapshot))
            && loaded.holds_blocks(channel, object::encode(&settled.blocks)?.0.digest()),
        snapshot,
        judgements,
        content,
        blocks: settled.blocks,
        changes,
        objects,
        previous: loaded.previous_id,
        known: loaded.known.clone(),
    })
}

/// Whether a snapshot says nothing new: the same in, the same out, and time has not run out.
fn says_the_same(before: &Snapshot, after: &Snapshot) -> bool {
    let mut inputs = after.inputs.clone();
    inputs.now = before.inputs.now;
    inputs.previous = before.inputs.previous;
    // What is listed grows by publishing itself, and is no news.
    inputs.listed = before.inputs.listed;
    let like_before = Snapshot { inputs, ..after.clone() };
    like_before == *before
}

async fn read_chunk(station: &Station, channel: &Channel, loaded: &Loaded, keys: &[String]) -> Result<Chunk> {
    fn ids<T>(map: &BTreeMap<String, Id<T>>, keys: &[String]) -> Vec<Id<T>> {
        keys.iter().filter_map(|k| map.get(k).copied()).collect()
    }
    let db = &station.store.db;
    let mut wanted = ids(&loaded.shards, keys);
    wanted.extend(ids(&loaded.listed, keys));
    let mut slices = Vec::new();
    for key in keys {
        let name = ShardKey::parse(key).name;
        let lookups = matching::lookups(channel.ecosystem, &name, loaded.identities.get(&name));
        slices.extend(lookups.iter().filter_map(|l| loaded.slices.get(l.key.as_str()).copied()));
    }
    Ok(Chunk {
        keys: keys.to_vec(),
        shards: trees::objects(db, &wanted).await?,
        facts: trees::objects(db, &ids(&loaded.facts, keys)).await?,
        before: trees::objects(db, &ids(&loaded.before, keys)).await?,
        slices: trees::objects(db, &slices).await?,
    })
}

/// Judges the shards of a chunk on several threads; the answers come in the order of the keys.
fn judge_chunk(
    loaded: &Loaded,
    channel: &Channel,
    chunk: &Chunk,
    needs_bytes: bool,
    threads: usize,
) -> Result<Vec<One>> {
    let cx = Context {
        channel: &channel.name,
        ecosystem: channel.ecosystem,
        policy: &loaded.policy,
        decisions: &loaded.decisions,
        kev: &loaded.kev,
        epss: &loaded.epss,
        feeds_read: judge::feeds_read(&loaded.set),
        now: loaded.now,
        needs_bytes,
    };
    let per_thread = chunk.keys.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let cx = &cx;
        let work = |keys: &[String]| {
            keys.iter().map(|key| judge_one(cx, loaded, chunk, key)).collect::<Result<Vec<One>>>()
        };
        let workers: Vec<_> =
            chunk.keys.chunks(per_thread).map(|keys| scope.spawn(move || work(keys))).collect();
        let mut out = Vec::with_capacity(chunk.keys.len());
        for worker in workers {
            let part = worker.join().unwrap_or_else(|_| Err(Error::fault("a judging thread stopped")));
            out.extend(part?);
        }
        Ok(out)
    })
}

fn judge_one(cx: &Context<'_>, loaded: &Loaded, chunk: &Chunk, key: &str) -> Result<One> {
    fn of<'a, T>(map: &BTreeMap<String, Id<T>>, objects: &'a HashMap<Digest, T>, key: &str) -> Option<&'a T> {
        map.get(key).and_then(|id| objects.get(&id.digest()))
    }
    let shard_key = ShardKey::parse(key);
    let identity = match cx.ecosystem {
        Ecosystem::Conda => loaded.identities.get(&shard_key.name),
        Ecosystem::Pypi => None,
    };
    let lookups = matching::lookups(cx.ecosystem, &shard_key.name, identity);
    let slices: Vec<(Lookup, &Slice)> = lookups
        .into_iter()
        .filter_map(|l| of(&loaded.slices, &chunk.slices, l.key.as_str()).map(|slice| (l, slice)))
        .collect();
    let upstream = of(&loaded.shards, &chunk.shards, key);
    let listed = of(&loaded.listed, &chunk.shards, key);
    let facts = of(&loaded.facts, &chunk.facts, key);
    let previous = of(&loaded.before, &chunk.before, key);
    let local = Local { upstream, listed, facts, identity, slices: &slices, previous };
    let judgement = judge::judge_local(cx, &shard_key, &local);
    let is_listed = |_: &str, file: &str| listed.is_some_and(|s| s.entries.contains_key(file));
    let settled = judge::settle([(key, &judgement)], is_listed);
    let published = match (upstream, facts) {
        (Some(upstream), Some(facts)) => publish::publish(upstream, &judgement, facts),
        _ => None,
    };
    let published = published.map(|shard| object::encode(&shard)).transpose()?;
    let changes = changes(cx.channel, previous, &judgement);
    Ok(One { key: key.to_owned(), judgement, published, settled, changes })
}

/// What differs between two judgements of one shard.
fn changes(channel: &str, before: Option<&Judgement>, after: &Judgement) -> Vec<VerdictChange> {
    let shown = |judged: Option<&Judged>| judged.filter(|j| !j.gone).map(|j| j.verdict.word());
    let none = BTreeMap::new();
    let old = before.map_or(&none, |b| &b.artifacts);
    let files: BTreeSet<&String> = old.keys().chain(after.artifacts.keys()).collect();
    let mut out = Vec::new();
    for file in files {
        let (was, is) = (old.get(file), after.artifacts.get(file));
        let (from, to) = (shown(was), shown(is));
        if from == to {
            continue;
        }
        let why = is.map_or_else(|| "no longer in the source".to_owned(), judge::reason);
        let version = is.or(was).map(|j| j.version.clone()).unwrap_or_default();
        let artifact = after.subdir.as_ref().map_or_else(|| file.clone(), |s| format!("{s}/{file}"));
        out.push(VerdictChange {
            channel: channel.to_owned(),
            artifact,
            name: after.name.clone(),
            version,
            from,
            to,
            why,
        });
    }
    out
}
