//! Which products and versions a configuration of CPEs says are affected (NVD API 2.0 `configurations`, and
//! `cpeApplicability` of CVE records, which is the same).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use airlock_core::advisory::{Affected, MatchKey};
use airlock_core::cpe::{Attribute, Cpe, Part};
use airlock_core::version::{Event, Range};

use super::null_as_default;
use crate::limits;

/// Products of the other parts of a configuration that are named in evidence.
const CONTEXT_MAX: usize = 3;

/// One configuration: its nodes hold all (`AND`) or any (`OR`).
#[derive(Deserialize)]
pub(super) struct Configuration<'a> {
    #[serde(borrow, default)]
    operator: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_as_default")]
    negate: bool,
    #[serde(borrow, default)]
    nodes: Vec<Node<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    operator: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_as_default")]
    negate: bool,
    #[serde(borrow, default)]
    cpe_match: Vec<Match<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match<'a> {
    vulnerable: bool,
    #[serde(borrow)]
    criteria: Cow<'a, str>,
    #[serde(borrow)]
    version_start_including: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version_start_excluding: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version_end_including: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version_end_excluding: Option<Cow<'a, str>>,
}

/// What the affected versions of one product in one environment and one company are.
type Products = BTreeMap<(MatchKey, Option<String>, BTreeSet<String>), Versions>;

#[derive(Default)]
struct Versions {
    ranges: BTreeSet<Range>,
    versions: BTreeSet<String>,
}

/// What is affected. Of applications only: no package is an operating system or a device. What stands beside a
/// product in an `AND` (the system that it runs on, as a rule) is named and decides nothing. Of a product that is
/// named with no version at all, but with versions elsewhere in the record, those count.
///
/// # Errors
///
/// A name of a vulnerable product that is no CPE, or more products than a record may name.
pub(super) fn affected(configurations: &[Configuration<'_>]) -> Result<Vec<Affected>, String> {
    let mut products = Products::new();
    // A configuration that is negated says what is not affected, and so does a node.
    for configuration in configurations.iter().filter(|c| !c.negate) {
        let names: Vec<BTreeSet<String>> = configuration.nodes.iter().map(Node::products).collect();
        for (at, node) in configuration.nodes.iter().enumerate().filter(|(_, node)| !node.negate) {
            let mut with = BTreeSet::new();
            if is_and(&configuration.operator) {
                let others = names.iter().enumerate().filter(|(other, _)| *other != at);
                with.extend(others.flat_map(|(_, names)| names.iter().cloned()));
            }
            if is_and(&node.operator) {
                with.extend(names.get(at).into_iter().flatten().cloned());
            }
            node.add(&with, &mut products)?;
        }
    }
    if products.len() > limits::ADVISORY_AFFECTED_MAX {
        return Err(format!("it names more than {} products", limits::ADVISORY_AFFECTED_MAX));
    }
    let versioned: BTreeSet<MatchKey> = products
        .iter()
        .filter(|(_, v)| !v.ranges.is_empty() || !v.versions.is_empty())
        .map(|((key, ..), _)| key.clone())
        .collect();
    products
        .retain(|(key, ..), v| !v.ranges.is_empty() || !v.versions.is_empty() || !versioned.contains(key));
    let affected = |((key, target, with), versions): (_, Versions)| Affected {
        key,
        ranges: versions.ranges.into_iter().collect(),
        target,
        versions: versions.versions.into_iter().collect(),
        with,
    };
    Ok(products.into_iter().map(affected).collect())
}

fn is_and(operator: &Option<Cow<'_, str>>) -> bool {
    operator.as_deref().is_some_and(|o| o.eq_ignore_ascii_case("AND"))
}

impl Node<'_> {
    /// The products that it names, as evidence shows them.
    fn products(&self) -> BTreeSet<String> {
        let shown = |m: &Match<'_>| {
            let cpe = Cpe::parse(&m.criteria).ok()?;
            Some(format!("{}:{}", cpe.vendor.value()?, cpe.product.value()?))
        };
        let not = if self.negate { "not " } else { "" };
        self.cpe_match.iter().filter_map(shown).map(|name| format!("{not}{name}")).take(CONTEXT_MAX).collect()
    }

    fn add(&self, with: &BTreeSet<String>, products: &mut Products) -> Result<(), String> {
        for found in self.cpe_match.iter().filter(|m| m.vulnerable) {
            let cpe = Cpe::parse(&found.criteria)?;
            // Where vendor or product is left open, there is nothing to look it up by.
            let (Some(vendor), Some(product)) = (cpe.vendor.value(), cpe.product.value()) else { continue };
            if !matches!(cpe.part, Part::Application | Part::Any) {
                continue;
            }
            let own = format!("{vendor}:{product}");
            let with = with.iter().filter(|name| **name != own).take(CONTEXT_MAX).cloned().collect();
            let target = cpe.target_sw.value().map(str::to_owned);
            let versions = products.entry((MatchKey::cpe(vendor, product), target, with)).or_default();
            match found.range() {
                Some(range) => {
                    versions.ranges.insert(range);
                }
                None => versions.add(&cpe),
            }
        }
        Ok(())
    }
}

impl Versions {
    /// What a name without bounds says.
    fn add(&mut self, cpe: &Cpe) {
        match &cpe.version {
            Attribute::Any => {
                self.ranges.insert(Range { events: vec![Event::Introduced("0".to_owned())] });
            }
            // `1.0.2` with the update `beta1` is 1.0.2beta1.
            Attribute::Value(version) => {
                self.versions.insert(format!("{version}{}", cpe.update.value().unwrap_or_default()));
            }
            // Which versions it means, it does not say.
            Attribute::NotApplicable | Attribute::Pattern(_) => {}
        }
    }
}

impl Match<'_> {
    /// The range that its bounds make; none if it has none.
    fn range(&self) -> Option<Range> {
        let event = |bound: &Option<Cow<'_, str>>, make: fn(String) -> Event| {
            bound.as_deref().map(|version| make(version.to_owned()))
        };
        let start = event(&self.version_start_including, Event::Introduced)
            .or_else(|| event(&self.version_start_excluding, Event::After));
        let end = event(&self.version_end_excluding, Event::Fixed)
            .or_else(|| event(&self.version_end_including, Event::LastAffected));
        if start.is_none() && end.is_none() {
            return None;
        }
        let start = start.unwrap_or_else(|| Event::Introduced("0".to_owned()));
        Some(Range { events: std::iter::once(start).chain(end).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<String>, String> {
        let configurations: Vec<Configuration<'_>> = serde_json::from_str(json).unwrap();
        let shown = |a: &Affected| {
            let ranges: Vec<String> = a.ranges.iter().map(Range::to_string).collect();
            let with: Vec<&str> = a.with.iter().map(String::as_str).collect();
            let target = a.target.as_deref().unwrap_or("*");
            format!("{} {target} {:?} {:?} {with:?}", a.key.as_str(), ranges, a.versions)
        };
        Ok(affected(&configurations)?.iter().map(shown).collect())
    }

    fn node(matches: &[(bool, &str, &str)]) -> String {
        let one = |(vulnerable, name, bounds): &(bool, &str, &str)| {
            format!(r#"{{"vulnerable":{vulnerable},"criteria":"cpe:2.3:{name}"{bounds}}}"#)
        };
        let matches: Vec<String> = matches.iter().map(one).collect();
        format!(r#"{{"operator":"OR","negate":false,"cpeMatch":[{}]}}"#, matches.join(","))
    }

    #[test]
    fn bounds_are_ranges_and_names_with_versions_a_list() {
        let node = node(&[
            (true, "a:zlib:zlib:*:*:*:*:*:*:*:*", r#","versionEndExcluding":"1.2.12""#),
            (
                true,
                "a:zlib:zlib:*:*:*:*:*:*:*:*",
                r#","versionStartExcluding":"1.3","versionEndIncluding":"1.4""#,
            ),
            (true, "a:openssl:openssl:1.0.2:beta1:*:*:*:*:*:*", ""),
            (true, "a:openssl:openssl:1.0.2:-:*:*:*:*:*:*", ""),
            (true, "o:linux:linux_kernel:*:*:*:*:*:*:*:*", ""),
            (true, "a:x:every:*:*:*:*:*:wordpress:*:*", ""),
            (true, "a:x:unsaid:-:*:*:*:*:*:*:*", ""),
            (true, "a:zlib:zlib:-:*:*:*:*:*:*:*", ""),
            (false, "a:x:harmless:1:*:*:*:*:*:*:*", ""),
            (true, "a:*:any:1:*:*:*:*:*:*:*", ""),
        ]);
        assert_eq!(
            read(&format!(r#"[{{"nodes":[{node}]}}]"#)).unwrap(),
            [
                r#"cpe:openssl:openssl * [] ["1.0.2", "1.0.2beta1"] []"#,
                r#"cpe:x:every wordpress [">=0"] [] []"#,
                r"cpe:x:unsaid * [] [] []",
                r#"cpe:zlib:zlib * [">=0, <1.2.12", ">1.3, <=1.4"] [] []"#,
            ]
        );
    }

    #[test]
    fn what_runs_on_something_names_it_and_what_is_negated_is_not_affected() {
        let (one, two) = (
            node(&[(true, "a:v:app:1:*:*:*:*:*:*:*", "")]),
            node(&[(false, "o:ms:windows:-:*:*:*:*:*:*:*", "")]),
        );
        let found = read(&format!(r#"[{{"operator":"AND","nodes":[{one},{two}]}}]"#)).unwrap();
        assert_eq!(found, [r#"cpe:v:app * [] ["1"] ["ms:windows"]"#]);
        let not = one.replace(r#""negate":false"#, r#""negate":true"#);
        assert_eq!(
            read(&format!(r#"[{{"operator":"OR","nodes":[{not}]}},{{"negate":true,"nodes":[{one}]}}]"#))
                .unwrap(),
            [""; 0]
        );
        let both = node(&[(true, "a:v:app:1:*:*:*:*:*:*:*", ""), (true, "a:v:lib:2:*:*:*:*:*:*:*", "")]);
        let both = both.replace("OR", "AND");
        assert_eq!(
            read(&format!(r#"[{{"nodes":[{both}]}}]"#)).unwrap(),
            [r#"cpe:v:app * [] ["1"] ["v:lib"]"#, r#"cpe:v:lib * [] ["2"] ["v:app"]"#]
        );
    }

    #[test]
    fn a_vulnerable_product_that_nobody_can_read_is_an_error() {
        assert!(read(&format!(r#"[{{"nodes":[{}]}}]"#, node(&[(true, "a:short:1", "")]))).is_err());
        assert!(read(&format!(r#"[{{"nodes":[{}]}}]"#, node(&[(false, "a:short:1", "")]))).is_ok());
        let many: Vec<String> =
            (0..=limits::ADVISORY_AFFECTED_MAX).map(|n| format!("a:v:p{n}:1:*:*:*:*:*:*:*")).collect();
        let many: Vec<(bool, &str, &str)> = many.iter().map(|name| (true, name.as_str(), "")).collect();
        assert!(read(&format!(r#"[{{"nodes":[{}]}}]"#, node(&many))).is_err());
    }
}
