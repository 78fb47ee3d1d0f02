//! Each predicate by itself: whether it holds of an artifact or a finding, in three values.

use serde::Deserialize;

use super::{Age, ArtifactPredicate, FindingPredicate, Metric, Subject, Truth};
use crate::channel::BUNDLES;
use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::licence::{self, Named};
use crate::matching::Finding;
use crate::python;
use crate::severity;
use crate::time::Time;

/// What is known of an artifact's licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Licence<'a> {
    /// Its record states it, or what the artifact says of itself.
    Stated(&'a str),
    /// Neither does.
    Nowhere,
    /// Its record does not, and the artifact was not opened yet.
    Unopened,
}

impl Licence<'_> {
    fn answers(self, question: fn(&str, &[Named]) -> Truth, named: &[Named]) -> Truth {
        match self {
            Self::Stated(text) => question(text, named),
            Self::Nowhere | Self::Unopened => Truth::Unknown,
        }
    }

    /// Whether nobody states one that can be read.
    fn is_unknown(self) -> Truth {
        match self {
            Self::Stated(text) => licence::expression(text).is_none().into(),
            Self::Nowhere => Truth::True,
            Self::Unopened => Truth::Unknown,
        }
    }
}

/// What an index says of a project (PEP 792).
pub(super) const PROJECT_STATUSES: [&str; 4] = ["active", "archived", "deprecated", "quarantined"];

impl Age {
    /// Whether it holds of the first and of the last moment that sources name; where they differ in that, nobody knows.
    fn holds_of_both(self, first: Option<Time>, last: Option<Time>, now: Time) -> Truth {
        let (one, other) = (self.holds(first, now), self.holds(last.or(first), now));
        if one == other { one } else { Truth::Unknown }
    }

    fn holds(self, since: Option<Time>, now: Time) -> Truth {
        since.map_or(Truth::Unknown, |since| ((now < since.after(self.than)) == self.younger).into())
    }
}

impl Metric {
    /// Whether a vector has the value; unknown where it has not the metric.
    fn is_in(&self, vector: &str) -> Truth {
        let values = vector.trim_matches(['(', ')']).split('/').filter_map(|part| part.split_once(':'));
        let mut found = values.filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        found.next().map_or(Truth::Unknown, |value| (value == self.value).into())
    }
}

impl FindingPredicate {
    pub(super) fn eval(&self, finding: &Finding, now: Time) -> Truth {
        let known = |value: Option<bool>| value.map_or(Truth::Unknown, Truth::from);
        match self {
            Self::CvssMissing => finding.score.is_none().into(),
            Self::Cvss(bound, None) => known(finding.score.as_ref().map(|s| bound.holds(s.score.value()))),
            Self::Cvss(bound, Some(version)) => {
                let of_it = finding.scores.iter().filter(|score| score.version() == *version);
                let of_it: Vec<_> = of_it.cloned().collect();
                known(severity::highest(&of_it).map(|s| bound.holds(s.score.value())))
            }
            Self::CvssVector(metrics) => finding.score.as_ref().map_or(Truth::Unknown, |score| {
                metrics.iter().map(|metric| metric.is_in(&score.vector)).min().unwrap_or(Truth::True)
            }),
            Self::Severity(any) => known(finding.score.as_ref().map(|s| any.contains(&s.score.band()))),
            Self::Status(any) => any.contains(&finding.status).into(),
            Self::Confidence(any) => any.contains(&finding.confidence()).into(),
            Self::Kev(wanted) => (finding.kev == *wanted).into(),
            Self::Epss(bound) => known(finding.epss.map(|p| bound.holds(p))),
            Self::EpssPercentile(bound) => known(finding.percentile.map(|p| bound.holds(p))),
            Self::Malicious(wanted) => (finding.malicious == *wanted).into(),
            Self::Cwe(_) if finding.cwes.is_empty() => Truth::Unknown,
            Self::Cwe(any) => any.iter().any(|cwe| finding.cwes.contains(cwe)).into(),
            Self::FixAvailable(wanted) => (finding.fixed.is_empty() != *wanted).into(),
            Self::Age(age) => age.holds_of_both(finding.published, finding.published_last, now),
        }
    }
}

impl ArtifactPredicate {
    pub(super) fn eval(&self, subject: &Subject<'_>) -> Truth {
        let Subject { ecosystem, name, artifact, now, .. } = *subject;
        match self {
            Self::Ecosystem(any) => any.contains(&ecosystem).into(),
            Self::Name(any) => any.iter().any(|p| p.matches_name(ecosystem, name)).into(),
            Self::Reserved(wanted) => {
                (subject.reserved.iter().any(|p| p.matches_name(ecosystem, name)) == *wanted).into()
            }
            Self::Version(range) => range.holds(ecosystem, &artifact.version),
            Self::Build(any) => {
                artifact.build.as_deref().is_some_and(|build| any.iter().any(|p| p.matches(build))).into()
            }
            Self::Platform(any) => platforms(subject).any(|one| any.iter().any(|p| p.matches(one))).into(),
            Self::Python(any) => {
                let suits = any.iter().map(|python| python.suits(ecosystem, artifact, subject.entry));
                suits.max().unwrap_or(Truth::False)
            }
            Self::Kind(any) => any.contains(&artifact.kind).into(),
            // No file is so large that a number could not tell it from the next.
            #[expect(clippy::cast_precision_loss, reason = "exact below 8 PiB")]
            Self::Size(bound) => subject.size.map_or(Truth::Unknown, |size| bound.holds(size as f64).into()),
            Self::Licence(any) => subject.licence.answers(licence::allows, any),
            Self::LicenceNeeds(any) => subject.licence.answers(licence::needs, any),
            Self::LicenceUnknown => subject.licence.is_unknown(),
            Self::Age(age) => age.holds(artifact.time, now),
            Self::FirstSeenWithin(span) => {
                Age { younger: true, than: *span }.holds(Some(subject.first_seen.unwrap_or(now)), now)
            }
            Self::Yanked(wanted) => (artifact.yanked == *wanted).into(),
            Self::Removed(wanted) => (subject.removed == *wanted).into(),
            Self::ProjectStatus(any) => match subject.project_status.unwrap_or("active") {
                known if PROJECT_STATUSES.contains(&known) => any.contains(&known).into(),
                _ => Truth::Unknown,
            },
            Self::Attested(wanted) => match is_attested(subject) {
                Truth::Unknown => Truth::Unknown,
                is => ((is == Truth::True) == *wanted).into(),
            },
            Self::Source(any) => any.iter().any(|p| p.matches(subject.source)).into(),
            Self::DependencyDenied => subject.lacks.is_some().into(),
            Self::Coverage(any) => any.contains(&subject.coverage).into(),
            // Never read is older than any limit: no feed must not read as no vulnerability.
            Self::FeedOlderThan(span) => subject.feeds_read.is_none_or(|read| now.since(read) > *span).into(),
        }
    }
}

/// The platforms of an artifact: conda's subdir, or the tags of a wheel.
fn platforms<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a str> {
    let tags = match (subject.ecosystem, subject.artifact.kind) {
        (Ecosystem::Conda, _) => subject.subdir,
        (Ecosystem::Pypi, ArtifactKind::Wheel) => {
            let artifact: &'a crate::record::Artifact = subject.artifact;
            python::wheel_tags(&artifact.file).map(|tags| tags.platform)
        }
        (Ecosystem::Pypi, _) => Some("any"),
    };
    tags.unwrap_or_default().split('.')
}

/// Whether the index names an attestation. Bundles carry no address that leads outside, and so none of these.
fn is_attested(subject: &Subject<'_>) -> Truth {
    #[derive(Deserialize)]
    struct Provenance {
        #[serde(default)]
        provenance: serde_json::Value,
    }
    match subject.ecosystem {
        Ecosystem::Conda => Truth::Unknown,
        Ecosystem::Pypi if subject.source.starts_with(BUNDLES) => Truth::Unknown,
        Ecosystem::Pypi => {
            let read = subject.entry.record.read::<Provenance>();
            read.map_or(Truth::Unknown, |p| p.provenance.as_str().is_some_and(|url| !url.is_empty()).into())
        }
    }
}
