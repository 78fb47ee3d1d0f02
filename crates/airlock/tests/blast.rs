//! Whom a denial reaches: who was sent it before, over HTTP, and which lock files on record hold it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_testkit::osv;
use common::{Answer, Station, World, airlock};
use serde_json::{Value, json};

/// The same station on another day.
fn later(station: &Station, day: &str, args: &[&str]) -> Answer {
    let now = format!("{day}T12:00:00Z");
    let mut all = vec!["--station", station.dir.to_str().unwrap(), "--now", &now, "--quiet"];
    all.extend(args);
    airlock(&all)
}

/// A station on which idna 3.6 is fine yet, and was sent to somebody in both channels.
async fn served() -> (World, Station) {
    let world = World::new().await;
    world.know(&[osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)]);
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let server = station.serve();
    for _ in 0..3 {
        assert_eq!(server.get(&format!("conda/main/{}", file(&station, "main", "idna==3.6")), "*/*").0, 200);
    }
    for (spec, times) in [("idna==3.6", 2), ("idna==3.10", 1)] {
        for _ in 0..times {
            let path = format!("pypi/py/packages/idna/{}", file(&station, "py", spec));
            assert_eq!(server.get(&path, "*/*").0, 200);
        }
    }
    assert_eq!(server.stop(), Some(0));
    (world, station)
}

fn file(station: &Station, channel: &str, spec: &str) -> String {
    station.json(&["explain", channel, spec])["artifacts"][0]["artifact"].as_str().unwrap().to_owned()
}

fn lock(world: &World, station: &Station, name: &str, text: &str) -> Answer {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    station.run(&["locks", "add", path.to_str().unwrap(), "--name", name])
}

#[tokio::test]
async fn a_denial_names_whom_it_reaches_since_when_and_what_passes_instead() {
    let (world, station) = served().await;
    let wheel = file(&station, "py", "idna==3.6");
    let bytes = std::fs::read(world.path("pypi").join("files").join(&wheel))
        .or_else(|_| {
            std::fs::read(
                common::files(&world.path("pypi")).into_keys().find(|p| p.ends_with(&wheel)).unwrap(),
            )
        })
        .unwrap();
    let sha256 = airlock_core::id::Digest::of(&bytes);
    lock(&world, &station, "by-hash", &format!("idna==3.6 --hash=sha256:{sha256}\n"))
        .exits(0)
        .shows("1 package");
    lock(&world, &station, "by-version", "idna==3.6.0\nrequests==2.0\n").exits(0);
    lock(&world, &station, "other-bytes", &format!("idna==3.6 --hash=sha256:{}\n", "0".repeat(64))).exits(0);
    lock(&world, &station, "newer", "idna==3.10\n").exits(0);
    station.run(&["blast", "py"]).exits(0).shows("0 artifacts concerned").shows("4 lock files on record");

    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0),
    ]);
    later(&station, "2026-03-05", &["advisories", "update"]).exits(0);
    later(&station, "2026-03-07", &["judge", "--anew"]).exits(0);
    let ask =
        |args: &[&str]| later(&station, "2026-03-08", &[&["--json", "blast"], args].concat()).exits(0).json();
    for what in [&["py"][..], &["py", "PYSEC-2024-60"], &["py", "idna<3.7"]] {
        let blast = ask(what);
        let [one] = &blast["artifacts"].as_array().unwrap()[..] else { panic!("{what:?}: {blast}") };
        assert_eq!(one["artifact"], wheel.as_str());
        assert_eq!(one["verdict"], "denied");
        assert_eq!(one["rules"][0]["rule"], "cvss-above-7");
        assert!(one["why"].as_str().unwrap().contains("PYSEC-2024-60"), "{one}");
        assert_eq!(one["denied_since"], json!({"time": "2026-03-05T12:00:00Z", "exact": true}));
        assert_eq!(one["nearest"], "3.10");
        assert_eq!((&one["times"], &one["first"]), (&json!(2), &json!(common::NOW)));
        let client = json!({"client": "127.0.0.1", "account": null, "agent": "other", "channel": "py", "times": 2,
            "first": common::NOW, "last": common::NOW});
        assert_eq!(one["clients"], json!([client]));
        let locks = json!([{"name": "by-hash", "by": "bytes"}, {"name": "by-version", "by": "version"}]);
        assert_eq!(one["locks"], locks);
    }
    // What is asked for and passes is shown where somebody relies on it.
    let all = ask(&["py", "idna"]);
    let verdicts: Vec<&str> =
        all["artifacts"].as_array().unwrap().iter().map(|a| a["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["admitted", "denied"]);
    let conda = ask(&["main"]);
    assert_eq!(conda["artifacts"][0]["times"], 3);
    assert_eq!(conda["artifacts"][0]["locks"], json!([]));
    later(&station, "2026-03-08", &["blast", "py"])
        .exits(0)
        .shows(&format!("{wheel} denied since 2026-03-05T12:00:00Z: cvss-above-7: PYSEC-2024-60; nearest that passes: 3.10"))
        .shows("sent 2 times, first 2026-03-01T12:00:00Z")
        .shows("in lock file by-hash, by its hash")
        .shows("1 artifact concerned; 1 sent to somebody since 2025-09-09, 1 in 4 lock files on record.");
    later(&station, "2026-03-08", &["blast", "py", "CVE-1999-0001"]).exits(1);
    // After the retention nobody knows any more.
    let blast = later(&station, "2026-10-01", &["--json", "blast", "py", "idna<3.7"]).exits(0).json();
    assert_eq!((&blast["artifacts"][0]["times"], &blast["artifacts"][0]["first"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn the_same_bytes_in_another_channel_and_a_persons_block_count_too() {
    let (world, station) = served().await;
    let source = world.path("pypi");
    station
        .run(&["channel", "add", "twin", "--ecosystem", "pypi", "--source", source.to_str().unwrap()])
        .exits(0);
    station.run(&["sync", "twin"]).exits(0);
    later(&station, "2026-03-04", &["block", "twin", "idna==3.6", "--reason", "we do not want it"]).exits(0);
    let blast = later(&station, "2026-03-05", &["--json", "blast", "twin", "idna==3.6"]).exits(0).json();
    let one = &blast["artifacts"][0];
    assert_eq!((&one["times"], &one["clients"][0]["channel"]), (&json!(2), &json!("py")));
    assert!(one["why"].as_str().unwrap().contains("we do not want it"), "{one}");
    assert_eq!(one["denied_since"], json!({"time": "2026-03-04T12:00:00Z", "exact": true}));
}

#[tokio::test]
async fn lock_files_are_kept_by_name_and_what_is_none_is_refused() {
    let world = World::new().await;
    let station = world.connected("low");
    lock(&world, &station, "web", "idna==3.6\n-e .\nrange>=1\n")
        .exits(0)
        .shows("left out 2 that pin nothing");
    lock(&world, &station, "web", "idna==3.10\nrequests==2.0\n").exits(0);
    lock(&world, &station, "batch", "@EXPLICIT\nhttps://upstream.example/main/noarch/idna-3.6-py_0.conda\n")
        .exits(0);
    station
        .run(&["locks", "list"])
        .exits(0)
        .shows("batch  an explicit list")
        .shows("web    requirements.txt  2 packages");
    lock(&world, &station, "nonsense", "dear reader\n").exits(2).says("it is no lock file that is known");
    lock(&world, &station, "a b", "idna==3.6\n").exits(2).says("cannot name a lock file");
    let missing = world.path("missing");
    station.run(&["locks", "add", missing.to_str().unwrap(), "--name", "x"]).exits(4);
    // They stay whatever is collected, and one that is taken off goes.
    let gc = |grace: &str| station.run(&["gc", "--grace", grace]).exits(0);
    gc("0s");
    assert_eq!(station.json(&["locks", "list"])["locks"].as_array().unwrap().len(), 2);
    station.run(&["fsck"]).exits(0);
    station.run(&["locks", "remove", "web"]).exits(0);
    station.run(&["locks", "remove", "web"]).exits(2).says("no lock file is on record");
    assert_eq!(station.json(&["locks", "list"])["locks"][0]["name"], "batch");
    let ledger = station.json(&["ledger", "log"]);
    let actions: Vec<&str> = ledger["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["entry"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions.iter().filter(|a| a.starts_with("lock.")).count(), 4);
    station.run(&["ledger", "verify"]).exits(0);
}

const RATTLER: &str = r#"
import asyncio, os, pathlib, sys
from rattler import Gateway, Channel, MatchSpec, solve, Platform
from rattler.lock import LockChannel, LockFile, LockPlatform
base, target, cache = sys.argv[1:4]
async def main():
    gateway = Gateway(cache_dir=pathlib.Path(cache))
    records = await solve([Channel(base)], ["idna ==3.6"], gateway=gateway, platforms=["linux-64", "noarch"], virtual_packages=[])
    lock = LockFile([LockPlatform("linux-64")])
    lock.set_channels("default", [LockChannel(base)])
    for record in records:
        lock.add_conda_package("default", LockPlatform("linux-64"), record)
    lock.to_path(pathlib.Path(target))
asyncio.run(main())
os._exit(0)
"#;

fn quiet(command: &mut std::process::Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// `cargo xtask test` installs the programs; without them it says that it was skipped.
#[tokio::test]
async fn lock_files_that_real_programs_write_hold_what_was_locked() {
    let Some(python) = std::env::var_os("AIRLOCK_TEST_PYTHON").map(std::path::PathBuf::from) else {
        airlock_testkit::skipped(
            "no real client, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it",
        );
        return;
    };
    let (world, station) = served().await;
    let server = station.serve();
    let project = world.path("project");
    std::fs::create_dir(&project).unwrap();
    let index = server.url("pypi/py/simple/");
    let toml = format!(
        "[project]\nname = \"ours\"\nversion = \"0.1\"\nrequires-python = \">=3.9\"\ndependencies = [\"idna==3.6\"]\n[[tool.uv.index]]\nurl = \"{index}\"\ndefault = true\n"
    );
    std::fs::write(project.join("pyproject.toml"), toml).unwrap();
    std::fs::write(project.join("in.txt"), "idna==3.6\n").unwrap();
    let uv = |args: &[&str]| {
        let mut uv = std::process::Command::new(python.with_file_name("uv"));
        quiet(
            uv.args(args)
                .current_dir(&project)
                .env("UV_CACHE_DIR", world.path("uv-cache"))
                .env_remove("VIRTUAL_ENV"),
        );
    };
    uv(&["lock"]);
    uv(&["export", "--format", "pylock.toml", "-o", "pylock.toml", "--no-emit-project"]);
    uv(&[
        "pip",
        "compile",
        "in.txt",
        "--generate-hashes",
        "-o",
        "requirements.txt",
        "--default-index",
        &index,
    ]);
    quiet(
        std::process::Command::new(&python)
            .args(["-c", RATTLER, &server.url("conda/main")])
            .arg(project.join("pixi.lock"))
            .arg(world.path("rattler-cache")),
    );
    for file in ["uv.lock", "pylock.toml", "requirements.txt", "pixi.lock"] {
        let path = project.join(file);
        station.run(&["locks", "add", path.to_str().unwrap(), "--name", file]).exits(0).shows("1 package");
    }
    let held = |channel: &str| station.json(&["blast", channel, "idna"])["artifacts"].clone();
    let by_hash =
        |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n, "by": "bytes"})).collect() };
    let py = held("py");
    let old = py.as_array().unwrap().iter().find(|a| a["version"] == "3.6").unwrap();
    assert_eq!(old["locks"], by_hash(&["pylock.toml", "requirements.txt", "uv.lock"]), "{py}");
    let new = py.as_array().unwrap().iter().find(|a| a["version"] == "3.10").unwrap();
    assert_eq!(new["locks"], json!([]));
    let conda = held("main");
    assert_eq!(conda[0]["locks"], by_hash(&["pixi.lock"]), "{conda}");
}
