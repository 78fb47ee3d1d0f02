//! Mirroring: from what a source's index says to an upstream tree.
//!
//! Nothing here judges or fetches artifacts. An index that cannot be read as a whole publishes nothing; a
//! record that cannot be read is left out, counted and listed.

mod conda;
pub(crate) mod directory;
mod pypi;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use airlock_core::canon::Canonical;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Upstream;
use airlock_core::spec::Spec;
use airlock_formats::{BadEntry, IndexRead};
use airlock_store::Packed;

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::station::Station;
use crate::trees::{self, Writing};
use crate::upstream::{Client, Location, Validator};

/// Shards that are filtered and written at once.
const CHUNK: usize = 512;
/// Sources that listed fewer names than this may shrink as they like.
const SHRINK_NAMES_MIN: usize = 20;

/// What a station remembers of a source between two readings. It changes no result, only what must be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorState {
    /// What is asked of which source; programs before this one kept the channel's whole definition here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Digest>,
    /// By what each index recognises that it did not change, by reference.
    pub validators: BTreeMap<String, Validator>,
    /// conda: the hash of each shard as the upstream packs it, by shard key.
    pub shards: BTreeMap<String, Digest>,
    /// conda: where each subdir says that its files lie.
    pub bases: BTreeMap<String, String>,
}

airlock_core::object!(MirrorState, "airlock.mirror-state.v1");

/// What one reading of a source gave.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// Records left out, the first of them by name.
    pub bad: Vec<BadEntry>,
    /// How many were left out.
    pub bad_count: u64,
    /// Records in the channel's scope.
    pub records: u64,
    /// Indexes that had changed since the last reading.
    pub changed: u64,
    /// Indexes that had not.
    pub unchanged: u64,
}

/// Everything that reading one source needs.
struct Reading<'a> {
    station: &'a Station,
    client: Client,
    source: Location,
    filter: Filter,
    /// Where what is read of directories is kept.
    cache: PathBuf,
    before: MirrorState,
    /// The shards of the last reading, for indexes that did not change.
    known: BTreeMap<String, Id<Shard>>,
    about: BTreeMap<String, Canonical>,
    report: Mirrored,
}

/// What a reading adds up to.
struct Tree {
    shards: BTreeMap<String, Id<Shard>>,
    subdirs: BTreeMap<String, Canonical>,
    state: MirrorState,
}

/// Which names and versions a channel wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    only: Vec<Spec>,
    exclude: Vec<Spec>,
}

impl Filter {
    pub(crate) fn of(ecosystem: Ecosystem, only: &[String], exclude: &[String]) -> Result<Self> {
        let parse = |specs: &[String]| -> Result<Vec<Spec>> {
            specs.iter().map(|s| Spec::parse(ecosystem, s).map_err(|e| Error::usage(e.to_string()))).collect()
        };
        Ok(Self { only: parse(only)?, exclude: parse(exclude)? })
    }

    /// The names that are wanted, if they can be told without looking at the index.
    fn names(&self) -> Option<Vec<&str>> {
        if self.only.is_empty() {
            return None;
        }
        self.only.iter().map(Spec::exact_name).collect()
    }

    pub(crate) fn wants_name(&self, name: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|s| s.matches_name(name)))
            && !self.exclude.iter().any(|s| s.matches_name(name) && !s.has_versions())
    }

    /// Whether all versions of a name are wanted.
    pub(crate) fn wants_whole(&self, name: &str) -> bool {
        let whole = |s: &Spec| s.matches_name(name) && !s.has_versions();
        (self.only.is_empty() || self.only.iter().any(whole))
            && !self.exclude.iter().any(|s| s.matches_name(name))
    }

    fn wants(&self, name: &str, version: &str) -> bool {
        let hit = |s: &Spec| s.matches_name(name) && s.matches_version(version);
        (self.only.is_empty() || self.only.iter().any(hit)) && !self.exclude.iter().any(hit)
    }

    pub(crate) fn wants_all(&self) -> bool {
        self.only.is_empty() && self.exclude.is_empty()
    }

    /// Takes out of a shard what is not wanted.
    pub(crate) fn apply(&self, shard: &mut Shard) {
        if self.wants_all() {
            return;
        }
        let name = shard.name.clone();
        let ecosystem = shard.ecosystem;
        shard.entries.retain(|file, entry| {
            airlock_core::record::Artifact::from_parts(ecosystem, &name, file, entry)
                .is_ok_and(|artifact| self.wants(&name, &artifact.version))
        });
    }
}

/// Where a channel is read from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(crate) location: Location,
    /// conda: the subdirs.
    pub(crate) subdirs: Vec<String>,
    filter: Filter,
    /// A tree that somebody brought: no link in it leads out of it, and what is read of it is kept in this folder.
    tree: Option<PathBuf>,
}

impl Origin {
    /// The source that a channel has of its own.
    ///
    /// # Errors
    ///
    /// If it has none: what feeds it.
    pub fn of(channel: &Channel) -> Result<Self> {
        let name = &channel.name;
        match &channel.feed {
            ChannelFeed::Source { location, subdirs, only, exclude } => Ok(Self {
                location: Location::parse(location)?,
                subdirs: subdirs.clone(),
                filter: Filter::of(channel.ecosystem, only, exclude)?,
                tree: None,
            }),
            ChannelFeed::Tree {} => Err(Error::usage(format!(
                "channel `{name}` has no source that could be read: people bring its trees"
            ))
            .hint(format!(
                "nothing was changed; take in a newer one with `airlock import PATH --channel {name}`"
            ))),
            ChannelFeed::Bundles { .. } | ChannelFeed::Parent { .. } => {
                Err(Error::usage(format!("channel `{name}` has no source of its own"))
                    .hint("use `airlock import`, or `airlock judge` for a child"))
            }
        }
    }

    /// A tree at `root`, which is canonical.
    pub(crate) fn tree(root: PathBuf, subdirs: Vec<String>, cache: PathBuf) -> Self {
        Self { location: Location::Path(root), subdirs, filter: Filter::default(), tree: Some(cache) }
    }

    /// Whether somebody brought it.
    pub(crate) const fn is_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// A client that reads it.
    pub(crate) fn client(&self, station: &Station) -> Result<Client> {
        let client = Client::new(station, &self.location)?;
        Ok(if self.tree.is_some() { client.without_links() } else { client })
    }
}

/// What is asked of which source. By which policy that is judged changes nothing in it.
fn definition(channel: &Channel) -> Result<Digest> {
    Ok(object::encode(&Channel { policy: String::new(), ..channel.clone() })?.0.digest())
}

/// Reads a channel's source and writes the upstream tree. No ref moves: the caller judges first.
///
/// # Errors
///
/// Also if the source shrank by more than half and no person said that this is right (`accept_shrink`).
#[boxed]
pub async fn mirror(
    station: &Station,
    channel: &Channel,
    origin: &Origin,
    accept_shrink: bool,
) -> Result<(Id<Upstream>, MirrorState, Mirrored)> {
    let db = &station.store.db;
    let definition = Some(definition(channel)?);
    let whole = db.find_ref(&ref_name(&channel.name, "def")).await?;
    let before = match db.find_ref(&ref_name(&channel.name, "mirror")).await? {
        Some(id) => db.get::<MirrorState>(Id::new(id)).await?,
        None => MirrorState::default(),
    };
    let is_of_it = before.definition.is_some() && [definition, whole].contains(&before.definition);
    let before = if is_of_it { before } else { MirrorState::default() };
    let previous = match db.find_ref(&ref_name(&channel.name, "upstream")).await? {
        Some(id) if before != MirrorState::default() => Some(db.get::<Upstream>(Id::new(id)).await?),
        _ => None,
    };
    let (known, about) = match previous {
        Some(upstream) => (trees::load(db, upstream.tree).await?, upstream.subdirs),
        None => (BTreeMap::new(), BTreeMap::new()),
    };
    let mut reading = Reading {
        station,
        client: origin.client(station)?,
        source: origin.location.clone(),
        filter: origin.filter.clone(),
        cache: origin.tree.clone().unwrap_or_else(|| station.dir.join(directory::CACHE)),
        before,
        known,
        about,
        report: Mirrored::default(),
    };
    let mut tree = match channel.ecosystem {
        Ecosystem::Conda => reading.conda(&origin.subdirs).await?,
        Ecosystem::Pypi => reading.pypi().await?,
    };
    reading.check_shrink(&tree.shards, accept_shrink)?;
    tree.state.definition = definition;
    let upstream = Upstream {
        ecosystem: channel.ecosystem,
        tree: trees::store(db, &tree.shards).await?,
        subdirs: tree.subdirs,
        origin: None,
    };
    let id = db.put(&upstream).await?;
    Ok((id, tree.state, reading.report))
}

impl Reading<'_> {
    /// Filters and writes the shards of one index, on all threads and a few at a time; gives their ids by key.
    async fn keep(&mut self, read: IndexRead) -> Result<BTreeMap<String, Id<Shard>>> {
        self.report.bad_count += read.bad_count;
        self.report.bad.extend(read.bad);
        self.report.bad.truncate(airlock_formats::limits::BAD_LISTED_MAX);
        self.report.changed += 1;
        let mut out = BTreeMap::new();
        let mut shards = read.shards.into_iter();
        let mut writing = Writing::default();
        loop {
            let chunk: Vec<(ShardKey, Shard)> = shards.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            let filter = self.filter.clone();
            let encode = move |(key, mut shard): (ShardKey, Shard)| {
                filter.apply(&mut shard);
                let (id, encoded) = object::encode(&shard)?;
                Ok((key, id, shard.entries.len(), Packed::of(&encoded)?))
            };
            let mut objects = Vec::with_capacity(chunk.len());
            for (key, id, records, packed) in
                trees::on_threads(self.station.options.threads, chunk, encode).await?
            {
                if records > 0 {
                    self.report.records += records as u64;
                    out.insert(key.to_string(), id);
                    objects.push(packed);
                }
            }
            writing.next(&self.station.store.db, objects).await?;
        }
        writing.end().await?;
        Ok(out)
    }

    /// A source that suddenly lists less than half of what it listed is broken, or not the one that it was.
    fn check_shrink(&self, shards: &BTreeMap<String, Id<Shard>>, accepted: bool) -> Result<()> {
        let count = |map: &BTreeMap<String, Id<Shard>>| {
            let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
            for key in map.keys() {
                *counts.entry(ShardKey::parse(key).subdir).or_default() += 1;
            }
            counts
        };
        let now = count(shards);
        for (subdir, before) in count(&self.known) {
            let now = now.get(&subdir).copied().unwrap_or(0);
            if !accepted && before >= SHRINK_NAMES_MIN && now * 2 < before {
                let place = subdir.map(|s| format!(" in {s}")).unwrap_or_default();
                return Err(Error::unsafe_(format!(
                    "{} lists {now} names{place}, and listed {before} before",
                    self.source.shown()
                ))
                .hint("nothing was changed; if the source really gave up so much, run `airlock sync --accept-shrink` for this channel (of a tree `airlock import` with --accept-shrink)"));
            }
        }
        Ok(())
    }

    /// The shards of the last reading whose key satisfies `wanted`.
    fn again(&mut self, wanted: impl Fn(&ShardKey) -> bool) -> BTreeMap<String, Id<Shard>> {
        self.report.unchanged += 1;
        self.known
            .iter()
            .filter(|(key, _)| wanted(&ShardKey::parse(key)))
            .map(|(k, id)| (k.clone(), *id))
            .collect()
    }
}

/// An index that cannot be used, with its place.
fn unusable(place: &str, error: &airlock_formats::IndexError) -> Error {
    Error::fault(format!("{place}: {error}"))
        .hint("nothing was changed; if it stays so, tell the upstream's operator")
}
