//! Statements on findings: OpenVEX 0.2, CSAF 2.0 and CycloneDX VEX, and fixes that came without a new version as OSV records
//! tell them. What a document is, it says itself.
//!
//! A statement is kept under the match key of the package that it names: by a purl of conda, PyPI or CRAN, or by a CPE.
//! One about a product that is no package here is counted among those that make no sense.

mod csaf;
mod cyclonedx;
mod openvex;
mod patch;
mod product;
pub mod security;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use airlock_core::advisory::MatchKey;
use airlock_core::assess::{Justification, Statement, Statements};
use airlock_core::canon::Canonical;
use airlock_core::matching::Status;
use airlock_core::time::Time;

use super::BadAdvisory;
use crate::limits;
use crate::read::{brief, canonical};
use product::Product;

/// Everything that some documents state, in an order that does not depend on theirs.
#[derive(Debug, Default)]
pub struct Stated {
    by_key: BTreeMap<MatchKey, BTreeSet<Statement>>,
    count: usize,
}

impl Stated {
    /// How many statements there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// By match key.
    pub fn into_statements(self) -> BTreeMap<String, Statements> {
        let listed =
            |said: BTreeSet<Statement>| Statements { document: None, list: said.into_iter().collect() };
        self.by_key.into_iter().map(|(key, said)| (key.as_str().to_owned(), listed(said))).collect()
    }

    /// Adds one about the package of this key.
    ///
    /// # Errors
    ///
    /// If there are more than may be.
    pub fn add(&mut self, key: MatchKey, statement: Statement) -> Result<(), String> {
        let said = self.by_key.entry(key).or_default();
        if said.len() >= limits::VEX_STATEMENTS_OF_ONE_MAX {
            return Err(format!(
                "there are more than {} statements about one package",
                limits::VEX_STATEMENTS_OF_ONE_MAX
            ));
        }
        if self.count >= limits::VEX_STATEMENTS_MAX {
            return Err(format!("there are more than {} statements", limits::VEX_STATEMENTS_MAX));
        }
        self.count += usize::from(said.insert(statement));
        Ok(())
    }
}

/// What in a document makes no sense.
#[derive(Debug, Default)]
pub struct Faults {
    /// The first of them.
    pub listed: Vec<BadAdvisory>,
    /// How many there are.
    pub count: u64,
}

impl Faults {
    /// Notes one.
    pub fn add(&mut self, id: &str, reason: &str) {
        self.count += 1;
        if self.listed.len() < limits::BAD_LISTED_MAX {
            let id = id.chars().take(120).collect();
            self.listed.push(BadAdvisory { id, reason: brief(reason) });
        }
    }
}

/// A document as it is kept beside what was read from it.
///
/// # Errors
///
/// If it is no canonical JSON: it nests too deep, or gives a key twice.
pub fn document(document: &[u8]) -> Result<Canonical, String> {
    canonical(std::str::from_utf8(document).map_err(|e| e.to_string())?)
}

/// Reads one document into `stated`. `place` says where it lies, should it make no sense. Gives how much of what it claims
/// was understood, whether others claim the same or not; none if it is no such document. What is said of products that are no
/// packages here is no fault of the document, and counted as one of the feed all the same.
pub fn read(document: &[u8], place: &str, stated: &mut Stated, faults: &mut Faults) -> Option<Understood> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "@context")]
        context: Option<IgnoredAny>,
        #[serde(rename = "bomFormat")]
        bom_format: Option<IgnoredAny>,
        document: Option<IgnoredAny>,
        affected: Option<IgnoredAny>,
    }
    let probe: Probe = match serde_json::from_slice(document) {
        Ok(probe) => probe,
        Err(e) => {
            faults.add(place, &format!("it is no JSON object: {e}"));
            return None;
        }
    };
    let read = match probe {
        Probe { context: Some(_), .. } => openvex::read(document),
        Probe { bom_format: Some(_), .. } => cyclonedx::read(document),
        Probe { document: Some(_), .. } => csaf::read(document),
        Probe { affected: Some(_), .. } => patch::read(document),
        _ => Err("it is neither OpenVEX, CSAF, CycloneDX nor an OSV record".to_owned()),
    };
    match read {
        Err(reason) => {
            faults.add(place, &reason);
            None
        }
        Ok(claims) => {
            let mut understood = Understood::default();
            for claim in claims {
                // A claim on what is no package here says nothing that anybody here has to understand.
                let is_foreign = claim.as_ref().is_ok_and(|claim| claim.products.is_empty());
                match claim.and_then(|claim| claim.state(stated)) {
                    Ok(()) => understood.claims += 1,
                    Err(reason) => {
                        understood.has_broken |= !is_foreign;
                        faults.add(place, &reason);
                    }
                }
            }
            Some(understood)
        }
    }
}

/// What was understood of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// Claims on packages.
    pub claims: usize,
    /// Whether one of its claims is broken.
    pub has_broken: bool,
}

/// What one document says of one vulnerability in some products.
#[derive(Debug, Default)]
struct Claim {
    names: Vec<String>,
    products: Vec<Product>,
    /// What is meant instead, if it is no package here.
    foreign: Option<String>,
    said: Option<Said>,
    note: String,
    author: Option<String>,
    time: Option<Time>,
}

/// The state that is claimed.
#[derive(Debug, Clone, Copy)]
struct Said {
    status: Status,
    justification: Option<Justification>,
}

type Claims = Vec<Result<Claim, String>>;

impl Claim {
    fn state(self, stated: &mut Stated) -> Result<(), String> {
        let Self { names, products, foreign, said, note, author, time } = self;
        let mut names = names.into_iter().filter(|name| {
            !name.is_empty()
                && name.len() <= limits::ADVISORY_ID_BYTES_MAX
                && !name.contains(char::is_whitespace)
        });
        let first = names.next();
        if products.is_empty() {
            let vulnerability = first.unwrap_or_default();
            let product = foreign.map(|id| format!(": `{id}`")).unwrap_or_default();
            return Err(format!(
                "a statement on {vulnerability} names no product that is a package here{product}"
            ));
        }
        let vulnerability = first.ok_or("a statement names no vulnerability")?;
        let aliases: BTreeSet<String> =
            names.take(limits::ADVISORY_IDS_MAX).filter(|name| *name != vulnerability).collect();
        let said =
            said.ok_or_else(|| format!("a statement on {vulnerability} says nothing of its status"))?;
        for product in products {
            let statement = Statement {
                aliases: aliases.clone(),
                author: author.clone(),
                build: product.build,
                build_from: product.build_from,
                file: product.file,
                justification: said.justification,
                note: shortened(&note),
                sha256: product.sha256,
                subdir: product.subdir,
                time,
                versions: product.versions,
                ..Statement::new(&vulnerability, said.status)
            };
            stated.add(product.key, statement)?;
        }
        Ok(())
    }
}

/// A text for people, which may be as long as its author likes.
fn shortened(text: &str) -> String {
    text.trim().chars().take(limits::VEX_NOTE_CHARS_MAX).collect()
}

/// The state that a status of OpenVEX means, and of CSAF in its spelling. `notes` tells apart what VEX has one word for,
/// where this program wrote it.
fn said(
    status: &str,
    justification: Option<&str>,
    has_reason: bool,
    notes: Option<&str>,
) -> Result<Said, String> {
    let justification = match justification {
        None => None,
        Some(text) => {
            let known = Justification::ALL.into_iter().find(|known| known.name() == text);
            Some(known.ok_or_else(|| {
                format!("`{}` is no justification", text.chars().take(60).collect::<String>())
            })?)
        }
    };
    let said = |status| Ok(Said { status, justification });
    let noted = |status: Status| notes.is_some_and(|notes| notes.split(':').next() == Some(status.name()));
    match status {
        "not_affected" if justification.is_none() && !has_reason => {
            Err("a product is said not to be affected without a justification or a reason".to_owned())
        }
        "not_affected"
            if justification == Some(Justification::InlineMitigationsAlreadyExist)
                && !noted(Status::Cleared) =>
        {
            said(Status::Mitigated)
        }
        "not_affected" => said(Status::Cleared),
        "fixed" => said(Status::Mitigated),
        "affected" => said(Status::Active),
        "under_investigation" if noted(Status::Disputed) => said(Status::Disputed),
        "under_investigation" => said(Status::Reported),
        other => Err(format!("`{}` is no status", other.chars().take(60).collect::<String>())),
    }
}

/// A note without the state that this program writes in front of it, where VEX has one word for two.
fn without_state(status: Status, note: &str) -> &str {
    note.strip_prefix(status.name()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(note)
}
