//! The ecosystems, their names and their file names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An ecosystem of packages. Every `match` on it names each, so that a further one shows every place
/// that must answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// conda channels.
    Conda,
    /// The Python package index.
    Pypi,
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conda => "conda",
            Self::Pypi => "pypi",
        })
    }
}

impl FromStr for Ecosystem {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "conda" => Ok(Self::Conda),
            "pypi" => Ok(Self::Pypi),
            _ => Err(format!("`{text}` is not an ecosystem; use conda or pypi")),
        }
    }
}

/// What kind of file an artifact is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ArtifactKind {
    /// A `.conda` package.
    #[serde(rename = "conda")]
    Conda,
    /// A conda package as `.tar.bz2`.
    #[serde(rename = "tar.bz2")]
    TarBz2,
    /// A wheel.
    #[serde(rename = "wheel")]
    Wheel,
    /// A source distribution.
    #[serde(rename = "sdist")]
    Sdist,
}

impl ArtifactKind {
    /// All of them, for messages and parsing.
    pub const ALL: [Self; 4] = [Self::Conda, Self::TarBz2, Self::Wheel, Self::Sdist];

    /// The name in policies and pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conda => "conda",
            Self::TarBz2 => "tar.bz2",
            Self::Wheel => "wheel",
            Self::Sdist => "sdist",
        }
    }

    /// The kind by a file name's ending. A conda `.whl` (CEP 48) is a wheel.
    pub fn of(ecosystem: Ecosystem, file: &str) -> Option<Self> {
        let ends = |suffix: &str| file.len() > suffix.len() && file.ends_with(suffix);
        match ecosystem {
            Ecosystem::Conda if ends(".conda") => Some(Self::Conda),
            Ecosystem::Conda if ends(".tar.bz2") => Some(Self::TarBz2),
            Ecosystem::Conda | Ecosystem::Pypi if ends(".whl") => Some(Self::Wheel),
            Ecosystem::Pypi if ends(".tar.gz") || ends(".zip") => Some(Self::Sdist),
            Ecosystem::Conda | Ecosystem::Pypi => None,
        }
    }
}

/// Longest package name, in bytes. CEP 26 says 64, PyPI has a few hundred.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest file name, in bytes. CEP 26 says 211; file systems end at 255.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The one spelling under which a package is looked up: PEP 503 for PyPI, lower case for conda
/// (upstream data holds a few capitals that CEP 26 no longer allows). `None` if it can be no name.
pub fn canonical_name(ecosystem: Ecosystem, name: &str) -> Option<String> {
    let fine = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with('.');
    if !fine {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    Some(match ecosystem {
        Ecosystem::Conda => lower,
        Ecosystem::Pypi => {
            let mut out = String::with_capacity(lower.len());
            for part in lower.split(['-', '_', '.']).filter(|p| !p.is_empty()) {
                if !out.is_empty() {
                    out.push('-');
                }
                out.push_str(part);
            }
            if out.is_empty() {
                return None;
            }
            out
        }
    })
}

/// A pattern over names (`*`, `?`) in the spelling that canonical names have.
pub fn name_pattern(ecosystem: Ecosystem, pattern: &str) -> String {
    let lower = pattern.to_ascii_lowercase();
    match ecosystem {
        Ecosystem::Conda => lower,
        Ecosystem::Pypi => lower.replace(['_', '.'], "-"),
    }
}

/// Whether a file name can stand in a URL and in a store: one path component of plain characters
/// (those of CEP 26 and PEP 440 file names), not hidden, of bearable length.
pub fn is_safe_file_name(file: &str) -> bool {
    file.len() <= FILE_NAME_BYTES_MAX
        && !file.is_empty()
        && !file.starts_with('.')
        && file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+!~".contains(&b))
}

/// Whether a conda subdir is one: `noarch` or two lower-case parts (CEP 26).
pub fn is_subdir(subdir: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    subdir == "noarch"
        || (subdir.len() <= 32 && subdir.split_once('-').is_some_and(|(os, arch)| part(os) && part(arch)))
}

/// Whether a text is a platform that conda knows (CEP 26): of a known system, and of an architecture that goes with one.
pub fn is_platform(subdir: &str) -> bool {
    const SYSTEMS: [&str; 8] = ["linux", "osx", "win", "freebsd", "emscripten", "wasi", "zos", "android"];
    const MACHINES: [&str; 14] = [
        "32",
        "64",
        "aarch64",
        "arm64",
        "armv6l",
        "armv7l",
        "ppc64",
        "ppc64le",
        "riscv32",
        "riscv64",
        "s390x",
        "wasm32",
        "loongarch64",
        "z",
    ];
    let known = |(system, machine)| SYSTEMS.contains(&system) && MACHINES.contains(&machine);
    subdir == "noarch" || subdir.split_once('-').is_some_and(known)
}

/// Project (as the file spells it) and version of a wheel or source distribution, from its file name alone
/// (PEP 427, PEP 625). An sdist of the old kind may have `-` in its project, so the known project of
/// the page decides where the version begins.
pub fn python_file_version(project: &str, file: &str) -> Option<String> {
    let canonical = canonical_name(Ecosystem::Pypi, project)?;
    if let Some(stem) = file.strip_suffix(".whl") {
        let parts: Vec<&str> = stem.split('-').collect();
        let fits = matches!(parts.len(), 5 | 6)
            && canonical_name(Ecosystem::Pypi, parts[0]).as_ref() == Some(&canonical);
        return fits.then(|| parts[1].to_owned());
    }
    let stem = file.strip_suffix(".tar.gz").or_else(|| file.strip_suffix(".zip"))?;
    stem.match_indices('-')
        .find(|(at, _)| canonical_name(Ecosystem::Pypi, &stem[..*at]).as_ref() == Some(&canonical))
        .map(|(at, _)| stem[at + 1..].to_owned())
        .filter(|version| version.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The canonical name and the version that a file name tells. Of an sdist of the old kind, in whose project a `-` may
/// stand, the version is what begins with a digit.
pub fn file_name_parts(ecosystem: Ecosystem, file: &str) -> Option<(String, String)> {
    ArtifactKind::of(ecosystem, file).filter(|_| is_safe_file_name(file))?;
    if ecosystem == Ecosystem::Conda {
        let mut parts = file.rsplitn(3, '-').skip(1);
        let (version, name) = (parts.next()?, parts.next()?);
        return Some((canonical_name(ecosystem, name)?, version.to_owned()));
    }
    let is_wheel = file.ends_with(".whl");
    let starts = |at: usize| is_wheel || file[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let (at, _) = file.match_indices('-').find(|(at, _)| starts(*at))?;
    let name = canonical_name(ecosystem, &file[..at])?;
    let version = python_file_version(&name, file)?;
    Some((name, version))
}

/// The spelling of an R package's name under which it is looked up. CRAN takes no two names that differ in case only,
/// and conda writes all in small letters.
pub fn canonical_r_name(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (raw, canonical) in
            [("Jinja2", "jinja2"), ("zope.interface", "zope-interface"), ("a__b-.c", "a-b-c")]
        {
            assert_eq!(canonical_name(Ecosystem::Pypi, raw).as_deref(), Some(canonical));
        }
        assert_eq!(canonical_name(Ecosystem::Conda, "R_x.y").as_deref(), Some("r_x.y"));
        for bad in ["", "a/b", "..", ".hidden", "a b", "é", "--", "a\0"] {
            assert_eq!(canonical_name(Ecosystem::Pypi, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn versions_come_out_of_file_names() {
        for (project, file, version) in [
            ("jinja2", "Jinja2-3.1.2-py3-none-any.whl", Some("3.1.2")),
            ("ruamel-yaml", "ruamel.yaml-0.17.tar.gz", Some("0.17")),
            ("ruamel-yaml", "ruamel-yaml-0.17.zip", Some("0.17")),
            ("x", "x-1-2-py3-none-any.whl", Some("1")),
            ("x", "y-1-py3-none-any.whl", None),
            ("x", "x.tar.gz", None),
            ("x", "x-1.exe", None),
        ] {
            assert_eq!(python_file_version(project, file).as_deref(), version, "{file}");
        }
    }

    #[test]
    fn names_and_versions_come_out_of_file_names() {
        use Ecosystem::{Conda, Pypi};
        for (ecosystem, file, parts) in [
            (Conda, "py-sirius-ms-2.1-pyhd8_0.conda", Some(("py-sirius-ms", "2.1"))),
            (Conda, "zlib-1.3.tar.bz2", None),
            (Conda, "a-1-0.exe", None),
            (Pypi, "Jinja2-3.1.2-py3-none-any.whl", Some(("jinja2", "3.1.2"))),
            (Pypi, "ruamel-yaml-0.17.zip", Some(("ruamel-yaml", "0.17"))),
            (Pypi, "x.tar.gz", None),
            (Pypi, "../x-1.tar.gz", None),
        ] {
            let expected = parts.map(|(name, version): (&str, &str)| (name.to_owned(), version.to_owned()));
            assert_eq!(file_name_parts(ecosystem, file), expected, "{file}");
        }
    }

    #[test]
    fn unsafe_file_names_are_refused() {
        assert!(is_safe_file_name("x264-1!164.3095-h166bdaf_2.tar.bz2"));
        assert!(is_safe_file_name("py-sirius-ms-2.1+sirius6.0.7-pyhd8ed1ab_0.conda"));
        for bad in ["", "..", ".x", "a/b", "a\\b", "a%2fb", "a b", "a\n", &"x".repeat(256)] {
            assert!(!is_safe_file_name(bad), "{bad:?}");
        }
        assert!(is_subdir("linux-64") && is_subdir("noarch") && !is_subdir("../x") && !is_subdir("linux"));
    }

    proptest! {
        #[test]
        fn canonical_names_are_fixed_points(name in "[A-Za-z0-9._-]{1,40}") {
            for ecosystem in [Ecosystem::Conda, Ecosystem::Pypi] {
                if let Some(once) = canonical_name(ecosystem, &name) {
                    prop_assert_eq!(canonical_name(ecosystem, &once), Some(once));
                }
            }
        }
    }
}
