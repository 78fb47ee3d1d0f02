//! Reading a bundle that is published over HTTP, such as from inside, where a firewall allows that one rule.
//!
//! The manifest says what there is, so no listing is asked for. It is verified, and the bundle held against what is here, before
//! anything else is fetched; then each file goes into the intake by which a bundle on a disk is taken in too, is continued
//! where a connection broke, and waits there if the run is broken off. What follows is the import of a folder that holds
//! everything but the files.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use airlock_core::bundle::{
    BundledFile, MANIFEST, MANIFEST_BYTES_MAX, Manifest, ROOT, SIGNATURES, SIGNATURES_BYTES_MAX,
};
use airlock_core::id::Digest;
use airlock_core::root::ROOT_BYTES_MAX;
use airlock_core::volume::{LABEL, Part, Ranges};
use airlock_store::{Scratch, StoreError};

use super::import::Wish;
use super::parts::Parts;
use super::signing::Trusted;
use super::target::Target;
use super::verify::{self, Opened};
use super::{admission, brought, import, unfinished, volumes};
use crate::boxed;
use crate::error::{Error, Kind, Result, file_error, joined};
use crate::progress::Unit;
use crate::station::Station;
use crate::upstream::{Client, Location, Piece};
use crate::{clock, trust, work};

/// Files on their way at the same time.
const AT_ONCE: usize = 8;

/// A published bundle whose manifest is verified, with a folder that holds all but its files.
struct Published {
    client: Client,
    at: Location,
    beside: Scratch,
    opened: Opened,
}

impl Published {
    /// Fetches manifest and signatures, of a bundle in one folder or of the first of its volumes.
    async fn open(station: &Station, at: &Location, trusted: Trusted) -> Result<Self> {
        let client = Client::new(station, at)?;
        let beside = work::folder(&station.dir)?;
        let manifest = beside.path().join(MANIFEST);
        let from = match save(&client, &at.join(MANIFEST)?, &manifest, MANIFEST_BYTES_MAX).await {
            Ok(()) => at.clone(),
            Err(error) => {
                let first = at.join(&format!("{}/", volumes::name(1)))?;
                let split = save(&client, &first.join(MANIFEST)?, &manifest, MANIFEST_BYTES_MAX).await;
                split.map_err(|_| match error.hint {
                    None => error.hint("give the address of the folder that holds AIRLOCK.json"),
                    Some(_) => error,
                })?;
                first
            }
        };
        save(&client, &from.join(SIGNATURES)?, &beside.path().join(SIGNATURES), SIGNATURES_BYTES_MAX).await?;
        if verify::claims_root(beside.path()) {
            save(&client, &from.join(ROOT)?, &beside.path().join(ROOT), ROOT_BYTES_MAX).await?;
        }
        let label = beside.path().join(LABEL);
        std::fs::write(&label, format!("{}\n", Part::Files(Ranges::default())))
            .map_err(file_error(&label))?;
        let folder = beside.path().to_owned();
        let opened = joined(tokio::task::spawn_blocking(move || verify::open(&folder, trusted)).await)?;
        Ok(Self { client, at: at.clone(), beside, opened })
    }

    fn manifest(&self) -> &Manifest {
        &self.opened.manifest
    }

    /// Where a file of the bundle is published.
    fn place(&self, path: &str, volume: Option<u32>) -> Result<Location> {
        match volume {
            Some(number) => self.at.join(&format!("{}/{path}", volumes::name(number as usize))),
            None => self.at.join(path),
        }
    }

    /// Fetches what lies beside the files.
    async fn fetch_few(&self) -> Result<()> {
        let m = self.manifest();
        let volume = (!m.volumes.is_empty()).then_some(1);
        let objects = m.objects.iter().map(|f| (&f.path, f.size));
        for (path, size) in objects.chain(m.extra.iter().map(|f| (&f.path, f.size))) {
            let to = self.beside.path().join(path);
            let folder = to.parent().unwrap_or(self.beside.path());
            std::fs::create_dir_all(folder).map_err(file_error(folder))?;
            save(&self.client, &self.place(path, volume)?, &to, size).await?;
        }
        Ok(())
    }

    /// Fetches files, several at once, each into what `sink` opens for it.
    async fn fetch_files<S: Sink>(
        &self,
        station: &Station,
        wanted: &[usize],
        sink: impl Fn(usize, &BundledFile<'_>) -> Result<S>,
    ) -> Result<()> {
        let files = &self.manifest().files;
        let total = wanted.iter().map(|at| files.size(*at)).fold(0, u64::saturating_add);
        let task =
            station.options.progress.task(format!("fetching {}", self.at.shown()), Unit::Bytes, Some(total));
        let fetch = |(at, file): (usize, BundledFile<'_>)| {
            let (opened, place) = (sink(at, &file), self.place(&file.path.text(), file.volume));
            let (sha256, size) = (file.sha256, file.size);
            let task = &task;
            async move {
                let (mut into, place) = (opened?, place?);
                let each = |piece: Piece<'_>| {
                    match piece {
                        Piece::Bytes(bytes) => {
                            task.add(bytes.len() as u64);
                            into.write(bytes)?;
                        }
                        Piece::Restart => into.restart()?,
                    }
                    Ok(())
                };
                self.client.get_file(&place, size, each).await?;
                into.finish(sha256).map_err(|e| match e.kind {
                    Kind::Unsafe => Error::unsafe_(format!(
                        "{} was changed or is damaged: its hash is not the one in the manifest",
                        place.shown()
                    ))
                    .hint("ask whoever publishes the bundle to copy it again; if it stays so, tell your security officer"),
                    _ => e,
                })
            }
        };
        let wanted = wanted.iter().filter_map(|at| Some((*at, files.get(*at)?)));
        futures_util::stream::iter(wanted.map(fetch)).buffer_unordered(AT_ONCE).try_collect().await
    }
}

/// Where the bytes of a file go.
trait Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// What came is void.
    fn restart(&mut self) -> Result<()>;
    fn finish(self, wanted: Digest) -> Result<()>;
}

impl Sink for airlock_store::Incoming<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.write(bytes)?)
    }

    fn restart(&mut self) -> Result<()> {
        Ok(self.restart()?)
    }

    fn finish(self, _: Digest) -> Result<()> {
        self.finish().map_err(|e| match e {
            StoreError::Hash { .. } => Error::unsafe_(e.to_string()),
            other => other.into(),
        })
    }
}

impl Sink for Sha256 {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.update(bytes);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        *self = Self::new();
        Ok(())
    }

    fn finish(self, wanted: Digest) -> Result<()> {
        match Digest::from_bytes(self.finalize().into()) == wanted {
            true => Ok(()),
            false => Err(Error::unsafe_("its hash is another")),
        }
    }
}

/// Fetches a small file whole.
#[boxed]
async fn save(client: &Client, from: &Location, to: &Path, bytes_max: u64) -> Result<()> {
    use std::io::{Seek as _, Write as _};
    let mut file = std::fs::File::create(to).map_err(file_error(to))?;
    let each = |piece: Piece<'_>| match piece {
        Piece::Bytes(bytes) => file.write_all(bytes).map_err(file_error(to)),
        Piece::Restart => file.set_len(0).and_then(|()| file.rewind()).map_err(file_error(to)),
    };
    client.get_file(from, bytes_max, each).await
}

/// Fetches a published bundle and takes it in. A run that was broken off goes on with the file at which it was.
pub async fn import(station: &Station, at: &Location) -> Result<import::Report> {
    import_with(station, at, &Wish::default()).await
}

/// The same, as a person wishes it.
pub async fn import_with(station: &Station, at: &Location, wish: &Wish) -> Result<import::Report> {
    import::may_import(station, wish).await?;
    clock::check(station).await?;
    let trusted = trust::list(station).await?;
    let published = Published::open(station, at, Trusted::of(&trusted)?).await?;
    let folder = [published.beside.path().to_owned()];
    let m = published.manifest();
    // Before much is fetched: whether it may come in at all, and whether there is room.
    let trust = admission::choose(trusted, &published.opened)?;
    admission::check_names(m)?;
    if admission::admission(station, &published.opened, &trust, wish.back.is_some()).await?.again {
        published.fetch_few().await?;
        return import::import_with(station, &folder, wish).await;
    }
    published.fetch_few().await?;
    let bundle = Arc::new(Parts::from(published.opened.clone()));
    brought::admit(station, bundle, &trust, wish.back.is_some()).await?;
    let (opened, store) = (published.opened.clone(), station.store.clone());
    let look = move || {
        let intake = unfinished::intake(&store.blobs, &opened.digest.to_string(), &opened)?;
        let parts = Parts::from(opened);
        parts.check_room(&store, &intake)?;
        Ok((parts.not_here(&store, &intake)?, intake))
    };
    let (wanted, intake) = joined(tokio::task::spawn_blocking(look).await)?;
    let begin = |at: usize, file: &BundledFile<'_>| Target::of(m, at, file).begin(&intake);
    published.fetch_files(station, &wanted, begin).await?;
    joined(tokio::task::spawn_blocking(move || Ok(intake.keep()?)).await)?;
    import::import_with(station, &folder, wish).await
}

/// Fetches a published bundle and compares all of it with what its manifest says; nothing of it is kept.
pub async fn check(
    station: &Station,
    at: &Location,
    trusted: impl Into<Trusted>,
    header: bool,
) -> Result<Opened> {
    let published = Published::open(station, at, trusted.into()).await?;
    if !header {
        published.fetch_few().await?;
        published.opened.check_listing()?;
        published.opened.check_files(station.options.threads, &station.options.progress)?;
        let all: Vec<usize> = (0..published.manifest().files.len()).collect();
        published.fetch_files(station, &all, |_, _| Ok(Sha256::new())).await?;
    }
    Ok(published.opened)
}
