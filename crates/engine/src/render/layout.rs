//! Where what each package adds to an index stands in the rendered files. So a new snapshot takes over from the
//! files of the one before it whatever is as it was, and reads only the shards that are not.
//!
//! It is derived from a snapshot as the files are, belongs to them, and is part of no identity.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::shard::Shard;
use airlock_core::trie::TreeId;
use airlock_formats::conda::{ChannelPackage, Pieces, Revisions};

/// The tables of records that all clients read.
pub(super) const CLASSIC: &str = "packages";
pub(super) const CONDA: &str = "packages.conda";

/// What one package of a subdir was rendered from, and what it added to the files of the subdir.
///
/// A layout is only derived, so that it needs no new kind when it changes: what cannot be read counts as never made, and members
/// of an older program that are not there any more are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The published shard.
    pub(super) shard: Id<Shard>,
    /// What was known of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) facts: Option<Id<Facts>>,
    /// SHA-256 of the rendered shard.
    pub(super) name: Digest,
    /// Bytes of its records in each table of `repodata.json`.
    pub(super) records: Sizes,
    /// Bytes of its members in each table of `run_exports.json`.
    pub(super) exports: Sizes,
    /// Files of it that are no longer listed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) removed: BTreeSet<String>,
    /// What is said of its records of newer revisions.
    pub(super) revisions: Revisions,
    /// What `channeldata.json` says of it.
    pub(super) package: ChannelPackage,
}

/// Bytes in each table of a file. There is one for every name of a channel, so that it holds no map where it need not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    pub(super) classic: u64,
    pub(super) conda: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) v3: BTreeMap<String, u64>,
}

impl Sizes {
    /// Of what a package adds to each table.
    pub(super) fn of(members: Vec<(String, &str)>) -> Self {
        let mut sizes = Self::default();
        for (table, text) in members {
            let bytes = text.len() as u64;
            match table.as_str() {
                CLASSIC => sizes.classic = bytes,
                CONDA => sizes.conda = bytes,
                _ => {
                    sizes.v3.insert(table, bytes);
                }
            }
        }
        sizes
    }

    /// Those in one table.
    pub(super) fn of_table(&self, table: &str) -> u64 {
        match table {
            CLASSIC => self.classic,
            CONDA => self.conda,
            other => self.v3.get(other).copied().unwrap_or(0),
        }
    }

    /// The tables of records of newer revisions to which it adds.
    pub(super) fn v3(&self) -> impl Iterator<Item = &str> {
        self.v3.keys().map(String::as_str)
    }
}

/// Where everything stands in the whole-channel files of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What each shard of the channel added.
    pub slots: TreeId<Box<Slot>>,
    /// Path below the channel, and table, to where the table's members begin, in bytes.
    pub tables: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The two kinds of files that are put together from what packages add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Exports,
}

impl Kind {
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Records => "repodata.json",
            Self::Exports => "run_exports.json",
        }
    }
}

/// What a package adds to each table of a kind of file; tables to which it adds nothing are absent.
pub(super) fn members(pieces: &Pieces, kind: Kind) -> Vec<(String, &str)> {
    let (classic, conda) = match kind {
        Kind::Records => (&pieces.classic, &pieces.conda),
        Kind::Exports => (&pieces.classic_exports, &pieces.conda_exports),
    };
    let mut out = vec![(CLASSIC.to_owned(), classic.as_str()), (CONDA.to_owned(), conda)];
    if kind == Kind::Records {
        out.extend(pieces.v3.iter().map(|(extension, text)| (format!("v3/{extension}"), text.as_str())));
    }
    out.retain(|(_, text)| !text.is_empty());
    out
}

/// Members of a table that stand together, with the commas between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Whether they were rendered now, or stand in the file before.
    pub is_new: bool,
    /// Where they stand in what they come from, in bytes.
    pub at: u64,
    /// Their number of bytes.
    pub bytes: u64,
}

/// Whence the members of a table come, in order, by how many bytes of it there were and are under each key, and whether those were rendered
/// now. `start` is where the table begins in the file before.
pub(super) fn runs<'a>(
    before: impl Iterator<Item = (&'a str, u64)>,
    now: impl Iterator<Item = (&'a str, u64, bool)>,
    start: u64,
) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    // Where what comes next stands in the file before and in what is new.
    let (mut old_at, mut new_at) = (start, 0);
    let mut old = before.peekable();
    for (key, bytes, is_new) in now {
        let at = if is_new {
            let at = new_at;
            new_at += if bytes > 0 { bytes + 1 } else { 0 };
            at
        } else {
            while let Some((_, bytes)) = old.next_if(|(held, _)| *held < key) {
                old_at += if bytes > 0 { bytes + 1 } else { 0 };
            }
            old_at
        };
        if bytes == 0 {
            continue;
        }
        match out.last_mut().filter(|last| last.is_new == is_new && last.at + last.bytes + 1 == at) {
            Some(last) => last.bytes += bytes + 1,
            None => out.push(Run { is_new, at, bytes }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use airlock_core::object;
    use airlock_core::trie::Node;
    use proptest::prelude::*;

    use super::*;

    fn slot(bytes: usize) -> Slot {
        let id = Digest::of(b"");
        let records = Sizes { classic: bytes as u64, ..Sizes::default() };
        Slot {
            shard: Id::new(id),
            facts: None,
            name: id,
            records,
            exports: Sizes::default(),
            removed: BTreeSet::new(),
            revisions: Revisions::default(),
            package: ChannelPackage::default(),
        }
    }

    fn joined(members: &BTreeMap<String, String>) -> String {
        let there: Vec<&str> = members.values().map(String::as_str).filter(|m| !m.is_empty()).collect();
        there.join(",")
    }

    #[test]
    fn a_slot_of_a_program_that_named_subdirs_is_the_same_slot() {
        let wanted = Box::new(slot(7));
        let (shard, name) = (wanted.shard, wanted.name);
        let text = format!(
            r#"{{"kind":"airlock.tree.v1","leaf":{{"noarch/idna":{{"exports":{{"classic":0,"conda":0}},"name":"{name}","package":{{"licence":null,"subdirs":["noarch"],"summary":null,"timestamp":null,"version":""}},"records":{{"classic":7,"conda":0}},"revisions":{{"count":0,"stamps":null}},"shard":"{shard}"}}}}}}"#
        );
        let read: Node<Box<Slot>> = object::decode(text.as_bytes()).unwrap();
        assert_eq!(read, Node::Leaf([("noarch/idna".to_owned(), wanted)].into()));
    }

    proptest! {
        /// Whatever was added, changed, emptied or taken away: what is put together from runs is the table
        /// that joining all members gives.
        #[test]
        fn a_table_put_together_from_the_one_before_is_the_table_made_anew(
            before in proptest::collection::btree_map("[a-e]{1,2}", "[x-z]{0,3}", 0..12),
            changed in proptest::collection::btree_map("[a-e]{1,2}", proptest::option::of("[u-w]{0,3}"), 0..8),
        ) {
            let mut now = before.clone();
            for (name, text) in &changed {
                match text {
                    Some(text) => now.insert(name.clone(), text.clone()),
                    None => now.remove(name),
                };
            }
            let is_new = |name: &str| changed.contains_key(name);
            let fresh: BTreeMap<String, String> =
                now.iter().filter(|(name, _)| is_new(name)).map(|(n, t)| (n.clone(), t.clone())).collect();
            let old_file = format!("HEAD{}TAIL", joined(&before));
            let new_file = joined(&fresh);
            let bytes = |(name, text): (&'_ String, &'_ String)| (name.clone(), text.len() as u64);
            let (old, new): (Vec<_>, Vec<_>) = (before.iter().map(bytes).collect(), now.iter().map(bytes).collect());
            let runs = runs(
                old.iter().map(|(name, bytes)| (name.as_str(), *bytes)),
                new.iter().map(|(name, bytes)| (name.as_str(), *bytes, is_new(name))),
                4,
            );
            let text: Vec<&str> = runs
                .iter()
                .map(|run| {
                    let from = if run.is_new { &new_file } else { &old_file };
                    &from[run.at as usize..(run.at + run.bytes) as usize]
                })
                .collect();
            prop_assert_eq!(text.join(","), joined(&now));
            // Each source is read from its beginning to its end, once.
            for side in [false, true] {
                let mut at = 0;
                for run in runs.iter().filter(|run| run.is_new == side) {
                    prop_assert!(run.at >= at);
                    at = run.at + run.bytes;
                }
            }
        }
    }
}
