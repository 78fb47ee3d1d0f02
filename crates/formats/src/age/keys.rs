//! Recipients and identities as people write them.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::bech32;

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";
/// Largest file of identities, in bytes.
pub const IDENTITIES_BYTES_MAX: u64 = 64 << 10;
/// How much of what somebody wrote is repeated to them, in characters.
const SHOWN_CHARS: usize = 80;

/// Whoever a file is encrypted to: an X25519 public key, `age1...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(pub [u8; 32]);

/// A text that is no recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no age recipient, which begins with `age1` and has 62 characters")]
pub struct RecipientError(String);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(RECIPIENT, &self.0))
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        let key = bech32::decode(RECIPIENT, text).and_then(|bytes| bytes.try_into().ok());
        // Somebody may have taken the secret half for the public one.
        let is_secret = text.to_ascii_lowercase().starts_with(IDENTITY);
        let shown = || match is_secret {
            true => "AGE-SECRET-KEY-...".to_owned(),
            false => text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect(),
        };
        key.map(Self).ok_or_else(|| RecipientError(shown()))
    }
}

/// The secret half of a recipient, `AGE-SECRET-KEY-1...`. It is wiped from memory when it is let go of.
#[derive(Clone)]
pub struct Identity(Zeroizing<[u8; 32]>);

impl fmt::Debug for Identity {
    /// Never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl From<[u8; 32]> for Identity {
    fn from(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }
}

impl Identity {
    /// Its bytes.
    pub fn secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it stands in a file.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(bech32::encode(IDENTITY, self.0.as_slice()).to_ascii_uppercase())
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(bech32::decode(IDENTITY, text)?);
        let secret = <[u8; 32]>::try_from(bytes.as_slice()).ok()?;
        Some(Self(Zeroizing::new(secret)))
    }
}

/// A line of a file of identities that holds none. What stands there is not repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} holds no identity that is known here, which would begin with `AGE-SECRET-KEY-1`")]
pub struct IdentityError(usize);

/// The identities of a file, as `age-keygen` writes it: one a line, among lines that are empty or begin with `#`.
///
/// # Errors
///
/// Another line.
pub fn identities(text: &str) -> Result<Vec<Identity>, IdentityError> {
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim_end()));
    let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    told.map(|(number, line)| Identity::read(line).ok_or(IdentityError(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A pair that `age-keygen` made for this.
    const PUBLIC: &str = "age1fv8w8wx8qf7sguqsflj45qceyfnc7zmdp0q6xgkwekmsd72c4eqs834897";
    const SECRET: &str = "AGE-SECRET-KEY-1WYGQTEKTZGJD6J07V2RRXGU2DN0CRALAP2D73YGD59K20LQ4PMXSW8W4W8";

    #[test]
    fn keys_are_read_and_written_as_age_keygen_does() {
        let recipient: Recipient = PUBLIC.parse().unwrap();
        assert_eq!(recipient.to_string(), PUBLIC);
        let file =
            format!("# created: 2026-01-01T00:00:00Z\n# public key: {PUBLIC}\n{SECRET}\n\n{SECRET}\r\n");
        let read = identities(&file).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].text().as_str(), SECRET);
        assert_eq!(format!("{:?}", read[0]), "Identity");
    }

    #[test]
    fn what_is_no_key_is_told_without_repeating_a_secret() {
        for bad in ["", "age1", &PUBLIC[..61], &PUBLIC.replace("fv8", "fv9"), "ssh-ed25519 AAAA", SECRET] {
            let error = bad.parse::<Recipient>().unwrap_err().to_string();
            assert!(!error.contains("WYGQTE"), "{error}");
        }
        let wrong = SECRET.replace("WYG", "WYP");
        for (text, line) in [(wrong.as_str(), 1), ("# x\n\nAGE-PLUGIN-X-1\n", 3), (PUBLIC, 1)] {
            let error = identities(text).unwrap_err();
            assert_eq!(error, IdentityError(line));
            assert!(!error.to_string().contains("QTEKTZG"));
        }
        assert!(identities("# nothing\n").unwrap().is_empty());
    }
}
