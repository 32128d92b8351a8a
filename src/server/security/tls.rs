//! The server's side of TLS, made from PEM. Pure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::reload::Content;

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities of the clients' certificates, PEM; None: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// What a handshake needs. All of it is replaced when a file changes, so that tickets of old sessions and client
/// authorities go with the certificate they belong to.
pub struct Tls {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, s since the Unix epoch.
    pub not_after: i64,
}

/// Files that make no TLS. No key is shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate.
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// No key.
    #[error("{} holds no private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The certificate cannot be read.
    #[error("the certificate in {} cannot be understood", .0.display())]
    Malformed(PathBuf),
    /// Certificate and key do not fit, or cannot be used.
    #[error("{} and {}: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// In the words of rustls.
        why: String,
    },
    /// No other replica would take the certificate.
    #[error(
        "no other replica would take the certificate in {}: it must come from an authority in {} and bear the name \
         {name}: {why}", cert.display(), ca.display()
    )]
    NotAPeer {
        /// The certificate's file.
        cert: PathBuf,
        /// The authorities' file.
        ca: PathBuf,
        /// The name.
        name: String,
        /// In the words of rustls.
        why: String,
    },
    /// The authorities cannot be used.
    #[error("{}: {why}", path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// In the words of rustls.
        why: String,
    },
}

impl TlsError {
    /// The error of authorities that rustls does not take.
    pub(super) fn ca(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::Authorities { path: path.to_owned(), why: why.to_string() }
    }
}

/// A certificate and its key.
pub(super) struct Pair {
    /// The certificate first, then those that it comes from.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub(super) key: PrivateKeyDer<'static>,
}

impl TlsFiles {
    /// All files.
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca).cloned().collect()
    }

    /// What their content makes.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn load(&self, content: &Content) -> Result<Tls, TlsError> {
        let Pair { chain, key } = self.pair(content)?;
        let not_after = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|_| TlsError::Malformed(self.cert.clone()))?
            .1
            .validity()
            .not_after
            .timestamp();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.refused(error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots(path, content)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::ca(path, error))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.refused(error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), not_after })
    }

    /// Certificate and key in `content`.
    pub(super) fn pair(&self, content: &Content) -> Result<Pair, TlsError> {
        let chain = certificates(content.of(&self.cert));
        let chain = chain.ok_or_else(|| TlsError::NoCertificate(self.cert.clone()))?;
        // The parser's words may quote the file.
        let key = PrivateKeyDer::from_pem_slice(content.of(&self.key))
            .map_err(|_| TlsError::NoKey(self.key.clone()))?;
        Ok(Pair { chain, key })
    }

    /// The error of certificate and key that rustls does not take.
    pub(super) fn refused(&self, why: impl std::fmt::Display) -> TlsError {
        TlsError::Pair { cert: self.cert.clone(), key: self.key.clone(), why: why.to_string() }
    }
}

/// The authorities that `path` holds.
pub(super) fn roots(path: &Path, content: &Content) -> Result<RootCertStore, TlsError> {
    let certificates = certificates(content.of(path));
    let certificates = certificates.ok_or_else(|| TlsError::NoCertificate(path.to_owned()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| TlsError::ca(path, error))?;
    }
    Ok(roots)
}

/// The certificates in `pem`; None when there is none, or one that is broken.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_must_be_one() {
        let ((cert, key), (other, _)) = (pair(), pair());
        for (cert, key, ca, words) in [
            (&cert, &key, None, ""),
            (&cert, &key, Some(&other), ""),
            (&other, &key, None, "keys may not be consistent"),
            (&String::new(), &key, None, "/c holds no certificate"),
            (&key, &key, None, "/c holds no certificate"),
            (&cert, &cert, None, "/k holds no private key"),
            (&cert, &"-----BEGIN PRIVATE KEY-----\nsecret\n".to_owned(), None, "/k holds no private key"),
            (&cert, &key, Some(&key), "/a holds no certificate"),
        ] {
            let files = TlsFiles { cert: "/c".into(), key: "/k".into(), client_ca: ca.map(|_| "/a".into()) };
            let texts =
                [Some(cert), Some(key), ca].into_iter().flatten().map(|text| text.as_bytes().to_vec());
            let content = Content { files: files.paths().into_iter().zip(texts).collect() };
            let told = files.load(&content).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(words.is_empty(), told.is_empty(), "{words}: {told}");
            assert!(told.contains(words) && !told.contains("secret"), "{words}: {told}");
        }
    }

    #[test]
    fn the_certificate_s_end_is_known_and_both_http_versions_are_offered() {
        let (cert, key) = pair();
        let files = TlsFiles { cert: "/c".into(), key: "/k".into(), client_ca: None };
        let texts = [cert.into_bytes(), key.into_bytes()];
        let tls =
            files.load(&Content { files: files.paths().into_iter().zip(texts).collect() }).expect("TLS");
        // rcgen's default: the first day of the year 4096.
        assert_eq!(tls.not_after, 67_090_118_400);
        assert_eq!(tls.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}
