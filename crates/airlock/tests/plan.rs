//! What people need, held against what may be had: solved as rattler solves it, and what is suggested is what a client
//! then installs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use airlock_testkit::{conda, osv, wheel};
use common::clients::{python, rattler, succeeds};
use common::{NOW, Station, World, airlock};
use serde_json::{Value, json};

/// The one plan of an answer.
fn planned(station: &Station, asked: &[&str], more: &[&str]) -> (i32, Value) {
    let mut args = vec!["--json", "plan"];
    args.extend(asked);
    args.extend(["--channel", "main", "--platform", "linux-64"]);
    args.extend(more);
    let answer = station.run(&args);
    assert!([0, 1].contains(&answer.status), "{answer:?}");
    (answer.status, answer.json()["plans"][0].take())
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| one.as_str().or_else(|| one["artifact"].as_str()).unwrap().to_owned()).collect()
}

/// `app` 2 needs `lib` 2 or more, of which 2.1 is vulnerable; `old` needs `lib` 2.1 and nothing else.
async fn world() -> World {
    let world = World::new().await;
    let mut channel = world.kit.conda_source("conda");
    let mut python = conda("python", "3.11.7");
    python.files = &[("share/doc/python.txt", b"a stand-in\n")];
    channel.add(&python, &json!({}));
    for (name, version, depends) in [
        ("app", "1.0", &["python", "lib <2"][..]),
        ("app", "2.0", &["python", "lib >=2", "__glibc >=2.17"]),
        ("old", "1.0", &["python", "lib ==2.1"]),
        ("lib", "1.9", &["python"]),
        ("lib", "2.0", &["python"]),
        ("lib", "2.1", &["python"]),
        ("lib", "3.0", &["python", "__cuda >=12"]),
    ] {
        let code = format!("version = '{version}'\n");
        let path = format!("site-packages/{name}.py");
        let files = [(path.as_str(), code.as_bytes())];
        let mut package = conda(name, version);
        package.depends = depends;
        package.noarch_python = true;
        package.files = &files;
        channel.add(&package, &json!({}));
    }
    channel.write();
    let mut index = world.kit.pypi_source("pypi");
    for version in ["1.9", "2.0", "2.1", "3.0"] {
        index.add_wheel(&wheel("lib", version), &json!({}));
    }
    index.write();
    let mut record = osv("PYSEC-7", "PyPI", "lib", "2.1.1", 9.8);
    record["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "2.1"}, {"fixed": "2.1.1"}]);
    world.know(&[record]);
    world.kit.write("feeds/identities.json", br#"{"lib":"lib"}"#);
    world
}

#[tokio::test]
async fn what_does_not_pass_is_named_and_the_nearest_that_does_is_what_a_client_installs_and_runs() {
    let world = world().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let (status, plan) = planned(&low, &["app"], &[]);
    assert_eq!((status, &plan["passes"]), (1, &json!(false)));
    let members = plan["members"].as_array().unwrap();
    let denied: Vec<&Value> = members.iter().filter(|m| m["verdict"] != "admitted").collect();
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(
        (&denied[0]["version"], &denied[0]["advisories"], &denied[0]["nearest"], &denied[0]["why"]),
        (&json!("2.1"), &json!(["PYSEC-7"]), &json!("3.0"), &json!("denied, cvss-above-7: PYSEC-7"))
    );
    let changes = &plan["nearest"]["changes"];
    assert_eq!(changes.as_array().unwrap().len(), 1, "{changes}");
    assert_eq!((&changes[0]["name"], &changes[0]["to"]), (&json!("lib"), &json!("2.0 0")));
    assert_eq!(plan["nearest"]["asked"], json!([]));

    let Some(python) = python() else { return };
    let server = low.serve();
    let target = world.path("env");
    let asked = [vec!["app"]];
    let got = rattler(
        &python,
        &server.url("conda/main"),
        &plan["virtual_packages"],
        target.to_str().unwrap(),
        &asked,
    );
    assert_eq!(got[0], texts(&plan["nearest"]["artifacts"]));
    let mut run = Command::new("python3");
    run.args(["-c", "import app, lib; print(app.version, lib.version)"]);
    run.env("PYTHONPATH", target.join("lib/python3.11/site-packages"));
    assert_eq!(String::from_utf8_lossy(&succeeds(run).stdout).trim(), "2.0 2.0");
}

#[tokio::test]
async fn what_can_only_be_had_if_it_is_asked_for_differently_says_how() {
    let world = world().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    // The pinned version is denied: the nearest is another version.
    let (_, plan) = planned(&low, &["app", "lib==2.1"], &[]);
    assert_eq!(plan["nearest"]["asked"], json!([{"from": "lib==2.1", "to": "lib==2.0"}]));
    assert!(texts(&plan["nearest"]["artifacts"]).contains(&"noarch/lib-2.0-0.conda".to_owned()));
    let said = plan["reasons"].to_string();
    assert!(said.contains("lib") && said.contains("cvss-above-7"), "{said}");
    // The machine with a graphics card may have 3.0.
    let (status, plan) = planned(&low, &["app"], &["--virtual", "__cuda=12.4"]);
    assert_eq!((status, &plan["passes"]), (0, &json!(true)));
    // What needs the denied version and nothing else cannot be had at all.
    let (status, plan) = planned(&low, &["old"], &[]);
    assert_eq!((status, &plan["nearest"]), (1, &Value::Null));
    assert!(plan["reasons"].to_string().contains("cvss-above-7"), "{}", plan["reasons"]);
    let (status, plan) = planned(&low, &["nothing-such"], &[]);
    assert_eq!(status, 1);
    assert_eq!(plan["missing"], json!(["nothing-such: the channel has no package `nothing-such`"]));
    let (_, plan) = planned(&low, &["lib>=9"], &[]);
    assert_eq!(plan["missing"], json!(["lib>=9: no version of it is listed that fits"]));
    // What goes together with nothing passes neither, though each spec by itself is there.
    let (status, plan) = planned(&low, &["app=2", "lib<2"], &[]);
    assert_eq!((status, &plan["passes"], plan["missing"].as_array().unwrap().len()), (1, &json!(false), 0));
    assert!(!plan["reasons"].as_array().unwrap().is_empty());
    low.run(&["plan", "app", "--channel", "main", "--platform", "linux-46"]).exits(2).says("is no platform");
}

#[tokio::test]
async fn an_environment_file_is_held_against_both_of_its_ecosystems_and_behind_the_gap_too() {
    let world = world().await;
    let (low, _, high) = {
        let (low, disk, high) = world.across();
        high.run(&["import", disk.to_str().unwrap()]).exits(0);
        (low, disk, high)
    };
    let file = world.path("environment.yml");
    std::fs::write(&file, "dependencies:\n- app\n- pip:\n  - lib[more]==2.1 ; python_version > '3'\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let args = ["--json", "plan", file, "--channel", "main", "--channel", "py", "--platform", "linux-64"];
    let answer = low.run(&args).exits(1).json();
    assert_eq!(answer["unanswerable"], json!([]));
    let [conda, pypi] = [0, 1].map(|at| &answer["plans"][at]);
    assert_eq!((&conda["passes"], &pypi["passes"]), (&json!(false), &json!(false)));
    assert_eq!(pypi["nearest"]["asked"], json!([{"from": "lib[more]==2.1", "to": "lib==3.0"}]));
    // Of several lines on one package what fits all of them is taken before anything that does not.
    let both = ["--json", "plan", "lib>=2", "lib<3", "--channel", "py", "--closure", "py/few"];
    low.run(&both).exits(0);
    let few = low.json(&["explain", "py/few", "lib"]);
    let admitted = few["artifacts"].as_array().unwrap().iter().filter(|a| a["verdict"] == "admitted");
    assert_eq!(admitted.map(|a| a["version"].as_str().unwrap()).collect::<Vec<_>>(), ["2.0"]);
    // What the channel cannot answer is not left out of a child without a word.
    let child = ["plan", file, "--channel", "main", "--closure", "main/half"];
    low.run(&child).exits(1).says("would lack it");
    // Behind the gap nobody has the denied records: the same environment solves without them.
    let answer = high.run(&args).exits(1).json();
    assert_eq!(answer["plans"][0]["passes"], json!(true));
    let why = answer["plans"][1]["members"][0]["why"].as_str().unwrap();
    assert_eq!(why, "denied by the sending station, cvss-above-7: PYSEC-7");
    // Without a channel for them, Python packages were not looked at, and that does not pass.
    let answer = high.run(&["--json", "plan", file, "--channel", "main"]).exits(1).json();
    assert_eq!(answer["unanswerable"].as_array().unwrap().len(), 1);
    high.run(&["plan", "/nowhere/environment.yml", "--channel", "main"]).exits(2);
    high.run(&["plan", "app[", "--channel", "main"]).exits(2).says("cannot be solved for");
}

#[tokio::test]
async fn a_lock_file_is_held_against_what_may_be_had_file_by_file() {
    let world = world().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let source = std::fs::read_to_string(world.path("conda").join("noarch/repodata.json")).unwrap();
    let source: Value = serde_json::from_str(&source).unwrap();
    let sha = |file: &str| source["packages.conda"][file]["sha256"].as_str().unwrap().to_owned();
    let lock = |name: &str, lib: &str, hash: &str| {
        let line = |file: &str, hash: &str| format!("https://upstream.example/main/noarch/{file}#{hash}\n");
        let text = "@EXPLICIT\n".to_owned()
            + &line("python-3.11.7-0.conda", &sha("python-3.11.7-0.conda"))
            + &line("app-2.0-0.conda", &sha("app-2.0-0.conda"))
            + &line(lib, hash);
        let path = world.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = lock("good.lock", "lib-2.0-0.conda", &sha("lib-2.0-0.conda"));
    let (status, plan) = planned(&low, &[&good], &[]);
    assert_eq!((status, plan["members"].as_array().unwrap().len()), (0, 3), "{plan}");
    let denied = lock("denied.lock", "lib-2.1-0.conda", &sha("lib-2.1-0.conda"));
    let (status, plan) = planned(&low, &[&denied], &[]);
    assert_eq!((status, plan["members"].as_array().unwrap().len()), (1, 3));
    assert_eq!(plan["nearest"]["asked"][0]["to"], "lib==2.0", "{plan}");
    // Other bytes under the same name are not what was locked.
    let changed = lock("changed.lock", "lib-2.0-0.conda", &"0".repeat(64));
    let (status, plan) = planned(&low, &[&changed], &[]);
    assert_eq!((status, plan["missing"].as_array().unwrap().len()), (1, 1), "{plan}");
    let changed = lock("md5.lock", "lib-2.0-0.conda", &"0".repeat(32));
    let (status, plan) = planned(&low, &[&changed], &[]);
    assert_eq!((status, plan["missing"].as_array().unwrap().len()), (1, 1), "{plan}");
    let md5 = source["packages.conda"]["lib-2.0-0.conda"]["md5"].as_str().unwrap();
    assert_eq!(planned(&low, &[&lock("md5.lock", "lib-2.0-0.conda", md5)], &[]).0, 0);
    // What is for other machines is not looked at.
    let other = world.path("osx.lock");
    std::fs::write(&other, "@EXPLICIT\nhttps://upstream.example/main/osx-64/lib-2.0-0.conda\n").unwrap();
    let plan = ["plan", other.to_str().unwrap(), "--channel", "main", "--platform", "linux-64"];
    low.run(&plan).exits(1).shows("not looked at: linux-64: the lock file is for osx-64 alone");
    std::fs::write(&other, "version: 99\npackages: []\n").unwrap();
    low.run(&plan).exits(2).says("version 99 is not known");
    let empty = world.path("environment.yml");
    std::fs::write(&empty, "dependencies: []\n").unwrap();
    low.run(&["plan", empty.to_str().unwrap(), "--channel", "main"]).exits(2).says("nothing is asked for");
}

/// Environments that solve in the genuine data, the largest of them first.
const ENVIRONMENTS: [&[&str]; 16] = [
    &["intel-aikit-tensorflow"],
    &["intelpython2_full"],
    &["neural-compressor-full"],
    &["tensorflow-hub"],
    &["keras-base"],
    &["pointpats"],
    &["phik"],
    &["baycomp"],
    &["pyspark", "pysal"],
    &["backcall", "neural-compressor-full", "defusedxml"],
    &["numpy <1.22", "pandas"],
    &["python 3.9.*", "scipy"],
    &["python =3.7", "requests"],
    &["tensorflow", "python >=3.13"],
    &["ruamel.yaml", "isodate"],
    &["idna ==3.4", "requests <2.29"],
];

#[test]
fn genuine_environments_are_solved_as_rattler_solves_them() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/conda/repodata");
    let Some(python) = python() else { return };
    if !data.exists() {
        airlock_testkit::skipped(&format!("no genuine records at {}", data.display()));
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    for subdir in ["linux-64", "noarch"] {
        let mut unpack = Command::new("gzip");
        unpack.arg("-dc").arg(data.join(subdir).join("repodata.json.gz"));
        std::fs::create_dir_all(source.join(subdir)).unwrap();
        std::fs::write(source.join(subdir).join("repodata.json"), succeeds(unpack).stdout).unwrap();
    }
    let station = Station { dir: scratch.path().join("station") };
    airlock(&["init", station.dir.to_str().unwrap(), "--now", NOW]).exits(0);
    let source = source.to_str().unwrap();
    let add = ["channel", "add", "main", "--ecosystem", "conda", "--source", source, "--subdir", "linux-64"];
    station.run(&add).exits(0);
    // The files are not there, so that nothing is offered: what people would get is solved all the same.
    station.run(&["sync", "main"]);
    let plans: Vec<Value> = ENVIRONMENTS.iter().map(|asked| planned(&station, asked, &[]).1).collect();
    let asked: Vec<Vec<&str>> = ENVIRONMENTS.iter().map(|asked| asked.to_vec()).collect();
    let expected = rattler(&python, &format!("file://{source}"), &plans[0]["virtual_packages"], "", &asked);
    for ((asked, plan), expected) in ENVIRONMENTS.iter().zip(&plans).zip(&expected) {
        assert_eq!(&texts(&plan["members"]), expected, "{asked:?}");
    }
    assert!(expected.iter().filter(|files| !files.is_empty()).count() >= 12, "{expected:?}");
    assert!(expected[0].len() > 150, "{:?}", expected[0]);
}
