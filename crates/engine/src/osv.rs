//! The station's own knowledge, asked as OSV is asked (OSV API 1.0): which records affect a version of a package, and
//! what a record says. Scanners that speak it work inside the enclave as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use airlock_core::advisory::{Advisory, AdvisoryRecord, AdvisorySet, FeedKind, MatchKey, Slice};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::id::Id;
use airlock_core::identity::{Coverage, Review};
use airlock_core::matching::{self, Finding, Lookup};
use airlock_core::shard::ShardKey;
use airlock_core::time::Time;
use airlock_core::version::Order;

use crate::error::{Error, Result};
use crate::feeds::SET;
use crate::view::{ChannelView, View};

/// What somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The ecosystem as OSV calls it; `conda`, which OSV does not know, is answered through identities.
    pub ecosystem: String,
    /// The name there.
    pub name: String,
    /// The version; none asks for everything known of the package.
    pub version: Option<String>,
}

/// What affects a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affecting {
    /// The records, with the times of their last change, by id.
    pub records: BTreeMap<String, Option<Time>>,
    /// How well the package is covered: nothing found where it is unknown is not the same as clean.
    pub coverage: Coverage,
}

/// Everything that is known now.
///
/// # Errors
///
/// Where no feed of advisories was read: an empty answer would read as if there were no vulnerabilities.
pub async fn known(view: &View) -> Result<Arc<AdvisorySet>> {
    let set = match view.station().store.db.find_ref(SET).await? {
        Some(id) => Some(view.object(Id::<AdvisorySet>::new(id)).await?),
        None => None,
    };
    set.filter(|set| set.feeds.values().any(|head| head.kind.is_advisories())).ok_or_else(|| {
        Error::no("no feed of advisories was read here, so that nothing can be said of any package")
            .hint("add one with `airlock advisories add osv URL|PATH`, then run `airlock advisories update`")
    })
}

/// The records that affect a package. Where a channel is given, without those that were ruled to be mitigated or cleared for
/// every file that it has of that version.
///
/// # Errors
///
/// If the channel is of another ecosystem than the package.
pub async fn affecting(
    view: &View,
    set: &AdvisorySet,
    package: &Package,
    channel: Option<&ChannelView>,
) -> Result<Affecting> {
    let (lookups, coverage) = lookups(view, set, package).await?;
    let mut found: Vec<(Lookup, Arc<Slice>)> = Vec::new();
    for lookup in lookups {
        if let Some(id) = view.look_up(set.slices, lookup.key.as_str()).await? {
            found.push((lookup, view.object(id).await?));
        }
    }
    let records = match &package.version {
        None => {
            let entries = found.iter().flat_map(|(_, slice)| &slice.entries);
            entries.map(|entry| (entry.advisory.clone(), entry.modified)).collect()
        }
        Some(version) => {
            let slices: Vec<_> = found.iter().map(|(lookup, slice)| (lookup.clone(), &**slice)).collect();
            let mut findings = matching::match_version(&slices, version);
            if let Some(channel) = channel {
                let closed = closed(view, channel, package, version).await?;
                findings.retain(|finding| !closed.iter().any(|closed| closed.advisory == finding.advisory));
            }
            let evidence = findings.into_iter().flat_map(|finding| finding.evidence);
            evidence.map(|evidence| (evidence.record, evidence.modified)).collect()
        }
    };
    Ok(Affecting { records, coverage })
}

/// What was ruled not to speak against any file that a channel has of a version.
async fn closed(
    view: &View,
    channel: &ChannelView,
    package: &Package,
    version: &str,
) -> Result<Vec<Finding>> {
    let ecosystem = channel.channel.ecosystem;
    let fits = match ecosystem {
        Ecosystem::Conda => package.ecosystem == "conda",
        Ecosystem::Pypi => package.ecosystem.eq_ignore_ascii_case("PyPI"),
    };
    let name = ecosystem::canonical_name(ecosystem, &package.name).filter(|_| fits).ok_or_else(|| {
        Error::usage(format!("channel `{}` has no packages of {}", channel.channel.name, package.ecosystem))
    })?;
    let subdirs: Vec<Option<String>> = match ecosystem {
        Ecosystem::Pypi => vec![None],
        Ecosystem::Conda => channel.newest.subdirs.keys().cloned().map(Some).collect(),
    };
    let mut files = Vec::new();
    for subdir in subdirs {
        let key = ShardKey { subdir, name: name.clone() }.to_string();
        let Some(id) = view.look_up(channel.newest.judgement, &key).await? else { continue };
        let judgement = view.object(id).await?;
        for judged in judgement.artifacts.values().filter(|j| !j.gone) {
            if judged.version == version || is_same(ecosystem, &judged.version, version) {
                files.push(judgement.findings_of(judged).into_owned());
            }
        }
    }
    let Some(mut closed) = files.pop() else { return Ok(Vec::new()) };
    closed.retain(|finding| !finding.status.is_open());
    for file in files {
        let is_open = |f: &Finding| file.iter().any(|of| of.advisory == f.advisory && of.status.is_open());
        closed.retain(|finding| !is_open(finding));
    }
    Ok(closed)
}

fn is_same(ecosystem: Ecosystem, a: &str, b: &str) -> bool {
    Order::of(ecosystem).compare(a, b) == Some(std::cmp::Ordering::Equal)
}

async fn lookups(view: &View, set: &AdvisorySet, package: &Package) -> Result<(Vec<Lookup>, Coverage)> {
    let spelt = |ecosystem| {
        ecosystem::canonical_name(ecosystem, &package.name)
            .ok_or_else(|| Error::usage(format!("`{}` is no name of a package", package.name)))
    };
    let (ecosystem, name) = match package.ecosystem.as_str() {
        "PyPI" | "pypi" => (Ecosystem::Pypi, spelt(Ecosystem::Pypi)?),
        "conda" => (Ecosystem::Conda, spelt(Ecosystem::Conda)?),
        other => {
            let (name, orders) = match other {
                "CRAN" | "Bioconductor" => (ecosystem::canonical_r_name(&package.name), vec![Order::R]),
                _ => (package.name.clone(), vec![Order::Semver, Order::Letters]),
            };
            let key = MatchKey::osv(other, &name);
            let lookup = Lookup {
                via: key.as_str().to_owned(),
                key,
                orders,
                is_python: false,
                review: Review::Verified,
            };
            // Whether any feed speaks of this ecosystem, nobody can tell from what it says of one package.
            return Ok((vec![lookup], Coverage::Unknown));
        }
    };
    let identity = match ecosystem {
        Ecosystem::Pypi => None,
        Ecosystem::Conda => view.look_up(set.identities, &name).await?,
    };
    let coverage = matching::coverage(ecosystem, &name, identity.as_ref());
    Ok((matching::lookups(ecosystem, &name, identity.as_ref()), coverage))
}

/// A record by its own id, in the form of OSV: as its publisher wrote it, or, for one that speaks another form, made of
/// what was read of it. Of two feeds that hold it the one counts where it stands, and was changed last.
pub async fn record(view: &View, set: &AdvisorySet, id: &str) -> Result<Option<Value>> {
    // Whether it is in OSV's form, whether it stands, and when it was changed.
    type Rank = (bool, bool, Option<Time>);
    let mut newest: Option<(Rank, Arc<AdvisoryRecord>)> = None;
    for head in set.feeds.values().filter(|head| head.kind.is_advisories()) {
        let Some(at) = view.look_up(head.records(), id).await? else { continue };
        let record = view.object(at).await?;
        // No feed takes back what another says.
        let stands = !record.advisory.withdrawn;
        let rank = (head.kind == FeedKind::Osv, stands, record.advisory.modified);
        if newest.as_ref().is_none_or(|(held, _)| *held < rank) {
            newest = Some((rank, record));
        }
    }
    newest
        .map(|((is_osv, ..), record)| match is_osv {
            true => record.raw.read::<Value>().map_err(|e| Error::fault(format!("{id} cannot be read: {e}"))),
            false => Ok(as_osv(&record.advisory)),
        })
        .transpose()
}

/// An OSV record of what was read of a record in another form. It names no package: what is affected there is a
/// product, which OSV has no ecosystem for.
fn as_osv(advisory: &Advisory) -> Value {
    let severity = advisory.scores.iter().map(|score| {
        let kind = match score.vector.split('/').next() {
            Some("CVSS:4.0") => "CVSS_V4",
            Some("CVSS:3.0" | "CVSS:3.1") => "CVSS_V3",
            _ => "CVSS_V2",
        };
        json!({ "type": kind, "score": score.vector })
    });
    let mut out = json!({
        "schema_version": "1.7.5",
        "id": advisory.id,
        "modified": advisory.modified,
        "published": advisory.published,
        "aliases": advisory.aliases,
        "summary": advisory.summary,
        "severity": severity.collect::<Vec<_>>(),
        "affected": [],
        "database_specific": { "cwe_ids": advisory.cwes },
    });
    if let Some(members) = out.as_object_mut() {
        members.retain(|_, value| !value.is_null());
        if advisory.withdrawn {
            members.insert("withdrawn".to_owned(), json!(advisory.modified));
        }
    }
    out
}
