//! TLS to the broker, for addresses that begin with `amqps://`.

use std::path::{Path, PathBuf};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Whom to trust and how to prove who we are, with an `amqps://` broker. The files are read at each connection, so
/// that changed ones are used.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BrokerTls {
    /// Authorities (PEM) that the certificate of an `amqps://` broker may come from, besides the system's.
    #[arg(long, env = "FOCUS_BROKER_CA")]
    pub broker_ca: Option<PathBuf>,
    /// Certificate (PEM) to show to an `amqps://` broker.
    #[arg(long, env = "FOCUS_BROKER_CERT", requires = "broker_key")]
    pub broker_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, env = "FOCUS_BROKER_KEY", requires = "broker_cert")]
    pub broker_key: Option<PathBuf>,
}

/// Files that cannot be used. No key is shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("reading {} for TLS to the broker: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It holds no certificate, or one that is broken.
    #[error("{} holds no certificate in PEM for TLS to the broker", .0.display())]
    NoCertificate(PathBuf),
    /// It holds no key.
    #[error("{} holds no private key in PEM for TLS to the broker", .0.display())]
    NoKey(PathBuf),
}

impl BrokerTls {
    /// What lapin needs to know.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub async fn config(&self) -> Result<OwnedTLSConfig, TlsFileError> {
        let cert_chain = match &self.broker_ca {
            // It is checked here, for certificates that cannot be used are silently left out below.
            Some(path) => Some(String::from_utf8_lossy(&certificates(path).await?).into_owned()),
            None => None,
        };
        let identity = match (&self.broker_cert, &self.broker_key) {
            (Some(cert), Some(key)) => {
                Some(OwnedIdentity::PKCS8 { pem: certificates(cert).await?, key: private_key(key).await? })
            }
            _ => None,
        };
        Ok(OwnedTLSConfig { identity, cert_chain })
    }
}

async fn certificates(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let pem = read(path).await?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| TlsFileError::NoCertificate(path.to_owned()))?;
        x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| TlsFileError::NoCertificate(path.to_owned()))?;
        count += 1;
    }
    if count == 0 { Err(TlsFileError::NoCertificate(path.to_owned())) } else { Ok(pem) }
}

async fn private_key(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let pem = read(path).await?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsFileError::NoKey(path.to_owned()))?;
    Ok(pem)
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    tokio::fs::read(path).await.map_err(|source| TlsFileError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_checked_and_never_shown() {
        let folder = std::env::temp_dir().join(format!("focus-broker-tls-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&folder).expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let (cert, key) = (write("cert", &made.cert.pem()), write("key", &made.signing_key.serialize_pem()));
        let broken = write("broken", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
        for (ca, identity, words) in [
            (None, None, ""),
            (Some(&cert), None, ""),
            (Some(&cert), Some((&cert, &key)), ""),
            (Some(&key), None, "no certificate"),
            (Some(&broken), None, "no certificate"),
            (Some(&folder.join("absent")), None, "reading"),
            (None, Some((&key, &key)), "no certificate"),
            (None, Some((&cert, &cert)), "no private key"),
        ] {
            let (cert, key) = identity.unzip();
            let tls =
                BrokerTls { broker_ca: ca.cloned(), broker_cert: cert.cloned(), broker_key: key.cloned() };
            let told = tls.config().await.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(words.is_empty(), told.is_empty(), "{words}: {told}");
            assert!(told.contains(words) && !told.contains("secret"), "{words}: {told}");
        }
        std::fs::remove_dir_all(&folder).expect("an end");
    }
}
