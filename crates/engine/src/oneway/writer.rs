//! From blocks to files: restore, place, hash, and name the bundle when it is whole.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_formats::oneway::beat::Beat;
use airlock_formats::oneway::fec::Decoder;
use airlock_formats::oneway::packet::Session;
use airlock_formats::oneway::piece::{self, Stream};
use airlock_formats::oneway::ranges::Ranges;

use super::door::Door;
use super::hasher::{Hasher, Verdict};
use super::members::DOCUMENT_BYTES_MAX;
use super::session::Sessions;
use super::spool::{self, Spool};
use super::turns::{Turn, Turns};
use super::window::{Got, Pool};
use crate::bundle::media;
use crate::error::{Error, Kind, Result, file_error};
use crate::progress::{Progress, Task, Unit};

/// Between two looks at what was hashed meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// Between two syncs of what was written.
const SYNC: Duration = Duration::from_secs(1);

/// What a writer is told.
pub(super) enum Event {
    /// What is being sent.
    Beat(Beat),
    /// What came of a block.
    Block(Got),
}

/// What a writer counts, for those who look on.
#[derive(Default)]
pub(super) struct Tally {
    /// Blocks that came without a loss.
    pub whole: AtomicU64,
    /// Blocks that were restored.
    pub repaired: AtomicU64,
    /// Blocks of which too little came.
    pub short: AtomicU64,
    /// Pieces that were restored.
    pub restored: AtomicU64,
    /// Bytes of the data that are there.
    pub arrived: AtomicU64,
    /// It is known where data belongs.
    pub is_placed: AtomicBool,
    /// Everything is done, or refused.
    pub is_over: AtomicBool,
}

/// How it ended.
pub(super) enum End {
    /// Whole, verified, named.
    Complete { transfer: Digest, stream: String, number: u64, place: PathBuf, bytes: u64 },
    /// Something is missing.
    Incomplete { transfer: Digest, stream: String, number: u64, list: PathBuf, files: u64, bytes: u64 },
    /// Not even the document came.
    Nothing,
}

/// Where and by whose keys.
#[derive(Clone)]
pub(super) struct Place {
    pub into: PathBuf,
    pub door: Door,
    pub quota: Option<u64>,
    pub progress: Progress,
}

/// What all sendings share.
#[derive(Clone)]
pub(super) struct Shared {
    pub pool: Arc<Pool>,
    pub turns: Arc<Turns>,
    pub sessions: Arc<Sessions>,
}

/// The document as far as it came, in a file without a name: nothing of it stays unless it is accepted.
struct Arriving {
    file: File,
    have: Ranges,
    total: u64,
}

/// One transfer that is being written.
pub(super) struct Writer {
    session: Session,
    sessions: Arc<Sessions>,
    place: Place,
    tally: Arc<Tally>,
    beat: Option<Beat>,
    document: Option<Arriving>,
    spool: Option<Spool>,
    waiting: VecDeque<Got>,
    /// It was here before.
    delivered: Option<End>,
    decoder: Decoder,
    hasher: Hasher,
    task: Option<Task>,
    synced: Instant,
    syncer: SyncSender<PathBuf>,
    turns: Arc<Turns>,
    /// Behind `spool`, which is let go of first.
    turn: Option<Turn>,
}

impl Writer {
    /// A writer that has heard of nothing yet.
    pub fn new(session: Session, place: Place, shared: &Shared, tally: Arc<Tally>) -> Self {
        let (syncer, folders) = sync_channel::<PathBuf>(1);
        // What cannot be synced now is synced before the bundle gets its name, where a fault is told.
        std::thread::spawn(move || folders.iter().for_each(|folder| drop(media::sync(&folder))));
        Self {
            session,
            sessions: shared.sessions.clone(),
            place,
            tally,
            beat: None,
            document: None,
            spool: None,
            waiting: VecDeque::new(),
            delivered: None,
            decoder: Decoder::default(),
            hasher: Hasher::start(),
            task: None,
            synced: Instant::now(),
            syncer,
            turns: shared.turns.clone(),
            turn: None,
        }
    }

    /// Writes until nothing more is to come or the bundle is complete.
    pub fn run(mut self, events: &Receiver<Event>) -> Result<End> {
        let (tally, sessions, session) = (self.tally.clone(), self.sessions.clone(), self.session);
        let end = sessions.save(session.sender).and_then(|()| self.work(events));
        // One that broke off may go on, also where this side could not write: what comes of it then is taken as before.
        let is_over = match &end {
            Ok(End::Complete { .. }) => true,
            Ok(_) => false,
            Err(error) => error.kind != Kind::Fault,
        };
        if is_over {
            sessions.note(session, true);
        }
        // What came of the bundle is told, whatever a receiver that starts anew will remember of the sending.
        if let Err(error) = sessions.save(session.sender) {
            tracing::warn!("that a sending is over could not be written down: {error}");
        }
        tally.is_over.store(true, Ordering::Release);
        end
    }

    fn work(&mut self, events: &Receiver<Event>) -> Result<End> {
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Beat(beat)) => self.begin(beat)?,
                Ok(Event::Block(got)) => self.block(got)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let verdicts = self.hasher.verdicts();
            self.judge(verdicts)?;
            if self.delivered.is_some() || self.spool.as_ref().is_some_and(Spool::is_complete) {
                break;
            }
            self.sync();
        }
        let verdicts = self.hasher.finish();
        self.judge(verdicts)?;
        self.task = None;
        self.end()
    }

    fn begin(&mut self, beat: Beat) -> Result<()> {
        if self.beat.is_some() {
            return Ok(());
        }
        if beat.document > DOCUMENT_BYTES_MAX {
            return Err(Error::unsafe_("a document is announced that is larger than may be"));
        }
        self.beat = Some(beat);
        self.turn = Some(self.turns.wait(beat.transfer));
        self.open_spool(beat.transfer)?;
        // Also where the bundle waits already: it may come with other signatures.
        let dir = spool::incoming(&self.place.into)?;
        let file = tempfile::tempfile_in(&dir).map_err(file_error(&dir))?;
        self.document = Some(Arriving { file, have: Ranges::default(), total: beat.document });
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Result<()> {
        for got in std::mem::take(&mut self.waiting) {
            self.block(got)?;
        }
        Ok(())
    }

    fn open_spool(&mut self, transfer: Digest) -> Result<()> {
        let Some(mut spool) = Spool::open(&self.place.into, &self.place.door, transfer)? else {
            return Ok(());
        };
        if spool.is_delivered(&self.place.door)? {
            self.delivered = Some(complete(&spool));
            return spool.remove();
        }
        let task = format!("receiving {}-{}", spool.members.stream, spool.members.number);
        let task = self.place.progress.task(task, Unit::Bytes, Some(spool.members.bytes()));
        task.add(spool.arrived());
        self.task = Some(task);
        self.tally.arrived.store(spool.arrived(), Ordering::Relaxed);
        spool.begin()?.into_iter().for_each(|reached| self.hasher.tell(reached));
        self.spool = Some(spool);
        self.tally.is_placed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Restores a block, and places its pieces. While it is not known where they belong, it waits, within what may be held.
    fn block(&mut self, got: Got) -> Result<()> {
        let is_placed = if got.is_document { self.beat.is_some() } else { self.spool.is_some() };
        if self.delivered.is_some() {
            return Ok(());
        }
        if !is_placed {
            self.waiting.push_back(got);
            return Ok(());
        }
        let mut restored: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut pieces = self.restored(&got, &mut restored)?;
        for (number, symbol) in &restored {
            if let Some(slot) = pieces.get_mut(usize::from(*number)) {
                *slot = Some(symbol);
            }
        }
        let mut data: Vec<(u64, &[u8])> = Vec::new();
        for piece in pieces.into_iter().flatten().filter_map(piece::read) {
            match piece.stream {
                Stream::Data => data.push((piece.offset, piece.bytes)),
                Stream::Document => self.document_piece(piece.offset, piece.bytes)?,
            }
        }
        if got.is_document {
            return self.document_done();
        }
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let (new, reached) = spool.put(&data)?;
        reached.into_iter().for_each(|reached| self.hasher.tell(reached));
        self.tally.arrived.fetch_add(new, Ordering::Relaxed);
        if let Some(task) = &self.task {
            task.add(new);
        }
        Ok(())
    }

    /// The pieces that came, by number, and those that can be restored.
    fn restored<'a>(
        &mut self,
        got: &'a Got,
        restored: &mut Vec<(u16, Vec<u8>)>,
    ) -> Result<Vec<Option<&'a [u8]>>> {
        let originals = got.shape.originals;
        let mut pieces: Vec<Option<&[u8]>> = vec![None; usize::from(originals)];
        for (number, symbol) in got.came().filter(|(number, _)| *number < originals) {
            if let Some(slot) = pieces.get_mut(usize::from(number)) {
                *slot = Some(symbol);
            }
        }
        let lacking = pieces.iter().filter(|piece| piece.is_none()).count();
        if lacking == 0 {
            self.tally.whole.fetch_add(1, Ordering::Relaxed);
        } else if got.is_whole() {
            let each = |number, symbol: &[u8]| restored.push((number, symbol.to_vec()));
            self.decoder.restore(got.shape, got.came(), each).map_err(|e| Error::fault(e.to_string()))?;
            self.tally.repaired.fetch_add(1, Ordering::Relaxed);
            self.tally.restored.fetch_add(lacking as u64, Ordering::Relaxed);
        } else {
            self.tally.short.fetch_add(1, Ordering::Relaxed);
        }
        Ok(pieces)
    }

    fn document_piece(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(arriving) = &mut self.document else { return Ok(()) };
        let end = offset + bytes.len() as u64;
        if end <= arriving.total {
            arriving.file.write_all_at(bytes, offset).map_err(file_error(&self.place.into))?;
            arriving.have.insert(offset..end);
        }
        Ok(())
    }

    /// Accepts the document once all of it is there.
    fn document_done(&mut self) -> Result<()> {
        let Some(arriving) = self.document.take_if(|arriving| arriving.have.holds(0..arriving.total)) else {
            return Ok(());
        };
        let Some(beat) = self.beat else { return Ok(()) };
        let Place { into, door, quota, .. } = &self.place;
        spool::accept(into, door, beat.transfer, (arriving.file, arriving.total), *quota)?;
        if self.spool.is_some() {
            return Ok(());
        }
        self.open_spool(beat.transfer)?;
        self.take_waiting()
    }

    fn judge(&mut self, verdicts: Vec<Verdict>) -> Result<()> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        verdicts.into_iter().try_for_each(|verdict| spool.judged(verdict.at, verdict.fits))
    }

    /// What was written goes to the disk every now and then, beside the work.
    fn sync(&mut self) {
        if self.synced.elapsed() < SYNC {
            return;
        }
        self.synced = Instant::now();
        if let Some(spool) = &self.spool
            && let Err(TrySendError::Disconnected(_)) = self.syncer.try_send(spool.dir().to_owned())
        {
            self.synced = Instant::now();
        }
    }

    fn end(&mut self) -> Result<End> {
        if let Some(delivered) = self.delivered.take() {
            return Ok(delivered);
        }
        let Some(spool) = self.spool.take() else { return Ok(End::Nothing) };
        if spool.is_complete() {
            let end = complete(&spool);
            spool.deliver(&self.place.door)?;
            return Ok(end);
        }
        let transfer = spool.members.transfer;
        let (stream, number) = (spool.members.stream.clone(), spool.members.number);
        media::sync(spool.dir())?;
        let list = spool.list_missing()?;
        let mut paths: Vec<String> = spool.missing().parts.into_iter().map(|part| part.path).collect();
        paths.dedup();
        let (files, bytes) = (paths.len() as u64, spool.members.bytes() - spool.arrived());
        Ok(End::Incomplete { transfer, stream, number, list, files, bytes })
    }
}

fn complete(spool: &Spool) -> End {
    End::Complete {
        transfer: spool.members.transfer,
        stream: spool.members.stream.clone(),
        number: spool.members.number,
        place: spool.place(),
        bytes: spool.members.bytes(),
    }
}
