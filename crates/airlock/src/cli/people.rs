//! `airlock user`, `airlock token` and `airlock proposals`

use std::path::PathBuf;

use airlock_core::roles::{Grant, Role};
use airlock_core::time::Time;
use clap::{Args, Subcommand};

use super::parse_time;

/// Who acts.
#[derive(Debug, Clone, Default, Args)]
pub struct WhoArgs {
    /// Act as this user of the station, whose token is in $AIRLOCK_TOKEN or in --token-file.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub acting: Option<String>,
    /// The file with the token.
    #[arg(long, global = true, value_name = "FILE", requires = "acting")]
    pub token_file: Option<PathBuf>,
    /// Do alone, for this reason, what needs two persons; it is shown until another person looked at it.
    #[arg(long, global = true, value_name = "REASON", requires = "acting")]
    pub break_glass: Option<String>,
}

/// A role, and where.
#[derive(Debug, Clone, Args)]
pub struct RoleArgs {
    /// viewer, requester, reviewer, security-officer, administrator or auditor.
    #[arg(value_parser = parse_role)]
    pub role: Role,
    /// Only in this channel and its children.
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<String>,
}

impl From<RoleArgs> for Grant {
    fn from(args: RoleArgs) -> Self {
        Self { role: args.role, channels: args.channels }
    }
}

/// `airlock user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, with a role if one is given.
    Add {
        /// The user.
        name: String,
        /// A role that they have everywhere, or in the channels that are named.
        #[arg(long, value_parser = parse_role)]
        role: Option<Role>,
        /// Only in this channel and its children.
        #[arg(long = "channel", value_name = "CHANNEL", requires = "role")]
        channels: Vec<String>,
    },
    /// List the users with their roles.
    List,
    /// Remove a user, with all tokens.
    Remove {
        /// The user.
        name: String,
    },
    /// Give a role.
    Grant {
        /// The user.
        name: String,
        #[command(flatten)]
        role: RoleArgs,
    },
    /// Take a role, as it was given.
    Revoke {
        /// The user.
        name: String,
        #[command(flatten)]
        role: RoleArgs,
    },
}

/// `airlock token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Give a user a token, which is shown this once.
    Add {
        /// The user.
        user: String,
        /// Until when it counts.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Time>,
    },
    /// List the tokens of all users, or of one; only their names.
    List {
        /// The user.
        user: Option<String>,
    },
    /// Take a token back.
    Revoke {
        /// The user.
        user: String,
        /// The token's name, such as `t1`.
        token: String,
    },
}

/// `airlock proposals`
#[derive(Debug, Subcommand)]
pub enum ProposalsCommand {
    /// What waits for a second person, and what somebody did alone.
    List,
    /// Everything of one.
    Show {
        /// The proposal.
        id: String,
    },
    /// Do what somebody else proposed.
    Confirm {
        /// The proposal.
        id: String,
    },
    /// Let it go.
    Withdraw {
        /// The proposal.
        id: String,
    },
    /// Say that you looked at what somebody else did alone.
    Review {
        /// The proposal.
        id: String,
        /// What came of it.
        #[arg(long)]
        reason: String,
    },
}

fn parse_role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| format!("use one of {}", names()))
}
