//! Trees of the store that are too large to be read whole: many look-ups at once, differences, edits.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::trie::{self, Edited, Node, Step, TreeId};
use airlock_store::{Db, StoreError};

use crate::trees::{self, NODES_AT_ONCE};

/// Keys that a tree takes in at once while it grows.
const CHANGES_AT_ONCE: usize = 1 << 14;

/// What is read here: whoever asks says what a missing object means.
type Result<T> = std::result::Result<T, StoreError>;

/// A value that stands in a tree.
pub trait Value: Clone + Serialize + DeserializeOwned {}
impl<V: Clone + Serialize + DeserializeOwned> Value for V {}

async fn nodes<V: Value>(db: &Db, ids: &[Digest]) -> Result<HashMap<Digest, Node<V>>> {
    let mut found = db.get_many(ids).await?;
    let mut out = HashMap::with_capacity(ids.len());
    for id in ids {
        if let Some(bytes) = found.remove(id) {
            out.insert(*id, object::decode::<Node<V>>(&bytes)?);
        } else if !out.contains_key(id) {
            return Err(StoreError::MissingObject(*id));
        }
    }
    Ok(out)
}

/// Looks many keys up, each node on the way being read once. Keys that are not there are absent from the answer.
pub async fn find_many<V: Value>(
    db: &Db,
    root: TreeId<V>,
    keys: impl IntoIterator<Item = &str>,
) -> Result<BTreeMap<String, V>> {
    let keys: Vec<&str> = keys.into_iter().collect();
    let mut out = BTreeMap::new();
    let mut level: BTreeMap<Digest, Vec<&str>> = BTreeMap::from([(root.digest(), keys)]);
    if level.values().all(Vec::is_empty) {
        return Ok(out);
    }
    for depth in 0..=trie::LEVELS_MAX {
        let mut next: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
        let ids: Vec<Digest> = level.keys().copied().collect();
        for ids in ids.chunks(NODES_AT_ONCE) {
            let read = nodes::<V>(db, ids).await?;
            for id in ids {
                let Some(node) = read.get(id) else { continue };
                for key in level.remove(id).unwrap_or_default() {
                    match node.step(key, depth) {
                        Step::Found(Some(value)) => {
                            out.insert(key.to_owned(), value.clone());
                        }
                        Step::Found(None) => {}
                        Step::Down(child) => next.entry(child.digest()).or_default().push(key),
                    }
                }
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(out)
}

/// A key whose value is not the same in two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<V> {
    /// The key.
    pub key: String,
    /// Its value in the old tree.
    pub old: Option<V>,
    /// Its value in the new tree.
    pub new: Option<V>,
}

/// What distinguishes two trees, sorted by key. Sub-tries that are the same object are not read, and none is read twice.
pub async fn diff<V: Value + PartialEq>(
    db: &Db,
    old: Option<TreeId<V>>,
    new: Option<TreeId<V>>,
) -> Result<Vec<Difference<V>>> {
    let mut out: BTreeMap<String, (Option<V>, Option<V>)> = BTreeMap::new();
    let mut pairs = if old == new { Vec::new() } else { vec![(old, new)] };
    let mut seen: HashSet<(Digest, bool)> = HashSet::new();
    while !pairs.is_empty() {
        let some = pairs.split_off(pairs.len().saturating_sub(NODES_AT_ONCE / 2));
        let ids: Vec<Digest> =
            some.iter().flat_map(|(old, new)| [old, new]).flatten().map(Id::digest).collect();
        let read = nodes::<V>(db, &ids).await?;
        for (old, new) in some {
            let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
            for (id, children, is_new) in [(old, &mut before, false), (new, &mut after, true)] {
                if let Some(id) = id.filter(|id| !seen.insert((id.digest(), is_new))) {
                    return Err(trees::in_several_places(id.digest()));
                }
                // No tree and the empty tree have the same children.
                match id.and_then(|id| read.get(&id.digest())) {
                    None => {}
                    Some(Node::Branch(found)) => *children = found.clone(),
                    Some(Node::Leaf(entries)) => {
                        for (key, value) in entries {
                            let place = out.entry(key.clone()).or_default();
                            if is_new { place.1 = Some(value.clone()) } else { place.0 = Some(value.clone()) }
                        }
                    }
                }
            }
            for (digit, id) in before {
                let new = after.remove(&digit);
                if new != Some(id) {
                    pairs.push((Some(id), new));
                }
            }
            pairs.extend(after.into_values().map(|id| (None, Some(id))));
        }
    }
    let changed = out.into_iter().filter(|(_, (old, new))| old != new);
    Ok(changed.map(|(key, (old, new))| Difference { key, old, new }).collect())
}

/// Applies edits to a tree (no root: the empty one) and writes the nodes that are new. A value of none removes
/// its key.
pub async fn edit<V: Value>(
    db: &Db,
    root: Option<TreeId<V>>,
    edits: &BTreeMap<String, Option<V>>,
) -> Result<TreeId<V>> {
    if let (Some(root), true) = (root, edits.is_empty()) {
        return Ok(root);
    }
    let mut known = HashMap::new();
    loop {
        match trie::edit(&known, root, edits)? {
            Edited::Done(root, fresh) => {
                db.put_many(&fresh).await?;
                return Ok(root);
            }
            Edited::Needs(needs) => {
                let needs: Vec<Digest> = needs.into_iter().collect();
                known.extend(nodes::<V>(db, &needs).await?);
            }
        }
    }
}

/// A tree that takes in more keys than anybody holds at once.
pub(crate) struct Growing<V> {
    root: Option<TreeId<V>>,
    changes: BTreeMap<String, Option<V>>,
}

impl<V: Value> Growing<V> {
    /// The tree so far; without one, the empty tree.
    pub fn of(root: Option<TreeId<V>>) -> Self {
        Self { root, changes: BTreeMap::new() }
    }

    /// Takes these in.
    pub async fn put(&mut self, db: &Db, entries: impl IntoIterator<Item = (String, V)>) -> Result<()> {
        self.changes.extend(entries.into_iter().map(|(key, value)| (key, Some(value))));
        if self.changes.len() >= CHANGES_AT_ONCE {
            self.root = Some(edit(db, self.root, &std::mem::take(&mut self.changes)).await?);
        }
        Ok(())
    }

    /// The tree, which is in the store then.
    pub async fn end(self, db: &Db) -> Result<TreeId<V>> {
        edit(db, self.root, &self.changes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tree_that_grows_is_the_tree_of_all_that_it_took_in() {
        let all: BTreeMap<String, u32> =
            (0..CHANGES_AT_ONCE as u32 * 2 + 70).map(|n| (format!("name-{n}"), n)).collect();
        for count in [0, 1, CHANGES_AT_ONCE, all.len()] {
            let some: BTreeMap<String, u32> = all.clone().into_iter().take(count).collect();
            for first in [0, count / 3] {
                // What is not written into this one is not there.
                let dir = tempfile::tempdir().unwrap();
                let db = Db::open(&dir.path().join("db"), true).await.unwrap();
                let before = trees::store(&db, some.iter().take(first)).await.unwrap();
                let mut growing = Growing::of(Some(before).filter(|_| first > 0));
                let more: Vec<(String, u32)> =
                    some.iter().skip(first).map(|(key, n)| (key.clone(), *n)).collect();
                for chunk in more.chunks(1000) {
                    growing.put(&db, chunk.iter().cloned()).await.unwrap();
                    assert!(growing.changes.len() < CHANGES_AT_ONCE);
                }
                let root = growing.end(&db).await.unwrap();
                assert_eq!(root, trie::build(&some).unwrap().0);
                assert_eq!(trees::load(&db, root).await.unwrap(), some);
            }
        }
    }
}
