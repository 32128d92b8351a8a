//! Configure requests at an even rate.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args::Configure;
use super::arrivals::{Arrivals, count};
use super::attached::Attached;
use super::cost::Cost;
use super::floor::Floor;
use super::ground::Site;
use crate::probe::report::{Failure, Report, Row};
use crate::probe::run::default_request;
use crate::probe::server::Server;
use crate::probe::stats::between;

/// How long a job's consumer may take.
const CONSUMER: Duration = Duration::from_secs(30);
/// Most jobs that are under way at once; what comes on top is not sent, and is a failure.
const MOST: usize = 2000;
/// How many failures are named.
const NAMED_FAILURES: usize = 10;

/// What became of one request.
#[derive(Default)]
struct Request {
    job: Option<String>,
    /// s from when it was due.
    sent: Option<f64>,
    answered: Option<f64>,
    metadata: Option<f64>,
    /// When the metadata were there.
    metadata_at: Option<Instant>,
    /// s from the call.
    deleted: Option<f64>,
    failure: Option<Failure>,
}

/// Makes the requests and reports their times.
///
/// # Errors
/// When nothing could be measured.
pub async fn run(options: &Configure, stop: &CancellationToken) -> anyhow::Result<Report> {
    let (rate, seconds) = (options.rate, options.duration.as_secs_f64());
    let mut report = Report::new(format!("focus bench configure: {rate} requests/s for {seconds} s"));
    if rate == 0.0 {
        anyhow::bail!("--rate is 0: say how many requests per second");
    }
    let request = default_request();
    let site = Site::prepare(&options.target, &request, !options.no_operator, &mut report).await?;
    let measured = measure(options, &site, request, stop, &mut report).await;
    site.clear(&mut report).await;
    measured.map(|()| report)
}

async fn measure(
    options: &Configure,
    site: &Site,
    request: Value,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    let attached = match options.metadata {
        true => Some(Attached::listen(&options.target.broker.address()?, &site.cluster.namespace).await?),
        false => None,
    };
    let floor = Floor::start(&site.cluster, options.mongodb_uri.as_ref()).await?;
    let before = Cost::now(&site.metrics.read().await?)?;
    let requests = send_all(options, &site.server, request, stop).await;
    floor.finish(report).await;
    before.enter(&site.metrics.read().await?, requests.len() as u64, "request", report)?;
    enter(options, requests, attached.as_ref(), report);
    if stop.is_cancelled() {
        report.failures.push(Failure::new("(run)", "Interrupted", "the benchmark was told to stop"));
    }
    Ok(())
}

async fn send_all(
    options: &Configure,
    server: &Server,
    request: Value,
    stop: &CancellationToken,
) -> Vec<Request> {
    let arrivals = Arrivals::new(Instant::now(), options.rate);
    let (options, request) = (Arc::new(options.clone()), Arc::new(request));
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for index in 0..count(options.rate, options.duration) {
        let Some(due) = stop.run_until_cancelled(arrivals.wait(index)).await else { break };
        while let Some(ended) = running.try_join_next() {
            done.push(ended.unwrap_or_else(|error| failed("Panicked", error.to_string())));
        }
        if running.len() >= MOST {
            done.push(failed("TooMany", format!("{MOST} jobs are under way: request {index} was not sent")));
            continue;
        }
        let (server, request, options) = (server.clone(), Arc::clone(&request), Arc::clone(&options));
        let stop = stop.clone();
        running.spawn(async move { send(&options, &server, &request, due, &stop).await });
    }
    while let Some(ended) = running.join_next().await {
        done.push(ended.unwrap_or_else(|error| failed("Panicked", error.to_string())));
    }
    done
}

/// Configures a job that was due at `due`, and ends it.
async fn send(
    options: &Configure,
    server: &Server,
    request: &Value,
    due: Instant,
    stop: &CancellationToken,
) -> Request {
    let sent = due.elapsed().as_secs_f64();
    let id = match server.configure(request).await {
        Ok(id) => id,
        Err(error) => return Request { sent: Some(sent), ..failed("ConfigureFailed", format!("{error:#}")) },
    };
    let answered = Some(due.elapsed().as_secs_f64());
    let mut done = Request { job: Some(id.clone()), sent: Some(sent), answered, ..Request::default() };
    if options.metadata {
        let awaited = server.wait_metadata(&id, Instant::now() + CONSUMER);
        match stop.run_until_cancelled(awaited).await {
            Some(Ok(())) => {
                done.metadata_at = Some(Instant::now());
                done.metadata = Some(due.elapsed().as_secs_f64());
            }
            Some(Err(error)) => done.failure = Some(Failure::new(&id, "NoConsumer", format!("{error:#}"))),
            None => {}
        }
    }
    stop.run_until_cancelled(sleep(options.hold)).await;
    let start = Instant::now();
    match server.delete(&id).await {
        Ok(()) => done.deleted = Some(start.elapsed().as_secs_f64()),
        Err(error) => done.failure = Some(Failure::new(&id, "DeleteFailed", format!("{error:#}"))),
    }
    done
}

fn failed(reason: &str, message: String) -> Request {
    Request { failure: Some(Failure::new("(configure)", reason, message)), ..Request::default() }
}

fn enter(options: &Configure, requests: Vec<Request>, attached: Option<&Attached>, report: &mut Report) {
    let each = |of: fn(&Request) -> Option<f64>| requests.iter().filter_map(of).collect::<Vec<f64>>();
    let configure = Row::new("configure: due -> answer", each(|r| r.answered));
    report.limit_p99(&configure, options.max_p99);
    report.phases.push(Row::new("configure: due -> sent (this program's own lag)", each(|r| r.sent)));
    report.phases.push(configure);
    if let Some(attached) = attached {
        let since = requests.iter().filter_map(|r| since_consumer(r, attached)).collect();
        let metadata = Row::new("consumer.created event -> metadata 200", since);
        report.limit_p99(&metadata, options.max_metadata_p99);
        report.phases.push(metadata);
        report.phases.push(Row::new("configure: due -> metadata 200", each(|r| r.metadata)));
    }
    report.phases.push(Row::new("DELETE job: sent -> answer", each(|r| r.deleted)));
    report.fact("requests", requests.len() as f64);
    let mut failures: Vec<_> = requests.into_iter().filter_map(|r| r.failure).collect();
    report.fact("requests that failed", failures.len() as f64);
    failures.truncate(NAMED_FAILURES);
    report.failures.extend(failures);
}

/// From the news of the consumer to the metadata, s.
fn since_consumer(request: &Request, attached: &Attached) -> Option<f64> {
    Some(between(attached.get(request.job.as_deref()?)?, request.metadata_at?))
}
