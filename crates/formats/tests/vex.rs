//! Statements on findings: what each form says, what is written and read again, and what makes no sense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use airlock_core::assess::{Justification, Statement, Statements, Versions};
use airlock_core::id::Digest;
use airlock_core::matching::Status;
use airlock_core::time::Time;
use airlock_formats::feeds::vex::write::{Document, Named, Ruled, csaf, openvex};
use airlock_formats::feeds::vex::{Faults, Stated, read};
use airlock_formats::limits;
use serde_json::{Value, json};

fn stated(document: &Value) -> (Vec<(String, Statement)>, Faults) {
    let (mut stated, mut faults) = (Stated::default(), Faults::default());
    read(document.to_string().as_bytes(), "it", &mut stated, &mut faults);
    let each = |(key, said): (String, Statements)| said.list.into_iter().map(move |one| (key.clone(), one));
    (stated.into_statements().into_iter().flat_map(each).collect(), faults)
}

/// The one statement of a document without faults.
fn only(document: &Value) -> (String, Statement) {
    let (mut said, faults) = stated(document);
    assert_eq!(faults.listed, [], "{document}");
    assert_eq!(said.len(), 1, "{document}: {said:?}");
    said.remove(0)
}

fn open(statement: &Value) -> Value {
    json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:x", "author": "ada",
        "timestamp": "2026-01-02T03:04:05Z", "version": 1, "statements": [statement]})
}

#[test]
fn openvex_says_which_state_a_product_is_in() {
    for (status, more, expected) in [
        ("not_affected", json!({"justification": "component_not_present"}), Status::Cleared),
        ("not_affected", json!({"impact_statement": "never called"}), Status::Cleared),
        ("not_affected", json!({"justification": "inline_mitigations_already_exist"}), Status::Mitigated),
        ("fixed", json!({}), Status::Mitigated),
        ("affected", json!({"action_statement": "wait"}), Status::Active),
        ("under_investigation", json!({}), Status::Reported),
    ] {
        let mut statement = json!({"vulnerability": {"name": "CVE-2026-1", "aliases": ["GHSA-x"]}, "status": status,
            "products": [{"@id": "pkg:pypi/Django@4.2"}]});
        for (key, value) in more.as_object().unwrap() {
            statement[key] = value.clone();
        }
        let (key, said) = only(&open(&statement));
        assert_eq!((key.as_str(), said.status), ("osv:PyPI/django", expected), "{status} {more}");
        assert_eq!(said.versions, Some(Versions::One("4.2".into())));
        assert_eq!(said.aliases, ["GHSA-x".to_owned()].into());
        assert_eq!((said.author.as_deref(), said.time), (Some("ada"), "2026-01-02T03:04:05Z".parse().ok()));
    }
    // The form of 0.0.1, and products by other names.
    let old =
        json!({"vulnerability": "CVE-2026-1", "status": "fixed", "products": ["pkg:conda/x@1?build=h_0"]});
    assert_eq!(only(&open(&old)).1.build.as_deref(), Some("h_0"));
    let hash = Digest::of(b"x");
    let by_cpe = json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed", "products": [
        {"@id": "urn:of:ours", "identifiers": {"cpe23": "cpe:2.3:a:zlib:zlib:1.2:*:*:*:*:*:*:*"},
            "hashes": {"sha-256": hash, "md5": "x"}}]});
    let (key, said) = only(&open(&by_cpe));
    assert_eq!((key.as_str(), said.sha256), ("cpe:zlib:zlib", [hash].into()));
}

#[test]
fn csaf_says_the_same_through_its_product_tree() {
    let document = json!({
        "document": {"category": "csaf_vex", "csaf_version": "2.0", "publisher": {"name": "vendor"},
            "tracking": {"current_release_date": "2026-01-02T00:00:00Z"}},
        "product_tree": {
            "branches": [{"category": "vendor", "name": "v", "branches": [
                {"category": "product_version_range", "name": "vers:pypi/>=1|<2",
                    "product": {"name": "a", "product_id": "A", "product_identification_helper": {"purl": "pkg:pypi/a"}}},
                {"category": "product_version", "name": "3.1",
                    "product": {"name": "b", "product_id": "B", "product_identification_helper": {"purl": "pkg:pypi/b"}}},
                {"category": "product_version_range", "name": "up to 7",
                    "product": {"name": "c", "product_id": "C", "product_identification_helper": {"purl": "pkg:pypi/c"}}}]}],
            "relationships": [{"category": "default_component_of", "product_reference": "B", "relates_to_product_reference": "A",
                "full_product_name": {"name": "b in a", "product_id": "B-A"}}],
            "product_groups": [{"group_id": "G", "product_ids": ["A"]}]},
        "vulnerabilities": [{"cve": "CVE-2026-1", "ids": [{"system_name": "GHSA", "text": "GHSA-x"}],
            "product_status": {"known_not_affected": ["A"], "fixed": ["B-A"], "recommended": ["B"], "known_affected": ["C"]},
            "flags": [{"label": "vulnerable_code_not_present", "group_ids": ["G"]}],
            "threats": [{"category": "impact", "details": "not built", "product_ids": ["A"]}]}]});
    let (said, faults) = stated(&document);
    // A range that cannot be read is not all versions.
    assert_eq!(faults.count, 1);
    assert!(faults.listed[0].reason.contains("`C`"), "{:?}", faults.listed);
    assert_eq!(said.len(), 2);
    let (key, a) = &said[1];
    assert_eq!((key.as_str(), a.status, a.note.as_str()), ("osv:PyPI/a", Status::Cleared, "not built"));
    assert_eq!(a.justification, Some(Justification::VulnerableCodeNotPresent));
    assert!(matches!(&a.versions, Some(Versions::Ranges(ranges)) if ranges[0].to_string() == ">=1, <2"));
    // What is fixed as a part of something is fixed there, and not everywhere.
    let (key, b) = &said[0];
    assert_eq!((key.as_str(), b.status), ("osv:PyPI/a", Status::Mitigated));
    assert_eq!(b.versions, a.versions);
}

#[test]
fn cyclonedx_says_the_same_of_its_components() {
    let of = |analysis: Value, affects: Value| {
        json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "serialNumber": "urn:uuid:f08a6ccd-4dce-4759-bd84-c626675d60a7",
            "metadata": {"timestamp": "2026-01-02T00:00:00Z"},
            "components": [{"type": "library", "name": "a", "bom-ref": "a 1", "purl": "pkg:pypi/a@1.0",
                "components": [{"type": "library", "name": "z", "bom-ref": "z", "cpe": "cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*"}]}],
            "vulnerabilities": [{"id": "CVE-2026-1", "analysis": analysis, "affects": affects},
                {"id": "CVE-2026-2", "affects": [{"ref": "a 1"}]}]})
    };
    for (state, justification, expected) in [
        ("not_affected", "code_not_reachable", Status::Cleared),
        ("not_affected", "protected_at_runtime", Status::Mitigated),
        ("false_positive", "", Status::Cleared),
        ("resolved", "", Status::Mitigated),
        ("exploitable", "", Status::Active),
        ("in_triage", "", Status::Reported),
    ] {
        let analysis = json!({"state": state, "justification": justification, "detail": "looked"});
        let (key, said) =
            only(&of(analysis, json!([{"ref": "urn:cdx:f08a6ccd-4dce-4759-bd84-c626675d60a7/1#a%201"}])));
        assert_eq!(
            (key.as_str(), said.status, said.note.as_str()),
            ("osv:PyPI/a", expected, "looked"),
            "{state}"
        );
    }
    // A component of an application is analysed there, and not everywhere.
    let mut inside = of(json!({"state": "not_affected"}), json!([{"ref": "a 1"}]));
    inside["metadata"]["component"] = json!({"type": "application", "name": "app", "bom-ref": "app"});
    let (said, faults) = stated(&inside);
    assert!(said.is_empty() && faults.count == 1, "{said:?}");
    inside["components"][0]["bom-ref"] = json!("pkg:pypi/a@1.0");
    inside["vulnerabilities"][0]["affects"] = json!([{"ref": "pkg:pypi/a@1.0"}]);
    let (said, faults) = stated(&inside);
    assert!(said.is_empty() && faults.count == 1, "also where its reference is a purl: {said:?}");
    inside["metadata"]["component"]["purl"] = json!("pkg:pypi/app@2");
    let (key, part) = only(&inside);
    assert_eq!((key.as_str(), part.versions), ("osv:PyPI/app", Some(Versions::One("2".into()))));
    // Of which version a part is analysed, the whole says; where it does not, nobody knows.
    inside["metadata"]["component"]["purl"] = json!("pkg:pypi/app");
    let (said, faults) = stated(&inside);
    assert!(said.is_empty() && faults.count == 1, "{said:?}");
    // What is said of the whole itself may say so by itself.
    inside["vulnerabilities"][0]["affects"] =
        json!([{"ref": "app", "versions": [{"range": "vers:pypi/<2"}]}]);
    let (key, whole) = only(&inside);
    assert_eq!(key, "osv:PyPI/app");
    assert!(matches!(&whole.versions, Some(Versions::Ranges(ranges)) if ranges[0].to_string() == ">=0, <2"));
    inside["vulnerabilities"][0]["affects"] = json!([{"ref": "app"}]);
    assert!(stated(&inside).0.is_empty(), "nor that it is all versions");
    // A link to another document is to nothing here, whatever stands behind it.
    let elsewhere = json!([{"ref": "urn:cdx:aaaaaaaa-4dce-4759-bd84-c626675d60a7/1#a%201"}]);
    let (said, faults) = stated(&of(json!({"state": "not_affected"}), elsewhere));
    assert!(said.is_empty() && faults.count == 1, "{said:?}");
    // A component of one version, of which another one is said to be affected, is not meant.
    let other = json!([{"ref": "a 1", "versions": [{"version": "2.0", "status": "affected"}]}]);
    let (said, faults) = stated(&of(json!({"state": "not_affected"}), other));
    assert!(said.is_empty() && faults.count == 1, "{said:?}");
    let same = json!([{"ref": "a 1", "versions": [{"range": "vers:pypi/<2", "status": "affected"}]}]);
    let (_, said) = only(&of(json!({"state": "not_affected"}), same));
    assert_eq!(said.versions, Some(Versions::One("1.0".into())));
    let affects = json!([{"ref": "z", "versions": [{"range": "vers:generic/<1.2", "status": "affected"},
        {"version": "9", "status": "unaffected"}]}]);
    let (key, said) = only(&of(json!({"state": "exploitable"}), affects));
    assert_eq!(key, "cpe:zlib:zlib");
    assert!(matches!(&said.versions, Some(Versions::Ranges(ranges)) if ranges[0].to_string() == ">=0, <1.2"));
}

#[test]
fn a_patch_without_a_new_version_is_told_by_its_build_number() {
    let record = |ecosystem: &str, fix: &str| {
        json!({"id": "SITE-1", "modified": "2026-01-02T00:00:00Z", "upstream": ["CVE-2026-1"], "summary": "patched",
            "affected": [{"package": {"ecosystem": ecosystem, "name": "OpenSSL"}, "ecosystem_specific": {"fix": fix},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.8_2"}]}]}]})
    };
    let (key, said) = only(&record("conda", "patch"));
    assert_eq!(key, "osv:conda/openssl");
    assert_eq!((said.vulnerability.as_str(), said.build_from), ("CVE-2026-1", Some(2)));
    assert_eq!(said.versions, Some(Versions::One("3.0.8".into())));
    for (ecosystem, fix) in [("Homebrew", "patch"), ("conda", "upgrade")] {
        let (said, faults) = stated(&record(ecosystem, fix));
        assert!(said.is_empty() && faults.count == 1, "{ecosystem} {fix}");
    }
    let mut withdrawn = record("conda", "patch");
    withdrawn["withdrawn"] = json!("2026-02-01T00:00:00Z");
    assert!(stated(&withdrawn).0.is_empty());
}

/// One ruling in every state, on products of each kind.
fn rulings() -> Document {
    let time: Time = "2026-01-02T03:04:05Z".parse().unwrap();
    let states = [
        (Status::Active, None),
        (Status::Mitigated, None),
        (Status::Mitigated, Some(Justification::InlineMitigationsAlreadyExist)),
        (Status::Cleared, None),
        (Status::Cleared, Some(Justification::VulnerableCodeNotInExecutePath)),
        (Status::Cleared, Some(Justification::InlineMitigationsAlreadyExist)),
        (Status::Disputed, None),
    ];
    let ruled = |(n, (status, justification)): (usize, (Status, Option<Justification>))| Ruled {
        vulnerability: if n == 3 { "PYSEC-2026-3".to_owned() } else { format!("CVE-2026-100{n}") },
        aliases: [format!("GHSA-{n}"), format!("A-{n}")].into(),
        status,
        justification,
        reason: format!("reason: number {n}"),
        time: Some(time.after(airlock_core::time::Span::days(n as i64))),
        products: vec![
            Named {
                purl: "pkg:conda/openssl@3.0.8?build=h1_0&channel=main&subdir=linux-64".to_owned(),
                name: "openssl-3.0.8-h1_0.conda".to_owned(),
                sha256: Some(Digest::of(b"a")),
            },
            Named { purl: "pkg:pypi/django@4.2".to_owned(), name: "django 4.2".to_owned(), sha256: None },
        ],
    };
    Document {
        id: "urn:airlock:vex:1".to_owned(),
        author: "station".to_owned(),
        namespace: "urn:airlock:station:1".to_owned(),
        title: "What is ruled of main".to_owned(),
        time,
        rulings: states.into_iter().enumerate().map(ruled).collect(),
    }
}

#[test]
fn what_is_written_as_openvex_or_csaf_is_read_again_without_loss() {
    let document = rulings();
    let mut expected: Vec<(String, Statement)> = Vec::new();
    for ruled in &document.rulings {
        for (key, build, hash, version) in [
            ("osv:conda/openssl", Some("h1_0"), Some(Digest::of(b"a")), "3.0.8"),
            ("osv:PyPI/django", None, None, "4.2"),
        ] {
            let statement = Statement {
                aliases: ruled.aliases.clone(),
                author: Some("station".to_owned()),
                build: build.map(str::to_owned),
                justification: ruled.justification,
                note: ruled.reason.clone(),
                sha256: hash.into_iter().collect(),
                subdir: build.map(|_| "linux-64".to_owned()),
                time: ruled.time,
                versions: Some(Versions::One(version.to_owned())),
                ..Statement::new(&ruled.vulnerability, ruled.status)
            };
            expected.push((key.to_owned(), statement));
        }
    }
    let sorted = |list: Vec<(String, Statement)>| list.into_iter().collect::<BTreeSet<_>>();
    let expected = sorted(expected);
    for written in [openvex(&document), csaf(&document)] {
        let (said, faults) = stated(&written);
        assert_eq!(faults.listed, []);
        assert_eq!(sorted(said), expected, "{written:#}");
    }
}

#[test]
fn what_makes_no_sense_is_counted_and_stops_nothing() {
    let good = json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed", "products": [{"@id": "pkg:pypi/a"}]});
    let bad = [
        json!(7),
        json!({}),
        json!({"vulnerability": {"name": ""}, "status": "fixed", "products": [{"@id": "pkg:pypi/a"}]}),
        json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "great", "products": [{"@id": "pkg:pypi/a"}]}),
        json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected", "products": [{"@id": "pkg:pypi/a"}]}),
        json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected", "justification": "because",
            "products": [{"@id": "pkg:pypi/a"}]}),
        json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed", "products": [{"@id": "pkg:oci/image"}]}),
        json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed", "products": null}),
        json!({"vulnerability": {"name": "x".repeat(300)}, "status": "fixed", "products": [{"@id": "pkg:pypi/a"}]}),
    ];
    let mut document = open(&good);
    let mut list = bad.to_vec();
    list.insert(3, good.clone());
    document["statements"] = json!(list);
    let (said, faults) = stated(&document);
    assert_eq!((said.len(), faults.count), (1, bad.len() as u64), "{:?}", faults.listed);

    let deep = format!("{{\"@context\":1,\"statements\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_branches = format!(
        "{{\"document\":{{}},\"product_tree\":{{\"branches\":{}{}}}}}",
        "[{\"branches\":".repeat(5000),
        "}]".repeat(5000)
    );
    let texts: [&[u8]; 8] = [
        b"",
        b"[]",
        b"{}",
        b"{\"@context\":",
        b"\xff\xfe{\0",
        b"7",
        deep.as_bytes(),
        deep_branches.as_bytes(),
    ];
    for text in texts {
        let (mut stated, mut faults) = (Stated::default(), Faults::default());
        read(text, "it", &mut stated, &mut faults);
        let shown: String = String::from_utf8_lossy(text).chars().take(60).collect();
        assert!(stated.is_empty() && faults.count == 1, "{shown}: {:?}", faults.listed);
        assert_eq!(faults.listed[0].id, "it");
    }
}

#[test]
fn a_purl_that_is_not_understood_is_not_replaced_by_a_wider_cpe() {
    let cpe = "cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:*:*:*:*";
    for purl in ["pkg:deb/debian/openssl@3.0.8-1?arch=amd64", "pkg:conda/openssl?vers=vers:conda/!=1"] {
        let open = open(&json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed",
            "products": [{"@id": "urn:x", "identifiers": {"purl": purl, "cpe23": cpe}}]}));
        let csaf = json!({"document": {}, "product_tree": {"full_product_names": [{"name": "x", "product_id": "X",
                "product_identification_helper": {"purl": purl, "cpe": cpe}}]},
            "vulnerabilities": [{"cve": "CVE-2026-1", "product_status": {"fixed": ["X"]}}]});
        let cyclonedx = json!({"bomFormat": "CycloneDX", "components": [{"bom-ref": "x", "purl": purl, "cpe": cpe}],
            "vulnerabilities": [{"id": "CVE-2026-1", "analysis": {"state": "resolved"}, "affects": [{"ref": "x"}]}]});
        for document in [open, csaf, cyclonedx] {
            let (said, faults) = stated(&document);
            assert!(said.is_empty() && faults.count == 1, "{document}: {said:?}");
        }
    }
}

#[test]
fn one_package_has_a_limit_of_statements() {
    let most = limits::VEX_STATEMENTS_OF_ONE_MAX;
    let products: Vec<Value> = (0..=most).map(|n| json!({"@id": format!("pkg:pypi/a@{n}")})).collect();
    let (said, faults) = stated(&open(
        &json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed", "products": products}),
    ));
    assert_eq!((said.len(), faults.count), (most, 1));
    assert!(faults.listed[0].reason.contains("about one package"));
}

#[test]
fn several_names_and_numbers_of_a_product_restrict_what_is_said() {
    let hash = "aa".repeat(32);
    let csaf = |helper: Value, relationship: Value| {
        let product = json!({"product_id": "P", "name": "p", "product_identification_helper": helper});
        json!({"document": {"tracking": {"current_release_date": "2026-01-01T00:00:00Z"}},
            "product_tree": {"full_product_names": [product], "relationships": relationship},
            "vulnerabilities": [{"cve": "CVE-2026-1",
                "product_status": {"known_affected": [if relationship == json!([]) { "P" } else { "R" }]}}]})
    };
    let plain = |helper: Value| stated(&csaf(helper, json!([])));
    // Each of several purls names a product.
    let (said, faults) = plain(json!({"purls": ["pkg:conda/x@1?build=a", "pkg:conda/x@1?build=b"]}));
    let builds: Vec<_> = said.iter().map(|(_, s)| s.build.as_deref()).collect();
    assert_eq!((builds, faults.count), (vec![Some("a"), Some("b")], 0));
    // A CPE beside a purl restricts it.
    let (said, _) = plain(json!({"purl": "pkg:conda/x", "cpe": "cpe:2.3:a:x:x:1:*:*:*:*:*:*:*"}));
    assert_eq!(said[0].1.versions, Some(Versions::One("1".into())));
    for narrower in [
        json!({"purl": "pkg:conda/x", "serial_numbers": ["7"]}),
        json!({"purl": "pkg:conda/x", "model_numbers": ["7"]}),
        json!({"purl": "pkg:conda/x", "skus": ["7"]}),
        json!({"purl": "pkg:conda/x", "cpe": "cpe:/a:x:x:1::fips"}),
        json!({"purls": ["pkg:conda/x", "pkg:deb/x"]}),
    ] {
        let (said, faults) = plain(narrower.clone());
        assert!(said.is_empty() && faults.count == 1, "{narrower}: {said:?}");
    }
    // What a relationship says of itself restricts what it relates to.
    let related = |helper: Value| {
        let name = json!({"product_id": "R", "name": "r", "product_identification_helper": helper});
        json!([{"category": "installed_on", "product_reference": "C", "relates_to_product_reference": "P",
            "full_product_name": name}])
    };
    let wide = || json!({"purl": "pkg:conda/x", "hashes": [{"file_hashes": [{"algorithm": "sha256", "value": hash}]}]});
    let (said, _) = stated(&csaf(wide(), related(json!({"purl": "pkg:conda/x@1?build=a"}))));
    assert_eq!((said[0].1.build.as_deref(), said[0].1.sha256.len()), (Some("a"), 1));
    let (said, faults) = stated(&csaf(wide(), related(json!({"purl": "pkg:conda/y"}))));
    assert!(said.is_empty() && faults.count == 1, "{said:?}");
    // OpenVEX names one product by several identifiers.
    let by = |product: Value| {
        stated(&open(
            &json!({"vulnerability": {"name": "CVE-2026-1"}, "status": "affected", "products": [product]}),
        ))
        .0
    };
    let (_, said) =
        by(json!({"@id": "pkg:conda/x", "identifiers": {"purl": "pkg:conda/x@1?build=a"}})).remove(0);
    assert_eq!(said.build.as_deref(), Some("a"));
    let cpe = "cpe:2.3:a:x:x:1:*:*:*:*:*:*:*";
    assert!(by(json!({"@id": "PKG:deb/debian/x", "identifiers": {"cpe23": cpe}})).is_empty());
    assert!(by(json!({"@id": "pkg:pypi/a@1", "identifiers": {"purl": "pkg:pypi/b@2"}})).is_empty());
}
