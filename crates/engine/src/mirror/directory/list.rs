//! Which files of a directory are packages, without opening any.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::ecosystem::{self, ArtifactKind, Ecosystem};
use airlock_core::litter::is_litter;

use crate::error::{Error, Result, file_error};

/// Entries of one directory, and directories of one source.
const ENTRIES_MAX: usize = 2_000_000;

/// By what a file is recognised as the one that was read: nobody but the clock's master sets `ctime` back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
    /// Nanoseconds since 1970.
    pub(super) changed: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanos = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that may be a package.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its name.
    pub(super) file: String,
    /// Its path below the source, with `/` between.
    pub(super) below: String,
    /// Where it really lies: the target, if it is a link within the source.
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// What one or more directories hold, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) found: Vec<Found>,
    /// What has a package's name and is none, with the reason.
    pub(super) bad: Vec<(String, String)>,
    /// A file that looks like a conda index, if one is there.
    pub(super) index: Option<String>,
    /// Directories, for the caller who wants to look into them.
    pub(super) directories: Vec<String>,
}

/// Lists `below`, a directory of the source at `root` (which is canonical), if there is such a directory. A link
/// is followed where it ends within the source.
pub(super) fn list(root: &Path, below: &str, ecosystem: Ecosystem) -> Result<Option<Listing>> {
    let typed = if below.is_empty() { root.to_owned() } else { root.join(below) };
    let dir = match typed.canonicalize() {
        Ok(dir) if dir.is_dir() => dir,
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error(&typed)(e)),
    };
    if !dir.starts_with(root) {
        let error = format!("{} is a link that leads out of the source", typed.display());
        return Err(Error::fault(error).hint("give the directory itself as the source"));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(file_error(&dir))? {
        names.push(entry.map_err(file_error(&dir))?.file_name());
        if names.len() > ENTRIES_MAX {
            let error = format!("{} has more than {ENTRIES_MAX} entries", dir.display());
            return Err(Error::fault(error).hint("make an index for it, or split it"));
        }
    }
    names.sort();
    let mut listing = Listing::default();
    for name in names {
        listing.entry(root, &dir, below, &name, ecosystem);
    }
    Ok(Some(listing))
}

/// Whether a file of this name is looked at. A conda directory's wheels (CEP 48) have no index of their own in them.
fn is_package(ecosystem: Ecosystem, name: &str) -> bool {
    match ArtifactKind::of(ecosystem, name) {
        Some(ArtifactKind::Wheel) => ecosystem == Ecosystem::Pypi,
        Some(_) => true,
        None => false,
    }
}

impl Listing {
    fn entry(&mut self, root: &Path, dir: &Path, below: &str, name: &OsStr, ecosystem: Ecosystem) {
        let shown = name.to_string_lossy();
        if is_litter(&shown) {
            return;
        }
        let path = dir.join(name);
        if !is_package(ecosystem, &shown) {
            if shown.starts_with("repodata") && shown.contains(".json") {
                self.index.get_or_insert_with(|| shown.clone().into_owned());
            }
            if ecosystem == Ecosystem::Pypi
                && !shown.starts_with('.')
                && let Some(name) = name.to_str()
                && path.is_dir()
            {
                self.directories.push(name.to_owned());
            }
            return;
        }
        let reference = if below.is_empty() { shown.to_string() } else { format!("{below}/{shown}") };
        let checked = match name.to_str() {
            None => Err("its name is not UTF-8".to_owned()),
            Some(file) if !ecosystem::is_safe_file_name(file) => {
                Err("its name is not one plain path component of at most 255 characters".to_owned())
            }
            Some(file) => check(root, &path).map(|(path, stamp)| Found {
                file: file.to_owned(),
                below: reference.clone(),
                path,
                stamp,
            }),
        };
        match checked {
            Ok(found) => self.found.push(found),
            Err(reason) => self.bad.push((reference, reason)),
        }
    }
}

/// Where the file at `path` really lies and its stamp, if it is a regular file within the source.
fn check(root: &Path, path: &Path) -> std::result::Result<(PathBuf, Stamp), String> {
    let cannot = |e: std::io::Error| format!("it cannot be read: {e}");
    let metadata = std::fs::symlink_metadata(path).map_err(cannot)?;
    if !metadata.is_symlink() {
        return regular(path, &metadata);
    }
    let target = path.canonicalize().map_err(cannot)?;
    if !target.starts_with(root) {
        return Err("it is a link that leads out of the source".to_owned());
    }
    let metadata = std::fs::symlink_metadata(&target).map_err(cannot)?;
    regular(&target, &metadata)
}

fn regular(path: &Path, metadata: &Metadata) -> std::result::Result<(PathBuf, Stamp), String> {
    if metadata.is_dir() {
        Err("it is a directory".to_owned())
    } else if !metadata.is_file() {
        Err("it is no regular file".to_owned())
    } else {
        Ok((path.to_owned(), Stamp::of(metadata)))
    }
}
