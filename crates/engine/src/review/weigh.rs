//! What keeps files out, put down so that a decision can say what it weighed.

use std::collections::BTreeSet;

use airlock_core::decision::{Scope, State, Target, Weighed, is_grave};
use airlock_core::held::Hold;
use airlock_core::id::Digest;
use airlock_core::judge;
use airlock_core::matching::Finding;
use airlock_core::policy::Policy;
use airlock_core::record::Artifact;
use airlock_core::shard::ShardKey;
use airlock_core::spec::Spec;
use airlock_core::verdict::{Judged, RuleHit, builtin};

use super::known;
use crate::error::{Error, Result};
use crate::explain;
use crate::view::{ChannelView, View};

/// A file, and what was weighed of what keeps it out.
pub(super) struct Found {
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its shard lies.
    pub key: ShardKey,
    /// The file alone.
    pub file: String,
    /// Its hash, as far as it is known: that of its bytes, else that which its record declares.
    pub sha256: Option<Digest>,
    /// What was weighed.
    pub weighed: Vec<Weighed>,
    /// Whether something that is known to be exploited or malicious stands open against it.
    pub is_grave: bool,
}

/// Everything of a channel within a scope of which `hits` tells what is to be weighed.
pub(super) async fn weigh(
    view: &View,
    channel: &ChannelView,
    scope: &Scope,
    hits: impl Fn(&Judged) -> Vec<RuleHit>,
) -> Result<Vec<Found>> {
    let ecosystem = channel.channel.ecosystem;
    let spec = Spec::parse(ecosystem, &scope.spec).map_err(|e| Error::usage(e.to_string()))?;
    // That by which it was judged, and not another one that was set since.
    let text = view.object(channel.newest.inputs.policy).await?;
    let policy = crate::policy::read(&text.text)?;
    let packages = explain::judgements(view, channel, |name| spec.matches_name(name)).await?;
    let mut out = Vec::new();
    for judgement in packages.values().flat_map(|package| &package.ours) {
        let wanted: Vec<(&String, &Judged, Vec<RuleHit>)> = judgement
            .artifacts
            .iter()
            .map(|(file, judged)| (file, judged, hits(judged)))
            .filter(|(_, _, hits)| !hits.is_empty())
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() };
        let (shard, facts) = known(view, channel, &key).await?;
        let project_status = shard.as_ref().and_then(judge::project_status);
        for (file, judged, hits) in wanted {
            let entry =
                shard.as_ref().and_then(|shard| Artifact::read(shard, file, shard.entries.get(file)?).ok());
            let Some(artifact) = entry else { continue };
            let fact = facts.as_ref().and_then(|facts| facts.files.get(file)?.file.as_ref());
            let held = facts.as_ref().and_then(|facts| facts.held.get(file)).map_or(&[][..], Vec::as_slice);
            let target = Target {
                ecosystem,
                channel: &channel.channel.name,
                name: &judgement.name,
                version: &judged.version,
                file,
                build: artifact.build.as_deref(),
                build_number: artifact.build_number,
                subdir: judgement.subdir.as_deref(),
                sha256: fact.map(|file| file.sha256).or(artifact.sha256),
            };
            if !scope.covers(&target, false) {
                continue;
            }
            let found = judgement.findings_of(judged);
            let state = State {
                yanked: artifact.yanked,
                gone: judged.gone,
                project_status: project_status.as_deref(),
                lacks: None,
            };
            let weighed: BTreeSet<Weighed> =
                hits.iter().filter_map(|hit| one((&policy, held), hit, &found, state)).collect();
            if !weighed.is_empty() {
                out.push(Found {
                    artifact: target.place(),
                    name: judgement.name.clone(),
                    version: judged.version.clone(),
                    sha256: target.sha256,
                    weighed: weighed.into_iter().collect(),
                    is_grave: is_grave(&found),
                    file: file.clone(),
                    key: key.clone(),
                });
            }
        }
    }
    Ok(out)
}

/// What is weighed of one rule.
fn one(
    (policy, held): (&Policy, &[Hold]),
    hit: &RuleHit,
    found: &[Finding],
    state: State<'_>,
) -> Option<Weighed> {
    if hit.rule == builtin::HELD_BY_SENDER {
        let hold = held.iter().find(|hold| hold.hit(hit.waived_by.clone()) == *hit)?;
        return hold.weighed(&state);
    }
    let rule = policy.rules.iter().find(|rule| rule.name == hit.rule)?;
    let finding = match &hit.advisory {
        Some(id) => Some(found.iter().find(|f| f.advisory == *id)?),
        None => None,
    };
    Weighed::of(rule, (finding, found), &State { lacks: hit.detail.as_deref(), ..state }, hit.unknown)
}
