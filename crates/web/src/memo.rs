//! A bounded memory of what was derived from immutable objects.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Rounds of [`Memo::tidy`] that a value stays for without being asked for.
const ROUNDS_UNUSED_MAX: u32 = 6;

/// Values by what names them and everything they were derived from. Whoever asks has been authorised before.
pub(crate) struct Memo<K, V> {
    bytes_max: usize,
    held: Mutex<Held<K, V>>,
}

struct Held<K, V> {
    values: HashMap<K, Value<V>>,
    /// Every key once, in the order in which it is decided whether it stays.
    queue: VecDeque<K>,
    bytes: usize,
    round: u32,
}

struct Value<V> {
    value: V,
    bytes: usize,
    /// Asked for since it was last decided whether it stays.
    is_used: bool,
    /// The round in which it was last asked for.
    round: u32,
}

impl<K: Hash + Eq + Clone, V: Clone> Memo<K, V> {
    /// A memory of so many bytes, or of one value that is larger.
    pub fn new(bytes_max: usize) -> Self {
        let held = Held { values: HashMap::new(), queue: VecDeque::new(), bytes: 0, round: 0 };
        Self { bytes_max, held: Mutex::new(held) }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held under `key`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut held = self.held();
        let round = held.round;
        let value = held.values.get_mut(key)?;
        value.is_used = true;
        value.round = round;
        Some(value.value.clone())
    }

    /// Holds a value of `bytes` bytes; what was not asked for makes room.
    pub fn put(&self, key: K, value: V, bytes: usize) {
        let mut held = self.held();
        let value = Value { value, bytes, is_used: false, round: held.round };
        held.bytes += bytes;
        let before = held.values.insert(key.clone(), value);
        held.bytes -= before.as_ref().map_or(0, |b| b.bytes);
        let is_queued = before.is_some();
        while held.bytes > self.bytes_max && held.queue.len() > usize::from(is_queued) {
            let Some(oldest) = held.queue.pop_front() else { break };
            match held.values.get_mut(&oldest) {
                Some(value) if value.is_used || oldest == key => {
                    value.is_used = false;
                    held.queue.push_back(oldest);
                }
                _ => held.bytes -= held.values.remove(&oldest).map_or(0, |v| v.bytes),
            }
        }
        if !is_queued {
            held.queue.push_back(key);
        }
    }

    /// Forgets what nobody has asked for since some rounds ago: a server that is not used needs no memory.
    pub fn tidy(&self) {
        let mut held = self.held();
        let Held { values, queue, bytes, round } = &mut *held;
        *round = round.wrapping_add(1);
        values.retain(|_, value| {
            let stays = round.wrapping_sub(value.round) < ROUNDS_UNUSED_MAX;
            if !stays {
                *bytes -= value.bytes;
            }
            stays
        });
        queue.retain(|key| values.contains_key(key));
        queue.shrink_to_fit();
        values.shrink_to_fit();
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let held = self.held();
        assert_eq!(held.values.len(), held.queue.len());
        held.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_makes_room() {
        let memo = Memo::new(100);
        memo.put(1, "a", 40);
        memo.put(2, "b", 40);
        assert_eq!(memo.get(&1), Some("a"));
        memo.put(3, "c", 40);
        assert_eq!((memo.get(&1), memo.get(&2), memo.get(&3)), (Some("a"), None, Some("c")));
        memo.put(3, "d", 10);
        assert_eq!((memo.get(&3), memo.bytes()), (Some("d"), 50));
        memo.put(5, "e", 1000);
        assert_eq!((memo.get(&5), memo.bytes()), (Some("e"), 1000), "one value may be larger");
        memo.put(6, "f", 10);
        assert!(memo.bytes() <= 100, "and goes when the next one comes: {}", memo.bytes());
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let memo = Memo::new(100);
        memo.put(1, "a", 10);
        memo.put(2, "b", 10);
        for _ in 0..ROUNDS_UNUSED_MAX + 1 {
            assert!(memo.get(&1).is_some());
            memo.tidy();
        }
        assert_eq!((memo.get(&2), memo.bytes()), (None, 10));
    }

    #[test]
    fn a_million_different_questions_do_not_grow_it() {
        let memo = Memo::new(1000);
        for n in 0..1_000_000_u32 {
            memo.put(n, (), 10);
        }
        assert!(memo.bytes() <= 1000);
    }
}
