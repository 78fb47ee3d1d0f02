//! Blocks of which symbols come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use airlock_formats::oneway::packet::{DOCUMENT_BIT, Header, Shape};

/// What came of one block.
pub(super) struct Got {
    pub shape: Shape,
    /// It is of the document.
    pub is_document: bool,
    /// Which symbol each of `symbols` is.
    pub order: Vec<u16>,
    pub symbols: Vec<u8>,
    pool: Arc<Pool>,
}

impl Got {
    /// Enough to restore all of it.
    pub fn is_whole(&self) -> bool {
        self.order.len() == usize::from(self.shape.originals)
    }

    /// The symbols that came, with their numbers.
    pub fn came(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.order.iter().copied().zip(self.symbols.chunks_exact(usize::from(self.shape.symbol_bytes)))
    }
}

impl Drop for Got {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.symbols), self.shape.bytes());
    }
}

/// Memory of all blocks that are open or wait to be written; it is used again.
pub(super) struct Pool {
    /// Bytes that there may be.
    most: usize,
    held: AtomicUsize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// So many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, held: AtomicUsize::new(0), free: Mutex::default() }
    }

    fn take(&self, bytes: usize, most: usize) -> Option<Vec<u8>> {
        if self.held.load(Ordering::Relaxed) + bytes > most {
            return None;
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let mut memory = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        memory.resize(bytes, 0);
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>, bytes: usize) {
        let left = self.held.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if left == 0 {
            free.clear();
        } else {
            free.push(memory);
        }
    }
}

struct Open {
    seen: [u64; 32],
    got: Got,
}

/// What became of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is kept.
    Kept,
    /// Its block is whole without it, or over.
    Unneeded,
    /// There is no memory for its block.
    Overrun,
}

/// The blocks of one session that are open.
pub(super) struct Window {
    open: BTreeMap<u32, Open>,
    /// Those above the horizon that are whole.
    whole: BTreeSet<u32>,
    /// Blocks of data below this are over.
    horizon: u32,
    pool: Arc<Pool>,
}

impl Window {
    /// Blocks in memory that others use as well.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { open: BTreeMap::new(), whole: BTreeSet::new(), horizon: 0, pool }
    }

    /// Takes a symbol; blocks that are whole by it, or given up since later ones are long under way, are handed on.
    ///
    /// While it is not known where data belongs, none of it goes on, and it may hold half of the memory: the document, by
    /// which it becomes known, needs the rest.
    pub fn take(
        &mut self,
        header: &Header,
        body: &[u8],
        is_placed: bool,
        each: &mut impl FnMut(Got),
    ) -> Fate {
        let number = header.block;
        let is_data = number & DOCUMENT_BIT == 0;
        if (is_data && number < self.horizon) || self.whole.contains(&number) {
            return Fate::Unneeded;
        }
        let is_there = self.open.contains_key(&number);
        if !is_there {
            let most = if is_data && !is_placed { self.pool.most / 2 } else { self.pool.most };
            let Some(symbols) = self.pool.take(header.shape.bytes(), most) else { return Fate::Overrun };
            let (shape, pool, order) = (header.shape, self.pool.clone(), Vec::new());
            let got = Got { shape, is_document: !is_data, order, symbols, pool };
            self.open.insert(number, Open { seen: [0; 32], got });
        }
        let fate = self.keep(header, body, each);
        if is_data && !is_there {
            self.give_up(number.saturating_sub(2 * u32::from(header.depth)), each);
        }
        fate
    }

    fn keep(&mut self, header: &Header, body: &[u8], each: &mut impl FnMut(Got)) -> Fate {
        let Some(open) = self.open.get_mut(&header.block) else { return Fate::Unneeded };
        let (word, bit) = (usize::from(header.symbol / 64), 1_u64 << (header.symbol % 64));
        let bytes = usize::from(header.shape.symbol_bytes);
        let at = open.got.order.len() * bytes;
        let (Some(word), Some(slot)) = (open.seen.get_mut(word), open.got.symbols.get_mut(at..at + bytes))
        else {
            return Fate::Unneeded;
        };
        // The same sender makes all symbols of a block alike.
        if *word & bit != 0 || open.got.shape != header.shape || body.len() != bytes {
            return Fate::Unneeded;
        }
        *word |= bit;
        slot.copy_from_slice(body);
        open.got.order.push(header.symbol);
        if open.got.is_whole()
            && let Some(open) = self.open.remove(&header.block)
        {
            self.whole.insert(header.block);
            each(open.got);
        }
        Fate::Kept
    }

    fn give_up(&mut self, below: u32, each: &mut impl FnMut(Got)) {
        if below <= self.horizon {
            return;
        }
        self.horizon = below;
        self.whole = self.whole.split_off(&below);
        let rest = self.open.split_off(&below);
        for (_, open) in std::mem::replace(&mut self.open, rest) {
            each(open.got);
        }
    }

    /// Hands on all that is open: nothing comes any more.
    pub fn close(&mut self, each: &mut impl FnMut(Got)) {
        for (_, open) in std::mem::take(&mut self.open) {
            each(open.got);
        }
    }
}

#[cfg(test)]
mod tests {
    use airlock_formats::oneway::packet::{Kind, Session};

    use super::*;

    const MEMORY: usize = 64 << 20;

    fn window() -> Window {
        Window::new(Arc::new(Pool::new(MEMORY)))
    }

    fn header(block: u32, symbol: u16) -> Header {
        Header {
            kind: Kind::Symbol,
            symbol,
            block,
            session: Session { sender: [0; 4], number: 0, salt: [0; 8] },
            sequence: 0,
            shape: Shape { originals: 2, repair: 1, symbol_bytes: 512 },
            depth: 2,
        }
    }

    fn taken(window: &mut Window, steps: &[(u32, u16)]) -> Vec<(Vec<u16>, bool)> {
        let mut out = Vec::new();
        let mut each = |got: Got| out.push((got.order.clone(), got.is_whole()));
        for (block, symbol) in steps {
            window.take(&header(*block, *symbol), &[7; 512], true, &mut each);
        }
        out
    }

    #[test]
    fn a_block_is_handed_on_once_and_as_soon_as_it_is_whole() {
        let mut window = window();
        assert_eq!(
            taken(&mut window, &[(0, 0), (0, 0), (1, 2), (0, 2), (0, 1), (1, 0)]),
            [(vec![0, 2], true), (vec![2, 0], true)]
        );
    }

    #[test]
    fn what_stays_short_is_handed_on_when_later_blocks_are_long_under_way() {
        let mut window = window();
        assert_eq!(taken(&mut window, &[(0, 1), (1, 0), (2, 0), (3, 0), (4, 0)]), []);
        assert_eq!(taken(&mut window, &[(5, 0), (0, 0)]), [(vec![1], false)]);
        let mut rest = Vec::new();
        window.close(&mut |got| rest.push(got.order.clone()));
        assert_eq!(rest, vec![vec![0]; 5]);
    }

    #[test]
    fn the_document_is_waited_for_however_late_it_is() {
        let mut window = window();
        let document = DOCUMENT_BIT;
        assert_eq!(taken(&mut window, &[(document, 0), (900, 0), (document, 1)]), [(vec![0, 1], true)]);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut window = window();
        let shape = Shape { originals: 1024, repair: 1, symbol_bytes: 8832 };
        let mut fates = Vec::new();
        for block in 0..80 {
            let header = Header { shape, depth: 1024, ..header(block, 0) };
            fates.push(window.take(&header, &vec![0; 8832], true, &mut |_| ()));
        }
        let kept = MEMORY / shape.bytes();
        assert_eq!(fates.iter().filter(|f| **f == Fate::Kept).count(), kept);
        assert!(fates[kept..].iter().all(|f| *f == Fate::Overrun));
        window.close(&mut |_| ());
        assert_eq!(window.pool.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn data_of_which_nobody_knows_where_it_belongs_leaves_room_for_the_document() {
        let (mut window, mut waiting) = (window(), Vec::new());
        let shape = Shape { originals: 512, repair: 1, symbol_bytes: 8832 };
        let mut take = |block: u32, is_placed| {
            let header = Header { shape, depth: 1024, ..header(block, 0) };
            window.take(&header, &vec![0; 8832], is_placed, &mut |got| waiting.push(got))
        };
        let fates: Vec<Fate> = (0..80).map(|block| take(block, false)).collect();
        let kept = MEMORY / 2 / shape.bytes();
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Kept).count(), kept);
        for block in 0..(MEMORY / 2 / shape.bytes()) as u32 {
            assert_eq!(take(DOCUMENT_BIT | block, false), Fate::Kept);
        }
        window.close(&mut |_| ());
    }
}
