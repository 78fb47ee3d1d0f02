//! Every attack on an archive reader has a test here, and so has every shape that genuine packages come in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Cursor, Write};

use airlock_formats::archive::{
    ArchiveError as Fault, ArchiveLimits, Opened, open_conda, open_sdist, open_sdist_zip, open_tar_bz2,
    open_wheel, parse_metadata,
};
use airlock_formats::make::{CondaPackage, Sdist, Wheel};

const CONDA: CondaPackage = CondaPackage {
    name: "demo",
    version: "1.0",
    build: "py_0",
    build_number: 0,
    subdir: "noarch",
    depends: &["python >=3.8"],
    license: "MIT",
    summary: "A demonstration",
    timestamp_ms: 1_700_000_000_000,
    noarch_python: true,
    files: &[("demo/__init__.py", b"X = 1\n")],
};
const WHEEL: Wheel = Wheel {
    name: "Air.Demo",
    version: "1.2",
    requires_dist: &["six >=1", "attrs"],
    requires_python: ">=3.8",
    license: "MIT",
    summary: "A demonstration",
    files: &[("air_demo/__init__.py", b"X = 1\n")],
};
const SDIST: Sdist = Sdist {
    name: "air-demo",
    version: "1.2",
    requires_dist: &[],
    requires_python: ">=3.8",
    license: "MIT",
    summary: "A demonstration",
    files: &[("air_demo.py", b"X = 1\n")],
};
const INDEX: &[u8] = br#"{"name":"demo","version":"1.0","build":"0","subdir":"linux-64","license":"MIT"}"#;

/// The refusal must be of this variant, with messages that name what they are about.
macro_rules! refused {
    ($result:expr, $fault:pat) => {
        let error = $result.expect_err("it must be refused");
        assert!(matches!(error, $fault), "{error:?}");
        assert!(!error.to_string().is_empty());
    };
}

fn limits() -> ArchiveLimits {
    ArchiveLimits::default()
}

fn wheel(bytes: &[u8]) -> Result<Opened, Fault> {
    open_wheel(Cursor::new(bytes), &limits())
}

fn conda(bytes: &[u8]) -> Result<Opened, Fault> {
    open_conda(Cursor::new(bytes), &limits())
}

// ---- tar: members with every field in the test's hand

struct Tar(Vec<u8>);

impl Tar {
    /// A package that is valid but for what comes after.
    fn conda() -> Self {
        Self(Vec::new()).file("info/index.json", INDEX)
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.member(path, b'0', "", data)
    }

    fn member(self, path: &str, kind: u8, target: &str, data: &[u8]) -> Self {
        self.raw(path.as_bytes(), kind, target, data.len(), data)
    }

    fn raw(mut self, path: &[u8], kind: u8, target: &str, size: usize, data: &[u8]) -> Self {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path);
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let data: String = records
            .iter()
            .map(|(key, value)| {
                let body = key.len() + value.len() + 3;
                let length = (body..).find(|length| body + length.to_string().len() == *length).unwrap();
                format!("{length} {key}={value}\n")
            })
            .collect();
        self.member("pax", kind, "", data.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    fn bz2(self) -> Vec<u8> {
        bz2(&self.end())
    }

    fn open(self) -> Result<Opened, Fault> {
        open_tar_bz2(self.bz2().as_slice(), &limits())
    }
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

// ---- zip: members with every field in the test's hand

#[derive(Clone)]
struct Entry {
    name: String,
    local_name: String,
    data: Vec<u8>,
    unpacked: u32,
    crc: u32,
    method: u16,
    flags: u16,
    mode: u32,
    extra: Vec<u8>,
    local_extra: Vec<u8>,
    local_sizes: Option<u32>,
    descriptor: Vec<u8>,
}

fn entry(name: &str, data: &[u8]) -> Entry {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    Entry {
        name: name.into(),
        local_name: name.into(),
        data: data.into(),
        unpacked: data.len() as u32,
        crc: crc.sum(),
        method: 0,
        flags: 0,
        mode: 0o100_644,
        extra: Vec::new(),
        local_extra: Vec::new(),
        local_sizes: None,
        descriptor: Vec::new(),
    }
}

fn deflated(name: &str, data: &[u8]) -> Entry {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    Entry { data: encoder.finish().unwrap(), method: 8, ..entry(name, data) }
}

fn put(to: &mut Vec<u8>, fields: &[(u64, usize)]) {
    fields.iter().for_each(|(value, length)| to.extend(&value.to_le_bytes()[..*length]));
}

/// The archive's bytes, and where the directory starts.
fn zip_parts(entries: &[Entry]) -> (Vec<u8>, usize) {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for e in entries {
        let at = bytes.len() as u64;
        let (packed, unpacked, crc) = (e.data.len() as u64, u64::from(e.unpacked), u64::from(e.crc));
        let (flags, method) = (u64::from(e.flags), u64::from(e.method));
        let local = e.local_sizes.map_or([crc, packed, unpacked], |sizes| {
            [if sizes == 0 { 0 } else { crc }, sizes.into(), sizes.into()]
        });
        put(&mut bytes, &[(0x0403_4b50, 4), (20, 2), (flags, 2), (method, 2), (0, 4)]);
        put(&mut bytes, &[(local[0], 4), (local[1], 4), (local[2], 4)]);
        put(&mut bytes, &[(e.local_name.len() as u64, 2), (e.local_extra.len() as u64, 2)]);
        bytes.extend([e.local_name.as_bytes(), &e.local_extra, &e.data, &e.descriptor].concat());
        put(&mut directory, &[(0x0201_4b50, 4), (0x0314, 2), (20, 2), (flags, 2), (method, 2), (0, 4)]);
        put(
            &mut directory,
            &[(crc, 4), (packed, 4), (unpacked, 4), (e.name.len() as u64, 2), (e.extra.len() as u64, 2)],
        );
        put(&mut directory, &[(0, 6), (u64::from(e.mode) << 16, 4), (at, 4)]);
        directory.extend([e.name.as_bytes(), &e.extra].concat());
    }
    let start = bytes.len();
    bytes.extend(&directory);
    put(&mut bytes, &[(0x0605_4b50, 4), (0, 4), (entries.len() as u64, 2), (entries.len() as u64, 2)]);
    put(&mut bytes, &[(directory.len() as u64, 4), (start as u64, 4), (0, 2)]);
    (bytes, start)
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_parts(entries).0
}

/// The members of a valid wheel, and one more.
fn wheel_with(more: &[Entry]) -> Vec<u8> {
    let metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n";
    let mut entries = vec![deflated("demo-1.0.dist-info/METADATA", metadata)];
    entries.push(entry("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\n"));
    entries.push(entry("demo-1.0.dist-info/RECORD", b""));
    entries.extend_from_slice(more);
    zip(&entries)
}

fn conda_entries(info: Tar) -> Vec<Entry> {
    vec![
        entry("metadata.json", br#"{"conda_pkg_format_version": 2}"#),
        entry("pkg-demo-1.0-0.tar.zst", &zst(&Tar(Vec::new()).end())),
        entry("info-demo-1.0-0.tar.zst", &zst(&info.end())),
    ]
}

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
