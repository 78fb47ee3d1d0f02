//! What travels over a one-way link: layouts and arithmetic, without sockets, files or clocks.
//!
//! ```text
//!   files of a bundle, one after another        AIRLOCK.json, AIRLOCK.sig
//!   (`data`, in the manifest's order)           (`document`)
//!            |                                        |
//!            +------------------+---------------------+
//!                               v
//!        pieces       stream, offset, bytes; self-describing     (`piece`)
//!                               v
//!        blocks       K pieces and R repair symbols              (`fec`, `plan`)
//!                               v
//!        generations  D blocks, sent symbol by symbol in turn    (`plan`)
//!                               v
//!        packets      header, symbol, tag; all of one size       (`packet`)
//! ```
//!
//! A piece says itself where its bytes belong, and that is among what is repaired: so what a receiver lacks can be told in
//! bytes of files ([`missing`]), whatever the size of packets was, and a second pass sends just that in blocks of its own.
//! Any K symbols of a block give back all of it; fewer give back nothing but the pieces that came as they are.

pub mod beat;
pub mod fec;
pub mod missing;
pub mod packet;
pub mod piece;
pub mod plan;
pub mod ranges;
