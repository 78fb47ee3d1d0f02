//! A bounded memory of what was derived from immutable objects.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use airlock_core::id::Digest;

/// Values by a hash that names everything they were derived from. Whoever asks has been authorised before: a
/// value is never found by anything that a client sends.
pub struct Memo<V> {
    bytes_max: usize,
    held: Mutex<Held<V>>,
}

struct Held<V> {
    values: BTreeMap<Digest, Value<V>>,
    bytes: usize,
    uses: u64,
}

struct Value<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<V: Clone> Memo<V> {
    /// A memory of so many bytes, or of one value that is larger.
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Mutex::new(Held { values: BTreeMap::new(), bytes: 0, uses: 0 }) }
    }

    /// What is held under `key`.
    pub fn get(&self, key: Digest) -> Option<V> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.uses += 1;
        let used = held.uses;
        let value = held.values.get_mut(&key)?;
        value.used = used;
        Some(value.value.clone())
    }

    /// Holds a value of `bytes` bytes; what was not used for longest makes room.
    pub fn put(&self, key: Digest, value: V, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.uses += 1;
        let used = held.uses;
        let before = held.values.insert(key, Value { value, bytes, used });
        held.bytes += bytes;
        held.bytes -= before.map_or(0, |b| b.bytes);
        while held.bytes > self.bytes_max && held.values.len() > 1 {
            let Some(oldest) = held.values.iter().min_by_key(|(_, v)| v.used).map(|(k, _)| *k) else { break };
            held.bytes -= held.values.remove(&oldest).map_or(0, |v| v.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let memo = Memo::new(100);
        let key = |n: u8| Digest::of(&[n]);
        memo.put(key(1), 1, 40);
        memo.put(key(2), 2, 40);
        assert_eq!(memo.get(key(1)), Some(1));
        memo.put(key(3), 3, 40);
        assert_eq!((memo.get(key(1)), memo.get(key(2)), memo.get(key(3))), (Some(1), None, Some(3)));
        memo.put(key(3), 4, 10);
        memo.put(key(4), 5, 50);
        assert_eq!((memo.get(key(1)), memo.get(key(3))), (Some(1), Some(4)));
        memo.put(key(5), 6, 1000);
        assert_eq!((memo.get(key(1)), memo.get(key(5))), (None, Some(6)), "one value may be larger");
    }
}
