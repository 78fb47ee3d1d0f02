//! Writing parts of a bundle once more, for a receiver that has the rest of it: a lost volume, or single files.
//!
//! They come under the same manifest and number, so that whatever was signed then is what is taken in now. For that the manifest
//! of each bundle is kept beside the store, for as long as a delta may rest on it; nothing else refers to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airlock_core::bundle::{Base, MANIFEST_BYTES_MAX, Manifest, Missing, README, ROOT};
use airlock_core::id::Id;
use airlock_core::roles::Action;
use airlock_core::root::ROOT_BYTES_MAX;
use airlock_core::volume::Part;

use super::export::{self, Report};
use super::gather;
use super::source::{Sources, Wholes};
use super::text::{Pieces, Text};
use super::write::Folder;
use super::{ExportState, media, seals, verify, volumes};
use crate::error::{Error, Result, file_error, joined};
use crate::people;
use crate::retention;
use crate::station::Station;

/// Where manifests are kept, in the station's folder.
const SENT: &str = "sent";
/// What the inner manifest of a sealed bundle is kept as.
const INNER: &str = "inner";
/// How the name of the note ends that a bundle was written to its end.
const WRITTEN: &str = "written";
/// zstd level of what is kept.
const ZSTD_LEVEL: i32 = 3;
/// Longest page for people, in bytes.
const README_BYTES_MAX: u64 = 1 << 20;

/// Keeps what is needed to write parts of a bundle again: its manifest, the inner one where it is sealed, and of what is written its page for people and its root.
pub(super) fn keep(station: &Path, (manifest, inner): (&Text, Option<&Text>), written: &Path) -> Result<()> {
    let folder = station.join(SENT);
    std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
    let place = |what| folder.join(format!("{}.{what}.zst", manifest.digest()));
    keep_one(&folder, &place("json"), |sink| manifest.each(sink))?;
    inner.map_or(Ok(()), |inner| keep_one(&folder, &place(INNER), |sink| inner.each(sink)))?;
    for (what, name) in [("txt", README), ("root", ROOT)] {
        let path = written.join(name);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(file_error(&path))?;
            keep_one(&folder, &place(what), |sink| sink(&bytes))?;
        }
    }
    Ok(())
}

fn keep_one(folder: &Path, path: &Path, pieces: impl FnOnce(&mut Pieces<'_>) -> Result<()>) -> Result<()> {
    let file = tempfile::NamedTempFile::new_in(folder).map_err(file_error(folder))?;
    let mut packed = zstd::Encoder::new(file, ZSTD_LEVEL).map_err(file_error(path))?;
    pieces(&mut |piece| packed.write_all(piece).map_err(file_error(path)))?;
    let file = packed.finish().map_err(file_error(path))?;
    file.persist(path).map_err(|e| file_error(path)(e.error))?;
    Ok(())
}

/// Notes that a bundle was written to its end, with its signature: a delta may rest on it though nobody answered that it came.
pub(super) fn note_written(station: &Path, bundle: Base) -> Result<()> {
    let path = written(station, bundle);
    std::fs::write(&path, "").map_err(file_error(&path))
}

/// Whether that was noted.
pub(super) fn was_written(station: &Path, bundle: Base) -> bool {
    written(station, bundle).exists()
}

fn written(station: &Path, bundle: Base) -> PathBuf {
    station.join(SENT).join(format!("{}.{WRITTEN}", bundle.manifest))
}

/// How long what is kept stays, whether anything names it or not: an export keeps it before it takes its number, since nothing of it may be
/// missing then, and another one may end in between.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Lets go of what is kept of bundles on which no delta may rest any more.
pub(super) async fn tidy(station: &Station) -> Result<()> {
    let mut needed = BTreeSet::new();
    for (name, id) in station.store.db.refs("export/").await? {
        let state: ExportState = station.store.db.get(Id::new(id)).await?;
        let stream = name.strip_prefix("export/").unwrap_or(&name);
        let kept = retention::exported(station, stream, state).await?;
        needed.extend(kept.map(|sent| sent.bundle.manifest.to_string()));
    }
    let folder = station.dir.join(SENT);
    for entry in std::fs::read_dir(&folder).map_err(file_error(&folder))? {
        let path = entry.map_err(file_error(&folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_needed = name.split('.').next().is_some_and(|digest| needed.contains(digest));
        let is_ours = name.ends_with(".zst") || name.ends_with(WRITTEN);
        if !is_needed && is_ours && !is_fresh(&path) {
            std::fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    Ok(())
}

/// What was written by a clock that was ahead is fresh until this one has passed it.
fn is_fresh(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|meta| meta.modified());
    written.is_ok_and(|at| at.elapsed().map_or(true, |age| age < FRESH))
}

/// What is kept of a bundle, as it was before it was packed.
fn unpacked(station: &Path, bundle: Base, what: &str) -> Result<(PathBuf, impl Read)> {
    let path = station.join(SENT).join(format!("{}.{what}.zst", bundle.manifest));
    let again = || format!("what is missing of bundle {} cannot be written again", bundle.number);
    let file = File::open(&path)
        .map_err(|e| file_error(&path)(e).while_(&again()).hint("export anew, with --full"))?;
    let unpacked = zstd::Decoder::new(file).map_err(file_error(&path))?;
    Ok((path, unpacked))
}

/// Something short.
fn kept(station: &Path, bundle: Base, what: &str, most: u64) -> Result<String> {
    let (path, unpacked) = unpacked(station, bundle, what)?;
    let mut text = String::new();
    unpacked.take(most).read_to_string(&mut text).map_err(file_error(&path))?;
    Ok(text)
}

/// A manifest, which lies unpacked beside the station for as long as it is asked for.
struct Kept {
    text: Text,
    file: File,
}

impl Kept {
    fn of(station: &Path, bundle: Base, what: &str) -> Result<Self> {
        let (path, unpacked) = unpacked(station, bundle, what)?;
        let folder = station.join(SENT);
        // It has no name, so that nothing stays of it when this process is killed.
        let mut file = tempfile::tempfile_in(&folder).map_err(file_error(&folder))?;
        let mut buffer = vec![0; media::BUFFER_BYTES];
        media::pass(unpacked.take(MANIFEST_BYTES_MAX + 1), &path, &mut buffer, |bytes| {
            file.write_all(bytes).map_err(file_error(&folder))
        })?;
        let again = file.try_clone().map_err(file_error(&folder))?;
        Ok(Self { text: Text::of(again, &path, changed)?, file })
    }
}

/// What was kept is another one by now.
fn changed(path: &Path) -> Error {
    Error::fault(format!("what was kept as {} was changed", path.display())).hint("export anew, with --full")
}

/// Writes what a receiver lacks of a bundle of this stream, as its receipt says. Nothing else moves: no number is taken.
pub async fn resend(station: &Station, dir: &Path, stream: &str, missing: &Missing) -> Result<Report> {
    let wrong = |what| Error::unsafe_(what).hint("ask the receiving station for a new receipt");
    again(station, dir, stream, (missing, wrong)).await
}

/// The same, whoever asks for it: it is they who are told if that is no part of the bundle.
pub(super) async fn again(
    station: &Station,
    dir: &Path,
    stream: &str,
    (missing, wrong): (&Missing, impl Fn(String) -> Error),
) -> Result<Report> {
    people::allow(station, Action::Export, None).await?;
    let _lease = station.lease(&export::state_ref(stream), "export").await?;
    let bundle = missing.bundle;
    let (_, state) = export::state(&station.store.db, stream).await?;
    if !state.bundles.iter().any(|sent| sent.bundle == bundle) {
        return Err(gather::never_written(bundle));
    }
    let Kept { text, .. } = Kept::of(&station.dir, bundle, "json")?;
    let page = kept(&station.dir, bundle, "txt", README_BYTES_MAX)?;
    if text.digest() != bundle.manifest {
        return Err(Error::fault(format!("what was kept of bundle {} was changed", bundle.number))
            .hint("export anew, with --full"));
    }
    let manifest = verify::parse(&text)?;
    let parts = parts(dir, missing, &manifest).map_err(wrong)?;
    let inner = inner(station, bundle, &manifest)?;
    let content = inner.as_ref().map_or(&manifest, |(inner, _)| inner);
    let ids = gather::objects_of(station, &state, content).await?;
    let (objects, again) = volumes::objects_beside(station, &ids).await?;
    let mut files = None;
    if let Some((inner, kept)) = &inner {
        let inner = (inner, (&kept.text, &kept.file));
        files = Some(seals::again(station, &manifest, inner, objects.path(), &again)?);
    } else if manifest.objects != [again] {
        return Err(Error::fault(format!(
            "the objects of bundle {} do not come out as they were",
            bundle.number
        ))
        .hint("another version of airlock wrote it: export anew, with --full"));
    }
    let has_root = manifest.extra.iter().any(|file| file.path == ROOT);
    let root = if has_root { Some(kept(&station.dir, bundle, "root", ROOT_BYTES_MAX)?) } else { None };
    let signature = station.key.sign_text(&text)?.to_string();
    let (sources, progress) =
        (Sources::of(&Wholes::of(&station.store.blobs, files), &manifest), station.options.progress.clone());
    let mut report = report(&manifest, &parts, ids.len() as u64);
    report.channels = content.channels.keys().cloned().collect();
    let whole = move || {
        let mut folders = Vec::new();
        for (path, part) in parts {
            let folder = Folder::prepare(&path, part, &manifest)?;
            folder.copy_objects(objects.path(), &manifest)?;
            folder.copy(&sources, &manifest, &progress)?;
            folder.put_readme(&page)?;
            root.as_ref().map(|text| folder.write_root(text)).transpose()?;
            folder.sync()?;
            folder.read_back(&sources, &manifest, &progress)?;
            folder.write_manifest(|sink| text.each(sink))?;
            folders.push(folder);
        }
        Ok(folders)
    };
    let folders = joined(tokio::task::spawn_blocking(whole).await)?;
    // Before anything is signed, so that nothing leaves of which the ledger does not tell.
    let detail = serde_json::json!({"missing": missing, "files": report.files, "bytes": report.bytes});
    station.commit(Vec::new(), "bundle.resend", &format!("stream/{stream}"), &detail).await?;
    folders.iter().try_for_each(|folder| folder.sign(&signature))?;
    Ok(report)
}

/// What is in a sealed bundle, and the text that says so.
fn inner(station: &Station, bundle: Base, outer: &Manifest) -> Result<Option<(Manifest, Kept)>> {
    if outer.sealed.is_none() {
        return Ok(None);
    }
    let kept = Kept::of(&station.dir, bundle, INNER)?;
    Ok(Some((verify::parse(&kept.text)?, kept)))
}

/// The parts that are written, and where: one in the folder itself, several in folders like those of volumes.
fn parts(
    dir: &Path,
    missing: &Missing,
    manifest: &Manifest,
) -> std::result::Result<Vec<(PathBuf, Part)>, String> {
    let is_there = |number: &u32| (1..=manifest.volumes_of_files()).contains(&(*number as usize));
    let within = missing.files.last().is_none_or(|last| last < manifest.files.len() as u64);
    let is_once = missing.volumes.is_sorted_by(|a, b| a < b);
    let is_some = !missing.volumes.is_empty() || !missing.files.is_empty();
    if !missing.volumes.iter().all(is_there) || !within || !is_once || !is_some {
        let (volumes, files) = (manifest.volumes_of_files(), manifest.files.len());
        return Err(format!(
            "what is asked for is no part of bundle {}, which has {volumes} volumes of files, and {files} files",
            manifest.number
        ));
    }
    let mut out: Vec<(usize, Part)> =
        missing.volumes.iter().map(|number| (*number as usize, Part::Volume(*number))).collect();
    if !missing.files.is_empty() {
        out.push((0, Part::Files(missing.files.clone())));
    }
    let is_one = out.len() == 1;
    let place = |number| if is_one { dir.to_owned() } else { dir.join(volumes::name(number)) };
    Ok(out.into_iter().map(|(number, part)| (place(number), part)).collect())
}

fn report(manifest: &Manifest, parts: &[(PathBuf, Part)], objects: u64) -> Report {
    let mut report = export::report(manifest, objects, 0);
    (report.files, report.bytes) = (0, 0);
    for (folder, part) in parts {
        let (mut files, mut bytes) = (0, 0);
        manifest.files_of(part).for_each(|(_, file)| (files, bytes) = (files + 1, bytes + file.size));
        report.files += files;
        report.bytes += bytes;
        let volume = if let Part::Volume(number) = part { Some(*number) } else { None };
        let folder = folder.clone();
        report.volumes.push(export::OnMedium { folder, volume, bytes, files, parity: false, seconds: None });
    }
    report.left_out = manifest.files.len() as u64 - report.files.min(manifest.files.len() as u64);
    report
}
