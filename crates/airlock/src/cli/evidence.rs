//! `airlock evidence`

use std::path::PathBuf;

use clap::Args;

/// `airlock evidence`
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// The channel, or channel@snapshot or channel@date.
    pub channel: String,
    /// The file to write; `airlock verify` checks it with nothing but the station's public key.
    pub file: PathBuf,
}
