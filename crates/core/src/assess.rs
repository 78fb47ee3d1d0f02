//! What people and other sources rule of findings: that one is confirmed, mitigated, cleared or disputed.
//!
//! A person's ruling stands on what was known when it was made, its [`Basis`]. When what the records say is affected,
//! the score, or the state of exploitation changes, a ruling that made a finding milder stands no longer: somebody has
//! to look again. What a VEX document or a package states of itself counts only where a person trusts that source for
//! that name, and never against what is known to be exploited or malicious.

mod assessing;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::advisory::{Kev, Slice, SliceEntry};
use crate::canon::Canonical;
use crate::decision::Target;
use crate::id::Digest;
use crate::matching::{Finding, Lookup, Status};
use crate::severity::{self, Tenths};
use crate::time::Time;
use crate::version::{Inside, Order, Range};

pub use assessing::{Assessing, Of};

/// Why a product is not affected (OpenVEX 0.2.0, "Status Justifications"; the same five stand in CSAF 2.0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Justification {
    /// The product does not contain the vulnerable component.
    ComponentNotPresent,
    /// The component is there, its vulnerable code is not.
    VulnerableCodeNotPresent,
    /// The vulnerable code is there and never runs.
    VulnerableCodeNotInExecutePath,
    /// The vulnerable code runs, and no attacker can make use of it.
    VulnerableCodeCannotBeControlledByAdversary,
    /// Something in the product prevents that it is exploited.
    InlineMitigationsAlreadyExist,
}

impl Justification {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ComponentNotPresent,
        Self::VulnerableCodeNotPresent,
        Self::VulnerableCodeNotInExecutePath,
        Self::VulnerableCodeCannotBeControlledByAdversary,
        Self::InlineMitigationsAlreadyExist,
    ];

    /// The label in OpenVEX and CSAF.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ComponentNotPresent => "component_not_present",
            Self::VulnerableCodeNotPresent => "vulnerable_code_not_present",
            Self::VulnerableCodeNotInExecutePath => "vulnerable_code_not_in_execute_path",
            Self::VulnerableCodeCannotBeControlledByAdversary => {
                "vulnerable_code_cannot_be_controlled_by_adversary"
            }
            Self::InlineMitigationsAlreadyExist => "inline_mitigations_already_exist",
        }
    }
}

/// What was known of one vulnerability of one package when somebody ruled on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Whether it was known to be exploited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kev: bool,
    /// By record: the hash of what it says is affected.
    pub records: BTreeMap<String, Digest>,
    /// The highest score of any source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Tenths>,
}

impl Basis {
    /// What is known now of a vulnerability by the name under which it is one entry; none if nothing is.
    pub fn of(vulnerability: &str, slices: &[(Lookup, &Slice)], kev: &Kev) -> Option<Self> {
        let mut of = keyed(slices).filter(|(_, entry)| entry.vulnerability == vulnerability).peekable();
        of.peek()?;
        Some(Self::from_entries(of, kev))
    }

    fn from_entries<'a>(entries: impl Iterator<Item = (&'a str, &'a SliceEntry)>, kev: &Kev) -> Self {
        let mut said: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        let (mut scores, mut is_exploited) = (Vec::new(), false);
        for (key, entry) in entries {
            let what = (key, &entry.ranges, &entry.target, &entry.versions);
            said.entry(&entry.advisory).or_default().push(what);
            scores.extend(entry.scores.iter().cloned());
            is_exploited |= names(entry).any(|name| kev.entries.contains_key(name));
        }
        let hash = |what: Vec<_>| Canonical::of(&what).ok().map(|text| Digest::of(text.as_str().as_bytes()));
        let records = said.into_iter().filter_map(|(record, what)| Some((record.to_owned(), hash(what)?)));
        Self {
            kev: is_exploited,
            records: records.collect(),
            score: severity::highest(&scores).map(|s| s.score),
        }
    }

    /// What is known `now` that was otherwise when somebody ruled; none if nothing is.
    pub fn news(&self, now: &Self) -> Option<String> {
        let score = |score: Option<Tenths>| score.map_or("none".to_owned(), |s| s.to_string());
        if now.kev != self.kev {
            return Some(
                if now.kev { "it is known to be exploited" } else { "it is known to be exploited no longer" }
                    .to_owned(),
            );
        }
        if now.score != self.score {
            return Some(format!("its score was {} and is {}", score(self.score), score(now.score)));
        }
        let changed = |record: &&String| self.records.get(*record) != now.records.get(*record);
        let record = self.records.keys().chain(now.records.keys()).find(changed)?;
        Some(match (self.records.contains_key(record), now.records.contains_key(record)) {
            (false, _) => format!("{record} speaks of it too"),
            (_, false) => format!("{record} speaks of it no longer"),
            _ => format!("{record} says otherwise what is affected"),
        })
    }
}

/// All entries, with the match key under which each stands.
fn keyed<'a>(slices: &'a [(Lookup, &'a Slice)]) -> impl Iterator<Item = (&'a str, &'a SliceEntry)> {
    slices.iter().flat_map(|(l, slice)| slice.entries.iter().map(move |entry| (l.key.as_str(), entry)))
}

/// Every name of the vulnerability that an entry is about.
fn names(entry: &SliceEntry) -> impl Iterator<Item = &str> {
    [&entry.vulnerability, &entry.advisory].into_iter().chain(&entry.aliases).map(String::as_str)
}

/// The name under which a vulnerability of a package is one entry, by any of its names. A record of several CVEs is none of
/// them alone: it is meant by its own id only.
pub fn vulnerability<'a>(slices: &'a [(Lookup, &'a Slice)], id: &str) -> Option<&'a str> {
    let is = |name: &str| name.eq_ignore_ascii_case(id);
    let own = |entry: &&SliceEntry| is(&entry.vulnerability) || is(&entry.advisory);
    let other = |entry: &&SliceEntry| names(entry).any(is) && has_one_cve(names(entry));
    let entries = || keyed(slices).map(|(_, entry)| entry);
    entries().find(own).or_else(|| entries().find(other)).map(|entry| entry.vulnerability.as_str())
}

/// Whether among these names is one CVE at most.
fn has_one_cve<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    names.filter(|name| name.starts_with("CVE-")).collect::<BTreeSet<_>>().len() <= 1
}

/// What a source states of one vulnerability in one product (a VEX statement).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Statement {
    /// Every other name of the vulnerability.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// Who states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Only this build of a conda package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Only builds with this number or a greater one: a fix that came without a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_from: Option<u64>,
    /// Only the file of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// For a product that is not affected: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Justification>,
    /// Why, or what to do, in the words of whoever states it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only files with one of these hashes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sha256: BTreeSet<Digest>,
    /// Which feed it comes from; none within the feed itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What is stated.
    pub status: Status,
    /// Only packages for this platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// When it was stated; of two by one source the later counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Versions that it is about; none are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// The vulnerability.
    pub vulnerability: String,
}

/// The versions that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versions {
    /// One of them.
    One(String),
    /// All in one of these ranges.
    Ranges(Vec<Range>),
}

/// The statements about the package of one match key; or, under [`document_key`], a document that some were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    /// The document as its author wrote it, in value: white space and the order of keys are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Canonical>,
    /// In the order of their sources and texts.
    pub list: Vec<Statement>,
}

/// Where a document stands among the statements that were read from it: under what no match key is.
pub fn document_key(document: &Canonical) -> String {
    format!("document:{}", Digest::of(document.as_str().as_bytes()))
}

crate::object!(Statements, "airlock.statements.v1");

impl Statement {
    /// A statement that speaks of all files of a package.
    pub fn new(vulnerability: &str, status: Status) -> Self {
        Self {
            aliases: BTreeSet::new(),
            author: None,
            build: None,
            build_from: None,
            file: None,
            justification: None,
            note: String::new(),
            sha256: BTreeSet::new(),
            source: String::new(),
            status,
            subdir: None,
            time: None,
            versions: None,
            vulnerability: vulnerability.to_owned(),
        }
    }

    /// What it is told apart by from what the same source says at another time.
    fn digest(&self) -> Digest {
        let text = Canonical::of(self).map(|text| text.as_str().to_owned()).unwrap_or_default();
        Digest::of(text.as_bytes())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.vulnerability).chain(&self.aliases).map(String::as_str)
    }

    /// Whether it is about a finding. One that makes it milder has to be about all that the finding stands for: a record
    /// of two CVEs is not cleared by what is said of one of them.
    fn is_about(&self, finding: &Finding) -> bool {
        let cves: BTreeSet<&str> = finding.names().filter(|name| name.starts_with("CVE-")).collect();
        self.names().any(|name| finding.is_called(name))
            && (!is_milder(self.status)
                || cves.len() <= 1
                || cves.iter().all(|cve| self.names().any(|name| name == *cve)))
    }

    /// Whether it is about this file. What cannot be told is no.
    fn covers(&self, target: &Target<'_>, orders: &[Order]) -> bool {
        let version = |of: &Versions| match of {
            Versions::One(one) => {
                one == target.version
                    || orders.iter().find_map(|order| order.compare(one, target.version))
                        == Some(std::cmp::Ordering::Equal)
            }
            Versions::Ranges(ranges) => ranges.iter().any(|range| {
                let said = orders.iter().map(|order| range.contains(*order, target.version));
                said.into_iter().find(|inside| *inside != Inside::Unknown) == Some(Inside::Yes)
            }),
        };
        self.versions.as_ref().is_none_or(version)
            && self.build.as_deref().is_none_or(|build| target.build == Some(build))
            && self.build_from.is_none_or(|from| target.build_number.is_some_and(|n| n >= from))
            && self.file.as_deref().is_none_or(|file| target.file == file)
            && self.subdir.as_deref().is_none_or(|subdir| target.subdir == Some(subdir))
            && (self.sha256.is_empty() || target.sha256.is_some_and(|hash| self.sha256.contains(&hash)))
    }
}

/// Who ruled, or stated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A person, by this decision.
    Decision(String),
    /// A feed of statements, of this name.
    Feed(String),
    /// The package itself, in its `info/security.json`.
    Package,
}

impl By {
    /// How people name it as a source that they trust: a feed's name, or `package`.
    pub fn source(&self) -> &str {
        match self {
            Self::Decision(id) | Self::Feed(id) => id,
            Self::Package => PACKAGE,
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decision(id) => write!(f, "decision {id}"),
            Self::Feed(name) => write!(f, "feed {name}"),
            Self::Package => write!(f, "the package itself"),
        }
    }
}

/// What packages say of themselves, as a source that people may trust.
pub const PACKAGE: &str = "package";

/// What was ruled of a finding on one artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Assessed {
    /// Who ruled.
    pub by: By,
    /// Why it is cleared, in terms that scanners read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Justification>,
    /// Why, in the words of whoever ruled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was ruled.
    pub status: Status,
    /// Why it does not count, or no longer: what became known since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<String>,
}

impl Assessed {
    /// The state that it gives a finding, unless something speaks against that.
    pub fn stands(&self) -> Option<Status> {
        self.void.is_none().then_some(self.status)
    }
}

/// What is ruled of the findings of one artifact, by vulnerability.
pub type Assessments = BTreeMap<String, Assessed>;

/// The findings of an artifact in the states that were ruled.
pub fn apply<'a>(findings: &'a [Finding], ruled: &Assessments) -> Cow<'a, [Finding]> {
    let standing = |f: &Finding| ruled.get(&f.advisory).and_then(Assessed::stands);
    if findings.iter().all(|f| standing(f).is_none()) {
        return Cow::Borrowed(findings);
    }
    let stated = |f: &Finding| {
        let mut f = f.clone();
        if let Some(status) = standing(&f) {
            f.status = status;
            // Somebody says that it does concern this version.
            f.undecided &= status != Status::Active;
        }
        f
    };
    Cow::Owned(findings.iter().map(stated).collect())
}

/// Whether a state is milder than that of a finding at which nobody looked.
pub const fn is_milder(status: Status) -> bool {
    matches!(status, Status::Mitigated | Status::Cleared | Status::Disputed)
}

/// How strict a state is; of several the strictest counts.
pub const fn strictness(status: Status) -> u8 {
    match status {
        Status::Active => 4,
        Status::Reported => 3,
        Status::Disputed => 2,
        Status::Mitigated => 1,
        Status::Cleared => 0,
    }
}
