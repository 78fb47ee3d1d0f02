//! Disks that fill, that are pulled out, and that break, as real file systems on loop devices: the next run ends where
//! an undisturbed one ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::disk::Disk;
use common::{Dice, Station, World, airlock, files, is_whole, kills, published, text};

/// File systems that disks are tried with.
const SYSTEMS: [&str; 2] = ["ext4", "xfs"];
/// How a run ended that something else was done to after a while, and what it said.
fn disturbed(mut child: Child, after: Duration, disturb: impl FnOnce(&mut Child)) -> (Option<i32>, String) {
    std::thread::sleep(after);
    disturb(&mut child);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// The kinds of disks that can be had here.
fn disks(world: &World) -> Vec<Disk> {
    SYSTEMS.iter().filter_map(|system| Disk::new(&world.path(""), system)).collect()
}

/// A sync and an import into a station on the disk, and an export to it: each is killed while the disk fills, again
/// and again, and ends when there is room.
#[tokio::test]
async fn runs_that_are_killed_on_disks_that_fill_end_where_undisturbed_ones_end() {
    let world = World::large().await;
    let calm = world.connected("calm");
    let sync_took = timed(|| drop(calm.run(&["sync"]).exits(0)));
    let bundle = world.path("bundle");
    let export_took = timed(|| drop(calm.run(&["export", text(&bundle)]).exits(0)));
    let reader = world.station("reader", "isolated");
    reader.trust(&calm);
    let import_took = timed(|| drop(reader.run(&["import", text(&bundle)]).exits(0)));
    let mut dice = Dice(11);
    for disk in disks(&world) {
        let (mut full, mut killed) = (0_u32, 0_u32);
        let carried = disk.mount.join("bundle");
        // An export that was faster than what disturbs it leaves a whole bundle, and the next one wants a folder of
        // its own.
        let clear = || {
            if carried.join("AIRLOCK.sig").exists() && !carried.join("AIRLOCK.partial").exists() {
                airlock(&["verify", text(&carried), "--key", text(&calm.key())]).exits(0);
                std::fs::remove_dir_all(&carried).unwrap();
            }
        };
        let mut survive = |station: &Station, args: &[&str], took: Duration| {
            disk.fill(64 << 10);
            let answer = station.run(args).exits(4);
            assert!(answer.stderr.contains("hint"), "{answer:?}");
            disk.make_room();
            for _ in 0..kills().div_ceil(2) {
                clear();
                disk.fill(dice.below(24 << 20));
                let moment = dice.within(took * 2);
                let (status, said) = disturbed(station.start(args), moment, |child| {
                    let _ = child.kill();
                });
                match status {
                    None => killed += 1,
                    Some(4) => full += 1,
                    Some(0) => {}
                    other => panic!("{args:?} ended with {other:?}: {said}"),
                }
                disk.make_room();
                clear();
                // Killed once more, now with room.
                let (status, _) = disturbed(station.start(args), dice.within(took), |child| {
                    let _ = child.kill();
                });
                killed += u32::from(status.is_none());
            }
            clear();
            station.run(args).exits(0);
        };
        let low = world.connected(&format!("{}/low", disk.mount.file_name().unwrap().to_str().unwrap()));
        survive(&low, &["sync"], sync_took);
        assert_eq!(published(&low), published(&calm));
        is_whole(&low);
        survive(&calm, &["export", text(&carried)], export_took);
        airlock(&["verify", text(&carried), "--key", text(&calm.key())]).exits(0);
        let name = format!("{}/high", disk.mount.file_name().unwrap().to_str().unwrap());
        let high = world.station(&name, "isolated");
        high.trust(&calm);
        survive(&high, &["import", text(&bundle)], import_took);
        assert_eq!(published(&high), published(&reader));
        is_whole(&high);
        println!("{}: {killed} runs were killed, {} found no room", disk.mount.display(), full + 3);
        assert!(killed > 0, "no run was killed");
    }
}

/// Whether a medium is to be pulled out once more: until that was done often enough, and in the middle at least once.
fn goes_on(tries: u32, failed: u32) -> bool {
    tries < kills() || (failed == 0 && tries < 40 * kills())
}

#[tokio::test]
async fn a_medium_that_is_pulled_out_in_the_middle_is_said_and_the_run_ends_when_it_is_back() {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let calm = world.path("calm");
    let took = timed(|| drop(low.run(&["export", text(&calm)]).exits(0)));
    let mut dice = Dice(23);
    for disk in disks(&world) {
        let carried = disk.mount.join("bundle");
        let (mut failed, mut tries) = (0, 0);
        while goes_on(tries, failed) {
            tries += 1;
            let args = ["export", text(&carried)];
            let (status, said) = disturbed(low.start(&args), dice.within(took), |_| disk.pull_out());
            // What was begun after the medium was gone lies below where it belongs, as the command was told.
            let beside = carried.exists();
            if status == Some(0) && beside {
                airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(0);
            }
            let _ = std::fs::remove_dir_all(&carried);
            assert!(disk.plug_in());
            match status {
                Some(0) if beside => {}
                Some(0) => {
                    // It had ended: what is there is whole.
                    airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(0);
                    std::fs::remove_dir_all(&carried).unwrap();
                }
                Some(4) => {
                    failed += 1;
                    assert!(said.contains("hint"), "{said}");
                }
                other => panic!("the export ended with {other:?}: {said}"),
            }
        }
        assert!(failed > 0, "the medium was always pulled out too late");
        low.run(&["export", text(&carried)]).exits(0);
        airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(0);
        println!("{}: {failed} exports lost their medium", disk.mount.display());

        let reader = world.station(&format!("reader-{failed}-{}", dice.below(1 << 30)), "isolated");
        reader.trust(&low);
        let took = timed(|| drop(reader.run(&["import", text(&carried)]).exits(0)));
        let (mut failed, mut tries) = (0, 0);
        while goes_on(tries, failed) {
            tries += 1;
            let high = world.station(&format!("high-{tries}-{}", dice.below(1 << 30)), "isolated");
            high.trust(&low);
            let args = ["import", text(&carried)];
            let (status, said) = disturbed(high.start(&args), dice.within(took), |_| disk.pull_out());
            // 2 and 3: it was gone before the import had seen whose it is.
            let is_early = status == Some(2) || (status == Some(3) && said.contains("AIRLOCK."));
            assert!(is_early || matches!(status, Some(0 | 4)), "the import ended with {status:?}: {said}");
            if status == Some(4) {
                failed += 1;
                assert!(said.contains("hint"), "{said}");
            }
            assert!(disk.plug_in());
            high.run(&args).exits(0);
            assert_eq!(published(&high), published(&reader));
            is_whole(&high);
        }
        println!("{}: {failed} imports lost their medium", disk.mount.display());
        assert!(failed > 0, "the medium was always pulled out too late");
    }
}

#[tokio::test]
async fn a_medium_that_cannot_be_read_any_more_is_said_and_nothing_is_taken_in() {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    for disk in disks(&world) {
        let carried = disk.mount.join("bundle");
        low.run(&["export", text(&carried)]).exits(0);
        let name = format!("high-{}", disk.mount.file_name().unwrap().to_str().unwrap());
        let high = world.station(&name, "isolated");
        high.trust(&low);
        let before = high.state();
        let whole = disk.break_down(8 << 20);
        let answer = high.run(&["import", text(&carried)]);
        assert!(matches!(answer.status, 3 | 4), "{answer:?}");
        let after = high.state();
        assert_eq!((&before.0, &before.1), (&after.0, &after.1));
        disk.mend(&whole);
        high.run(&["import", text(&carried)]).exits(0);
        is_whole(&high);
    }
}

/// Packages that take a while to be written, bytes of each, and what a disk keeps that is filled meanwhile.
const HEAVY: (usize, usize) = (10, 10 << 20);
const KEPT: u64 = 60 << 20;

/// What a run has written at least when its disk is filled: more than what it writes first of all, which says whose the rest is.
const BEGUN: u64 = 1 << 20;

/// The bytes of all files below a folder, in which something else writes and removes meanwhile.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            meta => meta.map_or(0, |meta| meta.len()),
        })
        .sum()
}

/// How a run ends whose disk is full all of a sudden when it has begun to write below a folder, and what it says.
fn filled(start: impl FnOnce() -> Child, disk: &Disk, folder: &Path) -> (Option<i32>, String) {
    let before = bytes_below(folder);
    let filler = disk.filler_at_hand(KEPT);
    let mut child = start();
    while bytes_below(folder) < before + BEGUN && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    filler.fill();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Something else fills the disk while a run writes, which found room when it began.
#[tokio::test]
async fn a_disk_that_something_else_fills_in_the_middle_is_said_and_the_run_ends_when_there_is_room() {
    let world = World::with_noise(HEAVY.0, HEAVY.1).await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let bundle = world.path("bundle");
    low.run(&["export", text(&bundle)]).exits(0);
    let dir = world.path("");
    for disk in disks(&world).into_iter().chain(Disk::in_memory(&dir)) {
        let carried = disk.mount.join("bundle");
        let (mut full, mut tries) = (0, 0);
        while goes_on(tries, full) {
            tries += 1;
            let start = || low.start(&["export", text(&carried)]);
            let (status, said) = filled(start, &disk, &carried.join("files"));
            disk.make_room();
            match status {
                Some(4) => {
                    full += 1;
                    assert!(said.contains("No space left on device") && said.contains("hint"), "{said}");
                    assert!(carried.join("AIRLOCK.partial").exists(), "{said}");
                    airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(3);
                }
                // It was faster.
                Some(0) => {}
                other => panic!("the export ended with {other:?}: {said}"),
            }
            if status == Some(4) {
                low.run(&["export", text(&carried)]).exits(0);
            }
            airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(0);
            std::fs::remove_dir_all(&carried).unwrap();
        }
        assert!(full > 0, "the disk was always full too late for an export");

        let on = disk.mount.file_name().unwrap().to_str().unwrap().to_owned();
        let (mut full, mut tries) = (0, 0);
        while goes_on(tries, full) {
            tries += 1;
            let high = world.station(&format!("{on}/high-{tries}"), "isolated");
            high.trust(&low);
            let before = (high.json(&["status"]), high.json(&["ledger", "log"]));
            let start = || high.start(&["import", text(&bundle)]);
            let (status, said) = filled(start, &disk, &high.dir.join("blobs"));
            disk.make_room();
            match status {
                Some(4) => {
                    full += 1;
                    let is_said = said.contains("No space left on device") || said.contains("disk is full");
                    assert!(is_said && said.contains("hint"), "{said}");
                    let after = (high.json(&["status"]), high.json(&["ledger", "log"]));
                    // Nothing counts, or all of it does and only judging found no room.
                    assert!(before == after || after.1.to_string().contains("bundle.import"), "{said}");
                }
                Some(0) => {}
                other => panic!("the import ended with {other:?}: {said}"),
            }
            high.run(&["import", text(&bundle)]).exits(0);
            assert_eq!(published(&high), published(&low));
            is_whole(&high);
            std::fs::remove_dir_all(&high.dir).unwrap();
        }
        println!("{on}: {full} of {tries} imports found the disk full in the middle");
        assert!(full > 0, "the disk was always full too late for an import");
    }
}

#[tokio::test]
async fn a_medium_that_is_read_only_is_read_and_refuses_to_be_written() {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    for disk in disks(&world) {
        let carried = disk.mount.join("bundle");
        low.run(&["export", text(&carried)]).exits(0);
        disk.read_only(true);
        airlock(&["verify", text(&carried), "--key", text(&low.key())]).exits(0);
        let name = format!("high-{}", disk.mount.file_name().unwrap().to_str().unwrap());
        let high = world.station(&name, "isolated");
        high.trust(&low);
        high.run(&["import", text(&carried)]).exits(0);
        assert_eq!(published(&high), published(&low));
        is_whole(&high);
        let before = low.json(&["ledger", "log"]);
        let answer = low.run(&["export", text(&disk.mount.join("another"))]).exits(4);
        answer.says("Read-only file system").says("hint");
        // No number was taken.
        assert_eq!(low.json(&["ledger", "log"]), before);
        disk.read_only(false);
        low.run(&["export", text(&disk.mount.join("another"))]).exits(0);
    }
}

#[tokio::test]
async fn an_import_from_the_disk_of_the_station_shares_blocks_where_that_can_and_keeps_them() {
    let world = World::with_noise(HEAVY.0, HEAVY.1).await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    for disk in disks(&world) {
        let on = disk.mount.file_name().unwrap().to_str().unwrap().to_owned();
        let carried = disk.mount.join("bundle");
        low.run(&["export", text(&carried)]).exits(0);
        let high = world.station(&format!("{on}/high"), "isolated");
        high.trust(&low);
        // By a program that is not ours.
        let (manifest, shared) = (carried.join("AIRLOCK.json"), disk.mount.join("shared"));
        let probe = Command::new("cp")
            .arg("--reflink=always")
            .args([manifest, shared])
            .stderr(Stdio::null())
            .status();
        let can_share = probe.unwrap().success();
        let (before, bytes) = (disk.free(), (HEAVY.0 * HEAVY.1) as u64);
        high.run(&["import", text(&carried)]).exits(0);
        let taken = before.saturating_sub(disk.free());
        println!("{on}: {taken} bytes were taken by a bundle of {bytes}");
        let is_shared = taken < bytes / 4;
        assert_eq!(is_shared, can_share, "{on}: {taken} of {bytes}");
        // What becomes of the bundle is nothing to the station.
        for (path, size) in files(&carried) {
            std::fs::write(path, vec![7; usize::try_from(size).unwrap()]).unwrap();
        }
        is_whole(&high);
        assert_eq!(published(&high), published(&low));
    }
}
