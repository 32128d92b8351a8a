//! What is to become of the analyzer pod: made, awaited, replaced with backoff, given up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Action, Observed};
use crate::api::conditions::{ANALYZER_READY, Verdict};
use crate::api::focusjob::{AnalyzerStart, AnalyzerStatus, JobPhase};
use crate::api::names::{self, EndRequest};
use crate::api::timeline::seconds_between;
use crate::api::{FocusJob, FocusJobStatus, view};
use crate::operator::pod::{self, PodState};

/// After this many failures in a row the job is given up.
pub const FAILURE_LIMIT: i32 = 6;
/// An analyzer that ran this long had worked: its failures are counted anew, s.
const WORKED_SECONDS: i64 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What was decided about the analyzer.
pub struct Decision {
    /// To be done.
    pub actions: Vec<Action>,
    /// AnalyzerReady.
    pub verdict: Verdict,
    /// For the status.
    pub status: Option<AnalyzerStatus>,
    /// When the next try is due.
    pub requeue: Option<Duration>,
    /// The job is to end, for its analyzer has.
    pub end: Option<EndRequest>,
}

impl Decision {
    fn waiting(old: &FocusJobStatus, reason: &str, message: impl Into<String>) -> Self {
        Self {
            actions: Vec::new(),
            verdict: Verdict::new(ANALYZER_READY, false, reason, message),
            status: old.analyzer.clone(),
            requeue: None,
            end: None,
        }
    }

    fn ended(old: &FocusJobStatus, reason: &str, message: &str, failed: bool) -> Self {
        let end = EndRequest { reason: reason.to_owned(), message: message.to_owned(), failed };
        Self { end: Some(end), ..Self::waiting(old, reason, message) }
    }
}

/// Decides about the analyzer of a job that is to run.
pub fn decide(job: &FocusJob, observed: &Observed, old: &FocusJobStatus, now: Timestamp) -> Decision {
    let Some(pool) = &observed.pool else {
        let message = format!(
            "there is no AnalyzerPool {} in this namespace; create it, or a job that names another",
            job.spec.pool
        );
        return Decision::waiting(old, "PoolNotFound", message);
    };
    let source = &pool.spec.source;
    if let Some(refusal) = view::refusal(&job.spec, source).or_else(|| view::time_refusal(&job.spec, source))
    {
        return Decision::ended(old, "InvalidView", &refusal, true);
    }
    let Some(current) = observed.pods.iter().max_by_key(|pod| pod::attempt(pod)) else {
        return without_pod(job, observed, old);
    };
    if !pod::is_child(current, job) {
        let message = format!(
            "a pod {} exists that is not this job's; it is left alone. Delete it",
            current.name_any()
        );
        return Decision::waiting(old, "PodConflict", message);
    }
    let status = status_of(current, old);
    if current.metadata.deletion_timestamp.is_some() {
        // Somebody deletes it: its successor starts at once and shares nothing with it.
        return create(
            job,
            observed,
            old,
            AnalyzerStatus { restarts: status.restarts + 1, ..status },
            "PodDeleted",
        );
    }
    let mut decision = with_pod(job, observed, old, current, status, now);
    decision.actions.extend(older_pods(job, observed, current));
    decision
}

fn with_pod(
    job: &FocusJob,
    observed: &Observed,
    old: &FocusJobStatus,
    current: &Pod,
    status: AnalyzerStatus,
    now: Timestamp,
) -> Decision {
    let verdict = |ready, reason: &str, message: String| Verdict::new(ANALYZER_READY, ready, reason, message);
    let with = |verdict| Decision {
        actions: Vec::new(),
        verdict,
        status: Some(status.clone()),
        requeue: None,
        end: None,
    };
    match pod::state(current) {
        PodState::Starting => with(verdict(false, "Starting", "the analyzer pod is starting".to_owned())),
        PodState::Blocked { reason, message } => with(verdict(false, &reason, message)),
        PodState::Ready => with(verdict(true, "Ready", "the analyzer is ready".to_owned())),
        PodState::Completed => Decision {
            status: Some(status),
            ..Decision::ended(old, names::COMPLETED, "the analyzer reached the end of its source", false)
        },
        PodState::Failed { reason, message, retry: false, .. } => {
            Decision { status: Some(status), ..Decision::ended(old, &reason, &message, true) }
        }
        PodState::Failed { reason, message, retry: true, ran_seconds } => {
            let before = if ran_seconds >= WORKED_SECONDS { 0 } else { status.failures };
            let next =
                AnalyzerStatus { failures: before + 1, restarts: status.restarts + 1, ..status.clone() };
            if next.failures >= FAILURE_LIMIT {
                let told = format!("{} analyzers failed in a row, the last: {message}", next.failures);
                return Decision { status: Some(status), ..Decision::ended(old, "CrashLoop", &told, true) };
            }
            let due = backoff(job, next.failures);
            let waited = observed.failed_at.map_or(0.0, |at| seconds_between(at, now));
            match due.checked_sub(Duration::from_secs_f64(waited)).filter(|left| !left.is_zero()) {
                Some(left) => Decision { requeue: Some(left), ..with(verdict(false, &reason, message)) },
                None => create(job, observed, old, next, &reason),
            }
        }
    }
}

/// No pod is there: the first is made, or the one that was lost is replaced.
fn without_pod(job: &FocusJob, observed: &Observed, old: &FocusJobStatus) -> Decision {
    match old.analyzer.clone().filter(|analyzer| !analyzer.pod_name.is_empty()) {
        Some(lost) => {
            let reason = if old.phase == Some(JobPhase::Suspended) { "Starting" } else { "PodLost" };
            let next = AnalyzerStatus { restarts: lost.restarts + 1, ..lost };
            create(job, observed, old, next, reason)
        }
        None => {
            let first = AnalyzerStatus {
                pod_name: String::new(),
                node: None,
                restarts: 0,
                failures: 0,
                start: AnalyzerStart::Cold,
            };
            create(job, observed, old, first, "Starting")
        }
    }
}

fn create(
    job: &FocusJob,
    observed: &Observed,
    old: &FocusJobStatus,
    next: AnalyzerStatus,
    reason: &str,
) -> Decision {
    let Some(pool) = &observed.pool else {
        return Decision::waiting(old, "PoolNotFound", "the pool is gone");
    };
    match pod::build(job, pool, next.restarts) {
        Ok(mut pod) => {
            // The pod itself carries the count: the status is written only after the pod is there.
            pod.labels_mut().insert(names::FAILURES_LABEL.to_owned(), next.failures.to_string());
            if let Some(why) = &observed.refused {
                // The status goes on naming the pod that there was: one that was refused is no lost one.
                let actions = vec![Action::CreatePod(Box::new(pod))];
                return Decision { actions, ..Decision::waiting(old, "PodRefused", refused(why)) };
            }
            Decision {
                status: Some(AnalyzerStatus { pod_name: pod.name_any(), node: None, ..next }),
                actions: vec![Action::CreatePod(Box::new(pod))],
                verdict: Verdict::new(ANALYZER_READY, false, reason, message_of(reason)),
                requeue: None,
                end: None,
            }
        }
        Err(why) => Decision::waiting(old, "PoolInvalid", why),
    }
}

fn refused(why: &str) -> String {
    format!(
        "the API server refuses the analyzer pod: {why}. Mend the pool's template, or what the namespace allows (Pod \
         Security level, quota); it is tried again"
    )
}

fn message_of(reason: &str) -> &'static str {
    match reason {
        "Starting" => "the analyzer pod is starting",
        "PodLost" => "the analyzer pod was lost; another one is starting",
        "PodDeleted" => "the analyzer pod is being deleted; another one is starting",
        _ => "the analyzer failed; another one is starting",
    }
}

fn status_of(current: &Pod, old: &FocusJobStatus) -> AnalyzerStatus {
    AnalyzerStatus {
        pod_name: current.name_any(),
        node: current.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        restarts: pod::attempt(current),
        failures: pod::failures_before(current)
            .or(old.analyzer.as_ref().map(|analyzer| analyzer.failures))
            .unwrap_or(0),
        start: AnalyzerStart::Cold,
    }
}

/// Pods before the current one, to be taken away.
fn older_pods(job: &FocusJob, observed: &Observed, current: &Pod) -> Vec<Action> {
    observed
        .pods
        .iter()
        .filter(|pod| {
            pod::attempt(pod) < pod::attempt(current)
                && pod::is_child(pod, job)
                && pod.metadata.deletion_timestamp.is_none()
        })
        .map(delete)
        .collect()
}

/// The deletion of exactly this pod.
pub fn delete(pod: &Pod) -> Action {
    Action::DeletePod { name: pod.name_any(), uid: pod.uid().unwrap_or_default() }
}

/// The pause before the next pod after `failures` in a row: 0.5 s, doubled each time (8 s before the last of
/// them), less up to a quarter that depends on the job, so that jobs that failed together do not come back
/// together.
fn backoff(job: &FocusJob, failures: i32) -> Duration {
    let doublings = u32::try_from(failures.clamp(1, FAILURE_LIMIT) - 1).unwrap_or(0);
    let pause = FIRST_PAUSE * 2_u32.pow(doublings);
    let spread: u32 = job.uid().unwrap_or_default().bytes().map(u32::from).sum::<u32>() % 256;
    pause - pause.mul_f64(f64::from(spread) / 1024.0)
}
