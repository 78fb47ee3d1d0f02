//! The `airlock` command.

mod cli;
mod commands;
mod demo;
mod output;
mod passphrase;
mod progress;

use std::process::ExitCode;

use airlock_engine::error::Kind;
use clap::Parser as _;

/// Indexes and feeds are millions of small values: the system's allocator spends a fifth of their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(4);
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error.message);
            if let Some(hint) = &error.hint {
                eprintln!("  hint: {hint}");
            }
            ExitCode::from(match error.kind {
                Kind::No => 1,
                Kind::Usage => 2,
                Kind::Unsafe => 3,
                Kind::Fault => 4,
            })
        }
    }
}
