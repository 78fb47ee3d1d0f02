//! Bundles that are split over media: volumes come in any order and over several calls, what is lost is rebuilt or fetched, and
//! nothing counts before all is here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "volumes/by_hand.rs"]
mod by_hand;
mod common;
#[path = "volumes/turns.rs"]
mod turns;
#[path = "volumes/verified.rs"]
mod verified;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_core::id::Digest;
use airlock_testkit::osv;
use common::{Dice, Station, World, airlock, copy, files, is_whole, kills, published, text};
use serde_json::{Value, json};

/// What a medium holds, such that the large world takes five.
const CAPACITY: &str = "4200 kB";

/// A station that has something to send, and what it published.
async fn sender() -> (World, Station) {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    (world, low)
}

/// The folders of the volumes of a bundle.
fn volumes(dir: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    out.sort();
    out
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

#[tokio::test]
async fn volumes_come_in_any_order_over_several_calls_and_count_when_all_are_here() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    let mut plan = low.json(&["export", text(&disk), "--capacity", CAPACITY, "--plan"]);
    assert!(plan["seconds"].as_f64().unwrap() > 0.0 && !disk.exists(), "{plan}");
    let of_each = |volume: &mut Value| volume["seconds"].take().as_f64().unwrap();
    let each: Vec<f64> = plan["volumes"].as_array_mut().unwrap().iter_mut().map(of_each).collect();
    assert!(each.iter().all(|seconds| *seconds > 0.0), "{each:?}");
    assert!((each.iter().sum::<f64>() - plan["seconds"].as_f64().unwrap()).abs() < 1e-6, "{plan} {each:?}");
    let untimed = |volume: &mut Value| volume.as_object_mut().unwrap().remove("seconds");
    plan["volumes"].as_array_mut().unwrap().iter_mut().for_each(|volume| drop(untimed(volume)));
    let report = low.json(&["export", text(&disk), "--capacity", CAPACITY]);
    assert_eq!(plan["volumes"], report["volumes"]);
    let all = volumes(&disk);
    assert_eq!(all.len(), 5, "{report}");
    for volume in &all {
        let all = files(volume);
        let folders: BTreeSet<&Path> = all.keys().filter_map(|path| path.parent()).collect();
        // On FAT32, whose folders take a cluster too.
        let size: u64 = all.values().map(|size| size.div_ceil(32768) * 32768).sum();
        let size = size + 32768 * folders.len() as u64;
        assert!(size <= 4_200_000, "{}: {size}", volume.display());
        // Each can be verified alone, with nothing but the key.
        airlock(&["verify", text(volume), "--key", text(&low.key())]).exits(0).shows("of 5 volumes");
    }
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(0).shows("volume 1, volume 2");
    let high = receiver(&world, "high", &low);
    let before = high.json(&["status"])["channels"].clone();
    // On the first day the third and the last, on the second the second, which somebody copied to a disk of its own.
    let first = import(&high, &[&all[2], &all[4]], &[]).exits(1).json();
    let missing = &first["bundles"][0]["missing"];
    assert_eq!(missing["missing"]["volumes"], json!([1, 2, 4]));
    assert_eq!(high.json(&["status"])["channels"], before);
    let disk_2 = world.path("stick");
    copy(&all[1], &disk_2);
    std::fs::remove_dir_all(&all[1]).unwrap();
    std::fs::write(disk_2.join(".DS_Store"), "x").unwrap();
    import(&high, &[&disk_2], &[]).exits(1);
    import(&high, &[&all[4]], &[]).exits(1);
    let last = import(&high, &[&all[3], &all[0]], &[]).exits(0).json();
    assert_eq!(last["bundles"][0]["missing"], Value::Null, "{last}");
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // What is in is in.
    assert_eq!(import(&high, &[&all[0]], &[]).exits(0).json()["bundles"][0]["again"], true);
}

#[tokio::test]
async fn one_volume_of_five_that_is_lost_is_rebuilt_and_of_two_exactly_what_is_missing_is_fetched() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    let report = low.json(&["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"]);
    let all = volumes(&disk);
    let flags: Vec<&Value> = report["volumes"].as_array().unwrap().iter().map(|v| &v["parity"]).collect();
    assert_eq!(flags.last(), Some(&&json!(true)), "{report}");
    let parity = all.last().unwrap();
    airlock(&["verify", text(parity), "--key", text(&low.key())]).exits(0);
    for lost in 0..all.len() - 1 {
        let high = receiver(&world, &format!("high{lost}"), &low);
        let parts: Vec<&Path> =
            all.iter().enumerate().filter(|(n, _)| *n != lost).map(|(_, p)| p.as_path()).collect();
        let report = import(&high, &parts, &[]).exits(0).json();
        let of_it = &low_files(&disk, lost);
        assert_eq!(report["bundles"][0]["rebuilt"], json!(of_it.len()), "{report}");
        assert_eq!(published(&high), published(&low));
        is_whole(&high);
    }
    // Two are lost.
    let high = receiver(&world, "high", &low);
    let receipt = world.path("receipt.json");
    let parts: Vec<&Path> = all.iter().skip(2).map(PathBuf::as_path).collect();
    let report = import(&high, &parts, &["--receipt-out", text(&receipt)]).exits(1).json();
    let missing = &report["bundles"][0]["missing"];
    // Where one of the two streams has ended, parity still gives back the other.
    let (lost, rebuilt) =
        (low_files(&disk, 0).len() + low_files(&disk, 1).len(), &report["bundles"][0]["rebuilt"]);
    let lacking = missing["files"].as_u64().unwrap();
    assert_eq!(json!(lost as u64 - lacking), *rebuilt, "{report}");
    assert!(lacking > 10, "{report}");
    // Each of them is named, and nothing else.
    let listed: Value = serde_json::from_slice(&std::fs::read(all[2].join("AIRLOCK.json")).unwrap()).unwrap();
    let lost = listed["files"].as_array().unwrap().iter();
    let lost = lost.filter(|file| file["volume"].as_u64().is_some_and(|volume| volume <= 2));
    let lost: BTreeSet<&str> = lost.filter_map(|file| file["name"].as_str()).collect();
    let named: BTreeSet<&str> =
        missing["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(named.len() as u64 == lacking && named.is_subset(&lost), "{missing}");
    assert!(std::fs::metadata(&receipt).unwrap().len() < 2_000, "it fits into a code");
    // Carried as a code on a screen, it is the same receipt.
    let receipt = scanned(&receipt).unwrap_or(receipt);
    let patch = world.path("patch");
    let numbers = low.json(&["ledger", "log"]).as_array().map(Vec::len);
    let report = low.json(&["export", text(&patch), "--receipt", text(&receipt)]);
    assert_eq!(report["files"], json!(lacking), "{report}");
    assert_eq!(low.json(&["ledger", "log"]).as_array().map(Vec::len), numbers.map(|n| n + 1));
    import(&high, &[&patch], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // The next bundle is a delta as ever.
    let receipt = world.path("receipt-2.json");
    import(&high, &[&patch], &["--receipt-out", text(&receipt)]).exits(0);
    let delta = low.json(&["export", text(&world.path("delta")), "--receipt", text(&receipt)]);
    assert_eq!((&delta["files"], &delta["number"], &delta["base"]), (&json!(0), &json!(2), &json!(1)));
    import(&high, &[&world.path("delta")], &[]).exits(0);
}

/// What a reader of QR codes makes of the page of a receipt.
fn scanned(receipt: &Path) -> Option<PathBuf> {
    const READ: &str = r#"
import re, sys, zxingcpp
page = open(sys.argv[1] + ".html").read()
side = int(re.search(r'viewBox="0 0 (\d+) ', page).group(1))
wide = side * 4
image = bytearray([255] * wide * wide)
for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", page):
    for row in range(4):
        at = (int(y) * 4 + row) * wide + int(x) * 4
        image[at:at + 4] = bytes(4)
found = zxingcpp.read_barcodes(memoryview(image).cast("B", (wide, wide)))
open(sys.argv[1] + ".scanned", "w").write(found[0].text)
"#;
    let mut command = Command::new(common::clients::python()?);
    command.args(["-c", READ, text(receipt)]);
    common::clients::succeeds(command);
    Some(PathBuf::from(format!("{}.scanned", text(receipt))))
}

/// The artifacts that a volume of a bundle holds.
fn low_files(disk: &Path, volume: usize) -> Vec<PathBuf> {
    files(&volumes(disk)[volume].join("files")).into_keys().collect()
}

fn harm(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_named_and_rebuilt_or_fetched_by_itself() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"]).exits(0);
    let all = volumes(&disk);
    let parts: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    let (damaged, gone) = (low_files(&disk, 0)[0].clone(), low_files(&disk, 0)[1].clone());
    harm(&damaged);
    std::fs::remove_file(&gone).unwrap();
    airlock(&["verify", text(&all[0]), "--key", text(&low.key())]).exits(3);
    let high = receiver(&world, "high", &low);
    let report = import(&high, &parts, &[]).exits(0).json();
    assert_eq!(report["bundles"][0]["rebuilt"], 2, "{report}");
    let told = report["bundles"][0]["damaged"].to_string();
    assert!(told.contains(text(&damaged)) && told.contains(text(&gone)), "{told}");
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // Parity that is damaged rebuilds nothing, and never anything wrong.
    let high = receiver(&world, "other", &low);
    for file in files(&all.last().unwrap().join("parity")).into_keys() {
        harm(&file);
    }
    let receipt = world.path("receipt.json");
    let report = import(&high, &parts, &["--receipt-out", text(&receipt)]).exits(1).json();
    let missing = &report["bundles"][0]["missing"];
    assert_eq!((&missing["files"], &missing["missing"]["volumes"]), (&json!(2), &Value::Null), "{report}");
    let patch = world.path("patch");
    let report = low.json(&["export", text(&patch), "--receipt", text(&receipt)]);
    assert_eq!(report["files"], 2, "{report}");
    airlock(&["verify", text(&patch), "--key", text(&low.key())]).exits(0).shows("here     files ");
    import(&high, &[&patch], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
}

/// What names no part of a bundle of some volumes and fewer than 100000 files.
fn wrong_labels() -> Vec<String> {
    let mut out: Vec<String> =
        ["volume 9", "volume 0", "volume 01", "volume +1", "volume 1 ", "volume 4294967297", "volume"]
            .into_iter()
            .chain([
                "files 100000",
                "files 3-1",
                "files 1-1",
                "files 1,1",
                "files 0,1",
                "files 00",
                "files 0-",
                "files 1,,3",
            ])
            .chain([
                "files 0,none",
                "files",
                "all",
                "nonsense",
                "volume 1\n",
                "volume 1\nvolume 1",
                "files 0\nfiles 2\n",
                "files 0\n2\n",
                "volume 1\0",
            ])
            .map(|line| format!("{line}\n"))
            .collect();
    out.push(String::new());
    // As long as a receipt may say.
    let places: Vec<String> = (0..300_000).map(|n| (2 * n).to_string()).collect();
    out.push(format!("files {}\n", places.join(",")));
    out
}

#[tokio::test]
async fn what_a_volume_claims_is_held_against_the_manifest() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let all = volumes(&disk);
    let key = low.key();
    let high = receiver(&world, "high", &low);
    let refused = |dir: &Path, what: &str| {
        airlock(&["verify", text(dir), "--key", text(&key)]).exits(3).says(what);
        let before = high.state();
        import(&high, &[dir], &[]).exits(3).says(what);
        assert_eq!(high.state(), before);
    };
    let label = all[0].join("AIRLOCK.volume");
    for wrong in wrong_labels() {
        std::fs::write(&label, wrong).unwrap();
        refused(&all[0], "names no part of this bundle");
    }
    std::fs::remove_file(&label).unwrap();
    refused(&all[0], "nothing says which volume this is");
    // Another one's label makes strangers of its files.
    std::fs::write(&label, "volume 2\n").unwrap();
    refused(&all[0], "somebody put it there");
    std::fs::write(&label, "volume 1\n").unwrap();
    std::fs::write(all[0].join("files/extra.whl"), "x").unwrap();
    refused(&all[0], "somebody put it there");
    std::fs::remove_file(all[0].join("files/extra.whl")).unwrap();
    std::fs::write(all[0].join("AIRLOCK.partial"), "").unwrap();
    refused(&all[0], "broken off");
    std::fs::remove_file(all[0].join("AIRLOCK.partial")).unwrap();
    // The objects, which every volume has, are taken from one where they are whole; if none is, nothing is taken.
    harm(&all[0].join("objects/objects.jsonl.zst"));
    import(&high, &[&all[0]], &[]).exits(3).says("objects.jsonl.zst");
    import(&high, &[&all[0], &all[1]], &[]).exits(1);
    let rest: Vec<&Path> = all.iter().skip(2).map(PathBuf::as_path).collect();
    import(&high, &rest, &[]).exits(0);
    assert_eq!(published(&high), published(&low));
}

#[tokio::test]
async fn an_export_to_volumes_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let (world, low) = sender().await;
    let calm = world.path("calm");
    let args = |dir: &Path| -> Vec<String> {
        ["export", text(dir), "--capacity", CAPACITY, "--parity", "2"].map(str::to_owned).to_vec()
    };
    let began = std::time::Instant::now();
    let wanted: Vec<String> = args(&calm);
    low.run(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    let took = began.elapsed();
    let (mut dice, mut killed) = (Dice(5), 0);
    let disk = world.path("disk");
    let again = args(&disk);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    for _ in 0..kills() {
        if volumes_done(&disk) {
            std::fs::remove_dir_all(&disk).unwrap();
        }
        let mut child = low.start(&again);
        std::thread::sleep(dice.within(took));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    if !volumes_done(&disk) {
        // Fewer and smaller volumes than last time: nothing of the old ones stays.
        low.run(&["export", text(&disk), "--capacity", "8 MB", "--parity", "1"]).exits(0);
        assert_eq!(volumes(&disk).len(), 4);
    }
    assert!(killed > 0, "no run was killed");
    let high = receiver(&world, "high", &low);
    let parts = volumes(&disk);
    let parts: Vec<&Path> = parts.iter().skip(1).map(PathBuf::as_path).collect();
    // An import that is killed goes on as well.
    for _ in 0..kills().div_ceil(2) {
        let mut all = vec!["import"];
        all.extend(parts.iter().map(|p| text(p)));
        let mut child = high.start(&all);
        std::thread::sleep(dice.within(took));
        let _ = child.kill();
        child.wait().unwrap();
    }
    import(&high, &parts, &[]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
}

#[tokio::test]
async fn an_export_that_ended_while_it_took_its_markers_away_begins_again_with_what_lies_there() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    let args = ["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"];
    low.run(&args).exits(0);
    // As a kill leaves them between two volumes.
    let all = volumes(&disk);
    for volume in &all[3..] {
        std::fs::write(volume.join("AIRLOCK.partial"), "").unwrap();
    }
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(3).says("broken off");
    low.run(&args).exits(0);
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(0);
    let high = receiver(&world, "high", &low);
    let parts: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    assert_eq!(import(&high, &parts, &[]).exits(0).json()["bundles"][0]["number"], 2);
    // Volumes of another bundle, which is whole, are nobody's leftovers.
    low.run(&args).exits(2).says("not empty");
}

#[tokio::test]
async fn a_scanner_is_asked_when_nothing_is_missing_and_its_no_throws_nothing_away() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let all = volumes(&disk);
    let high = receiver(&world, "high", &low);
    let (config, notes) = (high.dir.join("airlock.toml"), world.path("notes"));
    std::fs::create_dir(&notes).unwrap();
    let (plain, asked) = (std::fs::read_to_string(&config).unwrap(), notes.join("asked"));
    let script = format!("echo >> {}; exit 1", text(&asked));
    let asking = format!("command = [\"sh\", \"-c\", \"{script}\"]\nwrites = [\"{}\"]", text(&notes));
    std::fs::write(&config, format!("{plain}\n[import]\n{asking}\n")).unwrap();
    let (last, first) = all.split_last().unwrap();
    for volume in first {
        import(&high, &[volume], &[]).exits(1);
    }
    assert!(!asked.exists());
    high.run(&["gc"]).exits(0).shows(" of bundle 1 of ").shows(", which is not whole yet, until ");
    import(&high, &[last], &[]).exits(3).says("may not come in");
    assert!(asked.exists());
    // The others are on their way back already.
    std::fs::write(&config, plain).unwrap();
    import(&high, &[last], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
}

/// Whether an export was faster than what was to kill it.
fn volumes_done(disk: &Path) -> bool {
    disk.exists()
        && volumes(disk).iter().all(|v| v.join("AIRLOCK.sig").exists() && !v.join("AIRLOCK.partial").exists())
}

#[tokio::test]
async fn whichever_medium_has_a_file_as_it_should_be_gives_it_in_any_order() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let all = volumes(&disk);
    let copied = world.path("copied");
    copy(&all[0], &copied);
    let mine = low_files(&disk, 0);
    harm(&mine[0]);
    harm(&copied.join(mine[1].strip_prefix(&all[0]).unwrap()));
    let mut parts: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    parts.push(&copied);
    let high = receiver(&world, "high", &low);
    let report = import(&high, &parts, &[]).exits(0).json();
    assert_eq!(report["bundles"][0]["damaged"], json!([text(&mine[0])]), "{report}");
    assert_eq!(published(&high), published(&low));
    // What is sent after a receipt counts beside the volumes that it mends, wherever it stands among them.
    let (other, receipt, patch) =
        (receiver(&world, "other", &low), world.path("receipt"), world.path("patch"));
    let five: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    import(&other, &five, &["--receipt-out", text(&receipt)]).exits(1);
    low.run(&["export", text(&patch), "--receipt", text(&receipt), "--parity", "1"]).exits(2);
    low.run(&["export", text(&patch), "--receipt", text(&receipt)]).exits(0);
    let last = receiver(&world, "last", &low);
    let mut parts = five;
    parts.push(&patch);
    import(&last, &parts, &[]).exits(0);
    assert_eq!(published(&last), published(&low));
}

#[tokio::test]
async fn a_station_that_cannot_write_blames_no_medium() {
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let Some(own) = Mounted::new(&world.path(""), &["200m,nr_inodes=400"]) else { return };
    let name = format!("{}/high", own.0[0].file_name().unwrap().to_str().unwrap());
    let high = receiver(&world, &name, &low);
    // Nothing more can be made there but some files.
    let fill = |n: usize| own.0[0].join(format!("f{n}"));
    let full = (0..).find(|n| std::fs::write(fill(*n), "").is_err()).unwrap();
    (0..20).for_each(|n| std::fs::remove_file(fill(full - 1 - n)).unwrap());
    let parts = volumes(&disk);
    let parts: Vec<&Path> = parts.iter().map(PathBuf::as_path).collect();
    let answer = import(&high, &parts, &[]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(!answer.stderr.contains("damaged") && !answer.stdout.contains("damaged"), "{answer:?}");
    (0..full - 20).for_each(|n| std::fs::remove_file(fill(n)).unwrap());
    import(&high, &parts, &[]).exits(0);
    assert_eq!(published(&high), published(&low));
}

#[tokio::test]
async fn what_an_address_holds_that_is_secret_is_not_shown() {
    let world = World::new().await;
    let (low, _, high) = world.across();
    let at = "http://ada:geheim@127.0.0.1:1/b/?token=tok123";
    for args in
        [vec!["import", at], vec!["--json", "import", at], vec!["verify", at, "--key", text(&low.key())]]
    {
        let answer = high.run(&args);
        assert!(answer.status == 4, "{answer:?}");
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(!said.contains("geheim") && !said.contains("tok123"), "{said}");
    }
}

/// File systems in memory of a fixed size, mounted for as long as this lives.
struct Mounted(Vec<PathBuf>);

impl Mounted {
    /// None where this user may not mount.
    fn new(dir: &Path, sizes: &[&str]) -> Option<Self> {
        let mut out = Self(Vec::new());
        for (n, size) in sizes.iter().enumerate() {
            let path = dir.join(format!("medium{n}"));
            std::fs::create_dir_all(&path).unwrap();
            let size = format!("size={size}");
            let status =
                Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(&path)]).status();
            if !status.is_ok_and(|status| status.success()) {
                airlock_testkit::skipped("media of a fixed size, because they cannot be mounted here");
                return None;
            }
            out.0.push(path);
        }
        Some(out)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

#[tokio::test]
async fn mounted_media_are_filled_as_far_as_they_have_room_and_one_of_them_may_be_lost() {
    let (world, low) = sender().await;
    let Some(media) = Mounted::new(&world.path(""), &["9m", "7m", "6m", "9m"]) else { return };
    let dirs: Vec<PathBuf> = media.0.iter().map(|m| m.join("airlock")).collect();
    let mut args = vec!["--json", "export"];
    args.extend(dirs.iter().take(3).map(|d| text(d)));
    // Without the fourth there is no room for parity too, and nothing is written.
    let mut with_parity = args.clone();
    with_parity.extend(["--parity", "1"]);
    low.run(&with_parity).exits(2).says("not enough room");
    assert!(dirs.iter().all(|dir| !dir.exists()));
    low.run(&["export", text(&dirs[0]), text(&world.path("elsewhere")), text(&world.path("same"))])
        .exits(2)
        .says("lies on the same medium");
    args.extend([text(&dirs[3]), "--parity", "1"]);
    let report = low.run(&args).exits(0).json();
    assert_eq!(report["volumes"].as_array().unwrap().len(), 4, "{report}");
    for lost in 0..4 {
        let high = receiver(&world, &format!("high{lost}"), &low);
        let rest: Vec<&Path> =
            dirs.iter().enumerate().filter(|(n, _)| *n != lost).map(|(_, d)| d.as_path()).collect();
        import(&high, &rest, &[]).exits(0);
        assert_eq!(published(&high), published(&low), "without {lost}");
    }
}

#[tokio::test]
async fn volumes_in_one_folder_and_what_lies_beside_their_files_must_fit_there_together() {
    let (world, low) = sender().await;
    let Some(media) = Mounted::new(&world.path(""), &["9m", "21m"]) else { return };
    // Each by itself would fit.
    for (medium, parity) in [(&media.0[0], "0"), (&media.0[1], "2")] {
        let disk = medium.join("airlock");
        let args = ["export", text(&disk), "--capacity", CAPACITY, "--parity", parity];
        low.run(&args).exits(4).says("there is not enough room").says("are missing");
        assert_eq!(volumes(&disk), Vec::<PathBuf>::new());
    }
    let disk = media.0[1].join("airlock");
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    // A medium that is full before the first file is none, also where there is no file.
    low.run(&["export", text(&world.path("tiny")), "--capacity", "1 kB"]).exits(2).says("beside the files");
    let high = receiver(&world, "high", &low);
    let receipt = world.path("receipt.json");
    import(&high, &[&disk], &["--receipt-out", text(&receipt)]).exits(0);
    low.run(&["export", text(&world.path("tiny")), "--receipt", text(&receipt), "--capacity", "1 kB"])
        .exits(2)
        .says("beside the files");
    assert!(!world.path("tiny").exists());
}

#[tokio::test]
async fn one_folder_must_have_room_for_what_is_known_of_the_packages_too() {
    let (world, low) = sender().await;
    // Names that nothing compresses.
    let name = |n: u32| Digest::of(&n.to_be_bytes()).to_string();
    let records: Vec<Value> =
        (0..8000).map(|n| osv(&format!("TEST-{n}"), "PyPI", &name(n), "2", 7.5)).collect();
    world.know(&records);
    low.run(&["advisories", "update"]).exits(0);
    let plain = world.path("plain");
    low.run(&["export", text(&plain)]).exits(0);
    let takes =
        |name: &str| files(&plain.join(name)).values().map(|size| size.div_ceil(4096) * 4096).sum::<u64>();
    // More than what is set apart for folders and the manifest, so that it is the objects that find no room.
    assert!(takes("objects") > 400 << 10, "{}", takes("objects"));
    let room = takes("files") + takes("objects") - (64 << 10);
    let Some(media) = Mounted::new(&world.path(""), &[&format!("{}k", room >> 10)]) else { return };
    let disk = media.0[0].join("airlock");
    low.run(&["export", text(&disk)]).exits(4).says("there is not enough room").says("nothing was written");
    assert!(files(&disk).is_empty(), "{:?}", files(&disk));
}
