use airlock_core::version::{Inside, Order};
use serde_json::{Value, json};

use super::*;

fn record(more: Value) -> Value {
    let mut cna = json!({"providerMetadata": {"orgId": "x", "shortName": "vendor"},
        "descriptions": [{"lang": "es", "value": "malo"}, {"lang": "en-US", "value": "Something  is\nbad"}]});
    cna.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"dataType": "CVE_RECORD", "dataVersion": "5.2", "containers": {"cna": cna},
        "cveMetadata": {"cveId": "CVE-2024-1", "state": "PUBLISHED", "assignerShortName": "assigner",
            "datePublished": "2024-01-02T03:04:05.678Z", "dateUpdated": "2024-02-03T04:05:06"}})
}

fn advisory(record: &Value) -> Advisory {
    read_record(&record.to_string()).unwrap().advisory
}

/// Key, ranges, versions of what these entries say.
fn says(entries: Value) -> Vec<String> {
    let shown = |a: &airlock_core::advisory::Affected| {
        let ranges: Vec<String> = a.ranges.iter().map(ToString::to_string).collect();
        format!("{} [{}] {:?}", a.key.as_str(), ranges.join("; "), a.versions).replace('"', "")
    };
    advisory(&record(json!({"affected": entries}))).affected.iter().map(shown).collect()
}

/// The same of one entry of a package of PyPI.
fn pypi(more: Value) -> Vec<String> {
    let mut entry = json!({"packageURL": "pkg:pypi/Foo.Bar@1.0?x=y"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    says(json!([entry])).into_iter().map(|text| text.replace("osv:PyPI/foo-bar ", "")).collect()
}

#[test]
fn every_vector_is_kept_with_who_gave_it() {
    let vector = |text: &str| json!({"vectorString": text, "baseScore": 0.1});
    let mut record = record(json!({"metrics": [
        {"format": "CVSS", "cvssV3_1": vector("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"),
            "cvssV2_0": vector("AV:N/AC:L/Au:N/C:P/I:P/A:P")},
        {"cvssV4_0": vector("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N")},
        {"cvssV3_1": vector("nonsense")}, {"other": {"type": "https://vendor.example/severity", "content": {"text": "High"}}}]}));
    record["containers"]["adp"] = json!([
        {"providerMetadata": {"shortName": "CISA-ADP"}, "metrics": [
            {"cvssV3_0": vector("CVSS:3.0/AV:L/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H")},
            {"other": {"type": "kev", "content": {"dateAdded": "2024-01-01"}}},
            {"other": {"type": "ssvc", "content": {"id": "CVE-2024-1", "role": "CISA Coordinator", "options": [
                {"Exploitation": "active"}, {"Automatable": "yes"}, {"Technical Impact": "total"}]}}}]},
        {"metrics": [{"cvssV3_1": vector("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N")},
            {"other": {"type": "ssvc", "content": {"options": "odd"}}}]}]);
    let advisory = advisory(&record);
    let scores: Vec<String> =
        advisory.scores.iter().map(|s| format!("{} by {}", s.score, s.source)).collect();
    assert_eq!(
        scores,
        [
            "1.6 by CVE (ADP without a name)",
            "6.2 by CVE (ADP CISA-ADP)",
            "7.5 by CVE (CNA vendor)",
            "9.3 by CVE (CNA vendor)",
            "9.8 by CVE (CNA vendor)"
        ]
    );
    assert_eq!(
        advisory.ssvc.as_deref(),
        Some("exploitation: active, automatable: yes, technical impact: total")
    );
}

#[test]
fn state_text_weaknesses_and_times_are_read() {
    let mut one = record(json!({"title": "t", "tags": ["disputed"], "problemTypes": [
        {"descriptions": [{"type": "CWE", "cweId": "CWE-79", "description": "x"}, {"description": "y"}]}]}));
    let read = advisory(&one);
    assert_eq!((read.summary.as_str(), read.disputed, read.withdrawn), ("Something is bad", true, false));
    assert_eq!(read.cwes.iter().collect::<Vec<_>>(), ["CWE-79"]);
    assert_eq!(read.modified.unwrap().to_string(), "2024-02-03T04:05:06Z");
    assert_eq!(read.published.unwrap().to_string(), "2024-01-02T03:04:05Z");
    one["cveMetadata"]["state"] = json!("REJECTED");
    one["containers"]["cna"] = json!({"rejectedReasons": [{"lang": "en", "value": "no"}]});
    // A time that is none, or lies far ahead, is the record's own matter.
    one["cveMetadata"]["dateUpdated"] = json!("9999-01-01T00:00:00Z");
    one["cveMetadata"]["datePublished"] = json!("soon");
    let read = advisory(&one);
    assert!(
        read.withdrawn && read.affected.is_empty() && read.modified.is_some() && read.published.is_none()
    );
}

#[test]
fn packages_are_known_by_address_and_products_by_their_cpes() {
    let v = json!([{"version": "1.0", "lessThan": "1.2", "status": "affected", "versionType": "python"}]);
    assert_eq!(
        says(json!([
            {"vendor": "v", "product": "p", "collectionURL": "https://pypi.upstream.example", "packageName": "Foo_Bar", "versions": v},
            {"vendor": "v", "product": "p", "collectionURL": "https://CRAN.upstream.example/", "packageName": "RCurl", "versions": v},
            {"vendor": "v", "product": "p", "packageURL": "pkg:pypi/foo.bar", "versions": v},
            {"vendor": "v", "product": "p", "packageURL": "pkg:npm/other", "versions": [{"version": "9", "status": "affected"}]},
            {"vendor": "v", "product": "q", "cpes": ["cpe:2.3:a:Zlib:zlib:*:*:*:*:*:*:*:*", "cpe:2.3:o:x:y:*:*:*:*:*:*:*:*", "odd"], "versions": v},
            {"vendor": "v", "product": "q", "cpes": ["cpe:2.3:a:zlib:zlib:1.5:*:*:*:*:*:*:*", "cpe:2.3:a:zlib:open:*:*:*:*:*:*:*:*"]},
            {"vendor": "The Vendor ", "product": "Big Tool", "versions": v},
        ])),
        [
            "osv:PyPI/foo-bar [>=1.0, <1.2] []",
            "osv:CRAN/rcurl [>=1.0, <1.2] []",
            "cpe:v:p [] [9]",
            "cpe:zlib:zlib [>=1.0, <1.2] []",
            "cpe:zlib:open [] []",
            "cpe:zlib:zlib [] [1.5]",
            "cpe:the_vendor:big_tool [>=1.0, <1.2] []",
        ]
    );
}

#[test]
fn what_is_not_said_is_noise_for_products_and_leaves_packages_open() {
    for (vendor, product) in
        [("n/a", "n/a"), ("n/a", "curl"), ("v", "N/A"), ("", "p"), ("[UNKNOWN]", "p"), ("a:b", "p")]
    {
        let entry = json!([{"vendor": vendor, "product": product, "versions": [{"version": "1", "status": "affected"}]}]);
        assert_eq!(says(entry), [""; 0], "{vendor} {product}");
    }
    let open = ["[] []"];
    for versions in [
        json!([{"version": "n/a", "status": "affected"}]),
        json!([{"version": "before 1.2", "status": "affected"}]),
        json!([{"version": "1.0 - 2.0", "status": "affected"}]),
        json!([{"version": "2.x", "status": "affected"}]),
        json!([{"version": "1.0-1.5", "status": "affected"}]),
        json!([{"version": "1.0+", "status": "affected"}]),
        json!([{"version": "2.4.1-and-earlier", "status": "affected"}]),
        json!([{"version": "0", "status": "affected"}]),
        json!([{"version": "1234567", "status": "affected", "versionType": "custom"}]),
        json!([{"version": "1.0", "lessThan": "2.x", "status": "affected"}]),
        json!([{"version": "2.x", "lessThan": "2.5", "status": "affected"}]),
        json!([{"version": "1.0", "lessThan": "2.*", "status": "affected"}]),
        json!([{"version": "1.0", "status": "unknown", "lessThan": "2"}]),
        json!([{"version": "0123456789abcdef0123456789abcdef01234567", "lessThan": "x", "status": "affected", "versionType": "git"}]),
        json!([]),
        json!(null),
    ] {
        assert_eq!(pypi(json!({ "versions": versions })), open, "{versions}");
        // A guess that says no version is none, and one that says what nobody can read is as open.
        let is_said = versions.as_array().is_some_and(|v| v.iter().any(|v| v["version"] != "n/a"));
        let expected = if is_said { vec!["cpe:v:p [] []"] } else { Vec::new() };
        assert_eq!(
            says(json!([{"vendor": "v", "product": "p", "versions": versions}])),
            expected,
            "{versions}"
        );
    }
    assert_eq!(pypi(json!({"defaultStatus": "affected"})), ["[>=0] []"]);
    assert_eq!(
        says(json!([{"vendor": "v", "product": "p", "defaultStatus": "affected"},
            {"cpes": ["cpe:2.3:a:v:q:*:*:*:*:*:*:*:*", "cpe:2.3:a:v:r:1.0:*:*:*:*:*:*:*"], "defaultStatus": "affected"}])),
        ["cpe:v:p [>=0] []", "cpe:v:q [>=0] []", "cpe:v:r [] [1.0]"]
    );
    assert_eq!(pypi(json!({"defaultStatus": "unaffected"})), [""; 0]);
    let half = json!([{"version": "1.0", "status": "affected"}, {"version": "some", "status": "affected"},
        {"version": "none of these", "status": "unaffected"}]);
    assert_eq!(pypi(json!({ "versions": half })), ["[] [1.0]", "[] []"]);
}

#[test]
fn versions_are_affected_from_one_to_another_whatever_type_they_claim() {
    let one = |version: Value| pypi(json!({"versions": [version], "defaultStatus": "unaffected"})).join(" ");
    for (version, expected) in [
        (json!({"version": "1.0", "status": "affected"}), "[] [1.0]"),
        (json!({"version": "v1.0", "status": "affected", "versionType": "rpm"}), "[] [1.0]"),
        (
            json!({"version": "0", "status": "affected", "lessThan": "1.1.1t", "versionType": "semver"}),
            "[>=0, <1.1.1t] []",
        ),
        (json!({"version": "unspecified", "status": "affected", "lessThan": "2"}), "[>=0, <2] []"),
        (json!({"version": "1", "status": "affected", "lessThanOrEqual": "2"}), "[>=1, <=2] []"),
        (json!({"version": "1.0", "status": "affected", "lessThanOrEqual": "2.x"}), "[>=1.0, <3] []"),
        (json!({"version": "1.0", "status": "affected", "lessThanOrEqual": "1.4.*"}), "[>=1.0, <1.5] []"),
        (json!({"version": "1", "status": "affected", "lessThan": "*"}), "[>=1] []"),
        (json!({"version": "*", "status": "affected"}), "[>=0] []"),
        (json!({"version": "< 2.31.0", "status": "affected"}), "[>=0, <2.31.0] []"),
        (json!({"version": ">= 1.0, <= 1.5", "status": "affected"}), "[>=1.0, <=1.5] []"),
        (json!({"version": "= 1.0", "status": "affected"}), "[>=1.0, <=1.0] []"),
        (json!({"version": "< 1, < 2", "status": "affected"}), "[] []"),
        (json!({"version": "< 2", "status": "unaffected"}), ""),
        (
            json!({"version": "1", "status": "affected", "changes": [{"at": "1.4", "status": "unaffected"}]}),
            "[>=1, <1.4] []",
        ),
        (
            json!({"version": "1", "status": "unaffected", "lessThan": "3",
            "changes": [{"at": "1.4", "status": "affected"}]}),
            "[>=1.4, <3] []",
        ),
        (json!({"version": "1", "status": "unaffected", "lessThan": "3"}), ""),
    ] {
        assert_eq!(one(version.clone()), expected, "{version}");
    }
}

#[test]
fn where_all_are_affected_but_some_those_are_holes() {
    let read = advisory(&record(
        json!({"affected": [{"packageURL": "pkg:pypi/x", "defaultStatus": "affected", "versions": [
        {"version": "1.5", "status": "unaffected"},
        {"version": "2.0", "lessThan": "2.2", "status": "unaffected"},
        {"version": "3.0", "lessThanOrEqual": "3.4", "status": "unaffected"},
        {"version": "4.0", "lessThan": "*", "status": "unaffected"},
        {"version": "3.9", "status": "affected"}]}]}),
    ));
    let contains = |version: &str| {
        let is_in =
            |range: &airlock_core::version::Range| range.contains(Order::Pep440, version) == Inside::Yes;
        let is_affected = |a: &airlock_core::advisory::Affected| {
            a.ranges.iter().any(is_in) || a.versions.iter().any(|v| v == version)
        };
        if read.affected.iter().any(is_affected) { Inside::Yes } else { Inside::No }
    };
    for (version, inside) in [
        ("0.1", Inside::Yes),
        ("1.4", Inside::Yes),
        ("1.5", Inside::No),
        ("1.5.1", Inside::Yes),
        ("2.0", Inside::No),
        ("2.1", Inside::No),
        ("2.2", Inside::Yes),
        ("3.0", Inside::No),
        ("3.4", Inside::No),
        ("3.4.1", Inside::Yes),
        ("3.9", Inside::Yes),
        ("4.0", Inside::No),
        ("9", Inside::No),
    ] {
        assert_eq!(contains(version), inside, "{version}");
    }
    let from = json!({"defaultStatus": "affected", "versions": [{"version": "0", "lessThan": "3", "status": "unaffected"}]});
    assert_eq!(pypi(from), ["[>=3] []"]);
    let odd =
        json!({"defaultStatus": "affected", "versions": [{"version": "the last", "status": "unaffected"}]});
    assert_eq!(pypi(odd), ["[] []"]);
}

#[test]
fn holes_that_touch_or_overlap_are_one_and_what_ends_before_it_begins_leaves_open() {
    let holes = |versions: Value| pypi(json!({"defaultStatus": "affected", "versions": versions})).join(" ");
    let hole = |from: &str, to: &str| json!({"version": from, "lessThan": to, "status": "unaffected"});
    for (versions, expected) in [
        (json!([hole("1.0", "2.0"), hole("2.0", "3.0")]), "[>=0, <1.0; >=3.0] []"),
        (json!([hole("2.0", "2.5"), hole("1.0", "3.0")]), "[>=0, <1.0; >=3.0] []"),
        (json!([hole("10.0", "*"), hole("9.0", "9.5")]), "[>=0, <9.0; >=9.5, <10.0] []"),
        (json!([hole("1.1.1k", "1.1.1n"), hole("1.1.1m", "1.1.1q")]), "[>=0, <1.1.1k; >=1.1.1q] []"),
        (
            json!([{"version": "1.0", "lessThanOrEqual": "2.0", "status": "unaffected"}, hole("1.0", "2.0")]),
            "[>=0, <1.0; >2.0] []",
        ),
        (
            json!([{"version": "1.0", "lessThan": "2.0", "status": "unaffected",
            "changes": [{"at": "1.5", "status": "affected"}, {"at": "1.8", "status": "unaffected"}]}]),
            "[>=0, <1.0; >=1.5, <1.8; >=1.5, <1.8, <2.0; >=2.0] []",
        ),
        (
            json!([{"version": "3.2", "status": "affected"}, hole("3.0", "3.4")]),
            "[>=0, <3.0; >=3.4] [] [] [3.2]",
        ),
        (
            json!([hole("3.0", "*"), {"version": "2.0", "lessThan": "2.5", "status": "unknown"}]),
            "[>=0, <3.0] []",
        ),
        (json!([hole("2.0", "1.0")]), "[] []"),
        (json!([hole("0", "*")]), "[] []"),
        (json!([{"version": "3.x", "status": "unaffected"}]), "[] []"),
    ] {
        assert_eq!(holes(versions.clone()), expected, "{versions}");
    }
}

#[test]
fn who_names_only_what_is_not_affected_leaves_the_rest_open() {
    let versions = json!([{"version": "2.0", "status": "unaffected"}]);
    for more in [json!({}), json!({"defaultStatus": "unknown"})] {
        let mut entry = more.clone();
        entry["versions"] = versions.clone();
        assert_eq!(pypi(entry), ["[] []"], "{more}");
    }
    assert_eq!(pypi(json!({"defaultStatus": "unaffected", "versions": versions})), [""; 0]);
    assert_eq!(says(json!([{"vendor": "v", "product": "p", "versions": versions}])), ["cpe:v:p [] []"]);
}

#[test]
fn what_a_guess_cannot_read_is_open_beside_what_it_can() {
    let versions = json!([{"version": "1.0", "lessThan": "2.0", "status": "affected"}, {"version": "3.x", "status": "affected"}]);
    assert_eq!(
        says(json!([{"vendor": "v", "product": "p", "versions": versions}])),
        ["cpe:v:p [>=1.0, <2.0] []", "cpe:v:p [] []"]
    );
}

#[test]
fn versions_whose_type_is_git_are_commits_only_where_they_look_like_commits() {
    let one = |version: Value| {
        pypi(json!({"versions": [version, {"version": "9", "status": "affected"}]})).join(" ")
    };
    let range = json!({"version": "1.0", "lessThan": "2.0", "versionType": "git", "status": "affected"});
    assert_eq!(one(range), "[>=1.0, <2.0] [] [] [9]");
    for commit in ["1234567", "0123456789abcdef0123456789abcdef01234567"] {
        let single = json!({"version": commit, "versionType": "git", "status": "affected"});
        let to = json!({"version": "0", "lessThan": commit, "versionType": "git", "status": "affected"});
        assert_eq!((one(single), one(to)), ("[] [9]".into(), "[] [9]".into()), "{commit}");
    }
    let mixed = json!({"version": "1.0", "lessThan": "1234567", "versionType": "git", "status": "affected"});
    assert_eq!(one(mixed), "[] [9] [] []");
}

#[test]
fn configurations_of_cpes_count_from_all_containers_and_repetitions_once() {
    let configuration = |version: &str| {
        json!([{"nodes": [{"operator": "OR", "negate": false, "cpeMatch": [{"vulnerable": true,
        "criteria": "cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*", "versionStartIncluding": "1.0", "versionEndExcluding": version}]}]}])
    };
    let entry = json!([{"packageURL": "pkg:pypi/x", "platforms": ["Windows"], "versions": [{"version": "1", "status": "affected"}]}]);
    let mut record = record(json!({"cpeApplicability": configuration("1.2"), "affected": entry}));
    record["containers"]["adp"] = json!([{"cpeApplicability": configuration("1.3"), "affected": entry}]);
    let read = advisory(&record);
    let keys: Vec<(&str, usize)> = read.affected.iter().map(|a| (a.key.as_str(), a.ranges.len())).collect();
    assert_eq!(keys, [("cpe:zlib:zlib", 2), ("osv:PyPI/x", 0)]);
    assert_eq!(read.affected[1].with.iter().collect::<Vec<_>>(), ["Windows"]);
}

#[test]
fn what_is_no_record_is_named_and_what_is_too_much_is_refused() {
    for bad in [
        json!({}),
        json!([]),
        json!({"cveMetadata": {"cveId": "CVE-2024-1"}}),
        json!({"cveMetadata": {"cveId": 7}, "containers": {}}),
        json!({"cveMetadata": {"cveId": "GHSA-1"}, "containers": {}}),
        json!({"CVE_data_meta": {"ID": "CVE-2010-1"}, "data_type": "CVE", "data_version": "4.0"}),
        json!({"cveMetadata": {"cveId": "CVE-2024-1"}, "containers": {"cna": {"affected": {}}}}),
    ] {
        assert!(read_record(&bad.to_string()).is_err(), "{bad}");
    }
    let nulls = json!({"cveMetadata": {"cveId": "CVE-2024-1", "state": null}, "containers": {"cna": {"affected": null,
        "metrics": null, "descriptions": null, "tags": null, "problemTypes": null, "cpeApplicability": null}, "adp": null}});
    assert!(read_record(&nulls.to_string()).is_ok());
    let entries: Vec<Value> = (0..=limits::ADVISORY_AFFECTED_MAX)
        .map(|n| json!({"packageURL": format!("pkg:pypi/x{n}"), "versions": [{"version": "1", "status": "affected"}]}))
        .collect();
    let bad = read_record(&record(json!({ "affected": entries })).to_string()).unwrap_err();
    assert_eq!((bad.id.as_str(), bad.reason.as_str()), ("CVE-2024-1", "it names more than 10000 products"));
    let versions = vec![json!({"version": "1", "status": "affected"}); limits::ADVISORY_AFFECTED_MAX + 1];
    let entry = json!([{"packageURL": "pkg:pypi/x", "versions": versions}]);
    assert!(
        read_record(&record(json!({ "affected": entry })).to_string())
            .unwrap_err()
            .reason
            .contains("versions")
    );
    let deep = format!("{{\"cveMetadata\":{}", "[".repeat(100));
    assert!(read_record(&deep).is_err());
}

#[test]
fn a_small_record_that_would_repeat_many_versions_for_many_products_is_refused_at_once() {
    let entry = |cpes: usize, versions: usize| {
        let name = |n| format!("cpe:2.3:a:v:p{n}:*:*:*:*:*:*:*:*");
        let version = |n| json!({"version": format!("1.{n}"), "status": "affected"});
        json!({"cpes": (0..cpes).map(name).collect::<Vec<_>>(), "versions": (0..versions).map(version).collect::<Vec<_>>()})
    };
    let why = |entries: Value| read_record(&record(json!({ "affected": entries })).to_string()).unwrap_err();
    let bad = why(json!([entry(2000, 2000)]));
    assert_eq!(
        (bad.id.as_str(), bad.reason.as_str()),
        ("CVE-2024-1", "it says more than 100000 versions of its products")
    );
    // So are many entries that are each small enough, and names alone.
    assert_eq!(why(json!(vec![entry(200, 200); 3])), bad);
    assert!(why(json!([entry(limits::ADVISORY_AFFECTED_MAX + 1, 0)])).reason.contains("products"));
    assert_eq!(advisory(&record(json!({"affected": [entry(200, 200)]}))).affected.len(), 200);
}

#[test]
fn well_known_products_are_found_by_the_words_of_their_vendors_and_conda_packages_by_their_purl() {
    let v = json!([{"version": "1.0", "lessThan": "1.2", "status": "affected"}]);
    assert_eq!(
        says(json!([
            {"vendor": "Python Software Foundation", "product": "CPython", "versions": v},
            {"vendor": "nodejs", "product": "node", "versions": v},
            {"packageURL": "pkg:conda/OpenSSL@1?subdir=linux-64", "versions": v},
        ])),
        [
            "cpe:python:python [>=1.0, <1.2] []",
            "cpe:nodejs:node.js [>=1.0, <1.2] []",
            "osv:conda/openssl [>=1.0, <1.2] []"
        ]
    );
    let keys: BTreeSet<MatchKey> = airlock_core::identity::builtin::rows().flat_map(|row| row.keys).collect();
    assert!(
        affected::KNOWN.iter().all(|[_, (vendor, product)]| keys.contains(&MatchKey::cpe(vendor, product)))
    );
}
