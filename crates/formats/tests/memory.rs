//! What each attack costs in memory: a child process reads one hostile input and tells its peak. Run with
//! `cargo test --release -p airlock-formats --test memory -- --ignored --nocapture`.
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

use std::io::Write as _;

use airlock_formats::feeds::identities;
use airlock_formats::{conda as index, limits as index_limits, pypi};
use archive::*;

const MIB: usize = 1 << 20;

/// A field of /proc/self/status, in KiB.
fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// `start`, then `piece` of ever another number up to `bytes`, then `end`.
fn many(start: &str, end: &str, bytes: usize, piece: impl Fn(usize) -> String) -> Vec<u8> {
    let mut out = start.as_bytes().to_vec();
    for n in 0.. {
        if n > 0 {
            out.push(b',');
        }
        out.extend(piece(n).as_bytes());
        if out.len() > bytes {
            break;
        }
    }
    out.extend(end.as_bytes());
    out
}

fn pkg(payload: &[u8], paths: Option<&[u8]>) -> Vec<u8> {
    let info = paths.map_or_else(Tar::conda, |paths| Tar::conda().file("info/paths.json", paths));
    let mut entries = conda_entries(info);
    entries[1] = entry("pkg-demo-1.0-0.tar.zst", payload);
    zip(&entries)
}

/// A tar.zst whose file of zeros has this many bytes, made without holding them.
fn zeros(bytes: u64) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let header = Tar(Vec::new()).raw(b"zeros", b'0', "", usize::try_from(bytes).unwrap(), b"").0;
    encoder.write_all(&header).unwrap();
    for _ in 0..bytes / MIB as u64 {
        encoder.write_all(&[0; MIB]).unwrap();
    }
    encoder.finish().unwrap()
}

type Attack = (&'static str, &'static str, fn() -> Box<dyn FnOnce() -> String>);

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|e| format!("refused: {e}").chars().take(70).collect(), |_| "read".to_owned())
}

fn index_of(bytes: Vec<u8>) -> Box<dyn FnOnce() -> String> {
    Box::new(move || said(index::read_repodata("noarch", "x", &bytes)))
}

fn map_of(bytes: Vec<u8>) -> Box<dyn FnOnce() -> String> {
    Box::new(move || said(identities::read(bytes.as_slice(), "x")))
}

const ATTACKS: [Attack; 19] = [
    ("index, empty members", "1 GiB of `\"\":0,` as records", || {
        index_of(many(r#"{"packages":{"#, "}}", 1 << 30, |_| r#""":0"#.into()))
    }),
    ("index, tiny records of one name", "512 MiB of the smallest valid records", || {
        index_of(many(r#"{"packages":{"#, "}}", 512 * MIB, |n| {
            format!(r#""a-{n}-0.conda":{{"name":"a","version":"{n}","build":"0"}}"#)
        }))
    }),
    ("index, tiny records of many names", "512 MiB of the smallest valid records", || {
        index_of(many(r#"{"packages":{"#, "}}", 512 * MIB, |n| {
            format!(r#""a{n}-1-0.conda":{{"name":"a{n}","version":"1","build":"0"}}"#)
        }))
    }),
    ("index, one huge key beside records", "512 MiB of tiny members", || {
        index_of(many(r#"{"vendor":{"#, "}}", 512 * MIB, |n| format!(r#""{n}":0"#)))
    }),
    ("index, removed files", "512 MiB of `\"\",`", || {
        index_of(many(r#"{"removed":["#, "]}", 512 * MIB, |_| "\"\"".into()))
    }),
    ("shard index, arrays", "128 MiB of msgpack, one array", || {
        let mut bytes = b"\x81\xa6shards\x81\xa1a\xdd".to_vec();
        bytes.extend(u32::try_from(127 * MIB).unwrap().to_be_bytes());
        bytes.resize(bytes.len() + 127 * MIB, 7);
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        Box::new(move || said(index::read_shard_index("noarch", &packed)))
    }),
    ("shard index, names", "128 MiB of msgpack, names of 8 bytes", || {
        let count = 3_000_000_u32;
        let mut bytes = b"\x81\xa6shards\xdf".to_vec();
        bytes.extend(count.to_be_bytes());
        for n in 0..count {
            bytes.push(0xa8);
            bytes.extend(format!("{n:08}").as_bytes());
            bytes.extend(b"\xc4\x20");
            bytes.extend(n.to_be_bytes().repeat(8));
        }
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        Box::new(move || said(index::read_shard_index("noarch", &packed)))
    }),
    ("Simple HTML, tags", "256 MiB of `<a>`", || {
        let bytes = b"<a>".repeat(usize::try_from(index_limits::PAGE_BYTES_MAX).unwrap() / 3);
        Box::new(move || said(pypi::read_project_html("x", "x", &bytes)))
    }),
    ("Simple JSON, files", "256 MiB of `0,`", || {
        let bytes = many(r#"{"files":["#, "]}", 255 * MIB, |_| "0".into());
        Box::new(move || said(pypi::read_project_json("x", "x", &bytes)))
    }),
    ("conda, bytes of zeros", "7 GiB in a pkg archive", || {
        let bytes = pkg(&zeros(7 << 30), None);
        Box::new(move || said(conda(&bytes)))
    }),
    ("conda, files", "500,000 empty files with names of 60 bytes", || {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        let mut lines = Vec::new();
        for n in 0..499_000 {
            let name = format!("lib/{n:056}");
            encoder.write_all(&Tar(Vec::new()).file(&name, b"").0).unwrap();
            lines.push(format!(r#"{{"_path":"{name}","path_type":"hardlink","size_in_bytes":0}}"#));
        }
        encoder.write_all(&[0; 1024]).unwrap();
        let paths = format!(r#"{{"paths":[{}],"paths_version":1}}"#, lines.join(","));
        let bytes = pkg(&encoder.finish().unwrap(), Some(paths.as_bytes()));
        let limits = ArchiveLimits { ratio_max: u64::MAX, ..limits() };
        Box::new(move || said(open_conda(Cursor::new(bytes), &limits)))
    }),
    ("conda, a list of one string", "128 MiB of paths.json", || {
        let paths = format!(r#"{{"paths":[{{"_path":"{}"}}]}}"#, "a".repeat(127 * MIB));
        let bytes = pkg(&zst(&Tar(Vec::new()).end()), Some(paths.as_bytes()));
        let limits = ArchiveLimits { ratio_max: u64::MAX, ..limits() };
        Box::new(move || said(open_conda(Cursor::new(bytes), &limits)))
    }),
    ("conda, index.json of tiny members", "16 MiB", || {
        let more = many(r#"{"name":"demo","version":"1.0","build":"0","x":{"#, "}}", 15 * MIB, |n| {
            format!(r#""{n}":0"#)
        });
        let bytes = Tar(Vec::new()).file("info/index.json", &more).bz2();
        Box::new(move || said(open_tar_bz2(bytes.as_slice(), &limits())))
    }),
    ("wheel, entries", "65,000 empty files with names of 60 bytes", || {
        let names: Vec<Entry> = (0..65_000).map(|n| entry(&format!("demo/{n:056}"), b"")).collect();
        let bytes = wheel_with(&names);
        Box::new(move || said(wheel(&bytes)))
    }),
    ("wheel, METADATA of tiny headers", "15 MiB of `a:`", || {
        let text = [&b"Name: demo\nVersion: 1.0\n"[..], &b"a:\n".repeat(5 * MIB)].concat();
        let bytes = zip(&[
            deflated("demo-1.0.dist-info/METADATA", &text),
            entry("demo-1.0.dist-info/WHEEL", b""),
            entry("demo-1.0.dist-info/RECORD", b""),
        ]);
        let limits = ArchiveLimits { ratio_max: u64::MAX, ..limits() };
        Box::new(move || said(open_wheel(Cursor::new(bytes), &limits)))
    }),
    ("identities, one list", "128 MiB of `\"\",`", || {
        map_of(many(r#"{"x":["#, "]}", 127 * MIB, |_| "\"\"".into()))
    }),
    ("identities, a string without end", "128 MiB", || {
        map_of([&br#"{"schema_version":4,"packages":{"x":{"purl":""#[..], &b"x".repeat(127 * MIB)].concat())
    }),
    ("identities, packages with many CPEs", "128 MiB of the smallest", || {
        map_of(many(r#"{"schema_version":4,"packages":{"#, "}}", 127 * MIB, |n| {
            format!(r#""{n}":{{"cpes":["cpe:2.3:a:a:{n}","cpe:2.3:a:b:{n}"]}}"#)
        }))
    }),
    ("identities, rows of products", "128 MiB of the smallest", || {
        let rows = (0..6 * MIB).map(|n| format!("v\t{n}\tpkg:pypi/{n}\n"));
        map_of(rows.collect::<String>().into_bytes())
    }),
];

/// How many MiB more than its input an attack may take.
const MORE_MIB_MAX: u64 = 1500;

#[test]
#[ignore = "reads one attack, for the test below"]
fn one_attack_alone() {
    let Ok(name) = std::env::var("AIRLOCK_ATTACK") else { return };
    let (_, _, prepare) = ATTACKS.iter().find(|(n, _, _)| *n == name).unwrap();
    let attack = prepare();
    // What preparing it took is forgotten.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let held = status_kib("VmHWM") >> 10;
    let answer = attack();
    let peak = status_kib("VmHWM") >> 10;
    println!("RESULT {} {} {answer}", held, peak.saturating_sub(held));
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn no_attack_takes_more_memory_than_stated() {
    println!("{:38} {:45} {:>9} {:>9}  answer", "attack", "input", "held MiB", "more MiB");
    for (name, input, _) in &ATTACKS {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "one_attack_alone"])
            .env("AIRLOCK_ATTACK", name)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        let line = text.lines().find_map(|l| l.split_once("RESULT ")).unwrap_or_else(|| panic!("{text}")).1;
        let mut fields = line.splitn(3, ' ');
        let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
        let (held, more) = (number(), number());
        println!("{name:38} {input:45} {held:>9} {more:>9}  {}", fields.next().unwrap());
        assert!(more < MORE_MIB_MAX, "{name} takes {more} MiB");
    }
}
