//! What taking in a bundle would change: judged by this station's own policy and decisions, and by what it would know then.
//! Nothing is published and no ref moves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::channels::Arrived;
use super::feeds::FeedMove;
use super::import::Would;
use crate::channel;
use crate::error::Result;
use crate::judge::{self, How};
use crate::station::Station;
use crate::sync::{self, Outcome};

/// What taking in a bundle would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whether it goes back to an older bundle.
    pub back: bool,
    /// What it does to the feeds of its stream.
    pub feeds: Vec<FeedMove>,
    /// What changes in each channel, also in those that it does not bring.
    pub channels: Vec<Tally>,
    /// Channels below those that it brings: they are judged when what they come from is published, and offer no more.
    pub below: Vec<String>,
}

impl Plan {
    /// What would change in all channels together.
    pub fn total(&self) -> Tally {
        let add = |sum: Tally, one: &Tally| Tally {
            offered: sum.offered.saturating_add(one.offered),
            held: sum.held.saturating_add(one.held),
            denied: sum.denied.saturating_add(one.denied),
            removed: sum.removed.saturating_add(one.removed),
            ..sum
        };
        self.channels.iter().fold(Tally::default(), add)
    }
}

/// What a second person is shown of a bundle that waits: how it stood when it was proposed. Nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// What taking it in would change from there on.
    pub plan: Plan,
    /// By feed, how many of its records say something more strictly than what was known here: they count without it.
    pub stricter: BTreeMap<String, u64>,
}

/// What would change in one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The channel.
    pub channel: String,
    /// Whether the bundle brings it for the first time.
    pub is_new: bool,
    /// Files that would be offered and are not.
    pub offered: u64,
    /// Files that would be held, and are offered, denied or not here.
    pub held: u64,
    /// Files that would be denied, and are not.
    pub denied: u64,
    /// Files that would not be listed any more.
    pub removed: u64,
}

impl Tally {
    fn of(outcome: &Outcome, is_new: bool) -> Result<Self> {
        let mut out = Self { channel: outcome.channel.clone(), is_new, ..Self::default() };
        outcome.changes.each(|change| match change.to {
            to if to == change.from => {}
            Some("admitted") => out.offered += 1,
            Some("held") => out.held += 1,
            Some(_) => out.denied += 1,
            None => out.removed += 1,
        })?;
        Ok(out)
    }
}

/// Says what a bundle would do.
pub(super) async fn preview(station: &Station, would: &Would, back: bool) -> Result<(Plan, Vec<Outcome>)> {
    let how = How { dry: true, closure: true, advisories: Some(would.known.set.id), ..How::default() };
    let (mut outcomes, mut channels) = (Vec::new(), Vec::new());
    for Arrived { channel, is_new, upstream, facts, .. } in &would.channels {
        let how = How { facts: Some(*facts), ..how.clone() };
        let judged = sync::judged(judge::judge(station, channel, &how, Some(*upstream)).await?);
        channels.push(Tally::of(&judged, *is_new)?);
        outcomes.push(judged);
    }
    let brought = |name: &str| would.channels.iter().any(|arrived| arrived.channel.name == name);
    let others = sync::rejudge_each(station, |name| !brought(name), &how, "plan").await?;
    others.failed.map_or(Ok(()), Err)?;
    for outcome in &others.outcomes {
        channels.push(Tally::of(outcome, false)?);
    }
    outcomes.extend(others.outcomes);
    let mut below = Vec::new();
    for channel in channel::list(station).await? {
        let is_below = channel.parent().is_some()
            && would.channels.iter().any(|arrived| {
                let rest = channel.name.strip_prefix(&arrived.channel.name);
                rest.is_some_and(|rest| rest.starts_with('/'))
            });
        below.extend(is_below.then_some(channel.name));
    }
    let feeds = would.known.moves.clone();
    Ok((Plan { back, feeds, channels, below }, outcomes))
}
