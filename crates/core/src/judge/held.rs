//! What the station that sent a file holds it by; and that whoever it came from denies it.

use super::{Case, hit, reason};
use crate::decision::State;
use crate::policy::Action;
use crate::time::Time;
use crate::verdict::{RuleHit, Verdict, builtin};

impl Case<'_> {
    /// By what the station that sent the file holds it; a person here may lift that.
    pub(super) fn held_by_sender(&self, now: Time) -> impl Iterator<Item = RuleHit> {
        self.holds.iter().map(move |hold| {
            let state = State {
                yanked: self.artifact.yanked,
                gone: self.gone,
                project_status: self.project_status,
                lacks: None,
            };
            let approval = self.cx.decisions.approval(&self.target(), now, || hold.weighed(&state));
            hold.hit(approval.map(|decision| decision.id.clone()))
        })
    }

    /// That whoever the file came from denied it. What is offered there is ours to judge; of what is not, snapshots that are kept here may
    /// list something still. It is taken back by nothing but that the file is offered there again: a milder word of something that
    /// nobody sends any more, silence, or an older word that somebody went back to let in nothing.
    pub(super) fn denied_at_origin(&self) -> Option<RuleHit> {
        if !self.gone {
            return None;
        }
        match self.sent.filter(|sent| sent.verdict == Verdict::Deny) {
            Some(sent) => Some(hit(builtin::DENIED_AT_ORIGIN, Action::Deny, reason(sent))),
            None => self.before?.rules.iter().find(|hit| hit.rule == builtin::DENIED_AT_ORIGIN).cloned(),
        }
    }
}
