//! What is there: for collecting what nothing needs, and for looking after what rots.

use std::fs::{DirEntry, File, FileTimes};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use airlock_core::id::Digest;

use super::Blobs;
use crate::error::StoreError;
use crate::intake;
use crate::scratch;

/// The first two digits of a name, and so the folders of blobs.
const FOLDERS: u32 = 256;
/// Bytes that are read of what an intake says of itself.
const LABEL_BYTES_MAX: u64 = 4096;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// A blob as it lies on the disk; its bytes were not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Lying {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// When somebody last wrote, named or touched it.
    pub since: SystemTime,
}

/// An intake that is not committed: it was broken off, or somebody works on it at this moment.
#[derive(Clone, Debug)]
pub struct Begun {
    /// By which it is opened.
    pub name: String,
    /// What it says whose it is; empty if nobody said so.
    pub label: Vec<u8>,
    /// Blobs in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Until when it waits for being resumed.
    pub until: SystemTime,
}

impl Blobs {
    /// Every intake that was begun, sorted by name.
    pub fn begun(&self) -> Result<Vec<Begun>, StoreError> {
        let mut out = Vec::new();
        for entry in entries(&self.staging())? {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_prefix(intake::PREFIX)) else {
                continue;
            };
            // It may have been committed since.
            let Ok(since) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
            let mut label = Vec::new();
            if let Ok(file) = File::open(entry.path().join(intake::LABEL)) {
                let _ = file.take(LABEL_BYTES_MAX).read_to_end(&mut label);
            }
            let mut one =
                Begun { name: name.to_owned(), label, files: 0, bytes: 0, until: since + intake::KEPT };
            for folder in
                entries(&entry.path())?.iter().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
            {
                for lying in list(&folder.path())? {
                    one.files += 1;
                    one.bytes += lying.size;
                }
            }
            out.push(one);
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// Removes an intake. False: somebody works on it, or it is gone.
    pub fn forget(&self, begun: &Begun) -> Result<bool, StoreError> {
        let path = self.staging().join(format!("{}{}", intake::PREFIX, begun.name));
        if !path.exists() {
            return Ok(false);
        }
        let Some(_held) = scratch::lock(&path)? else { return Ok(false) };
        std::fs::remove_dir_all(&path).map_err(StoreError::file(path))?;
        Ok(true)
    }

    /// Says that somebody is about to refer to a blob, so that it is not collected in between. False: it is not here.
    pub fn touch(&self, digest: Digest) -> Result<bool, StoreError> {
        let path = self.path(digest);
        let now = FileTimes::new().set_modified(SystemTime::now());
        match File::options().append(true).open(&path).and_then(|file| file.set_times(now)) {
            Ok(()) => Ok(path.exists()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::file(&path)(e)),
        }
    }

    /// Every blob, folder by folder, sorted by name within each. What lies there under another kind of name is none.
    pub fn folders(&self) -> impl Iterator<Item = Result<Vec<Lying>, StoreError>> + use<> {
        let root = self.root.clone();
        (0..FOLDERS).map(move |n| list(&root.join(format!("{n:02x}"))))
    }

    /// Removes a blob that nobody touched since `before`. Whoever touches it at the same moment finds it, or finds
    /// that it is not here; the bytes removed are the answer, none if it stays.
    pub fn remove_old(&self, digest: Digest, before: SystemTime) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        let fail = |e: std::io::Error| StoreError::file(&path)(e);
        let there = match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            there => there.map_err(fail)?,
        };
        if last_change(&there) >= before {
            return Ok(None);
        }
        // Under another name nobody can touch it any more: what was touched until now shows.
        let doomed = self.root.join("staging").join(format!("doomed-{digest}"));
        match std::fs::rename(&path, &doomed) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            moved => moved.map_err(fail)?,
        }
        let touched = std::fs::metadata(&doomed).and_then(|m| m.modified()).map_err(fail)? >= before;
        if touched && !path.exists() {
            std::fs::rename(&doomed, &path).map_err(fail)?;
            return Ok(None);
        }
        std::fs::remove_file(&doomed).map_err(fail)?;
        Ok(Some(there.len()))
    }

    /// Reads a blob from the disk, past what the system remembers of it, and gives the hash of what is there; none if
    /// it is not here. `each` hears of every piece that was read.
    pub fn rehash(&self, digest: Digest, mut each: impl FnMut(usize)) -> Result<Option<Digest>, StoreError> {
        let path = self.path(digest);
        let fail = |e: std::io::Error| StoreError::file(&path)(e);
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(fail)?,
        };
        // A file system that takes no advice is read all the same.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let mut buffer = vec![0; READ_BYTES];
        let mut hasher = Sha256::new();
        loop {
            let n = file.read(&mut buffer).map_err(fail)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            each(n);
        }
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Some(Digest::from_bytes(hasher.finalize().into())))
    }

    /// Takes the name from a blob whose bytes are wrong: it is not served any more. Gives the place where it lies now.
    pub fn set_aside(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        let folder = self.damaged_folder();
        std::fs::create_dir_all(&folder).map_err(StoreError::file(&folder))?;
        let (from, to) = (self.path(digest), folder.join(digest.to_string()));
        std::fs::rename(&from, &to).map_err(StoreError::file(&from))?;
        Ok(to)
    }

    /// The blobs that were set aside.
    pub fn damaged(&self) -> Result<Vec<Lying>, StoreError> {
        list(&self.damaged_folder())
    }

    /// Forgets the damaged bytes of a blob that is here again.
    pub fn forget_damaged(&self, digest: Digest) {
        // It may never have been set aside.
        let _ = std::fs::remove_file(self.damaged_folder().join(digest.to_string()));
    }

    fn damaged_folder(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// Removes what was left in staging and not written to since `before`. Gives files and bytes; a dry run leaves
    /// them there.
    pub fn sweep_staging(&self, before: SystemTime, dry: bool) -> Result<(u64, u64), StoreError> {
        let (mut files, mut bytes) = (0, 0);
        for entry in entries(&self.staging())? {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_file() && last_change(&meta) < before {
                // Somebody else may sweep at the same time.
                if dry || std::fs::remove_file(entry.path()).is_ok() {
                    files += 1;
                    bytes += meta.len();
                }
            }
        }
        Ok((files, bytes))
    }
}

/// When a file was last written, renamed or touched.
fn last_change(meta: &std::fs::Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt as _;
    let renamed = u64::try_from(meta.ctime()).unwrap_or(0);
    let renamed = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(renamed);
    meta.modified().map_or(renamed, |written| written.max(renamed))
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, StoreError> {
    match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read
            .and_then(Iterator::collect::<std::io::Result<Vec<DirEntry>>>)
            .map_err(StoreError::file(folder)),
    }
}

fn list(folder: &Path) -> Result<Vec<Lying>, StoreError> {
    let mut out = Vec::new();
    for entry in entries(folder)? {
        let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Somebody else may have removed it.
        let Ok(meta) = entry.metadata() else { continue };
        out.push(Lying { digest, size: meta.len(), since: last_change(&meta) });
    }
    out.sort_by_key(|lying| lying.digest);
    Ok(out)
}
