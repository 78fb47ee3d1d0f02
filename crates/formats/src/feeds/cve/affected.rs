//! What an entry of `affected` says: a package or product, and versions each with a state.
//!
//! The type of the versions does not decide how they are compared, since it is wrong as often as not: their order comes
//! from what the package is known as. What cannot be read as a version leaves open which are affected.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;

use airlock_core::advisory::{Affected, MatchKey};
use airlock_core::cpe::{Attribute, Cpe, Part};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::matching::CONDA;
use airlock_core::version::{Event, Range};

use super::gaps::{End, Hole, gaps};
use super::spelt::{self, bound, is_nothing, plain};
use crate::feeds::null_as_default;
use crate::limits;

/// Platforms that are named in evidence.
const PLATFORMS_MAX: usize = 3;
/// Products, bounds and versions of all products of one record together. The largest genuine ones have some thousand.
const WEIGHT_MAX: usize = 100_000;

/// Vendor and product as their vendors write them, and as CPEs do, of what packages are known to be.
pub(super) const KNOWN: [[(&str, &str); 2]; 2] = [
    [("python_software_foundation", "cpython"), ("python", "python")],
    [("nodejs", "node"), ("nodejs", "node.js")],
];

/// What one record may still say: each product that an entry names repeats all versions of the entry, so that a small
/// record could come to gigabytes.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn of_a_record() -> Self {
        Self(WEIGHT_MAX)
    }

    /// Takes what one product is said of, with so many bounds and versions.
    pub(super) fn take(&mut self, said: usize) -> Result<(), String> {
        let left = self.0.checked_sub(said.saturating_add(1));
        self.0 = left.ok_or_else(|| format!("it says more than {WEIGHT_MAX} versions of its products"))?;
        Ok(())
    }
}

/// One entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    vendor: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    product: Cow<'a, str>,
    #[serde(borrow)]
    package_name: Option<Cow<'a, str>>,
    #[serde(rename = "collectionURL", borrow)]
    collection_url: Option<Cow<'a, str>>,
    #[serde(rename = "packageURL", borrow)]
    package_url: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    cpes: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    default_status: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    versions: Vec<Version<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    platforms: Vec<Cow<'a, str>>,
}

/// One version, or all from one to another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    version: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    status: Cow<'a, str>,
    #[serde(borrow)]
    version_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    less_than: Option<Cow<'a, str>>,
    #[serde(borrow)]
    less_than_or_equal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

impl Entry<'_> {
    /// What is affected. `product` knows the match key of some products for certain. Another product is looked up by
    /// the names that its vendor gives it, spelt as CPEs spell them, where it says anything of versions; a guess that
    /// says not even that is none.
    pub(super) fn affected(
        &self,
        product: fn(&str, &str) -> Option<MatchKey>,
        budget: &mut Budget,
    ) -> Result<Vec<Affected>, String> {
        if self.cpes.len() > limits::ADVISORY_AFFECTED_MAX {
            return Err(format!("it names more than {} products", limits::ADVISORY_AFFECTED_MAX));
        }
        let found = self.found()?;
        let mut out = Vec::new();
        let known = self.package().or_else(|| product(&self.vendor, &self.product));
        let names: BTreeSet<&str> = self.cpes.iter().map(|name| &**name).collect();
        for (key, target, own) in names.into_iter().filter_map(named_by_cpe) {
            let blank = Affected { target, ..self.blank(key) };
            out.extend(match own {
                Attribute::Value(version) if self.versions.is_empty() => {
                    Found { versions: BTreeSet::from([version]), ..Found::default() }.of(&blank, budget)?
                }
                _ => found.of(&blank, budget)?,
            });
        }
        match known {
            Some(key) => out.extend(found.of(&self.blank(key), budget)?),
            None if out.is_empty() && self.says_something() => {
                if let Some(key) = self.guess() {
                    out.extend(found.of(&self.blank(key), budget)?);
                }
            }
            None => {}
        }
        Ok(out)
    }

    fn blank(&self, key: MatchKey) -> Affected {
        let platforms = self.platforms.iter().filter(|p| !is_nothing(p)).take(PLATFORMS_MAX);
        Affected { with: platforms.map(|p| p.chars().take(60).collect()).collect(), ..Affected::of(key) }
    }

    /// The key of a package of PyPI, CRAN or a conda channel.
    fn package(&self) -> Option<MatchKey> {
        let key = |kind: &str, name: &str| match kind {
            "pypi" => Some(MatchKey::osv("PyPI", &ecosystem::canonical_name(Ecosystem::Pypi, name)?)),
            "cran" if !name.is_empty() && !name.contains(char::is_whitespace) => {
                Some(MatchKey::osv("CRAN", &ecosystem::canonical_r_name(name)))
            }
            "conda" => Some(MatchKey::osv(CONDA, &ecosystem::canonical_name(Ecosystem::Conda, name)?)),
            _ => None,
        };
        if let Some(rest) = self.package_url.as_deref().and_then(|url| url.strip_prefix("pkg:")) {
            let (kind, name) = rest.split_once('/')?;
            let name = name.split(['@', '?', '#']).next().unwrap_or_default();
            return key(&kind.to_ascii_lowercase(), name);
        }
        // The host of a registry is called after it, whatever the rest of its name.
        let (_, address) = self.collection_url.as_deref()?.split_once("://")?;
        let host = address.split(['/', ':', '?']).next().unwrap_or_default();
        let kind = host.trim_start_matches("www.").split('.').next().unwrap_or_default();
        key(&kind.to_ascii_lowercase(), self.package_name.as_deref()?.trim())
    }

    /// Vendor and product as a CPE would have them.
    fn guess(&self) -> Option<MatchKey> {
        let spelt = |name: &str| {
            let name = name.trim().to_lowercase();
            let is_plain = |c: char| !c.is_control() && c != ':';
            let fits = !is_nothing(&name) && name.len() <= spelt::BYTES_MAX && name.chars().all(is_plain);
            fits.then(|| name.split_whitespace().collect::<Vec<_>>().join("_"))
        };
        let (vendor, product) = (spelt(&self.vendor)?, spelt(&self.product)?);
        let known = KNOWN.iter().find(|[words, _]| *words == (vendor.as_str(), product.as_str()));
        let (vendor, product) = known.map_or((vendor.as_str(), product.as_str()), |[_, cpe]| *cpe);
        Some(MatchKey::cpe(vendor, product))
    }

    /// What its versions say.
    fn found(&self) -> Result<Found, String> {
        if self.versions.len() > limits::ADVISORY_AFFECTED_MAX {
            return Err(format!("it names more than {} versions", limits::ADVISORY_AFFECTED_MAX));
        }
        let mut found = Found::default();
        let otherwise = self.otherwise();
        let all_but = otherwise == State::Affected;
        if self.versions.is_empty() && all_but {
            found.ranges.extend(gaps(Vec::new()).unwrap_or_default());
            return Ok(found);
        }
        let mut holes = Vec::new();
        // Commits say nothing of releases; those count that stand beside them.
        let named = || self.versions.iter().filter(|version| !version.is_commit());
        for version in named() {
            let state = State::of(&version.status);
            match version.compared() {
                Some(_) if state == State::Unaffected => found.is_open |= all_but,
                Some(range) => drop(found.ranges.insert(range)),
                None => match version.steps() {
                    None => found.is_open |= all_but || version.may_affect(),
                    Some(steps) => {
                        holes.extend(steps.holes());
                        steps.add_to(&mut found, all_but);
                    }
                },
            }
        }
        if named().next().is_none() {
            found.is_open = !self.versions.is_empty() || otherwise != State::Unaffected;
        } else if all_but && !found.is_open {
            match gaps(holes) {
                Some(ranges) => found.ranges.extend(ranges),
                None => found.is_open = true,
            }
        }
        // Who names only what is not affected, and not that nothing else is, leaves the rest open.
        found.is_open |= otherwise != State::Unaffected && !found.says_something();
        Ok(found)
    }

    /// The state of what no version names.
    fn otherwise(&self) -> State {
        self.default_status.as_deref().map_or(State::Unknown, State::of)
    }

    /// Whether it says of any version what it is: `n/a` stands where nothing is said.
    fn says_something(&self) -> bool {
        let texts = |version: &Version<'_>| version.texts().any(|text| !is_nothing(text));
        self.otherwise() == State::Affected
            || self.versions.iter().any(|version| version.version == "*" || texts(version))
    }
}

/// The product that a CPE names, its environment and its version.
fn named_by_cpe(name: &str) -> Option<(MatchKey, Option<String>, Attribute)> {
    let cpe = Cpe::parse(name).ok()?;
    if !matches!(cpe.part, Part::Application | Part::Any) {
        return None;
    }
    let key = MatchKey::cpe(cpe.vendor.value()?, cpe.product.value()?);
    Some((key, cpe.target_sw.value().map(str::to_owned), cpe.version))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Affected,
    Unaffected,
    Unknown,
}

impl State {
    fn of(text: &str) -> Self {
        match text {
            "affected" => Self::Affected,
            "unaffected" => Self::Unaffected,
            _ => Self::Unknown,
        }
    }
}

/// What changes from where on.
struct Steps<'a> {
    steps: Vec<(&'a str, State)>,
    /// None of one version, which is no range.
    end: Option<End<'a>>,
}

impl Version<'_> {
    /// All that it says where a version belongs.
    fn texts(&self) -> impl Iterator<Item = &str> {
        [Some(&self.version), self.less_than.as_ref(), self.less_than_or_equal.as_ref()]
            .into_iter()
            .flatten()
            .map(|text| &**text)
    }

    /// Whether it names commits. Some call releases `git` too, so that the type alone says nothing.
    fn is_commit(&self) -> bool {
        let is_git = self.version_type.as_deref() == Some("git");
        let is_hash = |text: &str| spelt::is_commit(text) && (is_git || text.len() == 40);
        let from_start = is_nothing(&self.version) || self.version == "0";
        is_hash(&self.version) || (from_start && self.texts().any(is_hash))
    }

    fn may_affect(&self) -> bool {
        let states = std::iter::once(&self.status).chain(self.changes.iter().map(|change| &change.status));
        states.into_iter().any(|status| State::of(status) != State::Unaffected)
    }

    /// What `>= 1.0, < 1.2` says, which some write where a version belongs.
    fn compared(&self) -> Option<Range> {
        if self.less_than.is_some() || self.less_than_or_equal.is_some() || !self.changes.is_empty() {
            return None;
        }
        let (mut start, mut end) = (None, None);
        for part in self.version.split(',').map(str::trim) {
            let signs = part.find(|c| !matches!(c, '<' | '>' | '='))?;
            let (sign, version) = part.split_at_checked(signs)?;
            let version = plain(version)?.to_owned();
            let (place, event) = match sign {
                ">=" => (&mut start, Event::Introduced(version)),
                ">" => (&mut start, Event::After(version)),
                "<" => (&mut end, Event::Fixed(version)),
                "<=" => (&mut end, Event::LastAffected(version)),
                "=" | "==" if !self.version.contains(',') => {
                    return Some(Range {
                        events: vec![Event::Introduced(version.clone()), Event::LastAffected(version)],
                    });
                }
                _ => return None,
            };
            if place.replace(event).is_some() {
                return None;
            }
        }
        let start = start.unwrap_or_else(|| Event::Introduced("0".to_owned()));
        Some(Range { events: std::iter::once(start).chain(end).collect() })
    }

    /// None where one of its versions cannot be read.
    fn steps(&self) -> Option<Steps<'_>> {
        let end = match (self.less_than.as_deref(), self.less_than_or_equal.as_deref()) {
            (Some("*"), _) | (None, Some("*")) => End::Never,
            (Some(before), _) => End::Before(plain(before)?.into()),
            (None, Some(at)) => match plain(at) {
                Some(at) => End::At(at),
                None => End::Before(spelt::behind_branch(at)?),
            },
            (None, None) if self.changes.is_empty() && self.version != "*" => {
                // Where a range begins with `0`, it stands for all; alone it may mean the same.
                let only = plain(&self.version).filter(|only| !spelt::is_zero(only))?;
                return Some(Steps { steps: vec![(only, State::of(&self.status))], end: None });
            }
            (None, None) => End::Never,
        };
        let mut steps = vec![(bound(&self.version)?, State::of(&self.status))];
        for change in &self.changes {
            steps.push((plain(&change.at)?, State::of(&change.status)));
        }
        Some(Steps { steps, end: Some(end) })
    }
}

impl<'a> Steps<'a> {
    /// Adds what is named as affected. What is unknown is open, unless all is affected that is not named (`all_but`).
    fn add_to(self, found: &mut Found, all_but: bool) {
        let affected = |(_, state): &(&str, State)| *state == State::Affected;
        if !all_but && self.steps.iter().any(|(_, state)| *state == State::Unknown) {
            found.is_open = true;
        }
        if !self.steps.iter().any(affected) {
            return;
        }
        if self.end.is_none() {
            found.versions.extend(self.steps.iter().map(|(version, _)| (*version).to_owned()));
            return;
        }
        let mut events = Vec::new();
        for (at, state) in &self.steps {
            let at = (*at).to_owned();
            match state {
                State::Affected => events.push(Event::Introduced(at)),
                _ if events.is_empty() => {}
                _ => events.push(Event::Fixed(at)),
            }
        }
        match self.end {
            Some(End::Before(end)) => events.push(Event::Fixed(end.into_owned())),
            Some(End::At(end)) => events.push(Event::LastAffected(end.to_owned())),
            Some(End::Never) | None => {}
        }
        found.ranges.insert(Range { events });
    }

    /// What is named as not affected.
    fn holes(&self) -> Vec<Hole<'a>> {
        let mut out = Vec::new();
        for (at, (from, state)) in self.steps.iter().enumerate() {
            if *state == State::Unaffected {
                let to = match (self.steps.get(at + 1), &self.end) {
                    (Some((next, _)), _) => End::Before(Cow::Borrowed(*next)),
                    (None, Some(end)) => end.clone(),
                    (None, None) => End::At(from),
                };
                out.push(Hole { from, to });
            }
        }
        out
    }
}

/// Which versions are affected.
#[derive(Default)]
struct Found {
    ranges: BTreeSet<Range>,
    versions: BTreeSet<String>,
    /// Some are of which nobody could say which.
    is_open: bool,
}

impl Found {
    fn says_something(&self) -> bool {
        !self.ranges.is_empty() || !self.versions.is_empty()
    }

    /// The same of one package. A list answers for itself only, and not for a range that cannot be read.
    fn of(&self, blank: &Affected, budget: &mut Budget) -> Result<Vec<Affected>, String> {
        budget
            .take(self.ranges.iter().map(|range| range.events.len()).sum::<usize>() + self.versions.len())?;
        let mut out = Vec::new();
        if !self.ranges.is_empty() {
            out.push(Affected { ranges: self.ranges.iter().cloned().collect(), ..blank.clone() });
        }
        if !self.versions.is_empty() {
            out.push(Affected { versions: self.versions.iter().cloned().collect(), ..blank.clone() });
        }
        if self.is_open {
            out.push(blank.clone());
        }
        Ok(out)
    }
}
