//! Sharded repodata (CEP 16): every encoding that upstreams ever wrote is read, and what is written suits every client.
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
use airlock_core::ecosystem::Ecosystem;
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::shard::Shard;
use airlock_formats::conda::{self, read_repodata, read_shard, read_shard_index};
use airlock_formats::{IndexError, msgpack};
use channel::{ODD, expected_table, index_of, render, tables};
use rmp::encode;
use serde_json::{Value, json};

const ENCODINGS: [&str; 4] = ["bin", "str", "array", "ext"];

/// Writes a hash in one of the encodings in which upstreams wrote them.
fn write_hash(out: &mut Vec<u8>, hash: &[u8], encoding: &str) {
    match encoding {
        "bin" => encode::write_bin(out, hash).unwrap(),
        "str" => encode::write_str(out, &hex::encode(hash)).unwrap(),
        "array" => {
            encode::write_array_len(out, hash.len() as u32).unwrap();
            for byte in hash {
                encode::write_uint(out, u64::from(*byte)).unwrap();
            }
        }
        _ => {
            encode::write_ext_meta(out, hash.len() as u32, 1).unwrap();
            out.extend(hash);
        }
    }
}

fn json_into(out: &mut Vec<u8>, value: &Value) {
    msgpack::write_json(out, &Canonical::of(value).unwrap()).unwrap();
}

fn map(out: &mut Vec<u8>, members: u32) {
    encode::write_map_len(out, members).unwrap();
}

fn key(out: &mut Vec<u8>, name: &str) {
    encode::write_str(out, name).unwrap();
}

fn index_bytes(hashes: &[(&str, [u8; 32])], info: &Value, encoding: &str, version: bool) -> Vec<u8> {
    let mut out = Vec::new();
    map(&mut out, 2 + u32::from(version));
    if version {
        key(&mut out, "version");
        json_into(&mut out, &json!(1));
    }
    key(&mut out, "info");
    json_into(&mut out, info);
    key(&mut out, "shards");
    map(&mut out, hashes.len() as u32);
    for (name, hash) in hashes {
        key(&mut out, name);
        write_hash(&mut out, hash, encoding);
    }
    conda::zst(&out).unwrap()
}

#[test]
fn a_shard_index_is_read_in_every_encoding_of_hashes_with_and_without_a_version() {
    let hashes = [("a", [0; 32]), ("b", [0xff; 32]), ("c", *Digest::of(b"c").as_bytes())];
    let info = json!({"subdir": "linux-64", "base_url": "/conda-forge/linux-64/",
        "shards_base_url": "https://shards.example/x/", "created_at": "2026-01-01T00:00:00Z", "vendor": 1});
    for encoding in ENCODINGS {
        for version in [false, true] {
            let packed = index_bytes(&hashes, &info, encoding, version);
            let index = read_shard_index("linux-64", &packed).unwrap();
            let expected = hashes.map(|(name, hash)| (name.to_owned(), Digest::from_bytes(hash)));
            assert_eq!(index.shards, BTreeMap::from(expected), "{encoding}");
            assert_eq!(index.shards_base_url, "https://shards.example/x/");
            assert_eq!(index.base_url.as_deref(), Some("/conda-forge/linux-64/"));
            assert_eq!(index.about.as_str(), r#"{"info":{"subdir":"linux-64","vendor":1}}"#);
        }
    }
}

#[test]
fn a_shard_is_read_in_every_encoding_of_hashes() {
    let (sha256, md5) = ([0xab; 32], [7; 16]);
    for encoding in ENCODINGS {
        let mut out = Vec::new();
        map(&mut out, 1);
        key(&mut out, "packages.conda");
        map(&mut out, 1);
        key(&mut out, "x-1-0.conda");
        map(&mut out, 5);
        for (name, value) in [("name", "x"), ("version", "1"), ("build", "0")] {
            key(&mut out, name);
            key(&mut out, value);
        }
        for (name, hash) in [("sha256", &sha256[..]), ("md5", &md5)] {
            key(&mut out, name);
            write_hash(&mut out, hash, encoding);
        }
        let read = read_shard("linux-64", "x", &conda::zst(&out).unwrap()).unwrap();
        assert_eq!(read.bad_count, 0);
        let record = &tables(&read)["packages.conda"]["x-1-0.conda"];
        assert_eq!(record["sha256"], hex::encode(&sha256), "{encoding}");
        assert_eq!(record["md5"], hex::encode(&md5), "{encoding}");
    }
}

#[test]
fn an_index_without_bases_has_those_of_the_standard() {
    let index = read_shard_index("noarch", &index_bytes(&[], &json!({}), "bin", true)).unwrap();
    assert_eq!((index.shards_base_url.as_str(), index.base_url), ("./shards/", None));
}

#[test]
fn a_shard_index_of_another_shape_is_refused() {
    let pack = |value: Value| {
        let mut out = Vec::new();
        json_into(&mut out, &value);
        conda::zst(&out).unwrap()
    };
    for value in [
        json!([]),
        json!({}),
        json!({"shards": []}),
        json!({"shards": {"a": "00"}}),
        json!({"shards": {"a": null}}),
        json!({"shards": {"a": [256]}}),
        json!({"shards": {"a": vec![1; 31]}}),
        json!({"shards": {}, "info": []}),
        json!({"shards": {}, "info": {"subdir": "win-64"}}),
    ] {
        assert!(read_shard_index("noarch", &pack(value.clone())).is_err(), "{value}");
    }
    let long = "x".repeat(1 << 20);
    for value in [json!({"shards": {&long: 1}}), json!({"shards": {}, "info": {"subdir": &long}})] {
        let error = read_shard_index("noarch", &pack(value)).unwrap_err().to_string();
        assert!(error.len() < 500, "a message quotes {} bytes", error.len());
    }
    assert!(matches!(read_shard_index("noarch", b"{}"), Err(IndexError::Unpack(_))));
}

#[test]
fn a_written_index_has_what_each_client_needs() {
    let read = read_repodata("linux-64", "test", ODD.as_bytes()).unwrap();
    let rendered = render("linux-64", &read);
    let bytes = zstd::stream::decode_all(rendered.index.as_slice()).unwrap();
    let size = zstd::zstd_safe::get_frame_content_size(&rendered.index).unwrap();
    assert_eq!(size, Some(bytes.len() as u64));
    let index: Value = serde_json::from_str(&msgpack::to_json(&bytes).unwrap()).unwrap();
    let info = json!({"subdir": "linux-64", "base_url": "./", "shards_base_url": "./shards/",
        "vendor_info": {"kept": [null, 1.5]}});
    assert_eq!((&index["info"], &index["version"]), (&info, &json!(1)));
    let names: Vec<&String> = index["shards"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["six", "x", "x264"]);
    // mamba drops hashes that are not `bin`: the name `x264`, marker, length.
    let digest = rendered.shards["x264"].0;
    let written = [&b"\xa4x264\xc4\x20"[..], digest.as_bytes()].concat();
    assert!(bytes.windows(written.len()).any(|window| window == written));
    assert_eq!(read_shard_index("linux-64", &rendered.index).unwrap().shards["x264"], digest);
}

#[test]
fn the_head_of_a_mirrored_shard_index_is_served_again() {
    let info = json!({"subdir": "noarch", "base_url": "https://evil.example/", "vendor": {"kept": [null]}});
    let read = read_shard_index("noarch", &index_bytes(&[], &info, "bin", false)).unwrap();
    let again = conda::shard_index("noarch", Some(&read.about), &BTreeMap::<String, Digest>::new()).unwrap();
    let again = read_shard_index("noarch", &again).unwrap();
    assert_eq!(again.about, read.about);
    assert_eq!(again.base_url.as_deref(), Some("./"));
    let plain: Value = serde_json::from_str(&conda::repodata("noarch", Some(&read.about), [])).unwrap();
    assert_eq!(plain["info"], json!({"subdir": "noarch", "vendor": {"kept": [null]}}));
}

#[test]
fn a_written_shard_has_both_tables_and_raw_hashes_and_states_its_size() {
    let read = read_repodata("linux-64", "test", ODD.as_bytes()).unwrap();
    let original: Value = serde_json::from_str(ODD).unwrap();
    let rendered = render("linux-64", &read);
    for (name, (digest, packed)) in &rendered.shards {
        assert_eq!(*digest, Digest::of(packed));
        let bytes = zstd::stream::decode_all(packed.as_slice()).unwrap();
        let size = zstd::zstd_safe::get_frame_content_size(packed).unwrap();
        assert_eq!(size, Some(bytes.len() as u64), "{name}");
        let shard: Value = serde_json::from_str(&msgpack::to_json(&bytes).unwrap()).unwrap();
        assert!(shard["packages"].is_object() && shard["packages.conda"].is_object(), "{name}");
        assert!(bytes.windows(9).any(|w| w == b"\xa6sha256\xc4\x20"), "{name}: sha256 is no bin");
        assert_eq!(shard.get("v3").is_some(), name != "x264", "{name}");
    }
    let (_, packed) = &rendered.shards["x"];
    let bytes = zstd::stream::decode_all(packed.as_slice()).unwrap();
    assert!(bytes.windows(6).any(|w| w == b"\xa3md5\xc4\x10"), "md5 is no bin");
    let x = tables(&read_shard("linux-64", "x", packed).unwrap());
    let mut expected = expected_table(&original["packages"], "", false)["X-1.0-0.tar.bz2"].clone();
    // msgpack has no integer beyond 64 bits.
    expected["big"] = json!(123_456_789_012_345_678_901_234_567_890_f64);
    assert_eq!(x["packages"]["X-1.0-0.tar.bz2"], expected);
    let expected = expected_table(&original["packages.conda"], "", false);
    assert_eq!(x["packages.conda"]["x-2.0-0.conda"], expected["x-2.0-0.conda"]);
    let expected = expected_table(&original["v3"]["conda"], ".conda", true);
    assert_eq!(x["v3/conda"]["x-3.0-0.conda"], expected["x-3.0-0"]);
    let six = tables(&read_shard("linux-64", "six", &rendered.shards["six"].1).unwrap());
    let wheel = &six["v3/whl"]["six-1.17.0-py3_none_any_0.whl"];
    assert_eq!(wheel["url"], "six-1.17.0-py3_none_any_0.whl");
}

#[test]
fn an_empty_shard_is_written_with_both_tables() {
    let shard = Shard::new(Ecosystem::Conda, "x".into(), Some("noarch".into()));
    let (_, packed) = conda::shard(&shard).unwrap();
    assert_eq!(
        zstd::stream::decode_all(packed.as_slice()).unwrap(),
        b"\x82\xa8packages\x80\xaepackages.conda\x80"
    );
    assert_eq!(read_shard("noarch", "x", &packed).unwrap().records(), 0);
}

#[test]
fn numbers_survive_a_shard() {
    let numbers = json!([
        0,
        127,
        128,
        255,
        256,
        65535,
        65536,
        u32::MAX,
        u64::from(u32::MAX) + 1,
        u64::MAX,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32768,
        -32769,
        i32::MIN,
        i64::from(i32::MIN) - 1,
        i64::MIN,
        0.1,
        1.0,
        -0.5,
        1e-7,
        5e-324,
        1.797_693_134_862_315_7e308,
        1e15,
        std::f64::consts::PI
    ]);
    let record = json!({"name": "x", "version": "1", "build": "0", "numbers": numbers});
    let read = read_repodata("noarch", "i", index_of(&[("x-1-0.conda", &record.to_string())]).as_bytes());
    let rendered = render("noarch", &read.unwrap());
    let again = read_shard("noarch", "x", &rendered.shards["x"].1).unwrap();
    assert_eq!(tables(&again)["packages.conda"]["x-1-0.conda"]["numbers"], numbers);
}

#[test]
fn floats_survive_a_shard_to_the_last_bit() {
    let mut random = genuine::Random::new(1);
    for _ in 0..2000 {
        let float = f64::from_bits(random.number());
        if float.is_finite() {
            let mut bytes = Vec::new();
            msgpack::write_json(&mut bytes, &Canonical::parse(&format!("{float:e}")).unwrap()).unwrap();
            let text = msgpack::to_json(&bytes).unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), float.to_bits(), "{float:e} became {text}");
        }
    }
}

#[test]
fn a_shard_that_ends_too_early_is_refused_wherever_it_ends() {
    let read = read_repodata("linux-64", "test", ODD.as_bytes()).unwrap();
    let rendered = render("linux-64", &read);
    let refused = |packed: &[u8]| {
        read_shard("linux-64", "x", packed).is_err() && read_shard_index("linux-64", packed).is_err()
    };
    for packed in [&rendered.shards["x"].1, &rendered.index] {
        for end in (0..packed.len()).step_by(7) {
            assert!(refused(&packed[..end]), "cut at {end} of the packed bytes");
        }
        let bytes = zstd::stream::decode_all(packed.as_slice()).unwrap();
        for end in 0..bytes.len() {
            assert!(refused(&conda::zst(&bytes[..end]).unwrap()), "cut at {end}");
        }
    }
}

#[test]
fn what_expands_beyond_reason_is_refused() {
    let bomb = conda::zst(&vec![0; 64 << 20]).unwrap();
    assert!(matches!(read_shard("noarch", "bomb", &bomb), Err(IndexError::Ratio)));
    assert!(matches!(read_shard_index("noarch", &bomb), Err(IndexError::Ratio)));
    // With enough noise in front, the ratio is fine and the limit in bytes must hold.
    let mut random = genuine::Random::new(2);
    let mut large: Vec<u8> = (0..50_000).flat_map(|_| random.number().to_le_bytes()).collect();
    large.resize((128 << 20) + 1, 0);
    let large = conda::zst(&large).unwrap();
    assert!(matches!(read_shard("noarch", "large", &large), Err(IndexError::TooLarge(_))));
}

#[test]
fn one_bad_record_of_a_shard_is_left_out_and_the_rest_is_kept() {
    let mut out = Vec::new();
    json_into(
        &mut out,
        &json!({"packages": {}, "packages.conda": {
            "x-1-0.conda": {"name": "x", "version": "1", "build": "0"},
            "x-2-0.conda": {"name": "x", "version": "3", "build": "0"},
            "x-4-0.conda": 7,
        }}),
    );
    let read = read_shard("noarch", "x", &conda::zst(&out).unwrap()).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, 2));
    // The same key twice in one record, which readers would read differently.
    let mut out = Vec::new();
    map(&mut out, 1);
    key(&mut out, "packages");
    map(&mut out, 1);
    key(&mut out, "x-1-0.tar.bz2");
    map(&mut out, 2);
    for _ in 0..2 {
        key(&mut out, "name");
        key(&mut out, "x");
    }
    let read = read_shard("noarch", "x", &conda::zst(&out).unwrap()).unwrap();
    assert!(read.records() == 0 && read.bad[0].reason.contains("stands twice"));
}
