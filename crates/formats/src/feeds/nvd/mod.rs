//! NVD: pages of the API 2.0, which the 2.0 feeds are too; the same CVEs as mirrors hand them about, one by one or year by
//! year; and the retired 1.1 feeds.
//!
//! Of a CVE come its scores, its state, its description, and the products and versions that its configurations say are
//! affected. Many have none: since April 2026 NVD adds them to few CVEs.

mod legacy;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::value::RawValue;

use airlock_core::advisory::{Advisory, AdvisoryRecord};

use super::cpe::{self, Configuration};
use super::{BadAdvisory, FeedError, Source, is_cve, layout, null_as_default, one_line, score};
use crate::read::{brief, canonical};

/// The list of a page.
const PAGE: &str = "vulnerabilities";

/// Which reader this is: where only what changed is read, all is read again after it changed.
pub const READER: u32 = 1;

/// How its records are read.
pub(super) const SOURCE: Source =
    Source { read: read_item, lists: &[PAGE, "cve_items", "CVE_Items"], beside: &[] };

#[derive(Deserialize)]
struct Listed<'a> {
    /// None where the item is the CVE itself, as mirrors write it.
    #[serde(borrow)]
    cve: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cve<'a> {
    id: String,
    published: Option<String>,
    last_modified: Option<String>,
    vuln_status: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    cve_tags: Vec<TagSet>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    descriptions: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    metrics: BTreeMap<Cow<'a, str>, Option<Vec<Metric<'a>>>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    weaknesses: Vec<Weakness<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    configurations: Vec<Configuration<'a>>,
}

#[derive(Deserialize)]
struct TagSet {
    #[serde(default, deserialize_with = "null_as_default")]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    lang: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Weakness<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    description: Vec<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cvss_data: Option<CvssData<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CvssData<'a> {
    #[serde(borrow)]
    vector_string: Option<Cow<'a, str>>,
}

/// Reads one item of the list.
pub fn read_item(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    let bad = |id: &str, reason: String| BadAdvisory { id: id.to_owned(), reason: brief(&reason) };
    let start = || -> String { json.chars().take(60).collect() };
    let item: Listed<'_> = serde_json::from_str(json).map_err(|e| bad(&start(), e.to_string()))?;
    let raw = canonical(item.cve.map_or(json, RawValue::get)).map_err(|e| bad(&start(), e))?;
    let cve: Cve<'_> = match raw.read() {
        // An item of today has no such key there.
        Err(_) if raw.as_str().contains("\"CVE_data_meta\":") => return legacy::read(json),
        read => read.map_err(|e| bad(&start(), e.to_string()))?,
    };
    if !is_cve(&cve.id) {
        return Err(bad(&start(), "the record has no CVE number".to_owned()));
    }
    let english = cve.descriptions.iter().find(|text| text.lang == "en");
    let description = english.map(|text| &*text.value).unwrap_or_default();
    let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    let mut scores = Vec::new();
    for (kind, metrics) in &cve.metrics {
        if kind.starts_with("cvssMetric") {
            for metric in metrics.iter().flatten() {
                let vector = metric.cvss_data.as_ref().and_then(|d| d.vector_string.as_deref());
                let source = format!("NVD ({})", metric.source.as_deref().unwrap_or("no source named"));
                scores.extend(vector.and_then(|v| score(v, &source)));
            }
        }
    }
    scores.sort();
    scores.dedup();
    let affected = cpe::affected(&cve.configurations).map_err(|e| bad(&cve.id, e))?;
    let tagged = |tag: &str| cve.cve_tags.iter().any(|t| t.tags.iter().any(|x| x == tag));
    let advisory = Advisory {
        modified: time(&cve.last_modified),
        published: time(&cve.published),
        withdrawn: cve.vuln_status.as_deref() == Some("Rejected"),
        disputed: tagged("disputed") || description.contains("** DISPUTED **"),
        summary: one_line(description),
        scores,
        cwes: cve
            .weaknesses
            .iter()
            .flat_map(|w| &w.description)
            .filter(|text| text.lang == "en" && text.value.starts_with("CWE-"))
            .map(|text| text.value.clone().into_owned())
            .collect(),
        affected,
        id: cve.id,
        ..Advisory::default()
    };
    Ok(AdvisoryRecord { advisory, raw })
}

/// Reads one page or feed and hands each CVE to `each`.
pub fn read_all(
    reader: impl Read,
    each: &mut impl FnMut(Result<AdvisoryRecord, BadAdvisory>),
) -> Result<(), FeedError> {
    layout::listed(&mut std::io::BufReader::new(reader), Some(PAGE), &mut |text| {
        each(text.and_then(read_item));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Vec<AdvisoryRecord>, Vec<BadAdvisory>, Result<(), FeedError>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let result = read_all(json.as_bytes(), &mut |r| match r {
            Ok(r) => good.push(r),
            Err(b) => bad.push(b),
        });
        (good, bad, result)
    }

    #[test]
    fn every_vector_of_every_source_is_kept() {
        let (good, _, _) = read(
            r#"{"resultsPerPage":1,"vulnerabilities":[{"cve":{"id":"CVE-2022-1","lastModified":"2022-08-19T12:28:00.000","vulnStatus":"Analyzed","descriptions":[{"lang":"es","value":"x"},{"lang":"en","value":"bad"}],"metrics":{"cvssMetricV31":[{"source":"nvd@nist.gov","cvssData":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:N/A:N"}}],"cvssMetricV2":[{"source":"nvd@nist.gov","cvssData":{"vectorString":"AV:L/AC:L/Au:N/C:P/I:N/A:N"}}]},"weaknesses":[{"description":[{"lang":"en","value":"CWE-79"}]}]}}]}"#,
        );
        let advisory = &good[0].advisory;
        let scores: Vec<String> =
            advisory.scores.iter().map(|s| format!("{} by {}", s.score, s.source)).collect();
        assert_eq!(scores, ["2.1 by NVD (nvd@nist.gov)", "6.5 by NVD (nvd@nist.gov)"]);
        assert_eq!((advisory.summary.as_str(), advisory.cwes.len()), ("bad", 1));
    }

    #[test]
    fn rejected_and_disputed_are_seen_and_bad_items_stop_nothing() {
        let (good, bad, result) = read(
            r#"{"vulnerabilities":[{"cve":{"id":"CVE-1-1","vulnStatus":"Rejected"}},{"x":1},{"cve":{"id":"no"}},{"cve":{"id":"CVE-1-2","cveTags":[{"tags":["disputed"]}]}}]}"#,
        );
        assert!(result.is_ok());
        assert_eq!(bad.len(), 2);
        assert!(good[0].advisory.withdrawn && good[1].advisory.disputed);
    }

    #[test]
    fn a_cve_may_stand_by_itself_as_mirrors_write_it() {
        let bare = r#"{"id":"CVE-2022-1","sourceIdentifier":"x","vulnStatus":"Rejected","metrics":{}}"#;
        let read = read_item(bare).unwrap();
        assert!(read.advisory.withdrawn);
        let listed = format!(r#"{{"cve":{bare}}}"#);
        assert_eq!(read_item(&listed).unwrap(), read);
        for bad in ["{}", r#"{"cve":null}"#, r#"{"cve":7}"#, r#"{"id":7}"#, r#"{"id":"GHSA-1"}"#] {
            assert!(read_item(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_null_is_as_empty_as_nothing() {
        let null = r#"{"id":"CVE-2022-1","cveTags":null,"descriptions":null,"metrics":null,"weaknesses":null,"configurations":null}"#;
        assert_eq!(read_item(null).unwrap().advisory, read_item(r#"{"id":"CVE-2022-1"}"#).unwrap().advisory);
        let inner = r#"{"id":"CVE-2022-1","cveTags":[{"tags":null}],"metrics":{"cvssMetricV31":null},"weaknesses":[{"description":null}]}"#;
        assert_eq!(read_item(inner).unwrap().advisory.scores, []);
    }

    #[test]
    fn a_truncated_page_and_another_document_are_refused() {
        assert!(read(r#"{"vulnerabilities":[{"cve":{"id":"CVE-1-1"}}"#).2.is_err());
        assert!(read(r#"{"error":"rate limit"}"#).2.is_err());
        assert!(read("<html>").2.is_err());
    }
}
