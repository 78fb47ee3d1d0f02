//! Whether a conda package holds what `info/paths.json` says, neither more nor less (CEP 34).
//!
//! Clients unpack everything and link what is listed: a file that is not listed lies in their caches without ever
//! having been looked at, and one that differs from its line is not what the package says of itself.
//!
//! What honest packages do must pass: those from before 2017 have no `paths.json` (only `info/files`, which says
//! neither types nor hashes and is not looked at), directories stand in the archive without being listed and in
//! the list without being in the archive, hard links repeat a file, and hashes or sizes may be missing. What is
//! listed as a symbolic link is compared by kind alone, since builders hash what it leads to, which may be
//! another package's.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::names::{NameKey, Spelling, check_name, name_key};
use super::tarcheck::{Kind, TarMember};
use super::{ArchiveError, ArchiveLimits};

/// Where the list lies.
pub(super) const PATHS: &str = "info/paths.json";
/// The only version there is.
const VERSION: u64 = 1;
/// Bytes of a prefix that clients replace in files by the place of an environment. Builders use 255 or 80.
const PLACEHOLDER_BYTES_MAX: usize = 1024;
/// Bytes taken from a member at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What a member of the archive is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    is_link: bool,
    size_bytes: u64,
    sha256: [u8; 32],
}

/// What the list says of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Listed {
    kind: PathType,
    size_bytes: Option<u64>,
    sha256: Option<[u8; 32]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PathType {
    Hardlink,
    Softlink,
    Directory,
}

/// One path, with its name in [`Contents::names`].
struct Slot {
    at: u32,
    length: u32,
    found: Option<Found>,
    listed: Option<Listed>,
}

/// What was found and what is listed so far, in whichever order they come. Each path is held once.
pub(super) struct Contents<'l> {
    limits: &'l ArchiveLimits,
    names: String,
    slots: BTreeMap<NameKey, Slot>,
    has_list: bool,
}

impl<'l> Contents<'l> {
    pub(super) fn new(limits: &'l ArchiveLimits) -> Self {
        Self { limits, names: String::new(), slots: BTreeMap::new(), has_list: false }
    }

    /// The place of a path, new or not.
    fn slot(&mut self, path: &str) -> Result<&mut Slot, ArchiveError> {
        let (names_max, paths_max) = (self.limits.names_bytes_max, self.limits.entries_max);
        if self.slots.len() as u64 > paths_max {
            return Err(ArchiveError::TooManyEntries { entries_max: paths_max });
        }
        let names = &mut self.names;
        let entry = self.slots.entry(name_key(path));
        let std::collections::btree_map::Entry::Vacant(place) = entry else {
            return Ok(entry.or_insert(Slot { at: 0, length: 0, found: None, listed: None }));
        };
        let too_large = || ArchiveError::NamesTooLarge { bytes_max: names_max };
        let at = u32::try_from(names.len()).map_err(|_| too_large())?;
        let length = u32::try_from(path.len()).map_err(|_| too_large())?;
        names.push_str(path);
        if names.len() > names_max {
            return Err(too_large());
        }
        Ok(place.insert(Slot { at, length, found: None, listed: None }))
    }

    /// Notes a member of the archive, whose data was hashed.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::DuplicateMember`] for a second member of the same name that is not the same in everything,
    /// and [`ArchiveError::ListedOtherwise`].
    pub(super) fn found(&mut self, member: &TarMember, data: Hashed<'_>) -> Result<(), ArchiveError> {
        let found = match member.kind {
            // Directories carry nothing, and builders list few of them.
            Kind::Directory => return Ok(()),
            Kind::Symlink => Found { is_link: true, size_bytes: 0, sha256: [0; 32] },
            Kind::File => Found { is_link: false, size_bytes: member.size_bytes, sha256: data.finish()? },
            Kind::HardLink => {
                let target = member.target.as_deref().unwrap_or_default();
                let missing = || ArchiveError::HardLinkDangling {
                    member: member.path.clone(),
                    target: target.to_owned(),
                };
                self.slots.get(&name_key(target)).and_then(|slot| slot.found).ok_or_else(missing)?
            }
        };
        let slot = self.slot(&member.path)?;
        if slot.found.is_some_and(|earlier| earlier != found) {
            return Err(ArchiveError::DuplicateMember { member: member.path.clone() });
        }
        slot.found = Some(found);
        slot.compare().map_err(|reason| otherwise(&member.path, reason))
    }

    /// Reads `info/paths.json`, line by line.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Metadata`] where it is no such JSON, [`ArchiveError::MemberTooLarge`],
    /// [`ArchiveError::UnsafeName`] and [`ArchiveError::ListedOtherwise`].
    pub(super) fn read_list(&mut self, data: &mut dyn Read) -> Result<(), ArchiveError> {
        self.has_list = true;
        let bytes_max = self.limits.paths_bytes_max;
        let mut limited = data.take(bytes_max.saturating_add(1));
        let mut fault = None;
        let outcome = {
            let reader = BufReader::with_capacity(BUFFER_BYTES, &mut limited);
            let mut json = serde_json::Deserializer::from_reader(reader);
            let document = Document { contents: self, fault: &mut fault };
            document.deserialize(&mut json).and_then(|()| json.end())
        };
        if limited.limit() == 0 {
            return Err(ArchiveError::MemberTooLarge { member: PATHS.to_owned(), bytes_max });
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        outcome.map_err(|error| match error.io_error_kind() {
            Some(_) => ArchiveError::from(io::Error::from(error)),
            None => ArchiveError::Metadata { member: PATHS.to_owned(), reason: error.to_string() },
        })
    }

    /// Takes one line of the list.
    fn list(&mut self, line: &Line) -> Result<(), ArchiveError> {
        let path = check_name(line.path.as_bytes(), Spelling::Exact, self.limits)?.path;
        if path == "info" || path.starts_with("info/") {
            return Err(otherwise(&path, "what lies below info/ is not listed"));
        }
        let placeholder = line.prefix_placeholder.as_deref().unwrap_or_default();
        if placeholder.len() > PLACEHOLDER_BYTES_MAX || placeholder.chars().any(char::is_control) {
            return Err(otherwise(&path, "its prefix to be replaced is too long or has control characters"));
        }
        let sha256 = match line.sha256.as_deref() {
            None => None,
            Some(text) => {
                let digest = airlock_core::hex::decode::<32>(text);
                Some(digest.ok_or_else(|| otherwise(&path, "its sha256 is none"))?)
            }
        };
        let listed = Listed { kind: line.path_type, size_bytes: line.size_in_bytes, sha256 };
        let slot = self.slot(&path)?;
        if slot.listed.is_some_and(|earlier| earlier != listed) {
            return Err(otherwise(&path, "it is listed twice, differently"));
        }
        slot.listed = Some(listed);
        slot.compare().map_err(|reason| otherwise(&path, reason))
    }

    /// Compares both sides when all has come.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::ListedMissing`] and [`ArchiveError::Unlisted`].
    pub(super) fn finish(&self) -> Result<(), ArchiveError> {
        if !self.has_list {
            return Ok(());
        }
        for slot in self.slots.values() {
            let end = slot.at.saturating_add(slot.length) as usize;
            let path = self.names.get(slot.at as usize..end).unwrap_or_default();
            match (&slot.listed, &slot.found) {
                (Some(listed), None) if listed.kind != PathType::Directory => {
                    return Err(ArchiveError::ListedMissing { member: path.to_owned() });
                }
                (None, Some(_)) if !path.starts_with("info/") => {
                    return Err(ArchiveError::Unlisted { member: path.to_owned() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Slot {
    /// What both sides say of one path, where both came.
    fn compare(&self) -> Result<(), &'static str> {
        let (Some(listed), Some(found)) = (&self.listed, &self.found) else { return Ok(()) };
        match (listed.kind, found.is_link) {
            (PathType::Softlink, true) => Ok(()),
            (PathType::Hardlink, false) if listed.size_bytes.is_some_and(|size| size != found.size_bytes) => {
                Err("another size")
            }
            (PathType::Hardlink, false) if listed.sha256.is_some_and(|sha256| sha256 != found.sha256) => {
                Err("another sha256")
            }
            (PathType::Hardlink, false) => Ok(()),
            _ => Err("another type"),
        }
    }
}

fn otherwise(path: &str, reason: &'static str) -> ArchiveError {
    ArchiveError::ListedOtherwise { member: path.to_owned(), reason }
}

/// A member's data, hashed as it is read.
pub(super) struct Hashed<'d> {
    data: &'d mut dyn Read,
    hash: Sha256,
}

impl<'d> Hashed<'d> {
    pub(super) fn new(data: &'d mut dyn Read) -> Self {
        Self { data, hash: Sha256::new() }
    }

    /// Reads what nobody read, and gives the hash of all of it.
    fn finish(mut self) -> io::Result<[u8; 32]> {
        io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, &mut self), &mut io::sink())?;
        Ok(self.hash.finalize().into())
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.data.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// One line of the list; what is not named here concerns only who links.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "_path")]
    path: String,
    path_type: PathType,
    sha256: Option<String>,
    size_in_bytes: Option<u64>,
    prefix_placeholder: Option<String>,
}

/// The whole list: an object with a version and an array of lines.
struct Document<'c, 'l> {
    contents: &'c mut Contents<'l>,
    fault: &'c mut Option<ArchiveError>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with paths")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut paths = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "paths" if paths => return Err(M::Error::duplicate_field("paths")),
                "paths" => {
                    paths = true;
                    map.next_value_seed(Lines { contents: self.contents, fault: self.fault })?;
                }
                "paths_version" => {
                    let version: u64 = map.next_value()?;
                    if version != VERSION {
                        return Err(M::Error::custom(format!("paths_version is {version}, not {VERSION}")));
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if paths { Ok(()) } else { Err(M::Error::missing_field("paths")) }
    }
}

/// The array of lines.
struct Lines<'c, 'l> {
    contents: &'c mut Contents<'l>,
    fault: &'c mut Option<ArchiveError>,
}

impl<'de> DeserializeSeed<'de> for Lines<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Lines<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of paths")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        while let Some(line) = seq.next_element::<Line>()? {
            if let Err(fault) = self.contents.list(&line) {
                let stops = S::Error::custom(&fault);
                *self.fault = Some(fault);
                return Err(stops);
            }
        }
        Ok(())
    }
}
