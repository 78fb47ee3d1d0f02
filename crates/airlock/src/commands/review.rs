//! `block`, `review`

use std::process::ExitCode;

use airlock_core::decision::{Decision, Ruling, Scope, Terms};
use airlock_core::lock::Contents;
use airlock_core::time::Time;
use airlock_engine::error::Result;
use airlock_engine::review;
use airlock_engine::review::baseline::{self, Baseline};
use airlock_engine::station::Station;
use airlock_engine::sync::Rejudged;
use airlock_engine::{channel, decide, locks, sync};

use super::{Cx, judging, waiting};
use crate::cli::{BaselineArgs, ReviewCommand, TermsArgs};
use crate::output::{count, table};

/// Files that are named which a baseline leaves out.
const GRAVE_SHOWN: usize = 10;

pub async fn block(cx: &Cx, name: &str, spec: &str, reason: &str) -> Result<ExitCode> {
    let station = cx.open().await?;
    let channel = channel::find(&station, name).await?;
    let (decision, blocked) = decide::block(&station, &channel, spec, reason).await?;
    cx.out.say(&format!(
        "decision {}: {} of what was ever published blocked",
        decision.id,
        count(blocked as u64, "artifact")
    ));
    rejudge(cx, &station, &decision).await
}

/// Judges with the new decision and says what came of it.
pub async fn rejudge(cx: &Cx, station: &Station, decision: &Decision) -> Result<ExitCode> {
    let Rejudged { outcomes, failed } =
        sync::rejudge_all(station, &format!("decision {}", decision.id)).await?;
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json.set("decision", serde_json::to_value(decision)?);
        Ok(json)
    };
    cx.out.answer(json, || judging::text(cx, &outcomes))?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

pub async fn run(cx: &Cx, command: ReviewCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    let decision = match command {
        ReviewCommand::List => {
            let decisions = decide::list(&station).await?;
            let now = station.now().await?;
            let in_force: Vec<&str> = decisions.in_force(now).map(|d| d.id.as_str()).collect();
            let rows: Vec<Vec<String>> =
                decisions.list.iter().map(|d| row(d, in_force.contains(&d.id.as_str()))).collect();
            cx.out.answer(
                || Ok(serde_json::json!({"decisions": decisions.list, "in_force": in_force})),
                || table(&rows),
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        ReviewCommand::Queue { channel, spec } => {
            return waiting::queue(cx, &station, &channel, &spec).await;
        }
        ReviewCommand::Show { channel, artifact } => {
            return waiting::show(cx, &station, &channel, &artifact).await;
        }
        ReviewCommand::Approve { channel, scope, build, sha256, rule, expires, terms } => {
            let scope = Scope { build, sha256, ..Scope::of(&channel, &scope) };
            let ruling = weighed(cx, &station, scope, rule.as_deref()).await?;
            return on_terms(cx, &station, ruling, terms, (expires, false)).await;
        }
        ReviewCommand::Baseline(args) => return baseline(cx, &station, args).await,
        ReviewCommand::Reject { channel, scope, expires, terms } => {
            return on_terms(
                cx,
                &station,
                Ruling::Reject(Scope::of(&channel, &scope)),
                terms,
                (expires, false),
            )
            .await;
        }
        ReviewCommand::Waive { channel, scope, rule, advisory, expires, until_fixed, terms } => {
            let scope = Scope::of(&channel, &scope);
            let ends = (expires, until_fixed);
            return on_terms(cx, &station, Ruling::Waive { rule, scope, advisory }, terms, ends).await;
        }
        ReviewCommand::Status {
            channel,
            scope,
            build,
            sha256,
            advisory,
            status,
            justification,
            expires,
            reason,
        } => {
            let scope = Scope { build, sha256, ..Scope::of(&channel, &scope) };
            decide::status(&station, scope, (&advisory, status), justification, &reason, expires).await?
        }
        ReviewCommand::Statements { channel, scope, source, expires, reason } => {
            let scope = Scope::of(&channel, &scope);
            decide::decide(&station, Ruling::Statements { scope, source }, &reason, expires).await?
        }
        ReviewCommand::Identity { channel, name, keys, none: _, reason } => {
            let (scope, mappings) = (Scope::of(&channel, &name), keys);
            decide::decide(&station, Ruling::Identity { mappings, scope }, &reason, None).await?
        }
        ReviewCommand::Revoke { decision, reason } => {
            decide::decide(&station, Ruling::Revoke { decision }, &reason, None).await?
        }
    };
    rejudge(cx, &station, &decision).await
}

/// What is held within a scope, as a ruling that approves it.
async fn weighed(cx: &Cx, station: &Station, scope: Scope, rule: Option<&str>) -> Result<Ruling> {
    let (view, published) = judging::published(station, &scope.channel).await?;
    let ruling = review::approval(&view, &published, scope, rule).await?;
    say_without_hash(cx, &ruling, "approved");
    Ok(ruling)
}

fn say_without_hash(cx: &Cx, ruling: &Ruling, what: &str) {
    let without = review::without_hash(ruling);
    if without > 0 {
        cx.out.say(&format!(
            "{} of what is {what}: the index gives no SHA-256, so that they are fetched and wait once more",
            count(without as u64, "file")
        ));
    }
}

/// Accepts what runs today.
async fn baseline(cx: &Cx, station: &Station, args: BaselineArgs) -> Result<ExitCode> {
    let locks: Vec<Contents> = args.from.iter().map(|path| locks::read(path)).collect::<Result<_>>()?;
    let (view, published) = judging::published(station, &args.channel).await?;
    let scope = Scope::of(&args.channel, &args.scope);
    let Baseline { ruling, grave } = baseline::baseline(&view, &published, scope, &locks).await?;
    if !grave.is_empty() {
        let named: Vec<&str> = grave.iter().take(GRAVE_SHOWN).map(String::as_str).collect();
        let more = if grave.len() > GRAVE_SHOWN { ", ..." } else { "" };
        cx.out.say(&format!(
            "not accepted, since something exploited or malicious stands against it: {}: {}{more}",
            count(grave.len() as u64, "file"),
            named.join(", ")
        ));
    }
    say_without_hash(cx, &ruling, "accepted");
    cx.out.say(&format!("{}, until {}", ruling.told(), args.expires.date()));
    on_terms(cx, station, ruling, args.terms, (Some(args.expires), false)).await
}

/// Decides, or shows what deciding so would change.
async fn on_terms(
    cx: &Cx,
    station: &Station,
    ruling: Ruling,
    terms: TermsArgs,
    (expires, until_fixed): (Option<Time>, bool),
) -> Result<ExitCode> {
    let TermsArgs { reason, ticket, dry_run } = terms;
    let terms = Terms { reason, expires, until_fixed, ticket };
    if dry_run {
        let Rejudged { outcomes, failed } = decide::preview(station, ruling, terms).await?;
        cx.out.answer(|| judging::json(&outcomes), || judging::text(cx, &outcomes))?;
        return failed.map_or(Ok(ExitCode::SUCCESS), Err);
    }
    let decision = decide::decide_on(station, ruling, terms).await?;
    rejudge(cx, station, &decision).await
}

fn row(d: &Decision, in_force: bool) -> Vec<String> {
    let until = d.expires.map(|t| format!("until {}", t.date()));
    let fixed = d.until_fixed.then(|| "until fixed".to_owned());
    let until: Vec<String> = until.into_iter().chain(fixed).collect();
    let until = until.join(", ");
    let ticket = d.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
    let state = if in_force { "in force" } else { "ended" };
    vec![
        d.id.clone(),
        d.time.date(),
        d.author.clone(),
        state.to_owned(),
        d.ruling.told(),
        until,
        format!("{}{ticket}", d.reason),
    ]
}
