//! Real clients as processes.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The interpreter of the environment with the clients.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("AIRLOCK_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "skipped: no real client, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it"
        );
    }
    python
}

/// Runs a command, which must succeed.
pub fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command, which must fail and say this.
pub fn fails_saying(mut command: Command, text: &str) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains(text), "{said}");
}
