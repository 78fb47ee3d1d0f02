//! `[network]` of `airlock.toml`: how this station reaches its sources.
//!
//! `[network]` holds for every source; `[[network.source]]` for addresses that begin with its `prefix`. Of all that
//! fit an address the longest `prefix` that sets a key wins, key by key. What belongs to a proxy (its user and where
//! its password is) counts only where the proxy itself is set, so that no password goes to another proxy.

mod proxy;
mod quiet;
mod values;

pub use proxy::{Proxy, ProxyAuth};
pub use quiet::{QuietHours, quiet_until};
pub use values::Period;
pub(crate) use values::{Host, host};

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::station::CONFIG;

/// Requests to one host at a time, unless `connections_per_host` says otherwise.
const CONNECTIONS_PER_HOST: usize = 8;
/// The most that `connections_per_host` may be.
const CONNECTIONS_PER_HOST_MAX: usize = 256;
/// How often one thing is tried again without progress, unless `retries` says otherwise.
const RETRIES: u32 = 5;
/// The most that `retries` may be.
const RETRIES_MAX: u32 = 100;
/// The first wait before trying again, unless `retry_base` says otherwise. It doubles from try to try.
const RETRY_BASE: Duration = Duration::from_millis(500);
/// How long a connection may take to come up, unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an upstream may stay silent, unless `read_timeout` says otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// What a body must bring on average, in bytes per second, unless `slowest_bytes_per_second` says otherwise: a tenth
/// of an old modem.
const SLOWEST_BYTES_PER_SECOND: u64 = 512;
/// Over how much waiting that average is taken, unless `slowest_window` says otherwise.
const SLOWEST_WINDOW: Duration = Duration::from_secs(60);
/// The largest file of extra certificates, in bytes.
const CA_BYTES_MAX: u64 = 4 << 20;

/// The keys that `[network]` and each `[[network.source]]` may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// `environment` (the default: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), `direct`, or the URL of an
    /// HTTP(S) or SOCKS5 proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Who this station is to the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_user: Option<String>,
    /// The environment variable that holds the proxy's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_password_env: Option<String>,
    /// The file whose first line is the proxy's password; relative to the station's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_password_file: Option<PathBuf>,
    /// The environment variable that holds the key of this source's API, sent as `apiKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The file whose first line is that key; relative to the station's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// The least time between two questions to an API that answers page by page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_interval: Option<Period>,
    /// Hosts, domains and networks that are reached without the configured proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<Vec<String>>,
    /// A PEM file of certificate authorities that are trusted beside the system's; relative to the station's
    /// directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Requests to one host at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_host: Option<usize>,
    /// The most that all requests of this process under this section may bring together; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// When nothing is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<Vec<QuietHours>>,
    /// Further hosts that an index or a redirect of these sources may lead to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// How often one thing is tried again without progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The first wait before trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_base: Option<Period>,
    /// How long a connection may take to come up, through a proxy too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Period>,
    /// How long an upstream may stay silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<Period>,
    /// What a body must bring on average; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_bytes_per_second: Option<u64>,
    /// Over how much waiting that average is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_window: Option<Period>,
}

/// `[[network.source]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Addresses that begin so are meant; it ends in `/`.
    pub prefix: String,
    /// What holds for them.
    #[serde(flatten)]
    pub section: Section,
}

/// `[network]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Network {
    /// What holds for every source.
    #[serde(flatten)]
    pub all: Section,
    /// What holds for some, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Source>,
}

/// What holds for one address.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    section: Section,
    /// The prefix that set `bytes_per_second`, by which those who share it are known; empty for `[network]`.
    rate_scope: String,
}

impl TryFrom<toml::Table> for Network {
    type Error = String;

    fn try_from(mut table: toml::Table) -> std::result::Result<Self, String> {
        let sources = table.remove("source").unwrap_or_else(|| toml::Value::Array(Vec::new()));
        let toml::Value::Array(sources) = sources else {
            return Err("`source` is a list: write [[network.source]]".to_owned());
        };
        let all = section(table, "[network]")?;
        let mut source: Vec<Source> = Vec::new();
        for (n, value) in sources.into_iter().enumerate() {
            let place = format!("[[network.source]] number {}", n + 1);
            let toml::Value::Table(mut table) = value else { return Err(format!("{place} is not a table")) };
            let prefix = match table.remove("prefix") {
                Some(toml::Value::String(text)) => values::prefix(&text),
                Some(_) => Err("it is not a text".to_owned()),
                None => Err("it is missing".to_owned()),
            };
            let prefix = prefix.map_err(|e| format!("{place}: `prefix`: {e}"))?;
            if source.iter().any(|s| s.prefix == prefix) {
                return Err(format!("{place}: `prefix`: {prefix} stands there twice"));
            }
            source.push(Source { section: section(table, &place)?, prefix });
        }
        // A key is for the one who gave it.
        if all.api_key_env.is_some() || all.api_key_file.is_some() {
            return Err("[network]: a key of an API belongs under a [[network.source]]".to_owned());
        }
        Ok(Self { all, source })
    }
}

/// Reads the keys of one section; `place` says which for errors, which never repeat a value that may be a secret.
fn section(table: toml::Table, place: &str) -> std::result::Result<Section, String> {
    let mut section = Section::default();
    // One key at a time, so that the error can name it.
    for (key, value) in table {
        let one = toml::Table::from_iter([(key.clone(), value)]);
        let read: Section = one.try_into().map_err(|e: toml::de::Error| {
            if e.message().contains("unknown field") {
                format!("{place}: {}", e.message())
            } else {
                format!("{place}: `{key}`: {}", e.message())
            }
        })?;
        section.overlay(&read);
    }
    section.check().map_err(|(key, why)| format!("{place}: `{key}`: {why}"))?;
    Ok(section)
}

impl Section {
    /// Takes every key that `over` sets.
    fn overlay(&mut self, over: &Self) {
        macro_rules! take {
            ($($key:ident),*) => { $(if over.$key.is_some() { self.$key.clone_from(&over.$key); })* };
        }
        take!(proxy, proxy_user, proxy_password_env, proxy_password_file, no_proxy, ca_file);
        take!(api_key_env, api_key_file, request_interval);
        take!(connections_per_host, bytes_per_second, quiet_hours, hosts);
        take!(retries, retry_base, connect_timeout, read_timeout, slowest_bytes_per_second, slowest_window);
    }

    /// What each key must be by itself: the key and what is wrong with it.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let fail = |key, why: &str| Err((key, why.to_owned()));
        let has_url = matches!(&self.proxy, Some(Proxy::Url(_)));
        if self.proxy_user.is_some() && !has_url {
            return fail("proxy_user", "it needs a `proxy` with a URL beside it");
        }
        if self.proxy_user.is_some()
            && let Some(Proxy::Url(url)) = &self.proxy
            && !url.username().is_empty()
        {
            return fail("proxy_user", "the URL of `proxy` names a user already");
        }
        for (key, set) in [
            ("proxy_password_env", self.proxy_password_env.is_some()),
            ("proxy_password_file", self.proxy_password_file.is_some()),
        ] {
            if set && self.proxy_user.is_none() {
                return fail(key, "it needs `proxy_user`");
            }
        }
        if self.proxy_password_env.is_some() && self.proxy_password_file.is_some() {
            return fail("proxy_password_file", "`proxy_password_env` is set too: give one of them");
        }
        if self.api_key_env.is_some() && self.api_key_file.is_some() {
            return fail("api_key_file", "`api_key_env` is set too: give one of them");
        }
        if self.connections_per_host.is_some_and(|n| n == 0 || n > CONNECTIONS_PER_HOST_MAX) {
            return Err(("connections_per_host", format!("it is 1 to {CONNECTIONS_PER_HOST_MAX}")));
        }
        if self.retries.is_some_and(|n| n > RETRIES_MAX) {
            return Err(("retries", format!("it is 0 to {RETRIES_MAX}")));
        }
        for (key, period) in [
            ("connect_timeout", self.connect_timeout),
            ("read_timeout", self.read_timeout),
            ("slowest_window", self.slowest_window),
        ] {
            if period.is_some_and(|p| p.duration().is_zero()) {
                return fail(key, "it is longer than nothing");
            }
        }
        if self.quiet_hours.as_deref().is_some_and(quiet::covers_the_day) {
            return fail(
                "quiet_hours",
                "together they cover the whole day, so that nothing would ever be fetched",
            );
        }
        for host in self.hosts.iter().flatten() {
            values::host(host).map_err(|why| ("hosts", why))?;
        }
        Ok(())
    }

    /// Whether the files that are named are there and hold what they should.
    fn check_files(&self, dir: &Path) -> std::result::Result<(), (&'static str, String)> {
        if let Some(path) = &self.ca_file {
            certificates(&dir.join(path)).map_err(|why| ("ca_file", why))?;
        }
        if let Some(path) = &self.proxy_password_file {
            proxy::password_file(&dir.join(path)).map_err(|why| ("proxy_password_file", why))?;
        }
        if let Some(path) = &self.api_key_file {
            proxy::password_file(&dir.join(path)).map_err(|why| ("api_key_file", why))?;
        }
        Ok(())
    }
}

impl Network {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Looks at everything that can be told before anything is fetched; `dir` is the station's directory.
    pub fn check(&self, dir: &Path) -> Result<()> {
        let usage = |place: &str, (key, why): (&str, String)| {
            Error::usage(format!("{CONFIG}: {place}: `{key}`: {why}"))
                .hint("docs/operating.md explains every key")
        };
        for (place, section) in self.sections() {
            section.check().and_then(|()| section.check_files(dir)).map_err(|e| usage(&place, e))?;
        }
        Ok(())
    }

    /// The files that it names, which may be relative to the station's directory.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.sections()
            .flat_map(|(_, s)| [&s.ca_file, &s.proxy_password_file, &s.api_key_file].into_iter().flatten())
    }

    fn sections(&self) -> impl Iterator<Item = (String, &Section)> {
        let sources = self.source.iter().map(|s| (format!("[[network.source]] {}", s.prefix), &s.section));
        std::iter::once(("[network]".to_owned(), &self.all)).chain(sources)
    }

    /// Every proxy that any section names.
    pub fn proxies(&self) -> impl Iterator<Item = &Url> {
        self.sections().filter_map(|(_, section)| match &section.proxy {
            Some(Proxy::Url(url)) => Some(url),
            _ => None,
        })
    }

    /// Which sections hold for an address, the weakest first: numbers into `source`.
    pub fn fitting(&self, url: &Url) -> Vec<usize> {
        let mut bare = url.clone();
        // Both fail only for URLs without a host, which no prefix fits.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        let fits =
            |n: &usize| self.source.get(*n).is_some_and(|s| bare.as_str().starts_with(s.prefix.as_str()));
        let mut found: Vec<usize> = (0..self.source.len()).filter(fits).collect();
        found.sort_by_key(|n| self.source.get(*n).map_or(0, |s| s.prefix.as_str().len()));
        found
    }

    /// What holds for an address.
    pub fn settings(&self, url: &Url) -> Settings {
        let mut settings = Settings { section: self.all.clone(), rate_scope: String::new() };
        for source in self.fitting(url).into_iter().filter_map(|n| self.source.get(n)) {
            if source.section.proxy.is_some() {
                settings.section.proxy_user = None;
                settings.section.proxy_password_env = None;
                settings.section.proxy_password_file = None;
            }
            if source.section.bytes_per_second.is_some() {
                settings.rate_scope.clone_from(&source.prefix);
            }
            settings.section.overlay(&source.section);
        }
        settings
    }
}

impl Settings {
    /// The proxy to use.
    pub fn proxy(&self) -> Proxy {
        self.section.proxy.clone().unwrap_or_default()
    }

    /// Who to be to it, with the password read now.
    pub fn proxy_auth(&self, dir: &Path) -> Result<Option<ProxyAuth>> {
        let section = &self.section;
        let Some(user) = &section.proxy_user else { return Ok(None) };
        let usage = |key: &str, why: String| Error::usage(format!("{CONFIG}: `{key}`: {why}"));
        let password = match (&section.proxy_password_env, &section.proxy_password_file) {
            (Some(name), _) => std::env::var(name).map_err(|_| {
                usage("proxy_password_env", format!("the environment has no usable `{name}`"))
            })?,
            (None, Some(path)) => {
                proxy::password_file(&dir.join(path)).map_err(|why| usage("proxy_password_file", why))?
            }
            (None, None) => String::new(),
        };
        Ok(Some(ProxyAuth { user: user.clone(), password }))
    }

    /// The key of the source's API, read now.
    pub fn api_key(&self, dir: &Path) -> Result<Option<String>> {
        let usage = |key: &str, why: String| Error::usage(format!("{CONFIG}: `{key}`: {why}"));
        match (&self.section.api_key_env, &self.section.api_key_file) {
            (Some(name), _) => std::env::var(name)
                .map(Some)
                .map_err(|_| usage("api_key_env", format!("the environment has no usable `{name}`"))),
            (None, Some(path)) => {
                proxy::password_file(&dir.join(path)).map(Some).map_err(|why| usage("api_key_file", why))
            }
            (None, None) => Ok(None),
        }
    }

    /// The least time between two questions to an API, if it is set.
    pub fn request_interval(&self) -> Option<Duration> {
        self.section.request_interval.map(Period::duration)
    }

    /// What is reached without the configured proxy, as one list with commas.
    pub fn no_proxy(&self) -> Option<String> {
        self.section.no_proxy.as_ref().map(|list| list.join(","))
    }

    /// The certificate authorities beside the system's.
    pub fn certificates(&self, dir: &Path) -> Result<Vec<reqwest::Certificate>> {
        let Some(path) = &self.section.ca_file else { return Ok(Vec::new()) };
        certificates(&dir.join(path)).map_err(|why| Error::usage(format!("{CONFIG}: `ca_file`: {why}")))
    }

    /// Requests to one host at a time.
    pub fn connections_per_host(&self) -> usize {
        self.section.connections_per_host.unwrap_or(CONNECTIONS_PER_HOST)
    }

    /// The most bytes per second, and the section whose requests share them.
    pub fn bytes_per_second(&self) -> Option<(u64, &str)> {
        self.section.bytes_per_second.filter(|n| *n > 0).map(|n| (n, self.rate_scope.as_str()))
    }

    /// When nothing is begun.
    pub fn quiet_hours(&self) -> &[QuietHours] {
        self.section.quiet_hours.as_deref().unwrap_or_default()
    }

    /// Further hosts.
    pub fn hosts(&self) -> &[String] {
        self.section.hosts.as_deref().unwrap_or_default()
    }

    /// How often one thing is tried again without progress.
    pub fn retries(&self) -> u32 {
        self.section.retries.unwrap_or(RETRIES)
    }

    /// The first wait before trying again.
    pub fn retry_base(&self) -> Duration {
        self.section.retry_base.map_or(RETRY_BASE, Period::duration)
    }

    /// How long a connection may take to come up.
    pub fn connect_timeout(&self) -> Duration {
        self.section.connect_timeout.map_or(CONNECT_TIMEOUT, Period::duration)
    }

    /// How long an upstream may stay silent.
    pub fn read_timeout(&self) -> Duration {
        self.section.read_timeout.map_or(READ_TIMEOUT, Period::duration)
    }

    /// What a body must bring on average, in bytes per second, and over how much waiting.
    pub fn slowest(&self) -> (u64, Duration) {
        let rate = self.section.slowest_bytes_per_second.unwrap_or(SLOWEST_BYTES_PER_SECOND);
        (rate, self.section.slowest_window.map_or(SLOWEST_WINDOW, Period::duration))
    }
}

/// Checks one entry of a list of `hosts`.
pub(crate) fn check_hosts(hosts: &[String]) -> Result<()> {
    for host in hosts {
        values::host(host).map_err(|why| Error::usage(format!("{CONFIG}: `hosts`: {why}")))?;
    }
    Ok(())
}

/// The certificates of a PEM file: at least one.
fn certificates(path: &Path) -> std::result::Result<Vec<reqwest::Certificate>, String> {
    let shown = path.display();
    let bytes = values::read_small(path, CA_BYTES_MAX)?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes).map_err(|e| format!("{shown}: {e}"))?;
    if found.is_empty() {
        return Err(format!("{shown} holds no certificate in PEM"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
