//! Feeds of statements on findings: one document to a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use airlock_core::assess::{Statements, document_key};
use airlock_core::canon::Canonical;
use airlock_core::id::Id;
use airlock_core::object;
use airlock_core::trie;
use airlock_formats::feeds::vex::{self, Faults, Stated};
use airlock_formats::feeds::{self as formats, FeedError};
use airlock_formats::limits;
use airlock_store::Packed;

use super::read::{Content, FeedResult, Job};
use crate::error::Result;

/// What all documents state.
pub(super) struct Documents {
    stated: Stated,
    faults: Faults,
    /// Where each document stands, which went to be written.
    kept: BTreeMap<String, Id<Statements>>,
}

/// Reads documents one after the other. One that makes no sense never stops the rest.
pub(super) fn read(job: &Job<'_>, files: Vec<PathBuf>) -> FeedResult<Documents> {
    let (mut stated, mut faults, mut kept) = (Stated::default(), Faults::default(), BTreeMap::new());
    for path in files {
        let place = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut document = Vec::new();
        let most = limits::VEX_DOCUMENT_BYTES_MAX;
        let unpacked = formats::unpack(File::open(&path)?, most + 1)
            .map_err(FeedError::from)
            .and_then(|reader| Ok(reader.take(most + 1).read_to_end(&mut document)?));
        match unpacked {
            Err(e) => faults.add(&place, &e.to_string()),
            Ok(_) if document.len() as u64 > most => {
                faults.add(&place, &format!("the document is larger than {most} bytes"));
            }
            // What is kept of it travels with what was read from it.
            Ok(_) => match vex::document(&document) {
                Err(reason) => faults.add(&place, &reason),
                Ok(raw) => {
                    let before = stated.len();
                    vex::read(&document, &place, &mut stated, &mut faults);
                    if stated.len() > before {
                        let key = document_key(&raw);
                        kept.insert(key, keep(job, raw).map_err(|e| FeedError::Content(e.message))?);
                    }
                }
            },
        }
    }
    if stated.is_empty() {
        let first = faults.listed.first().map(|bad| format!(": {}: {}", bad.id, bad.reason));
        return Err(FeedError::Content(format!(
            "it states nothing of a package{}",
            first.unwrap_or_default()
        )));
    }
    Ok(Documents { stated, faults, kept })
}

fn keep(job: &Job<'_>, document: Canonical) -> Result<Id<Statements>> {
    let (id, encoded) = object::encode(&Statements { document: Some(document), list: Vec::new() })?;
    job.send(vec![Packed::of(&encoded)?]);
    Ok(id)
}

impl Documents {
    /// Sends what was read to be written.
    pub(super) fn content(self, job: &Job<'_>) -> Result<Content> {
        let count = self.stated.len();
        let (mut encoded, mut tree) = (Vec::new(), self.kept);
        for (key, statements) in self.stated.into_statements() {
            let (id, object) = object::encode(&statements)?;
            encoded.push(object);
            tree.insert(key, id);
        }
        let (root, nodes) = trie::build(&tree)?;
        encoded.extend(nodes);
        job.content(root.digest(), &encoded, count, self.faults.listed, self.faults.count)
    }
}
