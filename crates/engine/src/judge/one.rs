//! Judging one shard: unpacking what is known of it, ruling, packing what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlock_core::advisory::{Epss, Kev, Ranks, Slice};
use airlock_core::assess::{By, Statements};
use airlock_core::channel::Channel;
use airlock_core::closure::{Known, Part};
use airlock_core::decision::Decisions;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::identity::Identity;
use airlock_core::judge::{self, Context, Local, Settled};
use airlock_core::matching::Lookup;
use airlock_core::object::{self, Object};
use airlock_core::ordered;
use airlock_core::policy::{Action, Policy};
use airlock_core::publish::{self, Published};
use airlock_core::shadow::Differences;
use airlock_core::shard::{self, Shard, ShardKey};
use airlock_core::snapshot::{Counts, Covered};
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};
use airlock_store::Packed;

use super::changes::{FindingChanges, OfShard, Row};
use super::{Touched, Wanted};
use crate::error::Result;

/// What is the same for every shard.
#[derive(Clone)]
pub(super) struct Common {
    pub channel: Channel,
    pub source: String,
    pub policy: Policy,
    pub decisions: Decisions,
    /// They are large.
    pub kev: Arc<Kev>,
    pub epss: Arc<Epss>,
    pub ranks: Option<Arc<Ranks>>,
    pub feeds_read: Option<Time>,
    pub now: Time,
    pub needs_bytes: bool,
    pub dry: bool,
    pub compare: bool,
    /// Whether what is held is fetched as well.
    pub fetches_held: bool,
    /// Whether a part of the channel is judged, whose sums take the place of what it added before.
    pub in_part: bool,
    /// Whether to tell what closure needs to know.
    pub parts: Option<ForClosure>,
}

/// How closure is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForClosure {
    /// Whether what only lacks its bytes counts as offered.
    pub before_fetch: bool,
}

impl Common {
    fn context(&self) -> Context<'_> {
        Context {
            channel: &self.channel.name,
            ecosystem: self.channel.ecosystem,
            source: &self.source,
            policy: &self.policy,
            decisions: &self.decisions,
            kev: &self.kev,
            epss: &self.epss,
            ranks: self.ranks.as_deref(),
            feeds_read: self.feeds_read,
            now: self.now,
            needs_bytes: self.needs_bytes,
            looks_ahead: !self.dry,
        }
    }
}

/// What stands no longer: who ruled, of which vulnerability of which package; why not, and for how many files.
pub type Reopened = BTreeMap<(By, String, String), (String, u64)>;

/// What is known of one shard, as it lies in the store.
pub(super) struct Task {
    pub key: String,
    pub upstream: Option<(Id<Shard>, Arc<Packed>)>,
    pub listed: Option<(Id<Shard>, Arc<Packed>)>,
    pub facts: Option<Arc<Packed>>,
    pub before: Option<Arc<Packed>>,
    /// What the previous snapshot published of it.
    pub content: Option<Id<Shard>>,
    pub identity: Option<Identity>,
    pub slices: Vec<(Lookup, Arc<Slice>)>,
    pub statements: Vec<(Lookup, Arc<Statements>)>,
    /// By file: the dependency of which nothing is offered any more.
    pub lacks: Option<Arc<BTreeMap<String, String>>>,
    /// What was found of it where the channel comes from.
    pub sent: Option<Arc<Packed>>,
    /// Whether it is not judged anew: what was found before stands.
    pub is_kept: bool,
}

/// What came of a task.
pub(super) enum Done {
    /// The shard was judged.
    Judged(Box<One>),
    /// What closure needs to know of a shard whose judgement stands.
    Kept(Option<Part>),
}

/// What judging it gave.
pub(super) struct One {
    pub key: String,
    pub objects: Vec<Packed>,
    pub touched: Touched,
    /// What it adds to the channel's sums now, and what it added before.
    pub settled: Settled,
    pub before: (Counts, Covered),
    pub changes: OfShard,
    pub differences: Differences,
    pub findings: FindingChanges,
    pub reopened: Reopened,
    /// What closure needs to know of it, where that is asked for.
    pub part: Option<Part>,
}

fn unpack<T: Object>(packed: Option<&Arc<Packed>>) -> Result<Option<T>> {
    packed.map(|p| Ok(p.read(object::decode)??)).transpose()
}

/// The facts, as far as they have a say here.
fn facts_of(common: &Common, task: &Task) -> Result<Option<Facts>> {
    let mut facts: Option<Facts> = unpack(task.facts.as_ref())?;
    // What a parent offers it has weighed by what its sender holds; nobody need let it in once more.
    if let Some(facts) = facts.as_mut().filter(|_| common.channel.parent().is_some()) {
        facts.held.clear();
    }
    Ok(facts)
}

/// Judges one shard, or tells what closure needs to know of it.
pub(super) fn done(common: &Common, task: Task) -> Result<Done> {
    match task.is_kept {
        true => kept(common, &task).map(Done::Kept),
        false => judge(common, task).map(|one| Done::Judged(Box::new(one))),
    }
}

/// What the source lists, and what kept snapshots do where that is something else.
fn shards_of(task: &Task) -> Result<(Option<Shard>, Listed)> {
    let upstream: Option<Shard> = unpack(task.upstream.as_ref().map(|(_, packed)| packed))?;
    let same = task.upstream.as_ref().map(|(id, _)| id) == task.listed.as_ref().map(|(id, _)| id);
    let listed = match same {
        true => Listed::Same,
        false => Listed::Other(unpack(task.listed.as_ref().map(|(_, packed)| packed))?),
    };
    Ok((upstream, listed))
}

/// What kept snapshots list of a shard.
enum Listed {
    /// What the source lists.
    Same,
    /// This.
    Other(Option<Shard>),
}

impl Listed {
    fn of<'a>(&'a self, upstream: Option<&'a Shard>) -> Option<&'a Shard> {
        match self {
            Self::Same => upstream,
            Self::Other(shard) => shard.as_ref(),
        }
    }
}

/// What closure needs to know of a shard whose judgement stands.
fn kept(common: &Common, task: &Task) -> Result<Option<Part>> {
    let (upstream, listed) = shards_of(task)?;
    let facts = facts_of(common, task)?;
    let before: Option<Judgement> = unpack(task.before.as_ref())?;
    // What nobody judged is not offered.
    let Some(now) = &before else { return Ok(None) };
    let (upstream, facts) = (upstream.as_ref(), facts.as_ref());
    let before_fetch = common.parts.is_some_and(|ask| ask.before_fetch);
    let known = Known { upstream, listed: listed.of(upstream), facts, before: Some(now), now, before_fetch };
    Ok(Some(Part::of(&task.key, &known)))
}

/// Judges one shard.
fn judge(common: &Common, task: Task) -> Result<One> {
    let cx = common.context();
    let (upstream, listed) = shards_of(&task)?;
    let listed = listed.of(upstream.as_ref());
    let facts = facts_of(common, &task)?;
    let before: Option<Judgement> = unpack(task.before.as_ref())?;
    let sent: Option<Judgement> = unpack(task.sent.as_ref())?;
    let slices: Vec<(Lookup, &Slice)> = task.slices.iter().map(|(l, s)| (l.clone(), &**s)).collect();
    let statements: Vec<(Lookup, &Statements)> =
        task.statements.iter().map(|(l, s)| (l.clone(), &**s)).collect();
    let local = Local {
        upstream: upstream.as_ref(),
        listed,
        facts: facts.as_ref(),
        identity: task.identity.as_ref(),
        slices: &slices,
        statements: &statements,
        previous: before.as_ref(),
        lacks: task.lacks.as_deref(),
        sent: sent.as_ref(),
    };
    let judgement = judge::judge_local(&cx, &ShardKey::parse(&task.key), &local);
    let settle = |judgement: &Judgement| {
        let is_listed = |_: &str, file: &str| listed.is_some_and(|s| s.entries.contains_key(file));
        judge::settle([(task.key.as_str(), judgement)], is_listed)
    };
    let published = match (&upstream, &facts) {
        // Nobody publishes what is only looked at.
        (Some(upstream), Some(facts)) if !common.dry => publish::publish(upstream, &judgement, facts),
        _ => Published::Nothing,
    };
    let added = before.as_ref().filter(|_| common.in_part);
    let mut objects = Vec::new();
    let now = match (published, &task.upstream) {
        (Published::Part(shard), _) => {
            let (id, encoded) = object::encode(&shard)?;
            objects.push(Packed::of(&encoded)?);
            Some(id)
        }
        (Published::Whole, Some((id, _))) => Some(*id),
        _ => None,
    };
    let is_nowhere = upstream.is_none() && listed.is_none();
    let id = if common.dry || is_nowhere {
        None
    } else {
        let (id, encoded) = object::encode(&judgement)?;
        objects.push(Packed::of(&encoded)?);
        Some(id)
    };
    let touched = Touched {
        before: task.content,
        now,
        judgement: id,
        wanted: wanted(&judgement, facts.as_ref(), common.fetches_held),
        has_unseen: has_unseen(upstream.as_ref(), facts.as_ref()),
        lacks_bytes: judgement.artifacts.values().any(lacks_bytes),
    };
    Ok(One {
        objects,
        touched,
        settled: settle(&judgement),
        before: added.map(settle).map(|s| (s.counts, s.covered)).unwrap_or_default(),
        changes: changes(before.as_ref(), &judgement)?,
        differences: differences(common, &task.key, before.as_ref(), &judgement),
        findings: FindingChanges::between(before.as_ref(), &judgement),
        reopened: reopened(before.as_ref(), &judgement),
        part: common.parts.map(|ask| Part::of(&task.key, &known(&local, &judgement, ask))),
        key: task.key,
    })
}

/// What policies would do otherwise, where that is asked for.
fn differences(common: &Common, key: &str, before: Option<&Judgement>, after: &Judgement) -> Differences {
    match before {
        Some(before) if common.compare => Differences::between(&ShardKey::parse(key), before, after),
        _ => Differences::default(),
    }
}

/// What closure needs to know.
fn known<'a>(local: &Local<'a>, now: &'a Judgement, ask: ForClosure) -> Known<'a> {
    let Local { upstream, listed, facts, previous, .. } = *local;
    Known { upstream, listed, facts, before: previous, now, before_fetch: ask.before_fetch }
}

/// What keeps an artifact out.
fn against(judged: &Judged) -> impl Iterator<Item = &RuleHit> {
    judged.rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action >= Action::Hold)
}

/// Whether nothing but its bytes keeps it out, or what opening it may tell.
fn is_wanted(judged: &Judged) -> bool {
    !judged.gone
        && against(judged).next().is_some()
        && against(judged).all(|hit| hit.unopened || is_about_bytes(hit))
}

/// Whether it is held and not here: of a tree that comes as well, since the medium is gone when somebody lets it in, and so
/// does what is carried for others to judge.
fn is_held_outside(file: &str, judged: &Judged, facts: Option<&Facts>) -> bool {
    let is_here = facts.and_then(|facts| facts.files.get(file)).is_some_and(|fact| fact.file.is_some());
    !judged.gone && !is_here && against(judged).all(|hit| hit.action == Action::Hold)
}

/// The files to fetch.
fn wanted(judgement: &Judgement, facts: Option<&Facts>, with_held: bool) -> Vec<Wanted> {
    let comes = |(file, judged): &(&String, &Judged)| {
        is_wanted(judged) || (with_held && is_held_outside(file, judged, facts))
    };
    let wanted = judgement.artifacts.iter().filter(comes);
    // What is only warned of is admitted, and fetched as such.
    let probed = |judged: &Judged| !with_held && against(judged).any(|hit| hit.unopened);
    wanted.map(|(file, judged)| Wanted { file: file.clone(), is_probe: probed(judged) }).collect()
}

fn is_about_bytes(hit: &RuleHit) -> bool {
    hit.rule == builtin::NOT_FETCHED || hit.rule == builtin::MISMATCH
}

fn has_unseen(upstream: Option<&Shard>, facts: Option<&Facts>) -> bool {
    let Some(upstream) = upstream else { return false };
    let seen = |file: &String| facts.is_some_and(|f| f.files.contains_key(file));
    !upstream.entries.keys().all(seen)
}

/// Whether the next reading of the source should try to fetch it.
fn lacks_bytes(judged: &Judged) -> bool {
    judged.verdict != Verdict::Admit && (is_wanted(judged) || judged.rules.iter().any(is_about_bytes))
}

/// What stood at the last judgement and stands no longer, because something became known.
fn reopened(before: Option<&Judgement>, after: &Judgement) -> Reopened {
    let mut out = Reopened::new();
    for (file, judged) in &after.artifacts {
        for (vulnerability, now) in &judged.assessed {
            let Some(why) = &now.void else { continue };
            let was = before.and_then(|b| b.artifacts.get(file)).and_then(|j| j.assessed.get(vulnerability));
            if was.is_some_and(|was| was.by == now.by && was.void.is_none()) {
                let of = (now.by.clone(), vulnerability.clone(), after.name.clone());
                out.entry(of).or_insert_with(|| (why.clone(), 0)).1 += 1;
            }
        }
    }
    out
}

/// What differs between two judgements of one shard.
fn changes(before: Option<&Judgement>, after: &Judgement) -> Result<OfShard> {
    let shown = |judged: Option<&Judged>| judged.filter(|j| !j.gone).map(|j| j.verdict);
    let none = BTreeMap::new();
    let old = before.map_or(&none, |b| &b.artifacts);
    let mut out = OfShard::default();
    for (file, was, is) in ordered::both(old, &after.artifacts) {
        let (from, to) = (shown(was), shown(is));
        let leaves = is.and_then(judge::leaving).filter(|_| was.is_none_or(|was| was.denied_from.is_none()));
        if from == to && leaves.is_none() {
            continue;
        }
        let why = match (leaves, is) {
            (Some(leaving), _) => format!("denied from {} on: {}", leaving.from, leaving.reason),
            (None, Some(judged)) => judge::reason(judged),
            (None, None) => "no longer in the source".to_owned(),
        };
        let version = is.or(was).map_or("", |j| &j.version);
        let artifact = shard::place(after.subdir.as_deref(), file);
        out.push(&Row {
            name: (&*after.name).into(),
            artifact: artifact.into(),
            version: version.into(),
            from,
            to,
            why: why.into(),
        })?;
    }
    Ok(out)
}
