//! The last stage before the socket: symbols in turn, numbered, sealed, at a constant rate, with beats in between.

use std::fs::File;
use std::time::{Duration, Instant};

use airlock_formats::oneway::beat::Beat;
use airlock_formats::oneway::packet::{self, DOCUMENT_BIT, HEADER_BYTES, Header, Kind, Session, Shape};
use airlock_formats::oneway::plan::{Link, Plan};

use super::link::Outgoing;
use super::pace::Pace;
use super::seal::Seal;
use super::source::{Block, Blocks, Document, pieces};
use crate::error::Result;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(20);

/// Where packets leave.
pub(super) struct Outlet {
    out: Outgoing,
    seal: Seal,
    session: Session,
    /// The next packet's number, which is how many were sent.
    pub sequence: u64,
    symbol_bytes: u16,
    pace: Pace,
    /// What is being sent.
    pub beat: Beat,
    last_beat: Instant,
}

impl Outlet {
    /// Packets of one session.
    pub fn new(mut out: Outgoing, seal: Seal, session: Session, link: &Link, beat: Beat) -> Self {
        out.of_size(HEADER_BYTES + usize::from(link.symbol_bytes) + packet::TAG_BYTES);
        Self {
            out,
            seal,
            session,
            sequence: 0,
            symbol_bytes: link.symbol_bytes,
            pace: Pace::new(link.packets_per_second),
            beat,
            last_beat: Instant::now(),
        }
    }

    /// Sends blocks, one symbol of each in turn.
    pub fn generation(&mut self, blocks: &[Block], depth: u16) -> Result<()> {
        let most = blocks.iter().map(|block| block.shape.symbols()).max().unwrap_or(0);
        for at in 0..most {
            for block in blocks {
                let Some(symbol) = block.symbol(at) else { continue };
                let header = Header {
                    kind: Kind::Symbol,
                    symbol: u16::try_from(at).unwrap_or(u16::MAX),
                    block: block.number,
                    session: self.session,
                    sequence: self.sequence,
                    shape: block.shape,
                    depth,
                };
                self.packet(&header, symbol)?;
                if self.last_beat.elapsed() >= BEAT {
                    self.beat()?;
                }
            }
        }
        self.flush()
    }

    /// Sends the document once.
    pub fn document(&mut self, document: &File, link: &Link) -> Result<()> {
        let all = 0..self.beat.document;
        let stretches = vec![all];
        let plan = Plan::of_document(pieces(&stretches, link), link);
        let mut blocks = Blocks::new(Document(document), stretches, link, plan, DOCUMENT_BIT);
        loop {
            let mut turn = Vec::new();
            while turn.len() < usize::from(plan.depth)
                && let Some(block) = blocks.next(Vec::new())?
            {
                turn.push(block);
            }
            if turn.is_empty() {
                return Ok(());
            }
            self.generation(&turn, plan.depth)?;
        }
    }

    /// Sends nothing but beats for so long.
    pub fn pause(&mut self, long: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            self.beat()?;
            self.flush()?;
            if began.elapsed() >= long {
                return Ok(());
            }
            std::thread::sleep(BEAT);
        }
    }

    fn beat(&mut self) -> Result<()> {
        self.last_beat = Instant::now();
        let header = Header {
            kind: Kind::Beat,
            symbol: 0,
            block: 0,
            session: self.session,
            sequence: self.sequence,
            shape: Shape { originals: 0, repair: 0, symbol_bytes: self.symbol_bytes },
            depth: 0,
        };
        let mut body = vec![0; usize::from(self.symbol_bytes)];
        self.beat.write(&mut body);
        self.packet(&header, &body)
    }

    fn packet(&mut self, header: &Header, body: &[u8]) -> Result<()> {
        let train = self.out.train();
        let start = train.len();
        train.extend_from_slice(&header.write());
        train.extend_from_slice(body);
        let tag = self.seal.tag(header.sequence, train.get(start..).unwrap_or_default())?;
        train.extend_from_slice(&tag);
        self.sequence += 1;
        if self.out.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.pace.wait(self.out.waiting());
        self.out.flush()
    }
}
