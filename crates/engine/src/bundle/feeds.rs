//! The feeds of a bundle: what is known when it is in, and what of it counts before a second person lets it in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{FeedHead, FeedKind};
use airlock_core::bundle::Manifest;
use airlock_core::strictness::{KEPT, THERE};
use airlock_core::time::Time;
use airlock_store::{Db, RefChange};

use crate::boxed;
use crate::error::{Error, Kind, Result};
use crate::feeds::{self, Derived, StoredHead};
use crate::station::Station;
use crate::trust::{Accept, Trust};

/// What a bundle does to a feed of its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedMove {
    /// The feed, as it is called here.
    pub feed: String,
    /// Its kind.
    pub kind: FeedKind,
    /// In which direction.
    pub way: Way,
    /// When what counts now was read by whoever reads the feed, and how many records that had.
    pub before: Option<(Time, u64)>,
    /// The same of what the bundle brings.
    pub brings: (Time, u64),
    /// How many records wait for a person because they became milder, now and with the bundle.
    pub waiting: (u64, u64),
}

/// The direction in which a bundle moves a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// This station had none of it.
    New,
    /// A later reading.
    Forward,
    /// The reading that is here already.
    Stays,
    /// An older reading, which knows less: what is here stays.
    Older,
}

/// What is known when a bundle is in.
pub(super) struct Known {
    /// The refs of the feeds and of the set.
    pub refs: Vec<RefChange>,
    /// The set.
    pub set: Derived,
    /// What becomes of each feed that it brings.
    pub moves: Vec<FeedMove>,
}

/// The feeds after the import, and the set of everything known that follows: it is made before anything is
/// committed, since a feed that lacks a record could not be used at all.
///
/// What became milder waits, unless it was said of this sender that it need not.
#[boxed]
pub(super) async fn known(station: &Station, m: &Manifest, trust: &Trust) -> Result<Known> {
    let db = &station.store.db;
    let before = db.find_ref(feeds::SET).await?;
    let held = feeds::heads(station).await?;
    let (mut heads, mut came, mut moves) = (held.clone(), Vec::new(), Vec::new());
    let mut refs = Vec::new();
    for (name, head) in sent(db, m, &held).await? {
        let before = held.get(&name);
        moves.push(FeedMove::of(&name, before, &head, &held));
        // An older reading of a feed knows less.
        if before.is_some_and(|held| held.read_at > head.read_at) {
            continue;
        }
        if let Some(held) = before.filter(|held| held.kind != head.kind) {
            let (was, is) = (held.kind.name(), head.kind.name());
            return Err(Error::unsafe_(format!(
                "feed {name} was {was} and is {is} now: all that it said would be gone"
            ))
            .hint(format!("if that is right, take it out first: `airlock advisories remove {name}`")));
        }
        let id = db.put(&StoredHead { head: head.clone() }).await?;
        refs.push(station.move_ref(&format!("feed/{name}/head"), Some(id.digest())).await?);
        heads.insert(name.clone(), head.clone());
        came.push((name, head));
    }
    feeds::check(station, &heads).await.map_err(|e| match e.kind {
        Kind::Unsafe => e.while_("the advisories of the bundle are incomplete"),
        _ => e,
    })?;
    for (name, head) in came {
        let of_it = format!("{name}{KEPT}");
        let kept = match trust.accepts(Accept::Loosening) {
            true => None,
            false => feeds::kept_after(db, held.get(&name), held.get(&of_it), &head).await?,
        };
        refs.extend(feeds::kept_change(station, &name, held.get(&of_it), kept.as_ref()).await?);
        if let Some(moved) = moves.iter_mut().find(|moved| moved.feed == name) {
            moved.waiting.1 = kept.as_ref().map_or(0, |kept| kept.count);
        }
        set_kept(&mut heads, of_it, kept);
    }
    let set = feeds::derive(station, heads).await?;
    refs.push(RefChange { name: feeds::SET.to_owned(), from: before, to: Some(set.id.digest()) });
    Ok(Known { refs, set, moves })
}

impl FeedMove {
    fn of(name: &str, before: Option<&FeedHead>, head: &FeedHead, held: &BTreeMap<String, FeedHead>) -> Self {
        let way = match before {
            None => Way::New,
            Some(held) if held.read_at > head.read_at => Way::Older,
            Some(held) if held.read_at == head.read_at && held.content == head.content => Way::Stays,
            Some(_) => Way::Forward,
        };
        let waiting = held.get(&format!("{name}{KEPT}")).map_or(0, |kept| kept.count);
        Self {
            feed: name.to_owned(),
            kind: head.kind,
            way,
            before: before.map(|held| (held.read_at, held.count)),
            brings: (head.read_at, head.count),
            waiting: (waiting, waiting),
        }
    }
}

fn set_kept(heads: &mut BTreeMap<String, FeedHead>, name: String, kept: Option<FeedHead>) {
    match kept {
        Some(kept) => heads.insert(name, kept),
        None => heads.remove(&name),
    };
}

/// What a bundle says more strictly than what is known here counts at once, though the bundle waits for a second person: it
/// is kept of its feed as if the bundle had come and its feeds had gone back to where they were. So it goes on counting
/// until the feed itself says as much, or until a person accepts that it does not. Of feeds that are new with the bundle
/// there is nothing yet that could be kept. Gives how many records of which feeds say something more strictly, also where
/// they count already since a run before this one.
pub(super) async fn tighten(station: &Station, m: &Manifest) -> Result<BTreeMap<String, u64>> {
    let db = &station.store.db;
    let before = db.find_ref(feeds::SET).await?;
    let held = feeds::heads(station).await?;
    let (mut heads, mut refs, mut moves) = (held.clone(), Vec::new(), BTreeMap::new());
    let mut stricter = BTreeMap::new();
    for (name, head) in sent(db, m, &held).await? {
        let Some(now) = held.get(&name).filter(|now| now.kind == head.kind && now.read_at <= head.read_at)
        else {
            continue;
        };
        if let Some(lost) = feeds::kept_after(db, Some(&head), None, now).await? {
            stricter.insert(name.clone(), lost.count);
        }
        let of_it = format!("{name}{KEPT}");
        let kept = held.get(&of_it);
        let come = feeds::kept_after(db, Some(now), kept, &head).await?;
        let back = feeds::kept_after(db, Some(&head), come.as_ref(), now).await?;
        let moved = feeds::kept_change(station, &name, kept, back.as_ref()).await?;
        if moved.is_some() {
            moves.insert(name, back.as_ref().map_or(0, |kept| kept.count));
        }
        refs.extend(moved);
        set_kept(&mut heads, of_it, back);
    }
    if moves.is_empty() {
        return Ok(stricter);
    }
    let set = feeds::derive(station, heads).await?;
    set.keep(station).await?;
    refs.push(RefChange { name: feeds::SET.to_owned(), from: before, to: Some(set.id.digest()) });
    let detail = serde_json::json!({"stream": m.stream, "number": m.number, "kept": moves});
    station.commit(refs, "advisories.tighten", feeds::SET, &detail).await?;
    Ok(stricter)
}

/// The feeds of a bundle as they are called here. What the sender keeps of a feed is called otherwise than what this station
/// keeps of it; and where it keeps nothing any more, that is said by a reading without content.
async fn sent(
    db: &Db,
    m: &Manifest,
    held: &BTreeMap<String, FeedHead>,
) -> Result<BTreeMap<String, FeedHead>> {
    // Nothing but what is kept has a `+` in its name.
    let here = |name: &str| match name.contains(KEPT) {
        true => format!("{}/{name}{THERE}", m.stream),
        false => format!("{}/{name}", m.stream),
    };
    let mut out: BTreeMap<String, FeedHead> =
        m.feeds.iter().map(|(name, head)| (here(name), head.clone())).collect();
    for (name, before) in held {
        let sent = name.strip_prefix(&m.stream).and_then(|rest| rest.strip_prefix('/'));
        let kept = sent.and_then(|sent| sent.strip_suffix(THERE)).filter(|kept| kept.contains(KEPT));
        let Some(kept) = kept else { continue };
        let base = kept.split(KEPT).next().and_then(|base| m.feeds.get(base));
        if let (Some(base), false) = (base, out.contains_key(name)) {
            out.insert(name.clone(), feeds::nothing(db, before.kind, base.read_at).await?);
        }
    }
    Ok(out)
}
