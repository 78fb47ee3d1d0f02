//! Names of members and targets of links: what is safe on every system that might unpack the archive.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{ArchiveError, ArchiveLimits};

/// Characters of an overlong name that an error shows.
const SHOWN_CHARS: usize = 80;
/// Bytes of a package's name, version or build string; what file systems allow for a whole file name.
const IDENTITY_BYTES_MAX: usize = 255;

/// How much spelling a kind of archive leaves to its writers.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Spelling {
    /// Zip: tools look names up as they are, so that only one spelling may be.
    Exact,
    /// Tar: `tar c .` writes `./` before every name, and everybody takes it away.
    Dots,
}

/// A member's name, checked, without `./`, doubled or closing slashes.
pub(super) struct MemberName {
    /// The checked name; empty only for the root directory of a tar archive.
    pub(super) path: String,
    /// The name ended in a slash.
    pub(super) closing_slash: bool,
}

/// Checks a member's name. Bytes that are not UTF-8 are shown as U+FFFD: they cannot be separators, and old
/// source distributions have them.
///
/// # Errors
///
/// [`ArchiveError::UnsafeName`] and [`ArchiveError::NameTooLong`].
pub(super) fn check_name(
    raw: &[u8],
    spelling: Spelling,
    limits: &ArchiveLimits,
) -> Result<MemberName, ArchiveError> {
    check_length(raw, limits)?;
    let text = String::from_utf8_lossy(raw);
    let refuse = |reason| ArchiveError::UnsafeName { member: text.clone().into_owned(), reason };
    check_text(&text).map_err(refuse)?;
    let body = text.strip_suffix('/').unwrap_or(&text);
    let mut path = String::with_capacity(body.len());
    for part in body.split('/') {
        match part {
            ".." => return Err(refuse("it goes up")),
            "" | "." if spelling == Spelling::Dots => continue,
            "" | "." => return Err(refuse("it has an empty part")),
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(MemberName { path, closing_slash: body.len() < text.len() })
}

fn check_length(raw: &[u8], limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let bytes_max = limits.name_bytes_max;
    if raw.len() > bytes_max {
        let member = String::from_utf8_lossy(raw).chars().take(SHOWN_CHARS).collect();
        return Err(ArchiveError::NameTooLong { member, bytes_max });
    }
    Ok(())
}

/// What a name and a link's target have in common.
fn check_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.starts_with('/') {
        return Err("it is absolute");
    }
    if text.contains('\\') {
        return Err("it has a backslash");
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    // Only at the start: manual pages of Perl are called `B::Deparse.3`, in directories.
    let mut start = text.chars().skip_while(|c| matches!(c, '.' | '/'));
    if start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':') {
        return Err("it has a drive letter");
    }
    Ok(())
}

/// Where a symbolic link at `member` leads, by the text of its target alone.
///
/// `..` may stand only at the start of the target: behind a directory it would depend on whether that
/// directory is a link itself, which is how chains of links that look harmless one by one get out.
///
/// # Errors
///
/// [`ArchiveError::LinkEscapes`] and [`ArchiveError::NameTooLong`].
pub(super) fn check_symlink(member: &str, target: &[u8], limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    check_length(target, limits)?;
    let text = String::from_utf8_lossy(target);
    let refuse = |reason| ArchiveError::LinkEscapes {
        member: member.to_owned(),
        target: text.clone().into_owned(),
        reason,
    };
    check_text(&text).map_err(refuse)?;
    let mut depth = member.split('/').count().saturating_sub(1);
    let mut below = false;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if below => return Err(refuse("it goes up behind a directory")),
            ".." => depth = depth.checked_sub(1).ok_or_else(|| refuse("it leads out of the archive"))?,
            _ => below = true,
        }
    }
    Ok(())
}

/// A set of names that costs the same few bytes for each, however long they are.
#[derive(Default)]
pub(super) struct NameSet(HashSet<[u8; 16]>);

impl NameSet {
    fn key(name: &str) -> [u8; 16] {
        let digest = Sha256::digest(name.as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        key
    }

    /// Whether `name` is new.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        self.0.insert(Self::key(name))
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(&Self::key(name));
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&Self::key(name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `path` and each directory above it, the outermost first.
pub(super) fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
    parents.chain(std::iter::once(path))
}

/// Checks a name, version or build string before anything is compared with it or shows it.
///
/// # Errors
///
/// [`ArchiveError::Metadata`], which names `member` and `field`.
pub(super) fn check_identity(member: &str, field: &str, value: &str) -> Result<(), ArchiveError> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '\\');
    if value.is_empty() || value.len() > IDENTITY_BYTES_MAX || !value.chars().all(plain) {
        let reason = format!("{field} is empty, too long or has characters that a file name cannot have");
        return Err(ArchiveError::Metadata { member: member.to_owned(), reason });
    }
    Ok(())
}
