//! Requests: from behind the gap on paper, and back with the bundle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_engine::keys::StationKey;
use airlock_testkit::conda;
use common::{Answer, Station, World};
use serde_json::{Value, json};

/// Both stations, after the first bundle.
async fn stations() -> (World, Station, Station) {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    (world, low, high)
}

fn ask(station: &Station, spec: &str) -> Answer {
    station.run(&["request", "new", "main", spec, "--reason", "for the weather model"])
}

/// Writes what waits into a file.
fn paper(world: &World, station: &Station, name: &str) -> PathBuf {
    let file = world.path(name);
    station.run(&["request", "export", file.to_str().unwrap()]).exits(0);
    file
}

fn import(low: &Station, high: &Station, file: &Path) -> Answer {
    let key = high.key();
    low.run(&["request", "import", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--peer", "high"])
}

fn list(station: &Station) -> Vec<Value> {
    station.json(&["request", "list"])["requests"].as_array().unwrap().clone()
}

/// What a station says of a request: its state, what is known here, and what was answered.
fn stands(station: &Station, spec: &str) -> (String, String, String) {
    let all = list(station);
    let one = all.iter().find(|one| one["spec"] == spec).unwrap_or_else(|| panic!("{spec} in {all:?}"));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    (text(&one["state"]), text(&one["here"]["outcome"]), text(&one["answer"]["known"]["outcome"]))
}

fn triple(a: &str, b: &str, c: &str) -> (String, String, String) {
    (a.to_owned(), b.to_owned(), c.to_owned())
}

/// The connected side finds what was missing.
fn fulfil(world: &World, low: &Station) {
    let mut source = world.kit.conda_source("conda");
    for (name, version) in [
        ("idna", "3.6"),
        ("idna", "3.10"),
        ("requests", "1.0"),
        ("requests", "2.0"),
        ("other", "1.0"),
        ("numpy", "2.1"),
    ] {
        source.add(&conda(name, version), &json!({}));
    }
    source.write();
    low.run(&["sync"]).exits(0);
}

#[tokio::test]
async fn what_is_asked_for_behind_the_gap_comes_back_answered() {
    let (world, low, high) = stations().await;
    ask(&high, "NumPy >= 2").exits(0).shows("r1 asks for numpy>=2 in main").shows("not known");
    ask(&high, "idna==3.6").exits(0).shows("denied").shows("cvss-above-7").shows("nearest that passes: 3.10");
    ask(&high, "requests==1.0").exits(0).shows("held").shows("rule unscored");
    ask(&high, "secret-plan").exits(0);
    assert_eq!(stands(&high, "numpy>=2"), triple("open", "not-listed", "-"));
    let file = paper(&world, &high, "requests.txt");
    assert_eq!(stands(&high, "numpy>=2"), triple("sent", "not-listed", "-"));

    // Whoever releases it strikes one out.
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("airlock-request/1 ")).count(), 4);
    let struck: String =
        text.lines().filter(|line| !line.contains("secret")).map(|l| format!("{l}\r\n")).collect();
    std::fs::write(&file, struck).unwrap();
    import(&low, &high, &file).exits(0).shows("3 new requests of high");
    assert_eq!(stands(&low, "numpy>=2"), triple("open", "not-listed", "-"));
    assert_eq!(stands(&low, "idna==3.6"), triple("open", "denied", "-"));
    low.run(&["request", "list"]).exits(0).shows("r3 of high").shows("airlock review queue main");
    low.run(&["review", "queue", "main"])
        .exits(0)
        .shows("asked for by r3 of high, just now: requests==1.0: \"for the weather model\"");

    // The same again is nothing new.
    let before = low.state();
    import(&low, &high, &file).exits(0).shows("0 new requests of high, 3 that were here already");
    assert_eq!(low.state(), before);

    fulfil(&world, &low);
    assert_eq!(stands(&low, "numpy>=2"), triple("open", "offered", "-"));
    low.run(&["request", "list"]).exits(0).shows("next    airlock export DIR\n");
    let disk = world.path("disk2");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    assert_eq!(stands(&low, "numpy>=2"), triple("answered", "offered", "offered"));
    let key = low.key();
    low.run(&["verify", disk.to_str().unwrap(), "--key", key.to_str().unwrap()]).exits(0);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    assert_eq!(stands(&high, "numpy>=2"), triple("answered", "offered", "offered"));
    assert_eq!(stands(&high, "idna==3.6"), triple("answered", "denied", "denied"));
    assert_eq!(stands(&high, "requests==1.0"), triple("answered", "held", "held"));
    assert_eq!(stands(&high, "secret-plan"), triple("sent", "not-listed", "-"));
    let newest = low.json(&["snapshot", "show", "main"])["id"].clone();
    assert_eq!(list(&high)[0]["answer"]["snapshot"], newest);
    high.run(&["ledger", "verify"]).exits(0);

    // Said again, it is no news; and what is there need not be asked for.
    let disk = world.path("disk3");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    let told = |station: &Station, action: &str| {
        let log = station.json(&["ledger", "log"]).to_string();
        log.matches(&format!("\"{action}\"")).count()
    };
    assert_eq!((told(&low, "request.answer"), told(&high, "request.answered")), (1, 1));
    ask(&high, "numpy").exits(1).says("it is there already");
}

#[tokio::test]
async fn whoever_releases_the_file_checks_it_by_hand_as_the_document_says() {
    let (world, _, high) = stations().await;
    ask(&high, "numpy>=2,<3|>4").exits(0);
    ask(&high, "scipy").exits(0);
    let dir = world.path("desk");
    std::fs::create_dir(&dir).unwrap();
    high.run(&["request", "export", dir.join("requests.txt").to_str().unwrap()]).exits(0);
    std::fs::copy(high.key(), dir.join("station.pub")).unwrap();
    let document = include_str!("../../../docs/requests.md");
    let section = document.split("\n## By hand\n").nth(1).unwrap();
    let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let script = format!("set -euo pipefail\n{}\n", lines.join("\n"));
    assert!(script.contains("openssl pkeyutl -verify"));
    let run = || Command::new("bash").args(["-c", &script]).current_dir(&dir).output().unwrap();
    let output = run();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("Signature Verified Successfully").count(), 2, "{said}");
    let text = std::fs::read_to_string(dir.join("requests.txt")).unwrap();
    std::fs::write(dir.join("requests.txt"), text.replace("scipy", "scipi")).unwrap();
    assert!(!run().status.success());
}

#[tokio::test]
async fn a_file_in_which_anything_was_changed_is_refused_whole() {
    let (world, low, high) = stations().await;
    ask(&high, "numpy>=2").exits(0);
    ask(&high, "scipy").exits(0);
    let file = paper(&world, &high, "requests.txt");
    let good = std::fs::read_to_string(&file).unwrap();
    let before = low.state();
    low.run(&["request", "import", file.to_str().unwrap()]).exits(3).says("not trusted here");
    import(&low, &low, &file).exits(3).says("not by the key that was given");
    let key = high.key();
    let named =
        ["request", "import", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--peer", "../x"];
    low.run(&named).exits(2).says("cannot name a peer");
    let bytes = |text: String| text.into_bytes();
    let mut large = good.clone();
    large += &"# more\n".repeat(200_000);
    for (changed, says) in [
        (bytes(good.replace("scipy", "scipi")), "the line was changed"),
        (bytes(good.replace(" main ", " other ")), "the line was changed"),
        (bytes(good.replace("weather", "whether")), "the line was changed"),
        (bytes(good.replace("scipy", "sc\u{456}py")), "is no request, or was changed"),
        (bytes(good.replace("weather", "\u{1b}[2J")), "is no request, or was changed"),
        (bytes(good.replace("# key", "# \u{7}")), "is no request, or was changed"),
        (bytes(good.replace("requests 1", "requests 9")), "does not begin as"),
        (vec![0xff, 0xfe], "it is no text"),
        (bytes(large), "it is larger than"),
    ] {
        assert_ne!(changed, good.as_bytes());
        std::fs::write(&file, &changed).unwrap();
        import(&low, &high, &file).exits(3).says(says);
    }
    assert_eq!(low.state(), before, "nothing of any of them was taken");
    std::fs::write(&file, &good).unwrap();
    import(&low, &high, &file).exits(0);
    // A name belongs to one key, and a key to one name.
    let other = world.station("other", "isolated");
    let renamed =
        ["request", "import", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--peer", "west"];
    low.run(&renamed).exits(2).says("a name belongs to one key");
    let theirs = good.replace(&hex(&high), &hex(&other));
    std::fs::write(&file, theirs).unwrap();
    import(&low, &other, &file).exits(3).says("the line was changed");
}

fn hex(station: &Station) -> String {
    station.json(&["status"])["public_key"].as_str().unwrap().to_owned()
}

/// Adds lines to a station's configuration.
fn configure(station: &Station, lines: &str) {
    let path = station.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n{lines}\n")).unwrap();
}

#[tokio::test]
async fn names_that_are_reserved_in_house_never_leave() {
    let (world, _, high) = stations().await;
    ask(&high, "skunkworks").exits(0);
    ask(&high, "acme-core").exits(0);
    ask(&high, "numpy").exits(0);
    let policy = world.path("policy.toml");
    let text = high.json(&["policy", "show"])["text"].as_str().unwrap().to_owned();
    std::fs::write(&policy, text.replace("[policy]\n", "[policy]\nreserved = [\"acme-*\"]\n")).unwrap();
    high.run(&["policy", "set", "default", policy.to_str().unwrap()]).exits(0);
    configure(&high, "[requests]\nreserved = [\"skunk*\"]");

    // What was asked for before stays here, and the file does not tell that there was more.
    let file = world.path("requests.txt");
    let told = high.run(&["request", "export", file.to_str().unwrap()]).exits(0).shows("r1, r2");
    assert!(!told.stdout.contains("acme"), "{}", told.stdout);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(" numpy ") && !text.contains("acme") && !text.contains("skunk"), "{text}");
    assert!(!text.contains(" r1 ") && !text.contains(" r2 "), "{text}");
    assert_eq!(stands(&high, "acme-core").0, "open");

    // What is asked for now is refused, in any spelling, and nothing tells what is reserved.
    let before = high.state();
    for (channel, spec, reason) in [
        ("main", "acme-next", "why"),
        ("main", "ACME-next>=1", "why"),
        ("py", "Acme_Next", "why"),
        ("py", "acme.next", "why"),
        ("main", "scipy", "acme-next needs it"),
        ("main", "scipy", "the model of SKUNKWORKS."),
        ("main", "scipy==skunkworks", "why"),
    ] {
        let answer = high.run(&["request", "new", channel, spec, "--reason", reason]).exits(1);
        let answer = answer.says("may not be asked for outside");
        assert!(!answer.stderr.contains('*') && !answer.stderr.contains("next"), "{}", answer.stderr);
    }
    assert_eq!(high.state(), before);
    let again = world.path("again.txt");
    let told = high.run(&["request", "export", again.to_str().unwrap()]).exits(1);
    told.says("what waits may not leave");
    assert!(!again.exists());
}

#[tokio::test]
async fn what_leaves_has_fixed_fields_and_tells_who_and_why_only_as_the_settings_say() {
    let (world, low, high) = stations().await;
    let long = format!("caf\u{e9} \"x\" {}", "lorem ".repeat(70));
    high.run(&["request", "new", "main", "numpy", "--reason", &long, "--ticket", "OPS-17"]).exits(0);
    let line = |name: &str, args: &[&str]| {
        let file = world.path(name);
        let mut all = vec!["request", "export", file.to_str().unwrap()];
        all.extend(args);
        high.run(&all).exits(0);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.is_ascii() && !text.contains("OPS-17"), "{text}");
        text.lines().last().unwrap().to_owned()
    };
    let first = line("one", &[]);
    assert!(first.contains(" - \"caf? 'x' lorem lorem") && first.len() < 400, "{first}");
    high.run(&["request", "export", world.path("none").to_str().unwrap()]).exits(1).says("no request waits");
    let one = world.path("one");
    high.run(&["request", "export", one.to_str().unwrap(), "--again"]).exits(2).says("is there already");
    configure(&high, "[requests]\naskers = true\nreasons = false");
    assert!(line("two", &["--again"]).contains(" numpy 2026-03-01T12:00:00Z ada \"\" ed25519 "));
    // It is the same request, in whatever words it was told.
    import(&low, &high, &world.path("two")).exits(0).shows("1 new request ");
    import(&low, &high, &one).exits(0).shows("0 new requests");

    for (spec, says) in [
        ("numpy*", "one package, without wildcards"),
        ("num\u{440}y", "letters, digits"),
        ("numpy==1 2", "several ways"),
        ("numpy\u{7}", "letters, digits"),
        (&format!("numpy=={}", "1".repeat(200)), "at most 128 bytes"),
        ("numpy", "asked for already: r1 is sent"),
    ] {
        let asked = ask(&high, spec);
        let status = if spec == "numpy" { 1 } else { 2 };
        asked.exits(status).says(says);
    }
    let bad = |reason: &str| high.run(&["request", "new", "main", "scipy", "--reason", reason]).exits(2);
    bad("").says("the reason is to be");
    bad("a\nb").says("the reason is to be");
    bad(&"x".repeat(501)).says("the reason is to be");
    ask(&low, "scipy").exits(2).says("is read from a source of this station");
}

#[tokio::test]
async fn each_side_says_why_it_does_not_have_it_and_what_to_do_next() {
    let world = World::new().await;
    let low = world.connected("low");
    let source = world.path("conda");
    let few = ["channel", "add", "few", "--ecosystem", "conda", "--source", source.to_str().unwrap()];
    low.run(&[few.as_slice(), &["--only", "idna>=3.7"]].concat()).exits(0);
    low.run(&["sync"]).exits(0);
    let disk = world.path("disk");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    // A child's request is one for the channel that the bundles feed.
    high.run(&["channel", "add", "few/team", "--exclude", "other"]).exits(0);
    for spec in ["requests", "idna==3.6"] {
        high.run(&["request", "new", "few/team", spec, "--reason", "why"]).exits(0).shows("in few.");
    }
    high.run(&["request", "new", "nowhere", "idna", "--reason", "why"]).exits(2).says("no channel");
    let file = paper(&world, &high, "requests.txt");
    import(&low, &high, &file).exits(0);
    let shown = low.run(&["request", "list"]).exits(0);
    let shown = shown.shows("left out: the channel's --only or --exclude leaves it out");
    let shown =
        shown.shows("takes only some of its versions").shows("a channel with --only requests would have it");
    shown.shows("r2 of high  few idna==3.6  open");
    let elsewhere = world.station("elsewhere", "connected");
    import(&elsewhere, &high, &file).exits(0);
    assert_eq!(stands(&elsewhere, "requests"), triple("open", "no-channel", "-"));
    elsewhere
        .run(&["request", "list"])
        .exits(0)
        .shows("airlock channel add few --ecosystem conda --source URL");
    let disk = world.path("disk2");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    assert_eq!(stands(&high, "idna==3.6"), triple("answered", "not-listed", "left-out"));
    high.run(&["request", "list"]).exits(0).shows("answer  left out: the channel's --only");
}

/// Puts something else into a manifest, and signs that.
fn forge(low: &Station, disk: &Path, answers: &Value) {
    let path = disk.join("AIRLOCK.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["answers"] = answers.clone();
    let text = manifest.to_string();
    let signature = StationKey::open(&low.dir.join("keys")).unwrap().sign(text.as_bytes());
    std::fs::write(path, text).unwrap();
    std::fs::write(disk.join("AIRLOCK.sig"), format!("{signature}\n")).unwrap();
}

#[tokio::test]
async fn answers_that_no_station_writes_make_a_bundle_refused() {
    let (world, low, high) = stations().await;
    ask(&high, "numpy").exits(0);
    let file = paper(&world, &high, "requests.txt");
    import(&low, &high, &file).exits(0);
    let disk = world.path("disk2");
    low.run(&["export", disk.to_str().unwrap()]).exits(0);
    let manifest: Value = serde_json::from_slice(&std::fs::read(disk.join("AIRLOCK.json")).unwrap()).unwrap();
    let before = high.state();
    let other = manifest["channels"]["main"]["snapshot"].clone();
    for answers in [json!("07".repeat(32)), other] {
        forge(&low, &disk, &answers);
        high.run(&["import", disk.to_str().unwrap()]).exits(3).says("missing or cannot be read");
        assert_eq!(high.state(), before);
    }
    forge(&low, &disk, &manifest["answers"]);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    assert_eq!(stands(&high, "numpy"), triple("answered", "not-listed", "not-listed"));
}

/// West, another station behind another gap that takes the same bundles as high does; both ask low for something.
async fn two_that_ask() -> (World, Station, Station, Station) {
    let (world, low, high) = stations().await;
    ask(&high, "numpy").exits(0);
    import(&low, &high, &paper(&world, &high, "high.txt")).exits(0);
    let west = world.station("west", "isolated");
    west.trust(&low);
    west.run(&["import", world.path("disk").to_str().unwrap()]).exits(0);
    ask(&west, "secret-of-west").exits(0);
    let (file, key) = (paper(&world, &west, "west.txt"), west.key());
    let theirs =
        ["request", "import", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--peer", "west"];
    low.run(&theirs).exits(0);
    low.run(&["request", "list"]).exits(0).shows("r1 of high").shows("r1 of west");
    (world, low, high, west)
}

/// Writes a bundle, and gives all that a receiver reads of it.
fn carried(world: &World, low: &Station, name: &str, args: &[&str]) -> (PathBuf, String) {
    let disk = world.path(name);
    low.run(&[&["export", disk.to_str().unwrap()], args].concat()).exits(0);
    let objects = std::fs::File::open(disk.join("objects/objects.jsonl.zst")).unwrap();
    let objects = String::from_utf8(zstd::stream::decode_all(objects).unwrap()).unwrap();
    let manifest = std::fs::read_to_string(disk.join("AIRLOCK.json")).unwrap();
    (disk, manifest + &objects)
}

#[tokio::test]
async fn no_peer_is_told_what_another_asked_for() {
    let (world, low, high, west) = two_that_ask().await;
    let has_answers = |text: &str| text.contains("\"airlock.answers.v1\"") || text.contains("\"answers\":\"");
    let (_, common) = carried(&world, &low, "common", &[]);
    assert!(!has_answers(&common) && !common.contains("secret-of-west"));
    let (to_high, own) = carried(&world, &low, "to-high", &["--to", "high"]);
    assert!(has_answers(&own) && own.contains("numpy") && !own.contains("secret-of-west"));
    // Also when one of them has its own: what is for everybody goes to both.
    let (others, common) = carried(&world, &low, "others", &[]);
    assert!(!has_answers(&common) && !common.contains("secret-of-west"));
    for station in [&west, &high] {
        station.run(&["import", others.to_str().unwrap()]).exits(0);
        let asked = if station.dir == west.dir { "secret-of-west" } else { "numpy" };
        assert_eq!(stands(station, asked), triple("sent", "not-listed", "-"));
    }
    // A station that takes its own from the first one on is answered.
    let east = world.station("east", "isolated");
    east.trust(&low);
    let (first, _) = carried(&world, &low, "to-east", &["--to", "east"]);
    east.run(&["import", first.to_str().unwrap()]).exits(0);
    ask(&east, "scipy").exits(0);
    let (file, key) = (paper(&world, &east, "east.txt"), east.key());
    let theirs =
        ["request", "import", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--peer", "east"];
    low.run(&theirs).exits(0);
    let (second, own) = carried(&world, &low, "to-east-2", &["--to", "east"]);
    assert!(own.contains("\"scipy\"") && !own.contains("secret-of-west"));
    let receipt = world.path("east.receipt");
    let receipt = receipt.to_str().unwrap();
    east.run(&["import", second.to_str().unwrap(), "--receipt-out", receipt]).exits(0);
    assert_eq!(stands(&east, "scipy"), triple("answered", "not-listed", "not-listed"));
    // Whether it came there, low knows by the receipt; high refuses what is not of the stream that feeds its channels.
    assert_eq!(stands(&low, "scipy").0, "sent");
    carried(&world, &low, "to-east-3", &["--to", "east", "--receipt", receipt]);
    assert_eq!(stands(&low, "scipy").0, "answered");
    high.run(&["import", to_high.to_str().unwrap()]).exits(3).says("is fed by bundles of");
    assert_eq!(stands(&low, "numpy").0, "sent");
}

#[tokio::test]
async fn what_to_do_for_a_peer_that_shares_its_bundles_is_said() {
    let (world, low, high, _) = two_that_ask().await;
    fulfil(&world, &low);
    let shown = low.run(&["request", "list"]).exits(0);
    shown.shows("unless high takes bundles for everybody: those answer nobody while several ask");
    carried(&world, &low, "to-high", &["--to", "high"]);
    low.run(&["request", "list"]).exits(0).shows("no receipt of such a bundle was used yet");
    high.run(&["request", "list"]).exits(0).shows("wait for a bundle");
}

#[tokio::test]
async fn neither_the_ledger_nor_evidence_tells_why_something_was_asked_for() {
    let (world, _, high) = stations().await;
    let asked = ["request", "new", "main", "numpy", "--reason", "for weapons", "--ticket", "OPS-17"];
    high.run(&asked).exits(0);
    let log = high.json(&["ledger", "log"]).to_string();
    assert!(log.contains("\"request.new\"") && !log.contains("OPS-17") && !log.contains("weapons"), "{log}");
    let file = world.path("evidence.zip");
    high.run(&["evidence", "main", file.to_str().unwrap()]).exits(0);
    let all = Command::new("unzip").arg("-p").arg(&file).output().unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.contains("request.new") && !all.contains("OPS-17") && !all.contains("weapons"));
    high.run(&["request", "list"]).exits(0).shows("OPS-17").shows("for weapons");
}

#[tokio::test]
async fn a_reason_that_is_cut_into_a_reserved_name_does_not_leave() {
    let (world, _, high) = stations().await;
    configure(&high, "[requests]\nreserved = [\"skunk\"]");
    let reason = format!("{} skunkworks-like", "x".repeat(94));
    let new = ["request", "new", "main", "numpy", "--reason", &reason];
    high.run(&new).exits(1).says("may not be asked for outside");
    high.run(&["request", "new", "main", "numpy", "--reason", "skunkworks-like"]).exits(0);
    let file = paper(&world, &high, "requests.txt");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    let usual = world.path("usual");
    std::fs::write(&usual, "x").unwrap();
    let usual = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&usual).unwrap().permissions());
    assert_eq!(mode, usual, "whoever releases it can read it");
}
