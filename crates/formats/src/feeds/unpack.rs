//! A feed's bytes, unpacked within limits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use crate::limits;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Unpacks gzip and zstd, known by their first bytes; anything else passes as it is.
///
/// Reading fails when more than `most` bytes come out, or more than [`limits::RATIO_MAX`] times what went in.
/// Never ends silently before the end.
pub fn unpack<'a>(packed: impl Read + 'a, most: u64) -> io::Result<Box<dyn BufRead + 'a>> {
    let read = Rc::new(Cell::new(0));
    let mut packed =
        BufReader::with_capacity(BUFFER_BYTES, Counted { inner: packed, count: Rc::clone(&read) });
    let start = packed.fill_buf()?;
    let unpacked: Box<dyn Read + 'a> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(27)?;
        Box::new(decoder)
    } else {
        Box::new(packed)
    };
    let limited = Limited { inner: unpacked, packed: read, unpacked: 0, most };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, limited)))
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

struct Limited<R> {
    inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    most: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.unpacked += n as u64;
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if self.unpacked > self.most {
            return refuse(format!("it is larger than {} bytes unpacked", self.most));
        }
        if self.unpacked > limits::RATIO_FREE_BYTES
            && self.unpacked / self.packed.get().max(1) > limits::RATIO_MAX
        {
            return refuse(format!("it unpacks to more than {} times its size", limits::RATIO_MAX));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn read(packed: &[u8], most: u64) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut reader = unpack(packed, most).map_err(|e| e.to_string())?;
        io::copy(&mut reader, &mut out).map_err(|e| e.to_string())?;
        Ok(out)
    }

    #[test]
    fn plain_gzip_and_zstd_are_told_apart_by_their_first_bytes() {
        let text = b"{\"id\":\"A-1\"}\n".repeat(1000);
        let zstd = zstd::bulk::compress(&text, 3).unwrap();
        let twice = [gzip(&text[..13]), gzip(&text[13..])].concat();
        for packed in [text.clone(), gzip(&text), zstd.clone(), twice] {
            assert_eq!(read(&packed, 1 << 20).unwrap(), text);
        }
        assert_eq!(read(b"", 10).unwrap(), b"");
        // What was cut short is an error, never a shorter feed.
        assert!(read(&zstd[..zstd.len() - 5], 1 << 20).is_err());
        assert!(read(&gzip(&text)[..50], 1 << 20).is_err());
    }

    #[test]
    fn more_than_allowed_is_refused_and_never_cut() {
        assert!(read(b"12345", 5).is_ok());
        assert!(read(b"123456", 5).unwrap_err().contains("larger than 5 bytes"));
        assert!(read(&gzip(b"123456"), 5).unwrap_err().contains("larger than 5 bytes"));
    }

    #[test]
    fn a_bomb_is_refused_by_its_ratio() {
        let zeros = vec![0; (limits::RATIO_FREE_BYTES + (1 << 20)) as usize];
        for bomb in [gzip(&zeros), zstd::bulk::compress(&zeros, 3).unwrap()] {
            assert!(read(&bomb, u64::MAX).unwrap_err().contains("times its size"));
        }
    }
}
