//! Which CPE products are packages of a registry: what a map of products to purls says, as far as it can be believed.
//!
//! Such a map ties NVD's vendor and product to whatever bears the software: repositories, distributions, packages of
//! several languages. It says nothing of conda names, but a conda package that is known to be `x` of PyPI is also each
//! product that is `x`. A product that is too much at once is left out, since what NVD says of it would be found
//! against software that it does not speak of; what is lost by that, PyPI's own advisories mostly say as well.

use std::collections::{BTreeMap, BTreeSet};

use super::{Identity, Mapping, Review, named_by_rule};
use crate::advisory::MatchKey;
use crate::ecosystem::{self, Ecosystem};
use crate::version::Order;

/// Packages that one product may be. Renamed projects and forks are two or three.
const PACKAGES_MAX: usize = 3;

/// Types of purls whose packages are written in other languages: a product that has one of them is the server to which
/// Python has a client (Neo4j), or the same idea by somebody else (`pdfkit` is a gem). Go's are not among them, since
/// they are addresses of repositories.
const OTHER_LANGUAGES: [&str; 12] = [
    "cargo",
    "cocoapods",
    "composer",
    "cpan",
    "gem",
    "hackage",
    "hex",
    "maven",
    "npm",
    "nuget",
    "pub",
    "swift",
];

/// The key under which advisories speak of the package of a purl; none for types that nothing here knows, and for what
/// is no name.
pub fn package(kind: &str, name: &str) -> Option<MatchKey> {
    let r_name = || {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        (!name.is_empty() && name.chars().all(is_plain)).then(|| ecosystem::canonical_r_name(name))
    };
    match kind {
        "pypi" => ecosystem::canonical_name(Ecosystem::Pypi, name).map(|name| MatchKey::osv("PyPI", &name)),
        "cran" => r_name().map(|name| MatchKey::osv("CRAN", &name)),
        "bioconductor" => r_name().map(|name| MatchKey::osv("Bioconductor", &name)),
        _ => None,
    }
}

/// What a map says of products.
#[derive(Debug, Default)]
pub struct Products {
    /// By vendor and product.
    known: BTreeMap<(String, String), Bearers>,
}

/// What bears one product.
#[derive(Debug, Default)]
struct Bearers {
    packages: BTreeSet<MatchKey>,
    in_other_languages: bool,
}

impl Products {
    /// Notes that a purl of this type and name bears a product.
    pub fn note(&mut self, vendor: &str, product: &str, kind: &str, name: &str) {
        let package = package(kind, name);
        let is_other = OTHER_LANGUAGES.contains(&kind);
        if package.is_none() && !is_other {
            return;
        }
        let bearers = self.known.entry((vendor.to_owned(), product.to_owned())).or_default();
        bearers.in_other_languages |= is_other;
        // One more than may be says as much as all of them.
        if bearers.packages.len() <= PACKAGES_MAX {
            bearers.packages.extend(package);
        }
    }

    /// How many products something is noted of.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The products of each package, sorted. Left out are products that packages of other languages bear too, or more
    /// packages than a few, and what a vendor calls nearly as the package where he has a product of just that name.
    pub fn links(&self) -> BTreeMap<MatchKey, Vec<MatchKey>> {
        let mut named: BTreeMap<&MatchKey, Vec<(&str, &str, bool)>> = BTreeMap::new();
        for ((vendor, product), bearers) in &self.known {
            let counts = !bearers.in_other_languages && bearers.packages.len() <= PACKAGES_MAX;
            for package in &bearers.packages {
                named.entry(package).or_default().push((vendor, product, counts));
            }
        }
        let mut out = BTreeMap::new();
        for (package, products) in named {
            let own = flat(name_of(package));
            let of_its_name = products.iter().filter(|(_, product, _)| flat(product) == own);
            let vendors: BTreeSet<&str> = of_its_name.map(|(vendor, ..)| *vendor).collect();
            let is_it = |(vendor, product, counts): &&(&str, &str, bool)| {
                *counts && !(vendors.contains(vendor) && is_sibling(&flat(product), &own))
            };
            let keys: BTreeSet<MatchKey> = products
                .iter()
                .filter(is_it)
                .map(|(vendor, product, _)| MatchKey::cpe(vendor, product))
                .collect();
            if !keys.is_empty() {
                out.insert(package.clone(), keys.into_iter().collect());
            }
        }
        out
    }
}

/// The part of a key of a package that is its name.
fn name_of(package: &MatchKey) -> &str {
    package.as_str().split_once('/').map_or("", |(_, name)| name)
}

/// A name without what separates its words.
fn flat(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether one name is the other and something more: `protobuf-java` beside `protobuf`, `tensorrt` beside `tensorrt-llm`.
/// A vendor calls other parts so; old names and full ones are others altogether (`ultrajson`, `ujson`).
fn is_sibling(product: &str, own: &str) -> bool {
    product != own && (product.contains(own) || own.contains(product))
}

/// Adds to each package the products of what it is elsewhere, by the order in which that numbers its releases.
///
/// What somebody checked is added to by nobody who did not. A package that holds several of a registry (`ansible` holds
/// pip) has its own version and not theirs: of these only the one counts that is called as it is.
///
/// A product that a map names by itself for a Python or R package is compared in that order too: the namespace of CPEs
/// tells none, and an upstream has only one.
pub fn follow(identities: &mut BTreeMap<String, Identity>, links: &BTreeMap<MatchKey, Identity>) {
    // What is known by its name alone stands in no map.
    for (package, products) in links {
        if let Some(name) = named_by_rule(package) {
            let more = gained(package, package.order(), products);
            identities.entry(name).or_default().join(Identity::of(more));
        }
    }
    for (name, identity) in identities {
        if let Some(order) = upstream_order(identity) {
            let automatic = identity.mappings.iter_mut().filter(|m| m.review == Review::Automatic);
            automatic.filter(|m| m.key.is_cpe()).for_each(|m| m.order = order);
        }
        if identity.mappings.iter().any(|m| m.review == Review::Verified) {
            continue;
        }
        let name = flat(name);
        let namespace = |m: &Mapping| m.key.namespace().map(str::to_owned);
        let sources =
            |m: &Mapping| -> BTreeSet<String> { m.provenance.split(" and ").map(str::to_owned).collect() };
        // Each map by itself: what another one adds takes nothing away.
        let is_only_one = |m: &Mapping| {
            let alone = |source: &String| {
                let same =
                    |other: &&Mapping| namespace(other) == namespace(m) && sources(other).contains(source);
                identity.mappings.iter().filter(same).count() == 1
            };
            sources(m).iter().any(alone)
        };
        let is_it = |m: &Mapping| flat(name_of(&m.key)) == name || is_only_one(m);
        let linked = identity.mappings.iter().filter_map(|m| Some((m, links.get(&m.key)?)));
        let linked = linked.filter(|(m, _)| is_it(m));
        let more: Vec<Mapping> = linked.flat_map(|(m, products)| gained(&m.key, m.order, products)).collect();
        identity.join(Identity::of(more));
    }
}

/// What a package gains through what it is elsewhere.
fn gained(package: &MatchKey, order: Order, products: &Identity) -> Vec<Mapping> {
    let mapping = |product: &Mapping| Mapping {
        key: product.key.clone(),
        order,
        provenance: format!("{} through {}", product.provenance, package.as_str()),
        review: Review::Automatic,
    };
    products.mappings.iter().filter(|m| m.key.is_cpe()).map(mapping).collect()
}

/// How the upstream numbers its releases, where the package's other names tell.
fn upstream_order(identity: &Identity) -> Option<Order> {
    let mut orders = identity.mappings.iter().filter(|m| !m.key.is_cpe()).map(|m| m.key.order());
    orders.find(|order| matches!(order, Order::Pep440 | Order::R))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(rows: &[(&str, &str, &str)]) -> BTreeMap<String, String> {
        let mut products = Products::default();
        for (vendor, product, purl) in rows {
            let (kind, name) = purl.split_once('/').unwrap();
            products.note(vendor, product, kind, name);
        }
        let joined = |keys: Vec<MatchKey>| keys.iter().map(MatchKey::as_str).collect::<Vec<_>>().join(" ");
        products.links().into_iter().map(|(key, keys)| (key.as_str().to_owned(), joined(keys))).collect()
    }

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_package_has_the_products_that_are_it() {
        let rows = [
            ("python", "pillow", "pypi/Pillow"),
            ("python", "pillow", "github/python-pillow"),
            ("python", "pillow", "golang/github.com"),
            ("pythonware", "python_imaging_library", "pypi/pillow"),
            ("r-project", "haven", "cran/Haven"),
            ("zlib", "zlib", "github/zlib"),
            ("odd", "odd", "pypi/../x"),
        ];
        let found = links(&rows);
        assert_eq!(
            found,
            of(&[
                ("osv:CRAN/haven", "cpe:r-project:haven"),
                ("osv:PyPI/pillow", "cpe:python:pillow cpe:pythonware:python_imaging_library"),
            ])
        );
    }

    #[test]
    fn a_product_that_is_too_much_at_once_is_nobodys() {
        // The server, to which Python has a client as others have.
        assert_eq!(
            links(&[("neo4j", "neo4j", "pypi/neo4j"), ("neo4j", "neo4j", "npm/neo4j-driver")]),
            of(&[])
        );
        let forks = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("pypi/fork{n}")).collect();
            let rows: Vec<_> = names.iter().map(|name| ("a", "b", name.as_str())).collect();
            links(&rows).len()
        };
        assert_eq!((forks(PACKAGES_MAX), forks(PACKAGES_MAX + 1), forks(100)), (PACKAGES_MAX, 0, 0));
    }

    #[test]
    fn what_a_vendor_calls_nearly_like_it_is_something_else() {
        let rows = [
            ("google", "protobuf", "pypi/protobuf"),
            ("google", "protobuf-java", "pypi/protobuf"),
            ("nvidia", "tensorrt", "pypi/tensorrt_llm"),
            ("nvidia", "tensorrt-llm", "pypi/tensorrt-llm"),
            ("python", "ujson", "pypi/ujson"),
            ("python", "ultrajson", "pypi/ujson"),
            // Without one of the very name nobody knows better.
            ("tlsfuzzer", "python-ecdsa", "pypi/ecdsa"),
            // One of the very name is enough, whether it counts or not.
            ("apache", "airflow", "pypi/airflow"),
            ("apache", "airflow", "maven/airflow"),
            ("apache", "airflow_mysql_provider", "pypi/airflow"),
        ];
        assert_eq!(
            links(&rows),
            of(&[
                ("osv:PyPI/ecdsa", "cpe:tlsfuzzer:python-ecdsa"),
                ("osv:PyPI/protobuf", "cpe:google:protobuf"),
                ("osv:PyPI/tensorrt-llm", "cpe:nvidia:tensorrt-llm"),
                ("osv:PyPI/ujson", "cpe:python:ujson cpe:python:ultrajson"),
            ])
        );
    }

    fn cpe(product: &str, order: Order, provenance: &str, review: Review) -> Mapping {
        Mapping { key: MatchKey::cpe("v", product), order, provenance: provenance.to_owned(), review }
    }

    #[test]
    fn conda_packages_gain_products_in_the_order_of_their_upstream() {
        let (auto, letters) = (Review::Automatic, Order::Letters);
        let checked = cpe("zlib", letters, "built in", Review::Verified);
        let mut identities: BTreeMap<String, Identity> = [
            ("torch", vec![cpe("own", letters, "a", auto), Mapping::pypi("pytorch", "a")]),
            ("zlib", vec![checked, Mapping::pypi("pytorch", "a")]),
            // Torch is called so; what else is inside has another version.
            ("tor-ch", vec![Mapping::pypi("lxml", "a"), Mapping::pypi("torch", "a")]),
            ("all", vec![Mapping::pypi("lxml", "a"), Mapping::pypi("torch", "a")]),
        ]
        .map(|(name, mappings)| (name.to_owned(), Identity::of(mappings)))
        .into();
        let links = [
            ("osv:PyPI/pytorch", "pytorch"),
            ("osv:PyPI/torch", "torch"),
            ("osv:PyPI/lxml", "lxml"),
            ("osv:CRAN/haven", "haven"),
        ]
        .map(|(key, product)| {
            (MatchKey::parse(key).unwrap(), Identity::of(vec![cpe(product, letters, "b", auto)]))
        })
        .into();
        let before = identities.clone();
        follow(&mut identities, &links);
        assert_eq!(
            identities["torch"].mappings,
            [
                cpe("own", Order::Pep440, "a", auto),
                cpe("pytorch", Order::Pep440, "b through osv:PyPI/pytorch", auto),
                Mapping::pypi("pytorch", "a"),
            ]
        );
        let all = &identities["tor-ch"].mappings;
        // What another map adds takes nothing away.
        let joined = |more: Mapping| {
            let mut of = [("pkg".to_owned(), Identity::of(vec![Mapping::pypi("torch", "a"), more]))].into();
            follow(&mut of, &links);
            of["pkg"].mappings.iter().filter(|m| m.key.is_cpe()).count()
        };
        assert_eq!(joined(Mapping::pypi("lxml", "c")), 2);
        assert_eq!(joined(Mapping::pypi("lxml", "a")), 0, "of one map nobody knows which it is");
        let kept = vec![Mapping::pypi("torch", "a and a+kept"), Mapping::pypi("lxml", "a")];
        let mut of = [("pkg".to_owned(), Identity::of(kept))].into();
        follow(&mut of, &links);
        assert_eq!(
            of["pkg"].mappings.iter().filter(|m| m.key.is_cpe()).count(),
            1,
            "before the map said so it was known"
        );
        assert_eq!((all.len(), &all[0]), (3, &cpe("torch", Order::Pep440, "b through osv:PyPI/torch", auto)));
        assert_eq!((&identities["zlib"], &identities["all"]), (&before["zlib"], &before["all"]));
        let haven = &identities["r-haven"].mappings;
        assert_eq!(haven[..], [cpe("haven", Order::R, "b through osv:CRAN/haven", auto)]);
        assert_eq!(identities.len(), 5);
    }

    #[test]
    fn no_link_leads_to_what_is_no_product() {
        let mut identities: BTreeMap<String, Identity> =
            [("a".to_owned(), Identity::of(vec![Mapping::pypi("a", "map")]))].into();
        let before = identities.clone();
        let links = [(MatchKey::osv("PyPI", "a"), Identity::of(vec![Mapping::pypi("b", "map")]))].into();
        follow(&mut identities, &links);
        assert_eq!(identities, before);
    }
}
