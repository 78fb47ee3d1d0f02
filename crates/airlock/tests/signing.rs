//! Releasing bundles from the command line: keys, roots, candidates, and what receivers take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Answer, Station, World, airlock, files};

const PASSPHRASE: &str = "correct horse battery";

/// Keys of persons, and a root of one root key and two of three release keys.
struct People {
    dir: PathBuf,
}

impl People {
    fn new(world: &World) -> Self {
        let dir = world.path("people");
        std::fs::create_dir(&dir).unwrap();
        let people = Self { dir };
        std::fs::write(people.at("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        for name in ["officer", "ada", "bob", "eve"] {
            airlock(&["key", "new", &people.at(name), "--passphrase-file", &people.at("passphrase")])
                .exits(0)
                .shows("fingerprint");
        }
        people
            .run(&[
                "key",
                "root",
                "new",
                &people.at("root.json"),
                "--name",
                "agency",
                "--add-root",
                &people.public("officer"),
                "--root-threshold",
                "1",
                "--add-release",
                &people.public("ada"),
                "--add-release",
                &people.public("bob"),
                "--add-release",
                &people.public("eve"),
                "--release-threshold",
                "2",
            ])
            .exits(0)
            .shows("Missing: 1 signature of its own root keys: officer");
        people.sign_root().exits(0).shows("It is complete.");
        people
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// `ada=.../ada.pub`
    fn public(&self, name: &str) -> String {
        format!("{name}={}.pub", self.at(name))
    }

    fn run(&self, args: &[&str]) -> Answer {
        airlock(args)
    }

    fn signs(&self, what: &[&str], who: &str) -> Answer {
        let (key, passphrase) = (self.at(who), self.at("passphrase"));
        let mut args = what.to_vec();
        args.extend(["--key", &key, "--passphrase-file", &passphrase]);
        airlock(&args)
    }

    fn sign_root(&self) -> Answer {
        self.signs(&["key", "root", "sign", &self.at("root.json")], "officer")
    }

    fn print(&self) -> String {
        let shown = airlock(&["--json", "key", "root", "show", &self.at("root.json")]).exits(0).json();
        shown["fingerprint"].as_str().unwrap().to_owned()
    }
}

/// From now on a station's bundles are released by the root.
fn by_root(station: &Station, people: &People) {
    let path = station.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n[release]\nroot = \"{}\"\n", people.at("root.json"))).unwrap();
}

fn connected(world: &World, people: &People) -> Station {
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    by_root(&low, people);
    low
}

fn isolated(world: &World, people: &People) -> Station {
    let high = world.station("high", "isolated");
    let root = people.at("root.json");
    high.run(&["trust", "add", "agency", &root, "--fingerprint", "00000"])
        .exits(3)
        .says("not the one that was typed");
    high.run(&["trust", "add", "agency", &root, "--fingerprint", &people.print()]).exits(0);
    high
}

/// Whether all of these programs are there.
fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| !s.success())
    });
    if let Some(program) = missing {
        airlock_testkit::skipped(&format!("{program} is missing"));
    }
    missing.is_none()
}

#[tokio::test]
async fn two_of_three_persons_release_a_bundle_and_the_receiver_takes_it_then() {
    let world = World::new().await;
    let people = People::new(&world);
    let (low, high) = (connected(&world, &people), isolated(&world, &people));
    let disk = world.path("disk");
    let dir = disk.to_str().unwrap();
    low.run(&["export", dir]).exits(0).shows("It is not released yet: root `agency`, version 1, asks for 2 more signatures; ada, bob or eve can sign it");
    let before = high.state();
    high.run(&["import", dir]).exits(3).says("is not released").says("nobody signed");
    airlock(&["verify", dir, "--key", low.key().to_str().unwrap()]).exits(3).says("is not released");
    let signed =
        people.signs(&["sign", dir], "ada").exits(0).says("Whole and unchanged").says("agency, version 1");
    signed.shows("Signed by ada.").shows("asks for 1 more signature, signed by ada; bob or eve can sign it");
    people.signs(&["sign", dir], "ada").exits(0).shows("asks for 1 more signature");
    high.run(&["import", dir]).exits(3).says("and ada signed");
    people.signs(&["sign", dir], "officer").exits(3).says("does not name");
    let public = |name: &str| PathBuf::from(format!("{}.pub", people.at(name)));
    let by_hand = |who: &[&str]| {
        let keys: Vec<PathBuf> =
            std::iter::once(low.key()).chain(who.iter().map(|name| public(name))).collect();
        common::by_hand(&disk, &keys.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    };
    if has(&["openssl"]) {
        assert!(by_hand(&[]).unwrap_err().contains("persons release this"));
        assert!(by_hand(&["ada", "bob"]).unwrap_err().contains("key 3 has not signed it"));
    }
    assert_eq!(high.state(), before);
    // The second has a token; here it is openssl that signs.
    if has(&["openssl"]) {
        let plain = people.at("bob.plain");
        let done = Command::new("openssl")
            .args([
                "pkcs8",
                "-in",
                &people.at("bob"),
                "-passin",
                &format!("pass:{PASSPHRASE}"),
                "-out",
                &plain,
            ])
            .status()
            .unwrap();
        assert!(done.success());
        let command = format!("openssl pkeyutl -sign -rawin -inkey {plain} -in \"$AIRLOCK_MESSAGE\"");
        let public = format!("{}.pub", people.at("bob"));
        airlock(&["sign", dir, "--key", &public, "--command", &command])
            .exits(0)
            .shows("is released by root `agency`");
        assert!(by_hand(&["ada", "bob"]).unwrap().contains("GOOD: all, "));
        assert!(by_hand(&[]).unwrap_err().contains("persons release this"));
    } else {
        people.signs(&["sign", dir], "bob").exits(0).shows("is released by root `agency`");
    }
    airlock(&["verify", dir, "--key", &people.at("root.json")])
        .exits(0)
        .shows("released by ada, bob, for root agency, version 1");
    let header =
        airlock(&["--json", "verify", dir, "--key", &people.at("root.json"), "--header"]).exits(0).json();
    assert_eq!(header["released"]["version"], 1);
    airlock(&["verify", dir, "--key", low.key().to_str().unwrap()]).exits(0);
    high.run(&["import", dir]).exits(0);
    high.run(&["trust", "list"]).exits(0).shows("root agency, version 1");
    // Nothing tells the passphrase.
    for station in [&low, &high] {
        for (path, _) in files(&station.dir).into_iter().chain(files(&disk)) {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(PASSPHRASE.len()).any(|w| w == PASSPHRASE.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn a_stolen_release_key_is_refused_from_the_bundle_on_that_brings_its_revocation() {
    let world = World::new().await;
    let people = People::new(&world);
    let (low, high) = (connected(&world, &people), isolated(&world, &people));
    let export = |name: &str, by: &[&str]| {
        let disk = world.path(name).to_str().unwrap().to_owned();
        low.run(&["export", &disk]).exits(0);
        for who in by {
            people.signs(&["sign", &disk], who).exits(0);
        }
        disk
    };
    let first = export("first", &["ada", "eve"]);
    high.run(&["import", &first]).exits(0);
    let stolen = export("stolen", &["bob", "eve"]);
    // Two keys go, and dan's comes; nobody but the officer can say so.
    let root = people.at("root.json");
    airlock(&["key", "new", &people.at("dan"), "--passphrase-file", &people.at("passphrase")]).exits(0);
    airlock(&[
        "key",
        "root",
        "change",
        &root,
        "--remove-release",
        "bob",
        "--remove-release",
        "eve",
        "--add-release",
        &people.public("dan"),
    ])
    .exits(0)
    .shows("Missing: 1 signature of the root keys before it: officer");
    people.signs(&["key", "root", "sign", &root], "ada").exits(3).says("is no root key");
    low.run(&["export", world.path("early").to_str().unwrap()]).exits(3).says("lacks 1 of the signatures");
    airlock(&["key", "root", "change", &root, "--release-threshold", "1"])
        .exits(2)
        .says("lacks signatures yet");
    people.sign_root().exits(0).shows("version 2").shows("It is complete.");
    let second = export("second", &["ada", "dan"]);
    people.signs(&["sign", &second], "eve").exits(3).says("does not name");
    high.run(&["import", &second]).exits(0);
    high.run(&["trust", "list"]).exits(0).shows("root agency, version 2").shows(&people.print());
    assert!(high.run(&["ledger", "log"]).exits(0).stdout.contains("trust.root"));
    let before = high.state();
    high.run(&["import", &stolen]).exits(3).says("version 2 of root `agency`").says("counts for nothing");
    high.run(&["trust", "update", &root]).exits(0).shows("is known already");
    assert_eq!(high.state(), before);
    // Another station hears of it without a bundle.
    let other = world.station("other", "isolated");
    other.run(&["trust", "update", &root]).exits(3).says("is not trusted here");
}

#[tokio::test]
async fn a_file_of_advisories_is_released_as_a_folder_is() {
    let world = World::new().await;
    let people = People::new(&world);
    let (low, high) = (connected(&world, &people), isolated(&world, &people));
    let file = world.path("advisories.tar");
    let path = file.to_str().unwrap();
    low.run(&["advisories", "export", path]).exits(0).shows("not released yet");
    high.run(&["advisories", "import", path]).exits(3).says("is not released");
    people.signs(&["sign", path], "bob").exits(0);
    let before = std::fs::read(&file).unwrap();
    people.signs(&["sign", path], "officer").exits(3);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    people.signs(&["sign", path], "eve").exits(0).shows("is released");
    high.run(&["advisories", "import", path]).exits(0);
}

#[tokio::test]
async fn what_the_bundle_says_of_verifying_by_hand_is_true_of_one_with_several_signatures() {
    if !has(&["openssl", "xxd", "awk", "python3", "sha256sum"]) {
        return;
    }
    let world = World::new().await;
    let people = People::new(&world);
    let low = connected(&world, &people);
    let disk = world.path("disk");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    for who in ["ada", "bob"] {
        people.signs(&["sign", disk.to_str().unwrap()], who).exits(0);
    }
    let readme = std::fs::read_to_string(disk.join("README.txt")).unwrap();
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("airlock"))
        .collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let script = commands.join("\n").replace("/tmp/sig.bin", world.path("sig.bin").to_str().unwrap());
    let by_hand = |key: &Path| {
        let script = script.replace("station.pub", key.to_str().unwrap());
        let output = Command::new("sh").args(["-ec", &script]).current_dir(&disk).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let print = low.json(&["status"])["fingerprint"].as_str().unwrap().replace('-', "");
    let (is_good, said) = by_hand(&low.key());
    assert!(is_good && said.contains("Verified Successfully") && said.contains("OK\n"), "{said}");
    assert!(said.contains(&print), "{said}");
    // A person's key verifies its own line in the same way, and that of a stranger none.
    assert!(by_hand(Path::new(&format!("{}.pub", people.at("ada")))).0);
    assert!(!by_hand(Path::new(&format!("{}.pub", people.at("eve")))).0);
}

#[tokio::test]
async fn the_root_can_be_held_against_its_signatures_and_fingerprint_by_hand() {
    if !has(&["openssl", "xxd", "awk", "python3", "sha256sum"]) {
        return;
    }
    let world = World::new().await;
    let people = People::new(&world);
    let doc = include_str!("../../../docs/signing.md");
    let script: Vec<&str> = doc
        .split("## A root by hand")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let script = script
        .join("\n")
        .replace("agency.root", &people.at("root.json"))
        .replace("officer.pub", &format!("{}.pub", people.at("officer")));
    let run = Command::new("sh").args(["-ec", &script]).current_dir(world.path("people")).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(
        said.contains("Verified Successfully") && said.contains(&people.print().replace('-', "")),
        "{said}"
    );
}

/// Types on a terminal, and shows what stands on it then.
const TYPIST: &str = r"
import os, pty, select, sys, time
end = time.time() + 120
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b''
typed = [line.encode() for line in os.environ['TYPED'].split('|')]
while time.time() < end:
    if not select.select([fd], [], [], 1)[0]:
        continue
    try:
        some = os.read(fd, 4096)
    except OSError:
        break
    if not some:
        break
    seen += some
    if seen.rstrip(b' ').endswith(b':') and typed:
        os.write(fd, typed.pop(0) + b'\n')
else:
    os.kill(pid, 9)
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[tokio::test]
async fn a_passphrase_is_asked_for_on_the_terminal_and_not_shown() {
    if !has(&["python3"]) {
        return;
    }
    let world = World::new().await;
    let at = world.path("typed.key");
    let path = at.to_str().unwrap();
    let types = |typed: &str, args: &[&str]| {
        let output = Command::new("python3")
            .args(["-c", TYPIST, env!("CARGO_BIN_EXE_airlock")])
            .args(args)
            .env("TYPED", typed)
            .output()
            .unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        assert!(!seen.contains("horse"), "{seen}");
        (output.status.code(), seen)
    };
    let (status, seen) = types(&format!("{PASSPHRASE}|{PASSPHRASE} not"), &["key", "new", path]);
    assert!(status == Some(2) && seen.contains("the two passphrases differ") && !at.exists(), "{seen}");
    let (status, seen) = types(&format!("{PASSPHRASE}|{PASSPHRASE}"), &["key", "new", path]);
    assert!(status == Some(0) && seen.contains("Once more: "), "{seen}");
    let root = world.path("root.json");
    let (root, public) = (root.to_str().unwrap(), format!("me={path}.pub"));
    let other = world.path("other.key");
    std::fs::write(world.path("words"), PASSPHRASE).unwrap();
    airlock(&[
        "key",
        "new",
        other.to_str().unwrap(),
        "--passphrase-file",
        world.path("words").to_str().unwrap(),
    ])
    .exits(0);
    let release = format!("you={}.pub", other.to_str().unwrap());
    airlock(&[
        "key",
        "root",
        "new",
        root,
        "--name",
        "mine",
        "--add-root",
        &public,
        "--root-threshold",
        "1",
        "--add-release",
        &release,
        "--release-threshold",
        "1",
    ])
    .exits(0);
    let (status, seen) = types("wrong", &["key", "root", "sign", root, "--key", path]);
    assert!(status == Some(2) && seen.contains("the passphrase is another one"), "{seen}");
    let (status, seen) = types(PASSPHRASE, &["key", "root", "sign", root, "--key", path]);
    assert!(status == Some(0) && seen.contains("It is complete."), "{seen}");
}
