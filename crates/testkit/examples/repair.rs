//! Repair of the one-way link alone, on one core and in memory: how fast blocks are encoded, and restored after a loss.
//!
//!     repair ORIGINALS REPAIR SYMBOL_BYTES PERCENT   blocks of this shape, of whose pieces so many percent are lost
//!                                                    (rounded down, and no more than REPAIR); says MB/s of originals encoded, and restored
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::time::{Duration, Instant};

use airlock_formats::oneway::fec::{Decoder, Encoder};
use airlock_formats::oneway::packet::Shape;

/// Blocks that are worked at in turn: more than caches hold.
const BLOCKS: usize = 32;
/// How long each of both is measured.
const LONG: Duration = Duration::from_secs(1);

fn main() {
    let args: Vec<u16> = std::env::args().skip(1).map(|arg| arg.parse().unwrap()).collect();
    let [originals, repair, symbol_bytes, percent] = args[..] else { panic!("see the head of this file") };
    let shape = Shape { originals, repair, symbol_bytes };
    let bytes = usize::from(symbol_bytes);
    let data: Vec<u8> = (0..usize::from(originals) * bytes).map(|i| (i * i / 7) as u8).collect();
    let mut parity = vec![0; usize::from(repair) * bytes];
    Encoder::default().encode(shape, &data, &mut parity).unwrap();
    let symbols = [&data[..], &parity].concat();

    let mut encoder = Encoder::default();
    let mut blocks = vec![(data.clone(), parity); BLOCKS];
    let encoded = rate(data.len(), |at| {
        let (data, parity) = &mut blocks[at];
        encoder.encode(shape, data, parity).unwrap();
    });

    let lost =
        |n: &u16| u32::from(*n) * u32::from(percent) / 100 != (u32::from(*n) + 1) * u32::from(percent) / 100;
    let kept: Vec<u16> = (0..originals).filter(|n| !lost(n)).collect();
    let spare = originals - u16::try_from(kept.len()).unwrap();
    assert!(spare <= repair, "more is lost than {repair} symbols restore");
    let came: Vec<u16> = kept.into_iter().chain(originals..originals + spare).collect();
    let mut decoder = Decoder::default();
    let blocks = vec![symbols; BLOCKS];
    let restored = rate(data.len(), |at| {
        let one = |n: u16| &blocks[at][usize::from(n) * bytes..][..bytes];
        let mut count = 0;
        let each = |n: u16, symbol: &[u8]| {
            assert_eq!(symbol, one(n));
            count += 1;
        };
        decoder.restore(shape, came.iter().map(|n| (*n, one(*n))), each).unwrap();
        assert_eq!(count, spare);
    });
    println!("{encoded:.0} {restored:.0}");
}

/// MB/s of what works at so many bytes each time.
fn rate(bytes: usize, mut work: impl FnMut(usize)) -> f64 {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < LONG {
        work(count % BLOCKS);
        count += 1;
    }
    (bytes * count) as f64 / began.elapsed().as_secs_f64() / 1e6
}
