//! `downloads`: who was sent what.

use std::process::ExitCode;

use airlock_core::ecosystem::file_name_parts;
use airlock_core::spec::Spec;
use airlock_engine::channel;
use airlock_engine::downloads::{self, Answer, DownloadView, Question};
use airlock_engine::error::{Error, Result};

use super::Cx;
use crate::cli::DownloadsArgs;
use crate::output::{count, table};

pub async fn run(cx: &Cx, args: DownloadsArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    let ecosystem = channel::find(&station, &args.channel).await?.ecosystem;
    let spec = args.spec.as_deref().map(|spec| Spec::parse(ecosystem, spec));
    let spec = spec.transpose().map_err(|e| Error::usage(e.to_string()))?;
    let fits = |artifact: &str| {
        let file = artifact.rsplit('/').next().unwrap_or(artifact);
        spec.as_ref().is_none_or(|spec| {
            file_name_parts(ecosystem, file)
                .is_some_and(|(name, version)| spec.matches_name(&name) && spec.matches_version(&version))
        })
    };
    let question = Question { since: args.since, client: args.client };
    let answer = downloads::ask(&station, &args.channel, &question, fits).await?;
    let is_kept = station.config.downloads.enabled;
    let json = || {
        let mut value = serde_json::to_value(&answer)?;
        value["channel"] = args.channel.as_str().into();
        value["enabled"] = is_kept.into();
        Ok(value)
    };
    cx.out.answer(json, || text(&answer, is_kept))?;
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Answer, is_kept: bool) -> String {
    let rows: Vec<Vec<String>> = answer.downloads.iter().map(row).collect();
    let mut out = table(&rows);
    if rows.is_empty() {
        out += &format!("No download is noted since {}.\n", answer.kept_since);
    }
    if answer.more {
        out += "There are more: narrow it with a spec, --since or --client.\n";
    }
    if answer.lost > 0 {
        out += &format!("{} of any channel could not be noted.\n", count(answer.lost, "download"));
    }
    if !is_kept {
        out += "`[downloads]` of airlock.toml says that none is noted now.\n";
    }
    out
}

fn row(one: &DownloadView) -> Vec<String> {
    let times = match one.times {
        1 => "once".to_owned(),
        n => format!("{n} times until {}", one.last),
    };
    vec![
        one.first.to_string(),
        one.artifact.clone(),
        who(one.client.as_deref(), one.account.as_deref()),
        one.agent.clone(),
        times,
    ]
}

/// Who was sent it, as far as that is noted.
pub fn who(client: Option<&str>, account: Option<&str>) -> String {
    match (client, account) {
        (Some(client), Some(account)) => format!("{account} at {client}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "others".to_owned(),
    }
}
