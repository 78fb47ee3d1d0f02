//! Feeds of statements on findings: one document to a file.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use airlock_core::object;
use airlock_core::trie;
use airlock_formats::feeds::vex::{self, Faults, Stated};
use airlock_formats::feeds::{self as formats, FeedError};
use airlock_formats::limits;

use super::read::{Content, FeedResult, Job};
use crate::error::Result;

/// What all documents state.
pub(super) struct Documents {
    stated: Stated,
    faults: Faults,
}

/// Reads documents one after the other. One that makes no sense never stops the rest.
pub(super) fn read(files: Vec<PathBuf>) -> FeedResult<Documents> {
    let (mut stated, mut faults) = (Stated::default(), Faults::default());
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
            Ok(_) => vex::read(&document, &place, &mut stated, &mut faults),
        }
    }
    if stated.is_empty() {
        let first = faults.listed.first().map(|bad| format!(": {}: {}", bad.id, bad.reason));
        return Err(FeedError::Content(format!(
            "it states nothing of a package{}",
            first.unwrap_or_default()
        )));
    }
    Ok(Documents { stated, faults })
}

impl Documents {
    /// Sends what was read to be written.
    pub(super) fn content(self, job: &Job<'_>) -> Result<Content> {
        let count = self.stated.len();
        let (mut encoded, mut tree) = (Vec::new(), std::collections::BTreeMap::new());
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
