//! What connections do, and which of them have to end.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use super::Limits;

/// All connections.
pub(super) struct Connections {
    limits: Limits,
    open: Mutex<HashMap<u64, Open>>,
    /// How many there were so far.
    accepted: AtomicU64,
    clock: Arc<Clock>,
}

/// What all connections see.
#[derive(Default)]
struct Clock {
    /// How often they have been looked at.
    looks: AtomicU32,
    is_stopping: AtomicBool,
}

/// One connection, as it is kept in the list of all.
struct Open {
    connection: Arc<Connection>,
    task: AbortHandle,
    /// Bytes written and the look at which that was noted.
    speed: (u64, u32),
}

/// One connection, as it sees itself.
#[derive(Default)]
pub(super) struct Connection {
    clock: Arc<Clock>,
    /// A request is being answered.
    is_busy: AtomicBool,
    /// The client does not take what is written.
    is_blocked: AtomicBool,
    /// A part of a head has come.
    is_reading: AtomicBool,
    /// The look at which it was last said what it does.
    since: AtomicU32,
    written: AtomicU64,
}

/// What a connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    /// It waits for a request, or for the rest of a head.
    Waiting { is_reading: bool },
    /// A request is being worked on.
    Working,
    /// The client is waited for to take what it is sent.
    Writing,
}

impl Connection {
    /// A head has come.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.is_busy.store(true, Ordering::Relaxed);
        self.is_reading.store(false, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Bytes came.
    pub fn read(&self) {
        if !self.is_busy.load(Ordering::Relaxed) && !self.is_reading.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    /// Bytes went.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.is_blocked.load(Ordering::Relaxed) {
            self.is_blocked.store(false, Ordering::Relaxed);
            self.touch();
        }
    }

    /// No more bytes can go for now.
    pub fn blocked(&self) {
        self.is_blocked.store(true, Ordering::Relaxed);
    }

    fn touch(&self) {
        self.since.store(self.clock.looks.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn doing(&self) -> Doing {
        if self.is_blocked.load(Ordering::Relaxed) {
            Doing::Writing
        } else if self.is_busy.load(Ordering::Relaxed) {
            Doing::Working
        } else {
            Doing::Waiting { is_reading: self.is_reading.load(Ordering::Relaxed) }
        }
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Connection>);

impl Busy {
    /// Whether no other request shall follow.
    pub fn is_last(&self) -> bool {
        self.0.clock.is_stopping.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

/// Takes a connection off the list when its task ends, however it ends.
struct Listed(Arc<Connections>, u64);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.list().remove(&self.1);
    }
}

impl Connections {
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default(), accepted: AtomicU64::new(0), clock: Arc::default() }
    }

    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    fn list(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the task of a new connection.
    pub fn add<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Connection>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection { clock: self.clock.clone(), ..Connection::default() });
        connection.touch();
        let work = task(connection.clone());
        let listed = Listed(self.clone(), number);
        // The list is held until the task is on it: it cannot take itself off before.
        let mut open = self.list();
        let task = tokio::spawn(async move {
            let _listed = listed;
            work.await;
        });
        let look = self.clock.looks.load(Ordering::Relaxed);
        open.insert(number, Open { connection, task: task.abort_handle(), speed: (0, look) });
    }

    /// Makes room for one more; false if all are busy.
    pub fn make_room(&self) -> bool {
        let mut open = self.list();
        if open.len() < self.limits.connections {
            return true;
        }
        let now = self.clock.looks.load(Ordering::Relaxed);
        let idle = open
            .iter()
            .filter(|(_, o)| matches!(o.connection.doing(), Doing::Waiting { .. }))
            .max_by_key(|(_, o)| now.wrapping_sub(o.connection.since.load(Ordering::Relaxed)));
        let Some(number) = idle.map(|(number, _)| *number) else { return false };
        if let Some(oldest) = open.remove(&number) {
            oldest.task.abort();
        }
        true
    }

    /// Looks at all of them and ends those that take too long.
    pub fn look(&self) {
        let now = self.clock.looks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let limits = self.limits;
        let looks = |time: std::time::Duration| {
            u32::try_from(time.as_millis() / limits.look.as_millis().max(1)).unwrap_or(u32::MAX)
        };
        let (head, idle, over) = (looks(limits.head), looks(limits.idle), looks(limits.speed_over));
        let bytes_min = limits.speed_bytes.saturating_mul(limits.speed_over.as_secs().max(1));
        for open in self.list().values_mut() {
            let connection = &open.connection;
            let age = now.wrapping_sub(connection.since.load(Ordering::Relaxed));
            let written = connection.written.load(Ordering::Relaxed);
            let is_over = match connection.doing() {
                Doing::Waiting { is_reading } => {
                    // Before its first request, a connection has the time of a head.
                    age > if is_reading || written == 0 { head } else { idle }
                }
                Doing::Working => false,
                Doing::Writing if now.wrapping_sub(open.speed.1) < over => continue,
                Doing::Writing => written - open.speed.0 < bytes_min,
            };
            if is_over {
                open.task.abort();
            } else {
                open.speed = (written, now);
            }
        }
    }

    /// Lets no further request begin, ends those that wait for one, and says how many are left.
    pub fn stop(&self) -> usize {
        self.clock.is_stopping.store(true, Ordering::Relaxed);
        let open = self.list();
        for waiting in open.values().filter(|o| matches!(o.connection.doing(), Doing::Waiting { .. })) {
            waiting.task.abort();
        }
        open.len()
    }

    /// Ends all of them.
    pub fn abort(&self) {
        for open in self.list().values() {
            open.task.abort();
        }
    }
}
