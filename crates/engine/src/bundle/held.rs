//! What a station holds and sends all the same, for people on the other side to judge.
//!
//! The sender writes the records, facts and bytes of what waits for a person there, beside what it publishes. The receiver
//! lists it as held by the sender (`Facts.held`): judging holds it by that, and by whatever its own policy says, until a
//! person here approves it. Whether the sender holds a file still, its judgement says, which every bundle carries.

use std::collections::{BTreeMap, HashMap};

use airlock_core::bundle::{ChannelHead, Held};
use airlock_core::fact::{Fact, Facts};
use airlock_core::held;
use airlock_core::id::{Digest, Id};
use airlock_core::publish;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_core::verdict::Judgement;
use airlock_store::{Db, RefChange};

use super::channels::{Metadata, merge};
use super::export::HeldFiles;
use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::station::Station;
use crate::{sync, tree_edit, trees};

/// Shards that are held in memory at once.
const SHARDS_AT_ONCE: usize = 500;

/// What a bundle carries of what is held, by channel.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// By channel.
    pub channels: BTreeMap<String, Held>,
    /// How many files are held whose bytes are not here.
    pub not_here: u64,
}

impl Carried {
    /// How much it is.
    pub fn told(&self) -> HeldFiles {
        HeldFiles {
            carried: self.channels.values().map(|held| held.artifacts).sum(),
            not_here: self.not_here,
        }
    }
}

/// Fetches what the wanted channels hold whose sources this station reads. Gives how many files did not come.
pub(super) async fn fetch(station: &Station, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let mut faults = 0;
    for channel in sync::sourced(station).await?.iter().filter(|channel| wanted(&channel.name)) {
        faults += sync::fetch_held(station, channel).await?.faults.len() as u64;
    }
    Ok(faults)
}

/// What these snapshots hold for a person, as far as it is here.
pub(super) async fn of(station: &Station, snapshots: &BTreeMap<String, Id<Snapshot>>) -> Result<Carried> {
    let mut out = Carried::default();
    for (name, id) in snapshots {
        let snapshot: Snapshot = station.store.db.get(*id).await?;
        let (held, not_here) = of_channel(station, &snapshot).await?;
        out.channels.extend(held.map(|held| (name.clone(), held)));
        out.not_here += not_here;
    }
    Ok(out)
}

async fn of_channel(station: &Station, snapshot: &Snapshot) -> Result<(Option<Held>, u64)> {
    let db = &station.store.db;
    let upstream: Upstream = db.get(snapshot.inputs.upstream).await?;
    let (mut shards, mut facts, mut artifacts, mut not_here) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
    for (key, files) in waiting(station, snapshot).await? {
        let (shard, known) =
            tokio::try_join!(one(db, upstream.tree, &key), one(db, snapshot.inputs.facts, &key))?;
        let (Some(shard), Some(known)): (Option<Shard>, Option<Facts>) = (shard, known) else { continue };
        let mut of_shard = Shard { entries: BTreeMap::new(), ..shard.clone() };
        let mut of_facts = Facts::default();
        for file in files {
            let fact = known.files.get(&file).and_then(|fact| Some((fact, fact.file.as_ref()?)));
            let (Some((fact, opened)), Some(entry)) = (fact, shard.entries.get(&file)) else {
                not_here += 1;
                continue;
            };
            let (blobs, sha256) = (station.store.blobs.clone(), opened.sha256);
            if !joined(tokio::task::spawn_blocking(move || Ok(blobs.find(sha256).is_some())).await)? {
                not_here += 1;
                continue;
            }
            let mut entry = entry.clone();
            entry.record = publish::record(shard.ecosystem, &file, &entry, opened);
            of_shard.entries.insert(file.clone(), entry);
            let fact = Fact { first_seen: fact.first_seen, file: Some(opened.clone()), fault: None };
            of_facts.files.insert(file, fact);
            artifacts += 1;
        }
        if !of_shard.entries.is_empty() {
            shards.insert(key.clone(), of_shard);
            facts.insert(key, of_facts);
        }
    }
    if artifacts == 0 {
        return Ok((None, not_here));
    }
    let shards = trees::store_all(db, &shards).await?;
    let facts = trees::store_all(db, &facts).await?;
    Ok((Some(Held { artifacts, facts, shards }), not_here))
}

/// The object under a key, if there is one.
async fn one<T: airlock_core::object::Object>(db: &Db, root: TreeId<Id<T>>, key: &str) -> Result<Option<T>> {
    let found = tree_edit::find_many(db, root, [key]).await?;
    match found.get(key) {
        Some(id) => Ok(Some(db.get(*id).await?)),
        None => Ok(None),
    }
}

/// The files that wait for a person, by shard.
async fn waiting(station: &Station, snapshot: &Snapshot) -> Result<Vec<(String, Vec<String>)>> {
    let db = &station.store.db;
    let all: Vec<(String, Id<Judgement>)> = trees::load(db, snapshot.judgement).await?.into_iter().collect();
    let mut out = Vec::new();
    for chunk in all.chunks(SHARDS_AT_ONCE) {
        let ids: Vec<Id<Judgement>> = chunk.iter().map(|(_, id)| *id).collect();
        let packed = trees::packed(db, &ids).await?;
        let found = trees::on_threads(station.options.threads, packed, |one| {
            let judgement: Judgement = airlock_core::object::decode(&one.unpack()?)?;
            let held = judgement.artifacts.iter().filter(|(_, judged)| held::is_held(judged));
            Ok((one.digest(), held.map(|(file, _)| file.clone()).collect::<Vec<String>>()))
        });
        let mut found: HashMap<Digest, Vec<String>> = found.await?.into_iter().collect();
        for (key, id) in chunk {
            let files = found.remove(&id.digest()).unwrap_or_default();
            if !files.is_empty() {
                out.push((key.clone(), files));
            }
        }
    }
    Ok(out)
}

/// A channel with what its sender holds of it.
pub(super) struct Arrived {
    /// What its source lists: what the sender publishes, and what it holds.
    pub tree: TreeId<Id<Shard>>,
    /// Its facts, which say what of that the sender holds.
    pub facts: TreeId<Id<Facts>>,
    /// How what was ever held moves.
    pub refs: Vec<RefChange>,
}

/// The ref of the records of what a sender holds, or held until nobody knew it any more.
pub(super) fn held_ref(channel: &str) -> String {
    ref_name(channel, "held")
}

/// Adds to what a sender publishes what it holds: what the bundle brings of that, and what one before it brought.
#[boxed]
pub(super) async fn arrive(
    station: &Station,
    (name, head): (&str, &ChannelHead),
    snapshot: &Snapshot,
    facts: TreeId<Id<Facts>>,
    known: &Metadata,
) -> Result<Arrived> {
    let db = &station.store.db;
    let from = db.find_ref(&held_ref(name)).await?;
    let before = match from {
        Some(id) => trees::load::<Id<Shard>>(db, TreeId::new(id)).await?,
        None => BTreeMap::new(),
    };
    let sent = match &head.held {
        Some(held) => trees::load(db, held.shards).await?,
        None => BTreeMap::new(),
    };
    let keys: Vec<&String> =
        before.keys().chain(sent.keys().filter(|key| !before.contains_key(*key))).collect();
    let now = station.now().await?;
    let (mut listed, mut kept, mut facts_of) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for key in keys {
        let mut shards = Vec::new();
        for id in [before.get(key), sent.get(key)].into_iter().flatten() {
            shards.push(db.get(*id).await?);
        }
        let brought = match &head.held {
            Some(held) => one(db, held.facts, key).await?,
            None => None,
        };
        let shard = OneShard {
            published: one(db, snapshot.content, key).await?,
            judgement: one(db, snapshot.judgement, key).await?,
            facts: one(db, facts, key).await?.unwrap_or_default(),
            shards,
            brought: brought.unwrap_or_default(),
        };
        let done = shard.joined((name, key), head, (known, now))?;
        if let Some(shard) = done.listed {
            listed.insert(key.clone(), Some(db.put(&shard).await?));
        }
        kept.insert(
            key.clone(),
            match done.kept {
                Some(shard) => Some(db.put(&shard).await?),
                None => None,
            },
        );
        facts_of.insert(key.clone(), Some(db.put(&done.facts).await?));
    }
    let tree = tree_edit::edit(db, Some(snapshot.content), &listed).await?;
    let facts = tree_edit::edit(db, Some(facts), &facts_of).await?;
    let mut refs = Vec::new();
    if from.is_some() || !kept.is_empty() {
        let to = tree_edit::edit(db, from.map(TreeId::new), &kept).await?;
        refs.push(RefChange { name: held_ref(name), from, to: Some(to.digest()) });
    }
    Ok(Arrived { tree, facts, refs })
}

/// One shard of which the sender holds something, or did.
struct OneShard {
    published: Option<Shard>,
    judgement: Option<Judgement>,
    facts: Facts,
    /// The records of what is held: those of before, then those that came.
    shards: Vec<Shard>,
    brought: Facts,
}

/// What becomes of it.
struct Joined {
    /// What is listed of it, if that is more than what is published.
    listed: Option<Shard>,
    /// What stays known as held.
    kept: Option<Shard>,
    facts: Facts,
}

impl OneShard {
    fn joined(
        self,
        (name, key): (&str, &String),
        head: &ChannelHead,
        (known, now): (&Metadata, Time),
    ) -> Result<Joined> {
        let mut facts = self.facts;
        merge(&mut facts, self.brought, known, now);
        let parsed = ShardKey::parse(key);
        let mut kept = Shard::new(head.ecosystem, parsed.name.clone(), parsed.subdir.clone());
        for shard in self.shards {
            if shard.ecosystem != head.ecosystem || shard.key() != parsed {
                return Err(Error::unsafe_(format!(
                    "channel `{name}` of the bundle lists held files of another package under `{key}`"
                ))
                .hint("do not import this; tell your security officer"));
            }
            kept.meta = shard.meta;
            kept.entries.extend(shard.entries);
        }
        // What the sender offers it holds no more.
        let is_offered =
            |file: &String| self.published.as_ref().is_some_and(|s| s.entries.contains_key(file));
        kept.entries.retain(|file, _| !is_offered(file));
        facts.held.retain(|file, _| !is_offered(file));
        let mut listed = self.published.unwrap_or_else(|| Shard { entries: BTreeMap::new(), ..kept.clone() });
        let offered = listed.entries.len();
        for (file, entry) in &kept.entries {
            // What it denies by now, or has no longer, is not listed; it stays held, should somebody go back.
            let judged = self.judgement.as_ref().and_then(|j| Some((j, j.artifacts.get(file)?)));
            if let Some((judgement, judged)) = judged.filter(|(_, judged)| held::is_held(judged)) {
                facts.held.insert(file.clone(), held::holds(judgement, judged));
                listed.entries.insert(file.clone(), entry.clone());
            }
        }
        Ok(Joined {
            listed: (listed.entries.len() > offered).then_some(listed),
            kept: (!kept.entries.is_empty()).then_some(kept),
            facts,
        })
    }
}
