//! Archives that anybody may have made, unpacked as a stream: files with plain names, and nothing else.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use airlock_core::id::Digest;
use airlock_formats::archive::{self, ArchiveError, ArchiveLimits, TAR_START_BYTES};

use crate::bundle::media::{check_room, room_for};
use crate::error::{Error, Result, file_error};

/// Files and directories in an archive.
const ENTRIES_MAX: u64 = 2_000_000;
/// Bytes of an archive when it is unpacked.
const BYTES_MAX: u64 = 4 << 40;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 1024;
/// Directories above a file.
const DEPTH_MAX: usize = 16;
/// Directories that are made for the files of an archive: they take room, and no size tells of them.
const FOLDERS_MAX: u64 = 100_000;
/// Bytes copied at once.
const BUFFER_BYTES: usize = 1 << 20;

/// An archive that was unpacked.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Their hash: of those that were unpacked, and not of what may lie there a moment later.
    pub sha256: Digest,
}

/// Unpacks a tar archive into an empty folder.
///
/// # Errors
///
/// If it is no archive that is known; holds links, or names that lead anywhere or are hard to tell apart; is larger than it may
/// be, by itself or for what it unpacks to; ends too early; or there is no room for it.
pub(super) fn unpack(path: &Path, into: &Path) -> Result<Archive> {
    check_start(path)?;
    let file = crate::files::open_regular(path).map_err(file_error(path))?;
    let size = file.metadata().map_err(file_error(path))?.len();
    check_room(into, room_for(std::iter::once(size)))?;
    let limits = ArchiveLimits {
        entries_max: ENTRIES_MAX,
        unpacked_bytes_max: BYTES_MAX,
        name_bytes_max: NAME_BYTES_MAX,
        name_parts_max: DEPTH_MAX,
        ..ArchiveLimits::default()
    };
    let mut packed = Hashed { file, hasher: Sha256::new(), bytes: 0 };
    let mut ours = None;
    let mut folders = FOLDERS_MAX;
    let walked = archive::tree_files(&mut packed, &limits, &mut |name, size, data| {
        write(into, name, size, data, &mut folders).map_err(|fault| match fault {
            Fault::Archive(error) => error,
            Fault::Ours(error) => {
                ours = Some(error);
                io::Error::other("it could not be written").into()
            }
        })
    });
    if let Some(error) = ours {
        return Err(error);
    }
    walked.map_err(|e| refused(path, &e))?;
    // What stands behind the archive's end belongs to what was taken in.
    io::copy(&mut packed, &mut io::sink()).map_err(file_error(path))?;
    let sha256 = Digest::from_bytes(packed.hasher.finalize().into());
    Ok(Archive { path: path.to_owned(), bytes: packed.bytes, sha256 })
}

/// Whether a file is packed with gzip or zstd, which no bundle is.
pub fn is_packed(path: &Path) -> bool {
    start(path).is_ok_and(|start| has_magic(&start))
}

fn has_magic(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

fn start(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    let file = crate::files::open_regular(path).map_err(file_error(path))?;
    file.take(TAR_START_BYTES as u64).read_to_end(&mut start).map_err(file_error(path))?;
    Ok(start)
}

/// Refuses what is no archive that is known, before anything is made of it.
fn check_start(path: &Path) -> Result<()> {
    let start = start(path)?;
    if archive::is_zip(&start) {
        return Err(Error::usage(format!("{} is a zip archive", path.display())).hint(
            "unpack it and give the folder; archives are read as tar, plain or packed with gzip or zstd",
        ));
    }
    if has_magic(&start) || archive::is_tar(&start) { Ok(()) } else { Err(super::unknown(path)) }
}

fn refused(path: &Path, error: &ArchiveError) -> Error {
    let message = format!("{}: {error}", path.display());
    match error {
        ArchiveError::Truncated | ArchiveError::Read(_) => {
            Error::fault(message).hint("nothing was changed; copy it again, and compare the hashes")
        }
        _ => Error::unsafe_(message),
    }
}

/// Whose fault it is that a file was not written.
enum Fault {
    Archive(ArchiveError),
    Ours(Error),
}

/// Writes one file of the archive. What is hidden is no package and is passed over.
fn write(
    into: &Path,
    name: &str,
    size: u64,
    data: &mut dyn Read,
    folders: &mut u64,
) -> std::result::Result<(), Fault> {
    if name.split('/').any(|part| part.starts_with('.')) {
        return Ok(());
    }
    let to = into.join(name);
    let failed = |e: io::Error| match e.kind() {
        // One name for a file and a directory, or twice.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Fault::Archive(ArchiveError::DuplicateMember { member: name.to_owned() })
        }
        io::ErrorKind::InvalidFilename => {
            let reason = "a part of it is longer than file systems allow";
            Fault::Archive(ArchiveError::UnsafeName { member: name.to_owned(), reason })
        }
        _ => Fault::Ours(file_error(&to)(e)),
    };
    // Before it is written: what an archive unpacks to is known of each file only.
    check_room(into, room_for(std::iter::once(size))).map_err(Fault::Ours)?;
    for (end, _) in name.match_indices('/') {
        match std::fs::create_dir(into.join(name.get(..end).unwrap_or_default())) {
            Ok(()) if *folders == 0 => {
                return Err(Fault::Archive(ArchiveError::TooManyEntries { entries_max: FOLDERS_MAX }));
            }
            Ok(()) => *folders -= 1,
            // Where a file stands in its place, making the next says so.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let mut out = File::create_new(&to).map_err(failed)?;
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(size).unwrap_or(BUFFER_BYTES)).max(1)];
    loop {
        match data.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(buffer.get(..n).unwrap_or_default()).map_err(failed)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Fault::Archive(e.into())),
        }
    }
}

/// Hashes what is read.
struct Hashed {
    file: File,
    hasher: Sha256,
    bytes: u64,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }
}
