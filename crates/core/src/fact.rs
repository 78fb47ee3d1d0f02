//! Facts: what fetching and opening an artifact revealed, and when it was first seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assess::Statement;
use crate::canon::Canonical;
use crate::held::Hold;
use crate::id::Digest;
use crate::time::Time;

/// The facts about the artifacts of one shard, by file name. A file keeps its facts when the index
/// drops it, so that a name that comes back with other bytes is noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Facts by file name.
    #[serde(deserialize_with = "crate::ordered::read")]
    pub files: BTreeMap<String, Fact>,
    /// By file name: by what the station that sent the channel holds it. It is listed for a person here to judge.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, Vec<Hold>>,
}

crate::object!(Facts, "airlock.facts.v1");

/// What is known of one artifact beyond its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When this station first read a record of the file.
    pub first_seen: Time,
    /// What the fetched bytes were; none before the first fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileFact>,
    /// Why the last fetch or opening failed, in a sentence. Cleared by one that succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// The identity of an artifact, pinned at the first fetch, and what its archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// SHA-256 of the bytes in the store: the artifact's identity.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
    /// SHA-256 of a wheel's METADATA, which is in the store as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Digest>,
    /// The licence that the archive states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// One line about the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What a wheel says that it requires, but for what it requires in some environments only (PEP 508). None in facts of
    /// before closure asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The `info/run_exports.json` of a conda package (CEP 12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_exports: Option<Canonical>,
    /// What a conda package states of vulnerabilities in its `info/security.json`. It counts where a person trusts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<Statement>,
}

/// What went wrong with an artifact's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "detail")]
pub enum Fault {
    /// It could not be fetched: try again.
    Fetch(String),
    /// Its bytes are not what the record declares, or its archive contradicts the record.
    Mismatch(String),
}

impl Fault {
    /// The sentence.
    pub fn detail(&self) -> &str {
        match self {
            Self::Fetch(detail) | Self::Mismatch(detail) => detail,
        }
    }
}
