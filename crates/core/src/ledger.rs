//! The ledger: an append-only chain of entries, each naming the hash of the one before.

use serde::{Deserialize, Serialize};

use crate::canon::Canonical;
use crate::id::Digest;
use crate::time::Time;

/// The head of an empty ledger.
pub const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// One thing that anybody or any job changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its place, from 1.
    pub number: u64,
    /// When.
    pub time: Time,
    /// Who: an operating-system user, or a job.
    pub actor: String,
    /// What was done, `channel.publish`.
    pub action: String,
    /// To what, `channel/main`.
    pub subject: String,
    /// The particulars.
    pub detail: Canonical,
    /// The hash of the entry before; [`GENESIS`] for the first.
    pub previous: Digest,
}

impl LedgerEntry {
    /// The entry's hash: SHA-256 of its canonical JSON.
    pub fn hash(&self) -> Result<Digest, serde_json::Error> {
        Ok(Digest::of(Canonical::of(self)?.as_str().as_bytes()))
    }
}

/// Where a ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Entries so far.
    pub number: u64,
    /// The hash of the last one.
    pub hash: Digest,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// A number is missing or stands twice.
    #[error("entry {expected} is missing: entry {found} stands in its place")]
    Gap {
        /// The number that should stand there.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// An entry was changed, or does not follow the one before it.
    #[error("entry {0} does not follow from the entry before it: it, or that one, was changed")]
    Chain(u64),
    /// The end was cut off.
    #[error("the ledger ends at entry {found}, but entry {known} is known to have existed")]
    Cut {
        /// The last entry.
        found: u64,
        /// The last one that is known of.
        known: u64,
    },
    /// The past was rewritten.
    #[error("entry {0} is not the one that was known before")]
    Rewritten(u64),
    /// An entry cannot be hashed.
    #[error("entry {0} cannot be written as JSON")]
    Shape(u64),
}

/// Where a ledger stands after an entry, which must be the next one.
pub fn follow(head: LedgerHead, entry: &LedgerEntry) -> Result<LedgerHead, BrokenLedger> {
    if entry.number != head.number + 1 {
        return Err(BrokenLedger::Gap { expected: head.number + 1, found: entry.number });
    }
    if entry.previous != head.hash {
        return Err(BrokenLedger::Chain(entry.number));
    }
    let hash = entry.hash().map_err(|_| BrokenLedger::Shape(entry.number))?;
    Ok(LedgerHead { number: entry.number, hash })
}

/// Checks a whole chain, from its first entry, against a head that was known before, if any.
pub fn verify<'a>(
    entries: impl IntoIterator<Item = &'a LedgerEntry>,
    known: Option<LedgerHead>,
) -> Result<LedgerHead, BrokenLedger> {
    let mut head = LedgerHead { number: 0, hash: GENESIS };
    for entry in entries {
        head = follow(head, entry)?;
        if known.is_some_and(|k| k.number == head.number && k.hash != head.hash) {
            return Err(BrokenLedger::Rewritten(head.number));
        }
    }
    match known {
        Some(k) if k.number > head.number => Err(BrokenLedger::Cut { found: head.number, known: k.number }),
        _ => Ok(head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: u64) -> Vec<LedgerEntry> {
        let mut previous = GENESIS;
        let entry = |number| {
            let entry = LedgerEntry {
                number,
                time: Time::from_seconds(0),
                actor: "ada".into(),
                action: "channel.add".into(),
                subject: format!("channel/{number}"),
                detail: Canonical::parse("{}").unwrap(),
                previous,
            };
            previous = entry.hash().unwrap();
            entry
        };
        (1..=n).map(entry).collect()
    }

    #[test]
    fn any_edit_gap_reorder_or_cut_tail_is_found() {
        let good = chain(5);
        let head = verify(&good, None).unwrap();
        assert_eq!(head.number, 5);
        let mut edited = good.clone();
        edited[2].actor = "eve".into();
        assert_eq!(verify(&edited, None), Err(BrokenLedger::Chain(4)));
        let mut last = good.clone();
        last[4].actor = "eve".into();
        assert_eq!(verify(&last, Some(head)), Err(BrokenLedger::Rewritten(5)));
        let mut gap = good.clone();
        gap.remove(1);
        assert_eq!(verify(&gap, None), Err(BrokenLedger::Gap { expected: 2, found: 3 }));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert!(verify(&swapped, None).is_err());
        assert_eq!(verify(&good[..3], Some(head)), Err(BrokenLedger::Cut { found: 3, known: 5 }));
    }

    #[test]
    fn golden_hash_of_an_entry() {
        let entry = &chain(1)[0];
        assert_eq!(
            Canonical::of(entry).unwrap().as_str(),
            r#"{"action":"channel.add","actor":"ada","detail":{},"number":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","subject":"channel/1","time":"1970-01-01T00:00:00Z"}"#
        );
    }
}
