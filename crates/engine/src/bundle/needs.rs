//! What has to travel with a snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use airlock_core::advisory::{AdvisoryRecord, FeedHead, FeedKind};
use airlock_core::assess::Statements;
use airlock_core::bundle::Held;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::object::{self, Encoded};
use airlock_core::shard::Shard;
use airlock_core::snapshot::Snapshot;
use airlock_core::trie::{self, TreeId};
use airlock_store::{Db, Packed};

use crate::error::Result;
use crate::trees;

/// Artifacts and what they are called.
pub(super) type NamedBlobs = Vec<(Digest, Box<str>)>;

/// Shards that are held at once.
const SHARDS_AT_ONCE: usize = 500;

/// What a receiver has already.
#[derive(Debug, Default)]
struct Has {
    objects: HashSet<Digest>,
    files: HashSet<Digest>,
    /// What was made of each shard and the facts that are held of it: most of them are the same in the next bundle.
    shards: HashMap<(Digest, Digest), Known>,
}

/// What became of a shard that the receiver has.
#[derive(Debug)]
struct Known {
    id: Id<Facts>,
    artifacts: u64,
    files: Box<[Digest]>,
}

/// The names of artifacts by hash, one of each. There may be very many: they lie one beside the other.
#[derive(Debug, Default)]
struct Named {
    list: NamedBlobs,
    /// How many there were when each was there once.
    distinct: usize,
}

impl Named {
    fn add(&mut self, sha256: Digest, name: Box<str>) {
        // Channels have files in common, mostly all.
        if self.list.len() == self.list.capacity() && self.list.len() > self.distinct * 3 / 2 {
            self.tidy();
        }
        self.list.push((sha256, name));
    }

    fn tidy(&mut self) {
        self.list.sort_unstable();
        self.list.dedup_by(|next, one| next.0 == one.0);
        self.distinct = self.list.len();
    }

    fn into_sorted(mut self) -> NamedBlobs {
        self.tidy();
        self.list
    }
}

/// Everything that something published needs on the other side.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Objects.
    pub objects: BTreeSet<Digest>,
    /// Artifacts.
    files: Named,
    /// What the receiver has: it is not needed.
    has: Has,
    /// Whether it is noted what the receiver has, and not what it needs.
    is_base: bool,
    left_out: HashSet<Digest>,
    /// Threads that may be used.
    threads: usize,
}

/// One package's published facts.
struct Published {
    key: String,
    /// The shard, and the facts that are held.
    from: (Digest, Digest),
    id: Id<Facts>,
    /// Their bytes, where they are not in the store as they are.
    encoded: Option<Encoded>,
    artifacts: u64,
    /// Hash and name.
    files: Vec<(Digest, String)>,
}

impl Needs {
    /// Nothing so far.
    pub fn new(threads: usize) -> Self {
        Self { threads, ..Self::default() }
    }

    /// What a receiver has already: nothing so far.
    pub fn of_base(threads: usize) -> Self {
        Self { threads, is_base: true, ..Self::default() }
    }

    /// What is needed beyond this.
    pub fn beyond(self) -> Self {
        Self { has: self.has, threads: self.threads, ..Self::default() }
    }

    /// Objects, artifacts with their names in the order of their hashes, and how many artifacts the receiver has already. What else
    /// was known is let go of, since a delta knows as much of its base as of itself.
    pub fn into_parts(self) -> (BTreeSet<Digest>, NamedBlobs, u64) {
        (self.objects, self.files.into_sorted(), self.left_out.len() as u64)
    }

    fn add_objects(&mut self, ids: impl IntoIterator<Item = Digest>) {
        if self.is_base {
            self.has.objects.extend(ids);
            return;
        }
        let has = &self.has.objects;
        self.objects.extend(ids.into_iter().filter(|id| !has.contains(id)));
    }

    fn add_file(&mut self, sha256: Digest, name: String) {
        if self.is_base {
            self.has.files.insert(sha256);
            return;
        }
        if self.has.files.contains(&sha256) {
            self.left_out.insert(sha256);
            return;
        }
        self.files.add(sha256, name.into());
    }

    /// What a snapshot needs: what it publishes, and why the rest was left out.
    /// Gives the root of the facts that travel with it, and how many artifacts it publishes.
    pub async fn add_snapshot(&mut self, db: &Db, id: Id<Snapshot>) -> Result<(TreeId<Id<Facts>>, u64)> {
        let snapshot: Snapshot = db.get(id).await?;
        self.add_objects([id.digest()]);
        self.add_tree_of(db, snapshot.judgement).await?;
        let (nodes, shards) = trees::walk::<Id<Shard>>(db, snapshot.content).await?;
        self.add_objects(nodes);
        self.add_objects(shards.values().map(Id::digest));
        let held = trees::load::<Id<Facts>>(db, snapshot.inputs.facts).await?;
        let (ids, artifacts) = self.add_facts(db, &shards, &held).await?;
        let (root, nodes) = trie::build(&ids)?;
        self.add_objects(nodes.iter().map(|n| n.digest));
        self.add_objects(ids.into_values().map(|id| id.digest()));
        db.put_many(&nodes).await?;
        Ok((root, artifacts))
    }

    /// What is held of a channel and carried all the same.
    pub async fn add_held(&mut self, db: &Db, held: &Held) -> Result<()> {
        let (nodes, shards) = trees::walk::<Id<Shard>>(db, held.shards).await?;
        self.add_objects(nodes);
        self.add_objects(shards.into_values().map(|id| id.digest()));
        let (nodes, facts) = trees::walk::<Id<Facts>>(db, held.facts).await?;
        self.add_objects(nodes);
        for id in facts.into_values() {
            self.add_objects([id.digest()]);
            let facts: Facts = db.get(id).await?;
            for (name, sha256) in files_of(facts) {
                self.add_file(sha256, name);
            }
        }
        Ok(())
    }

    /// Facts of what is published, and of nothing else: what was left out stays on this side.
    async fn add_facts(
        &mut self,
        db: &Db,
        shards: &BTreeMap<String, Id<Shard>>,
        held: &BTreeMap<String, Id<Facts>>,
    ) -> Result<(BTreeMap<String, Id<Facts>>, u64)> {
        let (mut ids, mut artifacts) = (BTreeMap::new(), 0);
        let both: Vec<(&String, Id<Shard>, Id<Facts>)> =
            shards.iter().filter_map(|(key, shard)| Some((key, *shard, *held.get(key)?))).collect();
        let both = self.without_known(both, &mut ids, &mut artifacts);
        for chunk in both.chunks(SHARDS_AT_ONCE) {
            let shards: Vec<Id<Shard>> = chunk.iter().map(|(_, id, _)| *id).collect();
            let facts: Vec<Id<Facts>> = chunk.iter().map(|(.., id)| *id).collect();
            let shards = by_digest(trees::packed(db, &shards).await?);
            let facts = by_digest(trees::packed(db, &facts).await?);
            let task = |(key, shard, held): &(&String, Id<Shard>, Id<Facts>)| {
                let shard = shards.get(&shard.digest())?.clone();
                Some(((*key).clone(), shard, *held, facts.get(&held.digest())?.clone()))
            };
            let tasks: Vec<_> = chunk.iter().filter_map(task).collect();
            let done = trees::on_threads(self.threads, tasks, |(key, shard, held, facts)| {
                published(key, &shard, held, &facts)
            })
            .await?;
            let mut fresh = Vec::new();
            for one in done {
                artifacts += one.artifacts;
                ids.insert(one.key, one.id);
                fresh.extend(one.encoded);
                if self.is_base {
                    let files: Box<[Digest]> = one.files.into_iter().map(|(sha256, _)| sha256).collect();
                    self.has.files.extend(&files);
                    let known = Known { id: one.id, artifacts: one.artifacts, files };
                    self.has.shards.insert(one.from, known);
                    continue;
                }
                for (sha256, name) in one.files {
                    self.add_file(sha256, name);
                }
            }
            db.put_many(&fresh).await?;
        }
        Ok((ids, artifacts))
    }

    /// A tree with all that it names. Whoever has a node of it has what is below, too.
    async fn add_tree_of<T>(&mut self, db: &Db, root: TreeId<Id<T>>) -> Result<()> {
        let (nodes, named) = trees::walk_beyond(db, root, &self.has.objects).await?;
        self.add_objects(nodes);
        self.add_objects(named.into_values().map(|id| id.digest()));
        Ok(())
    }

    /// Of these shards with their facts, those that the receiver has not; what it has is counted.
    fn without_known<'a>(
        &mut self,
        both: Vec<(&'a String, Id<Shard>, Id<Facts>)>,
        ids: &mut BTreeMap<String, Id<Facts>>,
        artifacts: &mut u64,
    ) -> Vec<(&'a String, Id<Shard>, Id<Facts>)> {
        let mut rest = Vec::new();
        for (key, shard, held) in both {
            match self.has.shards.get(&(shard.digest(), held.digest())) {
                Some(known) => {
                    ids.insert(key.clone(), known.id);
                    *artifacts += known.artifacts;
                    if !self.is_base {
                        self.left_out.extend(&known.files);
                    }
                }
                None => rest.push((key, shard, held)),
            }
        }
        rest
    }

    /// What a feed needs.
    pub async fn add_feed(&mut self, db: &Db, head: &FeedHead) -> Result<()> {
        match head.kind {
            FeedKind::Osv | FeedKind::Nvd | FeedKind::Cve | FeedKind::Openssl | FeedKind::Curl => {
                self.add_tree_of::<AdvisoryRecord>(db, head.records()).await?;
            }
            FeedKind::Identities => {
                let root = TreeId::<Identity>::new(head.content);
                let (nodes, _) = trees::walk_beyond(db, root, &self.has.objects).await?;
                self.add_objects(nodes);
            }
            FeedKind::Vex => {
                self.add_tree_of::<Statements>(db, TreeId::new(head.content)).await?;
            }
            FeedKind::Kev | FeedKind::Epss => self.add_objects([head.content]),
        }
        Ok(())
    }
}

fn by_digest(packed: Vec<Packed>) -> BTreeMap<Digest, Packed> {
    packed.into_iter().map(|p| (p.digest(), p)).collect()
}

fn published(key: String, packed: &Packed, held: Id<Facts>, facts: &Packed) -> Result<Published> {
    let from = (packed.digest(), held.digest());
    let shard: Shard = packed.read(object::decode)??;
    let mut facts: Facts = facts.read(object::decode)??;
    let all = facts.files.len();
    facts.files.retain(|file, _| shard.entries.contains_key(file));
    // What a sender held and a person here let in is offered by this station.
    let is_ours = std::mem::take(&mut facts.held).is_empty();
    let artifacts = facts.files.len() as u64;
    // Mostly all of it is published, and the facts go as they are.
    let (id, encoded) = match is_ours && facts.files.len() == all {
        true => (held, None),
        false => {
            let (id, encoded) = object::encode(&facts)?;
            (id, Some(encoded))
        }
    };
    let files = files_of(facts).map(|(name, sha256)| (sha256, name)).collect();
    Ok(Published { key, from, id, encoded, artifacts, files })
}

/// The bytes that facts name, with what they are called.
fn files_of(facts: Facts) -> impl Iterator<Item = (String, Digest)> {
    facts.files.into_iter().filter_map(|(name, fact)| Some((name, fact.file?))).flat_map(|(name, file)| {
        let metadata = file.metadata.map(|digest| (format!("{name}.metadata"), digest));
        metadata.into_iter().chain([(name, file.sha256)])
    })
}
