//! The record that an index holds of a package, made from the package itself (CEP 36).
//!
//! It is `info/index.json` as it stands there, with `md5`, `sha256` and `size` of the bytes and the subdir in
//! which the package lies, and with an empty `depends` where the package states none. [`NOT_ITS_OWN`] are left
//! out. A package whose statements are of shapes that would make a client fail over the whole index is refused.

use std::borrow::Cow;

use serde::Deserialize;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, ArtifactKind, Ecosystem};
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::record::Artifact;
use airlock_core::shard::Entry;

use crate::msgpack;
use crate::read::{brief, canonical};

/// What only an index may say: where the file lies, when it was indexed, what another file's hash is, and what
/// `info/run_exports.json` says and not `info/index.json`. A package that says it of itself is not heard.
const NOT_ITS_OWN: [&str; 8] = [
    "url",
    "fn",
    "channel",
    "indexed_timestamp",
    "legacy_bz2_md5",
    "legacy_bz2_size",
    "run_exports",
    "attestations",
];
/// Largest `info/index.json`, in bytes. Records above it would not fit into what clients read as one shard.
pub const INDEX_JSON_BYTES_MAX: usize = 4 << 20;

/// Latest `timestamp`, in milliseconds since 1970: the end of the year 9999.
const TIMESTAMP_MAX_MS: u64 = 253_402_300_799_999;

/// What hashing a file gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hashed {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// MD5 of its bytes.
    pub md5: [u8; 16],
    /// How many they are.
    pub size: u64,
}

/// The record of the package `file`, which lies in `subdir` and says `index_json` of itself: the canonical
/// package name and the entry for an index.
///
/// # Errors
///
/// Why the package can have no record, in words.
pub fn package_record(
    subdir: &str,
    file: &str,
    index_json: &[u8],
    hashed: &Hashed,
) -> Result<(String, Entry), String> {
    if index_json.len() > INDEX_JSON_BYTES_MAX {
        return Err(format!("its info/index.json is larger than {INDEX_JSON_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(index_json).map_err(|_| "its info/index.json is not UTF-8".to_owned())?;
    let index = canonical(text).map_err(|e| format!("its info/index.json: {e}"))?;
    let shape: Shape<'_> =
        index.read().map_err(|e| format!("its info/index.json: {}", brief(&e.to_string())))?;
    if let Some(stated) = shape.subdir.as_deref().filter(|s| *s != subdir) {
        return Err(format!("it is for {}, and lies in {subdir}", brief(stated)));
    }
    let name = ecosystem::canonical_name(Ecosystem::Conda, &shape.name)
        .ok_or_else(|| format!("`{}` cannot be a package name", brief(&shape.name)))?;
    let kind = ArtifactKind::of(Ecosystem::Conda, file);
    let table = match (kind, shape.needs_v3()) {
        (Some(ArtifactKind::Conda), false) => "packages.conda",
        (Some(ArtifactKind::Conda), true) => "v3/conda",
        (Some(ArtifactKind::TarBz2), false) => "packages",
        (Some(ArtifactKind::TarBz2), true) => "v3/tar.bz2",
        _ => return Err("it is no conda package".to_owned()),
    };
    let mut members = index.members();
    members.retain(|(key, _)| !NOT_ITS_OWN.contains(&key.as_str()));
    let mut set = |key: &str, value: Canonical| {
        members.retain(|(k, _)| k != key);
        members.push((key.to_owned(), value));
    };
    if shape.depends.is_none() {
        set("depends", Canonical::of(&[(); 0]).map_err(|e| e.to_string())?);
    }
    set("md5", Canonical::string(&hex::encode(&hashed.md5)));
    set("sha256", Canonical::string(&hashed.sha256.to_string()));
    set("size", Canonical::of(&hashed.size).map_err(|e| e.to_string())?);
    set("subdir", Canonical::string(subdir));
    let record = Canonical::object(members.iter().map(|(k, v)| (k.as_str(), v)));
    msgpack::check_numbers(&record).map_err(|e| e.to_string())?;
    let entry = Entry { table: table.to_owned(), record };
    Artifact::from_parts(Ecosystem::Conda, &name, file, &entry).map_err(|e| e.to_string())?;
    Ok((name, entry))
}

/// The shapes that clients ask for. Those of Rust read an index with a typed record, and one that does not fit
/// costs them all of it.
#[derive(Deserialize)]
#[expect(dead_code, reason = "most are read only to see that they are what they must be")]
struct Shape<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    build: Cow<'a, str>,
    build_number: u64,
    #[serde(default)]
    subdir: Option<String>,
    #[serde(default, deserialize_with = "list")]
    depends: Option<Vec<String>>,
    #[serde(default, deserialize_with = "list")]
    constrains: Option<Vec<String>>,
    arch: Option<String>,
    platform: Option<String>,
    license: Option<String>,
    license_family: Option<String>,
    features: Option<String>,
    python_site_packages_path: Option<String>,
    #[serde(default, deserialize_with = "stamp")]
    timestamp: Option<i64>,
    purls: Option<Vec<String>>,
    #[serde(default)]
    noarch: NoArch,
    #[serde(default)]
    track_features: Features,
}

/// `"python"`, `"generic"`, and what older packages say.
#[derive(Deserialize, Default)]
#[serde(untagged)]
#[expect(dead_code, reason = "read only to see that it is one of them")]
enum NoArch {
    Text(String),
    Flag(bool),
    #[default]
    None,
}

/// Text, or a list of texts; never null.
#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read only to see that it is one of them")]
enum Features {
    Text(String),
    List(Vec<String>),
}

impl Default for Features {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// A list that may be absent, but never null.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// A time within the years that clients can hold.
fn stamp<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let stamp = Option::<i64>::deserialize(deserializer)?;
    if stamp.is_some_and(|stamp| stamp.unsigned_abs() > TIMESTAMP_MAX_MS) {
        return Err(serde::de::Error::custom("the timestamp is beyond the year 9999"));
    }
    Ok(stamp)
}

impl Shape<'_> {
    /// Whether a dependency is written in a way that only the tables of CEP 48 may hold: older clients would fail
    /// over it.
    fn needs_v3(&self) -> bool {
        let specs = self.depends.iter().chain(&self.constrains).flatten();
        specs.into_iter().any(|spec| {
            let bracket = spec.split_once('[').map_or("", |(_, bracket)| bracket);
            ["when", "extras", "flags"].iter().any(|key| {
                bracket.match_indices(key).any(|(at, _)| {
                    let before = bracket.get(..at).unwrap_or_default().trim_end();
                    let after = bracket.get(at + key.len()..).unwrap_or_default().trim_start();
                    (before.is_empty() || before.ends_with(',')) && after.starts_with('=')
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(more: &Value) -> Result<(String, Value), String> {
        let mut index =
            json!({"name": "x", "version": "1.0", "build": "0", "build_number": 0, "depends": []});
        for (key, value) in more.as_object().unwrap() {
            index[key] = value.clone();
        }
        let hashed = Hashed { sha256: Digest::from_bytes([1; 32]), md5: [2; 16], size: 3 };
        let (name, entry) = package_record("noarch", "x-1.0-0.conda", index.to_string().as_bytes(), &hashed)?;
        assert_eq!(name, "x");
        Ok((entry.table.clone(), entry.record.read().unwrap()))
    }

    #[test]
    fn a_record_holds_what_the_package_says_but_for_what_only_an_index_may_say() {
        let said = json!({
            "foo": {"bar": [1, null]}, "arch": null, "subdir": "noarch", "noarch": "", "size": 99, "md5": "ff",
            "url": "https://elsewhere.example/x.conda", "indexed_timestamp": 1, "legacy_bz2_size": 4,
            "run_exports": {"weak": ["y"]},
        });
        let expected = json!({
            "name": "x", "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": "noarch",
            "foo": {"bar": [1, null]}, "arch": null, "noarch": "", "size": 3, "md5": "02".repeat(16),
            "sha256": "01".repeat(32),
        });
        assert_eq!(made(&said).unwrap(), ("packages.conda".to_owned(), expected));
    }

    #[test]
    fn dependencies_that_older_clients_cannot_read_go_into_the_new_tables() {
        let table = |spec: &str| made(&json!({"depends": [spec]})).unwrap().0;
        for spec in ["a[when=\"python\"]", "a[version='>=1', when = \"b\"]", "a[extras=[b]]", "a[flags=[c]]"]
        {
            assert_eq!(table(spec), "v3/conda", "{spec}");
        }
        for spec in ["a", "a[version=\">=1\"]", "when >=1", "a[build=\"*extras*\"]", "flags[md5=0]"] {
            assert_eq!(table(spec), "packages.conda", "{spec}");
        }
    }

    #[test]
    fn shapes_that_would_cost_clients_the_whole_index_are_refused() {
        for bad in [
            json!({"build_number": "1"}),
            json!({"build_number": 1.5}),
            json!({"depends": null}),
            json!({"depends": [1]}),
            json!({"license": ["MIT"]}),
            json!({"timestamp": 1_500_000_000.5}),
            json!({"timestamp": 1_000_000_000_000_000_000_i64}),
            json!({"noarch": [1]}),
            json!({"track_features": null}),
            json!({"subdir": "linux-64"}),
            json!({"name": "y"}),
            json!({"name": "../x"}),
            json!({"build": "a-b"}),
            json!({"foo": 1e300}),
        ] {
            let refused = made(&bad).is_err();
            assert_eq!(refused, bad.get("foo").is_none(), "{bad}");
        }
        let twice = br#"{"name":"x","name":"x","version":"1.0","build":"0","build_number":0}"#;
        let hashed = Hashed { sha256: Digest::from_bytes([1; 32]), md5: [2; 16], size: 3 };
        assert!(package_record("noarch", "x-1.0-0.conda", twice, &hashed).unwrap_err().contains("twice"));
        let large = vec![b' '; INDEX_JSON_BYTES_MAX + 1];
        assert!(package_record("noarch", "x-1.0-0.conda", &large, &hashed).unwrap_err().contains("larger"));
    }
}
