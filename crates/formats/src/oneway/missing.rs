//! The missing list: what a receiver still lacks, for people to read and for the sender to send.
//!
//! ```text
//!   # what is missing of a bundle that came over a one-way link
//!   # on the sending side: airlock send DIR --to URL --only THIS_FILE
//!   manifest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//!   whole files/2d/2d711642b726b04401627ca9fbac32f5.whl
//!   8820-17639 files/9f/9f86d081884c7d659a2feaa0c55ad015.conda
//! ```
//!
//! Bytes are counted from 0, and both ends belong to the stretch.

use std::fmt;
use std::ops::Range;

use airlock_core::id::Digest;

/// Largest missing list that is read, in bytes: about a million files.
pub const MISSING_BYTES_MAX: u64 = 128 << 20;

/// What is missing of one bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// SHA-256 of its manifest.
    pub transfer: Digest,
    /// The parts, in the manifest's order.
    pub parts: Vec<Part>,
}

/// A file of which something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its path within the bundle.
    pub path: String,
    /// The bytes; none: all of it.
    pub bytes: Option<Range<u64>>,
}

/// A list that cannot be used: the line, from 1, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no line of a missing list: {what}")]
pub struct NotAList {
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# what is missing of a bundle that came over a one-way link")?;
        writeln!(f, "# on the sending side: airlock send DIR --to URL --only THIS_FILE")?;
        writeln!(f, "manifest {}", self.transfer)?;
        for part in &self.parts {
            match &part.bytes {
                None => writeln!(f, "whole {}", part.path)?,
                Some(bytes) => writeln!(f, "{}-{} {}", bytes.start, bytes.end - 1, part.path)?,
            }
        }
        Ok(())
    }
}

impl Missing {
    /// Reads a list.
    pub fn read(text: &str) -> Result<Self, NotAList> {
        let is_content = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
        let mut lines = text.lines().map(str::trim).enumerate().filter(is_content);
        let fault = |line: usize, what| NotAList { line: line + 1, what };
        let first = lines.next().ok_or(fault(0, "it is empty"))?;
        let transfer = first.1.strip_prefix("manifest ").and_then(|hash| hash.parse().ok());
        let transfer = transfer.ok_or(fault(first.0, "the first one names the manifest by its SHA-256"))?;
        let part = |(at, line): (usize, &str)| {
            let (bytes, path) = line.split_once(' ').ok_or(fault(at, "it has a stretch and a path"))?;
            let bytes = match bytes {
                "whole" => None,
                bytes => Some(stretch(bytes).ok_or(fault(at, "a stretch is `whole` or `FIRST-LAST`"))?),
            };
            Ok(Part { path: path.to_owned(), bytes })
        };
        Ok(Self { transfer, parts: lines.map(part).collect::<Result<_, _>>()? })
    }
}

fn stretch(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let end = last.checked_add(1)?;
    (first < end).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let part = |path: &str, bytes| Part { path: path.to_owned(), bytes };
        let missing = Missing {
            transfer: Digest::of(b"m"),
            parts: vec![part("README.txt", None), part("files/aa/x.whl", Some(8820..17640))],
        };
        let text = missing.to_string();
        assert!(text.ends_with("whole README.txt\n8820-17639 files/aa/x.whl\n"), "{text}");
        assert_eq!(Missing::read(&text), Ok(missing.clone()));
        assert_eq!(Missing::read(&text.replace('\n', "\r\n")), Ok(missing));
    }

    #[test]
    fn lines_that_make_no_sense_are_named() {
        let manifest = format!("manifest {}\n", Digest::of(b"m"));
        assert_eq!(Missing::read("").unwrap_err().line, 1);
        assert_eq!(Missing::read("# a\nmanifest 12\n").unwrap_err().line, 2);
        for bad in ["x", "5-4 x", "-1 x", "1-18446744073709551615 x", "all x", "1- x"] {
            assert_eq!(Missing::read(&format!("{manifest}whole a\n{bad}\n")).unwrap_err().line, 3, "{bad}");
        }
    }
}
