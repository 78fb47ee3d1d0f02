//! A map from conda names to PyPI names, in parselmouth's form: a name, a list of names, or null.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::identity::{Identity, Mapping};

use super::{BadAdvisory, FeedError};
use crate::limits;

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    None(()),
    One(String),
    Many(Vec<String>),
    Other(serde::de::IgnoredAny),
}

/// Reads the map. `provenance` is what evidence will name as the source. A name that stands there twice, or in two
/// spellings, maps to all that is said of it.
pub fn read(
    reader: impl Read,
    provenance: &str,
) -> Result<(BTreeMap<String, Identity>, Vec<BadAdvisory>), FeedError> {
    let mut read = Map { map: BTreeMap::new(), bad: Vec::new(), provenance };
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(reader));
    (&mut read).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((read.map, read.bad))
}

struct Map<'a> {
    map: BTreeMap<String, Identity>,
    bad: Vec<BadAdvisory>,
    provenance: &'a str,
}

impl<'de> DeserializeSeed<'de> for &mut Map<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Map<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some((name, names)) = map.next_entry::<String, Names>()? {
            if let Err(reason) = self.take(&name, names) {
                let id = name.chars().take(80).collect();
                if self.bad.len() >= limits::BAD_LISTED_MAX {
                    return Err(M::Error::custom("too many of its names make no sense"));
                }
                self.bad.push(BadAdvisory { id, reason });
            }
            if self.map.len() > limits::IDENTITIES_MAX {
                return Err(M::Error::custom(format!("it has more than {} names", limits::IDENTITIES_MAX)));
            }
        }
        Ok(())
    }
}

impl Map<'_> {
    fn take(&mut self, name: &str, names: Names) -> Result<(), String> {
        let names = match names {
            Names::None(()) => Some(Vec::new()),
            Names::One(one) => Some(vec![one]),
            Names::Many(many) => Some(many),
            Names::Other(_) => None,
        };
        let odd = || "expected a name, a list of names, or null".to_owned();
        let names = names.ok_or_else(odd)?;
        let long = |name: &str| name.len() > limits::IDENTITY_NAME_BYTES_MAX;
        if long(name) || names.iter().any(|n| long(n)) {
            return Err(format!("a name has more than {} bytes", limits::IDENTITY_NAME_BYTES_MAX));
        }
        let names: Option<Vec<String>> =
            names.iter().map(|n| ecosystem::canonical_name(Ecosystem::Pypi, n)).collect();
        let (conda, names) = ecosystem::canonical_name(Ecosystem::Conda, name).zip(names).ok_or_else(odd)?;
        let many = || format!("it maps to more than {} names", limits::IDENTITY_NAMES_MAX);
        if names.len() > limits::IDENTITY_NAMES_MAX {
            return Err(many());
        }
        let mappings = names.iter().map(|name| Mapping::pypi(name, self.provenance)).collect();
        let held = self.map.entry(conda).or_default();
        held.join(Identity::of(mappings));
        if held.mappings.len() > limits::IDENTITY_NAMES_MAX {
            held.mappings.truncate(limits::IDENTITY_NAMES_MAX);
            return Err(many());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_two_spellings_maps_to_all_that_is_said_of_it() {
        let (map, bad) = read(r#"{"Pair":"b","pair":["a","b"],"PAIR":null}"#.as_bytes(), "x").unwrap();
        let both = vec![Mapping::pypi("a", "x"), Mapping::pypi("b", "x")];
        assert_eq!((map["pair"].mappings.clone(), bad.len()), (both, 0));
    }

    #[test]
    fn too_many_and_too_long_names_are_refused() {
        let many: Vec<String> = (0..=limits::IDENTITY_NAMES_MAX).map(|i| format!("n{i}")).collect();
        let long = "x".repeat(limits::IDENTITY_NAME_BYTES_MAX + 1);
        let text = serde_json::json!({"many": many, "long": long, &long: "x", "good": "x"}).to_string();
        let (map, bad) = read(text.as_bytes(), "x").unwrap();
        assert_eq!(bad.len(), 3);
        assert!(map.contains_key("good") && !map.contains_key("long"));
        let bad: BTreeMap<String, u8> = (0..=limits::BAD_LISTED_MAX).map(|i| (format!("n{i}"), 1)).collect();
        assert!(read(serde_json::to_string(&bad).unwrap().as_bytes(), "x").is_err());
        let all: BTreeMap<String, ()> = (0..=limits::IDENTITIES_MAX).map(|i| (format!("n{i}"), ())).collect();
        assert!(read(serde_json::to_string(&all).unwrap().as_bytes(), "x").is_err());
    }
}
