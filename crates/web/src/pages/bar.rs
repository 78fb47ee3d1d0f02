//! The proportions of verdicts as a small picture with a text beside it.

use airlock_core::snapshot::Counts;
use airlock_core::verdict::Verdict;
use askama::Template;
use askama::filters::HtmlSafe;

use super::format::{Mark, thousands};

/// The picture's width in its own units.
const WIDTH: u64 = 1000;
/// What is not nothing is seen: this wide at least.
const LEAST: u64 = 8;

/// One verdict's part of the bar.
pub(super) struct Part {
    mark: Mark,
    class: &'static str,
    count: String,
    x: u64,
    width: u64,
}

/// The whole bar.
#[derive(Template)]
#[template(path = "bits/bar.html")]
pub(super) struct Bar {
    parts: Vec<Part>,
    text: String,
}

impl HtmlSafe for Bar {}

impl Bar {
    /// Of these counts, and of what the sender left out.
    pub(super) fn new(counts: Counts, left_out: u64) -> Self {
        let all = [
            (Mark::of(Verdict::Admit), "admit", counts.admit),
            (Mark::of(Verdict::Hold), "hold", counts.hold),
            (Mark::of(Verdict::Deny), "deny", counts.deny),
            (Mark::LEFT_OUT, "left", left_out),
        ];
        let total: u64 = all.iter().map(|(.., n)| n).sum();
        let mut widths = all.map(|(.., n)| if n == 0 { 0 } else { (n * WIDTH / total.max(1)).max(LEAST) });
        // What rounding and the least width cost is taken from the widest.
        let sum: u64 = widths.iter().sum();
        if let Some(widest) = widths.iter_mut().max().filter(|_| total > 0) {
            *widest = (*widest + WIDTH).saturating_sub(sum);
        }
        let mut x = 0;
        let mut parts = Vec::new();
        for ((mark, class, count), width) in all.into_iter().zip(widths) {
            // Only an imported channel has a sender.
            if mark != Mark::LEFT_OUT || count > 0 {
                parts.push(Part { mark, class, count: thousands(count), x, width });
            }
            x += width;
        }
        let text: Vec<String> = parts.iter().map(|p| format!("{} {}", p.count, p.mark.word())).collect();
        Self { text: text.join(", "), parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_bar_and_none_is_too_small_to_see() {
        for (admit, hold, deny) in [(29_998, 1, 1), (1, 1, 1), (0, 3, 0), (5, 0, 0), (1, 0, 100_000)] {
            let bar = Bar::new(Counts { admit, hold, deny }, 0);
            assert_eq!(bar.parts.iter().map(|p| p.width).sum::<u64>(), WIDTH);
            for (part, count) in bar.parts.iter().zip([admit, hold, deny]) {
                assert_eq!(part.width > 0, count > 0);
            }
        }
        assert_eq!(Bar::new(Counts::default(), 0).text, "0 admitted, 0 held, 0 denied");
        assert!(Bar::new(Counts::default(), 3).text.ends_with(", 3 left out by sender"));
    }
}
