//! The shards of a channel that were judged anew.

use airlock_core::id::Id;
use airlock_core::shard::Shard;
use airlock_core::verdict::Judgement;

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub file: String,
    /// Whether it is held, and fetched only to see what it says: it is in quarantine until that releases it.
    pub is_probe: bool,
}

/// What judging one shard anew gave.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Its published shard before.
    pub before: Option<Id<Shard>>,
    /// Its published shard now.
    pub now: Option<Id<Shard>>,
    /// What was found of it now. None if it is nowhere any more; or nothing was to be written.
    pub judgement: Option<Id<Judgement>>,
    /// Its files that nothing but their bytes keeps out, or what opening them may tell.
    pub wanted: Vec<Wanted>,
    /// Whether the source lists files of it that were never seen before.
    pub has_unseen: bool,
    /// Whether a file of it that is not admitted lacks its bytes, or what opening it may tell.
    pub lacks_bytes: bool,
}

/// The shards that were judged anew, in the order of their keys.
///
/// A first judgement touches each shard of a channel: a list without gaps takes half of what a map does that grew in order.
#[derive(Clone, Debug, Default)]
pub struct TouchedShards(Vec<(Box<str>, Touched)>);

impl TouchedShards {
    /// None yet, with room for so many.
    pub(super) fn with_room(shards: usize) -> Self {
        Self(Vec::with_capacity(shards))
    }

    /// Adds one. That is quick where they come in the order of their keys.
    pub(super) fn add(&mut self, key: String, touched: Touched) {
        let key = key.into_boxed_str();
        match self.0.last() {
            Some((last, _)) if *last >= key => match self.place(&key) {
                Ok(at) => self.0[at].1 = touched,
                Err(at) => self.0.insert(at, (key, touched)),
            },
            _ => self.0.push((key, touched)),
        }
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(key))
    }

    /// All of them, by shard key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Touched)> {
        self.0.iter().map(|(key, touched)| (&**key, touched))
    }

    /// What judging the shard of this key anew gave.
    pub fn get(&self, key: &str) -> Option<&Touched> {
        let at = self.place(key).ok()?;
        self.0.get(at).map(|(_, touched)| touched)
    }

    /// Whether the shard of this key was judged anew.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_judged_is_found_by_its_key_and_told_in_order() {
        let touched = |lacks_bytes| Touched {
            before: None,
            now: None,
            judgement: None,
            wanted: Vec::new(),
            has_unseen: false,
            lacks_bytes,
        };
        let mut all = TouchedShards::with_room(2);
        assert!(all.is_empty());
        // The order in which they are added says nothing.
        for (key, lacks_bytes) in
            [("linux-64/idna", false), ("noarch/idna2", false), ("noarch/idna", false), ("noarch/idna", true)]
        {
            all.add(key.to_owned(), touched(lacks_bytes));
        }
        assert_eq!(all.len(), 3);
        assert!(all.get("noarch/idna").unwrap().lacks_bytes);
        assert!(!all.get("noarch/idna2").unwrap().lacks_bytes);
        let known =
            ["linux-64/idn", "linux-64/idna", "noarch/idna", "noarch/zlib"].map(|key| all.contains_key(key));
        assert_eq!(known, [false, true, true, false]);
        let keys: Vec<&str> = all.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["linux-64/idna", "noarch/idna", "noarch/idna2"]);
    }
}
