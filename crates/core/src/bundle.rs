//! The bundle's manifest, the receipt that answers it, and the names of its files.
//!
//! `AIRLOCK.json` is the canonical JSON of a [`Manifest`]; `AIRLOCK.sig` holds Ed25519 signatures over exactly
//! those bytes. Objects travel as JSON lines, so that the SHA-256 of a line is the object's name;
//! artifacts travel as they are.

mod files;
pub mod text;

pub use files::{BundledFile, ByPath, Files, Unlisted};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advisory::{FeedHead, FeedKind};
use crate::cut::{self, Joined};
use crate::ecosystem::Ecosystem;
use crate::fact::Facts;
use crate::id::{Digest, Id};
use crate::ledger::LedgerHead;
use crate::request::Answers;
use crate::sealed::{self, Sealed};
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::trie::TreeId;
use crate::volume::{self, Parity, Part, Ranges, Volume};

/// The newest layout that this program reads. A bundle states the oldest one that has what is in it ([`format_of`]), so that
/// a station that was not updated yet takes whatever it can.
pub const FORMAT: u32 = FORMAT_HELD;
/// The layout of a bundle that carries what its sender holds. A program that does not know it would take in bytes that it lists
/// nowhere and collects, while the next delta leaves them out; so it refuses.
pub const FORMAT_HELD: u32 = 6;
/// What stations read whose receipts do not say it.
pub const FORMAT_UNSAID: u32 = 3;

/// What a bundle has that needs this layout, for people.
pub const fn needed_for(format: u32) -> &'static str {
    match format {
        0 | 1 => "channels and feeds",
        2 => "feeds of newer kinds",
        volume::FORMAT => "volumes, or persons who release",
        cut::FORMAT => "files in parts",
        sealed::FORMAT => "what is sealed to a recipient",
        FORMAT_HELD => "files that are held",
        _ => "something newer",
    }
}
/// The newest layout of receipts that this program reads. A receipt without missing files has layout 1.
pub const RECEIPT_FORMAT: u32 = 2;

/// The layout of a bundle in one folder that carries these feeds, and perhaps a root: 2 where a feed is of a kind that programs
/// which read layout 1 do not know. One with a root has layout 3, and so has one that is split over volumes; with files in parts
/// it has layout 4.
pub fn format_of<'a>(feeds: impl IntoIterator<Item = &'a FeedHead>, has_root: bool) -> u32 {
    if has_root {
        return volume::FORMAT;
    }
    let is_first = |head: &FeedHead| {
        use FeedKind::{Epss, Identities, Kev, Nvd, Osv};
        matches!(head.kind, Osv | Nvd | Kev | Epss | Identities)
    };
    if feeds.into_iter().all(is_first) { 1 } else { 2 }
}
/// The manifest's file name.
pub const MANIFEST: &str = "AIRLOCK.json";
/// The signatures' file name.
pub const SIGNATURES: &str = "AIRLOCK.sig";
/// The file that tells people what this is.
pub const README: &str = "README.txt";
/// The root by which the bundle was released, with all its versions, where there is one.
pub const ROOT: &str = "ROOT.json";
/// Largest manifest, in bytes: two to three million files, as long as their names are.
pub const MANIFEST_BYTES_MAX: u64 = 512 << 20;
/// Largest signature file, in bytes.
pub const SIGNATURES_BYTES_MAX: u64 = 64 << 10;
/// How far one bundle's number may lie ahead of the last one, so that a stolen key cannot use up the
/// numbers of a stream.
pub const NUMBER_STEP_MAX: u64 = 100_000;

/// What a bundle is, from whom, and everything that is in it. Its members stand in the order of the canonical text, so
/// that writing one of many files moves none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The answers to what the recipient asked for, among the objects. A program that does not know of them passes them over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Id<Answers>>,
    /// The bundle that the receiver must have taken in: what that one led to is left out of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The published channels.
    pub channels: BTreeMap<String, ChannelHead>,
    /// When it was written.
    pub created: Time,
    /// Any further file, such as the readme, sorted by path.
    pub extra: Vec<ExtraFile>,
    /// The sender's feeds of advisories and identities.
    pub feeds: BTreeMap<String, FeedHead>,
    /// The artifacts, or parts of them, sorted by path.
    pub files: Files,
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Where the ledgers of its receivers stood by their last receipts, by public key in hexadecimal: each can look whether that is
    /// still so. A program that does not know of it passes it over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heard: BTreeMap<String, LedgerHead>,
    /// Which of the files are parts of one that is larger than a medium takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Joined>,
    /// Where the sender's ledger stood.
    pub ledger: LedgerHead,
    /// The bundle's place in the stream, from 1.
    pub number: u64,
    /// The files that hold objects. Each volume has all of them.
    pub objects: Vec<ObjectFile>,
    /// What rebuilds volumes that are lost or damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// SHA-256 of the manifest before it in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Digest>,
    /// The name of the peer that it is meant for; none: whoever trusts the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Whom it is sealed to: nobody else learns what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// The sender.
    pub sender: Sender,
    /// The stream: all bundles of one sending station to one audience.
    pub stream: String,
    /// The volumes that it is split over, those of parity last; none: it lies in one folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

impl Manifest {
    /// The files that a part of it has, and their places in the list.
    pub fn files_of<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = (u64, BundledFile<'a>)> {
        (0u64..).zip(self.files.iter()).filter(|(at, file)| part.has_file(*at, file.volume))
    }

    /// Whether the file at a place of the list belongs to a part.
    pub fn has_in(&self, part: &Part, place: usize) -> bool {
        self.files.get(place).is_some_and(|file| part.has_file(place as u64, file.volume))
    }

    /// The same without the files, for whoever is done with them: there may be millions.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self {
            answers: self.answers,
            base: self.base,
            channels: self.channels.clone(),
            created: self.created,
            extra: self.extra.clone(),
            feeds: self.feeds.clone(),
            files: Files::default(),
            format: self.format,
            heard: self.heard.clone(),
            joined: Vec::new(),
            ledger: self.ledger,
            number: self.number,
            objects: self.objects.clone(),
            parity: self.parity.clone(),
            predecessor: self.predecessor,
            recipient: self.recipient.clone(),
            sealed: self.sealed.clone(),
            sender: self.sender.clone(),
            stream: self.stream.clone(),
            volumes: self.volumes.clone(),
        }
    }

    /// How many volumes hold files.
    pub fn volumes_of_files(&self) -> usize {
        self.volumes.len().saturating_sub(self.parity.as_ref().map_or(0, |p| p.volumes as usize))
    }
}

/// A bundle of the same stream, by number and manifest hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
}

/// Who wrote a bundle or a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The station's name, for people.
    pub name: String,
    /// Its public key, 64 hexadecimal digits.
    pub public_key: String,
}

/// One channel of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelHead {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The sender's snapshot.
    pub snapshot: Id<Snapshot>,
    /// The hash of what it publishes.
    pub content: Digest,
    /// Shard key to the facts of what it publishes.
    pub facts: TreeId<Id<Facts>>,
    /// What the sender holds and carries for people on the other side to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// How many artifacts it publishes.
    pub artifacts: u64,
    /// The bundles by which it reached the sender, from the first station on; none if the sender reads it from a source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Hop>,
}

/// What a sender holds of a channel, and carries all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How many artifacts.
    pub artifacts: u64,
    /// Shard key to their facts.
    pub facts: TreeId<Id<Facts>>,
    /// Shard key to their records.
    pub shards: TreeId<Id<Shard>>,
}

/// A crossing that a channel has behind it, as the station after it saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The bundle.
    pub bundle: Base,
    /// Who sent it.
    pub sender: Sender,
    /// In which stream.
    pub stream: String,
}

/// The most crossings that a channel may have behind it.
pub const HOPS_MAX: usize = 16;

/// A file of objects: JSON lines, compressed with zstd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFile {
    /// Path within the bundle.
    pub path: String,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Its bytes.
    pub size: u64,
    /// Objects in it.
    pub lines: u64,
    /// Bytes of the lines, unpacked.
    pub unpacked: u64,
}

/// A file of the bundle that is neither object nor artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraFile {
    /// Path within the bundle.
    pub path: String,
    /// SHA-256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

/// The answer of a receiving station: what it has. Signed by it; carried back by hand, it makes the next
/// bundle a delta.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_FORMAT`] of the program that wrote it, or 1 if nothing is missing.
    pub format: u32,
    /// The receiver.
    pub receiver: Sender,
    /// The stream.
    pub stream: String,
    /// The last bundle that was taken in; none where the first is not whole yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Base>,
    /// What is missing of a bundle that came in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// The content of each channel of the stream, as the receiver holds it.
    pub channels: BTreeMap<String, Digest>,
    /// When it was written.
    pub created: Time,
    /// Where the receiver's ledger stood.
    pub ledger: LedgerHead,
}

/// What a receiver lacks of a bundle of which it has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The bundle.
    pub bundle: Base,
    /// The volumes of which nothing came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<u32>,
    /// Further files, by their places in the manifest's list.
    #[serde(default, skip_serializing_if = "Ranges::is_empty")]
    pub files: Ranges,
}

/// Whether a path of a manifest stays inside the bundle and in the folders that a bundle has.
pub fn is_bundle_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |p: &&str| {
        !p.is_empty()
            && !p.starts_with('.')
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    path.len() <= 240
        && parts.iter().all(plain)
        && match parts.as_slice() {
            [name] => [README, ROOT].contains(name),
            ["objects" | "parity", _] | ["files", _, _] => true,
            _ => false,
        }
}

/// The message that a signature over a manifest or receipt covers is the exact bytes of the file.
/// A line of `AIRLOCK.sig`: algorithm, public key, signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The signer's public key.
    pub public_key: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

impl SignatureLine {
    /// Reads the lines of a signature file; lines that start with `#` are comments.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        text.lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(Self::parse)
            .collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (Some("ed25519"), Some(key), Some(signature), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        Some(Self { public_key: crate::hex::decode(key)?, signature: crate::hex::decode(signature)? })
    }
}

impl std::fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ed25519 {} {}", crate::hex::encode(&self.public_key), crate::hex::encode(&self.signature))
    }
}

/// The fingerprint of a public key: that of its SHA-256.
pub fn fingerprint(public_key: &[u8; 32]) -> String {
    print_of(Digest::of(public_key))
}

/// The first 160 bits of a hash in groups of five digits, short enough to be read over the phone and typed.
pub fn print_of(digest: Digest) -> String {
    let hex = crate::hex::encode(&digest.as_bytes()[..20]);
    let groups: Vec<&str> = (0..8).map(|i| &hex[i * 5..i * 5 + 5]).collect();
    groups.join("-")
}

/// Whether what a person typed is this fingerprint; case, spaces and dashes do not matter.
pub fn print_matches(fingerprint: &str, typed: &str) -> bool {
    let bare = |text: &str| -> String {
        text.chars().filter(|c| !matches!(c, '-' | ' ' | ':')).collect::<String>().to_ascii_lowercase()
    };
    bare(fingerprint) == bare(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_every_file_system_that_media_have() {
        let path = crate::place::FilePath::of(Digest::of(b"x"), "Very.Long_Name-1.0-py3-none-any.whl");
        let path = path.text();
        assert_eq!(&*path, "files/2d/2d711642b726b04401627ca9fbac32f5.whl");
        assert!(
            is_bundle_path(&path)
                && is_bundle_path("objects/channels.jsonl.zst")
                && is_bundle_path("README.txt")
                && is_bundle_path("ROOT.json")
        );
        for bad in [
            "",
            "/etc/passwd",
            "files/../x",
            "files/aa/../../x",
            "a",
            "files/aa/b/c",
            "objects/.x",
            "files/aa/x\\y",
            "files//x",
        ] {
            assert!(!is_bundle_path(bad), "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_typed_in_any_spelling_but_whole() {
        let key = [7; 32];
        let print = fingerprint(&key);
        assert_eq!(print, "4bb06-f8e4e-3a771-5d201-d573d-0aa42-3762e-55dab");
        assert!(print_matches(&print, &print.to_uppercase().replace('-', " ")));
        assert!(!print_matches(&print, &print[..41]));
        assert!(!print_matches(&fingerprint(&[8; 32]), &print));
    }

    #[test]
    fn a_manifest_is_read_without_answers_and_with_members_that_are_not_known() {
        let text = r#"{"channels":{},"created":"2026-03-01T00:00:00Z","extra":[],"feeds":{},"files":[],"format":1,"ledger":{"hash":"0707070707070707070707070707070707070707070707070707070707070707","number":1},"number":1,"objects":[],"sender":{"name":"low","public_key":""},"stream":"s"}"#;
        let read: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(crate::canon::Canonical::of(&read).unwrap().as_str(), text);
        let more = text.replacen('{', r#"{"another":[1],"#, 1);
        assert_eq!(serde_json::from_str::<Manifest>(&more).unwrap(), read);
    }

    #[test]
    fn signature_lines_are_read_back() {
        let line = SignatureLine { public_key: [1; 32], signature: [2; 64] };
        assert_eq!(SignatureLine::parse_all(&format!("# by the station\n{line}\n")), Some(vec![line]));
        assert_eq!(SignatureLine::parse_all("ed25519 00 00"), None);
    }
}
