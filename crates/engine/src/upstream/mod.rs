//! The upstream client: HTTP(S) and directories behind one `get`.
//!
//! ```text
//! get, get_file ─> Transfer ─────────────────> exchange ──────────────────> Line ─> reqwest
//!                  tries again, continues,     follows redirects by hand,   proxy, certificates,
//!                  measures, limits            asks Reach, takes a place    Guard (names to addresses)
//! ```
//!
//! Bodies stream with a limit and continue where they broke off. Whom this station talks to is the configuration's
//! to say, never an upstream's (`reach`). What an upstream answers that it should not is refused by name.

mod answer;
mod exchange;
mod guard;
mod location;
mod patience;
mod put;
mod reach;
mod traffic;
mod transfer;

pub use answer::Validator;
pub use location::Location;
pub(crate) use patience::{Again, Failure, Tried};
pub(crate) use put::{Reply, Upload};
pub use traffic::Traffic;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;

use crate::error::{Error, Result, file_error};
use crate::network::quiet_until;
use crate::station::{Side, Station};
use exchange::Lines;
use guard::Guard;
use reach::Reach;
use transfer::{End, Transfer};

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

/// What a file arrives as.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// The next bytes.
    Bytes(&'a [u8]),
    /// All bytes so far are void: the file comes from its beginning again.
    Restart,
}

/// Whether a file came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It did; what to ask with the next time.
    Here(Option<Validator>),
    /// It is as it was.
    NotModified,
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
    /// Whether this upstream refuses (403, 429) where it was asked too much, so that it is asked again after a while.
    pub refuses_when_busy: bool,
    /// Whether it is a part of something that is under way, which quiet hours let end.
    pub is_under_way: bool,
}

/// The addresses of a receiver, `scheme://HOST:PORT`, that this station may send to by the rules that hold for sources: an
/// isolated station has to list its host, and a name leads to no private network that it does not spell out.
pub(crate) async fn receivers(station: &Station, url: &Url) -> Result<Vec<SocketAddr>> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or_default());
    let fault = |e: String| Error::fault(format!("{host}: {e}"));
    let own = Url::parse(&format!("http://{host}:{port}/")).map_err(|e| fault(e.to_string()))?;
    let is_allowed = station.config.side == Side::Connected;
    let reach = Reach::new(Some(own.clone()), is_allowed, station.config.hosts.iter())?;
    reach.check(&own, None)?;
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await.map_err(|e| fault(e.to_string()))?;
    Guard::new(reach.named()).sift(host, found.collect()).map_err(|e| fault(e.to_string()))
}

/// Fetches from one source.
#[derive(Clone)]
pub struct Client {
    station: Arc<Station>,
    reach: Arc<Reach>,
    lines: Lines,
    /// Of a directory source: nothing outside of it is read, whatever its index refers to.
    root: Option<PathBuf>,
    /// No link of a directory source may lead out of it either.
    without_links: bool,
}

impl fmt::Debug for Client {
    /// Never the addresses, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `source`: it may talk to the source's host and to those that the configuration lists. An
    /// isolated station may talk to those that the configuration lists, and to no other.
    ///
    /// # Errors
    /// Names the key of the configuration by which the source cannot be reached.
    pub fn new(station: &Station, source: &Location) -> Result<Self> {
        let (url, root) = match source {
            Location::Http(url) => (Some(url.clone()), None),
            Location::Path(path) => (None, Some(path.clone())),
        };
        let network = &station.config.network;
        let settings = url.as_ref().map(|url| network.settings(url)).unwrap_or_default();
        let is_allowed = station.config.side == Side::Connected;
        let reach = Reach::new(url.clone(), is_allowed, station.config.hosts.iter().chain(settings.hosts()))?;
        let proxies = network.proxies().filter_map(|p| p.host_str().map(str::to_owned));
        let lines = Lines::new(Guard::new(reach.named().chain(proxies)));
        let (station, reach) = (Arc::new(station.clone()), Arc::new(reach));
        let client = Self { station, reach, lines, root, without_links: false };
        // What is wrong with the source's own proxy or certificates is said before anything is done.
        url.map(|url| client.line(&url)).transpose()?;
        Ok(client)
    }

    /// The least time between two questions to this address that is configured, and whether a key is sent to it.
    pub fn pace(&self, url: &Url) -> Result<(Option<std::time::Duration>, bool)> {
        let line = self.line(url)?;
        Ok((line.settings.request_interval(), line.has_key()))
    }

    /// The same for a directory that somebody brought, and that is canonical: no link leads out of it either.
    pub(crate) fn without_links(self) -> Self {
        Self { without_links: true, ..self }
    }

    fn check_path(&self, path: &Path) -> Result<()> {
        // What is not there leads nowhere.
        let real = if self.without_links { path.canonicalize().ok() } else { None };
        let is_within =
            |root: &PathBuf| path.starts_with(root) && real.is_none_or(|real| real.starts_with(root));
        if self.root.as_ref().is_some_and(is_within) {
            return Ok(());
        }
        Err(Error::fault(format!("the index refers to {}, which lies outside of its source", path.display())))
    }

    /// Refuses to begin in quiet hours. What is under way ends: the edge is that of a file.
    async fn check_quiet(&self, url: &Url) -> Result<()> {
        let settings = self.line(url)?.settings;
        if settings.quiet_hours().is_empty() {
            return Ok(());
        }
        match quiet_until(settings.quiet_hours(), self.station.now().await?) {
            None => Ok(()),
            Some(until) => {
                let shown = Location::Http(url.clone()).shown();
                Err(Error::fault(format!("{shown}: these are quiet hours; it may go on at {until}"))
                    .hint("run it again then; what came already is kept"))
            }
        }
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
        if !ask.is_under_way {
            self.check_quiet(url).await?;
        }
        let mut bytes = Vec::new();
        let end = Transfer::new(self, url, ask).run(|piece| {
            match piece {
                Piece::Bytes(chunk) => bytes.extend_from_slice(chunk),
                Piece::Restart => bytes.clear(),
            }
            Ok(())
        });
        Ok(match end.await? {
            End::NotModified => Got::NotModified,
            End::Absent(_) => Got::Absent,
            End::Whole(head) => Got::Body(Body {
                bytes,
                validator: head.validator,
                media: head.media,
                location: Location::Http(head.url),
            }),
        })
    }

    /// Hands over a small JSON document. It is tried once, and no redirect is followed.
    pub async fn post_json(&self, url: &Url, body: String) -> Result<()> {
        self.hand_over(url, "application/json", body).await
    }

    /// The same with JSON lines.
    pub async fn post_lines(&self, url: &Url, body: String) -> Result<()> {
        self.hand_over(url, "application/x-ndjson", body).await
    }

    async fn hand_over(&self, url: &Url, media: &'static str, body: String) -> Result<()> {
        let response = self.post(url, media, body).await?;
        let shown = shown_host(url);
        if response.status().is_success() {
            return Ok(());
        }
        Err(Error::fault(format!("{shown}: it answered {}", response.status())))
    }

    /// Gets an artifact or a feed, piece by piece. A [`Piece::Restart`] voids what came before it.
    ///
    /// # Errors
    /// The first error that `each` gives ends it and is given back.
    pub async fn get_file(
        &self,
        location: &Location,
        bytes_max: u64,
        each: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        match self.get_file_if_changed(location, Ask { bytes_max, ..Ask::default() }, each).await? {
            Changed::Here(_) => Ok(()),
            Changed::NotModified => Err(Error::fault("the upstream compared what was not to be compared")),
        }
    }

    /// The same, unless it is as it was when the validator of `ask` was given.
    pub async fn get_file_if_changed(
        &self,
        location: &Location,
        ask: Ask<'_>,
        mut each: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Changed> {
        match location {
            Location::Http(url) => {
                self.check_quiet(url).await?;
                match Transfer::new(self, url, ask).run(each).await? {
                    End::Whole(head) => Ok(Changed::Here(head.validator)),
                    End::Absent(error) => Err(error),
                    End::NotModified => Ok(Changed::NotModified),
                }
            }
            Location::Path(path) => {
                self.check_path(path)?;
                read_pieces(path, ask.bytes_max, &mut each)?;
                Ok(Changed::Here(None))
            }
        }
    }
}

/// As much of an address as is no secret where the path itself may be one.
fn shown_host(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

fn too_long(shown: &str, bytes_max: u64) -> Error {
    Error::fault(format!(
        "{shown}: it is larger than {bytes_max} bytes, which is more than was announced or is allowed"
    ))
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Got> {
    use std::io::ErrorKind::{IsADirectory, NotFound};
    use std::io::Read as _;
    let file = match crate::files::open_regular(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), NotFound | IsADirectory) => return Ok(Got::Absent),
        Err(e) => return Err(file_error(path)(e)),
    };
    // Room for all of it at once, as far as its size can be believed.
    let size = file.metadata().map_err(file_error(path))?.len().min(bytes_max);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_long(&path.display().to_string(), bytes_max));
    }
    let media = if path.extension().is_some_and(|e| e == "html") { "text/html" } else { "application/json" };
    let location = Location::Path(path.parent().unwrap_or(path).to_owned());
    Ok(Got::Body(Body { bytes, validator: None, media: media.to_owned(), location }))
}

fn read_pieces(path: &Path, bytes_max: u64, each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
    use std::io::Read as _;
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
            return Err(too_long(&path.display().to_string(), bytes_max));
        }
        each(Piece::Bytes(buffer.get(..n).unwrap_or_default()))?;
    }
}
