//! What can go wrong in a store.

use std::path::PathBuf;

use airlock_core::id::Digest;
use airlock_core::object::ObjectError;

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database was written by a newer program.
    #[error(
        "the database has layout {found}, this program knows {known}: use the newer airlock that wrote it"
    )]
    Newer {
        /// The layout it has.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An object is not there.
    #[error("object {0} is not in the store")]
    MissingObject(Digest),
    /// An object cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A ref was moved by somebody else in the meantime.
    #[error("`{0}` was changed by another command in the meantime; run this one again")]
    Moved(String),
    /// What was written does not hash to what was announced.
    #[error("the bytes hash to {found}, expected {wanted}")]
    Hash {
        /// The announced hash.
        wanted: Digest,
        /// The found one.
        found: Digest,
    },
    /// Something in the database is not what this program wrote.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
