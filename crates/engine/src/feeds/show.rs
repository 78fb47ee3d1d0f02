//! What the feeds say of one vulnerability.

use std::collections::BTreeSet;

use airlock_core::advisory::AdvisoryRecord;
use airlock_core::id::Id;

use super::{based, heads};
use crate::boxed;
use crate::error::{Error, Result};
use crate::station::Station;
use crate::{tree_edit, trees};

/// The records of an advisory in all feeds, by feed: by its own id or any other name it goes by. Ids are found as
/// they are written, and CVE, GHSA and other common ones in any case.
#[boxed]
pub async fn show(station: &Station, id: &str) -> Result<Vec<(String, AdvisoryRecord)>> {
    let db = &station.store.db;
    let spellings = spellings(id);
    let base = based(station).await?;
    let mut places: BTreeSet<(String, String)> = BTreeSet::new();
    for members in
        tree_edit::find_many(db, base.index.names, spellings.iter().map(String::as_str)).await?.into_values()
    {
        for (feed, ids) in members {
            places.extend(ids.into_iter().map(|id| (feed.clone(), id)));
        }
    }
    let mut out = Vec::new();
    for (feed, head) in heads(station).await? {
        if !head.kind.is_advisories() {
            continue;
        }
        let others = places.iter().filter(|(of, _)| *of == feed).map(|(_, id)| id.as_str());
        let wanted: Vec<&str> = spellings.iter().map(String::as_str).chain(others).collect();
        let found = tree_edit::find_many(db, head.records(), wanted).await?;
        let ids: Vec<Id<AdvisoryRecord>> = found.into_values().collect();
        let records = trees::objects(db, &ids).await?;
        out.extend(records.into_values().map(|record| (feed.clone(), record)));
    }
    out.sort_by(|a, b| (&a.0, &a.1.advisory.id).cmp(&(&b.0, &b.1.advisory.id)));
    if out.is_empty() {
        return Err(Error::no(format!("no feed knows `{id}`"))
            .hint("`airlock advisories status` shows what was read and when"));
    }
    Ok(out)
}

/// How an id that people type may be written: most are all capitals, those of GitHub only in front.
fn spellings(id: &str) -> BTreeSet<String> {
    let upper = id.to_ascii_uppercase();
    let ghsa = upper.strip_prefix("GHSA-").map(|rest| format!("GHSA-{}", rest.to_ascii_lowercase()));
    [id.to_owned(), upper.clone()].into_iter().chain(ghsa).collect()
}
