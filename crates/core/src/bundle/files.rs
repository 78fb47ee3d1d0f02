//! The files that a manifest lists, in as few bytes as they say something.
//!
//! All of them are at hand while a bundle is written, verified or taken in, and there may be millions. So what is the same length for
//! each is a row, and what is not lies one after the other in one text. Where a file lies in the bundle follows from its hash and its
//! name, mostly; then it is not kept. Where it follows from no hash, but is digits as if it did, the digits are kept, and not how they are
//! written.
//!
//! ```text
//! rows:  [ SHA-256 | size | at | bytes of the name | bytes of the path, or that it follows, or is digits ]  48 bytes each
//! text:  name  name  name path  path  name digits  digits ..
//!                                |                 |
//!                                `-- names that are what their paths end in: of these nothing but how long they are
//! ```

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::ops::Range;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canon;
use crate::id::Digest;
use crate::place::{FilePath, PACKED_BYTES};

/// In place of a path's length: it follows from hash and name.
const FOLLOWS: u16 = u16::MAX;
/// The same: it is kept as digits.
const DIGITS: u16 = FOLLOWS - 1;
/// In a name's length: it is what the path ends in.
const IN_PATH: u16 = 1 << 15;
/// The most bytes of a name, and of a path that does not follow from it.
const NAME_BYTES_MAX: usize = 4096;
/// The most bytes of a file's line in a manifest, and of the comma behind it, without its name and a path that is kept as it is written.
const LINE_BYTES_MAX: u64 = 208;
/// What a byte of those takes there at most: a control character is `\u00XX`.
const ESCAPED_BYTES_MAX: u64 = 6;

/// A file of the bundle that is carried as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundledFile<'a> {
    /// What the file is called where it came from.
    pub name: Cow<'a, str>,
    /// Path within the bundle, from [`FilePath::of`]; of a part with its number behind.
    pub path: FilePath,
    /// SHA-256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// The volume that holds it, from 1, where it is split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
}

/// The same, as it is read.
#[derive(Deserialize)]
pub(super) struct Line {
    name: String,
    path: FilePath,
    sha256: Digest,
    size: u64,
    #[serde(default)]
    volume: Option<NonZeroU32>,
}

impl Line {
    /// As it is listed.
    pub fn file(&self) -> BundledFile<'_> {
        let Self { name, path, sha256, size, volume } = self;
        let volume = volume.map(NonZeroU32::get);
        BundledFile { name: name.into(), path: path.clone(), sha256: *sha256, size: *size, volume }
    }
}

/// Why a file cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    /// No file system has such names or paths.
    #[error("names a file by more than {NAME_BYTES_MAX} bytes")]
    Long,
    /// More names than can be counted.
    #[error("names more files than can be listed")]
    Many,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    sha256: Digest,
    size: u64,
    /// Where in the text its name begins, or the path that ends in it.
    at: u32,
    name: u16,
    path: u16,
}

impl Row {
    fn file<'a>(&self, text: &'a [u8], volume: Option<u32>) -> BundledFile<'a> {
        let (name, path) = (self.name_in(text), self.path_in(text));
        BundledFile { name, path, sha256: self.sha256, size: self.size, volume }
    }

    fn name_in<'a>(&self, text: &'a [u8]) -> Cow<'a, str> {
        let at = self.at as usize;
        let (is_in_path, bytes) = (self.name & IN_PATH != 0, usize::from(self.name & !IN_PATH));
        let stretch = match (is_in_path, self.packed_in(text)) {
            (false, _) => at..at + bytes,
            (true, None) => {
                let end = at + usize::from(self.path);
                end.saturating_sub(bytes)..end
            }
            (true, Some(path)) => {
                let path = path.text();
                let name = path.len().checked_sub(bytes).and_then(|before| path.get(before..));
                return Cow::Owned(name.unwrap_or_default().to_owned());
            }
        };
        Cow::Borrowed(text_at(text, stretch))
    }

    fn path_in(&self, text: &[u8]) -> FilePath {
        match self.packed_in(text) {
            Some(path) => path,
            None => match self.path_text(text) {
                Some(path) => FilePath::from(path),
                None => FilePath::of(self.sha256, &self.name_in(text)),
            },
        }
    }

    /// Where in the text that stands of its path which does not follow.
    fn stretch_of_path(&self) -> Range<usize> {
        let before = if self.name & IN_PATH == 0 { usize::from(self.name) } else { 0 };
        let at = self.at as usize + before;
        at..at
            + match self.path {
                FOLLOWS => 0,
                DIGITS => PACKED_BYTES,
                bytes => usize::from(bytes),
            }
    }

    /// Where in the text all stands that is said of it.
    fn stretch(&self) -> Range<usize> {
        self.at as usize..self.stretch_of_path().end
    }

    /// Bytes of its name, and of its path where that is kept as it is written.
    fn written(&self) -> u64 {
        u64::from(self.name & !IN_PATH) + if self.path < DIGITS { u64::from(self.path) } else { 0 }
    }

    /// Its path, where that is kept as it is written.
    fn path_text<'a>(&self, text: &'a [u8]) -> Option<&'a str> {
        (self.path < DIGITS).then(|| text_at(text, self.stretch_of_path()))
    }

    /// Its path, where that is kept as digits.
    fn packed_in(&self, text: &[u8]) -> Option<FilePath> {
        let packed = text.get(self.stretch_of_path()).filter(|_| self.path == DIGITS)?;
        Some(FilePath::unpacked(packed.try_into().ok()?))
    }

    /// The digits of its path, where it has any.
    fn digits<'a>(&'a self, text: &'a [u8]) -> Option<&'a [u8]> {
        match self.path {
            FOLLOWS => self.sha256.as_bytes().get(..16),
            DIGITS => text.get(self.stretch_of_path())?.get(..16),
            _ => None,
        }
    }
}

fn text_at(text: &[u8], stretch: Range<usize>) -> &str {
    text.get(stretch).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// How paths stand to each other.
#[derive(Clone, Copy, Debug)]
enum By {
    /// As their texts do.
    Text,
    /// The same on media that know no capitals.
    Lower,
}

impl By {
    fn texts(self, one: &str, other: &str) -> Ordering {
        let lower = |byte: u8| byte.to_ascii_lowercase();
        match self {
            Self::Text => one.cmp(other),
            Self::Lower => one.bytes().map(lower).cmp(other.bytes().map(lower)),
        }
    }

    /// How the path of a row, whose files have this text, stands to another path.
    fn row(self, text: &[u8], row: &Row, other: &str) -> Ordering {
        match row.path_text(text) {
            Some(path) => self.texts(path, other),
            None => self.texts(&row.path_in(text).text(), other),
        }
    }

    /// Mostly the digits of two paths differ, and then nothing else of them is asked for: they have no capitals.
    fn rows(self, text: &[u8], one: &Row, other: &Row) -> Ordering {
        match (one.digits(text), other.digits(text), other.path_text(text)) {
            (Some(ours), Some(theirs), _) if ours != theirs => ours.cmp(theirs),
            (_, _, Some(path)) => self.row(text, one, path),
            _ => self.row(text, one, &other.path_in(text).text()),
        }
    }
}

/// The files that a manifest lists, which are called by their places in the list.
#[derive(Clone, Default)]
pub struct Files {
    rows: Vec<Row>,
    text: Vec<u8>,
    /// The volume that holds each; nothing where none is said of any.
    volumes: Vec<Option<NonZeroU32>>,
}

impl Files {
    /// None, with room for so many.
    pub fn with_capacity(files: usize) -> Self {
        Self { rows: Vec::with_capacity(files), ..Self::default() }
    }

    /// These.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`].
    pub fn of<'a>(files: impl IntoIterator<Item = BundledFile<'a>>) -> Result<Self, Unlisted> {
        let mut out = Self::default();
        files.into_iter().try_for_each(|file| out.push(&file))?;
        Ok(out)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The file at a place.
    pub fn get(&self, place: usize) -> Option<BundledFile<'_>> {
        self.rows.get(place).map(|row| self.file(place, row))
    }

    fn file(&self, place: usize, row: &Row) -> BundledFile<'_> {
        row.file(&self.text, self.volume(place))
    }

    fn volume(&self, place: usize) -> Option<u32> {
        self.volumes.get(place).copied().flatten().map(NonZeroU32::get)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BundledFile<'_>> + Clone {
        self.rows.iter().enumerate().map(|(place, row)| self.file(place, row))
    }

    /// Those at these places, if there are so many.
    pub fn at(&self, places: Range<usize>) -> Option<impl ExactSizeIterator<Item = BundledFile<'_>> + Clone> {
        let first = places.start;
        let rows = self.rows.get(places)?;
        Some(rows.iter().enumerate().map(move |(at, row)| self.file(first + at, row)))
    }

    /// The hash of the file at a place.
    pub fn sha256(&self, place: usize) -> Option<Digest> {
        self.rows.get(place).map(|row| row.sha256)
    }

    /// How many bytes the file at a place has; 0 where there is none.
    pub fn size(&self, place: usize) -> u64 {
        self.rows.get(place).map_or(0, |row| row.size)
    }

    /// The bytes of each, in order.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        self.rows.iter().map(|row| row.size)
    }

    /// The bytes of all together, or the most that can be counted.
    pub fn bytes(&self) -> u64 {
        self.sizes().fold(0, u64::saturating_add)
    }

    /// Whether a text of so many bytes has room for the lines of a manifest that say them. All else that it says is short.
    pub fn fit(&self, bytes: u64) -> bool {
        let most = |row: &Row| LINE_BYTES_MAX + ESCAPED_BYTES_MAX * row.written();
        if self.rows.iter().map(most).fold(0, u64::saturating_add) <= bytes {
            return true;
        }
        let (mut line, mut all) = (String::new(), 0u64);
        self.iter().all(|file| {
            line.clear();
            let is_written = canon::append(&mut line, &file).is_ok();
            all += line.len() as u64 + 1;
            is_written && all <= bytes
        })
    }

    /// Lists a further file.
    ///
    /// # Errors
    ///
    /// Its name is longer than any file system's, or there is no room for it. Nothing is listed then.
    pub fn push(&mut self, file: &BundledFile<'_>) -> Result<(), Unlisted> {
        let row = self.row(file)?;
        u32::try_from(self.rows.len()).map_err(|_| Unlisted::Many)?;
        if let Some(volume) = file.volume.and_then(NonZeroU32::new) {
            self.volumes.resize(self.rows.len(), None);
            self.volumes.push(Some(volume));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Says something else of each of them, one after the other. The volumes that hold them stay the same.
    ///
    /// # Errors
    ///
    /// That of whoever says it, or those of [`Self::push`], as `unlisted` tells them.
    pub fn map<E>(
        self,
        mut each: impl for<'a> FnMut(BundledFile<'a>) -> Result<BundledFile<'a>, E>,
        unlisted: impl Fn(Unlisted) -> E,
    ) -> Result<Self, E> {
        let Self { mut rows, text, volumes } = self;
        // Other paths, as digits, fit in as well: what is not used is never touched, and a text that grows is there twice.
        let text_bytes = text.len() + rows.len() * PACKED_BYTES;
        let mut out = Self { rows: Vec::new(), text: Vec::with_capacity(text_bytes), volumes };
        for (place, row) in rows.iter_mut().enumerate() {
            let file = each(row.file(&text, out.volume(place)))?;
            *row = out.row(&file).map_err(&unlisted)?;
        }
        Ok(Self { rows, ..out })
    }

    /// A file as a row, what else is said of it in the text.
    fn row(&mut self, file: &BundledFile<'_>) -> Result<Row, Unlisted> {
        let path = (file.path != FilePath::of(file.sha256, &file.name)).then_some(&file.path);
        let (at, name, path) = self.note(&file.name, path)?;
        Ok(Row { sha256: file.sha256, size: file.size, at, name, path })
    }

    /// Takes what a row says of a name, and of a path that does not follow from it, into the text.
    fn note(&mut self, name: &str, path: Option<&FilePath>) -> Result<(u32, u16, u16), Unlisted> {
        let length = |text: &str| match text.len() {
            long if long > NAME_BYTES_MAX => Err(Unlisted::Long),
            length => u16::try_from(length).map_err(|_| Unlisted::Long),
        };
        let (packed, path) = (path.and_then(FilePath::packed), path.map(FilePath::text));
        let at = u32::try_from(self.text.len()).map_err(|_| Unlisted::Many)?;
        let (mut of_name, of_path) = match &path {
            None => (length(name)?, FOLLOWS),
            Some(_) if packed.is_some() => (length(name)?, DIGITS),
            Some(path) => (length(name)?, length(path)?),
        };
        match path.as_deref() {
            Some(path) if path.ends_with(name) => of_name |= IN_PATH,
            _ => self.text.extend_from_slice(name.as_bytes()),
        }
        match (&packed, path.as_deref()) {
            (Some(packed), _) => self.text.extend_from_slice(packed),
            (None, path) => self.text.extend_from_slice(path.unwrap_or_default().as_bytes()),
        }
        Ok((at, of_name, of_path))
    }

    /// Says another hash of the file at a place, which lies where it lay.
    ///
    /// # Errors
    ///
    /// There is no room to note where that is.
    pub fn set_sha256(&mut self, place: usize, sha256: Digest) -> Result<(), Unlisted> {
        let Some(row) = self.rows.get(place).copied() else { return Ok(()) };
        let (mut row, path) = (Row { sha256, ..row }, row.path_in(&self.text));
        if path != row.path_in(&self.text) {
            let name = row.name_in(&self.text).into_owned();
            (row.at, row.name, row.path) = self.note(&name, Some(&path))?;
        }
        self.rows[place] = row;
        Ok(())
    }

    /// Says how many bytes the file at a place has.
    pub fn set_size(&mut self, place: usize, size: u64) {
        if let Some(row) = self.rows.get_mut(place) {
            row.size = size;
        }
    }

    /// Says which volume, counted from 1, holds each of them.
    pub fn set_volumes(&mut self, volumes: impl IntoIterator<Item = u32>) {
        self.volumes = volumes.into_iter().map(NonZeroU32::new).collect();
    }

    /// Puts them in the order of their paths. What was said of volumes is forgotten: they are spread when they are in order.
    pub fn sort(&mut self) {
        self.volumes = Vec::new();
        let Self { rows, text, .. } = self;
        rows.sort_unstable_by(|one, other| By::Text.rows(text, one, other));
    }

    /// Of files with the same hash keeps one, that whose name comes first, and puts them in the order of their hashes.
    pub fn keep_one_of_each(&mut self) {
        self.volumes = Vec::new();
        let Self { rows, text, .. } = self;
        let key = |row: &Row| (row.sha256, row.name_in(text));
        rows.sort_unstable_by(|one, other| key(one).cmp(&key(other)));
        let before = rows.len();
        rows.dedup_by_key(|row| row.sha256);
        if rows.len() < before {
            self.tidy();
        }
    }

    /// Forgets what of the text belongs to no file.
    fn tidy(&mut self) {
        let Self { rows, text, .. } = self;
        let mut kept = Vec::with_capacity(rows.iter().map(|row| row.stretch().len()).sum());
        for row in rows {
            let of_row = text.get(row.stretch()).unwrap_or_default();
            // It was counted so before, and there is no more of it.
            row.at = u32::try_from(kept.len()).unwrap_or(u32::MAX);
            kept.extend_from_slice(of_row);
        }
        *text = kept;
    }

    /// To ask for them by their paths.
    pub fn by_path(&self) -> ByPath<&Self> {
        ByPath::of(self, By::Text)
    }

    /// The same, with the files.
    pub fn into_by_path(self) -> ByPath<Self> {
        ByPath::of(self, By::Text)
    }

    /// The same on media that know no capitals.
    pub fn by_path_in_lower(&self) -> ByPath<&Self> {
        ByPath::of(self, By::Lower)
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Files {}

impl Serialize for Files {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Files;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of files")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Files, A::Error> {
                let mut out = Files::default();
                while let Some(line) = list.next_element::<Line>()? {
                    out.push(&line.file()).map_err(A::Error::custom)?;
                }
                Ok(out)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Files by their paths.
#[derive(Debug)]
pub struct ByPath<F> {
    files: F,
    /// Their places in that order; nothing where they are listed in it.
    order: Option<Vec<u32>>,
    by: By,
}

impl<F: Borrow<Files>> ByPath<F> {
    fn of(files: F, by: By) -> Self {
        let all: &Files = files.borrow();
        let compare = |one: &Row, other: &Row| by.rows(&all.text, one, other);
        let order = match all.rows.is_sorted_by(|one, other| compare(one, other).is_le()) {
            true => None,
            false => {
                let mut order: Vec<u32> = (0u32..).take(all.len()).collect();
                let row = |place: &u32| &all.rows[*place as usize];
                order.sort_unstable_by(|one, other| compare(row(one), row(other)));
                Some(order)
            }
        };
        Self { files, order, by }
    }

    /// The files.
    pub fn files(&self) -> &Files {
        self.files.borrow()
    }

    /// The place of the file that comes at this turn.
    fn place(&self, turn: usize) -> usize {
        self.order.as_ref().map_or(turn, |order| order[turn] as usize)
    }

    /// The place of the file that lies here.
    pub fn find(&self, path: &FilePath) -> Option<usize> {
        let files = self.files();
        let (mut least, mut most) = (0, files.len());
        let text = path.text();
        while least < most {
            let middle = least + (most - least) / 2;
            let place = self.place(middle);
            let row = &files.rows[place];
            let order = match (row.digits(&files.text), path.digits()) {
                (Some(ours), Some(theirs)) if ours != theirs => ours.cmp(theirs),
                _ => self.by.row(&files.text, row, &text),
            };
            match order {
                Ordering::Less => least = middle + 1,
                Ordering::Equal => return Some(place),
                Ordering::Greater => most = middle,
            }
        }
        None
    }

    /// A path at which several lie.
    pub fn twice(&self) -> Option<FilePath> {
        let files = self.files();
        let row = |turn: usize| &files.rows[self.place(turn)];
        let text = &files.text;
        let is_same = |turn: &usize| self.by.rows(text, row(turn - 1), row(*turn)).is_eq();
        (1..files.len()).find(is_same).map(|turn| row(turn - 1).path_in(text))
    }
}

#[cfg(test)]
mod tests;
