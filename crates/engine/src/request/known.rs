//! What a station knows of what is asked for, and what to do about it.

use airlock_core::channel::ChannelFeed;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::policy::Action;
use airlock_core::request::{Known, Outcome, Request, State, asked_name};
use airlock_core::spec::Spec;
use airlock_core::verdict::Verdict;

use super::answer::Way;
use crate::channel;
use crate::error::{Error, Kind, Result};
use crate::explain::{self, Explained};
use crate::mirror::Filter;
use crate::view::{ChannelView, View};

/// What is known of a spec in a channel. The mildest counts of all that matches: of what may be had nobody need ask.
pub(super) async fn known(view: &View, name: &str, ecosystem: Ecosystem, spec: &str) -> Result<Known> {
    let spec = Spec::parse(ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
    let all = channel::list(view.station()).await?;
    if !all.iter().any(|there| there.name == name && there.ecosystem == ecosystem) {
        return Ok(Known::plain(Outcome::NoChannel));
    }
    let Some(channel) = view.channel(name).await? else {
        let why = Some("the channel was never published".to_owned());
        return Ok(Known { why, ..Known::plain(Outcome::NotListed) });
    };
    let artifacts = match explain::explain(view, &channel, &spec).await {
        Ok(explanation) => explanation.artifacts,
        Err(e) if e.kind == Kind::No => Vec::new(),
        Err(e) => return Err(e),
    };
    let of = |verdict: Verdict| artifacts.iter().find(|a| a.verdict == verdict.word() && !a.gone);
    if let Some(offered) = of(Verdict::Admit) {
        return Ok(Known { version: Some(offered.version.clone()), ..Known::plain(Outcome::Offered) });
    }
    if let Some(held) = of(Verdict::Hold) {
        return Ok(because(held, Outcome::Held, Action::Hold));
    }
    if let Some(denied) = of(Verdict::Deny) {
        return Ok(because(denied, Outcome::Denied, Action::Deny));
    }
    let gone =
        artifacts.first().map(|gone| (gone.version.clone(), "the source lists it no longer".to_owned()));
    match (left_out(&channel, &spec)?, gone) {
        (Some(why), _) => Ok(Known { why: Some(why.to_owned()), ..Known::plain(Outcome::LeftOut) }),
        (None, Some((version, why))) => {
            Ok(Known { version: Some(version), why: Some(why), ..Known::plain(Outcome::NotListed) })
        }
        (None, None) => Ok(Known::plain(Outcome::NotListed)),
    }
}

/// Why something is held or denied, in a line.
fn because(artifact: &Explained, outcome: Outcome, action: Action) -> Known {
    let mut rules: Vec<String> = Vec::new();
    for hit in artifact.rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action >= action) {
        let on = hit.advisory.as_ref().or(hit.detail.as_ref());
        let told = on.map_or_else(|| format!("rule {}", hit.rule), |on| format!("rule {} ({on})", hit.rule));
        if !rules.contains(&told) {
            rules.push(told);
        }
    }
    let rules = if rules.is_empty() { "it is blocked".to_owned() } else { rules.join(", ") };
    let by = artifact.left_out_by.as_ref().map(|by| format!(", in {by}")).unwrap_or_default();
    let known = Known {
        outcome,
        version: Some(artifact.version.clone()),
        why: Some(format!("{rules}{by}")),
        nearest: artifact.nearest.clone(),
    };
    known.bounded()
}

/// Why a channel takes it from no source, if that is why nothing is known of it.
fn left_out(channel: &ChannelView, spec: &Spec) -> Result<Option<&'static str>> {
    let (ChannelFeed::Source { only, exclude, .. } | ChannelFeed::Parent { only, exclude, .. }) =
        &channel.channel.feed
    else {
        return Ok(None);
    };
    let Some(name) = spec.exact_name() else { return Ok(None) };
    let filter = Filter::of(channel.channel.ecosystem, only, exclude)?;
    Ok(match (filter.wants_name(name), filter.wants_whole(name)) {
        (false, _) => Some("the channel's --only or --exclude leaves it out"),
        (true, false) => Some("the channel's --only or --exclude takes only some of its versions"),
        (true, true) => None,
    })
}

/// What to do next about a request of this station, if anything is to be done.
pub(super) fn next_of_ours(request: &Request, here: &Known) -> Option<String> {
    let Request { channel, ecosystem, spec, answer, .. } = request;
    let name = asked_name(*ecosystem, spec).unwrap_or_default();
    match (here.outcome, request.state()) {
        (Outcome::Offered, _) => None,
        (_, State::Open) => Some("airlock request export FILE, and have it released".to_owned()),
        (_, State::Sent) => {
            Some("wait for a bundle; if the file was lost, airlock request export FILE --again".to_owned())
        }
        (Outcome::Held, State::Answered) => Some(format!("airlock explain {channel} '{spec}'")),
        (_, State::Answered) => {
            let known = &answer.as_ref()?.known;
            match (known.outcome, &known.nearest) {
                (Outcome::Offered, _) => Some("wait for the bundle that brings it".to_owned()),
                (_, Some(nearest)) => Some(format!("airlock explain {channel} '{name}=={nearest}'")),
                (_, None) => Some("talk to whoever looks after the sender: no bundle brings it".to_owned()),
            }
        }
    }
}

/// What to do next about a request of a peer, to which answers get this way; the channel may itself be fed by bundles.
pub(super) fn next_of_peer(request: &Request, peer: &str, here: &Known, way: Way, is_fed: bool) -> String {
    let Request { channel, ecosystem, spec, .. } = request;
    let name = asked_name(*ecosystem, spec).unwrap_or_default();
    match here.outcome {
        Outcome::Offered => match way {
            Way::Common => "airlock export DIR".to_owned(),
            Way::Own => format!("airlock export DIR --to {peer}"),
            Way::Unconfirmed => format!(
                "airlock export DIR --to {peer}; no receipt of such a bundle was used yet: if {peer} takes bundles for everybody, it refuses this one"
            ),
            Way::None => format!(
                "airlock export DIR --to {peer}, unless {peer} takes bundles for everybody: those answer nobody while several ask, so tell {peer} another way"
            ),
        },
        Outcome::Held => format!("airlock review queue {channel}"),
        Outcome::Denied => format!("airlock explain {channel} '{spec}'"),
        Outcome::LeftOut => {
            format!("airlock channel show {channel}; a channel with --only {name} would have it")
        }
        Outcome::NotListed if is_fed => {
            format!("airlock request new {channel} '{spec}' --reason TEXT: bundles feed the channel")
        }
        Outcome::NotListed => format!("airlock sync {channel}; if it stays so, the source does not have it"),
        Outcome::NoChannel => {
            format!("airlock channel add {channel} --ecosystem {ecosystem} --source URL --only {name}")
        }
    }
}
