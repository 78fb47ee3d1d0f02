//! Manifests of which nobody knows yet who signed them: few, within bounds, not for long.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use airlock_core::bundle::{MANIFEST, MANIFEST_BYTES_MAX};
use airlock_core::id::Digest;
use airlock_core::root::ROOT_BYTES_MAX;

use super::{Refusal, Why, held};
use crate::error::file_error;

/// Bytes of all of them together: one of the largest, with its root.
const BYTES_MAX: u64 = MANIFEST_BYTES_MAX + ROOT_BYTES_MAX;
/// What of a quota they may take: one of so many parts.
const QUOTA_PART: u64 = 8;
/// How many there may be.
const COUNT_MAX: usize = 16;
/// How long one waits for its signatures.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// One of them.
struct Stage {
    folder: tempfile::TempDir,
    /// Bytes that its parts have, or will have.
    bytes: BTreeMap<String, u64>,
    /// A connection is sending a part of it.
    is_busy: bool,
    last: Instant,
}

/// All of them. They lie in one folder, which goes when this is dropped.
pub(super) struct Arriving {
    folder: tempfile::TempDir,
    bytes_max: u64,
    stages: Mutex<BTreeMap<Digest, Stage>>,
}

impl Arriving {
    /// How many bytes of a quota are theirs, so that nobody fills the disk past it without a signature.
    pub fn share(quota: Option<u64>) -> u64 {
        quota.map_or(BYTES_MAX, |quota| (quota / QUOTA_PART).min(BYTES_MAX))
    }

    /// None yet, and no more than so many bytes.
    pub fn new(folder: tempfile::TempDir, bytes_max: u64) -> Self {
        Self { folder, bytes_max, stages: Mutex::default() }
    }

    /// Makes room for a part of so many bytes, at the cost of those that wait longest. Gives where to write it.
    pub fn begin(&self, bundle: Digest, name: &str, length: u64) -> Result<PathBuf, Refusal> {
        let mut stages = held(&self.stages);
        if stages.get(&bundle).is_some_and(|stage| stage.is_busy) {
            return Err(Refusal::new(Why::Busy, "another connection is sending this manifest"));
        }
        loop {
            let others = stages.iter().filter(|(held, _)| **held != bundle);
            let own = stages.get(&bundle).map_or(0, |stage| stage.bytes_without(name));
            let taken: u64 = others.clone().map(|(_, stage)| stage.bytes_without("")).sum();
            if others.clone().count() < COUNT_MAX && taken + own + length <= self.bytes_max {
                break;
            }
            let idle = others.filter(|(_, stage)| !stage.is_busy).min_by_key(|(_, stage)| stage.last);
            let Some(oldest) = idle.map(|(held, _)| *held) else {
                return Err(Refusal::new(
                    Why::Full,
                    "there is no room for further manifests that nobody signed yet",
                ));
            };
            stages.remove(&oldest);
        }
        let stage = match stages.entry(bundle) {
            Entry::Occupied(stage) => stage.into_mut(),
            Entry::Vacant(room) => {
                let folder =
                    tempfile::tempdir_in(self.folder.path()).map_err(file_error(self.folder.path()))?;
                room.insert(Stage { folder, bytes: BTreeMap::new(), is_busy: false, last: Instant::now() })
            }
        };
        stage.bytes.insert(name.to_owned(), length);
        (stage.is_busy, stage.last) = (true, Instant::now());
        Ok(stage.folder.path().join(name))
    }

    /// A part is there, or is none: then all of it goes.
    pub fn end(&self, bundle: Digest, is_good: bool) {
        let mut stages = held(&self.stages);
        match stages.get_mut(&bundle) {
            Some(stage) if is_good => (stage.is_busy, stage.last) = (false, Instant::now()),
            _ => drop(stages.remove(&bundle)),
        }
    }

    /// The folder of one whose manifest is there, out of the others.
    pub fn take(&self, bundle: Digest) -> Option<tempfile::TempDir> {
        let mut stages = held(&self.stages);
        let is_there = stages.get(&bundle).is_some_and(|s| !s.is_busy && s.bytes.contains_key(MANIFEST));
        if is_there { stages.remove(&bundle).map(|stage| stage.folder) } else { None }
    }

    /// Lets go of those that wait too long.
    pub fn expire(&self) {
        held(&self.stages).retain(|_, stage| stage.is_busy || stage.last.elapsed() < WAIT_MAX);
    }
}

impl Stage {
    fn bytes_without(&self, name: &str) -> u64 {
        self.bytes.iter().filter(|(held, _)| *held != name).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(bytes_max: u64) -> Arriving {
        Arriving::new(tempfile::tempdir().unwrap(), bytes_max)
    }

    #[test]
    fn what_nobody_signed_yet_stays_within_its_bounds_and_the_oldest_makes_room() {
        let held = arriving(100);
        let one = |n: u8| Digest::of(&[n]);
        let place = held.begin(one(1), MANIFEST, 60).unwrap();
        assert_eq!(held.begin(one(1), MANIFEST, 60).unwrap_err().why, Why::Busy);
        assert_eq!(
            held.begin(one(2), MANIFEST, 60).unwrap_err().why,
            Why::Full,
            "the first is being written"
        );
        std::fs::write(&place, b"x").unwrap();
        held.end(one(1), true);
        held.begin(one(1), "ROOT.json", 40).unwrap();
        held.end(one(1), true);
        held.begin(one(2), MANIFEST, 60).unwrap();
        assert!(held.take(one(1)).is_none() && !place.exists(), "it made room");
        assert!(held.take(one(2)).is_none(), "it is not there yet");
        held.end(one(2), false);
        assert_eq!(held.begin(one(3), MANIFEST, 101).unwrap_err().why, Why::Full);
        for n in 0..100 {
            held.begin(one(n), MANIFEST, 1).unwrap();
            held.end(one(n), true);
        }
        assert_eq!(super::held(&held.stages).len(), COUNT_MAX);
        let folder = held.take(one(99)).unwrap();
        assert!(folder.path().exists());
    }
}
