//! Lock files: what they pin, whatever form they are written in.
//!
//! [`read`] tells the form by what a file holds and gives the same value for all ([`Contents`]): canonical names,
//! versions as they are written, file names and hashes. Addresses are read for the file names at their ends and never
//! kept, since they may hold a password.
//!
//! | form | what is read |
//! |---|---|
//! | `conda-lock.yml` | version 1, conda and pip packages |
//! | `pixi.lock` | versions 4 to 7, conda and PyPI packages |
//! | `uv.lock` | version 1, sources and wheels of every package that comes from an index or an address |
//! | `pylock.toml` | PEP 751, version 1 |
//! | `requirements.txt` | lines with `==` or `===`, or an address of a file; `--hash=sha256:` |
//! | `@EXPLICIT` | addresses of conda packages with MD5 or SHA-256 behind `#` |
//!
//! An entry that pins nothing (a folder, a source that is built, a range) is left out and counted; the project itself, which no
//! channel has, is passed over. A file that is of none of
//! these forms, or of a version that is not known, is refused as a whole: it must not look as if it held nothing.

mod lines;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::lock::{Contents, LockForm, Locked, LockedFile};

use crate::limits;

/// Why a lock file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is larger than a lock file may be.
    #[error("it is larger than {} bytes", limits::LOCK_BYTES_MAX)]
    TooLarge,
    /// It names more files than a lock file may.
    #[error("it names more than {} files", limits::LOCK_FILES_MAX)]
    TooMany,
    /// It is no text.
    #[error("it is no UTF-8 text")]
    NoText,
    /// It is of no form that is known.
    #[error(
        "it is no lock file that is known (conda-lock.yml, pixi.lock, uv.lock, pylock.toml, requirements.txt, @EXPLICIT)"
    )]
    Unknown,
    /// It is of a form that is known, and cannot be read.
    #[error("it is not read as {0}: {1}")]
    Malformed(LockForm, String),
    /// It pins nothing.
    #[error("it pins no version of any package")]
    Empty,
}

/// Reads a lock file.
///
/// # Errors
///
/// What is no lock file, is of a version that is not known, breaks the rules of its form, pins nothing, or goes beyond
/// [`limits::LOCK_BYTES_MAX`] and [`limits::LOCK_FILES_MAX`].
pub fn read(bytes: &[u8]) -> Result<Contents, LockError> {
    if bytes.len() as u64 > limits::LOCK_BYTES_MAX {
        return Err(LockError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| LockError::NoText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Found::default();
    let form = match shape(text) {
        Shape::Explicit => lines::explicit(text, &mut found)?,
        Shape::Toml => tables::toml(text, &mut found)?,
        Shape::Yaml => tables::yaml(text, &mut found)?,
        Shape::Lines => lines::requirements(text, &mut found)?,
        Shape::Nothing => return Err(LockError::Unknown),
    };
    if found.packages.is_empty() {
        return Err(LockError::Empty);
    }
    Ok(found.contents(form))
}

/// What a text looks like, by its first line that says anything.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Explicit,
    Toml,
    Yaml,
    Lines,
    Nothing,
}

fn shape(text: &str) -> Shape {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines().any(|line| line == lines::EXPLICIT) {
        return Shape::Explicit;
    }
    let Some(first) = lines().next() else { return Shape::Nothing };
    let key = first.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(first.len());
    let rest = first[key..].trim_start();
    let is_pair = key > 0 && rest.starts_with('=') && !rest.starts_with("==");
    if first.starts_with('[') || is_pair {
        Shape::Toml
    } else if first == "---" || (key > 0 && rest.starts_with(':') && !first.starts_with('-')) {
        Shape::Yaml
    } else {
        Shape::Lines
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    packages: BTreeMap<(Ecosystem, String, String), BTreeSet<LockedFile>>,
    files: usize,
    left_out: u64,
}

impl Found {
    /// Adds a package, with files as far as it names any. What can be no name or version is left out.
    fn add(
        &mut self,
        ecosystem: Ecosystem,
        name: &str,
        version: &str,
        files: impl IntoIterator<Item = LockedFile>,
    ) -> Result<(), LockError> {
        let name = ecosystem::canonical_name(ecosystem, name);
        let fits = !version.is_empty()
            && version.len() <= limits::LOCK_VERSION_BYTES_MAX
            && version.bytes().all(|b| b.is_ascii_graphic());
        let Some(name) = name.filter(|_| fits) else {
            self.left_out += 1;
            return Ok(());
        };
        let held = self.packages.entry((ecosystem, name, version.to_owned())).or_default();
        self.files += 1;
        for file in files.into_iter().filter(|file| *file != LockedFile::default()) {
            self.files += usize::from(held.insert(file));
        }
        if self.files > limits::LOCK_FILES_MAX { Err(LockError::TooMany) } else { Ok(()) }
    }

    fn contents(self, form: LockForm) -> Contents {
        let package = |((ecosystem, name, version), files)| Locked { ecosystem, name, version, files };
        Contents { form, packages: self.packages.into_iter().map(package).collect(), left_out: self.left_out }
    }
}

/// The file at the end of an address or path, and the folder that it lies in.
fn last_parts(address: &str) -> Option<(String, Option<String>)> {
    let path = address.split(['#', '?']).next().unwrap_or_default();
    let mut parts = path.rsplit(['/', '\\']);
    let file = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned();
    let folder = parts.next().filter(|folder| ecosystem::is_subdir(folder)).map(str::to_owned);
    ecosystem::is_safe_file_name(&file).then_some((file, folder))
}

/// Whether a path is that of the project that the lock file is of, beside which it lies.
fn is_itself(path: &str) -> bool {
    path.trim_end_matches('/') == "."
}

/// A file by its address and hashes; hashes that are none are passed over.
fn file(ecosystem: Ecosystem, address: Option<&str>, sha256: Option<&str>, md5: Option<&str>) -> LockedFile {
    let (name, subdir) = address.and_then(last_parts).map_or((None, None), |(f, s)| (Some(f), s));
    LockedFile {
        name,
        subdir: subdir.filter(|_| ecosystem == Ecosystem::Conda),
        sha256: sha256.and_then(|text| text.to_ascii_lowercase().parse::<Digest>().ok()),
        md5: md5.map(str::to_ascii_lowercase).filter(|text| hex::decode::<16>(text).is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_by_the_first_line_that_says_anything() {
        for (text, expected) in [
            ("# made by\n\n@EXPLICIT\nhttps://x/", Shape::Explicit),
            ("version = 1\n", Shape::Toml),
            ("# c\n[[package]]\n", Shape::Toml),
            ("lock-version = \"1.0\"", Shape::Toml),
            ("version: 6\n", Shape::Yaml),
            ("---\n", Shape::Yaml),
            ("idna==3.7\n", Shape::Lines),
            ("idna ==3.7\n", Shape::Lines),
            ("--index-url https://x\n", Shape::Lines),
            ("idna @ https://x/y\n", Shape::Lines),
            ("# nothing\n", Shape::Nothing),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn of_an_address_only_the_file_and_its_subdir_are_kept() {
        for (address, expected) in [
            ("https://u:p@h/c/linux-64/a-1-0.conda#md5", Some(("a-1-0.conda", Some("linux-64")))),
            ("https://h/a-1%2B2.whl?token=x", Some(("a-1+2.whl", None))),
            ("wheels\\a-1.whl", Some(("a-1.whl", None))),
            ("https://h/%2e%2e", None),
            ("https://h/a%2fb", None),
            ("", None),
        ] {
            let expected = expected.map(|(f, s): (&str, Option<&str>)| (f.to_owned(), s.map(str::to_owned)));
            assert_eq!(last_parts(address), expected, "{address}");
        }
    }
}
