//! Small values of the network configuration: lengths of time, prefixes, hosts, small files.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)];
/// The longest length of time that a key of the network may be: a day, in milliseconds.
const PERIOD_MAX_MS: u64 = 24 * 3_600_000;

/// A length of time as configuration writes it: `10ms`, `2s`, `5min`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

impl Period {
    /// That many milliseconds.
    pub const fn milliseconds(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// How long it is.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
        match (count.parse::<u64>().ok(), unit) {
            (Some(count), Some((_, ms))) if count.saturating_mul(*ms) <= PERIOD_MAX_MS => {
                Ok(Self::milliseconds(count * ms))
            }
            _ => Err("it is not a length of time of at most a day, such as 500ms, 2s or 5min".to_owned()),
        }
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        format!("{}ms", period.0.as_millis())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// Reads a prefix of addresses. It ends at a segment, so that `/conda` does not fit `/conda-forge`.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let mut url = Url::parse(text).map_err(|e| format!("it is not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("it is not an http:// or https:// URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it names a user; users belong to the source's own address".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment".to_owned());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url.into())
}

/// What an entry of `hosts` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// This name, in lower case.
    Name(String),
    /// Every name that ends so: `.files.upstream.example`.
    Below(String),
    /// This address.
    Address(IpAddr),
}

/// Reads an entry of `hosts`: a name, `*.` and a name, or an address; no port.
pub(crate) fn host(text: &str) -> Result<Host, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(Host::Address(address));
    }
    let (below, name) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    // The URL's own reading of the name, so that both sides of a comparison are spelled alike.
    let read = Url::parse(&format!("https://{name}/")).ok();
    let read = read.as_ref().and_then(Url::host_str).filter(|_| !name.is_empty() && name.chars().all(plain));
    let Some(read) = read else {
        return Err(format!("`{text}` is not the name or address of a host, without port and path"));
    };
    if let Ok(address) = read.parse() {
        return Ok(Host::Address(address));
    }
    Ok(if below { Host::Below(format!(".{read}")) } else { Host::Name(read.to_owned()) })
}

/// A file that a person configured, of at most so many bytes.
pub(super) fn read_small(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(bytes_max + 1).read_to_end(&mut bytes));
    read.map_err(|e| format!("{shown}: {e}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{shown} is larger than {bytes_max} bytes"));
    }
    Ok(bytes)
}
