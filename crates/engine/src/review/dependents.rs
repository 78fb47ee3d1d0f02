//! What depends on what waits: one pass over everything that the channel's source lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlock_core::block::BlockSet;
use airlock_core::closure::{Dependent, Dependents, Package, Requiring, requiring, requiring_by_facts};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::object::{self, Object};
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::verdict::{Judgement, Verdict};

use super::Held;
use crate::boxed;
use crate::error::Result;
use crate::view::{ChannelView, View};
use crate::{explain, tree_edit, trees};

/// Shards that are read and looked through at once.
const SHARDS_AT_ONCE: usize = 2000;
/// Up to so many names are looked for in the text of a shard before it is read: most shards do not hold them.
const NAMES_SOUGHT_MAX: usize = 16;

/// What depends on each of these, in their order.
#[boxed]
pub(super) async fn dependents(view: &View, channel: &ChannelView, held: &[Held]) -> Result<Vec<Dependents>> {
    let mut out = vec![Dependents::default(); held.len()];
    if held.is_empty() {
        return Ok(out);
    }
    let mut packages = packages(view, channel, held).await?;
    let names: Arc<BTreeSet<String>> = Arc::new(packages.keys().cloned().collect());
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    let db = &view.station().store.db;
    let mut add = |found: Vec<Found>| count(&mut packages, held, &mut out, found);
    match channel.channel.ecosystem {
        Ecosystem::Conda => {
            let all = trees::load(db, upstream.tree).await?;
            let are_few = names.len() <= NAMES_SOUGHT_MAX;
            let look = Arc::new(move |key: &ShardKey, bytes: &[u8]| {
                if are_few && !holds_any(bytes, &names) {
                    return Ok(Vec::new());
                }
                let shard: Shard = object::decode(bytes)?;
                Ok(requiring(&shard, |name| name != key.name && names.contains(name)))
            });
            pass(view, channel, all, look, &mut add).await?;
        }
        Ecosystem::Pypi => {
            let all = trees::load(db, channel.newest.inputs.facts).await?;
            let look = Arc::new(move |key: &ShardKey, bytes: &[u8]| {
                let facts: Facts = object::decode(bytes)?;
                Ok(requiring_by_facts(&key.name, &facts, |name| name != key.name && names.contains(name)))
            });
            pass(view, channel, all, look, &mut add).await?;
        }
    }
    Ok(out)
}

/// The packages that wait, with all their files, of which some are asked about.
async fn packages(view: &View, channel: &ChannelView, held: &[Held]) -> Result<BTreeMap<String, Package>> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (group, one) in held.iter().enumerate() {
        let files = groups.entry(&one.name).or_default();
        files.extend(one.artifacts.iter().map(|artifact| (artifact.as_str(), group)));
    }
    let mut out = BTreeMap::new();
    for (name, files) in groups {
        let mut package = Package::new(channel.channel.ecosystem);
        for judgement in explain::package(view, channel, name).await?.ours {
            let key = ShardKey { subdir: judgement.subdir.clone(), name: name.to_owned() };
            let (shard, _) = super::known(view, channel, &key).await?;
            let judgement = channel.unblocked(&judgement);
            for (file, entry) in shard.iter().flat_map(|shard| &shard.entries) {
                let is_offered = judgement.artifacts.get(file).is_some_and(|judged| judged.is_offered());
                let group = files.get(key.place(file).as_str()).copied();
                if let Some(shard) = shard.as_ref().filter(|_| is_offered || group.is_some()) {
                    package.add(shard, file, entry, is_offered, group);
                }
            }
        }
        out.insert(name.to_owned(), package);
    }
    Ok(out)
}

/// Whether any of these names may stand in an object, in capitals or small letters.
fn holds_any(bytes: &[u8], names: &BTreeSet<String>) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default().to_ascii_lowercase();
    names.iter().any(|name| text.contains(name.as_str()))
}

/// A file that requires what is asked about.
struct Found {
    key: ShardKey,
    requiring: Requiring,
    is_offered: bool,
}

/// Looks through all of a tree in parts, on all threads, and hands on what of it is offered or held.
async fn pass<T: Object>(
    view: &View,
    channel: &ChannelView,
    all: BTreeMap<String, Id<T>>,
    look: Arc<impl Fn(&ShardKey, &[u8]) -> Result<Vec<Requiring>> + Send + Sync + 'static>,
    add: &mut impl FnMut(Vec<Found>),
) -> Result<()> {
    let (station, threads) = (view.station(), view.station().options.threads);
    let db = &station.store.db;
    let all: Vec<(String, Id<T>)> = all.into_iter().collect();
    for part in all.chunks(SHARDS_AT_ONCE) {
        // Shards that are the same have one object.
        let mut keys: BTreeMap<_, Vec<ShardKey>> = BTreeMap::new();
        for (key, id) in part {
            keys.entry(id.digest()).or_default().push(ShardKey::parse(key));
        }
        let ids: Vec<Id<T>> = part.iter().map(|(_, id)| *id).collect();
        let packed = trees::packed(db, &ids).await?;
        let items: Vec<_> =
            packed.into_iter().map(|one| (keys.remove(&one.digest()).unwrap_or_default(), one)).collect();
        let look = look.clone();
        let read = move |(keys, packed): (Vec<ShardKey>, airlock_store::Packed)| {
            let bytes = packed.unpack()?;
            let of = |key: ShardKey| look(&key, &bytes).map(|found| (key, found));
            keys.into_iter().map(of).collect::<Result<Vec<_>>>()
        };
        let found: BTreeMap<String, (ShardKey, Vec<Requiring>)> = trees::on_threads(threads, items, read)
            .await?
            .into_iter()
            .flatten()
            .filter(|(_, found)| !found.is_empty())
            .map(|(key, found)| (key.to_string(), (key, found)))
            .collect();
        add(judged(view, channel, found).await?);
    }
    Ok(())
}

/// What of it is offered or held.
async fn judged(
    view: &View,
    channel: &ChannelView,
    mut found: BTreeMap<String, (ShardKey, Vec<Requiring>)>,
) -> Result<Vec<Found>> {
    let (station, blocks) = (view.station(), channel.blocks.clone());
    let db = &station.store.db;
    let ids: BTreeMap<String, Id<Judgement>> =
        tree_edit::find_many(db, channel.newest.judgement, found.keys().map(String::as_str)).await?;
    let mut by_judgement: BTreeMap<_, Vec<(String, ShardKey, Vec<Requiring>)>> = BTreeMap::new();
    for (place, id) in &ids {
        if let Some((key, requiring)) = found.remove(place) {
            by_judgement.entry(id.digest()).or_default().push((place.clone(), key, requiring));
        }
    }
    let packed = trees::packed(db, &ids.into_values().collect::<Vec<_>>()).await?;
    let items: Vec<_> =
        packed.into_iter().map(|one| (by_judgement.remove(&one.digest()).unwrap_or_default(), one)).collect();
    let read = move |(parts, packed): (Vec<(String, ShardKey, Vec<Requiring>)>, airlock_store::Packed)| {
        let judgement: Judgement = object::decode(&packed.unpack()?)?;
        let of = |(place, key, requiring): (String, ShardKey, _)| {
            left(&judgement, &blocks, &place, &key, requiring)
        };
        Ok(parts.into_iter().flat_map(of).collect::<Vec<_>>())
    };
    Ok(trees::on_threads(station.options.threads, items, read).await?.into_iter().flatten().collect())
}

fn left(
    judgement: &Judgement,
    blocks: &BlockSet,
    place: &str,
    key: &ShardKey,
    requiring: Vec<Requiring>,
) -> Vec<Found> {
    let of = |requiring: Requiring| {
        let judged = judgement.artifacts.get(&requiring.file)?;
        let is_out =
            judged.gone || judged.verdict == Verdict::Deny || blocks.reason(place, &requiring.file).is_some();
        let is_offered = judged.verdict == Verdict::Admit;
        (!is_out).then(|| Found { key: key.clone(), requiring, is_offered })
    };
    requiring.into_iter().filter_map(of).collect()
}

/// Counts what depends on what waits.
fn count(packages: &mut BTreeMap<String, Package>, held: &[Held], out: &mut [Dependents], found: Vec<Found>) {
    for Found { key, requiring, is_offered } in found {
        for (name, texts) in &requiring.needs {
            let Some(package) = packages.get_mut(name) else { continue };
            let Some(satisfying) = package.satisfying(key.subdir.as_deref(), texts) else {
                let of_name = held.iter().zip(out.iter_mut()).filter(|(held, _)| held.name == *name);
                of_name.for_each(|(_, dependents)| dependents.untold += 1);
                continue;
            };
            for one in satisfying {
                if let Some(dependents) = out.get_mut(one.group) {
                    dependents.add(Dependent::of(&key, &requiring, texts, is_offered, one.is_only));
                }
            }
        }
    }
}
