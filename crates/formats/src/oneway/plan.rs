//! How much repair, and how far blocks are taken apart, so that nothing needs to come back.
//!
//! Blocks are sent symbol by symbol in turn, D at a time: what interrupts the link for a moment takes a few symbols from each of
//! them instead of one block. Two things are covered: losses at random of [`LOSS`], and in a calmer link (`CALM`)
//! interruptions of [`BURST_MS`] twice a second. What is too short to be spread over a time so much longer than an interruption is
//! sent twice, with a pause in between that is longer than one.

use super::packet::{DEPTH_MAX, HEADER_BYTES, SYMBOLS_MAX, Shape, TAG_BYTES};
use super::piece::PIECE_HEADER_BYTES;

/// Pieces of a full block.
const ORIGINALS: u16 = 512;
/// Losses at random that are covered.
pub const LOSS: f64 = 0.05;
/// Losses at random that are covered for the document, without which nothing else can be placed.
const DOCUMENT_LOSS: f64 = 0.25;
/// Losses at random that are covered while there is an interruption besides.
const CALM: f64 = 0.01;
/// The interruption that is covered, in milliseconds.
pub const BURST_MS: u64 = 50;
/// How often such an interruption comes at most, in milliseconds.
const BURST_EVERY_MS: u64 = 500;
/// How likely a block may be lost that meets with just the losses that are covered.
const RISK: f64 = 1e-9;
/// Memory of the blocks that are sent in turn, in bytes; the sender makes as many while it sends these.
const WINDOW_BYTES: u64 = 128 << 20;

/// What is known of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes of a symbol.
    pub symbol_bytes: u16,
    /// Packets a second.
    pub packets_per_second: u64,
    /// Repair symbols for each hundred pieces, where a person says it.
    pub repair_percent: Option<u16>,
}

impl Link {
    /// A link that takes so many bits a second, with all headers of this layout counted.
    pub fn new(symbol_bytes: u16, bits_per_second: u64, repair_percent: Option<u16>) -> Self {
        let packet = HEADER_BYTES + usize::from(symbol_bytes) + TAG_BYTES;
        let packets_per_second = (bits_per_second / 8 / packet as u64).max(1);
        Self { symbol_bytes, packets_per_second, repair_percent }
    }

    /// Bytes that one piece carries.
    pub fn piece_bytes(&self) -> u64 {
        u64::from(self.symbol_bytes).saturating_sub(PIECE_HEADER_BYTES as u64).max(1)
    }

    /// Most interruptions within so many packets.
    fn bursts(&self, packets: u64) -> u64 {
        1 + packets * 1000 / self.packets_per_second / BURST_EVERY_MS
    }

    /// Packets that an interruption takes.
    fn burst(&self) -> u64 {
        self.packets_per_second * BURST_MS / 1000 + 1
    }
}

/// How a number of pieces is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pieces in all.
    pub pieces: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are sent in turn.
    pub depth: u16,
    /// Repair symbols of each block.
    pub repair: u16,
    /// Everything is sent twice.
    pub repeats: bool,
}

impl Plan {
    /// How so many pieces of data go over a link.
    pub fn new(pieces: u64, link: &Link) -> Self {
        Self::covering(LOSS, pieces, link)
    }

    /// How so many pieces of the document go over a link; what a person says of repair is of the data.
    pub fn of_document(pieces: u64, link: &Link) -> Self {
        Self::covering(DOCUMENT_LOSS, pieces, &Link { repair_percent: None, ..*link })
    }

    fn covering(loss: f64, pieces: u64, link: &Link) -> Self {
        let whole = repair_for(ORIGINALS, loss);
        let calm = repair_for(ORIGINALS, CALM);
        let block_bytes = u64::from(ORIGINALS + whole) * u64::from(link.symbol_bytes);
        let most = (WINDOW_BYTES / block_bytes.max(1)).clamp(1, u64::from(DEPTH_MAX));
        // Deep enough for the repair of random losses to cover an interruption, as far as memory goes.
        let depth = link.burst().div_ceil(u64::from(whole - calm)).clamp(1, most);
        let blocks = pieces.div_ceil(u64::from(ORIGINALS)).max(1);
        // Generations of equal depth, so that the last one is no weaker than the others.
        let generations = blocks.div_ceil(depth);
        let depth = blocks.div_ceil(generations);
        let blocks = generations * depth;
        let originals = saturated(pieces.div_ceil(blocks).max(1));
        let random = repair_for(originals, loss);
        let taken = link.burst() * link.bursts(depth * u64::from(originals + random));
        let needed = taken.div_ceil(depth) + u64::from(repair_for(originals, CALM));
        // More than half is for nothing but rates that memory does not reach.
        let repeats = generations == 1 && needed > u64::from(random.max(originals / 3));
        let repair = match (link.repair_percent, repeats) {
            (Some(percent), _) => saturated((u64::from(originals) * u64::from(percent)).div_ceil(100)),
            (None, true) => random,
            (None, false) => random.max(saturated(needed).min(ORIGINALS / 2)),
        };
        Self { pieces, blocks, depth: saturated(depth), repair: repair.clamp(1, SYMBOLS_MAX), repeats }
    }

    /// Pieces of a block: all have as many, or one less.
    pub fn originals(&self, block: u64) -> u16 {
        let more = block < self.pieces % self.blocks.max(1);
        saturated(self.pieces / self.blocks.max(1) + u64::from(more))
    }

    /// The shape of a block; none where it holds nothing.
    pub fn shape(&self, block: u64, symbol_bytes: u16) -> Option<Shape> {
        let originals = self.originals(block);
        (originals > 0).then_some(Shape { originals, repair: self.repair, symbol_bytes })
    }
}

/// A number that is known to be small.
fn saturated(n: u64) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// The least repair with which a block of so many pieces is lost less often than `RISK` where each symbol is lost with
/// this probability.
pub fn repair_for(originals: u16, loss: f64) -> u16 {
    let is_enough =
        |repair: &u16| chance_of_more(u32::from(originals) + u32::from(*repair), loss, *repair) < RISK;
    (1..SYMBOLS_MAX).find(is_enough).unwrap_or(SYMBOLS_MAX)
}

/// How likely more than `most` of `n` symbols are lost.
fn chance_of_more(n: u32, loss: f64, most: u16) -> f64 {
    let kept = 1.0 - loss;
    let mut exactly = (0..n).fold(1.0, |product, _| product * kept);
    let mut rest = 0.0;
    for lost in 0..=n {
        if lost > u32::from(most) {
            rest += exactly;
        }
        exactly *= f64::from(n - lost) / f64::from(lost + 1) * loss / kept;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn pieces(bytes: u64, link: &Link) -> u64 {
        bytes.div_ceil(link.piece_bytes())
    }

    #[test]
    fn the_repair_that_is_chosen_is_the_least_that_keeps_the_risk() {
        assert_eq!([1, 16, 128, 512].map(|k| repair_for(k, LOSS)), [6, 12, 28, 65]);
        assert_eq!([1, 16, 128, 512].map(|k| repair_for(k, CALM)), [4, 7, 13, 24]);
    }

    #[test]
    fn every_piece_has_one_block_and_no_block_is_larger_than_may_be() {
        for rate in [10_000_000, 1_000_000_000, 2_500_000_000, 40_000_000_000] {
            for symbol_bytes in [512, 1344, 8832] {
                let link = Link::new(symbol_bytes, rate, None);
                for pieces in [0, 1, 511, 512, 513, 100_000, 3_000_000] {
                    let plan = Plan::new(pieces, &link);
                    let sum: u64 = (0..plan.blocks).map(|b| u64::from(plan.originals(b))).sum();
                    assert_eq!(sum, pieces, "{plan:?}");
                    assert!((0..plan.blocks).all(|b| plan.originals(b) <= ORIGINALS), "{plan:?}");
                    assert!(
                        plan.depth >= 1
                            && plan.depth <= DEPTH_MAX
                            && plan.blocks.is_multiple_of(u64::from(plan.depth))
                    );
                }
            }
        }
    }

    #[test]
    fn an_interruption_anywhere_leaves_enough_of_every_block_or_all_is_sent_twice() {
        for (rate, symbol_bytes) in [(1_000_000_000, 1344), (1_000_000_000, 8832), (2_500_000_000, 8832)] {
            let link = Link::new(symbol_bytes, rate, None);
            for bytes in [1, 1_000_000, 80_000_000, 500_000_000, 2 * GIB] {
                let plan = Plan::new(pieces(bytes, &link), &link);
                let packets = u64::from(plan.depth) * u64::from(plan.originals(0) + plan.repair);
                let halves = packets.saturating_mul(1000) / link.packets_per_second / 600;
                let taken = (link.burst() * (1 + halves)).div_ceil(u64::from(plan.depth));
                let covered =
                    u64::from(plan.repair) >= taken + u64::from(repair_for(plan.originals(0), CALM));
                assert!(covered || plan.repeats, "{plan:?}");
                assert!(bytes < 100_000_000 || !plan.repeats, "only what is short is sent twice: {plan:?}");
            }
        }
    }

    #[test]
    fn a_person_may_say_how_much_repair() {
        let link = Link::new(8832, 1_000_000_000, Some(50));
        assert_eq!(Plan::new(51_200, &link).repair, 251);
    }

    #[test]
    fn what_is_chosen_for_two_gibibytes() {
        let link = Link::new(8832, 2_500_000_000, None);
        let plan = Plan::new(pieces(2 * GIB, &link), &link);
        assert_eq!((plan.depth, plan.repair, plan.repeats), (26, 92, false), "{plan:?}");
        // Slower, fewer blocks are sent in turn for longer, and an interruption may come twice meanwhile.
        let link = Link::new(8832, 500_000_000, None);
        let plan = Plan::new(pieces(2 * GIB, &link), &link);
        assert!(plan.repair > 100 && !plan.repeats, "{plan:?}");
    }
}
