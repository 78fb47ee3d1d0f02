//! The tar walk: each header is checked before its data is looked at.
//!
//! Own code, since a reader for honest archives takes extension headers of any size into memory, and chooses
//! silently where headers disagree. A header is 512 bytes (POSIX.1-2008 ustar and its GNU variant):
//!
//! ```text
//! 0 name 100 | 100 mode 8 | 124 size 12 | 148 checksum 8 | 156 type 1 | 157 target 100 | 257 magic 8 | 345 prefix 155
//! ```

use std::io::{self, BufReader, Read};

use super::names::{NameSet, Spelling, check_name, check_symlink};
use super::pax::{Extensions, check_global, read_extension};
use super::{ArchiveError, ArchiveLimits};

/// Bytes of a header, and what data is padded to.
pub(super) const BLOCK_BYTES: usize = 512;
/// Bytes taken from a decoder at once.
const BUFFER_BYTES: usize = 64 << 10;

type Block = [u8; BLOCK_BYTES];

/// What a member is. Hard links and symbolic links have no data of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
}

/// One checked member.
pub(super) struct TarMember {
    /// Safe relative path.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) size_bytes: u64,
    /// The earlier file that a hard link names.
    pub(super) target: Option<String>,
}

/// Bits of a mode that make a file run with the rights of its owner or group.
const MODE_SET_ID: u64 = 0o6000;

/// Walks a whole tar archive, and lets `visit` look at each member and as much of its data as it likes.
///
/// # Errors
///
/// Whatever is wrong with a header, a name, a link or the limits, and what `visit` returns.
pub(super) fn walk<R: Read>(
    reader: R,
    limits: &ArchiveLimits,
    mut visit: impl FnMut(&TarMember, &mut dyn Read) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let mut walk = Walk { reader, limits, headers: 0, files: NameSet::default(), links: NameSet::default() };
    while let Some(member) = walk.next_member()? {
        if member.path.is_empty() {
            continue;
        }
        let mut data = walk.reader.by_ref().take(member.size_bytes);
        visit(&member, &mut data)?;
        let left = data.limit();
        walk.skip(left)?;
        walk.skip_padding(member.size_bytes)?;
    }
    Ok(())
}

struct Walk<'l, R> {
    reader: BufReader<R>,
    limits: &'l ArchiveLimits,
    headers: u64,
    /// Regular files so far: what hard links may name.
    files: NameSet,
    /// Symbolic links so far: what nothing may be written through.
    links: NameSet,
}

impl<R: Read> Walk<'_, R> {
    /// The next member, or nothing at the archive's end.
    fn next_member(&mut self) -> Result<Option<TarMember>, ArchiveError> {
        let mut extensions = Extensions::default();
        while let Some(block) = self.next_block()? {
            let header = Header::parse(&block)?;
            self.headers = self.headers.saturating_add(1);
            if self.headers > self.limits.entries_max {
                return Err(ArchiveError::TooManyEntries { entries_max: self.limits.entries_max });
            }
            if !matches!(header.kind, b'g' | b'x' | b'L' | b'K') {
                return self.member(&header, &extensions).map(Some);
            }
            let data = read_extension(&mut self.reader, header.size_bytes, self.limits)?;
            self.skip_padding(header.size_bytes)?;
            match header.kind {
                b'g' => check_global(&data)?,
                b'x' => extensions.pax(&data)?,
                b'L' => extensions.long_path(data)?,
                _ => extensions.long_link(data)?,
            }
            extensions.pending |= header.kind != b'g';
        }
        if extensions.pending {
            let reason = "no member follows an extension header";
            return Err(ArchiveError::TarHeader { member: String::new(), reason });
        }
        Ok(None)
    }

    /// The next header. After the first block of zeros only zeros may follow: readers differ in whether one
    /// such block ends an archive, so that what stands behind it exists for some of them only.
    fn next_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        let mut block: Block = [0; BLOCK_BYTES];
        let filled = fill(&mut self.reader, &mut block)?;
        if filled == 0 {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            loop {
                let filled = fill(&mut self.reader, &mut block)?;
                if block.iter().take(filled).any(|byte| *byte != 0) {
                    return Err(ArchiveError::TarTrailingData);
                }
                if filled == 0 {
                    return Ok(None);
                }
            }
        }
        if filled < block.len() {
            return Err(ArchiveError::Truncated);
        }
        Ok(Some(block))
    }

    /// Puts header and extensions together, and checks the result.
    fn member(&mut self, header: &Header, extensions: &Extensions) -> Result<TarMember, ArchiveError> {
        let raw = extensions.path.as_deref().unwrap_or(&header.path);
        let name = check_name(raw, Spelling::Dots, self.limits)?;
        let path = name.path;
        if extensions.size_bytes.is_some_and(|size| size != header.size_bytes) {
            let reason = "the pax header gives another size";
            return Err(ArchiveError::TarAmbiguous { member: path, reason });
        }
        let kind = match header.kind {
            // Before POSIX a directory was a file whose name ends in a slash, and readers still honour it.
            b'0' | 0 if name.closing_slash => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            other => return Err(ArchiveError::SpecialFile { member: path, kind: special(other) }),
        };
        if kind != Kind::File && header.size_bytes != 0 {
            let reason = "a link or directory claims to have data";
            return Err(ArchiveError::TarAmbiguous { member: path, reason });
        }
        if path.is_empty() && kind != Kind::Directory {
            return Err(ArchiveError::UnsafeName { member: ".".into(), reason: "it is the root directory" });
        }
        // On a directory the bit only hands down its group, and old source distributions have it.
        if kind == Kind::File && header.mode & MODE_SET_ID != 0 {
            return Err(ArchiveError::SetId { member: path });
        }
        let target = extensions.link.as_deref().unwrap_or(&header.link);
        let target = self.check_place(&path, kind, target)?;
        Ok(TarMember { path, kind, size_bytes: header.size_bytes, target })
    }

    /// Checks where a member would be written, and where it points; gives what a hard link names.
    fn check_place(&mut self, path: &str, kind: Kind, target: &[u8]) -> Result<Option<String>, ArchiveError> {
        if !self.links.is_empty()
            && let Some(link) = self.links.first_above(path)
        {
            return Err(ArchiveError::ThroughLink { member: path.to_owned(), link: link.to_owned() });
        }
        match kind {
            Kind::Directory => {}
            Kind::File => {
                self.files.insert(path);
            }
            Kind::Symlink => {
                check_symlink(path, target, self.limits)?;
                self.files.remove(path);
                self.links.insert(path);
            }
            Kind::HardLink => {
                let to = check_name(target, Spelling::Dots, self.limits).map_err(|error| match error {
                    ArchiveError::UnsafeName { member: target, reason } => {
                        ArchiveError::LinkEscapes { member: path.to_owned(), target, reason }
                    }
                    other => other,
                })?;
                if !self.files.contains(&to.path) {
                    return Err(ArchiveError::HardLinkDangling { member: path.to_owned(), target: to.path });
                }
                self.files.insert(path);
                return Ok(Some(to.path));
            }
        }
        Ok(None)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        if skipped < bytes { Err(ArchiveError::Truncated) } else { Ok(()) }
    }

    fn skip_padding(&mut self, size_bytes: u64) -> Result<(), ArchiveError> {
        self.skip(size_bytes.wrapping_neg() % BLOCK_BYTES as u64)
    }
}

/// The fields of one header block that matter here.
struct Header {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u64,
    size_bytes: u64,
}

impl Header {
    fn parse(block: &Block) -> Result<Self, ArchiveError> {
        let mut path = text(block, 0, 100).to_vec();
        if field(block, 257, 6) == b"ustar\0" {
            let prefix = text(block, 345, 155);
            if !prefix.is_empty() {
                path = [prefix, b"/", &path].concat();
            }
        }
        let refuse =
            |reason| ArchiveError::TarHeader { member: String::from_utf8_lossy(&path).into_owned(), reason };
        let declared = number(field(block, 148, 8)).ok_or_else(|| refuse("its checksum is no number"))?;
        if !checksums(block).contains(&i64::try_from(declared).unwrap_or(-1)) {
            return Err(refuse("its checksum is wrong"));
        }
        let size_bytes = number(field(block, 124, 12)).ok_or_else(|| refuse("its size is no number"))?;
        let mode = number(field(block, 100, 8)).ok_or_else(|| refuse("its mode is no number"))?;
        let kind = field(block, 156, 1).first().copied().unwrap_or_default();
        Ok(Self { link: text(block, 157, 100).to_vec(), kind, mode, size_bytes, path })
    }
}

/// Whether readers of tar would take these first bytes of a file for a header.
pub(super) fn is_tar(start: &[u8]) -> bool {
    Block::try_from(start)
        .is_ok_and(|block| block.iter().any(|byte| *byte != 0) && Header::parse(&block).is_ok())
}

/// The sum of all bytes with the checksum's own field as blanks: unsigned as POSIX has it, signed as old
/// tools wrote it.
fn checksums(block: &Block) -> [i64; 2] {
    let bytes =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    bytes.fold([0, 0], |[unsigned, signed], byte| {
        [unsigned + i64::from(byte), signed + i64::from(byte.cast_signed())]
    })
}

fn field(block: &Block, start: usize, length: usize) -> &[u8] {
    block.get(start..start.saturating_add(length)).unwrap_or_default()
}

fn text(block: &Block, start: usize, length: usize) -> &[u8] {
    field(block, start, length).split(|byte| *byte == 0).next().unwrap_or_default()
}

/// An octal number, or one in base 256 where the first bit is set (GNU). An empty field is zero.
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        let (head, tail) = field.split_at_checked(field.len().checked_sub(8)?)?;
        let (first, rest) = head.split_first()?;
        let small = *first == 0x80 && rest.iter().all(|byte| *byte == 0);
        return small.then_some(u64::from_be_bytes(tail.try_into().ok()?));
    }
    let digits = field.split(|byte| *byte == 0).next()?.trim_ascii();
    digits.iter().try_fold(0_u64, |sum, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value < 8)?;
        sum.checked_mul(8)?.checked_add(u64::from(value))
    })
}

/// Reads until `block` is full or the data ends.
fn fill(reader: &mut impl Read, block: &mut Block) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn special(kind: u8) -> String {
    match kind {
        b'3' => "a character device".into(),
        b'4' => "a block device".into(),
        b'6' => "a fifo".into(),
        b'S' => "a sparse file".into(),
        other => format!("of unknown type {:?}", char::from(other)),
    }
}
