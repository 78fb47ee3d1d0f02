//! From our own values straight to the canonical text.
//!
//! Most of what is stored and published consists of records that are canonical already. They are copied as
//! they stand, which is what makes writing a channel as fast as copying it.

use std::borrow::Cow;
use std::fmt::Display;

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::text::push_string;

/// What a failed `Serialize` says.
type Error = serde_json::Error;
type Result<T> = std::result::Result<T, Error>;

/// The name of the newtype by which canonical text asks to be copied as it stands.
pub(super) const VERBATIM: &str = "airlock.canonical";

/// Whether a serializer is the one of this file, which is the only one here that is not for human readers.
pub(super) fn is_ours<S: Serializer>(serializer: &S) -> bool {
    !serializer.is_human_readable()
}

/// A member that is added to the outermost object: a key and a text.
type Extra<'a> = (&'a str, &'a str);

/// Bytes that most objects exceed: what grows from nothing is copied again and again.
const OBJECT_BYTES: usize = 1 << 10;

/// Writes a value in canonical form. `extra` is for a value that is written as an object; a member of the same
/// key is an error.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, extra: Option<Extra<'_>>) -> Result<String> {
    let mut out = String::with_capacity(OBJECT_BYTES);
    value.serialize(Writer { out: &mut out, extra })?;
    Ok(out)
}

/// Writes a value in canonical form behind what is there.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut String, value: &T) -> Result<()> {
    value.serialize(Writer { out, extra: None })
}

/// One member in the text: `"key":value`.
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
    /// The key stands there as it is, without escapes.
    plain: bool,
}

/// Members that most objects do not exceed.
const MEMBERS: usize = 8;

/// The members of an object that is being written: they are remembered by their places, so that members that
/// come in order (ours nearly always do) are never moved.
pub(super) struct Members {
    start: usize,
    list: Vec<Member>,
}

impl Members {
    /// Begins an object at the end of the text.
    pub(super) fn begin(out: &mut String) -> Self {
        out.push('{');
        Self { start: out.len(), list: Vec::new() }
    }

    /// A key follows.
    pub(super) fn key(&mut self, out: &mut String) {
        if self.list.is_empty() {
            self.list.reserve(MEMBERS);
        } else {
            out.push(',');
        }
        let start = out.len();
        self.list.push(Member { start, key_end: start, end: start, plain: true });
    }

    /// The key stands there; its value follows.
    pub(super) fn key_ends(&mut self, out: &mut String, plain: bool) {
        if let Some(member) = self.list.last_mut() {
            member.key_end = out.len();
            member.plain = plain;
        }
        out.push(':');
    }

    /// The value stands there.
    pub(super) fn value_ends(&mut self, out: &str) {
        if let Some(member) = self.list.last_mut() {
            member.end = out.len();
        }
    }

    /// Closes the object; fails with a key that stands twice.
    pub(super) fn end(mut self, out: &mut String) -> std::result::Result<(), String> {
        let in_order = |pair: &[Member]| match pair {
            [a, b] => a.plain && b.plain && key_text(out, a) < key_text(out, b),
            _ => true,
        };
        if !self.list.windows(2).all(in_order) {
            self.sort(out)?;
        }
        out.push('}');
        Ok(())
    }

    fn sort(&mut self, out: &mut String) -> std::result::Result<(), String> {
        let text = out.as_str();
        let mut keyed: Vec<(Cow<'_, str>, &Member)> =
            self.list.iter().map(|member| (key_of(text, member), member)).collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = keyed.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(pair[0].0.clone().into_owned());
        }
        let mut sorted = String::with_capacity(text.len() - self.start);
        for (i, (_, member)) in keyed.iter().enumerate() {
            if i > 0 {
                sorted.push(',');
            }
            sorted.push_str(&text[member.start..member.end]);
        }
        out.truncate(self.start);
        out.push_str(&sorted);
        Ok(())
    }
}

/// The key as it stands in the text, without its quotes.
fn key_text<'a>(out: &'a str, member: &Member) -> &'a str {
    &out[member.start + 1..member.key_end - 1]
}

fn key_of<'a>(out: &'a str, member: &Member) -> Cow<'a, str> {
    // What was written as a string can be read as one.
    if member.plain {
        Cow::Borrowed(key_text(out, member))
    } else {
        Cow::Owned(serde_json::from_str(&out[member.start..member.key_end]).unwrap_or_default())
    }
}

struct Writer<'o, 'e> {
    out: &'o mut String,
    extra: Option<Extra<'e>>,
}

impl Writer<'_, '_> {
    fn push(self, text: impl Display) -> Result<()> {
        use std::fmt::Write as _;
        write!(self.out, "{text}").map_err(Error::custom)
    }

    fn number<T: Serialize>(self, value: T) -> Result<()> {
        self.out.push_str(&serde_json::to_string(&value)?);
        Ok(())
    }
}

/// A list that is being written, and what closes it.
struct List<'o> {
    out: &'o mut String,
    first: bool,
    close: &'static str,
}

/// An object that is being written, and what closes it.
struct Map<'o, 'e> {
    out: &'o mut String,
    members: Members,
    extra: Option<Extra<'e>>,
    close: &'static str,
}

impl<'o, 'e> Writer<'o, 'e> {
    fn list(self, close: &'static str) -> List<'o> {
        self.out.push('[');
        List { out: self.out, first: true, close }
    }

    fn map(self, close: &'static str) -> Map<'o, 'e> {
        let members = Members::begin(self.out);
        Map { out: self.out, members, extra: self.extra, close }
    }

    /// Begins the object that a variant with content is.
    fn variant(self, variant: &str) -> Self {
        self.out.push('{');
        push_string(self.out, variant);
        self.out.push(':');
        Self { out: self.out, extra: None }
    }
}

impl<'o, 'e> Serializer for Writer<'o, 'e> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'o>;
    type SerializeTuple = List<'o>;
    type SerializeTupleStruct = List<'o>;
    type SerializeTupleVariant = List<'o>;
    type SerializeMap = Map<'o, 'e>;
    type SerializeStruct = Map<'o, 'e>;
    type SerializeStructVariant = Map<'o, 'e>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, v: bool) -> Result<()> {
        self.push(v)
    }
    fn serialize_i8(self, v: i8) -> Result<()> {
        self.push(v)
    }
    fn serialize_i16(self, v: i16) -> Result<()> {
        self.push(v)
    }
    fn serialize_i32(self, v: i32) -> Result<()> {
        self.push(v)
    }
    fn serialize_i64(self, v: i64) -> Result<()> {
        self.push(v)
    }
    fn serialize_u8(self, v: u8) -> Result<()> {
        self.push(v)
    }
    fn serialize_u16(self, v: u16) -> Result<()> {
        self.push(v)
    }
    fn serialize_u32(self, v: u32) -> Result<()> {
        self.push(v)
    }
    fn serialize_u64(self, v: u64) -> Result<()> {
        self.push(v)
    }
    fn serialize_f32(self, v: f32) -> Result<()> {
        self.number(v)
    }
    fn serialize_f64(self, v: f64) -> Result<()> {
        self.number(v)
    }
    fn serialize_char(self, v: char) -> Result<()> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<()> {
        push_string(self.out, v);
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<()> {
        v.serialize(self)
    }
    fn serialize_none(self) -> Result<()> {
        self.push("null")
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<()> {
        self.push("null")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.push("null")
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> Result<()> {
        if name == VERBATIM { value.serialize(Verbatim(self.out)) } else { value.serialize(self) }
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        let inner = self.variant(variant);
        value.serialize(Writer { out: &mut *inner.out, extra: None })?;
        inner.out.push('}');
        Ok(())
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List<'o>> {
        Ok(self.list("]"))
    }
    fn serialize_tuple(self, _: usize) -> Result<List<'o>> {
        Ok(self.list("]"))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'o>> {
        Ok(self.list("]"))
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, v: &'static str, _: usize) -> Result<List<'o>> {
        Ok(self.variant(v).list("]}"))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Map<'o, 'e>> {
        Ok(self.map(""))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'o, 'e>> {
        Ok(self.map(""))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'o, 'e>> {
        Ok(self.variant(variant).map("}"))
    }
}

impl List<'_> {
    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        value.serialize(Writer { out: self.out, extra: None })
    }

    fn close(self) -> Result<()> {
        self.out.push_str(self.close);
        Ok(())
    }
}

macro_rules! list {
    ($($kind:ident $element:ident),*) => {$(
        impl $kind for List<'_> {
            type Ok = ();
            type Error = Error;
            fn $element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }
            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

list!(SerializeSeq serialize_element, SerializeTuple serialize_element,
      SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

impl Map<'_, '_> {
    fn key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<()> {
        self.members.key(self.out);
        let from = self.out.len();
        key.serialize(Key(self.out))?;
        let plain = !self.out[from..].contains('\\');
        self.members.key_ends(self.out, plain);
        Ok(())
    }

    /// Writes the member that is added before the first field that sorts behind it, so that the whole object need
    /// not be moved for it in the end.
    fn extra_before(&mut self, key: &str) -> Result<()> {
        if let Some((name, text)) = self.extra.take_if(|(name, _)| *name < key) {
            self.key(name)?;
            self.value(text)?;
        }
        Ok(())
    }

    fn value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        value.serialize(Writer { out: self.out, extra: None })?;
        self.members.value_ends(self.out);
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        if let Some((key, value)) = self.extra.take() {
            self.key(key)?;
            self.value(value)?;
        }
        let twice = |key| Error::custom(format!("the key `{key}` stands twice in one object"));
        self.members.end(self.out).map_err(twice)?;
        self.out.push_str(self.close);
        Ok(())
    }
}

impl SerializeMap for Map<'_, '_> {
    type Ok = ();
    type Error = Error;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<()> {
        self.key(key)
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.value(value)
    }
    fn end(self) -> Result<()> {
        self.close()
    }
}

macro_rules! fields {
    ($($kind:ident),*) => {$(
        impl $kind for Map<'_, '_> {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<()> {
                self.extra_before(key)?;
                self.key(key)?;
                self.value(value)
            }
            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

/// Copies text as it stands.
struct Verbatim<'o>(&'o mut String);

/// Writes the key of a member: text, a number, or the name of a variant, always as a string.
struct Key<'o>(&'o mut String);

/// Everything that a serializer for nothing but text refuses.
macro_rules! only_text {
    ($refused:literal) => {
        type Ok = ();
        type Error = Error;
        type SerializeSeq = Impossible<(), Error>;
        type SerializeTuple = Impossible<(), Error>;
        type SerializeTupleStruct = Impossible<(), Error>;
        type SerializeTupleVariant = Impossible<(), Error>;
        type SerializeMap = Impossible<(), Error>;
        type SerializeStruct = Impossible<(), Error>;
        type SerializeStructVariant = Impossible<(), Error>;

        fn is_human_readable(&self) -> bool {
            false
        }
        fn serialize_bool(self, v: bool) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_i8(self, v: i8) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_i16(self, v: i16) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_i32(self, v: i32) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_i64(self, v: i64) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_u8(self, v: u8) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_u16(self, v: u16) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_u32(self, v: u32) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_u64(self, v: u64) -> Result<()> {
            self.text(&v.to_string())
        }
        fn serialize_f32(self, _: f32) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_f64(self, _: f64) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_char(self, v: char) -> Result<()> {
            self.text(v.encode_utf8(&mut [0; 4]))
        }
        fn serialize_str(self, v: &str) -> Result<()> {
            self.text(v)
        }
        fn serialize_bytes(self, _: &[u8]) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_none(self) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
            value.serialize(self)
        }
        fn serialize_unit(self) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
            self.text(variant)
        }
        fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<()> {
            value.serialize(self)
        }
        fn serialize_newtype_variant<T: ?Sized + Serialize>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<()> {
            Err(Error::custom($refused))
        }
        fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq> {
            Err(Error::custom($refused))
        }
        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
            Err(Error::custom($refused))
        }
        fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct> {
            Err(Error::custom($refused))
        }
        fn serialize_tuple_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleVariant> {
            Err(Error::custom($refused))
        }
        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
            Err(Error::custom($refused))
        }
        fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct> {
            Err(Error::custom($refused))
        }
        fn serialize_struct_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStructVariant> {
            Err(Error::custom($refused))
        }
    };
}

impl Verbatim<'_> {
    fn text(self, text: &str) -> Result<()> {
        self.0.push_str(text);
        Ok(())
    }
}

impl Serializer for Verbatim<'_> {
    only_text!("canonical text is text");
}

impl Key<'_> {
    fn text(self, text: &str) -> Result<()> {
        push_string(self.0, text);
        Ok(())
    }
}

impl Serializer for Key<'_> {
    only_text!("the key of a member must be text or a whole number");
}
