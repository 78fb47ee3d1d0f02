//! Lock files that are lines: explicit lists and requirements.

use airlock_core::ecosystem::{Ecosystem, file_name_parts};
use airlock_core::lock::{LockForm, LockedFile};

use super::{Found, LockError, file, last_parts};

/// The line that makes a list an explicit one.
pub(super) const EXPLICIT: &str = "@EXPLICIT";

/// Reads an explicit list of conda packages.
pub(super) fn explicit(text: &str, found: &mut Found) -> Result<LockForm, LockError> {
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') || line == EXPLICIT {
            continue;
        }
        let (address, hash) = line.split_once('#').unwrap_or((line, ""));
        let parts = last_parts(address).and_then(|(file, _)| file_name_parts(Ecosystem::Conda, &file));
        let Some((name, version)) = parts else {
            found.left_out += 1;
            continue;
        };
        let sha256 = hash.strip_prefix("sha256:").or(Some(hash).filter(|hash| hash.len() == 64));
        let one = file(Ecosystem::Conda, Some(address), sha256, Some(hash));
        found.add(Ecosystem::Conda, &name, &version, [one])?;
    }
    Ok(LockForm::Explicit)
}

/// Reads requirements that pin versions.
pub(super) fn requirements(text: &str, found: &mut Found) -> Result<LockForm, LockError> {
    let mut whole = String::new();
    // What is broken over several lines is one; a last line that goes on ends with the file.
    for line in text.lines().chain([""]) {
        let line = line.trim();
        if line.starts_with('#') && whole.is_empty() {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
            }
            None => {
                whole.push_str(line);
                requirement(whole.trim(), found)?;
                whole.clear();
            }
        }
    }
    if found.packages.is_empty() {
        return Err(LockError::Unknown);
    }
    Ok(LockForm::Requirements)
}

/// One requirement, or an option.
fn requirement(line: &str, found: &mut Found) -> Result<(), LockError> {
    // A comment begins behind white space: a `#` may stand in an address.
    let line = line.split(" #").next().unwrap_or_default().trim();
    if line.is_empty() || line.starts_with('-') {
        // Other files and folders pin what is not read here. Further options say where to look, and may hold passwords.
        const OTHERS: [&str; 6] = ["-r", "-c", "-e", "--requirement", "--constraint", "--editable"];
        let names_more = |option: &str| {
            let rest = line.strip_prefix(option);
            rest.is_some_and(|rest| !option.starts_with("--") || rest.starts_with([' ', '=', '\t']))
        };
        found.left_out += u64::from(OTHERS.into_iter().any(names_more));
        return Ok(());
    }
    let hashes = line.split_whitespace().filter_map(|word| word.strip_prefix("--hash=sha256:"));
    let hashes: Vec<&str> = hashes.collect();
    let pin = line.split(" --").next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if let Some((name, address)) = pin.split_once('@') {
        return direct(name, address.trim(), &hashes, found);
    }
    let Some((name, version)) = pin.split_once("==") else {
        found.left_out += 1;
        return Ok(());
    };
    let version = version.trim_start_matches('=').trim();
    if version.contains([',', '*', ' ']) {
        found.left_out += 1;
        return Ok(());
    }
    let files = hashes.iter().map(|hash| file(Ecosystem::Pypi, None, Some(hash), None));
    found.add(Ecosystem::Pypi, bare(name), version, files)
}

/// A requirement that names a file by its address.
fn direct(name: &str, address: &str, hashes: &[&str], found: &mut Found) -> Result<(), LockError> {
    let parts = last_parts(address).and_then(|(file, _)| file_name_parts(Ecosystem::Pypi, &file));
    let Some((_, version)) = parts else {
        found.left_out += 1;
        return Ok(());
    };
    let fragment = address.split_once('#').map_or("", |(_, fragment)| fragment);
    let stated = fragment.split('&').find_map(|part| part.strip_prefix("sha256="));
    let mut all: Vec<LockedFile> = hashes
        .iter()
        .copied()
        .chain(stated)
        .map(|hash| file(Ecosystem::Pypi, Some(address), Some(hash), None))
        .collect();
    if all.is_empty() {
        all.push(file(Ecosystem::Pypi, Some(address), None, None));
    }
    found.add(Ecosystem::Pypi, bare(name), &version, all)
}

/// A name without extras.
fn bare(name: &str) -> &str {
    name.split('[').next().unwrap_or_default().trim()
}
