//! Hashes files as they become whole, beside what writes them.
//!
//! A large file is hashed as far as it is there without a gap, so that not all of it is left to do at its end. What is
//! hashed is what the file system gives back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
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

struct Half {
    file: File,
    hash: Sha256,
    at: u64,
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
    let half = halves.remove(&reached.at).or_else(|| {
        let file = media::open(&reached.path).ok().flatten()?;
        Some(Half { file, hash: Sha256::new(), at: 0 })
    });
    let is_whole = reached.upto >= reached.size;
    let half = half.and_then(|mut half| {
        while half.at < reached.upto {
            let most = buffer.len().min(usize::try_from(reached.upto - half.at).unwrap_or(usize::MAX));
            let n = half.file.read(buffer.get_mut(..most)?).ok().filter(|n| *n > 0)?;
            half.hash.update(buffer.get(..n)?);
            half.at += n as u64;
        }
        Some(half)
    });
    match half {
        Some(half) if is_whole => Some(Digest::from_bytes(half.hash.finalize().into()) == reached.sha256),
        Some(half) => {
            halves.insert(reached.at, half);
            None
        }
        None => is_whole.then_some(false),
    }
}
