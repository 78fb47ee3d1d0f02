//! What depends on files that wait: who requires them, and whether anything else would do.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use airlock_core::canon::Canonical;
use airlock_core::closure::{
    DEPENDENTS_NAMED_MAX, Dependent, Dependents, Package, Requiring, Satisfying, requiring,
    requiring_by_facts,
};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::{Fact, Facts, FileFact};
use airlock_core::id::Digest;
use airlock_core::shard::{Entry, Shard};
use airlock_core::time::Time;
use serde_json::{Value, json};

fn shard(subdir: &str, name: &str, records: &[(&str, Value)]) -> Shard {
    let mut shard = Shard::new(Ecosystem::Conda, name.into(), Some(subdir.into()));
    for (file, record) in records {
        let record = Canonical::parse(&record.to_string()).unwrap();
        shard.entries.insert((*file).into(), Entry { table: "packages.conda".into(), record });
    }
    shard
}

/// Subdir, version, build number, whether it is offered, and its group.
type File = (&'static str, &'static str, u64, bool, Option<usize>);

/// Files of the package, the subdir of who requires it, what that says, and which groups satisfy it.
type Case<'a> = (&'a [File], &'a str, &'a [&'a str], Vec<Satisfying>);

fn package(files: &[File]) -> Package {
    let mut package = Package::new(Ecosystem::Conda);
    for (subdir, version, build_number, is_offered, group) in files {
        let file = format!("x-{version}-h_{build_number}.conda");
        let record = json!({"name": "x", "version": version, "build": format!("h_{build_number}"), "build_number": build_number});
        let shard = shard(subdir, "x", &[(file.as_str(), record)]);
        package.add(&shard, &file, &shard.entries[&file], *is_offered, *group);
    }
    package
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_a_record_says_of_a_name_is_found_in_any_spelling() {
    for (depends, constrains, expected) in [
        (&["x >=1", "y"][..], &[][..], Some(&["x >=1"][..])),
        (&["X>=1"], &[], Some(&["X>=1"])),
        (&["x"], &[], Some(&["x"])),
        (&["x[version='>=1']"], &[], Some(&["x[version='>=1']"])),
        // All that it says of the name restricts the same file.
        (&["x >=1", "x <2", "x >=1"], &["x !=1.5"], Some(&["x !=1.5", "x <2", "x >=1"])),
        // Nobody needs what is only constrained, what begins alike, or what another channel has.
        (&["y"], &["x <2"], None),
        (&["xy >=1", "x-y", "y[x=1]"], &[], None),
        (&["other::x"], &[], None),
        (&["x[when='python <3']", "x; if linux"], &[], None),
    ] {
        let record =
            json!({"name": "a", "version": "1", "build": "0", "depends": depends, "constrains": constrains});
        let found = requiring(&shard("noarch", "a", &[("a-1-0.conda", record)]), |name| name == "x");
        let found: Vec<Vec<String>> = found.into_iter().map(|one| one.needs["x"].clone()).collect();
        assert_eq!(found, expected.map(texts).into_iter().collect::<Vec<_>>(), "{depends:?} {constrains:?}");
    }
}

#[test]
fn what_wheels_require_is_found_where_they_were_opened() {
    let fact = |requires: Option<&[&str]>| Fact {
        first_seen: Time::from_seconds(0),
        file: requires.map(|requires| FileFact {
            sha256: Digest::of(b""),
            size: 1,
            metadata: None,
            licence: None,
            summary: None,
            requires: texts(requires),
            run_exports: None,
            security: Vec::new(),
        }),
        fault: None,
    };
    let files = [
        ("app-1.0-py3-none-any.whl", fact(Some(&["Zope.Interface (>=5)"]))),
        ("app-2.0-py3-none-any.whl", fact(Some(&["zope.interface; extra == 'z'"]))),
        ("app-3.0-py3-none-any.whl", fact(None)),
    ];
    let facts = Facts { files: files.map(|(file, fact)| (file.to_owned(), fact)).into(), ..Facts::default() };
    let found = requiring_by_facts("app", &facts, |name| name == "zope-interface");
    let needs = BTreeMap::from([("zope-interface".to_owned(), texts(&["Zope.Interface (>=5)"]))]);
    let expected = Requiring { file: "app-1.0-py3-none-any.whl".into(), version: "1.0".into(), needs };
    assert_eq!(found, [expected]);
}

#[test]
fn it_is_told_whether_anything_else_that_is_offered_would_do() {
    let linux = "linux-64";
    let only = |group, is_only| Satisfying { group, is_only };
    let table: [Case<'_>; 12] = [
        // Nothing else is there.
        (&[("noarch", "2", 0, false, Some(0))], linux, &["x"], vec![only(0, true)]),
        // What is held does not help, and what is offered does.
        (
            &[("noarch", "2", 0, false, Some(0)), ("noarch", "1", 0, false, None)],
            linux,
            &["x"],
            vec![only(0, true)],
        ),
        (
            &[("noarch", "2", 0, false, Some(0)), ("noarch", "1", 0, true, None)],
            linux,
            &["x"],
            vec![only(0, false)],
        ),
        // Unless it is too old, or another build.
        (
            &[("noarch", "2", 0, false, Some(0)), ("noarch", "1", 0, true, None)],
            linux,
            &["x >=2"],
            vec![only(0, true)],
        ),
        (
            &[("noarch", "2", 1, false, Some(0)), ("noarch", "2", 0, true, None)],
            linux,
            &["x 2 h_1"],
            vec![only(0, true)],
        ),
        // Who requires another version does not depend on this one.
        (&[("noarch", "2", 0, false, Some(0)), ("noarch", "1", 0, true, None)], linux, &["x <2"], vec![]),
        (&[("noarch", "2", 0, false, Some(0))], linux, &["x >=1", "x <2"], vec![]),
        // Of what is still offered, it is asked how it would be without it.
        (&[("noarch", "2", 0, true, Some(0))], linux, &["x"], vec![only(0, true)]),
        // Each group by itself.
        (
            &[("noarch", "2", 0, false, Some(0)), ("noarch", "3", 0, true, Some(1))],
            linux,
            &["x"],
            vec![only(0, false), only(1, true)],
        ),
        // Platforms go with themselves and with noarch, and noarch with all.
        (&[("win-64", "2", 0, false, Some(0))], linux, &["x"], vec![]),
        (
            &[(linux, "2", 0, false, Some(0)), ("win-64", "2", 0, true, None)],
            linux,
            &["x"],
            vec![only(0, true)],
        ),
        (
            &[(linux, "2", 0, false, Some(0)), ("win-64", "2", 0, true, None)],
            "noarch",
            &["x"],
            vec![only(0, false)],
        ),
    ];
    for (files, subdir, needs, expected) in table {
        let mut package = package(files);
        for _ in 0..2 {
            let found = package.satisfying(Some(subdir), &texts(needs));
            assert_eq!(found.as_ref(), Some(&expected), "{files:?} {subdir} {needs:?}");
        }
    }
}

#[test]
fn what_would_take_too_long_is_not_told() {
    let record = json!({"name": "x", "version": "2", "build": "0"});
    let shard = shard("noarch", "x", &[("x-2-0.conda", record)]);
    let mut package = Package::new(Ecosystem::Conda);
    for _ in 0..10_000 {
        package.add(&shard, "x-2-0.conda", &shard.entries["x-2-0.conda"], false, Some(0));
    }
    let asked = |package: &mut Package, n: usize| package.satisfying(None, &texts(&[&format!("x >={n}")]));
    assert!((0..1_000).all(|n| asked(&mut package, n).is_some()));
    assert_eq!(asked(&mut package, 1_000), None);
    assert_eq!(
        asked(&mut package, 2),
        Some(vec![Satisfying { group: 0, is_only: true }]),
        "it is remembered"
    );
}

#[test]
fn the_first_are_named_and_all_are_counted() {
    let one = |n: usize, offered, only_this: bool| Dependent {
        artifact: format!("noarch/a{n:03}-{}-0.conda", 1 + u8::from(!only_this)),
        name: format!("a{n:03}"),
        version: n.to_string(),
        offered,
        requires: "x".into(),
        only_this,
    };
    let mut all = Dependents::default();
    (0..50).for_each(|n| all.add(one(n, true, false)));
    all.add(one(90, false, false));
    all.add(one(91, true, true));
    all.add(one(92, false, true));
    all.add(one(93, false, true));
    let counts = (all.offered, all.offered_only_this, all.held, all.held_only_this, all.untold);
    assert_eq!(counts, (51, 1, 3, 2, 0));
    let named: Vec<&str> = all.first.iter().map(|one| one.version.as_str()).collect();
    assert_eq!(named.len(), DEPENDENTS_NAMED_MAX);
    assert_eq!(named[..5], ["91", "92", "93", "0", "1"]);
    // Of a package one file is named: that which comes first, whenever it is met.
    for only_this in [true, false, true] {
        all.add(one(2, true, only_this));
    }
    all.add(one(40, true, true));
    let named: Vec<&str> = all.first.iter().map(|one| one.version.as_str()).collect();
    assert_eq!(named[..7], ["2", "40", "91", "92", "93", "0", "1"]);
    assert_eq!((all.offered, named.len()), (55, DEPENDENTS_NAMED_MAX));
}
