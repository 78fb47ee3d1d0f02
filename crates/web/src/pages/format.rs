//! How times, sizes, hashes, verdicts and severities look: always a word, never colour alone.

use airlock_core::id::Digest;
use airlock_core::identity::Coverage;
use airlock_core::severity::Tenths;
use airlock_core::time::{Span, Time};
use airlock_core::verdict::Verdict;
use askama::Template;
use askama::filters::HtmlSafe;

/// A moment: its date, and how long ago that was.
#[derive(Template)]
#[template(path = "bits/when.html")]
pub(super) struct When {
    iso: String,
    date: String,
    ago: String,
}

/// A hash: twelve digits, whole in its title.
#[derive(Template)]
#[template(path = "bits/hash.html")]
pub(super) struct Hash {
    short: String,
    whole: String,
}

/// A verdict: shape and word.
#[derive(Template, Clone, Copy, PartialEq, Eq)]
#[template(path = "bits/mark.html")]
pub(super) struct Mark {
    class: &'static str,
    word: &'static str,
}

/// How bad a finding is: shape, word and number.
#[derive(Template, Clone)]
#[template(path = "bits/severity.html")]
pub(super) struct Severity {
    class: &'static str,
    number: Option<String>,
}

/// Running text in which what stands between backticks is code.
#[derive(Template)]
#[template(path = "bits/prose.html")]
pub(super) struct Prose {
    parts: Vec<(bool, String)>,
}

// Their templates escape what stands in them.
impl HtmlSafe for When {}
impl HtmlSafe for Hash {}
impl HtmlSafe for Mark {}
impl HtmlSafe for Severity {}
impl HtmlSafe for Prose {}

impl Prose {
    /// Reads a text. One backtick without another is itself: advisories are cut anywhere.
    pub(super) fn new(text: &str) -> Self {
        if text.matches('`').count() % 2 == 1 {
            return Self { parts: vec![(false, text.to_owned())] };
        }
        let parts = text.split('`').enumerate().map(|(at, part)| (at % 2 == 1, part.to_owned()));
        Self { parts: parts.filter(|(_, part)| !part.is_empty()).collect() }
    }
}

impl When {
    /// `time`, seen from `now`.
    pub(super) fn new(time: Time, now: Time) -> Self {
        Self { iso: time.to_string(), date: time.date(), ago: ago(time, now) }
    }

    /// The date alone.
    pub(super) fn date(&self) -> &str {
        &self.date
    }

    /// To the second, in UTC.
    pub(super) fn iso(&self) -> &str {
        &self.iso
    }

    /// How long ago alone.
    pub(super) fn ago(&self) -> &str {
        &self.ago
    }
}

impl Hash {
    /// Any digest.
    pub(super) fn new(digest: Digest) -> Self {
        Self { short: digest.short(), whole: digest.to_string() }
    }
}

impl Mark {
    /// What the sending station left out.
    pub(super) const LEFT_OUT: Self = Self { class: "left", word: "left out by sender" };

    /// What the source no longer lists, so that only older snapshots have it.
    pub(super) const GONE: Self = Self { class: "gone", word: "no longer listed" };

    /// A verdict.
    pub(super) const fn of(verdict: Verdict) -> Self {
        let class = match verdict {
            Verdict::Admit => "admit",
            Verdict::Hold => "hold",
            Verdict::Deny => "deny",
        };
        Self { class, word: verdict.word() }
    }

    /// Its name in addresses.
    pub(super) fn key(self) -> &'static str {
        match self.class {
            "admit" => "admitted",
            "hold" => "held",
            "deny" => "denied",
            "left" => "left-out",
            other => other,
        }
    }

    /// The word.
    pub(super) const fn word(self) -> &'static str {
        self.word
    }
}

impl Severity {
    /// A score; none is said as such.
    pub(super) fn of(score: Option<Tenths>) -> Self {
        Self { class: score.map_or("unscored", Tenths::band), number: score.map(|s| s.to_string()) }
    }
}

/// How long before `now` a time was, or how far ahead it lies.
pub(super) fn ago(time: Time, now: Time) -> String {
    let (span, ahead) = if time > now { (time.since(now), true) } else { (now.since(time), false) };
    let seconds = span.as_seconds();
    if seconds < 60 {
        return if ahead { "in a moment" } else { "just now" }.to_owned();
    }
    let text = rough(span);
    if ahead { format!("in {text}") } else { format!("{text} ago") }
}

/// A span in the unit that people would name.
pub(super) fn rough(span: Span) -> String {
    const UNITS: [(i64, &str, i64); 5] = [
        (60, "second", 1),
        (3_600, "minute", 60),
        (2 * 86_400, "hour", 3_600),
        (90 * 86_400, "day", 86_400),
        (730 * 86_400, "month", 30 * 86_400 + 36_000),
    ];
    let seconds = span.as_seconds();
    let fits = UNITS.iter().find(|(below, ..)| seconds < *below);
    let (unit, length) = fits.map_or(("year", 31_557_600), |(_, unit, length)| (unit, *length));
    count(u64::try_from(seconds / length).unwrap_or_default(), unit)
}

/// `1 file`, `1,204 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// A number with commas.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size as disks are sold.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// A text as one segment of a URL's path, or one value in its query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A text as one word of a shell's command line.
pub(super) fn shell_word(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+=:/@".contains(&b));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// An id for an anchor within a page.
pub(super) fn anchor(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect()
}

/// What a coverage means, in a sentence.
pub(super) const fn coverage(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Verified => {
            "Verified: the name is certain, so an advisory about this package would be found."
        }
        Coverage::Automatic => {
            "Automatic: advisories are found through a map or a rule of names that nobody here has reviewed."
        }
        Coverage::NoneNeeded => "None needed: a person ruled that no advisory can concern this package.",
        Coverage::Unknown => {
            "Unknown coverage: no advisory could have matched; this is not the same as clean."
        }
    }
}

/// The same in a word or two, for tables.
pub(super) const fn coverage_word(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Verified => "verified",
        Coverage::Automatic => "automatic",
        Coverage::NoneNeeded => "none needed",
        Coverage::Unknown => "unknown coverage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = Time::from_seconds(2_000_000_000);
        let table = [
            (5, "just now"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (3 * 86_400, "3 days ago"),
            (89 * 86_400, "89 days ago"),
            (100 * 86_400, "3 months ago"),
            (800 * 86_400, "2 years ago"),
            (-14 * 86_400, "in 14 days"),
        ];
        for (before, expected) in table {
            assert_eq!(ago(Time::from_seconds(now.seconds() - before), now), expected);
        }
    }

    #[test]
    fn sizes_and_numbers_are_readable() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_950_000), "1.9 MB");
        assert_eq!(size(4_700_000_000), "4.7 GB");
        assert_eq!(thousands(30_000), "30,000");
        assert_eq!(thousands(999), "999");
        assert_eq!(count(1, "file"), "1 file");
    }

    #[test]
    fn what_goes_into_urls_and_shells_is_quoted() {
        assert_eq!(encoded("1!2.0+cu 12/<"), "1%212.0%2Bcu%2012%2F%3C");
        assert_eq!(shell_word("a==1!2"), "'a==1!2'");
        assert_eq!(shell_word("a'b"), "'a'\\''b'");
        assert_eq!(shell_word("torch==2.1+cu121"), "torch==2.1+cu121");
        assert_eq!(anchor("CVE-2024-1 <x>"), "CVE-2024-1--x-");
    }
}
