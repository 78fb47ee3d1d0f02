//! Every attack on the structure of a tar or zip has a test here: what readers would read differently is refused.
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

// ---- tar structure

#[test]
fn tar_headers_that_readers_would_read_differently_are_refused() {
    let ambiguous = [
        Tar::conda().pax(b'x', &[("size", "0")]).file("a", &[1; 512]),
        Tar::conda().pax(b'x', &[("path", "a"), ("path", "b")]).file("a", b""),
        Tar::conda().member("", b'L', "", b"a\0").pax(b'x', &[("path", "b")]).file("a", b""),
        Tar::conda().pax(b'g', &[("path", "a")]).file("b", b""),
        Tar::conda().member("d", b'5', "", b"x"),
        Tar::conda().member("l", b'2', "x", b"x"),
    ];
    for tar in ambiguous {
        refused!(tar.open(), Fault::TarAmbiguous { .. });
    }
    assert!(
        Tar::conda()
            .pax(b'g', &[("comment", "c0ffee")])
            .pax(b'x', &[("size", "1")])
            .file("a", b"a")
            .open()
            .is_ok()
    );
}

#[test]
fn broken_tar_headers_are_refused() {
    let mut bytes = Tar::conda().end();
    bytes[0] = b'j';
    refused!(open_tar_bz2(bz2(&bytes).as_slice(), &limits()), Fault::TarHeader { .. });
    refused!(Tar::conda().pax(b'x', &[]).open(), Fault::TarHeader { .. });
    for record in ["x", "9 a=b\n", "6 ab\n\n", "+6 a=b\n", "0 "] {
        let tar = Tar::conda().member("pax", b'x', "", record.as_bytes()).file("a", b"");
        refused!(tar.open(), Fault::TarHeader { .. });
    }
    refused!(Tar::conda().pax(b'x', &[("size", "-1")]).file("a", b"").open(), Fault::TarHeader { .. });
}

#[test]
fn a_tar_ends_where_it_ends() {
    let bytes = Tar::conda().file("a", &[1; 600]).end();
    refused!(open_tar_bz2(bz2(&bytes[..1700]).as_slice(), &limits()), Fault::Truncated);
    refused!(open_tar_bz2(bz2(&[&bytes[..], b"x"].concat()).as_slice(), &limits()), Fault::TarTrailingData);
    let mut hidden = Tar::conda();
    hidden.0.extend([0; 512]);
    refused!(hidden.file("a", b"").open(), Fault::TarTrailingData);
    let whole = bz2(&bytes);
    refused!(open_tar_bz2(&whole[..whole.len() - 5], &limits()), Fault::Truncated);
    // A tar that is a zip as well (CVE-2026-3219).
    let polyglot = [whole, WHEEL.bytes().unwrap()].concat();
    refused!(open_tar_bz2(polyglot.as_slice(), &limits()), Fault::Read(_));
    let polyglot = [SDIST.bytes().unwrap(), WHEEL.bytes().unwrap()].concat();
    refused!(open_sdist(polyglot.as_slice(), &limits()), Fault::Read(_));
}

// ---- zip structure

#[test]
fn a_zip_has_one_end_and_nothing_around_it() {
    let good = wheel_with(&[]);
    refused!(wheel(b""), Fault::NotZip);
    refused!(wheel(&good[..good.len() - 22]), Fault::NotZip);
    refused!(wheel(&[&good[..], b"x"].concat()), Fault::ZipTrailingData);
    refused!(wheel(&[b"x", &good[..]].concat()), Fault::ZipDirectory { .. });
    let comment_at = good.len() - 2;
    let mut commented = good.clone();
    commented[comment_at] = 5;
    commented.extend(b"hello");
    wheel(&commented).unwrap();
    // The second archive is the first one's comment: who searches from the front sees the first.
    let mut double = good.clone();
    double[comment_at..].copy_from_slice(&(good.len() as u16).to_le_bytes());
    double.extend(&good);
    refused!(wheel(&double), Fault::ZipSeveralEnds);
    let mut signed = good.clone();
    signed[comment_at] = 4;
    signed.extend(b"PK\x05\x06");
    refused!(wheel(&signed), Fault::ZipSeveralEnds);
}

#[test]
fn a_zip_directory_must_count_and_place_its_members() {
    let (good, start) = zip_parts(&[entry("a", b"a"), entry("b", b"b")]);
    let end = good.len() - 22;
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        wheel(&bytes)
    };
    for (at, value) in [(end + 4, 1), (end + 8, 1), (end + 12, 0), (end + 16, 0), (start, 0), (start + 34, 1)]
    {
        refused!(changed(at, value), Fault::ZipDirectory { .. });
    }
    let mut fewer = good.clone();
    fewer[end + 8] = 1;
    fewer[end + 10] = 1;
    refused!(wheel(&fewer), Fault::ZipDirectory { .. });
    refused!(changed(start + 42, 1), Fault::ZipLayout { .. });
    refused!(changed(start + 47 + 42, 0), Fault::ZipLayout { .. });
    let gap = Entry { descriptor: b"hidden".into(), ..entry("a", b"a") };
    refused!(wheel(&wheel_with(std::slice::from_ref(&gap))), Fault::ZipLayout { .. });
    refused!(wheel(&wheel_with(&[gap, entry("b", b"")])), Fault::ZipLayout { .. });
    let mut cut = entry("a", b"a");
    put(&mut cut.extra, &[(1, 2), (9, 2)]);
    refused!(wheel(&wheel_with(&[cut])), Fault::ZipDirectory { .. });
}

#[test]
fn local_headers_must_say_what_the_directory_says() {
    let plain = entry("a", b"abc");
    let renamed = Entry { local_name: "b".into(), ..plain.clone() };
    let resized = Entry { local_sizes: Some(2), ..plain.clone() };
    let unsized_without_descriptor = Entry { local_sizes: Some(0), ..plain.clone() };
    let mut lying = Entry { flags: 8, ..plain.clone() };
    put(&mut lying.descriptor, &[(0x0807_4b50, 4), (lying.crc.into(), 4), (3, 4), (4, 4)]);
    let missing = Entry { flags: 8, ..plain.clone() };
    let mut cut = plain.clone();
    cut.local_extra = vec![1, 0, 9, 0];
    for bad in [renamed, resized, unsized_without_descriptor, lying, missing, cut] {
        refused!(wheel(&wheel_with(&[bad])), Fault::ZipMismatch { .. });
    }
    let good = zip(&[plain]);
    for at in [0, 6, 8, 14] {
        let mut bytes = good.clone();
        bytes[at] ^= 8;
        refused!(wheel(&bytes), Fault::ZipMismatch { .. });
    }
}

#[test]
fn encryption_and_other_methods_are_refused() {
    for flags in [1, 1 << 6, 1 << 13] {
        refused!(wheel(&wheel_with(&[Entry { flags, ..entry("a", b"") }])), Fault::Encrypted { .. });
    }
    refused!(wheel(&wheel_with(&[Entry { flags: 1 << 5, ..entry("a", b"") }])), Fault::SpecialFile { .. });
    refused!(
        wheel(&wheel_with(&[Entry { method: 12, ..entry("a", b"") }])),
        Fault::Method { method: 12, .. }
    );
    let mut entries = conda_entries(Tar::conda());
    entries[0] = deflated("metadata.json", br#"{"conda_pkg_format_version": 2}"#);
    refused!(conda(&zip(&entries)), Fault::Method { method: 8, .. });
}

#[test]
fn zip_data_must_be_what_the_directory_declares() {
    let packed = || deflated("a", &[b'a'; 100]);
    let longer = Entry { unpacked: 99, ..packed() };
    let shorter = Entry { unpacked: 101, ..packed() };
    let mut tailed = packed();
    tailed.data.extend(b"hidden");
    let stored = Entry { unpacked: 2, ..entry("a", b"abc") };
    for bad in
        [longer, shorter, tailed, stored, Entry { crc: 1, ..packed() }, Entry { crc: 1, ..entry("a", b"a") }]
    {
        refused!(wheel(&wheel_with(&[bad])), Fault::ZipData { .. });
    }
    refused!(wheel(&wheel_with(&[Entry { data: vec![0xff; 9], ..packed() }])), Fault::Read(_));
    let mut entries = conda_entries(Tar::conda());
    entries[1].crc ^= 1;
    refused!(conda(&zip(&entries)), Fault::ZipData { .. });
}
