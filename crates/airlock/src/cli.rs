//! The command line.

use std::path::PathBuf;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::time::{Span, Time};
use airlock_engine::station::Side;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod bundles;
mod channel;
mod downloads;
mod evidence;
mod oneway;
mod people;
mod plan;
mod records;
mod request;
mod review;
mod signing;

pub use channel::ChannelSetArgs;
pub use downloads::{BlastArgs, DownloadsArgs, LocksCommand};
pub use evidence::EvidenceArgs;
pub use oneway::{ReceiveArgs, SendArgs};
pub use people::{ProposalsCommand, TokenCommand, UserCommand, WhoArgs};
pub use plan::PlanArgs;
pub use records::{LedgerCommand, LedgerForm, SnapshotCommand};
pub use request::RequestCommand;
pub use review::{BaselineArgs, ReviewCommand, TermsArgs};
pub use signing::{AcceptArg, ChangeArgs, KeyCommand, RootCommand, SignArgs, SignerArgs, TrustCommand};

/// Open-source packages for networks that may not touch the internet: mirrored, judged by their
/// vulnerabilities, carried across the gap, served to unmodified clients.
#[derive(Debug, Parser)]
#[command(name = "airlock", version, max_term_width = 100)]
pub struct Cli {
    /// The station's directory; else $AIRLOCK_STATION, else the current directory if it holds airlock.toml.
    #[arg(long, global = true, env = "AIRLOCK_STATION", value_name = "DIR")]
    pub station: Option<PathBuf>,
    #[command(flatten)]
    pub habits: Habits,
    #[command(flatten)]
    pub who: WhoArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Clone, Copy, Debug, Args)]
pub struct Habits {
    /// One JSON document on stdout, with stable keys.
    #[arg(long, global = true)]
    pub json: bool,
    /// Only errors and data.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Every changed artifact and every record left out.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Take this as the time instead of the clock, to reproduce what was or try what would be.
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time)]
    pub now: Option<Time>,
    /// Threads for judging and rendering; the result does not depend on it.
    #[arg(long, global = true, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
}

fn parse_time(text: &str) -> Result<Time, String> {
    text.parse().map_err(|e: airlock_core::time::NotATime| e.to_string())
}

/// A length of time as policies write it, and in short: `12 hours`, `12h`, `0s`.
fn parse_span(text: &str) -> Result<Span, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let unit = match unit {
        "d" => "days",
        "h" => "hours",
        "m" | "min" => "minutes",
        "s" => "seconds",
        _ => return text.parse().map_err(|e: airlock_core::time::NotASpan| e.to_string()),
    };
    format!("{count} {unit}").parse().map_err(|e: airlock_core::time::NotASpan| e.to_string())
}

pub fn parse_ecosystem(text: &str) -> Result<Ecosystem, String> {
    text.parse()
}

/// The side of the gap.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SideArg {
    /// May fetch from upstreams.
    Connected,
    /// Opens no outgoing connection but to hosts that its configuration lists.
    Isolated,
}

impl From<SideArg> for Side {
    fn from(side: SideArg) -> Self {
        match side {
            SideArg::Connected => Self::Connected,
            SideArg::Isolated => Self::Isolated,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole line on a built-in sample: mirror, judge, export, import, serve.
    Demo {
        /// Port to serve on.
        #[arg(long, default_value_t = 8480)]
        port: u16,
        /// Where to make the two stations; a new temporary directory by default.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Check an installation and stop instead of serving.
        #[arg(long)]
        exit: bool,
    },
    /// Make a station: configuration, keys, database, store, the default policy.
    Init {
        /// Its directory; the current one by default.
        dir: Option<PathBuf>,
        /// Its name, for people; the directory's by default.
        #[arg(long)]
        name: Option<String>,
        /// The side of the gap that it stands on.
        #[arg(long, value_enum, default_value = "connected")]
        side: SideArg,
    },
    /// Write the indexes of a conda channel that is a directory of packages; needs no station.
    Index {
        /// The directory with `noarch` and the other subdirs.
        dir: PathBuf,
        /// Where to write the indexes; into the same directory by default.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// What this station is and holds.
    Status,
    /// Channels: named, served collections of one ecosystem.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Feeds of advisories and identities.
    #[command(subcommand)]
    Advisories(AdvisoriesCommand),
    /// Read the sources, judge, fetch what is admitted, publish.
    Sync {
        /// The channels; all that have a source by default.
        channels: Vec<String>,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// It is right that a source lists less than half of what it listed before.
        #[arg(long)]
        accept_shrink: bool,
    },
    /// Judge again with what is known now and publish, without the network.
    Judge {
        /// The channels; all by default.
        channels: Vec<String>,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Judge everything, also what nothing reached since the last time.
        #[arg(long)]
        anew: bool,
        /// As of this moment; never publishes.
        #[arg(long, value_parser = parse_time)]
        as_of: Option<Time>,
        /// By the policy in this file; never publishes.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
    /// Why each matching artifact is admitted, held or denied, and the nearest version that passes.
    Explain {
        /// The channel.
        channel: String,
        /// A name, or a name and versions: `idna`, `urllib3>=1.26,<2`.
        spec: String,
    },
    /// Solve what people need against what a channel offers: what passes, what does not and why, the nearest that does.
    Plan(PlanArgs),
    /// What is known about what is published.
    Findings {
        /// The channel.
        channel: String,
        /// Only findings of this status.
        #[arg(long)]
        status: Option<String>,
        /// Only findings with at least this score.
        #[arg(long)]
        min_score: Option<f64>,
    },
    /// What was ruled of the findings of a channel, as a VEX document on stdout, for scanners elsewhere.
    Vex {
        /// The channel.
        channel: String,
        /// The form.
        #[arg(long, value_enum, default_value_t = VexForm::Openvex)]
        format: VexForm,
    },
    /// Policies: what is denied, held or warned of.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Deny now, on every server, whatever else runs.
    Block {
        /// The channel.
        channel: String,
        /// What to block: a name, or a name and versions.
        spec: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Decisions: waive one rule for one scope until a date, or take a decision back.
    #[command(subcommand)]
    Review(ReviewCommand),
    /// Users of this station, and what each may do.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens, by which users are known.
    #[command(subcommand)]
    Token(TokenCommand),
    /// What waits for a second person.
    #[command(subcommand)]
    Proposals(ProposalsCommand),
    /// Ask, from behind the gap, for what is missing; take in what others ask for.
    #[command(subcommand)]
    Request(RequestCommand),
    /// Write a signed bundle.
    Export(bundles::ExportArgs),
    /// Release a bundle, where release keys are named: add your signature. Needs no station.
    Sign(SignArgs),
    /// Keys of persons, and roots.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check a bundle, or a file of evidence, with nothing but the public key.
    Verify(bundles::VerifyArgs),
    /// Verify bundles, then take them in.
    Import(bundles::ImportArgs),
    /// Send a bundle over a one-way link, on which nothing comes back.
    Send(SendArgs),
    /// Receive bundles from a one-way link; what is missing is listed for a second pass.
    Receive(ReceiveArgs),
    /// Whose bundles this station takes.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Serve clients and pages.
    Serve {
        /// Where to listen; `listen` of airlock.toml by default, which is loopback.
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
    },
    /// What was done by whom.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Who was sent what; that somebody looked is an entry of the ledger.
    Downloads(DownloadsArgs),
    /// What is denied, who was sent it before, and which lock files on record hold it.
    Blast(BlastArgs),
    /// Lock files on record: what people rely on.
    #[command(subcommand)]
    Locks(LocksCommand),
    /// Published states of a channel.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Recompute a snapshot from its inputs, and say that it is equal or where it differs.
    Replay {
        /// The channel, or channel@snapshot or channel@date.
        channel: String,
    },
    /// Write everything that an auditor needs of a published state into one signed file.
    Evidence(EvidenceArgs),
    /// Say that the system's clock is right, after it jumped or fell behind.
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Remove what nothing needs any more: superseded snapshots beyond `[retention]`, and what only they need.
    Gc {
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Keep what is younger, such as `12 hours`; other commands may be about to need it.
        #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "1 day")]
        grace: Span,
    },
    /// Check that everything that is stored is there and is what it was. Damaged files are set aside at once.
    Fsck {
        /// Only what these channels need.
        channels: Vec<String>,
        /// Fetch lost files again and make indexes anew.
        #[arg(long)]
        repair: bool,
    },
    /// The lines that a user puts in place.
    ClientConfig {
        /// The channel.
        channel: String,
        /// The client; what fits the channel by default.
        #[arg(long = "for", value_enum)]
        client: Option<Client>,
        /// The address under which users reach this station; where it listens by default.
        #[arg(long, value_name = "URL")]
        base: Option<String>,
    },
}

/// Clients that a configuration can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// conda and mamba: .condarc
    Conda,
    /// pixi: pixi.toml
    Pixi,
    /// pip: pip.conf
    Pip,
    /// uv: uv.toml
    Uv,
}

/// `airlock channel`
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Add a channel.
    Add {
        /// Its name, a part of its URLs; of a child, below its parent's: `team/dev`.
        name: String,
        /// conda or pypi; a child's is its parent's.
        #[arg(long, value_parser = parse_ecosystem)]
        ecosystem: Option<Ecosystem>,
        /// An HTTP(S) URL, or a directory that holds an index; a child has none.
        #[arg(long, value_name = "URL|PATH")]
        source: Option<String>,
        /// A conda subdir, such as linux-64; noarch always belongs to it.
        #[arg(long = "subdir", value_name = "SUBDIR")]
        subdirs: Vec<String>,
        /// Only what matches, such as `numpy>=1.26`.
        #[arg(long, value_name = "SPEC")]
        only: Vec<String>,
        /// Nothing that matches.
        #[arg(long, value_name = "SPEC")]
        exclude: Vec<String>,
        /// The policy that rules it: `default`, and of a child `inherited`, which adds no rules to its parent's.
        #[arg(long)]
        policy: Option<String>,
    },
    /// List the channels.
    List,
    /// Show one.
    Show {
        /// The channel.
        name: String,
    },
    /// Put a channel under another policy, or a policy beside it that only reports.
    Set(ChannelSetArgs),
    /// Let a channel offer nothing that it does not offer already; what is denied acts all the same.
    Freeze {
        /// The channel.
        name: String,
        /// Until when; `airlock review revoke` ends it before.
        #[arg(long, value_parser = parse_time)]
        until: Time,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// `airlock advisories`
#[derive(Debug, Subcommand)]
pub enum AdvisoriesCommand {
    /// Add a feed; `update` and the next `sync` read it.
    Add {
        /// osv, nvd, cve, openssl, curl, kev, epss, identities or vex.
        kind: String,
        /// A URL, a file, a directory or an archive.
        location: String,
    },
    /// Read every feed again and judge with what they say.
    Update {
        /// The feeds; all by default.
        feeds: Vec<String>,
        /// Believe a feed that has lost more than half of its records.
        #[arg(long)]
        accept_shrink: bool,
        /// Read everything, also what its source says not to have changed.
        #[arg(long)]
        anew: bool,
    },
    /// Take a feed out for good: what only it said counts no more.
    Remove {
        /// The feed.
        name: String,
        /// Why, for the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Say whether what becomes milder in a feed of this station acts by itself (the default), or waits for a person.
    Set {
        /// The feed.
        name: String,
        /// What happens when a record disappears, is withdrawn, narrows or scores lower.
        #[arg(long, value_enum)]
        loosening: LooseningArg,
    },
    /// What became milder and waits for a person; until then its stricter form counts.
    Waiting,
    /// Accept what became milder.
    Accept {
        /// The feeds; all by default.
        feeds: Vec<String>,
        /// Only these records.
        #[arg(long = "id", value_name = "ID")]
        ids: Vec<String>,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Why, for the ledger.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
    },
    /// Write what is known of vulnerabilities, and no package, into one file: the next bundle of the stream, signed and
    /// numbered.
    Export {
        /// The file.
        file: PathBuf,
        /// The peer that it is meant for.
        #[arg(long, value_name = "PEER")]
        to: Option<String>,
        /// Only what the station that wrote this receipt does not have.
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
    },
    /// Verify such a file, then take it in and judge by it.
    Import {
        /// The file.
        file: PathBuf,
        /// Write a receipt, which makes the sender's next bundle a delta.
        #[arg(long, value_name = "FILE")]
        receipt_out: Option<PathBuf>,
    },
    /// Age, count and hash of each feed.
    Status,
    /// What the feeds say of one vulnerability, by any of its ids.
    Show {
        /// The id.
        id: String,
    },
}

/// `airlock clock`
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// It is right: publishing and importing go on.
    Confirm {
        /// How you know; it stands in the ledger.
        #[arg(long)]
        reason: String,
    },
}

/// `airlock policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies.
    List,
    /// Show one.
    Show {
        /// The policy.
        #[arg(default_value = "default")]
        name: String,
        /// In plain English.
        #[arg(long, conflicts_with = "form")]
        plain: bool,
        /// As JSON, for programs that fill in fields.
        #[arg(long)]
        form: bool,
    },
    /// Policies that are ready to be used: list them, or print one to begin with.
    Library {
        /// The policy.
        name: Option<String>,
    },
    /// The versions of a policy, oldest first.
    History {
        /// The policy.
        name: String,
    },
    /// Check a policy and say what it does: faults are named with line, column and the nearest valid spelling.
    Check {
        /// A file, a form (`.json`), or `ready:NAME`.
        file: PathBuf,
    },
    /// Set a policy and judge by it.
    Set {
        /// The policy.
        name: String,
        /// A file, a form (`.json`), or `ready:NAME`.
        file: PathBuf,
    },
    /// What the policy beside a channel's own would do otherwise with what is published now, since when, by rule.
    Shadow {
        /// The channel.
        channel: String,
    },
    /// What a policy would change wherever it rules; nothing is changed.
    Preview {
        /// The policy in whose place it would come.
        name: String,
        /// A file, a form (`.json`), or `ready:NAME`.
        file: PathBuf,
    },
}

/// What happens with what becomes milder.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LooseningArg {
    /// It acts by itself.
    Accept,
    /// It waits.
    Ask,
}

/// A form of VEX documents.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum VexForm {
    /// OpenVEX 0.2.0.
    Openvex,
    /// CSAF 2.0, profile VEX.
    Csaf,
}
