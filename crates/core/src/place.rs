//! The places of files in a bundle, in as few bytes as they say something.
//!
//! A manifest lists hundreds of thousands of files, and all of it is at hand while a bundle is written or taken in. Nearly all of
//! their paths are digits of a hash and one of a few ends; those are kept as that.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex;
use crate::id::{Digest, parsed};

/// What follows the digits.
const ENDS: [&str; 8] = ["", ".conda", ".tar.bz2", ".whl", ".tar.gz", ".zip", ".metadata", ".age"];
/// Those that say what a package is.
const OF_NAMES: std::ops::Range<usize> = 1..7;
/// Digits of the folder, and of the file.
const DIGITS: (usize, usize) = (2, 32);
/// The last part that a path numbers.
const PART_MAX: u16 = 999;
/// The longest path that is kept as digits: `files/`, the folder, a stroke, the digits, the longest end and the number of a part.
const TEXT_BYTES_MAX: usize = 6 + 2 + 1 + 32 + 9 + 4;

/// Bytes of a path that is packed: its digits, its end, and the number of a part.
pub(crate) const PACKED_BYTES: usize = 16 + 1 + 2;

/// Where a file lies in a bundle. It sorts as its text does.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath(Form);

/// A path has one form: what can be kept as digits is.
#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// `files/<2 digits>/<32 digits><end>`, and of a part its number behind.
    Digits { digits: [u8; 16], end: u8, part: u16 },
    /// Any other.
    Text(Box<str>),
}

impl FilePath {
    /// Where an artifact lies: `files/<2 digits>/<32 digits><extension>`.
    ///
    /// Names fit FAT32, exFAT, UDF, Joliet and case-insensitive file systems. 128 bits of the hash cannot be
    /// made to collide by one who does not control both files; the manifest holds the whole hash, and it is
    /// checked.
    pub fn of(sha256: Digest, name: &str) -> Self {
        let end = ENDS[OF_NAMES].iter().position(|end| name.ends_with(end));
        let end = end.map_or(0, |at| at + OF_NAMES.start);
        let (digits, _) = sha256.as_bytes().split_at(16);
        let digits = digits.try_into().unwrap_or_default();
        Self(Form::Digits { digits, end: u8::try_from(end).unwrap_or_default(), part: 0 })
    }

    /// Where a part of the file that lies here lies, counted from 1.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        Self::from(format!("{self}.{number:03}").as_str())
    }

    /// Where the whole would lie of which this is the first part.
    pub fn whole(&self) -> Option<Self> {
        match &self.0 {
            Form::Digits { digits, end, part: 1 } => {
                Some(Self(Form::Digits { digits: *digits, end: *end, part: 0 }))
            }
            Form::Digits { .. } => None,
            Form::Text(text) => text.strip_suffix(".001").map(Self::from),
        }
    }

    /// The digits of what is kept as them. Two paths that have other digits stand to each other as those do.
    pub(crate) fn digits(&self) -> Option<&[u8]> {
        match &self.0 {
            Form::Digits { digits, .. } => Some(digits),
            Form::Text(_) => None,
        }
    }

    /// What is kept as digits, in few bytes.
    pub(crate) fn packed(&self) -> Option<[u8; PACKED_BYTES]> {
        let Form::Digits { digits, end, part } = &self.0 else { return None };
        let [low, high] = part.to_le_bytes();
        let mut out = [0; PACKED_BYTES];
        out.iter_mut().zip(digits.iter().chain(&[*end, low, high])).for_each(|(to, from)| *to = *from);
        Some(out)
    }

    /// What was [packed](Self::packed).
    pub(crate) fn unpacked(packed: &[u8; PACKED_BYTES]) -> Self {
        let [digits @ .., end, low, high] = *packed;
        Self(Form::Digits { digits, end, part: u16::from_le_bytes([low, high]) })
    }

    /// As it is written.
    pub fn text(&self) -> Text<'_> {
        self.0.text()
    }

    /// How two paths stand to each other on media that know no capitals.
    pub fn cmp_lower(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // They have none.
            (Form::Digits { .. }, Form::Digits { .. }) => self.cmp(other),
            _ => {
                let (ours, theirs) = (self.text(), other.text());
                let lower = |text: &str| text.to_ascii_lowercase();
                lower(&ours).cmp(&lower(&theirs))
            }
        }
    }
}

impl Form {
    /// A text as digits, if it can be kept so.
    fn of(text: &str) -> Option<Self> {
        let (folder, name) = text.strip_prefix("files/")?.split_once('/')?;
        let (digits, rest) = name.split_at_checked(DIGITS.1)?;
        let digits: [u8; 16] = hex::decode(digits)?;
        let (end, part) = match rest.rsplit_once('.') {
            Some((end, number)) if number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()) => {
                (end, number.parse().ok().filter(|part| (1..=PART_MAX).contains(part))?)
            }
            _ => (rest, 0),
        };
        let end = ENDS.iter().position(|known| *known == end)?;
        let form = Self::Digits { digits, end: u8::try_from(end).ok()?, part };
        // Digits in capitals, or another folder: such a path is kept as it is written.
        (folder.len() == DIGITS.0 && *form.text() == *text).then_some(form)
    }

    fn text(&self) -> Text<'_> {
        Text(match self {
            Self::Digits { digits, end, part } => Written::here(digits, *end, *part),
            Self::Text(text) => Written::There(text),
        })
    }
}

/// A path as it is written.
pub struct Text<'a>(Written<'a>);

enum Written<'a> {
    There(&'a str),
    Here([u8; TEXT_BYTES_MAX], usize),
}

impl Written<'_> {
    fn here(digits: &[u8; 16], end: u8, part: u16) -> Self {
        let (mut out, mut length) = ([0; TEXT_BYTES_MAX], 0);
        let mut push = |bytes: &[u8]| {
            if let Some(room) = out.get_mut(length..length + bytes.len()) {
                room.copy_from_slice(bytes);
                length += bytes.len();
            }
        };
        push(b"files/");
        push(&hex::digits(digits[0]));
        push(b"/");
        digits.iter().for_each(|byte| push(&hex::digits(*byte)));
        push(ENDS.get(usize::from(end)).map_or(&b""[..], |end| end.as_bytes()));
        if part > 0 {
            let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or_default();
            push(&[b'.', digit(part / 100), digit(part / 10), digit(part)]);
        }
        Self::Here(out, length)
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Written::There(text) => text,
            Written::Here(bytes, length) => {
                bytes.get(..*length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
            }
        }
    }
}

impl AsRef<std::path::Path> for Text<'_> {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&**self)
    }
}

impl From<&str> for FilePath {
    fn from(text: &str) -> Self {
        Self(Form::of(text).unwrap_or_else(|| Form::Text(text.into())))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq<str> for FilePath {
    fn eq(&self, other: &str) -> bool {
        *self.text() == *other
    }
}

impl Ord for FilePath {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Form::Digits { digits: ours, .. }, Form::Digits { digits: theirs, .. }) if ours != theirs => {
                ours.cmp(theirs)
            }
            _ => self.text().cmp(&other.text()),
        }
    }
}

impl PartialOrd for FilePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::str::FromStr for FilePath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_short(text: &str) -> bool {
        matches!(FilePath::from(text).0, Form::Digits { .. })
    }

    #[test]
    fn what_bundles_list_is_kept_in_few_bytes() {
        assert_eq!(size_of::<FilePath>(), 24);
        for name in ["a-1-0.conda", "a-1.tar.gz", "a-1.whl.metadata", "a"] {
            let path = FilePath::of(Digest::of(name.as_bytes()), name);
            assert_eq!(FilePath::from(&*path.text()), path);
            assert!(path.text().len() <= TEXT_BYTES_MAX);
            let parts = [1, 2, 999].map(|number| path.part(number));
            assert!(parts.iter().all(|part| is_short(&part.text())), "{parts:?}");
            assert_eq!(parts.each_ref().map(FilePath::whole), [Some(path), None, None]);
        }
        assert!(is_short("files/ab/abababababababababababababababab.age"));
    }

    #[test]
    fn what_cannot_be_written_so_stays_as_it_is() {
        for other in [
            "",
            "README.txt",
            "files/ab/abababababababababababababababab.exe",
            "files/ab/ABABABABABABABABABABABABABABABAB.whl",
            "files/ac/abababababababababababababababab.whl",
            "files/ab/abababababababababababababababab.whl.000",
            "files/ab/abababababababababababababababab.whl.01",
            "files/ab/abababababababababababababababab.whl.1000",
            "files/ab/abababababababababababababababab.001.whl",
            "files/ab/abababababababababababababababa",
            "files/ab/é",
        ] {
            assert!(!is_short(other), "{other}");
            assert_eq!(&*FilePath::from(other).text(), other);
        }
        assert_eq!(FilePath::from("x.whl.001").whole(), Some(FilePath::from("x.whl")));
        assert_eq!(FilePath::from("x.whl.002").whole(), None);
        assert_eq!(FilePath::from("x.whl").part(7), FilePath::from("x.whl.007"));
    }

    proptest! {
        #[test]
        fn paths_are_read_as_written_and_sort_as_their_texts(
            texts in proptest::collection::vec("(files/(0a/0a|AB/AB|ab/ab)[ab0]{28,31}(\\.whl|\\.conda|\\.age|)(\\.00[01]|\\.999|))|[a-c./]{0,6}", 2)
        ) {
            let paths: Vec<FilePath> = texts.iter().map(|text| FilePath::from(text.as_str())).collect();
            for (path, text) in paths.iter().zip(&texts) {
                prop_assert_eq!(&path.to_string(), text);
                let json = serde_json::to_string(path).unwrap();
                prop_assert_eq!(&json, &serde_json::to_string(text).unwrap());
                prop_assert_eq!(&serde_json::from_str::<FilePath>(&json).unwrap(), path);
            }
            prop_assert_eq!(paths[0].cmp(&paths[1]), texts[0].cmp(&texts[1]));
            prop_assert_eq!(paths[0] == paths[1], texts[0] == texts[1]);
            let lower = |at: usize| texts[at].to_ascii_lowercase();
            prop_assert_eq!(paths[0].cmp_lower(&paths[1]), lower(0).cmp(&lower(1)));
        }
    }
}
