//! CVE records (JSON 5), as the CVE List has them: what whoever numbered a CVE says of it, and what others added.
//!
//! Of a record come its state, all CVSS vectors with who gave them, weaknesses, what CISA decided of it, and what is
//! affected: configurations of CPEs as NVD has them, and lists of versions by package or product.

mod affected;
mod gaps;
mod spelt;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use airlock_core::advisory::{Advisory, AdvisoryRecord, MatchKey};
use airlock_core::severity::Score;

use self::affected::{Budget, Entry};
use super::cpe::{self, Configuration};
use super::{BadAdvisory, Source, is_cve, null_as_default, one_line, score, severity_word};
use crate::limits;
use crate::read::{brief, canonical};

/// How its records are read. Lists of what changed lie beside them.
pub(super) const SOURCE: Source =
    Source { read: read_record, lists: &[], beside: &["delta", "deltaLog", "recent_activities"] };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    cve_metadata: Metadata,
    #[serde(borrow)]
    containers: Containers<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    cve_id: String,
    state: Option<String>,
    assigner_short_name: Option<String>,
    date_published: Option<String>,
    date_updated: Option<String>,
}

#[derive(Deserialize)]
struct Containers<'a> {
    #[serde(borrow)]
    cna: Option<Container<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    adp: Vec<Container<'a>>,
}

/// What one organisation says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    provider_metadata: Option<Provider>,
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    descriptions: Vec<Text<'a>>,
    #[serde(default, deserialize_with = "null_as_default")]
    tags: Vec<String>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    affected: Vec<Entry<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    cpe_applicability: Vec<Configuration<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    metrics: Vec<Metric<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    problem_types: Vec<Problem<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    short_name: Option<String>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    lang: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(rename = "cvssV4_0", borrow)]
    v4_0: Option<Vector<'a>>,
    #[serde(rename = "cvssV3_1", borrow)]
    v3_1: Option<Vector<'a>>,
    #[serde(rename = "cvssV3_0", borrow)]
    v3_0: Option<Vector<'a>>,
    #[serde(rename = "cvssV2_0", borrow)]
    v2_0: Option<Vector<'a>>,
    #[serde(borrow)]
    other: Option<Other<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector<'a> {
    #[serde(borrow)]
    vector_string: Option<Cow<'a, str>>,
}

/// A metric of whatever kind; what it holds is its own matter.
#[derive(Deserialize)]
struct Other<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    descriptions: Vec<Weakness<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Weakness<'a> {
    #[serde(borrow)]
    cwe_id: Option<Cow<'a, str>>,
}

/// Reads one record.
pub fn read_record(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    read(json, |_, _| None)
}

/// The same, where `product` knows the match key of some vendors' products for certain.
pub(super) fn read(
    json: &str,
    product: fn(&str, &str) -> Option<MatchKey>,
) -> Result<AdvisoryRecord, BadAdvisory> {
    let bad = |id: &str, reason: String| BadAdvisory { id: id.to_owned(), reason: brief(&reason) };
    let start = || -> String { json.chars().take(60).collect() };
    let raw = canonical(json).map_err(|e| bad(&start(), e))?;
    let record: Record<'_> = raw.read().map_err(|e| bad(&start(), e.to_string()))?;
    let Record { cve_metadata: about, containers } = record;
    if !is_cve(&about.cve_id) {
        return Err(bad(&start(), "the record has no CVE number".to_owned()));
    }
    let all = || containers.cna.iter().chain(&containers.adp);
    let tagged = |tag: &str| all().any(|c| c.tags.iter().any(|t| t == tag));
    let english = containers.cna.iter().flat_map(|c| &c.descriptions).find(|t| t.lang.starts_with("en"));
    let title = containers.cna.as_ref().and_then(|c| c.title.as_deref());
    let text = english.map(|text| &*text.value).filter(|text| !text.is_empty()).or(title).unwrap_or_default();
    let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    let affected = affecting(&containers, product).map_err(|reason| bad(&about.cve_id, reason))?;
    let scores = scores(&containers, about.assigner_short_name.as_deref());
    let advisory = Advisory {
        modified: time(&about.date_updated),
        published: time(&about.date_published),
        withdrawn: about.state.as_deref() == Some("REJECTED"),
        disputed: tagged("disputed") || text.contains("** DISPUTED **"),
        summary: one_line(text),
        severity: all().flat_map(|c| &c.metrics).find_map(|m| severity(m.other.as_ref()?, &scores)),
        scores,
        ssvc: all().flat_map(|c| &c.metrics).find_map(|m| ssvc(m.other.as_ref()?)),
        cwes: all()
            .flat_map(|c| &c.problem_types)
            .flat_map(|p| &p.descriptions)
            .filter_map(|w| w.cwe_id.as_deref().filter(|id| id.starts_with("CWE-")).map(str::to_owned))
            .collect(),
        affected,
        id: about.cve_id,
        ..Advisory::default()
    };
    Ok(AdvisoryRecord { advisory, raw })
}

/// Every vector with who gave it.
fn scores(containers: &Containers<'_>, assigner: Option<&str>) -> Vec<Score> {
    let mut scores = Vec::new();
    let cna = containers.cna.iter().map(|c| ("CNA", c, assigner));
    for (role, container, otherwise) in cna.chain(containers.adp.iter().map(|c| ("ADP", c, None))) {
        let named = container.provider_metadata.as_ref().and_then(|p| p.short_name.as_deref());
        let source = format!("CVE ({role} {})", named.or(otherwise).unwrap_or("without a name"));
        for metric in &container.metrics {
            for vector in [&metric.v4_0, &metric.v3_1, &metric.v3_0, &metric.v2_0].into_iter().flatten() {
                scores.extend(vector.vector_string.as_deref().and_then(|text| score(text, &source)));
            }
        }
    }
    scores.sort();
    scores.dedup();
    scores
}

/// The word that a vendor has for how bad it is.
fn severity(other: &Other<'_>, scores: &[Score]) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        text: String,
    }
    let content: Content = serde_json::from_str(other.content?.get()).ok()?;
    severity_word(&content.text, scores)
}

/// What CISA decided by its Stakeholder-Specific Vulnerability Categorization: `exploitation: active, automatable: yes`.
fn ssvc(other: &Other<'_>) -> Option<String> {
    /// Options that are shown; there are three.
    const OPTIONS_MAX: usize = 6;
    #[derive(Deserialize)]
    struct Content {
        options: Vec<std::collections::BTreeMap<String, String>>,
    }
    if other.kind != "ssvc" {
        return None;
    }
    let content: Content = serde_json::from_str(other.content?.get()).ok()?;
    let options = content.options.iter().flatten().take(OPTIONS_MAX);
    let shown: Vec<String> =
        options.map(|(name, value)| format!("{}: {}", name.to_lowercase(), value.to_lowercase())).collect();
    let text = one_line(&shown.join(", "));
    (!text.is_empty()).then_some(text)
}

fn affecting(
    containers: &Containers<'_>,
    product: fn(&str, &str) -> Option<MatchKey>,
) -> Result<Vec<airlock_core::advisory::Affected>, String> {
    let all = || containers.cna.iter().chain(&containers.adp);
    let mut out = cpe::affected(all().flat_map(|c| &c.cpe_applicability))?;
    let mut budget = Budget::of_a_record();
    for said in &out {
        budget.take(2 * said.ranges.len() + said.versions.len())?;
    }
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for entry in all().flat_map(|c| &c.affected) {
        for found in entry.affected(product, &mut budget)? {
            // What others repeat after the first is said once.
            if seen.insert(format!("{found:?}")) {
                out.push(found);
            }
        }
        if out.len() > limits::ADVISORY_AFFECTED_MAX {
            return Err(format!("it names more than {} products", limits::ADVISORY_AFFECTED_MAX));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
