//! Cutting files that are larger than a medium takes, where a bundle is written.
//!
//! Whoever writes goes by the hashes of what it lists: what lies there already is known by them, and so is what a medium gives back. So
//! the parts are hashed before, in one pass over each file that is cut, in which the file itself is held against its own hash; where
//! nothing but a plan is wanted nobody reads anything.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::{BundledFile, Files, Manifest, Unlisted};
use airlock_core::cut::{self, FAT32_MAX, Joined, LIMIT_MIN};
use airlock_core::id::Digest;

use super::media;
use super::source::{self, Wholes};
use crate::error::{Error, Result, file_error};
use crate::progress::{Progress, Unit};

/// What `statfs` says of FAT in all its forms.
const FAT_MAGIC: u64 = 0x4d44;

/// The most bytes that a file in any of these folders may have: what their file systems take, and what was asked for.
pub(super) fn limit<'a>(dirs: impl IntoIterator<Item = &'a Path>, asked: Option<u64>) -> Result<u64> {
    if let Some(asked) = asked.filter(|asked| *asked < LIMIT_MIN) {
        return Err(Error::usage(format!("files of {asked} bytes at most are too small"))
            .hint(format!("let files have {LIMIT_MIN} bytes at least")));
    }
    let mut least = asked.unwrap_or(u64::MAX);
    for dir in dirs {
        let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let stat = rustix::fs::statfs(there).map_err(|e| file_error(there)(e.into()))?;
        least = least.min(limit_of(u64::try_from(stat.f_type).unwrap_or(0)));
    }
    Ok(least)
}

/// The largest file on a file system of this kind.
const fn limit_of(kind: u64) -> u64 {
    match kind {
        FAT_MAGIC => FAT32_MAX,
        _ => u64::MAX,
    }
}

/// Lists these files in a manifest, in parts where they are larger than `limit`.
pub(super) fn list(manifest: &mut Manifest, files: Files, limit: u64) -> Result<()> {
    (manifest.files, manifest.joined) = cut::cut(files, limit).map_err(|e| match e {
        cut::Uncut::Parts { .. } => {
            Error::usage(e.to_string()).hint("let files be larger (--max-file), or use larger media")
        }
        cut::Uncut::Listed(e) => unlisted(e),
    })?;
    if !manifest.joined.is_empty() {
        manifest.format = manifest.format.max(cut::FORMAT);
    }
    Ok(())
}

/// What whoever exports is told of files that no manifest can list.
pub(super) fn unlisted(why: Unlisted) -> Error {
    let error = Error::usage(format!("the bundle {why}"));
    match why {
        Unlisted::Many => error.hint("export channel by channel"),
        Unlisted::Long => error,
    }
}

/// What is known of the packages is in one file, which is not cut.
pub(super) fn check_objects(manifest: &Manifest, limit: u64) -> Result<()> {
    let objects = manifest.objects.iter().map(|file| (&file.path, file.size));
    let sealed = manifest.extra.iter().map(|file| (&file.path, file.size));
    match objects.chain(sealed).find(|(_, size)| *size > limit) {
        Some((path, size)) => Err(Error::usage(format!(
            "{path} has {size} bytes, and files may have {limit} at most: what is known of the packages is not cut",
        ))
        .hint("let files be larger (--max-file), or export channel by channel")),
        None => Ok(()),
    }
}

/// Reads the files that are cut and gives their parts their hashes.
pub(super) fn hash_parts(wholes: &Wholes, manifest: &mut Manifest, progress: &Progress) -> Result<()> {
    if manifest.joined.is_empty() {
        return Ok(());
    }
    let total = manifest.joined.iter().map(|joined| joined.size).sum();
    let task = progress.task("hashing parts".to_owned(), Unit::Bytes, Some(total));
    let found = Mutex::new(Vec::new());
    media::each(
        &manifest.joined,
        |joined| joined.size,
        |joined, buffer| {
            let parts: Vec<BundledFile<'_>> =
                manifest.files.at(joined.places()).into_iter().flatten().collect();
            let hashes = hashes(wholes, joined, &parts, buffer, &|n| task.add(n))?;
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(joined.places().zip(hashes));
            Ok(())
        },
    )?;
    for (place, sha256) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        manifest.files.set_sha256(place, sha256).map_err(unlisted)?;
    }
    Ok(())
}

fn hashes(
    wholes: &Wholes,
    joined: &Joined,
    parts: &[BundledFile<'_>],
    buffer: &mut [u8],
    told: &impl Fn(u64),
) -> Result<Vec<Digest>> {
    let name = parts.first().map_or("", |part| &*part.name);
    let stretch = |first, size| wholes.stretch(joined.sha256, first, size).ok_or_else(|| source::left(name));
    let (mut first, mut whole, mut out) = (0, Sha256::new(), Vec::new());
    for part in parts {
        let mut hasher = Sha256::new();
        let source = stretch(first, part.size)?;
        media::pass(source.open_at(0)?, source.path(), buffer, |bytes| {
            hasher.update(bytes);
            whole.update(bytes);
            told(bytes.len() as u64);
            Ok(())
        })?;
        out.push(Digest::from_bytes(hasher.finalize().into()));
        first += part.size;
    }
    match Digest::from_bytes(whole.finalize().into()) == joined.sha256 {
        true => Ok(out),
        false => Err(source::changed(stretch(0, 0)?.path(), name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fat_takes_no_larger_files_than_it_can_and_others_what_was_asked_for() {
        assert_eq!(limit_of(FAT_MAGIC), (4 << 30) - 1);
        let here = tempfile::tempdir().unwrap();
        let absent = here.path().join("not/there");
        assert_eq!(limit([here.path(), &absent], None).unwrap(), u64::MAX);
        assert_eq!(limit([here.path()], Some(1 << 20)).unwrap(), 1 << 20);
        let error = limit([here.path()], Some(LIMIT_MIN - 1)).unwrap_err();
        assert!(error.message.contains("too small"), "{error}");
    }
}
