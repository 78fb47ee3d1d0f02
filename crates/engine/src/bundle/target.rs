//! Where the bytes of a bundle's files go on the side that takes them in: what [`super::source`] is on the other.
//!
//! A file that is a blob lies under its hash. A part of one lies in its place in the blob that it is a part of, from the first byte on, so
//! that the blob is there when its last part is, and nothing is copied; then it has to hash to what the manifest says of it.

use std::path::Path;

use airlock_core::bundle::{BundledFile, Manifest};
use airlock_core::cut::Whole;
use airlock_core::id::Digest;
use airlock_store::{Blobs, Incoming, Intake, Part, Store};

use super::media;
use super::source::Source;
use crate::error::{Error, Result, file_error};
use crate::progress::{Progress, Unit};

/// Where a file goes that a manifest lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// It is a blob.
    Blob { number: u32, sha256: Digest, size: u64 },
    /// It is a part of one.
    Part(Part),
}

/// By what an intake calls the blob at a place of the list, or that which begins there. Lists have no more places than can be counted so.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Target {
    /// Where the file goes that stands at this place of the list.
    pub fn of(manifest: &Manifest, place: usize, file: &BundledFile<'_>) -> Self {
        let (sha256, size) = (file.sha256, file.size);
        match manifest.part_of(place) {
            Some((joined, first)) => Self::Part(Part { blob: joined.sha256, first, sha256, size }),
            None => Self::Blob { number: number(place), sha256, size },
        }
    }

    /// The blob that it is, or is a part of.
    fn blob(&self) -> Digest {
        match self {
            Self::Blob { sha256, .. } => *sha256,
            Self::Part(part) => part.blob,
        }
    }

    /// Whether the store has it, which keeps it from being collected.
    pub fn is_stored(&self, blobs: &Blobs) -> Result<bool> {
        Ok(blobs.touch(self.blob())?)
    }

    /// Whether a run that was broken off had taken it in. It is hashed to find out.
    pub fn is_held(&self, intake: &Intake, buffer: &mut [u8]) -> Result<bool> {
        Ok(match self {
            Self::Blob { number, sha256, size } => intake.holds((*number, *sha256), *size, buffer)?,
            Self::Part(part) => intake.holds_part(part, buffer)?,
        })
    }

    /// Starts to write it.
    pub fn begin<'a>(&self, intake: &'a Intake) -> Result<Incoming<'a>> {
        Ok(match self {
            Self::Blob { number, sha256, .. } => intake.begin((*number, *sha256))?,
            Self::Part(part) => intake.begin_part(part)?,
        })
    }

    /// Where it lies, if it is here.
    pub fn find(&self, blobs: &Blobs, intake: &Intake) -> Option<Source> {
        let path = match blobs.find(self.blob()) {
            Some(blob) => blob.path().to_owned(),
            None => Some(intake.path_of(self.blob())).filter(|path| path.exists())?,
        };
        Some(match self {
            Self::Blob { size, .. } => Source::stretch(path, 0, *size),
            Self::Part(part) => Source::stretch(path, part.first, part.size),
        })
    }
}

/// What the files that the store does not have take there, and their folders, in bytes.
pub(super) fn room(manifest: &Manifest, store: &Store, intake: &Intake) -> Result<u64> {
    let (_, step) = media::free(store.blobs.root())?;
    let (mut count, mut sum) = (0u64, 0u64);
    for whole in manifest.wholes().filter(|whole| store.blobs.find(whole.sha256).is_none()) {
        let held = match whole.joined {
            Some(_) => intake.may_hold_of(whole.sha256),
            None if intake.may_hold(whole.sha256) => whole.size,
            None => 0,
        };
        count += 1;
        sum = sum.saturating_add(media::room_for(std::iter::once(whole.size.saturating_sub(held))));
    }
    Ok(sum.saturating_add(media::room_for_folders(count, step)))
}

/// Makes blobs of parts that are all here.
///
/// # Errors
///
/// Unsafe, if parts make something else than the manifest says; a fault, if one of them is not any more what it was when it came.
pub(super) fn join(
    manifest: &Manifest,
    (blobs, intake): (&Blobs, &Intake),
    progress: &Progress,
) -> Result<()> {
    let is_new = |whole: &Whole<'_>| whole.joined.is_some() && blobs.find(whole.sha256).is_none();
    let made: Vec<Whole<'_>> = manifest.wholes().filter(is_new).collect();
    if made.is_empty() {
        return Ok(());
    }
    let total = made.iter().map(|whole| whole.size).fold(0, u64::saturating_add);
    let task = progress.task("putting parts together".to_owned(), Unit::Bytes, Some(total));
    media::each(
        &made,
        |whole| whole.size,
        |whole, buffer| {
            let blob = (number(whole.place), whole.sha256);
            if !intake.join(blob, whole.size, buffer)? {
                check_parts(manifest, whole, intake, buffer)?;
                // They are what they were: then also what they make, unless the disk only gave other bytes for once.
                if !intake.join(blob, whole.size, buffer)? {
                    return Err(not_made(&whole.name));
                }
            }
            task.add(whole.size);
            Ok(())
        },
    )
}

/// Holds the parts of a blob once more against their hashes, which they had when they came: what is wrong by now is this station's.
fn check_parts(manifest: &Manifest, whole: &Whole<'_>, intake: &Intake, buffer: &mut [u8]) -> Result<()> {
    let path = intake.path_of(whole.sha256);
    let length = std::fs::metadata(&path).map_err(file_error(&path))?.len();
    let mut first = 0;
    for part in whole.joined.and_then(|joined| manifest.files.at(joined.places())).into_iter().flatten() {
        let found = Source::stretch(path.clone(), first, part.size).hash(buffer)?;
        if length != whole.size || found != part.sha256 {
            return Err(changed_here(&path, &part.name));
        }
        first += part.size;
    }
    Ok(())
}

fn changed_here(path: &Path, name: &str) -> Error {
    let what = format!("{}: this station's disk does not give back {name} as it came", path.display());
    let hint = "run the same import again: what changed is taken from its medium once more, or is said to be missing. If it happens again, \
                look after the disk of this station";
    Error { is_ours: true, ..Error::fault(what).hint(hint) }
}

/// Parts are each what the manifest says, and together they are not.
pub(super) fn not_made(name: &str) -> Error {
    Error::unsafe_(format!("the parts of {name} do not make the file that the manifest says"))
        .hint("whoever signed the manifest said something wrong: tell your security officer, and the sender")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Kind;

    /// A manifest of one file in two parts that is said to be `whole`.
    fn manifest(parts: [&[u8]; 2], whole: &[u8]) -> Manifest {
        let file = |n: usize| {
            let path = format!("files/ab/a.whl.00{}", n + 1);
            json!({"name": path, "path": path, "sha256": Digest::of(parts[n]), "size": parts[n].len()})
        };
        let joined = json!({"first": 0, "parts": 2, "sha256": Digest::of(whole), "size": whole.len()});
        serde_json::from_value(json!({
            "channels": {}, "created": "2026-03-01T12:00:00Z", "extra": [], "feeds": {}, "files": [file(0), file(1)],
            "format": 4, "joined": [joined], "ledger": {"hash": Digest::of(b""), "number": 1}, "number": 1, "objects": [],
            "sender": {"name": "low", "public_key": ""}, "stream": "low-to-all",
        }))
        .unwrap()
    }

    fn take(manifest: &Manifest, intake: &Intake, parts: [&[u8]; 2]) {
        for (place, bytes) in parts.into_iter().enumerate() {
            let target = Target::of(manifest, place, &manifest.files.get(place).unwrap());
            let mut incoming = target.begin(intake).unwrap();
            incoming.write(bytes).unwrap();
            incoming.finish().unwrap();
        }
    }

    #[test]
    fn a_part_that_the_disk_changed_since_it_came_is_not_the_senders_fault() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), true).unwrap();
        let (parts, progress) = ([&b"one"[..], &b"two"[..]], Progress::default());
        let honest = manifest(parts, b"onetwo");
        let intake = blobs.intake("a").unwrap();
        take(&honest, &intake, parts);
        join(&honest, (&blobs, &intake), &progress).unwrap();
        let path = intake.path_of(Digest::of(b"onetwo"));
        for harmed in [&b"onetwx"[..], b"xnetwo", b"onetw", b"onetwo "] {
            std::fs::write(&path, harmed).unwrap();
            let error = join(&honest, (&blobs, &intake), &progress).unwrap_err();
            assert!(error.kind == Kind::Fault && error.is_ours, "{error}");
            assert!(error.message.contains("does not give back files/ab/a.whl.00"), "{error}");
        }
        let lying = manifest(parts, b"twoone");
        let intake = blobs.intake("b").unwrap();
        take(&lying, &intake, parts);
        let error = join(&lying, (&blobs, &intake), &progress).unwrap_err();
        assert!(error.kind == Kind::Unsafe && error.message.contains("do not make the file"), "{error}");
    }
}
