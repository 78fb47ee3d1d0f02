//! Python requirements, each looked at by itself: which version an installer would take, and whether it passes.

use std::collections::BTreeMap;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::python;
use airlock_core::spec::Spec;
use airlock_core::version::Order;

use super::{ADMITTED, Asked, Member, Nearest, Needs, Plan, unknown};
use crate::channel::Exactly;
use crate::error::{Error, Kind, Result};
use crate::explain::{self, Explained};
use crate::view::{ChannelView, View};

pub(super) async fn plan(view: &View, channel: &ChannelView, needs: &Needs) -> Result<Plan> {
    let mut plan = Plan::of(channel);
    let mut asked = Vec::new();
    let mut artifacts = Vec::new();
    let mut exactly = Exactly::new();
    for requirement in &needs.environment.pypi {
        let plain = without_extras(requirement);
        let spec = Spec::parse(Ecosystem::Pypi, &plain).map_err(|e| Error::usage(e.to_string()))?;
        let name = spec.exact_name().ok_or_else(|| {
            Error::usage(format!("`{requirement}` names no single package")).hint("write the names in full")
        })?;
        let known = match explain::explain(view, channel, &spec).await {
            Ok(known) => known.artifacts,
            Err(error) if error.kind == Kind::No => Vec::new(),
            Err(error) => return Err(error),
        };
        let Some(chosen) = chosen(&known) else {
            plan.missing.push(unknown(view, channel, name, requirement).await?);
            continue;
        };
        plan.members.extend(chosen.iter().map(|one| Member::of(one)));
        let passing = chosen.iter().any(|one| one.verdict == ADMITTED);
        let nearest = chosen.iter().find_map(|one| one.nearest.clone());
        match nearest {
            _ if passing => {
                let files: Vec<String> = chosen.iter().map(|one| one.artifact.clone()).collect();
                exactly.entry(name.to_owned()).or_default().extend(files.iter().cloned());
                artifacts.extend(files);
            }
            Some(version) => {
                asked.push(Asked { from: requirement.clone(), to: format!("{name}=={version}") });
                let files = files_of(view, channel, name, &version).await?;
                exactly.entry(name.to_owned()).or_default().extend(files.iter().cloned());
                artifacts.extend(files);
            }
            None => plan.reasons.push(format!("no version of {name} passes")),
        }
    }
    let is_complete = plan.reasons.is_empty() && plan.missing.is_empty();
    plan.exactly = (is_complete && !exactly.is_empty()).then_some(exactly);
    if !asked.is_empty() && is_complete {
        plan.nearest = Some(Nearest { artifacts, changes: Vec::new(), asked });
    }
    Ok(plan)
}

/// `requests[socks]>=2` without its extras, which say nothing of which file it is.
fn without_extras(requirement: &str) -> String {
    match requirement.split_once('[') {
        Some((name, rest)) => format!("{name}{}", rest.split_once(']').map_or("", |(_, rest)| rest)),
        None => requirement.to_owned(),
    }
}

/// The files of the highest version that an installer would take: those that are offered, or if none is, all of them.
fn chosen(known: &[Explained]) -> Option<Vec<&Explained>> {
    let mut by_version: BTreeMap<&str, Vec<&Explained>> = BTreeMap::new();
    for one in known.iter().filter(|one| !one.gone) {
        by_version.entry(&one.version).or_default().push(one);
    }
    let mut versions: Vec<String> = by_version.keys().map(|v| (*v).to_owned()).collect();
    Order::of(Ecosystem::Pypi).sort(&mut versions);
    let version = versions.iter().rfind(|version| python::is_final(version)).or_else(|| versions.last())?;
    let files = by_version.remove(version.as_str())?;
    let offered: Vec<&Explained> = files.iter().filter(|one| one.verdict == ADMITTED).copied().collect();
    Some(if offered.is_empty() { files } else { offered })
}

async fn files_of(view: &View, channel: &ChannelView, name: &str, version: &str) -> Result<Vec<String>> {
    let spec = Spec::parse(Ecosystem::Pypi, &format!("{name}=={version}"));
    let spec = spec.map_err(|e| Error::usage(e.to_string()))?;
    let known = explain::explain(view, channel, &spec).await?.artifacts;
    Ok(known.into_iter().filter(|one| one.verdict == ADMITTED && !one.gone).map(|one| one.artifact).collect())
}
