//! Accepts connections, plain or over TLS, for `axum::serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prometheus::IntCounter;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::connection::Connection;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; further connections wait in the kernel.
const HANDSHAKES: usize = 1024;
/// First byte of a TLS handshake.
const TLS_RECORD: u8 = 0x16;
/// What a client hears that speaks plain HTTP to TLS.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https, not http.\n";

/// Accepts connections; with TLS it gives those whose handshake is done, and slow ones hold nobody up.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Accept>,
    handshakes: JoinSet<Option<(Connection, SocketAddr)>>,
    failed: IntCounter,
}

/// What the next handshake needs.
pub type Accept = Box<dyn Fn() -> Arc<ServerConfig> + Send>;

/// Why there was no handshake.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("not done within {} s", HANDSHAKE.as_secs())]
    TooSlow,
    #[error("the client does not speak TLS")]
    NotTls,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Listener {
    /// Takes the connections of `tcp`, with `tls` or without; counts `failed` handshakes.
    pub fn new(tcp: TcpListener, tls: Option<Accept>, failed: IntCounter) -> Self {
        Self { tcp, tls, handshakes: JoinSet::new(), failed }
    }

    fn shake_hands(&mut self, stream: TcpStream, from: SocketAddr, tls: Arc<ServerConfig>) {
        let failed = self.failed.clone();
        self.handshakes.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, handshake(stream, tls)).await;
            match shaken.unwrap_or(Err(HandshakeError::TooSlow)) {
                Ok(stream) => Some((Connection::Tls(Box::new(stream.into())), from)),
                Err(error) => {
                    failed.inc();
                    debug!(%from, %error, "no TLS handshake");
                    None
                }
            }
        });
    }
}

async fn handshake(
    mut stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_RECORD {
        stream.write_all(NOT_TLS.as_bytes()).await?;
        stream.shutdown().await?;
        // What the client still sends is taken, or the system would break the connection before the answer is read.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        return Err(HandshakeError::NotTls);
    }
    Ok(TlsAcceptor::from(tls).accept(stream).await?)
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            tokio::select! {
                // axum's own pauses after an error such as too many open files.
                (stream, from) = axum::serve::Listener::accept(&mut self.tcp), if self.handshakes.len() < HANDSHAKES => {
                    // A small answer is sent at once; without this it is only a little slower.
                    let _ = stream.set_nodelay(true);
                    match self.tls.as_ref().map(|tls| tls()) {
                        Some(tls) => self.shake_hands(stream, from, tls),
                        None => return (Connection::Plain(stream), from),
                    }
                }
                // A pattern that takes the good ones alone would leave the others unwatched after a bad one.
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    if let Ok(Some(shaken)) = done {
                        return shaken;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Listener {
    /// The connections, for a server that takes them as a stream.
    pub fn connections(self) -> impl Stream<Item = std::io::Result<Connection>> {
        futures::stream::unfold(self, |mut listener| async move {
            let (connection, _) = axum::serve::Listener::accept(&mut listener).await;
            Some((Ok(connection), listener))
        })
    }
}
