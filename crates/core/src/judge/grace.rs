//! The grace of rules that deny: who is given one, and that nobody is given a second by waiting for it.
//!
//! A grace is for what becomes known of a file that is offered. It is none for what a person lifted until a date: that
//! ends on that date, unless it is something for which a later end had been announced. And a grace begins once: its end is
//! remembered until the rules have been silent for as long as a grace lasts, for else a reason that comes and goes would put
//! the end off for ever.

use std::collections::BTreeSet;

use super::{Case, Ruled};
use crate::decision::is_grave;
use crate::matching::Finding;
use crate::policy::Action;
use crate::time::{Span, Time};
use crate::verdict::{Announced, Graced, RuleHit};

impl Case<'_> {
    /// When the grace of the rules that deny it ends; none if none does, or one of them acts at once: that has no grace,
    /// rests on what is exploited or malicious, or was lifted before and is none of those for which an end was announced.
    pub(super) fn grace_end(&self, rules: &[RuleHit], findings: &[Finding], at: Time) -> Option<Time> {
        self.before.filter(|before| before.is_offered() && !self.gone)?;
        let given = self.given(at);
        let waits = |hit: &RuleHit| {
            let acts_at_once = match &hit.advisory {
                Some(advisory) => findings.iter().any(|f| f.advisory == *advisory && f.is_grave()),
                None => is_grave(findings),
            };
            let rule = self.cx.policy.rules.iter().find(|rule| rule.name == hit.rule)?;
            let was_closed = self.was_closed(hit, findings);
            let was_lifted = was_closed || self.was_waived(hit);
            // Of the file as a whole it was not said for which of its findings an end was announced.
            let can_tell = hit.advisory.is_some() || !was_closed;
            let is_of = |given: &Graced| can_tell && given.of.contains(&announced(hit));
            rule.grace.filter(|_| !acts_at_once && (!was_lifted || given.as_ref().is_some_and(is_of)))
        };
        let graces: Option<Vec<Span>> = denying(rules).map(waits).collect();
        let shortest = graces?.into_iter().min()?;
        [given.as_ref().map(|given| given.end), Some(self.cx.now.after(shortest))].into_iter().flatten().min()
    }

    /// The grace that it was given before, if that is not forgotten at `at`.
    fn given(&self, at: Time) -> Option<Graced> {
        let before = self.before?;
        match (&before.graced, before.denied_from) {
            (Some(graced), _) => Some(graced.clone()).filter(|g| g.forgotten_at.is_none_or(|then| at < then)),
            // Rules of before revision 8 said nothing more of one that is running.
            (None, end) => end.map(|end| Graced { end, of: of(&before.rules), forgotten_at: None }),
        }
    }

    /// Whether it was offered before only because a decision lifted this. What held as long as it was unknown is not what
    /// denies now.
    fn was_waived(&self, hit: &RuleHit) -> bool {
        let same =
            |b: &&RuleHit| b.rule == hit.rule && b.advisory == hit.advisory && b.action == Action::Deny;
        let before = self.before.map_or(&[][..], |before| &before.rules);
        before.iter().filter(same).any(|b| b.waived_by.is_some())
    }

    /// Whether a finding that it may rest on was ruled, or stated, not to matter before.
    fn was_closed(&self, hit: &RuleHit, findings: &[Finding]) -> bool {
        let was_closed = |f: &Finding| {
            let ruled = self.before.and_then(|before| before.assessed.get(&f.advisory));
            let stood = ruled.and_then(|ruled| ruled.stands());
            f.status.is_open() && stood.is_some_and(|status| !status.is_open())
        };
        let concerns = |f: &&Finding| hit.advisory.as_ref().is_none_or(|advisory| *advisory == f.advisory);
        findings.iter().filter(concerns).any(was_closed)
    }

    /// What the next judgement must know of the grace that it has, or of one of which no rule speaks now.
    pub(super) fn remember(&self, ruled: &Ruled) -> Option<Graced> {
        if self.gone {
            return None;
        }
        let now = self.cx.now;
        let given = self.given(now);
        if let Some(end) = ruled.denied_from {
            let before = given.map(|given| given.of).unwrap_or_default();
            return Some(Graced { end, of: &before | &of(&ruled.rules), forgotten_at: None });
        }
        let Graced { end, of, forgotten_at: silent_since } = given?;
        let longest = self.cx.policy.rules.iter().filter_map(|rule| rule.grace).max()?;
        let is_silent = denying(&ruled.rules).next().is_none();
        let forgotten_at = is_silent.then(|| silent_since.unwrap_or_else(|| now.after(longest)));
        Some(Graced { end, of, forgotten_at }).filter(|g| g.forgotten_at.is_none_or(|then| now < then))
    }
}

fn denying(rules: &[RuleHit]) -> impl Iterator<Item = &RuleHit> {
    rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action == Action::Deny)
}

fn announced(hit: &RuleHit) -> Announced {
    Announced { rule: hit.rule.clone(), advisory: hit.advisory.clone() }
}

fn of(rules: &[RuleHit]) -> BTreeSet<Announced> {
    denying(rules).map(announced).collect()
}
