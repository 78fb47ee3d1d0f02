//! Where the bytes of a bundle's files come from, on the side that writes them.
//!
//! A manifest lists what travels, and the store holds artifacts. What lies between the two is told here, and by nobody else who
//! writes: copying, reading back, parity and what is written again all ask for the source of a file that the manifest lists.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Take, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlock_core::bundle::{BundledFile, Manifest};
use airlock_core::id::Digest;
use airlock_store::Blobs;

use super::media;
use super::seals::SealedFiles;
use crate::age::{Seal, Sealing};
use crate::error::{Error, Result, file_error};

/// Whence files come that are not cut yet.
#[derive(Clone, Debug)]
pub(super) struct Wholes {
    blobs: Blobs,
    sealed: Option<Arc<SealedFiles>>,
}

impl Wholes {
    /// Those in this store; of a sealed bundle these files.
    pub fn of(blobs: &Blobs, sealed: Option<Arc<SealedFiles>>) -> Self {
        Self { blobs: blobs.clone(), sealed }
    }

    /// So many bytes, from `first` on, of the file with this hash, if it is here.
    pub fn stretch(&self, whole: Digest, first: u64, size: u64) -> Option<Source> {
        match &self.sealed {
            Some(sealed) => sealed.find(&self.blobs, whole, (first, size)),
            None => Some(Source::stretch(self.blobs.find(whole)?.path().to_owned(), first, size)),
        }
    }
}

/// The sources of the files of one bundle.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    wholes: Wholes,
    /// Of the hash of each part: its whole, and where in it the part begins.
    parts: BTreeMap<Digest, (Digest, u64)>,
}

impl Sources {
    /// Of a bundle whose files are these, or parts of them.
    pub fn of(wholes: &Wholes, manifest: &Manifest) -> Self {
        let mut parts = BTreeMap::new();
        for joined in &manifest.joined {
            let mut first = 0;
            for part in manifest.files.at(joined.places()).into_iter().flatten() {
                parts.insert(part.sha256, (joined.sha256, first));
                first += part.size;
            }
        }
        Self { wholes: wholes.clone(), parts }
    }

    /// Of a bundle without parts.
    #[cfg(test)]
    pub fn of_wholes(blobs: &Blobs) -> Self {
        Self { wholes: Wholes::of(blobs, None), parts: BTreeMap::new() }
    }

    /// Whence the bytes of a file come, if they are here.
    pub fn find(&self, file: &BundledFile<'_>) -> Option<Source> {
        // What has the hash of a part has its bytes, also where it is no part.
        let (whole, first) = self.parts.get(&file.sha256).copied().unwrap_or((file.sha256, 0));
        self.wholes.stretch(whole, first, file.size)
    }

    /// Whence the bytes of a file come, which were here a moment ago.
    pub fn get(&self, file: &BundledFile<'_>) -> Result<Source> {
        self.find(file).ok_or_else(|| left(&file.name))
    }
}

/// A stretch of a file of this station, or of what a file becomes when it is sealed. Whatever else the bytes of a file are made of
/// is said here, too.
#[derive(Clone, Debug)]
pub(super) struct Source {
    path: PathBuf,
    first: u64,
    size: u64,
    /// How the file is sealed, and how large it is before.
    seal: Option<(Seal, u64)>,
}

impl Source {
    /// So many bytes of a file, from `first` on.
    pub fn stretch(path: PathBuf, first: u64, size: u64) -> Self {
        Self { path, first, size, seal: None }
    }

    /// So many bytes, from `first` on, of a file of `plain` bytes when it is sealed.
    pub fn sealed(path: PathBuf, plain: u64, seal: Seal, (first, size): (u64, u64)) -> Self {
        Self { path, first, size, seal: Some((seal, plain)) }
    }

    /// The file in which they lie, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` on.
    pub fn open_at(&self, at: u64) -> Result<Bytes> {
        let mut file = media::open(&self.path)?
            .ok_or_else(|| Error::fault(format!("{} is no ordinary file", self.path.display())))?;
        let (start, left) = (self.first.saturating_add(at), self.size.saturating_sub(at));
        if let Some((seal, plain)) = &self.seal {
            let sealing = seal.open_at(file, *plain, start).map_err(file_error(&self.path))?;
            return Ok(Bytes::Sealed(Box::new(sealing.take(left))));
        }
        if start > 0 {
            file.seek(SeekFrom::Start(start)).map_err(file_error(&self.path))?;
        }
        Ok(Bytes::Plain(file.take(left)))
    }

    /// The hash of the bytes.
    pub fn hash(&self, buffer: &mut [u8]) -> Result<Digest> {
        media::hash(&mut self.open_at(0)?, &self.path, buffer, |_| ())
    }
}

/// What was here a moment ago is not any more.
pub(super) fn left(name: &str) -> Error {
    Error::fault(format!("{name} left the store"))
        .hint("run it again; if it stays so, `airlock fsck --repair` fetches again what can be fetched")
}

/// The store has other bytes than those that came.
pub(super) fn changed(path: &Path, name: &str) -> Error {
    Error::fault(format!("{}: the store's copy of {name} has changed", path.display()))
        .hint("restore the blobs from a backup; nothing was released")
}

/// What is read of a source.
pub(super) enum Bytes {
    /// Bytes of a file as they are.
    Plain(Take<File>),
    /// Bytes that are sealed while they are read.
    Sealed(Box<Take<Sealing<File>>>),
}

impl Bytes {
    /// Writes at most so many bytes to a file, and says how many; those of a file within the kernel, which shares blocks where it can.
    pub fn copy_to(&mut self, sink: &mut File, most: u64, buffer: &mut [u8]) -> std::io::Result<u64> {
        let sealed = match self {
            Self::Plain(plain) => return std::io::copy(&mut plain.take(most), sink),
            Self::Sealed(sealed) => sealed,
        };
        let (mut sealed, mut copied) = (sealed.take(most), 0);
        loop {
            let n = sealed.read(buffer)?;
            if n == 0 {
                return Ok(copied);
            }
            sink.write_all(buffer.get(..n).unwrap_or_default())?;
            copied += n as u64;
        }
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Sealed(sealed) => sealed.read(buffer),
        }
    }
}
