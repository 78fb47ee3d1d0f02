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
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_formats::oneway::packet::Header;

use super::door::Door;
use super::flow::Flow;
use super::link::{self, Incoming};
use super::seal::Pair;
use super::session::{Admission, Sessions};
use super::window::Pool;
use super::writer::Place;
use super::{quota, spool};
use crate::bundle::signing::Trusted;
use crate::error::{Error, Result, file_error, joined};
use crate::people;
use crate::station::Station;
use crate::trust;

/// How long packets are waited for before anything else is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Between two reports of how far it is.
const REPORT: Duration = Duration::from_secs(5);

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
    let trusted = Trusted::of(&trust::list(station).await?)?;
    let pairs: Vec<Pair> =
        trusted.keys().iter().filter_map(|key| Pair::receiving(&station.key, *key)).collect();
    if pairs.is_empty() {
        return Err(nobody());
    }
    std::fs::create_dir_all(&wish.into).map_err(file_error(&wish.into))?;
    let place = Place {
        into: wish.into.clone(),
        door: Door::new(station),
        quota: wish.quota,
        progress: station.options.progress.clone(),
    };
    joined(tokio::task::spawn_blocking(move || Intake::new(pairs, place)?.run(&wish, told)).await)
}

pub(super) fn nobody() -> Error {
    Error::usage("no sender is trusted here")
        .hint("trust the sending station's key: `airlock trust add NAME station.pub --fingerprint FP`")
}

/// Packets of all senders.
struct Intake {
    pairs: BTreeMap<[u8; 4], Pair>,
    sessions: Sessions,
    flows: BTreeMap<[u8; 4], Flow>,
    over: Vec<Report>,
    dropped: Dropped,
    pool: Arc<Pool>,
    place: Place,
    _lock: File,
}

impl Intake {
    fn new(pairs: Vec<Pair>, place: Place) -> Result<Self> {
        let pairs: BTreeMap<[u8; 4], Pair> = pairs.into_iter().map(|pair| (pair.sender_id(), pair)).collect();
        let incoming = spool::incoming(&place.into)?;
        let lock = spool::lock(&incoming)?;
        let sessions = Sessions::open(&incoming, pairs.keys().copied())?;
        Ok(Self {
            pairs,
            sessions,
            flows: BTreeMap::new(),
            over: Vec::new(),
            dropped: Dropped::default(),
            pool: Arc::default(),
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
            socket.packets(LOOK, |packet| self.packet(packet))?;
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.end_what_is_over(wish.silence)?;
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
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
                    return Ok((report, self.dropped));
                }
            }
        }
    }

    /// A packet from whomever.
    fn packet(&mut self, packet: &[u8]) -> Result<()> {
        let Some(header) = Header::read(packet) else {
            self.dropped.strangers += 1;
            return Ok(());
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
            return Ok(());
        }
        let Some(pair) = self.pairs.get(&sender) else {
            self.dropped.strangers += 1;
            return Ok(());
        };
        let admission = self.sessions.admits(&header.session);
        if admission == Admission::Replay {
            self.dropped.replayed += 1;
            return Ok(());
        }
        match pair.seal(&header.session).filter(|seal| seal.fits(header.sequence, packet)) {
            Some(seal) => {
                if let Some(before) = self.flows.remove(&sender) {
                    self.over.push(before.finish()?);
                }
                if admission == Admission::New {
                    self.sessions.set(header.session, false)?;
                }
                let mut flow = Flow::new(header.session, seal, self.pool.clone(), self.place.clone());
                flow.take(&header, packet);
                self.flows.insert(sender, flow);
            }
            None => self.dropped.forged += 1,
        }
        Ok(())
    }

    fn end_what_is_over(&mut self, silence: Duration) -> Result<()> {
        let over: Vec<[u8; 4]> =
            self.flows.iter().filter(|(_, flow)| flow.is_over(silence)).map(|(sender, _)| *sender).collect();
        for sender in over {
            let Some(flow) = self.flows.remove(&sender) else { continue };
            let (session, has_ended) = (flow.session, flow.has_ended());
            let report = flow.finish()?;
            // One that broke off may go on: what comes of it then is taken as before.
            let is_done =
                has_ended || matches!(report.outcome, Outcome::Complete { .. } | Outcome::Refused { .. });
            if is_done {
                self.sessions.set(session, true)?;
            }
            self.over.push(report);
        }
        Ok(())
    }
}
