//! The nearest version that passes: the question behind every refusal.

use crate::ecosystem::Ecosystem;
use crate::verdict::Judgement;
use crate::version::Order;

/// The version nearest to `wanted` of which something is offered: the next above it, since that is where
/// fixes are, else the highest below it.
pub fn nearest<'a>(
    ecosystem: Ecosystem,
    wanted: &str,
    judgements: impl IntoIterator<Item = &'a Judgement>,
) -> Option<String> {
    let mut offered: Vec<String> = judgements
        .into_iter()
        .flat_map(|j| j.artifacts.values())
        .filter(|judged| judged.is_offered())
        .map(|judged| judged.version.clone())
        .collect();
    Order::of(ecosystem).sort(&mut offered);
    offered.dedup();
    let is_above = |version: &&String| {
        Order::of(ecosystem).compare(version, wanted).is_some_and(std::cmp::Ordering::is_gt)
    };
    offered.iter().find(is_above).or_else(|| offered.last()).cloned()
}
