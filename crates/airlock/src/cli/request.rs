//! What `airlock request` understands.

use std::path::PathBuf;

use clap::Subcommand;

/// `airlock request`
#[derive(Debug, Subcommand)]
pub enum RequestCommand {
    /// Ask for a package in a channel that bundles feed, and say what is known of it here.
    New {
        /// The channel.
        channel: String,
        /// One package, or a package and versions: `numpy>=2,<3`.
        spec: String,
        /// What it is needed for.
        #[arg(long)]
        reason: String,
        /// Where it is discussed: the number of a ticket, or its address. It never leaves the station.
        #[arg(long)]
        ticket: Option<String>,
    },
    /// Write the requests that nobody was told of yet into a text file, which a person reads and releases line by line.
    Export {
        /// The file; a new one.
        file: PathBuf,
        /// Only requests for these channels.
        #[arg(long = "channel", value_name = "CHANNEL")]
        channels: Vec<String>,
        /// Also those that were written into a file before and are not answered.
        #[arg(long)]
        again: bool,
    },
    /// Take in the requests of another station, whose key is trusted or given.
    Import {
        /// The file.
        file: PathBuf,
        /// The station.pub of the station that asks; else the keys that this station trusts.
        #[arg(long, value_name = "FILE", requires = "peer")]
        key: Option<PathBuf>,
        /// What to call it: the name that bundles to it are exported under, `export --to PEER`.
        #[arg(long, value_name = "PEER", requires = "key")]
        peer: Option<String>,
    },
    /// Every request: how far it got, what is known of it here, what to do next.
    List,
}
