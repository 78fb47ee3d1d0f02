//! Local headers, data descriptors and the data of zip members (APPNOTE 6.3.10, 4.3.7 to 4.3.9).

use std::cmp::Ordering;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take, Write};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::names::may_be_same;
use super::zipcheck::{METHOD_STORED, ZipArchive, read_at};
use super::zipentry::{Extras, FLAG_DESCRIPTOR, FLAGS_COMPARED, Fields, SEE_ZIP64, ZipMember};
use super::{ArchiveError, ArchiveLimits};

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const LOCAL_BYTES: u64 = 30;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;
/// Checksum and two sizes of 4 bytes or, in zip64, of 8.
const DESCRIPTOR_BYTES: [u64; 2] = [12, 20];
/// Bytes that are unpacked at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Checks that members and directory fill the archive without a gap, and that each local header says what the
/// directory says. Sets where the data starts.
pub(super) fn check_layout<R: Read + Seek>(
    reader: &mut R,
    members: &mut [ZipMember],
    directory_start: u64,
) -> Result<(), ArchiveError> {
    // The directory's order may be another one than that of the data.
    let mut order: Vec<&mut ZipMember> = members.iter_mut().collect();
    order.sort_by_key(|member| member.header_at);
    let mut expected_at = 0;
    let mut order = order.into_iter().peekable();
    while let Some(member) = order.next() {
        let refuse = |reason| ArchiveError::ZipLayout { member: member.path.clone(), reason };
        if member.header_at != expected_at {
            return Err(refuse(if member.header_at > expected_at {
                "bytes lie between"
            } else {
                "they overlap"
            }));
        }
        let next_at = order.peek().map_or(directory_start, |next| next.header_at);
        member.data_at = check_local(reader, member)?;
        let data_end = member.data_at.checked_add(member.packed_bytes).filter(|end| *end <= directory_start);
        let data_end = data_end.ok_or_else(|| ArchiveError::ZipLayout {
            member: member.path.clone(),
            reason: "its data reaches into the directory",
        })?;
        expected_at = data_end;
        if member.flags & FLAG_DESCRIPTOR != 0 {
            let gap = next_at.saturating_sub(data_end);
            check_descriptor(reader, member, data_end, gap)?;
            expected_at = next_at;
        }
    }
    if expected_at != directory_start {
        let member = "central directory".to_owned();
        return Err(ArchiveError::ZipLayout { member, reason: "bytes lie between" });
    }
    Ok(())
}

/// Compares one local header with the directory, and returns where the data starts.
fn check_local<R: Read + Seek>(reader: &mut R, member: &ZipMember) -> Result<u64, ArchiveError> {
    let refuse = |reason| ArchiveError::ZipMismatch { member: member.path.clone(), reason };
    let bytes = read_at(reader, member.header_at, LOCAL_BYTES)?;
    let local = LocalHeader::parse(&bytes).ok_or_else(|| refuse("it has no signature"))?;
    let name_bytes = u64::from(local.name_length);
    let variable_at = member.header_at.saturating_add(LOCAL_BYTES);
    let variable = read_at(reader, variable_at, name_bytes + u64::from(local.extra_length))?;
    let (name, extra) =
        variable.split_at_checked(usize::from(local.name_length)).ok_or(ArchiveError::Truncated)?;
    if name != member.raw_name {
        return Err(refuse("another name"));
    }
    if local.method != member.method {
        return Err(refuse("another compression method"));
    }
    if (local.flags ^ member.flags) & FLAGS_COMPARED != 0 {
        return Err(refuse("other flags"));
    }
    let extras = Extras::parse(extra).ok_or_else(|| refuse("an extra field is cut off"))?;
    if extras.unicode_path.is_some_and(|second| second != name) {
        return Err(refuse("a second name"));
    }
    let mut wide = Fields(extras.zip64.unwrap_or_default());
    let mut widen =
        |value: u32| if u64::from(value) == SEE_ZIP64 { wide.u64() } else { Some(u64::from(value)) };
    let [unpacked, packed] = [local.unpacked, local.packed].map(&mut widen);
    if !wide.0.is_empty() {
        return Err(refuse("its zip64 field holds values that nothing asks for"));
    }
    let later = member.flags & FLAG_DESCRIPTOR != 0;
    let same = |local: Option<u64>, full: u64| local == Some(full) || later && local == Some(0);
    if !same(unpacked, member.unpacked_bytes) || !same(packed, member.packed_bytes) {
        return Err(refuse("other sizes"));
    }
    if !same(Some(local.crc.into()), member.crc.into()) {
        return Err(refuse("another checksum"));
    }
    Ok(variable_at.saturating_add(variable.len() as u64))
}

struct LocalHeader {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    unpacked: u32,
    name_length: u16,
    extra_length: u16,
}

impl LocalHeader {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let signed = fields.u32()? == LOCAL_SIGNATURE;
        let _needed = fields.u16()?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        let _modified = fields.u32()?;
        let (crc, packed, unpacked) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name_length, extra_length) = (fields.u16()?, fields.u16()?);
        signed.then_some(Self { flags, method, crc, packed, unpacked, name_length, extra_length })
    }
}

/// Checks that the `gap` bytes behind the data are a data descriptor, with or without a signature, of either
/// width, and that it says what the directory says.
fn check_descriptor<R: Read + Seek>(
    reader: &mut R,
    member: &ZipMember,
    at: u64,
    gap: u64,
) -> Result<(), ArchiveError> {
    let refuse = |reason| ArchiveError::ZipMismatch { member: member.path.clone(), reason };
    let signature_bytes = 4;
    let signed = DESCRIPTOR_BYTES.contains(&gap.saturating_sub(signature_bytes));
    if !signed && !DESCRIPTOR_BYTES.contains(&gap) {
        return Err(refuse("no data descriptor of a known size follows the data"));
    }
    let bytes = read_at(reader, at, gap)?;
    let mut fields = Fields(&bytes);
    if signed && fields.u32() != Some(DESCRIPTOR_SIGNATURE) {
        return Err(refuse("its data descriptor has no signature"));
    }
    let crc = fields.u32();
    let wide = fields.0.len() == 16;
    let mut size = || if wide { fields.u64() } else { fields.u32().map(u64::from) };
    let (packed, unpacked) = (size(), size());
    if (crc, packed, unpacked) != (Some(member.crc), Some(member.packed_bytes), Some(member.unpacked_bytes)) {
        return Err(refuse("its data descriptor gives other values"));
    }
    Ok(())
}

impl<R: Read + Seek> ZipArchive<R> {
    /// The packed data of one member.
    pub(super) fn packed(&mut self, index: usize) -> Result<Take<&mut R>, ArchiveError> {
        let none = ArchiveError::ZipDirectory { reason: "no such entry" };
        let member = self.members.get(index).ok_or(none)?;
        self.reader.seek(SeekFrom::Start(member.data_at))?;
        Ok(self.reader.by_ref().take(member.packed_bytes))
    }

    /// Unpacks every member into nothing, to see that its data is what the directory declares.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::ZipData`] for a wrong size or checksum, or for bytes behind the compressed data;
    /// [`ArchiveError::Read`] for data that does not decode.
    pub(super) fn check_data(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        (0..self.members.len()).try_for_each(|index| self.unpack(index, &mut buffer, &mut io::sink()))
    }

    /// Reads one file into memory, checking its data.
    ///
    /// # Errors
    ///
    /// As [`check_data`](Self::check_data), and [`ArchiveError::MemberTooLarge`].
    pub(super) fn read(&mut self, index: usize, limits: &ArchiveLimits) -> Result<Vec<u8>, ArchiveError> {
        if let Some(member) =
            self.members.get(index).filter(|member| member.unpacked_bytes > limits.member_bytes_max)
        {
            let bytes_max = limits.member_bytes_max;
            return Err(ArchiveError::MemberTooLarge { member: member.path.clone(), bytes_max });
        }
        let mut bytes = Vec::new();
        self.unpack(index, &mut vec![0; BUFFER_BYTES], &mut bytes)?;
        Ok(bytes)
    }

    /// Refuses members that are the same file as one of `paths` somewhere, by another spelling.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::DuplicateMember`].
    pub(super) fn check_twins(&self, paths: &[&str]) -> Result<(), ArchiveError> {
        let is_twin = |name: &str| paths.iter().any(|path| *path != name && may_be_same(path, name));
        match self.members.iter().find(|member| is_twin(&member.path)) {
            Some(twin) => Err(ArchiveError::DuplicateMember { member: twin.path.clone() }),
            None => Ok(()),
        }
    }

    /// Where the file of this exact path stands in the directory.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.members.iter().position(|member| !member.is_directory && member.path == path)
    }

    /// The data of one member, unpacked. At its end, reading fails with an [`ArchiveError::ZipData`] where it is not
    /// what the directory declares.
    ///
    /// # Errors
    ///
    /// Nothing stands at this place of the directory, or the archive cannot be read.
    pub(super) fn data(&mut self, index: usize) -> Result<MemberData<'_, R>, ArchiveError> {
        let Self { reader, members } = self;
        let member = members.get(index).ok_or(ArchiveError::ZipDirectory { reason: "no such entry" })?;
        reader.seek(SeekFrom::Start(member.data_at))?;
        let packed = reader.take(member.packed_bytes);
        let data = if member.method == METHOD_STORED {
            Data::Stored(packed)
        } else {
            Data::Deflated(DeflateDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed)))
        };
        Ok(MemberData { member, data, crc: Crc::new(), bytes: 0 })
    }

    fn unpack(&mut self, index: usize, buffer: &mut [u8], sink: &mut impl Write) -> Result<(), ArchiveError> {
        let mut data = self.data(index)?;
        loop {
            let read = match data.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            match buffer.get(..read).filter(|chunk| !chunk.is_empty()) {
                Some(chunk) => sink.write_all(chunk)?,
                None => return Ok(()),
            }
        }
    }
}

enum Data<'z, R> {
    Stored(Take<&'z mut R>),
    Deflated(DeflateDecoder<BufReader<Take<&'z mut R>>>),
}

/// See [`ZipArchive::data`].
pub(super) struct MemberData<'z, R> {
    member: &'z ZipMember,
    data: Data<'z, R>,
    crc: Crc,
    bytes: u64,
}

impl<R: Read> Read for MemberData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.data {
            Data::Stored(data) => data.read(buffer),
            Data::Deflated(data) => data.read(buffer),
        }?;
        self.crc.update(buffer.get(..read).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(read as u64);
        if let Some(reason) = self.fault(read == 0 && !buffer.is_empty()) {
            return Err(io::Error::other(ArchiveError::ZipData { member: self.member.path.clone(), reason }));
        }
        Ok(read)
    }
}

impl<R> MemberData<'_, R> {
    /// What is wrong with what was read so far.
    fn fault(&self, at_end: bool) -> Option<&'static str> {
        let taken_bytes = match &self.data {
            Data::Stored(_) => self.bytes,
            Data::Deflated(data) => data.total_in(),
        };
        match self.bytes.cmp(&self.member.unpacked_bytes) {
            Ordering::Greater => Some("another size"),
            Ordering::Less if at_end => Some("another size"),
            _ if !at_end => None,
            _ if taken_bytes != self.member.packed_bytes => Some("bytes lie behind its compressed data"),
            _ if self.crc.sum() != self.member.crc => Some("another checksum"),
            _ => None,
        }
    }
}
