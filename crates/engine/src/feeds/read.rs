//! Reading feeds, some side by side: the records of each are cut apart in order, read, hashed and packed on all
//! threads, and those of all feeds are written in common batches. What is held is what is on its way, and some hundred
//! bytes for each record.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use airlock_core::advisory::{AdvisoryRecord, FeedKind, Until};
use airlock_core::assess::Statements;
use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Encoded, Object};
use airlock_core::time::Time;
use airlock_core::trie::{self, TreeId};
use airlock_formats::feeds::{self as formats, BadAdvisory, FeedError};
use airlock_formats::limits;
use airlock_store::{Db, Packed};

use super::cut::{Chunk, cut, files_of, is_json};
use super::{FeedDef, Wanted, paged, statements};
use crate::error::{Error, Result, file_error, joined};
use crate::station::Station;
use crate::trees;
use crate::trees::Writing;
use crate::upstream::{Ask, Changed, Client, Location, Piece, Validator};

/// Packed objects that are written in one transaction, in bytes.
const WRITE_BYTES: usize = 8 << 20;
/// The same by their number.
const WRITE_OBJECTS: usize = 8000;
/// Chunks that wait for the next thread, for each thread.
const WAITING: usize = 2;
/// Feeds that are read side by side: while one waits for a disk, a network or its last record, others go on.
const FEEDS_AT_ONCE: usize = 4;

/// What reading a feed gave.
pub(super) struct Content {
    /// The object that holds its content.
    pub(super) root: Digest,
    /// Records.
    pub(super) count: u64,
    /// The first records that make no sense.
    pub(super) bad: Vec<BadAdvisory>,
    /// How many do not.
    pub(super) bad_count: u64,
    /// Up to when, of a feed that is read by what changed in it.
    pub(super) until: Option<Until>,
    /// What to ask its source with the next time.
    pub(super) validator: Option<Validator>,
}

/// Reads feeds into objects, all of which are written when this ends; the answers come in the order of the feeds.
///
/// # Errors
///
/// If the store cannot be written. What is wrong with a feed is said in its place.
pub(super) async fn read(station: &Station, wanted: Vec<Wanted>) -> Result<Vec<(Wanted, Result<Content>)>> {
    let (packed, written) = mpsc::channel(WAITING);
    let reading = async {
        let packed = packed;
        let each = |wanted: Wanted| async {
            let content = read_one(station, &wanted, packed.clone()).await;
            (wanted, content)
        };
        stream::iter(wanted).map(each).buffered(FEEDS_AT_ONCE).collect().await
    };
    let (wrote, contents) = tokio::join!(write(station, written), reading);
    wrote.map(|()| contents)
}

async fn read_one(station: &Station, wanted: &Wanted, packed: mpsc::Sender<Vec<Packed>>) -> Result<Content> {
    let Wanted { name, def, before, .. } = wanted;
    // What the last reading wrote needs no packing, and stands where only what changed is read.
    let before = before.as_ref().filter(|b| b.kind.is_advisories());
    let held: BTreeMap<String, Id<AdvisoryRecord>> = match before {
        Some(head) => trees::load(&station.store.db, head.records()).await?,
        None => BTreeMap::new(),
    };
    let seen = wanted.seen.as_ref().map(|seen| &seen.validator);
    let last = before.and_then(|b| b.until).filter(|_| !wanted.anew);
    let local = localize(station, def, last, seen).await?;
    if let (Local::Unchanged, Some(last)) = (&local, &wanted.before) {
        return Ok(Content {
            root: last.content,
            count: last.count,
            bad: Vec::new(),
            bad_count: last.skipped,
            until: None,
            validator: seen.cloned(),
        });
    }
    let (kind, provenance) = (def.speaks, name.clone());
    let place = Location::parse(&def.location)?.shown();
    let (threads, temporary) = (station.options.threads.max(1), station.dir.clone());
    let last_content = wanted.before.as_ref().map(|head| head.content);
    let (db, runtime) = (station.store.db.clone(), Handle::current());
    let reading = tokio::task::spawn_blocking(move || {
        let known = held.values().map(Id::digest).collect();
        let (until, is_change) = match &local {
            Local::Paged(fetched) => (Some(fetched.until), !fetched.is_whole),
            Local::There(_) | Local::Downloaded(..) | Local::Unchanged => (None, false),
        };
        let validator = match &local {
            Local::Downloaded(_, validator) => validator.clone(),
            _ => None,
        };
        let job = Job {
            threads,
            temporary: &temporary,
            place: &place,
            known: &known,
            base: is_change.then_some(&held),
            last: last_content,
            db: &db,
            runtime: &runtime,
            packed: &packed,
        };
        Ok(Content { until, validator, ..read_content(&job, kind, local.path(), &provenance)? })
    });
    joined(reading.await)
}

/// Writes what comes, one batch while the next is gathered. Nothing names it yet.
async fn write(station: &Station, mut written: mpsc::Receiver<Vec<Packed>>) -> Result<()> {
    let db = &station.store.db;
    let (mut batch, mut bytes, mut writing) = (Vec::new(), 0, Writing::default());
    while let Some(packed) = written.recv().await {
        bytes += packed.iter().map(Packed::size).sum::<usize>();
        batch.extend(packed);
        if bytes >= WRITE_BYTES || batch.len() >= WRITE_OBJECTS {
            writing.next(db, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    writing.next(db, batch).await?;
    writing.end().await
}

/// A feed as a local file: where it lies, or downloaded beside the store for as long as this is held.
enum Local {
    There(PathBuf),
    Downloaded(tempfile::NamedTempFile, Option<Validator>),
    Paged(paged::Fetched),
    /// It is as it was read the last time.
    Unchanged,
}

impl Local {
    fn path(&self) -> &Path {
        match self {
            Self::There(path) => path,
            Self::Downloaded(file, _) => file.path(),
            Self::Paged(fetched) => fetched.path(),
            Self::Unchanged => Path::new(""),
        }
    }
}

async fn localize(
    station: &Station,
    def: &FeedDef,
    last: Option<Until>,
    seen: Option<&Validator>,
) -> Result<Local> {
    let location = def.location.as_str();
    if let Some(url) = paged::api(def.speaks, location) {
        return paged::fetch(station, url, last).await.map(Local::Paged);
    }
    let source = Location::parse(location)?;
    let Location::Http(_) = &source else {
        return Ok(Local::There(PathBuf::from(location)));
    };
    let url = reqwest::Url::parse(location)
        .map_err(|e| Error::usage(format!("the feed's address is not a URL: {e}")))?;
    let client = Client::new(station, &source)?;
    let mut file = tempfile::NamedTempFile::new_in(&station.dir).map_err(file_error(&station.dir))?;
    let path = file.path().to_owned();
    let ask = Ask { bytes_max: limits::FEED_BYTES_MAX, validator: seen, ..Ask::default() };
    let came = client
        .get_file_if_changed(&Location::Http(url), ask, |piece| {
            let done = match piece {
                Piece::Bytes(chunk) => std::io::Write::write_all(&mut file, chunk),
                Piece::Restart => file.as_file_mut().set_len(0).and_then(|()| file.rewind()),
            };
            done.map_err(file_error(&path))
        })
        .await?;
    Ok(match came {
        Changed::Here(validator) => Local::Downloaded(file, validator),
        Changed::NotModified => Local::Unchanged,
    })
}

/// How a feed is read.
pub(super) struct Job<'a> {
    threads: usize,
    /// Where files may lie for as long as they are read.
    pub(super) temporary: &'a Path,
    /// Where the feed lies, to be shown.
    pub(super) place: &'a str,
    /// The records of the last good state, where only what changed is read.
    base: Option<&'a BTreeMap<String, Id<AdvisoryRecord>>>,
    /// What the last reading came to.
    last: Option<Digest>,
    db: &'a Db,
    runtime: &'a Handle,
    /// Objects that are in the store for certain.
    known: &'a HashSet<Digest>,
    /// Where objects go.
    packed: &'a mpsc::Sender<Vec<Packed>>,
}

impl Job<'_> {
    /// What the last reading of a feed of statements had.
    pub(super) fn last_statements(&self) -> Result<Vec<(String, Statements)>> {
        let Some(content) = self.last else { return Ok(Vec::new()) };
        self.runtime.block_on(async {
            let mut out = Vec::new();
            for (key, id) in trees::load::<Id<Statements>>(self.db, TreeId::new(content)).await? {
                out.push((key, self.db.get(id).await?));
            }
            Ok(out)
        })
    }

    /// Sends objects to be written. Whether somebody takes them: who does is gone only after an error that it tells
    /// itself.
    pub(super) fn send(&self, objects: Vec<Packed>) -> bool {
        objects.is_empty() || self.packed.blocking_send(objects).is_ok()
    }

    /// Packs and sends what a feed comes to: a tree, or one object.
    pub(super) fn content(
        &self,
        root: Digest,
        objects: &[Encoded],
        count: usize,
        bad: Vec<BadAdvisory>,
        bad_count: u64,
    ) -> Result<Content> {
        self.send(objects.iter().map(Packed::of).collect::<std::result::Result<_, _>>()?);
        Ok(Content { root, count: count as u64, bad, bad_count, until: None, validator: None })
    }

    fn one<T: Object>(&self, value: &T, count: usize, bad: Vec<BadAdvisory>) -> Result<Content> {
        let (id, encoded) = object::encode(value)?;
        let bad_count = bad.len() as u64;
        self.content(id.digest(), &[encoded], count, bad, bad_count)
    }
}

fn read_content(job: &Job<'_>, kind: FeedKind, path: &Path, provenance: &str) -> Result<Content> {
    let place = job.place;
    let unusable = |e: FeedError| {
        Error::fault(format!("{place}: {e}")).hint("the last good state of the feed stays in force")
    };
    let open = || Ok(formats::unpack(File::open(path)?, limits::FEED_OBJECT_BYTES_MAX)?);
    match kind {
        FeedKind::Osv | FeedKind::Nvd | FeedKind::Cve | FeedKind::Openssl | FeedKind::Curl => {
            let read = read_records(job, kind, path).map_err(unusable)?;
            let (root, nodes) = trie::build(&read.records)?;
            job.content(root.digest(), &nodes, read.records.len(), read.bad, read.bad_count)
        }
        FeedKind::Kev => {
            let (kev, bad) = open().and_then(formats::kev::read).map_err(unusable)?;
            job.one(&kev, kev.entries.len(), bad)
        }
        FeedKind::Epss => {
            let (epss, bad) = open().and_then(|mut r| formats::epss::read(&mut r)).map_err(unusable)?;
            job.one(&epss, epss.scores.len(), bad)
        }
        FeedKind::Identities => {
            let read = open().and_then(|r| formats::identities::read(r, provenance)).map_err(unusable)?;
            let (root, nodes) = trie::build(&read.map)?;
            job.content(root.digest(), &nodes, read.map.len(), read.bad, read.bad_count)
        }
        FeedKind::Vex => files_of(path, is_json)
            .and_then(|files| statements::read(job, files))
            .map_err(unusable)?
            .content(job),
    }
}

/// The records that a feed's files held; the objects went to be written.
struct Records {
    records: BTreeMap<String, Id<AdvisoryRecord>>,
    bad: Vec<BadAdvisory>,
    bad_count: u64,
}

/// What was read so far. The order in which threads add to it decides nothing.
#[derive(Default)]
struct Sum {
    /// By id: when the record was last changed, and its object.
    records: BTreeMap<String, (Option<Time>, Digest)>,
    /// By its place in the feed.
    bad: BTreeMap<u64, BadAdvisory>,
    bad_count: u64,
    /// Why a thread stopped.
    failed: Option<FeedError>,
}

impl Sum {
    fn add(&mut self, id: String, rank: (Option<Time>, Digest)) {
        // Of two records with one id the later counts, whichever comes first.
        let held = self.records.entry(id).or_insert(rank);
        *held = rank.max(*held);
    }

    fn leave_out(&mut self, place: u64, bad: BadAdvisory) {
        self.bad_count += 1;
        self.bad.insert(place, bad);
        if self.bad.len() > limits::BAD_LISTED_MAX {
            self.bad.pop_last();
        }
    }
}

fn lock(sum: &Mutex<Sum>) -> std::sync::MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) type FeedResult<T> = std::result::Result<T, FeedError>;

fn read_records(job: &Job<'_>, kind: FeedKind, path: &Path) -> FeedResult<Records> {
    let sum = Mutex::new(Sum::default());
    let (send, receive) = sync_channel(job.threads * WAITING);
    let receive = Mutex::new(receive);
    let cut = std::thread::scope(|scope| {
        // The threads hold the only ends from which chunks are taken: when all have stopped, cutting stops.
        let receive = receive;
        let receive = std::sync::Arc::new(receive);
        for _ in 0..job.threads {
            let (receive, sum) = (std::sync::Arc::clone(&receive), &sum);
            scope.spawn(move || {
                if let Err(e) = work(job, &receive, sum) {
                    lock(sum).failed.get_or_insert(e);
                }
            });
        }
        drop(receive);
        cut(kind, path, job, send, &mut |place, bad| lock(&sum).leave_out(place, bad))
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = sum.failed {
        return Err(error);
    }
    cut?;
    if sum.records.is_empty() && job.base.is_none() {
        return Err(FeedError::Content("it holds no usable record".to_owned()));
    }
    let mut records = job.base.cloned().unwrap_or_default();
    records.extend(sum.records.into_iter().map(|(id, (_, digest))| (id, Id::new(digest))));
    Ok(Records { records, bad: sum.bad.into_values().collect(), bad_count: sum.bad_count })
}

/// Reads chunks for as long as there are some.
fn work(job: &Job<'_>, receive: &Mutex<Receiver<Chunk>>, sum: &Mutex<Sum>) -> FeedResult<()> {
    let failed = |e: airlock_store::StoreError| FeedError::Content(e.to_string());
    loop {
        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = next else { return Ok(()) };
        let (mut packed, mut good, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for piece in &chunk.pieces {
            let text = chunk.text.get(start..piece.end).unwrap_or_default();
            start = piece.end;
            let read = piece.format.read(text).and_then(|record| {
                let encoded = object::encode(&record)
                    .map_err(|e| BadAdvisory { id: record.advisory.id.clone(), reason: e.to_string() })?;
                Ok((record.advisory.id, record.advisory.modified, encoded.1))
            });
            match read {
                Ok((id, modified, encoded)) => {
                    if !job.known.contains(&encoded.digest) {
                        packed.push(Packed::of(&encoded).map_err(failed)?);
                    }
                    good.push((id, (modified, encoded.digest)));
                }
                Err(mut left_out) => {
                    // One without an id goes by its first words, which say less than the name of its file.
                    if let Some(file) = piece.file.as_deref().filter(|_| text.starts_with(&left_out.id)) {
                        left_out.id = file.to_owned();
                    }
                    bad.push((piece.place, left_out));
                }
            }
        }
        if !job.send(packed) {
            return Ok(());
        }
        let mut sum = lock(sum);
        good.into_iter().for_each(|(id, rank)| sum.add(id, rank));
        bad.into_iter().for_each(|(place, bad)| sum.leave_out(place, bad));
    }
}
