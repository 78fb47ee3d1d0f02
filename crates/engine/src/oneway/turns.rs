//! Of each bundle one sending is written at a time: two would write into the same files, and the one that goes on with what
//! another left has to find all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use airlock_core::id::Digest;

/// The transfers that are being written.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<BTreeSet<Digest>>,
    left: Condvar,
}

/// That this is the only sending of a transfer that is written, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    transfer: Digest,
}

impl Turns {
    /// Waits until nobody else writes this transfer.
    pub fn wait(self: &Arc<Self>, transfer: Digest) -> Turn {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = |taken: &mut BTreeSet<Digest>| taken.contains(&transfer);
        let mut taken = self.left.wait_while(taken, is_taken).unwrap_or_else(PoisonError::into_inner);
        taken.insert(transfer);
        Turn { turns: self.clone(), transfer }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.transfer);
        self.turns.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_transfer_is_waited_for_and_another_one_is_not() {
        let turns = Arc::new(Turns::default());
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let first = turns.wait(one);
        drop(turns.wait(two));
        let ((done, is_done), waiting) = (channel(), turns.clone());
        let second = std::thread::spawn(move || {
            let _turn = waiting.wait(one);
            done.send(()).unwrap();
        });
        assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        second.join().unwrap();
        drop(turns.wait(one));
    }
}
