//! Upstreams that lie, stall, flood and lead astray: each is refused by name, with flat memory, and the station stays
//! as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_engine::error::{Error, Kind};
use airlock_engine::network::Period;
use airlock_engine::upstream::{Client, Location, Piece};
use airlock_engine::{channel, sync};
use airlock_testkit::wire::{Act, Request, Wire, answer, head};
use airlock_testkit::{Kit, conda};
use serde_json::json;

type Script = fn(&Request) -> Vec<Act>;

/// What the upstream does, and the word by which it is refused.
#[derive(Clone)]
struct Attack {
    name: &'static str,
    refused: &'static str,
    act: Script,
}

/// The most bytes that a file may have here.
const LIMIT: u64 = 4 << 20;

fn send(bytes: impl Into<Vec<u8>>) -> Vec<Act> {
    vec![Act::Send(bytes.into())]
}

fn redirect(to: &str) -> Vec<Act> {
    answer("302 Found", &[("location", to)], "")
}

/// The first half of a file, and for the rest whatever `rest` says.
fn half(request: &Request, rest: impl Fn() -> Vec<Act>) -> Vec<Act> {
    if request.header("range").is_some() {
        return rest();
    }
    let mut bytes = head("200 OK", &[("etag", "\"a\""), ("content-length", "100000")], &[]);
    bytes.extend([b'x'; 50_000]);
    send(bytes)
}

fn piece(etag: &str, range: &str, length: usize) -> Vec<Act> {
    answer("206 Partial Content", &[("etag", etag), ("content-range", range)], vec![b'y'; length])
}

fn attacks_of_heads() -> Vec<Attack> {
    vec![
        Attack { name: "hangs up", refused: "error", act: |_| vec![] },
        Attack { name: "no HTTP", refused: "invalid HTTP", act: |_| send("SSH-2.0-upstream\r\n\r\n") },
        Attack { name: "says nothing", refused: "no answer came within", act: |_| vec![Act::Hang] },
        Attack {
            name: "dripping head",
            refused: "no answer came within",
            act: |_| vec![Act::Drip(head("200 OK", &[], &[&"x".repeat(9000)]), Duration::from_millis(20))],
        },
        Attack {
            name: "flood of 1xx",
            refused: "no answer came within",
            act: |_| vec![Act::Forever(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100))],
        },
        Attack {
            name: "endless header",
            refused: "head of its answer is larger",
            act: |_| vec![Act::Send(b"HTTP/1.1 200 OK\r\nx: ".to_vec()), Act::Forever(vec![b'x'; 65536])],
        },
        Attack {
            name: "too many headers",
            refused: "head of its answer is larger",
            act: |_| send(head("200 OK", &[], &vec!["x: y"; 500])),
        },
        Attack {
            name: "two lengths",
            refused: "content-length",
            act: |_| send(head("200 OK", &[("content-length", "5"), ("content-length", "6")], &[])),
        },
    ]
}

fn attacks_of_statuses() -> Vec<Attack> {
    vec![
        Attack { name: "204", refused: "brings no file", act: |_| send(head("204 No Content", &[], &[])) },
        Attack { name: "205", refused: "brings no file", act: |_| answer("205 Reset Content", &[], "") },
        Attack {
            name: "206 unasked",
            refused: "was not asked for",
            act: |_| piece("\"a\"", "bytes 0-9/10", 10),
        },
        Attack {
            name: "304 unasked",
            refused: "nothing was to be compared",
            act: |_| send(head("304 Not Modified", &[], &[])),
        },
        Attack {
            name: "wants to be left alone",
            refused: "left alone until 2026-03-02T12:00:00Z",
            act: |_| answer("503 Busy", &[("retry-after", "86400")], ""),
        },
        Attack { name: "always down", refused: "503", act: |_| answer("503 Down", &[], "") },
        Attack {
            name: "network login",
            refused: "511",
            act: |_| answer("511 Network Authentication Required", &[], "<html>"),
        },
        Attack { name: "proxy login", refused: "the proxy wants", act: |_| answer("407 No", &[], "") },
        Attack {
            name: "captive portal",
            refused: "a page for people",
            act: |_| answer("200 OK", &[], " \n<!DOCTYPE html><title>Welcome to our airport</title>"),
        },
        Attack {
            name: "captive portal without a doctype",
            refused: "a page for people",
            act: |_| {
                answer("200 OK", &[("content-type", "text/html; charset=x")], "<script>login()</script>")
            },
        },
    ]
}

fn attacks_of_bodies() -> Vec<Attack> {
    vec![
        Attack {
            name: "announces more than it sends",
            refused: "broke off after 5 bytes",
            act: |_| send([head("200 OK", &[("content-length", "50")], &[]), b"hello".to_vec()].concat()),
        },
        Attack {
            name: "announces too much",
            refused: "larger than",
            act: |_| send(head("200 OK", &[("content-length", "99999999999999")], &[])),
        },
        Attack {
            name: "silence in the body",
            refused: "nothing came for",
            act: |_| vec![Act::Send(head("200 OK", &[("content-length", "50")], &[])), Act::Hang],
        },
        Attack {
            name: "dripping body",
            refused: "only drips",
            act: |_| {
                let drip = Act::Drip(vec![b'x'; 5000], Duration::from_millis(20));
                vec![Act::Send(head("200 OK", &[("content-length", "5000")], &[])), drip]
            },
        },
        Attack {
            name: "packed unasked",
            refused: "encoded as `gzip`",
            act: |_| answer("200 OK", &[("content-encoding", "gzip")], "x"),
        },
        Attack {
            name: "chunk without measure",
            refused: "broke off",
            act: |_| {
                let head = head("200 OK", &[("transfer-encoding", "chunked")], &[]);
                send([head, b"FFFFFFFFFFFFFFFFFFF\r\nxxxx".to_vec()].concat())
            },
        },
        Attack {
            name: "flood of trailers",
            refused: "broke off",
            act: |_| {
                let head = head("200 OK", &[("transfer-encoding", "chunked")], &[]);
                let end = [head, b"3\r\n{}\n\r\n0\r\n".to_vec()].concat();
                vec![Act::Send(end), Act::Forever(b"x-trailer: yes\r\n".repeat(1000))]
            },
        },
    ]
}

fn attacks_of_pieces() -> Vec<Attack> {
    vec![
        Attack {
            name: "another version for the rest",
            refused: "the file changes while it is fetched",
            act: |r| half(r, || piece("\"b\"", "bytes 50000-99999/100000", 50_000)),
        },
        Attack {
            name: "another length for the rest",
            refused: "the file changes while it is fetched",
            act: |r| half(r, || piece("\"a\"", "bytes 50000-99998/99999", 49_999)),
        },
        Attack {
            name: "other bytes for the rest",
            refused: "it sends other bytes",
            act: |r| half(r, || piece("\"a\"", "bytes 0-49999/100000", 50_000)),
        },
        Attack {
            name: "no range for the rest",
            refused: "does not say which bytes",
            act: |r| half(r, || answer("206 Partial Content", &[("etag", "\"a\"")], "x")),
        },
        Attack {
            name: "no rest",
            refused: "says that there is no rest",
            act: |r| half(r, || answer("416 No", &[("content-range", "bytes */50000")], "")),
        },
        Attack {
            name: "breaks off at every beginning",
            refused: "broke off after 50000 bytes",
            act: |r| {
                half(r, || {
                    send([head("200 OK", &[("content-length", "100000")], &[]), vec![b'x'; 50_000]].concat())
                })
            },
        },
    ]
}

fn attacks_of_redirects() -> Vec<Attack> {
    vec![
        Attack { name: "loop", refused: "redirects more than 5 times", act: |r| redirect(&r.target) },
        Attack { name: "to a file", refused: "not over `file`", act: |_| redirect("file:///etc/passwd") },
        Attack { name: "to nowhere", refused: "nowhere that can be read", act: |_| redirect("http://[::") },
        Attack {
            name: "without a target",
            refused: "nowhere that can be read",
            act: |_| answer("301 Moved", &[], ""),
        },
        Attack {
            name: "to the cloud's secrets",
            refused: "a link-local address that the configuration does not name",
            act: |_| redirect("http://169.254.169.254/latest/meta-data/"),
        },
        Attack {
            name: "to a neighbour",
            refused: "a private address",
            act: |_| redirect("http://10.0.0.1/"),
        },
        Attack {
            name: "to itself by number",
            refused: "may not connect to `127.0.0.2`",
            act: |_| redirect("http://2130706434/"),
        },
        Attack { name: "to itself by IPv6", refused: "a loopback address", act: |_| redirect("//[::1]/") },
        Attack {
            name: "to itself by mapped IPv6",
            refused: "a loopback address",
            act: |r| redirect(&format!("http://[::ffff:127.0.0.1]:{}/", port(r))),
        },
        Attack {
            name: "to itself by name",
            refused: "may not connect to `localhost`",
            act: |r| redirect(&format!("http://localhost:{}/", port(r))),
        },
        Attack {
            name: "to another port of itself",
            refused: "may not connect to `127.0.0.1`",
            act: |_| redirect("http://127.0.0.1:22/"),
        },
    ]
}

fn port(request: &Request) -> String {
    request.header("host").unwrap().rsplit(':').next().unwrap().to_owned()
}

fn attacks() -> Vec<Attack> {
    let bodies = [attacks_of_bodies(), attacks_of_pieces()].concat();
    [attacks_of_heads(), attacks_of_statuses(), bodies, attacks_of_redirects()].concat()
}

/// A station that waits for nobody.
async fn impatient() -> Kit {
    let mut kit = Kit::new(&[]).await;
    let all = &mut kit.station.config.network.all;
    all.retries = Some(1);
    all.connect_timeout = Some(Period::milliseconds(200));
    all.read_timeout = Some(Period::milliseconds(300));
    all.slowest_bytes_per_second = Some(10_000);
    all.slowest_window = Some(Period::milliseconds(400));
    kit
}

/// Fetches a file; gives its bytes.
async fn fetch(kit: &Kit, url: &str) -> Result<Vec<u8>, Error> {
    let source = Location::parse(url.rsplit_once('/').unwrap().0)?;
    let location = Location::Http(reqwest::Url::parse(url).unwrap());
    let mut bytes = Vec::new();
    let each = |piece: Piece<'_>| {
        match piece {
            Piece::Bytes(chunk) => bytes.extend_from_slice(chunk),
            Piece::Restart => bytes.clear(),
        }
        Ok(())
    };
    Client::new(&kit.station, &source)?.get_file(&location, LIMIT, each).await?;
    Ok(bytes)
}

#[tokio::test]
async fn every_attack_on_a_file_is_refused_by_name() {
    let kit = impatient().await;
    for attack in attacks() {
        let wire = Wire::start(move |request, _| (attack.act)(request)).await;
        let error = fetch(&kit, &format!("{}/a.bin", wire.base)).await.expect_err(attack.name);
        assert_eq!(error.kind, Kind::Fault, "{}: {error}", attack.name);
        assert!(error.message.contains(attack.refused), "{}: {error}", attack.name);
        assert!(error.message.contains("/a.bin"), "{}: {error}", attack.name);
    }
}

#[tokio::test]
async fn every_attack_on_an_index_is_refused_by_name_and_changes_nothing() {
    let kit = impatient().await;
    let package = conda("a", "1.0");
    let bytes = package.conda().unwrap();
    let file = package.file_name("conda");
    let records = json!({ file.clone(): package.record(&bytes) });
    let index = json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": records});
    let attack: Arc<Mutex<Option<Script>>> = Arc::default();
    let current = attack.clone();
    let wire = Wire::start(move |request, _| match (request.target.as_str(), *current.lock().unwrap()) {
        ("/noarch/repodata.json", Some(act)) => act(request),
        ("/noarch/repodata.json", None) => answer("200 OK", &[], index.to_string()),
        (target, _) if target.ends_with(&file) => answer("200 OK", &[], &bytes),
        _ => answer("404 Not Found", &[], ""),
    });
    let location = wire.await.base;
    let feed = ChannelFeed::Source { location, subdirs: vec![], only: vec![], exclude: vec![] };
    let channel =
        Channel { name: "c".to_owned(), ecosystem: Ecosystem::Conda, feed, policy: "default".to_owned() };
    let channel = channel::add(&kit.station, channel).await.unwrap();
    let first = sync::sync(&kit.station, &channel, sync::Wish::default()).await.unwrap();
    assert_eq!(first.counts.admit, 1);
    let refs = kit.station.store.db.refs("").await.unwrap();
    for one in attacks() {
        *attack.lock().unwrap() = Some(one.act);
        let error = sync::sync(&kit.station, &channel, sync::Wish::default()).await.expect_err(one.name);
        assert!(error.message.contains(one.refused), "{}: {error}", one.name);
        assert_eq!(kit.station.store.db.refs("").await.unwrap(), refs, "{}", one.name);
    }
}

/// The most memory that this process ever held, in bytes, where the system says so.
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused_at_its_limit_with_flat_memory() {
    let kit = impatient().await;
    let before = memory_peak();
    for heads in [&[("transfer-encoding", "chunked")][..], &[("connection", "close")][..]] {
        let is_chunked = heads[0].1 == "chunked";
        let wire = Wire::start(move |_, _| {
            let piece = vec![b'x'; 1 << 16];
            let piece = if is_chunked { [&b"10000\r\n"[..], &piece, b"\r\n"].concat() } else { piece };
            vec![Act::Send(head("200 OK", heads, &[])), Act::Forever(piece)]
        })
        .await;
        let source = Location::parse(&wire.base).unwrap();
        let client = Client::new(&kit.station, &source).unwrap();
        let mut seen = 0u64;
        let each = |piece: Piece<'_>| {
            if let Piece::Bytes(chunk) = piece {
                seen += chunk.len() as u64;
            }
            Ok(())
        };
        let error = client.get_file(&source.join("x").unwrap(), 256 << 20, each).await.unwrap_err();
        assert!(error.message.contains("larger than 268435456 bytes"), "{error}");
        assert!(seen <= 256 << 20);
        assert_eq!(wire.asked().len(), 1, "what is too large is not tried again");
    }
    if let (Some(before), Some(after)) = (before, memory_peak()) {
        assert!(after - before < 96 << 20, "{} MiB more", (after - before) >> 20);
    } else {
        eprintln!("skipped in part: this system does not tell how much memory a process held");
    }
}

#[tokio::test]
async fn trailers_and_early_hints_of_a_sound_answer_are_passed_over() {
    let kit = impatient().await;
    let wire = Wire::start(|_, _| {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(3);
        let head = head("200 OK", &[("transfer-encoding", "chunked"), ("trailer", "x-sum")], &[]);
        send([hints, head, b"5;x=y\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n".to_vec()].concat())
    })
    .await;
    assert_eq!(fetch(&kit, &format!("{}/x", wire.base)).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_file_that_is_packed_by_itself_may_say_so() {
    let kit = impatient().await;
    let wire = Wire::start(|_, _| answer("200 OK", &[("content-encoding", "x-gzip")], b"\x1f\x8bx")).await;
    assert_eq!(fetch(&kit, &format!("{}/a-1.0.tar.gz", wire.base)).await.unwrap(), b"\x1f\x8bx");
    let asked = wire.asked();
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_length_that_is_too_short_leaves_a_file_out_and_names_it() {
    let kit = impatient().await;
    let package = conda("a", "1.0");
    let bytes = package.conda().unwrap();
    let records = json!({ package.file_name("conda"): package.record(&bytes) });
    let index = json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": records});
    let wire = Wire::start(move |request, _| match request.target.as_str() {
        "/noarch/repodata.json" => answer("200 OK", &[], index.to_string()),
        t if t.ends_with(".conda") => {
            send([head("200 OK", &[("content-length", "100")], &[]), bytes.clone()].concat())
        }
        _ => answer("404 Not Found", &[], ""),
    });
    let location = wire.await.base;
    let feed = ChannelFeed::Source { location, subdirs: vec![], only: vec![], exclude: vec![] };
    let channel =
        Channel { name: "c".to_owned(), ecosystem: Ecosystem::Conda, feed, policy: "default".to_owned() };
    let channel = channel::add(&kit.station, channel).await.unwrap();
    let outcome = sync::sync(&kit.station, &channel, sync::Wish::default()).await.unwrap();
    assert_eq!((outcome.counts.admit, outcome.counts.hold), (0, 1));
    assert!(outcome.fetched.faults[0].1.detail().contains("100 bytes came, the record says"));
}

#[tokio::test]
async fn a_validator_that_matches_everything_is_never_sent_back() {
    let kit = impatient().await;
    let package = conda("a", "1.0");
    let records = json!({ package.file_name("conda"): package.record(&package.conda().unwrap()) });
    let index = json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": records});
    let wire = Wire::start(move |request, _| match request.target.as_str() {
        "/noarch/repodata.json" => answer("200 OK", &[("etag", "*")], index.to_string()),
        _ => answer("404 Not Found", &[], ""),
    })
    .await;
    let location = wire.base.clone();
    let feed = ChannelFeed::Source { location, subdirs: vec![], only: vec![], exclude: vec![] };
    let channel =
        Channel { name: "c".to_owned(), ecosystem: Ecosystem::Conda, feed, policy: "default".to_owned() };
    let channel = channel::add(&kit.station, channel).await.unwrap();
    sync::sync(&kit.station, &channel, sync::Wish::default()).await.unwrap();
    sync::sync(&kit.station, &channel, sync::Wish::default()).await.unwrap();
    let indexes = wire.asked().into_iter().filter(|r| r.target == "/noarch/repodata.json");
    assert!(indexes.clone().count() == 2 && indexes.clone().all(|r| r.header("if-none-match").is_none()));
}
