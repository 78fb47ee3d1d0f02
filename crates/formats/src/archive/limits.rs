//! The limits, and the meter that holds an unpacking stream to them.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::ArchiveError;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How much an archive may make a reader do. The defaults let every package through that was seen in
/// conda-forge, defaults and PyPI; tests make them small.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveLimits {
    /// Entries of an archive, directories and tar extension headers among them.
    pub entries_max: u64,
    /// Bytes that everything in an archive takes when it is unpacked.
    pub unpacked_bytes_max: u64,
    /// Unpacked size divided by packed size, asked only above [`ratio_free_bytes`](Self::ratio_free_bytes).
    pub ratio_max: u64,
    /// Unpacked bytes up to which the ratio is not asked, since small and repetitive data compresses without
    /// bounds.
    pub ratio_free_bytes: u64,
    /// Bytes of one member that is read into memory.
    pub member_bytes_max: u64,
    /// Bytes of one member's name, and of one link's target.
    pub name_bytes_max: usize,
    /// Bytes of a zip archive's central directory, which is read into memory.
    pub directory_bytes_max: u64,
    /// Bytes of one tar extension header, which is read into memory.
    pub header_bytes_max: u64,
    /// Binary logarithm of the bytes of history that a zstd stream may ask to be kept (27 is 128 MiB, what
    /// `zstd --ultra -22` needs and what zstd itself accepts by default).
    pub zstd_window_log_max: u32,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            entries_max: 500_000,
            unpacked_bytes_max: 32 * GIB,
            ratio_max: 300,
            ratio_free_bytes: 64 * MIB,
            member_bytes_max: 16 * MIB,
            name_bytes_max: 4096,
            directory_bytes_max: 128 * MIB,
            header_bytes_max: MIB,
            zstd_window_log_max: 27,
        }
    }
}

impl ArchiveLimits {
    /// Checks totals against the limits for size and ratio.
    pub(super) fn check_unpacked(&self, packed_bytes: u64, unpacked_bytes: u64) -> Result<(), ArchiveError> {
        if unpacked_bytes > self.unpacked_bytes_max {
            return Err(ArchiveError::UnpackedTooLarge { bytes_max: self.unpacked_bytes_max });
        }
        if unpacked_bytes > self.ratio_free_bytes
            && unpacked_bytes > packed_bytes.saturating_mul(self.ratio_max)
        {
            return Err(ArchiveError::RatioTooHigh { ratio_max: self.ratio_max });
        }
        Ok(())
    }
}

/// Counts the packed bytes that a decoder takes from `inner`.
pub(super) struct Packed<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Packed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, bytes: Rc::default() }
    }

    /// The counter, to be given to the [`Meter`] on the decoder's other side.
    pub(super) fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.bytes)
    }
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get().saturating_add(read as u64));
        Ok(read)
    }
}

/// Passes unpacked bytes on until a limit is exceeded, then fails for good.
pub(super) struct Meter<'l, R> {
    decoder: R,
    packed_bytes: Rc<Cell<u64>>,
    unpacked_bytes: u64,
    limits: &'l ArchiveLimits,
}

impl<'l, R: Read> Meter<'l, R> {
    pub(super) fn new(decoder: R, packed_bytes: Rc<Cell<u64>>, limits: &'l ArchiveLimits) -> Self {
        Self { decoder, packed_bytes, unpacked_bytes: 0, limits }
    }
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(read as u64);
        self.limits.check_unpacked(self.packed_bytes.get(), self.unpacked_bytes).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// Reads one member into memory.
///
/// # Errors
///
/// [`ArchiveError::MemberTooLarge`] where `data` has more than `member_bytes_max` bytes.
pub(super) fn read_member(
    data: impl Read,
    member: &str,
    limits: &ArchiveLimits,
) -> Result<Vec<u8>, ArchiveError> {
    let bytes_max = limits.member_bytes_max;
    let mut bytes = Vec::new();
    data.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ArchiveError::MemberTooLarge { member: member.to_owned(), bytes_max });
    }
    Ok(bytes)
}
