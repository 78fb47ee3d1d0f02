//! The age file format, version 1 (age-encryption.org/v1): what its bytes mean. Whoever has keys is elsewhere.
//!
//! ```text
//! age-encryption.org/v1            header: for each recipient a stanza in which the file key is wrapped,
//! -> X25519 SHARE                  and a MAC over all of it by that key
//! WRAPPED FILE KEY
//! --- MAC
//! NONCE | chunk | chunk | ...      payload: chunks of 64 KiB and their tags, numbered, the last one marked
//! ```

mod bech32;
mod header;
mod keys;

pub use header::{Header, HeaderError, Stanza, X25519, covered};
pub use keys::{IDENTITIES_BYTES_MAX, Identity, IdentityError, Recipient, RecipientError, identities};

/// The first line.
pub const VERSION: &str = "age-encryption.org/v1";
/// Plain bytes of a chunk; only the last one has fewer.
pub const CHUNK_BYTES: usize = 64 << 10;
/// What a chunk, or a wrapped key, has more than what is in it, in bytes.
pub const TAG_BYTES: usize = 16;
/// The nonce of a payload, in bytes.
pub const NONCE_BYTES: usize = 16;
/// The key of a file, in bytes.
pub const FILE_KEY_BYTES: usize = 16;
/// Largest header that is read, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Most stanzas of a header that is read, and most recipients of one that is written.
pub const STANZAS_MAX: usize = 32;

/// Bytes of the version line with its end.
const VERSION_BYTES: u64 = 22;
/// Bytes of an X25519 stanza: `-> X25519 `, 43 digits, an end; 43 digits, an end.
const STANZA_BYTES: u64 = 10 + 44 + 44;
/// Bytes of the last line: `--- `, 43 digits, an end.
const MAC_BYTES: u64 = 4 + 44;

/// The nonce of a chunk: its number from 0 on in eleven bytes, and whether it is the last.
pub fn chunk_nonce(number: u64, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

/// How many chunks so many bytes become: an empty file has one, too.
pub fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64).max(1)
}

/// How large a file becomes that is encrypted to so many X25519 recipients, in bytes.
pub fn sealed_bytes(bytes: u64, recipients: usize) -> u64 {
    let header = VERSION_BYTES + STANZA_BYTES.saturating_mul(recipients as u64) + MAC_BYTES;
    let tags = chunks(bytes).saturating_mul(TAG_BYTES as u64);
    bytes.saturating_add(tags).saturating_add(header + NONCE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_known_before_anything_is_encrypted() {
        // As `age -r` of one recipient writes them.
        for (plain, sealed) in [(0, 200), (1, 201), (65_536, 65_736), (65_537, 65_753)] {
            assert_eq!(sealed_bytes(plain, 1), sealed, "{plain}");
        }
        assert_eq!(sealed_bytes(0, 2) - sealed_bytes(0, 1), 98);
        assert_eq!(sealed_bytes(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn chunks_are_numbered_and_the_last_is_marked() {
        assert_eq!(chunk_nonce(0, false), [0; 12]);
        assert_eq!(chunk_nonce(258, true), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1]);
        assert_eq!([0, 1, 65_536, 65_537].map(chunks), [1, 1, 1, 2]);
    }
}
