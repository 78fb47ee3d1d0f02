//! A snapshot: the published state of a channel, as an immutable object that names its inputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advisory::AdvisorySet;
use crate::canon::Canonical;
use crate::decision::Decisions;
use crate::ecosystem::Ecosystem;
use crate::fact::Facts;
use crate::id::Id;
use crate::object::Object;
use crate::policy::PolicyText;
use crate::shard::Shard;
use crate::time::Time;
use crate::trie::TreeId;
use crate::verdict::Judgement;

/// What a source held when it was last read: the raw material of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// Shard key to shard.
    pub tree: TreeId<Id<Shard>>,
    /// conda: what the index of each subdir says beside its records, but for what is rewritten.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subdirs: BTreeMap<String, Canonical>,
    /// Where it came through a bundle: the sender's snapshot, whose judgement tells what was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Id<Snapshot>>,
}

impl Object for Upstream {
    const KIND: &'static str = "airlock.upstream.v1";
}

/// Everything that a snapshot was computed from. The same inputs give the same snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// What the source held.
    pub upstream: Id<Upstream>,
    /// Shard key to facts: pinned hashes, first-seen times, what archives said.
    pub facts: TreeId<Id<Facts>>,
    /// What was known of vulnerabilities.
    pub advisories: Id<AdvisorySet>,
    /// The policy.
    pub policy: Id<PolicyText>,
    /// What people had ruled.
    pub decisions: Id<Decisions>,
    /// Shard key to every record that a kept snapshot lists: what the block set must cover.
    pub listed: TreeId<Id<Shard>>,
    /// The snapshot before this one: what was published when rules come to hold it gets a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Id<Snapshot>>,
    /// The moment of judging.
    pub now: Time,
    /// [`crate::RULES_REVISION`] of the program that judged.
    pub rules_revision: u32,
}

/// How many artifacts got which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Offered.
    pub admit: u64,
    /// Waiting for a person.
    pub hold: u64,
    /// Not offered.
    pub deny: u64,
}

impl Counts {
    /// Adds what another part of the same channel counts.
    pub const fn add(&mut self, other: Self) {
        self.admit += other.admit;
        self.hold += other.hold;
        self.deny += other.deny;
    }

    /// What is left when a part is taken out.
    #[must_use]
    pub const fn without(self, part: Self) -> Self {
        Self {
            admit: self.admit.saturating_sub(part.admit),
            hold: self.hold.saturating_sub(part.hold),
            deny: self.deny.saturating_sub(part.deny),
        }
    }
}

/// The published state of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The channel's name.
    pub channel: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// What it was computed from.
    pub inputs: Inputs,
    /// What is published: shard key to published shard, and nothing else. Equal content has an equal id,
    /// whatever time, key or verdict stands beside it.
    pub content: TreeId<Id<Shard>>,
    /// Shard key to judgement: why each artifact is offered or not.
    pub judgement: TreeId<Id<Judgement>>,
    /// conda: what is published of each subdir beside its records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subdirs: BTreeMap<String, Canonical>,
    /// How many artifacts got which verdict.
    pub counts: Counts,
    /// Until when it is valid: the first moment at which time alone would change a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

impl Object for Snapshot {
    const KIND: &'static str = "airlock.snapshot.v1";
}
