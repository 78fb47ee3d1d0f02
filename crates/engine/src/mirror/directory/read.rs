//! Reading packages: each is hashed once, from front to back, and asked for the little that a record needs.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use md5::{Digest as _, Md5};
use sha2::Sha256;

use airlock_core::ecosystem::{ArtifactKind, Ecosystem};
use airlock_core::id::Digest;
use airlock_formats::archive::{ArchiveError, ArchiveLimits, info};
use airlock_formats::conda::{Hashed, INDEX_JSON_BYTES_MAX, package_record};
use airlock_formats::pypi::file_record;

use super::cache::Known;
use super::list::{Found, Stamp};
use crate::error::{Error, Result};
use crate::fetch::ARTIFACT_BYTES_MAX;
use crate::files::open_regular_itself;

/// Bytes that are read at once while hashing.
const HASH_BYTES: usize = 1 << 20;
/// Bytes that are read at once while an archive is looked into.
const ARCHIVE_BYTES: usize = 64 << 10;
/// What may be unpacked of one archive until what is looked for comes, in bytes.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;
/// Threads at most, each with its own buffer.
const THREADS_MAX: usize = 64;
/// A file that was changed less than this before it was read is not known the next time: it might have changed
/// again within one tick of its file system's clock, the coarsest of which (FAT) has two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// How a directory is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Threads at most.
    pub(crate) threads: usize,
    /// The time by the clock that also stamps files, whatever the station takes for the time.
    pub(crate) now: SystemTime,
}

impl How {
    /// Now, on so many threads.
    pub(crate) fn now(threads: usize) -> Self {
        Self { threads, now: SystemTime::now() }
    }
}

/// What reading a file gave.
pub(super) struct Said {
    /// Its record, or why it has none.
    pub(super) said: std::result::Result<Known, String>,
    /// Another reading of the same file would give the same.
    pub(super) lasts: bool,
}

/// Reads files on several threads; the results stand in the order of the files.
pub(super) fn read_all(ecosystem: Ecosystem, subdir: &str, files: &[Found], how: How) -> Result<Vec<Said>> {
    let now = how.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Large files first, so that none of them is left for the end.
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(files.get(*i).map(|f| f.stamp.size)));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Said)>> = Mutex::new(Vec::with_capacity(files.len()));
    let work = || {
        let mut buffer = vec![0; HASH_BYTES];
        let mut mine = Vec::new();
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed))
            && let Some(found) = files.get(*index)
        {
            mine.push((*index, read(ecosystem, subdir, found, now, &mut buffer)));
        }
        if let Ok(mut results) = results.lock() {
            results.extend(mine);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..how.threads.clamp(1, THREADS_MAX).min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_default();
    if results.len() != files.len() {
        return Err(Error::fault("a reader of packages stopped"));
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, said)| said).collect())
}

fn read(ecosystem: Ecosystem, subdir: &str, found: &Found, now: Duration, buffer: &mut [u8]) -> Said {
    let settled = i64::try_from(now.saturating_sub(SETTLED).as_nanos()).unwrap_or(i64::MAX);
    match try_read(ecosystem, subdir, found, buffer) {
        Ok(said) => Said { said, lasts: found.stamp.changed < settled },
        Err(reason) => Said { said: Err(reason), lasts: false },
    }
}

/// The outer error is about the reading, the inner one about what was read.
fn try_read(
    ecosystem: Ecosystem,
    subdir: &str,
    found: &Found,
    buffer: &mut [u8],
) -> std::result::Result<std::result::Result<Known, String>, String> {
    let cannot = |e: std::io::Error| format!("it cannot be read: {e}");
    let changed = || "it changed while it was read; run it again when it is complete".to_owned();
    if found.stamp.size > ARTIFACT_BYTES_MAX {
        return Ok(Err(format!("it is larger than {ARTIFACT_BYTES_MAX} bytes")));
    }
    let mut file = open_regular_itself(&found.path).map_err(cannot)?;
    if Stamp::of(&file.metadata().map_err(cannot)?) != found.stamp {
        return Err(changed());
    }
    let is_same = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| Stamp::of(&m) == found.stamp);
    // What it says comes first: what is no package need not be hashed.
    let asked = ask(ecosystem, found, &file);
    let hashed = match asked {
        Ok(_) => Some(hash(&mut file, buffer).map_err(cannot)?),
        Err(_) => None,
    };
    let same_open = Stamp::of(&file.metadata().map_err(cannot)?) == found.stamp;
    if !same_open || !is_same(&found.path) || hashed.is_some_and(|h| h.size != found.stamp.size) {
        return Err(changed());
    }
    let made = match (asked, hashed) {
        (Err(ArchiveError::Read(e)), _) if e.raw_os_error().is_some() => return Err(cannot(e)),
        (Ok(asked), Some(hashed)) => record(subdir, found, asked, &hashed),
        (Err(e), _) => Err(e.to_string()),
        (Ok(_), None) => Err(changed()),
    };
    Ok(made.map(|(name, entry)| Known::new(name, entry)))
}

/// What a package says of itself.
enum Asked {
    Conda(Vec<u8>),
    Python(info::Stated),
}

fn ask(ecosystem: Ecosystem, found: &Found, file: &File) -> std::result::Result<Asked, ArchiveError> {
    let limits = ArchiveLimits {
        unpacked_bytes_max: UNPACKED_BYTES_MAX,
        member_bytes_max: INDEX_JSON_BYTES_MAX as u64,
        ..ArchiveLimits::default()
    };
    match ArtifactKind::of(ecosystem, &found.file) {
        Some(ArtifactKind::Conda) => info::conda_index(file, &limits).map(Asked::Conda),
        Some(ArtifactKind::TarBz2) => {
            info::tar_bz2_index(BufReader::with_capacity(ARCHIVE_BYTES, file), &limits).map(Asked::Conda)
        }
        Some(ArtifactKind::Wheel) => info::wheel_stated(file, &limits).map(Asked::Python),
        Some(ArtifactKind::Sdist) if found.file.ends_with(".zip") => {
            info::sdist_zip_stated(file, &limits).map(Asked::Python)
        }
        Some(ArtifactKind::Sdist) => {
            info::sdist_stated(BufReader::with_capacity(ARCHIVE_BYTES, file), &limits).map(Asked::Python)
        }
        None => Err(ArchiveError::NotZip),
    }
}

fn record(
    subdir: &str,
    found: &Found,
    asked: Asked,
    hashed: &Hashed,
) -> std::result::Result<(String, airlock_core::shard::Entry), String> {
    match asked {
        Asked::Conda(index) => package_record(subdir, &found.file, &index, hashed),
        Asked::Python(stated) => {
            // A page lies two levels below the source, at `simple/NAME/`.
            let url = format!("../../{}", found.below);
            file_record(&found.file, &url, &stated, hashed.sha256, hashed.size)
        }
    }
}

/// Hashes a file from its beginning, both ways in one pass.
fn hash(file: &mut File, buffer: &mut [u8]) -> std::io::Result<Hashed> {
    file.rewind()?;
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut size = 0;
    loop {
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        sha256.update(chunk);
        md5.update(chunk);
        size += chunk.len() as u64;
    }
    Ok(Hashed { sha256: Digest::from_bytes(sha256.finalize().into()), md5: md5.finalize().into(), size })
}
