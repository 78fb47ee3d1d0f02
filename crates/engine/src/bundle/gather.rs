//! What a bundle carries of what is published: the snapshots, all that they need, and what the receiver has already.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{self, Base, ChannelHead, Files, Held, Hop, Manifest};
use airlock_core::channel::{self, Channel, ChannelFeed};
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::Snapshot;
use airlock_store::{Blobs, Db};

use super::export::What;
use super::needs::Needs;
use super::{ExportState, ImportState};
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::station::Station;

/// Everything that these snapshots and feeds need, and the heads of the channels.
pub(super) async fn gather(
    db: &Db,
    mut needs: Needs,
    (snapshots, held): (&BTreeMap<String, Id<Snapshot>>, &BTreeMap<String, Held>),
    heads: &BTreeMap<String, FeedHead>,
) -> Result<(Needs, BTreeMap<String, ChannelHead>)> {
    let mut channels = BTreeMap::new();
    for (name, id) in snapshots {
        let snapshot: Snapshot = db.get(*id).await?;
        let (facts, artifacts) = needs.add_snapshot(db, *id).await?;
        let held = held.get(name).copied();
        if let Some(held) = &held {
            needs.add_held(db, held).await?;
        }
        let content = snapshot.content.digest();
        let via = via(db, name).await?;
        if via.len() > bundle::HOPS_MAX {
            return Err(Error::usage(format!(
                "`{name}` has more than {} crossings behind it",
                bundle::HOPS_MAX
            ))
            .hint("export it from a station that is nearer to its source"));
        }
        let head = ChannelHead {
            ecosystem: snapshot.ecosystem,
            snapshot: *id,
            content,
            facts,
            artifacts,
            held,
            via,
        };
        channels.insert(name.clone(), head);
    }
    for head in heads.values() {
        needs.add_feed(db, head).await?;
    }
    Ok((needs, channels))
}

/// The crossings that a channel has behind it: those of the channel that bundles feed and from which it comes.
async fn via(db: &Db, name: &str) -> Result<Vec<Hop>> {
    let mut name = name.to_owned();
    loop {
        let Some(id) = db.find_ref(&ref_name(&name, "def")).await? else { return Ok(Vec::new()) };
        match db.get::<Channel>(Id::new(id)).await?.feed {
            ChannelFeed::Source { .. } | ChannelFeed::Tree {} => return Ok(Vec::new()),
            ChannelFeed::Parent { .. } => match channel::parent_of(&name) {
                Some(parent) => name = parent.to_owned(),
                None => return Ok(Vec::new()),
            },
            ChannelFeed::Bundles { stream } => {
                let Some(id) = db.find_ref(&format!("import/{stream}")).await? else { return Ok(Vec::new()) };
                let state: ImportState = db.get(Id::new(id)).await?;
                return Ok(state.via.get(&name).cloned().unwrap_or_default());
            }
        }
    }
}

/// The newest snapshots of the channels that are wanted.
pub(super) async fn snapshots(station: &Station, what: &What) -> Result<BTreeMap<String, Id<Snapshot>>> {
    let (mut out, wanted) = (BTreeMap::new(), &what.channels);
    if what.advisories {
        return Ok(out);
    }
    for channel in crate::channel::list(station).await? {
        if !wanted.is_empty() && !wanted.contains(&channel.name) {
            continue;
        }
        match station.store.db.find_ref(&ref_name(&channel.name, "snapshot")).await? {
            Some(id) => {
                out.insert(channel.name, Id::new(id));
            }
            None if wanted.is_empty() => {}
            None => {
                return Err(Error::usage(format!("channel `{}` was never published", channel.name))
                    .hint(format!("run `airlock sync {}`", channel.name)));
            }
        }
    }
    if let Some(absent) = wanted.iter().find(|w| !out.contains_key(*w)) {
        return Err(Error::usage(format!("there is no channel `{absent}`"))
            .hint("`airlock channel list` shows what is there"));
    }
    if out.is_empty() {
        return Err(
            Error::usage("there is nothing to export: no channel was published").hint("run `airlock sync`")
        );
    }
    Ok(out)
}

/// The objects that a bundle carried.
pub(super) async fn objects_of(
    station: &Station,
    state: &ExportState,
    manifest: &Manifest,
) -> Result<BTreeSet<Digest>> {
    let needs = match manifest.base {
        Some(base) => base_needs(station, state, base).await?.beyond(),
        None => Needs::new(station.options.threads),
    };
    let snapshots = manifest.channels.iter().map(|(name, head)| (name.clone(), head.snapshot)).collect();
    let held = manifest.channels.iter().filter_map(|(name, head)| Some((name.clone(), head.held?))).collect();
    let (mut needs, _) = gather(&station.store.db, needs, (&snapshots, &held), &manifest.feeds).await?;
    needs.objects.extend(manifest.answers.map(|id| id.digest()));
    Ok(needs.objects)
}

/// What a receipt is told that names another bundle than those that were written.
pub(super) fn never_written(bundle: Base) -> Error {
    Error::unsafe_(format!(
        "the receipt names bundle {} of this stream, but this station never wrote that one",
        bundle.number
    ))
    .hint("if this station was restored from a backup, export with --full")
}

/// What the base brought.
pub(super) async fn base_needs(station: &Station, state: &ExportState, base: Base) -> Result<Needs> {
    let known = state.bundles.iter().find(|e| e.bundle == base).ok_or_else(|| never_written(base))?;
    let db = &station.store.db;
    let mut has = Needs::of_base(station.options.threads);
    let long_ago = |e: Error| {
        e.while_(&format!("bundle {} was written too long ago to build on it", base.number))
            .hint("export with --full")
    };
    for id in known.channels.values() {
        has.add_snapshot(db, *id).await.map_err(long_ago)?;
    }
    for held in known.held.values() {
        has.add_held(db, held).await.map_err(long_ago)?;
    }
    for head in known.feeds.values() {
        has.add_feed(db, head).await.map_err(long_ago)?;
    }
    Ok(has)
}

/// The files with their sizes, sorted by path. All of them must be in the store.
pub(super) fn sized(blobs: &Blobs, mut files: Files) -> Result<Files> {
    for place in 0..files.len() {
        let Some(file) = files.get(place) else { continue };
        let blob = blobs.find(file.sha256).ok_or_else(|| {
            Error::fault(format!("{} is published, but its bytes are not in the store", file.name))
                .hint("run `airlock fsck --repair`: it fetches again what can be fetched")
        })?;
        files.set_size(place, blob.size());
    }
    files.sort();
    Ok(files)
}
