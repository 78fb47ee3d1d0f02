//! The lines of `AIRLOCK.sig`. Each that is asked about is held against the manifest once, all of those at the same time: the
//! manifest may be long.

use std::path::Path;

use airlock_core::bundle::{SIGNATURES, SIGNATURES_BYTES_MAX, SignatureLine, fingerprint};
use airlock_core::root::{Signers, Tally};

use super::text::Text;
use super::verify::read_limited;
use crate::error::{Error, Result};
use crate::keys;

/// Different signatures by one key that are looked at, of which one is enough: each costs a pass over the whole manifest.
const LINES_OF_A_KEY_MAX: usize = 4;

/// The signatures of a bundle, and of those that were looked at whether they fit.
#[derive(Debug, Default)]
pub(super) struct Lines {
    list: Vec<SignatureLine>,
    fits: Vec<Option<bool>>,
}

impl Lines {
    /// Reads the signatures of a bundle.
    pub fn read(dir: &Path) -> Result<Self> {
        let bytes = read_limited(&dir.join(SIGNATURES), SIGNATURES_BYTES_MAX)?;
        let lines = std::str::from_utf8(&bytes).ok().and_then(SignatureLine::parse_all).ok_or_else(|| {
            Error::unsafe_(format!("{SIGNATURES} is not a list of Ed25519 signatures"))
                .hint("ask the sender for a new copy")
        })?;
        Ok(Self::from(distinct(lines)?))
    }

    /// Holds those of such keys against a text that were not held against it before.
    pub fn hold(&mut self, text: &Text, wanted: impl Fn(&[u8; 32]) -> bool) -> Result<()> {
        let is_asked =
            |(line, fits): (&SignatureLine, &Option<bool>)| fits.is_none() && wanted(&line.public_key);
        let asked: Vec<bool> = self.list.iter().zip(&self.fits).map(is_asked).collect();
        if !asked.contains(&true) {
            return Ok(());
        }
        let begin = |(line, is_asked): (&SignatureLine, &bool)| is_asked.then(|| keys::Holding::begin(line));
        let mut holding: Vec<Option<keys::Holding>> = self.list.iter().zip(&asked).map(begin).collect();
        text.each(|piece| {
            holding.iter_mut().flatten().for_each(|one| one.update(piece));
            Ok(())
        })?;
        for (fits, held) in self.fits.iter_mut().zip(holding) {
            *fits = held.map(keys::Holding::finish).or(*fits);
        }
        Ok(())
    }

    /// Those that fit.
    pub fn good(&self) -> impl Iterator<Item = &SignatureLine> {
        self.list.iter().zip(&self.fits).filter(|(_, fits)| **fits == Some(true)).map(|(line, _)| line)
    }

    /// Whether a line that fits is of this key, as far as they were held against the text.
    pub fn has_signed(&self, key: &[u8; 32]) -> bool {
        self.good().any(|line| line.public_key == *key)
    }

    /// Counts those that fit.
    pub fn tally(&self, signers: &Signers) -> Tally {
        let good: Vec<SignatureLine> = self.good().cloned().collect();
        signers.tally(&good, b"", &|_, _| true)
    }

    /// The keys of all of them.
    pub fn keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.list.iter().map(|line| &line.public_key)
    }

    /// All of them, with this one of a key instead of those that do not fit.
    pub fn with(mut self, line: SignatureLine) -> Vec<SignatureLine> {
        self.list.retain(|other| other.public_key != line.public_key);
        self.list.push(line);
        self.list
    }
}

impl From<Vec<SignatureLine>> for Lines {
    fn from(list: Vec<SignatureLine>) -> Self {
        Self { fits: vec![None; list.len()], list }
    }
}

/// Each line once, and of no key more than are looked at: lists of several copies may have been put together.
fn distinct(lines: Vec<SignatureLine>) -> Result<Vec<SignatureLine>> {
    let mut out: Vec<SignatureLine> = Vec::new();
    for line in lines {
        let of_its_key = out.iter().filter(|other| other.public_key == line.public_key);
        if of_its_key.clone().any(|other| *other == line) {
            continue;
        }
        if of_its_key.count() == LINES_OF_A_KEY_MAX {
            return Err(Error::unsafe_(format!(
                "{SIGNATURES} has more than {LINES_OF_A_KEY_MAX} different signatures of {}",
                fingerprint(&line.public_key)
            ))
            .hint("ask the sender for a new copy"));
        }
        out.push(line);
    }
    Ok(out)
}
