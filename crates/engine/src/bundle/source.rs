//! Where the bytes of a bundle's files come from, on the side that writes them.
//!
//! A manifest lists what travels, and the store holds artifacts. What lies between the two is told here, and by nobody else who
//! writes: copying, reading back, parity and what is written again all ask for the source of a file that the manifest lists.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use airlock_core::bundle::{BundledFile, Manifest};
use airlock_core::id::Digest;
use airlock_store::Blobs;

use super::media;
use crate::error::{Error, Result, file_error};

/// The sources of the files of one bundle.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    blobs: Blobs,
    /// Of the hash of each part: the blob, and where in it the part begins.
    parts: BTreeMap<Digest, (Digest, u64)>,
}

impl Sources {
    /// Of a bundle whose artifacts lie in this store.
    pub fn of(blobs: &Blobs, manifest: &Manifest) -> Self {
        let mut parts = BTreeMap::new();
        for joined in &manifest.joined {
            let mut first = 0;
            for part in manifest.files.get(joined.places()).unwrap_or_default() {
                parts.insert(part.sha256, (joined.sha256, first));
                first += part.size;
            }
        }
        Self { blobs: blobs.clone(), parts }
    }

    /// Of a bundle without parts.
    #[cfg(test)]
    pub fn of_wholes(blobs: &Blobs) -> Self {
        Self { blobs: blobs.clone(), parts: BTreeMap::new() }
    }

    /// Whence the bytes of a file come, if they are here.
    pub fn find(&self, file: &BundledFile) -> Option<Source> {
        // What has the hash of a part has its bytes, also where it is no part.
        let (blob, first) = self.parts.get(&file.sha256).copied().unwrap_or((file.sha256, 0));
        Some(Source::stretch(self.blobs.find(blob)?.path().to_owned(), first, file.size))
    }

    /// Whence the bytes of a file come, which were here a moment ago.
    pub fn get(&self, file: &BundledFile) -> Result<Source> {
        self.find(file).ok_or_else(|| left(&file.name))
    }
}

/// A stretch of a file of this station. Whatever else the bytes of a file are made of is said here, too.
#[derive(Clone, Debug)]
pub(super) struct Source {
    path: PathBuf,
    first: u64,
    size: u64,
}

impl Source {
    /// So many bytes of a file, from `first` on.
    pub fn stretch(path: PathBuf, first: u64, size: u64) -> Self {
        Self { path, first, size }
    }

    /// The file in which they lie, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` on. What they are read from is the inner file, which knows how files are copied within the kernel.
    pub fn open_at(&self, at: u64) -> Result<Take<File>> {
        let mut file = media::open(&self.path)?
            .ok_or_else(|| Error::fault(format!("{} is no ordinary file", self.path.display())))?;
        let start = self.first.saturating_add(at);
        if start > 0 {
            file.seek(SeekFrom::Start(start)).map_err(file_error(&self.path))?;
        }
        Ok(file.take(self.size.saturating_sub(at)))
    }

    /// The hash of the bytes.
    pub fn hash(&self, buffer: &mut [u8]) -> Result<Digest> {
        media::hash(&mut self.open_at(0)?, &self.path, buffer, |_| ())
    }
}

/// What was here a moment ago is not any more.
pub(super) fn left(name: &str) -> Error {
    Error::fault(format!("{name} left the store"))
}

/// The store has other bytes than those that came.
pub(super) fn changed(path: &Path, name: &str) -> Error {
    Error::fault(format!("{}: the store's copy of {name} has changed", path.display()))
        .hint("restore the blobs from a backup; nothing was released")
}
