//! Many blobs that count together or not at all, such as those of one bundle.
//!
//! They are collected in a folder of their own that survives the process: whoever comes after one that was killed
//! finds what it had written, and believes nothing of it but what hashes to its name. None of it is in the store
//! before [`Intake::commit`].
//!
//! Whoever collects blobs calls them by numbers, such as their places in the list of a bundle: of each it is remembered here whether
//! it is whole, and not what it hashes to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use airlock_core::id::Digest;

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::scratch;

/// A blob of so many bytes is brought onto the disk by itself.
const LARGE_BYTES: u64 = 4 << 20;
/// After so many bytes the disk begins with what was written of a blob, while the rest comes.
const STRETCH_BYTES: u64 = 8 << 20;
/// What the folders of intakes are called in the staging folder.
pub(crate) const PREFIX: &str = "import-";
/// The file in an intake's folder that says whose it is.
pub(crate) const LABEL: &str = "label";
/// How long an intake that was broken off waits for being resumed.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A stretch of a blob that comes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The blob.
    pub blob: Digest,
    /// Where in it the part begins.
    pub first: u64,
    /// SHA-256 of the part.
    pub sha256: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Blobs that are being collected.
#[derive(Debug)]
pub struct Intake {
    blobs: Blobs,
    dir: PathBuf,
    /// Something may lie there that this process did not write.
    is_resumed: bool,
    /// What is whole and was hashed by this process.
    whole: Mutex<Whole>,
    _lock: File,
}

/// The numbers of blobs that are whole. There are as many as a bundle has files, while its list is held, which says their hashes.
#[derive(Debug, Default)]
struct Whole {
    bits: Vec<u64>,
    sum: Sum,
}

impl Whole {
    fn mark(&mut self, number: u32, digest: Digest) {
        let (at, bit) = (number as usize / 64, 1 << (number % 64));
        if self.bits.len() <= at {
            self.bits.resize(at + 1, 0);
        }
        if self.bits[at] & bit == 0 {
            self.bits[at] |= bit;
            self.sum.add(digest);
        }
    }

    fn has(&self, number: u32) -> bool {
        self.bits.get(number as usize / 64).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }
}

/// What hashes add up to: whoever calls blobs by others than those that they had when they came is found by it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    bytes: [u8; 32],
}

impl Sum {
    fn add(&mut self, digest: Digest) {
        self.count += 1;
        self.bytes.iter_mut().zip(digest.as_bytes()).for_each(|(sum, byte)| *sum ^= byte);
    }
}

/// Where blobs that share their first two digits get their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folder {
    /// None came yet.
    Unknown,
    /// The folder became the store's, with all that is in it.
    Moved,
    /// Each by itself.
    There,
}

impl Intake {
    pub(crate) fn open(blobs: Blobs, name: &str) -> Result<Self, StoreError> {
        let dir = blobs.staging().join(format!("{PREFIX}{name}"));
        let fail = || StoreError::file(&dir);
        let is_resumed = match std::fs::create_dir(&dir) {
            Ok(()) => false,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => true,
            Err(e) => return Err(fail()(e)),
        };
        let held = || std::io::Error::other("another process is using it");
        let lock = scratch::lock(&dir)?.ok_or_else(|| fail()(held()))?;
        // So that nobody takes it for abandoned.
        lock.set_modified(SystemTime::now()).map_err(fail())?;
        Ok(Self { blobs, dir: dir.clone(), is_resumed, whole: Mutex::default(), _lock: lock })
    }

    /// Says whose it is, for whoever finds it after it was broken off.
    pub fn label(&self, label: &[u8]) -> Result<(), StoreError> {
        let path = self.dir.join(LABEL);
        std::fs::write(&path, label).map_err(StoreError::file(path))
    }

    /// Where a blob lies that this intake has taken in.
    pub fn path_of(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.join(&hex[..2]).join(hex)
    }

    fn note(&self, number: u32, digest: Digest) {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).mark(number, digest);
    }

    /// Whether a process that was killed had taken in the whole of this blob. It is hashed to find out.
    pub fn holds(
        &self,
        (number, digest): (u32, Digest),
        size: u64,
        buffer: &mut [u8],
    ) -> Result<bool, StoreError> {
        if !self.is_resumed {
            return Ok(false);
        }
        let path = self.path_of(digest);
        let Some((file, length)) = opened(&path)? else { return Ok(false) };
        let is_whole = length == size && hash(file, &path, buffer)? == digest;
        if is_whole {
            self.note(number, digest);
        }
        Ok(is_whole)
    }

    /// Whether a process that was killed had taken in this part of a blob.
    pub fn holds_part(&self, part: &Part, buffer: &mut [u8]) -> Result<bool, StoreError> {
        if !self.is_resumed {
            return Ok(false);
        }
        let path = self.path_of(part.blob);
        let Some((mut file, length)) = opened(&path)? else { return Ok(false) };
        if part.first.checked_add(part.size).is_none_or(|end| end > length) {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(part.first)).map_err(StoreError::file(&path))?;
        Ok(hash(file.take(part.size), &path, buffer)? == part.sha256)
    }

    /// Whether the parts that came of a blob make it. From then on it counts as any other.
    pub fn join(
        &self,
        (number, blob): (u32, Digest),
        size: u64,
        buffer: &mut [u8],
    ) -> Result<bool, StoreError> {
        let path = self.path_of(blob);
        let Some((file, length)) = opened(&path)? else { return Ok(false) };
        let is_whole = length == size && hash(file, &path, buffer)? == blob;
        if is_whole {
            self.note(number, blob);
        }
        Ok(is_whole)
    }

    /// How many bytes a process that was killed may have taken in of a blob that comes in parts.
    pub fn may_hold_of(&self, blob: Digest) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let there = std::fs::metadata(self.path_of(blob)).ok().filter(|_| self.is_resumed);
        there.map_or(0, |meta| meta.blocks().saturating_mul(512))
    }

    /// Whether a process that was killed had begun to take in this blob.
    pub fn may_hold(&self, digest: Digest) -> bool {
        self.is_resumed && self.path_of(digest).exists()
    }

    /// Starts to write the blob of this number and hash.
    pub fn begin(&self, (number, digest): (u32, Digest)) -> Result<Incoming<'_>, StoreError> {
        self.open_to_write(digest, Goes::Whole(number), digest)
    }

    /// Starts to write a part of a blob. It lies in its place in the blob from the first byte on, so that nothing need be copied when
    /// the last part is there; [`Intake::join`] says then whether they make the blob.
    pub fn begin_part(&self, part: &Part) -> Result<Incoming<'_>, StoreError> {
        self.open_to_write(part.blob, Goes::Part(*part), part.sha256)
    }

    fn open_to_write(&self, blob: Digest, goes: Goes, wanted: Digest) -> Result<Incoming<'_>, StoreError> {
        let path = self.path_of(blob);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(goes.part().is_none());
        let file = match options.open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(StoreError::file(folder))?;
                }
                options.open(&path)
            }
            other => other,
        };
        let mut file = file.map_err(StoreError::file(&path))?;
        if let Goes::Part(Part { first, .. }) = goes {
            file.seek(SeekFrom::Start(first)).map_err(StoreError::file(&path))?;
        }
        Ok(Incoming {
            intake: self,
            file,
            path,
            goes,
            wanted,
            hasher: Sha256::new(),
            size: 0,
            begun: 0,
            is_whole: false,
        })
    }

    /// Syncs everything once and gives the blobs their names. Before this returns, some of them may be in the store,
    /// whole; after it, all of them are, whatever happens to the power. `blobs` says which hash each has that came; others it
    /// may name, too. Nothing gets a name where they are not those that came.
    pub fn commit(
        self,
        blobs: impl IntoIterator<Item = (u32, Digest), IntoIter: Clone>,
    ) -> Result<(), StoreError> {
        let whole = std::mem::take(&mut *self.whole.lock().unwrap_or_else(PoisonError::into_inner));
        let blobs = blobs.into_iter().filter(|(number, _)| whole.has(*number)).map(|(_, digest)| digest);
        let mut named = Sum::default();
        blobs.clone().for_each(|digest| named.add(digest));
        if named != whole.sum {
            let (came, named) = (whole.sum.count, named.count);
            let others =
                format!("{came} blobs came, and the {named} that are called by their hashes are others");
            return Err(StoreError::file(&self.dir)(std::io::Error::other(others)));
        }
        let count = named.count;
        if count > 0 {
            self.blobs.sync()?;
        }
        let mut folders = [Folder::Unknown; 256];
        for digest in blobs {
            self.name(digest, &mut folders[usize::from(digest.as_bytes()[0])])?;
        }
        std::fs::remove_dir_all(&self.dir).map_err(StoreError::file(&self.dir))?;
        if count == 0 { Ok(()) } else { self.blobs.sync() }
    }

    /// Gives a blob its name.
    fn name(&self, digest: Digest, folder: &mut Folder) -> Result<(), StoreError> {
        let (from, to) = (self.path_of(digest), self.blobs.path(digest));
        if *folder == Folder::Unknown
            && let (Some(ours), Some(stores)) = (from.parent(), to.parent())
        {
            // Where the store has no such folder yet, the whole of ours becomes it: nothing lies in it but what this
            // process wrote and hashed.
            *folder = match !self.is_resumed && std::fs::rename(ours, stores).is_ok() {
                true => Folder::Moved,
                false => {
                    std::fs::create_dir_all(stores).map_err(StoreError::file(stores))?;
                    Folder::There
                }
            };
        }
        if *folder == Folder::Moved {
            return Ok(());
        }
        match std::fs::rename(from, &to) {
            // Of another number, which has the same bytes.
            Err(e) if e.kind() == ErrorKind::NotFound && to.exists() => Ok(()),
            renamed => renamed.map_err(StoreError::file(to)),
        }
    }

    /// Brings what came onto the disk, where it waits for the rest.
    pub fn keep(self) -> Result<(), StoreError> {
        self.blobs.sync()
    }

    /// Forgets all of it.
    pub fn discard(self) -> Result<(), StoreError> {
        std::fs::remove_dir_all(&self.dir).map_err(StoreError::file(&self.dir))
    }
}

/// The file at a place and its length, if there is one.
fn opened(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    match File::open(path) {
        Ok(file) => {
            let length = file.metadata().map_err(StoreError::file(path))?.len();
            Ok(Some((file, length)))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::file(path)(e)),
    }
}

fn hash(mut from: impl Read, path: &Path, buffer: &mut [u8]) -> Result<Digest, StoreError> {
    let mut hasher = Sha256::new();
    loop {
        match from.read(buffer).map_err(StoreError::file(path))? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// What comes.
#[derive(Clone, Copy, Debug)]
enum Goes {
    /// The blob of this number.
    Whole(u32),
    /// Of a blob that comes in parts, which: nothing is written beside it, whatever comes.
    Part(Part),
}

impl Goes {
    fn part(&self) -> Option<&Part> {
        match self {
            Self::Whole(_) => None,
            Self::Part(part) => Some(part),
        }
    }
}

/// A blob of an intake, or a part of one, that is being written and hashed. Dropped before [`Incoming::finish`] said that it is
/// whole, it leaves nothing behind, or nothing that would be believed where other parts lie beside it.
#[derive(Debug)]
pub struct Incoming<'a> {
    intake: &'a Intake,
    file: File,
    path: PathBuf,
    goes: Goes,
    wanted: Digest,
    hasher: Sha256,
    size: u64,
    /// How many of its bytes the disk was told to begin with.
    begun: u64,
    is_whole: bool,
}

impl Incoming<'_> {
    /// Where in the file it begins.
    fn first(&self) -> u64 {
        self.goes.part().map_or(0, |part| part.first)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        let room = self.goes.part().map_or(u64::MAX, |part| part.size.saturating_sub(self.size));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(bytes.get(..fits).unwrap_or_default()).map_err(StoreError::file(&self.path))?;
        self.size += bytes.len() as u64;
        let waiting = self.size - self.begun;
        if waiting >= STRETCH_BYTES {
            // What is not on the disk yet cannot be forgotten: the wish only starts the writing.
            let begun = self.first().saturating_add(self.begun);
            let _ = fadvise(&self.file, begun, NonZeroU64::new(waiting), Advice::DontNeed);
            self.begun = self.size;
        }
        Ok(())
    }

    /// Takes the blocks of a file as they are, where that lies in the same file system and it can share them, and hashes the at most
    /// `size` bytes that are here then: whatever becomes of the other file, these stay. Says whether it could; else they are to be written,
    /// also where what was shared cannot be read, since whose fault that is shows when it is copied.
    pub fn share(
        &mut self,
        from: &File,
        size: u64,
        buffer: &mut [u8],
        told: impl Fn(u64),
    ) -> Result<bool, StoreError> {
        if self.goes.part().is_some() {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(&self.file, from) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => return Ok(false),
            Err(_) => return self.restart().map(|()| false),
        }
        // One more than it may have, so that what is longer hashes to something else.
        let most = size.saturating_add(1);
        let mut own = File::open(&self.path).map_err(StoreError::file(&self.path))?.take(most);
        loop {
            let Ok(n) = own.read(buffer) else { return self.restart().map(|()| false) };
            let bytes = buffer.get(..n).unwrap_or_default();
            self.hasher.update(bytes);
            self.size += n as u64;
            let waiting = self.size - self.begun;
            if waiting >= STRETCH_BYTES || n == 0 {
                let _ = fadvise(own.get_ref(), self.begun, NonZeroU64::new(waiting), Advice::DontNeed);
                self.begun = self.size;
            }
            if n == 0 {
                told(self.size);
                return Ok(true);
            }
        }
    }

    /// Forgets all bytes: the blob comes from its beginning again.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let emptied = match self.goes.part() {
            Some(part) => self.file.seek(SeekFrom::Start(part.first)).map(|_| ()),
            None => self.file.set_len(0).and_then(|()| self.file.rewind()),
        };
        emptied.map_err(StoreError::file(&self.path))?;
        (self.hasher, self.size, self.begun) = (Sha256::new(), 0, 0);
        Ok(())
    }

    /// Says whether the bytes hash to what was announced.
    ///
    /// # Errors
    ///
    /// [`StoreError::Hash`], where they do not.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let found = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        if found != self.wanted {
            return Err(StoreError::Hash { wanted: self.wanted, found });
        }
        if self.size >= LARGE_BYTES {
            // Its bytes travel while the next blob is read, not all of them at the end.
            self.file.sync_data().map_err(StoreError::file(&self.path))?;
            // Taking in much more than memory holds pushes nothing else out of it.
            let _ = fadvise(&self.file, self.first(), NonZeroU64::new(self.size), Advice::DontNeed);
        }
        self.is_whole = true;
        if let Goes::Whole(number) = self.goes {
            self.intake.note(number, found);
        }
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.is_whole && self.goes.part().is_none() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
