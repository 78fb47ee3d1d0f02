//! Proxies: SOCKS5 with a password, and one that opens TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
/// it on to one place; or the same without the proxy, as the TLS side of an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Inspector {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Inspector {
    /// Starts it with a certificate and key in PEM. As a proxy, it wants to be asked with `CONNECT` first.
    pub async fn start(certificate: &Path, key: &Path, to: SocketAddr, is_proxy: bool) -> Self {
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
                tokio::spawn(async move { inspect(stream, acceptor, to, is_proxy).await });
            }
        });
        Self { address }
    }
}

async fn inspect(mut stream: TcpStream, acceptor: TlsAcceptor, to: SocketAddr, is_proxy: bool) -> Option<()> {
    if is_proxy {
        let request = Request::read(&mut stream).await?;
        assert_eq!(request.method, "CONNECT");
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    }
    // A client that does not trust the certificate hangs up here.
    let mut inside = acceptor.accept(stream).await.ok()?;
    let mut upstream = TcpStream::connect(to).await.ok()?;
    copy_bidirectional(&mut inside, &mut upstream).await.ok().map(|_| ())
}

/// A `squid` that wants a user and a password. Dropped, it ends.
#[derive(Debug)]
pub struct Squid {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Squid {
    /// Starts it with its files in `dir`; nothing if this machine has none.
    pub async fn start(dir: &Path, user: &str, password: &str) -> Option<Self> {
        let first = |paths: &[&str]| paths.iter().find(|p| Path::new(p).exists()).map(|p| (*p).to_owned());
        let program = first(&["/usr/sbin/squid", "/usr/local/sbin/squid"])?;
        let helpers = ["/usr/lib/squid", "/usr/lib64/squid", "/usr/libexec/squid"];
        let helper = first(&helpers.map(|d| format!("{d}/basic_ncsa_auth")).each_ref().map(String::as_str))?;
        let hash = Command::new("openssl").args(["passwd", "-apr1", password]).output().ok()?;
        std::fs::write(dir.join("users"), format!("{user}:{}", String::from_utf8(hash.stdout).ok()?))
            .unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let users = dir.join("users");
        let conf = format!(
            "http_port {address}\npid_filename none\ncache_log /dev/null\naccess_log none\ncache deny all\n\
             shutdown_lifetime 0 seconds\nauth_param basic program {helper} {}\n\
             auth_param basic children 1\nacl known proxy_auth REQUIRED\nhttp_access allow known\n\
             http_access deny all\n",
            users.display()
        );
        std::fs::write(dir.join("squid.conf"), conf).unwrap();
        open_to_all(dir);
        let mut process = Command::new(program);
        process.args(["-N", "-f"]).arg(dir.join("squid.conf"));
        let process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let squid = Self { process, address };
        for _ in 0..400 {
            if TcpStream::connect(address).await.is_ok() {
                return Some(squid);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("squid does not listen after 20 s");
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets the user that squid becomes read what is in `dir`.
fn open_to_all(dir: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = dir;
}

/// Makes an authority (`ca.pem`) and a certificate for `host` and 127.0.0.1 (`host.pem`, `host.key`) in `dir` with
/// `openssl`; gives false if there is no such program.
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
    std::fs::write(dir.join("host.ext"), format!("subjectAltName=DNS:{host},IP:127.0.0.1\n")).unwrap();
    openssl(&[&new[..], &["-subj", "/CN=a host", "-keyout", "host.key", "-out", "host.csr"]].concat());
    let sign = ["x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "30", "-extfile", "host.ext", "-out", "host.pem"]].concat());
    true
}
