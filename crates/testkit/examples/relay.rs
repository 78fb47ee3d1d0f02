//! A bad link between the two ends of a one-way link:
//!
//!     relay ADDR:PORT TO:PORT PER_MILLE GAP_MS   loses so many of a thousand packets at random and everything for so long twice a
//!                                                second, lets packets overtake each other and sends every fifth twice
//!
//! It says `ready` and runs until its standard input ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::io::Read as _;
use std::time::Duration;

use airlock_testkit::relay::Relay;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [at, to, per_mille, gap] = args.as_slice() else { panic!("see the head of this file") };
    let gap = Duration::from_millis(gap.parse().unwrap());
    let _relay =
        Relay::bad_at(at.parse().unwrap(), to.parse().unwrap(), per_mille.parse().unwrap(), gap, true);
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
