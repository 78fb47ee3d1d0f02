//! Exports and imports that are killed at any moment: run again, they end as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Station, World, airlock, files, kills};
use serde_json::Value;

/// The moment of a kill, the same for the same seed.
fn moment(seed: u32, within: Duration) -> Duration {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    for _ in 0..3 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    within.mul_f64((state % 1000) as f64 / 1000.0)
}

/// Starts a command and kills it after a while; 1 if it was still running.
fn killed(station: &Station, args: &[&str], after: Duration) -> u64 {
    let mut child = station.start(args);
    std::thread::sleep(after);
    child.kill().unwrap();
    u64::from(child.wait().unwrap().code().is_none())
}

/// The contents that a station publishes, as its ledger says, by channel.
fn contents(station: &Station) -> Vec<(String, Value)> {
    let log = station.json(&["ledger", "log"]);
    let mut out: Vec<(String, Value)> = log["entries"]
        .as_array()
        .unwrap_or_else(|| panic!("{log}"))
        .iter()
        .map(|e| &e["entry"])
        .filter(|e| e["action"] == "channel.publish")
        .map(|e| (e["subject"].as_str().unwrap().to_owned(), e["detail"]["content"].clone()))
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.dedup();
    assert!(!out.is_empty(), "{log}");
    out
}

fn staging(station: &Station) -> Vec<PathBuf> {
    std::fs::read_dir(station.dir.join("blobs/staging")).unwrap().map(|e| e.unwrap().path()).collect()
}

/// What a bundle carries, by path below it.
fn carried(disk: &Path) -> Vec<PathBuf> {
    files(&disk.join("files")).into_keys().map(|p| p.strip_prefix(disk).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_killed_export_is_no_bundle_and_the_next_one_to_the_same_folder_is_whole() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let calm = world.path("calm");
    let began = Instant::now();
    low.run(&["export", calm.to_str().unwrap()]).exits(0);
    let took = began.elapsed();
    let disk = world.path("disk");
    let args = ["export", disk.to_str().unwrap()];
    let mut hit = 0;
    for seed in 0..kills() {
        hit += killed(&low, &args, moment(seed, took));
        if disk.join("AIRLOCK.sig").exists() && !disk.join("AIRLOCK.partial").exists() {
            // It was faster than the kill: what is signed is whole.
            airlock(&["verify", disk.to_str().unwrap(), "--key", low.key().to_str().unwrap()]).exits(0);
            std::fs::remove_dir_all(&disk).unwrap();
        } else if disk.exists() {
            airlock(&["verify", disk.to_str().unwrap(), "--key", low.key().to_str().unwrap()]).exits(3);
            // Damage to what lies there is found, and not carried on.
            if let Some((one, _)) =
                files(&disk).into_iter().find(|(p, n)| p.starts_with(disk.join("files")) && *n > 0)
            {
                let mut bytes = std::fs::read(&one).unwrap();
                bytes[0] ^= 1;
                std::fs::write(&one, bytes).unwrap();
            }
            std::fs::write(disk.join("files/left-over.conda"), "x").unwrap_or_default();
        }
    }
    println!("{hit} of {} exports were killed while they ran", kills());
    assert!(hit > 0, "each export was faster than its kill");
    low.run(&args).exits(0);
    airlock(&["verify", disk.to_str().unwrap(), "--key", low.key().to_str().unwrap()]).exits(0);
    assert_eq!(carried(&disk), carried(&calm));
    let (one, two) = (world.station("one", "isolated"), world.station("two", "isolated"));
    for (high, from) in [(&one, &calm), (&two, &disk)] {
        high.trust(&low);
        high.run(&["import", from.to_str().unwrap()]).exits(0);
    }
    assert_eq!(contents(&one), contents(&two));
    assert_eq!(staging(&low), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_killed_import_commits_nothing_by_halves_and_the_next_one_ends_it() {
    let world = World::new().await;
    let (low, disk, calm) = world.across();
    let began = Instant::now();
    calm.run(&["import", disk.to_str().unwrap()]).exits(0);
    let took = began.elapsed();
    let args = ["import", disk.to_str().unwrap()];
    let input = files(&disk);
    let mut hit = 0;
    for seed in 0..kills() {
        let high = world.station(&format!("high-{seed}"), "isolated");
        high.trust(&low);
        hit += killed(&high, &args, moment(seed, took)) + killed(&high, &args, moment(seed + 1000, took));
        high.run(&args).exits(0);
        assert_eq!(contents(&high), contents(&calm), "seed {seed}");
        assert_eq!(staging(&high), Vec::<PathBuf>::new(), "seed {seed}");
        let of = |station: &Station| -> Vec<PathBuf> {
            let root = station.dir.join("blobs");
            files(&root).into_keys().map(|p| p.strip_prefix(&root).unwrap().to_owned()).collect()
        };
        assert_eq!(of(&high), of(&calm), "seed {seed}");
    }
    println!("{hit} of {} imports were killed while they ran", 2 * kills());
    assert!(hit > 0, "each import was faster than its kill");
    assert_eq!(files(&disk), input, "the import changed its input");
}

#[tokio::test]
async fn a_folder_that_is_refused_does_not_keep_out_the_next() {
    let world = World::new().await;
    let (low, first, high) = world.across();
    let (second, third) = (world.path("second"), world.path("third"));
    high.run(&["import", first.to_str().unwrap()]).exits(0);
    low.run(&["export", second.to_str().unwrap()]).exits(0);
    high.run(&["import", second.to_str().unwrap()]).exits(0);
    low.run(&["export", third.to_str().unwrap()]).exits(0);
    high.run(&["import", first.to_str().unwrap(), third.to_str().unwrap()])
        .exits(3)
        .says("is older than bundle 2");
    let again = high.json(&["import", third.to_str().unwrap()]);
    assert!(again["bundles"][0]["number"] == 3 && again["bundles"][0]["again"] == true, "{again}");
}

#[tokio::test]
async fn an_import_without_room_says_so_and_goes_on_when_there_is() {
    let world = World::new().await;
    let (low, disk, _) = world.across();
    let mount = world.path("small");
    std::fs::create_dir(&mount).unwrap();
    let tmpfs = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&mount).output();
    if !tmpfs.is_ok_and(|o| o.status.success()) {
        airlock_testkit::skipped("a small file system cannot be mounted here");
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let high = world.station("small/high", "isolated");
        high.trust(&low);
        let before = high.json(&["ledger", "log"]);
        let filler = mount.join("filler");
        let fill = |keep: u64| {
            let stat = Command::new("df").args(["--output=avail", "-k"]).arg(&mount).output().unwrap();
            let text = String::from_utf8(stat.stdout).unwrap();
            let free: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
            std::fs::write(&filler, vec![1; (free.saturating_sub(keep) * 1024) as usize]).unwrap();
        };
        for keep in [0, 100] {
            fill(keep);
            let answer = high.run(&["import", disk.to_str().unwrap()]);
            assert!([0, 4].contains(&answer.status), "{answer:?}");
            std::fs::remove_file(&filler).unwrap();
            if keep == 0 {
                assert_eq!(answer.status, 4, "{answer:?}");
                assert_eq!(high.json(&["ledger", "log"]), before);
            }
        }
        high.run(&["import", disk.to_str().unwrap()]).exits(0);
        let full = mount.join("medium");
        fill(8);
        low.run(&["export", full.to_str().unwrap()]).exits(4).says("are missing");
        std::fs::remove_file(&filler).unwrap();
        low.run(&["export", full.to_str().unwrap()]).exits(0);
    }));
    let _ = Command::new("umount").arg(&mount).status();
    result.unwrap();
}
