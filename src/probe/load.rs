//! `focus probe --load`: a load generator that stands in for the kubelet and for the consumer, so that only the
//! operator, the API server and the broker are measured.
//!
//! It creates `-n` FocusJobs at `--rate` per second (0: all at once, 64 calls at a time) in `--namespace`
//! (default `focus-bench`), whose pool has `schedulerName: focus-bench`, which nobody serves. Namespace and pool
//! are made when they are missing and are then deleted at the end; a pool whose pods a real scheduler would
//! place is refused. Each pod is at once patched Running and Ready, and each queue gets a consumer when
//! the broker's event `queue.created` arrives. Afterwards `--quiet` watches that the operator writes nothing.
//!
//! It needs the broker's URL (FOCUS_BROKER_URL or `--broker-url-file`), the plugin `rabbitmq_event_exchange`,
//! and the operator's metrics (`--operator-metrics`): `process_cpu_seconds_total`,
//! `process_resident_memory_bytes` and `focus_api_writes_total{verb,resource}`.

mod consumers;
mod creator;
mod findings;
pub(crate) mod kubelet;
mod operator;
pub(crate) mod setup;

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args::Options;
use super::broker::queue_floor;
use super::cluster::Cluster;
use super::report::{Failure, Report, Row};
use super::watch::JobWatch;
use crate::broker::Address;
use consumers::Consumers;
use creator::Created;
use findings::Findings;
use kubelet::Kubelet;
use operator::Operator;
use setup::Ground;

/// How many calls of one kind are under way at once.
const AT_ONCE: usize = 64;
/// How many samples a floor has.
const FLOOR_SAMPLES: u32 = 50;
/// How long all jobs may take to be gone at the end.
const SWEEP: Duration = Duration::from_secs(180);

/// Everything that plays a part while the load runs.
struct Stage {
    cluster: Cluster,
    watch: JobWatch,
    kubelet: Kubelet,
    consumers: Consumers,
    operator: Option<Operator>,
}

/// Generates the load and reports what the operator made of it.
///
/// # Errors
/// When cluster, broker or the operator's metrics do not answer.
pub async fn run(args: &Options, stop: &CancellationToken) -> anyhow::Result<Report> {
    let pace = if args.rate > 0.0 { format!("at {} per s", args.rate) } else { "all at once".to_owned() };
    let mut report = Report::new(format!("focus probe --load: {} jobs {pace}", args.jobs));
    let broker = args.broker.address()?;
    let namespace = args.namespace.as_deref().unwrap_or("focus-bench");
    let (cluster, version) = Cluster::connect(&args.connection, Some(namespace)).await?;
    report.environment.insert("kubernetes".to_owned(), version);
    let operator = Operator::find(&args.operator_metrics).await?;
    let ground = Ground::prepare(&cluster, &args.pool).await?;
    let outcome = perform(args, &cluster, &broker, operator, stop, &mut report).await;
    if let Err(error) = ground.clear(&cluster, &args.pool).await {
        report.failures.push(Failure::new("(clean-up)", "Leftover", format!("{error:#}")));
    }
    outcome.map(|()| report)
}

/// Measures, and deletes the run's jobs in any case.
async fn perform(
    args: &Options,
    cluster: &Cluster,
    broker: &Address,
    operator: Option<Operator>,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !args.no_floor {
        floors(cluster, broker, report).await?;
    }
    let stage = Stage {
        watch: JobWatch::start(cluster).await?,
        kubelet: Kubelet::start(cluster).await?,
        consumers: Consumers::start(broker, &cluster.namespace, args.jobs as usize).await?,
        cluster: cluster.clone(),
        operator,
    };
    let measured = measure(args, &stage, stop, report).await;
    // The sweep also takes away what was created by calls whose answer never came.
    let start = Instant::now();
    match cluster.sweep(SWEEP).await {
        Ok(()) => {
            report.fact("s from deletion of all jobs until all are gone", start.elapsed().as_secs_f64())
        }
        Err(error) => report.failures.push(Failure::new("(clean-up)", "Leftover", format!("{error:#}"))),
    }
    // What was found until then is still worth reading.
    if let Err(error) = measured {
        report.failures.push(Failure::new("(run)", "CutShort", format!("{error:#}")));
    }
    Ok(())
}

async fn floors(cluster: &Cluster, broker: &Address, report: &mut Report) -> anyhow::Result<()> {
    let floor = queue_floor(broker, FLOOR_SAMPLES).await.context("measuring the floor of the broker")?;
    let creates =
        setup::create_floor(cluster, FLOOR_SAMPLES).await.context("measuring the floor of the API")?;
    report.floor.push(Row::new("bare ConfigMap: create -> answer", creates));
    report.floor.push(Row::new("bare queue: declare -> declare-ok", floor.declare));
    report.floor.push(Row::new("bare queue: consume -> consume-ok", floor.consume));
    Ok(())
}

async fn measure(
    args: &Options,
    stage: &Stage,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    let spec = match super::run::read_request(args).await? {
        Some(spec) => serde_json::from_value(spec).context("reading --request: it is no FocusJob spec")?,
        None => super::run::default_spec(&args.pool)?,
    };
    let before = operator::read(&stage.operator).await?;
    let start = Instant::now();
    let created = creator::create_all(args, &stage.cluster, &spec, stop, report).await;
    eprintln!("{} jobs created in {:.1} s", created.len(), start.elapsed().as_secs_f64());
    let all_ready = until_all_ready(args, stage, &created, stop).await;
    let findings = Findings::gather(&created, &stage.watch, &stage.consumers, &stage.kubelet, start);
    findings.enter(report);
    if let (Some(operator), Some(before)) = (&stage.operator, before) {
        let after = operator.settled(stop).await?;
        operator::enter_costs(&before, &after, operator.peak_bytes(), created.len(), report);
        if all_ready && !args.quiet.is_zero() && !stop.is_cancelled() {
            quiet(args, operator, stop, report).await?;
        }
    } else {
        report.notes.push("the operator's own costs were not measured: --operator-metrics none".to_owned());
    }
    if stop.is_cancelled() {
        report.failures.push(Failure::new("(run)", "Interrupted", "the load generator was told to stop"));
    }
    Ok(())
}

async fn until_all_ready(
    args: &Options,
    stage: &Stage,
    created: &[Created],
    stop: &CancellationToken,
) -> bool {
    let deadline = Instant::now() + args.limit();
    let mut told = Instant::now();
    loop {
        let names = created.iter().map(|c| c.name.as_str());
        let ready = stage.watch.count(names, |s| s.ready.is_some());
        if ready == created.len() {
            eprintln!("{ready}/{} Ready", created.len());
            return true;
        }
        if Instant::now() > deadline || stop.is_cancelled() {
            eprintln!("{ready}/{} Ready, no longer waiting", created.len());
            return false;
        }
        if told.elapsed() > Duration::from_secs(2) {
            told = Instant::now();
            eprintln!("{ready}/{} Ready", created.len());
        }
        // The watch has its own times; this only looks whether it is done.
        sleep(Duration::from_millis(50)).await;
    }
}

/// Watches that the operator writes nothing while nothing changes.
async fn quiet(
    args: &Options,
    operator: &Operator,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    eprintln!("watching for API writes for {} s", args.quiet.as_secs_f64());
    let (before, start) = (operator.sample().await?, Instant::now());
    tokio::select! {
        () = sleep(args.quiet) => {}
        () = stop.cancelled() => {}
    }
    let after = operator.sample().await?;
    let writes = after.writes_total() - before.writes_total();
    report.fact(format!("API writes in {:.0} quiet s", start.elapsed().as_secs_f64()), writes);
    report.fact("CPU ms in that time", (after.cpu_seconds - before.cpu_seconds) * 1e3);
    if writes > 0.0 {
        let which = operator::differences(&before, &after);
        let message = format!("{writes} API writes while nothing changed: {which}");
        report.failures.push(Failure::new("(quiet)", "NotQuiet", message));
    }
    Ok(())
}
