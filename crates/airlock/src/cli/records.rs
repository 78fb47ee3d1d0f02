//! `airlock ledger` and `airlock snapshot`

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `airlock ledger`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Show the entries, oldest first.
    Log {
        /// From this number on.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        most: u32,
    },
    /// Check the whole chain, and that decisions, policies and published snapshots are those that it tells of.
    Verify {
        /// Hold it also against a bundle that this station wrote, from wherever it was carried.
        #[arg(long = "against", value_name = "DIR")]
        against: Vec<PathBuf>,
    },
    /// Sign where the ledger stands by your word, whatever was signed before: after it was found out what happened, or the
    /// database came from a backup.
    Anchor {
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Send to every `[[ledger.feed]]` of airlock.toml what it lacks, as `serve` does all the time.
    Feed {
        /// Only these feeds; all by default.
        feeds: Vec<String>,
        /// Send once and end; without it, go on until interrupted.
        #[arg(long)]
        once: bool,
    },
    /// Write all entries, for other systems.
    Export {
        /// The form.
        #[arg(long, value_enum, default_value_t = LedgerForm::Jsonl)]
        format: LedgerForm,
        /// From this number on.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
}

/// A form of the ledger.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LedgerForm {
    /// JSON lines.
    Jsonl,
    /// CSV (RFC 4180).
    Csv,
}

/// `airlock snapshot`
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// List a channel's snapshots, newest first.
    List {
        /// The channel.
        channel: String,
    },
    /// Show one.
    Show {
        /// The channel, or channel@snapshot or channel@date.
        channel: String,
    },
    /// What one offers and another does not.
    Diff {
        /// The earlier one: channel@snapshot or channel@date.
        from: String,
        /// The later one; the newest by default.
        to: Option<String>,
    },
    /// Go back to what the source held then, judged by what is known now: what was denied since stays denied.
    Rollback {
        /// channel@snapshot or channel@date.
        snapshot: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
    },
}
