//! Where the bytes of a bundle's files come from, on the side that writes them.
//!
//! A manifest lists what travels, and the store holds artifacts. What lies between the two is told here, and by nobody else who
//! writes: copying, reading back, parity and what is written again all ask for the source of a file that the manifest lists.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use airlock_core::bundle::BundledFile;
use airlock_core::id::Digest;
use airlock_store::Blobs;

use super::media;
use crate::error::{Error, Result, file_error};

/// The sources of the files of one bundle.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    blobs: Blobs,
}

impl Sources {
    /// Of a bundle whose artifacts lie in this store.
    pub fn of(blobs: &Blobs) -> Self {
        Self { blobs: blobs.clone() }
    }

    /// Whence the bytes of a file come, if they are here.
    pub fn find(&self, file: &BundledFile) -> Option<Source> {
        let blob = self.blobs.find(file.sha256)?;
        Some(Source::stretch(blob.path().to_owned(), 0, file.size))
    }

    /// Whence the bytes of a file come, which were here a moment ago.
    pub fn get(&self, file: &BundledFile) -> Result<Source> {
        self.find(file).ok_or_else(|| Error::fault(format!("{} left the store", file.name)))
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
