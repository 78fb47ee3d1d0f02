//! Evaluation in three values.
//!
//! A predicate whose subject is not known yet is *unknown*, and `not` of unknown is unknown, so that
//! nothing is ever admitted because something was missing. A rule is tried once for the artifact and
//! once for each finding; predicates on findings within one rule bind to the same finding. In the trial
//! for the artifact there is no finding, so that a predicate on one is false there, and so is a `not`
//! around one: it would claim something of a finding that does not exist.

use super::{ArtifactPredicate, Condition, FindingPredicate, Licence, Rule};
use crate::ecosystem::Ecosystem;
use crate::identity::Coverage;
use crate::licence::{Family, Named};
use crate::matching::{Finding, Status};
use crate::pattern::Pattern;
use crate::record::Artifact;
use crate::shard::Entry;
use crate::time::{Span, Time};

/// A truth value of Kleene's logic. Ordered, so that `all` is the least and `any` the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Truth {
    /// It does not hold.
    False,
    /// It is not known whether it holds.
    Unknown,
    /// It holds.
    True,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::Unknown => Self::Unknown,
            Self::False => Self::True,
        }
    }
}

/// What a rule is tried on.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The canonical name.
    pub name: &'a str,
    /// The conda subdir.
    pub subdir: Option<&'a str>,
    /// What its record says.
    pub artifact: &'a Artifact,
    /// The record itself.
    pub entry: &'a Entry,
    /// Whether its index lists it no longer.
    pub removed: bool,
    /// What its index says of the project (PEP 792); none says nothing.
    pub project_status: Option<&'a str>,
    /// What the channel is read from: a location without its password, or `bundles:STREAM`.
    pub source: &'a str,
    /// The dependency of which nothing is offered any more, if there is one.
    pub lacks: Option<&'a str>,
    /// The policy's reserved names.
    pub reserved: &'a [Pattern],
    /// When this station first read a record of it; none if it does so now.
    pub first_seen: Option<Time>,
    /// The size of its bytes, or the one that its record declares.
    pub size: Option<u64>,
    /// Its licence.
    pub licence: Licence<'a>,
    /// How well advisories cover it.
    pub coverage: Coverage,
    /// When the oldest of the feeds that tell of vulnerabilities was read; `None` if there is none that
    /// tells what is affected.
    pub feeds_read: Option<Time>,
    /// Everything known against it.
    pub findings: &'a [Finding],
    /// The moment of judging.
    pub now: Time,
}

impl Rule {
    /// Tries the rule on the artifact and on each finding. Gives each trial that did not come out false:
    /// the finding that it was on, and whether it holds or is unknown.
    pub fn hits<'a>(&self, subject: &Subject<'a>) -> Vec<(Option<&'a Finding>, Truth)> {
        let trials = std::iter::once(None).chain(subject.findings.iter().map(Some));
        let mut hits: Vec<_> = trials
            .filter(|finding| finding.is_none() || self.when.binds_finding())
            .map(|finding| (finding, of_finding(finding, self.when.eval(subject, finding))))
            .filter(|(_, truth)| *truth != Truth::False)
            .collect();
        // A rule that holds for the artifact itself says nothing more by holding for each finding too.
        if hits.first().is_some_and(|(finding, truth)| finding.is_none() && *truth == Truth::True) {
            hits.truncate(1);
        }
        hits
    }

    /// Whether a trial that stays unknown may come out false once the artifact is fetched and opened: whatever licence it
    /// states then, and however large it is.
    pub fn may_open(&self, subject: &Subject<'_>, finding: Option<&Finding>) -> bool {
        let mut named = Vec::new();
        self.when.licences(&mut named);
        let (is_unopened, is_unsized) = (subject.licence == Licence::Unopened, subject.size.is_none());
        if (named.is_empty() && !self.when.asks_licence() || !is_unopened)
            && !(is_unsized && self.when.asks_size())
        {
            return false;
        }
        // Each that the rule names, all of them together and at choice, one of each family, and a text that nobody can read.
        let examples: Vec<&str> = named.into_iter().map(Named::example).collect();
        let (sum, choice) = (examples.join(" AND "), examples.join(" OR "));
        let families = Family::ALL.map(Family::example);
        let stated: Vec<Licence<'_>> = match is_unopened {
            true => {
                let all = examples.iter().copied().chain(families).chain([sum.as_str(), choice.as_str(), ""]);
                all.map(Licence::Stated).collect()
            }
            false => vec![subject.licence],
        };
        let sizes = if is_unsized { vec![Some(0), Some(u64::MAX)] } else { vec![subject.size] };
        stated.iter().any(|licence| {
            sizes.iter().any(|size| {
                let opened = Subject { licence: *licence, size: *size, ..*subject };
                self.when.eval(&opened, finding) == Truth::False
            })
        })
    }
}

impl Rule {
    /// Whether it would not hold for a finding that was cleared.
    pub fn spares_cleared(&self, subject: &Subject<'_>, finding: &Finding) -> bool {
        let cleared = Finding { status: Status::Cleared, ..finding.clone() };
        !self.when.quantifies() && self.when.eval(subject, Some(&cleared)) == Truth::False
    }
}

/// What a trial on a finding gives: of one that may not concern the artifact at all, nothing more is known than that.
/// Malware is believed all the same.
fn of_finding(finding: Option<&Finding>, truth: Truth) -> Truth {
    if finding.is_some_and(|f| f.undecided && !f.malicious) { truth.min(Truth::Unknown) } else { truth }
}

impl Condition {
    /// Whether it speaks of some or no finding, so that a hit names none.
    pub fn quantifies(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::quantifies),
            Self::Not(part) => part.quantifies(),
            Self::AnyFinding(_) | Self::NoFinding(_) => true,
            Self::Finding(_) | Self::Artifact(_) => false,
        }
    }

    /// Whether it speaks of the probability of exploitation.
    pub fn asks_epss(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_epss),
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => part.asks_epss(),
            Self::Finding(predicate) => {
                matches!(predicate, FindingPredicate::Epss(_) | FindingPredicate::EpssPercentile(_))
            }
            Self::Artifact(_) => false,
        }
    }

    /// Whether it speaks of ranks among all probabilities of exploitation.
    pub fn asks_percentile(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_percentile),
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => part.asks_percentile(),
            Self::Finding(predicate) => matches!(predicate, FindingPredicate::EpssPercentile(_)),
            Self::Artifact(_) => false,
        }
    }

    /// Whether it speaks of the finding at hand (and not only of some or no finding).
    pub fn binds_finding(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::binds_finding),
            Self::Not(part) => part.binds_finding(),
            Self::Finding(_) => true,
            Self::AnyFinding(_) | Self::NoFinding(_) | Self::Artifact(_) => false,
        }
    }

    /// Whether it is false of every artifact against which nothing is known, whatever that is.
    pub fn needs_advisory(&self) -> bool {
        self.needs(true)
    }

    /// Whether it can hold of an artifact with a finding only, and not of the artifact by itself.
    pub(super) fn needs_finding(&self) -> bool {
        self.needs(false)
    }

    /// Whether it is false in the trial for the artifact: where that has no finding, or, unless `advised`, whatever it has.
    fn needs(&self, advised: bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().any(|part| part.needs(advised)),
            Self::Any(parts) => parts.iter().all(|part| part.needs(advised)),
            // Without a finding there is nothing of which it could be true.
            Self::Not(part) => part.binds_finding(),
            Self::Finding(_) => true,
            Self::AnyFinding(_) => advised,
            Self::NoFinding(_) | Self::Artifact(_) => false,
        }
    }

    fn eval(&self, subject: &Subject<'_>, finding: Option<&Finding>) -> Truth {
        let some = |part: &Self| {
            let truths = subject.findings.iter().map(|f| of_finding(Some(f), part.eval(subject, Some(f))));
            truths.max().unwrap_or(Truth::False)
        };
        match self {
            Self::All(parts) => parts.iter().map(|p| p.eval(subject, finding)).min().unwrap_or(Truth::True),
            Self::Any(parts) => parts.iter().map(|p| p.eval(subject, finding)).max().unwrap_or(Truth::False),
            Self::Not(part) if finding.is_none() && part.binds_finding() => Truth::False,
            Self::Not(part) => !part.eval(subject, finding),
            Self::AnyFinding(part) => some(part),
            Self::NoFinding(part) => !some(part),
            Self::Finding(predicate) => finding.map_or(Truth::False, |f| predicate.eval(f, subject.now)),
            Self::Artifact(predicate) => predicate.eval(subject),
        }
    }

    /// Whether some predicate on the artifact in it is such a one.
    fn asks(&self, is: fn(&ArtifactPredicate) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.asks(is)),
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => part.asks(is),
            Self::Artifact(predicate) => is(predicate),
            Self::Finding(_) => false,
        }
    }

    fn asks_licence(&self) -> bool {
        use ArtifactPredicate as A;
        self.asks(|p| matches!(p, A::Licence(_) | A::LicenceNeeds(_) | A::LicenceUnknown))
    }

    fn asks_size(&self) -> bool {
        self.asks(|p| matches!(p, ArtifactPredicate::Size(_)))
    }

    /// Whether it asks for dependencies.
    pub fn asks_dependencies(&self) -> bool {
        self.asks(|p| matches!(p, ArtifactPredicate::DependencyDenied))
    }

    /// Whether it asks for what is exploited or malicious.
    pub(super) fn asks_exploited(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_exploited),
            Self::AnyFinding(part) => part.asks_exploited(),
            Self::Finding(FindingPredicate::Kev(is) | FindingPredicate::Malicious(is)) => *is,
            Self::Not(_) | Self::NoFinding(_) | Self::Finding(_) | Self::Artifact(_) => false,
        }
    }

    /// The licences that it names, in no order.
    fn licences<'a>(&'a self, into: &mut Vec<&'a Named>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.licences(into)),
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => part.licences(into),
            Self::Artifact(ArtifactPredicate::Licence(any) | ArtifactPredicate::LicenceNeeds(any)) => {
                into.extend(any);
            }
            Self::Artifact(_) | Self::Finding(_) => {}
        }
    }

    /// The limits of `feed_older_than` in it, in no order.
    pub fn feed_limits(&self, into: &mut Vec<Span>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.feed_limits(into)),
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => part.feed_limits(into),
            Self::Artifact(ArtifactPredicate::FeedOlderThan(span)) => into.push(*span),
            Self::Artifact(_) | Self::Finding(_) => {}
        }
    }

    /// The moments after `now` at which a predicate on time may change, in no order.
    pub fn turning_points(&self, subject: &Subject<'_>, into: &mut Vec<Time>) {
        let ahead = |into: &mut Vec<Time>, at: Option<Time>| into.extend(at.filter(|at| *at > subject.now));
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.turning_points(subject, into);
                }
            }
            Self::Not(part) | Self::AnyFinding(part) | Self::NoFinding(part) => {
                part.turning_points(subject, into)
            }
            Self::Artifact(ArtifactPredicate::Age(age)) => {
                ahead(into, subject.artifact.time.map(|t| t.after(age.than)))
            }
            Self::Artifact(ArtifactPredicate::FirstSeenWithin(span)) => {
                ahead(into, Some(subject.first_seen.unwrap_or(subject.now).after(*span)));
            }
            Self::Finding(FindingPredicate::Age(age)) => {
                let published =
                    subject.findings.iter().flat_map(|f| [f.published, f.published_last]).flatten();
                published.for_each(|t| ahead(into, Some(t.after(age.than))));
            }
            Self::Artifact(ArtifactPredicate::FeedOlderThan(span)) => {
                let next = Span::seconds(span.as_seconds() + 1);
                ahead(into, subject.feeds_read.map(|read| read.after(next)));
            }
            Self::Artifact(_) | Self::Finding(_) => {}
        }
    }
}
