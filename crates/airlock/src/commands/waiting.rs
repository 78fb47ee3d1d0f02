//! `review queue`, `review show`

use std::process::ExitCode;

use airlock_core::compare::{Changed, Changes, Told, Unknown};
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_engine::error::{Error, Result};
use airlock_engine::review::{self, AskedFor, Held, Shown, Since};
use airlock_engine::station::Station;
use airlock_engine::status::{self, BrokenGlass};

use super::{Cx, judging};
use crate::output::{ago, bytes, count, plain_lines};

/// Requests and files of a version that are told for people; `--json` tells all.
const SHOWN_MAX: usize = 5;

/// What waits, a paragraph to a version.
pub async fn queue(cx: &Cx, station: &Station, name: &str, spec: &str) -> Result<ExitCode> {
    let (view, channel) = judging::published(station, name).await?;
    let spec = Spec::parse(channel.channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
    let held = review::queue(&view, &channel, &spec).await?;
    let (now, alone) = (station.now().await?, status::broken_glass(station).await?);
    cx.out.answer(
        || Ok(serde_json::json!({"channel": name, "held": held, "broken_glass": alone})),
        || {
            let text = match held.as_slice() {
                [] => format!("Nothing in {name} waits for a person.\n"),
                all => all.iter().map(|one| held_text(one, now) + &next(name, one, true)).collect(),
            };
            let told = |one: &BrokenGlass| {
                format!(
                    "{} was done by {} alone and waits for another person: {}\n",
                    one.proposal, one.by, one.what
                )
            };
            text + &alone.iter().map(told).collect::<String>()
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn held_text(held: &Held, now: Time) -> String {
    let files = count(held.artifacts.len() as u64, "file");
    let until = held.review_by.map(|at| format!(", offered until {}", at.date())).unwrap_or_default();
    let mut out = format!("{} {}: {files}, {}{until}\n", held.name, held.version, bytes(held.size));
    for rule in &held.rules {
        let on = rule.advisory.as_ref().map(|id| format!(": {id}")).unwrap_or_default();
        let there = rule.there.as_ref().map(|there| format!(" ({there})")).unwrap_or_default();
        out += &format!("  held by {}{on}{there}\n", rule.rule);
    }
    for f in &held.findings {
        let score =
            f.score.map_or_else(|| "no score".to_owned(), |score| format!("{} {score}", score.band()));
        let kev = if f.kev { ", known to be exploited" } else { "" };
        let fixed: Vec<&str> = f.fixed.iter().map(String::as_str).collect();
        let fixed = if fixed.is_empty() {
            "not fixed".to_owned()
        } else {
            format!("fixed from {}", fixed.join(", "))
        };
        out += &format!("  {}: {score}{kev}, {fixed}: {}\n", f.advisory, f.summary);
    }
    let licences: Vec<&str> = held.licences.iter().map(String::as_str).collect();
    let licences = if licences.is_empty() { "no licence stated".to_owned() } else { licences.join("; ") };
    let made = held.made.map(|at| format!(", made {}", at.date())).unwrap_or_default();
    let seen = held.first_seen.map(|at| format!(", first seen {}", ago(now, at))).unwrap_or_default();
    out += &format!("  {licences}{made}{seen}\n");
    out += &match &held.nearest {
        Some(nearest) => format!("  nearest version that is offered: {nearest}\n"),
        None => "  no version of it is offered\n".to_owned(),
    };
    out += &requests_text(&held.requests, now);
    out += &dependents_text(held);
    plain_lines(&out)
}

fn next(channel: &str, held: &Held, is_queue: bool) -> String {
    let scope = format!("{}=={}", held.name, held.version);
    let more = if is_queue {
        format!("`airlock review show {channel} '{scope}'` says what changed; ")
    } else {
        String::new()
    };
    format!("  Next: {more}`airlock review approve {channel} --scope '{scope}' --reason WHY`, or reject\n")
}

fn requests_text(requests: &[AskedFor], now: Time) -> String {
    let mut out = String::new();
    for one in requests.iter().take(SHOWN_MAX) {
        let from = one.from.as_ref().map(|peer| format!(" of {peer}")).unwrap_or_default();
        let by = one.by.as_ref().map(|by| format!(", {by}")).unwrap_or_default();
        let ticket = one.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
        let reason =
            if one.reason.is_empty() { "no reason given".to_owned() } else { format!("\"{}\"", one.reason) };
        let (id, spec, when) = (&one.id, &one.spec, ago(now, one.asked));
        out += &format!("  asked for by {id}{from}{by}, {when}: {spec}: {reason}{ticket}\n");
    }
    if requests.len() > SHOWN_MAX {
        let more = (requests.len() - SHOWN_MAX) as u64;
        out += &format!("  and by {}\n", count(more, "more request"));
    }
    out
}

/// How many depend on it, in a line; nothing where none does.
fn dependents_text(held: &Held) -> String {
    let all = &held.dependents;
    let part = |count: u64, only: u64, what: &str| {
        let only = if only > 0 {
            format!(" (for {only} of them nothing else that is offered would do)")
        } else {
            String::new()
        };
        (count > 0).then(|| format!("{} {what}{only}", files(count)))
    };
    let offered = part(all.offered, all.offered_only_this, "that are offered");
    let held = part(all.held, all.held_only_this, "that are held");
    let untold =
        (all.untold > 0).then(|| format!("perhaps {}, which would take too long to tell", all.untold));
    let parts: Vec<String> = [offered, held, untold].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("  required by {}\n", parts.join(", ")) }
}

fn files(n: u64) -> String {
    count(n, "file")
}

/// What waits of one package, with all that is known of it.
pub async fn show(cx: &Cx, station: &Station, name: &str, artifact: &str) -> Result<ExitCode> {
    let (view, channel) = judging::published(station, name).await?;
    let shown = review::show(&view, &channel, artifact).await?;
    let now = station.now().await?;
    cx.out.answer(
        || Ok(serde_json::json!({"channel": name, "held": shown})),
        || shown.iter().map(|one| shown_text(name, one, now)).collect::<String>(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn shown_text(channel: &str, shown: &Shown, now: Time) -> String {
    let Shown { held, since, since_left_out } = shown;
    let mut out = String::new();
    for one in &held.dependents.first {
        let only = if one.only_this { ", and nothing else that is offered would do" } else { "" };
        let state = if one.offered { "" } else { ", held" };
        out += &format!("    {}{state}: requires {}{only}\n", one.artifact, one.requires);
    }
    if since.is_empty() {
        out += "  no other file of it is offered, with which it could be compared\n";
    }
    let told: Vec<(String, String)> = since.iter().map(since_text).collect();
    // Builds of one version mostly change in the same way.
    for same in told.chunk_by(|a, b| a.1 == b.1).take(SHOWN_MAX) {
        let names: Vec<&str> = same.iter().take(SHOWN_MAX).map(|(heading, _)| heading.as_str()).collect();
        let more = same.len().saturating_sub(SHOWN_MAX);
        let more =
            if more > 0 { format!("  and {} in the same way\n", files(more as u64)) } else { String::new() };
        out += &format!("{}{more}{}", names.concat(), same.first().map_or("", |(_, text)| text));
    }
    let untold =
        told.chunk_by(|a, b| a.1 == b.1).skip(SHOWN_MAX).map(<[_]>::len).sum::<usize>() + since_left_out;
    if untold > 0 {
        let more = files(untold as u64);
        out += &format!("  {more} more: name one to see what changed in it\n");
    }
    held_text(held, now) + &plain_lines(&out) + &next(channel, held, false)
}

/// Which two files are compared, and what is another.
fn since_text(since: &Since) -> (String, String) {
    let above = if since.is_above { ", which is above it" } else { "" };
    let known = |size: Option<u64>| size.map_or_else(|| "unknown size".to_owned(), bytes);
    let size = since.changes.size.as_ref();
    let size = size.map(|size| format!(", {} -> {}", known(size.from), known(size.to))).unwrap_or_default();
    let heading = format!("  {} since {}{above}{size}:\n", since.artifact, since.admitted);
    let lines = changes_text(&since.changes);
    (heading, lines.into_iter().map(|line| format!("    {line}\n")).collect())
}

fn changes_text(changes: &Changes) -> Vec<String> {
    let step = |what: &str, from: Option<String>, to: Option<String>| {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none stated".to_owned());
        format!("{what}: {} -> {}", or_none(from), or_none(to))
    };
    let mut out = Vec::new();
    if let Some(kind) = &changes.kind {
        let runs =
            if kind.to == Some("sdist") { "; it runs code of its own where it is installed" } else { "" };
        out.push(step("kind", kind.from.map(str::to_owned), kind.to.map(str::to_owned)) + runs);
    }
    out.extend(changes.dependencies.iter().map(|one| changed_text("depends on", one)));
    out.extend(changes.constrains.iter().map(|one| changed_text("constrains", one)));
    out.extend(changes.licence.clone().map(|licence| step("licence", licence.from, licence.to)));
    out.extend(changes.record.iter().map(|one| changed_text("record", one)));
    out.extend(changes.findings_new.iter().map(|one| finding_text("newly open", one)));
    out.extend(changes.findings_gone.iter().map(|one| finding_text("no longer open", one)));
    if changes.is_empty() {
        out.push("nothing else is known to be another".to_owned());
    }
    if changes.left_out > 0 {
        out.push(format!("and {}", count(changes.left_out as u64, "more change")));
    }
    for unknown in &changes.unknown {
        let what = match unknown {
            Unknown::Dependencies => "what it requires",
            Unknown::Licence => "its licence",
        };
        out.push(format!("{what} is not known of one of the two"));
    }
    out
}

fn changed_text(what: &str, one: &Changed) -> String {
    let said = |text: &str| {
        if text.starts_with(&one.name) { text.to_owned() } else { format!("{} {text}", one.name) }
    };
    match (&one.from, &one.to) {
        (None, Some(to)) => format!("{what}: + {}", said(to)),
        (Some(from), None) => format!("{what}: - {}", said(from)),
        (from, to) => {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{what}: {} -> {}", said(&or_none(from)), or_none(to))
        }
    }
}

fn finding_text(what: &str, finding: &Told) -> String {
    let score =
        finding.score.map_or_else(|| "no score".to_owned(), |score| format!("{} {score}", score.band()));
    let kev = if finding.kev { ", known to be exploited" } else { "" };
    format!("{what}: {}: {score}{kev}: {}", finding.advisory, finding.summary)
}
