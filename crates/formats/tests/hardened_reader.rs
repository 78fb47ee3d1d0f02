//! One test for each attack of the checklist of hardened readers that the other files of archive tests do not name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[macro_use]
#[path = "common/archive.rs"]
mod archive;

use archive::*;

fn sdist(tar: Tar) -> Result<Opened, Fault> {
    open_sdist(gz(&tar.end()).as_slice(), &limits())
}

/// Sets the mode of the last member of a tar that has no data.
fn with_mode(mut tar: Tar, mode: &str) -> Tar {
    let start = tar.0.len() - 512;
    let block = &mut tar.0[start..];
    block[100..100 + mode.len()].copy_from_slice(mode.as_bytes());
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar
}

// ---- names

#[test]
fn a_name_lies_no_deeper_than_the_limit() {
    let deep = |parts: usize| vec!["a"; parts].join("/");
    let most = limits().name_parts_max;
    let open = |parts| Tar::conda().pax(b'x', &[("path", &deep(parts))]).file("a", b"").open();
    open(most).unwrap();
    refused!(open(most + 1), Fault::NameTooDeep { .. });
    refused!(wheel(&wheel_with(&[entry(&deep(most + 1), b"")])), Fault::NameTooDeep { .. });
}

#[test]
fn another_spelling_of_checked_metadata_that_is_one_file_somewhere_is_refused() {
    for twin in [
        "INFO/index.json",
        "info/INDEX.JSON",
        "info/index.j\u{17f}on",
        "info/index.json.",
        "info /index.json",
        "info/inde\u{200d}x.json",
    ] {
        refused!(Tar::conda().file(twin, b"x").open(), Fault::DuplicateMember { .. });
    }
    let pkg_info = b"Name: a\nVersion: 1\n";
    // The sign of Kelvin, which is composed of nothing but K.
    for twin in ["a-1/pkg-info", "a-1/P\u{212a}G-INFO", "a-1/PKG-INFO "] {
        let tar = Tar(Vec::new()).file("a-1/PKG-INFO", pkg_info).file(twin, pkg_info);
        refused!(sdist(tar), Fault::DuplicateMember { .. });
        let zip = zip(&[entry("a-1/PKG-INFO", pkg_info), entry(twin, pkg_info)]);
        refused!(open_sdist_zip(Cursor::new(zip), &limits()), Fault::DuplicateMember { .. });
    }
    for twin in ["metadata", "WHEEL.", "Record", "ENTRY_POINTS.TXT"] {
        let twin = entry(&format!("demo-1.0.dist-info/{twin}"), b"x");
        refused!(wheel(&wheel_with(&[twin])), Fault::DuplicateMember { .. });
    }
}

#[test]
fn names_that_are_not_utf_8_are_shown_escaped_and_match_no_list() {
    let tar = Tar::conda().raw(b"a\xff", b'0', "", 0, b"");
    tar.open().unwrap();
    let listed = br#"{"paths_version": 1, "paths": [{"_path": "b", "path_type": "hardlink"}]}"#;
    let tar = Tar::conda().file("info/paths.json", listed).raw(b"b\xff", b'0', "", 0, b"");
    assert!(tar.open().is_err());
}

#[test]
fn a_message_shows_no_character_that_turns_the_direction_of_writing() {
    let error = Tar::conda().file("a\u{202e}gpj.exe/../b", b"").open().unwrap_err();
    assert!(!error.to_string().contains('\u{202e}'), "{error}");
}

// ---- modes

#[test]
fn files_with_the_rights_of_their_owner_are_refused() {
    for mode in ["0004755", "0002755", "0006755"] {
        refused!(with_mode(Tar::conda().file("a", b""), mode).open(), Fault::SetId { .. });
    }
    for mode in [0o104_755, 0o102_755] {
        refused!(wheel(&wheel_with(&[Entry { mode, ..entry("a", b"") }])), Fault::SetId { .. });
    }
    refused!(with_mode(Tar::conda().file("a", b""), "x000644").open(), Fault::TarHeader { .. });
    // On a directory the bit hands down its group, and old source distributions have it.
    with_mode(Tar::conda().member("d/", b'5', "", b""), "0002755").open().unwrap();
    with_mode(Tar::conda().file("a", b""), "0001644").open().unwrap();
}

// ---- tar

#[test]
fn names_in_another_character_set_are_refused() {
    let tar = Tar::conda().pax(b'x', &[("hdrcharset", "BINARY"), ("path", "b")]).file("a", b"");
    refused!(tar.open(), Fault::TarAmbiguous { .. });
    let tar = Tar::conda().pax(b'g', &[("hdrcharset", "BINARY")]).file("a", b"");
    refused!(tar.open(), Fault::TarAmbiguous { .. });
}

#[test]
fn a_gnu_long_name_is_checked_like_any_other() {
    for name in ["../evil", "/evil", "a\\b"] {
        let tar = Tar::conda().member("././@LongLink", b'L', "", format!("{name}\0").as_bytes());
        refused!(tar.file("a", b"").open(), Fault::UnsafeName { .. });
        let tar = Tar::conda().member("././@LongLink", b'K', "", format!("{name}\0").as_bytes());
        refused!(tar.member("a", b'2', "b", b"").open(), Fault::LinkEscapes { .. });
    }
    let long = "a/".repeat(60) + "b";
    Tar::conda().member("././@LongLink", b'L', "", long.as_bytes()).file("a", b"").open().unwrap();
}

#[test]
fn a_second_archive_behind_the_first_is_refused() {
    let two = [Tar::conda().end(), Tar::conda().file("evil", b"").end()].concat();
    refused!(open_tar_bz2(bz2(&two).as_slice(), &limits()), Fault::TarTrailingData);
    let streams = [Tar::conda().bz2(), Tar(Vec::new()).file("evil", b"").bz2()].concat();
    refused!(open_tar_bz2(streams.as_slice(), &limits()), Fault::TarTrailingData);
    let members = [gz(&Tar(Vec::new()).file("a-1/a", b"").end()), gz(b"evil")].concat();
    refused!(open_sdist(members.as_slice(), &limits()), Fault::TarTrailingData);
}

// ---- files that are two archives

#[test]
fn a_tar_whose_packed_bytes_are_a_zip_too_is_refused() {
    // The zip lies in a block that gzip stores as it is; its comment reaches to the end of the file.
    let zip = wheel_with(&[]);
    let mut tar = Tar(Vec::new()).file("a-1/PKG-INFO", b"Name: a\nVersion: 1\n").file("a-1/x", &zip);
    tar.0.extend([0; 1024]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut encoder, &tar.0).unwrap();
    let bytes = encoder.finish().unwrap();
    refused!(open_sdist(bytes.as_slice(), &limits()), Fault::Polyglot { .. });
    // A zip that is packed is no zip.
    open_sdist(gz(&tar.0).as_slice(), &limits()).unwrap();
}

#[test]
fn a_zip_whose_first_bytes_are_a_tar_too_is_refused() {
    // The first local header stands where a tar header has its name, and the file's data where it has the rest.
    let mut bytes = zip(&[entry("a", &[0; 1024])]);
    let header = &mut bytes[..512];
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00000000000");
    header[135] = 0;
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    refused!(wheel(&bytes), Fault::Polyglot { .. });
}

// ---- zip

#[test]
fn zip64_fields_that_nothing_asks_for_are_refused() {
    let mut central = entry("a", b"abc");
    put(&mut central.extra, &[(1, 2), (8, 2), (9, 8)]);
    refused!(wheel(&wheel_with(&[central])), Fault::ZipDirectory { .. });
    let mut local = entry("a", b"abc");
    put(&mut local.local_extra, &[(1, 2), (16, 2), (9, 8), (9, 8)]);
    refused!(wheel(&wheel_with(&[local])), Fault::ZipMismatch { .. });
    let mut twice = entry("a", b"abc");
    put(&mut twice.extra, &[(1, 2), (0, 2), (1, 2), (0, 2)]);
    refused!(wheel(&wheel_with(&[twice])), Fault::ZipDirectory { .. });
}

#[test]
fn a_second_name_in_the_local_header_is_refused() {
    let mut second = entry("a", b"");
    put(&mut second.local_extra, &[(0x7075, 2), (6, 2), (1, 1), (0, 4), (u64::from(b'b'), 1)]);
    refused!(wheel(&wheel_with(&[second])), Fault::ZipMismatch { .. });
}

#[test]
fn a_zip64_locator_that_points_elsewhere_is_refused() {
    let (bytes, start) = zip_parts(&conda_entries(Tar::conda()));
    let end = bytes.len() - 22;
    let size = (end - start) as u64;
    let wide = |at: u64, disks: u64, bytes_said: u64| {
        let mut wide = bytes[..end].to_vec();
        put(&mut wide, &[(0x0606_4b50, 4), (bytes_said, 8), (45, 2), (45, 2), (0, 8), (3, 8), (3, 8)]);
        put(&mut wide, &[(size, 8), (start as u64, 8)]);
        put(&mut wide, &[(0x0706_4b50, 4), (0, 4), (at, 8), (disks, 4)]);
        wide.extend(&bytes[end..]);
        conda(&wide)
    };
    wide(end as u64, 1, 44).unwrap();
    for (at, disks, said) in [(0, 1, 44), (end as u64, 2, 44), (end as u64, 1, 45), (u64::MAX, 1, 44)] {
        refused!(wide(at, disks, said), Fault::ZipDirectory { .. });
    }
}

#[test]
fn an_absurd_count_of_entries_is_refused_before_anything_is_kept() {
    let (mut bytes, _) = zip_parts(&[entry("a", b"a")]);
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].fill(0xff);
    refused!(wheel(&bytes), Fault::ZipDirectory { .. });
}

// ---- metadata

#[test]
fn index_json_that_readers_would_read_differently_is_refused() {
    let open = |more: &str| {
        let index = format!(r#"{{"name":"demo","version":"1.0","build":"0"{more}}}"#);
        Tar(Vec::new()).file("info/index.json", index.as_bytes()).open()
    };
    open(r#","build_number":9007199254740992,"license":null,"vendor":[1e400]"#).unwrap();
    let deep = format!(r#","a":{}{}"#, "[".repeat(60), "]".repeat(60));
    for more in [
        r#","depends":[],"depends":["evil"]"#,
        r#","vendor":{"a":1,"a":2}"#,
        r#","build_number":9007199254740993"#,
        r#","build_number":-1"#,
        r#","build_number":1e99"#,
        r#","build_number":NaN"#,
        r#","a":Infinity"#,
        deep.as_str(),
    ] {
        refused!(open(more), Fault::Metadata { .. });
    }
    let mut latin = br#"{"name":"demo","version":"1.0","build":"0","x":"#.to_vec();
    latin.extend(b"\"\xff\"}");
    refused!(Tar(Vec::new()).file("info/index.json", &latin).open(), Fault::Metadata { .. });
}

#[test]
fn what_people_are_shown_has_no_control_characters() {
    let about = r#"{"summary":"nice\u001b[31m\u202egpj\r\nx","license":"MIT\u0007"}"#;
    let index = br#"{"name":"demo","version":"1.0","build":"0"}"#;
    let tar = Tar(Vec::new()).file("info/index.json", index).file("info/about.json", about.as_bytes());
    let opened = tar.open().unwrap();
    assert_eq!(opened.summary.as_deref(), Some("nice\u{fffd}[31m\u{fffd}gpj\u{fffd} x"));
    assert_eq!(opened.licence.as_deref(), Some("MIT\u{fffd}"));
    let text = "Name: a\nVersion: 1\nSummary: \u{1b}]0;x\u{7}y\u{2066}\n";
    let opened = sdist(Tar(Vec::new()).file("a-1/PKG-INFO", text.as_bytes())).unwrap();
    assert_eq!(opened.summary.as_deref(), Some("\u{fffd}]0;x\u{fffd}y\u{fffd}"));
    let long = format!("Name: a\nVersion: 1\nSummary: {}\n", "x".repeat(5000));
    let opened = sdist(Tar(Vec::new()).file("a-1/PKG-INFO", long.as_bytes())).unwrap();
    assert_eq!(opened.summary, Some(format!("{}\u{2026}", "x".repeat(1000))), "that there was more is seen");
    // What was cut off may say the contrary: it reads as no licence.
    for licence in
        [format!("MIT{}AND AGPL-3.0-only", " ".repeat(1000)), "MIT License\n  Commons Clause".to_owned()]
    {
        let text = format!("Name: a\nVersion: 1\nLicense: {licence}\n");
        let opened = sdist(Tar(Vec::new()).file("a-1/PKG-INFO", text.as_bytes())).unwrap();
        let licence = opened.licence.unwrap();
        assert!(airlock_core::licence::expression(&licence).is_none(), "{licence}");
    }
}

#[test]
fn a_name_that_is_not_its_records_cannot_be_read_out_of_a_name() {
    for (field, value) in [("name", "a b"), ("name", "a\\u0000"), ("version", "1\\u202e"), ("build", "a/b")] {
        let mut index = serde_json::json!({"name":"demo","version":"1.0","build":"0"}).to_string();
        let old = format!(r#""{field}":"#);
        let at = index.find(&old).unwrap() + old.len();
        let end = at + index[at + 1..].find('"').unwrap() + 2;
        index.replace_range(at..end, &format!("\"{value}\""));
        refused!(Tar(Vec::new()).file("info/index.json", index.as_bytes()).open(), Fault::Metadata { .. });
    }
}
