//! Collecting what nothing needs.
//!
//! Everything that a ref leads to is marked, as far as [`crate::retention`] keeps it, and everything that
//! something young leads to: whoever works at this moment wrote it, or began with what a ref pointed to a while ago.
//! Only then is removed what is neither marked nor young, in short transactions that look once more whether it is.
//! So it runs beside every other command, and stopping it anywhere leaves nothing but garbage.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_core::time::Span;
use airlock_store::Stored;

use crate::boxed;
use crate::bundle::unfinished::{self, Unfinished};
use crate::bundle::waiting;
use crate::error::{Error, Result, joined};
use crate::graph::Role;
use crate::people;
use crate::progress::Unit;
use crate::station::Station;
use crate::walk::{self, Need, Place, Roots, Walk};
use crate::{channel, downloads, foreign, retention, work};

/// What is younger than this is kept, unless somebody says otherwise: longer than any command runs.
pub const GRACE: Span = Span::days(1);
/// Objects that are removed in one transaction.
const REMOVED_AT_ONCE: usize = 200;
/// The longest pause between two transactions: others write there.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How often everything that moved is marked as well before it is given up.
const ROUNDS: usize = 20;

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Only say what would be removed.
    pub dry: bool,
    /// How long something must have been there untouched.
    pub grace: Span,
    /// The system's time: files and objects carry it, whatever the station's clock says.
    pub now: SystemTime,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was removed because nothing was to be.
    pub dry_run: bool,
    /// Snapshots that are kept, by channel.
    pub snapshots_kept: BTreeMap<String, u64>,
    /// Snapshots that are not.
    pub snapshots_removed: u64,
    /// Files that are listed no longer, by channel.
    pub unlisted: BTreeMap<String, u64>,
    /// Objects that stay.
    pub objects_kept: u64,
    /// Objects that went.
    pub objects_removed: u64,
    /// Their bytes in the database.
    pub object_bytes: u64,
    /// Blobs that stay.
    pub blobs_kept: u64,
    /// Blobs that went.
    pub blobs_removed: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Files that killed imports of trees had unpacked.
    pub unpacked_removed: u64,
    /// Their bytes.
    pub unpacked_bytes: u64,
    /// Bundles that began to come in and are not whole; what came of those that can never be was removed.
    pub unfinished: Vec<Unfinished>,
    /// What was left in staging.
    pub staged_removed: u64,
    /// Its bytes.
    pub staged_bytes: u64,
    /// Names of shards that ended.
    pub names_removed: u64,
    /// Rows of the download log that were older than it is kept.
    pub downloads_removed: u64,
    /// Bytes in the database file that are free to be used again; the file does not shrink.
    pub database_free_bytes: u64,
}

/// Collects.
///
/// # Errors
///
/// If something that is needed is missing: what only it leads to could not be told from garbage.
#[boxed]
pub async fn gc(station: &Station, how: How) -> Result<Report> {
    if !how.dry {
        people::allow(station, Action::Maintain, None).await?;
    }
    let _lease = station.lease("gc", "gc").await?;
    let db = &station.store.db;
    let mut report = Report { dry_run: how.dry, ..Report::default() };
    if !how.dry {
        for channel in channel::list(station).await? {
            let files = retention::let_go(station, &channel.name).await?;
            if files > 0 {
                report.unlisted.insert(channel.name, files);
            }
        }
        report.names_removed = end_names(station).await?;
        report.downloads_removed = downloads::expire(station).await?;
        waiting::tidy(station).await?;
        let dir = station.dir.clone();
        joined(tokio::task::spawn_blocking(move || work::sweep(&dir)).await)?;
    }
    let cutoff = how.cutoff();
    let inventory = db.inventory().await?;
    let here: HashSet<Digest> = inventory.iter().map(|stored| stored.id).collect();
    let mut walk = Walk::new(station, &here);
    let roots = mark(station, &mut walk, &inventory, cutoff.seconds).await?;
    report.snapshots_kept = roots.kept;
    let is_old = |stored: &&Stored| stored.born < cutoff.seconds && !walk.objects.contains(&stored.id);
    let old: Vec<Stored> = inventory.iter().filter(is_old).copied().collect();
    report.objects_kept = (inventory.len() - old.len()) as u64;
    remove_objects(station, how, &old, &roots.dropped, &mut report).await?;
    remove_blobs(station, how, &walk, &mut report).await?;
    let blobs = station.store.blobs.clone();
    let staged =
        joined(tokio::task::spawn_blocking(move || Ok(blobs.sweep_staging(cutoff.time, how.dry)?)).await)?;
    (report.staged_removed, report.staged_bytes) = staged;
    (report.unpacked_removed, report.unpacked_bytes) = foreign::sweep(station, how.dry).await?;
    report.unfinished = unfinished::sweep(station, how.dry).await?;
    report.database_free_bytes = db.free_bytes().await?;
    if !how.dry && report.objects_removed + report.blobs_removed > 0 {
        station.commit(Vec::new(), "store.collect", "store", &serde_json::to_value(&report)?).await?;
    }
    Ok(report)
}

/// What is older may go.
#[derive(Clone, Copy)]
struct Cutoff {
    time: SystemTime,
    seconds: i64,
}

impl How {
    fn cutoff(&self) -> Cutoff {
        let grace = Duration::from_secs(u64::try_from(self.grace.as_seconds()).unwrap_or(0));
        let time = self.now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Cutoff { time, seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX) }
    }
}

async fn end_names(station: &Station) -> Result<u64> {
    let now = station.now().await?;
    let mut all = 0;
    loop {
        let began = Instant::now();
        let ended = station.store.db.end_names(now).await?;
        all += ended;
        if ended == 0 {
            return Ok(all);
        }
        pause(began).await;
    }
}

/// Leaves the database to others for as long as it was taken.
async fn pause(began: Instant) {
    tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
}

/// Marks everything that is needed. Refs that move meanwhile are followed too.
async fn mark(station: &Station, walk: &mut Walk<'_>, inventory: &[Stored], cutoff: i64) -> Result<Roots> {
    let db = &station.store.db;
    let mut refs = db.refs("").await?;
    let roots = walk::roots(station, &refs, |_| true).await?;
    walk.go(roots.needs.clone(), true).await?;
    // What somebody wrote or left behind a while ago, with all that it leads to, as far as that is here.
    let young = inventory.iter().filter(|stored| stored.born >= cutoff);
    let need = |stored: &Stored| Need { id: stored.id, role: Role::Any, place: Place::of("what is new") };
    walk.go(young.map(need).collect(), false).await?;
    for _ in 0..ROUNDS {
        let now = db.refs("").await?;
        if now == refs {
            return match walk.flaws.first() {
                None => Ok(roots),
                Some(flaw) => Err(damaged(flaw)),
            };
        }
        let moved = walk::roots(station, &now, |name| refs.get(name) != now.get(name)).await?;
        walk.go(moved.needs, true).await?;
        refs = now;
    }
    Err(Error::fault("this station changes faster than it can be looked through; nothing was removed")
        .hint("run it again when less is going on"))
}

fn damaged(flaw: &walk::Flaw) -> Error {
    let what = flaw.what.as_deref().unwrap_or("it is missing");
    Error::fault(format!("object {} is needed by {}, and {what}; nothing was removed", flaw.id, flaw.place))
        .hint("find out what is damaged with `airlock fsck`")
}

async fn remove_objects(
    station: &Station,
    how: How,
    old: &[Stored],
    dropped: &[Digest],
    report: &mut Report,
) -> Result<()> {
    let ids: Vec<Digest> = old.iter().map(|stored| stored.id).collect();
    let going: HashSet<&Digest> = ids.iter().collect();
    report.snapshots_removed = dropped.iter().filter(|id| going.contains(id)).count() as u64;
    if how.dry {
        report.objects_removed = old.len() as u64;
        report.object_bytes = old.iter().map(|stored| stored.size).sum();
        return Ok(());
    }
    let task = station.options.progress.task("removing objects", Unit::Objects, Some(old.len() as u64));
    let before = how.cutoff().seconds;
    for ids in ids.chunks(REMOVED_AT_ONCE) {
        let began = Instant::now();
        let (count, bytes) = station.store.db.remove_old(ids, before).await?;
        report.objects_removed += count;
        report.object_bytes += bytes;
        task.add(ids.len() as u64);
        pause(began).await;
    }
    Ok(())
}

async fn remove_blobs(station: &Station, how: How, walk: &Walk<'_>, report: &mut Report) -> Result<()> {
    let before = how.cutoff().time;
    let needed: HashSet<Digest> = walk.blobs.keys().copied().collect();
    let blobs = station.store.blobs.clone();
    let remove = move || -> Result<(u64, u64, u64)> {
        let (mut kept, mut count, mut bytes) = (0, 0, 0);
        for folder in blobs.folders() {
            for lying in folder? {
                let is_old = lying.since < before && !needed.contains(&lying.digest);
                let removed = match (is_old, how.dry) {
                    (false, _) => None,
                    (true, true) => Some(lying.size),
                    (true, false) => blobs.remove_old(lying.digest, before)?,
                };
                match removed {
                    Some(size) => {
                        count += 1;
                        bytes += size;
                    }
                    None => kept += 1,
                }
            }
        }
        Ok((kept, count, bytes))
    };
    let done = joined(tokio::task::spawn_blocking(remove).await)?;
    (report.blobs_kept, report.blobs_removed, report.blob_bytes) = done;
    Ok(())
}
