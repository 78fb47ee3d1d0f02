//! Feeds of advisories and identities. Adding a format is adding one module.
//!
//! A reader hands each record to a callback, good or bad, so that no feed is ever held as a whole and one
//! record that makes no sense never stops the rest.

mod cpe;
pub mod curl;
pub mod cve;
pub mod epss;
pub mod identities;
pub mod kev;
mod layout;
mod list;
pub mod nvd;
pub mod openssl;
pub mod osv;
mod unpack;
pub mod vex;

/// The number of the way in which feeds are read. Raised with every change of what comes of the same bytes.
pub const READER: u32 = 2;
pub(crate) mod yaml;

use std::io::{self, BufRead};

use airlock_core::advisory::{AdvisoryRecord, FeedKind};
use airlock_core::severity::{self, Score};
use serde::{Deserialize, Deserializer};

use crate::archive::ArchiveError;

pub use layout::{EachText, Layout, RecordFormat, may_hold, plain_name, split};
pub use unpack::unpack;

/// A feed that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not JSON of the expected shape.
    #[error("it is not a valid feed: {0}")]
    Json(#[from] serde_json::Error),
    /// An archive that cannot be used.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// Too large, or not what it should be.
    #[error("{0}")]
    Content(String),
}

/// How the records of one kind of feed are read.
struct Source {
    /// Reads one.
    read: fn(&str) -> Result<AdvisoryRecord, BadAdvisory>,
    /// The names under which documents have lists of them.
    lists: &'static [&'static str],
    /// How files begin that lie beside the records, and hold none.
    beside: &'static [&'static str],
}

/// The source of each kind of feed that has records.
const fn source(kind: FeedKind) -> Option<&'static Source> {
    match kind {
        FeedKind::Osv => Some(&osv::SOURCE),
        FeedKind::Nvd => Some(&nvd::SOURCE),
        FeedKind::Cve => Some(&cve::SOURCE),
        FeedKind::Openssl => Some(&openssl::SOURCE),
        FeedKind::Curl => Some(&curl::SOURCE),
        FeedKind::Kev | FeedKind::Epss | FeedKind::Identities | FeedKind::Vex => None,
    }
}

/// Whether it looks like a CVE number and is no longer than one may be.
fn is_cve(id: &str) -> bool {
    id.len() <= crate::limits::CVE_BYTES_MAX
        && id.strip_prefix("CVE-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAdvisory {
    /// Its id, or where it stood.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// The score of a vector, with its source.
fn score(vector: &str, source: &str) -> Option<Score> {
    let score = severity::score_of(vector).ok()?;
    Some(Score { score, vector: vector.trim().to_owned(), source: source.to_owned() })
}

/// How bad a publisher calls something, if it is a word at all; where there is a score, no word counts.
fn severity_word(word: &str, scores: &[Score]) -> Option<String> {
    const BYTES_MAX: usize = 20;
    let is_word =
        !word.is_empty() && word.len() <= BYTES_MAX && word.bytes().all(|b| b.is_ascii_alphabetic());
    (scores.is_empty() && is_word).then(|| word.to_ascii_lowercase())
}

/// Reads null as the empty value: databases made by Go programs write it for an empty list, and an advisory
/// must not be lost for that.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Shortens a description to one line for lists.
fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 240;
    let (mut flat, mut chars) = (String::new(), 0);
    for word in text.split_whitespace() {
        if !flat.is_empty() {
            flat.push(' ');
            chars += 1;
        }
        flat.push_str(word);
        chars += word.chars().count();
        if chars > CHARS_MAX {
            let end = flat.char_indices().nth(CHARS_MAX - 1).map_or(flat.len(), |(at, _)| at);
            flat.truncate(end);
            flat.push('…');
            break;
        }
    }
    flat
}

/// Reads one line of at most `most` bytes into `line`; `Ok(None)` at the end, `Ok(Some(false))` if it was longer
/// and was skipped.
fn bounded_line(reader: &mut impl BufRead, line: &mut Vec<u8>, most: u64) -> io::Result<Option<bool>> {
    line.clear();
    let mut fits = true;
    let mut seen = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(seen.then_some(fits));
        }
        seen = true;
        let end = memchr::memchr(b'\n', buffer);
        let part = &buffer[..end.unwrap_or(buffer.len())];
        fits &= (line.len() + part.len()) as u64 <= most;
        if fits {
            line.extend_from_slice(part);
        } else {
            line.clear();
        }
        let used = end.map_or(buffer.len(), |e| e + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(fits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_description_is_one_line_of_240_characters_at_most() {
        assert_eq!(one_line("  a\n\tb  "), "a b");
        assert_eq!(one_line(""), "");
        // Characters, not bytes; a space between words is one.
        let exact = format!("{} {}", "é".repeat(120), "x".repeat(119));
        assert_eq!(one_line(&exact), exact);
        let cut = format!("{} {}…", "é".repeat(120), "x".repeat(118));
        assert_eq!(one_line(&format!("{exact}x")), cut);
        assert_eq!(one_line(&format!("{exact} and more")), cut);
        // Where the cut falls behind a word, its space stays.
        let word = "x".repeat(238);
        assert_eq!(one_line(&format!("{word} yyy")), format!("{word} …"));
    }
}
