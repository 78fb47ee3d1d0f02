//! `airlock downloads`

use std::net::IpAddr;

use airlock_core::time::Time;
use clap::Args;

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
