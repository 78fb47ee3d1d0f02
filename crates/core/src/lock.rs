//! What lock files say: packages, versions, files and their hashes, whatever form they were written in.
//!
//! Nothing else of a lock file is kept: no address (which may hold a password), no project, no path.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::id::Digest;
use crate::time::Time;
use crate::version::Order;

/// The form that a lock file was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockForm {
    /// `conda-lock.yml`
    CondaLock,
    /// `pixi.lock`
    Pixi,
    /// `uv.lock`
    Uv,
    /// `pylock.toml` (PEP 751)
    Pylock,
    /// A `requirements.txt` that pins versions.
    Requirements,
    /// An explicit list of conda packages, `@EXPLICIT`.
    Explicit,
}

impl fmt::Display for LockForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CondaLock => "conda-lock.yml",
            Self::Pixi => "pixi.lock",
            Self::Uv => "uv.lock",
            Self::Pylock => "pylock.toml",
            Self::Requirements => "requirements.txt",
            Self::Explicit => "an explicit list",
        })
    }
}

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Its form.
    pub form: LockForm,
    /// Its packages, sorted, each version once.
    pub packages: Vec<Locked>,
    /// Entries that name no version of a package of a known ecosystem, such as a folder or a range; but for the project itself.
    pub left_out: u64,
}

/// One version of a package, with every file that the lock file would take of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locked {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The canonical name.
    pub name: String,
    /// The version as it is written there.
    pub version: String,
    /// The files; empty where only the version is pinned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub files: BTreeSet<LockedFile>,
}

/// One file of it, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedFile {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The conda subdir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
    /// What its bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Their MD5 in hexadecimal, where there is nothing better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
}

/// A lock file on record: what somebody relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What people here call it.
    pub name: String,
    /// When it was put on record.
    pub since: Time,
    /// By whom.
    pub by: String,
    /// What it says.
    pub contents: Contents,
}

crate::object!(Lock, "airlock.lock.v1");

/// An artifact that may stand in a lock file.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The canonical name.
    pub name: &'a str,
    /// The version.
    pub version: &'a str,
    /// The conda subdir.
    pub subdir: Option<&'a str>,
    /// The file.
    pub file: &'a str,
    /// Everything that its bytes are or were known to be.
    pub sha256: &'a BTreeSet<Digest>,
}

/// By what a lock file holds an artifact: the surest that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBy {
    /// Only the version is pinned: this file may be the one that was installed.
    Version,
    /// The file is named, and nothing is said of its bytes, or nothing is known of them here.
    File,
    /// The bytes are the same.
    Bytes,
}

impl Locked {
    /// Whether, and by what, this entry holds an artifact. Where a lock file states what a file's SHA-256 is, other bytes
    /// under the same name are another file.
    pub fn holds(&self, wanted: Wanted<'_>) -> Option<HeldBy> {
        let is_named = self.ecosystem == wanted.ecosystem && self.name == wanted.name;
        let same_version = || {
            self.version == wanted.version
                || Order::of(self.ecosystem).compare(&self.version, wanted.version)
                    == Some(std::cmp::Ordering::Equal)
        };
        if self.files.is_empty() {
            return (is_named && same_version()).then_some(HeldBy::Version);
        }
        let by = |file: &LockedFile| {
            if let Some(sha256) = file.sha256
                && !wanted.sha256.is_empty()
            {
                return wanted.sha256.contains(&sha256).then_some(HeldBy::Bytes);
            }
            let same_place = file.subdir.as_deref().is_none_or(|subdir| wanted.subdir == Some(subdir));
            match &file.name {
                _ if !is_named => None,
                Some(name) => (name == wanted.file && same_place).then_some(HeldBy::File),
                None => same_version().then_some(HeldBy::Version),
            }
        };
        self.files.iter().filter_map(by).max()
    }
}

impl Contents {
    /// Whether, and by what, the lock file holds an artifact.
    pub fn holds(&self, wanted: Wanted<'_>) -> Option<HeldBy> {
        self.packages.iter().filter_map(|package| package.holds(wanted)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: Option<&str>, sha256: Option<Digest>) -> LockedFile {
        LockedFile { name: name.map(str::to_owned), sha256, ..LockedFile::default() }
    }

    #[test]
    fn an_artifact_is_held_by_its_bytes_by_its_name_or_by_its_version() {
        let (right, wrong) = (Digest::of(b"right"), Digest::of(b"wrong"));
        let known: BTreeSet<Digest> = [right].into();
        let name = Some("idna-3.7-py3-none-any.whl");
        let table: [(&str, &str, Vec<LockedFile>, Option<HeldBy>); 12] = [
            ("idna", "3.7", vec![], Some(HeldBy::Version)),
            ("idna", "3.7.0", vec![], Some(HeldBy::Version)),
            ("idna", "3.6", vec![], None),
            ("other", "3.7", vec![], None),
            ("idna", "3.7", vec![file(name, None)], Some(HeldBy::File)),
            ("idna", "3.7", vec![file(Some("idna-3.7.tar.gz"), None)], None),
            ("idna", "3.7", vec![file(name, Some(right))], Some(HeldBy::Bytes)),
            ("idna", "3.7", vec![file(name, Some(wrong))], None),
            ("idna", "3.7", vec![file(None, Some(wrong)), file(None, Some(right))], Some(HeldBy::Bytes)),
            ("idna", "3.7", vec![file(None, Some(wrong))], None),
            // The same bytes are the same, whatever they are called.
            ("other", "1", vec![file(None, Some(right))], Some(HeldBy::Bytes)),
            ("other", "1", vec![file(name, None)], None),
        ];
        for (package, version, files, expected) in table {
            let locked = Locked {
                ecosystem: Ecosystem::Pypi,
                name: package.to_owned(),
                version: version.to_owned(),
                files: files.into_iter().collect(),
            };
            let wanted = Wanted {
                ecosystem: Ecosystem::Pypi,
                name: "idna",
                version: "3.7",
                subdir: None,
                file: "idna-3.7-py3-none-any.whl",
                sha256: &known,
            };
            assert_eq!(locked.holds(wanted), expected, "{locked:?}");
        }
    }

    #[test]
    fn where_bytes_are_not_known_here_the_name_decides_and_the_subdir_with_it() {
        let sha256 = Some(Digest::of(b"x"));
        let known = BTreeSet::new();
        for (subdir, named, expected) in [
            (Some("linux-64"), true, Some(HeldBy::File)),
            (Some("osx-64"), true, None),
            (None, true, Some(HeldBy::File)),
            (None, false, Some(HeldBy::Version)),
        ] {
            let name = named.then(|| "zlib-1.3-0.conda".to_owned());
            let file = LockedFile { name, subdir: subdir.map(str::to_owned), sha256, md5: None };
            let locked = Locked {
                ecosystem: Ecosystem::Conda,
                name: "zlib".to_owned(),
                version: "1.3".to_owned(),
                files: [file].into(),
            };
            let wanted = Wanted {
                ecosystem: Ecosystem::Conda,
                name: "zlib",
                version: "1.3",
                subdir: Some("linux-64"),
                file: "zlib-1.3-0.conda",
                sha256: &known,
            };
            assert_eq!(locked.holds(wanted), expected, "{locked:?}");
        }
    }
}
