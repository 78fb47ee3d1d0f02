//! Writing a bundle.
//!
//! Files first, then the manifest, the signature last: a directory without a signature is no bundle. The
//! number is taken before anything is signed, so that no two bundles ever have the same one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{self, Base, Held, Manifest, Receipt, Sender};
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::LedgerHead;
use airlock_core::request::Answers;
use airlock_core::roles::Action;
use airlock_core::root::Chain;
use airlock_core::snapshot::Snapshot;
use airlock_formats::age::Recipient;
use airlock_store::{Db, Lease};

use super::gather;
use super::heard::{self, Receivers};
use super::held::{self, Carried};
use super::lay;
use super::layout::{self, Bounds};
use super::lines::Lines;
use super::needs::Needs;
use super::seals::{self, Inside};
use super::signing::Released;
use super::source::{Sources, Wholes};
use super::text::Text;
use super::write::Folder;
use super::{ExportState, Exported, cut, resend, turns, volumes};
use crate::boxed;
use crate::error::{Error, Result, joined};
use crate::people;
use crate::station::Station;
use crate::{feeds, request, roots};

/// Where the objects lie in a bundle.
pub(super) const OBJECTS: &str = "objects/objects.jsonl.zst";

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// The channels; empty means all that have been published.
    pub channels: Vec<String>,
    /// The peer that it is meant for.
    pub to: Option<String>,
    /// Also what is held, for people on the other side to judge.
    pub held: bool,
    /// Only what is known of vulnerabilities, and no channel.
    pub advisories: bool,
    /// What the receiver has already.
    pub base: Option<Base>,
    /// What it has already is what the last bundle of the stream brought, if there is one: nobody answered that it came.
    pub since_last: bool,
    /// The receipt by which it is known what the receiver has.
    pub receipt: Option<Receipt>,
    /// The newest layout that it reads, as its receipt says; otherwise the last one counts that was used.
    pub reads: Option<u32>,
    /// Only say what it would take.
    pub plan: bool,
    /// Further folders, on a medium each: the bundle is split over all of them.
    pub further: Vec<PathBuf>,
    /// What media hold, in bytes: for all, for each folder, or for as many volumes within one folder as it takes.
    pub capacities: Vec<u64>,
    /// Of media that are put in one after another, the volume that is written now; the others follow.
    pub volume: Option<u32>,
    /// The most bytes that a file may have: larger ones are cut in parts.
    pub max_file: Option<u64>,
    /// How many volumes of parity are added, or how many of the folders hold it.
    pub parity: u32,
    /// To whom it is sealed, beside those whom the configuration names for the peer.
    pub seal: Vec<Recipient>,
}

impl What {
    fn wants(&self, channel: &str) -> bool {
        !self.advisories && (self.channels.is_empty() || self.channels.iter().any(|c| c == channel))
    }

    /// Whether a channel is wanted, or one in its name that comes from it.
    fn bears_on(&self, name: &str) -> bool {
        let is_below = |child: &String| child.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        self.wants(name) || self.channels.iter().any(is_below)
    }
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
    /// How many of them are cut in parts.
    pub cut: u64,
    /// Objects in it.
    pub objects: u64,
    /// Published artifacts that the base brought already.
    pub left_out: u64,
    /// What is to be known of the receipt that it answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<String>,
    /// What was asked for and left out, since the receiver does not read it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// What it carries of what is held, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldFiles>,
    /// The channels.
    pub channels: Vec<String>,
    /// The volumes that it is split over, those of parity last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<OnMedium>,
    /// Of a plan: how long the media take together, in seconds, by a trial on each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Where release keys are named: who signed, and how many are missing. It counts when none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Released>,
    /// To whom it is sealed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<String>,
}

/// What a bundle carries of what is held.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct HeldFiles {
    /// Files that it carries, for people on the other side to judge.
    pub carried: u64,
    /// Files whose bytes are not here: an export that is no plan fetches what its sources give.
    pub not_here: u64,
}

/// What one volume holds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OnMedium {
    /// Its folder.
    pub folder: PathBuf,
    /// Its number, from 1; none of single files that were missing.
    pub volume: Option<u32>,
    /// Bytes of its files, or of parity.
    pub bytes: u64,
    /// How many files that are; none of parity where that is not made yet.
    pub files: u64,
    /// Whether it holds parity.
    pub parity: bool,
    /// Of a plan: how long the medium takes to be written and read back, in seconds, by a trial on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// The stream of this station to a peer.
pub fn stream_of(station: &Station, to: Option<&str>) -> String {
    let to = to.unwrap_or("all");
    if let Some(begin) = &station.config.release.stream {
        return format!("{begin}-to-{to}");
    }
    let key = station.key.public_hex();
    let plain: String = station
        .config
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    format!("{plain}-{}-to-{to}", &key[..12])
}

/// Writes a bundle into `dir`, or plans one.
#[boxed]
pub async fn export(station: &Station, dir: &Path, what: &What) -> Result<Report> {
    check_peer(what.to.as_deref())?;
    turns::check(dir, what)?;
    let (media, root) = (volumes::media(dir, what)?, roots::of_station(station)?);
    let limit = cut::limit(what.further.iter().map(PathBuf::as_path).chain([dir]), what.max_file)?;
    let stream = stream_of(station, what.to.as_deref());
    let (bounds, with_held) = layout::asked(station, &stream, what, limit).await?;
    let lease = if what.plan { None } else { Some(readied(station, &stream, what, with_held).await?) };
    let db = &station.store.db;
    let (before, state) = state(db, &stream).await?;
    let last = state.bundles.last().map(|e| e.bundle);
    let Receiver { base, receivers, told } = receiver(station, what, &stream, &state).await?;
    let (snapshots, heads) = (gather::snapshots(station, what).await?, feeds::heads(station).await?);
    check_known(what, &heads)?;
    let needs = match base {
        Some(base) => gather::base_needs(station, &state, base).await?.beyond(),
        None => Needs::new(station.options.threads),
    };
    let held = if with_held { held::of(station, &snapshots).await? } else { Carried::default() };
    let (mut needs, channels) = gather::gather(db, needs, (&snapshots, &held.channels), &heads).await?;
    let answers = request::answers(station, what.to.as_deref(), &snapshots).await?;
    needs.objects.extend(answers.as_ref().map(|(id, _)| id.digest()));
    let (objects, wanted, left_out) = needs.into_parts();
    let blobs = station.store.blobs.clone();
    let files = joined(tokio::task::spawn_blocking(move || gather::sized(&blobs, wanted)).await)?;
    let ledger = db.ledger_head().await?;
    let manifest = Manifest {
        answers: answers.as_ref().map(|(id, _)| *id),
        format: layout::of(&heads, root.is_some(), &held),
        heard: receivers.iter().map(|(key, heard)| (key.clone(), heard.ledger)).collect(),
        joined: Vec::new(),
        number: last.map_or(0, |l| l.number) + 1,
        predecessor: last.map(|l| l.manifest),
        base,
        sealed: None,
        sender: Sender { name: station.config.name.clone(), public_key: station.key.public_hex() },
        recipient: what.to.clone(),
        created: station.now().await?,
        feeds: heads.clone(),
        objects: Vec::new(),
        extra: Vec::new(),
        parity: None,
        volumes: Vec::new(),
        channels,
        files,
        ledger,
        stream,
    };
    layout::check(&manifest, bounds.reads)?;
    let report = Report {
        heard: told,
        held: with_held.then(|| held.told()),
        unread: layout::left_out(what, bounds, with_held),
        ..report(&manifest, objects.len() as u64, left_out)
    };
    let (manifest, inside) = seals::seal(station, manifest, &objects, what).await?;
    if what.plan {
        return plan(station, dir, media, (what.parity, bounds), (manifest, report, objects)).await;
    }
    let (receipt, answered) = ((what.base, bounds.reads), answers.as_ref().map(|(id, _)| *id));
    let held = held.channels;
    let stands =
        Stands { snapshots, held, heads, state, before, base, receipt, receivers, ledger, answers: answered };
    let made = (manifest, report, objects);
    let report = make(station, (dir, what), (media, bounds), made, (stands, inside, root)).await?;
    request::sent(station, answers.as_ref().map(|(_, answers)| answers), report.number).await;
    drop(lease);
    if let Some(volume) = what.volume {
        turns::begin(station, dir, volume, &report).await?;
    }
    Ok(report)
}

/// Writes a bundle, and signs it.
#[boxed]
async fn make(
    station: &Station,
    (dir, what): (&Path, &What),
    (media, bounds): (Option<volumes::Media>, Bounds),
    (manifest, report, ids): (Manifest, Report, BTreeSet<Digest>),
    (stands, inside, root): (Stands, Option<Inside>, Option<Chain>),
) -> Result<Report> {
    let laid = lay::lay(station, (dir, what), (media, bounds), (manifest, &ids, inside.as_ref())).await?;
    let report = Report { volumes: laid.volumes, ..report };
    drop(ids);
    let by = (root.as_ref(), inside.as_ref());
    let (folders, text, report) = write(station, laid.folders, laid.manifest, report, by).await?;
    sign(station, folders, report, stands, (text, inside, root)).await
}

/// What is known of whom a bundle is for.
struct Receiver {
    /// What it has, by its receipt or since the last bundle brought it.
    base: Option<Base>,
    /// Whose receipts were used, the one that is answered included.
    receivers: Receivers,
    /// What a person should know of that one.
    told: Vec<String>,
}

async fn receiver(station: &Station, what: &What, stream: &str, state: &ExportState) -> Result<Receiver> {
    let (told, receivers) = match &what.receipt {
        Some(receipt) => heard::hold(station, what.to.as_deref(), receipt).await?,
        None => (Vec::new(), heard::receivers(station, stream).await?),
    };
    if !what.since_last {
        return Ok(Receiver { base: what.base, receivers, told });
    }
    // One that was broken off after it took its number is nowhere.
    let kept = crate::retention::exported(station, stream, state.clone()).await?.map(|sent| sent.bundle);
    let base = kept.filter(|bundle| resend::was_written(&station.dir, *bundle)).last();
    Ok(Receiver { base, receivers, told })
}

/// Makes what is published, and what is held where that goes along, ready to leave.
async fn readied(station: &Station, stream: &str, what: &What, with_held: bool) -> Result<Lease> {
    people::allow(station, Action::Export, None).await?;
    let lease = station.lease(&state_ref(stream), "export").await?;
    let faults = if with_held { held::fetch(station, |name| what.bears_on(name)).await? } else { 0 };
    if faults > 0 {
        tracing::warn!("{faults} held files did not come from their sources, and are left out");
    }
    // What leaves is what may leave now: blocked or run out since the last judgement is not.
    let judged = crate::sync::rejudge_some(station, |name| what.bears_on(name), "before export").await?;
    judged.failed.map_or(Ok(lease), Err)
}

/// What a manifest without its objects says.
pub(super) fn report(manifest: &Manifest, objects: u64, left_out: u64) -> Report {
    Report {
        stream: manifest.stream.clone(),
        number: manifest.number,
        base: manifest.base.map(|b| b.number),
        manifest: None,
        files: manifest.files.len() as u64,
        bytes: manifest.files.bytes(),
        cut: manifest.joined.len() as u64,
        objects,
        left_out,
        heard: Vec::new(),
        unread: Vec::new(),
        held: None,
        channels: manifest.channels.keys().cloned().collect(),
        volumes: Vec::new(),
        seconds: None,
        release: None,
        sealed: Vec::new(),
    }
}

/// What is known only of the manifest that travels: in what its files do.
fn tell(report: &mut Report, manifest: &Manifest) {
    report.cut = manifest.joined.len() as u64;
    report.sealed = manifest.sealed.as_ref().map(|sealed| sealed.recipients.clone()).unwrap_or_default();
}

/// What it would take, on these media, and how long by what they do now.
async fn plan(
    station: &Station,
    dir: &Path,
    media: Option<volumes::Media>,
    (parity, bounds): (u32, Bounds),
    (mut manifest, mut report, ids): (Manifest, Report, BTreeSet<Digest>),
) -> Result<Report> {
    if let Some(media) = media {
        if manifest.sealed.is_none() {
            let (_beside, objects) = volumes::objects_beside(station, &ids).await?;
            manifest.objects = vec![objects];
        }
        let layout = media.assign(&mut manifest, parity, bounds.file)?;
        report.volumes = volumes::planned(&layout, &manifest);
    } else {
        let files = std::mem::take(&mut manifest.files);
        cut::list(&mut manifest, files, bounds.file)?;
    }
    layout::check(&manifest, bounds.reads)?;
    tell(&mut report, &manifest);
    let objects = manifest.objects.iter().map(|file| file.size);
    let beside = objects.chain(manifest.extra.iter().map(|file| file.size)).sum::<u64>();
    let dir = dir.to_owned();
    joined(tokio::task::spawn_blocking(move || timed(report, &dir, beside)).await)
}

/// A plan with how long the media take. Each volume has what lies beside the files.
fn timed(mut report: Report, dir: &Path, beside: u64) -> Result<Report> {
    let mut media = BTreeMap::new();
    let mut seconds = |dir: &Path, bytes: u64| -> Result<Option<f64>> {
        let Some(there) = dir.ancestors().find(|path| path.is_dir()) else { return Ok(None) };
        let each = match media.entry(super::media::device(there)?) {
            Entry::Occupied(tried) => *tried.get(),
            Entry::Vacant(new) => *new.insert(super::media::seconds_per_byte(there)?),
        };
        Ok(Some(each * bytes.saturating_add(beside) as f64))
    };
    for volume in &mut report.volumes {
        volume.seconds = seconds(&volume.folder, volume.bytes)?;
    }
    report.seconds = match report.volumes.is_empty() {
        true => seconds(dir, report.bytes)?,
        false => report.volumes.iter().map(|volume| volume.seconds).sum(),
    };
    Ok(report)
}

/// Where a stream stands before a bundle, and what the bundle brings.
struct Stands {
    snapshots: BTreeMap<String, Id<Snapshot>>,
    held: BTreeMap<String, Held>,
    heads: BTreeMap<String, FeedHead>,
    state: ExportState,
    before: Option<Digest>,
    /// What it is a delta to.
    base: Option<Base>,
    /// What the receiver has by its receipt, and what it reads.
    receipt: (Option<Base>, Option<u32>),
    /// Whose receipts were used, this one included.
    receivers: Receivers,
    /// Where the ledger stood.
    ledger: LedgerHead,
    /// What the peer is answered.
    answers: Option<Id<Answers>>,
}

/// Writes what else belongs to a bundle but the signature, and reads all of it back. Gives the manifest.
async fn write(
    station: &Station,
    folders: Vec<Folder>,
    mut manifest: Manifest,
    mut report: Report,
    (root, inside): (Option<&Chain>, Option<&Inside>),
) -> Result<(Vec<Folder>, Text, Report)> {
    let root = root.map(|chain| roots::text(chain.file())).transpose()?;
    let wholes = Wholes::of(&station.store.blobs, inside.map(|inside| inside.files.clone()));
    let sources = Sources::of(&wholes, &manifest);
    let (progress, fingerprint) = (station.options.progress.clone(), station.key.fingerprint());
    let whole = move || {
        let beside = std::mem::take(&mut manifest.extra);
        for folder in &folders {
            let mut extra = vec![folder.write_readme(&manifest, &fingerprint)?];
            extra.extend(root.as_ref().map(|text| folder.write_root(text)).transpose()?);
            extra.extend(beside.iter().cloned());
            manifest.extra = extra;
        }
        for folder in &folders {
            folder.sync()?;
            folder.read_back(&sources, &manifest, &progress)?;
        }
        let dirs: Vec<PathBuf> = folders.iter().map(|folder| folder.dir().to_owned()).collect();
        if report.volumes.is_empty() {
            report.volumes = volumes::told(&dirs, &manifest);
        }
        tell(&mut report, &manifest);
        let mut text: Option<Text> = None;
        for folder in &folders {
            let written = folder.write_manifest(|sink| match &text {
                None => bundle::text::write(&mut manifest, sink),
                Some(first) => first.each(sink),
            })?;
            text.get_or_insert(written);
        }
        let text = text.ok_or_else(|| Error::fault("the bundle lies in no folder"))?;
        Ok((folders, text, report))
    };
    joined(tokio::task::spawn_blocking(whole).await)
}

/// Takes the number, which nobody else gets then, and signs.
async fn sign(
    station: &Station,
    folders: Vec<Folder>,
    mut report: Report,
    stands: Stands,
    (text, inside, root): (Text, Option<Inside>, Option<Chain>),
) -> Result<Report> {
    let Stands {
        snapshots,
        held: carried,
        heads,
        mut state,
        before,
        base,
        receipt,
        receivers,
        ledger,
        answers,
    } = stands;
    let digest = text.digest();
    let bundle = Base { number: report.number, manifest: digest };
    // What the receiver has after it: of channels that it does not bring, what its base did.
    let held = base.and_then(|base| state.bundles.iter().find(|e| e.bundle == base));
    let (mut channels, mut held) =
        held.map(|held| (held.channels.clone(), held.held.clone())).unwrap_or_default();
    held.retain(|name, _| !snapshots.contains_key(name));
    held.extend(carried);
    channels.extend(snapshots);
    state.bundles.push(Exported { bundle, channels, held, feeds: heads, ledger: Some(ledger), answers });
    if let Some(folder) = folders.first() {
        let inner = inside.as_ref().map(|inside| &inside.manifest);
        resend::keep(&station.dir, (&text, inner), folder.dir())?;
    }
    let id = station.store.db.put(&state).await?;
    let name = state_ref(&report.stream);
    let mut changes = crate::retention::based_on(station, &report.stream, receipt, receivers).await?;
    changes.push(airlock_store::RefChange { name, from: before, to: Some(id.digest()) });
    report.manifest = Some(digest);
    let line = station.key.sign_text(&text)?;
    let mut lines = Lines::from(vec![line.clone()]);
    lines.hold(&text, |_| true)?;
    if !lines.has_signed(&line.public_key) {
        return Err(Error::fault("the signature that was made does not fit; nothing was released")
            .hint("run it again; if it stays so, this station's key is damaged: put it back from a copy"));
    }
    report.release = root.as_ref().map(|chain| Released::by(chain, &lines));
    let detail = serde_json::to_value(&report)?;
    let subject = format!("stream/{}", report.stream);
    station.commit(changes, "bundle.export", &subject, &detail).await?;
    let line = line.to_string();
    folders.iter().try_for_each(|folder| folder.sign(&line))?;
    // What is released is released, whatever becomes of what is noted of it.
    if let Err(error) = resend::note_written(&station.dir, bundle) {
        tracing::warn!("the next --since-last will not rest on this bundle: {error}");
    }
    if let Err(error) = resend::tidy(station).await {
        tracing::warn!("what is kept of older bundles stays: {error}");
    }
    Ok(report)
}

/// The ref of what this station remembers of a stream.
pub(crate) fn state_ref(stream: &str) -> String {
    format!("export/{stream}")
}

/// What this station remembers of a stream, and the object that says it.
pub(super) async fn state(db: &Db, stream: &str) -> Result<(Option<Digest>, ExportState)> {
    match db.find_ref(&state_ref(stream)).await? {
        Some(id) => Ok((Some(id), db.get(Id::new(id)).await?)),
        None => Ok((None, ExportState::default())),
    }
}

fn check_peer(to: Option<&str>) -> Result<()> {
    match to.filter(|t| !airlock_core::channel::is_plain_name(t)) {
        Some(to) => Err(Error::usage(format!("`{to}` cannot name a peer"))
            .hint("use lower-case letters, digits, `_`, `-` and `.`")),
        None => Ok(()),
    }
}

fn check_known(what: &What, heads: &BTreeMap<String, FeedHead>) -> Result<()> {
    match what.advisories && heads.is_empty() {
        true => Err(Error::usage("there is nothing to export: no feed was read")
            .hint("run `airlock advisories update`")),
        false => Ok(()),
    }
}
