//! The server behind TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::common::process::Process;
use crate::common::{World, in_world, until};
use crate::{Folder, start};

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Not the name that its certificates have by default: OpenSSL would take them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, PEM.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for localhost, PEM.
    pub(super) fn pair(&self) -> (String, String) {
        self.pair_for("localhost")
    }

    /// Certificate and key for `name`, PEM.
    pub(super) fn pair_for(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A client that trusts this authority, and shows a certificate if it has one.
    pub(super) fn client(&self, alpn: &[&str], own: Option<(String, String)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

type Io<T> = std::io::Result<T>;

pub(super) async fn connect(server: &Process, client: &TlsConnector) -> Io<TlsStream<TcpStream>> {
    connect_to(server.port, client).await
}

pub(super) async fn connect_to(port: u16, client: &TlsConnector) -> Io<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The answer to a GET, on a connection that stays open.
pub(super) async fn get<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S, path: &str) -> Io<String> {
    ask(stream, "GET", path, "").await
}

/// The answer to a request with `body`, on a connection that stays open.
pub(super) async fn ask<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    stream: &mut S,
    method: &str,
    path: &str,
    body: &str,
) -> Io<String> {
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !whole(&String::from_utf8_lossy(&answer)) && stream.read_buf(&mut answer).await? > 0 {}
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

pub(super) fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A server whose pair is in a folder as Kubernetes mounts a Secret: behind links that are swapped at once.
pub(super) struct Mounted {
    folder: Folder,
    turns: usize,
}

impl Mounted {
    pub(super) fn new(pair: &(String, String)) -> Self {
        let mut mounted = Self { folder: Folder::new(), turns: 0 };
        mounted.swap(pair);
        for name in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(format!("..data/{name}"), mounted.folder.path(name)).unwrap();
        }
        mounted
    }

    pub(super) fn swap(&mut self, (cert, key): &(String, String)) {
        self.turns += 1;
        let data = format!("..{}", self.turns);
        std::fs::create_dir(self.folder.path(&data)).unwrap();
        self.folder.write(&format!("{data}/tls.crt"), cert);
        self.folder.write(&format!("{data}/tls.key"), key);
        std::os::unix::fs::symlink(&data, self.folder.path("..data_tmp")).unwrap();
        std::fs::rename(self.folder.path("..data_tmp"), self.folder.path("..data")).unwrap();
    }

    pub(super) async fn server(&self, world: &World, client: &TlsConnector, args: &[&str]) -> Process {
        let (cert, key) = (self.folder.path("tls.crt"), self.folder.path("tls.key"));
        let server = start(world, &[&["--tls-cert", &cert, "--tls-key", &key], args].concat(), &[]);
        until("the server speaks TLS", || async { connect(&server, client).await.ok() }).await;
        server
    }
}

async fn metric(stream: &mut TlsStream<TcpStream>, name: &str) -> Option<f64> {
    let text = get(stream, "/metrics").await.ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_new_certificate_is_used_and_no_connection_is_lost() {
    in_world("tls", |world| async move {
        let authority = Authority::new();
        let (first, second) = (authority.pair(), authority.pair());
        let (client, h2) =
            (authority.client(&["http/1.1"], None), authority.client(&["h2", "http/1.1"], None));
        let mut mounted = Mounted::new(&first);
        let server = mounted.server(&world, &client, &[]).await;
        assert_eq!(connect(&server, &h2).await.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut old = connect(&server, &client).await.unwrap();
        assert!(get(&mut old, "/focus-server/ack").await.unwrap().starts_with("HTTP/1.1 200"));
        let ends = metric(&mut old, "focus_server_tls_certificate_expiry_seconds ").await;
        assert!(ends.is_some_and(|ends| ends > 1.8e9), "{ends:?}");

        // A pair that is none changes nothing but a counter.
        mounted.swap(&(second.0.clone(), first.1.clone()));
        let refused = "focus_server_reloads_total{outcome=\"refused\",source=\"tls\"} 1";
        until("the broken pair is counted", || async {
            let mut stream = connect(&server, &client).await.unwrap();
            get(&mut stream, "/metrics").await.ok()?.contains(refused).then_some(())
        })
        .await;
        assert_eq!(leaf(&connect(&server, &client).await.unwrap()), leaf(&old));

        mounted.swap(&second);
        let new = until("the new certificate is shown", || async {
            let stream = connect(&server, &client).await.unwrap();
            (leaf(&stream) != leaf(&old)).then_some(stream)
        })
        .await;
        assert_eq!(leaf(&new), CertificateDer::from_pem_slice(second.0.as_bytes()).unwrap().to_vec());
        assert!(get(&mut old, "/focus-server/ack").await.unwrap().starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test]
async fn clients_without_tls_are_told_and_idle_ones_hold_nobody_up() {
    in_world("plain", |world| async move {
        let authority = Authority::new();
        let client = authority.client(&[], None);
        let server = Mounted::new(&authority.pair()).server(&world, &client, &[]).await;
        // They have connected, and say nothing.
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
        }
        let mut plain = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let told = get(&mut plain, "/focus-server/ack").await.unwrap();
        assert!(told.starts_with("HTTP/1.1 400") && told.contains("use https"), "{told}");
        assert!(told.ends_with("\r\n\r\nThis port speaks TLS: use https, not http.\n"), "{told}");
        let mut garbage = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        garbage.write_all(&[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]).await.unwrap();
        let mut rest = Vec::new();
        let _ = garbage.read_to_end(&mut rest).await;
        let mut stream = connect(&server, &client).await.unwrap();
        assert!(get(&mut stream, "/focus-server/ack").await.unwrap().starts_with("HTTP/1.1 200"));
        drop((plain, garbage));
        until("both are counted", || async {
            let mut stream = connect(&server, &client).await.unwrap();
            let count = metric(&mut stream, "focus_server_tls_failed_handshakes_total ").await;
            (count? >= 2.0).then_some(())
        })
        .await;
        drop(idle);
    })
    .await;
}

#[tokio::test]
async fn clients_must_have_a_certificate_where_it_is_asked_for() {
    in_world("mtls", |world| async move {
        let (authority, other) = (Authority::new(), Authority::new());
        let folder = Folder::new();
        let ca = folder.write("ca", &authority.0.pem());
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = authority.client(&[], Some(authority.pair()));
        let args = ["--tls-client-ca", &ca, "--admin-listen", &admin.to_string()];
        let server = Mounted::new(&authority.pair()).server(&world, &good, &args).await;
        let mut stream = connect(&server, &good).await.unwrap();
        assert!(get(&mut stream, "/focus-server/ack").await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(get(&mut stream, "/livez").await.unwrap().starts_with("HTTP/1.1 404"));
        for own in [None, Some(other.pair())] {
            // With TLS 1.3 the client hears of it when it reads.
            let refused = async {
                let mut stream = connect(&server, &authority.client(&[], own)).await?;
                get(&mut stream, "/focus-server/ack").await
            };
            assert!(refused.await.is_ok_and(|answer| !answer.is_empty()).eq(&false));
        }
        for path in ["livez", "metrics"] {
            let answer = reqwest::get(format!("http://{admin}/{path}")).await.unwrap();
            assert!(answer.status().is_success(), "{path}");
        }
    })
    .await;
}
