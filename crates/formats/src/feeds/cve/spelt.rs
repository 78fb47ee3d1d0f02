//! How records of the CVE List spell versions: which text is one, which says that there is none, and which says more than
//! a version can.
//!
//! Text that is not known to be a version is none. `2.x`, `1.0-1.5` and `1.0+` are no versions that anything has, so that
//! whoever took them for one would find that nothing is affected.

use std::borrow::Cow;

/// The longest text that is taken for a version, in bytes.
pub(super) const BYTES_MAX: usize = 100;
/// The shortest text that may be a commit, and the longest.
const COMMIT_BYTES: std::ops::RangeInclusive<usize> = 7..=40;
/// Words that may stand behind the numbers of a version, each group once.
const SUFFIXES: [&[&str]; 3] =
    [&["a", "b", "c", "rc", "alpha", "beta", "pre", "preview"], &["p", "patch", "post"], &["dev"]];

/// What stands where nothing is to be said.
pub(super) fn is_nothing(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || ["n/a", "na", "-", "*", "unspecified", "unknown", "[unknown]", "none"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

/// The beginning of all versions, or a version; none where it is neither.
pub(super) fn bound(text: &str) -> Option<&str> {
    if is_nothing(text) { Some("0") } else { plain(text) }
}

/// A version, without the `v` in front of it; none where text says more than that.
pub(super) fn plain(text: &str) -> Option<&str> {
    let text = text.trim();
    let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let is_number = is_commit(bare) && !is_date(bare);
    (bare.len() <= BYTES_MAX && !is_number && is_version(bare).is_some()).then_some(bare)
}

/// Whether it is the beginning of all versions, which no release is called.
pub(super) fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// The first version behind a branch: `3` for `2.x` and `2.*`.
pub(super) fn behind_branch(text: &str) -> Option<Cow<'static, str>> {
    let text = text.trim();
    let branch = plain(text.strip_suffix(['x', 'X', '*'])?.strip_suffix('.')?)?;
    let (before, last) = branch.rsplit_once('.').map_or(("", branch), |(before, last)| (before, last));
    let next = last.parse::<u32>().ok()?.checked_add(1)?;
    Some(if before.is_empty() { next.to_string() } else { format!("{before}.{next}") }.into())
}

/// Whether it may be a commit, in whole or in short.
pub(super) fn is_commit(text: &str) -> bool {
    COMMIT_BYTES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `20240131`, as some number their releases.
fn is_date(text: &str) -> bool {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<u32>().ok());
    text.len() == 8
        && matches!(number(0, 4), Some(1980..=2099))
        && matches!(number(4, 6), Some(1..=12))
        && matches!(number(6, 8), Some(1..=31))
}

/// Numbers with dots between them, and what may follow: a letter for a patch (`1.1.1k`), a build (`7.1.0-62`), and
/// [`SUFFIXES`] with a number or without.
fn is_version(text: &str) -> Option<()> {
    let mut rest = digits(text)?.1;
    let mut dots = 0;
    while let Some((_, behind)) = rest.strip_prefix('.').and_then(digits) {
        (rest, dots) = (behind, dots + 1);
    }
    // `1-5` and `1.0-5` may as well be all from one to the other.
    if dots >= 2
        && let Some((_, "")) = rest.strip_prefix('-').and_then(digits)
    {
        return Some(());
    }
    let (patch, behind) = letters(rest);
    // The `x` of `2x` stands for any number; OpenSSL has had a 0.9.8x, and a 1.0.2zg.
    let is_patch = match patch {
        "x" => dots >= 2,
        _ => patch.len() == 1 || (patch.len() == 2 && dots >= 2 && patch.starts_with('z')),
    };
    if is_patch && patch.bytes().all(|byte| byte.is_ascii_lowercase()) && digits(behind).is_none() {
        rest = behind;
    }
    let mut seen = [false; SUFFIXES.len()];
    while !rest.is_empty() {
        let (word, behind) = letters(rest.strip_prefix(['.', '-', '_']).unwrap_or(rest));
        let is_known = |words: &&[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
        let group = SUFFIXES.iter().position(is_known)?;
        if std::mem::replace(seen.get_mut(group)?, true) {
            return None;
        }
        let number = digits(behind.strip_prefix(['.', '-', '_']).unwrap_or(behind));
        rest = number.map_or(behind, |(_, behind)| behind);
    }
    Some(())
}

/// The digits that text begins with, and the rest.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())
}

/// The letters that text begins with, and the rest.
fn letters(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_suffix_that_is_known_are_a_version_and_nothing_else_is() {
        for version in [
            "1",
            "1.0",
            "2024.1.30",
            "20240131",
            "1.1.1k",
            "0.9.8x",
            "1.0.2zg",
            "9e",
            "7.1.0-62",
            "1.0a1",
            "1.0rc2",
            "1.0.0-beta.1",
            "1.0.0-alpha",
            "1.0.RC1",
            "8.0p1",
            "1.9.5p2",
            "1.0.post1",
            "1.0rc1.dev3",
            "1.2-patch3",
            "1.0.2zg-dev",
        ] {
            assert_eq!(plain(version), Some(version), "{version}");
        }
        assert_eq!((plain(" v1.0 "), plain("V2")), (Some("1.0"), Some("2")));
        for text in [
            "",
            "v",
            "x",
            "2.x",
            "2.X",
            "2x",
            "1.2x",
            "1.x.3",
            "2.*",
            "1.0-1.5",
            "1-5",
            "1.0-5",
            "1.0~2.0",
            "1.0.0-1.5",
            "1.0+",
            "1.0.0+build",
            "2.4.1-and-earlier",
            "1.0 to 2.0",
            "1.0,1.1",
            "1.0/1.1",
            "1.0a1b2",
            "1.0.",
            "1..0",
            ".1",
            "1234567",
            "1a2b3c4",
            "12345b6",
            "0123456789abcdef0123456789abcdef01234567",
            "20241301",
            "1.0-rc1-rc2",
            "1.0é",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
        assert_eq!(plain(&"1".repeat(BYTES_MAX + 1)), None);
    }

    #[test]
    fn a_branch_ends_before_the_next_one() {
        for (text, expected) in
            [("2.x", Some("3")), ("5.4.*", Some("5.5")), (" v1.X", Some("2")), ("x", None)]
        {
            assert_eq!(behind_branch(text).as_deref(), expected, "{text}");
        }
        for text in ["2", "2x", ".x", "1.0rc1.x", "4294967295.x", "*", "1.*.*"] {
            assert_eq!(behind_branch(text), None, "{text}");
        }
    }
}
