//! Single records: from the text of an index to entries, on as many threads as there are.

use std::borrow::Cow;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::record::{Artifact, BadRecord};
use airlock_core::shard::Entry;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::hash_text;
use crate::msgpack;
use crate::read::canonical_record;

/// Records that are handed to a thread at least: for fewer it is not worth starting one.
const PER_THREAD_MIN: usize = 512;

/// One record as it stands in the text of an index.
pub(super) struct Raw<'t> {
    pub table: String,
    pub file: String,
    pub record: &'t RawValue,
}

/// The canonical name under which an entry belongs, or why it cannot be used.
pub(super) type Prepared = Result<(String, Entry), String>;

/// Reads records on up to `threads` threads; the answers come in their order.
pub(super) fn prepare_all(threads: usize, records: &[Raw<'_>]) -> Vec<Prepared> {
    let per_thread = records.len().div_ceil(threads.max(1)).max(PER_THREAD_MIN);
    let prepare_some = |part: &[Raw<'_>]| part.iter().map(prepare).collect::<Vec<_>>();
    if records.len() <= per_thread {
        return prepare_some(records);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            records.chunks(per_thread).map(|part| scope.spawn(move || prepare_some(part))).collect();
        let stopped = |part: &[Raw<'_>]| part.iter().map(|_| Err("it cannot be read".to_owned())).collect();
        let done = parts.into_iter().zip(records.chunks(per_thread));
        done.flat_map(|(thread, part)| thread.join().unwrap_or_else(|_| stopped(part))).collect()
    })
}

fn prepare(raw: &Raw<'_>) -> Prepared {
    let (record, odd_numbers) = canonical_record(raw.record.get())?;
    let entry = Entry { table: raw.table.clone(), record: hashes_as_text(record) };
    if odd_numbers {
        msgpack::check_numbers(&entry.record).map_err(|e| e.to_string())?;
    }
    let name = match name_by_file(&raw.file, &entry) {
        Some(name) => name,
        None => name_by_record(&raw.file, &entry)?,
    };
    Ok((name, entry))
}

/// The name of a record that is in order, by its file's name: what is expected is checked with one reading.
fn name_by_file(file: &str, entry: &Entry) -> Option<String> {
    let name = ecosystem::canonical_name(Ecosystem::Conda, file.rsplitn(3, '-').nth(2)?)?;
    Artifact::from_parts(Ecosystem::Conda, &name, file, entry).is_ok().then_some(name)
}

/// The name of a record by what it says, or what is wrong with it.
fn name_by_record(file: &str, entry: &Entry) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let named: Named<'_> = entry.record.read().map_err(|e| BadRecord::Shape(e.to_string()).to_string())?;
    let name = ecosystem::canonical_name(Ecosystem::Conda, &named.name).ok_or_else(|| {
        format!("`{}` cannot be a package name", named.name.chars().take(80).collect::<String>())
    })?;
    Artifact::from_parts(Ecosystem::Conda, &name, file, entry).map_err(|e| e.to_string())?;
    Ok(name)
}

/// Turns hashes that a shard holds as arrays of numbers into text, as `repodata.json` has them.
fn hashes_as_text(record: Canonical) -> Canonical {
    // Almost never there, and canonical text has no white space in which it could hide.
    if !["sha256\":[", "md5\":["].iter().any(|key| record.as_str().contains(key)) {
        return record;
    }
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
