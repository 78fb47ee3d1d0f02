//! Laying out a bundle that is written: in one folder, over media, or for media that follow.

use std::collections::BTreeSet;
use std::path::Path;

use airlock_core::bundle::Manifest;
use airlock_core::id::Digest;
use airlock_core::volume::Part;
use airlock_store::Scratch;

use super::export::{OBJECTS, OnMedium, What};
use super::layout::{self, Bounds};
use super::seals::Inside;
use super::source::{Sources, Wholes};
use super::write::Folder;
use super::{cut, objects, turns, volumes};
use crate::error::{Result, joined};
use crate::station::Station;

/// A bundle that lies where it is to lie, but for what people read, and its manifest.
pub(super) struct Laid {
    pub folders: Vec<Folder>,
    pub manifest: Manifest,
    /// What its volumes hold, where they follow.
    pub volumes: Vec<OnMedium>,
    /// Holds the folder of a bundle whose volumes follow.
    _beside: Option<Scratch>,
}

/// Brings a bundle's objects and files to where they are to lie.
pub(super) async fn lay(
    station: &Station,
    (dir, what): (&Path, &What),
    (media, bounds): (Option<volumes::Media>, Bounds),
    carried: Carried<'_>,
) -> Result<Laid> {
    let (folders, manifest) = match (media, what.volume) {
        (Some(media), Some(volume)) => {
            let (beside, folder, manifest) = turns::decide(station, (media, volume), bounds, carried).await?;
            let volumes = volumes::told(&vec![dir.to_owned(); manifest.volumes.len()], &manifest);
            return Ok(Laid { folders: vec![folder], manifest, volumes, _beside: Some(beside) });
        }
        (Some(media), None) => volumes::lay_out(station, media, (what.parity, bounds), carried).await?,
        (None, _) => in_one(station, dir, bounds, carried).await?,
    };
    Ok(Laid { folders, manifest, volumes: Vec::new(), _beside: None })
}

/// What a bundle carries: what it lists, its objects, and where it is sealed what is in it.
pub(super) type Carried<'a> = (Manifest, &'a BTreeSet<Digest>, Option<&'a Inside>);

/// A bundle in one folder: the artifacts and the objects.
async fn in_one(
    station: &Station,
    dir: &Path,
    bounds: Bounds,
    (mut manifest, ids, inside): Carried<'_>,
) -> Result<(Vec<Folder>, Manifest)> {
    let (into, beside) = (dir.to_owned(), inside.map(|inside| inside.beside.path().to_owned()));
    let begin = move || {
        let files = std::mem::take(&mut manifest.files);
        cut::list(&mut manifest, files, bounds.file)?;
        cut::check_objects(&manifest, bounds.file)?;
        layout::check(&manifest, bounds.reads)?;
        let folder = Folder::prepare(&into, Part::Whole, &manifest)?;
        beside.map(|beside| folder.copy_objects(&beside, &manifest)).transpose()?;
        Ok((folder, manifest))
    };
    let (folder, mut manifest) = joined(tokio::task::spawn_blocking(begin).await)?;
    if inside.is_none() {
        manifest.objects = vec![objects::write(&station.store.db, dir, OBJECTS, ids).await?];
        cut::check_objects(&manifest, bounds.file)?;
    }
    let wholes = Wholes::of(&station.store.blobs, inside.map(|inside| inside.files.clone()));
    let progress = station.options.progress.clone();
    let fill = move || {
        folder.check_room_left(&manifest)?;
        cut::hash_parts(&wholes, &mut manifest, &progress)?;
        folder.copy(&Sources::of(&wholes, &manifest), &manifest, &progress)?;
        Ok((folder, manifest))
    };
    let (folder, manifest) = joined(tokio::task::spawn_blocking(fill).await)?;
    Ok((vec![folder], manifest))
}
