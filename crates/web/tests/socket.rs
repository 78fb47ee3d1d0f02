//! The same over a real connection, where lengths and bodies must fit the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{LARGE, SMALL, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Sends one request on a connection that stays open, and reads a head and as many bytes as it announces.
async fn exchange(stream: &mut TcpStream, request: &str, has_body: bool) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    let length: usize = if has_body { length.unwrap().parse().unwrap() } else { 0 };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

#[tokio::test]
async fn one_connection_carries_answers_of_every_kind() {
    let server = server(&[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (limits, never) = (airlock_web::Limits::default(), std::future::pending());
    let serving = tokio::spawn(airlock_web::serve(listener, server.site.clone(), limits, never));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let whole = server.get(LARGE).await;
    let etag = whole.header("etag").to_owned();
    for (method, uri, headers, status, length) in [
        ("HEAD", LARGE, String::new(), 200, 0),
        ("GET", LARGE, format!("If-None-Match: {etag}\r\n"), 304, 0),
        ("GET", LARGE, "Range: bytes=-2000000\r\n".to_owned(), 206, 2_000_000),
        ("GET", LARGE, String::new(), 200, whole.body.len()),
        ("HEAD", "/conda/main/noarch/absent-1-0.conda", String::new(), 404, 0),
        ("GET", LARGE, "Range: bytes=99999999-\r\n".to_owned(), 416, usize::MAX),
        ("GET", "/pypi/py/simple", String::new(), 301, 0),
        ("POST", SMALL, "Content-Length: 0\r\n".to_owned(), 405, 0),
        ("GET", SMALL, String::new(), 200, usize::MAX),
    ] {
        let request = format!("{method} {uri} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let has_body = method == "GET" && status != 304;
        let (head, body) = exchange(&mut stream, &request, has_body).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{request}{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        if length < usize::MAX {
            assert_eq!(body.len(), length, "{request}{head}");
        }
        if method == "HEAD" && status == 200 {
            assert!(head.contains(&format!("content-length: {}\r\n", whole.body.len())), "{head}");
        }
    }
    serving.abort();
}
