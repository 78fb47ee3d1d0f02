//! Feeds: reading them, and what all of them together say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{self, Advisory, AdvisoryRecord, AdvisorySet, Epss, FeedHead, FeedKind, Kev};
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Identity;
use airlock_core::object::{self, Encoded, Object};
use airlock_core::trie::TreeId;
use airlock_formats::feeds::{self as formats, BadAdvisory, FeedError};
use airlock_formats::limits;
use airlock_store::RefChange;

use crate::error::{Error, Result, file_error, joined};
use crate::station::Station;
use crate::trees;
use crate::upstream::{Client, Location, Piece};

/// The ref of the set of everything known.
pub const SET: &str = "advisories";

/// A feed as a person set it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedDef {
    /// What it speaks.
    pub speaks: FeedKind,
    /// A URL, file or directory.
    pub location: String,
}

impl Object for FeedDef {
    const KIND: &'static str = "airlock.feed.v1";
}

/// A feed's head as an object, so that a ref can name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHead {
    /// The head.
    pub head: FeedHead,
}

impl Object for StoredHead {
    const KIND: &'static str = "airlock.feed-head.v1";
}

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

/// A name under which no other feed stands.
async fn free_name(station: &Station, wanted: &str, def: Digest) -> Result<String> {
    for n in 1..1000 {
        let name = if n == 1 { wanted.to_owned() } else { format!("{wanted}-{n}") };
        let held = station.store.db.find_ref(&format!("feed/{name}/def")).await?;
        if held.is_none_or(|h| h == def) {
            return Ok(name);
        }
    }
    Err(Error::usage(format!("there are too many feeds called `{wanted}`")))
}

/// Endings of files that say nothing about a feed.
const EXTENSIONS: [&str; 6] = [".gz", ".zst", ".json", ".jsonl", ".csv", ".txt"];

/// Adds a feed under a name made of its kind and place.
pub async fn add(station: &Station, kind: FeedKind, location: &str) -> Result<String> {
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
    let id = station.store.db.put(&FeedDef { speaks: kind, location }).await?;
    let name = free_name(station, &name, id.digest()).await?;
    let change = station.move_ref(&format!("feed/{name}/def"), Some(id.digest())).await?;
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

/// Reads every feed of this station again, or those named. One that cannot be read never keeps another from
/// being read. The set of everything known follows; judging is the caller's.
pub async fn update(station: &Station, names: &[String]) -> Result<Updated> {
    let mut updated = Updated { read: Vec::new(), failed: None };
    for (name, id) in station.store.db.refs("feed/").await? {
        let Some(name) = name.strip_prefix("feed/").and_then(|n| n.strip_suffix("/def")) else { continue };
        if !names.is_empty() && !names.iter().any(|n| n == name) {
            continue;
        }
        let def: FeedDef = station.store.db.get(Id::new(id)).await?;
        match read_feed(station, name, &def).await {
            Ok(report) => {
                set_head(station, &report).await?;
                updated.read.push(report);
            }
            Err(e) => updated.failed = updated.failed.or(Some(e.while_(&format!("feed {name}")))),
        }
    }
    if updated.read.is_empty() && updated.failed.is_none() {
        return Err(Error::usage("there is no feed to read")
            .hint("add one with `airlock advisories add KIND URL|PATH`"));
    }
    rebuild(station).await?;
    Ok(updated)
}

async fn set_head(station: &Station, report: &FeedReport) -> Result<()> {
    let id = station.store.db.put(&StoredHead { head: report.head.clone() }).await?;
    let change = station.move_ref(&format!("feed/{}/head", report.name), Some(id.digest())).await?;
    let detail = serde_json::json!({"count": report.head.count, "skipped": report.head.skipped, "content": report.head.content});
    station.commit(vec![change], "feed.read", &format!("feed/{}", report.name), &detail).await
}

/// Reads one feed into objects.
async fn read_feed(station: &Station, name: &str, def: &FeedDef) -> Result<FeedReport> {
    let local = localize(station, &def.location).await?;
    let (kind, provenance) = (def.speaks, name.to_owned());
    let place = Location::parse(&def.location)?.shown();
    let content = joined(
        tokio::task::spawn_blocking(move || read_content(kind, local.path(), &provenance, &place)).await,
    )?;
    let db = &station.store.db;
    db.put_many(&content.objects).await?;
    let (root, count) = match content.table {
        Table::Records(map) => (trees::store(db, &map).await?.digest(), map.len() as u64),
        Table::Identities(map) => (trees::store(db, &map).await?.digest(), map.len() as u64),
        Table::One(id, count) => (id, count),
    };
    let head = FeedHead {
        kind: def.speaks,
        read_at: station.now().await?,
        content: root,
        count,
        skipped: content.bad_count,
    };
    let before = head_of(station, name).await?;
    let changed = before.is_none_or(|b| b.content != head.content);
    Ok(FeedReport { name: name.to_owned(), head, changed, bad: content.bad })
}

/// A feed as a local file: where it lies, or downloaded beside the store for as long as this is held.
enum Local {
    There(PathBuf),
    Downloaded(tempfile::NamedTempFile),
}

impl Local {
    fn path(&self) -> &Path {
        match self {
            Self::There(path) => path,
            Self::Downloaded(file) => file.path(),
        }
    }
}

async fn localize(station: &Station, location: &str) -> Result<Local> {
    let source = Location::parse(location)?;
    let Location::Http(_) = &source else {
        return Ok(Local::There(PathBuf::from(location)));
    };
    let url = reqwest::Url::parse(location)
        .map_err(|e| Error::usage(format!("the feed's address is not a URL: {e}")))?;
    let client = Client::new(station, &source)?;
    let mut file = tempfile::NamedTempFile::new_in(&station.dir).map_err(file_error(&station.dir))?;
    let path = file.path().to_owned();
    client
        .get_file(&Location::Http(url), limits::FEED_BYTES_MAX, |piece| {
            let done = match piece {
                Piece::Bytes(chunk) => std::io::Write::write_all(&mut file, chunk),
                Piece::Restart => file.as_file_mut().set_len(0).and_then(|()| file.rewind()),
            };
            done.map_err(file_error(&path))
        })
        .await?;
    Ok(Local::Downloaded(file))
}

/// What a feed's file held.
struct Content {
    objects: Vec<Encoded>,
    table: Table,
    bad: Vec<BadAdvisory>,
    bad_count: u64,
}

enum Table {
    Records(BTreeMap<String, Id<AdvisoryRecord>>),
    Identities(BTreeMap<String, Identity>),
    One(Digest, u64),
}

fn read_content(kind: FeedKind, path: &Path, provenance: &str, place: &str) -> Result<Content> {
    let unusable = |e: FeedError| {
        Error::fault(format!("{place}: {e}")).hint("the last good state of the feed stays in force")
    };
    match kind {
        FeedKind::Osv | FeedKind::Nvd => read_records(kind, path).map_err(unusable),
        FeedKind::Kev => {
            let (kev, bad) = open(path).and_then(formats::kev::read).map_err(unusable)?;
            one(&kev, kev.entries.len(), bad)
        }
        FeedKind::Epss => {
            let (epss, bad) = open(path).and_then(|mut r| formats::epss::read(&mut r)).map_err(unusable)?;
            one(&epss, epss.scores.len(), bad)
        }
        FeedKind::Identities => {
            let (map, bad) =
                open(path).and_then(|r| formats::identities::read(r, provenance)).map_err(unusable)?;
            Ok(Content {
                objects: Vec::new(),
                table: Table::Identities(map),
                bad_count: bad.len() as u64,
                bad,
            })
        }
    }
}

fn one<T: Object>(value: &T, count: usize, bad: Vec<BadAdvisory>) -> Result<Content> {
    let (id, encoded) = object::encode(value)?;
    Ok(Content {
        objects: vec![encoded],
        table: Table::One(id.digest(), count as u64),
        bad_count: bad.len() as u64,
        bad,
    })
}

/// Opens a file for reading, unpacking gzip by its magic.
fn open(path: &Path) -> std::result::Result<Box<dyn BufRead>, FeedError> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let n = file.read(&mut magic)?;
    file.rewind()?;
    let limited: Box<dyn Read> = if n == 2 && magic == [0x1f, 0x8b] {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    Ok(Box::new(BufReader::with_capacity(1 << 18, limited.take(limits::FEED_BYTES_MAX))))
}

fn read_records(kind: FeedKind, path: &Path) -> std::result::Result<Content, FeedError> {
    let mut objects = Vec::new();
    let mut map: BTreeMap<String, Id<AdvisoryRecord>> = BTreeMap::new();
    let mut modified: BTreeMap<String, (Option<airlock_core::time::Time>, Digest)> = BTreeMap::new();
    let (mut bad, mut bad_count) = (Vec::new(), 0u64);
    let mut each = |record: std::result::Result<AdvisoryRecord, BadAdvisory>| {
        let stored = record.and_then(|record| {
            let (id, encoded) = object::encode(&record)
                .map_err(|e| BadAdvisory { id: record.advisory.id.clone(), reason: e.to_string() })?;
            Ok((record.advisory.id, record.advisory.modified, id, encoded))
        });
        match stored {
            Ok((name, time, id, encoded)) => {
                // Of two records with one id the later counts, whichever comes first in the file.
                let rank = (time, encoded.digest);
                if modified.get(&name).is_none_or(|held| *held < rank) {
                    map.insert(name.clone(), id);
                    modified.insert(name, rank);
                    objects.push(encoded);
                }
            }
            Err(error) => {
                bad_count += 1;
                if bad.len() < limits::BAD_LISTED_MAX {
                    bad.push(error);
                }
            }
        }
    };
    for path in files_of(path)? {
        match kind {
            FeedKind::Nvd => formats::nvd::read_all(open(&path)?, &mut each)?,
            _ if path.extension().is_some_and(|e| e == "json") => read_osv_json(&path, &mut each)?,
            _ => formats::osv::read_all(&mut open(&path)?, &mut each)?,
        }
    }
    if map.is_empty() {
        return Err(FeedError::Content("it holds no usable record".to_owned()));
    }
    Ok(Content { objects, table: Table::Records(map), bad, bad_count })
}

/// One OSV document, which may be written over many lines.
fn read_osv_json(
    path: &Path,
    each: &mut impl FnMut(std::result::Result<AdvisoryRecord, BadAdvisory>),
) -> std::result::Result<(), FeedError> {
    let mut text = String::new();
    open(path)?.take(limits::ADVISORY_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limits::ADVISORY_BYTES_MAX {
        return Err(FeedError::Content(format!("{} is larger than one advisory may be", path.display())));
    }
    each(formats::osv::read_record(&text));
    Ok(())
}

/// A file by itself, or the files below a directory, sorted.
fn files_of(path: &Path) -> std::result::Result<Vec<PathBuf>, FeedError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.insert(entry.path());
            }
        }
    }
    let wanted = |p: &PathBuf| {
        [".json", ".jsonl", ".json.gz", ".jsonl.gz"].iter().any(|e| p.to_string_lossy().ends_with(e))
    };
    Ok(files.into_iter().filter(wanted).collect())
}

/// The head of a feed.
pub async fn head_of(station: &Station, name: &str) -> Result<Option<FeedHead>> {
    match station.store.db.find_ref(&format!("feed/{name}/head")).await? {
        Some(id) => Ok(Some(station.store.db.get::<StoredHead>(Id::new(id)).await?.head)),
        None => Ok(None),
    }
}

/// All feeds that have been read, by name.
pub async fn heads(station: &Station) -> Result<BTreeMap<String, FeedHead>> {
    let mut out = BTreeMap::new();
    for (name, id) in station.store.db.refs("feed/").await? {
        if let Some(name) = name.strip_prefix("feed/").and_then(|n| n.strip_suffix("/head")) {
            out.insert(name.to_owned(), station.store.db.get::<StoredHead>(Id::new(id)).await?.head);
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
    let set = build(station, BTreeMap::new()).await?;
    Ok((station.store.db.put(&set).await?, set))
}

/// Makes the set of everything known anew from the heads of all feeds. A slower run never puts an older set
/// over a newer one.
pub async fn rebuild(station: &Station) -> Result<Id<AdvisorySet>> {
    const TRIES: usize = 10;
    let mut tries = 0;
    loop {
        let from = station.store.db.find_ref(SET).await?;
        let set = build(station, heads(station).await?).await?;
        let id = station.store.db.put(&set).await?;
        tries += 1;
        if from == Some(id.digest()) {
            return Ok(id);
        }
        let change = RefChange { name: SET.to_owned(), from, to: Some(id.digest()) };
        let feeds: Vec<&String> = set.feeds.keys().collect();
        let detail = serde_json::json!({"set": id, "feeds": feeds});
        match station.commit(vec![change], "advisories.build", SET, &detail).await {
            Err(e) if e.is_race && tries < TRIES => {}
            other => return other.map(|()| id),
        }
    }
}

/// The set that these feeds add up to. Fails if anything that they name is missing or is not what it should be.
pub(crate) async fn build(station: &Station, feeds: BTreeMap<String, FeedHead>) -> Result<AdvisorySet> {
    let db = &station.store.db;
    let mut advisories: Vec<(&str, Advisory)> = Vec::new();
    let mut kev = Kev::default();
    let mut epss: Option<Epss> = None;
    let mut identities: BTreeMap<String, Identity> = BTreeMap::new();
    for (name, head) in &feeds {
        match head.kind {
            FeedKind::Osv | FeedKind::Nvd => {
                let ids: Vec<Id<AdvisoryRecord>> =
                    trees::load(db, head.records()).await?.into_values().collect();
                for chunk in ids.chunks(1000) {
                    let records = trees::objects(db, chunk).await?;
                    advisories.extend(records.into_values().map(|r| (name.as_str(), r.advisory)));
                }
            }
            FeedKind::Kev => {
                let read: Kev = db.get(Id::new(head.content)).await?;
                for (cve, added) in read.entries {
                    let held = kev.entries.entry(cve).or_insert(added);
                    *held = added.min(*held);
                }
            }
            FeedKind::Epss => {
                let read: Epss = db.get(Id::new(head.content)).await?;
                epss = epss.filter(|held| held.date >= read.date).or(Some(read));
            }
            FeedKind::Identities => {
                for (name, identity) in trees::load::<Identity>(db, TreeId::new(head.content)).await? {
                    join_identity(identities.entry(name), identity);
                }
            }
        }
    }
    let mut encoded = Vec::new();
    let mut slices = BTreeMap::new();
    for (key, slice) in advisory::slices(advisories.iter().map(|(feed, a)| (*feed, a))) {
        slices.insert(key.as_str().to_owned(), trees::encode_into(&slice, &mut encoded)?);
    }
    let kev = trees::encode_into(&kev, &mut encoded)?;
    let epss = trees::encode_into(&epss.unwrap_or_default(), &mut encoded)?;
    db.put_many(&encoded).await?;
    let slices = trees::store(db, &slices).await?;
    let identities = trees::store(db, &identities).await?;
    Ok(AdvisorySet { feeds, slices, kev, epss, identities })
}

/// Two maps that disagree are both right until a person rules: what either names is looked up.
fn join_identity(place: std::collections::btree_map::Entry<'_, String, Identity>, identity: Identity) {
    let held = place.or_insert_with(|| Identity { pypi: Vec::new(), provenance: String::new() });
    let new: Vec<String> = identity.pypi.into_iter().filter(|n| !held.pypi.contains(n)).collect();
    if !new.is_empty() || held.provenance.is_empty() {
        let and = if held.provenance.is_empty() { "" } else { " and " };
        held.provenance = format!("{}{and}{}", held.provenance, identity.provenance);
        held.pypi.extend(new);
        held.pypi.sort();
    }
}

/// The records of an advisory in all feeds, by feed: by its own id or any other name it goes by.
pub async fn show(station: &Station, id: &str) -> Result<Vec<(String, AdvisoryRecord)>> {
    let mut out = Vec::new();
    for (name, head) in heads(station).await? {
        if !matches!(head.kind, FeedKind::Osv | FeedKind::Nvd) {
            continue;
        }
        let ids: Vec<Id<AdvisoryRecord>> =
            trees::load(&station.store.db, head.records()).await?.into_values().collect();
        for chunk in ids.chunks(1000) {
            let records = trees::objects(&station.store.db, chunk).await?;
            let hits = records.into_values().filter(|r| r.advisory.names().any(|n| n == id));
            out.extend(hits.map(|r| (name.clone(), r)));
        }
    }
    out.sort_by(|a, b| (&a.0, &a.1.advisory.id).cmp(&(&b.0, &b.1.advisory.id)));
    if out.is_empty() {
        return Err(Error::no(format!("no feed knows `{id}`"))
            .hint("`airlock advisories status` shows what was read and when"));
    }
    Ok(out)
}
