//! The order in which C libraries and tools number their releases: numbers, behind which a letter is a later patch
//! (`1.1.1 < 1.1.1k < 1.1.1l`, OpenSSL, jpeg, tz) and a word of the kind of `rc` an earlier trial.
//!
//! It follows no document, since there is none: OpenSSL's releases before 3.0 are the ones that set the fashion.

use std::cmp::Ordering;

/// Letters behind a release that count as a patch: OpenSSL came to `0.9.8zh`.
const PATCH_LETTERS_MAX: usize = 3;
/// A version, in bytes. Longer ones nobody releases.
const BYTES_MAX: usize = 200;

/// What stands behind the numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A trial before the release: how far it is from it, and its number.
    Trial(u8, Number),
    /// The release ends here.
    End,
    /// A patch behind the release, by its letters, and its number.
    Patch(String, Number),
    /// A number behind one of those.
    Number(Number),
}

/// A number of any length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Number(String);

impl Number {
    fn of(digits: &str) -> Self {
        Self(digits.trim_start_matches('0').to_owned())
    }

    const fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A version, read. What lies between its parts (`.`, `-`, `_`, `~`) decides nothing, so that conda's `1.0_1` is the
/// upstream's `1.0-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    /// Without zeros at the end: `1.0` is `1`.
    release: Vec<Number>,
    /// Ends with [`Part::End`].
    rest: Vec<Part>,
}

/// How far a word is from the release that it precedes; none if it is no such word.
fn trial(word: &str) -> Option<u8> {
    Some(match word {
        "dev" | "snapshot" | "git" => 0,
        "alpha" => 1,
        "beta" => 2,
        "pre" | "preview" | "prerelease" => 3,
        "rc" | "cr" => 4,
        _ => return None,
    })
}

/// Whether a word says that what follows is later than the release.
fn is_patch_word(word: &str) -> bool {
    matches!(word, "patch" | "post" | "update" | "release" | "stable" | "final" | "hotfix")
}

impl Version {
    /// None if it does not begin with a number, or says something that this order does not know.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        // What a packager adds behind `+` is no part of the release.
        let text = text.split('+').next().unwrap_or_default().to_ascii_lowercase();
        let mut tokens = tokens(text.strip_prefix('v').unwrap_or(&text))?.into_iter().peekable();
        let mut release = numbers(&mut tokens);
        if let Some(time) = time_of_day(&release, &tokens) {
            tokens = time;
            release.extend(numbers(&mut tokens));
            tokens.next_if_eq(&"z");
        }
        if release.is_empty() {
            return None;
        }
        while release.last().is_some_and(Number::is_zero) {
            release.pop();
        }
        let mut rest = Vec::new();
        while let Some(token) = tokens.next() {
            if token.starts_with(|c: char| c.is_ascii_digit()) {
                rest.push(Part::Number(Number::of(token)));
                continue;
            }
            let number = tokens.next_if(|t| t.starts_with(|c: char| c.is_ascii_digit()));
            let number = number.map(Number::of).unwrap_or_default();
            rest.push(match trial(token) {
                Some(distance) => Part::Trial(distance, number),
                // `final` alone says nothing.
                None if is_patch_word(token) && number.is_zero() => continue,
                None if is_patch_word(token) => Part::Patch("p".to_owned(), number),
                None if token.len() <= PATCH_LETTERS_MAX => Part::Patch(token.to_owned(), number),
                None => return None,
            });
        }
        rest.push(Part::End);
        Some(Self { release, rest })
    }
}

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

/// The numbers that come next.
fn numbers(tokens: &mut Tokens<'_>) -> Vec<Number> {
    let number = || tokens.next_if(|t| t.starts_with(|c: char| c.is_ascii_digit()));
    std::iter::from_fn(number).map(Number::of).collect()
}

/// What follows the `T` between a day and a time of day. MinIO calls its releases by moments (`2022-04-12T06-55-35Z`),
/// and conda by the numbers of them alone.
fn time_of_day<'a>(day: &[Number], tokens: &Tokens<'a>) -> Option<Tokens<'a>> {
    let is_day = day.len() == 3 && day[0].0.len() == 4;
    let mut rest = tokens.clone();
    let is_time = rest.next() == Some("t") && rest.peek()?.starts_with(|c: char| c.is_ascii_digit());
    (is_day && is_time).then_some(rest)
}

/// Runs of digits and of letters; none if there is anything else but what may lie between them.
fn tokens(text: &str) -> Option<Vec<&str>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_digit = first.is_ascii_digit();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() || c.is_ascii_digit() != is_digit);
        let end = end.unwrap_or(rest.len());
        if end == 0 {
            if !matches!(first, '.' | '-' | '_' | '~') {
                return None;
            }
            rest = &rest[1..];
            continue;
        }
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_later_patches_and_words_earlier_trials() {
        let rising = [
            "0.9.8",
            "0.9.8a",
            "0.9.8y",
            "0.9.8z",
            "0.9.8za",
            "0.9.8zh",
            "1.0.0-alpha1",
            "1.0.0beta3",
            "1.0.0-rc2",
            "1.0.0_rc10",
            "1.0.0",
            "1.0.0a",
            "1.1.1",
            "1.1.1k",
            "1.1.1l",
            "1.1.1w",
            "3.0.0~pre1",
            "3.0",
            "3.0.0p1",
            "3.0.0.p2",
            "3.0.7",
            "3.0.13",
            "20230101",
        ];
        for (at, low) in rising.iter().enumerate() {
            for high in &rising[at + 1..] {
                let (low, high) = (Version::parse(low).unwrap(), Version::parse(high).unwrap());
                assert!(low < high, "{low:?} {high:?}");
            }
        }
    }

    #[test]
    fn spellings_of_one_version_are_equal() {
        for (a, b) in [
            ("1.0", "1"),
            ("v1.2.0", "1.2"),
            ("1.0_1", "1.0-1"),
            ("1.0-RC1", "1.0rc1"),
            ("1.01", "1.1"),
            ("2.0+local.1", "2.0"),
            ("4.2.8p15", "4.2.8-patch15"),
            ("4.0.final", "4.0"),
            ("2022-04-12t06-55-35z", "2022.04.12.06.55.35"),
        ] {
            assert_eq!(Version::parse(a).unwrap(), Version::parse(b).unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn a_moment_is_later_than_its_day_and_earlier_than_the_next() {
        let moment = Version::parse("2022-04-12T06-55-35Z").unwrap();
        for (other, order) in [
            ("2022-04-12", Ordering::Greater),
            ("2022.04.12.06.55.34", Ordering::Greater),
            ("2022-04-12T06-55-36Z", Ordering::Less),
            ("2022.04.13", Ordering::Less),
        ] {
            assert_eq!(moment.cmp(&Version::parse(other).unwrap()), order, "{other}");
        }
        // Elsewhere it is a letter like others.
        assert!(Version::parse("1.2.3t4").unwrap() < Version::parse("1.2.3u").unwrap());
        assert!(Version::parse("2022.4.12t").unwrap() > Version::parse("2022.4.12s").unwrap());
    }

    #[test]
    fn what_it_does_not_know_is_unreadable() {
        for bad in ["", "x", "rc1", "1.0-bulbasaur", "1.0 2", "1.0é", "1/2", &"1".repeat(201)] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        // No number is too long.
        assert!(
            Version::parse("1.99999999999999999999999").unwrap()
                > Version::parse("1.9999999999999999999999").unwrap()
        );
    }
}
