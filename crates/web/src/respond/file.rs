//! Bytes of files on their way out.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airlock_store::Verified;
use axum::body::{Body, Bytes};

/// What is shorter is read at once: a trip through the blocking pool costs more than the read.
pub(crate) const INLINE_BYTES_MAX: u64 = 256 << 10;
/// Longer files go out in pieces of this many bytes; small pieces cost twenty times as much.
const PIECE_BYTES_MAX: u64 = 1 << 20;
/// With very many readers at once, pieces get smaller, down to this many bytes.
const PIECE_BYTES_MIN: u64 = 64 << 10;
/// All pieces that are in memory for readers have about this many bytes.
const PIECES_BYTES: u64 = 64 << 20;

/// How many answers are on their way out of files.
#[derive(Default)]
pub(crate) struct Streams {
    open: AtomicU64,
}

/// One of them.
struct Open(Arc<Streams>);

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }

    fn piece_bytes(&self) -> u64 {
        let open = self.0.open.load(Ordering::Relaxed).max(1);
        (PIECES_BYTES / open).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A piece, which counts as long as it is in memory.
struct Piece(Vec<u8>, #[expect(dead_code, reason = "it counts until it is dropped")] Open);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A part of a file.
pub(super) fn body(streams: &Arc<Streams>, file: &Verified, part: Range<u64>) -> io::Result<Body> {
    let mut reader = File::open(file.path())?;
    if part.start > 0 {
        reader.seek(SeekFrom::Start(part.start))?;
    }
    let open = Open::new(streams);
    let len = part.end - part.start;
    if len <= INLINE_BYTES_MAX.min(open.piece_bytes()) {
        return Ok(Body::from(Bytes::from_owner(Piece(read(&mut reader, len)?, open))));
    }
    // Errors of reading cut the answer off, and the client sees that it is shorter than announced.
    let pieces =
        futures_util::stream::try_unfold((reader, len, open), |(mut reader, left, open)| async move {
            if left == 0 {
                return Ok(None);
            }
            let n = left.min(open.piece_bytes());
            let next = move || {
                read(&mut reader, n).map(|piece| Some((Bytes::from(piece), (reader, left - n, open))))
            };
            tokio::task::spawn_blocking(next).await.map_err(io::Error::other)?
        });
    Ok(Body::from_stream(pieces))
}

/// A whole file, to be held.
pub(crate) fn whole(file: &Verified) -> io::Result<Bytes> {
    let mut reader = File::open(file.path())?;
    Ok(Bytes::from(read(&mut reader, file.size())?))
}

/// Into room that is not cleared before: that would take as long as the reading.
fn read(reader: &mut File, len: u64) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    let read = reader.take(len).read_to_end(&mut piece)?;
    if (read as u64) < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_readers_get_smaller_pieces_so_that_memory_stays_flat() {
        let streams = Arc::default();
        let mut open = vec![Open::new(&streams)];
        assert_eq!(open[0].piece_bytes(), PIECE_BYTES_MAX);
        for _ in 0..5000 {
            open.push(Open::new(&streams));
            let pieces = open.len() as u64 * open[0].piece_bytes();
            assert!(pieces <= PIECES_BYTES.max(open.len() as u64 * PIECE_BYTES_MIN));
        }
        assert_eq!(open[0].piece_bytes(), PIECE_BYTES_MIN);
        open.truncate(1);
        assert_eq!(open[0].piece_bytes(), PIECE_BYTES_MAX);
    }
}
