//! What a station that sends a channel holds: how it is told to the one that receives it, and weighed there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::canon::Canonical;
use crate::decision::{self, State, Weighed};
use crate::id::Digest;
use crate::policy::Action;
use crate::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

/// A rule by which the station that sent a file holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hold {
    /// The rule there.
    pub rule: String,
    /// Whether it is unknown there that the rule holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The vulnerability on which it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// A sentence, where the rule's name does not say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The hash of what is known there of that vulnerability, or where it names none of all of them.
    pub known: Digest,
}

/// Whether a judgement holds a file and a person could let it in: nothing but rules of the policy, or a sender before, holds it.
pub fn is_held(judged: &Judged) -> bool {
    let mut against = judged.rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action >= Action::Hold);
    judged.verdict == Verdict::Hold
        && !judged.gone
        // What nothing holds, nothing would hold on the other side.
        && judged.deciding().next().is_some()
        && against.all(|hit| hit.action == Action::Hold && builtin::may_be_approved(&hit.rule))
}

/// By what it holds it.
pub fn holds(judgement: &Judgement, judged: &Judged) -> Vec<Hold> {
    let found = judgement.findings_of(judged);
    let one = |hit: &RuleHit| {
        let of_it: Vec<_> = match &hit.advisory {
            Some(id) => found.iter().filter(|f| f.advisory == *id).cloned().collect(),
            None => found.to_vec(),
        };
        Hold {
            rule: hit.rule.clone(),
            unknown: hit.unknown,
            advisory: hit.advisory.clone(),
            detail: hit.detail.clone(),
            // What cannot be written down is known as nothing else is.
            known: decision::known_of(&of_it, &State::default())
                .unwrap_or_else(|| Digest::of(hit.rule.as_bytes())),
        }
    };
    let all: BTreeSet<Hold> = judged.deciding().map(one).collect();
    all.into_iter().collect()
}

impl Hold {
    /// As a rule that has a say here, lifted by a decision or not.
    pub fn hit(&self, waived_by: Option<String>) -> RuleHit {
        let detail = self.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        let unknown = if self.unknown { ", not known to hold" } else { "" };
        RuleHit {
            rule: builtin::HELD_BY_SENDER.to_owned(),
            action: Action::Hold,
            unknown: false,
            unopened: false,
            advisory: self.advisory.clone(),
            detail: Some(format!("there by {}{unknown}{detail}", self.rule)),
            waived_by,
        }
    }

    /// What an approval weighs of it: what the sender says and knows, and the file's own state here.
    pub fn weighed(&self, state: &State<'_>) -> Option<Weighed> {
        let said = Canonical::of(&(&self.rule, self.unknown, &self.detail)).ok()?;
        let State { yanked, gone, project_status, .. } = state;
        let known = Canonical::of(&(self.known, yanked, gone, project_status.unwrap_or("active"))).ok()?;
        Some(Weighed {
            rule: builtin::HELD_BY_SENDER.to_owned(),
            said: Digest::of(said.as_str().as_bytes()),
            advisory: self.advisory.clone(),
            known: Digest::of(known.as_str().as_bytes()),
            unknown: self.unknown,
        })
    }
}
