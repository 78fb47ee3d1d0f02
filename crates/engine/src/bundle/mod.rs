//! Bundles: what they carry, and what both sides remember of them.

pub mod export;
pub mod import;
pub mod receipt;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{AdvisoryRecord, FeedHead, FeedKind};
use airlock_core::bundle::{Base, BundledFile, file_path};
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::ledger::LedgerHead;
use airlock_core::object::Object;
use airlock_core::shard::Shard;
use airlock_core::snapshot::Snapshot;
use airlock_core::trie::TreeId;
use airlock_core::verdict::Judgement;
use airlock_store::Db;

use crate::error::Result;
use crate::trees;

/// One bundle that was written: enough to make the next one a delta against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Its number and manifest.
    pub bundle: Base,
    /// The snapshots that it brought.
    pub channels: BTreeMap<String, Id<Snapshot>>,
    /// The feeds that it brought.
    pub feeds: BTreeMap<String, FeedHead>,
}

/// What a sender remembers of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportState {
    /// Every bundle, oldest first.
    pub bundles: Vec<Exported>,
}

impl Object for ExportState {
    const KIND: &'static str = "airlock.export-state.v1";
}

/// What a receiver remembers of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    /// Every bundle that was taken in, oldest first.
    pub bundles: Vec<Base>,
    /// The key that signed the last one.
    pub public_key: String,
    /// Where the sender's ledger stood.
    pub ledger: LedgerHead,
}

impl Object for ImportState {
    const KIND: &'static str = "airlock.import-state.v1";
}

/// Everything that something published needs on the other side.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Objects.
    pub objects: BTreeSet<Digest>,
    /// Artifacts, by hash.
    pub files: BTreeMap<Digest, BundledFile>,
}

impl Needs {
    /// What a snapshot needs: what it publishes, and why the rest was left out.
    /// Gives the root of the facts that travel with it, and how many artifacts it publishes.
    pub async fn add_snapshot(&mut self, db: &Db, id: Id<Snapshot>) -> Result<(TreeId<Id<Facts>>, u64)> {
        let snapshot: Snapshot = db.get(id).await?;
        self.objects.insert(id.digest());
        let (nodes, judgements) = trees::walk::<Id<Judgement>>(db, snapshot.judgement).await?;
        self.objects.extend(nodes);
        self.objects.extend(judgements.values().map(Id::digest));
        let (nodes, shards) = trees::walk::<Id<Shard>>(db, snapshot.content).await?;
        self.objects.extend(nodes);
        self.objects.extend(shards.values().map(Id::digest));
        // Facts of what is published, and of nothing else: what was left out stays on this side.
        let all = trees::load::<Id<Facts>>(db, snapshot.inputs.facts).await?;
        let facts = published_facts(db, &shards, &all).await?;
        let artifacts = facts.values().map(|f| f.files.len() as u64).sum();
        for facts in facts.values() {
            for (name, fact) in &facts.files {
                let Some(file) = &fact.file else { continue };
                self.add_file(file.sha256, file.size, name);
                if let Some(metadata) = file.metadata {
                    self.add_file(metadata, 0, &format!("{name}.metadata"));
                }
            }
        }
        let root = trees::store_all(db, &facts).await?;
        let (nodes, ids) = trees::walk::<Id<Facts>>(db, root).await?;
        self.objects.extend(nodes);
        self.objects.extend(ids.values().map(Id::digest));
        Ok((root, artifacts))
    }

    fn add_file(&mut self, sha256: Digest, size: u64, name: &str) {
        let file = BundledFile { path: file_path(sha256, name), sha256, size, name: name.to_owned() };
        self.files.entry(sha256).or_insert(file);
    }

    /// What a feed needs.
    pub async fn add_feed(&mut self, db: &Db, head: &FeedHead) -> Result<()> {
        match head.kind {
            FeedKind::Osv | FeedKind::Nvd => {
                let (nodes, records) = trees::walk::<Id<AdvisoryRecord>>(db, head.records()).await?;
                self.objects.extend(nodes);
                self.objects.extend(records.values().map(Id::digest));
            }
            FeedKind::Identities => {
                let (nodes, _) = trees::walk::<Identity>(db, TreeId::new(head.content)).await?;
                self.objects.extend(nodes);
            }
            FeedKind::Kev | FeedKind::Epss => {
                self.objects.insert(head.content);
            }
        }
        Ok(())
    }
}

/// The facts of what is published.
pub(crate) async fn published_facts(
    db: &Db,
    shards: &BTreeMap<String, Id<Shard>>,
    facts: &BTreeMap<String, Id<Facts>>,
) -> Result<BTreeMap<String, Facts>> {
    let mut out = BTreeMap::new();
    let keys: Vec<(&String, &Id<Shard>)> = shards.iter().collect();
    for chunk in keys.chunks(1000) {
        let shard_ids: Vec<Id<Shard>> = chunk.iter().map(|(_, id)| **id).collect();
        let fact_ids: Vec<Id<Facts>> = chunk.iter().filter_map(|(key, _)| facts.get(*key).copied()).collect();
        let shards = trees::objects(db, &shard_ids).await?;
        let known = trees::objects(db, &fact_ids).await?;
        for (key, id) in chunk {
            let held = facts.get(*key).and_then(|id| known.get(&id.digest()));
            let (Some(shard), Some(held)) = (shards.get(&id.digest()), held) else { continue };
            let files = held.files.iter().filter(|(file, _)| shard.entries.contains_key(*file));
            out.insert(
                (*key).clone(),
                Facts { files: files.map(|(f, fact)| (f.clone(), fact.clone())).collect() },
            );
        }
    }
    Ok(out)
}
