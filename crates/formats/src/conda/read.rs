//! Reading what conda channels publish.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::shard::{Entry, Shard, ShardKey};

use super::records::{Prepared, Raw, Readers, prepare_all};
use crate::limits;
use crate::msgpack;
use crate::read::{IndexError, IndexRead, brief, canonical, keep, text, unzstd};
use crate::stream::{self, Items, Key, Members};

/// Records that one thread reads at a time.
const BATCH: usize = 2 << 10;
/// From which size on an index is read on several threads, in bytes.
const THREADED_BYTES_MIN: usize = 1 << 20;

/// Reads `repodata.json` of `subdir`. `index` names it in messages.
pub fn read_repodata(subdir: &str, index: &str, bytes: &[u8]) -> Result<IndexRead, IndexError> {
    read_repodata_on(1, subdir, index, bytes)
}

/// The same on up to `threads` threads, with the same result.
pub fn read_repodata_on(
    threads: usize,
    subdir: &str,
    index: &str,
    bytes: &[u8],
) -> Result<IndexRead, IndexError> {
    if bytes.len() as u64 > limits::INDEX_BYTES_MAX {
        return Err(IndexError::TooLarge(limits::INDEX_BYTES_MAX));
    }
    Reader::new(threads, subdir, index).document(text(bytes)?)
}

/// Unpacks `repodata.json.zst`.
pub fn unpack_repodata(packed: &[u8]) -> Result<Vec<u8>, IndexError> {
    unzstd(packed, limits::INDEX_BYTES_MAX)
}

/// Reads `repodata.json.zst`.
pub fn read_repodata_zst(subdir: &str, index: &str, packed: &[u8]) -> Result<IndexRead, IndexError> {
    read_repodata(subdir, index, &unpack_repodata(packed)?)
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
    let json = crate::msgpack::to_json(&unzstd(packed, limits::SHARD_BYTES_MAX)?)?;
    let mut infos: BTreeMap<String, Canonical> = BTreeMap::new();
    let mut shards = None;
    stream::members(&json, |key, value| {
        match key {
            "info" => infos = canonical(value.get()).map_err(IndexError::Content)?.read()?,
            "shards" => shards = Some(read_digests(value)?),
            _ => {}
        }
        Ok(())
    })?;
    let shards = shards.ok_or_else(|| IndexError::Content("it lists no shards".to_owned()))?;
    let info = |key: &str| infos.get(key).and_then(|v| v.read::<String>().ok());
    if let Some(said) = info("subdir")
        && said != subdir
    {
        return Err(IndexError::Content(format!("it is about subdir `{}`, not `{subdir}`", brief(&said))));
    }
    let about = about_info(subdir, infos.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
    let about = canonical(about.as_str()).map_err(IndexError::Content)?;
    msgpack::check_numbers(&about)?;
    Ok(ShardIndex {
        shards,
        shards_base_url: info("shards_base_url").unwrap_or_else(|| "./shards/".to_owned()),
        base_url: info("base_url"),
        about: Canonical::object([("info", &about)]),
    })
}

/// Reads which name has which shard. A name that comes twice is refused: readers differ in which of two counts.
fn read_digests(table: &RawValue) -> Result<BTreeMap<String, Digest>, IndexError> {
    let mut shards = BTreeMap::new();
    stream::members(table.get(), |name, value| {
        // The longest way to write a hash is an array of 32 numbers.
        const HASH_TEXT_MAX: usize = 256;
        let text = Some(value.get()).filter(|text| text.len() <= HASH_TEXT_MAX);
        let value = text.and_then(|text| serde_json::from_str(text).ok());
        let digest = value.as_ref().and_then(hash_text).and_then(|h| h.parse().ok());
        let digest =
            digest.ok_or_else(|| IndexError::Content(format!("the hash of `{}` is none", brief(name))))?;
        if shards.insert(name.to_owned(), digest).is_some() {
            return Err(IndexError::Content(format!("it lists `{}` twice", brief(name))));
        }
        if shards.len() > limits::INDEX_NAMES_MAX {
            return Err(IndexError::TooMany("names", limits::INDEX_NAMES_MAX as u64));
        }
        Ok(())
    })?;
    Ok(shards)
}

/// Reads the shard of `name`, whose hash was checked before. What it says of other names is left out: they have
/// shards of their own.
pub fn read_shard(subdir: &str, name: &str, packed: &[u8]) -> Result<IndexRead, IndexError> {
    let index = format!("the shard of {name}");
    let json = crate::msgpack::to_json(&unzstd(packed, limits::SHARD_BYTES_MAX)?)?;
    let mut read = Reader::new(1, subdir, &index).document(&json)?;
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
pub(super) fn hash_text(value: &serde_json::Value) -> Option<String> {
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

/// A whole index, whose tables of records are read as they come.
struct Document<'r, 'a, 't> {
    reader: &'r mut Reader<'a, 't>,
    fault: &'r mut Option<IndexError>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { reader, fault } = self;
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            match key.as_ref() {
                table @ ("packages" | "packages.conda") => {
                    let take = |file: &str, record: &'de RawValue| reader.offer(table, file, record);
                    map.next_value_seed(Members { or_null: true, take, fault })?;
                }
                "v3" => {
                    let take = |extension: &str, table: &'de RawValue| {
                        let name = format!("v3/{extension}");
                        if table.get() == "null" {
                            return Ok(());
                        }
                        stream::members(table.get(), |stem, record| {
                            reader.offer(&name, &format!("{stem}.{extension}"), record)
                        })
                    };
                    map.next_value_seed(Members { or_null: true, take, fault })?;
                }
                "removed" => {
                    reader.removed.clear();
                    let take = |file: &'de RawValue| reader.note_removed(file);
                    map.next_value_seed(Items { or_null: true, take, fault })?;
                }
                // Filtering and pinning change records, so that signatures over them no longer hold; the
                // version depends on what is written here.
                "signatures" | "repodata_version" | "version" => {
                    map.next_value::<IgnoredAny>()?;
                }
                key => {
                    let value = map.next_value::<&'de RawValue>()?;
                    reader.beside(key, value).map_err(|e| stream::stop(fault, e))?;
                }
            }
        }
        Ok(())
    }
}

struct Reader<'a, 't> {
    threads: usize,
    subdir: &'a str,
    index: &'a str,
    out: IndexRead,
    /// What the index says beside its records.
    about: Vec<(String, Canonical)>,
    removed: Vec<String>,
    /// Records so far, the bad ones too.
    records: u64,
    /// Where the last record belongs.
    key: ShardKey,
    /// Records that were seen in the text and not handed out yet.
    waiting: Vec<Raw<'t>>,
    /// Who reads them, while this thread looks for the next ones.
    readers: Option<Readers<'t>>,
}

impl<'a, 't> Reader<'a, 't> {
    fn new(threads: usize, subdir: &'a str, index: &'a str) -> Self {
        let key = ShardKey { subdir: Some(subdir.to_owned()), name: String::new() };
        let out = IndexRead::default();
        let waiting = Vec::new();
        let (about, removed) = (Vec::new(), Vec::new());
        Self { threads, subdir, index, out, about, removed, records: 0, key, waiting, readers: None }
    }

    /// Reads a whole index, record by record: nothing is held but what comes out.
    fn document(mut self, json: &'t str) -> Result<IndexRead, IndexError> {
        // It is moved into the scope, so that its queue ends with it, whatever ends it, and the readers with that.
        self = std::thread::scope(move |scope| {
            // A few records are read sooner than a thread begins.
            if self.threads > 1 && json.len() >= THREADED_BYTES_MIN {
                self.readers = Some(Readers::start(scope, self.threads));
            }
            let read = self.tables(json);
            self.readers = None;
            read.map(|()| self)
        })?;
        self.name_removed();
        let about = Canonical::object(self.about.iter().map(|(k, v)| (k.as_str(), v)));
        msgpack::check_numbers(&about)?;
        self.out.about = Some(about);
        Ok(self.out)
    }

    fn tables(&mut self, json: &'t str) -> Result<(), IndexError> {
        let mut fault = None;
        let outcome = stream::whole(json, Document { reader: self, fault: &mut fault });
        fault.map_or_else(|| outcome.map_err(IndexError::from), Err)?;
        self.settle()
    }

    /// Keeps every record that was seen so far.
    fn settle(&mut self) -> Result<(), IndexError> {
        self.hand_out()?;
        while let Some(batch) = self.readers.as_mut().and_then(Readers::take) {
            self.keep_all(batch)?;
        }
        match self.readers.as_ref().is_none_or(Readers::is_idle) {
            true => Ok(()),
            false => Err(IndexError::Content("reading it was broken off".to_owned())),
        }
    }

    /// Takes what the index says beside its records.
    fn beside(&mut self, key: &str, value: &RawValue) -> Result<(), IndexError> {
        match key {
            "info" => {
                let info = canonical(value.get()).map_err(IndexError::Content)?.members();
                let base = info.iter().find(|(k, _)| k == "base_url");
                self.out.base_url = base.and_then(|(_, v)| v.read().ok());
                self.about.push((key.to_owned(), about_info(self.subdir, info)));
            }
            // What nobody judged must not be offered.
            key if holds_records(key) => {
                // What was left out before it is noted before it, with any number of threads.
                self.settle()?;
                self.out.leave_out(self.index, key, "a table of records of a kind that is not carried");
            }
            _ => {
                if self.about.len() >= limits::ABOUT_KEYS_MAX {
                    return Err(IndexError::TooMany(
                        "keys beside its records",
                        limits::ABOUT_KEYS_MAX as u64,
                    ));
                }
                self.about.push((key.to_owned(), canonical(value.get()).map_err(IndexError::Content)?));
            }
        }
        Ok(())
    }

    /// Takes one record; only limits on the whole index are errors.
    fn offer(&mut self, table: &str, file: &str, record: &'t RawValue) -> Result<(), IndexError> {
        self.records += 1;
        if self.records > limits::INDEX_RECORDS_MAX {
            return Err(IndexError::TooMany("records", limits::INDEX_RECORDS_MAX));
        }
        self.waiting.push(Raw { table: table.to_owned(), file: file.to_owned(), record });
        if self.waiting.len() >= BATCH { self.hand_out() } else { Ok(()) }
    }

    /// Has the records that wait read, and keeps what was read meanwhile, in the order of the text.
    fn hand_out(&mut self) -> Result<(), IndexError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let Some(readers) = &mut self.readers else { return self.keep_all(prepare_all(waiting)) };
        readers.give(waiting);
        while let Some(batch) = self.readers.as_mut().filter(|r| r.is_full()).and_then(Readers::take) {
            self.keep_all(batch)?;
        }
        Ok(())
    }

    fn keep_all(&mut self, batch: Vec<(Raw<'t>, Prepared)>) -> Result<(), IndexError> {
        for (raw, prepared) in batch {
            let kept = prepared.and_then(|(name, entry)| self.keep(name, &raw.file, entry));
            if let Err(error) = kept {
                self.out.leave_out(self.index, &raw.file, error);
            }
            if self.out.shards.len() > limits::INDEX_NAMES_MAX {
                return Err(IndexError::TooMany("names", limits::INDEX_NAMES_MAX as u64));
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: String, file: &str, entry: Entry) -> Result<(), String> {
        self.key.name = name;
        if let Some(shard) = self.out.shards.get_mut(&self.key) {
            return keep(&mut shard.entries, file, entry);
        }
        let key = self.key.clone();
        let mut shard = Shard::new(Ecosystem::Conda, key.name.clone(), key.subdir.clone());
        let kept = keep(&mut shard.entries, file, entry);
        self.out.shards.insert(key, shard);
        kept
    }

    /// Takes one item of the list of removed files.
    fn note_removed(&mut self, file: &RawValue) -> Result<(), IndexError> {
        if self.removed.len() >= limits::REMOVED_MAX {
            return Err(IndexError::TooMany("removed files", limits::REMOVED_MAX as u64));
        }
        let file: String = serde_json::from_str(file.get())?;
        self.removed.push(file);
        Ok(())
    }

    /// Notes at each name which of its files were removed upstream.
    fn name_removed(&mut self) {
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in std::mem::take(&mut self.removed) {
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
