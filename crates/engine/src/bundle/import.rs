//! Taking a bundle in.
//!
//! Nothing counts before all of it is verified: artifacts are staged, objects are checked, and only when the
//! last byte fits do blobs get their names and refs move. The bundle itself is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use airlock_core::bundle::{Base, BundledFile, ChannelHead, Manifest, NUMBER_STEP_MAX};
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::fact::{Fact, Facts};
use airlock_core::id::{Digest, Id};
use airlock_core::object::Encoded;
use airlock_core::record::Artifact;
use airlock_core::shard::Shard;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Span;
use airlock_store::{Batch, RefChange, Store};

use super::ImportState;
use super::verify::{self, Opened};
use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::feeds::{self, StoredHead};
use crate::station::Station;
use crate::sync::{self, Outcome};
use crate::trees;
use crate::trust::{self, Trust};

/// How far a sender's clock may be ahead of this station's.
const CLOCK_AHEAD_MAX: Span = Span::days(7);

/// What an import did.
#[derive(Debug)]
pub struct Report {
    /// The sender, as this station calls it.
    pub sender: String,
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// It was taken in before; nothing happened.
    pub again: bool,
    /// Bundles of the stream between the last one and this one that never came.
    pub skipped: u64,
    /// Artifacts in the bundle.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What judging did then, channel by channel.
    pub outcomes: Vec<Outcome>,
    /// The first error of a channel that could not be judged: the bundle is in all the same.
    pub failed: Option<Error>,
}

/// Verifies a bundle and takes it in.
pub async fn import(station: &Station, dir: &Path) -> Result<Report> {
    let trusted = trust::list(station).await?;
    let keys: Vec<[u8; 32]> =
        trusted.iter().filter_map(|t| airlock_core::hex::decode(&t.public_key)).collect();
    let (path, known) = (dir.to_owned(), keys.clone());
    let opened = joined(tokio::task::spawn_blocking(move || verify::open(&path, &known)).await)?;
    let trust = choose(trusted, &opened)?;
    let entry = admission(station, &opened, &trust).await?;
    let m = &opened.manifest;
    let last = entry.state.as_ref().and_then(|s| s.bundles.last()).map_or(0, |b| b.number);
    let mut report = Report {
        sender: trust.name.clone(),
        stream: m.stream.clone(),
        number: m.number,
        again: entry.again,
        skipped: m.number.saturating_sub(last.saturating_add(1)),
        files: m.files.len() as u64,
        bytes: m.files.iter().fold(0, |sum, f| sum.saturating_add(f.size)),
        outcomes: Vec::new(),
        failed: None,
    };
    let why = format!("import {} of {}", report.number, report.stream);
    if !entry.again {
        take_in(station, &Arc::new(opened), &trust, &entry).await?;
    }
    // Also for a bundle that is in already: something may have stopped the run before it was judged.
    let judged = sync::rejudge_all(station, &why).await?;
    (report.outcomes, report.failed) = (judged.outcomes, judged.failed);
    Ok(report)
}

/// The trust under which a bundle comes: of the signer, for its stream.
fn choose(trusted: Vec<Trust>, opened: &Opened) -> Result<Trust> {
    let stream = &opened.manifest.stream;
    let signer: Vec<Trust> = trusted
        .into_iter()
        .filter(|t| airlock_core::hex::decode(&t.public_key) == Some(opened.signer))
        .collect();
    let fits = signer.iter().find(|t| t.stream.as_ref().is_none_or(|s| s == stream)).cloned();
    fits.ok_or_else(|| {
        let names: Vec<&str> = signer.iter().map(|t| t.name.as_str()).collect();
        Error::unsafe_(format!("`{}` is trusted for another stream than `{}`", names.join("`, `"), stream.escape_default()))
            .hint("if this stream is meant too, trust the key for it under a further name: `airlock trust add NAME KEY --stream STREAM`")
    })
}

/// A bundle that may come in.
struct Entry {
    /// What this station remembers of the stream, and the object that says so: what is committed builds on it.
    state: Option<ImportState>,
    from: Option<Digest>,
    /// It is in already.
    again: bool,
}

/// Whether the bundle may come in at all, by its number, base, stream, channels and ledger. Says whether it
/// was taken in before.
async fn admission(station: &Station, opened: &Opened, trust: &Trust) -> Result<Entry> {
    let m = &opened.manifest;
    let db = &station.store.db;
    if m.stream.len() > 300 || !m.stream.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(Error::unsafe_("the stream's name is malformed"));
    }
    for name in m.channels.keys() {
        check_channel(station, name, m, trust).await?;
    }
    let from = db.find_ref(&format!("import/{}", m.stream)).await?;
    let state = match from {
        Some(id) => Some(db.get::<ImportState>(Id::new(id)).await?),
        None => None,
    };
    check_times(station, m).await?;
    let this = Base { number: m.number, manifest: opened.digest };
    let taken: &[Base] = state.as_ref().map_or(&[], |s| &s.bundles);
    if let Some(last) = taken.last() {
        if this == *last {
            return Ok(Entry { state, from, again: true });
        }
        if m.number == last.number {
            return Err(Error::unsafe_(format!(
                "another bundle with number {} was taken in before",
                m.number
            ))
            .hint(
                "one of the two is forged, or the sender was restored from a backup: ask its administrator",
            ));
        }
        if m.number < last.number {
            return Err(Error::unsafe_(format!(
                "bundle {} is older than bundle {}, which is in already",
                m.number, last.number
            ))
            .hint("import the newest bundle; an older one could bring back what was denied since"));
        }
    }
    let last = taken.last().map_or(0, |b| b.number);
    if m.number > last.saturating_add(NUMBER_STEP_MAX) {
        return Err(Error::unsafe_(format!("bundle {} lies too far ahead of bundle {last}", m.number))
            .hint("whoever holds the sender's key may be using up its numbers: ask its administrator"));
    }
    if let Some(state) = &state {
        check_sequel(m, state)?;
    }
    if let Some(base) = m.base.filter(|b| !taken.contains(b)) {
        return Err(Error::no(format!(
            "bundle {} builds on bundle {}, which was never taken in",
            m.number, base.number
        ))
        .hint(format!("import bundle {} first, or ask the sender for a full export", base.number)));
    }
    Ok(Entry { state, from, again: false })
}

/// Whether a bundle goes on where the last one ended: the same key, the manifest before it, the ledger grown.
fn check_sequel(m: &Manifest, state: &ImportState) -> Result<()> {
    let ask = "the sender was restored from a backup, or somebody tampered with it: ask its administrator";
    if state.public_key != m.sender.public_key {
        return Err(Error::unsafe_(format!(
            "stream `{}` belongs to another key than the one that signed this bundle",
            m.stream
        ))
        .hint(ask));
    }
    if let Some(last) = state.bundles.last()
        && m.number == last.number + 1
        && m.predecessor != Some(last.manifest)
    {
        return Err(Error::unsafe_(format!(
            "bundle {} does not follow from bundle {} as it was taken in here",
            m.number, last.number
        ))
        .hint(ask));
    }
    let rewritten = m.ledger.number == state.ledger.number && m.ledger.hash != state.ledger.hash;
    if m.ledger.number < state.ledger.number || rewritten {
        return Err(Error::unsafe_("the sender's ledger is shorter than it was, or was rewritten").hint(ask));
    }
    Ok(())
}

/// A bundle from the future would make every later one look old, and its feeds fresh for ever.
async fn check_times(station: &Station, m: &Manifest) -> Result<()> {
    let now = station.now().await?;
    if m.created > now.after(CLOCK_AHEAD_MAX) {
        return Err(Error::unsafe_(format!("the bundle was written at {}, and it is {now} here", m.created))
            .hint("one of the two clocks is wrong: compare them with the sender's administrator"));
    }
    match m.feeds.iter().find(|(_, head)| head.read_at > m.created.after(CLOCK_AHEAD_MAX)) {
        Some((name, _)) => Err(Error::unsafe_(format!(
            "feed `{}` was read after the bundle was written",
            name.escape_default()
        ))
        .hint("the sender's clock was set back: ask its administrator")),
        None => Ok(()),
    }
}

async fn check_channel(station: &Station, name: &str, m: &Manifest, trust: &Trust) -> Result<()> {
    if !airlock_core::channel::is_channel_name(name) {
        return Err(Error::unsafe_(format!("`{}` cannot name a channel", name.escape_default())));
    }
    if !trust.channels.is_empty() && !trust.channels.iter().any(|c| c == name) {
        return Err(Error::unsafe_(format!("`{}` is not trusted for channel `{name}`", trust.name)));
    }
    let Some(id) = station.store.db.find_ref(&ref_name(name, "def")).await? else { return Ok(()) };
    let channel: Channel = station.store.db.get(Id::new(id)).await?;
    let same_ecosystem = m.channels.get(name).is_some_and(|h| h.ecosystem == channel.ecosystem);
    match &channel.feed {
        ChannelFeed::Bundles { stream } if *stream == m.stream && same_ecosystem => Ok(()),
        ChannelFeed::Bundles { stream } if *stream == m.stream => Err(Error::unsafe_(format!(
            "channel `{name}` is of {} here, and of another ecosystem in the bundle",
            channel.ecosystem
        ))
        .hint("ask the sender to export it under another name")),
        ChannelFeed::Bundles { stream } => Err(Error::unsafe_(format!(
            "channel `{name}` is fed by bundles of `{stream}`, not of `{}`",
            m.stream
        ))),
        ChannelFeed::Source { .. } => Err(Error::unsafe_(format!(
            "channel `{name}` is fed by a source of this station; a bundle never merges into it"
        ))
        .hint("ask the sender to export it under another name")),
    }
}

/// Verifies all of it, then writes objects and blobs, then moves the refs.
async fn take_in(station: &Station, opened: &Arc<Opened>, trust: &Trust, entry: &Entry) -> Result<()> {
    let m = &opened.manifest;
    let db = &station.store.db;
    let (bundle, store) = (opened.clone(), station.store.clone());
    let staged = joined(tokio::task::spawn_blocking(move || stage(&bundle, &store)).await)?;
    put_objects(station, opened).await?;
    let mut refs = Vec::new();
    for (name, head) in &m.channels {
        refs.extend(channel_refs(station, name, head, opened).await?);
    }
    let have: BTreeSet<Digest> = m.files.iter().map(|f| f.sha256).collect();
    for name in m.channels.keys() {
        check_bytes(station, name, m, &have).await?;
    }
    refs.extend(feed_refs(station, m).await?);
    let mut bundles = entry.state.as_ref().map(|s| s.bundles.clone()).unwrap_or_default();
    bundles.push(Base { number: m.number, manifest: opened.digest });
    let state = ImportState { bundles, public_key: m.sender.public_key.clone(), ledger: m.ledger };
    let id = db.put(&state).await?;
    let name = format!("import/{}", m.stream);
    refs.push(RefChange { name, from: entry.from, to: Some(id.digest()) });
    refs.push(crate::retention::take(station, m, opened.digest).await?);
    joined(tokio::task::spawn_blocking(move || Ok(staged.commit()?)).await)?;
    let detail = serde_json::json!({
        "number": m.number, "manifest": opened.digest, "sender": trust.name, "key": m.sender.public_key,
        "sender_ledger": m.ledger, "files": m.files.len(),
    });
    station.commit(refs, "bundle.import", &format!("stream/{}", m.stream), &detail).await
}

/// The feeds after the import, and the set of everything known that follows: it is made before anything is
/// committed, since a feed that lacks a record could not be used at all.
async fn feed_refs(station: &Station, m: &Manifest) -> Result<Vec<RefChange>> {
    let db = &station.store.db;
    let before = db.find_ref(feeds::SET).await?;
    let mut heads = feeds::heads(station).await?;
    let mut refs = Vec::new();
    for (name, head) in &m.feeds {
        let name = format!("{}/{name}", m.stream);
        // An older reading of a feed knows less.
        if heads.get(&name).is_none_or(|held| held.read_at <= head.read_at) {
            let id = db.put(&StoredHead { head: head.clone() }).await?;
            refs.push(station.move_ref(&format!("feed/{name}/head"), Some(id.digest())).await?);
            heads.insert(name, head.clone());
        }
    }
    let set = feeds::build(station, heads).await.map_err(|e| {
        Error::unsafe_(format!("the advisories of the bundle are incomplete: {}", e.message))
            .hint("ask the sender for a full export")
    })?;
    let id = db.put(&set).await?;
    refs.push(RefChange { name: feeds::SET.to_owned(), from: before, to: Some(id.digest()) });
    Ok(refs)
}

/// Checks every file, and stages those that the store does not have. They wait for their names in the batch.
fn stage(opened: &Opened, store: &Store) -> Result<Batch> {
    opened.check_listing()?;
    for file in &opened.manifest.extra {
        opened.read_file(&file.path, file.sha256, |_| Ok(()))?;
    }
    for file in &opened.manifest.objects {
        opened.read_file(&file.path, file.sha256, |_| Ok(()))?;
        opened.read_objects(file, |_| Ok(()))?;
    }
    let mut batch = store.blobs.batch();
    for file in &opened.manifest.files {
        // What is not written again must not be collected meanwhile.
        if store.blobs.touch(file.sha256)? {
            opened.read_file(&file.path, file.sha256, |_| Ok(()))?;
            continue;
        }
        let mut staged = store.blobs.stage()?;
        opened.read_file(&file.path, file.sha256, |bytes| Ok(staged.write(bytes)?))?;
        batch.add(staged, Some(file.sha256))?;
    }
    Ok(batch)
}

/// Writes the objects, a bounded number at a time. Nothing names them yet.
async fn put_objects(station: &Station, opened: &Arc<Opened>) -> Result<()> {
    const OBJECTS: usize = 2000;
    const BYTES: usize = 16 << 20;
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<Encoded>>(2);
    let bundle = opened.clone();
    let reading = tokio::task::spawn_blocking(move || -> Result<()> {
        for file in &bundle.manifest.objects {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            let stopped = || Error::fault("the database stopped taking objects");
            bundle.read_objects(file, |object| {
                bytes += object.bytes.len();
                batch.push(object);
                if batch.len() < OBJECTS && bytes < BYTES {
                    return Ok(());
                }
                bytes = 0;
                sender.blocking_send(std::mem::take(&mut batch)).map_err(|_| stopped())
            })?;
            sender.blocking_send(batch).map_err(|_| stopped())?;
        }
        Ok(())
    });
    while let Some(batch) = receiver.recv().await {
        station.store.db.put_many(&batch).await?;
    }
    joined(reading.await)
}

/// A bundle that lacks an object that its manifest needs.
fn incomplete(name: &str, error: &Error) -> Error {
    Error::unsafe_(format!("channel `{name}` of the bundle is incomplete: {}", error.message))
        .hint("ask the sender for a full export")
}

/// The refs of one channel after the import: what the sender publishes is this channel's source.
async fn channel_refs(
    station: &Station,
    name: &str,
    head: &ChannelHead,
    opened: &Opened,
) -> Result<Vec<RefChange>> {
    let db = &station.store.db;
    let m = &opened.manifest;
    let missing = |e: Error| incomplete(name, &e);
    let snapshot: Snapshot = db.get(head.snapshot).await.map_err(|e| missing(e.into()))?;
    if snapshot.content.digest() != head.content
        || snapshot.ecosystem != head.ecosystem
        || snapshot.channel != name
    {
        return Err(Error::unsafe_(format!(
            "the manifest says other things of channel `{name}` than its snapshot"
        )));
    }
    if let Some(bad) = snapshot.subdirs.keys().find(|s| !airlock_core::ecosystem::is_subdir(s)) {
        return Err(Error::unsafe_(format!(
            "channel `{name}` of the bundle has a subdir `{}`",
            bad.escape_default()
        )));
    }
    // Everything that explains what was left out must have come along too.
    let judgements = trees::load(db, snapshot.judgement).await.map_err(missing)?;
    let ids: Vec<Digest> = judgements.values().map(Id::digest).collect();
    let present = db.present(&ids).await?;
    if let Some(absent) = ids.iter().find(|id| !present.contains(id)) {
        return Err(missing(Error::fault(format!("object {absent} is not in it"))));
    }
    let mut refs = Vec::new();
    let def = Channel {
        name: name.to_owned(),
        ecosystem: head.ecosystem,
        feed: ChannelFeed::Bundles { stream: m.stream.clone() },
        policy: "default".to_owned(),
    };
    if db.find_ref(&ref_name(name, "def")).await?.is_none() {
        let id = db.put(&def).await?;
        refs.push(RefChange { name: ref_name(name, "def"), from: None, to: Some(id.digest()) });
    }
    let upstream = Upstream {
        ecosystem: head.ecosystem,
        tree: snapshot.content,
        subdirs: snapshot.subdirs,
        origin: Some(head.snapshot),
    };
    let upstream = db.put(&upstream).await?;
    refs.push(station.move_ref(&ref_name(name, "upstream"), Some(upstream.digest())).await?);
    let from = db.find_ref(&ref_name(name, "facts")).await?;
    let facts = facts(station, name, head, m).await.map_err(missing)?;
    let root = trees::store_all(db, &facts).await?;
    refs.push(RefChange { name: ref_name(name, "facts"), from, to: Some(root.digest()) });
    Ok(refs)
}

/// This station's facts with what came: first seen now, pinned at first sight.
async fn facts(
    station: &Station,
    name: &str,
    head: &ChannelHead,
    m: &Manifest,
) -> Result<BTreeMap<String, Facts>> {
    let now = station.now().await?;
    let is_metadata = |f: &&BundledFile| f.path.ends_with(".metadata");
    let metadata: BTreeSet<Digest> = m.files.iter().filter(is_metadata).map(|f| f.sha256).collect();
    let mut out = crate::facts::load(station, name).await?;
    let known = out.values().flat_map(|f| f.files.values()).filter_map(|f| f.file.as_ref()?.metadata);
    let metadata: BTreeSet<Digest> = metadata.into_iter().chain(known).collect();
    let ids = trees::load::<Id<Facts>>(&station.store.db, head.facts).await?;
    let all: Vec<(String, Id<Facts>)> = ids.into_iter().collect();
    for chunk in all.chunks(1000) {
        let list: Vec<Id<Facts>> = chunk.iter().map(|(_, id)| *id).collect();
        let sent = trees::objects(&station.store.db, &list).await?;
        for (key, id) in chunk {
            let Some(sent) = sent.get(&id.digest()) else { continue };
            let held = out.entry(key.clone()).or_default();
            for (file, fact) in &sent.files {
                let ours = held.files.entry(file.clone()).or_insert(Fact {
                    first_seen: now,
                    file: None,
                    fault: None,
                });
                // A pinned file stays pinned: other bytes under its name are an alarm, which judging raises.
                if ours.file.is_none() {
                    ours.file = fact.file.clone();
                    // A fact may name as METADATA only what came as METADATA: any other blob here may be denied.
                    if let Some(file) = &mut ours.file {
                        file.metadata = file.metadata.filter(|digest| metadata.contains(digest));
                    }
                }
            }
        }
    }
    Ok(out)
}

/// Checks that the bytes of everything that a channel publishes came along or are here.
async fn check_bytes(station: &Station, name: &str, m: &Manifest, have: &BTreeSet<Digest>) -> Result<()> {
    let db = &station.store.db;
    let Some(head) = m.channels.get(name) else { return Ok(()) };
    let snapshot: Snapshot = db.get(head.snapshot).await?;
    let shards = trees::load::<Id<Shard>>(db, snapshot.content).await.map_err(|e| incomplete(name, &e))?;
    let ids: Vec<Id<Shard>> = shards.into_values().collect();
    for chunk in ids.chunks(1000) {
        let shards = trees::objects(db, chunk).await.map_err(|e| incomplete(name, &e))?;
        for shard in shards.values() {
            for (file, entry) in &shard.entries {
                let artifact = Artifact::read(shard, file, entry)
                    .map_err(|e| Error::unsafe_(format!("channel `{name}`, {file}: {e}")))?;
                let here = match artifact.sha256 {
                    Some(digest) => have.contains(&digest) || station.store.blobs.touch(digest)?,
                    None => false,
                };
                if !here {
                    return Err(incomplete(
                        name,
                        &Error::fault(format!("the bytes of {file} are not in it")),
                    ));
                }
            }
        }
    }
    Ok(())
}
