//! Judging a channel with what is known now.
//!
//! What a change reaches is judged anew, everything else is taken from the previous snapshot; without one, all of
//! it is judged. Inputs are read from the store in batches, each shard is judged by itself on several threads, and
//! what comes out is the same whatever the number of threads.

mod changes;
mod closure;
mod inputs;
mod one;
mod scope;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use airlock_core::advisory::{AdvisorySet, Epss, Kev, Ranks, Slice};
use airlock_core::assess::Statements;
use airlock_core::block::BlockSet;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::closure::Impossible;
use airlock_core::decision::Decisions;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::judge::{Settled, feeds_read};
use airlock_core::matching::{self, Lookup};
use airlock_core::object::{self, Object};
use airlock_core::shadow::Differences;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Counts, Covered, Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_store::{Db, Packed};

use crate::boxed;
use crate::error::Result;
use crate::progress::Unit;
use crate::station::Station;
use crate::trees::Writing;
use crate::{feeds, tree_edit, trees};

pub use changes::{Changes, FindingChanges, VerdictChange};
use closure::{Growing, Lacks};
use inputs::Inputs;
pub use one::Reopened;
use one::{Common, Done, ForClosure, One, Task};
use scope::{Maps, Scope};
pub use touched::{Touched, TouchedShards, Wanted};

/// Shards that are read and judged at once.
const CHUNK: usize = 512;
/// Chunks that are on their way at the same time: one is read while another is judged.
const CHUNKS_AT_ONCE: usize = 2;

/// How to judge.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// At another moment than now.
    pub as_of: Option<Time>,
    /// By another policy than the channel's.
    pub policy: Option<String>,
    /// By another set of advisories than what is known; only to see what would be.
    pub advisories: Option<Id<AdvisorySet>>,
    /// By other facts than the channel's; only to see what would be.
    pub facts: Option<TreeId<Id<Facts>>>,
    /// By other decisions than those that were made; only to see what would be.
    pub decisions: Option<Id<Decisions>>,
    /// Ask what would be admitted if its bytes were here.
    pub without_bytes: bool,
    /// Look also at what still lacks its bytes, so that it is tried to fetch it.
    pub for_fetch: bool,
    /// Fetch also what is held, for people elsewhere to judge.
    pub held: bool,
    /// Only to see what would be: nothing is written.
    pub dry: bool,
    /// Judge everything, also what nothing reached since the last time.
    pub anew: bool,
    /// Tell what can no longer be installed.
    pub closure: bool,
    /// Tell what differs from what is in force, as policies decide it (see [`airlock_core::shadow`]).
    pub compare: bool,
}

/// A judgement of a channel that is not published yet.
#[derive(Debug)]
pub struct Judgment {
    /// The channel.
    pub channel: Channel,
    /// What would be published; none if it was only to be seen what would be.
    pub snapshot: Option<Snapshot>,
    /// How many artifacts have which verdict.
    pub counts: Counts,
    /// The shards that were judged anew.
    pub touched: TouchedShards,
    /// What is denied of everything that a kept snapshot lists.
    pub blocks: BlockSet,
    /// What changes.
    pub changes: Changes,
    /// What differs from what is in force; where that was asked for.
    pub differences: Differences,
    /// What changes in what is known of vulnerabilities.
    pub findings: FindingChanges,
    /// What people or sources ruled of findings and stands no longer, since something became known.
    pub reopened: Reopened,
    /// The snapshot before it.
    pub previous: Option<(Id<Snapshot>, Snapshot)>,
    /// What stood in the refs that make verdicts stricter when judging began: block set, decisions, advisories,
    /// policy. If one of them moved since, this judgement may not know of a denial.
    pub known: Vec<(String, Option<Digest>)>,
    /// What was offered before and cannot be installed any more, though it could; where that was asked for.
    pub uninstallable: Option<Vec<Impossible>>,
    /// Whether the snapshot says nothing that the one before did not say.
    pub unchanged: bool,
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

/// Judges a channel. Nothing is published and no ref moves.
///
/// `upstream` is what to judge, where that is not what the channel holds now.
pub async fn judge(
    station: &Station,
    channel: &Channel,
    how: &How,
    upstream: Option<Id<Upstream>>,
) -> Result<Judgment> {
    let inputs = Inputs::read(station, channel, how, upstream).await?;
    run(station, channel, how, inputs, !how.dry).await
}

/// Judges a channel again with what a snapshot was judged by. Nothing is published and no ref moves.
pub(crate) async fn again(station: &Station, channel: &Channel, snapshot: &Snapshot) -> Result<Judgment> {
    let inputs = Inputs::of(station, snapshot).await?;
    run(station, channel, &How { anew: true, ..How::default() }, inputs, false).await
}

#[boxed]
async fn run(
    station: &Station,
    channel: &Channel,
    how: &How,
    inputs: Inputs,
    is_news: bool,
) -> Result<Judgment> {
    let scope = Scope::of(station, channel, how, &inputs).await?;
    let asks = inputs.asks_dependencies();
    // Whether something can be installed rests on all of the channel, also on what is judged as before.
    let whole = how.closure || asks;
    let maps = Maps::read(station, channel, &inputs, (&scope, whole)).await?;
    let common = Common {
        in_part: matches!(scope, Scope::Some(_)),
        ..common(station, channel, how, &inputs, &maps).await?
    };
    let parts = whole.then_some(ForClosure { before_fetch: how.for_fetch });
    let mut lacks = Lacks::new();
    let (mut uninstallable, mut judged) = (None, None);
    if parts.is_some() {
        // By what the other rules say; what only the rules on dependencies say changes nothing of what is possible.
        let first = Common { parts, dry: how.dry || asks, ..common.clone() };
        let mut sum = judge_all(station, first, &scope, (&maps, &lacks)).await?;
        let found = sum.impossible(channel.ecosystem).await?;
        uninstallable = Some(found.lost);
        match asks {
            true => lacks = closure::by_key(found.now),
            false => judged = Some(sum),
        }
    }
    let sum = match judged {
        Some(sum) => sum,
        None => judge_all(station, common, &scope, (&maps, &lacks)).await?,
    };
    // Each of them names the whole channel, and the trees that follow take as much again.
    drop(maps);
    if matches!(scope, Scope::All) && channel.ecosystem == Ecosystem::Conda && is_news {
        feeds::index_names(station, inputs.set.identities).await?;
    }
    let settled = sum.settled(station, channel, &inputs, &scope).await?;
    let blocks = object::encode(&settled.blocks)?.0.digest();
    let snapshot = match how.dry {
        true => None,
        false => Some(sum.snapshot(station, channel, &inputs, &scope, &settled).await?),
    };
    let is_same =
        |now: &Snapshot| inputs.previous.as_ref().is_some_and(|(_, before)| says_the_same(before, now));
    Ok(Judgment {
        channel: channel.clone(),
        unchanged: snapshot.as_ref().is_some_and(is_same)
            && inputs.is_rendered
            && inputs.holds_blocks(channel, blocks),
        counts: settled.counts,
        snapshot,
        touched: sum.touched,
        blocks: settled.blocks,
        changes: sum.changes,
        differences: sum.differences,
        findings: sum.findings,
        reopened: sum.reopened,
        uninstallable,
        previous: inputs.previous,
        known: inputs.known,
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

async fn common(
    station: &Station,
    channel: &Channel,
    how: &How,
    inputs: &Inputs,
    maps: &Maps,
) -> Result<Common> {
    let db = &station.store.db;
    // They are large, and only joined to findings.
    let (kev, epss) = match maps.slices.is_empty() {
        true => (Kev::default(), Epss::default()),
        false => (db.get(inputs.set.kev).await?, db.get(inputs.set.epss).await?),
    };
    let asks_percentile = inputs.policy.rules.iter().any(|rule| rule.when.asks_percentile());
    Ok(Common {
        channel: channel.clone(),
        source: inputs.source.clone(),
        ranks: asks_percentile.then(|| Arc::new(Ranks::of(&epss))),
        policy: inputs.policy.clone(),
        decisions: inputs.decisions.clone(),
        kev: Arc::new(kev),
        epss: Arc::new(epss),
        feeds_read: feeds_read(&inputs.set),
        now: inputs.now,
        needs_bytes: !how.without_bytes,
        dry: how.dry,
        compare: how.compare,
        fetches_held: how.held || matches!(channel.feed, ChannelFeed::Tree {}),
        in_part: false,
        parts: None,
    })
}

/// Judges everything in scope; what comes out is written as it comes, so that it is never all in memory.
async fn judge_all(
    station: &Station,
    common: Common,
    scope: &Scope,
    (maps, lacks): (&Maps, &Lacks),
) -> Result<Sum> {
    let names = maps.keys.len() as u64;
    let task =
        station.options.progress.task(format!("judging {}", common.channel.name), Unit::Names, Some(names));
    let common = Arc::new(common);
    let touched = TouchedShards::with_room(match scope {
        Scope::All => maps.keys.len(),
        Scope::Some(keys) => keys.len(),
    });
    let mut sum = Sum { touched, changes: Changes::of(&common.channel.name), ..Sum::default() };
    let mut writing = Writing::default();
    let chunks: Vec<_> = maps
        .keys
        .chunks(CHUNK)
        .map(|keys| judge_chunk(station, &common, scope, (maps, lacks), keys))
        .collect();
    let mut chunks = stream::iter(chunks).buffered(CHUNKS_AT_ONCE);
    while let Some(chunk) = chunks.next().await {
        let (mut objects, mut parts) = (Vec::new(), Vec::new());
        for done in chunk? {
            match done {
                Done::Judged(mut one) => {
                    objects.append(&mut one.objects);
                    parts.extend(one.part.take());
                    sum.add(*one)?;
                }
                Done::Kept(part) => parts.extend(part),
            }
            task.add(1);
        }
        sum.graph.next(common.channel.ecosystem, parts).await?;
        writing.next(&station.store.db, objects).await?;
    }
    writing.end().await?;
    Ok(sum)
}

async fn judge_chunk(
    station: &Station,
    common: &Arc<Common>,
    scope: &Scope,
    (maps, lacks): (&Maps, &Lacks),
    keys: &[String],
) -> Result<Vec<Done>> {
    let db = &station.store.db;
    let threads = station.options.threads;
    let mut lookups: Vec<Vec<Lookup>> = Vec::with_capacity(keys.len());
    let mut slices: BTreeSet<Id<Slice>> = BTreeSet::new();
    for key in keys {
        let name = ShardKey::parse(key).name;
        let all = match scope.holds(key) {
            true => matching::lookups(common.channel.ecosystem, &name, maps.identity(&name)),
            false => Vec::new(),
        };
        slices.extend(all.iter().filter_map(|l| maps.slices.get(l.key.as_str())));
        lookups.push(all);
    }
    let slices: Vec<Id<Slice>> = slices.into_iter().collect();
    let packed = trees::packed(db, &slices).await?;
    let slices: HashMap<Digest, Arc<Slice>> = trees::on_threads(threads, packed, |one| {
        Ok((one.digest(), Arc::new(object::decode::<Slice>(&one.unpack()?)?)))
    })
    .await?
    .into_iter()
    .collect();
    let statements = statements(db, maps, &lookups).await?;
    let shards = lying(db, &[&maps.upstream, &maps.listed], keys).await?;
    let asks_facts = |key: &&String| scope.holds(key) || common.channel.ecosystem == Ecosystem::Pypi;
    let facts = lying(db, &[&maps.facts], keys.iter().filter(asks_facts)).await?;
    let before = lying(db, &[&maps.judgements], keys).await?;
    let sent = lying(db, &[&maps.sent], keys).await?;
    let task = |(key, lookups): (&String, Vec<Lookup>)| {
        let shard = |map: &BTreeMap<String, Id<Shard>>| {
            let id = map.get(key)?;
            Some((*id, shards.get(&id.digest())?.clone()))
        };
        let stated = |lookup: &Lookup| Some((lookup.clone(), statements.get(lookup.key.as_str())?.clone()));
        let stated = lookups.iter().filter_map(stated).collect();
        let found = lookups.into_iter().filter_map(|lookup| {
            let id = maps.slices.get(lookup.key.as_str())?;
            Some((lookup, slices.get(&id.digest())?.clone()))
        });
        Task {
            upstream: shard(&maps.upstream),
            listed: shard(&maps.listed),
            facts: maps.facts.get(key).and_then(|id| facts.get(&id.digest())).cloned(),
            before: maps.judgements.get(key).and_then(|id| before.get(&id.digest())).cloned(),
            content: maps.content.get(key).copied(),
            identity: maps.identity(&ShardKey::parse(key).name).cloned(),
            slices: found.collect(),
            statements: stated,
            lacks: lacks.get(key).cloned(),
            sent: maps.sent.get(key).and_then(|id| sent.get(&id.digest())).cloned(),
            is_kept: !scope.holds(key),
            key: key.clone(),
        }
    };
    let tasks: Vec<Task> = keys.iter().zip(lookups).map(task).collect();
    let common = common.clone();
    trees::on_threads(threads, tasks, move |task| one::done(&common, task)).await
}

/// What feeds state under these keys.
async fn statements(
    db: &Db,
    maps: &Maps,
    lookups: &[Vec<Lookup>],
) -> Result<HashMap<String, Arc<Statements>>> {
    let mut out = HashMap::new();
    for key in lookups.iter().flatten().map(|l| l.key.as_str()) {
        if let Some(id) = maps.statements.get(key).filter(|_| !out.contains_key(key)) {
            out.insert(key.to_owned(), Arc::new(db.get(*id).await?));
        }
    }
    Ok(out)
}

/// The objects that these maps name under some keys, as they lie in the store.
async fn lying<T: Object>(
    db: &Db,
    maps: &[&BTreeMap<String, Id<T>>],
    keys: impl IntoIterator<Item = &String>,
) -> Result<HashMap<Digest, Arc<Packed>>> {
    let of_key = |key| maps.iter().filter_map(move |map| map.get(key).copied());
    let ids: Vec<Id<T>> = keys.into_iter().flat_map(of_key).collect();
    Ok(trees::packed(db, &ids).await?.into_iter().map(|p| (p.digest(), Arc::new(p))).collect())
}

/// What the shards that were judged anew add up to.
#[derive(Default)]
struct Sum {
    settled: Settled,
    before: (Counts, Covered),
    touched: TouchedShards,
    changes: Changes,
    differences: Differences,
    findings: FindingChanges,
    reopened: Reopened,
    graph: Growing,
}

impl Sum {
    fn add(&mut self, one: One) -> Result<()> {
        self.settled.merge(one.settled);
        self.before.0.add(one.before.0);
        self.before.1.add(one.before.1);
        self.changes.add(&one.changes)?;
        self.differences.add(one.differences);
        self.findings.add(one.findings);
        for (of, (why, files)) in one.reopened {
            self.reopened.entry(of).or_insert((why, 0)).1 += files;
        }
        self.touched.add(one.key, one.touched);
        Ok(())
    }

    /// What the whole channel adds up to.
    async fn settled(
        &self,
        station: &Station,
        channel: &Channel,
        inputs: &Inputs,
        scope: &Scope,
    ) -> Result<Settled> {
        let mut settled = self.settled.clone();
        if let (Scope::Some(_), Some((_, before))) = (scope, &inputs.previous) {
            settled.counts.add(before.counts.without(self.before.0));
            settled.covered.add(before.covered.without(self.before.1));
            settled.valid_until = [settled.valid_until, before.valid_until].into_iter().flatten().min();
            let mut blocks = inputs.blocks(station, channel).await?;
            blocks.files.retain(|key, _| !self.touched.contains_key(key));
            blocks.leaving.retain(|key, _| !self.touched.contains_key(key));
            settled.blocks.files.extend(blocks.files);
            settled.blocks.leaving.extend(blocks.leaving);
        }
        Ok(settled)
    }

    /// The snapshot, whose trees are in the store when it is given.
    async fn snapshot(
        &self,
        station: &Station,
        channel: &Channel,
        inputs: &Inputs,
        scope: &Scope,
        settled: &Settled,
    ) -> Result<Snapshot> {
        let db = &station.store.db;
        let content = self.touched.iter().map(|(key, touched)| (key, &touched.now));
        let judged = self.touched.iter().map(|(key, touched)| (key, &touched.judgement));
        let before = inputs.previous.as_ref().filter(|_| matches!(scope, Scope::Some(_)));
        let before = before.map(|(_, before)| before);
        Ok(Snapshot {
            channel: channel.name.clone(),
            ecosystem: channel.ecosystem,
            inputs: inputs.for_snapshot(),
            content: grown(db, before.map(|b| b.content), content).await?,
            judgement: grown(db, before.map(|b| b.judgement), judged).await?,
            subdirs: inputs.upstream.subdirs.clone(),
            counts: settled.counts,
            covered: settled.covered,
            valid_until: settled.valid_until,
        })
    }
}

/// The tree of `before` with these keys changed; without one, the tree of these keys alone. It is in the store.
async fn grown<'a, T: 'a>(
    db: &Db,
    before: Option<TreeId<Id<T>>>,
    changes: impl Iterator<Item = (&'a str, &'a Option<Id<T>>)>,
) -> Result<TreeId<Id<T>>> {
    match before {
        Some(before) => {
            let changes = changes.map(|(key, value)| (key.to_owned(), *value)).collect();
            Ok(tree_edit::edit(db, Some(before), &changes).await?)
        }
        None => trees::store(db, changes.filter_map(|(key, value)| Some((key, value.as_ref()?)))).await,
    }
}
