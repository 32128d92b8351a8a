//! The Focus Server: the HTTP API, and the consumers of all live jobs of its namespace.
//!
//! The FocusJob is the job's record; the server holds nothing that it cannot read again from the API server and
//! the broker. `validate`, `windows`, `answer`, `header`, `lines`, `waterfall` and `wait` are pure.

pub mod answer;
mod args;
pub mod broker;
pub mod cluster;
mod configure;
mod consumer;
pub mod error;
pub mod header;
mod job;
mod jobs;
pub mod lines;
pub mod metrics;
mod retry;
mod routes;
pub mod security;
pub mod validate;
mod wait;
mod watches;
mod waterfall;
pub mod windows;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use args::Args;

use crate::{health, shutdown};

/// Longest shutdown.
const SHUTDOWN: Duration = Duration::from_secs(4);
/// Waterfall answers that are written at once.
const PLACES: usize = 4;

/// Runs the role until it is told to stop.
///
/// # Errors
/// When the API server's address is unknown, the broker's is missing or the port is taken. A broker or an API
/// server that cannot be reached is no error: `/readyz` tells, and the server tries again.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal().context("installing signal handlers")?;
    let broker_url = args.broker()?;
    let registry = Registry::new();
    let metrics = metrics::Metrics::new(&registry)?;
    let cluster =
        cluster::Cluster::connect(args.namespace.clone()).await.context("reading the kubeconfig")?;
    let client = cluster.jobs.clone().into_client();
    let security = Arc::new(security::Security::start(&args.security, client, &registry, &stop).await?);
    let identity = identity();

    // The broker outlives the consumers, so that they can take their leave.
    let broker = broker::Broker::new(args.broker_tls, metrics.clone());
    let broker_task =
        tokio::spawn(broker.clone().run(broker_url, format!("focus-server-{identity}"), stop.clone()));

    let synced = Arc::new(configure::Synced::default());
    let (pools, pools_task) = watches::pools(cluster.pools.clone(), Arc::clone(&synced), stop.clone());
    tokio::spawn(pools_task);
    let shared = Arc::new(consumer::Shared { cluster, pools, broker, metrics, identity });
    let jobs = Arc::new(jobs::Jobs::new(Arc::clone(&shared), stop.clone()));
    tokio::spawn(watches::jobs(
        shared.cluster.jobs.clone(),
        Arc::clone(&jobs),
        Arc::clone(&synced),
        stop.clone(),
    ));
    tokio::spawn(sweep(Arc::clone(&jobs), stop.clone()));

    let server = Arc::new(configure::Server {
        shared,
        jobs,
        windows: windows::Windows::new(args.windows),
        window_count: args.windows,
        pool: args.pool,
        stream: answer::StreamAddress { url: args.stream_url, port: args.stream_port },
        synced,
        places: Arc::new(Semaphore::new(PLACES)),
        security: Arc::clone(&security),
        stop: stop.clone(),
    });
    let mut router = routes::routes(Arc::clone(&server));
    let admin = health::routes(registry, awaited(server));
    match args.security.admin_listen {
        Some(addr) => serve_admin(addr, admin, stop.clone()).await?,
        None => router = router.merge(admin),
    }
    let router = router.layer(security.layer());
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listening on {}; choose another with --listen", args.listen))?;
    info!(listen = %args.listen, "the Focus Server is listening");
    serve(security.listener(listener), router, stop).await?;
    let _ = tokio::time::timeout(Duration::from_secs(1), broker_task).await;
    Ok(())
}

/// Serves probes and metrics on a port of their own until `stop`.
async fn serve_admin(addr: SocketAddr, routes: Router, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("listening on {addr}; choose another with --admin-listen"))?;
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            warn!(%error, "probes and metrics are not served any more");
        }
    });
    Ok(())
}

/// Serves until `stop`, and then until the last answer or the end of the time for it.
async fn serve(listener: security::Listener, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN).await;
    };
    tokio::select! {
        served = serving => served.context("serving HTTP"),
        () = late => {
            warn!("shutting down with requests unanswered");
            Ok(())
        }
    }
}

async fn sweep(jobs: Arc<jobs::Jobs>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        jobs.sweep();
    }
}

/// What `/readyz` tells.
fn awaited(server: Arc<configure::Server>) -> health::Awaited {
    Arc::new(move || {
        let mut awaited = Vec::new();
        if !server.synced.jobs() {
            awaited.push("the list of FocusJobs".to_owned());
        }
        if !server.synced.pools() {
            awaited.push("the list of AnalyzerPools".to_owned());
        }
        if !server.shared.broker.connected() {
            awaited.push(format!("the broker: {}", server.shared.broker.problem()));
        }
        awaited
    })
}

/// The host's name, or a random one: names this server in the broker.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    if host.is_empty() { format!("{:08x}", rand::random::<u32>()) } else { host }
}
