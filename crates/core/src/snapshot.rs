//! A snapshot: the published state of a channel, as an immutable object that names its inputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advisory::AdvisorySet;
use crate::canon::Canonical;
use crate::decision::Decisions;
use crate::ecosystem::Ecosystem;
use crate::fact::Facts;
use crate::id::Id;
use crate::identity::Coverage;
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

crate::object!(Upstream, "airlock.upstream.v1");

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
    /// What the channel was read from: a location without its password, or `bundles:STREAM`. None in snapshots of before
    /// policies asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
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

/// How many packages are covered by advisories how well, a conda package once in each subdir. What is not covered has no
/// findings, which is not the same as clean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// See [`Coverage::Verified`].
    pub verified: u64,
    /// See [`Coverage::Automatic`].
    pub automatic: u64,
    /// See [`Coverage::NoneNeeded`].
    pub none_needed: u64,
    /// See [`Coverage::Unknown`].
    pub unknown: u64,
}

impl Covered {
    /// Adds one package.
    pub const fn count(&mut self, coverage: Coverage) {
        let of = match coverage {
            Coverage::Verified => &mut self.verified,
            Coverage::Automatic => &mut self.automatic,
            Coverage::NoneNeeded => &mut self.none_needed,
            Coverage::Unknown => &mut self.unknown,
        };
        *of += 1;
    }

    /// Adds what another part of the same channel counts.
    pub const fn add(&mut self, other: Self) {
        self.verified += other.verified;
        self.automatic += other.automatic;
        self.none_needed += other.none_needed;
        self.unknown += other.unknown;
    }

    /// What is left when a part is taken out.
    #[must_use]
    pub const fn without(self, part: Self) -> Self {
        Self {
            verified: self.verified.saturating_sub(part.verified),
            automatic: self.automatic.saturating_sub(part.automatic),
            none_needed: self.none_needed.saturating_sub(part.none_needed),
            unknown: self.unknown.saturating_sub(part.unknown),
        }
    }

    /// All packages.
    pub const fn total(&self) -> u64 {
        self.verified + self.automatic + self.none_needed + self.unknown
    }

    fn is_blank(&self) -> bool {
        *self == Self::default()
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
    /// How many packages are covered how well.
    #[serde(default, skip_serializing_if = "Covered::is_blank")]
    pub covered: Covered,
    /// Until when it is valid: the first moment at which time alone would change a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

crate::object!(Snapshot, "airlock.snapshot.v1");
