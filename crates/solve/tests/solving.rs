//! Solving of small channels that the tests make: what may not be had is gone round, and what outsiders write is borne.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use airlock_solve::{Place, Platform, Pool, Task, Unsolved, Wish, solve};

fn place(name: &str, version: &str) -> Place {
    Place { subdir: "noarch".to_owned(), file: format!("{name}-{version}-0.conda") }
}

fn pool<'a>(records: impl IntoIterator<Item = (&'a str, &'a str, Vec<String>)>) -> Pool {
    let mut pool = Pool::default();
    for (name, version, depends) in records {
        let record = serde_json::json!({"name": name, "version": version, "build": "0", "build_number": 0,
            "depends": depends, "subdir": "noarch"});
        pool.add(place(name, version), &record.to_string()).unwrap();
    }
    pool
}

fn solved(
    pool: &Pool,
    asked: &[&str],
    excluded: &[(&str, &str, &str)],
    favoured: &[(&str, &str)],
) -> Result<Vec<String>, Unsolved> {
    let wishes: Vec<Wish> = asked.iter().map(|spec| Wish::parse(spec).unwrap()).collect();
    let excluded: BTreeMap<Place, Arc<str>> =
        excluded.iter().map(|(name, version, why)| (place(name, version), Arc::from(*why))).collect();
    let favoured = favoured.iter().map(|(name, version)| place(name, version)).collect();
    let task = Task { wishes: wishes.iter().collect(), excluded: &excluded, favoured };
    let platform = Platform::of("linux-64", &[]).unwrap();
    let places = solve(pool, &platform, &task)?;
    Ok(places.into_iter().map(|place| place.file.trim_end_matches("-0.conda").to_owned()).collect())
}

fn needs(specs: &[&str]) -> Vec<String> {
    specs.iter().map(|spec| (*spec).to_owned()).collect()
}

fn channel() -> Pool {
    pool([
        ("app", "1", needs(&["lib <2"])),
        ("app", "2", needs(&["lib >=2", "__glibc >=2.17"])),
        ("lib", "1", Vec::new()),
        ("lib", "2", Vec::new()),
        ("lib", "2.1", Vec::new()),
        ("new", "1", needs(&["__glibc >=3"])),
    ])
}

#[test]
fn the_highest_versions_are_taken_that_go_together() {
    assert_eq!(solved(&channel(), &["app"], &[], &[]).unwrap(), ["app-2", "lib-2.1"]);
    assert_eq!(solved(&channel(), &["app", "lib=1"], &[], &[]).unwrap(), ["app-1", "lib-1"]);
    assert!(matches!(solved(&channel(), &["app=2", "lib=1"], &[], &[]), Err(Unsolved::Impossible(_))));
    assert!(matches!(solved(&channel(), &["new"], &[], &[]), Err(Unsolved::Impossible(_))));
}

#[test]
fn what_may_not_be_had_is_gone_round_and_named_with_its_reason_where_it_cannot_be() {
    let denied = ("lib", "2.1", "denied, cvss-above-7");
    assert_eq!(solved(&channel(), &["app"], &[denied], &[]).unwrap(), ["app-2", "lib-2"]);
    let all = [denied, ("lib", "2", "held, unscored")];
    assert_eq!(solved(&channel(), &["app"], &all, &[]).unwrap(), ["app-1", "lib-1"]);
    let Err(Unsolved::Impossible(reasons)) = solved(&channel(), &["app=2"], &all, &[]) else {
        panic!("it cannot be solved")
    };
    let reasons = reasons.join("\n");
    assert!(reasons.contains("denied, cvss-above-7") && reasons.contains("held, unscored"), "{reasons}");
}

#[test]
fn what_is_favoured_is_taken_where_nothing_speaks_against_it() {
    assert_eq!(solved(&channel(), &["app"], &[], &[("lib", "2")]).unwrap(), ["app-2", "lib-2"]);
    let denied = [("lib", "2", "denied")];
    assert_eq!(solved(&channel(), &["app"], &denied, &[("lib", "2")]).unwrap(), ["app-2", "lib-2.1"]);
}

#[test]
fn a_long_chain_of_dependencies_ends_in_an_answer() {
    const LENGTH: usize = 3000;
    let names: Vec<String> = (0..=LENGTH).map(|at| format!("p{at}")).collect();
    let link = |at: usize| vec![format!("p{}", at + 1)];
    let whole = pool(
        (0..=LENGTH).map(|at| (names[at].as_str(), "1", if at < LENGTH { link(at) } else { Vec::new() })),
    );
    assert_eq!(solved(&whole, &["p0"], &[], &[]).unwrap().len(), LENGTH + 1);
    let broken = pool((0..LENGTH).map(|at| (names[at].as_str(), "1", link(at))));
    assert!(matches!(solved(&broken, &["p0"], &[], &[]), Err(Unsolved::Impossible(_))));
}

#[test]
fn what_names_no_single_package_is_no_wish() {
    for bad in ["", "*", "py*", ">=2", "x[version='>=1", &format!("x {}1{}", "(".repeat(99), ")".repeat(99))]
    {
        assert!(Wish::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Wish::parse("conda-forge::NumPy >=1").unwrap().name(), "numpy");
}
