//! A grace: what is published stays until its end, and nothing else does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use airlock_core::advisory::Slice;
use airlock_core::assess::Basis;
use airlock_core::canon::Canonical;
use airlock_core::decision::{Approved, Ruling, State, Weighed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Fault;
use airlock_core::judge;
use airlock_core::matching::{self, Status};
use airlock_core::policy::Policy;
use airlock_core::time::Span;
use airlock_core::verdict::{Judged, Verdict};
use proptest::prelude::*;

mod common;

use common::*;

/// A policy of rules: name, action, grace in days, condition.
fn policy(rules: &[(&str, &str, Option<i64>, &str)]) -> String {
    let mut text = "[policy]\nname = \"p\"\n".to_owned();
    for (name, action, grace, when) in rules {
        let grace = grace.map_or(String::new(), |days| format!("grace = \"{days} days\"\n"));
        text += &format!("[[rule]]\nname = \"{name}\"\naction = \"{action}\"\n{grace}when = {when}\n");
    }
    text
}

const ABOVE: &str = "{ cvss = { above = 7.0 } }";

/// A world in which the file is published, and something becomes known.
fn published(text: &str) -> World {
    let mut world = World::new(text);
    world.previous = Some(world.judgement());
    assert_eq!(world.verdict(), Verdict::Admit);
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    world
}

fn says(judged: &Judged) -> (Verdict, Option<i64>, Option<i64>) {
    let days = |time: Option<airlock_core::time::Time>| time.map(|t| t.since(day(0)).as_seconds() / 86_400);
    (judged.verdict, days(judged.denied_from), days(judged.flips_at))
}

#[test]
fn what_is_published_stays_until_the_grace_ends_and_goes_by_itself() {
    let mut world = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    let judged = world.judged();
    assert_eq!(says(&judged), (Verdict::Admit, Some(7), Some(7)));
    let leaving = judge::leaving(&judged).unwrap();
    assert_eq!((leaving.from, &*leaving.reason), (day(7), "r: CVE-1"));
    // Judging again moves nothing.
    for now in [0, 1, 6] {
        world.now = day(now);
        world.previous = Some(world.judgement());
        assert_eq!(says(&world.judged()), (Verdict::Admit, Some(7), Some(7)), "{now}");
    }
    world.now = day(7);
    assert_eq!(says(&world.judged()), (Verdict::Deny, None, None));
    // It began once, and does not begin again.
    world.previous = Some(world.judgement());
    assert_eq!(says(&world.judged()), (Verdict::Deny, None, None));
    // What is known no longer gives back what it took; that it was so is forgotten when a grace has passed.
    world.now = day(3);
    world.previous = Some({
        let mut before = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
        before.now = day(0);
        before.judgement()
    });
    world.advisories = vec![];
    assert_eq!(says(&world.judged()), (Verdict::Admit, None, Some(10)));
}

#[test]
fn the_block_set_says_what_leaves_and_blocks_it_when_it_left() {
    let mut world = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    let settled = |world: &World| judge::settle([("x", &world.judgement())], |_, _| true);
    let first = settled(&world);
    assert!(first.blocks.is_empty());
    assert_eq!((first.blocks.leaving["x"][FILE].from, first.valid_until), (day(7), Some(day(7))));
    world.previous = Some(world.judgement());
    world.now = day(7);
    let then = settled(&world);
    assert!(then.blocks.leaving.is_empty());
    assert_eq!(then.blocks.reason("x", FILE), Some("r: CVE-1"));
}

#[test]
fn what_is_not_published_exploited_malicious_blocked_or_damaged_waits_for_nothing() {
    let graced = policy(&[("r", "deny", Some(7), ABOVE)]);
    let mut new = World::new(&graced);
    new.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(new.verdict(), Verdict::Deny);
    new.previous = Some(new.judgement());
    assert_eq!(new.verdict(), Verdict::Deny);

    let mut exploited = published(&graced);
    exploited.kev.entries.insert("CVE-1".into(), day(0));
    assert_eq!(exploited.verdict(), Verdict::Deny);
    let mut malicious = published(&graced);
    malicious.advisories[0].malicious = true;
    assert_eq!(malicious.verdict(), Verdict::Deny);
    // A rule on the artifact waits for none that is exploited either.
    let mut whole =
        published(&policy(&[("r", "deny", Some(7), "{ any_finding = { cvss = { above = 7.0 } } }")]));
    assert_eq!(says(&whole.judged()), (Verdict::Admit, Some(7), Some(7)));
    whole.kev.entries.insert("CVE-1".into(), day(0));
    assert_eq!(whole.verdict(), Verdict::Deny);
    // Another finding that is exploited, and that no rule denies, is another matter.
    let mut other = published(&graced);
    other.advisories.push(advisory("CVE-2", Some(5.0)));
    other.kev.entries.insert("CVE-2".into(), day(0));
    assert_eq!(other.verdict(), Verdict::Admit);

    let mut blocked = published(&graced);
    blocked.decide(Ruling::Block(scope("x")), None);
    assert_eq!(blocked.verdict(), Verdict::Deny);
    let mut damaged = published(&graced);
    damaged.facts = facts(Some(Fault::Mismatch("no archive".into())));
    assert_eq!(damaged.verdict(), Verdict::Deny);
    let mut lost = published(&graced);
    lost.facts.files.get_mut(FILE).unwrap().file = None;
    assert_eq!(lost.verdict(), Verdict::Deny);
    // What its index took away is offered by kept snapshots only.
    let mut gone = published(&graced);
    gone.listed = gone.shard.take();
    assert_eq!(says(&gone.judged()), (Verdict::Deny, None, None), "at once, and not with the next judgement");
    gone.previous = Some(gone.judgement());
    assert_eq!(gone.verdict(), Verdict::Deny);
    // A rule that has no grace acts at once, whatever other rules have.
    let both = published(&policy(&[
        ("r", "deny", Some(7), ABOVE),
        ("s", "deny", None, "{ cvss = { above = 8.0 } }"),
    ]));
    assert_eq!(both.verdict(), Verdict::Deny);
}

#[test]
fn of_several_graces_the_shortest_counts_and_a_deadline_never_moves_away() {
    let rules =
        policy(&[("r", "deny", Some(7), ABOVE), ("s", "deny", Some(3), "{ cvss = { above = 8.0 } }")]);
    let mut world = published(&rules);
    assert_eq!(says(&world.judged()), (Verdict::Admit, Some(3), Some(3)));
    world.advisories = vec![advisory("CVE-1", Some(7.5))];
    assert_eq!(says(&world.judged()), (Verdict::Admit, Some(7), Some(7)));
    world.previous = Some(world.judgement());
    world.now = day(2);
    world.advisories.push(advisory("CVE-2", Some(9.0)));
    assert_eq!(says(&world.judged()), (Verdict::Admit, Some(5), Some(5)));
    world.previous = Some(world.judgement());
    world.advisories.pop();
    assert_eq!(says(&world.judged()), (Verdict::Admit, Some(5), Some(5)), "what was announced stays");
}

#[test]
fn a_waiver_ends_the_matter_and_a_hold_has_its_own_deadline() {
    let mut waived = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    waived.decide(
        Ruling::Waive { rule: "r".into(), scope: scope("x"), advisory: Some("CVE-1".into()) },
        Some(day(3)),
    );
    let judged = waived.judged();
    assert_eq!((judged.verdict, judged.denied_from, judged.flips_at), (Verdict::Admit, None, Some(day(3))));
    // Beside a rule that holds, the earlier end counts, and denying is the end of it.
    for (grace, hold) in [(7, 3), (3, 7)] {
        let text =
            policy(&[("r", "deny", Some(grace), ABOVE), ("h", "hold", None, "{ cvss = { above = 6.0 } }")]);
        let text =
            text.replace("name = \"p\"\n", &format!("name = \"p\"\nhold_deadline = \"{hold} days\"\n"));
        let mut world = published(&text);
        let judged = world.judged();
        let first = Some(day(grace.min(hold)));
        assert_eq!((judged.verdict, judged.flips_at), (Verdict::Admit, first));
        assert_eq!((judged.denied_from, judged.review_by), (Some(day(grace)), Some(day(hold))));
        world.previous = Some(world.judgement());
        world.now = day(3);
        assert_eq!(world.verdict(), Verdict::Deny);
    }
}

#[test]
fn a_grace_stands_in_rules_that_deny_and_ask_for_nothing_grave() {
    let parse = |action: &str, grace: &str, when: &str| {
        Policy::parse(&format!(
            "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"{action}\"\ngrace = {grace}\nwhen = {when}\n"
        ))
    };
    let policy = parse("deny", "\"7 days\"", ABOVE).unwrap();
    assert_eq!(policy.rules[0].grace, Some(Span::days(7)));
    assert!(policy.plain().contains(
        "What is published already stays for 7 days more, unless what denies it is exploited or malicious."
    ));
    assert!(parse("deny", "\"7 days\"", "{ all = [{ cvss = { above = 7.0 } }, { kev = false }] }").is_ok());
    for (action, grace, when, says) in [
        ("hold", "\"7 days\"", ABOVE, "only a rule that denies"),
        ("warn", "\"7 days\"", ABOVE, "only a rule that denies"),
        ("deny", "\"7 days\"", "{ kev = true }", "exploited or malicious"),
        (
            "deny",
            "\"7 days\"",
            "{ any = [{ yanked = true }, { malicious = true }] }",
            "exploited or malicious",
        ),
        ("deny", "\"7 days\"", "{ any_finding = { kev = true } }", "exploited or malicious"),
        ("deny", "\"soon\"", ABOVE, "length of time"),
        ("deny", "7", ABOVE, "expected"),
    ] {
        let error = parse(action, grace, when).unwrap_err();
        assert!(error.to_string().contains(says) && error.line == 6, "{error}");
    }
    // A form that is filled in keeps it.
    use airlock_core::policy::form;
    let text = "[policy]\nname = \"p\"\n\n[[rule]]\nname = \"r\"\naction = \"deny\"\ngrace = \"7 days\" # told in notices\nwhen = { yanked = true }\n";
    let mut filled = form::of_text(text).unwrap();
    assert_eq!(filled["rule"][0]["grace"], "7 days");
    filled["rule"][0]["grace"] = "3 days".into();
    assert_eq!(form::to_text(&filled, Some(text)).unwrap(), text.replace("7 days", "3 days"));
}

/// Judges day by day, each time by what was judged the day before; `known` says what is known on each day.
fn days(text: &str, known: &[(u8, bool)], first: bool) -> Vec<Judged> {
    let mut world = World::new(text);
    let mut out = Vec::new();
    if first {
        world.previous = Some(world.judgement());
    }
    for (n, (score, exploited)) in (0..).zip(known) {
        world.now = day(n);
        world.advisories =
            if *score == 0 { vec![] } else { vec![advisory("CVE-1", Some(f64::from(*score)))] };
        world.kev.entries.clear();
        if *exploited {
            world.kev.entries.insert("CVE-1".into(), day(0));
        }
        let judgement = world.judgement();
        out.push(judgement.artifacts[FILE].clone());
        world.previous = Some(judgement);
    }
    out
}

/// Judges on a day by what was judged before, and goes on from there.
fn on(world: &mut World, n: i64) -> (Verdict, Option<i64>, Option<i64>) {
    world.now = day(n);
    let judgement = world.judgement();
    let says = says(&judgement.artifacts[FILE]);
    world.previous = Some(judgement);
    says
}

fn waive(world: &mut World, until: i64) {
    let advisory = Some("CVE-1".into());
    world.decide(Ruling::Waive { rule: "r".into(), scope: scope("x"), advisory }, Some(day(until)));
}

/// Rules that CVE-1 does not matter, until a date.
fn clear(world: &mut World, until: i64) {
    let slice = Slice { entries: world.advisories.clone() };
    let lookups = [(matching::lookups(Ecosystem::Pypi, "x", None).remove(0), &slice)];
    let basis = Basis::of("CVE-1", &lookups, &world.kev).unwrap();
    let (advisory, status) = ("CVE-1".into(), Status::Cleared);
    let ruling = Ruling::Status { advisory, basis, justification: None, scope: scope("x"), status };
    world.decide(ruling, Some(day(until)));
}

#[test]
fn what_was_lifted_until_a_date_is_given_no_grace_on_that_date() {
    let graced = policy(&[("r", "deny", Some(7), ABOVE)]);
    // Denied when it came, then waived.
    let mut new = World::new(&graced);
    new.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(on(&mut new, 0), (Verdict::Deny, None, None));
    waive(&mut new, 3);
    assert_eq!(on(&mut new, 1), (Verdict::Admit, None, Some(3)));
    assert_eq!(on(&mut new, 3), (Verdict::Deny, None, None));
    // What becomes known of it in the meantime has a grace of its own, and lends it to nothing else.
    let mut other = published(&graced);
    waive(&mut other, 3);
    assert_eq!(on(&mut other, 1), (Verdict::Admit, None, Some(3)));
    other.advisories.push(advisory("CVE-2", Some(9.0)));
    assert_eq!(on(&mut other, 2), (Verdict::Admit, Some(9), Some(3)));
    assert_eq!(on(&mut other, 3), (Verdict::Deny, None, None));
    // Cleared until a date it is no different.
    let open = "{ all = [{ cvss = { above = 7.0 } }, { not = { status = [\"cleared\"] } }] }";
    let mut cleared = World::new(&policy(&[("r", "deny", Some(7), open)]));
    cleared.advisories = vec![advisory("CVE-1", Some(9.0))];
    clear(&mut cleared, 3);
    assert_eq!(on(&mut cleared, 0), (Verdict::Admit, None, Some(3)));
    assert_eq!(on(&mut cleared, 3), (Verdict::Deny, None, None));
}

#[test]
fn a_waiver_within_a_grace_leaves_its_end_where_it_was() {
    let mut world = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    assert_eq!(on(&mut world, 0), (Verdict::Admit, Some(7), Some(7)));
    waive(&mut world, 3);
    assert_eq!(on(&mut world, 1), (Verdict::Admit, None, Some(3)));
    assert_eq!(on(&mut world, 3), (Verdict::Admit, Some(7), Some(7)));
    assert_eq!(on(&mut world, 7), (Verdict::Deny, None, None));
    let mut long = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    on(&mut long, 0);
    waive(&mut long, 20);
    assert_eq!(on(&mut long, 1), (Verdict::Admit, None, Some(8)), "then that end is forgotten");
    assert_eq!(on(&mut long, 20), (Verdict::Deny, None, None));
}

#[test]
fn a_reason_that_comes_and_goes_puts_nothing_off() {
    let mut world = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    let mut known = |n: i64, is_known: bool| {
        world.advisories = if is_known { vec![advisory("CVE-1", Some(9.0))] } else { vec![] };
        on(&mut world, n)
    };
    // As long as a grace lasts they must be silent until another begins, judged daily or not.
    let silent = |since: i64| (Verdict::Admit, None, Some(since + 7));
    for n in 0..30 {
        let expected = match n {
            _ if n % 6 == 5 => silent(n),
            0..7 => (Verdict::Admit, Some(7), Some(7)),
            _ => (Verdict::Deny, None, None),
        };
        assert_eq!(known(n, n % 6 != 5), expected, "day {n}");
    }
    for n in 30..35 {
        assert_eq!(known(n, false), silent(29));
    }
    assert_eq!(known(35, true), (Verdict::Deny, None, None));
    assert_eq!(known(36, false), silent(36));
    assert_eq!(known(43, true), (Verdict::Admit, Some(50), Some(50)));
    // What is forgotten leaves nothing behind, and the judgement before said when that would be.
    assert_eq!(known(44, false), silent(44));
    assert_eq!(known(51, false), (Verdict::Admit, None, None));
    assert_eq!(world.judged().graced, None);
}

/// CVE-1 denied before it was published and waived until day 20; CVE-2 denied from day 35 on, and on day 6 no longer.
fn waived_while_another_comes_and_goes(waived_too: bool) -> World {
    let mut world = World::new(&policy(&[("r", "deny", Some(30), ABOVE)]));
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(on(&mut world, 0), (Verdict::Deny, None, None));
    waive(&mut world, 20);
    assert_eq!(on(&mut world, 1), (Verdict::Admit, None, Some(20)));
    world.advisories.push(advisory("CVE-2", Some(9.0)));
    assert_eq!(on(&mut world, 5), (Verdict::Admit, Some(35), Some(20)));
    if waived_too {
        let advisory = Some("CVE-2".into());
        world.decide(Ruling::Waive { rule: "r".into(), scope: scope("x"), advisory }, Some(day(40)));
    } else {
        world.advisories.pop();
    }
    assert_eq!(on(&mut world, 6), (Verdict::Admit, None, Some(20)));
    world
}

#[test]
fn a_waiver_is_not_prolonged_by_the_end_that_was_announced_for_something_else() {
    for waived_too in [false, true] {
        let mut world = waived_while_another_comes_and_goes(waived_too);
        // The judgement before says so, too, and it does not matter whether it was judged in between.
        if waived_too {
            on(&mut world, 12);
        }
        assert_eq!(on(&mut world, 20).0, Verdict::Deny, "{waived_too}");
        waive(&mut world, 25);
        assert_eq!(on(&mut world, 21).0, Verdict::Admit);
        assert_eq!(on(&mut world, 25).0, Verdict::Deny, "nor a second time");
        // The one that it was announced for has it still, as long as it is remembered.
        let mut other = waived_while_another_comes_and_goes(waived_too);
        if waived_too {
            let all = other.decisions.list.len();
            other.decisions.list[all - 1].expires = Some(day(10));
        } else {
            other.advisories.push(advisory("CVE-2", Some(9.0)));
        }
        assert_eq!(on(&mut other, 10), (Verdict::Admit, Some(35), Some(20)));
    }
}

#[test]
fn a_rule_on_the_whole_file_lends_what_was_cleared_no_end_of_another_finding() {
    let open =
        "{ any_finding = { all = [{ cvss = { above = 7.0 } }, { not = { status = [\"cleared\"] } }] } }";
    for withdrawn in [false, true] {
        let mut world = World::new(&policy(&[("r", "deny", Some(30), open)]));
        world.advisories = vec![advisory("CVE-1", Some(9.0))];
        clear(&mut world, 20);
        assert_eq!(on(&mut world, 0), (Verdict::Admit, None, Some(20)));
        world.advisories.push(advisory("CVE-2", Some(9.0)));
        assert_eq!(on(&mut world, 5), (Verdict::Admit, Some(35), Some(20)));
        if withdrawn {
            world.advisories.pop();
        }
        assert_eq!(on(&mut world, 6).0, Verdict::Admit);
        assert_eq!(on(&mut world, 20).0, Verdict::Deny);
    }
}

#[test]
fn an_end_counts_for_all_that_it_was_announced_for_whatever_was_lifted_or_withdrawn_since() {
    let mut world = published(&policy(&[("r", "deny", Some(30), ABOVE)]));
    world.advisories.push(advisory("CVE-2", Some(9.0)));
    assert_eq!(on(&mut world, 0), (Verdict::Admit, Some(30), Some(30)));
    waive(&mut world, 10);
    assert_eq!(on(&mut world, 1), (Verdict::Admit, Some(30), Some(10)));
    world.advisories.pop();
    assert_eq!(on(&mut world, 2), (Verdict::Admit, None, Some(10)));
    assert_eq!(on(&mut world, 10), (Verdict::Admit, Some(30), Some(30)));
    assert_eq!(on(&mut world, 30), (Verdict::Deny, None, None));
}

#[test]
fn what_an_older_program_remembered_is_read_and_prolongs_no_waiver() {
    // It did not say for what an end was announced.
    let older = |world: &mut World| {
        let file = world.previous.as_mut().unwrap().artifacts.get_mut(FILE).unwrap();
        let written = Canonical::of(&*file).unwrap();
        let text = written.as_str();
        let begin = text.find(",\"of\":[").unwrap();
        let end = begin + text[begin..].find(']').unwrap() + 1;
        *file = Canonical::parse(&format!("{}{}", &text[..begin], &text[end..])).unwrap().read().unwrap();
        file.graced.as_ref().unwrap().end
    };
    let mut world = waived_while_another_comes_and_goes(false);
    assert_eq!(older(&mut world), day(35));
    assert_eq!(on(&mut world, 20).0, Verdict::Deny);
    // Of a grace that was running it remembered nothing beside its end; what denied then is what it was for.
    let mut world = published(&policy(&[("r", "deny", Some(7), ABOVE)]));
    on(&mut world, 0);
    world.previous.as_mut().unwrap().artifacts.get_mut(FILE).unwrap().graced = None;
    waive(&mut world, 3);
    assert_eq!(on(&mut world, 1), (Verdict::Admit, None, Some(3)));
    assert_eq!(on(&mut world, 3), (Verdict::Admit, Some(7), Some(7)));
}

#[test]
fn what_was_approved_as_long_as_it_was_not_known_is_given_a_grace_when_it_is_denied() {
    let mut world = World::new(&policy(&[("r", "deny", Some(7), ABOVE)]));
    world.advisories = vec![advisory("CVE-1", None)];
    assert_eq!(world.verdict(), Verdict::Hold);
    let judgement = world.judgement();
    let found = judgement.findings_of(&judgement.artifacts[FILE]).into_owned();
    let weighed =
        Weighed::of(&world.policy.rules[0], (Some(&found[0]), &found), &State::default(), true).unwrap();
    let sha256 = world.facts.files[FILE].file.as_ref().map(|file| file.sha256);
    let file = Approved { artifact: FILE.into(), sha256, weighed: [weighed].into() };
    world.decide(Ruling::Approve { scope: scope("x"), files: vec![file] }, None);
    assert_eq!(on(&mut world, 1), (Verdict::Admit, None, None));
    // As what was held and nobody looked at would be.
    world.advisories = vec![advisory("CVE-1", Some(9.0))];
    assert_eq!(on(&mut world, 2), (Verdict::Admit, Some(9), Some(9)));
}

proptest! {
    #[test]
    fn a_rule_with_a_grace_admits_no_more_than_no_rule_and_no_less_than_one_without_grace(
        known in proptest::collection::vec((prop_oneof![Just(0u8), 5u8..10], any::<bool>()), 1..12),
        grace in 1i64..5, is_published in any::<bool>(), has_hold in any::<bool>(), has_other in any::<bool>(),
    ) {
        let mut others = vec![("w", "warn", None, "{ cvss = { above = 1.0 } }")];
        if has_hold { others.push(("h", "hold", None, "{ cvss = { above = 8.0 } }")); }
        if has_other { others.push(("o", "deny", None, "{ all = [{ cvss = { above = 8.0 } }, { kev = true }] }")); }
        let with = |grace: Option<i64>| {
            let mut all = others.clone();
            all.push(("r", "deny", grace, "{ cvss = { above = 6.0 } }"));
            policy(&all)
        };
        let without = days(&policy(&others), &known, is_published);
        let graced = days(&with(Some(grace)), &known, is_published);
        let at_once = days(&with(None), &known, is_published);
        for (n, ((none, graced), at_once)) in without.iter().zip(&graced).zip(&at_once).enumerate() {
            prop_assert!(none.verdict <= graced.verdict && graced.verdict <= at_once.verdict, "day {n}");
            // It stays only where it was announced, and no longer than the grace.
            if graced.verdict == Verdict::Admit && at_once.verdict == Verdict::Deny {
                let until = graced.denied_from.expect("it is announced");
                prop_assert!(day(n as i64) < until && until <= day(n as i64 + grace));
                prop_assert!(graced.flips_at.is_some_and(|at| at <= until));
                prop_assert!(!known[n].1, "nothing exploited stays");
            } else {
                prop_assert!(graced.denied_from.is_none());
            }
        }
        if !is_published {
            prop_assert_eq!(&graced[0].verdict, &at_once[0].verdict);
        }
    }
}
