//! Feeds of statements on findings: one document to a file.
//!
//! A document that is broken is not its author's word. Where one, or a claim in it, cannot be read, what the last reading had of strict
//! statements stays; else an older, milder one would count in the place of what it said.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use airlock_core::advisory::MatchKey;
use airlock_core::assess::{Statements, document_key, is_milder};
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
    let mut is_whole = true;
    for path in files {
        let place = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut document = Vec::new();
        let most = limits::VEX_DOCUMENT_BYTES_MAX;
        let unpacked = formats::unpack(File::open(&path)?, most + 1)
            .map_err(FeedError::from)
            .and_then(|reader| Ok(reader.take(most + 1).read_to_end(&mut document)?));
        match unpacked {
            Err(e) => {
                is_whole = false;
                faults.add(&place, &e.to_string());
            }
            Ok(_) if document.len() as u64 > most => {
                is_whole = false;
                faults.add(&place, &format!("the document is larger than {most} bytes"));
            }
            Ok(_) => {
                let read = vex::read(&document, &place, &mut stated, &mut faults);
                is_whole &= read.is_some_and(|read| !read.has_broken);
                // What is kept of it travels with what was read from it; that counts whether it can be kept or not.
                match read.filter(|read| read.claims > 0).map(|_| vex::document(&document)) {
                    Some(Err(reason)) => {
                        faults.add(&place, &format!("it counts, and cannot be kept: {reason}"));
                    }
                    Some(Ok(raw)) => {
                        let key = document_key(&raw);
                        kept.insert(key, keep(job, raw).map_err(|e| FeedError::Content(e.message))?);
                    }
                    None => {}
                }
            }
        }
    }
    if !is_whole {
        keep_strict(job, &mut stated)?;
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

/// What the last reading had of statements that make nothing milder.
fn keep_strict(job: &Job<'_>, stated: &mut Stated) -> FeedResult<()> {
    let last = job.last_statements().map_err(|e| FeedError::Content(e.message))?;
    for (key, said) in last {
        let Some(key) = MatchKey::parse(&key) else { continue };
        for statement in said.list.into_iter().filter(|statement| !is_milder(statement.status)) {
            stated.add(key.clone(), statement).map_err(FeedError::Content)?;
        }
    }
    Ok(())
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
