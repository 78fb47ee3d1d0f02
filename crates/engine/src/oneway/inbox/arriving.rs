//! Manifests of which nobody knows yet who signed them: few, within bounds, not for long.
//!
//! A manifest is kept when its hash is the one that it was announced by, and a root when the manifest lists it; until then each
//! connection writes into a file of its own, of which there are as many as connections. So nobody can spoil what somebody else brings.
//! Where there is no room, what comes too slowly or is larger goes before what is small and comes on: whoever holds room for nothing
//! has to pay for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
/// How many may be there.
const COUNT_MAX: usize = 16;
/// How long one waits for its signatures.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How often one may be signed by nobody who is trusted: it stays, since whoever signed it may come still.
const REFUSED_MAX: u32 = 100;
/// After so long it is looked how fast a part comes.
const GRACE: Duration = Duration::from_secs(10);
/// What comes more slowly than so many bytes a second makes room.
const SPEED_MIN: u64 = 64 << 10;

/// One of them, with what is there of it.
struct Stage {
    folder: tempfile::TempDir,
    /// Bytes of its parts.
    bytes: BTreeMap<String, u64>,
    /// The root that it lists.
    root: Option<Digest>,
    /// Its signatures are being looked at.
    is_held: bool,
    refused: u32,
    last: Instant,
}

/// A part that a connection is sending.
struct Coming {
    path: PathBuf,
    /// Bytes that came, and that were announced.
    bytes: u64,
    length: u64,
    began: Instant,
}

#[derive(Default)]
struct State {
    stages: BTreeMap<Digest, Stage>,
    coming: BTreeMap<u64, Coming>,
    /// Numbers them.
    next: u64,
}

/// All of them. They lie in one folder, which goes when this is dropped.
pub(super) struct Arriving {
    folder: tempfile::TempDir,
    bytes_max: u64,
    state: Mutex<State>,
}

/// Where a part is to be written, and the number under which it is known here.
pub(super) struct Place {
    pub path: PathBuf,
    pub number: u64,
}

impl Arriving {
    /// How many bytes of a quota are theirs, so that nobody fills the disk past it without a signature.
    pub fn share(quota: Option<u64>) -> u64 {
        quota.map_or(BYTES_MAX, |quota| (quota / QUOTA_PART).min(BYTES_MAX))
    }

    /// None yet, and no more than so many bytes.
    pub fn new(folder: tempfile::TempDir, bytes_max: u64) -> Self {
        Self { folder, bytes_max, state: Mutex::default() }
    }

    /// Makes room for a part of so many bytes; none where it is here.
    pub fn begin(&self, bundle: Digest, name: &str, length: u64) -> Result<Option<Place>, Refusal> {
        let mut state = held(&self.state);
        if let Some(stage) = state.stages.get_mut(&bundle) {
            stage.last = Instant::now();
            if stage.bytes.contains_key(name) {
                return Ok(None);
            }
        } else if name != MANIFEST {
            return Err(super::unknown());
        }
        if length > self.bytes_max {
            return Err(full());
        }
        state.next += 1;
        let number = state.next;
        let path = self.folder.path().join(format!("coming-{number}"));
        let coming = Coming { path: path.clone(), bytes: 0, length, began: Instant::now() };
        state.coming.insert(number, coming);
        Ok(Some(Place { path, number }))
    }

    /// So many bytes of a part are about to be written, for which room is made at the cost of others.
    ///
    /// # Errors
    ///
    /// There is none, or the part made room itself.
    pub fn comes(&self, bundle: Digest, number: u64, bytes: u64) -> Result<(), Refusal> {
        let mut state = held(&self.state);
        let coming = state.coming.get_mut(&number).ok_or_else(full)?;
        coming.bytes += bytes;
        let length = coming.length;
        while state.taken() > self.bytes_max {
            if !state.drop_one(bundle) && !state.stop_one(number, length) {
                return Err(full());
            }
        }
        Ok(())
    }

    /// A part is there, and is what it should be: a manifest, of which it is known which root it lists, or that root.
    pub fn keep(
        &self,
        bundle: Digest,
        number: u64,
        (name, root): (&str, Option<Digest>),
    ) -> Result<(), Refusal> {
        let mut state = held(&self.state);
        let Coming { path, bytes, .. } = state.coming.remove(&number).ok_or_else(full)?;
        if name != MANIFEST && !state.stages.contains_key(&bundle) {
            discard(&path);
            return Err(super::unknown());
        }
        while !state.stages.contains_key(&bundle) && state.stages.len() >= COUNT_MAX {
            if !state.drop_one(bundle) {
                discard(&path);
                return Err(full());
            }
        }
        let stage = match state.stages.entry(bundle) {
            std::collections::btree_map::Entry::Occupied(stage) => stage.into_mut(),
            std::collections::btree_map::Entry::Vacant(room) => {
                let above = self.folder.path();
                let folder = tempfile::tempdir_in(above).map_err(file_error(above))?;
                let (bytes, last) = (BTreeMap::new(), Instant::now());
                room.insert(Stage { folder, bytes, root, is_held: false, refused: 0, last })
            }
        };
        let to = stage.folder.path().join(name);
        if let Err(e) = std::fs::rename(&path, &to) {
            discard(&path);
            return Err(file_error(&to)(e).into());
        }
        stage.bytes.insert(name.to_owned(), bytes);
        stage.last = Instant::now();
        Ok(())
    }

    /// A part does not come any more, or was none.
    pub fn stop(&self, number: u64) {
        if let Some(coming) = held(&self.state).coming.remove(&number) {
            discard(&coming.path);
        }
    }

    /// The folder of one whose manifest is there. It stays until it is said what became of it.
    pub fn hold(&self, bundle: Digest) -> Option<PathBuf> {
        let mut state = held(&self.state);
        let stage = state.stages.get_mut(&bundle).filter(|stage| !stage.is_held)?;
        stage.is_held = true;
        Some(stage.folder.path().to_owned())
    }

    /// What was held is taken in, or stays for whoever signed it.
    pub fn let_go(&self, bundle: Digest, is_taken: bool) {
        let mut state = held(&self.state);
        let Some(stage) = state.stages.get_mut(&bundle) else { return };
        stage.is_held = false;
        stage.refused += 1;
        if is_taken || stage.refused >= REFUSED_MAX {
            state.stages.remove(&bundle);
        }
    }

    /// Which root one lists whose manifest is there.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn root(&self, bundle: Digest) -> Result<Option<Digest>, Refusal> {
        held(&self.state).stages.get(&bundle).map(|stage| stage.root).ok_or_else(super::unknown)
    }

    /// Lets go of those that wait too long.
    pub fn expire(&self) {
        held(&self.state).stages.retain(|_, stage| stage.is_held || stage.last.elapsed() < WAIT_MAX);
    }
}

impl State {
    fn taken(&self) -> u64 {
        let there = self.stages.values().flat_map(|stage| stage.bytes.values());
        there.sum::<u64>() + self.coming.values().map(|coming| coming.bytes).sum::<u64>()
    }

    /// Lets go of the one that waits longest, but for this one and those that are looked at.
    fn drop_one(&mut self, but: Digest) -> bool {
        let idle = self.stages.iter().filter(|(bundle, stage)| **bundle != but && !stage.is_held);
        let oldest = idle.min_by_key(|(_, stage)| stage.last).map(|(bundle, _)| *bundle);
        oldest.and_then(|bundle| self.stages.remove(&bundle)).is_some()
    }

    /// Stops what comes too slowly, or else what is larger than this one.
    fn stop_one(&mut self, but: u64, length: u64) -> bool {
        let others = self.coming.iter().filter(|(number, coming)| **number != but && coming.bytes > 0);
        let worst = others.max_by_key(|(_, coming)| (coming.is_slow(), coming.length));
        let stops = worst.filter(|(_, coming)| coming.is_slow() || coming.length > length);
        let Some(number) = stops.map(|(number, _)| *number) else { return false };
        if let Some(coming) = self.coming.remove(&number) {
            discard(&coming.path);
        }
        true
    }
}

impl Coming {
    fn is_slow(&self) -> bool {
        let since = self.began.elapsed();
        since > GRACE && self.bytes < since.as_secs().saturating_mul(SPEED_MIN)
    }
}

fn full() -> Refusal {
    Refusal::new(Why::Full, "there is no room for further manifests that nobody signed yet")
}

/// Removes a file into which a connection may be writing still: what it took is free at once.
fn discard(path: &Path) {
    // What stays goes with the folder.
    let _ = std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(0));
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(bytes_max: u64) -> Arriving {
        Arriving::new(tempfile::tempdir().unwrap(), bytes_max)
    }

    fn one(n: u8) -> Digest {
        Digest::of(&[n])
    }

    /// A part comes and is as it should be.
    fn brought(held: &Arriving, n: u8, name: &str, bytes: u64) -> Result<(), Refusal> {
        let Some(place) = held.begin(one(n), name, bytes)? else { return Ok(()) };
        std::fs::write(&place.path, b"x").unwrap();
        held.comes(one(n), place.number, bytes)?;
        held.keep(one(n), place.number, (name, None))
    }

    #[test]
    fn what_nobody_signed_yet_stays_within_its_bounds_and_the_oldest_makes_room() {
        let held = arriving(100);
        brought(&held, 1, MANIFEST, 60).unwrap();
        assert!(held.begin(one(1), MANIFEST, 60).unwrap().is_none(), "it is here");
        brought(&held, 1, "ROOT.json", 40).unwrap();
        assert_eq!(brought(&held, 2, "ROOT.json", 1).unwrap_err().why, Why::Unknown);
        let first = held.hold(one(1)).unwrap();
        held.let_go(one(1), false);
        brought(&held, 2, MANIFEST, 60).unwrap();
        assert!(held.hold(one(1)).is_none() && !first.exists(), "it made room");
        assert_eq!(brought(&held, 3, MANIFEST, 101).unwrap_err().why, Why::Full);
        for n in 0..100 {
            brought(&held, n, MANIFEST, 1).unwrap();
        }
        assert_eq!(super::held(&held.state).stages.len(), COUNT_MAX);
        // What is looked at stays, and so does what nobody who is trusted signed yet.
        let folder = held.hold(one(99)).unwrap();
        for n in 0..100 {
            let _ = brought(&held, n, MANIFEST, 100);
        }
        assert!(folder.exists() && held.hold(one(99)).is_none());
        for _ in 1..REFUSED_MAX {
            held.let_go(one(99), false);
            assert!(held.hold(one(99)).is_some());
        }
        held.let_go(one(99), false);
        assert!(!folder.exists());
    }

    #[test]
    fn whoever_sends_slowly_or_much_holds_no_room_against_what_is_small() {
        let held = arriving(1000);
        let begin = |n: u8, length| held.begin(one(n), MANIFEST, length).unwrap().unwrap();
        // Several may bring the same, and what was only announced takes nothing.
        let (large, other, small) = (begin(1, 1000), begin(1, 1000), begin(2, 100));
        std::fs::write(&large.path, vec![0; 950]).unwrap();
        let file = std::fs::File::options().read(true).open(&large.path).unwrap();
        held.comes(one(1), large.number, 950).unwrap();
        assert_eq!(held.comes(one(1), other.number, 100).unwrap_err().why, Why::Full, "no smaller than that");
        held.stop(other.number);
        held.comes(one(2), small.number, 100).unwrap();
        assert_eq!(
            held.comes(one(1), large.number, 1).unwrap_err().why,
            Why::Full,
            "it made room, and hears of it"
        );
        assert_eq!(file.metadata().unwrap().len(), 0, "what it took is free, though somebody has it open");
        // What is no larger goes when it comes too slowly.
        let slow = begin(3, 100);
        held.comes(one(3), slow.number, 90).unwrap();
        let next = begin(4, 900);
        assert_eq!(held.comes(one(4), next.number, 850).unwrap_err().why, Why::Full);
        held.stop(next.number);
        super::held(&held.state).coming.get_mut(&slow.number).unwrap().began = Instant::now() - GRACE * 2;
        let next = begin(4, 900);
        held.comes(one(4), next.number, 850).unwrap();
        assert_eq!(held.comes(one(3), slow.number, 1).unwrap_err().why, Why::Full);
    }

    #[test]
    fn what_comes_counts_and_not_what_was_announced() {
        let held = arriving(100);
        let place = |n: u8| held.begin(one(n), MANIFEST, 100).unwrap().unwrap();
        let (first, second) = (place(1), place(2));
        held.comes(one(1), first.number, 60).unwrap();
        held.comes(one(2), second.number, 40).unwrap();
        assert_eq!(held.comes(one(2), second.number, 1).unwrap_err().why, Why::Full);
        held.stop(second.number);
        held.comes(one(1), first.number, 40).unwrap();
        std::fs::write(&first.path, b"x").unwrap();
        held.keep(one(1), first.number, (MANIFEST, None)).unwrap();
        assert!(held.hold(one(1)).is_some());
    }
}
