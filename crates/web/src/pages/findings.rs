//! Findings and rules, as package pages show them.

use std::collections::BTreeMap;

use airlock_core::assess::{self, Assessed};
use airlock_core::matching::Status;
use airlock_core::severity::Tenths;
use airlock_core::time::Time;
use airlock_core::verdict::builtin;
use airlock_engine::explain::{Explained, FindingView};

use super::format::{Prose, Severity, When, anchor};
use super::read::Reading;

/// Versions that a finding names; the rest is counted.
const VERSIONS_MAX: usize = 12;

/// One rule that had a say, for one artifact or for several.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its name.
    pub name: String,
    /// What it is, where the station's policy does not define it.
    pub builtin: Option<&'static str>,
    /// `deny`, `hold` or `warn`.
    pub action: &'static str,
    /// Nobody knows whether it holds.
    pub unknown: bool,
    /// The vulnerability it rests on.
    pub advisory: Option<String>,
    /// Where that is told on the page.
    pub anchor: String,
    /// A sentence.
    pub detail: Option<String>,
    /// The decision that lifts it.
    pub waived_by: Option<String>,
    /// The sending station's rule.
    pub by_sender: bool,
}

/// What speaks against some artifacts: one vulnerability with every rule that rests on it, or one rule.
pub(super) struct Reason {
    /// The vulnerability.
    pub advisory: Option<String>,
    /// Its place among the findings.
    pub anchor: String,
    /// How bad it is.
    pub severity: Severity,
    /// The rules.
    pub rules: Vec<Rule>,
    score: Option<Tenths>,
}

/// The same rules by what they rest on, worst first. A rule of which nobody knows whether it applies is left
/// out where another one rests on the same.
pub(super) fn reasons(rules: &[Rule], artifacts: &[Explained]) -> Vec<Reason> {
    let mut out: Vec<Reason> = Vec::new();
    for rule in rules {
        let clear = |r: &&Rule| r.advisory == rule.advisory && !r.unknown;
        if rule.unknown && rule.advisory.is_some() && rules.iter().any(|r| clear(&r)) {
            continue;
        }
        let held = out.iter_mut().find(|r| r.advisory.is_some() && r.advisory == rule.advisory);
        if let Some(held) = held {
            if held.rules.iter().all(|r| r.name != rule.name) {
                held.rules.push(rule.clone());
            }
            continue;
        }
        let known = artifacts.iter().flat_map(|a| &a.findings);
        let score = known.clone().find(|f| Some(&f.advisory) == rule.advisory.as_ref()).and_then(|f| f.score);
        out.push(Reason {
            advisory: rule.advisory.clone(),
            anchor: rule.anchor.clone(),
            severity: Severity::of(score),
            rules: vec![rule.clone()],
            score,
        });
    }
    // Stable: what no score speaks of stays in front, since it does not depend on one.
    out.sort_by_key(|r| (r.advisory.is_some(), std::cmp::Reverse(r.score)));
    out
}

/// One vulnerability, as it concerns some versions of the package.
pub(super) struct FindingRow {
    /// Its first name.
    pub id: String,
    /// Its place on the page.
    pub anchor: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// How bad.
    pub severity: Severity,
    /// Who says so.
    pub source: String,
    /// By which vector.
    pub vector: String,
    /// Why this one counts.
    pub choice: String,
    /// What others say: score and source.
    pub others: Vec<(Severity, String)>,
    /// Its state and what that means.
    pub status: &'static str,
    /// The same in a sentence.
    pub status_means: &'static str,
    /// What people and sources ruled of it.
    pub rulings: Vec<Ruling>,
    /// Known to be exploited.
    pub kev: bool,
    /// The probability of exploitation.
    pub epss: Option<String>,
    /// By which model and of which day.
    pub epss_of: String,
    /// Reports malware.
    pub malicious: bool,
    /// One line.
    pub summary: Option<Prose>,
    /// Versions that fix it.
    pub fixed: Vec<String>,
    /// The version that the evidence below is about.
    pub example: String,
    /// Why it matches.
    pub evidence: Vec<EvidenceRow>,
    /// Versions that it concerns, newest first.
    pub versions: Vec<String>,
    /// How many more.
    pub more: usize,
    order: (bool, bool, Option<Tenths>),
    /// The strictest state so far, and whether it is decided.
    state: Option<(u8, bool)>,
}

/// What one person or source ruled of a finding.
pub(super) struct Ruling {
    /// The state.
    pub status: &'static str,
    /// Who, and why.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<Prose>,
    /// Why it does not count.
    pub void: Option<String>,
    /// Of how many files.
    pub files: usize,
    of: Assessed,
}

impl Ruling {
    fn of(ruled: &Assessed) -> Self {
        Self {
            status: ruled.status.name(),
            by: ruled.by.to_string(),
            reason: (!ruled.reason.is_empty()).then(|| Prose::new(&ruled.reason)),
            void: ruled.void.clone(),
            files: 0,
            of: ruled.clone(),
        }
    }
}

/// Why one record matches.
pub(super) struct EvidenceRow {
    /// The record.
    pub record: String,
    /// Its state.
    pub modified: Option<When>,
    /// What hit.
    pub hit: String,
    /// In which order of versions.
    pub order: &'static str,
    /// By which name the record was found.
    pub via: String,
}

/// What a rule is that stands in no policy.
fn builtin_means(rule: &str) -> Option<&'static str> {
    Some(match rule {
        builtin::BLOCKED => "a person blocked it",
        builtin::FROZEN => "the channel is frozen and takes in nothing new",
        builtin::REJECTED => "a person looked at it and rejected it",
        builtin::FILE_CHANGED => "its hash is not the one that was pinned when the file was first fetched",
        builtin::MISMATCH => "the fetched file contradicts its record",
        builtin::NOT_FETCHED => "the file could not be fetched yet",
        builtin::BAD_RECORD => "its record cannot be read",
        builtin::HELD_BY_SENDER => "the station that sent it holds it, and leaves it to a person here",
        builtin::DENIED_AT_ORIGIN => {
            "whoever it came from denied it and offers it no more; nothing here lifts that, and that it is offered there again does"
        }
        _ => return None,
    })
}

/// The rules that made an artifact's verdict, and those that only warn or are lifted.
pub(super) fn rules(reading: &Reading, artifact: &Explained) -> (Vec<Rule>, Vec<Rule>) {
    let judged = reading.judged(&artifact.artifact, artifact.by_sender);
    let deciding: Vec<_> = judged.iter().flat_map(|j| j.deciding()).collect();
    let (mut made, mut other) = (Vec::new(), Vec::new());
    // A block acts at once; the next judgement repeats it as a rule.
    if let Some(reason) =
        reading.blocked.get(&artifact.artifact).filter(|_| judged.is_some_and(|j| j.is_offered()))
    {
        made.push(Rule {
            name: builtin::BLOCKED.to_owned(),
            builtin: builtin_means(builtin::BLOCKED),
            action: "deny",
            unknown: false,
            advisory: None,
            anchor: String::new(),
            detail: Some(reason.clone()),
            waived_by: None,
            by_sender: false,
        });
    }
    for hit in &artifact.rules {
        let rule = Rule {
            name: hit.rule.clone(),
            builtin: builtin_means(&hit.rule),
            action: hit.action.name(),
            unknown: hit.unknown,
            advisory: hit.advisory.clone(),
            anchor: hit.advisory.as_deref().map(anchor).unwrap_or_default(),
            detail: hit.detail.clone(),
            waived_by: hit.waived_by.clone(),
            by_sender: artifact.by_sender,
        };
        let into = if deciding.contains(&hit) { &mut made } else { &mut other };
        if !into.contains(&rule) {
            into.push(rule);
        }
    }
    (made, other)
}

/// What it means that a finding is undecided.
const UNDECIDED: &str =
    "no record tells whether this version is affected; a rule that would deny for it holds";

const fn status_means(status: Status) -> &'static str {
    match status {
        Status::Reported => "matched by this program; nobody here has looked at it",
        Status::Active => "a person confirmed it",
        Status::Mitigated => "fixed in this build without a new version",
        Status::Cleared => "a person ruled that it does not apply",
        Status::Disputed => "its publisher, or a person, doubts that it is a vulnerability",
    }
}

impl FindingRow {
    fn new(finding: &FindingView, version: &str, now: Time) -> Self {
        let others =
            finding.evidence.scores.iter().filter(|s| {
                Some(s.score) != finding.score || Some(&s.source) != finding.score_source.as_ref()
            });
        let evidence = finding.evidence.records.iter().map(|e| EvidenceRow {
            record: e.record.clone(),
            modified: e.modified.map(|m| When::new(m, now)),
            hit: e.hit.clone(),
            order: e.order.name(),
            via: e.via.clone(),
        });
        Self {
            id: finding.advisory.clone(),
            anchor: anchor(&finding.advisory),
            aliases: finding.aliases.iter().cloned().collect(),
            severity: Severity::of(finding.score),
            source: finding.score_source.clone().unwrap_or_default(),
            vector: finding.vector.clone().unwrap_or_default(),
            choice: finding.score_choice.clone().unwrap_or_default(),
            others: others.map(|s| (Severity::of(Some(s.score)), s.source.clone())).collect(),
            status: "",
            status_means: "",
            rulings: Vec::new(),
            kev: finding.kev,
            epss: finding.epss.map(|p| format!("{:.1} %", p * 100.0)),
            epss_of: finding.epss_model.clone().unwrap_or_default()
                + &finding.epss_date.map(|day| format!(" of {}", day.date())).unwrap_or_default(),
            malicious: finding.malicious,
            summary: (!finding.summary.is_empty()).then(|| Prose::new(&finding.summary)),
            fixed: finding.fixed.iter().cloned().collect(),
            example: version.to_owned(),
            evidence: evidence.collect(),
            versions: Vec::new(),
            more: 0,
            order: (finding.malicious, finding.kev, finding.score),
            state: None,
        }
    }

    /// Takes in the state of one file: of several the strictest is shown, and each ruling with the number of its files.
    fn states(&mut self, finding: &FindingView) {
        let state = (assess::strictness(finding.status), !finding.undecided);
        if self.state.is_none_or(|held| held < state) {
            self.state = Some(state);
            self.status = if finding.undecided { "undecided" } else { finding.status.name() };
            self.status_means = if finding.undecided { UNDECIDED } else { status_means(finding.status) };
        }
        let Some(ruled) = &finding.assessed else { return };
        let at = self.rulings.iter().position(|held| held.of == *ruled).unwrap_or_else(|| {
            self.rulings.push(Ruling::of(ruled));
            self.rulings.len() - 1
        });
        if let Some(held) = self.rulings.get_mut(at) {
            held.files += 1;
        }
    }

    fn concerns(&mut self, version: &str) {
        if self.versions.last().is_some_and(|v| v == version) {
            return;
        }
        if self.versions.len() < VERSIONS_MAX {
            self.versions.push(version.to_owned());
        } else {
            self.more += 1;
        }
    }
}

/// Every vulnerability of these artifacts once, worst first. The artifacts come newest version first.
pub(super) fn findings<'a>(artifacts: impl IntoIterator<Item = &'a Explained>, now: Time) -> Vec<FindingRow> {
    let mut rows: BTreeMap<&str, FindingRow> = BTreeMap::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for artifact in artifacts {
        for finding in &artifact.findings {
            let row = rows
                .entry(&finding.advisory)
                .or_insert_with(|| FindingRow::new(finding, &artifact.version, now));
            row.states(finding);
            // Every artifact of a version has the same findings, but for what was ruled of them.
            if last.insert(&finding.advisory, &artifact.version) == Some(&artifact.version) {
                continue;
            }
            row.fixed
                .extend(finding.fixed.iter().filter(|f| !row.fixed.contains(f)).cloned().collect::<Vec<_>>());
            row.concerns(&artifact.version);
        }
    }
    let mut rows: Vec<FindingRow> = rows.into_values().collect();
    rows.sort_by(|a, b| b.order.cmp(&a.order).then_with(|| b.id.cmp(&a.id)));
    rows
}
