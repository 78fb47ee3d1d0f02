//! A disk of its own: XFS, or else ext4, in a file, mounted through a loop device.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Bytes of the disk.
const BYTES: u64 = 4 << 30;

/// A disk that goes when this is dropped.
pub struct Disk {
    /// Where it is mounted.
    pub mount: PathBuf,
    image: PathBuf,
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Makes one below `dir`; none where this user or this machine may not have one.
pub fn mount(dir: &Path) -> Result<Option<Disk>> {
    let disk = Disk { mount: dir.join("mount"), image: dir.join("image") };
    let fault = |e: std::io::Error| format!("{}: {e}", dir.display());
    std::fs::create_dir_all(&disk.mount).map_err(fault)?;
    for system in ["mkfs.xfs", "mkfs.ext4"] {
        let _ = std::fs::remove_file(&disk.image);
        std::fs::File::create(&disk.image).and_then(|f| f.set_len(BYTES)).map_err(fault)?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).args([&disk.image, &disk.mount]);
        if succeeds(Command::new(system).arg("-q").arg(&disk.image)) && succeeds(&mut mount) {
            return Ok(Some(disk));
        }
    }
    Ok(None)
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg("-l").arg(&self.mount));
        let _ = std::fs::remove_file(&self.image);
    }
}
