//! `channel set`, `policy shadow`: policies that rule a channel, and those that only report.

use std::process::ExitCode;

use airlock_core::roles::Action;
use airlock_core::shadow::Difference;
use airlock_core::snapshot::Counts;
use airlock_engine::error::{Error, Result};
use airlock_engine::shadow::{self, Shadow};
use airlock_engine::station::Station;
use airlock_engine::sync::{self, Rejudged};
use airlock_engine::{channel, people, policy};

use super::{Cx, judging};
use crate::cli::ChannelSetArgs;
use crate::output::{count, table};

/// Differences that are shown without --verbose.
const DIFFERENCES_SHOWN: usize = 20;

/// Puts a channel under another policy, or a policy beside it.
pub async fn set(cx: &Cx, station: &Station, args: ChannelSetArgs) -> Result<ExitCode> {
    let ChannelSetArgs { name, policy, shadow, no_shadow, dry_run } = args;
    let found = channel::find(station, &name).await?;
    // Before anything moves, so that one of two changes is never made alone.
    for policy in policy.iter().chain(&shadow) {
        policy::find(station, policy).await?;
    }
    if dry_run {
        let outcomes = match &policy {
            Some(policy) => vec![channel::preview_policy(station, &found, policy).await?],
            None => Vec::new(),
        };
        cx.out.answer(|| judging::json(&outcomes), || judging::text(cx, &outcomes))?;
        return Ok(ExitCode::SUCCESS);
    }
    if shadow.is_some() || no_shadow {
        people::allow(station, Action::Channel, Some(&name)).await?;
    }
    let before = found.clone();
    let found = match &policy {
        Some(policy) => channel::set_policy(station, &name, policy).await?,
        None => found,
    };
    if shadow.is_some() || no_shadow {
        shadow::set(station, &found, shadow.as_deref()).await?;
    }
    let mut judged = Rejudged { outcomes: Vec::new(), failed: None };
    if found != before {
        judged = sync::rejudge_some(station, |channel| channel == name, "channel set").await?;
        let below = sync::descend(station, &[&name], "channel set").await?;
        judged.outcomes.extend(below.outcomes);
        judged.failed = judged.failed.or(below.failed);
    }
    let shadow = shadow::ask(station, &found, may_keep(station, &name).await).await?;
    let json = || {
        let mut json = judging::json(&judged.outcomes)?;
        json.set("channel", channel::described(&found)?);
        json.set("shadow", serde_json::to_value(&shadow)?);
        Ok(json)
    };
    let text = || {
        let beside = shadow.as_ref().map(|shadow| format!("{name}: {}\n", shadow.told()));
        Ok(judging::text(cx, &judged.outcomes)? + &beside.unwrap_or_default())
    };
    cx.out.answer(json, text)?;
    judged.failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Whether whoever acts may have what a shadow says kept: looking changes nothing.
pub async fn may_keep(station: &Station, channel: &str) -> bool {
    people::allow(station, Action::Sync, Some(channel)).await.is_ok()
}

/// Asks the shadows of channels that may have been published. What keeps them from answering is said and changes nothing.
pub async fn ask(cx: &Cx, station: &Station) {
    if let Err(error) = shadow::ask_all(station, |_| true).await {
        cx.out.say(&format!("warning: {}", error.message));
    }
}

/// What the policy beside a channel's own would do otherwise.
pub async fn show(cx: &Cx, name: &str) -> Result<()> {
    let station = cx.open().await?;
    let channel = channel::find(&station, name).await?;
    let keep = may_keep(&station, name).await;
    let shadow = shadow::ask(&station, &channel, keep).await?.ok_or_else(|| {
        Error::no(format!("no policy stands beside that of channel `{name}`"))
            .hint(format!("put one there with `airlock channel set {name} --shadow POLICY`"))
    })?;
    cx.out.answer(|| Ok(serde_json::json!({"channel": name, "shadow": shadow})), || text(cx, name, &shadow))
}

fn text(cx: &Cx, name: &str, shadow: &Shadow) -> String {
    let mut out = format!("{name}, since {}: {}\n", shadow.since, shadow.told());
    let Some(report) = &shadow.report else { return out };
    let all = &report.differences;
    let row = |(rule, n): (&String, &Counts)| {
        let newly = [("deny", n.deny), ("hold", n.hold), ("admit", n.admit)];
        let newly = newly.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {n}"));
        vec![format!("  rule {rule}"), newly.collect::<Vec<_>>().join(", ")]
    };
    out += &table(&all.by_rule.iter().map(row).collect::<Vec<_>>());
    let shown = if cx.out.is_verbose() { all.list.len() } else { DIFFERENCES_SHOWN };
    out += &table(&all.list.iter().take(shown).map(difference).collect::<Vec<_>>());
    let more = all.len().saturating_sub(shown as u64);
    if more > 0 {
        out += &format!("  and {}\n", count(more, "further artifact"));
    }
    out
}

fn difference(one: &Difference) -> Vec<String> {
    let rules: Vec<&str> = one.rules.iter().map(String::as_str).collect();
    vec![
        format!("  {} -> {}", one.from.word(), one.to.word()),
        one.artifact.clone(),
        rules.join(", "),
        one.since.map(|at| format!("since {}", at.date())).unwrap_or_default(),
    ]
}
