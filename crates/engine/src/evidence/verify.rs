//! Checking evidence with nothing but a public key: no station is needed, and nothing of the file is believed before its
//! signature is.
//!
//! What is read before that is bounded by constants; what is read after it, by the sizes in the signed manifest.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use airlock_core::bundle::{self, SignatureLine};
use airlock_core::canon::Canonical;
use airlock_core::decision::Decisions;
use airlock_core::evidence::{
    FORMAT, MANIFEST, MANIFEST_BYTES_MAX, Manifest, PART_BYTES_MAX, SIGNATURE, SIGNATURE_BYTES_MAX, part,
};
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::{self, LedgerEntry, LedgerHead};
use airlock_core::object;
use airlock_core::policy::{INHERITED, PolicyText};
use airlock_core::snapshot::Snapshot;
use airlock_formats::archive::{ArchiveError, ArchiveLimits, TAR_START_BYTES, is_tar, zip_files};

use super::objects::{self, Lines};
use super::proof::{Met, Wanted};
use crate::error::{Error, Result, file_error};
use crate::progress::{Progress, Unit};
use crate::{files, keys};

/// Bytes that are hashed at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Members of an archive at most: more than evidence has, so that a foreign one can be named.
const MEMBERS_MAX: u64 = 64;
/// Bytes of an archive's directory at most.
const DIRECTORY_BYTES_MAX: u64 = 64 << 10;
/// What to do about evidence that is not what it was.
const AGAIN: &str =
    "believe nothing of it; ask the station for a new copy, and tell your security officer if it stays so";

/// Evidence whose manifest is signed by a known key. Its parts are not looked at yet.
#[derive(Debug)]
pub struct Header {
    path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The key that signed it.
    pub signer: [u8; 32],
}

/// What checking found right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Files that are published, and listed by both bills of materials.
    pub components: u64,
    /// Objects that are what their names say.
    pub objects: u64,
    /// Entries of the ledger that were followed.
    pub entries: u64,
    /// Decisions that the ledger tells of.
    pub decisions: u64,
    /// Whether the policy is the one that this program gives to children that have none of their own: no entry tells of that.
    pub policy_is_built_in: bool,
    /// Of what no entry tells: the policy, in ledgers of before entries told of it.
    pub unproven: Vec<String>,
}

/// An error about evidence.
pub(super) fn refused(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::unsafe_(format!("{}: {what}", path.display())).hint(AGAIN)
}

/// Whether a path is a file that may be evidence, whole or not: no folder, and no bundle in one file.
pub fn is_evidence(path: &Path) -> bool {
    let mut start = Vec::new();
    let read =
        files::open_regular(path).and_then(|file| file.take(TAR_START_BYTES as u64).read_to_end(&mut start));
    read.is_ok() && !is_tar(&start)
}

fn limits() -> ArchiveLimits {
    ArchiveLimits {
        entries_max: MEMBERS_MAX,
        unpacked_bytes_max: PART_BYTES_MAX,
        directory_bytes_max: DIRECTORY_BYTES_MAX,
        ..ArchiveLimits::default()
    }
}

/// What is wrong with the archive; what a disk cannot read says nothing of it.
fn bad_archive(path: &Path, error: ArchiveError) -> Error {
    match error {
        ArchiveError::Read(e) if e.raw_os_error().is_some() => file_error(path)(e),
        ArchiveError::NotZip | ArchiveError::Truncated => {
            refused(path, "it is no file of evidence, or was cut off or damaged")
        }
        other => refused(path, other),
    }
}

/// Opens evidence: its manifest must be signed by one of `keys`.
pub fn open(path: &Path, keys: &[[u8; 32]]) -> Result<Header> {
    let mut members: Vec<String> = Vec::new();
    let (mut text, mut signature) = (Vec::new(), Vec::new());
    let file = files::open_regular(path).map_err(file_error(path))?;
    let read = zip_files(BufReader::new(file), &limits(), &mut |name, data| {
        members.push(name.to_owned());
        match name {
            MANIFEST => data.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut text).map(drop)?,
            SIGNATURE => data.take(SIGNATURE_BYTES_MAX + 1).read_to_end(&mut signature).map(drop)?,
            _ => {}
        }
        Ok(())
    });
    read.map_err(|e| bad_archive(path, e))?;
    for (name, bytes, most) in
        [(MANIFEST, &text, MANIFEST_BYTES_MAX), (SIGNATURE, &signature, SIGNATURE_BYTES_MAX)]
    {
        if !members.iter().any(|member| member == name) {
            return Err(refused(path, format!("{name} is missing: this is no file of evidence")));
        }
        if bytes.len() as u64 > most {
            return Err(refused(path, format!("{name} is larger than {most} bytes")));
        }
    }
    let signer = signer(path, &signature, &text, keys)?;
    let manifest = parse(path, &text)?;
    if manifest.station.public_key != airlock_core::hex::encode(&signer) {
        return Err(refused(path, "the manifest names another station than the key that signed it"));
    }
    listing(path, &manifest, &members)?;
    Ok(Header { path: path.to_owned(), manifest, digest: Digest::of(&text), signer })
}

fn signer(path: &Path, signature: &[u8], text: &[u8], keys: &[[u8; 32]]) -> Result<[u8; 32]> {
    let lines = std::str::from_utf8(signature).ok().and_then(SignatureLine::parse_all).unwrap_or_default();
    let line = match lines.as_slice() {
        // As it is written, and with nothing beside it that nobody signed.
        [line] if format!("{line}\n").as_bytes() == signature => line,
        _ => return Err(refused(path, format!("{SIGNATURE} is not one Ed25519 signature"))),
    };
    if !keys.contains(&line.public_key) {
        let by = bundle::fingerprint(&line.public_key);
        return Err(Error::unsafe_(format!("{}: it is signed by {by}, which is not a key that is trusted here", path.display()))
            .hint("if it should be, compare the fingerprint with the station's administrator and give its key with --key"));
    }
    if !keys::verifies(line, text) {
        return Err(refused(
            path,
            format!("the signature does not fit {MANIFEST}: one of the two was changed or damaged"),
        ));
    }
    Ok(line.public_key)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
    let bad = |what: String| refused(path, format!("{MANIFEST} {what}"));
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let text = std::str::from_utf8(bytes).map_err(|_| bad("is not UTF-8".to_owned()))?;
    let canonical = Canonical::parse(text).map_err(|e| bad(format!("cannot be read: {e}")))?;
    let format: Format = canonical.read().map_err(|e| bad(format!("cannot be read: {e}")))?;
    if format.format != FORMAT {
        let found = format.format;
        return Err(bad(format!("has layout {found}, this program reads {FORMAT}"))
            .hint("use the airlock that wrote it, or a newer one"));
    }
    canonical.read().map_err(|e| bad(format!("cannot be read: {e}")))
}

/// The manifest lists each part once, and the archive holds those and nothing else.
fn listing(path: &Path, manifest: &Manifest, members: &[String]) -> Result<()> {
    let listed: Vec<&str> = manifest.parts.iter().map(|part| part.path.as_str()).collect();
    if listed != part::ALL {
        return Err(refused(path, format!("{MANIFEST} does not list the parts that evidence has")));
    }
    if let Some(large) = manifest.parts.iter().find(|part| part.size > PART_BYTES_MAX) {
        return Err(refused(path, format!("{} is larger than {PART_BYTES_MAX} bytes", large.path)));
    }
    let known = |name: &str| listed.contains(&name) || name == MANIFEST || name == SIGNATURE;
    if let Some(foreign) = members.iter().find(|name| !known(name)) {
        let name = foreign.escape_default();
        return Err(refused(path, format!("`{name}` is not in the manifest: somebody put it there")));
    }
    match listed.iter().find(|name| !members.iter().any(|member| member == *name)) {
        Some(missing) => Err(refused(path, format!("{missing} is missing: the manifest lists it"))),
        None => Ok(()),
    }
}

/// Checks everything: the hash of each part, each object against its name, the ledger up to its head, and the bills of materials
/// against what is published.
pub fn check(header: &Header, progress: &Progress) -> Result<Checked> {
    let total = header.manifest.parts.iter().map(|part| part.size).fold(0, u64::saturating_add);
    let task = progress.task(format!("verifying {}", header.path.display()), Unit::Bytes, Some(total));
    header.hashes(|n| task.add(n))?;
    let mut checked = Checked {
        components: 0,
        objects: 0,
        entries: 0,
        decisions: 0,
        policy_is_built_in: false,
        unproven: Vec::new(),
    };
    let (snapshot, decisions) =
        header.part(part::INPUTS, |lines| objects::inputs(lines, &header.manifest))?;
    checked.objects += objects::INPUTS;
    header.part(part::LEDGER, |lines| header.ledger(lines, &snapshot, &decisions, &mut checked))?;
    for (bill, list) in objects::BILLS {
        checked.components = header.part(part::CONTENT, |lines| {
            let (mut published, nodes) = objects::Published::of(lines, &header.manifest)?;
            let names = published.names();
            header.raw(bill, |data| objects::compare(data, bill, list, &mut published))?;
            if bill == part::SPDX {
                checked.objects += nodes + names;
            }
            Ok(published.count())
        })?;
    }
    let keys = header.part(part::CONTENT, |lines| objects::keys(lines, snapshot.content))?;
    checked.objects +=
        header.part(part::JUDGEMENTS, |lines| objects::all(lines, snapshot.judgement, |_| true))?;
    checked.objects += header
        .part(part::FACTS, |lines| objects::all(lines, snapshot.inputs.facts, |key| keys.contains(key)))?;
    Ok(checked)
}

impl Header {
    /// Hands on the bytes of a member.
    fn raw<T>(&self, name: &str, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let file: File = files::open_regular(&self.path).map_err(file_error(&self.path))?;
        let (mut read, mut result) = (Some(read), None);
        let walked = zip_files(BufReader::new(file), &limits(), &mut |found, data| {
            if found == name
                && let Some(read) = read.take()
            {
                result = Some(read(data));
            }
            Ok(())
        });
        walked.map_err(|e| bad_archive(&self.path, e))?;
        result.unwrap_or_else(|| Err(refused(&self.path, format!("{name} is missing"))))
    }

    /// Hands on the lines of a part.
    fn part<T>(&self, name: &'static str, read: impl FnOnce(&mut Lines<'_>) -> Result<T>) -> Result<T> {
        self.raw(name, |data| read(&mut Lines::of(&self.path, name, data)))
    }

    /// Compares each part with its size and its hash.
    fn hashes(&self, told: impl Fn(u64)) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        for part in &self.manifest.parts {
            let (mut hasher, mut size) = (Sha256::new(), 0u64);
            let path = &part.path;
            self.raw(path, |data| {
                let mut data = data.take(part.size.saturating_add(1));
                loop {
                    let n = match data.read(&mut buffer) {
                        Ok(n) => n,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        Err(e) => {
                            return Err(refused(
                                &self.path,
                                format!("{path} was changed or is damaged: {e}"),
                            ));
                        }
                    };
                    if n == 0 {
                        return Ok(());
                    }
                    hasher.update(buffer.get(..n).unwrap_or_default());
                    size += n as u64;
                    told(n as u64);
                }
            })?;
            if size != part.size || Digest::from_bytes(hasher.finalize().into()) != part.sha256 {
                let what = "was changed or is damaged: its hash is not the one in the manifest";
                return Err(refused(&self.path, format!("{path} {what}")));
            }
        }
        Ok(())
    }

    /// Follows the ledger to the head that the manifest signs, and finds in it what belongs to the snapshot.
    fn ledger(
        &self,
        lines: &mut Lines<'_>,
        snapshot: &Snapshot,
        decisions: &Decisions,
        checked: &mut Checked,
    ) -> Result<()> {
        let refuse = |what: String| refused(&self.path, format!("{}: {what}", part::LEDGER));
        let mut met = Met::of(Wanted {
            channel: &self.manifest.channel,
            id: self.manifest.snapshot,
            policy: snapshot.inputs.policy,
            decisions: &decisions.list,
        });
        let mut head: Option<LedgerHead> = None;
        while let Some(line) = lines.next()? {
            let entry: LedgerEntry = serde_json::from_slice(&line)
                .map_err(|e| refuse(format!("line {} is no entry: {e}", lines.number())))?;
            // The first one goes on from what is not here.
            let before = head.unwrap_or(LedgerHead {
                number: entry.number.saturating_sub(1),
                hash: if entry.number == 1 { ledger::GENESIS } else { entry.previous },
            });
            let next = ledger::follow(before, &entry).map_err(|e| refuse(e.to_string()))?;
            if Digest::of(&line) != next.hash {
                return Err(refuse(format!("entry {} is not in canonical form", next.number)));
            }
            met.look(&entry).map_err(refuse)?;
            head = Some(next);
            checked.entries += 1;
        }
        if head != Some(self.manifest.ledger) {
            let signed = self.manifest.ledger;
            return Err(refuse(format!(
                "it does not lead to entry {}, the head that is signed",
                signed.number
            )));
        }
        let published = met.published().map_err(refuse)?;
        if published != self.manifest.published {
            return Err(refuse(format!(
                "entry {published} tells of the publication, and the manifest names another"
            )));
        }
        checked.decisions = decisions.list.len() as u64;
        checked.policy_is_built_in = is_built_in(snapshot.inputs.policy);
        if !met.has_policy() && !checked.policy_is_built_in {
            checked.unproven.push("policy".to_owned());
        }
        Ok(())
    }
}

/// Whether a policy is known without an entry: whoever has the program has it.
fn is_built_in(policy: Id<PolicyText>) -> bool {
    let inherited = PolicyText { text: INHERITED.to_owned() };
    object::encode(&inherited).is_ok_and(|(id, _)| id == policy)
}
