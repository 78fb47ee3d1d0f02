//! Between msgpack and JSON, for sharded conda repodata (CEP 16).
//!
//! Reading is lenient about the four ways in which hashes were ever written (`bin`, hexadecimal text, an array
//! of numbers, `ext`): bytes become hexadecimal text. Writing turns canonical JSON into msgpack with the
//! smallest encodings, so that equal values have equal bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use rmp::Marker;
use rmp::encode;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use airlock_core::canon::Canonical;
use airlock_core::hex;

use crate::limits;

/// How deep arrays and maps may nest.
pub const DEPTH_MAX: usize = airlock_core::canon::DEPTH_MAX;

/// Bytes of text up to which its ratio is not asked.
const TEXT_FREE_BYTES: usize = 1 << 20;

/// Why bytes are not msgpack that fits JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// The bytes end in the middle of a value.
    #[error("it ends in the middle of a value")]
    Short,
    /// Bytes are left over behind the value.
    #[error("{0} bytes are left over behind its end")]
    Trailing(usize),
    /// A marker that msgpack reserves.
    #[error("it holds a reserved marker")]
    Reserved,
    /// A map whose key is no string.
    #[error("it holds a map with a key that is no string")]
    Key,
    /// A string that is not UTF-8.
    #[error("it holds a string that is not UTF-8")]
    Utf8,
    /// A number that JSON cannot hold.
    #[error("it holds a number that is not finite")]
    Number,
    /// Text far larger than the bytes.
    #[error("its text is more than {} times as large", limits::MSGPACK_TEXT_RATIO_MAX)]
    Ratio,
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("it nests deeper than {DEPTH_MAX} levels")]
    Depth,
}

/// Turns one msgpack value into JSON text.
pub fn to_json(bytes: &[u8]) -> Result<String, MsgpackError> {
    let text_max = bytes.len().saturating_mul(limits::MSGPACK_TEXT_RATIO_MAX).max(TEXT_FREE_BYTES);
    let mut reader = Reader { bytes, text_max, out: String::with_capacity(bytes.len() + bytes.len() / 2) };
    reader.value(0)?;
    match reader.bytes.len() {
        0 => Ok(reader.out),
        left => Err(MsgpackError::Trailing(left)),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes that the text may have.
    text_max: usize,
    out: String,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], MsgpackError> {
        if n > self.bytes.len() {
            return Err(MsgpackError::Short);
        }
        let (taken, rest) = self.bytes.split_at(n);
        self.bytes = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], MsgpackError> {
        self.take(N)?.try_into().map_err(|_| MsgpackError::Short)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, MsgpackError> {
        let raw = self.take(bytes)?;
        Ok(raw.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn value(&mut self, depth: usize) -> Result<(), MsgpackError> {
        if depth > DEPTH_MAX {
            return Err(MsgpackError::Depth);
        }
        if self.out.len() > self.text_max {
            return Err(MsgpackError::Ratio);
        }
        let marker = Marker::from_u8(self.number::<1>()?[0]);
        match marker {
            Marker::Null => self.out.push_str("null"),
            Marker::True => self.out.push_str("true"),
            Marker::False => self.out.push_str("false"),
            Marker::FixPos(n) => self.push(|_| Ok(n))?,
            Marker::FixNeg(n) => self.push(|_| Ok(n))?,
            Marker::U8 => self.push(|r| Ok(u8::from_be_bytes(r.number()?)))?,
            Marker::U16 => self.push(|r| Ok(u16::from_be_bytes(r.number()?)))?,
            Marker::U32 => self.push(|r| Ok(u32::from_be_bytes(r.number()?)))?,
            Marker::U64 => self.push(|r| Ok(u64::from_be_bytes(r.number()?)))?,
            Marker::I8 => self.push(|r| Ok(i8::from_be_bytes(r.number()?)))?,
            Marker::I16 => self.push(|r| Ok(i16::from_be_bytes(r.number()?)))?,
            Marker::I32 => self.push(|r| Ok(i32::from_be_bytes(r.number()?)))?,
            Marker::I64 => self.push(|r| Ok(i64::from_be_bytes(r.number()?)))?,
            Marker::F32 => {
                let number = f32::from_be_bytes(self.number()?);
                self.float(f64::from(number))?;
            }
            Marker::F64 => {
                let number = f64::from_be_bytes(self.number()?);
                self.float(number)?;
            }
            Marker::FixStr(n) => self.string(usize::from(n))?,
            Marker::Str8 => self.sized(1, Self::string)?,
            Marker::Str16 => self.sized(2, Self::string)?,
            Marker::Str32 => self.sized(4, Self::string)?,
            Marker::Bin8 => self.sized(1, Self::binary)?,
            Marker::Bin16 => self.sized(2, Self::binary)?,
            Marker::Bin32 => self.sized(4, Self::binary)?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized(1, Self::extension)?,
            Marker::Ext16 => self.sized(2, Self::extension)?,
            Marker::Ext32 => self.sized(4, Self::extension)?,
            Marker::FixArray(n) => self.array(usize::from(n), depth)?,
            Marker::Array16 => self.sized(2, |r, n| r.array(n, depth))?,
            Marker::Array32 => self.sized(4, |r, n| r.array(n, depth))?,
            Marker::FixMap(n) => self.map(usize::from(n), depth)?,
            Marker::Map16 => self.sized(2, |r, n| r.map(n, depth))?,
            Marker::Map32 => self.sized(4, |r, n| r.map(n, depth))?,
            Marker::Reserved => return Err(MsgpackError::Reserved),
        }
        Ok(())
    }

    fn push<T: fmt::Display>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, MsgpackError>,
    ) -> Result<(), MsgpackError> {
        use fmt::Write as _;
        let number = read(self)?;
        // Writing into a string cannot fail.
        let _ = write!(self.out, "{number}");
        Ok(())
    }

    fn sized(
        &mut self,
        bytes: usize,
        read: impl Fn(&mut Self, usize) -> Result<(), MsgpackError>,
    ) -> Result<(), MsgpackError> {
        let length = self.length(bytes)?;
        read(self, length)
    }

    fn float(&mut self, number: f64) -> Result<(), MsgpackError> {
        let text = serde_json::Number::from_f64(number).ok_or(MsgpackError::Number)?.to_string();
        self.out.push_str(&text);
        Ok(())
    }

    fn string(&mut self, n: usize) -> Result<(), MsgpackError> {
        let text = std::str::from_utf8(self.take(n)?).map_err(|_| MsgpackError::Utf8)?;
        self.out.push_str(Canonical::string(text).as_str());
        Ok(())
    }

    fn binary(&mut self, n: usize) -> Result<(), MsgpackError> {
        let text = hex::encode(self.take(n)?);
        self.out.push('"');
        self.out.push_str(&text);
        self.out.push('"');
        Ok(())
    }

    fn extension(&mut self, n: usize) -> Result<(), MsgpackError> {
        self.take(1)?;
        self.binary(n)
    }

    fn array(&mut self, n: usize, depth: usize) -> Result<(), MsgpackError> {
        self.out.push('[');
        for i in 0..n {
            if i > 0 {
                self.out.push(',');
            }
            self.value(depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, n: usize, depth: usize) -> Result<(), MsgpackError> {
        self.out.push('{');
        for i in 0..n {
            if i > 0 {
                self.out.push(',');
            }
            let key_starts = self.out.len();
            self.value(depth + 1)?;
            if !self.out[key_starts..].starts_with('"') {
                return Err(MsgpackError::Key);
            }
            self.out.push(':');
            self.value(depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// Writes a string key or value.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    // Writing into a vector cannot fail.
    let _ = encode::write_str(out, text);
}

/// Writes the head of a map of `n` members.
pub fn write_map(out: &mut Vec<u8>, n: usize) {
    let _ = encode::write_map_len(out, u32::try_from(n).unwrap_or(u32::MAX));
}

/// Writes bytes as `bin`.
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = encode::write_bin(out, bytes);
}

/// Says whether [`write_json`] can write every number of a value: JSON has numbers that no float holds.
pub fn check_numbers(json: &Canonical) -> Result<(), serde_json::Error> {
    json.read::<Checked>().map(|_| ())
}

/// A value that was read number by number and not kept.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Checked, S::Error> {
        while seq.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Checked, M::Error> {
        while map.next_entry::<IgnoredAny, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

/// Writes a canonical JSON value. Integers beyond 64 bits become floats, since msgpack has no larger ones.
pub fn write_json(out: &mut Vec<u8>, json: &Canonical) -> Result<(), serde_json::Error> {
    write_text(out, json.as_str())
}

/// Writes canonical JSON text as msgpack.
pub(crate) fn write_text(out: &mut Vec<u8>, json: &str) -> Result<(), serde_json::Error> {
    match json.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json)?;
            write_map(out, members.len());
            for (key, member) in members {
                write_str(out, &key);
                write_text(out, member.get())?;
            }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            let _ = encode::write_array_len(out, u32::try_from(items.len()).unwrap_or(u32::MAX));
            for item in items {
                write_text(out, item.get())?;
            }
        }
        Some(b'"') => match json.get(1..json.len() - 1).filter(|text| !text.contains('\\')) {
            Some(plain) => write_str(out, plain),
            None => write_str(out, &serde_json::from_str::<String>(json)?),
        },
        Some(b'n') => {
            let _ = encode::write_nil(out);
        }
        Some(b't' | b'f') => {
            let _ = encode::write_bool(out, json == "true");
        }
        _ => write_number(out, json),
    }
    Ok(())
}

/// Writes a number from its digits: through `serde_json`, floats come out wrong in their last bit.
fn write_number(out: &mut Vec<u8>, digits: &str) {
    if let Ok(n) = digits.parse::<u64>() {
        let _ = encode::write_uint(out, n);
    } else if let Some(n) = digits.parse::<i64>().ok().filter(|n| *n != 0) {
        let _ = encode::write_sint(out, n);
    } else {
        let number: f64 = digits.parse().unwrap_or(0.0);
        let _ = encode::write_f64(out, number.clamp(f64::MIN, f64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: &str) -> String {
        let mut bytes = Vec::new();
        write_json(&mut bytes, &Canonical::parse(json).unwrap()).unwrap();
        to_json(&bytes).unwrap()
    }

    #[test]
    fn values_survive_both_ways() {
        let long = format!(r#"{{"a":[{}],"s":"{}"}}"#, "1,".repeat(70_000) + "2", "x".repeat(70_000));
        for json in
            [r#"{"a":[1,-1,300,-300,70000,5000000000,-5000000000,1.5,null,true,false,"é\n"],"b":{}}"#, &long]
        {
            assert_eq!(round_trip(json), json);
        }
    }

    #[test]
    fn hashes_are_read_as_bytes_text_and_extension() {
        for bytes in [&b"\xc4\x02\xab\xcd"[..], b"\xa4abcd", b"\xd5\x01\xab\xcd"] {
            assert_eq!(to_json(bytes).unwrap(), "\"abcd\"");
        }
    }

    #[test]
    fn malformed_bytes_are_refused_by_name() {
        for (bytes, error) in [
            (&b""[..], MsgpackError::Short),
            (b"\xa5ab", MsgpackError::Short),
            (b"\xdd\xff\xff\xff\xff", MsgpackError::Short),
            (b"\x01\x02", MsgpackError::Trailing(1)),
            (b"\xc1", MsgpackError::Reserved),
            (b"\x81\x01\x02", MsgpackError::Key),
            (b"\xa1\xff", MsgpackError::Utf8),
            (b"\xcb\x7f\xf0\0\0\0\0\0\0", MsgpackError::Number),
            (&[0x91; 200], MsgpackError::Depth),
        ] {
            assert_eq!(to_json(bytes).unwrap_err(), error);
        }
    }
}
