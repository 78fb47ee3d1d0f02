//! YAML as JSON: what a record of a database that keeps its advisories as YAML says, in the form that all others have.
//!
//! What is no null, `true` or `false` is text, numbers too: a version that somebody wrote without quotes is `1.10` and
//! not 1.1. An alias is what it stands for, within the size that it may have; so a few lines that would grow
//! without bounds are refused.

use std::collections::BTreeMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::limits;

/// The JSON text of the one document that `text` holds.
///
/// # Errors
///
/// What is no YAML, holds no or several documents, nests too deep, or comes to more than `bytes_max`.
pub(crate) fn to_json(text: &str, bytes_max: u64) -> Result<String, String> {
    let mut writer = Writer { bytes_max, ..Writer::default() };
    let mut documents = 0;
    for event in std::iter::from_fn({
        let mut parser = Parser::new_from_str(text);
        move || parser.next_event()
    }) {
        let (event, _) = event.map_err(|e| e.to_string())?;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err("it holds more than one document".to_owned());
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                writer.scalar(&value, style, anchor, tag.as_deref())?
            }
            Event::SequenceStart(anchor, _) => writer.open(anchor, false)?,
            Event::MappingStart(anchor, _) => writer.open(anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => writer.close()?,
            Event::Alias(anchor) => writer.alias(anchor)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    if documents == 0 { Err("it holds nothing".to_owned()) } else { Ok(writer.out) }
}

/// A list or map that is not closed yet.
struct Open {
    anchor: usize,
    /// Where its text begins.
    start: usize,
    is_map: bool,
    /// Whether what comes next is a key.
    at_key: bool,
    is_empty: bool,
}

#[derive(Default)]
struct Writer {
    out: String,
    bytes_max: u64,
    open: Vec<Open>,
    /// The text of each node that has an anchor.
    anchors: BTreeMap<usize, Range<usize>>,
}

impl Writer {
    /// What stands before a key or value. Whether it is a key.
    fn begin(&mut self) -> bool {
        let Some(top) = self.open.last_mut() else { return false };
        if (top.at_key || !top.is_map) && !std::mem::take(&mut top.is_empty) {
            self.out.push(',');
        }
        top.at_key
    }

    /// What follows a key or value whose text began at `start`.
    fn end(&mut self, start: usize, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            self.anchors.insert(anchor, start..self.out.len());
        }
        if let Some(top) = self.open.last_mut().filter(|top| top.is_map) {
            if top.at_key {
                self.out.push(':');
            }
            top.at_key = !top.at_key;
        }
        if self.out.len() as u64 > self.bytes_max {
            return Err(format!("it is larger than {} bytes", self.bytes_max));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        value: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), String> {
        let is_key = self.begin();
        let start = self.out.len();
        let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix != "str");
        if plain && is_key && value == "<<" {
            // Readers that know no merge keys would see a map without what it is to hold.
            return Err("it has a merge key (`<<`), which is not read".to_owned());
        }
        match value {
            "" | "~" | "null" | "Null" | "NULL" if plain && !is_key => self.out.push_str("null"),
            "true" | "True" | "TRUE" if plain && !is_key => self.out.push_str("true"),
            "false" | "False" | "FALSE" if plain && !is_key => self.out.push_str("false"),
            text => self.out.push_str(&serde_json::to_string(text).map_err(|e| e.to_string())?),
        }
        self.end(start, anchor)
    }

    fn open(&mut self, anchor: usize, is_map: bool) -> Result<(), String> {
        if self.begin() {
            return Err("one of its keys is no text".to_owned());
        }
        if self.open.len() >= limits::RECORD_DEPTH_MAX {
            return Err(format!("it nests deeper than {} levels", limits::RECORD_DEPTH_MAX));
        }
        let start = self.out.len();
        self.out.push(if is_map { '{' } else { '[' });
        self.open.push(Open { anchor, start, is_map, at_key: is_map, is_empty: true });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(closed) = self.open.pop() else { return Ok(()) };
        self.out.push(if closed.is_map { '}' } else { ']' });
        self.end(closed.start, closed.anchor)
    }

    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        let is_key = self.begin();
        let unknown = || "an alias stands for nothing that stands before it".to_owned();
        let text = self.anchors.get(&anchor).cloned().ok_or_else(unknown)?;
        if is_key && !self.out.get(text.clone()).is_some_and(|key| key.starts_with('"')) {
            return Err("one of its keys is no text".to_owned());
        }
        if (self.out.len() + text.len()) as u64 > self.bytes_max {
            return Err(format!("its aliases come to more than {} bytes", self.bytes_max));
        }
        let start = self.out.len();
        let copy = self.out.get(text).unwrap_or_default().to_owned();
        self.out.push_str(&copy);
        self.end(start, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn to_json(text: &str) -> Result<String, String> {
        super::to_json(text, limits::ADVISORY_BYTES_MAX)
    }

    fn read(text: &str) -> Result<serde_json::Value, String> {
        to_json(text).map(|json| serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn what_is_written_without_quotes_is_the_text_that_stands_there() {
        let text = "id: PYSEC-2021-108\ndetails: >-\n  one\n  line\nwithdrawn: ~\nnone:\nversions:\n- 1.10\n- \"2\"\n- 1e3\n- 0x1f\nevents: [{introduced: 0}, {fixed: 1.26.5}]\nbool: true\nquoted: 'true'\nnot: !!str null\n1: !x y\nlong: |\n  a: b\n  \"c\"\n";
        assert_eq!(
            read(text).unwrap(),
            serde_json::json!({"id": "PYSEC-2021-108", "details": "one line", "withdrawn": null, "none": null,
                "versions": ["1.10", "2", "1e3", "0x1f"], "events": [{"introduced": "0"}, {"fixed": "1.26.5"}],
                "bool": true, "quoted": "true", "not": "null", "1": "y", "long": "a: b\n\"c\"\n"})
        );
        assert_eq!(read("---\n[]\n...\n").unwrap(), serde_json::json!([]));
        assert_eq!(read("{}").unwrap(), serde_json::json!({}));
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let text = "a: &x [1, {b: &y c}]\nd: *x\ne: *y\n? *y\n: f\n";
        let list = serde_json::json!(["1", {"b": "c"}]);
        assert_eq!(read(text).unwrap(), serde_json::json!({"a": list, "d": list, "e": "c", "c": "f"}));
        for bad in ["a: *x\n", "a: &x [*x]\n", "a: &x [1]\n? *x\n: 1\n", "? [1]\n: 2\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_merge_key_is_refused_since_what_it_brings_would_be_missing() {
        let why = read("base: &b {a: 1}\n<<: *b\nid: x\n").unwrap_err();
        assert!(why.contains("merge key"), "{why}");
        assert!(read("a: [{<<: {b: 1}}]\n").is_err());
        // Text is none.
        let text = serde_json::json!({"<<": "1", "a": "<<"});
        assert_eq!(read("'<<': 1\na: <<\n").unwrap(), text);
    }

    #[test]
    fn no_document_and_several_are_refused() {
        for bad in ["", "# nothing\n", "a: 1\n---\nb: 2\n", "a: [1\n", "a: \"x\n", "a: b: c", "\0"] {
            assert!(to_json(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bombs_and_deep_nesting_end_soon_and_small() {
        let mut bomb = "a0: &a0 [xxxxxxxxxxxxxxxx]\n".to_owned();
        for n in 1..40 {
            let before = format!("*a{},", n - 1).repeat(10);
            writeln!(bomb, "a{n}: &a{n} [{before}]").unwrap();
        }
        assert!(to_json(&bomb).unwrap_err().contains("aliases"));
        for piece in [
            "[", "{a: ", "- ", "? ", "&a ", "!a ", "a: ", "*a ", "'", "| ", "%a ", "# ", "\n", " ", "-", ",",
            "a,",
        ] {
            for end in ["", "\n", "\nb: 1"] {
                let text = format!("{}{end}", piece.repeat((1 << 20) / piece.len()));
                let _ = to_json(&text);
                let text = format!("a: [{}{end}", piece.repeat((1 << 20) / piece.len()));
                let _ = to_json(&text);
            }
        }
        assert!(to_json(&"[".repeat(60)).unwrap_err().contains("levels"));
    }
}
