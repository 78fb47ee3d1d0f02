//! A map from conda names to PyPI names, in parselmouth's form: a name, a list of names, or null.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;

use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::identity::Identity;

use super::{BadAdvisory, FeedError};

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    None(()),
    One(String),
    Many(Vec<String>),
    Other(serde::de::IgnoredAny),
}

/// Reads the map. `provenance` is what evidence will name as the source.
pub fn read(
    reader: impl Read,
    provenance: &str,
) -> Result<(BTreeMap<String, Identity>, Vec<BadAdvisory>), FeedError> {
    let raw: BTreeMap<String, Names> = serde_json::from_reader(reader)?;
    let mut map = BTreeMap::new();
    let mut bad = Vec::new();
    for (name, names) in raw {
        let names = match names {
            Names::None(()) => Some(Vec::new()),
            Names::One(one) => Some(vec![one]),
            Names::Many(many) => Some(many),
            Names::Other(_) => None,
        };
        let canonical = |names: Vec<String>| -> Option<Vec<String>> {
            names.iter().map(|n| ecosystem::canonical_name(Ecosystem::Pypi, n)).collect()
        };
        match (ecosystem::canonical_name(Ecosystem::Conda, &name), names.and_then(canonical)) {
            (Some(conda), Some(mut pypi)) => {
                pypi.sort();
                pypi.dedup();
                map.insert(conda, Identity { pypi, provenance: provenance.to_owned() });
            }
            _ => bad.push(BadAdvisory {
                id: name.chars().take(80).collect(),
                reason: "expected a name, a list of names, or null".to_owned(),
            }),
        }
    }
    Ok((map, bad))
}
