//! Decisions: what people ruled. Append-only; a later decision may revoke an earlier one.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::matching::Finding;
use crate::object::Object;
use crate::spec::Spec;
use crate::time::Time;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its name, unique on the station: `d1`, `d2`, ... in the order in which they were made.
    pub id: String,
    /// When it was made.
    pub time: Time,
    /// Who made it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What was ruled.
    pub ruling: Ruling,
    /// Until when it counts; none is for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// What was ruled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Deny everything in this scope.
    Block(Scope),
    /// Lift one rule within this scope.
    Waive {
        /// The rule's name.
        rule: String,
        /// Where.
        scope: Scope,
        /// As far as the rule rests on this vulnerability; none: as far as it rests on the artifact itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advisory: Option<String>,
    },
    /// Take an earlier decision back.
    Revoke {
        /// The decision's id.
        decision: String,
    },
}

/// Which artifacts a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The channel.
    pub channel: String,
    /// Name and versions, as a spec.
    pub spec: String,
}

impl Scope {
    /// Whether this artifact is in the scope. A version that cannot be held against the scope is in it for a
    /// block and not for a waiver: what is not known is never milder.
    fn covers(&self, target: &Target<'_>, if_unknown: bool) -> bool {
        let spec = Spec::parse(target.ecosystem, &self.spec);
        let in_scope = |spec: Spec| {
            let version =
                if spec.can_tell(target.version) { spec.matches_version(target.version) } else { if_unknown };
            spec.matches_name(target.name) && version
        };
        self.channel == target.channel && spec.is_ok_and(in_scope)
    }
}

/// All decisions of a station in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// The decisions.
    pub list: Vec<Decision>,
}

impl Object for Decisions {
    const KIND: &'static str = "airlock.decisions.v1";
}

/// The artifact that a decision may be about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The channel.
    pub channel: &'a str,
    /// The canonical name.
    pub name: &'a str,
    /// The version.
    pub version: &'a str,
}

impl Decisions {
    /// Those in force at `now`: neither expired nor revoked.
    pub fn in_force(&self, now: Time) -> impl Iterator<Item = &Decision> {
        self.list.iter().filter(move |d| d.expires.is_none_or(|at| now < at)).filter(|d| !self.is_revoked(d))
    }

    fn is_revoked(&self, decision: &Decision) -> bool {
        self.list.iter().any(|d| matches!(&d.ruling, Ruling::Revoke { decision: id } if *id == decision.id))
    }

    /// The scopes that decisions made after `before` are about; none if `before` is no beginning of this list, so
    /// that anything may have changed.
    pub fn since(&self, before: &Self) -> Option<Vec<&Scope>> {
        let new = self.list.strip_prefix(before.list.as_slice())?;
        new.iter().map(|decision| self.scope(decision)).collect()
    }

    fn scope<'a>(&'a self, decision: &'a Decision) -> Option<&'a Scope> {
        match &decision.ruling {
            Ruling::Block(scope) | Ruling::Waive { scope, .. } => Some(scope),
            Ruling::Revoke { decision } => {
                let revoked = self.list.iter().find(|d| d.id == *decision)?;
                // A revocation is never revoked itself; whoever wrote one all the same gets everything judged anew.
                if matches!(revoked.ruling, Ruling::Revoke { .. }) { None } else { self.scope(revoked) }
            }
        }
    }

    /// The block that covers the artifact, if any.
    pub fn block(&self, target: &Target<'_>, now: Time) -> Option<&Decision> {
        self.in_force(now).find(|d| match &d.ruling {
            Ruling::Block(scope) => scope.covers(target, true),
            Ruling::Waive { .. } | Ruling::Revoke { .. } => false,
        })
    }

    /// The waiver that lifts `rule` for the artifact, as far as it rests on `finding`.
    pub fn waiver(
        &self,
        target: &Target<'_>,
        rule: &str,
        finding: Option<&Finding>,
        now: Time,
    ) -> Option<&Decision> {
        self.in_force(now).find(|d| match &d.ruling {
            Ruling::Waive { rule: waived, scope, advisory } => {
                waived == rule
                    && scope.covers(target, false)
                    && match advisory {
                        None => finding.is_none(),
                        Some(id) => finding.is_some_and(|f| f.is_called(id)),
                    }
            }
            Ruling::Block(_) | Ruling::Revoke { .. } => false,
        })
    }

    /// The moments after `now` at which a decision ends.
    pub fn turning_points(&self, now: Time) -> impl Iterator<Item = Time> {
        self.in_force(now).filter_map(|d| d.expires)
    }
}
