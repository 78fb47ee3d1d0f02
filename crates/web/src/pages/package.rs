//! A package's page: which version may I install, how, and why not the others?

use airlock_core::ecosystem::canonical_name;
use airlock_core::identity::Coverage;
use airlock_core::time::Time;
use airlock_core::verdict::Verdict;
use airlock_engine::explain::{self, Explained, Explanation};
use airlock_engine::view::{ChannelView, View};
use askama::Template;
use serde::Deserialize;

use super::basis::{Basis, basis};
use super::findings::{FindingRow, Reason, Rule, findings, reasons, rules};
use super::format::{Mark, Severity, When, count, coverage, encoded, size};
use super::install::{Lines, command, other_command};
use super::missing;
use super::read::{Reading, read};
use super::reply::{Answer, Ask, Fault, Shell, html, json};

/// Versions on a page that shows one verdict only.
const VERSIONS_MAX: usize = 100;
/// Versions of each verdict on the page that shows all of them.
const VERSIONS_EACH_MAX: usize = 25;
/// Vulnerabilities that are told in full unless all are asked for.
const FINDINGS_MAX: usize = 15;
/// Reasons that a version's page names at once.
const REASONS_MAX: usize = 5;

/// What may stand behind the `?`.
#[derive(Default, Deserialize)]
pub(crate) struct Params {
    after: Option<String>,
    verdict: Option<String>,
    findings: Option<String>,
}

#[derive(Template)]
#[template(path = "package.html")]
struct Page {
    shell: Shell,
    channel: String,
    name: String,
    summary: Option<String>,
    licence: Option<String>,
    newest: Option<String>,
    newest_link: String,
    install: Vec<Lines>,
    is_empty: bool,
    basis: Basis,
    coverage: &'static str,
    is_unknown: bool,
    groups: Vec<Group>,
    is_filtered: bool,
    findings: Vec<FindingRow>,
    findings_all: usize,
    ask: Option<String>,
}

/// Versions with one verdict.
struct Group {
    mark: Mark,
    title: String,
    rows: Vec<VersionRow>,
    /// Where the rest is.
    rest: Option<String>,
}

/// One version at a glance.
pub(super) struct VersionRow {
    version: String,
    link: String,
    /// Its page, from the package's.
    at: String,
    /// Its verdict: the mildest of its artifacts, since that is what can be installed.
    pub mark: Mark,
    /// How many artifacts have which verdict, where they differ.
    pub parts: Option<String>,
    /// Until when it stays although rules hold it.
    pub review_by: Option<When>,
    /// Until when it stays although rules deny it.
    pub denied_from: Option<When>,
    /// Why, where none of the rules here says so.
    pub denied_for: Option<String>,
    /// What speaks against it, worst first.
    pub reasons: Vec<Reason>,
    /// How much more does.
    pub more: usize,
    nearest: Option<String>,
    severity: Option<Severity>,
    known: String,
    licence: String,
    time: Option<When>,
    size: String,
    files: String,
    is_yanked: bool,
}

/// A channel and a package of it.
pub(super) struct Found {
    /// The channel.
    pub channel: ChannelView,
    /// The canonical name.
    pub name: String,
    /// What is known.
    pub reading: Reading,
    /// Every artifact, newest version first.
    pub artifacts: Vec<Explained>,
}

/// Finds a package by what somebody typed.
pub(super) async fn find(view: &View, channel: &str, name: &str) -> Result<Found, Fault> {
    let Some(channel_view) = view.channel(channel).await? else {
        return Err(missing::channel(view, channel).await);
    };
    let canonical = canonical_name(channel_view.channel.ecosystem, name);
    let reading = match &canonical {
        Some(name) => read(view, &channel_view, name).await?,
        None => None,
    };
    match (canonical, reading) {
        (Some(name), Some(reading)) => {
            let epss = explain::epss(view, &channel_view).await?;
            let artifacts = reading.package.explained(&channel_view, &epss);
            Ok(Found { channel: channel_view, name, reading, artifacts })
        }
        _ => Err(missing::package(view, channel, name).await),
    }
}

impl Found {
    /// The newest version of which something is offered.
    pub(super) fn newest(&self) -> Option<&str> {
        self.artifacts.iter().find(|a| is_offered(a)).map(|a| a.version.as_str())
    }

    /// The commands for one version.
    pub(super) fn install(&self, ask: &Ask, version: &str) -> Vec<Lines> {
        let channel = &self.channel.channel;
        vec![
            command(ask, channel.ecosystem, &channel.name, &self.name, version),
            other_command(ask, channel.ecosystem, &channel.name, &self.name, version),
        ]
    }

    /// How well advisories cover it.
    pub(super) fn coverage(&self) -> Coverage {
        let all = self.reading.package.ours.iter().chain(&self.reading.package.sent);
        all.map(|j| j.coverage).max().unwrap_or(Coverage::Unknown)
    }

    /// The way down to the package.
    pub(super) fn crumbs(&self) -> Vec<(String, String)> {
        let channel = &self.channel.channel.name;
        vec![(channel.clone(), format!("channels/{channel}"))]
    }

    /// The path of the package below the station.
    pub(super) fn path(&self) -> String {
        format!("packages/{}/{}", self.channel.channel.name, encoded(&self.name))
    }

    /// What to say to a security officer about a version that is not offered.
    pub(super) fn plea(&self, ask: &Ask, root: &str, artifact: &Explained) -> String {
        let (made, _) = rules(&self.reading, artifact);
        let why = reasons(&made, std::slice::from_ref(artifact));
        let because = why.first().map_or(String::new(), |reason| {
            if let Some(means) = reason.rules.first().and_then(|r| r.builtin) {
                return format!(" because {means}");
            }
            let names: Vec<&str> = reason.rules.iter().map(|r| r.name.as_str()).collect();
            let about = reason.advisory.as_ref().map(|a| format!(" for {a}")).unwrap_or_default();
            format!(" by {}{about}", names.join(" and "))
        });
        let verdict = mark(artifact);
        // That a rule only warns of it is not why it is gone.
        let because = if verdict == Mark::GONE { String::new() } else { because };
        let verdict = verdict.word();
        format!(
            "Please look at {} {} in channel {}. It is {verdict}{because}. I need it for … until …. {}{root}",
            self.name,
            artifact.version,
            self.channel.channel.name,
            ask.base(),
        )
    }
}

/// Whether an artifact may be installed.
pub(super) fn is_offered(artifact: &Explained) -> bool {
    artifact.verdict == Verdict::Admit.word() && !artifact.by_sender && !artifact.gone
}

/// The verdict of one artifact.
pub(super) fn mark(artifact: &Explained) -> Mark {
    if artifact.by_sender {
        return Mark::LEFT_OUT;
    }
    if artifact.gone && artifact.verdict != Verdict::Deny.word() {
        return Mark::GONE;
    }
    let all = [Verdict::Admit, Verdict::Hold, Verdict::Deny];
    Mark::of(all.into_iter().find(|v| v.word() == artifact.verdict).unwrap_or(Verdict::Deny))
}

/// From mild to strict.
const MARKS: [Mark; 5] =
    [Mark::of(Verdict::Admit), Mark::of(Verdict::Hold), Mark::of(Verdict::Deny), Mark::LEFT_OUT, Mark::GONE];

impl VersionRow {
    /// Of all artifacts of one version.
    pub(super) fn new(found: &Found, artifacts: &[Explained], now: Time) -> Option<Self> {
        let first = artifacts.first()?;
        let marks: Vec<Mark> = artifacts.iter().map(mark).collect();
        let counts: Vec<(Mark, usize)> = MARKS
            .iter()
            .map(|m| (*m, marks.iter().filter(|n| *n == m).count()))
            .filter(|(_, n)| *n > 0)
            .collect();
        let parts = || counts.iter().map(|(m, n)| format!("{n} {}", m.word())).collect::<Vec<_>>().join(", ");
        let mut made: Vec<Rule> = Vec::new();
        for artifact in artifacts {
            let new = rules(&found.reading, artifact).0;
            for rule in new {
                if !made.iter().any(|r| r.name == rule.name && r.advisory == rule.advisory) {
                    made.push(rule);
                }
            }
        }
        let reasons = reasons(&made, artifacts);
        let denied = artifacts.iter().filter_map(|a| Some((a.denied_from?, a.denied_for.as_ref())));
        let first_denied = denied.min();
        // The newest one is what the page begins with.
        let nearest = first.nearest.clone().filter(|v| found.newest() != Some(v));
        let known = findings(artifacts, now);
        let about: Vec<_> = artifacts.iter().filter_map(|a| found.reading.about.get(&a.artifact)).collect();
        let sizes: Vec<u64> = about.iter().filter_map(|a| a.size).collect();
        Some(Self {
            version: first.version.clone(),
            link: encoded(&first.version),
            at: format!("{}/{}", encoded(&found.name), encoded(&first.version)),
            mark: counts.first()?.0,
            parts: (counts.len() > 1).then(parts),
            review_by: artifacts.iter().filter_map(|a| a.review_by).min().map(|t| When::new(t, now)),
            denied_from: first_denied.map(|(from, _)| When::new(from, now)),
            denied_for: first_denied.and_then(|(_, why)| why.cloned()).filter(|_| reasons.is_empty()),
            more: reasons.len().saturating_sub(REASONS_MAX),
            reasons: reasons.into_iter().take(REASONS_MAX).collect(),
            nearest: nearest.filter(|_| !marks.contains(&MARKS[0])),
            severity: known.first().map(|f| f.severity.clone()),
            known: if known.len() > 1 { format!("of {}", known.len()) } else { String::new() },
            licence: about.iter().find_map(|a| a.licence.clone()).unwrap_or_default(),
            time: about.iter().filter_map(|a| a.time).min().map(|t| When::new(t, now)),
            size: span_of_sizes(&sizes),
            files: count(artifacts.len() as u64, "file"),
            is_yanked: !about.is_empty() && about.iter().all(|a| a.yanked),
        })
    }
}

impl VersionRow {
    /// Reasons beside the first.
    fn others(&self) -> usize {
        self.reasons.len().saturating_sub(1) + self.more
    }
}

/// One size, or from the smallest to the largest.
fn span_of_sizes(sizes: &[u64]) -> String {
    match (sizes.iter().min(), sizes.iter().max()) {
        (Some(least), Some(most)) if size(*least) != size(*most) => {
            format!("{} – {}", size(*least), size(*most))
        }
        (Some(least), _) => size(*least),
        _ => String::new(),
    }
}

/// Rows by verdict, mildest first: the newest of each, or one page of one verdict.
fn groups(rows: Vec<VersionRow>, params: &Params) -> Vec<Group> {
    let mut by_mark: Vec<(Mark, Vec<VersionRow>)> = MARKS.map(|mark| (mark, Vec::new())).into();
    for row in rows {
        if let Some((_, rows)) = by_mark.iter_mut().find(|(mark, _)| *mark == row.mark) {
            rows.push(row);
        }
    }
    let wanted = params.verdict.as_deref();
    let is_wanted = |mark: Mark| wanted.is_none_or(|w| w == mark.key());
    let groups = by_mark.into_iter().filter(|(mark, rows)| !rows.is_empty() && is_wanted(*mark));
    groups.map(|(mark, rows)| Group::new(mark, rows, params)).collect()
}

impl Group {
    fn new(mark: Mark, mut rows: Vec<VersionRow>, params: &Params) -> Self {
        let title = count(rows.len() as u64, "version");
        let most = if params.verdict.is_some() { VERSIONS_MAX } else { VERSIONS_EACH_MAX };
        let after = params.after.as_deref().and_then(|a| rows.iter().position(|r| r.version == a));
        let mut rows = rows.split_off(after.map_or(0, |at| at + 1));
        let is_cut = rows.len() > most;
        rows.truncate(most);
        let last = rows.last().map(|r| r.link.as_str()).unwrap_or_default();
        let rest = is_cut.then(|| format!("?verdict={}&after={last}", mark.key()));
        Self { mark, title, rows, rest }
    }
}

/// Makes the page.
pub(super) async fn page(ask: &Ask, view: &View, channel: &str, name: &str, params: &Params) -> Answer {
    let found = find(view, channel, name).await?;
    if ask.json() {
        return json(&Explanation { channel: channel.to_owned(), artifacts: found.artifacts });
    }
    let now = view.now().await?;
    let basis = basis(view, &found.channel, now).await?;
    let by_version = found.artifacts.chunk_by(|a, b| a.version == b.version);
    let rows: Vec<VersionRow> =
        by_version.filter_map(|artifacts| VersionRow::new(&found, artifacts, now)).collect();
    let groups = groups(rows, params);
    let mut findings = findings(&found.artifacts, now);
    let findings_all = findings.len();
    if params.findings.as_deref() != Some("all") {
        findings.truncate(FINDINGS_MAX);
    }
    let newest = found.newest().map(str::to_owned);
    let withheld = found.artifacts.iter().find(|a| !is_offered(a));
    let plea = withheld.map(|a| found.plea(ask, &format!("/{}/{}", found.path(), encoded(&a.version)), a));
    let install = newest.as_deref().map(|v| found.install(ask, v)).unwrap_or_default();
    html(&Page {
        shell: Shell::new(ask, view, now, format!("{} in {channel}", found.name), found.crumbs()),
        channel: channel.to_owned(),
        summary: found.reading.summary(found.artifacts.iter().map(|a| &a.artifact)),
        licence: found.artifacts.iter().find_map(|a| found.reading.about.get(&a.artifact)?.licence.clone()),
        newest_link: newest.as_deref().map(encoded).unwrap_or_default(),
        newest,
        install,
        is_empty: found.artifacts.is_empty(),
        basis,
        coverage: coverage(found.coverage()),
        is_unknown: found.coverage() == Coverage::Unknown,
        groups,
        is_filtered: params.verdict.is_some(),
        findings,
        findings_all,
        ask: plea,
        name: found.name,
    })
}
