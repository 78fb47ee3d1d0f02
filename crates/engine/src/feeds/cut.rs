//! Cutting feeds: the records of all files of a feed, one after another, in chunks that any thread may read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use airlock_core::advisory::FeedKind;
use airlock_formats::archive::{self, ArchiveError, ArchiveLimits, EachFile};
use airlock_formats::feeds::{self as formats, BadAdvisory, FeedError, RecordFormat, may_hold, plain_name};
use airlock_formats::limits;

use super::read::{FeedResult, Job};

/// Text of records that one thread takes at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are read of a file in an archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Records as text, to be read by whatever thread is free.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
}

/// One record in a chunk.
pub(super) struct Piece {
    pub(super) format: RecordFormat,
    /// Its place in the feed.
    pub(super) place: u64,
    /// Where it ends in the text of the chunk.
    pub(super) end: usize,
    /// The file that it is, where it is a whole one.
    pub(super) file: Option<Box<str>>,
}

/// Takes what is no record, with its place in the feed.
pub(super) type LeaveOut<'a> = dyn FnMut(u64, BadAdvisory) + 'a;

/// Cuts all files of a feed into chunks. Of archives that lie in archives those are read that lie in the feed's own;
/// they are unpacked into a file of their own for as long as that takes.
pub(super) fn cut(
    kind: FeedKind,
    path: &Path,
    job: &Job<'_>,
    send: SyncSender<Chunk>,
    leave_out: &mut LeaveOut<'_>,
) -> FeedResult<()> {
    let mut cutting = Cutting {
        kind,
        temporary: job.temporary,
        send,
        leave_out,
        chunk: Chunk::default(),
        place: 0,
        bytes_left: limits::FEED_BYTES_MAX,
    };
    for file in files_of(path, |name| may_hold(kind, name) || is_archive(name))? {
        // A feed that was fetched lies in a file with a name of ours.
        let name = match file.strip_prefix(path) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => job.place.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        cutting.file(File::open(&file)?, &name, false)?;
    }
    cutting.flush()
}

/// The state of cutting a feed.
struct Cutting<'a, 'b> {
    kind: FeedKind,
    temporary: &'a Path,
    send: SyncSender<Chunk>,
    leave_out: &'a mut LeaveOut<'b>,
    chunk: Chunk,
    /// Records so far, good and bad.
    place: u64,
    /// What the feed may still unpack to.
    bytes_left: u64,
}

/// Says of which file an error is.
fn named(name: &str, error: FeedError) -> FeedError {
    match error {
        FeedError::Io(_) => error,
        other => FeedError::Content(format!("{name}: {other}")),
    }
}

impl Cutting<'_, '_> {
    /// A file, whatever it is.
    fn file(&mut self, mut file: File, name: &str, is_inner: bool) -> FeedResult<()> {
        let mut start = Vec::new();
        (&file).take(4).read_to_end(&mut start)?;
        file.rewind()?;
        let most = ArchiveLimits {
            entries_max: limits::FEED_FILES_MAX,
            unpacked_bytes_max: self.bytes_left,
            directory_bytes_max: limits::FEED_DIRECTORY_BYTES_MAX,
            ..ArchiveLimits::default()
        };
        if archive::is_zip(&start) {
            let walked = self.archive(name, is_inner, |each| archive::zip_files(file, &most, each));
            return walked.map_err(|e| named(name, e));
        }
        let mut reader = formats::unpack(file, self.bytes_left)?;
        let mut start = Vec::new();
        reader.by_ref().take(archive::TAR_START_BYTES as u64).read_to_end(&mut start)?;
        let is_tar = archive::is_tar(&start);
        let reader = Cursor::new(start).chain(reader);
        if is_tar {
            let walked = self.archive(name, is_inner, |each| archive::tar_files(reader, &most, each));
            return walked.map_err(|e| named(name, e));
        }
        self.records(name, reader).map_err(|e| named(name, e))
    }

    fn records(&mut self, name: &str, reader: impl BufRead) -> FeedResult<()> {
        let kind = self.kind;
        formats::split(kind, plain_name(name), reader, &mut |format, text| self.take(format, name, text))
    }

    /// The files of an archive.
    fn archive(
        &mut self,
        name: &str,
        is_inner: bool,
        walk: impl FnOnce(&mut EachFile<'_>) -> std::result::Result<(), ArchiveError>,
    ) -> FeedResult<()> {
        // An error of ours stops the walk, and is not one of the archive.
        let mut failed = None;
        let walked = walk(&mut |path, data| {
            let read = self.member(&format!("{name}/{path}"), path, data, is_inner);
            read.map_err(|error| {
                failed = Some(error);
                ArchiveError::Truncated
            })
        });
        match failed {
            // What the reader says of the archive came through reading a file of it.
            Some(FeedError::Io(error)) => Err(ArchiveError::from(error).into()),
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }

    fn member(&mut self, name: &str, path: &str, data: &mut dyn Read, is_inner: bool) -> FeedResult<()> {
        if path.ends_with(".zip") && !is_inner {
            let mut inner = tempfile::tempfile_in(self.temporary)?;
            if std::io::copy(&mut data.take(self.bytes_left), &mut inner)? == self.bytes_left {
                return Err(FeedError::Content(format!("{path} is too large")));
            }
            inner.rewind()?;
            return self.file(inner, path, true);
        }
        if !may_hold(self.kind, path) {
            return Ok(());
        }
        if plain_name(path) == path {
            let read = self.records(name, BufReader::with_capacity(BUFFER_BYTES, data));
            return read.map_err(|e| named(path, e));
        }
        let reader = formats::unpack(data, self.bytes_left)?;
        self.records(name, reader).map_err(|e| named(path, e))
    }

    /// One record of the file of this name.
    fn take(
        &mut self,
        format: RecordFormat,
        name: &str,
        text: std::result::Result<&str, BadAdvisory>,
    ) -> FeedResult<()> {
        if self.place >= limits::FEED_RECORDS_MAX {
            let most = limits::FEED_RECORDS_MAX;
            return Err(FeedError::Content(format!("the feed has more than {most} records")));
        }
        match text {
            Ok(text) => {
                self.chunk.text.push_str(text);
                let file = format.is_whole_file().then(|| name.into());
                let end = self.chunk.text.len();
                self.chunk.pieces.push(Piece { format, place: self.place, end, file });
                self.bytes_left = self.bytes_left.saturating_sub(text.len() as u64);
            }
            Err(bad) => (self.leave_out)(self.place, bad),
        }
        self.place += 1;
        if self.chunk.text.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> FeedResult<()> {
        let stopped = |_| FeedError::Content("reading was stopped".to_owned());
        self.send.send(std::mem::take(&mut self.chunk)).map_err(stopped)
    }
}

/// A file by itself, or the files below a directory with such names, sorted.
pub(super) fn files_of(path: &Path, wanted: impl Fn(&str) -> bool) -> FeedResult<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // What tools keep beside the records.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.insert(entry.path());
            }
        }
    }
    let named = |p: &PathBuf| p.file_name().is_some_and(|name| wanted(&name.to_string_lossy()));
    Ok(files.into_iter().filter(named).collect())
}

/// Whether a file of this name may be an archive.
fn is_archive(name: &str) -> bool {
    [".zip", ".tar", ".tgz"].iter().any(|ending| plain_name(name).ends_with(ending))
}

/// Whether a file of this name may hold JSON.
pub(super) fn is_json(name: &str) -> bool {
    [".json", ".jsonl"].iter().any(|ending| plain_name(name).ends_with(ending))
}
