//! Genuine feeds are read whole, and where they state a thing twice, both statements agree with ours.
//!
//! Without the genuine data beside the checkout, the same checks run on a few records of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "common/genuine.rs"]
mod genuine;

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::{Advisory, AdvisoryRecord, Affected, MatchKey, slices};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::matching::{lookups, match_version};
use airlock_core::object;
use airlock_core::severity::{Tenths, score_of};
use airlock_core::version::{Inside, Order};
use airlock_formats::feeds::{BadAdvisory, FeedError, epss, kev, nvd, osv};
use genuine::unpacked;
use serde_json::Value;

#[derive(Default)]
struct Read {
    good: Vec<AdvisoryRecord>,
    bad: Vec<BadAdvisory>,
}

impl Read {
    fn take(&mut self, read: Result<AdvisoryRecord, BadAdvisory>) {
        match read {
            Ok(record) => self.good.push(record),
            Err(bad) => self.bad.push(bad),
        }
    }
}

fn read_osv(mut bytes: &[u8]) -> Read {
    let mut read = Read::default();
    osv::read_all(&mut bytes, &mut |r| read.take(r)).unwrap();
    read
}

fn read_nvd(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    nvd::read_all(bytes, &mut |r| read.take(r)).unwrap();
    read
}

const MADE_OSV: &str = r#"{"id":"PYSEC-1","modified":"2024-01-01T00:00:00Z","details":"d","aliases":["CVE-1-1"],"affected":[{"package":{"ecosystem":"PyPI","name":"X.y"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.1"}]}],"versions":["1.0","1.1rc1","0.1-bulbasaur"]}],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}
{"id":"PYSEC-2","modified":"2024-01-01T00:00:00Z","withdrawn":"2024-02-01T00:00:00Z","affected":[]}
"#;

/// Advisories that name a package and neither a range of releases nor a version: what they say of it (commits, or
/// nothing at all) leaves open which releases are affected, so that each may be.
const SILENT: [&str; 19] = [
    "PYSEC-2010-33",
    "PYSEC-2012-42",
    "PYSEC-2014-117",
    "PYSEC-2017-149",
    "PYSEC-2017-151",
    "PYSEC-2019-257",
    "PYSEC-2020-346",
    "PYSEC-2022-15",
    "PYSEC-2022-43180",
    "PYSEC-2022-43181",
    "PYSEC-2022-43182",
    "PYSEC-2022-43183",
    "PYSEC-2022-43184",
    "PYSEC-2024-261",
    "PYSEC-2025-73",
    "PYSEC-2025-74",
    "PYSEC-2025-75",
    "PYSEC-2025-76",
    "PYSEC-2025-77",
];

/// Nothing that a record says is lost between its text and the normal form.
fn check_osv(text: &str, read: &Read) {
    assert_eq!(read.bad, []);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), read.good.len());
    for (line, record) in lines.iter().zip(&read.good) {
        let advisory = &record.advisory;
        assert_eq!(record.raw.read::<Value>().unwrap(), *line, "{}", advisory.id);
        assert_eq!(line["id"], advisory.id.as_str());
        assert_eq!(line.get("withdrawn").is_some(), advisory.withdrawn, "{}", advisory.id);
        assert!(advisory.modified.is_some(), "{}: the time of its change is lost", advisory.id);
        assert_eq!(line.get("published").is_some(), advisory.published.is_some(), "{}", advisory.id);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let aliases = list(&line["aliases"]);
        assert!(aliases.iter().all(|a| advisory.aliases.contains(a.as_str().unwrap())), "{}", advisory.id);
        let affected = list(&line["affected"]);
        let is_silent = SILENT.contains(&advisory.id.as_str());
        assert_eq!(affected.len(), advisory.affected.len(), "{}", advisory.id);
        let says_nothing = |a: &Affected| a.ranges.is_empty() && a.versions.is_empty();
        assert_eq!(advisory.affected.iter().any(says_nothing), is_silent, "{}", advisory.id);
        let mut vectors: BTreeSet<String> = BTreeSet::new();
        for severity in list(&line["severity"])
            .iter()
            .chain(affected.iter().flat_map(|a| a["severity"].as_array()).flatten())
        {
            vectors.insert(severity["score"].as_str().unwrap().to_owned());
        }
        let kept: BTreeSet<String> = advisory.scores.iter().map(|s| s.vector.clone()).collect();
        assert_eq!(kept, vectors, "{}: a vector could not be scored", advisory.id);
        object::encode(record).unwrap();
    }
}

#[test]
fn every_genuine_osv_record_is_read_without_loss() {
    check_osv(MADE_OSV, &read_osv(MADE_OSV.as_bytes()));
    for (file, count) in [("advisories/osv-pypi.jsonl.gz", 3709), ("advisories/osv-bitnami.jsonl.gz", 7444)] {
        if let Some(bytes) = unpacked(file) {
            let read = read_osv(&bytes);
            assert_eq!(read.good.len(), count, "{file}");
            check_osv(std::str::from_utf8(&bytes).unwrap(), &read);
        }
    }
}

/// Advisories whose own list of versions and whose own ranges contradict each other, with the versions that the
/// ranges miss.
const CONTRADICTIONS: [(&str, &[&str]); 2] = [
    // Its ranges overlap: from 0 up to 2.11.6, and from 2.11 up to 2.11.7. OSV's algorithm sorts the events, so
    // that the first `fixed` closes both.
    ("PYSEC-2021-114", &["2.11.6"]),
    // Its ranges begin at the releases 3.2 and 4.2, its list with their pre-releases, which PEP 440 puts before.
    ("PYSEC-2023-61", &["3.2a1", "3.2b1", "3.2rc1", "4.2a1", "4.2b1", "4.2rc1"]),
];

#[test]
fn every_listed_version_is_inside_the_ranges_of_its_own_advisory() {
    let bytes = unpacked("advisories/osv-pypi.jsonl.gz");
    let read = read_osv(bytes.as_deref().unwrap_or(MADE_OSV.as_bytes()));
    let mut missed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut inside, mut unreadable) = (0, 0);
    for advisory in read.good.iter().map(|r| &r.advisory) {
        for affected in advisory.affected.iter().filter(|a| !a.ranges.is_empty()) {
            for version in &affected.versions {
                let said = affected.ranges.iter().map(|r| r.contains(Order::Pep440, version));
                match said.fold(Inside::No, |all, one| if all == Inside::Yes { all } else { one }) {
                    Inside::Yes => inside += 1,
                    Inside::Unknown => unreadable += 1,
                    Inside::No => missed.entry(&advisory.id).or_default().push(version),
                }
            }
        }
    }
    eprintln!(
        "{inside} versions agree, {unreadable} are none that PEP 440 can read, {} advisories do not",
        missed.len()
    );
    if bytes.is_some() {
        let expected = CONTRADICTIONS.map(|(id, versions)| (id, versions.to_vec()));
        assert_eq!(missed, BTreeMap::from(expected));
        assert_eq!((inside, unreadable), (220_574, 140));
    } else {
        assert_eq!((inside, unreadable, missed.len()), (2, 1, 0));
    }
}

#[test]
fn every_version_that_an_advisory_lists_is_matched_by_it() {
    let bytes = unpacked("advisories/osv-pypi.jsonl.gz");
    let read = read_osv(bytes.as_deref().unwrap_or(MADE_OSV.as_bytes()));
    let advisories: Vec<&Advisory> = read.good.iter().map(|r| &r.advisory).collect();
    let slices = slices(advisories.iter().map(|a| ("feed", *a)));
    let mut matched = 0;
    for advisory in advisories.iter().filter(|a| !a.withdrawn) {
        for affected in &advisory.affected {
            let name = affected.key.as_str().strip_prefix("osv:PyPI/").unwrap();
            let lookup = lookups(Ecosystem::Pypi, name, None).remove(0);
            assert_eq!(lookup.key, MatchKey::osv("PyPI", name));
            // This advisory alone: others of the package would hide that it is silent.
            let mut slice = slices[&affected.key].clone();
            slice.entries.retain(|entry| entry.advisory == advisory.id);
            let found = [(lookup, &slice)];
            // The ends of the list suffice; all versions are in the test of the ranges above.
            let listed = affected.versions.iter().take(3).chain(affected.versions.iter().rev().take(3));
            let contradicted = CONTRADICTIONS.iter().filter(|(id, _)| *id == advisory.id);
            for version in listed.map(String::as_str).chain(contradicted.flat_map(|(_, v)| v.iter().copied()))
            {
                let findings = match_version(&found, version);
                assert!(
                    findings.iter().any(|f| f.is_called(&advisory.id)),
                    "{} {name} {version}",
                    advisory.id
                );
                matched += 1;
            }
        }
    }
    eprintln!("{matched} versions were matched by the advisory that lists them");
    assert!(matched > 15_000 || bytes.is_none());
}

const MADE_NVD: &str = r#"{"vulnerabilities":[{"cve":{"id":"CVE-2022-1","published":"2022-01-01T00:00:00.000","lastModified":"2022-02-02T00:00:00.000","vulnStatus":"Analyzed","descriptions":[{"lang":"en","value":"d"}],
"metrics":{"cvssMetricV31":[{"source":"a@b","cvssData":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:N/A:N","baseScore":6.5}}],"cvssMetricV2":[{"source":"a@b","cvssData":{"vectorString":"AV:L/AC:L/Au:N/C:P/I:N/A:N","baseScore":2.1}}]},
"weaknesses":[{"description":[{"lang":"en","value":"CWE-79"},{"lang":"en","value":"CWE-80"}]}]}},{"cve":{"id":"CVE-2022-2","published":"2022-01-01T00:00:00.000","lastModified":"2022-02-02T00:00:00.000","vulnStatus":"Rejected"}}]}"#;

/// The page as it stands and as it was read agree; how many scores it states.
fn check_nvd(bytes: &[u8], read: &Read) -> usize {
    assert_eq!(read.bad, []);
    let page: Value = serde_json::from_slice(bytes).unwrap();
    let items = page["vulnerabilities"].as_array().unwrap();
    assert_eq!(items.len(), read.good.len());
    let mut stated = 0;
    for (item, record) in items.iter().zip(&read.good) {
        let (cve, advisory) = (&item["cve"], &record.advisory);
        assert_eq!(cve["id"], advisory.id.as_str());
        assert_eq!(cve["vulnStatus"] == "Rejected", advisory.withdrawn, "{}", advisory.id);
        assert!(advisory.modified.is_some() && advisory.published.is_some(), "{}", advisory.id);
        let metrics = cve["metrics"].as_object().into_iter().flat_map(|m| m.values());
        for metric in metrics.filter_map(Value::as_array).flatten() {
            let data = &metric["cvssData"];
            let (vector, said) =
                (data["vectorString"].as_str().unwrap(), data["baseScore"].as_f64().unwrap());
            let said = Tenths::new(said).unwrap();
            assert_eq!(score_of(vector).unwrap(), said, "{} {vector}", advisory.id);
            let source = format!("NVD ({})", metric["source"].as_str().unwrap());
            let kept =
                advisory.scores.iter().any(|s| s.vector == vector && s.score == said && s.source == source);
            assert!(kept, "{} {vector}", advisory.id);
            stated += 1;
        }
        let weaknesses = cve["weaknesses"].as_array().into_iter().flatten();
        let named: BTreeSet<String> = weaknesses
            .flat_map(|w| w["description"].as_array().into_iter().flatten())
            .filter_map(|d| d["value"].as_str().filter(|v| v.starts_with("CWE-")).map(str::to_owned))
            .collect();
        assert_eq!(advisory.cwes, named, "{}", advisory.id);
    }
    stated
}

#[test]
fn the_scores_that_nvd_states_are_those_that_its_vectors_give() {
    assert_eq!(check_nvd(MADE_NVD.as_bytes(), &read_nvd(MADE_NVD.as_bytes())), 2);
    for (file, records, scores) in [
        ("advisories/nvd-2.0-2022.json.gz", 15_454, 23_904),
        ("advisories/nvd-2.0-page-2023.json.gz", 200, 329),
    ] {
        if let Some(bytes) = unpacked(file) {
            let read = read_nvd(&bytes);
            assert_eq!(read.good.len(), records, "{file}");
            assert_eq!(check_nvd(&bytes, &read), scores, "{file}");
        }
    }
}

#[test]
fn the_whole_kev_catalogue_is_read() {
    let made = r#"{"vulnerabilities":[{"cveID":"CVE-1-1","dateAdded":"2024-01-02","vendorProject":"x"}]}"#;
    let genuine = unpacked("advisories/known_exploited_vulnerabilities.json.gz");
    for (bytes, count) in std::iter::once((made.as_bytes(), 1)).chain(genuine.as_deref().map(|b| (b, 1404))) {
        let (read, bad) = kev::read(bytes).unwrap();
        assert_eq!((read.entries.len(), bad), (count, vec![]));
        let catalogue: Value = serde_json::from_slice(bytes).unwrap();
        for entry in catalogue["vulnerabilities"].as_array().unwrap() {
            let added = read.entries[entry["cveID"].as_str().unwrap()].to_string();
            assert_eq!(added.strip_suffix("T00:00:00Z"), entry["dateAdded"].as_str());
        }
    }
    let (read, bad) = kev::read(r#"{"vulnerabilities":[{"cveID":"CVE-1-1","dateAdded":"soon"},{"x":1},7,{"cveID":"CVE-1-2","dateAdded":"2024-01-01"}]}"#.as_bytes()).unwrap();
    assert_eq!((read.entries.len(), bad.len()), (1, 3));
    for text in ["", "{}", "[]", r#"{"vulnerabilities":["#] {
        assert!(kev::read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn the_whole_epss_file_is_read() {
    let made =
        "#model_version:v1,score_date:2026-08-22T00:00:00+0000\ncve,epss,percentile\nCVE-1-1,0.25,0.5\n";
    let genuine = unpacked("advisories/epss_scores-kev-2026-08-22.csv.gz");
    for (bytes, count) in std::iter::once((made.as_bytes(), 1)).chain(genuine.as_deref().map(|b| (b, 1556))) {
        let (read, bad) = epss::read(&mut &*bytes).unwrap();
        assert_eq!((read.scores.len(), bad), (count, vec![]));
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.starts_with(&format!("#model_version:{},", read.model)));
        for line in text.lines().skip(2) {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(read.scores[fields[0]].to_string().parse::<f64>(), fields[1].parse::<f64>());
        }
        assert_eq!(read.date.unwrap().to_string(), "2026-08-22T00:00:00Z");
        object::encode(&read).unwrap();
    }
    let text = format!(
        "cve,epss,percentile\r\nCVE-1-1,0.5,1\r\nCVE-1-2,NaN,1\nCVE-1-3,1.5,1\nx,0.1,1\nCVE-1-4\nCVE-1-5,{}\n",
        "9".repeat(10_000)
    );
    let (read, bad) = epss::read(&mut text.as_bytes()).unwrap();
    assert_eq!((read.scores.len(), bad.len(), bad[0].id.as_str()), (1, 5, "line 3"));
    assert!(matches!(epss::read(&mut &b"<html>\n"[..]), Err(FeedError::Content(_))));
    assert!(matches!(epss::read(&mut "x\n".repeat(2000).as_bytes()), Err(FeedError::Content(_))));
}

#[test]
fn null_and_odd_fields_lose_no_advisory() {
    let record = osv::read_record(
        r#"{"id":"GO-1","aliases":null,"upstream":null,"severity":null,"database_specific":{"cwe_ids":"CWE-79"},
        "affected":[{"package":{"ecosystem":"PyPI","name":"x"},"severity":null,"ranges":null,"versions":["1"]},
        {"package":{"ecosystem":"PyPI","name":"y"},"ranges":[{"type":"ECOSYSTEM","events":null}],"versions":null},{"package":null}]}"#,
    );
    let advisory = record.unwrap().advisory;
    assert_eq!((advisory.affected.len(), advisory.cwes.len()), (2, 0));
    for specific in ["null", "[]", "{}", r#"{"cwe_ids":null}"#, r#"{"cwe_ids":[7,"CWE-79"]}"#] {
        let record =
            osv::read_record(&format!(r#"{{"id":"X-1","affected":null,"database_specific":{specific}}}"#));
        assert_eq!(record.unwrap().advisory.cwes.len(), usize::from(specific.contains("79")), "{specific}");
    }
}

#[test]
fn a_bad_record_is_told_in_few_words_and_one_that_nests_too_deep_is_bad() {
    let long = "x".repeat(1 << 20);
    for text in
        [format!(r#"{{"id":"A-1","affected":"{long}"}}"#), format!(r#"{{"id":"A-1","{long}":1,"{long}":2}}"#)]
    {
        let bad = osv::read_record(&text).unwrap_err();
        assert!(bad.reason.len() <= 400 && bad.id.len() <= 400);
        let bad = read_nvd(format!(r#"{{"vulnerabilities":[{{"cve":{text}}}]}}"#).as_bytes()).bad.remove(0);
        assert!(bad.reason.len() <= 400 && bad.id.len() <= 400);
    }
    let deep = format!(r#"{{"id":"CVE-1-1","x":{}{}}}"#, "[".repeat(60), "]".repeat(60));
    assert!(osv::read_record(&deep).unwrap_err().reason.contains("nests"));
    assert_eq!(read_nvd(format!(r#"{{"vulnerabilities":[{{"cve":{deep}}}]}}"#).as_bytes()).bad.len(), 1);
}
