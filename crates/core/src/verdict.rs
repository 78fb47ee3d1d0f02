//! Verdicts and everything that made them so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::assess::{self, Assessments, Basis};
use crate::ecosystem::Ecosystem;
use crate::identity::Coverage;
use crate::matching::Finding;
use crate::policy::Action;
use crate::time::Time;

/// What a channel does with one artifact. Ordered from mild to strict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is offered.
    Admit,
    /// It waits for a person.
    Hold,
    /// It is not offered.
    Deny,
}

impl Verdict {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admit => "admitted",
            Self::Hold => "held",
            Self::Deny => "denied",
        }
    }
}

/// Rules that no policy contains and none can lift.
pub mod builtin {
    /// A person's block.
    pub const BLOCKED: &str = "blocked";
    /// A person looked at what was held, and does not want it.
    pub const REJECTED: &str = "rejected";
    /// The channel is frozen, and does not offer it yet.
    pub const FROZEN: &str = "frozen";
    /// The record's hash is not the one that was pinned when the file was first fetched.
    pub const FILE_CHANGED: &str = "file-changed";
    /// The fetched bytes contradict the record.
    pub const MISMATCH: &str = "mismatch";
    /// The file could not be fetched yet, so that there is nothing verified to offer.
    pub const NOT_FETCHED: &str = "not-fetched";
    /// The record cannot be read.
    pub const BAD_RECORD: &str = "bad-record";
    /// The station that sent the file holds it, and leaves it to a person here.
    pub const HELD_BY_SENDER: &str = "held-by-sender";
    /// Whoever the file came from, a sending station or a parent channel, denied it and offers it no more.
    pub const DENIED_AT_ORIGIN: &str = "denied-at-origin";
    /// All of them.
    pub const ALL: [&str; 9] = [
        BLOCKED,
        REJECTED,
        FROZEN,
        FILE_CHANGED,
        MISMATCH,
        NOT_FETCHED,
        BAD_RECORD,
        HELD_BY_SENDER,
        DENIED_AT_ORIGIN,
    ];

    /// Whether a person may approve what this rule holds: a rule of the policy, or that a sender holds it.
    pub fn may_be_approved(rule: &str) -> bool {
        rule == HELD_BY_SENDER || !ALL.contains(&rule)
    }
}

/// One rule that had a say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleHit {
    /// The rule of the policy, or one of [`builtin`].
    pub rule: String,
    /// What it does here. A rule that stays unknown holds, whatever it would do.
    pub action: Action,
    /// Whether it is unknown that the rule holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// Whether opening the artifact may tell that it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unopened: bool,
    /// The vulnerability that it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// A sentence, where the rule's name does not say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The decision that lifts it here. A lifted rule does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived_by: Option<String>,
}

/// The judgement of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The version.
    pub version: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Every rule that had a say, strictest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleHit>,
    /// It was published before rules came to hold it, and stays until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<Time>,
    /// It was published before rules with a grace came to deny it, and is denied from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_from: Option<Time>,
    /// The grace that it has, or had and that is not forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graced: Option<Graced>,
    /// The first moment at which time alone would change the verdict, would start a review, or would forget a grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips_at: Option<Time>,
    /// The index lists it no longer; it is judged because a kept snapshot does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// What was ruled of its findings.
    #[serde(default, skip_serializing_if = "Assessments::is_empty")]
    pub assessed: Assessments,
}

/// A grace that a file was given once. Whatever the rules deny it for next waits no longer than that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graced {
    /// When it ends, or ended.
    pub end: Time,
    /// For what that was announced. Programs of before rules of revision 8 did not say; what was lifted since is not in it then.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub of: BTreeSet<Announced>,
    /// When it is forgotten, if the rules are silent until then; none while they speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<Time>,
}

/// Something for which the end of a grace was announced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Announced {
    /// The rule.
    pub rule: String,
    /// The vulnerability that it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
}

impl Judged {
    /// Whether the new snapshot offers it.
    pub fn is_offered(&self) -> bool {
        self.verdict == Verdict::Admit && !self.gone
    }

    /// The rules that made the verdict: those as strict as it is, and not lifted.
    pub fn deciding(&self) -> impl Iterator<Item = &RuleHit> {
        let action = match self.verdict {
            Verdict::Admit => Action::Warn,
            Verdict::Hold => Action::Hold,
            Verdict::Deny => Action::Deny,
        };
        self.rules.iter().filter(move |r| r.waived_by.is_none() && r.action >= action)
    }
}

/// The judgement of one shard: findings by version, verdicts by file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The canonical name.
    pub name: String,
    /// The conda subdir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// How well advisories cover the package.
    pub coverage: Coverage,
    /// What is known against each version; versions without findings are absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<String, Vec<Finding>>,
    /// The verdicts by file name.
    #[serde(deserialize_with = "crate::ordered::read")]
    pub artifacts: BTreeMap<String, Judged>,
    /// What was known when statements about the package counted for the first time (see [`assess`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weighed: BTreeMap<String, Basis>,
}

crate::object!(Judgement, "airlock.judgement.v1");

impl Judgement {
    /// What is known against one artifact, in the states that were ruled.
    pub fn findings_of(&self, judged: &Judged) -> Cow<'_, [Finding]> {
        let findings = self.findings.get(&judged.version).map_or(&[][..], Vec::as_slice);
        assess::apply(findings, &judged.assessed)
    }
}
