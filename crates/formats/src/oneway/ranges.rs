//! A set of stretches of bytes.

use std::collections::BTreeMap;
use std::ops::Range;

/// Which bytes are there: stretches that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Begin to end.
    stretches: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Ranges {
    /// Adds a stretch; what is there already changes nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &its_end)) = self.stretches.range(..=start).next_back()
            && its_end >= start
        {
            (start, end) = (before, end.max(its_end));
        }
        while let Some((&begin, &its_end)) = self.stretches.range(start..=end).next() {
            self.stretches.remove(&begin);
            self.bytes -= its_end - begin;
            end = end.max(its_end);
        }
        self.stretches.insert(start, end);
        self.bytes += end - start;
    }

    /// Takes a stretch away.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched = |(&begin, &end): (&u64, &u64)| (end > range.start).then_some((begin, end));
        while let Some((begin, end)) = self.stretches.range(..range.end).next_back().and_then(touched) {
            self.stretches.remove(&begin);
            self.bytes -= end - begin;
            self.insert(begin..range.start.min(end));
            self.insert(range.end.max(begin)..end);
        }
    }

    /// Whether all of a stretch is there.
    pub fn holds(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.end_of(range.start) >= range.end
    }

    /// The end of what is there from a byte on; the byte itself where it is not there.
    pub fn end_of(&self, start: u64) -> u64 {
        let at = self.stretches.range(..=start).next_back();
        at.map_or(start, |(_, end)| start.max(*end))
    }

    /// What is not there of a stretch, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut at = self.end_of(range.start);
        while at < range.end {
            let next = self.stretches.range(at..range.end).next();
            let end = next.map_or(range.end, |(begin, _)| *begin);
            out.push(at..end);
            at = next.map_or(range.end, |(_, end)| *end);
        }
        out
    }

    /// The stretches, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.stretches.iter().map(|(begin, end)| *begin..*end)
    }

    /// Bytes in all of them.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_list_of_bytes_would(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..40)) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 80];
            for (adds, start, length) in steps {
                let range = start..start + length;
                if adds { ranges.insert(range.clone()) } else { ranges.remove(range.clone()) }
                for at in range {
                    bytes[at as usize] = adds;
                }
            }
            prop_assert_eq!(ranges.bytes(), bytes.iter().filter(|b| **b).count() as u64);
            let mut from_missing = [true; 80];
            for range in ranges.missing(0..80) {
                prop_assert!(!range.is_empty());
                for at in range { from_missing[at as usize] = false; }
            }
            prop_assert_eq!(from_missing, bytes);
            let all: Vec<_> = ranges.iter().collect();
            prop_assert!(all.windows(2).all(|two| two[0].end < two[1].start));
            for at in 0..80u64 {
                prop_assert_eq!(ranges.holds(at..at + 1), bytes[at as usize]);
            }
        }
    }
}
