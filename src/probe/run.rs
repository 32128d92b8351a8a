//! A run of jobs through the Focus Server or through the Kubernetes API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::args::Options;
use super::cluster::Cluster;
use super::floor::{self, PodFloor};
use super::outcome::{Outcome, rows};
use super::report::{Failure, Report};
use super::server::Server;
use super::through_api::ThroughApi;
use super::through_server::ThroughServer;
use super::watch::JobWatch;
use crate::api::FocusJobSpec;

/// How long the sweep at the end may take.
const SWEEP: Duration = Duration::from_secs(60);

/// How a job is made.
enum Way {
    Server(ThroughServer),
    Api(ThroughApi),
}

impl Way {
    async fn measure(&self, args: &Options, stop: &CancellationToken) -> Outcome {
        let mut outcome = match self {
            Way::Server(way) => way.measure(stop).await,
            Way::Api(way) => way.measure(stop).await,
        };
        outcome.judge(args.max_consumer);
        outcome
    }

    fn cluster(&self) -> Option<&Cluster> {
        match self {
            Way::Server(way) => way.cluster.as_ref().map(|(cluster, _)| cluster),
            Way::Api(way) => Some(&way.cluster),
        }
    }
}

/// Measures `args.jobs` jobs and the floor.
///
/// # Errors
/// When server or cluster do not answer at all.
pub async fn run(args: &Options, stop: &CancellationToken) -> anyhow::Result<Report> {
    let through = if args.kubectl { "the Kubernetes API" } else { "the Focus Server" };
    let pace =
        if args.rate > 0.0 { format!("at {} per s", args.rate) } else { "one after the other".to_owned() };
    let mut report = Report::new(format!("focus probe: {} jobs through {through}, {pace}", args.jobs));
    let way = Arc::new(if args.kubectl {
        through_api(args, &mut report).await?
    } else {
        through_server(args, &mut report).await?
    });
    if !args.no_floor {
        floor::queues(args, &mut report).await;
    }
    let mut pods = match way.cluster() {
        Some(cluster) => PodFloor::prepare(cluster, args, &mut report).await,
        None => None,
    };
    let outcomes = if args.rate > 0.0 {
        at_a_rate(args, &way, &mut pods, stop).await
    } else {
        one_by_one(args, &way, &mut pods, stop).await
    };
    if let Some(pods) = pods {
        pods.finish(&mut report);
    }
    if let Some(cluster) = way.cluster()
        && let Err(error) = cluster.sweep(SWEEP).await
    {
        report.failures.push(Failure::new("(clean-up)", "Leftover", format!("{error:#}")));
    }
    enter(args, &outcomes, &mut report);
    Ok(report)
}

async fn through_api(args: &Options, report: &mut Report) -> anyhow::Result<Way> {
    let spec = match read_request(args).await? {
        Some(spec) => serde_json::from_value(spec).context("reading --request: it is no FocusJob spec")?,
        None => default_spec(&args.pool)?,
    };
    let (cluster, version) = Cluster::connect(&args.connection, args.namespace.as_deref()).await?;
    report.environment.insert("kubernetes".to_owned(), version);
    let watch = JobWatch::start(&cluster).await?;
    Ok(Way::Api(ThroughApi { cluster, watch, spec, limit: args.limit() }))
}

async fn through_server(args: &Options, report: &mut Report) -> anyhow::Result<Way> {
    let request = read_request(args).await?.unwrap_or_else(default_request);
    let server = Server::new(&args.server)?;
    server.ack().await?;
    if let Some(version) = server.version().await {
        report.environment.insert("server".to_owned(), version);
    }
    let cluster = if args.no_cluster { None } else { watched(args, report).await };
    Ok(Way::Server(ThroughServer {
        server,
        cluster,
        request,
        poll: (!args.wait).then_some(args.poll),
        first_line: !args.no_first_line,
        limit: args.limit(),
    }))
}

/// The cluster and its watch; a note when they cannot be reached, for the server can be measured alone.
async fn watched(args: &Options, report: &mut Report) -> Option<(Cluster, JobWatch)> {
    let found = async {
        let (cluster, version) = Cluster::connect(&args.connection, args.namespace.as_deref()).await?;
        let watch = JobWatch::start(&cluster).await?;
        anyhow::Ok((cluster, watch, version))
    };
    match found.await {
        Ok((cluster, watch, version)) => {
            report.environment.insert("kubernetes".to_owned(), version);
            Some((cluster, watch))
        }
        Err(error) => {
            report.notes.push(format!("measured without the cluster's own view: {error:#}"));
            None
        }
    }
}

async fn one_by_one(
    args: &Options,
    way: &Way,
    pods: &mut Option<PodFloor>,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for done in 0..args.jobs {
        // A bare pod is left as it is on a signal; the sweep at the end takes it away.
        measure_due(pods, done, args.jobs, stop).await;
        if stop.is_cancelled() {
            return outcomes;
        }
        let outcome = way.measure(args, stop).await;
        eprintln!("{}/{} {}", done + 1, args.jobs, outcome.line());
        outcomes.push(outcome);
    }
    measure_due(pods, args.jobs, args.jobs, stop).await;
    outcomes
}

async fn at_a_rate(
    args: &Options,
    way: &Arc<Way>,
    pods: &mut Option<PodFloor>,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    // Before the jobs: between them there is no quiet moment.
    measure_due(pods, args.jobs, args.jobs, stop).await;
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut running, mut outcomes, mut started) = (JoinSet::new(), Vec::new(), 0);
    while started < args.jobs || !running.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if started < args.jobs && !stop.is_cancelled() => {
                let (way, args, stop) = (way.clone(), args.clone(), stop.clone());
                running.spawn(async move { way.measure(&args, &stop).await });
                started += 1;
            }
            Some(ended) = running.join_next() => {
                let outcome = ended.unwrap_or_else(|e| Outcome::failed("(probe)", "Panicked", e.to_string()));
                eprintln!("{}/{} {}", outcomes.len() + 1, args.jobs, outcome.line());
                outcomes.push(outcome);
            }
            () = stop.cancelled(), if started < args.jobs => started = args.jobs,
        }
    }
    outcomes
}

async fn measure_due(pods: &mut Option<PodFloor>, done: u32, all: u32, stop: &CancellationToken) {
    if let Some(pods) = pods {
        tokio::select! {
            () = pods.due(done, all) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn enter(args: &Options, outcomes: &[Outcome], report: &mut Report) {
    report.phases = rows(outcomes);
    report.failures.extend(outcomes.iter().filter_map(|o| o.failure.clone()));
    let leftover = |o: &Outcome| {
        let why = o.leftover.clone()?;
        Some(Failure::new(o.name.clone().unwrap_or_default(), "Leftover", why))
    };
    report.failures.extend(outcomes.iter().filter_map(leftover));
    for note in outcomes.iter().filter_map(|o| o.note.clone()) {
        if !report.notes.contains(&note) {
            report.notes.push(note);
        }
    }
    report.fact("jobs measured", outcomes.len() as f64);
    if outcomes.len() < args.jobs as usize {
        report.notes.push(format!("stopped by a signal after {} of {} jobs", outcomes.len(), args.jobs));
    }
}

/// The file of `--request` as JSON; None when there is none.
pub async fn read_request(args: &Options) -> anyhow::Result<Option<Value>> {
    let Some(file) = &args.request else { return Ok(None) };
    let text =
        tokio::fs::read(file).await.with_context(|| format!("reading --request {}", file.display()))?;
    let value = serde_json::from_slice(&text)
        .with_context(|| format!("reading --request {}: it is not JSON", file.display()))?;
    Ok(Some(value))
}

/// The request that the timing test of this system has always sent.
pub fn default_request() -> Value {
    json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
        "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
    })
}

/// The same view as a FocusJob of `pool`.
///
/// # Errors
/// Never in practice: the spec is written here.
pub fn default_spec(pool: &str) -> anyhow::Result<FocusJobSpec> {
    let spec = json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
        "frequencyRange": {"min": 0, "max": 500}, "viewType": "MultiChannel", "pool": pool
    });
    serde_json::from_value(spec).context("making the default FocusJob spec")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_default_spec_is_a_spec() {
        let spec = default_spec("lab").unwrap();
        assert_eq!((spec.pool.as_str(), spec.channels.count()), ("lab", 50));
    }

    #[test]
    fn failures_and_leftovers_are_reported() {
        use clap::Parser;
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            args: Options,
        }
        let args = Cli::parse_from(["p", "-n", "3"]).args;
        let outcomes = [
            Outcome::failed("a", "NoConsumer", "why"),
            Outcome { leftover: Some("stuck".to_owned()), note: Some("n".to_owned()), ..Outcome::default() },
        ];
        let mut report = Report::default();
        enter(&args, &outcomes, &mut report);
        let reasons: Vec<_> = report.failures.iter().map(|f| f.reason.as_str()).collect();
        assert_eq!(reasons, ["NoConsumer", "Leftover"]);
        assert_eq!(report.notes.len(), 2);
    }
}
