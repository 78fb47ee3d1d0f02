//! `import`: bundles, and with `--channel` trees that are none

use std::path::PathBuf;
use std::process::ExitCode;

use airlock_engine::error::{Error, Result};
use airlock_engine::foreign::{self, Kind, Report, Wish};
use airlock_engine::sync;

use super::{Cx, bundles, judging, shadows};
use crate::cli::bundles::{ImportArgs, TreeArgs};
use crate::output::{bytes, count};

pub async fn import(cx: &Cx, args: ImportArgs) -> Result<ExitCode> {
    let ImportArgs { dirs, receipt_out, how, tree } = args;
    match tree.channel.clone() {
        Some(channel) => take(cx, &dirs, channel, tree).await,
        None => {
            check_bundles(&dirs)?;
            bundles::import(cx, &dirs, receipt_out, how).await
        }
    }
}

/// Says of what is no bundle what it is, so that nobody looks for a signature that was never there.
fn check_bundles(dirs: &[PathBuf]) -> Result<()> {
    if let Some(archive) = dirs.iter().find(|path| foreign::is_packed(path)) {
        return Err(Error::usage(format!("{} is no bundle but a packed archive", archive.display()))
            .hint("say which channel it becomes: `--channel NAME`"));
    }
    for dir in dirs.iter().filter(|dir| dir.is_dir() && !foreign::is_bundle(dir)) {
        if let Ok(Some(tree)) = foreign::recognise(dir) {
            return Err(Error::usage(format!("{} is no bundle but {}", dir.display(), tree.kind.name()))
                .hint("say which channel it becomes: `--channel NAME`"));
        }
    }
    Ok(())
}

async fn take(cx: &Cx, paths: &[PathBuf], channel: String, args: TreeArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    judging::read_new_feeds(cx, &station).await?;
    let wish =
        Wish { channel, policy: args.policy, ecosystem: args.ecosystem, accept_shrink: args.accept_shrink };
    let report = foreign::import(&station, paths, &wish).await?;
    cx.out.say(&told(&report));
    let mut json_of_tree = serde_json::to_value(&report)?;
    json_of_tree["fetched"] = report.outcome.fetched.files.into();
    let mut outcomes = vec![report.outcome];
    let below = sync::descend(&station, &[&wish.channel], "import").await?;
    outcomes.extend(below.outcomes);
    let json = || {
        let mut json = judging::json(&outcomes)?;
        json.set("tree", json_of_tree);
        json.set("confined", serde_json::to_value(cx.confined)?);
        Ok(json)
    };
    judging::tell(cx, &station, "import", &outcomes, json).await?;
    shadows::ask(cx, &station).await;
    below.failed.map_or(Ok(()), Err)?;
    Ok(ExitCode::from(outcomes.iter().map(judging::fetch_status).max().unwrap_or(0)))
}

/// What came, in a few lines.
fn told(report: &Report) -> String {
    let Report { channel, ecosystem, is_new, kind, outcome, .. } = report;
    let made = if *is_new { format!(", which was made for {ecosystem}") } else { String::new() };
    let mut text = format!(
        "took in {} as channel {channel}{made}: {} listed, {} copied ({})",
        kind.name(),
        count(outcome.records, "package"),
        count(outcome.fetched.files, "file"),
        bytes(outcome.fetched.bytes),
    );
    for archive in &report.archives {
        text += &format!("\n  {}  {}", archive.sha256, archive.path.display());
    }
    if let Some(left) = report.left {
        let files = match (left.ecosystem, *kind) {
            (_, Kind::PixiPack) => format!("{} for {} in it", count(left.files, "package"), left.ecosystem),
            (ecosystem, _) => format!("{} for {ecosystem}", count(left.files, "package")),
        };
        text += &format!(
            "\n{files} were left: take them in with `--ecosystem {} --channel ANOTHER`",
            left.ecosystem
        );
    }
    text
}
