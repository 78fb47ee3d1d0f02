//! Proxies: SOCKS5 with a password, and one that opens TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Request;

/// A SOCKS5 proxy (RFC 1928, 1929) that wants a user and a password, and connects everything to one place.
#[derive(Clone, Debug)]
pub struct Socks {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socks {
    /// Starts it.
    pub async fn start(user: &'static str, password: &'static str, to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socks = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let me = socks.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let me = me.clone();
                tokio::spawn(async move { me.serve(stream, user, password, to).await });
            }
        });
        socks
    }

    /// Where clients wanted to go: host and port as they said them.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn serve(
        &self,
        mut stream: TcpStream,
        user: &str,
        password: &str,
        to: SocketAddr,
    ) -> std::io::Result<()> {
        let _version = stream.read_u8().await?;
        let methods = sized(&mut stream).await?;
        if !methods.contains(&2) {
            return stream.write_all(&[5, 0xff]).await;
        }
        stream.write_all(&[5, 2]).await?;
        let _version = stream.read_u8().await?;
        let (name, word) = (sized(&mut stream).await?, sized(&mut stream).await?);
        let is_good = name == user.as_bytes() && word == password.as_bytes();
        stream.write_all(&[1, u8::from(!is_good)]).await?;
        if !is_good {
            return Ok(());
        }
        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        let host = if request[3] == 3 {
            String::from_utf8(sized(&mut stream).await?).unwrap()
        } else {
            let mut address = vec![0; if request[3] == 1 { 4 } else { 16 }];
            stream.read_exact(&mut address).await?;
            format!("{address:?}")
        };
        let port = stream.read_u16().await?;
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        let mut upstream = TcpStream::connect(to).await?;
        copy_bidirectional(&mut stream, &mut upstream).await.map(|_| ())
    }
}

/// Bytes after their number.
async fn sized(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A proxy that opens TLS with certificates of its own authority, as companies have them, and passes what was in
/// it on to one place.
#[derive(Clone, Copy, Debug)]
pub struct Inspector {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Inspector {
    /// Starts it with a certificate and key in PEM.
    pub async fn start(certificate: &Path, key: &Path, to: SocketAddr) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move { inspect(stream, acceptor, to).await });
            }
        });
        Self { address }
    }
}

async fn inspect(mut stream: TcpStream, acceptor: TlsAcceptor, to: SocketAddr) -> Option<()> {
    let request = Request::read(&mut stream).await?;
    assert_eq!(request.method, "CONNECT");
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    // A client that does not trust the certificate hangs up here.
    let mut inside = acceptor.accept(stream).await.ok()?;
    let mut upstream = TcpStream::connect(to).await.ok()?;
    copy_bidirectional(&mut inside, &mut upstream).await.ok().map(|_| ())
}

/// Makes an authority (`ca.pem`) and a certificate for `host` (`host.pem`, `host.key`) in `dir` with `openssl`; gives
/// false if there is none.
pub fn openssl_ca(dir: &Path, host: &str) -> bool {
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(dir).output().ok()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Some(())
    };
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["-x509", "-days", "30", "-subj", "/CN=Authority of a test", "-keyout", "ca.key", "-out", "ca.pem"];
    if openssl(&[&new[..], &authority].concat()).is_none() {
        return false;
    }
    std::fs::write(dir.join("host.ext"), format!("subjectAltName=DNS:{host}\n")).unwrap();
    openssl(&[&new[..], &["-subj", "/CN=a host", "-keyout", "host.key", "-out", "host.csr"]].concat());
    let sign = ["x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "30", "-extfile", "host.ext", "-out", "host.pem"]].concat());
    true
}
