//! `plan` of the largest environment that the genuine records solve, beside `rattler.solve`.
//!
//! Which that is, is asked of the solver itself: each package of the channel is solved for by itself, within a bound of
//! time, and the one that takes most packages is it. What both say must be the same files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Result, median_of, root, spend};
use crate::python;

/// The machine that is solved for.
const SUBDIR: &str = "linux-64";
/// How many of the largest are solved.
const LARGEST: usize = 3;
/// Solves each of the specs that are given, or every name there is, and prints the largest with their files, how long the
/// first one took with everything read anew, and how long once more with the index in memory.
const PEER: &str = include_str!("plan.py");
/// A policy that keeps nothing out.
const OPEN: &str = r#"
[policy]
name = "open"

[[rule]]
name = "malicious"
action = "warn"
when = { malicious = true }
"#;
/// The target, in seconds.
const SECONDS_MAX: f64 = 2.0;

/// Measures, where the peer is there.
pub fn run(airlock: &Path, data: &Path) -> Result<()> {
    let Some(python) = python::prepare(&root()) else { return Ok(()) };
    super::examples()?;
    let dir = root().join("target/bench-plan");
    let _ = std::fs::remove_dir_all(&dir);
    let result = measure(airlock, &python, data, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(airlock: &Path, python: &str, data: &Path, dir: &Path) -> Result<()> {
    let (source, station) = (dir.join("source"), dir.join("station"));
    for subdir in [SUBDIR, "noarch"] {
        let packed = data.join("conda/repodata").join(subdir).join("repodata.json.gz");
        let to = source.join(subdir);
        std::fs::create_dir_all(&to).map_err(|e| e.to_string())?;
        let output = Command::new("gzip").arg("-dc").arg(&packed).output().map_err(|e| e.to_string())?;
        std::fs::write(to.join("repodata.json"), output.stdout).map_err(|e| e.to_string())?;
    }
    let at = station.to_string_lossy().into_owned();
    let place = source.to_string_lossy().into_owned();
    let run = |args: &[&str]| spend(Command::new(airlock).args(["--station", &at, "--quiet"]).args(args));
    super::timed(Command::new(airlock).args(["init", &at, "--quiet"]))?;
    // Everything passes, so that both choose among the same.
    let open = dir.join("open.toml");
    std::fs::write(&open, OPEN).map_err(|e| e.to_string())?;
    run(&["policy", "set", "open", &open.to_string_lossy()])?;
    let add = ["channel", "add", "main", "--ecosystem", "conda", "--source", &place];
    run(&[&add[..], &["--subdir", SUBDIR, "--subdir", "noarch", "--policy", "open"]].concat())?;
    run(&["sync", "main", "--dry-run"])?;
    super::plant(&at)?;
    run(&["sync", "main"])?;
    let peer = |asked: &str| -> Result<Value> {
        let output = Command::new(python).args(["-c", PEER, &place, SUBDIR, asked]).current_dir(dir).output();
        let output = output.map_err(|e| e.to_string())?;
        serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let names = peer("")?;
    for name in names.as_array().into_iter().flatten().filter_map(Value::as_str).take(LARGEST) {
        let asked = ["plan", name, "--channel", "main", "--platform", SUBDIR];
        let ours = median_of(|| run(&asked))?;
        let output = Command::new(airlock).args(["--station", &at, "--json"]).args(asked).output();
        let answer: Value = serde_json::from_slice(&output.map_err(|e| e.to_string())?.stdout)
            .map_err(|e| format!("plan of {name}: {e}"))?;
        let members = answer["plans"][0]["members"].as_array().into_iter().flatten();
        let mut files: Vec<&str> = members.filter_map(|member| member["artifact"].as_str()).collect();
        files.sort_unstable();
        let theirs = peer(name)?;
        let is_same = theirs["files"].as_array().is_some_and(|all| all.iter().eq(files.iter()));
        println!(
            "plan of {name}, {} files: {ours} (target {SECONDS_MAX} s); rattler.solve {} s from nothing, {} s with the index in memory; {}",
            files.len(),
            theirs["cold"],
            theirs["warm"],
            if is_same { "the same files" } else { "ANOTHER CHOICE" },
        );
    }
    Ok(())
}
