//! How much of a disk bundles may take before they are whole, and for how long.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use airlock_core::id::Digest;

use super::door::Door;
use super::members::Members;
use super::spool::beside;
use crate::bundle::media;
use crate::error::{Error, Result, file_error};

/// Bytes of a block, in which systems count what a file takes.
const COUNTED_BYTES: u64 = 512;
/// The least that is counted for a file, in bytes.
const FILE_BYTES_MIN: u64 = 4096;
/// Between two looks at what is too old.
pub(super) const TIDY: Duration = Duration::from_secs(3600);
/// Bundles that may wait together; each is a folder, a record and a list.
const BUNDLES_MAX: usize = 1000;

/// Holds what a further bundle takes against what is free and the quota.
pub(super) fn check(incoming: &Path, door: &Door, members: &Members, quota: Option<u64>) -> Result<()> {
    let room = members.room();
    media::check_room(incoming, room)?;
    media::check_inodes(incoming, members.list.len() as u64)?;
    let waiting = bundles(incoming)?;
    if waiting.len() >= BUNDLES_MAX {
        return Err(Error::fault(format!(
            "{} bundles wait in {} already",
            waiting.len(),
            incoming.display()
        ))
        .hint("remove what is not waited for any more"));
    }
    let Some(quota) = quota else { return Ok(()) };
    let mut taken = 0_u64;
    for dir in waiting {
        // What nobody may bring any more takes what it takes.
        let bytes = door.open(&dir).map_or_else(|_| there(&dir), |members| Ok(members.room()))?;
        taken = taken.saturating_add(bytes);
    }
    if room.saturating_add(taken) <= quota {
        return Ok(());
    }
    Err(Error::fault(format!(
        "the bundle takes {room} bytes, {taken} are taken in {} already, and together they may be {quota}",
        incoming.display()
    ))
    .hint("remove what is not waited for any more, or raise --quota"))
}

/// The folders of bundles that are not whole.
pub(super) fn bundles(incoming: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(incoming).map_err(file_error(incoming))? {
        let path = entry.map_err(file_error(incoming))?.path();
        if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<Digest>().is_ok()) {
            out.push(path);
        }
    }
    Ok(out)
}

/// What lies below a folder, in bytes as the file system counts them.
fn there(dir: &Path) -> Result<u64> {
    let (mut sum, mut folders) = (0_u64, vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
            let entry = entry.map_err(file_error(&folder))?;
            let meta = entry.metadata().map_err(file_error(entry.path()))?;
            sum = sum.saturating_add(meta.blocks().saturating_mul(COUNTED_BYTES).max(FILE_BYTES_MIN));
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(sum)
}

/// Removes bundles that are not whole and of which nothing came for so long. Those that are being received stay.
pub(super) fn expire(incoming: &Path, keep: Duration) -> Result<()> {
    for dir in bundles(incoming)? {
        let record = beside(&dir, ".have");
        let is_old = |path: &Path| {
            let changed = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
            // A time that lies ahead is no age.
            Some(SystemTime::now().duration_since(changed).is_ok_and(|age| age >= keep))
        };
        if is_old(&record).or_else(|| is_old(&dir)) != Some(true) {
            continue;
        }
        let held = File::open(&record).ok();
        if held.as_ref().is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        // The record last: where it is, it says how old the rest is.
        fs::remove_dir_all(&dir).map_err(file_error(&dir))?;
        for path in [beside(&dir, ".missing"), record] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&path)(e)),
                _ => {}
            }
        }
    }
    Ok(())
}
