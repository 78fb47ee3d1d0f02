//! Single records: from the text of an index to entries, on as many threads as there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::Scope;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::record::{Artifact, BadRecord};
use airlock_core::shard::Entry;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::hash_text;
use crate::msgpack;
use crate::read::canonical_record;

/// One record as it stands in the text of an index.
pub(super) struct Raw<'t> {
    pub table: String,
    pub file: String,
    pub record: &'t RawValue,
}

/// The canonical name under which an entry belongs, or why it cannot be used.
pub(super) type Prepared = Result<(String, Entry), String>;

/// Reads records in their order.
pub(super) fn prepare_all(records: Vec<Raw<'_>>) -> Vec<(Raw<'_>, Prepared)> {
    let read = |raw| {
        // Whoever waits for the others must not wait for ever for one that broke off.
        let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&raw)));
        let prepared = prepared.unwrap_or_else(|_| Err("it cannot be read".to_owned()));
        (raw, prepared)
    };
    records.into_iter().map(read).collect()
}

/// Records with their number among the batches, before they are read and after.
type Job<'t> = (u64, Vec<Raw<'t>>);
type Done<'t> = (u64, Vec<(Raw<'t>, Prepared)>);

/// Threads that read batches of records. What they read comes back in the order in which it was given.
pub(super) struct Readers<'t> {
    jobs: mpsc::Sender<Job<'t>>,
    done: mpsc::Receiver<Done<'t>>,
    /// What came before its turn.
    early: BTreeMap<u64, Vec<(Raw<'t>, Prepared)>>,
    given: u64,
    taken: u64,
    full: u64,
}

impl<'t> Readers<'t> {
    /// Starts them. They end when this is dropped.
    pub fn start<'s>(scope: &'s Scope<'s, 't>, threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job<'t>>();
        let (out, done) = mpsc::channel::<Done<'t>>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (queue, out) = (queue.clone(), out.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, records)) = next else { return };
                    if out.send((number, prepare_all(records))).is_err() {
                        return;
                    }
                }
            });
        }
        Self { jobs, done, early: BTreeMap::new(), given: 0, taken: 0, full: 2 * threads as u64 }
    }

    /// Gives them a batch.
    pub fn give(&mut self, records: Vec<Raw<'t>>) {
        // They take until this is dropped; if they did not, it would be read here.
        if let Err(mpsc::SendError((number, records))) = self.jobs.send((self.given, records)) {
            self.early.insert(number, prepare_all(records));
        }
        self.given += 1;
    }

    /// Whether all that was given was taken.
    pub fn is_idle(&self) -> bool {
        self.taken == self.given
    }

    /// Whether so much is under way that what is done should be taken first.
    pub fn is_full(&self) -> bool {
        self.given - self.taken > self.full
    }

    /// The next batch, when it is read; none if nothing is under way.
    pub fn take(&mut self) -> Option<Vec<(Raw<'t>, Prepared)>> {
        while self.taken < self.given {
            if let Some(batch) = self.early.remove(&self.taken) {
                self.taken += 1;
                return Some(batch);
            }
            let (number, batch) = self.done.recv().ok()?;
            self.early.insert(number, batch);
        }
        None
    }
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
