//! Measurements of whole commands, in release, with the machine's limit beside them.

mod carry;
mod feeds;
mod index;
mod matching;
mod oneway;
mod plan;
mod scale;
mod serve;

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, cargo, root};

/// Runs of each command; the median is printed.
const RUNS: usize = 5;

/// Measures what can be measured on this machine, and says what is skipped; one measurement by its name, or all.
pub fn run(wanted: Option<&str>) -> Result<()> {
    const NAMES: [&str; 9] = ["demo", "index", "feeds", "scale", "plan", "carry", "oneway", "serve", "match"];
    if let Some(other) = wanted.filter(|w| !NAMES.contains(w)) {
        return Err(format!("there is no measurement `{other}`; there are {}", NAMES.join(", ")));
    }
    // They build what they need, and not all of the workspace.
    match wanted {
        Some("match") => return matching::run(),
        Some("oneway") => return oneway::run(),
        _ => {}
    }
    cargo(&["build", "--release", "--locked"], &[])?;
    let airlock = root().join("target/release/airlock");
    let data = root().join("../shared/data");
    for name in NAMES.into_iter().filter(|name| wanted.is_none_or(|w| w == *name)) {
        match name {
            "demo" => {
                let demo = median_of(|| spend(Command::new(&airlock).args(["demo", "--exit"])))?;
                println!("demonstration, whole line on the built-in sample: {demo}");
            }
            "index" => index::run(&airlock)?,
            "carry" => carry::run()?,
            "oneway" => oneway::run()?,
            "serve" => serve::run(&airlock)?,
            "match" => matching::run()?,
            _ if !data.is_dir() => println!("skipped: {name}, because {} is not there", data.display()),
            "feeds" => feeds::run(&airlock, &data)?,
            "plan" => plan::run(&airlock, &data)?,
            _ => scale::run(&airlock, &data)?,
        }
    }
    Ok(())
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
struct Spent {
    wall: Duration,
    /// Processor time of the program and the system for it.
    processor: Duration,
    /// The most memory that it had at once, in bytes.
    memory: u64,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, processor) = (self.wall.as_secs_f64(), self.processor.as_secs_f64());
        write!(f, "{wall:.3} s, {processor:.2} s of processor, {} MiB", self.memory >> 20)
    }
}

/// Runs a command and measures it by `time`.
fn spend(command: &mut Command) -> Result<Spent> {
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-f", "%e %U %S %M", "-o"]);
    let report = root().join("target/bench-time");
    timed.arg(&report).arg(command.get_program()).args(command.get_args());
    let began = Instant::now();
    let output = timed.output().map_err(|e| format!("/usr/bin/time: {e}"))?;
    let wall = began.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = std::fs::read_to_string(&report).map_err(|e| e.to_string())?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [_, user, system, kilobytes] = numbers[..] else { return Err(format!("`time` says `{text}`")) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of kilobytes")]
    let memory = (kilobytes as u64) << 10;
    Ok(Spent { wall, processor: Duration::from_secs_f64(user + system), memory })
}

/// The run in the middle by time.
fn middle(mut all: Vec<Spent>) -> Result<Spent> {
    all.sort_by_key(|spent| spent.wall);
    all.get(all.len() / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
}

fn median_of(mut once: impl FnMut() -> Result<Spent>) -> Result<Spent> {
    middle((0..RUNS).map(|_| once()).collect::<Result<_>>()?)
}

fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.output().map_err(|e| e.to_string())?;
    let took = began.elapsed();
    if output.status.success() { Ok(took) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Builds what fills and asks stations for measurements.
fn examples() -> Result<()> {
    let examples = ["--example", "plant", "--example", "matching", "--example", "judging"];
    cargo(&[&["build", "--release", "--locked", "-p", "airlock-testkit"], &examples[..]].concat(), &[])
}

fn example(name: &str) -> Command {
    Command::new(root().join("target/release/examples").join(name))
}

/// Notes every file of the station's channel `main` as fetched, without its being there.
fn plant(station: &str) -> Result<()> {
    timed(example("plant").args([station, "main", "--facts-only"])).map(drop)
}

/// One advisory of its own, in a file of its own.
fn write_advisory(path: &Path, summary: &str) -> Result<()> {
    let record = format!(
        r#"{{"id":"BENCH-1","summary":"{summary}","affected":[{{"package":{{"ecosystem":"PyPI","name":"idna"}},"versions":["0"]}}]}}"#
    );
    std::fs::write(path, record).map_err(|e| e.to_string())
}
