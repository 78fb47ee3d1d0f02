//! The tags of an HTML page, one after another: no tree is made of it, which would take a hundred times its bytes.
//!
//! Read as Python's `html.parser` does, which installers use: comments, declarations, and what stands in `script` and
//! `style` hold no tags, and a tag that never ends is none.

use std::collections::BTreeMap;

use crate::limits;

/// The attributes of a tag, with names in lower case and values without character references.
pub(super) type Attributes = BTreeMap<String, String>;

/// The attributes of every tag of this name, which is in lower case.
pub(super) fn tags<'a>(page: &'a str, name: &'static str) -> impl Iterator<Item = Attributes> + 'a {
    Tags { rest: page }.filter(move |tag| tag.name.eq_ignore_ascii_case(name)).map(|tag| attributes(tag.body))
}

struct Tag<'a> {
    name: &'a str,
    /// What stands between the name and the closing bracket.
    body: &'a str,
}

struct Tags<'a> {
    rest: &'a str,
}

impl<'a> Tags<'a> {
    /// Goes behind the next `end`, or to the end of the page.
    fn skip_behind(&mut self, end: &str) {
        self.rest = self.rest.find(end).and_then(|at| self.rest.get(at + end.len()..)).unwrap_or_default();
    }

    /// Goes to where an element ends whose text holds no tags.
    fn skip_text_of(&mut self, name: &str) {
        let closes = |at: &usize| {
            let tag = self.rest.get(at + 2..).unwrap_or_default();
            tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let end = self.rest.match_indices("</").map(|(at, _)| at).find(closes);
        self.rest = end.and_then(|at| self.rest.get(at..)).unwrap_or_default();
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            self.skip_behind("<");
            match self.rest.as_bytes().first()? {
                b'!' if self.rest.starts_with("!--") => self.skip_behind("-->"),
                b'!' | b'?' | b'/' => self.skip_behind(">"),
                first if first.is_ascii_alphabetic() => {
                    let end = tag_end(self.rest)?;
                    let tag = self.rest.get(..end)?;
                    self.rest = self.rest.get(end + 1..)?;
                    let name_end = tag.find(is_name_end).unwrap_or(tag.len());
                    let (name, body) = tag.split_at_checked(name_end)?;
                    if ["script", "style"].iter().any(|text| name.eq_ignore_ascii_case(text)) {
                        self.skip_text_of(name);
                    }
                    return Some(Tag { name, body });
                }
                _ => {}
            }
        }
    }
}

fn is_name_end(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '/' | '>')
}

/// Where the bracket stands that closes a tag: the first one outside of quotes that follow a `=`.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    let mut may_quote = false;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') if may_quote => quote = Some(byte),
            (None, b'=') => may_quote = true,
            (None, byte) if byte.is_ascii_whitespace() => {}
            (None, _) => may_quote = false,
        }
        may_quote &= quote.is_none();
    }
    None
}

/// The attributes in a tag. A tag that has one twice, or absurdly many, has none: readers differ in which counts.
fn attributes(body: &str) -> Attributes {
    let mut attributes = Attributes::new();
    let mut rest = body;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return attributes;
        }
        // A `=` at the start belongs to the name, so that something is always taken.
        let end = rest.char_indices().skip(1).find(|(_, c)| is_name_end(*c) || *c == '=');
        let (name, behind) =
            rest.split_at_checked(end.map_or(rest.len(), |(at, _)| at)).unwrap_or((rest, ""));
        let (value, behind) = match behind.trim_start().strip_prefix('=') {
            Some(value) => split_value(value.trim_start()),
            None => ("", behind),
        };
        rest = behind;
        let earlier = attributes.insert(name.to_ascii_lowercase(), unescape(value));
        if earlier.is_some() || attributes.len() > limits::TAG_ATTRIBUTES_MAX {
            return Attributes::new();
        }
    }
}

/// A value with or without quotes, and what follows it.
fn split_value(text: &str) -> (&str, &str) {
    match text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => {
            let inner = text.get(1..).unwrap_or_default();
            inner.split_once(quote).unwrap_or((inner, ""))
        }
        None => {
            let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
            text.split_at_checked(end).unwrap_or((text, ""))
        }
    }
}

/// Resolves the character references that Simple pages use: the five of XML and numeric ones.
fn unescape(text: &str) -> String {
    // `&#x10ffff;`, and room for a zero; searching further would make many `&` cost their square.
    const REFERENCE_BYTES_MAX: usize = 11;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(REFERENCE_BYTES_MAX).position(|b| b == b';');
        let resolved = end.and_then(|end| reference(&rest[1..end]));
        match (end, resolved) {
            (Some(end), Some(c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hrefs(page: &str) -> Vec<String> {
        tags(page, "a").map(|mut a| a.remove("href").unwrap_or_default()).collect()
    }

    #[test]
    fn tags_are_read_as_installers_read_them() {
        for (page, found) in [
            ("<a href=\"x\">x</a><A HREF='y'/>", vec!["x", "y"]),
            ("<a href=x data-yanked>x<a\nhref = \"a>b\" >", vec!["x", "a>b"]),
            ("<!-- <a href=x> --><a href=y>", vec!["y"]),
            ("<!doctype html><?xml?><a href='&lt;&#x21;&amp;'>", vec!["<!&"]),
            ("<script><a href=x></a></script><a href=y>", vec!["y"]),
            ("<style><a href=x>", vec![]),
            ("< a href=x><abbr href=x><a href=z", vec![]),
            ("<a href=x href=y><a title=1>", vec!["", ""]),
            ("<a href=\"x", vec![]),
            ("<a =x href=y><a/href=z>", vec!["y", "z"]),
            ("<a href=\"é\" \u{a0}=1>", vec!["é"]),
        ] {
            assert_eq!(hrefs(page), found, "{page}");
        }
    }

    #[test]
    fn a_tag_with_absurdly_many_attributes_has_none() {
        let many: String = (0..=limits::TAG_ATTRIBUTES_MAX).map(|n| format!(" a{n}=1")).collect();
        assert!(tags(&format!("<a{many}>"), "a").all(|a| a.is_empty()));
    }
}
