//! `advisories`

use std::collections::BTreeSet;
use std::process::ExitCode;

use airlock_core::advisory::FeedKind;
use airlock_core::time::Time;
use airlock_engine::error::{Error, Result};
use airlock_engine::explain::{self, Concerned};
use airlock_engine::feeds::{self, Accepted, FeedReport, Loosening, Reading};
use airlock_engine::judge::How;
use airlock_engine::station::Station;
use airlock_engine::status::{self, FeedStatus};
use airlock_engine::sync::{self, Rejudged};
use airlock_engine::view::View;

use super::{Cx, bundles, judging};
use crate::cli::bundles::ImportHow;
use crate::cli::{AdvisoriesCommand, LooseningArg};
use crate::output::{ago, count, table};

pub async fn run(cx: &Cx, command: AdvisoriesCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        AdvisoriesCommand::Add { kind, location } => {
            let known = FeedKind::ALL.map(FeedKind::name).join(", ");
            let kind = FeedKind::ALL.into_iter().find(|k| k.name() == kind).ok_or_else(|| {
                Error::usage(format!("`{kind}` is not a kind of feed")).hint(format!("use one of {known}"))
            })?;
            let name = feeds::add(&station, kind, &location).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"feed": name, "kind": kind})),
                || format!("Added feed `{name}`. Next: `airlock advisories update`.\n"),
            )?;
        }
        AdvisoriesCommand::Update { feeds, accept_shrink, anew } => {
            update(cx, &station, &feeds, Reading { accept_shrink, anew }).await?;
        }
        AdvisoriesCommand::Remove { name, reason } => {
            feeds::remove(&station, &name, &reason).await?;
            cx.out.say(&format!("Removed feed `{name}`."));
            let Rejudged { outcomes, failed } = sync::rejudge_all(&station, "advisories remove").await?;
            let json = || {
                let mut json = judging::json(&outcomes)?;
                json.set("removed", name.into());
                Ok(json)
            };
            cx.out.answer(json, || judging::text(cx, &outcomes))?;
            failed.map_or(Ok(()), Err)?;
        }
        AdvisoriesCommand::Set { name, loosening } => {
            let loosening = match loosening {
                LooseningArg::Accept => Loosening::Accept,
                LooseningArg::Ask => Loosening::Ask,
            };
            feeds::set_loosening(&station, &name, loosening).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"feed": name, "loosening": loosening})),
                || format!("What becomes milder in feed `{name}` {}.\n", loosening_text(loosening)),
            )?;
        }
        AdvisoriesCommand::Export { file, to, receipt } => {
            bundles::export_advisories(cx, &file, to, receipt).await?;
        }
        AdvisoriesCommand::Import { file, receipt_out } => {
            return bundles::import(cx, &[file], receipt_out, ImportHow::default()).await;
        }
        AdvisoriesCommand::Waiting => {
            let waiting = feeds::waiting(&station).await?;
            let row =
                |w: &feeds::Waiting| vec![w.feed.clone(), w.id.clone(), w.how.clone(), w.summary.clone()];
            let text = || match waiting.is_empty() {
                true => "Nothing waits.\n".to_owned(),
                false => table(&waiting.iter().map(row).collect::<Vec<_>>()),
            };
            cx.out.answer(|| Ok(serde_json::json!({ "waiting": waiting })), text)?;
        }
        AdvisoriesCommand::Accept { feeds: names, ids, dry_run, reason } => {
            let accepted = Accepted { feeds: names.into_iter().collect(), ids: ids.into_iter().collect() };
            accept(cx, &station, &accepted, dry_run, reason.as_deref().unwrap_or_default()).await?;
        }
        AdvisoriesCommand::Status => {
            let feeds = status::feed_status(&station).await?;
            let now = station.now().await?;
            cx.out.answer(|| Ok(serde_json::json!({ "feeds": feeds })), || feeds_text(&feeds, now))?;
        }
        AdvisoriesCommand::Show { id } => show(cx, &station, &id).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads feeds and judges by what they say.
async fn update(cx: &Cx, station: &Station, names: &[String], how: Reading) -> Result<()> {
    let updated = feeds::update_with(station, names, how).await?;
    say_reports(cx, &updated.read);
    let Rejudged { outcomes, failed } = sync::rejudge_all(station, "advisories update").await?;
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json.set("feeds", updated.read.iter().map(feed_json).collect());
        Ok(json)
    };
    judging::tell(cx, station, "advisories update", &outcomes, json).await?;
    // What could be read acts; what could not is an error all the same.
    updated.failed.or(failed).map_or(Ok(()), Err)
}

/// What the feeds say of one vulnerability, and what it means here.
async fn show(cx: &Cx, station: &Station, id: &str) -> Result<()> {
    let records = feeds::show(station, id).await?;
    // Under every name that a record gives it alone: one of several CVEs is not another of them.
    let mut ids: BTreeSet<String> = records.iter().map(|(_, r)| r.advisory.id.clone()).collect();
    ids.extend(records.iter().filter_map(|(_, r)| r.advisory.cve().map(str::to_owned)));
    let view = View::new(station.clone());
    let mut concerned = Vec::new();
    for channel in airlock_engine::channel::list(station).await? {
        if let Some(channel) = view.channel(&channel.name).await? {
            concerned.extend(explain::concerned(&view, &channel, &ids).await?);
        }
    }
    let json = || -> Result<serde_json::Value> {
        let list: Vec<serde_json::Value> = records
            .iter()
            .map(|(feed, r)| serde_json::json!({"feed": feed, "advisory": r.advisory, "raw": r.raw}))
            .collect();
        Ok(serde_json::json!({"id": id, "records": list, "concerned": concerned}))
    };
    let text = || {
        let said: String = records.iter().map(|(feed, r)| record_text(feed, &r.advisory)).collect();
        said + &concerned_text(&concerned)
    };
    cx.out.answer(json, text)
}

/// What a vulnerability means here, and what to do next.
fn concerned_text(concerned: &[Concerned]) -> String {
    let Some(first) = concerned.first() else {
        return "It concerns nothing that the channels of this station have, as far as is known.\n"
            .to_owned();
    };
    let mut out = String::new();
    if concerned.iter().any(|one| one.kev) {
        out += "It is known to be exploited (KEV).\n";
    }
    if let Some(p) = concerned.iter().filter_map(|one| one.epss).reduce(f64::max) {
        out += &format!("EPSS: {:.1} % within 30 days.\n", p * 100.0);
    }
    let rows: Vec<Vec<String>> = concerned
        .iter()
        .map(|one| {
            let versions = match (one.versions.first(), one.versions.last()) {
                (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
                (Some(one), _) => one.clone(),
                _ => String::new(),
            };
            let c = one.counts;
            let files = format!("{} admitted, {} held, {} denied", c.admit, c.hold, c.deny);
            vec![one.channel.clone(), one.name.clone(), versions, one.status.name().to_owned(), files]
        })
        .collect();
    out += &table(&rows);
    out + &format!(
        "Next: `airlock explain {} {}`; `airlock review status` rules on it.\n",
        first.channel, first.name
    )
}

/// Accepts what became milder, or shows what that would do.
async fn accept(cx: &Cx, station: &Station, accepted: &Accepted, dry: bool, reason: &str) -> Result<()> {
    let (count, outcomes, failed) = match dry {
        true => {
            let (set, count) = feeds::preview(station, accepted).await?;
            let how = How { advisories: Some(set), ..How::default() };
            let judged = sync::rejudge_as(station, &how, "advisories accept").await?;
            (count, judged.outcomes, judged.failed)
        }
        false => {
            let count = feeds::accept(station, accepted, reason).await?;
            let Rejudged { outcomes, failed } = sync::rejudge_all(station, "advisories accept").await?;
            (count, outcomes, failed)
        }
    };
    let what = if dry { "would be accepted" } else { "accepted" };
    cx.out.say(&format!("{} {what}", crate::output::count(count, "record")));
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json.set("accepted", count.into());
        json.set("dry_run", dry.into());
        Ok(json)
    };
    cx.out.answer(json, || judging::text(cx, &outcomes))?;
    failed.map_or(Ok(()), Err)
}

const fn loosening_text(loosening: Loosening) -> &'static str {
    match loosening {
        Loosening::Accept => "acts by itself",
        Loosening::Ask => "waits for a person: `airlock advisories waiting`",
    }
}

/// Says what was read while it is worked with.
pub fn say_reports(cx: &Cx, reports: &[FeedReport]) {
    for report in reports {
        let skipped = match report.head.skipped {
            0 => String::new(),
            n => format!(", {} left out", count(n, "record")),
        };
        let changed = if report.changed { "" } else { ", unchanged" };
        cx.out.say(&format!(
            "feed {}: {}{skipped}{changed}",
            report.name,
            count(report.head.count, "record")
        ));
        let shown = if cx.out.is_verbose() { report.bad.len() } else { 3 };
        for bad in report.bad.iter().take(shown) {
            cx.out.say(&format!("  left out {}: {}", bad.id, bad.reason));
        }
    }
}

fn feed_json(report: &FeedReport) -> serde_json::Value {
    let bad: Vec<serde_json::Value> =
        report.bad.iter().map(|b| serde_json::json!({"id": b.id, "reason": b.reason})).collect();
    serde_json::json!({
        "name": report.name, "count": report.head.count, "skipped": report.head.skipped, "hash": report.head.content,
        "changed": report.changed, "left_out": bad,
    })
}

/// The feeds as a table.
pub fn feeds_text(feeds: &[FeedStatus], now: Time) -> String {
    if feeds.is_empty() {
        return "No feed was read yet, so that nothing is known of vulnerabilities: `airlock advisories add KIND URL|PATH`.\n".to_owned();
    }
    let mut rows = vec![["feed", "kind", "records", "left out", "read", "hash"].map(str::to_owned).to_vec()];
    for feed in feeds {
        rows.push(vec![
            feed.name.clone(),
            feed.kind.to_owned(),
            feed.count.to_string(),
            feed.skipped.to_string(),
            ago(now, feed.read_at),
            feed.hash.short(),
        ]);
    }
    table(&rows)
}

fn record_text(feed: &str, advisory: &airlock_core::advisory::Advisory) -> String {
    let mut out = format!("{} ({feed})\n", advisory.id);
    let aliases: Vec<&str> = advisory.aliases.iter().map(String::as_str).collect();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("  {name:<10} {value}\n");
        }
    };
    line("also", aliases.join(", "));
    line(
        "state",
        if advisory.withdrawn {
            "withdrawn".to_owned()
        } else if advisory.disputed {
            "disputed".to_owned()
        } else {
            String::new()
        },
    );
    line("modified", advisory.modified.map(|t| t.to_string()).unwrap_or_default());
    line("summary", advisory.summary.clone());
    for score in &advisory.scores {
        line("score", format!("{} {} by {}", score.score, score.vector, score.source));
    }
    line(
        "severity",
        advisory.severity.as_ref().map(|word| format!("{word}, without a score")).unwrap_or_default(),
    );
    line("ssvc", advisory.ssvc.clone().unwrap_or_default());
    for affected in &advisory.affected {
        let ranges: Vec<String> = affected.ranges.iter().map(ToString::to_string).collect();
        let listed = if affected.versions.is_empty() {
            String::new()
        } else {
            format!(", {} versions listed", affected.versions.len())
        };
        line("affects", format!("{} {}{listed}", affected.key.as_str(), ranges.join(" or ")));
    }
    out
}
