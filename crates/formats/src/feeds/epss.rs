//! EPSS: the daily CSV, whose first line is a comment with the model and the day.

use std::io::BufRead;

use airlock_core::advisory::Epss;

use super::{BadAdvisory, FeedError, bounded_line, is_cve};
use crate::limits;

/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Reads the file; lines that cannot be read are named.
pub fn read(reader: &mut impl BufRead) -> Result<(Epss, Vec<BadAdvisory>), FeedError> {
    let mut epss = Epss::default();
    let mut bad = Vec::new();
    let mut line = Vec::new();
    let mut number = 0u64;
    while let Some(fits) = bounded_line(reader, &mut line, LINE_BYTES_MAX)? {
        number += 1;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if let Some(comment) = text.strip_prefix('#') {
            for (key, value) in comment.split(',').filter_map(|p| p.split_once(':')) {
                match key {
                    "model_version" => epss.model = value.to_owned(),
                    "score_date" => epss.date = value.get(..10).and_then(|d| d.parse().ok()),
                    _ => {}
                }
            }
            continue;
        }
        if fits && (text.is_empty() || text.starts_with("cve,")) {
            continue;
        }
        let mut fields = text.split(',');
        let entry = match (fields.next(), fields.next().and_then(|s| s.parse::<f64>().ok())) {
            (Some(cve), Some(score)) if fits && is_cve(cve) && (0.0..=1.0).contains(&score) => {
                Some((cve, score))
            }
            _ => None,
        };
        match entry {
            Some((cve, score)) => {
                // Of two lines for one CVE the higher counts, whichever comes first.
                let held = epss.scores.entry(cve.to_owned()).or_insert(score);
                *held = held.max(score);
                if epss.scores.len() > limits::EPSS_SCORES_MAX {
                    return Err(FeedError::Content(format!(
                        "it has more than {} scores",
                        limits::EPSS_SCORES_MAX
                    )));
                }
            }
            None if bad.len() < limits::BAD_LISTED_MAX => {
                bad.push(BadAdvisory {
                    id: format!("line {number}"),
                    reason: "it is not `CVE,probability,percentile`".to_owned(),
                });
            }
            None => return Err(FeedError::Content("too many lines are not EPSS scores".to_owned())),
        }
    }
    if epss.scores.is_empty() {
        return Err(FeedError::Content("it holds no score".to_owned()));
    }
    Ok((epss, bad))
}
