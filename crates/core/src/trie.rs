//! The tree: a trie over SHA-256 of a key whose leaves hold up to [`LEAF_MAX`] keys.
//!
//! Its shape is a function of the set of keys alone (a sub-trie with at most `LEAF_MAX` keys is a leaf,
//! any larger one a branch over the next four bits), so that it does not depend on history, and one
//! changed key rewrites one leaf and the branches above it. An empty tree is an empty leaf.

mod edit;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, Id};
use crate::object::{self, Encoded, Object, ObjectError};

pub use edit::{Edited, edit};

/// Keys in one leaf at most.
pub const LEAF_MAX: usize = 512;

/// How deep a tree can get: one level for each four bits of a SHA-256.
pub const LEVELS_MAX: usize = 64;

/// One node of a tree whose values are `V`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Layout<V>", into = "Layout<V>")]
#[serde(bound = "V: Clone + Serialize + DeserializeOwned")]
pub enum Node<V> {
    /// Keys and values.
    Leaf(BTreeMap<String, V>),
    /// Sub-tries by the next hexadecimal digit of SHA-256(key).
    Branch(BTreeMap<char, Id<Node<V>>>),
}

/// How a node is written: one of the two members.
#[derive(Serialize, Deserialize)]
#[serde(bound = "V: Serialize + DeserializeOwned")]
struct Layout<V> {
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<BTreeMap<String, V>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<BTreeMap<char, Id<Node<V>>>>,
}

impl<V> From<Node<V>> for Layout<V> {
    fn from(node: Node<V>) -> Self {
        match node {
            Node::Leaf(entries) => Self { leaf: Some(entries), branch: None },
            Node::Branch(children) => Self { leaf: None, branch: Some(children) },
        }
    }
}

impl<V> TryFrom<Layout<V>> for Node<V> {
    type Error = &'static str;

    fn try_from(layout: Layout<V>) -> Result<Self, Self::Error> {
        match layout {
            Layout { leaf: Some(entries), branch: None } => Ok(Self::Leaf(entries)),
            Layout { leaf: None, branch: Some(children) } => Ok(Self::Branch(children)),
            Layout { .. } => Err("a tree node has either a leaf or branches"),
        }
    }
}

impl<V: Clone + Serialize + DeserializeOwned> Object for Node<V> {
    const KIND: &'static str = "airlock.tree.v1";

    fn encoded(&self) -> Result<Encoded, ObjectError> {
        object::written(self)
    }

    fn decoded(bytes: &[u8]) -> Result<Self, ObjectError> {
        object::read(bytes)
    }
}

/// The name of a tree: that of its root node.
pub type TreeId<V> = Id<Node<V>>;

impl<V> Node<V> {
    /// Where a look-up of `key` goes on from this node at `level` (the root is level 0).
    pub fn step(&self, key: &str, level: usize) -> Step<'_, V> {
        match self {
            Self::Leaf(entries) => Step::Found(entries.get(key)),
            Self::Branch(children) => match children.get(&digit(&Digest::of(key.as_bytes()), level)) {
                Some(child) => Step::Down(*child),
                None => Step::Found(None),
            },
        }
    }
}

/// What one step of a look-up says.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a, V> {
    /// The answer: the value, or none.
    Found(Option<&'a V>),
    /// Go on in this node.
    Down(TreeId<V>),
}

/// The child of a branch at `level` that leads to a key of this hash.
fn digit(digest: &Digest, level: usize) -> char {
    let byte = digest.as_bytes().get(level / 2).copied().unwrap_or(0);
    let nibble = if level.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// Builds the tree of `map`: its name, and every node of it.
pub fn build<V>(map: &BTreeMap<String, V>) -> Result<(TreeId<V>, Vec<Encoded>), ObjectError>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let mut nodes = Vec::new();
    let root = build_each(map, keep(&mut nodes))?;
    Ok((root, nodes))
}

fn keep(nodes: &mut Vec<Encoded>) -> impl FnMut(Encoded) -> Result<(), ObjectError> {
    |node| {
        nodes.push(node);
        Ok(())
    }
}

/// The same of entries, each key once and in any order, with each node handed over as it is made, a child before the branch
/// that names it.
pub fn build_each<'a, K, V, E>(
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
    mut each: impl FnMut(Encoded) -> Result<(), E>,
) -> Result<TreeId<V>, E>
where
    K: AsRef<str> + ?Sized + 'a,
    V: Clone + Serialize + DeserializeOwned + 'a,
    E: From<ObjectError>,
{
    let keyed = entries.into_iter().map(|(key, value)| {
        let key = key.as_ref();
        (Digest::of(key.as_bytes()), key, value)
    });
    build_level(&keyed.collect::<Vec<_>>(), 0, &mut each)
}

fn build_level<V, E>(
    keyed: &[(Digest, &str, &V)],
    level: usize,
    each: &mut impl FnMut(Encoded) -> Result<(), E>,
) -> Result<TreeId<V>, E>
where
    V: Clone + Serialize + DeserializeOwned,
    E: From<ObjectError>,
{
    let node = if keyed.len() <= LEAF_MAX || level == LEVELS_MAX {
        Node::Leaf(keyed.iter().map(|(_, key, value)| ((*key).to_owned(), (*value).clone())).collect())
    } else {
        let mut parts: BTreeMap<char, Vec<(Digest, &str, &V)>> = BTreeMap::new();
        for entry in keyed {
            parts.entry(digit(&entry.0, level)).or_default().push(*entry);
        }
        let mut children = BTreeMap::new();
        for (digit, part) in parts {
            children.insert(digit, build_level(&part, level + 1, each)?);
        }
        Node::Branch(children)
    };
    let (id, encoded) = object::encode(&node)?;
    each(encoded)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn map(n: usize) -> BTreeMap<String, u32> {
        (0..n).map(|i| (format!("name-{i}"), u32::try_from(i).unwrap())).collect()
    }

    fn look_up(nodes: &[Encoded], root: TreeId<u32>, key: &str) -> Option<u32> {
        let nodes: HashMap<Digest, &[u8]> = nodes.iter().map(|n| (n.digest, &n.bytes[..])).collect();
        let mut at = root;
        for level in 0..=LEVELS_MAX {
            let node: Node<u32> = object::decode(nodes[&at.digest()]).unwrap();
            match node.step(key, level) {
                Step::Found(value) => return value.copied(),
                Step::Down(child) => at = child,
            }
        }
        None
    }

    #[test]
    fn golden_bytes_of_a_small_tree() {
        let (id, nodes) = build(&map(2)).unwrap();
        assert_eq!(
            String::from_utf8(nodes[0].bytes.clone()).unwrap(),
            r#"{"kind":"airlock.tree.v1","leaf":{"name-0":0,"name-1":1}}"#
        );
        assert_eq!(id.to_string(), "f1b11e3ffdc1c01c15ea7e490dd61226483fd32bd737f7505b88952baf8e2abf");
    }

    #[test]
    fn every_key_of_a_large_tree_is_found_and_no_other() {
        let map = map(9000);
        let (root, nodes) = build(&map).unwrap();
        assert!(nodes.len() > 16);
        for (key, value) in &map {
            assert_eq!(look_up(&nodes, root, key), Some(*value));
        }
        assert_eq!(look_up(&nodes, root, "absent"), None);
    }

    #[test]
    fn nodes_come_before_what_names_them_and_the_order_of_entries_is_all_the_same() {
        let map = map(2000);
        let mut known: Vec<Digest> = Vec::new();
        let mut names = 0;
        let each = |node: Encoded| -> Result<(), ObjectError> {
            if let Node::<u32>::Branch(children) = object::decode(&node.bytes)? {
                names += children.len();
                assert!(children.values().all(|child| known.contains(&child.digest())));
            }
            known.push(node.digest);
            Ok(())
        };
        let root = build_each(map.iter().rev(), each).unwrap();
        assert_eq!(root, build(&map).unwrap().0);
        assert_eq!((known.last(), names + 1), (Some(&root.digest()), known.len()));
    }

    #[test]
    fn one_changed_name_rewrites_one_path() {
        let mut map = map(9000);
        let (_, before) = build(&map).unwrap();
        map.insert("name-17".into(), 4711);
        let (_, after) = build(&map).unwrap();
        let old: std::collections::HashSet<Digest> = before.iter().map(|n| n.digest).collect();
        let fresh: Vec<&Encoded> = after.iter().filter(|n| !old.contains(&n.digest)).collect();
        assert!(fresh.len() <= 3, "{} nodes were rewritten", fresh.len());
        assert!(fresh.iter().map(|n| n.bytes.len()).sum::<usize>() < 64 << 10);
    }

    #[test]
    fn the_shape_does_not_depend_on_history() {
        let mut grown = map(600);
        for i in 100..600 {
            grown.remove(&format!("name-{i}"));
        }
        assert_eq!(build(&grown).unwrap().0, build(&map(100)).unwrap().0);
    }
}
