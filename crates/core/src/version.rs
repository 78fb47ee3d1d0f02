//! Orders of versions and affected ranges.
//!
//! The order is that of the upstream's own scheme, because orders disagree: conda puts `1.9.2.dev1069`
//! behind `1.9.2rc1`, PEP 440 before it; and OpenSSL's `1.1.1k`, a patch of 1.1.1, before 1.1.1. What an order cannot
//! read still matches as the same text.

mod letters;
mod r;
mod semver;

use std::cmp::Ordering;
use std::str::FromStr as _;

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;

/// An order of versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// PEP 440, for everything with a PyPI identity.
    Pep440,
    /// CEP 33, conda's own.
    Conda,
    /// Numbers, behind which letters are later patches: C libraries and tools.
    Letters,
    /// Semantic Versioning 2.0.0.
    Semver,
    /// R packages.
    R,
}

/// A version read under an order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parsed {
    Pep440(pep440_rs::Version),
    Conda(rattler_conda_version::Version),
    Letters(letters::Version),
    Semver(semver::Version),
    R(r::Version),
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pep440, Self::Conda, Self::Letters, Self::Semver, Self::R];

    /// The order in which an ecosystem's own clients compare.
    pub const fn of(ecosystem: Ecosystem) -> Self {
        match ecosystem {
            Ecosystem::Conda => Self::Conda,
            Ecosystem::Pypi => Self::Pep440,
        }
    }

    /// The name in tables and on the command line.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Pep440 => "pep440",
            Self::Conda => "conda",
            Self::Letters => "letters",
            Self::Semver => "semver",
            Self::R => "r",
        }
    }

    /// The name as it stands in evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pep440 => "PEP 440",
            Self::Conda => "conda (CEP 33)",
            Self::Letters => "letters behind numbers",
            Self::Semver => "SemVer",
            Self::R => "R",
        }
    }

    fn parse(self, version: &str) -> Option<Parsed> {
        match self {
            Self::Pep440 => pep440_rs::Version::from_str(version).ok().map(Parsed::Pep440),
            Self::Conda => rattler_conda_version::Version::from_str(version).ok().map(Parsed::Conda),
            Self::Letters => letters::Version::parse(version).map(Parsed::Letters),
            Self::Semver => semver::Version::parse(version).map(Parsed::Semver),
            Self::R => r::Version::parse(version).map(Parsed::R),
        }
    }

    /// Compares two versions; `None` if the order cannot read one of them.
    pub fn compare(self, a: &str, b: &str) -> Option<Ordering> {
        Some(compare(&self.parse(a)?, &self.parse(b)?))
    }

    /// Sorts versions, those that the order cannot read first and by their text.
    pub fn sort(self, versions: &mut [String]) {
        versions.sort_by(|a, b| match (self.parse(a), self.parse(b)) {
            (None, None) => a.cmp(b),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            _ => self.compare(a, b).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b)),
        });
    }
}

/// One event of an OSV range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Affected from here on; `0` is before every version.
    Introduced(String),
    /// Affected from everything later than this one on; OSV has no such event, CPE ranges do.
    After(String),
    /// No longer affected from here on.
    Fixed(String),
    /// Affected up to and including this one.
    LastAffected(String),
    /// Nothing is said about what comes from here on.
    Limit(String),
}

impl Event {
    fn version(&self) -> &str {
        match self {
            Self::Introduced(v)
            | Self::After(v)
            | Self::Fixed(v)
            | Self::LastAffected(v)
            | Self::Limit(v) => v,
        }
    }
}

/// Events that together say which versions are affected (OSV schema, "Evaluation").
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Range {
    /// The events in any order.
    pub events: Vec<Event>,
}

/// What a range says about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Affected.
    Yes,
    /// Not affected.
    No,
    /// The order cannot read the version or a bound.
    Unknown,
}

impl Range {
    /// Whether `version` is inside, by the algorithm of the OSV schema.
    pub fn contains(&self, order: Order, version: &str) -> Inside {
        self.at(order, version, compare)
    }

    /// Whether the versions right behind `version` are inside.
    pub fn contains_behind(&self, order: Order, version: &str) -> Inside {
        self.at(order, version, |at, version| match compare(at, version) {
            Ordering::Equal => Ordering::Less,
            other => other,
        })
    }

    /// Whether a place is inside, by how each event lies to it.
    fn at(&self, order: Order, version: &str, lies: impl Fn(&Parsed, &Parsed) -> Ordering) -> Inside {
        let Some(version) = order.parse(version) else { return Inside::Unknown };
        let mut sorted: Vec<(Option<Parsed>, &Event)> = Vec::with_capacity(self.events.len());
        for event in &self.events {
            // `0` stands for "before every version", also where an order would put `0.dev1` below it.
            let zero = matches!(event, Event::Introduced(v) if v == "0");
            match order.parse(event.version()) {
                _ if zero => sorted.push((None, event)),
                Some(at) => sorted.push((Some(at), event)),
                None => return Inside::Unknown,
            }
        }
        // Of two events at one version the one that opens comes first: `last_affected` closes behind it.
        sorted.sort_by(|a, b| at_most(a.0.as_ref(), b.0.as_ref()).then_with(|| rank(a.1).cmp(&rank(b.1))));
        let mut inside = Inside::No;
        for (at, event) in &sorted {
            let reached = at.as_ref().is_none_or(|at| lies(at, &version) != Ordering::Greater);
            let passed = at.as_ref().is_none_or(|at| lies(at, &version) == Ordering::Less);
            match event {
                Event::Introduced(_) if reached => inside = Inside::Yes,
                Event::After(_) if passed => inside = Inside::Yes,
                Event::Fixed(_) | Event::Limit(_) if reached => inside = Inside::No,
                Event::LastAffected(_) if passed => inside = Inside::No,
                _ => {}
            }
        }
        inside
    }

    /// The versions at which what it says changes.
    pub fn bounds(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(Event::version)
    }

    /// The versions from which on it is fixed, as the record writes them.
    pub fn fixed(&self) -> impl Iterator<Item = &str> {
        self.events.iter().filter_map(|e| match e {
            Event::Fixed(v) => Some(v.as_str()),
            _ => None,
        })
    }
}

impl std::fmt::Display for Range {
    /// `>=1.25.4, <1.26.5`, as people read it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, event) in self.events.iter().enumerate() {
            let sign = match event {
                Event::Introduced(_) => ">=",
                Event::After(_) => ">",
                Event::Fixed(_) | Event::Limit(_) => "<",
                Event::LastAffected(_) => "<=",
            };
            write!(f, "{}{sign}{}", if i > 0 { ", " } else { "" }, event.version())?;
        }
        Ok(())
    }
}

fn rank(event: &Event) -> u8 {
    match event {
        Event::Fixed(_) | Event::Limit(_) => 0,
        Event::Introduced(_) | Event::After(_) => 1,
        Event::LastAffected(_) => 2,
    }
}

fn compare(a: &Parsed, b: &Parsed) -> Ordering {
    match (a, b) {
        (Parsed::Pep440(a), Parsed::Pep440(b)) => a.cmp(b),
        (Parsed::Conda(a), Parsed::Conda(b)) => a.cmp(b),
        (Parsed::Letters(a), Parsed::Letters(b)) => a.cmp(b),
        (Parsed::Semver(a), Parsed::Semver(b)) => a.cmp(b),
        (Parsed::R(a), Parsed::R(b)) => a.cmp(b),
        // All versions that are compared were read under one order.
        _ => Ordering::Equal,
    }
}

fn at_most(a: Option<&Parsed>, b: Option<&Parsed>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => compare(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(events: &[(&str, &str)]) -> Range {
        let events = events.iter().map(|(kind, v)| match *kind {
            "introduced" => Event::Introduced((*v).into()),
            "fixed" => Event::Fixed((*v).into()),
            "after" => Event::After((*v).into()),
            "limit" => Event::Limit((*v).into()),
            _ => Event::LastAffected((*v).into()),
        });
        Range { events: events.collect() }
    }

    #[test]
    fn ranges_follow_the_evaluation_of_the_osv_schema() {
        let two =
            range(&[("introduced", "2.0"), ("fixed", "2.0.5"), ("introduced", "0"), ("fixed", "1.26.17")]);
        for (version, inside) in [
            ("0.dev1", Inside::Yes),
            ("1.26.16", Inside::Yes),
            ("1.26.17", Inside::No),
            ("1.27", Inside::No),
            ("2", Inside::Yes),
            ("2.0.4.post1", Inside::Yes),
            ("2.0.5", Inside::No),
            ("3", Inside::No),
            ("0.1-bulbasaur", Inside::Unknown),
        ] {
            assert_eq!(two.contains(Order::Pep440, version), inside, "{version}");
        }
        let last = range(&[("introduced", "1"), ("last_affected", "1.5")]);
        for (version, inside) in
            [("1.5", Inside::Yes), ("1.5.0", Inside::Yes), ("1.5.post1", Inside::No), ("0.9", Inside::No)]
        {
            assert_eq!(last.contains(Order::Pep440, version), inside, "{version}");
        }
        assert_eq!(
            range(&[("introduced", "1"), ("fixed", "x y")]).contains(Order::Pep440, "2"),
            Inside::Unknown
        );
        assert_eq!(range(&[]).contains(Order::Pep440, "2"), Inside::No);
        assert_eq!(range(&[("introduced", "1"), ("limit", "2")]).contains(Order::Pep440, "2"), Inside::No);
    }

    #[test]
    fn an_openssl_release_with_a_letter_is_inside_the_range_of_its_letters() {
        let range = range(&[("introduced", "1.1.1"), ("fixed", "1.1.1l")]);
        assert_eq!(range.contains(Order::Letters, "1.1.1k"), Inside::Yes);
        assert_eq!(range.contains(Order::Letters, "1.1.1l"), Inside::No);
        assert_eq!(range.contains(Order::Letters, "1.1.0z"), Inside::No);
        // What conda's own order would say.
        assert_eq!(range.contains(Order::Conda, "1.1.1k"), Inside::No);
    }

    #[test]
    fn what_begins_behind_a_version_does_not_hold_that_version() {
        let range = range(&[("after", "1.2"), ("last_affected", "1.4")]);
        for (version, inside) in [
            ("1.2", Inside::No),
            ("1.2.0", Inside::No),
            ("1.2.1", Inside::Yes),
            ("1.4", Inside::Yes),
            ("1.5", Inside::No),
        ] {
            assert_eq!(range.contains(Order::Letters, version), inside, "{version}");
        }
        assert_eq!(range.to_string(), ">1.2, <=1.4");
    }

    #[test]
    fn a_version_that_is_both_introduced_and_last_affected_is_affected() {
        let one = range(&[("introduced", "3.6"), ("last_affected", "3.6")]);
        assert_eq!(one.contains(Order::Pep440, "3.6"), Inside::Yes);
        assert_eq!(one.contains(Order::Pep440, "3.7"), Inside::No);
    }

    #[test]
    fn orders_disagree_as_measured() {
        assert_eq!(Order::Pep440.compare("1.9.2.dev1069", "1.9.2rc1"), Some(Ordering::Less));
        assert_eq!(Order::Conda.compare("1.9.2.dev1069", "1.9.2rc1"), Some(Ordering::Greater));
        assert_eq!(Order::Pep440.compare("1.1.1k", "1.1.1"), None);
        assert_eq!(Order::Conda.compare("1.1.1k", "1.1.1"), Some(Ordering::Less));
        assert_eq!(Order::Letters.compare("1.1.1k", "1.1.1"), Some(Ordering::Greater));
        let mut versions = ["1.10", "bad one", "1.9", "1.9.post1"].map(String::from);
        Order::Pep440.sort(&mut versions);
        assert_eq!(versions, ["bad one", "1.9", "1.9.post1", "1.10"]);
    }
}
