//! Evidence: the manifest of the one file that an auditor gets of a snapshot.
//!
//! The file is a zip archive. `EVIDENCE.json` is the canonical JSON of a [`Manifest`] and lists every other part with its hash;
//! `EVIDENCE.sig` holds the station's Ed25519 signature over exactly those bytes. So the signature covers the head of the
//! ledger too, which the manifest names.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::id::{Digest, Id};
use crate::ledger::LedgerHead;
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::trie::TreeId;

/// The layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// The manifest's name.
pub const MANIFEST: &str = "EVIDENCE.json";
/// The signature's name.
pub const SIGNATURE: &str = "EVIDENCE.sig";
/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// Largest file of signatures, in bytes.
pub const SIGNATURE_BYTES_MAX: u64 = 4 << 10;
/// Largest part, in bytes when it is unpacked: the verdicts of some ten million files.
pub const PART_BYTES_MAX: u64 = 16 << 30;
/// Longest line of a part, in bytes. The largest objects are the decisions of a station and the shards of names with very many
/// files.
pub const LINE_BYTES_MAX: u64 = 256 << 20;

/// The parts, by what they hold. Each stands in every file of evidence.
pub mod part {
    /// What this is and how to check it, for people.
    pub const README: &str = "README.txt";
    /// The summary, to be read and printed.
    pub const SUMMARY: &str = "summary.html";
    /// The snapshot and the objects that it names as its inputs, one a line: snapshot, upstream, advisories, policy,
    /// decisions.
    pub const INPUTS: &str = "objects/inputs.jsonl";
    /// What is published: the nodes of the tree by level, then its shards in the order of their keys.
    pub const CONTENT: &str = "objects/content.jsonl";
    /// Why each file is offered or not: the nodes of the tree by level, then the judgements in the order of their keys.
    pub const JUDGEMENTS: &str = "objects/judgements.jsonl";
    /// What the fetched files are and say of themselves: the nodes of the tree by level, then the facts of what is published.
    pub const FACTS: &str = "objects/facts.jsonl";
    /// Entries of the ledger without a gap up to its head.
    pub const LEDGER: &str = "ledger.jsonl";
    /// What is published, with what is known against it, as CycloneDX.
    pub const CYCLONEDX: &str = "sbom.cdx.json";
    /// What is published, as SPDX.
    pub const SPDX: &str = "sbom.spdx.json";
    /// What was ruled of the findings, as OpenVEX.
    pub const OPENVEX: &str = "vex.openvex.json";
    /// All of them, in the order in which they lie in the file.
    pub const ALL: [&str; 10] =
        [README, INPUTS, CONTENT, JUDGEMENTS, FACTS, LEDGER, CYCLONEDX, SPDX, OPENVEX, SUMMARY];
}

/// What a file of evidence is about, from whom, and everything that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The channel.
    pub channel: String,
    /// What is published; equal content has an equal name on any station.
    pub content: TreeId<Id<Shard>>,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Where the ledger stands: the last entry that is in it.
    pub ledger: LedgerHead,
    /// The parts, in the order of [`part::ALL`].
    pub parts: Vec<Part>,
    /// The number of the entry that tells of the publication.
    pub published: u64,
    /// The snapshot.
    pub snapshot: Id<Snapshot>,
    /// The station.
    pub station: Station,
    /// The moment at which the snapshot was judged.
    pub time: Time,
}

/// Whose evidence it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Station {
    /// Its name, for people.
    pub name: String,
    /// Its key, as 64 hexadecimal digits.
    pub public_key: String,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the archive.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
}
