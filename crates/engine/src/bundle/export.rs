//! Writing a bundle.
//!
//! Files first, then the manifest, the signature last: a directory without a signature is no bundle. The
//! number is taken before the manifest is written, so that no two manifests ever have the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{
    self, Base, BundledFile, ChannelHead, ExtraFile, MANIFEST, Manifest, ObjectFile, README, SIGNATURES,
    Sender,
};
use airlock_core::canon::Canonical;
use airlock_core::id::{Digest, Id};
use airlock_core::litter;
use airlock_core::snapshot::Snapshot;
use airlock_store::{Blobs, Db};

use super::{ExportState, Exported, Needs};
use crate::channel::ref_name;
use crate::error::{Error, Result, file_error, joined};
use crate::feeds;
use crate::station::Station;

/// zstd level of object files.
const ZSTD_LEVEL: i32 = 6;

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// The channels; empty means all that have been published.
    pub channels: Vec<String>,
    /// The peer that it is meant for.
    pub to: Option<String>,
    /// What the receiver has already.
    pub base: Option<Base>,
    /// Only say what it would take.
    pub plan: bool,
}

/// What was written, or would be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// The bundle that it builds on.
    pub base: Option<u64>,
    /// SHA-256 of the manifest; none for a plan.
    pub manifest: Option<Digest>,
    /// Artifacts in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects in it.
    pub objects: u64,
    /// Published artifacts that the base brought already.
    pub left_out: u64,
    /// The channels.
    pub channels: Vec<String>,
}

/// The stream of this station to a peer.
pub fn stream_of(station: &Station, to: Option<&str>) -> String {
    let key = station.key.public_hex();
    let plain: String = station
        .config
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    format!("{plain}-{}-to-{}", &key[..12], to.unwrap_or("all"))
}

/// Writes a bundle into `dir`, or plans one.
pub async fn export(station: &Station, dir: &Path, what: &What) -> Result<Report> {
    check_peer(what.to.as_deref())?;
    if !what.plan {
        // What leaves is what may leave now: blocked or run out since the last judgement is not.
        let wanted = |name: &str| what.channels.is_empty() || what.channels.iter().any(|c| c == name);
        let judged = crate::sync::rejudge_some(station, wanted, "before export").await?;
        judged.failed.map_or(Ok(()), Err)?;
    }
    let db = &station.store.db;
    let stream = stream_of(station, what.to.as_deref());
    let (before, mut state) = state(db, &stream).await?;
    let snapshots = snapshots(station, &what.channels).await?;
    let heads = feeds::heads(station).await?;
    let (mut needs, channels) = gather(db, &snapshots, &heads).await?;
    let all = needs.files.len();
    if let Some(base) = what.base {
        leave_out_base(db, &state, base, &mut needs).await?;
    }
    let left_out = (all - needs.files.len()) as u64;
    let files = sized(&station.store.blobs, needs.files)?;
    let last = state.bundles.last().map(|e| e.bundle);
    let number = last.map_or(0, |l| l.number) + 1;
    let mut report = Report {
        stream: stream.clone(),
        number,
        base: what.base.map(|b| b.number),
        manifest: None,
        files: files.len() as u64,
        bytes: files.iter().map(|f| f.size).sum(),
        objects: needs.objects.len() as u64,
        left_out,
        channels: channels.keys().cloned().collect(),
    };
    if what.plan {
        return Ok(report);
    }
    let mut manifest = Manifest {
        format: bundle::FORMAT,
        stream: stream.clone(),
        number,
        predecessor: last.map(|l| l.manifest),
        base: what.base,
        sender: Sender { name: station.config.name.clone(), public_key: station.key.public_hex() },
        recipient: what.to.clone(),
        created: station.now().await?,
        channels,
        feeds: heads.clone(),
        objects: Vec::new(),
        files,
        extra: Vec::new(),
        ledger: db.ledger_head().await?,
    };
    prepare(dir)?;
    manifest.objects = vec![write_objects(db, dir, "objects/objects.jsonl.zst", &needs.objects).await?];
    let (target, list, blobs) = (dir.to_owned(), manifest.files.clone(), station.store.blobs.clone());
    joined(tokio::task::spawn_blocking(move || copy_files(&blobs, &target, &list)).await)?;
    manifest.extra = vec![write_readme(dir, &manifest, &station.key.fingerprint())?];
    remove_leftovers(dir, &manifest)?;
    let text = Canonical::of(&manifest)?;
    let digest = Digest::of(text.as_str().as_bytes());
    let done = Exported { bundle: Base { number, manifest: digest }, channels: snapshots, feeds: heads };
    state.bundles.push(done);
    let id = db.put(&state).await?;
    let mut changes = crate::retention::based_on(station, &stream, what.base).await?;
    changes.push(airlock_store::RefChange { name: state_ref(&stream), from: before, to: Some(id.digest()) });
    report.manifest = Some(digest);
    let detail = serde_json::to_value(&report)?;
    station.commit(changes, "bundle.export", &format!("stream/{stream}"), &detail).await?;
    seal(station, dir, text.as_str())?;
    Ok(report)
}

fn state_ref(stream: &str) -> String {
    format!("export/{stream}")
}

/// What this station remembers of a stream, and the object that says it.
async fn state(db: &Db, stream: &str) -> Result<(Option<Digest>, ExportState)> {
    match db.find_ref(&state_ref(stream)).await? {
        Some(id) => Ok((Some(id), db.get(Id::new(id)).await?)),
        None => Ok((None, ExportState::default())),
    }
}

fn check_peer(to: Option<&str>) -> Result<()> {
    match to.filter(|t| !airlock_core::channel::is_channel_name(t)) {
        Some(to) => Err(Error::usage(format!("`{to}` cannot name a peer"))
            .hint("use lower-case letters, digits, `_`, `-` and `.`")),
        None => Ok(()),
    }
}

/// Everything that these snapshots and feeds need, and the heads of the channels.
async fn gather(
    db: &Db,
    snapshots: &BTreeMap<String, Id<Snapshot>>,
    heads: &BTreeMap<String, FeedHead>,
) -> Result<(Needs, BTreeMap<String, ChannelHead>)> {
    let mut needs = Needs::default();
    let mut channels = BTreeMap::new();
    for (name, id) in snapshots {
        let snapshot: Snapshot = db.get(*id).await?;
        let (facts, artifacts) = needs.add_snapshot(db, *id).await?;
        let content = snapshot.content.digest();
        let head = ChannelHead { ecosystem: snapshot.ecosystem, snapshot: *id, content, facts, artifacts };
        channels.insert(name.clone(), head);
    }
    for head in heads.values() {
        needs.add_feed(db, head).await?;
    }
    Ok((needs, channels))
}

/// The newest snapshots of the channels that are wanted.
async fn snapshots(station: &Station, wanted: &[String]) -> Result<BTreeMap<String, Id<Snapshot>>> {
    let mut out = BTreeMap::new();
    for channel in crate::channel::list(station).await? {
        if !wanted.is_empty() && !wanted.contains(&channel.name) {
            continue;
        }
        match station.store.db.find_ref(&ref_name(&channel.name, "snapshot")).await? {
            Some(id) => {
                out.insert(channel.name, Id::new(id));
            }
            None if wanted.is_empty() => {}
            None => {
                return Err(Error::usage(format!("channel `{}` was never published", channel.name))
                    .hint(format!("run `airlock sync {}`", channel.name)));
            }
        }
    }
    if let Some(absent) = wanted.iter().find(|w| !out.contains_key(*w)) {
        return Err(Error::usage(format!("there is no channel `{absent}`"))
            .hint("`airlock channel list` shows what is there"));
    }
    if out.is_empty() {
        return Err(
            Error::usage("there is nothing to export: no channel was published").hint("run `airlock sync`")
        );
    }
    Ok(out)
}

/// Leaves out what the base brought.
async fn leave_out_base(db: &Db, state: &ExportState, base: Base, needs: &mut Needs) -> Result<()> {
    let known = state.bundles.iter().find(|e| e.bundle == base).ok_or_else(|| {
        Error::unsafe_(format!(
            "the receipt names bundle {} of this stream, but this station never wrote that one",
            base.number
        ))
        .hint("if this station was restored from a backup, export with --full")
    })?;
    let mut has = Needs::default();
    let long_ago = |e: Error| {
        e.while_(&format!("bundle {} was written too long ago to build on it", base.number))
            .hint("export with --full")
    };
    for id in known.channels.values() {
        has.add_snapshot(db, *id).await.map_err(long_ago)?;
    }
    for head in known.feeds.values() {
        has.add_feed(db, head).await.map_err(long_ago)?;
    }
    needs.objects.retain(|id| !has.objects.contains(id));
    needs.files.retain(|id, _| !has.files.contains_key(id));
    Ok(())
}

/// The files with their sizes, sorted by path. All of them must be in the store.
fn sized(blobs: &Blobs, files: BTreeMap<Digest, BundledFile>) -> Result<Vec<BundledFile>> {
    let mut out = Vec::with_capacity(files.len());
    for (digest, file) in files {
        let blob = blobs.find(digest).ok_or_else(|| {
            Error::fault(format!("{} is published, but its bytes are not in the store", file.name))
                .hint("restore the blobs from a backup, or sync the channel again")
        })?;
        out.push(BundledFile { size: blob.size(), ..file });
    }
    out.sort();
    Ok(out)
}

/// Marks a directory in which an export was broken off, and may be begun again.
const PARTIAL: &str = "AIRLOCK.partial";

/// Makes the directory, which must hold nothing but what an export left that was broken off.
fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(file_error(dir))?;
    let marker = dir.join(PARTIAL);
    if !marker.exists() {
        let names = fs::read_dir(dir).map_err(file_error(dir))?;
        let names = names.filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()));
        if let Some(name) = names.into_iter().find(|name| !litter::is_litter(name)) {
            return Err(Error::usage(format!("{} is not empty: it holds `{name}`", dir.display()))
                .hint("give a folder of its own, which is made if it does not exist"));
        }
        fs::write(&marker, "").map_err(file_error(&marker))?;
    }
    for folder in ["files", "objects"] {
        let path = dir.join(folder);
        fs::create_dir_all(&path).map_err(file_error(&path))?;
    }
    Ok(())
}

/// Hashes and counts what passes through.
struct Counting<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes objects as JSON lines, sorted by name.
async fn write_objects(db: &Db, dir: &Path, path: &str, ids: &BTreeSet<Digest>) -> Result<ObjectFile> {
    let target = dir.join(path);
    let fail = || file_error(&target);
    let file = File::create(&target).map_err(fail())?;
    let counting = Counting { inner: BufWriter::new(file), hasher: Sha256::new(), size: 0 };
    let mut encoder = zstd::Encoder::new(counting, ZSTD_LEVEL).map_err(fail())?;
    let all: Vec<Digest> = ids.iter().copied().collect();
    let mut unpacked = 0;
    for chunk in all.chunks(500) {
        let objects = db.get_many(chunk).await?;
        for id in chunk {
            let bytes = objects.get(id).ok_or(airlock_store::StoreError::MissingObject(*id))?;
            encoder.write_all(bytes).and_then(|()| encoder.write_all(b"\n")).map_err(fail())?;
            unpacked += bytes.len() as u64 + 1;
        }
    }
    let mut counting = encoder.finish().map_err(fail())?;
    counting.flush().map_err(fail())?;
    let sha256 = Digest::from_bytes(counting.hasher.finalize().into());
    Ok(ObjectFile { path: path.to_owned(), sha256, size: counting.size, lines: all.len() as u64, unpacked })
}

/// Copies artifacts, hashing what was read: a store that rotted does not reach the medium.
fn copy_files(blobs: &Blobs, dir: &Path, files: &[BundledFile]) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let target = dir.join(&file.path);
        let blob =
            blobs.find(file.sha256).ok_or_else(|| Error::fault(format!("{} left the store", file.name)))?;
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
        }
        let mut source = File::open(blob.path()).map_err(file_error(blob.path()))?;
        let mut sink = File::create(&target).map_err(file_error(&target))?;
        let mut hasher = Sha256::new();
        loop {
            let n = source.read(&mut buffer).map_err(file_error(blob.path()))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            sink.write_all(&buffer[..n]).map_err(file_error(&target))?;
        }
        if Digest::from_bytes(hasher.finalize().into()) != file.sha256 {
            return Err(Error::fault(format!(
                "{}: the store's copy of {} has changed",
                blob.path().display(),
                file.name
            ))
            .hint("restore the blobs from a backup; nothing was released"));
        }
    }
    Ok(())
}

fn write_readme(dir: &Path, manifest: &Manifest, fingerprint: &str) -> Result<ExtraFile> {
    let channels: Vec<&str> = manifest.channels.keys().map(String::as_str).collect();
    let text = format!(
        "This is an Airlock bundle: packages that a station released for another network.\n\n\
         Sender       {} (key fingerprint {fingerprint})\nStream       {}\nNumber       {}\nChannels     {}\nFiles        {}\n\n\
         To verify it with nothing but the sender's public key:\n\n    airlock verify DIR --key station.pub\n\n\
         By hand: AIRLOCK.json lists every file with its SHA-256; AIRLOCK.sig holds, on each line, `ed25519`, a public key and\n\
         a signature over the exact bytes of AIRLOCK.json, in hexadecimal:\n\n    \
         awk '/^ed25519/ {{print $3}}' AIRLOCK.sig | xxd -r -p > /tmp/sig.bin\n    \
         openssl pkeyutl -verify -pubin -inkey station.pub -rawin -in AIRLOCK.json -sigfile /tmp/sig.bin\n\n\
         Every file against its hash (prints nothing but OK):\n\n    \
         python3 -c \"import json; m = json.load(open('AIRLOCK.json')); [print(f['sha256'] + '  ' + f['path']) for k in ('objects', 'files', 'extra') for f in m[k]]\" | sha256sum -c --quiet && echo OK\n\n\
         The fingerprint is the first 40 digits of the SHA-256 of the 32 bytes of the key; compare it with the one that the\n\
         sender's administrator tells you another way:\n\n    \
         openssl pkey -pubin -in station.pub -outform DER | tail -c 32 | sha256sum | cut -c1-40\n",
        manifest.sender.name,
        manifest.stream,
        manifest.number,
        channels.join(", "),
        manifest.files.len(),
    );
    let path = dir.join(README);
    fs::write(&path, &text).map_err(file_error(&path))?;
    Ok(ExtraFile { path: README.to_owned(), sha256: Digest::of(text.as_bytes()), size: text.len() as u64 })
}

/// Removes what an export that was broken off left behind and this one does not list.
fn remove_leftovers(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<PathBuf> = super::verify::listed(manifest).map(|p| dir.join(p)).collect();
    for path in super::verify::files_in(dir)? {
        if !listed.contains(&path) && !path.ends_with(PARTIAL) {
            fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    Ok(())
}

/// Syncs everything, then writes the manifest and at last the signature.
fn seal(station: &Station, dir: &Path, manifest: &str) -> Result<()> {
    let sync = || -> Result<()> {
        let folder = File::open(dir).map_err(file_error(dir))?;
        rustix::fs::syncfs(&folder).map_err(|e| file_error(dir)(e.into()))
    };
    sync()?;
    let path = dir.join(MANIFEST);
    fs::write(&path, manifest).map_err(file_error(&path))?;
    let marker = dir.join(PARTIAL);
    fs::remove_file(&marker).map_err(file_error(&marker))?;
    let path = dir.join(SIGNATURES);
    let line = station.key.sign(manifest.as_bytes());
    fs::write(&path, format!("{line}\n")).map_err(file_error(&path))?;
    sync()
}
