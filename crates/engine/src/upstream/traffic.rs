//! What all requests of a station share: places per host, and bytes per second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The state that is shared; clones share it too.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By host and port, and how many places it has.
    places: HashMap<(String, usize), Arc<Semaphore>>,
    /// By the section of the configuration that sets the rate, and the rate.
    buckets: HashMap<(String, u64), Bucket>,
}

impl Traffic {
    /// Waits for a place at a host of `count`. It is free again when what this gives is dropped.
    pub(super) async fn place(&self, host: &str, count: usize) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let places = shared.places.entry((host.to_owned(), count));
            places.or_insert_with(|| Arc::new(Semaphore::new(count))).clone()
        };
        // A semaphore fails only when it is closed, which nobody does.
        places.acquire_owned().await.ok()
    }

    /// Says that `bytes` came, and how long to wait before taking more, so that all who share `scope` stay within
    /// `rate` bytes per second.
    pub(super) fn came(&self, scope: &str, rate: u64, bytes: u64, now: Instant) -> Duration {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = shared.buckets.entry((scope.to_owned(), rate));
        bucket.or_insert(Bucket { paid_until: now }).take(rate, bytes, now)
    }
}

/// A bucket that holds at most a second's worth and may be overdrawn, which is waited for.
#[derive(Debug)]
struct Bucket {
    /// When all that came so far would have come at the rate.
    paid_until: Instant,
}

impl Bucket {
    /// How far ahead of the rate a burst may be.
    const BURST: Duration = Duration::from_secs(1);

    fn take(&mut self, rate: u64, bytes: u64, now: Instant) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until = self.paid_until.max(now) + cost;
        (self.paid_until - now).saturating_sub(Self::BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_share_a_rate_stay_within_it_together() {
        let traffic = Traffic::default();
        let other = traffic.clone();
        let start = Instant::now();
        let mut now = start;
        // Two requests take a thousand pieces of 1 kB each at 100 kB a second, waiting as they are told.
        for n in 0..2000 {
            let one = if n % 2 == 0 { &traffic } else { &other };
            now += one.came("", 100_000, 1000, now);
        }
        let took = (now - start).as_secs_f64();
        assert!((18.9..=20.1).contains(&took), "{took} s for 2 MB, of which a second's worth may be a burst");
        // Another section has its own, and what was not used is not saved up.
        assert_eq!(traffic.came("https://up.example/", 100_000, 1000, now), Duration::ZERO);
        now += Duration::from_secs(3600);
        assert_eq!(traffic.came("", 100_000, 300_000, now), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_host_has_so_many_places_and_another_host_its_own() {
        let traffic = Traffic::default();
        let (a, b) = (traffic.place("up.example:443", 2).await, traffic.place("up.example:443", 2).await);
        let third = tokio::spawn({
            let traffic = traffic.clone();
            async move { traffic.place("up.example:443", 2).await }
        });
        assert!(traffic.place("other.example:443", 2).await.is_some());
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(a);
        assert!(third.await.unwrap().is_some());
        drop(b);
    }
}
