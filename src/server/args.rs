//! The command line of `focus server`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use super::security::SecurityArgs;
use crate::broker::BrokerTls;

/// Command line. Every option can be given in the environment too.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// Address and port of the HTTP API, `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "FOCUS_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespace of the FocusJobs. Default: the namespace of the kubeconfig or of the pod.
    #[arg(long, env = "FOCUS_NAMESPACE")]
    pub namespace: Option<String>,
    /// AnalyzerPool of the jobs that are configured here.
    #[arg(long, env = "FOCUS_POOL", default_value = "default")]
    pub pool: String,
    /// The broker's address, such as `amqp://user:password@rabbitmq:5672/%2f`; it is never logged.
    #[arg(
        long,
        env = "FOCUS_BROKER_URL",
        hide_env_values = true,
        required_unless_present = "broker_url_file"
    )]
    pub broker_url: Option<String>,
    /// File that holds the broker's address; it is read at each connection, so that a changed secret is used.
    #[arg(long, env = "FOCUS_BROKER_URL_FILE")]
    pub broker_url_file: Option<PathBuf>,
    /// TLS to the broker.
    #[command(flatten)]
    pub broker_tls: BrokerTls,
    /// Windows that live jobs are given: at most so many jobs at once.
    #[arg(long, env = "FOCUS_WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub windows: u16,
    /// Host that clients are told to stream from (`stream_url` of the answers).
    #[arg(long, env = "FOCUS_STREAM_URL", default_value = "localhost")]
    pub stream_url: String,
    /// Port that clients are told to stream from (`stream_port` of the answers).
    #[arg(long, env = "FOCUS_STREAM_PORT", default_value_t = 50051)]
    pub stream_port: u16,
    /// Authentication, limits and TLS.
    #[command(flatten)]
    pub security: SecurityArgs,
}

/// Where the broker's address comes from. Shows no secret when printed.
#[derive(Clone)]
pub enum BrokerUrl {
    /// Given outright.
    Given(String),
    /// Read from a file at each connection.
    File(PathBuf),
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Args")
            .field("listen", &self.listen)
            .field("namespace", &self.namespace)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl Args {
    /// Where the broker's address comes from; the file wins.
    ///
    /// # Errors
    /// When neither is given.
    pub fn broker(&self) -> anyhow::Result<BrokerUrl> {
        match (&self.broker_url_file, &self.broker_url) {
            (Some(path), _) => Ok(BrokerUrl::File(path.clone())),
            (None, Some(url)) => Ok(BrokerUrl::Given(url.clone())),
            (None, None) => anyhow::bail!("the broker's address is missing: set FOCUS_BROKER_URL"),
        }
    }
}

impl BrokerUrl {
    /// The address.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn read(&self) -> anyhow::Result<String> {
        match self {
            Self::Given(url) => Ok(url.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .with_context(|| format!("reading the broker's address from {}", path.display()))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}
