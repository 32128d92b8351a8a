//! The consumer of one job: subscribes as soon as the queue exists, keeps the lines, subscribes again when it
//! must, until it is cancelled.

mod intake;
mod pauses;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use super::budget::Budget;
use super::cluster::Cluster;
use super::end;
use super::job::{Awaited, Job, Stage, line_bytes};
use super::metrics::Metrics;
use super::replicas::Replicas;
use crate::api::names::EndRequest;
use crate::api::{AnalyzerPool, AnalyzerSource};
use crate::broker::consume::{Broker, BrokerError, Link, Subscriber, Subscription};
use pauses::Pauses;
use waiting::Step;

/// The queue of a consumer that was attached for so long is looked at without a pause.
const STEADY: Duration = Duration::from_secs(1);
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

/// How a subscription ended.
enum Ended {
    /// Before it began.
    Refused(BrokerError),
    /// After the consumer was attached for so long.
    After(BrokerError, Duration),
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
        let mut pauses = Pauses::new();
        // The queue of a job that was made a moment ago cannot be there yet: its news is awaited.
        let mut step = if self.job.fresh { Step::Wait } else { Step::Look };
        loop {
            let link = self.link(&mut links).await;
            pauses.reset();
            let mut blind = None;
            while matches!(links.has_changed(), Ok(false)) {
                let error = match self.before(step, &notice, &mut blind).await {
                    Some(error) => error,
                    None => match self.attempt(&mut subscriber, &link, &source, &mut links).await {
                        Ok(Ended::Refused(error)) => error,
                        Ok(Ended::After(error, lasted)) => {
                            // What was told meanwhile is no news.
                            notice.clear();
                            self.job.poke.notified().now_or_never();
                            if lasted >= STEADY {
                                self.tell(&error);
                                pauses.reset();
                                step = Step::Look;
                                continue;
                            }
                            error
                        }
                        Err(Mismatch(message)) => return self.refuse(message),
                    },
                };
                self.tell(&error);
                // Failure shows again, with its reason, when the channel is used.
                let _ = subscriber.prepare(&link).await;
                let pause = pauses.next(&error, link.has_events());
                step = self.pause(&notice, &mut links, pause).await;
                if step == Step::Subscribe {
                    pauses.reset();
                }
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
    ) -> Result<Ended, Mismatch> {
        let subscription = match subscriber.subscribe(link).await {
            Ok(subscription) => subscription,
            Err(error) => return Ok(Ended::Refused(error)),
        };
        let begun = Instant::now();
        let error = tokio::select! {
            ended = self.read(subscription, source) => ended?,
            _ = links.changed() => {
                links.mark_changed();
                BrokerError::Lost
            }
        };
        Ok(Ended::After(error, begun.elapsed()))
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
        tokio::spawn(end::end(Arc::clone(&self.shared), Arc::clone(&self.job), request, self.stop.clone()));
    }

    fn tag(&self) -> String {
        let job: String = self.job.name.chars().take(100).collect();
        format!("focus-server-{}-{job}", self.shared.replicas.own())
    }
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
