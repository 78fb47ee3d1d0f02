//! Folders for what is under way, of which others can tell whether the process that made them lives.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::StoreError;

/// A folder that goes with this value, or, when its process was killed, with the next look at what lies beside it
/// ([`Scratch::sweep`]). Only its owner can read it.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder below `above`, whose name begins with `prefix`.
    pub fn new_in(above: &Path, prefix: &str) -> Result<Self, StoreError> {
        loop {
            let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(above);
            let dir = dir.map_err(StoreError::file(above))?;
            match lock(dir.path()) {
                Ok(Some(lock)) => return Ok(Self { dir, _lock: lock }),
                // Swept away between the two steps.
                Err(e) if dir.path().exists() => return Err(e),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Removes such folders below `above` whose processes are gone; those whose names begin otherwise stay.
    pub fn sweep(above: &Path, prefix: &str) -> Result<(), StoreError> {
        for entry in std::fs::read_dir(above).map_err(StoreError::file(above))? {
            let entry = entry.map_err(StoreError::file(above))?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes a folder that nobody has locked. Somebody else may sweep at the same time.
pub(crate) fn remove(folder: &Path) {
    if let Ok(Some(_held)) = lock(folder) {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Takes the lock of a folder, unless somebody has it. It goes with the file.
pub(crate) fn lock(folder: &Path) -> Result<Option<File>, StoreError> {
    let file = File::open(folder).map_err(StoreError::file(folder))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // Whoever swept it away before it was locked has left a folder without a name.
        Ok(()) => Ok(folder.exists().then_some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(StoreError::file(folder)(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_goes_and_what_one_uses_stays() {
        let above = tempfile::tempdir().unwrap();
        let used = Scratch::new_in(above.path(), "a-").unwrap();
        let left = above.path().join("a-left");
        std::fs::create_dir_all(left.join("deep")).unwrap();
        let other = above.path().join("other");
        std::fs::create_dir(&other).unwrap();
        Scratch::sweep(above.path(), "a-").unwrap();
        assert!(used.path().exists() && other.exists() && !left.exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
