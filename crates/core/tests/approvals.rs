//! Approvals, rejections and waivers: what they lift, and what they leave.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use airlock_core::decision::{Approved, Ruling, State, Weighed};
use airlock_core::id::Digest;
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
        Weighed::of(rule, (finding, &found), &State::default(), hit.unknown)
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
    // An approval of a file is none of another.
    let mut file = approved();
    if let Ruling::Approve { files, .. } = &mut file.decisions.list[0].ruling {
        files[0].sha256 = Some(Digest::of(b"another"));
    }
    assert_eq!(file.verdict(), Verdict::Hold);
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
