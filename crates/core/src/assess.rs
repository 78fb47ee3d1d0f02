//! What people and other sources rule of findings: that one is confirmed, mitigated, cleared or disputed.
//!
//! A person's ruling stands on what was known when it was made, its [`Basis`]. When what the records say is affected,
//! the score, or the state of exploitation changes, a ruling that made a finding milder stands no longer: somebody has
//! to look again. What a VEX document or a package states of itself counts only where a person trusts that source for
//! that name, and never against what is known to be exploited or malicious.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::advisory::{Kev, Slice, SliceEntry};
use crate::canon::Canonical;
use crate::decision::{Decision, Decisions, Ruling, Target};
use crate::id::Digest;
use crate::matching::{Finding, Lookup, Status};
use crate::object::Object;
use crate::severity::{self, Tenths};
use crate::time::Time;
use crate::version::{Inside, Order, Range};

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
        let entries = || entries(slices).filter(|entry| entry.vulnerability == vulnerability);
        let mut said: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (key, entry) in slices.iter().flat_map(|(l, s)| s.entries.iter().map(|e| (l.key.as_str(), e))) {
            if entry.vulnerability == vulnerability {
                let what = (key, &entry.ranges, &entry.target, &entry.versions);
                said.entry(&entry.advisory).or_default().push(what);
            }
        }
        let hash = |what: Vec<_>| Canonical::of(&what).ok().map(|text| Digest::of(text.as_str().as_bytes()));
        let records: BTreeMap<String, Digest> =
            said.into_iter().filter_map(|(record, what)| Some((record.to_owned(), hash(what)?))).collect();
        let scores: Vec<_> = entries().flat_map(|entry| entry.scores.iter().cloned()).collect();
        let names = entries().flat_map(names);
        (!records.is_empty()).then(|| Self {
            kev: names.into_iter().any(|name| kev.entries.contains_key(name)),
            records,
            score: severity::highest(&scores).map(|s| s.score),
        })
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

fn entries<'a>(slices: &'a [(Lookup, &'a Slice)]) -> impl Iterator<Item = &'a SliceEntry> {
    slices.iter().flat_map(|(_, slice)| &slice.entries)
}

/// Every name of the vulnerability that an entry is about.
fn names(entry: &SliceEntry) -> impl Iterator<Item = &str> {
    [&entry.vulnerability, &entry.advisory].into_iter().chain(&entry.aliases).map(String::as_str)
}

/// The name under which a vulnerability of a package is one entry, by any of its names.
pub fn vulnerability<'a>(slices: &'a [(Lookup, &'a Slice)], id: &str) -> Option<&'a str> {
    let is_called = |entry: &&SliceEntry| names(entry).any(|name| name.eq_ignore_ascii_case(id));
    entries(slices).find(is_called).map(|entry| entry.vulnerability.as_str())
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

/// The statements about the package of one match key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    /// In the order of their sources and texts.
    pub list: Vec<Statement>,
}

impl Object for Statements {
    const KIND: &'static str = "airlock.statements.v1";
}

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

    fn is_about(&self, finding: &Finding) -> bool {
        std::iter::once(&self.vulnerability).chain(&self.aliases).any(|name| finding.is_called(name))
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
const fn is_milder(status: Status) -> bool {
    matches!(status, Status::Mitigated | Status::Cleared | Status::Disputed)
}

/// What is needed to say how the findings of one package were ruled.
#[derive(Debug)]
pub struct Assessing<'a> {
    decisions: &'a Decisions,
    /// By match key: the orders of versions, and what is stated.
    statements: &'a [(Lookup, &'a Statements)],
    /// What is known now of the vulnerabilities that somebody ruled on.
    bases: BTreeMap<String, Basis>,
    /// What was known when a statement counted for the first time, by its hash.
    weighed: BTreeMap<String, Basis>,
    /// Whether anybody ruled or stated anything, so that most packages need no more than this.
    is_silent: bool,
}

impl<'a> Assessing<'a> {
    /// Of a package by what is known of it, the statements about it, and `weighed` of its last judgement.
    pub fn of(
        decisions: &'a Decisions,
        (slices, kev): (&'a [(Lookup, &'a Slice)], &Kev),
        statements: &'a [(Lookup, &'a Statements)],
        packages_state: bool,
        weighed: Option<&BTreeMap<String, Basis>>,
    ) -> Self {
        let is_silent = !decisions.rule_findings()
            && !(decisions.trust_statements() && (packages_state || !statements.is_empty()));
        let bases = match is_silent {
            true => BTreeMap::new(),
            false => {
                let all: BTreeSet<&str> = entries(slices).map(|e| e.vulnerability.as_str()).collect();
                let basis = |name: &str| Some((name.to_owned(), Basis::of(name, slices, kev)?));
                all.into_iter().filter_map(basis).collect()
            }
        };
        Self { decisions, statements, bases, weighed: weighed.cloned().unwrap_or_default(), is_silent }
    }

    /// What is ruled of the findings of one artifact at a moment; `own` is what it states of itself.
    pub fn assess(
        &self,
        target: &Target<'_>,
        findings: &[Finding],
        own: &[Statement],
        now: Time,
    ) -> Assessments {
        if self.is_silent {
            return Assessments::new();
        }
        let one = |finding: &Finding| {
            let person = self.decisions.status(target, finding, now).and_then(|d| self.ruled(d, finding));
            let ruled = person.or_else(|| self.stated(target, finding, own, now))?;
            Some((finding.advisory.clone(), ruled))
        };
        findings.iter().filter_map(one).collect()
    }

    fn ruled(&self, decision: &Decision, finding: &Finding) -> Option<Assessed> {
        let Ruling::Status { status, basis, justification, .. } = &decision.ruling else { return None };
        let now = self.bases.get(&finding.advisory).cloned().unwrap_or_default();
        Some(Assessed {
            by: By::Decision(decision.id.clone()),
            justification: *justification,
            reason: decision.reason.clone(),
            status: *status,
            // What was confirmed stays so.
            void: if is_milder(*status) { basis.news(&now) } else { None },
        })
    }

    /// What trusted sources state of a finding: of each source its last word, and of several sources the strictest.
    fn stated(
        &self,
        target: &Target<'_>,
        finding: &Finding,
        own: &[Statement],
        now: Time,
    ) -> Option<Assessed> {
        let of_feeds = self.statements.iter().flat_map(|(lookup, stated)| {
            let about =
                stated.list.iter().filter(|s| s.is_about(finding) && s.covers(target, &lookup.orders));
            about.map(|statement| (By::Feed(statement.source.clone()), statement))
        });
        let of_package = own.iter().filter(|s| s.is_about(finding)).map(|s| (By::Package, s));
        let mut last: BTreeMap<By, &Statement> = BTreeMap::new();
        for (by, statement) in of_feeds.chain(of_package) {
            if self.decisions.trusts(by.source(), target, now) {
                let held = last.entry(by).or_insert(statement);
                let rank = |s: &Statement| (s.time, strictness(s.status));
                if rank(statement) > rank(held) {
                    *held = statement;
                }
            }
        }
        let strictest = last.into_iter().max_by_key(|(_, statement)| strictness(statement.status));
        strictest.map(|(by, statement)| Assessed {
            by,
            justification: statement.justification,
            reason: statement.note.clone(),
            status: statement.status,
            void: self.against(statement, finding),
        })
    }

    /// What speaks against believing a statement that makes a finding milder.
    fn against(&self, statement: &Statement, finding: &Finding) -> Option<String> {
        if !is_milder(statement.status) {
            return None;
        }
        if finding.malicious {
            return Some("no source clears what is reported as malware".to_owned());
        }
        if finding.kev {
            return Some("no source clears what is known to be exploited".to_owned());
        }
        let weighed = self.weighed.get(&weighed_key(statement, finding))?;
        weighed.news(self.bases.get(&finding.advisory)?)
    }

    /// What was known when each statement that was made of these findings counted for the first time, so that it is noticed
    /// when that changes.
    pub fn weighed<'f>(
        &self,
        findings: impl Iterator<Item = &'f Finding>,
        own: &[&Statement],
    ) -> BTreeMap<String, Basis> {
        let mut out = BTreeMap::new();
        if self.is_silent {
            return out;
        }
        let of_feeds = || self.statements.iter().flat_map(|(_, stated)| &stated.list);
        for finding in findings {
            let all = of_feeds().chain(own.iter().copied());
            for statement in all.filter(|s| is_milder(s.status) && s.is_about(finding)) {
                let key = weighed_key(statement, finding);
                let held = self.weighed.get(&key).or_else(|| self.bases.get(&finding.advisory));
                out.extend(held.cloned().map(|basis| (key, basis)));
            }
        }
        out
    }
}

fn weighed_key(statement: &Statement, finding: &Finding) -> String {
    format!("{} {}", finding.advisory, statement.digest())
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
