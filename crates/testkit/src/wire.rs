//! Upstreams and proxies that behave as badly as a test wants: raw TCP, whose every byte is scripted.

mod paged;
mod proxies;
mod ranged;

pub use paged::{Paged, Turn, World};
pub use proxies::{Inspector, Socks, Squid, openssl_ca};
pub use ranged::Ranged;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// What stands behind it: a path, for a proxy a URL or an authority.
    pub target: String,
    /// The lines below, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Reads a head; nothing if the connection ended before one.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.ok()?;
            head.push(byte);
            assert!(head.len() < HEAD_MAX, "a request's head has no end");
        }
        let text = String::from_utf8(head).unwrap();
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        Some(Self { method, target, headers: headers.collect() })
    }
}

/// One thing that a server does with a connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes again and again, until the other side hangs up.
    Forever(Vec<u8>),
    /// Sends bytes one by one, with so much time between them.
    Drip(Vec<u8>, Duration),
    /// Does nothing for so long.
    Pause(Duration),
    /// Says nothing more, and holds the connection until the other side hangs up.
    Hang,
    /// Waits for the next request on the same connection. Without it, the connection is closed at the end.
    Next,
}

/// An answer with a length, after which the next request may come.
pub fn answer(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let length = format!("content-length: {}", body.len());
    let mut bytes = head(status, headers, &[&length]);
    bytes.extend_from_slice(body);
    vec![Act::Send(bytes), Act::Next]
}

/// The head of an answer.
pub fn head(status: &str, headers: &[(&str, &str)], more: &[&str]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    for line in more {
        text += &format!("{line}\r\n");
    }
    (text + "\r\n").into_bytes()
}

type Script = Arc<dyn Fn(&Request, usize) -> Vec<Act> + Send + Sync>;

/// A server whose every byte a script decides, from the request and how many requests came for this target before.
#[derive(Clone)]
pub struct Wire {
    script: Script,
    asked: Arc<Mutex<Vec<Request>>>,
    /// Requests that are being answered, and the most that ever were at once.
    busy: Arc<Mutex<(usize, usize)>>,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub base: String,
}

impl Wire {
    /// Starts it on a free port of the loopback.
    pub async fn start(script: impl Fn(&Request, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let wire = Self { script: Arc::new(script), asked: Arc::default(), busy: Arc::default(), base };
        let me = wire.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let me = me.clone();
                tokio::spawn(async move { me.serve(stream).await });
            }
        });
        wire
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().unwrap()
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// The most requests that were answered at once.
    pub fn peak(&self) -> usize {
        self.busy.lock().unwrap().1
    }

    fn begin(&self) {
        let mut busy = self.busy.lock().unwrap();
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some(request) = Request::read(&mut stream).await {
            let before = {
                let mut asked = self.asked.lock().unwrap();
                asked.push(request.clone());
                asked.iter().filter(|r| r.target == request.target).count() - 1
            };
            self.begin();
            let goes_on = self.act(&mut stream, &request, before).await;
            self.busy.lock().unwrap().0 -= 1;
            if !goes_on {
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}

impl Wire {
    /// Plays the script for one request, and tells whether another may follow.
    async fn act(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        request: &Request,
        before: usize,
    ) -> bool {
        let mut goes_on = false;
        for act in (self.script)(request, before) {
            goes_on = matches!(act, Act::Next);
            if perform(stream, act).await.is_err() {
                return false;
            }
        }
        goes_on
    }
}

async fn perform(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), act: Act) -> std::io::Result<()> {
    match act {
        Act::Send(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Act::Forever(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
        Act::Drip(bytes, every) => {
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(every).await;
            }
            Ok(())
        }
        Act::Pause(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Act::Hang => {
            let mut byte = [0];
            stream.read(&mut byte).await.map(|_| ())
        }
        Act::Next => Ok(()),
    }
}
