//! Trees of the store as maps: whole, by their differences, and with some keys changed.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Encoded, Object};
use airlock_core::trie::{self, LEAF_MAX, Node, TreeId};
use airlock_store::{Db, Packed, StoreError};

use crate::error::{Error, Result, joined};

/// Reads a whole tree.
pub async fn load<V>(db: &Db, root: TreeId<V>) -> Result<BTreeMap<String, V>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    Ok(walk(db, root).await?.1)
}

/// Reads a whole tree level by level: every node, root included, and the entries.
pub async fn walk<V>(db: &Db, root: TreeId<V>) -> Result<(Vec<Digest>, BTreeMap<String, V>)>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let mut map = BTreeMap::new();
    let mut all = Vec::new();
    let mut level = vec![root.digest()];
    while !level.is_empty() {
        all.extend(&level);
        let mut next = Vec::new();
        for node in nodes::<V>(db, &level).await?.into_values() {
            match node {
                Node::Leaf(entries) => map.extend(entries),
                Node::Branch(children) => next.extend(children.values().map(Id::digest)),
            }
        }
        level = next;
    }
    Ok((all, map))
}

async fn nodes<V>(db: &Db, ids: &[Digest]) -> Result<HashMap<Digest, Node<V>>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let mut found = db.get_many(ids).await?;
    let mut out = HashMap::with_capacity(ids.len());
    for id in ids {
        if let Some(bytes) = found.remove(id) {
            out.insert(*id, object::decode::<Node<V>>(&bytes)?);
        } else if !out.contains_key(id) {
            return Err(StoreError::MissingObject(*id).into());
        }
    }
    Ok(out)
}

/// The keys whose values differ between two trees, with the value before and after. Only what differs is read.
pub async fn diff<V>(
    db: &Db,
    before: Option<TreeId<V>>,
    after: TreeId<V>,
) -> Result<BTreeMap<String, (Option<V>, Option<V>)>>
where
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    let mut level = vec![(before, Some(after))];
    while !level.is_empty() {
        level.retain(|(a, b)| a != b);
        let ids: Vec<Digest> =
            level.iter().flat_map(|(a, b)| [*a, *b]).flatten().map(|id| id.digest()).collect();
        let nodes = nodes::<V>(db, &ids).await?;
        let node = |id: Option<TreeId<V>>| id.and_then(|id| nodes.get(&id.digest()));
        let mut next = Vec::new();
        for (a, b) in level {
            match (node(a), node(b)) {
                (Some(Node::Branch(a)), Some(Node::Branch(b))) => {
                    let gone = a.iter().filter(|(digit, _)| !b.contains_key(digit));
                    next.extend(gone.map(|(_, id)| (Some(*id), None)));
                    next.extend(b.iter().map(|(digit, id)| (a.get(digit).copied(), Some(*id))));
                }
                (a, b) => {
                    for (side, entries, is_new) in [(a, &mut old, false), (b, &mut new, true)] {
                        match side {
                            Some(Node::Leaf(leaf)) => {
                                entries.extend(leaf.iter().map(|(k, v)| (k.clone(), v.clone())));
                            }
                            Some(Node::Branch(children)) => next.extend(
                                children
                                    .values()
                                    .map(|id| if is_new { (None, Some(*id)) } else { (Some(*id), None) }),
                            ),
                            None => {}
                        }
                    }
                }
            }
        }
        level = next;
    }
    let mut out: BTreeMap<String, (Option<V>, Option<V>)> =
        old.into_iter().map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in new {
        out.entry(key).or_default().1 = Some(value);
    }
    out.retain(|_, (a, b)| a != b);
    Ok(out)
}

/// A tree with some keys changed (`Some`) or removed (`None`), and the nodes that are new. Only the nodes on the
/// way to what changes are read. The result is the tree that would be built from nothing.
pub async fn edit<V>(
    db: &Db,
    root: TreeId<V>,
    changes: &BTreeMap<String, Option<V>>,
) -> Result<(TreeId<V>, Vec<Encoded>)>
where
    V: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync,
{
    if changes.is_empty() {
        return Ok((root, Vec::new()));
    }
    let keyed: Vec<(Digest, &String, &Option<V>)> =
        changes.iter().map(|(key, value)| (Digest::of(key.as_bytes()), key, value)).collect();
    let mut new = Vec::new();
    let edited = edit_node(db, Some(root), keyed, 0, &mut new).await?;
    match edited {
        Some(id) => Ok((id, new)),
        None => Ok(trie::build(&BTreeMap::new())?),
    }
}

type Edited<'a, V> = Pin<Box<dyn Future<Output = Result<Option<TreeId<V>>>> + Send + 'a>>;

/// Changes the sub-trie at `level`; none is an empty one.
fn edit_node<'a, V>(
    db: &'a Db,
    at: Option<TreeId<V>>,
    changes: Vec<(Digest, &'a String, &'a Option<V>)>,
    level: usize,
    new: &'a mut Vec<Encoded>,
) -> Edited<'a, V>
where
    V: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync,
{
    Box::pin(async move {
        let node = match at {
            Some(id) => db.get(id).await?,
            None => Node::Leaf(BTreeMap::new()),
        };
        let mut children = match node {
            Node::Leaf(mut entries) => {
                for (_, key, value) in changes {
                    match value {
                        Some(value) => entries.insert(key.clone(), value.clone()),
                        None => entries.remove(key),
                    };
                }
                return rebuilt(&entries, level, new);
            }
            Node::Branch(children) => children,
        };
        let mut parts: BTreeMap<char, Vec<_>> = BTreeMap::new();
        for change in changes {
            parts.entry(trie::digit(&change.0, level)).or_default().push(change);
        }
        let shrinks = parts.values().flatten().any(|(_, _, value)| value.is_none());
        for (digit, part) in parts {
            match edit_node(db, children.get(&digit).copied(), part, level + 1, new).await? {
                Some(id) => children.insert(digit, id),
                None => children.remove(&digit),
            };
        }
        if shrinks && let Some(entries) = small(db, &children, new).await? {
            return rebuilt(&entries, level, new);
        }
        let (id, encoded) = object::encode(&Node::<V>::Branch(children))?;
        new.push(encoded);
        Ok(Some(id))
    })
}

fn rebuilt<V>(
    entries: &BTreeMap<String, V>,
    level: usize,
    new: &mut Vec<Encoded>,
) -> Result<Option<TreeId<V>>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    if entries.is_empty() {
        return Ok(None);
    }
    let (id, nodes) = trie::build_at(entries, level)?;
    new.extend(nodes);
    Ok(Some(id))
}

/// The entries below a branch, if they are so few that it must be a leaf.
async fn small<V>(
    db: &Db,
    children: &BTreeMap<char, TreeId<V>>,
    new: &[Encoded],
) -> Result<Option<BTreeMap<String, V>>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let mut entries = BTreeMap::new();
    let mut open: Vec<TreeId<V>> = children.values().copied().collect();
    while let Some(id) = open.pop() {
        let node: Node<V> = match new.iter().find(|n| n.digest == id.digest()) {
            Some(fresh) => object::decode(&fresh.bytes)?,
            None => db.get(id).await?,
        };
        match node {
            Node::Leaf(leaf) => entries.extend(leaf),
            Node::Branch(children) => open.extend(children.values()),
        }
        if entries.len() > LEAF_MAX {
            return Ok(None);
        }
    }
    Ok(Some(entries))
}

/// Looks some keys up; those that are not there are absent from the answer.
pub async fn find_some<V>(
    db: &Db,
    root: TreeId<V>,
    keys: impl IntoIterator<Item = &String>,
) -> Result<BTreeMap<String, V>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let mut out = BTreeMap::new();
    let mut level: BTreeMap<TreeId<V>, Vec<(Digest, &String)>> = BTreeMap::new();
    level.insert(root, keys.into_iter().map(|k| (Digest::of(k.as_bytes()), k)).collect());
    let mut depth = 0;
    while !level.is_empty() {
        let ids: Vec<Digest> = level.keys().map(Id::digest).collect();
        let nodes = nodes::<V>(db, &ids).await?;
        let mut next: BTreeMap<TreeId<V>, Vec<(Digest, &String)>> = BTreeMap::new();
        for (id, keys) in level {
            match nodes.get(&id.digest()) {
                Some(Node::Leaf(entries)) => {
                    out.extend(
                        keys.iter().filter_map(|(_, k)| Some(((*k).clone(), entries.get(*k)?.clone()))),
                    );
                }
                Some(Node::Branch(children)) => {
                    for key in keys {
                        if let Some(child) = children.get(&trie::digit(&key.0, depth)) {
                            next.entry(*child).or_default().push(key);
                        }
                    }
                }
                None => {}
            }
        }
        level = next;
        depth += 1;
    }
    Ok(out)
}

/// Builds a tree and writes its nodes.
pub async fn store<V>(db: &Db, map: &BTreeMap<String, V>) -> Result<TreeId<V>>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let (root, nodes) = trie::build(map)?;
    db.put_many(&nodes).await?;
    Ok(root)
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
        let there: std::collections::HashSet<Digest> = found.iter().map(Packed::digest).collect();
        let missing = digests.into_iter().find(|d| !there.contains(d));
        return Err(missing
            .map_or_else(|| Error::fault("an object is missing"), |d| StoreError::MissingObject(d).into()));
    }
    Ok(found)
}

/// Does one piece of work per item on up to `threads` threads; the answers come in the order of the items.
pub async fn on_threads<T, R>(
    threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Send + Sync + 'static,
) -> Result<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let whole = move || -> Result<Vec<R>> {
        let count = items.len();
        let queue = std::sync::Mutex::new(items.into_iter().enumerate());
        let worker = || -> Result<Vec<(usize, R)>> {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((at, item)) = next else { return Ok(done) };
                done.push((at, work(item)?));
            }
        };
        let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(worker)).collect();
            let mut all = worker()?;
            for other in others {
                all.extend(other.join().unwrap_or_else(|_| Err(Error::fault("a working thread stopped")))?);
            }
            Ok::<_, Error>(all)
        })?;
        all.sort_unstable_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    };
    joined(tokio::task::spawn_blocking(whole).await)
}

/// Encodes an object and keeps its bytes for the next batch.
pub fn encode_into<T: Object>(value: &T, into: &mut Vec<Encoded>) -> Result<Id<T>> {
    let (id, encoded) = object::encode(value)?;
    into.push(encoded);
    Ok(id)
}
