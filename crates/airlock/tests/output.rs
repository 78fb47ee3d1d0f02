//! What commands write where nobody can take it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::process::{Command, Stdio};

/// A command that answers with many or few bytes: whether what it says fits into what is buffered of it.
fn check(dir: &std::path::Path, rules: usize) -> Command {
    let file = dir.join(format!("{rules}.toml"));
    let rule = |n| {
        format!("[[rule]]\nname = \"rule-{n}\"\naction = \"deny\"\nwhen = {{ cvss = {{ above = 7.0 }} }}\n")
    };
    let rules: String = (0..rules).map(rule).collect();
    std::fs::write(&file, format!("[policy]\nname = \"default\"\n{rules}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
    command.args(["--json", "policy", "check"]).arg(file).stderr(Stdio::piped());
    command
}

#[test]
fn an_answer_that_finds_no_room_is_a_fault_however_short_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for rules in [1, 1000] {
        let whole = check(dir.path(), rules).output().unwrap();
        assert_eq!(whole.status.code(), Some(0));
        assert_eq!(whole.stdout.len() > 64 << 10, rules > 1, "{} bytes", whole.stdout.len());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = check(dir.path(), rules).stdout(full).spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("stdout: No space left on device"), "{said}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    for rules in [1, 1000] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = check(dir.path(), rules).stdout(writer).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    }
}
