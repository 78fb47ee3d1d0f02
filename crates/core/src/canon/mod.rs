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

mod fields;
mod reader;
mod text;
mod writer;

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use fields::Fields;
use reader::Reader;
use text::push_string;
pub(crate) use writer::{append, write};

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
        Reader::document(text, 0).map(|text| Self(text.into_boxed_str()))
    }

    /// The same of a part of a document that stands so many levels deep in it.
    pub(crate) fn parse_within(text: &str, depth: usize) -> Result<Self, CanonError> {
        Reader::document(text, depth).map(|text| Self(text.into_boxed_str()))
    }

    /// The canonical form of a value of our own; fails only if its `Serialize` does.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        write(value, None).map(|text| Self(text.into_boxed_str()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the text as `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The members of an object in order, each as canonical text; empty for anything but an object.
    pub fn members(&self) -> Vec<(String, Canonical)> {
        self.parts().into_iter().map(|(key, text)| (key.into_owned(), Self(text.into()))).collect()
    }

    /// The members of an object in order, as they stand in the text; empty for anything but an object.
    pub fn parts(&self) -> Vec<(Cow<'_, str>, &str)> {
        self.read::<Parts<'_>>().map(|parts| parts.0).unwrap_or_default()
    }

    /// The same one after the other, keys as they are escaped, without a look at the values: for what is read hundreds of
    /// thousands of times.
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(&self.0)
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
        if writer::is_ours(&serializer) {
            return serializer.serialize_newtype_struct(writer::VERBATIM, self.as_str());
        }
        // Valid JSON by construction, so that the copy cannot fail for its content.
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// The members of an object without a copy.
struct Parts<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Parts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                #[derive(Deserialize)]
                struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut parts = Vec::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    parts.push((key.0, value.get()));
                }
                Ok(Parts(parts))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// For `#[serde(with = "canon::trusted")]`: reads a part of a document that is known to be canonical, an object
/// of the store, as it stands. Everything else goes through the `Deserialize` of [`Canonical`], which makes sure.
pub mod trusted {
    use super::{Canonical, Deserialize, Deserializer, RawValue, Serialize, Serializer};

    /// As [`Canonical`] writes itself.
    pub fn serialize<S: Serializer>(value: &Canonical, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    /// Takes the text of the document as it stands.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Canonical, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Canonical(raw.into()))
    }
}

impl<'de> Deserialize<'de> for Canonical {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(serde::de::Error::custom)
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
        fn what_is_written_directly_is_what_reading_it_back_would_make(text in "\\PC{0,8}", n in any::<i64>(), f in any::<f64>()) {
            #[derive(Serialize)]
            enum Shape<'a> { Unit, New(&'a str), Pair(i64, f64), Named { z: Option<bool>, a: char } }
            #[derive(Serialize)]
            struct All<'a> {
                z: std::collections::HashMap<String, Shape<'a>>,
                numbers: std::collections::BTreeMap<i64, ()>,
                a: (u8, Option<&'a str>, [f64; 2]),
                kept: Canonical,
            }
            let shapes = [Shape::Unit, Shape::New(&text), Shape::Pair(n, f), Shape::Named { z: None, a: '\n' }];
            let z = shapes.into_iter().enumerate().map(|(i, s)| (format!("{text}{i}\""), s)).collect();
            let kept = Canonical::parse(r#"{"b":1.00,"a":[ ]}"#).unwrap();
            let all = All { z, numbers: [(n, ()), (0, ())].into(), a: (7, Some(&text), [f, -0.0]), kept };
            let plain = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(&Canonical::of(&all).unwrap(), &Canonical::parse(&plain).unwrap());
        }

        #[test]
        fn strings_survive(text in any::<String>()) {
            let canonical = Canonical::string(&text);
            prop_assert_eq!(canonical.read::<String>().unwrap(), text);
            prop_assert_eq!(&Canonical::parse(canonical.as_str()), &Ok(canonical.clone()));
        }
    }
}
