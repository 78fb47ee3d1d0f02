//! What was read of the files of a directory, so that the next reading costs a `stat` a file.
//!
//! A file of its own beside what it serves, and not an object of the store: inodes and times mean something only
//! on this machine, nothing refers to it, and a dry run, which moves no ref, may write it. Whoever deletes it
//! loses time and nothing else. One that cannot be read, is of another version, or that somebody else could have
//! written is passed over.
//!
//! ```text
//! zstd of lines: {"cache":"airlock.directory-cache","version":1}
//!                {"below":"noarch/x-1-0.conda","stamp":{...},"known":{"name":"x","table":"packages.conda","record":{...}}}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use airlock_core::canon::Canonical;
use airlock_core::shard::Entry;

use super::list::{Found, Stamp};
use crate::error::{Result, file_error};
use crate::files::open_regular_itself;

const KIND: &str = "airlock.directory-cache";
/// Raised when another record would be made of the same file.
const VERSION: u32 = 1;
/// Largest cache, unpacked, in bytes.
const BYTES_MAX: u64 = 4 << 30;
/// Longest line, in bytes: a record, and some.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// zstd level.
const LEVEL: i32 = 1;
/// Permission bits by which somebody else could write.
const OTHERS_WRITE: u32 = 0o022;

/// What a file said when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The canonical package name.
    pub(super) name: String,
    pub(super) table: String,
    pub(super) record: Canonical,
}

impl Known {
    pub(super) fn new(name: String, entry: Entry) -> Self {
        Self { name, table: entry.table, record: entry.record }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry { table: self.table.clone(), record: self.record.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    cache: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    below: String,
    stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<Known>,
    /// Why there is no record, where another reading would say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What files are known to say.
#[derive(Debug, Default)]
pub(super) struct Cache(HashMap<String, (Stamp, std::result::Result<Known, String>)>);

/// Where a cache lies.
#[derive(Clone, Debug)]
pub(crate) struct CacheFile {
    dir: PathBuf,
    name: String,
}

impl CacheFile {
    /// In `dir`, which is made when there is something to keep.
    pub(crate) fn new(dir: PathBuf, name: String) -> Self {
        Self { dir, name }
    }

    /// Reads it as far as it can be trusted.
    pub(super) fn load(&self) -> Cache {
        self.try_load().unwrap_or_default()
    }

    /// Facts are taken only from a file, and out of a directory, that belong to this user and that nobody else
    /// may write.
    fn try_load(&self) -> Option<Cache> {
        let own = |m: &std::fs::Metadata| m.uid() == rustix::process::geteuid().as_raw();
        let file = open_regular_itself(&self.dir.join(&self.name)).ok()?;
        let metadata = file.metadata().ok()?;
        let dir = std::fs::metadata(&self.dir).ok()?;
        if !own(&dir) || !own(&metadata) || metadata.mode() & OTHERS_WRITE != 0 {
            return None;
        }
        let mut decoder = zstd::stream::read::Decoder::new(file).ok()?;
        decoder.window_log_max(27).ok()?;
        let mut lines = BufReader::new(decoder.take(BYTES_MAX));
        let mut line = Vec::new();
        let mut cache = Cache::default();
        let mut version = None;
        loop {
            line.clear();
            let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
            if read == 0 {
                return version.map(|()| cache);
            }
            if version.is_none() {
                let header: Header = serde_json::from_slice(&line).ok()?;
                version = (header.cache == KIND && header.version == VERSION).then_some(());
                version?;
                continue;
            }
            let line: Line = serde_json::from_slice(&line).ok()?;
            let said = match (line.known, line.refused) {
                (Some(known), None) => Ok(known),
                (None, Some(reason)) => Err(reason),
                _ => return None,
            };
            cache.0.insert(line.below, (line.stamp, said));
        }
    }

    /// Replaces it.
    pub(super) fn store(&self, cache: &Cache) -> Result<()> {
        let failed = || file_error(self.dir.join(&self.name));
        std::fs::create_dir_all(&self.dir).map_err(file_error(&self.dir))?;
        // Only its owner may read and write it.
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed())?;
        write(file.as_file_mut(), cache).map_err(failed())?;
        file.persist(self.dir.join(&self.name)).map_err(|e| failed()(e.error))?;
        Ok(())
    }
}

fn write(file: &mut File, cache: &Cache) -> std::io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut put = |line: &[u8]| encoder.write_all(line).and_then(|()| encoder.write_all(b"\n"));
    put(&serde_json::to_vec(&Header { cache: KIND.to_owned(), version: VERSION })?)?;
    for (below, (stamp, said)) in cache.0.iter().collect::<BTreeMap<_, _>>() {
        let (known, refused) = match said {
            Ok(known) => (Some(known.clone()), None),
            Err(reason) => (None, Some(reason.clone())),
        };
        put(&serde_json::to_vec(&Line { below: below.clone(), stamp: *stamp, known, refused })?)?;
    }
    encoder.finish()?.flush()
}

impl Cache {
    /// What is known of a file, if it is still the same.
    pub(super) fn get(&self, found: &Found) -> Option<&std::result::Result<Known, String>> {
        self.0.get(&found.below).filter(|(stamp, _)| *stamp == found.stamp).map(|(_, said)| said)
    }

    /// Notes what a file says.
    pub(super) fn put(&mut self, found: &Found, said: std::result::Result<Known, String>) {
        self.0.insert(found.below.clone(), (found.stamp, said));
    }

    /// Forgets the files that are not among these; says whether there were any.
    pub(super) fn keep_only(&mut self, listing: &[Found]) -> bool {
        let before = self.0.len();
        let there: std::collections::HashSet<&str> = listing.iter().map(|f| f.below.as_str()).collect();
        self.0.retain(|below, _| there.contains(below.as_str()));
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn found(below: &str) -> Found {
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: 4, changed: 5 };
        Found { file: below.to_owned(), below: below.to_owned(), path: PathBuf::new(), stamp }
    }

    fn filled() -> Cache {
        let mut cache = Cache::default();
        let record = Canonical::parse(r#"{"name":"x","n":1.0}"#).unwrap();
        cache.put(&found("a"), Ok(Known { name: "x".into(), table: "packages".into(), record }));
        cache.put(&found("b"), Err("it is none".into()));
        cache
    }

    #[test]
    fn what_is_kept_is_read_back_for_the_same_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = CacheFile::new(dir.path().join("deep"), "cache".into());
        file.store(&filled()).unwrap();
        let cache = file.load();
        assert_eq!(
            cache.get(&found("a")).unwrap().as_ref().unwrap().record.as_str(),
            r#"{"n":1.0,"name":"x"}"#
        );
        assert_eq!(cache.get(&found("b")).unwrap().as_ref().unwrap_err(), "it is none");
        let mut other = found("a");
        other.stamp.changed += 1;
        assert!(cache.get(&other).is_none());
    }

    #[test]
    fn a_cache_that_others_could_have_written_or_that_is_damaged_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let file = CacheFile::new(dir.path().to_owned(), "cache".into());
        let knows = || file.load().get(&found("b")).is_some();
        file.store(&filled()).unwrap();
        assert!(knows());
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(!knows());
        file.store(&filled()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(!knows(), "{length}");
        }
        let zst = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        for text in ["", "[]", "{\"cache\":\"airlock.directory-cache\",\"version\":99}\n", "\u{0}\n\n"] {
            std::fs::write(&path, zst(text)).unwrap();
            assert!(!knows(), "{text:?}");
        }
        let header = format!("{{\"cache\":\"{KIND}\",\"version\":{VERSION}}}\n");
        let blanks = usize::try_from(LINE_BYTES_MAX).unwrap();
        let line = |blanks: usize| {
            let line =
                Line { below: "b".into(), stamp: found("b").stamp, known: None, refused: Some("x".into()) };
            format!("{header}{}{}\n", " ".repeat(blanks), serde_json::to_string(&line).unwrap())
        };
        std::fs::write(&path, zst(&line(1))).unwrap();
        assert!(knows());
        std::fs::write(&path, zst(&line(blanks))).unwrap();
        assert!(!knows());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(!knows());
    }
}
