//! Which part of a representation is asked for (RFC 9110, section 14).

use std::ops::Range;

use axum::http::header::{IF_RANGE, RANGE};
use axum::http::{HeaderMap, Method};

/// What a request's `Range` comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranged {
    /// All of it: there is no range, or none that is answered.
    Whole,
    /// One part, not empty.
    Part(Range<u64>),
    /// It begins behind the end.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` for a representation of `len` bytes. Several ranges, other units and what makes
/// no sense get the whole, as the RFC allows: no package client asks for such.
pub fn ranged(method: &Method, headers: &HeaderMap, etag: &str, len: u64) -> Ranged {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(line), None, &Method::GET) = (lines.next(), lines.next(), method) else { return Ranged::Whole };
    // A date never fits, since there is no Last-Modified, and a weak tag never by definition.
    if headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag.as_bytes()) {
        return Ranged::Whole;
    }
    line.to_str().ok().and_then(|line| one(line, len)).unwrap_or(Ranged::Whole)
}

/// Reads one range; `None` if it is anything else.
fn one(line: &str, len: u64) -> Option<Ranged> {
    let (unit, set) = line.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        // The last bytes of nothing are nothing, and there is no empty part.
        return match (suffix, len) {
            (0, _) => Some(Ranged::Unsatisfiable),
            (_, 0) => Some(Ranged::Whole),
            _ => Some(Ranged::Part(len.saturating_sub(suffix)..len)),
        };
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    if first >= len {
        return Some(Ranged::Unsatisfiable);
    }
    Some(Ranged::Part(first..last.saturating_add(1).min(len)))
}

/// A number of any length; what is too large for us is large enough.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_and_nonsense_gets_the_whole() {
        use Ranged::{Part, Unsatisfiable, Whole};
        for (line, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-5", Part(2..6)),
            ("bytes=2-", Part(2..10)),
            ("bytes=9-99999999999999999999999", Part(9..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-11", Part(0..10)),
            ("bytes=-99999999999999999999999", Part(0..10)),
            ("BYTES = 1-1", Part(1..2)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(one(line, 10).unwrap_or(Whole), expected, "{line}");
        }
        assert_eq!(one("bytes=0-", 0), Some(Unsatisfiable));
        assert_eq!(one("bytes=-5", 0), Some(Whole));
    }
}
