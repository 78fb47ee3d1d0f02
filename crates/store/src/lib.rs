//! Durability: artifacts as blobs, immutable objects, refs, the ledger.
//!
//! The order of writing is what makes a crash lose only work in flight: blobs are staged, synced once a
//! batch and then given their names; objects are written in batches; the ref moves last, in one
//! transaction with the ledger entry that says so.
//!
//! SQL stands in `db` and nowhere else.

mod blobs;
mod db;
mod error;
mod intake;
mod lease;
mod pack;
mod scratch;

pub use blobs::{Batch, Begun, Blobs, Lying, Staged, Verified};
pub use db::{
    Change, Db, Download, DownloadLimits, DownloadRoom, NameChange, NewEntry, RefChange, ShardName, Stored,
    Wanted,
};
pub use error::StoreError;
pub use intake::{Incoming, Intake, Part};
pub use lease::{Lease, Leased};
pub use pack::Packed;
pub use scratch::Scratch;

/// Marks what speaks with the database, so that its future is behind a `dyn Future` and the driver is compiled into this
/// crate alone: a future with a type of its own is compiled anew wherever it is awaited, with all that it awaits. (The
/// attribute is named after another use of the same.)
pub(crate) use async_recursion::async_recursion as boxed;

use std::path::{Path, PathBuf};

/// A station's store: a database and a directory of blobs.
#[derive(Clone, Debug)]
pub struct Store {
    /// Objects, refs and ledger.
    pub db: Db,
    /// Artifacts.
    pub blobs: Blobs,
}

impl Store {
    /// Where the database of a station lies.
    pub fn database_path(station: &Path) -> PathBuf {
        station.join("airlock.db")
    }

    /// Opens the store of a station; `create` makes what is missing.
    pub async fn open(station: &Path, create: bool) -> Result<Self, StoreError> {
        let blobs = Blobs::open(&station.join("blobs"), create)?;
        let db = Db::open(&Self::database_path(station), create).await?;
        Ok(Self { db, blobs })
    }
}
