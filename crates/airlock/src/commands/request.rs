//! `airlock request`: asking, from behind the gap, for what is missing.

use std::process::ExitCode;

use airlock_core::request::{Known, Outcome};
use airlock_engine::error::Result;
use airlock_engine::keys;
use airlock_engine::request::{self, Exported, Imported, Listed, Made};

use super::Cx;
use crate::cli::RequestCommand;
use crate::output::count;

pub async fn run(cx: &Cx, command: RequestCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        RequestCommand::New { channel, spec, reason, ticket } => {
            let made = request::new(&station, (&channel, &spec), &reason, ticket.as_deref()).await?;
            cx.out.answer(|| Ok(serde_json::to_value(&made)?), || made_text(&made))?;
        }
        RequestCommand::Export { file, channels, again } => {
            let done = request::export(&station, &file, &channels, again).await?;
            cx.out.answer(
                || Ok(serde_json::to_value(&done)?),
                || exported_text(&done, &file.display().to_string()),
            )?;
        }
        RequestCommand::Import { file, key, peer } => {
            let given = match (key, peer) {
                (Some(key), Some(peer)) => Some((keys::read_public(&key)?, peer)),
                _ => None,
            };
            let done = request::import(&station, &file, given).await?;
            cx.out.answer(|| Ok(serde_json::to_value(&done)?), || imported_text(&done))?;
        }
        RequestCommand::List => {
            let list = request::list(&station).await?;
            let json = || Ok(serde_json::json!({ "requests": list }));
            cx.out.answer(json, || list.iter().map(listed_text).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known, in a line.
fn told(known: &Known) -> String {
    let what = match known.outcome {
        Outcome::Offered => "offered",
        Outcome::Held => "held",
        Outcome::Denied => "denied",
        Outcome::LeftOut => "left out",
        Outcome::NotListed => "not known",
        Outcome::NoChannel => "there is no such channel",
    };
    let version = known.version.as_ref().map(|v| format!(", version {v}")).unwrap_or_default();
    let why = known.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let nearest = known.nearest.as_ref().map(|n| format!("; nearest that passes: {n}")).unwrap_or_default();
    format!("{what}{version}{why}{nearest}")
}

fn made_text(made: &Made) -> String {
    let request = &made.request;
    format!(
        "{} asks for {} in {}.\n  here  {}\n  next  airlock request export FILE, and have it released\n",
        request.id,
        request.spec,
        request.channel,
        told(&made.here)
    )
}

fn exported_text(done: &Exported, file: &str) -> String {
    let withheld = match done.withheld.as_slice() {
        [] => String::new(),
        ids => format!("Not in it, since a name in it is reserved in-house by now: {}.\n", ids.join(", ")),
    };
    let n = count(done.requests.len() as u64, "request");
    format!("Wrote {n} to {file}: read it, take out whole lines if need be, and release it.\n{withheld}")
}

fn imported_text(done: &Imported) -> String {
    let again = match done.again {
        0 => String::new(),
        n => format!(", {n} that were here already"),
    };
    let n = count(done.requests.len() as u64, "new request");
    format!("{n} of {}{again}.\n", done.peer)
}

fn listed_text(one: &Listed) -> String {
    let request = &one.request;
    let from = request.from.as_ref().map(|peer| format!(" of {}", peer.name)).unwrap_or_default();
    let by = request.asked_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let ticket = request.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
    let mut out = format!(
        "{}{from}  {} {}  {}\n  asked   {}{by}: {}{ticket}\n",
        request.id,
        request.channel,
        request.spec,
        one.state.word(),
        request.asked.date(),
        request.reason
    );
    if let Some(answer) = &request.answer {
        let snapshot =
            answer.snapshot.map(|id| format!(", snapshot {}", id.digest().short())).unwrap_or_default();
        out += &format!("  answer  {} (since {}{snapshot})\n", told(&answer.known), answer.since.date());
    }
    out += &format!("  here    {}\n", told(&one.here));
    out += &one.next.as_ref().map(|next| format!("  next    {next}\n")).unwrap_or_default();
    out
}
