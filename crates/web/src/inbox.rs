//! `airlock receive` over HTTP: bundles that are put, and nothing else.
//!
//! ```text
//!   PUT BASE/<sha256 of AIRLOCK.json>/<path of the bundle>   with Content-Length, without any coding
//! ```
//!
//! Whoever reaches this address may be an enemy: what is no such PUT gets a few words and the end of its connection; heads,
//! bodies, connections and the time that all of them take have limits; and nothing can be read but what is missing, by whoever
//! shows the signatures of the bundle.

use std::convert::Infallible;
use std::future::poll_fn;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use airlock_engine::error::{Error, Result};
use airlock_engine::oneway::inbox::{Answer, Begun, Inbox, Refusal, Target, Why};
use axum::body::{Body, Bytes};
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, HeaderName,
    TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of the head of a request, the address included.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes that are read from a connection at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Pieces, in which they come, that are written at once.
const WRITE_PIECES: usize = 512;
/// Bytes of a body that are read so that whoever is refused hears why.
const REFUSED_BYTES_MAX: u64 = 1 << 20;
/// How long that may take.
const REFUSED_MAX: Duration = Duration::from_secs(2);
/// How long the listener rests when the system gives it no connection.
const REST: Duration = Duration::from_millis(50);

/// What senders may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. One more is closed at once.
    pub connections: usize,
    /// How long a connection may be idle, the head of a request or a handshake take.
    pub head: Duration,
    /// Over this time it is looked whether a body comes on.
    pub speed_over: Duration,
    /// How many bytes of a body come in that time at least.
    pub speed_bytes: u64,
    /// How long requests that are under way may take after the signal to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(30),
            speed_over: Duration::from_secs(30),
            speed_bytes: 30 << 10,
            grace: Duration::from_secs(5),
        }
    }
}

/// Where bundles are put to.
pub struct Site {
    inbox: Arc<Inbox>,
    /// What stands before the hash in each address: `/`, or `/path/`.
    base: String,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Site {
    /// Receives into `inbox` what is put below `base`, which begins and ends with a slash.
    pub fn new(inbox: Arc<Inbox>, base: String, limits: Limits) -> Self {
        Self { inbox, base, tls: None, limits }
    }

    /// With TLS, by a certificate with its chain and a key in PEM files.
    pub fn with_tls(self, certificate: &Path, key: &Path) -> Result<Self> {
        let bad = |path: &Path, e: String| {
            Error::usage(format!("{}: {e}", path.display()))
                .hint("give a certificate with its chain and its key, each as a PEM file")
        };
        let chain: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|e| bad(certificate, e.to_string()))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
        let config = config.map_err(|e| bad(certificate, e.to_string()))?;
        Ok(Self { tls: Some(TlsAcceptor::from(Arc::new(config))), ..self })
    }
}

/// Receives until `stop` is over, and lets requests that are under way come to their end within a time.
pub async fn receive(listener: TcpListener, site: Arc<Site>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(site.limits.connections));
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let accepting = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(REST).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (site, stopped) = (site.clone(), stopped.clone());
            tokio::spawn(async move {
                converse(stream, site, stopped).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    // Nobody listens where there is no connection.
    let _ = stopping.send(true);
    let all = u32::try_from(site.limits.connections).unwrap_or(u32::MAX);
    let _late = timeout(site.limits.grace, places.acquire_many(all)).await;
}

async fn converse(stream: TcpStream, site: Arc<Site>, stopped: tokio::sync::watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    match &site.tls {
        None => speak(stream, site, stopped).await,
        Some(tls) => {
            let limit = site.limits.head;
            // What went wrong on a connection is between the sender and the network.
            if let Ok(Ok(stream)) = timeout(limit, tls.accept(stream)).await {
                speak(stream, site, stopped).await;
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    site: Arc<Site>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let limit = site.limits.head;
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(READ_BYTES)
        .max_header_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|is| *is) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// What is said of a PUT.
struct Word {
    status: StatusCode,
    text: String,
}

impl Word {
    fn new(status: StatusCode, text: &str) -> Self {
        Self { status, text: format!("{text}\n") }
    }
}

impl From<Refusal> for Word {
    /// Names of this side are told to nobody outside.
    fn from(refusal: Refusal) -> Self {
        let (status, text) = match refusal.why {
            Why::Unknown => {
                (StatusCode::CONFLICT, "put AIRLOCK.json, ROOT.json if there is one, and AIRLOCK.sig first")
            }
            Why::Busy => (StatusCode::CONFLICT, "another connection is sending this at the moment"),
            Why::Range => (StatusCode::CONFLICT, "what is here does not end where this begins"),
            Why::NotListed => (StatusCode::NOT_FOUND, "the manifest does not list this file"),
            Why::Length => {
                (StatusCode::UNPROCESSABLE_ENTITY, "it is not as long as was announced or the manifest says")
            }
            Why::Hash => (StatusCode::UNPROCESSABLE_ENTITY, "its SHA-256 is not the one that was announced"),
            Why::Large => (StatusCode::PAYLOAD_TOO_LARGE, "it is larger than may be"),
            Why::Full => (StatusCode::INSUFFICIENT_STORAGE, "there is no room for this"),
            Why::Untrusted => (StatusCode::FORBIDDEN, "this bundle is not taken in here"),
            Why::Fault => (StatusCode::INTERNAL_SERVER_ERROR, "something is wrong on this side"),
        };
        Self::new(status, text)
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        let is_asked = head.headers.contains_key(EXPECT);
        let word = match self.taken(
            &head.method,
            head.uri.path_and_query().map_or("", |p| p.as_str()),
            &head.headers,
        ) {
            Ok((target, length, part)) => {
                let bundle = target.bundle;
                match self.inbox.begin(target, length, part).await {
                    Ok(Begun::Here) => self.passed_over(&mut body).await,
                    Ok(Begun::Write(writing)) => self.written(writing, &mut body, bundle).await,
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Err(word) => Err(word),
        };
        let is_refused = word.is_err();
        let (Ok(word) | Err(word)) = word;
        let mut response = Response::new(Body::from(word.text));
        *response.status_mut() = word.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if word.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("PUT"));
        }
        // Who asked before sending it sends nothing any more.
        if is_refused && !is_asked {
            // A little of what still comes is read: else the system would take the answer back.
            let _ = timeout(REFUSED_MAX, drained(&mut body, REFUSED_BYTES_MAX)).await;
            if !body.is_end_stream() {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }

    /// What a PUT is of, how long it is, and which part of it.
    #[expect(clippy::type_complexity, reason = "three answers of one look at a head")]
    fn taken(
        &self,
        method: &Method,
        address: &str,
        headers: &HeaderMap,
    ) -> std::result::Result<(Target, u64, Option<(Range<u64>, u64)>), Word> {
        if method != Method::PUT {
            return Err(Word::new(StatusCode::METHOD_NOT_ALLOWED, "only PUT"));
        }
        let target = address.strip_prefix(&self.base).and_then(Target::parse);
        let target = target.ok_or_else(|| Word::new(StatusCode::NOT_FOUND, "no such place"))?;
        if headers.contains_key(TRANSFER_ENCODING) || !headers.contains_key(CONTENT_LENGTH) {
            return Err(Word::new(StatusCode::LENGTH_REQUIRED, "say how long it is, by Content-Length"));
        }
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(Word::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "files come as they are, without a coding",
            ));
        }
        let length = text(headers, &CONTENT_LENGTH).and_then(|n| n.parse().ok());
        let length =
            length.ok_or_else(|| Word::new(StatusCode::BAD_REQUEST, "Content-Length is no number"))?;
        let Some(range) = headers.get(CONTENT_RANGE) else { return Ok((target, length, None)) };
        let part = range.to_str().ok().and_then(content_range);
        let part = part.ok_or_else(|| Word::new(StatusCode::BAD_REQUEST, "Content-Range makes no sense"))?;
        Ok((target, length, Some(part)))
    }

    async fn written(
        &self,
        mut writing: airlock_engine::oneway::inbox::Writing,
        body: &mut Incoming,
        bundle: airlock_core::id::Digest,
    ) -> std::result::Result<Word, Word> {
        let mut pace = Pace::new(self.limits);
        loop {
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            while bytes < WRITE_BYTES
                && pieces.len() < WRITE_PIECES
                && let Some(piece) = pace.next(body).await?
            {
                bytes += piece.len();
                pieces.push(piece);
            }
            if pieces.is_empty() {
                break;
            }
            writing = writing.write(pieces).await?;
        }
        Ok(match writing.finish().await? {
            Answer::Stored => Word::new(StatusCode::CREATED, "stored"),
            Answer::Delivered => Word::new(StatusCode::CREATED, &format!("delivered {bundle}")),
            Answer::Wanted(list) => Word { status: StatusCode::ACCEPTED, text: list },
        })
    }

    /// Reads what is here already, for whoever does not look at answers before the end.
    async fn passed_over(&self, body: &mut Incoming) -> std::result::Result<Word, Word> {
        let mut pace = Pace::new(self.limits);
        while pace.next(body).await?.is_some() {}
        Ok(Word::new(StatusCode::OK, "here"))
    }
}

/// Sees to it that a body comes on.
struct Pace {
    limits: Limits,
    until: Instant,
    bytes: u64,
}

impl Pace {
    fn new(limits: Limits) -> Self {
        Self { limits, until: Instant::now() + limits.speed_over, bytes: 0 }
    }

    async fn next(&mut self, body: &mut Incoming) -> std::result::Result<Option<Bytes>, Word> {
        loop {
            if Instant::now() >= self.until {
                if self.bytes < self.limits.speed_bytes {
                    return Err(Word::new(StatusCode::REQUEST_TIMEOUT, "it comes too slowly"));
                }
                (self.until, self.bytes) = (Instant::now() + self.limits.speed_over, 0);
            }
            match timeout_at(self.until, piece(body)).await {
                Ok(Ok(Some(bytes))) => {
                    self.bytes += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(_)) => return Err(Word::new(StatusCode::BAD_REQUEST, "it broke off")),
                Err(_) => {}
            }
        }
    }
}

/// The next bytes of a body.
async fn piece(body: &mut Incoming) -> std::result::Result<Option<Bytes>, hyper::Error> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(e)) => return Err(e),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

async fn drained(body: &mut Incoming, most: u64) {
    let mut bytes = 0;
    while bytes < most
        && let Ok(Some(piece)) = piece(body).await
    {
        bytes += piece.len() as u64;
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let (first, end, total) = (number(first)?, number(last)?.checked_add(1)?, number(total)?);
    (first < end && end <= total).then_some((first..end, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_or_makes_no_sense() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5..10, 10)));
        assert_eq!(content_range("bytes 0-0/1"), Some((0..1, 1)));
        for bad in [
            "",
            "bytes",
            "bytes 5-9/*",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "items 5-9/10",
            "bytes +5-9/10",
            "bytes 5-18446744073709551615/18446744073709551615",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
