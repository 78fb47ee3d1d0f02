//! The machine that an environment is for.

use std::str::FromStr as _;

use rattler_conda_types::{GenericVirtualPackage, PackageName, Version};

/// A subdir and its virtual packages (CEP 30).
#[derive(Debug, Clone)]
pub struct Platform {
    subdir: String,
    packages: Vec<GenericVirtualPackage>,
}

/// A machine that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlatform {
    /// No platform of conda.
    #[error("`{0}` is no platform: write `linux-64`, `osx-arm64` or `win-64`")]
    Subdir(String),
    /// No virtual package.
    #[error("`{0}` is no virtual package: write `__glibc=2.28` or `__cuda=12.4`")]
    Virtual(String),
}

/// What a machine is believed to have where nobody says more: by the beginning of its subdir, what comes with it. An old
/// Linux that is still supported (RHEL 8), so that what solves here does so on most.
const DEFAULTS: [(&str, &[(&str, &str)]); 3] = [
    ("linux-", &[("__unix", "0"), ("__linux", "4.18"), ("__glibc", "2.28")]),
    ("osx-", &[("__unix", "0"), ("__osx", "13.0")]),
    ("win-", &[("__win", "10.0")]),
];

impl Platform {
    /// A subdir with what machines of it have, and `more` in place of or beside that (`__cuda=12.4`).
    ///
    /// # Errors
    ///
    /// What is no platform, or no virtual package.
    pub fn of(subdir: &str, more: &[String]) -> Result<Self, BadPlatform> {
        let shown = |text: &str| text.chars().take(60).collect::<String>();
        if !airlock_core::ecosystem::is_platform(subdir) {
            return Err(BadPlatform::Subdir(shown(subdir)));
        }
        let known =
            DEFAULTS.iter().find(|(begin, _)| subdir.starts_with(begin)).map_or(&[][..], |(_, all)| all);
        let mut packages = Vec::new();
        for (name, version) in known {
            packages.extend(one(name, version, "0"));
        }
        packages.extend(archspec(subdir).and_then(|build| one("__archspec", "1", build)));
        for text in more {
            let package = read(text).ok_or_else(|| BadPlatform::Virtual(shown(text)))?;
            packages.retain(|other| other.name != package.name);
            packages.push(package);
        }
        Ok(Self { subdir: subdir.to_owned(), packages })
    }

    /// The subdir.
    pub fn subdir(&self) -> &str {
        &self.subdir
    }

    /// The virtual packages as text, `__glibc=2.28=0`.
    pub fn described(&self) -> Vec<String> {
        self.packages.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn packages(&self) -> &[GenericVirtualPackage] {
        &self.packages
    }
}

/// The plainest microarchitecture of a subdir, by its name in archspec.
fn archspec(subdir: &str) -> Option<&'static str> {
    match subdir.split_once('-')?.1 {
        "64" => Some("x86_64"),
        "aarch64" | "arm64" => Some("aarch64"),
        "ppc64le" => Some("ppc64le"),
        _ => None,
    }
}

fn read(text: &str) -> Option<GenericVirtualPackage> {
    let (name, rest) = text.split_once('=')?;
    let (version, build) = rest.split_once('=').unwrap_or((rest, "0"));
    name.starts_with("__").then(|| one(name, version, build))?
}

fn one(name: &str, version: &str, build: &str) -> Option<GenericVirtualPackage> {
    Some(GenericVirtualPackage {
        name: PackageName::from_str(name).ok()?,
        version: Version::from_str(version).ok()?,
        build_string: build.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_its_subdir_brings_and_what_is_said_of_it() {
        let platform =
            Platform::of("linux-64", &["__glibc=2.35".to_owned(), "__cuda=12.4".to_owned()]).unwrap();
        let mut said = platform.described();
        said.sort();
        assert_eq!(
            said,
            ["__archspec=1=x86_64", "__cuda=12.4=0", "__glibc=2.35=0", "__linux=4.18=0", "__unix=0=0"]
        );
        assert!(Platform::of("noarch", &[]).unwrap().described().is_empty());
        for bad in ["linux-46", "linux", "", "../x"] {
            assert!(Platform::of(bad, &[]).is_err(), "{bad}");
        }
        for bad in ["glibc=2", "__glibc", "__glibc=>2", ""] {
            assert!(Platform::of("linux-64", &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
