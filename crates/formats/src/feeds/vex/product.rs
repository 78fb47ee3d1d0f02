//! Products as VEX documents name them: by purl or by CPE.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use packageurl::PackageUrl;

use airlock_core::advisory::MatchKey;
use airlock_core::assess::Versions;
use airlock_core::cpe::{Attribute, Cpe, Part};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::id::Digest;
use airlock_core::matching::CONDA;
use airlock_core::version::{Event, Order, Range};

/// A package, as far as a statement is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub key: MatchKey,
    pub versions: Option<Versions>,
    pub build: Option<String>,
    pub build_from: Option<u64>,
    pub file: Option<String>,
    pub subdir: Option<String>,
    pub sha256: BTreeSet<Digest>,
}

impl Product {
    /// All files of a package.
    pub(super) const fn of(key: MatchKey) -> Self {
        Self {
            key,
            versions: None,
            build: None,
            build_from: None,
            file: None,
            subdir: None,
            sha256: BTreeSet::new(),
        }
    }

    /// The package that a purl names; none if it is of no kind that is matched here.
    pub(super) fn purl(text: &str) -> Option<Self> {
        let purl = PackageUrl::from_str(text).ok()?;
        // What restricts it further and is not understood here must not count as no restriction. A channel is called as
        // whoever states it calls it; for which of ours it counts, people say.
        let known = ["build", "channel", "subdir", "type", "file_name", "checksum", "vers"];
        let understood = known.iter().filter(|key| purl.qualifiers().contains_key(**key)).count();
        let is_plain = purl.namespace().is_none() && purl.subpath().is_none();
        if !is_plain || understood != purl.qualifiers().len() {
            return None;
        }
        let plain = |ecosystem| ecosystem::canonical_name(ecosystem, purl.name());
        let key = match purl.ty() {
            "conda" => MatchKey::osv(CONDA, &plain(Ecosystem::Conda)?),
            "pypi" => MatchKey::osv("PyPI", &plain(Ecosystem::Pypi)?),
            "cran" => MatchKey::osv("CRAN", &ecosystem::canonical_r_name(purl.name())),
            _ => return None,
        };
        let qualifier = |name: &str| purl.qualifiers().get(name).map(|value| value.to_string());
        let one = purl.version().map(|version| Versions::One(version.to_owned()));
        let ranges = || qualifier("vers").map(|text| vers(&text, key.order()).map(Versions::Ranges));
        let versions = match (one, ranges()) {
            (Some(one), _) => Some(one),
            // A range that cannot be read must not count as all versions.
            (None, Some(ranges)) => Some(ranges?),
            (None, None) => None,
        };
        let sha256 = match qualifier("checksum") {
            Some(sums) => Some(checksum(&sums)?),
            None => None,
        };
        Some(Self {
            versions,
            build: qualifier("build"),
            file: qualifier("file_name"),
            subdir: qualifier("subdir"),
            sha256: sha256.into_iter().collect(),
            ..Self::of(key)
        })
    }

    /// The product that a CPE 2.3 formatted string names, in all versions or one. One that says more than that is none.
    pub(super) fn cpe(text: &str) -> Option<Self> {
        let cpe = Cpe::parse(text).ok()?;
        // Edition, language, software edition, target software and hardware, other.
        let rest = text.rsplitn(7, ':').take(6);
        if cpe.part != Part::Application || rest.into_iter().any(|attribute| !matches!(attribute, "*" | "-"))
        {
            return None;
        }
        let versions = match (&cpe.version, &cpe.update) {
            (Attribute::Any, Attribute::Any | Attribute::NotApplicable) => None,
            (Attribute::Value(version), Attribute::Any | Attribute::NotApplicable) => {
                Some(Versions::One(version.clone()))
            }
            (Attribute::Value(version), Attribute::Value(update)) => {
                Some(Versions::One(format!("{version}{update}")))
            }
            _ => return None,
        };
        let key = MatchKey::cpe(cpe.vendor.value()?, cpe.product.value()?);
        Some(Self { versions, ..Self::of(key) })
    }

    /// What purls and a CPE name together. Where there are purls they say what is meant, each of them; a CPE, which says less,
    /// counts only without any.
    pub(super) fn named<'a>(mut purls: impl Iterator<Item = &'a str>, cpe: Option<&str>) -> Option<Self> {
        match purls.next() {
            None => Self::cpe(cpe?),
            Some(first) => {
                let first = Self::purl(first)?;
                purls.all(|purl| Self::purl(purl).is_some()).then_some(first)
            }
        }
    }

    /// The same restricted to files with one of these hashes. Where there are some and none is a SHA-256, nobody here can
    /// tell which files are meant, and it is none.
    pub(super) fn hashed<'a>(mut self, hashes: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut has_any = false;
        for (algorithm, value) in hashes {
            has_any = true;
            self.sha256.extend(sha256(algorithm, value));
        }
        (!has_any || !self.sha256.is_empty()).then_some(self)
    }
}

/// The SHA-256 among the checksums of a purl.
fn checksum(sums: &str) -> Option<Digest> {
    sums.split(',').find_map(|sum| sum.strip_prefix("sha256:")?.parse().ok())
}

/// A hash by its name in any spelling, if it is a SHA-256.
fn sha256(algorithm: &str, value: &str) -> Option<Digest> {
    let is_it = algorithm.eq_ignore_ascii_case("sha-256") || algorithm.eq_ignore_ascii_case("sha256");
    is_it.then(|| value.to_ascii_lowercase().parse().ok()).flatten()
}

/// Ranges as VERS writes them (`vers:pypi/>=1.0|<2.0|4.1`), sorted as it wants them. One that says something else than which
/// versions are in it is none: what cannot be read is left out whole.
pub(super) fn vers(text: &str, order: Order) -> Option<Vec<Range>> {
    let (_, constraints) = text.strip_prefix("vers:")?.split_once('/')?;
    if constraints == "*" {
        return Some(vec![Range { events: vec![Event::Introduced("0".to_owned())] }]);
    }
    let mut ranges = Vec::new();
    let (mut open, mut last): (Option<Event>, Option<String>) = (None, None);
    let start = || Event::Introduced("0".to_owned());
    for constraint in constraints.split('|') {
        let end = constraint.find(|c: char| !"<>=!".contains(c))?;
        let (sign, version) = constraint.split_at(end);
        let version = percent_encoding::percent_decode_str(version).decode_utf8().ok()?.into_owned();
        if !version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let follows = |last: String| order.compare(&last, &version) == Some(std::cmp::Ordering::Less);
        if !last.replace(version.clone()).is_none_or(follows) {
            return None;
        }
        match sign {
            "" | "=" => {
                let events = vec![Event::Introduced(version.clone()), Event::LastAffected(version)];
                ranges.push(Range { events });
            }
            ">=" if open.is_none() => open = Some(Event::Introduced(version)),
            ">" if open.is_none() => open = Some(Event::After(version)),
            "<" => {
                ranges.push(Range { events: vec![open.take().unwrap_or_else(start), Event::Fixed(version)] })
            }
            "<=" => {
                ranges.push(Range {
                    events: vec![open.take().unwrap_or_else(start), Event::LastAffected(version)],
                });
            }
            _ => return None,
        }
    }
    ranges.extend(open.map(|event| Range { events: vec![event] }));
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_and_cpes_name_packages_of_this_world_and_no_other() {
        let product =
            Product::purl("pkg:conda/OpenSSL@3.0.8?build=h2_2&subdir=linux-64&channel=main").unwrap();
        assert_eq!(product.key.as_str(), "osv:conda/openssl");
        assert_eq!(product.versions, Some(Versions::One("3.0.8".into())));
        assert_eq!((product.build.as_deref(), product.subdir.as_deref()), (Some("h2_2"), Some("linux-64")));
        assert_eq!(Product::purl("pkg:pypi/Jinja2").unwrap().key.as_str(), "osv:PyPI/jinja2");
        assert_eq!(Product::purl("pkg:cran/Rcpp@1").unwrap().key.as_str(), "osv:CRAN/rcpp");
        assert_eq!(Product::purl("pkg:npm/left-pad@1"), None);
        assert_eq!(Product::purl("left-pad"), None);
        let product = Product::cpe("cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:*:*:*:*").unwrap();
        assert_eq!(product.key.as_str(), "cpe:openssl:openssl");
        assert_eq!(product.versions, Some(Versions::One("3.0.8".into())));
        assert_eq!(Product::cpe("cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*").unwrap().versions, None);
        // What is restricted in a way that is not understood is not taken for everything.
        for text in [
            "cpe:2.3:h:openssl:openssl:3.0.8:*:*:*:*:*:*:*",
            "cpe:2.3:a:openssl:openssl:*:lts:*:*:*:*:*:*",
            "cpe:2.3:a:openssl:openssl:3.0.8:*:fips:*:*:*:*:*",
            "cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:fips:*:*:*",
            "cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:*:node.js:*:*",
            "cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:*:*:x64:*",
        ] {
            assert_eq!(Product::cpe(text), None, "{text}");
        }
        for text in [
            "pkg:pypi/x@1?repository_url=https://other.example",
            "pkg:conda/x@1?arch=x86",
            "pkg:pypi/space/x@1",
            "pkg:pypi/x@1#sub/path",
            "pkg:pypi/x@1?checksum=sha1:0123456789012345678901234567890123456789",
        ] {
            assert_eq!(Product::purl(text), None, "{text}");
        }
        let of = |hashes: &[(&'static str, &'static str)]| {
            Product::purl("pkg:pypi/x").unwrap().hashed(hashes.iter().copied()).map(|p| p.sha256.len())
        };
        let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(of(&[]), Some(0));
        assert_eq!(of(&[("SHA-512", "x"), ("SHA-256", hash)]), Some(1));
        assert_eq!(of(&[("SHA-512", "x")]), None);
    }

    #[test]
    fn ranges_are_read_whole_or_not_at_all() {
        let shown = |text: &str| {
            let ranges = vers(text, Order::Pep440)?;
            Some(ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        assert_eq!(shown("vers:pypi/>=1.0|<2.0").as_deref(), Some(">=1.0, <2.0"));
        assert_eq!(shown("vers:pypi/<2.0|>=3|<=3.4").as_deref(), Some(">=0, <2.0; >=3, <=3.4"));
        assert_eq!(shown("vers:generic/>1.0").as_deref(), Some(">1.0"));
        assert_eq!(shown("vers:pypi/*").as_deref(), Some(">=0"));
        for bad in [
            "vers:pypi",
            ">=1",
            "vers:pypi/!=1",
            "vers:pypi/>=1|>=2",
            "vers:pypi/~1",
            "vers:pypi/>=",
            "vers:pypi/<2|>=1",
            "vers:pypi/>=1|<1",
            "vers:pypi/>=x y|<2",
        ] {
            let read = vers(bad, Order::Pep440);
            assert!(read.is_none(), "{bad}: {read:?}");
        }
        // A range that cannot be read is not all versions.
        assert_eq!(Product::purl("pkg:pypi/x?vers=vers:pypi/%21%3D1"), None);
    }
}
