//! Reading what conda channels publish.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::record::{Artifact, BadRecord};
use airlock_core::shard::{Entry, Shard, ShardKey};

use crate::limits;
use crate::msgpack;
use crate::read::{IndexError, IndexRead, brief, canonical, keep, text, unzstd};

/// The members of a JSON object in the order of the text, the same key twice included.
struct Table<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Table<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Table<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Table(Vec::new()))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((Cow::Owned(key), value));
                }
                Ok(Table(members))
            }
        }
        deserializer.deserialize_any(Members(std::marker::PhantomData))
    }
}

impl<'a> Table<'a> {
    fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Reads `repodata.json` of `subdir`. `index` names it in messages.
pub fn read_repodata(subdir: &str, index: &str, bytes: &[u8]) -> Result<IndexRead, IndexError> {
    if bytes.len() as u64 > limits::INDEX_BYTES_MAX {
        return Err(IndexError::TooLarge(limits::INDEX_BYTES_MAX));
    }
    Reader::new(subdir, index).document(text(bytes)?)
}

/// Reads `repodata.json.zst`.
pub fn read_repodata_zst(subdir: &str, index: &str, packed: &[u8]) -> Result<IndexRead, IndexError> {
    read_repodata(subdir, index, &unzstd(packed, limits::INDEX_BYTES_MAX)?)
}

/// What `repodata_shards.msgpack.zst` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// Package name to the SHA-256 of its packed shard.
    pub shards: BTreeMap<String, Digest>,
    /// Where shards lie, relative to the index or absolute.
    pub shards_base_url: String,
    /// Where packages lie.
    pub base_url: Option<String>,
    /// What it says of the subdir beside that, in the form of [`IndexRead::about`].
    pub about: Canonical,
}

/// Reads `repodata_shards.msgpack.zst` of `subdir`.
pub fn read_shard_index(subdir: &str, packed: &[u8]) -> Result<ShardIndex, IndexError> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        info: BTreeMap<String, Canonical>,
        shards: BTreeMap<String, serde_json::Value>,
    }
    let json = crate::msgpack::to_json(&unzstd(packed, limits::SHARD_BYTES_MAX)?)?;
    let raw: Raw = serde_json::from_str(&json)?;
    let info = |key: &str| raw.info.get(key).and_then(|v| v.read::<String>().ok());
    if let Some(said) = info("subdir")
        && said != subdir
    {
        return Err(IndexError::Content(format!("it is about subdir `{}`, not `{subdir}`", brief(&said))));
    }
    let mut shards = BTreeMap::new();
    for (name, value) in &raw.shards {
        let digest = hash_text(value).and_then(|h| h.parse().ok());
        let digest =
            digest.ok_or_else(|| IndexError::Content(format!("the hash of `{}` is none", brief(name))))?;
        shards.insert(name.clone(), digest);
    }
    let about = about_info(subdir, raw.info.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
    let about = canonical(about.as_str()).map_err(IndexError::Content)?;
    msgpack::check_numbers(&about)?;
    Ok(ShardIndex {
        shards,
        shards_base_url: info("shards_base_url").unwrap_or_else(|| "./shards/".to_owned()),
        base_url: info("base_url"),
        about: Canonical::object([("info", &about)]),
    })
}

/// Reads the shard of `name`, whose hash was checked before. What it says of other names is left out: they have
/// shards of their own.
pub fn read_shard(subdir: &str, name: &str, packed: &[u8]) -> Result<IndexRead, IndexError> {
    let index = format!("the shard of {name}");
    let json = crate::msgpack::to_json(&unzstd(packed, limits::SHARD_BYTES_MAX)?)?;
    let mut read = Reader::new(subdir, &index).document(&json)?;
    let own = ecosystem::canonical_name(Ecosystem::Conda, name);
    let strange: Vec<ShardKey> =
        read.shards.keys().filter(|k| Some(&k.name) != own.as_ref()).cloned().collect();
    for key in strange {
        for file in read.shards.remove(&key).into_iter().flat_map(|s| s.entries.into_keys()) {
            read.leave_out(&index, &file, "it stands in the shard of another name");
        }
    }
    Ok(read)
}

/// A hash as text, however it was written: text, or an array of numbers.
fn hash_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(bytes) if bytes.len() <= 64 => {
            let bytes: Option<Vec<u8>> =
                bytes.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            bytes.map(|b| hex::encode(&b))
        }
        _ => None,
    }
}

/// What of `info` is kept: all but what says where things lie, and counts that filtering changes.
fn about_info(subdir: &str, mut kept: Vec<(String, Canonical)>) -> Canonical {
    const REWRITTEN: [&str; 6] =
        ["base_url", "shards_base_url", "channel_relations", "repodata_revisions", "created_at", "subdir"];
    kept.retain(|(key, _)| !REWRITTEN.contains(&key.as_str()));
    kept.push(("subdir".to_owned(), Canonical::string(subdir)));
    Canonical::object(kept.iter().map(|(k, v)| (k.as_str(), v)))
}

/// Whether a key that is not known here names tables of records: `packages.whl` of rattler before CEP 48, or a
/// revision after the third.
fn holds_records(key: &str) -> bool {
    let revision = |v: &str| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit());
    key.starts_with("packages") || key.strip_prefix('v').is_some_and(revision)
}

/// Whether a key of `repodata.json` is written here, or would hold records.
pub(super) fn is_own(key: &str) -> bool {
    holds_records(key)
        || matches!(key, "info" | "removed" | "repodata_version" | "version" | "signatures" | "shards")
}

struct Reader<'a> {
    subdir: &'a str,
    index: &'a str,
    out: IndexRead,
}

impl<'a> Reader<'a> {
    fn new(subdir: &'a str, index: &'a str) -> Self {
        Self { subdir, index, out: IndexRead::default() }
    }

    fn document(mut self, json: &str) -> Result<IndexRead, IndexError> {
        let mut about: Vec<(String, Canonical)> = Vec::new();
        let mut removed = Vec::new();
        for (key, value) in Table::parse(json)?.0 {
            match key.as_ref() {
                "packages" | "packages.conda" => self.table(&key, "", value)?,
                "v3" => {
                    for (extension, table) in Table::parse(value.get())?.0 {
                        self.table(&format!("v3/{extension}"), &format!(".{extension}"), table)?;
                    }
                }
                "removed" => {
                    removed = serde_json::from_str::<Option<_>>(value.get())?.unwrap_or_default();
                }
                "info" => {
                    let info = canonical(value.get()).map_err(IndexError::Content)?.members();
                    let base = info.iter().find(|(k, _)| k == "base_url");
                    self.out.base_url = base.and_then(|(_, v)| v.read().ok());
                    about.push((key.into_owned(), about_info(self.subdir, info)));
                }
                // Filtering and pinning change records, so that signatures over them no longer hold; the
                // version depends on what is written here.
                "signatures" | "repodata_version" | "version" => {}
                // What nobody judged must not be offered.
                key if holds_records(key) => {
                    self.out.leave_out(self.index, key, "a table of records of a kind that is not carried");
                }
                _ => {
                    let value = canonical(value.get()).map_err(IndexError::Content)?;
                    about.push((key.into_owned(), value));
                }
            }
        }
        self.removed(removed);
        let about = Canonical::object(about.iter().map(|(k, v)| (k.as_str(), v)));
        msgpack::check_numbers(&about)?;
        self.out.about = Some(about);
        Ok(self.out)
    }

    fn table(&mut self, table: &str, extension: &str, value: &RawValue) -> Result<(), IndexError> {
        for (key, record) in Table::parse(value.get())?.0 {
            let file = format!("{key}{extension}");
            if let Err(error) = self.record(table, &file, record) {
                self.out.leave_out(self.index, &file, error);
            }
        }
        Ok(())
    }

    fn record(&mut self, table: &str, file: &str, record: &RawValue) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
        }
        let entry = Entry { table: table.to_owned(), record: hashes_as_text(canonical(record.get())?) };
        msgpack::check_numbers(&entry.record).map_err(|e| e.to_string())?;
        let named: Named<'_> =
            entry.record.read().map_err(|e| BadRecord::Shape(e.to_string()).to_string())?;
        let name = ecosystem::canonical_name(Ecosystem::Conda, &named.name).ok_or_else(|| {
            format!("`{}` cannot be a package name", named.name.chars().take(80).collect::<String>())
        })?;
        Artifact::from_parts(Ecosystem::Conda, &name, file, &entry).map_err(|e| e.to_string())?;
        let key = ShardKey { subdir: Some(self.subdir.to_owned()), name };
        let shard = self
            .out
            .shards
            .entry(key)
            .or_insert_with_key(|k| Shard::new(Ecosystem::Conda, k.name.clone(), k.subdir.clone()));
        keep(&mut shard.entries, file, entry)
    }

    /// Notes at each name which of its files were removed upstream.
    fn removed(&mut self, removed: Vec<String>) {
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in removed {
            let name =
                file.rsplitn(3, '-').nth(2).and_then(|n| ecosystem::canonical_name(Ecosystem::Conda, n));
            match name {
                Some(name) if ecosystem::is_safe_file_name(&file) => {
                    by_name.entry(name).or_default().push(file)
                }
                _ => self.out.leave_out(
                    self.index,
                    &file,
                    "the list of removed files holds something that is no file name",
                ),
            }
        }
        for (name, mut files) in by_name {
            files.sort();
            files.dedup();
            let key = ShardKey { subdir: Some(self.subdir.to_owned()), name };
            if let (Some(shard), Ok(list)) = (self.out.shards.get_mut(&key), Canonical::of(&files)) {
                shard.meta.insert("removed".to_owned(), list);
            }
        }
    }
}

/// Turns hashes that a shard holds as arrays of numbers into text, as `repodata.json` has them.
fn hashes_as_text(record: Canonical) -> Canonical {
    let odd = |(key, value): &(String, Canonical)| {
        matches!(key.as_str(), "sha256" | "md5" | "legacy_bz2_md5") && value.as_str().starts_with('[')
    };
    let mut members = record.members();
    if !members.iter().any(odd) {
        return record;
    }
    for member in members.iter_mut().filter(|m| odd(m)) {
        if let Some(text) = member.1.read().ok().as_ref().and_then(hash_text) {
            member.1 = Canonical::string(&text);
        }
    }
    Canonical::object(members.iter().map(|(k, v)| (k.as_str(), v)))
}
