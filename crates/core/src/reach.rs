//! How far a change of what a channel is judged from reaches.
//!
//! Judging is a function of a shard and of what is the same for the whole channel. A shard for which neither
//! changed, and whose verdicts no moment in between flips, is judged as it was before; so its judgement can be
//! taken from the previous snapshot. These functions tell whether that holds for what is the same for the whole
//! channel; where they cannot tell, everything is judged anew.

use crate::policy::{Policy, Rule};
use crate::snapshot::Snapshot;
use crate::time::Time;

/// Whether a fresher reading of the feeds changes no verdict by itself: feeds are at least as fresh as before, and
/// no limit of the policy lies between their ages.
pub fn feeds_read_changes_nothing(
    policy: &Policy,
    before: Option<Time>,
    after: Option<Time>,
    now: Time,
) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return before == after };
    let mut limits = Vec::new();
    for rule in &policy.rules {
        rule.when.feed_limits(&mut limits);
    }
    after >= before
        && limits.into_iter().all(|limit| (now.since(before) > limit) == (now.since(after) > limit))
}

/// How far a change of the policy reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It changes no verdict and no reason.
    Nothing,
    /// Only packages of which a vulnerability is known.
    Advised,
    /// Perhaps everything.
    All,
}

/// How far it reaches that `after` takes the place of `before`.
pub fn policy_reaches(before: &Policy, after: &Policy) -> Reach {
    // Where no rule has a grace, none is remembered, of whatever rule it was and whatever is known by now.
    let has_grace = |policy: &Policy| policy.rules.iter().any(|rule| rule.grace.is_some());
    if before.hold_deadline != after.hold_deadline
        || before.reserved != after.reserved
        || has_grace(before) != has_grace(after)
    {
        return Reach::All;
    }
    let others = |of: &Policy, than: &Policy| -> Vec<bool> {
        let other = |rule: &&Rule| !than.rules.contains(rule);
        of.rules.iter().filter(other).map(|rule| rule.when.needs_advisory()).collect()
    };
    let changed = [others(before, after), others(after, before)].concat();
    match (changed.iter().all(|needs_advisory| *needs_advisory), changed.is_empty()) {
        (true, true) if before.scores == after.scores => Reach::Nothing,
        (true, _) => Reach::Advised,
        (false, _) => Reach::All,
    }
}

/// Whether time alone flips no verdict of `before` until `now`, and `now` is no step back.
pub fn time_changes_nothing(before: &Snapshot, now: Time) -> bool {
    now >= before.inputs.now && before.valid_until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy that every station begins with, with this instead of that.
    fn with(old: &str, new: &str) -> Policy {
        let text = crate::policy::DEFAULT.replace(old, new);
        assert_ne!(text, crate::policy::DEFAULT, "{old}");
        Policy::parse(&text).unwrap()
    }

    #[test]
    fn another_bound_of_a_score_reaches_what_something_is_known_of_and_another_rule_on_artifacts_everything()
    {
        let policy = Policy::parse(crate::policy::DEFAULT).unwrap();
        let reaches = |other: &Policy| {
            let there = policy_reaches(&policy, other);
            assert_eq!(there, policy_reaches(other, &policy), "the way back is as long");
            there
        };
        assert_eq!(reaches(&policy), Reach::Nothing);
        assert_eq!(reaches(&with("above = 7.0", "above = 6.0")), Reach::Advised);
        let added = |rule: &str| Policy::parse(&format!("{}\n{rule}", crate::policy::DEFAULT)).unwrap();
        let rule = |when: &str| added(&format!("[[rule]]\nname = \"x\"\naction = \"deny\"\nwhen = {when}\n"));
        for needs in [
            r#"{ kev = true }"#,
            r#"{ all = [{ name = ["a*"] }, { cvss = { above = 5.0 } }] }"#,
            r#"{ any = [{ kev = true }, { not = { kev = true } }] }"#,
            r#"{ any_finding = { not = { kev = true } } }"#,
        ] {
            assert_eq!(reaches(&rule(needs)), Reach::Advised, "{needs}");
        }
        for needs_none in [
            r#"{ name = ["a*"] }"#,
            r#"{ any = [{ kev = true }, { name = ["a*"] }] }"#,
            r#"{ no_finding = { kev = true } }"#,
            r#"{ not = { any_finding = { kev = true } } }"#,
            r#"{ not = { name = ["a*"] } }"#,
        ] {
            assert_eq!(reaches(&rule(needs_none)), Reach::All, "{needs_none}");
        }
        let deadline = Policy { hold_deadline: crate::time::Span::days(1), ..policy.clone() };
        assert_eq!(reaches(&deadline), Reach::All);
        let mut graced = policy.clone();
        graced.rules[0].grace = Some(crate::time::Span::days(1));
        assert_eq!(reaches(&graced), Reach::All, "what is remembered of graces");
        let renamed = Policy { name: "other".to_owned(), ..policy.clone() };
        assert_eq!(reaches(&renamed), Reach::Nothing);
    }

    #[test]
    fn fresher_feeds_change_nothing_unless_a_limit_lies_between() {
        let policy = Policy::parse(crate::policy::DEFAULT).unwrap();
        let at = |day: i64| Some(Time::from_seconds(day * 86_400));
        let now = Time::from_seconds(100 * 86_400);
        let same = |before, after| feeds_read_changes_nothing(&policy, before, after, now);
        assert!(same(at(90), at(99)));
        assert!(same(at(10), at(20)), "both are older than 45 days");
        assert!(!same(at(10), at(99)));
        assert!(!same(at(99), at(98)), "an older reading flips earlier");
        assert!(!same(None, at(99)));
        assert!(same(None, None));
    }
}
