//! How much may be fetched only to be opened: artifacts that are held because of something that nobody but they can
//! tell. Until that releases them they lie in quarantine, here and offered to nobody.

use serde::{Deserialize, Serialize};

/// Files that one run opens, unless the configuration says otherwise.
const FILES: u64 = 1_000;
/// Their bytes.
const BYTES: u64 = 2 << 30;
/// What a file counts whose record does not say how large it is, and how large it may then be, in bytes.
const UNSIZED_BYTES: u64 = 64 << 20;

/// `[probing]` of `airlock.toml`: the budget of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probing {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Default for Probing {
    fn default() -> Self {
        Self { files: FILES, bytes: BYTES }
    }
}

impl Probing {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) const fn budget(self) -> Budget {
        Budget { files: self.files, bytes: self.bytes, taken: 0, refused: 0 }
    }
}

/// What is left of a budget.
pub(super) struct Budget {
    files: u64,
    bytes: u64,
    taken: u64,
    refused: u64,
}

impl Budget {
    /// How large a file of this size may be, if there is room for it.
    pub fn take(&mut self, size: Option<u64>) -> Option<u64> {
        let bytes = size.unwrap_or(UNSIZED_BYTES);
        if self.files == 0 || bytes > self.bytes {
            self.refused += 1;
            return None;
        }
        self.files -= 1;
        self.bytes -= bytes;
        self.taken += 1;
        Some(bytes)
    }

    pub const fn taken(&self) -> u64 {
        self.taken
    }

    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_with_its_files_or_its_bytes() {
        let mut budget = Probing { files: 2, bytes: UNSIZED_BYTES + 10 }.budget();
        assert_eq!(budget.take(Some(11 + UNSIZED_BYTES)), None);
        assert_eq!(budget.take(None), Some(UNSIZED_BYTES), "what has no size counts, and is held to it");
        assert_eq!(budget.take(Some(11)), None);
        assert_eq!(budget.take(Some(10)), Some(10));
        assert_eq!(budget.take(Some(0)), None);
        assert_eq!((budget.taken(), budget.refused()), (2, 3));
    }
}
