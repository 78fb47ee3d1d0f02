//! A file that is served well over a bad link.

use std::time::Duration;

use super::{Act, Request, head};

/// A file with a strong tag, served with ranges, and the faults of its link.
#[derive(Clone, Debug)]
pub struct Ranged {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its `ETag`, quotes included; none if empty.
    pub etag: String,
    /// Each connection brings so many bytes of it at most, and then breaks.
    pub cut: usize,
    /// Bytes per second; 0 is as fast as it goes.
    pub rate: u64,
}

impl Ranged {
    /// A file whose link is good.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, etag: "\"v1\"".to_owned(), cut: usize::MAX, rate: 0 }
    }

    /// What the server does with a request.
    pub fn answer(&self, request: &Request) -> Vec<Act> {
        let total = self.bytes.len();
        let fits = request.header("if-range").is_none_or(|tag| tag == self.etag);
        let from =
            request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.filter(|_| fits).unwrap_or(0);
        let tag = format!("etag: {}", self.etag);
        let mut lines = vec!["accept-ranges: bytes"];
        if !self.etag.is_empty() {
            lines.push(&tag);
        }
        if from >= total && total > 0 {
            let range = format!("content-range: bytes */{total}");
            return vec![
                Act::Send(head("416 Range Not Satisfiable", &[], &[&range, "content-length: 0"])),
                Act::Next,
            ];
        }
        let range = format!("content-range: bytes {from}-{}/{total}", total - 1);
        let length = format!("content-length: {}", total - from);
        lines.push(&length);
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        if from > 0 {
            lines.push(&range);
        }
        let to = total.min(from.saturating_add(self.cut));
        let mut acts = vec![Act::Send(head(status, &[], &lines))];
        acts.extend(self.paced(&self.bytes[from..to]));
        if to == total {
            acts.push(Act::Next);
        }
        acts
    }

    /// Bytes at the link's rate, in pieces of a twentieth of a second.
    fn paced(&self, bytes: &[u8]) -> Vec<Act> {
        if self.rate == 0 {
            return vec![Act::Send(bytes.to_vec())];
        }
        let piece = usize::try_from(self.rate / 20).unwrap().max(1);
        let pause = |chunk: &[u8]| [Act::Send(chunk.to_vec()), Act::Pause(Duration::from_millis(50))];
        bytes.chunks(piece).flat_map(pause).collect()
    }
}
