//! One file per group of commands. Each calls one function of the engine and says what came of it.

mod advisories;
mod blast;
mod bundles;
mod channels;
mod client_config;
mod confined;
mod downloads;
mod evidence;
mod findings;
mod identity;
mod import_plan;
mod inbox;
mod index;
mod judging;
mod maintenance;
mod oneway;
mod people;
mod plan;
mod policies;
mod records;
mod request;
mod review;
mod serve;
mod shadows;
mod signing;
mod station;
mod trees;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airlock_engine::confine::Confinement;
use airlock_engine::error::{Error, Result};
use airlock_engine::station::{CONFIG, Clock, Options, Station};
use airlock_engine::sync::Wish;

use crate::cli::{Cli, ClockCommand, Command, Habits, WhoArgs};
use crate::output::Output;

pub use confined::confine;
pub use serve::{listen, serve as serve_until_interrupted};

/// What a command works with.
pub struct Cx {
    station: Option<PathBuf>,
    habits: Habits,
    who: WhoArgs,
    /// How it speaks.
    pub out: Output,
    /// How far this process is confined, if it reads what others wrote.
    pub confined: Option<Confinement>,
}

impl Cx {
    /// How a station is opened.
    pub fn options(&self) -> Options {
        options(self.habits)
    }

    /// The station that the command line, the environment or the current directory names.
    pub async fn open(&self) -> Result<Station> {
        let dir = station_dir(self.station.as_deref()).ok_or_else(|| {
            Error::usage("there is no station here")
                .hint("make one with `airlock init DIR`, or name one with --station DIR")
        })?;
        people::known(Station::open(&dir, self.options()).await?, &self.who).await
    }

    /// The directory that was named, if one was.
    pub fn named_station(&self) -> Option<PathBuf> {
        self.station.clone()
    }
}

/// The directory of the station that was named, or of that which is here.
fn station_dir(named: Option<&Path>) -> Option<PathBuf> {
    let here = || Path::new(CONFIG).exists().then(|| PathBuf::from("."));
    named.map(Path::to_owned).or_else(here)
}

/// What the operating system calls whoever acts, in characters that cannot be taken for anything else that records tell of
/// people.
fn system_user() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let plain = |c: char| if c.is_alphanumeric() || "._-@\\$".contains(c) { c } else { '_' };
    let name: String = name.chars().take(100).map(plain).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// The processors that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How stations are opened by this command line.
pub fn options(habits: Habits) -> Options {
    Options {
        clock: habits.now.map_or(Clock::System, Clock::Fixed),
        actor: system_user(),
        threads: if habits.threads == 0 { cores() } else { habits.threads },
        progress: crate::progress::progress(habits),
    }
}

/// Runs a command.
pub async fn run(cli: Cli, confined: Option<Confinement>) -> Result<ExitCode> {
    let out = Output::new(cli.habits);
    let cx = Cx { station: cli.station, habits: cli.habits, who: cli.who, out, confined };
    match cli.command {
        Command::Demo { port, dir, exit } => crate::demo::run(&cx, port, dir, exit).await,
        Command::Init { dir, name, side } => station::init(&cx, dir, name, side.into()).await,
        Command::Index { dir, out } => index::run(&cx, &dir, out.as_deref()).await,
        Command::Status => station::status(&cx).await,
        Command::Channel(command) => channels::run(&cx, command).await,
        Command::Advisories(command) => advisories::run(&cx, command).await,
        Command::Sync { channels, dry_run, accept_shrink } => {
            judging::sync(&cx, &channels, Wish { dry: dry_run, accept_shrink }).await
        }
        Command::Judge { channels, dry_run, anew, as_of, policy } => {
            judging::judge(&cx, &channels, dry_run, anew, as_of, policy).await
        }
        Command::Explain { channel, spec } => judging::explain(&cx, &channel, &spec).await,
        Command::Plan(args) => plan::run(&cx, args).await,
        Command::Findings { channel, status, min_score } => {
            findings::findings(&cx, &channel, status, min_score).await
        }
        Command::Vex { channel, format } => findings::vex(&cx, &channel, format).await,
        Command::Policy(command) => policies::run(&cx, command).await,
        Command::Block { channel, spec, reason } => review::block(&cx, &channel, &spec, &reason).await,
        Command::Review(command) => review::run(&cx, command).await,
        Command::User(command) => people::user(&cx, command).await,
        Command::Token(command) => people::token(&cx, command).await,
        Command::Proposals(command) => people::proposals(&cx, command).await,
        Command::Request(command) => request::run(&cx, command).await,
        Command::Export(args) => bundles::export(&cx, args).await,
        Command::Verify(args) => bundles::verify(&cx, args).await,
        Command::Import(args) => trees::import(&cx, args).await,
        Command::Sign(args) => signing::sign(&cx, &args),
        Command::Key(command) => signing::key(&cx, command).await,
        Command::Trust(command) => signing::trust(&cx, command).await,
        Command::Send(args) => oneway::send(&cx, args).await,
        Command::Receive(args) => oneway::receive(&cx, args).await,
        Command::Serve { listen } => serve::run(&cx, listen).await,
        Command::Ledger(command) => records::ledger(&cx, command).await,
        Command::Downloads(args) => downloads::run(&cx, args).await,
        Command::Blast(args) => blast::run(&cx, args).await,
        Command::Locks(command) => blast::locks(&cx, command).await,
        Command::Snapshot(command) => records::snapshot(&cx, command).await,
        Command::Evidence(args) => evidence::run(&cx, &args).await,
        Command::Replay { channel } => records::replay(&cx, &channel).await,
        Command::Clock(ClockCommand::Confirm { reason }) => maintenance::clock(&cx, &reason).await,
        Command::Gc { dry_run, grace } => maintenance::gc(&cx, dry_run, grace).await,
        Command::Fsck { channels, repair } => maintenance::fsck(&cx, channels, repair).await,
        Command::ClientConfig { channel, client, base } => {
            client_config::run(&cx, &channel, client, base).await
        }
    }
}
