//! The use-cases, one file per verb.
pub mod age;
pub mod blast;
pub mod bundle;
pub mod channel;
pub mod child;
pub mod clock;
pub mod confine;
pub mod decide;
pub mod downloads;
pub mod error;
pub mod evidence;
pub mod explain;
mod facts;
pub mod feeds;
pub mod fetch;
mod files;
pub mod foreign;
pub mod fsck;
pub mod gc;
pub mod graph;
pub mod history;
pub mod index;
pub mod judge;
pub mod keys;
pub mod ledger;
pub mod locks;
pub mod mirror;
pub mod network;
pub mod oneway;
pub mod osv;
pub mod people;
pub mod personal;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod proposals;
pub mod publish;
pub mod render;
pub mod replay;
pub mod report;
pub mod request;
pub mod retention;
pub mod review;
pub mod roots;
pub mod scrub;
pub mod shadow;
pub mod station;
pub mod status;
pub mod sync;
pub mod tree_edit;
pub mod trees;
pub mod trust;
pub mod upstream;
pub mod vex;
pub mod view;
mod walk;
mod work;

/// Marks a verb by which others enter the engine, or what is large and awaited in many places, so that its future is behind a
/// `dyn Future`. Wherever a future is of a type of its own, its body is compiled anew with all that it awaits, in each unit of
/// each crate that does: the command and the server would be made of much of the engine once more. (The attribute is named
/// after another use of the same.)
pub(crate) use async_recursion::async_recursion as boxed;
