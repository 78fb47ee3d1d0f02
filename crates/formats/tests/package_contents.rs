//! What a conda package holds is what it says that it holds; what honest old packages do passes.
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

use airlock_core::id::Digest;
use archive::*;
use serde_json::{Value, json};

fn line(path: &str, kind: &str, data: &[u8]) -> Value {
    json!({"_path": path, "path_type": kind, "sha256": Digest::of(data).to_string(), "size_in_bytes": data.len()})
}

fn list(lines: &[Value]) -> String {
    json!({"paths": lines, "paths_version": 1}).to_string()
}

/// A `.conda` of this list and payload.
fn packed(paths: &str, payload: Tar) -> Vec<u8> {
    let info = Tar::conda().file("info/paths.json", paths.as_bytes());
    let mut entries = conda_entries(info);
    entries[1] = entry("pkg-demo-1.0-0.tar.zst", &zst(&payload.end()));
    zip(&entries)
}

/// The same as `.tar.bz2`, with the list at its end or at its start.
fn old(paths: &str, payload: &Tar, first: bool) -> Vec<u8> {
    let tar = Tar::conda();
    let tar = if first { tar.file("info/paths.json", paths.as_bytes()) } else { tar };
    let tar = Tar([tar.0, payload.0.clone()].concat());
    if first { tar } else { tar.file("info/paths.json", paths.as_bytes()) }.bz2()
}

/// All three ways in which a package may come must be answered alike.
fn each(lines: &[Value], payload: &Tar) -> [Result<Opened, Fault>; 3] {
    let paths = list(lines);
    [
        conda(&packed(&paths, Tar(payload.0.clone()))),
        open_tar_bz2(old(&paths, payload, true).as_slice(), &limits()),
        open_tar_bz2(old(&paths, payload, false).as_slice(), &limits()),
    ]
}

macro_rules! each_refused {
    ($lines:expr, $payload:expr, $fault:pat) => {
        for result in each($lines, $payload) {
            refused!(result, $fault);
        }
    };
}

#[test]
fn what_is_listed_and_what_is_held_are_the_same() {
    let payload = Tar(Vec::new())
        .member("lib/", b'5', "", b"")
        .file("lib/a.so.1", b"abc")
        .member("lib/a.so", b'2', "a.so.1", b"")
        .member("share/doc/../up", b'0', "", b"");
    refused!(conda(&packed(&list(&[]), payload)), Fault::UnsafeName { .. });
    let payload = Tar(Vec::new())
        .member("lib/", b'5', "", b"")
        .file("lib/a.so.1", b"abc")
        .member("lib/a.so", b'2', "a.so.1", b"")
        .member("lib/deep/b", b'2', "../../lib/a.so", b"")
        .member("c", b'1', "lib/a.so.1", b"");
    let lines = [
        line("lib/a.so.1", "hardlink", b"abc"),
        // What a symbolic link leads to may be another package's: its hash is not compared.
        line("lib/a.so", "softlink", b"something else"),
        json!({"_path": "lib/deep/b", "path_type": "softlink"}),
        line("c", "hardlink", b"abc"),
        json!({"_path": "empty", "path_type": "directory"}),
    ];
    for result in each(&lines, &payload) {
        result.unwrap();
    }
}

#[test]
fn a_file_that_is_not_listed_is_refused() {
    let payload = Tar(Vec::new()).file("a", b"a").file("hidden", b"b");
    each_refused!(&[line("a", "hardlink", b"a")], &payload, Fault::Unlisted { .. });
    let payload = Tar(Vec::new()).member("l", b'2', "x", b"");
    each_refused!(&[], &payload, Fault::Unlisted { .. });
}

#[test]
fn a_listed_file_that_is_missing_is_refused() {
    let payload = Tar(Vec::new()).file("a", b"a");
    let lines = [line("a", "hardlink", b"a"), line("b", "hardlink", b"b")];
    each_refused!(&lines, &payload, Fault::ListedMissing { .. });
}

#[test]
fn a_file_of_another_hash_size_or_type_than_listed_is_refused() {
    let payload = Tar(Vec::new()).file("a", b"abc");
    let mut resized = line("a", "hardlink", b"abc");
    resized["size_in_bytes"] = 4.into();
    for bad in
        [line("a", "hardlink", b"abd"), resized, line("a", "softlink", b"abc"), line("a", "directory", b"")]
    {
        each_refused!(&[bad], &payload, Fault::ListedOtherwise { .. });
    }
    let link = Tar(Vec::new()).file("b", b"b").member("a", b'2', "b", b"");
    let lines = [line("b", "hardlink", b"b"), line("a", "hardlink", b"b")];
    each_refused!(&lines, &link, Fault::ListedOtherwise { .. });
}

#[test]
fn a_hard_link_must_have_the_content_that_is_listed_for_it() {
    let payload = Tar(Vec::new()).file("a", b"abc").member("b", b'1', "a", b"");
    let lines = [line("a", "hardlink", b"abc"), line("b", "hardlink", b"other")];
    each_refused!(&lines, &payload, Fault::ListedOtherwise { .. });
}

#[test]
fn a_list_that_contradicts_itself_or_names_what_is_not_linked_is_refused() {
    let payload = Tar(Vec::new()).file("a", b"a");
    let twice = [line("a", "hardlink", b"a"), json!({"_path": "a", "path_type": "hardlink"})];
    each_refused!(&twice, &payload, Fault::ListedOtherwise { .. });
    let same = [line("a", "hardlink", b"a"), line("a", "hardlink", b"a")];
    for result in each(&same, &payload) {
        result.unwrap();
    }
    let info = [line("a", "hardlink", b"a"), line("info/index.json", "hardlink", INDEX)];
    each_refused!(&info, &payload, Fault::ListedOtherwise { .. });
    let mut long = line("a", "hardlink", b"a");
    long["prefix_placeholder"] = "/".repeat(2000).into();
    each_refused!(&[long], &payload, Fault::ListedOtherwise { .. });
    for name in ["../a", "/a", "a/../b", "a\\b", "C:a", ""] {
        each_refused!(&[line(name, "hardlink", b"a")], &payload, Fault::UnsafeName { .. });
    }
}

#[test]
fn a_list_that_is_no_list_is_refused() {
    let texts = [
        "",
        "[]",
        "{}",
        r#"{"paths": {}}"#,
        r#"{"paths": [], "paths": []}"#,
        r#"{"paths": [], "paths_version": 2}"#,
        r#"{"paths": [{"_path": "a"}]}"#,
        r#"{"paths": [{"_path": "a", "path_type": "socket"}]}"#,
        r#"{"paths": [{"_path": "a", "_path": "b", "path_type": "hardlink"}]}"#,
        r#"{"paths": []} {}"#,
        "{\"paths\": NaN}",
    ];
    for text in texts {
        refused!(conda(&packed(text, Tar(Vec::new()))), Fault::Metadata { .. });
    }
    let deep = format!("{{\"x\": {}{}}}", "[".repeat(500), "]".repeat(500));
    refused!(conda(&packed(&deep, Tar(Vec::new()))), Fault::Metadata { .. });
}

#[test]
fn a_list_and_its_names_have_limits() {
    let open = |limits: ArchiveLimits| {
        let lines: Vec<Value> = (0..20).map(|n| line(&format!("file-{n}"), "hardlink", b"")).collect();
        open_conda(Cursor::new(packed(&list(&lines), Tar(Vec::new()))), &limits)
    };
    refused!(open(ArchiveLimits { paths_bytes_max: 100, ..limits() }), Fault::MemberTooLarge { .. });
    refused!(open(ArchiveLimits { names_bytes_max: 100, ..limits() }), Fault::NamesTooLarge { .. });
    refused!(open(ArchiveLimits { entries_max: 10, ..limits() }), Fault::TooManyEntries { .. });
    refused!(open(limits()), Fault::ListedMissing { .. });
}

#[test]
fn packages_from_before_there_was_a_list_pass() {
    let tar = Tar::conda()
        .file("info/files", b"bin/a\nbin/b\n")
        .member("bin/", b'5', "", b"")
        .file("bin/a", b"abc")
        .member("bin/b", b'1', "bin/a", b"")
        .member("bin/c", b'2', "../bin/a", b"");
    tar.open().unwrap();
    let mut entries = conda_entries(Tar::conda());
    entries[1] = entry("pkg-demo-1.0-0.tar.zst", &zst(&Tar(Vec::new()).file("a", b"a").end()));
    conda(&zip(&entries)).unwrap();
}

#[test]
fn a_second_member_of_one_name_passes_only_if_it_is_the_same() {
    Tar::conda().file("a", b"a").file("a", b"a").open().unwrap();
    refused!(Tar::conda().file("a", b"a").file("a", b"b").open(), Fault::DuplicateMember { .. });
    let linked = Tar::conda().file("a", b"a").file("b", b"b").member("a", b'1', "b", b"");
    refused!(linked.open(), Fault::DuplicateMember { .. });
}

#[test]
fn the_payload_cannot_bring_metadata() {
    for name in ["info/index.json", "Info/x", "INFO./x", "info", "\u{200d}info/x"] {
        let payload = Tar(Vec::new()).file(name, b"x");
        refused!(conda(&packed(&list(&[]), payload)), Fault::UnexpectedMember { .. });
    }
    refused!(
        conda(&packed(&list(&[]), Tar(Vec::new()).member("info", b'2', "lib", b""))),
        Fault::UnexpectedMember { .. }
    );
}

#[test]
fn the_payload_is_walked_by_the_same_rules_as_everything() {
    type IsIt = fn(&Fault) -> bool;
    let bad: [(Tar, IsIt); 6] = [
        (Tar(Vec::new()).file("../a", b""), |f| matches!(f, Fault::UnsafeName { .. })),
        (Tar(Vec::new()).member("a", b'2', "../x", b""), |f| matches!(f, Fault::LinkEscapes { .. })),
        (Tar(Vec::new()).member("a", b'3', "", b""), |f| matches!(f, Fault::SpecialFile { .. })),
        (Tar(Vec::new()).member("a", b'1', "b", b""), |f| matches!(f, Fault::HardLinkDangling { .. })),
        (Tar(Vec::new()).member("a", b'2', "b", b"").file("a/c", b""), |f| {
            matches!(f, Fault::ThroughLink { .. })
        }),
        (Tar(Vec::new()).pax(b'x', &[("size", "0")]).file("a", b"abc"), |f| {
            matches!(f, Fault::TarAmbiguous { .. })
        }),
    ];
    for (payload, is_it) in bad {
        let fault = conda(&packed(&list(&[]), payload)).unwrap_err();
        assert!(is_it(&fault), "{fault:?}");
    }
    let mut entries = conda_entries(Tar::conda());
    entries[1] = entry("pkg-demo-1.0-0.tar.zst", b"");
    conda(&zip(&entries)).expect_err("an empty file is no zstd frame");
    entries[1] = entry("pkg-demo-1.0-0.tar.zst", b"no zstd at all");
    refused!(conda(&zip(&entries)), Fault::Read(_));
}

#[test]
fn a_second_frame_and_frames_that_are_skipped_are_refused() {
    let tar = Tar(Vec::new()).end();
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"hide"].concat();
    let frames = [
        [zst(&tar[..512]), zst(&tar[512..])].concat(),
        [zst(&tar), skipped.clone()].concat(),
        [skipped, zst(&tar)].concat(),
    ];
    for frame in frames {
        let mut entries = conda_entries(Tar::conda());
        entries[1] = entry("pkg-demo-1.0-0.tar.zst", &frame);
        refused!(conda(&zip(&entries)), Fault::SeveralFrames { .. });
    }
}

#[test]
fn a_bomb_in_the_payload_is_stopped() {
    let limits = ArchiveLimits { ratio_free_bytes: 1 << 16, ratio_max: 20, ..limits() };
    let zeros = vec![0; 8 << 20];
    let bytes = packed(&list(&[line("a", "hardlink", &zeros)]), Tar(Vec::new()).file("a", &zeros));
    refused!(open_conda(Cursor::new(bytes), &limits), Fault::RatioTooHigh { .. });
}
