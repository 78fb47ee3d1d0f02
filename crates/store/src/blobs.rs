//! Artifacts as files named by their SHA-256.
//!
//! A blob is hashed as it is written, once, and has its name only after its bytes are on the disk: a file
//! that is there is whole. Nothing here shares an inode with anything outside.

mod sweep;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};

use airlock_core::id::Digest;

use crate::error::StoreError;
use crate::intake::{self, Intake};
use crate::scratch::{self, Scratch};

pub use sweep::{Begun, Lying};

/// After how long without a write a staged file that no process owns counts as left behind.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// What the folders are called in which processes write.
const RUN: &str = "run-";

/// A directory of blobs: `<ab>/<64 digits>`, and `staging/` for what is being written.
#[derive(Clone, Debug)]
pub struct Blobs {
    pub(crate) root: PathBuf,
    /// Where this process writes, once it does.
    run: Arc<Mutex<Option<Arc<Scratch>>>>,
}

/// A blob that is in the store: its bytes were hashed when they came. Serving and exporting ask for this
/// type, so that unverified bytes cannot leave by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    digest: Digest,
    size: u64,
    path: PathBuf,
}

impl Verified {
    /// SHA-256 of its bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Their number.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where they lie.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Blobs {
    /// Opens a directory of blobs.
    pub fn open(root: &Path, create: bool) -> Result<Self, StoreError> {
        let blobs = Self { root: root.to_owned(), run: Arc::default() };
        if create {
            std::fs::create_dir_all(blobs.staging()).map_err(StoreError::file(blobs.staging()))?;
        }
        blobs.sweep()?;
        Ok(blobs)
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(hex)
    }

    /// Where blobs lie, for asking how much room there is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what processes that were killed left in staging: their folders, and intakes that nobody resumed.
    fn sweep(&self) -> Result<(), StoreError> {
        let staging = self.staging();
        for entry in std::fs::read_dir(&staging).map_err(StoreError::file(&staging))? {
            let entry = entry.map_err(StoreError::file(&staging))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let written = entry.metadata().and_then(|m| m.modified()).ok();
            let age = written.and_then(|w| w.elapsed().ok()).unwrap_or_default();
            // Somebody else may sweep at the same time.
            if name.starts_with(RUN) || (name.starts_with(intake::PREFIX) && age > intake::KEPT) {
                scratch::remove(&path);
            } else if age > ABANDONED {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// The blob of this hash, if it is here.
    pub fn find(&self, digest: Digest) -> Option<Verified> {
        let path = self.path(digest);
        let meta = std::fs::metadata(&path).ok()?;
        Some(Verified { digest, size: meta.len(), path })
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let root = File::open(&self.root).map_err(StoreError::file(&self.root))?;
        rustix::fs::syncfs(&root).map_err(|e| StoreError::file(&self.root)(e.into()))
    }

    /// Starts a batch of writes.
    pub fn batch(&self) -> Batch {
        Batch { blobs: self.clone(), staged: Vec::new() }
    }

    /// The folder of this process, made when it is first asked for.
    fn run(&self) -> Result<Arc<Scratch>, StoreError> {
        let mut held = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = &*held {
            return Ok(run.clone());
        }
        let run = Arc::new(Scratch::new_in(&self.staging(), RUN)?);
        *held = Some(run.clone());
        Ok(run)
    }

    /// Starts to write one blob.
    pub fn stage(&self) -> Result<Staged, StoreError> {
        let run = self.run()?;
        let file = NamedTempFile::new_in(run.path()).map_err(StoreError::file(run.path()))?;
        Ok(Staged { file, hasher: Sha256::new(), size: 0, _run: run })
    }

    /// Opens the intake of this name, in which blobs are collected that count together or not at all. If a process
    /// that had it was killed, what it had taken in is there still.
    pub fn intake(&self, name: &str) -> Result<Intake, StoreError> {
        Intake::open(self.clone(), name)
    }
}

/// A blob that is being written and hashed. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
    _run: Arc<Scratch>,
}

impl Staged {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(StoreError::file(self.file.path()))
    }

    /// Forgets all bytes: the blob comes from its beginning again.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.hasher = Sha256::new();
        self.size = 0;
        let file = self.file.as_file_mut();
        let emptied = file.set_len(0).and_then(|()| file.rewind());
        emptied.map_err(StoreError::file(self.file.path()))
    }

    /// How many bytes came so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of what came so far.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.hasher.clone().finalize().into())
    }

    /// Where the bytes lie until they get a name, for programs that look at them.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The bytes so far, to look into them before they get a name.
    pub fn reopen(&self) -> Result<File, StoreError> {
        self.file.reopen().map_err(StoreError::file(self.file.path()))
    }
}

/// Blobs that get their names together, after one sync. Dropped before that, it leaves nothing behind. Its files
/// are closed, so that a batch may hold more of them than a process may have open.
#[derive(Debug)]
pub struct Batch {
    blobs: Blobs,
    staged: Vec<(Digest, TempPath)>,
}

impl Batch {
    /// Adds a staged blob and gives its hash, which must be `wanted` where that is known.
    pub fn add(&mut self, staged: Staged, wanted: Option<Digest>) -> Result<Digest, StoreError> {
        let found = staged.digest();
        if let Some(wanted) = wanted.filter(|w| *w != found) {
            return Err(StoreError::Hash { wanted, found });
        }
        self.staged.push((found, staged.file.into_temp_path()));
        Ok(found)
    }

    /// Syncs everything once and gives the blobs their names. Before this returns, none of them is in the
    /// store; after it, all of them are, whatever happens to the power.
    pub fn commit(self) -> Result<(), StoreError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        self.blobs.sync()?;
        for (digest, file) in self.staged {
            let path = self.blobs.path(digest);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(StoreError::file(folder))?;
            }
            file.persist(&path).map_err(|e| StoreError::file(&path)(e.error))?;
        }
        self.blobs.sync()
    }
}
