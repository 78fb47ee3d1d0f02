//! The piece: what a symbol holds that is not for repair.
//!
//! ```text
//!   at  bytes
//!    0   1   stream: 0 data, 1 document
//!    1   1   0
//!    2   2   n: bytes that it carries; the rest of the symbol is zero
//!    4   8   offset within the stream
//!   12   n   the bytes
//! ```
//!
//! It stands within what is repaired: a piece that was lost and restored says where it belongs just as one that came.

/// Bytes before those that a piece carries.
pub const PIECE_HEADER_BYTES: usize = 12;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// All files, one after another.
    Data,
    /// Manifest and signatures.
    Document,
}

/// Bytes and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The stream.
    pub stream: Stream,
    /// Where in it.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Writes the header of a piece into its symbol, and zeroes behind its bytes.
pub fn seal(symbol: &mut [u8], stream: Stream, offset: u64, length: u16) {
    let kind = if stream == Stream::Data { 0 } else { 1 };
    let Some(head) = symbol.first_chunk_mut::<PIECE_HEADER_BYTES>() else { return };
    head[..2].copy_from_slice(&[kind, 0]);
    head[2..4].copy_from_slice(&length.to_be_bytes());
    head[4..].copy_from_slice(&offset.to_be_bytes());
    if let Some(rest) = symbol.get_mut(PIECE_HEADER_BYTES + usize::from(length)..) {
        rest.fill(0);
    }
}

/// Reads a symbol; `None` for what no sender writes.
pub fn read(symbol: &[u8]) -> Option<Piece<'_>> {
    let (head, rest) = symbol.split_first_chunk::<PIECE_HEADER_BYTES>()?;
    let stream = match head[..2] {
        [0, 0] => Stream::Data,
        [1, 0] => Stream::Document,
        _ => return None,
    };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let mut offset = [0; 8];
    offset.copy_from_slice(&head[4..]);
    let offset = u64::from_be_bytes(offset);
    offset.checked_add(length as u64)?;
    Some(Piece { stream, offset, bytes: rest.get(..length)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_as_it_was_written() {
        let mut symbol = [7; 64];
        seal(&mut symbol, Stream::Document, 0x0102, 3);
        assert_eq!(symbol[..16], [1, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 7, 7, 7, 0]);
        assert_eq!(symbol[16..], [0; 48]);
        assert_eq!(
            read(&symbol),
            Some(Piece { stream: Stream::Document, offset: 0x0102, bytes: &[7, 7, 7] })
        );
    }

    #[test]
    fn what_no_sender_writes_is_no_piece() {
        let mut symbol = [0; 64];
        seal(&mut symbol, Stream::Data, 5, 52);
        assert!(read(&symbol).is_some());
        assert_eq!(read(&symbol[..63]), None);
        assert_eq!(read(&symbol[..11]), None);
        let mut other = symbol;
        other[0] = 2;
        assert_eq!(read(&other), None);
        seal(&mut symbol, Stream::Data, u64::MAX, 1);
        assert_eq!(read(&symbol), None);
    }
}
