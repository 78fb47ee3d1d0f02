//! Bundles: what they carry, and what both sides remember of them.

pub(crate) mod admission;
mod brought;
mod channels;
mod cut;
pub mod export;
pub mod feeds;
pub mod file;
mod gather;
pub mod heard;
mod held;
pub mod import;
mod lay;
mod layout;
mod lines;
pub(crate) mod media;
mod needs;
mod objects;
mod parity;
pub mod parts;
pub mod preview;
pub mod pull;
pub mod receipt;
pub mod resend;
pub mod scan;
pub mod seals;
pub mod signing;
mod source;
mod target;
pub(crate) mod text;
pub mod turns;
pub mod unfinished;
mod unseal;
pub mod verify;
pub mod volumes;
pub(crate) mod waiting;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{Base, Held, Hop};
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::LedgerHead;
use airlock_core::request::Answers;
use airlock_core::snapshot::Snapshot;
use airlock_core::time::Time;

/// One bundle that was written: enough to make the next one a delta against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Its number and manifest.
    pub bundle: Base,
    /// The snapshots that it brought.
    pub channels: BTreeMap<String, Id<Snapshot>>,
    /// What it brought of what is held here, by channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, Held>,
    /// The feeds that it brought.
    pub feeds: BTreeMap<String, FeedHead>,
    /// Where the ledger stood, as the bundle says; none of those that were written before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerHead>,
    /// The answers that it brought, which a part of it that is written again brings too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Id<Answers>>,
}

/// What a sender remembers of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportState {
    /// Every bundle, oldest first.
    pub bundles: Vec<Exported>,
}

airlock_core::object!(ExportState, "airlock.export-state.v1");

/// What a receiver remembers of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    /// Every bundle that was taken in, oldest first.
    pub bundles: Vec<Base>,
    /// The key of the station that wrote the last one.
    pub public_key: String,
    /// The root by which the last one was released: from the first on that came by a root, the stream belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// Where the sender's ledger stood.
    pub ledger: LedgerHead,
    /// The way that each channel of the stream came, this stream being the last step of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub via: BTreeMap<String, Vec<Hop>>,
    /// The bundle at which the channels stand, where a person went back from the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_at: Option<Base>,
    /// When the last one was written, by its sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Time>,
}

impl ImportState {
    /// It with a bundle that was taken in, in the order of their numbers: those that were in stay in, so that no number is
    /// ever free again and a delta finds its base.
    pub(crate) fn take(&mut self, bundle: Base) {
        if !self.bundles.contains(&bundle) {
            self.bundles.push(bundle);
            self.bundles.sort_by_key(|b| b.number);
        }
        self.stands_at = Some(bundle).filter(|_| self.bundles.last() != Some(&bundle));
    }

    /// Whether the channels stand at this bundle.
    pub(crate) fn is_at(&self, bundle: Base) -> bool {
        self.stands_at.as_ref().or(self.bundles.last()) == Some(&bundle)
    }
}

airlock_core::object!(ImportState, "airlock.import-state.v1");
