//! Decisions: what people ruled. Append-only; a later decision may revoke an earlier one.

mod baseline;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::advisory::MatchKey;
use crate::assess::{Basis, Justification};
use crate::canon::Canonical;
use crate::ecosystem::Ecosystem;
use crate::id::Digest;
use crate::identity::{Identity, Mapping};
use crate::matching::{Finding, Status};
use crate::policy::Rule;
use crate::shard::place;
use crate::spec::Spec;
use crate::time::Time;

pub use baseline::{Accepted, is_grave};

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
    /// It counts only as long as no version is known that fixes what it was weighed against.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_fixed: bool,
    /// Where it is discussed: the number of a ticket, or its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// What a decision rests on besides who made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Why.
    pub reason: String,
    /// See [`Decision::expires`].
    pub expires: Option<Time>,
    /// See [`Decision::until_fixed`].
    pub until_fixed: bool,
    /// See [`Decision::ticket`].
    pub ticket: Option<String>,
}

/// A file that was held when somebody looked, and everything that held it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Approved {
    /// The file, with its subdir for conda.
    pub artifact: String,
    /// Its hash, as far as it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// What held it.
    pub weighed: Vec<Weighed>,
}

/// A rule that held something, and on what it rested: what an approval weighed. When one of that is otherwise, it was not
/// weighed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Weighed {
    /// The rule's name.
    pub rule: String,
    /// The hash of what the rule said.
    pub said: Digest,
    /// The vulnerability, if it rested on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// The hash of what was known of that, and of the file's own state; for a rule that speaks of any or no finding, of all
    /// that was known.
    pub known: Digest,
    /// Whether it was unknown that the rule holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

impl Weighed {
    /// What is weighed of a rule that holds an artifact in this state, as far as it rests on `finding`; `all` is everything
    /// known of it. None if that cannot be written down, so that nothing is lifted by it.
    pub fn of(
        rule: &Rule,
        (finding, all): (Option<&Finding>, &[Finding]),
        state: &State<'_>,
        unknown: bool,
    ) -> Option<Self> {
        let known = match finding {
            _ if rule.when.quantifies() => known_of(all, state),
            Some(finding) => known_of(std::slice::from_ref(finding), state),
            None if rule.when.binds_finding() => known_of(all, state),
            None => known_of(&[], state),
        };
        let advisory = finding.map(|finding| finding.advisory.clone());
        Some(Self { rule: rule.name.clone(), said: rule.digest, advisory, known: known?, unknown })
    }
}

/// What of an artifact's own state is weighed: what may become otherwise without another file or another finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<'a> {
    /// Withdrawn by its publisher.
    pub yanked: bool,
    /// Its index lists it no longer.
    pub gone: bool,
    /// What its index says of the project.
    pub project_status: Option<&'a str>,
    /// Why it cannot be installed, in a sentence.
    pub lacks: Option<&'a str>,
}

/// The hash of what is known of some findings, but for what changes daily: names, scores, exploitation, fixes, states, and
/// what each record says.
pub(crate) fn known_of(findings: &[Finding], state: &State<'_>) -> Option<Digest> {
    let known: Vec<_> = findings
        .iter()
        .map(|f| {
            // Behind the key stands by whose word it was reached, which may come to be said by more.
            let key = |via: &str| via.split(' ').next().unwrap_or_default().to_owned();
            let records: Vec<_> = f.evidence.iter().map(|e| (&e.record, &e.hit, key(&e.via))).collect();
            let marks = (f.kev, f.malicious, f.undecided, f.status, f.automatic, &f.score);
            (&f.advisory, &f.aliases, &f.scores, &f.cwes, &f.fixed, marks, records)
        })
        .collect();
    let State { yanked, gone, project_status, lacks } = state;
    // A project of which nothing is said is active (PEP 792).
    let project_status = project_status.unwrap_or("active");
    let text = Canonical::of(&(known, (yanked, gone, project_status, lacks))).ok()?;
    Some(Digest::of(text.as_str().as_bytes()))
}

impl Decision {
    /// Whether what it waits for has not come: a fix.
    fn lasts(&self, finding: Option<&Finding>) -> bool {
        !self.until_fixed || finding.is_none_or(|finding| finding.fixed.is_empty())
    }
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
    /// Let in files that were held within this scope when somebody looked, as far as what held them was weighed. What denies is
    /// not lifted by it, and neither is what comes or becomes known later.
    Approve {
        /// Where.
        scope: Scope,
        /// The files that were held when somebody looked, and what held each.
        files: Vec<Approved>,
    },
    /// Accept what is in use already, until the date on which the decision ends: these files, also against what denies, as far as
    /// that was weighed. Nothing that is known to be exploited or malicious is lifted by it, no block, no rejection, and nothing
    /// that comes or becomes known later.
    Baseline {
        /// Where.
        scope: Scope,
        /// The files, each with its subdir for conda, and what kept each out.
        files: BTreeMap<String, Accepted>,
    },
    /// A whole channel offers nothing that it does not offer already; what denies acts all the same.
    Freeze(Scope),
    /// Deny everything in this scope: somebody looked, and does not want it.
    Reject(Scope),
    /// A finding is in this state within this scope. One that makes it milder stands on what was known.
    Status {
        /// The vulnerability, by the name under which it is one entry.
        advisory: String,
        /// What was known when it was ruled.
        basis: Basis,
        /// Why it is cleared, in terms that scanners read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        justification: Option<Justification>,
        /// Where.
        scope: Scope,
        /// The state.
        status: Status,
    },
    /// What this source states of findings counts within this scope.
    Statements {
        /// Where.
        scope: Scope,
        /// The name of a feed of statements, or [`crate::assess::PACKAGE`].
        source: String,
    },
    /// What a conda package is elsewhere: this instead of what maps, rules and the built-in table say.
    Identity {
        /// Its counterparts; none if no advisory can concern it.
        mappings: Vec<Mapping>,
        /// The package: an exact name.
        scope: Scope,
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
    /// Only conda packages whose build string matches this pattern (`*` and `?`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Only the file with this hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl Scope {
    /// Everything in a channel that a spec means.
    pub fn of(channel: &str, spec: &str) -> Self {
        Self { channel: channel.to_owned(), spec: spec.to_owned(), build: None, sha256: None }
    }

    /// Whether this artifact is in the scope. A version that cannot be held against the scope is in it for a
    /// block and not for a waiver: what is not known is never milder.
    pub fn covers(&self, target: &Target<'_>, if_unknown: bool) -> bool {
        let spec = Spec::parse(target.ecosystem, &self.spec);
        let in_scope = |spec: Spec| {
            let version =
                if spec.can_tell(target.version) { spec.matches_version(target.version) } else { if_unknown };
            spec.matches_name(target.name) && version
        };
        let build = |pattern: &str| target.build.is_some_and(|build| WildMatch::new(pattern).matches(build));
        self.channel == target.channel
            && spec.is_ok_and(in_scope)
            && self.build.as_deref().is_none_or(build)
            && self.sha256.is_none_or(|hash| target.sha256.map_or(if_unknown, |of| of == hash))
    }
}

/// All decisions of a station in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// The decisions.
    pub list: Vec<Decision>,
}

crate::object!(Decisions, "airlock.decisions.v1");

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
    /// The name of the file.
    pub file: &'a str,
    /// The conda build string.
    pub build: Option<&'a str>,
    /// The conda build number.
    pub build_number: Option<u64>,
    /// The conda subdir.
    pub subdir: Option<&'a str>,
    /// The hash of the file: that of its bytes, else that which its record declares.
    pub sha256: Option<Digest>,
}

impl Target<'_> {
    /// The file, with its subdir for conda.
    pub fn place(&self) -> String {
        place(self.subdir, self.file)
    }
}

impl Decisions {
    /// Those in force at `now`: neither expired nor revoked.
    pub fn in_force(&self, now: Time) -> impl Iterator<Item = &Decision> {
        self.list.iter().filter(move |d| self.is_in_force(d, now))
    }

    fn is_in_force(&self, decision: &Decision, now: Time) -> bool {
        decision.expires.is_none_or(|at| now < at) && !self.is_revoked(decision)
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
        self.scope_of(&decision.ruling)
    }

    /// What a ruling is about; one that takes back is about what it takes back.
    pub fn scope_of<'a>(&'a self, ruling: &'a Ruling) -> Option<&'a Scope> {
        match ruling {
            Ruling::Block(scope)
            | Ruling::Reject(scope)
            | Ruling::Freeze(scope)
            | Ruling::Approve { scope, .. }
            | Ruling::Baseline { scope, .. }
            | Ruling::Waive { scope, .. }
            | Ruling::Status { scope, .. }
            | Ruling::Statements { scope, .. }
            | Ruling::Identity { scope, .. } => Some(scope),
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
            _ => false,
        })
    }

    /// The decision by which a channel is frozen, if it is: the one that lasts longest.
    pub fn frozen(&self, channel: &str, now: Time) -> Option<&Decision> {
        let freezes = |d: &&Decision| matches!(&d.ruling, Ruling::Freeze(scope) if scope.channel == channel);
        self.in_force(now).filter(freezes).max_by_key(|d| d.expires)
    }

    /// The rejection that covers the artifact, if any.
    pub fn rejection(&self, target: &Target<'_>, now: Time) -> Option<&Decision> {
        self.in_force(now).find(|d| match &d.ruling {
            Ruling::Reject(scope) => scope.covers(target, true),
            _ => false,
        })
    }

    /// The approval that lifts what was weighed of the artifact. What that is is asked only if the file was approved: most
    /// of what is held never was.
    pub fn approval(
        &self,
        target: &Target<'_>,
        now: Time,
        weighed: impl FnOnce() -> Option<Weighed>,
    ) -> Option<&Decision> {
        let place = target.place();
        let is_it = |file: &&Approved| file.artifact == place && file.sha256 == target.sha256;
        let approved: Vec<(&Decision, &Approved)> = self
            .list
            .iter()
            .filter_map(|decision| match &decision.ruling {
                Ruling::Approve { scope, files } if scope.channel == target.channel => {
                    Some((decision, files.iter().find(is_it)?, scope))
                }
                _ => None,
            })
            .filter(|(decision, _, scope)| self.is_in_force(decision, now) && scope.covers(target, false))
            .map(|(decision, file, _)| (decision, file))
            .collect();
        let weighed = if approved.is_empty() { None } else { weighed() }?;
        approved.into_iter().find(|(_, file)| file.weighed.contains(&weighed)).map(|(decision, _)| decision)
    }

    /// The last ruling on the state of a finding of the artifact.
    pub fn status(&self, target: &Target<'_>, finding: &Finding, now: Time) -> Option<&Decision> {
        let rules = |d: &&Decision| match &d.ruling {
            // Where it cannot be told whether a version is in the scope, it is for what is confirmed only.
            Ruling::Status { advisory, scope, status, .. } => {
                let is_strict = *status == Status::Active;
                let is_meant =
                    if is_strict { finding.is_called(advisory) } else { finding.is_only(advisory) };
                is_meant && scope.covers(target, is_strict)
            }
            _ => false,
        };
        self.in_force(now).filter(rules).last()
    }

    /// What people of this station ruled that a package is elsewhere.
    pub fn identity(&self, channel: &str, name: &str, now: Time) -> Option<Identity> {
        let ruled = |d: &Decision| match &d.ruling {
            Ruling::Identity { mappings, scope } if scope.channel == channel && scope.spec == name => {
                let provenance = format!("decision {} of {}", d.id, d.author);
                let own = |m: &Mapping| Mapping { provenance: provenance.clone(), ..m.clone() };
                Some(Identity { mappings: mappings.iter().map(own).collect(), is_ruled: true })
            }
            _ => None,
        };
        self.in_force(now).filter_map(ruled).last()
    }

    /// The names in a channel that people ruled on in this way, whether the rulings are in force or not.
    pub fn ruled_names(&self, channel: &str) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(move |d| match &d.ruling {
            Ruling::Identity { scope, .. } if scope.channel == channel => Some(scope.spec.as_str()),
            _ => None,
        })
    }

    /// The match keys that people named in rulings on identities, whether these are in force or not.
    pub fn keys(&self) -> impl Iterator<Item = &MatchKey> {
        let all = self.list.iter().filter_map(|d| match &d.ruling {
            Ruling::Identity { mappings, .. } => Some(mappings),
            _ => None,
        });
        all.flatten().map(|m| &m.key)
    }

    /// The vulnerabilities on whose state a decision in force rules.
    pub fn ruled_on(&self, now: Time) -> BTreeSet<&str> {
        let ruled = self.in_force(now).filter_map(|d| match &d.ruling {
            Ruling::Status { advisory, .. } => Some(advisory.as_str()),
            _ => None,
        });
        ruled.collect()
    }

    /// Whether what this source states counts for some version of a package, from this moment on.
    pub fn trusts_name(
        &self,
        source: &str,
        channel: &str,
        ecosystem: Ecosystem,
        name: &str,
        now: Time,
    ) -> bool {
        self.in_force(now).any(|d| match &d.ruling {
            Ruling::Statements { source: trusted, scope } => {
                let spec = Spec::parse(ecosystem, &scope.spec);
                trusted == source
                    && scope.channel == channel
                    && spec.is_ok_and(|spec| spec.matches_name(name))
            }
            _ => false,
        })
    }

    /// The sources of statements that decisions in force name.
    pub fn trusted(&self, now: Time) -> impl Iterator<Item = &str> {
        self.in_force(now).filter_map(|d| match &d.ruling {
            Ruling::Statements { source, .. } => Some(source.as_str()),
            _ => None,
        })
    }

    /// Whether what this source states of the artifact counts.
    pub fn trusts(&self, source: &str, target: &Target<'_>, now: Time) -> bool {
        self.in_force(now).any(|d| match &d.ruling {
            Ruling::Statements { source: trusted, scope } => trusted == source && scope.covers(target, false),
            _ => false,
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
                    && d.lasts(finding)
                    && match advisory {
                        None => finding.is_none(),
                        Some(id) => finding.is_some_and(|f| f.is_called(id)),
                    }
            }
            _ => false,
        })
    }

    /// Those that ended by their date after `from` and up to `to`.
    pub fn ended(&self, from: Time, to: Time) -> impl Iterator<Item = &Decision> {
        let in_time = move |d: &&Decision| d.expires.is_some_and(|at| from < at && at <= to);
        self.list.iter().filter(in_time).filter(|d| !self.is_revoked(d))
    }

    /// The channel that a decision is about.
    pub fn channel_of<'a>(&'a self, decision: &'a Decision) -> Option<&'a str> {
        self.scope(decision).map(|scope| scope.channel.as_str())
    }

    /// The moments after `now` at which a decision ends.
    pub fn turning_points(&self, now: Time) -> impl Iterator<Item = Time> {
        self.in_force(now).filter_map(|d| d.expires)
    }
}
