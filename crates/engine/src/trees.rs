//! Trees of the store as maps, and single look-ups.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Encoded, Object};
use airlock_core::trie::{self, Node, TreeId};
use airlock_store::{Db, StoreError};

use crate::error::Result;

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
        let mut nodes = db.get_many(&level).await?;
        let mut next = Vec::new();
        for id in &level {
            let bytes = nodes.remove(id).ok_or(StoreError::MissingObject(*id))?;
            match object::decode::<Node<V>>(&bytes)? {
                Node::Leaf(entries) => map.extend(entries),
                Node::Branch(children) => next.extend(children.values().map(Id::digest)),
            }
        }
        level = next;
    }
    Ok((all, map))
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
    let digests: Vec<Digest> = ids.iter().map(Id::digest).collect();
    let mut found = db.get_many(&digests).await?;
    let mut out = HashMap::with_capacity(digests.len());
    for digest in digests {
        if out.contains_key(&digest) {
            continue;
        }
        let bytes = found.remove(&digest).ok_or(StoreError::MissingObject(digest))?;
        out.insert(digest, object::decode(&bytes)?);
    }
    Ok(out)
}

/// Encodes an object and keeps its bytes for the next batch.
pub fn encode_into<T: Object>(value: &T, into: &mut Vec<Encoded>) -> Result<Id<T>> {
    let (id, encoded) = object::encode(value)?;
    into.push(encoded);
    Ok(id)
}
