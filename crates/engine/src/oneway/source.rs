//! From bytes to blocks that are ready to be sent.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use airlock_formats::oneway::fec::Encoder;
use airlock_formats::oneway::packet::Shape;
use airlock_formats::oneway::piece::{self, PIECE_HEADER_BYTES, Stream};
use airlock_formats::oneway::plan::{Link, Plan};

use super::members::Members;
use crate::bundle::media;
use crate::error::{Error, Result, file_error};

/// Bytes that can be read anywhere.
pub(super) trait Bytes {
    /// Which stream they are.
    const STREAM: Stream;

    /// Reads the bytes from an offset on.
    fn fill(&mut self, offset: u64, into: &mut [u8]) -> Result<()>;
}

/// The document, in a file of this station.
pub(super) struct Document<'a>(pub &'a File);

impl Bytes for Document<'_> {
    const STREAM: Stream = Stream::Document;

    fn fill(&mut self, offset: u64, into: &mut [u8]) -> Result<()> {
        let failed = |e| Error::fault(format!("the manifest that is sent cannot be read: {e}"));
        self.0.read_exact_at(into, offset).map_err(failed)
    }
}

/// The files of a bundle.
pub(super) struct Files<'a> {
    dir: &'a Path,
    members: &'a Members,
    open: Option<(usize, File)>,
}

impl<'a> Files<'a> {
    /// The files that lie in a folder.
    pub fn new(dir: &'a Path, members: &'a Members) -> Self {
        Self { dir, members, open: None }
    }

    fn path(&self, at: usize) -> PathBuf {
        self.members.file(at).map_or_else(|| self.dir.to_owned(), |(path, _)| self.dir.join(path))
    }

    fn open(&mut self, at: usize, size: u64) -> Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == at => file,
            _ => {
                let path = self.path(at);
                let file = media::open(&path)?.filter(|f| f.metadata().is_ok_and(|meta| meta.len() == size));
                file.ok_or_else(|| {
                    Error::unsafe_(format!(
                        "{} is not the file of the manifest: its kind or size is another",
                        path.display()
                    ))
                    .hint("run `airlock verify` on the bundle, and copy or export it again")
                })?
            }
        };
        Ok(&self.open.insert((at, file)).1)
    }
}

impl Bytes for Files<'_> {
    const STREAM: Stream = Stream::Data;

    fn fill(&mut self, offset: u64, mut into: &mut [u8]) -> Result<()> {
        let members = self.members;
        for (at, range) in members.within(offset..offset + into.len() as u64) {
            let begin = offset.max(range.start) - range.start;
            let size = range.end - range.start;
            let length = usize::try_from(size - begin).unwrap_or(usize::MAX).min(into.len());
            let (here, rest) = into.split_at_mut(length);
            let read = self.open(at, size)?.read_exact_at(here, begin);
            read.map_err(|e| file_error(self.path(at))(e))?;
            into = rest;
        }
        Ok(())
    }
}

/// A block that is ready: its pieces and repair symbols, one after another.
pub(super) struct Block {
    pub number: u32,
    pub shape: Shape,
    pub symbols: Vec<u8>,
}

impl Block {
    /// One symbol.
    pub fn symbol(&self, at: usize) -> Option<&[u8]> {
        let bytes = usize::from(self.shape.symbol_bytes);
        self.symbols.get(at * bytes..(at + 1) * bytes)
    }
}

/// Pieces of so many stretches.
pub(super) fn pieces(stretches: &[Range<u64>], link: &Link) -> u64 {
    stretches.iter().map(|range| (range.end - range.start).div_ceil(link.piece_bytes())).sum()
}

/// Cuts stretches of bytes into blocks.
pub(super) struct Blocks<B> {
    bytes: B,
    stretches: std::vec::IntoIter<Range<u64>>,
    rest: Range<u64>,
    piece_bytes: u64,
    symbol_bytes: u16,
    plan: Plan,
    next: u64,
    first: u32,
    encoder: Encoder,
}

impl<B: Bytes> Blocks<B> {
    /// The blocks of a plan; their numbers begin with `first`.
    pub fn new(bytes: B, stretches: Vec<Range<u64>>, link: &Link, plan: Plan, first: u32) -> Self {
        Self {
            bytes,
            stretches: stretches.into_iter(),
            rest: 0..0,
            piece_bytes: link.piece_bytes(),
            symbol_bytes: link.symbol_bytes,
            plan,
            next: 0,
            first,
            encoder: Encoder::default(),
        }
    }

    /// The next block, in memory that served another one.
    pub fn next(&mut self, mut symbols: Vec<u8>) -> Result<Option<Block>> {
        let number = self.next;
        self.next += 1;
        let Some(shape) = self.plan.shape(number, self.symbol_bytes).filter(|_| number < self.plan.blocks)
        else {
            return Ok(None);
        };
        let number =
            u32::try_from(number).map_err(|_| Error::usage("this is more than one sending takes"))?;
        symbols.resize(shape.symbols() * usize::from(shape.symbol_bytes), 0);
        let (originals, repair) = symbols.split_at_mut(shape.bytes());
        for symbol in originals.chunks_exact_mut(usize::from(shape.symbol_bytes)) {
            self.piece(symbol)?;
        }
        self.encoder.encode(shape, originals, repair).map_err(|e| Error::fault(e.to_string()))?;
        Ok(Some(Block { number: self.first | number, shape, symbols }))
    }

    fn piece(&mut self, symbol: &mut [u8]) -> Result<()> {
        while self.rest.is_empty() {
            let Some(range) = self.stretches.next() else { break };
            self.rest = range;
        }
        let length = (self.rest.end - self.rest.start).min(self.piece_bytes);
        let end = PIECE_HEADER_BYTES + usize::try_from(length).unwrap_or(0);
        if let Some(into) = symbol.get_mut(PIECE_HEADER_BYTES..end) {
            self.bytes.fill(self.rest.start, into)?;
        }
        piece::seal(symbol, B::STREAM, self.rest.start, u16::try_from(length).unwrap_or(0));
        self.rest.start += length;
        Ok(())
    }
}
