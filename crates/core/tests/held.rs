//! What a sender holds, as the station that received it judges it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use airlock_core::decision::{Approved, Ruling, State};
use airlock_core::held::{self, Hold};
use airlock_core::policy;
use airlock_core::verdict::{Judged, Verdict, builtin};

use common::*;

const SILENT: &str = "{ name = [\"nothing\"] }";

/// What a station holds of a world, for another one.
fn sent(world: &World) -> Vec<Hold> {
    let judgement = world.judgement();
    let judged = &judgement.artifacts[FILE];
    assert!(held::is_held(judged), "{judged:?}");
    held::holds(&judgement, judged)
}

/// A receiver whose own policy says nothing of a file that its sender holds because a vulnerability has no score.
fn receiver() -> World {
    let mut there = World::new(policy::DEFAULT);
    there.advisories = vec![advisory("CVE-1", None)];
    let mut here = World::new(&one_rule("deny", SILENT));
    here.facts.held.insert(FILE.to_owned(), sent(&there));
    here
}

fn approve(world: &World) -> Ruling {
    let weighed = world.facts.held[FILE].iter().map(|hold| hold.weighed(&State::default()).unwrap());
    let sha256 = world.facts.files[FILE].file.as_ref().map(|file| file.sha256);
    let file = Approved { artifact: FILE.into(), sha256, weighed: weighed.collect() };
    Ruling::Approve { scope: scope("x"), files: vec![file] }
}

#[test]
fn what_a_sender_holds_is_held_until_a_person_here_approves_it() {
    let mut world = receiver();
    let judged = world.judged();
    assert_eq!(judged.verdict, Verdict::Hold);
    let hit = &judged.rules[0];
    assert_eq!((hit.rule.as_str(), hit.advisory.as_deref()), (builtin::HELD_BY_SENDER, Some("CVE-1")));
    let told: Vec<&str> = judged.rules.iter().filter_map(|hit| hit.detail.as_deref()).collect();
    assert_eq!(told, ["there by cvss-above-7, not known to hold", "there by unscored"]);
    // Who receives it from here is told the same.
    assert!(held::is_held(&judged));
    // What nothing holds would be held by nothing on the other side.
    assert!(!held::is_held(&Judged { rules: Vec::new(), ..judged }));
    let approval = approve(&world);
    world.decide(approval, Some(day(5)));
    assert_eq!((world.verdict(), world.judged().flips_at), (Verdict::Admit, Some(day(5))));
    world.now = day(5);
    assert_eq!(world.verdict(), Verdict::Hold);
}

#[test]
fn an_approval_lifts_no_more_than_what_was_weighed_of_it() {
    for change in [
        |there: &mut World| there.advisories = vec![advisory("CVE-1", None), advisory("CVE-2", None)],
        |there: &mut World| {
            there.advisories[0].cwes = ["CWE-79".to_owned()].into();
        },
        |there: &mut World| there.feeds_read = None,
    ] {
        let mut world = receiver();
        let approval = approve(&world);
        world.decide(approval, None);
        assert_eq!(world.verdict(), Verdict::Admit);
        let mut there = World::new(policy::DEFAULT);
        there.advisories = vec![advisory("CVE-1", None)];
        change(&mut there);
        world.facts.held.insert(FILE.to_owned(), sent(&there));
        assert_eq!(world.verdict(), Verdict::Hold);
    }
    // Other bytes, and what is withdrawn, were not weighed either.
    let mut world = receiver();
    let approval = approve(&world);
    world.decide(approval, None);
    world.shard = Some(shard(r#"{"yanked":true}"#));
    assert_eq!(world.verdict(), Verdict::Hold);
}

#[test]
fn what_denies_here_denies_whatever_was_approved() {
    let mut world = receiver();
    world.policy = policy::Policy::parse(&one_rule("deny", "{ name = [\"x\"] }")).unwrap();
    let approval = approve(&world);
    world.decide(approval, None);
    assert_eq!(world.verdict(), Verdict::Deny);
}

#[test]
fn what_its_sender_comes_to_hold_is_offered_here_no_longer_than_there() {
    let mut world = World::new(&one_rule("deny", SILENT));
    world.previous = Some(world.judgement());
    assert_eq!(world.verdict(), Verdict::Admit);
    world.facts.held = receiver().facts.held;
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.review_by), (Verdict::Hold, None));
}

#[test]
fn what_is_denied_blocked_or_frozen_is_carried_to_nobody() {
    let mut denied = World::new(policy::DEFAULT);
    denied.advisories = vec![advisory("CVE-1", None), advisory("CVE-2", Some(9.0))];
    let mut rejected = World::new(policy::DEFAULT);
    rejected.advisories = vec![advisory("CVE-1", None)];
    rejected.decide(Ruling::Reject(scope("x")), None);
    let mut frozen = World::new(policy::DEFAULT);
    frozen.advisories = vec![advisory("CVE-1", None)];
    frozen.decide(Ruling::Freeze(scope("*")), Some(day(5)));
    let offered = World::new(policy::DEFAULT);
    for world in [denied, rejected, frozen, offered] {
        assert!(!held::is_held(&world.judged()), "{:?}", world.judged());
    }
}
