//! TLS between the replicas of the server, made from PEM. Pure.
//!
//! A replica is known by a certificate of the peers' authorities that bears the peers' name, whichever side it is on:
//! so that neither a client with a certificate of the same authority nor another of its servers passes for one.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

use super::reload::Content;
use super::tls::{Pair, TlsError, TlsFiles, roots};

/// How the replicas know each other.
#[derive(Clone, Debug)]
pub struct PeerFiles {
    /// Certificate and key of this one.
    pub own: TlsFiles,
    /// The authorities of the replicas' certificates, PEM.
    pub ca: PathBuf,
    /// The name that each of their certificates bears.
    pub name: ServerName<'static>,
}

/// What a handshake with another replica needs.
pub struct PeerTls {
    /// For the connections of others.
    pub accept: Arc<ServerConfig>,
    /// For connections to others.
    pub connect: Arc<ClientConfig>,
    /// The name that is asked for.
    pub name: ServerName<'static>,
}

impl PeerFiles {
    /// All files.
    pub fn paths(&self) -> Vec<PathBuf> {
        [self.own.paths(), vec![self.ca.clone()]].concat()
    }

    /// What their content makes at the time `now`. This replica's own certificate must be one that others take.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn load(&self, content: &Content, now: UnixTime) -> Result<PeerTls, TlsError> {
        let Pair { chain, key } = self.own.pair(content)?;
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&self.ca, content)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::ca(&self.ca, error))?;
        verifier.verify_server_cert(&chain[0], &chain[1..], &self.name, &[], now).map_err(|error| {
            TlsError::NotAPeer {
                cert: self.own.cert.clone(),
                ca: self.ca.clone(),
                name: self.name.to_str().into_owned(),
                why: error.to_string(),
            }
        })?;
        let replicas = Arc::new(Replicas { verifier, name: self.name.clone() });
        let mut accept = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.own.refused(error))?
            .with_client_cert_verifier(replicas)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| self.own.refused(error))?;
        accept.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connect = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| self.own.refused(error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| self.own.refused(error))?;
        Ok(PeerTls { accept: Arc::new(accept), connect: Arc::new(connect), name: self.name.clone() })
    }
}

/// Takes from a client what a client takes from a replica: the certificate of a server of this name.
#[derive(Debug)]
struct Replicas {
    verifier: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for Replicas {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A replica has one certificate, and shows it without being told which would do.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, &[], now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
    }

    /// What a replica makes of a certificate of `issuer` for `name`, which trusts `trusted`.
    fn load(issuer: &Authority, name: &str, trusted: &Authority) -> Result<PeerTls, TlsError> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, issuer).expect("a certificate").pem();
        let own = TlsFiles { cert: "/c".into(), key: "/k".into(), client_ca: None };
        let peers = ServerName::try_from("focus").expect("a name");
        let files = PeerFiles { own, ca: "/a".into(), name: peers };
        let texts = [cert, key.serialize_pem(), trusted.pem()].map(String::into_bytes);
        let content = Content { files: files.paths().into_iter().zip(texts).collect() };
        files.load(&content, UnixTime::now())
    }

    /// A replica that was not told the truth: its files pass its own check, and it then shows another certificate.
    fn impostor(issuer: &Authority, name: &str, trusted: &Authority) -> PeerTls {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, issuer).expect("a certificate").der().clone();
        let key =
            tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let good = load(trusted, "focus", trusted).expect("a peer");
        let mut roots = tokio_rustls::rustls::RootCertStore::empty();
        roots.add(trusted.der().clone()).expect("an authority");
        let accept = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], key.clone_key())
            .expect("a pair");
        let connect = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert], key)
            .expect("a pair");
        PeerTls { accept: Arc::new(accept), connect: Arc::new(connect), name: good.name }
    }

    /// Whether `one` can speak to `other`.
    async fn agree(one: &PeerTls, other: &PeerTls) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (near, far) = tokio::io::duplex(1 << 16);
        let connect = TlsConnector::from(Arc::clone(&one.connect)).connect(one.name.clone(), near);
        let accept = TlsAcceptor::from(Arc::clone(&other.accept)).accept(far);
        let speak = async {
            let mut stream = connect.await?;
            stream.write_all(b"?").await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        let hear = async {
            let mut stream = accept.await?;
            stream.read_u8().await?;
            stream.write_all(b"!").await?;
            stream.flush().await
        };
        let (spoken, heard) = tokio::join!(speak, hear);
        spoken.is_ok() && heard.is_ok()
    }

    #[tokio::test]
    async fn replicas_know_each_other_and_nobody_else() {
        let (ours, theirs) = (authority(), authority());
        let (one, two) = (load(&ours, "focus", &ours).expect("a"), load(&ours, "focus", &ours).expect("b"));
        assert!(agree(&one, &two).await && agree(&two, &one).await);
        for (issuer, name) in [(&theirs, "focus"), (&ours, "other")] {
            let other = impostor(issuer, name, &ours);
            assert!(!agree(&other, &one).await, "{name} is let in");
            assert!(!agree(&one, &other).await, "{name} is spoken to");
        }
    }

    #[test]
    fn a_certificate_that_no_other_replica_takes_is_refused() {
        let (ours, theirs) = (authority(), authority());
        for (issuer, name) in [(&theirs, "focus"), (&ours, "other")] {
            let told = load(issuer, name, &ours).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains("/c") && told.contains("/a") && told.contains("focus"), "{told}");
        }
    }
}
