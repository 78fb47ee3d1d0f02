//! Objects of evidence, read back line by line in the one order in which they were written, so that none is held longer than
//! needed and none can be left out, added or put elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::advisory::AdvisorySet;
use airlock_core::decision::Decisions;
use airlock_core::evidence::{LINE_BYTES_MAX, Manifest, part};
use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Object};
use airlock_core::policy::PolicyText;
use airlock_core::shard::Shard;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::trie::{LEVELS_MAX, Node, TreeId};
use airlock_formats::sbom::{self, CYCLONEDX_LIST, Listed, SPDX_LIST};

use super::verify::refused;
use crate::error::{Error, Result};

/// Objects in [`part::INPUTS`].
pub(super) const INPUTS: u64 = 5;
/// The bills of materials, with the list in each that names what is published.
pub(super) const BILLS: [(&str, &str); 2] = [(part::CYCLONEDX, CYCLONEDX_LIST), (part::SPDX, SPDX_LIST)];
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The lines of a part.
pub(super) struct Lines<'a> {
    path: &'a Path,
    part: &'static str,
    reader: BufReader<&'a mut dyn Read>,
    number: u64,
}

impl<'a> Lines<'a> {
    pub fn of(path: &'a Path, part: &'static str, data: &'a mut dyn Read) -> Self {
        Self { path, part, reader: BufReader::with_capacity(BUFFER_BYTES, data), number: 0 }
    }

    /// The number of the last line.
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Error {
        refused(self.path, format!("{}: {what}", self.part))
    }

    /// The next line without its end; none at the end of the part.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|e| self.refuse(e))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.pop() != Some(b'\n') {
            let what = "is longer than it may be, or the part ends in the middle of it";
            return Err(self.refuse(format!("line {} {what}", self.number)));
        }
        Ok(Some(line))
    }

    /// The next object, which must be the one of this name.
    pub fn object<T: Object>(&mut self, id: Id<T>) -> Result<T> {
        let wanted = id.digest().short();
        let line = self.next()?.ok_or_else(|| self.refuse(format!("object {wanted} is missing")))?;
        if Digest::of(&line) != id.digest() {
            let number = self.number;
            return Err(self.refuse(format!(
                "line {number} is not object {wanted}: one was changed, left out, added or put elsewhere"
            )));
        }
        object::check(id.digest(), &line).map_err(|e| self.refuse(e))?;
        object::decode(&line).map_err(|e| self.refuse(e))
    }

    /// Nothing may be left.
    pub fn end(&mut self) -> Result<()> {
        match self.next()? {
            Some(_) => Err(self.refuse(format!("line {} is an object that nothing names", self.number))),
            None => Ok(()),
        }
    }

    /// The nodes of a tree, and its entries with how many nodes there were.
    fn tree<V>(&mut self, root: TreeId<V>) -> Result<(BTreeMap<String, V>, u64)>
    where
        V: Clone + Serialize + DeserializeOwned,
    {
        let (mut map, mut count, mut level) = (BTreeMap::new(), 0, vec![root]);
        for _ in 0..=LEVELS_MAX {
            let mut next = Vec::new();
            for id in level {
                count += 1;
                match self.object(id)? {
                    Node::Leaf(entries) => map.extend(entries),
                    Node::Branch(children) => next.extend(children.into_values()),
                }
            }
            if next.is_empty() {
                return Ok((map, count));
            }
            level = next;
        }
        Err(self.refuse("a tree is deeper than trees are"))
    }
}

/// The snapshot and what it names as its inputs.
pub(super) fn inputs(lines: &mut Lines<'_>, manifest: &Manifest) -> Result<(Snapshot, Decisions)> {
    let snapshot: Snapshot = lines.object(manifest.snapshot)?;
    let (channel, inputs) = (&snapshot.channel, &snapshot.inputs);
    let is_same = *channel == manifest.channel
        && snapshot.ecosystem == manifest.ecosystem
        && snapshot.content == manifest.content
        && inputs.now == manifest.time;
    if !is_same {
        return Err(lines.refuse("the snapshot is not the one that the manifest tells of"));
    }
    let _upstream: Upstream = lines.object(inputs.upstream)?;
    let _advisories: AdvisorySet = lines.object(inputs.advisories)?;
    let _policy: PolicyText = lines.object(inputs.policy)?;
    let decisions: Decisions = lines.object(inputs.decisions)?;
    lines.end()?;
    Ok((snapshot, decisions))
}

/// A tree with the objects under those of its keys that are wanted. Gives how many objects there were.
pub(super) fn all<T: Object>(
    lines: &mut Lines<'_>,
    root: TreeId<Id<T>>,
    wanted: impl Fn(&str) -> bool,
) -> Result<u64> {
    let (map, mut count) = lines.tree(root)?;
    for (_, id) in map.into_iter().filter(|(key, _)| wanted(key)) {
        lines.object(id)?;
        count += 1;
    }
    lines.end()?;
    Ok(count)
}

/// The keys under which anything is published.
pub(super) fn keys(lines: &mut Lines<'_>, root: TreeId<Id<Shard>>) -> Result<BTreeSet<String>> {
    Ok(lines.tree(root)?.0.into_keys().collect())
}

/// The files that are published, one after the other.
pub(super) struct Published<'a, 'b> {
    lines: &'a mut Lines<'b>,
    channel: &'a str,
    shards: std::vec::IntoIter<(String, Id<Shard>)>,
    files: VecDeque<Listed>,
    count: u64,
}

impl<'a, 'b> Published<'a, 'b> {
    /// Gives the number of the tree's nodes, too.
    pub fn of(lines: &'a mut Lines<'b>, manifest: &'a Manifest) -> Result<(Self, u64)> {
        let (map, nodes) = lines.tree(manifest.content)?;
        let shards: Vec<(String, Id<Shard>)> = map.into_iter().collect();
        let (channel, shards) = (&manifest.channel, shards.into_iter());
        Ok((Self { lines, channel, shards, files: VecDeque::new(), count: 0 }, nodes))
    }

    /// Shards that were not read yet.
    pub fn names(&self) -> u64 {
        self.shards.len() as u64
    }

    /// Files so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    fn next(&mut self) -> Result<Option<Listed>> {
        while self.files.is_empty() {
            let Some((key, id)) = self.shards.next() else {
                self.lines.end()?;
                return Ok(None);
            };
            let shard: Shard = self.lines.object(id)?;
            if shard.key().to_string() != key {
                return Err(self.lines.refuse(format!("what stands under `{key}` is another package")));
            }
            for file in shard.entries.keys() {
                let listed = Listed::of(self.channel, &shard, file);
                let bad = || self.lines.refuse(format!("the record of `{file}` cannot be read"));
                self.files.push_back(listed.ok_or_else(bad)?);
            }
        }
        self.count += 1;
        Ok(self.files.pop_front())
    }
}

/// Holds a bill of materials against what is published: the same files in the same order, with the same names, versions and
/// hashes.
pub(super) fn compare(
    data: &mut dyn Read,
    bill: &str,
    list: &'static str,
    published: &mut Published<'_, '_>,
) -> Result<()> {
    let mut ours: Result<()> = Ok(());
    let read = sbom::components(BufReader::with_capacity(BUFFER_BYTES, data), list, |listed| {
        let expected = match published.next() {
            Ok(expected) => expected,
            Err(error) => {
                ours = Err(error);
                return Err(String::new());
            }
        };
        differs(&listed, expected.as_ref()).map_or(Ok(()), Err)
    });
    ours?;
    let refuse = |what: String| refused(published.lines.path, format!("{bill}: {what}"));
    read.map_err(|e| refuse(e.to_string()))?;
    match published.next()? {
        None => Ok(()),
        Some(left) => Err(refused(
            published.lines.path,
            format!("{bill}: it leaves out `{}`, which the snapshot publishes", left.place),
        )),
    }
}

/// In what a listed file is other than the one that is published in its place.
fn differs(listed: &Listed, expected: Option<&Listed>) -> Option<String> {
    let place = listed.place.escape_default();
    let Some(expected) = expected else {
        return Some(format!("it lists `{place}`, which the snapshot does not publish"));
    };
    if listed == expected {
        return None;
    }
    if listed.place != expected.place {
        return Some(format!(
            "it lists `{place}` where the snapshot publishes `{}`: a file was left out, added or put elsewhere",
            expected.place.escape_default()
        ));
    }
    let pairs = [
        ("name", &listed.name, &expected.name),
        ("version", &listed.version, &expected.version),
        ("package URL", &listed.purl, &expected.purl),
        ("SHA-256", &listed.sha256, &expected.sha256),
    ];
    let other = pairs.into_iter().find(|(_, said, is)| said != is);
    other.map(|(what, said, is)| {
        format!("it says of `{place}` that its {what} is `{}`, and it is `{is}`", said.escape_default())
    })
}
