//! The ends of a job: deleted, finished, suspended. Its pod and its queue go; nothing is left behind.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::analyzer::delete;
use super::{Action, LOOK_AGAIN, Observed, Plan, worth_writing};
use crate::api::conditions::{self, ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY, Verdict};
use crate::api::focusjob::{JobPhase, QueueStatus};
use crate::api::names::{self, EndRequest};
use crate::api::timeline::{Timeline, micro, seconds_between};
use crate::api::{FocusJob, FocusJobStatus};
use crate::broker::follow::BrokerState;
use crate::operator::pod;

/// A deletion waits this long for a broker that is away; then the queue is left to expire by itself, s.
pub const BROKER_PATIENCE_SECONDS: f64 = 10.0;

/// The job is being deleted.
pub fn deleted(job: &FocusJob, observed: &Observed, old: FocusJobStatus, now: Timestamp) -> Plan {
    let ours = job.finalizers().iter().any(|f| f == names::FINALIZER);
    let since = job.meta().deletion_timestamp.as_ref().map_or(0.0, |at| seconds_between(at.0, now));
    let mut actions = pods(job, observed);
    let mut requeue = LOOK_AGAIN;
    match (&observed.broker, ours) {
        (_, false) => {}
        // A broker that is connected and yet does not delete may not hold the job for ever either.
        (BrokerState::Connected, true) if since >= 3.0 * BROKER_PATIENCE_SECONDS => {
            actions.push(Action::RemoveFinalizer)
        }
        (BrokerState::Connected, true) => actions.extend([Action::DeleteQueue, Action::RemoveFinalizer]),
        (BrokerState::Disconnected(_), true) if since >= BROKER_PATIENCE_SECONDS => {
            actions.push(Action::RemoveFinalizer)
        }
        (BrokerState::Disconnected(_), true) => {
            requeue = Duration::from_secs_f64(BROKER_PATIENCE_SECONDS - since + 0.01)
        }
    }
    Plan { actions, status: old, write: false, requeue }
}

/// The job ends for the cause in `request`. First the status says so; only then, at the next look, is anything
/// taken away: a pod that is gone before its end is written down would look like a lost one.
pub fn end(
    job: &FocusJob,
    old: FocusJobStatus,
    mut timeline: Timeline,
    request: &EndRequest,
    now: Timestamp,
) -> Plan {
    timeline.finished_at.get_or_insert_with(|| micro(now));
    let phase = if request.failed { JobPhase::Failed } else { JobPhase::Finished };
    let why = Cause { phase, finished: true, reason: &request.reason, message: &request.message };
    let status = gone(job, old.clone(), timeline, &why, now);
    Plan { actions: Vec::new(), write: worth_writing(&old, &status), status, requeue: Duration::ZERO }
}

/// The job has ended: what is left of it goes, the queue of one that was completed only when its last lines have had the
/// time to be read, and after its time the job itself.
pub fn after_the_end(job: &FocusJob, observed: &Observed, old: FocusJobStatus, now: Timestamp) -> Plan {
    let drain = until_drained(&old, now);
    let mut actions = if drain.is_zero() { removal(job, observed) } else { pods(job, observed) };
    let left = until_deleted(job, &old, now);
    if left.is_some_and(|left| left.is_zero()) {
        actions.push(Action::DeleteJob);
    }
    let waits = [Some(drain), left].into_iter().flatten().filter(|wait| !wait.is_zero());
    let requeue = waits.min().unwrap_or(LOOK_AGAIN);
    Plan { actions, status: old, write: false, requeue }
}

/// The job is suspended: kept, without pod and queue.
pub fn suspended(
    job: &FocusJob,
    observed: &Observed,
    old: FocusJobStatus,
    timeline: Timeline,
    now: Timestamp,
) -> Plan {
    let message = "spec.suspend is true: the analyzer and the queue are taken away until it is false";
    let why = Cause { phase: JobPhase::Suspended, finished: false, reason: "Suspended", message };
    let mut status = gone(job, old.clone(), timeline, &why, now);
    // The next pod is a new start, not a replacement of a lost one, but its name must be new.
    if let Some(analyzer) = &mut status.analyzer {
        analyzer.failures = 0;
    }
    Plan { actions: removal(job, observed), write: worth_writing(&old, &status), status, requeue: LOOK_AGAIN }
}

/// Why a job has neither pod nor queue.
struct Cause<'a> {
    /// Its phase without them.
    phase: JobPhase,
    /// Whether that is its end.
    finished: bool,
    /// CamelCase cause.
    reason: &'a str,
    /// A sentence.
    message: &'a str,
}

/// The status of a job that has neither pod nor queue.
fn gone(
    job: &FocusJob,
    old: FocusJobStatus,
    timeline: Timeline,
    why: &Cause<'_>,
    now: Timestamp,
) -> FocusJobStatus {
    let verdicts = [ANALYZER_READY, QUEUE_READY, CONSUMER_READY, READY, FINISHED]
        .map(|type_| Verdict::new(type_, type_ == FINISHED && why.finished, why.reason, why.message));
    FocusJobStatus {
        observed_generation: job.meta().generation,
        phase: Some(why.phase),
        conditions: conditions::merge(&old.conditions, &verdicts, job.meta().generation, now),
        queue: Some(QueueStatus { name: names::queue_name(job), consumers: 0 }),
        analyzer: old.analyzer,
        phase_seconds: timeline.phase_seconds(),
        timeline,
    }
}

/// Pods and queue, as far as they may be there. A queue of which nothing is known may.
fn removal(job: &FocusJob, observed: &Observed) -> Vec<Action> {
    let mut actions = pods(job, observed);
    if observed.broker == BrokerState::Connected && observed.queue.exists != Some(false) {
        actions.push(Action::DeleteQueue);
    }
    actions
}

/// The job's own pods; another's that stood in the way is left alone.
fn pods(job: &FocusJob, observed: &Observed) -> Vec<Action> {
    observed
        .pods
        .iter()
        .filter(|pod| pod::is_child(pod, job) && pod.metadata.deletion_timestamp.is_none())
        .map(delete)
        .collect()
}

/// How long the finished job's queue is kept for its last lines.
fn until_drained(status: &FocusJobStatus, now: Timestamp) -> Duration {
    let finished = conditions::find(&status.conditions, FINISHED);
    if finished.is_none_or(|finished| finished.reason != names::COMPLETED) {
        return Duration::ZERO;
    }
    let since = status.timeline.finished_at.as_ref().map_or(f64::INFINITY, |at| seconds_between(at.0, now));
    Duration::from_secs_f64((names::DRAIN.as_secs_f64() - since).clamp(0.0, names::DRAIN.as_secs_f64()))
}

/// How long until the finished job is deleted; None: it is kept.
fn until_deleted(job: &FocusJob, status: &FocusJobStatus, now: Timestamp) -> Option<Duration> {
    let ttl = f64::from(job.spec.ttl_seconds_after_finished?);
    let since = seconds_between(status.timeline.finished_at.as_ref()?.0, now);
    Some(Duration::from_secs_f64((ttl - since).max(0.0)))
}
