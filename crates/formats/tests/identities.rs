//! Maps of what packages are elsewhere: each form is read whole, told from the others by what it holds, and costs
//! nothing but its own bad entries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "common/genuine.rs"]
mod genuine;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use airlock_core::advisory::MatchKey;
use airlock_core::identity::{Identity, Joined, Mapping, Review, builtin};
use airlock_core::version::Order;
use airlock_formats::feeds::FeedError;
use airlock_formats::feeds::identities::{self, Identities};
use airlock_formats::limits;
use genuine::unpacked;
use serde_json::{Value, json};

fn read(text: &str) -> Result<Identities, FeedError> {
    identities::read(text.as_bytes(), "test")
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn ids(read: &Identities) -> Vec<&str> {
    read.bad.iter().map(|bad| bad.id.as_str()).collect()
}

/// The keys of a name, in one line.
fn keys(identity: &Identity) -> String {
    identity.mappings.iter().map(|m| m.key.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_whole_map_of_pypi_names_is_read() {
    let made = r#"{"pytorch": "torch", "zlib": null, "Pair": ["B.b", "a", "b_b"], "bad name": "x", "odd": 7,
        "worse": ["../x"], "packages": {"x": {"purl": "pkg:pypi/x"}}, "none": [null], "long": ["x", ["y"]]}"#;
    let found = read(made).unwrap();
    assert_eq!((found.map.len(), found.bad_count), (3, 6));
    assert_eq!(ids(&found), ["bad name", "odd", "worse", "packages", "none", "long"]);
    let mapped = |names: &[&str]| names.iter().map(|n| Mapping::pypi(n, "test")).collect::<Vec<_>>();
    assert_eq!(found.map["pytorch"].mappings, mapped(&["torch"]));
    assert_eq!(found.map["pair"].mappings, mapped(&["a", "b-b"]));
    assert_eq!(found.map["zlib"], Identity::default());
    if let Some(bytes) = unpacked("identity/conda-forge-to-pypi.json.gz") {
        let original: BTreeMap<String, Value> = serde_json::from_slice(&bytes).unwrap();
        let found = identities::read(bytes.as_slice(), "parselmouth").unwrap();
        assert_eq!((found.map.len(), found.bad_count), (original.len(), 0));
        assert_eq!(found.map.len(), 33_909);
        assert_eq!(found.map["pytorch"].mappings, [Mapping::pypi("torch", "parselmouth")]);
        for (name, names) in &original {
            assert_eq!(found.map[&name.to_lowercase()].mappings.is_empty(), names.is_null(), "{name}");
        }
    }
}

#[test]
fn a_name_in_two_spellings_maps_to_all_that_is_said_of_it() {
    let found = read(r#"{"Pair":"b","pair":["a","b"],"PAIR":null}"#).unwrap();
    let both = vec![Mapping::pypi("a", "test"), Mapping::pypi("b", "test")];
    assert_eq!((found.map["pair"].mappings.clone(), found.bad_count), (both, 0));
}

#[test]
fn the_map_of_products_tells_which_products_a_package_elsewhere_is() {
    let rows = "vendor\tproduct\tpurl\nPython\tpillow\tpkg:pypi/Pillow\r\npython\tpillow\tpkg:github/x/y\n\
        pythonware\tpython_imaging_library\tpkg:pypi/pillow\nr\thaven\tpkg:cran/haven\n\n\
        neo4j\tneo4j\tpkg:pypi/neo4j\nneo4j\tneo4j\tpkg:npm/neo4j\none\ttwo\n\tx\tpkg:pypi/x\n\
        x\tx\t\"pkg:pypi/x\nx\tx\tpkg:pypi/x\ty\nx y\tx\tpkg:pypi/x\nx\tx\tpkg:pypi/project/x";
    let found = read(rows).unwrap();
    let said: Vec<_> = found.map.iter().map(|(name, identity)| (name.as_str(), keys(identity))).collect();
    assert_eq!(
        said,
        [
            ("osv:CRAN/haven", "cpe:r:haven".to_owned()),
            ("osv:PyPI/pillow", "cpe:python:pillow cpe:pythonware:python_imaging_library".to_owned()),
        ]
    );
    assert_eq!(
        (found.bad_count, ids(&found)),
        (6, vec!["row 9", "row 10", "row 11", "row 12", "row 13", "row 14"])
    );
    let pillow = &found.map["osv:PyPI/pillow"].mappings[0];
    assert_eq!((pillow.provenance.as_str(), pillow.review), ("test", Review::Automatic));
}

/// The genuine map of products beside that of names.
fn joined() -> Option<BTreeMap<String, Identity>> {
    let mut joined = Joined::default();
    for (feed, file) in
        [("parselmouth", "conda-forge-to-pypi.json.gz"), ("purl2cpe", "cpe-product-to-purl.tsv.gz")]
    {
        let bytes = unpacked(&format!("identity/{file}"))?;
        joined.add(feed, identities::read(&*bytes, feed).unwrap().map);
    }
    Some(joined.finish())
}

#[test]
fn the_genuine_map_of_products_reaches_conda_packages_and_not_what_it_does_not_speak_of() {
    let Some(bytes) = unpacked("identity/cpe-product-to-purl.tsv.gz") else { return };
    let found = identities::read(&*bytes, "purl2cpe").unwrap();
    // Purls with a quote or nothing in them, and one of PyPI with a path.
    assert_eq!((found.map.len(), found.bad_count), (812, 6), "{:?}", found.bad);
    let joined = joined().unwrap();
    let through: Vec<_> =
        joined.iter().filter(|(_, i)| i.mappings.iter().any(|m| m.provenance.contains("purl2cpe"))).collect();
    let of_cpes = |all: &BTreeMap<String, Identity>| -> BTreeSet<MatchKey> {
        let keys = all.values().flat_map(|i| &i.mappings).map(|m| m.key.clone());
        keys.filter(MatchKey::is_cpe).collect()
    };
    let products = (of_cpes(&builtin::identities()).len(), of_cpes(&joined).len());
    assert_eq!((through.len(), products), (347, (429, 813)));
    for (name, key) in [
        ("pillow", "cpe:python:pillow"),
        ("ujson", "cpe:python:ultrajson"),
        ("dask-core", "cpe:anaconda:dask"),
    ] {
        let mapping = joined[name].mappings.iter().find(|m| m.key.as_str() == key);
        let mapping = mapping.unwrap_or_else(|| panic!("{name}: {}", keys(&joined[name])));
        assert_eq!((mapping.order, mapping.review), (Order::Pep440, Review::Automatic));
    }
    // A server and its client, what a vendor has beside it, gems and modules of Java.
    for (name, part) in [
        ("neo4j-python-driver", "neo4j:"),
        ("airflow", "mysql_provider"),
        ("protobuf", "java"),
        ("twilio", "authy"),
    ] {
        assert!(!keys(&joined[name]).contains(part), "{name}: {}", keys(&joined[name]));
    }
}

/// A package as the payload of the schema 4 has it.
fn package(identities: &Value) -> Value {
    json!({
        "name": "x", "version": "6.5", "purl": "pkg:pypi/ignored", "cpes": ["cpe:2.3:a:ig:nored"],
        "status": "verified", "sources": [{"deep": [[[[[]]]]]}], "identities": identities,
    })
}

fn payload(packages: &Value) -> String {
    json!({"schema_version": 4, "generated_at": "2026-01-01T00:00:00+00:00", "channel": "conda-forge",
        "package_count": 1, "packages": packages})
    .to_string()
}

#[test]
fn packages_with_purls_and_cpes_are_read_and_nobody_elsewhere_reviews_for_this_station() {
    let identity = |kind: &str, value: &str| {
        json!({"kind": kind, "role": "primary", "value": value, "provenance": {"availability": "available",
            "source": "manual", "review": {"status": "verified", "reviewer": "x", "reviewed_at": "2026-05-25T00:00:00Z"}}})
    };
    let all = json!({
        "Ncurses": package(&json!([
            identity("purl", "pkg:github/ThomasDickey/ncurses-snapshots"),
            identity("cpe", "cpe:2.3:a:gnu:ncurses"),
            identity("cpe", "cpe:2.3:o:gnu:system"),
        ])),
        "pytorch": package(&json!([identity("purl", "pkg:pypi/torch"), identity("cpe", r"cpe:2.3:a:x:py\+torch")])),
        "r-haven": package(&json!([identity("purl", "pkg:cran/haven")])),
        "_mutex": package(&json!([])),
        "odd": package(&json!([identity("purl", "pkg:pypi/odd"), identity("purl", "pypi/odd"), {"value": 7}, 7])),
        "odder": 7,
        "bad name": {},
        // The fields of payloads before the schema 2.
        "old": {"purl": "pkg:pypi/old", "cpes": ["cpe:2.3:a:o:ld"],
            "alternative_purls": ["pkg:pypi/older", {"purl": "pkg:pypi/oldest", "confidence": 0.5}]},
        "unmapped": {"purl": null, "alternative_purls": null, "unmapped": true},
    });
    let found = read(&payload(&all)).unwrap();
    let said: Vec<_> = found.map.iter().map(|(name, identity)| (name.as_str(), keys(identity))).collect();
    assert_eq!(
        said.iter().map(|(name, keys)| (*name, keys.as_str())).collect::<Vec<_>>(),
        [
            ("_mutex", ""),
            ("ncurses", "cpe:gnu:ncurses"),
            ("odd", "osv:PyPI/odd"),
            ("old", "cpe:o:ld osv:PyPI/old osv:PyPI/older osv:PyPI/oldest"),
            ("pytorch", "cpe:x:py+torch osv:PyPI/torch"),
            ("r-haven", "osv:CRAN/haven"),
            ("unmapped", ""),
        ]
    );
    assert!(found.map.values().flat_map(|i| &i.mappings).all(|m| m.review == Review::Automatic));
    assert_eq!((found.bad_count, ids(&found)), (5, vec!["bad name", "odd", "odd", "odd", "odder"]));
    // Wherever the version stands; and one that nobody knows yet is refused.
    let turned = format!(r#"{{"packages":{all},"schema_version":1}}"#);
    assert_eq!(read(&turned).unwrap().map, found.map);
    let newer = payload(&all).replace(r#""schema_version":4"#, r#""schema_version":6"#);
    assert!(refused(&newer).contains("schema 6"));
}

#[test]
fn names_keys_and_products_have_limits() {
    let many = |count: usize| (0..count).map(|i| format!("n{i}")).collect::<Vec<String>>();
    let long = "x".repeat(limits::IDENTITY_NAME_BYTES_MAX + 1);
    let names = many(limits::IDENTITY_NAMES_MAX + 1);
    let found = read(&json!({"many": names, "long": long, &long: "x", "good": "x"}).to_string()).unwrap();
    assert_eq!((found.bad_count, found.map.len()), (3, 1));
    assert!(found.map.contains_key("good"));

    let cpes = |count| many(count).iter().map(|n| format!("cpe:2.3:a:v:{n}")).collect::<Vec<_>>();
    let all = json!({"most": {"cpes": cpes(limits::IDENTITY_KEYS_MAX)}, "many": {"cpes": cpes(limits::IDENTITY_KEYS_MAX + 1)},
        "huge": {"cpes": cpes(100_000)}});
    let found = read(&payload(&all)).unwrap();
    assert_eq!(found.map["most"].mappings.len(), limits::IDENTITY_KEYS_MAX);
    assert_eq!((found.bad_count, ids(&found)), (2, vec!["huge", "many"]));
    assert!(found.map["many"].mappings.is_empty() && found.map["huge"].mappings.is_empty());
    // What is said of a name in two spellings is not more than what may be said of one.
    let first = json!({"cpes": cpes(limits::IDENTITY_KEYS_MAX)});
    let more = json!({"cpes": ["cpe:2.3:a:v:more"]});
    let twice = format!(r#"{{"schema_version":4,"packages":{{"a":{first},"A":{more}}}}}"#);
    let found = read(&twice).unwrap();
    assert_eq!((found.map["a"].mappings.len(), ids(&found)), (limits::IDENTITY_KEYS_MAX, vec!["A"]));

    let mut rows = String::from("a\tb\tpkg:pypi/few\n");
    for name in many(limits::IDENTITY_KEYS_MAX + 1) {
        writeln!(rows, "{name}\tproduct\tpkg:pypi/much").unwrap();
    }
    writeln!(rows, "{long}\tproduct\tpkg:pypi/long\nv\t{}\tpkg:pypi/long", "x".repeat(10_000)).unwrap();
    let found = read(&rows).unwrap();
    assert_eq!(found.map.keys().collect::<Vec<_>>(), ["osv:PyPI/few"]);
    assert_eq!((found.bad_count, found.bad.last().unwrap().id.as_str()), (3, "osv:PyPI/much"));
}

#[test]
fn a_map_of_too_many_names_is_refused() {
    let all: BTreeMap<String, ()> = (0..=limits::IDENTITIES_MAX).map(|i| (format!("n{i}"), ())).collect();
    assert!(refused(&serde_json::to_string(&all).unwrap()).contains("names"));
    let mut packages = String::new();
    let mut rows = String::new();
    for i in 0..=limits::IDENTITIES_MAX {
        write!(packages, r#""n{i}":{{}},"#).unwrap();
        writeln!(rows, "v\tn{i}\tpkg:npm/x").unwrap();
    }
    let text = format!(r#"{{"packages":{{{packages}"x":{{}}}},"schema_version":4}}"#);
    assert!(refused(&text).contains("names"));
    assert!(refused(&rows).contains("products"));
}

#[test]
fn what_makes_no_sense_is_counted_and_stops_nothing() {
    let many = 3 * limits::BAD_LISTED_MAX;
    let mut flat: BTreeMap<String, u8> = (0..many).map(|i| (format!("n{i}"), 1)).collect();
    let names = serde_json::to_string(&flat).unwrap();
    assert!(refused(&names).contains("makes sense"));
    for (text, good) in [
        (names.replace(r#"{"#, r#"{"good":"x","#), "good"),
        (format!(r#"{{"schema_version":4,"packages":{}}}"#, names.replace('{', r#"{"good":{},"#)), "good"),
        (format!("{}a\tb\tpkg:pypi/good", "senseless\n".repeat(many)), "osv:PyPI/good"),
    ] {
        let found = read(&text).unwrap();
        assert_eq!((found.bad_count, found.bad.len()), (many as u64, limits::BAD_LISTED_MAX));
        assert!(found.map.contains_key(good) && found.map.len() == 1);
        assert!(found.bad.iter().all(|bad| bad.id.len() < 100 && bad.reason.len() < 1000));
    }
    flat.clear();
    assert!(read(&serde_json::to_string(&flat).unwrap()).unwrap().map.is_empty());
}

#[test]
fn wrong_types_and_depth_cost_only_their_entry() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for odd in ["7", "-7", "1e9", "true", "{}", r#"{"x":[{}]}"#, "[[]]", "[{}]", "[7]", deep.as_str()] {
        let found = read(&format!(r#"{{"odd":{odd},"good":"x"}}"#)).unwrap();
        assert_eq!((found.map.len(), ids(&found)), (1, vec!["odd"]), "{:.20}", odd);
        let text = format!(
            r#"{{"schema_version":4,"packages":{{"a":{{"x":{odd}}},"b":{{"identities":{odd}}},"c":{{"cpes":{odd}}},
            "d":{{"identities":[{{"value":{odd}}}]}},"good":{{"purl":"pkg:pypi/x"}}}}}}"#
        );
        let found = read(&text).unwrap();
        assert_eq!(keys(&found.map["good"]), "osv:PyPI/x", "{odd:.20}");
        assert!(ids(&found).contains(&"d") && !ids(&found).contains(&"a"), "{odd:.20}");
    }
}

#[test]
fn what_ends_too_early_or_never_is_refused() {
    let text = payload(&json!({"x": package(&json!([{"value": "pkg:pypi/x"}]))}));
    for end in 0..text.len() {
        assert!(read(&text[..end]).is_err(), "{end}");
    }
    assert!(
        read(&text).is_ok() && read(&format!(" \n{text} ")).is_ok() && read(&format!("{text}x")).is_err()
    );
    let endless = "x".repeat(limits::IDENTITY_STRING_BYTES_MAX + 1);
    for text in [
        format!(r#"{{"{endless}"#),
        format!(r#"{{"x":"{endless}"#),
        format!(r#"{{"schema_version":4,"packages":{{"x":{{"note":"{endless}"#),
    ] {
        assert!(refused(&text).contains("strings"), "{:.40}", text);
    }
    for text in ["", " \n", "[]", "7", "<html>\n<p>not found", "\u{feff}{}", &endless, "a,b,pkg:pypi/x\n"] {
        assert!(read(text).is_err(), "{text:.40}");
    }
}
