//! Putting an index together from text, from what was rendered now, and from the file before, and writing it plain
//! and packed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::SpooledTempFile;
use zstd::zstd_safe::CParameter;

use airlock_core::id::Digest;
use airlock_formats::conda;
use airlock_store::{Blobs, Staged, Verified};

use super::layout::Run;
use crate::error::{Error, Result, file_error};
use crate::progress::Task;

/// How much of one table is kept in memory before it goes to a file, in bytes.
const SPOOL_BYTES: usize = 1 << 20;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// What one thread packs at a time, in bytes. By itself zstd takes 8 MiB, holds 50 MiB for that, and packs no better.
const JOB_BYTES: u32 = 2 << 20;

/// Where a rendered file goes.
pub(super) enum Sink {
    Staged(Staged),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Staged(staged) => staged.write(bytes).map_err(std::io::Error::other)?,
            Self::Memory(held) => held.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What sinks are made of: the store, or memory.
#[derive(Clone)]
pub(super) struct Place(pub Option<Blobs>);

impl Place {
    pub fn sink(&self) -> Result<Sink> {
        Ok(match &self.0 {
            Some(blobs) => Sink::Staged(blobs.stage()?),
            None => Sink::Memory(Vec::new()),
        })
    }
}

pub(super) fn unrendered(error: std::io::Error) -> Error {
    Error::fault(format!("an index cannot be rendered: {error}")).hint(
        "check that the disk of the station and the one for temporary files are not full; then run it again",
    )
}

/// Members of a JSON object on their way into an index.
pub(super) struct Spool {
    file: SpooledTempFile,
    size: u64,
}

impl Spool {
    pub fn new(dir: &Path) -> Self {
        Self { file: SpooledTempFile::new_in(SPOOL_BYTES, dir), size: 0 }
    }

    pub fn add(&mut self, members: &str) -> Result<()> {
        if members.is_empty() {
            return Ok(());
        }
        let comma: &[u8] = if self.size == 0 { b"" } else { b"," };
        self.file.write_all(comma).map_err(unrendered)?;
        self.file.write_all(members.as_bytes()).map_err(unrendered)?;
        self.size += (comma.len() + members.len()) as u64;
        Ok(())
    }
}

/// A file of the snapshot before, read from its beginning to its end. All of it is hashed on the way, so that what a
/// disk changed since it was written is not taken over.
pub(super) struct Before {
    file: File,
    wanted: Digest,
    at: u64,
    hasher: Sha256,
    /// It cannot be read to its end.
    is_broken: bool,
}

impl Before {
    /// None where it cannot be opened.
    pub fn open(blob: &Verified) -> Option<Self> {
        let file = File::open(blob.path()).ok()?;
        Some(Self { file, wanted: blob.digest(), at: 0, hasher: Sha256::new(), is_broken: false })
    }

    /// Reads on up to `end`, or to the end of the file; gives what was read to `to`.
    fn read_on(
        &mut self,
        end: Option<u64>,
        buffer: &mut [u8],
        to: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        loop {
            let left = end.map_or(u64::MAX, |end| end.saturating_sub(self.at));
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            // A disk that does not give it back any more damaged it, as one that gives back something else.
            let read = self.file.read(&mut buffer[..most]);
            self.is_broken |= read.is_err();
            let read = read.unwrap_or(0);
            if read == 0 {
                return Ok(());
            }
            self.at += read as u64;
            self.hasher.update(&buffer[..read]);
            to(&buffer[..read])?;
        }
    }

    /// Reads the rest: whether all of it is what it was when it was written.
    fn ends_whole(mut self, buffer: &mut [u8]) -> Result<bool> {
        self.read_on(None, buffer, &mut |_| Ok(()))?;
        Ok(!self.is_broken && Digest::from_bytes(self.hasher.finalize().into()) == self.wanted)
    }
}

/// A table of an index.
pub(super) struct Table {
    pub name: String,
    /// Whence its members come, in order.
    pub runs: Vec<Run>,
    /// What was rendered now.
    pub spool: Option<Spool>,
}

impl Table {
    fn size(&self) -> u64 {
        let commas = self.runs.len().saturating_sub(1) as u64;
        self.runs.iter().map(|run| run.bytes).sum::<u64>() + commas
    }
}

/// A part of an index.
pub(super) enum Part {
    Text(String),
    Table(Table),
}

impl Part {
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Table(table) => table.size(),
        }
    }
}

/// An index that was put together.
pub(super) struct Assembled {
    pub plain: Sink,
    pub packed: Sink,
    /// Where each table begins, in bytes.
    pub tables: BTreeMap<String, u64>,
}

/// Puts an index together, plain and compressed. None: the file before is not what it was.
pub(super) fn assemble(
    place: &Place,
    task: &Task,
    parts: Vec<Part>,
    mut before: Option<Before>,
    threads: usize,
) -> Result<Option<Assembled>> {
    let size: u64 = parts.iter().map(Part::size).sum();
    let mut plain = place.sink()?;
    let mut encoder =
        zstd::stream::write::Encoder::new(place.sink()?, conda::ZSTD_LEVEL).map_err(unrendered)?;
    encoder.set_pledged_src_size(Some(size)).map_err(unrendered)?;
    if size > COPY_BYTES as u64 {
        // Also with one thread: that packs other bytes than none, and the same as any number of them.
        encoder.multithread(u32::try_from(threads.max(1)).unwrap_or(1)).map_err(unrendered)?;
        encoder.set_parameter(CParameter::JobSize(JOB_BYTES)).map_err(unrendered)?;
    }
    let (mut tables, mut written) = (BTreeMap::new(), 0);
    let mut both = |bytes: &[u8]| -> Result<()> {
        task.add(bytes.len() as u64);
        written += bytes.len() as u64;
        plain.write_all(bytes).map_err(unrendered)?;
        encoder.write_all(bytes).map_err(unrendered)
    };
    let mut buffer = vec![0; COPY_BYTES];
    let mut begins = 0;
    for part in parts {
        let size = part.size();
        match part {
            Part::Text(text) => both(text.as_bytes())?,
            Part::Table(table) => {
                tables.insert(table.name.clone(), begins);
                copy(table, before.as_mut(), &mut buffer, &mut both)?;
            }
        }
        begins += size;
    }
    if let Some(before) = before
        && !before.ends_whole(&mut buffer)?
    {
        return Ok(None);
    }
    // A file before that ended too early.
    if written != size {
        return Ok(None);
    }
    let packed = encoder.finish().map_err(unrendered)?;
    Ok(Some(Assembled { plain, packed, tables }))
}

/// Copies a table, run by run.
fn copy(
    table: Table,
    mut before: Option<&mut Before>,
    buffer: &mut [u8],
    to: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut spool = table.spool;
    if let Some(spool) = &mut spool {
        spool.file.rewind().map_err(file_error("a temporary file"))?;
    }
    let mut at = 0;
    for (i, run) in table.runs.iter().enumerate() {
        if i > 0 {
            to(b",")?;
        }
        match (run.is_new, &mut before, &mut spool) {
            (false, Some(before), _) => {
                before.read_on(Some(run.at), buffer, &mut |_| Ok(()))?;
                before.read_on(Some(run.at + run.bytes), buffer, to)?;
            }
            (true, _, Some(spool)) => {
                if run.at > at {
                    spool
                        .file
                        .seek(std::io::SeekFrom::Start(run.at))
                        .map_err(file_error("a temporary file"))?;
                }
                copy_some(&mut spool.file, run.bytes, buffer, to)?;
                at = run.at + run.bytes;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_some(
    file: &mut impl Read,
    bytes: u64,
    buffer: &mut [u8],
    to: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut file = file.take(bytes);
    loop {
        let n = file.read(buffer).map_err(file_error("a temporary file"))?;
        if n == 0 {
            return Ok(());
        }
        to(&buffer[..n])?;
    }
}
