//! The header: who can open a file.

use std::io::{BufRead, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use super::{FILE_KEY_BYTES, HEADER_BYTES_MAX, STANZAS_MAX, TAG_BYTES, VERSION};

/// The kind of stanza that wraps the file key for an X25519 recipient.
const KIND: &str = "X25519";
/// Base64 digits of a full line of a stanza.
const LINE_DIGITS: usize = 64;
/// What the last line begins with; the MAC covers it, and nothing behind it.
const END: &str = "---";

/// A stanza: what of the file key one recipient can unwrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// Its kind and further arguments.
    pub arguments: Vec<String>,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// The two halves of an X25519 stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X25519 {
    /// The public half of a key that was made for this stanza.
    pub share: [u8; 32],
    /// The file key, wrapped.
    pub body: [u8; FILE_KEY_BYTES + TAG_BYTES],
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its stanzas, at least one.
    pub stanzas: Vec<Stanza>,
    /// The MAC.
    pub mac: [u8; 32],
    /// The bytes that it covers.
    pub covered: Vec<u8>,
}

/// Why a header is none.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It is malformed.
    #[error("{0}")]
    Malformed(&'static str),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

impl Stanza {
    /// It as one of X25519, if it is one.
    ///
    /// # Errors
    ///
    /// It says that it is one and is malformed.
    pub fn x25519(&self) -> Result<Option<X25519>, HeaderError> {
        let (Some(kind), rest) = (self.arguments.first(), self.arguments.get(1..).unwrap_or_default()) else {
            return Ok(None);
        };
        if kind != KIND {
            return Ok(None);
        }
        let share = match rest {
            [share] => decoded(share),
            _ => None,
        };
        let both = share.zip(self.body.as_slice().try_into().ok());
        let both = both.ok_or(HeaderError::Malformed("an X25519 stanza is malformed"))?;
        Ok(Some(X25519 { share: both.0, body: both.1 }))
    }
}

/// The part of a header that its MAC covers, for these stanzas.
pub fn covered(stanzas: &[X25519]) -> String {
    let mut out = format!("{VERSION}\n");
    for X25519 { share, body } in stanzas {
        out += &format!("-> {KIND} {}\n{}\n", BASE64.encode(share), BASE64.encode(body));
    }
    out + END
}

/// A header with its MAC, ready to be written.
impl Header {
    /// The text of a header: what its MAC covers, and the MAC.
    pub fn text(covered: &str, mac: &[u8; 32]) -> String {
        format!("{covered} {}\n", BASE64.encode(mac))
    }

    /// Reads a header, and nothing behind it.
    ///
    /// # Errors
    ///
    /// It is malformed, larger than [`HEADER_BYTES_MAX`], has more than [`STANZAS_MAX`] stanzas, or cannot be read.
    pub fn read(reader: &mut impl BufRead) -> Result<Self, HeaderError> {
        let mut lines = Lines { reader, covered: Vec::new() };
        if lines.next()? != VERSION {
            return Err(HeaderError::Malformed("it does not begin as a file of age version 1"));
        }
        let mut stanzas = Vec::new();
        loop {
            let before = lines.covered.len();
            let line = lines.next()?;
            if let Some(arguments) = line.strip_prefix("-> ") {
                if stanzas.len() == STANZAS_MAX {
                    return Err(HeaderError::Malformed("it has too many stanzas"));
                }
                let arguments = read_arguments(arguments)?;
                stanzas.push(Stanza { arguments, body: lines.body()? });
                continue;
            }
            let mac = line.strip_prefix(END).and_then(|rest| rest.strip_prefix(' ')).and_then(decoded);
            let mac = mac.ok_or(HeaderError::Malformed("a line is neither a stanza nor the end"))?;
            if stanzas.is_empty() {
                return Err(HeaderError::Malformed("it is encrypted to nobody"));
            }
            let Lines { mut covered, .. } = lines;
            covered.truncate(before + END.len());
            return Ok(Self { stanzas, mac, covered });
        }
    }
}

fn read_arguments(text: &str) -> Result<Vec<String>, HeaderError> {
    let all: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let is_visible =
        |argument: &String| !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_graphic());
    match all.iter().all(is_visible) {
        true => Ok(all),
        false => Err(HeaderError::Malformed("a stanza has malformed arguments")),
    }
}

/// The lines of a header, and all that was read of it.
struct Lines<'a, R> {
    reader: &'a mut R,
    covered: Vec<u8>,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<String, HeaderError> {
        let left = HEADER_BYTES_MAX - self.covered.len().min(HEADER_BYTES_MAX);
        let before = self.covered.len();
        (&mut *self.reader).take(left as u64).read_until(b'\n', &mut self.covered)?;
        let line = self.covered.get(before..).and_then(|line| line.strip_suffix(b"\n"));
        let ends = match self.covered.len() == HEADER_BYTES_MAX {
            true => "its header is too large",
            false => "its header ends in the middle of a line",
        };
        let line = line.ok_or(HeaderError::Malformed(ends))?;
        let line = std::str::from_utf8(line).map_err(|_| HeaderError::Malformed("its header is no text"))?;
        Ok(line.to_owned())
    }

    /// The bytes of a stanza: full lines, and one that is shorter, perhaps empty.
    fn body(&mut self) -> Result<Vec<u8>, HeaderError> {
        let mut out = Vec::new();
        loop {
            let line = self.next()?;
            let bytes = BASE64.decode(&line).ok().filter(|_| line.len() <= LINE_DIGITS);
            out.extend(bytes.ok_or(HeaderError::Malformed("a stanza has a malformed line"))?);
            if line.len() < LINE_DIGITS {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Header, String> {
        Header::read(&mut text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_behind_it() {
        let stanza = X25519 { share: [1; 32], body: [2; 32] };
        let covered = covered(&[stanza, stanza]);
        let text = Header::text(&covered, &[3; 32]) + "payload";
        let mut rest = text.as_bytes();
        let header = Header::read(&mut rest).unwrap();
        assert_eq!((rest, header.mac), (&b"payload"[..], [3; 32]));
        assert_eq!(header.covered, covered.as_bytes());
        let read: Vec<_> = header.stanzas.iter().map(|s| s.x25519().unwrap().unwrap()).collect();
        assert_eq!(read, [stanza, stanza]);
    }

    #[test]
    fn the_size_and_the_stanzas_of_a_header_are_limited() {
        let end = format!("--- {}\n", BASE64.encode([0; 32]));
        let with = |stanza: &str, count: usize| format!("{VERSION}\n{}{end}", stanza.repeat(count));
        assert_eq!(read(&with("-> grease x\n\n", STANZAS_MAX)).unwrap().stanzas.len(), STANZAS_MAX);
        assert_eq!(read(&with("-> grease x\n\n", STANZAS_MAX + 1)).unwrap_err(), "it has too many stanzas");
        assert_eq!(read(&with("", 0)).unwrap_err(), "it is encrypted to nobody");
        let long = format!("-> grease\n{}\n", format!("{}\n", "A".repeat(64)).repeat(250));
        assert!(read(&with(&long, 1)).is_ok());
        for large in [with(&long, 2), "A".repeat(1 << 20), format!("{VERSION}\n-> {}", "x".repeat(1 << 20))] {
            assert!(read(&large).unwrap_err().contains("too large"), "{}", &large[..60]);
        }
        assert!(read(&with("-> x\n\n", 1)[..40]).unwrap_err().contains("middle of a line"));
    }
}
