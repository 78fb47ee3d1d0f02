//! Answering with a representation: validators, ranges, streaming. Every byte that a package client gets goes
//! through [`Representation::send`].

mod file;
mod note;
mod range;

use std::ops::Range;
use std::sync::Arc;

use airlock_core::id::Digest;
use airlock_engine::downloads::Served;
use airlock_engine::error::Error;
use airlock_store::Verified;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::app::blocking;
use crate::problem::Problem;
use crate::server::Peer;
use file::INLINE_BYTES_MAX;
pub(crate) use file::Streams;
use range::{Ranged, ranged};

/// Larger indexes, in bytes, are not held in memory while many ask for them.
const INDEX_HELD_BYTES_MAX: u64 = 64 << 20;

/// The server runs.
pub async fn health() -> Response {
    plain(StatusCode::OK, "ok\n")
}

/// The server can answer: its database does.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.view.check().await {
        Ok(()) => plain(StatusCode::OK, "ok\n"),
        Err(error) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, &error.message).into_response(),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

/// Answers with a representation that was concluded from the refs of this generation, and keeps it ready for
/// whoever asks next.
pub async fn answer(
    app: &App,
    parts: &Parts,
    generation: u64,
    found: Representation,
) -> Result<Response, Problem> {
    let found = Arc::new(found.held(app, &parts.method).await?);
    app.hot.put(generation, &parts.uri, &parts.headers, found.clone());
    let peer = parts.extensions.get::<Peer>().copied();
    found.send(app, Asked { method: &parts.method, headers: &parts.headers, peer })
}

/// What an answer depends on beside what is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Where it came from, if that is known.
    pub peer: Option<Peer>,
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
    freshness: Freshness,
    headers: HeaderMap,
    /// What the download log is told of it.
    served: Option<Arc<Served>>,
}

impl Representation {
    /// A file of the store; its hash is its validator.
    pub fn file(file: Verified, content_type: &'static str, freshness: Freshness) -> Self {
        let hash = file.digest();
        Self::new(Content::File(file), hash, content_type, freshness)
    }

    /// Rendered bytes and their hash, which is their validator.
    pub fn bytes(bytes: Bytes, hash: Digest, content_type: &'static str, freshness: Freshness) -> Self {
        Self::new(Content::Bytes(bytes), hash, content_type, freshness)
    }

    fn new(content: Content, hash: Digest, content_type: &'static str, freshness: Freshness) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(freshness.cache_control()));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let mut new = Self { content, etag: String::new(), freshness, headers, served: None };
        new.tag(hash.to_string());
        new
    }

    fn tag(&mut self, text: String) {
        self.etag = format!("\"{text}\"");
        insert(&mut self.headers, ETAG, &self.etag);
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Says which artifact of a channel this is, for the download log.
    pub fn artifact(mut self, channel: &str, artifact: String) -> Self {
        if let Content::File(file) = &self.content {
            let (channel, sha256) = (channel.to_owned(), file.digest());
            self.served = Some(Arc::new(Served { channel, artifact, sha256 }));
        }
        self
    }

    /// Tells this representation from another of the same bytes.
    pub fn variant(mut self, name: &str) -> Self {
        let tag = format!("{}-{name}", self.etag.trim_matches('"'));
        self.tag(tag);
        self
    }

    /// How many bytes it keeps in memory.
    pub fn bytes_held(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => bytes.len(),
            Content::File(_) => 0,
        }
    }

    /// The same with its bytes in memory, if they are few.
    async fn held(mut self, app: &App, method: &Method) -> Result<Self, Problem> {
        if let (Content::File(file), &Method::GET) = (&self.content, method) {
            if file.size() <= INLINE_BYTES_MAX {
                self.content = Content::Bytes(file::whole(file).map_err(|e| unreadable(file, &e))?);
            } else if matches!(self.freshness, Freshness::Index) && file.size() <= INDEX_HELD_BYTES_MAX {
                let (digest, file) = (file.digest(), file.clone());
                let read = async move {
                    let bytes = blocking("an index", move || file::whole(&file)).await?;
                    let len = bytes.len();
                    Ok((bytes, len))
                };
                self.content = Content::Bytes(app.indexes.get(digest, read).await?);
            }
        }
        Ok(self)
    }

    /// Answers a request by RFC 9110, sections 13 and 14.
    pub fn send(&self, app: &App, asked: Asked<'_>) -> Result<Response, Problem> {
        let Asked { method, headers, .. } = asked;
        let etag = self.etag.as_str();
        if headers.contains_key(IF_MATCH) && !lists(headers, &IF_MATCH, |tag| tag == etag) {
            return Err(Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "the file is not the one that If-Match names",
            ));
        }
        // There is no Last-Modified, so that If-Modified-Since never holds.
        if lists(headers, &IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag) {
            let mut response = self.head(StatusCode::NOT_MODIFIED);
            response.headers_mut().remove(CONTENT_TYPE);
            return Ok(response);
        }
        let len = self.content.len();
        let (status, part) = match ranged(method, headers, etag, len) {
            Ranged::Whole => (StatusCode::OK, 0..len),
            Ranged::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            Ranged::Unsatisfiable => {
                let detail = format!("the range begins behind the end; there are {len} bytes");
                let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, &detail);
                return Err(problem
                    .header(CONTENT_RANGE, format!("bytes */{len}"))
                    .header(ETAG, etag.to_owned()));
            }
        };
        let mut response = self.head(status);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1));
            insert(response.headers_mut(), CONTENT_RANGE, &range);
        }
        if *method != Method::HEAD {
            *response.body_mut() = self.content.body(app, part)?;
            // Any part: whoever leaves out a byte that can be guessed has the file all the same.
            if let Some(served) = &self.served {
                note::note(app, served, asked);
            }
        }
        Ok(response)
    }

    /// Status and headers that do not depend on the range.
    fn head(&self, status: StatusCode) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.headers_mut() = self.headers.clone();
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

fn unreadable(file: &Verified, error: &std::io::Error) -> Problem {
    let message = format!("the file of sha256 {} cannot be read: {error}", file.digest());
    Error::fault(message).hint("restore the blobs from a backup, or sync the channel again").into()
}

impl Content {
    fn body(&self, app: &App, part: Range<u64>) -> Result<Body, Problem> {
        match self {
            Self::Bytes(bytes) => {
                let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Body::from(bytes.slice(bound(part.start)..bound(part.end))))
            }
            Self::File(file) => file::body(&app.streams, file, part).map_err(|e| unreadable(file, &e)),
        }
    }
}
