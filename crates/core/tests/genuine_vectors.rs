//! Against genuine vectors where they lie beside the checkout: CVSS scores and PyPI version orders.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::cmp::Ordering;
use std::path::PathBuf;

use airlock_core::severity::score_of;
use airlock_core::version::Order;

fn shared(path: &str) -> Option<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vectors").join(path);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", file.display());
    }
    text
}

#[test]
fn cvss_vectors_score_as_their_calculators_say() {
    // Without the shared data at least one of each version.
    for (vector, score) in [
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", "7.5"),
        ("(AV:N/AC:L/Au:N/C:C/I:C/A:C)", "10.0"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "9.8"),
        ("CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:C/C:H/I:N/A:N", "7.1"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:H/VA:L/SC:N/SI:H/SA:L", "9.2"),
    ] {
        assert_eq!(score_of(vector).unwrap().to_string(), score, "{vector}");
    }
    let mut checked = 0;
    for file in [
        "cvss-simple2.txt",
        "cvss-simple31.txt",
        "cvss-simple4.txt",
        "cvss-supplemental4.txt",
        "cvss-security4.txt",
    ] {
        for line in shared(file).unwrap_or_default().lines().filter(|l| !l.trim().is_empty()) {
            let (vector, stated) = line.split_once(" - ").unwrap();
            let stated =
                stated.trim_start_matches('(').split([',', ')']).next().unwrap().trim_start_matches('-');
            assert_eq!(score_of(vector).unwrap().to_string(), stated, "{vector} in {file}");
            checked += 1;
        }
    }
    eprintln!("{checked} vectors of the shared data agree");
}

#[test]
fn pypi_versions_order_as_stated() {
    let order = Order::Pep440;
    let lines =
        shared("pypi-version-order.txt").unwrap_or_else(|| "1.0rc1 < 1.0\n1.0 = 1.0.0\n2 > 1.9\n".to_owned());
    let (mut checked, mut unreadable) = (0, 0);
    for line in lines.lines().filter(|l| !l.starts_with(['#', '/'])) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [a, sign, b] = words[..] else { continue };
        let stated = match sign {
            "<" => Ordering::Less,
            ">" => Ordering::Greater,
            _ => Ordering::Equal,
        };
        match order.compare(a, b) {
            Some(found) => assert_eq!(found, stated, "{line}"),
            None => unreadable += 1,
        }
        checked += 1;
    }
    eprintln!("{checked} pairs, {unreadable} of them not PEP 440");
    assert!(unreadable * 100 <= checked, "{unreadable} of {checked} cannot be read");
}

/// The vectors of the vers specification for the scheme `openssl`.
#[test]
fn openssl_versions_order_as_stated() {
    let own = r#"{"tests":[{"test_type":"comparison","input":{"versions":["1.0.1g","1.0.1f"]},"expected_output":["1.0.1f","1.0.1g"]},
        {"test_type":"equality","input":{"versions":["0.9.8","0.9.8a"]},"expected_output":false}]}"#;
    let text = shared("openssl-version-order.json").unwrap_or_else(|| own.to_owned());
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let tests = vectors["tests"].as_array().unwrap();
    for test in tests {
        let mut versions = texts(&test["input"]["versions"]);
        if test["test_type"] == "equality" {
            let equal = Order::Letters.compare(&versions[0], &versions[1]) == Some(Ordering::Equal);
            assert_eq!(test["expected_output"], equal, "{versions:?}");
        } else {
            Order::Letters.sort(&mut versions);
            assert_eq!(versions, texts(&test["expected_output"]));
        }
    }
    assert!(tests.len() >= 2);
    eprintln!("{} vectors agree", tests.len());
}

#[test]
fn what_is_no_vector_is_refused() {
    for bad in ["", "CVSS:3.1/AV:X", "CVSS:5.0/AV:N", "7.5", "AV:N", &"A".repeat(10_000)] {
        assert!(score_of(bad).is_err(), "{bad}");
    }
}
