//! Maps of what packages are elsewhere, told apart by what they hold:
//!
//! - conda names to PyPI names, in parselmouth's form: a name, a list of names, or null;
//! - conda names to purls and CPEs, in purl-associator's form: an object `packages` beside a `schema_version`;
//! - CPE products to purls, in purl2cpe's form: rows of vendor, product and purl, with tabs between them.
//!
//! Of the last no row names a conda package. Its packages stand under their match keys (`osv:PyPI/x`), which
//! [`airlock_core::identity::Joined`] follows.

mod document;
mod parts;
mod rows;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::str::FromStr;

use airlock_core::advisory::MatchKey;
use airlock_core::identity::{Identity, Mapping, Review, products};
use packageurl::PackageUrl;

use super::{BadAdvisory, FeedError};
use crate::limits;

/// What a map says.
#[derive(Debug, Default)]
pub struct Identities {
    /// By conda name, or by the match key of a package elsewhere.
    pub map: BTreeMap<String, Identity>,
    /// The first entries that make no sense.
    pub bad: Vec<BadAdvisory>,
    /// How many do not.
    pub bad_count: u64,
}

impl Identities {
    /// Counts something that makes no sense, and names it while there are few.
    fn leave_out(&mut self, id: &str, reason: impl Into<String>) {
        const ID_CHARS: usize = 80;
        self.bad_count += 1;
        if self.bad.len() < limits::BAD_LISTED_MAX {
            let id = id.chars().take(ID_CHARS).collect();
            self.bad.push(BadAdvisory { id, reason: reason.into() });
        }
    }

    /// Adds what is said of a package, no more than `most` in all. A name that stands there twice, or in two spellings,
    /// maps to all that is said of it.
    fn join(&mut self, name: String, identity: Identity, most: usize) -> Result<(), String> {
        let held = self.map.entry(name).or_default();
        held.join(identity);
        if held.mappings.len() > most {
            held.mappings.truncate(most);
            return Err(format!("it maps to more than {most} names"));
        }
        Ok(())
    }
}

/// Reads a map. `provenance` is what evidence will name as the source.
///
/// # Errors
///
/// If it is none of these maps, ends too early, has more names than a map may, or nothing of it makes sense.
pub fn read(reader: impl Read, provenance: &str) -> Result<Identities, FeedError> {
    let mut reader = BufReader::new(reader);
    let read = match first_sign(&mut reader)? {
        None => return Err(FeedError::Content("it is empty".to_owned())),
        Some(b'{') => document::read(reader, provenance)?,
        Some(_) => rows::read(&mut reader, provenance)?,
    };
    if read.map.is_empty() && read.bad_count > 0 {
        let first = read.bad.first().map(|bad| format!(": {}: {}", bad.id, bad.reason)).unwrap_or_default();
        return Err(FeedError::Content(format!("nothing of this map of names makes sense{first}")));
    }
    Ok(read)
}

/// The first byte that is no blank; those before it are skipped.
fn first_sign(reader: &mut impl BufRead) -> Result<Option<u8>, FeedError> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
        if let Some(sign) = buffer.get(blank) {
            let sign = *sign;
            reader.consume(blank);
            return Ok(Some(sign));
        }
        reader.consume(blank);
    }
}

/// What a purl names.
struct Purl {
    kind: String,
    /// Of types that some registry has whose advisories are known.
    key: Option<MatchKey>,
    name: String,
}

/// Reads a purl; none if it is none. Of types that nothing here asks for only the type is looked at, since maps
/// have many that are spelt badly.
fn purl(text: &str) -> Option<Purl> {
    let (kind, name) = text.strip_prefix("pkg:")?.split_once('/')?;
    let kind = kind.to_ascii_lowercase();
    if text.len() > 2 * limits::IDENTITY_NAME_BYTES_MAX || kind.is_empty() || name.is_empty() {
        return None;
    }
    if !matches!(kind.as_str(), "pypi" | "cran" | "bioconductor") {
        return Some(Purl { kind, key: None, name: name.to_owned() });
    }
    let purl = PackageUrl::from_str(text).ok().filter(|purl| purl.namespace().is_none())?;
    let name = purl.name().to_owned();
    let key = products::package(&kind, &name).filter(|_| name.len() <= limits::IDENTITY_NAME_BYTES_MAX)?;
    Some(Purl { kind, key: Some(key), name })
}

fn mapping(key: MatchKey, provenance: &str) -> Mapping {
    let order = key.order();
    Mapping { key, order, provenance: provenance.to_owned(), review: Review::Automatic }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_name_packages_of_registries() {
        let key = |text: &str| purl(text).map(|p| p.key.map(|key| key.as_str().to_owned()));
        let known = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(key("pkg:pypi/Ruamel.Yaml@1?x=y"), known("osv:PyPI/ruamel-yaml"));
        assert_eq!(key("pkg:cran/Haven"), known("osv:CRAN/haven"));
        assert_eq!(key("pkg:bioconductor/Limma"), known("osv:Bioconductor/limma"));
        assert_eq!(key("pkg:github/python/cpython"), Some(None));
        let long = format!("pkg:pypi/{}", "x".repeat(limits::IDENTITY_NAME_BYTES_MAX + 1));
        for bad in [
            "",
            "pkg:",
            "pkg:pypi",
            "pkg:pypi/",
            "pkg:/x",
            "pypi/x",
            "pkg:pypi/a/b",
            "pkg:pypi/%2e%2e",
            &long,
        ] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }
}
