//! Indexing a bare directory of conda packages beside `rattler_index`, in turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Result, Spent, median_of, root, spend};
use crate::python;

/// The variable that names a directory of conda packages, `DIR/<subdir>/*.conda`.
pub const PACKAGES: &str = "AIRLOCK_BENCH_PACKAGES";
/// How the peer is run: it indexes as its own program does.
const PEER: &str = "import asyncio, pathlib, sys; from rattler.index import index_fs; \
                    asyncio.run(index_fs(pathlib.Path(sys.argv[1]), force=sys.argv[2] == 'cold'))";

/// Measures, where there are packages and the peer.
pub fn run(airlock: &Path) -> Result<()> {
    let Some(packages) = std::env::var_os(PACKAGES).map(PathBuf::from) else {
        println!("skipped: indexing a bare directory, because {PACKAGES} names none");
        return Ok(());
    };
    let Some(python) = python::prepare(&root()) else { return Ok(()) };
    let dir = root().join("target/bench-index");
    let _ = std::fs::remove_dir_all(&dir);
    let result = measure(airlock, &python, &packages, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(airlock: &Path, python: &str, packages: &Path, dir: &Path) -> Result<()> {
    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    for copy in [&ours, &theirs] {
        super::timed(Command::new("cp").arg("-r").arg(packages).arg(copy))?;
    }
    let index = || spend(Command::new(airlock).args(["--quiet", "index"]).arg(&ours));
    let forget = || {
        for entry in std::fs::read_dir(&ours).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path().join(".airlock-index.zst"));
        }
    };
    let peer = |how: &str| spend(Command::new(python).args(["-c", PEER]).arg(&theirs).arg(how));
    let started = median_of(|| spend(Command::new(python).args(["-c", "import rattler.index"])))?;
    // Files that were made a moment ago are not remembered, since they may change again unseen.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let (mut cold, mut peer_cold): (Vec<Spent>, Vec<Spent>) = (Vec::new(), Vec::new());
    for _ in 0..super::RUNS {
        forget();
        cold.push(index()?);
        peer_cold.push(peer("cold")?);
    }
    let (mut warm, mut peer_warm): (Vec<Spent>, Vec<Spent>) = (Vec::new(), Vec::new());
    for _ in 0..super::RUNS {
        warm.push(index()?);
        peer_warm.push(peer("warm")?);
    }
    for (what, ours, theirs) in [("cold", cold, peer_cold), ("warm", warm, peer_warm)] {
        let (ours, theirs) = (super::middle(ours)?, super::middle(theirs)?);
        println!(
            "index of {}, {what}: {ours}; rattler_index: {theirs} (of which Python starts in {:.2} s); ratio {:.1}",
            packages.display(),
            started.wall.as_secs_f64(),
            theirs.wall.as_secs_f64() / ours.wall.as_secs_f64()
        );
    }
    Ok(())
}
