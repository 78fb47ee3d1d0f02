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
    self, Advisory, AdvisoryRecord, AdvisorySet, CUT, Epss, FeedHead, FeedKind, Kev, MatchKey, Slice,
};
use airlock_core::assess::{Statement, Statements};
use airlock_core::id::{Digest, Id};
use airlock_core::identity::{self, Identity};
use airlock_core::object::{self, ObjectError};
use airlock_core::trie::TreeId;
use airlock_store::{Db, Packed, StoreError};

use super::index::{FeedIndex, IndexEdits, Members, Skim};
use crate::boxed;
use crate::error::Result;
use crate::station::Station;
use crate::tree_edit::{self, Difference};
use crate::{judge, trees};

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

/// A set that is not stored yet, and what its index is made of.
pub(super) struct Assembled {
    pub(super) set: AdvisorySet,
    keys: TreeId<Members>,
    names: TreeId<Members>,
    products: BTreeSet<String>,
}

impl Assembled {
    /// The index of the set, which is stored under this name.
    pub(super) fn index(self, set: Id<AdvisorySet>) -> FeedIndex {
        FeedIndex { set, keys: self.keys, names: self.names, products: self.products }
    }
}

/// The set that these feeds add up to. Slices of products are cut for those that some identity names: NVD speaks of many
/// thousands, and no package is any of the others.
#[boxed]
pub(super) async fn assemble(
    station: &Station,
    base: Option<&Base>,
    feeds: BTreeMap<String, FeedHead>,
) -> Result<Assembled> {
    let db = &station.store.db;
    let blank = BTreeMap::new();
    let before = base.map_or(&blank, |b| &b.set.feeds);
    let same = |kind: FeedKind| base.filter(|_| contents(before, kind) == contents(&feeds, kind));
    let kev = match same(FeedKind::Kev) {
        Some(base) => base.set.kev,
        None => join_kev(db, &contents(&feeds, FeedKind::Kev)).await?,
    };
    let epss = match same(FeedKind::Epss) {
        Some(base) => base.set.epss,
        None => join_epss(db, &contents(&feeds, FeedKind::Epss)).await?,
    };
    let builtin = Some(identity::builtin::digest());
    let of = |heads, kind| named_contents(heads, kind);
    let is_same = |kind| base.is_some() && of(before, kind) == of(&feeds, kind);
    let statements = match base.filter(|_| is_same(FeedKind::Vex)) {
        Some(base) => base.set.statements,
        None => join_statements(db, &feeds).await?,
    };
    let same_names = is_same(FeedKind::Identities);
    let (identities, mut products) = match base.filter(|base| same_names && base.set.builtin == builtin) {
        Some(base) => (base.set.identities, base.index.products.clone()),
        None => join_identities(db, &feeds).await?,
    };
    products.extend(ruled_products(station).await?);
    let mut touched = changes(station, before, &feeds, base).await?;
    let none = BTreeSet::new();
    let held = base.map_or(&none, |b| &b.index.products);
    touched.keys.retain(|key| !is_product(key) || products.contains(key));
    touched.keys.extend(products.difference(held).cloned());
    let gone: Vec<String> = held.difference(&products).cloned().collect();
    let (keys, names) = (touched.by_key, touched.by_name);
    let slices = cut(station, &feeds, touched, gone, base.map(|b| b.set.slices)).await?;
    Ok(Assembled {
        set: AdvisorySet { feeds, slices, kev, epss, identities, builtin, statements, cut: Some(CUT) },
        keys,
        names,
        products,
    })
}

/// The feeds of one kind by name and content: evidence names them.
fn named_contents(feeds: &BTreeMap<String, FeedHead>, kind: FeedKind) -> Vec<(&String, Digest)> {
    let wanted = feeds.iter().filter(|(_, head)| head.kind == kind);
    wanted.map(|(name, head)| (name, head.content)).collect()
}

/// The CPE products that people of this station named in rulings on identities.
pub(super) async fn ruled_products(station: &Station) -> Result<BTreeSet<String>> {
    let (_, decisions) = judge::decisions(station).await?;
    Ok(decisions.keys().map(MatchKey::as_str).filter(|key| is_product(key)).map(str::to_owned).collect())
}

/// Whether a match key is that of a CPE product.
fn is_product(key: &str) -> bool {
    key.starts_with("cpe:")
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
#[boxed]
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
        let root = |heads: &BTreeMap<String, FeedHead>| {
            heads.get(feed).filter(|h| h.kind.is_advisories()).map(FeedHead::records)
        };
        let differences = tree_edit::diff(db, root(before), root(feeds)).await?;
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
    for (feed, root) in records(feeds) {
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

/// The feeds that hold advisories.
fn records(feeds: &BTreeMap<String, FeedHead>) -> Vec<(&String, Records)> {
    let wanted = |head: &FeedHead| head.kind.is_advisories();
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

/// Cuts the touched slices anew, some on each thread, and puts them in their places; takes out those that are gone.
async fn cut(
    station: &Station,
    feeds: &BTreeMap<String, FeedHead>,
    touched: Touched,
    gone: Vec<String>,
    slices: Option<TreeId<Id<Slice>>>,
) -> Result<TreeId<Id<Slice>>> {
    let db = &station.store.db;
    let Touched { keys, by_key, by_name } = touched;
    let bearing = tree_edit::find_many(db, by_key, texts(&keys)).await?;
    let silent = keys.into_iter().filter(|key| !bearing.contains_key(key));
    let mut edits: BTreeMap<String, Option<Id<Slice>>> = silent.chain(gone).map(|key| (key, None)).collect();
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
    for (feed, root) in records(feeds) {
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

/// Reads records by feed and id.
async fn load(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
    wanted: &Members,
) -> Result<Vec<(String, Advisory)>> {
    let mut out = Vec::new();
    for (feed, ids) in wanted {
        let Some(head) = feeds.get(feed) else { continue };
        let found = tree_edit::find_many(db, head.records(), texts(ids)).await?;
        let records = advisories(db, found.into_values().collect(), AdvisoryRecord::decode_advisory).await?;
        out.extend(records.into_values().map(|advisory| (feed.clone(), advisory)));
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

/// The rows that are built in and all maps as one, by [`identity::Joined`].
///
/// Gives also the CPE products that they name.
async fn join_identities(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
) -> Result<(TreeId<Identity>, BTreeSet<String>)> {
    let mut joined = identity::Joined::default();
    for (feed, head) in feeds.iter().filter(|(_, head)| head.kind == FeedKind::Identities) {
        joined.add(feed, trees::load::<Identity>(db, TreeId::new(head.content)).await?);
    }
    let identities = joined.finish();
    let keys = identities.values().flat_map(|i| &i.mappings).map(|m| &m.key);
    let products = keys.filter(|key| key.is_cpe()).map(|key| key.as_str().to_owned()).collect();
    Ok((trees::store(db, &identities).await?, products))
}

/// What all feeds of statements say, each statement with the feed that it comes from.
async fn join_statements(
    db: &Db,
    feeds: &BTreeMap<String, FeedHead>,
) -> Result<Option<TreeId<Id<Statements>>>> {
    let mut joined: BTreeMap<String, Statements> = BTreeMap::new();
    for (feed, head) in feeds.iter().filter(|(_, head)| head.kind == FeedKind::Vex) {
        for (key, id) in trees::load::<Id<Statements>>(db, TreeId::new(head.content)).await? {
            if MatchKey::parse(&key).is_none() {
                continue;
            }
            let said: Statements = db.get(id).await?;
            let said = said.list.into_iter().map(|one| Statement { source: feed.clone(), ..one });
            joined.entry(key).or_default().list.extend(said);
        }
    }
    if joined.is_empty() {
        return Ok(None);
    }
    let (mut encoded, mut tree) = (Vec::new(), BTreeMap::new());
    for (key, statements) in joined {
        tree.insert(key, trees::encode_into(&statements, &mut encoded)?);
    }
    db.put_many(&encoded).await?;
    trees::store(db, &tree).await.map(Some)
}
