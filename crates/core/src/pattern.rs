//! Patterns over names and words: `*` stands for anything, `?` for one character, and case does not count.

use wildmatch::WildMatch;

use crate::ecosystem::{self, Ecosystem};

/// A pattern, ready to be held against many texts.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    any: WildMatch,
    /// As names of PyPI are spelt.
    pypi: WildMatch,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// The pattern that this text is.
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_owned();
        let any = WildMatch::new_case_insensitive(&text);
        let pypi = WildMatch::new(&ecosystem::name_pattern(Ecosystem::Pypi, &text));
        Self { text, any, pypi }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.any.matches(text)
    }

    /// Whether a canonical name matches.
    pub fn matches_name(&self, ecosystem: Ecosystem, name: &str) -> bool {
        match ecosystem {
            Ecosystem::Conda => self.any.matches(name),
            Ecosystem::Pypi => self.pypi.matches(name),
        }
    }
}
