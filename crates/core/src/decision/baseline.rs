//! Baselines: what was in use before anybody judged it, accepted in one act until a date.

use serde::{Deserialize, Serialize};

use super::{Decision, Decisions, Ruling, Target, Weighed};
use crate::id::Digest;
use crate::matching::Finding;
use crate::time::Time;

/// A file that was in use when somebody looked, and everything that kept it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its hash, as far as it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// What kept it out.
    pub weighed: Vec<Weighed>,
}

/// Whether something that stands open among these findings is known to be exploited or malicious: no baseline lifts anything
/// of such a file.
pub fn is_grave(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.status.is_open() && finding.is_grave())
}

impl Decisions {
    /// The baseline that lifts what was weighed of the artifact, as far as that rests on `finding` of all its findings. What
    /// was weighed is asked only if the file is in a baseline.
    pub fn baseline(
        &self,
        target: &Target<'_>,
        (finding, findings): (Option<&Finding>, &[Finding]),
        now: Time,
        weighed: impl FnOnce() -> Option<Weighed>,
    ) -> Option<&Decision> {
        if finding.is_some_and(Finding::is_grave) {
            return None;
        }
        let place = target.place();
        let accepted = self.list.iter().filter_map(|decision| match &decision.ruling {
            // One without an end is none, whoever wrote it.
            Ruling::Baseline { scope, files } if decision.expires.is_some() => {
                let file = files.get(&place).filter(|file| file.sha256 == target.sha256)?;
                (scope.covers(target, false) && self.is_in_force(decision, now)).then_some((decision, file))
            }
            _ => None,
        });
        let accepted: Vec<(&Decision, &Accepted)> = accepted.collect();
        if accepted.is_empty() || is_grave(findings) {
            return None;
        }
        let weighed = weighed()?;
        accepted.into_iter().find(|(_, file)| file.weighed.contains(&weighed)).map(|(decision, _)| decision)
    }
}
