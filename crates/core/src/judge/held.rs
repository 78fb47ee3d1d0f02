//! What the station that sent a file holds it by, or denies it by.

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

    /// That the station which sent the file denies it by now. What it offers is ours to judge; of what it does not, snapshots that are
    /// kept here may list something still. That it says nothing of it any more takes nothing back.
    pub(super) fn denied_by_sender(&self) -> Option<RuleHit> {
        if !self.gone {
            return None;
        }
        match self.sent {
            Some(sent) if sent.verdict == Verdict::Deny => {
                Some(hit(builtin::DENIED_BY_SENDER, Action::Deny, reason(sent)))
            }
            Some(_) => None,
            None => self.before?.rules.iter().find(|hit| hit.rule == builtin::DENIED_BY_SENDER).cloned(),
        }
    }
}
