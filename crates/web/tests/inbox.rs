//! `airlock receive` over HTTP before enemies: everything but a PUT of what is wanted is refused in a few words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_engine::oneway::inbox::{Inbox, Wish};
use airlock_engine::station::{Side, Station};
use airlock_testkit::Kit;
use airlock_testkit::bundles::{self, believe, content};
use airlock_web::inbox::{Limits, Site, receive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A bundle, and where it may be put to, within limits that a test can wait for.
struct Post {
    low: Kit,
    disk: PathBuf,
    bundle: Digest,
    address: SocketAddr,
}

impl Post {
    async fn start() -> Self {
        let low = bundles::sender().await;
        let disk = low.path().join("disk");
        bundles::export(&low.station, &disk, &[50_000]).await;
        let high = low.path().join("high");
        let high = Station::init(&high, "high", Side::Isolated, low.station.options.clone()).await.unwrap();
        believe(&high, &low.station).await;
        let (keep, silence) = (Duration::from_secs(3600), Duration::from_secs(3600));
        let wish = Wish { into: low.path().join("spool"), quota: None, keep, silence };
        let (inbox, _) = Inbox::open(&high, wish).await.unwrap();
        let second = Duration::from_secs(1);
        let limits =
            Limits { connections: 8, head: second, speed_over: second, speed_bytes: 1000, grace: second };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Site::new(inbox, "/in/".to_owned(), limits));
        tokio::spawn(receive(listener, site, std::future::pending()));
        let bundle = Digest::of(&std::fs::read(disk.join("AIRLOCK.json")).unwrap());
        Self { low, disk, bundle, address }
    }

    /// Status and text of the answer to what is sent; 0 if the connection ends without one.
    async fn say(&self, bytes: &[u8]) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // Who is refused may find the connection closed before all was sent.
        let _ = socket.write_all(bytes).await;
        answer(&mut socket).await
    }

    async fn put(&self, path: &str, more: &str, body: &[u8]) -> (u16, String) {
        let head = format!("PUT /in/{}/{path} HTTP/1.1\r\nHost: x\r\n{more}\r\n", self.bundle);
        self.say(&[head.as_bytes(), body].concat()).await
    }

    async fn put_file(&self, path: &str) -> (u16, String) {
        let body = std::fs::read(self.disk.join(path)).unwrap();
        self.put(path, &format!("Content-Length: {}\r\n", body.len()), &body).await
    }

    fn there(&self) -> usize {
        content(&self.low.path().join("spool")).len()
    }
}

async fn answer(socket: &mut TcpStream) -> (u16, String) {
    let (mut bytes, mut length, mut is_over) = (vec![0; 1 << 20], 0, false);
    loop {
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let of =
                |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
            let size: usize = head.lines().find_map(of).map_or(0, |n| n.parse().unwrap());
            if body.len() >= size || is_over {
                return (head[9..12].parse().unwrap(), body.to_owned());
            }
        } else if is_over {
            return (0, String::new());
        }
        match socket.read(&mut bytes[length..]).await {
            Ok(n) if n > 0 => length += n,
            _ => is_over = true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_put_of_what_a_manifest_may_name_is_heard() {
    let post = Post::start().await;
    let before = post.there();
    let good = format!("/in/{}/AIRLOCK.json", post.bundle);
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND", "PATCH", "TRACE"] {
        let (status, _) = post.say(format!("{method} {good} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(status, 405, "{method}");
    }
    assert_eq!(post.say(b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n").await.0, 405);
    let long = format!("files/aa/{}", "a".repeat(240));
    for path in [
        "/",
        "/in/",
        "/in",
        "/AIRLOCK.json",
        &format!("/{}/AIRLOCK.json", post.bundle),
        &format!("{good}?x"),
        &format!("{good}/"),
        &format!("/in/{}/", post.bundle),
        &format!("/in/{}/../{}/AIRLOCK.json", post.bundle, post.bundle),
        &format!("/in/{}/files/aa/../../../x", post.bundle),
        &format!("/in/{}/files/aa/%2e%2e", post.bundle),
        &format!("/in/{}/{long}", post.bundle),
        &format!("//in/{}/AIRLOCK.json", post.bundle),
        &format!("/in/{}/AIRLOCK.json", post.bundle.to_string().to_uppercase()),
        "/in/../../etc/passwd",
    ] {
        let (status, _) =
            post.say(format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        assert_eq!(status, 404, "{path}");
    }
    for (more, status) in [
        ("", 411),
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 411),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: x\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 5\r\nContent-Encoding: gzip\r\n", 415),
        ("Content-Length: 5\r\nContent-Range: bytes 0-4\r\n", 400),
        ("Content-Length: 5\r\nContent-Range: bytes 0-4/5\r\n", 409),
        ("Content-Length: 536870913\r\n", 413),
    ] {
        let (said, text) = post.put("AIRLOCK.json", more, b"5\r\n12345\r\n0\r\n\r\n").await;
        assert_eq!(said, status, "{more} {text}");
    }
    let (status, _) = post.put("AIRLOCK.json", &format!("X: {}\r\n", "a".repeat(40_000)), b"").await;
    assert!(matches!(status, 431 | 0), "{status}");
    let many: String = (0..200).map(|n| format!("X{n}: a\r\n")).collect();
    assert!(matches!(post.put("AIRLOCK.json", &many, b"").await.0, 431 | 0));
    assert_eq!(post.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await.0, 400);
    assert_eq!(post.there(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_in_words_that_tell_nothing_of_this_side() {
    let post = Post::start().await;
    let file =
        content(&post.disk).into_keys().find(|path| path.starts_with("files")).unwrap().display().to_string();
    let mut said = vec![post.put_file(&file).await];
    said.push(post.put("AIRLOCK.json", "Content-Length: 2\r\n", b"{}").await);
    assert_eq!(post.put_file("AIRLOCK.json").await, (201, "stored\n".to_owned()));
    said.push(post.put("AIRLOCK.sig", "Content-Length: 2\r\n", b"x\n").await);
    post.put_file("AIRLOCK.json").await;
    let (status, list) = post.put_file("AIRLOCK.sig").await;
    assert_eq!(status, 202);
    assert!(list.contains(&format!("manifest {}\n", post.bundle)) && list.contains(&file), "{list}");
    said.push(post.put("files/aa/x.whl", "Content-Length: 2\r\n", b"xx").await);
    said.push(post.put(&file, "Content-Length: 2\r\n", b"xx").await);
    said.push(post.put(&file, "Content-Length: 50000\r\n", &[0; 50_000]).await);
    said.push(post.put(&file, "Content-Length: 1\r\nContent-Range: bytes 49999-49999/50000\r\n", b"x").await);
    let statuses: Vec<u16> = said.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [409, 422, 403, 404, 422, 422, 409]);
    let here = post.low.path().display().to_string();
    assert!(said.iter().all(|(_, text)| !text.contains(&here) && text.lines().count() == 1), "{said:?}");
    for path in content(&post.disk).into_keys().filter(|path| !path.starts_with("AIRLOCK.json")) {
        let (status, text) = post.put_file(&path.display().to_string()).await;
        assert!(matches!(status, 200..=202), "{path:?} {text}");
    }
    assert_eq!(post.put_file("AIRLOCK.sig").await, (201, format!("delivered {}\n", post.bundle)));
    assert_eq!(post.put_file(&file).await, (200, "here\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_idle_or_one_too_many_holds_nothing_up() {
    let post = Post::start().await;
    let timed = async |bytes: &'static [u8]| {
        let began = Instant::now();
        (post.say(bytes).await.0, began.elapsed())
    };
    // A head that does not end, and none at all.
    for bytes in [&b"PUT /in/ HTTP/1.1\r\nHo"[..], b""] {
        let (status, took) = timed(bytes).await;
        assert!(matches!(status, 0 | 408) && took < Duration::from_secs(5), "{status} {took:?}");
    }
    // A body that trickles.
    let mut socket = TcpStream::connect(post.address).await.unwrap();
    let head =
        format!("PUT /in/{}/AIRLOCK.json HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", post.bundle);
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut bytes = Vec::new();
    let came = tokio::time::timeout(Duration::from_secs(8), reading.read_to_end(&mut bytes)).await;
    assert!(came.is_ok(), "it goes on for ever");
    assert!(
        String::from_utf8_lossy(&bytes).starts_with("HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    trickle.abort();
    // More connections than may be, which say nothing: one more is closed at once, and in the end all of them.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(post.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, took) = timed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(status == 0 && took < Duration::from_millis(800), "{status} {took:?}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(post.put_file("AIRLOCK.json").await.0, 201);
    drop(idle);
}
