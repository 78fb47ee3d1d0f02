//! Sending a bundle over a link on which nothing comes back.
//!
//! ```text
//!   files --> Blocks (read, repair) --bounded--> Outlet (turns, seal) --> Pace --> socket
//!                  ^                                   |
//!                  +------- memory that is free -------+
//! ```
//!
//! The document goes first, twice; it comes again after every so many packets of data, and at the end. Beats come all the
//! time. What is short is sent twice (`formats::oneway::plan`).

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_formats::oneway::beat::Beat;
use airlock_formats::oneway::missing::{MISSING_BYTES_MAX, Missing};
use airlock_formats::oneway::packet::{self, Session};
use airlock_formats::oneway::plan::{BURST_MS, Link, Plan};
use airlock_formats::oneway::ranges::Ranges;

use super::link::{self, Outgoing};
use super::members::{self, Members};
use super::outlet::Outlet;
use super::seal::Pair;
use super::source::{Block, Blocks, Files, pieces};
use crate::bundle::signing::Trusted;
use crate::error::{Error, Result, file_error, joined};
use crate::progress::{Progress, Task, Unit};
use crate::station::Station;
use crate::{keys, people, trust};

/// Bits a second where nobody says it.
pub const RATE_DEFAULT: u64 = 3_000_000_000;
/// Between two sendings of the same: longer than an interruption.
const PAUSE: Duration = Duration::from_millis(BURST_MS + 10);
/// Before the data, at least: the document is read meanwhile.
const READING_MIN: Duration = Duration::from_millis(20);
/// How long the end is said.
const FAREWELL: Duration = Duration::from_millis(800);
/// Packets of data for each packet of the document that comes again.
const CAROUSEL_SHARE: u64 = 16;
/// Bytes of a document that a receiver reads and checks in a second.
const DOCUMENT_RATE: u64 = 20 << 20;

/// How to send.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `udp://HOST:PORT`.
    pub to: String,
    /// Bits a second.
    pub rate: u64,
    /// Repair symbols for each hundred pieces; none: what the rate calls for.
    pub repair: Option<u16>,
    /// The link's MTU; none: what this machine knows of it.
    pub mtu: Option<u32>,
    /// A missing list.
    pub only: Option<PathBuf>,
    /// The receiver's station.pub; none: the one key that is trusted here.
    pub recipient: Option<PathBuf>,
}

/// What was sent. Nobody knows whether it arrived.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// Bytes of files that were sent.
    pub bytes: u64,
    /// Bytes of all its files.
    pub bytes_in_bundle: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes of each packet.
    pub packet_bytes: usize,
    /// Repair symbols for each hundred pieces.
    pub repair_percent: u64,
    /// Blocks that were sent in turn.
    pub depth: u16,
    /// Everything was sent twice, being short.
    pub twice: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Sends a bundle.
pub async fn send(station: &Station, dir: &Path, wish: &Wish) -> Result<Report> {
    people::allow(station, Action::Export, None).await?;
    let trusted = Trusted::of(&trust::list(station).await?)?;
    let receiver = match &wish.recipient {
        Some(path) => keys::read_public(path)?,
        None => only_one(trusted.packet_keys())?,
    };
    let pair = Pair::sending(&station.key, receiver)?;
    let known = trusted.and(Some(station.key.public()));
    let session = session(station, &pair).await?;
    let (dir, wish, progress) = (dir.to_owned(), wish.clone(), station.options.progress.clone());
    let beside = station.dir.clone();
    let whole = move || Sending::prepare((&dir, &beside), &wish, &known, &pair, session)?.run(&progress);
    joined(tokio::task::spawn_blocking(whole).await)
}

fn only_one(trusted: &[[u8; 32]]) -> Result<[u8; 32]> {
    let mut trusted = trusted.to_vec();
    trusted.sort_unstable();
    trusted.dedup();
    match trusted[..] {
        [one] => Ok(one),
        _ => Err(Error::usage(format!("{} keys are trusted here: whom is it for?", trusted.len()))
            .hint("give the receiving station's key with --recipient station.pub")),
    }
}

/// Sessions of a station grow, whatever its clock does: what was replayed is known by that.
async fn session(station: &Station, pair: &Pair) -> Result<Session> {
    let _lease = station.lease("oneway/session", "send").await?;
    let path = station.dir.join("oneway-session");
    let last: u64 = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            Error::usage(format!("{} holds no number", path.display()))
                .hint("remove it; the clock serves instead")
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(file_error(&path)(e)),
    };
    let now = u64::try_from(station.now().await?.seconds()).unwrap_or(0).saturating_mul(1000);
    let number = now.max(last.saturating_add(1));
    let file = tempfile::NamedTempFile::new_in(&station.dir).map_err(file_error(&path))?;
    std::fs::write(file.path(), format!("{number}\n")).map_err(file_error(&path))?;
    file.as_file().sync_all().map_err(file_error(&path))?;
    file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
    Ok(Session { sender: pair.sender_id(), number, salt })
}

/// Everything that sending takes.
struct Sending {
    dir: PathBuf,
    members: Members,
    document: File,
    wanted: Vec<Range<u64>>,
    link: Link,
    plan: Plan,
    outlet: Outlet,
}

impl Sending {
    fn prepare(
        (dir, beside): (&Path, &Path),
        wish: &Wish,
        known: &Trusted,
        pair: &Pair,
        session: Session,
    ) -> Result<Self> {
        let members = Members::open(dir, known)?;
        let (document, document_bytes) = members::document(dir, beside)?;
        let wanted = match &wish.only {
            Some(path) => members.listed(&read_list(path)?)?,
            None => {
                let mut all = Ranges::default();
                all.insert(0..members.bytes());
                all
            }
        };
        let out = Outgoing::open(link::address(&wish.to)?)?;
        let mtu = wish.mtu.map_or_else(|| out.mtu(), Ok)?;
        let symbol_bytes = packet::body_bytes(mtu).ok_or_else(|| {
            Error::usage(format!("an MTU of {mtu} is too small")).hint("give at least 624 bytes with --mtu")
        })?;
        let link = Link::new(symbol_bytes, wish.rate, wish.repair);
        let bytes = wanted.bytes();
        let wanted: Vec<Range<u64>> = wanted.iter().collect();
        let plan = Plan::new(pieces(&wanted, &link), &link);
        let beat = Beat {
            transfer: members.transfer,
            document: document_bytes,
            data: members.bytes(),
            wanted: bytes,
            is_end: false,
        };
        let seal = pair.seal(&session).ok_or_else(|| Error::fault("no key can be made for this session"))?;
        let outlet = Outlet::new(out, seal, session, &link, beat);
        Ok(Self { dir: dir.to_owned(), members, document, wanted, link, plan, outlet })
    }

    fn run(mut self, progress: &Progress) -> Result<Report> {
        let began = Instant::now();
        let bytes = self.outlet.beat.wanted;
        self.outlet.pause(Duration::ZERO)?;
        self.outlet.document(&self.document, &self.link)?;
        self.outlet.pause(PAUSE)?;
        self.outlet.document(&self.document, &self.link)?;
        let reading = Duration::from_millis(self.outlet.beat.document * 1000 / DOCUMENT_RATE);
        self.outlet.pause(READING_MIN.max(reading))?;
        if bytes > 0 {
            let task = progress.task(format!("sending {}", self.dir.display()), Unit::Bytes, Some(bytes));
            self.send_data(&task)?;
        }
        self.outlet.pause(PAUSE)?;
        self.outlet.document(&self.document, &self.link)?;
        self.outlet.beat.is_end = true;
        self.outlet.pause(FAREWELL)?;
        let originals = u64::from(self.plan.originals(0)).max(1);
        Ok(Report {
            stream: self.members.stream,
            number: self.members.number,
            manifest: self.members.transfer,
            bytes,
            bytes_in_bundle: self.outlet.beat.data,
            packets: self.outlet.sequence,
            packet_bytes: packet::HEADER_BYTES + usize::from(self.link.symbol_bytes) + packet::TAG_BYTES,
            repair_percent: u64::from(self.plan.repair) * 100 / originals,
            depth: self.plan.depth,
            twice: self.plan.repeats,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// Sends the data while a second thread reads and encodes what comes next.
    fn send_data(&mut self, task: &Task) -> Result<()> {
        let (ready, blocks) = sync_channel(usize::from(self.plan.depth));
        let (free, used) = channel();
        let files = Files::new(&self.dir, &self.members);
        let source = Blocks::new(files, self.wanted.clone(), &self.link, self.plan, 0);
        let (outlet, document, link, plan) = (&mut self.outlet, &self.document, &self.link, &self.plan);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || produce(source, ready, used));
            let sent = turns(outlet, document, link, plan, Belt { blocks, free }, task);
            let read = reader.join().unwrap_or_else(|_| Err(Error::fault("a working thread stopped")));
            read.and(sent)
        })
    }
}

/// Blocks come from the reader, and memory goes back to it.
struct Belt {
    blocks: Receiver<Block>,
    free: Sender<Vec<u8>>,
}

/// Makes blocks until all are made or nobody takes them any more.
fn produce(mut source: Blocks<Files<'_>>, ready: SyncSender<Block>, used: Receiver<Vec<u8>>) -> Result<()> {
    while let Some(block) = source.next(used.try_recv().unwrap_or_default())? {
        if ready.send(block).is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends generation after generation, and the document in between.
fn turns(
    outlet: &mut Outlet,
    document: &File,
    link: &Link,
    plan: &Plan,
    belt: Belt,
    task: &Task,
) -> Result<()> {
    let mut since_document = 0;
    loop {
        let turn: Vec<Block> = belt.blocks.iter().take(usize::from(plan.depth)).collect();
        if turn.is_empty() {
            return Ok(());
        }
        outlet.generation(&turn, plan.depth)?;
        if plan.repeats {
            outlet.pause(PAUSE)?;
            outlet.generation(&turn, plan.depth)?;
        }
        for block in turn {
            since_document += block.symbols.len() as u64;
            task.add(u64::from(block.shape.originals) * link.piece_bytes());
            // A reader that is done takes nothing back.
            let _ = belt.free.send(block.symbols);
        }
        if since_document >= CAROUSEL_SHARE * outlet.beat.document {
            since_document = 0;
            outlet.document(document, link)?;
        }
    }
}

pub(super) fn read_list(path: &Path) -> Result<Missing> {
    let size = std::fs::metadata(path).map_err(file_error(path))?.len();
    if size > MISSING_BYTES_MAX {
        return Err(Error::usage(format!("{} is larger than {MISSING_BYTES_MAX} bytes", path.display()))
            .hint("send all of the bundle again"));
    }
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    Missing::read(&text).map_err(|e| {
        Error::usage(format!("{}: {e}", path.display())).hint("give the list as the receiver wrote it")
    })
}
