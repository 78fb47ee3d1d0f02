//! `evidence`: everything that an auditor needs of a snapshot in one file, and checking it with nothing but the public key.
//!
//! | file | job |
//! |---|---|
//! | `write`, `bills`, `readme` | the parts, one after the other, as streams |
//! | `archive` | the zip archive that holds them, and its signed manifest |
//! | `proof` | which entries of the ledger belong to a snapshot, and holding them against it |
//! | `summary` | what a person wants to see of it |
//! | `verify`, `objects` | reading it back: signature, parts, objects, bills of materials |

mod archive;
mod bills;
mod objects;
mod proof;
mod readme;
pub mod summary;
mod verify;
mod write;

pub use summary::Summary;
pub use verify::{Checked, Header, check, is_evidence, open};
pub use write::{Written, write};
