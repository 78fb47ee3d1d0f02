//! Bundles that were tampered with, damaged, replayed or come from strangers: each is refused by its own message
//! with exit status 3, and the station is as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use airlock_testkit::osv;
use common::{Station, World, copy, files};

/// Applies a change to a copy of the bundle, and imports that.
fn attack(
    world: &World,
    disk: &Path,
    high: &Station,
    name: &str,
    change: impl FnOnce(&Path),
) -> common::Answer {
    let copy_dir: PathBuf = world.path(name);
    copy(disk, &copy_dir);
    change(&copy_dir);
    let before = high.state();
    let input = files(&copy_dir);
    let answer = high.run(&["import", copy_dir.to_str().unwrap()]);
    assert_eq!(high.state(), before, "{name} changed the station");
    assert_eq!(files(&copy_dir), input, "{name}: the import changed its input");
    answer
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_in_any_file_is_found() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    for (i, (path, _)) in files(&disk).into_iter().enumerate() {
        let relative = path.strip_prefix(&disk).unwrap().to_owned();
        let answer =
            attack(&world, &disk, &high, &format!("flipped-{i}"), |dir| flip(&dir.join(&relative))).exits(3);
        let name = relative.to_str().unwrap();
        match name {
            "AIRLOCK.json" => answer.says("the signature does not fit"),
            "AIRLOCK.sig" => answer.exits(3),
            _ => answer.says("was changed or is damaged").says(name),
        };
        let copy_dir = world.path(&format!("flipped-{i}"));
        common::airlock(&["verify", copy_dir.to_str().unwrap(), "--key", low.key().to_str().unwrap()])
            .exits(3);
    }
    // Untouched it comes in.
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
}

#[tokio::test]
async fn missing_foreign_and_truncated_files_are_named() {
    let world = World::new().await;
    let (_, disk, high) = world.across();
    let one = files(&disk).into_keys().find(|p| p.extension().is_some_and(|e| e == "conda")).unwrap();
    let one = one.strip_prefix(&disk).unwrap().to_owned();
    let name = one.to_str().unwrap().to_owned();
    attack(&world, &disk, &high, "missing", |d| std::fs::remove_file(d.join(&one)).unwrap())
        .exits(3)
        .says("is missing")
        .says(&name);
    attack(&world, &disk, &high, "foreign", |d| std::fs::write(d.join("files/evil.whl"), "x").unwrap())
        .exits(3)
        .says("is not in the manifest");
    attack(&world, &disk, &high, "foreign-top", |d| std::fs::write(d.join("autorun.inf"), "x").unwrap())
        .exits(3)
        .says("is not in the manifest");
    attack(&world, &disk, &high, "truncated", |d| {
        let bytes = std::fs::read(d.join(&one)).unwrap();
        std::fs::write(d.join(&one), &bytes[..bytes.len() - 1]).unwrap();
    })
    .exits(3)
    .says("cut short")
    .says(&name);
    attack(&world, &disk, &high, "linked", |d| {
        std::fs::rename(d.join(&one), world.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(world.path("elsewhere"), d.join(&one)).unwrap();
    })
    .exits(3)
    .says("no ordinary file");
    attack(&world, &disk, &high, "no-manifest", |d| std::fs::remove_file(d.join("AIRLOCK.json")).unwrap())
        .exits(3)
        .says("AIRLOCK.json is missing");
    attack(&world, &disk, &high, "no-signature", |d| std::fs::remove_file(d.join("AIRLOCK.sig")).unwrap())
        .exits(3)
        .says("AIRLOCK.sig is missing");
}

#[tokio::test]
async fn signatures_of_others_are_refused() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let stranger = world.connected("stranger");
    stranger.run(&["sync"]).exits(0);
    let other = world.path("other-disk");
    stranger.run(&["export", other.to_str().unwrap()]).exits(0);
    let before = high.state();
    high.run(&["import", other.to_str().unwrap()]).exits(3).says("which is not trusted here");
    assert_eq!(high.state(), before);
    attack(&world, &disk, &high, "swapped", |d| {
        std::fs::copy(other.join("AIRLOCK.sig"), d.join("AIRLOCK.sig")).unwrap();
    })
    .exits(3)
    .says("which is not trusted here");
    // A valid signature by a trusted key over another manifest is none over this one.
    let second = world.path("second");
    low.run(&["export", second.to_str().unwrap()]).exits(0);
    attack(&world, &disk, &high, "mixed", |d| {
        std::fs::copy(second.join("AIRLOCK.sig"), d.join("AIRLOCK.sig")).unwrap();
    })
    .exits(3)
    .says("the signature does not fit");
    let print = low.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
    let key = stranger.key();
    high.run(&["trust", "add", "eve", key.to_str().unwrap(), "--fingerprint", &print])
        .exits(3)
        .says("not the one that was typed");
    high.run(&["trust", "revoke", "low"]).exits(0);
    high.run(&["import", disk.to_str().unwrap()]).exits(3).says("which is not trusted here");
}

#[tokio::test]
async fn the_same_bundle_is_nothing_new_and_an_older_one_is_refused() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    let before = high.state();
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    assert_eq!(high.state(), before, "the same bundle again changes nothing");
    let second = world.path("second");
    low.run(&["export", second.to_str().unwrap()]).exits(0);
    high.run(&["import", second.to_str().unwrap()]).exits(0);
    let before = high.state();
    high.run(&["import", disk.to_str().unwrap()]).exits(3).says("is older than bundle 2");
    assert_eq!(high.state(), before);
}

#[tokio::test]
async fn what_operating_systems_leave_on_a_disk_is_ignored() {
    let world = World::new().await;
    let (_, disk, high) = world.across();
    for folder in ["System Volume Information", "lost+found", ".Trashes", ".fseventsd"] {
        std::fs::create_dir(disk.join(folder)).unwrap();
        std::fs::write(disk.join(folder).join("x"), "x").unwrap();
    }
    for file in [".DS_Store", "files/.DS_Store", "._AIRLOCK.json", "Thumbs.db"] {
        std::fs::write(disk.join(file), "x").unwrap();
    }
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
}

#[tokio::test]
async fn a_delta_against_a_receipt_carries_only_what_is_new_and_needs_its_base() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let receipt = world.path("receipt.json");
    high.run(&["import", disk.to_str().unwrap(), "--receipt-out", receipt.to_str().unwrap()]).exits(0);
    // Something new: idna 3.10 becomes vulnerable.
    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-NEW", "PyPI", "idna", "4.0", 9.8),
    ]);
    low.run(&["advisories", "update"]).exits(0);
    let delta = world.path("delta");
    let report = low.json(&["export", delta.to_str().unwrap(), "--receipt", receipt.to_str().unwrap()]);
    assert_eq!((report["files"].as_u64(), report["base"].as_u64()), (Some(0), Some(1)));
    assert!(report["objects"].as_u64().unwrap() > 0);

    let late = world.station("late", "isolated");
    late.trust(&low);
    late.run(&["import", delta.to_str().unwrap()]).exits(1).says("builds on bundle 1");
    high.run(&["import", delta.to_str().unwrap()]).exits(0);
    let content = |s: &Station| s.json(&["snapshot", "show", "main"])["content"].clone();
    assert_eq!(content(&high), content(&low));
    let explained = high.json(&["explain", "main", "idna==3.10"]);
    assert_eq!(explained["artifacts"][0]["verdict"], "denied");
    // A receipt that was changed is none.
    let forged = std::fs::read_to_string(&receipt).unwrap().replace("\"number\": 1", "\"number\": 2");
    std::fs::write(&receipt, forged).unwrap();
    low.run(&["export", world.path("x").to_str().unwrap(), "--receipt", receipt.to_str().unwrap()])
        .exits(3)
        .says("signature does not fit");
}

#[tokio::test]
async fn a_bundle_never_merges_into_a_channel_that_a_source_feeds() {
    let world = World::new().await;
    let (_, disk, high) = world.across();
    let conda = world.path("conda");
    high.run(&["channel", "add", "main", "--ecosystem", "conda", "--source", conda.to_str().unwrap()])
        .exits(0);
    let before = high.state();
    high.run(&["import", disk.to_str().unwrap()]).exits(3).says("fed by a source of this station");
    assert_eq!(high.state(), before);
}

#[tokio::test]
async fn openssl_verifies_the_signature_by_hand() {
    let world = World::new().await;
    let (low, disk, _) = world.across();
    let signature = std::fs::read_to_string(disk.join("AIRLOCK.sig")).unwrap();
    let bytes: [u8; 64] = airlock_core::hex::decode(signature.split_whitespace().nth(2).unwrap()).unwrap();
    let file = world.path("sig.bin");
    std::fs::write(&file, bytes).unwrap();
    let run = std::process::Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-inkey"])
        .arg(low.key())
        .args(["-rawin", "-in"])
        .arg(disk.join("AIRLOCK.json"))
        .arg("-sigfile")
        .arg(&file)
        .output();
    match run {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => airlock_testkit::skipped(&format!("openssl cannot be started: {e}")),
    }
}
