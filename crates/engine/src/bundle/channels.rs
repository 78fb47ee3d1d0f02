//! The channels of a bundle: whether all that they need is here, and the refs that they get.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use airlock_core::bundle::{ChannelHead, Manifest};
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::fact::{Fact, Facts, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::policy::DEFAULT_NAME;
use airlock_core::record::Artifact;
use airlock_core::shard::Shard;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_store::{Db, RefChange, StoreError};

use super::held;
use super::parts::Came;
use super::verify::Opened;
use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::station::Station;
use crate::tree_edit::{self, Growing};
use crate::trees::{self, Pieces};

/// Shards that are held at once.
const SHARDS_AT_ONCE: usize = 500;

/// A bundle that lacks an object that its manifest needs. A database that fails says nothing against the bundle.
fn incomplete(name: &str, error: Error) -> Error {
    if error.is_content {
        return lacks(name, &error.message);
    }
    error.while_(&format!("channel `{name}`"))
}

fn lacks(name: &str, what: &str) -> Error {
    Error::unsafe_(format!("channel `{name}` of the bundle is incomplete: {what}"))
        .hint("ask the sender for a full export")
}

/// A channel as it is when a bundle is in, and not judged yet.
pub(super) struct Arrived {
    /// The channel.
    pub channel: Channel,
    /// Whether the bundle brings it for the first time.
    pub is_new: bool,
    /// What its source lists then.
    pub upstream: Id<Upstream>,
    /// What its files are then.
    pub facts: TreeId<Id<Facts>>,
    /// How its refs move.
    pub refs: Vec<RefChange>,
}

/// One channel after the import: what the sender publishes is this channel's source.
#[boxed]
pub(super) async fn arrived(
    station: &Station,
    name: &str,
    head: &ChannelHead,
    opened: &Opened,
) -> Result<Arrived> {
    let db = &station.store.db;
    let m = &opened.manifest;
    let missing = |e: Error| incomplete(name, e);
    let snapshot: Snapshot = db.get(head.snapshot).await.map_err(|e| missing(e.into()))?;
    if snapshot.content.digest() != head.content
        || snapshot.ecosystem != head.ecosystem
        || snapshot.channel != name
    {
        return Err(Error::unsafe_(format!(
            "the manifest says other things of channel `{name}` than its snapshot"
        )));
    }
    if let Some(bad) = snapshot.subdirs.keys().find(|s| !airlock_core::ecosystem::is_subdir(s)) {
        return Err(Error::unsafe_(format!(
            "channel `{name}` of the bundle has a subdir `{}`",
            bad.escape_default()
        )));
    }
    check_explained(db, name, &snapshot).await?;
    let mut refs = Vec::new();
    let def = db.find_ref(&ref_name(name, "def")).await?;
    let channel = match def {
        Some(id) => db.get(Id::new(id)).await?,
        None => Channel {
            name: name.to_owned(),
            ecosystem: head.ecosystem,
            feed: ChannelFeed::Bundles { stream: m.stream.clone() },
            policy: DEFAULT_NAME.to_owned(),
        },
    };
    if def.is_none() {
        let id = db.put(&channel).await?;
        refs.push(RefChange { name: ref_name(name, "def"), from: None, to: Some(id.digest()) });
    }
    let (facts, from, known) = facts(station, name, head, m).await.map_err(missing)?;
    let with_held = held::arrive(station, (name, head), &snapshot, facts, &known).await.map_err(missing)?;
    let upstream = Upstream {
        ecosystem: head.ecosystem,
        tree: with_held.tree,
        subdirs: snapshot.subdirs,
        origin: Some(head.snapshot),
    };
    let upstream = db.put(&upstream).await?;
    refs.push(station.move_ref(&ref_name(name, "upstream"), Some(upstream.digest())).await?);
    let facts = with_held.facts;
    refs.push(RefChange { name: ref_name(name, "facts"), from, to: Some(facts.digest()) });
    refs.extend(with_held.refs);
    Ok(Arrived { channel, is_new: def.is_none(), upstream, facts, refs })
}

/// Everything that explains what was left out must have come along too.
async fn check_explained(db: &Db, name: &str, snapshot: &Snapshot) -> Result<()> {
    let mut judgements = Pieces::of(snapshot.judgement);
    while let Some(piece) = judgements.next(db).await.map_err(|e| incomplete(name, e))? {
        let ids: Vec<Digest> = piece.entries.into_values().map(|id| id.digest()).collect();
        for ids in ids.chunks(SHARDS_AT_ONCE) {
            let present = db.present(ids).await?;
            if let Some(absent) = ids.iter().find(|id| !present.contains(id)) {
                return Err(lacks(name, &format!("object {absent} is not in it")));
            }
        }
    }
    Ok(())
}

/// This station's facts with what came: first seen now, pinned at first sight. The facts of a few shards are in
/// memory at a time, and of all of them where they lie.
async fn facts(
    station: &Station,
    name: &str,
    head: &ChannelHead,
    m: &Manifest,
) -> Result<(TreeId<Id<Facts>>, Option<Digest>, Metadata)> {
    let db = &station.store.db;
    let from = db.find_ref(&ref_name(name, "facts")).await?;
    let held = from.map(TreeId::<Id<Facts>>::new);
    let now = station.now().await?;
    let known = Metadata::of(station, m, head).await?;
    let (mut ours, mut pieces) = (Growing::of(held), Pieces::of(head.facts));
    while let Some(piece) = pieces.next(db).await? {
        let mut rest = piece.entries.into_iter();
        loop {
            let chunk: Vec<(String, Id<Facts>)> = rest.by_ref().take(SHARDS_AT_ONCE).collect();
            if chunk.is_empty() {
                break;
            }
            ours.put(db, changed(db, held, chunk, (&known, now)).await?).await?;
        }
    }
    Ok((ours.end(db).await?, from, known))
}

/// Takes the facts of some shards, as they came, into those of this station, and gives those that are others then.
async fn changed(
    db: &Db,
    held: Option<TreeId<Id<Facts>>>,
    chunk: Vec<(String, Id<Facts>)>,
    (known, now): (&Metadata, Time),
) -> Result<Vec<(String, Id<Facts>)>> {
    let ids: Vec<Id<Facts>> = chunk.iter().map(|(_, id)| *id).collect();
    let sent = trees::objects(db, &ids).await?;
    let ours = match held {
        Some(root) => tree_edit::find_many(db, root, chunk.iter().map(|(key, _)| key.as_str())).await?,
        None => BTreeMap::new(),
    };
    let list: Vec<Id<Facts>> = ours.values().copied().collect();
    let before = trees::objects(db, &list).await?;
    let (mut changes, mut encoded) = (Vec::new(), Vec::new());
    for (key, id) in chunk {
        // The same may be said of several shards: of one file that lies in two subdirs.
        let sent = sent.get(&id.digest()).cloned().ok_or(StoreError::MissingObject(id.digest()))?;
        let ours = ours.get(&key).copied();
        let mut facts = ours.and_then(|id| before.get(&id.digest())).cloned().unwrap_or_default();
        merge(&mut facts, sent, known, now);
        let id = trees::encode_into(&facts, &mut encoded)?;
        if ours == Some(id) {
            encoded.pop();
        } else {
            changes.push((key, id));
        }
    }
    db.put_many(&encoded).await?;
    Ok(changes)
}

/// Takes facts that a bundle brought into those of this station.
pub(super) fn merge(ours: &mut Facts, sent: Facts, known: &Metadata, now: Time) {
    for (file, fact) in sent.files {
        let held = ours.files.entry(file).or_insert(Fact { first_seen: now, file: None, fault: None });
        // A pinned file stays pinned: other bytes under its name are an alarm, which judging raises.
        if held.file.is_none() {
            held.file = fact.file.map(|file| FileFact { metadata: known.of_file(&file), ..file });
        }
    }
}

/// What a fact may name as METADATA: what came as METADATA, or is that of the same wheel in another channel here.
/// Any other blob may be denied.
#[derive(Default)]
pub(super) struct Metadata {
    came: HashSet<Digest>,
    /// Wheel to its METADATA.
    held: HashMap<Digest, Digest>,
}

impl Metadata {
    async fn of(station: &Station, m: &Manifest, head: &ChannelHead) -> Result<Self> {
        let came = m.wholes().filter(|whole| whole.name.ends_with(".metadata")).map(|whole| whole.sha256);
        let mut known = Self { came: came.collect(), held: HashMap::new() };
        // A bundle without a base carries everything itself.
        if m.base.is_none() {
            return Ok(known);
        }
        let db = &station.store.db;
        let mut wanted: HashMap<Digest, Digest> = HashMap::new();
        for root in [Some(head.facts), head.held.map(|held| held.facts)].into_iter().flatten() {
            each_file(db, root, |file| {
                let metadata = file.metadata.filter(|digest| !known.came.contains(digest));
                wanted.extend(metadata.map(|digest| (file.sha256, digest)));
            })
            .await?;
        }
        if wanted.is_empty() {
            return Ok(known);
        }
        for channel in crate::channel::list(station).await? {
            let Some(root) = db.find_ref(&ref_name(&channel.name, "facts")).await? else { continue };
            each_file(db, TreeId::new(root), |file| {
                if file.metadata.is_some() && wanted.get(&file.sha256) == file.metadata.as_ref() {
                    known.held.extend(file.metadata.map(|digest| (file.sha256, digest)));
                }
            })
            .await?;
        }
        Ok(known)
    }

    fn of_file(&self, file: &FileFact) -> Option<Digest> {
        let is_known = |digest: &Digest| {
            self.came.contains(digest) || self.held.get(&file.sha256).is_some_and(|held| held == digest)
        };
        file.metadata.filter(is_known)
    }
}

/// Looks at every file of these facts.
async fn each_file(db: &Db, root: TreeId<Id<Facts>>, mut each: impl FnMut(&FileFact)) -> Result<()> {
    let mut pieces = Pieces::of(root);
    while let Some(piece) = pieces.next(db).await? {
        let ids: Vec<Id<Facts>> = piece.entries.into_values().collect();
        for chunk in ids.chunks(SHARDS_AT_ONCE) {
            for facts in trees::objects(db, chunk).await?.values() {
                facts.files.values().filter_map(|fact| fact.file.as_ref()).for_each(&mut each);
            }
        }
    }
    Ok(())
}

/// Checks that the bytes of everything that a channel publishes, or holds for somebody here, came along or are here.
pub(super) async fn check_bytes(
    station: &Station,
    name: &str,
    head: &ChannelHead,
    came: &Arc<Came>,
) -> Result<()> {
    let db = &station.store.db;
    let missing = |e: Error| incomplete(name, e);
    let snapshot: Snapshot = db.get(head.snapshot).await.map_err(|e| missing(e.into()))?;
    for root in [Some(snapshot.content), head.held.map(|held| held.shards)].into_iter().flatten() {
        let mut pieces = Pieces::of(root);
        while let Some(piece) = pieces.next(db).await.map_err(missing)? {
            let ids: Vec<Id<Shard>> = piece.entries.into_values().collect();
            for chunk in ids.chunks(SHARDS_AT_ONCE) {
                check_bytes_of(station, name, chunk, came).await?;
            }
        }
    }
    Ok(())
}

/// The same of some shards.
async fn check_bytes_of(station: &Station, name: &str, ids: &[Id<Shard>], came: &Arc<Came>) -> Result<()> {
    let missing = |e: Error| incomplete(name, e);
    let packed = trees::packed(&station.store.db, ids).await.map_err(missing)?;
    let (came, of) = (came.clone(), name.to_owned());
    let beside = trees::on_threads(station.options.threads, packed, move |one| {
        let shard: Shard = object::decode(&one.unpack()?)?;
        let mut beside: Vec<(String, Option<Digest>)> = Vec::new();
        for (file, entry) in &shard.entries {
            let artifact = Artifact::read(&shard, file, entry)
                .map_err(|e| Error::unsafe_(format!("channel `{of}`, {file}: {e}")))?;
            if !artifact.sha256.is_some_and(|digest| came.has(digest)) {
                beside.push((file.clone(), artifact.sha256));
            }
        }
        Ok(beside)
    });
    let beside = beside.await.map_err(missing)?;
    let (blobs, of) = (station.store.blobs.clone(), name.to_owned());
    let look = move || {
        for (file, digest) in beside.iter().flatten() {
            // What is relied on must not be collected meanwhile.
            let is_here = match digest {
                Some(digest) => blobs.touch(*digest)?,
                None => false,
            };
            if !is_here {
                return Err(lacks(&of, &format!("the bytes of {file} are not in it")));
            }
        }
        Ok(())
    };
    joined(tokio::task::spawn_blocking(look).await)
}
