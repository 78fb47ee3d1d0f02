//! The block set: per channel, what the newest judgement denies of everything that any kept snapshot
//! lists, and what a person blocked a moment ago.
//!
//! A file is served only if the snapshot that was asked for lists it **and** the block set does not, so
//! that neither a dated URL nor a rollback brings back what was denied since. A block set is replaced by
//! that of a newer judgement only; it never goes back with a snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// What must not leave, by shard key and file name, with the reason in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSet {
    /// Shard key to file name to reason.
    pub files: BTreeMap<String, BTreeMap<String, String>>,
    /// Shard key to file name to what is offered still, and denied when its grace ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<String, BTreeMap<String, Leaving>>,
}

/// What is offered still, and will be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The version.
    pub version: String,
    /// From when on.
    pub from: Time,
    /// Why, in a sentence.
    pub reason: String,
}

crate::object!(BlockSet, "airlock.blocks.v1");

impl BlockSet {
    /// Why a file is blocked, if it is.
    pub fn reason(&self, key: &str, file: &str) -> Option<&str> {
        self.files.get(key)?.get(file).map(String::as_str)
    }

    /// When and why a file leaves that is not blocked already, if it does.
    pub fn leaves(&self, key: &str, file: &str) -> Option<&Leaving> {
        self.leaving.get(key)?.get(file).filter(|_| self.reason(key, file).is_none())
    }

    /// This one, and what another names beside it. Where both name a file, the reason stays; of two that let it leave the
    /// sooner counts.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (key, files) in &other.files {
            let mine = out.files.entry(key.clone()).or_default();
            for (file, reason) in files {
                mine.entry(file.clone()).or_insert_with(|| reason.clone());
            }
        }
        for (key, files) in &other.leaving {
            let mine = out.leaving.entry(key.clone()).or_default();
            for (file, leaving) in files {
                let sooner = mine.get(file).is_none_or(|here| leaving.from < here.from);
                if sooner {
                    mine.insert(file.clone(), leaving.clone());
                }
            }
        }
        out
    }

    /// Adds a file.
    pub fn insert(&mut self, key: &str, file: &str, reason: String) {
        self.files.entry(key.to_owned()).or_default().insert(file.to_owned(), reason);
    }

    /// What leaves and is not blocked already: shard key, file name, and when and why.
    pub fn leaving(&self) -> impl Iterator<Item = (&str, &str, &Leaving)> {
        let all = self.leaving.iter().flat_map(|(key, files)| files.iter().map(move |f| (key, f)));
        all.map(|(key, (file, leaving))| (key.as_str(), file.as_str(), leaving))
            .filter(|(key, file, _)| self.reason(key, file).is_none())
    }

    /// How many files it blocks.
    pub fn len(&self) -> usize {
        self.files.values().map(BTreeMap::len).sum()
    }

    /// Whether it blocks none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_parent_blocks_and_lets_leave_is_added_to_what_the_child_does() {
        let leaving = |day: i64| Leaving {
            version: "1".into(),
            from: Time::from_seconds(day * 86_400),
            reason: day.to_string(),
        };
        let (mut child, mut parent) = (BlockSet::default(), BlockSet::default());
        child.insert("x", "a", "child".into());
        parent.insert("x", "a", "parent".into());
        parent.insert("y", "b", "parent".into());
        child
            .leaving
            .entry("x".into())
            .or_default()
            .extend([("c".into(), leaving(5)), ("d".into(), leaving(5))]);
        parent
            .leaving
            .entry("x".into())
            .or_default()
            .extend([("c".into(), leaving(3)), ("d".into(), leaving(7))]);
        let mut both = child.with(&parent);
        assert_eq!((both.reason("x", "a"), both.reason("y", "b")), (Some("child"), Some("parent")));
        let days: Vec<(&str, &str)> = both.leaving().map(|(_, file, l)| (file, l.reason.as_str())).collect();
        assert_eq!(days, [("c", "3"), ("d", "5")]);
        assert_eq!(both.leaves("x", "c").map(|l| l.reason.as_str()), Some("3"));
        both.insert("x", "c", "blocked".into());
        assert_eq!(both.leaves("x", "c"), None);
    }
}
