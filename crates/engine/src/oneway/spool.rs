//! Where a bundle that comes piece by piece is put together, and stays until it is whole.
//!
//! ```text
//!   INTO/incoming/<manifest>/        the bundle as far as it is there
//!   INTO/incoming/<manifest>.have    which bytes of the data are there (`record`)
//!   INTO/incoming/<manifest>.missing what is missing, for people and for the sender
//!   INTO/incoming/arriving-*/        what may turn out to be nothing
//!   INTO/<stream>-<number>/          the bundle, whole and verified, under the name that `import` is given
//! ```
//!
//! The record of what is there is written behind the bytes and not synced with them: it may say too much after the power
//! failed. That does no harm, since a file counts only when its hash was computed from what lies there, in the same run in
//! which the bundle gets its name; what does not fit is missing again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{IoSlice, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use airlock_core::bundle::{MANIFEST, ROOT, SIGNATURES};
use airlock_core::id::Digest;
use airlock_formats::oneway::missing::Missing;

use super::door::Door;
use super::hasher::Reached;
use super::members::{self, Members};
use super::quota;
use super::record::Record;
use crate::bundle::{media, signing, verify};
use crate::error::{Error, Result, file_error};

/// How folders begin in which lies what may turn out to be nothing.
pub(super) const ARRIVING: &str = "arriving-";
/// The folder of what is not whole yet.
const INCOMING: &str = "incoming";
/// Files from this size on, in bytes, are hashed while they come.
const LARGE_BYTES: u64 = 16 << 20;
/// Of those, so many bytes at once.
const STRETCH_BYTES: u64 = 8 << 20;
/// Files that are kept open.
const OPEN_MAX: usize = 64;
/// Pieces that are written at once.
const SLICES_MAX: usize = 512;

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All of it is there, and it is being hashed.
    Whole,
    Verified,
}

/// A bundle that is being put together.
pub(super) struct Spool {
    into: PathBuf,
    dir: PathBuf,
    /// The files.
    pub members: Members,
    record: Record,
    states: Vec<State>,
    verified: usize,
    told: BTreeMap<usize, u64>,
    open: BTreeMap<usize, File>,
}

/// The folder of what is not whole yet, which is made where it is not.
pub(super) fn incoming(into: &Path) -> Result<PathBuf> {
    let dir = into.join(INCOMING);
    fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    Ok(dir)
}

/// A file that tells of a bundle and lies beside its folder.
pub(super) fn beside(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes a document in: its manifest must be the one that was announced, and may come in. Nothing of any other is left behind.
/// What its files take must fit what is free and the quota.
pub(super) fn accept(
    into: &Path,
    door: &Door,
    announced: Digest,
    (mut document, total): (File, u64),
    quota: Option<u64>,
) -> Result<()> {
    let incoming = incoming(into)?;
    let parts = members::parts(&document, total).map_err(file_error(&incoming))?.ok_or_else(another)?;
    let folder = arriving(&incoming)?;
    for (name, range) in [MANIFEST, SIGNATURES, ROOT].into_iter().zip(parts) {
        if name == ROOT && range.is_empty() {
            continue;
        }
        let path = folder.path().join(name);
        document.seek(SeekFrom::Start(range.start)).map_err(file_error(&incoming))?;
        let mut file = File::create(&path).map_err(file_error(&path))?;
        let size = range.end - range.start;
        let copied = std::io::copy(&mut (&mut document).take(size), &mut file).map_err(file_error(&path))?;
        if copied < size {
            return Err(Error::fault("the manifest that came is shorter by now than it was")
                .hint("look after the disk of this station; the sender's next pass brings it again"));
        }
    }
    accept_folder(&incoming, door, announced, folder.path(), quota)
}

fn another() -> Error {
    Error::unsafe_("the document that came is not the one that was announced")
}

/// The same where manifest, signatures and root lie in a folder of what arrives, from which they are moved. A bundle that waits
/// already is left as it is but for its signatures.
pub(super) fn accept_folder(
    incoming: &Path,
    door: &Door,
    announced: Digest,
    folder: &Path,
    quota: Option<u64>,
) -> Result<()> {
    if verify::manifest_hash(folder)? != announced {
        return Err(another());
    }
    let members = door.open(folder)?;
    let dir = incoming.join(announced.to_string());
    if dir.join(MANIFEST).exists() {
        return add_signatures(incoming, door, &dir, folder);
    }
    quota::check(incoming, door, (&members, folder), quota)?;
    fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    // The manifest last: where it is, all are.
    for name in [ROOT, SIGNATURES, MANIFEST] {
        let (from, to) = (folder.join(name), dir.join(name));
        match fs::rename(&from, &to) {
            Err(e) if name == ROOT && e.kind() == std::io::ErrorKind::NotFound => {}
            moved => moved.map_err(file_error(&to))?,
        }
    }
    Ok(())
}

/// Adds to the signatures of a bundle those of another copy of it, as far as they count for something. Nothing is replaced before the
/// bundle with all of them may come in: whoever can write here cannot make one that is waiting or delivered be refused.
fn add_signatures(incoming: &Path, door: &Door, dir: &Path, copy: &Path) -> Result<()> {
    let Some(all) = signing::merged(dir, copy, &door.trusted()?)? else { return Ok(()) };
    let tried = arriving(incoming)?;
    lay_out(dir, tried.path(), all.as_bytes())?;
    door.open(tried.path())?;
    signing::replace(dir, &all)
}

/// Lays manifest and root of a bundle out once more, with other signatures.
fn lay_out(dir: &Path, into: &Path, signatures: &[u8]) -> Result<()> {
    for name in [MANIFEST, ROOT] {
        let (from, to) = (dir.join(name), into.join(name));
        // A copy that takes no room, where the file system has such.
        match fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ())) {
            Err(e) if name == ROOT && e.kind() == std::io::ErrorKind::NotFound => {}
            copied => copied.map_err(file_error(&from))?,
        }
    }
    let path = into.join(SIGNATURES);
    fs::write(&path, signatures).map_err(file_error(&path))
}

/// Adds further signatures to a bundle, if it may come in by them.
pub(super) fn renew(incoming: &Path, door: &Door, dir: &Path, signatures: &[u8]) -> Result<()> {
    let held = dir.join(SIGNATURES);
    if fs::read(&held).map_err(file_error(&held))? == signatures {
        return Ok(());
    }
    let folder = arriving(incoming)?;
    lay_out(dir, folder.path(), signatures)?;
    door.open(folder.path())?;
    add_signatures(incoming, door, dir, folder.path())
}

/// A folder for what may turn out to be nothing. What a kill left of them goes when the spool is locked next time.
pub(super) fn arriving(incoming: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(ARRIVING).tempdir_in(incoming).map_err(file_error(incoming))
}

/// Keeps others from writing into the same spool for as long as the file is open, and tidies up after whoever did before.
pub(super) fn lock(incoming: &Path) -> Result<File> {
    let path = incoming.join("lock");
    let file = OpenOptions::new().append(true).create(true).open(&path).map_err(file_error(&path))?;
    match file.try_lock() {
        Ok(()) => sweep(incoming).map(|()| file),
        Err(TryLockError::Error(e)) => Err(file_error(&path)(e)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::usage(format!("another `airlock receive` writes into {}", incoming.display()))
                .hint("end it, or give another folder with --into"))
        }
    }
}

/// Removes what a kill left of what was arriving, or got its name.
fn sweep(incoming: &Path) -> Result<()> {
    for entry in fs::read_dir(incoming).map_err(file_error(incoming))? {
        let entry = entry.map_err(file_error(incoming))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(ARRIVING) {
            let is_folder = entry.file_type().map_err(file_error(&path))?.is_dir();
            let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(file_error(&path))?;
            continue;
        }
        // A bundle that got its name while its record was still to be removed.
        let of = [".have", ".missing"].iter().find_map(|ending| name.strip_suffix(ending));
        if of.is_some_and(|bundle| !incoming.join(bundle).exists()) {
            fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    Ok(())
}

impl Spool {
    /// Opens what is there of a transfer; none where nothing is.
    ///
    /// # Errors
    ///
    /// It may not come in any more, or another sending of it is being received: two would write into the same files.
    pub fn open(into: &Path, door: &Door, transfer: Digest) -> Result<Option<Self>> {
        let dir = incoming(into)?.join(transfer.to_string());
        if !dir.join(MANIFEST).exists() {
            return Ok(None);
        }
        let members = door.open(&dir)?;
        if members.transfer != transfer {
            return Err(Error::unsafe_(format!(
                "{} holds another manifest than its name says",
                dir.display()
            ))
            .hint("remove the folder; the sender's next pass brings it anew"));
        }
        let mut record = Record::open(&beside(&dir, ".have"), members.bytes())?;
        let (mut states, mut verified) = (vec![State::Open; members.count()], 0);
        // The door believed the root that lies there by its hash. From now on nobody writes into it.
        let root = members.find(ROOT).and_then(|at| Some((at, members.range(at)?)));
        if let Some((at, range)) = root
            && let Some(state) = states.get_mut(at)
        {
            record.take_for_there(range);
            (*state, verified) = (State::Verified, 1);
        }
        let (told, open) = (BTreeMap::new(), BTreeMap::new());
        let into = into.to_owned();
        Ok(Some(Self { into, dir, members, record, states, verified, told, open }))
    }

    /// The folder in which the bundle will stand.
    pub fn place(&self) -> PathBuf {
        self.into.join(format!("{}-{}", self.members.stream, self.members.number))
    }

    /// Whether this very bundle stands there already. It gets the signatures with which it came now, too.
    pub fn is_delivered(&self, door: &Door) -> Result<bool> {
        let place = self.place();
        if !place.exists() {
            return Ok(false);
        }
        if verify::manifest_hash(&place)? == self.members.transfer {
            return add_signatures(&incoming(&self.into)?, door, &place, &self.dir).map(|()| true);
        }
        Err(Error::fault(format!("{} holds another bundle", place.display()))
            .hint("import it and move it away, then receive this one again"))
    }

    /// What of this run's beginning is to be hashed: files that are whole already, and empty ones, which are made.
    pub fn begin(&mut self) -> Result<Vec<Reached>> {
        let is_empty = |at: &usize| self.members.range(*at).is_some_and(|range| range.is_empty());
        for (path, _) in (0..self.states.len()).filter(is_empty).filter_map(|at| self.members.file(at)) {
            create(&self.dir.join(path))?;
        }
        Ok((0..self.states.len()).filter_map(|at| self.reached(at)).collect())
    }

    /// Writes pieces, in order of their offsets; what is there already is left as it is. Gives how many bytes are new,
    /// and the files that got further.
    pub fn put(&mut self, pieces: &[(u64, &[u8])]) -> Result<(u64, Vec<Reached>)> {
        let total = self.members.bytes();
        let is_wanted = |&&(offset, bytes): &&(u64, &[u8])| {
            let end = offset + bytes.len() as u64;
            !bytes.is_empty() && end <= total && !self.record.have().holds(offset..end)
        };
        let wanted: Vec<(u64, &[u8])> = pieces.iter().filter(is_wanted).copied().collect();
        let (before, mut touched) = (self.record.have().bytes(), Vec::new());
        for run in wanted.chunk_by(|(offset, bytes), (next, _)| offset + bytes.len() as u64 == *next) {
            for run in run.chunks(SLICES_MAX) {
                self.put_run(run, &mut touched)?;
            }
        }
        touched.dedup();
        let reached = touched.into_iter().filter_map(|at| self.reached(at)).collect();
        Ok((self.record.have().bytes() - before, reached))
    }

    /// Writes pieces that follow one another.
    fn put_run(&mut self, run: &[(u64, &[u8])], touched: &mut Vec<usize>) -> Result<()> {
        let (Some((start, _)), Some((last, bytes))) = (run.first(), run.last()) else { return Ok(()) };
        let range = *start..last + bytes.len() as u64;
        let files: Vec<(usize, Range<u64>)> = self.members.within(range.clone()).collect();
        for (at, member) in files {
            let slices: Vec<IoSlice<'_>> = run.iter().filter_map(|piece| part(*piece, &member)).collect();
            let offset = range.start.max(member.start) - member.start;
            // What was verified is not written again, whatever comes.
            if self.states.get(at) != Some(&State::Verified) {
                self.write(at, offset, slices)?;
                touched.push(at);
            }
        }
        self.record.add(range)
    }

    fn write(&mut self, at: usize, mut offset: u64, mut slices: Vec<IoSlice<'_>>) -> Result<()> {
        let Some((path, _)) = self.members.file(at) else { return Ok(()) };
        let path = self.dir.join(path);
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&at) {
            self.open.clear();
        }
        let file = match self.open.entry(at) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(room) => room.insert(create(&path)?),
        };
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let n = rustix::io::pwritev(&*file, rest, offset).map_err(|e| full(&path, e.into()))?;
            if n == 0 {
                return Err(full(&path, std::io::ErrorKind::WriteZero.into()));
            }
            offset += n as u64;
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(())
    }

    /// What is to be said to the hasher of a file, if anything is.
    fn reached(&mut self, at: usize) -> Option<Reached> {
        let (range, state) = (self.members.range(at)?, self.states.get_mut(at)?);
        if *state != State::Open {
            return None;
        }
        let size = range.end - range.start;
        let upto = self.record.have().end_of(range.start).min(range.end) - range.start;
        let told = self.told.get(&at).copied().unwrap_or(0);
        if upto == size {
            *state = State::Whole;
            self.told.remove(&at);
            self.open.remove(&at);
        } else if size >= LARGE_BYTES && upto >= told + STRETCH_BYTES {
            self.told.insert(at, upto);
        } else {
            return None;
        }
        let (path, sha256) = self.members.file(at)?;
        Some(Reached { at, path: self.dir.join(path), size, sha256, upto })
    }

    /// Whether a whole file has its hash. What has not is missing again.
    pub fn judged(&mut self, at: usize, fits: bool) -> Result<()> {
        let (Some(state), Some(range)) = (self.states.get_mut(at), self.members.range(at)) else {
            return Ok(());
        };
        if fits {
            *state = State::Verified;
            self.verified += 1;
            return Ok(());
        }
        *state = State::Open;
        self.record.remove(range)
    }

    /// Whether a file is not whole yet.
    pub fn is_open(&self, at: usize) -> bool {
        self.states.get(at) == Some(&State::Open)
    }

    /// Whether files are whole of which it is not known whether they have their hash.
    pub fn is_checking(&self) -> bool {
        self.states.contains(&State::Whole)
    }

    /// A file that is whole and of which that is not known.
    pub fn whole(&self, at: usize) -> Option<Reached> {
        let range = self.members.range(at).filter(|_| self.states.get(at) == Some(&State::Whole))?;
        let (size, (path, sha256)) = (range.end - range.start, self.members.file(at)?);
        Some(Reached { at, path: self.dir.join(path), size, sha256, upto: size })
    }

    /// Bytes of a file that are there without a gap.
    pub fn upto(&self, at: usize) -> u64 {
        let range = self.members.range(at).unwrap_or_default();
        self.record.have().end_of(range.start).min(range.end) - range.start
    }

    /// Takes what is there of a file for missing.
    pub fn forget(&mut self, at: usize) -> Result<()> {
        let Some(range) = self.members.range(at) else { return Ok(()) };
        if self.record.have().missing(range.clone()) == [range] { Ok(()) } else { self.judged(at, false) }
    }

    /// Whether every file is there and has its hash.
    pub fn is_complete(&self) -> bool {
        self.verified == self.states.len()
    }

    /// Bytes that are there.
    pub fn arrived(&self) -> u64 {
        self.record.have().bytes()
    }

    /// What is missing.
    pub fn missing(&self) -> Missing {
        self.members.missing(self.record.have(), |at| self.states.get(at) == Some(&State::Verified))
    }

    /// Writes down what is missing, and gives where.
    pub fn list_missing(&self) -> Result<PathBuf> {
        let path = beside(&self.dir, ".missing");
        fs::write(&path, self.missing().to_string()).map_err(|e| full(&path, e))?;
        Ok(path)
    }

    /// The folder that is synced.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives a complete bundle its name, on the disk, if it still may come in.
    pub fn deliver(self, door: &Door) -> Result<()> {
        if !self.is_complete() {
            return Err(Error::fault("a bundle that is not complete cannot be delivered"));
        }
        door.open(&self.dir)?;
        let place = self.place();
        media::sync(&self.dir)?;
        if !self.is_delivered(door)? {
            fs::rename(&self.dir, &place).map_err(file_error(&place))?;
        }
        self.remove()
    }

    /// Removes what waits of this bundle.
    pub fn remove(self) -> Result<()> {
        for ending in [".have", ".missing"] {
            let path = beside(&self.dir, ending);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&path)(e)),
                _ => {}
            }
        }
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&self.dir)(e)),
            _ => {}
        }
        let folder = File::open(&self.into).map_err(file_error(&self.into))?;
        folder.sync_all().map_err(file_error(&self.into))
    }
}

/// What of a piece lies in a file.
fn part<'a>((offset, bytes): (u64, &'a [u8]), file: &Range<u64>) -> Option<IoSlice<'a>> {
    let end = (offset + bytes.len() as u64).min(file.end).checked_sub(offset)?;
    let start = file.start.saturating_sub(offset);
    let bytes = bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    (!bytes.is_empty()).then(|| IoSlice::new(bytes))
}

fn create(path: &Path) -> Result<File> {
    let open = || {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path)
    };
    let file = match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder).map_err(|e| full(folder, e))?;
            open()
        }
        file => file,
    };
    file.map_err(|e| full(path, e))
}

pub(super) fn full(path: &Path, e: std::io::Error) -> Error {
    file_error(path)(e).hint("make room on the disk and run it again; what arrived is kept")
}
