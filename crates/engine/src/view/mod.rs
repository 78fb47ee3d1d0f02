//! The read side: what servers and explanations look up.
//!
//! A request goes path, name, tree leaf, shard, blob through a bounded cache of immutable objects, so that
//! memory grows with what is asked for and not with the channel. Refs are re-read when they are older than
//! a moment, and always before the answer is no.

mod cache;
mod refs;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::block::BlockSet;
use airlock_core::channel::{Channel, NAME_PARTS_MAX, parent_of};
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::judge;
use airlock_core::object::{self, Object};
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::{Span, Time};
use airlock_core::trie::{LEVELS_MAX, Node, Step, TreeId};
use airlock_core::verdict::{Judged, Judgement, Verdict};
use airlock_store::{StoreError, Verified};

use crate::boxed;
use crate::clock;
use crate::error::{Error, Result};
use crate::publish::Rendered;
use crate::retention::OLDEST;
use crate::station::Station;
use cache::Cache;
use refs::{Generation, Refs};

/// The snapshots of a channel, newest first, with the times of their judging.
type History = Arc<Vec<(Id<Snapshot>, Time)>>;

/// A station, seen by readers.
pub struct View {
    station: Station,
    cache: Mutex<Cache>,
    refs: Arc<Refs>,
    histories: Mutex<HashMap<String, History>>,
}

/// A channel at one snapshot.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// Its definition.
    pub channel: Arc<Channel>,
    /// The snapshot that was asked for.
    pub id: Id<Snapshot>,
    /// The same.
    pub snapshot: Arc<Snapshot>,
    /// The newest snapshot, whose judgement rules over every older one.
    pub newest: Arc<Snapshot>,
    /// What must not leave, whatever the snapshot lists: of this channel and of all in whose names it lies.
    pub blocks: Arc<BlockSet>,
    /// The channel in whose name this one lies, if it was published.
    pub parent: Option<Arc<Self>>,
    /// The whole-channel indexes, of the newest snapshot only.
    pub rendered: Option<Arc<Rendered>>,
    /// The number of the generation that this was read from.
    pub generation: u64,
}

impl ChannelView {
    /// A judgement without what was blocked since it was made.
    pub fn unblocked(&self, judgement: &Judgement) -> Judgement {
        let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() }.to_string();
        let mut judgement = judgement.clone();
        judgement.artifacts.retain(|file, _| self.blocks.reason(&key, file).is_none());
        judgement
    }
}

/// What became of a file that was asked for.
#[derive(Debug)]
pub enum FileAnswer {
    /// It is offered.
    Serve(Verified),
    /// It is known and not offered: why.
    Withheld {
        /// The version.
        version: String,
        /// In a sentence.
        reason: String,
    },
    /// Nothing is known of it.
    Absent,
}

impl View {
    /// Looks at a station.
    pub fn new(station: Station) -> Self {
        let refs = Refs::new(station.store.db.clone());
        Self { station, cache: Mutex::default(), refs, histories: Mutex::default() }
    }

    /// The station.
    pub const fn station(&self) -> &Station {
        &self.station
    }

    /// The time, as [`Station::now`], by the ledger as it was read last.
    pub async fn now(&self) -> Result<Time> {
        Ok(clock::believed(&self.station, self.refs.current().await?.last))
    }

    /// The number of the refs that may be believed at this moment, if they were read a moment ago. What was
    /// concluded from refs of another number has to be concluded again.
    pub fn generation(&self) -> Option<u64> {
        self.refs.believed().map(|g| g.number)
    }

    /// Whether the database answers now.
    pub async fn check(&self) -> Result<()> {
        self.refs.fresh().await.map(drop)
    }

    /// Reads an immutable object through the cache.
    pub async fn object<T: Object + Send + Sync + 'static>(&self, id: Id<T>) -> Result<Arc<T>> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = cache().get(id.digest()) {
            return Ok(held);
        }
        let bytes = self.station.store.db.get_many(&[id.digest()]).await?.remove(&id.digest());
        let bytes = bytes.ok_or(StoreError::MissingObject(id.digest()))?;
        let value = Arc::new(object::decode::<T>(&bytes)?);
        cache().put(id.digest(), value.clone(), bytes.len());
        Ok(value)
    }

    /// The same for an object that may be gone.
    async fn find_object<T: Object + Send + Sync + 'static>(&self, id: Id<T>) -> Result<Option<Arc<T>>> {
        if self.station.store.db.present(&[id.digest()]).await?.is_empty() {
            return Ok(None);
        }
        self.object(id).await.map(Some)
    }

    /// Looks one key up in a tree.
    pub async fn look_up<V>(&self, root: TreeId<V>, key: &str) -> Result<Option<V>>
    where
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut at = root;
        for level in 0..=LEVELS_MAX {
            let node = self.object::<Node<V>>(at).await?;
            match node.step(key, level) {
                Step::Found(value) => return Ok(value.cloned()),
                Step::Down(child) => at = child,
            }
        }
        Err(Error::fault("a tree is deeper than a hash is long"))
    }

    /// Looks one key up in a tree of objects, and reads the object.
    async fn find<T>(&self, root: TreeId<Id<T>>, key: &str) -> Result<Option<Arc<T>>>
    where
        T: Object + Send + Sync + 'static,
    {
        match self.look_up(root, key).await? {
            Some(id) => Ok(Some(self.object(id).await?)),
            None => Ok(None),
        }
    }

    /// The names of all channels that have been published.
    pub async fn channel_names(&self) -> Result<Vec<String>> {
        let generation = self.refs.current().await?;
        let names =
            generation.refs.keys().filter_map(|r| r.strip_prefix("channel/")?.strip_suffix("/snapshot"));
        Ok(names.map(str::to_owned).collect())
    }

    /// A channel at its newest snapshot.
    pub async fn channel(&self, name: &str) -> Result<Option<ChannelView>> {
        match self.channel_by(name, &*self.refs.current().await?).await? {
            Some(view) => Ok(Some(view)),
            None => self.channel_by(name, &*self.refs.fresh().await?).await,
        }
    }

    /// The channel by refs that are read now, if they say something new.
    pub async fn newer(&self, view: &ChannelView) -> Result<Option<ChannelView>> {
        let fresh = self.refs.fresh().await?;
        if fresh.number == view.generation {
            return Ok(None);
        }
        self.channel_by(&view.channel.name, &fresh).await
    }

    #[boxed]
    async fn channel_by(&self, name: &str, generation: &Generation) -> Result<Option<ChannelView>> {
        let resolved = || generation.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = resolved().get(name) {
            return Ok(Some(view.clone()));
        }
        let view = self.resolve(name, generation).await?;
        if let Some(view) = &view {
            resolved().insert(name.to_owned(), view.clone());
        }
        Ok(view)
    }

    async fn resolve(&self, name: &str, generation: &Generation) -> Result<Option<ChannelView>> {
        let at = |part: &str| generation.refs.get(&crate::channel::ref_name(name, part)).copied();
        let (Some(def), Some(id)) = (at("def"), at("snapshot")) else { return Ok(None) };
        let snapshot = self.object(Id::<Snapshot>::new(id)).await?;
        // A name that a bundle brought may lie in one that is not here.
        let (mut parent, mut above) = (None, parent_of(name));
        while let (None, Some(one)) = (&parent, above) {
            parent = Box::pin(self.channel_by(one, generation)).await?.map(Arc::new);
            above = parent_of(one);
        }
        let blocks = match at("blocks") {
            Some(id) => self.object(Id::<BlockSet>::new(id)).await?,
            None => Arc::default(),
        };
        let blocks = match &parent {
            // What its parent denies is denied here in the same moment.
            Some(parent) if *parent.blocks != BlockSet::default() => Arc::new(blocks.with(&parent.blocks)),
            _ => blocks,
        };
        Ok(Some(ChannelView {
            channel: self.object(Id::new(def)).await?,
            id: Id::new(id),
            newest: snapshot.clone(),
            snapshot,
            blocks,
            parent,
            rendered: match at("rendered") {
                Some(id) => match self.object(Id::new(id)).await {
                    Ok(rendered) => Some(rendered),
                    // It is only derived: what is damaged is rendered when it is asked for.
                    Err(e) if e.is_content => None,
                    Err(e) => return Err(e),
                },
                None => None,
            },
            generation: generation.number,
        }))
    }

    /// A channel as it stood at a snapshot (its id or the first twelve digits or more of it) or at the end of
    /// a day. The newest block set rules over it all the same.
    pub async fn channel_at(&self, name: &str, when: &str) -> Result<Option<ChannelView>> {
        let Some(view) = self.channel(name).await? else { return Ok(None) };
        if let Some(found) = self.at(&view, when).await? {
            return Ok(Some(found));
        }
        match self.newer(&view).await? {
            Some(newer) => self.at(&newer, when).await,
            None => Ok(None),
        }
    }

    async fn at(&self, view: &ChannelView, when: &str) -> Result<Option<ChannelView>> {
        let day_end = when.parse::<Time>().ok().filter(|_| when.len() == 10).map(|d| d.after(Span::days(1)));
        let prefix = when.to_ascii_lowercase();
        let by_id = when.len() >= 12 && when.bytes().all(|b| b.is_ascii_hexdigit());
        if day_end.is_none() && !by_id {
            return Ok(None);
        }
        let history = self.history(view).await?;
        let hit = history.iter().find(|(id, judged)| match day_end {
            Some(end) => *judged < end,
            None => id.to_string().starts_with(&prefix),
        });
        let Some((id, _)) = hit else { return Ok(None) };
        let snapshot = match self.find_object(*id).await? {
            Some(snapshot) => snapshot,
            // It was collected since.
            None => return Ok(None),
        };
        let rendered = view.rendered.clone().filter(|_| *id == view.id);
        Ok(Some(ChannelView { id: *id, snapshot, rendered, ..view.clone() }))
    }

    /// The snapshots of a channel that are kept, newest first, with the times of their judging.
    pub async fn history(&self, view: &ChannelView) -> Result<Vec<(Id<Snapshot>, Time)>> {
        let now = self.now().await?;
        let keep = &self.station.config.retention;
        let all = self.chain(view).await?;
        let until = |at: usize| at.checked_sub(1).and_then(|next| all.get(next)).map(|(_, judged)| *judged);
        let oldest = crate::channel::ref_name(&view.channel.name, OLDEST);
        let oldest = self.refs.current().await?.refs.get(&oldest).map(|id| Id::new(*id));
        // Beyond it, parts of snapshots may be gone.
        let end = all.iter().position(|(id, _)| Some(*id) == oldest).map_or(all.len(), |at| at + 1);
        let kept = all.iter().take(end).enumerate().take_while(|(at, _)| keep.keeps(*at, until(*at), now));
        Ok(kept.map(|(_, snapshot)| *snapshot).collect())
    }

    /// The snapshots of a channel, newest first, back to the first that is not here any more. Only those are read that
    /// came since the last call, so that asking for what never was costs nothing.
    async fn chain(&self, view: &ChannelView) -> Result<History> {
        let name = &view.channel.name;
        let held = self.histories.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let held = held.unwrap_or_default();
        let mut list = Vec::new();
        let mut at = Some(view.id);
        while let Some(id) = at {
            if held.first().is_some_and(|(head, _)| *head == id) {
                if list.is_empty() {
                    return Ok(held);
                }
                list.extend(held.iter().copied());
                break;
            }
            let snapshot: Snapshot = match self.station.store.db.get(id).await {
                Err(StoreError::MissingObject(_)) if id != view.id => break,
                read => read?,
            };
            list.push((id, snapshot.inputs.now));
            at = snapshot.inputs.previous;
        }
        let list = Arc::new(list);
        self.histories.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), list.clone());
        Ok(list)
    }

    /// The published shard of a name.
    pub async fn shard(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Shard>>> {
        self.find(view.snapshot.content, key).await
    }

    /// The newest judgement of a name.
    pub async fn judgement(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Judgement>>> {
        self.find(view.newest.judgement, key).await
    }

    /// What was judged of a name where the channel comes from, for one that bundles or a parent feed: it tells why things
    /// were left out. What is nearest comes first.
    pub async fn sent_judgements(&self, view: &ChannelView, key: &str) -> Result<Vec<Arc<Judgement>>> {
        let mut out = Vec::new();
        for origin in self.origins(view).await? {
            out.extend(self.find(origin.judgement, key).await?);
        }
        Ok(out)
    }

    /// The snapshots that a channel comes from, the nearest first: of its parents, and of the station that sends.
    pub async fn origins(&self, view: &ChannelView) -> Result<Vec<Arc<Snapshot>>> {
        let mut out = Vec::new();
        let mut upstream: Option<Arc<Upstream>> = Some(self.object(view.newest.inputs.upstream).await?);
        // A child's parent may be one, and the first of them be fed by bundles.
        for _ in 0..=NAME_PARTS_MAX {
            let Some(origin) = upstream.and_then(|upstream| upstream.origin) else { break };
            let origin: Arc<Snapshot> = self.object(origin).await?;
            // What another station judged from is not here.
            upstream = self.find_object(origin.inputs.upstream).await?;
            out.push(origin);
        }
        Ok(out)
    }

    /// The facts of a name.
    pub async fn facts(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Facts>>> {
        self.find(view.newest.inputs.facts, key).await
    }

    /// What leaves the channel soon. Its parent tells of more than a child has: only what its newest content lists.
    pub async fn leaving(&self, view: &ChannelView) -> Result<Arc<BlockSet>> {
        if view.parent.is_none() {
            return Ok(view.blocks.clone());
        }
        let mut out = BlockSet::default();
        let mut listed: Option<(&str, Option<Arc<Shard>>)> = None;
        for (key, file, leaving) in view.blocks.leaving() {
            if listed.as_ref().is_none_or(|(of, _)| *of != key) {
                listed = Some((key, self.find(view.newest.content, key).await?));
            }
            let shard = listed.as_ref().and_then(|(_, shard)| shard.as_ref());
            if shard.is_some_and(|shard| shard.entries.contains_key(file)) {
                out.leaving.entry(key.to_owned()).or_default().insert(file.to_owned(), leaving.clone());
            }
        }
        Ok(Arc::new(out))
    }

    /// Every published shard key, with its shard.
    pub async fn content(&self, view: &ChannelView) -> Result<BTreeMap<String, Id<Shard>>> {
        crate::trees::load(&self.station.store.db, view.snapshot.content).await
    }

    /// What becomes of a request for a file: it is served if the snapshot lists it, the block set does not, and
    /// the newest judgement does not deny it. Whoever says no because of this looks at [`View::newer`] first: it
    /// may have come a moment ago.
    pub async fn file(&self, view: &ChannelView, key: &str, file: &str) -> Result<FileAnswer> {
        let judgement = self.judgement(view, key).await?;
        let judged = judgement.as_ref().and_then(|j| j.artifacts.get(file));
        if let Some(reason) = view.blocks.reason(key, file) {
            let version = judged.map(|j| j.version.clone()).unwrap_or_default();
            return Ok(FileAnswer::Withheld { version, reason: reason.to_owned() });
        }
        let denied = judged.is_some_and(|j| j.verdict == Verdict::Deny);
        if let (Some(shard), false) = (self.shard(view, key).await?, denied)
            && let Some(entry) = shard.entries.get(file)
        {
            if let Some(withheld) = self.above(view, key, file).await? {
                return Ok(withheld);
            }
            let sha256 = Artifact::read(&shard, file, entry).ok().and_then(|a| a.sha256);
            let blob = sha256.and_then(|d| self.station.store.blobs.find(d));
            return blob.map(FileAnswer::Serve).ok_or_else(|| {
                Error::fault(format!("the file of {file} is missing from the store"))
                    .hint("run `airlock fsck --repair`: it fetches again what can be fetched")
            });
        }
        // What is admitted and not in this snapshot is simply not there.
        if let Some(judged) = judged.filter(|j| j.verdict != Verdict::Admit) {
            return Ok(withheld(judged, ""));
        }
        let sent = self.sent_judgements(view, key).await?;
        let left_out =
            sent.iter().filter_map(|j| j.artifacts.get(file)).find(|j| j.verdict != Verdict::Admit);
        let by = match view.channel.parent() {
            Some(_) => "left out by the parent: ",
            None => "left out by the sending station: ",
        };
        Ok(left_out.map_or(FileAnswer::Absent, |judged| withheld(judged, by)))
    }

    /// What keeps a file out of a child that its parents know better: they deny it, or know nothing of it any more, since
    /// no snapshot that they keep lists it.
    async fn above(&self, view: &ChannelView, key: &str, file: &str) -> Result<Option<FileAnswer>> {
        let is_fed_by_it = view.channel.parent().is_some();
        let Some(parent) = view.parent.as_deref() else {
            return Ok(is_fed_by_it.then_some(FileAnswer::Absent));
        };
        let judgement = self.judgement(parent, key).await?;
        Ok(match judgement.as_ref().and_then(|j| j.artifacts.get(file)) {
            Some(judged) if judged.verdict == Verdict::Deny => {
                Some(withheld(judged, "left out by the parent: "))
            }
            None if is_fed_by_it => Some(FileAnswer::Absent),
            _ => Box::pin(self.above(parent, key, file)).await?,
        })
    }

    /// The METADATA of a wheel that is offered.
    pub async fn metadata(&self, view: &ChannelView, key: &str, file: &str) -> Result<Option<Verified>> {
        let facts = self.facts(view, key).await?;
        let fact = facts.as_ref().and_then(|f| f.files.get(file)).and_then(|f| f.file.as_ref());
        Ok(fact.and_then(|f| f.metadata).and_then(|digest| self.station.store.blobs.find(digest)))
    }
}

fn withheld(judged: &Judged, by: &str) -> FileAnswer {
    FileAnswer::Withheld { version: judged.version.clone(), reason: format!("{by}{}", judge::reason(judged)) }
}
