//! What `import --plan` says, and a proposal to import: what would become of channels and feeds

use airlock_engine::bundle::feeds::{FeedMove, Way};
use airlock_engine::bundle::import::Report;
use airlock_engine::bundle::preview::{Plan, Proposed, Tally};

use crate::output::{count, table};

/// For people. What changes file by file is told after it.
pub fn text(report: &Report) -> String {
    let Some(plan) = &report.plan else { return String::new() };
    let way = if plan.back { "would go back to" } else { "would take in" };
    format!("{way} bundle {} of {} from {}\n", report.number, report.stream, report.sender) + &tables(plan)
}

/// What a proposal says beside its act.
pub fn proposed(would: &Proposed) -> String {
    let strict = |(feed, records): (&String, &u64)| {
        vec![
            format!("  feed {feed}"),
            format!("{} stricter, which counts already", count(*records, "record")),
        ]
    };
    let stricter = table(&would.stricter.iter().map(strict).collect::<Vec<_>>());
    format!("Confirming it changes, as it stood when it was proposed:\n{}{stricter}", tables(&would.plan))
}

fn tables(plan: &Plan) -> String {
    let mut out = String::new();
    out += &table(&plan.channels.iter().map(channel).collect::<Vec<_>>());
    if !plan.below.is_empty() {
        out += &format!(
            "  {}: judged when what they come from is published, and offer no more than that\n",
            plan.below.join(", ")
        );
    }
    out + &table(&plan.feeds.iter().map(feed).collect::<Vec<_>>())
}

fn channel(tally: &Tally) -> Vec<String> {
    let new = if tally.is_new { " (new)" } else { "" };
    vec![format!("  channel {}{new}", tally.channel), said(tally)]
}

/// In a few words, for people.
pub fn said(tally: &Tally) -> String {
    let parts = [
        (tally.offered, "newly offered"),
        (tally.held, "newly held"),
        (tally.denied, "newly denied"),
        (tally.removed, "no longer listed"),
    ];
    let said: Vec<String> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if said.is_empty() { "nothing changes".to_owned() } else { said.join(", ") }
}

fn feed(moved: &FeedMove) -> Vec<String> {
    let FeedMove { feed, way, before, brings, waiting, .. } = moved;
    let read =
        |(at, records): &(airlock_core::time::Time, u64)| format!("{}, {}", at, count(*records, "record"));
    let from = before.as_ref().map(read).unwrap_or_default();
    let said = match way {
        Way::New => format!("new: {}", read(brings)),
        Way::Forward => format!("forward: {from} -> {}", read(brings)),
        Way::Stays => format!("as it is: {from}"),
        Way::Older => format!("stays at {from}; the bundle has {}", read(brings)),
    };
    let waits = match waiting {
        (_, 0) => String::new(),
        (_, after) => format!("{} became milder and would wait for a person", count(*after, "record")),
    };
    vec![format!("  feed {feed}"), said, waits]
}
