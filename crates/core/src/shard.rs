//! A shard: all records of one package name in one channel (and, for conda, one subdir).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canon::Canonical;
use crate::ecosystem::Ecosystem;

/// All records of one name, as an index said them or as a channel publishes them. It is the unit of
/// mirroring, judging, publishing and serving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which ecosystem's rules apply.
    pub ecosystem: Ecosystem,
    /// The canonical package name.
    pub name: String,
    /// The conda subdir; none for PyPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// The records by file name.
    #[serde(deserialize_with = "crate::ordered::read")]
    pub entries: BTreeMap<String, Entry>,
    /// What the index said about the name as a whole (`removed`, `project-status`), verbatim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, Canonical>,
}

/// One artifact's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The table of the index that held it: `packages`, `packages.conda`, `v3/<extension>` or `files`.
    pub table: String,
    /// The record as it came, in canonical form: unknown keys, nulls and absent keys are kept.
    #[serde(with = "crate::canon::trusted")]
    pub record: Canonical,
}

crate::object!(Shard, "airlock.shard.v1");

impl Shard {
    /// An empty shard.
    pub const fn new(ecosystem: Ecosystem, name: String, subdir: Option<String>) -> Self {
        Self { ecosystem, name, subdir, entries: BTreeMap::new(), meta: BTreeMap::new() }
    }

    /// The key under which trees hold this shard.
    pub fn key(&self) -> ShardKey {
        ShardKey { subdir: self.subdir.clone(), name: self.name.clone() }
    }
}

/// The key of a shard in a tree: `noarch/idna` for conda, `idna` for PyPI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The conda subdir.
    pub subdir: Option<String>,
    /// The canonical package name.
    pub name: String,
}

impl ShardKey {
    /// Reads a key back from a tree.
    pub fn parse(text: &str) -> Self {
        let (subdir, name) = Self::split(text);
        Self { subdir: subdir.map(str::to_owned), name: name.to_owned() }
    }

    /// Subdir and name of a key, as they stand in it.
    pub fn split(text: &str) -> (Option<&str>, &str) {
        text.split_once('/').map_or((None, text), |(subdir, name)| (Some(subdir), name))
    }

    /// Where a file of the shard stands in its channel: below its subdir, where there is one.
    pub fn place(&self, file: &str) -> String {
        place(self.subdir.as_deref(), file)
    }
}

/// Where a file stands in its channel: below its subdir for conda.
pub fn place(subdir: Option<&str>, file: &str) -> String {
    subdir.map_or_else(|| file.to_owned(), |subdir| format!("{subdir}/{file}"))
}

impl std::fmt::Display for ShardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.subdir {
            Some(subdir) => write!(f, "{subdir}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
