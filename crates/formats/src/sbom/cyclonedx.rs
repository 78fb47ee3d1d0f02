//! CycloneDX 1.6 as JSON: components, and vulnerabilities with the states that they are in.

use std::io::{self, Write};

use serde_json::{Value, json};

use airlock_core::assess::{Assessed, Justification};
use airlock_core::licence::Spdx;
use airlock_core::matching::{Finding, Status};
use airlock_core::severity::Score;

use super::{Component, Lines, Subject, words};

/// A vulnerability of some files of one package, in one state.
#[derive(Clone, Copy, Debug)]
pub struct Vulnerability<'a> {
    /// The finding, in its state.
    pub finding: &'a Finding,
    /// What was ruled of it, if anything.
    pub assessed: Option<&'a Assessed>,
    /// Where the files stand.
    pub places: &'a [String],
}

/// Writes a document as a stream: components first, then vulnerabilities.
#[derive(Debug)]
pub struct Writer<W> {
    lines: Lines<W>,
    is_listing: bool,
}

const BETWEEN: &str = "\n],\"vulnerabilities\":[";

impl<W: Write> Writer<W> {
    /// Begins a document.
    pub fn begin(mut out: W, subject: &Subject<'_>) -> io::Result<Self> {
        // No component stands for the whole: what is said of a component would be said of that then, and not of the file.
        let mut properties = vec![
            property("airlock:channel", subject.channel),
            property("airlock:snapshot", &subject.snapshot.to_string()),
        ];
        properties.extend(subject.origin.map(|origin| property("airlock:source", origin)));
        let metadata = json!({
            "timestamp": subject.time,
            "tools": { "components": [
                { "type": "application", "name": "airlock", "version": env!("CARGO_PKG_VERSION") }
            ] },
            "manufacturer": { "name": subject.station },
            "properties": properties,
        });
        let serial = format!("urn:uuid:{}", subject.uuid());
        write!(
            out,
            "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"serialNumber\":\"{serial}\",\"version\":1,\n\"metadata\":{metadata},\n\"components\":["
        )?;
        Ok(Self { lines: Lines { out, is_first: true }, is_listing: true })
    }

    /// Adds a component. All of them come before the first vulnerability.
    pub fn component(&mut self, component: &Component) -> io::Result<()> {
        let listed = &component.listed;
        let mut out = json!({
            "type": "library",
            "bom-ref": listed.place,
            "name": listed.name,
            "version": listed.version,
            "purl": listed.purl,
            "hashes": [{ "alg": "SHA-256", "content": listed.sha256 }],
        });
        if let Some(licence) = &component.licence {
            out["licenses"] = match licence {
                Spdx::Expression { text, .. } => json!([{ "expression": text }]),
                Spdx::Words(text) => json!([{ "license": { "name": words(text) } }]),
            };
        }
        if let Some(summary) = &component.summary {
            out["description"] = json!(words(summary));
        }
        self.lines.put(&out)
    }

    /// Adds a vulnerability.
    pub fn vulnerability(&mut self, of: &Vulnerability<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.is_listing) {
            self.lines.next_list(BETWEEN)?;
        }
        self.lines.put(&vulnerability(of))
    }

    /// Ends the document.
    pub fn end(mut self) -> io::Result<W> {
        if self.is_listing {
            self.lines.next_list(BETWEEN)?;
        }
        self.lines.next_list("\n]}\n")?;
        Ok(self.lines.out)
    }
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn vulnerability(of: &Vulnerability<'_>) -> Value {
    let finding = of.finding;
    let others = finding.aliases.iter().filter(|alias| **alias != finding.advisory);
    let references: Vec<Value> =
        others.map(|alias| json!({ "id": alias, "source": { "name": assigner(alias) } })).collect();
    let mut ratings: Vec<Value> = Vec::new();
    for score in &finding.scores {
        let rating = rating(score);
        if !ratings.contains(&rating) {
            ratings.push(rating);
        }
    }
    let cwes: Vec<u32> = finding.cwes.iter().filter_map(|cwe| cwe_number(cwe)).collect();
    let mut properties = vec![property("airlock:status", finding.status.name())];
    let marks = [("kev", finding.kev), ("malicious", finding.malicious), ("undecided", finding.undecided)];
    let marks = marks.into_iter().filter(|(_, is)| *is);
    properties.extend(marks.map(|(name, _)| property(&format!("airlock:{name}"), "true")));
    let mut out = json!({
        "id": finding.advisory,
        "source": { "name": assigner(&finding.advisory) },
        "references": references,
        "ratings": ratings,
        "cwes": cwes,
        "description": words(&finding.summary),
        "analysis": analysis(finding, of.assessed),
        "affects": of.places.iter().map(|place| json!({ "ref": place })).collect::<Vec<_>>(),
        "properties": properties,
    });
    if let Some(published) = finding.published {
        out["published"] = json!(published);
    }
    if !finding.fixed.is_empty() {
        let fixed: Vec<&str> = finding.fixed.iter().map(String::as_str).collect();
        out["recommendation"] = json!(format!("fixed from {}", fixed.join(", ")));
    }
    out
}

/// Whose numbers such an id is one of.
fn assigner(id: &str) -> &str {
    match id.split_once('-') {
        Some(("CVE", _)) => "NVD",
        Some((prefix, _)) if !prefix.is_empty() => prefix,
        _ => "unknown",
    }
}

fn cwe_number(cwe: &str) -> Option<u32> {
    cwe.strip_prefix("CWE-")?.parse().ok().filter(|number| *number > 0)
}

fn rating(score: &Score) -> Value {
    let method = match score.vector.get(..8) {
        Some("CVSS:4.0") => "CVSSv4",
        Some("CVSS:3.1") => "CVSSv31",
        Some("CVSS:3.0") => "CVSSv3",
        _ => "CVSSv2",
    };
    json!({
        "source": { "name": score.source }, "score": score.score, "severity": score.score.band(),
        "method": method, "vector": score.vector,
    })
}

/// In which state a finding is, so that this program's own reader says the same of it. A doubt is not resolved for CycloneDX.
fn analysis(finding: &Finding, assessed: Option<&Assessed>) -> Value {
    let assessed = assessed.filter(|assessed| assessed.stands().is_some());
    let justification = assessed.and_then(|assessed| assessed.justification);
    let is_inline = justification == Some(Justification::InlineMitigationsAlreadyExist);
    let state = match finding.status {
        Status::Active => "exploitable",
        Status::Reported | Status::Disputed => "in_triage",
        Status::Mitigated if is_inline => "not_affected",
        Status::Mitigated => "resolved",
        Status::Cleared => "not_affected",
    };
    let mut out = json!({ "state": state });
    if let Some(named) = justification.filter(|_| state == "not_affected") {
        out["justification"] = json!(justified(named));
    }
    let detail = match assessed {
        Some(by) if by.reason.is_empty() => format!("{} by {}", finding.status.name(), by.by),
        Some(by) => format!("{} by {}: {}", finding.status.name(), by.by, words(&by.reason)),
        None => format!("{}: matched, and nobody ruled of it", finding.status.name()),
    };
    out["detail"] = json!(detail);
    out
}

/// The nearest of CycloneDX's words.
const fn justified(justification: Justification) -> &'static str {
    match justification {
        Justification::ComponentNotPresent | Justification::VulnerableCodeNotPresent => "code_not_present",
        Justification::VulnerableCodeNotInExecutePath => "code_not_reachable",
        Justification::VulnerableCodeCannotBeControlledByAdversary => "requires_environment",
        Justification::InlineMitigationsAlreadyExist => "protected_by_mitigating_control",
    }
}
