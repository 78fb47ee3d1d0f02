//! Constant rate.

use std::time::{Duration, Instant};

/// What is behind by more than this is not made up for: it would come as a burst.
const BEHIND_MAX: Duration = Duration::from_millis(20);
/// Shorter waits cost more than they are worth.
const WAIT_MIN: Duration = Duration::from_micros(80);

/// When the next packets may go.
pub(super) struct Pace {
    due: Instant,
    each: Duration,
}

impl Pace {
    /// So many packets a second.
    pub fn new(packets_per_second: u64) -> Self {
        let each = Duration::from_nanos(1_000_000_000 / packets_per_second.max(1));
        Self { due: Instant::now(), each }
    }

    /// Waits until so many packets may go.
    pub fn wait(&mut self, packets: usize) {
        let now = Instant::now();
        let ahead = self.due.saturating_duration_since(now);
        if ahead > WAIT_MIN {
            std::thread::sleep(ahead);
        } else if now.saturating_duration_since(self.due) > BEHIND_MAX {
            self.due = now;
        }
        self.due += self.each * u32::try_from(packets).unwrap_or(u32::MAX);
    }
}
