use airlock_core::time::Time;

use super::*;
use crate::station::Config;

fn read(network: &str) -> Network {
    Config::parse(&format!("name = \"x\"\nside = \"connected\"\n{network}")).unwrap().network
}

fn refused(network: &str) -> String {
    Config::parse(&format!("name = \"x\"\nside = \"connected\"\n{network}")).unwrap_err().message
}

#[test]
fn the_longest_prefix_wins_key_by_key() {
    let network = read(
        "[network]\nproxy = \"http://p.example:3128\"\nproxy_user = \"ada\"\nretries = 1\n\
         [[network.source]]\nprefix = \"https://up.example/conda/\"\nretries = 3\n\
         [[network.source]]\nprefix = \"https://up.example\"\nproxy = \"direct\"\nretries = 2\nread_timeout = \"2s\"\n",
    );
    let at = |url: &str| network.settings(&Url::parse(url).unwrap());
    let everywhere = at("https://other.example/");
    assert_eq!((everywhere.retries(), everywhere.proxy().shown().as_str()), (1, "http://p.example:3128"));
    let host = at("https://ada:secret@up.example/pypi/simple/");
    assert_eq!((host.retries(), host.proxy()), (2, Proxy::Direct));
    let folder = at("https://up.example/conda/noarch/x");
    assert_eq!((folder.retries(), folder.proxy(), folder.read_timeout().as_secs()), (3, Proxy::Direct, 2));
    assert_eq!(at("https://up.example/conda-forge/x").retries(), 2, "a prefix ends at a segment");
    assert_eq!(at("https://up.example.evil.example/conda/").retries(), 1);
    // A user belongs to the proxy that it was named beside.
    assert!(host.proxy_auth(Path::new("/")).unwrap().is_none());
    assert_eq!(everywhere.proxy_auth(Path::new("/")).unwrap().unwrap().user, "ada");
}

#[test]
fn what_makes_no_sense_is_named_by_its_key_and_no_secret_is_repeated() {
    for (text, part) in [
        ("[network]\nproxi = \"x\"", "unknown field `proxi`"),
        ("[network]\nproxy = \"http://ada:geheim@host:notaport\"", "[network]: `proxy`"),
        ("[network]\nproxy = \"ftp://ada:geheim@host\"", "`proxy`"),
        ("[network]\nproxy_user = \"ada\"", "`proxy_user`: it needs"),
        ("[network]\nproxy = \"http://ada:geheim@p\"\nproxy_user = \"ada\"", "names a user already"),
        ("[network]\nproxy = \"http://p\"\nproxy_password_env = \"X\"", "needs `proxy_user`"),
        ("[network]\napi_key_env = \"geheim\"", "belongs under a [[network.source]]"),
        (
            "[[network.source]]\nprefix = \"https://a\"\napi_key_env = \"geheim\"\napi_key_file = \"x\"",
            "`api_key_env` is set too",
        ),
        ("[network]\nconnections_per_host = 0", "`connections_per_host`"),
        ("[network]\nretries = -1", "`retries`"),
        ("[network]\nretry_base = \"soon\"", "`retry_base`"),
        ("[network]\nquiet_hours = [\"8-18\"]", "`quiet_hours`"),
        ("[network]\nquiet_hours = [\"00:00-12:00\", \"12:00-24:00\"]", "whole day"),
        ("[network]\nhosts = [\"up.example/x\"]", "`hosts`"),
        ("[[network.source]]\nretries = 1", "number 1: `prefix`: it is missing"),
        ("[[network.source]]\nprefix = \"up.example\"", "`prefix`"),
        ("[[network.source]]\nprefix = \"https://ada:geheim@up.example\"", "`prefix`"),
        ("[[network.source]]\nprefix = \"https://a\"\n[[network.source]]\nprefix = \"https://a/\"", "twice"),
        ("[network]\nproxy = \"http://ada:geheim@p\" x", "line 4"),
        ("network = {proxy = \"http://ada:geheim@p\", retries = \"x\"}", "`retries`"),
    ] {
        let message = refused(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains("geheim"), "{message}");
    }
    let network = read("[network]\nproxy = \"http://ada:geheim@p\"");
    assert!(!format!("{network:?}").contains("geheim"));
}

#[test]
fn files_that_are_named_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "nothing\n").unwrap();
    for (key, text) in [
        ("ca_file", "[network]\nca_file = \"absent.pem\""),
        ("api_key_file", "[[network.source]]\nprefix = \"https://a/\"\napi_key_file = \"no\""),
        ("ca_file", "[[network.source]]\nprefix = \"https://a/\"\nca_file = \"empty.pem\""),
        (
            "proxy_password_file",
            "[network]\nproxy = \"http://p\"\nproxy_user = \"a\"\nproxy_password_file = \"no\"",
        ),
    ] {
        let error = read(text).check(dir.path()).unwrap_err();
        assert!(error.message.contains(&format!("`{key}`")) && error.hint.is_some(), "{error}");
    }
}

#[test]
fn quiet_hours_end_when_they_say() {
    let until = |hours: &[&str], now: &str| {
        let hours: Vec<QuietHours> =
            hours.iter().map(|h| QuietHours::try_from((*h).to_owned()).unwrap()).collect();
        quiet_until(&hours, now.parse::<Time>().unwrap()).map(|t| t.to_string())
    };
    let day = |time: &str| Some(format!("2026-03-0{time}:00Z"));
    assert_eq!(until(&["08:00-18:00"], "2026-03-01T12:00:00Z"), day("1T18:00"));
    assert_eq!(until(&["08:00-18:00"], "2026-03-01T18:00:00Z"), None);
    assert_eq!(until(&["08:00-18:00"], "2026-03-01T07:59:59Z"), None);
    assert_eq!(until(&["22:00-06:00"], "2026-03-01T23:00:00Z"), day("2T06:00"));
    assert_eq!(until(&["22:00-06:00"], "2026-03-02T05:59:00Z"), day("2T06:00"));
    assert_eq!(until(&["08:00-18:00+02:00"], "2026-03-01T06:30:00Z"), day("1T16:00"));
    assert_eq!(until(&["08:00-18:00-05:00"], "2026-03-01T12:30:00Z"), None);
    assert_eq!(until(&["08:00-12:00", "12:00-18:00"], "2026-03-01T09:00:00Z"), day("1T18:00"));
    for bad in ["08:00", "8:00-9:00", "08:00-08:00", "08:00-25:00", "08:00-18:00+2", "08:61-09:00"] {
        assert!(QuietHours::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn hosts_are_names_names_below_and_addresses() {
    assert_eq!(host("Files.Example"), Ok(Host::Name("files.example".to_owned())));
    assert_eq!(host("*.files.example"), Ok(Host::Below(".files.example".to_owned())));
    assert_eq!(host("[::1]"), host("::1"));
    assert_eq!(host("0x7f.1"), host("127.0.0.1"), "as a URL would read it");
    for bad in ["", "*", "*.", "a:80", "http://a", "a/b", "a b", "user@a", "*.*.a"] {
        assert!(host(bad).is_err(), "{bad}");
    }
}
