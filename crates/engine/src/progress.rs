//! Progress of long work: how much is done of how much, how fast, and how long it will still take.
//!
//! The use-cases count; who looks decides how it is shown. Nothing here changes what is done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two reports of one task: more often nobody can read it.
const EVERY: Duration = Duration::from_millis(100);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Package names.
    Names,
    /// Files.
    Files,
    /// Objects.
    Objects,
}

impl Unit {
    /// The word for people and scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Names => "names",
            Self::Files => "files",
            Self::Objects => "objects",
        }
    }
}

/// How a task stands.
#[derive(Clone, Debug)]
pub struct Tick<'a> {
    /// What is done, as `fetching main`.
    pub task: &'a str,
    /// How much of it.
    pub done: u64,
    /// Of how much, where that is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// Since it began.
    pub elapsed: Duration,
    /// Whether this is the last word on it.
    pub is_over: bool,
}

impl Tick<'_> {
    /// Units a second so far.
    pub fn rate(&self) -> u64 {
        let millis = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.done.saturating_mul(1000) / millis
    }

    /// How long it will still take at that rate.
    pub fn left(&self) -> Option<Duration> {
        let rest = self.total?.saturating_sub(self.done);
        let rate = self.rate();
        (rate > 0).then(|| Duration::from_secs(rest / rate))
    }
}

/// Who looks at the progress.
pub trait Watch: Send + Sync {
    /// A task stands so. It is called from any thread, and must not wait.
    fn tick(&self, tick: &Tick<'_>);
}

/// Where progress is reported to; by default nowhere.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Watch>>);

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(watched)" } else { "Progress" })
    }
}

impl Progress {
    /// Reports to `watch`.
    pub fn to(watch: impl Watch + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    /// Begins a task. It ends when the answer is dropped.
    pub fn task(&self, name: impl Into<String>, unit: Unit, total: Option<u64>) -> Task {
        let began = Instant::now();
        Task {
            watch: self.0.clone(),
            name: name.into(),
            unit,
            total,
            done: AtomicU64::new(0),
            began,
            told: Mutex::new(began),
        }
    }
}

/// One task on its way.
pub struct Task {
    watch: Option<Arc<dyn Watch>>,
    name: String,
    unit: Unit,
    total: Option<u64>,
    done: AtomicU64,
    began: Instant,
    told: Mutex<Instant>,
}

impl Task {
    /// So much more is done.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        if self.watch.is_none() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= EVERY {
            *told = Instant::now();
            drop(told);
            self.tell(false);
        }
    }

    fn tell(&self, is_over: bool) {
        if let Some(watch) = &self.watch {
            watch.tick(&Tick {
                task: &self.name,
                done: self.done.load(Ordering::Relaxed),
                total: self.total,
                unit: self.unit,
                elapsed: self.began.elapsed(),
                is_over,
            });
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.tell(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_how_far_it_is_and_when_it_is_over() {
        struct Heard(Arc<Mutex<Vec<(u64, bool)>>>);
        impl Watch for Heard {
            fn tick(&self, tick: &Tick<'_>) {
                self.0.lock().unwrap().push((tick.done, tick.is_over));
            }
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let task = Progress::to(Heard(heard.clone())).task("fetching", Unit::Bytes, Some(10));
        task.add(4);
        task.add(6);
        drop(task);
        assert_eq!(heard.lock().unwrap().last(), Some(&(10, true)));
        let tick = Tick {
            task: "t",
            done: 4,
            total: Some(10),
            unit: Unit::Bytes,
            elapsed: Duration::from_secs(2),
            is_over: false,
        };
        assert_eq!((tick.rate(), tick.left()), (2, Some(Duration::from_secs(3))));
    }
}
