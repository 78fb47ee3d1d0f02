//! Packages that other tools made are opened: `AIRLOCK_PACKAGES` names directories of them, parted by colons.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

#[macro_use]
#[path = "common/archive.rs"]
mod archive;

use std::fs::File;
use std::path::{Path, PathBuf};

use archive::*;

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { files(&entry.path(), out) } else { out.push(entry.path()) }
    }
}

#[test]
fn every_package_that_other_tools_made_is_opened() {
    let Ok(dirs) = std::env::var("AIRLOCK_PACKAGES") else {
        eprintln!("skipped: AIRLOCK_PACKAGES names no directories with packages of other tools");
        return;
    };
    let mut all = Vec::new();
    dirs.split(':').for_each(|dir| files(Path::new(dir), &mut all));
    let (mut opened, mut faults) = (0, Vec::new());
    for path in all {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let reader = || std::io::BufReader::with_capacity(1 << 18, File::open(&path).unwrap());
        let result = match name.as_str() {
            name if name.ends_with(".conda") => open_conda(reader(), &limits()),
            name if name.ends_with(".tar.bz2") => open_tar_bz2(reader(), &limits()),
            name if name.ends_with(".whl") => open_wheel(reader(), &limits()),
            name if name.ends_with(".tar.gz") => open_sdist(reader(), &limits()),
            _ => continue,
        };
        opened += 1;
        if let Err(fault) = result {
            faults.push(format!("{}: {fault}", path.display()));
        }
    }
    eprintln!("{opened} packages of other tools, {} refused", faults.len());
    assert!(opened > 0, "there are no packages in {dirs}");
    assert!(faults.is_empty(), "{faults:#?}");
}
