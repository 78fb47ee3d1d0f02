//! Repair: Reed-Solomon over GF(2^16) by additive FFT (the crate `reed-solomon-simd`).
//!
//! Any K of the K+R symbols of a block give back its K pieces, without exception, which is what lets a bound on losses be a
//! promise. Measured on one core of the machine that this was made on, K 512, R 64, symbols of 8,832 bytes: 8.0 GB/s to encode and
//! 1.5 GB/s to restore; RaptorQ (`raptorq` 2.0) 1.8 and 1.5, and it needs a symbol more than K now and then.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::packet::Shape;

/// A shape or number of symbols that cannot be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these symbols cannot be encoded or restored")]
pub struct NotABlock;

impl From<reed_solomon_simd::Error> for NotABlock {
    fn from(_: reed_solomon_simd::Error) -> Self {
        Self
    }
}

/// Makes repair symbols; its tables and memory serve one block after another.
#[derive(Default)]
pub struct Encoder(Option<ReedSolomonEncoder>);

impl Encoder {
    /// Fills `repair` from the pieces of a block, both one symbol after another.
    pub fn encode(&mut self, shape: Shape, originals: &[u8], repair: &mut [u8]) -> Result<(), NotABlock> {
        let (k, r, bytes) = numbers(shape);
        if originals.len() != k * bytes || repair.len() != r * bytes || bytes == 0 {
            return Err(NotABlock);
        }
        let encoder = match &mut self.0 {
            Some(encoder) => {
                encoder.reset(k, r, bytes)?;
                encoder
            }
            none => none.insert(ReedSolomonEncoder::new(k, r, bytes)?),
        };
        for symbol in originals.chunks_exact(bytes) {
            encoder.add_original_shard(symbol)?;
        }
        let done = encoder.encode()?;
        for (to, from) in repair.chunks_exact_mut(bytes).zip(done.recovery_iter()) {
            to.copy_from_slice(from);
        }
        Ok(())
    }
}

/// Restores pieces; its tables and memory serve one block after another.
#[derive(Default)]
pub struct Decoder(Option<ReedSolomonDecoder>);

impl Decoder {
    /// Hands on every piece that is not among what came, in order, from any K symbols of the block with their numbers.
    ///
    /// # Errors
    ///
    /// If these are not K different symbols of the block.
    pub fn restore<'a>(
        &mut self,
        shape: Shape,
        came: impl Iterator<Item = (u16, &'a [u8])>,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), NotABlock> {
        let (k, r, bytes) = numbers(shape);
        let decoder = match &mut self.0 {
            Some(decoder) => {
                decoder.reset(k, r, bytes)?;
                decoder
            }
            none => none.insert(ReedSolomonDecoder::new(k, r, bytes)?),
        };
        let mut count = 0;
        for (number, symbol) in came {
            let number = usize::from(number);
            match number.checked_sub(k) {
                None => decoder.add_original_shard(number, symbol)?,
                Some(number) => decoder.add_recovery_shard(number, symbol)?,
            }
            count += 1;
        }
        if count != k {
            return Err(NotABlock);
        }
        for (number, symbol) in decoder.decode()?.restored_original_iter() {
            each(u16::try_from(number).map_err(|_| NotABlock)?, symbol);
        }
        Ok(())
    }
}

fn numbers(shape: Shape) -> (usize, usize, usize) {
    (usize::from(shape.originals), usize::from(shape.repair), usize::from(shape.symbol_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(shape: Shape) -> Vec<u8> {
        let mut symbols: Vec<u8> = (0..shape.bytes()).map(|i| (i * i / 7) as u8).collect();
        let mut repair = vec![0; usize::from(shape.repair) * usize::from(shape.symbol_bytes)];
        Encoder::default().encode(shape, &symbols, &mut repair).unwrap();
        symbols.extend(repair);
        symbols
    }

    fn restore(shape: Shape, symbols: &[u8], came: &[u16]) -> Result<Vec<u8>, NotABlock> {
        let bytes = usize::from(shape.symbol_bytes);
        let one = |n: u16| &symbols[usize::from(n) * bytes..][..bytes];
        let mut out = vec![0; shape.bytes()];
        for n in came.iter().filter(|n| **n < shape.originals) {
            out[usize::from(*n) * bytes..][..bytes].copy_from_slice(one(*n));
        }
        let restored = |n: u16, symbol: &[u8]| {
            out[usize::from(n) * bytes..][..bytes].copy_from_slice(symbol);
        };
        Decoder::default().restore(shape, came.iter().map(|n| (*n, one(*n))), restored)?;
        Ok(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_pattern_of_loss_within_the_repair_is_restored_and_beyond_it_nothing_is(
            originals in 1u16..90,
            repair in 1u16..40,
            order in Just(()).prop_perturb(|(), mut rng| rng.next_u64()),
        ) {
            let shape = Shape { originals, repair, symbol_bytes: 64 };
            let symbols = block(shape);
            let mut all: Vec<u16> = (0..originals + repair).collect();
            all.sort_by_key(|n| (u64::from(*n) + 1).wrapping_mul(order | 1).rotate_left(17));
            let whole = restore(shape, &symbols, &all[..usize::from(originals)]);
            prop_assert_eq!(whole.as_deref(), Ok(&symbols[..shape.bytes()]));
            let fewer = restore(shape, &symbols, &all[..usize::from(originals) - 1]);
            prop_assert_eq!(fewer, Err(NotABlock));
        }
    }

    #[test]
    fn symbols_that_come_twice_or_do_not_belong_to_the_block_are_refused() {
        let shape = Shape { originals: 3, repair: 2, symbol_bytes: 64 };
        let symbols = block(shape);
        assert!(restore(shape, &symbols, &[0, 4, 3]).is_ok());
        assert_eq!(restore(shape, &symbols, &[0, 0, 3]), Err(NotABlock));
        let longer = Shape { repair: 3, ..shape };
        assert_eq!(restore(shape, &block(longer), &[0, 1, 5]), Err(NotABlock));
    }
}
