//! The crossing beside the same by hand: `export`, `verify` and `import` of a channel of 1 GiB, once in many small
//! files and once in a few large ones, and `cp`, `openssl dgst` and `cp` over the same files on the same disk.
//!
//! By hand is: copy the blobs and sync; hash every file with nothing of it in memory; copy into another directory and
//! sync. Export reads back what it wrote, from the disk as well, which by hand nobody does.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, cargo, root};

/// Files and bytes of each.
const CHANNELS: [(&str, &str, &str); 2] =
    [("200,000 small files", "200000", "5369"), ("20 large files", "20", "53687091")];
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
    for (title, files, bytes) in CHANNELS {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let result = one(&dir, title, files, bytes);
        let _ = std::fs::remove_dir_all(&dir);
        result?;
    }
    Ok(())
}

/// What a step took.
struct Took {
    time: Duration,
    /// Most memory, in KiB, where GNU time is there to tell.
    memory: Option<u64>,
}

fn one(dir: &Path, title: &str, files: &str, bytes: &str) -> Result<()> {
    let release = root().join("target/release");
    let (airlock, plant) = (text(&release.join("airlock")), text(&release.join("examples/plant")));
    let (low, high, medium) = (text(&dir.join("low")), text(&dir.join("high")), text(&dir.join("medium")));
    said(&[&plant, &low, "--files", files, "--bytes", bytes])?;
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
        shell(&format!("cp -r '{by_hand}' '{taken}' && sync"))?,
    ];
    for copy in [&by_hand, &taken] {
        std::fs::remove_dir_all(copy).map_err(|e| e.to_string())?;
    }
    forget();
    let ours = [
        timed(&[&airlock, "--station", &low, "--quiet", "export", &medium])?,
        timed(&[&airlock, "--quiet", "verify", &medium, "--key", &key])?,
        timed(&[&airlock, "--station", &high, "--quiet", "import", &medium])?,
    ];
    print(title, &hand, &ours);
    Ok(())
}

fn print(title: &str, hand: &[Took; 3], ours: &[Took; 3]) {
    println!("{title}:");
    for ((step, hand), ours) in ["export", "verify", "import"].iter().zip(hand).zip(ours) {
        let memory = ours.memory.map(|kib| format!(", {} MiB", kib >> 10)).unwrap_or_default();
        let over = if ours.memory.is_some_and(|kib| kib > MEMORY_KIB_MAX) { " (too much)" } else { "" };
        let (hand, ours) = (hand.time.as_secs_f64(), ours.time.as_secs_f64());
        println!("  {step}: {ours:.2} s{memory}{over}; by hand {hand:.2} s");
    }
    let sum = |all: &[Took; 3]| all.iter().map(|t| t.time).sum::<Duration>().as_secs_f64();
    let (hand, ours) = (sum(hand), sum(ours));
    let verdict = if ours <= hand * RATIO_MAX { "within" } else { "beyond" };
    println!("  together {ours:.2} s; by hand {hand:.2} s: {:.2}, {verdict} {RATIO_MAX:.2}", ours / hand);
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
