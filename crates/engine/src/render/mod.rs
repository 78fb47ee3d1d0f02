//! Rendering the whole-channel indexes of a conda snapshot.
//!
//! Only shards that the files before were not rendered from are read, a few at a time, on all threads; what they add
//! to an index goes to temporary files until its size is known (a zstd frame states it, since some clients fail
//! without), and then, with what the files before have of all others, once through hash, disk and compressor. So
//! memory does not grow with the channel, but for some hundreds of bytes for each name, most of them its slot.

mod assemble;
mod layout;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use airlock_core::block::BlockSet;
use airlock_core::canon::Canonical;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Snapshot;
use airlock_core::trie::TreeId;
use airlock_formats::conda::{self, Everywhere, Pieces, RENDERER, Revisions};
use airlock_store::{Db, Packed, ShardName};

use crate::error::{Error, Result, joined};
use crate::progress::{Progress, Unit};
use crate::publish::{Rendered, RenderedFile};
use crate::station::Station;
use crate::{tree_edit, trees};

use assemble::{Assembled, Before, Part, Place, Sink, Spool, Table, assemble, unrendered};
use layout::{CLASSIC, CONDA, Kind, Sizes, members, runs};
use slots::{Head, Slots};

pub use layout::{Layout, Slot};

/// Shards that are read and taken apart at once.
const CHUNK: usize = 256;
/// Chunks that are on their way at the same time.
const CHUNKS_AT_ONCE: usize = 2;
/// The tree of slots is edited where fewer of them changed than one of so many; else it is written anew, which is the same tree.
const EDITED_MAX: usize = 4;

/// The names of all rendered shards, by shard key.
#[derive(Debug)]
pub struct Names(Slots);

impl Names {
    /// That of the shard with this key.
    pub fn get(&self, key: &str) -> Option<ShardName> {
        self.0.head(self.0.find(key)?).map(|head| head.shard_name())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ShardName)> {
        self.0.heads(0..self.0.len()).map(|(key, head)| (key, head.shard_name()))
    }
}

/// What rendering into the store gave.
#[derive(Debug)]
pub struct Done {
    /// Path below the channel to blob.
    pub files: BTreeMap<String, RenderedFile>,
    /// The names of all shards.
    pub names: Names,
    /// Where in the files everything stands.
    pub layout: Layout,
}

type Files = BTreeMap<String, Sink>;

/// The files of the snapshot before, as far as they can be taken over from.
#[derive(Default)]
struct Previous {
    files: BTreeMap<String, RenderedFile>,
    tables: BTreeMap<String, BTreeMap<String, u64>>,
    /// What they hold, in the order of the shard keys.
    slots: Arc<Slots>,
    root: Option<TreeId<Box<Slot>>>,
}

impl Previous {
    async fn read(station: &Station, rendered: Option<&Rendered>) -> Self {
        let current = rendered.filter(|r| r.is_current());
        let Some((rendered, layout)) = current.and_then(|r| Some((r, r.layout.as_ref()?))) else {
            return Self::default();
        };
        // What is only derived and cannot be read is made anew.
        let (mut slots, mut pieces) = (Slots::default(), trees::Pieces::of(layout.slots));
        loop {
            match pieces.next(&station.store.db).await {
                Err(_) => return Self::default(),
                Ok(None) => break,
                Ok(Some(piece)) => piece.entries.iter().for_each(|(key, slot)| slots.push(key, slot)),
            }
        }
        slots.sort();
        Self {
            files: rendered.files.clone(),
            tables: layout.tables.clone(),
            slots: Arc::new(slots),
            root: Some(layout.slots),
        }
    }
}

/// What rendering gave, before any of it has a name in the store.
struct Whole {
    files: Files,
    slots: Slots,
    tables: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Renders every whole-channel file of a snapshot into the store. `before` are the files of the snapshot before it:
/// what they have of the same shards is taken over, and the result is that of rendering everything.
pub async fn to_store(station: &Station, snapshot: &Snapshot, before: Option<&Rendered>) -> Result<Done> {
    let place = Place(Some(station.store.blobs.clone()));
    let mut previous = Previous::read(station, before).await;
    let whole = match render(station, snapshot, &place, &previous).await? {
        Some(whole) => whole,
        // The files before are damaged, as a check of the store will say too.
        None => {
            previous = Previous::default();
            let whole = render(station, snapshot, &place, &previous).await?;
            whole.ok_or_else(|| unrendered(std::io::ErrorKind::InvalidData.into()))?
        }
    };
    let mut batch = station.store.blobs.batch();
    let task = format!("syncing the indexes of {}", snapshot.channel);
    let task = station.options.progress.task(task, Unit::Files, None);
    let files = whole.files;
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
    let writing = tokio::task::spawn_blocking(write);
    let slots = keep_slots(station, &previous, &whole.slots).await?;
    let layout = Layout { slots, tables: whole.tables };
    Ok(Done { files: joined(writing.await)?, names: Names(whole.slots), layout })
}

/// Writes the tree of slots, as an edit of the one before where most of it is the same.
async fn keep_slots(station: &Station, previous: &Previous, slots: &Slots) -> Result<TreeId<Box<Slot>>> {
    let db = &station.store.db;
    let before = &previous.slots;
    let mut changes: BTreeMap<String, Option<Box<Slot>>> = BTreeMap::new();
    let gone = (0..before.len()).map(|place| before.key(place)).filter(|key| slots.find(key).is_none());
    changes.extend(gone.map(|key| (key.to_owned(), None)));
    let few = before.len() / EDITED_MAX;
    for (key, slot) in slots.iter() {
        if changes.len() > few {
            break;
        }
        let was = before.find(key).and_then(|place| before.get(place));
        if was.as_ref() != Some(&slot) {
            changes.insert(key.to_owned(), Some(Box::new(slot)));
        }
    }
    match previous.root {
        Some(root) if changes.len() <= few => Ok(tree_edit::edit(db, Some(root), &changes).await?),
        _ => {
            drop(changes);
            let slot = |place: &u32| slots.get(*place as usize).map(Box::new).ok_or_else(untold);
            let keys = (0u32..).take(slots.len()).map(|place| (slots.key(place as usize), place));
            trees::store_by(db, keys, slot).await
        }
    }
}

/// A slot that was held is not there any more.
fn untold() -> Error {
    Error::fault("what was rendered of a package cannot be told any more")
}

/// Renders every whole-channel file of a snapshot into memory, by path below the channel.
pub async fn to_memory(station: &Station, snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<u8>>> {
    let whole = render(station, snapshot, &Place(None), &Previous::default()).await?;
    // Nothing before it was asked for, so that nothing before it can be damaged.
    let whole = whole.ok_or_else(|| unrendered(std::io::ErrorKind::InvalidData.into()))?;
    let held = whole.files.into_iter().filter_map(|(path, sink)| match sink {
        Sink::Memory(bytes) => Some((path, bytes)),
        Sink::Staged(_) => None,
    });
    Ok(held.collect())
}

/// Renders everything. None: the files before are not what they were.
async fn render(
    station: &Station,
    snapshot: &Snapshot,
    place: &Place,
    previous: &Previous,
) -> Result<Option<Whole>> {
    let listed = listed(&station.store.db, snapshot).await?;
    let mut whole = Whole { files: Files::new(), slots: Slots::default(), tables: BTreeMap::new() };
    for (subdir, about) in &snapshot.subdirs {
        let prefix = format!("{subdir}/");
        let first = listed.partition_point(|one| *one.key < *prefix);
        let here = listed.get(first..).unwrap_or_default();
        let here = &here[..here.partition_point(|one| one.key.starts_with(&prefix))];
        let mut work = Subdir::new(station, subdir, about, previous);
        take(station, snapshot, &mut work, here).await?;
        let (place, threads) = (place.clone(), station.options.threads);
        let progress = station.options.progress.clone();
        let finish = move || work.finish(&place, threads, &progress);
        let Some(done) = joined(tokio::task::spawn_blocking(finish).await)? else { return Ok(None) };
        whole.files.extend(done.files);
        whole.tables.extend(done.tables);
        whole.slots.append(done.slots);
    }
    drop(listed);
    whole.slots.sort();
    let subdirs: Vec<String> = snapshot.subdirs.keys().cloned().collect();
    let mut sink = std::io::BufWriter::new(place.sink()?);
    let places = by_name(&whole.slots);
    conda::channeldata(packages(&whole.slots, &places), &subdirs, &mut sink).map_err(unrendered)?;
    let sink = sink.into_inner().map_err(|e| unrendered(e.into_error()))?;
    whole.files.insert("channeldata.json".to_owned(), sink);
    let mut sink = place.sink()?;
    // A server tells what leaves by the block set, which no snapshot holds.
    let nothing = conda::notices(&snapshot.channel, &BlockSet::default(), snapshot.inputs.now);
    sink.write_all(nothing.as_bytes()).map_err(unrendered)?;
    whole.files.insert("notices.json".to_owned(), sink);
    Ok(Some(whole))
}

/// A shard that is rendered.
struct Listed {
    key: Box<str>,
    shard: Id<Shard>,
    facts: Option<Id<Facts>>,
}

/// What a snapshot offers, in the order of the shard keys.
async fn listed(db: &Db, snapshot: &Snapshot) -> Result<Vec<Listed>> {
    let (mut out, mut pieces) = (Vec::new(), trees::Pieces::of(snapshot.content));
    while let Some(piece) = pieces.next(db).await? {
        let keys = piece.entries.keys().map(String::as_str);
        let facts = tree_edit::find_many(db, snapshot.inputs.facts, keys).await?;
        out.extend(piece.entries.into_iter().map(|(key, shard)| {
            let facts = facts.get(&key).copied();
            Listed { key: key.into_boxed_str(), shard, facts }
        }));
    }
    out.sort_unstable_by(|one: &Listed, other| one.key.cmp(&other.key));
    Ok(out)
}

/// Takes the shards of a subdir over from the files before, and apart where those do not hold them.
async fn take(station: &Station, snapshot: &Snapshot, work: &mut Subdir, here: &[Listed]) -> Result<()> {
    let is_fresh = |place: &usize| here.get(*place).is_some_and(|one| work.find(one).is_none());
    let fresh: Vec<usize> = (0..here.len()).filter(is_fresh).collect();
    let task = format!("rendering {}/{}", snapshot.channel, work.subdir);
    let task = station.options.progress.task(task, Unit::Names, Some(fresh.len() as u64));
    let wanted = |places: Range<usize>| -> Vec<(Id<Shard>, Option<Id<Facts>>)> {
        let listed = fresh.get(places).unwrap_or_default().iter().filter_map(|place| here.get(*place));
        listed.map(|one| (one.shard, one.facts)).collect()
    };
    let chunks = (0..fresh.len()).step_by(CHUNK).map(|first| first..fresh.len().min(first + CHUNK));
    let mut chunks =
        stream::iter(chunks.map(|places| take_apart(station, wanted(places)))).buffered(CHUNKS_AT_ONCE);
    let (mut next, mut places) = (0, fresh.iter());
    while let Some(chunk) = chunks.next().await {
        for (apart, place) in chunk?.into_iter().zip(&mut places) {
            here.get(next..*place).unwrap_or_default().iter().try_for_each(|one| work.keep(one))?;
            here.get(*place).map_or(Ok(()), |one| work.add(one, apart))?;
            next = place + 1;
            task.add(1);
        }
    }
    here.get(next..).unwrap_or_default().iter().try_for_each(|one| work.keep(one))
}

/// The places of slots in the order of the packages' names, those of the same name in the order of their keys.
fn by_name(slots: &Slots) -> Vec<u32> {
    let mut places: Vec<u32> = (0u32..).take(slots.len()).collect();
    let name = |place: &u32| ShardKey::split(slots.key(*place as usize)).1;
    places.sort_by(|one, other| name(one).cmp(name(other)));
    places
}

/// Every package, over all subdirs.
fn packages<'a>(slots: &'a Slots, by_name: &'a [u32]) -> impl Iterator<Item = (&'a str, Everywhere<'a>)> {
    let split = |place: &u32| ShardKey::split(slots.key(*place as usize));
    by_name.chunk_by(move |one, other| split(one).1 == split(other).1).filter_map(move |same| {
        let mut everywhere = Everywhere::default();
        for place in same {
            let (Some(subdir), _) = split(place) else { continue };
            everywhere.add(subdir, slots.get(*place as usize)?.package);
        }
        Some((split(same.first()?).1, everywhere))
    })
}

/// One shard, taken apart.
struct Apart {
    shard: Id<Shard>,
    facts: Option<Id<Facts>>,
    name: Digest,
    pieces: Pieces,
}

impl Apart {
    fn slot(self) -> Slot {
        let sizes = |kind| Sizes::of(members(&self.pieces, kind));
        Slot {
            shard: self.shard,
            facts: self.facts,
            name: self.name,
            records: sizes(Kind::Records),
            exports: sizes(Kind::Exports),
            revisions: self.pieces.revisions,
            removed: self.pieces.removed,
            package: self.pieces.package,
        }
    }
}

/// Reads shards and takes them apart, in their order.
async fn take_apart(station: &Station, wanted: Vec<(Id<Shard>, Option<Id<Facts>>)>) -> Result<Vec<Apart>> {
    let db = &station.store.db;
    let by_digest = |packed: Vec<Packed>| -> BTreeMap<Digest, Packed> {
        packed.into_iter().map(|p| (p.digest(), p)).collect()
    };
    let shards: Vec<Id<Shard>> = wanted.iter().map(|(shard, _)| *shard).collect();
    let packed = by_digest(trees::packed(db, &shards).await?);
    let there: Vec<Id<Facts>> = wanted.iter().filter_map(|(_, facts)| *facts).collect();
    let packed_facts = by_digest(trees::packed(db, &there).await?);
    let digests: Vec<Digest> = shards.iter().map(Id::digest).collect();
    let named = db.rendered_names(RENDERER, &digests).await?;
    let tasks: Vec<_> = wanted
        .into_iter()
        .filter_map(|(id, facts)| {
            let known = facts.and_then(|f| packed_facts.get(&f.digest()).cloned());
            Some((id, facts, packed.get(&id.digest())?.clone(), known, named.get(&id.digest()).copied()))
        })
        .collect();
    trees::on_threads(station.options.threads, tasks, |(id, facts_id, packed, facts, named)| {
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
        Ok(Apart { shard: id, facts: facts_id, name, pieces })
    })
    .await
}

/// A subdir on its way into its files.
struct Subdir {
    subdir: String,
    about: Canonical,
    /// What the files before hold, and which of it belongs to this subdir.
    before: (Arc<Slots>, Range<usize>),
    /// Where their tables begin, by path.
    tables: BTreeMap<String, BTreeMap<String, u64>>,
    /// The blobs of the files before, by path.
    old: BTreeMap<String, airlock_store::Verified>,
    slots: Slots,
    /// Of each whether it was taken apart now.
    fresh: Vec<bool>,
    /// What those add, by kind of file and table.
    records: BTreeMap<String, Spool>,
    exports: BTreeMap<String, Spool>,
    /// Where temporary files go.
    dir: PathBuf,
}

/// A subdir in its files.
struct SubdirDone {
    files: Files,
    tables: BTreeMap<String, BTreeMap<String, u64>>,
    slots: Slots,
}

impl Subdir {
    fn new(station: &Station, subdir: &str, about: &Canonical, previous: &Previous) -> Self {
        let path = |kind: Kind| format!("{subdir}/{}", kind.file());
        let paths = [path(Kind::Records), path(Kind::Exports)];
        let blobs = &station.store.blobs;
        let old: BTreeMap<_, _> = paths
            .iter()
            .filter_map(|path| Some((path.clone(), blobs.find(previous.files.get(path)?.sha256)?)))
            .collect();
        // Where a file is missing, all is rendered.
        let is_there = old.len() == paths.len();
        let held = if is_there { previous.slots.below(&format!("{subdir}/")) } else { 0..0 };
        Self {
            subdir: subdir.to_owned(),
            about: about.clone(),
            before: (previous.slots.clone(), held),
            tables: previous.tables.clone(),
            old: if is_there { old } else { BTreeMap::new() },
            slots: Slots::default(),
            fresh: Vec::new(),
            records: BTreeMap::new(),
            exports: BTreeMap::new(),
            dir: station.dir.clone(),
        }
    }

    /// The place of what the files before hold of a package, where that was rendered from the same.
    fn find(&self, one: &Listed) -> Option<usize> {
        let (before, here) = &self.before;
        let place = before.find(&one.key).filter(|place| here.contains(place))?;
        let is_same = |head: &Head| (head.shard, head.facts) == (one.shard, one.facts);
        before.head(place).filter(is_same).map(|_| place)
    }

    /// Takes a package over from the files before. Packages come in the order of their names.
    fn keep(&mut self, one: &Listed) -> Result<()> {
        let slot = self.find(one).and_then(|place| self.before.0.get(place)).ok_or_else(untold)?;
        self.slots.push(&one.key, &slot);
        self.fresh.push(false);
        Ok(())
    }

    /// Adds a package that was taken apart.
    fn add(&mut self, one: &Listed, apart: Apart) -> Result<()> {
        spool(&mut self.records, &self.dir, members(&apart.pieces, Kind::Records))?;
        spool(&mut self.exports, &self.dir, members(&apart.pieces, Kind::Exports))?;
        self.slots.push(&one.key, &apart.slot());
        self.fresh.push(true);
        Ok(())
    }

    /// Whence the members of one table come.
    fn table(&mut self, kind: Kind, name: &str) -> Table {
        let path = format!("{}/{}", self.subdir, kind.file());
        let start = self.tables.get(&path).and_then(|tables| tables.get(name)).copied().unwrap_or(0);
        let (before, held) = &self.before;
        let before = before.heads(held.clone()).map(|(key, head)| (key, head.bytes(kind, name)));
        let now = self.slots.heads(0..self.slots.len()).zip(&self.fresh);
        let now = now.map(|((key, head), is_new)| (key, head.bytes(kind, name), *is_new));
        let runs = runs(before, now, start);
        let spools = match kind {
            Kind::Records => &mut self.records,
            Kind::Exports => &mut self.exports,
        };
        Table { name: name.to_owned(), runs, spool: spools.remove(name) }
    }

    fn records(&mut self) -> Vec<Part> {
        let mut removed = BTreeSet::new();
        let mut revisions = Revisions::default();
        let mut extensions = BTreeSet::new();
        for (_, slot) in self.slots.iter() {
            let extension = |table: &str| table.strip_prefix("v3/").map(str::to_owned);
            extensions.extend(slot.records.v3().filter_map(extension));
            revisions.merge(slot.revisions);
            removed.extend(slot.removed);
        }
        let extensions: Vec<String> = extensions.into_iter().collect();
        let frame = conda::repodata_frame(&self.subdir, Some(&self.about), &removed, &revisions);
        let (heads, tail) = conda::v3_frame(extensions.iter().map(String::as_str));
        let mut parts = vec![
            Part::Text(frame.before),
            Part::Table(self.table(Kind::Records, CLASSIC)),
            Part::Text(frame.between),
            Part::Table(self.table(Kind::Records, CONDA)),
            Part::Text(frame.behind),
        ];
        let has_v3 = !heads.is_empty();
        for (head, extension) in heads.into_iter().zip(&extensions) {
            let table = self.table(Kind::Records, &format!("v3/{extension}"));
            parts.extend([Part::Text(head), Part::Table(table)]);
        }
        parts.extend(has_v3.then(|| Part::Text(tail.to_owned())));
        parts.push(Part::Text(frame.end));
        parts
    }

    fn exports(&mut self) -> Vec<Part> {
        let frame = conda::run_exports_frame(&self.subdir);
        vec![
            Part::Text(frame.before),
            Part::Table(self.table(Kind::Exports, CLASSIC)),
            Part::Text(frame.between),
            Part::Table(self.table(Kind::Exports, CONDA)),
            Part::Text(frame.behind),
            Part::Text(frame.end),
        ]
    }

    /// Writes the index of shards.
    fn index_of_shards(&self, place: &Place, progress: &Progress) -> Result<Sink> {
        let task = format!("writing the index of shards of {}", self.subdir);
        let task = progress.task(task, Unit::Names, Some(self.slots.len() as u64));
        let names = self.slots.heads(0..self.slots.len());
        let names: Vec<(&str, Digest)> =
            names.map(|(key, head)| (ShardKey::split(key).1, head.name)).collect();
        let text = conda::shard_index(&self.subdir, Some(&self.about), names).map_err(unrendered)?;
        let mut index = place.sink()?;
        index.write_all(&text).map_err(unrendered)?;
        task.add(self.slots.len() as u64);
        Ok(index)
    }

    /// Writes the files. None: those before are not what they were.
    fn finish(mut self, place: &Place, threads: usize, progress: &Progress) -> Result<Option<SubdirDone>> {
        let index = self.index_of_shards(place, progress)?;
        let mut files = Files::from([(format!("{}/repodata_shards.msgpack.zst", self.subdir), index)]);
        let mut tables = BTreeMap::new();
        let kinds = [(Kind::Records, self.records()), (Kind::Exports, self.exports())];
        let size = kinds.iter().flat_map(|(_, parts)| parts).map(Part::size).sum();
        let task = progress.task(format!("writing the indexes of {}", self.subdir), Unit::Bytes, Some(size));
        for (kind, parts) in kinds {
            let path = format!("{}/{}", self.subdir, kind.file());
            let before = match self.old.get(&path) {
                Some(blob) => match Before::open(blob) {
                    None => return Ok(None),
                    opened => opened,
                },
                None => None,
            };
            let Some(done) = assemble(place, &task, parts, before, threads)? else { return Ok(None) };
            let Assembled { plain, packed, tables: begin } = done;
            files.insert(format!("{path}.zst"), packed);
            files.insert(path.clone(), plain);
            tables.insert(path, begin);
        }
        Ok(Some(SubdirDone { files, tables, slots: self.slots }))
    }
}

/// Appends what one package adds to each table.
fn spool(spools: &mut BTreeMap<String, Spool>, dir: &Path, members: Vec<(String, &str)>) -> Result<()> {
    for (table, text) in members {
        spools.entry(table).or_insert_with(|| Spool::new(dir)).add(text)?;
    }
    Ok(())
}
