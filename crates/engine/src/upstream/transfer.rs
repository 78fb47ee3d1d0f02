//! One file over HTTP, however often its connection breaks.
//!
//! A body that breaks off is continued with `Range` and `If-Range` where the upstream marks versions, else fetched
//! from its beginning. A try that brought the file on counts as the first, so that a bad link needs patience and no
//! luck; who brings nothing, or restarts again and again, is given up.

use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use tokio::time::timeout;

use super::answer::{self, SNIFF_BYTES, Validator};
use super::exchange::{Reply, chain};
use super::patience::{Again, Failure, Tried, backoff, busy, refused};
use super::{Ask, Client, Location, Piece, too_long};
use crate::error::{Error, Result};

/// How many new bytes make a try count as progress.
const PROGRESS_BYTES: u64 = 16 << 10;

/// What became of a transfer.
#[derive(Debug)]
pub(super) enum End {
    Whole(Head),
    NotModified,
    /// With the error for those who cannot do without.
    Absent(Error),
}

/// What the answer's head said.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub validator: Option<Validator>,
    pub media: String,
    /// Where it came from at last.
    pub url: Url,
}

/// A transfer that is under way.
pub(super) struct Transfer<'a> {
    client: &'a Client,
    url: &'a Url,
    ask: Ask<'a>,
    shown: String,
    /// How many bytes are here.
    at: u64,
    /// How far it was when a try last counted as progress.
    best: u64,
    restarts: u32,
    /// Of the version that is coming: its length, if it was said,
    total: Option<u64>,
    /// what tells it from others,
    mark: Option<String>,
    /// its head,
    head: Option<Head>,
    /// and its first bytes.
    beginning: Vec<u8>,
    /// The upstream answered for a piece with something else: it is not asked for pieces any more.
    oddity: Option<&'static str>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(client: &'a Client, url: &'a Url, ask: Ask<'a>) -> Self {
        Self {
            client,
            url,
            ask,
            shown: Location::Http(url.clone()).shown(),
            at: 0,
            best: 0,
            restarts: 0,
            total: None,
            mark: None,
            head: None,
            beginning: Vec::new(),
            oddity: None,
        }
    }

    /// Transfers it, and tries again as long as that makes sense.
    pub(super) async fn run(mut self, mut each: impl FnMut(Piece<'_>) -> Result<()>) -> Result<End> {
        let settings = self.client.line(self.url)?.settings;
        let mut tries = 0;
        loop {
            let failure = match self.attempt(&mut each).await {
                Ok(end) => return Ok(end),
                Err(failure) => failure,
            };
            let asked = match failure.again {
                Again::Never => return Err(failure.error),
                Again::After(wait) => wait,
                Again::Later | Again::Slow => Duration::ZERO,
            };
            if failure.again != Again::Slow && self.at >= self.best + PROGRESS_BYTES {
                self.best = self.at;
                tries = 0;
            }
            tries += 1;
            if tries > settings.retries() || self.restarts > settings.retries() {
                return Err(self.given_up(failure.error, tries));
            }
            tokio::time::sleep(backoff(settings.retry_base(), tries).max(asked)).await;
        }
    }

    fn given_up(&self, mut error: Error, tries: u32) -> Error {
        if let Some(oddity) = self.oddity {
            error.message = format!("{}; asked for the rest, {oddity}", error.message);
        }
        if tries > 1 || self.restarts > 0 {
            error.message = format!("{} (tried {} times)", error.message, tries.max(self.restarts + 1));
        }
        error
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: Option<&str>| {
            if let Some(value) = value.and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        };
        set(ACCEPT, self.ask.accept);
        set(ACCEPT_ENCODING, Some("identity"));
        if self.at > 0 {
            set(RANGE, Some(&format!("bytes={}-", self.at)));
            set(IF_RANGE, self.mark.as_deref());
        } else {
            set(IF_NONE_MATCH, self.ask.validator.and_then(Validator::usable_etag));
            set(IF_MODIFIED_SINCE, self.ask.validator.and_then(|v| v.last_modified.as_deref()));
        }
        headers
    }

    async fn attempt(&mut self, each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Tried<End> {
        if self.at > 0 && self.mark.is_none() {
            self.restart(each)?;
        }
        let reply = self.client.exchange(self.url, &self.headers()).await?;
        let (status, headers) = (reply.response.status(), reply.response.headers());
        match status.as_u16() {
            200 => {
                // A piece was asked for, and the whole comes: it is another version, or there are no pieces.
                if self.at > 0 {
                    self.restart(each)?;
                }
                self.begin(&reply)?;
            }
            206 if self.at > 0 => {
                if let Some(oddity) = self.why_not_the_rest(headers) {
                    return self.odd(oddity, each);
                }
            }
            416 if self.at > 0 => {
                let total = answer::content_range(headers).and_then(|r| r.total);
                return match self.head.take().filter(|_| total == Some(self.at) && self.total.is_none()) {
                    Some(head) => self.finish(head),
                    None => self.odd("it says that there is no rest", each),
                };
            }
            304 if self.at == 0 && self.ask.validator.is_some() => return Ok(End::NotModified),
            code => {
                let now = self.client.station.now().await?;
                let busy = self.ask.refuses_when_busy.then(|| busy(reply.line.settings.retry_base()));
                let failure = refused(&self.shown, status, headers, now, busy);
                return if matches!(code, 404 | 410) { Ok(End::Absent(failure.error)) } else { Err(failure) };
            }
        }
        let head = self.head.clone();
        self.drain(reply, each).await?;
        match head {
            Some(head) => self.finish(head),
            None => Err(Error::fault(format!("{}: a body without a beginning", self.shown)).into()),
        }
    }

    /// Forgets what came.
    fn restart(&mut self, each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        self.at = 0;
        self.restarts += 1;
        (self.total, self.mark, self.head) = (None, None, None);
        self.beginning.clear();
        each(Piece::Restart)
    }

    /// The upstream cannot continue: it comes from its beginning, and in one.
    fn odd(&mut self, oddity: &'static str, each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Tried<End> {
        self.oddity = Some(oddity);
        let error = Error::fault(format!("{}: the answer broke off after {} bytes", self.shown, self.at));
        self.restart(each)?;
        Err(Failure::later(error.hint("run it again later; if it stays so, ask the upstream's operator")))
    }

    /// Notes the head of an answer that brings the whole file.
    fn begin(&mut self, reply: &Reply) -> Result<()> {
        let headers = reply.response.headers();
        if let Some(encoding) = answer::foreign_encoding(headers, &reply.url) {
            return Err(Error::fault(format!(
                "{}: it comes encoded as `{encoding}`, which was not asked for",
                self.shown
            ))
            .hint("the upstream, or a proxy before it, changes what it passes on: tell its operator"));
        }
        self.total = answer::length(headers);
        if self.total.is_some_and(|n| n > self.ask.bytes_max) {
            return Err(too_long(&self.shown, self.ask.bytes_max));
        }
        self.mark = answer::strong_mark(headers).filter(|_| self.oddity.is_none());
        self.head = Some(Head {
            validator: Validator::of(headers),
            media: answer::media(headers),
            url: reply.url.clone(),
        });
        Ok(())
    }

    /// Why a `206` is not the rest of what is here, if it is not.
    fn why_not_the_rest(&self, headers: &HeaderMap) -> Option<&'static str> {
        let range = answer::content_range(headers);
        let Some((first, _)) = range.and_then(|r| r.span) else {
            return Some("it does not say which bytes it sends");
        };
        let other_total =
            range.and_then(|r| r.total).is_some_and(|now| self.total.is_some_and(|before| before != now));
        let other_mark = answer::strong_mark(headers).is_some_and(|mark| Some(&mark) != self.mark.as_ref());
        if first != self.at {
            Some("it sends other bytes")
        } else if other_total || other_mark {
            Some("it sends those of another version: the file changes while it is fetched")
        } else if headers.contains_key(reqwest::header::CONTENT_ENCODING) {
            Some("it sends them encoded")
        } else {
            None
        }
    }

    /// Reads a body to its end.
    async fn drain(&mut self, mut reply: Reply, each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Tried<()> {
        let settings = reply.line.settings.clone();
        let mut pace = Pace::new(settings.slowest());
        let silence = settings.read_timeout();
        let again = |text: String| Failure::later(Error::fault(text).hint("run it again later"));
        loop {
            let asked = Instant::now();
            let next = timeout(silence, reply.response.chunk()).await;
            let (shown, at) = (&self.shown, self.at);
            let chunk = match next {
                Err(_) => {
                    return Err(again(format!("{shown}: nothing came for {silence:?} after {at} bytes")));
                }
                Ok(Err(e)) => {
                    let why = chain(&e.without_url());
                    return Err(again(format!("{shown}: the answer broke off after {at} bytes: {why}")));
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
            };
            self.take(&chunk, each)?;
            if let Some(rate) = pace.too_slow(asked.elapsed(), chunk.len() as u64) {
                let error = Error::fault(format!("{}: it only drips, {rate} bytes per second", self.shown))
                    .hint("try again when the network is better, or lower `slowest_bytes_per_second`");
                return Err(Failure { error, again: Again::Slow });
            }
            if let Some((rate, scope)) = settings.bytes_per_second() {
                let wait = self.client.station.traffic.came(scope, rate, chunk.len() as u64, Instant::now());
                tokio::time::sleep(wait).await;
            }
        }
        match self.total {
            Some(n) if n != self.at => {
                Err(again(format!("{}: {} bytes came, {n} were announced", self.shown, self.at)))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, chunk: &[u8], each: &mut impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        self.at += chunk.len() as u64;
        if self.at > self.ask.bytes_max || self.total.is_some_and(|n| self.at > n) {
            return Err(too_long(&self.shown, self.total.unwrap_or(self.ask.bytes_max)));
        }
        let missing = SNIFF_BYTES - self.beginning.len();
        if missing > 0 {
            self.beginning.extend_from_slice(chunk.get(..missing).unwrap_or(chunk));
            if self.beginning.len() == SNIFF_BYTES {
                self.check_page()?;
            }
        }
        each(Piece::Bytes(chunk))
    }

    /// Refuses a page for people where none was asked for.
    fn check_page(&self) -> Result<()> {
        let media = self.head.as_ref().map_or("", |head| head.media.as_str());
        let asked_for = self.ask.accept.is_some_and(|accept| accept.contains("html"));
        if asked_for || !answer::is_page(&self.beginning, media) {
            return Ok(());
        }
        Err(Error::fault(format!("{}: a page for people came (HTML), not the file", self.shown))
            .hint("a network that wants a login, or a proxy, may answer in the upstream's place: log in or name the proxy; else check the address"))
    }

    /// The file is here.
    fn finish(&self, head: Head) -> Tried<End> {
        if self.beginning.len() < SNIFF_BYTES {
            self.check_page()?;
        }
        Ok(End::Whole(head))
    }
}

/// What comes per second, over windows of waiting. The time that this station itself takes does not count.
struct Pace {
    slowest: u64,
    window: Duration,
    waited: Duration,
    came: u64,
}

impl Pace {
    const fn new((slowest, window): (u64, Duration)) -> Self {
        Self { slowest, window, waited: Duration::ZERO, came: 0 }
    }

    /// Notes what came after waiting so long; gives bytes per second when a window is full and they are too few.
    fn too_slow(&mut self, waited: Duration, bytes: u64) -> Option<u64> {
        self.waited += waited;
        self.came += bytes;
        if self.waited < self.window {
            return None;
        }
        let rate = u128::from(self.came) * 1000 / self.waited.as_millis().max(1);
        (self.waited, self.came) = (Duration::ZERO, 0);
        u64::try_from(rate).ok().filter(|rate| *rate < self.slowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_measured_over_windows_of_waiting() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new((512, 60 * second));
        // A link of 600 bytes a second is slow and not too slow; a minute of 500 is.
        assert!((0..600).all(|_| pace.too_slow(second, 600).is_none()));
        let found: Vec<u64> = (0..60).filter_map(|_| pace.too_slow(second, 500)).collect();
        assert_eq!(found, [500]);
        // One fast window does not pay for the next.
        assert!((0..60).all(|_| pace.too_slow(second, 1 << 20).is_none()));
        assert_eq!((0..60).filter_map(|_| pace.too_slow(second, 1)).count(), 1);
        let mut never = Pace::new((0, second));
        assert!((0..100).all(|_| never.too_slow(second, 0).is_none()));
    }
}
