//! A channel of the size of the largest that there is: 700,000 records of 30,000 names.
//!
//! Files are noted as fetched without being there, since it is the index that is measured.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Result, root, spend};

/// The variable that names a directory with such an index, as `linux-64/repodata.json` and `noarch/repodata.json`.
pub const INDEX: &str = "AIRLOCK_BENCH_INDEX";

/// Measures, where there is such an index.
pub fn run(airlock: &Path, data: &Path) -> Result<()> {
    let Some(index) = std::env::var_os(INDEX).map(PathBuf::from) else {
        println!("skipped: a channel of 700,000 records, because {INDEX} names none");
        return Ok(());
    };
    super::examples()?;
    let dir = root().join("target/bench-scale");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let result = measure(airlock, data, &index, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(airlock: &Path, data: &Path, index: &Path, dir: &Path) -> Result<()> {
    let station = dir.join("station");
    let source = dir.join("source");
    super::timed(Command::new("cp").arg("-r").arg(index).arg(&source))?;
    let at = station.to_string_lossy().into_owned();
    let run = |args: &[&str]| {
        let mut command = Command::new(airlock);
        command.args(["--station", &at, "--quiet"]).args(args);
        spend(&mut command)
    };
    super::timed(Command::new(airlock).args(["init", &at, "--quiet"]))?;
    let one = dir.join("one.jsonl");
    super::write_advisory(&one, "first")?;
    let one = one.to_string_lossy().into_owned();
    let osv = data.join("advisories/osv-pypi.jsonl.gz").to_string_lossy().into_owned();
    let map = data.join("identity/conda-forge-to-pypi.json.gz").to_string_lossy().into_owned();
    for (kind, file) in [("osv", &osv), ("identities", &map), ("osv", &one)] {
        run(&["advisories", "add", kind, file])?;
    }
    run(&["advisories", "update"])?;
    let place = source.to_string_lossy().into_owned();
    run(&["channel", "add", "main", "--ecosystem", "conda", "--source", &place, "--subdir", "linux-64"])?;
    println!("scale, read, match and judge 700,000 records: {}", run(&["sync", "main", "--dry-run"])?);
    super::plant(&at)?;
    println!("scale, the same and publish every form: {}", run(&["sync", "main"])?);
    println!(
        "scale, match and judge everything anew, with what could no longer be installed: {}",
        run(&["judge", "main", "--anew", "--dry-run"])?
    );
    let policy = dir.join("six.toml");
    let text = airlock_policy(airlock, &at)?.replace("above = 7.0", "above = 6.0");
    std::fs::write(&policy, text).map_err(|e| e.to_string())?;
    let preview = ["policy", "preview", "default", &policy.to_string_lossy()];
    let previewed = super::median_of(|| run(&preview))?;
    println!(
        "scale, a changed rule previewed, with what could no longer be installed: {previewed} (target 3 s)"
    );
    println!("scale, {}", said(super::example("judging").args([&at, "main"]).arg(&policy))?);
    beside(&run, &policy)?;
    let explained = super::median_of(|| run(&["explain", "main", "zlib"]))?;
    println!("scale, one package explained, the disk warm: {explained} (target 0.05 s)");
    println!("scale, nothing new: {}", run(&["judge", "main"])?);
    let receipt = dir.join("receipt.json");
    super::timed(super::example("plant").args([&at, "main", "--carried"]).arg(&receipt))?;
    changed_advisory(airlock, &at, Path::new(&one))?;
    println!("scale, everything known of what is published: {}", run(&["findings", "main", "--json"])?);
    let block = ["block", "main", "zlib", "--reason", "measured"];
    let (shards, all) = moments(airlock, &at, &block, "writing the index of shards of linux-64")?;
    println!(
        "scale, one name blocked: verdict, shard and index of shards rendered after {shards:.3} s, all forms and the refs that serve them after {all:.3} s"
    );
    // What changed since is seven times an advisory and once a block: nothing has to be fetched for it, nor to be carried.
    let (receipt, nowhere) = (receipt.to_string_lossy(), dir.join("bundle"));
    let plan = ["export", &nowhere.to_string_lossy(), "--receipt", &receipt, "--plan"];
    let planned = super::median_of(|| run(&plan))?;
    println!("scale, delta-plan, what a bundle would bring to who has the rest: {planned} (target 3 s)");
    println!("scale, matching alone: {}", said(super::example("matching").args([&at, "main"]))?);
    Ok(())
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The policy of this file beside the one in force: everything is read and judged by it, and nothing else is asked.
fn beside(run: &impl Fn(&[&str]) -> Result<super::Spent>, policy: &Path) -> Result<()> {
    run(&["policy", "set", "six", &policy.to_string_lossy()])?;
    let judged = run(&["channel", "set", "main", "--shadow", "six"])?;
    println!("scale, everything read and judged by a policy beside the one in force: {judged}");
    run(&["channel", "set", "main", "--no-shadow"]).map(drop)
}

/// The text of the policy in force.
fn airlock_policy(airlock: &Path, at: &str) -> Result<String> {
    let output = Command::new(airlock).args(["--station", at, "policy", "show"]).output();
    String::from_utf8(output.map_err(|e| e.to_string())?.stdout).map_err(|e| e.to_string())
}

/// How often an advisory changes.
const ROUNDS: usize = 7;

/// One advisory that changes again and again, from its feed to verdicts and to what is published.
fn changed_advisory(airlock: &Path, at: &str, one: &Path) -> Result<()> {
    let update = ["advisories", "update", "osv-one"];
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        super::write_advisory(one, &format!("changed {round} times"))?;
        rounds.push(moments(airlock, at, &update, "judging main")?);
    }
    let middle = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    println!(
        "scale, one changed advisory, from its feed, the middle of {ROUNDS}: verdicts after {:.3} s, published after {:.3} s; the first {:.3} and {:.3} s",
        middle(|round| round.0),
        middle(|round| round.1),
        rounds.first().map_or(0.0, |round| round.0),
        rounds.first().map_or(0.0, |round| round.1),
    );
    Ok(())
}

/// Runs a command: after how many seconds it had done the step that begins so, and after how many everything.
fn moments(airlock: &Path, station: &str, args: &[&str], step: &str) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut child = Command::new(airlock)
        .args(["--station", station, "--verbose"])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut done = None;
    for line in BufReader::new(child.stderr.take().ok_or("no output")?).lines() {
        if line.map_err(|e| e.to_string())?.starts_with(step) {
            done.get_or_insert(began.elapsed().as_secs_f64());
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match (status.success(), done) {
        (true, Some(done)) => Ok((done, began.elapsed().as_secs_f64())),
        _ => Err(format!("{}: {status}, and nothing was said of {step}", args.join(" "))),
    }
}
