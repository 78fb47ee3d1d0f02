//! What can no longer be installed, as far as judging a channel asks.

use std::collections::BTreeMap;
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
    /// Everything that lacks something, in order.
    pub now: Vec<Impossible>,
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
        let found = spawn_blocking(move || {
            let [before, now] = graph.impossible();
            // It is large: what was found need not wait until all of it is given back.
            spawn_blocking(|| drop(graph));
            let lost = lost(&before, &now);
            Ok(Found { now, lost })
        });
        joined(found.await)
    }
}

/// Of what cannot be installed now, what was offered before and could be. Both are in order.
fn lost(before: &[Impossible], now: &[Impossible]) -> Vec<Impossible> {
    let order = |a: &Impossible, b: &Impossible| a.key.cmp(&b.key).then_with(|| a.file.cmp(&b.file));
    let mut before = before.iter().peekable();
    let mut was_so = |one: &Impossible| {
        while before.next_if(|before| order(before, one).is_lt()).is_some() {}
        before.peek().is_some_and(|before| order(before, one).is_eq())
    };
    now.iter().filter(|one| !was_so(one) && one.was_offered).cloned().collect()
}

/// By shard and file.
pub(super) fn by_key(all: Vec<Impossible>) -> Lacks {
    let mut by_key: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for one in all {
        by_key.entry(one.key).or_default().insert(one.file, one.needs);
    }
    by_key.into_iter().map(|(key, files)| (key, Arc::new(files))).collect()
}
