//! Lock files that are TOML or YAML.

use airlock_core::ecosystem::{Ecosystem, file_name_parts};
use airlock_core::lock::{LockForm, LockedFile};
use serde::Deserialize;

use super::{Found, LockError, file, is_itself, last_parts};
use crate::feeds::yaml;
use crate::limits;

/// Reads `uv.lock` or `pylock.toml`.
pub(super) fn toml(text: &str, found: &mut Found) -> Result<LockForm, LockError> {
    #[derive(Deserialize)]
    struct Which {
        #[serde(rename = "lock-version")]
        lock_version: Option<String>,
        version: Option<i64>,
        #[serde(default)]
        package: Vec<UvPackage>,
        #[serde(default)]
        packages: Vec<PyPackage>,
    }
    let bad = |form| move |why: String| LockError::Malformed(form, why);
    let guess = if text.contains("lock-version") { LockForm::Pylock } else { LockForm::Uv };
    let which: Which = ::toml::from_str(text).map_err(|e| bad(guess)(e.message().to_owned()))?;
    match (which.lock_version, which.version) {
        (Some(version), _) if version == "1" || version.starts_with("1.") => {
            which.packages.iter().try_for_each(|package| package.add(found))?;
            Ok(LockForm::Pylock)
        }
        (Some(version), _) => Err(bad(LockForm::Pylock)(unknown_version(&version))),
        (None, Some(1)) => {
            which.package.iter().try_for_each(|package| package.add(found))?;
            Ok(LockForm::Uv)
        }
        (None, Some(version)) => Err(bad(LockForm::Uv)(unknown_version(&version.to_string()))),
        (None, None) => Err(LockError::Unknown),
    }
}

fn unknown_version(version: &str) -> String {
    format!("version {} is not known", version.chars().take(20).collect::<String>())
}

/// A package of `uv.lock`.
#[derive(Deserialize)]
struct UvPackage {
    name: String,
    version: Option<String>,
    #[serde(default)]
    source: UvSource,
    sdist: Option<UvFile>,
    #[serde(default)]
    wheels: Vec<UvFile>,
}

/// Where it comes from: what is none of the first three is the project itself, or a folder.
#[derive(Default, Deserialize)]
struct UvSource {
    registry: Option<String>,
    url: Option<String>,
    git: Option<String>,
    editable: Option<String>,
    /// What is never installed, only what it needs.
    r#virtual: Option<String>,
}

#[derive(Deserialize)]
struct UvFile {
    url: Option<String>,
    path: Option<String>,
    filename: Option<String>,
    hash: Option<String>,
}

impl UvPackage {
    fn add(&self, found: &mut Found) -> Result<(), LockError> {
        let source = &self.source;
        if source.r#virtual.is_some() || source.editable.as_deref().is_some_and(is_itself) {
            return Ok(());
        }
        let is_package = source.registry.is_some() || source.url.is_some() || source.git.is_some();
        let Some(version) = self.version.as_ref().filter(|_| is_package) else {
            found.left_out += 1;
            return Ok(());
        };
        let files = self.sdist.iter().chain(&self.wheels).map(|one| {
            let address = [&one.url, &one.path, &one.filename].into_iter().find_map(Option::as_deref);
            let address = address.or(source.url.as_deref());
            let sha256 = one.hash.as_deref().and_then(|hash| hash.strip_prefix("sha256:"));
            file(Ecosystem::Pypi, address, sha256, None)
        });
        found.add(Ecosystem::Pypi, &self.name, version, files)
    }
}

/// A package of `pylock.toml`.
#[derive(Deserialize)]
struct PyPackage {
    name: String,
    version: Option<String>,
    sdist: Option<PyFile>,
    archive: Option<PyFile>,
    #[serde(default)]
    wheels: Vec<PyFile>,
    directory: Option<PyFolder>,
}

#[derive(Deserialize)]
struct PyFolder {
    path: String,
}

#[derive(Deserialize)]
struct PyFile {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
    md5: Option<String>,
}

impl PyPackage {
    fn add(&self, found: &mut Found) -> Result<(), LockError> {
        if self.directory.as_ref().is_some_and(|folder| is_itself(&folder.path)) {
            return Ok(());
        }
        let all = self.sdist.iter().chain(&self.archive).chain(&self.wheels);
        let files: Vec<LockedFile> = all
            .map(|one| {
                let address = [&one.name, &one.url, &one.path].into_iter().find_map(Option::as_deref);
                file(Ecosystem::Pypi, address, one.hashes.sha256.as_deref(), None)
            })
            .collect();
        // The version may be left to the files.
        let told = files.iter().filter_map(|one| file_name_parts(Ecosystem::Pypi, one.name.as_deref()?));
        match self.version.clone().or_else(|| told.map(|(_, version)| version).next()) {
            Some(version) => found.add(Ecosystem::Pypi, &self.name, &version, files),
            None => {
                found.left_out += 1;
                Ok(())
            }
        }
    }
}

/// Reads `conda-lock.yml` or `pixi.lock`.
pub(super) fn yaml(text: &str, found: &mut Found) -> Result<LockForm, LockError> {
    #[derive(Deserialize)]
    struct Which {
        version: Option<String>,
        package: Option<Vec<CondaLocked>>,
        packages: Option<Vec<PixiPackage>>,
    }
    let bad = |form| move |why: String| LockError::Malformed(form, why);
    let guess = if text.contains("\nenvironments:") { LockForm::Pixi } else { LockForm::CondaLock };
    let json = yaml::to_json(text, limits::LOCK_BYTES_MAX).map_err(bad(guess))?;
    let which: Which = serde_json::from_str(&json).map_err(|e| bad(guess)(e.to_string()))?;
    let version = which.version.ok_or(LockError::Unknown)?;
    match (which.package, which.packages) {
        (Some(packages), None) if version == "1" => {
            packages.iter().try_for_each(|package| package.add(found))?;
            Ok(LockForm::CondaLock)
        }
        (None, Some(packages)) if ["4", "5", "6", "7"].contains(&version.as_str()) => {
            packages.iter().try_for_each(|package| package.add(found))?;
            Ok(LockForm::Pixi)
        }
        (Some(_), None) => Err(bad(LockForm::CondaLock)(unknown_version(&version))),
        (None, Some(_)) => Err(bad(LockForm::Pixi)(unknown_version(&version))),
        _ => Err(LockError::Unknown),
    }
}

/// A package of `conda-lock.yml`.
#[derive(Deserialize)]
struct CondaLocked {
    name: String,
    version: String,
    manager: String,
    url: Option<String>,
    #[serde(default)]
    hash: Hashes,
}

impl CondaLocked {
    fn add(&self, found: &mut Found) -> Result<(), LockError> {
        let ecosystem = match self.manager.as_str() {
            "conda" => Ecosystem::Conda,
            "pip" => Ecosystem::Pypi,
            _ => {
                found.left_out += 1;
                return Ok(());
            }
        };
        let (sha256, md5) = (self.hash.sha256.as_deref(), self.hash.md5.as_deref());
        found.add(ecosystem, &self.name, &self.version, [file(ecosystem, self.url.as_deref(), sha256, md5)])
    }
}

/// A package of `pixi.lock`: since version 6 it is named by its address under `conda` or `pypi`, older ones by `kind`.
#[derive(Deserialize)]
struct PixiPackage {
    kind: Option<String>,
    conda: Option<String>,
    pypi: Option<String>,
    url: Option<String>,
    name: Option<String>,
    version: Option<String>,
    sha256: Option<String>,
    md5: Option<String>,
}

impl PixiPackage {
    fn add(&self, found: &mut Found) -> Result<(), LockError> {
        let (ecosystem, address) = match (&self.conda, &self.pypi, self.kind.as_deref()) {
            (Some(address), None, _) => (Ecosystem::Conda, Some(address)),
            (None, Some(address), _) => (Ecosystem::Pypi, Some(address)),
            (None, None, Some("conda")) => (Ecosystem::Conda, self.url.as_ref()),
            (None, None, Some("pypi")) => (Ecosystem::Pypi, self.url.as_ref()),
            _ => {
                found.left_out += 1;
                return Ok(());
            }
        };
        if address.is_some_and(|address| is_itself(address)) {
            return Ok(());
        }
        // What is no file of the ecosystem is a folder, or a source that is built.
        let named = address.and_then(|address| last_parts(address));
        let Some((name, version)) = named.and_then(|(file, _)| file_name_parts(ecosystem, &file)) else {
            found.left_out += 1;
            return Ok(());
        };
        let name = self.name.as_deref().unwrap_or(&name);
        let version = self.version.as_deref().unwrap_or(&version);
        let one = file(ecosystem, address.map(String::as_str), self.sha256.as_deref(), self.md5.as_deref());
        found.add(ecosystem, name, version, [one])
    }
}
