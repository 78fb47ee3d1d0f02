//! What NVD's CPEs alone say of packages, held against curated databases: reach, precision, recall, the worst pairs.
//!
//! It is a test of `formats` that is ignored elsewhere, since nothing but its report is asked for; the floor that the
//! same figures must not fall under is a test like others.

use super::{Result, cargo};

/// Measures, where the data are there; the test says so where they are not.
pub fn run() -> Result<()> {
    let test = ["test", "--release", "--locked", "-p", "airlock-formats", "--test", "curated", "--"];
    cargo(&[&test[..], &["--ignored", "--exact", "--nocapture", "report"]].concat(), &[])
}
