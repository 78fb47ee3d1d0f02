//! What reading an index gives, whatever its ecosystem.

use std::collections::BTreeMap;
use std::io::Read;

use memchr::memchr2;

use airlock_core::canon::Canonical;
use airlock_core::record::BadRecord;
use airlock_core::shard::{Entry, Shard, ShardKey};

use crate::limits;

/// An index that cannot be used at all. Nothing is published from it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Larger than allowed.
    #[error("it is larger than {0} bytes unpacked")]
    TooLarge(u64),
    /// Expands beyond reason.
    #[error("it unpacks to more than {} times its size", limits::RATIO_MAX)]
    Ratio,
    /// Not the compression that it claims.
    #[error("it cannot be unpacked: {0}")]
    Unpack(#[from] std::io::Error),
    /// Not JSON of the expected shape.
    #[error("it is not a valid index: {0}")]
    Json(#[from] serde_json::Error),
    /// Not msgpack of the expected shape.
    #[error("it is not a valid sharded index: {0}")]
    Msgpack(#[from] crate::msgpack::MsgpackError),
    /// More of something than allowed.
    #[error("it has more than {1} {0}")]
    TooMany(&'static str, u64),
    /// It speaks of something else than what was asked for.
    #[error("{0}")]
    Content(String),
}

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The index that holds it.
    pub index: String,
    /// The file that the record is about.
    pub file: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// What an index holds.
#[derive(Debug, Default)]
pub struct IndexRead {
    /// The records by name.
    pub shards: BTreeMap<ShardKey, Shard>,
    /// What the index says beside its records, but for what is rewritten.
    pub about: Option<Canonical>,
    /// Where the index says that files lie, relative to itself or absolute.
    pub base_url: Option<String>,
    /// Records that were left out, the first [`limits::BAD_LISTED_MAX`] of them.
    pub bad: Vec<BadEntry>,
    /// How many were left out.
    pub bad_count: u64,
}

impl IndexRead {
    /// Notes a record that is left out.
    pub fn leave_out(&mut self, index: &str, file: &str, reason: impl ToString) {
        self.bad_count += 1;
        if self.bad.len() < limits::BAD_LISTED_MAX {
            let (file, reason) = (brief(file), brief(&reason.to_string()));
            self.bad.push(BadEntry { index: index.to_owned(), file, reason });
        }
    }

    /// Takes in what another part of the same index held.
    pub fn merge(&mut self, other: Self) {
        let mut twice = Vec::new();
        for (key, shard) in other.shards {
            match self.shards.entry(key) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(shard);
                }
                std::collections::btree_map::Entry::Occupied(mut place) => {
                    for (file, entry) in shard.entries {
                        if let Err(reason) = keep(&mut place.get_mut().entries, &file, entry) {
                            twice.push((file, reason));
                        }
                    }
                    place.get_mut().meta.extend(shard.meta);
                }
            }
        }
        for (file, reason) in twice {
            self.leave_out("the index", &file, reason);
        }
        self.bad_count += other.bad_count;
        self.bad.extend(other.bad);
        self.bad.truncate(limits::BAD_LISTED_MAX);
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        self.shards.values().map(|s| s.entries.len()).sum()
    }
}

impl From<BadRecord> for IndexError {
    fn from(error: BadRecord) -> Self {
        Self::Content(error.to_string())
    }
}

/// Unpacks a zstd stream of known packed size, within limits.
pub(crate) fn unzstd(packed: &[u8], bytes_max: u64) -> Result<Vec<u8>, IndexError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    decoder.window_log_max(27)?;
    // Small inputs may expand by more than the ratio without being a bomb.
    let by_ratio = (packed.len() as u64).saturating_mul(limits::RATIO_MAX).max(1 << 20);
    let most = by_ratio.min(bytes_max);
    // What the frame says of its size saves copying, and is not believed beyond what may come.
    let stated = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().unwrap_or_default();
    let mut out = Vec::with_capacity(usize::try_from(stated.min(most)).unwrap_or_default());
    decoder.take(most + 1).read_to_end(&mut out)?;
    if out.len() as u64 > most {
        return Err(if most == bytes_max { IndexError::TooLarge(bytes_max) } else { IndexError::Ratio });
    }
    Ok(out)
}

/// Brings a record, or what else is carried as it came, into canonical form.
pub(crate) fn canonical(text: &str) -> Result<Canonical, String> {
    canonical_record(text).map(|(canonical, _)| canonical)
}

/// The same, and whether it holds numbers that need a closer look, since no float may hold them.
pub(crate) fn canonical_record(text: &str) -> Result<(Canonical, bool), String> {
    if text.len() > limits::RECORD_BYTES_MAX {
        return Err(format!("it is larger than {} bytes", limits::RECORD_BYTES_MAX));
    }
    let canonical = Canonical::parse(text).map_err(|e| e.to_string())?;
    let (depth, odd_numbers) = shape(canonical.as_str().as_bytes());
    if depth > limits::RECORD_DEPTH_MAX {
        return Err(format!("it nests deeper than {} levels", limits::RECORD_DEPTH_MAX));
    }
    Ok((canonical, odd_numbers))
}

/// How deep valid JSON without white space nests, and whether a number in it is long or has an exponent.
fn shape(json: &[u8]) -> (usize, bool) {
    /// Digits with which every number is far from the end of what a float holds.
    const PLAIN_DIGITS: usize = 100;
    let (mut depth, mut most, mut odd): (usize, usize, bool) = (0, 0, false);
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(json, at),
            b'[' | b'{' => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let rest = json.get(at..).unwrap_or_default();
                let end = rest.iter().position(|b| matches!(b, b',' | b']' | b'}')).unwrap_or(rest.len());
                let number = rest.get(..end).unwrap_or_default();
                odd |= end > PLAIN_DIGITS || number.iter().any(|b| matches!(b, b'e' | b'E'));
                at += end;
            }
            _ => {}
        }
    }
    (most, odd)
}

/// Behind the closing quote of the string whose text starts at `at`.
fn string_end(json: &[u8], mut at: usize) -> usize {
    loop {
        let rest = json.get(at..).unwrap_or_default();
        let Some(found) = memchr2(b'"', b'\\', rest) else { return json.len() };
        if rest.get(found) == Some(&b'"') {
            return at + found + 1;
        }
        at += found + 2;
    }
}

/// Cuts text that an outsider wrote to what a message can hold; parsers quote what they could not read.
pub(crate) fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.chars().take(CHARS_MAX).collect()
}

/// Puts a record under its file's name. Of two different records for one file the lesser stays, so that the
/// order in which an index lists them decides nothing.
pub(crate) fn keep(entries: &mut BTreeMap<String, Entry>, file: &str, entry: Entry) -> Result<(), String> {
    match entries.get_mut(file) {
        None => {
            entries.insert(file.to_owned(), entry);
        }
        Some(held) if *held == entry => {}
        Some(held) => {
            if (&entry.table, &entry.record) < (&held.table, &held.record) {
                *held = entry;
            }
            return Err("the file stands twice in the index, with different records".to_owned());
        }
    }
    Ok(())
}

/// Reads UTF-8 text or says that it is none.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, IndexError> {
    std::str::from_utf8(bytes)
        .map_err(|e| IndexError::Content(format!("it is not UTF-8 at byte {}", e.valid_up_to())))
}
