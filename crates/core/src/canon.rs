//! The canonical encoding: JSON with one spelling for each value.
//!
//! - UTF-8 without white space; a document is one line.
//! - The keys of an object are sorted by their UTF-8 bytes; a key that stands twice is an error,
//!   because readers disagree about which one counts.
//! - Strings escape only what JSON demands (`"`, `\`, and controls below U+0020: `\b \t \n \f \r`
//!   where they exist, else `\u00xx` in lower case).
//! - Numbers keep the very digits that they came with: `1`, `1.0` and 30-digit integers survive, where
//!   a float would not.
//! - Nothing nests deeper than [`DEPTH_MAX`].
//!
//! It is RFC 8785 (JCS) but for two points: numbers are not rewritten (JCS would lose big integers),
//! and keys sort by UTF-8 instead of UTF-16. `ARCHITECTURE.md` holds the golden bytes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 64;

/// Why a text has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonError {
    /// Not JSON at all.
    #[error("not JSON at byte {at}: {what}")]
    Syntax {
        /// Where the reader stopped, in bytes from the start.
        at: usize,
        /// What stood there.
        what: &'static str,
    },
    /// One object holds the same key twice.
    #[error("the key `{0}` stands twice in one object")]
    DuplicateKey(String),
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels at byte {0}")]
    TooDeep(usize),
}

/// JSON text in canonical form. Equal values have equal texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canonical(Box<str>);

impl Canonical {
    /// Brings JSON text into canonical form, or says why it has none.
    pub fn parse(text: &str) -> Result<Self, CanonError> {
        let mut writer =
            Writer { text: text.as_bytes(), source: text, at: 0, out: String::with_capacity(text.len()) };
        writer.value(0)?;
        writer.space();
        if writer.at != text.len() {
            return Err(writer.syntax("text after the end of the document"));
        }
        Ok(Self(writer.out.into_boxed_str()))
    }

    /// The canonical form of a value of our own; fails only if its `Serialize` does.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(value)?;
        Self::parse(&text).map_err(|e| serde::ser::Error::custom(e.to_string()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_string().into_bytes()
    }

    /// Reads the text as `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The members of an object in order, each as canonical text; empty for anything but an object.
    pub fn members(&self) -> Vec<(String, Canonical)> {
        let members: Result<std::collections::BTreeMap<String, Canonical>, _> = self.read();
        members.map(|m| m.into_iter().collect()).unwrap_or_default()
    }

    /// An object of these members.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a Canonical)>) -> Self {
        let sorted: std::collections::BTreeMap<&str, &Canonical> = members.into_iter().collect();
        let mut out = String::from("{");
        for (i, (key, value)) in sorted.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            push_string(&mut out, key);
            out.push(':');
            out.push_str(value.as_str());
        }
        out.push('}');
        Self(out.into_boxed_str())
    }

    /// A string.
    pub fn string(text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + 2);
        push_string(&mut out, text);
        Self(out.into_boxed_str())
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Canonical {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Valid JSON by construction, so that the copy cannot fail for its content.
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Canonical {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(serde::de::Error::custom)
    }
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    // What needs no escape is copied in runs: nearly all text is one.
    while let Some(at) = rest.bytes().position(|b| b < b' ' || b == b'"' || b == b'\\') {
        let (run, tail) = rest.split_at(at);
        out.push_str(run);
        let mut chars = tail.chars();
        match chars.next().unwrap_or_default() {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

struct Writer<'a> {
    text: &'a [u8],
    source: &'a str,
    at: usize,
    out: String,
}

impl<'a> Writer<'a> {
    fn syntax(&self, what: &'static str) -> CanonError {
        CanonError::Syntax { at: self.at, what }
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), CanonError> {
        self.space();
        match self.text.get(self.at) {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let text = self.string()?;
                push_string(&mut self.out, &text);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => Err(self.syntax("expected a value")),
            None => Err(self.syntax("the text ends where a value should be")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), CanonError> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.syntax("expected true, false or null"));
        }
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn number(&mut self) -> Result<(), CanonError> {
        let start = self.at;
        self.skip(|b| b == b'-', 1);
        let first = self.text.get(self.at).copied();
        let digits = self.skip(|b| b.is_ascii_digit(), usize::MAX);
        if digits == 0 || (digits > 1 && first == Some(b'0')) {
            return Err(self.syntax("malformed number"));
        }
        if self.skip(|b| b == b'.', 1) == 1 && self.skip(|b| b.is_ascii_digit(), usize::MAX) == 0 {
            return Err(self.syntax("malformed number"));
        }
        if self.skip(|b| matches!(b, b'e' | b'E'), 1) == 1 {
            self.skip(|b| matches!(b, b'+' | b'-'), 1);
            if self.skip(|b| b.is_ascii_digit(), usize::MAX) == 0 {
                return Err(self.syntax("malformed number"));
            }
        }
        self.out.push_str(&self.source[start..self.at]);
        Ok(())
    }

    fn skip(&mut self, accept: impl Fn(u8) -> bool, most: usize) -> usize {
        let rest = &self.text[self.at..];
        let n = rest.iter().take(most).take_while(|b| accept(**b)).count();
        self.at += n;
        n
    }

    /// Reads a string and leaves the reader behind its closing quote.
    fn string(&mut self) -> Result<Cow<'a, str>, CanonError> {
        let start = self.at;
        let mut i = start + 1;
        let mut plain = true;
        loop {
            match self.text.get(i) {
                None => return Err(self.syntax("a string without an end")),
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    i += 2;
                }
                Some(b) if *b < 0x20 => return Err(self.syntax("a control character in a string")),
                Some(_) => i += 1,
            }
        }
        let text = if plain {
            Cow::Borrowed(&self.source[start + 1..i])
        } else {
            Cow::Owned(
                serde_json::from_str(&self.source[start..=i])
                    .map_err(|_| self.syntax("a string with a malformed escape"))?,
            )
        };
        self.at = i + 1;
        Ok(text)
    }

    fn array(&mut self, depth: usize) -> Result<(), CanonError> {
        self.enter(depth)?;
        self.out.push('[');
        self.space();
        if self.eat(b']') {
            self.out.push(']');
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if self.eat(b']') {
                self.out.push(']');
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.syntax("expected `,` or `]`"));
            }
            self.out.push(',');
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), CanonError> {
        self.enter(depth)?;
        let start = self.out.len();
        // Each member is written as `,"key":value` and remembered by its range, so that members that
        // arrive in order (ours always do) are never moved.
        let mut members: Vec<(Cow<'a, str>, std::ops::Range<usize>)> = Vec::new();
        self.space();
        if self.eat(b'}') {
            self.out.push_str("{}");
            return Ok(());
        }
        loop {
            self.space();
            if self.text.get(self.at) != Some(&b'"') {
                return Err(self.syntax("expected a key"));
            }
            let key = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err(self.syntax("expected `:`"));
            }
            let from = self.out.len();
            self.out.push(',');
            push_string(&mut self.out, &key);
            self.out.push(':');
            self.value(depth + 1)?;
            members.push((key, from..self.out.len()));
            self.space();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.syntax("expected `,` or `}`"));
            }
        }
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(pair) = members.windows(2).find(|w| w[0].0 == w[1].0) {
                return Err(CanonError::DuplicateKey(pair[0].0.clone().into_owned()));
            }
            let sorted: String = members.iter().map(|(_, range)| &self.out[range.clone()]).collect();
            self.out.replace_range(start.., &sorted);
        }
        self.out.replace_range(start..=start, "{");
        self.out.push('}');
        Ok(())
    }

    fn enter(&mut self, depth: usize) -> Result<(), CanonError> {
        if depth >= DEPTH_MAX {
            return Err(CanonError::TooDeep(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canon(text: &str) -> String {
        Canonical::parse(text).map_or_else(|e| format!("error: {e}"), |c| c.as_str().to_owned())
    }

    #[test]
    fn one_value_has_one_spelling() {
        let golden =
            r#"{"":[],"a":{"x":null,"y":[1,1.0,1e400,123456789012345678901234567890]},"é":"\n\u0001/\"é€"}"#;
        let wild = "{ \"\\u00e9\" : \"\\u000a\\u0001\\/\\\"\\u00e9\\u20ac\",\n\"a\":{\"y\":[1, 1.0,1e400,123456789012345678901234567890],\"x\":null}, \"\": [ ] }";
        assert_eq!(canon(wild), golden);
        assert_eq!(canon(golden), golden);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert_eq!(canon(r#"{"a":1,"b":2,"a":1}"#), "error: the key `a` stands twice in one object");
        assert_eq!(canon(r#"{"a":1,"\u0061":1}"#), "error: the key `a` stands twice in one object");
    }

    #[test]
    fn depth_is_limited() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Canonical::parse(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(Canonical::parse(&deep(DEPTH_MAX + 1)), Err(CanonError::TooDeep(DEPTH_MAX)));
        assert!(Canonical::parse(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "01",
            "1.",
            "-",
            "1e",
            "tru",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "1 2",
            "{,}",
            "'a'",
            "nan",
            "\"\\",
        ] {
            assert!(Canonical::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(text in "\\PC*|[\\[\\]{}\",:0-9eE.+a-z\\\\ -]*") {
            if let Ok(canonical) = Canonical::parse(&text) {
                prop_assert_eq!(&Canonical::parse(canonical.as_str()), &Ok(canonical.clone()));
                let ours: serde_json::Value = serde_json::from_str(canonical.as_str()).unwrap();
                if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text) {
                    prop_assert_eq!(ours, theirs);
                }
            }
        }

        #[test]
        fn strings_survive(text in any::<String>()) {
            let canonical = Canonical::string(&text);
            prop_assert_eq!(canonical.read::<String>().unwrap(), text);
            prop_assert_eq!(&Canonical::parse(canonical.as_str()), &Ok(canonical.clone()));
        }
    }
}
