//! What tests share: a station in a temporary directory with a clock that stands still, and sources to fill it
//! from. Never a normal dependency.
//!
//! Everything here panics when it fails, which is what a test wants of its preparations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

pub mod archives;
pub mod bundles;
pub mod fuzz;
pub mod relay;
mod sources;
pub mod tamper;
pub mod wire;

pub use sources::{CondaSource, PypiSource, UPLOADED, conda, osv, sdist, wheel};

use std::io::Write as _;
use std::path::{Path, PathBuf};

use airlock_core::advisory::FeedKind;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::time::{Span, Time};
use airlock_engine::judge::How;
use airlock_engine::network::Period;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options, Side, Station};
use airlock_engine::sync::{self, Outcome};
use airlock_engine::view::View;
use airlock_engine::{channel, decide, feeds};
use serde_json::Value;
use tempfile::TempDir;

/// The moment at which a kit's clock stands in the beginning.
pub const NOW: &str = "2026-03-01T12:00:00Z";

/// The variable that names a file into which each test writes what it left out.
pub const SKIPPED: &str = "AIRLOCK_TESTS_SKIPPED";
/// The variable that makes it a failure to leave anything out.
pub const COMPLETE: &str = "AIRLOCK_TESTS_COMPLETE";

/// Says that a test looks at less than it could, for which it has a reason: nobody reads what a test that passes prints.
pub fn skipped(what: &str) {
    println!("skipped: {what}");
    assert!(std::env::var_os(COMPLETE).is_none(), "{COMPLETE} is set, and this was left out: {what}");
    let Some(path) = std::env::var_os(SKIPPED) else { return };
    let thread = std::thread::current();
    let line = format!("{}: {what}\n", thread.name().unwrap_or("a test"));
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    // A line is written at once, so that those of several tests stay whole.
    file.unwrap().write_all(line.as_bytes()).unwrap();
}

/// A station and the directory that holds it, its sources and its feeds.
pub struct Kit {
    dir: TempDir,
    /// The station. It has the default policy.
    pub station: Station,
}

impl Kit {
    /// A connected station that knows the OSV records given.
    pub async fn new(records: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            clock: Clock::Fixed(NOW.parse().unwrap()),
            actor: "tester".to_owned(),
            threads: 2,
            progress: Progress::default(),
        };
        let mut station =
            Station::init(&dir.path().join("station"), "test", Side::Connected, options).await.unwrap();
        // Tests wait for nothing.
        station.config.network.all.retry_base = Some(Period::milliseconds(1));
        let kit = Self { dir, station };
        feeds::add(&kit.station, FeedKind::Osv, &kit.write_records(records)).await.unwrap();
        feeds::update(&kit.station, &[]).await.unwrap();
        kit
    }

    fn write_records(&self, records: &[Value]) -> String {
        // A feed without any record is refused, so that there is always one that concerns nothing.
        let filler = osv("TEST-0", "PyPI", "nothing-of-this-name", "1", 0.0);
        let lines: String = records.iter().chain([&filler]).map(|r| format!("{r}\n")).collect();
        self.write("osv.jsonl", lines.as_bytes()).display().to_string()
    }

    /// The temporary directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below the temporary directory.
    pub fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Span) {
        let Clock::Fixed(now) = self.station.options.clock else { panic!("the clock runs") };
        self.station.options.clock = Clock::Fixed(now.after(span));
    }

    /// The time.
    pub async fn now(&self) -> Time {
        self.station.now().await.unwrap()
    }

    /// Replaces what the station knows of vulnerabilities; nothing is judged yet.
    pub async fn know(&self, records: &[Value]) {
        self.write_records(records);
        feeds::update(&self.station, &[]).await.unwrap();
    }

    /// Tells under which PyPI name a conda package goes.
    pub async fn identify(&self, names: &Value) {
        let path = self.write("identities.json", names.to_string().as_bytes());
        feeds::add(&self.station, FeedKind::Identities, &path.display().to_string()).await.unwrap();
        feeds::update(&self.station, &[]).await.unwrap();
    }

    /// A conda source in a directory of this name.
    pub fn conda_source(&self, name: &str) -> CondaSource {
        CondaSource::new(self.path().join(name))
    }

    /// A PyPI source in a directory of this name.
    pub fn pypi_source(&self, name: &str) -> PypiSource {
        PypiSource::new(self.path().join(name))
    }

    /// Adds a channel that is fed by a directory.
    pub async fn add_channel(
        &self,
        name: &str,
        ecosystem: Ecosystem,
        source: &Path,
        subdirs: &[&str],
    ) -> Channel {
        let feed = ChannelFeed::Source {
            location: source.display().to_string(),
            subdirs: subdirs.iter().map(|s| (*s).to_owned()).collect(),
            only: Vec::new(),
            exclude: Vec::new(),
        };
        let channel = Channel { name: name.to_owned(), ecosystem, feed, policy: "default".to_owned() };
        channel::add(&self.station, channel).await.unwrap()
    }

    /// Mirrors, judges, fetches and publishes a channel.
    pub async fn sync(&self, name: &str) -> Outcome {
        let channel = channel::find(&self.station, name).await.unwrap();
        sync::sync(&self.station, &channel, sync::Wish::default()).await.unwrap()
    }

    /// Judges a channel with what is known now, and publishes.
    pub async fn judge(&self, name: &str) -> Outcome {
        let channel = channel::find(&self.station, name).await.unwrap();
        sync::rejudge(&self.station, &channel, &How::default(), false, "test").await.unwrap()
    }

    /// Blocks without judging.
    pub async fn block(&self, name: &str, spec: &str) {
        let channel = channel::find(&self.station, name).await.unwrap();
        decide::block(&self.station, &channel, spec, "a test says so").await.unwrap();
    }

    /// A fresh look at the station.
    pub fn view(&self) -> View {
        View::new(self.station.clone())
    }
}
