//! What people of a station ruled, as OpenVEX 0.2.0 and as CSAF 2.0 of the profile VEX, so that scanners elsewhere agree.
//! Where VEX has one word for two of our states, the state stands in front of the reason; what is written here is read
//! by this program without loss.

use std::collections::{BTreeMap, BTreeSet};

use packageurl::PackageUrl;
use serde_json::{Map, Value, json};

use airlock_core::assess::Justification;
use airlock_core::id::Digest;
use airlock_core::matching::Status;
use airlock_core::time::Time;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is called, as a URI; the same for the same content.
    pub id: String,
    /// Who says so: the station's name.
    pub author: String,
    /// The author's URI.
    pub namespace: String,
    /// What it is about.
    pub title: String,
    /// When.
    pub time: Time,
    /// What is ruled.
    pub rulings: Vec<Ruled>,
}

/// What is ruled of one vulnerability in some products.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruled {
    /// The vulnerability.
    pub vulnerability: String,
    /// Its other names.
    pub aliases: BTreeSet<String>,
    /// The state.
    pub status: Status,
    /// Why it is cleared or mitigated.
    pub justification: Option<Justification>,
    /// Why, in somebody's words.
    pub reason: String,
    /// When it was ruled.
    pub time: Option<Time>,
    /// Where.
    pub products: Vec<Named>,
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The package URL.
    pub purl: String,
    /// What people call it.
    pub name: String,
    /// The hash, where it is about one file.
    pub sha256: Option<Digest>,
}

impl Named {
    /// A conda package (purl-spec, type `conda`).
    pub fn conda(name: &str, version: &str, file: &str, (channel, subdir): (&str, &str)) -> Self {
        let (stem, kind) = match file.strip_suffix(".conda") {
            Some(stem) => (stem, "conda"),
            None => (file.strip_suffix(".tar.bz2").unwrap_or(file), "tar.bz2"),
        };
        let build = stem.rsplit('-').next().unwrap_or_default();
        let qualifiers = [("build", build), ("channel", channel), ("subdir", subdir), ("type", kind)];
        Self { purl: purl("conda", name, version, &qualifiers), name: file.to_owned(), sha256: None }
    }

    /// One file of a release of PyPI.
    pub fn pypi_file(name: &str, version: &str, file: &str) -> Self {
        let purl = purl("pypi", name, version, &[("file_name", file)]);
        Self { purl, name: file.to_owned(), sha256: None }
    }

    /// All files of a release of PyPI, as scanners know it.
    pub fn pypi_release(name: &str, version: &str) -> Self {
        Self { purl: purl("pypi", name, version, &[]), name: format!("{name} {version}"), sha256: None }
    }
}

fn purl(kind: &str, name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let made = PackageUrl::new(kind, name).and_then(|mut purl| {
        purl.with_version(version)?;
        for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
            purl.add_qualifier(*key, *value)?;
        }
        Ok(purl.to_string())
    });
    // Whatever cannot be written as a purl is still told apart.
    made.unwrap_or_else(|_| format!("urn:airlock:package:{kind}:{name}:{version}"))
}

/// What VEX calls a state.
const fn vex_status(status: Status, justification: Option<Justification>) -> &'static str {
    match (status, justification) {
        (Status::Active, _) => "affected",
        (Status::Mitigated, None) => "fixed",
        (Status::Mitigated, Some(_)) | (Status::Cleared, _) => "not_affected",
        (Status::Disputed | Status::Reported, _) => "under_investigation",
    }
}

impl Ruled {
    fn status(&self) -> &'static str {
        vex_status(self.status, self.justification())
    }

    /// Only one justification says that something is mitigated; every other would read as cleared.
    fn justification(&self) -> Option<Justification> {
        let is_inline = self.justification == Some(Justification::InlineMitigationsAlreadyExist);
        self.justification
            .filter(|_| self.status == Status::Cleared || (self.status == Status::Mitigated && is_inline))
    }

    /// The reason, with the state in front where the word of VEX does not tell it.
    fn reason(&self) -> String {
        let is_inline = self.justification() == Some(Justification::InlineMitigationsAlreadyExist);
        let is_told = match self.status {
            Status::Disputed => false,
            Status::Cleared => !is_inline,
            _ => true,
        };
        if is_told { self.reason.clone() } else { format!("{}: {}", self.status.name(), self.reason) }
    }
}

/// As OpenVEX.
pub fn openvex(document: &Document) -> Value {
    let statement = |ruled: &Ruled| {
        let products = ruled.products.iter().map(|product| {
            let mut out = json!({ "@id": product.purl, "identifiers": { "purl": product.purl } });
            if let Some(hash) = product.sha256 {
                out["hashes"] = json!({ "sha-256": hash });
            }
            out
        });
        let mut out = json!({
            "vulnerability": { "name": ruled.vulnerability, "aliases": ruled.aliases },
            "products": products.collect::<Vec<_>>(),
            "status": ruled.status(),
        });
        if let Some(time) = ruled.time {
            out["timestamp"] = json!(time);
        }
        if let Some(justification) = ruled.justification() {
            out["justification"] = json!(justification);
        }
        let key = match ruled.status() {
            "not_affected" if ruled.reason() == ruled.reason => "impact_statement",
            "affected" => "action_statement",
            _ => "status_notes",
        };
        out[key] = json!(ruled.reason());
        out
    };
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": document.id,
        "author": document.author,
        "timestamp": document.time,
        "version": 1,
        "tooling": concat!("airlock ", env!("CARGO_PKG_VERSION")),
        "statements": document.rulings.iter().map(statement).collect::<Vec<_>>(),
    })
}

/// As CSAF 2.0. What CSAF wants of a vulnerability once is said once: rulings on one are put together.
pub fn csaf(document: &Document) -> Value {
    let mut products: BTreeMap<&str, &Named> = BTreeMap::new();
    let mut by_vulnerability: BTreeMap<&str, Vec<&Ruled>> = BTreeMap::new();
    for ruled in &document.rulings {
        products.extend(ruled.products.iter().map(|product| (product.purl.as_str(), product)));
        by_vulnerability.entry(&ruled.vulnerability).or_default().push(ruled);
    }
    let vulnerabilities: Vec<Value> =
        by_vulnerability.into_iter().map(|(name, ruled)| vulnerability(name, &ruled)).collect();
    json!({
        "document": {
            "category": "csaf_vex",
            "csaf_version": "2.0",
            "lang": "en",
            "publisher": { "category": "user", "name": document.author, "namespace": document.namespace },
            "title": document.title,
            "tracking": {
                "current_release_date": document.time,
                "id": document.id,
                "initial_release_date": document.time,
                "revision_history": [{ "date": document.time, "number": "1", "summary": "What is ruled now." }],
                "status": "final",
                "version": "1",
                "generator": { "engine": { "name": "airlock", "version": env!("CARGO_PKG_VERSION") } },
            },
        },
        "product_tree": { "full_product_names": products.into_values().map(full_name).collect::<Vec<_>>() },
        "vulnerabilities": vulnerabilities,
    })
}

fn full_name(product: &Named) -> Value {
    let mut helper = json!({ "purl": product.purl });
    if let Some(hash) = product.sha256 {
        let hashes = json!([{ "algorithm": "sha256", "value": hash }]);
        helper["hashes"] = json!([{ "file_hashes": hashes, "filename": product.name }]);
    }
    json!({ "name": product.name, "product_id": product.purl, "product_identification_helper": helper })
}

fn vulnerability(name: &str, all: &[&Ruled]) -> Value {
    let aliases: BTreeSet<&str> = all.iter().flat_map(|ruled| &ruled.aliases).map(String::as_str).collect();
    let cve = Some(name).filter(|name| is_csaf_cve(name));
    let others = [name].into_iter().filter(|_| cve.is_none()).chain(aliases);
    let ids: Vec<Value> = others.map(other_id).collect();
    let mut status: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let (mut flags, mut threats, mut remediations) = (Vec::new(), Vec::new(), Vec::new());
    for ruled in all {
        let ids: Vec<&str> = ruled.products.iter().map(|product| product.purl.as_str()).collect();
        let group = match ruled.status() {
            "not_affected" => "known_not_affected",
            "affected" => "known_affected",
            other => other,
        };
        status.entry(group).or_default().extend(&ids);
        let mut about = json!({ "product_ids": ids });
        if let Some(time) = ruled.time {
            about["date"] = json!(time);
        }
        if let Some(justification) = ruled.justification() {
            let mut flag = about.clone();
            flag["label"] = json!(justification);
            flags.push(flag);
        }
        about["details"] = json!(ruled.reason());
        if group == "known_affected" {
            about["category"] = json!("none_available");
            remediations.push(about);
        } else {
            about["category"] = json!("impact");
            threats.push(about);
        }
    }
    let mut out = json!({
        "notes": [{ "category": "description", "text": format!("{name}, as it was ruled here.") }],
        "product_status": status,
    });
    let parts = [("ids", ids), ("flags", flags), ("threats", threats), ("remediations", remediations)];
    if let Value::Object(members) = &mut out {
        members.extend(cve.map(|cve| ("cve".to_owned(), json!(cve))));
        let said = parts.into_iter().filter(|(_, list)| !list.is_empty());
        members.extend(said.map(|(key, list)| (key.to_owned(), Value::Array(list))).collect::<Map<_, _>>());
    }
    out
}

/// What the schema takes for a CVE: `^CVE-[0-9]{4}-[0-9]{4,}$`.
fn is_csaf_cve(id: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    id.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| year.len() == 4 && digits(year) && number.len() >= 4 && digits(number))
}

/// Another name, with the system that gave it.
fn other_id(id: &str) -> Value {
    let system = id.split_once('-').map_or("other", |(prefix, _)| prefix);
    json!({ "system_name": system, "text": id })
}
