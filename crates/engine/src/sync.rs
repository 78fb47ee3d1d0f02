//! `sync` and `judge`: a channel brought up to date, with or without asking its source.

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::closure::Impossible;
use airlock_core::id::Id;
use airlock_core::roles::Action;
use airlock_core::snapshot::{Counts, Snapshot};
use airlock_formats::BadEntry;

use crate::boxed;
use crate::child;
use crate::clock;
use crate::error::{Error, Result};
use crate::feeds;
use crate::fetch::{self, Fetched};
use crate::judge::{self, Changes, FindingChanges, How, Judgment};
use crate::mirror::{self, Mirrored, Origin};
use crate::people;
use crate::progress::Unit;
use crate::publish::{self, Along, Read};
use crate::station::Station;

/// What bringing one channel up to date did, or would do.
#[derive(Debug)]
pub struct Outcome {
    /// The channel.
    pub channel: String,
    /// The new snapshot; none if nothing new was to be said, or nothing was to be published.
    pub snapshot: Option<Id<Snapshot>>,
    /// How many artifacts have which verdict.
    pub counts: Counts,
    /// What changed.
    pub changes: Changes,
    /// What changed in what is known of vulnerabilities.
    pub findings: FindingChanges,
    /// What was offered before and could not be installed any more; where that was asked for.
    pub uninstallable: Option<Vec<Impossible>>,
    /// What was fetched.
    pub fetched: Fetched,
    /// Records in scope.
    pub records: u64,
    /// Records left out, the first of them by name.
    pub bad: Vec<BadEntry>,
    /// How many were left out.
    pub bad_count: u64,
}

/// What judging several channels gave.
#[derive(Debug)]
pub struct Rejudged {
    /// The channels that were judged.
    pub outcomes: Vec<Outcome>,
    /// The first error of those that could not be.
    pub failed: Option<Error>,
}

/// How often a judgement is made again when something it was made from moved before it was published.
const TRIES: usize = 10;

/// What a person says about reading sources.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Only to see what would change.
    pub dry: bool,
    /// It is right that the source lists less than half of what it listed.
    pub accept_shrink: bool,
}

/// Reads the source, judges, fetches what is admitted, judges again with what the files say, publishes.
/// A dry run stops before the fetch.
#[boxed]
pub async fn sync(station: &Station, channel: &Channel, wish: Wish) -> Result<Outcome> {
    let Wish { dry, accept_shrink } = wish;
    if !dry {
        people::allow(station, Action::Sync, Some(&channel.name)).await?;
        clock::look(station).await;
    }
    let _lease = match dry {
        true => None,
        false => Some(station.lease(&format!("channel/{}", channel.name), "sync").await?),
    };
    if channel.parent().is_some() {
        let how = How { dry, closure: dry, ..How::default() };
        return rejudge(station, channel, &how, dry, "sync").await;
    }
    let origin = Origin::of(channel)?;
    if !dry {
        feeds::catch_up(station).await?;
    }
    let before = station.store.db.find_ref(&crate::channel::ref_name(&channel.name, "upstream")).await?;
    let (_, decisions) = judge::decisions(station).await?;
    if before.is_some() && decisions.frozen(&channel.name, station.now().await?).is_some() {
        // Nothing new comes in, and no record changes under what is offered; what is denied by now acts.
        return rejudge(station, channel, &How { dry, ..How::default() }, dry, "sync").await;
    }
    let reading = station.options.progress.task(format!("reading {}", channel.name), Unit::Names, None);
    let (upstream, state, read) = mirror::mirror(station, channel, &origin, accept_shrink).await?;
    drop(reading);
    if dry {
        let would = How { without_bytes: true, for_fetch: true, dry: true, closure: true, ..How::default() };
        let would = judge::judge(station, channel, &would, Some(upstream)).await?;
        return Ok(outcome(would, None, Fetched::default(), read));
    }
    let reading = Read { before, upstream, state, accept_shrink };
    fetch_and_publish(station, channel, &origin, (reading, read), "sync").await
}

/// Judges what was read, fetches what is admitted, judges again with what the files say, and publishes.
pub(crate) async fn fetch_and_publish(
    station: &Station,
    channel: &Channel,
    origin: &Origin,
    (reading, read): (Read, Mirrored),
    why: &str,
) -> Result<Outcome> {
    let (upstream, state) = (reading.upstream, &reading.state);
    let before_fetch = How { for_fetch: true, ..How::default() };
    let judgment = judge::judge(station, channel, &before_fetch, Some(upstream)).await?;
    let is_news = judgment.touched.iter().any(|(_, t)| t.has_unseen || !t.wanted.is_empty());
    let (fetched, judgment) = match is_news {
        true => (fetch::fetch(station, channel, origin, (upstream, state), &judgment).await?, None),
        false => (Fetched::default(), Some(judgment)),
    };
    let along = Along { read: Some(reading) };
    let how = How::default();
    let (judgment, id) = judge_and_publish(station, channel, judgment, &how, &along, why).await?;
    Ok(outcome(judgment, id, fetched, read))
}

/// Fetches what a channel with a source of its own holds and has not here, so that people elsewhere can be given it to judge.
/// It is offered to nobody by that.
pub(crate) async fn fetch_held(station: &Station, channel: &Channel) -> Result<Fetched> {
    let _lease = station.lease(&format!("channel/{}", channel.name), "export").await?;
    let db = &station.store.db;
    let at = async |part: &str| db.find_ref(&crate::channel::ref_name(&channel.name, part)).await;
    let (Some(upstream), Some(state)) = (at("upstream").await?, at("mirror").await?) else {
        return Ok(Fetched::default());
    };
    let how = How { for_fetch: true, held: true, anew: true, ..How::default() };
    let judgment = judge::judge(station, channel, &how, None).await?;
    let (upstream, state) = (Id::new(upstream), db.get(Id::new(state)).await?);
    fetch::fetch(station, channel, &Origin::of(channel)?, (upstream, &state), &judgment).await
}

/// What judging gave, where nothing was read and nothing is published.
pub(crate) fn judged(judgment: Judgment) -> Outcome {
    outcome(judgment, None, Fetched::default(), Mirrored::default())
}

/// Judges what was read and publishes it.
pub(crate) async fn publish_read(
    station: &Station,
    channel: &Channel,
    along: Along,
    why: &str,
) -> Result<Outcome> {
    feeds::catch_up(station).await?;
    let (judgment, id) = judge_and_publish(station, channel, None, &How::default(), &along, why).await?;
    Ok(outcome(judgment, id, Fetched::default(), Mirrored::default()))
}

/// Judges, unless that was done already, and publishes; if somebody denied something in between, from the start.
async fn judge_and_publish(
    station: &Station,
    channel: &Channel,
    mut judged: Option<Judgment>,
    how: &How,
    along: &Along,
    why: &str,
) -> Result<(Judgment, Option<Id<Snapshot>>)> {
    let mut tries = 0;
    let mut channel = channel.clone();
    loop {
        let judgment = match judged.take() {
            Some(judgment) => judgment,
            None => {
                let upstream = along.read.as_ref().map(|read| read.upstream);
                judge::judge(station, &channel, how, upstream).await?
            }
        };
        tries += 1;
        match publish::publish(station, &judgment, along.clone(), why).await {
            // Another reading of the source that was published in between is newer than this one.
            Err(e) if e.is_race && tries < TRIES && !along.is_overtaken(station, &channel.name).await? => {
                // It may be that which moved.
                channel = crate::channel::find(station, &channel.name).await?;
            }
            other => return other.map(|id| (judgment, id)),
        }
    }
}

/// Judges a channel with what is known now and publishes, without the network.
pub async fn rejudge(
    station: &Station,
    channel: &Channel,
    how: &How,
    dry: bool,
    why: &str,
) -> Result<Outcome> {
    let other = how.policy.is_some() || how.advisories.is_some() || how.decisions.is_some();
    let hypothetical = dry || how.as_of.is_some() || other;
    let (judgment, id) = if hypothetical {
        (judge::judge(station, channel, &How { dry: true, ..how.clone() }, None).await?, None)
    } else {
        feeds::catch_up(station).await?;
        judge_and_publish(station, channel, None, how, &Along::default(), why).await?
    };
    Ok(outcome(judgment, id, Fetched::default(), Mirrored::default()))
}

/// Judges every channel that was filled before: what makes verdicts stricter acts at once, wherever it came
/// from. A channel that cannot be judged never keeps another from it.
pub async fn rejudge_all(station: &Station, why: &str) -> Result<Rejudged> {
    rejudge_some(station, |_| true, why).await
}

/// The same for the channels whose name is wanted.
pub async fn rejudge_some(station: &Station, wanted: impl Fn(&str) -> bool, why: &str) -> Result<Rejudged> {
    rejudge_each(station, wanted, &How::default(), why).await
}

/// What judging every channel so would change; how it is to be judged must be such that nothing is published.
pub async fn rejudge_as(station: &Station, how: &How, why: &str) -> Result<Rejudged> {
    rejudge_each(station, |_| true, &How { dry: true, ..how.clone() }, why).await
}

/// The same, judged so.
pub(crate) async fn rejudge_each(
    station: &Station,
    wanted: impl Fn(&str) -> bool,
    how: &How,
    why: &str,
) -> Result<Rejudged> {
    let mut out = Rejudged { outcomes: Vec::new(), failed: None };
    for channel in crate::channel::list(station).await?.into_iter().filter(|c| wanted(&c.name)) {
        if child::is_filled(station, &channel).await? {
            match rejudge(station, &channel, how, how.dry, why).await {
                Ok(outcome) => out.outcomes.push(outcome),
                Err(e) => out.failed = out.failed.or(Some(e.while_(&format!("channel {}", channel.name)))),
            }
        }
    }
    Ok(out)
}

/// Judges the children of these channels, and theirs: what came to be offered above them, and what does not any more. To be
/// called after any of these was published by itself; a channel that is judged with all others needs it not.
pub async fn descend(station: &Station, from: &[&str], why: &str) -> Result<Rejudged> {
    let is_below =
        |name: &str, above: &str| name.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
    let wanted = |name: &str| !from.contains(&name) && from.iter().any(|above| is_below(name, above));
    rejudge_each(station, wanted, &How::default(), why).await
}

/// The channels that have a source of their own.
pub async fn sourced(station: &Station) -> Result<Vec<Channel>> {
    let all = crate::channel::list(station).await?;
    Ok(all.into_iter().filter(|c| matches!(c.feed, ChannelFeed::Source { .. })).collect())
}

fn outcome(judgment: Judgment, snapshot: Option<Id<Snapshot>>, fetched: Fetched, read: Mirrored) -> Outcome {
    Outcome {
        channel: judgment.channel.name,
        snapshot,
        counts: judgment.counts,
        changes: judgment.changes,
        findings: judgment.findings,
        uninstallable: judgment.uninstallable,
        fetched,
        records: read.records,
        bad: read.bad,
        bad_count: read.bad_count,
    }
}
