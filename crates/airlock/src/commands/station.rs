//! `init` and `status`.

use std::path::PathBuf;
use std::process::ExitCode;

use airlock_core::people::is_user_name;
use airlock_engine::error::Result;
use airlock_engine::people;
use airlock_engine::station::{Side, Station};
use airlock_engine::status::{self, Status};

use super::Cx;
use crate::output::{ago, table};

pub async fn init(cx: &Cx, dir: Option<PathBuf>, name: Option<String>, side: Side) -> Result<ExitCode> {
    let dir = dir.or_else(|| cx.named_station()).unwrap_or_else(|| PathBuf::from("."));
    let of_dir = || {
        std::path::absolute(&dir).ok().and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()))
    };
    let name = name.or_else(of_dir).unwrap_or_else(|| "station".to_owned());
    let station = Station::init(&dir, &name, side, cx.options()).await?;
    let administrator = administrator(&station.options.actor);
    let token = people::first(&station, &administrator).await?;
    let fingerprint = station.key.fingerprint();
    let public_key = station.key.public_hex();
    cx.out.answer(
        || Ok(serde_json::json!({"name": name, "side": side, "dir": dir, "public_key": public_key, "fingerprint": fingerprint, "administrator": administrator, "token": token})),
        || {
            format!(
                "Made station `{name}` in {dir}.\n\n  public key   {dir}/keys/station.pub\n  fingerprint  {fingerprint}\n\n\
                 Whoever takes this station's bundles needs the public key, and the fingerprint by another way.\n\n  \
                 administrator  {administrator}\n  token          {token}\n\n\
                 The token is shown this once: with it, `--as {administrator}` acts as the first administrator.\nNext: {next}\n",
                dir = dir.display(),
                next = match side {
                    Side::Connected => "`airlock advisories add`, `airlock channel add`, `airlock sync`.",
                    Side::Isolated => "`airlock trust add`, `airlock import`, `airlock serve`.",
                }
            )
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The first administrator: whoever makes the station, if that can name a user.
fn administrator(actor: &str) -> String {
    let name = actor.to_ascii_lowercase();
    if is_user_name(&name) { name } else { "admin".to_owned() }
}

pub async fn status(cx: &Cx) -> Result<ExitCode> {
    let station = cx.open().await?;
    let status = status::status(&station).await?;
    cx.out.answer(|| Ok(serde_json::to_value(&status)?), || text(&status))?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let side = match status.side {
        Side::Connected => "connected",
        Side::Isolated => "isolated",
    };
    let mut out = format!("{} ({side}), key {}\n", status.name, status.fingerprint);
    let mut rows = vec![
        ["channel", "ecosystem", "admitted", "held", "denied", "judged", "source"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for c in &status.channels {
        let judged = c.created.map_or_else(|| "never".to_owned(), |t| ago(status.now, t));
        rows.push(vec![
            c.name.clone(),
            c.ecosystem.to_string(),
            c.counts.admit.to_string(),
            c.counts.hold.to_string(),
            c.counts.deny.to_string(),
            judged,
            c.source.clone(),
        ]);
    }
    if status.channels.is_empty() {
        out += "\nNo channel yet: `airlock channel add NAME --ecosystem conda|pypi --source URL|PATH`.\n";
    } else {
        out += &format!("\n{}", table(&rows));
    }
    for c in &status.channels {
        if let Some(shadow) = &c.shadow {
            out += &format!("\nChannel {}: {}\n", c.name, shadow.told());
        }
    }
    for feed in &status.ledger_feeds {
        let error = feed.error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
        let hint = feed.hint.as_ref().map_or_else(String::new, |hint| format!("  hint: {hint}\n"));
        out += &format!(
            "\nLedger feed {}: sent up to entry {}, {} behind{error}\n{hint}",
            feed.name, feed.sent, feed.behind
        );
    }
    for broken in &status.broken_glass {
        out += &format!(
            "\nDone by {} alone and not looked at yet: {} ({}); another person runs `airlock proposals review {}`\n",
            broken.by, broken.what, broken.reason, broken.proposal
        );
    }
    for stream in &status.streams {
        let written =
            stream.written.map_or_else(String::new, |at| format!(", written {}", ago(status.now, at)));
        let silence = stream.silence().map_or_else(String::new, |said| format!("  {said}\n"));
        out += &format!("\nStream {}: bundle {} is in{written}\n{silence}", stream.stream, stream.number);
    }
    if status.damaged > 0 {
        out += &format!(
            "\n{} damaged on the disk and set aside: run `airlock fsck --repair`.\n",
            crate::output::count(status.damaged, "file")
        );
    }
    out + "\n" + &super::advisories::feeds_text(&status.feeds, status.now)
}
