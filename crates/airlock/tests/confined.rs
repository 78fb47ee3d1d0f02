//! What reads foreign bytes runs with what it needs: shown by a program that runs in its place, and from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{NOW, Station, World, airlock, published, text};
use serde_json::Value;

/// Tries one thing after another and notes what it could do. `$1` is where it notes that, and the file that it is asked about
/// comes last.
const PROBE: &str = r#"
try() { (eval "$2") >/dev/null 2>&1 && echo "$1" >> "$REPORT"; return 0; }
try 'note' ':'
try 'read the file that it is asked about' "cat '$FILE'"
try 'change the file that it is asked about' ": >> '$FILE'"
try 'write into the station' ": > '$STATION/new'"
try 'read the bundle' "cat '$DISK/AIRLOCK.json'"
try 'change the bundle' ": >> '$DISK/AIRLOCK.json'"
try 'put something beside the bundle' ": > '$DISK/new'"
try 'remove something of the bundle' "rm '$DISK/README.txt'"
try 'read what lies elsewhere' "cat '$ELSEWHERE/secret'"
try 'list what lies elsewhere' "ls '$ELSEWHERE'"
try 'write elsewhere' ": > '$ELSEWHERE/new'"
try 'run what lies elsewhere' "'$ELSEWHERE/program'"
try 'write into /tmp' "t=\$(mktemp /tmp/confined.XXXXXX) && rm \"\$t\""
try 'connect' "exec 3<>/dev/tcp/127.0.0.1/$PORT"
try 'signal another process' "kill -0 $PROCESS"
"#;
/// What of it anybody may who looks at files that come in.
const MAY: [&str; 3] = ["note", "read the bundle", "read the file that it is asked about"];

/// A program that stands in for a scanner, and what is around it.
struct Probe {
    world: World,
    high: Station,
    disk: PathBuf,
    elsewhere: PathBuf,
    notes: PathBuf,
    script: PathBuf,
    listener: TcpListener,
}

impl Probe {
    async fn new() -> Self {
        let world = World::new().await;
        let (_, disk, high) = world.across();
        let (elsewhere, notes) = (world.path("elsewhere"), world.path("notes"));
        for folder in [&elsewhere, &notes] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(elsewhere.join("secret"), "secret").unwrap();
        Command::new("cp").args(["/bin/true", text(&elsewhere.join("program"))]).status().unwrap();
        let script = world.path("probe.sh");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { world, high, disk, elsewhere, notes, script, listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Writes the program, which ends with `end`.
    fn write(&self, end: &str) {
        let (disk, elsewhere, report) = (text(&self.disk), text(&self.elsewhere), self.notes.join("report"));
        let station = text(&self.high.dir);
        let (report, port, process) = (text(&report), self.port(), std::process::id());
        let head = format!(
            "FILE=$1 STATION='{station}' DISK='{disk}' ELSEWHERE='{elsewhere}' REPORT='{report}' PORT={port} PROCESS={process}\n"
        );
        std::fs::write(&self.script, format!("{head}{PROBE}\n{end}\n")).unwrap();
    }

    /// The receiver asks the program, with further settings.
    fn ask(&self, settings: &str) {
        let config = self.high.dir.join("airlock.toml");
        let plain = std::fs::read_to_string(&config).unwrap();
        let plain = plain.split("\n[import]").next().unwrap();
        let (script, notes) = (text(&self.script), text(&self.notes));
        let import = format!("command = [\"bash\", \"{script}\"]\nwrites = [\"{notes}\"]\n{settings}");
        std::fs::write(&config, format!("{plain}\n[import]\n{import}")).unwrap();
    }

    /// What the program could do since the last time, at any file.
    fn could(&self) -> Vec<String> {
        let report = self.notes.join("report");
        let noted = std::fs::read_to_string(&report).unwrap_or_default();
        let _ = std::fs::remove_file(&report);
        let mut could: Vec<String> = noted.lines().map(str::to_owned).collect();
        could.sort();
        could.dedup();
        could
    }
}

/// Whether imports are confined here, which an answer says.
fn is_confined(answer: &Value) -> bool {
    match answer["confined"].as_str() {
        Some("full") => true,
        Some(how @ ("partial" | "none")) => {
            airlock_testkit::skipped(&format!(
                "what a confined import may not, because this kernel's Landlock is `{how}`"
            ));
            false
        }
        other => panic!("{other:?}: {answer}"),
    }
}

#[tokio::test]
async fn a_program_in_the_place_of_the_scanner_reaches_the_bundle_the_station_and_nothing_else() {
    let probe = Probe::new().await;
    probe.write("exit 0");
    // By itself it can do all of it: what it cannot do below is not for want of trying.
    let mut bare = Command::new("bash");
    let file = probe.elsewhere.join("secret");
    assert!(bare.arg(&probe.script).arg(&file).status().unwrap().success());
    let all = probe.could();
    assert_eq!(all.len(), PROBE.matches("\ntry '").count(), "{all:?}");
    let low = Station { dir: probe.world.path("low") };
    let again = probe.world.path("again");
    low.run(&["export", text(&again)]).exits(0);
    let probe = Probe { disk: again, ..probe };
    probe.write("exit 0");
    probe.ask("");
    let before = common::files(&probe.disk);
    let answer = probe.high.run(&["--json", "import", text(&probe.disk)]).exits(0).json();
    if !is_confined(&answer) {
        return;
    }
    assert_eq!(probe.could(), MAY);
    assert_eq!(common::files(&probe.disk), before);
    assert_eq!(published(&probe.high), published(&low));
}

#[tokio::test]
async fn what_the_settings_name_is_reached_too() {
    let probe = Probe::new().await;
    probe.write("exit 0");
    let (elsewhere, port) = (text(&probe.elsewhere), probe.port());
    probe.ask(&format!("reads = [\"{elsewhere}\"]\nports = [{port}]\n"));
    let answer = probe.high.run(&["--json", "import", text(&probe.disk)]).exits(0).json();
    if !is_confined(&answer) {
        return;
    }
    let further =
        ["connect", "list what lies elsewhere", "read what lies elsewhere", "run what lies elsewhere"];
    let mut may = [&MAY[..], &further[..]].concat();
    may.sort_unstable();
    assert_eq!(probe.could(), may);
    // Another port is not reached.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let moved = Probe { listener: other, ..probe };
    moved.write("exit 0");
    let high = moved.world.station("second", "isolated");
    high.trust(&Station { dir: moved.world.path("low") });
    let moved = Probe { high, ..moved };
    moved.ask(&format!("ports = [{port}]\n"));
    moved.high.run(&["import", text(&moved.disk)]).exits(0);
    assert_eq!(moved.could(), MAY);
}

#[tokio::test]
async fn no_thread_of_an_import_gains_rights_or_leaves_an_image_of_its_memory() {
    let probe = Probe::new().await;
    let go = probe.notes.join("go");
    // It waits, so that one can look.
    probe.write(&format!("while ! [ -e '{}' ]; do sleep 0.05; done; exit 0", text(&go)));
    probe.ask("");
    let mut child = probe.high.start(&["import", text(&probe.disk)]);
    let began = Instant::now();
    while !probe.notes.join("report").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody asked");
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let mut threads = 0;
    for task in std::fs::read_dir(process.join("task")).unwrap() {
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads > 1);
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    std::fs::write(&go, "").unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn paths_may_be_relative_or_links_and_the_store_may_lie_elsewhere() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let mount = world.path("mount");
    symlink(&disk, &mount).unwrap();
    // Its files are on another disk, and so is its database.
    let data = world.path("data");
    std::fs::create_dir(&data).unwrap();
    for part in ["blobs", "airlock.db", "airlock.db-wal", "airlock.db-shm"] {
        if std::fs::rename(high.dir.join(part), data.join(part)).is_ok() && !part.contains('-') {
            symlink(data.join(part), high.dir.join(part)).unwrap();
        }
    }
    let at = |dir: &Path, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
        let output =
            command.current_dir(dir).args(["--now", NOW, "--json"]).args(args).env("USER", "ada").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    std::fs::create_dir(world.path("receipts")).unwrap();
    let args = ["import", "../mount", "--receipt-out", "../receipts/back.json"];
    let answer = at(&high.dir, &args);
    assert_eq!(answer["bundles"][0]["number"], 1);
    assert!(world.path("receipts/back.json").exists() && world.path("receipts/back.json.html").exists());
    assert_eq!(published(&high), published(&low));
    // A receipt beside where one stands.
    let here = at(
        &world.path("receipts"),
        &["--station", text(&high.dir), "import", "../mount", "--receipt-out", "again.json"],
    );
    assert_eq!(here["bundles"][0]["again"], true);
    assert!(world.path("receipts/again.json").exists());
    let answer = at(&disk, &["verify", ".", "--key", text(&low.key())]);
    assert_eq!((&answer["whole"], &answer["confined"]), (&true.into(), &here["confined"]));
}

#[tokio::test]
async fn a_tree_is_judged_with_feeds_that_lie_elsewhere_and_were_never_read() {
    let world = World::new().await;
    let station = world.station("high", "isolated");
    let feeds = world.path("feeds");
    for (kind, file) in [("osv", "osv.jsonl"), ("identities", "identities.json")] {
        station.run(&["advisories", "add", kind, text(&feeds.join(file))]).exits(0);
    }
    let answer = station.json(&["import", text(&world.path("conda")), "--channel", "tree"]);
    assert!(answer["confined"].is_string(), "{answer}");
    station.run(&["explain", "tree", "idna=3.6"]).shows("PYSEC-2024-60");
    // Nothing is confined that reads nothing foreign.
    assert_eq!(station.json(&["status"])["confined"], Value::Null);
    airlock(&["verify", text(&world.path("nothing")), "--key", text(&station.key())]).says("nothing");
}

#[tokio::test]
async fn a_published_bundle_is_pulled_by_the_name_of_its_host() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", text(&disk)]);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(" port ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let config = high.dir.join("airlock.toml");
    let plain = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, plain.replace("hosts = []", "hosts = [\"localhost\"]")).unwrap();
    let url = format!("http://localhost:{port}/");
    let verified = high.json(&["verify", &url]);
    let pulled = high.json(&["import", &url]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((&verified["verified"], &pulled["bundles"][0]["number"]), (&true.into(), &1.into()));
    assert_eq!(published(&high), published(&low));
    assert!(pulled["confined"].is_string() && verified["confined"].is_string(), "{pulled}");
}
