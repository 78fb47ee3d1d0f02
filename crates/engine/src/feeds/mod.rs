//! Feeds: reading them, and what all of them together say.

mod build;
mod check;
mod cut;
mod index;
mod kept;
mod names;
mod paged;
mod read;
mod show;
mod statements;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{AdvisorySet, CUT, FeedHead, FeedKind};
use airlock_core::id::{Digest, Id};
use airlock_core::identity;
use airlock_core::roles::Action;
use airlock_core::strictness::KEPT;
use airlock_formats::feeds::BadAdvisory;
use airlock_store::RefChange;

use self::build::Base;
pub(crate) use self::index::{FeedIndex, REF as INDEX};
use self::kept::base;
use crate::boxed;
use crate::clock;
use crate::error::{Error, Result};
use crate::people;
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::upstream::{Location, Validator};

pub use kept::{Accepted, Loosening, Waiting, accept, preview, waiting};
pub(crate) use kept::{after as kept_after, change as kept_change, head_ref, nothing};
pub(crate) use names::{NameIndex, index as index_names, reached};
pub use show::show;

/// A feed that held at least this many records and holds fewer than one in [`SHRINK_FACTOR`] of them now is not
/// believed without a person.
const SHRINK_RECORDS_MIN: u64 = 100;
/// See [`SHRINK_RECORDS_MIN`].
const SHRINK_FACTOR: u64 = 2;
/// How often something is done again because somebody else did the same in between.
const TRIES: usize = 10;

/// The ref of the set of everything known.
pub const SET: &str = "advisories";

/// A feed as a person set it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedDef {
    /// What it speaks.
    pub speaks: FeedKind,
    /// A URL, file or directory.
    pub location: String,
    /// Whether what becomes milder in it acts by itself, or waits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loosening: Loosening,
}

fn is_default(loosening: &Loosening) -> bool {
    *loosening == Loosening::default()
}

airlock_core::object!(FeedDef, "airlock.feed.v1");

/// A feed's head as an object, so that a ref can name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHead {
    /// The head.
    pub head: FeedHead,
}

airlock_core::object!(StoredHead, "airlock.feed-head.v1");

/// What the source of a feed said of the version of it that was read last, so that it need not send the same again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The feed as it was set up.
    def: Digest,
    /// What was read of it.
    content: Digest,
    /// By which version of this program: another one may read the same otherwise.
    by: String,
    /// What to ask with.
    validator: Validator,
}

airlock_core::object!(Seen, "airlock.feed-seen.v1");

/// What reading one feed gave.
#[derive(Clone, Debug)]
pub struct FeedReport {
    /// The feed's name.
    pub name: String,
    /// Its head.
    pub head: FeedHead,
    /// Whether its content changed.
    pub changed: bool,
    /// Records that make no sense, the first of them.
    pub bad: Vec<BadAdvisory>,
}

/// The ref of a feed as it was set up.
pub(crate) fn def_ref(name: &str) -> String {
    format!("feed/{name}/def")
}

/// The ref of what is kept of a feed.
pub(crate) fn kept_ref(name: &str) -> String {
    head_ref(&format!("{name}{KEPT}"))
}

/// A name under which no other feed stands. What somebody ruled of a feed that is gone is not to count for another one.
async fn free_name(station: &Station, wanted: &str, def: Digest) -> Result<String> {
    let (_, decisions) = crate::judge::decisions(station).await?;
    let now = station.now().await?;
    for n in 1..1000 {
        let name = if n == 1 { wanted.to_owned() } else { format!("{wanted}-{n}") };
        let held = station.store.db.find_ref(&def_ref(&name)).await?;
        let is_free = held.is_none() && !decisions.trusted(now).any(|source| source == name);
        if is_free || held == Some(def) {
            return Ok(name);
        }
    }
    Err(Error::usage(format!("there are too many feeds called `{wanted}`")))
}

/// Endings of files that say nothing about a feed.
const EXTENSIONS: [&str; 11] =
    [".gz", ".zst", ".json", ".jsonl", ".csv", ".txt", ".yaml", ".yml", ".zip", ".tar", ".tgz"];

/// Adds a feed under a name made of its kind and place.
pub async fn add(station: &Station, kind: FeedKind, location: &str) -> Result<String> {
    people::allow(station, Action::AddFeed, None).await?;
    let parsed = Location::parse(location)?;
    let stem = match &parsed {
        Location::Http(url) => {
            url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }
        Location::Path(path) => {
            path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
        }
    };
    let mut stem = stem.as_str();
    while let Some(shorter) = EXTENSIONS.iter().find_map(|e| stem.strip_suffix(e)) {
        stem = shorter;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let stem: String = stem.chars().map(plain).collect();
    let name = if stem.is_empty() || stem.starts_with(kind.name()) {
        stem.clone()
    } else {
        format!("{}-{stem}", kind.name())
    };
    let name = if name.is_empty() { kind.name().to_owned() } else { name };
    let location = match &parsed {
        // A feed is often one file, which a trailing slash would turn into another address.
        Location::Http(_) => location.to_owned(),
        Location::Path(path) => path.display().to_string(),
    };
    if let Location::Path(path) = &parsed
        && !path.exists()
    {
        return Err(Error::usage(format!("{} does not exist", path.display()))
            .hint("give a URL, a file or a directory"));
    }
    let id =
        station.store.db.put(&FeedDef { speaks: kind, location, loosening: Loosening::default() }).await?;
    let name = free_name(station, &name, id.digest()).await?;
    let change = station.move_ref(&def_ref(&name), Some(id.digest())).await?;
    let detail = serde_json::json!({"kind": kind, "location": parsed.shown()});
    station.commit(vec![change], "feed.add", &format!("feed/{name}"), &detail).await?;
    Ok(name)
}

/// What reading all feeds gave.
#[derive(Debug)]
pub struct Updated {
    /// The feeds that were read.
    pub read: Vec<FeedReport>,
    /// The first of those that could not be read; their last good state stays in force.
    pub failed: Option<Error>,
}

/// How feeds are to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// A person accepts that a feed has lost more than half of its records.
    pub accept_shrink: bool,
    /// Everything is read, also what its source says not to have changed.
    pub anew: bool,
}

/// The feeds of this station that nobody has read yet, and where each lies.
pub async fn never_read(station: &Station) -> Result<BTreeMap<String, String>> {
    let db = &station.store.db;
    let mut out = BTreeMap::new();
    for (name, id) in defs(station).await? {
        if db.find_ref(&format!("feed/{name}/head")).await?.is_none() {
            out.insert(name, db.get(Id::<FeedDef>::new(id)).await?.location);
        }
    }
    Ok(out)
}

/// Reads every feed of this station again, or those named. One that cannot be read never keeps another from
/// being read. The set of everything known follows; judging is the caller's.
pub async fn update(station: &Station, names: &[String]) -> Result<Updated> {
    update_with(station, names, Reading::default()).await
}

/// The same, as a person says.
#[boxed]
pub async fn update_with(station: &Station, names: &[String], how: Reading) -> Result<Updated> {
    let mut defs = defs(station).await?;
    if let Some(unknown) = names.iter().find(|n| !defs.contains_key(*n)) {
        return Err(unknown_feed(unknown, defs.keys()));
    }
    if how.accept_shrink && names.is_empty() {
        return Err(Error::usage("`--accept-shrink` needs the names of the feeds that it is meant for"));
    }
    people::allow(station, Action::Sync, None).await?;
    if how.accept_shrink {
        people::allow(station, Action::Feeds, None).await?;
    }
    clock::look(station).await;
    defs.retain(|name, _| names.is_empty() || names.contains(name));
    if defs.is_empty() {
        return Err(Error::usage("there is no feed to read")
            .hint("add one with `airlock advisories add KIND URL|PATH`"));
    }
    let mut updated = Updated { read: Vec::new(), failed: None };
    let mut tries = 0;
    // If somebody else read a feed in between, it is read again: which of two readings is the newer one, nobody
    // could say.
    while !defs.is_empty() {
        let mut wanted = Vec::with_capacity(defs.len());
        for (name, id) in defs.clone() {
            match Wanted::of(station, &name, id, how).await {
                Ok(one) => wanted.push(one),
                Err(e) => {
                    updated.failed = updated.failed.or(Some(e.while_(&format!("feed {name}"))));
                    defs.remove(&name);
                }
            }
        }
        tries += 1;
        for (wanted, content) in read::read(station, wanted).await? {
            let kept = match content {
                Ok(content) => keep(station, &wanted, content, how).await,
                Err(e) => Err(e),
            };
            match kept {
                Err(e) if e.is_race && tries < TRIES => continue,
                Err(e) => {
                    updated.failed = updated.failed.or(Some(e.while_(&format!("feed {}", wanted.name))));
                }
                Ok(report) => updated.read.push(report),
            }
            defs.remove(&wanted.name);
        }
    }
    rebuild(station).await?;
    Ok(updated)
}

/// The definitions of this station's own feeds.
async fn defs(station: &Station) -> Result<BTreeMap<String, Digest>> {
    let refs = station.store.db.refs("feed/").await?;
    let own = |(name, id): (String, Digest)| {
        Some((name.strip_prefix("feed/")?.strip_suffix("/def")?.to_owned(), id))
    };
    Ok(refs.into_iter().filter_map(own).collect())
}

fn unknown_feed<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let error = Error::usage(format!("there is no feed `{name}`"));
    if known.is_empty() {
        error.hint("add one with `airlock advisories add KIND URL|PATH`")
    } else {
        error.hint(format!("the feeds are: {}", known.join(", ")))
    }
}

/// A feed that is to be read.
struct Wanted {
    name: String,
    def: FeedDef,
    /// What its head points to now.
    from: Option<Digest>,
    /// Its last good state.
    before: Option<FeedHead>,
    /// What its source said of that.
    seen: Option<Seen>,
    /// What stands in the ref of that now.
    seen_from: Option<Digest>,
    def_id: Digest,
    /// Whether all of it is read, also what did not change.
    anew: bool,
}

impl Wanted {
    async fn of(station: &Station, name: &str, def: Digest, how: Reading) -> Result<Self> {
        let db = &station.store.db;
        let from = db.find_ref(&head_ref(name)).await?;
        let before = match from {
            // One that is damaged, and that no set has, is as good as none: it is read as for the first time.
            Some(id) => match stored(station, name, id).await {
                Err(e) if e.is_content => None,
                head => Some(head?),
            },
            None => None,
        };
        let seen_from = db.find_ref(&seen_ref(name)).await?;
        let seen = match seen_from {
            // It only spares a transfer.
            Some(id) => db.get::<Seen>(Id::new(id)).await.ok(),
            None => None,
        };
        let fits = |seen: &Seen| {
            let same = before.as_ref().is_some_and(|before| before.content == seen.content);
            !how.anew && same && seen.def == def && seen.by == reader()
        };
        let seen = seen.filter(fits);
        let name = name.to_owned();
        let (def_id, def) = (def, db.get(Id::new(def)).await?);
        Ok(Self { name, def, from, before, seen, seen_from, def_id, anew: how.anew })
    }
}

/// What reads feeds, so that what its source says not to have changed is read again by one that reads it otherwise.
fn reader() -> String {
    format!("{} {}", env!("CARGO_PKG_VERSION"), airlock_formats::feeds::READER)
}

fn seen_ref(name: &str) -> String {
    format!("feed/{name}/seen")
}

impl Wanted {
    /// The move of the ref that says what the source said of what was read.
    async fn seen_change(
        &self,
        station: &Station,
        head: &FeedHead,
        validator: Option<Validator>,
    ) -> Result<Option<RefChange>> {
        let to = match validator {
            Some(validator) => {
                let by = reader();
                let seen = Seen { def: self.def_id, content: head.content, by, validator };
                Some(station.store.db.put(&seen).await?.digest())
            }
            None => None,
        };
        let change = RefChange { name: seen_ref(&self.name), from: self.seen_from, to };
        Ok((change.from != change.to).then_some(change))
    }
}

/// Moves a feed's head to what was read of it, last of all.
async fn keep(
    station: &Station,
    wanted: &Wanted,
    content: read::Content,
    how: Reading,
) -> Result<FeedReport> {
    let Wanted { name, def, from, before, .. } = wanted;
    let shrunk = before.as_ref().filter(|b| shrank(b.count, content.count)).map(|b| b.count);
    if let Some(count) = shrunk.filter(|_| !how.accept_shrink) {
        return Err(Error::unsafe_(format!(
            "it holds {} records, and held {count} when it was last read: the last good state stays in force",
            content.count
        ))
        .hint(format!(
            "find out why; if it is meant to be so: `airlock advisories update {name} --accept-shrink`"
        )));
    }
    if shrunk.is_some() {
        let (feed, content) = (name.clone(), content.root);
        proposals::gate(station, Act::Shrink { feed, content, anew: how.anew }).await?;
    }
    let head = FeedHead {
        kind: def.speaks,
        read_at: station.now().await?,
        content: content.root,
        count: content.count,
        skipped: content.bad_count,
        until: content.until,
    };
    let db = &station.store.db;
    let id = db.put(&StoredHead { head: head.clone() }).await?;
    let mut changes = vec![RefChange { name: head_ref(name), from: *from, to: Some(id.digest()) }];
    let held = head_of(station, &format!("{name}{KEPT}")).await?;
    let kept = match def.loosening {
        Loosening::Accept => None,
        Loosening::Ask => kept::after(db, before.as_ref(), held.as_ref(), &head).await?,
    };
    changes.extend(kept::change(station, name, held.as_ref(), kept.as_ref()).await?);
    changes.extend(wanted.seen_change(station, &head, content.validator).await?);
    let mut detail =
        serde_json::json!({"count": head.count, "skipped": head.skipped, "content": head.content});
    if let Some(kept) = &kept {
        detail["waiting"] = kept.count.into();
    }
    if let Some(count) = shrunk {
        detail["accepted_shrink_from"] = count.into();
    }
    station.commit(changes, "feed.read", &format!("feed/{name}"), &detail).await?;
    let changed = before.as_ref().is_none_or(|b| b.content != head.content);
    Ok(FeedReport { name: name.clone(), head, changed, bad: content.bad })
}

/// Whether a feed lost so much that it is more likely broken, or tampered with, than right.
const fn shrank(before: u64, now: u64) -> bool {
    before >= SHRINK_RECORDS_MIN && now < before / SHRINK_FACTOR
}

/// Takes a feed out of the set, for good: what only it said counts no more, which is why a person has to give the
/// reason. A feed that came in a bundle comes back with the next bundle that carries it.
pub async fn remove(station: &Station, name: &str, reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(Error::usage("removing a feed needs a reason"));
    }
    let act = Act::RemoveFeed { feed: name.to_owned(), reason: reason.to_owned() };
    proposals::gate(station, act).await?;
    let refs = station.store.db.refs("feed/").await?;
    let mut known: BTreeMap<String, Vec<RefChange>> = BTreeMap::new();
    for (full, id) in refs {
        let feed = full.strip_prefix("feed/").and_then(|n| n.rsplit_once('/'));
        let Some((feed, "def" | "head" | "kept" | "seen")) = feed else { continue };
        let change = RefChange { name: full.clone(), from: Some(id), to: None };
        known.entry(feed.to_owned()).or_default().push(change);
    }
    let changes = known.remove(name).ok_or_else(|| unknown_feed(name, known.keys()))?;
    let detail = serde_json::json!({ "reason": reason });
    station.commit(changes, "feed.remove", &format!("feed/{name}"), &detail).await?;
    rebuild(station).await.map(|_| ())
}

/// The head of a feed.
pub async fn head_of(station: &Station, name: &str) -> Result<Option<FeedHead>> {
    match station.store.db.find_ref(&head_ref(name)).await? {
        Some(id) => Ok(Some(stored(station, name, id).await?)),
        None => Ok(None),
    }
}

/// A head. One that is damaged is what the set of everything known has of the feed: it keeps neither the other feeds
/// from being read nor anything from being judged, and a reading of the feed that gives another takes its place.
async fn stored(station: &Station, name: &str, id: Digest) -> Result<FeedHead> {
    match station.store.db.get::<StoredHead>(Id::new(id)).await.map_err(Error::from) {
        Err(e) if e.is_content => current(station).await?.1.feeds.remove(name).ok_or_else(|| {
            e.hint(format!("read it again: `airlock advisories update {name}`; or take it out: `airlock advisories remove {name}`"))
        }),
        head => Ok(head?.head),
    }
}

/// All feeds that have been read, by name.
pub async fn heads(station: &Station) -> Result<BTreeMap<String, FeedHead>> {
    let mut out = BTreeMap::new();
    for (name, id) in station.store.db.refs("feed/").await? {
        if let Some(name) = kept::named_by(&name) {
            let head = stored(station, &name, id).await?;
            out.insert(name, head);
        }
    }
    Ok(out)
}

/// The set of everything known, and where there is none yet the empty one.
pub async fn current(station: &Station) -> Result<(Id<AdvisorySet>, AdvisorySet)> {
    if let Some(id) = station.store.db.find_ref(SET).await? {
        let id = Id::new(id);
        return Ok((id, station.store.db.get(id).await?));
    }
    let set = build::assemble(station, None, BTreeMap::new()).await?.set;
    Ok((station.store.db.put(&set).await?, set))
}

/// The current set with its index; without an index it is derived again.
async fn based(station: &Station) -> Result<Base> {
    let db = &station.store.db;
    let (id, set) = current(station).await?;
    let index = match index::find(db, id).await? {
        Some(index) => index,
        None => {
            let mut index = build::assemble(station, None, set.feeds.clone()).await?.index(id);
            if set.builtin != Some(identity::builtin::digest()) {
                // The set was cut for other products.
                index.products.clear();
            }
            index::keep(station, &index).await?;
            index
        }
    };
    Ok(Base { set, index })
}

/// A set that counts nowhere yet, with the index that is kept when it does.
pub(crate) struct Derived {
    /// The set, which is in the store.
    pub id: Id<AdvisorySet>,
    index: FeedIndex,
}

impl Derived {
    /// Keeps its index: to be called before the set takes the place of the current one.
    pub async fn keep(&self, station: &Station) -> Result<()> {
        index::keep(station, &self.index).await
    }
}

/// The set that these feeds add up to, made from the current one where that has an index.
pub(crate) async fn derive(station: &Station, feeds: BTreeMap<String, FeedHead>) -> Result<Derived> {
    let base = base(station).await?;
    let assembled = build::assemble(station, base.as_ref(), feeds).await?;
    let id = station.store.db.put(&assembled.set).await?;
    Ok(Derived { id, index: assembled.index(id) })
}

/// Makes the set of everything known follow the heads of all feeds. A slower run never puts an older set over a
/// newer one.
pub async fn rebuild(station: &Station) -> Result<Id<AdvisorySet>> {
    let mut tries = 0;
    loop {
        let from = station.store.db.find_ref(SET).await?;
        let derived = derive(station, heads(station).await?).await?;
        derived.keep(station).await?;
        let id = derived.id;
        tries += 1;
        if from == Some(id.digest()) {
            return Ok(id);
        }
        let set: AdvisorySet = station.store.db.get(id).await?;
        let change = RefChange { name: SET.to_owned(), from, to: Some(id.digest()) };
        let feeds: Vec<&String> = set.feeds.keys().collect();
        let detail = serde_json::json!({"set": id, "feeds": feeds});
        match station.commit(vec![change], "advisories.build", SET, &detail).await {
            Err(e) if e.is_race && tries < TRIES => {}
            other => return other.map(|()| id),
        }
    }
}

/// Makes the set follow the heads where a run that read feeds was broken off before it did: what it read tightens
/// all the same. Who only asks what would be goes by the set as it is.
#[boxed]
pub async fn catch_up(station: &Station) -> Result<()> {
    let (id, set) = current(station).await?;
    // A newer program brings newer rows of its own, and people may have named more products.
    let cut = match index::find(&station.store.db, id).await? {
        Some(index) => build::ruled_products(station).await?.is_subset(&index.products),
        None => false,
    };
    let is_ours = set.builtin == Some(identity::builtin::digest()) && set.cut == Some(CUT);
    if !is_ours || set.feeds != heads(station).await? || !cut {
        rebuild(station).await?;
    }
    Ok(())
}

/// Checks what is new of feeds, some of which another station sent: one that lacks something, or is not what it should
/// be, is refused as unsafe; a fault of this station's own disk stays one.
pub(crate) async fn check(station: &Station, feeds: &BTreeMap<String, FeedHead>) -> Result<()> {
    let before = current(station).await?.1.feeds;
    check::check(&station.store.db, &before, feeds).await
}

/// Says whether what becomes milder in a feed of this station acts by itself, or waits for a person. What waits already
/// goes on waiting until the feed is read again.
pub async fn set_loosening(station: &Station, name: &str, loosening: Loosening) -> Result<()> {
    let defs = defs(station).await?;
    let held = defs.get(name).ok_or_else(|| unknown_feed(name, defs.keys()))?;
    match loosening {
        Loosening::Accept => proposals::gate(station, Act::Loosen { feed: name.to_owned() }).await?,
        Loosening::Ask => people::allow(station, Action::Feeds, None).await?,
    }
    let def: FeedDef = station.store.db.get(Id::new(*held)).await?;
    let id = station.store.db.put(&FeedDef { loosening, ..def }).await?;
    let change = RefChange { name: def_ref(name), from: Some(*held), to: Some(id.digest()) };
    let detail = serde_json::json!({ "loosening": loosening });
    station.commit(vec![change], "feed.set", &format!("feed/{name}"), &detail).await
}
