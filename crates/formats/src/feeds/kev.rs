//! CISA's catalogue of known exploited vulnerabilities (JSON).

use std::io::{BufReader, Read};

use serde::Deserialize;

use airlock_core::advisory::Kev;
use airlock_core::time::{NotATime, Time};

use super::{BadAdvisory, FeedError, is_cve, list};
use crate::limits;
use crate::read::brief;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "cveID")]
    cve: String,
    date_added: String,
}

/// Reads the catalogue; entries that cannot be read are named. Of two entries for one CVE the earlier day counts.
pub fn read(reader: impl Read) -> Result<(Kev, Vec<BadAdvisory>), FeedError> {
    let mut kev = Kev::default();
    let mut bad = Vec::new();
    let mut number = 0;
    let mut reader = BufReader::new(reader);
    list::items(&mut reader, Some("vulnerabilities"), limits::KEV_ENTRY_BYTES_MAX, &mut |item| {
        number += 1;
        if number > limits::KEV_ENTRIES_MAX {
            return Err(FeedError::Content(format!("it has more than {} entries", limits::KEV_ENTRIES_MAX)));
        }
        match entry(item) {
            Ok((cve, added)) => {
                let held = kev.entries.entry(cve).or_insert(added);
                *held = added.min(*held);
            }
            Err(reason) if bad.len() < limits::BAD_LISTED_MAX => {
                bad.push(BadAdvisory { id: format!("entry {number}"), reason: brief(&reason) });
            }
            Err(_) => return Err(FeedError::Content("too many entries make no sense".to_owned())),
        }
        Ok(())
    })?;
    Ok((kev, bad))
}

fn entry(item: list::Item<'_>) -> Result<(String, Time), String> {
    let text = match item {
        list::Item::Text(text) => text,
        list::Item::TooLarge => {
            return Err(format!("it is larger than {} bytes", limits::KEV_ENTRY_BYTES_MAX));
        }
        list::Item::NotText => return Err("it is not UTF-8".to_owned()),
    };
    let entry: Entry = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if !is_cve(&entry.cve) {
        return Err("it has no CVE number".to_owned());
    }
    let added = entry.date_added.parse().map_err(|e: NotATime| e.to_string())?;
    Ok((entry.cve, added))
}
