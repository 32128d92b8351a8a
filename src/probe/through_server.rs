//! One job made through the Focus Server.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::outcome::Outcome;
use super::report::Failure;
use super::server::Server;
use super::through_api::{GONE, interrupted, until_ready};
use super::watch::JobWatch;

/// How long the watch may take to show a job whose consumer is there already.
const SIGHT: Duration = Duration::from_secs(5);

/// What a job made through the server needs.
pub struct ThroughServer {
    /// The server.
    pub server: Server,
    /// The API server and the watch of FocusJobs, when they can be reached.
    pub cluster: Option<(Cluster, JobWatch)>,
    /// The body of configure.
    pub request: Value,
    /// How often metadata is polled; None: one call that waits.
    pub poll: Option<Duration>,
    /// Whether the first line is awaited.
    pub first_line: bool,
    /// How long one job may take.
    pub limit: Duration,
}

impl ThroughServer {
    /// Configures a job, waits for its consumer, first line and Ready, and ends it.
    pub async fn measure(&self, stop: &CancellationToken) -> Outcome {
        let start = Instant::now();
        let id = match self.server.configure(&self.request).await {
            Ok(id) => id,
            Err(error) => return Outcome::failed("(configure)", "ConfigureFailed", format!("{error:#}")),
        };
        let mut outcome = Outcome { name: Some(id.clone()), ..Outcome::default() };
        outcome.time("configure answer", start.elapsed());
        tokio::select! {
            () = self.follow(&id, start, &mut outcome) => {}
            () = stop.cancelled() => outcome.failure = Some(interrupted(&id)),
        }
        self.take_away(&id, &mut outcome).await;
        outcome
    }

    async fn follow(&self, id: &str, start: Instant, outcome: &mut Outcome) {
        let deadline = start + self.limit;
        let metadata = match self.poll {
            Some(poll) => self.server.poll_metadata(id, poll, deadline).await,
            None => self.server.wait_metadata(id, deadline).await,
        };
        if let Err(error) = metadata {
            outcome.failure = Some(self.no_consumer(id, &error, outcome));
            return;
        }
        outcome.time("metadata 200", start.elapsed());
        outcome.consumer = Some(start.elapsed().as_secs_f64());
        if self.first_line {
            match self.server.first_line(id, deadline).await {
                Ok(()) => outcome.time("first line", start.elapsed()),
                Err(error) => outcome.failure = Some(Failure::new(id, "NoFirstLine", format!("{error:#}"))),
            }
        }
        let Some((cluster, watch)) = &self.cluster else { return };
        if watch.until(Instant::now() + SIGHT, |w| w.get(id).is_some()).await {
            let earlier = outcome.failure.take();
            until_ready(watch, id, start, deadline, outcome).await;
            outcome.failure = earlier.or(outcome.failure.take());
        } else {
            let namespace = &cluster.namespace;
            outcome.note = Some(format!(
                "namespace {namespace} shows no FocusJob named by the job_id: name the server's with --namespace, \
                 or give --no-cluster"
            ));
        }
    }

    /// Why no consumer came: the FocusJob's condition where it is known.
    fn no_consumer(&self, id: &str, error: &anyhow::Error, outcome: &mut Outcome) -> Failure {
        let sighting = self.cluster.as_ref().and_then(|(_, watch)| watch.get(id));
        let Some(sighting) = sighting else {
            return Failure::new(id, "NoConsumer", format!("{error:#}"));
        };
        outcome.phases = sighting.status.as_ref().map(|s| s.phase_seconds.clone());
        let failure = sighting.failure(id);
        Failure::new(id, failure.reason, format!("{}; {error:#}", failure.message))
    }

    async fn take_away(&self, id: &str, outcome: &mut Outcome) {
        let start = Instant::now();
        match self.delete(id, start + GONE).await {
            Ok(true) => outcome.time("delete -> gone", start.elapsed()),
            Ok(false) => {
                outcome.leftover = Some(format!("still there {} s after its deletion", GONE.as_secs()));
            }
            Err(error) => outcome.leftover = Some(format!("{error:#}")),
        }
    }

    /// Ends the job through the server, or else through the API; true when it is gone.
    async fn delete(&self, id: &str, deadline: Instant) -> anyhow::Result<bool> {
        let deleted = self.server.delete(id).await;
        let shown = self.cluster.as_ref().filter(|(_, watch)| watch.get(id).is_some());
        let Some((cluster, watch)) = shown else {
            deleted?;
            while !self.server.is_gone(id).await {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                sleep(Duration::from_millis(20)).await;
            }
            return Ok(true);
        };
        if let Err(error) = deleted {
            cluster.delete_job(id).await.with_context(|| format!("after {error:#}"))?;
        }
        Ok(watch.until(deadline, |w| w.get(id).is_some_and(|s| s.gone.is_some())).await)
    }
}
