//! A channel's definition.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ecosystem::{self, Ecosystem};

/// A named, served collection of one ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name, the path component of its URLs.
    pub name: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// What feeds it.
    pub feed: ChannelFeed,
    /// The policy that rules it.
    pub policy: String,
}

/// What feeds a channel. Bundles and other sources never mix in one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelFeed {
    /// An upstream that this station reads itself.
    Source {
        /// An HTTP(S) URL or a directory that holds an index.
        location: String,
        /// conda: the subdirs; `noarch` always belongs to them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        subdirs: Vec<String>,
        /// Only what matches one of these specs; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<String>,
        /// Nothing that matches one of these specs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<String>,
    },
    /// Bundles of one stream.
    Bundles {
        /// The stream's id.
        stream: String,
    },
    /// What the channel offers in whose name this one's lies. So nothing is here that is not there, and what this channel's
    /// own policy says comes to that.
    Parent {
        /// Only what matches one of these specs; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<String>,
        /// Nothing that matches one of these specs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<String>,
        /// Exactly these files, by the key of their shard; none means all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exactly: Option<BTreeMap<String, BTreeSet<String>>>,
    },
    /// Trees that people bring: each that is taken in replaces what the one before listed. Nothing can be asked between two of
    /// them, since the medium is gone.
    Tree {},
}

/// What stands before a stream where what a channel is read from is named in a line.
pub const BUNDLES: &str = "bundles:";
/// The same before a parent.
pub const CHANNEL: &str = "channel:";
/// What stands there for trees that people bring.
pub const TREE: &str = "tree";

crate::object!(Channel, "airlock.channel.v1");

impl Channel {
    /// The channel that this one is a child of, if it is fed by it.
    pub fn parent(&self) -> Option<&str> {
        match self.feed {
            ChannelFeed::Parent { .. } => parent_of(&self.name),
            ChannelFeed::Source { .. } | ChannelFeed::Bundles { .. } | ChannelFeed::Tree {} => None,
        }
    }
}

/// The name in which a name lies: `team` of `team/dev`.
pub fn parent_of(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(parent, _)| parent)
}

/// Longest name of a channel, in bytes: a lease is a file of that name, with what is leased before it.
pub const NAME_BYTES_MAX: usize = 200;
/// Most parts of a channel's name.
pub const NAME_PARTS_MAX: usize = 4;
/// What a child cannot be called, since it stands behind channels in URLs.
const TAKEN: [&str; 4] = ["simple", "packages", "shards", "src"];

/// Whether a text can name a channel: parts of a path, each of its parents first.
pub fn is_channel_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_child = |part: &&str| !TAKEN.contains(part) && !ecosystem::is_platform(part);
    name.len() <= NAME_BYTES_MAX
        && parts.len() <= NAME_PARTS_MAX
        && parts.iter().all(|part| is_plain_name(part))
        && parts.iter().skip(1).all(is_child)
}

/// Whether a text can be a part of a path (CEP 26): and not `t`, which stands for a token.
pub fn is_plain_name(name: &str) -> bool {
    let first =
        name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    first
        && name != "t"
        && name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_named_below_its_parent_and_like_nothing_else_in_a_url() {
        for name in ["main", "team/dev", "a/b/c/d", "simple", "main/team-", "main/data-science"] {
            assert!(is_channel_name(name), "{name}");
        }
        for name in [
            "",
            "t",
            "a/",
            "/a",
            "a//b",
            "a/t",
            "a/simple",
            "a/packages",
            "a/linux-64",
            "a/noarch",
            "a/b/c/d/e",
            "A",
            "a/.b",
        ] {
            assert!(!is_channel_name(name), "{name}");
        }
        assert_eq!((parent_of("a/b/c"), parent_of("a")), (Some("a/b"), None));
    }
}
