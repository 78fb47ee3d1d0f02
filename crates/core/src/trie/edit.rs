//! Editing a tree without reading all of it.
//!
//! The result is the tree that [`super::build`] makes of the edited map, to the byte: its shape is a function of
//! the set of keys. So only the nodes on the way to an edited key are looked at, and where keys were removed
//! their neighbours, since what is left may fit into one leaf.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Building, LEAF_MAX, LEVELS_MAX, Node, TreeId, copied, digit};
use crate::id::{Digest, Id};
use crate::object::{self, Encoded, ObjectError};

/// What edits led to.
#[derive(Debug)]
pub enum Edited<V> {
    /// The new tree: its name, and the nodes of it that may be new.
    Done(TreeId<V>, Vec<Encoded>),
    /// These nodes have to be known as well.
    Needs(BTreeSet<Digest>),
}

/// Applies `edits` (a new value, or none for removal) to the tree `root`, of which `nodes` are known.
///
/// No root is the empty tree. Asked again with the nodes that it needs, it is done after a few rounds for each level.
pub fn edit<V>(
    nodes: &HashMap<Digest, Node<V>>,
    root: Option<TreeId<V>>,
    edits: &BTreeMap<String, Option<V>>,
) -> Result<Edited<V>, ObjectError>
where
    V: Clone + Serialize + DeserializeOwned,
{
    let keyed: Vec<Keyed<'_, V>> =
        edits.iter().map(|(key, value)| (Digest::of(key.as_bytes()), key, value.as_ref())).collect();
    let mut editor = Editor { nodes, needs: BTreeSet::new(), fresh: Vec::new() };
    let part = editor.part(root, &keyed, 0)?;
    let root = editor.seal(part)?;
    Ok(match (root, editor.needs.is_empty()) {
        (Some(root), true) => Edited::Done(root, editor.fresh),
        _ => Edited::Needs(editor.needs),
    })
}

type Keyed<'a, V> = (Digest, &'a String, Option<&'a V>);

struct Editor<'a, V> {
    nodes: &'a HashMap<Digest, Node<V>>,
    needs: BTreeSet<Digest>,
    fresh: Vec<Encoded>,
}

/// A sub-trie while it is edited.
enum Part<V> {
    /// As it was.
    Same(TreeId<V>),
    /// Few enough keys for one leaf, which may yet become part of a larger one.
    Few(BTreeMap<String, V>),
    /// A branch that is written.
    Branch(TreeId<V>),
    /// A node is not known.
    Unknown,
}

impl<V: Clone + Serialize + DeserializeOwned> Editor<'_, V> {
    fn node(&mut self, id: TreeId<V>) -> Option<&Node<V>> {
        let found = self.nodes.get(&id.digest());
        if found.is_none() {
            self.needs.insert(id.digest());
        }
        found
    }

    fn part(
        &mut self,
        id: Option<TreeId<V>>,
        edits: &[Keyed<'_, V>],
        level: usize,
    ) -> Result<Part<V>, ObjectError> {
        let Some(id) = id else { return self.few(BTreeMap::new(), edits, level) };
        if edits.is_empty() && level > 0 {
            return Ok(Part::Same(id));
        }
        match self.node(id) {
            None => Ok(Part::Unknown),
            Some(Node::Leaf(entries)) => {
                let entries = entries.clone();
                self.few(entries, edits, level)
            }
            Some(Node::Branch(children)) => {
                let children = children.clone();
                self.branch(&children, edits, level)
            }
        }
    }

    /// Edits what was a leaf.
    fn few(
        &mut self,
        mut entries: BTreeMap<String, V>,
        edits: &[Keyed<'_, V>],
        level: usize,
    ) -> Result<Part<V>, ObjectError> {
        for (_, key, value) in edits {
            match value {
                Some(value) => entries.insert((*key).clone(), (*value).clone()),
                None => entries.remove(*key),
            };
        }
        if entries.len() <= LEAF_MAX || level >= LEVELS_MAX {
            return Ok(Part::Few(entries));
        }
        let mut building = Building::below(&entries, level);
        while let Some(node) = building.next(copied::<_, ObjectError>)? {
            self.fresh.push(node);
        }
        Ok(Part::Branch(building.root()))
    }

    fn branch(
        &mut self,
        children: &BTreeMap<char, TreeId<V>>,
        edits: &[Keyed<'_, V>],
        level: usize,
    ) -> Result<Part<V>, ObjectError> {
        let mut parts: BTreeMap<char, Vec<Keyed<'_, V>>> = BTreeMap::new();
        for entry in edits {
            parts.entry(digit(&entry.0, level)).or_default().push(*entry);
        }
        let mut edited: BTreeMap<char, Part<V>> =
            children.iter().map(|(digit, id)| (*digit, Part::Same(*id))).collect();
        for (digit, edits) in parts {
            let part = self.part(children.get(&digit).copied(), &edits, level + 1)?;
            edited.insert(digit, part);
        }
        if edited.values().any(|part| matches!(part, Part::Unknown)) {
            return Ok(Part::Unknown);
        }
        if edits.iter().any(|(_, _, value)| value.is_none()) && self.may_shrink(&mut edited) {
            let mut all = BTreeMap::new();
            for part in edited.values_mut() {
                match part {
                    Part::Few(entries) => all.append(entries),
                    // Asked for by `may_shrink`; the next round knows it.
                    _ => return Ok(Part::Unknown),
                }
            }
            return Ok(Part::Few(all));
        }
        let mut sealed = BTreeMap::new();
        for (digit, part) in edited {
            if matches!(&part, Part::Few(entries) if entries.is_empty()) {
                continue;
            }
            match self.seal(part)? {
                Some(id) => sealed.insert(digit, id),
                None => return Ok(Part::Unknown),
            };
        }
        let (id, encoded) = object::encode(&Node::Branch(sealed))?;
        self.fresh.push(encoded);
        Ok(Part::Branch(id))
    }

    /// Whether what is left of a branch may fit into one leaf. Reads the children that it has to count.
    fn may_shrink(&mut self, edited: &mut BTreeMap<char, Part<V>>) -> bool {
        let known = |edited: &BTreeMap<char, Part<V>>| -> usize {
            let size = |part: &Part<V>| match part {
                Part::Few(entries) => entries.len(),
                Part::Branch(_) => LEAF_MAX + 1,
                Part::Same(_) | Part::Unknown => 0,
            };
            edited.values().map(size).sum()
        };
        for digit in edited.keys().copied().collect::<Vec<char>>() {
            if known(edited) > LEAF_MAX {
                return false;
            }
            let Some(Part::Same(id)) = edited.get(&digit) else { continue };
            let id = *id;
            let part = match self.node(id) {
                Some(Node::Leaf(entries)) => Part::Few(entries.clone()),
                Some(Node::Branch(_)) => return false,
                None => Part::Unknown,
            };
            edited.insert(digit, part);
        }
        known(edited) <= LEAF_MAX
    }

    /// Writes a part as a node of its own.
    fn seal(&mut self, part: Part<V>) -> Result<Option<TreeId<V>>, ObjectError> {
        match part {
            Part::Same(id) | Part::Branch(id) => Ok(Some(id)),
            Part::Few(entries) => {
                let (id, encoded) = object::encode(&Node::Leaf(entries))?;
                self.fresh.push(encoded);
                Ok(Some(Id::new(id.digest())))
            }
            Part::Unknown => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trie::build;

    fn nodes_of(encoded: &[Encoded]) -> HashMap<Digest, Node<u32>> {
        encoded.iter().map(|n| (n.digest, object::decode(&n.bytes).unwrap())).collect()
    }

    /// Edits with a store that is asked node by node; how many nodes were read.
    fn edited(
        store: &HashMap<Digest, Node<u32>>,
        root: Option<TreeId<u32>>,
        edits: &BTreeMap<String, Option<u32>>,
    ) -> (TreeId<u32>, Vec<Encoded>, usize) {
        let mut known = HashMap::new();
        loop {
            match edit(&known, root, edits).unwrap() {
                Edited::Done(root, fresh) => return (root, fresh, known.len()),
                Edited::Needs(needs) => {
                    assert!(!needs.is_empty());
                    for id in needs {
                        assert!(known.insert(id, store[&id].clone()).is_none(), "a node was asked for twice");
                    }
                }
            }
        }
    }

    fn check(map: &BTreeMap<String, u32>, edits: &BTreeMap<String, Option<u32>>) -> usize {
        let (root, before) = build(map).unwrap();
        let mut store = nodes_of(&before);
        let (got, fresh, read) = edited(&store, Some(root), edits);
        let mut map = map.clone();
        for (key, value) in edits {
            match value {
                Some(value) => map.insert(key.clone(), *value),
                None => map.remove(key),
            };
        }
        let (wanted, all) = build(&map).unwrap();
        assert_eq!(got, wanted);
        store.extend(nodes_of(&fresh));
        assert!(all.iter().all(|node| store.contains_key(&node.digest)), "a node of the new tree is missing");
        read
    }

    fn map(n: u32) -> BTreeMap<String, u32> {
        (0..n).map(|i| (format!("name-{i}"), i)).collect()
    }

    #[test]
    fn one_edit_of_a_large_tree_reads_one_path() {
        let change = |key: &str, value| BTreeMap::from([(key.to_owned(), value)]);
        assert!(check(&map(9000), &change("name-17", Some(1))) <= 3);
        assert!(check(&map(9000), &change("new", Some(1))) <= 3);
        assert!(check(&map(9000), &change("name-17", None)) <= 20);
        assert!(check(&map(9000), &change("absent", None)) <= 20);
        assert_eq!(check(&map(9000), &BTreeMap::new()), 1);
    }

    #[test]
    fn a_tree_grows_from_nothing_and_shrinks_to_nothing() {
        let all = map(3000);
        let put: BTreeMap<String, Option<u32>> = all.iter().map(|(k, v)| (k.clone(), Some(*v))).collect();
        let (root, _, _) = edited(&HashMap::new(), None, &put);
        assert_eq!(root, build(&all).unwrap().0);
        let gone: BTreeMap<String, Option<u32>> = all.keys().map(|k| (k.clone(), None)).collect();
        check(&all, &gone);
        check(&BTreeMap::new(), &put);
        let most: BTreeMap<String, Option<u32>> = all.keys().take(2490).map(|k| (k.clone(), None)).collect();
        check(&all, &most);
        check(&map(513), &BTreeMap::from([("name-5".to_owned(), None)]));
        check(&map(512), &BTreeMap::from([("new".to_owned(), Some(1))]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn an_edited_tree_is_the_tree_of_the_edited_map(
            size in prop_oneof![0u32..40, 480u32..560, 1000u32..2500],
            edits in prop::collection::btree_map(0u32..2600, prop::option::of(any::<u32>()), 0..700),
        ) {
            let edits = edits.into_iter().map(|(i, v)| (format!("name-{i}"), v)).collect();
            check(&map(size), &edits);
        }
    }
}
