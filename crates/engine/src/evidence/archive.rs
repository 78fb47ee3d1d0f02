//! The archive that holds the parts: hashing each as it is written, signing the list of them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use airlock_core::canon::Canonical;
use airlock_core::evidence::{MANIFEST, Manifest, Part, SIGNATURE};
use airlock_core::id::Digest;
use airlock_formats::archive::ZipFile;

use crate::error::{Result, file_error};
use crate::keys::StationKey;

/// Bytes that are collected before they go to the disk.
const BUFFER_BYTES: usize = 1 << 20;

/// A file of evidence that is being written beside its place, which it takes when it is whole.
pub(super) struct Archive {
    zip: ZipFile<BufWriter<NamedTempFile>>,
    target: PathBuf,
    parts: Vec<Part>,
    open: Option<Open>,
}

/// The part that is being written.
struct Open {
    path: String,
    hasher: Sha256,
    size: u64,
}

impl Archive {
    /// Begins a file. What lies in its place is left alone until the end.
    pub fn create(target: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder_of(target);
        // It is made to be handed on, as far as the umask lets it.
        let file = tempfile::Builder::new()
            .prefix(".airlock-evidence-")
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(file_error(folder))?;
        let zip = ZipFile::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { zip, target: target.to_owned(), parts: Vec::new(), open: None })
    }

    /// Begins a part; the one before it is whole.
    pub fn part(&mut self, path: &str) -> Result<()> {
        self.end_part();
        self.zip.begin(path).map_err(file_error(&self.target))?;
        self.open = Some(Open { path: path.to_owned(), hasher: Sha256::new(), size: 0 });
        Ok(())
    }

    /// Adds a line to the part.
    pub fn line(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.write_all(bytes).and_then(|()| self.write_all(b"\n"));
        written.map_err(file_error(&self.target))
    }

    /// Adds bytes to the part.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(file_error(&self.target))
    }

    fn end_part(&mut self) {
        if let Some(Open { path, hasher, size }) = self.open.take() {
            let sha256 = Digest::from_bytes(hasher.finalize().into());
            self.parts.push(Part { path, sha256, size });
        }
    }

    /// Signs the list of the parts, and puts the file in its place. Gives its size in bytes.
    pub fn finish(mut self, manifest: impl FnOnce(Vec<Part>) -> Manifest, key: &StationKey) -> Result<u64> {
        self.end_part();
        let text = Canonical::of(&manifest(std::mem::take(&mut self.parts)))?;
        let signature = format!("{}\n", key.sign(text.as_str().as_bytes()));
        let target = self.target;
        let fail = || file_error(&target);
        for (path, text) in [(MANIFEST, text.as_str()), (SIGNATURE, signature.as_str())] {
            self.zip.begin(path).and_then(|()| self.zip.write_all(text.as_bytes())).map_err(fail())?;
        }
        let file = self.zip.finish().map_err(fail())?;
        let file = file.into_inner().map_err(|e| fail()(e.into_error()))?;
        file.as_file().sync_all().map_err(fail())?;
        let size = file.as_file().metadata().map_err(fail())?.len();
        file.persist(&target).map_err(|e| fail()(e.error))?;
        // Its name is to outlast a power cut as its bytes do.
        File::open(folder_of(&target)).and_then(|folder| folder.sync_all()).map_err(fail())?;
        Ok(size)
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.zip.write(bytes)?;
        if let Some(open) = &mut self.open {
            open.hasher.update(bytes.get(..n).unwrap_or_default());
            open.size += n as u64;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.zip.flush()
    }
}
