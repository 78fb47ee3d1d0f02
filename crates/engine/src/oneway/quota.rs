//! How much of a disk bundles may take before they are whole, and for how long.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use airlock_core::bundle::{MANIFEST, ROOT, SIGNATURES};
use airlock_core::id::Digest;

use super::door::Door;
use super::members::Members;
use super::record;
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
/// So long a bundle of which no byte came keeps room that another one asks for: whoever saw its manifest pass can send that again.
const PROMISED: Duration = Duration::from_secs(600);
/// What tells of a bundle beside its folder.
const BESIDE: [&str; 2] = [".missing", ".have"];

/// Holds what a further bundle, whose manifest lies in `folder`, takes against what is free and the quota.
pub(super) fn check(
    incoming: &Path,
    door: &Door,
    (members, folder): (&Members, &Path),
    quota: Option<u64>,
) -> Result<()> {
    let files = members.count() as u64;
    let room = members.room().saturating_add(record::room(files)).saturating_add(papers(folder));
    let mut held = held(incoming, door, room, quota);
    if held.is_err() {
        expire_promised(incoming)?;
        held = self::held(incoming, door, room, quota);
    }
    held?;
    media::check_room(incoming, room)?;
    media::check_inodes(incoming, files)
}

/// Holds so many bytes, in one more bundle, against the quota and what waits.
fn held(incoming: &Path, door: &Door, room: u64, quota: Option<u64>) -> Result<()> {
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
        let all = |members: Members| Ok(members.room().saturating_add(papers(&dir)));
        let bytes = door.open(&dir).map_or_else(|_| there(&dir), all)?;
        let beside = BESIDE.iter().map(|ending| size(&beside(&dir, ending))).fold(0, u64::saturating_add);
        taken = taken.saturating_add(bytes).saturating_add(beside);
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

/// What manifest, signatures and root take, in bytes.
fn papers(dir: &Path) -> u64 {
    [MANIFEST, SIGNATURES, ROOT].iter().map(|name| size(&dir.join(name))).fold(0, u64::saturating_add)
}

/// What a file takes, in bytes: whole blocks; nothing where it is not there.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len().next_multiple_of(FILE_BYTES_MIN))
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
    expire_those(incoming, keep, |_| true)
}

/// Removes those of which nothing ever came but their manifest.
fn expire_promised(incoming: &Path) -> Result<()> {
    expire_those(incoming, PROMISED, |record| fs::metadata(record).map_or(0, |meta| meta.len()) == 0)
}

fn expire_those(incoming: &Path, keep: Duration, is_meant: impl Fn(&Path) -> bool) -> Result<()> {
    for dir in bundles(incoming)? {
        let record = beside(&dir, ".have");
        let is_old = |path: &Path| {
            let changed = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
            // A time that lies ahead is no age.
            Some(SystemTime::now().duration_since(changed).is_ok_and(|age| age >= keep))
        };
        if !is_meant(&record) || is_old(&record).or_else(|| is_old(&dir)) != Some(true) {
            continue;
        }
        let held = File::open(&record).ok();
        if held.as_ref().is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        // The record last: where it is, it says how old the rest is.
        fs::remove_dir_all(&dir).map_err(file_error(&dir))?;
        for path in BESIDE.map(|ending| beside(&dir, ending)) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&path)(e)),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_promised_goes_soon_and_what_began_to_come_stays() {
        let incoming = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - PROMISED - Duration::from_secs(1);
        let bundle = |n: u8, record: &[u8], at: SystemTime| {
            let dir = incoming.path().join(Digest::of(&[n]).to_string());
            fs::create_dir(&dir).unwrap();
            let record_path = beside(&dir, ".have");
            fs::write(&record_path, record).unwrap();
            File::options().append(true).open(&record_path).unwrap().set_modified(at).unwrap();
            dir
        };
        let promised = bundle(1, b"", old);
        let (began, new, used) =
            (bundle(2, b"x", old), bundle(3, b"", SystemTime::now()), bundle(4, b"", old));
        let lock = File::open(beside(&used, ".have")).unwrap();
        lock.try_lock().unwrap();
        expire_promised(incoming.path()).unwrap();
        assert!(!promised.exists() && !beside(&promised, ".have").exists());
        assert!(began.exists() && new.exists() && used.exists());
        expire(incoming.path(), PROMISED).unwrap();
        assert!(!began.exists() && new.exists() && used.exists());
    }
}
