//! The domain of Airlock as values and pure functions.
//!
//! Nothing here calls a file, a network, a clock, the environment or a source of randomness; every
//! input is an argument and every output a value, so that the same inputs give the same bytes on any
//! machine. `ARCHITECTURE.md` says how the rooms fit together; each module says what it promises.

pub mod advisory;
pub mod assess;
pub mod block;
pub mod bundle;
pub mod canon;
pub mod channel;
pub mod closure;
pub mod compare;
pub mod cpe;
pub mod cut;
pub mod decision;
pub mod ecosystem;
pub mod evidence;
pub mod explain;
pub mod fact;
pub mod held;
pub mod hex;
pub mod id;
pub mod identity;
pub mod judge;
pub mod ledger;
pub mod licence;
pub mod litter;
pub mod lock;
pub mod matching;
pub mod object;
pub mod ordered;
pub mod pattern;
pub mod people;
pub mod place;
pub mod policy;
pub mod publish;
pub mod python;
pub mod reach;
pub mod record;
pub mod request;
pub mod roles;
pub mod root;
pub mod sealed;
pub mod severity;
pub mod shadow;
pub mod shard;
pub mod size;
pub mod snapshot;
pub mod spec;
pub mod strictness;
pub mod time;
pub mod trie;
pub mod unseen;
pub mod verdict;
pub mod version;
pub mod volume;

/// The number of the rules by which this program judges: matching, ordering and the evaluation of
/// policies. It is an input of every snapshot, so that a program that judges differently never
/// claims to have reproduced what an older one published. Raised with every change of a verdict.
pub const RULES_REVISION: u32 = 9;
