//! `blast`, `locks`: whom a denial reaches.

use std::process::ExitCode;

use airlock_core::lock::HeldBy;
use airlock_engine::blast::{self, Asked, Blast, Reached, Recipient};
use airlock_engine::error::Result;
use airlock_engine::locks::{self, Listed};

use super::Cx;
use super::judging::published;
use crate::cli::{BlastArgs, LocksCommand};
use crate::output::{count, table};

/// Recipients that are shown of one artifact without --verbose.
const RECIPIENTS_SHOWN: usize = 10;

pub async fn run(cx: &Cx, args: BlastArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    let (view, channel) = published(&station, &args.channel).await?;
    let asked = Asked::read(&view, channel.channel.ecosystem, args.what.as_deref()).await?;
    let blast = blast::blast(&view, &channel, &asked).await?;
    cx.out.answer(|| Ok(serde_json::to_value(&blast)?), || text(cx, &blast))?;
    Ok(ExitCode::SUCCESS)
}

fn text(cx: &Cx, blast: &Blast) -> String {
    let mut out: String = blast.artifacts.iter().map(|one| artifact(cx, one)).collect();
    let sent = blast.artifacts.iter().filter(|one| one.times > 0).count();
    let locked = blast.artifacts.iter().filter(|one| !one.locks.is_empty()).count();
    out += &format!(
        "{} concerned; {sent} sent to somebody since {}, {locked} in {} on record.\n",
        count(blast.artifacts.len() as u64, "artifact"),
        blast.kept_since.date(),
        count(blast.locks as u64, "lock file"),
    );
    if blast.lost > 0 {
        out += &format!("{} of any channel could not be noted.\n", count(blast.lost, "download"));
    }
    out
}

fn artifact(cx: &Cx, one: &Reached) -> String {
    let since = match one.denied_since {
        Some(since) if since.exact => format!(" since {}", since.time),
        Some(since) => format!(" since {} or before", since.time),
        None => String::new(),
    };
    let why = one.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let nearest = one.nearest.as_ref().map_or_else(String::new, |n| format!("; nearest that passes: {n}"));
    let mut out = format!("{} {}{since}{why}{nearest}\n", one.artifact, one.verdict);
    if let (Some(first), Some(last)) = (one.first, one.last) {
        let times = if one.times == 1 { "once".to_owned() } else { format!("{} times", one.times) };
        let more = if one.more { " at least" } else { "" };
        out += &format!("  sent {times}{more}, first {first}, last {last}\n");
    }
    let shown = if cx.out.is_verbose() { one.clients.len() } else { RECIPIENTS_SHOWN };
    let rows: Vec<Vec<String>> = one.clients.iter().take(shown).map(recipient).collect();
    out += &table(&rows);
    if one.clients.len() > rows.len() {
        out += &format!("    and {} more (--verbose)\n", one.clients.len() - rows.len());
    }
    for lock in &one.locks {
        let by = match lock.by {
            HeldBy::Bytes => "by its hash",
            HeldBy::File => "by its file name",
            HeldBy::Version => "by its version",
        };
        out += &format!("  in lock file {}, {by}\n", lock.name);
    }
    out
}

fn recipient(one: &Recipient) -> Vec<String> {
    let who = super::downloads::who(one.client.as_deref(), one.account.as_deref());
    let times = if one.times == 1 { "once".to_owned() } else { format!("{} times", one.times) };
    let when =
        if one.first == one.last { one.last.to_string() } else { format!("{} to {}", one.first, one.last) };
    vec![format!("    {who}"), one.agent.clone(), format!("from {}", one.channel), times, when]
}

pub async fn locks(cx: &Cx, command: LocksCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        LocksCommand::Add { file, name } => {
            let lock = locks::add(&station, &name, &file).await?;
            cx.out.answer(
                || Ok(serde_json::to_value(&lock)?),
                || format!("On record: {}\n", line(&lock).join("  ")),
            )?;
        }
        LocksCommand::List => {
            let all = locks::list(&station).await?;
            let rows: Vec<Vec<String>> = all.iter().map(line).collect();
            cx.out.answer(|| Ok(serde_json::json!({"locks": all})), || table(&rows))?;
        }
        LocksCommand::Remove { name } => {
            locks::remove(&station, &name).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"removed": name})),
                || format!("{name} is off the record.\n"),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(lock: &Listed) -> Vec<String> {
    let left_out = match lock.left_out {
        0 => String::new(),
        n => format!("left out {n} that pin nothing"),
    };
    vec![
        lock.name.clone(),
        lock.form.to_string(),
        count(lock.packages as u64, "package"),
        format!("by {} on {}", lock.by, lock.since.date()),
        left_out,
    ]
}
