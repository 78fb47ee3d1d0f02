//! Bundles that come file by file from whoever reaches an address, such as by PUT over HTTP.
//!
//! ```text
//!   AIRLOCK.json, ROOT.json --> Arriving --AIRLOCK.sig--> Door --> Spool <-- files that the manifest lists, of their size
//!                                                                    '--> every hash fits, Door --> named
//! ```
//!
//! Nobody is known on this link before a signature fits. So the manifest comes first: what is held until then is small and soon
//! gone, and what is taken after it has been promised by a trusted sender, byte for byte. A bundle counts when its last file fits,
//! whichever that is. What is here says nothing to anybody but what is missing, to whoever shows the signatures.

mod arriving;
mod writing;

pub use writing::{Begun, Writing};

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airlock_core::bundle::{MANIFEST, SIGNATURES, is_bundle_path};
use airlock_core::id::Digest;
use airlock_core::roles::Action;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::arriving::Arriving;
use super::door::Door;
use super::hasher::Hasher;
use super::receive::Outcome;
use super::spool::{self, Spool};
use super::{quota, receive};
use crate::bundle::signing::Trusted;
use crate::error::{Error, Kind, Result, file_error, joined};
use crate::people;
use crate::station::Station;
use crate::trust;

/// Between two looks at what was hashed, fell silent or is too old.
const LOOK: Duration = Duration::from_secs(1);
/// So long after something of it came a bundle stays open: opening it again means hashing what is there.
const OPEN_MAX: Duration = Duration::from_secs(600);
/// Between two refusals that are told of: whoever reaches the address can cause them.
const REFUSALS: Duration = Duration::from_secs(5);

/// What a PUT is of: a file of a bundle that is named by the SHA-256 of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// SHA-256 of the manifest.
    pub bundle: Digest,
    /// Path within the bundle.
    pub path: String,
}

impl Target {
    /// Reads `<64 digits>/<path>`. Nothing is decoded, and nothing passes that a manifest may not name.
    pub fn parse(text: &str) -> Option<Self> {
        let (bundle, path) = text.split_once('/')?;
        let is_known = [MANIFEST, SIGNATURES].contains(&path) || is_bundle_path(path);
        let is_lower = bundle.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bundle: Digest = bundle.parse().ok().filter(|_| is_known && is_lower)?;
        Some(Self { bundle, path: path.to_owned() })
    }
}

/// Why a PUT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its manifest is not known here yet.
    Unknown,
    /// The manifest does not list it.
    NotListed,
    /// It is not as long as the manifest says.
    Length,
    /// Its bytes are not those that were announced.
    Hash,
    /// Another connection is sending it.
    Busy,
    /// What is here does not end where this begins.
    Range,
    /// It is larger than may be.
    Large,
    /// There is no room for it.
    Full,
    /// The manifest may not come in.
    Untrusted,
    /// Something is wrong on this side.
    Fault,
}

/// A PUT that is refused, and what this side is told of it.
#[derive(Debug)]
pub struct Refusal {
    /// Why: that much may be said to anybody.
    pub why: Why,
    /// What it was, with names of this side.
    pub error: Error,
}

impl Refusal {
    fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, error: Error::fault(message) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let why =
            if error.kind == Kind::Unsafe || error.kind == Kind::Usage { Why::Untrusted } else { Why::Fault };
        Self { why, error }
    }
}

/// What came of a PUT that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was written, and is what the manifest says.
    Stored,
    /// The bundle is whole, verified, and has its name.
    Delivered,
    /// The manifest is believed; this missing list says what is still to come. One that is empty says that what came is being
    /// looked at.
    Wanted(String),
}

/// How to receive.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The spool.
    pub into: PathBuf,
    /// Bytes that bundles which are not whole yet may take together.
    pub quota: Option<u64>,
    /// How long a bundle that is not whole is kept after something of it came.
    pub keep: Duration,
    /// So long without anything of a bundle, and it is told what is missing.
    pub silence: Duration,
}

/// What came of a bundle.
#[derive(Debug)]
pub struct Arrival {
    /// What.
    pub outcome: Outcome,
    /// Since it was opened.
    pub seconds: f64,
    /// Bytes of the bundle that are there.
    pub arrived: u64,
    /// Bytes of the bundle.
    pub total: u64,
}

/// A bundle that is being received.
struct Bundle {
    spool: Spool,
    /// Looks at what was there when it was opened.
    hasher: Hasher,
    /// Files that a connection is sending.
    busy: BTreeSet<usize>,
    began: Instant,
    last: Instant,
    is_told: bool,
}

/// What is known of a bundle whose manifest is or was here.
enum Slot {
    Closed,
    Open(Box<Bundle>),
    Delivered(PathBuf),
}

/// A spool into which many may write.
pub struct Inbox {
    into: PathBuf,
    incoming: PathBuf,
    door: Door,
    wish: Wish,
    arriving: Arriving,
    slots: Mutex<BTreeMap<Digest, Arc<Mutex<Slot>>>>,
    /// One manifest at a time is held in memory.
    judging: Mutex<()>,
    refused: Mutex<Option<Instant>>,
    tell: UnboundedSender<Arrival>,
    _lock: File,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("into", &self.into).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// Opens a spool, into which nobody else writes meanwhile. What comes of bundles is told.
    pub async fn open(station: &Station, wish: Wish) -> Result<(Arc<Self>, UnboundedReceiver<Arrival>)> {
        people::allow(station, Action::Import, None).await?;
        if Trusted::of(&trust::list(station).await?)?.is_nobody() {
            return Err(receive::nobody());
        }
        let (tell, told) = unbounded_channel();
        let door = Door::new(station);
        let opened = move || {
            std::fs::create_dir_all(&wish.into).map_err(file_error(&wish.into))?;
            let incoming = spool::incoming(&wish.into)?;
            let lock = spool::lock(&incoming)?;
            quota::expire(&incoming, wish.keep)?;
            let unsigned = Arriving::share(wish.quota);
            let wish = Wish { quota: wish.quota.map(|quota| quota - unsigned), ..wish };
            let arriving = Arriving::new(spool::arriving(&incoming)?, unsigned);
            let into = wish.into.clone();
            let (slots, judging, refused) = (Mutex::default(), Mutex::default(), Mutex::default());
            Ok(Self { into, incoming, door, wish, arriving, slots, judging, refused, tell, _lock: lock })
        };
        let inbox = joined(tokio::task::spawn_blocking(opened).await)?;
        Ok((Arc::new(inbox), told))
    }

    /// Looks after what is open until it is dropped.
    pub async fn keep(self: Arc<Self>) {
        let mut tidied = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let inbox = self.clone();
            let is_due = tidied.elapsed() >= quota::TIDY;
            if is_due {
                tidied = Instant::now();
            }
            let look = move || {
                inbox.look();
                if is_due { quota::expire(&inbox.incoming, inbox.wish.keep) } else { Ok(()) }
            };
            if let Err(error) = joined(tokio::task::spawn_blocking(look).await) {
                self.tell(Outcome::of(error), None);
            }
        }
    }

    fn look(&self) {
        self.arriving.expire();
        let slots: Vec<_> = held(&self.slots).values().cloned().collect();
        for slot in slots {
            let mut slot = held(&slot);
            if let Err(error) = self.settle(&mut slot) {
                self.tell(Outcome::of(error), None);
                continue;
            }
            let Slot::Open(bundle) = &mut *slot else { continue };
            let quiet = bundle.last.elapsed();
            if !bundle.busy.is_empty() || bundle.spool.is_checking() || quiet < self.wish.silence {
                continue;
            }
            if !bundle.is_told {
                bundle.is_told = true;
                let outcome = incomplete(&bundle.spool).unwrap_or_else(Outcome::of);
                self.tell(outcome, Some(bundle));
            }
            if quiet >= OPEN_MAX {
                *slot = Slot::Closed;
            }
        }
    }

    fn tell(&self, outcome: Outcome, bundle: Option<&Bundle>) {
        let (arrived, total) = bundle.map_or((0, 0), |b| (b.spool.arrived(), b.spool.members.bytes()));
        let seconds = bundle.map_or(0.0, |b| (b.last - b.began).as_secs_f64());
        // Who looks on may have gone; what arrives is kept all the same.
        let _ = self.tell.send(Arrival { outcome, seconds, arrived, total });
    }

    /// Tells of a refusal, unless one was told of a moment ago.
    fn tell_refusal(&self, error: &Error) {
        let mut last = held(&self.refused);
        if last.is_none_or(|at| at.elapsed() >= REFUSALS) {
            *last = Some(Instant::now());
            let error = match &error.hint {
                Some(hint) => Error { kind: error.kind, ..Error::fault(&error.message) }.hint(hint),
                None => Error { kind: error.kind, ..Error::fault(&error.message) },
            };
            self.tell(Outcome::of(error), None);
        }
    }

    /// The bundle with this manifest, opened as far as it is here; none where it is not known.
    fn slot(&self, bundle: Digest) -> std::result::Result<Option<Arc<Mutex<Slot>>>, Refusal> {
        let slot = {
            let mut slots = held(&self.slots);
            match slots.get(&bundle) {
                Some(slot) => slot.clone(),
                None if !self.dir(bundle).join(MANIFEST).exists() => return Ok(None),
                None => slots.entry(bundle).or_insert_with(|| Arc::new(Mutex::new(Slot::Closed))).clone(),
            }
        };
        let mut open = held(&slot);
        if matches!(&*open, Slot::Delivered(place) if !place.exists()) {
            *open = Slot::Closed;
        }
        if matches!(&*open, Slot::Closed) {
            let _one = held(&self.judging);
            let Some(mut spool) = Spool::open(&self.into, &self.door, bundle)? else { return Ok(None) };
            if spool.is_delivered(&self.door)? {
                *open = Slot::Delivered(spool.place());
                spool.remove()?;
            } else {
                let (hasher, now) = (Hasher::start(), Instant::now());
                let whole = spool.begin()?.into_iter().filter(|reached| reached.upto == reached.size);
                whole.for_each(|reached| hasher.tell(reached));
                let busy = BTreeSet::new();
                *open = Slot::Open(Box::new(Bundle {
                    spool,
                    hasher,
                    busy,
                    began: now,
                    last: now,
                    is_told: false,
                }));
            }
        }
        drop(open);
        Ok(Some(slot))
    }

    fn dir(&self, bundle: Digest) -> PathBuf {
        self.incoming.join(bundle.to_string())
    }

    /// Takes in what was hashed, and gives a bundle its name if it is whole.
    fn settle(&self, slot: &mut Slot) -> Result<()> {
        let Slot::Open(bundle) = slot else { return Ok(()) };
        let verdicts = bundle.hasher.verdicts();
        verdicts.into_iter().try_for_each(|verdict| bundle.spool.judged(verdict.at, verdict.fits))?;
        if !bundle.spool.is_complete() {
            return Ok(());
        }
        let (outcome, place) = (complete(&bundle.spool), bundle.spool.place());
        let Slot::Open(whole) = std::mem::replace(slot, Slot::Closed) else { return Ok(()) };
        let Bundle { spool, began, .. } = *whole;
        let (arrived, total) = (spool.arrived(), spool.members.bytes());
        spool.deliver(&self.door)?;
        *slot = Slot::Delivered(place);
        let _ = self.tell.send(Arrival { outcome, seconds: began.elapsed().as_secs_f64(), arrived, total });
        Ok(())
    }

    /// Believes a bundle, or not, and says what of it is missing. It is known already, or its manifest arrived.
    fn signed(&self, bundle: Digest, signatures: &[u8]) -> std::result::Result<Answer, Refusal> {
        let answer = self.judged(bundle, signatures);
        if let Err(refusal) = &answer
            && matches!(refusal.why, Why::Untrusted | Why::Full | Why::Fault)
        {
            self.tell_refusal(&refusal.error);
        }
        answer
    }

    fn judged(&self, bundle: Digest, signatures: &[u8]) -> std::result::Result<Answer, Refusal> {
        let slot = match self.slot(bundle)? {
            Some(slot) => {
                let place = match &*held(&slot) {
                    Slot::Delivered(place) => place.clone(),
                    _ => self.dir(bundle),
                };
                let _one = held(&self.judging);
                spool::renew(&self.incoming, &self.door, &place, signatures)?;
                slot
            }
            None => {
                self.accept(bundle, signatures)?;
                self.slot(bundle)?.ok_or_else(unknown)?
            }
        };
        let mut slot = held(&slot);
        self.settle(&mut slot)?;
        match &mut *slot {
            // Whoever only asks keeps nothing open: that may be somebody who saw the signatures pass.
            Slot::Open(bundle) => Ok(Answer::Wanted(bundle.spool.missing().to_string())),
            Slot::Delivered(_) => Ok(Answer::Delivered),
            Slot::Closed => Err(unknown()),
        }
    }

    fn accept(&self, bundle: Digest, signatures: &[u8]) -> std::result::Result<(), Refusal> {
        let _one = held(&self.judging);
        let folder = self.arriving.hold(bundle).ok_or_else(unknown)?;
        let path = folder.join(SIGNATURES);
        let written = std::fs::write(&path, signatures).map_err(file_error(&path));
        let accepted = written.and_then(|()| {
            spool::accept_folder(&self.incoming, &self.door, bundle, &folder, self.wish.quota)
        });
        // Signatures that count for nothing may be anybody's: the manifest waits for those of whoever wrote it.
        self.arriving.let_go(bundle, accepted.is_ok());
        // Of what is no fault of the sender's, there being no room is what can be mended.
        accepted.map_err(|error| match error.kind {
            Kind::Fault => Refusal { why: Why::Full, error },
            _ => error.into(),
        })
    }
}

impl Bundle {
    /// Something came.
    fn touch(&mut self) {
        self.last = Instant::now();
        self.is_told = false;
    }
}

fn complete(spool: &Spool) -> Outcome {
    let (members, bundle) = (&spool.members, spool.place());
    let (manifest, stream, number) = (members.transfer, members.stream.clone(), members.number);
    Outcome::Complete { manifest, stream, number, bundle, bytes: members.bytes() }
}

fn incomplete(spool: &Spool) -> Result<Outcome> {
    let (members, list) = (&spool.members, spool.list_missing()?);
    let (manifest, stream, number) = (members.transfer, members.stream.clone(), members.number);
    let mut paths: Vec<String> = spool.missing().parts.into_iter().map(|part| part.path).collect();
    paths.dedup();
    let (missing_files, missing_bytes) = (paths.len() as u64, members.bytes() - spool.arrived());
    Ok(Outcome::Incomplete { manifest, stream, number, list, missing_files, missing_bytes })
}

fn unknown() -> Refusal {
    Refusal::new(Why::Unknown, "its manifest is not known here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_meant_but_what_a_manifest_may_name() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for path in [
            "AIRLOCK.json",
            "AIRLOCK.sig",
            "ROOT.json",
            "README.txt",
            "objects/a.jsonl.zst",
            "files/9f/x.whl",
        ] {
            let target = Target::parse(&format!("{hash}/{path}")).unwrap();
            assert_eq!((target.bundle.to_string().as_str(), target.path.as_str()), (hash, path));
        }
        let long = format!("files/aa/{}", "a".repeat(240));
        for bad in [
            "",
            "AIRLOCK.json/",
            "../AIRLOCK.json",
            "files/../AIRLOCK.json",
            "files/aa/../../x",
            "files//x",
            "files/aa/.x",
            "files/aa/x?y",
            "files/aa/%2e%2e",
            "files/aa/x y",
            "files\\aa\\x",
            "/etc/passwd",
            "airlock.json",
            "AIRLOCK.partial",
            "incoming/x",
            "files/aa/b/c",
            long.as_str(),
        ] {
            assert_eq!(Target::parse(&format!("{hash}/{bad}")), None, "{bad}");
        }
        let upper = hash.to_uppercase();
        for bad in [&hash[1..], &upper, "..", "", "a"] {
            assert_eq!(Target::parse(&format!("{bad}/AIRLOCK.json")), None, "{bad}");
        }
        assert_eq!(Target::parse(hash), None);
    }
}
