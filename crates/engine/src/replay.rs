//! `replay`: recomputing a snapshot from its inputs. Equal, or where it differs.
//!
//! Every object of the station is held against its name first, since a database can be changed under the name of one. What an
//! older program judged by other rules cannot be recomputed, and is said so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::Snapshot;
use airlock_core::verdict::Judgement;

use crate::boxed;
use crate::error::{Error, Result};
use crate::judge;
use crate::station::Station;
use crate::tree_edit;
use crate::{channel, fsck};

/// Differences that are named.
pub const DIFFERENCES_MAX: usize = 100;

/// What recomputing gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The snapshot.
    pub snapshot: Id<Snapshot>,
    /// Whether it came out as it is.
    pub equal: bool,
    /// In what it differs, the first of them.
    pub differences: Vec<String>,
    /// In how many respects it differs.
    pub count: usize,
}

/// Recomputes a snapshot of a channel. Nothing is published.
///
/// # Errors
///
/// If it cannot be recomputed: it was judged by other rules, or what it was judged by is gone.
#[boxed]
pub async fn replay(station: &Station, name: &str, id: Id<Snapshot>) -> Result<Replayed> {
    let db = &station.store.db;
    let channel = channel::find(station, name).await?;
    let snapshot: Snapshot = db.get(id).await?;
    let revision = snapshot.inputs.rules_revision;
    if revision != airlock_core::RULES_REVISION {
        let ours = airlock_core::RULES_REVISION;
        return Err(Error::no(format!(
            "it was judged by rules of revision {revision}, and this program has revision {ours}: it cannot be recomputed here"
        ))
        .hint("replay it with the program that published it"));
    }
    let mut differences = forged(station).await?;
    let mut count = differences.len();
    if differences.is_empty() {
        let again = judge::again(station, &channel, &snapshot).await?;
        let again = again.snapshot.ok_or_else(|| Error::fault("it was not recomputed"))?;
        (differences, count) = compare(station, &snapshot, &again).await?;
    }
    differences.truncate(DIFFERENCES_MAX);
    Ok(Replayed { snapshot: id, equal: count == 0, differences, count })
}

/// Objects that are not what their names say: any of them may be among what was judged, or published.
async fn forged(station: &Station) -> Result<Vec<String>> {
    let (_, bad) = fsck::objects(station, &mut fsck::Report::default()).await?;
    let all: BTreeMap<Digest, String> = bad.into_iter().collect();
    Ok(all.into_iter().map(|(id, what)| format!("object {} was changed: {what}", id.short())).collect())
}

async fn compare(station: &Station, was: &Snapshot, is: &Snapshot) -> Result<(Vec<String>, usize)> {
    let mut out = Vec::new();
    let parts = [
        ("counts", was.counts == is.counts),
        ("coverage", was.covered == is.covered),
        ("what the index says of subdirs", was.subdirs == is.subdirs),
        ("until when it is valid", lasts(was, is)),
    ];
    out.extend(parts.into_iter().filter(|(_, is_same)| !is_same).map(|(part, _)| format!("{part} differ")));
    let db = &station.store.db;
    let mut count = out.len();
    let judged = tree_edit::diff(db, Some(was.judgement), Some(is.judgement)).await?;
    let read = async |id: Option<Id<Judgement>>| -> Result<Option<Judgement>> {
        Ok(match id {
            Some(id) => Some(db.get(id).await?),
            None => None,
        })
    };
    for difference in &judged {
        let (old, new) = (read(difference.old).await?, read(difference.new).await?);
        if let (Some(old), Some(new)) = (&old, &new)
            && says_the_same(old, new)
        {
            continue;
        }
        count += 1;
        if out.len() < DIFFERENCES_MAX {
            out.extend(verdicts(&difference.key, old.as_ref(), new.as_ref()));
        }
    }
    let published = tree_edit::diff(db, Some(was.content), Some(is.content)).await?;
    count += published.len();
    let room = DIFFERENCES_MAX.saturating_sub(out.len());
    out.extend(published.iter().take(room).map(|d| format!("{}: what is published of it differs", d.key)));
    Ok((out, count))
}

/// Whether two judgements of a shard are one but for when they are looked at again: one that nothing reached is taken over as it
/// was, and may say an earlier moment than it would by now.
fn says_the_same(was: &Judgement, is: &Judgement) -> bool {
    let mut was = was.clone();
    for (file, judged) in &mut was.artifacts {
        let again = is.artifacts.get(file).and_then(|is| is.flips_at);
        if judged.flips_at.is_some_and(|at| again.is_none_or(|again| at <= again)) {
            judged.flips_at = again;
        }
    }
    was == *is
}

/// Whether a snapshot claims to be valid no longer than its inputs give. One that was made from the one before may end earlier,
/// and is judged again then.
fn lasts(was: &Snapshot, is: &Snapshot) -> bool {
    match (was.valid_until, is.valid_until) {
        (Some(was), Some(is)) => was <= is,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// In which verdicts two judgements of a shard differ, or that they do otherwise.
fn verdicts(key: &str, old: Option<&Judgement>, new: Option<&Judgement>) -> Vec<String> {
    let files = |judgement: Option<&Judgement>| -> BTreeSet<String> {
        judgement.into_iter().flat_map(|j| j.artifacts.keys().cloned()).collect()
    };
    let word = |judgement: Option<&Judgement>, file: &str| {
        judgement.and_then(|j| j.artifacts.get(file)).map_or("not judged", |judged| judged.verdict.word())
    };
    let all: BTreeSet<String> = files(old).union(&files(new)).cloned().collect();
    let told = all.iter().filter(|file| word(old, file) != word(new, file));
    let told: Vec<String> = told
        .map(|file| {
            format!(
                "{key}/{file}: the snapshot says {}, its inputs give {}",
                word(old, file),
                word(new, file)
            )
        })
        .collect();
    if told.is_empty() { vec![format!("{key}: its judgement differs in reasons or findings")] } else { told }
}
