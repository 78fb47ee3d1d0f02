//! What an import left that was killed while it unpacked.

use std::path::{Path, PathBuf};

use super::{FOLDER, lease_of};
use crate::error::{Result, file_error, joined};
use crate::station::Station;

/// Removes the folders in which nobody unpacks any more, or only looks at them. Nothing refers to what lies there, and whoever
/// works has the folder's lease before there is one. Gives their files and bytes.
pub(crate) async fn sweep(station: &Station, dry: bool) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for folder in folders(&station.dir.join(FOLDER))? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(_lease) = station.lease(&lease_of(&name), "gc").await else { continue };
        let work = move || {
            let found = measure(&folder)?;
            if !dry {
                std::fs::remove_dir_all(&folder).map_err(file_error(&folder))?;
            }
            Ok(found)
        };
        let found = joined(tokio::task::spawn_blocking(work).await)?;
        files += found.0;
        bytes += found.1;
    }
    Ok((files, bytes))
}

fn folders(below: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(below) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(file_error(below))?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.map_err(file_error(below))?;
        if entry.file_type().map_err(file_error(below))?.is_dir() {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

/// Files and their bytes.
fn measure(folder: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes, mut open) = (0, 0, vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(file_error(&folder))? {
            let entry = entry.map_err(file_error(&folder))?;
            let meta = entry.metadata().map_err(file_error(entry.path()))?;
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                files += 1;
                bytes += meta.len();
            }
        }
    }
    Ok((files, bytes))
}
