//! The plan as tables, and the plan in a small world that loses writes. Here: what all of them begin with.

#![allow(clippy::unwrap_used)]

mod broker_side;
mod coming_up;
mod ends;
mod milestones;
mod pods;
mod restarts;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::api::conditions::{ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY};
use crate::operator::pod;

/// With so many failures in a row a job ends.
const FAILURES: i32 = analyzer::FAILURE_LIMIT;

/// A moment, `seconds` after the tests' beginning.
fn at(seconds: f64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs_f64(seconds)
}

fn job() -> FocusJob {
    serde_json::from_value(json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob",
        "metadata": {"name": "view", "namespace": "fibre", "uid": "0a1b2c3d-0000", "generation": 1},
        "spec": {
            "viewType": "MultiChannel", "channels": {"min": 1, "max": 8}, "frequencyRange": {"min": 0, "max": 500},
            "nfftSelection": 1024, "displayTimeAxisDuration": 10
        }
    }))
    .unwrap()
}

fn pool() -> AnalyzerPool {
    serde_json::from_value(json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool",
        "metadata": {"name": "default", "namespace": "fibre"},
        "spec": {
            "source": {"uri": "synthetic:", "sampleRateHz": 1000.0, "channels": 64, "dxMeters": 1.0},
            "template": {"spec": {"containers": [{"name": "analyzer", "image": "focus"}]}}
        }
    }))
    .unwrap()
}

fn observed() -> Observed {
    Observed {
        believed_for: None,
        crowded: false,
        pool: Some(pool()),
        pods: Vec::new(),
        refused: None,
        failed_at: None,
        broker: BrokerState::Connected,
        queue: QueueSeen::default(),
        seen: Timeline { accepted_at: Some(micro(at(0.0))), ..Timeline::default() },
    }
}

/// The job's pod number `attempt`, as the API server made it.
fn pod(attempt: i32) -> Pod {
    let mut pod = pod::build(&job(), &pool(), attempt).unwrap();
    pod.metadata.uid = Some(format!("pod-{attempt}"));
    pod
}

fn with_status(mut pod: Pod, status: PodStatus) -> Pod {
    pod.status = Some(status);
    pod
}

fn condition(type_: &str, status: &str, reason: &str) -> PodCondition {
    PodCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        ..PodCondition::default()
    }
}

fn ready(pod: Pod) -> Pod {
    with_status(
        pod,
        PodStatus { conditions: Some(vec![condition("Ready", "True", "")]), ..PodStatus::default() },
    )
}

fn container(state: ContainerState) -> Option<Vec<ContainerStatus>> {
    Some(vec![ContainerStatus { name: "analyzer".into(), state: Some(state), ..ContainerStatus::default() }])
}

/// Its analyzer exited with `code` after `ran` seconds and left `message`.
fn exited(pod: Pod, code: i32, message: &str, ran: i64) -> Pod {
    let terminated = ContainerStateTerminated {
        exit_code: code,
        message: Some(message.into()),
        started_at: Some(Time(at(0.0))),
        finished_at: Some(Time(at(ran as f64))),
        ..ContainerStateTerminated::default()
    };
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    with_status(
        pod,
        PodStatus {
            phase: Some(phase.into()),
            container_statuses: container(ContainerState {
                terminated: Some(terminated),
                ..Default::default()
            }),
            ..PodStatus::default()
        },
    )
}

fn deleting(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(at(0.0)));
    pod
}

fn queue(consumers: u32, there: f64) -> QueueSeen {
    QueueSeen {
        exists: Some(true),
        consumers,
        exists_since: Some(at(there)),
        consumer_since: (consumers > 0).then(|| at(there + 0.005)),
        refused: None,
    }
}

/// Everything is there.
fn all_there() -> Observed {
    let mut observed = observed();
    observed.pods = vec![ready(pod(0))];
    observed.queue = queue(1, 0.01);
    observed.seen.pod_ready_at = Some(micro(at(0.8)));
    observed
}

fn with_finalizer(mut job: FocusJob) -> FocusJob {
    job.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    job
}

/// The job as it is after a write of `status`.
fn written(mut job: FocusJob, status: FocusJobStatus) -> FocusJob {
    job.status = Some(status);
    with_finalizer(job)
}

/// A job that has been Ready since the first second.
fn ready_job() -> FocusJob {
    written(job(), plan(&with_finalizer(job()), &all_there(), at(1.0)).status)
}

fn annotated(mut job: FocusJob, name: &str, value: &str) -> FocusJob {
    job.annotations_mut().insert(name.to_owned(), value.to_owned());
    job
}

fn reason<'a>(plan: &'a Plan, type_: &str) -> (&'a str, &'a str) {
    let found = conditions::find(&plan.status.conditions, type_).unwrap();
    (&found.status, &found.reason)
}

/// The plan's actions by name; a pod's with its number.
fn names_of(plan: &Plan) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::AddFinalizer => "AddFinalizer".into(),
        Action::RemoveFinalizer => "RemoveFinalizer".into(),
        Action::CreatePod(made) => format!("CreatePod {}", pod::attempt(made)),
        Action::DeletePod { uid, .. } => format!("DeletePod {uid}"),
        Action::EnsureQueue => "EnsureQueue".into(),
        Action::DeleteQueue => "DeleteQueue".into(),
        Action::DeleteJob => "DeleteJob".into(),
    };
    plan.actions.iter().map(name).collect()
}

/// Nothing changed after `plan` was written: nothing is done and nothing is written.
fn assert_quiet(job: &FocusJob, observed: &Observed, first: &Plan, now: Timestamp) {
    let again = plan(&written(job.clone(), first.status.clone()), observed, now);
    assert_eq!((names_of(&again), again.write), (vec![], false));
    assert_eq!(again.status, first.status);
}
