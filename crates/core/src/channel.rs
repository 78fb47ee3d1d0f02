//! A channel's definition.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::object::Object;

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
}

/// What stands before a stream where what a channel is read from is named in a line.
pub const BUNDLES: &str = "bundles:";

impl Object for Channel {
    const KIND: &'static str = "airlock.channel.v1";
}

/// Whether a text can name a channel: a path part of CEP 26, and not `t`, which stands for a token.
pub fn is_channel_name(name: &str) -> bool {
    let first =
        name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    first
        && name != "t"
        && name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
}
