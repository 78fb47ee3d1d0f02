//! Policies: what a station denies, holds or warns of, as data.
//!
//! A policy is a TOML file, kept as it was written. It is a list of named rules, each with an action and a
//! condition over typed predicates joined by `all`, `any` and `not`. Predicates have three values
//! ([`Truth`]); the strictest action of all rules that match is the verdict.

mod eval;
mod parse;

use serde::{Deserialize, Serialize};

use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::identity::Coverage;
use crate::matching::Status;
use crate::object::Object;
use crate::severity::Preferred;
use crate::time::Span;

pub use eval::{Licence, Subject, Truth};
pub use parse::PolicyError;

/// The policy that `airlock init` writes.
pub const DEFAULT: &str = include_str!("default.toml");

/// A policy as it is stored: the file as it was written, so that comments travel and nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The TOML text.
    pub text: String,
}

impl Object for PolicyText {
    const KIND: &'static str = "airlock.policy.v1";
}

/// A policy, ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// How long what is already published may stay while it is held.
    pub hold_deadline: Span,
    /// Whose scores count, the first that there is; where there is none of them, and where the list is empty, the highest
    /// of all.
    pub scores: Vec<Preferred>,
    /// The rules in the order of the file, which decides nothing.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, unique within the policy.
    pub name: String,
    /// What it does where its condition holds.
    pub action: Action,
    /// The condition.
    pub when: Condition,
}

/// What a rule does. Ordered from mild to strict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is shown.
    Warn,
    /// New admissions stop; what is published gets a deadline.
    Hold,
    /// It acts at once.
    Deny,
}

impl Action {
    /// The name in a policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// A condition over an artifact and, where it speaks of findings, over one finding at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every one holds.
    All(Vec<Condition>),
    /// At least one holds.
    Any(Vec<Condition>),
    /// It does not hold; of what is unknown this is unknown too.
    Not(Box<Condition>),
    /// At least one finding of the artifact satisfies it.
    AnyFinding(Box<Condition>),
    /// No finding of the artifact satisfies it.
    NoFinding(Box<Condition>),
    /// A predicate on one finding.
    Finding(FindingPredicate),
    /// A predicate on the artifact.
    Artifact(ArtifactPredicate),
}

/// A predicate whose subject is one finding.
#[derive(Debug, Clone, PartialEq)]
pub enum FindingPredicate {
    /// The score has no number.
    CvssMissing,
    /// The score compares so. Unknown where there is no number.
    Cvss(Bound),
    /// The state is one of these.
    Status(Vec<Status>),
    /// Known to be exploited, or not.
    Kev(bool),
    /// The probability of exploitation compares so. Unknown where there is none.
    Epss(Bound),
    /// Reports malware, or not.
    Malicious(bool),
    /// A version that fixes it is known, or not.
    FixAvailable(bool),
}

/// A predicate whose subject is the artifact.
#[derive(Debug, Clone, PartialEq)]
pub enum ArtifactPredicate {
    /// The ecosystem is one of these.
    Ecosystem(Vec<Ecosystem>),
    /// The name matches one of these patterns (`*` and `?`).
    Name(Vec<String>),
    /// The file is of one of these kinds.
    Kind(Vec<ArtifactKind>),
    /// The age compares so. Unknown where the record has no time.
    Age {
        /// Younger than this, or (if false) older.
        younger: bool,
        /// The limit.
        than: Span,
    },
    /// Withdrawn by its publisher, or not.
    Yanked(bool),
    /// The licence is stated as one of these, in any case. Unknown where nobody states one.
    Licence(Vec<String>),
    /// How well advisories cover it.
    Coverage(Vec<Coverage>),
    /// What is known of vulnerabilities is older than this.
    FeedOlderThan(Span),
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Greater.
    Above(f64),
    /// Greater or equal.
    AtLeast(f64),
    /// Less.
    Below(f64),
    /// Less or equal.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Above(x) => value > x,
            Self::AtLeast(x) => value >= x,
            Self::Below(x) => value < x,
            Self::AtMost(x) => value <= x,
        }
    }
}

impl Policy {
    /// Reads a policy, or says where the fault is and what was probably meant.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        parse::parse(text)
    }
}
