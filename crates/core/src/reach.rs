//! How far a change of what a channel is judged from reaches.
//!
//! Judging is a function of a shard and of what is the same for the whole channel. A shard for which neither
//! changed, and whose verdicts no moment in between flips, is judged as it was before; so its judgement can be
//! taken from the previous snapshot. These functions tell whether that holds for what is the same for the whole
//! channel; where they cannot tell, everything is judged anew.

use crate::policy::Policy;
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

/// Whether time alone flips no verdict of `before` until `now`, and `now` is no step back.
pub fn time_changes_nothing(before: &Snapshot, now: Time) -> bool {
    now >= before.inputs.now && before.valid_until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

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
