use super::*;
use crate::severity::Tenths;
use crate::version::{Event, Range};

fn entry(id: &str, cve: &str, introduced: &str, fixed: &str) -> SliceEntry {
    SliceEntry {
        vulnerability: cve.into(),
        advisory: id.into(),
        modified: None,
        cwes: [].into(),
        published: None,
        published_last: None,
        aliases: [cve.to_owned()].into(),
        summary: "bad".into(),
        scores: vec![Score { score: Tenths::new(7.5).unwrap(), vector: id.into(), source: id.into() }],
        disputed: false,
        malicious: false,
        ranges: vec![Range {
            events: vec![Event::Introduced(introduced.into()), Event::Fixed(fixed.into())],
        }],
        target: None,
        versions: vec![],
        with: BTreeSet::new(),
    }
}

fn mapped(mappings: Vec<Mapping>) -> Identity {
    Identity::of(mappings)
}

fn cpe(vendor: &str, product: &str, order: Order) -> Mapping {
    let (key, provenance) = (MatchKey::cpe(vendor, product), "built in".to_owned());
    Mapping { key, order, provenance, review: Review::Verified }
}

fn run(
    ecosystem: Ecosystem,
    identity: Option<&Identity>,
    entries: Vec<SliceEntry>,
    version: &str,
) -> Vec<Finding> {
    let slice = Slice { entries };
    let mut lookups = lookups(ecosystem, "pytorch", identity);
    // Under its own name nothing is known of it.
    lookups.retain(|lookup| lookup.key != MatchKey::osv(CONDA, "pytorch"));
    let slices: Vec<_> = lookups.into_iter().map(|l| (l, &slice)).collect();
    match_version(&slices, version)
}

#[test]
fn one_vulnerability_is_one_finding_with_all_its_evidence() {
    let found = run(
        Ecosystem::Pypi,
        None,
        vec![entry("GHSA-1", "CVE-1-1", "0", "2"), entry("PYSEC-1", "CVE-1-1", "1", "2.1")],
        "1.5",
    );
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence.len(), 2);
    assert_eq!(found[0].aliases, ["GHSA-1".to_owned(), "PYSEC-1".to_owned()].into());
    assert_eq!(found[0].fixed, ["2".to_owned(), "2.1".to_owned()].into());
    assert_eq!(found[0].score.as_ref().map(|s| s.score.to_string()).as_deref(), Some("7.5"));
}

#[test]
fn conda_matches_through_its_identity_and_not_by_its_name() {
    let identity = mapped(vec![Mapping::pypi("torch", "map")]);
    let entries = || vec![entry("PYSEC-1", "CVE-1-1", "0", "2")];
    let found = run(Ecosystem::Conda, Some(&identity), entries(), "1.9.2rc1");
    assert_eq!(found[0].evidence[0].via, "osv:PyPI/torch (conda pytorch, by map)");
    assert!(run(Ecosystem::Conda, None, entries(), "1").is_empty());
}

#[test]
fn conda_versions_are_compared_in_pep_440_first() {
    // conda would put 1.0.dev5 behind 1.0rc1 and miss it.
    let identity = mapped(vec![Mapping::pypi("torch", "map")]);
    let range = || vec![entry("PYSEC-1", "CVE-1-1", "0", "1.0rc1")];
    assert_eq!(run(Ecosystem::Conda, Some(&identity), range(), "1.0.dev5").len(), 1);
    // What PEP 440 cannot read is compared in conda's order.
    let found = run(Ecosystem::Conda, Some(&identity), range(), "0.9.a_b");
    assert_eq!(found[0].evidence[0].order, Order::Conda);
}

#[test]
fn what_no_order_can_read_is_a_finding_and_never_clean() {
    let found = run(Ecosystem::Pypi, None, vec![entry("PYSEC-1", "CVE-1-1", "0", "x y")], "1");
    assert!(found[0].evidence[0].hit.starts_with("undecided") && found[0].undecided);
    let mut silent = entry("PYSEC-1", "CVE-1-1", "0", "2");
    silent.ranges.clear();
    let found = run(Ecosystem::Pypi, None, vec![silent.clone()], "1");
    assert!(found[0].undecided);
    assert_eq!(found[0].evidence[0].hit, "undecided: it names no version");
    // What another record decides is decided.
    let found = run(Ecosystem::Pypi, None, vec![silent, entry("GHSA-1", "CVE-1-1", "0", "2")], "1");
    assert!(!found[0].undecided && found.len() == 1);
    let mut listed = entry("PYSEC-1", "CVE-1-1", "0", "x y");
    listed.versions = vec!["0.1-bulbasaur".into()];
    assert!(run(Ecosystem::Pypi, None, vec![listed.clone()], "1").is_empty());
    assert_eq!(run(Ecosystem::Pypi, None, vec![listed], "0.1-bulbasaur").len(), 1);
}

#[test]
fn a_letter_behind_a_release_of_openssl_is_a_later_patch() {
    let identity = mapped(vec![cpe("openssl", "openssl", Order::Letters)]);
    let range = || vec![entry("CVE-1-1", "CVE-1-1", "1.1.1", "1.1.1l")];
    let found = run(Ecosystem::Conda, Some(&identity), range(), "1.1.1k");
    assert_eq!(found[0].evidence[0].order, Order::Letters);
    assert_eq!(found[0].evidence[0].via, "cpe:openssl:openssl (conda pytorch, by built in)");
    assert!(run(Ecosystem::Conda, Some(&identity), range(), "1.1.1l").is_empty());
    assert!(run(Ecosystem::Conda, Some(&identity), range(), "1.1.0l").is_empty());
    // What that order cannot read is open, and not what conda's order says of it.
    let odd = vec![entry("CVE-1-1", "CVE-1-1", "1.1.1", "1.1.1-premium")];
    assert!(run(Ecosystem::Conda, Some(&identity), odd, "1.1.1k")[0].undecided);
}

#[test]
fn what_is_said_of_a_product_for_another_environment_does_not_concern_it() {
    let library = mapped(vec![cpe("x", "zlib", Order::Letters)]);
    let python = mapped(vec![cpe("x", "zlib", Order::Letters), Mapping::pypi("other", "map")]);
    let made_for = |target: &str| {
        let mut entry = entry("CVE-1-1", "CVE-1-1", "0", "2");
        entry.target = Some(target.into());
        vec![entry]
    };
    for (target, of_library, of_python) in [
        ("wordpress", None, None),
        ("node.js", None, None),
        ("windows", Some("decided"), Some("decided")),
        // What is open holds.
        ("python", Some("undecided"), Some("decided")),
        ("unheard-of", Some("undecided"), Some("undecided")),
    ] {
        let found = |identity| {
            let found = run(Ecosystem::Conda, Some(identity), made_for(target), "1");
            found.first().map(|f| if f.undecided { "undecided" } else { "decided" })
        };
        assert_eq!((found(&library), found(&python)), (of_library, of_python), "{target}");
    }
    let mut beside = entry("CVE-1-1", "CVE-1-1", "0", "2");
    beside.with = ["vendor:other".to_owned()].into();
    let found = run(Ecosystem::Conda, Some(&library), vec![beside], "1");
    assert_eq!(found[0].evidence[0].hit, "range >=0, <2, together with vendor:other");
}

#[test]
fn coverage_is_that_of_the_best_mapping_and_never_made_up() {
    let of = |name, identity: Option<&Identity>| coverage(Ecosystem::Conda, name, identity);
    let automatic = mapped(vec![Mapping::pypi("torch", "map")]);
    let both = mapped(vec![Mapping::pypi("torch", "map"), cpe("a", "b", Order::Letters)]);
    assert_eq!(of("pytorch", None), Coverage::Unknown);
    // A map that knows the name and no counterpart says nothing.
    assert_eq!(of("pytorch", Some(&Identity::default())), Coverage::Unknown);
    assert_eq!(of("pytorch", Some(&automatic)), Coverage::Automatic);
    assert_eq!(of("pytorch", Some(&both)), Coverage::Verified);
    assert_eq!(of("r-rcpp", Some(&Identity::default())), Coverage::Automatic);
    // A map adds to what follows from the name.
    let keys: Vec<_> =
        lookups(Ecosystem::Conda, "r-rcpp", Some(&automatic)).into_iter().map(|l| l.key).collect();
    let own = MatchKey::osv("conda", "r-rcpp");
    assert_eq!(keys, [MatchKey::osv("PyPI", "torch"), MatchKey::osv("CRAN", "rcpp"), own]);
    // What people ruled counts instead, also that nothing can concern it.
    let ruled = Identity { mappings: vec![], is_ruled: true };
    assert_eq!(of("r-rcpp", Some(&ruled)), Coverage::NoneNeeded);
    assert_eq!(lookups(Ecosystem::Conda, "r-rcpp", Some(&ruled)).len(), 1);
    assert_eq!(coverage(Ecosystem::Pypi, "torch", None), Coverage::Verified);
}

#[test]
fn lists_of_versions_are_compared_in_every_spelling() {
    let listed = |version: &str| [version.to_owned()];
    for (list, spelling, is_named) in [
        ("v1.0", "1.0.0", true),
        ("01.0", "1", true),
        ("0!1.0", "1.0", true),
        ("1!1.0", "1.0", false),
        ("1.0", "2.0", false),
        ("10", "1", false),
    ] {
        assert_eq!(names(&listed(list), Order::Pep440, spelling), is_named, "{list} {spelling}");
    }
}

#[test]
fn a_local_version_is_as_vulnerable_as_its_release() {
    let mut last = entry("PYSEC-1", "CVE-1-1", "0", "9");
    last.ranges =
        vec![Range { events: vec![Event::Introduced("0".into()), Event::LastAffected("2.0.0".into())] }];
    assert_eq!(run(Ecosystem::Pypi, None, vec![last.clone()], "2.0.0+cu118").len(), 1);
    assert!(run(Ecosystem::Pypi, None, vec![last.clone()], "2.0.1+cu118").is_empty());
    last.ranges.clear();
    last.versions = vec!["2.0.0".into()];
    assert_eq!(run(Ecosystem::Pypi, None, vec![last], "2.0.0+cu118").len(), 1);
}

#[test]
fn one_range_that_cannot_be_read_is_not_answered_by_another() {
    let mut two = entry("PYSEC-1", "CVE-1-1", "0", "0.5");
    two.ranges.push(Range { events: vec![Event::Introduced("0.9".into()), Event::Fixed("x y".into())] });
    let found = run(Ecosystem::Pypi, None, vec![two], "1.0");
    assert!(found[0].evidence[0].hit.starts_with("undecided"));
}

#[test]
fn exploitation_is_joined_by_every_name() {
    let mut found = run(Ecosystem::Pypi, None, vec![entry("PYSEC-1", "CVE-1-1", "0", "2")], "1");
    let kev = Kev { entries: [("CVE-1-1".to_owned(), Time::from_seconds(0))].into() };
    let epss = Epss { scores: [("PYSEC-1".to_owned(), 0.5)].into(), ..Epss::default() };
    join_exploitation(&mut found, &kev, &epss, None);
    assert!(found[0].kev);
    assert_eq!(found[0].epss, Some(0.5));
}
