//! Connections to the other replicas, for whatever is spoken over them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::server::security::{Connection, PeerTls};

/// How long another replica may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Connects to other replicas: over TLS where this one has it, and then never without. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<watch::Receiver<Arc<PeerTls>>>,
}

/// Why there is no connection to another replica.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// What it says of itself is no address.
    #[error("{0} is no address of a replica, such as http://10.0.0.7:8082")]
    Address(Uri),
    /// One of the two speaks TLS and the other does not.
    #[error("the replica at {0} and this one are not both started with TLS")]
    Scheme(Uri),
    /// It cannot be reached, or is not known as a replica.
    #[error("connecting to the replica at {address}: {source}")]
    Connect {
        /// The address.
        address: Uri,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("the replica at {} did not accept the connection within {} s", .0, CONNECT_WITHIN.as_secs())]
    TooSlow(Uri),
}

impl Dialer {
    /// Connects with `tls`; None: without.
    pub fn new(tls: Option<watch::Receiver<Arc<PeerTls>>>) -> Self {
        Self { tls }
    }

    /// The scheme of the replicas' addresses.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A connection to the replica at `address`.
    ///
    /// # Errors
    /// When it cannot be reached in time, or is not known as a replica.
    pub async fn dial(&self, address: Uri) -> Result<Connection, DialError> {
        let Some(authority) = address.authority().filter(|authority| authority.port().is_some()) else {
            return Err(DialError::Address(address));
        };
        if address.scheme_str() != Some(self.scheme()) {
            return Err(DialError::Scheme(address));
        }
        match timeout(CONNECT_WITHIN, self.connect(authority.as_str())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(DialError::Connect { address, source }),
            Err(_) => Err(DialError::TooSlow(address)),
        }
    }

    async fn connect(&self, host_and_port: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(host_and_port).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls.as_ref().map(|tls| Arc::clone(&tls.borrow())) else {
            return Ok(Connection::Plain(stream));
        };
        // The name that a replica must bear: its address is in no certificate.
        let shaken = TlsConnector::from(Arc::clone(&tls.connect)).connect(tls.name.clone(), stream).await?;
        Ok(Connection::Tls(Box::new(shaken.into())))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Connection>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(address).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_replicas_that_speak_alike_are_dialed() {
        for (address, words) in [
            ("https://127.0.0.1:1", "not both started with TLS"),
            ("127.0.0.1:1", "not both started with TLS"),
            ("http://127.0.0.1", "no address of a replica"),
            ("/", "no address of a replica"),
            ("http://127.0.0.1:1", "connecting to the replica at http://127.0.0.1:1"),
        ] {
            let told = Dialer::new(None).dial(address.parse().expect("a URI")).await.err();
            let told = told.map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains(words), "{address}: {told}");
        }
    }
}
