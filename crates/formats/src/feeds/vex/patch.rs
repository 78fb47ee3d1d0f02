//! Fixes that came without a new version, in the form of OSV records that Homebrew's database has: a range that ends in
//! `fixed: "3.0.8_2"` and `ecosystem_specific.fix: "patch"` say that build 2 of version 3.0.8 has the fix. Only records of
//! conda packages are read, since builds of others are other builds.

use serde::Deserialize;
use serde_json::Value;

use airlock_core::advisory::MatchKey;
use airlock_core::assess::Versions;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::matching::{CONDA, Status};
use airlock_core::version::Event;

use super::product::Product;
use super::{Claim, Claims, Said};
use crate::feeds::null_as_default;

#[derive(Deserialize)]
struct Record {
    id: String,
    modified: Option<String>,
    withdrawn: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    upstream: Vec<String>,
    summary: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    affected: Vec<Affected>,
}

#[derive(Deserialize)]
struct Affected {
    package: Option<Package>,
    #[serde(default, deserialize_with = "null_as_default")]
    ranges: Vec<RangeRaw>,
    ecosystem_specific: Option<Value>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct RangeRaw {
    #[serde(default, deserialize_with = "null_as_default")]
    events: Vec<Event>,
}

/// What a record claims.
pub(super) fn read(document: &[u8]) -> Result<Claims, String> {
    let record: Record = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    if record.withdrawn.is_some() {
        return Ok(Claims::new());
    }
    let is_patch = |affected: &&Affected| {
        let fix = affected.ecosystem_specific.as_ref().and_then(|specific| specific.get("fix"));
        fix.and_then(Value::as_str) == Some("patch")
            && affected.package.as_ref().is_some_and(|package| package.ecosystem == CONDA)
    };
    let products = record.affected.iter().filter(is_patch).flat_map(products).collect();
    // A CVE is what other records of the same vulnerability go by.
    let mut names: Vec<String> =
        std::iter::once(record.id).chain(record.upstream).chain(record.aliases).collect();
    names.sort_by_key(|name| !name.starts_with("CVE-"));
    Ok(vec![Ok(Claim {
        names,
        products,
        said: Some(Said { status: Status::Mitigated, justification: None }),
        note: record.summary.unwrap_or_else(|| "fixed by a patch of this build".to_owned()),
        author: None,
        foreign: None,
        time: record.modified.and_then(|text| text.parse().ok()),
    })])
}

fn products(affected: &Affected) -> Vec<Product> {
    let name = affected.package.as_ref().and_then(|p| ecosystem::canonical_name(Ecosystem::Conda, &p.name));
    let Some(name) = name else { return Vec::new() };
    let fixed = affected.ranges.iter().flat_map(|range| &range.events).filter_map(|event| match event {
        Event::Fixed(version) => version.rsplit_once('_'),
        _ => None,
    });
    let built = fixed.filter_map(|(version, build)| Some((version.to_owned(), build.parse().ok()?)));
    let product = |(version, build): (String, u64)| Product {
        versions: Some(Versions::One(version)),
        build_from: Some(build),
        ..Product::of(MatchKey::osv(CONDA, &name))
    };
    built.map(product).collect()
}
