//! Judging from the outside: policies in three values, waivers, deadlines, blocks.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;

use airlock_core::canon::Canonical;
use airlock_core::decision::Ruling;
use airlock_core::fact::{Facts, Fault};
use airlock_core::id::Digest;
use airlock_core::judge::{self};
use airlock_core::policy::{self, Policy};
use airlock_core::severity::{Score, Tenths};
use airlock_core::shard::Entry;
use airlock_core::time::Span;
use airlock_core::verdict::{Judgement, Verdict};
use proptest::prelude::*;

mod common;

use common::*;

#[test]
fn the_default_policy_denies_above_seven_holds_what_has_no_score_and_admits_the_rest() {
    for (score, verdict) in [(Some(7.0), Verdict::Admit), (Some(7.1), Verdict::Deny), (None, Verdict::Hold)] {
        let mut world = World::new(policy::DEFAULT);
        world.advisories = vec![advisory("CVE-1", score)];
        assert_eq!(world.verdict(), verdict, "{score:?}");
    }
    assert_eq!(World::new(policy::DEFAULT).verdict(), Verdict::Admit);
}

#[test]
fn the_strictest_rule_wins_and_each_is_named() {
    let mut world = World::new(policy::DEFAULT);
    world.advisories = vec![advisory("CVE-1", Some(9.8)), advisory("CVE-2", None)];
    world.kev.entries.insert("CVE-2".into(), day(0));
    let judged = world.judged();
    assert_eq!(judged.verdict, Verdict::Deny);
    let rules: Vec<&str> = judged.deciding().map(|r| r.rule.as_str()).collect();
    assert_eq!(rules, ["cvss-above-7", "exploited"]);
    assert!(judged.rules.iter().any(|r| r.rule == "unscored"));
}

#[test]
fn a_station_without_advisories_holds_everything() {
    let mut world = World::new(policy::DEFAULT);
    world.feeds_read = None;
    assert_eq!(world.verdict(), Verdict::Hold);
    world.feeds_read = Some(day(-46));
    assert_eq!(world.verdict(), Verdict::Hold);
    world.feeds_read = Some(day(-44));
    let judged = world.judged();
    assert_eq!(judged.verdict, Verdict::Admit);
    assert_eq!(judged.flips_at, Some(day(1).after(Span::seconds(1))));
}

#[test]
fn an_unknown_never_admits_through_not() {
    // The file has no upload time, so that its age is unknown either way.
    for when in [
        "{ younger_than = \"14 days\" }",
        "{ not = { younger_than = \"14 days\" } }",
        "{ not = { not = { older_than = \"1 day\" } } }",
    ] {
        let world = World::new(&one_rule("deny", when));
        let judged = world.judged();
        assert_eq!(judged.verdict, Verdict::Hold, "{when}");
        assert!(judged.rules[0].unknown);
    }
    // So is the score of a finding without one.
    let mut world = World::new(&one_rule("deny", "{ not = { cvss = { below = 7.0 } } }"));
    world.advisories = vec![advisory("CVE-1", None)];
    assert_eq!(world.verdict(), Verdict::Hold);
}

#[test]
fn a_licence_is_that_of_the_record_else_of_the_artifact_and_else_unknown() {
    let mut world = World::new(&one_rule("deny", "{ not = { licence = [\"MIT\", \"BSD-3-Clause\"] } }"));
    // PyPI records state none, and the artifact was opened: nothing will ever tell.
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.rules[0].unopened), (Verdict::Hold, false));
    let say = |world: &mut World, licence: &str| {
        let fact = world.facts.files.get_mut(FILE).unwrap();
        fact.file.as_mut().unwrap().licence = Some(licence.to_owned());
    };
    say(&mut world, " mit");
    assert_eq!(world.verdict(), Verdict::Admit);
    say(&mut world, "GPL-3.0-only");
    assert_eq!(world.verdict(), Verdict::Deny);
    // A blank text states nothing, and a list without a licence is a mistake.
    say(&mut world, "  ");
    assert_eq!(world.verdict(), Verdict::Hold);
    for list in ["[]", "[\"MIT\", \" \"]", "\"MIT\""] {
        let when = format!("{{ licence = {list} }}");
        assert!(Policy::parse(&one_rule("deny", &when)).is_err(), "{list}");
    }
    // Before it was opened it may turn out either way.
    world.facts.files.get_mut(FILE).unwrap().file = None;
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.rules[0].unopened), (Verdict::Hold, true));
    // Which of several licences would release it is tried one by one.
    let only_mit = "{ any = [{ licence = [\"GPL-3.0-only\"] }, { not = { licence = [\"MIT\"] } }] }";
    world.policy = Policy::parse(&one_rule("deny", only_mit)).unwrap();
    assert!(world.judged().rules[0].unopened);
    // What it says could not release it from a rule that does not ask for it,
    world.policy = Policy::parse(&one_rule("deny", "{ younger_than = \"1 day\" }")).unwrap();
    assert!(!world.judged().rules[0].unopened);
    // nor from one that stays unknown whatever it says.
    let both = "{ any = [{ licence = [\"MIT\"] }, { younger_than = \"1 day\" }] }";
    world.policy = Policy::parse(&one_rule("deny", both)).unwrap();
    assert!(!world.judged().rules[0].unopened);
}

#[test]
fn predicates_in_one_rule_bind_to_the_same_finding() {
    let both = "{ all = [{ cvss = { above = 7.0 } }, { kev = true }] }";
    let mut world = World::new(&one_rule("deny", both));
    world.advisories = vec![advisory("CVE-1", Some(9.0)), advisory("CVE-2", Some(1.0))];
    world.kev.entries.insert("CVE-2".into(), day(0));
    assert_eq!(world.verdict(), Verdict::Admit);
    let apart = "{ all = [{ any_finding = { cvss = { above = 7.0 } } }, { any_finding = { kev = true } }] }";
    world.policy = Policy::parse(&one_rule("deny", apart)).unwrap();
    assert_eq!(world.verdict(), Verdict::Deny);
    world.policy = Policy::parse(&one_rule("deny", "{ not = { kev = true } }")).unwrap();
    assert_eq!(world.judged().rules.len(), 1, "binds to CVE-1 alone");
    world.advisories.clear();
    assert_eq!(world.verdict(), Verdict::Admit, "there is no finding of which it could be true");
    world.policy = Policy::parse(&one_rule("deny", "{ no_finding = { kev = true } }")).unwrap();
    assert_eq!(world.verdict(), Verdict::Deny);
}

#[test]
fn age_is_counted_from_the_record() {
    let mut world = World::new(&one_rule("hold", "{ younger_than = \"14 days\" }"));
    world.shard = Some(shard(&format!(r#"{{"upload-time":"{}"}}"#, day(-13))));
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.flips_at), (Verdict::Hold, Some(day(1))));
    world.now = day(1);
    assert_eq!(world.verdict(), Verdict::Admit);
}

#[test]
fn who_asks_for_no_more_is_told_the_same_but_for_how_long_it_stands() {
    let mut world = World::new(&one_rule("hold", "{ younger_than = \"14 days\" }"));
    world.shard = Some(shard(&format!(r#"{{"upload-time":"{}"}}"#, day(-13))));
    let mut full = world.judged();
    assert!(full.flips_at.take().is_some());
    world.looks_ahead = false;
    assert_eq!(world.judged(), full);
}

#[test]
fn a_waiver_lifts_one_rule_for_one_scope_until_one_date() {
    let mut world = World::new(policy::DEFAULT);
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    let waive = |rule: &str, spec: &str, advisory: Option<&str>| Ruling::Waive {
        rule: rule.into(),
        scope: scope(spec),
        advisory: advisory.map(str::to_owned),
    };
    for useless in [
        waive("unscored", "x", None),
        waive("cvss-above-7", "y", None),
        waive("cvss-above-7", "x>1", None),
        waive("cvss-above-7", "x", Some("CVE-2")),
    ] {
        let mut world = World::new(policy::DEFAULT);
        world.advisories = vec![advisory("CVE-1", Some(9.0))];
        world.decide(useless, None);
        assert_eq!(world.verdict(), Verdict::Deny);
    }
    world.decide(waive("cvss-above-7", "x==1", Some("CVE-1")), Some(day(10)));
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.flips_at), (Verdict::Admit, Some(day(10))));
    assert_eq!(judged.rules[0].waived_by.as_deref(), Some("d1"));
    // New knowledge re-blocks.
    world.advisories.push(advisory("CVE-2", Some(8.0)));
    assert_eq!(world.verdict(), Verdict::Deny);
    world.advisories.pop();
    world.now = day(10);
    assert_eq!(world.verdict(), Verdict::Deny, "it has ended");
    world.now = day(0);
    world.decide(Ruling::Revoke { decision: "d1".into() }, None);
    assert_eq!(world.verdict(), Verdict::Deny, "it was revoked");
}

/// A record that names the package and no version may concern it or not: a rule that would deny holds.
#[test]
fn what_may_concern_a_version_or_not_holds_it_and_does_not_deny_it() {
    let mut world = World::new(policy::DEFAULT);
    let mut silent = advisory("CVE-2021-1", Some(9.8));
    world.advisories = vec![silent.clone()];
    assert_eq!(world.judged().verdict, Verdict::Deny);
    silent.ranges.clear();
    world.advisories = vec![silent.clone()];
    let judged = world.judged();
    assert_eq!(judged.verdict, Verdict::Hold);
    assert!(judged.rules.iter().all(|hit| hit.unknown && hit.advisory.as_deref() == Some("CVE-2021-1")));
    // Neither does the contrary follow from it.
    let rule = |when: &str| {
        World::new(&format!(
            "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nwhen = {when}\n"
        ))
    };
    for (when, verdict) in [
        ("{ any_finding = { cvss = { above = 7.0 } } }", Verdict::Hold),
        ("{ no_finding = { cvss = { above = 7.0 } } }", Verdict::Hold),
        ("{ cvss = { below = 7.0 } }", Verdict::Admit),
    ] {
        let mut world = rule(when);
        world.advisories = vec![silent.clone()];
        assert_eq!(world.judged().verdict, verdict, "{when}");
    }
}

#[test]
fn a_block_denies_whatever_the_policy_says() {
    let mut world = World::new(policy::DEFAULT);
    world.decide(Ruling::Block(scope("x<2")), None);
    let judged = world.judged();
    assert_eq!(judged.verdict, Verdict::Deny);
    assert_eq!(judge::reason(&judged), "blocked: decision d1 by ada: because");
}

#[test]
fn what_is_published_and_becomes_held_stays_until_its_deadline() {
    let mut world = World::new(policy::DEFAULT);
    world.previous = Some(world.judgement());
    world.advisories = vec![advisory("CVE-1", None)];
    let judged = world.judged();
    assert_eq!(
        (judged.verdict, judged.review_by, judged.flips_at),
        (Verdict::Admit, Some(day(14)), Some(day(14)))
    );
    world.previous = Some(world.judgement());
    world.now = day(13);
    assert_eq!(world.judged().review_by, Some(day(14)), "judging again does not move the deadline");
    world.now = day(14);
    assert_eq!(world.verdict(), Verdict::Hold);
    // A denial does not wait.
    world.now = day(1);
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(world.verdict(), Verdict::Deny);
}

#[test]
fn bytes_that_are_missing_changed_or_contradict_the_record_are_not_offered() {
    let mut world = World::new(policy::DEFAULT);
    world.facts = Facts::default();
    assert_eq!(world.verdict(), Verdict::Hold);
    world.needs_bytes = false;
    assert_eq!(world.verdict(), Verdict::Admit, "before the fetch it is what would be admitted");
    world.facts = facts(Some(Fault::Mismatch("it is another package".into())));
    assert_eq!(world.verdict(), Verdict::Admit, "and a source that is whole again gets its chance");
    world.needs_bytes = true;
    assert_eq!(world.verdict(), Verdict::Deny);
    world.facts = facts(None);
    world.shard = Some(shard(&format!(r#"{{"hashes":{{"sha256":"{}"}}}}"#, Digest::of(b"other"))));
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.rules[0].rule.as_str()), (Verdict::Deny, "file-changed"));
}

#[test]
fn what_only_a_kept_snapshot_lists_is_judged_and_blocked() {
    let mut world = World::new(policy::DEFAULT);
    world.listed = world.shard.take();
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    let judgement = world.judgement();
    assert!(judgement.artifacts[FILE].gone);
    let settled = judge::settle([("x", &judgement)], |_, _| true);
    assert_eq!(settled.counts.deny, 0, "it is not counted among what the source has");
    assert!(settled.blocks.reason("x", FILE).unwrap().contains("CVE-1"));
    let unlisted = judge::settle([("x", &judgement)], |_, _| false);
    assert!(unlisted.blocks.is_empty());
}

#[test]
fn what_its_origin_denies_is_denied_wherever_a_kept_snapshot_lists_it_until_it_is_offered_there_again() {
    let mut there = World::new(policy::DEFAULT);
    there.advisories = vec![advisory("CVE-1", Some(9.0))];
    let (denies, silent) = (there.judgement(), Judgement { artifacts: BTreeMap::new(), ..there.judgement() });
    there.advisories.clear();
    let admits = there.judgement();

    // Nothing is known of it here.
    let mut here = World::new(policy::DEFAULT);
    here.sent = Some(denies.clone());
    assert_eq!(here.verdict(), Verdict::Admit, "what the bundle brings is judged here");
    here.listed = here.shard.take();
    for sent in [&admits, &silent] {
        here.sent = Some(sent.clone());
        assert_eq!(here.verdict(), Verdict::Admit, "that it is sent no more denies nothing");
    }
    here.sent = Some(denies.clone());
    let judgement = here.judgement();
    let judged = &judgement.artifacts[FILE];
    assert_eq!(
        (judged.verdict, judge::reason(judged)),
        (Verdict::Deny, "denied-at-origin: cvss-above-7: CVE-1".to_owned())
    );
    assert!(judge::settle([("x", &judgement)], |_, _| true).blocks.reason("x", FILE).is_some());
    // No grace, no deadline.
    assert_eq!((judged.denied_from, judged.review_by), (None, None));

    here.previous = Some(judgement);
    let mut holds = denies.clone();
    holds.artifacts.values_mut().for_each(|judged| judged.verdict = Verdict::Hold);
    for sent in [Some(silent), None, Some(holds), Some(denies), Some(admits.clone())] {
        here.sent = sent;
        assert_eq!(here.verdict(), Verdict::Deny);
    }
    // It is offered there again.
    here.shard = here.listed.clone();
    assert_eq!(here.verdict(), Verdict::Admit);
}

#[test]
fn a_bad_record_is_denied_by_name_and_harms_no_other() {
    let mut world = World::new(policy::DEFAULT);
    if let Some(shard) = &mut world.shard {
        shard
            .entries
            .insert("x.exe".into(), Entry { table: "files".into(), record: Canonical::parse("{}").unwrap() });
    }
    let judgement = world.judgement();
    assert_eq!(judgement.artifacts["x.exe"].rules[0].rule, "bad-record");
    assert_eq!(judgement.artifacts[FILE].verdict, Verdict::Admit);
}

#[test]
fn faults_in_a_policy_are_named_with_their_place_and_the_nearest_word() {
    let cases: BTreeMap<&str, &str> = [
        ("{ cvs = { above = 7.0 } }", "line 6, column 10: unknown predicate `cvs`; did you mean `cvss`?"),
        ("{ cvss = { abov = 7.0 } }", "line 6, column 19: unknown bound `abov`; did you mean `above`?"),
        ("{ cvss = { above = \"7\" } }", "line 6, column 27: expected a number, found a string"),
        ("{ status = [\"reportd\"] }", "line 6, column 20: unknown value `reportd`; did you mean `reported`?"),
        ("{ kev = true, cvss = \"missing\" }", "line 6, column 8: a condition holds exactly one predicate; join several with `all` or `any`"),
        ("{ feed_older_than = \"45\" }", "line 6, column 28: `45` is not a length of time; write a number and a unit, such as `14 days` or `12 hours`"),
        ("{ all = [] }", "line 6, column 16: the list is empty, so that it says nothing"),
    ]
    .into();
    for (when, message) in cases {
        assert_eq!(Policy::parse(&one_rule("deny", when)).unwrap_err().to_string(), message, "{when}");
    }
    let unknown_key =
        one_rule("deny", "{ kev = true }").replace("[policy]", "[policy]\nhold_dedline = \"1 day\"");
    assert!(Policy::parse(&unknown_key).unwrap_err().to_string().contains("did you mean `hold_deadline`?"));
    assert!(Policy::parse("[policy]\nname = \"p\"\n").unwrap_err().to_string().contains("no [[rule]]"));
    let deep = format!("{}{{ kev = true }}{}", "{ not = ".repeat(40), " }".repeat(40));
    assert!(Policy::parse(&one_rule("deny", &deep)).unwrap_err().to_string().contains("deeper"));
}

/// Conditions as text, so that what is tested is what people write.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("{ cvss = \"missing\" }".to_owned()),
        (0u32..10).prop_map(|n| format!("{{ cvss = {{ above = {n}.0 }} }}")),
        Just("{ kev = true }".to_owned()),
        Just("{ status = [\"reported\"] }".to_owned()),
        Just("{ younger_than = \"5 days\" }".to_owned()),
        Just("{ epss = { above = 0.5 } }".to_owned()),
        Just("{ name = [\"x\"] }".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|p| format!("{{ all = [{}] }}", p.join(", "))),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|p| format!("{{ any = [{}] }}", p.join(", "))),
            inner.clone().prop_map(|p| format!("{{ not = {p} }}")),
            inner.clone().prop_map(|p| format!("{{ any_finding = {p} }}")),
            inner.prop_map(|p| format!("{{ no_finding = {p} }}")),
        ]
    })
}

fn rules(conditions: &[(String, &str)]) -> String {
    let mut text = "[policy]\nname = \"p\"\n".to_owned();
    for (i, (when, action)) in conditions.iter().enumerate() {
        text += &format!("[[rule]]\nname = \"r{i}\"\naction = \"{action}\"\nwhen = {when}\n");
    }
    text
}

proptest! {
    #[test]
    fn adding_a_rule_never_makes_a_verdict_milder_and_order_never_changes_one(
        a in condition(), b in condition(), scored in any::<Option<u8>>(), exploited in any::<bool>(), action in prop_oneof![Just("deny"), Just("hold"), Just("warn")],
    ) {
        let mut world = World::new(&rules(&[(a.clone(), "hold")]));
        world.advisories = vec![advisory("CVE-1", scored.map(|s| f64::from(s % 11))), advisory("CVE-2", Some(5.0))];
        if exploited {
            world.kev.entries.insert("CVE-1".into(), day(0));
        }
        let before = world.verdict();
        world.policy = Policy::parse(&rules(&[(a.clone(), "hold"), (b.clone(), action)])).unwrap();
        let after = world.verdict();
        prop_assert!(after >= before);
        world.policy.rules.reverse();
        prop_assert_eq!(world.verdict(), after);
    }

    #[test]
    fn a_policy_file_of_any_bytes_is_answered_without_a_panic(text in "\\PC{0,200}|(\\[policy\\]|name|when|=|\\{|\\}|\"|\n| |cvss|all|\\[|\\]){0,40}") {
        let _ = Policy::parse(&text);
    }
}

#[test]
fn the_score_that_a_policy_prefers_counts() {
    let mut entry = advisory("CVE-1", None);
    let score = |score: f64, vector: &str, source: &str| Score {
        score: Tenths::new(score).unwrap(),
        vector: vector.into(),
        source: source.into(),
    };
    entry.scores = vec![score(6.5, "CVSS:3.1/x", "NVD (nvd)"), score(9.8, "CVSS:4.0/x", "GHSA-1")];
    let verdict = |scores: &str| {
        let policy = policy::DEFAULT.replace("hold_deadline", &format!("{scores}\nhold_deadline"));
        let mut world = World::new(&policy);
        world.advisories = vec![entry.clone()];
        let judgement = world.judgement();
        let finding = &judgement.findings["1.0"][0];
        (judgement.artifacts[FILE].verdict, finding.score.clone().unwrap().source, finding.preferred.clone())
    };
    assert_eq!(verdict(""), (Verdict::Deny, "GHSA-1".into(), None));
    let by = |text: &str| Some(text.to_owned());
    assert_eq!(verdict("scores = [\"NVD*\"]"), (Verdict::Admit, "NVD (nvd)".into(), by("NVD*")));
    assert_eq!(verdict("scores = [\"* 4.0\", \"NVD*\"]"), (Verdict::Deny, "GHSA-1".into(), by("* 4.0")));
    assert_eq!(verdict("scores = [\"OTHER\"]"), (Verdict::Deny, "GHSA-1".into(), None));
    let error =
        Policy::parse(&policy::DEFAULT.replace("hold_deadline", "scores = [7]\nhold_deadline")).unwrap_err();
    assert!(error.to_string().contains("expected a text"), "{error}");
}
