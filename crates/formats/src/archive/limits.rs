//! The limits, and the meter that holds an unpacking stream to them.

use std::cell::{Cell, RefCell};
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
    /// Parts of one member's name. Each costs one more look whether a link stands there; the deepest genuine
    /// trees (nested `node_modules`) have some thirty.
    pub name_parts_max: usize,
    /// Bytes of the names of all members of a conda package together, which are held while it is compared with
    /// `info/paths.json`. A package of 100,000 files has some 10 MB.
    pub names_bytes_max: usize,
    /// Bytes of `info/paths.json`, which is read as a stream; a file takes some 250.
    pub paths_bytes_max: u64,
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
            name_parts_max: 128,
            names_bytes_max: 128 << 20,
            paths_bytes_max: 128 * MIB,
            directory_bytes_max: 64 * MIB,
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

/// Bytes at an archive's end in which readers of zip look for its end record: the record and its comment.
const TAIL_BYTES: usize = 22 + u16::MAX as usize;

/// What is known of the packed side while the decoder holds it.
#[derive(Default)]
pub(super) struct Watch {
    bytes: Cell<u64>,
    /// The last bytes, at least [`TAIL_BYTES`] of them where there are as many.
    tail: RefCell<Vec<u8>>,
}

impl Watch {
    fn note(&self, bytes: &[u8]) {
        self.bytes.set(self.bytes.get().saturating_add(bytes.len() as u64));
        let mut tail = self.tail.borrow_mut();
        let last = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        tail.extend_from_slice(last);
        // Seldom, so that each byte is moved about once.
        if tail.len() > 4 * TAIL_BYTES {
            let cut = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..cut);
        }
    }

    /// Refuses a packed tar that is a zip archive too: some installers ask for that first, and a zip is
    /// recognised by its end, which can stand inside of a compressed stream.
    pub(super) fn check_no_zip(&self) -> Result<(), ArchiveError> {
        let tail = self.tail.borrow();
        let is_end = |bytes: &[u8]| {
            // One disk, as many entries here as in all, and a directory that fits before the record. In 64 KiB
            // of random bytes that happens by chance once in 10^14.
            let disks = bytes.get(4..8) == Some(&[0; 4]);
            let entries = bytes.get(8..10).zip(bytes.get(10..12)).is_some_and(|(here, all)| here == all);
            let number = |at: usize| {
                let field: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
                field.map(|b| u64::from(u32::from_le_bytes(b)))
            };
            let fits = number(12).zip(number(16)).is_some_and(|(size, start)| {
                size.saturating_add(start) <= self.bytes.get() || start == u64::from(u32::MAX)
            });
            bytes.len() >= 22 && bytes.starts_with(b"PK\x05\x06") && disks && entries && fits
        };
        let starts = tail.iter().enumerate().filter(|(_, byte)| **byte == b'P');
        if starts.filter_map(|(at, _)| tail.get(at..)).any(is_end) {
            return Err(ArchiveError::Polyglot { also: "a zip archive" });
        }
        Ok(())
    }
}

/// Watches the packed bytes that a decoder takes from `inner`.
pub(super) struct Packed<R> {
    inner: R,
    watch: Rc<Watch>,
}

impl<R: Read> Packed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, watch: Rc::default() }
    }

    /// What it sees, to be given to the [`Meter`] on the decoder's other side.
    pub(super) fn watch(&self) -> Rc<Watch> {
        Rc::clone(&self.watch)
    }
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.watch.note(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Passes unpacked bytes on until a limit is exceeded, then fails for good.
pub(super) struct Meter<'l, R> {
    decoder: R,
    packed: Rc<Watch>,
    unpacked_bytes: u64,
    limits: &'l ArchiveLimits,
}

impl<'l, R: Read> Meter<'l, R> {
    pub(super) fn new(decoder: R, packed: Rc<Watch>, limits: &'l ArchiveLimits) -> Self {
        Self { decoder, packed, unpacked_bytes: 0, limits }
    }
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(read as u64);
        self.limits.check_unpacked(self.packed.bytes.get(), self.unpacked_bytes).map_err(io::Error::other)?;
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
