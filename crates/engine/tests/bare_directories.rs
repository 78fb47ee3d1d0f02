//! Directories of packages without an index are sources: their records are made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Fault;
use airlock_core::snapshot::Upstream;
use airlock_engine::judge::{self, How};
use airlock_engine::view::FileAnswer;
use airlock_engine::{channel, fetch, index, mirror, trees};
use airlock_testkit::{Kit, conda, sdist, wheel};
use serde_json::{Value, json};

fn put(kit: &Kit, folder: &str, version: &str, name: &str) -> String {
    let package = conda(name, version);
    let file = package.file_name("conda");
    kit.write(&format!("{folder}/noarch/{file}"), &package.conda().unwrap());
    file
}

async fn serves(kit: &Kit, channel: &str, key: &str, file: &str) -> bool {
    let view = kit.view();
    let channel = view.channel(channel).await.unwrap().unwrap();
    matches!(view.file(&channel, key, file).await.unwrap(), FileAnswer::Serve(_))
}

/// The published records by file.
async fn records(kit: &Kit, name: &str) -> BTreeMap<String, Value> {
    let db = &kit.station.store.db;
    let channel = kit.view().channel(name).await.unwrap().unwrap();
    let ids: Vec<_> = trees::load(db, channel.snapshot.content).await.unwrap().into_values().collect();
    let shards: std::collections::HashMap<_, airlock_core::shard::Shard> =
        trees::objects(db, &ids).await.unwrap();
    let mut out = BTreeMap::new();
    for shard in shards.into_values() {
        out.extend(shard.entries.into_iter().map(|(file, e)| (file, e.record.read().unwrap())));
    }
    out
}

#[tokio::test]
async fn packages_in_a_bare_directory_are_judged_fetched_and_served() {
    let kit = Kit::new(&[]).await;
    let odd = put(&kit, "source", "1!2.0+local_3", "x");
    put(&kit, "source", "1.0", "plain");
    kit.write("source/noarch/broken-1-0.conda", b"no package");
    kit.add_channel("main", Ecosystem::Conda, &kit.path().join("source"), &[]).await;
    let outcome = kit.sync("main").await;
    assert_eq!((outcome.records, outcome.counts.admit, outcome.bad_count), (2, 2, 1));
    assert_eq!(
        (outcome.bad[0].index.as_str(), outcome.bad[0].file.as_str()),
        ("noarch/", "noarch/broken-1-0.conda")
    );
    assert!(outcome.fetched.faults.is_empty(), "{:?}", outcome.fetched.faults);
    assert!(serves(&kit, "main", "noarch/x", &odd).await);
    let package = conda("x", "1!2.0+local_3");
    assert_eq!(records(&kit, "main").await[&odd], package.record(&package.conda().unwrap()));
}

#[tokio::test]
async fn wheels_in_a_bare_directory_are_served_without_a_time_that_nobody_knows() {
    let kit = Kit::new(&[]).await;
    let (wheel, sdist) = (wheel("Air.Demo", "1.2+local"), sdist("other", "2.0"));
    kit.write(&format!("source/{}", wheel.file_name()), &wheel.bytes().unwrap());
    kit.write(&format!("source/other/{}", sdist.file_name()), &sdist.bytes().unwrap());
    kit.add_channel("py", Ecosystem::Pypi, &kit.path().join("source"), &[]).await;
    let outcome = kit.sync("py").await;
    assert_eq!((outcome.records, outcome.counts.admit, outcome.bad_count), (2, 2, 0), "{:?}", outcome.bad);
    let records = records(&kit, "py").await;
    let record = &records[&wheel.file_name()];
    assert_eq!((&record["requires-python"], record.get("upload-time")), (&json!(">=3.8"), None));
    assert_eq!(record["core-metadata"]["sha256"].as_str().map(str::len), Some(64));
    assert!(serves(&kit, "py", "other", &sdist.file_name()).await);
}

#[tokio::test]
async fn where_an_index_lies_it_counts() {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("listed", "1.0"), &json!({}));
    source.write();
    put(&kit, "source", "1.0", "unlisted");
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    assert_eq!(kit.sync("main").await.records, 1);
}

#[tokio::test]
async fn a_directory_with_neither_index_nor_package_is_an_error() {
    let kit = Kit::new(&[]).await;
    kit.write("source/noarch/README.txt", b"nothing yet");
    let made = kit.add_channel("main", Ecosystem::Conda, &kit.path().join("source"), &["linux-64"]).await;
    let error =
        mirror::mirror(&kit.station, &made, &mirror::Origin::of(&made).unwrap(), false).await.unwrap_err();
    assert!(error.message.contains("neither an index nor a package"), "{error}");
}

#[tokio::test]
async fn only_files_of_wanted_names_are_opened() {
    let kit = Kit::new(&[]).await;
    put(&kit, "source", "1.0", "wanted");
    put(&kit, "source", "2.0", "wanted");
    kit.write("source/noarch/other-1.0-0.conda", b"not even a package");
    let feed = ChannelFeed::Source {
        location: kit.path().join("source").display().to_string(),
        subdirs: Vec::new(),
        only: vec!["wanted>=2".to_owned()],
        exclude: Vec::new(),
    };
    let made = Channel { name: "main".into(), ecosystem: Ecosystem::Conda, feed, policy: "default".into() };
    channel::add(&kit.station, made).await.unwrap();
    let outcome = kit.sync("main").await;
    assert_eq!((outcome.records, outcome.bad_count), (1, 0));
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_read_is_refused_and_named() {
    let kit = Kit::new(&[]).await;
    let same_size = put(&kit, "source", "1.0", "aaa");
    let longer = put(&kit, "source", "1.0", "bbb");
    let gone = put(&kit, "source", "1.0", "ccc");
    let pipe = put(&kit, "source", "1.0", "ddd");
    let made = kit.add_channel("main", Ecosystem::Conda, &kit.path().join("source"), &[]).await;
    let (upstream, state, _) =
        mirror::mirror(&kit.station, &made, &mirror::Origin::of(&made).unwrap(), false).await.unwrap();
    let noarch = kit.path().join("source/noarch");
    let mut bytes = std::fs::read(noarch.join(&same_size)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(noarch.join(&same_size), &bytes).unwrap();
    bytes.extend(&bytes.clone());
    std::fs::write(noarch.join(&longer), &bytes).unwrap();
    std::fs::remove_file(noarch.join(&gone)).unwrap();
    std::fs::remove_file(noarch.join(&pipe)).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, noarch.join(&pipe), kind, 0o600.into(), 0).unwrap();
    let how = How { for_fetch: true, ..How::default() };
    let judgment = judge::judge(&kit.station, &made, &how, Some(upstream)).await.unwrap();
    let fetched =
        fetch::fetch(&kit.station, &made, &mirror::Origin::of(&made).unwrap(), (upstream, &state), &judgment)
            .await
            .unwrap();
    let faults: BTreeMap<_, _> = fetched.faults.into_iter().collect();
    assert_eq!((fetched.files, faults.len()), (0, 4));
    assert!(matches!(&faults[&same_size], Fault::Mismatch(why) if why.contains(&same_size)));
    assert!(matches!(&faults[&longer], Fault::Fetch(why) if why.contains("larger")));
    assert!(matches!(&faults[&gone], Fault::Fetch(why) if why.contains(&gone)));
    assert!(matches!(&faults[&pipe], Fault::Fetch(why) if why.contains("no regular file")));
}

async fn tree(kit: &Kit, name: &str) -> Upstream {
    let made = channel::find(&kit.station, name).await.unwrap();
    let (id, ..) =
        mirror::mirror(&kit.station, &made, &mirror::Origin::of(&made).unwrap(), false).await.unwrap();
    kit.station.store.db.get(id).await.unwrap()
}

#[tokio::test]
async fn the_index_that_is_written_says_what_the_directory_says() {
    let kit = Kit::new(&[]).await;
    put(&kit, "source", "1!2.0", "one");
    put(&kit, "source", "1.0", "two");
    let classic = conda("three", "1.0");
    kit.write("source/noarch/three-1.0-0.tar.bz2", &classic.tar_bz2().unwrap());
    kit.write("source/noarch/broken-1-0.conda", b"no package");
    let source = kit.path().join("source");
    let bare = kit.add_channel("bare", Ecosystem::Conda, &source, &["linux-64"]).await;
    let of_directory = tree(&kit, &bare.name).await;

    let out = kit.path().join("out");
    let done = index::index(&source, &out, 2).await.unwrap();
    assert_eq!((done.len(), done[0].packages, done[0].bad_count), (1, 3, 1));
    kit.add_channel("indexed", Ecosystem::Conda, &out, &["linux-64"]).await;
    assert_eq!(tree(&kit, "indexed").await.tree, of_directory.tree);
    std::fs::remove_file(out.join("noarch/repodata.json")).unwrap();
    std::fs::remove_file(out.join("noarch/repodata.json.zst")).unwrap();
    assert_eq!(tree(&kit, "indexed").await.tree, of_directory.tree);

    let files = || {
        let read = std::fs::read_dir(out.join("noarch")).unwrap().map(|e| e.unwrap());
        read.filter(|e| !e.file_name().to_str().unwrap().starts_with('.') && e.path().is_file())
            .map(|e| (e.file_name(), std::fs::read(e.path()).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    index::index(&source, &out, 1).await.unwrap();
    let first = files();
    assert_eq!(first.len(), 3);
    index::index(&source, &out, 3).await.unwrap();
    assert_eq!(files(), first);
}

#[tokio::test]
async fn an_index_is_made_anew_over_an_old_one_and_never_through_a_link() {
    let kit = Kit::new(&[]).await;
    put(&kit, "source", "1.0", "one");
    let outside = kit.write("outside.json", b"of somebody");
    let noarch = kit.path().join("source/noarch");
    std::os::unix::fs::symlink(&outside, noarch.join("repodata.json")).unwrap();
    index::index(&kit.path().join("source"), &kit.path().join("source"), 2).await.unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"of somebody");
    let written: Value =
        serde_json::from_slice(&std::fs::read(noarch.join("repodata.json")).unwrap()).unwrap();
    assert!(written["packages.conda"]["one-1.0-0.conda"].is_object());

    std::fs::remove_dir_all(noarch.join("shards")).unwrap();
    std::os::unix::fs::symlink(kit.path(), noarch.join("shards")).unwrap();
    let refused = index::index(&kit.path().join("source"), &kit.path().join("source"), 2).await;
    assert!(refused.unwrap_err().message.contains("is a link"));
}

/// Makes packages of every odd kind below `sys.argv[1]` and has `rattler_index` write the index.
const RATTLER: &str = r#"
import asyncio, bz2, io, json, os, sys, tarfile
from rattler.index import index_fs
root = sys.argv[1]
def put(name, more_files=(), subdir="noarch", **more):
    said = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": subdir,
            "noarch": "generic", "timestamp": 1760000000000, "license": "MIT"}
    said.update(more)
    said = {k: v for k, v in said.items() if v != "ABSENT"}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, data in [("a", b"x"), ("info/index.json", json.dumps(said).encode()), *more_files]:
            entry = tarfile.TarInfo(path); entry.size = len(data); tar.addfile(entry, io.BytesIO(data))
    os.makedirs(f"{root}/{subdir}", exist_ok=True)
    with open(f"{root}/{subdir}/{name}-{said['version']}-{said['build']}.tar.bz2", "wb") as out:
        out.write(bz2.compress(raw.getvalue()))
put("nulls", arch=None, platform=None, license=None, features=None, purls=None, noarch=None, timestamp=None)
put("unknown", foo={"bar": [1, None]}, app_type="web", license_url="x")
put("untimed", timestamp="ABSENT")
put("seconds", timestamp=1500000000)
put("nosubdir", **{"subdir": "noarch"})
put("noarchtrue", noarch=True)
put("noarchempty", noarch="")
put("noarchnone", noarch="ABSENT")
put("features", features="mkl", track_features="a b")
put("tracks", track_features=["a", "b"])
put("purls", purls=["pkg:pypi/purls@1.0"])
put("exports", [("info/run_exports.json", b'{"weak":["x >=1"]}')])
put("exportsin", run_exports={"weak": ["a"]})
put("legacy", legacy_bz2_md5="00" * 16, legacy_bz2_size=5, md5="11" * 16, sha256="22" * 32, size=3,
    url="https://elsewhere.example/x.conda", indexed_timestamp=1, fn="z")
put("deps", depends=["python >=3.8", "numpy 1.2.*"], constrains=["a <3"])
put("twice", depends=["b", "a", "b"])
put("nodepends", depends="ABSENT")
put("epoch", version="1!2.0+local")
put("upper", version="1.0RC1")
put("family", license_family="MIT", python_site_packages_path="lib/x")
put("v3when", depends=["foo[when=\"python\"]"])
put("v3extras", depends=["foo[extras=[a]]"])
put("Capital")
put("abi3", subdir="linux-64", noarch="python")
put("plat", subdir="linux-64", noarch="ABSENT", arch="x86_64", platform="linux")
asyncio.run(index_fs(root, force=True))
# Its threads may outlive the interpreter, which dies of that now and then.
os._exit(0)
"#;

/// The tables of an index, and what the documentation says is different taken out.
fn tables(path: &Path) -> BTreeMap<String, Value> {
    let index: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut out = BTreeMap::new();
    let tables =
        [&index["packages"], &index["packages.conda"], &index["v3"]["tar.bz2"], &index["v3"]["conda"]];
    for (file, record) in tables.iter().filter_map(|t| t.as_object()).flatten() {
        let mut record = record.clone();
        let keys = record.as_object_mut().unwrap();
        for dropped in ["indexed_timestamp", "run_exports", "foo", "app_type", "license_url"] {
            keys.remove(dropped);
        }
        keys.retain(|key, value| !(value.is_null() || key == "noarch" && value == ""));
        if let Some(Value::Array(list)) = keys.get("track_features") {
            let joined: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            keys.insert("track_features".into(), joined.join(" ").into());
        }
        out.insert(file.clone(), record);
    }
    out
}

#[tokio::test]
async fn the_records_of_a_directory_are_those_that_rattler_makes() {
    let Some(python) = std::env::var_os("AIRLOCK_TEST_PYTHON") else {
        airlock_testkit::skipped(
            "no rattler_index, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it",
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    for package in [conda("small", "1.0"), conda("other", "2.0")] {
        let path = source.join("noarch").join(package.file_name("conda"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, package.conda().unwrap()).unwrap();
    }
    let made = Command::new(python).arg("-c").arg(RATTLER).arg(&source).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let done = index::index(&source, &out, 2).await.unwrap();
    assert_eq!(done.iter().map(|i| i.bad_count).sum::<u64>(), 0, "{done:?}");
    assert_eq!(done.iter().map(|i| i.packages).sum::<u64>(), 27);
    for subdir in ["noarch", "linux-64"] {
        let [theirs, ours] = [&source, &out].map(|root| tables(&root.join(subdir).join("repodata.json")));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (file, record) in &theirs {
            assert_eq!(&ours[file], record, "{file}");
        }
    }
}
