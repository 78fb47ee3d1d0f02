//! Advisories in normal form, and the slices by which they are looked up.
//!
//! A feed is a set of records, each kept raw beside its normal form. From all feeds of a station
//! [`slices`] makes one object per **match key**: what is known to affect that package. A match key names
//! a package in the namespace of the data, never in ours: `osv:PyPI/django` is ecosystem and canonical
//! name as OSV writes them; `cpe:openssl:openssl` is a CPE's vendor and product.
//!
//! Records about one vulnerability are joined by the CVE that they name themselves, so that a CVE that
//! NVD has scored scores the PYSEC entry that has no vector. Two CVEs are never merged: a record that
//! names several keeps its own scores to itself.

mod slice;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::assess::Statements;
use crate::canon::Canonical;
use crate::id::{Digest, Id};
use crate::identity::Identity;
use crate::object::{Object as _, ObjectError};
use crate::severity::Score;
use crate::time::Time;
use crate::trie::TreeId;
use crate::version::{Order, Range};

pub use slice::{Slice, SliceEntry, slices};

/// Where to look up what affects a package, for example `osv:PyPI/django`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MatchKey(String);

impl MatchKey {
    /// The key of a package in an OSV ecosystem; names of PyPI are given in canonical spelling.
    pub fn osv(ecosystem: &str, name: &str) -> Self {
        Self(format!("osv:{ecosystem}/{name}"))
    }

    /// The key of a product as NVD names it: vendor and product of a CPE, without the quoting. A `:` in one of them,
    /// of which there is hardly any, counts as `_`.
    pub fn cpe(vendor: &str, product: &str) -> Self {
        Self(format!("cpe:{}:{}", vendor.replace(':', "_"), product.replace(':', "_")))
    }

    /// Reads a key as it is written; none if it is no key.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, second) = match text.split_once(':')? {
            ("osv", rest) => rest.split_once('/')?,
            ("cpe", rest) => rest.split_once(':')?,
            _ => return None,
        };
        let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        (plain(first) && plain(second)).then(|| Self(text.to_owned()))
    }

    /// The order in which upstreams of this namespace number their releases, as far as the namespace tells.
    pub fn order(&self) -> Order {
        match self.0.split_once('/').map(|(namespace, _)| namespace) {
            Some("osv:PyPI") => Order::Pep440,
            Some("osv:CRAN" | "osv:Bioconductor") => Order::R,
            _ => Order::Letters,
        }
    }

    /// The namespace in which it names a package: `osv:PyPI`; none for products as NVD names them.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once('/').map(|(namespace, _)| namespace).filter(|_| !self.is_cpe())
    }

    /// Whether it is that of a product as NVD names it.
    pub fn is_cpe(&self) -> bool {
        self.0.starts_with("cpe:")
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One vulnerability or malware report in normal form. Fields stand in the order in which they are written, so that
/// nothing is moved for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// What is affected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected: Vec<Affected>,
    /// Other ids of the same vulnerability.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// Weaknesses, `CWE-79`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cwes: BTreeSet<String>,
    /// Whether its publisher marks it as disputed.
    #[serde(default)]
    pub disputed: bool,
    /// The record's own id.
    pub id: String,
    /// Whether it reports malware.
    #[serde(default)]
    pub malicious: bool,
    /// When the record says that it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Time>,
    /// When it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Time>,
    /// Every CVSS vector of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// How bad its publisher calls it, in a word, where it gives no vector; it is shown, and never a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What CISA decided of it (SSVC), as one line; it is shown, and no policy reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssvc: Option<String>,
    /// One line, or the beginning of the description.
    #[serde(default)]
    pub summary: String,
    /// Whether its publisher withdrew or rejected it.
    #[serde(default)]
    pub withdrawn: bool,
}

/// What one advisory says of one package. Where it names neither ranges nor versions, nobody knows which versions are
/// affected, and each may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// The package.
    pub key: MatchKey,
    /// Affected ranges of versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// The software environment for which the affected product is made, as a CPE says (`python`, `wordpress`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Affected versions, listed one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// What must be there too, as far as the record names it; it is shown, and decides nothing, since nobody here
    /// knows what stands beside a package.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub with: BTreeSet<String>,
}

impl Affected {
    /// A package of which nothing more is said.
    pub const fn of(key: MatchKey) -> Self {
        Self { key, ranges: Vec::new(), target: None, versions: Vec::new(), with: BTreeSet::new() }
    }
}

/// An advisory with the record that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisoryRecord {
    /// The normal form.
    pub advisory: Advisory,
    /// The record as its publisher wrote it.
    #[serde(with = "crate::canon::trusted")]
    pub raw: Canonical,
}

crate::object!(AdvisoryRecord, "airlock.advisory.v1");

impl AdvisoryRecord {
    /// The normal form alone, out of the bytes of a stored record.
    pub fn decode_advisory(bytes: &[u8]) -> Result<Advisory, ObjectError> {
        Self::decode_part(bytes)
    }

    /// The same with nothing in it but its names, whether it is withdrawn, and the keys of what it affects: most of
    /// a record is text and versions, which who only looks for records need not hold.
    pub fn decode_names(bytes: &[u8]) -> Result<Advisory, ObjectError> {
        #[derive(Deserialize)]
        struct Names {
            id: String,
            #[serde(default)]
            aliases: BTreeSet<String>,
            #[serde(default)]
            withdrawn: bool,
            #[serde(default)]
            affected: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            key: MatchKey,
        }
        let Names { id, aliases, withdrawn, affected } = Self::decode_part(bytes)?;
        let affected = affected.into_iter().map(|a| Affected::of(a.key));
        Ok(Advisory { id, aliases, withdrawn, affected: affected.collect(), ..Advisory::default() })
    }

    fn decode_part<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ObjectError> {
        #[derive(Deserialize)]
        struct Stored<T> {
            kind: String,
            advisory: T,
            #[serde(rename = "raw")]
            _raw: serde::de::IgnoredAny,
        }
        let shape = |source| ObjectError::Shape { kind: Self::KIND, source };
        let stored: Stored<T> = serde_json::from_slice(bytes).map_err(shape)?;
        if stored.kind != Self::KIND {
            return Err(ObjectError::Kind { expected: Self::KIND, found: stored.kind });
        }
        Ok(stored.advisory)
    }
}

impl Advisory {
    /// All its ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// The names under which it shares its scores with others: its id, and the CVE that it names.
    pub fn shares(&self) -> impl Iterator<Item = &str> {
        // A record of several CVEs may speak for one of them only; its scores stay its own.
        std::iter::once(self.id.as_str()).chain(self.cve().filter(|cve| *cve != self.id))
    }

    /// The CVE that it names, if it names exactly one.
    pub fn cve(&self) -> Option<&str> {
        let mut cves = self.names().filter(|name| name.starts_with("CVE-"));
        let first = cves.next()?;
        cves.all(|other| other == first).then_some(first)
    }
}

/// CISA's catalogue of known exploited vulnerabilities: CVE to the day it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kev {
    /// CVE to date.
    pub entries: BTreeMap<String, Time>,
}

crate::object!(Kev, "airlock.kev.v1");

/// EPSS: the probability that a CVE is exploited within 30 days, as one model saw it on one day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epss {
    /// The model's version as its publisher names it; scores of two models do not compare.
    pub model: String,
    /// The day of the scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Time>,
    /// CVE to probability from 0 to 1.
    pub scores: BTreeMap<String, f64>,
}

/// All probabilities of one day in order.
#[derive(Clone, Debug, Default)]
pub struct Ranks(Vec<f64>);

impl Ranks {
    /// Those of this file.
    pub fn of(epss: &Epss) -> Self {
        let mut all: Vec<f64> = epss.scores.values().copied().collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// The share of all that are not above `probability`, from 0 to 1, as EPSS defines its percentiles.
    pub fn percentile(&self, probability: f64) -> f64 {
        let below = self.0.partition_point(|one| *one <= probability);
        #[expect(clippy::cast_precision_loss, reason = "there are some hundred thousand CVEs")]
        let share = below as f64 / self.0.len().max(1) as f64;
        share
    }
}

crate::object!(Epss, "airlock.epss.v1");

/// What a feed speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedKind {
    /// OSV records.
    Osv,
    /// NVD API 2.0 pages.
    Nvd,
    /// Records of the CVE List.
    Cve,
    /// OpenSSL's own CVE records.
    Openssl,
    /// curl's own records.
    Curl,
    /// CISA KEV.
    Kev,
    /// FIRST EPSS.
    Epss,
    /// A map from conda names to PyPI names.
    Identities,
    /// Statements on findings: OpenVEX, CSAF, CycloneDX.
    Vex,
}

impl FeedKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Osv,
        Self::Nvd,
        Self::Cve,
        Self::Openssl,
        Self::Curl,
        Self::Kev,
        Self::Epss,
        Self::Identities,
        Self::Vex,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Osv => "osv",
            Self::Nvd => "nvd",
            Self::Cve => "cve",
            Self::Openssl => "openssl",
            Self::Curl => "curl",
            Self::Kev => "kev",
            Self::Epss => "epss",
            Self::Identities => "identities",
            Self::Vex => "vex",
        }
    }

    /// Whether its age counts for `feed_older_than`: it says what is vulnerable or exploited.
    pub const fn ages(self) -> bool {
        self.is_advisories() || matches!(self, Self::Kev)
    }

    /// Whether it holds advisories, which say what is affected; without such a feed nothing is known.
    pub const fn is_advisories(self) -> bool {
        matches!(self, Self::Osv | Self::Nvd | Self::Cve | Self::Openssl | Self::Curl)
    }
}

/// What one feed held when it was last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedHead {
    /// What it speaks.
    pub kind: FeedKind,
    /// When a connected station last read it successfully.
    pub read_at: Time,
    /// The object that holds its content: a tree of advisories, identities or statements, or one KEV or EPSS object.
    pub content: Digest,
    /// Records.
    pub count: u64,
    /// Records that were left out because they make no sense.
    pub skipped: u64,
    /// Of a feed that is read by what changed in it: up to when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// How far a feed was read that tells what changed in it since a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// What changed before this moment was read.
    pub at: Time,
    /// What its records were read by: another reader reads all of them again.
    pub reader: u32,
}

impl FeedHead {
    /// The content of a feed of advisories: id to record.
    pub const fn records(&self) -> TreeId<Id<AdvisoryRecord>> {
        Id::new(self.content)
    }
}

/// Everything a station knows about vulnerabilities at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisorySet {
    /// The feeds by name.
    pub feeds: BTreeMap<String, FeedHead>,
    /// Match key to slice.
    pub slices: TreeId<Id<Slice>>,
    /// All KEV feeds as one.
    pub kev: Id<Kev>,
    /// The newest EPSS feed.
    pub epss: Id<Epss>,
    /// conda name to what it is elsewhere.
    pub identities: TreeId<Identity>,
    /// The table of [`crate::identity::builtin`] that is a part of them; none in sets of before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Digest>,
    /// Match key to what feeds of statements say of that package; none where no feed says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<TreeId<Id<Statements>>>,
    /// [`CUT`] of the program that cut the slices; none in sets of before it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
}

/// The number of the form in which slices say what is known. Raised with every change of it, so that sets of an older
/// program are cut anew.
pub const CUT: u32 = 2;

crate::object!(AdvisorySet, "airlock.advisories.v1");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::severity::Tenths;

    fn advisory(id: &str, aliases: &[&str], score: Option<f64>, affects: bool) -> Advisory {
        Advisory {
            id: id.into(),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            scores: score
                .map(|s| Score { score: Tenths::new(s).unwrap(), vector: format!("v{s}"), source: id.into() })
                .into_iter()
                .collect(),
            affected: affects
                .then(|| Affected { versions: vec!["1".into()], ..Affected::of(MatchKey::osv("PyPI", "x")) })
                .into_iter()
                .collect(),
            ..Advisory::default()
        }
    }

    fn slice_of(all: &[Advisory]) -> Vec<SliceEntry> {
        slices(all.iter().map(|a| ("feed", a)))
            .remove(&MatchKey::osv("PyPI", "x"))
            .unwrap_or_default()
            .entries
    }

    #[test]
    fn a_cve_that_nvd_scored_scores_the_pysec_entry() {
        let all = [
            advisory("PYSEC-1", &["CVE-2020-1", "GHSA-a"], None, true),
            advisory("CVE-2020-1", &[], Some(9.8), false),
            advisory("GHSA-a", &["CVE-2020-1"], Some(7.5), false),
        ];
        let entries = slice_of(&all);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].vulnerability, "CVE-2020-1");
        let scores: Vec<String> = entries[0].scores.iter().map(|s| s.score.to_string()).collect();
        assert_eq!(scores, ["7.5", "9.8"]);
    }

    #[test]
    fn parts_of_a_record_are_read_as_the_whole_is() {
        let mut advisory = advisory("PYSEC-1", &["CVE-2020-1"], Some(9.8), true);
        advisory.summary = "\"é\n".into();
        let raw = Canonical::parse(r#"{"id":"PYSEC-1","z":[1.0,{"b":1,"a":2}]}"#).unwrap();
        let record = AdvisoryRecord { advisory, raw };
        let (_, encoded) = crate::object::encode(&record).unwrap();
        assert_eq!(AdvisoryRecord::decode_advisory(&encoded.bytes).unwrap(), record.advisory);
        let names = AdvisoryRecord::decode_names(&encoded.bytes).unwrap();
        assert!(names.names().eq(record.advisory.names()) && names.shares().eq(record.advisory.shares()));
        assert_eq!(names.affected[0].key, record.advisory.affected[0].key);
        let (_, other) = crate::object::encode(&Kev::default()).unwrap();
        assert!(AdvisoryRecord::decode_advisory(&other.bytes).is_err());
        let text = String::from_utf8(encoded.bytes).unwrap().replace(".advisory.v1", ".advisory.v9");
        assert!(matches!(AdvisoryRecord::decode_advisory(text.as_bytes()), Err(ObjectError::Kind { .. })));
    }

    #[test]
    fn no_feed_takes_back_what_another_says() {
        let ours = advisory("PYSEC-1", &["CVE-2020-1"], Some(9.8), true);
        let mut theirs = advisory("PYSEC-1", &["CVE-2020-1"], None, false);
        theirs.modified = Some(Time::from_seconds(4_000_000_000));
        theirs.withdrawn = true;
        let joined = slices([("ours", &ours), ("theirs", &theirs)]);
        assert_eq!(joined[&MatchKey::osv("PyPI", "x")].entries[0].scores.len(), 1);
    }

    #[test]
    fn a_doubt_that_waits_marks_nothing_as_disputed_here_or_on_the_way() {
        let certain = advisory("PYSEC-1", &["CVE-2020-1"], Some(9.8), true);
        let doubted = Advisory { disputed: true, ..certain.clone() };
        let disputed = |kept: &str| {
            let joined = slices([("feed", &doubted), (kept, &certain)]);
            joined[&MatchKey::osv("PyPI", "x")].entries.iter().any(|entry| entry.disputed)
        };
        for kept in ["feed+kept", "feed+kept-there", "feed+kept-there-there", "feed+kept-there+kept"] {
            assert!(!disputed(kept), "{kept}");
        }
        assert!(disputed("another") && disputed("fee+kept"));
    }

    #[test]
    fn two_cves_are_never_merged() {
        let all = [
            advisory("GHSA-both", &["CVE-2020-1", "CVE-2020-2"], Some(10.0), false),
            advisory("PYSEC-1", &["CVE-2020-1"], None, true),
        ];
        assert_eq!(slice_of(&all)[0].scores, []);
        let both = [
            advisory("PYSEC-2", &["CVE-2020-1", "CVE-2020-2"], None, true),
            advisory("CVE-2020-2", &[], Some(5.0), false),
        ];
        assert_eq!(slice_of(&both)[0].vulnerability, "PYSEC-2");
        assert_eq!(slice_of(&both)[0].scores.len(), 1);
    }

    #[test]
    fn withdrawn_records_affect_nothing_and_order_decides_nothing() {
        let mut gone = advisory("PYSEC-1", &[], None, true);
        gone.withdrawn = true;
        assert!(slice_of(&[gone]).is_empty());
        let mut old = advisory("PYSEC-1", &[], Some(1.0), true);
        old.modified = Some(Time::from_seconds(1));
        let mut new = advisory("PYSEC-1", &[], Some(2.0), true);
        new.modified = Some(Time::from_seconds(2));
        assert_eq!(slice_of(&[old.clone(), new.clone()]), slice_of(&[new, old]));
    }
}
