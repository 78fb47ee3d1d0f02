//! One question and its answer, redirects included.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{NoProxy, Response, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::guard::{Guard, LeadsInside};
use super::patience::{Again, Failure, PROXY_HINT, Tried};
use super::{Client, Location, shown_host};
use crate::error::{Error, Result};
use crate::network::{Proxy, Settings};
use crate::station::{CONFIG, Station};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Header lines of an answer that are read. (Their bytes are limited by the HTTP library: 400 KiB, 16 KiB in HTTP/2.)
const HEADERS_MAX: usize = 100;

/// How an address is reached: what holds for it, and the connections under that.
#[derive(Clone)]
pub(super) struct Line {
    pub settings: Arc<Settings>,
    http: reqwest::Client,
    /// The key of an API, for addresses under its prefix alone.
    api_key: Option<HeaderValue>,
}

/// The lines that were needed so far, by the sections of the configuration that make them.
#[derive(Clone)]
pub(super) struct Lines {
    guard: Guard,
    held: Arc<Mutex<HashMap<Vec<usize>, Line>>>,
}

impl Lines {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, held: Arc::default() }
    }
}

/// An answer whose body has not been read, and what it holds on to.
pub(super) struct Reply {
    pub response: Response,
    /// Where it came from at last.
    pub url: Url,
    pub line: Line,
    /// The place at the host, until the body is read.
    _place: Option<OwnedSemaphorePermit>,
}

impl Line {
    /// The connections.
    pub(super) const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Whether a key is sent.
    pub(super) const fn has_key(&self) -> bool {
        self.api_key.is_some()
    }
}

impl Client {
    /// The line for an address.
    pub(super) fn line(&self, url: &Url) -> Result<Line> {
        let network = &self.station.config.network;
        let key = network.fitting(url);
        let mut held = self.lines.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = held.get(&key) {
            return Ok(line.clone());
        }
        let settings = network.settings(url);
        let http = connect(&self.station, &settings, self.lines.guard.clone())?;
        let api_key = settings.api_key(&self.station.dir)?.map(|key| {
            // It is told to nobody.
            let mut value = HeaderValue::from_str(&key).map_err(|_| {
                Error::usage(format!("{CONFIG}: the key of an API holds what no header may hold"))
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let line = Line { settings: Arc::new(settings), http, api_key: api_key.transpose()? };
        held.insert(key, line.clone());
        Ok(line)
    }

    /// Hands over a document and gives the head of the answer.
    pub(super) async fn post(&self, url: &Url, media: &'static str, body: String) -> Result<Response> {
        let shown = shown_host(url);
        self.reach.check(url, None).map_err(|e| e.while_(&shown))?;
        let (line, url) = (self.line(url)?, self.reach.with_credentials(url));
        let patience = line.settings.connect_timeout() + line.settings.read_timeout();
        let request = line.http.post(url).header(CONTENT_TYPE, media).body(body);
        match timeout(patience, request.send()).await {
            Ok(sent) => sent.map_err(|e| failed(&shown, &line.settings.proxy(), e).error),
            Err(_) => Err(Error::fault(format!("{shown}: no answer came within {patience:?}"))),
        }
    }

    /// Asks, follows redirects to where this station may go, and gives the answer as soon as its head is there.
    pub(super) async fn exchange(&self, start: &Url, headers: &HeaderMap) -> Tried<Reply> {
        let shown = Location::Http(start.clone()).shown();
        self.reach.check(start, None).map_err(|e| e.while_(&shown))?;
        let mut url = self.reach.with_credentials(start);
        for _ in 0..=REDIRECTS_MAX {
            let line = self.line(&url)?;
            let host = format!(
                "{}:{}",
                url.host_str().unwrap_or_default(),
                url.port_or_known_default().unwrap_or(0)
            );
            let place = self.station.traffic.place(&host, line.settings.connections_per_host()).await;
            let patience = line.settings.connect_timeout() + line.settings.read_timeout();
            let mut request = line.http.get(url.clone()).headers(headers.clone());
            if let Some(key) = &line.api_key {
                request = request.header("apiKey", key);
            }
            let sent = timeout(patience, request.send());
            let response = match sent.await {
                Ok(sent) => sent.map_err(|e| failed(&shown, &line.settings.proxy(), e))?,
                Err(_) => {
                    let text = format!("{shown}: no answer came within {patience:?}");
                    return Err(Failure::later(Error::fault(text).hint("run it again later")));
                }
            };
            let Some(next) = redirect(&shown, &response, &url)? else {
                return Ok(Reply { response, url, line, _place: place });
            };
            let refused = |e: Error| e.while_(&format!("{shown}: it redirects to where it may not lead"));
            self.reach.check(&next, Some(&url)).map_err(refused)?;
            url = self.reach.with_credentials(&next);
        }
        Err(Error::fault(format!("{shown}: it redirects more than {REDIRECTS_MAX} times"))
            .hint("check the source's address in a browser")
            .into())
    }
}

/// Where an answer redirects to, if it does.
fn redirect(shown: &str, response: &Response, url: &Url) -> Result<Option<Url>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let target = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
    match target.and_then(|t| url.join(t).ok()) {
        Some(next) => Ok(Some(next)),
        None => Err(Error::fault(format!("{shown}: it redirects to nowhere that can be read"))),
    }
}

fn connect(station: &Station, settings: &Settings, guard: Guard) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("airlock/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout())
        .http1_max_headers(HEADERS_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .dns_resolver(guard)
        .tls_certs_merge(settings.certificates(&station.dir)?);
    match settings.proxy() {
        // reqwest reads the environment by itself.
        Proxy::Environment => {}
        Proxy::Direct => builder = builder.no_proxy(),
        Proxy::Url(url) => {
            let unusable = |_| Error::usage(format!("{CONFIG}: `proxy`: it cannot be used"));
            let mut proxy = reqwest::Proxy::all(url).map_err(unusable)?;
            if let Some(auth) = settings.proxy_auth(&station.dir)? {
                // They pass through a URL, which leaves a percent sign as it is and is decoded later.
                let escaped = |text: &str| text.replace('%', "%25");
                proxy = proxy.basic_auth(&escaped(&auth.user), &escaped(&auth.password));
            }
            let exceptions = settings.no_proxy().and_then(|list| NoProxy::from_string(&list));
            builder = builder.proxy(proxy.no_proxy(exceptions));
        }
    }
    builder.build().map_err(|e| Error::fault(format!("the HTTP client cannot be made: {}", chain(&e))))
}

/// What to make of a request that got no answer.
pub(super) fn failed(shown: &str, proxy: &Proxy, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let text = chain(&error);
    let never = |what: &str, hint: &str| Failure {
        error: Error::fault(format!("{shown}: {what}")).hint(hint),
        again: Again::Never,
    };
    if let Some(inside) = cause::<LeadsInside>(&error) {
        return never(
            &inside.to_string(),
            "if this host belongs to your own network, list it by its whole name under `hosts` in airlock.toml",
        );
    }
    let says = |part: &str| text.contains(part);
    if says("invalid peer certificate") {
        let hint = "if a proxy here inspects TLS, or the source has its own authority, give its certificate as `ca_file`";
        return never(&text, hint);
    }
    if says("proxy authorization required")
        || says("SOCKS error: credentials not accepted")
        || says("SOCKS error: server does not support")
    {
        return never("the proxy wants a user and a password, and takes none or not these", PROXY_HINT);
    }
    if says("message head is too large") {
        return never("the head of its answer is larger than is allowed", "tell the upstream's operator");
    }
    let through = match proxy {
        Proxy::Url(_) => format!(" (the proxy here is {})", proxy.shown()),
        Proxy::Environment | Proxy::Direct => String::new(),
    };
    let error = Error::fault(format!("{shown}: {text}{through}"));
    Failure::later(error.hint("check the address, the proxy and the network, then run it again"))
}

/// The first cause of this kind.
fn cause<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
