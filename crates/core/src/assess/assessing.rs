//! How the findings of one package were ruled: by people, and by the sources that they trust.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Assessed, Assessments, Basis, By, PACKAGE, Statement, Statements, is_milder, keyed, names, strictness,
};
use crate::advisory::{Kev, Slice, SliceEntry};
use crate::decision::{Decision, Decisions, Ruling, Target};
use crate::ecosystem::Ecosystem;
use crate::id::Digest;
use crate::matching::{Finding, Lookup};
use crate::time::Time;
use crate::version::Order;

/// A statement of a source that is trusted for some version of a package.
#[derive(Debug)]
struct Trusted<'a> {
    by: By,
    statement: &'a Statement,
    orders: &'a [Order],
    digest: Digest,
}

/// A package, where it stands, and the moment of judging.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// The package.
    pub name: &'a str,
    /// The moment.
    pub now: Time,
}

/// What is needed to say how the findings of one package were ruled.
#[derive(Debug)]
pub struct Assessing<'a> {
    decisions: &'a Decisions,
    /// What feeds state.
    stated: Vec<Trusted<'a>>,
    /// By each name of a vulnerability: the statements on it.
    by_name: BTreeMap<&'a str, Vec<usize>>,
    /// What is known now of the vulnerabilities that somebody ruled on.
    bases: BTreeMap<&'a str, Basis>,
    /// What was known when a statement counted for the first time.
    weighed: BTreeMap<String, Basis>,
    /// Whether anybody ruled or stated anything, so that most packages need no more than this.
    is_silent: bool,
}

impl<'a> Assessing<'a> {
    /// Of a package by what is known of it, the statements about it (`own` are those that its files make of themselves), and
    /// `weighed` of its last judgement.
    pub fn of(
        decisions: &'a Decisions,
        of: Of<'_>,
        (slices, kev): (&'a [(Lookup, &'a Slice)], &Kev),
        (statements, own): (&'a [(Lookup, &'a Statements)], &[&'a Statement]),
        weighed: Option<&BTreeMap<String, Basis>>,
    ) -> Self {
        let trusts = |source: &str| decisions.trusts_name(source, of.channel, of.ecosystem, of.name, of.now);
        let mut trusted: BTreeMap<&str, bool> = BTreeMap::new();
        let mut stated = Vec::new();
        for (lookup, said) in statements {
            for statement in &said.list {
                let source = statement.source.as_str();
                if *trusted.entry(source).or_insert_with(|| trusts(source)) {
                    let by = By::Feed(source.to_owned());
                    let (orders, digest) = (lookup.orders.as_slice(), statement.digest());
                    stated.push(Trusted { by, statement, orders, digest });
                }
            }
        }
        let own: &[&Statement] = if !own.is_empty() && trusts(PACKAGE) { own } else { &[] };
        let ruled = decisions.ruled_on(of.now);
        let mut assessing = Self {
            is_silent: ruled.is_empty() && stated.is_empty() && own.is_empty(),
            decisions,
            stated,
            by_name: BTreeMap::new(),
            bases: BTreeMap::new(),
            weighed: BTreeMap::new(),
        };
        if !assessing.is_silent {
            assessing.learn((slices, kev), &ruled, own, weighed);
        }
        assessing
    }

    /// Gathers what is known of the vulnerabilities that somebody ruled on.
    fn learn(
        &mut self,
        (slices, kev): (&'a [(Lookup, &'a Slice)], &Kev),
        ruled: &BTreeSet<&str>,
        own: &[&Statement],
        before: Option<&BTreeMap<String, Basis>>,
    ) {
        for (at, trusted) in self.stated.iter().enumerate() {
            for name in trusted.statement.names() {
                self.by_name.entry(name).or_default().push(at);
            }
        }
        let mut grouped: BTreeMap<&str, Vec<(&str, &SliceEntry)>> = BTreeMap::new();
        for (key, entry) in keyed(slices) {
            grouped.entry(&entry.vulnerability).or_default().push((key, entry));
        }
        let own: Vec<(&Statement, Digest)> = own.iter().map(|one| (*one, one.digest())).collect();
        let stated = self.stated.iter().map(|t| (t.statement, t.digest));
        let milder: Vec<(&Statement, Digest)> =
            stated.chain(own.iter().copied()).filter(|(one, _)| is_milder(one.status)).collect();
        let mut on: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
        for (statement, digest) in &milder {
            for name in statement.names() {
                on.entry(name).or_default().push(*digest);
            }
        }
        let groups: BTreeSet<&str> = grouped.keys().copied().collect();
        for (vulnerability, entries) in grouped {
            let called: BTreeSet<&str> = entries.iter().flat_map(|(_, entry)| names(entry)).collect();
            let stated: BTreeSet<Digest> =
                called.iter().filter_map(|name| on.get(name)).flatten().copied().collect();
            if stated.is_empty() && !called.iter().any(|name| ruled.contains(name)) {
                continue;
            }
            let basis = Basis::from_entries(entries.into_iter(), kev);
            for digest in stated {
                // It may have had another name when the statement counted first: it gets a CVE. What goes by that name
                // still is another vulnerability.
                let of = |name: &&str| before.and_then(|before| before.get(&weighed_key(name, digest)));
                let others = called.iter().filter(|name| !groups.contains(*name));
                let held = std::iter::once(&vulnerability).chain(others).find_map(of).unwrap_or(&basis);
                self.weighed.insert(weighed_key(vulnerability, digest), held.clone());
            }
            self.bases.insert(vulnerability, basis);
        }
        // What counted once is remembered for as long as it is stated, also while no record speaks of the vulnerability.
        let present: BTreeSet<Digest> = milder.iter().map(|(_, digest)| *digest).collect();
        for (key, basis) in before.into_iter().flatten() {
            let digest = key.rsplit_once(' ').and_then(|(_, digest)| digest.parse().ok());
            if digest.is_some_and(|digest: Digest| present.contains(&digest)) {
                self.weighed.entry(key.clone()).or_insert_with(|| basis.clone());
            }
        }
    }

    /// What is ruled of the findings of one artifact at a moment; `own` is what it states of itself.
    pub fn assess(
        &self,
        target: &Target<'_>,
        findings: &[Finding],
        own: &[Statement],
        now: Time,
    ) -> Assessments {
        if self.is_silent {
            return Assessments::new();
        }
        let one = |finding: &Finding| {
            let person = self.decisions.status(target, finding, now).and_then(|d| self.ruled(d, finding));
            let ruled = person.or_else(|| self.stated(target, finding, own, now))?;
            Some((finding.advisory.clone(), ruled))
        };
        findings.iter().filter_map(one).collect()
    }

    fn ruled(&self, decision: &Decision, finding: &Finding) -> Option<Assessed> {
        let Ruling::Status { status, basis, justification, .. } = &decision.ruling else { return None };
        let now = self.bases.get(finding.advisory.as_str()).cloned().unwrap_or_default();
        Some(Assessed {
            by: By::Decision(decision.id.clone()),
            justification: *justification,
            reason: decision.reason.clone(),
            status: *status,
            // What was confirmed stays so.
            void: if is_milder(*status) { basis.news(&now) } else { None },
        })
    }

    /// What trusted sources state of a finding: of each source its last word, and of several sources the strictest.
    fn stated(
        &self,
        target: &Target<'_>,
        finding: &Finding,
        own: &[Statement],
        now: Time,
    ) -> Option<Assessed> {
        let at: BTreeSet<usize> =
            finding.names().filter_map(|name| self.by_name.get(name)).flatten().copied().collect();
        let of_feeds = at.into_iter().filter_map(|at| self.stated.get(at)).filter(|trusted| {
            trusted.statement.is_about(finding) && trusted.statement.covers(target, trusted.orders)
        });
        let of_package = own.iter().filter(|s| s.is_about(finding)).map(|s| (By::Package, s));
        let mut last: BTreeMap<By, &Statement> = BTreeMap::new();
        for (by, statement) in of_feeds.map(|t| (t.by.clone(), t.statement)).chain(of_package) {
            if self.decisions.trusts(by.source(), target, now) {
                let held = last.entry(by).or_insert(statement);
                let rank = |s: &Statement| (s.time, strictness(s.status));
                if rank(statement) > rank(held) {
                    *held = statement;
                }
            }
        }
        let strictest = last.into_iter().max_by_key(|(_, statement)| strictness(statement.status));
        strictest.map(|(by, statement)| Assessed {
            by,
            justification: statement.justification,
            reason: statement.note.clone(),
            status: statement.status,
            void: self.against(statement, finding),
        })
    }

    /// What speaks against believing a statement that makes a finding milder.
    fn against(&self, statement: &Statement, finding: &Finding) -> Option<String> {
        if !is_milder(statement.status) {
            return None;
        }
        if finding.malicious {
            return Some("no source clears what is reported as malware".to_owned());
        }
        if finding.kev {
            return Some("no source clears what is known to be exploited".to_owned());
        }
        let weighed = self.weighed.get(&weighed_key(&finding.advisory, statement.digest()))?;
        weighed.news(self.bases.get(finding.advisory.as_str())?)
    }

    /// What was known when each statement that makes a finding milder counted for the first time, so that it is noticed when
    /// that changes.
    pub fn into_weighed(self) -> BTreeMap<String, Basis> {
        self.weighed
    }
}

fn weighed_key(vulnerability: &str, statement: Digest) -> String {
    format!("{vulnerability} {statement}")
}
