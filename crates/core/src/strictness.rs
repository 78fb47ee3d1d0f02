//! Whether what a source says now is milder than what it said before: a record that disappears, is withdrawn or disputed,
//! narrows or scores lower; an identity that maps to less; a vulnerability that is no longer known to be exploited.
//!
//! What is milder acts only once a person accepts it, or a setting for that source does. Until then the form before it is
//! kept beside the new one, as if another feed said so; and since no feed takes back what another says, the stricter of
//! both counts. Where it cannot be told, it is milder.

use std::collections::{BTreeMap, BTreeSet};

use crate::advisory::{Advisory, Affected, Kev, MatchKey};
use crate::identity::Identity;
use crate::severity::Tenths;
use crate::version::{Inside, Order, Range};

/// What stands behind the name of a feed in the name of what is kept of it.
pub const KEPT: &str = "+kept";
/// What is added to the name of what a sender keeps: what this station keeps of the same feed is something else. Each
/// station on the way adds it once more, so that no two become one.
pub const THERE: &str = "-there";

/// Whether a feed is what is kept of another one, here or on the way.
pub fn is_kept_of(name: &str, feed: &str) -> bool {
    name.strip_prefix(feed).is_some_and(|rest| rest.starts_with(KEPT))
}

/// Versions at which two forms of a record are compared, times the ranges that each is held against. Those that take more
/// count as milder unless they say the same.
const COMPARED_MAX: usize = 200_000;

/// In which respect a record is milder than the form of it before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Milder {
    /// It is not there any more.
    Gone,
    /// Its publisher withdrew or rejected it.
    Withdrawn,
    /// It is malware no longer.
    NotMalicious,
    /// It is disputed.
    Disputed,
    /// The highest score of one of its sources is lower, or gone.
    Score,
    /// It affects fewer versions or packages, or nobody knows any more which.
    Affected,
    /// It names fewer weaknesses (CWE).
    Weaknesses,
    /// It was published on another day, or nobody says when any more.
    Date,
    /// It goes by fewer names, so that fewer scores are its own.
    Names,
}

impl Milder {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Withdrawn => "withdrawn",
            Self::NotMalicious => "no longer malicious",
            Self::Disputed => "disputed",
            Self::Score => "scored lower",
            Self::Affected => "affects less",
            Self::Date => "dated otherwise",
            Self::Weaknesses => "names fewer weaknesses",
            Self::Names => "goes by fewer names",
        }
    }
}

/// In which respect `new` is milder than `old`, if in any.
pub fn milder(old: &Advisory, new: Option<&Advisory>) -> Option<Milder> {
    let says_nothing = old.affected.is_empty() && old.scores.is_empty() && !old.malicious;
    if old.withdrawn || says_nothing {
        return None;
    }
    let Some(new) = new else { return Some(Milder::Gone) };
    if new.withdrawn {
        return Some(Milder::Withdrawn);
    }
    if old.malicious && !new.malicious {
        return Some(Milder::NotMalicious);
    }
    if new.disputed && !old.disputed {
        return Some(Milder::Disputed);
    }
    // Each source and version of CVSS by itself: a policy may let one of them count and not the highest of all.
    let highest = |advisory: &Advisory| {
        let mut out: BTreeMap<(String, &str), Tenths> = BTreeMap::new();
        for score in &advisory.scores {
            let held = out.entry((score.source.clone(), score.version())).or_insert(score.score);
            *held = score.score.max(*held);
        }
        out
    };
    let (was, is) = (highest(old), highest(new));
    if was.iter().any(|(of, score)| is.get(of).is_none_or(|is| is < score)) {
        return Some(Milder::Score);
    }
    if !covers(&new.affected, &old.affected) {
        return Some(Milder::Affected);
    }
    if !old.cwes.is_subset(&new.cwes) {
        return Some(Milder::Weaknesses);
    }
    // Rules ask for younger and for older.
    if old.published.is_some() && old.published != new.published {
        return Some(Milder::Date);
    }
    let names: BTreeSet<&str> = new.names().collect();
    (!old.names().all(|name| names.contains(name))).then_some(Milder::Names)
}

/// Both forms of one record as one, which says what either says.
#[must_use]
pub fn strictest(mut kept: Advisory, other: Advisory) -> Advisory {
    if other.withdrawn {
        return kept;
    }
    if kept.withdrawn {
        return other;
    }
    kept.affected.extend(other.affected);
    // Which stands first decides nothing.
    let mut seen = BTreeSet::new();
    kept.affected.retain(|affected| seen.insert(spelt(affected)));
    kept.scores.extend(other.scores);
    kept.scores.sort();
    kept.scores.dedup();
    kept.aliases.extend(other.aliases);
    kept.cwes.extend(other.cwes);
    kept.disputed &= other.disputed;
    kept.malicious |= other.malicious;
    kept.modified = kept.modified.max(other.modified);
    kept
}

fn spelt(affected: &Affected) -> String {
    crate::canon::Canonical::of(affected).map(|text| text.as_str().to_owned()).unwrap_or_default()
}

/// A package, in one software environment.
type Place<'a> = (&'a MatchKey, Option<&'a str>);

/// Whether everything that `old` says is affected, `new` says too.
fn covers(new: &[Affected], old: &[Affected]) -> bool {
    let new = Said::by_place(new);
    Said::by_place(old)
        .iter()
        .all(|(place, old)| new.get(place).is_some_and(|new| new.covers(old, place.0.order())))
}

/// What is said of one package.
#[derive(Default)]
struct Said<'a> {
    ranges: BTreeSet<&'a Range>,
    versions: BTreeSet<&'a str>,
    /// Whether nobody says which versions are affected.
    is_open: bool,
}

impl<'a> Said<'a> {
    fn by_place(all: &'a [Affected]) -> BTreeMap<Place<'a>, Self> {
        let mut out: BTreeMap<Place<'a>, Self> = BTreeMap::new();
        for affected in all {
            let said = out.entry((&affected.key, affected.target.as_deref())).or_default();
            said.is_open |= affected.ranges.is_empty() && affected.versions.is_empty();
            said.ranges.extend(&affected.ranges);
            said.versions.extend(affected.versions.iter().map(String::as_str));
        }
        out
    }

    fn covers(&self, old: &Self, order: Order) -> bool {
        // What is open holds and does not deny.
        if old.is_open && !self.is_open && self.ranges.is_empty() {
            return false;
        }
        if old.ranges.is_subset(&self.ranges) && old.versions.is_subset(&self.versions) {
            return !old.is_open || self.is_open;
        }
        if old.is_open {
            return false;
        }
        let mut points: BTreeSet<&str> = old.versions.difference(&self.versions).copied().collect();
        for range in old.ranges.difference(&self.ranges) {
            points.extend(range.bounds());
            points.extend(self.ranges.iter().flat_map(|range| range.bounds()));
        }
        // What lies between two bounds is affected as what lies right behind the first.
        points.len() * (self.ranges.len() + old.ranges.len()).max(1) <= COMPARED_MAX
            && points.iter().all(|point| {
                let is_covered = |contains: fn(&Range, Order, &str) -> Inside, listed: bool| {
                    let inside = |ranges: &BTreeSet<&Range>, wanted: &[Inside]| {
                        ranges.iter().any(|range| wanted.contains(&contains(range, order, point)))
                    };
                    let was = inside(&old.ranges, &[Inside::Yes, Inside::Unknown])
                        || (listed && old.versions.contains(point));
                    let is =
                        inside(&self.ranges, &[Inside::Yes]) || (listed && self.versions.contains(point));
                    is || !was
                };
                is_covered(Range::contains, true) && is_covered(Range::contains_behind, false)
            })
    }
}

/// What was known to be exploited and is no longer said to be.
pub fn kev_gone(old: &Kev, new: &Kev) -> Kev {
    let gone = old.entries.iter().filter(|(cve, _)| !new.entries.contains_key(*cve));
    Kev { entries: gone.map(|(cve, added)| (cve.clone(), *added)).collect() }
}

/// The counterparts of a package that a map names no longer, or no longer as the only one of their namespace, whose products
/// the package has therefore no more (see [`crate::identity::products`]); none if there is none of either.
pub fn identity_gone(old: &Identity, new: Option<&Identity>) -> Option<Identity> {
    let of_namespace = |identity: &Identity, key: &MatchKey| {
        identity.mappings.iter().filter(|m| m.key.namespace() == key.namespace()).count()
    };
    let still = |key: &MatchKey| {
        new.is_some_and(|new| {
            let is_named = new.mappings.iter().any(|m| m.key == *key);
            is_named && (key.is_cpe() || of_namespace(old, key) > 1 || of_namespace(new, key) == 1)
        })
    };
    let gone: Vec<_> = old.mappings.iter().filter(|mapping| !still(&mapping.key)).cloned().collect();
    (!gone.is_empty()).then_some(Identity::of(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::severity::{Score, Tenths};
    use crate::version::Event;

    fn range(text: &str) -> Range {
        let event = |part: &str| {
            let part = part.trim();
            let (sign, version) = part.split_at(part.find(|c: char| !"<>=".contains(c)).unwrap());
            let version = version.to_owned();
            match sign {
                ">=" => Event::Introduced(version),
                ">" => Event::After(version),
                "<" => Event::Fixed(version),
                _ => Event::LastAffected(version),
            }
        };
        Range { events: text.split(',').map(event).collect() }
    }

    /// Ranges, and versions behind a `|`.
    fn said(text: &str) -> Affected {
        let (ranges, versions) = text.split_once('|').unwrap_or((text, ""));
        let split = |text: &str, by: char| -> Vec<String> {
            text.split(by).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        Affected {
            ranges: split(ranges, ';').iter().map(|text| range(text)).collect(),
            versions: split(versions, ' '),
            ..Affected::of(MatchKey::osv("PyPI", "x"))
        }
    }

    fn advisory(affected: &[&str]) -> Advisory {
        let affected = affected.iter().map(|text| said(text)).collect();
        Advisory { id: "PYSEC-1".into(), affected, ..Advisory::default() }
    }

    #[test]
    fn what_narrows_is_milder_and_what_widens_is_not() {
        for (old, new, is_milder) in [
            (">=1, <2", ">=1, <2", false),
            (">=1, <2", ">=1, <3", false),
            (">=1, <2", ">=0, <2", false),
            (">=1, <2", ">=1, <=2", false),
            (">=1, <2", ">=1", false),
            (">=1, <2", ">=1.0, <2.0.0", false),
            (">=1, <3", ">=1, <2; >=2, <3", false),
            (">=1, <2; >=3, <4", ">=1, <4", false),
            (">=1, <2 | 1.5", ">=1, <2", false),
            ("| 1.0 1.1", ">=1, <2", false),
            ("| 1.0", "| 1.0 1.1", false),
            (">=1, <2", ">=1.1, <2", true),
            (">=1, <2", ">=1, <1.9", true),
            (">=1, <=2", ">=1, <2", true),
            (">=1, <2", ">1, <2", true),
            (">=1, <4", ">=1, <2; >=3, <4", true),
            (">=1, <4", ">=1, <2; >2, <4", true),
            (">=1, <2", "| 1.0 1.1", true),
            ("| 1.0 1.1", "| 1.0", true),
            (">=1, <2 | 7", ">=1, <2", true),
            // What names no version holds and does not deny; and what named none may concern each.
            (">=1, <2", "", true),
            ("", ">=1, <2", true),
            ("", "", false),
            // What cannot be compared.
            (">=1, <x y", ">=1, <2", true),
            (">=1, <x y", ">=1, <x y", false),
        ] {
            let found = milder(&advisory(&[old]), Some(&advisory(&[new])));
            assert_eq!(found, is_milder.then_some(Milder::Affected), "{old} to {new}");
        }
        // Also where several entries speak of one package, and where one is no longer spoken of.
        assert_eq!(milder(&advisory(&[">=1, <2", ">=3, <4"]), Some(&advisory(&[">=1, <4"]))), None);
        let mut other = advisory(&[">=1, <2"]);
        other.affected[0].key = MatchKey::osv("PyPI", "y");
        assert_eq!(milder(&advisory(&[">=1, <2"]), Some(&other)), Some(Milder::Affected));
        let mut elsewhere = advisory(&[">=1, <2"]);
        elsewhere.affected[0].target = Some("wordpress".into());
        assert_eq!(milder(&advisory(&[">=1, <2"]), Some(&elsewhere)), Some(Milder::Affected));
    }

    #[test]
    fn a_long_list_is_compared_as_it_is_written() {
        let many = |n: usize| {
            let listed: Vec<String> = (0..n).map(|n| format!("{n}")).collect();
            advisory(&[&format!("| {}", listed.join(" "))])
        };
        assert_eq!(milder(&many(5000), Some(&many(5001))), None);
        assert_eq!(milder(&many(5001), Some(&many(5000))), Some(Milder::Affected));
        let wide = |n: usize| {
            let ranges: Vec<String> = (0..n).map(|n| format!(">={n}, <{n}.5")).collect();
            advisory(&[&ranges.join("; ")])
        };
        assert_eq!(milder(&wide(100), Some(&advisory(&[">=0"]))), None);
        let found = milder(&wide(1000), Some(&advisory(&[">=0"])));
        assert_eq!(found, Some(Milder::Affected), "that is too much to compare");
    }

    #[test]
    fn each_way_to_become_milder_has_its_name() {
        let score = |score: f64| Score {
            score: Tenths::new(score).unwrap(),
            vector: format!("v{score}"),
            source: "x".into(),
        };
        let mut old = advisory(&[">=1, <2"]);
        old.scores = vec![score(7.5)];
        old.aliases = ["CVE-1-1".to_owned()].into();
        let with = |change: fn(&mut Advisory)| {
            let mut new = old.clone();
            change(&mut new);
            milder(&old, Some(&new))
        };
        assert_eq!(milder(&old, None), Some(Milder::Gone));
        assert_eq!(with(|new| new.withdrawn = true), Some(Milder::Withdrawn));
        assert_eq!(with(|new| new.disputed = true), Some(Milder::Disputed));
        assert_eq!(with(|new| new.scores.clear()), Some(Milder::Score));
        assert_eq!(with(|new| new.aliases.clear()), Some(Milder::Names));
        let mut two = old.clone();
        two.scores.push(Score { source: "y".into(), ..score(9.0) });
        let mut one_lower = two.clone();
        one_lower.scores[0] = score(3.0);
        assert_eq!(milder(&two, Some(&one_lower)), Some(Milder::Score), "a policy may let this source count");
        assert_eq!(with(|new| new.summary = "other words".into()), None);
        assert_eq!(with(|new| new.malicious = true), None);
        let mut lower = old.clone();
        lower.scores = vec![score(7.4)];
        assert_eq!(milder(&old, Some(&lower)), Some(Milder::Score));
        assert_eq!(milder(&lower, Some(&old)), None);
        let mut malware = old.clone();
        malware.malicious = true;
        assert_eq!(milder(&malware, Some(&old)), Some(Milder::NotMalicious));
        // Who says nothing, or was withdrawn already, cannot say less.
        assert_eq!(milder(&Advisory::default(), None), None);
        let mut withdrawn = old.clone();
        withdrawn.withdrawn = true;
        assert_eq!(milder(&withdrawn, None), None);
        // A score where there was none is news, and no milder.
        assert_eq!(
            milder(
                &advisory(&[">=1, <2"]),
                Some(&Advisory { scores: vec![score(1.0)], ..advisory(&[">=1, <2"]) })
            ),
            None
        );
    }

    #[test]
    fn both_forms_as_one_are_milder_than_neither() {
        let mut a = advisory(&[">=1, <2"]);
        a.disputed = true;
        let mut b = advisory(&[">=3, <4", ">=1, <2"]);
        b.malicious = true;
        b.aliases = ["CVE-1-1".to_owned()].into();
        let both = strictest(a.clone(), b.clone());
        for one in [&a, &b] {
            assert_eq!(milder(one, Some(&both)), None);
        }
        assert_eq!(both.affected.len(), 2);
        let withdrawn = Advisory { withdrawn: true, ..a.clone() };
        assert_eq!(strictest(a.clone(), withdrawn), a);
    }

    #[test]
    fn identities_and_exploitation_are_kept_where_they_vanish() {
        use crate::identity::Mapping;
        use crate::time::Time;
        let of = |names: &[&str]| Identity {
            mappings: names.iter().map(|name| Mapping::pypi(name, "map")).collect(),
            is_ruled: false,
        };
        assert_eq!(identity_gone(&of(&["a", "b"]), Some(&of(&["b", "c"]))), Some(of(&["a"])));
        assert_eq!(identity_gone(&of(&["a"]), None), Some(of(&["a"])));
        // One of two is not the same as the only one.
        assert_eq!(identity_gone(&of(&["a"]), Some(&of(&["a", "c"]))), Some(of(&["a"])));
        assert_eq!(identity_gone(&of(&["a", "b"]), Some(&of(&["a", "b", "c"]))), None);
        let mut other = of(&["a"]);
        other.mappings.push(Mapping { key: MatchKey::osv("CRAN", "a"), ..Mapping::pypi("a", "map") });
        assert_eq!(identity_gone(&of(&["a"]), Some(&other)), None);
        assert_eq!(identity_gone(&of(&[]), None), None);
        let kev = |cves: &[&str]| Kev {
            entries: cves.iter().map(|cve| ((*cve).to_owned(), Time::from_seconds(0))).collect(),
        };
        assert_eq!(kev_gone(&kev(&["CVE-1", "CVE-2"]), &kev(&["CVE-2", "CVE-3"])), kev(&["CVE-1"]));
    }
}
