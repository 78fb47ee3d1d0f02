//! What a station is and holds.

use serde::Serialize;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::{Counts, Snapshot};
use airlock_core::time::{Span, Time};

use crate::bundle::ImportState;
use crate::error::Result;
use crate::feeds;
use crate::ledger;
use crate::ledger::feed::FeedState;
use crate::proposals::{self, State};
use crate::shadow::{self, Shadow};
use crate::station::{Side, Station};
use crate::trust;

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
    /// The streams of bundles that come in here.
    pub streams: Vec<StreamStatus>,
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

/// A stream of bundles at a glance: what comes no more, nobody sees otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct StreamStatus {
    /// Its name.
    pub stream: String,
    /// The number of the last bundle that was taken in.
    pub number: u64,
    /// When that was written, by its sender's clock; none if a program took it in that did not note it.
    pub written: Option<Time>,
    /// How long ago that was, in seconds.
    pub age_seconds: Option<i64>,
    /// Whether anybody is trusted to send further ones.
    pub awaited: bool,
}

/// From this age on it is said loudly that a feed is stale, or that no bundle comes. The default policy holds from the same age on.
pub const STALE: Span = Span::days(45);

impl StreamStatus {
    /// That no newer bundle came for so long that somebody should ask why.
    pub fn silence(&self) -> Option<String> {
        let age = self.age_seconds.filter(|age| self.awaited && *age > STALE.as_seconds())?;
        let days = age / Span::days(1).as_seconds();
        Some(format!(
            "No bundle of stream {} came since bundle {}, which was written {days} days ago: ask its sender whether there are newer ones, and who carries them.",
            self.stream, self.number
        ))
    }
}

async fn stream_status(station: &Station, now: Time) -> Result<Vec<StreamStatus>> {
    const IMPORT: &str = "import/";
    let (mut out, trusted) = (Vec::new(), trust::list(station).await?);
    for (name, id) in station.store.db.refs(IMPORT).await? {
        let state: ImportState = station.store.db.get(Id::new(id)).await?;
        let stream = name.strip_prefix(IMPORT).unwrap_or_default().to_owned();
        let number = state.bundles.last().map_or(0, |bundle| bundle.number);
        let age_seconds = state.written.map(|written| now.since(written).as_seconds());
        let awaited = trusted.iter().any(|trust| {
            let is_its =
                trust.public_key == state.public_key || (trust.root.is_some() && state.root.is_some());
            is_its && trust.stream.as_ref().is_none_or(|named| *named == stream)
        });
        out.push(StreamStatus { stream, number, written: state.written, age_seconds, awaited });
    }
    Ok(out)
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
        streams: stream_status(station, station.now().await?).await?,
        ledger_entries: station.store.db.ledger_head().await?.number,
        ledger_feeds: ledger::feed::states(station).await?,
        broken_glass: broken_glass(station).await?,
        damaged: station.store.blobs.damaged()?.len() as u64,
    })
}
