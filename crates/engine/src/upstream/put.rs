//! Handing files over with PUT.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Body, Response, Url};

use super::exchange::{Line, failed};
use super::patience::{Again, Failure, PROXY_HINT, Tried, backoff};
use super::{Client, Location};
use crate::error::{Error, Result, file_error, joined};

/// Bytes that are read and sent at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Between two looks at whether anything goes on.
const LOOK: Duration = Duration::from_secs(1);
/// So long what was handed over may be on its way to the system, where the answer came before the end.
const FLUSH: Duration = Duration::from_millis(500);

/// What is handed over: a file from a byte on.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The file.
    pub file: File,
    /// The first byte.
    pub from: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Bytes in a second at most that all uploads of a station have together.
    pub rate: Option<u64>,
    /// The answer does not count, but for what a proxy says of itself.
    pub is_blind: bool,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub status: u16,
    /// The body, as far as it was wanted.
    pub text: String,
}

/// How much of a body was handed to the connection.
#[derive(Default)]
struct Given {
    bytes: AtomicU64,
}

impl Client {
    /// Puts a file to an address, once. Of the answer no more is read than `most` bytes. None came where that does not count.
    pub(crate) async fn put(&self, url: &Url, upload: Upload, most: u64) -> Tried<Option<Reply>> {
        let shown = Location::Http(url.clone()).shown();
        self.reach.check(url, None).map_err(|e| e.while_(&shown))?;
        let (line, to) = (self.line(url)?, self.reach.with_credentials(url));
        let host =
            format!("{}:{}", to.host_str().unwrap_or_default(), to.port_or_known_default().unwrap_or(0));
        let _place = self.station.traffic.place(&host, line.settings.connections_per_host()).await;
        let (length, is_blind) = (upload.total.saturating_sub(upload.from), upload.is_blind);
        let mut request = line.http().put(to).header(CONTENT_LENGTH, length);
        if upload.from > 0 {
            let range = format!("bytes {}-{}/{}", upload.from, upload.total.saturating_sub(1), upload.total);
            request = request.header(CONTENT_RANGE, range);
        }
        let given = Arc::new(Given::default());
        let body = self.body(upload, &line, given.clone()).await?;
        let patience = line.settings.connect_timeout() + line.settings.read_timeout();
        let sent = watched(request.body(body).send(), &given, patience).await;
        let is_all = || given.bytes.load(Ordering::Relaxed) >= length;
        let response = match sent {
            Some(Ok(response)) => response,
            _ if is_blind && is_all() => return Ok(None),
            Some(Err(error)) => return Err(failed(&shown, &line.settings.proxy(), error)),
            None => {
                let text = format!("{shown}: nothing went on for {patience:?}");
                return Err(Failure::later(Error::fault(text).hint("run it again later")));
            }
        };
        if response.status().as_u16() == 407 {
            let text = format!("{shown}: the proxy wants a user and a password, and takes none or not these");
            return Err(Failure { error: Error::fault(text).hint(PROXY_HINT), again: Again::Never });
        }
        if is_blind {
            return outlasted(&shown, is_all, &given, patience).await.map(|()| None);
        }
        reply(response, most).await.map(Some).map_err(|e| failed(&shown, &line.settings.proxy(), e))
    }

    /// How long to wait before the try of this number to reach an address, of which the first after a failure is 1; none: it was
    /// tried often enough.
    pub(crate) fn wait_before(&self, url: &Url, number: u32) -> Result<Option<Duration>> {
        let settings = self.line(url)?.settings;
        Ok((number <= settings.retries()).then(|| backoff(settings.retry_base(), number)))
    }

    /// The bytes of an upload, no faster than they may go.
    async fn body(&self, upload: Upload, line: &Line, given: Arc<Given>) -> Result<Body> {
        let configured = line.settings.bytes_per_second().map(|(rate, scope)| (rate, scope.to_owned()));
        let rate = upload.rate.map(|rate| (rate, "send".to_owned())).or(configured);
        let (traffic, from, total) = (self.station.traffic.clone(), upload.from, upload.total);
        let mut file = upload.file;
        file.seek(SeekFrom::Start(from)).map_err(file_error("the file that is sent"))?;
        let next = move |(file, left): (File, u64)| {
            let (traffic, rate, given) = (traffic.clone(), rate.clone(), given.clone());
            async move {
                if left == 0 {
                    return Ok::<_, Error>(None);
                }
                let (file, chunk) = joined(tokio::task::spawn_blocking(move || chunk(file, left)).await)?;
                let bytes = chunk.len() as u64;
                if let Some((rate, scope)) = &rate {
                    tokio::time::sleep(traffic.came(scope, *rate, bytes, Instant::now())).await;
                }
                given.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(Some((chunk, (file, left - bytes))))
            }
        };
        Ok(Body::wrap_stream(futures_util::stream::try_unfold((file, total.saturating_sub(from)), next)))
    }
}

/// The next bytes of a file, of which so many are left.
fn chunk(mut file: File, left: u64) -> Result<(File, Vec<u8>)> {
    let most = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let mut bytes = vec![0; most];
    file.read_exact(&mut bytes).map_err(file_error("the file that is sent"))?;
    Ok((file, bytes))
}

/// What comes of a request, unless nothing goes on for too long.
async fn watched<T>(sending: impl Future<Output = T>, given: &Given, patience: Duration) -> Option<T> {
    let mut sending = pin!(sending);
    let mut last = (0, Instant::now());
    loop {
        tokio::select! {
            sent = &mut sending => return Some(sent),
            () = tokio::time::sleep(LOOK) => {}
        }
        let bytes = given.bytes.load(Ordering::Relaxed);
        if bytes != last.0 {
            last = (bytes, Instant::now());
        } else if last.1.elapsed() >= patience {
            return None;
        }
    }
}

/// Waits for the rest of a body whose answer was given before its end.
async fn outlasted(shown: &str, is_all: impl Fn() -> bool, given: &Given, patience: Duration) -> Tried<()> {
    if is_all() {
        return Ok(());
    }
    let rest = async {
        while !is_all() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(FLUSH).await;
    };
    watched(rest, given, patience).await.ok_or_else(|| {
        let text = format!("{shown}: the connection ended before all was handed over");
        Failure::later(Error::fault(text).hint("run it again later"))
    })
}

async fn reply(mut response: Response, most: u64) -> reqwest::Result<Reply> {
    let (status, mut bytes) = (response.status().as_u16(), Vec::new());
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > most {
            break;
        }
    }
    Ok(Reply { status, text: String::from_utf8_lossy(&bytes).into_owned() })
}
