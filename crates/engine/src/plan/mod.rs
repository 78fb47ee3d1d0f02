//! What people need, held against what a channel offers: which files it would come to, which of them pass, why the others
//! do not, and the nearest that does.
//!
//! Of a conda channel it is solved exactly, as pixi and rattler do ([`airlock_solve`]): first with everything that the
//! source lists, which is what people would get without anybody's rules, and where something of that does not pass, again
//! with what is offered, as little changed as can be. Of a PyPI channel each requirement is looked at by itself.

mod conda;
mod pypi;

use serde::Serialize;

use airlock_core::channel::{Channel, ChannelFeed, parent_of};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::policy::{Action, INHERITED_NAME};
use airlock_core::snapshot::Snapshot;
use airlock_core::spec::Spec;
use airlock_core::verdict::{RuleHit, Verdict};
use airlock_formats::environment::Environment;

use crate::channel::Exactly;
use crate::channel::{self, ref_name};
use crate::error::{Error, Result};
use crate::explain::{self, Explained};
use crate::station::Station;
use crate::sync::{self, Rejudged, Wish};
use crate::view::{ChannelView, View};

/// What somebody needs, and for which machine.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The packages.
    pub environment: Environment,
    /// The conda subdir.
    pub subdir: String,
    /// The version of Python, if it matters.
    pub python: Option<String>,
    /// Virtual packages in place of or beside those that machines of the subdir have: `__cuda=12.4`.
    pub virtual_packages: Vec<String>,
}

/// What a channel says to it.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The channel.
    pub channel: String,
    /// Its snapshot.
    pub snapshot: Id<Snapshot>,
    /// The subdir, of conda.
    pub platform: Option<String>,
    /// What the machine is believed to have.
    pub virtual_packages: Vec<String>,
    /// Whether all of it can be had as it was asked for.
    pub passes: bool,
    /// The files that it comes to, whether they may be had or not.
    pub members: Vec<Member>,
    /// What was asked for and leads to no file, with the reason.
    pub missing: Vec<String>,
    /// Where something does not pass: the nearest that does.
    pub nearest: Option<Nearest>,
    /// Why there is no nearest, as the solver says it.
    pub reasons: Vec<String>,
    /// Records of the channel that cannot be read, and were left out.
    pub unread: Vec<String>,
    /// The files that would do: those that were asked for if they pass, else the nearest.
    #[serde(skip)]
    pub exactly: Option<Exactly>,
}

/// One file that it comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Where it lies in the channel.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `admitted`, `held` or `denied`.
    pub verdict: &'static str,
    /// Why it does not pass, in a line.
    pub why: Option<String>,
    /// The rules that say so.
    pub rules: Vec<RuleHit>,
    /// The vulnerabilities for which they do.
    pub advisories: Vec<String>,
    /// The nearest version of it that passes.
    pub nearest: Option<String>,
}

/// The nearest that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// All of its files.
    pub artifacts: Vec<String>,
    /// What is different of it.
    pub changes: Vec<Change>,
    /// What would have to be asked for differently.
    pub asked: Vec<Asked>,
}

/// One package that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The package.
    pub name: String,
    /// The version and build that do not pass; none if it was not needed.
    pub from: Option<String>,
    /// What comes instead; none if it is not needed any more.
    pub to: Option<String>,
}

/// A spec that nothing satisfies which may be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// As it was written.
    pub from: String,
    /// What would do.
    pub to: String,
}

/// Holds needs against a channel.
///
/// # Errors
///
/// Specs that cannot be read.
pub async fn plan(view: &View, channel: &ChannelView, needs: &Needs) -> Result<Plan> {
    match channel.channel.ecosystem {
        Ecosystem::Conda => conda::plan(view, channel, needs).await,
        Ecosystem::Pypi => pypi::plan(view, channel, needs).await,
    }
}

/// Makes these files the content of a child of their channel, which is added if it is not there, and publishes it.
///
/// # Errors
///
/// A channel that is no child of that one, has sources of its own, or another policy than the one that is asked for; a plan of
/// which nothing passes. The answer is no where the child's own policy leaves something of it out.
pub async fn close(station: &Station, plan: &Plan, name: &str, policy: Option<&str>) -> Result<Rejudged> {
    let Some(files) = plan.exactly.clone() else {
        return Err(Error::no(format!("nothing passes that channel `{name}` could hold"))
            .hint("ask for something else, or have it reviewed; nothing was changed"));
    };
    if parent_of(name) != Some(plan.channel.as_str()) {
        return Err(Error::usage(format!("`{name}` is not a child of `{}`", plan.channel))
            .hint(format!("name it below the channel that is planned with: `{}/NAME`", plan.channel)));
    }
    let planned: usize = files.values().map(std::collections::BTreeSet::len).sum();
    let is_there = station.store.db.find_ref(&ref_name(name, "def")).await?.is_some();
    let channel = if is_there {
        let its = channel::find(station, name).await?.policy;
        if let Some(other) = policy.filter(|policy| *policy != its) {
            return Err(Error::usage(format!("`{name}` is there already, under policy `{its}`"))
                .hint(format!("`{}` first; or leave out --policy", put_under(name, other))));
        }
        channel::set_exactly(station, name, files).await?
    } else {
        let ecosystem = channel::find(station, &plan.channel).await?.ecosystem;
        let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: Some(files) };
        let (name, policy) = (name.to_owned(), policy.unwrap_or(INHERITED_NAME).to_owned());
        channel::add(station, Channel { name, ecosystem, feed, policy }).await?
    };
    let outcome = sync::sync(station, &channel, Wish::default()).await?;
    let admitted = outcome.counts.admit;
    let mut judged = sync::descend(station, &[name], "plan").await?;
    judged.outcomes.insert(0, outcome);
    if admitted < planned as u64 {
        let what = format!(
            "{} of {planned} files of the environment are not in `{name}`",
            planned as u64 - admitted
        );
        judged.failed = judged.failed.or_else(|| {
            Some(Error::no(what).hint(format!(
                "its policy `{}` leaves them out: `airlock explain {name} '*'` says why; `{}` adds no rules to the parent's",
                channel.policy,
                put_under(name, INHERITED_NAME)
            )))
        });
    }
    Ok(judged)
}

/// The command that puts a channel under another policy.
fn put_under(name: &str, policy: &str) -> String {
    format!("airlock channel set {name} --policy {policy}")
}

/// The word for what passes.
const ADMITTED: &str = Verdict::Admit.word();

impl Plan {
    fn of(channel: &ChannelView) -> Self {
        Self {
            channel: channel.channel.name.clone(),
            snapshot: channel.id,
            platform: None,
            virtual_packages: Vec::new(),
            passes: false,
            members: Vec::new(),
            missing: Vec::new(),
            nearest: None,
            reasons: Vec::new(),
            unread: Vec::new(),
            exactly: None,
        }
    }
}

impl Member {
    fn of(explained: &Explained) -> Self {
        let passes = explained.verdict == ADMITTED && !explained.gone;
        // What only warns, or holds what is denied, is not why.
        let least = match explained.verdict {
            verdict if verdict == Verdict::Deny.word() => Action::Deny,
            _ => Action::Hold,
        };
        let counts = |hit: &&RuleHit| hit.waived_by.is_none() && hit.action >= least && !passes;
        let deciding = || explained.rules.iter().filter(counts);
        let mut advisories: Vec<String> = deciding().filter_map(|hit| hit.advisory.clone()).collect();
        advisories.sort();
        advisories.dedup();
        let mut names: Vec<&str> = deciding().map(|hit| hit.rule.as_str()).collect();
        names.dedup();
        let why = (!passes).then(|| {
            let by = explained.left_out_by.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
            let about =
                if advisories.is_empty() { String::new() } else { format!(": {}", advisories.join(", ")) };
            let rules = match names.as_slice() {
                [] if explained.gone => "no longer in the source".to_owned(),
                [] => "by a block".to_owned(),
                names => names.join(", "),
            };
            format!("{}{by}, {rules}{about}", explained.verdict)
        });
        Self {
            artifact: explained.artifact.clone(),
            name: explained.name.clone(),
            version: explained.version.clone(),
            verdict: explained.verdict,
            why,
            rules: deciding().cloned().collect(),
            advisories,
            nearest: explained.nearest.clone(),
        }
    }
}

/// Why a spec leads to nothing here: what is known of the package and not offered, or that nothing is.
async fn unknown(view: &View, channel: &ChannelView, name: &str, asked: &str) -> Result<String> {
    let spec = Spec::parse(channel.channel.ecosystem, name).map_err(|e| Error::usage(e.to_string()))?;
    let known = match explain::explain(view, channel, &spec).await {
        Ok(known) => known.artifacts,
        Err(error) if error.kind == crate::error::Kind::No => Vec::new(),
        Err(error) => return Err(error),
    };
    // Where the spec cannot be read as one of ours, all versions are told of.
    let asked_for = Spec::parse(channel.channel.ecosystem, asked).ok();
    let fits = |one: &&Explained| asked_for.as_ref().is_none_or(|spec| spec.matches_version(&one.version));
    let newest = known.iter().filter(fits).find(|one| one.verdict != ADMITTED).map(Member::of);
    Ok(match newest {
        Some(Member { version, why: Some(why), .. }) => format!("{asked}: {version} is {why}"),
        _ if known.is_empty() => format!("{asked}: the channel has no package `{name}`"),
        _ => format!("{asked}: no version of it is listed that fits"),
    })
}
