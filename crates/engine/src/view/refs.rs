//! The refs as readers know them.
//!
//! Nothing is answered from refs that are older than [`REFS_AGE_MAX`], and so a denial reaches every server
//! within that time. While requests come, the refs are read again in the background when they are older than
//! [`REFS_FRESH`], so that no request waits for it; one reading is under way at a time, and all who wait share
//! it. Most readings ask for the head of the ledger alone: no ref moves without an entry.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_core::ledger::LedgerHead;
use airlock_core::time::Time;
use airlock_store::Db;

use super::ChannelView;
use crate::error::Result;

/// From this age on the refs are read again in the background.
const REFS_FRESH: Duration = Duration::from_millis(250);
/// Refs that are older are not believed: whoever asks waits until they have been read.
const REFS_AGE_MAX: Duration = Duration::from_millis(750);
/// Two readings are at least so far apart, however many requests are about to say no: each of them waits for
/// a reading that began after it came.
const READINGS_APART: Duration = Duration::from_millis(2);

/// What the refs of all channels said at one moment.
pub(super) struct Generation {
    /// Grows when a ref of a channel moved. What was concluded from one generation holds for its number.
    pub number: u64,
    /// The refs.
    pub refs: BTreeMap<String, Digest>,
    /// The time of the last ledger entry.
    pub last: Option<Time>,
    /// Channels that were asked for, resolved.
    pub channels: Mutex<HashMap<String, ChannelView>>,
    head: LedgerHead,
}

#[derive(Clone)]
struct Held {
    /// When the reading began.
    began: Instant,
    generation: Arc<Generation>,
}

/// The refs, and when they were read.
pub(super) struct Refs {
    db: Db,
    held: RwLock<Option<Held>>,
    reading: tokio::sync::Mutex<()>,
    is_behind: AtomicBool,
}

impl Refs {
    pub fn new(db: Db) -> Arc<Self> {
        Arc::new(Self { db, held: RwLock::default(), reading: <_>::default(), is_behind: false.into() })
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The refs if they may be believed. Where they will be too old soon, reading them begins.
    pub fn believed(self: &Arc<Self>) -> Option<Arc<Generation>> {
        let held = self.held()?;
        let age = held.began.elapsed();
        if age >= REFS_AGE_MAX {
            return None;
        }
        if age >= REFS_FRESH && !self.is_behind.swap(true, Ordering::AcqRel) {
            let refs = Behind(self.clone());
            // If it fails, the refs grow too old, and the next request says why.
            tokio::spawn(async move { drop(refs.0.read_since(Instant::now()).await) });
        }
        Some(held.generation)
    }

    /// The refs, as they are believed or read now.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Generation>> {
        match self.believed() {
            Some(generation) => Ok(generation),
            None => self.read_since(Instant::now()).await,
        }
    }

    /// The refs by a reading that began after this call.
    pub async fn fresh(&self) -> Result<Arc<Generation>> {
        self.read_since(Instant::now()).await
    }

    async fn read_since(&self, moment: Instant) -> Result<Arc<Generation>> {
        let _one = self.reading.lock().await;
        let before = self.held();
        if let Some(held) = &before {
            if held.began >= moment {
                return Ok(held.generation.clone());
            }
            tokio::time::sleep(READINGS_APART.saturating_sub(held.began.elapsed())).await;
        }
        let began = Instant::now();
        let generation = self.read(before.map(|h| h.generation)).await?;
        let held = Held { began, generation: generation.clone() };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(generation)
    }

    async fn read(&self, before: Option<Arc<Generation>>) -> Result<Arc<Generation>> {
        // The head comes first: what moves in between is seen by the next reading at the latest.
        let head = self.db.ledger_head().await?;
        if let Some(before) = before.as_ref().filter(|b| b.head == head) {
            return Ok(before.clone());
        }
        let last = self.db.last_time().await?;
        let refs = self.db.refs("channel/").await?;
        let (mut number, mut channels) = (0, HashMap::new());
        if let Some(before) = &before {
            number = before.number + 1;
            // Entries about other things leave the channels as they are.
            if before.refs == refs {
                number = before.number;
                channels.clone_from(&before.channels.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
        Ok(Arc::new(Generation { number, refs, last, channels: Mutex::new(channels), head }))
    }
}

/// The reading in the background; however it ends, the next one may begin.
struct Behind(Arc<Refs>);

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.is_behind.store(false, Ordering::Release);
    }
}
