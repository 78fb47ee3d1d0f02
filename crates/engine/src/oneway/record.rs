//! Which bytes of a bundle's data are there, on the disk beside it.
//!
//! The file is records of 17 bytes: `+` or `-`, first, end (big-endian), each of which holds over those before. It is written anew
//! when it has grown to many times of what it says, so that it stays small however the bytes come, and however often.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use airlock_formats::oneway::ranges::Ranges;

use super::spool::{ARRIVING, full};
use crate::error::{Error, Result, file_error};

/// Bytes of a record.
const RECORD_BYTES: usize = 17;
/// Records for each stretch that is there, beyond which the file is written anew.
const TIMES: u64 = 4;
/// Fewer are no reason for it.
const RECORDS_MIN: u64 = 4096;

/// What the record of a bundle of so many files may take, in bytes, where they come one after another.
pub(super) fn room(files: u64) -> u64 {
    (files.saturating_mul(TIMES).saturating_add(RECORDS_MIN)).saturating_mul(RECORD_BYTES as u64)
}

/// The record of one bundle, which nobody else opens meanwhile.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    file: File,
    have: Ranges,
    /// How many the file holds.
    records: u64,
}

impl Record {
    /// Reads what is recorded of `total` bytes, with the end cut off at which writing broke off.
    ///
    /// # Errors
    ///
    /// Somebody else has it open, or the disk fails.
    pub fn open(path: &Path, total: u64) -> Result<Self> {
        let file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(file_error(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(file_error(path)(e)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::fault("another sender is sending the same bundle at this moment")
                    .hint("what that one brings counts; send it again if it does not come whole"));
            }
        }
        let (mut have, mut records) = (Ranges::default(), 0);
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let mut record = [0; RECORD_BYTES];
        loop {
            match reader.read_exact(&mut record) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(file_error(path)(e)),
            }
            records += 1;
            let [sign, range @ ..] = &record;
            let number = |at: usize| {
                range.get(at..at + 8).and_then(|n| n.try_into().ok()).map_or(0, u64::from_be_bytes)
            };
            let range = number(0)..number(8);
            match sign {
                b'+' if range.end <= total => have.insert(range),
                b'-' => have.remove(range),
                _ => {}
            }
        }
        // What is as it should be keeps its time, by which it is told how long nothing came.
        let whole = records * RECORD_BYTES as u64;
        if file.metadata().map_err(file_error(path))?.len() != whole {
            file.set_len(whole).map_err(file_error(path))?;
        }
        Ok(Self { path: path.to_owned(), file, have, records })
    }

    /// What is there.
    pub const fn have(&self) -> &Ranges {
        &self.have
    }

    /// Takes bytes for there that are known to be, without writing it down.
    pub fn take_for_there(&mut self, range: Range<u64>) {
        self.have.insert(range);
    }

    /// They are there.
    pub fn add(&mut self, range: Range<u64>) -> Result<()> {
        self.note(b'+', &range)?;
        self.have.insert(range);
        self.shorten()
    }

    /// They are missing.
    pub fn remove(&mut self, range: Range<u64>) -> Result<()> {
        self.note(b'-', &range)?;
        self.have.remove(range);
        self.shorten()
    }

    fn note(&mut self, sign: u8, range: &Range<u64>) -> Result<()> {
        if let Err(e) = self.file.write_all(&record(sign, range)) {
            // Half of it would shift all that come after it.
            let _ = self.file.set_len(self.records * RECORD_BYTES as u64);
            return Err(full(&self.path, e));
        }
        self.records += 1;
        Ok(())
    }

    /// Writes the file anew where it has grown to many times of what it says. One or the other is there whole at any moment, and locked.
    fn shorten(&mut self) -> Result<()> {
        if self.records <= (self.have.iter().len() as u64).saturating_mul(TIMES).max(RECORDS_MIN) {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let failed = |e| full(&self.path, e);
        let new =
            tempfile::Builder::new().prefix(ARRIVING).append(true).tempfile_in(folder).map_err(failed)?;
        new.as_file().try_lock().map_err(|e| failed(e.into()))?;
        let mut out = BufWriter::new(new.as_file());
        let mut records = 0;
        for range in self.have.iter() {
            out.write_all(&record(b'+', &range)).map_err(failed)?;
            records += 1;
        }
        out.flush().map_err(failed)?;
        drop(out);
        new.as_file().sync_data().map_err(failed)?;
        let file = new.persist(&self.path).map_err(|e| failed(e.error))?;
        (self.file, self.records) = (file, records);
        Ok(())
    }
}

fn record(sign: u8, range: &Range<u64>) -> [u8; RECORD_BYTES] {
    let mut out = [sign; RECORD_BYTES];
    out[1..9].copy_from_slice(&range.start.to_be_bytes());
    out[9..].copy_from_slice(&range.end.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_small_however_the_bytes_come_and_says_the_same_when_it_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.have");
        let total = 1 << 20;
        let mut record = Record::open(&path, total).unwrap();
        record.add(7..9).unwrap();
        let mut largest = 0;
        for round in 0..20 {
            record.remove(100..total).unwrap();
            for at in 100..1100 {
                record.add(at..at + 1 + round % 2).unwrap();
                largest = largest.max(std::fs::metadata(&path).unwrap().len());
            }
        }
        assert!(largest <= room(2), "{largest}");
        assert!(Record::open(&path, total).is_err(), "it is locked, also after it was written anew");
        let before = record.have().clone();
        assert_eq!(before.iter().collect::<Vec<_>>(), [7..9, 100..1101]);
        drop(record);
        // Writing broke off in the middle of a record.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"-\0\0\0").unwrap();
        drop(file);
        let again = Record::open(&path, total).unwrap();
        assert_eq!(again.have(), &before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(again);
        // What lies beyond the data is of another bundle.
        let short = Record::open(&path, 50).unwrap();
        assert!(short.have().iter().eq(std::iter::once(7..9)));
    }
}
