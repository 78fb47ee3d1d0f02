//! Fetching what was admitted, and opening it.
//!
//! Bytes are hashed while they stream into the store. What does not fit its record is not kept; what is
//! not what its record says is kept out by a fact that judging reads.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;

use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};

use airlock_core::canon::Canonical;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::{ArtifactKind, Ecosystem, canonical_name};
use airlock_core::fact::{Fact, Facts, Fault, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Upstream;
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_core::verdict::Verdict;
use airlock_formats::archive::{self, ArchiveLimits, Opened};
use airlock_store::{Batch, RefChange, Staged, Store};

use crate::channel::ref_name;
use crate::error::{Error, Kind, Result, joined};
use crate::judge::Judgment;
use crate::mirror::MirrorState;
use crate::station::Station;
use crate::trees;
use crate::upstream::{Client, Location, Piece};

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
    /// Files that did not come or do not fit, with the reason.
    pub faults: Vec<(String, Fault)>,
}

/// One file to fetch.
struct Wanted {
    key: String,
    /// What the file was when it was fetched first.
    pinned: Option<Digest>,
    artifact: Artifact,
    location: Result<Location>,
}

/// One file that came.
struct Arrived {
    staged: Staged,
    metadata: Option<Staged>,
    fact: FileFact,
}

/// Notes when each artifact of `upstream` was first seen, fetches what `judgment` admits and is not here,
/// and gives the move of the ref of facts that is to be made. No ref moves yet.
pub async fn fetch(
    station: &Station,
    channel: &Channel,
    upstream: Id<Upstream>,
    state: &MirrorState,
    judgment: &Judgment,
) -> Result<(RefChange, Fetched)> {
    let db = &station.store.db;
    let name = ref_name(&channel.name, "facts");
    let from = db.find_ref(&name).await?;
    let now = station.now().await?;
    let upstream: Upstream = db.get(upstream).await?;
    let shards = trees::load(db, upstream.tree).await?;
    let mut facts = load_facts(station, &channel.name).await?;
    let wanted = wanted(station, channel, &shards, &mut facts, state, judgment, now).await?;
    let mut report = Fetched::default();
    if !wanted.is_empty() {
        let ChannelFeed::Source { location, .. } = &channel.feed else {
            return Err(Error::usage(format!("channel `{}` is fed by bundles", channel.name)));
        };
        let client = Client::new(station, &Location::parse(location)?)?;
        fetch_all(&station.store, &client, channel.ecosystem, wanted, &mut facts, now, &mut report).await?;
    }
    let to = trees::store_all(&station.store.db, &facts).await?.digest();
    Ok((RefChange { name, from, to: Some(to) }, report))
}

/// All facts of a channel by shard key.
pub(crate) async fn load_facts(station: &Station, channel: &str) -> Result<BTreeMap<String, Facts>> {
    let db = &station.store.db;
    let Some(root) = db.find_ref(&ref_name(channel, "facts")).await? else { return Ok(BTreeMap::new()) };
    let ids = trees::load::<Id<Facts>>(db, TreeId::new(root)).await?;
    let mut out = BTreeMap::new();
    let all: Vec<(&String, &Id<Facts>)> = ids.iter().collect();
    for chunk in all.chunks(2048) {
        let list: Vec<Id<Facts>> = chunk.iter().map(|(_, id)| **id).collect();
        let objects = trees::objects(db, &list).await?;
        for (key, id) in chunk {
            out.extend(objects.get(&id.digest()).map(|facts| ((*key).clone(), facts.clone())));
        }
    }
    Ok(out)
}

/// What must be fetched: what is admitted but for its bytes.
async fn wanted(
    station: &Station,
    channel: &Channel,
    shards: &BTreeMap<String, Id<Shard>>,
    facts: &mut BTreeMap<String, Facts>,
    state: &MirrorState,
    judgment: &Judgment,
    now: Time,
) -> Result<Vec<Wanted>> {
    let mut out = Vec::new();
    let all: Vec<(&String, &Id<Shard>)> = shards.iter().collect();
    for chunk in all.chunks(2048) {
        let ids: Vec<Id<Shard>> = chunk.iter().map(|(_, id)| **id).collect();
        let objects: HashMap<Digest, Shard> = trees::objects(&station.store.db, &ids).await?;
        for (key, id) in chunk {
            let Some(shard) = objects.get(&id.digest()) else { continue };
            let known = facts.entry((*key).clone()).or_default();
            let judged = judgment.judgements.get(*key);
            for (file, entry) in &shard.entries {
                let fact = known.files.entry(file.clone()).or_insert(Fact {
                    first_seen: now,
                    file: None,
                    fault: None,
                });
                let admitted =
                    judged.and_then(|j| j.artifacts.get(file)).is_some_and(|j| j.verdict == Verdict::Admit);
                let here = fact.file.as_ref().is_some_and(|f| station.store.blobs.find(f.sha256).is_some());
                if !admitted || here {
                    continue;
                }
                if let Ok(artifact) = Artifact::read(shard, file, entry) {
                    let location = locate(channel, &ShardKey::parse(key), &artifact, state);
                    let pinned = fact.file.as_ref().map(|f| f.sha256);
                    out.push(Wanted { key: (*key).clone(), pinned, artifact, location });
                }
            }
        }
    }
    Ok(out)
}

/// Where the index says that a file lies.
fn locate(channel: &Channel, key: &ShardKey, artifact: &Artifact, state: &MirrorState) -> Result<Location> {
    let ChannelFeed::Source { location, .. } = &channel.feed else {
        return Err(Error::usage("a channel of bundles has no source"));
    };
    let source = Location::parse(location)?;
    let escaped = artifact.file.replace('+', "%2B");
    match channel.ecosystem {
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
    store: &Store,
    client: &Client,
    ecosystem: Ecosystem,
    wanted: Vec<Wanted>,
    facts: &mut BTreeMap<String, Facts>,
    now: Time,
    report: &mut Fetched,
) -> Result<()> {
    let fetches = wanted.into_iter().map(|w| async move {
        let arrived = fetch_one(store, client, ecosystem, &w).await;
        (w, arrived)
    });
    let mut fetches = stream::iter(fetches).buffer_unordered(AT_ONCE);
    let mut batch = store.blobs.batch();
    let mut new_facts: Vec<(String, String, FileFact)> = Vec::new();
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
                new_facts.push((wanted.key, file, arrived.fact));
            }
            Err(error) => {
                let fault = match error.kind {
                    Kind::Unsafe => Fault::Mismatch(error.message),
                    _ => Fault::Fetch(error.message),
                };
                let entry = facts.entry(wanted.key).or_default().files.entry(file.clone());
                let fact = entry.or_insert(Fact { first_seen: now, file: None, fault: None });
                fact.fault = Some(fault.clone());
                report.faults.push((file, fault));
            }
        }
        if new_facts.len() >= BATCH_FILES || batch_bytes >= BATCH_BYTES {
            commit(std::mem::replace(&mut batch, store.blobs.batch()), &mut new_facts, facts, now)?;
            batch_bytes = 0;
        }
    }
    report.faults.sort_by(|a, b| a.0.cmp(&b.0));
    commit(batch, &mut new_facts, facts, now)
}

/// Gives a batch of files their names, and then their facts.
fn commit(
    batch: Batch,
    new: &mut Vec<(String, String, FileFact)>,
    facts: &mut BTreeMap<String, Facts>,
    now: Time,
) -> Result<()> {
    batch.commit()?;
    for (key, file, fact) in new.drain(..) {
        let entry = facts.entry(key).or_default().files.entry(file);
        let held = entry.or_insert(Fact { first_seen: now, file: None, fault: None });
        held.file = Some(fact);
        held.fault = None;
    }
    Ok(())
}

async fn fetch_one(store: &Store, client: &Client, ecosystem: Ecosystem, wanted: &Wanted) -> Result<Arrived> {
    let artifact = &wanted.artifact;
    let location = match &wanted.location {
        Ok(location) => location,
        Err(error) => return Err(Error::fault(error.message.clone())),
    };
    let mut staged = store.blobs.stage()?;
    let mut md5 = artifact.sha256.is_none().then(Md5::new);
    let most = artifact.size.unwrap_or(ARTIFACT_BYTES_MAX).min(ARTIFACT_BYTES_MAX);
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
                }
            }
            Ok(())
        })
        .await?;
    check(artifact, &staged, md5.map(|m| m.finalize().into()), location)?;
    if let Some(pinned) = wanted.pinned.filter(|p| *p != staged.digest()) {
        let found = staged.digest();
        return Err(Error::unsafe_(format!(
            "{}: the bytes hash to {found}, when it was fetched first to {pinned}",
            location.shown()
        )));
    }
    let (store, artifact, key) = (store.clone(), artifact.clone(), ShardKey::parse(&wanted.key));
    joined(tokio::task::spawn_blocking(move || open(&store, ecosystem, &key, &artifact, staged)).await)
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
        run_exports: opened.run_exports.and_then(|bytes| run_exports(&bytes)),
    };
    Ok(Arrived { staged, metadata, fact })
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
