//! The summary of evidence: one page that stands alone, to be read and printed. It is a part of a signed file, so that it says
//! nothing that depends on who looks or when.

use airlock_core::advisory::FeedHead;
use airlock_core::decision::Decision;
use airlock_core::matching::Status;
use airlock_engine::error::{Error, Result};
use airlock_engine::evidence::summary::{Found, Summary};
use askama::Template;

use super::asset::CSS;
use super::bar::Bar;
use super::format::{Severity, count, thousands};

#[derive(Template)]
#[template(path = "evidence.html")]
struct Page<'a> {
    css: &'static str,
    s: &'a Summary,
    lede: String,
    open: String,
    bar: Bar,
    feeds: Vec<FeedRow<'a>>,
    decisions: Vec<DecisionRow<'a>>,
    decisions_left: usize,
    findings: Vec<FindingRow<'a>>,
    findings_all: String,
    is_cut: bool,
    states: Vec<(&'static str, String)>,
}

struct FeedRow<'a> {
    name: &'a str,
    kind: &'static str,
    head: &'a FeedHead,
    records: String,
    age: String,
}

struct DecisionRow<'a> {
    decision: &'a Decision,
    what: String,
    state: &'static str,
    until: String,
}

struct FindingRow<'a> {
    severity: Severity,
    found: &'a Found,
    marks: Vec<&'static str>,
    state: &'static str,
    versions: String,
    files: String,
    fixed: String,
    ruled: &'a str,
}

/// Versions of a finding that are named.
const VERSIONS_MAX: usize = 6;

/// Makes the page.
///
/// # Errors
///
/// If the template fails, which it does for no input.
pub fn evidence(summary: &Summary) -> Result<String> {
    let open: u64 =
        summary.states.iter().filter(|(status, _)| status.is_open()).map(|(_, number)| number).sum();
    let all: u64 = summary.states.values().sum();
    let page = Page {
        css: CSS,
        s: summary,
        lede: format!(
            "{} are offered; {} held and {} denied.",
            count(summary.counts.admit, "file"),
            thousands(summary.counts.hold),
            thousands(summary.counts.deny)
        ),
        open: match (open, all) {
            (_, 0) => "No vulnerability is known against what is offered.".to_owned(),
            (0, all) => format!("All of {} are mitigated or cleared.", count(all, "finding")),
            (open, all) => {
                format!("{} of {} speak against what is offered.", thousands(open), count(all, "finding"))
            }
        },
        bar: Bar::new(summary.counts, 0),
        feeds: summary.feeds.iter().map(|(name, head)| FeedRow::of(name, head, summary)).collect(),
        decisions: summary.decisions.iter().map(DecisionRow::of).collect(),
        decisions_left: summary.decisions_all.saturating_sub(summary.decisions.len()),
        findings: summary.findings.iter().map(FindingRow::of).collect(),
        findings_all: thousands(all),
        is_cut: all > summary.findings.len() as u64,
        states: Status::ALL
            .iter()
            .filter_map(|status| Some((status.name(), thousands(*summary.states.get(status)?))))
            .collect(),
    };
    page.render().map_err(|e| Error::fault(format!("the summary cannot be made: {e}")))
}

impl<'a> FeedRow<'a> {
    fn of(name: &'a str, head: &'a FeedHead, summary: &Summary) -> Self {
        let days = summary.inputs.now.since(head.read_at).as_seconds() / 86_400;
        let age = count(u64::try_from(days).unwrap_or_default(), "day");
        Self { name, kind: head.kind.name(), head, records: thousands(head.count), age }
    }
}

impl<'a> DecisionRow<'a> {
    fn of((decision, is_in_force): &'a (Decision, bool)) -> Self {
        let until = decision.expires.map(|time| time.date());
        let until: Vec<String> =
            until.into_iter().chain(decision.until_fixed.then(|| "fixed".to_owned())).collect();
        let state = if *is_in_force { "in force" } else { "ended" };
        Self { decision, what: decision.ruling.told(), state, until: until.join(", ") }
    }
}

impl<'a> FindingRow<'a> {
    fn of(found: &'a Found) -> Self {
        let finding = &found.finding;
        let marks = [("malware", finding.malicious), ("exploited", finding.kev)];
        let mut versions: Vec<&str> = found.versions.iter().take(VERSIONS_MAX).map(String::as_str).collect();
        let more = found.versions.len().saturating_sub(VERSIONS_MAX);
        let more = (more > 0).then(|| format!("and {more} more"));
        versions.extend(more.as_deref());
        let fixed: Vec<&str> = finding.fixed.iter().map(String::as_str).collect();
        Self {
            severity: Severity::of(finding.score.as_ref().map(|score| score.score)),
            found,
            marks: marks.into_iter().filter(|(_, is)| *is).map(|(word, _)| word).collect(),
            state: if finding.undecided { "undecided" } else { finding.status.name() },
            versions: versions.join(", "),
            files: thousands(found.files),
            fixed: fixed.join(", "),
            ruled: found.ruled.as_deref().unwrap_or("nobody ruled of it"),
        }
    }
}
