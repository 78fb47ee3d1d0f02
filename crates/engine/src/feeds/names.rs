//! Which conda packages are looked up under a match key: what a changed slice reaches is found by it. It is derived from
//! the identities, is no part of what anything is judged by, and is made anew where it is missing or of others.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::advisory::MatchKey;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_core::identity::{self, Identity};
use airlock_core::trie::TreeId;

use super::index::point;
use crate::boxed;
use crate::error::{Error, Result};
use crate::station::Station;
use crate::{tree_edit, trees};

/// The ref of the index.
pub(crate) const REF: &str = "index/identities";

/// The names of one map of identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameIndex {
    /// The identities that it was made of.
    identities: Digest,
    /// By match key: the names that are looked up under it.
    names: TreeId<BTreeSet<String>>,
}

impl NameIndex {
    /// Its tree.
    pub(crate) const fn tree(&self) -> Digest {
        self.names.digest()
    }
}

airlock_core::object!(NameIndex, "airlock.name-index.v1");

/// The names of packages of an ecosystem that are looked up under one of these keys, but for what people ruled.
pub(crate) async fn reached(
    station: &Station,
    ecosystem: Ecosystem,
    identities: TreeId<Identity>,
    keys: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    match ecosystem {
        Ecosystem::Pypi => {
            let name = |key: &String| key.strip_prefix("osv:PyPI/").map(str::to_owned);
            Ok(keys.iter().filter_map(name).collect())
        }
        Ecosystem::Conda => {
            let mut names = named(station, identities, keys).await?;
            let by_rule = |key: &String| identity::named_by_rule(&MatchKey::parse(key)?);
            names.extend(keys.iter().filter_map(by_rule));
            Ok(names)
        }
    }
}

/// The names that these identities have looked up under one of these keys.
async fn named(
    station: &Station,
    identities: TreeId<Identity>,
    keys: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let db = &station.store.db;
    let names = index(station, identities).await?;
    let look = async |names| tree_edit::find_many(db, names, keys.iter().map(String::as_str)).await;
    let found = match look(names).await.map_err(Error::from) {
        Err(e) if e.is_content => look(make(station, identities).await?).await?,
        found => found?,
    };
    Ok(found.into_values().flatten().collect())
}

/// Makes the index of these identities, unless it is there: whoever reads all of them anyway spares it the next change.
pub(crate) async fn index(
    station: &Station,
    identities: TreeId<Identity>,
) -> Result<TreeId<BTreeSet<String>>> {
    let db = &station.store.db;
    let held = match db.find_ref(REF).await? {
        Some(id) => match db.get::<NameIndex>(airlock_core::id::Id::new(id)).await.map_err(Error::from) {
            Ok(held) => Some(held),
            // It is only derived.
            Err(e) if e.is_content => None,
            Err(e) => return Err(e),
        },
        None => None,
    };
    match held.filter(|held| held.identities == identities.digest()) {
        Some(held) => Ok(held.names),
        None => make(station, identities).await,
    }
}

#[boxed]
async fn make(station: &Station, identities: TreeId<Identity>) -> Result<TreeId<BTreeSet<String>>> {
    let db = &station.store.db;
    let mut by_key: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, identity) in trees::load::<Identity>(db, identities).await? {
        for mapping in identity.mappings {
            by_key.entry(mapping.key.as_str().to_owned()).or_default().insert(name.clone());
        }
    }
    let names = trees::store(db, &by_key).await?;
    // That of identities which are only looked at is not kept in the place of what is asked again and again.
    if super::current(station).await?.1.identities == identities {
        point(station, REF, &NameIndex { identities: identities.digest(), names }).await?;
    }
    Ok(names)
}
