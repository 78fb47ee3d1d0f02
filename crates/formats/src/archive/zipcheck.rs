//! The structure of a zip archive (APPNOTE 6.3.10), read so that no other reader can see another archive in
//! it.
//!
//! ```text
//! 0         local header, data, [descriptor]      each member, without a gap
//!           central directory                     one entry for each member
//!           [zip64 end record, zip64 locator]
//! the end   end record, [comment]                 exactly one
//! ```

use std::io::{Read, Seek, SeekFrom};

use super::names::NameSet;
use super::tarcheck::{BLOCK_BYTES, is_tar};
use super::zipdata::check_layout;
use super::zipentry::{Fields, SEE_ZIP64, ZipMember, parse_entry};
use super::{ArchiveError, ArchiveLimits};

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = u16::MAX as u64;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const LOCATOR_BYTES: u64 = 20;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const END64_BYTES: u64 = 56;

/// The compression method that leaves data as it is.
pub(super) const METHOD_STORED: u16 = 0;
/// The compression method of RFC 1951.
pub(super) const METHOD_DEFLATE: u16 = 8;

/// A zip archive whose structure was checked; the members' data was not looked at.
pub(super) struct ZipArchive<R> {
    pub(super) reader: R,
    /// In the directory's order.
    pub(super) members: Vec<ZipMember>,
}

impl<R: Read + Seek> ZipArchive<R> {
    /// Reads and checks the whole structure. Only `methods` may be used.
    ///
    /// # Errors
    ///
    /// Everything about structure, names, kinds of members, methods and declared sizes.
    pub(super) fn open(mut reader: R, methods: &[u16], limits: &ArchiveLimits) -> Result<Self, ArchiveError> {
        let file_bytes = reader.seek(SeekFrom::End(0))?;
        if is_tar(&read_at(&mut reader, 0, file_bytes.min(BLOCK_BYTES as u64))?) {
            return Err(ArchiveError::Polyglot { also: "a tar archive" });
        }
        let directory = find_directory(&mut reader, file_bytes)?;
        let mut members = read_directory(&mut reader, &directory, limits)?;
        check_members(&members, methods, file_bytes, limits)?;
        check_layout(&mut reader, &mut members, directory.start)?;
        Ok(Self { reader, members })
    }
}

/// Where the central directory lies.
struct Directory {
    start: u64,
    size_bytes: u64,
    entries: u64,
}

fn inconsistent(reason: &'static str) -> ArchiveError {
    ArchiveError::ZipDirectory { reason }
}

/// Reads `length` bytes at `at`.
pub(super) fn read_at<R: Read + Seek>(reader: &mut R, at: u64, length: u64) -> Result<Vec<u8>, ArchiveError> {
    reader.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length { Err(ArchiveError::Truncated) } else { Ok(bytes) }
}

/// Finds the one end record, and from there the directory.
fn find_directory<R: Read + Seek>(reader: &mut R, file_bytes: u64) -> Result<Directory, ArchiveError> {
    let tail_bytes = file_bytes.min(END_BYTES + COMMENT_BYTES_MAX);
    let tail_start = file_bytes.saturating_sub(tail_bytes);
    let tail = read_at(reader, tail_start, tail_bytes)?;
    let at = find_end(&tail)?;
    let end_at = tail_start.saturating_add(at as u64);
    let record = tail.get(at..).and_then(EndRecord::parse).ok_or(ArchiveError::NotZip)?;
    if record.disks {
        return Err(inconsistent("the archive is split over disks"));
    }
    let (directory, directory_end) = match find_zip64(reader, end_at)? {
        Some((wide, wide_at)) => (record.widened(wide)?, wide_at),
        None => (record.directory, end_at),
    };
    if directory.start.checked_add(directory.size_bytes) != Some(directory_end) {
        return Err(inconsistent("it does not lie right before the end record"));
    }
    Ok(directory)
}

/// The place of the one end record in the archive's tail: the one whose comment reaches exactly to the
/// archive's end.
///
/// Readers search from the back or from the front, and mind the comment's length or not; hence the last
/// signature must be the record, and no earlier one may be a record as well.
fn find_end(tail: &[u8]) -> Result<usize, ArchiveError> {
    let is_record = |at: usize| {
        let record = tail.get(at..).unwrap_or_default();
        let comment_length = record.get(20..22).and_then(|bytes| Fields(bytes).u16());
        comment_length.is_some_and(|length| record.len() as u64 == END_BYTES + u64::from(length))
    };
    let places =
        || tail.windows(4).enumerate().filter(|(_, bytes)| *bytes == END_SIGNATURE).map(|(at, _)| at);
    let last = places().next_back().ok_or(ArchiveError::NotZip)?;
    match (places().filter(|at| is_record(*at)).count(), is_record(last)) {
        (1, true) => Ok(last),
        (0, _) => Err(ArchiveError::ZipTrailingData),
        _ => Err(ArchiveError::ZipSeveralEnds),
    }
}

/// The end record's fields (APPNOTE 4.3.16).
struct EndRecord {
    directory: Directory,
    disks: bool,
}

impl EndRecord {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let _signature = fields.u32()?;
        let (disk, directory_disk) = (fields.u16()?, fields.u16()?);
        let (here, entries) = (fields.u16()?, fields.u16()?);
        let (size, start) = (fields.u32()?, fields.u32()?);
        let directory = Directory { start: start.into(), size_bytes: size.into(), entries: entries.into() };
        Some(Self { directory, disks: disk != 0 || directory_disk != 0 || here != entries })
    }

    /// The directory as the zip64 record has it, which this record may only say less precisely.
    fn widened(self, wide: Directory) -> Result<Directory, ArchiveError> {
        let same = |narrow: u64, full: u64, unknown: u64| narrow == full || narrow == unknown;
        let narrow = &self.directory;
        let agree = same(narrow.entries, wide.entries, u16::MAX.into())
            && same(narrow.size_bytes, wide.size_bytes, SEE_ZIP64)
            && same(narrow.start, wide.start, SEE_ZIP64);
        if agree { Ok(wide) } else { Err(inconsistent("the two end records disagree")) }
    }
}

/// Reads the zip64 end record (APPNOTE 4.3.14) that stands before the end record at `end_at`, if a locator
/// says so, and where it starts.
fn find_zip64<R: Read + Seek>(reader: &mut R, end_at: u64) -> Result<Option<(Directory, u64)>, ArchiveError> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let locator = read_at(reader, locator_at, LOCATOR_BYTES)?;
    let mut fields = Fields(&locator);
    if fields.u32() != Some(LOCATOR_SIGNATURE) {
        return Ok(None);
    }
    let located = (fields.u32(), fields.u64(), fields.u32());
    let record_at =
        locator_at.checked_sub(END64_BYTES).ok_or(inconsistent("no room for the zip64 record"))?;
    if located != (Some(0), Some(record_at), Some(1)) {
        return Err(inconsistent("the zip64 locator does not point right before itself"));
    }
    let record = read_at(reader, record_at, END64_BYTES)?;
    let directory = parse_zip64(&record).ok_or(inconsistent("the zip64 record is not valid"))?;
    Ok(Some((directory, record_at)))
}

fn parse_zip64(bytes: &[u8]) -> Option<Directory> {
    let mut fields = Fields(bytes);
    let signed = fields.u32()? == END64_SIGNATURE;
    let sized = fields.u64()? == END64_BYTES - 12;
    let _versions = fields.u32()?;
    let one_disk = fields.u32()? == 0 && fields.u32()? == 0;
    let (here, entries) = (fields.u64()?, fields.u64()?);
    let (size_bytes, start) = (fields.u64()?, fields.u64()?);
    (signed && sized && one_disk && here == entries).then_some(Directory { start, size_bytes, entries })
}

/// Reads the whole central directory, which must hold exactly the entries that the end record counts.
fn read_directory<R: Read + Seek>(
    reader: &mut R,
    directory: &Directory,
    limits: &ArchiveLimits,
) -> Result<Vec<ZipMember>, ArchiveError> {
    if directory.entries > limits.entries_max {
        return Err(ArchiveError::TooManyEntries { entries_max: limits.entries_max });
    }
    if directory.size_bytes > limits.directory_bytes_max {
        return Err(ArchiveError::DirectoryTooLarge { bytes_max: limits.directory_bytes_max });
    }
    let bytes = read_at(reader, directory.start, directory.size_bytes)?;
    let mut fields = Fields(&bytes);
    let mut members = Vec::new();
    for _ in 0..directory.entries {
        members.push(parse_entry(&mut fields, limits)?);
    }
    if fields.0.is_empty() {
        Ok(members)
    } else {
        Err(inconsistent("it has more entries than the end record counts"))
    }
}

/// Checks what can be said of the members from the directory alone.
fn check_members(
    members: &[ZipMember],
    methods: &[u16],
    file_bytes: u64,
    limits: &ArchiveLimits,
) -> Result<(), ArchiveError> {
    let mut names = NameSet::default();
    let mut unpacked_bytes: u64 = 0;
    for member in members {
        if !names.insert(&member.path) {
            return Err(ArchiveError::DuplicateMember { member: member.path.clone() });
        }
        if !methods.contains(&member.method) {
            return Err(ArchiveError::Method { member: member.path.clone(), method: member.method });
        }
        if member.method == METHOD_STORED && member.packed_bytes != member.unpacked_bytes {
            let reason = "it is stored, and its sizes differ";
            return Err(ArchiveError::ZipData { member: member.path.clone(), reason });
        }
        unpacked_bytes = unpacked_bytes.saturating_add(member.unpacked_bytes);
        limits.check_unpacked(file_bytes, unpacked_bytes)?;
    }
    Ok(())
}
