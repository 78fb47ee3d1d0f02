//! Bundles that are sealed to a recipient: nobody on the way learns what is in them, and all that can be done with others can be
//! done with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_core::id::Digest;
use airlock_testkit::osv;
use common::{Answer, Dice, Station, World, airlock, clients, copy, files, is_whole, kills, published, text};
use serde_json::{Value, json};

/// What a medium holds, such that the large world takes five.
const CAPACITY: &str = "4200 kB";

/// What others seal to, for a station.
fn recipient(station: &Station) -> String {
    station.json(&["key", "identity"])["recipients"][0].as_str().unwrap().to_owned()
}

/// A station that has something to send, and one that trusts it and has an identity.
async fn ends(world: &World) -> (Station, Station, String) {
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    let to = recipient(&high);
    (low, high, to)
}

fn configure(station: &Station, lines: &str) {
    let path = station.dir.join("airlock.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{before}\n{lines}\n")).unwrap();
}

/// Which of these stand in the bytes or the names of the files below a folder.
fn shown<'a>(folder: &Path, wanted: &[&'a str]) -> BTreeSet<&'a str> {
    let mut out = BTreeSet::new();
    for path in files(folder).into_keys() {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap().as_bytes().to_vec();
        let packed = std::fs::read(&path).unwrap();
        let unpacked = zstd(&packed).unwrap_or_default();
        for all in [&name, &packed, &unpacked] {
            let stands = |word: &&&str| all.windows(word.len()).any(|w| w == word.as_bytes());
            out.extend(wanted.iter().filter(stands));
        }
    }
    out
}

/// What is packed in a file, if `zstd` says that anything is.
fn zstd(bytes: &[u8]) -> Option<Vec<u8>> {
    let file = tempfile_with(bytes);
    let output = Command::new("zstd").args(["-dcqf", text(file.path())]).output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn tempfile_with(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// A command that is refused and changes nothing.
fn refused(station: &Station, args: &[&str], what: &str) -> Answer {
    let before = station.state();
    let answer = station.run(args).exits(3).says(what);
    assert_eq!(station.state(), before);
    answer
}

#[tokio::test]
async fn what_is_sealed_shows_nothing_on_the_way_and_comes_in_where_it_is_sealed_to() {
    let world = World::new().await;
    let (low, high, to) = ends(&world).await;
    let (plain, disk) = (world.path("plain"), world.path("disk"));
    low.run(&["export", text(&plain)]).exits(0);
    let manifest = std::fs::read_to_string(plain.join("AIRLOCK.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let hash = manifest["files"][0]["sha256"].as_str().unwrap().to_owned();
    let snapshot = manifest["channels"]["main"]["snapshot"].as_str().unwrap().to_owned();
    let words = [
        "idna",
        "requests",
        "PYSEC",
        "\"main\"",
        "\"osv\"",
        ".whl",
        "METADATA",
        &hash,
        &hash[..32],
        &snapshot,
    ];
    assert_eq!(shown(&plain, &words).len(), words.len(), "{:?}", shown(&plain, &words));
    let report = low.json(&["export", text(&disk), "--to", "high", "--seal", &to]);
    assert_eq!(report["sealed"], json!([to]));
    assert_eq!(shown(&disk, &words), BTreeSet::new());
    // With the public key alone, by whoever carries it; and by a page of shell.
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(0).shows(&format!("sealed to {to}"));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify-bundle.sh");
    let mut by_hand = Command::new("sh");
    by_hand.args([text(&page), text(&disk), text(&low.key())]);
    clients::succeeds(by_hand);
    // No stranger opens it, also one that trusts the sender.
    let stranger = world.station("stranger", "isolated");
    stranger.trust(&low);
    refused(&stranger, &["import", text(&disk)], "this station has no identity");
    recipient(&stranger);
    refused(&stranger, &["import", text(&disk)], "and not to this station, which is age1");
    let receipt = world.path("receipt.json");
    let input = files(&disk);
    high.run(&["import", text(&disk), "--receipt-out", text(&receipt)]).exits(0);
    assert_eq!(files(&disk), input);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    assert_eq!(std::fs::read_dir(high.dir.join("blobs/staging")).unwrap().count(), 0);
    assert_eq!(high.json(&["import", text(&disk)])["bundles"][0]["again"], true);
    installs(&world, &high);
    // The next one builds on it: receipts and bases name the bundle as it travelled.
    let delta = world.path("delta");
    let report =
        low.json(&["export", text(&delta), "--to", "high", "--receipt", text(&receipt), "--seal", &to]);
    assert_eq!((&report["base"], &report["files"]), (&json!(1), &json!(0)), "{report}");
    high.run(&["import", text(&delta)]).exits(0);
}

/// A real client installs what came.
fn installs(world: &World, high: &Station) {
    let Some(python) = clients::python() else { return };
    let (server, target) = (high.serve(), world.path("pip"));
    let index = server.url("pypi/py/simple/");
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--isolated"]);
    pip.args(["--index-url", &index, "--target", text(&target), "idna"]);
    clients::succeeds(pip);
    assert!(target.join("idna").exists() || target.join("idna-3.10.dist-info").exists());
}

#[tokio::test]
async fn what_is_sealed_is_opened_by_hand_with_age() {
    let world = World::new().await;
    let (low, high, to) = ends(&world).await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--seal", &to]).exits(0);
    let identity = high.dir.join("keys/identity.txt");
    let open = |path: &str| {
        let output = Command::new("age").args(["-d", "-i", text(&identity), text(&disk.join(path))]).output();
        output.ok().map(|output| {
            assert!(output.status.success(), "{output:?}");
            output.stdout
        })
    };
    let Some(manifest) = open("objects/manifest.age") else {
        airlock_testkit::skipped("there is no `age` on this system");
        return;
    };
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let listed = manifest["files"].as_array().unwrap().iter().chain(manifest["objects"].as_array().unwrap());
    for file in listed {
        let plain = open(file["path"].as_str().unwrap()).unwrap();
        assert_eq!(file["sha256"], json!(Digest::of(&plain)), "{file}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&identity).unwrap();
    let secret = secret.lines().last().unwrap();
    // The secret half stands nowhere else: not in the database, the ledger, what commands say.
    assert!(secret.starts_with("AGE-SECRET-KEY-1"));
    for path in files(&high.dir).into_keys().filter(|path| *path != identity) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
    }
    let said = high.run(&["key", "identity"]).exits(0);
    assert!(!format!("{said:?}").contains("SECRET"), "{said:?}");
}

#[tokio::test]
async fn a_peer_that_the_configuration_names_is_always_sealed_to_and_keys_are_changed_without_a_gap() {
    let world = World::new().await;
    let (low, high, old) = ends(&world).await;
    configure(&high, "[import]\nsealed = true");
    let disk = |name: &str| world.path(name);
    low.run(&["export", text(&disk("open")), "--to", "high"]).exits(0);
    refused(&high, &["import", text(&disk("open"))], "is not sealed");
    configure(&low, &format!("[seal]\nhigh = [\"{old}\"]"));
    low.run(&["export", text(&disk("first")), "--to", "high"]).exits(0).shows("It is sealed");
    // Also what is one file.
    let file = world.path("advisories.airlock");
    low.run(&["advisories", "export", text(&file), "--to", "high"]).exits(0).shows("It is sealed");
    // A new identity: what is under way to the one before comes in, and what is sealed to the new one.
    let both = high.json(&["key", "identity", "--add"]);
    let new = both["recipients"][1].as_str().unwrap().to_owned();
    assert_eq!(both["recipients"][0], json!(old));
    high.run(&["import", text(&disk("first"))]).exits(0);
    assert_eq!(published(&high), published(&low));
    high.run(&["advisories", "import", text(&file)]).exits(0);
    low.run(&["export", text(&disk("both")), "--to", "high", "--seal", &new]).exits(0);
    high.run(&["import", text(&disk("both"))]).exits(0);
    // Somebody takes the old one out.
    let identities = high.dir.join("keys/identity.txt");
    let lines = std::fs::read_to_string(&identities).unwrap();
    std::fs::write(&identities, lines.lines().skip(3).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    low.run(&["export", text(&disk("late")), "--to", "high"]).exits(0);
    refused(&high, &["import", text(&disk("late"))], "and not to this station");
    assert_eq!(high.json(&["key", "identity"])["recipients"], json!([new]));
    // What is no recipient is said before anything is written.
    low.run(&["export", text(&disk("none")), "--seal", "age1nobody"]).exits(2).says("is no age recipient");
    configure(&low, "other = [\"age1nobody\"]");
    low.run(&["export", text(&disk("none"))]).exits(2).says("[seal]");
    assert!(!disk("none").exists());
}

#[tokio::test]
async fn whatever_is_changed_on_the_way_is_refused_and_a_scanner_is_shown_what_is_inside() {
    let world = World::new().await;
    let (low, high, to) = ends(&world).await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--seal", &to]).exits(0);
    for path in files(&disk).into_keys().filter(|path| path.extension().is_some_and(|e| e == "age")) {
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        for bad in [bad, good[..good.len() - 1].to_vec()] {
            std::fs::write(&path, bad).unwrap();
            airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(3);
            refused(&high, &["import", text(&disk)], path.file_name().unwrap().to_str().unwrap());
        }
        std::fs::write(&path, good).unwrap();
    }
    let notes = world.path("notes");
    std::fs::create_dir(&notes).unwrap();
    let asked = notes.join("asked");
    let script = format!(
        "head -c 2 $1 | grep -q PK; echo $? $AIRLOCK_FILE >> {}; test $AIRLOCK_FILE != idna-3.10-py3-none-any.whl",
        text(&asked)
    );
    let path = high.dir.join("airlock.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let writes = format!("writes = [\"{}\"]", text(&notes));
    configure(&high, &format!("[import]\ncommand = [\"sh\", \"-c\", \"{script}\", \"sh\"]\n{writes}"));
    // What came waits, for it may have been a mistake.
    high.run(&["import", text(&disk)]).exits(3).says("idna-3.10-py3-none-any.whl may not come in");
    assert_eq!(high.json(&["status"])["channels"], json!([]));
    let looked = std::fs::read_to_string(&asked).unwrap();
    assert!(looked.lines().any(|line| line == "0 idna-3.10-py3-none-any.whl"), "{looked}");
    std::fs::write(&path, before).unwrap();
    high.run(&["import", text(&disk)]).exits(0);
    assert_eq!(published(&high), published(&low));
    assert_eq!(std::fs::read_dir(high.dir.join("blobs/staging")).unwrap().count(), 0);
}

/// Changes what is sealed as the manifest of a bundle, as its sender could, who signs it then.
fn resealed(disk: &Path, low: &Station, high: &Station, harm: impl FnOnce(&mut Value)) {
    let path = disk.join("objects/manifest.age");
    let mut inner: Value =
        serde_json::from_slice(&common::sealed::opened(high, &std::fs::read(&path).unwrap())).unwrap();
    harm(&mut inner);
    let sealed = common::sealed::sealed(high, inner.to_string().as_bytes());
    std::fs::write(&path, &sealed).unwrap();
    let outer = disk.join("AIRLOCK.json");
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string(&outer).unwrap()).unwrap();
    let extra = manifest["extra"].as_array_mut().unwrap();
    let listed = extra.iter_mut().find(|file| file["path"] == "objects/manifest.age").unwrap();
    listed["sha256"] = json!(Digest::of(&sealed));
    listed["size"] = json!(sealed.len());
    std::fs::write(&outer, manifest.to_string()).unwrap();
    let mut sign = Command::new("openssl");
    sign.args([
        "pkeyutl",
        "-sign",
        "-rawin",
        "-inkey",
        text(&low.dir.join("keys/station.key")),
        "-in",
        text(&outer),
    ]);
    let signature = airlock_core::hex::encode(&clients::succeeds(sign).stdout);
    let key = low.json(&["status"])["public_key"].as_str().unwrap().to_owned();
    std::fs::write(disk.join("AIRLOCK.sig"), format!("ed25519 {key} {signature}\n")).unwrap();
}

#[tokio::test]
async fn what_a_sender_seals_is_held_against_all_that_any_bundle_is() {
    let world = World::new().await;
    let (low, high, to) = ends(&world).await;
    let disk = world.path("disk");
    low.run(&["export", text(&disk), "--seal", &to]).exits(0);
    type Harm = fn(&mut Value);
    let harms: &[(&str, Harm)] = &[
        ("is of another bundle", |inner| inner["number"] = json!(2)),
        ("is of another bundle", |inner| inner["recipient"] = json!("other")),
        ("lists other files", |inner| drop(inner["files"].as_array_mut().unwrap().pop())),
        ("lists other files", |inner| inner["files"][0]["path"] = json!("files/aa/aaaa.age")),
        ("objects that the bundle does not bring", |inner| inner["objects"][0]["path"] = json!("objects/x")),
        ("objects that the bundle does not bring", |inner| {
            inner["objects"][0]["path"] = json!("objects/manifest.age");
        }),
        ("cannot name a channel", |inner| {
            let channel = inner["channels"]["main"].clone();
            inner["channels"]["../main"] = channel;
        }),
        ("is incomplete", |inner| inner["channels"]["main"]["snapshot"] = json!(Digest::of(b"none"))),
        ("is not what the manifest inside says", |inner| {
            inner["files"][0]["sha256"] = json!(Digest::of(b"other"));
        }),
        ("has other bytes in it", |inner| {
            let size = inner["files"][0]["size"].as_u64().unwrap();
            inner["files"][0]["size"] = json!(size + 1);
        }),
        ("was changed or is damaged", |inner| inner["objects"][0]["sha256"] = json!(Digest::of(b"other"))),
        ("has other bytes in it", |inner| inner["objects"][0]["size"] = json!(1)),
        ("names `", |inner| {
            let first = inner["files"][0].clone();
            inner["files"].as_array_mut().unwrap().push(first);
        }),
        ("what is sealed", |inner| inner["format"] = json!(1000)),
    ];
    for (n, (what, harm)) in harms.iter().enumerate() {
        let copied = world.path(&format!("harmed-{n}"));
        copy(&disk, &copied);
        resealed(&copied, &low, &high, harm);
        airlock(&["verify", text(&copied), "--key", text(&low.key())]).exits(0);
        refused(&high, &["import", text(&copied)], what);
    }
    resealed(&disk, &low, &high, |_| ());
    high.run(&["import", text(&disk)]).exits(0);
}

/// The sealed files of a bundle, wherever they lie, by path.
fn sealed(disk: &Path) -> BTreeMap<PathBuf, Digest> {
    let is_file = |path: &PathBuf| path.parent().and_then(Path::parent).is_some_and(|p| p.ends_with("files"));
    let found = files(disk).into_keys().filter(is_file);
    found.map(|path| (path.strip_prefix(disk).unwrap().to_owned(), common::hash(&path))).collect()
}

/// Which number a bundle has.
fn number(disk: &Path) -> u64 {
    let manifest = std::fs::read_to_string(disk.join("AIRLOCK.json")).unwrap();
    serde_json::from_str::<Value>(&manifest).unwrap()["number"].as_u64().unwrap()
}

#[tokio::test]
async fn an_export_that_is_killed_goes_on_with_the_same_bytes_and_an_import_where_it_was() {
    let world = World::large().await;
    let (low, high, to) = ends(&world).await;
    // The same station, with the same key and the same next number.
    let twin = Station { dir: world.path("twin") };
    copy(&low.dir, &twin.dir);
    std::fs::create_dir_all(twin.dir.join("blobs/staging")).unwrap();
    let (calm, disk) = (world.path("calm"), world.path("disk"));
    let began = std::time::Instant::now();
    twin.run(&["export", text(&calm), "--seal", &to]).exits(0);
    let took = began.elapsed();
    let (mut dice, mut killed, mut partial) = (Dice(3), 0, 0);
    let is_done = || disk.join("AIRLOCK.sig").exists() && !disk.join("AIRLOCK.partial").exists();
    for _ in 0..kills() {
        if is_done() {
            std::fs::remove_dir_all(&disk).unwrap();
        }
        let mut child = low.start(&["export", text(&disk), "--seal", &to]);
        std::thread::sleep(dice.within(took));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
        partial += u32::from(disk.exists() && !is_done() && !sealed(&disk).is_empty());
    }
    assert!(killed > 0, "no run was killed");
    eprintln!("{killed} runs were killed, {partial} of them while files were written");
    if !is_done() {
        low.run(&["export", text(&disk), "--seal", &to]).exits(0);
    }
    // A run that was killed when it had taken its number and had not signed leaves the next one another number, and other keys.
    let mut same = calm.clone();
    while number(&same) < number(&disk) {
        same = world.path(&format!("calm-{}", number(&same) + 1));
        twin.run(&["export", text(&same), "--seal", &to]).exits(0);
    }
    assert_eq!((number(&disk), sealed(&disk)), (number(&same), sealed(&same)));
    let began = std::time::Instant::now();
    let other = world.station("other", "isolated");
    other.trust(&low);
    std::fs::copy(high.dir.join("keys/identity.txt"), other.dir.join("keys/identity.txt")).unwrap();
    other.run(&["import", text(&calm)]).exits(0);
    let took = began.elapsed();
    for _ in 0..kills() {
        let mut child = high.start(&["import", text(&disk)]);
        std::thread::sleep(dice.within(took));
        let _ = child.kill();
        child.wait().unwrap();
    }
    high.run(&["import", text(&disk)]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // Another bundle of the same files has other bytes under other names.
    let second = world.path("second");
    low.run(&["export", text(&second), "--seal", &to]).exits(0);
    let all = |disk: &Path| sealed(disk).into_iter().flat_map(|(path, hash)| [path, hash.to_string().into()]);
    let before: BTreeSet<PathBuf> = all(&disk).collect();
    assert!(all(&second).all(|one| !before.contains(&one)) && sealed(&second).len() == sealed(&disk).len());
}

#[tokio::test]
async fn sealed_volumes_are_rebuilt_from_parity_and_what_is_missing_is_written_again() {
    let world = World::large().await;
    let (low, high, to) = ends(&world).await;
    let disk = world.path("disk");
    let export = ["export", text(&disk), "--seal", &to, "--capacity", CAPACITY, "--parity", "1"];
    let plan = low.json(&[&export[..], &["--plan"]].concat());
    assert!(!disk.exists());
    let report = low.json(&export);
    let told = |report: &Value| {
        report["volumes"].as_array().unwrap().iter().map(|v| v["bytes"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&plan), told(&report));
    let mut volumes: Vec<PathBuf> = (1..=report["volumes"].as_array().unwrap().len())
        .map(|n| disk.join(format!("volume-{n:03}")))
        .collect();
    assert!(volumes.len() > 4, "{report}");
    for volume in &volumes {
        let size: u64 = files(volume).values().map(|size| size.div_ceil(32768) * 32768).sum();
        assert!(size <= 4_200_000, "{size}");
        airlock(&["verify", text(volume), "--key", text(&low.key())]).exits(0).shows("sealed to");
    }
    let lost = volumes.remove(1);
    let import = |parts: &[&Path], more: &[&str]| {
        let mut args = vec!["--json", "import"];
        args.extend(parts.iter().map(|part| text(part)));
        args.extend(more);
        high.run(&args)
    };
    // One at a time: what came waits, sealed, and nothing of it counts. The second is lost, and now another one, too.
    let (receipt, before) = (world.path("receipt.json"), published_nothing(&high));
    let (last, first) = volumes.split_last().unwrap();
    for volume in &first[1..] {
        import(&[volume], &["--receipt-out", text(&receipt)]).exits(1);
    }
    assert_eq!(published_nothing(&high), before);
    let words = ["large1", "share/data.bin"];
    assert_eq!(shown(&high.dir.join("blobs"), &words), BTreeSet::new());
    // What is written again is what was sealed, to the last byte.
    let patch = world.path("patch");
    low.run(&["export", text(&patch), "--receipt", text(&receipt)]).exits(0);
    let again = sealed(&patch);
    let name = |path: &Path| path.file_name().unwrap().to_owned();
    let all: BTreeMap<_, _> = sealed(&disk).into_iter().map(|(path, hash)| (name(&path), hash)).collect();
    assert!(!again.is_empty());
    for (path, hash) in again {
        assert_eq!(all.get(&name(&path)), Some(&hash), "{}", path.display());
    }
    assert_eq!(shown(&patch, &words), BTreeSet::new());
    airlock(&["verify", text(&patch), "--key", text(&low.key())]).exits(0);
    // With parity the one that is lost is rebuilt.
    let report = import(&[&first[0], last], &[]).exits(0).json();
    assert_eq!(report["bundles"][0]["rebuilt"], json!(sealed(&lost).len()), "{report}");
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
    // On another station what was written again takes the place of both.
    let other = world.station("other", "isolated");
    other.trust(&low);
    std::fs::copy(high.dir.join("keys/identity.txt"), other.dir.join("keys/identity.txt")).unwrap();
    let rest: Vec<&str> = first[1..].iter().chain([&patch]).map(|part| text(part)).collect();
    other.run(&[&["import"], &rest[..]].concat()).exits(0);
    assert_eq!(published(&other), published(&low));
}

#[tokio::test]
async fn a_sealed_file_over_a_mediums_limit_is_cut_as_it_travels_and_comes_in_whole() {
    let world = World::large().await;
    let (low, high, to) = ends(&world).await;
    let disk = world.path("disk");
    let report = low.json(&["export", text(&disk), "--seal", &to, "--max-file", "300kB"]);
    assert!(report["cut"].as_u64().unwrap() >= 40, "{report}");
    assert!(files(&disk.join("files")).into_values().all(|size| size <= 300_000));
    assert_eq!(shown(&disk, &["large1", "share/data.bin"]), BTreeSet::new());
    airlock(&["verify", text(&disk), "--key", text(&low.key())]).exits(0).shows("sealed to");
    high.run(&["import", text(&disk)]).exits(0);
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
}

#[tokio::test]
async fn sealed_volumes_are_written_one_after_another_with_nothing_kept_in_between() {
    let world = World::large().await;
    let (low, high, to) = ends(&world).await;
    let place = |n: usize| world.path(&format!("medium-{n}"));
    let first = ["--capacity", "9MB", "--volume", "1"];
    let report =
        low.json(&[&["export", text(&place(1)), "--to", "high", "--seal", &to], &first[..]].concat());
    let count = report["volumes"].as_array().unwrap().len();
    assert!(count > 1, "{report}");
    for n in 2..=count {
        low.run(&["export", text(&place(n)), "--to", "high", "--volume", &n.to_string()]).exits(0);
    }
    for n in 1..=count {
        assert_eq!(shown(&place(n), &["large1", "share/data.bin"]), BTreeSet::new());
        airlock(&["verify", text(&place(n)), "--key", text(&low.key())]).exits(0).shows("sealed to");
        high.run(&["import", text(&place(n))]).exits(i32::from(n < count));
    }
    assert_eq!(published(&high), published(&low));
    is_whole(&high);
}

#[tokio::test]
async fn what_is_held_crosses_sealed_too_and_a_plan_says_what_is_inside() {
    let world = World::new().await;
    let (low, high, to) = ends(&world).await;
    world.know(&[osv("PYSEC-1", "PyPI", "requests", "2.0", 0.0)]);
    low.run(&["advisories", "update"]).exits(0);
    let disk = world.path("disk");
    let told = low.json(&["export", text(&disk), "--seal", &to, "--include", "held"]);
    assert!(told["held"]["carried"].as_u64().unwrap() > 0, "{told}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(disk.join("AIRLOCK.json")).unwrap()).unwrap();
    assert_eq!((&manifest["format"], &manifest["channels"]), (&json!(6), &json!({})));
    let before = high.json(&["status"]);
    high.run(&["import", text(&disk), "--plan"]).exits(0).shows("main");
    assert_eq!(high.json(&["status"]), before);
    // It waits for a second person as any other bundle does, and nobody who is not known proposes it.
    let path = high.dir.join("airlock.toml");
    let plain = std::fs::read_to_string(&path).unwrap();
    configure(&high, "[people]\ntwo_person = [\"import\"]");
    high.run(&["import", text(&disk)]).exits(1);
    assert_eq!(high.json(&["channel", "list"])["channels"], json!([]));
    std::fs::write(&path, plain).unwrap();
    high.run(&["import", text(&disk)]).exits(0);
    high.run(&["review", "queue", "main"]).exits(0).shows("held-by-sender");
}

fn published_nothing(station: &Station) -> Value {
    station.json(&["status"])["channels"].clone()
}
