//! What developers run: `cargo xtask test`, `ci`, `bench`, `torture`, `rules`.

mod bench;
mod disk;
mod python;
mod rules;
mod system;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let result = match task.as_str() {
        "test" => test(),
        "ci" => ci(),
        "bench" => bench::run(std::env::args().nth(2).as_deref()),
        "torture" => torture(),
        "rules" => rules::check(&root()),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "say what to do:
  cargo xtask test      install what the tests need, as far as this machine allows, and run them all
  cargo xtask ci        what has to pass before a change lands: format, lints, docs, rules, tests, demonstration
  cargo xtask bench     measure, with peers and limits in the same run (or one of demo, index, feeds, scale, plan, carry, oneway, serve, match)
  cargo xtask torture   the long versions of the property and mutation tests
  cargo xtask rules     the rules of the house alone: sizes, rooms, dependencies, licences";

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs a program in the root, showing what it prints; its failure is ours.
fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    println!("$ {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("{program} cannot be started: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} {}: {status}", args.first().unwrap_or(&"")))
    }
}

fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    run(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), args, env)
}

fn test() -> Result<()> {
    system::prepare();
    let python = python::prepare(&root());
    let mut env: Vec<(&str, &str)> =
        python.as_deref().map(|p| ("AIRLOCK_TEST_PYTHON", p)).into_iter().collect();
    let skipped = root().join("target/skipped");
    let _ = std::fs::remove_file(&skipped);
    let path = skipped.to_string_lossy();
    env.push(("AIRLOCK_TESTS_SKIPPED", &path));
    let tested = cargo(&["test", "--workspace", "--locked"], &env);
    let text = std::fs::read_to_string(&skipped).unwrap_or_default();
    let all: std::collections::BTreeSet<&str> = text.lines().collect();
    match all.len() {
        0 => println!("no test of the program left anything out"),
        count => println!(
            "{count} tests left something out (with AIRLOCK_TESTS_COMPLETE=1 that is a failure):\n{}",
            all.into_iter().collect::<Vec<_>>().join("\n")
        ),
    }
    tested
}

fn ci() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    rules::check(&root())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])?;
    cargo(&["doc", "--workspace", "--no-deps", "--locked"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    test()?;
    cargo(&["run", "--locked", "--", "demo", "--exit"], &[])
}

fn torture() -> Result<()> {
    // Minutes instead of seconds of the same tests: more cases, and more mutations of each hostile input.
    let env = [("PROPTEST_CASES", "20000"), ("AIRLOCK_MUTATIONS", "100")];
    cargo(&["test", "--release", "--locked", "-p", "airlock-core", "-p", "airlock-formats"], &env)?;
    // Every reader of foreign bytes, and what each attack costs in memory, in processes of their own.
    cargo(&["test", "--release", "--locked", "-p", "airlock-testkit", "--test", "fuzzing"], &env)?;
    // Commands that are killed at many more moments, and disks that fill, break, or are pulled out.
    let test = ["test", "--release", "--locked", "-p", "airlock"];
    let kills = ["--test", "killed_crossings", "--test", "killed_runs"];
    cargo(&[&test[..], &kills[..], &["--test", "media"]].concat(), &[("AIRLOCK_KILLS", "100")])?;
    // The same kills with everything on a disk of its own, with another file system than the rest.
    match disk::mount(&root().join("target/torture"))? {
        None => println!("skipped: kills on a disk of its own, because none can be mounted here"),
        Some(disk) => {
            let place = disk.mount.to_string_lossy().into_owned();
            cargo(&[&test[..], &kills[..]].concat(), &[("AIRLOCK_KILLS", "100"), ("TMPDIR", &place)])?;
        }
    }
    let memory = ["--ignored", "--exact", "--nocapture", "no_attack_takes_more_memory_than_stated"];
    let test = ["test", "--release", "--locked", "-p", "airlock-formats", "--test", "memory", "--"];
    cargo(&[&test[..], &memory[..]].concat(), &[])
}
