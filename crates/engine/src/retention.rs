//! What is kept, and for how long: snapshots by the rule of `[retention]`, bundles as far as the next delta may rest
//! on them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use airlock_core::advisory::FeedHead;
use airlock_core::block::BlockSet;
use airlock_core::bundle::{Base, ChannelHead, FORMAT_UNSAID, Manifest};
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::id::{Digest, Id};
use airlock_core::object::Encoded;
use airlock_core::shard::Shard;
use airlock_core::snapshot::Snapshot;
use airlock_core::time::{Span, Time};
use airlock_core::trie::{Node, TreeId};
use airlock_store::{RefChange, StoreError};

use crate::boxed;
use crate::bundle::heard::Receivers;
use crate::bundle::{ExportState, Exported};
use crate::channel::ref_name;
use crate::error::Result;
use crate::station::Station;
use crate::{tree_edit, trees};

/// For how long superseded snapshots are kept unless `snapshots` says otherwise.
const SNAPSHOTS: Span = Span::days(90);
/// How many snapshots of a channel are kept at least, unless `at_least` says otherwise.
const AT_LEAST: u32 = 10;
/// The last bundles of a stream whose content is kept on either side, beside all since the last receipt: a receipt
/// may be on its way.
pub const BUNDLES_KEPT: usize = 20;
/// The part of a channel's ref that names the oldest snapshot that is kept: what was let go never counts again, even
/// where the rule is made longer before all of it is gone.
pub const OLDEST: &str = "oldest";
/// Files that are listed no longer: shard key and name.
type Unlisted = Vec<(String, String)>;
/// How often it is tried again when a channel is published in between.
const TRIES: usize = 10;

/// `[retention]` of `airlock.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// A snapshot that was the newest at some moment of this span is kept.
    #[serde(serialize_with = "write_span", deserialize_with = "read_span")]
    pub snapshots: Span,
    /// The newest so many are kept whatever their age; at least one.
    #[serde(deserialize_with = "read_count")]
    pub at_least: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { snapshots: SNAPSHOTS, at_least: AT_LEAST }
    }
}

pub(crate) fn write_span<S: Serializer>(span: &Span, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(span)
}

pub(crate) fn read_span<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Span, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn read_count<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("`at_least` is at least 1: what is published is always kept")),
        count => Ok(count),
    }
}

impl Retention {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a snapshot is kept that has `newer` snapshots after it, the next of which was judged at `until`.
    pub fn keeps(&self, newer: usize, until: Option<Time>, now: Time) -> bool {
        newer < self.at_least as usize || until.is_none_or(|until| now.since(until) <= self.snapshots)
    }
}

/// The snapshots of a channel that are kept, newest first. It ends at the first that is not kept, or is not there.
pub async fn kept(
    station: &Station,
    channel: &str,
    newest: Id<Snapshot>,
) -> Result<Vec<(Id<Snapshot>, Snapshot)>> {
    let now = station.now().await?;
    let oldest = station.store.db.find_ref(&ref_name(channel, OLDEST)).await?;
    let mut out: Vec<(Id<Snapshot>, Snapshot)> = Vec::new();
    let mut at = Some(newest);
    while let Some(id) = at {
        let until = out.last().map(|(_, next)| next.inputs.now);
        if !station.config.retention.keeps(out.len(), until, now) {
            break;
        }
        let snapshot: Snapshot = match station.store.db.get(id).await {
            Err(StoreError::MissingObject(_)) if !out.is_empty() => break,
            read => read?,
        };
        at = snapshot.inputs.previous.filter(|_| oldest != Some(id.digest()));
        out.push((id, snapshot));
    }
    Ok(out)
}

/// The snapshots before the last kept one that are there still, newest first.
pub(crate) async fn dropped(station: &Station, kept: &[(Id<Snapshot>, Snapshot)]) -> Result<Vec<Digest>> {
    let mut out = Vec::new();
    let mut at = kept.last().and_then(|(_, last)| last.inputs.previous);
    while let Some(id) = at {
        match station.store.db.get(id).await {
            Ok(snapshot) => at = snapshot.inputs.previous,
            Err(StoreError::MissingObject(_)) => break,
            Err(e) => return Err(e.into()),
        }
        out.push(id.digest());
    }
    Ok(out)
}

/// Lets go of what is not kept: from here on no history leads beyond the oldest kept snapshot, and what the channel
/// lists shrinks to what kept snapshots list, and its block set with it. Gives how many files are listed no longer. If
/// the channel is published in between again and again, the next time does it.
#[boxed]
pub(crate) async fn let_go(station: &Station, channel: &str) -> Result<u64> {
    let db = &station.store.db;
    for _ in 0..TRIES {
        let refs = db.refs(&ref_name(channel, "")).await?;
        let at = |part: &str| refs.get(&ref_name(channel, part)).copied();
        let (Some(newest), Some(listed)) = (at("snapshot"), at("listed")) else { return Ok(0) };
        let kept = kept(station, channel, Id::new(newest)).await?;
        let (root, gone) = shrunk(station, TreeId::new(listed), &kept).await?;
        let oldest =
            kept.last().filter(|(_, last)| last.inputs.previous.is_some()).map(|(id, _)| id.digest());
        let oldest = oldest.or(at(OLDEST));
        if gone.is_empty() && oldest == at(OLDEST) {
            return Ok(0);
        }
        let same = |part: &str, at| RefChange { name: ref_name(channel, part), from: at, to: at };
        let mut changes = vec![same("snapshot", Some(newest))];
        changes.push(RefChange { name: ref_name(channel, OLDEST), from: at(OLDEST), to: oldest });
        let name = ref_name(channel, "listed");
        changes.push(RefChange { name, from: Some(listed), to: Some(root.digest()) });
        if let Some(id) = at("blocks") {
            let mut blocks: BlockSet = db.get(Id::new(id)).await?;
            for (key, file) in &gone {
                if let Some(files) = blocks.files.get_mut(key) {
                    files.remove(file);
                }
            }
            blocks.files.retain(|_, files| !files.is_empty());
            let to = db.put(&blocks).await?;
            let name = ref_name(channel, "blocks");
            changes.push(RefChange { name, from: Some(id), to: Some(to.digest()) });
        } else {
            changes.push(same("blocks", None));
        }
        let detail = serde_json::json!({"snapshots": kept.len(), "files": gone.len()});
        let subject = format!("channel/{channel}");
        match station.commit(changes, "channel.retain", &subject, &detail).await {
            Err(e) if e.is_race => {}
            other => return other.map(|()| gone.len() as u64),
        }
    }
    Ok(0)
}

/// What kept snapshots list of what was listed, and the files that none of them lists.
async fn shrunk(
    station: &Station,
    listed: TreeId<Id<Shard>>,
    kept: &[(Id<Snapshot>, Snapshot)],
) -> Result<(TreeId<Id<Shard>>, Unlisted)> {
    let db = &station.store.db;
    let mut needed = published(station, kept).await?;
    let mut edits: BTreeMap<String, Option<Id<Shard>>> = BTreeMap::new();
    let mut gone = Unlisted::new();
    let mut encoded: Vec<Encoded> = Vec::new();
    for (key, id) in trees::load(db, listed).await? {
        let shards = needed.remove(&key).unwrap_or_default();
        if shards.contains(&id) {
            continue;
        }
        let mut shard: Shard = db.get(id).await?;
        let mut files: HashSet<String> = HashSet::new();
        let list: Vec<Id<Shard>> = shards.into_iter().collect();
        for shard in trees::objects(db, &list).await?.into_values() {
            files.extend(shard.entries.into_keys());
        }
        let before = gone.len();
        shard.entries.retain(|file, _| {
            let stays = files.contains(file);
            if !stays {
                gone.push((key.clone(), file.clone()));
            }
            stays
        });
        if gone.len() > before {
            let left = (!shard.entries.is_empty()).then(|| trees::encode_into(&shard, &mut encoded));
            edits.insert(key, left.transpose()?);
        }
    }
    db.put_many(&encoded).await?;
    Ok((tree_edit::edit(db, Some(listed), &edits).await?, gone))
}

/// Every shard that one of these snapshots publishes, by key. What several of them share is read once.
async fn published(
    station: &Station,
    kept: &[(Id<Snapshot>, Snapshot)],
) -> Result<BTreeMap<String, BTreeSet<Id<Shard>>>> {
    let mut out: BTreeMap<String, BTreeSet<Id<Shard>>> = BTreeMap::new();
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut level: Vec<Digest> = kept.iter().map(|(_, snapshot)| snapshot.content.digest()).collect();
    while !level.is_empty() {
        level.retain(|id| seen.insert(*id));
        let nodes: Vec<Id<Node<Id<Shard>>>> = level.iter().map(|id| Id::new(*id)).collect();
        level.clear();
        for node in trees::objects(&station.store.db, &nodes).await?.into_values() {
            match node {
                Node::Branch(children) => level.extend(children.values().map(Id::digest)),
                Node::Leaf(entries) => {
                    for (key, id) in entries {
                        out.entry(key).or_default().insert(id);
                    }
                }
            }
        }
    }
    Ok(out)
}

/// A bundle that was taken in, as far as a delta may rest on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBundle {
    /// Its number and manifest.
    pub bundle: Base,
    /// The bundle that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What it brought, and of other channels what its base did.
    pub channels: BTreeMap<String, ChannelHead>,
    /// The feeds that it brought.
    pub feeds: BTreeMap<String, FeedHead>,
}

/// What a receiver keeps of a stream, so that the sender may leave it out of the next bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The bundles, oldest first.
    pub bundles: Vec<TakenBundle>,
}

airlock_core::object!(Taken, "airlock.taken.v1");

/// The bundle of a stream that the last receipt named, on the sender's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBase {
    /// Its number and manifest.
    pub bundle: Base,
    /// The newest layout of bundles that the receiver read then.
    #[serde(default = "unsaid", skip_serializing_if = "is_unsaid")]
    pub reads: u32,
    /// Whose receipts were used in this stream.
    #[serde(default, skip_serializing_if = "Receivers::is_empty")]
    pub receivers: Receivers,
}

const fn unsaid() -> u32 {
    FORMAT_UNSAID
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_unsaid(reads: &u32) -> bool {
    *reads == FORMAT_UNSAID
}

airlock_core::object!(LastBase, "airlock.last-base.v1");

/// The number from which on bundles are kept: that of the last receipt, or of the last but so many.
fn first_kept(numbers: &[u64], receipt: Option<u64>) -> u64 {
    let recent = numbers.iter().rev().nth(BUNDLES_KEPT - 1).copied().unwrap_or(0);
    receipt.map_or(recent, |number| number.min(recent))
}

/// How the memory of a receiver changes with a bundle.
pub(crate) async fn take(station: &Station, m: &Manifest, manifest: Digest) -> Result<RefChange> {
    let db = &station.store.db;
    let name = format!("taken/{}", m.stream);
    let from = db.find_ref(&name).await?;
    let mut taken = match from {
        Some(id) => db.get::<Taken>(Id::new(id)).await?,
        None => Taken::default(),
    };
    // Of channels that it does not bring, a delta may rest on what its base brought.
    let held = m.base.and_then(|base| taken.bundles.iter().find(|b| b.bundle == base));
    let mut channels = held.map(|held| held.channels.clone()).unwrap_or_default();
    channels.extend(m.channels.clone());
    // Where somebody goes back to one.
    taken.bundles.retain(|b| b.bundle.number != m.number);
    taken.bundles.push(TakenBundle {
        bundle: Base { number: m.number, manifest },
        base: m.base,
        channels,
        feeds: m.feeds.clone(),
    });
    taken.bundles.sort_by_key(|b| b.bundle.number);
    let numbers: Vec<u64> = taken.bundles.iter().map(|b| b.bundle.number).collect();
    let base = taken.bundles.iter().rev().find_map(|b| b.base).map(|b| b.number);
    let first = first_kept(&numbers, base);
    taken.bundles.retain(|b| b.bundle.number >= first);
    Ok(RefChange { name, from, to: Some(db.put(&taken).await?.digest()) })
}

/// The sender's snapshot of a channel in the last bundle that was taken in, of those that bundles feed.
pub(crate) async fn last_sent(station: &Station, channel: &Channel) -> Result<Option<Id<Snapshot>>> {
    let ChannelFeed::Bundles { stream } = &channel.feed else { return Ok(None) };
    let db = &station.store.db;
    let Some(id) = db.find_ref(&format!("taken/{stream}")).await? else { return Ok(None) };
    let taken: Taken = db.get(Id::new(id)).await?;
    Ok(taken.bundles.iter().rev().find_map(|b| b.channels.get(&channel.name)).map(|head| head.snapshot))
}

/// The ref of the last receipt of a stream that was used.
pub(crate) fn base_ref(stream: &str) -> String {
    format!("base/{stream}")
}

/// The newest layout of bundles that the receiver of a stream reads, by its last receipt; none where there was none.
pub(crate) async fn reads(station: &Station, stream: &str) -> Result<Option<u32>> {
    match station.store.db.find_ref(&base_ref(stream)).await? {
        Some(id) => Ok(Some(station.store.db.get::<LastBase>(Id::new(id)).await?.reads)),
        None => Ok(None),
    }
}

/// How the memory of a sender changes with a receipt.
pub(crate) async fn based_on(
    station: &Station,
    stream: &str,
    (base, reads): (Option<Base>, Option<u32>),
    receivers: Receivers,
) -> Result<Vec<RefChange>> {
    let Some(bundle) = base else { return Ok(Vec::new()) };
    let reads = reads.unwrap_or(FORMAT_UNSAID);
    let id = station.store.db.put(&LastBase { bundle, reads, receivers }).await?;
    Ok(vec![station.move_ref(&base_ref(stream), Some(id.digest())).await?])
}

/// The bundles of a stream with which the next one may be compared, or of which parts may be written again.
pub(crate) async fn exported(
    station: &Station,
    stream: &str,
    state: ExportState,
) -> Result<impl Iterator<Item = Exported> + use<>> {
    let db = &station.store.db;
    let base = match db.find_ref(&base_ref(stream)).await? {
        Some(id) => Some(db.get::<LastBase>(Id::new(id)).await?.bundle.number),
        None => None,
    };
    let numbers: Vec<u64> = state.bundles.iter().map(|b| b.bundle.number).collect();
    let first = first_kept(&numbers, base);
    Ok(state.bundles.into_iter().filter(move |b| b.bundle.number >= first))
}
