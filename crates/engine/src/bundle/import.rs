//! Taking a bundle in.
//!
//! Nothing counts before all of it is verified: artifacts are collected in an intake, which outlives a process that is
//! killed, objects are checked one by one, and only when the last byte fits do blobs get their names and refs move.
//! The bundle itself is only read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlock_core::bundle::{Base, ChannelHead, Hop, Manifest};
use airlock_core::roles::Action;
use airlock_core::root::Chain;
use airlock_store::{Intake, Packed, RefChange};

use super::admission::{self, Entry, choose};
use super::brought::{self, Brought, Intakes};
use super::channels::Arrived;
use super::feeds::Known;
use super::parts::{Came, Parts, Taken};
use super::preview::Plan;
use super::signing::{SignedBy, Trusted};
use super::verify::Opened;
use super::{ImportState, channels, feeds, heard, objects, preview, waiting};
use crate::boxed;
use crate::clock;
use crate::error::{Error, Kind, Result, joined};
use crate::history;
use crate::people;
use crate::proposals;
use crate::request;
use crate::station::{self, Station};
use crate::sync::{self, Outcome};
use crate::trust::{self, Trust};

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
    /// That this station told the sender of a past that it does not have any more.
    pub forgotten: Option<String>,
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
    /// What taking it in would do, where that was all that was asked.
    pub plan: Option<Plan>,
    /// That it waits for a second person: nothing of it counts but what it says more strictly of vulnerabilities.
    pub waits: Option<Error>,
}

/// How a person wants a bundle taken in.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only say what would change: what came stays in the intake, so that taking it in is quick then.
    pub plan: bool,
    /// It may be older than what is in, for this reason.
    pub back: Option<String>,
}

/// Verifies a bundle in one folder and takes it in.
pub async fn import(station: &Station, dir: &Path) -> Result<Report> {
    import_parts(station, &[dir.to_owned()]).await
}

/// Verifies parts of one bundle, such as volumes, and takes it in if nothing is missing with what came before. Otherwise what
/// came is kept for what [`Report::taken`] says is missing.
pub async fn import_parts(station: &Station, dirs: &[PathBuf]) -> Result<Report> {
    import_with(station, dirs, &Wish::default()).await
}

/// The same, as a person wishes it.
#[boxed]
pub async fn import_with(station: &Station, dirs: &[PathBuf], wish: &Wish) -> Result<Report> {
    may_import(station, wish).await?;
    clock::check(station).await?;
    let trusted = trust::list(station).await?;
    let (dirs, known) = (dirs.to_owned(), Trusted::of(&trusted)?);
    let parts = Arc::new(joined(tokio::task::spawn_blocking(move || Parts::open(&dirs, known)).await)?);
    let trust = choose(trusted, parts.first())?;
    admission::check_names(parts.manifest())?;
    let _stream = station.lease(&format!("import/{}", parts.manifest().stream), "import").await?;
    let (entry, mut bundle) = brought::admit(station, parts, &trust, wish.back.is_some()).await?;
    let inner = bundle.inner().clone();
    let m = inner.manifest();
    let mut report =
        Report { forgotten: heard::forgotten(station, m).await?, ..Report::of(m, &trust, &entry) };
    let why = format!("import {} of {}", report.number, report.stream);
    if entry.again && wish.plan {
        return Ok(report);
    }
    if !entry.again {
        let mut leases = Vec::new();
        for name in m.channels.keys() {
            leases.push(station.lease(&format!("channel/{name}"), "import").await?);
        }
        // Judging, which follows, asks for the channels by itself.
        take_in(station, &mut bundle, (&trust, &entry, wish), &mut report).await?;
        if report.taken.incomplete.is_some() || report.plan.is_some() || report.waits.is_some() {
            return Ok(report);
        }
    }
    let answers = m.answers;
    // What it lists may be long, and judging needs nothing of it.
    drop((bundle, inner));
    // Also for a bundle that is in already: something may have stopped the run before it was judged.
    let judged = sync::rejudge_all(station, &why).await?;
    (report.outcomes, report.failed) = (judged.outcomes, judged.failed);
    if let Some(id) = answers {
        request::record(station, &report.stream, report.number, id).await?;
    }
    Ok(report)
}

/// Whether whoever acts may take in a bundle, and go back to an older one.
pub(super) async fn may_import(station: &Station, wish: &Wish) -> Result<()> {
    people::allow(station, Action::Import, None).await?;
    let Some(reason) = &wish.back else { return Ok(()) };
    people::allow(station, Action::Rollback, None).await?;
    match reason.trim().is_empty() {
        true => Err(Error::usage("going back needs a reason")
            .hint("say why the older bundle is right with --reason TEXT")),
        false => Ok(()),
    }
}

impl Report {
    fn of(m: &Manifest, trust: &Trust, entry: &Entry) -> Self {
        let last = entry.state.as_ref().and_then(|s| s.bundles.last()).map_or(0, |b| b.number);
        Self {
            sender: trust.name.clone(),
            stream: m.stream.clone(),
            number: m.number,
            again: entry.again,
            skipped: m.number.saturating_sub(last.saturating_add(1)),
            forgotten: None,
            files: m.files.len() as u64,
            bytes: m.files.bytes(),
            outcomes: Vec::new(),
            failed: None,
            taken: Taken::default(),
            plan: None,
            waits: None,
        }
    }
}

/// Verifies all of it, then writes objects and blobs, then moves the refs, or says what that would do. What is refused leaves
/// no bytes behind; after a fault, while parts are missing or a second person is, or when a scanner says no, they wait for
/// the next try.
async fn take_in(
    station: &Station,
    bundle: &mut Brought,
    (trust, entry, wish): (&Trust, &Entry, &Wish),
    report: &mut Report,
) -> Result<()> {
    let (brought, store) = (bundle.clone(), station.store.clone());
    let begin = move || {
        brought.outer.check_listing()?;
        brought.outer.with_objects()?;
        Ok(Arc::new(Intakes::open(&store, &brought)?))
    };
    let intake = joined(tokio::task::spawn_blocking(begin).await).map_err(|e| bundle.outer.unless_gone(e))?;
    let verified = verified(station, bundle, (trust, entry), &intake).await;
    let verified = verified.map_err(|e| bundle.outer.unless_gone(e));
    let (bundle, parts) = (&*bundle, bundle.inner());
    let intake: Intakes = match &verified {
        Err(error) if error.kind != Kind::Unsafe || error.is_opinion => return verified.map(|_| ()),
        _ => Arc::into_inner(intake).ok_or_else(|| Error::fault("an intake is in use"))?,
    };
    let keep = async |intake: Intakes| joined(tokio::task::spawn_blocking(move || intake.keep()).await);
    let found = match verified {
        Ok(found) => found,
        Err(error) => {
            joined(tokio::task::spawn_blocking(move || intake.discard()).await)?;
            return Err(error);
        }
    };
    report.taken = found.taken;
    let Some(would) = found.would else { return keep(intake).await };
    if entry.back {
        would.check_back(station).await?;
    }
    if wish.plan {
        (report.plan, report.outcomes) = preview::preview(station, &would, entry.back)
            .await
            .map(|(plan, outcomes)| (Some(plan), outcomes))?;
        return keep(intake).await;
    }
    let act = waiting::act(parts, trust, wish.back.as_ref().filter(|_| entry.back));
    if proposals::would_wait(station, &act) {
        keep(intake).await?;
        let (waits, judged) = waiting::wait(station, bundle, (act, &would, entry.back)).await?;
        (report.outcomes, report.failed) = (judged.outcomes, judged.failed);
        report.waits = Some(waits);
        return Ok(());
    }
    if let Err(no) = proposals::gate(station, act).await {
        // Nobody is logged in by whom it could be proposed: what it says more strictly waits for nobody all the same.
        keep(intake).await?;
        let (_, judged) = waiting::tighten(station, parts).await?;
        if let Some(error) = judged.failed {
            tracing::warn!("a channel was not judged by what the bundle says more strictly: {error}");
        }
        return Err(no);
    }
    let brought = bundle.clone();
    let travelled = joined(tokio::task::spawn_blocking(move || intake.commit(&brought)).await)?;
    would.known.set.keep(station).await?;
    commit(station, parts, (trust, entry, wish), (would, report.forgotten.as_deref())).await?;
    // What was in it counts, whatever becomes of what travelled.
    if let Some(Err(error)) = travelled.map(Intake::discard) {
        tracing::warn!("what travelled of the bundle stays for a while: {error}");
    }
    Ok(())
}

/// Moves the refs, and says so.
async fn commit(
    station: &Station,
    parts: &Parts,
    (trust, entry, wish): (&Trust, &Entry, &Wish),
    (would, forgotten): (Would, Option<&str>),
) -> Result<()> {
    let m = parts.manifest();
    let mut detail = serde_json::json!({
        "number": m.number, "manifest": parts.first().digest, "sender": trust.name, "key": m.sender.public_key,
        "sender_ledger": m.ledger, "files": m.files.len(), "via": ways(parts.first()),
        "released": released(&parts.first().by),
    });
    if let Some(reason) = wish.back.as_ref().filter(|_| entry.back) {
        detail["back"] = reason.trim().into();
    }
    if let Some(forgotten) = forgotten {
        detail["forgotten"] = forgotten.into();
    }
    let mut entries = vec![station::entry("bundle.import", &format!("stream/{}", m.stream), &detail)?];
    if let Some(chain) = parts.first().by.root() {
        entries.extend(trust::told(trust, chain)?);
    }
    station.commit_all(would.refs(), Vec::new(), entries).await
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

/// What taking in a bundle would do, all of which is verified.
pub(super) struct Would {
    /// Its channels.
    pub channels: Vec<Arrived>,
    /// What is known of vulnerabilities then.
    pub known: Known,
    /// What else moves.
    rest: Vec<RefChange>,
}

impl Would {
    /// Everything that moves.
    fn refs(self) -> Vec<RefChange> {
        let channels = self.channels.into_iter().flat_map(|channel| channel.refs);
        channels.chain(self.known.refs).chain(self.rest).collect()
    }

    /// Going back brings nothing back that something speaks against by now.
    async fn check_back(&self, station: &Station) -> Result<()> {
        for Arrived { channel, upstream, facts, .. } in self.channels.iter().filter(|c| !c.is_new) {
            history::check_comes_back(station, channel, (*upstream, Some(*facts))).await?;
        }
        Ok(())
    }
}

/// What was verified.
struct Verified {
    taken: Taken,
    /// None while something is missing.
    would: Option<Would>,
}

/// Everything but the last step: the bytes are in the intake, the objects in the database, where nothing names them,
/// and all of it is checked. Gives what is to move; while something is missing, nothing.
#[boxed]
async fn verified(
    station: &Station,
    bundle: &mut Brought,
    (trust, entry): (&Trust, &Entry),
    intakes: &Arc<Intakes>,
) -> Result<Verified> {
    let taken = brought::collect(station, bundle, intakes).await?;
    if taken.incomplete.is_some() {
        return Ok(Verified { taken, would: None });
    }
    bundle.forget_travelled();
    let parts = bundle.inner();
    let (m, opened) = (parts.manifest(), parts.first());
    put_objects(station, parts).await?;
    let mut channels = Vec::new();
    for (name, head) in &m.channels {
        channels.push(channels::arrived(station, name, head, opened).await?);
    }
    let came = Arc::new(Came::of(parts.clone()));
    for (name, head) in &m.channels {
        channels::check_bytes(station, name, head, &came).await?;
    }
    let known = feeds::known(station, m, trust).await?;
    if let Some(id) = m.answers {
        request::check(station, id).await?;
    }
    let root = opened.by.root();
    let mut rest = vec![stream(station, opened, entry).await?];
    rest.push(crate::retention::take(station, m, opened.digest).await?);
    // Stated, so that nothing comes in by a key that was revoked meanwhile.
    rest.extend(trust::stated(station, trust, root).await?);
    Ok(Verified { taken, would: Some(Would { channels, known, rest }) })
}

/// What this station remembers of the stream then.
async fn stream(station: &Station, opened: &Opened, entry: &Entry) -> Result<RefChange> {
    let m = &opened.manifest;
    let (public_key, owner) = (m.sender.public_key.clone(), opened.by.root().map(Chain::identity));
    let fresh = || ImportState {
        bundles: Vec::new(),
        public_key: public_key.clone(),
        root: None,
        ledger: m.ledger,
        via: BTreeMap::new(),
        stands_at: None,
        written: None,
    };
    let mut state = entry.state.clone().unwrap_or_else(fresh);
    state.take(Base { number: m.number, manifest: opened.digest });
    state.via.extend(ways(opened));
    // Who goes back forgets nothing of what was seen since.
    if !entry.back {
        (state.public_key, state.root, state.ledger) = (public_key, owner, m.ledger);
        state.written = Some(m.created);
    }
    let id = station.store.db.put(&state).await?;
    Ok(RefChange { name: format!("import/{}", m.stream), from: entry.from, to: Some(id.digest()) })
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
