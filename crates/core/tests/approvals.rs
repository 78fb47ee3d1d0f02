//! Approvals, rejections and waivers: what they lift, and what they leave.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use airlock_core::decision::{Approved, Ruling, Scope, State, Weighed};
use airlock_core::id::Digest;
use airlock_core::matching::{Finding, Status};
use airlock_core::policy::{self, Policy};
use airlock_core::verdict::Verdict;
use airlock_core::version::{Event, Range};
use proptest::prelude::*;

use common::*;

/// Somebody approves the file of a world, as it is held.
fn approve(world: &World) -> Ruling {
    let judgement = world.judgement();
    let judged = &judgement.artifacts[FILE];
    let found = judgement.findings_of(judged).into_owned();
    let weighed = judged.rules.iter().map(|hit| {
        let rule = world.policy.rules.iter().find(|rule| rule.name == hit.rule).unwrap();
        let finding = hit.advisory.as_ref().map(|id| found.iter().find(|f| f.advisory == *id).unwrap());
        Weighed::of(rule, (finding, &found), &State::default(), hit.unknown).unwrap()
    });
    let sha256 = world.facts.files[FILE].file.as_ref().map(|file| file.sha256);
    let file = Approved { artifact: FILE.into(), sha256, weighed: weighed.collect() };
    Ruling::Approve { scope: scope("x"), files: vec![file] }
}

#[test]
fn an_approval_lifts_what_was_weighed_and_nothing_that_denies_or_comes_later() {
    let mut world = World::new(policy::DEFAULT);
    world.advisories = vec![advisory("CVE-1", None)];
    assert_eq!(world.verdict(), Verdict::Hold);
    let approved = approve(&world);
    world.decide(approved, Some(day(5)));
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.flips_at), (Verdict::Admit, Some(day(5))));
    // Another vulnerability, another rule, or one that denies was not weighed.
    world.advisories = vec![advisory("CVE-1", None), advisory("CVE-2", None)];
    assert_eq!(world.verdict(), Verdict::Hold);
    world.advisories = vec![advisory("CVE-1", None)];
    world.feeds_read = None;
    assert_eq!(world.verdict(), Verdict::Hold);
    world.feeds_read = Some(day(0));
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(world.verdict(), Verdict::Deny);
    world.advisories = vec![advisory("CVE-1", None)];
    world.now = day(5);
    assert_eq!(world.verdict(), Verdict::Hold, "it has ended");
    // What is rejected is denied, whatever else was approved.
    world.now = day(0);
    world.decide(Ruling::Reject(scope("x==1")), None);
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.rules[0].rule.as_str()), (Verdict::Deny, "rejected"));
}

#[test]
fn an_approval_is_void_when_what_was_weighed_is_otherwise() {
    // What else is known of the same vulnerability, another rule of the name, and another file were not weighed either.
    let approved = || {
        let mut world = World::new(policy::DEFAULT);
        world.advisories = vec![advisory("CVE-1", None)];
        let approved = approve(&world);
        world.decide(approved, None);
        assert_eq!(world.verdict(), Verdict::Admit);
        world
    };
    let mut fixed = approved();
    fixed.advisories[0].ranges =
        vec![Range { events: vec![Event::Introduced("0".into()), Event::Fixed("2".into())] }];
    assert_eq!(fixed.verdict(), Verdict::Hold);
    let mut renamed = approved();
    let other = policy::DEFAULT.replace("cvss = \"missing\"", "fix_available = false");
    renamed.policy = Policy::parse(&other).unwrap();
    assert_eq!(renamed.verdict(), Verdict::Hold);
    let mut scored = World::new(&one_rule("hold", "{ cvss = { above = 3.0 } }"));
    scored.advisories = vec![advisory("CVE-1", None)];
    let ruling = approve(&scored);
    scored.decide(ruling, None);
    assert_eq!(scored.verdict(), Verdict::Admit);
    scored.advisories = vec![advisory("CVE-1", Some(9.8))];
    assert_eq!(scored.verdict(), Verdict::Hold);
    // A rule on any finding was weighed against those that there were.
    let mut any = World::new(&one_rule("hold", "{ any_finding = { status = [\"reported\"] } }"));
    any.advisories = vec![advisory("CVE-1", Some(5.0))];
    let ruling = approve(&any);
    any.decide(ruling, None);
    assert_eq!(any.verdict(), Verdict::Admit);
    any.advisories.push(advisory("CVE-2", Some(1.0)));
    assert_eq!(any.verdict(), Verdict::Hold);
    // So was one that holds for the file itself, or for a finding.
    let mut mixed =
        World::new(&one_rule("hold", "{ any = [{ kind = [\"wheel\"] }, { cvss = { above = 7.0 } }] }"));
    let ruling = approve(&mixed);
    mixed.decide(ruling, None);
    assert_eq!(mixed.verdict(), Verdict::Admit);
    mixed.advisories.push(advisory("CVE-9", Some(9.9)));
    assert_eq!(mixed.verdict(), Verdict::Hold);
    // The file itself may come to be in another state.
    let mut state = approved();
    state.shard = Some(shard(r#"{"yanked":"broken"}"#));
    assert_eq!(state.verdict(), Verdict::Hold);
}

#[test]
fn a_rule_on_any_finding_is_weighed_against_all_of_them_also_where_it_rests_on_one() {
    let when = "{ all = [{ cvss = \"missing\" }, { any_finding = { cvss = { above = 4.0 } } }] }";
    let mut world = World::new(&one_rule("hold", when));
    world.advisories = vec![advisory("CVE-1", None), advisory("CVE-2", Some(5.0))];
    let ruling = approve(&world);
    world.decide(ruling, None);
    assert_eq!(world.verdict(), Verdict::Admit);
    world.advisories.push(advisory("CVE-3", Some(9.9)));
    assert_eq!(world.verdict(), Verdict::Hold);
}

#[test]
fn everything_that_is_weighed_counts_and_what_says_nothing_new_does_not() {
    let mut world = World::new(policy::DEFAULT);
    world.advisories = vec![advisory("CVE-1", None)];
    let judgement = world.judgement();
    let judged = &judgement.artifacts[FILE];
    let found = judgement.findings_of(judged).into_owned();
    let rule = world.policy.rules.iter().find(|rule| rule.name == judged.rules[0].rule).unwrap();
    let weighed = |change: &dyn Fn(&mut Finding, &mut State<'static>)| {
        let (mut finding, mut state) = (found[0].clone(), State::default());
        change(&mut finding, &mut state);
        Weighed::of(rule, (Some(&finding), std::slice::from_ref(&finding)), &state, false).unwrap()
    };
    let as_it_was = weighed(&|_, _| {});
    type Change = fn(&mut Finding, &mut State<'static>);
    let counts: [(&str, Change); 16] = [
        ("yanked", |_, s| s.yanked = true),
        ("gone", |_, s| s.gone = true),
        ("project status", |_, s| s.project_status = Some("archived")),
        ("lacks", |_, s| s.lacks = Some("y >=2")),
        ("aliases", |f, _| _ = f.aliases.insert("GHSA-1".into())),
        ("scores", |f, _| f.scores = advisory("CVE-1", Some(3.0)).scores),
        ("the score", |f, _| f.score = advisory("CVE-1", Some(3.0)).scores.pop()),
        ("weakness", |f, _| _ = f.cwes.insert("CWE-79".into())),
        ("fix", |f, _| _ = f.fixed.insert("2".into())),
        ("exploited", |f, _| f.kev = true),
        ("malicious", |f, _| f.malicious = true),
        ("undecided", |f, _| f.undecided = true),
        ("state", |f, _| f.status = Status::Active),
        ("automatic", |f, _| f.automatic = !f.automatic),
        ("record", |f, _| f.evidence[0].record = "GHSA-2".into()),
        ("key", |f, _| f.evidence[0].via = "osv:PyPI/y".into()),
    ];
    for (what, change) in counts {
        assert_ne!(weighed(&change), as_it_was, "{what}");
    }
    let said_again: [(&str, Change); 3] = [
        ("a project of which nothing is said", |_, s| s.project_status = Some("active")),
        ("who else maps the package", |f, _| f.evidence[0].via += " (conda x, by A and B)"),
        ("words", |f, _| f.summary = "said better".into()),
    ];
    for (what, change) in said_again {
        assert_eq!(weighed(&change), as_it_was, "{what}");
    }
}

#[test]
fn an_approval_is_of_one_file_at_one_place_in_one_scope() {
    let approved = |change: &dyn Fn(&mut Scope, &mut Approved)| {
        let mut world = World::new(policy::DEFAULT);
        world.advisories = vec![advisory("CVE-1", None)];
        let Ruling::Approve { mut scope, mut files } = approve(&world) else { unreachable!() };
        change(&mut scope, &mut files[0]);
        world.decide(Ruling::Approve { scope, files }, None);
        world.verdict()
    };
    assert_eq!(approved(&|_, _| {}), Verdict::Admit);
    assert_eq!(approved(&|_, file| file.sha256 = Some(Digest::of(b"another"))), Verdict::Hold);
    // What it is was not known when somebody looked.
    assert_eq!(approved(&|_, file| file.sha256 = None), Verdict::Hold);
    assert_eq!(approved(&|_, file| file.artifact = "y-1.0-py3-none-any.whl".into()), Verdict::Hold);
    assert_eq!(approved(&|scope, _| scope.spec = "x>=2".into()), Verdict::Hold);
    assert_eq!(approved(&|scope, _| scope.channel = "other".into()), Verdict::Hold);
}

proptest! {
    #[test]
    fn a_waiver_never_touches_what_it_does_not_name(
        scores in prop::collection::vec(prop::option::of(0u8..=100), 0..4),
        waived in prop::sample::select(vec!["malicious", "cvss-above-7", "exploited", "unscored"]),
        id in 0usize..5,
    ) {
        let mut world = World::new(policy::DEFAULT);
        let scored = scores.iter().enumerate();
        world.advisories = scored.map(|(n, s)| advisory(&format!("CVE-{n}"), s.map(|s| f64::from(s) / 10.0))).collect();
        let before = world.judged();
        let named = format!("CVE-{id}");
        let ruling = Ruling::Waive { rule: waived.into(), scope: scope("x"), advisory: Some(named.clone()) };
        world.decide(ruling, None);
        let after = world.judged();
        let is_named = |hit: &&airlock_core::verdict::RuleHit| hit.rule == waived && hit.advisory.as_deref() == Some(named.as_str());
        for hit in &before.rules {
            let same = after.rules.iter().find(|h| h.rule == hit.rule && h.advisory == hit.advisory).unwrap();
            prop_assert_eq!(same.waived_by.is_some(), is_named(&hit), "{:?}", hit);
        }
    }
}
