//! What became milder and waits for a person: the stricter form of it is kept beside the feed, as if another feed said so.
//!
//! What is kept of the feed `X` is the feed `X+kept` to everything else: it stands in the set of everything known, has
//! slices, is shown, and travels, as `X+kept-there` on the other side. It is made when a new reading of `X` takes the place of the one before, and ends when
//! `X` says as much again, when a person accepts what became milder, or when a setting for that source does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{Advisory, AdvisoryRecord, AdvisorySet, CUT, Epss, FeedHead, FeedKind, Kev};
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::object;
use airlock_core::strictness::{self, KEPT};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_store::{Db, RefChange};

use super::{StoredHead, build, heads, index, rebuild};
use crate::error::{Error, Result};
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::{tree_edit, trees};

/// Records that are held at once.
const RECORDS_AT_ONCE: usize = 1000;

/// Whether what becomes milder in a feed acts by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loosening {
    /// It does.
    #[default]
    Accept,
    /// It waits for a person.
    Ask,
}

/// The ref under which a feed's head stands, or that of what is kept of one.
pub(crate) fn head_ref(name: &str) -> String {
    match name.strip_suffix(KEPT) {
        Some(feed) => format!("feed/{feed}/kept"),
        None => format!("feed/{name}/head"),
    }
}

/// The feed whose head, or whose kept forms, stand under a ref.
pub(super) fn named_by(name: &str) -> Option<String> {
    let (feed, part) = name.strip_prefix("feed/")?.rsplit_once('/')?;
    match part {
        "head" => Some(feed.to_owned()),
        "kept" => Some(format!("{feed}{KEPT}")),
        _ => None,
    }
}

/// What is kept of a feed when `new` takes the place of `old`, of which `kept` was kept already.
pub(crate) async fn after(
    db: &Db,
    old: Option<&FeedHead>,
    kept: Option<&FeedHead>,
    new: &FeedHead,
) -> Result<Option<FeedHead>> {
    let old = old.filter(|old| old.kind == new.kind);
    let kept = kept.filter(|kept| kept.kind == new.kind);
    if old.is_none() && kept.is_none() {
        return Ok(None);
    }
    let (content, count) = match new.kind {
        FeedKind::Kev => kev(db, old, kept, new).await?,
        FeedKind::Identities => identities(db, old, kept, new).await?,
        kind if kind.is_advisories() => advisories(db, old, kept, new).await?,
        // A probability that falls is no news, and statements count only where a person trusts their source.
        _ => return Ok(None),
    };
    let head = || FeedHead {
        kind: new.kind,
        read_at: new.read_at,
        content,
        count: count as u64,
        skipped: 0,
        until: None,
    };
    Ok((count > 0).then(head))
}

async fn kev(
    db: &Db,
    old: Option<&FeedHead>,
    kept: Option<&FeedHead>,
    new: &FeedHead,
) -> Result<(Digest, usize)> {
    let now: Kev = db.get(Id::new(new.content)).await?;
    let mut out = Kev::default();
    for head in [old, kept].into_iter().flatten() {
        let said: Kev = db.get(Id::new(head.content)).await?;
        out.entries.extend(strictness::kev_gone(&said, &now).entries);
    }
    Ok((db.put(&out).await?.digest(), out.entries.len()))
}

async fn identities(
    db: &Db,
    old: Option<&FeedHead>,
    kept: Option<&FeedHead>,
    new: &FeedHead,
) -> Result<(Digest, usize)> {
    let now = trees::load::<Identity>(db, TreeId::new(new.content)).await?;
    let mut out: BTreeMap<String, Identity> = BTreeMap::new();
    for head in [old, kept].into_iter().flatten() {
        for (name, said) in trees::load::<Identity>(db, TreeId::new(head.content)).await? {
            if let Some(gone) = strictness::identity_gone(&said, now.get(&name)) {
                out.entry(name).or_default().join(gone);
            }
        }
    }
    Ok((trees::store(db, &out).await?.digest(), out.len()))
}

async fn advisories(
    db: &Db,
    old: Option<&FeedHead>,
    kept: Option<&FeedHead>,
    new: &FeedHead,
) -> Result<(Digest, usize)> {
    let root = kept.map(FeedHead::records);
    let changed = tree_edit::diff(db, old.map(FeedHead::records), Some(new.records())).await?;
    let mut edits = BTreeMap::new();
    for chunk in changed.chunks(RECORDS_AT_ONCE) {
        // What comes for the first time is no milder than anything, but for what is kept of it.
        let ids: Vec<_> = chunk.iter().flat_map(|d| [d.old, d.new]).flatten().collect();
        let mut held = BTreeMap::new();
        if let Some(root) = root {
            held = tree_edit::find_many(db, root, chunk.iter().map(|d| d.key.as_str())).await?;
        }
        let ids: Vec<_> = ids.into_iter().chain(held.values().copied()).collect();
        let records = trees::objects(db, &ids).await?;
        let record = |id: Option<Id<AdvisoryRecord>>| id.and_then(|id| records.get(&id.digest()));
        let mut encoded = Vec::new();
        for difference in chunk {
            let (was, now) = (record(difference.old), record(difference.new));
            let kept = record(held.get(&difference.key).copied());
            let now = now.map(|record| &record.advisory);
            let is_milder = |record: &&AdvisoryRecord| strictness::milder(&record.advisory, now).is_some();
            let stricter: Vec<&AdvisoryRecord> =
                [was, kept].into_iter().flatten().filter(is_milder).collect();
            let joined = stricter.iter().map(|record| record.advisory.clone()).reduce(strictness::strictest);
            let entry = match (joined, stricter.first()) {
                (Some(advisory), Some(first)) => {
                    let record = AdvisoryRecord { advisory, raw: first.raw.clone() };
                    Some(trees::encode_into(&record, &mut encoded)?)
                }
                _ => None,
            };
            if entry.is_some() || kept.is_some() {
                edits.insert(difference.key.clone(), entry);
            }
        }
        db.put_many(&encoded).await?;
    }
    let root = tree_edit::edit(db, root, &edits).await?;
    Ok((root.digest(), trees::load(db, root).await?.len()))
}

/// The move of the ref that says what is kept of a feed, where `held` was when that was found out; none where it stays. If
/// something else was kept since, committing it fails as a race.
pub(crate) async fn change(
    station: &Station,
    feed: &str,
    held: Option<&FeedHead>,
    kept: Option<&FeedHead>,
) -> Result<Option<RefChange>> {
    let db = &station.store.db;
    let id_of = |head: &FeedHead| -> Result<Digest> {
        Ok(object::encode(&StoredHead { head: head.clone() })?.0.digest())
    };
    let to = match kept {
        Some(head) => Some(db.put(&StoredHead { head: head.clone() }).await?.digest()),
        None => None,
    };
    let name = head_ref(&format!("{feed}{KEPT}"));
    let mut from = held.map(id_of).transpose()?;
    let now = db.find_ref(&name).await?;
    if let (true, Some(id)) = (now != from, now) {
        // One that is damaged is what the set has of it.
        match db.get::<StoredHead>(Id::new(id)).await.map_err(Error::from) {
            Err(e) if e.is_content => from = now,
            other => other.map(|_| ())?,
        }
    }
    Ok((from != to || now != to).then_some(RefChange { name, from, to }))
}

/// An empty reading of a feed of this kind: what a sender no longer keeps is taken back by it.
pub(crate) async fn nothing(db: &Db, kind: FeedKind, read_at: Time) -> Result<FeedHead> {
    let content = match kind {
        FeedKind::Kev => db.put(&Kev::default()).await?.digest(),
        FeedKind::Epss => db.put(&Epss::default()).await?.digest(),
        // An empty tree has one spelling, whatever it is of.
        _ => trees::store(db, &BTreeMap::<String, Identity>::new()).await?.digest(),
    };
    Ok(FeedHead { kind, read_at, content, count: 0, skipped: 0, until: None })
}

/// Something that became milder and waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Waiting {
    /// The feed.
    pub feed: String,
    /// The record, the CVE in KEV, or the conda name.
    pub id: String,
    /// In which respect.
    pub how: String,
    /// One line about it.
    pub summary: String,
}

/// Everything that waits, by feed and id.
pub async fn waiting(station: &Station) -> Result<Vec<Waiting>> {
    let db = &station.store.db;
    let heads = heads(station).await?;
    let mut out = Vec::new();
    for (name, head) in &heads {
        let Some(feed) = name.strip_suffix(KEPT) else { continue };
        let one = |id: String, how: &str, summary: String| Waiting {
            feed: feed.to_owned(),
            id,
            how: how.to_owned(),
            summary,
        };
        match head.kind {
            FeedKind::Kev => {
                let kev: Kev = db.get(Id::new(head.content)).await?;
                let gone = kev.entries.into_iter();
                out.extend(
                    gone.map(|(cve, added)| one(cve, "gone", format!("exploited since {}", added.date()))),
                );
            }
            FeedKind::Identities => {
                for (name, gone) in trees::load::<Identity>(db, TreeId::new(head.content)).await? {
                    let keys: Vec<&str> = gone.mappings.iter().map(|m| m.key.as_str()).collect();
                    out.push(one(name, "maps to less", format!("no longer {}", keys.join(", "))));
                }
            }
            _ => {
                let now = heads.get(feed).filter(|now| now.kind == head.kind);
                for (id, how, summary) in milder(db, head, now).await? {
                    out.push(one(id, how, summary));
                }
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Of the records that are kept: in which respect the present ones are milder.
async fn milder(
    db: &Db,
    kept: &FeedHead,
    now: Option<&FeedHead>,
) -> Result<Vec<(String, &'static str, String)>> {
    let all: Vec<(String, Id<AdvisoryRecord>)> = trees::load(db, kept.records()).await?.into_iter().collect();
    let mut out = Vec::new();
    for chunk in all.chunks(RECORDS_AT_ONCE) {
        let present = match now {
            Some(now) => {
                tree_edit::find_many(db, now.records(), chunk.iter().map(|(id, _)| id.as_str())).await?
            }
            None => BTreeMap::new(),
        };
        let ids: Vec<_> = chunk.iter().map(|(_, id)| *id).chain(present.values().copied()).collect();
        let records = trees::objects(db, &ids).await?;
        let advisory = |id: &Id<AdvisoryRecord>| records.get(&id.digest()).map(|record| &record.advisory);
        for (id, kept) in chunk {
            let Some(kept) = advisory(kept) else { continue };
            let now: Option<&Advisory> = present.get(id).and_then(advisory);
            let how = strictness::milder(kept, now).map_or("otherwise", strictness::Milder::name);
            out.push((id.clone(), how, kept.summary.clone()));
        }
    }
    Ok(out)
}

/// What a person accepts: of these feeds, or of all, these ids, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The feeds.
    pub feeds: BTreeSet<String>,
    /// The ids.
    pub ids: BTreeSet<String>,
}

/// What was kept of a feed, and what stays.
struct Remaining {
    held: FeedHead,
    stays: Option<FeedHead>,
}

/// What stays kept of each feed of which something is accepted, and how much is accepted.
async fn remaining(station: &Station, accepted: &Accepted) -> Result<(BTreeMap<String, Remaining>, u64)> {
    let db = &station.store.db;
    let (mut out, mut count) = (BTreeMap::new(), 0);
    for (name, head) in heads(station).await? {
        let Some(feed) = name.strip_suffix(KEPT) else { continue };
        if !accepted.feeds.is_empty() && !accepted.feeds.contains(feed) {
            continue;
        }
        let stays = |id: &String| !accepted.ids.is_empty() && !accepted.ids.contains(id);
        let (content, left) = match head.kind {
            FeedKind::Kev => {
                let mut kev: Kev = db.get(Id::new(head.content)).await?;
                kev.entries.retain(|cve, _| stays(cve));
                (db.put(&kev).await?.digest(), kev.entries.len())
            }
            FeedKind::Identities => {
                let mut map = trees::load::<Identity>(db, TreeId::new(head.content)).await?;
                map.retain(|name, _| stays(name));
                (trees::store(db, &map).await?.digest(), map.len())
            }
            _ => {
                let mut map = trees::load(db, head.records()).await?;
                map.retain(|id, _| stays(id));
                (trees::store(db, &map).await?.digest(), map.len())
            }
        };
        let left = left as u64;
        if left < head.count {
            count += head.count - left;
            let stays = (left > 0).then(|| FeedHead { content, count: left, ..head.clone() });
            out.insert(feed.to_owned(), Remaining { held: head, stays });
        }
    }
    if count == 0 {
        return Err(Error::no("nothing of that waits").hint("`airlock advisories waiting` shows what does"));
    }
    Ok((out, count))
}

/// What would be known if a person accepted this; nothing but objects is written.
pub async fn preview(station: &Station, accepted: &Accepted) -> Result<(Id<AdvisorySet>, u64)> {
    let (remaining, count) = remaining(station, accepted).await?;
    let mut heads = heads(station).await?;
    for (feed, Remaining { stays, .. }) in remaining {
        let name = format!("{feed}{KEPT}");
        match stays {
            Some(head) => heads.insert(name, head),
            None => heads.remove(&name),
        };
    }
    let base = base(station).await?;
    let set = build::assemble(station, base.as_ref(), heads).await?.set;
    Ok((station.store.db.put(&set).await?, count))
}

/// Accepts it: what the feeds say now counts. Judging is the caller's. Gives how much that was.
pub async fn accept(station: &Station, accepted: &Accepted, reason: &str) -> Result<u64> {
    if reason.trim().is_empty() {
        return Err(Error::usage("accepting what became milder needs a reason"));
    }
    let (remaining, count) = remaining(station, accepted).await?;
    // Of the feeds in which it waits now: what comes to wait in others was weighed by nobody.
    let accepted = Accepted { feeds: remaining.keys().cloned().collect(), ids: accepted.ids.clone() };
    let act = Act::Accept { accepted: accepted.clone(), reason: reason.to_owned() };
    proposals::gate(station, act).await?;
    let mut changes = Vec::new();
    for (feed, of) in &remaining {
        changes.extend(change(station, feed, Some(&of.held), of.stays.as_ref()).await?);
    }
    let feeds: Vec<&String> = remaining.keys().collect();
    let detail = serde_json::json!({
        "reason": reason.trim(), "feeds": feeds, "ids": accepted.ids, "count": count,
    });
    station.commit(changes, "advisories.accept", "advisories", &detail).await?;
    rebuild(station).await?;
    Ok(count)
}

/// The current set with its index, if it has one.
pub(super) async fn base(station: &Station) -> Result<Option<build::Base>> {
    let db = &station.store.db;
    let Some(id) = db.find_ref(super::SET).await?.map(Id::new) else { return Ok(None) };
    let Some(index) = index::find(db, id).await? else { return Ok(None) };
    let set: AdvisorySet = db.get(id).await?;
    // What an older program cut says less: everything is cut anew.
    Ok((set.cut == Some(CUT)).then_some(build::Base { set, index }))
}
