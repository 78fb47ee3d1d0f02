//! Archives that hold files of whatever kind, read one file after the other.

use std::io::{BufRead as _, BufReader, Read, Seek};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::limits::{Meter, Packed};
use super::tarcheck::{Kind, walk};
use super::zipcheck::{METHOD_DEFLATE, METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits};

/// Takes the path of a file and its data, as much of it as it likes.
pub type EachFile<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<(), ArchiveError> + 'a;

/// Takes the path of a file, its size in bytes, and its data.
pub type EachSized<'a> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), ArchiveError> + 'a;

/// Bytes taken from a packed archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether these first bytes are those of a zip archive.
pub fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// Bytes that [`is_tar`] wants to see.
pub const TAR_START_BYTES: usize = super::tarcheck::BLOCK_BYTES;

/// Whether these first bytes are those of an unpacked tar archive.
pub fn is_tar(start: &[u8]) -> bool {
    start.get(..TAR_START_BYTES).is_some_and(super::tarcheck::is_tar)
}

/// Hands each file of a zip archive to `each`, in the order of its directory. The whole structure is checked first; what
/// is read of a file to its end is what the directory declares.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first, and what `each` returns.
pub fn zip_files<R: Read + Seek>(
    reader: R,
    limits: &ArchiveLimits,
    each: &mut EachFile<'_>,
) -> Result<(), ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED, METHOD_DEFLATE], limits)?;
    for index in 0..zip.members.len() {
        let path = zip.members.get(index).filter(|member| !member.is_directory).map(|m| m.path.clone());
        if let Some(path) = path {
            each(&path, &mut zip.data(index)?)?;
        }
    }
    Ok(())
}

/// Hands each file of an unpacked tar archive to `each`, in the archive's order; links are passed over.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first, and what `each` returns.
pub fn tar_files(
    reader: impl Read,
    limits: &ArchiveLimits,
    each: &mut EachFile<'_>,
) -> Result<(), ArchiveError> {
    walk(reader, limits, |member, mut data| match member.kind {
        Kind::File => each(&member.path, &mut data),
        Kind::Directory | Kind::Symlink | Kind::HardLink => Ok(()),
    })
}

/// Hands each file of a tar archive, as it is or packed with gzip or zstd, to `each`: for archives that are unpacked, so that
/// links are refused, wherever they lead.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first, and what `each` returns.
pub fn tree_files(
    reader: impl Read,
    limits: &ArchiveLimits,
    each: &mut EachSized<'_>,
) -> Result<(), ArchiveError> {
    let packed = Packed::new(reader);
    let watch = packed.watch();
    let mut packed = BufReader::with_capacity(BUFFER_BYTES, packed);
    let start = packed.fill_buf()?;
    let unpacked: Box<dyn Read + '_> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(packed))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(limits.zstd_window_log_max)?;
        Box::new(decoder)
    } else {
        Box::new(packed)
    };
    walk(Meter::new(unpacked, Rc::clone(&watch), limits), limits, |member, mut data| match member.kind {
        Kind::File => each(&member.path, member.size_bytes, &mut data),
        Kind::Directory => Ok(()),
        Kind::Symlink | Kind::HardLink => Err(ArchiveError::UnexpectedLink { member: member.path.clone() }),
    })
}
