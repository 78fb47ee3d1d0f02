//! Immutable objects: canonical JSON that says its kind, named by the SHA-256 of its bytes.
//!
//! The bytes are one JSON object with the member `"kind"` beside the members of the value, for
//! example `{"kind":"airlock.policy.v1","text":"..."}`. Since a canonical document is one line, a
//! bundle carries objects as lines, and `sha256sum` of a line is the object's name.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canon::{CanonError, Canonical};
use crate::id::{Digest, Id};

/// A value that is stored as an object.
pub trait Object: Serialize + DeserializeOwned {
    /// What the bytes call themselves, with the version of the layout.
    const KIND: &'static str;
}

/// Why bytes are not the object that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bytes hash to something else.
    #[error("object {wanted} has bytes that hash to {found}; run `airlock fsck`")]
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
/// Errors only where the value cannot be written as JSON at all.
pub fn encode<T: Object>(value: &T) -> Result<(Id<T>, Encoded), ObjectError> {
    let shape = |source| ObjectError::Shape { kind: T::KIND, source };
    let plain = Canonical::of(value).map_err(shape)?;
    let mut members = plain.members();
    members.push(("kind".to_owned(), Canonical::string(T::KIND)));
    let canonical = Canonical::object(members.iter().map(|(k, v)| (k.as_str(), v)));
    let bytes = canonical.as_str().as_bytes().to_vec();
    let digest = Digest::of(&bytes);
    Ok((Id::new(digest), Encoded { digest, bytes }))
}

/// Reads an object of kind `T` from bytes whose hash was checked before.
pub fn decode<T: Object>(bytes: &[u8]) -> Result<T, ObjectError> {
    let shape = |source| ObjectError::Shape { kind: T::KIND, source };
    let found = serde_json::from_slice::<KindOnly>(bytes).map_err(shape)?;
    if found.kind != T::KIND {
        return Err(ObjectError::Kind { expected: T::KIND, found: found.kind });
    }
    serde_json::from_slice(bytes).map_err(shape)
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
    let text = std::str::from_utf8(bytes).map_err(|_| CanonError::Syntax { at: 0, what: "not UTF-8" })?;
    if Canonical::parse(text)?.as_str() != text {
        return Err(CanonError::Syntax { at: 0, what: "not in canonical form" }.into());
    }
    Ok(())
}
