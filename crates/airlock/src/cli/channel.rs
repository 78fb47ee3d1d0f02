//! `airlock channel set`

use clap::Args;

/// `airlock channel set`
#[derive(Debug, Args)]
pub struct ChannelSetArgs {
    /// The channel.
    pub name: String,
    /// The policy that rules it from now on.
    #[arg(long, required_unless_present_any = ["shadow", "no_shadow"])]
    pub policy: Option<String>,
    /// A policy that only reports what it would do, beside the one in force.
    #[arg(long, value_name = "POLICY")]
    pub shadow: Option<String>,
    /// No policy beside the one in force any more.
    #[arg(long, conflicts_with = "shadow")]
    pub no_shadow: bool,
    /// Only show what the other policy would change.
    #[arg(long, requires = "policy")]
    pub dry_run: bool,
}
