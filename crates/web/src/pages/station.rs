//! The station's first page.

use airlock_core::advisory::FeedKind;
use airlock_core::snapshot::Counts;
use airlock_core::time::Span;
use airlock_engine::station::Side;
use airlock_engine::status::{BrokenGlass, ChannelStatus, FeedStatus, STALE, Status, StreamStatus, status};
use airlock_engine::view::View;
use askama::Template;

use super::bar::Bar;
use super::format::{Hash, Prose, When, count, rough, thousands};
use super::reply::{Answer, Ask, Shell, html, json};

#[derive(Template)]
#[template(path = "station.html")]
struct Page {
    shell: Shell,
    waiting: String,
    fresh: String,
    alarms: Vec<Prose>,
    bar: Option<Bar>,
    channels: Vec<ChannelRow>,
    /// What one person did that needs two.
    alone: Vec<BrokenGlass>,
    feeds: Vec<FeedRow>,
    has_more_help: bool,
    side: &'static str,
    ledger: String,
    public_key: String,
}

struct ChannelRow {
    name: String,
    ecosystem: String,
    admitted: String,
    held: String,
    is_held: bool,
    denied: String,
    policy: String,
    published: Option<When>,
}

struct FeedRow {
    name: String,
    kind: &'static str,
    read: When,
    is_stale: bool,
    records: String,
    skipped: String,
    hash: Hash,
}

/// Makes the page.
pub(super) async fn page(ask: &Ask, view: &View) -> Answer {
    let status = status(view.station()).await?;
    if ask.json() {
        return json(&status);
    }
    let held = status.channels.iter().map(|c| c.counts.hold).sum();
    let counts = status.channels.iter().fold(Counts::default(), |sum, c| Counts {
        admit: sum.admit + c.counts.admit,
        hold: sum.hold + c.counts.hold,
        deny: sum.deny + c.counts.deny,
    });
    let has_any = counts != Counts::default();
    html(&Page {
        shell: Shell::new(ask, view, status.now, status.name.clone(), Vec::new()),
        waiting: waiting(held),
        fresh: fresh(&status),
        alarms: alarms(&status),
        bar: has_any.then(|| Bar::new(counts, 0)),
        channels: status.channels.iter().map(|c| ChannelRow::of(c, &status)).collect(),
        feeds: status.feeds.iter().map(|f| FeedRow::of(f, &status)).collect(),
        has_more_help: status.side == Side::Isolated,
        side: match status.side {
            Side::Connected => "connected",
            Side::Isolated => "isolated",
        },
        ledger: count_of_entries(status.ledger_entries),
        alone: status.broken_glass.clone(),
        public_key: status.public_key,
    })
}

fn count_of_entries(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{} entries", thousands(entries)) }
}

fn waiting(held: u64) -> String {
    match held {
        0 => "Nothing is held for a decision.".to_owned(),
        1 => "1 artifact is held and waits for a decision.".to_owned(),
        n => format!("{} artifacts are held and wait for a decision.", thousands(n)),
    }
}

fn kind_of(feed: &FeedStatus) -> Option<FeedKind> {
    FeedKind::ALL.into_iter().find(|k| k.name() == feed.kind)
}

fn is_stale(feed: &FeedStatus) -> bool {
    kind_of(feed).is_some_and(FeedKind::ages) && feed.age_seconds > STALE.as_seconds()
}

/// How old the oldest of those feeds is whose age counts.
fn fresh(status: &Status) -> String {
    let newest = status.streams.iter().filter_map(|stream| stream.age_seconds).min();
    let came = match newest {
        Some(age) if age < 60 => " The newest bundle was written just now.".to_owned(),
        Some(age) => format!(" The newest bundle was written {} ago.", rough(Span::seconds(age))),
        None => String::new(),
    };
    let ages = status.feeds.iter().filter(|f| kind_of(f).is_some_and(FeedKind::ages));
    match ages.map(|f| f.age_seconds).max() {
        Some(age) if age < 60 => format!("What is known of vulnerabilities was read just now.{came}"),
        Some(age) => {
            format!("What is known of vulnerabilities is at most {} old.{came}", rough(Span::seconds(age)))
        }
        None => came,
    }
}

fn alarms(status: &Status) -> Vec<Prose> {
    let feeds = &status.feeds;
    let mut out = Vec::new();
    if !feeds.iter().any(|f| kind_of(f).is_some_and(FeedKind::is_advisories)) {
        out.push(Prose::new(
            "No feed here tells which versions are affected. No vulnerability can be found; this is not the same as there being none. \
             Add one with `airlock advisories add osv URL|PATH`, then run `airlock advisories update`.",
        ));
    }
    for feed in feeds.iter().filter(|f| is_stale(f)) {
        out.push(Prose::new(&format!(
            "Feed {} is stale: it was read {} ago, and everything published since then is unknown here. \
             Run `airlock advisories update`, or import a newer bundle.",
            feed.name,
            rough(Span::seconds(feed.age_seconds))
        )));
    }
    out.extend(status.streams.iter().filter_map(StreamStatus::silence).map(|said| Prose::new(&said)));
    out
}

impl ChannelRow {
    fn of(channel: &ChannelStatus, status: &Status) -> Self {
        Self {
            name: channel.name.clone(),
            ecosystem: channel.ecosystem.to_string(),
            admitted: thousands(channel.counts.admit),
            held: thousands(channel.counts.hold),
            is_held: channel.counts.hold > 0,
            denied: thousands(channel.counts.deny),
            policy: channel.policy.clone(),
            published: channel.created.map(|t| When::new(t, status.now)),
        }
    }
}

impl FeedRow {
    fn of(feed: &FeedStatus, status: &Status) -> Self {
        Self {
            name: feed.name.clone(),
            kind: feed.kind,
            read: When::new(feed.read_at, status.now),
            is_stale: is_stale(feed),
            records: thousands(feed.count),
            skipped: if feed.skipped == 0 { String::new() } else { count(feed.skipped, "record") },
            hash: Hash::new(feed.hash),
        }
    }
}
