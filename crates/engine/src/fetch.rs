//! Fetching what was admitted, and opening it.
//!
//! Bytes are hashed while they stream into the store. What does not fit its record is not kept; what is
//! not what its record says is kept out by a fact that judging reads.

mod again;
mod probe;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;

use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};

use airlock_core::canon::Canonical;
use airlock_core::channel::Channel;
use airlock_core::closure;
use airlock_core::ecosystem::{ArtifactKind, Ecosystem, canonical_name};
use airlock_core::fact::{Fault, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Upstream;
use airlock_formats::archive::{self, ArchiveLimits, Opened};
use airlock_formats::feeds::vex::security;
use airlock_store::{Batch, Staged, Store};

use crate::boxed;
use crate::error::{Error, Kind, Result, joined};
use crate::facts::FactStore;
use crate::judge::{Judgment, Touched};
use crate::mirror::{MirrorState, Origin};
use crate::progress::{Task, Unit};
use crate::station::Station;
use crate::upstream::{Client, Location, Piece};
use crate::{tree_edit, trees};

pub use again::again;
pub use probe::Probing;

use probe::Budget;

/// Shards whose files are looked at together.
const CHUNK: usize = 1024;
/// Files that are fetched at once from one host.
const AT_ONCE: usize = 4;
/// A batch is synced when it holds so many files,
const BATCH_FILES: usize = 256;
/// or so many bytes.
const BATCH_BYTES: u64 = 256 << 20;
/// Largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 32 << 30;

/// What fetching did.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Files that came.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many files are held, and were asked for only to be opened; those that did not come count too.
    pub probed: u64,
    /// Files that wait to be opened, because the budget of this run was used up.
    pub unprobed: u64,
    /// Files that did not come or do not fit, with the reason.
    pub faults: Vec<(String, Fault)>,
}

/// One file to fetch.
struct Wanted {
    key: String,
    artifact: Artifact,
    /// How long it may be where its record does not say.
    bytes_max: u64,
    location: Result<Location>,
    /// Somebody brought it, so that whoever looks at what comes in is asked about it.
    is_brought: bool,
}

/// One file that came.
struct Arrived {
    staged: Staged,
    metadata: Option<Staged>,
    fact: FileFact,
}

/// Notes when each artifact that `judgment` looked at was first seen, and fetches what it admits and is not here.
/// The ref of facts moves with each batch of files, so that whoever is killed loses one batch at most.
#[boxed]
pub async fn fetch(
    station: &Station,
    channel: &Channel,
    origin: &Origin,
    (upstream, state): (Id<Upstream>, &MirrorState),
    judgment: &Judgment,
) -> Result<Fetched> {
    let mut facts = FactStore::open(station, channel).await?;
    let mut budget = station.config.probing.budget();
    let wanted = wanted(station, origin, upstream, state, judgment, &mut facts, &mut budget).await?;
    let mut report = Fetched { probed: budget.taken(), unprobed: budget.refused(), ..Fetched::default() };
    if !wanted.is_empty() {
        let client = origin.client(station)?;
        let what = (channel.ecosystem, upstream);
        fetch_all(station, &client, what, wanted, &mut facts, &mut report).await?;
    }
    facts.commit(station, &report).await?;
    Ok(report)
}

/// What must be fetched: what is admitted but for its bytes.
async fn wanted(
    station: &Station,
    origin: &Origin,
    upstream: Id<Upstream>,
    state: &MirrorState,
    judgment: &Judgment,
    facts: &mut FactStore,
    budget: &mut Budget,
) -> Result<Vec<Wanted>> {
    let db = &station.store.db;
    let upstream: Upstream = db.get(upstream).await?;
    let is_news = |(_, touched): &(&str, &Touched)| touched.has_unseen || !touched.wanted.is_empty();
    let keys: Vec<&str> = judgment.touched.iter().filter(is_news).map(|(key, _)| key).collect();
    let mut out = Vec::new();
    for keys in keys.chunks(CHUNK) {
        let ids = tree_edit::find_many(db, upstream.tree, keys.iter().copied()).await?;
        let list: Vec<Id<Shard>> = ids.values().copied().collect();
        let shards: HashMap<Digest, Shard> = trees::objects(db, &list).await?;
        facts.read(db, keys).await?;
        for (key, id) in &ids {
            let Some(shard) = shards.get(&id.digest()) else { continue };
            facts.see(key, shard.entries.keys());
            for wanted in judgment.touched.get(key).into_iter().flat_map(|t| &t.wanted) {
                let Some(entry) = shard.entries.get(&wanted.file) else { continue };
                let Ok(artifact) = Artifact::read(shard, &wanted.file, entry) else { continue };
                let bytes_max = match wanted.is_probe {
                    true => budget.take(artifact.size),
                    false => Some(ARTIFACT_BYTES_MAX),
                };
                if let Some(bytes_max) = bytes_max {
                    let location =
                        locate(upstream.ecosystem, &origin.location, &ShardKey::parse(key), &artifact, state);
                    let (key, is_brought) = (key.clone(), origin.is_tree());
                    out.push(Wanted { key, artifact, location, bytes_max, is_brought });
                }
            }
        }
        facts.write(db).await?;
    }
    Ok(out)
}

/// Where the index says that a file lies.
fn locate(
    ecosystem: Ecosystem,
    source: &Location,
    key: &ShardKey,
    artifact: &Artifact,
    state: &MirrorState,
) -> Result<Location> {
    let escaped = artifact.file.replace('+', "%2B");
    match ecosystem {
        Ecosystem::Conda => {
            let subdir = key.subdir.as_deref().unwrap_or("noarch");
            let folder = source.join(&format!("{subdir}/"))?;
            let folder = match state.bases.get(subdir).map(|b| b.trim_end_matches('/')) {
                Some(base) if !base.is_empty() => folder.join(&format!("{base}/"))?,
                _ => folder,
            };
            folder.join(
                artifact.url.as_deref().filter(|_| artifact.kind == ArtifactKind::Wheel).unwrap_or(&escaped),
            )
        }
        Ecosystem::Pypi => {
            let page = source.join(&format!("simple/{}/", key.name))?;
            page.join(artifact.url.as_deref().unwrap_or(&escaped))
        }
    }
}

async fn fetch_all(
    station: &Station,
    client: &Client,
    (ecosystem, upstream): (Ecosystem, Id<Upstream>),
    wanted: Vec<Wanted>,
    facts: &mut FactStore,
    report: &mut Fetched,
) -> Result<()> {
    let store = &station.store;
    let bytes = wanted.iter().filter_map(|w| w.artifact.size).fold(0, u64::saturating_add);
    let task = station.options.progress.task("fetching", Unit::Bytes, Some(bytes));
    let task = &task;
    let fetches = wanted.into_iter().map(|w| async move {
        let arrived = fetch_one(station, client, ecosystem, &w, task).await;
        (w, arrived)
    });
    let mut fetches = stream::iter(fetches).buffer_unordered(AT_ONCE);
    let mut batch = store.blobs.batch();
    let mut new: Vec<(String, String, std::result::Result<FileFact, Fault>)> = Vec::new();
    let mut batch_bytes = 0;
    while let Some((wanted, arrived)) = fetches.next().await {
        let file = wanted.artifact.file.clone();
        match arrived {
            Ok(arrived) => {
                report.files += 1;
                report.bytes += arrived.fact.size;
                batch_bytes += arrived.fact.size;
                batch.add(arrived.staged, Some(arrived.fact.sha256))?;
                if let Some(metadata) = arrived.metadata {
                    batch.add(metadata, arrived.fact.metadata)?;
                }
                new.push((wanted.key, file, Ok(arrived.fact)));
            }
            Err(error) if error.is_ours => return Err(error),
            Err(error) => {
                let fault = match error.kind {
                    Kind::Unsafe => Fault::Mismatch(error.message),
                    _ => Fault::Fetch(error.message),
                };
                report.faults.push((file.clone(), fault.clone()));
                new.push((wanted.key, file, Err(fault)));
            }
        }
        if new.len() >= BATCH_FILES || batch_bytes >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, store.blobs.batch());
            keep(station, full, &mut new, facts).await?;
            facts.commit(station, report).await?;
            // Fetching may take days, and no ref names what was read until it is done.
            store.db.touch_many(&[upstream.digest()]).await?;
            batch_bytes = 0;
        }
    }
    report.faults.sort_by(|a, b| a.0.cmp(&b.0));
    keep(station, batch, &mut new, facts).await
}

/// Gives a batch of files their names, and then their facts.
async fn keep(
    station: &Station,
    batch: Batch,
    new: &mut Vec<(String, String, std::result::Result<FileFact, Fault>)>,
    facts: &mut FactStore,
) -> Result<()> {
    joined(tokio::task::spawn_blocking(move || Ok(batch.commit()?)).await)?;
    let db = &station.store.db;
    let keys: BTreeSet<String> = new.iter().map(|(key, ..)| key.clone()).collect();
    facts.read(db, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for (key, file, result) in new.drain(..) {
        facts.note(&key, &file, result);
    }
    facts.write(db).await
}

async fn fetch_one(
    station: &Station,
    client: &Client,
    ecosystem: Ecosystem,
    wanted: &Wanted,
    task: &Task,
) -> Result<Arrived> {
    let artifact = &wanted.artifact;
    let location = match &wanted.location {
        Ok(location) => location,
        Err(error) => return Err(Error::fault(error.message.clone())),
    };
    let store = &station.store;
    let mut staged = store.blobs.stage()?;
    let mut md5 = artifact.sha256.is_none().then(Md5::new);
    let most = artifact.size.unwrap_or(wanted.bytes_max).min(wanted.bytes_max);
    client
        .get_file(location, most, |piece| {
            match piece {
                Piece::Restart => {
                    md5 = artifact.sha256.is_none().then(Md5::new);
                    staged.restart()?;
                }
                Piece::Bytes(chunk) => {
                    if let Some(md5) = &mut md5 {
                        md5.update(chunk);
                    }
                    staged.write(chunk)?;
                    task.add(chunk.len() as u64);
                }
            }
            Ok(())
        })
        .await?;
    check(artifact, &staged, md5.map(|m| m.finalize().into()), location)?;
    let (store, artifact, key) = (store.clone(), artifact.clone(), ShardKey::parse(&wanted.key));
    let asked = wanted.is_brought.then(|| station.config.import.clone());
    let work = move || {
        if let Some(asked) = asked {
            asked.ask(staged.path(), &artifact.file)?;
        }
        open(&store, ecosystem, &key, &artifact, staged)
    };
    joined(tokio::task::spawn_blocking(work).await)
}

/// Compares what came with what the record declares.
fn check(artifact: &Artifact, staged: &Staged, md5: Option<[u8; 16]>, location: &Location) -> Result<()> {
    let place = location.shown();
    let found = staged.digest();
    if let Some(size) = artifact.size.filter(|s| *s != staged.size()) {
        return Err(Error::fault(format!("{place}: {} bytes came, the record says {size}", staged.size())));
    }
    if let Some(declared) = artifact.sha256.filter(|d| *d != found) {
        return Err(Error::unsafe_(format!(
            "{place}: the bytes hash to {found}, the record says {declared}"
        )));
    }
    if let (None, Some(declared), Some(found)) = (artifact.sha256, artifact.md5, md5)
        && declared != found
    {
        let (found, declared) = (airlock_core::hex::encode(&found), airlock_core::hex::encode(&declared));
        return Err(Error::unsafe_(format!(
            "{place}: the bytes have MD5 {found}, the record says {declared}"
        )));
    }
    Ok(())
}

/// Opens an artifact and holds it against its record.
fn open(
    store: &Store,
    ecosystem: Ecosystem,
    key: &ShardKey,
    artifact: &Artifact,
    staged: Staged,
) -> Result<Arrived> {
    let opened = read_archive(artifact, staged.reopen()?)
        .map_err(|e| Error::unsafe_(format!("the archive is refused: {e}")))?;
    contradiction(ecosystem, key, artifact, &opened).map_or(Ok(()), |c| Err(Error::unsafe_(c)))?;
    let metadata = match (&opened.metadata, artifact.kind) {
        (Some(bytes), ArtifactKind::Wheel) => {
            let mut staged = store.blobs.stage()?;
            staged.write(bytes)?;
            Some(staged)
        }
        _ => None,
    };
    let fact = FileFact {
        sha256: staged.digest(),
        size: staged.size(),
        metadata: metadata.as_ref().map(Staged::digest),
        licence: opened.licence,
        summary: opened.summary,
        requires: match artifact.kind {
            ArtifactKind::Wheel if ecosystem == Ecosystem::Pypi => requires(opened.requires_dist),
            _ => Vec::new(),
        },
        run_exports: opened.run_exports.and_then(|bytes| run_exports(&bytes)),
        security: opened.security.map(|bytes| security::read(&bytes)).unwrap_or_default(),
    };
    Ok(Arrived { staged, metadata, fact })
}

/// Longest requirement that is kept, in bytes.
const REQUIREMENT_BYTES_MAX: usize = 1000;

/// What is required in every environment.
fn requires(all: Vec<String>) -> Vec<String> {
    let plain = all.into_iter().filter(|text| !text.contains(';') && text.len() <= REQUIREMENT_BYTES_MAX);
    plain.take(closure::DEPENDS_MAX).collect()
}

fn read_archive(artifact: &Artifact, file: File) -> std::result::Result<Opened, archive::ArchiveError> {
    let limits = ArchiveLimits::default();
    let reader = BufReader::with_capacity(1 << 18, file);
    match artifact.kind {
        ArtifactKind::Conda => archive::open_conda(reader, &limits),
        ArtifactKind::TarBz2 => archive::open_tar_bz2(reader, &limits),
        ArtifactKind::Wheel => archive::open_wheel(reader, &limits),
        ArtifactKind::Sdist if artifact.file.ends_with(".zip") => archive::open_sdist_zip(reader, &limits),
        ArtifactKind::Sdist => archive::open_sdist(reader, &limits),
    }
}

/// What the archive says of itself that its record does not.
fn contradiction(
    ecosystem: Ecosystem,
    key: &ShardKey,
    artifact: &Artifact,
    opened: &Opened,
) -> Option<String> {
    let name = canonical_name(ecosystem, &opened.name);
    if name.as_deref() != Some(&key.name) {
        return Some(format!("the archive is of `{}`, the record of `{}`", opened.name, key.name));
    }
    let order = airlock_core::version::Order::of(ecosystem);
    let same = opened.version == artifact.version
        || (ecosystem == Ecosystem::Pypi
            && order.compare(&opened.version, &artifact.version).is_some_and(std::cmp::Ordering::is_eq));
    if !same {
        return Some(format!(
            "the archive is version {}, the record version {}",
            opened.version, artifact.version
        ));
    }
    match (&opened.build, &artifact.build, artifact.kind) {
        (Some(found), Some(stated), ArtifactKind::Conda | ArtifactKind::TarBz2) if found != stated => {
            return Some(format!("the archive is build {found}, the record build {stated}"));
        }
        _ => {}
    }
    match (&opened.subdir, &key.subdir) {
        (Some(found), Some(stated)) if found != stated => {
            Some(format!("the archive is for {found}, the record for {stated}"))
        }
        _ => None,
    }
}

/// `info/run_exports.json` as CEP 12 wants it: a bare list means weak exports.
fn run_exports(bytes: &[u8]) -> Option<Canonical> {
    let value = Canonical::parse(std::str::from_utf8(bytes).ok()?).ok()?;
    if value.as_str().starts_with('[') { Some(Canonical::object([("weak", &value)])) } else { Some(value) }
}
