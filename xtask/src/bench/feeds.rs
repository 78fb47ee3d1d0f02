//! Feeds of advisories, read into a new station: the genuine ones at hand, and one as large as all CVEs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::value::RawValue;

use super::{Result, Spent, median_of, root, spend, timed, write_advisory};

/// CVEs of the large feed: about as many as there are.
const MANY: usize = 400_000;

/// Measures both.
pub fn run(airlock: &Path, data: &Path) -> Result<()> {
    genuine(airlock, data)?;
    let dir = root().join("target/bench-feeds");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let result = many(airlock, data, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

/// Reads all feeds into a new station, beside the time that unpacking the same files takes; then again with one
/// advisory changed.
fn genuine(airlock: &Path, data: &Path) -> Result<()> {
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
    let run = |args: &[&str]| {
        spend(Command::new(airlock).args(["--station", &station, "--quiet", "advisories"]).args(args))
    };
    let limit = median_of(|| spend(Command::new("gzip").arg("-dc").args(files.iter().map(|(_, f)| f))))?;
    let all = median_of(|| {
        let _ = std::fs::remove_dir_all(&dir);
        timed(Command::new(airlock).args(["init", &station, "--quiet"]))?;
        for (kind, file) in &files {
            run(&["add", kind, &file.to_string_lossy()])?;
        }
        run(&["update"])
    })?;
    write_advisory(&one, "first")?;
    run(&["add", "osv", &one.to_string_lossy()])?;
    run(&["update", "osv-bench-one"])?;
    let mut round = 0;
    let changed = median_of(|| {
        round += 1;
        write_advisory(&one, &format!("changed {round} times"))?;
        run(&["update", "osv-bench-one"])
    })?;
    let _ = std::fs::remove_dir_all(&dir);
    let _ = std::fs::remove_file(&one);
    println!("feeds, 63,000 records from nothing: {all}; unpacking the same files with gzip: {limit}");
    println!("feeds, one changed advisory, read to published: {changed}");
    Ok(())
}

/// Reads [`MANY`] CVEs and what says which packages they affect; once, since it takes long.
fn many(airlock: &Path, data: &Path, dir: &Path) -> Result<()> {
    let feed = dir.join("nvd-many.json.gz");
    multiply(&data.join("advisories/nvd-2.0-2022.json.gz"), &feed)?;
    let station = dir.join("station").to_string_lossy().into_owned();
    let run = |args: &[&str]| -> Result<Spent> {
        spend(Command::new(airlock).args(["--station", &station, "--quiet", "advisories"]).args(args))
    };
    timed(Command::new(airlock).args(["init", &station, "--quiet"]))?;
    let osv = data.join("advisories/osv-pypi.jsonl.gz");
    for (kind, file) in [("osv", &osv), ("nvd", &feed)] {
        run(&["add", kind, &file.to_string_lossy()])?;
    }
    let all = run(&["update"])?;
    let limit = spend(Command::new("gzip").arg("-dc").args([&osv, &feed]))?;
    println!(
        "feeds, {MANY} CVEs of NVD and osv-pypi from nothing: {all}; unpacking the same files with gzip: {limit}"
    );
    Ok(())
}

/// Writes a feed of [`MANY`] CVEs: those of a genuine one over and over, each time under other numbers.
fn multiply(genuine: &Path, feed: &Path) -> Result<()> {
    let json = |e: serde_json::Error| format!("{}: {e}", genuine.display());
    let unpacked = Command::new("gzip").arg("-dc").arg(genuine).output().map_err(|e| e.to_string())?;
    let page: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&unpacked.stdout).map_err(json)?;
    let list = page.get("vulnerabilities").ok_or("the genuine feed has no list of CVEs")?;
    let items: Vec<Box<RawValue>> = serde_json::from_str(list.get()).map_err(json)?;
    let packed = std::fs::File::create(feed).map_err(|e| e.to_string())?;
    let mut packing = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(packed)
        .spawn()
        .map_err(|e| format!("gzip: {e}"))?;
    let pipe = packing.stdin.take().ok_or("gzip takes no input")?;
    write_many(std::io::BufWriter::new(pipe), &items).map_err(|e| format!("gzip: {e}"))?;
    let packed = packing.wait().map_err(|e| e.to_string())?;
    if packed.success() { Ok(()) } else { Err("gzip could not pack the feed".to_owned()) }
}

fn write_many(mut to: impl std::io::Write, items: &[Box<RawValue>]) -> std::io::Result<()> {
    to.write_all(b"{\"vulnerabilities\":[")?;
    for (i, item) in items.iter().cycle().take(MANY).enumerate() {
        let (text, round) = (item.get(), i / items.len().max(1));
        let number =
            text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        if i > 0 {
            to.write_all(b",")?;
        }
        to.write_all(text.replace(number, &format!("{number}{round:02}")).as_bytes())?;
    }
    to.write_all(b"]}")?;
    to.flush()
}
