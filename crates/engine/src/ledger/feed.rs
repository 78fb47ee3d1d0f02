//! The ledger, told to other systems as it grows: syslog and webhooks.
//!
//! Each feed has a cursor in a file beside the checkpoint. It moves only when the receiver has taken what came before it,
//! so that a run that is killed in between sends again and never leaves anything out; entries carry their numbers, by
//! which receivers tell what they have. A receiver that is down holds up nothing but its own feed.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use airlock_core::id::Digest;
use airlock_core::ledger::LedgerEntry;
use airlock_core::time::Time;
use airlock_formats::syslog;

use crate::boxed;
use crate::error::{Error, Result, file_error};
use crate::station::{CONFIG, Station};
use crate::upstream::{Client, Location, receivers};

/// The folder of cursors in a station's directory.
const FOLDER: &str = "ledger.feeds";
/// Entries that are sent before the cursor moves.
const BATCH: u32 = 200;
/// One message over UDP, in bytes: more than most receivers take is cut off by them.
const DATAGRAM_BYTES_MAX: usize = 8192;
/// One message over TCP, or one line to a webhook, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How long a receiver may take for one step.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is sent before the cursor moves, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// How long it takes until a host says that nobody listens there.
const REFUSAL: Duration = Duration::from_millis(50);
/// How long it takes until a host says that what came to it after it ended a connection was not taken.
const RESET: Duration = Duration::from_millis(200);
/// What to do about a receiver that does not take what is sent.
const REFUSED: &str = "look whether it listens at that address, and what its own log says; what it lacks is sent when it takes it";
/// How often it is looked whether the ledger has grown.
const LOOK: Duration = Duration::from_secs(2);
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// `[ledger]` of `airlock.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// Who is told of each entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feed: Vec<Feed>,
}

/// `[[ledger.feed]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its name, by which its cursor is kept.
    pub name: String,
    /// What the receiver speaks.
    pub kind: FeedKind,
    /// `udp://HOST:PORT` or `tcp://HOST:PORT` for syslog, an http(s) URL for a webhook.
    pub address: String,
}

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedKind {
    /// Syslog (RFC 5424) in datagrams, or counted on a stream (RFC 6587).
    Syslog,
    /// `POST` of JSON lines.
    Webhook,
}

impl LedgerConfig {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks names and addresses. No error repeats an address: it may hold a password.
    pub fn check(&self) -> Result<()> {
        for (at, feed) in self.feed.iter().enumerate() {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
            if feed.name.is_empty() || feed.name.len() > 100 || !feed.name.bytes().all(plain) {
                return Err(Error::usage(format!("{CONFIG}: a [[ledger.feed]] has no plain `name`"))
                    .hint("use letters, digits, `_` and `-`"));
            }
            if self.feed.iter().take(at).any(|other| other.name == feed.name) {
                return Err(Error::usage(format!("{CONFIG}: two [[ledger.feed]] are named `{}`", feed.name)));
            }
            feed.url()?;
        }
        Ok(())
    }
}

impl Feed {
    fn url(&self) -> Result<Url> {
        let bad = |wanted: &str| {
            Error::usage(format!(
                "{CONFIG}: the `address` of [[ledger.feed]] `{}` is not {wanted}",
                self.name
            ))
        };
        let url = Url::parse(&self.address).ok();
        match self.kind {
            FeedKind::Webhook => url
                .filter(|url| matches!(url.scheme(), "http" | "https"))
                .ok_or_else(|| bad("an http:// or https:// URL")),
            FeedKind::Syslog => url
                .filter(|u| matches!(u.scheme(), "udp" | "tcp") && u.has_host() && u.port().is_some())
                .filter(|u| u.username().is_empty() && u.password().is_none() && matches!(u.path(), "" | "/"))
                .ok_or_else(|| bad("udp://HOST:PORT or tcp://HOST:PORT")),
        }
    }
}

/// How far a feed is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// The last entry that the receiver took.
    sent: u64,
    /// Its hash, by which a ledger that came from a copy and went on differently is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Digest>,
    /// Entries to send at once, after more failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<u32>,
    /// Why the last try failed.
    error: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Since when it fails.
    failing_since: Option<Time>,
}

impl Cursor {
    fn path(station: &Station, feed: &Feed) -> PathBuf {
        station.dir.join(FOLDER).join(format!("{}.json", feed.name))
    }

    fn read(station: &Station, feed: &Feed) -> Result<Self> {
        let path = Self::path(station, feed);
        match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(file_error(&path)(e)),
            Ok(text) => serde_json::from_str(&text).map_err(|e| {
                Error::usage(format!("{}: {e}", path.display()))
                    .hint("remove it: the whole ledger is sent again then, and receivers know its numbers")
            }),
        }
    }

    /// Refuses a ledger that is not the one whose entries were sent: it came from a copy, and something would be skipped.
    async fn check(&self, station: &Station, feed: &Feed) -> Result<()> {
        let db = &station.store.db;
        let (head, name, path) = (db.ledger_head().await?.number, &feed.name, Self::path(station, feed));
        let other = |what: String| {
            Err(Error::usage(what).hint(format!(
                "if the database came from a copy, remove {}: all of it is sent again then",
                path.display()
            )))
        };
        let sent = self.sent;
        if sent > head {
            return other(format!("{sent} entries were sent to `{name}`, and the ledger has {head}"));
        }
        let Some(hash) = self.hash else { return Ok(()) };
        let found = db.ledger(sent, 1).await?;
        if found.iter().any(|(entry, is)| entry.number == sent && *is == hash) {
            return Ok(());
        }
        other(format!("entry {sent} of the ledger is another one than was sent to `{name}`"))
    }

    /// Writes it so that it is there whole, or as it was.
    fn write(&self, station: &Station, feed: &Feed) -> Result<()> {
        let path = Self::path(station, feed);
        let folder = station.dir.join(FOLDER);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(serde_json::to_string(self)?.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            std::fs::File::open(&folder)?.sync_all()
        };
        write().map_err(file_error(&path))
    }
}

/// A feed at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedState {
    /// Its name.
    pub name: String,
    /// What the receiver speaks.
    pub kind: FeedKind,
    /// The last entry that it took.
    pub sent: u64,
    /// Entries that it did not take yet.
    pub behind: u64,
    /// Why the last try failed.
    pub error: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Since when it fails.
    pub failing_since: Option<Time>,
}

/// How far each feed of the configuration is.
pub async fn states(station: &Station) -> Result<Vec<FeedState>> {
    let head = station.store.db.ledger_head().await?.number;
    let mut out = Vec::new();
    for feed in &station.config.ledger.feed {
        // One cursor that cannot be read is told of, and keeps nobody from reading the rest.
        let cursor = Cursor::read(station, feed);
        let wrong = match &cursor {
            Ok(cursor) => cursor.check(station, feed).await.err(),
            Err(_) => None,
        };
        let (cursor, wrong) = match cursor {
            Ok(cursor) => (cursor, wrong),
            Err(error) => (Cursor::default(), Some(error)),
        };
        let (error, hint) = match wrong {
            Some(wrong) => (Some(wrong.message), wrong.hint),
            None => (cursor.error, cursor.hint),
        };
        out.push(FeedState {
            name: feed.name.clone(),
            kind: feed.kind,
            sent: cursor.sent,
            behind: head.saturating_sub(cursor.sent),
            error,
            hint,
            failing_since: cursor.failing_since,
        });
    }
    Ok(out)
}

/// Sends to one feed whatever it lacks; how many entries it were. One process does it at a time.
///
/// # Errors
///
/// If the receiver does not take it; that is noted, for `status`.
#[boxed]
pub async fn send(station: &Station, feed: &Feed) -> Result<u64> {
    let _lease = station.lease(&format!("ledger-feed-{}", feed.name), "ledger feed").await?;
    let mut cursor = Cursor::read(station, feed)?;
    cursor.check(station, feed).await?;
    let before = cursor.sent;
    loop {
        let most = cursor.batch.unwrap_or(BATCH).clamp(1, BATCH);
        let mut entries = station.store.db.ledger_within(cursor.sent + 1, most, BATCH_BYTES).await?;
        entries.truncate(fitting(&entries));
        let Some((last, hash)) = entries.last() else { return Ok(cursor.sent - before) };
        if let Err(mut error) = deliver(station, feed, &entries).await {
            error.hint.get_or_insert_with(|| REFUSED.to_owned());
            let since = cursor.failing_since.unwrap_or(station.clock());
            // Fewer the next time: what was too much at once, or one entry that is refused, holds up nothing before it.
            let fewer = u32::try_from(entries.len() / 2).unwrap_or(BATCH).max(1);
            cursor = Cursor {
                error: Some(error.message.clone()),
                hint: error.hint.clone(),
                failing_since: Some(since),
                batch: Some(fewer),
                ..cursor
            };
            cursor.write(station, feed)?;
            return Err(error.while_(&format!("the ledger's feed `{}`", feed.name)));
        }
        let more = cursor.batch.map(|batch| batch.saturating_mul(2)).filter(|batch| *batch < BATCH);
        cursor = Cursor { sent: last.number, hash: Some(*hash), batch: more, ..Cursor::default() };
        cursor.write(station, feed)?;
    }
}

/// An entry as a webhook takes it. One that is very long goes without its particulars: receivers refuse what is too much, and
/// one that is refused would hold up all that come after it.
fn line((entry, hash): &(LedgerEntry, Digest)) -> String {
    // With the end of the line.
    syslog::line_within(entry, *hash, MESSAGE_BYTES_MAX - 1) + "\n"
}

/// How many of the entries go out at once: one at least, and no more bytes than [`BATCH_BYTES`].
fn fitting(entries: &[(LedgerEntry, Digest)]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&(LedgerEntry, Digest)| {
        bytes += line(entry).len();
        bytes <= BATCH_BYTES
    };
    entries.iter().take_while(fits).count().max(1)
}

/// Goes on sending to every feed for as long as it is let, and `tell`s when one begins to fail.
pub async fn run(station: Station, tell: impl Fn(&str)) {
    let (station, tell) = (&station, &tell);
    let feeds = &station.config.ledger.feed;
    let follow = async |feed: &Feed| {
        let (mut pause, mut told) = (LOOK, false);
        loop {
            match lacks(station, feed).await {
                Ok(false) => {}
                Ok(true) | Err(_) => match send(station, feed).await {
                    Ok(_) => (pause, told) = (LOOK, false),
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            let hint = error.hint.as_ref().map(|hint| format!("\n  hint: {hint}"));
                            tell(&format!("error: {error}; it is tried again{}", hint.unwrap_or_default()));
                        }
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                },
            }
            tokio::time::sleep(pause).await;
        }
    };
    futures_util::future::join_all(feeds.iter().map(follow)).await;
}

async fn lacks(station: &Station, feed: &Feed) -> Result<bool> {
    let (head, cursor) = (station.store.db.ledger_head().await?, Cursor::read(station, feed)?);
    Ok(head.number != cursor.sent || cursor.hash.is_some_and(|hash| hash != head.hash))
}

async fn deliver(station: &Station, feed: &Feed, entries: &[(LedgerEntry, Digest)]) -> Result<()> {
    let url = feed.url()?;
    if feed.kind == FeedKind::Webhook {
        let lines: String = entries.iter().map(line).collect();
        return Client::new(station, &Location::Http(url.clone()))?.post_lines(&url, lines).await;
    }
    let addresses = receivers(station, &url).await?;
    let message = |most| {
        move |(entry, hash): &(LedgerEntry, Digest)| syslog::message(&station.config.name, entry, *hash, most)
    };
    let sent = if url.scheme() == "udp" {
        let messages: Vec<String> = entries.iter().map(message(DATAGRAM_BYTES_MAX)).collect();
        timeout(PATIENCE, datagrams(&addresses, &messages)).await
    } else {
        let messages: String =
            entries.iter().map(message(MESSAGE_BYTES_MAX)).map(|m| syslog::counted(&m)).collect();
        timeout(PATIENCE, stream(&addresses, &messages)).await
    };
    let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
        .flatten()
        .map_err(|e| Error::fault(format!("{shown} does not take it: {e}")))
}

/// Sends datagrams. Nobody says whether they came; that nobody listens is heard where the host says so.
async fn datagrams(addresses: &[SocketAddr], messages: &[String]) -> std::io::Result<()> {
    let is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let socket = UdpSocket::bind(if is_v4 { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(addresses).await?;
    for message in messages {
        socket.send(message.as_bytes()).await?;
    }
    tokio::time::sleep(REFUSAL).await;
    match socket.try_recv(&mut [0]) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Err(e),
        _ => Ok(()),
    }
}

/// Sends a stream and ends it. That the receiver ends it after us, and its host says nothing to the contrary, says that the
/// host has taken all of it and the program has read it. A program that ends connections unread more slowly than its host
/// answers is not told apart.
async fn stream(addresses: &[SocketAddr], messages: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addresses).await?;
    // Tokio takes an end of what is connected no longer for a good one; the system says what it is.
    let plain = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    stream.write_all(messages.as_bytes()).await?;
    let mut answer = [0; 1024];
    loop {
        match (&plain).read(&mut answer) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    plain.shutdown(Shutdown::Write)?;
    while stream.read(&mut answer).await? > 0 {}
    // What came to a host that had ended it already is answered with a reset, which comes after the end.
    tokio::time::sleep(RESET).await;
    plain.take_error()?.map_or(Ok(()), Err)
}
