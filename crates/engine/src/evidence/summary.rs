//! What a person wants to see of a snapshot first: on one page, whatever its size.

use std::collections::BTreeMap;

use airlock_core::advisory::FeedHead;
use airlock_core::decision::{Decision, Decisions};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::LedgerHead;
use airlock_core::matching::{Finding, Status};
use airlock_core::snapshot::{Counts, Covered, Inputs, Snapshot};
use airlock_core::time::Time;

/// Findings that are shown, the worst.
pub const FINDINGS_MAX: usize = 500;
/// Decisions that are shown, the latest.
pub const DECISIONS_MAX: usize = 500;

/// A snapshot on one page.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The station.
    pub station: String,
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// The channel.
    pub channel: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// The snapshot.
    pub snapshot: Id<Snapshot>,
    /// What is published.
    pub content: Digest,
    /// Why each file is offered or not.
    pub judgement: Digest,
    /// What it was judged by.
    pub inputs: Inputs,
    /// How many artifacts got which verdict.
    pub counts: Counts,
    /// How many packages are covered how well.
    pub covered: Covered,
    /// Until when it is valid, if time alone ends that.
    pub valid_until: Option<Time>,
    /// The feeds, with the moments at which they were read.
    pub feeds: BTreeMap<String, FeedHead>,
    /// The policy's text.
    pub policy: String,
    /// The latest decisions on the channel, latest first.
    pub decisions: Vec<(Decision, bool)>,
    /// How many there are.
    pub decisions_all: usize,
    /// The worst findings of what is published.
    pub findings: Vec<Found>,
    /// How many findings there are in which state: a vulnerability of a package, once in each subdir and state.
    pub states: BTreeMap<Status, u64>,
    /// Where the ledger stands.
    pub ledger: LedgerHead,
    /// The entry of the publication.
    pub published: u64,
}

/// One vulnerability of some files of a package, in one state.
#[derive(Clone, Debug)]
pub struct Found {
    /// The package.
    pub name: String,
    /// Where its files stand.
    pub files: u64,
    /// Its versions that are published and concerned.
    pub versions: Vec<String>,
    /// The finding.
    pub finding: Finding,
    /// Who ruled, and why.
    pub ruled: Option<String>,
}

impl Summary {
    /// Takes in what is known of what is published of one package.
    pub(super) fn add(&mut self, found: Found) {
        *self.states.entry(found.finding.status).or_default() += 1;
        self.findings.push(found);
        if self.findings.len() > 2 * FINDINGS_MAX {
            self.keep_worst();
        }
    }

    /// Leaves the worst findings, worst first.
    pub(super) fn keep_worst(&mut self) {
        let rank = |found: &Found| {
            let f = &found.finding;
            (std::cmp::Reverse((f.status.is_open(), f.malicious, f.kev, f.score.as_ref().map(|s| s.score))),)
        };
        self.findings.sort_by(|a, b| {
            let name = |f: &Found| (f.name.clone(), f.finding.advisory.clone());
            rank(a).cmp(&rank(b)).then_with(|| name(a).cmp(&name(b)))
        });
        self.findings.truncate(FINDINGS_MAX);
    }
}

/// The decisions on a channel that a snapshot was judged by, latest first, with whether each was in force; and how many.
pub(super) fn decisions(of: &Decisions, channel: &str, now: Time) -> (Vec<(Decision, bool)>, usize) {
    let here: Vec<&Decision> = of.list.iter().filter(|d| of.channel_of(d) == Some(channel)).collect();
    let is_in_force = |d: &Decision| of.in_force(now).any(|other| other.id == d.id);
    let shown = here.iter().rev().take(DECISIONS_MAX);
    (shown.map(|d| ((*d).clone(), is_in_force(d))).collect(), here.len())
}
