//! Rendering the whole-channel indexes of a conda snapshot.
//!
//! Only shards that the files before were not rendered from are read, a few at a time, on all threads; what they add
//! to an index goes to temporary files until its size is known (a zstd frame states it, since some clients fail
//! without), and then, with what the files before have of all others, once through hash, disk and compressor. So
//! memory does not grow with the channel, but for one entry per name.

mod assemble;
mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
use airlock_store::{Packed, ShardName};

use crate::error::{Result, joined};
use crate::progress::{Progress, Unit};
use crate::publish::{Rendered, RenderedFile};
use crate::station::Station;
use crate::{tree_edit, trees};

use assemble::{Assembled, Before, Part, Place, Sink, Spool, Table, assemble, unrendered};
use layout::{CLASSIC, CONDA, Kind, Sizes, members, runs};

pub use layout::{Layout, Slot};

/// Shards that are read and taken apart at once.
const CHUNK: usize = 256;
/// The character after `/`: so far reach the keys of a subdir.
const AFTER_SLASH: char = '0';
/// Chunks that are on their way at the same time.
const CHUNKS_AT_ONCE: usize = 2;

/// The names of rendered shards by subdir and package.
pub type Names = BTreeMap<String, BTreeMap<String, ShardName>>;

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
/// Boxed, since a map that grew in order is half empty.
type Slots = BTreeMap<String, Box<Slot>>;

/// The files of the snapshot before, as far as they can be taken over from.
#[derive(Default)]
struct Previous {
    files: BTreeMap<String, RenderedFile>,
    tables: BTreeMap<String, BTreeMap<String, u64>>,
    /// What they hold, by shard key.
    slots: Slots,
    root: Option<TreeId<Box<Slot>>>,
}

impl Previous {
    async fn read(station: &Station, rendered: Option<&Rendered>) -> Self {
        let current = rendered.filter(|r| r.is_current());
        let Some((rendered, layout)) = current.and_then(|r| Some((r, r.layout.as_ref()?))) else {
            return Self::default();
        };
        // What is only derived and cannot be read is made anew.
        let Ok(slots) = trees::load(&station.store.db, layout.slots).await else {
            return Self::default();
        };
        Self { files: rendered.files.clone(), tables: layout.tables.clone(), slots, root: Some(layout.slots) }
    }

    /// What they hold of one subdir, by package.
    fn of(&self, subdir: &str) -> Slots {
        let first = format!("{subdir}/");
        let here = self.slots.range(first.clone()..).take_while(|(key, _)| key.starts_with(&first));
        here.filter_map(|(key, slot)| Some((key.strip_prefix(&first)?.to_owned(), slot.clone()))).collect()
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
    let names = names(&whole.slots, snapshot);
    let slots = keep_slots(station, &previous, whole.slots).await?;
    Ok(Done { files: joined(writing.await)?, names, layout: Layout { slots, tables: whole.tables } })
}

/// Writes the tree of slots, as an edit of the one before where there is one.
async fn keep_slots(station: &Station, previous: &Previous, mut slots: Slots) -> Result<TreeId<Box<Slot>>> {
    let db = &station.store.db;
    let Some(root) = previous.root else { return trees::store(db, &slots).await };
    let gone = previous.slots.keys().filter(|key| !slots.contains_key(*key));
    let mut changes: BTreeMap<String, Option<Box<Slot>>> = gone.map(|key| (key.clone(), None)).collect();
    slots.retain(|key, slot| previous.slots.get(key) != Some(slot));
    changes.extend(slots.into_iter().map(|(key, slot)| (key, Some(slot))));
    Ok(tree_edit::edit(db, Some(root), &changes).await?)
}

/// The names of all rendered shards.
fn names(slots: &Slots, snapshot: &Snapshot) -> Names {
    let mut names: Names = snapshot.subdirs.keys().map(|subdir| (subdir.clone(), BTreeMap::new())).collect();
    for (key, slot) in slots {
        let ShardKey { subdir: Some(subdir), name } = ShardKey::parse(key) else { continue };
        let named = ShardName { name: slot.name, shard: slot.shard.digest() };
        names.entry(subdir).or_default().insert(name, named);
    }
    names
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
    let db = &station.store.db;
    let mut content = trees::load(db, snapshot.content).await?;
    let mut facts = trees::load(db, snapshot.inputs.facts).await?;
    let mut whole = Whole { files: Files::new(), slots: Slots::new(), tables: BTreeMap::new() };
    for (subdir, about) in &snapshot.subdirs {
        let prefix = format!("{subdir}/");
        let end = format!("{subdir}{AFTER_SLASH}");
        let mut work = Subdir::new(station, subdir, about, previous);
        let mut fresh = Vec::new();
        for (key, shard) in content.extract_if(prefix.clone()..end, |_, _| true) {
            let facts = facts.remove(&key);
            let name = key.strip_prefix(&prefix).unwrap_or(&key);
            match work.before.get(name).filter(|slot| slot.is_of(shard, facts)) {
                Some(slot) => work.keep(name, slot.clone()),
                None => fresh.push((shard, facts)),
            }
        }
        take_fresh(station, snapshot, &mut work, fresh).await?;
        let (place, threads) = (place.clone(), station.options.threads);
        let progress = station.options.progress.clone();
        let finish = move || work.finish(&place, threads, &progress);
        let Some(done) = joined(tokio::task::spawn_blocking(finish).await)? else { return Ok(None) };
        whole.files.extend(done.files);
        whole.tables.extend(done.tables);
        whole.slots.append(&mut keyed(&prefix, done.slots));
    }
    let packages = packages(&whole.slots);
    let subdirs: Vec<String> = snapshot.subdirs.keys().cloned().collect();
    let mut sink = std::io::BufWriter::new(place.sink()?);
    conda::channeldata(&packages, &subdirs, &mut sink).map_err(unrendered)?;
    let sink = sink.into_inner().map_err(|e| unrendered(e.into_error()))?;
    whole.files.insert("channeldata.json".to_owned(), sink);
    let mut sink = place.sink()?;
    // A server tells what leaves by the block set, which no snapshot holds.
    let nothing = conda::notices(&snapshot.channel, &BlockSet::default(), snapshot.inputs.now);
    sink.write_all(nothing.as_bytes()).map_err(unrendered)?;
    whole.files.insert("notices.json".to_owned(), sink);
    Ok(Some(whole))
}

/// Takes the shards apart that the files before do not hold.
async fn take_fresh(
    station: &Station,
    snapshot: &Snapshot,
    work: &mut Subdir,
    fresh: Vec<(Id<Shard>, Option<Id<Facts>>)>,
) -> Result<()> {
    let task = format!("rendering {}/{}", snapshot.channel, work.subdir);
    let task = station.options.progress.task(task, Unit::Names, Some(fresh.len() as u64));
    let chunks: Vec<_> = fresh.chunks(CHUNK).map(|chunk| take_apart(station, chunk.to_vec())).collect();
    let mut chunks = stream::iter(chunks).buffered(CHUNKS_AT_ONCE);
    while let Some(chunk) = chunks.next().await {
        for apart in chunk? {
            work.add(apart)?;
            task.add(1);
        }
    }
    Ok(())
}

/// Slots of packages as those of shard keys.
fn keyed(prefix: &str, slots: Slots) -> Slots {
    slots.into_iter().map(|(name, slot)| (format!("{prefix}{name}"), slot)).collect()
}

/// Every package, over all subdirs.
fn packages(slots: &Slots) -> BTreeMap<&str, Everywhere<'_>> {
    let mut packages: BTreeMap<&str, Everywhere<'_>> = BTreeMap::new();
    for (key, slot) in slots {
        let (Some(subdir), name) = ShardKey::split(key) else { continue };
        packages.entry(name).or_default().add(subdir, &slot.package);
    }
    packages
}

/// One shard, taken apart.
struct Apart {
    package: String,
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
        Ok(Apart { package: shard.name, shard: id, facts: facts_id, name, pieces })
    })
    .await
}

/// A subdir on its way into its files.
struct Subdir {
    subdir: String,
    about: Canonical,
    /// What the files before hold of it.
    before: Slots,
    /// Where their tables begin, by path.
    tables: BTreeMap<String, BTreeMap<String, u64>>,
    /// The blobs of the files before, by path.
    old: BTreeMap<String, airlock_store::Verified>,
    slots: Slots,
    /// The packages that were taken apart now; none are named where the files before hold nothing, for then it is all of them.
    fresh: BTreeSet<String>,
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
        Self {
            subdir: subdir.to_owned(),
            about: about.clone(),
            before: if is_there { previous.of(subdir) } else { Slots::new() },
            tables: previous.tables.clone(),
            old: if is_there { old } else { BTreeMap::new() },
            slots: Slots::new(),
            fresh: BTreeSet::new(),
            records: BTreeMap::new(),
            exports: BTreeMap::new(),
            dir: station.dir.clone(),
        }
    }

    /// Takes a package over from the files before.
    fn keep(&mut self, name: &str, slot: Box<Slot>) {
        self.slots.insert(name.to_owned(), slot);
    }

    /// Adds a package that was taken apart. They come in the order of their names.
    fn add(&mut self, apart: Apart) -> Result<()> {
        spool(&mut self.records, &self.dir, members(&apart.pieces, Kind::Records))?;
        spool(&mut self.exports, &self.dir, members(&apart.pieces, Kind::Exports))?;
        if !self.before.is_empty() {
            self.fresh.insert(apart.package.clone());
        }
        self.slots.insert(apart.package.clone(), Box::new(apart.slot()));
        Ok(())
    }

    /// Whence the members of one table come.
    fn table(&mut self, kind: Kind, name: &str) -> Table {
        let path = format!("{}/{}", self.subdir, kind.file());
        let start = self.tables.get(&path).and_then(|tables| tables.get(name)).copied().unwrap_or(0);
        let is_new = |package: &str| self.before.is_empty() || self.fresh.contains(package);
        let runs = runs(kind, name, &self.before, &self.slots, is_new, start);
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
        for slot in self.slots.values() {
            removed.extend(slot.removed.iter().cloned());
            revisions.merge(slot.revisions);
            extensions.extend(slot.records.v3().filter_map(|table| table.strip_prefix("v3/")));
        }
        let extensions: Vec<String> = extensions.into_iter().map(str::to_owned).collect();
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
        let names = self.slots.iter().map(|(name, slot)| (name, slot.name));
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
        // They name every package, and nobody asks for them any more while the files are written.
        (self.fresh, self.before) = (BTreeSet::new(), Slots::new());
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
