//! Sealing a bundle to a recipient, where it is written. `airlock_core::sealed` says what a sealed bundle is.
//!
//! The keys of each file follow from a secret of this station, the bundle (stream, number, recipients) and the file's own hash. So an
//! export that was broken off goes on with the same bytes, and what is written again after a receipt has the hash that the manifest
//! says. That is safe because nothing else can have the same keys: another content has another hash, and with the keys as they are
//! the same content gives the same bytes. Each file is therefore held against its hash while it is sealed for the first time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use airlock_core::bundle::{self, BundledFile, ExtraFile, Files, Manifest, ObjectFile};
use airlock_core::canon::Canonical;
use airlock_core::channel::is_plain_name;
use airlock_core::cut::Whole;
use airlock_core::id::Digest;
use airlock_core::place::FilePath;
use airlock_core::sealed::{self, RECIPIENTS_MAX, Sealed};
use airlock_formats::age::{FILE_KEY_BYTES, NONCE_BYTES, Recipient, sealed_bytes};
use airlock_store::{Blobs, Scratch};

use super::export::What;
use super::source::{self, Source};
use super::text::Text;
use super::{cut, media, verify, volumes};
use crate::age::{Seal, derive};
use crate::error::{Error, Result, file_error, joined};
use crate::progress::{Progress, Unit};
use crate::station::Station;

/// Where the inner manifest lies beside the station before it is sealed.
const PLAIN: &str = "manifest.json";
/// What the secret is for.
const PURPOSE: &[u8] = b"airlock sealed bundle 1";

/// `[seal]` of `airlock.toml`: for each peer (`export --to`) the recipients of age to whom its bundles are sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seals(BTreeMap<String, Vec<String>>);

impl Seals {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (peer, recipients) in &self.0 {
            let bad = |what: &str| {
                Error::usage(format!("airlock.toml: `[seal]` {what}")).hint(
                    "name peers as `export --to` does, and for each the `age1...` that `airlock key identity` prints there",
                )
            };
            if !is_plain_name(peer) {
                return Err(bad("names something that cannot be a peer"));
            }
            if recipients.is_empty() {
                return Err(bad(&format!("names nobody for `{peer}`")));
            }
            read(recipients).map_err(|e| bad(&format!("of `{peer}`: {}", e.message)))?;
        }
        Ok(())
    }
}

fn read(texts: &[String]) -> Result<Vec<Recipient>> {
    let usage = |e: airlock_formats::age::RecipientError| {
        Error::usage(e.to_string())
            .hint("give what `airlock key identity` prints on the other station: `age1...`")
    };
    texts.iter().map(|text| text.parse().map_err(usage)).collect()
}

/// To whom a bundle is sealed: the recipients that the configuration names for its peer, and these.
fn recipients(station: &Station, to: Option<&str>, named: &[Recipient]) -> Result<Vec<Recipient>> {
    let configured = to.and_then(|to| station.config.seal.0.get(to));
    let mut all: BTreeSet<Recipient> = read(configured.map_or(&[], Vec::as_slice))?.into_iter().collect();
    all.extend(named);
    match all.len() {
        count if count <= RECIPIENTS_MAX => Ok(all.into_iter().collect()),
        _ => Err(Error::usage(format!("a bundle is sealed to {RECIPIENTS_MAX} recipients at most"))
            .hint("write one for each of several peers: --to PEER, with recipients of its own")),
    }
}

/// Seals the files of one bundle.
#[derive(Clone)]
pub(super) struct Sealer {
    secret: Zeroizing<[u8; 32]>,
    recipients: Vec<Recipient>,
}

impl std::fmt::Debug for Sealer {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({:?})", self.recipients)
    }
}

fn no_key() -> Error {
    Error::fault("no key can be made to seal a file with")
}

impl Sealer {
    fn new(station: &Station, of: &Manifest, recipients: Vec<Recipient>) -> Result<Self> {
        let texts: Vec<String> = recipients.iter().map(Recipient::to_string).collect();
        let of = serde_json::json!({"stream": of.stream, "number": of.number, "recipients": texts});
        let of = Digest::of(Canonical::of(&of)?.as_str().as_bytes());
        let secret = station.key.derived(PURPOSE, &[of.as_bytes()]).ok_or_else(no_key)?;
        Ok(Self { secret, recipients })
    }

    /// Something that nobody else knows of a content in this bundle.
    fn drawn<const N: usize>(&self, plain: Digest, what: &[&[u8]]) -> Result<Zeroizing<[u8; N]>> {
        derive(self.secret.as_slice(), plain.as_bytes(), what).ok_or_else(no_key)
    }

    /// How a content is sealed.
    fn seal(&self, plain: Digest) -> Result<Seal> {
        let key = self.drawn::<FILE_KEY_BYTES>(plain, &[b"file key"])?;
        let nonce = self.drawn::<NONCE_BYTES>(plain, &[b"nonce"])?;
        let with = |to: &Recipient| Ok((*to, self.drawn(plain, &[b"share", &to.0])?));
        let recipients: Vec<_> = self.recipients.iter().map(with).collect::<Result<_>>()?;
        Seal::new(key, *nonce, &recipients).ok_or_else(|| {
            Error::usage("no secret can be agreed upon with a recipient").hint("give another `age1...`")
        })
    }

    fn path(&self, plain: Digest) -> Result<FilePath> {
        Ok(sealed::path(&*self.drawn(plain, &[b"name"])?))
    }

    fn size(&self, plain: u64) -> u64 {
        sealed_bytes(plain, self.recipients.len())
    }

    /// The hash of what a file becomes, which is held against its own hash on the way.
    fn hash(&self, from: &Path, (plain, size): (Digest, u64), buffer: &mut [u8]) -> Result<Option<Digest>> {
        let file = media::open(from)?
            .ok_or_else(|| Error::fault(format!("{} is no ordinary file", from.display())))?;
        let mut plain_file = Hashing::new(file);
        let sealing = self.seal(plain)?.open_at(&mut plain_file, size, 0).map_err(file_error(from))?;
        let sealed = media::hash(sealing, from, buffer, |_| ())?;
        Ok((plain_file.digest() == plain).then_some(sealed))
    }

    /// Seals a small file of this station, or what stands in a text, into another one.
    fn write(
        &self,
        plain: Digest,
        from: impl Read + Seek,
        size: u64,
        (dir, path): (&Path, &str),
    ) -> Result<ExtraFile> {
        let to = dir.join(path);
        let mut from = Hashing::new(from);
        let mut sealing = self.seal(plain)?.open_at(&mut from, size, 0).map_err(file_error(&to))?;
        let (mut file, mut hasher, mut written) = (media::create(&to)?, Sha256::new(), 0);
        let mut buffer = vec![0; media::BUFFER_BYTES];
        media::pass(&mut sealing, &to, &mut buffer, |bytes| {
            hasher.update(bytes);
            written += bytes.len() as u64;
            file.write_all(bytes).map_err(file_error(&to))
        })?;
        drop(sealing);
        // The keys are those of this content: another one must not be sealed with them.
        if from.digest() != plain {
            std::fs::remove_file(&to).map_err(file_error(&to))?;
            return Err(Error::fault(format!("what was to be sealed as {path} changed while it was read"))
                .hint("run it again; if it stays so, look after this station's disk"));
        }
        let sha256 = Digest::from_bytes(hasher.finalize().into());
        Ok(ExtraFile { path: path.to_owned(), sha256, size: written })
    }
}

/// A file that is hashed while it is read from its beginning.
pub(super) struct Hashing<R> {
    file: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    /// Of which nothing is read yet.
    pub fn new(file: R) -> Self {
        Self { file, hasher: Sha256::new() }
    }

    /// The hash of what was read.
    pub fn digest(self) -> Digest {
        Digest::from_bytes(self.hasher.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

impl<R: Seek> Seek for Hashing<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// The sealed files of a bundle, by what they become.
#[derive(Debug)]
pub(super) struct SealedFiles {
    sealer: Sealer,
    /// What is in each file that travels, in the order of their hashes.
    plain: Vec<Plain>,
}

/// What is in a file that travels. There may be millions: it is kept in 54 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Plain {
    /// Of the hash of what travels as much as tells it from all others.
    begin: Begin,
    /// SHA-256.
    sha256: Digest,
    /// Bytes, the least of them first.
    size: [u8; 6],
}

impl Plain {
    fn of(sealed: Digest, sha256: Digest, size: u64) -> Self {
        let [size @ .., _, _] = size.min(SIZE_MAX).to_le_bytes();
        Self { begin: begin(sealed), sha256, size }
    }

    fn size(&self) -> u64 {
        let [a, b, c, d, e, f] = self.size;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// No artifact is as large, in bytes.
const SIZE_MAX: u64 = (1 << 48) - 1;

/// How the hash of a file begins that travels: 128 bits, as its path would have them.
type Begin = [u8; 16];

fn begin(sealed: Digest) -> Begin {
    let (begin, _) = sealed.as_bytes().split_at(size_of::<Begin>());
    begin.try_into().unwrap_or_default()
}

impl SealedFiles {
    fn of(sealer: Sealer, mut plain: Vec<Plain>) -> Self {
        plain.sort_unstable();
        Self { sealer, plain }
    }

    /// Those of a bundle that was sealed before.
    fn of_sealed(sealer: Sealer, outer: &Manifest, inner: &Manifest) -> Self {
        let by_path = inner.files.by_path();
        let pair = |travelling: Whole<'_>| {
            let file = inner.files.get(by_path.find(&travelling.path)?)?;
            Some(Plain::of(travelling.sha256, file.sha256, file.size))
        };
        let mut plain = Vec::with_capacity(inner.files.len());
        plain.extend(outer.wholes().filter_map(pair));
        Self::of(sealer, plain)
    }

    /// A stretch of a file that travels, if what is sealed in it is in the store.
    pub fn find(&self, blobs: &Blobs, sealed: Digest, stretch: (u64, u64)) -> Option<Source> {
        let at = self.plain.binary_search_by_key(&begin(sealed), |plain| plain.begin).ok()?;
        let plain = self.plain.get(at)?;
        let blob = blobs.find(plain.sha256)?;
        let seal = self.sealer.seal(plain.sha256).ok()?;
        Some(Source::sealed(blob.path().to_owned(), plain.size(), seal, stretch))
    }
}

/// What is in a sealed bundle that is being written.
pub(super) struct Inside {
    /// The inner manifest.
    pub manifest: Text,
    /// Where it lies, sealed, and with it the objects.
    pub beside: Scratch,
    /// The files.
    pub files: Arc<SealedFiles>,
}

/// Seals a bundle, where it is sealed to anybody: what of it is small at once, and its files as far as their hashes go; for a plan not even that. Gives the manifest
/// that travels, as far as it is known yet.
pub(super) async fn seal(
    station: &Station,
    mut inner: Manifest,
    ids: &BTreeSet<Digest>,
    what: &What,
) -> Result<(Manifest, Option<Inside>)> {
    let (recipients, is_plan) = (recipients(station, what.to.as_deref(), &what.seal)?, what.plan);
    if recipients.is_empty() {
        return Ok((inner, None));
    }
    let (beside, objects) = volumes::objects_beside(station, ids).await?;
    let sealer = Sealer::new(station, &inner, recipients)?;
    let (blobs, progress) = (station.store.blobs.clone(), station.options.progress.clone());
    let whole = move || {
        let files = std::mem::take(&mut inner.files);
        inner.files =
            files.map(|file| Ok(BundledFile { path: sealer.path(file.sha256)?, ..file }), cut::unlisted)?;
        inner.files.sort();
        let plain = objects.path.clone();
        inner.objects = vec![ObjectFile { path: sealed::OBJECTS.to_owned(), ..objects }];
        let path = beside.path().join(PLAIN);
        let written = Text::put(&path, |sink| bundle::text::write(&mut inner, sink))?;
        let open = || File::open(&path).map_err(file_error(&path));
        let (text, from) = (Text::of(open()?, &path, |path| source::changed(path, PLAIN))?, open()?);
        if text.digest() != written {
            return Err(source::changed(&path, PLAIN));
        }
        let manifest = (from, (text.digest(), text.size()));
        let extra = seal_beside(&sealer, beside.path(), &plain, &inner.objects, manifest)?;
        // What they are called stands in the manifest from here on.
        let mut files = std::mem::take(&mut inner.files).map(called_by_path, cut::unlisted)?;
        let mut plain = Vec::with_capacity(files.len());
        plain.extend(files.iter().map(|file| Plain::of(file.sha256, file.sha256, file.size)));
        if !is_plan {
            let both = (&mut files, &mut plain[..]);
            sealed_hashes(&blobs, &sealer, both, &progress).map_err(|failed| failed.told(&text))?;
        }
        for place in 0..files.len() {
            files.set_size(place, sealer.size(files.size(place)));
        }
        let outer = outer(&inner, &sealer, files, extra);
        let files = Arc::new(SealedFiles::of(sealer, plain));
        Ok((outer, Some(Inside { manifest: text, beside, files })))
    };
    joined(tokio::task::spawn_blocking(whole).await)
}

/// The manifest that travels.
fn outer(inner: &Manifest, sealer: &Sealer, files: Files, extra: Vec<ExtraFile>) -> Manifest {
    Manifest {
        answers: None,
        base: inner.base,
        channels: BTreeMap::new(),
        created: inner.created,
        extra,
        feeds: BTreeMap::new(),
        files,
        format: inner.format.max(sealed::FORMAT),
        heard: BTreeMap::new(),
        joined: Vec::new(),
        ledger: inner.ledger,
        number: inner.number,
        objects: Vec::new(),
        parity: None,
        predecessor: inner.predecessor,
        recipient: inner.recipient.clone(),
        sealed: Some(Sealed { recipients: sealer.recipients.iter().map(Recipient::to_string).collect() }),
        sender: inner.sender.clone(),
        stream: inner.stream.clone(),
        volumes: Vec::new(),
    }
}

/// A file as it travels: what it is called says nothing.
fn called_by_path(file: BundledFile<'_>) -> Result<BundledFile<'_>> {
    let name = file.path.text().rsplit('/').next().unwrap_or_default().to_owned();
    Ok(BundledFile { name: name.into(), ..file })
}

/// Why files are not sealed.
enum Unsealed {
    /// The store has no such file any more as that which lies here in the bundle.
    Left(FilePath),
    /// It has other bytes.
    Changed(PathBuf, FilePath),
    /// Anything else.
    Other(Error),
}

impl Unsealed {
    /// In words. What a file is called stands in the manifest by now.
    fn told(self, manifest: &Text) -> Error {
        let called = |path: &FilePath| {
            let name = |m: Manifest| Some(m.files.get(m.files.by_path().find(path)?)?.name.into_owned());
            verify::parse(manifest).ok().and_then(name).unwrap_or_else(|| path.to_string())
        };
        match self {
            Self::Left(path) => source::left(&called(&path)),
            Self::Changed(blob, path) => source::changed(&blob, &called(&path)),
            Self::Other(error) => error,
        }
    }
}

/// Gives the files the hashes that they have when they travel, and notes whose those are: all of them are sealed once, and nothing is
/// written.
fn sealed_hashes(
    blobs: &Blobs,
    sealer: &Sealer,
    (files, plain): (&mut Files, &mut [Plain]),
    progress: &Progress,
) -> std::result::Result<(), Unsealed> {
    let task = progress.task("sealing".to_owned(), Unit::Bytes, Some(files.bytes()));
    let (count, why) = (files.len(), Mutex::new(None));
    let both = Mutex::new((files, plain));
    let held = || both.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |what: Unsealed| {
        why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        Error::fault("a file is not sealed")
    };
    let sealed = media::each_of(
        count,
        |place| held().0.size(place),
        |place, buffer| {
            let found = held().0.get(place).map(|file| (file.sha256, file.size, file.path));
            let Some((sha256, size, path)) = found else { return Ok(()) };
            let Some(blob) = blobs.find(sha256) else { return Err(failed(Unsealed::Left(path))) };
            let Some(sealed) = sealer.hash(blob.path(), (sha256, size), buffer)? else {
                return Err(failed(Unsealed::Changed(blob.path().to_owned(), path)));
            };
            task.add(size);
            let (files, plain) = &mut *held();
            if let Some(noted) = plain.get_mut(place) {
                *noted = Plain::of(sealed, sha256, size);
            }
            files.set_sha256(place, sealed).map_err(cut::unlisted)
        },
    );
    let why = why.into_inner().unwrap_or_else(PoisonError::into_inner);
    sealed.map_err(|error| why.unwrap_or(Unsealed::Other(error)))
}

/// Seals the inner manifest, and the objects that lie beside the station, which are gone then.
fn seal_beside(
    sealer: &Sealer,
    beside: &Path,
    plain: &str,
    objects: &[ObjectFile],
    (manifest, (digest, size)): (impl Read + Seek, (Digest, u64)),
) -> Result<Vec<ExtraFile>> {
    let mut extra = vec![sealer.write(digest, manifest, size, (beside, sealed::MANIFEST))?];
    let path = beside.join(plain);
    for file in objects {
        let from = File::open(&path).map_err(file_error(&path))?;
        extra.push(sealer.write(file.sha256, from, file.size, (beside, &file.path))?);
    }
    std::fs::remove_file(&path).map_err(file_error(&path))?;
    Ok(extra)
}

/// Seals once more what was sealed for a bundle that was written: what lies beside its files, and whence those come.
///
/// # Errors
///
/// It does not come out as it was.
pub(super) fn again(
    station: &Station,
    outer: &Manifest,
    (inner, (text, mut lying)): (&Manifest, (&Text, &File)),
    beside: &Path,
    objects: &ObjectFile,
) -> Result<Arc<SealedFiles>> {
    let recipients = read(outer.sealed.as_ref().map_or(&[], |sealed| &sealed.recipients))?;
    let sealer = Sealer::new(station, outer, recipients)?;
    let same = [ObjectFile { path: sealed::OBJECTS.to_owned(), ..objects.clone() }];
    if inner.objects == same {
        lying.rewind().map_err(file_error(beside))?;
        let manifest = (lying, (text.digest(), text.size()));
        let extra = seal_beside(&sealer, beside, &objects.path, &inner.objects, manifest)?;
        if extra.iter().all(|file| outer.extra.contains(file)) {
            return Ok(Arc::new(SealedFiles::of_sealed(sealer, outer, inner)));
        }
    }
    Err(Error::fault(format!("what was sealed in bundle {} does not come out as it was", outer.number)).hint(
        "another version of airlock wrote it, or this station has another key now: export anew, with --full",
    ))
}
