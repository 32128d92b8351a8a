//! One look at one job: observe, plan, apply, status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use kube::{Resource, ResourceExt};
use rand::RngExt;
use tracing::Instrument;

use super::apply::Writer;
use super::error::Error;
use super::events::Events;
use super::leader::Leading;
use super::metrics::Metrics;
use super::observe::{Sources, observe};
use super::plan::{self, Plan};
use super::queue::Queue;
use super::spans;
use crate::api::{FocusJob, FocusJobStatus};
use crate::telemetry::traces::JobTrace;

/// The shortest and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// What every reconciliation shares.
pub struct Context {
    /// Where observations come from.
    pub sources: Sources,
    /// The operator's hands.
    pub writer: Writer,
    /// Kubernetes Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Metrics,
    /// Whether we may do anything.
    pub leading: Leading,
    /// What waits for a reconciliation.
    pub queue: Queue,
    /// Failures in a row, by the job's uid.
    pub failures: Mutex<HashMap<String, u32>>,
}

/// Looks at `job` once.
///
/// # Errors
/// What could not be done; the status tells what is known all the same.
pub async fn reconcile(job: Arc<FocusJob>, context: Arc<Context>) -> Result<Next, Error> {
    context.queue.taken(job.meta().namespace.as_deref(), &job.name_any());
    if !context.leading.now() {
        // Every job is looked at when we begin to lead.
        return Ok(Next::await_change());
    }
    let started = Instant::now();
    context.metrics.active.inc();
    let done = look(&job, &context).instrument(JobTrace::of(&job).log()).await;
    context.metrics.active.dec();
    context.metrics.reconciles.inc();
    context.metrics.duration.observe(started.elapsed().as_secs_f64());
    if done.is_ok() {
        context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid(&job));
    }
    done
}

async fn look(job: &Arc<FocusJob>, context: &Context) -> Result<Next, Error> {
    let job = context.sources.memory.freshest(job);
    let now = Timestamp::now();
    let observed = observe(&job, &context.sources, now);
    let Plan { actions, status, write, requeue } = plan::plan(&job, &observed, now);
    let acted = !actions.is_empty();
    let applied = context.writer.apply(&job, actions).await;
    if !acted {
        if write {
            save(&job, context, status).await?;
        }
        return Ok(Next::requeue(requeue));
    }
    // What was done may already have changed what is to be said: look once more, without acting.
    let job = context.sources.memory.freshest(&job);
    let now = Timestamp::now();
    let again = plan::plan(&job, &observe(&job, &context.sources, now), now);
    if again.write && job.meta().deletion_timestamp.is_none() {
        save(&job, context, again.status).await?;
    }
    applied?;
    // Something of the second plan may be due at once.
    let due =
        if again.actions.is_empty() { again.requeue } else { again.requeue.min(Duration::from_millis(50)) };
    Ok(Next::requeue(due))
}

/// Writes the status, then tells of it: metrics, Events and spans speak only of what is persisted.
async fn save(job: &FocusJob, context: &Context, status: FocusJobStatus) -> Result<(), Error> {
    let old = job.status.clone().unwrap_or_default();
    context.writer.write_status(job, status.clone()).await?;
    context.metrics.observe_status(&old, &status);
    context.events.tell(job, &old, &status);
    spans::tell(job, &old, &status);
    Ok(())
}

/// A failure is tried again after a pause that doubles with each failure of the same job; a conflict soon.
pub fn on_error(job: Arc<FocusJob>, error: &Error, context: Arc<Context>) -> Next {
    context.metrics.errors.with_label_values(&[error.reason()]).inc();
    if matches!(error, Error::Conflict { .. }) {
        return Next::requeue(Duration::from_millis(rand::rng().random_range(5..20)));
    }
    let failures = {
        let mut all = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of_job = all.entry(uid(&job)).or_insert(0);
        *of_job = of_job.saturating_add(1);
        *of_job
    };
    let pause = (PAUSES.0 * 2_u32.saturating_pow(failures.min(12))).min(PAUSES.1);
    let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
    JobTrace::of(&job).log().in_scope(
        || tracing::warn!(reason = error.reason(), %error, ?pause, "reconciling failed; trying again"),
    );
    Next::requeue(pause)
}

fn uid(job: &FocusJob) -> String {
    job.uid().unwrap_or_default()
}
