//! Immutable objects: canonical JSON that says its kind, named by the SHA-256 of its bytes.
//!
//! The bytes are one JSON object with the member `"kind"` beside the members of the value, for
//! example `{"kind":"airlock.policy.v1","text":"..."}`. Since a canonical document is one line, a
//! bundle carries objects as lines, and `sha256sum` of a line is the object's name.

mod kinded;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canon::{self, CanonError, Canonical};
use crate::id::{Digest, Id};
use kinded::Kinded;

/// A value that is stored as an object. [`object!`](crate::object!) makes a type one.
pub trait Object: Serialize + DeserializeOwned {
    /// What the bytes call themselves, with the version of the layout.
    const KIND: &'static str;

    /// What [`encode`] calls.
    fn encoded(&self) -> Result<Encoded, ObjectError>;

    /// What [`decode`] calls.
    fn decoded(bytes: &[u8]) -> Result<Self, ObjectError>;
}

/// Makes a type an object of this kind.
///
/// Readers and writers of JSON are generic and large. What reads and writes the type is written out here, where the type is,
/// so that it is compiled once and not again in each crate that uses it.
#[macro_export]
macro_rules! object {
    ($type:ty, $kind:literal) => {
        impl $crate::object::Object for $type {
            const KIND: &'static str = $kind;

            fn encoded(
                &self,
            ) -> ::core::result::Result<$crate::object::Encoded, $crate::object::ObjectError> {
                $crate::object::written(self)
            }

            fn decoded(bytes: &[u8]) -> ::core::result::Result<Self, $crate::object::ObjectError> {
                $crate::object::read(bytes)
            }
        }
    };
}

/// Why bytes are not the object that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bytes hash to something else.
    #[error("object {wanted} has bytes that hash to {found}")]
    Hash {
        /// The name that was asked for.
        wanted: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
    /// Another kind than the one asked for.
    #[error("expected an object of kind {expected}, found {found}")]
    Kind {
        /// The kind asked for.
        expected: &'static str,
        /// What the bytes say.
        found: String,
    },
    /// Not canonical JSON.
    #[error("object is not canonical JSON: {0}")]
    Canon(#[from] CanonError),
    /// Not of the shape of its kind.
    #[error("object of kind {kind} cannot be read: {source}")]
    Shape {
        /// The kind.
        kind: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct KindOnly {
    kind: String,
}

/// What is no text is no canonical JSON either.
const NOT_UTF8: CanonError = CanonError::Syntax { at: 0, what: "not UTF-8" };

/// An object's name and bytes, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
}

/// Encodes `value`; the id is the hash of the bytes.
///
/// Errors only where the value cannot be written as a JSON object, or has a member `kind` of its own.
pub fn encode<T: Object>(value: &T) -> Result<(Id<T>, Encoded), ObjectError> {
    let encoded = value.encoded()?;
    Ok((Id::new(encoded.digest), encoded))
}

/// The bytes of an object of this kind, and their hash; for [`object!`](crate::object!).
pub fn written<T: Object>(value: &T) -> Result<Encoded, ObjectError> {
    let shape = |source| ObjectError::Shape { kind: T::KIND, source };
    let bytes = canon::write(value, Some(("kind", T::KIND))).map_err(shape)?.into_bytes();
    let digest = Digest::of(&bytes);
    Ok(Encoded { digest, bytes })
}

/// Reads an object of kind `T` from bytes whose hash was checked before.
pub fn decode<T: Object>(bytes: &[u8]) -> Result<T, ObjectError> {
    T::decoded(bytes)
}

/// An object of this kind from its bytes; for [`object!`](crate::object!).
pub fn read<T: Object>(bytes: &[u8]) -> Result<T, ObjectError> {
    let mut kind = None;
    // Once for all of it, and not once for each string.
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = T::deserialize(Kinded { reader: &mut reader, kind: &mut kind });
    match read.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) if kind.as_deref() == Some(T::KIND) => Ok(value),
        read => Err(misread::<T>(bytes, read.err())),
    }
}

/// Why bytes are not of this kind: that they are of another one says more than that their shape is another.
fn misread<T: Object>(bytes: &[u8], fault: Option<serde_json::Error>) -> ObjectError {
    match (serde_json::from_slice::<KindOnly>(bytes), fault) {
        (Ok(KindOnly { kind }), _) if kind != T::KIND => ObjectError::Kind { expected: T::KIND, found: kind },
        (_, Some(source)) | (Err(source), None) => ObjectError::Shape { kind: T::KIND, source },
        (Ok(KindOnly { kind }), None) => ObjectError::Kind { expected: T::KIND, found: kind },
    }
}

/// The kind that bytes claim, if they are an object at all.
pub fn kind_of(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<KindOnly>(bytes).ok().map(|k| k.kind)
}

/// Checks that `bytes` are canonical and hash to `wanted`; what comes from outside passes here.
pub fn check(wanted: Digest, bytes: &[u8]) -> Result<(), ObjectError> {
    let found = Digest::of(bytes);
    if found != wanted {
        return Err(ObjectError::Hash { wanted, found });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
    if Canonical::parse(text)?.as_str() != text {
        return Err(CanonError::Syntax { at: 0, what: "not in canonical form" }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        b: u32,
        a: String,
    }

    crate::object!(Sample, "airlock.sample.v1");

    #[derive(Serialize, Deserialize)]
    struct Clash {
        kind: u32,
    }

    crate::object!(Clash, "airlock.clash.v1");

    #[test]
    fn golden_bytes_of_an_object_and_its_name() {
        let (id, encoded) = encode(&Sample { b: 1, a: "é".into() }).unwrap();
        assert_eq!(encoded.bytes, r#"{"a":"é","b":1,"kind":"airlock.sample.v1"}"#.as_bytes());
        assert_eq!(id.to_string(), "82f2460712dbb593cce1329dccacb5df4b16ba2e98a8327414c992d768b75ec0");
        assert_eq!(decode::<Sample>(&encoded.bytes).unwrap(), Sample { b: 1, a: "é".into() });
    }

    #[test]
    fn bytes_that_are_not_the_object_are_refused_by_reason() {
        let (id, encoded) = encode(&Sample { b: 1, a: String::new() }).unwrap();
        assert!(check(id.digest(), &encoded.bytes).is_ok());
        assert!(matches!(check(id.digest(), b"{}"), Err(ObjectError::Hash { .. })));
        let spaced = b"{ \"a\":1}";
        assert!(matches!(check(Digest::of(spaced), spaced), Err(ObjectError::Canon(_))));
        assert!(matches!(decode::<Sample>(br#"{"kind":"other"}"#), Err(ObjectError::Kind { .. })));
        assert!(matches!(
            decode::<Sample>(br#"{"kind":"airlock.sample.v1"}"#),
            Err(ObjectError::Shape { .. })
        ));
        let twice = br#"{"a":"","b":1,"kind":"airlock.sample.v1","kind":"airlock.sample.v1"}"#;
        assert!(matches!(decode::<Sample>(twice), Err(ObjectError::Shape { .. })));
        let more = br#"{"a":"","b":1,"kind":"airlock.sample.v1"} {}"#;
        assert!(matches!(decode::<Sample>(more), Err(ObjectError::Shape { .. })));
        assert!(matches!(decode::<Sample>(br#"{"a":"","b":1}"#), Err(ObjectError::Shape { .. })));
        assert!(matches!(decode::<Sample>(b"{\"a\":\"\xff\"}"), Err(ObjectError::Canon(_))));
        let clash = encode(&Clash { kind: 1 }).unwrap_err().to_string();
        assert!(clash.contains("the key `kind` stands twice"), "{clash}");
    }
}
