//! Bundles and volumes that are verified without this program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, airlock, copy, files};
use crate::{CAPACITY, harm, import, low_files, receiver, sender, text, volumes, wrong_labels};

/// What is done to a bundle.
type Change<'a> = &'a dyn Fn(&Path);

fn by_hand(dir: &Path, key: &Path) -> Result<String, String> {
    common::by_hand(dir, &[key])
}

#[tokio::test]
async fn a_page_of_shell_verifies_bundles_and_volumes_and_finds_what_is_wrong_with_them() {
    if !Command::new("openssl").arg("version").output().is_ok_and(|run| run.status.success()) {
        airlock_testkit::skipped("openssl cannot be started");
        return;
    }
    let (world, low) = sender().await;
    let (whole, disk, key) = (world.path("whole"), world.path("disk"), low.key());
    low.run(&["export", text(&whole)]).exits(0);
    low.run(&["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"]).exits(0);
    let print = low.json(&["status"])["fingerprint"].as_str().unwrap().to_owned();
    let said = by_hand(&whole, &key).unwrap();
    assert!(said.contains(&print) && said.contains("GOOD: all, "), "{said}");
    std::fs::write(whole.join(".DS_Store"), "x").unwrap();
    std::fs::create_dir(whole.join("System Volume Information")).unwrap();
    std::fs::write(whole.join("System Volume Information/x"), "x").unwrap();
    by_hand(&whole, &key).unwrap();
    for (n, volume) in volumes(&disk).iter().enumerate() {
        let said = by_hand(volume, &key).unwrap();
        assert!(said.contains(&format!("GOOD: volume {} of 6, ", n + 1)), "{said}");
    }
    // Single files, after a receipt that misses them.
    let all = volumes(&disk);
    std::fs::remove_file(&low_files(&disk, 0)[1]).unwrap();
    let high = receiver(&world, "high", &low);
    let receipt = world.path("receipt.json");
    let parts: Vec<&Path> = all[..5].iter().map(PathBuf::as_path).collect();
    import(&high, &parts, &["--receipt-out", text(&receipt)]).exits(1);
    let patch = world.path("patch");
    low.run(&["export", text(&patch), "--receipt", text(&receipt)]).exits(0);
    assert!(by_hand(&patch, &key).unwrap().contains("GOOD: files "));
    // What the program refuses, the page refuses.
    let other = world.station("other", "connected");
    assert!(by_hand(&whole, &other.key()).unwrap_err().contains("has not signed it"));
    let first = files(&whole.join("files")).into_keys().next().unwrap();
    let wrong: [(&str, Change<'_>); 5] = [
        ("changed or damaged", &|dir| harm(&dir.join(first.strip_prefix(&whole).unwrap()))),
        ("missing", &|dir| std::fs::remove_file(dir.join(first.strip_prefix(&whole).unwrap())).unwrap()),
        ("nobody listed: files/x.whl", &|dir| std::fs::write(dir.join("files/x.whl"), "x").unwrap()),
        ("does not fit", &|dir| {
            let path = dir.join("AIRLOCK.json");
            let text = std::fs::read_to_string(&path).unwrap().replacen("\"number\":1", "\"number\":2", 1);
            std::fs::write(path, text).unwrap();
        }),
        ("broken off", &|dir| std::fs::write(dir.join("AIRLOCK.partial"), "").unwrap()),
    ];
    for (n, (what, change)) in wrong.iter().enumerate() {
        let dir = world.path(&format!("wrong{n}"));
        copy(&whole, &dir);
        change(&dir);
        let error = by_hand(&dir, &key).unwrap_err();
        assert!(error.contains(what), "{error}");
        airlock(&["verify", text(&dir), "--key", text(&key)]).exits(3);
    }
}

/// Says yes or no of a folder, as the page of shell and the program do both.
fn both(dir: &Path, key: &Path) -> bool {
    let page = by_hand(dir, key);
    let program = airlock(&["verify", text(dir), "--key", text(key)]);
    assert!([0, 3].contains(&program.status), "{program:?}");
    assert_eq!(page.is_ok(), program.status == 0, "{}: {page:?} {program:?}", dir.display());
    page.is_ok()
}

#[tokio::test]
async fn the_page_of_shell_and_the_program_are_of_one_mind_about_labels_and_what_lies_beside() {
    if !Command::new("openssl").arg("version").output().is_ok_and(|run| run.status.success()) {
        airlock_testkit::skipped("openssl cannot be started");
        return;
    }
    let (world, low) = sender().await;
    let (disk, key) = (world.path("disk"), low.key());
    low.run(&["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"]).exits(0);
    let (first, merged, empty) = (&volumes(&disk)[0], world.path("merged"), world.path("empty"));
    copy(first, &empty);
    std::fs::remove_dir_all(empty.join("files")).unwrap();
    for volume in volumes(&disk) {
        copy(&volume, &merged);
    }
    for dir in [first, &merged, &empty] {
        for label in wrong_labels() {
            std::fs::write(dir.join("AIRLOCK.volume"), &label).unwrap();
            assert!(!both(dir, &key), "{label:.40}");
        }
        std::fs::remove_file(dir.join("AIRLOCK.volume")).unwrap();
        assert!(!both(dir, &key));
        std::fs::write(dir.join("AIRLOCK.volume"), "volume 1").unwrap();
        assert_eq!(both(dir, &key), dir == first);
    }
    std::fs::write(empty.join("AIRLOCK.volume"), "files none\n").unwrap();
    assert!(by_hand(&empty, &key).unwrap_err().contains("none of its files is here"));
    airlock(&["verify", text(&empty), "--key", text(&key)]).exits(1).says("no file was verified");
    let litter = ["$RECYCLE.BIN", "recycler", "Thumbs.DB", "lost+FOUND", "._a", ".Trash-1000", "DESKTOP.ini"];
    let strange = [
        ".Evil",
        ".trash-1000",
        "RECYCLE.BIN",
        ".hidden",
        "lost found",
        "AIRLOCK.volume.old",
        "a\n._b",
        "-a",
    ];
    let all =
        litter.into_iter().map(|name| (name, true)).chain(strange.into_iter().map(|name| (name, false)));
    for (name, is_litter) in all {
        for within in ["", "files"] {
            let path = first.join(within).join(name);
            std::fs::write(&path, "x").unwrap();
            assert_eq!(both(first, &key), is_litter, "file {within}/{name}");
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("AIRLOCK.json", &path).unwrap();
            assert_eq!(both(first, &key), is_litter, "link {within}/{name}");
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("evil.whl"), "x").unwrap();
            assert_eq!(both(first, &key), is_litter, "folder {within}/{name}");
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
    assert!(both(first, &key));
    let file = low_files(&disk, 0)[0].clone();
    let elsewhere = world.path("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert!(!both(first, &key));
}

#[tokio::test]
async fn what_the_page_for_people_says_of_the_files_is_true_of_bundles_volumes_parity_and_patches() {
    let (world, low) = sender().await;
    let (whole, disk, patch) = (world.path("whole"), world.path("disk"), world.path("patch"));
    low.run(&["export", text(&whole)]).exits(0);
    low.run(&["export", text(&disk), "--capacity", CAPACITY, "--parity", "1"]).exits(0);
    let all = volumes(&disk);
    let high = receiver(&world, "high", &low);
    let gone = low_files(&disk, 0);
    for file in [&gone[0], &gone[2]] {
        std::fs::remove_file(file).unwrap();
    }
    let receipt = world.path("receipt.json");
    let parts: Vec<&Path> = all[..5].iter().map(PathBuf::as_path).collect();
    import(&high, &parts, &["--receipt-out", text(&receipt)]).exits(1);
    low.run(&["export", text(&patch), "--receipt", text(&receipt)]).exits(0);
    let says_ok = |dir: &Path| {
        let page = std::fs::read_to_string(dir.join("README.txt")).unwrap();
        let line = page.lines().find(|line| line.contains("python3 -c")).unwrap();
        let run = Command::new("sh").args(["-c", line]).current_dir(dir).output().unwrap();
        String::from_utf8(run.stdout).unwrap() == "OK\n"
    };
    assert!(!says_ok(&all[0]));
    for dir in all[1..].iter().chain([&whole, &patch]) {
        assert!(says_ok(dir), "{}", dir.display());
        let page = std::fs::read_to_string(dir.join("README.txt")).unwrap();
        assert_eq!(page.contains("It is split into 6 volumes"), *dir != whole, "{page}");
        let lies = if *dir == all[5] { "parity" } else { "files" };
        harm(files(&dir.join(lies)).keys().next().unwrap());
        assert!(!says_ok(dir), "{}", dir.display());
    }
    for label in ["volume 7\n", "files none\n"] {
        std::fs::write(all[1].join("AIRLOCK.volume"), label).unwrap();
        assert!(!says_ok(&all[1]));
    }
}
