//! A socket that notes on its connection what it does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::Connection;

/// Bytes that are handed to the system at once: what is copied stays in the processor's cache until the other
/// side reads it, and other connections get their turn.
const WRITE_BYTES_MAX: usize = 256 << 10;

pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Watched {
    pub fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.connection.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.connection.blocked(),
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if into.filled().len() > before {
            self.connection.read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = bytes.get(..WRITE_BYTES_MAX).unwrap_or(bytes);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut left = WRITE_BYTES_MAX;
        let mut fitting = 0;
        for slice in slices {
            if slice.len() > left {
                break;
            }
            left -= slice.len();
            fitting += 1;
        }
        let written = match (slices.get(..fitting), slices.get(fitting)) {
            // Head and beginning of a large body go together; then the body alone goes in parts.
            (Some([head]), Some(body)) => {
                let part = body.get(..left).unwrap_or(body);
                Pin::new(&mut self.stream).poll_write_vectored(cx, &[*head, IoSlice::new(part)])
            }
            (Some([]), Some(large)) => {
                let part = large.get(..WRITE_BYTES_MAX).unwrap_or(large);
                Pin::new(&mut self.stream).poll_write(cx, part)
            }
            (some, _) => Pin::new(&mut self.stream).poll_write_vectored(cx, some.unwrap_or_default()),
        };
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
