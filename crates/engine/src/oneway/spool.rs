//! Where a bundle that comes piece by piece is put together, and stays until it is whole.
//!
//! ```text
//!   INTO/incoming/<manifest>/        the bundle as far as it is there
//!   INTO/incoming/<manifest>.have    which bytes of the data are: records of 17 bytes, `+` or `-`, first, end (big-endian)
//!   INTO/incoming/<manifest>.missing what is missing, for people and for the sender
//!   INTO/<stream>-<number>/          the bundle, whole and verified, under the name that `import` is given
//! ```
//!
//! The record of what is there is written behind the bytes and not synced with them: it may say too much after the power
//! failed. That does no harm, since a file counts only when its hash was computed from what lies there, in the same run in
//! which the bundle gets its name; what does not fit is missing again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{IoSlice, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use airlock_core::bundle::{MANIFEST, ROOT, SIGNATURES};
use airlock_core::id::Digest;
use airlock_formats::oneway::missing::Missing;
use airlock_formats::oneway::ranges::Ranges;

use super::hasher::Reached;
use super::members::{self, Members};
use crate::bundle::media;
use crate::bundle::signing::Trusted;
use crate::error::{Error, Result, file_error};

/// The folder of what is not whole yet.
const INCOMING: &str = "incoming";
/// Bytes of a record of what is there.
const RECORD_BYTES: usize = 17;
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
    have: Ranges,
    record: File,
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

fn beside(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes a document in: its manifest must be the one that was announced, and signed by a known key. Nothing of any other is
/// left behind. Its bytes must fit what is free and the quota.
pub(super) fn accept(
    into: &Path,
    trusted: &Trusted,
    announced: Digest,
    document: &[u8],
    quota: Option<u64>,
) -> Result<()> {
    let incoming = incoming(into)?;
    let bad = || Error::unsafe_("the document that came is not the one that was announced");
    let [manifest, signatures, root] = members::split(document).ok_or_else(bad)?;
    if Digest::of(manifest) != announced {
        return Err(bad());
    }
    let folder = tempfile::tempdir_in(&incoming).map_err(file_error(&incoming))?;
    for (name, bytes) in [(MANIFEST, manifest), (SIGNATURES, signatures), (ROOT, root)] {
        if name == ROOT && root.is_empty() {
            continue;
        }
        let path = folder.path().join(name);
        fs::write(&path, bytes).map_err(file_error(&path))?;
    }
    let members = Members::open(folder.path(), trusted)?;
    let sizes = members.list.iter().map(|m| m.range.end - m.range.start);
    media::check_room(into, media::room_for(sizes))?;
    if let Some(quota) = quota {
        let waiting = waiting(&incoming, trusted)?;
        if members.bytes().saturating_add(waiting) > quota {
            return Err(Error::fault(format!(
                "the bundle has {} bytes, {waiting} wait in {} already, and together they may be {quota}",
                members.bytes(),
                incoming.display()
            ))
            .hint("remove what is not waited for any more, or raise --quota"));
        }
    }
    let dir = incoming.join(announced.to_string());
    fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    // The manifest last: where it is, both are.
    for name in [ROOT, SIGNATURES, MANIFEST] {
        if name == ROOT && root.is_empty() {
            continue;
        }
        let path = dir.join(name);
        fs::rename(folder.path().join(name), &path).map_err(file_error(&path))?;
    }
    Ok(())
}

/// Keeps others from writing into the same spool for as long as the file is open.
pub(super) fn lock(incoming: &Path) -> Result<File> {
    let path = incoming.join("lock");
    let file = OpenOptions::new().append(true).create(true).open(&path).map_err(file_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(e)) => Err(file_error(&path)(e)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::usage(format!("another `airlock receive` writes into {}", incoming.display()))
                .hint("end it, or give another folder with --into"))
        }
    }
}

/// Bytes of all bundles that are not whole yet, as their manifests say.
fn waiting(incoming: &Path, trusted: &Trusted) -> Result<u64> {
    let mut sum = 0_u64;
    for entry in fs::read_dir(incoming).map_err(file_error(incoming))? {
        let path = entry.map_err(file_error(incoming))?.path();
        let is_one = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<Digest>().is_ok());
        if is_one && let Ok(members) = Members::open(&path, trusted) {
            sum = sum.saturating_add(members.bytes());
        }
    }
    Ok(sum)
}

impl Spool {
    /// Opens what is there of a transfer; none where nothing is.
    pub fn open(into: &Path, trusted: &Trusted, transfer: Digest) -> Result<Option<Self>> {
        let dir = incoming(into)?.join(transfer.to_string());
        if !dir.join(MANIFEST).exists() {
            return Ok(None);
        }
        let members = Members::open(&dir, trusted)?;
        if members.transfer != transfer {
            return Err(Error::unsafe_(format!(
                "{} holds another manifest than its name says",
                dir.display()
            ))
            .hint("remove the folder; the sender's next pass brings it anew"));
        }
        let (record, have) = recorded(&beside(&dir, ".have"), members.bytes())?;
        let states = vec![State::Open; members.list.len()];
        let (told, open) = (BTreeMap::new(), BTreeMap::new());
        let into = into.to_owned();
        Ok(Some(Self { into, dir, members, have, record, states, verified: 0, told, open }))
    }

    /// The folder in which the bundle will stand.
    pub fn place(&self) -> PathBuf {
        self.into.join(format!("{}-{}", self.members.stream, self.members.number))
    }

    /// Whether this very bundle stands there already.
    pub fn is_delivered(&self) -> Result<bool> {
        let place = self.place();
        if !place.exists() {
            return Ok(false);
        }
        let path = place.join(MANIFEST);
        let there = fs::read(&path).map_err(file_error(&path))?;
        if Digest::of(&there) == self.members.transfer {
            return Ok(true);
        }
        Err(Error::fault(format!("{} holds another bundle", place.display()))
            .hint("import it and move it away, then receive this one again"))
    }

    /// What of this run's beginning is to be hashed: files that are whole already, and empty ones, which are made.
    pub fn begin(&mut self) -> Result<Vec<Reached>> {
        for member in self.members.list.iter().filter(|m| m.range.is_empty()) {
            create(&self.dir.join(&member.path))?;
        }
        Ok((0..self.states.len()).filter_map(|at| self.reached(at)).collect())
    }

    /// Writes pieces, in order of their offsets; what is there already is left as it is. Gives how many bytes are new,
    /// and the files that got further.
    pub fn put(&mut self, pieces: &[(u64, &[u8])]) -> Result<(u64, Vec<Reached>)> {
        let total = self.members.bytes();
        let is_wanted = |&&(offset, bytes): &&(u64, &[u8])| {
            let end = offset + bytes.len() as u64;
            !bytes.is_empty() && end <= total && !self.have.holds(offset..end)
        };
        let wanted: Vec<(u64, &[u8])> = pieces.iter().filter(is_wanted).copied().collect();
        let (before, mut touched) = (self.have.bytes(), Vec::new());
        for run in wanted.chunk_by(|(offset, bytes), (next, _)| offset + bytes.len() as u64 == *next) {
            for run in run.chunks(SLICES_MAX) {
                self.put_run(run, &mut touched)?;
            }
        }
        touched.dedup();
        let reached = touched.into_iter().filter_map(|at| self.reached(at)).collect();
        Ok((self.have.bytes() - before, reached))
    }

    /// Writes pieces that follow one another.
    fn put_run(&mut self, run: &[(u64, &[u8])], touched: &mut Vec<usize>) -> Result<()> {
        let (Some((start, _)), Some((last, bytes))) = (run.first(), run.last()) else { return Ok(()) };
        let range = *start..last + bytes.len() as u64;
        let files: Vec<(usize, Range<u64>)> =
            self.members.within(range.clone()).map(|(at, member)| (at, member.range.clone())).collect();
        for (at, member) in files {
            let slices: Vec<IoSlice<'_>> = run.iter().filter_map(|piece| part(*piece, &member)).collect();
            let offset = range.start.max(member.start) - member.start;
            // What was verified is not written again, whatever comes.
            if self.states.get(at) != Some(&State::Verified) {
                self.write(at, offset, slices)?;
                touched.push(at);
            }
        }
        self.note(b'+', &range)?;
        self.have.insert(range);
        Ok(())
    }

    fn write(&mut self, at: usize, mut offset: u64, mut slices: Vec<IoSlice<'_>>) -> Result<()> {
        let Some(member) = self.members.list.get(at) else { return Ok(()) };
        let path = self.dir.join(&member.path);
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

    fn note(&mut self, sign: u8, range: &Range<u64>) -> Result<()> {
        let record = [&[sign][..], &range.start.to_be_bytes(), &range.end.to_be_bytes()].concat();
        self.record.write_all(&record).map_err(|e| full(&self.dir, e))
    }

    /// What is to be said to the hasher of a file, if anything is.
    fn reached(&mut self, at: usize) -> Option<Reached> {
        let (member, state) = (self.members.list.get(at)?, self.states.get_mut(at)?);
        if *state != State::Open {
            return None;
        }
        let size = member.range.end - member.range.start;
        let upto = self.have.end_of(member.range.start).min(member.range.end) - member.range.start;
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
        Some(Reached { at, path: self.dir.join(&member.path), size, sha256: member.sha256, upto })
    }

    /// Whether a whole file has its hash. What has not is missing again.
    pub fn judged(&mut self, at: usize, fits: bool) -> Result<()> {
        let (Some(state), Some(member)) = (self.states.get_mut(at), self.members.list.get(at)) else {
            return Ok(());
        };
        if fits {
            *state = State::Verified;
            self.verified += 1;
            return Ok(());
        }
        *state = State::Open;
        let range = member.range.clone();
        self.have.remove(range.clone());
        self.note(b'-', &range)
    }

    /// Whether every file is there and has its hash.
    pub fn is_complete(&self) -> bool {
        self.verified == self.states.len()
    }

    /// Bytes that are there.
    pub fn arrived(&self) -> u64 {
        self.have.bytes()
    }

    /// What is missing.
    pub fn missing(&self) -> Missing {
        self.members.missing(&self.have, |at| self.states.get(at) == Some(&State::Verified))
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

    /// Gives a complete bundle its name, on the disk.
    pub fn deliver(self) -> Result<()> {
        if !self.is_complete() {
            return Err(Error::fault("a bundle that is not complete cannot be delivered"));
        }
        let place = self.place();
        media::sync(&self.dir)?;
        if !self.is_delivered()? {
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

fn full(path: &Path, e: std::io::Error) -> Error {
    file_error(path)(e).hint("make room on the disk and run it again; what arrived is kept")
}

/// What is recorded to be there, with the end cut off at which writing broke off.
fn recorded(path: &Path, total: u64) -> Result<(File, Ranges)> {
    let mut have = Ranges::default();
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(file_error(path))?,
    };
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    for [sign, range @ ..] in records {
        let number =
            |at: usize| range.get(at..at + 8).and_then(|n| n.try_into().ok()).map_or(0, u64::from_be_bytes);
        let range = number(0)..number(8);
        match sign {
            b'+' if range.end <= total => have.insert(range),
            b'-' => have.remove(range),
            _ => {}
        }
    }
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(file_error(path))?;
    file.set_len((records.len() * RECORD_BYTES) as u64).map_err(file_error(path))?;
    Ok((file, have))
}
