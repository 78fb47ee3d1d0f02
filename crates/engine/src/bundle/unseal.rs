//! Opening a bundle that is sealed to this station.
//!
//! The outer bundle is verified and collected as any other is, in parts and over days; its files lie in the intake as they travel.
//! When all are there they are opened into an intake of their own, from which they come into the store. The inner manifest is opened
//! before anything is collected: whether this station can open the bundle at all, and whether what is in it may come in, is known
//! first. Age says that a file was sealed to this station, and not by whom: what counts is what the sender signed, and so the very
//! bytes that are opened are held against the signed hash, whatever a medium gives when it is asked again. All else that is sealed
//! is held against the inner manifest when it was opened.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::{BundledFile, MANIFEST, MANIFEST_BYTES_MAX};
use airlock_core::id::Digest;
use airlock_core::place::FilePath;
use airlock_core::sealed;
use airlock_core::volume::{Part, Ranges};
use airlock_formats::age::Identity;
use airlock_store::{Intake, Scratch, Store, StoreError};

use super::media;
use super::parts::Parts;
use super::scan::Importing;
use super::seals::Hashing;
use super::target;
use super::text::Text;
use super::verify::{self, Opened};
use crate::age::{AgeError, Opening, identity};
use crate::error::{Error, Result, file_error};
use crate::progress::{Progress, Unit};
use crate::work;

/// What is in a sealed bundle.
#[derive(Debug)]
pub(super) struct Content {
    /// As a bundle whose objects lie beside the station when they were opened.
    pub parts: Arc<Parts>,
    identities: Vec<Identity>,
    beside: Scratch,
}

/// Opens the inner manifest of a bundle; none where it is not sealed. Nothing is opened but what the signed manifest names.
///
/// # Errors
///
/// Unsafe: no identity of this station opens it, or what is in it contradicts what it came in.
pub(super) fn open(station: &Path, outer: &Parts) -> Result<Option<Content>> {
    let m = outer.manifest();
    let Some(sealed) = &m.sealed else { return Ok(None) };
    let (mut identities, mut own) = (Vec::new(), Vec::new());
    for (identity, public) in identity::all(station)? {
        identities.push(identity);
        own.push(public.to_string());
    }
    if !own.iter().any(|own| sealed.recipients.contains(own)) {
        return Err(not_ours(&sealed.recipients, &own));
    }
    let beside = work::folder(station)?;
    // By this a folder is known for one whose medium is still there, too.
    let path = beside.path().join(MANIFEST);
    let inner = reread(&path, inner_manifest(outer, &identities, &path)?)?;
    let inner = verify::parse(&inner).map_err(|e| e.while_("what is sealed"))?;
    if let Some(what) = sealed::contradiction(m, &inner) {
        return Err(Error::unsafe_(format!("the manifest that is sealed {what}")));
    }
    // The bundle is called by its outer manifest: that one is signed, and in receipts.
    let opened = Opened {
        dir: beside.path().to_owned(),
        manifest: Arc::new(inner),
        part: Part::Files(Ranges::default()),
        ..outer.first().clone()
    };
    Ok(Some(Content { parts: Arc::new(Parts::from(opened)), identities, beside }))
}

/// What was opened is another one by now.
fn changed_here(path: &Path) -> Error {
    Error { is_ours: true, ..Error::fault(format!("{} is not what was written there", path.display())) }
        .hint("run the same import again; if it stays so, look after the disk of this station")
}

/// What was opened, as it lies on this station's disk: nobody believes anything else than what was opened.
fn reread(path: &Path, opened: Digest) -> Result<Text> {
    let text = Text::of(File::open(path).map_err(file_error(path))?, path, changed_here)?;
    if text.digest() == opened { Ok(text) } else { Err(changed_here(path)) }
}

/// Opens the inner manifest into a file of this station, out of the bytes that the sender signed. Gives the hash of it.
fn inner_manifest(outer: &Parts, identities: &[Identity], into: &Path) -> Result<Digest> {
    let path = outer.with_objects()?.dir.join(sealed::MANIFEST);
    let listed = outer.manifest().extra.iter().find(|file| file.path == sealed::MANIFEST);
    let listed = listed.ok_or_else(|| Error::unsafe_("the bundle lists no manifest that is sealed"))?;
    let (mut out, mut sealed) = (media::create(into)?, Hashing::new(file(&path)?));
    let opening = Opening::new(&mut sealed, identities).map_err(|e| refused(&path, e));
    let opened = opening.and_then(|opening| {
        let mut opening = opening.take(MANIFEST_BYTES_MAX + 1);
        let (mut size, mut hasher, mut buffer) = (0, Sha256::new(), vec![0; media::BUFFER_BYTES]);
        loop {
            let n = opening.read(&mut buffer).map_err(failed(&path))?;
            if n == 0 {
                return Ok((size, Digest::from_bytes(hasher.finalize().into())));
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            hasher.update(bytes);
            out.write_all(bytes).map_err(file_error(into))?;
            size += n as u64;
        }
    });
    // First whether it is what was signed, also where it does not open: what else is wrong with it is told of the sender then.
    let mut rest = (&mut sealed).take(listed.size);
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(file_error(&path))?;
    if sealed.digest() != listed.sha256 {
        return Err(verify::changed(&path));
    }
    match opened? {
        (size, _) if size > MANIFEST_BYTES_MAX => Err(verify::too_large(&path, MANIFEST_BYTES_MAX)),
        (_, digest) => Ok(digest),
    }
}

fn not_ours(sealed: &[String], own: &[String]) -> Error {
    let to = sealed.join(", ");
    match own {
        [] => Error::unsafe_(format!("the bundle is sealed to {to}, and this station has no identity")).hint(
            "`airlock key identity` makes one; the sender seals the next bundle to what it prints. If this station had one, put keys/identity.txt back from a copy",
        ),
        own => Error::unsafe_(format!("the bundle is sealed to {to}, and not to this station, which is {}", own.join(", ")))
            .hint("give it to whom it is meant for, or have the sender seal it to what `airlock key identity` prints here"),
    }
}

/// What an error says of the file that is opened: its hash is what the manifest says, so that the sender sealed it so.
fn refused(path: &Path, error: AgeError) -> Error {
    match error {
        AgeError::Io(e) => file_error(path)(e),
        other => Error::unsafe_(format!("{}: {other}", path.display())),
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |e| match e.downcast::<AgeError>() {
        Ok(error) => refused(&path, error),
        Err(e) => file_error(path)(e),
    }
}

fn file(path: &Path) -> Result<File> {
    media::open(path)?.ok_or_else(|| Error::unsafe_(format!("{} is no ordinary file", path.display())))
}

impl Content {
    /// The bundle as its recipient reads it.
    pub fn opened(&self) -> &Opened {
        self.parts.first()
    }

    /// Opens the objects of a part of the bundle, as they are checked and read then.
    fn open_objects(&self, from: &Opened) -> Result<()> {
        let folder = self.beside.path().join("objects");
        std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let mut buffer = vec![0; media::BUFFER_BYTES];
        for file in &self.parts.manifest().objects {
            let (path, to) = (from.dir.join(&file.path), self.beside.path().join(&file.path));
            let mut out = media::create(&to)?;
            let own = |bytes: &[u8]| out.write_all(bytes).map_err(file_error(&to));
            self.pass(&path, file.size, &mut buffer, own)?;
        }
        Ok(())
    }

    /// Hands on what is sealed in a file, which must have so many bytes.
    fn pass(
        &self,
        path: &Path,
        size: u64,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut opening = Opening::new(file(path)?, &self.identities).map_err(|e| refused(path, e))?;
        let mut passed = 0u64;
        loop {
            let n = opening.read(buffer).map_err(failed(path))?;
            passed += n as u64;
            if n == 0 && passed == size {
                return Ok(());
            }
            if n == 0 || passed > size {
                return Err(Error::unsafe_(format!(
                    "{} has other bytes in it than the {size} that the manifest inside says",
                    path.display()
                )));
            }
            each(buffer.get(..n).unwrap_or_default())?;
        }
    }

    /// Opens all of a bundle that was collected: its objects beside the station, its files from one intake into another. Has those
    /// who are to be asked look at each file then.
    pub fn take(
        &self,
        outer: &Parts,
        (store, sealed, plain): (&Store, &Intake, &Intake),
        asked: &Importing,
        progress: &Progress,
    ) -> Result<()> {
        self.open_objects(outer.with_objects()?)?;
        let files = &self.parts.manifest().files;
        let (travelling, by_path) = (outer.manifest(), outer.manifest().files.by_path());
        // A file that travels in parts is called by the first of them.
        let travelled = |path: &FilePath| {
            let place = by_path.find(path).or_else(|| by_path.find(&path.part(1)))?;
            travelling.whole(place).map(|whole| whole.sha256)
        };
        let task = progress.task("opening".to_owned(), Unit::Bytes, Some(files.bytes()));
        media::each_of(
            files.len(),
            |place| files.size(place),
            |place, buffer| {
                let Some(file) = files.get(place) else { return Ok(()) };
                let Some(travelled) = travelled(&file.path) else { return Ok(()) };
                let number = target::number(place);
                if !store.blobs.touch(file.sha256)?
                    && !plain.holds((number, file.sha256), file.size, buffer)?
                {
                    let found = store.blobs.find(travelled).map(|blob| blob.path().to_owned());
                    let from = found.unwrap_or_else(|| sealed.path_of(travelled));
                    self.open_file(&from, (number, &file), plain, buffer)?;
                }
                task.add(file.size);
                Ok(())
            },
        )?;
        match asked.asks() {
            true => self.parts.ask(asked, (store, plain), progress),
            false => Ok(()),
        }
    }

    fn open_file(
        &self,
        from: &Path,
        (number, file): (u32, &BundledFile<'_>),
        into: &Intake,
        buffer: &mut [u8],
    ) -> Result<()> {
        let mut incoming = into.begin((number, file.sha256))?;
        self.pass(from, file.size, buffer, |bytes| Ok(incoming.write(bytes)?))?;
        incoming.finish().map_err(|e| match e {
            StoreError::Hash { .. } => {
                Error::unsafe_(format!("{} is not what the manifest inside says", file.path))
            }
            other => other.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_this_stations_disk_makes_of_a_sealed_manifest_is_no_lie_of_its_sender() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MANIFEST);
        std::fs::write(&path, "{}").unwrap();
        let opened = Digest::of(b"{}");
        let text = reread(&path, opened).unwrap();
        std::fs::write(&path, "[]").unwrap();
        for error in [reread(&path, opened).unwrap_err(), text.each(|_| Ok(())).unwrap_err()] {
            assert!(error.kind == Kind::Fault && error.is_ours, "{error}");
        }
    }
}
