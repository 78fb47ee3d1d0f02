//! Writing evidence. Objects are read some at a time and held against their names, since what lies in the database under a name
//! may have been changed; what stands in the file is signed by the station.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::advisory::AdvisorySet;
use airlock_core::decision::Decisions;
use airlock_core::evidence::{FORMAT, Manifest, Part, Station as Whose, part};
use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Object};
use airlock_core::policy::PolicyText;
use airlock_core::trie::{Node, TreeId};
use airlock_store::StoreError;

use super::archive::Archive;
use super::bills::{self, Trees};
use super::proof::{self, Proof, Wanted};
use super::readme::readme;
use super::summary::Summary;
use crate::boxed;
use crate::error::{Error, Result};
use crate::ledger::RESTORE;
use crate::progress::Unit;
use crate::station::Station;
use crate::view::ChannelView;

/// Names whose objects are held at once.
pub(super) const NAMES_AT_ONCE: usize = 100;

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// What the file says of itself.
    pub manifest: Manifest,
    /// Bytes of the file.
    pub bytes: u64,
    /// Files that are published.
    pub components: u64,
}

/// A snapshot of which evidence is written.
pub(super) struct Source<'a> {
    pub station: &'a Station,
    pub channel: &'a ChannelView,
    pub decisions: Decisions,
    pub feeds: AdvisorySet,
    pub policy: PolicyText,
    pub proof: Proof,
}

struct Writing<'a> {
    source: Source<'a>,
    archive: Archive,
}

/// Writes evidence of a snapshot to `file`. `page` makes the summary for people.
///
/// # Errors
///
/// The answer is no where the ledger does not tell of the snapshot, or an object is not what its name says.
pub async fn write(
    station: &Station,
    channel: &ChannelView,
    file: &Path,
    page: impl FnOnce(&Summary) -> Result<String>,
) -> Result<Written> {
    let db = &station.store.db;
    let inputs = &channel.snapshot.inputs;
    let (decisions, policy): (Decisions, PolicyText) =
        (db.get(inputs.decisions).await?, db.get(inputs.policy).await?);
    let wanted = Wanted {
        channel: &channel.channel.name,
        id: channel.id,
        policy: inputs.policy,
        decisions: &decisions.list,
    };
    let proof = proof::find(station, wanted).await?;
    let feeds = db.get(inputs.advisories).await?;
    let source = Source { station, channel, decisions, feeds, policy, proof };
    let mut writing = Writing { source, archive: Archive::create(file)? };
    let (components, summary) = writing.parts().await?;
    let page = page(&summary)?;
    writing.archive.part(part::SUMMARY)?;
    writing.archive.put(page.as_bytes())?;
    let mut manifest = writing.source.manifest();
    let signed = |parts: Vec<Part>| {
        manifest.parts = parts;
        manifest.clone()
    };
    let bytes = writing.archive.finish(signed, &station.key)?;
    Ok(Written { manifest, bytes, components })
}

impl Source<'_> {
    fn manifest(&self) -> Manifest {
        Manifest {
            channel: self.channel.channel.name.clone(),
            content: self.channel.snapshot.content,
            ecosystem: self.channel.snapshot.ecosystem,
            format: FORMAT,
            ledger: self.proof.head,
            parts: Vec::new(),
            published: self.proof.published,
            snapshot: self.channel.id,
            station: Whose {
                name: self.station.config.name.clone(),
                public_key: self.station.key.public_hex(),
            },
            time: self.channel.snapshot.inputs.now,
        }
    }
}

impl Writing<'_> {
    /// Writes all parts but the page.
    #[boxed]
    async fn parts(&mut self) -> Result<(u64, Summary)> {
        let snapshot = self.source.channel.snapshot.clone();
        let readme = readme(&self.source.manifest(), &self.source.station.key.fingerprint());
        self.archive.part(part::README)?;
        self.archive.put(readme.as_bytes())?;
        self.inputs().await?;
        self.archive.part(part::CONTENT)?;
        let content = self.tree(snapshot.content).await?;
        self.objects(content.values().copied().collect()).await?;
        self.archive.part(part::JUDGEMENTS)?;
        let judgements = self.tree(snapshot.judgement).await?;
        self.objects(judgements.values().copied().collect()).await?;
        self.archive.part(part::FACTS)?;
        let mut facts = self.tree(snapshot.inputs.facts).await?;
        facts.retain(|key, _| content.contains_key(key));
        self.objects(facts.values().copied().collect()).await?;
        self.archive.part(part::LEDGER)?;
        proof::write(self.source.station, &mut self.archive, self.source.proof).await?;
        let trees = Trees { content, judgements, facts };
        bills::write(&self.source, &mut self.archive, &trees).await
    }

    /// The snapshot, and what it names as its inputs, but for the trees.
    async fn inputs(&mut self) -> Result<()> {
        let inputs = &self.source.channel.snapshot.inputs;
        let (id, upstream) = (self.source.channel.id, inputs.upstream);
        let all = [
            id.digest(),
            upstream.digest(),
            inputs.advisories.digest(),
            inputs.policy.digest(),
            inputs.decisions.digest(),
        ];
        self.archive.part(part::INPUTS)?;
        self.lines(&all).await.map(drop)
    }

    /// Writes objects in this order. Gives their bytes.
    async fn lines(&mut self, ids: &[Digest]) -> Result<Vec<Arc<[u8]>>> {
        let found = self.source.station.store.db.get_many(ids).await?;
        let mut out = Vec::with_capacity(ids.len());
        for id in ids {
            let bytes = found.get(id).ok_or(StoreError::MissingObject(*id))?.clone();
            if Digest::of(&bytes) != *id {
                let short = id.short();
                return Err(Error::no(format!("object {short} was changed: it is not what its name says"))
                    .hint(RESTORE));
            }
            self.archive.line(&bytes)?;
            out.push(bytes);
        }
        Ok(out)
    }

    /// Writes the nodes of a tree, level by level. Gives its entries.
    async fn tree<V>(&mut self, root: TreeId<V>) -> Result<BTreeMap<String, V>>
    where
        V: Clone + Serialize + DeserializeOwned,
    {
        let (mut map, mut level) = (BTreeMap::new(), vec![root.digest()]);
        while !level.is_empty() {
            let mut next = Vec::new();
            for chunk in level.chunks(NAMES_AT_ONCE) {
                for bytes in self.lines(chunk).await? {
                    match object::decode::<Node<V>>(&bytes)? {
                        Node::Leaf(entries) => map.extend(entries),
                        Node::Branch(children) => next.extend(children.values().map(Id::digest)),
                    }
                }
            }
            level = next;
        }
        Ok(map)
    }

    async fn objects<T: Object>(&mut self, ids: Vec<Id<T>>) -> Result<()> {
        let ids: Vec<Digest> = ids.iter().map(Id::digest).collect();
        let task = self.source.station.options.progress.task(
            "writing objects",
            Unit::Objects,
            Some(ids.len() as u64),
        );
        for chunk in ids.chunks(NAMES_AT_ONCE) {
            self.lines(chunk).await?;
            task.add(chunk.len() as u64);
        }
        Ok(())
    }
}
