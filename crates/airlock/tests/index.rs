//! `airlock index`, as scripts see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::{Command, Output};

use airlock_testkit::conda;
use serde_json::{Value, json};

fn index(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_airlock")).arg("index").args(args).output().unwrap()
}

#[test]
fn a_directory_gets_its_indexes_and_what_was_left_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let noarch = dir.path().join("noarch");
    std::fs::create_dir(&noarch).unwrap();
    let package = conda("x", "1.0");
    let bytes = package.conda().unwrap();
    std::fs::write(noarch.join("x-1.0-0.conda"), &bytes).unwrap();
    std::fs::write(noarch.join("none-1.0-0.conda"), b"no package").unwrap();
    let dir = dir.path().to_str().unwrap();

    let done = index(&[dir, "--json"]);
    assert!(done.status.success(), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let subdir = &said["subdirs"][0];
    assert_eq!(
        (&subdir["subdir"], &subdir["packages"], &subdir["bad_count"]),
        (&json!("noarch"), &json!(1), &json!(1))
    );
    assert_eq!(subdir["bad"][0]["file"], "noarch/none-1.0-0.conda");
    let written: Value =
        serde_json::from_slice(&std::fs::read(noarch.join("repodata.json")).unwrap()).unwrap();
    assert_eq!(written["packages.conda"], json!({"x-1.0-0.conda": package.record(&bytes)}));

    let text = String::from_utf8(index(&[dir]).stdout).unwrap();
    assert!(text.contains("Left out: 1 file") && text.contains("none-1.0-0.conda"), "{text}");
    let refused = index(&["/nowhere/at/all"]);
    assert_eq!(refused.status.code(), Some(2));
}
