//! Items of the 1.1 feeds, which NVD retired and mirrors still have.

use std::borrow::Cow;

use serde::Deserialize;

use airlock_core::advisory::{Advisory, AdvisoryRecord};

use super::Text;
use crate::feeds::cpe::{self, Node};
use crate::feeds::{BadAdvisory, is_cve, null_as_default, one_line, score};
use crate::read::{brief, canonical};

/// Who gave the scores: these feeds have NVD's own only.
const SOURCE: &str = "NVD (nvd@nist.gov)";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow)]
    cve: Cve<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    configurations: Configurations<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    impact: Impact<'a>,
    published_date: Option<String>,
    last_modified_date: Option<String>,
}

#[derive(Deserialize)]
struct Cve<'a> {
    #[serde(rename = "CVE_data_meta")]
    about: About,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    description: Description<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    problemtype: Problems<'a>,
}

#[derive(Deserialize)]
struct About {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Default, Deserialize)]
struct Description<'a> {
    #[serde(rename = "description_data", borrow, default, deserialize_with = "null_as_default")]
    texts: Vec<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Problems<'a> {
    #[serde(rename = "problemtype_data", borrow, default, deserialize_with = "null_as_default")]
    problems: Vec<Problem<'a>>,
}

#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    description: Vec<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Configurations<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    nodes: Vec<Node<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impact<'a> {
    #[serde(borrow)]
    base_metric_v3: Option<MetricV3<'a>>,
    #[serde(borrow)]
    base_metric_v2: Option<MetricV2<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricV3<'a> {
    #[serde(borrow)]
    cvss_v3: Option<Vector<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricV2<'a> {
    #[serde(borrow)]
    cvss_v2: Option<Vector<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector<'a> {
    #[serde(borrow)]
    vector_string: Option<Cow<'a, str>>,
}

/// Reads one item; what it says stands in several places of it, so that all of it is kept.
pub(super) fn read(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    let bad = |id: &str, reason: String| BadAdvisory { id: id.to_owned(), reason: brief(&reason) };
    let start = || -> String { json.chars().take(60).collect() };
    let raw = canonical(json).map_err(|e| bad(&start(), e))?;
    let item: Item<'_> = raw.read().map_err(|e| bad(&start(), e.to_string()))?;
    let Item { cve, configurations, impact, published_date, last_modified_date } = item;
    if !is_cve(&cve.about.id) {
        return Err(bad(&start(), "the record has no CVE number".to_owned()));
    }
    let text = cve.description.texts.iter().find(|text| text.lang == "en");
    let text = text.map(|text| &*text.value).unwrap_or_default();
    let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    let v3 = impact.base_metric_v3.and_then(|metric| metric.cvss_v3);
    let v2 = impact.base_metric_v2.and_then(|metric| metric.cvss_v2);
    let vectors = [v3, v2].into_iter().flatten().filter_map(|vector| vector.vector_string);
    let mut scores: Vec<_> = vectors.filter_map(|vector| score(&vector, SOURCE)).collect();
    scores.sort();
    let affected = cpe::affected(&cpe::nested(configurations.nodes)).map_err(|e| bad(&cve.about.id, e))?;
    let advisory = Advisory {
        modified: time(&last_modified_date),
        published: time(&published_date),
        // These feeds have no state.
        withdrawn: text.starts_with("** REJECT **"),
        disputed: text.contains("** DISPUTED **"),
        summary: one_line(text),
        scores,
        cwes: cve
            .problemtype
            .problems
            .iter()
            .flat_map(|problem| &problem.description)
            .filter(|text| text.value.starts_with("CWE-"))
            .map(|text| text.value.clone().into_owned())
            .collect(),
        affected,
        id: cve.about.id,
        ..Advisory::default()
    };
    Ok(AdvisoryRecord { advisory, raw })
}

#[cfg(test)]
mod tests {
    use airlock_core::version::Range;

    use crate::feeds::nvd::read_item;

    const ITEM: &str = r#"{"cve":{"data_type":"CVE","data_format":"MITRE","data_version":"4.0","CVE_data_meta":{"ID":"CVE-2022-0001","ASSIGNER":"x"},
        "problemtype":{"problemtype_data":[{"description":[{"lang":"en","value":"CWE-787"}]}]},"references":{"reference_data":[]},
        "description":{"description_data":[{"lang":"en","value":"TEXT"}]}},
        "configurations":{"CVE_data_version":"4.0","nodes":[
        {"operator":"AND","children":[
            {"operator":"OR","children":[],"cpe_match":[{"vulnerable":true,"cpe23Uri":"cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*","versionEndExcluding":"1.2.12","cpe_name":[]}]},
            {"operator":"OR","children":[],"cpe_match":[{"vulnerable":false,"cpe23Uri":"cpe:2.3:o:ms:windows:-:*:*:*:*:*:*:*","cpe_name":[]}]}],"cpe_match":[]},
        {"operator":"OR","children":[],"cpe_match":[{"vulnerable":true,"cpe23Uri":"cpe:2.3:a:v:tool:1.0:beta1:*:*:*:*:*:*","cpe_name":[]}]},
        {"operator":"OR","negate":true,"children":[{"operator":"OR","cpe_match":[{"vulnerable":true,"cpe23Uri":"cpe:2.3:a:v:safe:1.0:*:*:*:*:*:*:*"}]}]}]},
        "impact":{"baseMetricV3":{"cvssV3":{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H","baseScore":7.5}},
        "baseMetricV2":{"cvssV2":{"version":"2.0","vectorString":"AV:L/AC:L/Au:N/C:P/I:N/A:N","baseScore":2.1}}},
        "publishedDate":"2022-02-11T18:15Z","lastModifiedDate":"2022-08-19T12:28Z"}"#;

    #[test]
    fn an_item_of_the_retired_feeds_says_what_one_of_todays_says() {
        let read = read_item(&ITEM.replace("TEXT", "bad")).unwrap();
        let advisory = &read.advisory;
        assert_eq!((advisory.id.as_str(), advisory.summary.as_str()), ("CVE-2022-0001", "bad"));
        assert_eq!(advisory.published.unwrap().to_string(), "2022-02-11T18:15:00Z");
        assert_eq!(advisory.modified.unwrap().to_string(), "2022-08-19T12:28:00Z");
        let scores: Vec<String> =
            advisory.scores.iter().map(|s| format!("{} by {}", s.score, s.source)).collect();
        assert_eq!(scores, ["2.1 by NVD (nvd@nist.gov)", "7.5 by NVD (nvd@nist.gov)"]);
        assert_eq!(advisory.cwes.iter().collect::<Vec<_>>(), ["CWE-787"]);
        let said: Vec<String> = advisory
            .affected
            .iter()
            .map(|a| {
                let ranges: Vec<String> = a.ranges.iter().map(Range::to_string).collect();
                format!("{} {ranges:?} {:?} {:?}", a.key.as_str(), a.versions, a.with)
            })
            .collect();
        assert_eq!(
            said,
            [r#"cpe:v:tool [] ["1.0beta1"] {}"#, r#"cpe:zlib:zlib [">=0, <1.2.12"] [] {"ms:windows"}"#]
        );
        assert!(read.raw.as_str().contains("lastModifiedDate"));
    }

    #[test]
    fn the_text_tells_what_was_rejected_or_is_disputed() {
        let read = |text: &str| read_item(&ITEM.replace("TEXT", text)).unwrap().advisory;
        assert!(read("** REJECT ** not used").withdrawn);
        assert!(read("** DISPUTED ** maybe").disputed);
        let bare = r#"{"cve":{"CVE_data_meta":{"ID":"CVE-2022-1"}},"configurations":null,"impact":null}"#;
        assert_eq!(read_item(bare).unwrap().advisory.affected, []);
        for bad in [
            r#"{"cve":{"CVE_data_meta":{"ID":"CVE"}}}"#,
            r#"{"cve":{"CVE_data_meta":{}}}"#,
            r#"{"cve":{"CVE_data_meta":{"ID":"CVE-2022-1"}},"configurations":{"nodes":{}}}"#,
        ] {
            assert!(read_item(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_that_nest_without_end_are_refused_and_many_stay_cheap() {
        let deep = format!("{}{}", r#"{"children":["#.repeat(40), "]}".repeat(40));
        let item = format!(
            r#"{{"cve":{{"CVE_data_meta":{{"ID":"CVE-2022-1"}}}},"configurations":{{"nodes":[{deep}]}}}}"#
        );
        assert!(read_item(&item).unwrap_err().reason.contains("levels"));
        let many = vec!["{}"; 100_000].join(",");
        let item = format!(
            r#"{{"cve":{{"CVE_data_meta":{{"ID":"CVE-2022-1"}}}},"configurations":{{"nodes":[{{"operator":"AND","children":[{many}]}}]}}}}"#
        );
        assert_eq!(read_item(&item).unwrap().advisory.affected, []);
    }
}
