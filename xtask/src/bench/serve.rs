//! Serving beside nginx: the same files, the same client, the same run, in turns.
//!
//! `wrk` asks over 16 connections that stay open. What counts is the ratio within a run and the processor time
//! of a request; rates by themselves tell as much of the machine as of the server.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Result, root, timed};

/// Packages of the channel: so many that its index of shards has some 21 KB.
const PACKAGES: usize = 550;
/// Bytes of noise in each of them, which makes a file of some 95 KB.
const NOISE_BYTES: usize = 94_000;
/// Packages whose records are larger than usual, which makes a `repodata.json` of 52 MB.
const PADDED: usize = 16;
/// By so many bytes.
const PAD_BYTES: usize = 3_240_000;
/// How often each server is measured; the median is printed.
const ROUNDS: usize = 3;
/// How long each measurement takes.
const SECONDS: u32 = 3;
/// Ticks of the kernel's clock in a second, as `/proc` counts them on Linux.
const TICKS: f64 = 100.0;
/// The channel below the server.
const CHANNEL: &str = "conda/main/noarch";

/// Measures, where `wrk` and `nginx` are installed.
pub fn run(airlock: &Path) -> Result<()> {
    for program in ["wrk", "nginx", "tar", "bzip2", "sha256sum"] {
        if Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: serving beside nginx, because {program} is not installed");
            return Ok(());
        }
    }
    let dir = root().join("target/bench-serve");
    let _ = std::fs::remove_dir_all(&dir);
    let result = measure(airlock, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(airlock: &Path, dir: &Path) -> Result<()> {
    let station = dir.join("station");
    fill(airlock, &dir.join("source"), &station)?;
    let began = Instant::now();
    let (ours, address) = serve(airlock, &station)?;
    println!("serving: the server listens {} ms after its start", began.elapsed().as_millis());
    let idle = memory(ours.id());
    println!("serving: {:.1} MB of memory before the first request", idle / 1e6);
    let files = ["repodata_shards.msgpack.zst", "bench-0001-1.0-0.tar.bz2", "repodata.json"];
    let nginx = nginx(dir, &address, &files)?;
    for file in files {
        compare(&ours, &nginx, &[&address, "127.0.0.1:8399"], file, None)?;
    }
    let script = dir.join("all.lua");
    std::fs::write(&script, every_package()).map_err(|e| e.to_string())?;
    compare(&ours, &nginx, &[&address, "127.0.0.1:8399"], "", Some(&script))?;
    let misses = once(&ours, &address, "absent-1.0-0.conda", None)?;
    println!("serving: 404 {:.0}/s, {:.1} us of processor time each", misses.requests, misses.cpu_us);
    println!("serving: {:.1} MB of memory after that", memory(ours.id()) / 1e6);
    Ok(())
}

/// A server that is stopped when it is dropped.
struct Server(Child);

impl Server {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to stop rather than killed: nginx takes its workers along.
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Makes a source of packages, and a station that has read it.
fn fill(airlock: &Path, source: &Path, station: &Path) -> Result<()> {
    let folder = source.join("noarch");
    std::fs::create_dir_all(folder.join("info")).map_err(|e| e.to_string())?;
    let mut names = Vec::new();
    for i in 0..PACKAGES {
        let name = format!("bench-{i:04}");
        let file = format!("{name}-1.0-0.tar.bz2");
        let about = serde_json::json!({"name": name, "version": "1.0", "build": "0", "build_number": 0,
            "depends": [], "subdir": "noarch", "noarch": "generic", "license": "MIT"});
        write(&folder.join("info/index.json"), about.to_string().as_bytes())?;
        write(&folder.join("info/files"), b"noise\n")?;
        write(&folder.join("noise"), &noise(NOISE_BYTES, i as u64 + 1))?;
        timed(Command::new("tar").current_dir(&folder).args(["cjf", &file, "info", "noise"]))?;
        names.push((file, about));
    }
    let listed = Command::new("sha256sum")
        .current_dir(&folder)
        .args(names.iter().map(|(f, _)| f))
        .output()
        .map_err(|e| e.to_string())?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut packages = serde_json::Map::new();
    for (line, (file, mut about)) in listed.lines().zip(names) {
        let size = std::fs::metadata(folder.join(&file)).map_err(|e| e.to_string())?.len();
        about["sha256"] = line.split(' ').next().unwrap_or_default().into();
        about["size"] = size.into();
        about["timestamp"] = 1_700_000_000_000_u64.into();
        if packages.len() < PADDED {
            about["pad"] = "x".repeat(PAD_BYTES).into();
        }
        packages.insert(file, about);
    }
    let index = serde_json::json!({"info": {"subdir": "noarch"}, "packages": packages, "packages.conda": {}});
    write(&folder.join("repodata.json"), index.to_string().as_bytes())?;
    let (source, at) = (source.to_string_lossy(), station.to_string_lossy());
    timed(Command::new(airlock).args(["init", &*at, "--quiet"]))?;
    let add = ["--station", &*at, "channel", "add", "main", "--ecosystem", "conda", "--source", &*source];
    timed(Command::new(airlock).args(add))?;
    // Without any feed everything would be held.
    let record = serde_json::json!({"id": "BENCH-1", "modified": "2026-01-01T00:00:00Z", "affected": [{
        "package": {"ecosystem": "PyPI", "name": "none"}, "versions": ["1"]}]});
    let feed = station.with_extension("jsonl");
    write(&feed, format!("{record}\n").as_bytes())?;
    let feed = ["--station", &*at, "advisories", "add", "osv", &*feed.to_string_lossy()].map(str::to_owned);
    timed(Command::new(airlock).args(feed))?;
    timed(Command::new(airlock).args(["--station", &*at, "advisories", "update"]))?;
    timed(Command::new(airlock).args(["--station", &*at, "--quiet", "sync"])).map(drop)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// Bytes that no compressor makes smaller.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Starts our server on a free port.
fn serve(airlock: &Path, station: &Path) -> Result<(Server, String)> {
    let child = Command::new(airlock)
        .args(["--station", &*station.to_string_lossy(), "serve", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| e.to_string())?;
    let mut line = String::new();
    if let Some(stderr) = child.stderr.take() {
        BufReader::new(stderr).read_line(&mut line).map_err(|e| e.to_string())?;
    }
    let server = Server(child);
    let address = line.split("http://").nth(1).ok_or(format!("the server said: {line}"))?;
    Ok((server, address.trim().trim_end_matches('/').to_owned()))
}

/// Starts nginx over what our server answers.
fn nginx(dir: &Path, address: &str, files: &[&str]) -> Result<Server> {
    let www = dir.join("www").join(CHANNEL);
    std::fs::create_dir_all(&www).map_err(|e| e.to_string())?;
    let packages = (0..PACKAGES).map(|i| format!("bench-{i:04}-1.0-0.tar.bz2"));
    for file in files.iter().map(|f| (*f).to_owned()).chain(packages) {
        write(&www.join(&file), &fetch(address, &format!("/{CHANNEL}/{file}"))?)?;
    }
    let mut text = String::new();
    let _ = write!(
        text,
        "user root; worker_processes auto; daemon off; pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
         server {{ listen 127.0.0.1:8399; root {0}/www; }} }}\n",
        dir.display()
    );
    let config = dir.join("nginx.conf");
    write(&config, text.as_bytes())?;
    let child = Command::new("nginx").arg("-c").arg(&config).stderr(Stdio::null()).spawn();
    let server = Server(child.map_err(|e| e.to_string())?);
    let began = Instant::now();
    while TcpStream::connect("127.0.0.1:8399").is_err() {
        if began.elapsed() > Duration::from_secs(5) {
            return Err("nginx does not listen".to_owned());
        }
        std::thread::yield_now();
    }
    Ok(server)
}

fn fetch(address: &str, path: &str) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| format!("{path}: {e}");
    let mut socket = TcpStream::connect(address).map_err(fail)?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").map_err(fail)?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).map_err(fail)?;
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or(format!("{path}: no answer"))?;
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&bytes)));
    }
    Ok(bytes.split_off(head + 4))
}

/// Asks for every package in turn.
fn every_package() -> String {
    format!(
        "local i = 0\nfunction request()\n  i = (i + 1) % {}\n  \
         return wrk.format('GET', string.format('/{CHANNEL}/bench-%04d-1.0-0.tar.bz2', i + {PADDED}))\nend\n",
        PACKAGES - PADDED
    )
}

/// What one measurement says.
#[derive(Clone, Copy)]
struct Rate {
    requests: f64,
    bytes: f64,
    cpu_us: f64,
}

fn compare(
    ours: &Server,
    nginx: &Server,
    at: &[&str; 2],
    file: &str,
    script: Option<&PathBuf>,
) -> Result<()> {
    let mut all: [Vec<Rate>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((rates, server), address) in all.iter_mut().zip([ours, nginx]).zip(at) {
            rates.push(once(server, address, file, script)?);
        }
    }
    let middle = |rates: &mut Vec<Rate>| {
        rates.sort_by(|a, b| a.requests.total_cmp(&b.requests));
        rates.get(ROUNDS / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
    };
    let [mut a, mut b] = all;
    let (a, b) = (middle(&mut a)?, middle(&mut b)?);
    println!(
        "serving {}: {:.0} requests/s, {:.0} MB/s, {:.1} us each; nginx: {:.0}, {:.0} MB/s, {:.1} us; ratio {:.2}",
        if file.is_empty() { "every package in turn" } else { file },
        a.requests,
        a.bytes / 1e6,
        a.cpu_us,
        b.requests,
        b.bytes / 1e6,
        b.cpu_us,
        a.requests / b.requests,
    );
    Ok(())
}

fn once(server: &Server, address: &str, file: &str, script: Option<&PathBuf>) -> Result<Rate> {
    let before = ticks(server.id());
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c16", &format!("-d{SECONDS}s")]);
    if let Some(script) = script {
        wrk.arg("-s").arg(script);
    }
    let output = wrk.arg(format!("http://{address}/{CHANNEL}/{file}")).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |label: &str| {
        let rest = text.split(label).nth(1)?.trim_start();
        rest.split_whitespace().next().map(str::to_owned)
    };
    let fail = || format!("wrk said: {text}");
    let requests: f64 = after("Requests/sec:").and_then(|t| t.parse().ok()).ok_or_else(fail)?;
    let count: f64 = text
        .split(" requests in ")
        .next()
        .and_then(|t| t.split_whitespace().last())
        .and_then(|t| t.parse().ok())
        .ok_or_else(fail)?;
    let cpu_us = (ticks(server.id()) - before) / TICKS * 1e6 / count;
    Ok(Rate { requests, bytes: after("Transfer/sec:").and_then(|t| amount(&t)).ok_or_else(fail)?, cpu_us })
}

/// `1.42GB`, as `wrk` writes it.
fn amount(text: &str) -> Option<f64> {
    let units = [("GB", 1_073_741_824.0), ("MB", 1_048_576.0), ("KB", 1024.0), ("B", 1.0)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

/// Processor time of a process and its children, in ticks.
fn ticks(pid: u32) -> f64 {
    let own = |pid: &str| -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum()
    };
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own(&pid.to_string()) + children.split_whitespace().map(own).sum::<f64>()
}

/// Resident memory of a process, in bytes.
fn memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}
