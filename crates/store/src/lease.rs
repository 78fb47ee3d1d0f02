//! Leases: one command at a time changes one thing, and says so.
//!
//! A lease is a lock that the system holds for the process, so that it ends with the process, however that ends.
//! What the file says is for people.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;

/// Bytes that are read of what a holder says of itself.
const HOLDER_BYTES_MAX: u64 = 500;

/// The right to change one thing, for as long as this is held.
#[derive(Debug)]
pub struct Lease {
    file: File,
}

/// What asking for a lease gives.
#[derive(Debug)]
pub enum Leased {
    /// It is ours now.
    Ours(Lease),
    /// Somebody has it: what they say of themselves.
    Held(String),
}

impl Lease {
    /// Takes the lease of `name` for `holder`, unless somebody has it. It never waits.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`], where the directory of leases cannot be written.
    pub fn take(dir: &Path, name: &str, holder: &str) -> Result<Leased, StoreError> {
        let path = path_of(dir, name);
        let fail = |e: std::io::Error| StoreError::file(&path)(e);
        std::fs::create_dir_all(dir).map_err(StoreError::file(dir))?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // It may be about to be written.
                let _ = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
                return Ok(Leased::Held(text.trim().to_owned()));
            }
            Err(e) => return Err(fail(e.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        writeln!(file, "{holder}").map_err(fail)?;
        Ok(Leased::Ours(Self { file }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The lock goes with the file; what stands in it would only mislead.
        let _ = self.file.set_len(0);
    }
}

fn path_of(dir: &Path, name: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '+' };
    dir.join(format!("{}.lock", name.chars().map(plain).collect::<String>()))
}
