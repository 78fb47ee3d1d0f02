//! SPDX 2.3 as JSON: packages, the texts behind names of licences that are in no list, and how all hangs together.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::json;

use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::licence::Spdx;

use super::{Component, Lines, Subject, words};

/// The element that stands for the channel.
const CHANNEL: &str = "SPDXRef-Channel";

/// The lists of a document, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Packages.
    Packages,
    /// The texts behind names of licences that are in no list.
    Licences,
    /// What contains what.
    Relationships,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Packages, Self::Licences, Self::Relationships];
}

/// Writes a document as a stream. The same components are handed in three times, once for each of its lists, so that none of them
/// is held.
#[derive(Debug)]
pub struct Writer<W> {
    lines: Lines<W>,
    list: List,
    origin: Option<String>,
    /// Names of texts that stand there already; no texts.
    named: BTreeSet<Digest>,
}

impl<W: Write> Writer<W> {
    /// Begins a document.
    pub fn begin(mut out: W, subject: &Subject<'_>) -> io::Result<Self> {
        let creation = json!({
            "created": subject.time,
            "creators": [
                format!("Tool: airlock-{}", env!("CARGO_PKG_VERSION")),
                format!("Organization: {}", subject.station),
            ],
        });
        let name = json!(format!("{} at {}", subject.channel, subject.snapshot.short()));
        let namespace = json!(format!("{}:spdx:{}", subject.namespace, subject.uuid()));
        write!(
            out,
            "{{\"spdxVersion\":\"SPDX-2.3\",\"dataLicense\":\"CC0-1.0\",\"SPDXID\":\"SPDXRef-DOCUMENT\",\n\"name\":{name},\"documentNamespace\":{namespace},\n\"creationInfo\":{creation},\n\"packages\":["
        )?;
        let mut lines = Lines { out, is_first: true };
        lines.put(&json!({
            "SPDXID": CHANNEL, "name": subject.channel, "versionInfo": subject.snapshot.short(),
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
            "supplier": format!("Organization: {}", subject.station),
            "comment": format!("The channel as it was published: snapshot {}", subject.snapshot),
        }))?;
        let origin = subject.origin.map(|origin| format!("read from {origin}"));
        Ok(Self { lines, list: List::Packages, origin, named: BTreeSet::new() })
    }

    fn go_to(&mut self, list: List) -> io::Result<()> {
        while self.list < list {
            let (next, between) = match self.list {
                List::Packages => (List::Licences, "\n],\"hasExtractedLicensingInfos\":["),
                List::Licences | List::Relationships => (List::Relationships, "\n],\"relationships\":["),
            };
            self.lines.next_list(between)?;
            self.list = next;
            if next == List::Relationships {
                self.relation("SPDXRef-DOCUMENT", "DESCRIBES", CHANNEL)?;
            }
        }
        Ok(())
    }

    /// Adds a component to a list, which is this one or a later one than the last time.
    pub fn add(&mut self, list: List, component: &Component) -> io::Result<()> {
        self.go_to(list)?;
        match list {
            List::Packages => self.package(component),
            List::Licences => self.licences(component),
            List::Relationships => self.relation(CHANNEL, "CONTAINS", &id(&component.listed.place)),
        }
    }

    fn relation(&mut self, from: &str, kind: &str, to: &str) -> io::Result<()> {
        self.lines.put(&json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to }))
    }

    fn package(&mut self, component: &Component) -> io::Result<()> {
        let listed = &component.listed;
        let declared = match &component.licence {
            None => "NOASSERTION".to_owned(),
            Some(Spdx::Expression { text, .. }) => text.clone(),
            Some(Spdx::Words(text)) => reference(text),
        };
        let mut out = json!({
            "SPDXID": id(&listed.place),
            "name": listed.name,
            "versionInfo": listed.version,
            "packageFileName": listed.place,
            "supplier": "NOASSERTION",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": listed.sha256 }],
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": declared,
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": listed.purl,
            }],
        });
        if let Some(origin) = &self.origin {
            out["sourceInfo"] = json!(origin);
        }
        if let Some(summary) = &component.summary {
            out["summary"] = json!(words(summary));
        }
        self.lines.put(&out)
    }

    fn licences(&mut self, component: &Component) -> io::Result<()> {
        match &component.licence {
            None => Ok(()),
            Some(Spdx::Words(text)) => {
                let name = words(text.lines().next().unwrap_or_default());
                self.text(&reference(text), &name, &words(text))
            }
            Some(Spdx::Expression { refs, .. }) => refs.iter().try_for_each(|name| {
                let text =
                    format!("The package names its licence {name}, and its index carries no text of that.");
                self.text(name, name, &text)
            }),
        }
    }

    fn text(&mut self, id: &str, name: &str, text: &str) -> io::Result<()> {
        if self.named.insert(Digest::of(id.as_bytes())) {
            let comment = "As the index or the package states it.";
            self.lines
                .put(&json!({ "licenseId": id, "name": name, "extractedText": text, "comment": comment }))?;
        }
        Ok(())
    }

    /// Ends the document.
    pub fn end(mut self) -> io::Result<W> {
        self.go_to(List::Relationships)?;
        self.lines.next_list("\n]}\n")?;
        Ok(self.lines.out)
    }
}

/// The element that stands for a file: its place in letters that SPDX allows.
fn id(place: &str) -> String {
    format!("SPDXRef-{}", hex::encode(&Digest::of(place.as_bytes()).as_bytes()[..16]))
}

/// The name of a licence that has only words.
fn reference(text: &str) -> String {
    format!("LicenseRef-airlock-{}", hex::encode(&Digest::of(text.as_bytes()).as_bytes()[..16]))
}
