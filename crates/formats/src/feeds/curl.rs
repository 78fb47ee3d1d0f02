//! What curl publishes: a list of records in OSV's form that name no package, since all are about curl.

use std::collections::BTreeSet;

use serde::Deserialize;

use airlock_core::advisory::{AdvisoryRecord, MatchKey};
use airlock_core::matching::CONDA;

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

/// What of curl a record is about. The library is in the tool, and the tool in no library: as CPEs both go by both names,
/// so that what concerns the tool alone stands under the name of its package.
fn keys(json: &str) -> Vec<MatchKey> {
    let record: Option<Record> = serde_json::from_str(json).ok();
    if record.is_some_and(|record| record.database_specific.affects.as_deref() == Some("tool")) {
        return vec![MatchKey::osv(CONDA, "curl")];
    }
    vec![MatchKey::cpe("haxx", "curl"), MatchKey::cpe("haxx", "libcurl")]
}

#[cfg(test)]
mod tests {
    use airlock_core::advisory::{Advisory, slices};
    use airlock_core::ecosystem::Ecosystem;
    use airlock_core::identity::builtin;
    use airlock_core::matching::{lookups, match_version};

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
        assert_eq!(keys(r#"{"affects":"tool"}"#), ["osv:conda/curl"]);
        for odd in ["7", "null", r#"{"affects":["tool"]}"#, r#"{"CWE":[1]}"#, "{}"] {
            assert_eq!(keys(odd), ["cpe:haxx:curl", "cpe:haxx:libcurl"], "{odd}");
        }
    }

    #[test]
    fn what_concerns_the_tool_alone_is_found_for_its_package_and_not_for_the_librarys() {
        let found = |affects: &str, name: &str, version: &str| {
            let advisory = read(&format!(r#"{{"affects":"{affects}"}}"#));
            let slices = slices([("curl", &advisory)]);
            let looked = lookups(Ecosystem::Conda, name, builtin::identities().get(name));
            let hits: Vec<_> = looked.into_iter().filter_map(|l| Some((slices.get(&l.key)?, l))).collect();
            let hits: Vec<_> = hits.into_iter().map(|(slice, lookup)| (lookup, slice)).collect();
            match_version(&hits, version).len()
        };
        assert_eq!((found("tool", "curl", "8.6.0"), found("tool", "curl", "8.7.0")), (1, 0));
        assert_eq!(found("tool", "libcurl", "8.6.0"), 0);
        assert_eq!((found("both", "curl", "8.6.0"), found("lib", "libcurl", "8.6.0")), (1, 1));
    }
}
