//! Work that is done once, however many wait for it.
//!
//! It runs in a task of its own: who hangs up neither stops it nor starts it again, and its result is
//! remembered. Work that waits for its turn is dropped when nobody waits for it any more, and so it never piles
//! up.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use airlock_engine::error::Error;
use tokio::sync::{Semaphore, watch};

use crate::memo::Memo;

/// Where a flight's result will be. An error is told to all who wait; it is not remembered.
type Outcome<V> = Option<Result<V, Arc<Error>>>;

/// Results by what names them and everything they were derived from.
pub(crate) struct Flights<K, V> {
    memo: Memo<K, V>,
    open: Mutex<HashMap<K, Arc<watch::Sender<Outcome<V>>>>>,
    turns: Semaphore,
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Remembers so many bytes; so many are at work at a time.
    pub fn new(bytes_max: usize, turns: usize) -> Arc<Self> {
        Arc::new(Self {
            memo: Memo::new(bytes_max),
            open: Mutex::new(HashMap::new()),
            turns: Semaphore::new(turns),
        })
    }

    /// What is remembered.
    pub fn memo(&self) -> &Memo<K, V> {
        &self.memo
    }

    /// What is remembered under `key`; else what `work` gives, with its size in bytes.
    pub async fn get<F>(self: &Arc<Self>, key: K, work: F) -> Result<V, Arc<Error>>
    where
        F: Future<Output = Result<(V, usize), Error>> + Send + 'static,
    {
        if let Some(held) = self.memo.get(&key) {
            return Ok(held);
        }
        let mut waiting = self.join(key, work);
        let outcome = waiting.wait_for(Option::is_some).await.ok().and_then(|o| o.clone());
        outcome.unwrap_or_else(|| Err(Arc::new(Error::fault("what was asked for could not be prepared"))))
    }

    fn join<F>(self: &Arc<Self>, key: K, work: F) -> watch::Receiver<Outcome<V>>
    where
        F: Future<Output = Result<(V, usize), Error>> + Send + 'static,
    {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(&key) {
            return flight.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        open.insert(key.clone(), sender.clone());
        let flight = Flight { flights: self.clone(), key, sender };
        tokio::spawn(flight.run(work));
        receiver
    }
}

/// One of them. However it ends, it is open no longer.
struct Flight<K: Hash + Eq, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    sender: Arc<watch::Sender<Outcome<V>>>,
}

impl<K, V> Flight<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn run<F>(self, work: F)
    where
        F: Future<Output = Result<(V, usize), Error>> + Send + 'static,
    {
        let turns = self.flights.clone();
        let _turn = loop {
            tokio::select! {
                turn = turns.turns.acquire() => break turn,
                () = self.sender.closed() => if self.give_up() { return },
            }
        };
        if self.give_up() {
            return;
        }
        let result = work.await.map_err(Arc::new).map(|(value, bytes)| {
            self.flights.memo.put(self.key.clone(), value.clone(), bytes);
            value
        });
        self.sender.send_replace(Some(result));
    }

    /// Whether nobody waits: then nobody can join it any more.
    fn give_up(&self) -> bool {
        let mut open = self.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alone = self.sender.receiver_count() == 0;
        if is_alone {
            open.remove(&self.key);
        }
        is_alone
    }
}

impl<K: Hash + Eq, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        let mut open = self.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have begun since this one gave up.
        if open.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.sender)) {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    struct Probe {
        flights: Arc<Flights<u32, u32>>,
        begun: Arc<AtomicUsize>,
        go: Arc<Notify>,
        started: Arc<Notify>,
    }

    impl Probe {
        fn new() -> Self {
            let flights = Flights::new(1000, 1);
            Self { flights, begun: Arc::default(), go: Arc::default(), started: Arc::default() }
        }

        /// Asks; the work counts that it began and waits for a signal.
        fn ask(&self, key: u32) -> tokio::task::JoinHandle<Result<u32, Arc<Error>>> {
            let (begun, go, started) = (self.begun.clone(), self.go.clone(), self.started.clone());
            let flights = self.flights.clone();
            tokio::spawn(async move {
                let work = async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    started.notify_one();
                    go.notified().await;
                    Ok((key, 10))
                };
                flights.get(key, work).await
            })
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }

        async fn until_open(&self, count: usize) {
            while self.flights.open.lock().unwrap().len() != count {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_one_piece_of_work() {
        let probe = Probe::new();
        let asking: Vec<_> = (0..50).map(|_| probe.ask(7)).collect();
        probe.started.notified().await;
        probe.go.notify_one();
        for one in asking {
            assert_eq!(one.await.unwrap().unwrap(), 7);
        }
        assert_eq!(probe.begun(), 1);
        assert_eq!(probe.ask(7).await.unwrap().unwrap(), 7, "and it is remembered");
        assert_eq!(probe.begun(), 1);
        probe.until_open(0).await;
    }

    #[tokio::test]
    async fn work_that_has_begun_goes_on_and_work_that_nobody_waits_for_never_begins() {
        let probe = Probe::new();
        let first = probe.ask(1);
        probe.started.notified().await;
        // These hang up while they wait for their turn.
        let queued: Vec<_> = (100..200).map(|key| probe.ask(key)).collect();
        probe.until_open(101).await;
        first.abort();
        for one in queued {
            one.abort();
        }
        probe.until_open(1).await;
        probe.go.notify_one();
        probe.until_open(0).await;
        assert_eq!((probe.begun(), probe.flights.memo.get(&1)), (1, Some(1)));
    }

    #[tokio::test]
    async fn work_that_fails_is_told_to_all_and_tried_again() {
        let flights: Arc<Flights<u32, u32>> = Flights::new(1000, 1);
        let failed = flights.get(1, async { Err(Error::fault("no")) }).await;
        assert_eq!(failed.unwrap_err().message, "no");
        let died = flights.get(1, async { panic!("a bug") }).await;
        assert!(died.is_err());
        assert_eq!(flights.get(1, async { Ok((2, 1)) }).await.unwrap(), 2);
    }
}
