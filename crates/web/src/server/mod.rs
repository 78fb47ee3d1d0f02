//! Connections: how many there are, how long they may take, and how they end.
//!
//! HTTP/1 is spoken by `hyper`. Around it stands what a server needs that anybody may reach: a limit on
//! connections, on the time that a request's head may take, on idleness, and a least speed for whoever is
//! sent something. Timers would cost more than most requests; so connections only note what they do, and one
//! task looks at all of them now and then.

mod body;
mod connection;
mod io;
mod refuse;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{BoxFuture, Either, FutureExt as _, Ready, ready};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::respond::Asked;
use crate::{App, TIDY, router};
use body::Counted;
use connection::{Busy, Connection, Connections};
use io::Watched;

/// Connections at the same time. One more takes the place of the one that has been idle for longest.
const CONNECTIONS_MAX: usize = 4096;
/// Descriptors that are kept for the database, for files of the store and for what starts meanwhile.
const DESCRIPTORS_KEPT: usize = 256;
/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(15);
/// Bytes of the head of a request, the address included.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long a connection may be idle.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Over this time it is looked whether a client takes what it asked for.
const SPEED_OVER: Duration = Duration::from_secs(30);
/// How many bytes a client takes in a second at least.
const SPEED_BYTES_MIN: u64 = 1 << 10;
/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the listener rests when the system gives it no connection.
const REST: Duration = Duration::from_millis(50);
/// How often it is looked whether the last request is answered when the server stops.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// What clients may take of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// Over this time it is looked whether a client takes what it asked for.
    pub speed_over: Duration,
    /// How many bytes a client takes in a second at least.
    pub speed_bytes: u64,
    /// How often connections are looked at.
    pub look: Duration,
    /// How long requests that are under way may take after the signal to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            head: HEAD_MAX,
            idle: IDLE_MAX,
            speed_over: SPEED_OVER,
            speed_bytes: SPEED_BYTES_MIN,
            look: LOOK,
            grace: Duration::from_secs(5),
        }
    }
}

/// Everything that is served.
pub struct Site {
    app: Arc<App>,
    router: Router,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Site {
    /// Serves what `app` has.
    pub fn new(app: App) -> Self {
        let app = Arc::new(app);
        Self { router: router(app.clone()), app }
    }

    /// An answer that can be given at once: a refusal, or what was asked for a moment ago too.
    fn at_once<B>(&self, request: &Request<B>, peer: Option<Peer>) -> Option<Response> {
        if let Some(refused) = refuse::malformed(request) {
            return Some(refused);
        }
        let (method, headers) = (request.method(), request.headers());
        let found = self.app.hot.find(&self.app.view, method, request.uri(), headers)?;
        let sent = found.send(&self.app, Asked { method, headers, peer });
        Some(sent.unwrap_or_else(|problem| problem.into_response()))
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        match self.at_once(&request, None) {
            Some(response) => response,
            None => self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
        }
    }
}

/// Serves until `stop` is over, and lets requests that are under way come to their end within a time.
pub async fn serve(listener: TcpListener, site: Arc<Site>, limits: Limits, stop: impl Future<Output = ()>) {
    let limits = Limits { connections: limits.connections.min(room()), ..limits };
    let connections = Arc::new(Connections::new(limits));
    let looking = tokio::spawn(look(connections.clone()));
    let tidying = tokio::spawn(tidy(site.clone()));
    tokio::select! {
        () = accept(&listener, &site, &connections) => {}
        () = stop => {}
    }
    drop(listener);
    let end = async {
        while connections.stop() > 0 {
            tokio::time::sleep(LAST_LOOK).await;
        }
    };
    let _late = tokio::time::timeout(limits.grace, end).await;
    connections.abort();
    looking.abort();
    tidying.abort();
}

async fn look(connections: Arc<Connections>) {
    let mut interval = tokio::time::interval(connections.limits().look);
    loop {
        interval.tick().await;
        connections.look();
    }
}

async fn tidy(site: Arc<Site>) {
    loop {
        tokio::time::sleep(TIDY).await;
        site.app.tidy();
    }
}

/// Connections for which there are descriptors: one for each, and one for the file it is sent.
fn room() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What the system gives by default is too little for a server; up to `maximum` it is ours to take.
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let descriptors = descriptors.map_or(usize::MAX, |d| usize::try_from(d).unwrap_or(usize::MAX));
    (descriptors.saturating_sub(DESCRIPTORS_KEPT) / 2).max(1)
}

async fn accept(listener: &TcpListener, site: &Arc<Site>, connections: &Arc<Connections>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                // The client is gone already, or there are no descriptors left for a moment.
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Without it, a small answer would wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        if !connections.make_room() {
            refuse::busy(&stream);
            continue;
        }
        let site = site.clone();
        connections.add(|connection| converse(stream, site, connection, peer.ip()));
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>, connection: Arc<Connection>, peer: IpAddr) {
    let service = Service { site, connection: connection.clone(), peer };
    let io = TokioIo::new(Watched::new(stream, connection));
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX).header_read_timeout(None);
    // What went wrong on a connection is between the client and the network.
    let _ = http.serve_connection(io, service).await;
}

/// Answers the requests of one connection.
struct Service {
    site: Arc<Site>,
    connection: Arc<Connection>,
    peer: IpAddr,
}

type Answer = Result<axum::http::Response<Counted>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = axum::http::Response<Counted>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, BoxFuture<'static, Answer>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = self.connection.begin();
        let peer = Peer(self.peer);
        if let Some(response) = self.site.at_once(&request, Some(peer)) {
            return Either::Left(ready(Ok(counted(response, busy))));
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let router = self.site.router.clone();
        let answer = async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok(counted(response, busy))
        };
        Either::Right(answer.boxed())
    }
}

fn counted(mut response: Response, busy: Busy) -> axum::http::Response<Counted> {
    if busy.is_last() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Counted::new(body, busy))
}
