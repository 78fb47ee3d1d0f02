//! `evidence`, and `verify` of such a file.

use std::path::Path;
use std::process::ExitCode;

use airlock_core::bundle;
use airlock_engine::error::{Error, Result};
use airlock_engine::evidence::{self, Checked, Header};
use airlock_engine::view::View;

use super::Cx;
use super::records::find;
use crate::cli::EvidenceArgs;
use crate::output::{bytes, count};

pub async fn run(cx: &Cx, args: &EvidenceArgs) -> Result<ExitCode> {
    let EvidenceArgs { channel, file } = args;
    if file.is_dir() {
        return Err(
            Error::usage(format!("{} is a folder", file.display())).hint("name a file, such as evidence.zip")
        );
    }
    let station = cx.open().await?;
    let view = View::new(station.clone());
    let found = find(&station, &view, channel).await?;
    let written = evidence::write(&station, &found, file, airlock_web::evidence).await?;
    let m = &written.manifest;
    let json = || {
        let mut json = serde_json::to_value(&written)?;
        json["file"] = serde_json::json!(file);
        Ok(json)
    };
    let text = || {
        format!(
            "Wrote evidence of snapshot {} of {}: {} published, {}, up to entry {} of the ledger.\n",
            m.snapshot.digest().short(),
            m.channel,
            count(written.components, "file"),
            bytes(written.bytes),
            m.ledger.number,
        )
    };
    cx.out.answer(json, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks a file of evidence.
pub fn verify(cx: &Cx, file: &Path, keys: &[[u8; 32]], only_header: bool) -> Result<ExitCode> {
    let header = evidence::open(file, keys)?;
    let checked = match only_header {
        true => None,
        false => Some(evidence::check(&header, &cx.options().progress)?),
    };
    let m = &header.manifest;
    let json = || {
        Ok(serde_json::json!({
            "verified": checked.is_some(), "evidence": header.digest, "channel": m.channel, "snapshot": m.snapshot,
            "content": m.content, "created": m.time, "station": m.station.name,
            "fingerprint": bundle::fingerprint(&header.signer), "published": m.published, "ledger": m.ledger,
            "parts": m.parts, "checked": checked,
        }))
    };
    cx.out.answer(json, || text(&header, checked.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(header: &Header, checked: Option<&Checked>) -> String {
    let m = &header.manifest;
    let state = if checked.is_some() { "Whole and unchanged" } else { "Signed; parts not looked at" };
    let mut out = format!(
        "{state}.\n  from      {} ({})\n  evidence  of {}, snapshot {}\n  judged    {}\n  ledger    entry {} tells of it, entry {} is the last\n",
        m.station.name,
        bundle::fingerprint(&header.signer),
        m.channel,
        m.snapshot,
        m.time,
        m.published,
        m.ledger.number,
    );
    if let Some(checked) = checked {
        out += &format!(
            "  checked   {} in both bills of materials, {}, {} of the ledger, {}\n",
            count(checked.components, "file"),
            count(checked.objects, "object"),
            if checked.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", checked.entries) },
            count(checked.decisions, "decision"),
        );
        if checked.policy_is_built_in {
            out += "  policy    `inherited`, which is built in: it adds no rules to those of the parent\n";
        }
        for name in &checked.unproven {
            out += &format!("  No entry tells of the {name}.\n");
        }
    }
    out
}
