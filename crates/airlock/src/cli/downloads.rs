//! `airlock downloads`, `airlock blast` and `airlock locks`

use std::net::IpAddr;
use std::path::PathBuf;

use airlock_core::time::Time;
use clap::{Args, Subcommand};

use super::parse_time;

/// `airlock downloads`
#[derive(Debug, Args)]
pub struct DownloadsArgs {
    /// The channel.
    pub channel: String,
    /// A name, or a name and versions: `idna`, `urllib3>=1.26,<2`; everything by default.
    pub spec: Option<String>,
    /// Only from the day of this moment on.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Time>,
    /// Only what this address was sent, also where clients are noted by a pseudonym.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
}

/// `airlock blast`
#[derive(Debug, Args)]
pub struct BlastArgs {
    /// The channel.
    pub channel: String,
    /// A name, a name and versions, or the id of a vulnerability; whatever is denied now by default.
    #[arg(value_name = "SPEC|ADVISORY")]
    pub what: Option<String>,
}

/// `airlock locks`
#[derive(Debug, Subcommand)]
pub enum LocksCommand {
    /// Put a lock file on record: conda-lock.yml, pixi.lock, uv.lock, pylock.toml, pinned requirements or an explicit list.
    Add {
        /// The file. Names, versions, file names and hashes are kept of it, and nothing else.
        file: PathBuf,
        /// What to call it; what has that name is replaced.
        #[arg(long)]
        name: String,
    },
    /// List the lock files on record.
    List,
    /// Take one off the record.
    Remove {
        /// Its name.
        name: String,
    },
}
