//! Objects as JSON lines, packed: writing them, and reading them back on several threads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::ObjectFile;
use airlock_core::id::Digest;
use airlock_core::object::{self, Encoded};
use airlock_store::{Db, Packed, StoreError};

use super::media;
use crate::error::{Error, Result, file_error, joined};

/// zstd level of object files.
const ZSTD_LEVEL: i32 = 3;
/// zstd window of object files, as a power of two of bytes: it bounds what packing and unpacking hold.
const ZSTD_WINDOW_LOG: u32 = 20;
/// Largest window that is read, as a power of two of bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Objects that are read from the database at once.
const OBJECTS_AT_ONCE: usize = 500;
/// Longest line of an object file, in bytes.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// Lines that are checked together.
const BATCH_LINES: usize = 1000;
/// The same in bytes.
const BATCH_BYTES: usize = 2 << 20;

/// Hashes and counts what passes through.
struct Counting<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes objects as JSON lines, sorted by name. While some are packed, the next ones are read.
pub(super) async fn write(db: &Db, dir: &Path, path: &str, ids: &BTreeSet<Digest>) -> Result<ObjectFile> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<Packed>>(2);
    let target = dir.join(path);
    let packing = tokio::task::spawn_blocking(move || pack(&target, receiver));
    let mut all = ids.iter().copied();
    loop {
        let chunk: Vec<Digest> = all.by_ref().take(OBJECTS_AT_ONCE).collect();
        if chunk.is_empty() {
            break;
        }
        let mut objects = db.get_packed(&chunk).await?;
        objects.sort_unstable_by_key(Packed::digest);
        if objects.len() < chunk.len() {
            let there: BTreeSet<Digest> = objects.iter().map(Packed::digest).collect();
            if let Some(missing) = chunk.iter().find(|id| !there.contains(id)) {
                return Err(StoreError::MissingObject(*missing).into());
            }
        }
        if sender.send(objects).await.is_err() {
            break;
        }
    }
    drop(sender);
    let (sha256, size, unpacked) = joined(packing.await)?;
    Ok(ObjectFile { path: path.to_owned(), sha256, size, lines: ids.len() as u64, unpacked })
}

fn pack(target: &Path, mut receiver: tokio::sync::mpsc::Receiver<Vec<Packed>>) -> Result<(Digest, u64, u64)> {
    let fail = || file_error(target);
    let file = BufWriter::with_capacity(media::BUFFER_BYTES, media::create(target)?);
    let counting = Counting { inner: file, hasher: Sha256::new(), size: 0 };
    let mut encoder = zstd::Encoder::new(counting, ZSTD_LEVEL).map_err(fail())?;
    encoder.window_log(ZSTD_WINDOW_LOG).map_err(fail())?;
    let mut unpacked = 0;
    while let Some(objects) = receiver.blocking_recv() {
        for object in objects {
            let bytes = object.unpack()?;
            encoder.write_all(&bytes).and_then(|()| encoder.write_all(b"\n")).map_err(fail())?;
            unpacked += bytes.len() as u64 + 1;
        }
    }
    let mut counting = encoder.finish().map_err(fail())?;
    counting.flush().map_err(fail())?;
    Ok((Digest::from_bytes(counting.hasher.finalize().into()), counting.size, unpacked))
}

/// Some lines of an object file, and the number of the first.
struct Lines {
    first: u64,
    lines: Vec<Vec<u8>>,
}

/// Reads the objects of one file and hands them to `each`, some at a time and in any order, on several threads; each
/// object is checked against its own name before. The file's hash must have been compared before: what is unpacked
/// here is what the sender wrote.
pub(super) fn read(
    dir: &Path,
    file: &ObjectFile,
    threads: usize,
    each: impl Fn(Vec<Encoded>) -> Result<()> + Sync,
) -> Result<()> {
    let path = dir.join(&file.path);
    let threads = threads.max(1);
    let (sender, receiver) = mpsc::sync_channel::<Lines>(threads);
    let (receiver, stop) = (Mutex::new(receiver), AtomicBool::new(false));
    let worker = || -> Result<()> {
        let mut result = Ok(());
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(lines) = next else { return result };
            // After an error the rest is only taken off, so that nobody waits.
            if result.is_ok() && !stop.load(Ordering::Relaxed) {
                result = check(&path, lines).and_then(&each);
                stop.fetch_or(result.is_err(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let read = split(&path, file, &sender, &stop);
        drop(sender);
        let mut result = Ok(());
        for one in all {
            let ended = one.join().unwrap_or_else(|_| Err(Error::fault("a working thread stopped")));
            result = result.and(ended);
        }
        result.and(read)
    })
}

fn check(path: &Path, lines: Lines) -> Result<Vec<Encoded>> {
    let numbered = (lines.first..).zip(lines.lines);
    let checked = numbered.map(|(number, bytes)| {
        let digest = Digest::of(&bytes);
        object::check(digest, &bytes)
            .map_err(|e| Error::unsafe_(format!("{}, line {number}: {e}", path.display())))?;
        Ok(Encoded { digest, bytes })
    });
    checked.collect()
}

/// Unpacks a file and hands its lines on. What is wrong with the file as a whole is said here.
fn split(path: &Path, file: &ObjectFile, sender: &mpsc::SyncSender<Lines>, stop: &AtomicBool) -> Result<()> {
    let source = File::open(path).map_err(file_error(path))?;
    let mut decoder = zstd::Decoder::new(source).map_err(file_error(path))?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(file_error(path))?;
    let mut reader = BufReader::with_capacity(1 << 18, decoder.take(file.unpacked.saturating_add(1)));
    let (mut lines, mut seen) = (0u64, 0u64);
    let mut batch = Lines { first: 1, lines: Vec::new() };
    let mut bytes = 0;
    loop {
        let mut line = Vec::new();
        let n = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(file_error(path))?;
        if n == 0 || batch.lines.len() >= BATCH_LINES || bytes >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, Lines { first: lines + 1, lines: Vec::new() });
            bytes = 0;
            // Nobody listens only after an error, which is told by who had it.
            if stop.load(Ordering::Relaxed) || sender.send(full).is_err() {
                return Ok(());
            }
        }
        if n == 0 {
            break;
        }
        seen += n as u64;
        lines += 1;
        if line.pop() != Some(b'\n') || seen > file.unpacked {
            return Err(Error::unsafe_(format!(
                "{} holds more than the manifest says, or ends in the middle of a line",
                path.display()
            )));
        }
        bytes += line.len();
        batch.lines.push(line);
    }
    if lines != file.lines || seen != file.unpacked {
        return Err(Error::unsafe_(format!(
            "{} holds {lines} objects, the manifest says {}",
            path.display(),
            file.lines
        )));
    }
    Ok(())
}
