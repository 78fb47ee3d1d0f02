//! Opening files that somebody else may have put there.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file to read it. Whatever else stands there (a pipe, a device) is refused, and never waited
/// for.
///
/// # Errors
///
/// Those of the system; [`io::ErrorKind::IsADirectory`], and [`io::ErrorKind::InvalidInput`] for whatever else is no
/// regular file.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    open(path, OFlags::empty())
}

/// The same, but a link is refused as well.
pub(crate) fn open_regular_itself(path: &Path) -> io::Result<File> {
    open(path, OFlags::NOFOLLOW)
}

fn open(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(file);
    }
    let kind = if metadata.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    Err(io::Error::new(kind, "it is no regular file"))
}
