//! `channel`

use std::process::ExitCode;

use airlock_core::channel::{Channel, ChannelFeed, parent_of};
use airlock_core::decision::{Ruling, Scope};
use airlock_core::policy::{DEFAULT_NAME, INHERITED_NAME};
use airlock_engine::error::{Error, Result};
use airlock_engine::{channel, decide, shadow};

use super::{Cx, review, shadows};
use crate::cli::ChannelCommand;
use crate::output::table;

pub async fn run(cx: &Cx, command: ChannelCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        ChannelCommand::Add { name, ecosystem, source, subdirs, only, exclude, policy } => {
            let policy = policy.unwrap_or_else(|| match source {
                Some(_) => DEFAULT_NAME.to_owned(),
                None => INHERITED_NAME.to_owned(),
            });
            let feed = match source {
                Some(location) => ChannelFeed::Source { location, subdirs, only, exclude },
                None => ChannelFeed::Parent { only, exclude, exactly: None },
            };
            let ecosystem = match (ecosystem, parent_of(&name)) {
                (Some(ecosystem), _) => ecosystem,
                (None, Some(parent)) => channel::find(&station, parent).await?.ecosystem,
                (None, None) => {
                    return Err(Error::usage(format!("nobody says of which ecosystem `{name}` is"))
                        .hint("say --ecosystem conda or --ecosystem pypi"));
                }
            };
            let channel = channel::add(&station, Channel { name, ecosystem, feed, policy }).await?;
            let shown = channel::described(&channel)?;
            cx.out.answer(
                || Ok(shown),
                || format!("Added channel `{0}`. Next: `airlock sync {0}`.\n", channel.name),
            )?;
        }
        ChannelCommand::List => {
            let channels = channel::list(&station).await?;
            let shown: Vec<serde_json::Value> =
                channels.iter().map(channel::described).collect::<Result<_>>()?;
            let rows: Vec<Vec<String>> = channels
                .iter()
                .map(|c| vec![c.name.clone(), c.ecosystem.to_string(), c.policy.clone(), source(c)])
                .collect();
            cx.out.answer(|| Ok(serde_json::json!({ "channels": shown })), || table(&rows))?;
        }
        ChannelCommand::Set(args) => return shadows::set(cx, &station, args).await,
        ChannelCommand::Freeze { name, until, reason } => {
            let ruling = Ruling::Freeze(Scope::of(&name, "*"));
            let decision = decide::decide(&station, ruling, &reason, Some(until)).await?;
            cx.out.say(&format!("decision {}: {name} is frozen until {}", decision.id, until.date()));
            return review::rejudge(cx, &station, &decision).await;
        }
        ChannelCommand::Show { name } => {
            let channel = channel::find(&station, &name).await?;
            let mut shown = channel::described(&channel)?;
            if let Some(shadow) =
                shadow::ask(&station, &channel, shadows::may_keep(&station, &name).await).await?
            {
                shown["shadow"] = serde_json::to_value(&shadow)?;
            }
            let text = serde_json::to_string_pretty(&shown)? + "\n";
            cx.out.answer(|| Ok(shown), || text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn source(channel: &Channel) -> String {
    channel::fed_by(channel).unwrap_or_default()
}
