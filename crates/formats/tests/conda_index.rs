//! `repodata.json`: what is read is served again in value, and what would lead outside or was never judged is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "common/channel.rs"]
mod channel;
#[path = "common/genuine.rs"]
mod genuine;

use std::collections::BTreeMap;

use airlock_core::canon::Canonical;
use airlock_core::fact::{Fact, Facts};
use airlock_core::id::Digest;
use airlock_core::shard::Shard;
use airlock_core::time::Time;
use airlock_formats::conda::{self, ChannelPackage, Everywhere};
use airlock_formats::limits::RECORD_DEPTH_MAX;
use airlock_formats::{IndexError, IndexRead};
use channel::{ODD, expected_table, fact, index_of, plain, published, render, tables};
use genuine::{Random, SUBDIRS, repodata, shuffled};
use serde_json::{Value, json};

fn read(subdir: &str, text: &str) -> Result<IndexRead, IndexError> {
    conda::read_repodata(subdir, "test", text.as_bytes())
}

fn odd() -> IndexRead {
    read("linux-64", ODD).unwrap()
}

fn reasons(read: &IndexRead) -> BTreeMap<&str, &str> {
    read.bad.iter().map(|bad| (bad.file.as_str(), bad.reason.as_str())).collect()
}

/// Everything that one genuine subdir must fulfil; the number of its records.
fn check_genuine(subdir: &str, bytes: &[u8]) -> usize {
    let original: Value = serde_json::from_slice(bytes).unwrap();
    let read = conda::read_repodata(subdir, "genuine", bytes).unwrap();
    assert_eq!((read.bad_count, &read.bad), (0, &Vec::new()), "{subdir}: records were left out");
    let mut expected = json!({"info": {"subdir": subdir}, "removed": [], "repodata_version": 1});
    for table in ["packages", "packages.conda"] {
        expected[table] = expected_table(&original[table], "", false);
    }
    let rendered = render(subdir, &read);
    let served: Value = serde_json::from_str(&rendered.json).unwrap();
    for table in ["packages", "packages.conda"] {
        for (file, record) in expected[table].as_object().unwrap() {
            assert_eq!(&served[table][file], record, "{subdir}/{file}");
        }
    }
    assert!(served == expected, "{subdir}: more is served than was read");
    let mut sharded: BTreeMap<String, Value> = BTreeMap::new();
    for (name, (digest, packed)) in &rendered.shards {
        assert_eq!(*digest, Digest::of(packed));
        let read = conda::read_shard(subdir, name, packed).unwrap();
        assert_eq!((read.bad_count, read.shards.len()), (0, 1), "{subdir}/{name}");
        sharded.extend(tables(&read).into_values().flatten());
    }
    let both = ["packages", "packages.conda"].map(|t| expected[t].as_object().unwrap());
    assert_eq!(sharded.len(), both[0].len() + both[1].len());
    for (file, record) in both.into_iter().flatten() {
        assert_eq!(&sharded[file], record, "{subdir}/{file} in its shard");
    }
    let index = conda::read_shard_index(subdir, &rendered.index).unwrap();
    assert!(index.shards.iter().eq(rendered.shards.iter().map(|(name, (digest, _))| (name, digest))));
    sharded.len()
}

#[test]
fn every_genuine_record_is_served_as_it_was_read_but_for_the_listed_changes() {
    let count = |subdirs: &[&str]| -> usize {
        subdirs.iter().filter_map(|s| repodata(s).map(|bytes| check_genuine(s, &bytes))).sum()
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| count(&SUBDIRS[..3]));
        (count(&SUBDIRS[3..]), other.join().unwrap())
    });
    eprintln!("{} genuine records were served as they were read", first + second);
    assert!(first + second == 44_721 || repodata("noarch").is_none());
}

#[test]
fn the_packed_index_reads_like_the_plain_one() {
    let genuine = repodata("win-64").map(|bytes| ("win-64", bytes));
    for (subdir, bytes) in [("linux-64", ODD.as_bytes().to_vec())].into_iter().chain(genuine) {
        let packed = conda::zst(&bytes).unwrap();
        let size = zstd::zstd_safe::get_frame_content_size(&packed).unwrap();
        assert_eq!(size, Some(bytes.len() as u64));
        let plain = conda::read_repodata(subdir, "i", &bytes).unwrap();
        let unpacked = conda::read_repodata_zst(subdir, "i", &packed).unwrap();
        assert_eq!((plain.shards, plain.about, plain.bad), (unpacked.shards, unpacked.about, unpacked.bad));
    }
}

#[test]
fn the_order_of_the_text_decides_nothing() {
    let conflict = r#"{"packages.conda": {"x-1-0.conda": {"name":"x","version":"1","build":"0","a":1}},
        "v3": {"conda": {"x-1-0": {"name":"x","version":"1","build":"0","a":2}}}}"#;
    let genuine = repodata("osx-arm64").map(|bytes| ("osx-arm64", String::from_utf8(bytes).unwrap()));
    let made = [("linux-64", ODD.to_owned()), ("linux-64", conflict.to_owned())];
    for (subdir, text) in made.into_iter().chain(genuine) {
        let value: Value = serde_json::from_str(&text).unwrap();
        // Through the same parser, which holds no integer beyond 64 bits.
        let first = render(subdir, &read(subdir, &value.to_string()).unwrap());
        for seed in 1..6 {
            let text = shuffled(&value, &mut Random::new(seed));
            let again = read(subdir, &text).unwrap();
            let rendered = render(subdir, &again);
            assert_eq!(rendered.json, first.json);
            assert_eq!((rendered.shards, rendered.index), (first.shards.clone(), first.index.clone()));
            let mut reversed = published(&again);
            reversed.reverse();
            assert_eq!(conda::repodata(subdir, again.about.as_ref(), &reversed), first.json);
        }
    }
}

#[test]
fn of_two_records_for_one_file_one_is_kept_and_the_other_is_listed() {
    let (one, two) = (plain("x", "1").to_string(), r#"{"name":"x","version":"1","build":"0","a":1}"#);
    let other = plain("y", "1").to_string();
    let orders = [[one.as_str(), two], [two, &one]];
    let kept = orders.map(|[first, second]| {
        let text = index_of(&[("x-1-0.conda", first), ("y-1-0.conda", &other), ("x-1-0.conda", second)]);
        let read = read("linux-64", &text).unwrap();
        assert_eq!((read.records(), read.bad_count), (2, 1));
        assert!(reasons(&read)["x-1-0.conda"].contains("stands twice"));
        read.shards
    });
    assert_eq!(kept[0], kept[1]);
    let same = read("linux-64", &index_of(&[("x-1-0.conda", two), ("x-1-0.conda", two)])).unwrap();
    assert_eq!((same.records(), same.bad_count), (1, 0));
}

#[test]
fn odd_values_survive_to_the_digit() {
    let rendered = render("linux-64", &odd());
    for piece in [
        r#""big":123456789012345678901234567890,"#,
        r#""float":0.1,"#,
        r#""one":1.0,"#,
        r#""noarch":"","#,
        r#""license":null,"#,
        r#""nothing":null,"#,
        r#""track_features":["a","b"]"#,
        r#""é\"\\\n":{"":[]}"#,
        r#""timestamp":1500000000,"#,
        r#""size":18446744073709551615,"#,
        r#""low":-9223372036854775808,"#,
        r#""vendor":{"kept":[null,true,123456789012345678901234567890]}"#,
        r#""vendor_info":{"kept":[null,1.5]}"#,
        r#""noarch":true,"#,
        r#""legacy_bz2_md5":"00112233445566778899aabbccddeeff""#,
    ] {
        assert!(rendered.json.contains(piece), "{piece} is not in {}", rendered.json);
    }
    let served: Value = serde_json::from_str(&rendered.json).unwrap();
    let original: Value = serde_json::from_str(ODD).unwrap();
    for table in ["packages", "packages.conda"] {
        assert_eq!(served[table], expected_table(&original[table], "", false));
    }
    for extension in ["conda", "whl"] {
        let expected = expected_table(&original["v3"][extension], &format!(".{extension}"), true);
        assert_eq!(served["v3"][extension], expected);
    }
}

#[test]
fn nothing_that_leads_outside_or_was_not_judged_comes_out() {
    let read = odd();
    assert_eq!(read.base_url.as_deref(), Some("https://evil.example/pkgs"));
    let rendered = render("linux-64", &read);
    let unpack = |packed: &[u8]| {
        let bytes = zstd::stream::decode_all(packed).unwrap();
        airlock_formats::msgpack::to_json(&bytes).unwrap()
    };
    let shards: String = rendered.shards.values().map(|(_, packed)| unpack(packed)).collect();
    for text in [&rendered.json, &shards, &unpack(&rendered.index)] {
        for never in
            ["evil", "channel_relations", "created_at", "signatures", "packages.whl", "\"v4\"", "rpm"]
        {
            assert!(!text.contains(never), "{never} stands in {text}");
        }
        assert!(!text.contains("x-4.0") && !text.contains("x-9") && !text.contains("six-1.9"));
    }
    let reasons = reasons(&read);
    assert_eq!(read.bad_count, 4);
    assert!(reasons["x-4.0-0.rpm"].contains("kind"), "{reasons:?}");
    assert!(reasons["packages.whl"].contains("kind") && reasons["v4"].contains("kind"));
    assert!(reasons["../evil-1-0.conda"].contains("removed"));
}

#[test]
fn the_head_of_an_index_is_written_anew() {
    let served: Value = serde_json::from_str(&render("linux-64", &odd()).json).unwrap();
    assert_eq!(served["repodata_version"], 1);
    assert_eq!(served["info"]["subdir"], "linux-64");
    let revisions =
        json!({"v3": {"n_packages": 2, "oldest": 1_700_000_000_000_u64, "newest": 1_700_000_001_000_u64}});
    assert_eq!(served["info"]["repodata_revisions"], revisions);
    let wrong = read("noarch", r#"{"info": {"subdir": "linux-64"}}"#).unwrap();
    let served: Value = serde_json::from_str(&render("noarch", &wrong).json).unwrap();
    assert_eq!(served["info"], json!({"subdir": "noarch"}));
}

#[test]
fn removed_files_are_listed_unless_they_are_offered() {
    let rendered = render("linux-64", &odd());
    let served: Value = serde_json::from_str(&rendered.json).unwrap();
    assert_eq!(served["removed"], json!(["x-0.9-0.conda"]));
    let read = conda::read_shard("linux-64", "x", &rendered.shards["x"].1).unwrap();
    let meta = &read.shards.values().next().unwrap().meta;
    assert_eq!(meta["removed"].as_str(), r#"["x-0.9-0.conda"]"#);
    for (removed, fine) in [("null", true), ("[]", true), ("[1]", false), ("{}", false), ("\"x\"", false)] {
        assert_eq!(read_removed(removed).is_ok(), fine, "{removed}");
    }
}

fn read_removed(removed: &str) -> Result<IndexRead, IndexError> {
    read("noarch", &format!(r#"{{"removed": {removed}}}"#))
}

#[test]
fn an_empty_channel_renders_files_that_clients_accept() {
    for text in ["{}", r#"{"packages": {}, "packages.conda": null, "v3": {}}"#] {
        let read = read("noarch", text).unwrap();
        let rendered = render("noarch", &read);
        let served: Value = serde_json::from_str(&rendered.json).unwrap();
        let expected = json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {}, "removed": [], "repodata_version": 1});
        assert_eq!(served, expected);
        assert!(conda::read_shard_index("noarch", &rendered.index).unwrap().shards.is_empty());
        assert_eq!(conda::repodata("noarch", None, []), rendered.json);
    }
}

#[test]
fn bad_records_are_left_out_and_listed_and_the_rest_is_kept() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let with = |more: &str| format!(r#"{{"name":"x","version":"1","build":"0",{more}}}"#);
    let bad = [
        ("twice.conda", with(r#""a":1,"a":1"#)),
        ("list.conda", "[]".to_owned()),
        ("null.conda", "null".to_owned()),
        ("number.conda", "7".to_owned()),
        ("nameless.conda", r#"{"version":"1"}"#.to_owned()),
        ("hostile.conda", r#"{"name":"../x","version":"1","build":"0"}"#.to_owned()),
        ("x-1-0.exe", with(r#""a":1"#)),
        ("x-2-0.conda", with(r#""a":1"#)),
        ("x/../x-1-0.conda", with(r#""a":1"#)),
        ("x-1-0.tar.bz2", with(&format!(r#""a":{}"#, deep(RECORD_DEPTH_MAX)))),
        ("wide.conda", with(r#""a":[{"b":1e400}]"#)),
        ("size.conda", with(r#""size":-1"#)),
    ];
    let good = plain("y", "1").to_string();
    let mut records: Vec<(&str, &str)> = bad.iter().map(|(file, record)| (*file, record.as_str())).collect();
    records.insert(5, ("y-1-0.conda", &good));
    let read = read("linux-64", &index_of(&records)).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, bad.len() as u64));
    let reasons = reasons(&read);
    for (file, _) in &bad {
        assert!(!reasons[file].is_empty(), "{file}");
    }
    assert!(reasons["twice.conda"].contains("stands twice"));
    render("linux-64", &read);
}

#[test]
fn a_record_may_nest_as_deep_as_the_limit_allows() {
    let record = format!(
        r#"{{"name":"x","version":"1","build":"0","a":{}1{}}}"#,
        "[".repeat(RECORD_DEPTH_MAX - 1),
        "]".repeat(RECORD_DEPTH_MAX - 1)
    );
    let read = read("linux-64", &index_of(&[("x-1-0.conda", &record)])).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, 0));
    let rendered = render("linux-64", &read);
    let shard = conda::read_shard("linux-64", "x", &rendered.shards["x"].1);
    assert_eq!(shard.unwrap().records(), 1, "what is served can be read by another station");
}

#[test]
fn an_index_of_another_shape_is_refused() {
    for text in [
        "",
        "null x",
        "[]",
        "7",
        "<html>",
        r#"{"packages": []}"#,
        r#"{"packages": "x"}"#,
        r#"{"packages.conda": 7}"#,
        r#"{"v3": []}"#,
        r#"{"v3": {"conda": []}}"#,
        r#"{"info": {"a": 1, "a": 2}}"#,
        r#"{"info": {"a": 1e400}}"#,
        r#"{"vendor": 1e400}"#,
    ] {
        assert!(read("noarch", text).is_err(), "{text}");
    }
    let deep = format!(r#"{{"packages": {}"#, "[".repeat(1_000_000));
    assert!(read("noarch", &deep).is_err());
    let deep = format!(r#"{{"x": {}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert!(matches!(read("noarch", &deep), Err(IndexError::Content(_))));
    assert!(matches!(conda::read_repodata("noarch", "i", b"{\"a\": \"\xff\"}"), Err(IndexError::Content(_))));
}

#[test]
fn an_index_that_ends_too_early_is_refused_wherever_it_ends() {
    let genuine = repodata("win-arm64");
    for text in std::iter::once(ODD.as_bytes()).chain(genuine.as_deref()) {
        let text = text.trim_ascii_end();
        for end in (0..text.len()).step_by(97).chain([text.len() - 1]) {
            assert!(conda::read_repodata("linux-64", "cut", &text[..end]).is_err(), "cut at {end}");
        }
        let packed = conda::zst(text).unwrap();
        for end in (0..packed.len()).step_by(97) {
            assert!(conda::read_repodata_zst("linux-64", "cut", &packed[..end]).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn what_expands_beyond_reason_is_refused() {
    let spaces = vec![b' '; 64 << 20];
    let bomb = conda::zst(&spaces).unwrap();
    assert!(bomb.len() < 100_000);
    assert!(matches!(conda::read_repodata_zst("noarch", "bomb", &bomb), Err(IndexError::Ratio)));
    let chain = bomb[..].repeat(3);
    assert!(matches!(conda::read_repodata_zst("noarch", "bomb", &chain), Err(IndexError::Ratio)));
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(28).unwrap();
    std::io::Write::write_all(&mut wide, b"{}").unwrap();
    let wide = wide.finish().unwrap();
    assert!(matches!(conda::read_repodata_zst("noarch", "wide", &wide), Err(IndexError::Unpack(_))));
    assert!(matches!(conda::read_repodata_zst("noarch", "i", b"{}"), Err(IndexError::Unpack(_))));
}

#[test]
fn reasons_quote_no_more_of_a_hostile_text_than_a_message_holds() {
    let long = "x".repeat(1 << 20);
    let record = format!(r#"{{"name":"x","version":"1","build":"0","size":"{long}"}}"#);
    let read = read("noarch", &index_of(&[("x-1-0.conda", &record), (&long, "{}")])).unwrap();
    assert_eq!(read.bad_count, 2);
    assert!(read.bad.iter().all(|bad| bad.reason.len() <= 400 && bad.file.len() <= 400));
}

#[test]
fn the_list_of_bad_records_ends_and_their_count_does_not() {
    let files: Vec<String> = (0..1500).map(|i| format!("x-{i}-0.exe")).collect();
    let records: Vec<(&str, &str)> = files.iter().map(|file| (file.as_str(), "{}")).collect();
    let read = read("noarch", &index_of(&records)).unwrap();
    assert_eq!((read.bad_count, read.bad.len()), (1500, 1000));
}

#[test]
fn run_exports_channeldata_and_notices_are_valid() {
    let read = conda::read_repodata(
        "linux-64",
        "i",
        br#"{"packages.conda":{"x-1-0.conda":{"name":"x","version":"1","build":"0"}},"packages":{"y-1-0.tar.bz2":{"name":"y","version":"1","build":"0"}}}"#,
    )
    .unwrap();
    let mut facts = Facts::default();
    let mut file = fact("x-1-0.conda", read.shards.values().next().unwrap().entries.values().next().unwrap());
    file.run_exports = Some(Canonical::parse(r#"{"weak":["x >=1"]}"#).unwrap());
    let first_seen = Time::from_seconds(0);
    facts.files.insert("x-1-0.conda".to_owned(), Fact { first_seen, file: Some(file), fault: None });
    let exports = |subdir: &str, shards: &[&Shard]| -> Value {
        let pieces: Vec<_> = shards.iter().map(|shard| conda::pieces(shard, Some(&facts))).collect();
        let frame = conda::run_exports_frame(subdir);
        let classic: String = pieces.iter().map(|p| p.classic_exports.as_str()).collect();
        let conda: String = pieces.iter().map(|p| p.conda_exports.as_str()).collect();
        let parts = [frame.before, classic, frame.between, conda, frame.behind, frame.end];
        serde_json::from_str(&parts.concat()).unwrap()
    };
    let served = exports("linux-64", &read.shards.values().collect::<Vec<_>>());
    let info = json!({"arch": "64", "platform": "linux", "subdir": "linux-64", "version": 1});
    assert_eq!(served["info"], info);
    assert_eq!(served["packages.conda"], json!({"x-1-0.conda": {"run_exports": {"weak": ["x >=1"]}}}));
    assert_eq!(served["packages"], json!({"y-1-0.tar.bz2": {"run_exports": {}}}));
    let empty = exports("noarch", &[]);
    assert_eq!(empty["info"], json!({"arch": null, "platform": null, "subdir": "noarch", "version": 1}));
    assert_eq!((&empty["packages"], &empty["packages.conda"]), (&json!({}), &json!({})));

    let package = ChannelPackage {
        version: "1".into(),
        licence: None,
        summary: Some("a \"quoted\"\nline é".into()),
        timestamp: Some(1_700_000_000),
    };
    let older =
        ChannelPackage { version: "0.9".into(), summary: Some("as it was".into()), ..package.clone() };
    let twin = ChannelPackage { summary: Some("the same version elsewhere".into()), ..package.clone() };
    let odd = ChannelPackage { version: "no version!".into(), ..older.clone() };
    let (mut x, mut y, mut z) = (Everywhere::default(), Everywhere::default(), Everywhere::default());
    for (subdir, said) in [("noarch", &older), ("linux-64", &package), ("osx-64", &twin), ("noarch", &older)]
    {
        x.add(subdir, said.clone());
    }
    y.add("noarch", ChannelPackage::default());
    z.add("noarch", package);
    z.add("win-64", odd);
    let channeldata = |packages: Vec<(&'static str, Everywhere<'static>)>, subdirs: &[String]| {
        let mut text = Vec::new();
        conda::channeldata(packages, subdirs, &mut text).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            Canonical::of(&document).unwrap().as_str().to_owned() + "\n"
        );
        document
    };
    let served =
        channeldata(vec![("x", x), ("y", y), ("z", z)], &["linux-64".to_owned(), "noarch".to_owned()]);
    assert_eq!(
        (&served["channeldata_version"], &served["subdirs"]),
        (&json!(1), &json!(["linux-64", "noarch"]))
    );
    assert_eq!(served["packages"]["x"]["summary"], "a \"quoted\"\nline é");
    assert_eq!(served["packages"]["x"]["subdirs"], json!(["linux-64", "noarch", "osx-64"]));
    assert_eq!(served["packages"]["x"]["timestamp"], 1_700_000_000);
    assert_eq!(served["packages"]["y"]["license"], Value::Null);
    assert_eq!(served["packages"]["z"]["version"], "no version!");
    let empty = channeldata(Vec::new(), &[]);
    assert_eq!(empty, json!({"channeldata_version": 1, "packages": {}, "subdirs": []}));
}

#[test]
fn notices_name_what_leaves_when_and_why_and_nothing_that_moves_a_cursor() {
    use airlock_core::block::{BlockSet, Leaving};
    let mut blocks = BlockSet::default();
    let read = |blocks: &BlockSet| -> Value {
        serde_json::from_str(&conda::notices("main", blocks, "2026-03-01".parse().unwrap())).unwrap()
    };
    assert_eq!(read(&blocks), json!({"notices": []}));
    let mut leave = |key: &str, file: &str, version: &str, from: &str| {
        let reason = "cvss-above-7: CVE-1".to_owned();
        let leaving = Leaving { version: version.to_owned(), from: from.parse().unwrap(), reason };
        blocks.leaving.entry(key.to_owned()).or_default().insert(file.to_owned(), leaving);
    };
    for subdir in ["linux-64", "noarch"] {
        leave(&format!("{subdir}/idna"), "idna-3.6-0.conda", "3.6\u{1b}[2J\u{202e}\u{2066}", "2026-03-08");
    }
    for n in 0..12 {
        // A feed that is read every minute makes one notice of a day, not one of a minute.
        leave(&format!("noarch/p{n:02}"), "f", "1", &format!("2026-03-09T12:{n:02}:00Z"));
    }
    leave("noarch/gone", "gone-1-0.conda", "1", "2026-03-08");
    blocks.insert("noarch/gone", "gone-1-0.conda", "blocked".to_owned());
    let notices = read(&blocks);
    let [first, second] = &notices["notices"].as_array().unwrap()[..] else { panic!("{notices}") };
    assert_eq!(
        first["message"],
        "Denied in channel main from 2026-03-08T00:00:00Z on: idna 3.6[2J (cvss-above-7: CVE-1)"
    );
    assert_eq!(first["level"], "warning");
    assert_eq!(first["created_at"], "2026-03-01T00:00:00+00:00");
    assert_eq!(
        (&first["expired_at"], &first["expires_at"]),
        (&json!("2026-03-08T00:00:00+00:00"), &json!("2026-03-08T00:00:00+00:00"))
    );
    assert!(
        second["message"].as_str().unwrap().ends_with("; p09 1 (cvss-above-7: CVE-1); and 2 more"),
        "{second}"
    );
    assert!(second["message"].as_str().unwrap().contains("from 2026-03-09T12:00:00Z on"), "{second}");
    assert_eq!(second["expired_at"], "2026-03-09T12:11:00+00:00");
    assert_ne!(first["id"], second["id"]);
    assert_eq!(read(&blocks), notices);
}

/// What an index gives, with any number of threads: more than a thread is begun for, bad records among good ones, files
/// that stand twice, far apart, and a table that nobody knows.
#[test]
fn an_index_gives_the_same_with_any_number_of_threads() {
    use airlock_formats::conda::read_repodata_on;
    let record = |n: usize, build: usize| {
        let version = if n % 7 == 3 { json!(7) } else { json!(format!("1.{n}")) };
        json!({
            "name": format!("package-{}", n % 500), "version": version, "build": "0", "build_number": build,
            "depends": ["python >=3.10,<3.13", "something-else 1.2.*"], "sha256": format!("{n:064x}"), "size": n,
        })
    };
    let file = |n: usize| format!("package-{}-1.{n}-0.tar.bz2", n % 500);
    let table = |from: usize, to: usize, build: usize| -> String {
        let members = (from..to).map(|n| format!("{}:{}", json!(file(n)), record(n, build)));
        members.collect::<Vec<_>>().join(",")
    };
    let text = format!(
        "{{\"packages\":{{{},{}}},\"packages.whl\":{{}},\"packages.conda\":{{}}}}",
        table(0, 9000, 0),
        table(0, 40, 1)
    );
    assert!(text.len() > 2 << 20);
    let seen = |threads: usize, text: &str| {
        let read = read_repodata_on(threads, "linux-64", "repodata.json", text.as_bytes());
        read.map(|r| (r.shards, r.about, r.bad, r.bad_count)).map_err(|e| e.to_string())
    };
    let alone = seen(1, &text).unwrap();
    assert_eq!(alone.0.len(), 500);
    assert!(alone.3 > 1285 + 30, "{}", alone.3);
    for threads in [2, 3, 8] {
        assert_eq!(seen(threads, &text).unwrap(), alone, "{threads} threads");
    }
    let cut = &text[..text.len() - 30];
    for threads in [1, 2, 8] {
        assert!(seen(threads, cut).unwrap_err().contains("EOF"), "{threads} threads");
    }
}
