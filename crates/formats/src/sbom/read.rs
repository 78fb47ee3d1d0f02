//! What a document lists, read as a stream.

use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Listed;

/// The list of components in a document of CycloneDX.
pub const CYCLONEDX_LIST: &str = "components";
/// The list of packages in one of SPDX; its first is the channel itself.
pub const SPDX_LIST: &str = "packages";

/// Why a document does not list what it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadList(String);

/// Hands on the components of a document, which stand in `list`. Whatever else it says is passed over; what `each` says against
/// one ends the reading.
///
/// # Errors
///
/// What is no such document, and what `each` says.
pub fn components(
    from: impl Read,
    list: &'static str,
    mut each: impl FnMut(Listed) -> Result<(), String>,
) -> Result<(), BadList> {
    let mut reader = serde_json::Deserializer::from_reader(from);
    let document = Document { list, each: &mut each };
    document.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|e| {
        // The place is one in a line of a document that nobody reads.
        let text = e.to_string();
        BadList(text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned())
    })
}

struct Document<'a, F> {
    list: &'static str,
    each: &'a mut F,
}

impl<'de, F: FnMut(Listed) -> Result<(), String>> DeserializeSeed<'de> for Document<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Listed) -> Result<(), String>> Visitor<'de> for Document<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_read = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.list {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut is_read, true) {
                return Err(A::Error::custom(format!("`{key}` stands twice")));
            }
            map.next_value_seed(Components { list: self.list, each: self.each })?;
        }
        if is_read { Ok(()) } else { Err(A::Error::custom(format!("`{}` is missing", self.list))) }
    }
}

struct Components<'a, F> {
    list: &'static str,
    each: &'a mut F,
}

impl<'de, F: FnMut(Listed) -> Result<(), String>> DeserializeSeed<'de> for Components<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Listed) -> Result<(), String>> Visitor<'de> for Components<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of components")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut is_first = true;
        while let Some(value) = list.next_element::<Value>()? {
            let is_channel = std::mem::take(&mut is_first) && self.list == SPDX_LIST;
            if !is_channel {
                (self.each)(listed(&value, self.list)).map_err(A::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// What is missing is empty, and so is found to be other than it should.
fn listed(value: &Value, list: &str) -> Listed {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let [place, version, purl, sha256] = match list {
        SPDX_LIST => [
            "/packageFileName",
            "/versionInfo",
            "/externalRefs/0/referenceLocator",
            "/checksums/0/checksumValue",
        ],
        _ => ["/bom-ref", "/version", "/purl", "/hashes/0/content"],
    };
    Listed {
        place: text(place),
        name: text("/name"),
        version: text(version),
        purl: text(purl),
        sha256: text(sha256),
    }
}
