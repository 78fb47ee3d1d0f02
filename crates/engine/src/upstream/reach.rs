//! Whom this station talks to.
//!
//! An upstream does not choose that: its index and its redirects lead only to the source's own address and to hosts
//! that the configuration lists, never from https down to http, and to an address of a private network only if the
//! configuration names exactly that host. A name is judged again by the addresses that it resolves to
//! ([`Guard`](super::guard::Guard)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::error::{Error, Result};
use crate::network::{self, Host};
use crate::station::CONFIG;

/// Whom one source may lead to.
pub(super) struct Reach {
    /// The source's own address, if this station may connect to it without listing it.
    own: Option<Url>,
    /// The source's address: the scheme not to fall below, and whose credentials are sent.
    source: Option<Url>,
    listed: Vec<Host>,
}

impl Reach {
    pub(super) fn new<'a>(
        source: Option<Url>,
        is_allowed: bool,
        hosts: impl Iterator<Item = &'a String>,
    ) -> Result<Self> {
        let read = |h: &String| network::host(h).map_err(|e| Error::usage(format!("{CONFIG}: `hosts`: {e}")));
        let listed = hosts.map(read).collect::<Result<_>>()?;
        let own = source.clone().filter(|_| is_allowed);
        Ok(Self { own, source, listed })
    }

    /// The names that a person wrote down one by one: they may lie in a private network.
    pub(super) fn named(&self) -> impl Iterator<Item = String> {
        let own = self.own.as_ref().and_then(Url::host_str).map(str::to_owned);
        let listed = self.listed.iter().filter_map(|h| match h {
            Host::Name(name) => Some(name.clone()),
            _ => None,
        });
        own.into_iter().chain(listed)
    }

    /// Refuses an address that this station may not connect to; `from` is where a redirect came from.
    pub(super) fn check(&self, url: &Url, from: Option<&Url>) -> Result<()> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::fault(format!(
                "this station fetches over http and https, not over `{}`",
                url.scheme()
            )));
        }
        let is_secure = |u: Option<&Url>| u.is_some_and(|u| u.scheme() == "https");
        if url.scheme() == "http" && (is_secure(from) || is_secure(self.source.as_ref())) {
            return Err(Error::fault("it leads from https down to http"));
        }
        let host = url.host_str().unwrap_or_default();
        if self.own.as_ref().is_some_and(|own| own.origin() == url.origin()) {
            return Ok(());
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_listed = self.listed.iter().any(|listed| match listed {
            Host::Name(name) => name == host,
            Host::Below(ending) => address.is_none() && host.ends_with(ending.as_str()),
            Host::Address(listed) => Some(*listed) == address,
        });
        if is_listed {
            return Ok(());
        }
        let refused = format!("this station may not connect to `{host}`");
        match address.and_then(special) {
            Some(kind) => {
                Err(Error::fault(format!("{refused}, {kind} that the configuration does not name"))
                    .hint("an upstream that leads there is broken or hostile: tell its operator"))
            }
            None => Err(Error::fault(refused)
                .hint(format!("if it should, add it to `hosts` in {CONFIG}: hosts = [\"{host}\"]"))),
        }
    }

    /// The address with the credentials that belong there: the source's at the source, none elsewhere, whatever
    /// an index or a redirect wrote into it.
    pub(super) fn with_credentials(&self, url: &Url) -> Url {
        let mut url = url.clone();
        let own = self.source.as_ref().filter(|s| s.origin() == url.origin());
        // Both fail only for URLs without a host, which are not connected to.
        let _ = url.set_username(own.map_or("", Url::username));
        let _ = url.set_password(own.and_then(Url::password));
        url
    }
}

/// What is special about an address that is not one of the public internet.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

/// Whether no name may lead there, not even one that the configuration lists: only the address itself, written out.
pub(super) fn is_never_named(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local || address.is_multicast() || address.is_unspecified()
}

fn special_v4(v4: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = v4.octets();
    Some(match (a, b, c) {
        (0, ..) => "an unspecified address",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (169, 254, _) => "a link-local address",
        (100, 64..=127, _) => "an address behind a carrier's translation",
        (224..=239, ..) => "a multicast address",
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) | (240.., ..) => {
            "a reserved address"
        }
        _ => return None,
    })
}

fn special_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let s = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        special_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        // IPv4 in IPv6: mapped, compatible, translated (RFC 6052), 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some("a private address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff | 0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x100, 0, 0, 0, ..] | [0x2001, 0 | 0xdb8, ..] => Some("a reserved address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn reach(source: &str, hosts: &[&str]) -> Reach {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        Reach::new(Some(url(source)), true, hosts.iter()).unwrap()
    }

    #[test]
    fn every_address_that_is_not_public_is_known() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(special(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.1.0.1",
            "2606:4700::1",
            "::ffff:1.1.1.1",
            "2002:101:101::",
        ] {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
        assert!(is_never_named("::ffff:169.254.169.254".parse().unwrap()));
        assert!(!is_never_named("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_written_in_any_way_is_the_same_address() {
        let reach = reach("https://up.example/", &["*.files.example"]);
        for text in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/",
            "https://10.0.0.1:8443/",
        ] {
            let error = reach.check(&url(text), None).unwrap_err();
            assert!(error.message.contains("that the configuration does not name"), "{text}: {error}");
        }
    }

    #[test]
    fn only_listed_hosts_and_the_source_itself_are_reached() {
        let reach = reach("https://up.example/", &["files.example", "*.cdn.example", "10.0.0.5"]);
        for text in [
            "https://up.example/x",
            "https://files.example:8443/",
            "https://a.b.cdn.example/",
            "https://10.0.0.5/",
        ] {
            assert!(reach.check(&url(text), None).is_ok(), "{text}");
        }
        for (text, part) in [
            ("https://up.example:8443/", "may not connect"),
            ("https://cdn.example/", "may not connect"),
            ("https://evilcdn.example/", "may not connect"),
            ("https://up.example./", "may not connect"),
            ("https://10.0.0.6/", "a private address"),
            ("http://files.example/", "from https down to http"),
            ("file:///etc/passwd", "not over `file`"),
        ] {
            let error = reach.check(&url(text), None).unwrap_err();
            assert!(error.message.contains(part), "{text}: {error}");
        }
        let plain = super::Reach::new(Some(url("http://up.example/")), true, ["f.example".to_owned()].iter());
        let error =
            plain.unwrap().check(&url("http://f.example/"), Some(&url("https://f.example/"))).unwrap_err();
        assert!(error.message.contains("down to http"));
    }

    #[test]
    fn credentials_go_to_the_source_alone() {
        let reach = reach("https://ada:geheim@up.example/c/", &["files.example"]);
        let shown = |text: &str| reach.with_credentials(&url(text)).to_string();
        assert_eq!(shown("https://up.example/c/x"), "https://ada:geheim@up.example/c/x");
        assert_eq!(shown("https://eve:x@files.example/c/x"), "https://files.example/c/x");
        assert_eq!(shown("https://ada:geheim@up.example:8443/"), "https://up.example:8443/");
    }
}
