//! The facts of a channel while files are being fetched.
//!
//! Only the facts of a few shards are in memory; the tree is changed where they changed.

use std::collections::{BTreeMap, HashMap};

use airlock_core::channel::Channel;
use airlock_core::fact::{Fact, Facts, Fault, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_store::{Db, RefChange};

use crate::channel::ref_name;
use crate::error::Result;
use crate::fetch::Fetched;
use crate::station::Station;
use crate::{tree_edit, trees};

/// The facts of one channel, being added to.
pub(crate) struct FactStore {
    channel: String,
    /// What the ref points to.
    from: Option<Digest>,
    root: TreeId<Id<Facts>>,
    now: Time,
    /// Shards whose facts are being changed.
    open: BTreeMap<String, Facts>,
    /// What those that are in memory were when they were read.
    held: BTreeMap<String, Id<Facts>>,
}

impl FactStore {
    /// Opens the facts of a channel.
    pub async fn open(station: &Station, channel: &Channel) -> Result<Self> {
        let db = &station.store.db;
        let from = db.find_ref(&ref_name(&channel.name, "facts")).await?;
        let root = match from {
            Some(id) => TreeId::new(id),
            None => trees::store(db, &BTreeMap::<String, _>::new()).await?,
        };
        let now = station.now().await?;
        let channel = channel.name.clone();
        Ok(Self { channel, from, root, now, open: BTreeMap::new(), held: BTreeMap::new() })
    }

    /// Takes the facts of these shards into memory.
    pub async fn read(&mut self, db: &Db, keys: &[&str]) -> Result<()> {
        let ids = tree_edit::find_many(db, self.root, keys.iter().copied()).await?;
        let list: Vec<Id<Facts>> = ids.values().copied().collect();
        let objects: HashMap<Digest, Facts> = trees::objects(db, &list).await?;
        for (key, id) in ids {
            if let Some(facts) = objects.get(&id.digest()) {
                self.open.insert(key.clone(), facts.clone());
                self.held.insert(key, id);
            }
        }
        Ok(())
    }

    /// Notes when files were seen, if they were not seen before.
    pub fn see<'a>(&mut self, key: &str, files: impl Iterator<Item = &'a String>) {
        let known = self.open.entry(key.to_owned()).or_default();
        for file in files {
            if !known.files.contains_key(file) {
                known.files.insert(file.clone(), Fact { first_seen: self.now, file: None, fault: None });
            }
        }
    }

    /// Notes what fetching a file gave. What was pinned is never overwritten: other bytes under the same name are
    /// noted as a fault.
    pub fn note(&mut self, key: &str, file: &str, result: std::result::Result<FileFact, Fault>) {
        let entry = self.open.entry(key.to_owned()).or_default().files.entry(file.to_owned());
        let held = entry.or_insert(Fact { first_seen: self.now, file: None, fault: None });
        match (result, &held.file) {
            (Ok(new), Some(pinned)) if new.sha256 != pinned.sha256 => {
                held.fault = Some(Fault::Mismatch(format!(
                    "the bytes hash to {}, when it was fetched first to {}",
                    new.sha256, pinned.sha256
                )));
            }
            (Ok(new), _) => {
                held.file = Some(new);
                held.fault = None;
            }
            (Err(fault), _) => held.fault = Some(fault),
        }
    }

    /// Writes what is in memory and lets go of it. The ref does not move yet.
    pub async fn write(&mut self, db: &Db) -> Result<()> {
        let mut encoded = Vec::new();
        let mut changes = BTreeMap::new();
        for (key, facts) in std::mem::take(&mut self.open) {
            let id = trees::encode_into(&facts, &mut encoded)?;
            if self.held.get(&key) != Some(&id) {
                changes.insert(key, Some(id));
            }
        }
        self.held.clear();
        db.put_many(&encoded).await?;
        self.root = tree_edit::edit(db, Some(self.root), &changes).await?;
        Ok(())
    }

    /// Moves the ref to what was written.
    pub async fn commit(&mut self, station: &Station, report: &Fetched) -> Result<()> {
        let to = Some(self.root.digest());
        if self.from == to {
            return Ok(());
        }
        let moved = RefChange { name: ref_name(&self.channel, "facts"), from: self.from, to };
        let (files, faults) = (report.files, report.faults.len());
        let detail = serde_json::json!({"files": files, "bytes": report.bytes, "faults": faults});
        let subject = format!("channel/{}", self.channel);
        station.commit(vec![moved], "channel.fetch", &subject, &detail).await?;
        self.from = to;
        Ok(())
    }
}
