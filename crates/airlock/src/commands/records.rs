//! `ledger` and `snapshot`

use std::process::ExitCode;

use airlock_core::id::Id;
use airlock_core::snapshot::Snapshot;
use airlock_engine::error::{Error, Result};
use airlock_engine::fsck;
use airlock_engine::station::Station;
use airlock_engine::view::{ChannelView, View};

use super::Cx;
use crate::cli::{LedgerCommand, SnapshotCommand};
use crate::output::table;

pub async fn ledger(cx: &Cx, command: LedgerCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
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
        LedgerCommand::Verify => {
            let head = fsck::ledger(&station).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"valid": true, "entries": head.number, "head": head.hash})),
                || format!("The ledger is whole: {} entries, head {}.\n", head.number, head.hash.short()),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
    }
    Ok(ExitCode::SUCCESS)
}

fn json(id: Id<Snapshot>, s: &Snapshot) -> serde_json::Value {
    serde_json::json!({
        "id": id, "channel": s.channel, "content": s.content, "created": s.inputs.now, "inputs": s.inputs,
        "judgement": s.judgement, "counts": s.counts, "covered": s.covered, "valid_until": s.valid_until,
    })
}

async fn find(station: &Station, view: &View, name: &str) -> Result<ChannelView> {
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
