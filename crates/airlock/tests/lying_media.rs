//! Media that give other bytes when they are read again, or none, as file systems of our own (FUSE).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::sealed::{opened, resealed};
use common::{Station, World, airlock, clients, files, is_whole, published, text};
use serde_json::json;

/// A folder seen through a medium that fails: `KIND` is `lies` or `breaks`, from the given opening of a file whose path ends as said, or
/// `swaps`, which gives the bytes of another file at that opening alone.
const MEDIUM: &str = r#"
import errno, os, sys
import mfusepy as fuse
root, mount, kind, ending, turn = sys.argv[1:4] + [sys.argv[4], int(sys.argv[5])]
other = sys.argv[6] if kind == "swaps" else None
KEYS = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
class Medium(fuse.Operations):
    def __init__(self):
        self.times, self.bad = {}, set()
    def getattr(self, path, fh=None):
        st = os.lstat(root + path)
        return {key: getattr(st, key) for key in KEYS}
    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(root + path)
    def open(self, path, flags):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise fuse.FuseOSError(errno.EROFS)
        fd = os.open(root + path, os.O_RDONLY)
        if path.endswith(ending):
            self.times[path] = self.times.get(path, 0) + 1
            if self.times[path] == turn or (self.times[path] > turn and kind != "swaps"):
                self.bad.add(fd)
        return fd
    def read(self, path, size, offset, fh):
        data = bytearray(os.pread(fh, size, offset))
        if fh in self.bad and kind == "swaps":
            with open(other, "rb") as file:
                return os.pread(file.fileno(), size, offset)
        if fh in self.bad and data:
            if kind == "breaks":
                raise fuse.FuseOSError(errno.EIO)
            data[len(data) // 2] ^= 1
        return bytes(data)
    def release(self, path, fh):
        self.bad.discard(fh)
        os.close(fh)
        return 0
fuse.FUSE(Medium(), mount, foreground=True, nothreads=True, direct_io=True)
"#;

/// A medium that is mounted for as long as this lives.
struct Medium {
    child: Child,
    mount: PathBuf,
}

impl Medium {
    /// None where it cannot be mounted, which is said.
    fn new(folder: &Path, mount: &Path, kind: &str, ending: &str, turn: u32) -> Option<Self> {
        Self::with(folder, mount, &[kind, ending, &turn.to_string()])
    }

    fn with(folder: &Path, mount: &Path, how: &[&str]) -> Option<Self> {
        let python = clients::python()?;
        std::fs::create_dir_all(mount).unwrap();
        let mut command = Command::new(python);
        command.args(["-c", MEDIUM]).args([folder, mount]).args(how);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut medium = Self { child, mount: mount.to_owned() };
        let began = Instant::now();
        while !mount.join("AIRLOCK.json").exists() {
            if medium.child.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(20) {
                airlock_testkit::skipped("media that lie, because FUSE cannot be used here");
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(medium)
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_medium_that_gives_other_bytes_when_it_is_read_again_brings_in_nothing_wrong() {
    let world = World::new().await;
    let (low, disk, _) = world.across();
    let wheel = files(&disk.join("files")).into_keys().find(|path| text(path).ends_with(".whl")).unwrap();
    let wheel = wheel.file_name().unwrap().to_str().unwrap().to_owned();
    let (mut refused, mut taken) = (0, 0);
    for ending in ["AIRLOCK.json", "AIRLOCK.sig", "objects.jsonl.zst", "README.txt", &wheel] {
        for turn in 1..=4 {
            let name = format!("{}-{turn}", ending.replace('.', "-"));
            let mount = world.path(&format!("mount-{name}"));
            let Some(_medium) = Medium::new(&disk, &mount, "lies", ending, turn) else { return };
            let high = world.station(&format!("high-{name}"), "isolated");
            high.trust(&low);
            let before = high.state();
            let answer = high.run(&["import", text(&mount)]);
            if answer.status == 0 {
                taken += 1;
                assert_eq!(published(&high), published(&low), "{name}");
                is_whole(&high);
            } else {
                refused += 1;
                assert_eq!(answer.status, 3, "{name}: {answer:?}");
                assert_eq!(high.state(), before, "{name}");
            }
            // The first look is always seen through.
            assert!(turn > 1 || answer.status == 3, "{name}: {answer:?}");
        }
    }
    println!("{refused} imports were refused, {taken} never met the lie");
    assert!(refused > 5 && taken > 0, "{refused} {taken}");
}

#[tokio::test]
async fn what_is_opened_of_a_sealed_bundle_is_what_its_sender_signed_however_often_the_medium_is_asked() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let disk = world.path("disk");
    let recipient =
        |station: &Station| station.json(&["key", "identity"])["recipients"][0].as_str().unwrap().to_owned();
    let (high, other) = (world.station("high", "isolated"), world.path("other.age"));
    high.trust(&low);
    low.run(&["export", text(&disk), "--seal", &recipient(&high)]).exits(0);
    // The same, sealed to the same recipient by somebody else: whoever knows a recipient can make such.
    for (path, name) in [("objects/manifest.age", "manifest"), ("objects/objects.age", "objects")] {
        let good = std::fs::read(disk.join(path)).unwrap();
        let swapped = resealed(&high, &good);
        assert_eq!(opened(&high, &swapped), opened(&high, &good));
        assert!(swapped.len() == good.len() && swapped != good);
        std::fs::write(&other, &swapped).unwrap();
        for turn in 1..=6 {
            let mount = world.path(&format!("mount-{name}-{turn}"));
            let how = ["swaps", path, &turn.to_string(), text(&other)];
            let Some(_medium) = Medium::with(&disk, &mount, &how) else { return };
            // What a plan took in before goes with a refusal.
            let counts = || (high.json(&["status"]), high.json(&["ledger", "log"]));
            let before = counts();
            let answer = high.run(&["import", text(&mount), "--plan"]);
            assert!(matches!(answer.status, 0 | 3), "{answer:?}");
            // It is read four times, of which one is to open it. What is sealed in the objects is held against the manifest inside
            // then, and this is the same.
            assert_eq!(answer.status == 3, turn <= if name == "manifest" { 4 } else { 3 }, "{name}, {turn}");
            assert_eq!(counts(), before);
        }
    }
    high.run(&["import", text(&disk)]).exits(0);
    assert_eq!(published(&high), published(&low));
}

#[tokio::test]
async fn files_that_a_medium_does_not_give_any_more_are_rebuilt_from_parity() {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", "4 MB", "--parity", "1"]).exits(0);
    let (first, mount) = (disk.join("volume-001"), world.path("mount"));
    let Some(_medium) = Medium::new(&first, &mount, "breaks", ".conda", 1) else { return };
    let key = low.key();
    airlock(&["verify", text(&mount), "--key", text(&key)]).exits(4);
    let high = world.station("high", "isolated");
    high.trust(&low);
    let mut parts = vec![text(&mount).to_owned()];
    let others = std::fs::read_dir(&disk).unwrap().map(|e| e.unwrap().path()).filter(|path| *path != first);
    parts.extend(others.map(|path| text(&path).to_owned()));
    let mut args = vec!["--json", "import"];
    args.extend(parts.iter().map(String::as_str));
    let report = high.run(&args).exits(0).json();
    let lost = files(&first.join("files")).keys().filter(|path| text(path).ends_with(".conda")).count();
    assert_eq!(report["bundles"][0]["rebuilt"], json!(lost), "{report}");
    assert_eq!(report["bundles"][0]["damaged"].as_array().unwrap().len(), lost);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
}
