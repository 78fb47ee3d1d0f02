//! What a package is in other namespaces, and how well it is covered by advisories.
//!
//! Names mean nothing across namespaces: conda's `pytorch` is PyPI's `torch`, and conda's `zbar` is not PyPI's. So a
//! conda package matches advisories only through mappings, each of which says whence it comes and whether somebody
//! checked it. [`builtin`] rows and maps that were imported as feeds add up, since two that disagree are both right
//! until a person rules.

pub mod builtin;
pub mod products;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advisory::MatchKey;
use crate::ecosystem::{self, Ecosystem};
use crate::version::Order;

/// What a package is elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Identity {
    /// Where it is known, sorted by key; none where a map knows the package and names no counterpart.
    pub mappings: Vec<Mapping>,
    /// Whether people of this station ruled that this is all there is, so that nothing follows from the name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ruled: bool,
}

/// An identity as it is stored, also by programs that knew PyPI names only.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    mappings: Vec<Mapping>,
    #[serde(default)]
    pypi: Vec<String>,
    #[serde(default)]
    provenance: String,
}

impl From<Stored> for Identity {
    fn from(stored: Stored) -> Self {
        let Stored { mut mappings, pypi, provenance } = stored;
        mappings.extend(pypi.iter().map(|name| Mapping::pypi(name, &provenance)));
        // A ruling is a decision, and none that a feed could bring.
        Self { mappings, is_ruled: false }
    }
}

/// One counterpart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mapping {
    /// Under which advisories about it stand.
    pub key: MatchKey,
    /// How its upstream numbers its releases.
    pub order: Order,
    /// Who says so: the name of a feed, or the table of this program. Several are joined by `and`.
    pub provenance: String,
    /// Whether somebody checked it.
    pub review: Review,
}

/// Whether a mapping was checked. Ordered from better to worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Review {
    /// It has evidence that a test compares, or a person of this station ruled so.
    Verified,
    /// It was made by a program, and nobody here looked at it.
    Automatic,
}

impl Mapping {
    /// One to a PyPI project, as a map says that nobody reviewed.
    pub fn pypi(name: &str, provenance: &str) -> Self {
        Self {
            key: MatchKey::osv("PyPI", name),
            order: Order::Pep440,
            provenance: provenance.to_owned(),
            review: Review::Automatic,
        }
    }
}

impl Identity {
    /// What is known of a package by these counterparts.
    pub const fn of(mappings: Vec<Mapping>) -> Self {
        Self { mappings, is_ruled: false }
    }

    /// Adds what another layer, or another map, says of the same package.
    pub fn join(&mut self, other: Self) {
        for mapping in other.mappings {
            match self.mappings.iter_mut().find(|held| held.key == mapping.key) {
                None => self.mappings.push(mapping),
                Some(held) => {
                    if mapping.review < held.review {
                        // Who checked it knows best how it numbers its releases.
                        (held.review, held.order) = (mapping.review, mapping.order);
                    }
                    if held.provenance.split(" and ").all(|one| one != mapping.provenance) {
                        held.provenance = format!("{} and {}", held.provenance, mapping.provenance);
                    }
                }
            }
        }
        self.mappings.sort();
    }

    /// What counts of an identity that came in a feed: it was checked by nobody here, whatever it says of itself, and
    /// does not say how versions are compared.
    #[must_use]
    pub fn from_feed(self, feed: &str) -> Self {
        let mapping = |mapping: Mapping| {
            let key = MatchKey::parse(mapping.key.as_str())?;
            let (order, provenance) = (key.order(), feed.to_owned());
            Some(Mapping { key, order, provenance, review: Review::Automatic })
        };
        Self { mappings: self.mappings.into_iter().filter_map(mapping).collect(), is_ruled: false }
    }

    /// Whether it is a Python project.
    pub fn is_python(&self) -> bool {
        self.mappings.iter().any(|m| m.key.as_str().starts_with("osv:PyPI/"))
    }
}

/// The rows that are built in and all maps as one. Two that disagree are both right until a person rules: what either
/// names is looked up.
#[derive(Debug)]
pub struct Joined {
    identities: BTreeMap<String, Identity>,
    /// What maps say of packages of registries, by their keys.
    links: BTreeMap<MatchKey, Identity>,
}

impl Default for Joined {
    fn default() -> Self {
        Self { identities: builtin::identities(), links: BTreeMap::new() }
    }
}

impl Joined {
    /// Adds the map of a feed. Of each identity counts what [`Identity::from_feed`] says. A name that is a match key,
    /// which no conda package can have, is that of a package elsewhere.
    pub fn add(&mut self, feed: &str, map: BTreeMap<String, Identity>) {
        for (name, identity) in map {
            let held = match MatchKey::parse(&name) {
                Some(package) => self.links.entry(package).or_default(),
                None => self.identities.entry(name).or_default(),
            };
            held.join(identity.from_feed(feed));
        }
    }

    /// The identities by conda name, with the products of what each is elsewhere.
    pub fn finish(mut self) -> BTreeMap<String, Identity> {
        products::follow(&mut self.identities, &self.links);
        self.identities
    }
}

/// What follows from the name alone: conda-forge calls R packages `r-` and their name on CRAN, or `bioconductor-`.
pub fn by_rule(ecosystem: Ecosystem, name: &str) -> Option<Mapping> {
    match ecosystem {
        Ecosystem::Pypi => None,
        Ecosystem::Conda => {
            let of = |prefix: &str, ecosystem: &str| {
                let package = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
                Some(Mapping {
                    key: MatchKey::osv(ecosystem, &ecosystem::canonical_r_name(package)),
                    order: Order::R,
                    provenance: format!("the rule that `{prefix}` is {ecosystem}"),
                    review: Review::Automatic,
                })
            };
            of("r-", "CRAN").or_else(|| of("bioconductor-", "Bioconductor"))
        }
    }
}

/// The conda package that is looked up under a key whatever its mappings say: by [`by_rule`], or under its own name.
pub fn named_by_rule(key: &MatchKey) -> Option<String> {
    let (ecosystem, name) = key.as_str().strip_prefix("osv:")?.split_once('/')?;
    match ecosystem {
        "CRAN" => Some(format!("r-{name}")),
        "Bioconductor" => Some(format!("bioconductor-{name}")),
        crate::matching::CONDA => Some(name.to_owned()),
        _ => None,
    }
}

/// How well advisories can be expected to speak of a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// The identity is certain: the package's own namespace, or a mapping that was checked.
    Verified,
    /// The identity comes from a map or a rule that nobody here reviewed.
    Automatic,
    /// A person ruled that no advisory can concern it.
    NoneNeeded,
    /// No identity: nothing that is known could have matched. Never the same as clean.
    Unknown,
}

impl Coverage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Verified, Self::Automatic, Self::NoneNeeded, Self::Unknown];

    /// The name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Automatic => "automatic",
            Self::NoneNeeded => "none-needed",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_maps_say_adds_up_and_the_reviewed_one_names_the_order() {
        let mut identity = Identity::of(vec![Mapping::pypi("torch", "a")]);
        let mut other = Mapping::pypi("torch", "b");
        (other.review, other.order) = (Review::Verified, Order::Letters);
        identity.join(Identity::of(vec![other, Mapping::pypi("abc", "b")]));
        identity.join(Identity::of(vec![Mapping::pypi("torch", "a")]));
        let said: Vec<_> =
            identity.mappings.iter().map(|m| (m.key.as_str(), m.provenance.as_str(), m.order)).collect();
        assert_eq!(
            said,
            [("osv:PyPI/abc", "b", Order::Pep440), ("osv:PyPI/torch", "a and b", Order::Letters)]
        );
        assert!(identity.is_python());
    }

    #[test]
    fn a_feed_says_what_a_package_is_and_nothing_more() {
        let text = r#"{"mappings":[{"key":"osv:PyPI/torch","order":"conda","provenance":"built in","review":"verified"},
            {"key":"no key","order":"conda","provenance":"x","review":"verified"}]}"#;
        let identity: Identity = serde_json::from_str(text).unwrap();
        assert_eq!(identity.from_feed("map").mappings, [Mapping::pypi("torch", "map")]);
        // What was stored before there were mappings.
        let old: Identity = serde_json::from_str(r#"{"pypi":["torch"],"provenance":"map"}"#).unwrap();
        assert_eq!(old, Identity::of(vec![Mapping::pypi("torch", "map")]));
    }

    #[test]
    fn what_maps_say_of_packages_elsewhere_reaches_conda_packages_whichever_map_comes_first() {
        let map = |name: &str, mapping| [(name.to_owned(), Identity::of(vec![mapping]))].into();
        let product =
            || Mapping { key: MatchKey::cpe("linuxfoundation", "pytorch"), ..Mapping::pypi("x", "x") };
        let names = || map("made-up", Mapping::pypi("torch", "x"));
        let products = || map("osv:PyPI/torch", product());
        let joined = |maps: [(&str, BTreeMap<String, Identity>); 2]| {
            let mut joined = Joined::default();
            maps.into_iter().for_each(|(feed, map)| joined.add(feed, map));
            joined.finish()
        };
        let one = joined([("names", names()), ("products", products())]);
        let other = joined([("products", products()), ("names", names())]);
        assert!(one == other && one.len() == builtin::identities().len() + 1);
        let mappings = &one["made-up"].mappings;
        let said: Vec<_> =
            mappings.iter().map(|m| (m.key.as_str(), m.provenance.as_str(), m.order)).collect();
        assert_eq!(
            said,
            [
                ("cpe:linuxfoundation:pytorch", "products through osv:PyPI/torch", Order::Pep440),
                ("osv:PyPI/torch", "names", Order::Pep440),
            ]
        );
    }

    #[test]
    fn r_packages_are_known_by_their_prefix() {
        let key = |name| by_rule(Ecosystem::Conda, name).map(|m| m.key.as_str().to_owned());
        assert_eq!(key("r-data.table").as_deref(), Some("osv:CRAN/data.table"));
        assert_eq!(key("bioconductor-limma").as_deref(), Some("osv:Bioconductor/limma"));
        assert_eq!((key("r-"), key("ruby"), by_rule(Ecosystem::Pypi, "r-x")), (None, None, None));
        for name in ["r-data.table", "bioconductor-limma"] {
            let mapping = by_rule(Ecosystem::Conda, name).unwrap();
            assert_eq!(named_by_rule(&mapping.key).as_deref(), Some(name));
        }
        assert_eq!(named_by_rule(&MatchKey::osv("PyPI", "x")), None);
    }
}
