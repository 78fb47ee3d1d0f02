//! Maps by conda name, as JSON: PyPI names, or packages with purls and CPEs.

use std::fmt;
use std::io::BufRead;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use airlock_core::advisory::MatchKey;
use airlock_core::cpe::{Cpe, Part as CpePart};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::identity::{Identity, Mapping};

use super::parts::{Part, Reader, Strings};
use super::{Identities, mapping, purl};
use crate::feeds::FeedError;
use crate::limits;

/// The newest form of purl-associator's payload that is known here. A newer one may mean something else by the same
/// words.
const SCHEMA_MAX: u64 = 5;

pub(super) fn read(reader: impl BufRead, provenance: &str) -> Result<Identities, FeedError> {
    let mut document = Document {
        names: Identities::default(),
        packages: Identities::default(),
        has_packages: false,
        schema: None,
        provenance,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(Strings::of(reader));
    (&mut document).deserialize(&mut deserializer)?;
    deserializer.end()?;
    // Without a version it is a map of names, of which one is `packages`.
    match document.schema.filter(|_| document.has_packages) {
        None => Ok(document.names),
        Some(1..=SCHEMA_MAX) => Ok(document.packages),
        Some(other) => Err(FeedError::Content(format!(
            "its packages are written in the schema {other}; known are 1 to {SCHEMA_MAX}"
        ))),
    }
}

/// What was read of either form, until it is known which one it is.
struct Document<'a> {
    names: Identities,
    packages: Identities,
    has_packages: bool,
    schema: Option<u64>,
    provenance: &'a str,
}

impl<'de> DeserializeSeed<'de> for &mut Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let Document { packages, provenance, .. } = &mut *self;
            let part = match name.as_str() {
                "packages" => {
                    let mut take = |name: &str, part: &Part| package(packages, name, part, provenance);
                    map.next_value_seed(Reader::packages(&mut take))?
                }
                _ => map.next_value_seed(Reader::any())?,
            };
            self.has_packages |= part == Part::Packages;
            if let ("schema_version", Part::Number(number)) = (name.as_str(), &part) {
                self.schema = Some(*number);
            }
            if let Err(reason) = pypi_names(&mut self.names, &name, &part, self.provenance) {
                self.names.leave_out(&name, reason);
            }
            bounded(&self.names).map_err(M::Error::custom)?;
        }
        Ok(())
    }
}

fn bounded(read: &Identities) -> Result<(), String> {
    match read.map.len() > limits::IDENTITIES_MAX {
        true => Err(format!("it has more than {} names", limits::IDENTITIES_MAX)),
        false => Ok(()),
    }
}

/// A conda name and the PyPI names that it maps to.
fn pypi_names(out: &mut Identities, name: &str, part: &Part, provenance: &str) -> Result<(), String> {
    let odd = || "expected a name, a list of names, or null".to_owned();
    let names = match part {
        Part::Null => &[],
        Part::Text(_) => std::slice::from_ref(part),
        Part::List(list) => list.as_slice(),
        _ => return Err(odd()),
    };
    let names: Option<Vec<&str>> = names.iter().map(Part::text).collect();
    let names = names.ok_or_else(odd)?;
    let long = |name: &str| name.len() > limits::IDENTITY_NAME_BYTES_MAX;
    if long(name) || names.iter().any(|n| long(n)) {
        return Err(format!("a name has more than {} bytes", limits::IDENTITY_NAME_BYTES_MAX));
    }
    if names.len() > limits::IDENTITY_NAMES_MAX {
        return Err(format!("it maps to more than {} names", limits::IDENTITY_NAMES_MAX));
    }
    let names: Option<Vec<String>> =
        names.iter().map(|n| ecosystem::canonical_name(Ecosystem::Pypi, n)).collect();
    let (conda, names) = ecosystem::canonical_name(Ecosystem::Conda, name).zip(names).ok_or_else(odd)?;
    let mappings = names.iter().map(|name| Mapping::pypi(name, provenance)).collect();
    out.join(conda, Identity::of(mappings), limits::IDENTITY_NAMES_MAX)
}

/// A conda package with its purls and CPEs. What of them makes no sense is left out by itself; what review somebody
/// gave them elsewhere is no review of this station.
fn package(out: &mut Identities, name: &str, part: &Part, provenance: &str) -> Result<(), String> {
    let conda = ecosystem::canonical_name(Ecosystem::Conda, name);
    let Some(conda) = conda.filter(|name| name.len() <= limits::IDENTITY_NAME_BYTES_MAX) else {
        out.leave_out(name, "it is no name of a conda package");
        return Ok(());
    };
    if !matches!(part, Part::Object(_)) {
        out.leave_out(name, "expected an object");
        return Ok(());
    }
    let mut mappings = Vec::new();
    for one in identities(part) {
        match key(one) {
            Ok(key) => mappings.extend(key.map(|key| mapping(key, provenance))),
            Err(reason) => out.leave_out(name, reason),
        }
    }
    // Which of too many are right, nobody can tell; that the package is known stays.
    if mappings.len() > limits::IDENTITY_KEYS_MAX {
        mappings.clear();
        out.leave_out(name, format!("it maps to more than {} names", limits::IDENTITY_KEYS_MAX));
    }
    if let Err(reason) = out.join(conda, Identity::of(mappings), limits::IDENTITY_KEYS_MAX) {
        out.leave_out(name, reason);
    }
    bounded(out)
}

/// What is said of a package: its list of identities, and where there is none, the fields of older payloads.
fn identities(package: &Part) -> Vec<&Part> {
    if let Some(list @ Part::List(_)) = package.get("identities") {
        return list.list().iter().map(|one| one.get("value").unwrap_or(one)).collect();
    }
    let lists = ["alternative_purls", "cpes"].into_iter().filter_map(|member| package.get(member));
    let listed = lists.flat_map(Part::list).map(|one| one.get("purl").unwrap_or(one));
    let primary = package.get("purl").filter(|purl| **purl != Part::Null);
    primary.into_iter().chain(listed).collect()
}

/// The match key of a purl or CPE; none of those under which nothing here is looked up.
fn key(identity: &Part) -> Result<Option<MatchKey>, String> {
    let text = identity.text().ok_or("expected a purl or a CPE")?;
    if text.starts_with("cpe:") {
        return product(text);
    }
    purl(text).map(|purl| purl.key).ok_or_else(|| format!("`{}` is no purl", text.escape_debug()))
}

/// The product of a CPE name of which the last attributes may be left out.
fn product(text: &str) -> Result<Option<MatchKey>, String> {
    const ATTRIBUTES: usize = 11;
    let mut quoted = false;
    let colons = text.chars().filter(|c| {
        let is_colon = *c == ':' && !quoted;
        quoted = *c == '\\' && !quoted;
        is_colon
    });
    let missing = (ATTRIBUTES + 1).saturating_sub(colons.count());
    let cpe = Cpe::parse(&format!("{text}{}", ":*".repeat(missing)))?;
    // NVD speaks of systems and devices under these, which no package is.
    if !matches!(cpe.part, CpePart::Application | CpePart::Any) {
        return Ok(None);
    }
    let name = |attribute: Option<&str>| {
        let name = attribute.filter(|name| name.len() <= limits::IDENTITY_NAME_BYTES_MAX)?;
        (!name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control()))
            .then(|| name.to_owned())
    };
    let (Some(vendor), Some(product)) = (name(cpe.vendor.value()), name(cpe.product.value())) else {
        return Err(format!("`{}` names no vendor and product", text.escape_debug()));
    };
    Ok(Some(MatchKey::cpe(&vendor, &product)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpe_names_its_product_however_many_attributes_it_has() {
        let read = |text: &str| product(text).map(|key| key.map(|key| key.as_str().to_owned()));
        let key = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(read("cpe:2.3:a:gnu:ncurses"), key("cpe:gnu:ncurses"));
        assert_eq!(read(r"cpe:2.3:a:a\:b:C\+\+:1.0"), key("cpe:a_b:c++"));
        assert_eq!(read("cpe:2.3:a:gnu:ncurses:*:*:*:*:*:*:*:*"), key("cpe:gnu:ncurses"));
        assert_eq!(read("cpe:2.3:o:linux:linux_kernel"), Ok(None));
        for bad in [
            "cpe:",
            "cpe:2.3:a",
            "cpe:2.3:a:x",
            "cpe:2.3:a:x:*",
            "cpe:2.3:z:x:y",
            "cpe:2.3:a:x:y\\",
            "cpe:/a:x:y",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!("cpe:2.3:a:x:y{}", ":*".repeat(9));
        assert!(read(&long).is_err());
    }
}
