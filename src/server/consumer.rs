//! The consumer of one job: subscribes as soon as the queue exists, keeps the lines, subscribes again when it
//! must, until it is cancelled.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::{ObjectRef, Store};
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

use super::budget::Budget;
use super::cluster::Cluster;
use super::header;
use super::job::{Awaited, Job, Stage, line_bytes};
use super::lines::Pushed;
use super::metrics::{Dropped, Metrics};
use super::replicas::Replicas;
use crate::api::names::EndRequest;
use crate::api::{AnalyzerPool, AnalyzerSource};
use crate::backoff::Backoff;
use crate::broker::consume::{Broker, BrokerError, Link, Notice, Subscriber, Subscription};
use crate::wire::{self, frame::Kind};

/// First pause between two looks for a queue, when the broker tells of new ones and this is but the safety net.
const FIRST_PAUSE_WITH_EVENTS: Duration = Duration::from_millis(25);
/// First pause between two looks for a queue, when looking is all there is.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Bytes that the broker may send ahead of their acknowledgement, per job.
const AHEAD_BYTES: usize = 32 << 20;
/// Messages that the broker may send ahead of their acknowledgement, per job.
const AHEAD_MESSAGES: usize = 256;

/// What every consumer uses.
pub struct Shared {
    /// The API server.
    pub cluster: Cluster,
    /// The pools, by watch.
    pub pools: Store<AnalyzerPool>,
    /// The broker.
    pub broker: Broker,
    /// The metrics.
    pub metrics: Metrics,
    /// The memory of all lines.
    pub budget: Arc<Budget>,
    /// This replica and the others.
    pub replicas: Replicas,
}

impl Shared {
    /// The source that `pool` declares.
    pub fn source(&self, pool: &str) -> Option<AnalyzerSource> {
        let pool = self.pools.get(&ObjectRef::new(pool).within(&self.cluster.namespace))?;
        Some(pool.spec.source.clone())
    }
}

/// Runs the consumer of `job` until `stop`, or until the job can have none.
pub async fn run(shared: Arc<Shared>, job: Arc<Job>, stop: CancellationToken) {
    let log = job.log.clone();
    let consumer = JobConsumer { shared, job, stop: stop.clone() };
    stop.run_until_cancelled(consumer.follow().instrument(log)).await;
}

struct JobConsumer {
    shared: Arc<Shared>,
    job: Arc<Job>,
    stop: CancellationToken,
}

/// The header disagrees with the job, in words.
struct Mismatch(String);

impl JobConsumer {
    async fn follow(&self) {
        let source = self.source().await;
        self.job.open(&source, &self.shared.budget, &self.stop);
        let notice = self.shared.broker.notice(&self.job.queue);
        let mut subscriber = match Subscriber::new(&self.job.queue, &self.tag(), prefetch(&self.job, &source))
        {
            Ok(subscriber) => subscriber,
            Err(error) => {
                let awaited = Awaited::new("queue", "NameTooLong", error.to_string());
                return self.job.set_stage(Stage::Ended(awaited), &self.stop);
            }
        };
        let mut links = self.shared.broker.links();
        let mut retry = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // The queue of a job that was made a moment ago cannot be there yet: its news is awaited before the
        // broker is asked, for a subscription to a missing queue costs a channel.
        let mut look = !self.job.fresh;
        loop {
            let link = self.link(&mut links).await;
            retry.reset_to(if link.has_events() { FIRST_PAUSE_WITH_EVENTS } else { FIRST_PAUSE });
            while matches!(links.has_changed(), Ok(false)) {
                if !look {
                    self.wait_for("queue", "QueueMissing", "the job's queue does not exist yet");
                } else if let Err(Mismatch(message)) =
                    self.attempt(&mut subscriber, &link, &source, &mut links, &mut retry).await
                {
                    return self.refuse(message);
                }
                look = true;
                // Failure shows again, with its reason, when the channel is used.
                let _ = subscriber.prepare(&link).await;
                self.pause(&notice, &mut links, &mut retry).await;
            }
        }
    }

    /// One subscription, from its beginning to its end.
    async fn attempt(
        &self,
        subscriber: &mut Subscriber,
        link: &Link,
        source: &AnalyzerSource,
        links: &mut watch::Receiver<Option<Link>>,
        retry: &mut Backoff,
    ) -> Result<(), Mismatch> {
        let error = match subscriber.subscribe(link).await {
            Ok(subscription) => {
                retry.reset();
                tokio::select! {
                    ended = self.read(subscription, source) => ended?,
                    _ = links.changed() => {
                        links.mark_changed();
                        BrokerError::Lost
                    }
                }
            }
            Err(error) => error,
        };
        debug!(%error, "no consumer");
        match error {
            BrokerError::NoQueue => self.wait_for("queue", "QueueMissing", "the job's queue does not exist"),
            BrokerError::Lost => self.wait_for("broker", "BrokerUnreachable", &error.to_string()),
            BrokerError::Taken => self.wait_for("consumer", "AnotherConsumer", &error.to_string()),
            error => self.wait_for("consumer", "BrokerRefused", &error.to_string()),
        }
        Ok(())
    }

    async fn pause(&self, notice: &Notice, links: &mut watch::Receiver<Option<Link>>, retry: &mut Backoff) {
        tokio::select! {
            () = notice.created() => retry.reset(),
            () = self.job.poke.notified() => retry.reset(),
            // The caller asks whether it has changed.
            _ = links.changed() => links.mark_changed(),
            () = tokio::time::sleep(retry.pause()) => {}
        }
    }

    /// Reads until the subscription ends; says why it ended.
    async fn read(
        &self,
        mut subscription: Subscription,
        source: &AnalyzerSource,
    ) -> Result<BrokerError, Mismatch> {
        let _attached = Attached::new(&self.shared.metrics);
        self.job.set_stage(Stage::Attached, &self.stop);
        let first = self.job.first_consumer();
        if let Some(received) = self.job.received.filter(|_| first) {
            self.shared.metrics.to_consumer.observe(received.elapsed().as_secs_f64());
        }
        info!("the consumer is attached");
        self.bind();
        let most = usize::from(prefetch(&self.job, source)).div_ceil(4);
        loop {
            let messages = match subscription.next(most).await {
                Ok(messages) => messages,
                Err(error) => return Ok(error),
            };
            for (body, redelivered) in messages {
                self.take(&body, redelivered, source)?;
            }
        }
    }

    /// Binds the job to this replica, so that it stays here when another joins.
    fn bind(&self) {
        let replicas = &self.shared.replicas;
        if replicas.are_one() || self.job.is_bound_to(replicas.own()) {
            return;
        }
        let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&self.job));
        tokio::spawn(async move {
            let own = shared.replicas.own();
            if let Err(error) = shared.cluster.bind(&job.name, &job.uid, own).await {
                // It is ours all the same; it may only move when another replica joins.
                job.log.in_scope(|| warn!(%error, "binding the job to this replica failed"));
            }
        });
    }

    fn take(&self, body: &[u8], redelivered: bool, source: &AnalyzerSource) -> Result<(), Mismatch> {
        match wire::Frame::decode(body).ok().and_then(|frame| frame.kind) {
            Some(Kind::Header(header)) => self.take_header(header, source),
            Some(Kind::Line(line)) => {
                self.take_line(line, redelivered);
                Ok(())
            }
            Some(Kind::End(end)) => {
                info!(reason = end.reason, "the analyzer has ended");
                self.job.with_feed(|feed| feed.ended = Some(end));
                Ok(())
            }
            None => {
                self.shared.metrics.drop_lines(Dropped::Malformed, 1);
                Ok(())
            }
        }
    }

    fn take_header(&self, header: wire::Header, source: &AnalyzerSource) -> Result<(), Mismatch> {
        if self.job.with_feed(|feed| feed.header.as_ref() == Some(&header)).unwrap_or(true) {
            return Ok(());
        }
        if let Some(words) = header::disagreement(&header, &self.job.uid, &self.job.spec, source) {
            self.job.step_of_consumer("first header", Some("HeaderMismatch"));
            return Err(Mismatch(words));
        }
        self.job.with_feed(|feed| feed.header = Some(header));
        self.job.step_of_consumer("first header", None);
        self.note_source(source);
        Ok(())
    }

    /// Notes `source`, by which the analyzer's header was found right, on a job that the server did not make: whoever
    /// takes it over reads it by that, whatever has become of the pool since.
    fn note_source(&self, source: &AnalyzerSource) {
        let Some(told) = source.told().filter(|_| !self.job.tells_source()) else { return };
        let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&self.job));
        tokio::spawn(async move {
            if let Err(error) = shared.cluster.note_source(&job.name, &job.uid, &told).await {
                // The next header tries again.
                warn!(job = job.name, %error, "noting the job's source on it failed");
            }
        });
    }

    fn take_line(&self, line: wire::Line, redelivered: bool) {
        let metrics = &self.shared.metrics;
        metrics.lines.inc();
        match self.job.push(line, redelivered) {
            Some((Pushed::Kept { missing, evicted }, first)) => {
                metrics.drop_lines(Dropped::Gap, missing);
                metrics.drop_lines(Dropped::Memory, evicted);
                if first {
                    self.job.step_of_consumer("first line", None);
                }
                if let Some(received) = self.job.received.filter(|_| first) {
                    metrics.to_first_line.observe(received.elapsed().as_secs_f64());
                }
            }
            Some((Pushed::Malformed, _)) => metrics.drop_lines(Dropped::Malformed, 1),
            Some((Pushed::Repeated, _)) => metrics.repeated_lines.inc(),
            None => {}
        }
    }

    /// The header disagrees: no more lines, and the operator is asked to fail the job.
    fn refuse(&self, message: String) {
        warn!(message, "the analyzer's header disagrees with the job: failing it");
        if self.stop.is_cancelled() {
            return;
        }
        self.job.with_feed(|feed| feed.lines.clear());
        let awaited = Awaited::new("header", "HeaderMismatch", message.clone());
        self.job.set_stage(Stage::Ended(awaited), &self.stop);
        let request = EndRequest { reason: "HeaderMismatch".to_owned(), message, failed: true };
        tokio::spawn(end(Arc::clone(&self.shared), Arc::clone(&self.job), request, self.stop.clone()));
    }

    async fn source(&self) -> AnalyzerSource {
        loop {
            if let Some(source) = self.job.source() {
                return source.clone();
            }
            if let Some(source) = self.shared.source(&self.job.spec.pool) {
                return self.job.source_or(source).clone();
            }
            let message = format!("there is no AnalyzerPool named {}", self.job.spec.pool);
            self.wait_for("pool", "PoolNotFound", &message);
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    async fn link(&self, links: &mut watch::Receiver<Option<Link>>) -> Link {
        loop {
            if let Some(link) = links.borrow_and_update().clone() {
                return link;
            }
            self.wait_for("broker", "BrokerUnreachable", &self.shared.broker.problem());
            // The sender lives as long as the shared broker.
            let _ = links.changed().await;
        }
    }

    fn wait_for(&self, phase: &'static str, reason: &'static str, message: &str) {
        self.job.set_stage(Stage::Waiting(Awaited::new(phase, reason, message)), &self.stop);
    }

    fn tag(&self) -> String {
        let job: String = self.job.name.chars().take(100).collect();
        format!("focus-server-{}-{job}", self.shared.replicas.own())
    }
}

/// Asks the operator to end `job`, again and again until it is done or `stop`. While one call does it, and when it is
/// done, others do nothing.
pub async fn end(shared: Arc<Shared>, job: Arc<Job>, request: EndRequest, stop: CancellationToken) {
    if job.end_asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
        return;
    }
    let mut retry = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Some(asked) = stop.run_until_cancelled(shared.cluster.end(&job.name, &job.uid, &request)).await
    {
        let Err(error) = asked else { return };
        let reason = &request.reason;
        job.log.in_scope(|| warn!(reason, %error, "asking the operator to end the job failed"));
        stop.run_until_cancelled(tokio::time::sleep(retry.pause())).await;
    }
    // The job goes to another replica, or is suspended: it may come back, and nobody have ended it.
    job.end_asked.store(false, std::sync::atomic::Ordering::Relaxed);
}

/// Messages that the broker may send ahead: as many as fit the bytes, at least 4.
fn prefetch(job: &Job, source: &AnalyzerSource) -> u16 {
    let fit = AHEAD_BYTES / line_bytes(&job.spec, source).max(1);
    u16::try_from(fit.clamp(4, AHEAD_MESSAGES)).unwrap_or(4)
}

/// Counts a consumer for as long as it lives.
struct Attached(prometheus::IntGauge);

impl Attached {
    fn new(metrics: &Metrics) -> Self {
        metrics.consumers.inc();
        Self(metrics.consumers.clone())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use prometheus::Registry;
    use serde_json::Value;

    use super::*;
    use crate::api::FocusJob;
    use crate::server::answer::tests::spec;
    use crate::server::budget::tests::budget;
    use crate::server::cluster::tests::fake;

    #[tokio::test]
    async fn a_job_whose_end_was_not_asked_for_can_be_ended_when_it_comes_back() {
        let (cluster, calls) =
            fake(|_, before| Some(if before == 0 { (500, Value::Null) } else { (200, object()) }));
        let metrics = Metrics::new(&Registry::new()).expect("fresh registry");
        let shared = Arc::new(Shared {
            cluster,
            pools: kube::runtime::reflector::store().0,
            broker: Broker::new(metrics.broker.clone()),
            metrics,
            replicas: Replicas::alone("a"),
            budget: budget(1 << 20),
        });
        let job = Arc::new(Job::new(&FocusJob::new("5-1", spec(8)), None));
        let request = EndRequest { reason: "IdleTimeout".to_owned(), message: String::new(), failed: false };
        let end = |stop| end(Arc::clone(&shared), Arc::clone(&job), request.clone(), stop);
        let stop = CancellationToken::new();
        tokio::join!(end(stop.clone()), async {
            while calls.lock().expect("no panic").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        });
        assert!(!job.end_asked.load(Ordering::Relaxed));
        for _ in 0..2 {
            end(CancellationToken::new()).await;
        }
        assert!(job.end_asked.load(Ordering::Relaxed));
        assert_eq!(calls.lock().expect("no panic").len(), 2, "once in vain, once with success");
    }

    fn object() -> Value {
        serde_json::to_value(FocusJob::new("5-1", spec(8))).expect("JSON")
    }
}
