//! OSV records (schema 1.7), of any ecosystem: one document, or one a line.

use std::collections::BTreeSet;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use airlock_core::advisory::{Advisory, AdvisoryRecord, Affected, MatchKey};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::severity::Score;
use airlock_core::version::{Event, Range};

use super::{BadAdvisory, FeedError, Source, layout, null_as_default, one_line, score, severity_word};
use crate::limits;
use crate::read::{brief, canonical};

/// How its records are read. Answers of the OSV API have a list of them.
pub(super) const SOURCE: Source = Source { read: read_record, lists: &["vulns"], beside: &[] };

#[derive(Deserialize)]
struct Record<'a> {
    id: String,
    modified: Option<String>,
    published: Option<String>,
    withdrawn: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    upstream: Vec<String>,
    summary: Option<String>,
    details: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    severity: Vec<Severity>,
    #[serde(default, deserialize_with = "null_as_default")]
    affected: Vec<AffectedRaw>,
    #[serde(borrow, default)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Severity {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

#[derive(Deserialize)]
struct AffectedRaw {
    package: Option<Package>,
    #[serde(default, deserialize_with = "null_as_default")]
    severity: Vec<Severity>,
    #[serde(default, deserialize_with = "null_as_default")]
    ranges: Vec<RangeRaw>,
    #[serde(default, deserialize_with = "null_as_default")]
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct RangeRaw {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    events: Vec<Event>,
}

/// Reads one record.
pub fn read_record(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    read(json, |_| Vec::new())
}

/// The same, where `unnamed` says of a record what those of its entries are about that name no package.
pub(super) fn read(json: &str, unnamed: fn(&str) -> Vec<MatchKey>) -> Result<AdvisoryRecord, BadAdvisory> {
    let place = |id: &str| if id.is_empty() { json.chars().take(60).collect() } else { id.to_owned() };
    let bad = |id: &str, reason: String| BadAdvisory { id: place(id), reason: brief(&reason) };
    let raw = canonical(json).map_err(|e| bad("", e))?;
    let record: Record<'_> = raw.read().map_err(|e| bad("", e.to_string()))?;
    let usable = |id: &str| {
        !id.is_empty() && id.len() <= limits::ADVISORY_ID_BYTES_MAX && !id.chars().any(char::is_whitespace)
    };
    if !usable(&record.id) {
        return Err(bad("", "the record has no usable id".to_owned()));
    }
    check_counts(&record).map_err(|reason| bad(&record.id, reason))?;
    let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    let vectors = record.severity.iter().chain(record.affected.iter().flat_map(|a| &a.severity));
    let mut scores: Vec<_> =
        vectors.filter(|s| s.kind.starts_with("CVSS_")).filter_map(|s| score(&s.score, &record.id)).collect();
    scores.sort();
    scores.dedup();
    let unnamed =
        if record.affected.iter().any(|entry| entry.package.is_none()) { unnamed(json) } else { Vec::new() };
    let text = record.summary.as_deref().or(record.details.as_deref()).unwrap_or_default();
    // `upstream` names what this record was derived from (1.7): for looking up scores it is an alias, and the
    // record it names learns nothing of this one.
    let mut aliases: BTreeSet<String> = record.aliases.iter().chain(&record.upstream).cloned().collect();
    aliases.remove(&record.id);
    let advisory = Advisory {
        modified: time(&record.modified),
        published: time(&record.published),
        withdrawn: record.withdrawn.is_some(),
        disputed: text.contains("** DISPUTED **"),
        malicious: record.id.starts_with("MAL-"),
        summary: one_line(text),
        severity: record.database_specific.and_then(|specific| severity(specific, &scores)),
        ssvc: None,
        scores,
        cwes: record.database_specific.map(cwes).unwrap_or_default(),
        affected: record.affected.into_iter().flat_map(|entry| affected(entry, &unnamed)).collect(),
        aliases,
        id: record.id,
    };
    Ok(AdvisoryRecord { advisory, raw })
}

/// The weaknesses that a database names under a key of its own; it may have whatever type it likes.
fn cwes(specific: &RawValue) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Specific {
        cwe_ids: Vec<serde_json::Value>,
    }
    let specific: Option<Specific> = serde_json::from_str(specific.get()).ok();
    let ids = specific.map(|s| s.cwe_ids).unwrap_or_default();
    // Whatever else stands there is no weakness, and must not read as another one than those that are asked for.
    let is_cwe = |id: &&str| {
        id.strip_prefix("CWE-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    ids.iter().filter_map(|id| id.as_str()).filter(is_cwe).map(str::to_owned).collect()
}

/// The word that a database has for how bad it is.
fn severity(specific: &RawValue, scores: &[Score]) -> Option<String> {
    #[derive(Deserialize)]
    struct Specific {
        severity: String,
    }
    let specific: Specific = serde_json::from_str(specific.get()).ok()?;
    severity_word(&specific.severity, scores)
}

/// What one record may name at most: everything it names is looked up when it is joined with others.
fn check_counts(record: &Record<'_>) -> Result<(), String> {
    let others = || record.aliases.iter().chain(&record.upstream);
    if others().count() > limits::ADVISORY_IDS_MAX {
        return Err(format!("it has more than {} other ids", limits::ADVISORY_IDS_MAX));
    }
    if others().any(|id| id.len() > limits::ADVISORY_ID_BYTES_MAX) {
        return Err(format!("one of its ids has more than {} bytes", limits::ADVISORY_ID_BYTES_MAX));
    }
    if record.affected.len() > limits::ADVISORY_AFFECTED_MAX {
        return Err(format!("it names more than {} packages", limits::ADVISORY_AFFECTED_MAX));
    }
    Ok(())
}

/// What one entry says. Ranges of commits say nothing about releases: where there is nothing else, nobody knows which
/// versions are affected.
fn affected(raw: AffectedRaw, unnamed: &[MatchKey]) -> Vec<Affected> {
    let keys = match raw.package {
        Some(package) => package.key().into_iter().collect(),
        None => unnamed.to_vec(),
    };
    // Where GitHub's database names the last version that was known to be affected, and no fix, it ends nothing: by OSV's
    // own evaluation such a range has no end, and what came out since may be as bad as what was looked at.
    let ranges: Vec<Range> =
        raw.ranges.into_iter().filter(|r| r.kind != "GIT").map(|r| Range { events: r.events }).collect();
    let versions = raw.versions;
    let said = |key| Affected { ranges: ranges.clone(), versions: versions.clone(), ..Affected::of(key) };
    keys.into_iter().map(said).collect()
}

impl Package {
    /// None for a name that PyPI could not have.
    fn key(self) -> Option<MatchKey> {
        // `Debian:12` is release 12 of Debian; nothing here is keyed by a release.
        let name = match self.ecosystem.as_str() {
            "PyPI" => ecosystem::canonical_name(Ecosystem::Pypi, &self.name)?,
            "CRAN" | "Bioconductor" => ecosystem::canonical_r_name(&self.name),
            _ => self.name,
        };
        Some(MatchKey::osv(&self.ecosystem, &name))
    }
}

/// Reads records, one a line, and hands each to `each`. A document that spans lines is for [`read_record`].
pub fn read_all(
    reader: &mut impl BufRead,
    each: &mut impl FnMut(Result<AdvisoryRecord, BadAdvisory>),
) -> Result<(), FeedError> {
    layout::lines(reader, &mut |text| {
        each(text.and_then(read_record));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_with_everything_that_matching_needs() {
        let json = r#"{"id":"PYSEC-2021-108","modified":"2021-07-02T02:41:36Z","aliases":["CVE-2021-33503"],"details":"Bad\n regex","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"},{"type":"CVSS_V3","score":"nonsense"}],"affected":[{"package":{"ecosystem":"PyPI","name":"UrlLib3"},"ranges":[{"type":"GIT","repo":"x","events":[{"introduced":"0"}]},{"type":"ECOSYSTEM","events":[{"introduced":"1.25.4"},{"fixed":"1.26.5"}]}],"versions":["1.25.4"]}],"new_key":[{"kept":true}]}"#;
        let record = read_record(json).unwrap();
        let advisory = &record.advisory;
        assert_eq!(advisory.summary, "Bad regex");
        assert_eq!(advisory.scores.len(), 1);
        assert_eq!(advisory.scores[0].score.to_string(), "7.5");
        assert_eq!(advisory.affected[0].key, MatchKey::osv("PyPI", "urllib3"));
        assert_eq!(advisory.affected[0].ranges[0].to_string(), ">=1.25.4, <1.26.5");
        assert_eq!(advisory.affected[0].ranges.len(), 1);
        assert!(record.raw.as_str().contains("new_key"));
    }

    #[test]
    fn records_that_make_no_sense_are_named_and_stop_nothing() {
        let lines =
            "{\"id\":\"A-1\",\"affected\":[]}\nnot json\n{\"id\":5}\n\n{\"no\":\"id\"}\n{\"id\":\"A-2\"}\n";
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        read_all(&mut lines.as_bytes(), &mut |r| match r {
            Ok(r) => good.push(r.advisory.id),
            Err(b) => bad.push(b.reason),
        })
        .unwrap();
        assert_eq!(good, ["A-1", "A-2"]);
        assert_eq!(bad.len(), 3);
    }

    #[test]
    fn a_line_without_an_end_is_refused_with_flat_memory() {
        let long = vec![b'x'; (limits::ADVISORY_BYTES_MAX + 10) as usize];
        let mut bad = 0;
        read_all(&mut &long[..], &mut |r| bad += usize::from(r.is_err())).unwrap();
        assert_eq!(bad, 1);
    }

    #[test]
    fn a_record_that_names_commits_only_leaves_the_versions_open() {
        let json = r#"{"id":"A-1","affected":[{"package":{"ecosystem":"CRAN","name":"RCurl"},"ranges":[{"type":"GIT","repo":"x","events":[{"introduced":"0"}]}]}]}"#;
        let affected = read_record(json).unwrap().advisory.affected;
        assert_eq!(affected, [Affected::of(MatchKey::osv("CRAN", "rcurl"))]);
    }

    #[test]
    fn malware_and_withdrawn_records_are_marked() {
        let mal = read_record(r#"{"id":"MAL-2024-1","affected":[{"package":{"ecosystem":"PyPI","name":"x"},"versions":["1"]}]}"#).unwrap();
        assert!(mal.advisory.malicious);
        assert!(
            read_record(r#"{"id":"X-1","withdrawn":"2020-01-01T00:00:00Z"}"#).unwrap().advisory.withdrawn
        );
    }

    const GHSA: &str = r#"{"schema_version":"1.4.0","id":"GHSA-aaaa-bbbb-cccc","modified":"2024-01-01T00:00:00Z","aliases":["CVE-2024-1"],
        "severity":SEVERITY,"affected":[{"package":{"ecosystem":"PyPI","name":"x"},"ranges":[{"type":"ECOSYSTEM","events":EVENTS}],
        "database_specific":{"last_known_affected_version_range":END}}],
        "database_specific":{"cwe_ids":["CWE-79"],"severity":"HIGH","github_reviewed":true}}"#;

    fn ghsa(severity: &str, events: &str, end: &str) -> Advisory {
        let json = GHSA.replace("SEVERITY", severity).replace("EVENTS", events).replace("END", end);
        read_record(&json).unwrap().advisory
    }

    #[test]
    fn the_last_version_that_github_knows_to_be_affected_ends_no_range() {
        let range = |events, end| ghsa("[]", events, end).affected[0].ranges[0].to_string();
        for end in [r#""<= 2.0.0""#, r#"" < 1.2 ""#, "7", "null"] {
            assert_eq!(range(r#"[{"introduced":"1.0"}]"#, end), ">=1.0", "{end}");
        }
        assert_eq!(range(r#"[{"introduced":"0"},{"fixed":"3"}]"#, r#""<= 2""#), ">=0, <3");
    }

    #[test]
    fn a_word_is_kept_where_there_is_no_vector_and_never_a_score() {
        let word = |severity: &str| ghsa(severity, "[]", "null");
        assert_eq!((word("[]").severity.as_deref(), word("[]").scores.len()), (Some("high"), 0));
        let vector = r#"[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]"#;
        assert_eq!((word(vector).severity, word(vector).scores.len()), (None, 1));
        for odd in ["7", "null", r#""very bad""#, r#""""#, "[]"] {
            let json = format!(r#"{{"id":"X-1","database_specific":{{"severity":{odd}}}}}"#);
            assert_eq!(read_record(&json).unwrap().advisory.severity, None, "{odd}");
        }
        // What GitHub did not review names no package.
        let unreviewed = r#"{"id":"GHSA-aaaa-bbbb-cccc","aliases":["CVE-2024-1"],"affected":[],"database_specific":{"severity":null,"github_reviewed":false}}"#;
        assert_eq!(read_record(unreviewed).unwrap().advisory.affected, []);
    }
}
