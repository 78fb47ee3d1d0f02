//! What has to travel with a snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::advisory::{AdvisoryRecord, FeedHead, FeedKind};
use airlock_core::assess::Statements;
use airlock_core::bundle::{BundledFile, Files, Held};
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::object::{self, Encoded};
use airlock_core::place::FilePath;
use airlock_core::shard::Shard;
use airlock_core::snapshot::Snapshot;
use airlock_core::trie::TreeId;
use airlock_store::{Db, Packed};

use super::cut;
use crate::error::Result;
use crate::tree_edit::{self, Growing};
use crate::trees::{self, Pieces};

/// Shards that are held at once.
const SHARDS_AT_ONCE: usize = 500;
/// Fewer artifacts are not looked through for those that are there twice.
const TIDIED_MIN: usize = 1 << 16;

/// What a receiver has already.
#[derive(Debug, Default)]
struct Has {
    objects: HashSet<Digest>,
    files: Had,
    /// What was made of each shard and the facts that are held of it: most of them are the same in the next bundle.
    shards: HashMap<(Digest, Digest), Known>,
}

/// What became of a shard that the receiver has.
#[derive(Debug)]
struct Known {
    id: Id<Facts>,
    artifacts: u64,
    /// Where they stand in the list of all.
    files: Range<usize>,
}

/// The artifacts that a receiver has. A delta needs as many of them as a full export lists: they lie one beside the other.
#[derive(Debug, Default)]
struct Had {
    /// Their hashes as they were found, some of them several times.
    list: Vec<Digest>,
    /// For each where in the list it stands first, as far as it was put in order.
    first: Vec<u32>,
    /// Where in the list each of them stands, once, in the order of the hashes.
    order: Vec<u32>,
}

impl Had {
    /// All of them were found.
    fn put_in_order(&mut self) {
        let list = &self.list;
        let hash = |at: &u32| list.get(*at as usize);
        let mut order: Vec<u32> = (0u32..).take(list.len()).collect();
        order.sort_unstable_by(|one, other| hash(one).cmp(&hash(other)).then(one.cmp(other)));
        let mut first = vec![0; list.len()];
        for same in order.chunk_by(|one, other| hash(one) == hash(other)) {
            for at in same {
                first[*at as usize] = same[0];
            }
        }
        order.retain(|at| first[*at as usize] == *at);
        (self.first, self.order) = (first, order);
    }

    /// Where in the list an artifact stands first.
    fn find(&self, sha256: Digest) -> Option<usize> {
        let hash = |at: &u32| self.list.get(*at as usize);
        let at = self.order.binary_search_by(|at| hash(at).cmp(&Some(&sha256))).ok()?;
        self.order.get(at).map(|at| *at as usize)
    }
}

/// Artifacts, one of each content, of which it is not known yet how large they are.
#[derive(Debug, Default)]
struct Named {
    files: Files,
    /// How many there were when each was there once.
    distinct: usize,
}

impl Named {
    fn add(&mut self, sha256: Digest, name: &str) -> Result<()> {
        // Channels have files in common, mostly all.
        if self.files.len() >= TIDIED_MIN.max(self.distinct * 2) {
            self.tidy();
        }
        let path = FilePath::of(sha256, name);
        let file = BundledFile { name: name.into(), path, sha256, size: 0, volume: None };
        self.files.push(&file).map_err(cut::unlisted)
    }

    fn tidy(&mut self) {
        self.files.keep_one_of_each();
        self.distinct = self.files.len();
    }

    fn into_sorted(mut self) -> Files {
        self.tidy();
        self.files
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
    /// Which of the receiver's artifacts are needed, by where in the list they stand first.
    left_out: Vec<bool>,
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
    pub fn beyond(mut self) -> Self {
        self.has.files.put_in_order();
        let left_out = vec![false; self.has.files.list.len()];
        Self { has: self.has, left_out, threads: self.threads, ..Self::default() }
    }

    /// Objects, artifacts in the order of their hashes, and how many artifacts the receiver has already. What else
    /// was known is let go of, since a delta knows as much of its base as of itself.
    pub fn into_parts(self) -> (BTreeSet<Digest>, Files, u64) {
        let left_out = self.left_out.iter().filter(|is_left_out| **is_left_out).count();
        (self.objects, self.files.into_sorted(), left_out as u64)
    }

    fn add_objects(&mut self, ids: impl IntoIterator<Item = Digest>) {
        if self.is_base {
            self.has.objects.extend(ids);
            return;
        }
        let has = &self.has.objects;
        self.objects.extend(ids.into_iter().filter(|id| !has.contains(id)));
    }

    fn add_file(&mut self, sha256: Digest, name: &str) -> Result<()> {
        if self.is_base {
            self.has.files.list.push(sha256);
            return Ok(());
        }
        if let Some(at) = self.has.files.find(sha256) {
            self.left_out[at] = true;
            return Ok(());
        }
        self.files.add(sha256, name)
    }

    /// What a snapshot needs: what it publishes, and why the rest was left out.
    /// Gives the root of the facts that travel with it, and how many artifacts it publishes.
    pub async fn add_snapshot(&mut self, db: &Db, id: Id<Snapshot>) -> Result<(TreeId<Id<Facts>>, u64)> {
        let snapshot: Snapshot = db.get(id).await?;
        self.add_objects([id.digest()]);
        self.add_tree_of(db, snapshot.judgement).await?;
        let (mut facts, mut artifacts) = (Growing::of(None), 0);
        let mut pieces = Pieces::of(snapshot.content);
        while let Some(piece) = pieces.next(db).await? {
            self.add_objects(piece.nodes);
            self.add_objects(piece.entries.values().map(Id::digest));
            let keys = piece.entries.keys().map(String::as_str);
            let held = tree_edit::find_many(db, snapshot.inputs.facts, keys).await?;
            let both = piece.entries.iter().filter_map(|(key, shard)| Some((key, *shard, *held.get(key)?)));
            let mut ids = Vec::new();
            artifacts += self.add_facts(db, both.collect(), &mut ids).await?;
            self.add_objects(ids.iter().map(|(_, id)| id.digest()));
            facts.put(db, ids).await?;
        }
        let root = facts.end(db).await?;
        self.add_nodes(db, root).await?;
        Ok((root, artifacts))
    }

    /// What is held of a channel and carried all the same.
    pub async fn add_held(&mut self, db: &Db, held: &Held) -> Result<()> {
        let mut shards = Pieces::of(held.shards);
        while let Some(piece) = shards.next(db).await? {
            self.add_objects(piece.nodes);
            self.add_objects(piece.entries.into_values().map(|id| id.digest()));
        }
        let mut facts = Pieces::of(held.facts);
        while let Some(piece) = facts.next(db).await? {
            self.add_objects(piece.nodes);
            for id in piece.entries.into_values() {
                self.add_objects([id.digest()]);
                let facts: Facts = db.get(id).await?;
                for (name, sha256) in files_of(facts) {
                    self.add_file(sha256, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Facts of what is published, and of nothing else, by these shards and the facts that are held of them: what was left out stays on
    /// this side. Gives how many artifacts that is.
    async fn add_facts(
        &mut self,
        db: &Db,
        both: Vec<(&String, Id<Shard>, Id<Facts>)>,
        ids: &mut Vec<(String, Id<Facts>)>,
    ) -> Result<u64> {
        let mut artifacts = 0;
        let both = self.without_known(both, ids, &mut artifacts);
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
                ids.push((one.key, one.id));
                fresh.extend(one.encoded);
                if self.is_base {
                    let list = &mut self.has.files.list;
                    let before = list.len();
                    list.extend(one.files.into_iter().map(|(sha256, _)| sha256));
                    let files = before..list.len();
                    let known = Known { id: one.id, artifacts: one.artifacts, files };
                    self.has.shards.insert(one.from, known);
                    continue;
                }
                for (sha256, name) in one.files {
                    self.add_file(sha256, &name)?;
                }
            }
            db.put_many(&fresh).await?;
        }
        Ok(artifacts)
    }

    /// A tree with all that it names. Whoever has a node of it has what is below, too.
    async fn add_tree_of<T>(&mut self, db: &Db, root: TreeId<Id<T>>) -> Result<()> {
        let mut pieces = Pieces::of(root);
        while let Some(piece) = pieces.next_beyond(db, &self.has.objects).await? {
            self.add_objects(piece.nodes);
            self.add_objects(piece.entries.into_values().map(|id| id.digest()));
        }
        Ok(())
    }

    /// A tree without what it names.
    async fn add_nodes<V>(&mut self, db: &Db, root: TreeId<V>) -> Result<()>
    where
        V: Clone + Serialize + DeserializeOwned,
    {
        let mut pieces = Pieces::of(root);
        while let Some(piece) = pieces.next_beyond(db, &self.has.objects).await? {
            self.add_objects(piece.nodes);
        }
        Ok(())
    }

    /// Of these shards with their facts, those that the receiver has not; what it has is counted.
    fn without_known<'a>(
        &mut self,
        both: Vec<(&'a String, Id<Shard>, Id<Facts>)>,
        ids: &mut Vec<(String, Id<Facts>)>,
        artifacts: &mut u64,
    ) -> Vec<(&'a String, Id<Shard>, Id<Facts>)> {
        let mut rest = Vec::new();
        for (key, shard, held) in both {
            match self.has.shards.get(&(shard.digest(), held.digest())) {
                Some(known) => {
                    ids.push((key.clone(), known.id));
                    *artifacts += known.artifacts;
                    if !self.is_base {
                        for first in self.has.files.first.get(known.files.clone()).unwrap_or_default() {
                            self.left_out[*first as usize] = true;
                        }
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
                self.add_nodes(db, TreeId::<Identity>::new(head.content)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_has_is_found_where_it_stood_first_and_counted_once() {
        let of = |n: u8| Digest::of(&[n]);
        let mut base = Needs::of_base(1);
        for n in [5, 1, 5, 3, 1, 5] {
            base.add_file(of(n), "a.conda").unwrap();
        }
        let mut needs = base.beyond();
        assert_eq!(needs.has.files.first, [0, 1, 0, 3, 1, 0]);
        assert_eq!([5, 1, 3, 2].map(|n| needs.has.files.find(of(n))), [Some(0), Some(1), Some(3), None]);
        for n in [2, 5, 5, 1, 2, 4] {
            needs.add_file(of(n), &format!("{n}.conda")).unwrap();
        }
        let (_, files, left_out) = needs.into_parts();
        let mut names: Vec<String> = files.iter().map(|file| file.name.into_owned()).collect();
        names.sort_unstable();
        assert_eq!((names, left_out), (vec!["2.conda".to_owned(), "4.conda".to_owned()], 2));
    }
}
