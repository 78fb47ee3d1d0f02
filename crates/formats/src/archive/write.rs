//! Writing a zip archive as a stream, the same bytes for the same members.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Permissions of each member.
const MODE: u32 = 0o644;

/// A zip archive that is being written: deflated members, all of one time stamp.
pub struct ZipFile<W: Write + Seek>(ZipWriter<W>);

impl<W: Write + Seek> ZipFile<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self(ZipWriter::new(out))
    }

    /// Begins a member, whose bytes are written next. It may be of any size.
    pub fn begin(&mut self, path: &str) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(MODE)
            .large_file(true);
        Ok(self.0.start_file(path, options)?)
    }

    /// Ends the archive.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.0.finish()?)
    }
}

impl<W: Write + Seek> Write for ZipFile<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::archive::{ArchiveLimits, zip_files};

    #[test]
    fn what_is_written_is_what_the_strict_reader_takes_and_the_same_each_time() {
        let write = || {
            let mut zip = ZipFile::new(Cursor::new(Vec::new()));
            for (path, bytes) in [("a.txt", vec![7; 100_000]), ("objects/b.jsonl", Vec::new())] {
                zip.begin(path).unwrap();
                zip.write_all(&bytes).unwrap();
            }
            zip.finish().unwrap().into_inner()
        };
        let bytes = write();
        assert_eq!(bytes, write());
        let mut found = Vec::new();
        zip_files(Cursor::new(&bytes), &ArchiveLimits::default(), &mut |path, data| {
            let mut read = Vec::new();
            data.read_to_end(&mut read)?;
            found.push((path.to_owned(), read.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [("a.txt".to_owned(), 100_000), ("objects/b.jsonl".to_owned(), 0)]);
    }
}
