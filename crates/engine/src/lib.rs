//! The use-cases, one file per verb.
pub mod channel;
pub mod decide;
pub mod error;
pub mod explain;
pub mod feeds;
pub mod fetch;
pub mod judge;
pub mod keys;
pub mod mirror;
pub mod policy;
pub mod publish;
pub mod station;
pub mod status;
pub mod sync;
pub mod trees;
pub mod upstream;
pub mod view;
