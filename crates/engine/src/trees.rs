//! Trees of the store as maps, and many objects at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Encoded, Object};
use airlock_core::trie::{self, Node, TreeId};
use airlock_store::{Db, Packed, StoreError};

use crate::error::{Error, Result, joined};

/// Nodes that are held at once while keys are looked up or trees compared.
pub(crate) const NODES_AT_ONCE: usize = 128;
/// Nodes that are read at once of a tree of which nobody needs more: a few thousand entries.
const NODES_OF_PIECE: usize = 8;
/// Bytes of nodes, as they lie in the database, that are written at once.
const BYTES_AT_ONCE: usize = 1 << 20;

/// Reads a whole tree.
pub async fn load<V>(db: &Db, root: TreeId<V>) -> Result<BTreeMap<String, V>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let (mut map, mut pieces) = (BTreeMap::new(), Pieces::of(root));
    while let Some(piece) = pieces.next(db).await? {
        map.extend(piece.entries);
    }
    Ok(map)
}

/// A tree that is read a few nodes at a time, for whoever needs no more of it at once. It is not larger than what is stored: no node is
/// read twice.
pub(crate) struct Pieces<V> {
    /// What is read next, the last first.
    pending: Vec<TreeId<V>>,
    seen: HashSet<Digest>,
}

/// Some nodes of a tree, and the entries of those that are leaves.
pub(crate) struct Piece<V> {
    /// What was read.
    pub nodes: Vec<Digest>,
    /// What stands there.
    pub entries: BTreeMap<String, V>,
}

impl<V> Pieces<V>
where
    V: Clone + Serialize + DeserializeOwned,
{
    /// Of a tree of which nothing was read yet.
    pub fn of(root: TreeId<V>) -> Self {
        Self { pending: vec![root], seen: HashSet::new() }
    }

    /// The next piece, if there is one.
    pub async fn next(&mut self, db: &Db) -> Result<Option<Piece<V>>> {
        self.next_beyond(db, &HashSet::new()).await
    }

    /// The same without these nodes, and without all below them.
    pub async fn next_beyond(&mut self, db: &Db, known: &HashSet<Digest>) -> Result<Option<Piece<V>>> {
        let (mut nodes, mut entries) = (Vec::new(), BTreeMap::new());
        while nodes.len() < NODES_OF_PIECE
            && let Some(id) = self.pending.pop()
        {
            if known.contains(&id.digest()) {
                continue;
            }
            if !self.seen.insert(id.digest()) {
                return Err(in_several_places(id.digest()).into());
            }
            nodes.push(id.digest());
        }
        if nodes.is_empty() {
            return Ok(None);
        }
        let mut read = db.get_many(&nodes).await?;
        for id in &nodes {
            let bytes = read.remove(id).ok_or(StoreError::MissingObject(*id))?;
            match object::decode::<Node<V>>(&bytes)? {
                Node::Leaf(leaf) => entries.extend(leaf),
                Node::Branch(children) => self.pending.extend(children.into_values()),
            }
        }
        Ok(Some(Piece { nodes, entries }))
    }
}

/// Sub-tries of one tree hold different keys. One that stands in several places is nothing that this program wrote: whoever follows
/// it everywhere reads few nodes without an end.
pub(crate) fn in_several_places(node: Digest) -> StoreError {
    StoreError::Corrupt(format!("a tree has the node {node} in several places"))
}

/// Builds a tree of entries, each key once, and writes its nodes while the next ones are made.
pub async fn store<'a, K, V>(db: &Db, entries: impl IntoIterator<Item = (&'a K, &'a V)>) -> Result<TreeId<V>>
where
    K: AsRef<str> + ?Sized + Sync + 'a,
    V: Clone + Serialize + DeserializeOwned + Sync + 'a,
{
    store_by(db, entries, trie::copied).await
}

/// The same with something by which each value is found.
pub(crate) async fn store_by<'a, K, T, V>(
    db: &Db,
    entries: impl IntoIterator<Item = (&'a K, T)>,
    value: impl Fn(&T) -> Result<V>,
) -> Result<TreeId<V>>
where
    K: AsRef<str> + ?Sized + Sync + 'a,
    V: Clone + Serialize + DeserializeOwned,
{
    let mut building = trie::Building::of(entries);
    let (mut writing, mut nodes, mut bytes) = (Writing::default(), Vec::new(), 0);
    while let Some(node) = building.next(&value)? {
        let packed = Packed::of(&node)?;
        bytes += packed.size();
        nodes.push(packed);
        if bytes >= BYTES_AT_ONCE {
            writing.next(db, std::mem::take(&mut nodes)).await?;
            bytes = 0;
        }
    }
    writing.next(db, nodes).await?;
    writing.end().await?;
    Ok(building.root())
}

/// Writes objects and the tree that names them.
pub async fn store_all<T: Object>(db: &Db, objects: &BTreeMap<String, T>) -> Result<TreeId<Id<T>>> {
    let mut encoded = Vec::new();
    let mut ids = BTreeMap::new();
    for (key, value) in objects {
        ids.insert(key.clone(), encode_into(value, &mut encoded)?);
    }
    db.put_many(&encoded).await?;
    store(db, &ids).await
}

/// Reads many objects of one kind; all of them must be there.
pub async fn objects<T: Object>(db: &Db, ids: &[Id<T>]) -> Result<HashMap<Digest, T>> {
    let packed = packed(db, ids).await?;
    let mut out = HashMap::with_capacity(packed.len());
    for one in packed {
        out.insert(one.digest(), object::decode(&one.unpack()?)?);
    }
    Ok(out)
}

/// The same, packed, for callers who unpack on several threads.
pub async fn packed<T: Object>(db: &Db, ids: &[Id<T>]) -> Result<Vec<Packed>> {
    let mut digests: Vec<Digest> = ids.iter().map(Id::digest).collect();
    digests.sort_unstable();
    digests.dedup();
    let found = db.get_packed(&digests).await?;
    if found.len() < digests.len() {
        let there: HashSet<Digest> = found.iter().map(Packed::digest).collect();
        let missing = digests.into_iter().find(|d| !there.contains(d));
        return Err(missing
            .map_or_else(|| Error::fault("an object is missing"), |d| StoreError::MissingObject(d).into()));
    }
    Ok(found)
}

/// Does one piece of work per item on up to `threads` threads; the answers come in the order of the items. The threads
/// are the runtime's, which keep what they allocated from one call to the next.
pub async fn on_threads<T, R>(
    threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Send + Sync + 'static,
) -> Result<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let count = items.len();
    let (queue, work) = (Arc::new(Mutex::new(items.into_iter().enumerate())), Arc::new(work));
    let worker = || {
        let (queue, work) = (queue.clone(), work.clone());
        move || -> Result<Vec<(usize, R)>> {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((at, item)) = next else { return Ok(done) };
                done.push((at, work(item)?));
            }
        }
    };
    let workers: Vec<_> =
        (0..threads.max(1).min(count)).map(|_| tokio::task::spawn_blocking(worker())).collect();
    let mut all: Vec<(usize, R)> = Vec::with_capacity(count);
    for worker in workers {
        all.extend(joined(worker.await)?);
    }
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

/// Encodes an object and keeps its bytes for the next batch.
pub fn encode_into<T: Object>(value: &T, into: &mut Vec<Encoded>) -> Result<Id<T>> {
    let (id, encoded) = object::encode(value)?;
    into.push(encoded);
    Ok(id)
}

/// Objects on their way into the database while the next ones are being made. Dropped early, it loses nothing but
/// what nobody refers to yet.
#[derive(Default)]
pub struct Writing(Option<tokio::task::JoinHandle<std::result::Result<(), StoreError>>>);

impl Writing {
    /// Writes these once those before them are written.
    pub async fn next(&mut self, db: &Db, objects: Vec<Packed>) -> Result<()> {
        self.wait().await?;
        let db = db.clone();
        self.0 = Some(tokio::spawn(async move { db.put_packed(objects).await }));
        Ok(())
    }

    /// Waits until all is written.
    pub async fn end(mut self) -> Result<()> {
        self.wait().await
    }

    async fn wait(&mut self) -> Result<()> {
        match self.0.take() {
            Some(task) => joined(task.await.map(|done| done.map_err(Error::from))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree_edit;

    async fn put(db: &Db, node: &Node<u32>) -> TreeId<u32> {
        db.put(node).await.unwrap()
    }

    #[tokio::test]
    async fn a_tree_of_more_than_is_written_at_once_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db"), true).await.unwrap();
        // Digits that do not pack to less than half.
        let digits =
            |n: usize| (0..8).map(|part| Digest::of(format!("{n} {part}").as_bytes()).to_string()).collect();
        let all: BTreeMap<String, String> = (0..9000).map(|n| (format!("name-{n}"), digits(n))).collect();
        assert!(all.values().map(String::len).sum::<usize>() > 4 * BYTES_AT_ONCE);
        let root = store(&db, &all).await.unwrap();
        assert_eq!(root, trie::build(&all).unwrap().0);
        assert_eq!(load(&db, root).await.unwrap(), all);
    }

    #[tokio::test]
    async fn a_tree_that_has_a_node_in_several_places_is_refused_however_far_apart_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db"), true).await.unwrap();
        let leaf = put(&db, &Node::Leaf(BTreeMap::from([("idna".to_owned(), 1)]))).await;
        let digits = || ('!'..='~').chain('А'..='я').take(NODES_AT_ONCE + 30);
        let mut parents = BTreeMap::new();
        for digit in digits() {
            parents.insert(digit, put(&db, &Node::Branch(BTreeMap::from([(digit, leaf)]))).await);
        }
        assert_eq!(parents.len(), NODES_AT_ONCE + 30);
        let one = put(&db, &Node::Branch(parents.iter().take(1).map(|(d, id)| (*d, *id)).collect())).await;
        assert_eq!(load(&db, one).await.unwrap(), BTreeMap::from([("idna".to_owned(), 1)]));
        let all = put(&db, &Node::Branch(parents)).await;
        // And one that has a node on two levels.
        let below = put(&db, &Node::Branch(BTreeMap::from([('0', leaf), ('1', one)]))).await;
        for root in [all, below] {
            let read = load(&db, root).await.unwrap_err();
            let compared = tree_edit::diff(&db, Some(one), Some(root)).await.unwrap_err();
            let gone = tree_edit::diff(&db, Some(root), None).await.unwrap_err();
            for error in [read, compared.into(), gone.into()] {
                assert!(error.is_content && error.message.contains("in several places"), "{error}");
            }
        }
    }
}
