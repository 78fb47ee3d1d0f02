//! The tree: a trie over SHA-256 of a key whose leaves hold up to [`LEAF_MAX`] keys.
//!
//! Its shape is a function of the set of keys alone (a sub-trie with at most `LEAF_MAX` keys is a leaf,
//! any larger one a branch over the next four bits), so that it does not depend on history, and one
//! changed key rewrites one leaf and the branches above it. An empty tree is an empty leaf.

mod edit;

use std::collections::BTreeMap;
use std::ops::Range;

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
    let mut building = Building::of(map);
    let mut nodes = Vec::new();
    while let Some(node) = building.next(copied::<_, ObjectError>)? {
        nodes.push(node);
    }
    Ok((building.root(), nodes))
}

/// A value that is there as it is.
pub fn copied<V: Clone, E>(value: &&V) -> Result<V, E> {
    Ok((*value).clone())
}

/// A tree that is built of entries, each key once and in any order: one node after the other, a child before the branch that names it.
/// For each value there may be something by which it is found.
pub struct Building<'a, T, V> {
    /// The entries in the order of the hashes of their keys: each sub-trie is a stretch of them.
    keyed: Vec<(Digest, &'a str, T)>,
    /// The level of the first node.
    level: usize,
    /// The sub-trie that is built next.
    next: Option<Range<usize>>,
    /// The branches above it.
    above: Vec<Above<V>>,
    root: TreeId<V>,
}

/// A branch whose children are not all there yet.
struct Above<V> {
    children: BTreeMap<char, TreeId<V>>,
    /// The child that is built.
    digit: char,
    /// What belongs to those behind it.
    rest: Range<usize>,
}

impl<'a, T, V> Building<'a, T, V>
where
    V: Clone + Serialize + DeserializeOwned,
{
    /// Of which nothing is built yet.
    pub fn of<K>(entries: impl IntoIterator<Item = (&'a K, T)>) -> Self
    where
        K: AsRef<str> + ?Sized + 'a,
    {
        Self::below(entries, 0)
    }

    /// The same of a sub-trie whose root is at this level.
    fn below<K>(entries: impl IntoIterator<Item = (&'a K, T)>, level: usize) -> Self
    where
        K: AsRef<str> + ?Sized + 'a,
    {
        let keyed = entries.into_iter().map(|(key, value)| {
            let key = key.as_ref();
            (Digest::of(key.as_bytes()), key, value)
        });
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable_by_key(|(digest, ..)| *digest);
        let next = Some(0..keyed.len());
        Self { keyed, level, next, above: Vec::new(), root: Id::new(Digest::of(b"")) }
    }

    /// The next node, if there is one.
    ///
    /// # Errors
    ///
    /// A value that cannot be found, or cannot be written.
    pub fn next<E: From<ObjectError>>(
        &mut self,
        value: impl Fn(&T) -> Result<V, E>,
    ) -> Result<Option<Encoded>, E> {
        loop {
            let level = self.level + self.above.len();
            if let Some(part) = self.next.take() {
                if part.len() > LEAF_MAX && level < LEVELS_MAX {
                    self.above.push(Above { children: BTreeMap::new(), digit: '0', rest: part });
                    continue;
                }
                let entries = self.keyed.get(part).unwrap_or_default();
                let leaf = entries.iter().map(|(_, key, found)| Ok(((*key).to_owned(), value(found)?)));
                let leaf = leaf.collect::<Result<_, E>>()?;
                return Ok(Some(self.made(&Node::Leaf(leaf))?));
            }
            let Some(branch) = self.above.last_mut() else { return Ok(None) };
            let rest = self.keyed.get(branch.rest.clone()).unwrap_or_default();
            let Some((first, ..)) = rest.first() else {
                let node = Node::Branch(std::mem::take(&mut branch.children));
                self.above.pop();
                return Ok(Some(self.made(&node)?));
            };
            branch.digit = digit(first, level - 1);
            let count = rest.partition_point(|(digest, ..)| digit(digest, level - 1) == branch.digit);
            let end = branch.rest.start + count;
            self.next = Some(std::mem::replace(&mut branch.rest.start, end)..end);
        }
    }

    fn made(&mut self, node: &Node<V>) -> Result<Encoded, ObjectError> {
        let (id, encoded) = object::encode(node)?;
        match self.above.last_mut() {
            Some(branch) => {
                branch.children.insert(branch.digit, id);
            }
            None => self.root = id,
        }
        Ok(encoded)
    }

    /// The name of the tree, when there is no node any more.
    pub fn root(&self) -> TreeId<V> {
        debug_assert!(self.next.is_none() && self.above.is_empty(), "nodes are left to be built");
        self.root
    }
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
        let (mut known, mut names): (Vec<Digest>, usize) = (Vec::new(), 0);
        let mut building = Building::of(map.iter().rev());
        while let Some(node) = building.next(copied::<_, ObjectError>).unwrap() {
            if let Node::<u32>::Branch(children) = object::decode(&node.bytes).unwrap() {
                names += children.len();
                assert!(children.values().all(|child| known.contains(&child.digest())));
            }
            known.push(node.digest);
        }
        let root = building.root();
        assert_eq!(root, build(&map).unwrap().0);
        assert_eq!((known.last(), names + 1), (Some(&root.digest()), known.len()));
        assert!(building.next(copied::<_, ObjectError>).unwrap().is_none());
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
