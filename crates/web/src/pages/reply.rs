//! What every page has in common: who asks, in which form, and how the answer is dressed.

use std::convert::Infallible;
use std::sync::Arc;

use airlock_core::time::Time;
use airlock_engine::error::{Error, Kind};
use airlock_engine::view::View;
use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::asset;
use super::format::{Prose, When};
use crate::App;
use crate::server::Peer;

/// Nothing but this station is ever asked for anything, and nothing on a page runs.
const POLICY: &str = "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// A request, as far as pages care.
pub(crate) struct Ask {
    json: bool,
    base: Option<String>,
    path: String,
    root: String,
    query: String,
}

impl FromRequestParts<Arc<App>> for Ask {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let by_proxy =
            parts.extensions.get::<Peer>().is_some_and(|p| app.proxies.contains(&p.0.to_canonical()));
        let path = parts.uri.path().to_owned();
        let depth = path.matches('/').count().saturating_sub(1);
        Ok(Self {
            json: prefers_json(&parts.headers),
            base: base(&parts.headers, by_proxy),
            root: if depth == 0 { "./".to_owned() } else { "../".repeat(depth) },
            query: parts.uri.query().unwrap_or_default().to_owned(),
            path,
        })
    }
}

impl Ask {
    /// Whether JSON is preferred.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    /// The station's own address as this client wrote it, without a slash at the end. A prefix under which
    /// a reverse proxy mounts the station is not known here.
    pub(super) fn base(&self) -> &str {
        self.base.as_deref().unwrap_or("http://THIS-STATION")
    }

    /// The address of the page itself.
    pub(super) fn address(&self) -> String {
        format!("{}{}", self.base(), self.path)
    }

    /// The way from this page to the station's first, relative, so that it survives any prefix.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Whether the page is asked for as it is, without filters.
    pub(super) const fn is_plain(&self) -> bool {
        self.query.is_empty()
    }
}

/// Scheme and host, if the request has a host that can stand in a command line. What is said of the way before
/// this server counts if a proxy says it.
fn base(headers: &HeaderMap, by_proxy: bool) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let host = text(header::HOST)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return None;
    }
    let proto = HeaderName::from_static("x-forwarded-proto");
    let secure = by_proxy && text(proto).is_some_and(|p| p.trim() == "https");
    Some(format!("{}://{host}", if secure { "https" } else { "http" }))
}

/// Whether `Accept` ranks JSON above HTML.
fn prefers_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut html = 0.0_f32;
    let mut json = 0.0_f32;
    for part in accept.split(',') {
        let mut parts = part.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match range.as_str() {
            "application/json" => json = f32::max(json, quality),
            "text/html" | "application/xhtml+xml" => html = f32::max(html, quality),
            _ => {}
        }
    }
    json > html
}

/// What stands around every page.
pub(super) struct Shell {
    /// The way to the station's first page.
    pub root: String,
    /// The title of the window.
    pub title: String,
    /// The station's name.
    pub station: String,
    /// The fingerprint of its key.
    pub fingerprint: String,
    /// The style sheet with its hash.
    pub css: &'static str,
    /// The icon with its hash.
    pub icon: &'static str,
    /// The moment for which the page holds.
    pub now: When,
    /// The page's own address, for paper.
    pub address: String,
    /// The way down to this page: text and link.
    pub crumbs: Vec<(String, String)>,
}

impl Shell {
    /// Around a page with this title.
    pub(super) fn new(
        ask: &Ask,
        view: &View,
        now: Time,
        title: String,
        crumbs: Vec<(String, String)>,
    ) -> Self {
        let station = view.station();
        Self {
            root: ask.root().to_owned(),
            title,
            station: station.config.name.clone(),
            fingerprint: station.key.fingerprint(),
            css: asset::css_link(),
            icon: asset::icon_link(),
            now: When::new(now, now),
            address: ask.address(),
            crumbs,
        }
    }
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no such thing: what, and what to do next.
    Missing(Box<Missing>),
    /// The station failed.
    Engine(Error),
}

/// Something that nobody here knows.
#[derive(Debug)]
pub(super) struct Missing {
    /// What is not there, in a sentence.
    pub title: String,
    /// What to do next, each with a link (text and path below the station) where one helps.
    pub next: Vec<(String, Option<(String, String)>)>,
    /// Where this would be: text and link.
    pub crumbs: Vec<(String, String)>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Missing> for Fault {
    fn from(missing: Missing) -> Self {
        Self::Missing(Box::new(missing))
    }
}

/// What handlers give.
pub(super) type Answer = Result<Response, Fault>;

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    shell: Shell,
    heading: String,
    next: Vec<(Prose, Option<(String, String)>)>,
}

/// An error for programs (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: String,
}

/// Turns what a handler gave into an answer, with the headers that every page has.
pub(super) async fn finish(ask: &Ask, view: &View, answer: Answer) -> Response {
    let mut response = match answer {
        Ok(response) => response,
        Err(fault) => failed(ask, view, fault).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Host, X-Forwarded-Proto"));
    // What is known changes, and somebody may print a page to prove what was known.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    dressed(response)
}

/// Adds the headers that every answer of ours has.
pub(super) fn dressed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A page.
pub(super) fn html(template: &impl Template) -> Answer {
    html_as(StatusCode::OK, template)
}

fn html_as(status: StatusCode, template: &impl Template) -> Answer {
    let body = template.render().map_err(|e| Error::fault(format!("a page cannot be written: {e}")))?;
    Ok((status, [(header::CONTENT_TYPE, HTML)], body).into_response())
}

/// The same content for programs.
pub(super) fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(Error::from)?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, JSON)], body).into_response())
}

async fn failed(ask: &Ask, view: &View, fault: Fault) -> Response {
    let (status, heading, next, crumbs) = match fault {
        Fault::Missing(missing) => (StatusCode::NOT_FOUND, missing.title, missing.next, missing.crumbs),
        Fault::Engine(error) => {
            let status = match error.kind {
                Kind::No | Kind::Usage => StatusCode::BAD_REQUEST,
                Kind::Unsafe | Kind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let mut next = vec![(format!("This page could not be made: {}.", error.message), None)];
            let hint = error
                .hint
                .unwrap_or_else(|| "load the page again; if it fails again, run `airlock fsck`".into());
            next.push((format!("What to do: {hint}."), None));
            (status, "This station could not answer".to_owned(), next, Vec::new())
        }
    };
    if ask.json() {
        let detail = next.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(" ");
        let problem = Problem { title: &heading, status: status.as_u16(), detail };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        return (status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
    }
    // The clock may be what failed.
    let now = view.now().await.unwrap_or(Time::from_seconds(0));
    let shell = Shell::new(ask, view, now, heading.clone(), crumbs);
    let next = next.into_iter().map(|(text, link)| (Prose::new(&text), link)).collect();
    let page = Message { shell, heading, next };
    html_as(status, &page).unwrap_or_else(|_| status.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn json_is_for_those_who_prefer_it() {
        let table = [
            ("application/json", true),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("*/*", false),
            ("text/html;q=0.5, application/json;q=0.9", true),
            ("application/json;q=0.5, text/html", false),
            ("", false),
        ];
        for (accept, expected) in table {
            assert_eq!(prefers_json(&with(header::ACCEPT, accept)), expected, "{accept}");
        }
    }

    #[test]
    fn a_host_that_could_not_stand_in_a_command_is_not_repeated() {
        assert_eq!(
            base(&with(header::HOST, "packages.example:8080"), false).as_deref(),
            Some("http://packages.example:8080")
        );
        assert_eq!(base(&with(header::HOST, "[::1]:80"), false).as_deref(), Some("http://[::1]:80"));
        assert_eq!(base(&with(header::HOST, "x';rm -rf ~;'"), false), None);
    }
}
