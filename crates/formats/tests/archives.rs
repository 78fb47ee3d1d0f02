//! Every shape that genuine packages come in is read; names, links, limits and contents that may not be are refused.
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

// ---- what is valid

#[test]
fn a_conda_package_tells_what_it_is() {
    let bytes = CONDA.conda().unwrap();
    let opened = conda(&bytes).unwrap();
    assert_eq!(
        (opened.name.as_str(), opened.version.as_str(), opened.build.as_deref()),
        ("demo", "1.0", Some("py_0"))
    );
    assert_eq!((opened.subdir.as_deref(), opened.licence.as_deref()), (Some("noarch"), Some("MIT")));
    assert_eq!(opened.summary.as_deref(), Some("A demonstration"));
    let index: serde_json::Value = serde_json::from_slice(&opened.index_json.unwrap()).unwrap();
    assert_eq!(index, CONDA.index_json());
    assert_eq!(CONDA.file_name("conda"), "demo-1.0-py_0.conda");
    assert_eq!(CONDA.record(&bytes)["size"], bytes.len());
    assert_eq!(CONDA.conda().unwrap(), bytes);
}

#[test]
fn both_conda_formats_tell_the_same() {
    let old = open_tar_bz2(CONDA.tar_bz2().unwrap().as_slice(), &limits()).unwrap();
    assert_eq!(old, conda(&CONDA.conda().unwrap()).unwrap());
}

#[test]
fn run_exports_are_kept_byte_for_byte() {
    let exports = br#"{ "weak": ["demo >=1"] }"#;
    let info = Tar::conda().file("info/run_exports.json", exports);
    assert_eq!(conda(&zip(&conda_entries(info))).unwrap().run_exports.as_deref(), Some(exports.as_slice()));
}

#[test]
fn a_wheel_tells_what_it_is() {
    let opened = wheel(&WHEEL.bytes().unwrap()).unwrap();
    assert_eq!((opened.name.as_str(), opened.version.as_str()), ("Air.Demo", "1.2"));
    assert_eq!(opened.requires_python.as_deref(), Some(">=3.8"));
    assert_eq!(opened.metadata, Some(WHEEL.metadata()));
    assert_eq!(WHEEL.file_name(), "air_demo-1.2-py3-none-any.whl");
    let core = parse_metadata(&WHEEL.metadata()).unwrap();
    assert_eq!(core.requires_dist, ["six >=1", "attrs"]);
}

#[test]
fn source_distributions_open_in_both_formats() {
    let tar = open_sdist(SDIST.bytes().unwrap().as_slice(), &limits()).unwrap();
    assert_eq!(
        (tar.name.as_str(), tar.version.as_str(), tar.licence.as_deref()),
        ("air-demo", "1.2", Some("MIT"))
    );
    assert_eq!(open_sdist_zip(Cursor::new(SDIST.zip_bytes().unwrap()), &limits()).unwrap(), tar);
    assert_eq!(SDIST.file_name(), "air_demo-1.2.tar.gz");
}

#[test]
fn an_sdist_without_pkg_info_is_named_by_its_directory() {
    let tar = Tar(Vec::new()).member("./", b'5', "", b"").file("./my-tool-0.9/setup.py", b"");
    let opened = open_sdist(gz(&tar.end()).as_slice(), &limits()).unwrap();
    assert_eq!((opened.name.as_str(), opened.version.as_str()), ("my-tool", "0.9"));
}

#[test]
fn concatenated_streams_zip64_headers_and_descriptors_are_read() {
    let tar = Tar::conda()
        .member("lib/a.so", b'2', "../lib/a.so.1", b"")
        .file("lib/b", b"b")
        .member("b", b'1', "lib/b", b"");
    let bytes = tar.end();
    let (first, second) = bytes.split_at(700);
    assert!(open_tar_bz2([bz2(first), bz2(second)].concat().as_slice(), &limits()).is_ok());

    let mut wide = entry("a", b"abc");
    wide.local_sizes = Some(u32::MAX);
    put(&mut wide.local_extra, &[(1, 2), (16, 2), (3, 8), (3, 8)]);
    let mut streamed = entry("b", b"abc");
    (streamed.flags, streamed.local_sizes) = (8, Some(0));
    let mut unsigned = streamed.clone();
    (unsigned.name, unsigned.local_name) = ("c".into(), "c".into());
    put(&mut streamed.descriptor, &[(0x0807_4b50, 4), (streamed.crc.into(), 4), (3, 4), (3, 4)]);
    put(&mut unsigned.descriptor, &[(unsigned.crc.into(), 4), (3, 8), (3, 8)]);
    wheel(&wheel_with(&[wide, streamed, unsigned])).unwrap();
}

#[test]
fn a_zip64_end_record_is_read_and_must_agree() {
    let (bytes, start) = zip_parts(&conda_entries(Tar::conda()));
    let end = bytes.len() - 22;
    let (mut wide, size) = (bytes[..end].to_vec(), (end - start) as u64);
    put(
        &mut wide,
        &[(0x0606_4b50, 4), (44, 8), (45, 2), (45, 2), (0, 8), (3, 8), (3, 8), (size, 8), (start as u64, 8)],
    );
    put(&mut wide, &[(0x0706_4b50, 4), (0, 4), (end as u64, 8), (1, 4)]);
    let record = wide.len();
    wide.extend(&bytes[end..]);
    wide[record + 16..record + 20].fill(0xff);
    conda(&wide).unwrap();
    wide[record + 10] = 2;
    wide[record + 8] = 2;
    refused!(conda(&wide), Fault::ZipDirectory { .. });
}

#[test]
fn metadata_is_read_as_leniently_as_installers_do() {
    let text = b"NAME: a\r\nversion: 1\r\nLicense: MIT License\r\n        more\xff\r\n\
        Classifier: License :: OSI Approved :: MIT License\r\nSummary: UNKNOWN\r\n\r\nName: b\r\n";
    let core = parse_metadata(text).unwrap();
    assert_eq!((core.name.as_str(), core.summary.as_deref()), ("a", None));
    assert_eq!(core.license.as_deref(), Some("MIT License\nmore\u{fffd}"));
    assert_eq!(core.licence().as_deref(), Some("MIT License"));
}

// ---- limits

#[test]
fn each_limit_stops_a_tar() {
    let open = |tar: Tar, limits: ArchiveLimits| open_tar_bz2(tar.bz2().as_slice(), &limits);
    let few = ArchiveLimits { entries_max: 1, ..limits() };
    refused!(open(Tar::conda().file("a", b""), few), Fault::TooManyEntries { .. });
    let small = ArchiveLimits { unpacked_bytes_max: 4096, ..limits() };
    refused!(open(Tar::conda().file("a", &[7; 4096]), small), Fault::UnpackedTooLarge { .. });
    let dense = ArchiveLimits { ratio_free_bytes: 4096, ratio_max: 10, ..limits() };
    refused!(open(Tar::conda().file("a", &[0; 1 << 20]), dense), Fault::RatioTooHigh { .. });
    let member = ArchiveLimits { member_bytes_max: 8, ..limits() };
    refused!(open(Tar::conda(), member), Fault::MemberTooLarge { .. });
    let name = ArchiveLimits { name_bytes_max: 20, ..limits() };
    refused!(open(Tar::conda().file("a-name-of-some-length", b""), name), Fault::NameTooLong { .. });
    let header = ArchiveLimits { header_bytes_max: 8, ..limits() };
    refused!(open(Tar::conda().pax(b'x', &[("path", "abcdef")]), header), Fault::HeaderTooLarge { .. });
    let window = ArchiveLimits { zstd_window_log_max: 10, ..limits() };
    let noise: Vec<u8> = (0_u32..1 << 16).flat_map(|i| i.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let bytes = zip(&conda_entries(Tar::conda().file("info/noise", &noise)));
    refused!(open_conda(Cursor::new(bytes), &window), Fault::Read(_));
}

#[test]
fn each_limit_stops_a_zip() {
    let open =
        |limits: ArchiveLimits| open_wheel(Cursor::new(wheel_with(&[deflated("a", &[0; 1 << 16])])), &limits);
    refused!(open(ArchiveLimits { entries_max: 3, ..limits() }), Fault::TooManyEntries { .. });
    refused!(open(ArchiveLimits { unpacked_bytes_max: 1 << 16, ..limits() }), Fault::UnpackedTooLarge { .. });
    refused!(
        open(ArchiveLimits { ratio_free_bytes: 4096, ratio_max: 10, ..limits() }),
        Fault::RatioTooHigh { .. }
    );
    refused!(open(ArchiveLimits { member_bytes_max: 8, ..limits() }), Fault::MemberTooLarge { .. });
    refused!(open(ArchiveLimits { name_bytes_max: 8, ..limits() }), Fault::NameTooLong { .. });
    refused!(open(ArchiveLimits { directory_bytes_max: 64, ..limits() }), Fault::DirectoryTooLarge { .. });
    refused!(parse_metadata(&vec![b'a'; (16 << 20) + 1]), Fault::MemberTooLarge { .. });
}

// ---- names, links, kinds

const UNSAFE_NAMES: [&str; 9] =
    ["/etc/passwd", "../a", "a/../../b", "a\\b", "C:/a", "./C:a", "a\nb", "a/\u{85}", "a/.."];

#[test]
fn unsafe_names_are_refused_in_both_formats() {
    for name in UNSAFE_NAMES {
        refused!(Tar::conda().file(name, b"").open(), Fault::UnsafeName { .. });
        refused!(Tar::conda().pax(b'x', &[("path", name)]).file("a", b"").open(), Fault::UnsafeName { .. });
        refused!(wheel(&wheel_with(&[entry(name, b"")])), Fault::UnsafeName { .. });
    }
    refused!(Tar::conda().file("", b"").open(), Fault::UnsafeName { .. });
    refused!(Tar::conda().pax(b'x', &[("path", "a\0b")]).file("a", b"").open(), Fault::UnsafeName { .. });
    for name in ["", "a//b", "./a", "a\0b"] {
        refused!(wheel(&wheel_with(&[entry(name, b"")])), Fault::UnsafeName { .. });
    }
    let mut second = entry("a", b"");
    put(&mut second.extra, &[(0x7075, 2), (6, 2), (1, 1), (0, 4), (u64::from(b'b'), 1)]);
    refused!(wheel(&wheel_with(&[second])), Fault::UnsafeName { .. });
}

#[test]
fn links_must_stay_inside() {
    for target in ["/etc", "../../x", "a/../../b", "d/..", "..\\x", "C:x", ""] {
        refused!(Tar::conda().member("lib/l", b'2', target, b"").open(), Fault::LinkEscapes { .. });
    }
    refused!(Tar::conda().member("l", b'1', "../x", b"").open(), Fault::LinkEscapes { .. });
    refused!(Tar::conda().member("l", b'1', "nothing", b"").open(), Fault::HardLinkDangling { .. });
    let symlink = |tar: Tar| tar.member("l", b'2', "x", b"");
    refused!(symlink(Tar::conda()).member("m", b'1', "l", b"").open(), Fault::HardLinkDangling { .. });
    refused!(symlink(Tar::conda()).file("l/a", b"").open(), Fault::ThroughLink { .. });
    refused!(symlink(Tar::conda()).file("l", b"").open(), Fault::ThroughLink { .. });
    refused!(
        wheel(&wheel_with(&[Entry { mode: 0o120_777, ..entry("l", b"x") }])),
        Fault::UnexpectedLink { .. }
    );
}

#[test]
fn metadata_cannot_be_a_link_nor_come_twice() {
    let other = || Tar(Vec::new()).file("info/other", INDEX);
    refused!(other().member("info/index.json", b'2', "other", b"").open(), Fault::UnexpectedLink { .. });
    refused!(other().member("info/index.json", b'1', "info/other", b"").open(), Fault::UnexpectedLink { .. });
    refused!(Tar::conda().member("info", b'2', "x", b"").open(), Fault::UnexpectedLink { .. });
    refused!(Tar::conda().file("info/index.json", INDEX).open(), Fault::DuplicateMember { .. });
    refused!(Tar::conda().file("Info/INDEX.json", INDEX).open(), Fault::DuplicateMember { .. });
    refused!(wheel(&wheel_with(&[entry("a", b""), entry("a/", b"")])), Fault::DuplicateMember { .. });
    let pkg_info = b"Name: a\nVersion: 1\n";
    let twins = zip(&[entry("a-1/PKG-INFO", pkg_info), entry("a-1/pkg-info", pkg_info)]);
    refused!(open_sdist_zip(Cursor::new(twins), &limits()), Fault::DuplicateMember { .. });
}

#[test]
fn devices_fifos_and_sparse_files_are_refused() {
    for kind in *b"346SDMVXz" {
        refused!(Tar::conda().member("a", kind, "", b"").open(), Fault::SpecialFile { .. });
    }
    let sparse = Tar::conda().pax(b'x', &[("GNU.sparse.major", "1")]).file("a", b"");
    refused!(sparse.open(), Fault::SpecialFile { .. });
    for mode in [0o010_644, 0o020_644, 0o040_755] {
        refused!(wheel(&wheel_with(&[Entry { mode, ..entry("a", b"") }])), Fault::SpecialFile { .. });
    }
    refused!(wheel(&wheel_with(&[Entry { mode: 0, ..entry("a/", b"x") }])), Fault::SpecialFile { .. });
}

// ---- what each kind must hold

#[test]
fn a_conda_archive_holds_its_three_members_and_no_other() {
    let entries = conda_entries(Tar::conda());
    for missing in 0..3 {
        let mut rest = entries.clone();
        rest.remove(missing);
        refused!(conda(&zip(&rest)), Fault::MissingMember { .. });
    }
    for name in ["x", "info-other-1-0.tar.zst", "pkg-other-1-0.tar.zst", "d/", "d/metadata.json"] {
        refused!(conda(&zip(&[&entries[..], &[entry(name, b"")]].concat())), Fault::UnexpectedMember { .. });
    }
    let outside = Tar::conda().file("lib/a", b"");
    refused!(conda(&zip(&conda_entries(outside))), Fault::UnexpectedMember { .. });
    let mut other = entries.clone();
    other[1] = entry("pkg-demo-1.0-1.tar.zst", b"");
    refused!(conda(&zip(&other)), Fault::IdentityMismatch { .. });
    let renamed = Tar(Vec::new()).file("info/index.json", br#"{"name":"evil","version":"1.0","build":"0"}"#);
    refused!(conda(&zip(&conda_entries(renamed))), Fault::IdentityMismatch { .. });
    refused!(conda(&zip(&conda_entries(Tar(Vec::new())))), Fault::MissingMember { .. });
}

#[test]
fn conda_metadata_that_cannot_be_understood_is_refused() {
    let mut entries = conda_entries(Tar::conda());
    entries[0] = entry("metadata.json", br#"{"conda_pkg_format_version": 3}"#);
    refused!(conda(&zip(&entries)), Fault::Metadata { .. });
    let bad: [&[u8]; 6] = [
        b"{",
        br#"{"name":"a","name":"b","version":"1","build":"0"}"#,
        br#"{"name":"a","version":"1"}"#,
        br#"{"name":"","version":"1","build":"0"}"#,
        br#"{"name":"../a","version":"1","build":"0"}"#,
        br#"{"name":"a","version":"1","build":"0","subdir":"a/b"}"#,
    ];
    for index in bad {
        refused!(Tar(Vec::new()).file("info/index.json", index).open(), Fault::Metadata { .. });
    }
}

#[test]
fn a_wheel_has_one_dist_info_that_fits() {
    for missing in 0..3 {
        let files = ["METADATA", "WHEEL", "RECORD"].iter().enumerate().filter(|(at, _)| *at != missing);
        let entries: Vec<Entry> = files
            .map(|(_, file)| entry(&format!("demo-1.0.dist-info/{file}"), b"Name: demo\nVersion: 1.0\n"))
            .collect();
        refused!(wheel(&zip(&entries)), Fault::MissingMember { .. });
    }
    refused!(wheel(&zip(&[entry("a", b"")])), Fault::MissingMember { .. });
    for second in [
        "other-1.dist-info/METADATA",
        "DEMO-1.0.DIST-INFO/x",
        "demo-1.0.data/purelib/demo-1.0.dist-info/METADATA",
    ] {
        refused!(wheel(&wheel_with(&[entry(second, b"")])), Fault::UnexpectedMember { .. });
    }
    let files = ["METADATA", "WHEEL", "RECORD"]
        .map(|file| entry(&format!("demo-1.0.dist-info/{file}"), b"Name: demo\nVersion: 2\n"));
    refused!(wheel(&zip(&files)), Fault::IdentityMismatch { .. });
}

#[test]
fn commands_that_leave_the_directory_for_programs_are_refused() {
    for command in ["../../evil", "a/b", "a\\\\b", "C:x", "", ".."] {
        let link = format!(r#"{{"noarch": {{"type": "python", "entry_points": ["{command} = m:f"]}}}}"#);
        refused!(Tar::conda().file("info/link.json", link.as_bytes()).open(), Fault::UnsafeCommand { .. });
        let points = format!("[other]\na/b = m:f\n[console_scripts]\n{command} = m:f\n");
        let entry = entry("demo-1.0.dist-info/entry_points.txt", points.as_bytes());
        refused!(wheel(&wheel_with(&[entry])), Fault::UnsafeCommand { .. });
    }
    let fine = entry(
        "demo-1.0.dist-info/entry_points.txt",
        b"[other]\na/b = m:f\n[console_scripts]\n# a/b = c\ndemo = m:f\n",
    );
    wheel(&wheel_with(&[fine])).unwrap();
}

#[test]
fn an_sdist_has_one_top_directory() {
    let open = |tar: Tar| open_sdist(gz(&tar.end()).as_slice(), &limits());
    refused!(open(Tar(Vec::new()).file("a-1/x", b"").file("b-1/x", b"")), Fault::UnexpectedMember { .. });
    refused!(open(Tar(Vec::new()).file("a-1", b"")), Fault::UnexpectedMember { .. });
    refused!(open(Tar(Vec::new()).file("a/x", b"")), Fault::MissingMember { .. });
    refused!(open(Tar(Vec::new())), Fault::MissingMember { .. });
    refused!(open(Tar(Vec::new()).file("a b-1/x", b"")), Fault::Metadata { .. });
    for text in ["Version: 1\n", "Name: a\nName: b\nVersion: 1\n", "Name: a\nVersion: 1/2\n"] {
        refused!(open(Tar(Vec::new()).file("a-1/PKG-INFO", text.as_bytes())), Fault::Metadata { .. });
    }
}

// ---- anything at all

#[test]
fn no_changed_or_cut_byte_makes_a_reader_panic() {
    let wheel = WHEEL.bytes().unwrap();
    let seeds = [
        CONDA.conda().unwrap(),
        CONDA.tar_bz2().unwrap(),
        wheel,
        SDIST.bytes().unwrap(),
        SDIST.zip_bytes().unwrap(),
    ];
    let limits = limits();
    let open_all = |bytes: &[u8]| {
        let _ = open_conda(Cursor::new(bytes), &limits);
        let _ = open_tar_bz2(bytes, &limits);
        let _ = open_wheel(Cursor::new(bytes), &limits);
        let _ = open_sdist(bytes, &limits);
        let _ = open_sdist_zip(Cursor::new(bytes), &limits);
    };
    for seed in &seeds {
        for at in 0..seed.len() {
            open_all(&seed[..at]);
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = seed.clone();
                bytes[at] ^= mask;
                open_all(&bytes);
            }
        }
    }
    // Behind the decompressor as well, with checksums that are right again.
    let tar = Tar::conda()
        .pax(b'x', &[("path", "info/b"), ("size", "3")])
        .file("a", b"abc")
        .member("l", b'2', "a", b"")
        .end();
    for at in 0..tar.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = tar.clone();
            bytes[at] ^= mask;
            let block = at / 512 * 512;
            bytes[block + 148..block + 156].fill(b' ');
            let sum: u32 = bytes[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[block + 148..block + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            let _ = open_sdist(gz(&bytes).as_slice(), &limits);
            let _ = conda(&zip(&[
                entry("metadata.json", br#"{"conda_pkg_format_version": 2}"#),
                entry("pkg-demo-1.0-0.tar.zst", b""),
                entry("info-demo-1.0-0.tar.zst", &zst(&bytes)),
            ]));
        }
    }
}
