//! The beat: what is being sent. It comes many times a second, so that whoever begins to listen in the middle knows, and at
//! the end over and over.
//!
//! ```text
//!   at  bytes
//!    0  32   transfer: SHA-256 of the manifest
//!   32   8   bytes of the document
//!   40   8   bytes of the data
//!   48   8   bytes that this session sends of the data
//!   56   1   1: this is the end, else 0
//!   57       zero
//! ```

use airlock_core::id::Digest;

/// Bytes that are not padding.
const BEAT_BYTES: usize = 57;

/// What is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// SHA-256 of the manifest.
    pub transfer: Digest,
    /// Bytes of manifest and signatures, as they travel.
    pub document: u64,
    /// Bytes of all files.
    pub data: u64,
    /// Bytes that this session sends of them.
    pub wanted: u64,
    /// Nothing comes after this.
    pub is_end: bool,
}

impl Beat {
    /// Writes it into the body of a packet.
    pub fn write(&self, body: &mut [u8]) {
        let mut out = [0; BEAT_BYTES];
        out[..32].copy_from_slice(self.transfer.as_bytes());
        out[32..40].copy_from_slice(&self.document.to_be_bytes());
        out[40..48].copy_from_slice(&self.data.to_be_bytes());
        out[48..56].copy_from_slice(&self.wanted.to_be_bytes());
        out[56] = u8::from(self.is_end);
        body.fill(0);
        if let Some(to) = body.get_mut(..BEAT_BYTES) {
            to.copy_from_slice(&out);
        }
    }

    /// Reads it; `None` for what no sender writes.
    pub fn read(body: &[u8]) -> Option<Self> {
        let bytes: &[u8; BEAT_BYTES] = body.first_chunk()?;
        let eight = |at: usize| {
            let mut out = [0; 8];
            out.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(out)
        };
        let mut transfer = [0; 32];
        transfer.copy_from_slice(&bytes[..32]);
        let is_end = match bytes[56] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let transfer = Digest::from_bytes(transfer);
        Some(Self { transfer, document: eight(32), data: eight(40), wanted: eight(48), is_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_as_it_was_written() {
        let beat = Beat { transfer: Digest::of(b"m"), document: 5, data: 1 << 40, wanted: 7, is_end: true };
        let mut body = [9; 512];
        beat.write(&mut body);
        assert_eq!(body[57..], [0; 455]);
        assert_eq!(Beat::read(&body), Some(beat));
        assert_eq!(Beat::read(&body[..56]), None);
        body[56] = 2;
        assert_eq!(Beat::read(&body), None);
    }
}
