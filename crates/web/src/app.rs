//! What every handler works with, and everything that is remembered between requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use airlock_core::id::Digest;
use airlock_engine::downloads::Log;
use airlock_engine::error::Error;
use airlock_engine::view::View;
use axum::body::Bytes;

use crate::flight::Flights;
use crate::hot::Hot;
use crate::pages::Indexes;
use crate::respond::Streams;

/// How much is remembered of indexes of older snapshots, in bytes.
const OLDER_BYTES_MAX: usize = 128 << 20;
/// How much is remembered of rendered shards, in bytes.
const SHARD_BYTES_MAX: usize = 32 << 20;
/// How much is remembered of names of shards, in bytes.
const NAMES_BYTES_MAX: usize = 16 << 20;
/// How much is remembered of rendered pages of the Simple API, in bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// How much is held of large indexes while many ask for them, in bytes.
const INDEX_BYTES_MAX: usize = 64 << 20;
/// Whole channels that are read or rendered at the same time: each may need much memory.
const WHOLE_AT_ONCE: usize = 1;
/// Single shards and pages that are rendered at the same time.
const SMALL_AT_ONCE: usize = 4;
/// Names of shards that are looked up in the database at the same time. Whoever makes names up waits for his like,
/// and leaves connections to the database to others.
const NAMED_AT_ONCE: usize = 2;

/// The indexes of one snapshot by path, with their hashes.
pub(crate) type Files = Arc<BTreeMap<String, (Digest, Bytes)>>;
/// Rendered hash to shard, of one subdir of one content.
pub(crate) type Names = Arc<BTreeMap<Digest, Digest>>;

/// What every handler works with.
pub struct App {
    /// The station.
    pub view: View,
    /// The proxies before this server: their word is taken for how a client reached them.
    pub(crate) proxies: Vec<IpAddr>,
    /// Where downloads are noted.
    pub(crate) downloads: Option<Log>,
    pub(crate) hot: Hot,
    pub(crate) older: Arc<Flights<Digest, Files>>,
    pub(crate) shards: Arc<Flights<Digest, Bytes>>,
    pub(crate) names: Arc<Flights<Digest, Names>>,
    pub(crate) pages: Arc<Flights<Digest, (Digest, Bytes)>>,
    pub(crate) indexes: Arc<Flights<Digest, Bytes>>,
    pub(crate) rows: Indexes,
    pub(crate) naming: tokio::sync::Semaphore,
    pub(crate) streams: Arc<Streams>,
}

impl App {
    /// Serves a station. `proxies` are believed in what they say of how a client reached them.
    pub fn new(view: View, proxies: Vec<IpAddr>) -> Self {
        Self {
            view,
            proxies,
            downloads: None,
            hot: Hot::new(),
            older: Flights::new(OLDER_BYTES_MAX, WHOLE_AT_ONCE),
            shards: Flights::new(SHARD_BYTES_MAX, SMALL_AT_ONCE),
            names: Flights::new(NAMES_BYTES_MAX, WHOLE_AT_ONCE),
            pages: Flights::new(PAGE_BYTES_MAX, SMALL_AT_ONCE),
            indexes: Flights::new(INDEX_BYTES_MAX, WHOLE_AT_ONCE),
            rows: Indexes::default(),
            naming: tokio::sync::Semaphore::new(NAMED_AT_ONCE),
            streams: Arc::default(),
        }
    }

    /// Notes in this log who was sent what.
    #[must_use]
    pub fn noting(mut self, downloads: Option<Log>) -> Self {
        self.downloads = downloads;
        self
    }

    /// Forgets what has not been asked for lately. To be called every [`TIDY`](crate::TIDY).
    pub fn tidy(&self) {
        self.hot.tidy();
        self.older.memo().tidy();
        self.shards.memo().tidy();
        self.names.memo().tidy();
        self.pages.memo().tidy();
        self.indexes.memo().tidy();
    }
}

/// Runs work that keeps a processor busy where it holds up no other request.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten();
    done.map_err(|e| Error::fault(format!("{what} cannot be prepared: {e}")))
}
