//! Published states of a channel side by side, and going back to one.

use std::collections::BTreeMap;

use serde::Serialize;

use airlock_core::channel::Channel;
use airlock_core::id::Id;
use airlock_core::shard::{Entry, Shard};
use airlock_core::snapshot::Snapshot;

use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::judge::{self, How};
use crate::mirror::MirrorState;
use crate::publish::{Along, Read};
use crate::station::Station;
use crate::sync::{self, Outcome};
use crate::tree_edit;

/// What one snapshot offers and another does not: artifacts with their subdir for conda, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Only the later one offers them.
    pub added: Vec<String>,
    /// Only the earlier one does.
    pub removed: Vec<String>,
    /// Both do, with other records.
    pub changed: Vec<String>,
}

/// What two snapshots offer otherwise.
pub async fn diff(station: &Station, from: &Snapshot, to: &Snapshot) -> Result<Diff> {
    let db = &station.store.db;
    let mut out = Diff::default();
    for difference in tree_edit::diff(db, Some(from.content), Some(to.content)).await? {
        let read = async |id: Option<Id<Shard>>| -> Result<BTreeMap<String, Entry>> {
            match id {
                Some(id) => Ok(db.get(id).await?.entries),
                None => Ok(BTreeMap::new()),
            }
        };
        let (old, new) = (read(difference.old).await?, read(difference.new).await?);
        let subdir =
            difference.key.split_once('/').map(|(subdir, _)| format!("{subdir}/")).unwrap_or_default();
        let place = |file: &String| format!("{subdir}{file}");
        out.added.extend(new.keys().filter(|file| !old.contains_key(*file)).map(place));
        out.removed.extend(old.keys().filter(|file| !new.contains_key(*file)).map(place));
        let is_changed = |(file, entry): &(&String, &Entry)| old.get(*file).is_some_and(|old| old != *entry);
        out.changed.extend(new.iter().filter(is_changed).map(|(file, _)| place(file)));
    }
    for list in [&mut out.added, &mut out.removed, &mut out.changed] {
        list.sort();
    }
    Ok(out)
}

/// Goes back to what the source held when a snapshot was judged, and judges it by what is known now, so that nothing comes
/// back that was denied since. The next reading of the source starts from nothing.
pub async fn rollback(
    station: &Station,
    channel: &Channel,
    to: Id<Snapshot>,
    reason: &str,
    dry: bool,
) -> Result<Outcome> {
    if reason.trim().is_empty() {
        return Err(Error::usage("going back needs a reason").hint("say why with --reason TEXT"));
    }
    let _lease = match dry {
        true => None,
        false => Some(station.lease(&format!("channel/{}", channel.name), "rollback").await?),
    };
    let snapshot: Snapshot = station.store.db.get(to).await?;
    let upstream = snapshot.inputs.upstream;
    if dry {
        let how = How { dry: true, closure: true, ..How::default() };
        let judgment = judge::judge(station, channel, &how, Some(upstream)).await?;
        return Ok(sync::judged(judgment));
    }
    let before = station.store.db.find_ref(&ref_name(&channel.name, "upstream")).await?;
    let read = Read { before, upstream, state: MirrorState::default(), accept_shrink: true };
    let why = format!("rollback to {}: {}", to.digest().short(), reason.trim());
    sync::publish_read(station, channel, Along { read: Some(read) }, &why).await
}
