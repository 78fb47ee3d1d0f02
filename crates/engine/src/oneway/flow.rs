//! One session of one sender: what of it came, and who writes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use airlock_formats::oneway::beat::Beat;
use airlock_formats::oneway::packet::{self, Header, Kind, Session};

use super::receive::{Counts, Outcome, Report};
use super::seal::Seal;
use super::sequences::Sequences;
use super::window::{Fate, Window};
use super::writer::{End, Event, Place, Shared, Tally, Writer};
use crate::error::{Error, Result};

/// So long after the end was said nothing more is waited for.
const QUIET: Duration = Duration::from_millis(600);

/// A session that is being received.
pub(super) struct Flow {
    /// Which.
    pub session: Session,
    seal: Seal,
    sequences: Sequences,
    window: Window,
    counts: Counts,
    beat: Option<Beat>,
    began: Instant,
    last: Instant,
    tally: Arc<Tally>,
    events: Option<Sender<Event>>,
    writer: Option<JoinHandle<Result<End>>>,
}

impl Flow {
    /// A session whose first packet was believed.
    pub fn new(session: Session, seal: Seal, place: Place, shared: &Shared) -> Self {
        let (tally, (events, told)) = (Arc::new(Tally::default()), channel());
        let writer = Writer::new(session, place, shared, tally.clone());
        Self {
            session,
            seal,
            sequences: Sequences::default(),
            window: Window::new(shared.pool.clone()),
            counts: Counts::default(),
            beat: None,
            began: Instant::now(),
            last: Instant::now(),
            tally,
            events: Some(events),
            writer: Some(std::thread::spawn(move || writer.run(&told))),
        }
    }

    /// Whether a packet of this session has the tag that it must have.
    pub fn believes(&self, header: &Header, packet: &[u8]) -> bool {
        self.seal.fits(header.sequence, packet)
    }

    /// Takes a packet that is believed.
    pub fn take(&mut self, header: &Header, packet: &[u8]) {
        if !self.sequences.note(header.sequence) {
            self.counts.repeated += 1;
            return;
        }
        self.last = Instant::now();
        let Some(events) = &self.events else { return };
        // A writer that is gone left its error, which `finish` gives.
        let tell = |event| drop(events.send(event));
        match header.kind {
            Kind::Beat => {
                let Some(beat) = Beat::read(packet::body(packet)) else { return };
                if self.beat.is_none() {
                    tell(Event::Beat(beat));
                }
                self.beat = Some(beat);
            }
            Kind::Symbol => {
                let is_placed = self.tally.is_placed.load(Ordering::Relaxed);
                let mut each = |got| tell(Event::Block(got));
                let fate = self.window.take(header, packet::body(packet), is_placed, &mut each);
                match fate {
                    Fate::Kept => {}
                    Fate::Unneeded => self.counts.unneeded += 1,
                    Fate::Overrun => self.counts.overrun += 1,
                }
            }
        }
    }

    /// Whether nothing more is waited for.
    pub fn is_over(&self, silence: Duration) -> bool {
        let quiet = if self.has_ended() { QUIET } else { silence };
        self.tally.is_over.load(Ordering::Acquire) || self.last.elapsed() >= quiet
    }

    /// Whether the sender said that this is the end.
    pub fn has_ended(&self) -> bool {
        self.beat.is_some_and(|beat| beat.is_end)
    }

    /// How far it is.
    pub fn report(&self, outcome: Outcome) -> Report {
        let (tally, counts) = (&self.tally, self.counts);
        let read = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let counts = Counts {
            received: self.sequences.received(),
            lost: self.sequences.lost(),
            blocks_whole: read(&tally.whole),
            blocks_repaired: read(&tally.repaired),
            blocks_short: read(&tally.short),
            restored: read(&tally.restored),
            ..counts
        };
        let seconds = (self.last - self.began).as_secs_f64();
        let (arrived, total) = (read(&tally.arrived), self.beat.map_or(0, |beat| beat.data));
        Report { outcome, seconds, arrived, total, counts }
    }

    /// Nothing more is taken. What came is still to be written.
    pub fn close(&mut self) {
        if let Some(events) = self.events.take() {
            self.window.close(&mut |got| drop(events.send(Event::Block(got))));
        }
    }

    /// Whether all is written that came before it was closed.
    pub fn is_written(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Says what came of it, when it is closed and written.
    pub fn finish(mut self) -> Report {
        self.close();
        let writer = self.writer.take().map(JoinHandle::join);
        let end = match writer {
            Some(Ok(end)) => end,
            _ => Err(Error::fault("a working thread stopped")),
        };
        let outcome = match end {
            Ok(End::Complete { transfer, stream, number, place, bytes }) => {
                Outcome::Complete { manifest: transfer, stream, number, bundle: place, bytes }
            }
            Ok(End::Incomplete { transfer, stream, number, list, files, bytes }) => Outcome::Incomplete {
                manifest: transfer,
                stream,
                number,
                list,
                missing_files: files,
                missing_bytes: bytes,
            },
            Ok(End::Nothing) => Outcome::Nothing,
            // Whatever is wrong with one sending, or with room for it, ends no other.
            Err(error) => Outcome::of(error),
        };
        self.report(outcome)
    }
}
