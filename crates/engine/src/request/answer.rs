//! Answers: what a bundle tells the peer that it is exported to of what it asked for.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::channel::ChannelFeed;
use airlock_core::id::Id;
use airlock_core::request::{Answer, Answered, Answers, Known, Outcome, Request, Requests, State};
use airlock_core::snapshot::Snapshot;

use super::{Done, change, known, load};
use crate::bundle::export::{state_ref, stream_of};
use crate::channel;
use crate::error::{Error, Result};
use crate::retention::base_ref;
use crate::station::Station;
use crate::view::View;

/// The peer that bundles for nobody in particular answer: the only one that asked, if it gets none of its own. Where several
/// asked, none is told in such a bundle what another asked for: it goes to all of them.
pub(super) async fn alone(station: &Station, requests: &Requests) -> Result<Option<String>> {
    let names: BTreeSet<&String> =
        requests.list.iter().filter_map(|request| Some(&request.from.as_ref()?.name)).collect();
    let [name] = names.into_iter().collect::<Vec<_>>()[..] else { return Ok(None) };
    let own = state_ref(&stream_of(station, Some(name)));
    Ok(station.store.db.find_ref(&own).await?.is_none().then(|| name.clone()))
}

/// How answers get to a peer, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In bundles for nobody in particular.
    Common,
    /// In bundles of its own, of which a receipt was used.
    Own,
    /// In bundles of its own, and nothing says that it takes them: a channel is fed by one stream.
    Unconfirmed,
    /// In none: several asked, and it has no bundles of its own.
    None,
}

impl Way {
    /// How far a request got that came on this way.
    pub(super) fn state(self, request: &Request) -> State {
        match request.state() {
            State::Answered if self == Self::Unconfirmed => State::Sent,
            state => state,
        }
    }
}

/// How answers get to a peer.
pub(super) async fn way(station: &Station, name: &str, alone: Option<&String>) -> Result<Way> {
    let (db, stream) = (&station.store.db, stream_of(station, Some(name)));
    Ok(if alone.is_some_and(|alone| alone == name) {
        Way::Common
    } else if db.find_ref(&base_ref(&stream)).await?.is_some() {
        Way::Own
    } else if db.find_ref(&state_ref(&stream)).await?.is_some() {
        Way::Unconfirmed
    } else {
        Way::None
    })
}

/// The answers to what a peer asked of the channels of a bundle, and of channels that are not here; none where nothing is to be
/// answered. What was answered before is answered again, since no bundle is known to have arrived.
pub(crate) async fn answers(
    station: &Station,
    to: Option<&str>,
    snapshots: &BTreeMap<String, Id<Snapshot>>,
) -> Result<Option<(Id<Answers>, Answers)>> {
    let (view, now) = (View::new(station.clone()), station.now().await?);
    let (_, requests) = load(station).await?;
    let to = match to {
        Some(to) => Some(to.to_owned()),
        None => alone(station, &requests).await?,
    };
    let (mut key, mut answers) = (None, BTreeMap::new());
    for request in requests.list {
        let Some(peer) = request.from.as_ref().filter(|peer| Some(&peer.name) == to.as_ref()) else {
            continue;
        };
        let Request { id, channel, ecosystem, spec, .. } = &request;
        let known = known::known(&view, channel, *ecosystem, spec).await?.bounded();
        let snapshot = snapshots.get(channel).copied();
        if snapshot.is_none() && known.outcome != Outcome::NoChannel {
            continue;
        }
        // Since when it is so counts, and not in how many bundles it was said.
        let same = |held: &Answer| without_version(&held.known) == without_version(&known);
        let answer = match request.answer.as_ref().filter(|held| same(held)) {
            Some(held) => Answer { known, ..held.clone() },
            None => Answer { known, snapshot, since: now },
        };
        key = Some(peer.key.clone());
        answers.insert(id.clone(), Answered { channel: channel.clone(), spec: spec.clone(), answer });
    }
    let Some(key) = key else { return Ok(None) };
    let answers = Answers { key, answers };
    Ok(Some((station.store.db.put(&answers).await?, answers)))
}

/// A newer version that is offered as well is no other answer.
fn without_version(known: &Known) -> Known {
    match known.outcome {
        Outcome::Offered => Known::plain(Outcome::Offered),
        _ => known.clone(),
    }
}

/// Remembers what a bundle answered, once it is written. The bundle stands whether that can be remembered or not: the next one says
/// the same again.
pub(crate) async fn sent(station: &Station, answers: Option<&Answers>, bundle: u64) {
    let Some(answers) = answers else { return };
    let is_theirs = |request: &Request| request.from.as_ref().is_some_and(|peer| peer.key == answers.key);
    if let Err(error) = note(station, answers, "request.answer", bundle, is_theirs).await {
        tracing::warn!("it was not noted which requests bundle {bundle} answers: {}", error.message);
    }
}

/// Takes in the answers of a bundle whose objects are here: to requests of this station, in channels that the bundle's stream
/// feeds. Everything else in them is passed over.
///
/// # Errors
///
/// It is unsafe to take the bundle where the answers are not what a station writes.
pub(crate) async fn record(station: &Station, stream: &str, bundle: u64, id: Id<Answers>) -> Result<()> {
    // Those of a bundle that was taken in before may be gone: nothing needs them any more.
    if station.store.db.present(&[id.digest()]).await?.is_empty() {
        return Ok(());
    }
    let answers = check(station, id).await?;
    if answers.key != station.key.public_hex() {
        return Ok(());
    }
    let mut fed = Vec::new();
    for channel in channel::list(station).await? {
        let is_fed = matches!(&channel.feed, ChannelFeed::Bundles { stream: s } if s == stream);
        fed.extend(is_fed.then_some(channel.name));
    }
    let is_asked = |request: &Request| request.is_ours() && fed.contains(&request.channel);
    note(station, &answers, "request.answered", bundle, is_asked).await
}

/// The answers of a bundle, which must be there and keep to their limits.
pub(crate) async fn check(station: &Station, id: Id<Answers>) -> Result<Answers> {
    let bad = |what: &str| {
        Error::unsafe_(format!("the answers to requests in the bundle {what}"))
            .hint("ask the sender for a new bundle")
    };
    let read = station.store.db.get(id).await.map_err(Error::from);
    let answers: Answers =
        read.map_err(|e| if e.is_content { bad("are missing or cannot be read") } else { e })?;
    if answers.are_bounded() {
        Ok(answers)
    } else {
        Err(bad("are longer than answers are, or not printable"))
    }
}

/// Writes answers beside the requests that they answer, where they say anything new.
async fn note(
    station: &Station,
    answers: &Answers,
    action: &'static str,
    bundle: u64,
    counts: impl Fn(&Request) -> bool,
) -> Result<()> {
    change(station, |requests| {
        let mut changed = BTreeMap::new();
        for request in requests.list.iter_mut().filter(|request| counts(request)) {
            let Some(one) = answers.answers.get(&request.id) else { continue };
            let fits = (&one.channel, &one.spec) == (&request.channel, &request.spec);
            if fits && request.answer.as_ref() != Some(&one.answer) {
                request.answer = Some(one.answer.clone());
                changed.insert(request.id.clone(), one.answer.known.outcome);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let detail = serde_json::json!({ "bundle": bundle, "answers": changed });
        Ok(Some(Done { action, subject: super::REF.to_owned(), detail, answer: () }))
    })
    .await
    .map(drop)
}
