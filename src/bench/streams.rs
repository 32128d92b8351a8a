//! Lines of many jobs, from the queues to gRPC readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args::Streams;
use super::arrivals::{Arrivals, count};
use super::cost::{Cost, MIB};
use super::findings::Findings;
use super::ground::Site;
use super::memory::{self, Look};
use super::publisher::{Clock, Published, Publisher, StreamJob};
use super::reader::{self, Reader, Readers};
use super::sampler::Sampler;
use super::spread::Spread;
use super::tally::Tally;
use super::view;
use crate::api::AnalyzerPool;
use crate::api::view::stream_sizes;
use crate::broker::Address;
use crate::probe::cluster::bounded;
use crate::probe::exposition::MEMORY;
use crate::probe::load::kubelet::Kubelet;
use crate::probe::report::{Failure, Report, Row};

/// How long each job's consumer, and all readers, may take.
const SETUP: Duration = Duration::from_secs(60);
/// How long the readers may get no line before what is missing counts as lost.
const SETTLED: Duration = Duration::from_secs(5);
/// Connections to the broker that the publishers share.
const CONNECTIONS: usize = 4;
/// Pause before the first line is due.
const LEAD: Duration = Duration::from_millis(100);

/// Publishes lines, reads them, and reports what became of them.
///
/// # Errors
/// When nothing could be measured.
pub async fn run(options: &Streams, stop: &CancellationToken) -> anyhow::Result<Report> {
    let mut report = Report::new(format!(
        "focus bench streams: {} jobs x {} channels x {} lines/s for {} s",
        options.jobs,
        options.channels,
        options.lines_per_second,
        options.duration.as_secs_f64()
    ));
    let site = Site::prepare(&options.target, &view::request(options), true, &mut report).await?;
    let measured = measure(options, &site, stop, &mut report).await;
    site.clear(&mut report).await;
    measured.map(|()| report)
}

async fn measure(
    options: &Streams,
    site: &Site,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    let broker = options.target.broker.address()?;
    let kubelet = Kubelet::start(&site.cluster).await?;
    let idle = site.metrics.read().await?.sum(MEMORY)?;
    let jobs = configure(options, site, stop).await?;
    let lag = Arc::new(Spread::new()?);
    let publishers = publishers(options, &broker, &jobs, &lag).await?;
    for publisher in &publishers {
        publisher.header().await?;
    }
    let shared = Arc::new(Readers {
        ready: Default::default(),
        passed: Default::default(),
        latency: Spread::new()?,
        done: CancellationToken::new(),
    });
    let readers = attach(options, &jobs, &shared, stop).await?;
    let before = site.metrics.read().await?;
    let cost = Cost::now(&before)?;
    let sampler = Sampler::start(site.metrics.clone(), options.sample);

    let published = publish(options, publishers, stop).await?;
    let last = Instant::now();
    let each = u64::from(per_job(options));
    let due: u64 = published.iter().map(|published| published.due).sum();
    let arrived = settle(&shared, due * each, stop).await;
    let looks = sampler.finish();
    let after = site.metrics.read().await?;
    shared.done.cancel();
    let read = join(readers).await;

    report.fact("lines due", due as f64);
    report.fact(
        "ms from the last line's publication until readers had all",
        (arrived - last).as_secs_f64() * 1e3,
    );
    cost.enter(&after, due, "line", report)?;
    Findings { published, read, before, after }.enter(report);
    enter_memory(options, idle, &looks, report);
    enter_times(options, &lag, &shared, report);
    drop(kubelet);
    if stop.is_cancelled() {
        report.failures.push(Failure::new("(run)", "Interrupted", "the benchmark was told to stop"));
    }
    Ok(())
}
/// How many readers each job has.
fn per_job(options: &Streams) -> u32 {
    options.readers.unwrap_or(stream_count(options))
}

/// How many streams each job has.
fn stream_count(options: &Streams) -> u32 {
    stream_sizes(options.channels as usize).len() as u32
}

/// Configures the jobs and waits for their consumers.
async fn configure(
    options: &Streams,
    site: &Site,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<Arc<StreamJob>>> {
    let name = &options.target.pool;
    let found = site.cluster.api::<AnalyzerPool>();
    let pool = bounded(&format!("reading AnalyzerPool {name}"), found.get(name)).await?;
    let (request, mut jobs) = (view::request(options), Vec::new());
    for _ in 0..options.jobs {
        let id = site.server.configure(&request).await?;
        let object = site.job(&id).await?;
        jobs.push(Arc::new(StreamJob {
            id,
            object,
            source: pool.spec.source.clone(),
            clock: Clock::default(),
        }));
    }
    let deadline = Instant::now() + SETUP;
    for job in &jobs {
        let consumer = stop.run_until_cancelled(site.server.wait_metadata(&job.id, deadline)).await;
        consumer.context("told to stop before the jobs had consumers")??;
    }
    Ok(jobs)
}

/// A publisher for each job, over a few connections.
async fn publishers(
    options: &Streams,
    broker: &Address,
    jobs: &[Arc<StreamJob>],
    lag: &Arc<Spread>,
) -> anyhow::Result<Vec<Publisher>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS.min(jobs.len()) {
        connections.push(broker.connect(super::NAME).await?);
    }
    let mut publishers = Vec::new();
    for (job, connection) in jobs.iter().zip(connections.iter().cycle()) {
        let channel = crate::probe::broker::bounded("opening a channel", connection.create_channel()).await?;
        let (job, lag) = (Arc::clone(job), Arc::clone(lag));
        publishers.push(Publisher { job, channel, lag, leave_out: options.leave_out });
    }
    Ok(publishers)
}

/// What each reader got: the number of its job, its count, and what went wrong.
pub type Read = (usize, Tally, Option<String>);

/// Attaches all readers; returns when each has had its header.
async fn attach(
    options: &Streams,
    jobs: &[Arc<StreamJob>],
    shared: &Arc<Readers>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<Read>> {
    let all = per_job(options) as usize * jobs.len();
    let channels = reader::connect(&options.grpc, options.connections.min(all as u32)).await?;
    let mut readers = JoinSet::new();
    for number in 0..all {
        let job = number % jobs.len();
        let stream = (number / jobs.len()) as u32 % stream_count(options);
        let reader = Reader {
            number,
            job: Arc::clone(&jobs[job]),
            stream: stream as i32,
            channel: channels[number % channels.len()].clone(),
            shared: Arc::clone(shared),
        };
        readers.spawn(async move {
            let (tally, failure) = reader.read().await;
            (job, tally, failure)
        });
    }
    let deadline = Instant::now() + SETUP;
    while shared.ready.load(Ordering::Relaxed) < all {
        if let Some(ended) = readers.try_join_next() {
            bail!("a reader ended before it began: {}", ended?.2.unwrap_or_default());
        }
        if Instant::now() > deadline || stop.is_cancelled() {
            bail!("{} of {all} readers have their header", shared.ready.load(Ordering::Relaxed));
        }
        sleep(Duration::from_millis(10)).await;
    }
    eprintln!("{all} readers of {} jobs are attached", jobs.len());
    Ok(readers)
}

/// Publishes all lines; gives how many of each job.
async fn publish(
    options: &Streams,
    publishers: Vec<Publisher>,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<Published>> {
    let rate = f64::from(options.lines_per_second);
    let (start, lines) = (Instant::now() + LEAD, count(rate, options.duration));
    let jobs = publishers.len();
    let mut running = JoinSet::new();
    for (number, publisher) in publishers.into_iter().enumerate() {
        // Evenly within a line's time, as analyzers that know nothing of each other.
        let first = start + Duration::from_secs_f64(number as f64 / jobs as f64 / rate);
        let stop = stop.clone();
        running
            .spawn(async move { (number, publisher.lines(Arrivals::new(first, rate), lines, &stop).await) });
    }
    let mut published = vec![Published::default(); jobs];
    while let Some(ended) = running.join_next().await {
        let (number, outcome) = ended.context("a publisher panicked")?;
        published[number] = outcome?;
    }
    Ok(published)
}

/// Waits until the readers are past `due` lines, or until none has come for a while; gives when the last one came.
async fn settle(shared: &Readers, due: u64, stop: &CancellationToken) -> Instant {
    let (mut passed, mut last) = (shared.passed.load(Ordering::Relaxed), Instant::now());
    while passed < due && last.elapsed() < SETTLED && !stop.is_cancelled() {
        sleep(Duration::from_millis(1)).await;
        let now = shared.passed.load(Ordering::Relaxed);
        if now > passed {
            (passed, last) = (now, Instant::now());
        }
    }
    last
}

async fn join(mut readers: JoinSet<Read>) -> Vec<Read> {
    let mut read = Vec::new();
    while let Some(ended) = readers.join_next().await {
        read.push(ended.unwrap_or_else(|error| (0, Tally::default(), Some(error.to_string()))));
    }
    read
}

fn enter_times(options: &Streams, lag: &Spread, shared: &Readers, report: &mut Report) {
    report.phases.push(Row::of("line due -> published (this program's own lag)", lag.summary()));
    let latency = Row::of("line published -> at a reader", shared.latency.summary());
    report.limit_p99(&latency, options.max_p99);
    report.phases.push(latency);
}

/// Enters how much memory a job takes and whether that is flat, once each job has as many lines as its display has.
fn enter_memory(options: &Streams, idle: f64, looks: &[Look], report: &mut Report) {
    // Twice as long, so that a display that lags behind is full too.
    let full = 2.0 * f64::from(options.display);
    let looks: Vec<Look> = looks.iter().copied().filter(|look| look.at >= full).collect();
    let Some(trend) = memory::trend(&looks) else {
        report.notes.push(format!(
            "too short to tell the memory: --duration must be some --sample longer than {full:.0} s, when displays are full"
        ));
        return;
    };
    report.fact("server: memory before the jobs, MiB", idle / MIB);
    report.fact(format!("server: memory {full:.0} s after the first line, MiB"), trend.first / MIB);
    report.fact("server: memory at the last line, MiB", trend.last / MIB);
    report.fact("server: largest memory, MiB", trend.largest / MIB);
    report.fact("server: memory per job, MiB", (trend.last - idle) / f64::from(options.jobs) / MIB);
    let growth = trend.per_minute / MIB;
    report.fact(format!("server: growth of memory over {} looks, MiB per minute", looks.len()), growth);
    if let Some(most) = options.max_growth.filter(|most| growth > *most) {
        let message = format!("the server's memory grows by {growth:.2} MiB per minute, the limit is {most}");
        report.failures.push(Failure::new("(server)", "MemoryGrows", message));
    }
}
