//! Over a link on which nothing comes back.
//!
//! ```text
//!   low   files > source > outlet > pace > link ======> link > intake > flow > writer > spool   high
//!                                                                                  '--> hasher
//! ```
//!
//! The sender reads a bundle as it lies and never learns what arrived. The receiver writes what came into a spool, keeps it
//! whatever happens, and gives a bundle its name only when every file of it has the hash that a manifest signed by a trusted
//! key states. What is short it lists; a second pass sends just that. How packets look and how much repair they carry is
//! in `airlock_formats::oneway`. What is a bundle's is known by `members` alone, where it is kept by `spool`: whatever brings
//! a bundle piece by piece by another way can use both.

mod door;
mod flow;
mod hasher;
pub mod inbox;
mod link;
mod members;
mod outlet;
mod pace;
pub mod push;
mod quota;
pub mod receive;
mod record;
mod seal;
pub mod send;
mod sequences;
mod session;
mod source;
mod spool;
mod turns;
mod window;
mod writer;
