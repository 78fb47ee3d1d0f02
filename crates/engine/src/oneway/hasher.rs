//! Hashes files as they become whole, beside what writes them.
//!
//! A large file is hashed as far as it is there without a gap, so that not all of it is left to do at its end. What is
//! hashed is what the file system gives back. Very many large files may be under way at once, each with a gap of its own: none
//! is kept open meanwhile.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use airlock_core::id::Digest;

use crate::bundle::media;

/// A file that is there up to some byte.
pub(super) struct Reached {
    /// Which member.
    pub at: usize,
    pub path: PathBuf,
    pub size: u64,
    pub sha256: Digest,
    pub upto: u64,
}

/// Whether a whole file has its hash.
pub(super) struct Verdict {
    pub at: usize,
    pub fits: bool,
}

/// How far a file is hashed.
#[derive(Default)]
struct Half {
    hash: Sha256,
    at: u64,
}

impl Half {
    /// Hashes on, as far as the file is there.
    fn on(mut self, reached: &Reached, buffer: &mut [u8]) -> Option<Self> {
        let mut file = media::open(&reached.path).ok().flatten()?;
        file.seek(SeekFrom::Start(self.at)).ok()?;
        while self.at < reached.upto {
            let most = buffer.len().min(usize::try_from(reached.upto - self.at).unwrap_or(usize::MAX));
            let n = file.read(buffer.get_mut(..most)?).ok().filter(|n| *n > 0)?;
            self.hash.update(buffer.get(..n)?);
            self.at += n as u64;
        }
        Some(self)
    }
}

/// The thread that hashes.
pub(super) struct Hasher {
    tell: Option<Sender<Reached>>,
    verdicts: Receiver<Verdict>,
    thread: Option<JoinHandle<()>>,
}

impl Hasher {
    /// Starts it.
    pub fn start() -> Self {
        let (tell, told) = channel::<Reached>();
        let (answer, verdicts) = channel();
        let thread = std::thread::spawn(move || {
            let (mut halves, mut buffer) = (BTreeMap::new(), vec![0; 1 << 20]);
            for reached in told {
                if let Some(fits) = advance(&mut halves, &reached, &mut buffer)
                    && answer.send(Verdict { at: reached.at, fits }).is_err()
                {
                    return;
                }
            }
        });
        Self { tell: Some(tell), verdicts, thread: Some(thread) }
    }

    /// Says how far a file is there.
    pub fn tell(&self, reached: Reached) {
        if let Some(tell) = &self.tell {
            // If the thread is gone, its verdicts are missing and nothing is believed.
            let _ = tell.send(reached);
        }
    }

    /// The verdicts that are there.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.try_iter().collect()
    }

    /// Waits for all verdicts.
    pub fn finish(&mut self) -> Vec<Verdict> {
        self.tell = None;
        let rest = self.verdicts.iter().collect();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        rest
    }
}

/// Hashes on; says whether the hash fits where the file is whole. What cannot be read does not fit.
fn advance(halves: &mut BTreeMap<usize, Half>, reached: &Reached, buffer: &mut [u8]) -> Option<bool> {
    let half = halves.remove(&reached.at).unwrap_or_default();
    let is_whole = reached.upto >= reached.size;
    match half.on(reached, buffer) {
        Some(half) if is_whole => Some(Digest::from_bytes(half.hash.finalize().into()) == reached.sha256),
        Some(half) => {
            halves.insert(reached.at, half);
            None
        }
        None => is_whole.then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_large_files_are_under_way_none_is_kept_open() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let content = b"0123456789".repeat(10);
        let path = |at: usize| dir.join(at.to_string());
        let reached =
            |at: usize, upto| Reached { at, path: path(at), size: 100, sha256: Digest::of(&content), upto };
        let (mut halves, mut buffer) = (BTreeMap::new(), vec![0; 7]);
        for at in 0..40 {
            std::fs::write(path(at), content.get(..60).unwrap()).unwrap();
            assert_eq!(advance(&mut halves, &reached(at, 50), &mut buffer), None);
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| {
            std::fs::read_link(fd.ok()?.path()).ok().filter(|place| place.starts_with(&dir))
        });
        assert_eq!(open.count(), 0);
        for at in 0..40 {
            std::fs::write(path(at), &content).unwrap();
            assert_eq!(advance(&mut halves, &reached(at, 100), &mut buffer), Some(true));
        }
        // One that is gone in the middle fits nothing.
        assert_eq!(advance(&mut halves, &reached(0, 30), &mut buffer), None);
        std::fs::remove_file(path(0)).unwrap();
        assert_eq!(advance(&mut halves, &reached(0, 100), &mut buffer), Some(false));
        assert!(halves.is_empty());
    }
}
