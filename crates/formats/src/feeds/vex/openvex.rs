//! OpenVEX 0.2.0, and 0.0.1 as far as it says the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use airlock_core::time::Time;

use super::product::{Product, is_cpe, is_purl};
use super::{Claim, Claims, said, without_state};
use crate::feeds::null_as_default;

#[derive(Deserialize)]
struct Document {
    author: Option<String>,
    timestamp: Option<String>,
    last_updated: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    statements: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct StatementRaw {
    vulnerability: Vulnerability,
    #[serde(default, deserialize_with = "null_as_default")]
    products: Vec<ProductRaw>,
    status: String,
    status_notes: Option<String>,
    justification: Option<String>,
    impact_statement: Option<String>,
    action_statement: Option<String>,
    timestamp: Option<String>,
    last_updated: Option<String>,
    supplier: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    Name(String),
    Struct {
        name: String,
        #[serde(default, deserialize_with = "null_as_default")]
        aliases: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ProductRaw {
    Id(String),
    Component {
        #[serde(rename = "@id")]
        id: Option<String>,
        #[serde(default, deserialize_with = "null_as_default")]
        identifiers: BTreeMap<String, String>,
        #[serde(default, deserialize_with = "null_as_default")]
        hashes: BTreeMap<String, String>,
    },
}

/// What a document claims.
pub(super) fn read(document: &[u8]) -> Result<Claims, String> {
    let document: Document = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    let time = document.last_updated.as_ref().or(document.timestamp.as_ref());
    let claim = |raw: &serde_json::Value| {
        let raw = StatementRaw::deserialize(raw).map_err(|e| e.to_string())?;
        claim(raw, document.author.as_ref(), time)
    };
    Ok(document.statements.iter().map(claim).collect())
}

fn claim(raw: StatementRaw, author: Option<&String>, time: Option<&String>) -> Result<Claim, String> {
    let parse = |text: &String| text.parse::<Time>().ok();
    let time = raw.last_updated.as_ref().or(raw.timestamp.as_ref()).or(time);
    let has_reason = raw.impact_statement.as_ref().is_some_and(|text| !text.trim().is_empty());
    let (name, aliases) = match raw.vulnerability {
        Vulnerability::Name(name) => (name, Vec::new()),
        Vulnerability::Struct { name, aliases } => (name, aliases),
    };
    let said = said(&raw.status, raw.justification.as_deref(), has_reason, raw.status_notes.as_deref())?;
    let note = [raw.impact_statement, raw.action_statement].into_iter().flatten().find(|t| !t.is_empty());
    // Where nothing else has room for it, the reason stands in the notes.
    let note = note.or_else(|| Some(without_state(said.status, &raw.status_notes?).to_owned()));
    Ok(Claim {
        names: std::iter::once(name).chain(aliases).collect(),
        products: raw.products.iter().filter_map(product).collect(),
        foreign: None,
        said: Some(said),
        note: note.unwrap_or_default(),
        author: raw.supplier.as_ref().or(author).cloned(),
        time: time.and_then(parse),
    })
}

fn product(raw: &ProductRaw) -> Option<Product> {
    match raw {
        ProductRaw::Id(id) => named(id),
        ProductRaw::Component { id, identifiers, hashes } => {
            let id = id.as_deref().unwrap_or_default();
            let identified = |name: &str| identifiers.get(name).map(String::as_str);
            let purls = Some(id).filter(|id| is_purl(id)).into_iter().chain(identified("purl"));
            let cpes = Some(id).filter(|id| is_cpe(id)).into_iter();
            let cpes = cpes.chain(identified("cpe23")).chain(identified("cpe22"));
            let product = Product::named(purls, cpes)?;
            product.hashed(hashes.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        }
    }
}

fn named(id: &str) -> Option<Product> {
    Product::purl(id).or_else(|| Product::cpe(id))
}
