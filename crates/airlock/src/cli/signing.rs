//! `airlock sign`, `airlock key` and `airlock trust`

use std::path::PathBuf;

use airlock_core::time::Time;
use clap::{Args, Subcommand, ValueEnum};

use super::parse_time;

/// A name and a file, `ada=ada.pub`.
fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("give a person and the file of their public key: `ada=ada.pub`".to_owned()),
    }
}

/// With which key a person signs.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Your key file, which a passphrase opens; with --command the public key that the command signs with.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The file whose first line is the passphrase; else it is asked for on the terminal.
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub passphrase_file: Option<PathBuf>,
    /// Sign with this command of the shell, for tokens and HSMs: it gets what is to be signed in the file that
    /// $AIRLOCK_MESSAGE names and on stdin, and writes the 64 bytes of the Ed25519 signature to stdout.
    #[arg(long, value_name = "CMD")]
    pub command: Option<String>,
}

/// `airlock sign`
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The bundle's folder, or those of its volumes, or the file of advisories.
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    #[command(flatten)]
    pub signer: SignerArgs,
    /// Sign without looking at every file: somebody did who is trusted with it.
    #[arg(long)]
    pub header: bool,
}

/// `airlock key`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key for a person: FILE, which a passphrase encrypts, and FILE.pub to hand out. Needs no station.
    New {
        /// The file.
        file: PathBuf,
        /// The file whose first line is the passphrase; else it is asked for on the terminal.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// What others seal bundles to (`export --seal`), so that this station alone can open them. One is made where there is none yet;
    /// its secret half stays in the station's folder.
    Identity {
        /// Make a further one. Those of before open what is sealed to them all the same.
        #[arg(long)]
        add: bool,
    },
    /// The fingerprint of a public key.
    Show {
        /// The public key.
        file: PathBuf,
    },
    /// Roots: which keys release bundles, and who may change that. Needs no station.
    #[command(subcommand)]
    Root(RootCommand),
}

/// `airlock key root`
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Make a root; its root keys have to sign it then.
    New {
        /// The file.
        file: PathBuf,
        /// What it is called, in all its versions.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Make its next version; enough root keys of the version before have to sign it then, and of its own.
    Change {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Sign the newest version with a root key.
    Sign {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        signer: SignerArgs,
    },
    /// Show the newest version: its keys, its fingerprint, and who is to sign it yet.
    Show {
        /// The file.
        file: PathBuf,
    },
}

/// What a version of a root has otherwise than the one before it.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// A root key that comes.
    #[arg(long, value_name = "PERSON=FILE", value_parser = parse_named)]
    pub add_root: Vec<(String, PathBuf)>,
    /// The person whose root key goes.
    #[arg(long, value_name = "PERSON")]
    pub remove_root: Vec<String>,
    /// How many root keys must sign a version.
    #[arg(long, value_name = "N")]
    pub root_threshold: Option<u32>,
    /// A release key that comes.
    #[arg(long, value_name = "PERSON=FILE", value_parser = parse_named)]
    pub add_release: Vec<(String, PathBuf)>,
    /// The person whose release key goes: from then on it counts for nothing.
    #[arg(long, value_name = "PERSON")]
    pub remove_release: Vec<String>,
    /// How many release keys must sign a bundle.
    #[arg(long, value_name = "N")]
    pub release_threshold: Option<u32>,
    /// After this moment it releases nothing, until a newer version does.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub valid_until: Option<Time>,
}

/// What of a sender needs no person here.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AcceptArg {
    /// Advisories and maps that are milder than those before.
    Loosening,
    /// What its people decided: it counts on no other station, and is refused.
    Decisions,
    /// What its people waived: it counts on no other station, and is refused.
    Waivers,
}

/// `airlock trust`
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Trust a station's key or a root, by the fingerprint that its owner told you another way than with the file.
    Add {
        /// What to call the sender here.
        name: String,
        /// Its station.pub, or its root file.
        keyfile: PathBuf,
        /// The fingerprint, as its owner told it; of a root that of its newest version.
        #[arg(long)]
        fingerprint: String,
        /// Only this stream.
        #[arg(long)]
        stream: Option<String>,
        /// Only these channels.
        #[arg(long = "channel", value_name = "CHANNEL")]
        channels: Vec<String>,
        /// What the sender calls this station (`export --to`): bundles that are meant for another are refused.
        #[arg(long, value_name = "PEER")]
        recipient: Option<String>,
        /// What of theirs needs no person here.
        #[arg(long, value_enum, value_delimiter = ',')]
        accept: Vec<AcceptArg>,
        /// Believe the packets of its one-way link, and nothing else: a root says whose bundles count.
        #[arg(long, conflicts_with_all = ["stream", "channels", "recipient", "accept"])]
        link_only: bool,
    },
    /// List the keys and roots.
    List,
    /// Take in a newer version of a root that is trusted, without a bundle: its signatures speak for it.
    Update {
        /// The root file.
        file: PathBuf,
    },
    /// Trust a key or a root no longer.
    Revoke {
        /// What the sender is called here.
        name: String,
    },
}
