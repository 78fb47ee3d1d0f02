//! A bounded cache of immutable objects, decoded.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use airlock_core::id::Digest;

/// The encoded bytes of the objects that are held.
pub(super) const CACHE_BYTES_MAX: usize = 32 << 20;

/// What was not used since it was last looked at makes room for what is new.
#[derive(Default)]
pub(super) struct Cache {
    objects: HashMap<Digest, Held>,
    queue: VecDeque<Digest>,
    bytes: usize,
}

struct Held {
    object: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    is_used: bool,
}

impl Cache {
    /// What is held under a name.
    pub fn get<T: Send + Sync + 'static>(&mut self, name: Digest) -> Option<Arc<T>> {
        let held = self.objects.get_mut(&name)?;
        held.is_used = true;
        held.object.clone().downcast().ok()
    }

    /// Holds an object that is `bytes` long, encoded. What is larger than the cache is not held.
    pub fn put<T: Send + Sync + 'static>(&mut self, name: Digest, object: Arc<T>, bytes: usize) {
        if bytes > CACHE_BYTES_MAX || self.objects.contains_key(&name) {
            return;
        }
        self.objects.insert(name, Held { object, bytes, is_used: false });
        self.queue.push_back(name);
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            match self.objects.get_mut(&oldest) {
                Some(held) if held.is_used => {
                    held.is_used = false;
                    self.queue.push_back(oldest);
                }
                _ => self.bytes -= self.objects.remove(&oldest).map_or(0, |h| h.bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_limit_holds() {
        let mut cache = Cache::default();
        let name = |n: u32| Digest::of(&n.to_be_bytes());
        let each = CACHE_BYTES_MAX / 4;
        for n in 0..100 {
            cache.put(name(n), Arc::new(n), each);
            assert!(cache.get::<u32>(name(0)).is_some(), "0 is asked for all the time");
            assert!(cache.bytes <= CACHE_BYTES_MAX);
            assert_eq!(cache.objects.len(), cache.queue.len());
        }
        assert_eq!(cache.get::<u32>(name(99)).as_deref(), Some(&99));
        assert!(cache.get::<u32>(name(50)).is_none());
        cache.put(name(1000), Arc::new(0_u32), CACHE_BYTES_MAX + 1);
        assert!(cache.get::<u32>(name(1000)).is_none());
    }
}
