//! A channel's page: what is in here, and what was kept out?

use std::cmp::Reverse;
use std::sync::Arc;

use airlock_core::ecosystem::canonical_name;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Coverage;
use airlock_core::snapshot::{Counts, Covered, Snapshot};
use airlock_core::time::Time;
use airlock_engine::shadow;
use airlock_engine::view::ChannelView;
use askama::Template;
use serde::{Deserialize, Serialize};

use super::bar::Bar;
use super::basis::{Basis, PolicyView, basis, policy};
use super::format::{Severity, When, anchor, count, coverage_word, encoded, thousands};
use super::index::{Index, Row, Why, index};
use super::install::{Lines, set_up};
use super::missing;
use super::reply::{Answer, Ask, Shell, html, json};
use crate::App;

/// Packages on one page.
const ROWS_MAX: usize = 100;
/// Packages with something kept out that the plain page names.
const WITHHELD_MAX: usize = 15;

/// What may stand behind the `?`.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    q: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    after: String,
}

#[derive(Template)]
#[template(path = "channel.html")]
struct Page {
    shell: Shell,
    name: String,
    ecosystem: String,
    lede: String,
    reviews: Option<String>,
    shadow: Option<String>,
    bar: Bar,
    basis: Basis,
    policy: PolicyView,
    set_up: Vec<Lines>,
    is_plain: bool,
    withheld: Vec<RowView>,
    withheld_all: String,
    has_more_withheld: bool,
    list: List,
    params: Params,
    verdicts: [(&'static str, &'static str); 6],
    sorts: [(&'static str, &'static str); 6],
}

/// The table of packages.
struct List {
    rows: Vec<RowView>,
    /// Which part of the channel this is.
    heading: String,
    /// Whether reasons are shown rather than scores.
    is_reasons: bool,
    columns: Vec<Column>,
    first: Option<String>,
    previous: Option<String>,
    next: Option<String>,
}

/// A heading, with the link that sorts by it.
struct Column {
    title: &'static str,
    sort: Option<String>,
    is_sorted: Option<&'static str>,
    is_number: bool,
}

/// A line of a table.
struct RowView {
    name: String,
    newest: Option<String>,
    newest_link: String,
    admitted: String,
    held: String,
    denied: String,
    left_out: String,
    severity: Option<Severity>,
    no_severity: &'static str,
    coverage: &'static str,
    is_unknown: bool,
    review_by: Option<When>,
    whys: Vec<Because>,
    more: usize,
}

/// Why something of a package is kept out.
struct Because {
    advisory: Option<String>,
    anchor: String,
    severity: Severity,
    rules: String,
    by_sender: bool,
}

/// The page for programs.
#[derive(Serialize)]
struct Json<'a> {
    channel: &'a str,
    ecosystem: airlock_core::ecosystem::Ecosystem,
    source: &'a str,
    policy: &'a str,
    snapshot: Id<Snapshot>,
    content: Digest,
    created: Time,
    valid_until: Option<Time>,
    counts: Counts,
    covered: Covered,
    total: usize,
    packages: Vec<&'a Row>,
    next: Option<&'a str>,
}

const VERDICTS: [(&str, &str); 6] = [
    ("", "any verdict"),
    ("admitted", "something admitted"),
    ("withheld", "something kept out"),
    ("held", "something held"),
    ("denied", "something denied"),
    ("left-out", "left out by the sender"),
];

const SORTS: [(&str, &str); 6] = [
    ("", "name"),
    ("score", "highest score offered"),
    ("reason", "worst reason"),
    ("held", "most held"),
    ("denied", "most denied"),
    ("admitted", "most admitted"),
];

impl Params {
    /// These with something else at one place, as a query. Another order or filter starts at the beginning.
    fn with(&self, key: &str, value: &str) -> String {
        let mut out = String::new();
        for (name, own) in [("q", &self.q), ("verdict", &self.verdict), ("sort", &self.sort)] {
            let text = if name == key { value } else { own };
            if !text.is_empty() {
                out.push_str(&format!("{}{name}={}", if out.is_empty() { "?" } else { "&" }, encoded(text)));
            }
        }
        if key == "after" {
            out.push_str(&format!("{}after={}", if out.is_empty() { "?" } else { "&" }, encoded(value)));
        }
        // An empty link would keep the query of the page it stands on.
        if out.is_empty() { "?".to_owned() } else { out }
    }

    fn takes(&self, row: &Row, wanted: &str) -> bool {
        let verdict = match self.verdict.as_str() {
            "admitted" => row.admitted > 0,
            "withheld" => row.withheld() > 0,
            "held" => row.held > 0,
            "denied" => row.denied > 0,
            "left-out" => row.left_out > 0,
            _ => true,
        };
        verdict && row.name.contains(wanted)
    }

    fn sort(&self, rows: &mut [&Arc<Row>]) {
        // Stable: equals stay in the order of their names.
        match self.sort.as_str() {
            "score" => rows.sort_by_key(|r| Reverse((r.highest, r.findings))),
            "reason" => rows.sort_by_key(|r| Reverse(r.worst())),
            "held" => rows.sort_by_key(|r| Reverse(r.held)),
            "denied" => rows.sort_by_key(|r| Reverse(r.denied + r.left_out)),
            "admitted" => rows.sort_by_key(|r| Reverse(r.admitted)),
            _ => {}
        }
    }

    fn is_reasons(&self) -> bool {
        matches!(self.verdict.as_str(), "withheld" | "held" | "denied" | "left-out")
    }

    /// Where the page begins: behind the name that the last one ended with.
    fn start(&self, rows: &[&Arc<Row>]) -> usize {
        if self.after.is_empty() {
            return 0;
        }
        match rows.iter().position(|r| r.name == self.after) {
            Some(at) => at + 1,
            // The name is gone since; in the order of names its place is still known.
            None if SORTS.iter().skip(1).all(|(sort, _)| *sort != self.sort) => {
                rows.partition_point(|r| r.name <= self.after)
            }
            None => 0,
        }
    }
}

/// The packages that are asked for, and from where to where they are on this page.
fn chosen<'a>(index: &'a Index, channel: &ChannelView, params: &Params) -> (Vec<&'a Arc<Row>>, usize) {
    let typed = params.q.trim();
    let wanted =
        canonical_name(channel.channel.ecosystem, typed).unwrap_or_else(|| typed.to_ascii_lowercase());
    let mut rows: Vec<&Arc<Row>> = index.rows.iter().filter(|r| params.takes(r, &wanted)).collect();
    params.sort(&mut rows);
    let start = params.start(&rows);
    (rows, start)
}

/// Makes the page.
pub(super) async fn page(ask: &Ask, app: &App, name: &str, params: Params) -> Answer {
    let view = &app.view;
    let Some(channel) = view.channel(name).await? else {
        return Err(missing::channel(view, name).await);
    };
    let index = index(app, &channel).await?;
    let (rows, start) = chosen(&index, &channel, &params);
    let now = view.now().await?;
    let basis = basis(view, &channel, now).await?;
    if ask.json() {
        let packages: Vec<&Row> = rows.iter().skip(start).take(ROWS_MAX).map(|r| &***r).collect();
        return json(&Json {
            channel: name,
            ecosystem: channel.channel.ecosystem,
            source: &basis.source,
            policy: &basis.policy,
            snapshot: channel.id,
            content: channel.newest.content.digest(),
            created: channel.newest.inputs.now,
            valid_until: channel.newest.valid_until,
            counts: channel.newest.counts,
            covered: channel.newest.covered,
            total: rows.len(),
            next: packages.last().filter(|_| rows.len() > start + ROWS_MAX).map(|r| r.name.as_str()),
            packages,
        });
    }
    let mut worst: Vec<&Arc<Row>> = index.rows.iter().filter(|r| r.withheld() > 0).collect();
    let withheld_all = worst.len();
    worst.sort_by_key(|r| Reverse(r.worst()));
    worst.truncate(WITHHELD_MAX);
    html(&Page {
        shell: Shell::new(ask, view, now, format!("Channel {name}"), Vec::new()),
        name: name.to_owned(),
        ecosystem: channel.channel.ecosystem.to_string(),
        lede: lede(&index, channel.newest.counts) + &uncovered(channel.newest.covered),
        reviews: reviews(&index, now),
        shadow: shadow::find(view.station(), name).await?.map(|shadow| shadow.told()),
        bar: Bar::new(channel.newest.counts, index.left_out()),
        basis,
        policy: policy(view, &channel).await?,
        set_up: set_up(ask, channel.channel.ecosystem, name),
        is_plain: ask.is_plain(),
        withheld: worst.into_iter().map(|r| RowView::new(r, now)).collect(),
        withheld_all: count(withheld_all as u64, "package"),
        has_more_withheld: withheld_all > WITHHELD_MAX,
        list: List::new(&rows, start, &params, index.rows.len(), now),
        params,
        verdicts: VERDICTS,
        sorts: SORTS,
    })
}

fn lede(index: &Index, counts: Counts) -> String {
    let packages = count(index.rows.len() as u64, "package");
    let left_out = index.left_out();
    let sender = if left_out > 0 {
        format!(" The sender left out {} more.", thousands(left_out))
    } else {
        String::new()
    };
    if index.rows.is_empty() {
        return "Nothing is in here yet: the source had nothing that the channel asks for.".to_owned();
    }
    match counts.hold + counts.deny {
        0 => format!(
            "{} of {packages} may be installed; nothing was kept out here.{sender}",
            count(counts.admit, "file")
        ),
        out => format!(
            "{} of {packages} may be installed; {} kept out: {} held, {} denied.{sender}",
            count(counts.admit, "file"),
            if out == 1 { "1 was".to_owned() } else { format!("{} were", thousands(out)) },
            thousands(counts.hold),
            thousands(counts.deny),
        ),
    }
}

/// What no advisory can speak of, where there is any of it.
fn uncovered(covered: Covered) -> String {
    match covered.unknown {
        0 => String::new(),
        n => format!(
            " Of {} of {} packages nothing could have been found, which is not the same as clean.",
            thousands(n),
            thousands(covered.total())
        ),
    }
}

/// What is offered although rules hold it waits for a person too.
fn reviews(index: &Index, now: Time) -> Option<String> {
    let all: Vec<Time> = index.rows.iter().filter_map(|r| r.review_by).collect();
    let first = When::new(*all.iter().min()?, now);
    let which = if all.len() == 1 {
        "1 package is".to_owned()
    } else {
        format!("{} packages are", thousands(all.len() as u64))
    };
    Some(format!(
        "{which} still offered although rules hold something of it. Unless a person decides, the first goes on {} ({}).",
        first.date(),
        first.ago()
    ))
}

impl List {
    fn new(rows: &[&Arc<Row>], start: usize, params: &Params, all: usize, now: Time) -> Self {
        let shown: Vec<RowView> =
            rows.iter().skip(start).take(ROWS_MAX).map(|r| RowView::new(r, now)).collect();
        let end = start + shown.len();
        let link = |last: usize| rows.get(last).map(|r| params.with("after", &r.name));
        let of = if rows.len() == all {
            thousands(all as u64)
        } else {
            format!("{} of {}", thousands(rows.len() as u64), thousands(all as u64))
        };
        let range = if start > 0 || end < rows.len() {
            format!(", {} to {} shown", thousands(start as u64 + 1), thousands(end as u64))
        } else {
            String::new()
        };
        Self {
            rows: shown,
            heading: format!("{of}{range}"),
            is_reasons: params.is_reasons(),
            columns: columns(params),
            first: (start > 0).then(|| params.with("", "")),
            previous: start.checked_sub(ROWS_MAX + 1).and_then(link),
            next: if end < rows.len() { end.checked_sub(1).and_then(link) } else { None },
        }
    }
}

fn columns(params: &Params) -> Vec<Column> {
    let column = |title, sort: Option<&str>, is_number| Column {
        title,
        sort: sort.filter(|s| *s != params.sort).map(|s| params.with("sort", s)),
        is_sorted: sort
            .filter(|s| *s == params.sort)
            .map(|s| if s.is_empty() { "ascending" } else { "descending" }),
        is_number,
    };
    let mut out = vec![column("Package", Some(""), false), column("Newest offered", None, false)];
    if params.is_reasons() {
        out.push(column("Held", Some("held"), true));
        out.push(column("Denied", Some("denied"), true));
        out.push(column("Why", Some("reason"), false));
    } else {
        out.push(column("Offered", Some("admitted"), true));
        out.push(column("Held", Some("held"), true));
        out.push(column("Denied", Some("denied"), true));
        out.push(column("Highest score offered", Some("score"), false));
        out.push(column("Coverage", None, false));
    }
    out
}

impl RowView {
    fn new(row: &Row, now: Time) -> Self {
        Self {
            name: row.name.clone(),
            newest: row.newest.clone(),
            newest_link: row.newest.as_deref().map(encoded).unwrap_or_default(),
            admitted: thousands(row.admitted),
            held: thousands(row.held),
            denied: thousands(row.denied),
            left_out: if row.left_out == 0 { String::new() } else { thousands(row.left_out) },
            severity: (row.findings > 0).then(|| Severity::of(row.highest)),
            no_severity: match (&row.newest, row.coverage) {
                (None, _) => "",
                (Some(_), Coverage::Unknown) => "cannot be known",
                (Some(_), _) => "nothing known",
            },
            coverage: coverage_word(row.coverage),
            is_unknown: row.coverage == Coverage::Unknown,
            review_by: row.review_by.map(|t| When::new(t, now)),
            whys: row.whys.iter().map(Because::of).collect(),
            more: row.more_whys,
        }
    }
}

impl Because {
    fn of(why: &Why) -> Self {
        Self {
            advisory: why.advisory.clone(),
            anchor: why.advisory.as_deref().map(anchor).unwrap_or_default(),
            severity: Severity::of(why.score),
            rules: why.rules.join(", "),
            by_sender: why.by_sender,
        }
    }
}
