//! Reading what an upstream says about its bodies: validators, lengths, ranges, encodings.

use std::time::Duration;

use airlock_core::time::Time;
use reqwest::Url;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName,
    LAST_MODIFIED, RETRY_AFTER,
};
use serde::{Deserialize, Serialize};

/// The longest validator that is kept and sent back, in bytes.
const VALIDATOR_BYTES_MAX: usize = 1024;
/// How much older than the answer a file must be for its time to tell it from the next version, in seconds (RFC
/// 9110, 8.8.2.2).
const STRONG_AGE_SECONDS: i64 = 1;

/// By what an upstream recognises that a file did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validator {
    /// What an answer gives, if it gives something that can be sent back. A bare `*` would match whatever the
    /// upstream has, so that this station would never see a change again.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let etag = text(headers, &ETAG).filter(|tag| is_etag(tag)).map(str::to_owned);
        let last_modified = text(headers, &LAST_MODIFIED).filter(|t| date(t).is_some()).map(str::to_owned);
        (etag.is_some() || last_modified.is_some()).then_some(Self { etag, last_modified })
    }

    /// The tag, if it is one; what was kept by an older version may not be.
    pub(super) fn usable_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| is_etag(tag))
    }
}

/// Whether a text is an entity tag, weak or strong.
fn is_etag(tag: &str) -> bool {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = opaque.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    tag.len() <= VALIDATOR_BYTES_MAX && inner.is_some_and(|t| !t.contains('"'))
}

/// What tells one version of a file from every other, so that a piece can be asked for under it (`If-Range`).
pub(super) fn strong_mark(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, &ETAG).filter(|tag| is_etag(tag));
    if let Some(tag) = etag {
        return (!tag.starts_with("W/")).then(|| tag.to_owned());
    }
    let modified = text(headers, &LAST_MODIFIED)?;
    let age = date(text(headers, &DATE)?)?.seconds() - date(modified)?.seconds();
    (age >= STRONG_AGE_SECONDS).then(|| modified.to_owned())
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
}

/// The media type without parameters, in lower case; empty if there is none.
pub(super) fn media(headers: &HeaderMap) -> String {
    let media = text(headers, &CONTENT_TYPE).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The announced length. (Two that differ are refused by the HTTP library.)
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

/// A date of HTTP.
pub(super) fn date(text: &str) -> Option<Time> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Time::from_seconds(zoned.timestamp().as_second()))
}

/// `Retry-After`: seconds, or a date, which counts from the answer's own `Date`, else from `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?;
    if value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean never.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let now = text(headers, &DATE).and_then(date).unwrap_or(now);
    Some(Duration::from_secs(date(value)?.since(now).as_seconds().unsigned_abs()))
}

/// `Content-Range: bytes 5-9/10`, or `bytes */10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The first and the last byte.
    pub span: Option<(u64, u64)>,
    /// The length of the whole.
    pub total: Option<u64>,
}

/// Reads `Content-Range`; nothing if it makes no sense.
pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (unit, rest) = text(headers, &CONTENT_RANGE)?.split_once(' ')?;
    let (span, total) = rest.trim().split_once('/')?;
    let number = |t: &str| t.trim().parse::<u64>().ok();
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    let span = if span.trim() == "*" {
        None
    } else {
        let (first, last) = span.split_once('-')?;
        Some((number(first)?, number(last)?))
    };
    let fits = span.is_none_or(|(first, last)| first <= last && total.is_none_or(|t| last < t));
    (unit.eq_ignore_ascii_case("bytes") && fits).then_some(ContentRange { span, total })
}

/// The endings of files that are packed as an encoding says: what a server calls an encoding is the file itself.
const PACKED: [(&str, &[&str]); 6] = [
    ("gzip", &[".gz", ".tgz"]),
    ("x-gzip", &[".gz", ".tgz"]),
    ("zstd", &[".zst"]),
    ("bzip2", &[".bz2"]),
    ("x-bzip2", &[".bz2"]),
    ("xz", &[".xz"]),
];

/// An encoding that was not asked for and is not the file's own.
pub(super) fn foreign_encoding(headers: &HeaderMap, url: &Url) -> Option<String> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    if encoding.is_empty() || encoding == "identity" {
        return None;
    }
    let own = PACKED.iter().find(|(name, _)| *name == encoding);
    let is_own = own.is_some_and(|(_, endings)| endings.iter().any(|e| url.path().ends_with(e)));
    (!is_own).then_some(encoding)
}

/// How many of a body's first bytes tell whether it is a page for people.
pub(super) const SNIFF_BYTES: usize = 64;

/// Whether a body that begins so is a page for people.
pub(super) fn is_page(beginning: &[u8], media: &str) -> bool {
    let text = String::from_utf8_lossy(beginning).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let says_so = matches!(media, "text/html" | "application/xhtml+xml") && text.starts_with('<');
    says_so || text.starts_with("<!doctype html") || text.starts_with("<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn a_tag_that_would_match_everything_is_no_validator() {
        for bad in ["*", "abc", "W/abc", "\"a", "\"", "\"a\"b\"", &format!("\"{}\"", "a".repeat(2000))] {
            assert_eq!(Validator::of(&headers(&[("etag", bad)])), None, "{bad}");
        }
        let weak = headers(&[("etag", "W/\"a\"")]);
        assert!(Validator::of(&weak).is_some());
        assert_eq!(strong_mark(&weak), None, "a weak tag does not tell bytes apart");
        assert_eq!(strong_mark(&headers(&[("etag", "\"a\"")])).as_deref(), Some("\"a\""));
    }

    #[test]
    fn a_time_marks_a_version_only_if_it_lies_before_the_answer() {
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (date, strong) in
            [("Sun, 06 Nov 1994 08:49:37 GMT", false), ("Sun, 06 Nov 1994 08:49:38 GMT", true)]
        {
            let found = strong_mark(&headers(&[("last-modified", modified), ("date", date)]));
            assert_eq!(found.is_some(), strong, "{date}");
        }
        assert_eq!(strong_mark(&headers(&[("last-modified", modified)])), None);
    }

    #[test]
    fn ranges_are_read_or_make_no_sense() {
        let read = |v: &str| content_range(&headers(&[("content-range", v)]));
        assert_eq!(read("bytes 5-9/10"), Some(ContentRange { span: Some((5, 9)), total: Some(10) }));
        assert_eq!(read("bytes 5-9/*"), Some(ContentRange { span: Some((5, 9)), total: None }));
        assert_eq!(read("bytes */10"), Some(ContentRange { span: None, total: Some(10) }));
        for bad in ["", "bytes", "items 1-2/3", "bytes 9-5/10", "bytes 5-10/10", "bytes -5/10", "bytes 5-9/x"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_upstream_says_in_seconds_or_by_a_date_when_to_come_again() {
        let now: Time = "1994-11-06T08:49:00Z".parse().unwrap();
        let read = |v: &str| retry_after(&headers(&[("retry-after", v)]), now).map(|d| d.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(read("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(read("soon"), None);
        let own = headers(&[
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
        ]);
        assert_eq!(retry_after(&own, now).map(|d| d.as_secs()), Some(7), "its clock may go wrong");
    }

    #[test]
    fn only_the_encoding_that_a_file_has_by_itself_is_taken() {
        let gzip = headers(&[("content-encoding", "gzip")]);
        let at = |path: &str| Url::parse(&format!("https://up.example/{path}")).unwrap();
        assert_eq!(foreign_encoding(&gzip, &at("repodata.json")).as_deref(), Some("gzip"));
        assert_eq!(foreign_encoding(&gzip, &at("a-1.0.tar.gz")), None);
        assert_eq!(
            foreign_encoding(&headers(&[("content-encoding", "br")]), &at("a.gz")).as_deref(),
            Some("br")
        );
        assert_eq!(foreign_encoding(&HeaderMap::new(), &at("a")), None);
    }
}
