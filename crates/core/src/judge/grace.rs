//! The grace of rules that deny: who is given one, and that nobody is given a second by waiting for it.
//!
//! A grace is for what becomes known of a file that is offered. It is none for what a person lifted until a date: that
//! ends on that date. And it begins once: its end is remembered until the rules have been silent for as long as a grace
//! lasts, for else a reason that comes and goes would put the end off for ever.

use super::{Case, Ruled};
use crate::decision::is_grave;
use crate::matching::Finding;
use crate::policy::Action;
use crate::time::{Span, Time};
use crate::verdict::{Graced, RuleHit};

impl Case<'_> {
    /// When the grace of the rules that deny it ends; none if none does, or one of them acts at once: that has no grace,
    /// rests on what is exploited or malicious, or was lifted before.
    pub(super) fn grace_end(&self, rules: &[RuleHit], findings: &[Finding], at: Time) -> Option<Time> {
        let before = self.before.filter(|before| before.is_offered() && !self.gone)?;
        let given = self.given(at);
        // While an end is announced, what is no longer lifted is not covered by what was announced for another.
        let lifted_acts = before.denied_from.is_some() || given.is_none();
        let waits = |hit: &RuleHit| {
            let acts_at_once = match &hit.advisory {
                Some(advisory) => findings.iter().any(|f| f.advisory == *advisory && f.is_grave()),
                None => is_grave(findings),
            };
            let rule = self.cx.policy.rules.iter().find(|rule| rule.name == hit.rule)?;
            rule.grace.filter(|_| !(acts_at_once || lifted_acts && self.was_lifted(hit, findings)))
        };
        let graces: Option<Vec<Span>> = denying(rules).map(waits).collect();
        let shortest = graces?.into_iter().min()?;
        [given, Some(self.cx.now.after(shortest))].into_iter().flatten().min()
    }

    /// The end of a grace that it was given before, and that is not forgotten.
    fn given(&self, at: Time) -> Option<Time> {
        let before = self.before?;
        let remembered = || before.graced.filter(|g| g.forgotten_at.is_none_or(|then| at < then));
        before.denied_from.or_else(|| remembered().map(|g| g.end))
    }

    /// Whether it was offered before only because a person or a statement lifted this.
    fn was_lifted(&self, hit: &RuleHit, findings: &[Finding]) -> bool {
        let Some(before) = self.before else { return false };
        let was_waived = || {
            let same = |b: &&RuleHit| b.rule == hit.rule && b.advisory == hit.advisory;
            before.rules.iter().filter(same).any(|b| b.waived_by.is_some())
        };
        let was_closed = |f: &Finding| {
            let stood = before.assessed.get(&f.advisory).and_then(|ruled| ruled.stands());
            f.status.is_open() && stood.is_some_and(|status| !status.is_open())
        };
        let concerns = |f: &&Finding| hit.advisory.as_ref().is_none_or(|advisory| *advisory == f.advisory);
        was_waived() || findings.iter().filter(concerns).any(was_closed)
    }

    /// What the next judgement must know of a grace that no rule in grace speaks of now.
    pub(super) fn remember(&self, ruled: &Ruled) -> Option<Graced> {
        let now = self.cx.now;
        if ruled.denied_from.is_some() || self.gone {
            return None;
        }
        let end = self.given(now)?;
        let longest = self.cx.policy.rules.iter().filter_map(|rule| rule.grace).max()?;
        let silent_since = self.before.and_then(|before| before.graced).and_then(|g| g.forgotten_at);
        let is_silent = denying(&ruled.rules).next().is_none();
        let forgotten_at = is_silent.then(|| silent_since.unwrap_or_else(|| now.after(longest)));
        Some(Graced { end, forgotten_at })
    }
}

fn denying(rules: &[RuleHit]) -> impl Iterator<Item = &RuleHit> {
    rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action == Action::Deny)
}
