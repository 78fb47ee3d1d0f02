//! The text of a manifest as it lies on a medium. It may be as long as memory is large, so nobody holds it: it is read anew, piece
//! by piece, by whoever holds signatures against it, takes it apart or signs it.
//!
//! No medium has to give the same bytes twice. So the hash of each piece is noted when the text is read for the first time, and
//! nobody is given a piece later that has another.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::MANIFEST_BYTES_MAX;
use airlock_core::id::Digest;

use crate::error::{Error, Result, file_error};

/// Bytes of a piece.
const PIECE_BYTES: usize = 256 << 10;

/// The longest string that is looked at in a text that nobody signed, in bytes.
const STRING_BYTES_MAX: usize = 64 << 10;

/// Takes the pieces of a text.
pub(super) type Pieces<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// A text that lies on a medium.
#[derive(Debug)]
pub(crate) struct Text {
    file: File,
    path: PathBuf,
    size: u64,
    digest: Digest,
    /// The hash of each piece.
    pieces: Vec<Digest>,
    /// What is wrong where it is another one when it is read again.
    changed: fn(&Path) -> Error,
}

/// That what somebody brought is another one than before.
fn changes(path: &Path) -> Error {
    Error::unsafe_(format!("{} changes while it is read", path.display()))
        .hint("copy the bundle again; if it stays so, tell your security officer")
}

/// That nobody reads a manifest that is as long as this one would be.
pub(super) fn too_long() -> Error {
    Error::usage(format!("the list of the files would have more than {MANIFEST_BYTES_MAX} bytes"))
        .hint("export channel by channel; nothing was released")
}

impl Text {
    /// Reads a text for the first time.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(super::verify::open_own(path)?, path, changes)
    }

    /// The same, of a file that is open already. `changed` says what is wrong where it is another one when it is read again.
    pub fn of(file: File, path: &Path, changed: fn(&Path) -> Error) -> Result<Self> {
        let (mut whole, mut size, mut pieces) = (Sha256::new(), 0u64, Vec::new());
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = fill(&file, path, size, &mut buffer)?;
            size += piece.len() as u64;
            if size > MANIFEST_BYTES_MAX {
                return Err(super::verify::too_large(path, MANIFEST_BYTES_MAX));
            }
            whole.update(piece);
            if !piece.is_empty() {
                pieces.push(Digest::of(piece));
            }
            if piece.len() < PIECE_BYTES {
                let digest = Digest::from_bytes(whole.finalize().into());
                return Ok(Self { file, path: path.to_owned(), size, digest, pieces, changed });
            }
        }
    }

    /// Writes a text that comes piece by piece. Gives the hash of what was to be written.
    pub fn put(path: &Path, pieces: impl FnOnce(&mut Pieces<'_>) -> Result<()>) -> Result<Digest> {
        let (mut file, mut hasher, mut size) = (super::media::create(path)?, Sha256::new(), 0u64);
        pieces(&mut |piece| {
            size += piece.len() as u64;
            if size > MANIFEST_BYTES_MAX {
                return Err(too_long());
            }
            hasher.update(piece);
            file.write_all(piece).map_err(file_error(path))
        })?;
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }

    /// Its bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of it.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Hands on its pieces.
    ///
    /// # Errors
    ///
    /// It is another one by now, or that of whoever takes the pieces.
    pub fn each(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        (0..self.pieces.len()).try_for_each(|at| each(self.piece(at, &mut buffer)?))
    }

    /// All of it, for those who need it so.
    pub fn whole(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        self.each(|piece| {
            out.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(out)
    }

    /// It as something to read, for those who look for something short in a text that nobody signed: a string that is longer than
    /// any they look for is an error, so that nobody holds it.
    pub fn reader(&self) -> impl Read + '_ {
        let reader = Reader { text: self, next: 0, buffer: vec![0; PIECE_BYTES], left: 0..0 };
        Short { reader, string: None, is_escaped: false }
    }

    fn piece<'b>(&self, at: usize, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        let piece = fill(&self.file, &self.path, (at * PIECE_BYTES) as u64, buffer)?;
        match self.pieces.get(at) {
            Some(known) if *known == Digest::of(piece) => Ok(piece),
            _ => Err((self.changed)(&self.path)),
        }
    }
}

/// As much of a piece as there is.
fn fill<'b>(file: &File, path: &Path, at: u64, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read_at(room, at + length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(file_error(path)(e)),
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Reads JSON whose strings are short.
struct Short<R> {
    reader: R,
    /// How long the string is that was begun.
    string: Option<usize>,
    is_escaped: bool,
}

impl<R: Read> Read for Short<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(out)?;
        for byte in out.get(..n).unwrap_or_default() {
            self.string = match (self.string, byte) {
                (None, b'"') => Some(0),
                (None, _) => None,
                (Some(_), b'"') if !self.is_escaped => None,
                (Some(length), _) if length < STRING_BYTES_MAX => Some(length + 1),
                (Some(_), _) => return Err(std::io::Error::other("a string in it is too long")),
            };
            self.is_escaped = self.string.is_some() && *byte == b'\\' && !self.is_escaped;
        }
        Ok(n)
    }
}

struct Reader<'a> {
    text: &'a Text,
    next: usize,
    buffer: Vec<u8>,
    left: std::ops::Range<usize>,
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() && self.next < self.text.pieces.len() {
            let piece = self.text.piece(self.next, &mut self.buffer).map_err(std::io::Error::other)?;
            self.left = 0..piece.len();
            self.next += 1;
        }
        let mut from = self.buffer.get(self.left.clone()).unwrap_or_default();
        let n = from.read(out)?;
        self.left.start += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_is_too_long_is_held_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("AIRLOCK.json");
        for (length, fits) in [(STRING_BYTES_MAX, true), (STRING_BYTES_MAX + 1, false)] {
            // Quotes that are escaped end nothing, and what is between strings may be long.
            let text = format!("[\"\\\\\",{}\"\\\"{}\"]", " ".repeat(2 * length), "a".repeat(length - 2));
            std::fs::write(&path, &text).unwrap();
            let read = Text::read(&path).unwrap();
            let strings = serde_json::from_reader::<_, Vec<String>>(read.reader());
            assert_eq!(strings.is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn a_text_that_changes_after_it_was_read_is_given_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("AIRLOCK.json");
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let mut bytes: Vec<u8> = (0..size).map(|n| (n / 7) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let text = Text::read(&path).unwrap();
            assert_eq!((text.digest(), text.size()), (Digest::of(&bytes), size as u64));
            assert_eq!(text.whole().unwrap(), bytes);
            let mut read = Vec::new();
            text.reader().read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
            let Some(last) = bytes.last_mut() else { continue };
            *last ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let mut given = 0;
            let error = text.each(|piece| {
                given += piece.len();
                Ok(())
            });
            assert!(error.unwrap_err().message.contains("changes while it is read"));
            assert_eq!(given, (size - 1) / PIECE_BYTES * PIECE_BYTES);
            assert!(text.reader().read_to_end(&mut read).is_err());
            std::fs::write(&path, b"").unwrap();
            assert!(text.whole().is_err());
        }
        std::fs::File::create(&path).unwrap().set_len(MANIFEST_BYTES_MAX + 1).unwrap();
        assert!(Text::read(&path).unwrap_err().message.contains("larger than"));
    }
}
