//! Files that are larger than a medium takes: they travel cut in parts, and are what they were on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use airlock_testkit::conda;
use common::{Dice, Station, World, airlock, copy, files, hash, is_whole, kills, published, text};
use serde_json::{Value, json};

/// The most that a file may have, which cuts each large package in ten.
const LIMIT: &str = "128 kB";

/// A station with three large packages beside others.
async fn sender() -> (World, Station) {
    let world = World::new().await;
    let mut source = world.kit.conda_source("conda");
    let mut dice = Dice(7);
    for name in ["large0", "large1", "large2"] {
        let payload: Vec<u8> = (0..1_200_000).map(|_| dice.below(256).to_le_bytes()[0]).collect();
        let content: [(&str, &[u8]); 1] = [("share/data.bin", &payload)];
        let mut package = conda(name, "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
    }
    source.write();
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    (world, low)
}

fn receiver(world: &World, name: &str, of: &Station) -> Station {
    let high = world.station(name, "isolated");
    high.trust(of);
    high
}

fn import(high: &Station, parts: &[&Path], more: &[&str]) -> common::Answer {
    let mut args = vec!["--json", "import"];
    args.extend(parts.iter().map(|p| text(p)));
    args.extend(more);
    high.run(&args)
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("AIRLOCK.json")).unwrap()).unwrap()
}

/// The page of shell; none where it cannot be tried.
fn by_hand(dir: &Path, key: &Path) -> Option<Result<String, String>> {
    if !Command::new("openssl").arg("version").output().is_ok_and(|run| run.status.success()) {
        airlock_testkit::skipped("openssl cannot be started");
        return None;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify-bundle.sh");
    let run = Command::new("sh").arg(page).args([dir, key]).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if run.status.success() { Ok(said(&run.stdout)) } else { Err(said(&run.stderr)) })
}

/// The blobs of a station, by path within it, with their hashes.
fn blobs(station: &Station) -> Vec<(PathBuf, String)> {
    let root = station.dir.join("blobs");
    let of_it = |path: PathBuf| (path.strip_prefix(&root).unwrap().to_owned(), hash(&path).to_string());
    files(&root).into_keys().map(of_it).collect()
}

#[tokio::test]
async fn what_is_cut_for_a_medium_is_what_it_was_on_the_other_side() {
    let (world, low) = sender().await;
    let (disk, key) = (world.path("disk"), low.key());
    let args = ["export", text(&disk), "--max-file", LIMIT];
    let plan = low.json(&[&args[..], &["--plan"]].concat());
    assert!(!disk.exists());
    let report = low.json(&args);
    assert_eq!(
        (&report["cut"], &report["files"], &report["bytes"]),
        (&json!(3), &plan["files"], &plan["bytes"])
    );
    assert_eq!(plan["cut"], report["cut"]);
    let m = manifest(&disk);
    assert_eq!((&m["format"], m["joined"].as_array().unwrap().len()), (&json!(4), 3));
    assert!(files(&disk.join("files")).values().all(|size| *size <= 128_000));
    airlock(&["verify", text(&disk), "--key", text(&key)]).exits(0).shows("Whole and unchanged");
    let by_hand_is_good = |dir: &Path| by_hand(dir, &key).is_none_or(|said| said.is_ok());
    assert!(by_hand_is_good(&disk));
    // As the page for people says.
    let first = usize::try_from(m["joined"][0]["first"].as_u64().unwrap()).unwrap();
    let part = m["files"][first]["path"].as_str().unwrap().trim_end_matches(".001").to_owned();
    let script = format!("cat {part}.[0-9][0-9][0-9] | sha256sum | cut -c1-64");
    let put = Command::new("sh").args(["-c", &script]).current_dir(&disk).output().unwrap();
    assert_eq!(String::from_utf8(put.stdout).unwrap().trim(), m["joined"][0]["sha256"]);
    let page = std::fs::read_to_string(disk.join("README.txt")).unwrap();
    assert!(page.contains("cat files/ab/NAME.whl.001"), "{page}");
    // A part is checked as any file.
    let (harmed, second) = (world.path("harmed"), format!("{part}.002"));
    copy(&disk, &harmed);
    let mut bytes = std::fs::read(harmed.join(&second)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(harmed.join(&second), bytes).unwrap();
    airlock(&["verify", text(&harmed), "--key", text(&key)]).exits(3).says(&second);
    assert!(by_hand(&harmed, &key).is_none_or(|said| said.is_err()));
    let high = receiver(&world, "high", &low);
    let before = high.state();
    import(&high, &[&harmed], &[]).exits(3).says(&second);
    assert_eq!(high.state(), before);
    let took = import(&high, &[&disk], &[]).exits(0).json();
    assert_eq!(took["bundles"][0]["missing"], Value::Null, "{took}");
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // Nothing but whole artifacts lies in the store, and no second copy.
    let (ours, theirs) = (blobs(&high), blobs(&low));
    assert!(
        ours.iter().all(|(path, sha256)| path.file_name().unwrap().to_str().unwrap() == sha256),
        "{ours:?}"
    );
    assert_eq!(ours, theirs);
    // What is in already is not asked for again, and the next bundle is a delta as ever.
    let receipt = world.path("receipt.json");
    import(&high, &[&disk], &["--receipt-out", text(&receipt)]).exits(0);
    let next = world.path("next");
    let report = low.json(&["export", text(&next), "--receipt", text(&receipt), "--max-file", LIMIT]);
    assert_eq!(
        (&report["files"], &report["cut"], &manifest(&next)["format"]),
        (&json!(0), &json!(0), &json!(1))
    );
    import(&high, &[&next], &[]).exits(0);
    low.run(&["export", text(&world.path("tiny")), "--max-file", "1 kB"]).exits(2).says("too small");
    assert!(!world.path("tiny").exists());
}

#[tokio::test]
async fn files_that_no_volume_has_room_for_are_spread_over_several_and_rebuilt_or_fetched_part_by_part() {
    let (world, low) = sender().await;
    let (disk, key) = (world.path("disk"), low.key());
    // What lies beside the files takes most of such a medium, so that none has room for a large package.
    let least =
        low.json(&["export", text(&world.path("all")), "--max-file", LIMIT])["bytes"].as_u64().unwrap();
    let objects = files(&world.path("all").join("objects")).values().sum::<u64>();
    let capacity = format!("{} bytes", 1_000_000 + objects);
    let args = ["export", text(&disk), "--capacity", &capacity, "--parity", "2"];
    let plan = low.json(&[&args[..], &["--plan"]].concat());
    let report = low.json(&args);
    let strip = |report: &Value| {
        let volumes = report["volumes"].as_array().unwrap().iter();
        volumes.map(|v| (v["bytes"].clone(), v["folder"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(strip(&plan), strip(&report));
    assert!(report["cut"].as_u64().unwrap() > 0, "{report}");
    let all: Vec<PathBuf> = report["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| PathBuf::from(v["folder"].as_str().unwrap()))
        .collect();
    let m = manifest(&all[0]);
    let volumes_of = |joined: &Value| {
        let (first, parts) = (joined["first"].as_u64().unwrap(), joined["parts"].as_u64().unwrap());
        let of = |place: u64| m["files"][usize::try_from(place).unwrap()]["volume"].as_u64().unwrap();
        (first..first + parts).map(of).collect::<std::collections::BTreeSet<u64>>()
    };
    let joined = m["joined"].as_array().unwrap();
    assert!(joined.iter().any(|joined| volumes_of(joined).len() > 1), "{joined:?}");
    let held: u64 = m["files"].as_array().unwrap().iter().map(|f| f["size"].as_u64().unwrap()).sum();
    assert_eq!(held, least);
    for volume in &all {
        let size: u64 = files(volume).values().map(|size| size.div_ceil(32768) * 32768).sum();
        assert!(size <= 1_000_000 + objects, "{}: {size}", volume.display());
        airlock(&["verify", text(volume), "--key", text(&key)]).exits(0);
        assert!(by_hand(volume, &key).is_none_or(|said| said.is_ok()));
    }
    // Two are lost, and come by parity, in two calls.
    let high = receiver(&world, "high", &low);
    let rest: Vec<&Path> = all.iter().skip(2).map(PathBuf::as_path).collect();
    let (one, other) = rest.split_at(rest.len() / 2);
    import(&high, one, &[]).exits(1);
    let took = import(&high, other, &[]).exits(0).json();
    assert!(took["bundles"][0]["rebuilt"].as_u64().unwrap() > 0, "{took}");
    assert_eq!(published(&high), published(&low));
    assert_eq!(blobs(&high), blobs(&low));
    is_whole(&high);
    // Three are lost: what is missing is told part by part, and comes after a receipt.
    let high = receiver(&world, "higher", &low);
    let (receipt, patch) = (world.path("receipt.json"), world.path("patch"));
    let rest: Vec<&Path> = all.iter().skip(3).map(PathBuf::as_path).collect();
    let lacks = import(&high, &rest, &["--receipt-out", text(&receipt)]).exits(1).json();
    let missing = lacks["bundles"][0]["missing"]["files"].clone();
    assert!(missing.as_u64().unwrap() > 0, "{lacks}");
    let sent = low.json(&["export", text(&patch), "--receipt", text(&receipt)]);
    assert_eq!(sent["files"], missing, "{sent}");
    let folders: Vec<PathBuf> = std::fs::read_dir(&patch).unwrap().map(|e| e.unwrap().path()).collect();
    for folder in folders.iter().filter(|folder| folder.join("AIRLOCK.json").exists()) {
        assert!(by_hand(folder, &key).is_none_or(|said| said.is_ok()), "{}", folder.display());
    }
    airlock(&["verify", text(&patch), "--key", text(&key)]).exits(0);
    import(&high, &[&patch], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
    assert_eq!(blobs(&high), blobs(&low));
    is_whole(&high);
}

#[tokio::test]
async fn runs_with_parts_that_are_killed_again_and_again_end_as_undisturbed_ones_do() {
    let (world, low) = sender().await;
    let (disk, high) = (world.path("disk"), receiver(&world, "high", &low));
    let mut dice = Dice(5);
    let began = Instant::now();
    low.run(&["export", text(&world.path("calm")), "--max-file", LIMIT]).exits(0);
    let took = began.elapsed();
    let mut killed = |station: &Station, args: &[&str]| {
        let mut child = station.start(args);
        std::thread::sleep(dice.within(took));
        let _ = child.kill();
        child.wait().unwrap().code().is_none()
    };
    let is_done = || disk.join("AIRLOCK.sig").exists() && !disk.join("AIRLOCK.partial").exists();
    let args = ["export", text(&disk), "--max-file", LIMIT];
    let mut kills_met = 0;
    for _ in 0..kills() {
        if !is_done() {
            kills_met += u32::from(killed(&low, &args));
        }
    }
    if !is_done() {
        low.run(&args).exits(0);
    }
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(0).shows("Whole and unchanged");
    for _ in 0..kills() {
        kills_met += u32::from(killed(&high, &["import", text(&disk)]));
    }
    assert!(kills_met > 0, "nothing was killed");
    import(&high, &[&disk], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
    assert_eq!(blobs(&high), blobs(&low));
    is_whole(&high);
}
