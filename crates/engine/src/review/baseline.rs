//! What runs today, accepted in one act until a date.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::decision::{Accepted, Ruling, Scope};
use airlock_core::id::Digest;
use airlock_core::lock::{Contents, Wanted};
use airlock_core::policy::Action;
use airlock_core::verdict::{Judged, RuleHit, Verdict, builtin};

use super::weigh::{Found, weigh};
use crate::error::Result;
use crate::view::{ChannelView, View};

/// What a baseline of a scope would be.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// The ruling.
    pub ruling: Ruling,
    /// What is in the scope, and in use where lock files say what is, and stays out: something that is known to be exploited or
    /// malicious stands against it.
    pub grave: BTreeSet<String>,
}

/// Rules of the policy that keep an artifact out; none if something does that no baseline lifts.
fn keeping(judged: &Judged) -> Vec<RuleHit> {
    let counts = |hit: &&RuleHit| hit.waived_by.is_none() && hit.action >= Action::Hold;
    let is_builtin = |hit: &RuleHit| builtin::ALL.contains(&hit.rule.as_str());
    let is_out =
        judged.verdict != Verdict::Admit || judged.review_by.is_some() || judged.denied_from.is_some();
    let is_refused =
        judged.rules.iter().filter(counts).any(|hit| is_builtin(hit) && hit.action == Action::Deny);
    if judged.gone || !is_out || is_refused {
        return Vec::new();
    }
    judged.rules.iter().filter(counts).filter(|hit| !is_builtin(hit)).cloned().collect()
}

/// The ruling that accepts what the policy keeps out now of what the source lists within a scope; with lock files only what
/// one of them holds.
pub async fn baseline(
    view: &View,
    channel: &ChannelView,
    scope: Scope,
    locks: &[Contents],
) -> Result<Baseline> {
    let found = weigh(view, channel, &scope, keeping).await?;
    let (mut files, mut grave) = (BTreeMap::new(), BTreeSet::new());
    for file in found.into_iter().filter(|file| locks.is_empty() || is_held(channel, file, locks)) {
        if file.is_grave {
            grave.insert(file.artifact);
        } else {
            files.insert(file.artifact, Accepted { sha256: file.sha256, weighed: file.weighed });
        }
    }
    Ok(Baseline { ruling: Ruling::Baseline { scope, files }, grave })
}

fn is_held(channel: &ChannelView, file: &Found, locks: &[Contents]) -> bool {
    let sha256: BTreeSet<Digest> = file.sha256.into_iter().collect();
    let wanted = Wanted {
        ecosystem: channel.channel.ecosystem,
        name: &file.name,
        version: &file.version,
        subdir: file.key.subdir.as_deref(),
        file: &file.file,
        sha256: &sha256,
    };
    locks.iter().any(|lock| lock.holds(wanted).is_some())
}
