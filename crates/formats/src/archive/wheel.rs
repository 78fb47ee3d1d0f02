//! Wheels (PEP 427, PEP 491, and what PyPI asks of their zip structure since August 2025).

use std::io::{Read, Seek};

use super::entrypoints::check_entry_points;
use super::metadata::parse_metadata;
use super::zipcheck::{METHOD_DEFLATE, METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits, Opened};

const DIST_INFO: &str = ".dist-info";

/// Opens a wheel: one `*.dist-info` directory whose name fits its `METADATA`, with `METADATA`, `WHEEL` and
/// `RECORD` in it. Every member is unpacked, so that each is known to be what the zip directory declares.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_wheel<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED, METHOD_DEFLATE], limits)?;
    let directory = find_dist_info(&zip)?;
    let required = |file: &str| {
        let member = format!("{directory}/{file}");
        zip.find(&member).ok_or(ArchiveError::MissingMember { member })
    };
    let metadata = required("METADATA")?;
    required("WHEEL")?;
    required("RECORD")?;
    let entry_points = format!("{directory}/entry_points.txt");
    let read = ["METADATA", "WHEEL", "RECORD"].map(|file| format!("{directory}/{file}"));
    let read: Vec<&str> = read.iter().map(String::as_str).chain([entry_points.as_str()]).collect();
    zip.check_twins(&read)?;
    zip.check_data()?;
    if let Some(index) = zip.find(&entry_points) {
        check_entry_points(&entry_points, &zip.read(index, limits)?)?;
    }
    let bytes = zip.read(metadata, limits)?;
    let core = parse_metadata(&bytes)?;
    let stem = directory.get(..directory.len().saturating_sub(DIST_INFO.len())).unwrap_or_default();
    let fits = stem.rsplit_once('-').is_some_and(|(name, version)| {
        same_name(name, &core.name) && version_parts(version) == version_parts(&core.version)
    });
    if !fits {
        let expected = format!("{}-{}", core.name, core.version);
        return Err(ArchiveError::IdentityMismatch { member: directory, expected });
    }
    Ok(Opened { metadata: Some(bytes), ..core.into_opened() })
}

/// The one directory that becomes `*.dist-info` when the wheel is installed: at the top, or at the top of
/// what `*.data/purelib` and `*.data/platlib` hold, which installers move there.
fn find_dist_info<R>(zip: &ZipArchive<R>) -> Result<String, ArchiveError> {
    let mut found: Option<&str> = None;
    for member in &zip.members {
        let path = member.path.as_str();
        let Some(top) = path.split('/').next() else { continue };
        if has_suffix(top, ".data") && moved_dist_info(path) {
            let reason = "a second .dist-info directory, which installing would merge with the first";
            return Err(ArchiveError::UnexpectedMember { member: path.to_owned(), reason });
        }
        if !has_suffix(top, DIST_INFO) {
            continue;
        }
        if found.is_some_and(|earlier| earlier != top) {
            let reason = "a wheel has one .dist-info directory";
            return Err(ArchiveError::UnexpectedMember { member: path.to_owned(), reason });
        }
        found = Some(top);
    }
    let missing = || ArchiveError::MissingMember { member: format!("*{DIST_INFO}") };
    found.map(str::to_owned).ok_or_else(missing)
}

fn moved_dist_info(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let library =
        parts.next().is_some_and(|part| matches!(part.to_ascii_lowercase().as_str(), "purelib" | "platlib"));
    library && parts.next().is_some_and(|part| has_suffix(part, DIST_INFO))
}

/// In any case, since file systems may not tell.
fn has_suffix(text: &str, suffix: &str) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.and_then(|start| text.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// Whether two names are one by PEP 503.
fn same_name(left: &str, right: &str) -> bool {
    normalised(left) == normalised(right)
}

fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// A version in pieces that do not depend on separators, case, leading zeros, or how PEP 440 spells a
/// pre-release: what builders change when they write the directory's name. Nobody orders by it.
fn version_parts(version: &str) -> Vec<String> {
    let version = version.to_ascii_lowercase();
    let mut parts: Vec<String> = Vec::new();
    let mut last = None;
    for c in version.strip_prefix('v').unwrap_or(&version).chars() {
        let class = (c.is_ascii_digit(), c.is_ascii_alphabetic());
        if class.0 || class.1 {
            match parts.last_mut().filter(|_| last == Some(class)) {
                Some(part) => part.push(c),
                None => parts.push(c.into()),
            }
        }
        last = Some(class);
    }
    for part in &mut parts {
        let plain = match part.as_str() {
            "alpha" => "a",
            "beta" => "b",
            "c" | "pre" | "preview" => "rc",
            "r" | "rev" => "post",
            digits if digits.starts_with('0') => match digits.trim_start_matches('0') {
                "" => "0",
                rest => rest,
            },
            other => other,
        };
        *part = plain.to_owned();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{same_name, version_parts};

    #[test]
    fn names_are_compared_as_pep_503_has_them() {
        assert!(same_name("Foo.Bar_baz", "foo-bar--baz"));
        assert!(!same_name("foo", "foobar"));
    }

    #[test]
    fn versions_are_compared_without_their_spelling() {
        for (left, right) in
            [("1.0.dev0", "1.0-DEV0"), ("2020.01.02", "2020.1.2"), ("1.0alpha1", "1.0a1"), ("1+x_y", "1+x.y")]
        {
            assert_eq!(version_parts(left), version_parts(right), "{left} {right}");
        }
        assert_ne!(version_parts("1.0"), version_parts("10"));
        assert_ne!(version_parts("1.0"), version_parts("1.0.1"));
    }
}
