//! Slices: what is known of one package, cut out of all feeds and joined by vulnerability.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Advisory, MatchKey};
use crate::canon::Canonical;
use crate::severity::Score;
use crate::strictness::is_kept_of;
use crate::time::Time;
use crate::version::Range;

/// Everything known to affect the package of one match key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The advisories, sorted by id.
    pub entries: Vec<SliceEntry>,
}

crate::object!(Slice, "airlock.slice.v1");

/// One advisory as it bears on one package, with what other records say of the same vulnerability. Fields stand in the
/// order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceEntry {
    /// The advisory that says what is affected.
    pub advisory: String,
    /// All other ids.
    pub aliases: BTreeSet<String>,
    /// Every weakness that any source names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cwes: BTreeSet<String>,
    /// Whether any source marks it as disputed.
    pub disputed: bool,
    /// Whether it reports malware.
    pub malicious: bool,
    /// When that record was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Time>,
    /// When the first of its sources published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Time>,
    /// When the last of them did, where that is another day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_last: Option<Time>,
    /// Affected ranges.
    pub ranges: Vec<Range>,
    /// Every score that any source gives, sorted.
    pub scores: Vec<Score>,
    /// One line.
    pub summary: String,
    /// See [`super::Affected::target`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Affected versions one by one.
    pub versions: Vec<String>,
    /// The vulnerability: its CVE where there is exactly one, else the advisory's id.
    pub vulnerability: String,
    /// See [`super::Affected::with`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub with: BTreeSet<String>,
}

/// Joins the advisories of all feeds and cuts them into slices. Withdrawn records affect nothing.
///
/// Each advisory comes with the feed that it stands in. Of two records with one id in one feed the one that
/// was modified later counts; two feeds never overrule each other, so that no sender can take back what
/// this station, or another sender, knows. The result does not depend on the order.
pub fn slices<'a>(
    advisories: impl IntoIterator<Item = (&'a str, &'a Advisory)>,
) -> BTreeMap<MatchKey, Slice> {
    let mut newest: BTreeMap<(&str, &str), &Advisory> = BTreeMap::new();
    for (feed, advisory) in advisories {
        newest
            .entry((&advisory.id, feed))
            .and_modify(|held| {
                if later(advisory, held) {
                    *held = advisory;
                }
            })
            .or_insert(advisory);
    }
    let mut said: BTreeMap<&str, Said<'_>> = BTreeMap::new();
    for ((id, feed), advisory) in newest.iter().filter(|(_, a)| !a.withdrawn) {
        // What was undisputed before stays so until a person accepts the doubt.
        let is_kept = || {
            let of_it = newest.range((*id, *feed)..).take_while(|((other, _), _)| other == id);
            of_it.into_iter().any(|((_, name), kept)| is_kept_of(name, feed) && !kept.disputed)
        };
        let is_disputed = advisory.disputed && !is_kept();
        for name in advisory.shares() {
            said.entry(name).or_default().add(advisory, is_disputed);
        }
    }
    let mut out: BTreeMap<MatchKey, Slice> = BTreeMap::new();
    for advisory in newest.values().filter(|a| !a.withdrawn) {
        let mut joined = Said::default();
        advisory.names().filter_map(|name| said.get(name)).for_each(|said| joined.join(said));
        for affected in &advisory.affected {
            out.entry(affected.key.clone()).or_default().entries.push(SliceEntry {
                vulnerability: advisory.cve().unwrap_or(&advisory.id).to_owned(),
                advisory: advisory.id.clone(),
                modified: advisory.modified,
                aliases: advisory.aliases.clone(),
                summary: advisory.summary.clone(),
                scores: joined.scores.iter().map(|s| (*s).clone()).collect(),
                cwes: joined.cwes.iter().map(|cwe| (*cwe).to_owned()).collect(),
                published: joined.published.first().copied(),
                published_last: joined
                    .published
                    .last()
                    .copied()
                    .filter(|last| joined.published.first() != Some(last)),
                disputed: joined.disputed,
                malicious: advisory.malicious,
                ranges: affected.ranges.clone(),
                target: affected.target.clone(),
                versions: affected.versions.clone(),
                with: affected.with.clone(),
            });
        }
    }
    for slice in out.values_mut() {
        slice.entries.sort_by(|a, b| a.advisory.cmp(&b.advisory));
        slice.entries.dedup();
    }
    out
}

/// What records under one name say of the vulnerability itself.
#[derive(Default)]
struct Said<'a> {
    scores: BTreeSet<&'a Score>,
    cwes: BTreeSet<&'a str>,
    published: BTreeSet<Time>,
    disputed: bool,
}

impl<'a> Said<'a> {
    fn add(&mut self, advisory: &'a Advisory, is_disputed: bool) {
        self.scores.extend(&advisory.scores);
        self.cwes.extend(advisory.cwes.iter().map(String::as_str));
        self.published.extend(advisory.published);
        self.disputed |= is_disputed;
    }

    fn join(&mut self, other: &Self) {
        self.scores.extend(&other.scores);
        self.cwes.extend(&other.cwes);
        self.published.extend(&other.published);
        self.disputed |= other.disputed;
    }
}

/// Whether `a` replaces `b`, a record of the same id: the later one, and of equally old ones that whose
/// content sorts last, so that the order of feeds decides nothing.
fn later(a: &Advisory, b: &Advisory) -> bool {
    let rank = |x: &Advisory| (x.modified, Canonical::of(x).ok());
    rank(a) > rank(b)
}
