//! CSAF 2.0 (and 2.1) documents of the profile VEX, and advisories that state a product's status.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use airlock_core::assess::Versions;
use airlock_core::time::Time;

use super::product::{Product, vers};
use super::{Claim, Claims, said, without_state};
use crate::feeds::null_as_default;

#[derive(Deserialize)]
struct Csaf {
    document: Document,
    #[serde(default, deserialize_with = "null_as_default")]
    product_tree: ProductTree,
    #[serde(default, deserialize_with = "null_as_default")]
    vulnerabilities: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Document {
    publisher: Option<Publisher>,
    tracking: Option<Tracking>,
}

#[derive(Deserialize)]
struct Publisher {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Tracking {
    current_release_date: Option<String>,
}

#[derive(Default, Deserialize)]
struct ProductTree {
    #[serde(default, deserialize_with = "null_as_default")]
    branches: Vec<Branch>,
    #[serde(default, deserialize_with = "null_as_default")]
    full_product_names: Vec<FullName>,
    #[serde(default, deserialize_with = "null_as_default")]
    relationships: Vec<Relationship>,
    #[serde(default, deserialize_with = "null_as_default")]
    product_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Branch {
    category: Option<String>,
    name: Option<String>,
    product: Option<FullName>,
    #[serde(default, deserialize_with = "null_as_default")]
    branches: Vec<Branch>,
}

#[derive(Deserialize)]
struct FullName {
    product_id: String,
    product_identification_helper: Option<Helper>,
}

#[derive(Deserialize)]
struct Helper {
    purl: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    purls: Vec<String>,
    cpe: Option<String>,
    serial_numbers: Option<serde::de::IgnoredAny>,
    model_numbers: Option<serde::de::IgnoredAny>,
    skus: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "null_as_default")]
    hashes: Vec<Hashes>,
}

#[derive(Deserialize)]
struct Hashes {
    #[serde(default, deserialize_with = "null_as_default")]
    file_hashes: Vec<FileHash>,
}

#[derive(Deserialize)]
struct FileHash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct Relationship {
    relates_to_product_reference: String,
    full_product_name: FullName,
}

#[derive(Deserialize)]
struct Group {
    group_id: String,
    #[serde(default)]
    product_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Vulnerability {
    cve: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    ids: Vec<OtherId>,
    #[serde(default, deserialize_with = "null_as_default")]
    product_status: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "null_as_default")]
    flags: Vec<About>,
    #[serde(default, deserialize_with = "null_as_default")]
    threats: Vec<About>,
    #[serde(default, deserialize_with = "null_as_default")]
    remediations: Vec<About>,
}

#[derive(Deserialize)]
struct OtherId {
    text: String,
}

/// A flag, threat or remediation.
#[derive(Deserialize)]
struct About {
    label: Option<String>,
    category: Option<String>,
    details: Option<String>,
    date: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    product_ids: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    group_ids: Vec<String>,
}

/// What a document claims.
pub(super) fn read(document: &[u8]) -> Result<Claims, String> {
    let csaf: Csaf = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    let products = Products::of(&csaf.product_tree);
    let author = csaf.document.publisher.and_then(|publisher| publisher.name);
    let date = csaf.document.tracking.and_then(|tracking| tracking.current_release_date);
    let time = date.and_then(|text| text.parse::<Time>().ok());
    let mut claims = Claims::new();
    for raw in &csaf.vulnerabilities {
        match Vulnerability::deserialize(raw) {
            Err(e) => claims.push(Err(e.to_string())),
            Ok(vulnerability) => vulnerability.claims(&products, author.as_ref(), time, &mut claims),
        }
    }
    Ok(claims)
}

/// Products by their ids.
#[derive(Default)]
struct Products {
    by_id: BTreeMap<String, Vec<Product>>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Products {
    fn of(tree: &ProductTree) -> Self {
        let mut all = Self::default();
        tree.branches.iter().for_each(|branch| all.branch(branch, &mut Vec::new()));
        for name in &tree.full_product_names {
            all.by_id.extend(products(name, &[]).map(|products| (name.product_id.clone(), products)));
        }
        for relationship in &tree.relationships {
            // What is said of a component as a part of something is said of that, and not of the component elsewhere.
            let name = &relationship.full_product_name;
            let of = all.by_id.get(&relationship.relates_to_product_reference).cloned();
            // What it says of itself besides restricts it further.
            let of = match (of, &name.product_identification_helper) {
                (Some(of), Some(_)) => products(name, &[]).map(|own| {
                    let pairs = of.iter().flat_map(|of| own.iter().map(move |own| (of.clone(), own.clone())));
                    pairs.filter_map(|(of, own)| of.meet(own)).collect()
                }),
                (of, _) => of,
            };
            all.by_id.extend(of.map(|of| (name.product_id.clone(), of)));
        }
        let groups = tree.product_groups.iter();
        all.groups = groups.map(|g| (g.group_id.clone(), g.product_ids.iter().cloned().collect())).collect();
        all
    }

    /// Goes down a branch, with those above it.
    fn branch<'a>(&mut self, branch: &'a Branch, above: &mut Vec<&'a Branch>) {
        above.push(branch);
        if let Some(name) = &branch.product {
            self.by_id.extend(products(name, above).map(|products| (name.product_id.clone(), products)));
        }
        branch.branches.iter().for_each(|branch| self.branch(branch, above));
        above.pop();
    }
}

/// The packages that a product is, as far as all that restricts it is understood. Of several purls each names one.
fn products(name: &FullName, branches: &[&Branch]) -> Option<Vec<Product>> {
    let helper = name.product_identification_helper.as_ref()?;
    let is_narrower = [&helper.serial_numbers, &helper.model_numbers, &helper.skus];
    if is_narrower.into_iter().any(Option::is_some) {
        return None;
    }
    let named = |purl: Option<&String>| {
        let purls = helper.purl.iter().chain(purl).map(String::as_str);
        restricted(Product::named(purls, helper.cpe.as_deref())?, helper, branches)
    };
    match helper.purls.as_slice() {
        [] => Some(vec![named(None)?]),
        several => several.iter().map(|purl| named(Some(purl))).collect(),
    }
}

fn restricted(mut product: Product, helper: &Helper, branches: &[&Branch]) -> Option<Product> {
    for branch in branches {
        let text = branch.name.as_deref().unwrap_or_default();
        let versions = match branch.category.as_deref()? {
            "vendor" | "product_family" | "product_name" => continue,
            "product_version" => Versions::One(text.to_owned()),
            "product_version_range" => Versions::Ranges(vers(text, product.key.order())?),
            // A platform, a service pack, a language: which files that is, nobody here can tell.
            _ => return None,
        };
        product.versions.get_or_insert(versions);
    }
    let hashes = helper.hashes.iter().flat_map(|hashes| &hashes.file_hashes);
    product.hashed(hashes.map(|hash| (hash.algorithm.as_str(), hash.value.as_str())))
}

impl Vulnerability {
    fn claims(&self, products: &Products, author: Option<&String>, time: Option<Time>, into: &mut Claims) {
        let names: Vec<String> =
            self.cve.iter().cloned().chain(self.ids.iter().map(|id| id.text.clone())).collect();
        for (group, ids) in &self.product_status {
            let status = match group.as_str() {
                "known_not_affected" => "not_affected",
                "fixed" | "first_fixed" => "fixed",
                "known_affected" | "first_affected" | "last_affected" => "affected",
                "under_investigation" => "under_investigation",
                // `recommended` says nothing of a vulnerability.
                _ => continue,
            };
            for id in ids {
                let Some(of) = products.by_id.get(id).filter(|of| !of.is_empty()) else {
                    let (names, foreign) = (names.clone(), Some(id.chars().take(120).collect()));
                    into.push(Ok(Claim { names, foreign, ..Claim::default() }));
                    continue;
                };
                into.push(self.said(products, id, status).map(|(said, note, date)| Claim {
                    names: names.clone(),
                    products: of.clone(),
                    foreign: None,
                    said: Some(said),
                    note,
                    author: author.cloned(),
                    time: date.or(time),
                }));
            }
        }
    }

    /// What is said of one product, why, and when.
    fn said(
        &self,
        products: &Products,
        id: &str,
        status: &str,
    ) -> Result<(super::Said, String, Option<Time>), String> {
        let in_group = |group: &String| products.groups.get(group).is_some_and(|ids| ids.contains(id));
        let is_about = |about: &&About| {
            about.product_ids.iter().any(|of| of == id) || about.group_ids.iter().any(in_group)
        };
        let flag = self.flags.iter().find(is_about);
        let impact = self.threats.iter().filter(|t| t.category.as_deref() == Some("impact")).find(is_about);
        let remediation = self.remediations.iter().find(is_about);
        let told = [impact, remediation].into_iter().flatten().find_map(|about| about.details.clone());
        let label = flag.and_then(|flag| flag.label.as_deref());
        let said = said(status, label, impact.is_some(), told.as_deref())?;
        let date = [flag, impact, remediation].into_iter().flatten().find_map(|about| about.date.as_ref());
        let note = told.as_deref().map(|told| without_state(said.status, told)).unwrap_or_default();
        Ok((said, note.to_owned(), date.and_then(|text| text.parse().ok())))
    }
}
