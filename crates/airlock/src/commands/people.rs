//! `user`, `token`, `proposals`

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use airlock_core::people::People;
use airlock_core::roles::{Action, Grant};
use airlock_engine::error::{Error, Result};
use airlock_engine::people;
use airlock_engine::proposals::{self, Proposal, State};
use airlock_engine::station::Station;

use super::{Cx, import_plan, judging};
use crate::cli::{ProposalsCommand, TokenCommand, UserCommand, WhoArgs};
use crate::output::{ago, table};

/// Bytes that are read of a file with a token.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// The station, with whoever acts as the command line says.
pub async fn known(mut station: Station, who: &WhoArgs) -> Result<Station> {
    if let Some(user) = &who.acting {
        let token = match &who.token_file {
            Some(path) => from_file(path)?,
            None => std::env::var("AIRLOCK_TOKEN").map_err(|_| {
                Error::usage(format!("the token of `{user}` is missing"))
                    .hint("put it into AIRLOCK_TOKEN, or into a file that --token-file names")
            })?,
        };
        station.login = Some(people::login(&station, user, &token).await?);
    }
    if who.break_glass.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(
            Error::usage("what is done alone needs a reason").hint("say why with --break-glass REASON")
        );
    }
    if who.break_glass.as_ref().is_some_and(|reason| reason.contains(char::is_control)) {
        return Err(Error::usage("the reason of what is done alone is text on one line")
            .hint("leave line breaks and control characters out of --break-glass"));
    }
    station.break_glass.clone_from(&who.break_glass);
    Ok(station)
}

fn from_file(path: &Path) -> Result<String> {
    let fault = |e: std::io::Error| {
        Error::usage(format!("{}: {e}", path.display()))
            .hint("give a file with the token that this user may read")
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(fault)?;
    Ok(text)
}

pub async fn user(cx: &Cx, command: UserCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        UserCommand::Add { name, role, channels } => {
            people::add(
                &station,
                &name,
                role.into_iter().map(|role| Grant { role, channels: channels.clone() }).collect(),
            )
            .await?;
            cx.out.say(&format!("Added user `{name}`. Next: `airlock token add {name}`."));
        }
        UserCommand::List => {
            people::allow(&station, Action::SeePeople, None).await?;
            let people = people::read(&station).await?;
            cx.out.answer(|| Ok(json(&people)), || text(&people))?;
        }
        UserCommand::Remove { name } => people::remove(&station, &name).await?,
        UserCommand::Grant { name, role } => people::grant(&station, &name, &role.into(), true).await?,
        UserCommand::Revoke { name, role } => people::grant(&station, &name, &role.into(), false).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everybody, without what is kept of tokens.
fn json(people: &People) -> serde_json::Value {
    let user = |(name, user): (&String, &airlock_core::people::User)| {
        let tokens: Vec<serde_json::Value> = user
            .tokens
            .iter()
            .map(|(id, token)| serde_json::json!({"token": id, "since": token.since, "expires": token.expires}))
            .collect();
        serde_json::json!({"name": name, "grants": user.grants, "tokens": tokens})
    };
    serde_json::json!({"users": people.users.iter().map(user).collect::<Vec<_>>()})
}

fn text(people: &People) -> String {
    if people.users.is_empty() {
        return "No user yet: `airlock user add NAME --role ROLE`.\n".to_owned();
    }
    let grant = |grant: &Grant| match grant.channels.is_empty() {
        true => grant.role.name().to_owned(),
        false => format!("{} in {}", grant.role.name(), grant.channels.join(", ")),
    };
    let rows = people.users.iter().map(|(name, user)| {
        let roles: Vec<String> = user.grants.iter().map(grant).collect();
        vec![name.clone(), roles.join("; "), crate::output::count(user.tokens.len() as u64, "token")]
    });
    table(&rows.collect::<Vec<_>>())
}

pub async fn token(cx: &Cx, command: TokenCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        TokenCommand::Add { user, expires } => {
            let (id, token) = people::add_token(&station, &user, expires).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"user": user, "token": id, "secret": token})),
                || format!("{token}\n"),
            )?;
            cx.out.say(&format!(
                "This is token {id} of `{user}`. It is shown this once; whoever has it is `{user}` here."
            ));
        }
        TokenCommand::List { user } => {
            people::allow(&station, Action::SeePeople, None).await?;
            let mut people = people::read(&station).await?;
            people.users.retain(|name, _| user.as_ref().is_none_or(|wanted| wanted == name));
            let row = |name: &String, id: &String, token: &airlock_core::people::Token| {
                let ends =
                    token.expires.map_or_else(|| "no end".to_owned(), |at| format!("until {}", at.date()));
                vec![name.clone(), id.clone(), format!("since {}", token.since.date()), ends]
            };
            let rows: Vec<Vec<String>> = people
                .users
                .iter()
                .flat_map(|(name, user)| user.tokens.iter().map(move |(id, token)| row(name, id, token)))
                .collect();
            cx.out.answer(|| Ok(json(&people)), || table(&rows))?;
        }
        TokenCommand::Revoke { user, token } => people::revoke_token(&station, &user, &token).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// All that is to be done, and before it what that would change where it is known.
fn shown(proposal: &Proposal) -> Result<String> {
    let mut rest = serde_json::to_value(proposal)?;
    rest.as_object_mut().map(|rest| rest.remove("would"));
    let would = proposal.would.as_ref().map(import_plan::proposed).unwrap_or_default();
    Ok(would + &serde_json::to_string_pretty(&rest)? + "\n")
}

pub async fn proposals(cx: &Cx, command: ProposalsCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        ProposalsCommand::List => {
            let (all, now) = (proposals::list(&station).await?, station.now().await?);
            let row = |p: &Proposal| {
                let state = match &p.state {
                    State::Broken(reason) => format!("done alone, not looked at yet: {reason}"),
                    State::Open if p.expires <= now => "has ended".to_owned(),
                    State::Open => format!("waits until {}", p.expires.date()),
                };
                let would = p.would.as_ref().map(|would| import_plan::said(&would.plan.total()));
                vec![
                    p.id.clone(),
                    p.by.clone(),
                    ago(now, p.since),
                    p.act.told(),
                    state,
                    would.unwrap_or_default(),
                ]
            };
            let text = || match all.is_empty() {
                true => "Nothing waits for a second person.\n".to_owned(),
                false => table(&all.iter().map(row).collect::<Vec<_>>()),
            };
            cx.out.answer(|| Ok(serde_json::json!({ "proposals": all })), text)?;
        }
        ProposalsCommand::Show { id } => {
            let proposal = proposals::find(&station, &id).await?;
            let text = shown(&proposal)?;
            cx.out.answer(|| Ok(serde_json::to_value(&proposal)?), || text)?;
        }
        ProposalsCommand::Confirm { id } => {
            let judged = proposals::confirm(&station, &id).await?;
            cx.out.say(&format!("{id} is done"));
            cx.out.answer(|| judging::json(&judged.outcomes), || judging::text(cx, &judged.outcomes))?;
            judged.failed.map_or(Ok(()), Err)?;
        }
        ProposalsCommand::Withdraw { id } => proposals::withdraw(&station, &id).await?,
        ProposalsCommand::Review { id, reason } => proposals::review(&station, &id, &reason).await?,
    }
    Ok(ExitCode::SUCCESS)
}
