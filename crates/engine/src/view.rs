//! The read side: what servers and explanations look up.
//!
//! A request goes path, name, tree leaf, shard, blob through a bounded cache of immutable objects, so that
//! memory grows with what is asked for and not with the channel. Refs are re-read when they are older than
//! a moment, and always before the answer is no.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use airlock_core::block::BlockSet;
use airlock_core::channel::Channel;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::judge;
use airlock_core::object::{self, Object};
use airlock_core::record::Artifact;
use airlock_core::shard::Shard;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::{LEVELS_MAX, Node, Step, TreeId};
use airlock_core::verdict::{Judged, Judgement, Verdict};
use airlock_store::{StoreError, Verified};

use crate::error::{Error, Result};
use crate::publish::Rendered;
use crate::station::Station;

/// How long refs are believed without asking the database: a denial reaches every server within this time.
const REFS_FRESH: Duration = Duration::from_millis(500);
/// The encoded bytes of the objects that are cached.
const CACHE_BYTES_MAX: usize = 64 << 20;
/// How far back `@snapshot` and `@date` look.
const HISTORY_MAX: usize = 100_000;

/// Immutable objects, decoded. When it is full it starts over: what is asked for comes back at once.
#[derive(Default)]
struct Cache {
    objects: HashMap<Digest, Arc<dyn Any + Send + Sync>>,
    bytes: usize,
}

/// The refs as they were a moment ago.
struct Refs {
    read: Instant,
    map: Arc<BTreeMap<String, Digest>>,
}

/// A station, seen by readers.
pub struct View {
    station: Station,
    cache: Mutex<Cache>,
    refs: Mutex<Option<Refs>>,
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
    /// What must not leave, whatever the snapshot lists.
    pub blocks: Arc<BlockSet>,
    /// The whole-channel indexes, of the newest snapshot only.
    pub rendered: Option<Arc<Rendered>>,
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
        Self { station, cache: Mutex::default(), refs: Mutex::default() }
    }

    /// The station.
    pub const fn station(&self) -> &Station {
        &self.station
    }

    /// The time.
    pub async fn now(&self) -> Result<Time> {
        self.station.now().await
    }

    async fn refs(&self, fresh: bool) -> Result<Arc<BTreeMap<String, Digest>>> {
        {
            let held = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(refs) = held.as_ref().filter(|r| !fresh && r.read.elapsed() < REFS_FRESH) {
                return Ok(refs.map.clone());
            }
        }
        let read = Instant::now();
        let map = Arc::new(self.station.store.db.refs("channel/").await?);
        *self.refs.lock().unwrap_or_else(PoisonError::into_inner) = Some(Refs { read, map: map.clone() });
        Ok(map)
    }

    /// Reads an immutable object through the cache.
    pub async fn object<T: Object + Send + Sync + 'static>(&self, id: Id<T>) -> Result<Arc<T>> {
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = cache.objects.get(&id.digest()).and_then(|o| o.clone().downcast::<T>().ok()) {
                return Ok(held);
            }
        }
        let bytes = self.station.store.db.get_many(&[id.digest()]).await?.remove(&id.digest());
        let bytes = bytes.ok_or(StoreError::MissingObject(id.digest()))?;
        let value = Arc::new(object::decode::<T>(&bytes)?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.bytes + bytes.len() > CACHE_BYTES_MAX {
            *cache = Cache::default();
        }
        cache.bytes += bytes.len();
        cache.objects.insert(id.digest(), value.clone());
        Ok(value)
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
        let refs = self.refs(false).await?;
        let names = refs.keys().filter_map(|r| r.strip_prefix("channel/")?.strip_suffix("/snapshot"));
        Ok(names.map(str::to_owned).collect())
    }

    /// A channel at its newest snapshot.
    pub async fn channel(&self, name: &str) -> Result<Option<ChannelView>> {
        match self.channel_by(name, &*self.refs(false).await?).await? {
            Some(view) => Ok(Some(view)),
            None => self.channel_by(name, &*self.refs(true).await?).await,
        }
    }

    async fn channel_by(&self, name: &str, refs: &BTreeMap<String, Digest>) -> Result<Option<ChannelView>> {
        let at = |part: &str| refs.get(&crate::channel::ref_name(name, part)).copied();
        let (Some(def), Some(id)) = (at("def"), at("snapshot")) else { return Ok(None) };
        let snapshot = self.object(Id::<Snapshot>::new(id)).await?;
        Ok(Some(ChannelView {
            channel: self.object(Id::new(def)).await?,
            id: Id::new(id),
            newest: snapshot.clone(),
            snapshot,
            blocks: match at("blocks") {
                Some(id) => self.object(Id::new(id)).await?,
                None => Arc::default(),
            },
            rendered: match at("rendered") {
                Some(id) => Some(self.object(Id::new(id)).await?),
                None => None,
            },
        }))
    }

    /// A channel as it stood at a snapshot (its id or the first twelve digits or more of it) or at the end of
    /// a day. The newest block set rules over it all the same.
    pub async fn channel_at(&self, name: &str, when: &str) -> Result<Option<ChannelView>> {
        let Some(view) = self.channel(name).await? else { return Ok(None) };
        let day_end = when.parse::<Time>().ok().filter(|_| when.len() == 10);
        let by_id = when.len() >= 12 && when.bytes().all(|b| b.is_ascii_hexdigit());
        let (mut id, mut snapshot) = (view.id, view.snapshot.clone());
        for _ in 0..HISTORY_MAX {
            let hit = match day_end {
                Some(day) => snapshot.inputs.now < day.after(airlock_core::time::Span::days(1)),
                None => by_id && id.to_string().starts_with(&when.to_ascii_lowercase()),
            };
            if hit {
                let rendered = view.rendered.clone().filter(|_| id == view.id);
                return Ok(Some(ChannelView { id, snapshot, rendered, ..view }));
            }
            let Some(previous) = snapshot.inputs.previous else { return Ok(None) };
            id = previous;
            snapshot = self.object(id).await?;
        }
        Ok(None)
    }

    /// The published shard of a name.
    pub async fn shard(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Shard>>> {
        self.find(view.snapshot.content, key).await
    }

    /// The newest judgement of a name.
    pub async fn judgement(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Judgement>>> {
        self.find(view.newest.judgement, key).await
    }

    /// What the sending station judged of a name, for a channel that bundles feed: it tells why things were
    /// left out.
    pub async fn sent_judgement(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Judgement>>> {
        let upstream: Arc<Upstream> = self.object(view.newest.inputs.upstream).await?;
        let Some(origin) = upstream.origin else { return Ok(None) };
        let origin = self.object(origin).await?;
        self.find(origin.judgement, key).await
    }

    /// The facts of a name.
    pub async fn facts(&self, view: &ChannelView, key: &str) -> Result<Option<Arc<Facts>>> {
        self.find(view.newest.inputs.facts, key).await
    }

    /// Every published shard key, with its shard.
    pub async fn content(&self, view: &ChannelView) -> Result<BTreeMap<String, Id<Shard>>> {
        crate::trees::load(&self.station.store.db, view.snapshot.content).await
    }

    /// What becomes of a request for a file: it is served if the snapshot lists it, the block set does not, and
    /// the newest judgement does not deny it.
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
            let sha256 = Artifact::read(&shard, file, entry).ok().and_then(|a| a.sha256);
            let blob = sha256.and_then(|d| self.station.store.blobs.find(d));
            return blob.map(FileAnswer::Serve).ok_or_else(|| {
                Error::fault(format!("the file of {file} is missing from the store"))
                    .hint("run `airlock fsck`")
            });
        }
        if let Some(judged) = judged {
            return Ok(withheld(judged, ""));
        }
        let sent = self.sent_judgement(view, key).await?;
        let left_out = sent.as_ref().and_then(|j| j.artifacts.get(file)).filter(|j| !j.is_offered());
        Ok(left_out
            .map_or(FileAnswer::Absent, |judged| withheld(judged, "left out by the sending station: ")))
    }

    /// The METADATA of a wheel that is offered.
    pub async fn metadata(&self, view: &ChannelView, key: &str, file: &str) -> Result<Option<Verified>> {
        let facts = self.facts(view, key).await?;
        let fact = facts.as_ref().and_then(|f| f.files.get(file)).and_then(|f| f.file.as_ref());
        Ok(fact.and_then(|f| f.metadata).and_then(|digest| self.station.store.blobs.find(digest)))
    }
}

fn withheld(judged: &Judged, by: &str) -> FileAnswer {
    let reason = judge::reason(judged);
    let reason = if reason.is_empty() { "the source no longer lists it".to_owned() } else { reason };
    FileAnswer::Withheld { version: judged.version.clone(), reason: format!("{by}{reason}") }
}
