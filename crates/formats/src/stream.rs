//! Reading JSON one member at a time, so that a hostile document costs no more memory than its own text.
//!
//! A collection of parsed members is a multiple of the bytes that it was parsed from (a `"":0,` of five bytes
//! takes forty). Here each value is handed on as a slice of the text, and nothing is collected.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::read::IndexError;

/// A key, borrowed from the text where it holds no escape.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Hands each member of an object to `take`.
pub(crate) struct Members<'f, F> {
    /// Whether null counts as an object without members.
    pub(crate) or_null: bool,
    pub(crate) take: F,
    /// Where an error of `take` is put, which travels through the parser only as text.
    pub(crate) fault: &'f mut Option<IndexError>,
}

/// Keeps an error of ours, and makes the one that stops the parser.
pub(crate) fn stop<E: Error>(fault: &mut Option<IndexError>, error: IndexError) -> E {
    let stops = E::custom(&error);
    *fault = Some(error);
    stops
}

impl<'de, F> DeserializeSeed<'de> for Members<'_, F>
where
    F: FnMut(&str, &'de RawValue) -> Result<(), IndexError>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F> Visitor<'de> for Members<'_, F>
where
    F: FnMut(&str, &'de RawValue) -> Result<(), IndexError>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.or_null { Ok(()) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            (self.take)(&key, value).map_err(|e| stop(self.fault, e))?;
        }
        Ok(())
    }
}

/// Hands each item of an array to `take`.
pub(crate) struct Items<'f, F> {
    pub(crate) or_null: bool,
    pub(crate) take: F,
    pub(crate) fault: &'f mut Option<IndexError>,
}

impl<'de, F> DeserializeSeed<'de> for Items<'_, F>
where
    F: FnMut(&'de RawValue) -> Result<(), IndexError>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F> Visitor<'de> for Items<'_, F>
where
    F: FnMut(&'de RawValue) -> Result<(), IndexError>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.or_null { Ok(()) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut seq: S) -> Result<(), S::Error> {
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            (self.take)(item).map_err(|e| stop(self.fault, e))?;
        }
        Ok(())
    }
}

/// Reads a whole document with `seed`.
pub(crate) fn whole<'a, S: DeserializeSeed<'a>>(
    json: &'a str,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut text = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(&mut text)?;
    text.end()?;
    Ok(value)
}

/// Hands each member of the object in `json` to `take`.
pub(crate) fn members<'a>(
    json: &'a str,
    take: impl FnMut(&str, &'a RawValue) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut fault = None;
    let outcome = whole(json, Members { or_null: false, take, fault: &mut fault });
    fault.map_or_else(|| outcome.map_err(IndexError::from), Err)
}

/// Hands each item of the array in `json` to `take`.
pub(crate) fn items<'a>(
    json: &'a str,
    take: impl FnMut(&'a RawValue) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut fault = None;
    let outcome = whole(json, Items { or_null: false, take, fault: &mut fault });
    fault.map_or_else(|| outcome.map_err(IndexError::from), Err)
}
