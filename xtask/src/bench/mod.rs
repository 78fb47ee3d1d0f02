//! Measurements of whole commands, in release, with the machine's limit beside them.

mod carry;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, cargo, root};

/// Runs of each command; the median is printed.
const RUNS: usize = 5;

/// Measures what can be measured on this machine, and says what is skipped; `carry` measures the crossing alone.
pub fn run(which: Option<&str>) -> Result<()> {
    match which {
        None => {}
        Some("carry") => return carry::run(),
        Some(other) => return Err(format!("there is no measurement `{other}`; there is: carry")),
    }
    cargo(&["build", "--release", "--locked"], &[])?;
    let airlock = root().join("target/release/airlock");
    let demo = median(|| timed(Command::new(&airlock).args(["demo", "--exit"])))?;
    println!("demonstration, whole line on the built-in sample: {:.2} s", demo.as_secs_f64());
    let data = root().join("../shared/data");
    if data.is_dir() {
        feeds(&airlock, &data)?;
    } else {
        println!("skipped: reading of genuine feeds, because {} is not there", data.display());
    }
    carry::run()
}

fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.output().map_err(|e| e.to_string())?;
    let took = began.elapsed();
    if output.status.success() { Ok(took) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn median(mut once: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut all: Vec<Duration> = (0..RUNS).map(|_| once()).collect::<Result<_>>()?;
    all.sort();
    all.get(RUNS / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
}

/// Reads all feeds into a new station, beside the time that unpacking the same files takes; then again with one
/// advisory changed.
fn feeds(airlock: &Path, data: &Path) -> Result<()> {
    let files: [(&str, PathBuf); 7] = [
        ("osv", data.join("advisories/osv-pypi.jsonl.gz")),
        ("osv", data.join("advisories/osv-bitnami.jsonl.gz")),
        ("nvd", data.join("advisories/nvd-2.0-2022.json.gz")),
        ("nvd", data.join("advisories/nvd-2.0-page-2023.json.gz")),
        ("kev", data.join("advisories/known_exploited_vulnerabilities.json.gz")),
        ("epss", data.join("advisories/epss_scores-kev-2026-08-22.csv.gz")),
        ("identities", data.join("identity/conda-forge-to-pypi.json.gz")),
    ];
    let dir = root().join("target/bench");
    let one = root().join("target/bench-one.jsonl");
    let station = dir.to_string_lossy().into_owned();
    let write = |summary: &str| {
        let record = format!(
            r#"{{"id":"BENCH-1","summary":"{summary}","affected":[{{"package":{{"ecosystem":"PyPI","name":"idna"}},"versions":["0"]}}]}}"#
        );
        std::fs::write(&one, record).map_err(|e| e.to_string())
    };
    let run = |args: &[&str]| {
        timed(Command::new(airlock).args(["--station", &station, "--quiet", "advisories"]).args(args))
    };
    let limit = median(|| timed(Command::new("gzip").arg("-dc").args(files.iter().map(|(_, f)| f))))?;
    let all = median(|| {
        let _ = std::fs::remove_dir_all(&dir);
        timed(Command::new(airlock).args(["init", &station, "--quiet"]))?;
        for (kind, file) in &files {
            run(&["add", kind, &file.to_string_lossy()])?;
        }
        run(&["update"])
    })?;
    write("first")?;
    run(&["add", "osv", &one.to_string_lossy()])?;
    run(&["update", "osv-bench-one"])?;
    let mut round = 0;
    let changed = median(|| {
        round += 1;
        write(&format!("changed {round} times"))?;
        run(&["update", "osv-bench-one"])
    })?;
    let _ = std::fs::remove_dir_all(&dir);
    let _ = std::fs::remove_file(&one);
    println!(
        "feeds, 63,000 records from nothing: {:.2} s; unpacking the same files with gzip: {:.2} s; one changed advisory: {:.3} s",
        all.as_secs_f64(),
        limit.as_secs_f64(),
        changed.as_secs_f64()
    );
    Ok(())
}
