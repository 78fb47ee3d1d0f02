//! `policy`

use std::path::Path;
use std::process::ExitCode;

use airlock_core::policy::{Policy, ready};
use airlock_engine::error::{Error, Kind, Result};
use airlock_engine::policy;
use airlock_engine::report::Report;
use airlock_engine::station::Station;
use airlock_engine::sync::{self, Rejudged};

use super::{Cx, judging, shadows};
use crate::cli::PolicyCommand;
use crate::output::{count, table};

/// What stands before the name of a policy that is ready to be used, where a file is asked for.
const READY: &str = "ready:";
/// Largest file that is read, in bytes; a policy is a megabyte at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The text of a policy: that of a file, of one that is ready, or that a form says. What a form does not change stays as
/// it was `before`.
pub fn written(file: &Path, before: Option<&str>) -> Result<String> {
    let named = file.to_str().and_then(|text| text.strip_prefix(READY));
    if let Some(name) = named {
        let known: Vec<&str> = ready::READY.iter().map(|(name, _)| *name).collect();
        return ready::text(name).map(str::to_owned).ok_or_else(|| {
            Error::usage(format!("there is no policy {READY}{name}"))
                .hint(format!("there are: {}", known.join(", ")))
        });
    }
    let fault = |e: std::io::Error| Error::usage(format!("{}: {e}", file.display()));
    let size = std::fs::metadata(file).map_err(fault)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Error::usage(format!("{} is too large for a policy: {size} bytes", file.display())));
    }
    let text = std::fs::read_to_string(file).map_err(fault)?;
    match file.extension().is_some_and(|ending| ending == "json") {
        true => policy::of_form(&text, before).map_err(|e| e.while_(&file.display().to_string())),
        false => Ok(text),
    }
}

/// The text of the policy of this name, if there is one.
async fn held(station: &Station, name: &str) -> Result<Option<String>> {
    match policy::list(station).await?.iter().any(|known| known == name) {
        true => Ok(Some(policy::find(station, name).await?.text.text)),
        false => Ok(None),
    }
}

pub async fn run(cx: &Cx, command: PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::Check { file } => check(cx, &file)?,
        PolicyCommand::List => {
            let names = policy::list(&cx.open().await?).await?;
            cx.out.answer(
                || Ok(serde_json::json!({ "policies": names })),
                || names.iter().map(|n| format!("{n}\n")).collect::<String>(),
            )?;
        }
        PolicyCommand::Library { name: None } => {
            let all = ready::READY.map(|(name, text)| (name, policy::read(text).map(|p| p.description)));
            let mut rows = Vec::new();
            for (name, description) in all {
                rows.push(vec![name.to_owned(), description?]);
            }
            cx.out.answer(|| Ok(serde_json::json!({ "policies": rows })), || table(&rows))?;
        }
        PolicyCommand::Library { name: Some(name) } => {
            let text = written(Path::new(&format!("{READY}{name}")), None)?;
            cx.out.answer(|| Ok(serde_json::json!({"name": name, "text": text})), || text.clone())?;
        }
        PolicyCommand::Show { name, plain, form } => {
            let found = policy::find(&cx.open().await?, &name).await?;
            let text = found.text.text;
            if form {
                let form = policy::form(&text)?;
                let shown = serde_json::to_string_pretty(&form)? + "\n";
                cx.out.answer(|| Ok(form), || shown)?;
            } else {
                let english = found.policy.plain();
                cx.out.answer(
                    || Ok(serde_json::json!({"name": name, "id": found.id, "text": text, "plain": english})),
                    || if plain { english.clone() } else { text.clone() },
                )?;
            }
        }
        PolicyCommand::History { name } => history(cx, &name).await?,
        PolicyCommand::Set { name, file } => {
            let station = cx.open().await?;
            let text = written(&file, held(&station, &name).await?.as_deref())?;
            policy::set(&station, &name, &text).await?;
            let Rejudged { outcomes, failed } =
                sync::rejudge_all(&station, &format!("policy set {name}")).await?;
            cx.out.answer(|| judging::json(&outcomes), || judging::text(cx, &outcomes))?;
            failed.map_or(Ok(()), Err)?;
        }
        PolicyCommand::Shadow { channel } => shadows::show(cx, &channel).await?,
        PolicyCommand::Preview { name, file } => preview(cx, &name, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(cx: &Cx, file: &Path) -> Result<()> {
    let policy: Policy = policy::read_new(&written(file, None)?)
        .map_err(|e| Error { kind: Kind::No, ..e.while_(&file.display().to_string()) })?;
    let rules: Vec<&str> = policy.rules.iter().map(|r| r.name.as_str()).collect();
    let plain = policy.plain();
    cx.out.answer(
        || Ok(serde_json::json!({"valid": true, "name": policy.name, "rules": rules, "plain": plain})),
        || format!("{} is valid: {}.\n\n{plain}", file.display(), count(rules.len() as u64, "rule")),
    )
}

/// Its versions, oldest first.
async fn history(cx: &Cx, name: &str) -> Result<()> {
    let versions = policy::history(&cx.open().await?, name).await?;
    let row = |v: &policy::Version| {
        vec![v.time.to_string(), v.author.clone(), v.id.digest().short(), v.rules.join(", ")]
    };
    cx.out.answer(
        || Ok(serde_json::json!({"name": name, "versions": versions})),
        || table(&versions.iter().map(row).collect::<Vec<_>>()),
    )
}

/// What the policy would change wherever it rules.
async fn preview(cx: &Cx, name: &str, file: &Path) -> Result<()> {
    let station = cx.open().await?;
    let text = written(file, held(&station, name).await?.as_deref())?;
    let Rejudged { outcomes, failed } = policy::preview(&station, name, &text).await?;
    let report = Report::of_changes(&station, &format!("policy preview {name}"), &outcomes)?;
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json.set("report", serde_json::to_value(&report)?);
        Ok(json)
    };
    cx.out.answer(json, || Ok(judging::text(cx, &outcomes)? + &report.text()))?;
    if outcomes.is_empty() && failed.is_none() {
        cx.out.say(&format!("policy `{name}` rules no channel that was filled"));
    }
    failed.map_or(Ok(()), Err)
}
