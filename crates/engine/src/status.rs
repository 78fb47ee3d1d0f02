//! What a station is and holds.

use serde::Serialize;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::{Counts, Snapshot};
use airlock_core::time::Time;

use crate::error::Result;
use crate::feeds;
use crate::ledger;
use crate::ledger::feed::FeedState;
use crate::proposals::{self, State};
use crate::shadow::{self, Shadow};
use crate::station::{Side, Station};

/// A station at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its side.
    pub side: Side,
    /// Its public key in hexadecimal.
    pub public_key: String,
    /// The fingerprint of that key.
    pub fingerprint: String,
    /// Its time.
    pub now: Time,
    /// Its channels.
    pub channels: Vec<ChannelStatus>,
    /// Its feeds.
    pub feeds: Vec<FeedStatus>,
    /// Entries of its ledger.
    pub ledger_entries: u64,
    /// Who is told of them, and how far that is.
    pub ledger_feeds: Vec<FeedState>,
    /// What somebody did alone that needs two persons, until another person looked at it.
    pub broken_glass: Vec<BrokenGlass>,
    /// Stored files whose bytes were found to be damaged, and that wait for `airlock fsck --repair`.
    pub damaged: u64,
}

/// A channel at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// What feeds it, for people.
    pub source: String,
    /// Its policy.
    pub policy: String,
    /// The newest snapshot; none before the first.
    pub snapshot: Option<Id<Snapshot>>,
    /// The hash of what it publishes.
    pub content: Option<Digest>,
    /// When it was judged.
    pub created: Option<Time>,
    /// The first moment at which time alone would change it.
    pub valid_until: Option<Time>,
    /// How many artifacts have which verdict.
    pub counts: Counts,
    /// The policy beside the one in force that only reports, if there is one.
    pub shadow: Option<Shadow>,
}

/// Something that was done by one person alone.
#[derive(Clone, Debug, Serialize)]
pub struct BrokenGlass {
    /// Under which name it is looked at.
    pub proposal: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub since: Time,
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What was done by one person alone, and that nobody else looked at yet.
pub async fn broken_glass(station: &Station) -> Result<Vec<BrokenGlass>> {
    let all = proposals::broken(station).await?.into_iter();
    Ok(all
        .filter_map(|p| match p.state {
            State::Broken(reason) => {
                Some(BrokenGlass { proposal: p.id, by: p.by, since: p.since, what: p.act.told(), reason })
            }
            State::Open => None,
        })
        .collect())
}

/// A feed at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct FeedStatus {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: &'static str,
    /// When a connected station last read it.
    pub read_at: Time,
    /// How long ago that was, in seconds.
    pub age_seconds: i64,
    /// Records.
    pub count: u64,
    /// Records left out.
    pub skipped: u64,
    /// The hash of its content.
    pub hash: Digest,
}

/// The feeds of a station.
pub async fn feed_status(station: &Station) -> Result<Vec<FeedStatus>> {
    let now = station.now().await?;
    let heads = feeds::heads(station).await?;
    let status = |(name, head): (String, airlock_core::advisory::FeedHead)| FeedStatus {
        name,
        kind: head.kind.name(),
        read_at: head.read_at,
        age_seconds: now.since(head.read_at).as_seconds(),
        count: head.count,
        skipped: head.skipped,
        hash: head.content,
    };
    Ok(heads.into_iter().map(status).collect())
}

/// Reads all of it.
pub async fn status(station: &Station) -> Result<Status> {
    let mut channels = Vec::new();
    for channel in crate::channel::list(station).await? {
        let id = station.store.db.find_ref(&crate::channel::ref_name(&channel.name, "snapshot")).await?;
        let id = id.map(Id::<Snapshot>::new);
        let snapshot = match id {
            Some(id) => Some(station.store.db.get(id).await?),
            None => None,
        };
        let source = crate::channel::fed_by(&channel)?;
        channels.push(ChannelStatus {
            shadow: shadow::find(station, &channel.name).await?,
            name: channel.name,
            ecosystem: channel.ecosystem,
            source,
            policy: channel.policy,
            snapshot: id,
            content: snapshot.as_ref().map(|s| s.content.digest()),
            created: snapshot.as_ref().map(|s| s.inputs.now),
            valid_until: snapshot.as_ref().and_then(|s| s.valid_until),
            counts: snapshot.map(|s| s.counts).unwrap_or_default(),
        });
    }
    Ok(Status {
        name: station.config.name.clone(),
        side: station.config.side,
        public_key: station.key.public_hex(),
        fingerprint: station.key.fingerprint(),
        now: station.now().await?,
        channels,
        feeds: feed_status(station).await?,
        ledger_entries: station.store.db.ledger_head().await?.number,
        ledger_feeds: ledger::feed::states(station).await?,
        broken_glass: broken_glass(station).await?,
        damaged: station.store.blobs.damaged()?.len() as u64,
    })
}
