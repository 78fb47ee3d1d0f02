//! CycloneDX (1.4 to 1.7) with vulnerabilities that were analysed.

use std::collections::BTreeMap;

use serde::Deserialize;

use airlock_core::assess::{Justification, Versions};
use airlock_core::matching::Status;
use airlock_core::time::Time;
use airlock_core::version::{Inside, Order};

use super::product::{Product, vers};
use super::{Claim, Claims, Said};
use crate::feeds::null_as_default;

#[derive(Deserialize)]
struct Bom {
    #[serde(rename = "serialNumber")]
    serial: Option<String>,
    metadata: Option<Metadata>,
    #[serde(default, deserialize_with = "null_as_default")]
    components: Vec<Component>,
    #[serde(default, deserialize_with = "null_as_default")]
    vulnerabilities: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Metadata {
    timestamp: Option<String>,
    component: Option<Component>,
    supplier: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "bom-ref")]
    bom_ref: Option<String>,
    purl: Option<String>,
    cpe: Option<String>,
    version: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    hashes: Vec<Hash>,
    #[serde(default, deserialize_with = "null_as_default")]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Deserialize)]
struct Vulnerability {
    id: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    references: Vec<Reference>,
    analysis: Option<Analysis>,
    updated: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    affects: Vec<Affects>,
}

#[derive(Deserialize)]
struct Reference {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Analysis {
    state: Option<String>,
    justification: Option<String>,
    detail: Option<String>,
    #[serde(rename = "lastUpdated")]
    last_updated: Option<String>,
}

#[derive(Deserialize)]
struct Affects {
    #[serde(rename = "ref")]
    of: String,
    #[serde(default, deserialize_with = "null_as_default")]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
    range: Option<String>,
    status: Option<String>,
}

impl Component {
    fn product(&self) -> Option<Product> {
        let mut product = Product::named(self.purl.as_deref(), self.cpe.as_deref())?;
        if product.versions.is_none() {
            let version = self.version.as_ref().filter(|version| !version.is_empty());
            product.versions = version.cloned().map(Versions::One);
        }
        product.hashed(self.hashes.iter().map(|hash| (hash.alg.as_str(), hash.content.as_str())))
    }
}

/// What a document claims.
pub(super) fn read(document: &[u8]) -> Result<Claims, String> {
    let bom: Bom = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    let whole = bom.metadata.as_ref().and_then(|metadata| metadata.component.as_ref());
    let mut products: BTreeMap<String, Option<Product>> = BTreeMap::new();
    let mut waiting: Vec<&Component> = bom.components.iter().chain(whole).collect();
    while let Some(component) = waiting.pop() {
        waiting.extend(&component.components);
        // What is said of a component of something is said of that, and not of the component elsewhere.
        let product = match whole {
            // What is said of the whole itself may say of which of its versions.
            Some(whole) if std::ptr::eq(whole, component) => component.product(),
            // One build is described, so that it has a version; which those of a component are says nothing of it.
            Some(whole) => whole.product().filter(|product| product.versions.is_some()),
            None => component.product(),
        };
        products.extend(component.bom_ref.clone().map(|id| (id, product)));
    }
    let time = bom.metadata.as_ref().and_then(|metadata| metadata.timestamp.clone());
    let whole = whole.map(|whole| whole.bom_ref.clone());
    let document = Document { products, whole, serial: bom.serial };
    let author = bom.metadata.and_then(|metadata| metadata.supplier?.name);
    let claim = |raw: &serde_json::Value| {
        let raw = Vulnerability::deserialize(raw).map_err(|e| e.to_string())?;
        claim(raw, &document, author.as_ref(), time.as_ref())
    };
    // What nobody analysed is no statement.
    let analysed = bom.vulnerabilities.iter().filter(|v| v.get("analysis").is_some_and(|a| !a.is_null()));
    Ok(analysed.map(claim).collect())
}

/// What a document describes.
struct Document {
    /// By reference; none for what is no package here.
    products: BTreeMap<String, Option<Product>>,
    /// The reference of the whole, if it describes one.
    whole: Option<Option<String>>,
    serial: Option<String>,
}

fn claim(
    raw: Vulnerability,
    document: &Document,
    author: Option<&String>,
    time: Option<&String>,
) -> Result<Claim, String> {
    let analysis = raw.analysis.unwrap_or(Analysis {
        state: None,
        justification: None,
        detail: None,
        last_updated: None,
    });
    let time = [analysis.last_updated.as_ref(), raw.updated.as_ref(), time];
    let names = raw.id.into_iter().chain(raw.references.into_iter().filter_map(|reference| reference.id));
    Ok(Claim {
        names: names.collect(),
        products: raw.affects.iter().flat_map(|affects| of(affects, document)).collect(),
        foreign: None,
        said: said(analysis.state.as_deref(), analysis.justification.as_deref())?,
        note: analysis.detail.unwrap_or_default(),
        author: author.cloned(),
        time: time.into_iter().flatten().find_map(|text| text.parse::<Time>().ok()),
    })
}

/// The products that are affected, each with the versions that are.
fn of(affects: &Affects, document: &Document) -> Vec<Product> {
    let Some(reference) = local(&affects.of, document.serial.as_deref()) else { return Vec::new() };
    // A reference to something that stands in the document is to that, also where it looks like a purl.
    let product = match document.products.get(&reference) {
        Some(product) => product.clone(),
        None if document.whole.is_some() => None,
        None => Product::purl(&reference),
    };
    let Some(product) = product else { return Vec::new() };
    let is_whole = document.whole == Some(Some(reference));
    if is_whole && product.versions.is_none() && affects.versions.is_empty() {
        return Vec::new();
    }
    if affects.versions.is_empty() {
        return vec![product];
    }
    let order = product.key.order();
    let is_meant = |version: &&Version| version.status.as_deref() != Some("unaffected");
    let versions = |version: &Version| {
        let one = version.version.clone().map(Versions::One);
        one.or_else(|| vers(version.range.as_deref()?, order).map(Versions::Ranges))
    };
    let all = affects.versions.iter().filter(is_meant).filter_map(versions);
    // A component that is of one version is meant where that is among those that are affected.
    let meet = |affected: Versions| match (&product.versions, affected) {
        (None, affected) => Some(affected),
        (Some(own), affected) => is_in(own, &affected, order).then(|| own.clone()),
    };
    let mut out: Vec<Product> = all
        .filter_map(meet)
        .map(|versions| Product { versions: Some(versions), ..product.clone() })
        .collect();
    out.dedup();
    out
}

/// Whether a version is certainly among others.
fn is_in(own: &Versions, others: &Versions, order: Order) -> bool {
    match (own, others) {
        (Versions::One(own), Versions::One(other)) => {
            own == other || order.compare(own, other) == Some(std::cmp::Ordering::Equal)
        }
        (Versions::One(own), Versions::Ranges(ranges)) => {
            ranges.iter().any(|range| range.contains(order, own) == Inside::Yes)
        }
        (own, other) => own == other,
    }
}

/// The reference within this document that an `affects` means; none if it links to another document, of which nothing is
/// known here.
fn local(of: &str, serial: Option<&str>) -> Option<String> {
    let decoded = |id: &str| percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
    let Some(link) = of.strip_prefix("urn:cdx:") else { return Some(of.to_owned()) };
    let (document, id) = link.split_once('#')?;
    let (linked, _) = document.split_once('/').unwrap_or((document, ""));
    let own = serial.and_then(|serial| serial.rsplit(':').next());
    (own == Some(linked)).then(|| decoded(id))
}

fn said(state: Option<&str>, justification: Option<&str>) -> Result<Option<Said>, String> {
    let Some(state) = state else { return Ok(None) };
    let justification = justification.and_then(|text| match text {
        "code_not_present" => Some(Justification::VulnerableCodeNotPresent),
        "code_not_reachable" => Some(Justification::VulnerableCodeNotInExecutePath),
        "requires_configuration" | "requires_dependency" | "requires_environment" => {
            Some(Justification::VulnerableCodeCannotBeControlledByAdversary)
        }
        "protected_by_compiler"
        | "protected_at_runtime"
        | "protected_at_perimeter"
        | "protected_by_mitigating_control" => Some(Justification::InlineMitigationsAlreadyExist),
        _ => None,
    });
    let status = match state {
        "resolved" | "resolved_with_pedigree" => Status::Mitigated,
        "not_affected" if justification == Some(Justification::InlineMitigationsAlreadyExist) => {
            Status::Mitigated
        }
        "not_affected" | "false_positive" => Status::Cleared,
        "exploitable" => Status::Active,
        "in_triage" => Status::Reported,
        other => {
            return Err(format!(
                "`{}` is no state of an analysis",
                other.chars().take(60).collect::<String>()
            ));
        }
    };
    Ok(Some(Said { status, justification }))
}
