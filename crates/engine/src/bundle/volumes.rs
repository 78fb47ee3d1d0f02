//! Laying a bundle out over media.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airlock_core::bundle::{Manifest, ObjectFile};
use airlock_core::cut::LIMIT_MIN;
use airlock_core::id::Digest;
use airlock_core::litter;
use airlock_core::volume::{self, Part, SHARD_BYTES, Unpacked, Volume};
use airlock_store::Scratch;

use super::export::{OBJECTS, OnMedium, What};
use super::lay::Carried;
use super::layout::{self, Bounds};
use super::seals::Inside;
use super::source::{Sources, Wholes};
use super::write::{Folder, MANIFEST_LINE_BYTES};
use super::{cut, media, objects, parity, verify};
use crate::error::{Error, Result, file_error, joined};
use crate::progress::Progress;
use crate::station::Station;
use crate::work;

/// What a volume holds beside manifest, objects and files, in bytes, at most.
const BESIDE_BYTES: u64 = 256 << 10;
/// The part of a medium, one in so many, that is set apart for folders without a look at how many files there are.
const FOLDERS_SHARE: u64 = 16;
/// In steps of how many bytes a medium gives room to files whose file system is not known: clusters of FAT32 and exFAT have up
/// to so many.
const CLUSTER_BYTES: u64 = 32 << 10;

/// Where the volumes of a bundle go.
#[derive(Clone, Debug)]
pub(super) enum Media {
    /// Into these folders, each of which lies on a medium of its own, those of parity last.
    Each { dirs: Vec<PathBuf>, capacities: Vec<u64> },
    /// Into `volume-001` and so on within a folder, as many as it takes of the last capacity.
    Within { dir: PathBuf, capacities: Vec<u64> },
}

/// The media that an export is to use; none for a bundle in one folder.
pub(super) fn media(dir: &Path, what: &What) -> Result<Option<Media>> {
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(what.further.iter().cloned());
    let parity = what.parity as usize;
    if parity + 1 > volume::VOLUMES_MAX || dirs.len() > volume::VOLUMES_MAX {
        return Err(Error::usage(format!("a bundle has at most {} volumes", volume::VOLUMES_MAX)));
    }
    match (dirs.len(), what.capacities.is_empty()) {
        (1, true) if parity > 0 => Err(Error::usage("parity is for a bundle that is split over media")
            .hint("name the folders of several media, or say what one holds: --capacity 32GB")),
        (1, true) => Ok(None),
        (1, false) => Ok(Some(Media::Within { dir: dir.to_owned(), capacities: what.capacities.clone() })),
        (count, _) if parity >= count => {
            Err(Error::usage(format!("{count} folders with {parity} of parity leave none for the files"))
                .hint("name more folders, or ask for less parity"))
        }
        (count, _) => {
            let capacities = match (what.capacities.as_slice(), what.capacities.len()) {
                (_, 0) => vec![u64::MAX; count],
                ([all], _) => vec![*all; count],
                (each, given) if given == count => each.to_vec(),
                (_, given) => {
                    return Err(Error::usage(format!("{given} capacities are given for {count} folders"))
                        .hint("give --capacity once for all, or once for each"));
                }
            };
            Ok(Some(Media::Each { dirs, capacities }))
        }
    }
}

/// What media hold.
struct Room {
    /// Each of them, in bytes.
    capacities: Vec<u64>,
    /// There are as many of the last as it takes.
    grows: bool,
    /// In steps of how many bytes it is given to files.
    step: u64,
}

impl Room {
    /// What of the media is left for files, where so many lines are listed, and what each file takes beside its bytes.
    fn for_files(&self, manifest: &Manifest, lines: u64, parity: usize) -> Result<(Vec<u64>, u64)> {
        let beside = beside(manifest, lines, self.step);
        if let Some(small) = self.capacities.iter().find(|capacity| **capacity < beside) {
            return Err(too_small(*small, beside));
        }
        let (of_all, of_each) = folders(lines, &self.capacities, self.step);
        let beside = beside.saturating_add(of_all);
        let net: Vec<u64> = self.capacities.iter().map(|capacity| capacity.saturating_sub(beside)).collect();
        let (for_files, for_parity) = match self.grows {
            true => (&net[..], net.last().map_or(&[][..], std::slice::from_ref)),
            false => net.split_at(net.len() - parity),
        };
        // Parity is as long as the longest stream, and a row more.
        let longest = match for_parity.iter().min() {
            Some(least) if parity > 0 => least.saturating_sub(u64::from(SHARD_BYTES)),
            _ => u64::MAX,
        };
        Ok((for_files.iter().map(|net| (*net).min(longest)).collect(), of_each))
    }

    /// Lists the files of a manifest, which are whole so far, cut as far as they must be. Gives what is left for them, and what each
    /// takes beside its bytes.
    fn list(&self, manifest: &mut Manifest, parity: usize, limit: u64) -> Result<(Vec<u64>, u64)> {
        let mut files = std::mem::take(&mut manifest.files);
        let mut lines = files.len() as u64;
        loop {
            let (for_files, of_each) = self.for_files(manifest, lines, parity)?;
            let largest = for_files.iter().max().map_or(0, |most| most.saturating_sub(of_each));
            // What must be smaller than any limit may be finds no room, and that is said then.
            let fits = Some(largest / self.step * self.step).filter(|fits| *fits >= LIMIT_MIN);
            let limit = limit.min(fits.unwrap_or(u64::MAX));
            // Mostly none is cut, and it is not done again.
            let is_whole = files.sizes().all(|size| size <= limit);
            let all = match is_whole {
                true => std::mem::take(&mut files),
                false => files.clone(),
            };
            cut::list(manifest, all, limit)?;
            // Parts have lines, too, which leave less room.
            let listed = (manifest.files.len() + manifest.joined.len()) as u64;
            if listed <= lines {
                return Ok((for_files, of_each));
            }
            lines = listed;
        }
    }
}

/// How files are spread.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The folders of the volumes that hold files, then those of parity.
    pub dirs: Vec<PathBuf>,
    /// How many are of parity.
    pub parity: usize,
    /// The most bytes that a file may have.
    pub limit: u64,
}

impl Media {
    /// Decides which file goes where: the manifest's files get their volumes. Those that no medium has room for, or that have more than
    /// `limit` bytes, are cut.
    pub(super) fn assign(&self, manifest: &mut Manifest, parity: u32, limit: u64) -> Result<Layout> {
        let parity = parity as usize;
        let room = self.room()?;
        let (grows, step) = (room.grows, room.step);
        let (for_files, of_each) = room.list(manifest, parity, limit)?;
        let sizes: Vec<u64> = manifest.files.sizes().map(|size| rounded(size, step) + of_each).collect();
        let packed =
            volume::pack(&sizes, &for_files, grows).map_err(|e| unpacked(e, manifest, &for_files))?;
        let (of_files, _) = packed;
        let count = of_files.iter().max().copied().unwrap_or(1).max(1);
        if count as usize + parity > volume::VOLUMES_MAX {
            return Err(unpacked(Unpacked::TooMany, manifest, &for_files));
        }
        manifest.volumes = vec![Volume { bytes: 0, files: 0 }; count as usize];
        for (size, number) in manifest.files.sizes().zip(&of_files) {
            if let Some(volume) = manifest.volumes.get_mut(*number as usize - 1) {
                volume.files += 1;
                volume.bytes += size;
            }
        }
        manifest.files.set_volumes(of_files);
        manifest.format = manifest.format.max(volume::FORMAT);
        Ok(Layout { dirs: self.dirs(count as usize, parity), parity, limit })
    }

    fn room(&self) -> Result<Room> {
        match self {
            Self::Within { capacities, .. } => {
                Ok(Room { capacities: capacities.clone(), grows: true, step: CLUSTER_BYTES })
            }
            Self::Each { dirs, capacities } => {
                let mut devices = BTreeSet::new();
                let mut out = Room { capacities: Vec::new(), grows: false, step: 1 };
                for (dir, capacity) in dirs.iter().zip(capacities) {
                    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
                    let device = media::device(there)?;
                    if !devices.insert(device) && *capacity == u64::MAX {
                        return Err(Error::usage(format!(
                            "{} lies on the same medium as a folder before it",
                            dir.display()
                        ))
                        .hint("mount each medium in a folder of its own, or say what each may hold: --capacity 32GB"));
                    }
                    let (free, step) = media::free(there)?;
                    out.capacities.push(free.saturating_add(written(dir, step)?).min(*capacity));
                    out.step = out.step.max(step);
                }
                Ok(out)
            }
        }
    }

    fn dirs(&self, of_files: usize, parity: usize) -> Vec<PathBuf> {
        match self {
            Self::Within { dir, .. } => (1..=of_files + parity).map(|n| dir.join(name(n))).collect(),
            Self::Each { dirs, .. } => {
                let last = dirs.len().saturating_sub(parity);
                dirs.iter().take(of_files).chain(dirs.iter().skip(last)).cloned().collect()
            }
        }
    }

    /// An export that was broken off while it took the markers away has left some volumes that look whole. They are marked again,
    /// all of them before anything else changes, so that it begins anew with what lies there.
    fn unseal_torn(&self) -> Result<()> {
        let dirs = match self {
            Self::Within { dir, .. } => within(std::slice::from_ref(dir)),
            Self::Each { dirs, .. } => dirs.clone(),
        };
        let is_marked = |dir: &&PathBuf| dir.join(verify::PARTIAL).exists();
        let torn: BTreeSet<Digest> =
            dirs.iter().filter(is_marked).filter_map(|dir| verify::manifest_hash(dir).ok()).collect();
        for dir in dirs.iter().filter(|dir| !is_marked(dir)) {
            if verify::manifest_hash(dir).is_ok_and(|hash| torn.contains(&hash)) {
                let marker = dir.join(verify::PARTIAL);
                std::fs::write(&marker, "").map_err(file_error(&marker))?;
                media::sync(dir)?;
            }
        }
        Ok(())
    }

    /// A folder of volumes holds nothing but them: what an export left there that was broken off and had more goes away.
    fn check_within(&self, layout: &Layout) -> Result<()> {
        let Self::Within { dir, .. } = self else { return Ok(()) };
        std::fs::create_dir_all(dir).map_err(file_error(dir))?;
        for entry in std::fs::read_dir(dir).map_err(file_error(dir))? {
            let path = entry.map_err(file_error(dir))?.path();
            let called = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if litter::is_litter(&called) || layout.dirs.contains(&path) {
                continue;
            }
            if number(&called).is_some() && path.join(verify::PARTIAL).exists() {
                std::fs::remove_dir_all(&path).map_err(file_error(&path))?;
                continue;
            }
            return Err(Error::usage(format!("{} is not empty: it holds `{called}`", dir.display()))
                .hint("give a folder of its own, which is made if it does not exist"));
        }
        Ok(())
    }
}

fn rounded(bytes: u64, step: u64) -> u64 {
    bytes.div_ceil(step).saturating_mul(step)
}

/// What a volume holds beside files and parity, in bytes, where so many lines are listed.
fn beside(manifest: &Manifest, lines: u64, step: u64) -> u64 {
    let lines = lines.saturating_add(1).saturating_mul(MANIFEST_LINE_BYTES);
    let objects = manifest.objects.iter().map(|f| f.size);
    let sealed = manifest.extra.iter().map(|f| f.size);
    rounded(objects.chain(sealed).chain([lines]).sum(), step).saturating_add(BESIDE_BYTES)
}

/// Room for the folders of files, in bytes: on each medium, and for each file. Few files may have a folder each; of many it is
/// all folders that there can be, unless that were a good part of a medium.
fn folders(files: u64, capacities: &[u64], step: u64) -> (u64, u64) {
    let (all, each) = (media::room_for_folders(media::FOLDERS_MAX, step), media::room_for_folders(1, step));
    let least = capacities.iter().min().copied().unwrap_or(0);
    match files <= media::FOLDERS_MAX || all > least / FOLDERS_SHARE {
        true => (0, each),
        false => (all, each - step),
    }
}

fn mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn too_small(capacity: u64, beside: u64) -> Error {
    Error::usage(format!(
        "a medium has room for {}, and what lies on each beside the files needs {}",
        mb(capacity),
        mb(beside)
    ))
    .hint("use larger media; nothing was written")
}

fn unpacked(why: Unpacked, manifest: &Manifest, room: &[u64]) -> Error {
    let most = room.iter().max().copied().unwrap_or(0);
    match why {
        Unpacked::TooLarge(at) => {
            let file = manifest.files.get(at);
            let (name, size) = file.map_or(("a file".into(), 0), |file| (file.name, file.size));
            Error::usage(format!(
                "{name} has {}, and no medium has room for more than {} of files",
                mb(size),
                mb(most)
            ))
            .hint("use larger media")
        }
        Unpacked::NoRoom(bytes) => {
            Error::usage(format!("there is not enough room on these media: {} are missing", mb(bytes)))
                .hint("name a further folder or use larger media; nothing was written")
        }
        Unpacked::TooMany => Error::usage(format!("it would take more than {} media", volume::VOLUMES_MAX))
            .hint("use larger media, or export channel by channel"),
    }
}

/// What a volume's folder is called.
pub(super) fn name(number: usize) -> String {
    format!("volume-{number:03}")
}

/// The number of a folder that is called as volumes are.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("volume-").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// What an export that was broken off has written into a folder, in bytes.
fn written(dir: &Path, step: u64) -> Result<u64> {
    let mut sum = 0u64;
    if dir.join(verify::PARTIAL).exists() {
        verify::walk(dir, |path, _| {
            let size = std::fs::metadata(dir.join(path)).map_or(0, |meta| meta.len());
            sum = sum.saturating_add(rounded(size, step));
            Ok(())
        })?;
    }
    Ok(sum)
}

/// Volumes that lie on one file system have to fit there together, with what lies beside their files and with parity.
fn check_room(layout: &Layout, manifest: &Manifest) -> Result<()> {
    let of_files = manifest.volumes.len();
    let longest = manifest.volumes.iter().map(|volume| volume.bytes).max().unwrap_or(0);
    let parity = longest.next_multiple_of(u64::from(SHARD_BYTES));
    let mut needed: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (number, dir) in layout.dirs.iter().enumerate() {
        let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let device = media::device(there)?;
        let (_, step) = media::free(there)?;
        let of_it = |volume: Option<u32>| volume.is_some_and(|volume| volume as usize == number + 1);
        let files = manifest.files.iter().filter(|file| of_it(file.volume));
        let content = match number < of_files {
            true => files.clone().map(|file| rounded(file.size, step)).sum(),
            false => rounded(parity, step),
        };
        let folders = media::room_for_folders(files.count() as u64, step);
        let lines = (manifest.files.len() + manifest.joined.len()) as u64;
        let all = content + folders + beside(manifest, lines, step);
        let sum = needed.entry(device).or_insert((there, 0));
        sum.1 += all.saturating_sub(written(dir, step)?);
    }
    needed.into_values().try_for_each(|(there, needed)| media::check_room(there, needed))
}

/// The folders that hold the parts of bundles: those that are named, and those of the volumes within them.
pub fn within(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for dir in dirs {
        let mut volumes: Vec<(u32, PathBuf)> = Vec::new();
        if !dir.join(airlock_core::bundle::MANIFEST).exists()
            && let Ok(entries) = std::fs::read_dir(dir)
        {
            let entries = entries.filter_map(|entry| entry.ok());
            volumes
                .extend(entries.filter_map(|e| Some((number(&e.file_name().to_string_lossy())?, e.path()))));
        }
        volumes.sort();
        match volumes.is_empty() {
            true => out.push(dir.clone()),
            false => out.extend(volumes.into_iter().map(|(_, path)| path)),
        }
    }
    out
}

/// Spreads a bundle over media and writes its objects, files and parity there.
pub(super) async fn lay_out(
    station: &Station,
    media: Media,
    (parity, bounds): (u32, Bounds),
    (mut manifest, ids, inside): Carried<'_>,
) -> Result<(Vec<Folder>, Manifest)> {
    let (own, beside) = objects_of(station, &mut manifest, ids, inside).await?;
    cut::check_objects(&manifest, bounds.file)?;
    let layout = media.assign(&mut manifest, parity, bounds.file)?;
    layout::check(&manifest, bounds.reads)?;
    let wholes = Wholes::of(&station.store.blobs, inside.map(|inside| inside.files.clone()));
    let progress = station.options.progress.clone();
    let whole = move || {
        media.unseal_torn()?;
        media.check_within(&layout)?;
        check_room(&layout, &manifest)?;
        cut::hash_parts(&wholes, &mut manifest, &progress)?;
        let sources = Sources::of(&wholes, &manifest);
        let written = fill(&layout, &beside, &sources, manifest, &progress)?;
        drop(own);
        Ok(written)
    };
    joined(tokio::task::spawn_blocking(whole).await)
}

/// Where the objects of a bundle lie that go onto each volume: those of a sealed one are there. Holds the folder that is made for
/// those of another.
pub(super) async fn objects_of(
    station: &Station,
    manifest: &mut Manifest,
    ids: &BTreeSet<Digest>,
    inside: Option<&Inside>,
) -> Result<(Option<Scratch>, PathBuf)> {
    if let Some(inside) = inside {
        return Ok((None, inside.beside.path().to_owned()));
    }
    let (beside, file) = objects_beside(station, ids).await?;
    manifest.objects = vec![file];
    let path = beside.path().to_owned();
    Ok((Some(beside), path))
}

/// Writes the objects beside the station, since their size decides what else fits.
pub(super) async fn objects_beside(
    station: &Station,
    ids: &BTreeSet<Digest>,
) -> Result<(Scratch, ObjectFile)> {
    let beside = work::folder(&station.dir)?;
    let folder = beside.path().join("objects");
    std::fs::create_dir(&folder).map_err(file_error(&folder))?;
    let objects = objects::write(&station.store.db, beside.path(), OBJECTS, ids).await?;
    Ok((beside, objects))
}

fn fill(
    layout: &Layout,
    objects: &Path,
    sources: &Sources,
    manifest: Manifest,
    progress: &Progress,
) -> Result<(Vec<Folder>, Manifest)> {
    let mut folders = Vec::new();
    for (number, dir) in (1u32..).zip(&layout.dirs) {
        let folder = Folder::prepare(dir, Part::Volume(number), &manifest)?;
        folder.copy_objects(objects, &manifest)?;
        folders.push(folder);
    }
    for folder in &folders {
        folder.copy(sources, &manifest, progress)?;
    }
    let of_files = folders.len() - layout.parity;
    let manifest = match folders.get(of_files..) {
        Some(of_parity) if !of_parity.is_empty() => {
            parity::write(of_parity, sources, manifest, layout.limit, progress)?
        }
        _ => manifest,
    };
    Ok((folders, manifest))
}

/// What each volume holds, of a bundle whose parity is not made yet.
pub(super) fn planned(layout: &Layout, manifest: &Manifest) -> Vec<OnMedium> {
    let mut out = told(&layout.dirs, manifest);
    let longest = manifest.volumes.iter().map(|volume| volume.bytes).max().unwrap_or(0);
    let bytes = longest.next_multiple_of(u64::from(SHARD_BYTES));
    let of_parity = layout.dirs.iter().enumerate().skip(out.len());
    out.extend(of_parity.map(|(at, folder)| OnMedium {
        folder: folder.clone(),
        volume: u32::try_from(at + 1).ok(),
        bytes,
        files: 0,
        parity: true,
        seconds: None,
    }));
    out
}

/// What each volume holds.
pub(super) fn told(dirs: &[PathBuf], manifest: &Manifest) -> Vec<OnMedium> {
    let of_files = manifest.volumes_of_files();
    let told = |(at, (folder, volume)): (usize, (&PathBuf, &Volume))| OnMedium {
        folder: folder.clone(),
        volume: u32::try_from(at + 1).ok(),
        bytes: volume.bytes,
        files: volume.files,
        parity: at >= of_files,
        seconds: None,
    };
    dirs.iter().zip(&manifest.volumes).enumerate().map(told).collect()
}
