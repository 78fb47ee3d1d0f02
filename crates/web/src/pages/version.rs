//! A version's page: may I install this one, and why not?

use airlock_core::identity::Coverage;
use airlock_core::version::Order;
use airlock_engine::explain::{Explained, Explanation};
use airlock_engine::view::View;
use askama::Template;

use super::basis::{Basis, basis};
use super::findings::{FindingRow, Rule, findings, rules};
use super::format::{Hash, Mark, When, coverage, encoded, size};
use super::install::Lines;
use super::missing;
use super::package::{Found, VersionRow, find, is_offered, mark};
use super::reply::{Answer, Ask, Shell, html, json};

#[derive(Template)]
#[template(path = "version.html")]
struct Page {
    shell: Shell,
    channel: String,
    name: String,
    version: String,
    row: VersionRow,
    is_offered: bool,
    nearest: Option<String>,
    nearest_link: String,
    install: Vec<Lines>,
    basis: Basis,
    coverage: &'static str,
    is_unknown: bool,
    made: Vec<RuleRow>,
    other: Vec<RuleRow>,
    artifacts: Vec<FileRow>,
    findings: Vec<FindingRow>,
    ask: Option<String>,
}

/// A rule and the files that it concerns.
struct RuleRow {
    rule: Rule,
    files: usize,
    of: usize,
}

/// One file.
struct FileRow {
    place: String,
    mark: Mark,
    review_by: Option<When>,
    denied_from: Option<When>,
    flips_at: Option<When>,
    size: String,
    time: Option<When>,
    licence: String,
    sha256: Option<Hash>,
    is_yanked: bool,
}

/// Makes the page.
pub(super) async fn page(ask: &Ask, view: &View, channel: &str, name: &str, version: &str) -> Answer {
    let mut found = find(view, channel, name).await?;
    let order = Order::of(found.channel.channel.ecosystem);
    let is_exact = found.artifacts.iter().any(|a| a.version == version);
    let is_meant = |a: &Explained| {
        a.version == version
            || (!is_exact && order.compare(&a.version, version) == Some(std::cmp::Ordering::Equal))
    };
    found.artifacts.retain(is_meant);
    let now = view.now().await?;
    let Some(row) = VersionRow::new(&found, &found.artifacts, now) else {
        return Err(missing::version(channel, &found.name, version).into());
    };
    if ask.json() {
        return json(&Explanation { channel: channel.to_owned(), artifacts: found.artifacts });
    }
    let version = found.artifacts.first().map_or(version, |a| a.version.as_str()).to_owned();
    let offered = found.artifacts.iter().any(is_offered);
    let nearest = found.artifacts.iter().find_map(|a| a.nearest.clone()).filter(|_| !offered);
    let to_install = if offered { Some(version.clone()) } else { nearest.clone() };
    let (made, other) = rule_rows(&found);
    let withheld = found.artifacts.iter().find(|a| !is_offered(a));
    let plea = withheld.map(|a| found.plea(ask, &format!("/{}/{}", found.path(), encoded(&version)), a));
    let mut crumbs = found.crumbs();
    crumbs.push((found.name.clone(), found.path()));
    html(&Page {
        shell: Shell::new(ask, view, now, format!("{} {version} in {channel}", found.name), crumbs),
        channel: channel.to_owned(),
        row,
        is_offered: offered,
        nearest_link: nearest.as_deref().map(encoded).unwrap_or_default(),
        nearest,
        install: to_install.map(|v| found.install(ask, &v)).unwrap_or_default(),
        basis: basis(view, &found.channel, now).await?,
        coverage: coverage(found.coverage()),
        is_unknown: found.coverage() == Coverage::Unknown,
        made,
        other,
        artifacts: found.artifacts.iter().map(|a| FileRow::new(&found, a, now)).collect(),
        findings: findings(&found.artifacts, now),
        ask: plea,
        name: found.name,
        version,
    })
}

/// The rules of all files, each once: those that made the verdicts, and the others.
fn rule_rows(found: &Found) -> (Vec<RuleRow>, Vec<RuleRow>) {
    let of = found.artifacts.len();
    let (mut made, mut other): (Vec<RuleRow>, Vec<RuleRow>) = (Vec::new(), Vec::new());
    let note = |into: &mut Vec<RuleRow>, rule: Rule| match into.iter_mut().find(|r| r.rule == rule) {
        Some(row) => row.files += 1,
        None => into.push(RuleRow { rule, files: 1, of }),
    };
    for artifact in &found.artifacts {
        let (deciding, rest) = rules(&found.reading, artifact);
        deciding.into_iter().for_each(|rule| note(&mut made, rule));
        rest.into_iter().for_each(|rule| note(&mut other, rule));
    }
    (made, other)
}

impl FileRow {
    fn new(found: &Found, artifact: &Explained, now: airlock_core::time::Time) -> Self {
        let about = found.reading.about.get(&artifact.artifact);
        let when = |time: Option<_>| time.map(|t| When::new(t, now));
        Self {
            place: artifact.artifact.clone(),
            mark: mark(artifact),
            review_by: when(artifact.review_by),
            denied_from: when(artifact.denied_from),
            flips_at: when(artifact.flips_at),
            size: about.and_then(|a| a.size).map(size).unwrap_or_default(),
            time: when(about.and_then(|a| a.time)),
            licence: about.and_then(|a| a.licence.clone()).unwrap_or_default(),
            sha256: about.and_then(|a| a.sha256).map(Hash::new),
            is_yanked: about.is_some_and(|a| a.yanked),
        }
    }
}
