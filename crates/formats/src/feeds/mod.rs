//! Feeds of advisories and identities. Adding a format is adding one module.
//!
//! A reader hands each record to a callback, good or bad, so that no feed is ever held as a whole and one
//! record that makes no sense never stops the rest.

pub mod epss;
pub mod identities;
pub mod kev;
pub mod nvd;
pub mod osv;

use std::io::{self, BufRead};

use airlock_core::severity::{self, Score};
use serde::{Deserialize, Deserializer};

/// A feed that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not JSON of the expected shape.
    #[error("it is not a valid feed: {0}")]
    Json(#[from] serde_json::Error),
    /// Too large, or not what it should be.
    #[error("{0}")]
    Content(String),
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
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= CHARS_MAX {
        return flat;
    }
    let mut cut: String = flat.chars().take(CHARS_MAX - 1).collect();
    cut.push('…');
    cut
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
        let end = buffer.iter().position(|b| *b == b'\n');
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
