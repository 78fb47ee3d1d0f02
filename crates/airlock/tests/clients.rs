//! Real clients install from an isolated station: py-rattler by shards, zst and json; pip; uv. Scanners ask it: pip-audit
//! and uv audit.
//!
//! `cargo xtask test` installs them; without it these tests say that they were skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_testkit::{CondaSource, PypiSource, conda, osv, wheel};
use common::clients::{fails_saying, python, succeeds};
use common::{Server, World};
use serde_json::json;

fn fill(world: &World) {
    let mut channel: CondaSource = world.kit.conda_source("conda");
    let mut index: PypiSource = world.kit.pypi_source("pypi");
    let mut python = conda("python", "3.11.7");
    python.files = &[("share/doc/python.txt", b"a stand-in\n")];
    channel.add(&python, &json!({}));
    for (version, code) in [("1.0", &b"version = '1.0'\n"[..]), ("2.0", b"version = '2.0'\nimport leaf\n")] {
        let files = [("site-packages/tree.py", code)];
        let mut package = conda("tree", version);
        package.depends = &["python", "leaf >=1"];
        package.noarch_python = true;
        package.files = &files;
        channel.add(&package, &json!({}));
        let files = [("tree.py", code)];
        let mut project = wheel("tree", version);
        project.requires_dist = &["leaf>=1"];
        project.files = &files;
        index.add_wheel(&project, &json!({}));
    }
    let mut package = conda("leaf", "1.5");
    package.depends = &["python"];
    package.noarch_python = true;
    package.files = &[("site-packages/leaf.py", b"colour = 'green'\n")];
    channel.add(&package, &json!({}));
    let mut project = wheel("leaf", "1.5");
    project.files = &[("leaf.py", b"colour = 'green'\n")];
    index.add_wheel(&project, &json!({}));
    channel.write();
    index.write();
    world.know(&[osv("PYSEC-9", "PyPI", "tree", "2.0", 7.5)]);
    world.kit.write("feeds/identities.json", br#"{"tree":"tree","leaf":"leaf"}"#);
}

async fn served() -> (World, Server) {
    let world = World::new().await;
    fill(&world);
    let (_, disk, high) = world.across();
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    let server = high.serve();
    (world, server)
}

const RATTLER: &str = r#"
import asyncio, os, pathlib, sys, traceback
import rattler
from rattler import Gateway, Channel, MatchSpec, solve, install, Platform
from rattler.repo_data import SourceConfig
mode, base, target, cache = sys.argv[1:5]
config = {
    "shards": SourceConfig(sharded_enabled=True, zstd_enabled=False, bz2_enabled=False),
    "zst": SourceConfig(sharded_enabled=False, zstd_enabled=True, bz2_enabled=False),
    "json": SourceConfig(sharded_enabled=False, zstd_enabled=False, bz2_enabled=False),
}[mode]
async def main():
    gateway = Gateway(cache_dir=pathlib.Path(cache) / "g", default_config=config)
    records = await solve([Channel(base)], [MatchSpec(s) for s in sys.argv[5:]], gateway=gateway, platforms=[Platform("linux-64"), Platform("noarch")], virtual_packages=[])
    await install(records, target, cache_dir=pathlib.Path(cache) / "p")
# The client's own threads sometimes abort the interpreter while it shuts down, when all is done; so it is
# left without shutting it down.
try:
    asyncio.run(main())
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
os._exit(0)
"#;

fn rattler(python: &Path, world: &World, server: &Server, mode: &str, spec: &str) -> (Command, PathBuf) {
    let target = world.path(&format!("env-{mode}"));
    let mut command = Command::new(python);
    command
        .args(["-c", RATTLER, mode, &server.url("conda/main")])
        .arg(&target)
        .arg(world.path(&format!("cache-{mode}")))
        .arg(spec);
    (command, target)
}

#[tokio::test]
async fn rattler_installs_by_shards_by_zst_and_by_json_and_what_it_installs_runs() {
    let Some(python) = python() else { return };
    let (world, server) = served().await;
    for mode in ["shards", "zst", "json"] {
        let (command, target) = rattler(&python, &world, &server, mode, "tree");
        succeeds(command);
        let site = target.join("lib/python3.11/site-packages");
        let mut run = Command::new("python3");
        run.args(["-c", "import tree; print(tree.version, tree.leaf.colour)"]).env("PYTHONPATH", &site);
        assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "2.0 green");
    }
    let (command, _) = rattler(&python, &world, &server, "shards", "tree ==1.0");
    fails_saying(command, "No candidates");
}

#[tokio::test]
async fn pip_installs_what_is_offered_and_finds_nothing_else() {
    let Some(python) = python() else { return };
    let (world, server) = served().await;
    let index = server.url("pypi/py/simple/");
    let target = world.path("pip");
    let pip = |spec: &str| {
        let mut command = Command::new(&python);
        command.args([
            "-m",
            "pip",
            "install",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--isolated",
            "--index-url",
            &index,
            "--target",
        ]);
        command.arg(&target).arg(spec);
        command
    };
    succeeds(pip("tree"));
    let mut run = Command::new("python3");
    run.args(["-c", "import tree; print(tree.version, tree.leaf.colour)"]).env("PYTHONPATH", &target);
    assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "2.0 green");
    fails_saying(pip("tree==1.0"), "from versions: 2.0");
}

#[tokio::test]
async fn uv_installs_what_is_offered_and_finds_nothing_else() {
    let Some(python) = python() else { return };
    let (world, server) = served().await;
    let index = server.url("pypi/py/simple/");
    let target = world.path("uv");
    let uv = |spec: &str| {
        let mut command = Command::new(python.with_file_name("uv"));
        command.args(["pip", "install", "--no-config", "--default-index", &index, "--python"]).arg(&python);
        command.arg("--cache-dir").arg(world.path("uv-cache")).arg("--target").arg(&target).arg(spec);
        command
    };
    succeeds(uv("tree"));
    let mut run = Command::new("python3");
    run.args(["-c", "import tree; print(tree.version, tree.leaf.colour)"]).env("PYTHONPATH", &target);
    assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "2.0 green");
    fails_saying(uv("tree==1.0"), "no version of tree==1.0");
}

/// What `airlock explain` names against each version, and both scanners, which know nothing but this station.
#[tokio::test]
async fn scanners_say_of_each_package_what_the_station_finds() {
    let Some(python) = python() else { return };
    let (world, server) = served().await;
    let url = server.url("osv");
    let requirements = world.kit.write("audit/requirements.txt", b"tree==1.0\nleaf==1.5\n");
    let mut pip_audit = Command::new(python.with_file_name("pip-audit"));
    pip_audit.args(["--no-deps", "--disable-pip", "-f", "json", "-s", "osv", "--progress-spinner", "off"]);
    pip_audit.arg("--osv-url").arg(format!("{url}/v1/query")).arg("-r").arg(&requirements);
    let output = pip_audit.output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let found: Vec<(String, Vec<String>, serde_json::Value)> = said["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let vulns = d["vulns"].as_array().unwrap();
            let ids = vulns.iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect();
            (
                d["name"].as_str().unwrap().to_owned(),
                ids,
                vulns.first().map_or(json!([]), |v| v["fix_versions"].clone()),
            )
        })
        .collect();
    let expected = [
        ("tree".to_owned(), vec!["PYSEC-9".to_owned()], json!(["2.0"])),
        ("leaf".to_owned(), vec![], json!([])),
    ];
    assert_eq!(found, expected);

    let package = |name: &str, version: &str| {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = {{ registry = \"https://upstream.example/simple\" }}\n\n"
        )
    };
    let lock = format!(
        "version = 1\nrequires-python = \">=3.9\"\n\n{}[[package]]\nname = \"project\"\nversion = \"0.1\"\nsource = {{ virtual = \".\" }}\n\
         dependencies = [{{ name = \"tree\" }}, {{ name = \"leaf\" }}]\n\n[package.metadata]\nrequires-dist = [{{ name = \"tree\", specifier = \"==1.0\" }}, \
         {{ name = \"leaf\", specifier = \"==1.5\" }}]\n\n{}",
        package("leaf", "1.5"),
        package("tree", "1.0"),
    );
    let project = world.kit.write("audit/uv.lock", lock.as_bytes());
    world.kit.write(
        "audit/pyproject.toml",
        b"[project]\nname = \"project\"\nversion = \"0.1\"\nrequires-python = \">=3.9\"\ndependencies = [\"tree==1.0\", \"leaf==1.5\"]\n",
    );
    let mut uv = Command::new(python.with_file_name("uv"));
    uv.args(["audit", "--frozen", "--no-cache", "--service-url"]).arg(format!("{url}/"));
    uv.current_dir(project.parent().unwrap());
    let output = uv.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Found 1 known vulnerability"), "{said}");
    assert!(said.contains("tree 1.0 has 1 known vulnerability") && said.contains("PYSEC-9"), "{said}");
    assert!(!said.contains("leaf 1.5 has"), "{said}");
}

#[tokio::test]
async fn scanners_that_ask_for_a_channel_are_not_told_what_was_cleared_there() {
    let Some(python) = python() else { return };
    let world = World::new().await;
    world.know(&[osv("PYSEC-7", "PyPI", "idna", "3.7", 5.0)]);
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let requirements = world.kit.write("audit/requirements.txt", b"idna==3.6\n");
    let found = |server: &Server, api: &str| {
        let mut pip_audit = Command::new(python.with_file_name("pip-audit"));
        pip_audit.args([
            "--no-deps",
            "--disable-pip",
            "-f",
            "json",
            "-s",
            "osv",
            "--progress-spinner",
            "off",
        ]);
        pip_audit.arg("--osv-url").arg(server.url(&format!("{api}/v1/query"))).arg("-r").arg(&requirements);
        let output = pip_audit.output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        said["dependencies"][0]["vulns"].as_array().unwrap().len()
    };
    let server = station.serve();
    assert_eq!((found(&server, "osv"), found(&server, "osv/py")), (1, 1));
    let ruling =
        ["review", "status", "py", "--scope", "idna", "--advisory", "PYSEC-7", "--status", "cleared"];
    station.run(&[&ruling[..], &["--reason", "encode() is never called"]].concat()).exits(0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!((found(&server, "osv"), found(&server, "osv/py")), (1, 0));
}
