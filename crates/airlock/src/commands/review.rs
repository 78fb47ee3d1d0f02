//! `block`, `review`

use std::process::ExitCode;

use airlock_core::decision::{Decision, Ruling, Scope};
use airlock_engine::error::Result;
use airlock_engine::sync::Rejudged;
use airlock_engine::{channel, decide, sync};

use super::{Cx, judging};
use crate::cli::ReviewCommand;
use crate::output::{count, table};

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
async fn rejudge(
    cx: &Cx,
    station: &airlock_engine::station::Station,
    decision: &Decision,
) -> Result<ExitCode> {
    let Rejudged { outcomes, failed } =
        sync::rejudge_all(station, &format!("decision {}", decision.id)).await?;
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json["decision"] = serde_json::to_value(decision)?;
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
        ReviewCommand::Waive { channel, scope, rule, advisory, expires, reason } => {
            let scope = Scope::of(&channel, &scope);
            decide::decide(&station, Ruling::Waive { rule, scope, advisory }, &reason, Some(expires)).await?
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

fn place(scope: &Scope) -> String {
    let build = scope.build.as_ref().map(|build| format!(", builds {build}")).unwrap_or_default();
    let file = scope.sha256.map(|hash| format!(", the file {hash}")).unwrap_or_default();
    format!("{} in {}{build}{file}", scope.spec, scope.channel)
}

fn row(d: &Decision, in_force: bool) -> Vec<String> {
    let what = match &d.ruling {
        Ruling::Block(scope) => format!("block {}", place(scope)),
        Ruling::Waive { rule, scope, advisory } => {
            let only = advisory.as_ref().map(|a| format!(" as far as it rests on {a}")).unwrap_or_default();
            format!("waive {rule} for {}{only}", place(scope))
        }
        Ruling::Status { advisory, status, scope, .. } => {
            format!("{advisory} is {} for {}", status.name(), place(scope))
        }
        Ruling::Statements { scope, source } => format!("what {source} states counts for {}", place(scope)),
        Ruling::Identity { mappings, scope } if mappings.is_empty() => {
            format!("no advisory can concern {}", place(scope))
        }
        Ruling::Identity { mappings, scope } => {
            let keys: Vec<&str> = mappings.iter().map(|m| m.key.as_str()).collect();
            format!("{} is {}", place(scope), keys.join(" and "))
        }
        Ruling::Revoke { decision } => format!("revoke {decision}"),
    };
    let until = d.expires.map(|t| format!("until {}", t.date())).unwrap_or_default();
    let state = if in_force { "in force" } else { "ended" };
    vec![d.id.clone(), d.time.date(), d.author.clone(), state.to_owned(), what, until, d.reason.clone()]
}
