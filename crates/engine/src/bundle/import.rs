//! Taking a bundle in.
//!
//! Nothing counts before all of it is verified: artifacts are collected in an intake, which outlives a process that is
//! killed, objects are checked one by one, and only when the last byte fits do blobs get their names and refs move.
//! The bundle itself is only read.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{Base, BundledFile, Manifest};
use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_core::strictness::{KEPT, THERE};
use airlock_store::{Db, Intake, Packed, RefChange, Store, StoreError};

use super::admission::{self, Entry, admission, choose};
use super::verify::{self, Opened};
use super::{ImportState, channels, media, objects};
use crate::error::{Error, Kind, Result, joined};
use crate::feeds::{self, StoredHead};
use crate::people;
use crate::progress::{Progress, Unit};
use crate::request;
use crate::station::Station;
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
}

/// Verifies a bundle and takes it in.
pub async fn import(station: &Station, dir: &Path) -> Result<Report> {
    people::allow(station, Action::Import, None).await?;
    let trusted = trust::list(station).await?;
    let keys: Vec<[u8; 32]> =
        trusted.iter().filter_map(|t| airlock_core::hex::decode(&t.public_key)).collect();
    let (path, known) = (dir.to_owned(), keys.clone());
    let opened = joined(tokio::task::spawn_blocking(move || verify::open(&path, &known)).await)?;
    let trust = choose(trusted, &opened)?;
    admission::check_names(&opened.manifest)?;
    let _stream = station.lease(&format!("import/{}", opened.manifest.stream), "import").await?;
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
    let answers = opened.manifest.answers;
    if !entry.again {
        let mut leases = Vec::new();
        for name in opened.manifest.channels.keys() {
            leases.push(station.lease(&format!("channel/{name}"), "import").await?);
        }
        // Judging, which follows, asks for the channels by itself.
        take_in(station, &Arc::new(opened), &trust, &entry).await?;
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
/// after a fault they wait for the next try.
async fn take_in(station: &Station, opened: &Arc<Opened>, trust: &Trust, entry: &Entry) -> Result<()> {
    let (bundle, store) = (opened.clone(), station.store.clone());
    let begin = move || {
        bundle.check_listing()?;
        bundle.check_few(|_| ())?;
        Ok(Arc::new(store.blobs.intake(&bundle.digest.to_string())?))
    };
    let intake = joined(tokio::task::spawn_blocking(begin).await).map_err(|e| opened.unless_gone(e))?;
    let verified =
        verified(station, opened, (trust, entry), &intake).await.map_err(|e| opened.unless_gone(e));
    let only = |intake| Arc::into_inner(intake).ok_or_else(|| Error::fault("an intake is in use"));
    let refs = match verified {
        Ok(refs) => refs,
        Err(error) if error.kind == Kind::Unsafe => {
            let intake: Intake = only(intake)?;
            joined(tokio::task::spawn_blocking(move || Ok(intake.discard()?)).await)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let intake: Intake = only(intake)?;
    joined(tokio::task::spawn_blocking(move || Ok(intake.commit()?)).await)?;
    let m = &opened.manifest;
    let detail = serde_json::json!({
        "number": m.number, "manifest": opened.digest, "sender": trust.name, "key": m.sender.public_key,
        "sender_ledger": m.ledger, "files": m.files.len(),
    });
    station.commit(refs, "bundle.import", &format!("stream/{}", m.stream), &detail).await
}

/// Everything but the last step: the bytes are in the intake, the objects in the database, where nothing names them,
/// and all of it is checked. Gives the refs that are to move.
async fn verified(
    station: &Station,
    opened: &Arc<Opened>,
    (trust, entry): (&Trust, &Entry),
    intake: &Arc<Intake>,
) -> Result<Vec<RefChange>> {
    let m = &opened.manifest;
    let (bundle, store, into) = (opened.clone(), station.store.clone(), intake.clone());
    let progress = station.options.progress.clone();
    joined(tokio::task::spawn_blocking(move || take_files(&bundle, &store, &into, &progress)).await)?;
    put_objects(station, opened).await?;
    let mut refs = Vec::new();
    for (name, head) in &m.channels {
        refs.extend(channels::refs(station, name, head, opened).await?);
    }
    let came: Arc<HashSet<Digest>> = Arc::new(m.files.iter().map(|f| f.sha256).collect());
    for (name, head) in &m.channels {
        channels::check_bytes(station, name, head, &came).await?;
    }
    refs.extend(feed_refs(station, m, trust).await?);
    if let Some(id) = m.answers {
        request::check(station, id).await?;
    }
    let mut bundles = entry.state.as_ref().map(|s| s.bundles.clone()).unwrap_or_default();
    bundles.push(Base { number: m.number, manifest: opened.digest });
    let state = ImportState { bundles, public_key: m.sender.public_key.clone(), ledger: m.ledger };
    let id = station.store.db.put(&state).await?;
    let name = format!("import/{}", m.stream);
    refs.push(RefChange { name, from: entry.from, to: Some(id.digest()) });
    refs.push(crate::retention::take(station, m, opened.digest).await?);
    // Stated, so that nothing comes in by a key that was revoked meanwhile.
    let trusted = Some(airlock_core::object::encode(trust)?.0.digest());
    refs.push(RefChange { name: format!("trust/{}", trust.name), from: trusted, to: trusted });
    Ok(refs)
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

/// Checks every file, and takes in those that the store does not have.
fn take_files(opened: &Opened, store: &Store, intake: &Intake, progress: &Progress) -> Result<()> {
    let m = &opened.manifest;
    check_room(opened, store, intake)?;
    let total = m.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    let task = progress.task(format!("taking in {}", opened.dir.display()), Unit::Bytes, Some(total));
    media::each(
        &m.files,
        |f| f.size,
        |file, buffer| {
            // What is not written again must not be collected meanwhile.
            if store.blobs.touch(file.sha256)? {
                return opened.check_file(&file.path, file.size, file.sha256, buffer, |n| task.add(n));
            }
            if intake.holds(file.sha256, file.size, buffer)? {
                task.add(file.size);
                return Ok(());
            }
            let mut incoming = intake.begin(file.sha256)?;
            opened.pass(&file.path, file.size, buffer, |bytes| {
                task.add(bytes.len() as u64);
                Ok(incoming.write(bytes)?)
            })?;
            incoming.finish().map_err(|e| match e {
                StoreError::Hash { .. } => verify::changed(&opened.dir.join(&file.path)),
                other => other.into(),
            })
        },
    )
}

/// There must be room for what the store does not have, and for the objects.
fn check_room(opened: &Opened, store: &Store, intake: &Intake) -> Result<()> {
    let m = &opened.manifest;
    let is_missing = |f: &&BundledFile| store.blobs.find(f.sha256).is_none() && !intake.may_hold(f.sha256);
    let files = m.files.iter().filter(is_missing).map(|f| f.size);
    media::check_room(store.blobs.root(), media::room_for(files.chain(m.objects.iter().map(|f| f.size))))
}

/// Checks the objects and writes them, a bounded number at a time. Nothing names them yet.
async fn put_objects(station: &Station, opened: &Arc<Opened>) -> Result<()> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<Packed>>(2);
    let (bundle, threads) = (opened.clone(), station.options.threads);
    let reading = tokio::task::spawn_blocking(move || -> Result<()> {
        for file in &bundle.manifest.objects {
            objects::read(&bundle.dir, file, threads, |batch| {
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
