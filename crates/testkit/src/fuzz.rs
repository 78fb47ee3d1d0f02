//! One function for each thing that reads what outsiders send. It takes any bytes at all, and panics where something
//! that must always hold does not: nothing panics, what is accepted is accepted again after it was written anew, and
//! limits hold. `cargo xtask test` runs them on random bytes and on damaged samples, `torture` for longer,
//! and `fuzz/` hands the same functions to libFuzzer.

use std::io::{Cursor, Write as _};

use airlock_core::advisory::FeedKind;
use airlock_core::bundle::{Manifest, SignatureLine};
use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::lock::Contents;
use airlock_core::policy::Policy;
use airlock_core::request::paper::Paper;
use airlock_core::spec::Spec;
use airlock_core::version::Order;
use airlock_formats::archive::{
    ArchiveError, ArchiveLimits, Opened, open_conda, open_sdist, open_sdist_zip, open_tar_bz2, open_wheel,
    parse_metadata,
};
use airlock_formats::feeds::{self, curl, epss, identities, kev, nvd, openssl, osv, vex};
use airlock_formats::make::{CondaPackage, Wheel};
use airlock_formats::oneway::{beat::Beat, missing::Missing, packet, piece};
use airlock_formats::{IndexError, IndexRead, conda, limits, locks, msgpack, pypi};

/// A function that takes any bytes.
pub type Body = fn(&[u8]);

/// Every function of this module by its name, which is that of its target in `fuzz/`.
pub const ALL: [(&str, Body); 29] = [
    ("repodata", repodata),
    ("repodata_zst", repodata_zst),
    ("shard", shard),
    ("shard_index", shard_index),
    ("any_msgpack", any_msgpack),
    ("simple_json", simple_json),
    ("simple_html", simple_html),
    ("project_lists", project_lists),
    ("wheel", wheel),
    ("conda_package", conda_package),
    ("tar_bz2", tar_bz2),
    ("sdist", sdist),
    ("sdist_zip", sdist_zip),
    ("core_metadata", core_metadata),
    ("osv_feed", osv_feed),
    ("vex_feed", vex_feed),
    ("nvd_feed", nvd_feed),
    ("cve_feed", cve_feed),
    ("kev_feed", kev_feed),
    ("epss_feed", epss_feed),
    ("identity_list", identity_list),
    ("lock_file", lock_file),
    ("canonical_json", canonical_json),
    ("policy", policy),
    ("bundle_manifest", bundle_manifest),
    ("request_file", request_file),
    ("one_way", one_way),
    ("spec", spec),
    ("version", version),
];

/// Small enough that a million runs take a while and no more.
fn limits() -> ArchiveLimits {
    ArchiveLimits {
        entries_max: 1000,
        unpacked_bytes_max: 4 << 20,
        ratio_free_bytes: 1 << 20,
        member_bytes_max: 1 << 20,
        zstd_window_log_max: 23,
        ..ArchiveLimits::default()
    }
}

fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap(),
    }
}

// ---- indexes

/// `repodata.json`: what is accepted is accepted when it is served again, record for record.
pub fn repodata(data: &[u8]) {
    if let Ok(read) = conda::read_repodata("noarch", "fuzz", data) {
        served_again(&read);
    }
}

fn served_again(read: &IndexRead) {
    let text = conda::repodata("noarch", read.about.as_ref(), read.shards.values());
    let again = conda::read_repodata("noarch", "fuzz", text.as_bytes()).unwrap();
    assert_eq!(again.records(), read.records(), "records were lost");
    assert_eq!(again.bad_count, 0, "{:?}", again.bad);
    for shard in read.shards.values() {
        let (_, packed) = conda::shard(shard).unwrap();
        let again = conda::read_shard("noarch", &shard.name, &packed).unwrap();
        assert_eq!(again.records(), shard.entries.len(), "records were lost");
    }
}

/// `repodata.json.zst`, and what comes packed.
pub fn repodata_zst(data: &[u8]) {
    let _ = conda::read_repodata_zst("noarch", "fuzz", data);
    let packed = conda::zst(data).unwrap();
    let plain = conda::read_repodata("noarch", "fuzz", data).map(|read| read.records()).ok();
    match conda::read_repodata_zst("noarch", "fuzz", &packed) {
        // Bytes that are all alike may expand beyond reason.
        Err(IndexError::Ratio) => {}
        read => assert_eq!(read.map(|read| read.records()).ok(), plain),
    }
}

/// A shard, packed or not.
pub fn shard(data: &[u8]) {
    let _ = conda::read_shard("noarch", "x", data);
    if let Ok(read) = conda::read_shard("noarch", "x", &conda::zst(data).unwrap()) {
        served_again(&read);
    }
}

/// The index of shards, packed or not.
pub fn shard_index(data: &[u8]) {
    let _ = conda::read_shard_index("noarch", data);
    if let Ok(read) = conda::read_shard_index("noarch", &conda::zst(data).unwrap()) {
        let packed = conda::shard_index("noarch", Some(&read.about), &read.shards).unwrap();
        let again = conda::read_shard_index("noarch", &packed).unwrap();
        assert_eq!(again.shards, read.shards);
    }
}

/// Any msgpack becomes JSON of limited size, or is refused.
pub fn any_msgpack(data: &[u8]) {
    let Ok(json) = msgpack::to_json(data) else { return };
    assert!(json.len() <= (data.len() * 8).max(2 << 20), "{} bytes became {}", data.len(), json.len());
    serde_json::from_str::<&serde_json::value::RawValue>(&json).unwrap();
    let Ok(canonical) = Canonical::parse(&json) else { return };
    if msgpack::check_numbers(&canonical).is_ok() {
        let mut again = Vec::new();
        msgpack::write_json(&mut again, &canonical).unwrap();
        msgpack::to_json(&again).unwrap();
    }
}

fn page(read: Result<IndexRead, IndexError>) {
    for shard in read.iter().flat_map(|read| read.shards.values()) {
        let json = pypi::project_json(shard).unwrap();
        let again = pypi::read_project_json("x", "fuzz", json.as_bytes()).unwrap();
        assert_eq!(again.records(), shard.entries.len(), "files were lost");
        let html = pypi::project_html(shard).unwrap();
        let again = pypi::read_project_html("x", "fuzz", html.as_bytes()).unwrap();
        assert_eq!(again.records(), shard.entries.len(), "files were lost");
    }
}

/// A project's page as JSON.
pub fn simple_json(data: &[u8]) {
    page(pypi::read_project_json("x", "fuzz", data));
}

/// A project's page as HTML.
pub fn simple_html(data: &[u8]) {
    page(pypi::read_project_html("x", "fuzz", data));
}

/// The lists of projects, in both forms.
pub fn project_lists(data: &[u8]) {
    for names in [pypi::read_projects_json(data), pypi::read_projects_html(data)].into_iter().flatten() {
        assert!(names.is_sorted_by(|a, b| a < b), "names are each listed once");
    }
}

// ---- archives

/// What must hold of whatever a reader of archives accepted.
fn opened(result: Result<Opened, ArchiveError>) {
    let opened = match result {
        Ok(opened) => opened,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            return;
        }
    };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    assert!(plain(&opened.name) && plain(&opened.version), "{opened:?}");
    assert!(opened.build.as_deref().is_none_or(plain), "{opened:?}");
    for text in [&opened.licence, &opened.summary].into_iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{opened:?}");
    }
}

/// A wheel.
pub fn wheel(data: &[u8]) {
    opened(open_wheel(Cursor::new(data), &limits()));
}

/// A `.conda`, and any bytes as each of the two tar archives in one.
pub fn conda_package(data: &[u8]) {
    opened(open_conda(Cursor::new(data), &limits()));
    let index = br#"{"name":"x","version":"1","build":"0"}"#;
    let info = tar(&[("info/index.json", index)]);
    opened(open_conda(Cursor::new(conda_of(data, &tar(&[]))), &limits()));
    opened(open_conda(Cursor::new(conda_of(&info, data)), &limits()));
    let listed = tar(&[("info/index.json", index), ("info/paths.json", data)]);
    opened(open_conda(Cursor::new(conda_of(&listed, &tar(&[]))), &limits()));
}

/// A `.tar.bz2`, and any bytes as the tar in one.
pub fn tar_bz2(data: &[u8]) {
    opened(open_tar_bz2(data, &limits()));
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    opened(open_tar_bz2(encoder.finish().unwrap().as_slice(), &limits()));
}

/// A source distribution, and any bytes as the tar in one.
pub fn sdist(data: &[u8]) {
    opened(open_sdist(data, &limits()));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    opened(open_sdist(encoder.finish().unwrap().as_slice(), &limits()));
}

/// A source distribution of the old kind.
pub fn sdist_zip(data: &[u8]) {
    opened(open_sdist_zip(Cursor::new(data), &limits()));
}

/// Core metadata.
pub fn core_metadata(data: &[u8]) {
    if let Ok(core) = parse_metadata(data) {
        assert!(!core.name.is_empty() && !core.version.is_empty());
    }
}

/// A plain tar archive of these files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, data) in files {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        block[148..156].fill(b' ');
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(block);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A `.conda` of `x-1-0` with these two tar archives.
pub fn conda_of(info: &[u8], package: &[u8]) -> Vec<u8> {
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut put = |name: &str, bytes: &[u8]| {
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    };
    put("metadata.json", br#"{"conda_pkg_format_version": 2}"#);
    put("info-x-1-0.tar.zst", &zstd::bulk::compress(info, 1).unwrap());
    put("pkg-x-1-0.tar.zst", &zstd::bulk::compress(package, 1).unwrap());
    writer.finish().unwrap().into_inner()
}

// ---- feeds

/// Statements in any form, and what a package states of itself.
pub fn vex_feed(data: &[u8]) {
    let (mut stated, mut faults) = (vex::Stated::default(), vex::Faults::default());
    vex::read(data, "fuzz", &mut stated, &mut faults);
    let _ = (stated.into_statements(), vex::security::read(data));
}

/// Lock files of every form: what is read keeps to its limits, in one order, and is written and read again as it is.
pub fn lock_file(data: &[u8]) {
    let Ok(contents) = locks::read(data) else { return };
    assert!(!contents.packages.is_empty() && contents.packages.len() <= limits::LOCK_FILES_MAX);
    assert!(contents.packages.is_sorted());
    let written = serde_json::to_string(&contents).unwrap();
    assert_eq!(serde_json::from_str::<Contents>(&written).unwrap(), contents);
}

/// Files of requests: what is read is written as it was signed, and read again as it is.
pub fn request_file(data: &[u8]) {
    let Ok(paper) = Paper::read(text(data)) else { return };
    let lines: Vec<_> = paper.lines.iter().map(|line| (line.asked.clone(), line.signature)).collect();
    let written = Paper::write(&paper.public_key, &lines);
    assert!(lines.iter().all(|(asked, _)| text(data).contains(&asked.to_string()) && written.is_ascii()));
    let again = Paper::read(&written).unwrap();
    assert!(again.lines.iter().map(|line| &line.asked).eq(lines.iter().map(|(asked, _)| asked)));
}

/// A packet of a one-way link, what may be in it, and the list of what is missing.
pub fn one_way(data: &[u8]) {
    if let Some(header) = packet::Header::read(data) {
        assert_eq!(header.write()[..], data[..packet::HEADER_BYTES]);
        assert_eq!(packet::body(data).len(), usize::from(header.shape.symbol_bytes));
        assert!(header.shape.symbols() <= 2 * usize::from(packet::SYMBOLS_MAX));
    }
    let body = data.get(packet::HEADER_BYTES..).unwrap_or_default();
    if let Some(piece) = piece::read(body) {
        assert!(piece.offset.checked_add(piece.bytes.len() as u64).is_some());
    }
    if let Some(beat) = Beat::read(body) {
        let mut again = vec![0; body.len()];
        beat.write(&mut again);
        assert_eq!(Beat::read(&again), Some(beat));
    }
    if let Ok(missing) = Missing::read(text(data)) {
        assert_eq!(Missing::read(&missing.to_string()), Ok(missing));
    }
}

/// OSV records.
pub fn osv_feed(data: &[u8]) {
    let _ = osv::read_record(text(data));
    let _ = curl::read_record(text(data));
    let mut data = data;
    let _ = osv::read_all(&mut data, &mut |_| {});
    for name in ["x.json", "x.yaml"] {
        let _ = feeds::split(FeedKind::Osv, name, data, &mut |format, text| {
            let _ = text.and_then(|text| format.read(text));
            Ok(())
        });
    }
}

/// Records of the CVE List.
pub fn cve_feed(data: &[u8]) {
    let _ = openssl::read_record(text(data));
}

/// A page of NVD.
pub fn nvd_feed(data: &[u8]) {
    let _ = nvd::read_all(data, &mut |_| {});
}

/// The catalogue of known exploited vulnerabilities.
pub fn kev_feed(data: &[u8]) {
    let _ = kev::read(data);
}

/// A day of EPSS.
pub fn epss_feed(mut data: &[u8]) {
    let _ = epss::read(&mut data);
}

/// A list of identities, and the same bytes as rows of products.
pub fn identity_list(data: &[u8]) {
    let _ = identities::read(data, "fuzz");
    let rows = [b"a\tb\tpkg:pypi/c\n", data].concat();
    let _ = identities::read(rows.as_slice(), "fuzz");
}

// ---- the core

/// Canonical JSON is a fixed point, and says what the text said.
pub fn canonical_json(data: &[u8]) {
    let text = text(data);
    let Ok(canonical) = Canonical::parse(text) else { return };
    assert_eq!(Canonical::parse(canonical.as_str()).unwrap(), canonical);
    let values = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    if let Some(value) = values(text) {
        assert_eq!(values(canonical.as_str()), Some(value));
    }
}

/// A policy: its faults are told in text that a terminal can show.
pub fn policy(data: &[u8]) {
    if let Err(error) = Policy::parse(text(data)) {
        assert!(!error.to_string().is_empty());
    }
}

/// A bundle's manifest and signatures.
pub fn bundle_manifest(data: &[u8]) {
    let text = text(data);
    let _ = SignatureLine::parse_all(text);
    let Ok(canonical) = Canonical::parse(text) else { return };
    if let Ok(manifest) = canonical.read::<Manifest>() {
        assert_eq!(Canonical::of(&manifest).unwrap().read::<Manifest>().unwrap(), manifest);
    }
}

/// What a person types to name packages.
pub fn spec(data: &[u8]) {
    for ecosystem in [Ecosystem::Conda, Ecosystem::Pypi] {
        if let Ok(spec) = Spec::parse(ecosystem, text(data)) {
            let _ = (spec.matches_name("x"), spec.matches_version("1.0"), spec.can_tell("1.0"));
            Spec::parse(ecosystem, spec.as_str()).unwrap();
        }
    }
}

/// Versions: an order is one both ways.
pub fn version(data: &[u8]) {
    let text = text(data);
    let (a, b) = text.split_once('\n').unwrap_or((text, "1.0"));
    for order in [Order::Pep440, Order::Conda] {
        let forth = order.compare(a, b);
        assert_eq!(forth.map(std::cmp::Ordering::reverse), order.compare(b, a), "{a:?} {b:?}");
        if order.compare(a, a).is_some() {
            assert_eq!(order.compare(a, a), Some(std::cmp::Ordering::Equal), "{a:?}");
        }
    }
}

// ---- samples

/// A valid input for each name in [`ALL`], from which damaged ones are made.
pub fn sample(name: &str) -> Vec<u8> {
    let package = CondaPackage {
        name: "x",
        version: "1",
        build: "0",
        build_number: 0,
        subdir: "noarch",
        depends: &["python"],
        license: "MIT",
        summary: "A sample",
        timestamp_ms: 1_700_000_000_000,
        noarch_python: true,
        security: None,
        files: &[("x.py", b"X = 1\n")],
    };
    let python = Wheel {
        name: "x",
        version: "1",
        requires_dist: &["six"],
        requires_python: ">=3.8",
        license: "MIT",
        summary: "A sample",
        files: &[("x.py", b"X = 1\n")],
    };
    let source = crate::sdist("x", "1");
    let record = package.record(b"any").to_string();
    let index = format!(
        r#"{{"info":{{"subdir":"noarch"}},"packages":{{}},"packages.conda":{{"x-1-0.conda":{record}}},"removed":["x-0-0.conda"],"v3":{{"whl":{{}}}}}}"#
    );
    let read = || conda::read_repodata("noarch", "sample", index.as_bytes()).unwrap();
    let unpacked = |packed: Vec<u8>| zstd::bulk::decompress(&packed, 1 << 20).unwrap();
    match name {
        "repodata" | "repodata_zst" | "canonical_json" => index.into_bytes(),
        "shard" | "any_msgpack" => unpacked(conda::shard(read().shards.values().next().unwrap()).unwrap().1),
        "shard_index" => {
            let digest = airlock_core::id::Digest::of(b"x");
            unpacked(conda::shard_index("noarch", None, [("x", digest)]).unwrap())
        }
        "simple_json" => br#"{"meta":{"api-version":"1.4"},"name":"x","files":[{"filename":"x-1-py3-none-any.whl","url":"x","hashes":{},"yanked":"why","requires-python":">=3"}],"versions":["1"],"project-status":{"status":"active"}}"#.to_vec(),
        "simple_html" => br#"<!DOCTYPE html><meta name="pypi:repository-version" content="1.1"><!-- c --><a href="../x-1-py3-none-any.whl#sha256=00" data-requires-python="&gt;=3" data-yanked>x</a>"#.to_vec(),
        "project_lists" => br#"{"meta":{"api-version":"1.4"},"projects":[{"name":"a"},{"name":"B.c"}]}"#.to_vec(),
        "wheel" => python.bytes().unwrap(),
        "conda_package" => package.conda().unwrap(),
        "tar_bz2" => package.tar_bz2().unwrap(),
        "sdist" => source.bytes().unwrap(),
        "sdist_zip" => source.zip_bytes().unwrap(),
        "core_metadata" => python.metadata(),
        "vex_feed" => {
            let said = serde_json::json!({"vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": "pkg:pypi/x@1"}], "status": "fixed"});
            serde_json::json!({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [said]}).to_string().into_bytes()
        }
        "lock_file" => b"version: 6\nenvironments: {}\npackages:\n- conda: https://h/main/noarch/x-1-0.conda\n  md5: 00112233445566778899aabbccddeeff\n- pypi: https://h/x-1-py3-none-any.whl\n".to_vec(),
        "request_file" => {
            let line = r#"airlock-request/1 r1 conda main numpy>=2 2026-03-01T12:00:00Z ada "for x" ed25519 "#;
            let (key, signature) = ("07".repeat(32), "01".repeat(64));
            format!("# Airlock requests 1\n# key ed25519 {key}\n{line}{signature}\n").into_bytes()
        }
        "one_way" => beat(),
        "osv_feed" => crate::osv("PYSEC-1", "PyPI", "x", "2", 9.8).to_string().into_bytes(),
        "cve_feed" => br#"{"cveMetadata":{"cveId":"CVE-2024-1"},"containers":{"cna":{"affected":[{"packageURL":"pkg:pypi/x","cpes":["cpe:2.3:a:v:p:*:*:*:*:*:*:*:*"],"defaultStatus":"affected","versions":[{"version":"1","lessThan":"2","status":"unaffected"},{"version":">= 1, < 2","status":"affected"}]}]}}}"#.to_vec(),
        "nvd_feed" => br#"{"vulnerabilities":[{"cve":{"id":"CVE-2022-1","lastModified":"2022-02-02T00:00:00.000","vulnStatus":"Analyzed","descriptions":[{"lang":"en","value":"bad"}],"metrics":{},"weaknesses":[]}}]}"#.to_vec(),
        "kev_feed" => br#"{"vulnerabilities":[{"cveID":"CVE-1-1","dateAdded":"2024-01-01"}]}"#.to_vec(),
        "epss_feed" => b"#model_version:v1,score_date:2026-08-22T00:00:00+0000\ncve,epss,percentile\nCVE-1-1,0.5,0.6\n".to_vec(),
        "identity_list" => br#"{"pytorch":"torch","zlib":null,"pair":["a","b"],"schema_version":4,"packages":{"a":{"identities":[{"value":"cpe:2.3:a:x:y"}]},"b":{"purl":"pkg:pypi/b"}}}"#.to_vec(),
        "policy" => airlock_core::policy::DEFAULT.as_bytes().to_vec(),
        "bundle_manifest" => br#"{"channels":{},"created":"2026-01-01T00:00:00Z","extra":[],"feeds":{},"files":[],"format":1,"ledger":{"head":null,"length":0},"number":1,"objects":[],"sender":{"name":"a","public_key":"00"},"stream":"s"}"#.to_vec(),
        "spec" => b"urllib3>=1.26,<2".to_vec(),
        _ => b"1.0.post1\n1!2.0rc1+x".to_vec(),
    }
}

/// A packet of a one-way link that carries a beat.
fn beat() -> Vec<u8> {
    let session = packet::Session { sender: [1; 4], number: 1, salt: [2; 8] };
    let shape = packet::Shape { originals: 0, repair: 0, symbol_bytes: 512 };
    let kind = packet::Kind::Beat;
    let header = packet::Header { kind, symbol: 0, block: 0, session, sequence: 0, shape, depth: 0 };
    let mut bytes = header.write().to_vec();
    bytes.resize(header.packet_bytes(), 0);
    bytes
}
