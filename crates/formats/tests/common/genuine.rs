//! Genuine data, where it lies beside the checkout, and randomness that is the same in each run.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test file uses its part")]

use std::io::Read as _;
use std::path::Path;

/// The subdirs of the genuine repodata.
pub const SUBDIRS: [&str; 8] =
    ["linux-64", "linux-aarch64", "linux-ppc64le", "noarch", "osx-64", "osx-arm64", "win-64", "win-arm64"];

/// The unpacked bytes of a genuine file; none, with a line that says so, where it is missing.
pub fn unpacked(file: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    let Ok(packed) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    };
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// The genuine `repodata.json` of a subdir.
pub fn repodata(subdir: &str) -> Option<Vec<u8>> {
    unpacked(&format!("conda/repodata/{subdir}/repodata.json.gz"))
}

/// xorshift64*: enough to shuffle and to mutate, and no dependency.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() >> 8).unwrap() % end
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The same JSON value as text, with the members of every object in another order.
pub fn shuffled(value: &serde_json::Value, random: &mut Random) -> String {
    match value {
        serde_json::Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            random.shuffle(&mut members);
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, v)| format!("{}: {}", serde_json::to_string(key).unwrap(), shuffled(v, random)))
                .collect();
            format!("{{{}}}", members.join(" ,\n"))
        }
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|v| shuffled(v, random)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}
