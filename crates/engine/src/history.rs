//! Published states of a channel side by side, and going back to one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use airlock_core::channel::Channel;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::policy::Action;
use airlock_core::shard::{Entry, Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_core::verdict::{Judged, Judgement, RuleHit, builtin};

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::judge::{self, How};
use crate::mirror::MirrorState;
use crate::proposals::{self, Act};
use crate::publish::{Along, Read};
use crate::retention;
use crate::station::Station;
use crate::sync::{self, Outcome};
use crate::tree_edit;

/// What one snapshot offers and another does not: artifacts with their subdir for conda, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Only the later one offers them.
    pub added: Vec<String>,
    /// Only the earlier one does.
    pub removed: Vec<String>,
    /// Both do, with other records.
    pub changed: Vec<String>,
}

/// What two snapshots offer otherwise.
pub async fn diff(station: &Station, from: &Snapshot, to: &Snapshot) -> Result<Diff> {
    let db = &station.store.db;
    let mut out = Diff::default();
    for difference in tree_edit::diff(db, Some(from.content), Some(to.content)).await? {
        let read = async |id: Option<Id<Shard>>| -> Result<BTreeMap<String, Entry>> {
            match id {
                Some(id) => Ok(db.get(id).await?.entries),
                None => Ok(BTreeMap::new()),
            }
        };
        let (old, new) = (read(difference.old).await?, read(difference.new).await?);
        let key = ShardKey::parse(&difference.key);
        let place = |file: &String| key.place(file);
        out.added.extend(new.keys().filter(|file| !old.contains_key(*file)).map(place));
        out.removed.extend(old.keys().filter(|file| !new.contains_key(*file)).map(place));
        let is_changed = |(file, entry): &(&String, &Entry)| old.get(*file).is_some_and(|old| old != *entry);
        out.changed.extend(new.iter().filter(is_changed).map(|(file, _)| place(file)));
    }
    for list in [&mut out.added, &mut out.removed, &mut out.changed] {
        list.sort();
    }
    Ok(out)
}

/// Goes back to what the source held when a snapshot was judged, and judges it by what is known now, so that
/// nothing comes back that was denied since. The next reading of the source starts from nothing.
#[boxed]
pub async fn rollback(
    station: &Station,
    channel: &Channel,
    to: Id<Snapshot>,
    reason: &str,
    dry: bool,
) -> Result<Outcome> {
    if reason.trim().is_empty() {
        return Err(Error::usage("going back needs a reason").hint("say why with --reason TEXT"));
    }
    if let Some(parent) = channel.parent() {
        return Err(Error::no(format!(
            "{} offers what `{parent}` does, and goes back with it",
            channel.name
        ))
        .hint(format!("go back in `{parent}`; or keep this one as it is with `airlock channel freeze`")));
    }
    let _lease = match dry {
        true => None,
        false => Some(station.lease(&format!("channel/{}", channel.name), "rollback").await?),
    };
    let (_, decisions) = judge::decisions(station).await?;
    if let Some(freeze) = decisions.frozen(&channel.name, station.now().await?) {
        return Err(Error::no(format!("{} is frozen by decision {}", channel.name, freeze.id))
            .hint(format!("`airlock review revoke {}` ends that first", freeze.id)));
    }
    let snapshot: Snapshot = station.store.db.get(to).await?;
    let upstream = snapshot.inputs.upstream;
    check_comes_back(station, channel, (upstream, None)).await?;
    if dry {
        let how = How { dry: true, closure: true, ..How::default() };
        let judgment = judge::judge(station, channel, &how, Some(upstream)).await?;
        return Ok(sync::judged(judgment));
    }
    let act = Act::Rollback { channel: channel.name.clone(), snapshot: to, reason: reason.to_owned() };
    proposals::gate(station, act).await?;
    let before = station.store.db.find_ref(&ref_name(&channel.name, "upstream")).await?;
    let read = Read { before, upstream, state: MirrorState::default(), accept_shrink: true };
    let why = format!("rollback to {}: {}", to.digest().short(), reason.trim());
    sync::publish_read(station, channel, Along { read: Some(read) }, &why).await
}

/// Refuses to go back to an older tree, with these facts or the channel's own, where that would offer without a word, or
/// longer, what something speaks against now.
pub(crate) async fn check_comes_back(
    station: &Station,
    channel: &Channel,
    older: (Id<Upstream>, Option<TreeId<Id<Facts>>>),
) -> Result<()> {
    let back = comes_back(station, channel, older).await?;
    if !back.is_empty() {
        const SHOWN: usize = 5;
        let shown: Vec<&str> = back.iter().take(SHOWN).map(String::as_str).collect();
        let more =
            if back.len() > SHOWN { format!(" and {} more", back.len() - SHOWN) } else { String::new() };
        return Err(Error::no(format!(
            "{} that {} denied, held or offered until somebody looks would come back, as the older index does not say why: {}{more}",
            back.len(),
            if back.len() == 1 { "is" } else { "are" },
            shown.join(", ")
        ))
        .hint(format!(
            "keep them out with `airlock review reject {} --scope SPEC --reason WHY` (until a date: --expires), then go back",
            channel.name
        )));
    }
    Ok(())
}

/// Whether somebody or some rule speaks against an artifact, though it may be offered until somebody looks: not that its
/// record or its bytes are damaged, of which going back may be the mending, nor that nobody fetched it.
fn is_spoken_against(judged: &Judged) -> bool {
    let is_damage = |hit: &RuleHit| {
        [builtin::BAD_RECORD, builtin::FILE_CHANGED, builtin::MISMATCH, builtin::NOT_FETCHED]
            .contains(&hit.rule.as_str())
    };
    let counts = |hit: &&RuleHit| hit.waived_by.is_none() && hit.action >= Action::Hold;
    judged.rules.iter().filter(counts).any(|hit| !is_damage(hit))
}

/// How long an artifact is offered by itself: beginning with what is not offered, ending with what no deadline is set.
fn offered_until(judged: &Judged) -> Until {
    let end = [judged.review_by, judged.denied_from].into_iter().flatten().min();
    match end {
        _ if !judged.is_offered() => Until::Never,
        Some(end) => Until::Then(end),
        None => Until::Always,
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Never,
    Then(Time),
    Always,
}

/// What judging an older tree would offer, or offer longer,, though something speaks against it now: by what the index says of
/// it today (withdrawn, quarantined, taken away), or by the station that sends it.
async fn comes_back(
    station: &Station,
    channel: &Channel,
    (older, facts): (Id<Upstream>, Option<TreeId<Id<Facts>>>),
) -> Result<Vec<String>> {
    let db = &station.store.db;
    let how = How { anew: true, facts, ..How::default() };
    let judgment = judge::judge(station, channel, &how, Some(older)).await?;
    let Some(would) = &judgment.snapshot else { return Ok(Vec::new()) };
    // What is published may have been judged some time ago, and something may have ended since.
    let today = judge::judge(station, channel, &How { facts: None, ..how }, None).await?;
    let Some(now) = today.snapshot.or(today.previous.map(|(_, snapshot)| snapshot)) else {
        return Ok(Vec::new());
    };
    let current: Upstream = db.get(now.inputs.upstream).await?;
    // What its sender said, also in the last bundle, where somebody went back from that before.
    let last = retention::last_sent(station, channel).await?;
    let mut spoken = vec![now.judgement];
    for sent in BTreeSet::from_iter(current.origin.into_iter().chain(last)) {
        spoken.push(db.get(sent).await?.judgement);
    }
    let mut out = Vec::new();
    for against in spoken {
        for difference in tree_edit::diff(db, Some(against), Some(would.judgement)).await? {
            let (Some(held), Some(new)) = (difference.old, difference.new) else { continue };
            let (held, new): (Judgement, Judgement) = (db.get(held).await?, db.get(new).await?);
            let is_against =
                |file: &String| held.artifacts.get(file).filter(|judged| is_spoken_against(judged));
            let back = new.artifacts.iter().filter(|(file, judged)| {
                judged.is_offered()
                    && is_against(file).is_some_and(|held| offered_until(judged) > offered_until(held))
            });
            let key = ShardKey::parse(&difference.key);
            out.extend(back.map(|(file, _)| key.place(file)));
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}
