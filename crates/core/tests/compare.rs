//! What is another in a file than in the last that was admitted.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::collections::BTreeSet;

use airlock_core::canon::Canonical;
use airlock_core::compare::{
    Admitted, CHANGES_MAX, Changed, Changes, Side, Step, TEXT_CHARS_MAX, Unknown, last_admitted,
};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::FileFact;
use airlock_core::id::Digest;
use airlock_core::matching::{Finding, Status};
use airlock_core::record::Artifact;
use airlock_core::shard::Entry;
use serde_json::{Value, json};

fn admitted(place: &str, version: &str) -> Admitted {
    let (subdir, file) = place.split_once('/').map_or((None, place), |(s, f)| (Some(s.to_owned()), f));
    Admitted { subdir, file: file.to_owned(), version: version.to_owned() }
}

#[test]
fn a_file_is_compared_with_the_one_that_it_takes_the_place_of() {
    let conda = |of: (&str, &str), among: &[(&str, &str)]| {
        let among: Vec<Admitted> = among.iter().map(|(place, version)| admitted(place, version)).collect();
        last_admitted(Ecosystem::Conda, &admitted(of.0, of.1), &among).map(|one| one.file.clone())
    };
    let file = |text: &str| Some(text.to_owned());
    let of = ("linux-64/x-2.0-py312_0.conda", "2.0");
    assert_eq!(conda(of, &[]), None);
    // The highest that is not above it.
    let among =
        [("linux-64/x-1.9-py312_0.conda", "1.9"), ("linux-64/x-1.10-py312_0.conda", "1.10")].as_slice();
    assert_eq!(conda(of, among), file("x-1.10-py312_0.conda"));
    assert_eq!(
        conda(of, &[among, &[("linux-64/x-3.0-py312_0.conda", "3.0")]].concat()),
        file("x-1.10-py312_0.conda")
    );
    assert_eq!(
        conda(of, &[("linux-64/x-2.0-py312_1.conda", "2.0"), among[0]]),
        file("x-2.0-py312_1.conda"),
        "another build of the same version"
    );
    // If all are above it, the highest.
    assert_eq!(
        conda(of, &[("linux-64/x-3.0-0.conda", "3.0"), ("linux-64/x-2.1-0.conda", "2.1")]),
        file("x-3.0-0.conda")
    );
    // Of its platform, where there is one; and the build that is most like its own.
    let builds = [
        ("noarch/x-1.12-0.conda", "1.12"),
        ("linux-64/x-1.10-py311_0.conda", "1.10"),
        ("linux-64/x-1.10-py312_0.conda", "1.10"),
        ("linux-64/x-1.10-py313_0.conda", "1.10"),
    ];
    assert_eq!(conda(of, &builds), file("x-1.10-py312_0.conda"));
    assert_eq!(conda(of, &builds[..1]), file("x-1.12-0.conda"));
    // Of builds that are as like, the same kind of file.
    let kinds = [("linux-64/x-1.9-pa_0.conda", "1.9"), ("linux-64/x-1.9-pa_0.tar.bz2", "1.9")];
    assert_eq!(conda(of, &kinds), file("x-1.9-pa_0.conda"));
    assert_eq!(conda(("linux-64/x-2.0-pb_0.tar.bz2", "2.0"), &kinds), file("x-1.9-pa_0.tar.bz2"));

    let pypi = |of: &str, among: &[(&str, &str)]| {
        let among: Vec<Admitted> = among.iter().map(|(file, version)| admitted(file, version)).collect();
        last_admitted(Ecosystem::Pypi, &admitted(of, "2.0"), &among).map(|one| one.file.clone())
    };
    let wheels = [
        ("x-1.0-cp311-cp311-win_amd64.whl", "1.0"),
        ("x-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", "1.0"),
        ("x-1.0-cp312-cp312-win_amd64.whl", "1.0"),
        ("x-1.1.tar.gz", "1.1"),
    ];
    assert_eq!(pypi("x-2.0-cp312-cp312-win_amd64.whl", &wheels), file("x-1.0-cp312-cp312-win_amd64.whl"));
    assert_eq!(pypi("x-2.0.tar.gz", &wheels), file("x-1.1.tar.gz"));
    assert_eq!(pypi("x-2.0.tar.gz", &wheels[..1]), file("x-1.0-cp311-cp311-win_amd64.whl"));
}

fn entry(record: &Value) -> Entry {
    Entry { table: String::new(), record: Canonical::parse(&record.to_string()).unwrap() }
}

fn opened(licence: Option<&str>, requires: &[&str]) -> FileFact {
    FileFact {
        sha256: Digest::of(b""),
        size: 7,
        metadata: None,
        licence: licence.map(str::to_owned),
        summary: None,
        requires: requires.iter().map(|text| (*text).to_owned()).collect(),
        run_exports: None,
        security: Vec::new(),
    }
}

fn compared(
    ecosystem: Ecosystem,
    [old, new]: [(&str, &Value, Option<&FileFact>); 2],
    findings: [&[Finding]; 2],
) -> Changes {
    let (old_entry, new_entry) = (entry(old.1), entry(new.1));
    let read = |file, entry| Artifact::from_parts(ecosystem, "x", file, entry).unwrap();
    let (old_artifact, new_artifact) = (read(old.0, &old_entry), read(new.0, &new_entry));
    let side = |artifact, entry, opened, findings| Side {
        artifact,
        entry,
        opened,
        findings: Cow::Borrowed(findings),
    };
    Changes::of(
        ecosystem,
        &side(&old_artifact, &old_entry, old.2, findings[0]),
        &side(&new_artifact, &new_entry, new.2, findings[1]),
    )
}

/// The changes between two records of conda that say this beside their names.
fn conda(old: &Value, new: &Value) -> Changes {
    let record = |version: &str, more: &Value| {
        let mut record = json!({"name": "x", "version": version, "build": "0", "md5": version, "timestamp": version.len()});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let (old, new) = (record("1", old), record("2", new));
    compared(Ecosystem::Conda, [("x-1-0.conda", &old, None), ("x-2-0.conda", &new, None)], [&[], &[]])
}

fn changed(list: &[Changed]) -> Vec<(&str, &str, &str)> {
    let or_none = |text: &'_ Option<String>| -> &str { Box::leak(text.clone().unwrap_or("-".into()).into()) };
    list.iter().map(|one| (one.name.as_str(), or_none(&one.from), or_none(&one.to))).collect()
}

#[test]
fn dependencies_are_compared_by_name() {
    type Told<'a> = Vec<(&'a str, &'a str, &'a str)>;
    let table: [(&[&str], &[&str], Told<'_>); 8] = [
        (&["a", "b >=1"], &["b >=1", "a"], vec![]),
        (&["a  >=1"], &["a >=1"], vec![]),
        (&["a"], &["a", "b >=1"], vec![("b", "-", "b >=1")]),
        (&["a", "b"], &["a"], vec![("b", "b", "-")]),
        (&["a >=1", "B"], &["a >=2", "b"], vec![("a", "a >=1", "a >=2"), ("b", "B", "b")]),
        (&["a >=1", "a <2"], &["a >=1", "a <3"], vec![("a", "a <2 and a >=1", "a <3 and a >=1")]),
        (&["__glibc >=2.17"], &["__glibc >=2.28"], vec![("__glibc", "__glibc >=2.17", "__glibc >=2.28")]),
        (&["other::a"], &["é"], vec![("other", "other::a", "-"), ("é", "-", "é")]),
    ];
    for (old, new, expected) in table {
        let changes = conda(&json!({"depends": old}), &json!({"depends": new}));
        assert_eq!(changed(&changes.dependencies), expected, "{old:?} {new:?}");
        assert_eq!(changes.is_empty(), expected.is_empty());
        let changes = conda(&json!({"constrains": old}), &json!({"constrains": new}));
        assert_eq!(changed(&changes.constrains), expected, "{old:?} {new:?}");
    }
    // What is no list, or no text, is nothing that it depends on.
    let changes = conda(&json!({"depends": "a"}), &json!({"depends": [1, null, "b"]}));
    assert_eq!(changed(&changes.dependencies), [("b", "-", "b")]);
}

#[test]
fn licence_size_and_what_else_a_record_says_are_compared() {
    let old = json!({"license": "MIT", "size": 10, "noarch": "python", "home": "https://a.example", "summary": null});
    let new =
        json!({"license": "GPL-3.0-only", "size": 12, "maintainers": ["eve"], "home": "https://b.example"});
    let changes = conda(&old, &new);
    assert_eq!(changes.licence, Some(Step { from: Some("MIT".into()), to: Some("GPL-3.0-only".into()) }));
    assert_eq!(changes.size, Some(Step { from: Some(10), to: Some(12) }));
    assert_eq!(
        changed(&changes.record),
        [
            ("home", "https://a.example", "https://b.example"),
            ("maintainers", "-", "[\"eve\"]"),
            ("noarch", "python", "-")
        ]
    );
    assert_eq!(changes.kind, None);
    let same = json!({"license": "MIT", "size": 10});
    assert_eq!(conda(&same, &same), Changes::default());
    let none = conda(&same, &json!({"size": 10}));
    assert_eq!(none.licence, Some(Step { from: Some("MIT".into()), to: None }));
}

#[test]
fn of_an_address_the_host_counts_and_of_an_attestation_that_there_is_one() {
    let file = |url: &str, more: Value| {
        let mut record = json!({"url": url, "hashes": {"sha256": "0".repeat(64)}, "upload-time": url});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let pypi = |old: Value, new: Value| {
        let (a, b) = ("x-1-py3-none-any.whl", "x-2-py3-none-any.whl");
        let changes = compared(Ecosystem::Pypi, [(a, &old, None), (b, &new, None)], [&[], &[]]);
        let list = changed(&changes.record).into_iter();
        list.map(|(name, from, to)| format!("{name}: {from} -> {to}")).collect::<Vec<_>>()
    };
    let a = file("https://upstream.example/a/x-1.whl", json!({"provenance": "https://upstream.example/1"}));
    let b = file("https://upstream.example/b/x-2.whl", json!({"provenance": "https://upstream.example/2"}));
    assert!(pypi(a.clone(), b).is_empty());
    let c = file("https://user@elsewhere.example/x-2.whl", json!({"requires-python": ">=3.12"}));
    assert_eq!(
        pypi(a.clone(), c),
        [
            "provenance: stated -> -",
            "requires-python: - -> >=3.12",
            "url: https://upstream.example -> https://elsewhere.example"
        ]
    );
    assert_eq!(pypi(a, file("x-2.whl", json!({"provenance": "p"}))), ["url: https://upstream.example -> -"]);
}

#[test]
fn what_only_archives_tell_is_unknown_until_they_are_opened() {
    let (wheel, new_wheel, sdist) = ("x-1-py3-none-any.whl", "x-2-py3-none-any.whl", "x-2.tar.gz");
    let of = |files: [&str; 2], old: Option<&FileFact>, new: Option<&FileFact>| {
        let record = json!({});
        compared(Ecosystem::Pypi, [(files[0], &record, old), (files[1], &record, new)], [&[], &[]])
    };
    let (a, b) = (opened(Some("MIT"), &["a>=1"]), opened(None, &["A>=2"]));
    let closed = of([wheel, new_wheel], Some(&a), None);
    assert_eq!(closed.unknown, [Unknown::Dependencies, Unknown::Licence]);
    assert!(closed.dependencies.is_empty() && closed.licence.is_none() && closed.kind.is_none());
    let open = of([wheel, new_wheel], Some(&a), Some(&b));
    assert!(open.unknown.is_empty());
    assert_eq!(changed(&open.dependencies), [("a", "a>=1", "A>=2")]);
    assert_eq!(open.licence, Some(Step { from: Some("MIT".into()), to: None }));
    // What a source distribution requires is not read.
    let source = of([wheel, sdist], Some(&a), Some(&opened(Some("MIT"), &[])));
    assert_eq!(source.kind, Some(Step { from: Some("wheel"), to: Some("sdist") }));
    assert_eq!(source.unknown, [Unknown::Dependencies]);
    assert!(source.dependencies.is_empty() && source.licence.is_none());
}

#[test]
fn what_an_archive_of_conda_adds_counts_where_both_were_opened() {
    let record = |version: &str| json!({"name": "x", "version": version, "build": "0"});
    let (old, new) = (record("1"), record("2"));
    let (a, b) = (opened(Some("MIT"), &[]), opened(Some("ISC"), &[]));
    let of = |a, b| {
        compared(Ecosystem::Conda, [("x-1-0.conda", &old, a), ("x-2-0.conda", &new, b)], [&[], &[]]).licence
    };
    assert_eq!(of(Some(&a), None), None);
    assert_eq!(of(Some(&a), Some(&b)), Some(Step { from: Some("MIT".into()), to: Some("ISC".into()) }));
}

fn finding(advisory: &str, status: Status, kev: bool) -> Finding {
    Finding {
        advisory: advisory.into(),
        aliases: BTreeSet::new(),
        status,
        score: None,
        preferred: None,
        cwes: BTreeSet::new(),
        published: None,
        published_last: None,
        scores: Vec::new(),
        malicious: false,
        kev,
        epss: None,
        percentile: None,
        summary: String::new(),
        fixed: BTreeSet::new(),
        evidence: Vec::new(),
        undecided: false,
        automatic: false,
    }
}

#[test]
fn findings_are_new_or_gone_by_whether_they_are_open() {
    let record = json!({"name": "x", "version": "1", "build": "0"});
    let file = ("x-1-0.conda", &record, None);
    let old = [
        finding("A", Status::Reported, false),
        finding("B", Status::Reported, false),
        finding("C", Status::Cleared, false),
    ];
    let new = [
        finding("A", Status::Disputed, false),
        finding("B", Status::Cleared, false),
        finding("C", Status::Active, false),
        finding("D", Status::Active, true),
        finding("E", Status::Mitigated, false),
    ];
    let changes = compared(Ecosystem::Conda, [file, file], [&old, &new]);
    let names = |list: &[airlock_core::compare::Told]| {
        list.iter().map(|told| told.advisory.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&changes.findings_new), ["D", "C"]);
    assert_eq!(names(&changes.findings_gone), ["B"]);
}

#[test]
fn a_record_that_says_very_much_is_cut_and_what_is_left_out_is_counted() {
    let many: Vec<String> = (0..CHANGES_MAX + 3).map(|n| format!("dependency-{n}")).collect();
    let changes = conda(
        &json!({"summary": "x".repeat(TEXT_CHARS_MAX)}),
        &json!({"depends": many, "summary": "é".repeat(9999)}),
    );
    assert_eq!((changes.dependencies.len(), changes.left_out), (CHANGES_MAX, 3));
    assert_eq!(changes.record[0].to.as_ref().map(|text| text.chars().count()), Some(TEXT_CHARS_MAX));
    let same_in_what_is_shown = json!({"summary": format!("{}!", "x".repeat(TEXT_CHARS_MAX))});
    let changes = conda(&json!({"summary": "x".repeat(TEXT_CHARS_MAX)}), &same_in_what_is_shown);
    assert_eq!(changes.record.len(), 1, "what differs beyond the cut is another all the same");
}
