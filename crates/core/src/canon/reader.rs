//! From JSON as anybody writes it to the canonical text.

use super::text::{plain_len, push_string};
use super::writer::Members;
use super::{CanonError, DEPTH_MAX};

/// Reads JSON text once and writes its canonical form as it goes.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    source: &'a str,
    at: usize,
    out: String,
}

impl<'a> Reader<'a> {
    /// The canonical form of a whole document, or of what stands so many levels deep in one.
    pub(super) fn document(source: &'a str, depth: usize) -> Result<String, CanonError> {
        let mut reader =
            Self { text: source.as_bytes(), source, at: 0, out: String::with_capacity(source.len()) };
        reader.value(depth)?;
        reader.space();
        if reader.at != source.len() {
            return Err(reader.syntax("text after the end of the document"));
        }
        Ok(reader.out)
    }

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
            Some(b'"') => self.string().map(|_| ()),
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

    /// Copies a string and leaves the reader behind its closing quote. Whether it stands there without escapes.
    fn string(&mut self) -> Result<bool, CanonError> {
        let start = self.at;
        let mut i = start + 1;
        let mut plain = true;
        loop {
            i += plain_len(self.text.get(i..).unwrap_or_default());
            match self.text.get(i) {
                None => return Err(self.syntax("a string without an end")),
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    i += 2;
                }
                Some(_) => return Err(self.syntax("a control character in a string")),
            }
        }
        let from = self.out.len();
        if plain {
            self.out.push_str(&self.source[start..=i]);
        } else {
            let text: String = serde_json::from_str(&self.source[start..=i])
                .map_err(|_| self.syntax("a string with a malformed escape"))?;
            push_string(&mut self.out, &text);
            plain = !self.out[from..].contains('\\');
        }
        self.at = i + 1;
        Ok(plain)
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
        self.space();
        if self.eat(b'}') {
            self.out.push_str("{}");
            return Ok(());
        }
        let mut members = Members::begin(&mut self.out);
        loop {
            self.space();
            if self.text.get(self.at) != Some(&b'"') {
                return Err(self.syntax("expected a key"));
            }
            members.key(&mut self.out);
            let plain = self.string()?;
            members.key_ends(&mut self.out, plain);
            self.space();
            if !self.eat(b':') {
                return Err(self.syntax("expected `:`"));
            }
            self.value(depth + 1)?;
            members.value_ends(&self.out);
            self.space();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.syntax("expected `,` or `}`"));
            }
        }
        members.end(&mut self.out).map_err(CanonError::DuplicateKey)
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
