//! A conda channel for tests: publishing as the engine does, rendering, and what must come out.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::FileFact;
use airlock_core::id::Digest;
use airlock_core::publish;
use airlock_core::record::Artifact;
use airlock_core::shard::{Entry, Shard};
use airlock_formats::{IndexRead, conda};
use serde_json::{Value, json};

/// A small index with everything odd that must survive, and everything that must not come out.
pub const ODD: &str = r#"{
  "info": {"subdir": "linux-64", "base_url": "https://evil.example/pkgs", "shards_base_url": "https://evil.example/s",
    "channel_relations": {"base": "../evil"}, "created_at": "2026-01-01T00:00:00Z", "repodata_revisions": {"v3": {"n_packages": 99}},
    "vendor_info": {"kept": [null, 1.5]}},
  "packages": {
    "X-1.0-0.tar.bz2": {"name": "X", "version": "1.0", "build": "0", "build_number": 0, "noarch": "", "license": null,
      "md5": "00112233445566778899aabbccddeeff", "timestamp": 1500000000, "track_features": ["a", "b"],
      "big": 123456789012345678901234567890, "float": 0.1, "one": 1.0, "nothing": null, "é\"\\\n": {"": []},
      "url": "https://evil.example/X-1.0-0.tar.bz2"},
    "x264-1!164.3095-h166bdaf_2.tar.bz2": {"name": "x264", "version": "1!164.3095", "build": "h166bdaf_2",
      "sha256": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "size": 18446744073709551615}
  },
  "packages.conda": {
    "x-2.0-0.conda": {"name": "x", "version": "2.0", "build": "0", "noarch": true, "size": null, "sha256": null,
      "legacy_bz2_md5": "00112233445566778899aabbccddeeff", "low": -9223372036854775808}
  },
  "v3": {
    "conda": {"x-3.0-0": {"name": "x", "version": "3.0", "build": "0", "flags": ["cuda"], "indexed_timestamp": 1700000000000,
      "extra_depends": {"a": ["b >=1"]}, "url": "https://evil.example/x-3.0-0.conda"}},
    "whl": {"six-1.17.0-py3_none_any_0": {"name": "six", "version": "1.17.0", "build": "py3_none_any_0",
      "timestamp": 1700000001000, "url": "https://evil.example/six-1.17.0-py2.py3-none-any.whl"}},
    "rpm": {"x-4.0-0": {"name": "x", "version": "4.0", "build": "0"}}
  },
  "packages.whl": {"six-1.9.0-py3_none_any_0": {"name": "six", "url": "https://evil.example/six.whl"}},
  "v4": {"conda": {"x-9-0": {"name": "x", "version": "9", "build": "0"}}},
  "removed": ["x-0.9-0.conda", "x-2.0-0.conda", "gone-1-0.conda", "../evil-1-0.conda"],
  "signatures": {"x-2.0-0.conda": {}},
  "repodata_version": 2,
  "vendor": {"kept": [null, true, 123456789012345678901234567890]}
}"#;

/// What fetching a file revealed: the declared hash or one that is made of its name.
pub fn fact(file: &str, entry: &Entry) -> FileFact {
    let name = entry.record.members().into_iter().find(|(k, _)| k == "name").unwrap().1;
    let name = name.read::<String>().unwrap().to_ascii_lowercase();
    let artifact = Artifact::from_parts(Ecosystem::Conda, &name, file, entry).unwrap();
    FileFact {
        sha256: artifact.sha256.unwrap_or_else(|| Digest::of(file.as_bytes())),
        size: file.len() as u64,
        metadata: None,
        licence: None,
        summary: None,
        requires: vec![],
        run_exports: None,
        security: Vec::new(),
    }
}

/// All shards of an index, with every record published.
pub fn published(read: &IndexRead) -> Vec<Shard> {
    let publish = |shard: &Shard| {
        let mut shard = shard.clone();
        for (file, entry) in &mut shard.entries {
            entry.record = publish::record(Ecosystem::Conda, file, entry, &fact(file, entry));
        }
        shard
    };
    read.shards.values().map(publish).collect()
}

/// The published form of a record by the list in `core::publish`, written a second time.
pub fn expected(file: &str, record: &Value, is_v3: bool) -> Value {
    let mut record = record.as_object().unwrap().clone();
    match record.remove("url") {
        Some(_) if is_v3 => drop(record.insert("url".to_owned(), file.into())),
        _ => {}
    }
    if record.get("sha256").is_none_or(Value::is_null) {
        record.insert("sha256".to_owned(), Digest::of(file.as_bytes()).to_string().into());
    }
    if record.get("size").is_none_or(Value::is_null) {
        record.insert("size".to_owned(), file.len().into());
    }
    Value::Object(record)
}

/// The published form of a table.
pub fn expected_table(table: &Value, extension: &str, is_v3: bool) -> Value {
    let members = table.as_object().cloned().unwrap_or_default();
    let record =
        |(key, r): (&String, &Value)| (key.clone(), expected(&format!("{key}{extension}"), r, is_v3));
    Value::Object(members.iter().map(record).collect())
}

/// A rendered subdir.
pub struct Rendered {
    pub json: String,
    pub shards: BTreeMap<String, (Digest, Vec<u8>)>,
    pub index: Vec<u8>,
}

pub fn render(subdir: &str, read: &IndexRead) -> Rendered {
    let published = published(read);
    let shards: BTreeMap<String, (Digest, Vec<u8>)> =
        published.iter().map(|s| (s.name.clone(), conda::shard(s).unwrap())).collect();
    Rendered {
        json: conda::repodata(subdir, read.about.as_ref(), &published),
        index: conda::shard_index(
            subdir,
            read.about.as_ref(),
            shards.iter().map(|(name, (digest, _))| (name, digest)),
        )
        .unwrap(),
        shards,
    }
}

/// The tables of records as a shard or an index holds them, of what was read.
pub fn tables(read: &IndexRead) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut tables: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for shard in read.shards.values() {
        for (file, entry) in &shard.entries {
            let table = tables.entry(entry.table.clone()).or_default();
            table.insert(file.clone(), entry.record.read().unwrap());
        }
    }
    tables
}

/// An index of these records alone.
pub fn index_of(records: &[(&str, &str)]) -> String {
    let records: Vec<String> = records.iter().map(|(file, record)| format!("\"{file}\": {record}")).collect();
    format!("{{\"packages.conda\": {{{}}}}}", records.join(", "))
}

/// A record that is valid as it is.
pub fn plain(name: &str, version: &str) -> Value {
    json!({"name": name, "version": version, "build": "0", "depends": []})
}
