//! What people carry already is taken in on the command line, and real clients install from it when the medium is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_core::id::Digest;
use airlock_testkit::{CondaSource, conda, osv, wheel};
use common::clients::{fails_saying, python, rattler, succeeds};
use common::{Server, Station, World};
use serde_json::json;

/// A station that knows of one vulnerability, below 2.0 of `tree`.
fn station(world: &World) -> Station {
    let station = world.station("inside", "connected");
    world.know(&[osv("PYSEC-9", "PyPI", "tree", "2.0", 7.5)]);
    world.kit.write("feeds/identities.json", br#"{"tree":"tree","leaf":"leaf"}"#);
    for (kind, file) in [("osv", "osv.jsonl"), ("identities", "identities.json")] {
        let path = world.path("feeds").join(file);
        station.run(&["advisories", "add", kind, path.to_str().unwrap()]).exits(0);
    }
    station
}

/// Makes an archive of each platform below `media/main/pkgs` as the incumbent's tool does: with Python's `tarfile`.
const ARCHIVES: &str = r#"
import pathlib, sys, tarfile
media = pathlib.Path(sys.argv[1])
channel = media / "main"
for platform in channel.glob("pkgs/*"):
    with tarfile.open(media / f"{channel.name}-{platform.name}.tar.gz", "w:gz") as archive:
        archive.add(platform, recursive=True, arcname=platform.relative_to(media))
"#;

fn archives(world: &World) -> Vec<PathBuf> {
    let mut channel: CondaSource = world.kit.conda_source("media/main/pkgs");
    let mut python = conda("python", "3.11.7");
    python.subdir = "linux-64";
    python.files = &[("share/doc/python.txt", b"a stand-in\n")];
    channel.add_tar_bz2(&python, &json!({}));
    for version in ["1.0", "2.0"] {
        let mut package = conda("tree", version);
        package.depends = &["python"];
        package.noarch_python = true;
        package.files = &[("site-packages/tree.py", b"colour = 'green'\n")];
        channel.add(&package, &json!({}));
    }
    channel.write();
    let media = world.path("media");
    let mut command = Command::new("python3");
    command.args(["-c", ARCHIVES]).arg(&media);
    succeeds(command);
    std::fs::remove_dir_all(media.join("main")).unwrap();
    ["noarch", "linux-64"].map(|platform| media.join(format!("main-{platform}.tar.gz"))).to_vec()
}

#[tokio::test]
async fn the_incumbents_archives_are_judged_and_rattler_installs_what_passed_without_them() {
    let world = World::new().await;
    let station = station(&world);
    let archives = archives(&world);
    let [noarch, linux] = [0, 1].map(|at: usize| archives[at].to_str().unwrap());
    station.run(&["import", noarch]).exits(2).says("no bundle but a packed archive");
    let answer = station.json(&["import", noarch, linux, "--channel", "main"]);
    let tree = &answer["tree"];
    assert_eq!(
        (&tree["kind"], &tree["ecosystem"], &tree["is_new"]),
        (&json!("air-gap-archive"), &json!("conda"), &json!(true))
    );
    assert_eq!(
        (&tree["channel"], &tree["left"], &tree["fetched"]),
        (&json!("main"), &json!(null), &json!(2))
    );
    let sha256 = common::hash(&archives[0]).to_string();
    assert_eq!(
        tree["archives"][0],
        json!({"path": noarch, "bytes": std::fs::metadata(noarch).unwrap().len(), "sha256": sha256})
    );
    assert_eq!(answer["channels"][0]["counts"], json!({"admit": 2, "deny": 1, "hold": 0}), "{answer}");
    let log = station.json(&["ledger", "log"]).to_string();
    assert!(log.contains("channel.import") && log.contains(&sha256), "{log}");

    std::fs::remove_dir_all(world.path("media")).unwrap();
    let before = station.state();
    station.run(&["sync", "main"]).exits(2).says("airlock import PATH --channel main");
    assert_eq!(station.state(), before);
    station.run(&["judge", "main"]).exits(0);
    station.run(&["channel", "list"]).exits(0).shows("trees taken in");
    station.run(&["explain", "main", "tree"]).exits(0).shows("cvss-above-7");
    let server = station.serve();
    let Some(python) = python() else { return };
    let target = world.path("env");
    let asked = [vec!["tree"], vec!["tree ==1.0"]];
    let said = rattler(&python, &server.url("conda/main"), &json!([]), target.to_str().unwrap(), &asked);
    assert_eq!(said, [vec!["linux-64/python-3.11.7-0.tar.bz2", "noarch/tree-2.0-0.conda"], vec![]]);
    let mut run = Command::new("python3");
    run.args(["-c", "import tree; print(tree.colour)"]);
    run.env("PYTHONPATH", target.join("lib/python3.11/site-packages"));
    assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "green");
}

/// A mirror as bandersnatch keeps it.
fn mirror(world: &World) -> PathBuf {
    let mut list = String::new();
    for (name, versions) in [("tree", &["1.0", "2.0"][..]), ("leaf", &["1.5"])] {
        let mut links = String::new();
        for version in versions {
            let mut project = wheel(name, version);
            project.files = match name {
                "tree" => &[("tree.py", b"import leaf\n")],
                _ => &[("leaf.py", b"colour = 'green'\n")],
            };
            project.requires_dist = if name == "tree" { &["leaf>=1"] } else { &[] };
            let (file, bytes) = (project.file_name(), project.bytes().unwrap());
            let hash = Digest::of(&bytes).to_string();
            let place = format!("packages/{}/{}/{}/{file}", &hash[..2], &hash[2..4], &hash[4..]);
            world.kit.write(&format!("mirror/web/{place}"), &bytes);
            links += &format!(
                "    <a href=\"../../{place}#sha256={hash}\" data-requires-python=\"&gt;=3.8\">{file}</a><br/>\n"
            );
        }
        let page = format!(
            "<!DOCTYPE html>\n<html>\n  <head>\n    <meta name=\"pypi:repository-version\" content=\"1.0\">\n    <title>Links for {name}</title>\n  </head>\n  \
             <body>\n    <h1>Links for {name}</h1>\n{links}  </body>\n</html>\n<!--SERIAL 1-->"
        );
        world.kit.write(&format!("mirror/web/simple/{name}/index.html"), page.as_bytes());
        list += &format!("    <a href=\"{name}/\">{name}</a><br/>\n");
    }
    let list = format!("<!DOCTYPE html>\n<html>\n  <body>\n{list}  </body>\n</html>");
    world.kit.write("mirror/web/simple/index.html", list.as_bytes());
    world.path("mirror")
}

fn pip(python: &Path, what: &str, server: &Server, channel: &str) -> Command {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        what,
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--isolated",
        "--index-url",
    ]);
    command.arg(server.url(&format!("pypi/{channel}/simple/")));
    command
}

#[tokio::test]
async fn what_pip_downloads_from_a_bandersnatch_mirror_is_carried_on_and_installed() {
    let world = World::new().await;
    let station = station(&world);
    let mirror = mirror(&world);
    station.run(&["import", mirror.to_str().unwrap()]).exits(2).says("no bundle but a bandersnatch mirror");
    let answer =
        station.json(&["import", mirror.to_str().unwrap(), "--channel", "py", "--policy", "default"]);
    assert_eq!(
        (&answer["tree"]["kind"], &answer["tree"]["fetched"]),
        (&json!("bandersnatch"), &json!(2)),
        "{answer}"
    );
    std::fs::remove_dir_all(mirror).unwrap();
    let server = station.serve();
    let Some(python) = python() else { return };
    let carried = world.path("carried");
    let mut download = pip(&python, "download", &server, "py");
    download.arg("--dest").arg(&carried).arg("tree");
    succeeds(download);

    let answer = station.json(&["import", carried.to_str().unwrap(), "--channel", "team"]);
    let counts = &answer["channels"][0]["counts"];
    assert_eq!(
        (&answer["tree"]["kind"], counts),
        (&json!("pip-download"), &json!({"admit": 2, "deny": 0, "hold": 0}))
    );
    std::fs::remove_dir_all(carried).unwrap();
    let target = world.path("target");
    let mut install = pip(&python, "install", &server, "team");
    install.arg("--target").arg(&target).arg("tree");
    succeeds(install);
    let mut run = Command::new("python3");
    run.args(["-c", "import tree; print(tree.leaf.colour)"]).env("PYTHONPATH", &target);
    assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "green");
    let mut old = pip(&python, "install", &server, "py");
    old.arg("--target").arg(&target).arg("tree==1.0");
    fails_saying(old, "from versions: 2.0");
}

#[tokio::test]
async fn a_bundle_keeps_its_own_names() {
    let world = World::new().await;
    let (_, disk, high) = world.across();
    let disk = disk.to_str().unwrap();
    high.run(&["import", disk, "--channel", "mine"]).exits(2).says("is a bundle");
    high.run(&["import", disk, "--policy", "default"]).exits(2).says("--channel");
    high.run(&["import", disk]).exits(0);
}

#[tokio::test]
async fn names_that_strangers_chose_do_nothing_to_a_terminal() {
    let world = World::new().await;
    let inside = station(&world);
    let package = conda("leaf", "1.0");
    let folder = world.path("tree/noarch");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(package.file_name("conda")), package.conda().unwrap()).unwrap();
    let name = "evil-\u{1b}[2J\u{202e}fdp\r\nleaf: 1 admitted-1.0-0.conda";
    std::fs::write(folder.join(name), "x").unwrap();
    let path = world.path("tree");
    let answer = inside.run(&["--verbose", "import", path.to_str().unwrap(), "--channel", "tree"]);
    let shown = answer.stdout.clone() + &answer.stderr;
    assert!(
        shown.contains("evil-\u{fffd}[2J\u{fffd}fdp\u{fffd}\u{fffd}leaf: 1 admitted-1.0-0.conda"),
        "{answer:?}"
    );
    assert!(!shown.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{answer:?}");
    // Scripts get the name as it is.
    let all = inside.json(&["import", path.to_str().unwrap(), "--channel", "tree"]);
    assert_eq!(all["channels"][0]["left_out"]["records"][0]["file"], format!("noarch/{name}"));
}
