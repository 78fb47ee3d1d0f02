//! The download log: who was sent which artifact, and when.
//!
//! Whoever serves notes into a bounded queue and never waits: what does not fit is counted and gone. One task adds up
//! what came and writes it in batches; killed, it loses the last batch and leaves nothing half. So requests cost a
//! few hundred nanoseconds more, and a client in a loop makes a number grow and not a table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::roles::Action;
use airlock_core::time::{Span, Time};
use airlock_store::{Download, DownloadLimits, Wanted};

use crate::error::{Error, Result};
use crate::keys;
use crate::people;
use crate::retention::{read_span, write_span};
use crate::station::{CONFIG, Station};

/// For how long the log is kept unless `keep` says otherwise.
const KEEP: Span = Span::days(180);
/// Rows of one day that name a client, unless `rows_per_day` says otherwise: some 50 MB.
const ROWS_PER_DAY: u64 = 250_000;
/// Rows of one client on one day, unless `rows_per_client` says otherwise: one alone does not fill a day.
const ROWS_PER_CLIENT: u64 = 25_000;
/// Rows that are written in one transaction: other writers wait for no more.
const ROWS_AT_ONCE: usize = 2000;
/// Bytes of a header's name.
const HEADER_BYTES_MAX: usize = 100;
/// Downloads that wait to be added up, at some 60 bytes each.
pub const QUEUE_MAX: usize = 65_536;
/// Rows that wait to be written, at some 150 bytes each. Where the database takes none, the queue fills behind them.
const PENDING_MAX: usize = 50_000;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long the writer waits for a database that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// Digits of a pseudonym.
const PSEUDONYM_DIGITS: usize = 20;
/// Bytes of an account's name.
const ACCOUNT_BYTES_MAX: usize = 100;
/// Rows that one question is answered with.
pub const ROWS_SHOWN_MAX: u32 = 100_000;
/// The name of the key of pseudonyms, beside the station's own.
const KEY: &str = "downloads.key";

/// `[downloads]` of `airlock.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Downloads {
    /// Whether downloads are noted.
    pub enabled: bool,
    /// For how long.
    #[serde(serialize_with = "write_span", deserialize_with = "read_span")]
    pub keep: Span,
    /// Whether clients and accounts are noted by a pseudonym that only the station's key leads to.
    pub pseudonymous: bool,
    /// Rows of one day that name a client; what comes beyond is counted for nobody.
    pub rows_per_day: u64,
    /// Rows of one client on one day; what it fetches beyond is counted for nobody.
    pub rows_per_client: u64,
    /// The header in which the proxies before this server name the account. They must set or remove it in every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_header: Option<String>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            enabled: true,
            keep: KEEP,
            pseudonymous: false,
            rows_per_day: ROWS_PER_DAY,
            rows_per_client: ROWS_PER_CLIENT,
            account_header: None,
        }
    }
}

impl Downloads {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the name of the header.
    pub fn check(&self) -> Result<()> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        match &self.account_header {
            Some(name) if name.is_empty() || name.len() > HEADER_BYTES_MAX || !name.bytes().all(plain) => {
                Err(Error::usage(format!("{CONFIG}: `account_header` of [downloads] is no name of a header"))
                    .hint("use the one that your proxy sets, such as `X-Forwarded-User`"))
            }
            _ => Ok(()),
        }
    }
}

/// What is served.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// The channel.
    pub channel: String,
    /// Subdir and file for conda, the file for PyPI.
    pub artifact: String,
    /// What its bytes are.
    pub sha256: Digest,
}

/// Who it was served to.
#[derive(Debug)]
pub struct Client {
    /// Its address, where that is known.
    pub address: Option<IpAddr>,
    /// The account that a trusted proxy names.
    pub account: Option<String>,
    /// The kind of program, one of [`agent`].
    pub agent: &'static str,
}

/// One download.
struct Note {
    served: Arc<Served>,
    client: Client,
    time: Time,
}

/// Where downloads are noted. Clones note into the same log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: mpsc::Sender<Note>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Notes a download, or counts it as lost. It never waits.
    pub fn note(&self, served: &Arc<Served>, client: Client, time: Time) {
        if self.queue.try_send(Note { served: served.clone(), client, time }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many are lost that are not written down yet.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// What writes the log.
pub struct Writer {
    station: Station,
    queue: mpsc::Receiver<Note>,
    lost: Arc<AtomicU64>,
    names: Names,
    pending: Pending,
}

/// What is added up: a row of the log but for its numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    day: i64,
    served: Arc<Served>,
    client: String,
    account: String,
    agent: &'static str,
}

/// The first and last time, and how often.
type Seen = (Time, Time, u64);
type Pending = BTreeMap<Key, Seen>;

impl Key {
    fn row(&self, (first, last, times): &Seen) -> Download {
        Download {
            channel: self.served.channel.clone(),
            artifact: self.served.artifact.clone(),
            sha256: self.served.sha256,
            day: self.day,
            client: self.client.clone(),
            account: self.account.clone(),
            agent: self.agent.to_owned(),
            first: *first,
            last: *last,
            times: *times,
        }
    }
}

/// Opens the log of a station; none if it keeps none. `queue` is how many downloads may wait.
///
/// # Errors
///
/// If clients go by pseudonyms and their key cannot be read.
pub fn open(station: &Station, queue: usize) -> Result<Option<(Log, Writer)>> {
    if !station.config.downloads.enabled {
        return Ok(None);
    }
    let names = Names::of(station)?;
    let (sender, receiver) = mpsc::channel(queue);
    let lost = Arc::<AtomicU64>::default();
    let writer = Writer {
        station: station.clone(),
        queue: receiver,
        lost: lost.clone(),
        names,
        pending: Pending::new(),
    };
    Ok(Some((Log { queue: sender, lost }, writer)))
}

impl Writer {
    /// Writes until every [`Log`] is gone, and `tell`s of what goes wrong.
    pub async fn run(mut self, tell: impl Fn(&str)) {
        while let Some(note) = self.queue.recv().await {
            self.add(note);
            tokio::time::sleep(GATHER).await;
            self.gather();
            while let Err(error) = self.write().await {
                tell(&format!("error: the download log cannot be written: {error}; it is tried again"));
                if self.queue.is_closed() {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
                self.gather();
            }
        }
        if self.lost.load(Ordering::Relaxed) > 0
            && let Err(error) = self.write().await
        {
            tell(&format!("error: the download log cannot be written: {error}"));
        }
    }

    /// Adds up what came, as far as there is room.
    fn gather(&mut self) {
        while self.pending.len() < PENDING_MAX
            && let Ok(note) = self.queue.try_recv()
        {
            self.add(note);
        }
    }

    fn add(&mut self, note: Note) {
        let client = note.client.address.map_or_else(String::new, |a| self.names.of_address(a));
        let account = note.client.account.map_or_else(String::new, |a| self.names.of_account(&a));
        let (day, agent) = (day(note.time), note.client.agent);
        let key = Key { day, served: note.served, client, account, agent };
        let (first, last, times) = self.pending.entry(key).or_insert((note.time, note.time, 0));
        (*first, *last) = ((*first).min(note.time), (*last).max(note.time));
        *times += 1;
    }

    async fn write(&mut self) -> Result<()> {
        let db = &self.station.store.db;
        let config = &self.station.config.downloads;
        let limits = DownloadLimits { day: config.rows_per_day, client: config.rows_per_client };
        let days: BTreeSet<i64> = self.pending.keys().map(|key| key.day).collect();
        let mut room = db.download_room(&days, limits).await?;
        loop {
            // What is written is forgotten at once, so that what fails later counts it no second time.
            let rest = match self.pending.keys().nth(ROWS_AT_ONCE).cloned() {
                Some(first) => self.pending.split_off(&first),
                None => Pending::new(),
            };
            let batch: Vec<Download> = self.pending.iter().map(|(key, seen)| key.row(seen)).collect();
            let lost = self.lost.load(Ordering::Relaxed);
            let lost_by_day = (lost > 0).then(|| (day(self.station.clock()), lost)).into_iter().collect();
            let noted = db.note_downloads(&batch, &lost_by_day, &mut room).await;
            if noted.is_ok() {
                self.lost.fetch_sub(lost, Ordering::Relaxed);
                self.pending.clear();
            }
            self.pending.extend(rest);
            noted?;
            if self.pending.is_empty() {
                return Ok(());
            }
        }
    }
}

/// How clients are called in the log.
pub struct Names {
    key: Option<Vec<u8>>,
}

impl Names {
    /// As the station's configuration says; makes the key of pseudonyms where there is none.
    pub fn of(station: &Station) -> Result<Self> {
        let is_wanted = station.config.downloads.pseudonymous;
        Ok(Self { key: is_wanted.then(|| key(&station.dir.join("keys"))).transpose()? })
    }

    /// An address, or its pseudonym.
    pub fn of_address(&self, address: IpAddr) -> String {
        self.name("address", &address.to_canonical().to_string())
    }

    /// An account, or its pseudonym.
    pub fn of_account(&self, account: &str) -> String {
        self.name("account", account)
    }

    /// HMAC-SHA256 (RFC 2104) with a key of one block's length or less, cut.
    fn name(&self, kind: &str, text: &str) -> String {
        let Some(key) = &self.key else { return text.to_owned() };
        let pad =
            |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
        let inner = Digest::of(&[&pad(0x36)[..], kind.as_bytes(), b":", text.as_bytes()].concat());
        let outer = Digest::of(&[&pad(0x5c)[..], &inner.as_bytes()[..]].concat());
        format!("~{}", outer.to_string().get(..PSEUDONYM_DIGITS).unwrap_or_default())
    }
}

/// The key of pseudonyms, made where there is none. Two servers that start at once end with the same one.
fn key(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(KEY);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut secret = [0u8; 32];
            getrandom::fill(&mut secret)
                .map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
            keys::write_once(&path, format!("{}\n", hex::encode(&secret)).as_bytes())?
        }
        read => read.map_err(crate::error::file_error(&path))?,
    };
    hex::decode::<32>(text.trim()).map(Vec::from).ok_or_else(|| {
        Error::usage(format!("{} is not 64 hexadecimal digits", path.display()))
            .hint("restore it from a copy; without it new pseudonyms are others than before")
    })
}

/// The kind of program behind a `User-Agent`: one of a closed list, so that nobody can write what he likes.
pub fn agent(user_agent: &str) -> &'static str {
    const KNOWN: [&str; 16] = [
        "conda",
        "mamba",
        "micromamba",
        "pixi",
        "rattler",
        "pip",
        "uv",
        "poetry",
        "pdm",
        "bandersnatch",
        "curl",
        "Wget",
        "python-requests",
        "R",
        "airlock",
        "Mozilla",
    ];
    let product = user_agent.split(['/', ' ', '(']).next().unwrap_or_default();
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(product)).unwrap_or("other")
}

/// The name of an account as the log has it; none if it cannot be one.
pub fn account(text: &str) -> Option<String> {
    let fine =
        !text.is_empty() && text.len() <= ACCOUNT_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| text.to_owned())
}

/// A day as the log counts them.
pub fn day(time: Time) -> i64 {
    time.seconds().div_euclid(Span::days(1).as_seconds())
}

/// Removes what is older than the configuration keeps; how many rows it were.
pub async fn expire(station: &Station) -> Result<u64> {
    let keep = station.config.downloads.keep.as_seconds();
    let before = Time::from_seconds(station.now().await?.seconds().saturating_sub(keep));
    Ok(station.store.db.end_downloads(day(before)).await?)
}

/// What a person asks of the log.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// From the day of this moment on.
    pub since: Option<Time>,
    /// Only what this client was sent; its pseudonym is found by its address.
    pub client: Option<IpAddr>,
}

/// What the log answers.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// What was noted, oldest first.
    pub downloads: Vec<DownloadView>,
    /// Downloads that were not noted in the same time, in any channel, since more came than could be written.
    pub lost: u64,
    /// Whether there is more than is shown.
    pub more: bool,
    /// From when on anything is kept.
    pub kept_since: Time,
}

/// A row of the log in the form that scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DownloadView {
    /// The channel.
    pub channel: String,
    /// Subdir and file for conda, the file for PyPI.
    pub artifact: String,
    /// What its bytes are.
    pub sha256: Digest,
    /// The client's address or pseudonym; null where the day had more clients than are named.
    pub client: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The kind of program.
    pub agent: String,
    /// The first time on that day.
    pub first: Time,
    /// The last time on that day.
    pub last: Time,
    /// How often on that day.
    pub times: u64,
}

impl From<Download> for DownloadView {
    fn from(row: Download) -> Self {
        let some = |text: String| Some(text).filter(|t| !t.is_empty());
        Self {
            channel: row.channel,
            artifact: row.artifact,
            sha256: row.sha256,
            client: some(row.client),
            account: some(row.account),
            agent: row.agent,
            first: row.first,
            last: row.last,
            times: row.times,
        }
    }
}

/// The downloads of a channel that fit. That somebody looked is an entry of the ledger.
pub async fn ask(
    station: &Station,
    channel: &str,
    question: &Question,
    fits: impl Fn(&str) -> bool,
) -> Result<Answer> {
    people::allow(station, Action::Ledger, None).await?;
    let db = &station.store.db;
    let now = station.now().await?;
    let kept_since =
        Time::from_seconds(now.seconds().saturating_sub(station.config.downloads.keep.as_seconds()));
    let since = day(question.since.unwrap_or(kept_since).max(kept_since));
    let client = match question.client {
        Some(address) => Some(Names::of(station)?.of_address(address)),
        None => None,
    };
    let mut rows = Vec::new();
    for artifact in db.downloaded(channel).await?.into_keys().filter(|a| fits(a)) {
        let most =
            ROWS_SHOWN_MAX.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)).saturating_add(1);
        let found = db.downloads(Wanted::Artifact(channel, &artifact), since, most).await?;
        rows.extend(found.into_iter().filter(|row| client.as_ref().is_none_or(|c| *c == row.client)));
        if rows.len() > ROWS_SHOWN_MAX as usize {
            break;
        }
    }
    let more = rows.len() > ROWS_SHOWN_MAX as usize;
    rows.truncate(ROWS_SHOWN_MAX as usize);
    rows.sort_by(|a, b| (a.first, &a.artifact, &a.client).cmp(&(b.first, &b.artifact, &b.client)));
    let lost = db.downloads_lost(since).await?;
    looked(station, channel).await?;
    Ok(Answer { downloads: rows.into_iter().map(DownloadView::from).collect(), lost, more, kept_since })
}

/// Notes in the ledger that somebody looked at the log of a channel: who reads what people did is known in turn.
pub(crate) async fn looked(station: &Station, channel: &str) -> Result<()> {
    let detail = serde_json::json!({"pseudonymous": station.config.downloads.pseudonymous});
    station.commit(Vec::new(), "downloads.read", &format!("channel/{channel}"), &detail).await
}
