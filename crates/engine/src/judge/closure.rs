//! What can no longer be installed, as far as judging a channel asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlock_core::closure::{Graph, Impossible};
use airlock_core::ecosystem::Ecosystem;

use super::Sum;
use crate::error::{Result, joined};

/// By shard key and file: the dependency of which nothing is offered any more.
pub(super) type Lacks = BTreeMap<String, Arc<BTreeMap<String, String>>>;

/// What closure found.
pub(super) struct Found {
    /// Everything that lacks something.
    pub now: Lacks,
    /// Of that, what was offered before and could be installed.
    pub lost: Vec<Impossible>,
}

impl Sum {
    /// What of all that was judged cannot be installed.
    pub(super) async fn impossible(&mut self, ecosystem: Ecosystem) -> Result<Found> {
        let parts = std::mem::take(&mut self.parts);
        let found = tokio::task::spawn_blocking(move || {
            let mut graph = Graph::new(ecosystem);
            parts.into_iter().for_each(|part| graph.add(part));
            Ok(graph.impossible())
        });
        let [before, now] = joined(found.await)?;
        let was: BTreeSet<(&String, &String)> = before.iter().map(|one| (&one.key, &one.file)).collect();
        let is_lost = |one: &&Impossible| one.was_offered && !was.contains(&(&one.key, &one.file));
        let lost = now.iter().filter(is_lost).cloned().collect();
        let mut by_key: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for one in now {
            by_key.entry(one.key).or_default().insert(one.file, one.needs);
        }
        let now = by_key.into_iter().map(|(key, files)| (key, Arc::new(files))).collect();
        Ok(Found { now, lost })
    }
}
