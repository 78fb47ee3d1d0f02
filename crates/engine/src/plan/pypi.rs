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
    let mut plan = Plan { passes: true, ..Plan::of(channel) };
    let mut exactly = Exactly::new();
    let (mut asked, mut artifacts) = (Vec::new(), Vec::new());
    for (name, requirements) in by_name(&needs.environment.pypi)? {
        let requirement = requirements.join(", ");
        let known = known(view, channel, &together(&name, &requirements)).await?;
        let Some(chosen) = chosen(&known) else {
            plan.missing.push(unknown(view, channel, &name, &requirement).await?);
            continue;
        };
        plan.members.extend(chosen.iter().map(|one| Member::of(one)));
        let is_offered = |one: &&Explained| one.verdict == ADMITTED && !one.gone;
        if chosen.iter().all(&is_offered) {
            take(&name, chosen.iter().copied(), &mut exactly, &mut artifacts);
            continue;
        }
        plan.passes = false;
        // The highest that fits and is offered; else the nearest that is.
        let offered: Vec<Explained> = known.iter().filter(is_offered).cloned().collect();
        if let Some(fitting) = self::chosen(&offered) {
            take(&name, fitting.into_iter(), &mut exactly, &mut artifacts);
        } else if let Some(version) = chosen.iter().find_map(|one| one.nearest.clone()) {
            let spec = format!("{name}=={version}");
            let files = self::known(view, channel, &spec).await?;
            take(&name, files.iter().filter(is_offered), &mut exactly, &mut artifacts);
            asked.push(Asked { from: requirement, to: spec });
        } else {
            plan.reasons.push(format!("no version of {name} passes"));
        }
    }
    plan.passes &= plan.missing.is_empty();
    if plan.reasons.is_empty() && plan.missing.is_empty() && !exactly.is_empty() {
        plan.exactly = Some(exactly);
        plan.nearest = (!plan.passes).then_some(Nearest { artifacts, changes: Vec::new(), asked });
    }
    Ok(plan)
}

/// Takes files of a package.
fn take<'a>(
    name: &str,
    files: impl Iterator<Item = &'a Explained>,
    exactly: &mut Exactly,
    artifacts: &mut Vec<String>,
) {
    for file in files {
        exactly.entry(name.to_owned()).or_default().insert(file.artifact.clone());
        artifacts.push(file.artifact.clone());
    }
}

/// The requirements of each package: several lines on one restrict it together.
fn by_name(requirements: &[String]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for requirement in requirements {
        let spec = Spec::parse(Ecosystem::Pypi, &without_extras(requirement));
        let spec = spec.map_err(|e| Error::usage(e.to_string()))?;
        let name = spec.exact_name().ok_or_else(|| {
            Error::usage(format!("`{requirement}` names no single package")).hint("write the names in full")
        })?;
        out.entry(name.to_owned()).or_default().push(requirement.clone());
    }
    Ok(out)
}

/// One spec of all of them.
fn together(name: &str, requirements: &[String]) -> String {
    let versions = requirements.iter().map(|requirement| {
        let plain = without_extras(requirement);
        let at = plain.find(|c: char| "=<>!~ ".contains(c)).unwrap_or(plain.len());
        plain.get(at..).unwrap_or_default().trim().to_owned()
    });
    let versions: Vec<String> = versions.filter(|versions| !versions.is_empty()).collect();
    format!("{name}{}", versions.join(","))
}

/// Everything that the channel knows of what fits.
async fn known(view: &View, channel: &ChannelView, spec: &str) -> Result<Vec<Explained>> {
    let spec = Spec::parse(Ecosystem::Pypi, spec).map_err(|e| Error::usage(e.to_string()))?;
    match explain::explain(view, channel, &spec).await {
        Ok(known) => Ok(known.artifacts),
        Err(error) if error.kind == Kind::No => Ok(Vec::new()),
        Err(error) => Err(error),
    }
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
