//! Checking a bundle with nothing but a public key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::text::{Reading, Unread};
use airlock_core::bundle::{self, MANIFEST, Manifest, SIGNATURES};
use airlock_core::cut::{self, Joined};
use airlock_core::id::Digest;
use airlock_core::litter;
use airlock_core::place::FilePath;
use airlock_core::sealed;
use airlock_core::unseen::has_unseen;
use airlock_core::volume::{self, LABEL, LABEL_BYTES_MAX, ParityFile, Part};

use super::signing::{self, SignedBy, Trusted};
use super::text::Text;
use super::{media, objects, target};
use crate::error::{Error, Kind, Result, file_error};
use crate::progress::{Progress, Unit};

/// Marks a directory in which an export was broken off, and may be begun again.
pub(super) const PARTIAL: &str = "AIRLOCK.partial";

/// A bundle, or a part of one, whose manifest is signed by a known key. Its files are not looked at yet.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where it lies.
    pub dir: PathBuf,
    /// What it says, which the parts of a bundle share.
    pub manifest: Arc<Manifest>,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The key of the station that wrote it, and signed it.
    pub signer: [u8; 32],
    /// By whose word it counts.
    pub by: SignedBy,
    /// What of the bundle lies here.
    pub part: Part,
}

/// Opens a file without which a folder is no bundle.
pub(super) fn open_own(path: &Path) -> Result<File> {
    crate::files::open_regular(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::unsafe_(format!("{} is missing: this is no whole bundle", path.display()))
                .hint("give the folder that holds AIRLOCK.json; if the copy was broken off, copy it again")
        }
        _ => file_error(path)(e),
    })
}

pub(super) fn read_limited(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_own(path)?.take(most + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > most {
        return Err(too_large(path, most));
    }
    Ok(bytes)
}

pub(super) fn too_large(path: &Path, most: u64) -> Error {
    Error::unsafe_(format!("{} is larger than {most} bytes", path.display()))
}

/// Opens a bundle: its manifest must be signed by one of the keys that are trusted, or by enough of a root's.
pub fn open(dir: &Path, trusted: impl Into<Trusted>) -> Result<Opened> {
    open_text(dir, &text(dir)?, &trusted.into())
}

/// The manifest in a folder that may hold a bundle.
pub(super) fn text(dir: &Path) -> Result<Text> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is no folder", dir.display()))
            .hint("give the folder that holds AIRLOCK.json"));
    }
    if dir.join(PARTIAL).exists() {
        return Err(broken_off(dir));
    }
    Text::read(&dir.join(MANIFEST))
}

/// The same, of a folder whose manifest was found.
pub(super) fn open_text(dir: &Path, text: &Text, trusted: &Trusted) -> Result<Opened> {
    let signed = signing::check(dir, text, trusted)?;
    let manifest = parse(text)?;
    let (signer, by) = signed.of(&manifest)?;
    let part = part(dir, &manifest)?;
    let (dir, digest, manifest) = (dir.to_owned(), text.digest(), Arc::new(manifest));
    Ok(Opened { dir, manifest, digest, signer, by, part })
}

/// SHA-256 of the manifest in a folder, whoever signed it.
pub(crate) fn manifest_hash(dir: &Path) -> Result<Digest> {
    Ok(Text::read(&dir.join(MANIFEST))?.digest())
}

/// Which number of which stream the manifest in a folder says that it is, whoever signed it.
pub(super) fn claimed_number(dir: &Path) -> Option<(String, u64)> {
    #[derive(serde::Deserialize)]
    struct Claim {
        number: u64,
        stream: String,
    }
    let text = Text::read(&dir.join(MANIFEST)).ok()?;
    serde_json::from_reader::<_, Claim>(text.reader()).ok().map(|claim| (claim.stream, claim.number))
}

/// Whether the manifest in a folder says that a root comes with it, whoever signed it.
pub(super) fn claims_root(dir: &Path) -> bool {
    Text::read(&dir.join(MANIFEST)).is_ok_and(|text| signing::claimed_root(&text).is_some())
}

/// What a folder says that it holds of a bundle, which must be something that the bundle has.
fn part(dir: &Path, manifest: &Manifest) -> Result<Part> {
    let path = dir.join(LABEL);
    if !path.exists() {
        return match manifest.volumes.is_empty() {
            true => Ok(Part::Whole),
            false => Err(Error::unsafe_(format!(
                "{} is missing: nothing says which volume this is",
                path.display()
            ))
            .hint(format!(
                "write `volume N` into it, from the medium's sticker; the bundle has {}",
                manifest.volumes.len()
            ))),
        };
    }
    let text = read_limited(&path, LABEL_BYTES_MAX)?;
    let part = std::str::from_utf8(&text).ok().and_then(Part::parse);
    let is_there = |part: &Part| match part {
        Part::Whole => false,
        Part::Volume(number) => usize::try_from(*number).is_ok_and(|number| number <= manifest.volumes.len()),
        Part::Files(places) => places.last().is_none_or(|last| last < manifest.files.len() as u64),
    };
    part.filter(is_there).ok_or_else(|| {
        Error::unsafe_(format!("{} names no part of this bundle", path.display()))
            .hint("copy the volume again; if it stays so, tell your security officer")
    })
}

/// What an export that was broken off left is no bundle, whatever lies there.
fn broken_off(dir: &Path) -> Error {
    Error::unsafe_(format!("{} is no whole bundle: writing it was broken off", dir.display()))
        .hint("run the same `airlock export` again, which goes on where it stopped")
}

/// Reads a manifest and checks everything that it alone can tell.
pub(super) fn parse(text: &Text) -> Result<Manifest> {
    let mut reading = Reading::new(text.size());
    text.each(|piece| {
        reading.push(piece);
        Ok(())
    })?;
    checked(reading)
}

/// The same of one that was read to its end.
pub(super) fn checked(reading: Reading) -> Result<Manifest> {
    let bad = |what: String| Error::unsafe_(format!("{MANIFEST} {what}"));
    let manifest = reading.finish().map_err(|e| match e {
        Unread::Layout { .. } => bad(e.to_string()).hint("update this station's airlock"),
        _ => bad(e.to_string()),
    })?;
    let mut few = few(&manifest);
    let outside = |path: &FilePath| !bundle::is_bundle_path(&path.text());
    let found = few.iter().find(|path| outside(path)).cloned();
    if let Some(path) = found.or_else(|| manifest.files.iter().map(|f| f.path).find(outside)) {
        return Err(bad(format!("names a file outside the bundle: `{}`", path.text().escape_default())));
    }
    if let Some(fault) = volume::fault(&manifest).or_else(|| cut::fault(&manifest)) {
        return Err(bad(fault));
    }
    if let Some(fault) = sealed::fault(&manifest) {
        return Err(bad(fault.to_owned()));
    }
    // People read these before they sign or believe.
    let texts = [&manifest.stream, &manifest.sender.name].into_iter().chain(&manifest.recipient);
    let texts = texts.chain(manifest.channels.keys()).chain(manifest.feeds.keys()).map(String::as_str);
    let names = manifest.files.iter().map(|f| f.name).filter(|name| has_unseen(name));
    let unseen = texts.filter(|text| has_unseen(text)).map(Cow::Borrowed).chain(names).next();
    if let Some(text) = unseen {
        return Err(bad(format!("has a name that would show as something else: `{}`", text.escape_debug()))
            .hint("do not sign or import this; tell your security officer"));
    }
    // Also for media that know no capitals.
    few.sort_unstable_by(|a, b| a.cmp_lower(b));
    let of_few = few.windows(2).find(|pair| pair[0].cmp_lower(&pair[1]).is_eq()).map(|pair| pair[0].clone());
    let files = manifest.files.by_path_in_lower();
    let twice =
        of_few.or_else(|| files.twice()).or_else(|| few.into_iter().find(|path| files.find(path).is_some()));
    match twice {
        Some(path) => Err(bad(format!("names `{path}` twice"))),
        None => Ok(manifest),
    }
}

/// Every path that a manifest lists, but those of the artifacts.
fn few(manifest: &Manifest) -> Vec<FilePath> {
    let parity = manifest.parity.iter().flat_map(|p| &p.files).map(|f| f.path.as_str());
    beside(manifest).chain(parity).map(FilePath::from).collect()
}

/// The paths that are in each part.
fn beside(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let objects = manifest.objects.iter().map(|f| f.path.as_str());
    objects.chain(manifest.extra.iter().map(|f| f.path.as_str()))
}

/// Hands on every file of a directory but the manifest, the signatures, the label and what operating systems leave there: its
/// path below the directory, and whether it is an ordinary file.
pub(super) fn walk(dir: &Path, mut each: impl FnMut(&str, bool) -> Result<()>) -> Result<()> {
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let here = dir.join(&folder);
        for entry in fs::read_dir(&here).map_err(file_error(&here))? {
            let entry = entry.map_err(file_error(&here))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_own = folder.is_empty() && [MANIFEST, SIGNATURES, LABEL].contains(&name.as_str());
            if is_own || litter::is_litter(&name) {
                continue;
            }
            let kind = entry.file_type().map_err(file_error(entry.path()))?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if kind.is_dir() {
                folders.push(path);
            } else {
                each(&path, kind.is_file())?;
            }
        }
    }
    Ok(())
}

impl Opened {
    /// Opens a further part of the same bundle, whose signatures are held against `trusted` too where somebody is named: those of
    /// each part lie beside it, and may be damaged or others'.
    pub(super) fn sibling(&self, dir: &Path, trusted: Option<&Trusted>) -> Result<Self> {
        if dir.join(PARTIAL).exists() {
            return Err(broken_off(dir));
        }
        let text = Text::read(&dir.join(MANIFEST))?;
        if text.digest() != self.digest {
            return Err(Error::unsafe_(format!("{} is a part of another bundle", dir.display())));
        }
        let (signer, by) = match trusted {
            Some(trusted) => signing::check(dir, &text, trusted)?.of(&self.manifest)?,
            None => (self.signer, self.by.clone()),
        };
        let part = part(dir, &self.manifest)?;
        Ok(Self { dir: dir.to_owned(), signer, by, part, ..self.clone() })
    }

    /// Whether the medium is still where it was.
    pub(super) fn is_there(&self) -> bool {
        File::open(self.dir.join(MANIFEST)).is_ok()
    }

    /// What an error is that came while the bundle was read: if the manifest is gone too, it says nothing of the
    /// bundle, for the medium was pulled out.
    pub(super) fn unless_gone(&self, error: Error) -> Error {
        // What a scanner says was said of a copy.
        if error.kind != Kind::Unsafe || error.is_opinion || self.is_there() {
            return error;
        }
        Error::fault(format!(
            "{} is gone: the medium was pulled out, or something moved it",
            self.dir.display()
        ))
        .hint("put it back and run it again")
    }

    /// Compares the files that are there with those that are listed, by name and kind.
    pub fn check_listing(&self) -> Result<()> {
        self.listing().map_err(|e| self.unless_gone(e))
    }

    fn listing(&self) -> Result<()> {
        let missing = self.strangers()?;
        let Some(missing) = missing.first() else { return Ok(()) };
        let path = self.dir.join(missing.text());
        Err(Error::unsafe_(format!("{} is missing: the manifest lists it", path.display()))
            .hint("the copy was broken off or the medium is damaged: copy the bundle again"))
    }

    /// Refuses what the manifest does not list here, and gives what it lists and is not there.
    pub(super) fn strangers(&self) -> Result<Vec<FilePath>> {
        let m = &self.manifest;
        let few = beside(m).chain(self.parity().map(|f| f.path.as_str()));
        let mut few: BTreeMap<FilePath, bool> = few.map(|path| (path.into(), false)).collect();
        let (files, mut there) = (m.files.by_path(), vec![false; m.files.len()]);
        let is_here = |place: &usize| m.has_in(&self.part, *place);
        walk(&self.dir, |path, is_file| {
            let found = FilePath::from(path);
            let place = files.find(&found).filter(is_here);
            match place.and_then(|place| there.get_mut(place)).or_else(|| few.get_mut(&found)) {
                Some(there) => *there = true,
                None => return Err(stranger(&self.dir.join(path))),
            }
            if is_file { Ok(()) } else { Err(no_file(&self.dir.join(path))) }
        })?;
        let few = few.into_iter().filter(|(_, there)| !there).map(|(path, _)| path);
        let is_missing = |place: &u64| {
            !there.get(usize::try_from(*place).unwrap_or(usize::MAX)).is_some_and(|there| *there)
        };
        let files = m.files_of(&self.part).filter(|(place, _)| is_missing(place)).map(|(_, file)| file.path);
        Ok(few.chain(files).collect())
    }

    /// Opens a file of the bundle, which must be of this size.
    fn open_file(&self, path: &Path, size: u64) -> Result<File> {
        let file = media::open(path)?.ok_or_else(|| no_file(path))?;
        let found = file.metadata().map_err(file_error(path))?.len();
        if found == size {
            return Ok(file);
        }
        let what = if found < size { "cut short" } else { "too long" };
        Err(Error::unsafe_(format!(
            "{} is {what}: it has {found} bytes, the manifest says {size}",
            path.display(),
        ))
        .hint("the copy was broken off or the medium is damaged: copy the bundle again"))
    }

    /// Opens a file of the bundle by its path there, which must be of this size.
    pub(super) fn open(&self, path: &str, size: u64) -> Result<File> {
        self.open_file(&self.dir.join(path), size)
    }

    /// Compares a file as it lies on the medium with its hash.
    pub(super) fn check_file(
        &self,
        path: &str,
        size: u64,
        sha256: Digest,
        buffer: &mut [u8],
        mut told: impl FnMut(u64),
    ) -> Result<()> {
        self.look_through(path, size, sha256, buffer, |bytes| told(bytes.len() as u64))
    }

    /// The same, and hands on what was read.
    fn look_through(
        &self,
        path: &str,
        size: u64,
        sha256: Digest,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let path = self.dir.join(path);
        let file = self.open_file(&path, size)?;
        media::forget(&file);
        let mut hasher = Sha256::new();
        media::pass(&file, &path, buffer, |bytes| {
            hasher.update(bytes);
            each(bytes);
            Ok(())
        })?;
        let found = Digest::from_bytes(hasher.finalize().into());
        if found == sha256 { Ok(()) } else { Err(changed(&path)) }
    }

    /// Compares the files beside the artifacts with their hashes.
    pub(super) fn check_few(&self, mut told: impl FnMut(u64)) -> Result<()> {
        let mut buffer = vec![0; media::BUFFER_BYTES];
        for file in &self.manifest.extra {
            self.check_file(&file.path, file.size, file.sha256, &mut buffer, &mut told)?;
        }
        for file in &self.manifest.objects {
            self.check_file(&file.path, file.size, file.sha256, &mut buffer, &mut told)?;
        }
        Ok(())
    }

    /// The files of parity that belong here.
    pub(super) fn parity(&self) -> impl Iterator<Item = &ParityFile> {
        let all = self.manifest.parity.iter().flat_map(|p| &p.files);
        all.filter(|f| self.part.has_parity(f))
    }

    /// Bytes of all files that belong here.
    fn bytes(&self) -> u64 {
        let m = &self.manifest;
        let files = m.files_of(&self.part).map(|(_, f)| f.size);
        let few = m.objects.iter().map(|f| f.size).chain(m.extra.iter().map(|f| f.size));
        files.chain(few).chain(self.parity().map(|f| f.size)).fold(0, u64::saturating_add)
    }

    /// Compares every file, as the medium gives it back, with its hash and size, and every object with its name.
    pub fn check_files(&self, threads: usize, progress: &Progress) -> Result<()> {
        self.every_file(threads, progress).map_err(|e| self.unless_gone(e))
    }

    fn every_file(&self, threads: usize, progress: &Progress) -> Result<()> {
        let task =
            progress.task(format!("verifying {}", self.dir.display()), Unit::Bytes, Some(self.bytes()));
        self.check_few(|n| task.add(n))?;
        for file in &self.manifest.objects {
            objects::read(&self.dir, file, threads, |_| Ok(()))?;
        }
        media::each(
            &self.runs(),
            |first| {
                self.run(*first).0.map(|place| self.manifest.files.size(place)).fold(0, u64::saturating_add)
            },
            |first, buffer| {
                let (places, made) = self.run(*first);
                let mut whole = made.map(|_| Sha256::new());
                let files = || self.manifest.files.at(places.clone()).into_iter().flatten();
                for file in files() {
                    self.look_through(&file.path.text(), file.size, file.sha256, buffer, |bytes| {
                        whole.iter_mut().for_each(|whole| whole.update(bytes));
                        task.add(bytes.len() as u64);
                    })?;
                }
                let found = whole.map(|whole| Digest::from_bytes(whole.finalize().into()));
                match (files().next(), found == made.map(|made| made.sha256)) {
                    (Some(file), false) => Err(target::not_made(&file.name)),
                    _ => Ok(()),
                }
            },
        )?;
        let parity: Vec<&ParityFile> = self.parity().collect();
        media::each(
            &parity,
            |f| f.size,
            |f, buffer| self.check_file(&f.path, f.size, f.sha256, buffer, |n| task.add(n)),
        )
    }

    /// The files that belong here, each by itself; but one after another those that make one, if all of them are here. Gives the
    /// place of the first of each run.
    fn runs(&self) -> Vec<u32> {
        let (mut out, mut end) = (Vec::new(), 0);
        for place in self.manifest.files_of(&self.part).filter_map(|(place, _)| u32::try_from(place).ok()) {
            if place as usize >= end {
                end = self.run(place).0.end;
                out.push(place);
            }
        }
        out
    }

    /// The places of the run that begins at one, and what it makes.
    fn run(&self, first: u32) -> (Range<usize>, Option<&Joined>) {
        let (m, place) = (&self.manifest, first as usize);
        let is_here = |place| m.has_in(&self.part, place);
        let made = m.part_of(place).filter(|(made, before)| *before == 0 && made.places().all(is_here));
        let places = made.map_or(place..place + 1, |(made, _)| made.places());
        (places, made.map(|(made, _)| made))
    }
}

fn stranger(path: &Path) -> Error {
    Error::unsafe_(format!("{} is not in the manifest: somebody put it there", path.display()))
        .hint("do not import this; tell your security officer")
}

fn no_file(path: &Path) -> Error {
    Error::unsafe_(format!("{} is no ordinary file", path.display()))
}

pub(super) fn changed(path: &Path) -> Error {
    Error::unsafe_(format!(
        "{} was changed or is damaged: its hash is not the one in the manifest",
        path.display()
    ))
    .hint("copy the bundle again; if it stays so, tell your security officer")
}
