//! `clock`, `gc` and `fsck`

use std::process::ExitCode;

use airlock_core::time::Span;
use airlock_engine::bundle::unfinished::{Unfinished, Void};
use airlock_engine::clock;
use airlock_engine::error::Result;
use airlock_engine::fsck::{self, Damage, Kind};
use airlock_engine::gc::{self, How};

use super::Cx;
use crate::output::{bytes, count};

pub async fn clock(cx: &Cx, reason: &str) -> Result<ExitCode> {
    let station = cx.open().await?;
    let confirmed = clock::confirm(&station, reason).await?;
    cx.out.answer(
        || Ok(serde_json::to_value(confirmed)?),
        || {
            let stands = confirmed.stands_at.map_or_else(String::new, |at| {
                format!("The ledger was written ahead of it: until then the station judges ages and dates by {at}.\n")
            });
            format!("The clock is taken to be right: {}.\n{stands}", confirmed.clock)
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

pub async fn gc(cx: &Cx, dry: bool, grace: Span) -> Result<ExitCode> {
    let station = cx.open().await?;
    let how = How { dry, grace, now: std::time::SystemTime::now() };
    let report = gc::gc(&station, how).await?;
    cx.out.answer(|| Ok(serde_json::to_value(&report)?), || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &gc::Report) -> String {
    let kept: Vec<String> = report
        .snapshots_kept
        .iter()
        .map(|(channel, n)| format!("{} of {channel}", count(*n, "snapshot")))
        .collect();
    let kept = if kept.is_empty() { "no snapshot".to_owned() } else { kept.join(", ") };
    format!(
        "{did} {files} ({file_bytes}), {objects} ({object_bytes}) and {staged} left over ({staged_bytes}).\n\
         {unfinished}Kept: {kept}; {stay} and {objects_stay}.\n\
         The database file has {free} to be used again; it does not shrink.\n",
        did = if report.dry_run { "Would remove" } else { "Removed" },
        files = count(report.blobs_removed, "file"),
        file_bytes = bytes(report.blob_bytes),
        objects = count(report.objects_removed, "object"),
        unfinished = unfinished(report),
        object_bytes = bytes(report.object_bytes),
        staged = count(report.staged_removed + report.unpacked_removed, "file"),
        staged_bytes = bytes(report.staged_bytes + report.unpacked_bytes),
        stay = count(report.blobs_kept, "file"),
        objects_stay = count(report.objects_kept, "object"),
        free = bytes(report.database_free_bytes),
    )
}

/// What came of bundles that are not whole, one line each.
fn unfinished(report: &gc::Report) -> String {
    let line = |one: &Unfinished| {
        let what = match (&one.stream, one.number) {
            (Some(stream), Some(number)) => format!("bundle {number} of {stream}"),
            _ => format!("a bundle (manifest {})", one.manifest.get(..12).unwrap_or(&one.manifest)),
        };
        let came = format!("{} ({}) of {what}, which", count(one.files, "file"), bytes(one.bytes));
        let did = if report.dry_run { "Would remove" } else { "Removed" };
        match one.void {
            None => format!("Kept: {came} is not whole yet, until {}.\n", one.until),
            Some(Void::Superseded) => format!("{did} {came} can never come in: it or a later one is in.\n"),
            Some(Void::NotTrusted) => {
                format!("{did} {came} can never come in: its sender is trusted no longer.\n")
            }
        }
    };
    report.unfinished.iter().map(line).collect()
}

pub async fn fsck(cx: &Cx, channels: Vec<String>, repair: bool) -> Result<ExitCode> {
    let station = cx.open().await?;
    let report = fsck::fsck(&station, &fsck::What { channels, repair }).await?;
    let json = || {
        let mut value = serde_json::to_value(&report)?;
        value["clean"] = report.is_clean().into();
        Ok(value)
    };
    cx.out.answer(json, || {
        let mut out: String = report.damages.iter().map(line).collect();
        out += &format!(
            "Checked {}, {} ({}), {} of the ledger: ",
            count(report.objects, "object"),
            count(report.files, "file"),
            bytes(report.bytes),
            if report.ledger_entries == 1 {
                "1 entry".to_owned()
            } else {
                format!("{} entries", report.ledger_entries)
            },
        );
        let open = report.damages.iter().filter(|d| !d.repaired).count() as u64;
        let mended = report.damages.len() as u64 - open;
        out += &match (open, mended) {
            (0, 0) => "all is well.\n".to_owned(),
            (0, mended) => format!("{} found and mended.\n", count(mended, "damage")),
            (open, mended) => format!("{} open, {mended} mended.\n", count(open, "damage")),
        };
        out
    })?;
    Ok(ExitCode::from(u8::from(!report.is_clean())))
}

fn line(damage: &Damage) -> String {
    let what = match damage.kind {
        Kind::File => "file",
        Kind::Object => "object",
        Kind::Ledger => "ledger",
    };
    let id = damage.id.map_or_else(String::new, |id| format!(" {id}"));
    let places: Vec<String> = damage.places.iter().map(ToString::to_string).collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join("; ")) };
    let end = match (&damage.next, damage.repaired) {
        (_, true) => " Mended.".to_owned(),
        (Some(next), false) => format!("\n  next: {next}"),
        (None, false) => String::new(),
    };
    format!("{what}{id}{places}: {}.{end}\n", damage.problem)
}
