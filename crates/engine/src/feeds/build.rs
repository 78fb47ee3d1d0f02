//! What all feeds together say: made from what the last set said and from what changed since. Made from nothing,
//! everything changed; it is the same code, and the result does not depend on the way.
//!
//! A changed record touches the slices of the packages that it affects, and of those that other records affect which
//! go by a name under which it shares its scores. Only these are cut anew, each from all records that bear on it,
//! by [`advisory::slices`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use airlock_core::advisory::{
    self, Advisory, AdvisoryRecord, AdvisorySet, Epss, FeedHead, FeedKind, Kev, MatchKey, Slice,
};
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::object::{self, ObjectError};
use airlock_core::trie::TreeId;
use airlock_store::{Db, Packed, StoreError};

use super::index::{FeedIndex, IndexEdits, Members, Skim};
use super::read::is_records;
use crate::error::Result;
use crate::station::Station;
use crate::tree_edit::{self, Difference};
use crate::trees;

/// Records that one thread holds at once.
const RECORDS_AT_ONCE: usize = 2000;

/// A record by its feed and id.
type Place = (String, String);
/// The records of a feed.
type Records = TreeId<Id<AdvisoryRecord>>;

/// A set and its index, from which the next one is made.
pub(super) struct Base {
    pub(super) set: AdvisorySet,
    pub(super) index: FeedIndex,
}

/// The set that these feeds add up to, with the trees of its index by key and by name.
pub(super) async fn assemble(
    station: &Station,
    base: Option<&Base>,
    feeds: BTreeMap<String, FeedHead>,
) -> Result<(AdvisorySet, TreeId<Members>, TreeId<Members>)> {
    let db = &station.store.db;
    let blank = BTreeMap::new();
    let before = base.map_or(&blank, |b| &b.set.feeds);
    let touched = changes(station, before, &feeds, base).await?;
    let (by_key, by_name) = (touched.by_key, touched.by_name);
    let slices = cut(station, &feeds, touched, base.map(|b| b.set.slices)).await?;
    let same = |kind: FeedKind| base.filter(|_| contents(before, kind) == contents(&feeds, kind));
    let kev = match same(FeedKind::Kev) {
        Some(base) => base.set.kev,
        None => join_kev(db, &contents(&feeds, FeedKind::Kev)).await?,
    };
    let epss = match same(FeedKind::Epss) {
        Some(base) => base.set.epss,
        None => join_epss(db, &contents(&feeds, FeedKind::Epss)).await?,
    };
    let identities = match same(FeedKind::Identities) {
        Some(base) => base.set.identities,
        None => join_identities(db, &contents(&feeds, FeedKind::Identities)).await?,
    };
    Ok((AdvisorySet { feeds, slices, kev, epss, identities }, by_key, by_name))
}

/// The contents of all feeds of one kind, by the feeds' names.
fn contents(feeds: &BTreeMap<String, FeedHead>, kind: FeedKind) -> Vec<Digest> {
    feeds.values().filter(|head| head.kind == kind).map(|head| head.content).collect()
}

/// The slices to be cut, and the index after the change.
struct Touched {
    keys: BTreeSet<String>,
    by_key: TreeId<Members>,
    by_name: TreeId<Members>,
}

/// What changed records say, gathered from all threads: the order in which they add to it decides nothing.
#[derive(Default)]
struct Gathered {
    keys: BTreeSet<String>,
    /// Names under which changed records share their scores.
    shared: BTreeSet<String>,
    edits: IndexEdits,
}

/// Goes through what changed in the feeds of advisories.
async fn changes(
    station: &Station,
    before: &BTreeMap<String, FeedHead>,
    feeds: &BTreeMap<String, FeedHead>,
    base: Option<&Base>,
) -> Result<Touched> {
    let db = &station.store.db;
    let gathered = Arc::new(Mutex::new(Gathered::default()));
    let mut changed: HashSet<Place> = HashSet::new();
    let names: BTreeSet<&String> = before.keys().chain(feeds.keys()).collect();
    for feed in names {
        // One that tells something else now went and came.
        for tells in [false, true] {
            let root = |heads: &BTreeMap<String, FeedHead>| {
                let head = heads.get(feed).filter(|h| is_records(h.kind));
                head.filter(|h| h.kind.tells_affected() == tells).map(FeedHead::records)
            };
            if base.is_none() && !tells {
                // What only scores touches nothing but slices of other records, all of which are cut anyway.
                continue;
            }
            let differences = tree_edit::diff(db, root(before), root(feeds)).await?;
            if !tells {
                lock(&gathered).shared.extend(differences.into_iter().map(|d| d.key));
                continue;
            }
            if base.is_some() {
                changed.extend(differences.iter().map(|d| (feed.clone(), d.key.clone())));
            }
            let chunks = differences.chunks(RECORDS_AT_ONCE).map(<[_]>::to_vec).collect();
            let (db, feed, gathered) = (db.clone(), feed.clone(), Arc::clone(&gathered));
            let runtime = Handle::current();
            trees::on_threads(station.options.threads, chunks, move |chunk| {
                runtime.block_on(gather(&db, &feed, &chunk, &gathered))
            })
            .await?;
        }
    }
    let Gathered { mut keys, shared, edits } = std::mem::take(&mut *lock(&gathered));
    let (by_key, by_name) = edits.apply(db, base.map(|b| &b.index)).await?;
    // Made from nothing, there is no record that did not change itself.
    if base.is_some() {
        keys.extend(referrers(db, feeds, by_name, &shared, &changed).await?);
    }
    Ok(Touched { keys, by_key, by_name })
}

/// Reads changed records of one feed and notes what they say.
async fn gather(
    db: &Db,
    feed: &str,
    chunk: &[Difference<Id<AdvisoryRecord>>],
    gathered: &Mutex<Gathered>,
) -> Result<()> {
    let ids = chunk.iter().flat_map(|d| [d.old, d.new]).flatten().collect();
    let records = advisories(db, ids, AdvisoryRecord::decode_names).await?;
    let skims: HashMap<Digest, Skim> =
        records.into_iter().map(|(id, advisory)| (id, Skim::of(advisory))).collect();
    let mut gathered = lock(gathered);
    for difference in chunk {
        for (id, add) in [(difference.old, false), (difference.new, true)] {
            let Some(skim) = id.and_then(|id| skims.get(&id.digest())) else { continue };
            gathered.edits.note(feed, &difference.key, skim, add);
            gathered.keys.extend(skim.keys.iter().cloned());
            gathered.shared.extend(skim.shares.iter().cloned());
        }
    }
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The packages that records affect which go by one of these names and did not change themselves.
async fn referrers(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
    by_name: TreeId<Members>,
    shared: &BTreeSet<String>,
    changed: &HashSet<Place>,
) -> Result<BTreeSet<String>> {
    let mut places = named(db, by_name, shared).await?;
    let mut roots = Vec::new();
    for (feed, root) in telling(feeds, true) {
        let found = tree_edit::find_many(db, root, texts(shared)).await?;
        places.entry(feed.clone()).or_default().extend(found.into_keys());
        roots.push((feed, root));
    }
    let mut keys = BTreeSet::new();
    for (feed, root) in roots {
        let mut ids = places.remove(feed).unwrap_or_default();
        ids.retain(|id| !changed.contains(&(feed.clone(), id.clone())));
        let found = tree_edit::find_many(db, root, texts(&ids)).await?;
        let ids: Vec<Id<AdvisoryRecord>> = found.into_values().collect();
        for chunk in ids.chunks(RECORDS_AT_ONCE) {
            let records = advisories(db, chunk.to_vec(), AdvisoryRecord::decode_names).await?;
            keys.extend(records.into_values().flat_map(|advisory| Skim::of(advisory).keys));
        }
    }
    Ok(keys)
}

/// The feeds that tell what is affected, or the others that hold advisories.
fn telling(feeds: &BTreeMap<String, FeedHead>, tells: bool) -> Vec<(&String, Records)> {
    let wanted = |head: &FeedHead| is_records(head.kind) && head.kind.tells_affected() == tells;
    feeds.iter().filter(|(_, head)| wanted(head)).map(|(name, head)| (name, head.records())).collect()
}

fn texts(of: &BTreeSet<String>) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

/// The records that go by one of these names beside their own id.
async fn named(db: &Db, by_name: TreeId<Members>, names: &BTreeSet<String>) -> Result<Members> {
    let mut out = Members::new();
    for members in tree_edit::find_many(db, by_name, texts(names)).await?.into_values() {
        for (feed, ids) in members {
            out.entry(feed).or_default().extend(ids);
        }
    }
    Ok(out)
}

/// The normal forms of records, or the part of them that is wanted, by object.
async fn advisories(
    db: &Db,
    ids: Vec<Id<AdvisoryRecord>>,
    decode: fn(&[u8]) -> std::result::Result<Advisory, ObjectError>,
) -> Result<HashMap<Digest, Advisory>> {
    let ids: Vec<Digest> =
        ids.into_iter().map(|id| id.digest()).collect::<HashSet<_>>().into_iter().collect();
    let found = db.get_many(&ids).await?;
    let mut out = HashMap::with_capacity(ids.len());
    for id in ids {
        let bytes = found.get(&id).ok_or(StoreError::MissingObject(id))?;
        out.insert(id, decode(bytes)?);
    }
    Ok(out)
}

/// Cuts the touched slices anew, some on each thread, and puts them in their places.
async fn cut(
    station: &Station,
    feeds: &BTreeMap<String, FeedHead>,
    touched: Touched,
    slices: Option<TreeId<Id<Slice>>>,
) -> Result<TreeId<Id<Slice>>> {
    let db = &station.store.db;
    let Touched { keys, by_key, by_name } = touched;
    let bearing = tree_edit::find_many(db, by_key, texts(&keys)).await?;
    let mut edits: BTreeMap<String, Option<Id<Slice>>> =
        keys.into_iter().filter(|key| !bearing.contains_key(key)).map(|key| (key, None)).collect();
    let (mut chunks, mut chunk, mut records) = (Vec::new(), Vec::new(), 0);
    for (key, members) in bearing {
        records += members.values().map(BTreeSet::len).sum::<usize>();
        chunk.push((key, members));
        if records >= RECORDS_AT_ONCE {
            chunks.push(std::mem::take(&mut chunk));
            records = 0;
        }
    }
    chunks.push(chunk);
    let (runtime, feeds) = (Handle::current(), feeds.clone());
    let store = db.clone();
    let cut = trees::on_threads(station.options.threads, chunks, move |chunk| {
        runtime.block_on(cut_chunk(&store, &feeds, by_name, chunk))
    });
    edits.extend(cut.await?.into_iter().flatten().map(|(key, slice)| (key, Some(slice))));
    Ok(tree_edit::edit(db, slices, &edits).await?)
}

/// Cuts some slices; gives them by their keys.
async fn cut_chunk(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
    by_name: TreeId<Members>,
    chunk: Vec<(String, Members)>,
) -> Result<Vec<(String, Id<Slice>)>> {
    let (mut members, mut keys) = (Members::new(), HashSet::new());
    for (key, of_key) in chunk {
        for (feed, ids) in of_key {
            members.entry(feed).or_default().extend(ids);
        }
        keys.insert(key);
    }
    let mut bearing = load(db, feeds, &members).await?;
    for (_, advisory) in &mut bearing {
        advisory.affected.retain(|affected| keys.contains(affected.key.as_str()));
    }
    let names: BTreeSet<String> =
        bearing.iter().flat_map(|(_, a)| a.names().map(str::to_owned).collect::<Vec<_>>()).collect();
    // Who shares a score under one of these names: by alias, and by id in any feed.
    let mut sharing = named(db, by_name, &names).await?;
    for (feed, root) in [telling(feeds, true), telling(feeds, false)].concat() {
        let found = tree_edit::find_many(db, root, texts(&names)).await?;
        sharing.entry(feed.clone()).or_default().extend(found.into_keys());
    }
    for (feed, ids) in &mut sharing {
        ids.retain(|id| members.get(feed).is_none_or(|members| !members.contains(id)));
    }
    let mut sharing = load(db, feeds, &sharing).await?;
    for (_, advisory) in &mut sharing {
        advisory.affected.clear();
    }
    let all = bearing.iter().chain(&sharing).map(|(feed, advisory)| (feed.as_str(), advisory));
    let (mut packed, mut cut) = (Vec::new(), Vec::new());
    for (key, slice) in advisory::slices(all) {
        let (id, encoded) = object::encode(&slice)?;
        packed.push(Packed::of(&encoded)?);
        cut.push((MatchKey::as_str(&key).to_owned(), id));
    }
    db.put_packed(packed).await?;
    Ok(cut)
}

/// Reads records by feed and id, as far as they count for others.
async fn load(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
    wanted: &Members,
) -> Result<Vec<(String, Advisory)>> {
    let mut out = Vec::new();
    for (feed, ids) in wanted {
        let Some(head) = feeds.get(feed) else { continue };
        let found = tree_edit::find_many(db, head.records(), texts(ids)).await?;
        let records = advisories(db, found.into_values().collect(), AdvisoryRecord::decode_advisory)
            .await?
            .into_values();
        if head.kind.tells_affected() {
            out.extend(records.map(|advisory| (feed.clone(), advisory)));
        } else {
            out.extend(records.map(|advisory| (feed.clone(), advisory.only_scores())));
        }
    }
    Ok(out)
}

/// All KEV feeds as one: of two days the earlier.
async fn join_kev(db: &Db, contents: &[Digest]) -> Result<Id<Kev>> {
    if let [one] = contents {
        return Ok(Id::new(*one));
    }
    let mut kev = Kev::default();
    for content in contents {
        let read: Kev = db.get(Id::new(*content)).await?;
        for (cve, added) in read.entries {
            let held = kev.entries.entry(cve).or_insert(added);
            *held = added.min(*held);
        }
    }
    Ok(db.put(&kev).await?)
}

/// The newest EPSS feed.
async fn join_epss(db: &Db, contents: &[Digest]) -> Result<Id<Epss>> {
    if let [one] = contents {
        return Ok(Id::new(*one));
    }
    let mut epss: Option<Epss> = None;
    for content in contents {
        let read: Epss = db.get(Id::new(*content)).await?;
        epss = epss.filter(|held| held.date >= read.date).or(Some(read));
    }
    Ok(db.put(&epss.unwrap_or_default()).await?)
}

/// All maps as one.
async fn join_identities(db: &Db, contents: &[Digest]) -> Result<TreeId<Identity>> {
    if let [one] = contents {
        return Ok(TreeId::new(*one));
    }
    let mut identities: BTreeMap<String, Identity> = BTreeMap::new();
    for content in contents {
        for (name, identity) in trees::load::<Identity>(db, TreeId::new(*content)).await? {
            join_identity(identities.entry(name), identity);
        }
    }
    trees::store(db, &identities).await
}

/// Two maps that disagree are both right until a person rules: what either names is looked up.
fn join_identity(place: std::collections::btree_map::Entry<'_, String, Identity>, identity: Identity) {
    let held = place.or_insert_with(|| Identity { pypi: Vec::new(), provenance: String::new() });
    let new: Vec<String> = identity.pypi.into_iter().filter(|n| !held.pypi.contains(n)).collect();
    if !new.is_empty() || held.provenance.is_empty() {
        let and = if held.provenance.is_empty() { "" } else { " and " };
        held.provenance = format!("{}{and}{}", held.provenance, identity.provenance);
        held.pypi.extend(new);
        held.pypi.sort();
    }
}
