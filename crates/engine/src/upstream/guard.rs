//! Names, judged by the addresses that they resolve to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::reach::{is_never_named, special};

/// The environment's variables that name proxies, whose own names must resolve wherever they lie.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A resolver that gives no address of a private network for a name that the configuration does not spell out. The
/// connection is made to the very addresses that were looked at, so that no second answer can slip in.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    named: Arc<BTreeSet<String>>,
}

/// A name leads where this station does not go.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` resolves to {address}, {kind}{why}")]
pub(super) struct LeadsInside {
    name: String,
    address: std::net::IpAddr,
    kind: &'static str,
    why: &'static str,
}

impl Guard {
    /// `named` are the names that may lie in a private network.
    pub(super) fn new(named: impl Iterator<Item = String>) -> Self {
        let environment = PROXY_VARIABLES.iter().filter_map(|name| {
            let value = std::env::var(name).ok()?;
            let url = Url::parse(&value).ok().filter(Url::has_host);
            url.or_else(|| Url::parse(&format!("http://{value}")).ok())?.host_str().map(str::to_owned)
        });
        Self { named: Arc::new(named.chain(environment).collect()) }
    }

    /// The addresses of `found` that may be connected to.
    pub(super) fn sift(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, LeadsInside> {
        let is_named = self.named.contains(name);
        let refuse =
            |a: &SocketAddr| if is_named { is_never_named(a.ip()) } else { special(a.ip()).is_some() };
        let (refused, good): (Vec<_>, Vec<_>) = found.into_iter().partition(refuse);
        match refused.first() {
            Some(first) if good.is_empty() => Err(LeadsInside {
                name: name.to_owned(),
                address: first.ip(),
                kind: special(first.ip()).unwrap_or("an address of no host"),
                why: if is_named { "" } else { " that the configuration does not name" },
            }),
            _ => Ok(good),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let me = self.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(me.sift(&name, found)?.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_spelled_out_never_leads_to_a_private_address() {
        let guard = Guard::new(["mirror.corp".to_owned()].into_iter());
        let sift = |name: &str, found: &[&str]| {
            let found = found.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 0)).collect();
            guard.sift(name, found).map(|good| good.len())
        };
        assert_eq!(sift("a.cdn.example", &["1.1.1.1", "10.0.0.1", "::1"]).unwrap(), 1);
        let error = sift("a.cdn.example", &["127.0.0.1"]).unwrap_err();
        assert!(error.to_string().contains("a loopback address that the configuration does not name"));
        assert!(sift("a.cdn.example", &["::ffff:10.0.0.1"]).is_err());
        assert_eq!(sift("mirror.corp", &["10.0.0.1", "fd00::1", "127.0.0.1"]).unwrap(), 3);
        assert!(sift("mirror.corp", &["169.254.169.254"]).is_err(), "where clouds keep credentials");
        assert!(sift("mirror.corp", &["0.0.0.0"]).is_err());
    }
}
