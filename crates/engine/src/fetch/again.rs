//! Fetching again what was lost: the same bytes, or none.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Upstream;
use airlock_core::trie::TreeId;
use airlock_store::Db;

use super::{ARTIFACT_BYTES_MAX, Wanted, fetch_one, locate};
use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::mirror::MirrorState;
use crate::progress::Unit;
use crate::station::Station;
use crate::tree_edit;
use crate::upstream::{Client, Location};

/// Fetches files of a channel again, by shard key. What comes must have the hash that was pinned when it was fetched
/// first; nothing else changes. Gives the hashes that are here again, and what became of the other files.
///
/// # Errors
///
/// If the channel has no source that could be asked, or this station's own disk fails.
pub async fn again(
    station: &Station,
    channel: &Channel,
    lost: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(Vec<Digest>, Vec<(String, Error)>)> {
    let location = match &channel.feed {
        ChannelFeed::Source { location, .. } => Location::parse(location)?,
        ChannelFeed::Tree {} => {
            return Err(Error::fault(format!(
                "channel `{}` is fed by trees that people brought, which cannot be asked again",
                channel.name
            ))
            .hint("restore the blobs from a copy of the station"));
        }
        ChannelFeed::Parent { .. } => {
            let parent = channel.parent().unwrap_or_default();
            return Err(Error::fault(format!("channel `{}` is fed by `{parent}`", channel.name))
                .hint(format!("what that has is fetched for it: `airlock fsck {parent} --repair`")));
        }
        ChannelFeed::Bundles { stream } => {
            return Err(Error::fault(format!("channel `{}` is fed by bundles", channel.name)).hint(format!(
                "ask the sender of stream `{stream}` for a full bundle (`airlock export --full`), and import it"
            )));
        }
    };
    let client = Client::new(station, &location)?;
    let held = Held::read(station, channel).await?;
    let (mut here, mut failed) = (Vec::new(), Vec::new());
    for (key, files) in lost {
        for file in files {
            match one(station, &client, (channel.ecosystem, &location), &held, key, file).await {
                Ok(digests) => here.extend(digests),
                Err(e) if e.is_ours => return Err(e),
                Err(e) => failed.push((file.clone(), e)),
            }
        }
    }
    Ok((here, failed))
}

/// What the channel knows of its files.
struct Held {
    shards: Vec<TreeId<Id<Shard>>>,
    facts: TreeId<Id<Facts>>,
    state: MirrorState,
}

impl Held {
    async fn read(station: &Station, channel: &Channel) -> Result<Self> {
        let db = &station.store.db;
        let refs = db.refs(&ref_name(&channel.name, "")).await?;
        let at = |part: &str| {
            refs.get(&ref_name(&channel.name, part))
                .copied()
                .ok_or_else(|| Error::usage(format!("channel `{}` was never filled", channel.name)))
        };
        let upstream: Upstream = db.get(Id::new(at("upstream")?)).await?;
        let state = match at("mirror") {
            Ok(id) => db.get(Id::new(id)).await?,
            Err(_) => MirrorState::default(),
        };
        Ok(Self {
            shards: vec![upstream.tree, TreeId::new(at("listed")?)],
            facts: TreeId::new(at("facts")?),
            state,
        })
    }

    /// The record of a file: as the source lists it now, or as it was published.
    async fn artifact(&self, db: &Db, key: &str, file: &str) -> Result<Option<Artifact>> {
        for tree in &self.shards {
            let found = tree_edit::find_many(db, *tree, [key]).await?;
            let Some(id) = found.get(key) else { continue };
            let shard: Shard = db.get(*id).await?;
            if let Some(entry) = shard.entries.get(file)
                && let Ok(artifact) = Artifact::read(&shard, file, entry)
            {
                return Ok(Some(artifact));
            }
        }
        Ok(None)
    }
}

#[boxed]
async fn one(
    station: &Station,
    client: &Client,
    (ecosystem, source): (Ecosystem, &Location),
    held: &Held,
    key: &str,
    file: &str,
) -> Result<Vec<Digest>> {
    let db = &station.store.db;
    let facts = tree_edit::find_many(db, held.facts, [key]).await?;
    let facts: Facts = match facts.get(key) {
        Some(id) => db.get(*id).await?,
        None => Facts::default(),
    };
    let pinned = facts.files.get(file).and_then(|fact| fact.file.clone());
    let pinned = pinned.ok_or_else(|| Error::fault(format!("{file} was never fetched")))?;
    let artifact = held.artifact(db, key, file).await?;
    let artifact = artifact.ok_or_else(|| {
        Error::fault(format!("{file} is listed no longer"))
            .hint("restore the blob from a copy of the station")
    })?;
    let location = locate(ecosystem, source, &ShardKey::parse(key), &artifact, &held.state);
    let wanted =
        Wanted { key: key.to_owned(), artifact, location, bytes_max: ARTIFACT_BYTES_MAX, is_brought: false };
    let task =
        station.options.progress.task(format!("fetching {file} again"), Unit::Bytes, wanted.artifact.size);
    let arrived = fetch_one(station, client, ecosystem, &wanted, &task).await?;
    if arrived.fact.sha256 != pinned.sha256 {
        return Err(Error::unsafe_(format!(
            "{file}: the source has other bytes now ({}) than when it was fetched first ({})",
            arrived.fact.sha256, pinned.sha256
        )));
    }
    let mut batch = station.store.blobs.batch();
    let mut here = vec![batch.add(arrived.staged, Some(pinned.sha256))?];
    if let Some(metadata) = arrived.metadata.filter(|_| arrived.fact.metadata == pinned.metadata) {
        here.push(batch.add(metadata, pinned.metadata)?);
    }
    joined(tokio::task::spawn_blocking(move || Ok(batch.commit()?)).await)?;
    Ok(here)
}
