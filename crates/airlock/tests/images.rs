//! Bundles on images of FAT and of ISO 9660 with Joliet, written and read back with the tools of those file systems, with what
//! operating systems leave on media beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Station, World, airlock, copy, files, is_whole, published, text};

/// What a medium holds, such that the large world takes five.
const CAPACITY: u64 = 4_200_000;
/// What FAT takes for itself on such a medium, in bytes: boot sector, two tables, the root folder.
const OF_FAT: u64 = 64 << 10;

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).env("MTOOLS_SKIP_CHECK", "1").output().unwrap()
}

fn succeeds(command: &mut Command) {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A kind of medium: a folder is written to an image of it, and read back from that.
trait Kind {
    fn name(&self) -> &'static str;
    fn write(&self, folder: &Path, image: &Path, bytes: u64);
    fn read(&self, image: &Path, folder: &Path);
}

/// FAT with clusters of 32 KiB, as large sticks have them.
struct Fat;

impl Kind for Fat {
    fn name(&self) -> &'static str {
        "fat"
    }

    fn write(&self, folder: &Path, image: &Path, bytes: u64) {
        File::create(image).unwrap().set_len(bytes.next_multiple_of(1024)).unwrap();
        succeeds(Command::new(mkfs()).args(["-s", "64"]).arg(image));
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        succeeds(Command::new("mcopy").arg("-s").arg("-i").arg(image).args(names).arg("::/"));
    }

    fn read(&self, image: &Path, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        succeeds(Command::new("mcopy").args(["-s", "-n", "-i"]).arg(image).arg("::*").arg(folder));
    }
}

/// ISO 9660; where it says so its Joliet names are read, as Windows does, and not those of Rock Ridge.
struct Iso(&'static str);

impl Kind for Iso {
    fn name(&self) -> &'static str {
        self.0
    }

    fn write(&self, folder: &Path, image: &Path, _: u64) {
        let iso = ["-as", "mkisofs", "-quiet", "-iso-level", "3", "-J", "-o"];
        succeeds(Command::new("xorriso").args(iso).arg(image).arg(folder));
    }

    fn read(&self, image: &Path, folder: &Path) {
        let names = if self.0 == "joliet" { "norock" } else { "any" };
        let mut read = Command::new("xorriso");
        read.args(["-read_fs", names, "-osirrox", "on", "-indev"]).arg(image);
        succeeds(read.args(["-extract", "/"]).arg(folder));
        succeeds(Command::new("chmod").args(["-R", "u+rwX"]).arg(folder));
    }
}

/// Administrators' tools are not on everybody's path.
fn mkfs() -> &'static str {
    if Path::new("/usr/sbin/mkfs.vfat").exists() { "/usr/sbin/mkfs.vfat" } else { "mkfs.vfat" }
}

/// The kinds of media whose tools are here; of the others it is said that they are not.
fn kinds() -> Vec<Box<dyn Kind>> {
    let is_here = |tool: &str| {
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let mut out: Vec<Box<dyn Kind>> = Vec::new();
    if is_here(mkfs()) && is_here("mcopy") {
        out.push(Box::new(Fat));
    } else {
        airlock_testkit::skipped("images of FAT, because mkfs.vfat or mcopy cannot be started");
    }
    if is_here("xorriso") {
        out.extend([Box::new(Iso("joliet")) as Box<dyn Kind>, Box::new(Iso("rock-ridge"))]);
    } else {
        airlock_testkit::skipped("images of ISO 9660, because xorriso cannot be started");
    }
    out
}

/// What is left on media that were in other machines.
fn litter(dir: &Path) {
    for folder in ["System Volume Information", "lost+found", ".Spotlight-V100", "$RECYCLE.BIN"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
        std::fs::write(dir.join(folder).join("IndexerVolumeGuid"), "x").unwrap();
    }
    for file in [".DS_Store", "._.DS_Store", "files/Thumbs.db", "desktop.ini"] {
        std::fs::write(dir.join(file), "x").unwrap();
    }
}

/// On an image and back.
fn through(world: &World, kind: &dyn Kind, folder: &Path, name: &str, bytes: u64) -> PathBuf {
    let (image, back) = (world.path(&format!("{name}.img")), world.path(&format!("{name}-back")));
    kind.write(folder, &image, bytes);
    kind.read(&image, &back);
    std::fs::remove_file(image).unwrap();
    back
}

async fn sender() -> (World, Station) {
    let world = World::large().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    (world, low)
}

#[tokio::test]
async fn a_bundle_comes_back_from_images_as_it_was_with_what_lies_beside_it() {
    let kinds = kinds();
    if kinds.is_empty() {
        return;
    }
    let (world, low) = sender().await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--max-file", "300 kB"]).exits(0).shows("in parts");
    let used = world.path("used");
    copy(&disk, &used);
    litter(&used);
    for kind in kinds {
        let back = through(&world, kind.as_ref(), &used, kind.name(), 24 << 20);
        assert_eq!(files(&back).len(), files(&used).len(), "{}", kind.name());
        airlock(&["verify", text(&back), "--key", text(&low.key())]).exits(0).shows("Whole and unchanged");
        let high = world.station(&format!("high-{}", kind.name()), "isolated");
        high.trust(&low);
        high.run(&["import", text(&back)]).exits(0);
        assert_eq!(published(&high), published(&low), "{}", kind.name());
        is_whole(&high);
        // What nobody listed is no litter, on whatever medium it lies.
        std::fs::write(back.join("files/readme.txt"), "x").unwrap();
        airlock(&["verify", text(&back), "--key", text(&low.key())]).exits(3).says("not in the manifest");
    }
}

#[tokio::test]
async fn volumes_fit_on_the_media_they_were_made_for_and_come_back_from_them_one_by_one() {
    let kinds = kinds();
    if kinds.is_empty() {
        return;
    }
    let (world, low) = sender().await;
    let disk = world.path("disk");
    let capacity = format!("{CAPACITY} bytes");
    low.run(&["export", text(&disk), "--capacity", &capacity]).exits(0);
    let mut volumes: Vec<PathBuf> = std::fs::read_dir(&disk).unwrap().map(|e| e.unwrap().path()).collect();
    volumes.sort();
    assert_eq!(volumes.len(), 5);
    for kind in kinds {
        let high = world.station(&format!("high-{}", kind.name()), "isolated");
        high.trust(&low);
        for (n, volume) in volumes.iter().enumerate().rev() {
            let name = format!("{}-{n}", kind.name());
            let back = through(&world, kind.as_ref(), volume, &name, CAPACITY + OF_FAT);
            litter(&back);
            airlock(&["verify", text(&back), "--key", text(&low.key())]).exits(0);
            high.run(&["import", text(&back)]).exits(i32::from(n > 0));
            std::fs::remove_dir_all(back).unwrap();
        }
        assert_eq!(published(&high), published(&low), "{}", kind.name());
        is_whole(&high);
    }
}
