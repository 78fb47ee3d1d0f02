//! Sending a bundle to `airlock receive` over HTTP.
//!
//! Manifest, root and signatures go first, since nothing else is taken before they are believed; then what the receiver says to lack,
//! or everything where its answers do not count; then the signatures once more, which ask what is missing. An answer is believed
//! only where it says what nobody says by chance: a missing list, or the manifest's own hash.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::Url;

use airlock_core::bundle::{MANIFEST, ROOT, SIGNATURES};
use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_formats::oneway::missing::{MISSING_BYTES_MAX, Missing};
use airlock_formats::oneway::ranges::Ranges;

use super::members::Members;
use super::send::read_list;
use crate::boxed;
use crate::bundle::media;
use crate::bundle::signing::Trusted;
use crate::error::{Error, Result, joined};
use crate::people;
use crate::progress::{Task, Unit};
use crate::station::Station;
use crate::trust;
use crate::upstream::{Again, Client, Failure, Location, Reply, Tried, Upload};

/// Files on their way at the same time.
const AT_ONCE: usize = 4;
/// Between two questions to a receiver that looks at what it has.
const CHECKING: Duration = Duration::from_secs(1);
/// So long it may look.
const CHECKING_MAX: Duration = Duration::from_secs(3600);
/// What to do where the bundle is not what its manifest says.
const DAMAGED: &str = "run `airlock verify` on the bundle, and copy or export it again";
/// Characters of an answer that are repeated in an error.
const SHOWN_CHARS: usize = 200;

/// How to send.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `http(s)://HOST:PORT/PATH`.
    pub to: String,
    /// Bits a second, at most.
    pub rate: Option<u64>,
    /// A missing list.
    pub only: Option<PathBuf>,
    /// Answers do not count: something in between invents them.
    pub is_blind: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The receiver says that the bundle is whole, verified and has its name.
    Delivered,
    /// The receiver lacks what was not to be sent.
    Incomplete,
    /// Nobody knows.
    Unknown,
}

/// What was sent.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// What came of it.
    pub outcome: Outcome,
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// Bytes of files that were sent.
    pub bytes: u64,
    /// Files that were sent.
    pub files: u64,
    /// Bytes of all its files.
    pub bytes_in_bundle: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Sends a bundle.
pub async fn push(station: &Station, dir: &Path, wish: &Wish) -> Result<Report> {
    people::allow(station, Action::Export, None).await?;
    let known = Trusted::of(&trust::list(station).await?)?.and(Some(station.key.public()));
    let Location::Http(base) = Location::parse(&wish.to)? else {
        return Err(Error::usage(format!("`{}` is no place to send to", wish.to))
            .hint("give http://HOST:PORT/PATH, https://... or udp://HOST:PORT"));
    };
    let client = Client::new(station, &Location::Http(base.clone()))?;
    let (folder, only) = (dir.to_owned(), wish.only.clone());
    let open = move || {
        let members = Members::open(&folder, &known)?;
        let only = only.map(|path| members.listed(&read_list(&path)?)).transpose()?;
        Ok((members, only))
    };
    let (members, only) = joined(tokio::task::spawn_blocking(open).await)?;
    let base = base
        .join(&format!("{}/", members.transfer))
        .map_err(|e| Error::usage(format!("the address cannot be extended: {e}")))?;
    let rate = wish.rate.map(|bits| (bits / 8).max(1));
    let wanted = only.as_ref().map_or_else(|| members.bytes(), Ranges::bytes);
    let task = station.options.progress.task(format!("sending {}", dir.display()), Unit::Bytes, Some(wanted));
    let is_blind = wish.is_blind;
    let pushing = Pushing {
        is_delivered: AtomicBool::new(false),
        client,
        base,
        dir: dir.to_owned(),
        members,
        only,
        rate,
        is_blind,
        task,
        sent: <_>::default(),
    };
    let began = Instant::now();
    let outcome = if is_blind { pushing.blindly().await? } else { pushing.until_delivered().await? };
    let sent = pushing.sent.lock().map(|sent| sent.clone()).unwrap_or_default();
    Ok(Report {
        outcome,
        stream: pushing.members.stream.clone(),
        number: pushing.members.number,
        manifest: pushing.members.transfer,
        bytes: sent.values().sum(),
        files: sent.len() as u64,
        bytes_in_bundle: pushing.members.bytes(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What the receiver says of a bundle.
enum Said {
    Delivered,
    Wanted(Missing),
    /// It does not know the manifest.
    Unknown,
}

/// Everything that sending takes.
struct Pushing {
    client: Client,
    base: Url,
    dir: PathBuf,
    members: Members,
    only: Option<Ranges>,
    rate: Option<u64>,
    is_blind: bool,
    task: Task,
    /// Bytes that were sent of each file.
    sent: std::sync::Mutex<BTreeMap<usize, u64>>,
    /// The receiver said that it has all.
    is_delivered: AtomicBool,
}

impl Pushing {
    /// Sends what the receiver says to lack until it lacks nothing.
    async fn until_delivered(&self) -> Result<Outcome> {
        let (mut tries, mut before, mut checking) = (0, u64::MAX, None);
        loop {
            let failure = match self.ask().await {
                Ok(Said::Delivered) => return Ok(Outcome::Delivered),
                Ok(Said::Unknown) => Failure::later(Error::fault("the receiver forgets the manifest")),
                Ok(Said::Wanted(missing)) if missing.parts.is_empty() => {
                    if checking.get_or_insert_with(Instant::now).elapsed() >= CHECKING_MAX {
                        return Err(Error::fault("the receiver does not come to an end with what it has")
                            .hint("look there what `airlock receive` says"));
                    }
                    tokio::time::sleep(CHECKING).await;
                    continue;
                }
                Ok(Said::Wanted(missing)) => {
                    checking = None;
                    let parts = self.parts(&missing)?;
                    if parts.is_empty() {
                        return Ok(Outcome::Incomplete);
                    }
                    let left = parts.iter().map(|(_, range)| 1 + range.end - range.start).sum();
                    // Whoever gets on may go on for as long as it takes.
                    let gets_on = left < before;
                    if gets_on {
                        (tries, before) = (0, left);
                    }
                    let sent = self.send(&parts).await?;
                    if self.is_delivered.load(Ordering::Relaxed) {
                        return Ok(Outcome::Delivered);
                    }
                    match sent {
                        None if gets_on => continue,
                        None => Failure::later(
                            Error::fault("the receiver says again and again that it lacks what was sent")
                                .hint("look there what `airlock receive` says; run it again"),
                        ),
                        Some(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            tries += 1;
            match self.client.wait_before(&self.base, tries)?.filter(|_| failure.again != Again::Never) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failure.error),
            }
        }
    }

    /// Sends everything, or what a list names, whatever is answered.
    async fn blindly(&self) -> Result<Outcome> {
        let mut all = Ranges::default();
        all.insert(0..self.members.bytes());
        let parts = self.cut(self.only.as_ref().unwrap_or(&all));
        for name in [MANIFEST, ROOT, SIGNATURES] {
            self.surely(name).await?;
        }
        if let Some(failure) = self.send(&parts).await? {
            return Err(failure.error);
        }
        self.surely(SIGNATURES).await?;
        Ok(Outcome::Unknown)
    }

    /// Hands a part of the document over, as often as it takes to get it on its way.
    async fn surely(&self, name: &str) -> Result<()> {
        let mut tries = 0;
        loop {
            let Err(failure) = self.document(name, 0).await else { return Ok(()) };
            tries += 1;
            match self.client.wait_before(&self.base, tries)?.filter(|_| failure.again != Again::Never) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failure.error),
            }
        }
    }

    /// Asks what is missing, and says first what the bundle is where that is not known.
    async fn ask(&self) -> Tried<Said> {
        let said = self.said().await?;
        if !matches!(said, Said::Unknown) {
            return Ok(said);
        }
        for name in [MANIFEST, ROOT] {
            if let Some(reply) = self.document(name, 1 << 10).await? {
                self.check(name, &reply)?;
            }
        }
        self.said().await
    }

    async fn said(&self) -> Tried<Said> {
        let Some(reply) = self.document(SIGNATURES, MISSING_BYTES_MAX).await? else {
            return Err(Error::fault("no answer came").into());
        };
        if reply.status == 409 {
            return Ok(Said::Unknown);
        }
        self.check(SIGNATURES, &reply)?;
        if self.says_delivered(&reply) {
            return Ok(Said::Delivered);
        }
        let missing = Missing::read(&reply.text).ok().filter(|m| m.transfer == self.members.transfer);
        missing.filter(|_| reply.status == 202).map(Said::Wanted).ok_or_else(|| {
            let text =
                format!("what answers {} is no `airlock receive`", Location::Http(self.base.clone()).shown());
            Error::fault(text)
                .hint("check the address; where something in between invents answers, use --blind")
                .into()
        })
    }

    /// Hands over the manifest, the signatures or the root, if the bundle has it.
    #[boxed]
    async fn document(&self, name: &str, most: u64) -> Tried<Option<Reply>> {
        let path = self.dir.join(name);
        if name == ROOT && !path.exists() {
            return Ok(None);
        }
        let file = media::open(&path)?.ok_or_else(|| no_file(&path))?;
        let total = file.metadata().map_err(crate::error::file_error(&path))?.len();
        self.put(name, file, 0..total, most).await
    }

    async fn put(
        &self,
        path: &str,
        file: std::fs::File,
        bytes: Range<u64>,
        most: u64,
    ) -> Tried<Option<Reply>> {
        let url = self.base.join(path).map_err(|e| Error::usage(format!("{path}: {e}")))?;
        let (rate, is_blind) = (self.rate, self.is_blind);
        let upload = Upload { file, from: bytes.start, total: bytes.end, rate, is_blind };
        self.client.put(&url, upload, most).await
    }

    /// Whether an answer says that the bundle has its name, in words that nobody says by chance.
    fn says_delivered(&self, reply: &Reply) -> bool {
        reply.status == 201 && reply.text.trim() == format!("delivered {}", self.members.transfer)
    }

    /// What a refusal means. To those that pass there is another try.
    fn check(&self, path: &str, reply: &Reply) -> Tried<()> {
        let text: String =
            reply.text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        let text: String = text.chars().take(SHOWN_CHARS).collect();
        let shown = Location::Http(self.base.clone()).shown();
        let says = format!("{shown}{path}: the receiver answers {}: {text}", reply.status);
        let hint = "look on the other side what `airlock receive` says; what it has is kept";
        match reply.status {
            200..=202 | 409 => Ok(()),
            403 => Err(Error::unsafe_(says)
                .hint("it has to trust this station's key, for this stream: `airlock trust list` there; its own words are in what `airlock receive` says")
                .into()),
            422 => Err(Error::unsafe_(says).hint(DAMAGED).into()),
            408 | 425 | 429 | 500 | 502..=504 | 507 => Err(Failure::later(Error::fault(says).hint(hint))),
            404 | 405 => {
                Err(Error::fault(says).hint("check the address that `airlock receive` listens at, path included").into())
            }
            _ => Err(Error::fault(says).hint(hint).into()),
        }
    }

    /// The files, and which of their bytes, that a list names and that are to be sent.
    fn parts(&self, missing: &Missing) -> Result<Vec<(usize, Range<u64>)>> {
        let listed = self.members.listed(missing)?;
        let Some(only) = &self.only else { return Ok(self.cut(&listed)) };
        let mut both = Ranges::default();
        for range in listed.iter() {
            let mut rest = range.start;
            for gap in only.missing(range.clone()) {
                both.insert(rest..gap.start);
                rest = gap.end;
            }
            both.insert(rest..range.end);
        }
        Ok(self.cut(&both))
    }

    /// Files with their bytes to the end from the first one that is wanted, if nothing before that is; else all of the file.
    fn cut(&self, wanted: &Ranges) -> Vec<(usize, Range<u64>)> {
        let mut out = Vec::new();
        let mut last = None;
        for (at, range) in wanted.iter().flat_map(|range| self.members.within(range)) {
            if last.replace(at) == Some(at) {
                continue;
            }
            let (start, size) = (range.start, range.end - range.start);
            let from = match wanted.missing(range)[..] {
                [Range { start: first, end }] if first == start => end - start,
                _ => 0,
            };
            out.push((at, from..size));
        }
        out
    }

    /// Sends files, several at once. What failed and may pass is given, and the others are sent all the same.
    async fn send(&self, parts: &[(usize, Range<u64>)]) -> Result<Option<Failure>> {
        let (mut failed, mut fatal) = (None, None);
        let each = |(at, bytes): &(usize, Range<u64>)| self.send_file(*at, bytes.clone());
        let mut sending = futures_util::stream::iter(parts.iter().map(each)).buffer_unordered(AT_ONCE);
        while let Some(sent) = sending.next().await {
            match sent {
                Ok(()) => {}
                Err(failure) if failure.again == Again::Never => {
                    fatal = Some(failure.error);
                    break;
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        fatal.map_or(Ok(failed), Err)
    }

    #[boxed]
    async fn send_file(&self, at: usize, bytes: Range<u64>) -> Tried<()> {
        let Some((listed, _)) = self.members.file(at) else { return Ok(()) };
        let (path, mut tries) = (self.dir.join(&listed), 0);
        loop {
            let file = media::open(&path)?.filter(|f| f.metadata().is_ok_and(|m| m.len() == bytes.end));
            let file = file.ok_or_else(|| no_file(&path))?;
            let put = self.put(&listed, file, bytes.clone(), 1 << 10).await;
            tries += 1;
            match put {
                Ok(reply) => {
                    if let Some(reply) = reply {
                        // The beginning was other bytes: all of it is asked for next.
                        if reply.status == 422 && bytes.start > 0 {
                            return Ok(());
                        }
                        self.check(&listed, &reply)?;
                        if self.says_delivered(&reply) {
                            self.is_delivered.store(true, Ordering::Relaxed);
                        }
                        // Somebody else sends it, or it is not as the list said any more.
                        if reply.status == 409 {
                            return Ok(());
                        }
                    }
                    let length = bytes.end - bytes.start;
                    self.task.add(length);
                    if let Ok(mut sent) = self.sent.lock() {
                        *sent.entry(at).or_default() += length;
                    }
                    return Ok(());
                }
                // Who can be asked says later how far this one came.
                Err(failure) if !self.is_blind || failure.again == Again::Never => return Err(failure),
                Err(failure) => match self.client.wait_before(&self.base, tries)? {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(failure),
                },
            }
        }
    }
}

fn no_file(path: &Path) -> Error {
    Error::unsafe_(format!("{} is not the file of the manifest: its kind or size is another", path.display()))
        .hint(DAMAGED)
}
