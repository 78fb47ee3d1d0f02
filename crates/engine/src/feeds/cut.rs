//! Cutting feeds: the records of all files of a feed, one after another, in chunks that any thread may read.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use airlock_core::advisory::FeedKind;
use airlock_formats::feeds::{self as formats, BadAdvisory, FeedError, RecordFormat};
use airlock_formats::limits;

use super::read::FeedResult;

/// Text of records that one thread takes at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

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

/// Cuts all files of a feed into chunks.
pub(super) fn cut(
    kind: FeedKind,
    path: &Path,
    send: SyncSender<Chunk>,
    leave_out: &mut LeaveOut<'_>,
) -> FeedResult<()> {
    let mut cutting =
        Cutting { send, leave_out, chunk: Chunk::default(), place: 0, bytes_left: limits::FEED_BYTES_MAX };
    let below = |file: &Path| file.strip_prefix(path).unwrap_or(file).display().to_string();
    for file in files_of(path, is_feed)? {
        let name = if file == path { file.display().to_string() } else { below(&file) };
        let named = |e: FeedError| match e {
            FeedError::Content(why) => FeedError::Content(format!("{name}: {why}")),
            other => other,
        };
        let reader = formats::unpack(File::open(&file)?, cutting.bytes_left)?;
        formats::split(kind, plain_name(&name), reader, &mut |format, text| {
            cutting.take(format, &name, text)
        })
        .map_err(named)?;
    }
    cutting.flush()
}

/// The state of cutting a feed.
struct Cutting<'a, 'b> {
    send: SyncSender<Chunk>,
    leave_out: &'a mut LeaveOut<'b>,
    chunk: Chunk,
    /// Records so far, good and bad.
    place: u64,
    /// What the feed may still unpack to.
    bytes_left: u64,
}

impl Cutting<'_, '_> {
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
pub(super) fn files_of(path: &Path, wanted: fn(&str) -> bool) -> FeedResult<Vec<PathBuf>> {
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
    Ok(files.into_iter().filter(|p| wanted(&p.to_string_lossy())).collect())
}

/// A name without the ending of a compression.
fn plain_name(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

fn is_feed(name: &str) -> bool {
    [".json", ".jsonl", ".yaml", ".yml"].iter().any(|ending| plain_name(name).ends_with(ending))
}

/// Whether a file of this name may hold JSON.
pub(super) fn is_json(name: &str) -> bool {
    [".json", ".jsonl"].iter().any(|ending| plain_name(name).ends_with(ending))
}
