//! NVD's API 2.0, which answers page by page and tells what changed between two moments. It is read whole the first time,
//! and then by what changed; only that travels, and the records of the last good state stand in for the rest.
//!
//! Pages are counted from the beginning of a list that goes on changing. So each asks for some records of the one
//! before again: where none of them comes, the list has moved further than that, and is read anew; so it is where in the
//! end fewer records came than were announced. What changes while a reading goes on, the next one asks for, since its
//! time begins before this one did.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use airlock_core::advisory::{FeedKind, Until};
use airlock_core::time::{Span, Time};
use airlock_formats::feeds::nvd;
use airlock_formats::limits;
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Result, file_error};
use crate::station::Station;
use crate::upstream::{Ask, Client, Got, Location};

/// Records that are asked for at once; NVD gives no more.
const PAGE_RECORDS: u64 = 2000;
/// How many of them at most were on the page before; of smaller pages a quarter.
const OVERLAP_RECORDS: u64 = 50;
/// Pages of one list. All of NVD has some 200.
const PAGES_MAX: u32 = 10_000;
/// The largest page, in bytes. Two thousand records have some 12 MB.
const PAGE_BYTES_MAX: u64 = 256 << 20;
/// The longest time that one question may be about.
const WINDOW: Span = Span::days(120);
/// What changed is asked for from so much before the last reading on: clocks differ, and what changes appears late.
const OVERLAP: Span = Span::seconds(2 * 3600);
/// Who was away for more windows than this reads everything: that is less.
const WINDOWS_MAX: usize = 6;
/// How often a list that changes too fast is read.
const TRIES: usize = 4;
/// The time between two questions that NVD asks for: 5 in 30 seconds, and 50 for those with a key.
const INTERVAL: Duration = Duration::from_secs(6);
/// See [`INTERVAL`].
const INTERVAL_WITH_KEY: Duration = Duration::from_millis(600);

/// The address of an API, if a feed is one. One that asks for something by itself is a page like any other.
pub(super) fn api(kind: FeedKind, location: &str) -> Option<Url> {
    let url = Url::parse(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let ours = |(key, _): (std::borrow::Cow<'_, str>, _)| {
        ["startIndex", "resultsPerPage", "lastModStartDate", "lastModEndDate", "cveId"].contains(&&*key)
    };
    let is_api = kind == FeedKind::Nvd && url.path().trim_end_matches('/').ends_with("/cves/2.0");
    (is_api && !url.query_pairs().any(ours)).then_some(url)
}

/// What was fetched: the items of all pages, one a line.
pub(super) struct Fetched {
    file: NamedTempFile,
    /// Up to when.
    pub(super) until: Until,
    /// Whether it is all there is, and not only what changed.
    pub(super) is_whole: bool,
}

impl Fetched {
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Fetches what changed since the last reading, or everything.
pub(super) async fn fetch(station: &Station, url: Url, last: Option<Until>) -> Result<Fetched> {
    let now = station.now().await?;
    let client = Client::new(station, &Location::Http(url.clone()))?;
    let (interval, has_key) = client.pace(&url)?;
    let interval = interval.unwrap_or(if has_key { INTERVAL_WITH_KEY } else { INTERVAL });
    let file = NamedTempFile::new_in(&station.dir).map_err(file_error(&station.dir))?;
    let mut fetching = Fetching {
        client,
        url,
        interval,
        next: Instant::now(),
        has_begun: false,
        file,
        bytes_left: limits::FEED_BYTES_MAX,
        told: None,
    };
    let windows = last.filter(|last| last.reader == nvd::READER).and_then(|last| windows(last.at, now));
    match &windows {
        Some(windows) => {
            for window in windows {
                fetching.list(Some(*window)).await?;
            }
        }
        None => fetching.list(None).await?,
    }
    // Of two clocks the one that is behind counts: so nothing lies between this reading and the next.
    let at = fetching.told.map_or(now, |told| told.min(now));
    let until = Until { at, reader: nvd::READER };
    Ok(Fetched { file: fetching.file, until, is_whole: windows.is_none() })
}

/// The windows from a little before the last reading until now; none if that are too many.
fn windows(last: Time, now: Time) -> Option<Vec<(Time, Time)>> {
    let before = |time: Time, span: Span| Time::from_seconds(time.seconds() - span.as_seconds());
    let mut from = before(last.min(now), OVERLAP);
    let mut out = Vec::new();
    while out.len() < WINDOWS_MAX {
        let to = from.after(WINDOW).min(now);
        out.push((from, to));
        if to == now {
            return Some(out);
        }
        from = to;
    }
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    start_index: u64,
    total_results: u64,
    timestamp: Option<String>,
    #[serde(borrow)]
    vulnerabilities: Vec<&'a RawValue>,
}

/// What one item is called; one that makes no sense goes by its hash, so that nothing large is held of it.
fn name(item: &RawValue, hash: u64) -> String {
    #[derive(Deserialize)]
    struct Item {
        cve: Cve,
    }
    #[derive(Deserialize)]
    struct Cve {
        id: String,
    }
    match serde_json::from_str(item.get()) {
        Ok(Item { cve: Cve { id } }) if id.len() <= limits::CVE_BYTES_MAX => id,
        _ => format!("#{hash}"),
    }
}

fn hash(item: &RawValue) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.get().hash(&mut hasher);
    hasher.finish()
}

/// How a list came.
enum Came {
    Whole,
    /// It changed too much on the way.
    Moved,
}

struct Fetching {
    client: Client,
    url: Url,
    interval: Duration,
    /// When the next question may be asked.
    next: Instant,
    /// Whether a page came: quiet hours let end what is under way.
    has_begun: bool,
    file: NamedTempFile,
    /// What may still come, in bytes, all readings together.
    bytes_left: u64,
    /// What time it was for the source when the first page came.
    told: Option<Time>,
}

impl Fetching {
    fn wrong(&self, what: &str) -> Error {
        let shown = Location::Http(self.url.clone()).shown();
        Error::fault(format!("{shown}: {what}"))
            .hint("the last good state of the feed stays in force; run it again later")
    }

    /// Fetches one list, as often as it takes.
    async fn list(&mut self, window: Option<(Time, Time)>) -> Result<()> {
        let path = self.file.path().to_owned();
        let start = self.file.as_file_mut().stream_position().map_err(file_error(&path))?;
        for _ in 0..TRIES {
            if let Came::Whole = self.pages(window).await? {
                return Ok(());
            }
            let file = self.file.as_file_mut();
            let cut = file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start)));
            cut.map_err(file_error(&path))?;
        }
        Err(self.wrong(&format!("its list changed under each of {TRIES} readings")))
    }

    async fn pages(&mut self, window: Option<(Time, Time)>) -> Result<Came> {
        // The text of each record by its hash: one that changed on the way comes in both forms.
        let mut seen: HashMap<String, u64> = HashMap::new();
        let (mut start, mut overlap) = (0, 0);
        for _ in 0..PAGES_MAX {
            let bytes = self.page(window, start).await?;
            let page: Page<'_> = serde_json::from_slice(&bytes)
                .map_err(|e| self.wrong(&format!("page {start} is no page of the API: {e}")))?;
            let count = page.vulnerabilities.len() as u64;
            let (end, total) = (start + count, page.total_results);
            // The list became shorter than where the page begins.
            if page.start_index == start && count == 0 && start > 0 && start >= total {
                return Ok(Came::Moved);
            }
            if page.start_index != start || count > PAGE_RECORDS || end > total {
                let (at, of) = (page.start_index, page.total_results);
                return Err(self.wrong(&format!(
                    "asked for records from {start} on, it brings {count} from {at} on, of {of}"
                )));
            }
            if total > limits::FEED_RECORDS_MAX {
                return Err(self.wrong(&format!("it announces {total} records")));
            }
            if self.told.is_none() {
                self.told = page.timestamp.as_deref().and_then(|t| t.parse().ok());
            }
            let (mut joins, mut brought) = (overlap == 0, false);
            for item in &page.vulnerabilities {
                let hash = hash(item);
                let before = seen.insert(name(item, hash), hash);
                brought |= before.is_none();
                joins |= before.is_some();
                if before != Some(hash) {
                    self.keep(item)?;
                }
            }
            match (end >= total, joins) {
                (true, _) if count == 0 && total > 0 => return Ok(Came::Moved),
                (_, false) => return Ok(Came::Moved),
                // What is called by one name twice is no record more.
                (true, true) if (seen.len() as u64) < total => return Ok(Came::Moved),
                (true, true) => return Ok(Came::Whole),
                (false, true) if !brought => {
                    return Err(self.wrong(&format!("it announces {total} records and ends at {end}")));
                }
                (false, true) => {
                    overlap = OVERLAP_RECORDS.min(count / 4);
                    start = end - overlap;
                }
            }
        }
        Err(self.wrong(&format!("its list has more than {PAGES_MAX} pages")))
    }

    async fn page(&mut self, window: Option<(Time, Time)>, start: u64) -> Result<Vec<u8>> {
        sleep_until(self.next).await;
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("startIndex", &start.to_string());
            query.append_pair("resultsPerPage", &PAGE_RECORDS.to_string());
            if let Some((from, to)) = window {
                query.append_pair("lastModStartDate", &told(from));
                query.append_pair("lastModEndDate", &told(to));
            }
        }
        let ask = Ask {
            accept: Some("application/json"),
            bytes_max: PAGE_BYTES_MAX,
            refuses_when_busy: true,
            is_under_way: self.has_begun,
            ..Ask::default()
        };
        let got = self.client.get(&Location::Http(url), ask).await;
        self.next = Instant::now() + self.interval;
        match got? {
            Got::Body(body) => {
                self.has_begun = true;
                Ok(body.bytes)
            }
            Got::Absent | Got::NotModified => Err(self.wrong("there is nothing at this address")),
        }
    }

    /// Writes one item as one line; white space is all that a line end can be in JSON.
    fn keep(&mut self, item: &RawValue) -> Result<()> {
        let path = self.file.path().to_owned();
        let mut line = item.get().replace(['\n', '\r'], " ");
        line.push('\n');
        self.bytes_left = self
            .bytes_left
            .checked_sub(line.len() as u64)
            .ok_or_else(|| self.wrong(&format!("it is larger than {} bytes", limits::FEED_BYTES_MAX)))?;
        self.file.write_all(line.as_bytes()).map_err(file_error(&path))
    }
}

/// A time as the API wants it.
fn told(time: Time) -> String {
    time.to_string().replace('Z', ".000+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_known_by_its_path_and_asked_as_it_stands() {
        let is_api = |kind, location| api(kind, location).is_some();
        assert!(is_api(FeedKind::Nvd, "https://nvd.upstream.example/rest/json/cves/2.0"));
        assert!(is_api(FeedKind::Nvd, "https://nvd.upstream.example/rest/json/cves/2.0/?noRejected"));
        assert!(!is_api(FeedKind::Nvd, "https://nvd.upstream.example/rest/json/cves/2.0?startIndex=0"));
        assert!(!is_api(FeedKind::Nvd, "https://nvd.upstream.example/feeds/nvdcve-2.0-2024.json.gz"));
        assert!(!is_api(FeedKind::Nvd, "/srv/cves/2.0"));
        assert!(!is_api(FeedKind::Osv, "https://nvd.upstream.example/rest/json/cves/2.0"));
    }

    #[test]
    fn windows_overlap_the_last_reading_are_no_longer_than_allowed_and_leave_no_gap() {
        let now: Time = "2026-03-01T12:00:00Z".parse().unwrap();
        let back = |days: i64| Time::from_seconds(now.seconds() - days * 86_400);
        let one = windows(back(1), now).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(
            (told(one[0].0), told(one[0].1)),
            ("2026-02-28T10:00:00.000+00:00".into(), "2026-03-01T12:00:00.000+00:00".into())
        );
        let some = windows(back(300), now).unwrap();
        assert_eq!(some.len(), 3);
        assert_eq!((some[0].0, some[2].1), (Time::from_seconds(back(300).seconds() - 7200), now));
        for (a, b) in some.iter().zip(some.iter().skip(1)) {
            assert_eq!(a.1, b.0);
        }
        assert!(some.iter().all(|(from, to)| to.since(*from) <= WINDOW));
        assert_eq!(windows(back(5000), now), None);
        // A clock that was ahead.
        assert_eq!(windows(now.after(Span::days(9)), now).unwrap().len(), 1);
    }
}
