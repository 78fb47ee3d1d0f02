//! What can no longer be installed, as far as judging a channel asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlock_core::closure::{Graph, Impossible, Part};
use airlock_core::ecosystem::Ecosystem;
use tokio::task::{JoinHandle, spawn_blocking};

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

/// The graph of a channel, which takes in what was judged while the next shards are being judged.
#[derive(Default)]
pub(super) struct Growing(Option<JoinHandle<Graph>>);

impl Growing {
    /// Takes in these, behind those before them.
    pub async fn next(&mut self, ecosystem: Ecosystem, parts: Vec<Part>) -> Result<()> {
        if !parts.is_empty() {
            let mut graph = self.take(ecosystem).await?;
            self.0 = Some(spawn_blocking(move || {
                parts.into_iter().for_each(|part| graph.add(part));
                graph
            }));
        }
        Ok(())
    }

    /// The graph, with everything that was given to it.
    async fn take(&mut self, ecosystem: Ecosystem) -> Result<Graph> {
        match self.0.take() {
            Some(task) => joined(task.await.map(Ok)),
            None => Ok(Graph::new(ecosystem)),
        }
    }
}

impl Sum {
    /// What of all that was judged cannot be installed.
    pub(super) async fn impossible(&mut self, ecosystem: Ecosystem) -> Result<Found> {
        let mut graph = self.graph.take(ecosystem).await?;
        let [before, now] = joined(spawn_blocking(move || Ok(graph.impossible())).await)?;
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
