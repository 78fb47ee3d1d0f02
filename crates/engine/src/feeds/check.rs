//! Whether what another station says of its feeds can be used: all of it is there, is what it should be, and lies
//! where it will be looked for. Only what is new is looked at.

use std::collections::BTreeMap;

use airlock_core::advisory::{AdvisoryRecord, Epss, FeedHead, FeedKind, Kev, MatchKey};
use airlock_core::assess::{Statements, document_key};
use airlock_core::id::Id;
use airlock_core::identity::Identity;
use airlock_core::trie::TreeId;
use airlock_formats::limits::VEX_STATEMENTS_OF_ONE_MAX;
use airlock_store::{Db, StoreError};

use crate::error::{Error, Result};
use crate::tree_edit::{self, Difference, Value};

/// Records that are held at once.
const RECORDS_AT_ONCE: usize = 1000;

/// Checks every feed that is not as it was `before`.
pub(super) async fn check(
    db: &Db,
    before: &BTreeMap<String, FeedHead>,
    feeds: &BTreeMap<String, FeedHead>,
) -> Result<()> {
    for (name, head) in feeds {
        let held = before.get(name).filter(|held| held.kind == head.kind);
        if held.is_some_and(|held| held.content == head.content) {
            continue;
        }
        let result = match head.kind {
            FeedKind::Osv | FeedKind::Nvd | FeedKind::Cve | FeedKind::Openssl | FeedKind::Curl => {
                records(db, held, head).await
            }
            FeedKind::Kev => db.get(Id::<Kev>::new(head.content)).await.map(|_| ()).map_err(Flaw::from),
            FeedKind::Epss => db.get(Id::<Epss>::new(head.content)).await.map(|_| ()).map_err(Flaw::from),
            FeedKind::Identities => {
                let old = held.map(|held| TreeId::new(held.content));
                tree(db, old, TreeId::<Identity>::new(head.content)).await.map(|_| ())
            }
            FeedKind::Vex => {
                let old = held.map(|held| TreeId::new(held.content));
                statements(db, old, TreeId::new(head.content)).await
            }
        };
        result.map_err(|flaw| flaw.of(name))?;
    }
    Ok(())
}

/// What is wrong with a feed.
enum Flaw {
    Store(StoreError),
    Content(String),
}

impl From<StoreError> for Flaw {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Flaw {
    /// A disk that fails says nothing against the sender.
    fn of(self, feed: &str) -> Error {
        let why = match self {
            Self::Store(
                error @ (StoreError::MissingObject(_) | StoreError::Object(_) | StoreError::Corrupt(_)),
            ) => error.to_string(),
            Self::Store(error) => return Error::from(error).while_(&format!("feed {feed}")),
            Self::Content(why) => why,
        };
        Error::unsafe_(format!("feed {feed} cannot be used: {why}")).hint("ask the sender for a full export")
    }
}

/// A tree is to have the shape that its keys give it: look-ups and edits rely on it.
async fn tree<V: Value + PartialEq>(
    db: &Db,
    old: Option<TreeId<V>>,
    new: TreeId<V>,
) -> std::result::Result<Vec<Difference<V>>, Flaw> {
    let differences = tree_edit::diff(db, old, Some(new)).await?;
    let edits = differences.iter().map(|d| (d.key.clone(), d.new.clone())).collect();
    if tree_edit::edit(db, old, &edits).await? != new {
        return Err(Flaw::Content(format!("its tree {new} is malformed")));
    }
    Ok(differences)
}

async fn statements(
    db: &Db,
    old: Option<TreeId<Id<Statements>>>,
    new: TreeId<Id<Statements>>,
) -> std::result::Result<(), Flaw> {
    for difference in tree(db, old, new).await? {
        if let Some(id) = difference.new {
            let said = db.get(id).await?;
            check_place(&difference.key, &said)?;
            let said = said.list.len();
            if said > VEX_STATEMENTS_OF_ONE_MAX {
                let key = difference.key.escape_debug();
                return Err(Flaw::Content(format!("it has {said} statements about {key}")));
            }
        }
    }
    Ok(())
}

/// Under a match key stand statements; elsewhere documents, each under its own name.
fn check_place(key: &str, said: &Statements) -> std::result::Result<(), Flaw> {
    let is_right = match &said.document {
        Some(document) => said.list.is_empty() && document_key(document) == key,
        None => MatchKey::parse(key).is_some(),
    };
    let fault = || Flaw::Content(format!("{} names what it does not hold", key.escape_debug()));
    if is_right { Ok(()) } else { Err(fault()) }
}

async fn records(db: &Db, held: Option<&FeedHead>, head: &FeedHead) -> std::result::Result<(), Flaw> {
    let differences = tree(db, held.map(FeedHead::records), head.records()).await?;
    for chunk in differences.chunks(RECORDS_AT_ONCE) {
        let ids: Vec<_> = chunk.iter().filter_map(|d| d.new).map(|id| id.digest()).collect();
        let found = db.get_many(&ids).await?;
        for (id, difference) in chunk.iter().filter_map(|d| Some((d.new?.digest(), d))) {
            let bytes = found.get(&id).ok_or(StoreError::MissingObject(id))?;
            let advisory = AdvisoryRecord::decode_advisory(bytes).map_err(StoreError::from)?;
            if advisory.id != difference.key {
                let (key, id) = (&difference.key, &advisory.id);
                return Err(Flaw::Content(format!(
                    "it names {} by {}",
                    id.escape_debug(),
                    key.escape_debug()
                )));
            }
        }
    }
    Ok(())
}
