//! Codecs: the formats that the world speaks, read with limits and written byte for byte the same.
//!
//! Like the core, this crate touches no file, network or clock; it works on bytes and on `Read + Seek`.

pub mod age;
pub mod archive;
pub mod conda;
pub mod environment;
pub mod feeds;
pub mod limits;
pub mod locks;
pub mod make;

pub mod msgpack;
pub mod oneway;
pub mod pypi;
mod read;
pub mod sbom;
mod stream;
pub mod syslog;

pub use read::{BadEntry, IndexError, IndexRead};
