//! What the station that sent a file holds it by.

use super::Case;
use crate::decision::State;
use crate::time::Time;
use crate::verdict::RuleHit;

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
}
