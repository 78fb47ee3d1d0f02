//! Clients that want to harm, over real connections: each test is one of their ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use airlock_web::{App, Limits, Site};
use common::{LARGE, SMALL, Server, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, oneshot};
use tokio::task::JoinHandle;

/// Tests that look at the memory of the process have it for themselves.
static PROCESS: RwLock<()> = RwLock::const_new(());

/// Limits that a test can wait for.
fn impatient() -> Limits {
    Limits {
        head: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        speed_over: Duration::from_millis(400),
        speed_bytes: 1 << 20,
        look: Duration::from_millis(20),
        ..Limits::default()
    }
}

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn start(site: Arc<Site>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let end = async move { drop(stopped.await) };
    let task = tokio::spawn(airlock_web::serve(listener, site, limits, end));
    Running { address, stop: Some(stop), task }
}

impl Running {
    async fn over(server: &Server) -> Self {
        start(server.site.clone(), Limits::default()).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that is answered to these bytes until the server closes.
    async fn tell(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read all of it.
        let _ = stream.write_all(bytes).await;
        until_closed(&mut stream).await
    }

    /// The server still answers.
    async fn answers(&self) {
        let request = format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&self.tell(request.as_bytes()).await), 200);
    }
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

/// The status of the first answer; 0 if there is none.
fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .or(answer.strip_prefix("HTTP/1.0 "))
        .map_or(0, |a| a[..3].parse().unwrap())
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn absurd_ranges_get_the_whole_once_or_a_refusal() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    let whole = server.get(SMALL).await.body.len();
    let thousands = (0..3000).map(|i| format!("{i}-{i}")).collect::<Vec<_>>().join(",");
    let overlapping = vec!["0-"; 5000].join(",");
    for (range, expected) in [
        (format!("bytes={thousands}"), 200),
        (format!("bytes={overlapping}"), 200),
        ("bytes=-99999999999999999999999999".to_owned(), 206),
        ("bytes=0-18446744073709551615".to_owned(), 206),
        ("bytes=18446744073709551615-18446744073709551616".to_owned(), 416),
        ("bytes=-0".to_owned(), 416),
        ("bytes=--1".to_owned(), 200),
        ("bytes=0x0-0x1".to_owned(), 200),
    ] {
        let answer = running
            .tell(
                format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\nRange: {range}\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        assert_eq!(status(&answer), expected, "{range:.60}");
        assert!(answer.len() < whole * 4 + 2000, "no more than the file itself: {range:.60}");
    }
    running.answers().await;
}

#[tokio::test]
async fn a_flood_of_headers_and_an_endless_header_are_refused() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    let many: String = (0..5000).map(|i| format!("X-{i}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(10 << 20));
    for headers in [many, long] {
        let answer =
            running.tell(format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await;
        assert!([0, 431].contains(&status(&answer)), "{answer:.100}");
    }
    running.answers().await;
}

#[tokio::test]
async fn absurd_paths_are_refused_and_lead_to_no_file() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    let long = format!("/conda/main/noarch/{}", "a".repeat(100 << 10));
    let encoded = format!("/conda/main/noarch/{}", "%41".repeat(5000));
    for path in [
        "/conda/main/noarch/..%2F..%2F..%2Fairlock.toml",
        "/conda/main/noarch/%2e%2e/%2e%2e/airlock.toml",
        "/conda/main/noarch/../../../../etc/passwd",
        "/conda/main/%252e%252e/x",
        "/conda/main/noarch/x%00.conda",
        "/conda/main/noarch/idna%2F3.7",
        "/conda//etc/passwd",
        "//etc/passwd",
        "/static/..%2f..%2fairlock.toml",
        "/static/%2e%2e%2fairlock.toml",
        "/packages/main/..%2f..%2fkeys%2fstation.key",
        "/conda/main/noarch/\u{e9}\u{fffd}",
        "/%",
        "/conda/%ff/x",
        "*",
        "http://other.example/conda/main/../../etc/passwd",
        long.as_str(),
        encoded.as_str(),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = running.tell(request.as_bytes()).await;
        assert!((400..500).contains(&status(&answer)) || status(&answer) == 0, "{path:.80}: {answer:.200}");
        assert!(!answer.contains("root:") && !answer.contains("side ="), "{path:.80}");
    }
    let raw = [
        b"GET /conda/main/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for bytes in raw {
        assert!([0, 400, 404].contains(&status(&running.tell(bytes).await)));
    }
    running.answers().await;
}

#[tokio::test]
async fn a_head_that_never_ends_and_a_connection_that_says_nothing_are_closed() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = start(server.site.clone(), impatient()).await;
    let mut silent = running.connect().await;
    let mut slow = running.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    // A byte now and then does not help.
    let (mut reader, mut writer) = slow.split();
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if writer.write_all(b"X").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut out = Vec::new();
    tokio::select! {
        _ = reader.read_to_end(&mut out) => {}
        () = dripping => {}
    }
    assert_eq!(status(&String::from_utf8_lossy(&out)), 0);
    assert_eq!(until_closed(&mut silent).await, "");
    running.answers().await;
}

#[tokio::test]
async fn a_connection_that_stays_idle_is_closed() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = start(server.site.clone(), impatient()).await;
    // Without `Connection: close` it is the server that ends it.
    let answer = running.tell(format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert_eq!((status(&answer), answers(&answer)), (200, 1));
}

#[tokio::test]
async fn a_body_for_what_is_only_read_is_refused_without_waiting_for_it() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    for (head, expected) in [
        (format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"), 400),
        (format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (format!("POST {SMALL} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nslow"), 405),
        (
            "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
                .to_owned(),
            404,
        ),
    ] {
        let answer = running.tell(head.as_bytes()).await;
        assert_eq!((status(&answer), answers(&answer)), (expected, 1), "{head}{answer}");
    }
}

#[tokio::test]
async fn a_request_that_two_programs_read_differently_gets_one_answer_and_the_end() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    let inner = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 39\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 39\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 39\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n continued\r\n\r\n",
    ] {
        let answer = running.tell(format!("{head}{inner}").as_bytes()).await;
        assert!(answers(&answer) <= 1 && !answer.contains("\r\nok\n"), "{head}{answer}");
        assert!([0, 400, 405, 501].contains(&status(&answer)), "{head}{answer}");
    }
    // What hides in a name or value is not a header.
    let split = running
        .tell(b"GET /pypi/py/simple/a%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(status(&split) == 400 && !split.to_ascii_lowercase().contains("set-cookie"));
}

#[tokio::test]
async fn other_protocols_and_methods_are_refused() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    for (bytes, expected) in [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(), &[0, 400][..]),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[0, 400]),
        (b"GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n", &[0, 400]),
        (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", &[0, 400]),
        (b"CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[404, 405]),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\nSecret: s3cret\r\nConnection: close\r\n\r\n", &[405]),
        (b"DELETE /conda/main/noarch/repodata.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[405]),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n", &[200]),
    ] {
        let answer = running.tell(bytes).await;
        assert!(expected.contains(&status(&answer)), "{:?}: {answer}", String::from_utf8_lossy(bytes));
        assert!(!answer.contains("s3cret"));
    }
    let old = running.tell(format!("GET {SMALL} HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&old), 200, "HTTP/1.0 needs no host, and its connection ends");
}

#[tokio::test]
async fn a_flood_of_pipelined_requests_is_answered_in_order_with_flat_memory() {
    let _process = PROCESS.write().await;
    let server = server(&[]).await;
    let running = Running::over(&server).await;
    let stream = running.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    const REQUESTS: usize = 5_000;
    let flood = tokio::spawn(async move {
        let one = format!("GET {SMALL} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(100);
        for _ in 0..REQUESTS / 100 {
            writer.write_all(one.as_bytes()).await.unwrap();
        }
        writer
    });
    let before = memory();
    let length = server.get(SMALL).await.body.len();
    let mut first = vec![0; 2000];
    let n = reader.read(&mut first).await.unwrap();
    let head = String::from_utf8_lossy(&first[..n]).find("\r\n\r\n").unwrap() + 4;
    let mut left = (head + length) * REQUESTS - n;
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        left -= reader.read(&mut buffer).await.unwrap();
    }
    flood.await.unwrap();
    assert!(memory() < before + (64 << 20), "{} to {}", before, memory());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped_and_takes_no_memory() {
    let _process = PROCESS.write().await;
    let server = server(&[]).await;
    let running = start(server.site.clone(), impatient()).await;
    running.answers().await;
    let before = memory();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut stream = running.connect().await;
        let request = format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(20);
        stream.write_all(request.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    assert!(memory() < before + (256 << 20), "{} to {}", before, memory());
    for mut stream in stalled {
        // Reading would be taking; that it is over shows when nothing can be written any more.
        while stream.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    running.answers().await;
}

#[tokio::test]
async fn more_connections_than_there_may_be_end_those_that_were_idle_for_longest() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let limits = Limits { connections: 50, ..Limits::default() };
    let running = start(server.site.clone(), limits).await;
    let mut idle = Vec::new();
    for _ in 0..2000 {
        idle.push(running.connect().await);
        if idle.len().is_multiple_of(500) {
            running.answers().await;
        }
    }
    // The oldest are gone.
    assert_eq!(until_closed(&mut idle[0]).await, "");
    // Connections that are all busy leave no room, and that is said.
    drop(idle);
    let mut busy = Vec::new();
    while busy.len() < 50 {
        let mut stream = running.connect().await;
        let request = format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(10);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        busy.push(stream);
    }
    let mut refused = running.connect().await;
    assert_eq!(status(&until_closed(&mut refused).await), 503);
    drop(busy);
}

#[tokio::test]
async fn made_up_names_fill_nothing_and_change_nothing() {
    let _process = PROCESS.write().await;
    let server = server(&[]).await;
    let site = server.site.clone();
    let ledger = server.kit.station.store.db.ledger_head().await.unwrap();
    server.get(SMALL).await;
    let before = memory();
    let asking = (0..32).map(|client| {
        let site = site.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                for uri in [
                    format!("/conda/main/noarch/absent-{client}-{n}.conda"),
                    format!("/conda/c{client}x{n}/noarch/repodata.json"),
                    format!("/conda/main/noarch/shards/{:064x}.msgpack.zst", client * 1000 + n),
                    format!("/conda/main@{:064x}/noarch/repodata.json", client * 1000 + n),
                    format!("/pypi/py/simple/p{client}-{n}/"),
                    format!("/wp-admin/{client}/{n}.php"),
                ] {
                    assert_eq!(
                        common::ask(&site, axum::http::Method::GET, &uri, &[]).await.status,
                        404,
                        "{uri}"
                    );
                }
            }
        })
    });
    for one in asking.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(server.kit.station.store.db.ledger_head().await.unwrap(), ledger);
    assert!(memory() < before + (48 << 20), "{} to {}", before, memory());
}

#[tokio::test]
async fn what_proxies_say_counts_from_configured_proxies_only() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let trusting = Arc::new(Site::new(App::new(server.kit.view(), vec!["127.0.0.1".parse().unwrap()])));
    for (site, scheme) in [(server.site.clone(), "http"), (trusting, "https")] {
        let running = start(site, Limits::default()).await;
        let answer = running
            .tell(
                b"GET /packages/py/idna HTTP/1.1\r\nHost: pkg.example\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example;proto=https\r\nX-Original-URL: /x\r\n\
                  Remote-User: admin\r\nConnection: close\r\n\r\n",
            )
            .await;
        assert_eq!(status(&answer), 200);
        assert!(answer.contains(&format!("--index-url {scheme}://pkg.example/pypi/py/simple/")), "{answer}");
        assert!(!answer.contains("evil.example"));
    }
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_waits_for_nobody_else() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let mut running = Running::over(&server).await;
    let mut idle = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(3).as_bytes()).await.unwrap();
    let mut first = [0; 1];
    busy.read_exact(&mut first).await.unwrap();
    running.stop.take().unwrap().send(()).unwrap();
    let mut body = Vec::new();
    busy.read_to_end(&mut body).await.unwrap();
    assert!(body.len() > 3 << 20, "the answer that had begun came whole: {}", body.len());
    assert_eq!(until_closed(&mut idle).await, "");
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_client_that_takes_nothing_cannot_keep_the_server_from_stopping() {
    let _process = PROCESS.read().await;
    let server = server(&[]).await;
    let limits = Limits { grace: Duration::from_millis(100), ..Limits::default() };
    let mut running = start(server.site.clone(), limits).await;
    let mut stalled = running.connect().await;
    stalled
        .write_all(format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(10).as_bytes())
        .await
        .unwrap();
    stalled.read_exact(&mut [0; 1]).await.unwrap();
    running.stop.take().unwrap().send(()).unwrap();
    running.task.await.unwrap();
}
