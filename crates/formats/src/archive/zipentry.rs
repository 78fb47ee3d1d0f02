//! One entry of a zip central directory (APPNOTE 6.3.10, 4.3.12), and the fields that local headers share
//! with it.

use super::names::{Spelling, check_name};
use super::{ArchiveError, ArchiveLimits};

/// What a 32-bit field holds when the zip64 extra field has the value.
pub(super) const SEE_ZIP64: u64 = u32::MAX as u64;
/// Flag: sizes and checksum stand in a data descriptor behind the data.
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Flags that a local header must share with the directory: encryption, descriptor, patches, UTF-8 names.
pub(super) const FLAGS_COMPARED: u16 = 1 | FLAG_DESCRIPTOR | 1 << 5 | FLAG_UTF8;
/// Flags of encryption: traditional, strong, and masked headers.
const FLAGS_ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const FLAG_PATCHED: u16 = 1 << 5;
const FLAG_UTF8: u16 = 1 << 11;

/// Bits of a mode that make a file run with the rights of its owner or group.
const MODE_SET_ID: u32 = 0o6000;

const ENTRY_SIGNATURE: u32 = 0x0201_4b50;
const EXTRA_ZIP64: u16 = 0x0001;
/// Info-ZIP Unicode path: a second name, which some readers prefer.
const EXTRA_UNICODE_PATH: u16 = 0x7075;

/// Little-endian fields, read one after another.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// One member, as the central directory has it and with a checked name.
pub(super) struct ZipMember {
    /// Safe relative path, without the slash that closes a directory's name.
    pub(super) path: String,
    pub(super) is_directory: bool,
    pub(super) raw_name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed_bytes: u64,
    pub(super) unpacked_bytes: u64,
    pub(super) header_at: u64,
    /// Where the data starts; zero until the local header was read.
    pub(super) data_at: u64,
}

/// Reads the next entry.
///
/// # Errors
///
/// Malformed or contradictory fields, unsafe names, links, encryption.
pub(super) fn parse_entry(
    fields: &mut Fields<'_>,
    limits: &ArchiveLimits,
) -> Result<ZipMember, ArchiveError> {
    let cut = || ArchiveError::ZipDirectory { reason: "an entry is cut off" };
    let raw = RawEntry::parse(fields).ok_or_else(cut)??;
    let name = check_name(raw.name, Spelling::Exact, limits)?;
    let path = name.path;
    if raw.flags & FLAG_UTF8 != 0 && std::str::from_utf8(raw.name).is_err() {
        return Err(ArchiveError::UnsafeName { member: path, reason: "it is declared as UTF-8 and is not" });
    }
    let extras =
        Extras::parse(raw.extra).ok_or(ArchiveError::ZipDirectory { reason: "an extra field is cut off" })?;
    if extras.unicode_path.is_some_and(|second| second != raw.name) {
        return Err(ArchiveError::UnsafeName { member: path, reason: "it has a second, different name" });
    }
    let mut wide = Fields(extras.zip64.unwrap_or_default());
    let mut widen = |value: u32| match u64::from(value) {
        SEE_ZIP64 => wide.u64(),
        small => Some(small),
    };
    // The order in which they stand in the extra field.
    let [unpacked, packed, header] = [raw.unpacked, raw.packed, raw.header_at].map(&mut widen);
    let (Some(unpacked_bytes), Some(packed_bytes), Some(header_at)) = (unpacked, packed, header) else {
        return Err(ArchiveError::ZipDirectory { reason: "a zip64 value is missing" });
    };
    // Some readers take them all the same.
    if !wide.0.is_empty() {
        return Err(ArchiveError::ZipDirectory {
            reason: "a zip64 field holds values that nothing asks for",
        });
    }
    let member = ZipMember {
        is_directory: name.closing_slash,
        raw_name: raw.name.to_vec(),
        flags: raw.flags,
        method: raw.method,
        crc: raw.crc,
        packed_bytes,
        unpacked_bytes,
        header_at,
        data_at: 0,
        path,
    };
    check_kind(&member, raw.mode)?;
    Ok(member)
}

/// Refuses what is neither file nor directory, or cannot be read.
fn check_kind(member: &ZipMember, mode: u32) -> Result<(), ArchiveError> {
    let name = || member.path.clone();
    if member.flags & FLAGS_ENCRYPTED != 0 {
        return Err(ArchiveError::Encrypted { member: name() });
    }
    if member.flags & FLAG_PATCHED != 0 {
        return Err(ArchiveError::SpecialFile { member: name(), kind: "patch data".into() });
    }
    // The upper half of the external attributes is a Unix mode, whichever system the entry claims to come
    // from: installers look at it without asking.
    match mode & 0o170_000 {
        0 | 0o100_000 => {}
        0o040_000 if member.is_directory => {}
        0o120_000 => return Err(ArchiveError::UnexpectedLink { member: name() }),
        other => {
            return Err(ArchiveError::SpecialFile {
                member: name(),
                kind: format!("of Unix type {other:o}"),
            });
        }
    }
    if !member.is_directory && mode & MODE_SET_ID != 0 {
        return Err(ArchiveError::SetId { member: name() });
    }
    if member.is_directory && member.unpacked_bytes != 0 {
        return Err(ArchiveError::SpecialFile { member: name(), kind: "a directory with data".into() });
    }
    Ok(())
}

struct RawEntry<'a> {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    unpacked: u32,
    mode: u32,
    header_at: u32,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> RawEntry<'a> {
    /// Nothing where the bytes end, an error where they are something else.
    fn parse(fields: &mut Fields<'a>) -> Option<Result<Self, ArchiveError>> {
        if fields.u32()? != ENTRY_SIGNATURE {
            return Some(Err(ArchiveError::ZipDirectory { reason: "an entry has no signature" }));
        }
        let (_made_by, _needed) = (fields.u16()?, fields.u16()?);
        let (flags, method) = (fields.u16()?, fields.u16()?);
        let _modified = fields.u32()?;
        let (crc, packed, unpacked) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name_length, extra_length, comment_length) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let (disk, _internal) = (fields.u16()?, fields.u16()?);
        let (external, header_at) = (fields.u32()?, fields.u32()?);
        let name = fields.bytes(usize::from(name_length))?;
        let extra = fields.bytes(usize::from(extra_length))?;
        let _comment = fields.bytes(usize::from(comment_length))?;
        if disk != 0 {
            return Some(Err(ArchiveError::ZipDirectory { reason: "an entry stands on another disk" }));
        }
        Some(Ok(Self { flags, method, crc, packed, unpacked, mode: external >> 16, header_at, name, extra }))
    }
}

/// The extra fields that change what an entry means.
#[derive(Default)]
pub(super) struct Extras<'a> {
    pub(super) zip64: Option<&'a [u8]>,
    pub(super) unicode_path: Option<&'a [u8]>,
}

impl<'a> Extras<'a> {
    /// Nothing where a field is cut off, or comes twice. Up to three bytes at the end are padding, as other
    /// readers have it.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut extras = Self::default();
        while fields.0.len() >= 4 {
            let (id, length) = (fields.u16()?, fields.u16()?);
            let data = fields.bytes(usize::from(length))?;
            let earlier = match id {
                EXTRA_ZIP64 => extras.zip64.replace(data),
                // A version, the checksum of the ordinary name, then the name.
                EXTRA_UNICODE_PATH => extras.unicode_path.replace(data.get(5..)?),
                _ => None,
            };
            if earlier.is_some() {
                return None;
            }
        }
        Some(extras)
    }
}
