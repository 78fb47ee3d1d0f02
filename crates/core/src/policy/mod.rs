//! Policies: what a station denies, holds or warns of, as data.
//!
//! A policy is a TOML file, kept as it was written. It is a list of named rules, each with an action and a
//! condition over typed predicates joined by `all`, `any` and `not`. Predicates have three values
//! ([`Truth`]); the strictest action of all rules that match is the verdict.

mod eval;
pub mod form;
mod parse;
mod plain;
mod predicates;
pub mod ready;
pub mod table;
mod values;

use serde::{Deserialize, Serialize};

use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::id::Digest;
use crate::identity::Coverage;
use crate::licence::Named;
use crate::matching::{Confidence, Status};
use crate::pattern::Pattern;
use crate::python::Python;
use crate::severity::Preferred;
use crate::spec::Spec;
use crate::time::Span;

pub use eval::{Subject, Truth};
pub use parse::PolicyError;
pub use predicates::Licence;

/// The policy that `airlock init` writes.
pub const DEFAULT: &str = include_str!("default.toml");
/// Its name.
pub const DEFAULT_NAME: &str = "default";
/// The name of the policy of children that have none of their own.
pub const INHERITED_NAME: &str = "inherited";
/// What it says.
pub const INHERITED: &str = include_str!("inherited.toml");

/// A policy as it is stored: the file as it was written, so that comments travel and nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The TOML text.
    pub text: String,
}

crate::object!(PolicyText, "airlock.policy.v1");

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
    /// Names of software made in-house, which the predicate `reserved` means.
    pub reserved: Vec<Pattern>,
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
    /// How long what is published already stays where the rule comes to deny it; none: it goes at once.
    pub grace: Option<Span>,
    /// The hash of what it says, whatever its spelling: two rules of one name are not one rule.
    pub digest: Digest,
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

/// A predicate whose subject is one finding. [`table`] says what each holds for.
#[derive(Debug, Clone, PartialEq)]
pub enum FindingPredicate {
    /// The score has no number.
    CvssMissing,
    /// The score compares so, or the highest of this version of CVSS. Unknown where there is no number.
    Cvss(Bound, Option<&'static str>),
    /// The vector that counts has these values. Unknown where it has not the metric.
    CvssVector(Vec<Metric>),
    /// The band of the score is one of these. Unknown where there is no number.
    Severity(Vec<&'static str>),
    /// The state is one of these.
    Status(Vec<Status>),
    /// It is so sure.
    Confidence(Vec<Confidence>),
    /// Known to be exploited, or not.
    Kev(bool),
    /// The probability of exploitation compares so. Unknown where there is none.
    Epss(Bound),
    /// Its rank compares so.
    EpssPercentile(Bound),
    /// Reports malware, or not.
    Malicious(bool),
    /// One of these weaknesses is named. Unknown where none is.
    Cwe(Vec<String>),
    /// A version that fixes it is known, or not.
    FixAvailable(bool),
    /// The time since it was published compares so. Unknown where nobody says when.
    Age(Age),
}

/// A predicate whose subject is the artifact. [`table`] says what each holds for.
#[derive(Debug, Clone, PartialEq)]
pub enum ArtifactPredicate {
    /// The ecosystem is one of these.
    Ecosystem(Vec<Ecosystem>),
    /// The name matches one of these patterns.
    Name(Vec<Pattern>),
    /// The name is reserved for software made in-house, or not.
    Reserved(bool),
    /// The version is in this range. Unknown where it cannot be told.
    Version(VersionRange),
    /// The conda build string matches one of these patterns.
    Build(Vec<Pattern>),
    /// The conda subdir, or a platform tag of the wheel, matches one of these patterns.
    Platform(Vec<Pattern>),
    /// It can be used with one of these versions of Python.
    Python(Vec<Python>),
    /// The file is of one of these kinds.
    Kind(Vec<ArtifactKind>),
    /// Its size in bytes compares so. Unknown where nobody says it.
    Size(Bound),
    /// It may be used under these licences alone. Unknown where nobody states one that can be read.
    Licence(Vec<Named>),
    /// It cannot be used without one of these licences.
    LicenceNeeds(Vec<Named>),
    /// Nobody states a licence that can be read.
    LicenceUnknown,
    /// The age compares so. Unknown where the record has no time.
    Age(Age),
    /// This station knows it for less than this.
    FirstSeenWithin(Span),
    /// Withdrawn by its publisher, or not.
    Yanked(bool),
    /// No longer listed by its index, or still.
    Removed(bool),
    /// The index says one of these of the project.
    ProjectStatus(Vec<&'static str>),
    /// The index names an attestation of where it was made, or none.
    Attested(bool),
    /// What the channel is read from matches one of these patterns.
    Source(Vec<Pattern>),
    /// How well advisories cover it.
    Coverage(Vec<Coverage>),
    /// What is known of vulnerabilities is older than this.
    FeedOlderThan(Span),
    /// What it depends on is offered no more (see [`crate::closure`]).
    DependencyDenied,
}

/// A comparison of an age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    /// Younger than this, or (if false) older.
    pub younger: bool,
    /// The limit.
    pub than: Span,
}

/// One value of a CVSS vector: `AV:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// The metric, `AV`.
    pub name: String,
    /// Its value, `N`.
    pub value: String,
}

/// A range of versions as people write them behind a name: `>=1.2,<2`. It is read by the rules of each ecosystem that can
/// read it.
#[derive(Debug, Clone)]
pub struct VersionRange {
    text: String,
    conda: Option<Box<Spec>>,
    pypi: Option<Box<Spec>>,
}

impl PartialEq for VersionRange {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl VersionRange {
    /// Reads a range; none if no ecosystem can.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let read = |ecosystem| {
            Spec::parse(ecosystem, &format!("x {text}")).ok().filter(Spec::has_versions).map(Box::new)
        };
        let (conda, pypi) = (read(Ecosystem::Conda), read(Ecosystem::Pypi));
        (conda.is_some() || pypi.is_some()).then(|| Self { text: text.to_owned(), conda, pypi })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn holds(&self, ecosystem: Ecosystem, version: &str) -> Truth {
        let spec = match ecosystem {
            Ecosystem::Conda => &self.conda,
            Ecosystem::Pypi => &self.pypi,
        };
        match spec {
            Some(spec) if spec.can_tell(version) => spec.matches_version(version).into(),
            _ => Truth::Unknown,
        }
    }
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
    /// Whether its number is one that scores can have.
    fn is_in_tenths(self) -> bool {
        let (Self::Above(x) | Self::AtLeast(x) | Self::Below(x) | Self::AtMost(x)) = self;
        let tenths = x * 10.0;
        (tenths - tenths.round()).abs() < 1e-9
    }

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
