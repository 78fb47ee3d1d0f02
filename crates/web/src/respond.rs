//! Answering with a representation: validators, ranges, streaming. Every byte that a package client gets goes
//! through [`Representation::send`].

pub mod memo;
mod range;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use airlock_core::id::Digest;
use airlock_engine::error::Error;
use airlock_store::Verified;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::problem::Problem;
use range::{Ranged, ranged};

/// What is shorter is read at once: a trip through the blocking pool costs more than the read.
const INLINE_BYTES_MAX: u64 = 256 << 10;
/// Longer files go out in pieces of this many bytes; small pieces cost twenty times as much.
const PIECE_BYTES: u64 = 1 << 20;

/// The server runs.
pub async fn health() -> Response {
    plain(StatusCode::OK, "ok\n")
}

/// The server can answer: its database does.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.view.channel_names().await {
        Ok(_) => plain(StatusCode::OK, "ok\n"),
        Err(error) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, &error.message).into_response(),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

/// Where the bytes are.
#[derive(Debug)]
pub enum Content {
    /// Rendered.
    Bytes(Bytes),
    /// In the store, verified.
    File(Verified),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size(),
        }
    }
}

/// For how long a client or cache may use an answer without asking again.
#[derive(Clone, Copy, Debug)]
pub enum Freshness {
    /// An index: new ones should be seen soon, and asking again costs next to nothing.
    Index,
    /// Named by its hash, and it names nothing that is not checked when it is fetched.
    Immutable,
    /// An artifact: it never changes, but it may be denied, and no cache on the way shall serve it then.
    Asked,
}

impl Freshness {
    const fn cache_control(self) -> &'static str {
        match self {
            Self::Index => "public, max-age=60",
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Asked => "public, no-cache",
        }
    }
}

/// One representation of a resource.
#[derive(Debug)]
pub struct Representation {
    content: Content,
    etag: String,
    content_type: &'static str,
    freshness: Freshness,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Representation {
    /// A file of the store; its hash is its validator.
    pub fn file(file: Verified, content_type: &'static str, freshness: Freshness) -> Self {
        let etag = file.digest().to_string();
        Self { content: Content::File(file), etag, content_type, freshness, headers: Vec::new() }
    }

    /// Rendered bytes and their hash, which is their validator.
    pub fn bytes(bytes: Bytes, hash: Digest, content_type: &'static str, freshness: Freshness) -> Self {
        let (content, etag) = (Content::Bytes(bytes), hash.to_string());
        Self { content, etag, content_type, freshness, headers: Vec::new() }
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Tells this representation from another of the same bytes.
    pub fn variant(mut self, name: &str) -> Self {
        self.etag = format!("{}-{name}", self.etag);
        self
    }

    /// Answers a request by RFC 9110, sections 13 and 14.
    pub async fn send(self, method: &Method, headers: &HeaderMap) -> Result<Response, Problem> {
        let etag = format!("\"{}\"", self.etag);
        if headers.contains_key(IF_MATCH) && !lists(headers, &IF_MATCH, |tag| tag == etag) {
            return Err(Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "the file is not the one that If-Match names",
            ));
        }
        // There is no Last-Modified, so that If-Modified-Since never holds.
        if lists(headers, &IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag) {
            let mut response = self.head(StatusCode::NOT_MODIFIED, &etag);
            response.headers_mut().remove(CONTENT_TYPE);
            return Ok(response);
        }
        let len = self.content.len();
        let (status, part) = match ranged(method, headers, &etag, len) {
            Ranged::Whole => (StatusCode::OK, 0..len),
            Ranged::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            Ranged::Unsatisfiable => {
                let detail = format!("the range begins behind the end; there are {len} bytes");
                let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, &detail);
                return Err(problem.header(CONTENT_RANGE, format!("bytes */{len}")).header(ETAG, etag));
            }
        };
        let mut response = self.head(status, &etag);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1));
            insert(response.headers_mut(), CONTENT_RANGE, &range);
        }
        if *method != Method::HEAD {
            *response.body_mut() = self.content.body(part)?;
        }
        Ok(response)
    }

    /// Status and headers that do not depend on the range.
    fn head(&self, status: StatusCode, etag: &str) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        insert(headers, ETAG, etag);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.freshness.cache_control()));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        response
    }
}

/// Sets a header to text that is made of hexadecimal digits, numbers and our own words.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether a header that lists entity tags holds one that fits, or `*`. Bytes that are no text fit nothing.
fn lists(headers: &HeaderMap, name: &HeaderName, fits: impl Fn(&str) -> bool) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    // Our tags hold no comma, so that a foreign one may be torn apart.
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|tag| tag == "*" || fits(tag))
}

impl Content {
    fn body(self, part: Range<u64>) -> Result<Body, Problem> {
        match self {
            Self::Bytes(bytes) => {
                let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Body::from(bytes.slice(bound(part.start)..bound(part.end))))
            }
            Self::File(file) => {
                let failed = |e: io::Error| {
                    let message = format!("the file of sha256 {} cannot be read: {e}", file.digest());
                    Problem::from(
                        Error::fault(message)
                            .hint("restore the blobs from a backup, or sync the channel again"),
                    )
                };
                file_body(&file, part).map_err(failed)
            }
        }
    }
}

fn file_body(file: &Verified, part: Range<u64>) -> io::Result<Body> {
    let mut reader = File::open(file.path())?;
    if part.start > 0 {
        reader.seek(SeekFrom::Start(part.start))?;
    }
    let len = part.end - part.start;
    if len < INLINE_BYTES_MAX {
        return Ok(Body::from(read_piece(&mut reader, len)?));
    }
    // Errors of reading cut the answer off, and the client sees that it is shorter than announced.
    Ok(Body::from_stream(futures_util::stream::try_unfold((reader, len), |(mut reader, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let n = left.min(PIECE_BYTES);
        let read = move || read_piece(&mut reader, n).map(|piece| Some((piece, (reader, left - n))));
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    })))
}

fn read_piece(reader: &mut File, len: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    reader.read_exact(&mut piece)?;
    Ok(Bytes::from(piece))
}
