//! The decision: from a job and what was observed of it, to what is to be done and what its status says.
//! Pure: no client, no clock, nothing awaited.

mod analyzer;
mod ending;
mod verdicts;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::focusjob::{AnalyzerStatus, JobPhase, QueueStatus};
use crate::api::names::{self, EndRequest};
use crate::api::timeline::{Timeline, micro, seconds_between};
use crate::api::{AnalyzerPool, FocusJob, FocusJobStatus, conditions};
use crate::broker::follow::{BrokerState, QueueSeen};

/// While nothing is wrong, a new job's first status is held back this long for its consumer, so that the two
/// make one write.
pub const FIRST_STATUS_HOLD: Duration = Duration::from_millis(200);
/// While very many jobs come up at once, it is held back this long for its pod as well: fewer writes bring all of
/// them up sooner.
const CROWDED_HOLD: Duration = Duration::from_secs(2);
/// A job is looked at again after this long, whatever the watches say.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What was observed of a job.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The job's pool, where it exists.
    pub pool: Option<AnalyzerPool>,
    /// The job's pods; every one has the job's uid as its label.
    pub pods: Vec<Pod>,
    /// How much longer one of them is believed in that the watch has not brought.
    pub believed_for: Option<Duration>,
    /// Why the API server refused the next pod, when that was the last it said of it.
    pub refused: Option<String>,
    /// When the newest pod was first seen to have failed.
    pub failed_at: Option<Timestamp>,
    /// Whether the broker can be asked.
    pub broker: BrokerState,
    /// What is known of the queue.
    pub queue: QueueSeen,
    /// Milestones that were seen and may not be in the status yet.
    pub seen: Timeline,
    /// Whether so many jobs are being reconciled that they wait for each other.
    pub crowded: bool,
}

/// Something to do. Each is idempotent.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer on the job.
    AddFinalizer,
    /// Take it off: nothing of the job is left in the broker.
    RemoveFinalizer,
    /// Create this pod.
    CreatePod(Box<Pod>),
    /// Delete the pod with this name and uid.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Declare the queue.
    EnsureQueue,
    /// Delete the queue.
    DeleteQueue,
    /// Delete the job.
    DeleteJob,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To be done now, all at the same time.
    pub actions: Vec<Action>,
    /// What the status is to say.
    pub status: FocusJobStatus,
    /// Whether the status is worth a write now.
    pub write: bool,
    /// When to look again, if nothing happens before.
    pub requeue: Duration,
}

/// Decides what to do about `job`, of which `observed` is known, at `now`.
pub fn plan(job: &FocusJob, observed: &Observed, now: Timestamp) -> Plan {
    let old = job.status.clone().unwrap_or_default();
    if job.meta().deletion_timestamp.is_some() {
        return ending::deleted(job, observed, old, now);
    }
    if conditions::is_true(&old.conditions, conditions::FINISHED) {
        return ending::after_the_end(job, observed, old, now);
    }
    let timeline = milestones(job, observed, &old, now);
    if let Some(request) = end_request(job) {
        return ending::end(job, old, timeline, &request, now);
    }
    if job.spec.suspend {
        return ending::suspended(job, observed, old, timeline, now);
    }
    let analyzer = analyzer::decide(job, observed, &old, now);
    if let Some(request) = &analyzer.end {
        return ending::end(job, old, timeline, request, now);
    }
    running(job, observed, old, timeline, analyzer, now)
}

/// The job is to run: its pod and its queue are asked for at the same moment.
fn running(
    job: &FocusJob,
    observed: &Observed,
    old: FocusJobStatus,
    mut timeline: Timeline,
    analyzer: analyzer::Decision,
    now: Timestamp,
) -> Plan {
    let mut actions = Vec::new();
    let connected = observed.broker == BrokerState::Connected;
    if connected && observed.queue.exists != Some(true) && observed.queue.refused.is_none() {
        actions.push(Action::EnsureQueue);
    }
    actions.extend(analyzer.actions);
    if !job.finalizers().iter().any(|f| f == names::FINALIZER) {
        actions.push(Action::AddFinalizer);
    }
    let verdicts = verdicts::running(job, observed, &timeline, &old.conditions, &analyzer.verdict, now);
    let ready = verdicts.iter().any(|v| v.type_ == conditions::READY && v.status);
    if ready && timeline.ready_at.is_none() {
        timeline.ready_at = Some(micro(now));
    }
    let was_ready = timeline.ready_at.is_some();
    let phase = match (ready, was_ready) {
        (true, _) => JobPhase::Ready,
        (false, true) => JobPhase::Degraded,
        (false, false) => JobPhase::Starting,
    };
    let trouble = verdicts::in_trouble(&verdicts);
    let status = FocusJobStatus {
        observed_generation: job.meta().generation,
        phase: Some(phase),
        conditions: conditions::merge(&old.conditions, &verdicts, job.meta().generation, now),
        analyzer: analyzer.status,
        queue: Some(queue_status(job, observed)),
        phase_seconds: timeline.phase_seconds(),
        timeline,
    };
    let held = hold(&old, &status, trouble, observed.crowded, now);
    let deadline = verdicts::next_deadline(job, observed, &status.timeline, &status.conditions, now);
    let requeue = [held, analyzer.requeue, deadline, observed.believed_for]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(LOOK_AGAIN);
    Plan { actions, write: held.is_none() && worth_writing(&old, &status), status, requeue }
}

/// How much longer the first status is to be held back; None: write it.
fn hold(
    old: &FocusJobStatus,
    new: &FocusJobStatus,
    trouble: bool,
    crowded: bool,
    now: Timestamp,
) -> Option<Duration> {
    if old.timeline.accepted_at.is_some() || trouble {
        return None;
    }
    let is = |type_| conditions::is_true(&new.conditions, type_);
    let (attached, pod_ready) = (is(conditions::CONSUMER_READY), is(conditions::ANALYZER_READY));
    let hold = match (attached && pod_ready, attached || pod_ready) {
        (true, _) => return None,
        (false, _) if crowded => CROWDED_HOLD,
        (false, true) => return None,
        (false, false) => FIRST_STATUS_HOLD,
    };
    let accepted = new.timeline.accepted_at.as_ref()?;
    let waited = Duration::from_secs_f64(seconds_between(accepted.0, now));
    hold.checked_sub(waited).filter(|left| !left.is_zero())
}

/// Whether `new` says something that a reader of `old` would want to know. A milestone alone does not: it
/// travels with the next write.
fn worth_writing(old: &FocusJobStatus, new: &FocusJobStatus) -> bool {
    old.phase != new.phase
        || old.observed_generation != new.observed_generation
        || old.conditions != new.conditions
        || old.queue != new.queue
        || old.analyzer.as_ref().map(pod_of) != new.analyzer.as_ref().map(pod_of)
}

fn pod_of(analyzer: &AnalyzerStatus) -> (&str, i32, i32) {
    (&analyzer.pod_name, analyzer.restarts, analyzer.failures)
}

fn queue_status(job: &FocusJob, observed: &Observed) -> QueueStatus {
    QueueStatus {
        name: names::queue_name(job),
        consumers: i32::try_from(observed.queue.consumers).unwrap_or(i32::MAX),
    }
}

/// Every milestone that is known: what the status has, then what was seen.
fn milestones(job: &FocusJob, observed: &Observed, old: &FocusJobStatus, now: Timestamp) -> Timeline {
    let mut timeline = old.timeline.merged(&observed.seen);
    let accepted = timeline.accepted_at.get_or_insert_with(|| micro(now)).0;
    timeline.configured_at.get_or_insert_with(|| {
        let asked =
            job.annotations().get(names::CONFIGURED_AT).and_then(|text| text.parse::<Timestamp>().ok());
        // A client's clock may be wrong: a request after our first sight would make a negative phase.
        micro(asked.filter(|asked| *asked <= accepted).unwrap_or(accepted))
    });
    timeline.queue_ready_at = timeline.queue_ready_at.or(observed.queue.exists_since.map(micro));
    timeline.consumer_ready_at = timeline.consumer_ready_at.or(observed.queue.consumer_since.map(micro));
    timeline
}

/// The Focus Server's request to end the job.
fn end_request(job: &FocusJob) -> Option<EndRequest> {
    let text = job.annotations().get(names::END)?;
    Some(serde_json::from_str(text).unwrap_or_else(|error| EndRequest {
        reason: "EndRequested".to_owned(),
        message: format!("the annotation {} asks for the job's end, but cannot be read: {error}", names::END),
        failed: false,
    }))
}

#[cfg(test)]
mod tests;
