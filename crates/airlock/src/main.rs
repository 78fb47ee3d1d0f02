//! The `airlock` command.

mod cli;
mod commands;
mod demo;
mod output;
mod passphrase;
mod progress;

use std::process::ExitCode;

use airlock_engine::error::{Error, Kind, Result};
use clap::Parser as _;

fn main() -> ExitCode {
    airlock_memory::give_back_soon();
    run(cli::Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {}", output::plain_lines(&error.message));
        if let Some(hint) = error.next_step() {
            eprintln!("  hint: {}", output::plain_lines(hint));
        }
        ExitCode::from(match error.kind {
            Kind::No => 1,
            Kind::Usage => 2,
            Kind::Unsafe => 3,
            Kind::Fault => 4,
        })
    })
}

fn run(mut cli: cli::Cli) -> Result<ExitCode> {
    // First: what this thread gives up, those have given up that it starts.
    let confinement = commands::confine(&mut cli)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::fault(format!("the runtime cannot be started: {e}")))?;
    runtime.block_on(commands::run(cli, confinement))
}
