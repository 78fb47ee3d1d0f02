//! Which entries of the ledger belong to a snapshot: that of its publication, and those of the policy and the decisions that it
//! was judged by. From the first of them to the head none is left out, so that each can be followed to the head that the
//! station signs.

use serde::Deserialize;

use airlock_core::decision::Decision;
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::{self, BrokenLedger, LedgerEntry, LedgerHead};
use airlock_core::policy::PolicyText;
use airlock_core::snapshot::Snapshot;

use super::archive::Archive;
use crate::error::{Error, Result};
use crate::ledger::{RESTORE, read_checkpoint};
use crate::station::Station;

/// Entries that are read at once.
const ENTRIES_AT_ONCE: u32 = 1000;

/// Where the entries of a snapshot stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The first that belongs to it.
    pub first: u64,
    /// The one of its publication.
    pub published: u64,
    /// The last of the ledger.
    pub head: LedgerHead,
}

/// What entries are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub channel: &'a str,
    pub id: Id<Snapshot>,
    pub policy: Id<PolicyText>,
    pub decisions: &'a [Decision],
}

/// What was met of it so far.
#[derive(Debug)]
pub(super) struct Met<'a> {
    wanted: Wanted<'a>,
    left: &'a [Decision],
    first_decision: Option<u64>,
    policy: Option<u64>,
    published: Option<u64>,
}

#[derive(Deserialize)]
struct Said {
    policy: Option<Digest>,
    snapshot: Option<Digest>,
}

impl<'a> Met<'a> {
    pub const fn of(wanted: Wanted<'a>) -> Self {
        Self { left: wanted.decisions, wanted, first_decision: None, policy: None, published: None }
    }

    /// Looks at the next entry. A decision must be the one that was made.
    pub fn look(&mut self, entry: &LedgerEntry) -> std::result::Result<(), String> {
        if entry.action == "decision.add" {
            let Some((next, rest)) = self.left.split_first() else { return Ok(()) };
            if entry.detail.read::<Decision>().ok().as_ref() != Some(next) {
                let number = entry.number;
                return Err(format!("decision {} is not the one that entry {number} tells of", next.id));
            }
            self.first_decision.get_or_insert(entry.number);
            self.left = rest;
            return Ok(());
        }
        let is_publication = entry.action == "channel.publish";
        if !is_publication && !["station.init", "policy.set"].contains(&entry.action.as_str()) {
            return Ok(());
        }
        let Ok(said) = entry.detail.read::<Said>() else { return Ok(()) };
        let subject = format!("channel/{}", self.wanted.channel);
        if is_publication && said.snapshot == Some(self.wanted.id.digest()) && entry.subject == subject {
            self.published.get_or_insert(entry.number);
        }
        if !is_publication && said.policy == Some(self.wanted.policy.digest()) && self.published.is_none() {
            self.policy = Some(entry.number);
        }
        Ok(())
    }

    /// Where the publication stands.
    pub fn published(&self) -> std::result::Result<u64, String> {
        if let Some(decision) = self.left.first() {
            return Err(format!("no entry of the ledger tells of decision {}", decision.id));
        }
        let id = self.wanted.id.digest();
        self.published
            .ok_or_else(|| format!("no entry of the ledger tells that snapshot {} was published", id.short()))
    }

    /// The first entry that belongs to the snapshot.
    fn first(&self, published: u64) -> u64 {
        [self.first_decision, self.policy].into_iter().flatten().fold(published, u64::min)
    }

    /// Whether an entry tells of the policy; those of before entries told of policies do not.
    pub const fn has_policy(&self) -> bool {
        self.policy.is_some()
    }
}

/// Looks for the entries of a snapshot. The whole ledger is followed, and held against the checkpoint: what does not go on
/// from it is not signed.
pub(super) async fn find(station: &Station, wanted: Wanted<'_>) -> Result<Proof> {
    let broken = |e: BrokenLedger| Error::no(e.to_string()).hint(RESTORE);
    let checkpoint = read_checkpoint(station)?;
    let mut met = Met::of(wanted);
    let mut head = LedgerHead { number: 0, hash: ledger::GENESIS };
    loop {
        let batch = station.store.db.ledger(head.number + 1, ENTRIES_AT_ONCE).await?;
        if batch.is_empty() {
            break;
        }
        for (entry, stored) in batch {
            head = ledger::follow(head, &entry).map_err(broken)?;
            if head.hash != stored {
                let number = head.number;
                return Err(
                    Error::no(format!("entry {number} was changed: its hash does not fit")).hint(RESTORE)
                );
            }
            if checkpoint.is_some_and(|known| known.number == head.number && known.hash != head.hash) {
                return Err(broken(BrokenLedger::Rewritten(head.number)));
            }
            met.look(&entry).map_err(|what| Error::no(what).hint(RESTORE))?;
        }
    }
    if let Some(known) = checkpoint.filter(|known| known.number > head.number) {
        return Err(broken(BrokenLedger::Cut { found: head.number, known: known.number }));
    }
    let published = met.published().map_err(|what| {
        Error::no(what)
            .hint("`airlock snapshot list` shows what was published, `airlock ledger verify` what is wrong")
    })?;
    Ok(Proof { first: met.first(published), published, head })
}

/// Writes the entries of a snapshot, each as the canonical text that its hash is of.
pub(super) async fn write(station: &Station, archive: &mut Archive, proof: Proof) -> Result<()> {
    let mut next = proof.first;
    while next <= proof.head.number {
        let batch = station.store.db.ledger(next, ENTRIES_AT_ONCE).await?;
        if batch.is_empty() {
            return Err(Error::fault("the ledger lost entries").hint("run it again"));
        }
        for (entry, _) in batch.into_iter().filter(|(entry, _)| entry.number <= proof.head.number) {
            next = entry.number + 1;
            archive.line(airlock_core::canon::Canonical::of(&entry)?.as_str().as_bytes())?;
        }
    }
    Ok(())
}
