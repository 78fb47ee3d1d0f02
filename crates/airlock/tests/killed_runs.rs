//! Commands that are killed at any moment, or whose disk is full: run again, they end where an undisturbed run ends.
//!
//! `AIRLOCK_KILLS` says how often each is killed, `AIRLOCK_SEED` when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use airlock_testkit::{Kit, conda, osv, wheel};
use common::{NOW, Station, files, kills};
use serde_json::{Value, json};

/// Packages in each source.
const PACKAGES: usize = 24;
/// Bytes in each package.
const PAYLOAD: usize = 20_000;
/// Kills in a row before a run is let to its end.
const IN_A_ROW: u32 = 4;

/// Pseudo-random numbers (xorshift), so that a seed tells when everything was killed.
struct Dice(u64);

impl Dice {
    /// Says on failure how it was thrown.
    fn new() -> Self {
        let clock = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap()
        };
        let seed = std::env::var("AIRLOCK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock);
        println!("AIRLOCK_SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A moment within a span.
    fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.next() % u64::try_from(span.as_micros()).unwrap().max(1))
    }
}

/// Sources and a feed.
struct Sources {
    kit: Kit,
}

impl Sources {
    async fn new() -> Self {
        let sources = Self { kit: Kit::new(&[]).await };
        sources.fill(PACKAGES);
        sources.know("2.0");
        sources
    }

    /// Two sources with so many packages each.
    fn fill(&self, count: usize) {
        let mut dice = Dice(7);
        let payload: Vec<u8> = (0..PAYLOAD).map(|_| dice.next().to_le_bytes()[0]).collect();
        let content: [(&str, &[u8]); 1] = [("share/data.bin", &payload)];
        let (mut conda_source, mut pypi) = (self.kit.conda_source("conda"), self.kit.pypi_source("pypi"));
        for n in 0..count {
            let (name, project) = (format!("package{n}"), format!("project{n}"));
            let mut package = conda(&name, "1.0");
            package.files = &content;
            conda_source.add(&package, &json!({}));
            pypi.add_wheel(&wheel(&project, "1.0"), &json!({}));
        }
        conda_source.write();
        pypi.write();
    }

    /// What the feed says: the first projects are vulnerable before this version.
    fn know(&self, fixed: &str) {
        let records = (0..PACKAGES / 2).map(|n| {
            let name = format!("project{n}");
            osv(&format!("PYSEC-{n}"), "PyPI", &name, if n % 2 == 0 { fixed } else { "0.1" }, 7.5)
        });
        let lines: String = records.map(|r| format!("{r}\n")).collect();
        self.kit.write("feeds/osv.jsonl", lines.as_bytes());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.kit.path().join(name)
    }

    /// A station with channels and a feed that was read, not synced yet.
    fn station(&self, dir: &Path) -> Station {
        common::airlock(&["init", dir.to_str().unwrap(), "--name", "low", "--now", NOW, "--quiet"]).exits(0);
        let station = Station { dir: dir.to_owned() };
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        station.run(&["advisories", "add", "osv", &text("feeds/osv.jsonl")]).exits(0);
        station.run(&["advisories", "update"]).exits(0);
        for (name, ecosystem, source) in [("main", "conda", "conda"), ("py", "pypi", "pypi")] {
            station
                .run(&["channel", "add", name, "--ecosystem", ecosystem, "--source", &text(source)])
                .exits(0);
        }
        station
    }

    /// A copy of a station at rest.
    fn copy(&self, station: &Station, name: &str) -> Station {
        let dir = self.path(name);
        let status = Command::new("cp").arg("-a").args([&station.dir, &dir]).status().unwrap();
        assert!(status.success());
        Station { dir }
    }
}

/// Starts a command and kills it; whether it had ended before.
fn kill(station: &Station, args: &[&str], after: Duration) -> bool {
    let mut child = station.start(args);
    std::thread::sleep(after);
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

/// What counts of every channel.
fn published(station: &Station) -> Vec<Value> {
    let show = |channel: &str| {
        let shown = station.json(&["snapshot", "show", channel]);
        json!([shown["content"], shown["judgement"], shown["counts"]])
    };
    vec![show("main"), show("py")]
}

fn is_whole(station: &Station) {
    let report = station.run(&["--json", "fsck"]);
    assert_eq!(report.status, 0, "{report:?}");
    assert_eq!(report.json()["damages"], json!([]), "{report:?}");
}

/// Everything that a killed run may have left goes, and nothing that counts.
fn is_swept(station: &Station) {
    station.run(&["gc", "--grace", "0s"]).exits(0);
    let left = files(&station.dir.join("blobs/staging"));
    assert!(left.is_empty(), "{left:?}");
    is_whole(station);
}

/// Kills `args` again and again on copies of `prepared`, each of which ends where `wanted` says.
fn survives(sources: &Sources, prepared: &Station, args: &[&str], took: Duration, wanted: &[Value]) {
    let mut dice = Dice::new();
    let mut early = 0;
    for round in 0..kills().div_ceil(IN_A_ROW) {
        let station = sources.copy(prepared, &format!("{}-{round}", args[0]));
        for _ in 0..IN_A_ROW {
            early += usize::from(!kill(&station, args, dice.within(took)));
        }
        station.run(args).exits(0);
        assert_eq!(published(&station), wanted, "round {round}");
        is_whole(&station);
        is_swept(&station);
        assert_eq!(published(&station), wanted, "round {round}, swept");
        std::fs::remove_dir_all(&station.dir).unwrap();
    }
    assert!(early > 0, "no run was killed before its end");
}

/// Runs a command to its end, and says how long that takes.
fn timed(station: &Station, args: &[&str]) -> Duration {
    let began = Instant::now();
    station.run(args).exits(0);
    began.elapsed()
}

#[tokio::test]
async fn a_sync_that_is_killed_ends_where_an_undisturbed_one_ends() {
    let sources = Sources::new().await;
    let prepared = sources.station(&sources.path("prepared"));
    let calm = sources.copy(&prepared, "calm");
    let took = timed(&calm, &["sync"]);
    is_whole(&calm);
    let wanted = published(&calm);
    assert_eq!(wanted[1][2]["deny"], PACKAGES / 4, "{wanted:?}");
    survives(&sources, &prepared, &["sync"], took, &wanted);
}

#[tokio::test]
async fn judging_what_became_known_survives_being_killed() {
    let sources = Sources::new().await;
    let prepared = sources.station(&sources.path("prepared"));
    prepared.run(&["sync"]).exits(0);
    let before = published(&prepared);
    // The other half of the records changes, and with it what is denied.
    sources.know("0.1");
    let calm = sources.copy(&prepared, "calm");
    let took = timed(&calm, &["advisories", "update"]);
    timed(&calm, &["judge"]);
    let wanted = published(&calm);
    assert_ne!(before, wanted);
    survives(&sources, &prepared, &["advisories", "update"], took, &wanted);
}

#[tokio::test]
async fn collecting_that_is_killed_leaves_garbage_and_never_a_hole() {
    let sources = Sources::new().await;
    let prepared = sources.station(&sources.path("prepared"));
    let config = prepared.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let short = format!("{text}\n[retention]\nsnapshots = \"0 days\"\nat_least = 1\n");
    std::fs::write(&config, &short).unwrap();
    for count in [4, PACKAGES / 2, PACKAGES] {
        for name in ["conda", "pypi"] {
            std::fs::remove_dir_all(sources.path(name)).unwrap();
        }
        sources.fill(count);
        prepared.run(&["sync"]).exits(0);
    }
    sources.know("0.1");
    prepared.run(&["advisories", "update"]).exits(0);
    let wanted = published(&prepared);
    let calm = sources.copy(&prepared, "calm");
    let args = ["gc", "--grace", "0s"];
    let took = timed(&calm, &args);
    let mut dice = Dice::new();
    for round in 0..kills().div_ceil(IN_A_ROW) {
        let station = sources.copy(&prepared, &format!("gc-{round}"));
        for _ in 0..IN_A_ROW {
            kill(&station, &args, dice.within(took));
            is_whole(&station);
            // What was let go stays so where the rule is made longer in between.
            std::fs::write(station.dir.join("airlock.toml"), &text).unwrap();
            is_whole(&station);
            std::fs::write(station.dir.join("airlock.toml"), &short).unwrap();
        }
        is_swept(&station);
        assert_eq!(published(&station), wanted);
        station.run(&["sync"]).exits(0);
        station.run(&["judge"]).exits(0);
        is_whole(&station);
        std::fs::remove_dir_all(&station.dir).unwrap();
    }
}

/// A small disk in memory; none where this user may not make one.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path).then_some(Self(path))
    }

    fn resize(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], &self.0));
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    let mount = Command::new("mount").args(args).arg(path).stderr(Stdio::null()).status();
    mount.is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_fills_stops_a_sync_which_goes_on_when_there_is_room() {
    let sources = Sources::new().await;
    let Some(disk) = Disk::new(sources.path("disk"), "64m") else {
        airlock_testkit::skipped("a disk that fills, because this user may not mount one");
        return;
    };
    let calm = sources.station(&sources.path("calm"));
    calm.run(&["sync"]).exits(0);
    let station = sources.station(&disk.0.join("station"));
    let used: u64 = files(&station.dir).values().sum();
    for room in [100_000, 300_000, 500_000] {
        disk.resize(&(used + room).to_string());
        let full = station.run(&["sync"]).exits(4);
        assert!(full.stderr.contains("disk"), "{full:?}");
        assert!(full.stderr.contains("hint"), "{full:?}");
    }
    disk.resize("64m");
    station.run(&["sync"]).exits(0);
    assert_eq!(published(&station), published(&calm));
    is_whole(&station);
    is_swept(&station);
}
