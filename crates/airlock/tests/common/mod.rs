//! Stations driven by the real command line, on sources that the tests make.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod clients;
pub mod disk;
pub mod sealed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airlock_core::id::Digest;
use airlock_testkit::{Kit, conda, osv, wheel};
use serde_json::{Value, json};

/// The moment at which every command believes to run.
pub const NOW: &str = "2026-03-01T12:00:00Z";

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The JSON on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The answer, which must have this exit status.
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The answer, which must have this on stdout.
    pub fn shows(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected `{text}` in: {}\n{}", self.stdout, self.stderr);
        self
    }

    /// The answer, which must say this on stderr.
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` in: {}", self.stderr);
        self
    }
}

/// Runs the command line.
pub fn airlock(args: &[&str]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_airlock"))
        .args(args)
        .env_remove("AIRLOCK_STATION")
        .env("USER", "ada")
        .output()
        .unwrap();
    Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Packages of a large world beside its others, and the bytes of each: enough that a run takes a while.
const PACKAGES: usize = 40;
const PAYLOAD: usize = 400_000;

/// Numbers that look random and are the same every time.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }

    pub fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(span.as_micros()).unwrap()))
    }
}

/// A source of conda packages and one of wheels, feeds, and room for stations.
pub struct World {
    pub kit: Kit,
}

/// One station of a world.
pub struct Station {
    pub dir: PathBuf,
}

impl World {
    /// idna 3.6 is vulnerable above 7 and 3.10 is not; requests 1.0 has a vulnerability without a score.
    pub async fn new() -> Self {
        let kit = Kit::new(&[]).await;
        let mut channel = kit.conda_source("conda");
        let mut index = kit.pypi_source("pypi");
        for (name, version) in
            [("idna", "3.6"), ("idna", "3.10"), ("requests", "1.0"), ("requests", "2.0"), ("other", "1.0")]
        {
            channel.add(&conda(name, version), &json!({}));
            index.add_wheel(&wheel(name, version), &json!({}));
        }
        channel.write();
        index.write();
        let world = Self { kit };
        world.know(&[
            osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
            osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0),
        ]);
        world.kit.write("feeds/identities.json", br#"{"idna":"idna","requests":"requests"}"#);
        world
    }

    /// A world whose conda channel takes a while to carry.
    pub async fn large() -> Self {
        Self::with_noise(PACKAGES, PAYLOAD).await
    }

    /// A world with so many packages more, of so many bytes each that nobody packs.
    pub async fn with_noise(packages: usize, bytes: usize) -> Self {
        let world = Self::new().await;
        let mut source = world.kit.conda_source("conda");
        let mut dice = Dice(7);
        for n in 0..packages {
            let payload: Vec<u8> = (0..bytes / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
            let content: [(&str, &[u8]); 1] = [("share/data.bin", &payload)];
            let name = format!("large{n}");
            let mut package = conda(&name, "1.0");
            package.files = &content;
            source.add(&package, &json!({}));
        }
        source.write();
        world
    }

    /// Replaces what the feed says.
    pub fn know(&self, records: &[Value]) {
        let lines: String = records.iter().map(|r| format!("{r}\n")).collect();
        self.kit.write("feeds/osv.jsonl", lines.as_bytes());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.kit.path().join(name)
    }

    /// A new station.
    pub fn station(&self, name: &str, side: &str) -> Station {
        let dir = self.path(name);
        airlock(&["init", dir.to_str().unwrap(), "--name", name, "--side", side, "--now", NOW]).exits(0);
        Station { dir }
    }

    /// A connected station with feeds and channels, not synced yet.
    pub fn connected(&self, name: &str) -> Station {
        let station = self.station(name, "connected");
        let feeds = self.path("feeds");
        station.run(&["advisories", "add", "osv", feeds.join("osv.jsonl").to_str().unwrap()]).exits(0);
        station
            .run(&["advisories", "add", "identities", feeds.join("identities.json").to_str().unwrap()])
            .exits(0);
        let (conda, pypi) = (self.path("conda"), self.path("pypi"));
        station
            .run(&["channel", "add", "main", "--ecosystem", "conda", "--source", conda.to_str().unwrap()])
            .exits(0);
        station
            .run(&["channel", "add", "py", "--ecosystem", "pypi", "--source", pypi.to_str().unwrap()])
            .exits(0);
        station
    }

    /// A bundle of a synced station, and an isolated station that trusts it.
    pub fn across(&self) -> (Station, PathBuf, Station) {
        let low = self.connected("low");
        low.run(&["sync"]).exits(0);
        let disk = self.path("disk");
        low.run(&["export", disk.to_str().unwrap()]).exits(0);
        let high = self.station("high", "isolated");
        high.trust(&low);
        (low, disk, high)
    }
}

impl Station {
    pub fn run(&self, args: &[&str]) -> Answer {
        let mut all = vec!["--station", self.dir.to_str().unwrap(), "--now", NOW, "--quiet"];
        all.extend(args);
        airlock(&all)
    }

    /// Starts a command, whose errors can be read from it.
    pub fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["--station", self.dir.to_str().unwrap(), "--now", NOW, "--quiet"])
            .args(args)
            .env("USER", "ada")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.run(&all).json()
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("keys/station.pub")
    }

    pub fn trust(&self, other: &Self) {
        self.trust_with(other, &[]);
    }

    /// The same, within limits.
    pub fn trust_with(&self, other: &Self, limits: &[&str]) {
        self.trust_named("low", other, limits);
    }

    /// The same under another name than `low`.
    pub fn trust_as(&self, name: &str, other: &Self) {
        self.trust_named(name, other, &[]);
    }

    fn trust_named(&self, name: &str, other: &Self, limits: &[&str]) {
        let print = other.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
        let key = other.key();
        let add = ["trust", "add", name, key.to_str().unwrap(), "--fingerprint", &print];
        self.run(&[&add[..], limits].concat()).exits(0);
    }

    /// Everything that counts on this station: refs, ledger and blobs.
    pub fn state(&self) -> (Value, Value, BTreeMap<PathBuf, u64>) {
        (self.json(&["status"]), self.json(&["ledger", "log"]), files(&self.dir.join("blobs")))
    }

    /// Serves on a free port until dropped.
    pub fn serve(&self) -> Server {
        self.serve_at(NOW)
    }

    /// The same at another moment.
    pub fn serve_at(&self, now: &str) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["--station", self.dir.to_str().unwrap(), "--now", now, "serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stderr = child.stderr.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
        let base = line
            .split("http://")
            .nth(1)
            .unwrap_or_else(|| panic!("{line}"))
            .trim()
            .trim_end_matches('/')
            .to_owned();
        Server { child, address: base }
    }
}

/// A server that stops when it is dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Ends it as a fault of the machine would.
    pub fn kill(&self) {
        Command::new("kill").args(["-9", &self.child.id().to_string()]).status().unwrap();
    }

    /// Asks it to stop, and waits for that.
    pub fn stop(mut self) -> Option<i32> {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap().code()
    }

    /// Status and body of a request.
    pub fn get(&self, path: &str, accept: &str) -> (u16, Vec<u8>) {
        use std::io::{Read as _, Write as _};
        let mut socket = std::net::TcpStream::connect(&self.address).unwrap();
        write!(socket, "GET /{path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&bytes[9..12]).unwrap().parse().unwrap();
        (status, bytes[head + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below a folder with its size.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut out = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                out.insert(entry.path(), entry.metadata().unwrap().len());
            }
        }
    }
    out
}

/// A copy of a folder.
pub fn copy(from: &Path, to: &Path) {
    for (path, _) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

/// The content of both channels of a world, as a station publishes it.
pub fn published(station: &Station) -> Vec<Value> {
    let content = |channel: &str| station.json(&["snapshot", "show", channel])["content"].clone();
    vec![content("main"), content("py")]
}

/// Nothing that a station holds is damaged or missing.
pub fn is_whole(station: &Station) {
    let report = station.run(&["--json", "fsck"]);
    assert_eq!((report.status, &report.json()["damages"]), (0, &json!([])), "{report:?}");
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// How often each run is killed or disturbed; `AIRLOCK_KILLS` says otherwise.
pub fn kills() -> u32 {
    const KILLS: u32 = 8;
    std::env::var("AIRLOCK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// The hash of a file.
pub fn hash(path: &Path) -> Digest {
    Digest::of(&std::fs::read(path).unwrap())
}

/// The page of shell that checks bundles without this program, with these keys: what it prints, or why it says no.
pub fn by_hand(dir: &Path, keys: &[&Path]) -> Result<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify-bundle.sh");
    let run = Command::new("sh").arg(page).arg(dir).args(keys).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if run.status.success() { Ok(said(&run.stdout)) } else { Err(said(&run.stderr)) }
}
