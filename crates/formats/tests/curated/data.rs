//! The data of the comparison: both statements about each pair, and the versions that are asked.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::{Advisory, Affected, FeedKind, MatchKey, Slice, slices};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::identity::{Identity, Mapping, Review, builtin, products};
use airlock_core::version::{Event, Order};
use airlock_formats::feeds::{self, identities, nvd, osv};
use serde::Deserialize;

use crate::genuine::{SUBDIRS, repodata, unpacked};

/// Who wrote the statement that counts as true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The PyPA's database.
    Pypi,
    /// Bitnami's.
    Bitnami,
}

impl Source {
    pub const ALL: [Self; 2] = [Self::Pypi, Self::Bitnami];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Bitnami => "bitnami",
        }
    }

    pub fn key(self, package: &str) -> MatchKey {
        match self {
            Self::Pypi => MatchKey::osv("PyPI", package),
            Self::Bitnami => MatchKey::osv("Bitnami", package),
        }
    }
}

/// A CVE of a package that both NVD and a curated database speak of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub source: Source,
    pub package: String,
    pub cve: String,
}

/// The list that is frozen.
pub fn frozen() -> Vec<Pair> {
    let pair = |line: &str| {
        let [source, package, cve] = <[&str; 3]>::try_from(line.split('\t').collect::<Vec<_>>()).unwrap();
        let source = Source::ALL.into_iter().find(|s| s.name() == source).unwrap();
        Pair { source, package: package.to_owned(), cve: cve.to_owned() }
    };
    include_str!("pairs.tsv").lines().filter(|line| !line.starts_with('#')).map(pair).collect()
}

/// What is known of packages, by who speaks of them and their names there.
type Packages<T> = BTreeMap<(Source, String), T>;

/// All that is asked.
pub struct Data {
    /// What the curated databases say, by package.
    pub curated: BTreeMap<MatchKey, Slice>,
    /// What NVD's configurations say, by product.
    pub nvd: BTreeMap<MatchKey, Slice>,
    /// What each package is elsewhere.
    identities: Packages<Identity>,
    /// The versions of each package that anybody names.
    versions: Packages<BTreeSet<String>>,
}

impl Data {
    /// The genuine data about these pairs; none, with lines that say so, where some of it is not there.
    pub fn genuine(pairs: &[Pair]) -> Option<Self> {
        let cves: BTreeSet<&str> = pairs.iter().map(|p| p.cve.as_str()).collect();
        let of_nvd = nvd_advisories(&cves)?;
        let of_pypi = osv_advisories("advisories/osv-pypi.jsonl.gz")?;
        let of_bitnami = osv_advisories("advisories/osv-bitnami.jsonl.gz")?;
        let mut identities = bitnami_identities();
        identities.extend(pypi_identities()?);
        let mut data =
            Self::of(&of_nvd, &[(Source::Pypi, of_pypi), (Source::Bitnami, of_bitnami)], identities);
        for (name, released) in bitnami_releases()? {
            data.versions.entry((Source::Bitnami, name)).or_default().extend(released);
        }
        Some(data)
    }

    /// Puts it together.
    pub fn of(
        of_nvd: &[Advisory],
        curated: &[(Source, Vec<Advisory>)],
        identities: Packages<Identity>,
    ) -> Self {
        let mut versions: Packages<BTreeSet<String>> = BTreeMap::new();
        for (source, advisories) in curated {
            for affected in advisories.iter().flat_map(|a| &a.affected) {
                let Some((_, name)) = affected.key.as_str().split_once('/') else { continue };
                let named = versions.entry((*source, name.to_owned())).or_default();
                named.extend(affected.versions.iter().cloned());
                named.extend(bounds(affected));
            }
        }
        let all = curated.iter().flat_map(|(source, list)| list.iter().map(|a| (source.name(), a)));
        Self { curated: slices(all), nvd: slices(of_nvd.iter().map(|a| ("nvd", a))), identities, versions }
    }

    /// What the package of a pair is elsewhere; nothing, where no map knows it.
    pub fn identity(&self, pair: &Pair) -> Identity {
        self.identities.get(&(pair.source, pair.package.clone())).cloned().unwrap_or_default()
    }

    /// The same, and the products of which NVD speaks that have the package's name, whatever their vendor.
    pub fn identity_by_name(&self, pair: &Pair) -> Identity {
        let mut identity = self.identity(pair);
        let order = order(pair, &identity);
        let products = self.products(&pair.cve).into_iter().filter(|key| is_named(key, &pair.package));
        identity.join(Identity::of(products.map(|key| mapping(key, order)).collect()));
        if pair.source == Source::Pypi {
            identity.join(Identity::of(vec![Mapping::pypi(&pair.package, "its name")]));
        }
        identity
    }

    /// The products that NVD names in a CVE.
    pub fn products(&self, cve: &str) -> Vec<MatchKey> {
        let names = |slice: &Slice| slice.entries.iter().any(|e| e.advisory == cve);
        self.nvd.iter().filter(|(_, slice)| names(slice)).map(|(key, _)| key.clone()).collect()
    }

    /// All versions of its package that anybody names.
    pub fn versions(&self, pair: &Pair) -> impl Iterator<Item = &str> {
        let named = self.versions.get(&(pair.source, pair.package.clone()));
        named.into_iter().flatten().map(String::as_str)
    }
}

/// How the upstream of a pair's package numbers its releases.
pub fn order(pair: &Pair, identity: &Identity) -> Order {
    identity.mappings.first().map_or_else(|| pair.source.key(&pair.package).order(), |m| m.order)
}

/// Whether the product of a CPE is called as a package is.
pub fn is_named(key: &MatchKey, package: &str) -> bool {
    let product = key.as_str().rsplit(':').next().unwrap_or_default();
    ecosystem::canonical_name(Ecosystem::Pypi, product).as_deref() == Some(package)
}

/// The versions at which ranges begin and end.
fn bounds(affected: &Affected) -> impl Iterator<Item = String> {
    let events = affected.ranges.iter().flat_map(|range| &range.events);
    let versions = events.map(|event| match event {
        Event::Introduced(v)
        | Event::After(v)
        | Event::Fixed(v)
        | Event::LastAffected(v)
        | Event::Limit(v) => v,
    });
    versions.filter(|version| *version != "0").cloned()
}

fn mapping(key: MatchKey, order: Order) -> Mapping {
    Mapping { key, order, provenance: "a map".to_owned(), review: Review::Automatic }
}

fn nvd_advisories(cves: &BTreeSet<&str>) -> Option<Vec<Advisory>> {
    let mut out = Vec::new();
    for file in ["advisories/nvd-2.0-2022.json.gz", "advisories/nvd-2.0-page-2023.json.gz"] {
        let bytes = unpacked(file)?;
        feeds::split(FeedKind::Nvd, "nvd.json", &*bytes, &mut |_, text| {
            // Most of them nothing here asks for, and reading them is what takes long.
            let id = text.as_ref().unwrap().split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
            if id.is_some_and(|id| cves.contains(id)) {
                out.push(nvd::read_item(text.unwrap()).unwrap().advisory);
            }
            Ok(())
        })
        .unwrap();
    }
    Some(out)
}

fn osv_advisories(file: &str) -> Option<Vec<Advisory>> {
    let mut out = Vec::new();
    osv::read_all(&mut &*unpacked(file)?, &mut |r| out.push(r.unwrap().advisory)).unwrap();
    Some(out)
}

/// What is built in says under which products Bitnami's packages stand.
fn bitnami_identities() -> Packages<Identity> {
    let mut out: Packages<Identity> = BTreeMap::new();
    for identity in builtin::identities().into_values() {
        for mapping in &identity.mappings {
            if let Some(name) = mapping.key.as_str().strip_prefix("osv:Bitnami/") {
                out.entry((Source::Bitnami, name.to_owned())).or_default().join(identity.clone());
            }
        }
    }
    out
}

/// PyPI's packages have the products to which purl2cpe leads conda packages that are known by their names, and those of
/// the conda packages that are the same software.
fn pypi_identities() -> Option<Packages<Identity>> {
    let read = |file: &str| Some(identities::read(&*unpacked(file)?, "a map").unwrap().map);
    let mut known: BTreeMap<String, Identity> = BTreeMap::new();
    let mut add = |name: &str, mut mappings: Vec<Mapping>| {
        // So that what is said of Python's packages concerns it.
        mappings.push(Mapping::pypi(name, "its name"));
        known.entry(name.to_owned()).or_default().join(Identity::of(mappings));
    };
    let of_products = read("identity/cpe-product-to-purl.tsv.gz")?;
    let links: BTreeMap<MatchKey, Identity> =
        of_products.into_iter().map(|(key, products)| (MatchKey::parse(&key).unwrap(), products)).collect();
    for name in links.keys().filter_map(|key| key.as_str().strip_prefix("osv:PyPI/")) {
        add(name, Vec::new());
    }
    let map = read("identity/conda-forge-to-pypi.json.gz")?;
    for (conda, identity) in builtin::identities() {
        let python = map.get(&conda).into_iter().flat_map(|i| &i.mappings);
        for name in python.filter_map(|m| m.key.as_str().strip_prefix("osv:PyPI/")) {
            let keys = identity.mappings.iter().map(|m| m.key.clone()).filter(MatchKey::is_cpe);
            add(name, keys.map(|key| mapping(key, Order::Pep440)).collect());
        }
    }
    products::follow(&mut known, &links);
    Some(known.into_iter().map(|(name, identity)| ((Source::Pypi, name), identity)).collect())
}

/// The versions in which conda channels have the software of Bitnami's packages.
fn bitnami_releases() -> Option<BTreeMap<String, BTreeSet<String>>> {
    #[derive(Deserialize)]
    struct Index {
        packages: BTreeMap<String, Record>,
        #[serde(rename = "packages.conda", default)]
        conda: BTreeMap<String, Record>,
    }
    #[derive(Deserialize)]
    struct Record {
        name: String,
        version: String,
    }
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (conda, identity) in builtin::identities() {
        let names = identity.mappings.iter().filter_map(|m| m.key.as_str().strip_prefix("osv:Bitnami/"));
        wanted.entry(conda).or_default().extend(names.map(str::to_owned));
    }
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for subdir in SUBDIRS {
        let index: Index = serde_json::from_slice(&repodata(subdir)?).unwrap();
        for record in index.packages.into_values().chain(index.conda.into_values()) {
            for name in wanted.get(&record.name).into_iter().flatten() {
                out.entry(name.clone()).or_default().insert(record.version.clone());
            }
        }
    }
    Some(out)
}
