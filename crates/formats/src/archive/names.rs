//! Names of members and targets of links: what is safe on every system that might unpack the archive.

use std::collections::HashSet;

use airlock_core::unseen::is_unseen;
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
    let mut parts = 0;
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
        parts += 1;
        if parts > limits.name_parts_max {
            let member = text.chars().take(SHOWN_CHARS).collect();
            return Err(ArchiveError::NameTooDeep { member, parts_max: limits.name_parts_max });
        }
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

/// What stands for a name: half of its SHA-256, since nobody must be able to make two names one.
pub(super) type NameKey = [u8; 16];

fn key_of(hash: Sha256) -> NameKey {
    let digest = hash.finalize();
    let mut key = [0; 16];
    key.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    key
}

/// The key of a name.
pub(super) fn name_key(name: &str) -> NameKey {
    key_of(Sha256::new_with_prefix(name.as_bytes()))
}

/// A set of names that costs the same few bytes for each, however long they are.
#[derive(Default)]
pub(super) struct NameSet(HashSet<NameKey>);

impl NameSet {
    /// Whether `name` is new.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        self.0.insert(name_key(name))
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(&name_key(name));
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&name_key(name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The outermost of `path` and the directories above it that is in the set.
    ///
    /// Every byte is hashed once, and each part finished from where the one before it ended: hashing each
    /// directory by itself would cost the square of the depth.
    pub(super) fn first_above<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut hash = Sha256::new();
        let mut from = 0;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let more = path.get(from..end)?;
            #[cfg(test)]
            tests::HASHED_BYTES.set(tests::HASHED_BYTES.get() + more.len());
            hash.update(more);
            if self.0.contains(&key_of(hash.clone())) {
                return path.get(..end);
            }
            from = end;
        }
        None
    }
}

/// A name as file systems that ignore case, composition and invisible characters see it: two names that fold to
/// one are one file on some of them.
pub(super) fn folded(name: &str) -> String {
    let part = |part: &str| {
        // Invisible on HFS+; dots and blanks at the end do not exist on Windows.
        let shown = part.trim_end_matches(['.', ' ']).chars().filter(|c| !is_invisible(*c));
        // Both ways, so that ligatures, the long s and the sign of Kelvin fold too.
        shown.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>()
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Whether two names may be one file somewhere. `plain` is ASCII and folds to its lower case.
pub(super) fn may_be_same(plain: &str, name: &str) -> bool {
    plain.eq_ignore_ascii_case(name) || (is_odd(name) && folded(name) == plain.to_ascii_lowercase())
}

/// Whether `name` may lie in the directory `above` somewhere; `name` is ASCII.
pub(super) fn may_lie_below(name: &str, above: &str) -> bool {
    let above = if is_odd(above) { folded(above) } else { above.to_ascii_lowercase() };
    let rest = name.to_ascii_lowercase();
    rest.strip_prefix(&above).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether folding a name does more than lower its case.
fn is_odd(name: &str) -> bool {
    !name.is_ascii() || name.split('/').any(|part| part.ends_with(['.', ' ']))
}

/// Characters without a shape of their own: joiners, marks and overrides of direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What stands behind a text of which there was more. No licence has it in its name.
pub(super) const CUT: char = '\u{2026}';

/// Text of an artifact that people are shown, on one line: characters that control terminals or turn the
/// direction of writing are replaced, and no more than `CHARS_MAX` stay, with a mark behind them that says so.
pub(super) fn shown(text: &str) -> String {
    /// Characters of a licence or summary that are kept.
    const CHARS_MAX: usize = 1000;
    let plain = |c: char| match c {
        '\n' | '\t' => ' ',
        c if is_unseen(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut out: String = text.chars().take(CHARS_MAX).map(plain).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push(CUT);
    }
    out
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Bytes that looking for links hashed on this thread.
        pub(super) static HASHED_BYTES: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn looking_for_links_above_a_name_hashes_each_of_its_bytes_once() {
        let mut links = NameSet::default();
        links.insert("link");
        let deep = vec!["directory"; 2000].join("/");
        assert_eq!(links.first_above(&deep), None);
        assert_eq!(HASHED_BYTES.get(), deep.len());
    }

    #[test]
    fn the_outermost_link_above_a_name_is_found() {
        let mut links = NameSet::default();
        links.insert("a/b");
        links.insert("a/b/c");
        assert_eq!(links.first_above("a/b/c/d"), Some("a/b"));
        assert_eq!(links.first_above("a/b"), Some("a/b"));
        assert_eq!(links.first_above("a/bc/d"), None);
        assert_eq!(links.first_above("a"), None);
    }

    #[test]
    fn names_fold_as_the_least_careful_file_system_has_it() {
        for (left, right) in [
            ("info/index.json", "INFO/Index.JSON"),
            ("PKG-INFO", "P\u{212a}G-info"),
            ("info/files", "info/\u{fb01}les"),
            ("METADATA", "metadata. ."),
            ("a/b", "a\u{200d}/b"),
        ] {
            assert!(may_be_same(left, right), "{left:?} {right:?}");
        }
        assert!(!may_be_same("info/index.json", "info/index_json"));
        assert!(may_lie_below("info/index.json", "INFO") && !may_lie_below("info/index.json", "inf"));
    }
}
