//! Rulings on findings through the command line, and what is told of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Station, World};
use serde_json::Value;

async fn ruled() -> (World, Station) {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    station.run(&["explain", "main", "idna=3.6"]).exits(1).shows("reported");
    let wrong =
        ["review", "status", "main", "--scope", "idna", "--advisory", "PYSEC-2024-60", "--reason", "r"];
    station.run(&[&wrong[..], &["--status", "great"]].concat()).exits(2).says("use one of reported");
    let cleared = ["--status", "cleared", "--justification", "vulnerable_code_not_in_execute_path"];
    let scope = ["review", "status", "main", "--scope", "idna==3.6", "--advisory", "pysec-2024-60"];
    station.run(&[&scope[..], &cleared, &["--reason", "encode() is never called"]].concat()).exits(0);
    station.run(&["sync"]).exits(0);
    (world, station)
}

#[tokio::test]
async fn a_ruling_is_made_shown_told_and_taken_back() {
    let (_world, station) = ruled().await;
    station
        .run(&["explain", "main", "idna=3.6"])
        .exits(0)
        .shows("cleared by decision d1: encode() is never called");
    let found = station.run(&["findings", "main", "--status", "cleared"]).exits(0).shows("PYSEC-2024-60");
    let found = found.shows("1 finding of 1 package in 1 file").shows("fixed from 3.7");
    found.shows("Of 3 packages, 0 are covered by a checked identity, 2 by an automatic one, 0 need none; of 1 nothing could");
    station
        .run(&["advisories", "show", "pysec-2024-60"])
        .exits(0)
        .shows("main  idna  3.6  cleared   1 admitted, 0 held, 0 denied")
        .shows("py    idna  3.6  reported  0 admitted, 0 held, 1 denied")
        .shows("Next: `airlock explain main idna`");
    station.run(&["review", "list"]).exits(0).shows("PYSEC-2024-60 is cleared for idna==3.6 in main");
    let vex: Value = station.json(&["vex", "main"]);
    let statement = &vex["statements"][0];
    assert_eq!(statement["status"], "not_affected");
    assert_eq!(statement["impact_statement"], "encode() is never called");
    assert_eq!(statement["justification"], "vulnerable_code_not_in_execute_path");
    let purl = statement["products"][0]["@id"].as_str().unwrap();
    assert!(
        purl.starts_with("pkg:conda/idna@3.6?build=") && purl.contains("&channel=main&subdir=noarch"),
        "{purl}"
    );
    station.run(&["review", "revoke", "d1", "--reason", "it is called"]).exits(0);
    station.run(&["explain", "main", "idna=3.6"]).exits(1).shows("reported");
    station.run(&["vex", "main"]).exits(1).says("nothing was ruled");
}

#[tokio::test]
async fn identities_and_statements_are_ruled_by_people_too() {
    let (world, station) = ruled().await;
    station.run(&["review", "identity", "main", "other", "--none", "--reason", "only data"]).exits(0);
    station.run(&["explain", "main", "other"]).exits(0).shows("no advisory matches");
    let shown: Value = station.json(&["explain", "main", "other"]);
    assert_eq!(shown["artifacts"][0]["coverage"], "none-needed");
    let identity = ["review", "identity", "main", "other", "--reason", "it is that"];
    station.run(&[&identity[..], &["--is", "osv:PyPI/requests=pep440"]].concat()).exits(0);
    station.run(&["explain", "main", "other"]).exits(0).shows("by decision d3 of ada");
    station.run(&[&identity[..], &["--is", "requests"]].concat()).exits(2).says("osv:ECOSYSTEM/NAME");
    station.run(&identity).exits(2);

    let vex = world.path("vex.json");
    let document = r#"{"@context":"https://openvex.dev/ns/v0.2.0","@id":"urn:x","author":"v","timestamp":"2026-02-01T00:00:00Z",
        "version":1,"statements":[{"vulnerability":{"name":"PYSEC-1"},"products":[{"@id":"pkg:pypi/requests"}],"status":"fixed"}]}"#;
    std::fs::write(&vex, document).unwrap();
    station.run(&["advisories", "add", "vex", vex.to_str().unwrap()]).exits(0);
    station.run(&["advisories", "update"]).exits(0);
    let trust = ["review", "statements", "main", "--scope", "requests", "--reason", "the vendor"];
    station.run(&[&trust[..], &["--source", "nobody"]].concat()).exits(2).says("vex, package");
    station.run(&[&trust[..], &["--source", "vex"]].concat()).exits(0);
    station.run(&["explain", "main", "requests=1.0"]).shows("mitigated by feed vex");
}

/// The published schema of CSAF 2.0 comes with a package that `cargo xtask test` installs.
#[tokio::test]
async fn csaf_is_what_the_official_schema_accepts() {
    let Some(python) = std::env::var_os("AIRLOCK_TEST_PYTHON").map(PathBuf::from) else {
        airlock_testkit::skipped(
            "CSAF is not held against its schema, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it",
        );
        return;
    };
    let (world, station) = ruled().await;
    let document = station.json(&["vex", "main", "--format", "csaf"]);
    let check = |document: &Value| {
        let path = world.path("csaf.json");
        std::fs::write(&path, document.to_string()).unwrap();
        let code = "import importlib.util, json, pathlib, sys, jsonschema\n\
            root = pathlib.Path(importlib.util.find_spec('csaf').origin).parent\n\
            schema = json.loads(next(root.rglob('v20/schema/csaf.json')).read_text())\n\
            validator = jsonschema.validators.validator_for(schema)\n\
            errors = [e.message for e in validator(schema).iter_errors(json.load(open(sys.argv[1])))]\n\
            print(errors)\n\
            sys.exit(len(errors) > 0)";
        let output = Command::new(&python).args(["-c", code]).arg(path).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), said.concat())
    };
    let (is_accepted, said) = check(&document);
    assert!(is_accepted, "{said}\n{document:#}");
    // A check that checks something.
    let mut broken = document;
    broken["document"]["tracking"]["status"] = "done".into();
    let (is_accepted, said) = check(&broken);
    assert!(!is_accepted && said.contains("is not one of"), "{said}");
}
