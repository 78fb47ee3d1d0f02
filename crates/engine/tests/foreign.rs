//! Trees that people carry already are taken in: recognised, inspected, pinned, judged, and replaced by newer ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Fault;
use airlock_core::id::Id;
use airlock_core::roles::{Grant, Role};
use airlock_engine::bundle::scan::Importing;
use airlock_engine::error::{Error, Kind as Fails};
use airlock_engine::foreign::{self, Kind, Report, Wish};
use airlock_engine::mirror::MirrorState;
use airlock_engine::people::{self, Login};
use airlock_engine::view::FileAnswer;
use airlock_engine::{channel, gc, policy, sync};
use airlock_store::RefChange;
use airlock_testkit::archives::{gzip, tar, zip};
use airlock_testkit::{Kit, conda, osv, sdist, wheel};
use serde_json::{Value, json};

fn wish(channel: &str) -> Wish {
    Wish { channel: channel.to_owned(), ..Wish::default() }
}

async fn take(kit: &Kit, path: &str, channel: &str) -> Result<Report, Error> {
    foreign::import(&kit.station, &[kit.path().join(path)], &wish(channel)).await
}

async fn serves(kit: &Kit, channel: &str, key: &str, file: &str) -> bool {
    let view = kit.view();
    let channel = view.channel(channel).await.unwrap().unwrap();
    matches!(view.file(&channel, key, file).await.unwrap(), FileAnswer::Serve(_))
}

/// What can be seen to change: all refs, and how long the ledger is.
async fn state(kit: &Kit) -> (Value, u64) {
    let db = &kit.station.store.db;
    let refs: Vec<String> = db.refs("").await.unwrap().iter().map(|r| format!("{r:?}")).collect();
    (json!(refs), db.ledger_head().await.unwrap().number)
}

/// What was unpacked and is not gone.
fn left_behind(kit: &Kit) -> usize {
    std::fs::read_dir(kit.station.dir.join("cache/trees")).into_iter().flatten().count()
}

fn put(kit: &Kit, folder: &str, name: &str, version: &str) -> String {
    let package = conda(name, version);
    let file = package.file_name("conda");
    kit.write(&format!("{folder}/noarch/{file}"), &package.conda().unwrap());
    file
}

/// A folder as the members of an archive.
fn members(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut out, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                out.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    out.sort();
    out
}

fn packed(dir: &Path, below: &str) -> Vec<u8> {
    let members = members(dir);
    let named: Vec<(String, &[u8])> =
        members.iter().map(|(name, bytes)| (format!("{below}{name}"), bytes.as_slice())).collect();
    tar(&named.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect::<Vec<_>>())
}

/// A mirror as bandersnatch keeps it.
fn bandersnatch(kit: &Kit, dir: &str) -> String {
    let project = wheel("idna", "3.10");
    let (file, bytes) = (project.file_name(), project.bytes().unwrap());
    let hash = airlock_core::id::Digest::of(&bytes).to_string();
    let place = format!("packages/{}/{}/{}/{file}", &hash[..2], &hash[2..4], &hash[4..]);
    kit.write(&format!("{dir}/web/{place}"), &bytes);
    let page = format!(
        "<!DOCTYPE html>\n<html>\n  <head>\n    <meta name=\"pypi:repository-version\" content=\"1.0\">\n    <title>Links for idna</title>\n  </head>\n  \
         <body>\n    <h1>Links for idna</h1>\n    <a href=\"../../{place}#sha256={hash}\" data-requires-python=\"&gt;=3.8\">{file}</a><br/>\n  </body>\n</html>\n<!--SERIAL 1-->"
    );
    kit.write(&format!("{dir}/web/simple/idna/index.html"), page.as_bytes());
    let list = "<!DOCTYPE html>\n<html>\n  <body>\n    <a href=\"idna/\">idna</a><br/>\n  </body>\n</html>";
    kit.write(&format!("{dir}/web/simple/index.html"), list.as_bytes());
    kit.write(&format!("{dir}/status"), b"1");
    file
}

#[tokio::test]
async fn each_kind_of_tree_is_taken_in_and_served_when_its_medium_is_gone() {
    let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "bad", "2", 7.5)]).await;
    let mut source = kit.conda_source("media/static");
    source.add(&conda("a", "1.0"), &json!({}));
    source.index("noarch")["info"]["base_url"] = json!("https://upstream.example/main/noarch/");
    source.write();
    let file = conda("a", "1.0").file_name("conda");
    let mut folder = wheel("idna", "3.10");
    kit.write("media/wheels/idna-3.10-py3-none-any.whl", &folder.bytes().unwrap());
    folder = wheel("bad", "1.0");
    kit.write("media/wheels/bad-1.0-py3-none-any.whl", &folder.bytes().unwrap());
    kit.write("media/wheels/leaf-1.5.tar.gz", &sdist("leaf", "1.5").bytes().unwrap());
    let mirrored = bandersnatch(&kit, "media/mirror");
    let pack = kit.path().join("pack");
    let says = r#"{"version": "1", "pixi-pack-version": "0.7.3", "platform": "linux-64"}"#;
    kit.write("pack/pixi-pack.json", says.as_bytes());
    kit.write("pack/environment.yml", b"channels:\n- ./channel\n");
    kit.write("pack/pypi/idna-3.10-py3-none-any.whl", &wheel("idna", "3.10").bytes().unwrap());
    kit.write(&format!("pack/channel/noarch/{file}"), &conda("a", "1.0").conda().unwrap());
    kit.write("media/environment.tar", &packed(&pack, ""));
    kit.write("media/main-noarch.tar.gz", &gzip(&packed(&kit.path().join("media/static"), "main/pkgs/")));

    for (path, name, kind, records) in [
        ("media/static", "static", Kind::CondaChannel, 1),
        ("media/wheels", "wheels", Kind::PipDownload, 3),
        ("media/mirror", "mirror", Kind::Bandersnatch, 1),
        ("media/environment.tar", "packed", Kind::PixiPack, 1),
        ("media/main-noarch.tar.gz", "airgap", Kind::AirGapArchive, 1),
    ] {
        let report = take(&kit, path, name).await.unwrap();
        assert!(report.is_new && report.kind == kind, "{report:?}");
        assert_eq!((report.outcome.records, report.outcome.bad_count), (records, 0), "{report:?}");
        assert!(report.outcome.fetched.faults.is_empty(), "{report:?}");
        assert_eq!(report.archives.len(), usize::from(path.contains(".tar")), "{path}");
        if kind == Kind::PixiPack {
            let left = report.left.unwrap();
            assert_eq!((left.ecosystem, left.files), (Ecosystem::Pypi, 1));
        }
    }
    let wheels = Wish { ecosystem: Some(Ecosystem::Pypi), ..wish("packed-py") };
    let paths = [kit.path().join("media/environment.tar")];
    let report = foreign::import(&kit.station, &paths, &wheels).await.unwrap();
    assert_eq!((report.outcome.records, report.left.unwrap().ecosystem), (1, Ecosystem::Conda));
    let digest = airlock_core::id::Digest::of(&std::fs::read(&paths[0]).unwrap());
    assert_eq!(report.archives[0].sha256, digest);

    std::fs::remove_dir_all(kit.path().join("media")).unwrap();
    let view = kit.view();
    for (name, key, file) in [
        ("static", "noarch/a", file.as_str()),
        ("packed", "noarch/a", &file),
        ("airgap", "noarch/a", &file),
        ("wheels", "idna", &mirrored),
        ("wheels", "leaf", "leaf-1.5.tar.gz"),
        ("mirror", "idna", &mirrored),
        ("packed-py", "idna", &mirrored),
    ] {
        kit.judge(name).await;
        assert!(serves(&kit, name, key, file).await, "{name} {file}");
    }
    let wheels = view.channel("wheels").await.unwrap().unwrap();
    let answer = view.file(&wheels, "bad", "bad-1.0-py3-none-any.whl").await.unwrap();
    assert!(!matches!(answer, FileAnswer::Serve(_)), "what is vulnerable is judged as anywhere");
    assert_eq!(left_behind(&kit), 0);
}

#[tokio::test]
async fn a_sync_without_the_medium_says_so_and_changes_nothing() {
    let kit = Kit::new(&[]).await;
    put(&kit, "tree", "a", "1.0");
    take(&kit, "tree", "main").await.unwrap();
    let before = state(&kit).await;
    let main = channel::find(&kit.station, "main").await.unwrap();
    let error = sync::sync(&kit.station, &main, sync::Wish::default()).await.unwrap_err();
    assert!(error.kind == Fails::Usage && error.message.contains("people bring its trees"), "{error}");
    assert!(error.hint.unwrap().contains("airlock import PATH --channel main"));
    assert_eq!(state(&kit).await, before);
    assert!(sync::sourced(&kit.station).await.unwrap().is_empty(), "a sync of all passes it over");
}

#[tokio::test]
async fn what_is_held_comes_too_since_the_medium_is_gone_when_somebody_lets_it_in() {
    let kit =
        Kit::new(&[osv("PYSEC-1", "PyPI", "unscored", "2", 0.0), osv("PYSEC-2", "PyPI", "bad", "2", 7.5)])
            .await;
    for name in ["unscored", "bad"] {
        let file = wheel(name, "1.0").file_name();
        kit.write(&format!("tree/{file}"), &wheel(name, "1.0").bytes().unwrap());
    }
    let report = take(&kit, "tree", "py").await.unwrap();
    assert_eq!((report.outcome.counts.hold, report.outcome.counts.deny), (1, 1));
    assert_eq!(report.outcome.fetched.files, 1, "what is denied stays outside");
    std::fs::remove_dir_all(kit.path().join("tree")).unwrap();
    assert!(!serves(&kit, "py", "unscored", "unscored-1.0-py3-none-any.whl").await);
    kit.know(&[]).await;
    kit.judge("py").await;
    assert!(serves(&kit, "py", "unscored", "unscored-1.0-py3-none-any.whl").await);
    assert!(!serves(&kit, "py", "bad", "bad-1.0-py3-none-any.whl").await, "its bytes never came");
}

#[tokio::test]
async fn a_newer_tree_replaces_what_the_last_one_listed_and_a_changed_file_is_an_alarm() {
    let kit = Kit::new(&[]).await;
    let kept = put(&kit, "tree", "kept", "1.0");
    let gone = put(&kit, "tree", "gone", "1.0");
    take(&kit, "tree", "main").await.unwrap();
    assert!(serves(&kit, "main", "noarch/gone", &gone).await);

    let new = put(&kit, "newer", "new", "1.0");
    put(&kit, "newer", "kept", "1.0");
    let report = take(&kit, "newer", "main").await.unwrap();
    assert!(!report.is_new);
    assert_eq!((report.outcome.records, report.outcome.fetched.files), (2, 1));
    assert!(serves(&kit, "main", "noarch/new", &new).await);
    assert!(serves(&kit, "main", "noarch/kept", &kept).await);
    let (records, again) = (2, take(&kit, "newer", "main").await.unwrap().outcome);
    assert_eq!(
        (again.records, again.fetched.files, again.snapshot),
        (records, 0, None),
        "the same is nothing new"
    );

    let mut other = conda("kept", "1.0");
    other.files = &[("share/a.txt", b"something else\n")];
    kit.write(&format!("newer/noarch/{kept}"), &other.conda().unwrap());
    let report = take(&kit, "newer", "main").await.unwrap();
    assert_eq!(report.outcome.counts.deny, 1, "{report:?}");
    assert!(!serves(&kit, "main", "noarch/kept", &kept).await);
}

#[tokio::test]
async fn a_tree_that_lists_less_than_half_waits_for_a_person() {
    let kit = Kit::new(&[]).await;
    for n in 0..24 {
        put(&kit, "tree", &format!("p{n}"), "1.0");
    }
    take(&kit, "tree", "main").await.unwrap();
    put(&kit, "less", "p0", "1.0");
    let before = state(&kit).await;
    let error = take(&kit, "less", "main").await.unwrap_err();
    assert!(error.kind == Fails::Unsafe && error.message.contains("lists 1 names"), "{error}");
    assert_eq!(state(&kit).await, before);
    let wish = Wish { accept_shrink: true, ..wish("main") };
    // Also where a program before this one remembered the reading, by the whole of the channel's definition.
    let (db, name) = (&kit.station.store.db, "channel/main/mirror".to_owned());
    let from = db.find_ref(&name).await.unwrap();
    let mut remembered: MirrorState = db.get(Id::new(from.unwrap())).await.unwrap();
    remembered.definition = db.find_ref("channel/main/def").await.unwrap();
    let to = Some(db.put(&remembered).await.unwrap().digest());
    assert_ne!(from, to);
    kit.station.commit(vec![RefChange { name, from, to }], "test", "main", &json!({})).await.unwrap();
    let error = take(&kit, "less", "main").await.unwrap_err();
    assert!(error.message.contains("lists 1 names"), "{error}");
    take(&kit, "tree", "main").await.unwrap();
    // Another policy rules what is listed, and changes nothing in what is asked of whom.
    policy::set(&kit.station, "other", airlock_core::policy::DEFAULT).await.unwrap();
    channel::set_policy(&kit.station, "main", "other").await.unwrap();
    let error = take(&kit, "less", "main").await.unwrap_err();
    assert!(error.kind == Fails::Unsafe && error.message.contains("lists 1 names"), "{error}");
    let report = foreign::import(&kit.station, &[kit.path().join("less")], &wish).await.unwrap();
    assert_eq!(report.outcome.records, 1);
}

#[tokio::test]
async fn what_a_killed_unpacking_left_is_collected_and_what_somebody_works_on_is_not() {
    let kit = Kit::new(&[]).await;
    for n in 0..3 {
        kit.write(&format!("station/cache/trees/0123456789ab/0/noarch/left-{n}-0.conda"), b"four");
    }
    kit.write("station/cache/trees/ba9876543210/0/noarch/busy-1-0.conda", b"four");
    let how = |dry| gc::How { dry, grace: gc::GRACE, now: std::time::SystemTime::now() };
    let busy = kit.station.lease("tree/ba9876543210", "import").await.unwrap();
    for dry in [true, false] {
        let report = gc::gc(&kit.station, how(dry)).await.unwrap();
        assert_eq!((report.unpacked_removed, report.unpacked_bytes), (3, 12));
        assert_eq!(left_behind(&kit), 1 + usize::from(dry));
    }
    drop(busy);
    let report = gc::gc(&kit.station, how(false)).await.unwrap();
    assert_eq!((report.unpacked_removed, left_behind(&kit)), (1, 0));
    // Whoever unpacks has that lease.
    put(&kit, "tree", "a", "1.0");
    let short = airlock_core::id::Digest::of(b"main").short();
    let busy = kit.station.lease(&format!("tree/{short}"), "import").await.unwrap();
    let error = take(&kit, "tree", "main").await.unwrap_err();
    assert!(error.message.contains("is being changed by"), "{error}");
    drop(busy);
    take(&kit, "tree", "main").await.unwrap();
}

#[tokio::test]
async fn archives_of_one_channel_come_together_and_each_subdir_once() {
    let kit = Kit::new(&[]).await;
    let mut linux = conda("b", "1.0");
    linux.subdir = "linux-64";
    let file = linux.file_name("conda");
    kit.write(&format!("linux/linux-64/{file}"), &linux.conda().unwrap());
    put(&kit, "noarch", "a", "1.0");
    let archive = |dir: &str, below: &str| {
        kit.write(&format!("{dir}.tar.gz"), &gzip(&packed(&kit.path().join(dir), below)))
    };
    let paths = vec![archive("linux", "main/pkgs/"), archive("noarch", "./")];
    // What an import left that was killed.
    let short = airlock_core::id::Digest::of(b"main").short();
    kit.write(&format!("station/cache/trees/{short}/0/noarch/left-1-0.conda"), b"x");
    let report = foreign::import(&kit.station, &paths, &wish("main")).await.unwrap();
    assert_eq!((report.kind, report.outcome.records, report.archives.len()), (Kind::AirGapArchive, 2, 2));
    assert!(serves(&kit, "main", "linux-64/b", &file).await);
    assert_eq!(left_behind(&kit), 0);

    let before = state(&kit).await;
    let twice: Vec<PathBuf> = paths.iter().chain(&paths[..1]).cloned().collect();
    let error = foreign::import(&kit.station, &twice, &wish("main")).await.unwrap_err();
    assert!(error.message.contains("several of the archives hold `linux-64`"), "{error}");
    assert_eq!((state(&kit).await, left_behind(&kit)), (before, 0));
    // A subdir that did not come this time stays one of the channel's.
    foreign::import(&kit.station, &paths[1..], &wish("main")).await.unwrap();
    let newest = kit.view().channel("main").await.unwrap().unwrap().newest.clone();
    assert!(newest.subdirs.contains_key("linux-64"), "{newest:?}");
    assert!(!serves(&kit, "main", "linux-64/b", &file).await);
}

/// One member of a tar archive as an attacker writes it.
fn member(name: &str, kind: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut out = [&header, bytes].concat();
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[tokio::test]
async fn hostile_archives_are_refused_and_nothing_is_changed() {
    let kit = Kit::new(&[]).await;
    let honest = {
        put(&kit, "tree", "a", "1.0");
        packed(&kit.path().join("tree"), "")
    };
    let end = honest.len() - 1024;
    let with = |more: Vec<u8>| [&more, &honest[..end], &[0; 1024]].concat();
    let file = |name: &str| member(name, b'0', "", b"x");
    let bomb = tar(&[("noarch/big-1-0.conda", &vec![0; 80 << 20])]);
    let bomb = zstd::encode_all(bomb.as_slice(), 3).unwrap();
    let random: Vec<u8> =
        (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let whole = gzip(&tar(&[("noarch/a-1-0.conda", &random)]));
    let rows: [(&str, Vec<u8>, &str, Fails); 17] = [
        ("up", with(file("../evil")), "unsafe name", Fails::Unsafe),
        ("up-below", with(file("noarch/../../evil")), "unsafe name", Fails::Unsafe),
        ("absolute", with(file("/tmp/evil-of-a-test")), "unsafe name", Fails::Unsafe),
        ("backslash", with(file("noarch\\evil")), "unsafe name", Fails::Unsafe),
        ("drive", with(file("c:evil")), "unsafe name", Fails::Unsafe),
        ("symlink", with(member("noarch", b'2', "/tmp", b"")), "links to", Fails::Unsafe),
        ("symlink-out", with(member("noarch/x", b'2', "../../tmp", b"")), "links to", Fails::Unsafe),
        ("symlink-within", with(member("x", b'2', "noarch", b"")), "is a link", Fails::Unsafe),
        ("hardlink", with([file("x"), member("y", b'1', "x", b"")].concat()), "is a link", Fails::Unsafe),
        ("fifo", with(member("x", b'6', "", b"")), "a fifo", Fails::Unsafe),
        ("device", with(member("x", b'3', "", b"")), "device", Fails::Unsafe),
        ("twice", with([file("noarch/x"), file("noarch/x")].concat()), "twice", Fails::Unsafe),
        ("file-and-folder", with([file("x"), file("x/y")].concat()), "twice", Fails::Unsafe),
        ("bomb", bomb, "times its size", Fails::Unsafe),
        ("cut", whole[..whole.len() / 2].to_vec(), "ends too early", Fails::Fault),
        ("cut-tar", honest[..700].to_vec(), "ends too early", Fails::Fault),
        ("zip", zip(&[("noarch/a-1-0.conda", b"x")]), "is a zip archive", Fails::Usage),
    ];
    let before = state(&kit).await;
    for (name, bytes, says, kind) in rows {
        let path = kit.write(&format!("hostile/{name}.tar"), &bytes);
        let error = take(&kit, &format!("hostile/{name}.tar"), "main").await.unwrap_err();
        assert!(error.message.contains(says) && error.kind == kind, "{name}: {error:?}");
        assert_eq!(std::fs::read(path).unwrap(), bytes, "{name}");
        assert_eq!((state(&kit).await, left_behind(&kit)), (before.clone(), 0), "{name}");
    }
    for (name, bytes) in
        [("empty", Vec::new()), ("text", b"no archive".repeat(100)), ("strange", tar(&[("a/b", b"x")]))]
    {
        kit.write(&format!("hostile/{name}"), &bytes);
        let error = take(&kit, &format!("hostile/{name}"), "main").await.unwrap_err();
        assert!(error.kind == Fails::Usage && error.hint.unwrap().contains("looked for"), "{name}");
        assert_eq!((state(&kit).await, left_behind(&kit)), (before.clone(), 0), "{name}");
    }
    assert!(!Path::new("/tmp/evil-of-a-test").exists() && !kit.path().join("evil").exists());
    kit.write("honest.tar", &with(file("README")));
    assert_eq!(
        take(&kit, "honest.tar", "main").await.unwrap().outcome.records,
        1,
        "the rest of each was in order"
    );
}

#[tokio::test]
async fn no_link_of_a_tree_leads_out_of_it() {
    let kit = Kit::new(&[]).await;
    let file = put(&kit, "secret", "a", "1.0");
    let mut source = kit.conda_source("tree");
    source.add(&conda("a", "1.0"), &json!({}));
    source.write();
    let inside = kit.path().join("tree/noarch").join(&file);
    std::fs::remove_file(&inside).unwrap();
    std::os::unix::fs::symlink(kit.path().join("secret/noarch").join(&file), &inside).unwrap();
    let report = take(&kit, "tree", "main").await.unwrap();
    let faults = &report.outcome.fetched.faults;
    assert!(
        matches!(faults.as_slice(), [(_, Fault::Fetch(why))] if why.contains("outside of its source")),
        "{faults:?}"
    );
    assert!(!serves(&kit, "main", "noarch/a", &file).await);
    let linked = kit.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(kit.path().join("secret"), linked.join("only")).unwrap();
    let error = take(&kit, "linked", "linked").await.unwrap_err();
    assert!(error.kind == Fails::Unsafe && error.message.contains("leads out"), "{error}");
    std::fs::remove_file(kit.path().join("tree/noarch/repodata.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", kit.path().join("tree/noarch/repodata.json")).unwrap();
    let error = take(&kit, "tree", "other").await.unwrap_err();
    assert!(error.message.contains("outside of its source"), "{error}");
}

#[tokio::test]
async fn trees_never_mix_with_other_sources_and_a_frozen_channel_takes_none() {
    let kit = Kit::new(&[]).await;
    put(&kit, "tree", "a", "1.0");
    kit.write("wheels/idna-3.10-py3-none-any.whl", &wheel("idna", "3.10").bytes().unwrap());
    kit.add_channel("sourced", Ecosystem::Conda, &kit.path().join("tree"), &[]).await;
    take(&kit, "tree", "main").await.unwrap();
    let until = kit.now().await.after("1 day".parse().unwrap());
    take(&kit, "tree", "still").await.unwrap();
    let frozen = airlock_core::decision::Ruling::Freeze(airlock_core::decision::Scope::of("still", "*"));
    airlock_engine::decide::decide(&kit.station, frozen, "an audit", Some(until)).await.unwrap();
    let before = state(&kit).await;
    let named =
        |channel: &str, policy: Option<&str>| Wish { policy: policy.map(str::to_owned), ..wish(channel) };
    for (path, wish, says) in [
        ("tree", named("sourced", None), "is fed by something else"),
        ("wheels", named("main", None), "is of conda, and this tree of pypi"),
        ("tree", named("main", Some("strict")), "is under policy `default`"),
        ("tree", named("still", None), "is frozen"),
        ("tree", named("new", Some("none-of-this-name")), "none-of-this-name"),
        ("tree", named("No Name", None), "cannot name a channel"),
        ("tree", named("main/child", None), "is a child of `main`"),
        ("missing", named("new", None), "missing"),
        ("tree", Wish { ecosystem: Some(Ecosystem::Pypi), ..wish("new") }, "without packages for pypi"),
    ] {
        let error = foreign::import(&kit.station, &[kit.path().join(path)], &wish).await.unwrap_err();
        assert!(error.message.contains(says), "{says}: {error}");
        assert_eq!(state(&kit).await, before, "{says}");
    }
}

#[tokio::test]
async fn whoever_looks_at_what_comes_in_looks_at_the_files_of_trees_too() {
    let mut kit = Kit::new(&[]).await;
    let good = put(&kit, "tree", "a", "1.0");
    let bad = put(&kit, "tree", "eicar", "1.0");
    let looks = "case \"$AIRLOCK_FILE\" in eicar*) echo Eicar; exit 1;; *) test -s \"$0\";; esac";
    let command = ["/bin/sh", "-c", looks].map(str::to_owned).to_vec();
    kit.station.config.import = Importing { command, ..Importing::default() };
    let report = take(&kit, "tree", "main").await.unwrap();
    let faults = &report.outcome.fetched.faults;
    assert!(
        matches!(faults.as_slice(), [(file, Fault::Mismatch(why))] if *file == bad && why.contains("Eicar")),
        "{faults:?}"
    );
    assert!(
        serves(&kit, "main", "noarch/a", &good).await && !serves(&kit, "main", "noarch/eicar", &bad).await
    );
}

#[tokio::test]
async fn who_may_not_import_takes_no_tree_in_and_the_ledger_says_who_took_what() {
    let mut kit = Kit::new(&[]).await;
    put(&kit, "tree", "a", "1.0");
    for (name, role) in [("vera", Role::Viewer), ("adam", Role::Administrator)] {
        let grant = Grant { role, channels: Vec::new() };
        people::add(&kit.station, name, vec![grant]).await.unwrap();
    }
    let before = state(&kit).await;
    kit.station.login = Some(Login { name: "vera".to_owned() });
    let error = take(&kit, "tree", "main").await.unwrap_err();
    assert!(error.kind == Fails::No && error.message.contains("vera may not import"), "{error}");
    assert_eq!(state(&kit).await, before);
    kit.station.login = Some(Login { name: "adam".to_owned() });
    let report = take(&kit, "tree", "main").await.unwrap();
    let entries = kit.station.store.db.ledger(0, 1000).await.unwrap();
    let entry = entries.iter().map(|e| format!("{e:?}")).find(|e| e.contains("channel.import")).unwrap();
    for says in ["adam", "channel/main", "conda-channel", &report.paths[0].display().to_string()] {
        assert!(entry.contains(says), "{says}: {entry}");
    }
}
