//! What the download log is told: each file that goes out, once, with whom it went to; and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use airlock_engine::downloads::{self, Answer, DownloadView, Question};
use airlock_engine::station::Station;
use airlock_web::{App, Limits, Site};
use common::{LARGE, SMALL, Server, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server that notes, until it is stopped.
struct Noting {
    address: std::net::SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
    writing: tokio::task::JoinHandle<()>,
    log: downloads::Log,
}

impl Noting {
    async fn over(server: &Server, proxies: &[&str], queue: usize) -> Self {
        let station = server.kit.station.clone();
        let (log, writer) = downloads::open(&station, queue).unwrap().unwrap();
        let proxies = proxies.iter().map(|p| p.parse::<IpAddr>().unwrap()).collect();
        let site = Arc::new(Site::new(App::new(server.kit.view(), proxies).noting(Some(log.clone()))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, end) = tokio::sync::oneshot::channel();
        let end = async { end.await.unwrap_or(()) };
        let serving = tokio::spawn(airlock_web::serve(listener, site, Limits::default(), end));
        let writing = tokio::spawn(writer.run(|text| panic!("{text}")));
        Self { address, stop, serving, writing, log }
    }

    /// Asks, and gives the status.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
    }

    /// Stops, which writes what came last.
    async fn stop(self) {
        drop(self.log);
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.writing).await.expect("it ends").unwrap();
    }
}

async fn noted(station: &Station, channel: &str) -> Answer {
    downloads::ask(station, channel, &Question::default(), |_| true).await.unwrap()
}

fn lines(answer: &Answer) -> Vec<String> {
    let line = |d: &DownloadView| {
        let who = d.client.as_deref().unwrap_or("others");
        let account = d.account.as_deref().map_or(String::new(), |a| format!(" {a}"));
        format!("{} {who}{account} {} {}", d.artifact, d.agent, d.times)
    };
    let mut lines: Vec<String> = answer.downloads.iter().map(line).collect();
    lines.sort();
    lines
}

const WHEEL: &str = "/pypi/py/packages/idna/idna-3.7-py3-none-any.whl";

#[tokio::test]
async fn files_that_go_out_are_noted_with_whom_and_how_often_and_nothing_else_is() {
    let server = server(&[common::against_idna()]).await;
    let noting = Noting::over(&server, &[], 1000).await;
    let conda = "User-Agent: conda/26.7.0 requests/2.32\r\n";
    for _ in 0..3 {
        assert_eq!(noting.ask("GET", SMALL, conda).await, 200);
    }
    assert_eq!(noting.ask("GET", SMALL, "User-Agent: ~made/1 up\r\nRange: bytes=0-9\r\n").await, 206);
    assert_eq!(noting.ask("GET", LARGE, "Range: bytes=0-99\r\n").await, 206);
    assert_eq!(noting.ask("GET", WHEEL, "User-Agent: pip/26.0 {\"ci\":true}\r\n").await, 200);
    // Any part counts: the first byte of a package can be guessed.
    assert_eq!(noting.ask("GET", LARGE, "Range: bytes=1-\r\n").await, 206);
    // What a client has already, what is refused, and what is no file.
    assert_eq!(noting.ask("HEAD", LARGE, "").await, 200);
    let tag = common::ask(&server.site, axum::http::Method::HEAD, LARGE, &[]).await.header("etag").to_owned();
    assert_eq!(noting.ask("GET", LARGE, &format!("If-None-Match: {tag}\r\n")).await, 304);
    assert_eq!(noting.ask("GET", LARGE, "Range: bytes=99999999-\r\n").await, 416);
    assert_eq!(noting.ask("GET", "/conda/main/noarch/idna-3.6-0.conda", "").await, 403);
    assert_eq!(noting.ask("GET", "/conda/main/noarch/repodata.json", "").await, 200);
    assert_eq!(noting.ask("GET", &format!("{WHEEL}.metadata"), "").await, 200);
    // Nobody is believed who he is.
    assert_eq!(noting.ask("GET", LARGE, "X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-User: eve\r\n").await, 200);
    noting.stop().await;

    let answer = noted(&server.kit.station, "main").await;
    assert_eq!(
        lines(&answer),
        [
            "noarch/idna-3.7-0.conda 127.0.0.1 conda 3",
            "noarch/idna-3.7-0.conda 127.0.0.1 other 1",
            "noarch/large-1.0-0.conda 127.0.0.1 other 3",
        ]
    );
    let now = server.kit.now().await;
    assert!(answer.downloads.iter().all(|d| d.first == now && d.last == now));
    let file = server.get(SMALL).await;
    assert_eq!(answer.downloads[0].sha256, airlock_core::id::Digest::of(&file.body));
    assert_eq!(lines(&noted(&server.kit.station, "py").await), ["idna-3.7-py3-none-any.whl 127.0.0.1 pip 1"]);
    // Who looked is known.
    let ledger = server.kit.station.store.db.ledger(1, 1000).await.unwrap();
    let looks = ledger.iter().filter(|(e, _)| e.action == "downloads.read").count();
    assert_eq!(looks, 2);
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_whom_the_proxy_names_and_not_whom_the_client_names() {
    let mut server = server(&[]).await;
    // Unless it is said that the proxy sets it, the client may have: nobody is believed.
    let noting = Noting::over(&server, &["127.0.0.1"], 1000).await;
    noting.ask("GET", SMALL, "X-Forwarded-For: 10.1.1.9\r\nX-Forwarded-User: eve\r\n").await;
    noting.stop().await;
    server.kit.station.config.downloads.account_header = Some("X-Forwarded-User".to_owned());
    let noting = Noting::over(&server, &["127.0.0.1", "10.0.0.9"], 1000).await;
    let twice = "X-Forwarded-For: 10.1.1.4\r\nX-Forwarded-User: ada\r\nX-Forwarded-User: eve\r\n";
    noting.ask("GET", SMALL, twice).await;
    for (for_, user) in [
        ("10.1.1.1", "X-Forwarded-User: ada\r\n"),
        ("6.6.6.6, 10.1.1.2, 10.0.0.9", ""),
        ("nonsense", "X-Forwarded-User: two words\r\n"),
        ("::ffff:10.1.1.3", ""),
        ("\u{e4}\u{f6}, 10.1.1.5", ""),
    ] {
        noting.ask("GET", SMALL, &format!("X-Forwarded-For: {for_}\r\n{user}")).await;
    }
    noting.stop().await;
    let file = "noarch/idna-3.7-0.conda";
    assert_eq!(
        lines(&noted(&server.kit.station, "main").await),
        [
            format!("{file} 10.1.1.1 ada other 1"),
            format!("{file} 10.1.1.2 other 1"),
            format!("{file} 10.1.1.3 other 1"),
            format!("{file} 10.1.1.4 other 1"),
            format!("{file} 10.1.1.5 other 1"),
            format!("{file} 10.1.1.9 other 1"),
            format!("{file} 127.0.0.1 other 1"),
        ]
    );
}

/// Whether these bytes stand in any file of the database.
fn stands(dir: &std::path::Path, text: &str) -> bool {
    let folder = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut files = folder.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("airlock.db"));
    files.any(|p| std::fs::read(p).unwrap().windows(text.len()).any(|w| w == text.as_bytes()))
}

#[tokio::test]
async fn pseudonyms_are_the_same_for_the_same_client_and_no_address_reaches_the_database() {
    let mut server = server(&[]).await;
    server.kit.station.config.downloads.account_header = Some("X-Forwarded-User".to_owned());
    let proxied = "X-Forwarded-For: 10.77.66.55\r\nX-Forwarded-User: ada.lovelace\r\n";
    // What is looked for is found where there are no pseudonyms: the test sees what it is to see.
    let noting = Noting::over(&server, &["127.0.0.1"], 1000).await;
    noting.ask("GET", SMALL, proxied).await;
    noting.stop().await;
    assert!(
        stands(&server.kit.station.dir, "10.77.66.55") && stands(&server.kit.station.dir, "ada.lovelace")
    );
    drop(server);

    server = common::server(&[]).await;
    server.kit.station.config.downloads.account_header = Some("X-Forwarded-User".to_owned());
    server.kit.station.config.downloads.pseudonymous = true;
    for _ in 0..2 {
        let noting = Noting::over(&server, &["127.0.0.1"], 1000).await;
        noting.ask("GET", SMALL, proxied).await;
        noting.ask("GET", SMALL, "X-Forwarded-For: 10.77.66.54\r\n").await;
        noting.stop().await;
    }
    let station = &server.kit.station;
    assert!(!stands(&station.dir, "10.77.66.55") && !stands(&station.dir, "ada.lovelace"));
    let answer = noted(station, "main").await;
    assert_eq!(answer.downloads.iter().map(|d| d.times).collect::<Vec<_>>(), [2, 2]);
    let names: Vec<&str> = answer.downloads.iter().filter_map(|d| d.client.as_deref()).collect();
    assert!(names.iter().all(|n| n.starts_with('~') && n.len() == 21), "{names:?}");
    assert_ne!(names[0], names[1]);
    // Whoever has the key finds what an address was sent.
    let question = Question { client: Some("10.77.66.55".parse().unwrap()), ..Question::default() };
    let found = downloads::ask(station, "main", &question, |_| true).await.unwrap();
    assert_eq!(found.downloads.len(), 1);
    let key = station.dir.join("keys/downloads.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Another station calls the same client otherwise.
    std::fs::remove_file(key).unwrap();
    assert!(downloads::ask(station, "main", &question, |_| true).await.unwrap().downloads.is_empty());
}

#[tokio::test]
async fn a_queue_that_is_full_slows_nobody_and_what_is_lost_is_counted() {
    let server = server(&[]).await;
    let noting = Noting::over(&server, &[], 2).await;
    // The first wakes the writer, which gathers for a while; the queue holds two more.
    noting.ask("GET", SMALL, "").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..9 {
        assert_eq!(noting.ask("GET", SMALL, "").await, 200);
    }
    assert_eq!(noting.log.lost(), 7);
    noting.stop().await;
    let answer = noted(&server.kit.station, "main").await;
    assert_eq!(answer.downloads.iter().map(|d| d.times).sum::<u64>(), 3);
    assert_eq!(answer.lost, 7);
}

#[tokio::test]
async fn a_crowd_is_noted_to_the_last_and_makes_few_rows() {
    let server = server(&[]).await;
    let noting = Arc::new(Noting::over(&server, &[], downloads::QUEUE_MAX).await);
    let asking: Vec<_> = (0..20)
        .map(|n| {
            let noting = noting.clone();
            tokio::spawn(async move {
                for turn in 0..50 {
                    let path = if (n + turn) % 2 == 0 { SMALL } else { WHEEL };
                    assert_eq!(noting.ask("GET", path, "User-Agent: uv/0.9\r\n").await, 200);
                }
            })
        })
        .collect();
    for one in asking {
        one.await.unwrap();
    }
    assert_eq!(noting.log.lost(), 0);
    Arc::into_inner(noting).unwrap().stop().await;
    let station = &server.kit.station;
    assert_eq!(lines(&noted(station, "main").await), ["noarch/idna-3.7-0.conda 127.0.0.1 uv 500"]);
    assert_eq!(lines(&noted(station, "py").await), ["idna-3.7-py3-none-any.whl 127.0.0.1 uv 500"]);
}

#[tokio::test]
async fn a_day_that_is_full_counts_for_nobody_and_what_is_old_goes() {
    let mut server = server(&[]).await;
    server.kit.station.config.downloads.rows_per_day = 2;
    server.kit.station.config.downloads.keep = "30 days".parse().unwrap();
    for clients in [&["10.0.0.1", "10.0.0.2"][..], &["10.0.0.1", "10.0.0.3", "10.0.0.4"]] {
        let noting = Noting::over(&server, &["127.0.0.1"], 100).await;
        for client in clients {
            noting.ask("GET", SMALL, &format!("X-Forwarded-For: {client}\r\n")).await;
        }
        noting.stop().await;
    }
    let file = "noarch/idna-3.7-0.conda";
    let all = [
        format!("{file} 10.0.0.1 other 2"),
        format!("{file} 10.0.0.2 other 1"),
        format!("{file} others other 2"),
    ];
    let kit = &mut server.kit;
    assert_eq!(lines(&noted(&kit.station, "main").await), all);
    kit.pass("30 days".parse().unwrap());
    assert_eq!(downloads::expire(&kit.station).await.unwrap(), 0);
    assert_eq!(noted(&kit.station, "main").await.downloads.len(), 3);
    kit.pass("1 day".parse().unwrap());
    // What is not kept is not shown, removed or not.
    assert!(noted(&kit.station, "main").await.downloads.is_empty());
    assert!(stands(&kit.station.dir, "10.0.0.2"));
    assert_eq!(downloads::expire(&kit.station).await.unwrap(), 3);
    assert_eq!(downloads::expire(&kit.station).await.unwrap(), 0);
    assert!(kit.station.store.db.downloaded("main").await.unwrap().is_empty());
    let dir = &kit.station.dir;
    assert!(!stands(dir, "10.0.0.2"), "the bytes of rows that went are overwritten");
}

#[tokio::test]
async fn one_client_does_not_fill_a_day_for_the_others() {
    let mut server = server(&[]).await;
    server.kit.station.config.downloads.rows_per_day = 4;
    server.kit.station.config.downloads.rows_per_client = 2;
    for agent in ["conda", "pip", "uv", "pixi", "curl"] {
        let noting = Noting::over(&server, &["127.0.0.1"], 100).await;
        let from = format!("X-Forwarded-For: 10.0.0.1\r\nUser-Agent: {agent}\r\n");
        noting.ask("GET", SMALL, &from).await;
        noting.stop().await;
    }
    let noting = Noting::over(&server, &["127.0.0.1"], 100).await;
    noting.ask("GET", SMALL, "X-Forwarded-For: 10.0.0.2\r\n").await;
    noting.stop().await;
    let file = "noarch/idna-3.7-0.conda";
    assert_eq!(
        lines(&noted(&server.kit.station, "main").await),
        [
            format!("{file} 10.0.0.1 conda 1"),
            format!("{file} 10.0.0.1 pip 1"),
            format!("{file} 10.0.0.2 other 1"),
            format!("{file} others other 3"),
        ]
    );
}

#[tokio::test]
async fn a_station_that_notes_nothing_opens_no_log() {
    let mut server = server(&[]).await;
    server.kit.station.config.downloads.enabled = false;
    assert!(downloads::open(&server.kit.station, 10).unwrap().is_none());
}
