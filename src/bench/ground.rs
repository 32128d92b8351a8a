//! Where a benchmark takes place: a namespace, a pool whose pods no scheduler places, and the server that serves it.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::args::Target;
use super::freer::Freer;
use crate::api::FocusJob;
use crate::kubeconfig::Connection;
use crate::probe::cluster::{Cluster, bounded};
use crate::probe::exposition::Metrics;
use crate::probe::load::setup::Ground;
use crate::probe::report::{Failure, Report};
use crate::probe::server::Server;

/// How long the server may take to see the pool.
const POOL: Duration = Duration::from_secs(10);
/// How long the first job may take to have a consumer, and to be gone.
const TRIAL: Duration = Duration::from_secs(20);
/// How long all jobs may take to be gone at the end.
const SWEEP: Duration = Duration::from_secs(120);

/// Everything that a benchmark works with.
pub struct Site {
    /// The API server, and the namespace.
    pub cluster: Cluster,
    /// The server.
    pub server: Server,
    /// Its metrics.
    pub metrics: Metrics,
    ground: Ground,
    pool: String,
    /// In place of an operator.
    freer: Option<Freer>,
}

impl Site {
    /// Finds server and cluster, makes what is missing, and lets one job come and go, which shows that operator (when
    /// there is one), server and broker work together, and opens their connections.
    ///
    /// # Errors
    /// When one of them does not answer, or does not serve the namespace.
    pub async fn prepare(
        target: &Target,
        request: &Value,
        operator: bool,
        report: &mut Report,
    ) -> anyhow::Result<Self> {
        let server = Server::new(&target.server)?;
        server.ack().await?;
        let url = target.server_metrics.clone();
        let metrics = Metrics::at(url.unwrap_or_else(|| format!("{}/metrics", target.server)))?;
        let (cluster, version) = Cluster::connect(&Connection::default(), Some(&target.namespace)).await?;
        report.environment.insert("kubernetes".to_owned(), version);
        let ground = Ground::prepare(&cluster, &target.pool).await?;
        let freer = (!operator).then(|| Freer::start(&cluster));
        let site = Self { cluster, server, metrics, ground, pool: target.pool.clone(), freer };
        match site.trial(request).await {
            Ok(()) => Ok(site),
            Err(error) => {
                site.clear(report).await;
                let left = report.failures.iter().map(|failure| format!("; {}", failure.message));
                Err(error.context(format!("trying one job{}", left.collect::<String>())))
            }
        }
    }

    async fn trial(&self, request: &Value) -> anyhow::Result<()> {
        let deadline = Instant::now() + POOL;
        // The server's watch brings the pool.
        while self.server.version().await.is_none() {
            if Instant::now() > deadline {
                bail!(
                    "the server does not see AnalyzerPool {} after {} s: start it with --namespace {} --pool {}",
                    self.pool,
                    POOL.as_secs(),
                    self.cluster.namespace,
                    self.pool
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
        let id = self.server.configure(request).await?;
        self.job(&id).await?;
        let consumer = match self.freer {
            Some(_) => Ok(()),
            None => self.server.wait_metadata(&id, Instant::now() + TRIAL).await,
        };
        self.server.delete(&id).await?;
        consumer.with_context(|| {
            format!("does the operator serve namespace {}, and the server the same?", self.cluster.namespace)
        })?;
        self.cluster.sweep_configured(TRIAL).await
    }

    /// The FocusJob of the job `id`.
    ///
    /// # Errors
    /// When there is none: the server makes its jobs elsewhere.
    pub async fn job(&self, id: &str) -> anyhow::Result<FocusJob> {
        let namespace = &self.cluster.namespace;
        let found = bounded(&format!("reading FocusJob {id}"), self.cluster.api().get_opt(id)).await?;
        found.with_context(|| {
            format!(
                "namespace {namespace} has no FocusJob {id}: name the server's namespace with --namespace"
            )
        })
    }

    /// Takes all jobs away, and what was made for them; what stays is a failure in `report`.
    pub async fn clear(self, report: &mut Report) {
        let swept = self.cluster.sweep_configured(SWEEP).await;
        let cleared = self.ground.clear(&self.cluster, &self.pool).await;
        for error in [swept.err(), cleared.err()].into_iter().flatten() {
            report.failures.push(Failure::new("(clean-up)", "Leftover", format!("{error:#}")));
        }
    }
}
