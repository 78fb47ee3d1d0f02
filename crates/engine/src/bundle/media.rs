//! Files on media: many at once, within bounded memory, and read back from the medium itself.
//!
//! With many small files it is the number of files that costs, and not their bytes; so several are on their way at
//! the same time, no file is synced by itself, and nobody asks what it knows already. With large ones it is the bytes;
//! so the medium writes some while others are read.

use std::fs::File;
use std::io::{Read, Write as _};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, Mode, OFlags, fadvise};
use sha2::{Digest as _, Sha256};

use airlock_core::id::Digest;

use super::source::Source;
use crate::error::{Error, Result, file_error};

/// Bytes that are read at once.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;
/// Files from this size on, in bytes, count as large: a medium reads and writes few of them at once.
const LARGE_BYTES: u64 = 4 << 20;
/// Large files on their way at the same time: two are read, hashed or copied while one waits for the medium.
const LARGE_AT_ONCE: usize = 3;
/// Small files on their way at the same time.
const SMALL_AT_ONCE: usize = 8;
/// What is copied in one go within the kernel, in bytes: the medium begins with it while the next is copied.
const STRETCH_BYTES: u64 = 8 << 20;
/// What is written to a medium to see how fast it is, in bytes.
const TRIAL_BYTES: u64 = 64 << 20;
/// The least that a file takes on a file system, in bytes.
const BLOCK_BYTES: u64 = 4096;
/// Folders below `files/`: they are called by two digits.
pub(super) const FOLDERS_MAX: u64 = 256;
/// What a file's name takes in its folder, in bytes: FAT32 has three entries of 32 bytes for it, and exFAT four.
const NAME_BYTES: u64 = 128;

/// Does one piece of work per item, several at once, each with a buffer of [`BUFFER_BYTES`]. The first error stops
/// it; where several happen together, that of the first item is the answer.
pub(super) fn each<T: Sync>(
    items: &[T],
    size: impl Fn(&T) -> u64,
    work: impl Fn(&T, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    let item = |at: usize| items.get(at);
    each_of(
        items.len(),
        |at| item(at).map_or(0, &size),
        |at, buffer| item(at).map_or(Ok(()), |item| work(item, buffer)),
    )
}

/// The same for so many items that are called by their places.
pub(super) fn each_of(
    count: usize,
    size: impl Fn(usize) -> u64,
    work: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    // Of very many small ones the places are kept in few bytes, and of large ones there are few.
    let most = u32::try_from(count).map_err(|_| Error::fault(format!("{count} files are too many")))?;
    let (large, small): (Vec<u32>, Vec<u32>) = (0..most).partition(|at| is_large(size(*at as usize)));
    several(&large, LARGE_AT_ONCE, &work)?;
    several(&small, SMALL_AT_ONCE, &work)
}

/// Whether a file of so many bytes is brought onto the medium by itself.
pub(super) const fn is_large(size: u64) -> bool {
    size >= LARGE_BYTES
}

fn several(
    items: &[u32],
    threads: usize,
    work: &(impl Fn(usize, &mut [u8]) -> Result<()> + Sync),
) -> Result<()> {
    let threads = threads.min(items.len());
    // Each thread goes through its own stretch: neighbours lie in one folder, where only one can make files at a time.
    let stretch = items.len().div_ceil(threads.max(1));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let worker = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= stretch * threads {
                return;
            }
            let at = (turn % threads) * stretch + turn / threads;
            let Some(item) = items.get(at) else { continue };
            if let Err(error) = work(*item as usize, &mut buffer) {
                stop.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                    *failed = Some((at, error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ended: Vec<bool> = all.into_iter().map(|one| one.join().is_ok()).collect();
        if ended.contains(&false) { Err(Error::fault("a working thread stopped")) } else { Ok(()) }
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// A file to read, which a link in its place is not. `Ok(None)` where it is no ordinary file.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => {
            let file: File = OwnedFd::into(file);
            let is_file = file.metadata().map_err(file_error(path))?.is_file();
            Ok(is_file.then_some(file))
        }
        Err(rustix::io::Errno::LOOP) => Ok(None),
        Err(e) => Err(file_error(path)(e.into())),
    }
}

/// A file to write from its beginning; a link in its place is not followed.
pub(super) fn create(path: &Path) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    rustix::fs::open(path, flags, mode).map(OwnedFd::into).map_err(|e| file_error(path)(e.into()))
}

/// Forgets what memory holds of a file, so that what is read is what the medium has. It is a wish: file systems
/// that live in memory do not grant it.
pub(super) fn forget(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// Hands the bytes of a file on, or of a stretch of one.
pub(super) fn pass(
    mut from: impl Read,
    path: &Path,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    loop {
        let n = from.read(buffer).map_err(file_error(path))?;
        if n == 0 {
            return Ok(());
        }
        each(&buffer[..n])?;
    }
}

/// The hash of a file, or of a stretch of one.
pub(crate) fn hash(
    from: impl Read,
    path: &Path,
    buffer: &mut [u8],
    mut told: impl FnMut(u64),
) -> Result<Digest> {
    let mut hasher = Sha256::new();
    pass(from, path, buffer, |bytes| {
        hasher.update(bytes);
        told(bytes.len() as u64);
        Ok(())
    })?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Copies what becomes a file. Where the file system can, it shares the blocks, never the file. A large one is on the medium
/// when this returns.
pub(super) fn copy(source: &Source, to: &Path, buffer: &mut [u8], mut told: impl FnMut(u64)) -> Result<()> {
    let (mut bytes, from) = (source.open_at(0)?, source.path());
    let mut sink = create(to)?;
    if !is_large(source.size()) {
        return pass(bytes, from, buffer, |bytes| {
            told(bytes.len() as u64);
            sink.write_all(bytes).map_err(file_error(to))
        });
    }
    let mut copied = 0;
    loop {
        let n = bytes.copy_to(&mut sink, STRETCH_BYTES, buffer).map_err(|e| {
            let both = format!("{} to {}", from.display(), to.display());
            file_error(both)(e)
        })?;
        let Some(stretch) = NonZeroU64::new(n) else {
            return sink.sync_data().map_err(file_error(to));
        };
        // What is not on the medium yet cannot be forgotten: the wish only starts the writing.
        let _ = fadvise(&sink, copied, Some(stretch), Advice::DontNeed);
        copied += n;
        told(n);
    }
}

/// Brings everything that was written to the file system of a folder onto the medium.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    let folder = File::open(dir).map_err(file_error(dir))?;
    rustix::fs::syncfs(&folder).map_err(|e| file_error(dir)(e.into()))
}

/// What files of these sizes take on a file system, in bytes.
pub(crate) fn room_for(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, |sum, size| sum.saturating_add(size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)))
}

/// What the folders of so many artifacts take at most, in bytes, on a file system that gives room in such steps: they lie in up to
/// [`FOLDERS_MAX`], each of which has a step of its own and the names.
pub(crate) fn room_for_folders(files: u64, step: u64) -> u64 {
    files.min(FOLDERS_MAX).saturating_mul(step).saturating_add(files.saturating_mul(NAME_BYTES))
}

/// How many bytes are free on the file system of a folder, and in steps of how many it gives them to files.
pub(super) fn free(dir: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| file_error(dir)(e.into()))?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_frsize.max(BLOCK_BYTES)))
}

/// Which file system a folder is on.
pub(super) fn device(dir: &Path) -> Result<u64> {
    Ok(std::fs::metadata(dir).map_err(file_error(dir))?.dev())
}

/// How many seconds a medium takes for each byte: to be written and synced, and to be read back. Tried with a file of
/// [`TRIAL_BYTES`], which is gone afterwards.
pub(super) fn seconds_per_byte(dir: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(dir).map_err(file_error(dir))?;
    let mut piece = vec![0; BUFFER_BYTES];
    // Media that compress or that know what they hold already must have work with it.
    getrandom::fill(&mut piece)
        .map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
    let begun = std::time::Instant::now();
    for _ in 0..TRIAL_BYTES / BUFFER_BYTES as u64 {
        file.write_all(&piece).map_err(file_error(dir))?;
    }
    file.sync_data().map_err(file_error(dir))?;
    forget(&file);
    std::io::Seek::rewind(&mut file).map_err(file_error(dir))?;
    pass(&file, dir, &mut piece, |_| Ok(()))?;
    Ok(begun.elapsed().as_secs_f64() / TRIAL_BYTES as f64)
}

/// Says how much is missing, where there is not enough room on the file system of a folder.
pub(crate) fn check_room(dir: &Path, needed: u64) -> Result<()> {
    let (free, _) = free(dir)?;
    if needed <= free {
        return Ok(());
    }
    let mb = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
    Err(Error::fault(format!(
        "there is not enough room in {}: {} are needed, {} are free, {} are missing",
        dir.display(),
        mb(needed),
        mb(free),
        mb(needed - free)
    ))
    .hint("make room or use another disk, then run it again; nothing was written"))
}

/// Says where the file system of a folder has no names left for so many files. Some file systems do not count them.
pub(crate) fn check_inodes(dir: &Path, needed: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| file_error(dir)(e.into()))?;
    if stat.f_files == 0 || needed <= stat.f_favail {
        return Ok(());
    }
    Err(Error::fault(format!(
        "there is not enough room in {}: {needed} files are to come, and {} more are possible there",
        dir.display(),
        stat.f_favail
    ))
    .hint("make room or use another disk, then run it again; nothing was written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_the_first_error_is_told() {
        let items: Vec<u64> = (0..1000).chain([LARGE_BYTES, LARGE_BYTES + 1]).collect();
        let done = Mutex::new(Vec::new());
        each(
            &items,
            |n| *n,
            |n, _| {
                done.lock().unwrap().push(*n);
                Ok(())
            },
        )
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, items);
        let error = each(
            &items,
            |n| *n,
            |n, _| match n {
                7 => Err(Error::no("seven")),
                _ => Ok(()),
            },
        );
        assert_eq!(error.unwrap_err().message, "seven");
        each(&[], |n: &u64| *n, |_, _| Ok(())).unwrap();
    }

    #[test]
    fn missing_room_is_told_in_figures() {
        let dir = tempfile::tempdir().unwrap();
        check_room(dir.path(), 1).unwrap();
        let error = check_room(dir.path(), u64::MAX / 2).unwrap_err();
        assert!(error.message.contains("are missing") && error.kind == crate::error::Kind::Fault, "{error}");
        check_inodes(dir.path(), 1).unwrap();
        let counts = rustix::fs::statvfs(dir.path()).unwrap().f_files > 0;
        assert_eq!(check_inodes(dir.path(), u64::MAX).is_err(), counts);
        assert_eq!(room_for([0, 1, 4096, 4097].into_iter()), 4 * 4096);
        assert_eq!(room_for_folders(3, 4096), 3 * (4096 + 128));
        assert_eq!(room_for_folders(1_000_000, 32 << 10), (8 << 20) + 128_000_000);
    }
}
