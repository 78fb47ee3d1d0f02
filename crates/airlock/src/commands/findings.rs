//! `findings`, `vex`: what is known against what a channel publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::matching::Status;
use airlock_core::snapshot::Covered;
use airlock_core::version::Order;
use airlock_engine::error::{Error, Result};
use airlock_engine::explain::{self, FindingView, PublishedFinding};
use airlock_engine::vex;
use airlock_formats::feeds::vex::write;

use super::Cx;
use super::judging::published;
use crate::cli::VexForm;
use crate::output::{count, table};

/// Characters of a summary that are shown without --verbose.
const SUMMARY_CHARS: usize = 70;

pub async fn findings(
    cx: &Cx,
    name: &str,
    status: Option<String>,
    min_score: Option<f64>,
) -> Result<ExitCode> {
    if let Some(unknown) = status.as_ref().filter(|s| Status::ALL.iter().all(|known| known.name() != *s)) {
        let known = Status::ALL.map(Status::name).join(", ");
        return Err(Error::usage(format!("`{unknown}` is no status")).hint(format!("use one of {known}")));
    }
    let station = cx.open().await?;
    let (view, channel) = published(&station, name).await?;
    let mut found = explain::findings(&view, &channel).await?;
    found.retain(|f| {
        status.as_ref().is_none_or(|s| f.finding.status.name() == s)
            && min_score.is_none_or(|m| f.finding.score.is_some_and(|s| s.value() >= m))
    });
    let covered = channel.newest.covered;
    let json = || Ok(serde_json::json!({"channel": name, "covered": covered, "findings": found}));
    cx.out.answer(json, || text(cx, &found, channel.channel.ecosystem, covered))?;
    Ok(ExitCode::SUCCESS)
}

/// One vulnerability of one package, in one state.
struct Group<'a> {
    finding: &'a FindingView,
    versions: Vec<String>,
    files: u64,
}

fn text(cx: &Cx, found: &[PublishedFinding], ecosystem: Ecosystem, covered: Covered) -> String {
    let mut groups: BTreeMap<(&str, &str, &str), Group<'_>> = BTreeMap::new();
    for one in found {
        let key = (one.name.as_str(), one.finding.advisory.as_str(), state(&one.finding));
        let group = groups.entry(key).or_insert_with(|| Group {
            finding: &one.finding,
            versions: Vec::new(),
            files: 0,
        });
        group.files += 1;
        if !group.versions.contains(&one.version) {
            group.versions.push(one.version.clone());
        }
    }
    let packages: BTreeSet<&str> = groups.keys().map(|(name, ..)| *name).collect();
    let files: BTreeSet<&str> = found.iter().map(|one| one.artifact.as_str()).collect();
    let mut out = format!(
        "{} of {} in {}\n{}\n",
        count(groups.len() as u64, "finding"),
        count(packages.len() as u64, "package"),
        count(files.len() as u64, "file"),
        coverage(covered)
    );
    let mut sorted: Vec<_> = groups.into_iter().collect();
    let rank = |group: &Group<'_>| {
        let f = group.finding;
        (std::cmp::Reverse((f.malicious, f.kev, f.score)), f.advisory.clone())
    };
    sorted.sort_by_cached_key(|(key, group)| (rank(group), *key));
    let rows: Vec<Vec<String>> =
        sorted.into_iter().map(|((name, ..), group)| row(cx, name, group, ecosystem)).collect();
    out += &table(&rows);
    out
}

fn row(cx: &Cx, name: &str, mut group: Group<'_>, ecosystem: Ecosystem) -> Vec<String> {
    let f = group.finding;
    Order::of(ecosystem).sort(&mut group.versions);
    let versions = match (group.versions.first(), group.versions.last()) {
        (Some(first), Some(last)) if first != last => {
            format!("{first} to {last}, {}", count(group.versions.len() as u64, "version"))
        }
        (Some(one), _) => one.clone(),
        _ => String::new(),
    };
    let score = f.score.map_or_else(|| "no score".to_owned(), |s| format!("{s} {}", s.band()));
    let score = match (f.malicious, f.kev) {
        (true, _) => "malware".to_owned(),
        (false, true) => format!("{score}, exploited"),
        (false, false) => score,
    };
    let fixed: Vec<&str> = f.fixed.iter().map(String::as_str).collect();
    let fixed = match fixed.as_slice() {
        [] => "no fix named".to_owned(),
        some => format!("fixed from {}", some.join(", ")),
    };
    let mut summary = f.summary.clone();
    if !cx.out.is_verbose() && summary.chars().count() > SUMMARY_CHARS {
        summary = summary.chars().take(SUMMARY_CHARS).chain(['…']).collect();
    }
    vec![
        score,
        f.advisory.clone(),
        state(f).to_owned(),
        format!("{name} {versions}"),
        count(group.files, "file"),
        fixed,
        summary,
    ]
}

/// How much of a channel advisories can speak of at all.
fn coverage(covered: Covered) -> String {
    let Covered { verified, automatic, none_needed, unknown } = covered;
    let of = count(covered.total(), "package");
    let unknown = match unknown {
        0 => String::new(),
        n => format!("; of {n} nothing could have been found, which is not the same as clean"),
    };
    format!(
        "Of {of}, {verified} are covered by a checked identity, {automatic} by an automatic one, {none_needed} need none{unknown}."
    )
}

/// The state of a finding, as people read it.
pub const fn state(finding: &FindingView) -> &'static str {
    if finding.undecided { "undecided" } else { finding.status.name() }
}

pub async fn vex(cx: &Cx, name: &str, form: VexForm) -> Result<ExitCode> {
    let station = cx.open().await?;
    let (view, channel) = published(&station, name).await?;
    let document = vex::document(&view, &channel).await?;
    if document.rulings.is_empty() {
        return Err(Error::no(format!("nothing was ruled of the findings of channel `{name}`"))
            .hint("`airlock review status` rules; `airlock findings` shows what there is to rule on"));
    }
    let written = match form {
        VexForm::Openvex => write::openvex(&document),
        VexForm::Csaf => write::csaf(&document),
    };
    cx.out.answer(|| Ok(written.clone()), || format!("{written:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}
