//! Reading the values of a policy: each is checked where it stands, so that a fault has a line and a column.

use toml::de::DeValue;

use super::parse::{Read, Reader, Value, found};
use super::predicates::PROJECT_STATUSES;
use super::{Age, ArtifactPredicate, Bound, Condition, FindingPredicate, Metric, VersionRange, table};
use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::identity::Coverage;
use crate::licence::Named;
use crate::matching::{Confidence, Status};
use crate::pattern::Pattern;
use crate::python::Python;
use crate::severity::{self, Preferred};
use crate::size;
use crate::time::Span;

/// The bands of CVSS scores.
const BANDS: [&str; 5] = ["none", "low", "medium", "high", "critical"];
/// The base metrics of CVSS v2, v3 and v4.
const METRICS: [&str; 16] =
    ["AV", "AC", "AT", "Au", "PR", "UI", "S", "C", "I", "A", "VC", "VI", "VA", "SC", "SI", "SA"];
fn words(of: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    of.iter().map(|word| (*word, *word)).collect()
}

impl Reader<'_> {
    pub(super) fn string(&self, value: &Value<'_>) -> Read<String> {
        match value.get_ref().as_str() {
            Some(text) => Ok(text.to_owned()),
            None => self.at(value, format!("expected a text, found {}", found(value.get_ref()))),
        }
    }

    pub(super) fn preferred(&self, value: &Value<'_>) -> Read<Preferred> {
        let text = self.string(value)?;
        match Preferred::parse(&text) {
            Some(preferred) => Ok(preferred),
            None => self.at(
                value,
                "expected a source with wildcards and, if wanted, a version, such as `NVD* 3.1`".to_owned(),
            ),
        }
    }

    pub(super) fn bool(&self, value: &Value<'_>) -> Read<bool> {
        match value.get_ref().as_bool() {
            Some(flag) => Ok(flag),
            None => self.at(value, format!("expected true or false, found {}", found(value.get_ref()))),
        }
    }

    fn number(&self, value: &Value<'_>) -> Read<f64> {
        let text = match value.get_ref() {
            DeValue::Integer(i) if i.radix() == 10 => i.as_str().to_owned(),
            DeValue::Float(f) => f.as_str().to_owned(),
            other => {
                return self.at(value, format!("expected a number, found {}", found(other)));
            }
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => self.at(value, "expected an ordinary number".to_owned()),
        }
    }

    pub(super) fn span(&self, value: &Value<'_>) -> Read<Span> {
        let text = self.string(value)?;
        text.parse().map_err(|e: crate::time::NotASpan| self.error(value.span().start, e.to_string()))
    }

    /// A list of words of a closed set.
    pub(super) fn words<T: Copy>(&self, value: &Value<'_>, known: &[(&str, T)]) -> Read<Vec<T>> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let mut out = Vec::new();
        for item in self.array(value)? {
            let text = self.string(item)?;
            match known.iter().find(|(name, _)| *name == text) {
                Some((_, word)) => out.push(*word),
                None => return Err(self.unknown(item.span().start, "value", &text, &names)),
            }
        }
        if out.is_empty() {
            return self.at(value, "the list is empty, so that this never holds".to_owned());
        }
        Ok(out)
    }

    /// A list of texts that one function reads, each with what is wrong where it cannot.
    fn each<T>(&self, value: &Value<'_>, read: impl Fn(&str) -> Result<T, String>) -> Read<Vec<T>> {
        let mut out = Vec::new();
        for item in self.array(value)? {
            let text = self.string(item)?;
            match read(text.trim()) {
                Ok(one) if !text.trim().is_empty() => out.push(one),
                Ok(_) => return self.at(item, "the text is empty, so that this never holds".to_owned()),
                Err(message) => return self.at(item, message),
            }
        }
        if out.is_empty() {
            return self.at(value, "the list is empty, so that this never holds".to_owned());
        }
        Ok(out)
    }

    pub(super) fn patterns(&self, value: &Value<'_>) -> Read<Vec<Pattern>> {
        self.each(value, |text| Ok(Pattern::new(text)))
    }

    fn licences(&self, value: &Value<'_>) -> Read<Vec<Named>> {
        self.each(value, Named::parse)
    }

    fn metric(text: &str) -> Result<Metric, String> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let is_value = value.len() == 1 && value.bytes().all(|b| b.is_ascii_uppercase());
        if METRICS.contains(&name) && is_value {
            Ok(Metric { name: name.to_owned(), value: value.to_owned() })
        } else {
            Err(format!(
                "write a base metric with its value, such as `AV:N`; there are {}",
                METRICS.join(", ")
            ))
        }
    }

    fn cwe(text: &str) -> Result<String, String> {
        let number = text.strip_prefix("CWE-").unwrap_or(text);
        let is_number = number.bytes().all(|b| b.is_ascii_digit());
        let number = number.trim_start_matches('0');
        if is_number && !number.is_empty() {
            Ok(format!("CWE-{number}"))
        } else {
            Err("write a weakness as `CWE-79`".to_owned())
        }
    }

    /// Bytes: a number, or a text with a unit.
    fn size(&self, value: &Value<'_>) -> Read<f64> {
        let Some(text) = value.get_ref().as_str() else { return self.number(value) };
        size::parse(text).map_or_else(|| self.at(value, size::EXPECTED.to_owned()), Ok)
    }

    fn bound(&self, value: &Value<'_>, most: f64) -> Read<Bound> {
        let table = self.table(value)?;
        let mut members = table.iter();
        let (Some((key, inner)), None) = (members.next(), members.next()) else {
            return self.at(value, "expected one bound, such as { above = 7.0 }".to_owned());
        };
        self.bound_of(key.get_ref(), key.span().start, inner, most)
    }

    fn bound_of(&self, key: &str, at: usize, value: &Value<'_>, most: f64) -> Read<Bound> {
        let number = if most.is_infinite() { self.size(value)? } else { self.number(value)? };
        if !(0.0..=most).contains(&number) {
            let message = match most.is_infinite() {
                true => "the value is 0 or more".to_owned(),
                false => format!("the value lies between 0 and {most}"),
            };
            return self.at(value, message);
        }
        match key {
            "above" => Ok(Bound::Above(number)),
            "at_least" => Ok(Bound::AtLeast(number)),
            "below" => Ok(Bound::Below(number)),
            "at_most" => Ok(Bound::AtMost(number)),
            other => Err(self.unknown(at, "bound", other, &["above", "at_least", "below", "at_most"])),
        }
    }

    /// A bound on the score, and if wanted the version of CVSS that it is about.
    fn cvss(&self, value: &Value<'_>) -> Read<FindingPredicate> {
        if value.get_ref().as_str() == Some("missing") {
            return Ok(FindingPredicate::CvssMissing);
        }
        let table = self.table(value)?;
        let mut version = None;
        if let Some(wanted) = table.get("version") {
            let text = self.string(wanted)?;
            let found = severity::VERSIONS.into_iter().find(|known| *known == text);
            version = Some(found.ok_or_else(|| {
                self.unknown(wanted.span().start, "version of CVSS", &text, &severity::VERSIONS)
            })?);
        }
        let mut bounds = table.iter().filter(|(key, _)| key.get_ref().as_ref() != "version");
        match (bounds.next(), bounds.next()) {
            (Some((key, inner)), None) => {
                let bound = self.bound_of(key.get_ref(), key.span().start, inner, 10.0)?;
                if !bound.is_in_tenths() {
                    return self.at(inner, "scores have one digit behind the point".to_owned());
                }
                Ok(FindingPredicate::Cvss(bound, version))
            }
            _ => self.at(value, "expected one bound, such as { above = 7.0 }, or \"missing\"".to_owned()),
        }
    }

    fn licence(&self, value: &Value<'_>) -> Read<ArtifactPredicate> {
        match value.get_ref().as_str() {
            Some("unknown") => Ok(ArtifactPredicate::LicenceUnknown),
            Some(other) => Err(self.unknown(value.span().start, "value", other, &["unknown"])),
            None => self.licences(value).map(ArtifactPredicate::Licence),
        }
    }

    fn range(&self, value: &Value<'_>) -> Read<VersionRange> {
        match VersionRange::parse(&self.string(value)?) {
            Some(range) => Ok(range),
            None => self.at(value, "expected a range of versions such as \">=1.2,<2\"".to_owned()),
        }
    }

    fn age(&self, younger: bool, value: &Value<'_>) -> Read<Age> {
        Ok(Age { younger, than: self.span(value)? })
    }

    pub(super) fn predicate(&self, at: usize, name: &str, value: &Value<'_>) -> Read<Condition> {
        if let Some(predicate) = self.of_finding(name, value)? {
            return Ok(Condition::Finding(predicate));
        }
        match self.of_artifact(name, value)? {
            Some(predicate) => Ok(Condition::Artifact(predicate)),
            None => Err(self.unknown(at, "predicate", name, &table::names())),
        }
    }

    fn of_finding(&self, name: &str, value: &Value<'_>) -> Read<Option<FindingPredicate>> {
        use FindingPredicate as F;
        Ok(Some(match name {
            "cvss" => self.cvss(value)?,
            "cvss_vector" => F::CvssVector(self.each(value, Self::metric)?),
            "severity" => F::Severity(self.words(value, &words(&BANDS))?),
            "status" => F::Status(self.words(value, &Status::ALL.map(|s| (s.name(), s)))?),
            "confidence" => F::Confidence(self.words(value, &Confidence::ALL.map(|c| (c.name(), c)))?),
            "kev" => F::Kev(self.bool(value)?),
            "epss" => F::Epss(self.bound(value, 1.0)?),
            "epss_percentile" => F::EpssPercentile(self.bound(value, 1.0)?),
            "malicious" => F::Malicious(self.bool(value)?),
            "cwe" => F::Cwe(self.each(value, Self::cwe)?),
            "fix_available" => F::FixAvailable(self.bool(value)?),
            "advisory_younger_than" => F::Age(self.age(true, value)?),
            "advisory_older_than" => F::Age(self.age(false, value)?),
            _ => return Ok(None),
        }))
    }

    fn of_artifact(&self, name: &str, value: &Value<'_>) -> Read<Option<ArtifactPredicate>> {
        use ArtifactPredicate as A;
        let python =
            |text: &str| Python::parse(text).ok_or_else(|| "write a version of Python as `3.12`".to_owned());
        Ok(Some(match name {
            "ecosystem" => {
                let known = [("conda", Ecosystem::Conda), ("pypi", Ecosystem::Pypi)];
                A::Ecosystem(self.words(value, &known)?)
            }
            "name" => A::Name(self.patterns(value)?),
            "reserved" => A::Reserved(self.bool(value)?),
            "version" => A::Version(self.range(value)?),
            "build" => A::Build(self.patterns(value)?),
            "platform" => A::Platform(self.patterns(value)?),
            "python" => A::Python(self.each(value, python)?),
            "kind" => A::Kind(self.words(value, &ArtifactKind::ALL.map(|k| (k.name(), k)))?),
            "size" => A::Size(self.bound(value, f64::INFINITY)?),
            "licence" => self.licence(value)?,
            "licence_needs" => A::LicenceNeeds(self.licences(value)?),
            "younger_than" => A::Age(self.age(true, value)?),
            "older_than" => A::Age(self.age(false, value)?),
            "first_seen_within" => A::FirstSeenWithin(self.span(value)?),
            "yanked" => A::Yanked(self.bool(value)?),
            "removed" => A::Removed(self.bool(value)?),
            "project_status" => A::ProjectStatus(self.words(value, &words(&PROJECT_STATUSES))?),
            "attested" => A::Attested(self.bool(value)?),
            "source" => A::Source(self.patterns(value)?),
            "coverage" => A::Coverage(self.words(value, &Coverage::ALL.map(|c| (c.name(), c)))?),
            "feed_older_than" => A::FeedOlderThan(self.span(value)?),
            "dependency_denied" if self.bool(value)? => A::DependencyDenied,
            // What comes to be offered by a denial would change what is offered again.
            "dependency_denied" => {
                return self
                    .at(value, "it can only be asked whether a dependency is denied: write true".to_owned());
            }
            _ => return Ok(None),
        }))
    }
}
