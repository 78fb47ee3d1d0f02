//! Possible closure against brute force: what is called impossible truly is.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::canon::Canonical;
use airlock_core::closure::{Graph, Known, Numbered, Part, Requirement};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::identity::Coverage;
use airlock_core::shard::{Entry, Shard, ShardKey};
use airlock_core::verdict::{Judged, Judgement, Verdict};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Package {
    subdir: &'static str,
    name: String,
    version: String,
    depends: Vec<String>,
    constrains: Vec<String>,
    offered: bool,
}

impl Package {
    fn file(&self) -> String {
        format!("{}-{}-0.conda", self.name, self.version)
    }

    fn place(&self) -> (String, String) {
        (format!("{}/{}", self.subdir, self.name), self.file())
    }
}

fn package(subdir: &'static str, name: &str, version: &str, depends: &[&str], offered: bool) -> Package {
    Package {
        subdir,
        name: name.into(),
        version: version.into(),
        depends: depends.iter().map(|d| (*d).to_owned()).collect(),
        constrains: vec![],
        offered,
    }
}

fn judgement(verdicts: BTreeMap<String, bool>) -> Judgement {
    let judged = |offered| Judged {
        version: String::new(),
        verdict: if offered { Verdict::Admit } else { Verdict::Deny },
        rules: vec![],
        review_by: None,
        denied_from: None,
        graced: None,
        flips_at: None,
        gone: false,
        assessed: BTreeMap::new(),
    };
    Judgement {
        ecosystem: Ecosystem::Conda,
        name: String::new(),
        subdir: None,
        coverage: Coverage::Verified,
        findings: BTreeMap::new(),
        artifacts: verdicts.into_iter().map(|(file, offered)| (file, judged(offered))).collect(),
        weighed: BTreeMap::new(),
    }
}

/// What is impossible, by place, with what it needs. Before, everything was offered.
fn impossible(packages: &[Package]) -> BTreeMap<(String, String), String> {
    let [before, now] = both(packages);
    // Where everything is offered, nothing was taken away.
    assert_eq!(before, BTreeMap::new());
    now
}

fn now_impossible(packages: &[Package]) -> BTreeMap<(String, String), String> {
    let [_, now] = both(packages);
    now
}

fn both(packages: &[Package]) -> [BTreeMap<(String, String), String>; 2] {
    let mut shards: BTreeMap<String, (Shard, BTreeMap<String, bool>)> = BTreeMap::new();
    for p in packages {
        let key = ShardKey { subdir: Some(p.subdir.into()), name: p.name.clone() };
        let held = shards.entry(key.to_string()).or_insert_with(|| {
            (Shard::new(Ecosystem::Conda, p.name.clone(), Some(p.subdir.into())), BTreeMap::new())
        });
        let record = serde_json::json!({"name": p.name, "version": p.version, "build": "0", "build_number": 0,
            "depends": p.depends, "constrains": p.constrains});
        let record = Canonical::of(&record).unwrap();
        held.0.entries.insert(p.file(), Entry { table: "packages.conda".into(), record });
        held.1.insert(p.file(), p.offered);
    }
    let mut graph = Graph::new(Ecosystem::Conda);
    for (key, (shard, verdicts)) in shards {
        let all = judgement(verdicts.keys().map(|file| (file.clone(), true)).collect());
        let now = judgement(verdicts);
        let known = Known {
            upstream: Some(&shard),
            listed: None,
            facts: None,
            before: Some(&all),
            now: &now,
            before_fetch: false,
        };
        graph.add(Part::of(&key, &known));
    }
    graph.impossible().map(|all| all.into_iter().map(|one| ((one.key, one.file), one.needs)).collect())
}

fn parsed(text: &str) -> Option<Requirement> {
    Requirement::parse(Ecosystem::Conda, text)
}

fn satisfies(text: &str, package: &Package) -> bool {
    parsed(text).is_some_and(|r| {
        r.name == package.name
            && r.allows_version(Numbered::read(Ecosystem::Conda, &package.version).as_ref())
            && r.allows_build("0", 0)
    })
}

/// Whether a need of these texts was never to be had here.
fn is_foreign(texts: &[&String], here: &[&Package]) -> bool {
    !here.iter().any(|p| texts.iter().all(|t| satisfies(t, p)))
}

/// The texts of a package by the name that they are about: what it depends on, with what else it says of that name.
fn needs(package: &Package) -> Vec<Vec<&String>> {
    let name = |text: &str| parsed(text).map(|r| r.name);
    let names: BTreeSet<String> = package.depends.iter().filter_map(|d| name(d)).collect();
    let about = |of: &String| {
        let all = package.depends.iter().chain(&package.constrains);
        all.filter(|text| name(text).as_ref() == Some(of)).collect()
    };
    names.iter().map(about).collect()
}

/// Whether some choice of at most one package of each name installs `root`: every choice is tried.
fn installs(root: &Package, here: &[&Package]) -> bool {
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for p in here.iter().filter(|p| p.offered && p.name != root.name) {
        by_name.entry(&p.name).or_default().push(p);
    }
    let mut choices: Vec<Vec<&Package>> = vec![vec![root]];
    for packages in by_name.values() {
        choices = choices
            .into_iter()
            .flat_map(|chosen| {
                let more: Vec<Vec<&Package>> =
                    packages.iter().map(|p| chosen.iter().chain([p]).copied().collect()).collect();
                std::iter::once(chosen).chain(more)
            })
            .collect();
    }
    choices.iter().any(|chosen| {
        chosen.iter().all(|p| {
            let met = needs(p).iter().all(|texts| {
                is_foreign(texts, here) || chosen.iter().any(|c| texts.iter().all(|t| satisfies(t, c)))
            });
            met && p.constrains.iter().all(|text| {
                let about = parsed(text).map(|r| r.name);
                chosen.iter().all(|c| about.as_ref() != Some(&c.name) || satisfies(text, c))
            })
        })
    })
}

/// The greatest fixpoint in the plainest way: what lacks a dependency is taken out until nothing changes.
fn plainly(packages: &[Package], platform: &str) -> BTreeSet<(String, String)> {
    let here: Vec<&Package> =
        packages.iter().filter(|p| p.subdir == platform || p.subdir == "noarch").collect();
    let mut left: Vec<&Package> = here.iter().copied().filter(|p| p.offered).collect();
    loop {
        let has = |p: &&&Package| {
            needs(p).iter().all(|texts| {
                is_foreign(texts, &here) || left.iter().any(|c| texts.iter().all(|t| satisfies(t, c)))
            })
        };
        let next: Vec<&Package> = left.iter().filter(has).copied().collect();
        if next.len() == left.len() {
            let alive: BTreeSet<_> = left.iter().map(|p| p.place()).collect();
            return here
                .iter()
                .filter(|p| p.offered)
                .map(|p| p.place())
                .filter(|p| !alive.contains(p))
                .collect();
        }
        left = next;
    }
}

#[test]
fn what_needs_something_of_which_nothing_is_left_is_impossible_and_so_is_what_needs_that() {
    let base = [
        package("linux-64", "openssl", "3.0", &["__glibc >=2.17"], true),
        package("linux-64", "openssl", "3.1", &[], false),
        package("linux-64", "python", "3.12", &["openssl >=3.1", "pip"], true),
        package("linux-64", "python", "3.11", &["openssl >=3.0"], true),
        package("noarch", "idna", "3", &["python >=3.12"], true),
        package("noarch", "any", "3", &["python"], true),
        package("noarch", "elsewhere", "3", &["r-base >=4", "python <2"], true),
    ];
    let found = impossible(&base);
    let told: Vec<(&str, &str)> =
        found.iter().map(|((_, file), needs)| (file.as_str(), needs.as_str())).collect();
    assert_eq!(told, [("python-3.12-0.conda", "openssl >=3.1"), ("idna-3-0.conda", "python >=3.12")]);
    // On another platform it may go on.
    let mut both = base.to_vec();
    both.push(package("win-64", "python", "3.12", &[], true));
    let found = impossible(&both);
    assert_eq!(found.len(), 1, "noarch goes on where some platform has what it needs: {found:?}");
    // What restricts its own dependency away, has none.
    let mut constrained = base.to_vec();
    constrained.push(Package {
        constrains: vec!["openssl >=3.1".into()],
        ..package("linux-64", "curl", "8", &["openssl >=3.0"], true)
    });
    let found = impossible(&constrained);
    assert_eq!(found[&("linux-64/curl".into(), "curl-8-0.conda".into())], "openssl >=3.0 and openssl >=3.1");
}

/// Who has too many needs hurts nobody else.
#[test]
fn a_package_that_is_made_to_take_long_counts_as_impossible_and_switches_nothing_off() {
    let mut all: Vec<Package> = (0..3300)
        .map(|n| package("linux-64", "aaa", &format!("1.{n}"), &[&format!("aaa <9.{n}")], true))
        .collect();
    all.push(package("linux-64", "victim", "2", &[], false));
    all.push(package("linux-64", "zzz", "1", &["victim"], true));
    let shown: BTreeSet<String> = now_impossible(&all).into_iter().map(|((key, _), _)| key).collect();
    assert_eq!(shown, ["linux-64/aaa".to_owned(), "linux-64/zzz".to_owned()].into());
}

fn packages() -> impl Strategy<Value = Vec<Package>> {
    let names = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let spec = || {
        let version =
            prop::sample::select(vec!["", " >=2", " <2", " 1", " 2.*", " !=1", " 3|1", " >=2 0", " * 1"]);
        (names(), version).prop_map(|(name, version)| format!("{name}{version}"))
    };
    let one = (
        prop::sample::select(vec!["linux-64", "win-64", "noarch"]),
        names(),
        prop::sample::select(vec!["1", "2", "3"]),
        prop::collection::vec(spec(), 0..3),
        prop::collection::vec(spec(), 0..2),
        prop::bool::weighted(0.7),
    );
    let one = one.prop_map(|(subdir, name, version, depends, constrains, offered)| Package {
        subdir,
        name: name.into(),
        version: version.into(),
        depends,
        constrains,
        offered,
    });
    prop::collection::vec(one, 1..10).prop_map(|all| {
        // One file of a name in a place.
        let all: BTreeMap<_, _> = all.into_iter().map(|p| (p.place(), p)).collect();
        all.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_called_impossible_is_not_installed_by_any_choice_and_no_less_is_called_so_than_follows(all in packages()) {
        let found: BTreeSet<(String, String)> = impossible(&all).into_keys().collect();
        let platforms: BTreeSet<&str> = all.iter().map(|p| p.subdir).filter(|s| *s != "noarch").collect();
        let platforms: Vec<&str> = if platforms.is_empty() { vec!["noarch"] } else { platforms.into_iter().collect() };
        let plain: Vec<BTreeSet<_>> = platforms.iter().map(|platform| plainly(&all, platform)).collect();
        for p in all.iter().filter(|p| p.offered) {
            let used: Vec<usize> =
                (0..platforms.len()).filter(|at| p.subdir == "noarch" || platforms[*at] == p.subdir).collect();
            let expected = used.iter().all(|at| plain[*at].contains(&p.place()));
            prop_assert_eq!(found.contains(&p.place()), expected, "{:?}", p);
            let installs = used.iter().any(|at| {
                let here: Vec<&Package> =
                    all.iter().filter(|q| q.subdir == platforms[*at] || q.subdir == "noarch").collect();
                installs(p, &here)
            });
            prop_assert!(!(installs && found.contains(&p.place())), "{:?} installs", p);
        }
    }
}
