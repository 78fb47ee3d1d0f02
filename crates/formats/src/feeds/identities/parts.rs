//! Parts of a document of names, of which no more is kept than names need: whatever else it holds, of whatever type,
//! size and depth, is passed over.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::limits;

/// Levels that are kept: a package, its list of identities, an identity, and its text.
const LEVELS: usize = 4;
/// Members that are kept of an object.
const MEMBERS: [&str; 6] = ["alternative_purls", "cpes", "identities", "kind", "purl", "value"];

/// A part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Null,
    Number(u64),
    /// A text as long as a name, a purl or a CPE may be.
    Text(String),
    /// The first elements, one more than names may be at most.
    List(Vec<Self>),
    /// Those members that are asked for, one of each name.
    Object(Vec<(&'static str, Self)>),
    /// Anything else.
    Other,
    /// The packages, which were handed on one by one.
    Packages,
}

impl Part {
    /// A member of an object.
    pub(super) fn get(&self, member: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| *name == member).map(|(_, part)| part),
            _ => None,
        }
    }

    /// The elements of a list; none of anything else.
    pub(super) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Takes packages one by one; says why reading has to end.
pub(super) type Take<'a> = &'a mut dyn FnMut(&str, &Part) -> Result<(), String>;

/// Reads a part.
pub(super) struct Reader<'a> {
    levels: usize,
    /// Who takes the members, if they are an object's.
    packages: Option<Take<'a>>,
}

impl<'a> Reader<'a> {
    /// One that reads whatever there is.
    pub(super) const fn any() -> Self {
        Self { levels: LEVELS, packages: None }
    }

    /// One that hands on the members of an object.
    pub(super) const fn packages(take: Take<'a>) -> Self {
        Self { levels: LEVELS, packages: Some(take) }
    }

    const fn inner(&self) -> Reader<'static> {
        Reader { levels: self.levels - 1, packages: None }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        // What is passed over may be as deep as it likes.
        if self.levels == 0 {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Part::Other)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Part, E> {
        Ok(Part::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Part, E> {
        let fits = text.len() <= 2 * limits::IDENTITY_NAME_BYTES_MAX;
        Ok(if fits { Part::Text(text.to_owned()) } else { Part::Other })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Part, S::Error> {
        let mut list = Vec::new();
        while list.len() <= limits::IDENTITY_NAMES_MAX {
            let Some(part) = seq.next_element_seed(self.inner())? else { return Ok(Part::List(list)) };
            list.push(part);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Part::List(list))
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<Part, M::Error> {
        if let Some(take) = self.packages.take() {
            while let Some(name) = map.next_key::<String>()? {
                let part = map.next_value_seed(Reader::any())?;
                take(&name, &part).map_err(serde::de::Error::custom)?;
            }
            return Ok(Part::Packages);
        }
        let mut members: Vec<(&'static str, Part)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let wanted = MEMBERS.into_iter().find(|member| *member == name);
            match wanted.filter(|name| members.iter().all(|(held, _)| held != name)) {
                Some(name) => members.push((name, map.next_value_seed(self.inner())?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Part::Object(members))
    }
}

/// Ends reading where a string is longer than any may be: a parser would hold it whole.
pub(super) struct Strings<R> {
    inner: R,
    quoted: bool,
    escaped: bool,
    length: usize,
}

impl<R: BufRead> Strings<R> {
    pub(super) const fn of(inner: R) -> Self {
        Self { inner, quoted: false, escaped: false, length: 0 }
    }

    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.length = if self.quoted { self.length + 1 } else { 0 };
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                _ => {}
            }
            if self.length > limits::IDENTITY_STRING_BYTES_MAX {
                let most = limits::IDENTITY_STRING_BYTES_MAX;
                let why = format!("one of its strings has more than {most} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Strings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.look(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Part, serde_json::Error> {
        Reader::any().deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn no_more_is_kept_than_names_need() {
        let text = |text: &str| Part::Text(text.to_owned());
        let part = read(
            r#"{"x":{"purl":1},"purl":"a","purl":"b","cpes":[{"value":["d",{"kind":[[]]}]},-1,1.5,true]}"#,
        );
        let value = Part::Object(vec![("value", Part::List(vec![Part::Other, Part::Other]))]);
        let cpes = Part::List(vec![value, Part::Other, Part::Other, Part::Other]);
        assert_eq!(part.unwrap(), Part::Object(vec![("purl", text("a")), ("cpes", cpes)]));
        let many = format!("[{}7]", "\"x\",".repeat(10 * limits::IDENTITY_NAMES_MAX));
        assert_eq!(read(&many).unwrap().list().len(), limits::IDENTITY_NAMES_MAX + 1);
        let long = "x".repeat(2 * limits::IDENTITY_NAME_BYTES_MAX + 1);
        assert_eq!(read(&format!("\"{long}\"")).unwrap(), Part::Other);
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(read(&deep).unwrap(), Part::Object(Vec::new()));
    }

    #[test]
    fn a_string_without_end_ends_the_reading() {
        let most = limits::IDENTITY_STRING_BYTES_MAX;
        let all = |text: String| io::copy(&mut Strings::of(text.as_bytes()), &mut io::sink());
        let strings = format!("\"\\\"{}\",\"", "x".repeat(most - 3)).repeat(2);
        assert!(all(strings).is_ok());
        assert!(all(format!("{{{}\"\\\\\"{}", " ".repeat(2 * most), "1,".repeat(most))).is_ok());
        assert!(all(format!("\"\\\"{}", "x".repeat(most))).is_err());
    }
}
