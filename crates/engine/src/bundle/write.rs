//! The folder that a bundle, or a part of one, is written into.
//!
//! From its first byte on to its last a marker says that it is no bundle yet. Whoever finds the marker goes on: what
//! lies there is believed as far as it hashes to what it should be.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use airlock_core::bundle::{BundledFile, ExtraFile, MANIFEST, Manifest, README, ROOT, SIGNATURES};
use airlock_core::id::Digest;
use airlock_core::litter;
use airlock_core::place::FilePath;
use airlock_core::volume::{LABEL, Part};

use super::media;
use super::source::{self, Source, Sources};
use super::text::{Pieces, Text};
use super::verify::{self, PARTIAL};
use crate::error::{Error, Kind, Result, file_error};
use crate::progress::{Progress, Unit};

/// What one file adds to the manifest, in bytes.
pub(super) const MANIFEST_LINE_BYTES: u64 = 300;

/// Prints what a folder holds, as `sha256sum` reads it: the label says which files. It stands in double quotes of a shell.
const SUMS: &str = "import json, os; m = json.load(open('AIRLOCK.json')); \
    kind, what = open('AIRLOCK.volume').read().split() if m.get('volumes') or os.path.exists('AIRLOCK.volume') else ('all', '0'); \
    n = int(what) if kind == 'volume' else None; \
    assert kind in ('all', 'files') or kind == 'volume' and 1 <= n <= len(m['volumes']); \
    ranges = [[int(end) for end in (r.split('-') * 2)[:2]] for r in what.split(',') if kind == 'files' and r != 'none']; \
    assert kind != 'files' or ranges or not m['files']; \
    files = [f for at, f in enumerate(m['files']) if kind == 'all' or n and f.get('volume') == n or any(a <= at <= b for a, b in ranges)]; \
    parity = [f for f in m.get('parity', {}).get('files', []) if f['volume'] == n]; \
    [print(f['sha256'] + '  ' + f['path']) for f in m['objects'] + m['extra'] + files + parity]";

/// The folder of a bundle that is being written.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// Something lies there from an export that was broken off.
    is_resumed: bool,
    /// What of the bundle it is for.
    part: Part,
}

impl Folder {
    /// Makes the folder, which must hold nothing but what an export left that was broken off: of that stays what belongs to
    /// this part. There must be room for its files.
    pub fn prepare(dir: &Path, part: Part, manifest: &Manifest) -> Result<Self> {
        fs::create_dir_all(dir).map_err(file_error(dir))?;
        let marker = dir.join(PARTIAL);
        let is_resumed = marker.exists();
        let folder = Self { dir: dir.to_owned(), is_resumed, part };
        let count = folder.files(manifest).count() as u64;
        if is_resumed {
            // Before anything changes: a signature is the last thing that a bundle gets.
            for name in [SIGNATURES, MANIFEST] {
                remove(&dir.join(name))?;
            }
            folder.remove_leftovers(manifest)?;
        } else {
            check_empty(dir)?;
        }
        let folders = media::room_for_folders(count, media::free(dir)?.1);
        folder.check_room(manifest, if is_resumed { 0 } else { folders })?;
        fs::write(&marker, "").map_err(file_error(&marker))?;
        let mut folders: BTreeSet<String> = BTreeSet::from(["files", "objects"].map(str::to_owned));
        for file in folder.files(manifest) {
            let path = file.path.text();
            if let Some((folder, _)) = path.rsplit_once('/').filter(|(folder, _)| !folders.contains(*folder))
            {
                folders.insert(folder.to_owned());
            }
        }
        for inner in folders {
            let path = dir.join(inner);
            fs::create_dir_all(&path).map_err(file_error(&path))?;
        }
        if folder.part != Part::Whole {
            put(&dir.join(LABEL), &format!("{}\n", folder.part))?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that belong here.
    fn files<'a>(&'a self, manifest: &'a Manifest) -> impl Iterator<Item = BundledFile<'a>> {
        manifest.files_of(&self.part).map(|(_, file)| file)
    }

    /// Copies artifacts. They are not looked at: all of them are read back when everything is written, since a medium
    /// may lose to a later file what it had of an earlier one.
    pub fn copy(&self, sources: &Sources, manifest: &Manifest, progress: &Progress) -> Result<()> {
        let total = self.files(manifest).map(|f| f.size).sum();
        let task = progress.task(format!("writing {}", self.dir.display()), Unit::Bytes, Some(total));
        self.each(manifest, |file, buffer| {
            if self.is_resumed && self.holds(&file, buffer)? {
                task.add(file.size);
                return Ok(());
            }
            let path = self.dir.join(file.path.text());
            media::copy(&sources.get(&file)?, &path, buffer, |n| task.add(n))
        })
    }

    /// Does something with each of the files that belong here, of several at the same time.
    fn each(
        &self,
        manifest: &Manifest,
        work: impl Fn(BundledFile<'_>, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        let places: Vec<u32> =
            manifest.files_of(&self.part).filter_map(|(place, _)| u32::try_from(place).ok()).collect();
        media::each(
            &places,
            |place| manifest.files.size(*place as usize),
            |place, buffer| manifest.files.get(*place as usize).map_or(Ok(()), |file| work(file, buffer)),
        )
    }

    /// Whether an export that was broken off left a file as it should be. A large one is on the medium then.
    fn holds(&self, file: &BundledFile<'_>, buffer: &mut [u8]) -> Result<bool> {
        let path = self.dir.join(file.path.text());
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() == file.size => {}
            Ok(_) => {
                remove(&path)?;
                return Ok(false);
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(file_error(&path)(e)),
        }
        if media::is_large(file.size) {
            let there = media::open(&path)?;
            there.map_or(Ok(()), |there| there.sync_data().map_err(file_error(&path)))?;
        }
        gives_back(&path, file.sha256, buffer, |_| ())
    }

    /// Copies the objects, which lie elsewhere already.
    pub fn copy_objects(&self, from: &Path, manifest: &Manifest) -> Result<()> {
        let mut buffer = vec![0; media::BUFFER_BYTES];
        let objects = manifest.objects.iter().map(|file| (&file.path, file.size));
        let sealed = manifest.extra.iter().map(|file| (&file.path, file.size));
        for (path, size) in objects.chain(sealed.filter(|(path, _)| path.starts_with("objects/"))) {
            let source = Source::stretch(from.join(path), 0, size);
            media::copy(&source, &self.dir.join(path), &mut buffer, |_| ())?;
        }
        Ok(())
    }

    /// Compares everything that the manifest lists, as the medium gives it back, with its hash.
    pub fn read_back(&self, sources: &Sources, manifest: &Manifest, progress: &Progress) -> Result<()> {
        let total = self.files(manifest).map(|f| f.size).sum();
        let task = progress.task(format!("reading back {}", self.dir.display()), Unit::Bytes, Some(total));
        let mut buffer = vec![0; media::BUFFER_BYTES];
        let objects = manifest.objects.iter().map(|f| (&f.path, f.sha256));
        let parity = manifest.parity.iter().flat_map(|p| &p.files).filter(|f| self.part.has_parity(f));
        let few = objects.chain(manifest.extra.iter().map(|f| (&f.path, f.sha256)));
        for (path, sha256) in few.chain(parity.map(|f| (&f.path, f.sha256))) {
            let path = self.dir.join(path);
            if !gives_back(&path, sha256, &mut buffer, |_| ())? {
                return Err(damaged(&path));
            }
        }
        let told = |n| task.add(n);
        self.each(manifest, |file, buffer| {
            match gives_back(&self.dir.join(file.path.text()), file.sha256, buffer, &told)? {
                true => Ok(()),
                false => Err(self.whose_fault(sources, &file, buffer)),
            }
        })
    }

    /// Says whether the store or the medium has other bytes than it should.
    fn whose_fault(&self, sources: &Sources, file: &BundledFile<'_>, buffer: &mut [u8]) -> Error {
        let path = self.dir.join(file.path.text());
        let source = match sources.get(file) {
            Ok(source) => source,
            Err(error) => return error,
        };
        match source.hash(buffer) {
            Ok(found) if found == file.sha256 => damaged(&path),
            // What was sealed with the keys of another content would tell what the two have in common: it does not stay there.
            Ok(_) => match remove(&path) {
                Ok(()) => source::changed(source.path(), &file.name),
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    /// Writes the page for people.
    pub fn write_readme(&self, manifest: &Manifest, fingerprint: &str) -> Result<ExtraFile> {
        self.write_extra(README, &readme(manifest, fingerprint))
    }

    /// Writes the root by which the bundle is to be released.
    pub fn write_root(&self, text: &str) -> Result<ExtraFile> {
        self.write_extra(ROOT, text)
    }

    fn write_extra(&self, path: &str, text: &str) -> Result<ExtraFile> {
        put(&self.dir.join(path), text)?;
        let size = text.len() as u64;
        Ok(ExtraFile { path: path.to_owned(), sha256: Digest::of(text.as_bytes()), size })
    }

    /// Writes a page for people that is made already.
    pub fn put_readme(&self, text: &str) -> Result<()> {
        put(&self.dir.join(README), text)
    }

    /// Removes what an export that was broken off left behind and that does not belong here. Objects and what people read are
    /// written anew, and so is parity.
    fn remove_leftovers(&self, manifest: &Manifest) -> Result<()> {
        let listed = manifest.files.by_path();
        let is_here = |place| manifest.has_in(&self.part, place);
        verify::walk(&self.dir, |path, _| {
            let is_ours = [PARTIAL, README].contains(&path) || path.starts_with("objects/");
            if is_ours || listed.find(&FilePath::from(path)).is_some_and(is_here) {
                return Ok(());
            }
            remove(&self.dir.join(path))
        })
    }

    /// Whether there is room still for the files, now that the objects are written. Where there is none, an export that began here
    /// leaves nothing behind.
    pub fn check_room_left(&self, manifest: &Manifest) -> Result<()> {
        let room = self.check_room(manifest, 0);
        if room.is_err() && !self.is_resumed {
            for folder in ["files", "objects"] {
                let path = self.dir.join(folder);
                fs::remove_dir_all(&path).map_err(file_error(&path))?;
            }
            remove(&self.dir.join(PARTIAL))?;
        }
        room
    }

    /// What lies there already need not be written again.
    fn check_room(&self, manifest: &Manifest, folders: u64) -> Result<()> {
        let is_there = |file: &BundledFile<'_>| {
            self.is_resumed
                && fs::metadata(self.dir.join(file.path.text())).is_ok_and(|meta| meta.len() == file.size)
        };
        let missing = self.files(manifest).filter(|file| !is_there(file)).map(|file| file.size);
        let lines = (manifest.files.len() as u64).saturating_mul(MANIFEST_LINE_BYTES);
        media::check_room(&self.dir, media::room_for(missing.chain([lines, folders])))
    }

    /// Brings everything onto the medium.
    pub fn sync(&self) -> Result<()> {
        media::sync(&self.dir)
    }

    /// Writes the manifest, which comes piece by piece. Nobody believes it without a signature. Gives it as the medium does.
    pub fn write_manifest(&self, pieces: impl FnOnce(&mut Pieces<'_>) -> Result<()>) -> Result<Text> {
        let path = self.dir.join(MANIFEST);
        let written = Text::put(&path, pieces)?;
        self.sync()?;
        // As a file that was written just now: where the medium does not have it any more, no bundle is unsafe.
        let Some(file) = media::open(&path)? else { return Err(damaged(&path)) };
        media::forget(&file);
        match Text::of(file, &path, damaged) {
            Ok(text) if text.digest() == written => Ok(text),
            Err(error) if error.kind == Kind::Fault => Err(error),
            // Also where it gives more than a manifest may have.
            _ => Err(damaged(&path)),
        }
    }

    /// Writes the signature, and takes the marker away when it is on the medium.
    pub fn sign(&self, line: &str) -> Result<()> {
        put(&self.dir.join(SIGNATURES), &format!("{line}\n"))?;
        self.sync()?;
        remove(&self.dir.join(PARTIAL))?;
        self.sync()
    }
}

/// The page for people, which is the same on all volumes of a bundle.
fn readme(manifest: &Manifest, fingerprint: &str) -> String {
    let channels: Vec<&str> = manifest.channels.keys().map(String::as_str).collect();
    let (all, of_files) = (manifest.volumes.len(), manifest.volumes_of_files());
    let split = match (all, all - of_files) {
        (0, _) => String::new(),
        (_, parity) => {
            let parity = match parity {
                0 => String::new(),
                1 => "\nThe last of them holds parity: any one that is lost is rebuilt with it.".to_owned(),
                _ => format!(
                    "\nThe last {parity} of them hold parity: any {parity} that are lost are rebuilt with them."
                ),
            };
            format!(
                "It is split into {all} volumes, and this is one of them: AIRLOCK.volume says which. Each has the manifest of all and all that is\n\
                 known of the packages, and a share of the files.{parity} Volumes come in in any\n\
                 order, in one run or in several, and nothing counts before all files are there.\n\n"
            )
        }
    };
    let cut = match manifest.joined.is_empty() {
        true => "",
        false => {
            "Files that are larger than the medium takes are cut: parts end in .001, .002 and so on, and are the file when they are put\n\
             together again, such as by\n\n    cat files/ab/NAME.whl.001 files/ab/NAME.whl.002 > NAME.whl\n\n"
        }
    };
    let sealed = match &manifest.sealed {
        None => String::new(),
        Some(sealed) => format!(
            "It is sealed: what is in its files, and what they are called, learns nobody but whoever has an identity of\n    \
             {}\nThe files are encrypted in the age format. All that is said below holds for them as they lie here.\n\n",
            sealed.recipients.join("\n    ")
        ),
    };
    let channels = if manifest.sealed.is_some() { "(sealed)".to_owned() } else { channels.join(", ") };
    format!(
        "This is an Airlock bundle: packages that a station released for another network.\n\n\
         Sender       {} (key fingerprint {fingerprint})\nStream       {}\nNumber       {}\nChannels     {}\nFiles        {}\n\n{sealed}{split}{cut}\
         To verify it with nothing but the sender's public key:\n\n    airlock verify DIR --key station.pub\n\n\
         By hand: AIRLOCK.json lists every file with its SHA-256; AIRLOCK.sig holds, on each line, `ed25519`, a public key and\n\
         a signature over the exact bytes of AIRLOCK.json, in hexadecimal:\n\n    \
         key=$(openssl pkey -pubin -in station.pub -outform DER | tail -c 32 | xxd -p -c 32)\n    \
         awk -v key=$key '$2 == key {{print $3}}' AIRLOCK.sig | xxd -r -p > /tmp/sig.bin\n    \
         openssl pkeyutl -verify -pubin -inkey station.pub -rawin -in AIRLOCK.json -sigfile /tmp/sig.bin\n\n\
         Where ROOT.json lies here, further lines are of the people whom it names as release keys. Whoever knows that root\n\
         verifies by it: airlock verify DIR --key ROOT.json, with their own copy of that file.\n\n\
         Every file that belongs here against its hash (prints nothing but OK):\n\n    \
         python3 -c \"{SUMS}\" | sha256sum -c --quiet && echo OK\n\n\
         docs/verify-bundle.sh, which comes with Airlock, does all of this for a bundle or a volume, without Python, and finds what\n\
         nobody listed.\n\n\
         The fingerprint is the first 40 digits of the SHA-256 of the 32 bytes of the key; compare it with the one that the\n\
         sender's administrator tells you another way:\n\n    \
         openssl pkey -pubin -in station.pub -outform DER | tail -c 32 | sha256sum | cut -c1-40\n",
        manifest.sender.name,
        manifest.stream,
        manifest.number,
        channels,
        manifest.files.len(),
    )
}

/// Whether the medium gives back a file that was brought onto it.
fn gives_back(path: &Path, sha256: Digest, buffer: &mut [u8], mut told: impl FnMut(u64)) -> Result<bool> {
    let Some(file) = media::open(path)? else { return Ok(false) };
    media::forget(&file);
    let mut size = 0;
    let found = media::hash(&file, path, buffer, |n| {
        size += n;
        told(n);
    })?;
    // Nobody reads it from memory: the next one takes its place there, instead of memory that was at rest.
    if media::is_large(size) {
        media::forget(&file);
    }
    Ok(found == sha256)
}

fn put(path: &Path, text: &str) -> Result<()> {
    media::create(path)?.write_all(text.as_bytes()).map_err(file_error(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error(path)(e)),
        _ => Ok(()),
    }
}

fn damaged(path: &Path) -> Error {
    Error::fault(format!("{}: the medium gives back other bytes than were written", path.display()))
        .hint("use another medium; nothing was released")
}

/// Whether a bundle can be written into a folder: nothing lies there, or what an export left that was broken off.
pub(super) fn check_free(dir: &Path) -> Result<()> {
    match dir.exists() && !dir.join(PARTIAL).exists() {
        true => check_empty(dir),
        false => Ok(()),
    }
}

fn check_empty(dir: &Path) -> Result<()> {
    let names = fs::read_dir(dir).map_err(file_error(dir))?;
    let mut names = names.filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()));
    match names.find(|name| !litter::is_litter(name)) {
        Some(name) => Err(Error::usage(format!("{} is not empty: it holds `{name}`", dir.display()))
            .hint("give a folder of its own, which is made if it does not exist")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use airlock_core::bundle::Files;
    use airlock_store::Blobs;
    use serde_json::json;

    use super::*;

    /// A store with a large file and a small one, and a folder that a broken-off export left.
    fn planted(dir: &Path) -> (Sources, Folder, Manifest) {
        let blobs = Blobs::open(&dir.join("blobs"), true).unwrap();
        let mut batch = blobs.batch();
        let mut files = Files::default();
        for (name, bytes) in [("large", vec![7; 9 << 20]), ("small", vec![8; 1000])] {
            let mut staged = blobs.stage().unwrap();
            staged.write(&bytes).unwrap();
            let (sha256, size) = (batch.add(staged, None).unwrap(), bytes.len() as u64);
            files
                .push(&BundledFile { name: name.into(), path: name.into(), sha256, size, volume: None })
                .unwrap();
        }
        batch.commit().unwrap();
        assert_eq!(files.sizes().map(media::is_large).collect::<Vec<_>>(), [true, false]);
        let disk = dir.join("disk");
        fs::create_dir(&disk).unwrap();
        let manifest = serde_json::from_value(json!({
            "channels": {}, "created": "2026-03-01T12:00:00Z", "extra": [], "feeds": {}, "files": files, "format": 1,
            "ledger": {"hash": Digest::of(b""), "number": 1}, "number": 1, "objects": [],
            "sender": {"name": "low", "public_key": ""}, "stream": "low-to-all",
        }));
        let folder = Folder { dir: disk, is_resumed: true, part: Part::Whole };
        (Sources::of_wholes(&blobs), folder, manifest.unwrap())
    }

    #[test]
    fn what_a_broken_off_export_left_is_believed_as_far_as_it_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, folder, manifest) = planted(dir.path());
        // Of the right size, and other bytes.
        for file in manifest.files.iter() {
            let size = usize::try_from(file.size).unwrap();
            fs::write(folder.dir.join(file.path.text()), vec![0; size]).unwrap();
        }
        for _ in 0..2 {
            folder.copy(&sources, &manifest, &Progress::default()).unwrap();
            for file in manifest.files.iter() {
                assert_eq!(Digest::of(&fs::read(folder.dir.join(file.path.text())).unwrap()), file.sha256);
            }
        }
    }

    #[test]
    fn what_changed_in_the_store_or_on_the_medium_is_found_when_everything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, folder, manifest) = planted(dir.path());
        let harm = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let read_back = || folder.read_back(&sources, &manifest, &Progress::default());
        folder.copy(&sources, &manifest, &Progress::default()).unwrap();
        read_back().unwrap();
        for file in manifest.files.iter() {
            // As a medium does that is smaller than it says.
            let path = folder.dir.join(file.path.text());
            harm(&path);
            assert!(read_back().unwrap_err().message.contains(&path.display().to_string()));
            harm(&path);
        }
        harm(sources.get(&manifest.files.get(0).unwrap()).unwrap().path());
        fs::remove_file(folder.dir.join("large")).unwrap();
        folder.copy(&sources, &manifest, &Progress::default()).unwrap();
        let error = read_back().unwrap_err();
        assert!(error.message.contains("the store's copy of large has changed"), "{error}");
    }

    #[test]
    fn a_medium_without_the_manifest_that_was_written_just_now_is_a_fault_and_no_unsafe_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let (_, folder, _) = planted(dir.path());
        let path = folder.dir.join(MANIFEST);
        let written = |then: &dyn Fn()| {
            folder.write_manifest(|sink| {
                sink(b"{}")?;
                then();
                Ok(())
            })
        };
        assert_eq!(written(&|| ()).unwrap().digest(), Digest::of(b"{}"));
        let is_gone = written(&|| fs::remove_file(&path).unwrap()).unwrap_err();
        let is_another = written(&|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "[]").unwrap();
        });
        let is_a_link = written(&|| {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("nowhere", &path).unwrap();
        });
        fs::remove_file(&path).unwrap();
        // It is good when it is read back, and another one when it is signed.
        let signed = written(&|| ()).unwrap();
        fs::write(&path, "[]").unwrap();
        let is_another_then = signed.each(|_| Ok(())).unwrap_err();
        for error in [is_gone, is_another.unwrap_err(), is_a_link.unwrap_err(), is_another_then] {
            assert_eq!(error.kind, Kind::Fault, "{error}");
            assert!(error.message.contains(MANIFEST), "{error}");
        }
    }
}
