//! Rendering the whole-channel indexes of a conda snapshot.
//!
//! Shards are read a few at a time, on all threads; what they add to an index goes to temporary files until its size
//! is known (a zstd frame states it, since some clients fail without), and then once through hash, disk and
//! compressor. So memory does not grow with the channel.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use tempfile::SpooledTempFile;
use zstd::zstd_safe::CParameter;

use airlock_core::canon::Canonical;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Snapshot;
use airlock_formats::conda::{self, Pieces, RENDERER, Revisions};
use airlock_store::{Packed, ShardName, Staged};

use crate::error::{Error, Result, file_error, joined};
use crate::progress::{Progress, Task, Unit};
use crate::publish::RenderedFile;
use crate::station::Station;
use crate::trees;

/// Shards that are read and taken apart at once.
const CHUNK: usize = 512;
/// Chunks that are on their way at the same time.
const CHUNKS_AT_ONCE: usize = 4;
/// How much of one table is kept in memory before it goes to a file, in bytes.
const SPOOL_BYTES: usize = 8 << 20;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// What one thread packs at a time, in bytes. By itself zstd takes 8 MiB, holds 50 MiB for that, and packs no better.
const JOB_BYTES: u32 = 2 << 20;

/// The names of rendered shards by subdir and package.
pub type Names = BTreeMap<String, BTreeMap<String, ShardName>>;

/// What rendering into the store gave.
#[derive(Debug)]
pub struct Done {
    /// Path below the channel to blob.
    pub files: BTreeMap<String, RenderedFile>,
    /// The names of all shards.
    pub names: Names,
}

/// Where a rendered file goes.
enum Sink {
    Staged(Staged),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Staged(staged) => staged.write(bytes).map_err(std::io::Error::other)?,
            Self::Memory(held) => held.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What sinks are made of: the store, or memory.
#[derive(Clone)]
struct Place(Option<airlock_store::Blobs>);

impl Place {
    fn sink(&self) -> Result<Sink> {
        Ok(match &self.0 {
            Some(blobs) => Sink::Staged(blobs.stage()?),
            None => Sink::Memory(Vec::new()),
        })
    }
}

type Files = BTreeMap<String, Sink>;

/// Renders every whole-channel file of a snapshot into the store.
pub async fn to_store(station: &Station, snapshot: &Snapshot) -> Result<Done> {
    let (files, names) = render(station, snapshot, &Place(Some(station.store.blobs.clone()))).await?;
    let mut batch = station.store.blobs.batch();
    let task = station.options.progress.task(
        format!("syncing the indexes of {}", snapshot.channel),
        Unit::Files,
        None,
    );
    let write = move || -> Result<BTreeMap<String, RenderedFile>> {
        let mut out = BTreeMap::new();
        for (path, sink) in files {
            if let Sink::Staged(staged) = sink {
                let size = staged.size();
                out.insert(path, RenderedFile { sha256: batch.add(staged, None)?, size });
            }
        }
        batch.commit()?;
        drop(task);
        Ok(out)
    };
    Ok(Done { files: joined(tokio::task::spawn_blocking(write).await)?, names })
}

/// Renders every whole-channel file of a snapshot into memory, by path below the channel.
pub async fn to_memory(station: &Station, snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<u8>>> {
    let (files, _) = render(station, snapshot, &Place(None)).await?;
    let held = files.into_iter().filter_map(|(path, sink)| match sink {
        Sink::Memory(bytes) => Some((path, bytes)),
        Sink::Staged(_) => None,
    });
    Ok(held.collect())
}

async fn render(station: &Station, snapshot: &Snapshot, place: &Place) -> Result<(Files, Names)> {
    let db = &station.store.db;
    let content = trees::load(db, snapshot.content).await?;
    let facts = trees::load(db, snapshot.inputs.facts).await?;
    let mut files = Files::new();
    let mut names = Names::new();
    let mut packages: BTreeMap<String, conda::ChannelPackage> = BTreeMap::new();
    for (subdir, about) in &snapshot.subdirs {
        let here = |key: &&String| ShardKey::parse(key).subdir.as_deref() == Some(subdir);
        let keys: Vec<&String> = content.keys().filter(here).collect();
        let mut subdir_names = BTreeMap::new();
        let mut spools = Spools::new(&station.dir);
        let task = format!("rendering {}/{subdir}", snapshot.channel);
        let task = station.options.progress.task(task, Unit::Names, Some(keys.len() as u64));
        let mut chunks = Vec::new();
        for keys in keys.chunks(CHUNK) {
            let shards: Vec<Id<Shard>> = keys.iter().filter_map(|k| content.get(*k).copied()).collect();
            let facts: Vec<Option<Id<Facts>>> = keys.iter().map(|k| facts.get(*k).copied()).collect();
            chunks.push(take_apart(station, shards, facts));
        }
        let mut chunks = stream::iter(chunks).buffered(CHUNKS_AT_ONCE);
        while let Some(chunk) = chunks.next().await {
            for (name, one) in chunk? {
                subdir_names.insert(name.clone(), one.name);
                merge_package(packages.entry(name).or_default(), subdir, &one.pieces.package);
                spools.add(one.pieces)?;
                task.add(1);
            }
        }
        let (place, threads) = (place.clone(), station.options.threads);
        let (subdir, about) = (subdir.clone(), about.clone());
        let by_name: BTreeMap<String, Digest> =
            subdir_names.iter().map(|(name, held)| (name.clone(), held.name)).collect();
        let progress = station.options.progress.clone();
        let finish = move || {
            finish(&place, &subdir, &about, spools, &by_name, threads, &progress).map(|done| (subdir, done))
        };
        let (subdir, done) = joined(tokio::task::spawn_blocking(finish).await)?;
        files.extend(done.into_iter().map(|(file, sink)| (format!("{subdir}/{file}"), sink)));
        names.insert(subdir, subdir_names);
    }
    let subdirs: Vec<String> = snapshot.subdirs.keys().cloned().collect();
    for (path, text) in [
        ("channeldata.json", conda::channeldata(&packages, &subdirs)?),
        ("notices.json", conda::notices().to_owned()),
    ] {
        let mut sink = place.sink()?;
        sink.write_all(text.as_bytes()).map_err(unrendered)?;
        files.insert(path.to_owned(), sink);
    }
    Ok((files, names))
}

fn unrendered(error: std::io::Error) -> Error {
    Error::fault(format!("an index cannot be rendered: {error}")).hint(
        "check that the disk of the station and the one for temporary files are not full; then run it again",
    )
}

/// One shard, taken apart.
struct Apart {
    name: ShardName,
    pieces: Pieces,
}

/// Reads shards and takes them apart, in their order.
async fn take_apart(
    station: &Station,
    shards: Vec<Id<Shard>>,
    facts: Vec<Option<Id<Facts>>>,
) -> Result<Vec<(String, Apart)>> {
    let db = &station.store.db;
    let by_digest = |packed: Vec<Packed>| -> BTreeMap<Digest, Packed> {
        packed.into_iter().map(|p| (p.digest(), p)).collect()
    };
    let mut packed = by_digest(trees::packed(db, &shards).await?);
    let there: Vec<Id<Facts>> = facts.iter().flatten().copied().collect();
    let packed_facts = by_digest(trees::packed(db, &there).await?);
    let digests: Vec<Digest> = shards.iter().map(Id::digest).collect();
    let named = db.rendered_names(RENDERER, &digests).await?;
    let tasks: Vec<_> = shards
        .iter()
        .zip(facts)
        .filter_map(|(id, facts)| {
            let facts = facts.and_then(|f| packed_facts.get(&f.digest()).cloned());
            Some((packed.remove(&id.digest())?, facts, named.get(&id.digest()).copied()))
        })
        .collect();
    trees::on_threads(station.options.threads, tasks, |(packed, facts, named)| {
        let shard: Shard = object::decode(&packed.unpack()?)?;
        let facts: Option<Facts> = match facts {
            Some(facts) => Some(object::decode(&facts.unpack()?)?),
            None => None,
        };
        let name = match named {
            Some(name) => name,
            None => conda::shard(&shard).map_err(unrendered)?.0,
        };
        let pieces = conda::pieces(&shard, facts.as_ref());
        Ok((shard.name, Apart { name: ShardName { name, shard: packed.digest() }, pieces }))
    })
    .await
}

/// Members of a JSON object on their way into an index.
struct Spool {
    file: SpooledTempFile,
    size: u64,
}

impl Spool {
    fn new(dir: &Path) -> Self {
        Self { file: SpooledTempFile::new_in(SPOOL_BYTES, dir), size: 0 }
    }

    fn add(&mut self, members: &str) -> Result<()> {
        if members.is_empty() {
            return Ok(());
        }
        let comma: &[u8] = if self.size == 0 { b"" } else { b"," };
        self.file.write_all(comma).map_err(unrendered)?;
        self.file.write_all(members.as_bytes()).map_err(unrendered)?;
        self.size += (comma.len() + members.len()) as u64;
        Ok(())
    }
}

/// What the shards of a subdir add up to.
struct Spools {
    classic: Spool,
    conda: Spool,
    classic_exports: Spool,
    conda_exports: Spool,
    v3: BTreeMap<String, Spool>,
    revisions: Revisions,
    removed: BTreeSet<String>,
    /// Where temporary files go.
    dir: PathBuf,
}

impl Spools {
    fn new(dir: &Path) -> Self {
        Self {
            classic: Spool::new(dir),
            conda: Spool::new(dir),
            classic_exports: Spool::new(dir),
            conda_exports: Spool::new(dir),
            v3: BTreeMap::new(),
            revisions: Revisions::default(),
            removed: BTreeSet::new(),
            dir: dir.to_owned(),
        }
    }

    fn add(&mut self, pieces: Pieces) -> Result<()> {
        self.classic.add(&pieces.classic)?;
        self.conda.add(&pieces.conda)?;
        self.classic_exports.add(&pieces.classic_exports)?;
        self.conda_exports.add(&pieces.conda_exports)?;
        for (extension, members) in pieces.v3 {
            self.v3.entry(extension).or_insert_with(|| Spool::new(&self.dir)).add(&members)?;
        }
        self.revisions.merge(pieces.revisions);
        self.removed.extend(pieces.removed);
        Ok(())
    }
}

fn finish(
    place: &Place,
    subdir: &str,
    about: &Canonical,
    spools: Spools,
    names: &BTreeMap<String, Digest>,
    threads: usize,
    progress: &Progress,
) -> Result<Vec<(&'static str, Sink)>> {
    let mut index = place.sink()?;
    index
        .write_all(&conda::shard_index(subdir, Some(about), names).map_err(unrendered)?)
        .map_err(unrendered)?;
    let frame = conda::repodata_frame(subdir, Some(about), &spools.removed, &spools.revisions);
    let (heads, tail) = conda::v3_frame(spools.v3.keys().map(String::as_str));
    let mut parts = vec![
        Part::Text(frame.before),
        Part::Table(spools.classic),
        Part::Text(frame.between),
        Part::Table(spools.conda),
        Part::Text(frame.behind),
    ];
    let has_v3 = !heads.is_empty();
    for (head, table) in heads.into_iter().zip(spools.v3.into_values()) {
        parts.extend([Part::Text(head), Part::Table(table)]);
    }
    parts.extend(has_v3.then(|| Part::Text(tail.to_owned())));
    parts.push(Part::Text(frame.end));
    let frame = conda::run_exports_frame(subdir);
    let exports = vec![
        Part::Text(frame.before),
        Part::Table(spools.classic_exports),
        Part::Text(frame.between),
        Part::Table(spools.conda_exports),
        Part::Text(frame.behind),
        Part::Text(frame.end),
    ];
    let size = parts.iter().chain(&exports).map(Part::size).sum();
    let task = progress.task(format!("writing the indexes of {subdir}"), Unit::Bytes, Some(size));
    let (json, zst) = assemble(place, &task, parts, threads)?;
    let (exports_json, exports_zst) = assemble(place, &task, exports, threads)?;
    Ok(vec![
        ("repodata_shards.msgpack.zst", index),
        ("repodata.json", json),
        ("repodata.json.zst", zst),
        ("run_exports.json", exports_json),
        ("run_exports.json.zst", exports_zst),
    ])
}

/// A part of an index.
enum Part {
    Text(String),
    Table(Spool),
}

impl Part {
    const fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Table(table) => table.size,
        }
    }
}

/// Puts an index together, plain and compressed.
fn assemble(place: &Place, task: &Task, parts: Vec<Part>, threads: usize) -> Result<(Sink, Sink)> {
    let size: u64 = parts.iter().map(Part::size).sum();
    let mut plain = place.sink()?;
    let mut encoder =
        zstd::stream::write::Encoder::new(place.sink()?, conda::ZSTD_LEVEL).map_err(unrendered)?;
    encoder.set_pledged_src_size(Some(size)).map_err(unrendered)?;
    if size > COPY_BYTES as u64 && threads > 1 {
        encoder.multithread(u32::try_from(threads).unwrap_or(1)).map_err(unrendered)?;
        encoder.set_parameter(CParameter::JobSize(JOB_BYTES)).map_err(unrendered)?;
    }
    let mut both = |bytes: &[u8]| -> Result<()> {
        task.add(bytes.len() as u64);
        plain.write_all(bytes).map_err(unrendered)?;
        encoder.write_all(bytes).map_err(unrendered)
    };
    let mut buffer = vec![0; COPY_BYTES];
    for part in parts {
        match part {
            Part::Text(text) => both(text.as_bytes())?,
            Part::Table(mut table) => copy(&mut table, &mut buffer, &mut both)?,
        }
    }
    let packed = encoder.finish().map_err(unrendered)?;
    Ok((plain, packed))
}

fn copy(table: &mut Spool, buffer: &mut [u8], to: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    table.file.rewind().map_err(file_error("a temporary file"))?;
    loop {
        let n = table.file.read(buffer).map_err(file_error("a temporary file"))?;
        if n == 0 {
            return Ok(());
        }
        to(&buffer[..n])?;
    }
}

fn merge_package(held: &mut conda::ChannelPackage, subdir: &str, package: &conda::ChannelPackage) {
    let order = airlock_core::version::Order::Conda;
    let newer = order.compare(&package.version, &held.version).is_none_or(std::cmp::Ordering::is_gt);
    let mut subdirs = std::mem::take(&mut held.subdirs);
    subdirs.insert(subdir.to_owned());
    if held.version.is_empty() || newer {
        *held = package.clone();
    }
    held.subdirs = subdirs;
}
