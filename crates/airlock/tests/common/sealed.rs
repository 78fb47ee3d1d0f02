//! What is sealed to a station, opened and sealed by its identity.

use std::io::{Cursor, Read as _};

use airlock_engine::age::{Opening, Seal, recipient};
use airlock_formats::age::{Identity, identities};

use super::Station;

fn identities_of(station: &Station) -> Vec<Identity> {
    let text = std::fs::read_to_string(station.dir.join("keys/identity.txt")).unwrap();
    identities(&text).unwrap()
}

/// What is in a file that was sealed to a station.
pub fn opened(to: &Station, sealed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    Opening::new(sealed, &identities_of(to)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// Seals bytes to a station, as anybody can who knows its recipient.
pub fn sealed(to: &Station, plain: &[u8]) -> Vec<u8> {
    let to = [(recipient(&identities_of(to)[0]).unwrap(), [9; 32].into())];
    let seal = Seal::new([7; 16].into(), [8; 16], &to).unwrap();
    let mut sealed = Vec::new();
    seal.open_at(Cursor::new(plain), plain.len() as u64, 0).unwrap().read_to_end(&mut sealed).unwrap();
    sealed
}

/// The same content, sealed by somebody else.
pub fn resealed(to: &Station, bytes: &[u8]) -> Vec<u8> {
    sealed(to, &opened(to, bytes))
}
