//! The upstream client: HTTP(S) and directories behind one `get`.
//!
//! Bodies stream with a limit. An upstream does not choose which hosts this station talks to: a file that
//! an index or a redirect places on another host than the source's is refused unless the configuration
//! lists that host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, file_error};
use crate::station::{Side, Station};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an upstream may stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Where a source lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A URL that ends in `/`.
    Http(Url),
    /// A directory or file.
    Path(PathBuf),
}

impl Location {
    /// Reads what a person typed.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with("http://") || text.starts_with("https://") {
            // What cannot be read may hold a password all the same, and is not repeated.
            let mut url =
                Url::parse(text).map_err(|e| Error::usage(format!("the source is not a URL: {e}")))?;
            if url.host_str().is_none() {
                return Err(Error::usage("the source's URL names no host"));
            }
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            return Ok(Self::Http(url));
        }
        if text.is_empty() {
            return Err(Error::usage("the source is empty").hint("give a URL or the path of a directory"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::usage(format!("`{scheme}` is not a kind of source"))
                .hint("give an http:// or https:// URL, or the path of a directory"));
        }
        let path = std::path::absolute(text).map_err(file_error(text))?;
        Ok(Self::Path(path))
    }

    /// A place below this one, or wherever a reference of an index leads.
    pub fn join(&self, reference: &str) -> Result<Self> {
        match self {
            Self::Http(url) => {
                let joined = url
                    .join(reference)
                    .map_err(|e| Error::fault(format!("the upstream refers to `{reference}`: {e}")))?;
                Ok(Self::Http(joined))
            }
            Self::Path(path) => {
                let leads_out = reference.contains("://") || Path::new(reference).is_absolute();
                let reference = reference.split(['#', '?']).next().unwrap_or_default();
                let mut out = path.clone();
                for part in reference.split('/') {
                    match part {
                        "" | "." => {}
                        ".." => {
                            out.pop();
                        }
                        part => out.push(decode(part)),
                    }
                }
                if leads_out {
                    return Err(Error::fault(format!(
                        "the index in {} refers to `{reference}`, outside of it",
                        path.display()
                    )));
                }
                Ok(Self::Path(out))
            }
        }
    }

    /// For messages and the ledger: without a user, password or query.
    pub fn shown(&self) -> String {
        match self {
            Self::Http(url) => {
                let mut url = url.clone();
                // Both fail only for URLs without a host, which `parse` refuses.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_query(None);
                redact_token(url.as_str())
            }
            Self::Path(path) => path.display().to_string(),
        }
    }
}

/// Hides the token of a `/t/<token>/` path.
fn redact_token(url: &str) -> String {
    match url.split_once("/t/") {
        Some((before, after)) => match after.split_once('/') {
            Some((_, rest)) => format!("{before}/t/*****/{rest}"),
            None => format!("{before}/t/*****"),
        },
        None => url.to_owned(),
    }
}

/// Undoes `%2B` and the like in a file name; a name that decodes to a separator stays as it is.
fn decode(part: &str) -> String {
    let decoded = part.replace("%2B", "+").replace("%2b", "+").replace("%21", "!").replace("%7E", "~");
    if decoded.contains('/') { part.to_owned() } else { decoded }
}

/// By what an upstream recognises that a file did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// What a `get` found.
#[derive(Debug)]
pub enum Got {
    /// The file.
    Body(Body),
    /// It is as it was.
    NotModified,
    /// There is none.
    Absent,
}

/// A file, held whole: an index within its limit.
#[derive(Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// For the next time.
    pub validator: Option<Validator>,
    /// The media type, without parameters, in lower case.
    pub media: String,
    /// Where it came from at last, which its relative references are relative to.
    pub location: Location,
}

/// What to ask with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// `Accept`.
    pub accept: Option<&'a str>,
    /// What was seen the last time.
    pub validator: Option<&'a Validator>,
    /// The most bytes that may come.
    pub bytes_max: u64,
}

/// Fetches from one source.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    hosts: Vec<String>,
    /// The source's own address, whose scheme, host and port are allowed.
    origin: Option<Url>,
    /// Of a directory source: nothing outside of it is read, whatever its index refers to.
    root: Option<PathBuf>,
}

impl Client {
    /// A client for `source`: it may talk to the source's host and to those that the configuration lists. An
    /// isolated station may talk to those that the configuration lists, and to no other.
    pub fn new(station: &Station, source: &Location) -> Result<Self> {
        let hosts = station.config.hosts.clone();
        let origin = match (station.config.side, source) {
            (Side::Connected, Location::Http(url)) => Some(url.clone()),
            (Side::Connected | Side::Isolated, _) => None,
        };
        let (allowed, own) = (hosts.clone(), origin.clone());
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            let host_fits = is_allowed(attempt.url(), own.as_ref(), &allowed);
            if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("it redirects too often")
            } else if !host_fits {
                attempt.error("it redirects to a host that the configuration does not list under `hosts`")
            } else {
                attempt.follow()
            }
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("airlock/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects)
            .build()
            .map_err(|e| Error::fault(format!("the HTTP client cannot be made: {}", chain(&e))))?;
        let root = match source {
            Location::Http(_) => None,
            Location::Path(path) => Some(path.clone()),
        };
        Ok(Self { http, hosts, origin, root })
    }

    fn check_path(&self, path: &Path) -> Result<()> {
        if self.root.as_ref().is_some_and(|root| path.starts_with(root)) {
            return Ok(());
        }
        Err(Error::fault(format!("the index refers to {}, which lies outside of its source", path.display())))
    }

    fn check_host(&self, url: &Url) -> Result<()> {
        let host = url.host_str().unwrap_or_default();
        if is_allowed(url, self.origin.as_ref(), &self.hosts) {
            return Ok(());
        }
        Err(Error::fault(format!("this station may not connect to `{host}`"))
            .hint(format!("if it should, add it to `hosts` in airlock.toml: hosts = [\"{host}\"]")))
    }

    /// Asks for a file and gives the answer as soon as its head is there.
    async fn ask(&self, url: &Url, ask: Ask<'_>) -> Result<reqwest::Response> {
        self.check_host(url)?;
        let mut headers = HeaderMap::new();
        let mut set = |name, value: Option<&str>| {
            if let Some(value) = value.and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        };
        set(ACCEPT, ask.accept);
        set(IF_NONE_MATCH, ask.validator.and_then(|v| v.etag.as_deref()));
        set(IF_MODIFIED_SINCE, ask.validator.and_then(|v| v.last_modified.as_deref()));
        let shown = Location::Http(url.clone()).shown();
        let sent = self.http.get(url.clone()).headers(headers).send().await;
        sent.map_err(|e| {
            Error::fault(format!("{shown}: {}", chain(&e.without_url())))
                .hint("check the address and the network, then run it again")
        })
    }

    /// Gets an index.
    pub async fn get(&self, location: &Location, ask: Ask<'_>) -> Result<Got> {
        let url = match location {
            Location::Http(url) => url,
            Location::Path(path) => {
                self.check_path(path)?;
                return read_file(path, ask.bytes_max);
            }
        };
        let response = self.ask(url, ask).await?;
        let shown = location.shown();
        match response.status() {
            StatusCode::NOT_MODIFIED if ask.validator.is_some() => return Ok(Got::NotModified),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Got::Absent),
            status if !status.is_success() => return Err(refused(&shown, status)),
            _ => {}
        }
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let validator = Validator { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        let validator = (validator != Validator::default()).then_some(validator);
        let media = header(CONTENT_TYPE).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let location = Location::Http(response.url().clone());
        let mut bytes = Vec::new();
        stream(response, &shown, ask.bytes_max, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .await?;
        Ok(Got::Body(Body { bytes, validator, media, location }))
    }

    /// Gets an artifact, chunk by chunk.
    pub async fn get_file(
        &self,
        location: &Location,
        bytes_max: u64,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let shown = location.shown();
        match location {
            Location::Http(url) => {
                let response = self.ask(url, Ask { bytes_max, ..Ask::default() }).await?;
                if !response.status().is_success() {
                    return Err(refused(&shown, response.status()));
                }
                stream(response, &shown, bytes_max, each).await
            }
            Location::Path(path) => {
                use std::io::Read as _;
                self.check_path(path)?;
                let mut file = crate::files::open_regular(path).map_err(file_error(path))?;
                let mut buffer = vec![0; 1 << 20];
                let mut seen = 0;
                loop {
                    let n = file.read(&mut buffer).map_err(file_error(path))?;
                    if n == 0 {
                        return Ok(());
                    }
                    seen += n as u64;
                    if seen > bytes_max {
                        return Err(too_long(&shown, bytes_max));
                    }
                    each(&buffer[..n])?;
                }
            }
        }
    }
}

/// Whether a station may connect there: to the source's own scheme, host and port, or to a host that the
/// configuration lists; never from https down to http.
fn is_allowed(url: &Url, origin: Option<&Url>, hosts: &[String]) -> bool {
    let listed = url.host_str().is_some_and(|h| hosts.iter().any(|a| a == h));
    let falls_back = url.scheme() == "http" && origin.is_some_and(|o| o.scheme() == "https");
    let own = origin.is_some_and(|o| o.origin() == url.origin());
    matches!(url.scheme(), "http" | "https") && (own || (listed && !falls_back))
}

fn refused(shown: &str, status: StatusCode) -> Error {
    let hint = match status.as_u16() {
        401 | 403 | 407 => "check the credentials of this source",
        429 => "the upstream asks to be left alone for a while; run it again later",
        _ => "run it again later; if it stays so, ask the upstream's operator",
    };
    Error::fault(format!("{shown}: the upstream answers {status}")).hint(hint)
}

fn too_long(shown: &str, bytes_max: u64) -> Error {
    Error::fault(format!(
        "{shown}: it is larger than {bytes_max} bytes, which is more than was announced or is allowed"
    ))
}

async fn stream(
    response: reqwest::Response,
    shown: &str,
    bytes_max: u64,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let announced = response.content_length();
    if announced.is_some_and(|n| n > bytes_max) {
        return Err(too_long(shown, bytes_max));
    }
    let mut seen = 0u64;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| {
            Error::fault(format!(
                "{shown}: the answer broke off after {seen} bytes: {}",
                chain(&e.without_url())
            ))
            .hint("run it again")
        })?;
        seen += chunk.len() as u64;
        if seen > bytes_max {
            return Err(too_long(shown, bytes_max));
        }
        each(&chunk)?;
    }
    match announced {
        Some(n) if n != seen => {
            Err(Error::fault(format!("{shown}: {seen} bytes came, {n} were announced")).hint("run it again"))
        }
        _ => Ok(()),
    }
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Got> {
    use std::io::ErrorKind::{IsADirectory, NotFound};
    use std::io::Read as _;
    let file = match crate::files::open_regular(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), NotFound | IsADirectory) => return Ok(Got::Absent),
        Err(e) => return Err(file_error(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_long(&path.display().to_string(), bytes_max));
    }
    let media = if path.extension().is_some_and(|e| e == "html") { "text/html" } else { "application/json" };
    let location = Location::Path(path.parent().unwrap_or(path).to_owned());
    Ok(Got::Body(Body { bytes, validator: None, media: media.to_owned(), location }))
}

/// An error with all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_source_is_shown() {
        for (typed, shown) in [
            ("https://ada:geheim@up.example/c?token=geheim", "https://up.example/c/"),
            ("https://up.example/t/geheim/conda", "https://up.example/t/*****/conda/"),
            ("https://up.example/t/geheim", "https://up.example/t/*****/"),
        ] {
            assert_eq!(Location::parse(typed).unwrap().shown(), shown);
        }
    }

    #[test]
    fn references_of_an_index_resolve_as_urls_and_as_paths() {
        let page = Location::parse("https://up.example/pypi/simple/idna/").unwrap();
        assert_eq!(
            page.join("../../files/a%2Bb.whl").unwrap().shown(),
            "https://up.example/pypi/files/a%2Bb.whl"
        );
        let page = Location::Path("/src/simple/idna".into());
        assert_eq!(
            page.join("../../files/a%2Bb.whl#sha256=0").unwrap(),
            Location::Path("/src/files/a+b.whl".into())
        );
        assert!(page.join("https://elsewhere.example/x").is_err());
        assert!(page.join("/etc/passwd").is_err());
        assert!(Location::parse("ftp://up.example/").is_err());
    }
}
