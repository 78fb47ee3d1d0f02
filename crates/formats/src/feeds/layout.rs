//! How the records of a feed lie in a file. What a file holds says so better than its name, so that its first bytes
//! decide, and its name only where they leave it open.

use std::io::{self, BufRead, Cursor, Read};

use airlock_core::advisory::{AdvisoryRecord, FeedKind};

use super::list::{self, Item};
use super::{BadAdvisory, FeedError, bounded_line, source, yaml};
use crate::limits;
use crate::read::brief;

/// Bytes that are looked at. What stands before the list of a page of NVD has some hundred.
const START_BYTES: u64 = 64 << 10;
/// What some editors put before text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How records lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// JSON, one record a line.
    Lines,
    /// One JSON document that is one record.
    Document,
    /// One YAML document that is one record.
    Yaml,
    /// The items of the list that stands in a JSON object under this name.
    Member(&'static str),
    /// The items of a JSON list.
    List,
}

impl Layout {
    /// What the first bytes of a file of this name say. Only a kind of feed whose documents are lists of records
    /// has one under a name.
    fn of(kind: FeedKind, name: &str, start: &[u8]) -> Self {
        let is_yaml = has_ending(name, &[".yaml", ".yml"]);
        let text = start.trim_ascii_start();
        match text.first() {
            Some(b'[') if !is_yaml => Self::List,
            Some(b'{') if !is_yaml => object(source(kind).map_or(&[], |s| s.lists), text),
            // UTF-16, or nothing: one record that is none.
            Some(0xfe | 0xff) => Self::Document,
            None if has_ending(name, &[".json"]) => Self::Document,
            _ if is_yaml || starts_like_yaml(text) => Self::Yaml,
            _ => Self::Lines,
        }
    }
}

/// A name without the ending of a compression.
pub fn plain_name(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// Whether a file of this path may hold records of a feed, by its name. What begins with a dot is kept by tools.
pub fn may_hold(kind: FeedKind, path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let beside = source(kind).map_or(&[][..], |source| source.beside);
    has_ending(plain_name(file), &[".json", ".jsonl", ".yaml", ".yml"])
        && !path.split('/').any(|part| part.starts_with('.'))
        && !beside.iter().any(|start| file.starts_with(start))
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

fn starts_like_yaml(text: &[u8]) -> bool {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii_end();
    let word = line.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let behind = line.get(word..).unwrap_or_default();
    line == b"---" || word > 0 && (behind == b":" || behind.starts_with(b": "))
}

/// How records lie in text that starts with an object: in the list under one of these names; or, if that object spans
/// lines, it is the one record.
fn object(lists: &[&'static str], text: &[u8]) -> Layout {
    let (mut depth, mut quoted, mut escaped, mut spans) = (0_usize, false, false, false);
    // The string that stands last on the first level, and whether a colon follows it.
    let (mut key, mut key_at) = (0..0, false);
    for (at, byte) in text.iter().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    quoted = false;
                    key.end = at;
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => {
                quoted = true;
                if depth == 1 {
                    (key, key_at) = (at + 1..at + 1, false);
                }
            }
            b':' => key_at = depth == 1,
            b'[' if depth == 1 && key_at => {
                let name = text.get(key.clone()).unwrap_or_default();
                if let Some(list) = lists.iter().find(|list| list.as_bytes() == name) {
                    return Layout::Member(list);
                }
                depth += 1;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'\n' => spans = true,
            _ => {}
        }
        if depth == 0 || spans && lists.is_empty() {
            break;
        }
    }
    if spans { Layout::Document } else { Layout::Lines }
}

/// How the records of one file are cut apart, and how one is read. Cutting is quick and goes in order; reading is what
/// takes long, and any thread may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFormat {
    /// What the feed speaks.
    pub kind: FeedKind,
    /// How its records lie.
    pub layout: Layout,
}

/// Takes the text of each record, or why one is none, with how it is to be read.
pub type EachText<'a> = dyn FnMut(RecordFormat, Result<&str, BadAdvisory>) -> Result<(), FeedError> + 'a;

/// Cuts the records of one file apart. `name` is what bad records are listed by where the whole file is one record.
///
/// # Errors
///
/// A file that cannot be read to its end, or is no list of records though it starts like one; then all that was handed
/// over is to be forgotten. The first error of `each`.
pub fn split(
    kind: FeedKind,
    name: &str,
    mut reader: impl BufRead,
    each: &mut EachText<'_>,
) -> Result<(), FeedError> {
    let start = start(&mut reader)?;
    let format = RecordFormat { kind, layout: Layout::of(kind, name, &start) };
    format.split(name, &mut Cursor::new(start).chain(reader), &mut |text| each(format, text))
}

/// The first bytes of a text, without a byte order mark; they are gone from the reader.
fn start(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(START_BYTES).read_to_end(&mut start)?;
    if start.starts_with(BYTE_ORDER_MARK) {
        start.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(start)
}

impl RecordFormat {
    /// Cuts the text of each record out of `reader`, or says why one is none. Stops at the first error of `each`.
    pub fn split(
        self,
        name: &str,
        reader: &mut impl BufRead,
        each: &mut impl FnMut(Result<&str, BadAdvisory>) -> Result<(), FeedError>,
    ) -> Result<(), FeedError> {
        match self.layout {
            Layout::Lines => lines(reader, each),
            Layout::Document | Layout::Yaml => document(name, reader, each),
            Layout::Member(member) => listed(reader, Some(member), each),
            Layout::List => listed(reader, None, each),
        }
    }

    /// Whether the whole file is one record.
    pub const fn is_whole_file(self) -> bool {
        matches!(self.layout, Layout::Document | Layout::Yaml)
    }

    /// Reads one record.
    pub fn read(self, text: &str) -> Result<AdvisoryRecord, BadAdvisory> {
        let bad = |reason: &str| BadAdvisory { id: text.chars().take(60).collect(), reason: brief(reason) };
        let source = source(self.kind).ok_or_else(|| bad("feeds of this kind have no records"))?;
        if self.layout == Layout::Yaml {
            let json = yaml::to_json(text, limits::ADVISORY_BYTES_MAX).map_err(|reason| bad(&reason))?;
            // Where the record has no id, the beginning of its own text says which it is.
            let named = |read: BadAdvisory| if json.starts_with(&read.id) { bad(&read.reason) } else { read };
            return (source.read)(&json).map_err(named);
        }
        (source.read)(text)
    }
}

/// Cuts records apart, one a line.
pub(super) fn lines(
    reader: &mut impl BufRead,
    each: &mut impl FnMut(Result<&str, BadAdvisory>) -> Result<(), FeedError>,
) -> Result<(), FeedError> {
    let mut line = Vec::new();
    let mut number = 0u64;
    while let Some(fits) = bounded_line(reader, &mut line, limits::ADVISORY_BYTES_MAX)? {
        number += 1;
        check_count(number)?;
        let place = |reason: String| BadAdvisory { id: format!("line {number}"), reason };
        if !fits {
            each(Err(place(format!("the record is larger than {} bytes", limits::ADVISORY_BYTES_MAX))))?;
            continue;
        }
        match std::str::from_utf8(&line) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => each(Ok(text))?,
            Err(_) => each(Err(place("it is not UTF-8".to_owned())))?,
        }
    }
    Ok(())
}

/// The one record of a document. A document that is none is one bad record: beside others it stops nothing.
fn document(
    name: &str,
    reader: &mut impl BufRead,
    each: &mut impl FnMut(Result<&str, BadAdvisory>) -> Result<(), FeedError>,
) -> Result<(), FeedError> {
    let mut bytes = Vec::new();
    reader.by_ref().take(limits::ADVISORY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let bad = |reason: &str| Err(BadAdvisory { id: name.to_owned(), reason: reason.to_owned() });
    if bytes.len() as u64 > limits::ADVISORY_BYTES_MAX {
        // To the end, so that a stream that is cut short, or has no end, is seen as such.
        io::copy(reader, &mut io::sink())?;
        return each(bad("it is larger than one advisory may be"));
    }
    each(std::str::from_utf8(&bytes).map_or_else(|_| bad("it is not UTF-8"), Ok))
}

/// The items of a list, however long.
pub(super) fn listed(
    reader: &mut impl BufRead,
    member: Option<&str>,
    each: &mut impl FnMut(Result<&str, BadAdvisory>) -> Result<(), FeedError>,
) -> Result<(), FeedError> {
    let mut number = 0u64;
    list::items(reader, member, limits::ADVISORY_BYTES_MAX, &mut |item| {
        number += 1;
        check_count(number)?;
        let bad = |reason: &str| BadAdvisory { id: format!("item {number}"), reason: reason.to_owned() };
        each(match item {
            Item::Text(text) => Ok(text),
            Item::TooLarge => Err(bad("the record is larger than one advisory may be")),
            Item::NotText => Err(bad("it is not UTF-8")),
        })
    })
}

fn check_count(number: u64) -> Result<(), FeedError> {
    if number > limits::FEED_RECORDS_MAX {
        return Err(FeedError::Content(format!("it has more than {} records", limits::FEED_RECORDS_MAX)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(kind: FeedKind, name: &str, bytes: &[u8]) -> Result<(Layout, Vec<String>), String> {
        let (mut layout, mut found) = (Layout::Lines, Vec::new());
        let reader = io::BufReader::with_capacity(7, bytes);
        split(kind, name, reader, &mut |format, text| {
            layout = format.layout;
            found.push(text.map_or_else(|bad| format!("{}: {}", bad.id, bad.reason), str::to_owned));
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        Ok((layout, found))
    }

    #[test]
    fn what_a_file_holds_tells_how_its_records_lie_and_not_its_name() {
        let layout = |kind, name: &str, text: &str| texts(kind, name, text.as_bytes()).unwrap().0;
        let osv = |name: &str, text: &str| layout(FeedKind::Osv, name, text);
        for name in ["x", "x.json", "x.jsonl"] {
            assert_eq!(osv(name, "{\"id\":\"A\"}\n{\"id\":\"B\"}\n"), Layout::Lines, "{name}");
            assert_eq!(osv(name, "{\"id\":\"A\"}"), Layout::Lines, "{name}");
            assert_eq!(
                osv(name, " {\n\"id\":\"}\\\"\",\"vulnerabilities\":[]}\n"),
                Layout::Document,
                "{name}"
            );
            assert_eq!(osv(name, "[{\"id\":\"A\"}]"), Layout::List, "{name}");
            assert_eq!(osv(name, "{\"vulns\" : [{\"id\":\"A\"}]}"), Layout::Member("vulns"), "{name}");
            assert_eq!(osv(name, "{\"id\":\"A\",\"x\":{\"vulns\":[]}}"), Layout::Lines, "{name}");
            assert_eq!(osv(name, "schema_version: 1\nid: A\n"), Layout::Yaml, "{name}");
            assert_eq!(osv(name, "---\nid: A\n"), Layout::Yaml, "{name}");
            assert_eq!(osv(name, "<html>"), Layout::Lines, "{name}");
        }
        assert_eq!(osv("x.yml", "{id: A}"), Layout::Yaml);
        let nvd = |text: &str| layout(FeedKind::Nvd, "x.jsonl", text);
        assert_eq!(nvd("{\"format\":\"NVD_CVE\",\n\"vulnerabilities\":\n[]}"), Layout::Lines);
        assert_eq!(nvd("{\"a\":[1,\"b\"],\n\"vulnerabilities\":\n[{}]}"), Layout::Member("vulnerabilities"));
        assert_eq!(nvd("{\"vulnerabilities\":{\"vulnerabilities\":[1]}}"), Layout::Lines);
        assert_eq!(nvd("{\"vulnerabilities\",[1]}"), Layout::Lines);
    }

    #[test]
    fn a_document_that_is_none_is_one_bad_record_with_the_name_of_its_file() {
        let found = |bytes: &[u8]| texts(FeedKind::Osv, "a.json", bytes).unwrap().1;
        assert_eq!(found(b"\xef\xbb\xbf{\n}"), ["{\n}"]);
        assert_eq!(found(b"\xff\xfe{\0\n\0"), ["a.json: it is not UTF-8"]);
        assert_eq!(found(b"{\n\"\xff\"}"), ["a.json: it is not UTF-8"]);
        assert_eq!(found(b""), [""]);
        let long = format!("{{\n\"{}\"}}", "x".repeat(limits::ADVISORY_BYTES_MAX as usize));
        assert_eq!(found(long.as_bytes()), ["a.json: it is larger than one advisory may be"]);
        assert!(texts(FeedKind::Osv, "x", b"[{\"id\":\"A\"}").unwrap_err().contains("EOF"));
    }
}
