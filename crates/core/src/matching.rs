//! Matching: which advisories concern a version of a package, with the evidence.
//!
//! PyPI names match under PEP 440. A conda name matches through its [mappings](crate::identity::Mapping), each compared
//! in the order in which that upstream numbers its releases, since that is what the advisory speaks. What PEP 440 cannot
//! read is compared in conda's order; what another order cannot read is undecided.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::advisory::{Epss, Kev, MatchKey, Ranks, Slice, SliceEntry};
use crate::ecosystem::Ecosystem;
use crate::identity::{self, Coverage, Identity, Mapping, Review};
use crate::severity::{self, Preferred, Score};
use crate::time::Time;
use crate::version::{Inside, Order};

/// The state of a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Matched by the program, looked at by nobody.
    Reported,
    /// A person confirmed it.
    Active,
    /// Fixed in this build without a new version.
    Mitigated,
    /// A person ruled that it does not apply.
    Cleared,
    /// Its publisher, or a person, doubts that it is a vulnerability.
    Disputed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reported, Self::Active, Self::Mitigated, Self::Cleared, Self::Disputed];

    /// Whether it still speaks against an artifact: neither mitigated nor cleared.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Mitigated | Self::Cleared)
    }

    /// The name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Active => "active",
            Self::Mitigated => "mitigated",
            Self::Cleared => "cleared",
            Self::Disputed => "disputed",
        }
    }
}

/// One version of a package, matched by what is known of one vulnerability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The vulnerability: its CVE where there is exactly one, else the first advisory's id.
    pub advisory: String,
    /// Every other id under which it is known.
    pub aliases: BTreeSet<String>,
    /// The state.
    pub status: Status,
    /// The score that counts: the highest of any source, unless the policy prefers some. None is a state of its own, never
    /// zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// By which preference of the policy it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<String>,
    /// Every weakness (CWE) that any source names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cwes: BTreeSet<String>,
    /// When the first of its sources published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Time>,
    /// When the last of them did, where that is another day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_last: Option<Time>,
    /// Every score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// Whether it reports malware.
    pub malicious: bool,
    /// Whether it is known to be exploited (KEV).
    pub kev: bool,
    /// The probability of exploitation (EPSS), where there is one. It changes daily: judgements are kept without it, and who
    /// shows a finding joins it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epss: Option<f64>,
    /// The share of all scored vulnerabilities that are no likelier to be exploited, where a policy asks for it.
    #[serde(skip)]
    pub percentile: Option<f64>,
    /// One line.
    pub summary: String,
    /// The versions from which on it is fixed, as the records say.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fixed: BTreeSet<String>,
    /// Why it matches, one for each record that does.
    pub evidence: Vec<Evidence>,
    /// Whether no record tells that this version is affected, and some leave it open: they name no versions, or such
    /// as cannot be compared. Rules that it satisfies are unknown, and hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// Whether every record that matches was reached by an identity that nobody checked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

/// How sure it is that a finding concerns the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confidence {
    /// A record names the version, and the package's identity was checked.
    Verified,
    /// A record names the version, and nobody checked the identity by which it was found.
    Automatic,
    /// No record tells.
    Undecided,
}

impl Confidence {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Verified, Self::Automatic, Self::Undecided];

    /// The name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Automatic => "automatic",
            Self::Undecided => "undecided",
        }
    }
}

impl Finding {
    /// How sure it is that it concerns the version.
    pub const fn confidence(&self) -> Confidence {
        if self.undecided {
            Confidence::Undecided
        } else if self.automatic {
            Confidence::Automatic
        } else {
            Confidence::Verified
        }
    }

    /// The probability of exploitation, as EPSS sees it: the highest under any of its names.
    pub fn probability(&self, epss: &Epss) -> Option<f64> {
        let names = std::iter::once(&self.advisory).chain(&self.aliases);
        names.filter_map(|name| epss.scores.get(name).copied()).reduce(f64::max)
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.advisory).chain(&self.aliases).map(String::as_str)
    }

    /// Whether it is known to be exploited or malicious.
    pub const fn is_grave(&self) -> bool {
        self.kev || self.malicious
    }

    /// Whether it goes by this id.
    pub fn is_called(&self, id: &str) -> bool {
        self.advisory == id || self.aliases.contains(id)
    }

    /// Whether this id means it and nothing else: a record of two CVEs is neither of them.
    pub fn is_only(&self, id: &str) -> bool {
        let has_one = || {
            let mut cves = self.names().filter(|name| name.starts_with("CVE-"));
            let first = cves.next();
            cves.all(|other| Some(other) == first)
        };
        self.advisory == id || (self.is_called(id) && has_one())
    }
}

/// Why one record matches one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The record.
    pub record: String,
    /// Its state, as the time of its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Time>,
    /// What hit: a range, the list of versions, or that the order could not decide.
    pub hit: String,
    /// The order that was used.
    pub order: Order,
    /// The match key, and for conda the identity by which it was reached.
    pub via: String,
}

/// A match key to look up, and how the package came by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The key.
    pub key: MatchKey,
    /// The orders in which versions are compared: the next one where one cannot read them.
    pub orders: Vec<Order>,
    /// Whether the package is a Python project, so that what is said of Python's packages concerns it.
    pub is_python: bool,
    /// What stands in the evidence.
    pub via: String,
    /// Whether anybody checked that the package is what the key means.
    pub review: Review,
}

/// The ecosystem under which records name conda packages themselves, which OSV does not list: those that a site writes.
pub const CONDA: &str = "conda";

/// The keys under which advisories about a package may stand.
pub fn lookups(ecosystem: Ecosystem, name: &str, identity: Option<&Identity>) -> Vec<Lookup> {
    match ecosystem {
        Ecosystem::Pypi => {
            let key = MatchKey::osv("PyPI", name);
            let orders = vec![Order::Pep440, Order::Conda];
            vec![Lookup {
                via: key.as_str().to_owned(),
                key,
                orders,
                is_python: true,
                review: Review::Verified,
            }]
        }
        Ecosystem::Conda => {
            let is_python = identity.is_some_and(Identity::is_python);
            let lookup = |mapping: &Mapping| Lookup {
                via: format!("{} (conda {name}, by {})", mapping.key.as_str(), mapping.provenance),
                key: mapping.key.clone(),
                // Where the other orders cannot read a version, conda's would say no for the wrong reason (`1.1.1k`).
                orders: match mapping.order {
                    Order::Pep440 => vec![Order::Pep440, Order::Conda],
                    upstream => vec![upstream],
                },
                is_python,
                review: mapping.review,
            };
            let mapped = identity.map(|i| i.mappings.as_slice()).unwrap_or_default();
            // No map takes away what follows from the name.
            let rule = by_rule(ecosystem, name, identity);
            let rule = rule.filter(|rule| mapped.iter().all(|m| m.key != rule.key));
            let own = Lookup {
                key: MatchKey::osv(CONDA, name),
                orders: vec![Order::Conda],
                is_python,
                via: format!("conda {name}"),
                review: Review::Verified,
            };
            mapped.iter().chain(&rule).map(lookup).chain([own]).collect()
        }
    }
}

/// What follows from the name, unless somebody ruled what it is.
fn by_rule(ecosystem: Ecosystem, name: &str, identity: Option<&Identity>) -> Option<Mapping> {
    if identity.is_some_and(|i| i.is_ruled) { None } else { identity::by_rule(ecosystem, name) }
}

/// How well a package is covered.
pub fn coverage(ecosystem: Ecosystem, name: &str, identity: Option<&Identity>) -> Coverage {
    match ecosystem {
        Ecosystem::Pypi => Coverage::Verified,
        Ecosystem::Conda => {
            let mapped = identity.map(|i| i.mappings.as_slice()).unwrap_or_default();
            let rule = by_rule(ecosystem, name, identity);
            match mapped.iter().chain(&rule).map(|m| m.review).min() {
                Some(Review::Verified) => Coverage::Verified,
                Some(Review::Automatic) => Coverage::Automatic,
                None if identity.is_some_and(|i| i.is_ruled) => Coverage::NoneNeeded,
                None => Coverage::Unknown,
            }
        }
    }
}

/// Everything known against one version, one finding for each vulnerability, sorted by its name.
///
/// `slices` holds what was found under each look-up.
pub fn match_version(slices: &[(Lookup, &Slice)], version: &str) -> Vec<Finding> {
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for (lookup, slice) in slices {
        for entry in &slice.entries {
            let Some(hit) = hit(lookup, entry, version) else { continue };
            let evidence = Evidence {
                record: entry.advisory.clone(),
                modified: entry.modified,
                hit: hit.text,
                order: hit.order,
                via: lookup.via.clone(),
            };
            let finding = findings.entry(entry.vulnerability.clone()).or_insert_with(|| blank(entry));
            finding.aliases.insert(entry.advisory.clone());
            finding.aliases.extend(entry.aliases.iter().cloned());
            finding.scores.extend(entry.scores.iter().cloned());
            finding.cwes.extend(entry.cwes.iter().cloned());
            let dates = [finding.published, finding.published_last, entry.published, entry.published_last];
            finding.published = dates.into_iter().flatten().min();
            finding.published_last =
                dates.into_iter().flatten().max().filter(|at| Some(*at) != finding.published);
            finding.malicious |= entry.malicious;
            finding.automatic &= lookup.review == Review::Automatic;
            if entry.disputed {
                finding.status = Status::Disputed;
            }
            finding.undecided &= hit.is_undecided;
            finding.fixed.extend(hit.fixed);
            finding.evidence.push(evidence);
        }
    }
    findings.into_values().map(finish).collect()
}

fn blank(entry: &SliceEntry) -> Finding {
    Finding {
        advisory: entry.vulnerability.clone(),
        aliases: BTreeSet::new(),
        status: Status::Reported,
        score: None,
        preferred: None,
        cwes: BTreeSet::new(),
        published: None,
        published_last: None,
        scores: Vec::new(),
        malicious: false,
        kev: false,
        epss: None,
        percentile: None,
        summary: entry.summary.clone(),
        fixed: BTreeSet::new(),
        evidence: Vec::new(),
        undecided: true,
        automatic: true,
    }
}

fn finish(mut finding: Finding) -> Finding {
    finding.aliases.remove(&finding.advisory);
    finding.scores.sort();
    finding.scores.dedup();
    finding.score = severity::highest(&finding.scores).cloned();
    finding.evidence.sort();
    finding.evidence.dedup();
    finding
}

/// Adds what is known of exploitation. It changes daily, so that it is joined when policy runs and no
/// finding needs to be matched again for it.
pub fn join_exploitation(findings: &mut [Finding], kev: &Kev, epss: &Epss, ranks: Option<&Ranks>) {
    for finding in findings {
        let names = || std::iter::once(&finding.advisory).chain(&finding.aliases);
        finding.kev = names().any(|name| kev.entries.contains_key(name));
        finding.epss = finding.probability(epss);
        finding.percentile =
            finding.epss.zip(ranks).map(|(probability, ranks)| ranks.percentile(probability));
    }
}

/// Lets the scores count that a policy prefers.
pub fn choose_scores(findings: &mut [Finding], order: &[Preferred]) {
    if order.is_empty() {
        return;
    }
    for finding in findings {
        let (score, by) = severity::preferred(&finding.scores, order);
        (finding.score, finding.preferred) = (score.cloned(), by);
    }
}

struct Hit {
    text: String,
    order: Order,
    fixed: Vec<String>,
    is_undecided: bool,
}

/// Environments that a CPE may name and in which a package of any kind may stand.
const PLATFORMS: [&str; 8] = ["windows", "linux", "linux_kernel", "macos", "mac_os_x", "unix", "x64", "x86"];
/// Those that mean packages of Python, as NVD writes them.
const PYTHON: [&str; 3] = ["python", "pypi", "pypl"];
/// Those in which no conda package and no wheel stands: other registries, systems with stores of their own, and
/// programs that take plugins.
const ELSEWHERE: [&str; 24] = [
    "wordpress",
    "node.js",
    "nodejs",
    "ruby",
    "rust",
    "go",
    "php",
    "perl",
    "maven",
    "java",
    ".net",
    "jenkins",
    "android",
    "iphone_os",
    "ipados",
    "drupal",
    "joomla",
    "joomla!",
    "typo3",
    "shopware",
    "discourse",
    "chrome",
    "firefox",
    "visual_studio_code",
];

/// Whether what is said of a product for one environment (`wordpress`, `python`) concerns this package; none if that
/// is open.
fn is_for(lookup: &Lookup, entry: &SliceEntry) -> Option<bool> {
    let Some(target) = entry.target.as_deref() else { return Some(true) };
    if PLATFORMS.contains(&target) || (lookup.is_python && PYTHON.contains(&target)) {
        return Some(true);
    }
    if ELSEWHERE.contains(&target) { Some(false) } else { None }
}

/// Of a version that somebody made up, this many characters are shown.
const SHOWN: usize = 60;

fn hit(lookup: &Lookup, entry: &SliceEntry, version: &str) -> Option<Hit> {
    let is_for = is_for(lookup, entry);
    if is_for == Some(false) {
        return None;
    }
    let mut hit = match entry.ranges.is_empty() && entry.versions.is_empty() {
        true => Hit {
            text: "undecided: it names no version".to_owned(),
            order: *lookup.orders.first()?,
            fixed: Vec::new(),
            is_undecided: true,
        },
        false => compare(lookup, entry, version)?,
    };
    if let Some(target) = &entry.target {
        hit.text += &format!(", for {target}");
        hit.is_undecided |= is_for.is_none();
    }
    if !entry.with.is_empty() {
        let with: Vec<&str> = entry.with.iter().map(String::as_str).collect();
        hit.text += &format!(", together with {}", with.join(" or "));
    }
    Some(hit)
}

fn compare(lookup: &Lookup, entry: &SliceEntry, version: &str) -> Option<Hit> {
    // conda forbids `-` in versions, so that `1.0-1` of an upstream is `1.0_1` there.
    let respelled = version.replace('_', "-");
    // `2.0.0+cu118` is 2.0.0 with something of the packager's; advisories speak of the upstream's release.
    let public = respelled.split('+').next().unwrap_or_default();
    let mut undecided = None;
    let spellings = [version, &*respelled, public];
    for order in lookup.orders.iter().copied() {
        let mut answered = false;
        // conda's own order reads conda's own spelling.
        let spellings = if order == Order::Conda { &spellings[..1] } else { &spellings[..] };
        for spelling in spellings {
            let mut unreadable = None;
            for range in &entry.ranges {
                match range.contains(order, spelling) {
                    Inside::Yes => {
                        let fixed = range.fixed().map(str::to_owned).collect();
                        return Some(Hit {
                            text: format!("range {range}"),
                            order,
                            fixed,
                            is_undecided: false,
                        });
                    }
                    Inside::No => {}
                    Inside::Unknown => unreadable = Some((order, range)),
                }
            }
            if names(&entry.versions, order, spelling) {
                let fixed = entry.ranges.iter().flat_map(|r| r.fixed().map(str::to_owned)).collect();
                let text = "its list of affected versions".to_owned();
                return Some(Hit { text, order, fixed, is_undecided: false });
            }
            // An answer is one only if every range gave it.
            answered |= unreadable.is_none() && !entry.ranges.is_empty();
            undecided = undecided.or(unreadable);
        }
        if answered {
            return None;
        }
    }
    // A list of versions that does not name this one has answered; ranges that nobody can read have not.
    match undecided {
        Some((order, range)) if entry.versions.is_empty() => Some(Hit {
            text: format!(
                "undecided: `{}` and the range {range} cannot be compared",
                version.chars().take(SHOWN).collect::<String>()
            ),
            order,
            fixed: Vec::new(),
            is_undecided: true,
        }),
        _ => None,
    }
}

/// Whether a list names a version, in this spelling or an equal one.
fn names(versions: &[String], order: Order, spelling: &str) -> bool {
    let beginning = beginning(spelling);
    versions.iter().any(|v| {
        v == spelling
            || (self::beginning(v) == beginning && order.compare(v, spelling) == Some(Ordering::Equal))
    })
}

/// The first number of a version. Equal versions have the same one, and lists are long.
fn beginning(version: &str) -> &str {
    let version = version.trim_start().trim_start_matches(['v', 'V']);
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let number = version[..end].trim_start_matches('0');
    // An epoch of zero goes without saying (`0!1.0`).
    if number.is_empty() && version[end..].starts_with('!') {
        self::beginning(&version[end + 1..])
    } else {
        number
    }
}

#[cfg(test)]
mod tests;
