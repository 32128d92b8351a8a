//! The Focus Server: the HTTP API, and the consumers of all live jobs of its namespace.
//!
//! The FocusJob is the job's record; the server holds nothing that it cannot read again from the API server and
//! the broker. `validate`, `windows`, `answer`, `header`, `lines`, `budget`, `waterfall`, `wait` and
//! `job_events` are pure.

pub mod answer;
mod answer_room;
mod args;
mod budget;
mod cache;
pub mod cluster;
mod configure;
mod consumer;
mod end;
pub mod error;
mod forward;
pub mod header;
mod idempotency;
mod job;
mod job_events;
mod jobs;
pub mod lines;
mod make;
pub mod metrics;
mod recordings;
pub mod replicas;
mod routes;
pub mod security;
mod serve;
pub mod store;
pub mod stream;
mod tasks;
pub mod validate;
mod wait;
mod watches;
mod waterfall;
mod window_metrics;
pub mod windows;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use args::Args;
pub(crate) use job::line_bytes;

use replicas::dial::Dialer;

use crate::broker::consume::Broker;
use crate::{health, shutdown, telemetry};

/// Longest shutdown.
const SHUTDOWN: Duration = Duration::from_secs(4);
/// Longest leave-taking from broker, replicas and store.
const LEAVE: Duration = Duration::from_millis(1200);
/// Heartbeat of the connection to the broker, s. The broker gives up a replica whose machine is lost or frozen after two
/// to three of them, and until then lets no other consume for its jobs.
const HEARTBEAT_SECONDS: u16 = 2;
/// Waterfall answers that are written at once.
const PLACES: usize = 4;
/// Bytes of waterfall answers that are written or on their way to clients.
const ANSWERS: usize = 256 << 20;
/// Listeners to events at once.
const LISTENERS: usize = 256;

/// Runs the role until it is told to stop.
///
/// # Errors
/// When the API server's address is unknown, the broker's is missing or the port is taken. A broker or an API
/// server that cannot be reached is no error: `/readyz` tells, and the server tries again.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal().context("installing signal handlers")?;
    let address = args.broker.address()?.with_heartbeat(HEARTBEAT_SECONDS);
    let registry = Registry::new();
    let metrics = metrics::Metrics::new(&registry)?;
    telemetry::describe_process(&registry, "server")?;
    let cluster =
        cluster::Cluster::connect(args.namespace.clone()).await.context("reading the kubeconfig")?;
    let client = cluster.client.clone();
    let security = Arc::new(security::Security::start(&args.security, client, &registry, &stop).await?);
    let identity = args.replica.clone().unwrap_or_else(identity);
    let dialer = dialer(&args, &security)?;
    let (replicas, member) = join(&args, &cluster, &identity, dialer.scheme(), &stop)?;

    // The broker outlives the consumers, so that they can take their leave.
    let broker = Broker::new(metrics.broker.clone());
    let name = format!("focus-server-{identity}");
    let broker_task = tokio::spawn(broker.clone().run(address, name, stop.clone()));

    let synced = Arc::new(configure::Synced::default());
    let (pools, pools_task) = watches::pools(cluster.pools.clone(), Arc::clone(&synced), stop.clone());
    let mut tasks = tasks::Tasks::new();
    tasks.start("the watch of the pools", pools_task);
    let (store, store_tasks) = {
        let synced = Arc::clone(&synced);
        let synced = move || synced.jobs();
        store::JobStore::start(&args.store, &registry, &cluster, &replicas, synced, &stop).await?
    };
    let budget = Arc::new(budget::Budget::new(args.memory, metrics.line_bytes.clone()));
    let shared = Arc::new(consumer::Shared { cluster, pools, broker, metrics, budget, replicas });
    let jobs = Arc::new(jobs::Jobs::new(Arc::clone(&shared), stop.clone()));
    let api = shared.cluster.jobs.clone();
    let watch = watches::jobs(api, Arc::clone(&jobs), store.clone(), Arc::clone(&synced), stop.clone());
    tasks.start("the watch of the jobs", watch);
    tasks.start("the sweep", sweep(Arc::clone(&jobs), stop.clone()));
    if !shared.replicas.are_one() {
        let changes = shared.replicas.changes();
        tasks.start("the news of the other replicas", reassign(Arc::clone(&jobs), changes, stop.clone()));
    }

    let (recordings, recordings_task) = recordings::Recordings::new(
        args.recordings.clone(),
        Duration::from_secs(args.recordings_rescan.into()),
        shared.metrics.clone(),
        stop.clone(),
    );
    if args.recordings.is_some() {
        tasks.start("the scan of the recordings", recordings_task);
    }

    let server = Arc::new(configure::Server {
        shared,
        jobs,
        store,
        windows: windows::Windows::new(args.windows, args.peer_listen.map_or(0, |_| rand::random())),
        window_count: args.windows,
        pool: args.pool.clone(),
        stream: answer::StreamAddress { url: args.stream_url.clone(), port: args.stream_port },
        synced,
        forwarder: forward::Forwarder::new(&identity, dialer.clone())?,
        dialer,
        places: Arc::new(Semaphore::new(PLACES)),
        answers: answer_room::Room::new(ANSWERS),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        recordings,
        readers: Arc::new(Semaphore::new(stream::open::MAX_READERS as usize)),
        security: Arc::clone(&security),
        stop: stop.clone(),
    });
    let counted = Arc::clone(&server);
    let taken = move || counted.windows.taken(counted.jobs.windows());
    registry.register(Box::new(window_metrics::WindowGauge::new(args.windows, taken)?))?;
    serve_all(&args, &server, &security, registry, &mut tasks).await?;
    let ended = tasks.until_stopped(&stop, SHUTDOWN + LEAVE).await;
    // Browsers, whose connections are no longer the HTTP server's, are told too.
    let told = server.readers.acquire_many(stream::open::MAX_READERS);
    let leave = async { tokio::join!(told, broker_task, member, store_tasks.join_all()) };
    let _ = tokio::time::timeout(LEAVE, leave).await;
    ended
}

/// Registers every metric that a server can have, with nothing behind them.
///
/// # Errors
/// When one is registered already.
pub fn describe(registry: &Registry) -> prometheus::Result<()> {
    metrics::Metrics::new(registry)?;
    registry.register(Box::new(window_metrics::WindowGauge::new(0, || 0)?))?;
    security::metrics::SecurityMetrics::new(registry)?;
    store::metrics::StoreMetrics::new(registry)?;
    telemetry::describe_process(registry, "server")
}

/// Starts to serve HTTP, gRPC, probes and metrics, and the other replicas.
async fn serve_all(
    args: &Args,
    server: &Arc<configure::Server>,
    security: &security::Security,
    registry: Registry,
    tasks: &mut tasks::Tasks,
) -> anyhow::Result<()> {
    let stop = server.stop.clone();
    let awaited = awaited(Arc::clone(server));
    let admin = health::routes(registry, Arc::clone(&awaited));
    let mut router = routes::routes(Arc::clone(server));
    if let Some(listen) = args.peer_listen {
        let listener = security.peer_listener(listen_on(listen, "--peer-listen").await?);
        let peers = router.clone().merge(stream::grpc::for_peers(Arc::clone(server)));
        tasks
            .start("the replicas' port", serve::serve(listener, peers.layer(security.layer()), stop.clone()));
    }
    match args.security.admin_listen {
        Some(listen) => {
            let listener = security.plain_listener(listen_on(listen, "--admin-listen").await?);
            tasks.start("the port of probes and metrics", serve::serve(listener, admin, stop.clone()));
        }
        None => router = router.merge(admin),
    }
    let listener = security.listener(listen_on(args.listen, "--listen").await?);
    let grpc = security.listener(listen_on(args.grpc_listen, "--grpc-listen").await?);
    info!(listen = %args.listen, grpc = %args.grpc_listen, "the Focus Server is listening");
    tasks.start("the HTTP port", serve::serve(listener, router.layer(security.layer()), stop.clone()));
    let grpc = stream::grpc::serve(grpc, security.layer(), Arc::clone(server), awaited, stop).await?;
    tasks.start("the gRPC port", grpc);
    Ok(())
}

/// How this replica reaches the others: over TLS if its clients reach it so.
fn dialer(args: &Args, security: &security::Security) -> anyhow::Result<Dialer> {
    let (peers, plain) = (args.peer_listen.is_some(), security.peers().is_none());
    anyhow::ensure!(
        !(peers && plain && args.security.tls().is_some()),
        "--peer-listen and --tls-cert are set, but not how the replicas know each other over TLS: set --peer-ca to \
         the authority of their certificates and --peer-name to a name that each of them bears"
    );
    Ok(Dialer::new(security.peers()))
}

/// This replica among the others, or alone; and the task that takes leave of them at the end.
fn join(
    args: &Args,
    cluster: &cluster::Cluster,
    own: &str,
    scheme: &str,
    stop: &CancellationToken,
) -> anyhow::Result<(replicas::Replicas, tokio::task::JoinHandle<()>)> {
    let Some(listen) = args.peer_listen else {
        return Ok((replicas::Replicas::alone(own), tokio::spawn(async {})));
    };
    let host = args.peer_host.clone().context(
        "--peer-listen is set, but not by which address the other replicas reach this one: set --peer-host",
    )?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let address = format!("{scheme}://{host}:{}", listen.port());
    let (replicas, member) =
        replicas::Replicas::join(&cluster.client, &cluster.namespace, own, address, stop.clone());
    Ok((replicas, tokio::spawn(member)))
}

async fn listen_on(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}; choose another with {option}"))
}

async fn reassign(
    jobs: Arc<jobs::Jobs>,
    mut replicas: tokio::sync::watch::Receiver<replicas::Alive>,
    stop: CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(replicas.changed()).await {
        jobs.reassign();
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
        if !server.shared.replicas.joined() {
            awaited.push("the other replicas: no sign of life given yet".to_owned());
        }
        if !server.shared.broker.connected() {
            awaited.push(format!("the broker: {}", server.shared.broker.problem()));
        }
        awaited.extend(server.store.awaited());
        awaited
    })
}

/// The host's name, or a random one: names this server in the broker.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    if host.is_empty() { format!("{:08x}", rand::random::<u32>()) } else { host }
}
