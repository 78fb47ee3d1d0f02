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
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    nodes: Vec<Node<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node<'a> {
    #[serde(borrow, default)]
    operator: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_as_default")]
    negate: bool,
    #[serde(borrow, default, alias = "cpe_match", deserialize_with = "null_as_default")]
    cpe_match: Vec<Match<'a>>,
    /// Nodes of the retired 1.1 feeds nest; see [`nested`].
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    children: Vec<Node<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match<'a> {
    /// Where it is not said, it counts.
    #[serde(default = "yes")]
    vulnerable: bool,
    #[serde(borrow, alias = "cpe23Uri")]
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

const fn yes() -> bool {
    true
}

/// The configurations of the retired 1.1 feeds: each is a node, whose children, and theirs, are its parts.
pub(super) fn nested<'a>(nodes: Vec<Node<'a>>) -> Vec<Configuration<'a>> {
    fn leaves<'b>(mut node: Node<'b>, is_negated: bool, out: &mut Vec<Node<'b>>) {
        node.negate |= is_negated;
        let (children, negate) = (std::mem::take(&mut node.children), node.negate);
        if !node.cpe_match.is_empty() {
            out.push(node);
        }
        for child in children {
            leaves(child, negate, out);
        }
    }
    let configuration = |node: Node<'a>| {
        let operator = node.operator.clone().filter(|_| !node.children.is_empty());
        let mut nodes = Vec::new();
        leaves(node, false, &mut nodes);
        Configuration { operator, negate: false, nodes }
    };
    nodes.into_iter().map(configuration).collect()
}

/// What the affected versions of one product in one environment and one company are.
type Products = BTreeMap<(MatchKey, Option<String>, BTreeSet<String>), Versions>;

#[derive(Default)]
struct Versions {
    ranges: BTreeSet<Range>,
    versions: BTreeSet<String>,
    /// Some of its versions are named by a pattern, which says only that there are some.
    is_open: bool,
}

impl Versions {
    fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.versions.is_empty()
    }
}

/// What is affected. Of applications only: no package is an operating system or a device. What stands beside a
/// product in an `AND` (the system that it runs on, as a rule) is named and decides nothing. Of a product that is
/// named with no version at all, but with versions elsewhere in the record, those count. A name that nobody can read is
/// left out: what else the record says, its scores above all, counts.
///
/// # Errors
///
/// More products than a record may name.
pub(super) fn affected<'a, 'b: 'a>(
    configurations: impl IntoIterator<Item = &'a Configuration<'b>>,
) -> Result<Vec<Affected>, String> {
    let mut products = Products::new();
    // A configuration that is negated says what is not affected, and so does a node.
    for configuration in configurations.into_iter().filter(|c| !c.negate) {
        // Some of all names are enough to show some of the others' for each node.
        let mut names: Vec<(usize, String)> = Vec::new();
        if is_and(&configuration.operator) {
            for (at, node) in configuration.nodes.iter().enumerate() {
                if names.len() > 2 * CONTEXT_MAX {
                    break;
                }
                names.extend(node.products().into_iter().map(|name| (at, name)));
            }
        }
        let vulnerable = |node: &Node<'_>| !node.negate && node.cpe_match.iter().any(|m| m.vulnerable);
        for (at, node) in configuration.nodes.iter().enumerate().filter(|(_, node)| vulnerable(node)) {
            let others = names.iter().filter(|(other, _)| *other != at).map(|(_, name)| name.clone());
            let mut with: BTreeSet<String> = others.collect();
            if is_and(&node.operator) {
                with.extend(node.products());
            }
            node.add(&with, &mut products)?;
        }
    }
    if products.len() > limits::ADVISORY_AFFECTED_MAX {
        return Err(too_many());
    }
    let versioned: BTreeSet<(MatchKey, Option<String>)> = products
        .iter()
        .filter(|(_, versions)| !versions.is_empty())
        .map(|((key, target, _), _)| (key.clone(), target.clone()))
        .collect();
    let mut out = Vec::new();
    for ((key, target, with), found) in products {
        let is_silent = found.is_empty() && !versioned.contains(&(key.clone(), target.clone()));
        let blank = Affected { target, with, ..Affected::of(key) };
        // A list answers for itself only, and not for a range that cannot be read.
        if !found.ranges.is_empty() {
            out.push(Affected { ranges: found.ranges.into_iter().collect(), ..blank.clone() });
        }
        if !found.versions.is_empty() {
            out.push(Affected { versions: found.versions.into_iter().collect(), ..blank.clone() });
        }
        if found.is_open || is_silent {
            out.push(blank);
        }
    }
    Ok(out)
}

fn too_many() -> String {
    format!("it names more than {} products or versions of one", limits::ADVISORY_AFFECTED_MAX)
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
            let Ok(cpe) = Cpe::parse(&found.criteria) else { continue };
            // Where vendor or product is left open, there is nothing to look it up by.
            let (Some(vendor), Some(product)) = (cpe.vendor.value(), cpe.product.value()) else { continue };
            if !matches!(cpe.part, Part::Application | Part::Any) {
                continue;
            }
            let own = format!("{vendor}:{product}");
            let with = with.iter().filter(|name| **name != own).take(CONTEXT_MAX).cloned().collect();
            let target = cpe.target_sw.value().map(str::to_owned);
            // So that a hostile record is not gathered whole.
            if products.len() > limits::ADVISORY_AFFECTED_MAX {
                return Err(too_many());
            }
            let versions = products.entry((MatchKey::cpe(vendor, product), target, with)).or_default();
            if versions.ranges.len() + versions.versions.len() >= limits::ADVISORY_AFFECTED_MAX {
                return Err(too_many());
            }
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
            Attribute::Value(version) => {
                self.versions.insert(updated(version, cpe.update.value().unwrap_or_default()));
            }
            Attribute::Pattern(_) => self.is_open = true,
            // Which versions it means, it does not say.
            Attribute::NotApplicable => {}
        }
    }
}

/// `1.0.2` with the update `beta1` is 1.0.2beta1. Where the two would run into each other a dash keeps them apart: `1.0`
/// with the update `2` is not 1.02, and `1.0.2a` with `beta1` no `abeta`.
fn updated(version: &str, update: &str) -> String {
    let kind = |c: char| (c.is_ascii_digit(), c.is_alphabetic());
    let (last, first) = (version.chars().last().map(kind), update.chars().next().map(kind));
    let between = if last == first && last.is_some() { "-" } else { "" };
    format!("{version}{between}{update}")
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
    fn an_update_is_a_part_of_its_own_behind_the_version() {
        for (version, update, whole) in [
            ("1.0.2", "beta1", "1.0.2beta1"),
            ("1.0", "2", "1.0-2"),
            ("1.0.2a", "beta1", "1.0.2a-beta1"),
            ("1.0-", "2", "1.0-2"),
            ("1.0", "", "1.0"),
        ] {
            assert_eq!(updated(version, update), whole);
        }
        let node =
            node(&[(true, "a:x:lib:1.0:2:*:*:*:*:*:*", ""), (true, "a:x:lib:1.0.2a:rc1:*:*:*:*:*:*", "")]);
        let found = read(&format!(r#"[{{"nodes":[{node}]}}]"#)).unwrap();
        assert_eq!(found, [r#"cpe:x:lib * [] ["1.0-2", "1.0.2a-rc1"] []"#]);
        // Which says nothing of the release 1.2.
        let order = airlock_core::version::Order::Letters;
        assert_eq!(order.compare("1.0-2", "1.2"), Some(std::cmp::Ordering::Less));
        assert_eq!(order.compare("1.02", "1.2"), Some(std::cmp::Ordering::Equal));
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
    fn what_nobody_can_read_takes_nothing_else_away() {
        let some = node(&[
            (true, "a:short:1", ""),
            (true, "a:v:lib:2.1:*:*:*:*:*:*:*", ""),
            (true, "a:v:lib:1.0.*:*:*:*:*:*:*:*", ""),
            (true, "a:v:lib:*:*:*:*:*:*:*:*", r#","versionEndExcluding":"1.0 (build 3)""#),
        ]);
        // A list, a range that no order reads, and what a pattern leaves open: each by itself.
        assert_eq!(
            read(&format!(r#"[{{"nodes":[{some},{{"cpeMatch":null}}]}},{{"nodes":null}}]"#)).unwrap(),
            [
                r#"cpe:v:lib * [">=0, <1.0 (build 3)"] [] []"#,
                r#"cpe:v:lib * [] ["2.1"] []"#,
                r"cpe:v:lib * [] [] []",
            ]
        );
        // Of a node of many nothing is looked at twice.
        let many = vec!["{}"; 200_000].join(",");
        assert_eq!(read(&format!(r#"[{{"operator":"AND","nodes":[{many}]}}]"#)).unwrap(), [""; 0]);
        let many: Vec<String> =
            (0..=limits::ADVISORY_AFFECTED_MAX).map(|n| format!("a:v:p{n}:1:*:*:*:*:*:*:*")).collect();
        let many: Vec<(bool, &str, &str)> = many.iter().map(|name| (true, name.as_str(), "")).collect();
        assert!(read(&format!(r#"[{{"nodes":[{}]}}]"#, node(&many))).is_err());
    }
}
