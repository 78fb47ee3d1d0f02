//! What `verify` says of a bundle, and of each volume of it.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::{airlock, copy, files, published};
use crate::{CAPACITY, import, receiver, sender, text, volumes};

#[tokio::test]
async fn only_all_files_of_one_bundle_are_called_whole() {
    let (world, low) = sender().await;
    let (whole, disk, key) = (world.path("whole"), world.path("disk"), low.key());
    low.run(&["export", text(&whole)]).exits(0);
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let verified =
        |dir: &Path| airlock(&["--json", "verify", text(dir), "--key", text(&key)]).exits(0).json();
    assert_eq!(verified(&whole)["whole"], true);
    assert_eq!(verified(&disk)["whole"], true);
    // Nobody signs the label: a bundle from which somebody took the files is no whole one.
    let emptied = world.path("emptied");
    copy(&whole, &emptied);
    std::fs::remove_dir_all(emptied.join("files")).unwrap();
    std::fs::write(emptied.join("AIRLOCK.volume"), "files none\n").unwrap();
    // And nothing of it was verified, which is no yes.
    let said = airlock(&["--json", "verify", text(&emptied), "--key", text(&key)]).exits(1).json();
    let wanted = (&json!(false), &json!(0), &json!(false));
    assert_eq!((&said["whole"], &said["files_here"], &said["verified"]), wanted, "{said}");
    let said = airlock(&["verify", text(&emptied), "--key", text(&key)]).exits(1);
    assert!(!said.stdout.contains("Whole") && said.stdout.contains("here     files none"), "{said:?}");
    said.says("holds none of the bundle's").says("no file was verified");
    airlock(&["verify", text(&emptied), "--key", text(&key), "--header"]).exits(0).shows("not looked at");
    // One of its files is a yes for that one.
    copy(&whole, &emptied);
    for file in files(&emptied.join("files")).into_keys().skip(1) {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::write(emptied.join("AIRLOCK.volume"), "files 0\n").unwrap();
    assert_eq!(verified(&emptied)["files_here"], 1);
    std::fs::remove_dir_all(&volumes(&disk)[4]).unwrap();
    assert_eq!(verified(&disk)["whole"], false);
    // A volume of another bundle among them.
    let other = world.path("other");
    low.run(&["export", text(&other), "--capacity", CAPACITY]).exits(0);
    std::fs::remove_dir_all(&volumes(&disk)[1]).unwrap();
    copy(&volumes(&other)[1], &disk.join("volume-002"));
    airlock(&["verify", text(&disk), "--key", text(&key)]).exits(3).says("part of another bundle");
}

#[tokio::test]
async fn each_volume_is_verified_by_its_own_signatures_and_an_import_goes_on_with_what_any_of_them_proves() {
    let (world, low) = sender().await;
    let (disk, key) = (world.path("disk"), low.key());
    low.run(&["export", text(&disk), "--capacity", CAPACITY]).exits(0);
    let all = volumes(&disk);
    let parts: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    let verify = || airlock(&["verify", text(&disk), "--key", text(&key)]);
    verify().exits(0);
    let good = std::fs::read_to_string(all[0].join("AIRLOCK.sig")).unwrap();
    let last = good.trim_end().chars().last().unwrap();
    let flipped =
        format!("{}{}\n", &good.trim_end()[..good.trim_end().len() - 1], if last == '0' { '1' } else { '0' });
    // What another station signed.
    let (other, elsewhere) = (world.connected("other"), world.path("elsewhere"));
    other.run(&["sync"]).exits(0);
    other.run(&["export", text(&elsewhere)]).exits(0);
    let foreign = std::fs::read_to_string(elsewhere.join("AIRLOCK.sig")).unwrap();
    let wrong = [
        (Some(&flipped), "does not fit"),
        (Some(&foreign), "not trusted here"),
        (None, "AIRLOCK.sig is missing"),
    ];
    for at in [0, 1, 4] {
        for (line, what) in wrong {
            let path = all[at].join("AIRLOCK.sig");
            match line {
                Some(line) => std::fs::write(&path, line).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            verify().exits(3).says(&format!("volume-00{}", at + 1)).says(what);
            std::fs::write(&path, &good).unwrap();
        }
    }
    verify().exits(0);
    // One that is as it should be is enough for all, wherever it stands among them; none is not.
    for volume in &all[..4] {
        std::fs::write(volume.join("AIRLOCK.sig"), &flipped).unwrap();
    }
    let high = receiver(&world, "high", &low);
    import(&high, &parts[..4], &[]).exits(3).says("does not fit");
    import(&high, &parts, &[]).exits(0);
    assert_eq!(published(&high), published(&low));
}
