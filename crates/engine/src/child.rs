//! Child channels: what a parent offers, and of that what the child takes.
//!
//! A child is judged like any other channel, from what its parent offers and with the parent's facts; so nothing is in it
//! that is not in the parent, whatever the child's own policy says, and what the parent waived need not be waived again.
//! What the parent left out is explained from the parent's snapshot, as from that of a station that sends.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::trie::TreeId;

use crate::channel::{Exactly, ref_name};
use crate::error::{Error, Result};
use crate::mirror::Filter;
use crate::station::Station;
use crate::trees;

/// Shards that are filtered at once.
const SHARDS_AT_ONCE: usize = 512;

/// What a child is judged from.
pub(crate) struct Above {
    /// What it takes of what its parent offers.
    pub upstream: Id<Upstream>,
    /// What the parent's files say of themselves.
    pub facts: TreeId<Id<Facts>>,
}

impl Above {
    /// Reads the parent at the snapshot that stands in `known`, which the child's publication states again.
    pub async fn read(
        station: &Station,
        channel: &Channel,
        parent: &str,
        known: &[(String, Option<Digest>)],
    ) -> Result<Self> {
        let name = ref_name(parent, "snapshot");
        let id = known.iter().find(|(known, _)| *known == name).and_then(|(_, at)| *at);
        let id = id.map(Id::<Snapshot>::new).ok_or_else(|| {
            Error::usage(format!("channel `{parent}`, the parent of `{}`, was never published", channel.name))
                .hint(format!("run `airlock sync {parent}`"))
        })?;
        let snapshot: Snapshot = station.store.db.get(id).await?;
        let upstream = Upstream {
            ecosystem: channel.ecosystem,
            tree: taken(station, channel, &snapshot).await?,
            subdirs: snapshot.subdirs,
            origin: Some(id),
        };
        Ok(Self { upstream: station.store.db.put(&upstream).await?, facts: snapshot.inputs.facts })
    }
}

/// The shards that a child takes of what its parent offers.
async fn taken(station: &Station, channel: &Channel, parent: &Snapshot) -> Result<TreeId<Id<Shard>>> {
    let ChannelFeed::Parent { only, exclude, exactly } = &channel.feed else { return Ok(parent.content) };
    let filter = Filter::of(channel.ecosystem, only, exclude)?;
    if filter.wants_all() && exactly.is_none() {
        return Ok(parent.content);
    }
    let db = &station.store.db;
    let is_wanted = |key: &String| {
        filter.wants_name(&ShardKey::parse(key).name)
            && exactly.as_ref().is_none_or(|files| files.contains_key(key))
    };
    let wanted: Vec<(String, Id<Shard>)> =
        trees::load(db, parent.content).await?.into_iter().filter(|(key, _)| is_wanted(key)).collect();
    let mut tree = BTreeMap::new();
    for chunk in wanted.chunks(SHARDS_AT_ONCE) {
        let ids: Vec<Id<Shard>> = chunk.iter().map(|(_, id)| *id).collect();
        let shards = trees::objects(db, &ids).await?;
        let mut encoded = Vec::new();
        for (key, id) in chunk {
            let Some(shard) = shards.get(&id.digest()) else { continue };
            let mut mine = shard.clone();
            filter.apply(&mut mine);
            keep(&mut mine, key, exactly.as_ref());
            if !mine.entries.is_empty() {
                tree.insert(key.clone(), trees::encode_into(&mine, &mut encoded)?);
            }
        }
        db.put_many(&encoded).await?;
    }
    trees::store(db, &tree).await
}

/// Takes out of a shard what is not among the files that are wanted.
fn keep(shard: &mut Shard, key: &str, exactly: Option<&Exactly>) {
    let Some(files) = exactly else { return };
    let none = BTreeSet::new();
    let files = files.get(key).unwrap_or(&none);
    shard.entries.retain(|file, _| files.contains(file));
}

/// Whether a channel has anything to be judged.
pub async fn is_filled(station: &Station, channel: &Channel) -> Result<bool> {
    let place = match channel.parent() {
        Some(parent) => ref_name(parent, "snapshot"),
        None => ref_name(&channel.name, "upstream"),
    };
    Ok(station.store.db.find_ref(&place).await?.is_some())
}

/// Whether a child was judged from something else than what its parent offers now.
pub async fn is_behind(station: &Station, channel: &Channel) -> Result<bool> {
    let Some(parent) = channel.parent() else { return Ok(false) };
    let db = &station.store.db;
    let now = db.find_ref(&ref_name(parent, "snapshot")).await?;
    let Some(upstream) = db.find_ref(&ref_name(&channel.name, "upstream")).await? else {
        return Ok(now.is_some());
    };
    let upstream: Upstream = db.get(Id::new(upstream)).await?;
    Ok(upstream.origin.map(|id| id.digest()) != now)
}
