//! The operator: reconciles FocusJobs. observe -> plan -> apply -> status.

pub mod apply;
pub mod error;
pub mod events;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod pod;
pub mod queue;
pub mod reconcile;
pub mod spans;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use kube::runtime::controller::{self, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::api::{AnalyzerPool, FocusJob};
use crate::broker::BrokerArgs;
use crate::broker::follow::{Broker, BrokerHandle, BrokerState};
use crate::{health, shutdown};

/// Reconciliations of different jobs that may run at the same time.
const CONCURRENCY: u16 = 32;
/// So many at the same time, and jobs wait for each other.
const CROWD: i64 = CONCURRENCY as i64 / 2;
/// How long a shutdown may take.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

/// Command line of the operator.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Watch only this namespace. Default: all.
    #[arg(long, env = "FOCUS_NAMESPACE")]
    namespace: Option<String>,
    /// Address of the admin port: /livez, /readyz, /metrics.
    #[arg(long, env = "FOCUS_ADMIN_ADDR", default_value = "0.0.0.0:8081")]
    admin_addr: SocketAddr,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    leader: leader::LeaderArgs,
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start: no cluster, no broker URL, the admin port taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal().context("installing the signal handlers")?;
    let client = client().await?;
    let metrics = metrics::Metrics::new().context("registering the metrics")?;
    let broker = Broker::start(args.broker.address()?, metrics.broker.clone(), stop.clone());
    let (leadership, mut election) = leader::start(&args.leader, &client, metrics.leader.clone())?;
    let operator = assemble(&args, client, metrics.clone(), broker, leadership, &stop);
    metrics.watch_jobs(operator.jobs.clone(), operator.queue.clone()).context("registering the metrics")?;
    let admin = health::routes(metrics.registry.clone(), operator.awaited);
    let admin = tokio::spawn(health::serve(args.admin_addr, admin, stop.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = args.namespace.as_deref().unwrap_or("all"),
        "operator started"
    );
    tokio::pin! { let controller = operator.controller; }
    let running = tokio::select! {
        () = &mut controller => false,
        ended = admin => {
            ended.context("the admin port")??;
            true
        }
        lost = election.lost() => return Err(lost),
    };
    stop.cancel();
    let drained = async { !running || tokio::time::timeout(SHUTDOWN_WITHIN, controller).await.is_ok() };
    let drained = tokio::select! {
        drained = drained => drained,
        lost = election.lost() => return Err(lost),
    };
    if drained {
        election.release().await;
    } else {
        // The lease is kept: a successor waits for its end.
        tracing::warn!(
            "reconciliations were still under way after {} s; the next operator goes on",
            SHUTDOWN_WITHIN.as_secs()
        );
    }
    tracing::info!("operator stopped");
    Ok(())
}

/// A client whose calls are bounded: a watch that says nothing is noticed.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("finding the cluster: set KUBECONFIG, or run as a pod with a service account")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Watches are told by the API server to end before this.
    config.read_timeout = Some(Duration::from_secs(300));
    config.write_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).context("making a client of the API server")
}

struct Operator<C> {
    controller: C,
    jobs: reflector::Store<FocusJob>,
    queue: queue::Queue,
    awaited: health::Awaited,
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Puts the parts together: watches, memory, broker and controller.
fn assemble(
    args: &Args,
    client: Client,
    metrics: metrics::Metrics,
    broker: Broker<ObjectRef<FocusJob>>,
    leadership: leader::Leadership,
    stop: &CancellationToken,
) -> Operator<impl Future<Output = ()> + use<>> {
    let namespace = args.namespace.as_deref();
    let memory = memory::Memory::default();
    let queue = queue::Queue::default();
    let (pools, pools_writer) = reflector::store::<AnalyzerPool>();
    let (jobs, jobs_writer) = reflector::store::<FocusJob>();
    let pods = watches::pods(scoped(&client, namespace), memory.clone());
    let sources = observe::Sources {
        pools: pools.clone(),
        pods: pods.index,
        broker: broker.handle.clone(),
        memory: memory.clone(),
        metrics: metrics.clone(),
    };
    let pools_changed = watcher(scoped::<AnalyzerPool>(&client, namespace), watcher::Config::default())
        .default_backoff()
        .modify(|pool| pool.metadata.managed_fields = None)
        .reflect(pools_writer)
        .touched_objects();
    let job_changes = watches::jobs(scoped(&client, namespace), jobs_writer, memory.clone())
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            Default::default(),
        )
        .inspect(queue.of_job());
    let context = Arc::new(reconcile::Context {
        sources,
        writer: apply::Writer {
            client: client.clone(),
            broker: broker.handle.clone(),
            memory,
            metrics: metrics.clone(),
        },
        events: events::Events::start(client, metrics.clone(), stop.clone()),
        metrics,
        leading: leadership.leading,
        queue: queue.clone(),
        failures: Default::default(),
    });
    let (in_pool, in_pool_queue, gone_queue) = (jobs.clone(), queue.clone(), queue.clone());
    let controller = Controller::for_stream(job_changes, jobs.clone())
        .owns_stream(pods.stream.inspect(queue.of_owner()))
        .watches_stream(pools_changed, move |pool| {
            in_pool_queue.add_all(watches::jobs_in_pool(&in_pool, &pool))
        })
        .reconcile_all_on(ReceiverStream::new(pods.relisted).inspect(queue.of_all(jobs.clone())))
        .reconcile_all_on(ReceiverStream::new(leadership.begun).inspect(queue.of_all(jobs.clone())))
        .reconcile_on(ReceiverStream::new(broker.news).inspect(queue.of_reference()))
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::reconcile, reconcile::on_error, context)
        .for_each(move |done| {
            if let Err(error) = done {
                tracing::debug!(%error, "reconciliation");
                if let controller::Error::ObjectNotFound(job) = error {
                    gone_queue.taken(job.namespace.as_deref(), &job.name);
                }
            }
            std::future::ready(())
        });
    Operator {
        controller,
        jobs: jobs.clone(),
        queue,
        awaited: awaited(jobs, pools, pods.synced, broker.handle),
    }
}

fn awaited(
    jobs: reflector::Store<FocusJob>,
    pools: reflector::Store<AnalyzerPool>,
    pods: Arc<std::sync::atomic::AtomicBool>,
    broker: BrokerHandle<ObjectRef<FocusJob>>,
) -> health::Awaited {
    use futures::FutureExt;
    use std::sync::atomic::Ordering;
    Arc::new(move || {
        let mut awaited = Vec::new();
        if !matches!(jobs.wait_until_ready().now_or_never(), Some(Ok(()))) {
            awaited.push("the watch of FocusJobs".to_owned());
        }
        if !matches!(pools.wait_until_ready().now_or_never(), Some(Ok(()))) {
            awaited.push("the watch of AnalyzerPools".to_owned());
        }
        if !pods.load(Ordering::Relaxed) {
            awaited.push("the watch of pods".to_owned());
        }
        if let BrokerState::Disconnected(why) = broker.state() {
            awaited.push(format!("the broker: {why}"));
        }
        awaited
    })
}
