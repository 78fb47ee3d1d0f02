//! The records that a solve may choose from.

use std::collections::{BTreeMap, BTreeSet};

use rattler_conda_types::package::DistArchiveIdentifier;
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use url::Url;

use airlock_core::closure::{DEPENDS_MAX, has_expression, is_bounded};

/// Most records that one solve chooses from; each takes some kB.
pub const RECORDS_MAX: usize = 1_000_000;
/// Where the channel is said to lie: a name that leads nowhere (RFC 2606).
const CHANNEL: &str = "https://channel.invalid/";

/// Where a file stands in a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The subdir.
    pub subdir: String,
    /// The file name.
    pub file: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.subdir, self.file)
    }
}

/// A record that no client could install.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} cannot be solved with: {reason}")]
pub struct BadRecord {
    place: String,
    reason: String,
}

/// Records of one channel, read once for any number of solves.
#[derive(Debug, Default)]
pub struct Pool {
    records: Vec<RepoDataRecord>,
    by_place: BTreeMap<Place, usize>,
    by_url: BTreeMap<Url, usize>,
    places: Vec<Place>,
}

impl Pool {
    /// Adds a record, given as its index has it. What the subdir is says the place, and not the record.
    ///
    /// # Errors
    ///
    /// What cannot be read, or has a dependency that is out of all bounds.
    pub fn add(&mut self, place: Place, record: &str) -> Result<(), BadRecord> {
        let bad = |reason: String| BadRecord { place: place.to_string(), reason };
        let mut package: PackageRecord = serde_json::from_str(record).map_err(|e| bad(e.to_string()))?;
        let identifier = DistArchiveIdentifier::try_from_filename(&place.file)
            .ok_or_else(|| bad("its file name is not that of a conda package".to_owned()))?;
        let mut said =
            package.depends.iter().chain(&package.constrains).chain(package.extra_depends.values().flatten());
        if said.clone().count() > DEPENDS_MAX {
            return Err(bad(format!("it has more than {DEPENDS_MAX} dependencies")));
        }
        if let Some(wild) = said.find(|spec| !is_bounded(spec) || has_expression(spec)) {
            let begin: String = wild.chars().take(60).collect();
            return Err(bad(format!(
                "the dependency that begins with `{begin}` is too long, nests too deep, or is a regular expression"
            )));
        }
        if self.records.len() >= RECORDS_MAX {
            return Err(bad(format!("more than {RECORDS_MAX} records may be needed")));
        }
        package.subdir.clone_from(&place.subdir);
        let url = Url::parse(CHANNEL).and_then(|base| base.join(&format!("{}/{}", place.subdir, place.file)));
        let url = url.map_err(|e| bad(e.to_string()))?;
        let at = self.records.len();
        if self.by_place.contains_key(&place) || self.by_url.contains_key(&url) {
            return Err(bad("it is there already".to_owned()));
        }
        self.by_place.insert(place.clone(), at);
        self.by_url.insert(url.clone(), at);
        self.places.push(place);
        self.records.push(RepoDataRecord {
            package_record: package,
            identifier,
            url,
            channel: Some(CHANNEL.to_owned()),
        });
        Ok(())
    }

    /// The names that what was added since `from` records may need: all that any dependency names, whatever its
    /// condition.
    pub fn needs(&self, from: usize) -> BTreeSet<String> {
        let records =
            self.records.get(from..).unwrap_or_default().iter().map(|record| &record.package_record);
        let specs = records.flat_map(|r| r.depends.iter().chain(r.extra_depends.values().flatten()));
        specs.filter_map(|spec| name_of(spec)).collect()
    }

    /// How many records there are.
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Name, version and build of a file.
    pub fn about(&self, place: &Place) -> Option<[String; 3]> {
        let record = &self.record(place)?.package_record;
        let name = record.name.as_normalized().to_owned();
        Some([name, record.version.as_str().into_owned(), record.build.to_string()])
    }

    /// The files of a package.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Place> {
        self.by_place
            .iter()
            .filter(move |(_, at)| {
                self.records.get(**at).is_some_and(|r| r.package_record.name.as_normalized() == name)
            })
            .map(|(place, _)| place)
    }

    pub(crate) fn records(&self) -> &[RepoDataRecord] {
        &self.records
    }

    pub(crate) fn record(&self, place: &Place) -> Option<&RepoDataRecord> {
        self.by_place.get(place).and_then(|at| self.records.get(*at))
    }

    pub(crate) fn url(&self, place: &Place) -> Option<&Url> {
        self.record(place).map(|record| &record.url)
    }

    pub(crate) fn place_of(&self, url: &Url) -> Option<&Place> {
        self.by_url.get(url).and_then(|at| self.places.get(*at))
    }
}

/// The package that a dependency names. Virtual packages are the platform's.
fn name_of(spec: &str) -> Option<String> {
    let spec = spec.rsplit_once("::").map_or(spec, |(_, spec)| spec).trim_start();
    let end = spec.find(|c: char| c.is_whitespace() || "=<>!~[;(".contains(c)).unwrap_or(spec.len());
    let name = spec.get(..end)?;
    (!name.is_empty() && !name.starts_with("__")).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_names_one_package_however_it_is_written() {
        for (spec, name) in [
            ("numpy >=1.26,<2", Some("numpy")),
            ("NumPy", Some("numpy")),
            ("numpy[version='>=1',when=\"python >=3.10\"]", Some("numpy")),
            ("conda-forge::numpy=1.26=py312_0", Some("numpy")),
            ("numpy~=1.2", Some("numpy")),
            ("numpy; if python >=3", Some("numpy")),
            ("__glibc >=2.17", None),
            ("", None),
        ] {
            assert_eq!(name_of(spec).as_deref(), name, "{spec}");
        }
    }

    #[test]
    fn a_record_that_would_take_the_process_down_is_left_out_and_said() {
        let place = || Place { subdir: "noarch".to_owned(), file: "x-1-0.conda".to_owned() };
        let record = |depends: &str| {
            serde_json::json!({"name": "x", "version": "1", "build": "0", "build_number": 0, "subdir": "linux-64",
                "depends": [depends]})
            .to_string()
        };
        let mut pool = Pool::default();
        let deep = format!("y {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        let error = pool.add(place(), &record(&deep)).unwrap_err().to_string();
        assert!(error.contains("noarch/x-1-0.conda") && error.contains("nests too deep"), "{error}");
        for hostile in [r"y * ^.*0\w{80}|<i>$", r"y * ^((a|aa)+)\1!<i>$"] {
            let error = pool.add(place(), &record(hostile)).unwrap_err().to_string();
            assert!(error.contains("regular expression"), "{error}");
        }
        let many = serde_json::json!({"name": "x", "version": "1", "build": "0", "build_number": 0,
            "depends": vec!["y"; DEPENDS_MAX + 1]});
        assert!(pool.add(place(), &many.to_string()).unwrap_err().to_string().contains("more than 2000"));
        assert!(pool.add(place(), "{").is_err());
        pool.add(place(), &record("y >=1")).unwrap();
        assert!(pool.add(place(), &record("y >=1")).unwrap_err().to_string().contains("already"));
        assert_eq!((pool.len(), pool.needs(0)), (1, ["y".to_owned()].into()));
    }
}
