//! Evidence through the command line: one file for an auditor, checked by this program without a station, by the official
//! validators of its bills of materials, and by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use airlock_formats::make::{CondaPackage, Wheel};
use airlock_testkit::{conda, osv, sdist, wheel};
use common::{Station, World, airlock};
use serde_json::{Value, json};

/// Licences as indexes have them: expressions, words, names that are in no list, long, odd and none.
const LICENCES: [&str; 9] = [
    "MIT OR Apache-2.0",
    "GPL-2.0",
    "LicenseRef-Ours AND MIT",
    "see LICENSE",
    "Sleepycat & \"friends\" <vendor>\nsecond line",
    "BSD",
    "GPL-3.0-only WITH GCC-exception-3.1",
    "LGPL-2.1+",
    "",
];

/// Channels of both ecosystems with findings that are reported, waived, cleared, mitigated and confirmed, and with all kinds of
/// licences.
async fn judged() -> (World, Station) {
    let world = World::new().await;
    let (mut channel, mut index) = (world.kit.conda_source("conda"), world.kit.pypi_source("pypi"));
    for (name, version) in
        [("idna", "3.6"), ("idna", "3.10"), ("requests", "1.0"), ("requests", "2.0"), ("other", "1.0")]
    {
        channel.add(&conda(name, version), &json!({}));
        index.add_wheel(&wheel(name, version), &json!({}));
    }
    for (at, license) in LICENCES.into_iter().enumerate() {
        let name = format!("licensed-{at}");
        channel.add(&CondaPackage { license, ..conda(&name, "1.0") }, &json!({}));
        // A line of METADATA is one.
        let license = license.lines().next().unwrap_or_default();
        index.add_wheel(&Wheel { license, ..wheel(&name, "1.0") }, &json!({}));
    }
    index.add_sdist(&sdist("idna", "3.10"), &json!({}));
    index.add_wheel(&wheel("epoch", "1!2.0+local.1"), &json!({}));
    channel.write();
    index.write();
    world.know(&[
        osv("PYSEC-2024-60", "PyPI", "idna", "3.7", 7.5),
        osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0),
        osv("PYSEC-2", "PyPI", "requests", "9.0", 5.3),
        osv("PYSEC-3", "PyPI", "idna", "9.0", 5.3),
    ]);
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let status = |channel: &str, scope: &str, advisory: &str, more: &[&str]| {
        let args = ["review", "status", channel, "--scope", scope, "--advisory", advisory, "--reason"];
        station.run(&[&args[..], more].concat()).exits(0);
    };
    for channel in ["main", "py"] {
        let why = "encode() is <never> called";
        let not = "vulnerable_code_not_in_execute_path";
        status(channel, "idna==3.6", "PYSEC-2024-60", &[why, "--status", "cleared", "--justification", not]);
        status(channel, "requests==2.0", "PYSEC-2", &["patched here", "--status", "mitigated"]);
        status(channel, "idna==3.10", "PYSEC-3", &["it is so", "--status", "active"]);
        for rule in ["unscored", "cvss-above-7"] {
            let waive = ["review", "waive", channel, "--rule", rule, "--scope", "requests==1.0"];
            let terms = ["--advisory", "PYSEC-1", "--expires", "2026-04-01", "--reason", "until the update"];
            station.run(&[&waive[..], &terms].concat()).exits(0);
        }
    }
    station.run(&["sync"]).exits(0);
    (world, station)
}

fn evidence(world: &World, station: &Station, channel: &str) -> PathBuf {
    let file = world.path(&format!("{channel}.zip"));
    station.run(&["evidence", channel, file.to_str().unwrap()]).exits(0);
    file
}

/// Unpacks evidence with `unzip`.
fn unpacked(world: &World, file: &Path) -> PathBuf {
    let dir = world.path(&format!("{}-unpacked", file.file_stem().unwrap().to_str().unwrap()));
    let output = Command::new("unzip").arg("-q").arg(file).arg("-d").arg(&dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    dir
}

fn read(dir: &Path, part: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(part)).unwrap()).unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).join("\n")
}

#[tokio::test]
async fn one_file_is_written_and_checked_where_there_is_no_station() {
    let (world, station) = judged().await;
    for (channel, files) in [("main", "14 files"), ("py", "16 files")] {
        let file = evidence(&world, &station, channel);
        let key = station.key();
        let verify = ["verify", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
        airlock(&verify).exits(0).shows("Whole and unchanged").shows(files).shows("10 decisions");
        let answer = airlock(&[&verify[..], &["--json"]].concat()).exits(0).json();
        assert_eq!(answer["verified"], true);
        assert_eq!(answer["snapshot"], station.json(&["snapshot", "show", channel])["id"]);
        airlock(&[&verify[..], &["--header"]].concat()).exits(0).shows("parts not looked at");
        // The station itself needs no key.
        station.run(&["verify", file.to_str().unwrap()]).exits(0);
        // A folder is a bundle still, and whatever else is no evidence.
        airlock(&["verify", world.path("feeds").to_str().unwrap(), "--key", verify[3]]).exits(3);
        airlock(&["verify", verify[3], "--key", verify[3]]).exits(3).says("it is no file of evidence");
        airlock(&["verify", "/nowhere/evidence.zip", "--key", verify[3]]).exits(2);
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for bytes in [&whole[..0], &whole[..2], &whole[..whole.len() / 2], &changed[..]] {
            std::fs::write(&file, bytes).unwrap();
            airlock(&verify).exits(3).says(".zip: ").says("hint: believe nothing of it");
        }
        std::fs::write(&file, whole).unwrap();
    }
    // A bundle in one file is taken in with another command.
    let feeds = world.path("advisories.tar");
    station.run(&["advisories", "export", feeds.to_str().unwrap()]).exits(0);
    station.run(&["verify", feeds.to_str().unwrap()]).exits(2).says("is no folder");
    let other = world.station("other", "isolated");
    let file = world.path("main.zip");
    airlock(&["verify", file.to_str().unwrap(), "--key", other.key().to_str().unwrap()])
        .exits(3)
        .says("not a key that is trusted here");
}

#[tokio::test]
async fn the_same_snapshot_at_the_same_head_gives_the_same_bytes_also_when_another_is_newer() {
    let (world, station) = judged().await;
    let first = std::fs::read(evidence(&world, &station, "main")).unwrap();
    assert_eq!(std::fs::read(evidence(&world, &station, "main")).unwrap(), first);
    let old = station.json(&["snapshot", "show", "main"])["id"].as_str().unwrap().to_owned();
    let before = unpacked(&world, &world.path("main.zip"));

    station.run(&["block", "main", "other", "--reason", "nobody needs it"]).exits(0);
    let at = world.path("old.zip");
    station.run(&["evidence", &format!("main@{old}"), at.to_str().unwrap()]).exits(0);
    station.run(&["verify", at.to_str().unwrap()]).exits(0).shows(&old).shows("14 files");
    let after = unpacked(&world, &at);
    for part in ["sbom.cdx.json", "sbom.spdx.json", "vex.openvex.json", "objects/content.jsonl"] {
        assert_eq!(
            std::fs::read(before.join(part)).unwrap(),
            std::fs::read(after.join(part)).unwrap(),
            "{part}"
        );
    }
    let now = evidence(&world, &station, "main");
    station.run(&["verify", now.to_str().unwrap()]).exits(0).shows("13 files");
    station.run(&["evidence", "nothing", now.to_str().unwrap()]).exits(2);
    station.run(&["evidence", "main", world.path("feeds").to_str().unwrap()]).exits(2).says("is a folder");
}

#[tokio::test]
async fn what_was_ruled_and_how_it_is_licensed_stands_in_the_bills_of_materials() {
    let (world, station) = judged().await;
    for channel in ["main", "py"] {
        let dir = unpacked(&world, &evidence(&world, &station, channel));
        let (cdx, spdx) = (read(&dir, "sbom.cdx.json"), read(&dir, "sbom.spdx.json"));
        let mut states: Vec<String> = Vec::new();
        for one in cdx["vulnerabilities"].as_array().unwrap() {
            let text = |at: &str| one.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
            let places = one["affects"].as_array().unwrap().len();
            let detail = text("/analysis/detail");
            states.push(format!("{} {} {detail} {places}", text("/id"), text("/analysis/state")));
        }
        states.sort();
        let decision = |n: usize| if channel == "main" { n } else { n + 5 };
        // Of idna 3.10 there is a wheel and a source distribution.
        let both = if channel == "main" { 1 } else { 2 };
        let reported = "reported: matched, and nobody ruled of it";
        assert_eq!(
            states,
            [
                format!("PYSEC-1 in_triage {reported} 1"),
                format!("PYSEC-2 in_triage {reported} 1"),
                format!("PYSEC-2 resolved mitigated by decision d{}: patched here 1", decision(2)),
                format!(
                    "PYSEC-2024-60 not_affected cleared by decision d{}: encode() is <never> called 1",
                    decision(1)
                ),
                format!("PYSEC-3 exploitable active by decision d{}: it is so {both}", decision(3)),
                format!("PYSEC-3 in_triage {reported} 1"),
            ]
        );
        let licence = |name: &str| {
            let all = spdx["packages"].as_array().unwrap();
            let package = all.iter().find(|p| p["name"] == name).unwrap();
            package["licenseDeclared"].as_str().unwrap().to_owned()
        };
        assert_eq!(licence("licensed-0"), LICENCES[0]);
        assert_eq!(licence("licensed-2"), LICENCES[2]);
        assert!(licence("licensed-3").starts_with("LicenseRef-airlock-"));
        let texts = spdx["hasExtractedLicensingInfos"].as_array().unwrap();
        let is_there = |text: &str| texts.iter().any(|one| one["extractedText"] == text);
        assert!(is_there("see LICENSE") && is_there("BSD"), "{texts:?}");
        assert!(texts.iter().any(|one| one["licenseId"] == "LicenseRef-Ours"));
        let page = std::fs::read_to_string(dir.join("summary.html")).unwrap();
        for text in [
            "encode() is &#60;never&#62; called",
            "waive unscored for requests==1.0",
            "<time>2026-03-01T12:00:00Z</time>",
            "@media print",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("<script"));
        // What is written can be read again as a feed of statements.
        let feed = dir.join("sbom.cdx.json");
        let copy = world.path(&format!("{channel}.cdx.json"));
        std::fs::copy(feed, &copy).unwrap();
        station.run(&["advisories", "add", "vex", copy.to_str().unwrap()]).exits(0);
    }
    station.run(&["advisories", "update"]).exits(0);
    let counts = station.json(&["advisories", "status"]);
    let feeds = counts["feeds"].as_array().unwrap().iter().filter(|feed| feed["kind"] == "vex");
    let skipped: Vec<&Value> = feeds.map(|feed| &feed["skipped"]).collect();
    assert_eq!(skipped, [&json!(0), &json!(0)]);
}

/// The published schema of CycloneDX, and the validator of those who make SPDX, come with packages that `cargo xtask test`
/// installs.
#[tokio::test]
async fn the_bills_of_materials_are_what_the_official_validators_accept() {
    let Some(python) = std::env::var_os("AIRLOCK_TEST_PYTHON").map(PathBuf::from) else {
        airlock_testkit::skipped(
            "bills of materials are not held against their schemas, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it",
        );
        return;
    };
    let cyclonedx = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n\
        print(error)\n\
        sys.exit(error is not None)";
    let spdx = "import sys\n\
        from spdx_tools.spdx.parser.parse_anything import parse_file\n\
        from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document\n\
        errors = [m.validation_message for m in validate_full_spdx_document(parse_file(sys.argv[1]), 'SPDX-2.3')]\n\
        print(errors)\n\
        sys.exit(len(errors) > 0)";
    let check =
        |code: &str, path: &Path| Command::new(&python).args(["-c", code]).arg(path).output().unwrap();
    let (world, station) = judged().await;
    for channel in ["main", "py"] {
        let dir = unpacked(&world, &evidence(&world, &station, channel));
        for (code, name, list, key) in [
            (cyclonedx, "sbom.cdx.json", "vulnerabilities", "affects"),
            (spdx, "sbom.spdx.json", "packages", "licenseDeclared"),
        ] {
            let path = dir.join(name);
            let output = check(code, &path);
            assert!(output.status.success(), "{channel}: {}", said(&output));
            // And not because it accepts anything.
            let mut wrong = read(&dir, name);
            wrong[list][1][key] = json!("LicenseRef-nowhere");
            std::fs::write(&path, wrong.to_string()).unwrap();
            assert_eq!(check(code, &path).status.code(), Some(1), "{channel}: {name}");
        }
    }
}

/// Runs what a text tells people to type: the lines that stand apart.
fn typed(text: &str, dir: &Path) -> Output {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let script = format!("set -euo pipefail\n{}\n", lines.join("\n"));
    Command::new("bash").args(["-c", &script]).current_dir(dir).output().unwrap()
}

/// What an auditor is told to type is what is run here.
fn by_hand(dir: &Path) -> Output {
    let text = include_str!("../../../docs/evidence.md");
    let section = text.split("\n## By hand\n").nth(1).unwrap();
    assert!(section.contains("openssl pkeyutl -verify"));
    typed(section, dir)
}

#[tokio::test]
async fn an_auditor_checks_it_by_hand_as_the_document_says() {
    let (world, station) = judged().await;
    for channel in ["main", "py"] {
        let file = evidence(&world, &station, channel);
        let dir = world.path(&format!("{channel}-auditor"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(&file, dir.join("evidence.zip")).unwrap();
        std::fs::copy(station.key(), dir.join("station.pub")).unwrap();
        let output = by_hand(&dir);
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        let print = station.json(&["status"])["fingerprint"].as_str().unwrap().replace('-', "");
        for line in [
            print.as_str(),
            "Signature Verified Successfully",
            "every part is whole",
            "nothing was added",
            "the snapshot is the one that is signed",
            "the ledger is a chain",
            "it ends at the head that is signed",
            "it tells of the publication",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line}: {text}");
        }
        assert!(!text.contains("not published"), "{text}");
        // The page in the archive says the same in fewer lines.
        let readme = std::fs::read_to_string(dir.join("evidence/README.txt")).unwrap();
        let lines = readme.split("By hand").nth(1).unwrap().replace("FILE", "evidence.zip");
        let short = world.path(&format!("{channel}-short"));
        std::fs::create_dir(&short).unwrap();
        for name in ["evidence.zip", "station.pub"] {
            std::fs::copy(dir.join(name), short.join(name)).unwrap();
        }
        let text = said(&typed(&lines, &short));
        assert!(
            text.contains("Signature Verified Successfully") && text.contains("summary.html: OK"),
            "{text}"
        );
        // Another key is found by the same lines.
        let other = world.station(&format!("other-{channel}"), "isolated");
        std::fs::copy(other.key(), dir.join("station.pub")).unwrap();
        std::fs::remove_dir_all(dir.join("evidence")).unwrap();
        assert!(!by_hand(&dir).status.success());
    }
}
