//! A real virus scanner looks at what an import brings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use common::{World, is_whole, published, text};

/// A `clamd` that knows one file to be evil, for as long as this lives.
struct Clamd {
    child: Child,
    socket: PathBuf,
}

impl Clamd {
    /// None where there is none on this machine, which is said.
    fn start(dir: &Path, evil: &Path) -> Option<Self> {
        let (db, socket, config) = (dir.join("db"), dir.join("clamd.ctl"), dir.join("clamd.conf"));
        std::fs::create_dir_all(&db).unwrap();
        let bytes = std::fs::read(evil).unwrap();
        let known = format!("{}:{}:Test.Evil:73\n", Digest::of(&bytes), bytes.len());
        std::fs::write(db.join("test.hsb"), known).unwrap();
        let lines = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nForeground yes\nStreamMaxLength 100M\n",
            socket.display(),
            db.display()
        );
        std::fs::write(&config, lines).unwrap();
        let program = ["/usr/sbin/clamd", "/usr/bin/clamd", "clamd"];
        let mut start = program.into_iter().filter_map(|program| {
            let mut clamd = Command::new(program);
            clamd.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            clamd.spawn().ok()
        });
        let Some(child) = start.next() else {
            airlock_testkit::skipped("clamd, which cannot be started here");
            return None;
        };
        let mut clamd = Self { child, socket };
        let began = Instant::now();
        while !clamd.socket.exists() {
            if clamd.child.try_wait().unwrap().is_some() {
                airlock_testkit::skipped("clamd, which ends at once here");
                return None;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "clamd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(clamd)
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_clamd_knows_keeps_out_the_bundle_and_is_named_and_nothing_counts_without_its_yes() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let evil = world.path("conda/noarch/other-1.0-0.conda");
    let Some(clamd) = Clamd::start(&world.path("clamd"), &evil) else { return };
    let mut config = std::fs::OpenOptions::new().append(true).open(high.dir.join("airlock.toml")).unwrap();
    write!(config, "\n[import]\nclamd = \"{}\"\n", clamd.socket.display()).unwrap();
    let before = high.json(&["ledger", "log"]);
    let answer = high.run(&["import", text(&disk)]).exits(3);
    answer.says("other-1.0-0.conda may not come in").says("Test.Evil").says("hint");
    assert_eq!(high.json(&["ledger", "log"]), before);

    // The sender takes it away; all else comes in by the same scanner's word.
    low.run(&["block", "main", "other", "--reason", "it is evil"]).exits(0);
    let clean = world.path("clean");
    low.run(&["export", text(&clean)]).exits(0);
    high.run(&["import", text(&clean)]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);

    // Without a scanner there is no yes.
    let socket = clamd.socket.clone();
    drop(clamd);
    let _ = std::fs::remove_file(&socket);
    let blind = world.station("blind", "isolated");
    blind.trust(&low);
    let mut config = std::fs::OpenOptions::new().append(true).open(blind.dir.join("airlock.toml")).unwrap();
    write!(config, "\n[import]\nclamd = \"{}\"\n", socket.display()).unwrap();
    let before = blind.json(&["ledger", "log"]);
    blind.run(&["import", text(&clean)]).exits(4).says("clamd at").says("hint");
    assert_eq!(blind.json(&["ledger", "log"]), before);
}
