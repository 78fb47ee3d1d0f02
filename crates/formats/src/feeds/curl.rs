//! What curl publishes: a list of records in OSV's form that name no package, since all are about curl.

use std::collections::BTreeSet;

use serde::Deserialize;

use airlock_core::advisory::{AdvisoryRecord, MatchKey};

use super::{BadAdvisory, Source, osv};

/// How its records are read.
pub(super) const SOURCE: Source = Source { read: read_record, lists: &[], beside: &[] };

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    database_specific: Specific,
}

#[derive(Default, Deserialize)]
struct Specific {
    /// `lib`, `tool` or `both`.
    affects: Option<String>,
    #[serde(rename = "CWE")]
    weakness: Option<Weakness>,
}

#[derive(Deserialize)]
struct Weakness {
    id: Option<String>,
}

/// Reads one record.
pub fn read_record(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    let mut record = osv::read(json, keys)?;
    // What is not as expected there takes nothing else away.
    if let Ok(Record { database_specific: Specific { weakness: Some(Weakness { id: Some(id) }), .. } }) =
        record.raw.read()
        && id.starts_with("CWE-")
    {
        record.advisory.cwes = BTreeSet::from([id]);
    }
    Ok(record)
}

/// What of curl a record is about: the tool is in no library, and the library is in the tool.
fn keys(json: &str) -> Vec<MatchKey> {
    let record: Option<Record> = serde_json::from_str(json).ok();
    let is_tool = record.is_some_and(|record| record.database_specific.affects.as_deref() == Some("tool"));
    let library = (!is_tool).then(|| MatchKey::cpe("haxx", "libcurl"));
    std::iter::once(MatchKey::cpe("haxx", "curl")).chain(library).collect()
}

#[cfg(test)]
mod tests {
    use airlock_core::advisory::Advisory;

    use super::*;

    fn read(specific: &str) -> Advisory {
        let json = format!(
            r#"{{"schema_version":"1.5.0","id":"CURL-CVE-2024-2398","aliases":["CVE-2024-2398"],"summary":"HTTP/2 push headers memory-leak",
            "modified":"2024-08-21T09:53:00.00Z","database_specific":{specific},"published":"2024-03-27T08:00:00.00Z",
            "affected":[{{"ranges":[{{"type":"SEMVER","events":[{{"introduced":"7.44.0"}},{{"fixed":"8.7.0"}}]}},
            {{"type":"GIT","repo":"https://code.example/curl.git","events":[{{"introduced":"ea7134ac874a66107e54ff93657ac565cf2ec4aa"}},
            {{"fixed":"deca8039991886a559b67bcd6701db800a5cf764"}}]}}],"versions":["8.6.0","7.44.0"]}}],"details":"x"}}"#
        );
        read_record(&json).unwrap().advisory
    }

    #[test]
    fn records_without_a_package_are_about_curl_and_its_library() {
        let advisory = read(
            r#"{"package":"curl","affects":"both","CWE":{"id":"CWE-772","desc":"x"},"severity":"Medium"}"#,
        );
        let said: Vec<String> = advisory
            .affected
            .iter()
            .map(|a| format!("{} {} {:?}", a.key.as_str(), a.ranges[0], a.versions))
            .collect();
        assert_eq!(
            said,
            [
                r#"cpe:haxx:curl >=7.44.0, <8.7.0 ["8.6.0", "7.44.0"]"#,
                r#"cpe:haxx:libcurl >=7.44.0, <8.7.0 ["8.6.0", "7.44.0"]"#
            ]
        );
        assert_eq!(advisory.cve(), Some("CVE-2024-2398"));
        assert_eq!(advisory.cwes.iter().collect::<Vec<_>>(), ["CWE-772"]);
        // A word is no score.
        assert_eq!((advisory.scores.len(), advisory.severity.as_deref()), (0, Some("medium")));
    }

    #[test]
    fn the_tool_alone_is_no_library_and_odd_details_take_nothing_away() {
        let keys = |specific: &str| {
            read(specific).affected.iter().map(|a| a.key.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(r#"{"affects":"tool"}"#), ["cpe:haxx:curl"]);
        for odd in ["7", "null", r#"{"affects":["tool"]}"#, r#"{"CWE":[1]}"#, "{}"] {
            assert_eq!(keys(odd), ["cpe:haxx:curl", "cpe:haxx:libcurl"], "{odd}");
        }
    }
}
