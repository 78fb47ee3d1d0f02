//! Media that are put in one after another, as where a machine takes one at a time.
//!
//! What each volume holds is known by hashes before any is written. So a bundle is decided first: its manifest is made, signed and
//! remembered with its number. Each volume is then written as what is missing of it ([`super::resend`]), on whichever day its medium is
//! there. Parity is known only when all files were read: it is for those who have all media at once.

use std::path::Path;

use airlock_core::bundle::{Manifest, Missing};
use airlock_core::volume::{Part, Ranges};
use airlock_store::Scratch;

use super::export::{self, Report, What};
use super::lay::Carried;
use super::layout::{self, Bounds};
use super::source::Wholes;
use super::volumes::{self, Media};
use super::write::{self, Folder};
use super::{cut, resend};
use crate::error::{Error, Result, joined};
use crate::station::Station;
use crate::work;

/// Whether a bundle can be begun so.
pub(super) fn check(dir: &Path, what: &What) -> Result<()> {
    if what.volume.is_none() {
        return Ok(());
    }
    if what.parity > 0 {
        return Err(Error::usage("parity cannot be made for media that are put in one after another: it is known when all were written")
            .hint("name all media in one call, or make the volumes in one folder and copy them; or leave out --parity"));
    }
    if what.capacities.is_empty() || !what.further.is_empty() {
        return Err(Error::usage(
            "volumes that are written one after another need to know what each medium holds",
        )
        .hint(
            "give one folder, and --capacity for each medium, the last one counting for all further ones",
        ));
    }
    write::check_free(dir)
}

/// Decides over a bundle of which this volume is written first. Gives a folder that holds all of it but its files.
pub(super) async fn decide(
    station: &Station,
    (media, volume): (Media, u32),
    bounds: Bounds,
    (mut manifest, ids, inside): Carried<'_>,
) -> Result<(Scratch, Folder, Manifest)> {
    let (own, objects) = volumes::objects_of(station, &mut manifest, ids, inside).await?;
    cut::check_objects(&manifest, bounds.file)?;
    media.assign(&mut manifest, 0, bounds.file)?;
    layout::check(&manifest, bounds.reads)?;
    if volume == 0 || volume as usize > manifest.volumes.len() {
        return Err(Error::usage(format!(
            "there is no volume {volume}: it takes {}",
            manifest.volumes.len()
        ))
        .hint("begin with --volume 1; nothing was written"));
    }
    let beside = work::folder(&station.dir)?;
    let into = beside.path().join("bundle");
    let wholes = Wholes::of(&station.store.blobs, inside.map(|inside| inside.files.clone()));
    let progress = station.options.progress.clone();
    let whole = move || {
        let folder = Folder::prepare(&into, Part::Files(Ranges::default()), &manifest)?;
        folder.copy_objects(&objects, &manifest)?;
        drop(own);
        cut::hash_parts(&wholes, &mut manifest, &progress)?;
        Ok((folder, manifest))
    };
    let (folder, manifest) = joined(tokio::task::spawn_blocking(whole).await)?;
    Ok((beside, folder, manifest))
}

/// Writes the first volume of a bundle that was decided.
pub(super) async fn begin(station: &Station, dir: &Path, volume: u32, report: &Report) -> Result<()> {
    let written = volume_of(station, dir, &report.stream, volume).await;
    written.map(|_| ()).map_err(|e| {
        e.while_(&format!("bundle {} is decided and none of it is written yet", report.number)).hint(format!(
            "mend that, then go on with it: `airlock export DIR --volume {volume}`, without --capacity"
        ))
    })
}

/// Writes a volume of the last bundle of a stream, under the manifest that was signed for all.
pub async fn volume_of(station: &Station, dir: &Path, stream: &str, volume: u32) -> Result<Report> {
    let (_, state) = export::state(&station.store.db, stream).await?;
    let Some(last) = state.bundles.last() else {
        return Err(Error::usage(format!("no bundle of stream `{stream}` was begun"))
            .hint("say what the media hold: --capacity SIZE --volume 1"));
    };
    let missing = Missing { bundle: last.bundle, volumes: vec![volume], files: Ranges::default() };
    let wrong =
        |what| Error::usage(what).hint("name a volume that it has with --volume; nothing was written");
    resend::again(station, dir, stream, (&missing, wrong)).await
}
