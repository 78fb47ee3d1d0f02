//! Which records bear on which package, and which name which vulnerability: what the slices that a changed record
//! touches are found by. It is derived from the feeds, is no part of what anything is judged by, and is made anew
//! where it is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::advisory::{Advisory, AdvisorySet};
use airlock_core::id::{Digest, Id};
use airlock_core::object::Object;
use airlock_core::trie::TreeId;
use airlock_store::{Change, Db, RefChange};

use crate::error::Result;
use crate::station::Station;
use crate::tree_edit;

/// The ref of the index.
pub(crate) const REF: &str = "index/advisories";

/// Ids of records by feed.
pub(super) type Members = BTreeMap<String, BTreeSet<String>>;

/// The index of one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedIndex {
    /// The set that it was made for.
    pub(super) set: Id<AdvisorySet>,
    /// By match key: the records that say that it is affected.
    pub(super) keys: TreeId<Members>,
    /// By alias: the records that go by it too.
    pub(super) names: TreeId<Members>,
    /// The CPE products whose slices were cut.
    #[serde(default)]
    pub(super) products: BTreeSet<String>,
}

impl FeedIndex {
    /// Its trees.
    pub(crate) fn trees(&self) -> [Digest; 2] {
        [self.keys.digest(), self.names.digest()]
    }
}

airlock_core::object!(FeedIndex, "airlock.feed-index.v1");

/// The index of a set, if there is one.
pub(super) async fn find(db: &Db, set: Id<AdvisorySet>) -> Result<Option<FeedIndex>> {
    let Some(id) = db.find_ref(REF).await? else { return Ok(None) };
    let index: FeedIndex = db.get(Id::new(id)).await?;
    Ok((index.set == set).then_some(index))
}

/// Keeps an index. It says itself which set it belongs to, so that no harm is done if another overtakes it.
pub(super) async fn keep(station: &Station, index: &FeedIndex) -> Result<()> {
    point(station, REF, index).await
}

/// Points a ref at something that is only derived, of which the ledger need not know.
pub(super) async fn point<T: Object>(station: &Station, name: &str, object: &T) -> Result<()> {
    let db = &station.store.db;
    let from = db.find_ref(name).await?;
    let to = Some(db.put(object).await?.digest());
    if from == to {
        return Ok(());
    }
    let refs = vec![RefChange { name: name.to_owned(), from, to }];
    let time = station.now().await?;
    let change =
        Change { time, actor: station.options.actor.clone(), refs, entries: Vec::new(), names: Vec::new() };
    match db.commit(&change).await {
        Err(airlock_store::StoreError::Moved(_)) => Ok(()),
        other => other.map(|_| ()).map_err(Into::into),
    }
}

/// What the index has to know of one record.
#[derive(Default)]
pub(super) struct Skim {
    /// The packages that it affects.
    pub(super) keys: BTreeSet<String>,
    /// Its other ids.
    aliases: BTreeSet<String>,
    /// The names under which it shares its scores.
    pub(super) shares: Vec<String>,
}

impl Skim {
    pub(super) fn of(advisory: Advisory) -> Self {
        if advisory.withdrawn {
            return Self { aliases: advisory.aliases, ..Self::default() };
        }
        Self {
            keys: advisory.affected.iter().map(|a| a.key.as_str().to_owned()).collect(),
            shares: advisory.shares().map(str::to_owned).collect(),
            aliases: advisory.aliases,
        }
    }
}

/// Changes of one of the two trees.
#[derive(Default)]
struct Edits(BTreeMap<String, Vec<(String, String, bool)>>);

impl Edits {
    fn note(&mut self, name: &str, feed: &str, id: &str, add: bool) {
        self.0.entry(name.to_owned()).or_default().push((feed.to_owned(), id.to_owned(), add));
    }

    async fn apply(self, db: &Db, root: Option<TreeId<Members>>) -> Result<TreeId<Members>> {
        let mut held = match root {
            Some(root) => tree_edit::find_many(db, root, self.0.keys().map(String::as_str)).await?,
            None => BTreeMap::new(),
        };
        let mut edits = BTreeMap::new();
        for (name, mut changes) in self.0 {
            let mut members = held.remove(&name).unwrap_or_default();
            // What goes goes first: a record that is replaced does both.
            changes.sort_by_key(|change| change.2);
            for (feed, id, add) in changes {
                let ids = members.entry(feed).or_default();
                if add {
                    ids.insert(id)
                } else {
                    ids.remove(&id)
                };
            }
            members.retain(|_, ids| !ids.is_empty());
            edits.insert(name, (!members.is_empty()).then_some(members));
        }
        Ok(tree_edit::edit(db, root, &edits).await?)
    }
}

/// The changes of an index, gathered record by record.
#[derive(Default)]
pub(super) struct IndexEdits {
    keys: Edits,
    names: Edits,
}

impl IndexEdits {
    /// Notes that a record came (`add`) or went.
    pub(super) fn note(&mut self, feed: &str, id: &str, skim: &Skim, add: bool) {
        for key in &skim.keys {
            self.keys.note(key, feed, id, add);
        }
        for name in &skim.aliases {
            self.names.note(name, feed, id, add);
        }
    }

    /// The trees that follow from those before.
    pub(super) async fn apply(
        self,
        db: &Db,
        before: Option<&FeedIndex>,
    ) -> Result<(TreeId<Members>, TreeId<Members>)> {
        let keys = self.keys.apply(db, before.map(|b| b.keys)).await?;
        let names = self.names.apply(db, before.map(|b| b.names)).await?;
        Ok((keys, names))
    }
}
