//! `ledger`, `snapshot`, `replay`

use std::collections::BTreeMap;
use std::process::ExitCode;

use airlock_core::id::Id;
use airlock_core::roles::Action;
use airlock_core::snapshot::Snapshot;
use airlock_engine::error::{Error, Result};
use airlock_engine::history;
use airlock_engine::ledger::{self, Checked};
use airlock_engine::people;
use airlock_engine::replay;
use airlock_engine::station::Station;
use airlock_engine::sync;
use airlock_engine::view::{ChannelView, View};
use airlock_formats::syslog;

use super::{Cx, judging};
use crate::cli::{LedgerCommand, LedgerForm, SnapshotCommand};
use crate::output::{table, write};

pub async fn ledger(cx: &Cx, command: LedgerCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    people::allow(&station, Action::Ledger, None).await?;
    match command {
        LedgerCommand::Log { from, most } => {
            let entries = station.store.db.ledger(from, most).await?;
            let rows: Vec<Vec<String>> = entries
                .iter()
                .map(|(e, _)| {
                    let detail = e.detail.as_str().to_owned();
                    vec![
                        e.number.to_string(),
                        e.time.to_string(),
                        e.actor.clone(),
                        e.action.clone(),
                        e.subject.clone(),
                        detail,
                    ]
                })
                .collect();
            let list: Vec<_> =
                entries.iter().map(|(e, hash)| serde_json::json!({"entry": e, "hash": hash})).collect();
            cx.out.answer(|| Ok(serde_json::json!({ "entries": list })), || table(&rows))?;
        }
        LedgerCommand::Verify { against } => {
            let Checked { head, against, unproven } = ledger::verify(&station, &against).await?;
            let held: Vec<String> =
                against.iter().map(|k| format!("{} (entry {})", k.whence, k.head.number)).collect();
            let no_entry =
                unproven.iter().map(|name| format!("No entry tells of {name}.\n")).collect::<String>();
            let held = if held.is_empty() { "nothing from elsewhere".to_owned() } else { held.join(", ") };
            cx.out.answer(
                || {
                    let (entries, hash) = (head.number, head.hash);
                    Ok(serde_json::json!({"valid": true, "entries": entries, "head": hash, "against": against, "unproven": unproven}))
                },
                || {
                    let hash = head.hash.short();
                    format!("The ledger is whole: {} entries, head {hash}; held against {held}.\n", head.number) + &no_entry
                },
            )?;
        }
        LedgerCommand::Anchor { reason } => {
            let head = ledger::anchor(&station, &reason).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"entries": head.number, "head": head.hash})),
                || format!("Signed anew at entry {}.\n", head.number),
            )?;
        }
        LedgerCommand::Feed { feeds, once } => return feed(cx, station, &feeds, once).await,
        LedgerCommand::Export { format, from } => export(&station, format, from).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn feed(cx: &Cx, mut station: Station, names: &[String], once: bool) -> Result<ExitCode> {
    let known = &mut station.config.ledger.feed;
    if let Some(unknown) = names.iter().find(|name| !known.iter().any(|feed| feed.name == **name)) {
        return Err(Error::usage(format!("airlock.toml has no [[ledger.feed]] named `{unknown}`")));
    }
    known.retain(|feed| names.is_empty() || names.contains(&feed.name));
    if known.is_empty() {
        return Err(Error::usage("airlock.toml has no [[ledger.feed]]")
            .hint("docs/operating.md says how one is written"));
    }
    if !once {
        ledger::feed::run(station, |text| eprintln!("{text}")).await;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut sent, mut failed) = (Vec::new(), None);
    for feed in &station.config.ledger.feed {
        match ledger::feed::send(&station, feed).await {
            Ok(entries) => sent.push((feed.name.clone(), entries)),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    let json = || Ok(serde_json::json!({"sent": sent.iter().cloned().collect::<BTreeMap<String, u64>>()}));
    cx.out.answer(json, || sent.iter().map(|(name, n)| format!("{name}: {n} sent\n")).collect::<String>())?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Entries that are written at once.
const ENTRIES_AT_ONCE: u32 = 1000;

async fn export(station: &Station, format: LedgerForm, mut from: u64) -> Result<()> {
    if matches!(format, LedgerForm::Csv) {
        write("number,time,actor,action,subject,detail,previous,hash\r\n")?;
    }
    loop {
        let entries = station.store.db.ledger(from, ENTRIES_AT_ONCE).await?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        from = last.number + 1;
        let mut text = String::new();
        for (entry, hash) in &entries {
            text += &match format {
                LedgerForm::Jsonl => syslog::line(entry, *hash) + "\n",
                LedgerForm::Csv => {
                    let (number, time) = (entry.number.to_string(), entry.time.to_string());
                    let (previous, hash) = (entry.previous.to_string(), hash.to_string());
                    let fields = [
                        &number,
                        &time,
                        &entry.actor,
                        &entry.action,
                        &entry.subject,
                        entry.detail.as_str(),
                        &previous,
                        &hash,
                    ];
                    fields.map(csv).join(",") + "\r\n"
                }
            };
        }
        write(&text)?;
    }
}

/// A field of CSV. One that a table program would take for a formula is not one any more.
fn csv(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = if is_formula { format!("'{field}") } else { field.to_owned() };
    if field.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

pub async fn replay(cx: &Cx, name: &str) -> Result<ExitCode> {
    let station = cx.open().await?;
    let view = View::new(station.clone());
    let found = find(&station, &view, name).await?;
    let replayed = replay::replay(&station, &found.channel.name, found.id).await?;
    let text = || {
        let id = replayed.snapshot.digest().short();
        let mut out = match replayed.equal {
            true => format!("Snapshot {id} of {name} is what its inputs give.\n"),
            false => format!("Snapshot {id} of {name} is not what its inputs give:\n"),
        };
        for difference in &replayed.differences {
            out += &format!("  {difference}\n");
        }
        if replayed.count > replayed.differences.len() && !replayed.equal {
            out += "  and more\n";
        }
        out
    };
    cx.out.answer(|| Ok(serde_json::to_value(&replayed)?), text)?;
    Ok(if replayed.equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

pub async fn snapshot(cx: &Cx, command: SnapshotCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    let view = View::new(station.clone());
    match command {
        SnapshotCommand::List { channel } => {
            let newest = find(&station, &view, &channel).await?;
            let mut list = Vec::new();
            for (id, _) in view.history(&newest).await? {
                list.push((id, view.object(id).await?));
            }
            let rows: Vec<Vec<String>> = list
                .iter()
                .map(|(id, s)| {
                    let c = s.counts;
                    let counts = format!("{} admitted, {} held, {} denied", c.admit, c.hold, c.deny);
                    vec![id.digest().short(), s.inputs.now.to_string(), s.content.digest().short(), counts]
                })
                .collect();
            let all: Vec<_> = list.iter().map(|(id, s)| json(*id, s)).collect();
            cx.out.answer(|| Ok(serde_json::json!({ "snapshots": all })), || table(&rows))?;
        }
        SnapshotCommand::Show { channel } => {
            let found = find(&station, &view, &channel).await?;
            let shown = json(found.id, &found.snapshot);
            let text = serde_json::to_string_pretty(&shown)? + "\n";
            cx.out.answer(|| Ok(shown), || text)?;
        }
        SnapshotCommand::Diff { from, to } => {
            let newest = from.split('@').next().unwrap_or_default().to_owned();
            let old = find(&station, &view, &from).await?;
            let new = find(&station, &view, to.as_deref().unwrap_or(&newest)).await?;
            let diff = history::diff(&station, &old.snapshot, &new.snapshot).await?;
            let lines =
                |sign: &str, all: &[String]| all.iter().map(|a| format!("{sign} {a}\n")).collect::<String>();
            cx.out.answer(
                || Ok(serde_json::json!({"from": old.id, "to": new.id, "diff": diff})),
                || {
                    format!(
                        "{}{}{}",
                        lines("+", &diff.added),
                        lines("-", &diff.removed),
                        lines("~", &diff.changed)
                    )
                },
            )?;
        }
        SnapshotCommand::Rollback { snapshot, reason, dry_run } => {
            let found = find(&station, &view, &snapshot).await?;
            let channel = airlock_engine::channel::find(&station, &found.channel.name).await?;
            let outcome = history::rollback(&station, &channel, found.id, &reason, dry_run).await?;
            let mut outcomes = vec![outcome];
            if !dry_run {
                let below = sync::descend(&station, &[&channel.name], "snapshot rollback").await?;
                outcomes.extend(below.outcomes);
                below.failed.map_or(Ok(()), Err)?;
            }
            cx.out.answer(|| judging::json(&outcomes), || judging::text(cx, &outcomes))?;
            if !dry_run {
                let name = &channel.name;
                cx.out.say(&format!(
                    "the next sync reads the source again; `airlock channel freeze {name}` keeps it so"
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(id: Id<Snapshot>, s: &Snapshot) -> serde_json::Value {
    serde_json::json!({
        "id": id, "channel": s.channel, "content": s.content, "created": s.inputs.now, "inputs": s.inputs,
        "judgement": s.judgement, "counts": s.counts, "covered": s.covered, "valid_until": s.valid_until,
    })
}

pub(super) async fn find(station: &Station, view: &View, name: &str) -> Result<ChannelView> {
    let (name, when) = name.split_once('@').map_or((name, None), |(n, w)| (n, Some(w)));
    airlock_engine::channel::find(station, name).await?;
    let channel = match when {
        Some(when) => view.channel_at(name, when).await?,
        None => view.channel(name).await?,
    };
    channel.ok_or_else(|| {
        Error::usage(format!("channel `{name}` has no such snapshot"))
            .hint(format!("`airlock snapshot list {name}` shows them"))
    })
}
