//! What our matcher says of each version from NVD's statement alone, held against the curated one.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::{MatchKey, Slice, SliceEntry};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::identity::{Identity, Mapping, Review};
use airlock_core::matching::{Lookup, lookups, match_version};
use airlock_core::version::Event;

use crate::data::{Data, Pair, is_named, order};

/// One pair, compared.
pub struct Compared {
    pub pair: Pair,
    /// Why our identities do not lead to what NVD says of it, if they do not.
    pub unreached: Option<&'static str>,
    /// Versions that both say are affected.
    pub both: usize,
    /// Versions that our matcher alone says are.
    pub over: Vec<String>,
    /// Versions that the curated record alone says are.
    pub under: Vec<String>,
    /// Of those that the matcher says, what it leaves undecided: such a finding holds, and so it counts as said.
    pub undecided: usize,
    /// Versions that neither says are.
    pub neither: usize,
    /// NVD's statement, as far as it was reached.
    pub of_nvd: Vec<SliceEntry>,
    /// The curated one.
    pub of_curated: Vec<SliceEntry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Affected,
    Open,
    No,
}

/// Compares by an identity; none where the curated record leaves open which versions are affected.
pub fn compare(data: &Data, pair: &Pair, identity: &Identity) -> Option<Compared> {
    let own = Identity::of(vec![Mapping {
        key: pair.source.key(&pair.package),
        order: order(pair, identity),
        provenance: "its name".to_owned(),
        review: Review::Verified,
    }]);
    let (curated, nvd) = (about(&data.curated, &own, pair), about(&data.nvd, identity, pair));
    let entries = |found: &[(Lookup, Slice)]| -> Vec<SliceEntry> {
        found.iter().flat_map(|(_, slice)| slice.entries.clone()).collect()
    };
    let mut out = Compared {
        pair: pair.clone(),
        unreached: nvd.is_empty().then(|| unreached(data, pair, identity)),
        both: 0,
        over: Vec::new(),
        under: Vec::new(),
        undecided: 0,
        neither: 0,
        of_nvd: entries(&nvd),
        of_curated: entries(&curated),
    };
    let mut is_decided = false;
    for version in data.versions(pair) {
        let truth = say(&curated, version);
        if truth == Said::Open {
            continue;
        }
        is_decided = true;
        let said = say(&nvd, version);
        out.undecided += usize::from(said == Said::Open);
        match (said != Said::No, truth == Said::Affected) {
            (true, true) => out.both += 1,
            (true, false) => out.over.push(version.to_owned()),
            (false, true) => out.under.push(version.to_owned()),
            (false, false) => out.neither += 1,
        }
    }
    is_decided.then_some(out)
}

/// Whether an identity leads to anything that NVD says of a pair.
pub fn is_reached(data: &Data, pair: &Pair, identity: &Identity) -> bool {
    !about(&data.nvd, identity, pair).is_empty()
}

fn say(found: &[(Lookup, Slice)], version: &str) -> Said {
    let slices: Vec<(Lookup, &Slice)> = found.iter().map(|(lookup, slice)| (lookup.clone(), slice)).collect();
    match match_version(&slices, version).iter().map(|f| f.undecided).min() {
        None => Said::No,
        Some(true) => Said::Open,
        Some(false) => Said::Affected,
    }
}

/// What is said of this one CVE, by the keys of an identity.
fn about(slices: &BTreeMap<MatchKey, Slice>, identity: &Identity, pair: &Pair) -> Vec<(Lookup, Slice)> {
    let is_it = |e: &&SliceEntry| e.advisory == pair.cve || e.aliases.contains(&pair.cve);
    let found = |lookup: Lookup| {
        let entries = slices.get(&lookup.key)?.entries.iter().filter(is_it).cloned().collect::<Vec<_>>();
        (!entries.is_empty()).then_some((lookup, Slice { entries }))
    };
    lookups(Ecosystem::Conda, &pair.package, Some(identity)).into_iter().filter_map(found).collect()
}

fn unreached(data: &Data, pair: &Pair, identity: &Identity) -> &'static str {
    let products = data.products(&pair.cve);
    let is_mapped = identity.mappings.iter().any(|m| m.key.as_str().starts_with("cpe:"));
    if products.is_empty() {
        "NVD names no product"
    } else if is_mapped {
        "NVD names another product than the maps"
    } else if products.iter().any(|key| is_named(key, &pair.package)) {
        "no map knows a product; NVD names one of the same name"
    } else {
        "no map knows a product"
    }
}

impl Compared {
    pub fn wrong(&self) -> usize {
        self.over.len() + self.under.len()
    }

    fn events(entries: &[SliceEntry]) -> impl Iterator<Item = &Event> {
        entries.iter().flat_map(|e| &e.ranges).flat_map(|r| &r.events)
    }

    /// Why the matcher says too much, as far as the statements show.
    pub fn why_over(&self) -> Option<&'static str> {
        let has_no_end = |e: &SliceEntry| {
            e.ranges.iter().any(|r| matches!(r.events[..], [Event::Introduced(_) | Event::After(_)]))
        };
        let says_nothing = |e: &SliceEntry| e.ranges.is_empty() && e.versions.is_empty();
        let mut curated = Self::events(&self.of_curated);
        Some(if self.over.is_empty() {
            return None;
        } else if self.of_nvd.iter().any(says_nothing) {
            "NVD names no version, so that it is open"
        } else if self.of_nvd.iter().any(has_no_end) {
            "NVD's range has no end"
        } else if self.over.iter().all(|v| is_trial(v)) {
            "pre-releases"
        } else if self.over.iter().all(|v| self.of_nvd.iter().any(|e| e.versions.contains(v))) {
            "NVD lists single versions that the curated record leaves out"
        } else if curated.any(|e| matches!(e, Event::Introduced(v) if v != "0")) {
            "the curated record has narrower branches"
        } else {
            "NVD's range ends later"
        })
    }

    /// Why it says too little.
    pub fn why_under(&self) -> Option<&'static str> {
        let starts = |entries: &[SliceEntry]| {
            let from_zero = |e: &Event| matches!(e, Event::Introduced(v) if v == "0");
            !Self::events(entries).any(from_zero)
        };
        let said = self.both + self.over.len();
        Some(if self.under.is_empty() {
            return None;
        } else if said == 0 && self.of_nvd.iter().all(|e| !e.ranges.is_empty()) {
            "NVD names another environment"
        } else if said == 0 {
            "NVD lists versions that nobody released"
        } else if self.of_nvd.iter().all(|e| e.ranges.is_empty()) {
            "NVD lists single versions and no range"
        } else if self.under.iter().all(|v| is_trial(v)) {
            "pre-releases"
        } else if starts(&self.of_nvd) && !starts(&self.of_curated) {
            "NVD's first range begins later"
        } else {
            "NVD's branches end earlier or are fewer"
        })
    }

    /// Both statements, for people.
    pub fn shown(&self) -> String {
        let statement = |entries: &[SliceEntry]| {
            let mut said: BTreeSet<String> = BTreeSet::new();
            for entry in entries {
                said.extend(entry.ranges.iter().map(ToString::to_string));
                if entry.ranges.is_empty() {
                    said.extend(entry.versions.iter().map(|v| format!("={v}")));
                }
            }
            let text = said.into_iter().collect::<Vec<_>>().join("; ");
            if text.len() > 160 { format!("{}…", &text[..text.floor_char_boundary(160)]) } else { text }
        };
        format!("NVD {}, curated {}", statement(&self.of_nvd), statement(&self.of_curated))
    }
}

/// Whether a version precedes a release, by how it is written.
fn is_trial(version: &str) -> bool {
    let rest = version.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rest = rest.trim_start_matches(['-', '_']);
    ["a", "b", "c", "rc", "dev", "pre"].iter().any(|word| rest.starts_with(word))
}
