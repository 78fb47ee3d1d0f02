//! Where a station puts what is under way: `cache/work/`, on its own disk, with room for a bundle.

use std::path::Path;
use std::time::{Duration, SystemTime};

use airlock_store::Scratch;

use crate::error::{Result, file_error};

/// How folders begin there.
const PREFIX: &str = "run-";
/// How files begin that are to replace another one beside it.
const TEMPORARY: &str = ".tmp";
/// So long nobody wrote to such a file, and whoever made it was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder for this process, after those of killed ones were removed.
pub(crate) fn folder(station: &Path) -> Result<Scratch> {
    let above = station.join("cache").join("work");
    std::fs::create_dir_all(&above).map_err(file_error(&above))?;
    Scratch::sweep(&above, PREFIX)?;
    Ok(Scratch::new_in(&above, PREFIX)?)
}

/// The same in the station's own folder, for what is moved to its place there when it is done: `cache` may lie on another disk.
pub(crate) fn beside(station: &Path) -> Result<Scratch> {
    Ok(Scratch::new_in(station, TEMPORARY)?)
}

/// Removes what killed processes left, there and in the station's own folder.
pub(crate) fn sweep(station: &Path) -> Result<()> {
    drop(folder(station)?);
    for entry in std::fs::read_dir(station).map_err(file_error(station))? {
        let entry = entry.map_err(file_error(station))?;
        let written = entry.metadata().and_then(|meta| meta.modified()).ok();
        let is_old =
            written.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > ABANDONED));
        if !is_old || !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type().map_err(file_error(&path))?.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.map_err(file_error(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_is_removed_when_it_is_old_or_locked_by_nobody() {
        let station = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - ABANDONED - Duration::from_secs(1);
        let file = |name: &str, at: SystemTime| {
            let path = station.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(at).unwrap();
            path
        };
        let gone = [file(".tmpAbc", old), station.path().join("cache/work/run-left")];
        std::fs::create_dir_all(&gone[1]).unwrap();
        let stays = [file(".tmpNew", SystemTime::now()), file("airlock.toml", old)];
        let used = folder(station.path()).unwrap();
        assert!(!gone[1].exists());
        sweep(station.path()).unwrap();
        assert!(gone.iter().all(|path| !path.exists()));
        assert!(stays.iter().all(|path| path.exists()) && used.path().exists());
    }
}
