//! A channel of one artifact, and everything that can bear on it.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; each uses some of it"
)]

use std::collections::BTreeMap;

use airlock_core::advisory::{Epss, Kev, Slice, SliceEntry};
use airlock_core::canon::Canonical;
use airlock_core::decision::{Approved, Decision, Decisions, Ruling, Scope, Weighed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::{Fact, Facts, Fault, FileFact};
use airlock_core::id::Digest;
use airlock_core::judge::{self, Context, Local};
use airlock_core::matching;
use airlock_core::policy::{self, Policy};
use airlock_core::severity::{Score, Tenths};
use airlock_core::shard::{Entry, Shard, ShardKey};
use airlock_core::time::{Span, Time};
use airlock_core::verdict::{Judged, Judgement, Verdict};
use airlock_core::version::{Event, Range};

pub const FILE: &str = "x-1.0-py3-none-any.whl";

pub fn day(n: i64) -> Time {
    Time::from_seconds(0).after(Span::days(20_000 + n))
}

pub fn shard(record: &str) -> Shard {
    let mut shard = Shard::new(Ecosystem::Pypi, "x".into(), None);
    shard
        .entries
        .insert(FILE.into(), Entry { table: "files".into(), record: Canonical::parse(record).unwrap() });
    shard
}

pub fn facts(fault: Option<Fault>) -> Facts {
    let file = FileFact {
        sha256: Digest::of(b"x"),
        size: 1,
        metadata: None,
        licence: None,
        summary: None,
        requires: vec![],
        run_exports: None,
        security: vec![],
    };
    Facts {
        files: [(FILE.to_owned(), Fact { first_seen: day(0), file: Some(file), fault })].into(),
        ..Facts::default()
    }
}

pub fn advisory(id: &str, score: Option<f64>) -> SliceEntry {
    SliceEntry {
        vulnerability: id.into(),
        advisory: id.into(),
        modified: None,
        cwes: [].into(),
        published: None,
        published_last: None,
        aliases: [].into(),
        summary: String::new(),
        scores: score
            .map(|s| Score { score: Tenths::new(s).unwrap(), vector: "v".into(), source: id.into() })
            .into_iter()
            .collect(),
        disputed: false,
        malicious: false,
        ranges: vec![Range { events: vec![Event::Introduced("0".into())] }],
        target: None,
        versions: vec![],
        with: [].into(),
    }
}

/// A channel of one artifact, and everything that can bear on it.
pub struct World {
    pub policy: Policy,
    pub decisions: Decisions,
    pub advisories: Vec<SliceEntry>,
    pub kev: Kev,
    pub feeds_read: Option<Time>,
    pub now: Time,
    pub shard: Option<Shard>,
    pub listed: Option<Shard>,
    pub facts: Facts,
    pub previous: Option<Judgement>,
    pub sent: Option<Judgement>,
    pub needs_bytes: bool,
    pub looks_ahead: bool,
}

impl World {
    pub fn new(policy: &str) -> Self {
        Self {
            policy: Policy::parse(policy).unwrap(),
            decisions: Decisions::default(),
            advisories: vec![],
            kev: Kev::default(),
            feeds_read: Some(day(0)),
            now: day(0),
            shard: Some(shard("{}")),
            listed: None,
            facts: facts(None),
            previous: None,
            sent: None,
            needs_bytes: true,
            looks_ahead: true,
        }
    }

    pub fn judgement(&self) -> Judgement {
        let epss = Epss::default();
        let cx = Context {
            channel: "main",
            ecosystem: Ecosystem::Pypi,
            source: "https://upstream.example/simple",
            policy: &self.policy,
            decisions: &self.decisions,
            kev: &self.kev,
            epss: &epss,
            ranks: None,
            feeds_read: self.feeds_read,
            now: self.now,
            needs_bytes: self.needs_bytes,
            looks_ahead: self.looks_ahead,
        };
        let slice = Slice { entries: self.advisories.clone() };
        let lookup = matching::lookups(Ecosystem::Pypi, "x", None).remove(0);
        let slices = [(lookup, &slice)];
        let local = Local {
            upstream: self.shard.as_ref(),
            listed: self.listed.as_ref(),
            facts: Some(&self.facts),
            identity: None,
            slices: &slices,
            statements: &[],
            previous: self.previous.as_ref(),
            lacks: None,
            sent: self.sent.as_ref(),
        };
        judge::judge_local(&cx, &ShardKey { subdir: None, name: "x".into() }, &local)
    }

    pub fn judged(&self) -> Judged {
        self.judgement().artifacts[FILE].clone()
    }

    pub fn verdict(&self) -> Verdict {
        self.judged().verdict
    }

    pub fn decide(&mut self, ruling: Ruling, expires: Option<Time>) {
        let id = format!("d{}", self.decisions.list.len() + 1);
        self.decisions.list.push(Decision {
            id,
            time: day(0),
            author: "ada".into(),
            reason: "because".into(),
            ruling,
            expires,
            until_fixed: false,
            ticket: None,
        });
    }
}

pub fn scope(spec: &str) -> Scope {
    Scope::of("main", spec)
}

pub fn one_rule(action: &str, when: &str) -> String {
    format!("[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"{action}\"\nwhen = {when}\n")
}
