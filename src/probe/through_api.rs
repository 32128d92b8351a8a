//! One job made through the Kubernetes API.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::outcome::Outcome;
use super::report::Failure;
use super::watch::{JobWatch, Sighting};
use crate::api::FocusJobSpec;

/// How long a deleted job may take to be gone.
pub const GONE: Duration = Duration::from_secs(20);

/// What a job made through the API needs.
pub struct ThroughApi {
    /// The API server.
    pub cluster: Cluster,
    /// The running watch.
    pub watch: JobWatch,
    /// The jobs' spec.
    pub spec: FocusJobSpec,
    /// How long one job may take until Ready.
    pub limit: Duration,
}

impl ThroughApi {
    /// Creates a job, waits until it is Ready, and deletes it.
    pub async fn measure(&self, stop: &CancellationToken) -> Outcome {
        let start = Instant::now();
        let job = match self.cluster.create_job(&self.spec).await {
            Ok(job) => job,
            Err(error) => return Outcome::failed("(create)", "CreateFailed", format!("{error:#}")),
        };
        let name = job.metadata.name.unwrap_or_default();
        let mut outcome = Outcome { name: Some(name.clone()), ..Outcome::default() };
        outcome.time("create answer", start.elapsed());
        tokio::select! {
            () = until_ready(&self.watch, &name, start, start + self.limit, &mut outcome) => {}
            () = stop.cancelled() => outcome.failure = Some(interrupted(&name)),
        }
        self.take_away(&name, &mut outcome).await;
        outcome
    }

    async fn take_away(&self, name: &str, outcome: &mut Outcome) {
        let start = Instant::now();
        if let Err(error) = self.cluster.delete_job(name).await {
            outcome.leftover = Some(format!("{error:#}"));
            return;
        }
        let gone = |w: &JobWatch| w.get(name).is_some_and(|s| s.gone.is_some());
        if self.watch.until(start + GONE, gone).await {
            outcome.time("delete -> gone", start.elapsed());
        } else {
            outcome.leftover = Some(format!("still there {} s after its deletion", GONE.as_secs()));
        }
    }
}

/// The failure of a job that a signal cut short.
pub fn interrupted(name: &str) -> Failure {
    Failure::new(name, "Interrupted", "the probe was told to stop")
}

/// Waits until the watch shows the job Ready, or ended, or `deadline`; enters times and phases.
pub async fn until_ready(
    watch: &JobWatch,
    name: &str,
    start: Instant,
    deadline: Instant,
    outcome: &mut Outcome,
) {
    let settled = |s: &Sighting| s.ready.is_some() || s.is_finished();
    watch.until(deadline, |w| w.get(name).is_some_and(|s| settled(&s))).await;
    let sighting = watch.get(name).unwrap_or_default();
    outcome.phases = sighting.status.as_ref().map(|s| s.phase_seconds.clone());
    outcome.consumer = outcome.phases.as_ref().and_then(|p| p.consumer).or(outcome.consumer);
    if let Some(consumer) = sighting.consumer {
        outcome.time("consumer seen", consumer.saturating_duration_since(start));
    }
    match sighting.ready {
        Some(ready) => outcome.time("Ready seen", ready.saturating_duration_since(start)),
        None => outcome.failure = Some(sighting.failure(name)),
    }
}
