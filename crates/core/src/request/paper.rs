//! The file in which requests leave: text that a person reads and releases line by line.
//!
//! ```text
//! # Airlock requests 1
//! # key ed25519 7d4f...
//! airlock-request/1 r1 conda main numpy>=2 2026-03-01T12:00:00Z - "needed for the weather model" ed25519 99ab...
//! ```
//!
//! Each line is signed by itself, over its bytes before ` ed25519 `; so whoever releases the file may take out whole lines, and
//! what is left stays valid. A line has one spelling, and nothing but its fields.

use std::fmt;

use super::{asked_spec, printable};
use crate::channel::is_channel_name;
use crate::ecosystem::Ecosystem;
use crate::hex;
use crate::time::Time;

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most requests in one file.
pub const LINES_MAX: usize = 1000;
/// Longest reason that leaves, in characters.
pub const REASON_CHARS_MAX: usize = 100;
/// Longest name of whoever asks that leaves, in characters.
pub const ASKER_CHARS_MAX: usize = 40;

/// The first line.
const HEADER: &str = "# Airlock requests 1";
/// What stands before the key.
const KEY: &str = "# key ed25519 ";
/// What each request begins with: no other thing that a station signs does.
const TAG: &str = "airlock-request/1";
/// What stands between what is signed and the signature.
const SIGNED: &str = " ed25519 ";
/// Stands for nobody.
const NOBODY: &str = "-";
/// What else the file tells whoever reads it.
const README: &str = "\
# What a station without a network asks for. One line is one request: its number, the ecosystem, the channel, the package,
# when it was asked for, by whom (- if that is not told), and why. Whoever releases this file may take out whole lines;
# each is signed by itself, and the others stay valid. docs/requests.md says how to check them with openssl.
";

/// What of a request leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name where it was made.
    pub id: String,
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// The channel.
    pub channel: String,
    /// The package and versions, as [`asked_spec`] spells them.
    pub spec: String,
    /// When it was asked for.
    pub asked: Time,
    /// By whom, where that is told.
    pub by: Option<String>,
    /// Why; empty where that is not told.
    pub reason: String,
}

impl Asked {
    /// Who asks, as a word that may leave: nobody if nothing of the name is left.
    pub fn asker(name: &str) -> Option<String> {
        let plain = |c: &char| c.is_ascii_alphanumeric() || "._@-".contains(*c);
        let word: String = name.chars().filter(plain).take(ASKER_CHARS_MAX).collect();
        (!word.is_empty() && word != NOBODY).then_some(word)
    }

    /// A reason as it may leave.
    pub fn reason(text: &str) -> String {
        printable(text, REASON_CHARS_MAX)
    }

    fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(8, ' ');
        let mut next = || fields.next();
        if next()? != TAG {
            return None;
        }
        let id = next().filter(|id| is_id(id))?.to_owned();
        let ecosystem: Ecosystem = next()?.parse().ok()?;
        let channel = next().filter(|name| is_channel_name(name))?.to_owned();
        let spec = next()?.to_owned();
        let asked = next()?.parse().ok()?;
        let by = next().filter(|by| *by != NOBODY).map(str::to_owned);
        let reason = next()?.strip_prefix('"')?.strip_suffix('"')?.to_owned();
        let read = Self { id, ecosystem, channel, spec, asked, by, reason };
        let fits = read.to_string() == line
            && asked_spec(ecosystem, &read.spec).is_ok_and(|spec| spec == read.spec)
            && read.by.as_ref().is_none_or(|by| Self::asker(by).as_ref() == Some(by))
            && Self::reason(&read.reason) == read.reason;
        fits.then_some(read)
    }
}

/// What is signed.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ecosystem, channel, spec, asked, by, reason } = self;
        let by = by.as_deref().unwrap_or(NOBODY);
        write!(f, "{TAG} {id} {ecosystem} {channel} {spec} {asked} {by} \"{reason}\"")
    }
}

/// Whether this is the name of a request: `r` and a number.
fn is_id(id: &str) -> bool {
    let number = id.strip_prefix('r').and_then(|n| n.parse::<u64>().ok());
    number.is_some_and(|n| n > 0 && format!("r{n}") == id)
}

/// One line of a file. Its signature is not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which line it is, from 1.
    pub number: usize,
    /// What it asks.
    pub asked: Asked,
    /// The signature over [`Asked`] as text.
    pub signature: [u8; 64],
}

/// A file of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// The key that the file says to be signed with.
    pub public_key: [u8; 32],
    /// The requests.
    pub lines: Vec<Line>,
}

/// A file that is none of requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPaper {
    /// Its beginning.
    #[error("it does not begin as a file of requests does")]
    Header,
    /// No key.
    #[error("it does not say with which key it is signed")]
    Key,
    /// A line.
    #[error("line {0} is no request, or was changed")]
    Line(usize),
    /// Too long.
    #[error("it holds more than {LINES_MAX} requests")]
    TooMany,
}

impl Paper {
    /// The text of a file.
    pub fn write(public_key: &[u8; 32], lines: &[(Asked, [u8; 64])]) -> String {
        let mut out = format!("{HEADER}\n{README}{KEY}{}\n", hex::encode(public_key));
        for (asked, signature) in lines {
            out += &format!("{asked}{SIGNED}{}\n", hex::encode(signature));
        }
        out
    }

    /// Reads a file, as it was written or with whole lines taken out. Lines that begin with `#` are for people, empty ones and the
    /// line ends of other systems do not count.
    ///
    /// # Errors
    ///
    /// One line that is no request makes the whole file none.
    pub fn read(text: &str) -> Result<Self, BadPaper> {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(HEADER) {
            return Err(BadPaper::Header);
        }
        let (mut key, mut out) = (None, Vec::new());
        for (number, line) in (2..).zip(lines) {
            let bad = || BadPaper::Line(number);
            if !line.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return Err(bad());
            }
            if let Some(named) = line.strip_prefix(KEY) {
                let named = hex::decode::<32>(named.trim_end()).ok_or(BadPaper::Key)?;
                if key.replace(named).is_some_and(|before| before != named) {
                    return Err(BadPaper::Key);
                }
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if out.len() >= LINES_MAX {
                return Err(BadPaper::TooMany);
            }
            let (message, signature) = line.rsplit_once(SIGNED).ok_or_else(bad)?;
            let is_ours = |bytes: &[u8; 64]| hex::encode(bytes) == signature;
            let signature = hex::decode::<64>(signature).filter(is_ours).ok_or_else(bad)?;
            let asked = Asked::read(message).ok_or_else(bad)?;
            out.push(Line { number, asked, signature });
        }
        Ok(Self { public_key: key.ok_or(BadPaper::Key)?, lines: out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            id: "r1".into(),
            ecosystem: Ecosystem::Conda,
            channel: "main".into(),
            spec: "numpy>=2".into(),
            asked: Time::from_seconds(0),
            by: None,
            reason: "for the model".into(),
        }
    }

    #[test]
    fn golden_bytes_of_what_is_signed() {
        let golden = r#"airlock-request/1 r1 conda main numpy>=2 1970-01-01T00:00:00Z - "for the model""#;
        assert_eq!(asked().to_string(), golden);
        let told = Asked { by: Asked::asker("ada \u{7}lovelace"), reason: String::new(), ..asked() };
        let golden = r#"airlock-request/1 r1 conda main numpy>=2 1970-01-01T00:00:00Z adalovelace """#;
        assert_eq!(told.to_string(), golden);
        assert_eq!(Asked::read(golden), Some(told));
    }

    #[test]
    fn a_file_is_read_again_and_stays_valid_without_some_of_its_lines() {
        let second = Asked { id: "r2".into(), spec: "idna".into(), ..asked() };
        let text = Paper::write(&[7; 32], &[(asked(), [1; 64]), (second.clone(), [2; 64])]);
        let read = Paper::read(&text).unwrap();
        assert_eq!(read.public_key, [7; 32]);
        assert_eq!(read.lines.iter().map(|l| &l.asked).collect::<Vec<_>>(), [&asked(), &second]);
        let struck: String =
            text.lines().filter(|l| !l.contains(" r1 ")).map(|l| format!("{l}\r\n")).collect();
        assert_eq!(Paper::read(&struck).unwrap().lines[0].asked, second);
    }

    #[test]
    fn whatever_is_no_request_is_refused_by_its_line() {
        let text = Paper::write(&[7; 32], &[(asked(), [1; 64])]);
        assert!(Paper::read(&text).is_ok());
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Paper::read(&text.replace(from, to)).unwrap_err()
        };
        let line = text.lines().count();
        for (from, to) in [
            ("numpy>=2", "num\u{440}y>=2"),
            ("numpy>=2", "NumPy>=2"),
            ("numpy>=2", "n*"),
            ("numpy>=2 ", "numpy>=2  "),
            (" r1 ", " r01 "),
            (" r1 ", " r0 "),
            (" main ", " ../main "),
            (" conda ", " Conda "),
            (" - ", " a;b "),
            ("for the model", "for  the model"),
            ("for the model", "for \"the\" model"),
            ("for the model", "for\u{1b}[2J the model"),
            ("airlock-request/1", "airlock-request/2"),
            ("1970-01-01T00:00:00Z", "1970-01-01"),
            ("ed25519 01", "ed25519 0x"),
            ("ed25519 0101", "ed25519  0101"),
        ] {
            assert_eq!(changed(from, to), BadPaper::Line(line), "{to}");
        }
        let long = format!("\"{}\"", "x".repeat(REASON_CHARS_MAX + 1));
        assert_eq!(changed("\"for the model\"", &long), BadPaper::Line(line));
        assert_eq!(changed("requests 1", "requests 2"), BadPaper::Header);
        assert_eq!(changed("# key", "# keys"), BadPaper::Key);
        assert_eq!(Paper::read("").unwrap_err(), BadPaper::Header);
        let many = vec![(asked(), [1; 64]); LINES_MAX + 1];
        assert_eq!(Paper::read(&Paper::write(&[7; 32], &many)), Err(BadPaper::TooMany));
        assert!((Paper::write(&[7; 32], &many[1..]).len() as u64) < FILE_BYTES_MAX);
    }
}
