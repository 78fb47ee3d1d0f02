//! Cuts a long JSON document into the items of its one long list, without holding more than one of them.
//!
//! Only brackets and quotes are looked at here: an item is given as text, and whoever reads it says whether it is
//! JSON. What stands around the list is kept, within a limit, and has to be a JSON object when the list is taken
//! out of it.

use std::io::BufRead;

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::FeedError;

/// Most bytes around the list.
const AROUND_BYTES_MAX: usize = 1 << 20;

/// An item of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Its text.
    Text(&'a str),
    /// It is larger than allowed, and was skipped.
    TooLarge,
    /// It is not UTF-8.
    NotText,
}

/// Hands each item of the list under `member` to `each`, or of the list that the whole document is. Fails at the end if
/// the document is not a JSON object with exactly one such list, or one list; what was handed over until then is to be
/// forgotten.
pub(super) fn items(
    reader: &mut impl BufRead,
    member: Option<&str>,
    item_bytes_max: u64,
    each: &mut impl FnMut(Item<'_>) -> Result<(), FeedError>,
) -> Result<(), FeedError> {
    let mut cutter = Cutter {
        key: member.map(|member| format!("\"{member}\"")),
        most: item_bytes_max,
        quoted: false,
        escaped: false,
        depth: 0,
        inside: false,
        found: 0,
        around: Vec::new(),
        item: Vec::new(),
        too_large: false,
        items: 0,
    };
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let used = buffer.len();
        cutter.take(buffer, each)?;
        reader.consume(used);
    }
    let Some(member) = member else {
        serde_json::from_slice::<[IgnoredAny; 0]>(&cutter.around)?;
        return Ok(());
    };
    serde_json::from_slice::<std::collections::BTreeMap<String, IgnoredAny>>(&cutter.around)?;
    match cutter.found {
        1 => Ok(()),
        0 => Err(FeedError::Content(format!("it has no list `{member}`"))),
        _ => Err(FeedError::Content(format!("it has more than one list `{member}`"))),
    }
}

struct Cutter {
    /// The key of the list, in quotes; none if the list is all there is.
    key: Option<String>,
    most: u64,
    quoted: bool,
    /// Whether the next byte belongs to an escape.
    escaped: bool,
    /// Brackets that are open, in the list those of the item.
    depth: usize,
    /// Whether this is within the list.
    inside: bool,
    found: u32,
    around: Vec<u8>,
    item: Vec<u8>,
    too_large: bool,
    items: u64,
}

impl Cutter {
    fn take(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Item<'_>) -> Result<(), FeedError>,
    ) -> Result<(), FeedError> {
        // What was looked at and not kept yet begins at `from`: text is copied in runs, not sign by sign.
        let (mut from, mut at) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.escaped {
                self.escaped = false;
                at += 1;
                continue;
            }
            let sign = |b: &u8| matches!(b, b'"' | b'[' | b']' | b'{' | b'}' | b',');
            let found = if self.quoted { memchr2(b'"', b'\\', rest) } else { rest.iter().position(sign) };
            let Some(found) = found else { break };
            at += found;
            let run = bytes.get(from..at).unwrap_or_default();
            if self.sign(rest.get(found).copied().unwrap_or_default(), run, each)? {
                from = at + 1;
            }
            at += 1;
        }
        self.push(bytes.get(from..).unwrap_or_default())
    }

    /// One byte that has a meaning where it stands, behind a run that was not kept yet. Whether both were dealt with;
    /// else the byte goes on with the run.
    fn sign(
        &mut self,
        byte: u8,
        run: &[u8],
        each: &mut impl FnMut(Item<'_>) -> Result<(), FeedError>,
    ) -> Result<bool, FeedError> {
        match byte {
            b'"' => self.quoted = !self.quoted,
            b'\\' if self.quoted => self.escaped = true,
            b',' if self.inside && self.depth == 0 => {
                self.push(run)?;
                self.end_item(false, each)?;
                return Ok(true);
            }
            b']' if self.inside && self.depth == 0 => {
                self.push(run)?;
                self.end_item(true, each)?;
                (self.inside, self.depth) = (false, self.depth_of_list());
                self.push(b"]")?;
                return Ok(true);
            }
            b'[' if !self.inside && self.depth == self.depth_of_list() => {
                self.push(run)?;
                let list = self.at_key();
                self.push(b"[")?;
                if list {
                    (self.inside, self.depth, self.items) = (true, 0, 0);
                    self.found += 1;
                } else {
                    self.depth += 1;
                }
                return Ok(true);
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => {
                let outside = || FeedError::Content("it closes more brackets than it opens".to_owned());
                self.depth = self.depth.checked_sub(1).ok_or_else(outside)?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// How many brackets are open where the list begins.
    const fn depth_of_list(&self) -> usize {
        if self.key.is_some() { 1 } else { 0 }
    }

    /// Whether what stands around the list ends in its key.
    fn at_key(&self) -> bool {
        let Some(name) = &self.key else { return self.around.trim_ascii().is_empty() };
        let key = self.around.trim_ascii_end().strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        let before = key.and_then(|text| text.strip_suffix(name.as_bytes()));
        before.is_some_and(|before| !before.ends_with(b"\\"))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), FeedError> {
        if !self.inside {
            self.around.extend_from_slice(bytes);
            if self.around.len() > AROUND_BYTES_MAX {
                return Err(FeedError::Content(format!(
                    "it holds more than {AROUND_BYTES_MAX} bytes beside its list"
                )));
            }
        } else if self.too_large || (self.item.len() + bytes.len()) as u64 > self.most {
            self.too_large = true;
            self.item.clear();
        } else {
            self.item.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end_item(
        &mut self,
        last: bool,
        each: &mut impl FnMut(Item<'_>) -> Result<(), FeedError>,
    ) -> Result<(), FeedError> {
        let text = self.item.trim_ascii();
        if self.too_large {
            each(Item::TooLarge)?;
        } else if text.is_empty() {
            // An empty list has no item at all.
            if !last || self.items > 0 {
                return Err(FeedError::Content("its list has a comma without an item".to_owned()));
            }
        } else {
            each(std::str::from_utf8(text).map_or(Item::NotText, Item::Text))?;
        }
        self.items += 1;
        self.item.clear();
        self.too_large = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items, read in pieces of so many bytes.
    fn cut(text: &[u8], piece: usize) -> Result<Vec<String>, String> {
        cut_of(text, Some("list"), piece)
    }

    fn cut_of(text: &[u8], member: Option<&str>, piece: usize) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        let mut reader = std::io::BufReader::with_capacity(piece, text);
        items(&mut reader, member, 20, &mut |item| {
            out.push(match item {
                Item::Text(text) => text.to_owned(),
                other => format!("{other:?}"),
            });
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        Ok(out)
    }

    #[test]
    fn items_are_cut_at_their_commas_wherever_a_buffer_ends() {
        let text = br#" {"a":["list",[1,2]],"x\"list\"":0, "list" : [ {"b":"],\"}\\"} ,[1,[2]], 7,"\u00e9",null],"z":{"list":[9]}} "#;
        for piece in 1..text.len() {
            let found = cut(text, piece).unwrap();
            assert_eq!(found, [r#"{"b":"],\"}\\"}"#, "[1,[2]]", "7", r#""\u00e9""#, "null"], "{piece}");
        }
        assert_eq!(cut(b"{\"list\":[ ]}", 3), Ok(vec![]));
    }

    #[test]
    fn a_document_that_is_a_list_is_cut_too() {
        let text = br#" [ {"a":[1]} , "]" ,[[2],{}]] "#;
        for piece in 1..text.len() {
            assert_eq!(cut_of(text, None, piece).unwrap(), [r#"{"a":[1]}"#, r#""]""#, "[[2],{}]"], "{piece}");
        }
        assert_eq!(cut_of(b"[]", None, 9), Ok(vec![]));
        for text in
            ["", "{}", "[1", "[1,]", "[1]]", "[1][2]", "[1] x", "x [1]", "{\"list\":[1]}", "[\"a", "]["]
        {
            assert!(cut_of(text.as_bytes(), None, 9).is_err(), "{text}");
        }
    }

    #[test]
    fn an_item_that_is_too_large_is_skipped_without_being_held() {
        let text = format!("{{\"list\":[1,\"{}\",2]}}", "x".repeat(1 << 20));
        assert_eq!(cut(text.as_bytes(), 100), Ok(vec!["1".into(), "TooLarge".into(), "2".into()]));
        assert_eq!(cut(b"{\"list\":[\"\xff\"]}", 100), Ok(vec!["NotText".into()]));
    }

    #[test]
    fn what_is_no_object_with_one_such_list_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            "7",
            r#"{"list":"#,
            r#"{"list":["#,
            r#"{"list":[1"#,
            r#"{"list":[1]"#,
            r#"{"list":[1,]}"#,
            r#"{"list":[,1]}"#,
            r#"{"list":[1,,1]}"#,
            r#"{"list":[1}}"#,
            r#"{"list":[1]}}"#,
            r#"{"list":[1]} x"#,
            r#"{"list":[1],"list":[2]}"#,
            r#"{"list":{}}"#,
            r#"{"x":{"list":[1]}}"#,
            r#"["list":[1]]"#,
            r#"{"x"\"list":[1]}"#,
        ] {
            assert!(cut(text.as_bytes(), 100).is_err(), "{text}");
        }
        let long = format!("{{\"x\":\"{}\",\"list\":[1]}}", "x".repeat(AROUND_BYTES_MAX));
        assert!(cut(long.as_bytes(), 4096).unwrap_err().contains("beside its list"));
    }
}
