//! What changed since the last version that was admitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use airlock_core::compare::{Admitted, Changes, Side, last_admitted};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::verdict::Judgement;
use airlock_core::version::Order;

use super::{Held, known};
use crate::error::Result;
use crate::explain;
use crate::view::{ChannelView, View};

/// Files of one version that are compared; who wants to see another one names it.
const COMPARED_MAX: usize = 20;

/// What is another in a file than in the last that was admitted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Since {
    /// The file.
    pub artifact: String,
    /// The file that was admitted.
    pub admitted: String,
    /// Its version.
    pub version: String,
    /// Whether that is above the version that waits, since none that is not above it is offered.
    pub is_above: bool,
    /// What is another.
    pub changes: Changes,
}

/// Everything of one package.
pub(super) struct Known {
    ecosystem: Ecosystem,
    parts: BTreeMap<String, Part>,
    admitted: Vec<Admitted>,
}

struct Part {
    shard: Option<Shard>,
    facts: Option<Facts>,
    judgement: Arc<Judgement>,
}

impl Known {
    /// Reads what the channel has of a package.
    pub(super) async fn read(view: &View, channel: &ChannelView, name: &str) -> Result<Self> {
        let mut out =
            Self { ecosystem: channel.channel.ecosystem, parts: BTreeMap::new(), admitted: Vec::new() };
        for judgement in explain::package(view, channel, name).await?.ours {
            let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() };
            let (shard, facts) = known(view, channel, &key).await?;
            let offered = channel.unblocked(&judgement).artifacts.into_iter().filter(|(_, j)| j.is_offered());
            out.admitted.extend(offered.map(|(file, judged)| Admitted {
                subdir: judgement.subdir.clone(),
                file,
                version: judged.version,
            }));
            out.parts.insert(key.to_string(), Part { shard, facts, judgement });
        }
        Ok(out)
    }

    /// What is another in the files of what waits, and how many more could be compared.
    pub(super) fn since(&self, held: &Held) -> (Vec<Since>, usize) {
        let is_other = |one: &&Admitted| {
            let key = ShardKey { subdir: one.subdir.clone(), name: held.name.clone() };
            !held.artifacts.contains(&key.place(&one.file))
        };
        let among: Vec<Admitted> = self.admitted.iter().filter(is_other).cloned().collect();
        let compared = held.artifacts.iter().take(COMPARED_MAX);
        let since = compared.filter_map(|artifact| self.compared(held, artifact, &among)).collect();
        let left_out = if among.is_empty() { 0 } else { held.artifacts.len().saturating_sub(COMPARED_MAX) };
        (since, left_out)
    }

    fn compared(&self, held: &Held, artifact: &str, among: &[Admitted]) -> Option<Since> {
        let (subdir, file) = match artifact.split_once('/') {
            Some((subdir, file)) => (Some(subdir.to_owned()), file),
            None => (None, artifact),
        };
        let new = Admitted { subdir, file: file.to_owned(), version: held.version.clone() };
        let old = last_admitted(self.ecosystem, &new, among)?;
        let of = |one: &Admitted| {
            let key = ShardKey { subdir: one.subdir.clone(), name: held.name.clone() };
            self.parts.get(&key.to_string())
        };
        let (old_part, new_part) = (of(old)?, of(&new)?);
        let (old_artifact, new_artifact) = (old_part.artifact(&old.file)?, new_part.artifact(&new.file)?);
        let changes = Changes::of(
            self.ecosystem,
            &old_part.side(&old.file, &old_artifact)?,
            &new_part.side(&new.file, &new_artifact)?,
        );
        let above = Order::of(self.ecosystem).compare(&old.version, &new.version);
        Some(Since {
            artifact: artifact.to_owned(),
            admitted: airlock_core::shard::place(old.subdir.as_deref(), &old.file),
            version: old.version.clone(),
            is_above: above.is_some_and(std::cmp::Ordering::is_gt),
            changes,
        })
    }
}

impl Part {
    fn artifact(&self, file: &str) -> Option<Artifact> {
        let shard = self.shard.as_ref()?;
        Artifact::read(shard, file, shard.entries.get(file)?).ok()
    }

    fn side<'a>(&'a self, file: &str, artifact: &'a Artifact) -> Option<Side<'a>> {
        let findings = self.judgement.artifacts.get(file).map(|judged| self.judgement.findings_of(judged));
        Some(Side {
            artifact,
            entry: self.shard.as_ref()?.entries.get(file)?,
            opened: self.facts.as_ref().and_then(|facts| facts.files.get(file)?.file.as_ref()),
            findings: findings.unwrap_or_default(),
        })
    }
}
