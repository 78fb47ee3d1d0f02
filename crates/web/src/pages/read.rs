//! Reading one package of a channel: only its own judgements, records and facts.

use std::collections::BTreeMap;

use airlock_core::id::Digest;
use airlock_core::record::Artifact;
use airlock_core::snapshot::Upstream;
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement};
use airlock_engine::error::Result;
use airlock_engine::explain::{self, Package};
use airlock_engine::view::{ChannelView, View};

/// What a record and the file itself say, for people.
#[derive(Default)]
pub(super) struct About {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The licence as stated.
    pub licence: Option<String>,
    /// When it was made or uploaded.
    pub time: Option<Time>,
    /// Its hash: pinned here, else declared.
    pub sha256: Option<Digest>,
    /// Withdrawn by its publisher.
    pub yanked: bool,
    /// One line about the package.
    pub summary: Option<String>,
}

/// A package with everything that its pages say.
pub(super) struct Reading {
    /// Its judgements.
    pub package: Package,
    /// By the place of the artifact: subdir and file for conda, file for PyPI.
    pub about: BTreeMap<String, About>,
    /// Why the block set withholds files, by the same.
    pub blocked: BTreeMap<String, String>,
}

/// Reads a package; `name` is canonical. None if nobody here knows the name.
pub(super) async fn read(view: &View, channel: &ChannelView, name: &str) -> Result<Option<Reading>> {
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    let mut reading =
        Reading { package: Package::default(), about: BTreeMap::new(), blocked: BTreeMap::new() };
    for key in explain::keys(view, channel, &upstream, name).await? {
        let place = key.to_string();
        let sent = view.sent_judgements(channel, &place).await?;
        reading.package.sent.extend(sent);
        let Some(judgement) = view.judgement(channel, &place).await? else { continue };
        reading.about(view, channel, &upstream, &judgement, &place).await?;
        reading.package.ours.push(judgement);
    }
    let is_known = !reading.package.ours.is_empty() || !reading.package.sent.is_empty();
    Ok(is_known.then_some(reading))
}

/// Whether a channel knows a name.
pub(super) async fn knows(view: &View, channel: &ChannelView, name: &str) -> Result<bool> {
    let Some(name) = airlock_core::ecosystem::canonical_name(channel.channel.ecosystem, name) else {
        return Ok(false);
    };
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    for key in explain::keys(view, channel, &upstream, &name).await? {
        let place = key.to_string();
        if view.judgement(channel, &place).await?.is_some()
            || !view.sent_judgements(channel, &place).await?.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Reading {
    /// Notes what records, files and the block set say of one shard.
    async fn about(
        &mut self,
        view: &View,
        channel: &ChannelView,
        upstream: &Upstream,
        judgement: &Judgement,
        key: &str,
    ) -> Result<()> {
        let shard = match view.look_up(upstream.tree, key).await? {
            Some(id) => Some(view.object(id).await?),
            None => None,
        };
        let facts = view.facts(channel, key).await?;
        for file in judgement.artifacts.keys() {
            let entry = shard.as_ref().and_then(|s| Some((s, s.entries.get(file)?)));
            let record = entry.and_then(|(shard, entry)| Artifact::read(shard, file, entry).ok());
            let fact = facts.as_ref().and_then(|f| f.files.get(file)).and_then(|f| f.file.as_ref());
            let place = judgement.subdir.as_ref().map_or_else(|| file.clone(), |s| format!("{s}/{file}"));
            if let Some(reason) = channel.blocks.reason(key, file) {
                self.blocked.insert(place.clone(), reason.to_owned());
            }
            let about = About {
                size: fact.map(|f| f.size).or(record.as_ref().and_then(|r| r.size)),
                licence: record
                    .as_ref()
                    .and_then(|r| r.licence.clone())
                    .or(fact.and_then(|f| f.licence.clone())),
                time: record.as_ref().and_then(|r| r.time),
                sha256: fact.map(|f| f.sha256).or(record.as_ref().and_then(|r| r.sha256)),
                yanked: record.as_ref().is_some_and(|r| r.yanked),
                summary: fact.and_then(|f| f.summary.clone()),
            };
            self.about.insert(place, about);
        }
        Ok(())
    }

    /// The judgement of an artifact by its place: the sender's where it left the file out.
    pub(super) fn judged(&self, place: &str, by_sender: bool) -> Option<&Judged> {
        let all = if by_sender { &self.package.sent } else { &self.package.ours };
        let (subdir, file) = match place.split_once('/') {
            Some((subdir, file)) => (Some(subdir), file),
            None => (None, place),
        };
        let judgement =
            all.iter().find(|j| j.subdir.as_deref() == subdir && j.artifacts.contains_key(file))?;
        judgement.artifacts.get(file)
    }

    /// The package in one line, as its newest file that says so has it.
    pub(super) fn summary(&self, newest_first: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
        newest_first
            .filter_map(|place| self.about.get(place.as_ref())?.summary.clone())
            .find(|s| !s.is_empty())
    }
}
