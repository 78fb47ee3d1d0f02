//! `airlock export`, `airlock verify`, `airlock import`

use std::path::PathBuf;

use clap::Args;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::size;
use airlock_formats::age::Recipient;

/// `airlock export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A folder of its own; or several, each on a medium of its own, over which the bundle is split.
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// Channels; all that were published by default.
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<String>,
    /// The peer that it is meant for.
    #[arg(long, value_name = "PEER")]
    pub to: Option<String>,
    /// Also carry what is held here, with records and bytes: it arrives as held, for people on the other side to judge. What
    /// is not here yet is fetched first.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub include: Vec<Include>,
    /// Only what the station that wrote this receipt does not have.
    #[arg(long, value_name = "FILE", conflicts_with = "full")]
    pub receipt: Option<PathBuf>,
    /// Everything; the default without a receipt.
    #[arg(long)]
    pub full: bool,
    /// Only what the last bundle for this peer does not bring, or everything where there was none. If that one does not arrive, the
    /// other station says that it waits for it, and a receipt of what it has brings the rest.
    #[arg(long, conflicts_with_all = ["receipt", "full"])]
    pub since_last: bool,
    /// What a medium holds, such as 32GB: with one folder as many volumes are made in it as it takes, the last size counting
    /// for all further ones; with several, for all of them or given once for each.
    #[arg(long = "capacity", value_name = "SIZE", value_parser = capacity)]
    pub capacities: Vec<u64>,
    /// The most that one file may have, such as 4GB: larger ones travel cut in parts. What FAT32 takes is known where one is
    /// mounted, and what a medium holds from --capacity.
    #[arg(long, value_name = "SIZE", value_parser = capacity)]
    pub max_file: Option<u64>,
    /// Only this volume, where media are put in one after another: with --capacity a bundle is begun, which takes its number;
    /// without it the last one goes on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub volume: Option<u32>,
    /// So many further volumes, or of the folders, hold parity: any so many that are lost or damaged can be rebuilt.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub parity: u32,
    /// Seal it: nobody but this recipient of age (`age1...`, which `airlock key identity` prints there) learns what is in it. Whom
    /// `[seal]` of airlock.toml names for the peer is a recipient too.
    #[arg(long, value_name = "RECIPIENT")]
    pub seal: Vec<Recipient>,
    /// Only say what it would take, and how long: the first medium is tried with 64 MiB.
    #[arg(long)]
    pub plan: bool,
}

/// What a bundle may carry beside what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Include {
    /// What is held.
    Held,
}

/// `airlock verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bundle's folder, that of a volume or of all volumes, the address where it is published, or a file of evidence.
    pub dir: PathBuf,
    /// The sender's station.pub or root file; else whatever this station trusts.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Only whose it is, for whom, which number and what it needs; nothing is hashed.
    #[arg(long)]
    pub header: bool,
}

/// `airlock import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The bundles' folders, or addresses where they are published. Volumes come in any order, in one call or in several. With
    /// --channel a tree that is no bundle, or archives of one channel.
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// Write a receipt, which makes the sender's next bundle a delta, or brings what is missing of this one.
    #[arg(long, value_name = "FILE", conflicts_with = "channel")]
    pub receipt_out: Option<PathBuf>,
    #[command(flatten)]
    pub how: ImportHow,
    #[command(flatten)]
    pub tree: TreeArgs,
}

/// How `airlock import` takes in a bundle.
#[derive(Debug, Default, Args)]
pub struct ImportHow {
    /// Only verify, and say what would change: nothing is taken in. What was read is kept, so that the import is quick.
    #[arg(long, conflicts_with_all = ["receipt_out", "channel"])]
    pub plan: bool,
    /// The bundle may be older than the last that was taken in: its channels go back to what it brings, as far as nothing comes
    /// back that something speaks against by now.
    #[arg(long, requires = "reason", conflicts_with = "channel")]
    pub allow_rollback: bool,
    /// Why that is right.
    #[arg(long, value_name = "TEXT", requires = "allow_rollback")]
    pub reason: Option<String>,
}

/// What `airlock import` asks of trees that are no bundles.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Take in what people carry already, as this channel: a static conda channel, a folder of wheels (`pip download`), a
    /// bandersnatch mirror, a pixi-pack, archives of a conda channel. Nobody signed it: it is inspected, pinned and judged. A
    /// newer tree takes the place of what the last one listed.
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// The policy of a channel that is made by this; `default` by default.
    #[arg(long, value_name = "POLICY", requires = "channel")]
    pub policy: Option<String>,
    /// Which packages of a tree that has both: conda by default.
    #[arg(long, requires = "channel", value_parser = crate::cli::parse_ecosystem)]
    pub ecosystem: Option<Ecosystem>,
    /// It is right that the tree lists less than half of what the last one listed.
    #[arg(long, requires = "channel")]
    pub accept_shrink: bool,
}

fn capacity(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text).filter(|bytes| (1.0..=1e18).contains(bytes)).ok_or(size::EXPECTED)?;
    // Within the bound a float loses nothing that matters.
    Ok(bytes as u64)
}
