//! The crossing beside the same by hand: `export`, `verify` and `import` of a channel of 1 GiB, once in many small
//! files, once in a few large ones and once over four volumes, and `cp`, `openssl dgst` and `cp` over the same files on
//! the same disk. `AIRLOCK_BENCH_LARGE` adds a channel of 20 GB and says what that makes of one of 1 TB.
//!
//! By hand is: copy the blobs and sync; hash every file; copy into another directory and sync, each with nothing of it in
//! memory. Export reads back what it wrote, from the disk as well, which by hand nobody does.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, cargo, root};

/// A channel that is carried.
struct Load {
    title: &'static str,
    files: u64,
    /// Bytes of each.
    bytes: u64,
    /// What a volume holds, as `--capacity` takes it, where it is split.
    capacity: Option<&'static str>,
}

const LOADS: [Load; 3] = [
    Load { title: "200,000 small files", files: 200_000, bytes: 5_369, capacity: None },
    Load { title: "20 large files", files: 20, bytes: 53_687_091, capacity: None },
    Load { title: "20 large files over four volumes", files: 20, bytes: 53_687_091, capacity: Some("300MB") },
];
/// As large as packages are on average, in as many as make 20 GB.
const LARGE: Load = Load { title: "20 GB in files of 2 MB", files: 10_000, bytes: 2_000_000, capacity: None };
/// What the large one is extrapolated to, in bytes.
const TERABYTE: f64 = 1e12;
/// The crossing may take this much of the time by hand at most.
const RATIO_MAX: f64 = 1.0 / 0.85;
/// Memory of each step at most, in KiB.
const MEMORY_KIB_MAX: u64 = 200 << 10;

/// Measures, and prints a table. Where caches cannot be dropped (which takes root), it says so and goes on.
pub fn run() -> Result<()> {
    cargo(
        &[
            "build",
            "--release",
            "--locked",
            "-p",
            "airlock",
            "-p",
            "airlock-testkit",
            "--bins",
            "--example",
            "plant",
        ],
        &[],
    )?;
    let dir = root().join("target/bench-carry");
    let large = std::env::var_os("AIRLOCK_BENCH_LARGE").map(|_| &LARGE);
    for load in LOADS.iter().chain(large) {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let result = one(&dir, load);
        let _ = std::fs::remove_dir_all(&dir);
        result?;
    }
    if large.is_none() {
        println!("skipped: {}, since AIRLOCK_BENCH_LARGE is not set (it takes 65 GB of disk)", LARGE.title);
    }
    Ok(())
}

/// What a step took.
struct Took {
    time: Duration,
    /// Most memory, in KiB, where GNU time is there to tell.
    memory: Option<u64>,
}

fn one(dir: &Path, load: &Load) -> Result<()> {
    let release = root().join("target/release");
    let (airlock, plant) = (text(&release.join("airlock")), text(&release.join("examples/plant")));
    let (low, high, medium) = (text(&dir.join("low")), text(&dir.join("high")), text(&dir.join("medium")));
    said(&[&plant, &low, "--files", &load.files.to_string(), "--bytes", &load.bytes.to_string()])?;
    said(&[&airlock, "init", &high, "--side", "isolated", "--quiet"])?;
    let key = format!("{low}/keys/station.pub");
    let status = said(&[&airlock, "--station", &low, "--json", "status"])?;
    let status: serde_json::Value = serde_json::from_str(&status).map_err(|e| e.to_string())?;
    let fingerprint = status.get("fingerprint").and_then(serde_json::Value::as_str).unwrap_or_default();
    said(&[
        &airlock,
        "--station",
        &high,
        "trust",
        "add",
        "low",
        &key,
        "--fingerprint",
        fingerprint,
        "--quiet",
    ])?;
    let (by_hand, taken) = (text(&dir.join("by-hand")), text(&dir.join("taken")));
    forget();
    let hand = [
        shell(&format!("cp -r '{low}/blobs' '{by_hand}' && sync"))?,
        {
            forget();
            shell(&format!("find '{by_hand}' -type f -print0 | xargs -0 openssl dgst -sha256 > /dev/null"))?
        },
        {
            forget();
            shell(&format!("cp -r '{by_hand}' '{taken}' && sync"))?
        },
    ];
    for copy in [&by_hand, &taken] {
        std::fs::remove_dir_all(copy).map_err(|e| e.to_string())?;
    }
    forget();
    let split: Vec<&str> = load.capacity.iter().flat_map(|capacity| ["--capacity", capacity]).collect();
    let export = timed(&[&[&airlock, "--station", &low, "--quiet", "export", &medium], &split[..]].concat())?;
    // A medium that was put away and plugged in elsewhere is read anew.
    forget();
    let verify = timed(&[&airlock, "--quiet", "verify", &medium, "--key", &key])?;
    forget();
    let import = timed(&[&airlock, "--station", &high, "--quiet", "import", &medium])?;
    print(load, &hand, &[export, verify, import]);
    Ok(())
}

fn print(load: &Load, hand: &[Took; 3], ours: &[Took; 3]) {
    println!("{}:", load.title);
    for ((step, hand), ours) in ["export", "verify", "import"].iter().zip(hand).zip(ours) {
        let memory = ours.memory.map(|kib| format!(", {} MiB", kib >> 10)).unwrap_or_default();
        let over = if ours.memory.is_some_and(|kib| kib > MEMORY_KIB_MAX) { " (too much)" } else { "" };
        let (hand, ours) = (hand.time.as_secs_f64(), ours.time.as_secs_f64());
        println!("  {step}: {ours:.2} s{memory}{over}; by hand {hand:.2} s");
    }
    let seconds = ours.each_ref().map(|took| took.time.as_secs_f64());
    let sum = |all: &[Took; 3]| all.iter().map(|t| t.time).sum::<Duration>().as_secs_f64();
    let (hand, ours) = (sum(hand), sum(ours));
    let verdict = if ours <= hand * RATIO_MAX { "within" } else { "beyond" };
    println!("  together {ours:.2} s; by hand {hand:.2} s: {:.2}, {verdict} {RATIO_MAX:.2}", ours / hand);
    if load.title == LARGE.title {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (bytes, files) = ((load.files * load.bytes) as f64, load.files as f64);
        let times = TERABYTE / bytes;
        for (step, seconds) in ["export", "verify", "import"].iter().zip(seconds) {
            println!(
                "  {step} of 1 TB: {seconds:.1} s for {:.1} GB are {:.0} MB/s; times {times:.0} that is {:.0} minutes, in {:.0} files",
                bytes / 1e9,
                bytes / seconds / 1e6,
                seconds * times / 60.0,
                files * times,
            );
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Writes everything to the disk and forgets what memory holds of it.
fn forget() {
    let _ = Command::new("sync").status();
    if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        println!("  caches cannot be dropped here: what is read comes from memory");
    }
}

fn said(command: &[&str]) -> Result<String> {
    let Some((program, args)) = command.split_first() else { return Ok(String::new()) };
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

fn shell(line: &str) -> Result<Took> {
    timed(&["sh", "-c", line])
}

/// Runs a command, under GNU time where that is there.
fn timed(command: &[&str]) -> Result<Took> {
    let clock = ["/usr/bin/time", "-f", "%M"];
    let is_there = Path::new(clock[0]).exists();
    let whole = if is_there { [&clock[..], command].concat() } else { command.to_vec() };
    let Some((program, args)) = whole.split_first() else { return Err("nothing to run".to_owned()) };
    let began = Instant::now();
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let time = began.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {stderr}", command.join(" ")));
    }
    let memory = stderr.lines().last().and_then(|line| line.trim().parse().ok()).filter(|_| is_there);
    Ok(Took { time, memory })
}
