//! Bills of materials: what a snapshot publishes, as CycloneDX 1.6 with what is known against it, and as SPDX 2.3.
//!
//! Both are written as streams, one component a line, and read back as streams to compare what they list with what is
//! published. The same snapshot gives the same bytes: serial number and time are the snapshot's own.

pub mod cyclonedx;
mod read;
pub mod spdx;

use std::io::{self, Write};

use serde::Serialize;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::FileFact;
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::judge;
use airlock_core::licence::Spdx;
use airlock_core::policy::Licence;
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, place};
use airlock_core::time::Time;

use crate::feeds::vex::write::Named;

pub use read::{BadList, CYCLONEDX_LIST, SPDX_LIST, components};

/// Characters of a licence's words that a document repeats; a text beyond that is cut and says so.
pub const WORDS_CHARS_MAX: usize = 4096;

/// What a document is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The snapshot's name.
    pub snapshot: Digest,
    /// The moment at which it was judged.
    pub time: Time,
    /// The station's name.
    pub station: &'a str,
    /// The station's URI.
    pub namespace: &'a str,
    /// What the channel was read from, if that is known.
    pub origin: Option<&'a str>,
}

impl Subject<'_> {
    /// A UUID of version 8 (RFC 9562) made of the snapshot's name.
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.snapshot.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = hex::encode(&bytes);
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    }
}

/// What both kinds of documents say of a file in the same words, and what they are compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Where it stands in its channel: subdir and file for conda, file for PyPI.
    pub place: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The package URL.
    pub purl: String,
    /// SHA-256 of the file, as 64 hexadecimal digits.
    pub sha256: String,
}

impl Listed {
    /// A published file; none if its record cannot be read or has no hash, which no published record is.
    pub fn of(channel: &str, shard: &Shard, file: &str) -> Option<Self> {
        let artifact = Artifact::read(shard, file, shard.entries.get(file)?).ok()?;
        Self::named(channel, shard, &artifact)
    }

    fn named(channel: &str, shard: &Shard, artifact: &Artifact) -> Option<Self> {
        let (name, version, file) = (&shard.name, &artifact.version, &artifact.file);
        let subdir = shard.subdir.as_deref().unwrap_or_default();
        let named = match shard.ecosystem {
            Ecosystem::Conda => Named::conda(name, version, file, (channel, subdir)),
            Ecosystem::Pypi => Named::pypi_file(name, version, file),
        };
        Some(Self {
            place: place(shard.subdir.as_deref(), file),
            name: name.clone(),
            version: version.clone(),
            purl: named.purl,
            sha256: artifact.sha256?.to_string(),
        })
    }
}

/// One published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What it is.
    pub listed: Listed,
    /// Its licence, as far as anybody states one.
    pub licence: Option<Spdx>,
    /// One line about it.
    pub summary: Option<String>,
}

impl Component {
    /// A published file, with what its archive says of itself.
    pub fn of(channel: &str, shard: &Shard, file: &str, fact: Option<&FileFact>) -> Option<Self> {
        let artifact = Artifact::read(shard, file, shard.entries.get(file)?).ok()?;
        let licence = match judge::licence(&artifact, fact) {
            Licence::Stated(text) => Some(Spdx::of(text)),
            Licence::Nowhere | Licence::Unopened => None,
        };
        Some(Self {
            listed: Listed::named(channel, shard, &artifact)?,
            licence,
            summary: fact.and_then(|fact| fact.summary.clone()),
        })
    }
}

/// Words of somebody else, cut where they are longer than a document repeats.
fn words(text: &str) -> String {
    match text.char_indices().nth(WORDS_CHARS_MAX) {
        Some((at, _)) => format!("{} [cut here]", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Elements of a list, one a line.
#[derive(Debug)]
struct Lines<W> {
    out: W,
    is_first: bool,
}

impl<W: Write> Lines<W> {
    fn put(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)
    }

    fn next_list(&mut self, between: &str) -> io::Result<()> {
        self.is_first = true;
        self.out.write_all(between.as_bytes())
    }
}
