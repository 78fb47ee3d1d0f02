//! Baselines: what they lift of what was in use before, and what they never do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use airlock_core::advisory::SliceEntry;
use airlock_core::canon::Canonical;
use airlock_core::decision::{Accepted, Ruling, Scope, State, Weighed};
use airlock_core::fact::Fault;
use airlock_core::id::Digest;
use airlock_core::policy::{self, Action, Policy};
use airlock_core::shard::Entry;
use airlock_core::verdict::Verdict;
use proptest::prelude::*;

use common::*;

/// Somebody accepts the file of a world, whatever keeps it out, also what no baseline may lift.
fn accept(world: &World) -> Ruling {
    let judgement = world.judgement();
    let judged = &judgement.artifacts[FILE];
    let found = judgement.findings_of(judged).into_owned();
    let weighed = judged.rules.iter().filter_map(|hit| {
        let rule = world.policy.rules.iter().find(|rule| rule.name == hit.rule)?;
        let finding = hit.advisory.as_ref().map(|id| found.iter().find(|f| f.advisory == *id).unwrap());
        Weighed::of(rule, (finding, &found), &State::default(), hit.unknown)
    });
    let sha256 = world.facts.files[FILE].file.as_ref().map(|file| file.sha256);
    let file = Accepted { sha256, weighed: weighed.collect() };
    Ruling::Baseline { scope: scope("*"), files: [(FILE.to_owned(), file)].into() }
}

fn malicious(id: &str) -> SliceEntry {
    SliceEntry { malicious: true, ..advisory(id, Some(9.0)) }
}

fn exploited(world: &mut World, id: &str) {
    world.kev.entries.insert(id.to_owned(), day(0));
}

/// A world whose file is denied and in a baseline until the fifth day.
fn accepted() -> World {
    let mut world = World::new(policy::DEFAULT);
    world.advisories = vec![advisory("CVE-1", Some(9.0)), advisory("CVE-2", None)];
    assert_eq!(world.verdict(), Verdict::Deny);
    let ruling = accept(&world);
    world.decide(ruling, Some(day(5)));
    world
}

#[test]
fn a_baseline_lifts_what_denies_and_what_holds_until_its_date() {
    let mut world = accepted();
    let judged = world.judged();
    assert_eq!((judged.verdict, judged.flips_at), (Verdict::Admit, Some(day(5))));
    assert!(judged.rules.iter().all(|hit| hit.waived_by.as_deref() == Some("d1")), "{:?}", judged.rules);
    world.now = day(5);
    assert_eq!(world.verdict(), Verdict::Deny);
    // Without an end it is none.
    let mut world = accepted();
    world.decisions.list[0].expires = None;
    assert_eq!(world.verdict(), Verdict::Deny);
    // Taken back.
    let mut world = accepted();
    world.decide(Ruling::Revoke { decision: "d1".into() }, None);
    assert_eq!(world.verdict(), Verdict::Deny);
}

#[test]
fn what_becomes_known_or_is_ruled_later_counts() {
    type Change = fn(&mut World);
    let later: [(&str, Change); 9] = [
        ("another vulnerability", |w| w.advisories.push(advisory("CVE-3", Some(8.0)))),
        ("another score", |w| w.advisories[0] = advisory("CVE-1", Some(9.1))),
        ("exploitation of what was weighed", |w| exploited(w, "CVE-1")),
        ("exploitation of something else", |w| {
            w.advisories.push(advisory("CVE-3", Some(1.0)));
            exploited(w, "CVE-3");
        }),
        ("malware", |w| w.advisories.push(malicious("MAL-1"))),
        ("a rule that says something else", |w| {
            w.policy = Policy::parse(&policy::DEFAULT.replace("above = 7", "above = 6")).unwrap();
        }),
        ("a rule that is new", |w| {
            let rule = "\n[[rule]]\nname = \"new\"\naction = \"deny\"\nwhen = { name = [\"x\"] }\n";
            w.policy = Policy::parse(&(policy::DEFAULT.to_owned() + rule)).unwrap();
        }),
        ("a block", |w| w.decide(Ruling::Block(scope("x")), None)),
        ("a rejection", |w| w.decide(Ruling::Reject(scope("x")), None)),
    ];
    for (what, change) in later {
        let mut world = accepted();
        change(&mut world);
        assert_eq!(world.verdict(), Verdict::Deny, "{what}");
    }
    // The record or the bytes say something else.
    let mut world = accepted();
    let record = Canonical::parse(&format!(r#"{{"hashes":{{"sha256":"{}"}}}}"#, Digest::of(b"y"))).unwrap();
    world.shard.as_mut().unwrap().entries.insert(FILE.into(), Entry { table: "files".into(), record });
    assert_eq!(world.verdict(), Verdict::Deny);
    let mut world = accepted();
    world.facts = facts(Some(Fault::Mismatch("another name".into())));
    assert_eq!(world.verdict(), Verdict::Deny);
    // Withdrawn.
    let mut world = accepted();
    world.shard = Some(shard(r#"{"yanked":true}"#));
    assert_eq!(world.verdict(), Verdict::Deny);
}

#[test]
fn a_baseline_is_of_one_file_at_one_place_in_one_scope() {
    let verdict = |change: &dyn Fn(&mut Scope, &mut Accepted)| {
        let mut world = accepted();
        let Ruling::Baseline { scope, files } = &mut world.decisions.list[0].ruling else { unreachable!() };
        change(scope, files.get_mut(FILE).unwrap());
        world.verdict()
    };
    assert_eq!(verdict(&|_, _| {}), Verdict::Admit);
    assert_eq!(verdict(&|_, file| file.sha256 = Some(Digest::of(b"another"))), Verdict::Deny);
    assert_eq!(verdict(&|_, file| file.sha256 = None), Verdict::Deny);
    assert_eq!(verdict(&|scope, _| scope.spec = "x>=2".into()), Verdict::Deny);
    assert_eq!(verdict(&|scope, _| scope.channel = "other".into()), Verdict::Deny);
}

#[test]
fn a_rule_on_any_finding_is_not_lifted_where_one_is_exploited() {
    let rule = |action: &str| one_rule(action, "{ any_finding = { cvss = { above = 7.0 } } }");
    for action in ["deny", "hold"] {
        for is_exploited in [false, true] {
            let mut world = World::new(&rule(action));
            world.advisories = vec![advisory("CVE-1", Some(9.0)), advisory("CVE-2", Some(2.0))];
            if is_exploited {
                exploited(&mut world, "CVE-2");
            }
            let before = world.verdict();
            assert_ne!(before, Verdict::Admit);
            let ruling = accept(&world);
            world.decide(ruling, Some(day(5)));
            assert_eq!(world.verdict() == before, is_exploited, "{action} {is_exploited}");
        }
    }
}

fn anything() -> impl Strategy<Value = Vec<(Option<u8>, bool, bool)>> {
    let one = (prop::option::of(0u8..=100), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..4)
}

fn world_of(known: &[(Option<u8>, bool, bool)]) -> World {
    let mut world = World::new(policy::DEFAULT);
    for (n, (score, is_malicious, is_exploited)) in known.iter().enumerate() {
        let id = format!("CVE-{n}");
        let entry = advisory(&id, score.map(|s| f64::from(s) / 10.0));
        world.advisories.push(SliceEntry { malicious: *is_malicious, ..entry });
        if *is_exploited {
            exploited(&mut world, &id);
        }
    }
    world
}

proptest! {
    #[test]
    fn a_baseline_lifts_nothing_of_what_is_exploited_or_malicious_and_all_else_that_it_weighed(known in anything()) {
        let mut world = world_of(&known);
        let before = world.judged();
        let ruling = accept(&world);
        world.decide(ruling, Some(day(5)));
        let after = world.judged();
        if known.iter().any(|(_, malicious, exploited)| *malicious || *exploited) {
            prop_assert_eq!(&after.rules, &before.rules);
            prop_assert_eq!(after.verdict, before.verdict);
        } else {
            prop_assert_eq!(after.verdict, Verdict::Admit);
            let strict = after.rules.iter().filter(|hit| hit.action >= Action::Hold);
            prop_assert!(strict.clone().all(|hit| hit.waived_by.is_some()));
        }
    }

    #[test]
    fn after_its_end_a_baseline_changes_nothing(known in anything(), days in 5i64..9) {
        let mut world = world_of(&known);
        let ruling = accept(&world);
        world.now = day(days);
        let without = world.judged();
        world.decide(ruling, Some(day(5)));
        prop_assert_eq!(world.judged(), without);
    }
}
