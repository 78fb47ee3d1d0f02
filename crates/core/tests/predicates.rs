//! Each predicate of policies by itself, in its three values, and what holds of all of them together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, reason = "tests, and tables in them")]

use std::collections::BTreeSet;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::identity::Coverage;
use airlock_core::matching::{Finding, Status};
use airlock_core::pattern::Pattern;
use airlock_core::policy::table::{self, About};
use airlock_core::policy::{Action, Licence, Policy, Rule, Subject, Truth, form, ready};
use airlock_core::record::Artifact;
use airlock_core::severity::{Score, Tenths};
use airlock_core::shard::Entry;
use airlock_core::time::{Span, Time};
use proptest::prelude::*;

use Truth::{False, True, Unknown};

fn day(n: i64) -> Time {
    Time::from_seconds(0).after(Span::days(20_000 + n))
}

/// An artifact with everything that can be known of it.
#[derive(Clone)]
struct Thing {
    ecosystem: Ecosystem,
    subdir: Option<&'static str>,
    entry: Entry,
    artifact: Artifact,
    licence: Licence<'static>,
    coverage: Coverage,
    removed: bool,
    project_status: Option<&'static str>,
    source: &'static str,
    lacks: Option<&'static str>,
    first_seen: Option<Time>,
    feeds_read: Option<Time>,
    findings: Vec<Finding>,
}

fn thing(ecosystem: Ecosystem, file: &str, record: &str) -> Thing {
    let entry = Entry { table: "t".into(), record: Canonical::parse(record).unwrap() };
    let artifact = Artifact::from_parts(ecosystem, "acme-x", file, &entry).unwrap();
    Thing {
        ecosystem,
        subdir: (ecosystem == Ecosystem::Conda).then_some("linux-64"),
        artifact,
        entry,
        licence: Licence::Stated("MIT OR GPL-3.0-only"),
        coverage: Coverage::Verified,
        removed: false,
        project_status: None,
        source: "https://upstream.example/main",
        lacks: None,
        first_seen: Some(day(-10)),
        feeds_read: Some(day(-10)),
        findings: vec![],
    }
}

/// A wheel, made and first seen ten days ago.
fn wheel() -> Thing {
    let record = format!(
        r#"{{"upload-time":"{}","size":5000000,"requires-python":">=3.9","provenance":"https://upstream.example/a"}}"#,
        day(-10)
    );
    thing(Ecosystem::Pypi, "acme_x-1.5-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", &record)
}

fn conda() -> Thing {
    let record = r#"{"name":"acme-x","version":"1.5","build":"cuda_1","build_number":1,"depends":["python >=3.9,<3.12"]}"#;
    thing(Ecosystem::Conda, "acme-x-1.5-cuda_1.conda", record)
}

fn finding() -> Finding {
    let score = |vector: &str, score: f64| Score {
        score: Tenths::new(score).unwrap(),
        vector: vector.into(),
        source: "NVD".into(),
    };
    let scores = vec![
        score("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:N/A:N", 6.5),
        score("AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5),
    ];
    Finding {
        advisory: "CVE-1".into(),
        aliases: BTreeSet::new(),
        status: Status::Reported,
        score: Some(scores[0].clone()),
        preferred: None,
        cwes: ["CWE-79".to_owned()].into(),
        published: Some(day(-10)),
        published_last: None,
        scores,
        malicious: false,
        kev: true,
        epss: Some(0.2),
        percentile: Some(0.9),
        summary: String::new(),
        fixed: ["2.0".to_owned()].into(),
        evidence: vec![],
        undecided: false,
        automatic: true,
    }
}

/// A finding of which as little as possible is known.
fn bare() -> Finding {
    Finding {
        score: None,
        scores: vec![],
        cwes: BTreeSet::new(),
        published: None,
        kev: false,
        epss: None,
        percentile: None,
        fixed: BTreeSet::new(),
        automatic: false,
        ..finding()
    }
}

fn policy(when: &str) -> Policy {
    let text = format!("[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nwhen = {when}\n");
    Policy::parse(&text).unwrap_or_else(|e| panic!("{when}: {e}"))
}

fn tried(thing: &Thing, when: &str) -> Truth {
    of_rule(thing, &policy(when).rules[0])
}

fn of_rule(thing: &Thing, rule: &Rule) -> Truth {
    let reserved = [Pattern::new("acme_*")];
    rule.hits(&subject(thing, &reserved)).into_iter().map(|(_, truth)| truth).max().unwrap_or(False)
}

fn subject<'a>(thing: &'a Thing, reserved: &'a [Pattern]) -> Subject<'a> {
    Subject {
        ecosystem: thing.ecosystem,
        name: "acme-x",
        subdir: thing.subdir,
        artifact: &thing.artifact,
        entry: &thing.entry,
        removed: thing.removed,
        project_status: thing.project_status,
        source: thing.source,
        lacks: thing.lacks,
        reserved,
        first_seen: thing.first_seen,
        size: thing.artifact.size,
        licence: thing.licence,
        coverage: thing.coverage,
        feeds_read: thing.feeds_read,
        findings: &thing.findings,
        now: day(0),
    }
}

#[test]
fn every_predicate_on_an_artifact_holds_for_what_its_row_says() {
    let (wheel, conda) = (wheel(), conda());
    let changed = |change: fn(&mut Thing)| {
        let mut thing = wheel.clone();
        change(&mut thing);
        thing
    };
    let undated = thing(Ecosystem::Pypi, "acme_x-1.5.tar.gz", "{}");
    let odd = thing(Ecosystem::Pypi, "acme_x-1.bulbasaur.tar.gz", r#"{"requires-python":"three"}"#);
    let removed = changed(|t| t.removed = true);
    let archived = changed(|t| t.project_status = Some("archived"));
    let odd_status = changed(|t| t.project_status = Some("sleeping"));
    let bundled = changed(|t| t.source = "bundles:abc");
    let new = changed(|t| t.first_seen = None);
    let unread = changed(|t| t.feeds_read = None);
    let unopened = changed(|t| t.licence = Licence::Unopened);
    let silent = changed(|t| t.licence = Licence::Nowhere);
    let vague = changed(|t| t.licence = Licence::Stated("see LICENSE"));
    let unknown = changed(|t| t.coverage = Coverage::Unknown);
    let lacking = changed(|t| t.lacks = Some("openssl >=3"));
    let yanked = thing(Ecosystem::Pypi, "acme_x-1.5.tar.gz", r#"{"yanked":"broken"}"#);
    let table: Vec<(&Thing, &str, Truth)> = vec![
        (&wheel, "{ ecosystem = [\"pypi\"] }", True),
        (&conda, "{ ecosystem = [\"pypi\"] }", False),
        (&wheel, "{ name = [\"b*\", \"Acme.X\"] }", True),
        (&wheel, "{ name = [\"b*\"] }", False),
        (&wheel, "{ reserved = true }", True),
        (&conda, "{ reserved = true }", False),
        (&wheel, "{ version = \">=1.2,<2\" }", True),
        (&wheel, "{ version = \"<1.5\" }", False),
        (&conda, "{ version = \"1.5.*|>3\" }", True),
        (&wheel, "{ version = \"1.5.*|>3\" }", Unknown),
        (&odd, "{ version = \">=1.2,<2\" }", Unknown),
        (&conda, "{ build = [\"*cuda*\"] }", True),
        (&conda, "{ build = [\"*cpu*\"] }", False),
        (&wheel, "{ build = [\"*\"] }", False),
        (&conda, "{ platform = [\"linux-*\"] }", True),
        (&wheel, "{ platform = [\"manylinux2014*\"] }", True),
        (&wheel, "{ platform = [\"win*\", \"any\"] }", False),
        (&undated, "{ platform = [\"any\"] }", True),
        (&conda, "{ python = [\"3.11\", \"3.13\"] }", True),
        (&conda, "{ python = [\"3.12\"] }", False),
        (&wheel, "{ python = [\"3.12\"] }", True),
        (&wheel, "{ python = [\"3.11\"] }", False),
        (&odd, "{ python = [\"3.11\"] }", Unknown),
        (&wheel, "{ kind = [\"wheel\"] }", True),
        (&wheel, "{ kind = [\"sdist\", \"conda\"] }", False),
        (&wheel, "{ size = { above = \"4.9 MB\" } }", True),
        (&wheel, "{ size = { above = 5000000 } }", False),
        (&wheel, "{ size = { at_most = \"5 MiB\" } }", True),
        (&conda, "{ size = { above = 1 } }", Unknown),
        (&wheel, "{ licence = [\"MIT\"] }", True),
        (&wheel, "{ licence = [\"Apache-2.0\"] }", False),
        (&unopened, "{ licence = [\"MIT\"] }", Unknown),
        (&silent, "{ licence = [\"MIT\"] }", Unknown),
        (&vague, "{ licence = [\"MIT\"] }", Unknown),
        (&wheel, "{ licence = \"unknown\" }", False),
        (&unopened, "{ licence = \"unknown\" }", Unknown),
        (&silent, "{ licence = \"unknown\" }", True),
        (&vague, "{ licence = \"unknown\" }", True),
        (&wheel, "{ licence_needs = [\"GPL-3.0\"] }", False),
        (&wheel, "{ licence_needs = [\"family:permissive\", \"family:strong-copyleft\"] }", True),
        (&silent, "{ licence_needs = [\"GPL-3.0\"] }", Unknown),
        (&wheel, "{ younger_than = \"11 days\" }", True),
        (&wheel, "{ younger_than = \"10 days\" }", False),
        (&undated, "{ younger_than = \"11 days\" }", Unknown),
        (&wheel, "{ older_than = \"10 days\" }", True),
        (&wheel, "{ older_than = \"11 days\" }", False),
        (&undated, "{ older_than = \"11 days\" }", Unknown),
        (&wheel, "{ first_seen_within = \"11 days\" }", True),
        (&wheel, "{ first_seen_within = \"10 days\" }", False),
        (&new, "{ first_seen_within = \"1 day\" }", True),
        (&yanked, "{ yanked = true }", True),
        (&wheel, "{ yanked = true }", False),
        (&removed, "{ removed = true }", True),
        (&wheel, "{ removed = true }", False),
        (&odd_status, "{ project_status = [\"archived\"] }", Unknown),
        (&archived, "{ project_status = [\"archived\", \"quarantined\"] }", True),
        (&wheel, "{ project_status = [\"archived\", \"quarantined\"] }", False),
        (&wheel, "{ project_status = [\"active\"] }", True),
        (&wheel, "{ attested = true }", True),
        (&undated, "{ attested = true }", False),
        (&undated, "{ attested = false }", True),
        (&bundled, "{ attested = false }", Unknown),
        (&conda, "{ attested = true }", Unknown),
        (&wheel, "{ source = [\"https://upstream.example/*\"] }", True),
        (&wheel, "{ source = [\"bundles:*\"] }", False),
        (&bundled, "{ source = [\"bundles:*\"] }", True),
        (&unknown, "{ coverage = [\"unknown\"] }", True),
        (&wheel, "{ coverage = [\"unknown\"] }", False),
        (&wheel, "{ feed_older_than = \"9 days\" }", True),
        (&wheel, "{ feed_older_than = \"10 days\" }", False),
        (&lacking, "{ dependency_denied = true }", True),
        (&wheel, "{ dependency_denied = true }", False),
        (&unread, "{ feed_older_than = \"10 days\" }", True),
    ];
    check(&table, About::Artifact);
}

#[test]
fn every_predicate_on_a_finding_holds_for_what_its_row_says() {
    let with = |finding: Finding| Thing { findings: vec![finding], ..wheel() };
    let (full, bare) = (with(finding()), with(bare()));
    let undecided = with(Finding { undecided: true, ..finding() });
    let malware = with(Finding { malicious: true, ..finding() });
    let redated = with(Finding { published_last: Some(day(-1)), ..finding() });
    let sure = with(Finding { automatic: false, ..finding() });
    let table: Vec<(&Thing, &str, Truth)> = vec![
        (&full, "{ cvss = { above = 6.4 } }", True),
        (&full, "{ cvss = { above = 6.5 } }", False),
        (&full, "{ cvss = { above = 7.0, version = \"2.0\" } }", True),
        (&full, "{ cvss = { above = 7.0, version = \"3.1\" } }", False),
        (&full, "{ cvss = { above = 7.0, version = \"4.0\" } }", Unknown),
        (&bare, "{ cvss = { above = 7.0 } }", Unknown),
        (&bare, "{ cvss = \"missing\" }", True),
        (&full, "{ cvss = \"missing\" }", False),
        (&full, "{ cvss_vector = [\"AV:N\", \"PR:N\"] }", True),
        (&full, "{ cvss_vector = [\"AV:N\", \"UI:N\"] }", False),
        (&full, "{ cvss_vector = [\"AT:N\"] }", Unknown),
        (&bare, "{ cvss_vector = [\"AV:N\"] }", Unknown),
        (&full, "{ severity = [\"medium\"] }", True),
        (&full, "{ severity = [\"high\", \"critical\"] }", False),
        (&bare, "{ severity = [\"high\", \"critical\"] }", Unknown),
        (&full, "{ status = [\"reported\"] }", True),
        (&full, "{ status = [\"cleared\", \"mitigated\"] }", False),
        (&full, "{ confidence = [\"automatic\"] }", True),
        (&sure, "{ confidence = [\"automatic\"] }", False),
        (&sure, "{ confidence = [\"verified\"] }", True),
        (&full, "{ kev = true }", True),
        (&bare, "{ kev = true }", False),
        (&full, "{ epss = { at_least = 0.2 } }", True),
        (&full, "{ epss = { above = 0.2 } }", False),
        (&bare, "{ epss = { above = 0.2 } }", Unknown),
        (&full, "{ epss_percentile = { at_least = 0.9 } }", True),
        (&full, "{ epss_percentile = { above = 0.9 } }", False),
        (&bare, "{ epss_percentile = { above = 0.9 } }", Unknown),
        (&malware, "{ malicious = true }", True),
        (&full, "{ malicious = true }", False),
        (&full, "{ cwe = [\"CWE-502\", \"79\"] }", True),
        (&full, "{ cwe = [\"CWE-502\"] }", False),
        (&bare, "{ cwe = [\"CWE-502\"] }", Unknown),
        (&full, "{ fix_available = true }", True),
        (&bare, "{ fix_available = true }", False),
        (&full, "{ advisory_younger_than = \"11 days\" }", True),
        (&full, "{ advisory_younger_than = \"10 days\" }", False),
        (&bare, "{ advisory_younger_than = \"10 days\" }", Unknown),
        (&full, "{ advisory_older_than = \"10 days\" }", True),
        (&full, "{ advisory_older_than = \"11 days\" }", False),
        // Where sources name different days it is certain only what holds of each.
        (&redated, "{ advisory_younger_than = \"5 days\" }", Unknown),
        (&redated, "{ advisory_younger_than = \"11 days\" }", True),
        (&redated, "{ advisory_older_than = \"5 days\" }", Unknown),
        (&bare, "{ advisory_older_than = \"11 days\" }", Unknown),
    ];
    check(&table, About::Finding);
    // Of what may not concern the artifact at all, nothing is more than unknown.
    assert_eq!(tried(&undecided, "{ confidence = [\"undecided\"] }"), Unknown);
    assert_eq!(tried(&undecided, "{ kev = true }"), Unknown);
    assert_eq!(tried(&undecided, "{ confidence = [\"verified\"] }"), False);
}

/// Tries each line, and its opposite; and sees that each predicate of this kind both holds and does not in some line.
fn check(table: &[(&Thing, &str, Truth)], about: About) {
    for (thing, when, expected) in table {
        assert_eq!(tried(thing, when), *expected, "{when}");
        if !when.contains("dependency_denied") {
            assert_eq!(tried(thing, &format!("{{ not = {when} }}")), !*expected, "not {when}");
        }
    }
    for predicate in table::PREDICATES.iter().filter(|p| p.about == about) {
        let lines =
            || table.iter().filter(|(_, when, _)| when.starts_with(&format!("{{ {} =", predicate.name)));
        for wanted in [True, False] {
            assert!(lines().any(|(_, _, truth)| *truth == wanted), "{} is never {wanted:?}", predicate.name);
        }
    }
}

#[test]
fn ready_policies_are_valid_and_do_what_their_names_say() {
    let outcome = |name: &str, thing: &Thing| {
        let policy = Policy::parse(ready::text(name).unwrap()).unwrap();
        assert_eq!((policy.name.as_str(), policy.description.is_empty()), (name, false));
        let actions = policy.rules.iter().filter_map(|rule| match of_rule(thing, rule) {
            True => Some(rule.action),
            Unknown => Some(rule.action.min(Action::Hold)),
            False => None,
        });
        actions.max().filter(|action| *action > Action::Warn).map_or("admit", Action::name)
    };
    let old = || Thing { first_seen: Some(day(-100)), feeds_read: Some(day(-1)), ..dated(-100) };
    let vulnerable = |score: f64, status: Status| {
        let score =
            Score { score: Tenths::new(score).unwrap(), vector: "CVSS:3.1/AV:L".into(), source: "N".into() };
        let found = Finding { score: Some(score), kev: false, epss: Some(0.01), status, ..finding() };
        Thing { findings: vec![found], ..old() }
    };
    let licensed = |text: &'static str| Thing { licence: Licence::Stated(text), ..old() };
    for (name, thing, expected) in [
        ("default", old(), "admit"),
        ("default", vulnerable(7.1, Status::Reported), "deny"),
        ("strict-fail-closed", old(), "admit"),
        ("strict-fail-closed", vulnerable(4.0, Status::Reported), "deny"),
        ("strict-fail-closed", vulnerable(3.9, Status::Reported), "admit"),
        ("strict-fail-closed", Thing { licence: Licence::Nowhere, ..old() }, "hold"),
        ("strict-fail-closed", Thing { first_seen: Some(day(-6)), ..old() }, "hold"),
        ("strict-fail-closed", Thing { coverage: Coverage::Unknown, ..old() }, "hold"),
        ("strict-fail-closed", Thing { project_status: Some("quarantined"), ..old() }, "deny"),
        ("healthcare-cvss7", vulnerable(7.0, Status::Reported), "deny"),
        ("healthcare-cvss7", vulnerable(6.9, Status::Reported), "admit"),
        ("healthcare-cvss7", vulnerable(7.0, Status::Cleared), "admit"),
        ("healthcare-cvss7", Thing { feeds_read: Some(day(-8)), ..old() }, "hold"),
        ("cool-off-14-days", old(), "admit"),
        (
            "cool-off-14-days",
            Thing { first_seen: Some(day(-1)), feeds_read: Some(day(-1)), ..dated(-1) },
            "hold",
        ),
        (
            "cool-off-14-days",
            Thing { first_seen: Some(day(-1)), feeds_read: Some(day(-1)), ..dated(-15) },
            "admit",
        ),
        ("cool-off-14-days", Thing { first_seen: Some(day(-13)), ..undated() }, "hold"),
        ("cool-off-14-days", Thing { first_seen: Some(day(-14)), ..undated() }, "admit"),
        ("licence-permissive", licensed("MIT"), "admit"),
        ("licence-permissive", licensed("MIT OR GPL-3.0-only"), "admit"),
        ("licence-permissive", licensed("MIT AND GPL-3.0-only"), "deny"),
        ("licence-permissive", licensed("MPL-2.0"), "hold"),
        // A choice between weak and strong copyleft is none for what is permissive.
        ("licence-permissive", licensed("MPL-2.0 OR GPL-3.0-only"), "hold"),
        ("licence-permissive", licensed("BSD-3-Clause AND AGPL-3.0-only"), "deny"),
        ("strict-fail-closed", licensed("NOASSERTION"), "hold"),
        ("licence-permissive", licensed("see LICENSE"), "hold"),
        ("curated-list-only", old(), "deny"),
    ] {
        assert_eq!(outcome(name, &thing), expected, "{name}");
    }
    assert_eq!(ready::READY.len(), 6, "each has a line above");
}

fn undated() -> Thing {
    Thing { feeds_read: Some(day(-1)), ..thing(Ecosystem::Pypi, "acme_x-1.5-py3-none-any.whl", "{}") }
}

fn dated(days: i64) -> Thing {
    let record = format!(r#"{{"upload-time":"{}"}}"#, day(days));
    thing(Ecosystem::Pypi, "acme_x-1.5-py3-none-any.whl", &record)
}

#[test]
fn what_opening_may_tell_is_opened() {
    let opens = |thing: &Thing, when: &str| {
        let policy = policy(when);
        let subject = subject(thing, &[]);
        policy.rules[0].may_open(&subject, None)
    };
    let unopened = Thing { licence: Licence::Unopened, ..undated() };
    for (thing, when, expected) in [
        (&unopened, "{ not = { licence = [\"MIT\"] } }", true),
        (&unopened, "{ licence = \"unknown\" }", true),
        (&unopened, "{ licence_needs = [\"GPL-3.0\"] }", true),
        // Only what is under both at once is released.
        (
            &unopened,
            "{ any = [{ not = { licence_needs = [\"MIT\"] } }, { not = { licence_needs = [\"ISC\"] } }] }",
            true,
        ),
        (&unopened, "{ size = { above = \"500 MB\" } }", true),
        (&unopened, "{ any = [{ size = { above = 1 } }, { licence_needs = [\"GPL-3.0\"] }] }", true),
        (&unopened, "{ younger_than = \"1 day\" }", false),
        (&unopened, "{ any = [{ younger_than = \"1 day\" }, { licence_needs = [\"GPL-3.0\"] }] }", false),
        (&undated(), "{ licence_needs = [\"GPL-3.0\"] }", false),
        (&wheel(), "{ size = { above = 1 } }", false),
    ] {
        assert_eq!(opens(thing, when), expected, "{when}");
    }
}

#[test]
fn a_form_that_renames_or_spells_a_number_otherwise_keeps_comments() {
    let before = "[policy]\nname = \"p\"\n\n# why\n[[rule]]\nname = \"old\" # its name\naction = \"deny\"\n[rule.when]\ncvss = { above = 7.0 } # as agreed\n";
    let mut form = form::of_text(before).unwrap();
    form["rule"][0]["when"]["cvss"]["above"] = 7.into();
    assert_eq!(form::to_text(&form, Some(before)).unwrap(), before);
    form["rule"][0]["name"] = "new".into();
    assert_eq!(form::to_text(&form, Some(before)).unwrap(), before.replace("old", "new"));
    form["policy"]["description"] = "d".into();
    let after = form::to_text(&form, Some(before)).unwrap();
    assert!(after.contains("# why") && after.contains("# as agreed"), "{after}");
}

/// Conditions of every kind, as text.
fn conditions() -> impl Strategy<Value = String> {
    let leaves: Vec<String> = table::PREDICATES
        .iter()
        // What cannot be negated cannot stand anywhere.
        .filter(|p| p.about != About::Conditions && p.name != "dependency_denied")
        .map(|p| format!("{{ {} = {} }}", p.name, p.example))
        .collect();
    prop::sample::select(leaves).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("{{ all = [{}] }}", parts.join(", "))),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("{{ any = [{}] }}", parts.join(", "))),
            inner.clone().prop_map(|part| format!("{{ not = {part} }}")),
            inner.clone().prop_map(|part| format!("{{ any_finding = {part} }}")),
            inner.prop_map(|part| format!("{{ no_finding = {part} }}")),
        ]
    })
}

fn text(rules: &[(String, &str)]) -> String {
    let mut out = "# ours\n[policy] # the head\nname = \"p\"   # its name\ndescription = \"d\"\n".to_owned();
    for (n, (when, action)) in rules.iter().enumerate() {
        out += &format!(
            "\n# why rule {n} is there\n[[rule]]\nname = 'r{n}'\naction = \"{action}\" # at once\nwhen = {when}\n"
        );
    }
    out
}

fn rules() -> impl Strategy<Value = Vec<(String, &'static str)>> {
    prop::collection::vec((conditions(), prop::sample::select(vec!["deny", "hold", "warn"])), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_to_form_to_text_is_the_identity(rules in rules()) {
        let text = text(&rules);
        let form = form::of_text(&text).unwrap();
        prop_assert_eq!(form::to_text(&form, Some(&text)).unwrap(), text.clone());
        // Without the text before it, everything but comments and spelling is there.
        let plain = form::to_text(&form, None).unwrap();
        prop_assert_eq!(form::of_text(&plain).unwrap(), form.clone());
        prop_assert_eq!(Policy::parse(&plain).unwrap(), Policy::parse(&text).unwrap());
    }

    #[test]
    fn a_form_that_was_changed_leaves_the_rest_of_the_text_as_it_was(
        rules in rules(), other in conditions(), at in 0usize..4, remove in any::<bool>()
    ) {
        let before = text(&rules);
        let mut form = form::of_text(&before).unwrap();
        let list = form["rule"].as_array_mut().unwrap();
        let at = at % list.len();
        if remove && list.len() > 1 {
            list.remove(at);
        } else {
            let new = form::of_text(&text(&[(other, "deny")])).unwrap();
            list[at]["when"] = new["rule"][0]["when"].clone();
        }
        let after = form::to_text(&form, Some(&before)).unwrap();
        prop_assert_eq!(form::of_text(&after).unwrap(), form);
        for n in (0..rules.len()).filter(|n| *n != at) {
            let comment = format!("# why rule {n} is there\n[[rule]]\nname = 'r{n}'\n");
            prop_assert!(after.contains(&comment), "{}\n{}", comment, after);
        }
        prop_assert!(after.starts_with("# ours\n[policy] # the head\nname = \"p\"   # its name\n"), "{}", after);
    }

    #[test]
    fn what_needs_an_advisory_is_false_of_whatever_nothing_is_known_against(when in conditions()) {
        let unopened = Thing { licence: Licence::Unopened, ..wheel() };
        let removed = Thing { removed: true, coverage: Coverage::Unknown, feeds_read: None, ..conda() };
        for thing in [wheel(), conda(), unopened, removed] {
            let thing = Thing { findings: Vec::new(), ..thing };
            if policy(&when).rules[0].when.needs_advisory() {
                prop_assert_eq!(tried(&thing, &when), False, "{}", when);
            }
        }
    }

    #[test]
    fn an_unknown_never_holds_by_being_negated(when in conditions()) {
        // Whatever is known of the artifact: not of unknown is unknown, and a rule and its opposite are never both false
        // where a predicate on the artifact is asked.
        let things = [wheel(), conda(), Thing { findings: vec![bare()], licence: Licence::Unopened, ..wheel() }];
        for thing in &things {
            let truth = tried(thing, &when);
            let negated = tried(thing, &format!("{{ not = {when} }}"));
            let binds = policy(&when).rules[0].when.binds_finding();
            if !binds {
                prop_assert_eq!(negated, !truth);
            } else if truth == Unknown && thing.findings.len() == 1 {
                prop_assert!(negated != False, "{}", when);
            }
        }
    }
}
