//! The command line of authentication and TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio_rustls::rustls::pki_types::ServerName;

use super::peers::PeerFiles;
use super::tls::TlsFiles;

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// Anyone who reaches the server may do everything.
    None,
    /// By a bearer token that the Kubernetes API server knows.
    TokenReview,
    /// By a bearer token of a mounted Secret.
    Static,
}

/// Command line of authentication, limits and TLS.
#[derive(clap::Args, Clone, Debug)]
pub struct SecurityArgs {
    /// How callers prove who they are.
    #[arg(long, env = "FOCUS_AUTH", value_enum, default_value_t = Auth::None)]
    pub auth: Auth,
    /// Audiences of the tokens that are let in, separated by commas. Default: the API server's own. With
    /// `--auth token-review`.
    #[arg(long, env = "FOCUS_AUTH_AUDIENCE", value_delimiter = ',')]
    pub auth_audience: Vec<String>,
    /// File with lines `name:token` or `name:sha256:<hex>`, or a folder with a file for each name. It is read again
    /// when it changes. With `--auth static`.
    #[arg(long, env = "FOCUS_AUTH_TOKENS_FILE", required_if_eq("auth", "static"))]
    pub auth_tokens_file: Option<PathBuf>,
    /// Callers who may end the jobs of others, separated by commas.
    #[arg(long, env = "FOCUS_AUTH_ADMINS", value_delimiter = ',')]
    pub auth_admins: Vec<String>,
    /// Live jobs that each caller may have; 0 is no limit.
    #[arg(long, env = "FOCUS_JOBS_PER_CALLER", default_value_t = 0)]
    pub jobs_per_caller: usize,
    /// The server's certificate and its chain (PEM): HTTP and gRPC then speak TLS. It is read again when it changes.
    #[arg(long, env = "FOCUS_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, env = "FOCUS_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authorities (PEM) of which clients must have a certificate. Probes have none: needs `--admin-listen`.
    #[arg(long, env = "FOCUS_TLS_CLIENT_CA", requires = "tls_cert", requires = "admin_listen")]
    pub tls_client_ca: Option<PathBuf>,
    /// Authorities (PEM) of the replicas' certificates. With TLS the replicas speak it among themselves too: each shows
    /// the certificate of `--tls-cert`, which must come from one of these and bear the name `--peer-name`.
    #[arg(long, env = "FOCUS_PEER_CA", requires = "tls_cert", requires = "peer_name")]
    pub peer_ca: Option<PathBuf>,
    /// Name that the certificate of every replica bears.
    #[arg(long, env = "FOCUS_PEER_NAME", requires = "peer_ca")]
    pub peer_name: Option<String>,
    /// Address and port of `/livez`, `/readyz` and `/metrics` alone, always without TLS. Default: they are served with
    /// the HTTP API.
    #[arg(long, env = "FOCUS_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
}

impl SecurityArgs {
    /// Where certificate and key are.
    pub fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsFiles { cert, key, client_ca: self.tls_client_ca.clone() })
    }

    /// How the replicas know each other; None without TLS between them.
    ///
    /// # Errors
    /// When `--peer-name` is no name.
    pub fn peers(&self) -> anyhow::Result<Option<PeerFiles>> {
        let (Some(own), Some(ca), Some(name)) = (self.tls(), &self.peer_ca, &self.peer_name) else {
            return Ok(None);
        };
        let name = ServerName::try_from(name.clone())
            .with_context(|| format!("--peer-name {name} is neither a DNS name nor an address"))?;
        Ok(Some(PeerFiles { own: TlsFiles { client_ca: None, ..own }, ca: ca.clone(), name }))
    }

    /// Whether they go together.
    ///
    /// # Errors
    /// When one needs another.
    pub fn check(&self) -> anyhow::Result<()> {
        let known = self.auth != Auth::None;
        anyhow::ensure!(
            known || self.jobs_per_caller == 0,
            "--jobs-per-caller needs --auth: who calls is not known"
        );
        anyhow::ensure!(
            known || self.auth_admins.is_empty(),
            "--auth-admins needs --auth: who calls is not known"
        );
        anyhow::ensure!(
            self.auth == Auth::TokenReview || self.auth_audience.is_empty(),
            "--auth-audience needs --auth token-review"
        );
        Ok(())
    }
}
