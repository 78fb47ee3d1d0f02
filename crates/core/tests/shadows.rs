//! What another policy would do otherwise: once deadlines are over, and whatever is fetched.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use airlock_core::fact::Facts;
use airlock_core::policy::Policy;
use airlock_core::shadow::{DIFFERENCES_MAX, Differences};
use airlock_core::shard::ShardKey;
use airlock_core::snapshot::Counts;
use airlock_core::verdict::Verdict;

use common::*;

const DENIES: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"d\"\naction = \"deny\"\nwhen = { name = [\"x\"] }\n";
const GRACES: &str = "[policy]\nname = \"p\"\n[[rule]]\nname = \"g\"\naction = \"deny\"\ngrace = \"7 days\"\nwhen = { name = [\"x\"] }\n";
const HOLDS: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"h\"\naction = \"hold\"\nwhen = { name = [\"x\"] }\n";
const WARNS: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"w\"\naction = \"warn\"\nwhen = { name = [\"x\"] }\n";

/// What the second policy would do otherwise than the first, asked as a shadow is. `is_offered`: it was offered before.
fn between(in_force: &str, other: &str, is_offered: bool) -> Differences {
    let mut world = World::new(WARNS);
    world.previous = is_offered.then(|| world.judgement());
    world.policy = Policy::parse(in_force).unwrap();
    let before = world.judgement();
    world.policy = Policy::parse(other).unwrap();
    world.previous = Some(before.clone());
    world.needs_bytes = false;
    Differences::between(&ShardKey { subdir: None, name: "x".into() }, &before, &world.judgement())
}

#[test]
fn a_difference_is_what_policies_come_to_whatever_was_offered_before() {
    let table = [
        (WARNS, DENIES, Verdict::Deny, "d"),
        (WARNS, GRACES, Verdict::Deny, "g"),
        (WARNS, HOLDS, Verdict::Hold, "h"),
        (HOLDS, DENIES, Verdict::Deny, "d"),
        (HOLDS, WARNS, Verdict::Admit, "h"),
        (DENIES, WARNS, Verdict::Admit, "d"),
        (GRACES, HOLDS, Verdict::Hold, "g"),
    ];
    for (in_force, other, to, rule) in table {
        for is_offered in [false, true] {
            let found = between(in_force, other, is_offered);
            let one = found.list.first().unwrap_or_else(|| unreachable!("{in_force} {other} {is_offered}"));
            assert_eq!((one.to, found.len()), (to, 1), "{in_force} {other} {is_offered}");
            assert_eq!(one.rules, [rule.to_owned()].into());
            assert_eq!(found.by_rule.len(), 1);
        }
    }
    for policy in [WARNS, HOLDS, GRACES, DENIES] {
        for is_offered in [false, true] {
            assert!(between(policy, policy, is_offered).is_empty(), "{policy} {is_offered}");
        }
    }
    assert!(between(GRACES, DENIES, true).is_empty(), "both deny in the end");
}

#[test]
fn that_bytes_are_not_here_yet_is_no_difference_between_policies() {
    let mut world = World::new(WARNS);
    world.facts = Facts::default();
    let before = world.judgement();
    assert_eq!(before.artifacts[FILE].verdict, Verdict::Hold);
    world.needs_bytes = false;
    world.previous = Some(before.clone());
    let key = ShardKey { subdir: None, name: "x".into() };
    assert!(Differences::between(&key, &before, &world.judgement()).is_empty());
}

#[test]
fn many_differences_are_counted_and_the_first_are_told() {
    let mut all = Differences::default();
    for _ in 0..=DIFFERENCES_MAX {
        all.add(between(WARNS, DENIES, false));
    }
    assert_eq!((all.list.len(), all.more, all.len()), (DIFFERENCES_MAX, 1, DIFFERENCES_MAX as u64 + 1));
    let n = DIFFERENCES_MAX as u64 + 1;
    assert_eq!(all.by_rule["d"], Counts { deny: n, ..Counts::default() });
    assert_eq!((all.does.admit, all.would.deny), (n, n));
}
