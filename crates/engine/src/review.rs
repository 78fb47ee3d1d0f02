//! What waits for a person: what is held, with what is needed to decide.

mod asked;
pub mod baseline;
mod dependents;
mod since;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use airlock_core::closure::Dependents;
use airlock_core::decision::{Approved, Ruling, Scope};
use airlock_core::ecosystem::{ArtifactKind, file_name_parts};
use airlock_core::explain::Offered;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::policy::Action;
use airlock_core::record::Artifact;
use airlock_core::severity::Tenths;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

use crate::boxed;
use crate::error::{Error, Result};
use crate::explain::{self, Package};
use crate::tree_edit;
use crate::view::{ChannelView, View};

pub use asked::AskedFor;
pub use since::Since;

/// A version of a package of which files are held for the same reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The files, with their subdir for conda.
    pub artifacts: BTreeSet<String>,
    /// What holds them: rules, each with the vulnerability on which it rests, if on one.
    pub rules: BTreeSet<Holding>,
    /// The findings on which that rests, worst first.
    pub findings: Vec<HeldFinding>,
    /// What the files say of their licence.
    pub licences: BTreeSet<String>,
    /// Their bytes together, as far as they are known.
    pub size: u64,
    /// When the newest of them was made, by its index.
    pub made: Option<Time>,
    /// When this station first saw one of them.
    pub first_seen: Option<Time>,
    /// They are offered until then, since they were before a rule came to hold them.
    pub review_by: Option<Time>,
    /// The nearest version that is offered.
    pub nearest: Option<String>,
    /// Who asked for it, the newest first: people of this station, and peers.
    pub requests: Vec<AskedFor>,
    /// What depends on it of what is offered or held.
    pub dependents: Dependents,
}

/// A rule that holds something, and the vulnerability on which it rests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holding {
    /// The rule.
    pub rule: String,
    /// The vulnerability.
    pub advisory: Option<String>,
    /// By what its sender holds it, where that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
}

/// A finding on which a hold rests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldFinding {
    /// The vulnerability.
    pub advisory: String,
    /// Its score, if it has one.
    pub score: Option<Tenths>,
    /// Whether it is known to be exploited.
    pub kev: bool,
    /// One line.
    pub summary: String,
    /// The versions that fix it.
    pub fixed: BTreeSet<String>,
}

/// What holds an artifact and a person could lift: rules of the policy, or its sender, and not that its bytes are not here.
fn holding(judged: &Judged) -> impl Iterator<Item = &RuleHit> {
    let lifts = |hit: &&RuleHit| {
        hit.waived_by.is_none() && hit.action == Action::Hold && builtin::may_be_approved(&hit.rule)
    };
    judged.rules.iter().filter(lifts)
}

/// Whether it waits for a person: it is held, or would be but for its deadline.
fn waits(judged: &Judged) -> bool {
    !judged.gone
        && (judged.verdict == Verdict::Hold || judged.review_by.is_some())
        && holding(judged).next().is_some()
}

/// What waits of one package, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// What waits.
    #[serde(flatten)]
    pub held: Held,
    /// For each of its files what is another than in the last that was admitted, where one was.
    pub since: Vec<Since>,
    /// How many more files could be compared.
    pub since_left_out: usize,
}

/// What of a channel is meant.
struct Meant {
    spec: Spec,
    /// One file alone, by where it lies or by its name.
    artifact: Option<String>,
}

impl Meant {
    fn is(&self, place: &str, judged: &Judged) -> bool {
        let is_it = |one: &String| one == place || place.rsplit('/').next() == Some(one);
        self.spec.matches_version(&judged.version) && self.artifact.as_ref().is_none_or(is_it)
    }
}

/// Everything in a channel that matches `spec` and waits for a person: what is offered still first, by its deadline, and
/// what else waits by its name.
pub async fn queue(view: &View, channel: &ChannelView, spec: &Spec) -> Result<Vec<Held>> {
    waiting(view, channel, &Meant { spec: spec.clone(), artifact: None }).await
}

/// What waits of one package, and what is another in it than in the last version that was admitted. `text` is a file, with
/// its subdir or without, or a spec of one name.
///
/// # Errors
///
/// The answer is no where nothing of it waits.
pub async fn show(view: &View, channel: &ChannelView, text: &str) -> Result<Vec<Shown>> {
    let ecosystem = channel.channel.ecosystem;
    let file = text.rsplit('/').next().unwrap_or(text);
    let artifact = ArtifactKind::of(ecosystem, file).map(|_| text.to_owned());
    let asked = match artifact.is_some().then(|| file_name_parts(ecosystem, file)).flatten() {
        Some((name, _)) => name,
        None => text.to_owned(),
    };
    let spec = Spec::parse(ecosystem, &asked).map_err(|e| Error::usage(e.to_string()))?;
    let name = spec.exact_name().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("`{text}` means several packages"))
            .hint("name one, or a file of it; `airlock review queue` lists what waits")
    })?;
    let held = waiting(view, channel, &Meant { spec, artifact }).await?;
    if held.is_empty() {
        let message = format!("nothing of `{text}` in channel `{}` waits for a person", channel.channel.name);
        return Err(Error::no(message).hint(format!(
            "`airlock explain {} {name}` says what became of each file",
            channel.channel.name
        )));
    }
    let package = since::Known::read(view, channel, &name).await?;
    Ok(held
        .into_iter()
        .map(|held| {
            let (since, since_left_out) = package.since(&held);
            Shown { held, since, since_left_out }
        })
        .collect())
}

#[boxed]
async fn waiting(view: &View, channel: &ChannelView, meant: &Meant) -> Result<Vec<Held>> {
    let packages: BTreeMap<String, Package> = match meant.spec.exact_name() {
        Some(name) => [(name.to_owned(), explain::package(view, channel, name).await?)].into(),
        None => explain::judgements(view, channel, |name| meant.spec.matches_name(name)).await?,
    };
    let asked = asked::Asked::read(view.station(), channel).await?;
    let mut out = Vec::new();
    for package in packages.values() {
        let offered = Offered::of(channel.channel.ecosystem, package.ours.iter().map(AsRef::as_ref));
        let mut held: BTreeMap<(String, BTreeSet<Holding>), Held> = BTreeMap::new();
        for judgement in &package.ours {
            of_shard(view, channel, judgement, meant, &mut held).await?;
        }
        out.extend(held.into_values().map(|held| {
            let nearest = offered.nearest(channel.channel.ecosystem, &held.version).map(str::to_owned);
            let requests = asked.of(&held.name, &held.version);
            Held { nearest, requests, ..held }
        }));
    }
    drop(packages);
    let by_deadline = |held: &Held| (held.review_by.is_none(), held.review_by, held.name.clone());
    out.sort_by_key(by_deadline);
    let dependents = dependents::dependents(view, channel, &out).await?;
    out.iter_mut().zip(dependents).for_each(|(held, dependents)| held.dependents = dependents);
    Ok(out)
}

async fn of_shard(
    view: &View,
    channel: &ChannelView,
    judgement: &Judgement,
    meant: &Meant,
    into: &mut BTreeMap<(String, BTreeSet<Holding>), Held>,
) -> Result<()> {
    let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() };
    let is_meant = |file: &str, judged: &Judged| waits(judged) && meant.is(&key.place(file), judged);
    if !judgement.artifacts.iter().any(|(file, judged)| is_meant(file, judged)) {
        return Ok(());
    }
    let (shard, facts) = known(view, channel, &key).await?;
    for (file, judged) in judgement.artifacts.iter().filter(|(file, judged)| is_meant(file, judged)) {
        let rules: BTreeSet<Holding> = holding(judged).map(of_hit).collect();
        let held = into.entry((judged.version.clone(), rules.clone())).or_insert_with(|| Held {
            name: judgement.name.clone(),
            version: judged.version.clone(),
            artifacts: BTreeSet::new(),
            findings: findings(judgement, judged, &rules),
            rules,
            licences: BTreeSet::new(),
            size: 0,
            made: None,
            first_seen: None,
            review_by: None,
            nearest: None,
            requests: Vec::new(),
            dependents: Dependents::default(),
        });
        held.artifacts.insert(key.place(file));
        held.review_by = [held.review_by, judged.review_by].into_iter().flatten().min();
        let fact = facts.as_ref().and_then(|facts| facts.files.get(file));
        let opened = fact.and_then(|fact| fact.file.as_ref());
        held.first_seen = [held.first_seen, fact.map(|fact| fact.first_seen)].into_iter().flatten().min();
        let entry = shard.as_ref().and_then(|shard| Some((shard, shard.entries.get(file)?)));
        if let Some(artifact) = entry.and_then(|(shard, entry)| Artifact::read(shard, file, entry).ok()) {
            held.size += opened.map(|file| file.size).or(artifact.size).unwrap_or_default();
            held.made = held.made.max(artifact.time);
            held.licences.extend(artifact.licence);
        }
        held.licences.extend(opened.and_then(|file| file.licence.clone()));
    }
    Ok(())
}

fn of_hit(hit: &RuleHit) -> Holding {
    let there = hit.detail.clone().filter(|_| hit.rule == builtin::HELD_BY_SENDER);
    Holding { rule: hit.rule.clone(), advisory: hit.advisory.clone(), there }
}

/// What is known of the vulnerabilities on which these rules rest, worst first.
fn findings(judgement: &Judgement, judged: &Judged, rules: &BTreeSet<Holding>) -> Vec<HeldFinding> {
    let named: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.advisory.as_deref()).collect();
    let found = judgement.findings_of(judged);
    let mut out: Vec<HeldFinding> = found
        .iter()
        .filter(|finding| named.contains(finding.advisory.as_str()))
        .map(|finding| HeldFinding {
            advisory: finding.advisory.clone(),
            score: finding.score.as_ref().map(|score| score.score),
            kev: finding.kev,
            summary: finding.summary.clone(),
            fixed: finding.fixed.clone(),
        })
        .collect();
    out.sort_by(|a, b| (b.kev, b.score).cmp(&(a.kev, a.score)).then_with(|| a.advisory.cmp(&b.advisory)));
    out
}

/// The records of a shard, and what its files say.
async fn known(view: &View, channel: &ChannelView, key: &ShardKey) -> Result<(Option<Shard>, Option<Facts>)> {
    let db = &view.station().store.db;
    let inputs = &channel.newest.inputs;
    let upstream = view.object(inputs.upstream).await?;
    let key = key.to_string();
    let shards: BTreeMap<String, Id<Shard>> = tree_edit::find_many(db, upstream.tree, [key.as_str()]).await?;
    let facts: BTreeMap<String, Id<Facts>> = tree_edit::find_many(db, inputs.facts, [key.as_str()]).await?;
    let shard = match shards.get(&key) {
        Some(id) => Some(db.get(*id).await?),
        None => None,
    };
    let facts = match facts.get(&key) {
        Some(id) => Some(db.get(*id).await?),
        None => None,
    };
    Ok((shard, facts))
}

/// How many files of an approval or a baseline have no hash that anybody knows. What they are is known once they are fetched,
/// and that was not weighed.
pub fn without_hash(ruling: &Ruling) -> usize {
    match ruling {
        Ruling::Approve { files, .. } => files.iter().filter(|file| file.sha256.is_none()).count(),
        Ruling::Baseline { files, .. } => files.values().filter(|file| file.sha256.is_none()).count(),
        _ => 0,
    }
}

/// The ruling that approves what is held within a scope: these files, as far as they are held now, by one rule or by all.
pub async fn approval(
    view: &View,
    channel: &ChannelView,
    scope: Scope,
    rule: Option<&str>,
) -> Result<Ruling> {
    let hits = |judged: &Judged| -> Vec<RuleHit> {
        let hits = holding(judged).filter(|hit| rule.is_none_or(|rule| hit.rule == rule));
        if waits(judged) { hits.cloned().collect() } else { Vec::new() }
    };
    let found = weigh::weigh(view, channel, &scope, hits).await?;
    let files = found
        .into_iter()
        .map(|file| Approved { artifact: file.artifact, sha256: file.sha256, weighed: file.weighed })
        .collect();
    Ok(Ruling::Approve { scope, files })
}
