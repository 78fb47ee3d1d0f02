//! The nearest version that passes: the question behind every refusal.

use crate::ecosystem::Ecosystem;
use crate::verdict::Judgement;
use crate::version::Order;

/// The versions of a package of which something is offered, in order.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    versions: Vec<String>,
}

impl Offered {
    /// Of all judgements of one package.
    pub fn of<'a>(ecosystem: Ecosystem, judgements: impl IntoIterator<Item = &'a Judgement>) -> Self {
        let artifacts = judgements.into_iter().flat_map(|j| j.artifacts.values());
        let offered = artifacts.filter(|judged| judged.is_offered());
        Self::versions(ecosystem, offered.map(|judged| judged.version.clone()).collect())
    }

    /// Of the versions themselves.
    pub fn versions(ecosystem: Ecosystem, mut versions: Vec<String>) -> Self {
        versions.sort();
        versions.dedup();
        Order::of(ecosystem).sort(&mut versions);
        Self { versions }
    }

    /// The version nearest to `wanted`: the next above it, since that is where fixes are, else the highest.
    pub fn nearest(&self, ecosystem: Ecosystem, wanted: &str) -> Option<&str> {
        let order = Order::of(ecosystem);
        let is_above = |v: &String| order.compare(v, wanted).is_some_and(std::cmp::Ordering::is_gt);
        let above = self.versions.partition_point(|v| !is_above(v));
        self.versions.get(above).or_else(|| self.versions.last()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_version_above_is_nearer_than_any_below() {
        let offered = Offered { versions: ["1.0", "1.26.20", "2.5.0"].map(String::from).into() };
        for (wanted, nearest) in
            [("1.26.4", "1.26.20"), ("2.0", "2.5.0"), ("3.0", "2.5.0"), ("0.1", "1.0"), ("not one", "2.5.0")]
        {
            assert_eq!(offered.nearest(Ecosystem::Pypi, wanted), Some(nearest), "{wanted}");
        }
        assert_eq!(Offered::default().nearest(Ecosystem::Pypi, "1"), None);
    }
}
