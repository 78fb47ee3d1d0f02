//! Taking a bundle in.
//!
//! Nothing counts before all of it is verified: artifacts are collected in an intake, which outlives a process that is
//! killed, objects are checked one by one, and only when the last byte fits do blobs get their names and refs move.
//! The bundle itself is only read.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{Base, ChannelHead, Hop, Manifest};
use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_core::root::Chain;
use airlock_core::strictness::{KEPT, THERE};
use airlock_store::{Db, Intake, Packed, RefChange};

use super::admission::{self, Entry, admission, choose};
use super::parts::{Parts, Taken};
use super::signing::{SignedBy, Trusted};
use super::verify::Opened;
use super::{ImportState, channels, objects, unfinished};
use crate::clock;
use crate::error::{Error, Kind, Result, joined};
use crate::feeds::{self, StoredHead};
use crate::people;
use crate::request;
use crate::station::{self, Station};
use crate::sync::{self, Outcome};
use crate::trust::{self, Accept, Trust};

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
    /// What came in parts, and what did not come yet: while something is missing nothing of the bundle counts, and what came
    /// waits for the rest.
    pub taken: Taken,
}

/// Verifies a bundle in one folder and takes it in.
pub async fn import(station: &Station, dir: &Path) -> Result<Report> {
    import_parts(station, &[dir.to_owned()]).await
}

/// Verifies parts of one bundle, such as volumes, and takes it in if nothing is missing with what came before. Otherwise what
/// came is kept for what [`Report::taken`] says is missing.
pub async fn import_parts(station: &Station, dirs: &[PathBuf]) -> Result<Report> {
    people::allow(station, Action::Import, None).await?;
    clock::check(station).await?;
    let trusted = trust::list(station).await?;
    let (dirs, known) = (dirs.to_owned(), Trusted::of(&trusted)?);
    let parts = joined(tokio::task::spawn_blocking(move || Parts::open(&dirs, known)).await)?;
    let trust = choose(trusted, parts.first())?;
    let m = parts.manifest();
    admission::check_names(m)?;
    let _stream = station.lease(&format!("import/{}", m.stream), "import").await?;
    let entry = admission(station, parts.first(), &trust).await?;
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
        taken: Taken::default(),
    };
    let why = format!("import {} of {}", report.number, report.stream);
    let answers = m.answers;
    if !entry.again {
        let mut leases = Vec::new();
        for name in m.channels.keys() {
            leases.push(station.lease(&format!("channel/{name}"), "import").await?);
        }
        // Judging, which follows, asks for the channels by itself.
        report.taken = take_in(station, &Arc::new(parts), &trust, &entry).await?;
        if report.taken.incomplete.is_some() {
            return Ok(report);
        }
    }
    // Also for a bundle that is in already: something may have stopped the run before it was judged.
    let judged = sync::rejudge_all(station, &why).await?;
    (report.outcomes, report.failed) = (judged.outcomes, judged.failed);
    if let Some(id) = answers {
        request::record(station, &report.stream, report.number, id).await?;
    }
    Ok(report)
}

/// Verifies all of it, then writes objects and blobs, then moves the refs. What is refused leaves no bytes behind;
/// after a fault, while parts are missing, or when a scanner says no, they wait for the next try.
async fn take_in(station: &Station, parts: &Arc<Parts>, trust: &Trust, entry: &Entry) -> Result<Taken> {
    let (bundle, store) = (parts.clone(), station.store.clone());
    let begin = move || {
        bundle.check_listing()?;
        bundle.with_objects()?;
        Ok(Arc::new(unfinished::intake(&store.blobs, bundle.first())?))
    };
    let intake = joined(tokio::task::spawn_blocking(begin).await).map_err(|e| parts.unless_gone(e))?;
    let verified = verified(station, parts, (trust, entry), &intake).await.map_err(|e| parts.unless_gone(e));
    let only = |intake| Arc::into_inner(intake).ok_or_else(|| Error::fault("an intake is in use"));
    let (taken, refs) = match verified {
        Ok((taken, _)) if taken.incomplete.is_some() => {
            let intake: Intake = only(intake)?;
            joined(tokio::task::spawn_blocking(move || Ok(intake.keep()?)).await)?;
            return Ok(taken);
        }
        Ok(whole) => whole,
        Err(error) if error.kind == Kind::Unsafe && !error.is_opinion => {
            let intake: Intake = only(intake)?;
            joined(tokio::task::spawn_blocking(move || Ok(intake.discard()?)).await)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let intake: Intake = only(intake)?;
    joined(tokio::task::spawn_blocking(move || Ok(intake.commit()?)).await)?;
    let m = parts.manifest();
    let detail = serde_json::json!({
        "number": m.number, "manifest": parts.first().digest, "sender": trust.name, "key": m.sender.public_key,
        "sender_ledger": m.ledger, "files": m.files.len(), "via": ways(parts.first()),
        "released": released(&parts.first().by),
    });
    let mut entries = vec![station::entry("bundle.import", &format!("stream/{}", m.stream), &detail)?];
    if let Some(chain) = parts.first().by.root() {
        entries.extend(trust::told(trust, chain)?);
    }
    station.commit_all(refs, Vec::new(), entries).await?;
    Ok(taken)
}

/// By whose word a bundle came in, for the ledger.
fn released(by: &SignedBy) -> serde_json::Value {
    match by {
        SignedBy::Key => serde_json::Value::Null,
        SignedBy::Root { chain, people } => serde_json::json!({
            "root": chain.newest().name, "version": chain.newest().version, "fingerprint": chain.fingerprint(), "by": people,
        }),
    }
}

/// Everything but the last step: the bytes are in the intake, the objects in the database, where nothing names them,
/// and all of it is checked. Gives the refs that are to move; while something is missing, none.
async fn verified(
    station: &Station,
    parts: &Arc<Parts>,
    (trust, entry): (&Trust, &Entry),
    intake: &Arc<Intake>,
) -> Result<(Taken, Vec<RefChange>)> {
    let (m, opened) = (parts.manifest(), parts.first());
    let (bundle, store, into) = (parts.clone(), station.store.clone(), intake.clone());
    let progress = station.options.progress.clone();
    let asked = station.config.import.clone();
    let take = move || bundle.take_files((&store, &into), &asked, &progress);
    let taken = joined(tokio::task::spawn_blocking(take).await)?;
    if taken.incomplete.is_some() {
        return Ok((taken, Vec::new()));
    }
    put_objects(station, parts).await?;
    let mut refs = Vec::new();
    for (name, head) in &m.channels {
        refs.extend(channels::refs(station, name, head, opened).await?);
    }
    let came: Arc<HashSet<Digest>> = Arc::new(m.wholes().map(|whole| whole.sha256).collect());
    for (name, head) in &m.channels {
        channels::check_bytes(station, name, head, &came).await?;
    }
    refs.extend(feed_refs(station, m, trust).await?);
    if let Some(id) = m.answers {
        request::check(station, id).await?;
    }
    let mut bundles = entry.state.as_ref().map(|s| s.bundles.clone()).unwrap_or_default();
    bundles.push(Base { number: m.number, manifest: opened.digest });
    let mut via = entry.state.as_ref().map(|s| s.via.clone()).unwrap_or_default();
    via.extend(ways(opened));
    let root = opened.by.root();
    let (public_key, owner) = (m.sender.public_key.clone(), root.map(Chain::identity));
    let state = ImportState { bundles, public_key, root: owner, ledger: m.ledger, via };
    let id = station.store.db.put(&state).await?;
    let name = format!("import/{}", m.stream);
    refs.push(RefChange { name, from: entry.from, to: Some(id.digest()) });
    refs.push(crate::retention::take(station, m, opened.digest).await?);
    // Stated, so that nothing comes in by a key that was revoked meanwhile.
    refs.extend(trust::stated(station, trust, root).await?);
    Ok((taken, refs))
}

/// The way that each channel came with this bundle, which is the last step of it.
fn ways(opened: &Opened) -> BTreeMap<String, Vec<Hop>> {
    let m = &opened.manifest;
    let bundle = Base { number: m.number, manifest: opened.digest };
    let last = Hop { bundle, sender: m.sender.clone(), stream: m.stream.clone() };
    let way = |(name, head): (&String, &ChannelHead)| {
        (name.clone(), head.via.iter().chain(std::iter::once(&last)).cloned().collect())
    };
    m.channels.iter().map(way).collect()
}

/// The feeds after the import, and the set of everything known that follows: it is made before anything is
/// committed, since a feed that lacks a record could not be used at all.
///
/// What became milder waits, unless it was said of this sender that it need not.
async fn feed_refs(station: &Station, m: &Manifest, trust: &Trust) -> Result<Vec<RefChange>> {
    let db = &station.store.db;
    let before = db.find_ref(feeds::SET).await?;
    let held = feeds::heads(station).await?;
    let (mut heads, mut came) = (held.clone(), Vec::new());
    let mut refs = Vec::new();
    for (name, head) in sent(db, m, &held).await? {
        // An older reading of a feed knows less.
        let before = held.get(&name);
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
        match kept {
            Some(kept) => heads.insert(of_it, kept),
            None => heads.remove(&of_it),
        };
    }
    let id = feeds::build(station, heads).await?;
    refs.push(RefChange { name: feeds::SET.to_owned(), from: before, to: Some(id.digest()) });
    Ok(refs)
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

/// Checks the objects and writes them, a bounded number at a time. Nothing names them yet.
async fn put_objects(station: &Station, parts: &Arc<Parts>) -> Result<()> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<Packed>>(2);
    let (bundle, threads) = (parts.clone(), station.options.threads);
    let reading = tokio::task::spawn_blocking(move || -> Result<()> {
        // Looked at again: whichever part was good before may be gone.
        let part = bundle.with_objects()?;
        for file in &part.manifest.objects {
            objects::read(&part.dir, file, threads, |batch| {
                let packed = batch.iter().map(Packed::of).collect::<std::result::Result<Vec<_>, _>>()?;
                let stopped = |_| Error::fault("the database stopped taking objects");
                sender.blocking_send(packed).map_err(stopped)
            })?;
        }
        Ok(())
    });
    let mut written = Ok(());
    while let Some(batch) = receiver.recv().await {
        written = station.store.db.put_packed(batch).await;
        if written.is_err() {
            break;
        }
    }
    drop(receiver);
    let read = joined(reading.await);
    // What the database says is the cause of what the reader says then.
    written?;
    read
}
