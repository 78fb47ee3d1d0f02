//! Many clients of two servers over one station, while its channel is published again and again and something is
//! blocked: nobody meets an error but the blocked file's refusal, which both servers give; when, is printed.
//!
//! `AIRLOCK_CROWD=1000` is the long version: so many packages, and so many requests of each client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_testkit::{CondaSource, Kit, conda, osv};
use common::{NOW, Station, airlock};
use serde_json::{Value, json};

const CLIENTS: usize = 30;
const BLOCKED: &str = "/conda/main/noarch/package-7-1.0-0.conda";
/// When waiting for a refusal that does not come ends. It measures nothing: what it took is printed.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A server process; everything it says is kept.
struct Server {
    child: Child,
    address: String,
    said: Arc<Mutex<String>>,
}

impl Server {
    fn over(station: &Station) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args([
                "--station",
                station.dir.to_str().unwrap(),
                "--now",
                NOW,
                "serve",
                "--listen",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().trim().trim_end_matches('/').to_owned();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        for stream in [Box::new(stderr) as Box<dyn std::io::BufRead + Send>, Box::new(stdout)] {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in stream.lines().map_while(Result::ok) {
                    said.lock().unwrap().push_str(&line);
                }
            });
        }
        Self { child, address, said }
    }

    /// Asks it to stop, and gives its exit status and all it said.
    fn stop(mut self) -> (Option<i32>, String) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), self.said.lock().unwrap().clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that stays open.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: &str) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).unwrap()) }
    }

    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        // In one piece, or the second piece waits for the acknowledgement of the first.
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(
                self.stream.read_line(&mut line).unwrap() > 0,
                "the server closed before it answered {path}"
            );
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                status = code[..3].parse().unwrap();
            } else if let Some(n) = line.strip_prefix("content-length: ") {
                length = n.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }
}

/// What happens around the clients.
#[derive(Default)]
struct Story {
    requests: AtomicUsize,
    refused: AtomicUsize,
    /// The file may be refused from now on.
    is_blocking: AtomicBool,
    /// Everything has happened.
    is_over: AtomicBool,
    /// Generations of the index that clients saw.
    indexes: Mutex<BTreeSet<Digest>>,
}

/// Whatever ends the story, clients learn of it.
struct Over<'a>(&'a Story);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// Asks for packages as `pixi` does, the index now and then, until it has asked so often and all has happened.
fn client(story: &Story, address: &str, seed: usize, requests: usize) {
    let mut client = Client::new(address);
    let get = |client: &mut Client, path: &str| {
        story.requests.fetch_add(1, Ordering::Relaxed);
        client.get(path)
    };
    let (mut packages, mut turn, mut is_last) = (0, seed, false);
    while packages < requests || !is_last {
        // The last index that everybody reads is the last one of the story.
        is_last = story.is_over.load(Ordering::SeqCst);
        let (status, index) = get(&mut client, "/conda/main/noarch/repodata_shards.msgpack.zst");
        assert_eq!(status, 200);
        story.indexes.lock().unwrap().insert(Digest::of(&index));
        let index = airlock_formats::conda::read_shard_index("noarch", &index).unwrap();
        let shards: Vec<_> = index.shards.into_iter().collect();
        for _ in 0..5 {
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (name, hash) = &shards[(turn >> 33) % shards.len()];
            let path = format!("/conda/main/noarch/shards/{hash}.msgpack.zst");
            let (status, shard) = get(&mut client, &path);
            assert_eq!(status, 200, "a shard that an index named is readable: {name} {path}");
            assert_eq!(Digest::of(&shard), *hash, "{name}");
            let shard = airlock_formats::conda::read_shard("noarch", name, &shard).unwrap().shards;
            for (file, entry) in shard.values().flat_map(|s| &s.entries) {
                let record: Value = serde_json::from_str(entry.record.as_str()).unwrap();
                let path = format!("/conda/main/noarch/{file}");
                let (status, body) = get(&mut client, &path);
                packages += 1;
                if status == 403 && path == BLOCKED && story.is_blocking.load(Ordering::SeqCst) {
                    story.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
                assert_eq!(record["sha256"], Digest::of(&body).to_string(), "{path}");
            }
        }
    }
}

/// Asks one server for one file until it is refused, and a while longer: it never comes back.
fn watch(address: &str, began: Instant) -> Duration {
    let mut client = Client::new(address);
    while client.get(BLOCKED).0 != 403 {
        assert!(began.elapsed() < GIVE_UP, "{address} still serves what is blocked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    for _ in 0..500 {
        assert_eq!(client.get(BLOCKED).0, 403, "what is blocked stays so");
    }
    took
}

fn fill(source: &mut CondaSource, packages: usize, version: &str) {
    for n in 0..packages {
        source.add(&conda(&format!("package-{n}"), version), &json!({}));
    }
    source.write();
}

async fn station(packages: usize) -> (Kit, Station, CondaSource) {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("conda");
    fill(&mut source, packages, "1.0");
    let record = osv("TEST-1", "PyPI", "nothing-of-this-name", "1", 0.0);
    let feed = kit.write("feeds/osv.jsonl", format!("{record}\n").as_bytes());
    let station = Station { dir: kit.path().join("crowd") };
    let dir = station.dir.to_str().unwrap();
    airlock(&["init", dir, "--name", "crowd", "--side", "connected", "--now", NOW]).exits(0);
    station.run(&["advisories", "add", "osv", feed.to_str().unwrap()]).exits(0);
    station.run(&["advisories", "update"]).exits(0);
    let from = source.path().to_str().unwrap().to_owned();
    station.run(&["channel", "add", "main", "--ecosystem", "conda", "--source", &from]).exits(0);
    station.run(&["sync"]).exits(0);
    (kit, station, source)
}

#[tokio::test]
async fn a_crowd_meets_no_error_while_channels_move_and_a_block_reaches_every_server() {
    let asked = std::env::var("AIRLOCK_CROWD").ok().and_then(|n| n.parse().ok());
    let size: usize = asked.unwrap_or(40);
    let (_kit, station, mut source) = station(size).await;
    let servers = [Server::over(&station), Server::over(&station)];
    let story = Story::default();
    let began = Instant::now();
    let took = std::thread::scope(|scope| {
        // Who fails in here must not leave the others waiting.
        let _over = Over(&story);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (story, address) = (&story, &servers[n % 2].address);
                scope.spawn(move || client(story, address, n, size.max(100)))
            })
            .collect();
        fill(&mut source, size, "2.0");
        station.run(&["sync"]).exits(0);
        station.run(&["judge"]).exits(0);
        story.is_blocking.store(true, Ordering::SeqCst);
        station.run(&["block", "main", "package-7==1.0", "--reason", "a test says so"]).exits(0);
        let blocked = Instant::now();
        let watching = servers.each_ref().map(|s| scope.spawn(move || watch(&s.address, blocked)));
        // Whatever comes next does not bring it back.
        fill(&mut source, size, "3.0");
        station.run(&["sync"]).exits(0);
        station.run(&["judge"]).exits(0);
        story.is_over.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap();
        }
        watching.map(|w| w.join().unwrap())
    });
    let seconds = began.elapsed().as_secs_f64();
    let (requests, refused) = (story.requests.load(Ordering::Relaxed), story.refused.load(Ordering::Relaxed));
    let indexes = story.indexes.lock().unwrap().len();
    assert!(indexes >= 3, "clients saw {indexes} generations");
    println!(
        "{CLIENTS} clients, {requests} requests in {seconds:.1} s ({:.0}/s), {indexes} generations, {refused} \
         refusals; blocked after {took:?}",
        requests as f64 / seconds
    );
    for server in servers {
        assert_eq!(server.stop().0, Some(0), "it stops when it is asked to");
    }
}

#[tokio::test]
async fn a_server_says_nothing_of_tokens_and_passwords_in_requests() {
    let (_kit, station, _) = station(1).await;
    let server = Server::over(&station);
    let mut client = Client::new(&server.address);
    for path in [
        "/t/tk-s3cret/conda/main/noarch/package-0-1.0-0.conda",
        "/t/tk-s3cret/conda/main/noarch/absent-1.0-0.conda",
        "/conda/t/tk-s3cret/main/noarch/%zz",
        "/t/tk-s3cret/nowhere",
        "/channels/main?password=tk-s3cret",
        "/pypi/none/simple/?token=tk-s3cret",
    ] {
        let (_, body) = client.get(path);
        assert!(!String::from_utf8_lossy(&body).contains("s3cret"), "{path}");
    }
    let ledger = station.run(&["ledger", "log"]).exits(0).stdout;
    let (status, said) = server.stop();
    assert_eq!(status, Some(0));
    assert!(!said.contains("s3cret") && !ledger.contains("s3cret"), "{said}");
}
