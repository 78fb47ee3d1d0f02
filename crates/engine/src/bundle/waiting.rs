//! A bundle that waits for a second person.
//!
//! Its files are in the intake that is named after its manifest, and all else of it is kept beside the store, so that whoever
//! confirms needs no medium: the folder is taken in like any other, verified from its signature to its last byte. What is
//! proposed is the manifest's hash, and nothing else is done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airlock_core::bundle::{MANIFEST, SIGNATURES};
use airlock_core::id::Digest;
use airlock_core::volume::{LABEL, Part, Ranges};
use airlock_store::Lease;

use super::brought::Brought;
use super::import::{self, Wish, Would};
use super::parts::Parts;
use super::preview::{self, Proposed};
use super::{feeds, media, unfinished};
use crate::error::{Error, Result, file_error, joined};
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::sync::{self, Rejudged};
use crate::trust::Trust;
use crate::work;

/// Where they are kept, in the station's folder.
const FOLDER: &str = "waiting";

/// The act of taking in a bundle.
pub(super) fn act(parts: &Parts, trust: &Trust, back: Option<&String>) -> Act {
    let m = parts.manifest();
    Act::Import {
        stream: m.stream.clone(),
        number: m.number,
        manifest: parts.first().digest,
        sender: trust.name.clone(),
        channels: m.channels.keys().cloned().collect(),
        back: back.map(|reason| reason.trim().to_owned()),
    }
}

fn folder(station: &Station, manifest: Digest) -> PathBuf {
    station.dir.join(FOLDER).join(manifest.to_string())
}

/// Whether a second person is asked about the bundle with this manifest.
pub(super) fn is_kept(station: &Station, manifest: &str) -> bool {
    station.dir.join(FOLDER).join(manifest).join(LABEL).exists()
}

/// Proposes to take in what is verified, and keeps it until then. What it says more strictly counts at once. Gives that it
/// waits, in words, and what was judged anew.
pub(super) async fn wait(
    station: &Station,
    bundle: &Brought,
    (act, would, back): (Act, &Would, bool),
) -> Result<(Error, Rejudged)> {
    let (stricter, judged) = tighten(station, bundle.inner()).await?;
    // After that: what is shown is what the second person's word changes.
    let shown = match preview::preview(station, would, back).await {
        Ok((plan, _)) => Some(Proposed { plan, stricter }),
        // A channel that cannot be judged keeps no bundle from being proposed.
        Err(error) => {
            tracing::warn!("what the bundle would change cannot be shown: {error}");
            None
        }
    };
    let waits = match proposals::gate_shown(station, act, shown).await {
        Err(waits) => waits,
        Ok(()) => return Err(Error::fault("a bundle that is to wait was let in").hint("run it again")),
    };
    // After it was proposed, so that nobody takes it for one that does not wait any more.
    let (to, bundle) = (folder(station, bundle.outer.first().digest), bundle.outer.clone());
    let beside = station.dir.clone();
    joined(tokio::task::spawn_blocking(move || keep(&bundle, &beside, &to)).await)?;
    tidy(station).await?;
    Ok((waits, judged))
}

/// What a bundle says more strictly counts before anybody lets it in. Judged is always: a run that was killed may have left that
/// over. Gives how much that is, by feed, and what was judged: a channel that cannot be keeps no bundle from being proposed.
pub(super) async fn tighten(station: &Station, parts: &Parts) -> Result<(BTreeMap<String, u64>, Rejudged)> {
    let m = parts.manifest();
    let stricter = feeds::tighten(station, m).await?;
    let judged = sync::rejudge_all(station, &format!("bundle {} of {} waits", m.number, m.stream)).await?;
    Ok((stricter, judged))
}

/// Copies all but the files.
fn keep(parts: &Parts, beside: &Path, to: &Path) -> Result<()> {
    // Those by which it counts, whatever lies on the other media.
    let signatures = parts.first().dir.join(SIGNATURES);
    if to.exists() {
        // What was damaged since is made anew.
        let is_signed = std::fs::read(to.join(SIGNATURES)).ok() == std::fs::read(&signatures).ok();
        let is_labelled = std::fs::read(to.join(LABEL)).is_ok_and(|label| label == own_label().as_bytes());
        match parts.first().sibling(to, None).and_then(|kept| kept.check_few(|_| ())) {
            Ok(()) if is_signed && is_labelled => return Ok(()),
            _ => {}
        }
    }
    let part = parts.with_objects()?;
    let m = &part.manifest;
    media::check_room(beside, media::room_for(m.objects.iter().map(|f| f.size)))?;
    let scratch = work::beside(beside)?;
    let folder = scratch.path().join("bundle");
    let listed = m.objects.iter().map(|f| &f.path).chain(m.extra.iter().map(|f| &f.path));
    let listed = listed.map(|path| (path.as_str(), part.dir.join(path)));
    let own = [(MANIFEST, part.dir.join(MANIFEST)), (SIGNATURES, signatures)];
    for (path, from) in own.into_iter().chain(listed) {
        let into = folder.join(path);
        let above = into.parent().unwrap_or(&folder);
        std::fs::create_dir_all(above).map_err(file_error(above))?;
        std::fs::copy(&from, &into).map_err(file_error(&from))?;
    }
    let label = folder.join(LABEL);
    std::fs::write(&label, own_label()).map_err(file_error(&label))?;
    let above = to.parent().unwrap_or(beside);
    std::fs::create_dir_all(above).map_err(file_error(above))?;
    // The proposal outlives a power failure, and so does what it is about.
    media::sync(&folder)?;
    if to.exists() {
        remove(beside, to)?;
    }
    match std::fs::rename(&folder, to) {
        // Another process kept the same.
        Err(_) if to.exists() => Ok(()),
        renamed => renamed.map_err(file_error(to)),
    }?;
    media::sync(above)
}

/// The label of what is kept: none of the files lie there.
fn own_label() -> String {
    format!("{}\n", Part::Files(Ranges::default()))
}

/// Removes what is kept of a bundle. It has no name any more before the first file of it goes: half of it would pass for it.
fn remove(beside: &Path, kept: &Path) -> Result<()> {
    let scratch = work::beside(beside)?;
    std::fs::rename(kept, scratch.path().join("bundle")).map_err(file_error(kept))
}

/// Lets go of bundles that wait no longer: of what is kept of them, and of what came of them.
pub(crate) async fn tidy(station: &Station) -> Result<()> {
    // Otherwise something is taken in that was just confirmed, and so is named by no proposal: it goes with the next.
    let Ok(_lease) = station.lease(FOLDER, "tidying").await else { return Ok(()) };
    // Before the proposals are read: a folder is made after its proposal, so that none is taken for one that lost it.
    let kept = folders(station)?;
    if kept.is_empty() {
        return Ok(());
    }
    let waits: BTreeSet<String> = proposals::list(station)
        .await?
        .iter()
        .filter_map(|proposal| match &proposal.act {
            Act::Import { manifest, .. } => Some(manifest.to_string()),
            _ => None,
        })
        .collect();
    for path in kept {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The folder last, since by it the next run knows of the rest.
        if !waits.contains(&name) && unfinished::forget(station, &name).await? {
            remove(&station.dir, &path)?;
        }
    }
    Ok(())
}

/// The same where something else was done that counts whatever becomes of it.
pub(crate) async fn tidy_after(station: &Station) {
    if let Err(error) = tidy(station).await {
        tracing::warn!("what is kept of a bundle that waits no longer stays: {error}");
    }
}

fn folders(station: &Station) -> Result<Vec<PathBuf>> {
    let folder = station.dir.join(FOLDER);
    match std::fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => {
            let all = read.map_err(file_error(&folder))?;
            all.map(|entry| Ok(entry.map_err(file_error(&folder))?.path())).collect()
        }
    }
}

/// Keeps what is kept of bundles from being let go of while one is taken in: once its proposal is closed nothing names it.
pub(crate) async fn hold(station: &Station) -> Result<Lease> {
    station.lease(FOLDER, "confirming").await
}

/// Whether what is kept of a bundle is there, which is asked before a proposal is closed.
///
/// # Errors
///
/// The answer is no where it is gone.
pub(crate) fn check(station: &Station, manifest: Digest) -> Result<()> {
    match folder(station, manifest).join(LABEL).exists() {
        true => Ok(()),
        false => Err(gone()),
    }
}

fn gone() -> Error {
    Error::no("what was kept of the bundle that waits is gone")
        .hint("import the bundle again, as whoever proposed it did; then it can be confirmed")
}

/// Takes in what waited.
pub(crate) async fn take(station: &Station, manifest: Digest, back: Option<String>) -> Result<Rejudged> {
    let dirs = [folder(station, manifest)];
    let report = import::import_with(station, &dirs, &Wish { plan: false, back }).await?;
    if report.taken.incomplete.is_some() {
        return Err(gone());
    }
    Ok(Rejudged { outcomes: report.outcomes, failed: report.failed })
}
