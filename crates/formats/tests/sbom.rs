//! Bills of materials: what stands in them, and that it is read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::FileFact;
use airlock_core::id::Digest;
use airlock_core::licence::Spdx;
use airlock_core::shard::{Entry, Shard};
use airlock_formats::sbom::{
    self, CYCLONEDX_LIST, Component, Listed, SPDX_LIST, Subject, WORDS_CHARS_MAX, cyclonedx, spdx,
};
use serde_json::{Value, json};

fn subject() -> Subject<'static> {
    Subject {
        channel: "team/\"dev\"",
        snapshot: Digest::of(b"snapshot"),
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
        station: "low",
        namespace: "urn:airlock:station:x",
        origin: Some("https://upstream.example/"),
    }
}

fn component(place: &str, licence: Option<Spdx>) -> Component {
    let listed = Listed {
        place: place.to_owned(),
        name: "a".to_owned(),
        version: "1".to_owned(),
        purl: format!("pkg:pypi/a@1?file_name={place}"),
        sha256: Digest::of(place.as_bytes()).to_string(),
    };
    Component { listed, licence, summary: Some("one \u{1f980} line".to_owned()) }
}

fn as_cyclonedx(components: &[Component]) -> String {
    let mut writer = cyclonedx::Writer::begin(Vec::new(), &subject()).unwrap();
    components.iter().for_each(|one| writer.component(one).unwrap());
    String::from_utf8(writer.end().unwrap()).unwrap()
}

fn as_spdx(components: &[Component]) -> String {
    let mut writer = spdx::Writer::begin(Vec::new(), &subject()).unwrap();
    for list in spdx::List::ALL {
        components.iter().for_each(|one| writer.add(list, one).unwrap());
    }
    String::from_utf8(writer.end().unwrap()).unwrap()
}

fn listed(document: &str, list: &'static str) -> Vec<Listed> {
    let mut out = Vec::new();
    sbom::components(document.as_bytes(), list, |one| {
        out.push(one);
        Ok(())
    })
    .unwrap();
    out
}

#[test]
fn what_is_written_is_read_back_file_by_file() {
    let all: Vec<Component> =
        ["a.whl", "noarch/b\u{301}\n\".conda", "c"].iter().map(|place| component(place, None)).collect();
    for components in [&all[..], &all[..1], &[]] {
        let expected: Vec<Listed> = components.iter().map(|one| one.listed.clone()).collect();
        assert_eq!(listed(&as_cyclonedx(components), CYCLONEDX_LIST), expected);
        assert_eq!(listed(&as_spdx(components), SPDX_LIST), expected);
        assert_eq!(as_spdx(components), as_spdx(components));
    }
}

#[test]
fn what_is_no_such_document_is_said_and_what_the_caller_says_ends_the_reading() {
    let read = |text: &str| sbom::components(text.as_bytes(), CYCLONEDX_LIST, |_| Ok(()));
    for (text, why) in [
        ("", "EOF"),
        ("[]", "a document"),
        ("{}", "`components` is missing"),
        ("{\"components\":1}", "a list of components"),
        ("{\"components\":[],\"components\":[]}", "stands twice"),
        ("{\"components\":[]} x", "trailing characters"),
        ("{\"components\":[{}", "EOF"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let document = as_cyclonedx(&[component("a", None), component("b", None)]);
    let mut seen = 0;
    let said = sbom::components(document.as_bytes(), CYCLONEDX_LIST, |_| {
        seen += 1;
        Err("no further".to_owned())
    });
    assert_eq!((said.unwrap_err().to_string().as_str(), seen), ("no further", 1));
    // What says nothing of itself is nothing that anybody publishes.
    let mut found = Vec::new();
    sbom::components(&b"{\"components\":[7]}"[..], CYCLONEDX_LIST, |one| {
        found.push(one);
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [Listed::default()]);
}

#[test]
fn serial_number_and_time_are_the_snapshots_own() {
    let uuid = subject().uuid();
    let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert!(
        uuid[14..].starts_with('8') && ['8', '9', 'a', 'b'].contains(&char::from(uuid.as_bytes()[19])),
        "{uuid}"
    );
    let (cdx, spdx): (Value, Value) =
        (serde_json::from_str(&as_cyclonedx(&[])).unwrap(), serde_json::from_str(&as_spdx(&[])).unwrap());
    assert_eq!(cdx["serialNumber"], format!("urn:uuid:{uuid}"));
    assert_eq!(cdx["metadata"]["timestamp"], "2026-03-01T12:00:00Z");
    assert_eq!(spdx["creationInfo"]["created"], "2026-03-01T12:00:00Z");
    assert_eq!(spdx["documentNamespace"], format!("urn:airlock:station:x:spdx:{uuid}"));
    let other = Subject { snapshot: Digest::of(b"other"), ..subject() };
    assert_ne!(other.uuid(), uuid);
}

#[test]
fn licences_are_expressions_or_words_whose_text_stands_once() {
    let long = "x".repeat(WORDS_CHARS_MAX + 1);
    let licences = ["MIT OR Apache-2.0", "see LICENSE", "LicenseRef-A OR LicenseRef-B", "see LICENSE", &long];
    let mut all: Vec<Component> = licences
        .iter()
        .enumerate()
        .map(|(at, text)| component(&format!("{at}"), Some(Spdx::of(text))))
        .collect();
    all.push(component("none", None));
    let cdx: Value = serde_json::from_str(&as_cyclonedx(&all)).unwrap();
    let licence = |at: usize| cdx["components"][at]["licenses"].clone();
    assert_eq!(licence(0), json!([{ "expression": "MIT OR Apache-2.0" }]));
    assert_eq!(licence(1), json!([{ "license": { "name": "see LICENSE" } }]));
    assert!(licence(4)[0]["license"]["name"].as_str().unwrap().ends_with("x [cut here]"));
    assert_eq!(licence(5), Value::Null);

    let spdx: Value = serde_json::from_str(&as_spdx(&all)).unwrap();
    let declared = |at: usize| spdx["packages"][at + 1]["licenseDeclared"].as_str().unwrap();
    assert_eq!((declared(0), declared(2), declared(5)), (licences[0], licences[2], "NOASSERTION"));
    assert_eq!(declared(1), declared(3));
    // Each name that is in no list has its text, and none has two.
    let texts = spdx["hasExtractedLicensingInfos"].as_array().unwrap();
    let names: Vec<&str> = texts.iter().map(|one| one["licenseId"].as_str().unwrap()).collect();
    let used = [declared(1), "LicenseRef-A", "LicenseRef-B", declared(4)];
    assert_eq!(names, used);
    // The first is the one that describes the channel.
    let related = spdx["relationships"].as_array().unwrap();
    let ids: BTreeSet<&str> = related.iter().map(|one| one["relatedSpdxElement"].as_str().unwrap()).collect();
    let packages: BTreeSet<&str> =
        spdx["packages"].as_array().unwrap().iter().map(|one| one["SPDXID"].as_str().unwrap()).collect();
    assert_eq!((ids, related.len()), (packages, all.len() + 1));
}

#[test]
fn a_component_is_what_its_record_and_its_archive_say() {
    let mut shard = Shard::new(Ecosystem::Conda, "a".to_owned(), Some("linux-64".to_owned()));
    let hash = Digest::of(b"a");
    let record = |more: &str| {
        let text = format!(r#"{{"name":"a","version":"1","build":"py_0","sha256":"{hash}"{more}}}"#);
        Entry { table: "packages.conda".into(), record: Canonical::parse(&text).unwrap() }
    };
    let file = "a-1-py_0.conda";
    shard.entries.insert(file.to_owned(), record(""));
    let fact = FileFact {
        sha256: hash,
        size: 1,
        metadata: None,
        licence: Some("BSD-3-Clause".to_owned()),
        summary: Some("a line".to_owned()),
        requires: Vec::new(),
        run_exports: None,
        security: Vec::new(),
    };
    let of = |shard: &Shard, fact| Component::of("main", shard, file, fact).unwrap();
    let found = of(&shard, Some(&fact));
    assert_eq!(found.licence, Some(Spdx::of("BSD-3-Clause")));
    assert_eq!(found.listed, Listed::of("main", &shard, file).unwrap());
    assert_eq!(found.listed.place, "linux-64/a-1-py_0.conda");
    assert_eq!(found.listed.purl, "pkg:conda/a@1?build=py_0&channel=main&subdir=linux-64&type=conda");
    assert_eq!(of(&shard, None).licence, None);
    // The record's word comes first.
    shard.entries.insert(file.to_owned(), record(r#","license":"MIT""#));
    assert_eq!(of(&shard, Some(&fact)).licence, Some(Spdx::of("MIT")));
    assert_eq!(Component::of("main", &shard, "other.conda", None), None);
    shard
        .entries
        .insert(file.to_owned(), Entry { table: "x".into(), record: Canonical::parse("{}").unwrap() });
    assert_eq!(Listed::of("main", &shard, file), None);
}
