//! Receiving from a link on which nothing can be sent back.
//!
//! ```text
//!   socket --> Intake --> Flow --> Window --blocks--> Writer --> files
//!              whose?     new?     whole?            restore      |
//!              believed?                             place     Hasher --> verified --> named
//! ```
//!
//! Before anything else a packet is asked whose it is: what no trusted key sent, and what belongs to a sending that is over or
//! older than the last one, is dropped and counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_formats::oneway::packet::Header;

use super::door::{Door, Pairs};
use super::flow::Flow;
use super::link::{self, Incoming};
use super::session::{Admission, Sessions};
use super::turns::Turns;
use super::window::Pool;
use super::writer::{Place, Shared};
use super::{quota, spool};
use crate::error::{self, Error, Result, file_error, joined};
use crate::people;
use crate::station::Station;

/// How long packets are waited for before anything else is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Between two reports of how far it is.
const REPORT: Duration = Duration::from_secs(5);

/// Memory of blocks that are under way where nobody says it, in bytes.
pub const MEMORY_DEFAULT: usize = 512 << 20;
/// Less holds no blocks of a fast link, in bytes.
const MEMORY_MIN: usize = 8 << 20;

/// Sendings of which nothing comes any more and which are being written still; while there are as many, no other begins.
const ENDING_MAX: usize = 16;
/// How long nothing of a sender is taken after this side could not write.
const REST: Duration = Duration::from_secs(10);

/// How to receive.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `udp://ADDR:PORT`.
    pub listen: String,
    /// The spool.
    pub into: PathBuf,
    /// End after one sending.
    pub once: bool,
    /// So long without a packet in the middle of a sending, and it is taken to be over.
    pub silence: Duration,
    /// Bytes that bundles which are not whole yet may take together.
    pub quota: Option<u64>,
    /// How long a bundle that is not whole is kept after something of it came.
    pub keep: Duration,
    /// Memory of blocks that are under way, in bytes.
    pub memory: usize,
}

/// What came of a sending.
#[derive(Debug)]
pub enum Outcome {
    /// It goes on.
    UnderWay,
    /// The bundle is whole, verified, and stands there.
    Complete {
        /// SHA-256 of its manifest.
        manifest: Digest,
        /// The stream.
        stream: String,
        /// The bundle's number.
        number: u64,
        /// Where it stands.
        bundle: PathBuf,
        /// Bytes of its files.
        bytes: u64,
    },
    /// Something is missing; what arrived is kept.
    Incomplete {
        /// SHA-256 of the manifest.
        manifest: Digest,
        /// The stream.
        stream: String,
        /// The bundle's number.
        number: u64,
        /// The missing list.
        list: PathBuf,
        /// Files that are not whole.
        missing_files: u64,
        /// Bytes that did not come.
        missing_bytes: u64,
    },
    /// Nothing came of which it could be told what it is.
    Nothing,
    /// It is not to be taken in.
    Refused {
        /// Why.
        error: Error,
    },
    /// This side could not write. What came is kept, and what still comes is taken once it can.
    Broken {
        /// Why.
        error: Error,
    },
}

impl Outcome {
    /// What an error makes of a sending.
    pub(super) fn of(error: Error) -> Self {
        match error.kind {
            error::Kind::Fault => Self::Broken { error },
            _ => Self::Refused { error },
        }
    }
}

/// What was counted of one sending.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Packets that came and were believed.
    pub received: u64,
    /// Packets between the first and the last that did not come.
    pub lost: u64,
    /// Packets that had come before: the link doubled them, or somebody replays them.
    pub repeated: u64,
    /// Symbols of blocks that were whole without them.
    pub unneeded: u64,
    /// Symbols for which there was no memory: what is behind this was too slow.
    pub overrun: u64,
    /// Blocks that came whole.
    pub blocks_whole: u64,
    /// Blocks that were restored.
    pub blocks_repaired: u64,
    /// Blocks of which too little came.
    pub blocks_short: u64,
    /// Pieces that were restored.
    pub restored: u64,
}

/// What was dropped without being looked into.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Dropped {
    /// No packets, or of no sender that is trusted here.
    pub strangers: u64,
    /// In a trusted sender's name, and not by it.
    pub forged: u64,
    /// Of sendings that are over.
    pub replayed: u64,
    /// Of sendings that began while too many others were being written to their ends.
    pub crowded: u64,
}

/// One sending, as far as it is.
#[derive(Debug)]
pub struct Report {
    /// What came of it.
    pub outcome: Outcome,
    /// From the first packet to the last.
    pub seconds: f64,
    /// Bytes of the bundle that are there.
    pub arrived: u64,
    /// Bytes of the bundle.
    pub total: u64,
    /// What was counted.
    pub counts: Counts,
}

/// What is told while receiving.
#[derive(Debug)]
pub enum Told<'a> {
    /// It listens.
    Listening {
        /// Where.
        address: SocketAddr,
        /// Bytes that the system holds while this is busy.
        buffer_bytes: usize,
    },
    /// How far a sending is, or what came of it.
    Sending(&'a Report, Dropped),
}

/// Receives; with `once` until one sending is over, else for ever. Gives the last report.
pub async fn receive(
    station: &Station,
    wish: Wish,
    told: impl Fn(Told<'_>) + Send + 'static,
) -> Result<(Report, Dropped)> {
    people::allow(station, Action::Import, None).await?;
    if wish.memory < MEMORY_MIN {
        return Err(Error::usage(format!("{} bytes of memory are too little", wish.memory))
            .hint(format!("give at least {MEMORY_MIN} with --memory")));
    }
    std::fs::create_dir_all(&wish.into).map_err(file_error(&wish.into))?;
    let place = Place {
        into: wish.into.clone(),
        door: Door::new(station),
        quota: wish.quota,
        progress: station.options.progress.clone(),
    };
    joined(tokio::task::spawn_blocking(move || Intake::new(place, wish.memory)?.run(&wish, told)).await)
}

pub(super) fn nobody() -> Error {
    Error::usage("no sender is trusted here")
        .hint("trust the sending station's key: `airlock trust add NAME station.pub --fingerprint FP`, with --link-only where a root releases its bundles")
}

/// Who is heard, asked beside the packets: whoever reads the socket waits for no database.
#[derive(Default)]
struct Ears {
    found: Arc<Mutex<Option<Pairs>>>,
    is_asking: Arc<AtomicBool>,
}

impl Ears {
    /// Asks, unless it is being asked.
    fn ask(&self, door: &Door, sessions: &Arc<Sessions>) {
        if self.is_asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (found, is_asking) = (self.found.clone(), self.is_asking.clone());
        let (door, sessions) = (door.clone(), sessions.clone());
        std::thread::spawn(move || {
            // Whose last sending is not known could be replayed: that one alone is not heard.
            let is_known = |sender: &[u8; 4]| match sessions.know(*sender) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!("a sender is not heard: {error}");
                    false
                }
            };
            match door.pairs().map(|pairs| pairs.into_iter().filter(|(sender, _)| is_known(sender)).collect())
            {
                Ok(pairs) => *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(pairs),
                Err(error) => tracing::warn!("who is trusted could not be asked: {error}"),
            }
            is_asking.store(false, Ordering::Relaxed);
        });
    }

    /// What was answered since.
    fn heard(&self) -> Option<Pairs> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Packets of all senders.
struct Intake {
    pairs: Pairs,
    ears: Ears,
    flows: BTreeMap<[u8; 4], Flow>,
    /// Of which nothing comes any more, and which are being written still.
    ending: Vec<Flow>,
    over: Vec<Report>,
    /// When writing for a sender failed on this side: another try is a while later.
    failed: BTreeMap<[u8; 4], Instant>,
    dropped: Dropped,
    shared: Shared,
    place: Place,
    _lock: File,
}

impl Intake {
    fn new(place: Place, memory: usize) -> Result<Self> {
        let pairs = place.door.pairs()?;
        if pairs.is_empty() {
            return Err(nobody());
        }
        let incoming = spool::incoming(&place.into)?;
        let lock = spool::lock(&incoming)?;
        let sessions = Sessions::open(&incoming, pairs.keys().copied())?;
        let pool = Arc::new(Pool::new(memory));
        Ok(Self {
            pairs,
            ears: Ears::default(),
            flows: BTreeMap::new(),
            ending: Vec::new(),
            over: Vec::new(),
            failed: BTreeMap::new(),
            dropped: Dropped::default(),
            shared: Shared { pool, turns: Arc::new(Turns::default()), sessions: Arc::new(sessions) },
            place,
            _lock: lock,
        })
    }

    fn run(mut self, wish: &Wish, told: impl Fn(Told<'_>)) -> Result<(Report, Dropped)> {
        let mut socket = Incoming::open(link::address(&wish.listen)?)?;
        told(Told::Listening { address: socket.address()?, buffer_bytes: socket.buffer_bytes() });
        let incoming = spool::incoming(&wish.into)?;
        quota::expire(&incoming, wish.keep)?;
        let (mut looked, mut reported, mut tidied) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            socket.packets(LOOK, |packet| {
                self.packet(packet);
                Ok(())
            })?;
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.end_what_is_over(wish.silence);
                self.hear();
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                self.ears.ask(&self.place.door, &self.shared.sessions);
                self.flows
                    .values()
                    .for_each(|flow| told(Told::Sending(&flow.report(Outcome::UnderWay), self.dropped)));
            }
            if tidied.elapsed() >= quota::TIDY {
                tidied = Instant::now();
                let (incoming, keep) = (incoming.clone(), wish.keep);
                // Beside the packets; what cannot be removed now is looked at again.
                std::thread::spawn(move || quota::expire(&incoming, keep));
            }
            for report in std::mem::take(&mut self.over) {
                told(Told::Sending(&report, self.dropped));
                if wish.once {
                    self.finish_all();
                    return Ok((report, self.dropped));
                }
            }
        }
    }

    /// Hears those who are trusted now, and nobody else any more.
    fn hear(&mut self) {
        let Some(pairs) = self.ears.heard() else { return };
        self.pairs = pairs;
        let gone = self.flows.keys().filter(|sender| !self.pairs.contains_key(*sender));
        let gone: Vec<[u8; 4]> = gone.copied().collect();
        gone.into_iter().for_each(|sender| self.end(sender));
    }

    /// A packet from whomever.
    fn packet(&mut self, packet: &[u8]) {
        let Some(header) = Header::read(packet) else {
            self.dropped.strangers += 1;
            return;
        };
        let sender = header.session.sender;
        if let Some(flow) = self.flows.get_mut(&sender)
            && flow.session == header.session
        {
            if flow.believes(&header, packet) {
                flow.take(&header, packet);
            } else {
                self.dropped.forged += 1;
            }
            return;
        }
        let Some(pair) = self.pairs.get(&sender) else {
            self.dropped.strangers += 1;
            return;
        };
        if self.shared.sessions.admits(&header.session) == Admission::Replay {
            // What is said at the end comes while it is written still.
            let is_late = |flow: &Flow| flow.session == header.session && flow.believes(&header, packet);
            self.dropped.replayed += u64::from(!self.ending.iter().any(is_late));
            return;
        }
        match pair.seal(&header.session).filter(|seal| seal.fits(header.sequence, packet)) {
            Some(_) if self.ending.len() >= ENDING_MAX => self.dropped.crowded += 1,
            Some(_) if self.failed.get(&sender).is_some_and(|at| at.elapsed() < REST) => {
                self.dropped.crowded += 1;
            }
            Some(seal) => {
                self.end(sender);
                self.shared.sessions.note(header.session, false);
                let mut flow = Flow::new(header.session, seal, self.place.clone(), &self.shared);
                flow.take(&header, packet);
                self.flows.insert(sender, flow);
            }
            None => self.dropped.forged += 1,
        }
    }

    /// Takes no more of a sending. It is written to its end beside this: whoever reads the socket waits for no disk.
    fn end(&mut self, sender: [u8; 4]) {
        let Some(mut flow) = self.flows.remove(&sender) else { return };
        if flow.has_ended() {
            self.shared.sessions.note(flow.session, true);
        }
        flow.close();
        self.ending.push(flow);
    }

    fn end_what_is_over(&mut self, silence: Duration) {
        let over: Vec<[u8; 4]> =
            self.flows.iter().filter(|(_, flow)| flow.is_over(silence)).map(|(sender, _)| *sender).collect();
        over.into_iter().for_each(|sender| self.end(sender));
        let (written, ending) = std::mem::take(&mut self.ending).into_iter().partition(Flow::is_written);
        self.ending = ending;
        for flow in Vec::into_iter(written) {
            let sender = flow.session.sender;
            let report = flow.finish();
            if matches!(report.outcome, Outcome::Broken { .. }) {
                self.failed.insert(sender, Instant::now());
            }
            self.over.push(report);
        }
    }

    /// Waits until nothing is written any more.
    fn finish_all(&mut self) {
        let flows = std::mem::take(&mut self.flows).into_values();
        let mut all: Vec<Flow> = flows.chain(std::mem::take(&mut self.ending)).collect();
        all.iter_mut().for_each(Flow::close);
        all.into_iter().for_each(|flow| drop(flow.finish()));
    }
}
