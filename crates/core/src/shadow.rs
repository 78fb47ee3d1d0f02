//! What another policy would do otherwise, beside the one in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::policy::Action;
use crate::shard::ShardKey;
use crate::snapshot::Counts;
use crate::time::Time;
use crate::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

/// Most differences that are told one by one; the others are counted.
pub const DIFFERENCES_MAX: usize = 1000;

/// An artifact with which another policy would do otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it comes to by the policy in force.
    pub from: Verdict,
    /// What it would come to.
    pub to: Verdict,
    /// The rules that make it so: of the other policy where that is stricter, of the one in force where that is.
    pub rules: BTreeSet<String>,
    /// Since when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// How two policies differ on a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// What everything comes to by the policy in force.
    pub does: Counts,
    /// What everything would come to.
    pub would: Counts,
    /// How many artifacts would newly be admitted, held or denied.
    pub newly: Counts,
    /// The same by rule; what several rules make so is counted for each.
    pub by_rule: BTreeMap<String, Counts>,
    /// The first of them, in the order of shards and files.
    pub list: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
}

/// What a judgement of an artifact comes to: once its deadline or grace has ended, and its bytes are here, which no policy
/// decides.
fn comes_to(judged: &Judged) -> Verdict {
    let is_about_bytes =
        |hit: &RuleHit| [builtin::NOT_FETCHED, builtin::MISMATCH].contains(&hit.rule.as_str());
    if judged.denied_from.is_some() {
        Verdict::Deny
    } else if judged.review_by.is_some() {
        Verdict::Hold
    } else if judged.verdict != Verdict::Admit && judged.deciding().all(is_about_bytes) {
        Verdict::Admit
    } else {
        judged.verdict
    }
}

/// The rules that make it come to that.
fn rules(judged: &Judged, verdict: Verdict) -> BTreeSet<String> {
    let action = if verdict == Verdict::Deny { Action::Deny } else { Action::Hold };
    let counts = |hit: &&RuleHit| hit.waived_by.is_none() && hit.action >= action;
    judged.rules.iter().filter(counts).map(|hit| hit.rule.clone()).collect()
}

const fn count(counts: &mut Counts, verdict: Verdict) {
    match verdict {
        Verdict::Admit => counts.admit += 1,
        Verdict::Hold => counts.hold += 1,
        Verdict::Deny => counts.deny += 1,
    }
}

impl Differences {
    /// Between the judgement of a shard that is in force, and that by another policy. What only one of them knows, or the
    /// source lists no longer, is no difference between policies.
    pub fn between(key: &ShardKey, in_force: &Judgement, other: &Judgement) -> Self {
        let mut out = Self::default();
        for (file, would) in other.artifacts.iter().filter(|(_, judged)| !judged.gone) {
            let Some(does) = in_force.artifacts.get(file).filter(|judged| !judged.gone) else { continue };
            let (from, to) = (comes_to(does), comes_to(would));
            count(&mut out.does, from);
            count(&mut out.would, to);
            if from == to {
                continue;
            }
            let rules = if to > from { rules(would, to) } else { rules(does, from) };
            count(&mut out.newly, to);
            for rule in &rules {
                count(out.by_rule.entry(rule.clone()).or_default(), to);
            }
            out.list.push(Difference {
                artifact: key.place(file),
                name: other.name.clone(),
                version: would.version.clone(),
                from,
                to,
                rules,
                since: None,
            });
        }
        out.bound();
        out
    }

    /// Takes in those of a shard that comes behind.
    pub fn add(&mut self, other: Self) {
        self.does.add(other.does);
        self.would.add(other.would);
        self.newly.add(other.newly);
        for (rule, counts) in other.by_rule {
            self.by_rule.entry(rule).or_default().add(counts);
        }
        self.list.extend(other.list);
        self.more += other.more;
        self.bound();
    }

    fn bound(&mut self) {
        self.more += self.list.len().saturating_sub(DIFFERENCES_MAX) as u64;
        self.list.truncate(DIFFERENCES_MAX);
    }

    /// How many artifacts it would do otherwise with.
    pub const fn len(&self) -> u64 {
        self.newly.admit + self.newly.hold + self.newly.deny
    }

    /// Whether it would do the same.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
