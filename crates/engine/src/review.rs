//! What waits for a person: what is held, with what is needed to decide.

pub mod baseline;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use airlock_core::decision::{Approved, Ruling, Scope};
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

use crate::error::Result;
use crate::explain;
use crate::tree_edit;
use crate::view::{ChannelView, View};

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
}

/// A rule that holds something, and the vulnerability on which it rests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holding {
    /// The rule.
    pub rule: String,
    /// The vulnerability.
    pub advisory: Option<String>,
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

/// What holds an artifact and a person could lift: rules of the policy, and not that its bytes are not here.
fn holding(judged: &Judged) -> impl Iterator<Item = &RuleHit> {
    let lifts = |hit: &&RuleHit| {
        hit.waived_by.is_none() && hit.action == Action::Hold && !builtin::ALL.contains(&hit.rule.as_str())
    };
    judged.rules.iter().filter(lifts)
}

/// Whether it waits for a person: it is held, or would be but for its deadline.
fn waits(judged: &Judged) -> bool {
    !judged.gone
        && (judged.verdict == Verdict::Hold || judged.review_by.is_some())
        && holding(judged).next().is_some()
}

/// Everything in a channel that matches `spec` and waits for a person: what is offered still first, by its deadline, and
/// what else waits by its name.
pub async fn queue(view: &View, channel: &ChannelView, spec: &Spec) -> Result<Vec<Held>> {
    let packages = explain::judgements(view, channel, |name| spec.matches_name(name)).await?;
    let mut out = Vec::new();
    for package in packages.values() {
        let offered = Offered::of(channel.channel.ecosystem, package.ours.iter().map(AsRef::as_ref));
        let mut held: BTreeMap<(String, BTreeSet<Holding>), Held> = BTreeMap::new();
        for judgement in &package.ours {
            of_shard(view, channel, judgement, spec, &mut held).await?;
        }
        out.extend(held.into_values().map(|held| {
            let nearest = offered.nearest(channel.channel.ecosystem, &held.version).map(str::to_owned);
            Held { nearest, ..held }
        }));
    }
    let by_deadline = |held: &Held| (held.review_by.is_none(), held.review_by, held.name.clone());
    out.sort_by_key(by_deadline);
    Ok(out)
}

async fn of_shard(
    view: &View,
    channel: &ChannelView,
    judgement: &Judgement,
    spec: &Spec,
    into: &mut BTreeMap<(String, BTreeSet<Holding>), Held>,
) -> Result<()> {
    let is_meant = |judged: &Judged| waits(judged) && spec.matches_version(&judged.version);
    if !judgement.artifacts.values().any(is_meant) {
        return Ok(());
    }
    let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() };
    let (shard, facts) = known(view, channel, &key).await?;
    for (file, judged) in judgement.artifacts.iter().filter(|(_, judged)| is_meant(judged)) {
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
    Holding { rule: hit.rule.clone(), advisory: hit.advisory.clone() }
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
