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

    /// The product that a CPE 2.3 formatted string names, or a CPE 2.2 URI, in all versions or one. One that says more than that is none.
    pub(super) fn cpe(text: &str) -> Option<Self> {
        if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("cpe:/")) {
            return Self::cpe(&formatted(text)?);
        }
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

    /// What all these names mean, each of which is one of the same product: what only some of them restrict is restricted.
    /// Where one is not understood, or two contradict each other, it is none. Purls say which package it is; CPEs do where
    /// there is no purl.
    pub(super) fn named<'a>(
        purls: impl IntoIterator<Item = &'a str>,
        cpes: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let purl = Self::all(purls.into_iter().map(Self::purl))?;
        let cpe = Self::all(cpes.into_iter().map(Self::cpe))?;
        match (purl, cpe) {
            (Some(purl), Some(cpe)) => {
                let order = purl.key.order();
                Some(Self { versions: meet_versions(purl.versions, cpe.versions, order)?, ..purl })
            }
            (one, other) => one.or(other),
        }
    }

    /// What these mean together, if there are any.
    #[expect(clippy::option_option, reason = "that there is none is not the same as a contradiction")]
    fn all(mut names: impl Iterator<Item = Option<Self>>) -> Option<Option<Self>> {
        match names.next() {
            None => Some(None),
            Some(first) => names.try_fold(first?, |held, next| held.meet(next?)).map(Some),
        }
    }

    /// What two names of one package mean together.
    pub(super) fn meet(self, other: Self) -> Option<Self> {
        fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<Option<T>> {
            match (one, other) {
                (Some(one), Some(other)) => (one == other).then_some(Some(one)),
                (one, other) => Some(one.or(other)),
            }
        }
        if self.key != other.key {
            return None;
        }
        let sha256 = match (self.sha256.is_empty(), other.sha256.is_empty()) {
            (false, false) => {
                let both: BTreeSet<_> = self.sha256.intersection(&other.sha256).copied().collect();
                if both.is_empty() { return None } else { both }
            }
            _ => self.sha256.union(&other.sha256).copied().collect(),
        };
        Some(Self {
            versions: meet_versions(self.versions, other.versions, self.key.order())?,
            build: same(self.build, other.build)?,
            build_from: same(self.build_from, other.build_from)?,
            file: same(self.file, other.file)?,
            subdir: same(self.subdir, other.subdir)?,
            sha256,
            key: self.key,
        })
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

/// The versions that are in both; none where that cannot be told.
#[expect(clippy::option_option, reason = "no restriction is not the same as a contradiction")]
fn meet_versions(one: Option<Versions>, other: Option<Versions>, order: Order) -> Option<Option<Versions>> {
    match (one, other) {
        (Some(Versions::One(one)), Some(Versions::One(other))) => {
            let is_same = one == other || order.compare(&one, &other) == Some(std::cmp::Ordering::Equal);
            is_same.then_some(Some(Versions::One(one)))
        }
        (Some(one), Some(other)) => (one == other).then_some(Some(one)),
        (one, other) => Some(one.or(other)),
    }
}

/// Whether a name is a purl, of any type: that schemes ignore case is no reason to take it for something else.
pub(super) fn is_purl(text: &str) -> bool {
    text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkg:"))
}

/// Whether a name is a CPE, as a formatted string (2.3) or a URI (2.2).
pub(super) fn is_cpe(text: &str) -> bool {
    text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("cpe:"))
}

/// The formatted string of a CPE that is a URI (`cpe:/a:openssl:openssl:3.0.8`); none of one that says more than version and
/// update, or spells something in a way that only URIs have.
fn formatted(uri: &str) -> Option<String> {
    let parts: Vec<&str> = uri.get(5..)?.split(':').collect();
    let is_plain = parts.iter().all(|part| !part.contains(['%', '~', '*', '?', '\\']));
    if !is_plain || parts.len() > 7 || parts.iter().skip(5).any(|part| !part.is_empty()) {
        return None;
    }
    let part = |at: usize| parts.get(at).copied().filter(|part| !part.is_empty()).unwrap_or("*");
    Some(format!("cpe:2.3:{}:{}:{}:{}:{}:*:*:*:*:*:*", part(0), part(1), part(2), part(3), part(4)))
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
        let uri = |text: &str| Product::cpe(text).map(|p| (p.key.as_str().to_owned(), p.versions));
        let whole = ("cpe:openssl:openssl".to_owned(), None);
        assert_eq!(uri("cpe:/a:openssl:openssl"), Some(whole.clone()));
        assert_eq!(uri("cpe:/a:openssl:openssl:3.0.8"), Some((whole.0, Some(Versions::One("3.0.8".into())))));
        assert_eq!(uri("cpe:/a:openssl:openssl:3.0.8::fips"), None);
        assert_eq!(uri("cpe:/a:openssl:openssl:3.0.8:~~~node.js~~"), None);
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
    fn several_names_of_one_product_restrict_it_together_or_name_nothing() {
        let read = |purls: &[&'static str], cpes: &[&'static str]| {
            Product::named(purls.iter().copied(), cpes.iter().copied())
        };
        let openssl = || Product::of(MatchKey::osv(CONDA, "openssl"));
        let one = |version: &str| Some(Versions::One(version.into()));
        let cpe = "cpe:2.3:a:openssl:openssl:3.0.8:*:*:*:*:*:*:*";
        let narrow = Product { versions: one("3.0.8"), build: Some("h2_2".into()), ..openssl() };
        assert_eq!(
            read(&["pkg:conda/openssl", "pkg:conda/openssl@3.0.8?build=h2_2"], &[]),
            Some(narrow.clone())
        );
        assert_eq!(read(&["pkg:conda/openssl@3.0.8?build=h2_2", "pkg:conda/openssl"], &[]), Some(narrow));
        assert_eq!(
            read(&["pkg:conda/openssl"], &[cpe]),
            Some(Product { versions: one("3.0.8"), ..openssl() })
        );
        let any = "cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*";
        assert_eq!(read(&[], &[any, cpe]).and_then(|p| p.versions), one("3.0.8"));
        assert_eq!(
            read(&["pkg:pypi/a@1"], &["cpe:2.3:a:a:a:1.0:*:*:*:*:*:*:*"]).and_then(|p| p.versions),
            one("1")
        );
        for (purls, cpes) in [
            (&["pkg:pypi/a@1", "pkg:pypi/b@2"][..], &[][..]),
            (&["pkg:pypi/a@1", "pkg:pypi/a@2"], &[]),
            (&["pkg:conda/openssl?build=a", "pkg:conda/openssl?build=b"], &[]),
            (&["pkg:conda/openssl", "pkg:deb/debian/openssl"], &[]),
            (&["PKG:deb/debian/openssl"], &[any]),
            (&["pkg:conda/openssl@3.0.7"], &[cpe]),
            (&["pkg:conda/openssl"], &["cpe:2.3:a:openssl:openssl:3.0.8:*:fips:*:*:*:*:*"]),
            (&[], &[cpe, "cpe:2.3:a:other:other:3.0.8:*:*:*:*:*:*:*"]),
            (&[], &[]),
        ] {
            assert_eq!(read(purls, cpes), None, "{purls:?} {cpes:?}");
        }
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
