//! Which proxy to go through, and as whom.

use std::fmt;
use std::path::Path;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::values::read_small;

/// The largest file of a password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Which proxy requests go through.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Proxy {
    /// What the environment says.
    #[default]
    Environment,
    /// None, whatever the environment says.
    Direct,
    /// This one: `http`, `https`, `socks5` (names are resolved here) or `socks5h` (by the proxy).
    Url(Url),
}

impl fmt::Debug for Proxy {
    /// Never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Proxy {
    /// For messages: without user and password.
    pub fn shown(&self) -> String {
        match self {
            Self::Environment => "environment".to_owned(),
            Self::Direct => "direct".to_owned(),
            Self::Url(url) => {
                format!(
                    "{}://{}{}",
                    url.scheme(),
                    url.host_str().unwrap_or_default(),
                    url.port().map(|p| format!(":{p}")).unwrap_or_default()
                )
            }
        }
    }
}

impl TryFrom<String> for Proxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "environment" => return Ok(Self::Environment),
            "direct" => return Ok(Self::Direct),
            _ => {}
        }
        // The text may hold a password, and is not repeated.
        let url = Url::parse(&text).map_err(|e| {
            format!("it is not `direct`, `environment` or the URL of a proxy, such as http://proxy.example:3128 ({e})")
        })?;
        if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") || url.host_str().is_none() {
            return Err("a proxy is an http://, https://, socks5:// or socks5h:// URL".to_owned());
        }
        Ok(Self::Url(url))
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        match proxy {
            Proxy::Url(url) => url.into(),
            other => other.shown(),
        }
    }
}

/// Who this station is to a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAuth {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for ProxyAuth {
    /// Never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyAuth({})", self.user)
    }
}

/// The first line of a file.
pub(super) fn password_file(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read_small(path, PASSWORD_BYTES_MAX)?)
        .map_err(|_| format!("{} is not UTF-8", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("the first line of {} is empty", path.display())),
    }
}
