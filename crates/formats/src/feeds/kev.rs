//! CISA's catalogue of known exploited vulnerabilities (JSON).

use std::io::Read;

use serde::Deserialize;

use airlock_core::advisory::Kev;

use super::{BadAdvisory, FeedError};

#[derive(Deserialize)]
struct Catalogue {
    vulnerabilities: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(rename = "cveID")]
    cve: String,
    date_added: String,
}

/// Reads the catalogue; entries that cannot be read are named.
pub fn read(reader: impl Read) -> Result<(Kev, Vec<BadAdvisory>), FeedError> {
    let catalogue: Catalogue = serde_json::from_reader(reader)?;
    let mut kev = Kev::default();
    let mut bad = Vec::new();
    for (i, value) in catalogue.vulnerabilities.into_iter().enumerate() {
        let item: Result<Item, _> = serde_json::from_value(value);
        let entry = item.map_err(|e| e.to_string()).and_then(|item| {
            let added = item.date_added.parse().map_err(|e: airlock_core::time::NotATime| e.to_string())?;
            Ok((item.cve, added))
        });
        match entry {
            Ok((cve, added)) => {
                kev.entries.insert(cve, added);
            }
            Err(reason) => bad.push(BadAdvisory { id: format!("entry {}", i + 1), reason }),
        }
    }
    Ok((kev, bad))
}
