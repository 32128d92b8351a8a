//! The plan as tables, and the plan in a small world that loses writes.

#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::conditions::{ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY};
use crate::operator::pod;

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

// A job comes up.

#[test]
fn a_new_job_gets_finalizer_pod_and_queue_at_the_same_moment() {
    let plan = plan(&job(), &observed(), at(0.0));
    assert_eq!(names_of(&plan), ["EnsureQueue", "CreatePod 0", "AddFinalizer"]);
    assert!(!plan.write);
    assert_eq!(plan.requeue, FIRST_STATUS_HOLD);
    assert_eq!(plan.status.phase, Some(JobPhase::Starting));
    assert_eq!(plan.status.phase_seconds.configure, Some(0.0));
}

#[test]
fn the_first_status_is_held_back_while_nothing_is_wrong() {
    let job = with_finalizer(job());
    let mut observed = observed();
    observed.pods = vec![pod(0)];
    observed.queue = queue(0, 0.01);
    for (now, write) in [(0.0, false), (0.1, false), (0.199, false), (0.2, true), (5.0, true)] {
        let plan = plan(&job, &observed, at(now));
        assert_eq!((plan.write, names_of(&plan)), (write, vec![]), "{now} s");
        let left = Duration::from_secs_f64(0.2 - now.min(0.2));
        assert!(
            write || plan.requeue.abs_diff(left) < Duration::from_micros(10),
            "{now} s: {:?}",
            plan.requeue
        );
    }
}

#[test]
fn what_is_worth_a_first_status_ends_the_hold() {
    let mut attached = observed();
    attached.pods = vec![pod(0)];
    attached.queue = queue(1, 0.01);
    let mut pod_ready = observed();
    pod_ready.pods = vec![ready(pod(0))];
    let mut unreachable = observed();
    unreachable.broker = BrokerState::Disconnected("refused".into());
    for (what, observed) in [("attached", attached), ("pod ready", pod_ready), ("broker", unreachable)] {
        assert!(plan(&with_finalizer(job()), &observed, at(0.05)).write, "{what}");
    }
}

#[test]
fn in_a_crowd_the_first_status_waits_for_pod_and_consumer() {
    let mut attached = Observed { crowded: true, ..observed() };
    attached.pods = vec![pod(0)];
    attached.queue = queue(1, 0.01);
    let both = Observed { pods: vec![ready(pod(0))], ..attached.clone() };
    let refused = Observed { broker: BrokerState::Disconnected("refused".into()), ..attached.clone() };
    let job = with_finalizer(job());
    for (what, observed, now, write) in [
        ("attached", &attached, 0.5, false),
        ("attached for long", &attached, 2.0, true),
        ("both", &both, 0.5, true),
        ("trouble", &refused, 0.5, true),
    ] {
        assert_eq!(plan(&job, observed, at(now)).write, write, "{what}");
    }
}

#[test]
fn an_attached_consumer_is_written_at_once_with_its_milestones() {
    let mut observed = observed();
    observed.pods = vec![pod(0)];
    observed.queue = queue(1, 0.01);
    let plan = plan(&with_finalizer(job()), &observed, at(0.05));
    assert!(plan.write);
    let timeline = &plan.status.timeline;
    assert_eq!(timeline.queue_ready_at, Some(micro(at(0.01))));
    assert_eq!(timeline.consumer_ready_at, Some(micro(at(0.015))));
    assert_eq!((&timeline.ready_at, plan.status.phase_seconds.total), (&None, None));
    assert!((plan.status.phase_seconds.consumer.unwrap() - 0.005).abs() < 1e-9);
    assert_eq!(plan.status.queue.unwrap().consumers, 1);
}

#[test]
fn all_there_is_ready() {
    let job = annotated(with_finalizer(job()), names::CONFIGURED_AT, &at(-0.1).to_string());
    let plan = plan(&job, &all_there(), at(0.9));
    assert!(plan.write);
    assert_eq!(names_of(&plan), Vec::<String>::new());
    assert_eq!(plan.status.phase, Some(JobPhase::Ready));
    assert_eq!(plan.status.observed_generation, Some(1));
    assert_eq!(plan.status.timeline.ready_at, Some(micro(at(0.9))));
    for type_ in [ANALYZER_READY, QUEUE_READY, CONSUMER_READY, READY] {
        assert_eq!(reason(&plan, type_).0, "True", "{type_}");
    }
    assert_eq!(reason(&plan, FINISHED), ("False", "Running"));
    let expected = [("configure", 0.1), ("pod", 0.8), ("queue", 0.01), ("consumer", 0.005), ("total", 1.0)];
    for ((phase, seconds), (name, expected)) in plan.status.phase_seconds.named().into_iter().zip(expected) {
        assert_eq!(phase, name);
        assert!((seconds.unwrap() - expected).abs() < 1e-6, "{phase}: {seconds:?}");
    }
}

#[test]
fn nothing_is_done_or_written_while_nothing_changes() {
    let job = with_finalizer(job());
    let mut no_consumer = all_there();
    no_consumer.queue = queue(0, 0.01);
    let mut starting = no_consumer.clone();
    starting.pods = vec![pod(0)];
    let mut no_pool = all_there();
    no_pool.pool = None;
    let mut refused = all_there();
    refused.queue = QueueSeen { refused: Some("403".into()), ..QueueSeen::default() };
    let mut no_broker = all_there();
    no_broker.broker = BrokerState::Disconnected("refused".into());
    no_broker.queue = QueueSeen::default();
    let all = [
        ("ready", all_there()),
        ("no consumer", no_consumer),
        ("starting", starting),
        ("no pool", no_pool),
        ("refused", refused),
        ("no broker", no_broker),
    ];
    for (what, observed) in all {
        let first = plan(&job, &observed, at(1.0));
        assert!(first.write, "{what}");
        assert_quiet(&job, &observed, &first, at(20.0));
    }
    let asked =
        annotated(job.clone(), names::END, r#"{"reason":"IdleTimeout","message":"m","failed":false}"#);
    let end = plan(&asked, &all_there(), at(1.0));
    let mut gone = observed();
    gone.queue.exists = Some(false);
    assert_quiet(&asked, &gone, &end, at(20.0));
}

// Broker, queue and consumer.

#[test]
fn a_broker_that_is_away_is_said_and_not_asked() {
    let mut observed = all_there();
    observed.broker = BrokerState::Disconnected("connection refused".into());
    observed.queue = QueueSeen::default();
    for (job, phase) in [(with_finalizer(job()), JobPhase::Starting), (ready_job(), JobPhase::Degraded)] {
        let plan = plan(&job, &observed, at(2.0));
        assert_eq!((names_of(&plan), plan.write), (vec![], true));
        assert_eq!(plan.status.phase, Some(phase));
        for type_ in [QUEUE_READY, CONSUMER_READY, READY] {
            assert_eq!(reason(&plan, type_), ("False", "BrokerUnreachable"), "{type_}");
        }
    }
}

#[test]
fn a_lost_queue_is_made_again() {
    let mut observed = all_there();
    observed.queue = QueueSeen { exists: Some(false), ..QueueSeen::default() };
    let plan = plan(&ready_job(), &observed, at(2.0));
    assert_eq!(names_of(&plan), ["EnsureQueue"]);
    assert_eq!((plan.status.phase, plan.write), (Some(JobPhase::Degraded), true));
    assert_eq!(reason(&plan, QUEUE_READY), ("False", "Declaring"));
}

#[test]
fn a_refused_queue_is_not_asked_for_again() {
    let mut observed = all_there();
    observed.queue = QueueSeen { refused: Some("406 inequivalent arg".into()), ..QueueSeen::default() };
    let plan = plan(&with_finalizer(job()), &observed, at(1.0));
    assert_eq!(names_of(&plan), Vec::<String>::new());
    assert_eq!(reason(&plan, READY), ("False", "QueueRefused"));
}

#[test]
fn a_lost_consumer_is_lost_until_its_deadline_however_old_the_queue() {
    let mut observed = all_there();
    observed.queue = queue(0, 0.01);
    let job = ready_job();
    let lost = plan(&job, &observed, at(3600.0));
    assert_eq!((lost.status.phase, lost.write), (Some(JobPhase::Degraded), true));
    assert_eq!(reason(&lost, CONSUMER_READY), ("False", "ConsumerLost"));
    assert_eq!(reason(&lost, READY), ("False", "ConsumerLost"));
    assert!(lost.requeue <= Duration::from_millis(30_010), "{:?}", lost.requeue);
    let late = plan(&written(job, lost.status), &observed, at(3630.0));
    assert_eq!(reason(&late, CONSUMER_READY), ("False", "DeadlineExceeded"));
    assert!(late.write);
}

#[test]
fn a_consumer_that_never_comes_passes_its_deadline() {
    let mut observed = all_there();
    observed.queue = queue(0, 0.5);
    let job = with_finalizer(job());
    let cases = [
        (1.0, "NoConsumer", Duration::from_millis(29_510)),
        (30.4, "NoConsumer", Duration::from_millis(110)),
        (30.5, "DeadlineExceeded", LOOK_AGAIN),
    ];
    for (now, expected, requeue) in cases {
        let plan = plan(&job, &observed, at(now));
        assert_eq!(reason(&plan, CONSUMER_READY), ("False", expected), "{now} s");
        assert!(plan.requeue.abs_diff(requeue) < Duration::from_micros(10), "{now} s: {:?}", plan.requeue);
    }
}

#[test]
fn a_broker_that_does_not_confirm_the_queue_passes_its_deadline() {
    let job = with_finalizer(job());
    for (now, expected) in [(1.0, "Declaring"), (9.9, "Declaring"), (10.0, "DeadlineExceeded")] {
        let plan = plan(&job, &observed(), at(now));
        assert_eq!(reason(&plan, QUEUE_READY), ("False", expected), "{now} s");
        assert!(names_of(&plan).contains(&"EnsureQueue".to_owned()), "{now} s");
    }
    // A queue that is lost later has the same time to come back.
    let mut observed = all_there();
    observed.queue = QueueSeen { exists: Some(false), ..QueueSeen::default() };
    let lost = plan(&ready_job(), &observed, at(3600.0));
    assert_eq!(reason(&lost, QUEUE_READY), ("False", "Declaring"));
    let late = plan(&written(ready_job(), lost.status), &observed, at(3610.0));
    assert_eq!(reason(&late, QUEUE_READY), ("False", "DeadlineExceeded"));
}

// Pool and view.

#[test]
fn a_missing_pool_is_said_and_the_queue_made_all_the_same() {
    let mut observed = observed();
    observed.pool = None;
    let plan = plan(&job(), &observed, at(0.0));
    assert_eq!(names_of(&plan), ["EnsureQueue", "AddFinalizer"]);
    assert_eq!((reason(&plan, ANALYZER_READY), plan.write), (("False", "PoolNotFound"), true));
    assert_eq!(reason(&plan, READY), ("False", "PoolNotFound"));
}

#[test]
fn a_pool_without_an_analyzer_container_is_said() {
    let mut observed = observed();
    observed.pool.as_mut().unwrap().spec.template.spec.as_mut().unwrap().containers[0].name = "other".into();
    let plan = plan(&with_finalizer(job()), &observed, at(0.0));
    assert_eq!(names_of(&plan), ["EnsureQueue"]);
    assert_eq!(reason(&plan, ANALYZER_READY), ("False", "PoolInvalid"));
}

#[test]
fn a_view_that_the_source_cannot_give_ends_first_on_paper_then_in_the_cluster() {
    let mut observed = all_there();
    observed.pool.as_mut().unwrap().spec.source.sample_rate_hz = 500.0;
    let job = with_finalizer(job());
    let end = plan(&job, &observed, at(1.0));
    assert_eq!((names_of(&end), end.write, end.requeue), (vec![], true, Duration::ZERO));
    assert_eq!(end.status.phase, Some(JobPhase::Failed));
    assert_eq!(reason(&end, FINISHED), ("True", "InvalidView"));
    assert_eq!(end.status.timeline.finished_at, Some(micro(at(1.0))));
    let clean_up = plan(&written(job, end.status), &observed, at(1.1));
    assert_eq!(names_of(&clean_up), ["DeletePod pod-0", "DeleteQueue"]);
    assert!(!clean_up.write);
}

// The analyzer pod.

#[test]
fn the_pod_s_trouble_is_the_job_s() {
    let unschedulable = PodStatus {
        conditions: Some(vec![condition("PodScheduled", "False", "Unschedulable")]),
        ..PodStatus::default()
    };
    let waiting = |reason: &str| PodStatus {
        container_statuses: container(ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message: None }),
            ..ContainerState::default()
        }),
        ..PodStatus::default()
    };
    let cases = [
        (unschedulable, "Unschedulable"),
        (waiting("ErrImagePull"), "ImagePullBackOff"),
        (waiting("ImagePullBackOff"), "ImagePullBackOff"),
        (waiting("CreateContainerConfigError"), "CreateContainerConfigError"),
        (waiting("ContainerCreating"), "Starting"),
    ];
    for (status, expected) in cases {
        let mut observed = all_there();
        observed.pods = vec![with_status(pod(0), status)];
        observed.seen.pod_ready_at = None;
        let plan = plan(&with_finalizer(job()), &observed, at(1.0));
        assert_eq!(reason(&plan, ANALYZER_READY), ("False", expected));
        assert_eq!(reason(&plan, READY), ("False", expected));
        assert_eq!((names_of(&plan), plan.status.phase), (vec![], Some(JobPhase::Starting)), "{expected}");
    }
}

#[test]
fn a_pod_that_only_starts_passes_its_deadline() {
    let mut observed = observed();
    observed.pods = vec![pod(0)];
    observed.queue = queue(1, 0.01);
    for (now, expected) in [(119.9, "Starting"), (120.0, "DeadlineExceeded")] {
        let plan = plan(&with_finalizer(job()), &observed, at(now));
        assert_eq!(reason(&plan, ANALYZER_READY), ("False", expected), "{now} s");
        assert_eq!(plan.requeue < LOOK_AGAIN, now < 120.0, "{now} s: {:?}", plan.requeue);
    }
}

/// The pause before the pod after the `failures`th failure in a row.
fn pause(failures: i32) -> Duration {
    let mut observed = all_there();
    let mut failed = exited(pod(failures - 1), 1, "boom", 1);
    failed.labels_mut().insert(names::FAILURES_LABEL.into(), (failures - 1).to_string());
    observed.pods = vec![failed];
    observed.failed_at = Some(at(100.0));
    let waiting = plan(&ready_job(), &observed, at(100.0));
    assert_eq!(names_of(&waiting), Vec::<String>::new());
    assert_eq!(reason(&waiting, ANALYZER_READY), ("False", "AnalyzerFailed"));
    // A microsecond more: milestones and moments have no finer.
    let after = at(100.000_001) + SignedDuration::try_from(waiting.requeue).unwrap();
    let due = plan(&ready_job(), &observed, after);
    assert_eq!(names_of(&due), [format!("CreatePod {failures}")]);
    let analyzer = due.status.analyzer.unwrap();
    assert_eq!((analyzer.restarts, analyzer.failures), (failures, failures));
    waiting.requeue
}

#[test]
fn a_failed_analyzer_is_replaced_after_a_pause_that_doubles() {
    let pauses: Vec<f64> = (1..FAILURES).map(|failures| pause(failures).as_secs_f64()).collect();
    assert!(pauses[0] > 0.375 && pauses[0] <= 0.5, "{pauses:?}");
    for pair in pauses.windows(2) {
        assert!((pair[1] / pair[0] - 2.0).abs() < 1e-6, "{pauses:?}");
    }
}

const FAILURES: i32 = analyzer::FAILURE_LIMIT;

#[test]
fn the_last_failure_in_a_row_ends_the_job() {
    let mut failed = exited(pod(5), 1, "boom", 1);
    failed.labels_mut().insert(names::FAILURES_LABEL.into(), (FAILURES - 1).to_string());
    let mut observed = all_there();
    observed.pods = vec![failed];
    let end = plan(&ready_job(), &observed, at(100.0));
    assert_eq!((reason(&end, FINISHED), end.status.phase), (("True", "CrashLoop"), Some(JobPhase::Failed)));
    assert_eq!((names_of(&end), end.write), (vec![], true));
}

#[test]
fn an_analyzer_that_had_worked_is_counted_anew() {
    let mut failed = exited(pod(5), 1, "boom", 60);
    failed.labels_mut().insert(names::FAILURES_LABEL.into(), (FAILURES - 1).to_string());
    let mut observed = all_there();
    observed.pods = vec![failed];
    observed.failed_at = Some(at(100.0));
    let plan = plan(&ready_job(), &observed, at(101.0));
    assert_eq!(names_of(&plan), ["CreatePod 6"]);
    assert_eq!(plan.status.analyzer.unwrap().failures, 1);
}

#[test]
fn an_analyzer_s_end_that_no_other_pod_would_better_ends_the_job() {
    let cases = [
        (65, "RecordingTooShort: 3 s are asked for, 1 s is there", JobPhase::Failed, "RecordingTooShort"),
        (64, "no colon here", JobPhase::Failed, "AnalyzerFailed"),
        (0, "", JobPhase::Finished, "Completed"),
    ];
    for (code, text, phase, expected) in cases {
        let mut observed = all_there();
        observed.pods = vec![exited(pod(0), code, text, 1)];
        let end = plan(&ready_job(), &observed, at(2.0));
        assert_eq!((end.status.phase, reason(&end, FINISHED)), (Some(phase), ("True", expected)));
        assert_eq!((names_of(&end), end.write), (vec![], true), "exit {code}");
    }
}

#[test]
fn an_evicted_pod_is_replaced() {
    let mut observed = all_there();
    let evicted = PodStatus {
        phase: Some("Failed".into()),
        reason: Some("Evicted".into()),
        message: Some("the node was low on memory".into()),
        ..PodStatus::default()
    };
    observed.pods = vec![with_status(pod(0), evicted)];
    observed.failed_at = Some(at(1.5));
    let waiting = plan(&ready_job(), &observed, at(1.5));
    assert_eq!(reason(&waiting, ANALYZER_READY), ("False", "Evicted"));
    assert_eq!(names_of(&plan(&ready_job(), &observed, at(2.0))), ["CreatePod 1"]);
}

#[test]
fn a_pod_that_is_gone_or_going_is_replaced_at_once() {
    let mut gone = all_there();
    gone.pods = Vec::new();
    let mut going = all_there();
    going.pods = vec![deleting(ready(pod(0)))];
    for (observed, expected) in [(gone, "PodLost"), (going, "PodDeleted")] {
        let plan = plan(&ready_job(), &observed, at(2.0));
        assert_eq!(names_of(&plan), ["CreatePod 1"]);
        assert_eq!(reason(&plan, ANALYZER_READY), ("False", expected));
        assert_eq!((plan.status.phase, plan.write), (Some(JobPhase::Degraded), true));
        let analyzer = plan.status.analyzer.unwrap();
        assert_eq!((analyzer.restarts, analyzer.failures), (1, 0));
    }
}

#[test]
fn the_successor_s_coming_takes_the_failed_pod_away() {
    let mut observed = all_there();
    observed.pods = vec![exited(pod(0), 1, "boom", 1), pod(1)];
    let plan = plan(&ready_job(), &observed, at(3.0));
    assert_eq!(names_of(&plan), ["DeletePod pod-0"]);
    assert_eq!(reason(&plan, ANALYZER_READY), ("False", "Starting"));
}

/// A pod of the name of ours that somebody else made.
fn foreign(attempt: i32) -> Pod {
    let mut pod = ready(pod(attempt));
    pod.metadata.owner_references = None;
    pod
}

#[test]
fn another_s_pod_is_a_conflict_and_never_deleted() {
    let mut observed = all_there();
    observed.pods = vec![foreign(0)];
    let conflict = plan(&with_finalizer(job()), &observed, at(1.0));
    assert_eq!(names_of(&conflict), Vec::<String>::new());
    assert_eq!(reason(&conflict, ANALYZER_READY), ("False", "PodConflict"));

    let mut deleted = with_finalizer(job());
    deleted.metadata.deletion_timestamp = Some(Time(at(1.0)));
    let mut suspended = with_finalizer(job());
    suspended.spec.suspend = true;
    let ended = annotated(with_finalizer(job()), names::END, "{}");
    let ended = written(ended.clone(), plan(&ended, &observed, at(1.0)).status);
    for job in [deleted, suspended, ended] {
        let plan = plan(&job, &observed, at(2.0));
        assert!(plan.actions.contains(&Action::DeleteQueue));
        assert!(!plan.actions.iter().any(|a| matches!(a, Action::DeletePod { .. })), "{plan:?}");
    }
    observed.pods.push(pod(1));
    assert_eq!(names_of(&plan(&ready_job(), &observed, at(2.0))), Vec::<String>::new());
}

// Ends.

#[test]
fn a_deletion_leaves_nothing_behind_and_waits_for_the_broker_in_bounds() {
    let away = || BrokerState::Disconnected("refused".into());
    let cases = [
        (BrokerState::Connected, 0.0, vec!["DeletePod pod-0", "DeleteQueue", "RemoveFinalizer"]),
        (BrokerState::Connected, 30.0, vec!["DeletePod pod-0", "RemoveFinalizer"]),
        (away(), 9.9, vec!["DeletePod pod-0"]),
        (away(), 10.0, vec!["DeletePod pod-0", "RemoveFinalizer"]),
    ];
    for (broker, since, expected) in cases {
        let mut job = ready_job();
        job.metadata.deletion_timestamp = Some(Time(at(50.0)));
        let observed = Observed { broker, ..all_there() };
        let plan = plan(&job, &observed, at(50.0 + since));
        assert_eq!(names_of(&plan), expected, "{:?} after {since} s", observed.broker);
        assert!(!plan.write);
        let waits = !plan.actions.contains(&Action::RemoveFinalizer);
        assert!(!waits || plan.requeue < Duration::from_millis(111), "{:?}", plan.requeue);
    }
}

#[test]
fn a_deletion_that_another_finalizer_holds_up_asks_nothing_of_the_broker() {
    let mut job = ready_job();
    job.metadata.deletion_timestamp = Some(Time(at(50.0)));
    job.metadata.finalizers = Some(vec!["another/one".into()]);
    assert_eq!(names_of(&plan(&job, &all_there(), at(50.0))), ["DeletePod pod-0"]);
    let observed = Observed { pods: vec![deleting(ready(pod(0)))], ..all_there() };
    assert_eq!(names_of(&plan(&job, &observed, at(51.0))), Vec::<String>::new());
}

#[test]
fn a_suspended_job_keeps_nothing_and_comes_back_with_a_new_pod() {
    let mut job = ready_job();
    job.spec.suspend = true;
    let suspended = plan(&job, &all_there(), at(5.0));
    assert_eq!(names_of(&suspended), ["DeletePod pod-0", "DeleteQueue"]);
    assert_eq!((suspended.status.phase, suspended.write), (Some(JobPhase::Suspended), true));
    assert_eq!(
        (reason(&suspended, READY), reason(&suspended, FINISHED).0),
        (("False", "Suspended"), "False")
    );
    let gone = Observed { queue: QueueSeen { exists: Some(false), ..QueueSeen::default() }, ..observed() };
    assert_quiet(&job, &gone, &suspended, at(6.0));

    let mut resumed = written(job, suspended.status);
    resumed.spec.suspend = false;
    let back = plan(&resumed, &gone, at(7.0));
    assert_eq!(names_of(&back), ["EnsureQueue", "CreatePod 1"]);
    assert_eq!(reason(&back, ANALYZER_READY), ("False", "Starting"));
    assert_eq!(back.status.timeline.ready_at, Some(micro(at(1.0))));
}

#[test]
fn a_finished_job_is_deleted_after_its_time() {
    let ended = |ttl: Option<i32>| {
        let mut job = annotated(ready_job(), names::END, r#"{"reason":"R","message":"m","failed":false}"#);
        job.spec.ttl_seconds_after_finished = ttl;
        let status = plan(&job, &all_there(), at(100.0)).status;
        written(job, status)
    };
    let gone = Observed { queue: QueueSeen { exists: Some(false), ..QueueSeen::default() }, ..observed() };
    let cases = [
        (None, 1e6, false, LOOK_AGAIN),
        (Some(60), 59.0, false, Duration::from_secs(1)),
        (Some(60), 60.0, true, LOOK_AGAIN),
        (Some(0), 0.0, true, LOOK_AGAIN),
    ];
    for (ttl, since, deleted, requeue) in cases {
        let plan = plan(&ended(ttl), &gone, at(100.0 + since));
        assert_eq!(names_of(&plan), if deleted { vec!["DeleteJob"] } else { vec![] }, "{ttl:?} {since}");
        assert!(!plan.write);
        assert_eq!(plan.requeue, requeue, "{ttl:?} {since}");
    }
}

#[test]
fn an_end_that_is_asked_for_is_told_with_its_reason() {
    let cases = [
        (
            r#"{"reason":"IdleTimeout","message":"nobody read","failed":false}"#,
            JobPhase::Finished,
            "IdleTimeout",
        ),
        (r#"{"reason":"HeaderMismatch","message":"m","failed":true}"#, JobPhase::Failed, "HeaderMismatch"),
        ("not json", JobPhase::Finished, "EndRequested"),
        ("{}", JobPhase::Finished, "EndRequested"),
    ];
    for (text, phase, expected) in cases {
        let end = plan(&annotated(ready_job(), names::END, text), &all_there(), at(9.0));
        assert_eq!((end.status.phase, reason(&end, FINISHED)), (Some(phase), ("True", expected)), "{text}");
        assert_eq!((names_of(&end), end.write), (vec![], true), "{text}");
        assert_eq!(end.status.timeline.finished_at, Some(micro(at(9.0))));
    }
    let end = plan(&annotated(ready_job(), names::END, "not json"), &all_there(), at(9.0));
    assert!(conditions::find(&end.status.conditions, FINISHED).unwrap().message.contains("cannot be read"));
}

// Milestones.

#[test]
fn a_milestone_in_the_status_is_never_rewritten() {
    let job = ready_job();
    let mut later = all_there();
    let late = Some(micro(at(500.0)));
    later.seen = Timeline {
        configured_at: late.clone(),
        accepted_at: late.clone(),
        pod_created_at: None,
        pod_scheduled_at: None,
        pod_ready_at: late.clone(),
        queue_ready_at: late.clone(),
        consumer_ready_at: late.clone(),
        ready_at: late,
        finished_at: None,
    };
    later.queue = queue(2, 500.0);
    let again = plan(&job, &later, at(500.0));
    assert_eq!(again.status.timeline, job.status.clone().unwrap().timeline);
    assert_eq!(again.status.phase_seconds, job.status.unwrap().phase_seconds);
    assert!(again.write, "the second consumer is news");
}

#[test]
fn a_client_s_clock_makes_no_negative_phase() {
    let cases = [
        (at(-2.0).to_string(), -2.0),
        (at(3600.0).to_string(), 0.0),
        (at(0.000_001).to_string(), 0.0),
        ("yesterday".into(), 0.0),
    ];
    for (text, expected) in cases {
        let job = annotated(job(), names::CONFIGURED_AT, &text);
        let status = plan(&job, &observed(), at(0.0)).status;
        assert_eq!(status.timeline.configured_at, Some(micro(at(expected))), "{text}");
        assert_eq!(status.phase_seconds.configure, Some(-expected), "{text}");
    }
}

// A small world: what the API server and the broker would have, and an operator that may die at any write.

struct World {
    job: FocusJob,
    pods: Vec<Pod>,
    queue: QueueSeen,
    seen: Timeline,
    failed: Option<(String, Timestamp)>,
    now: f64,
    writes: u32,
    /// At these status writes the operator dies.
    lost: Vec<u32>,
}

impl World {
    fn new(lost: Vec<u32>) -> Self {
        Self {
            job: job(),
            pods: Vec::new(),
            queue: QueueSeen::default(),
            seen: Timeline::default(),
            failed: None,
            now: 0.0,
            writes: 0,
            lost,
        }
    }

    fn observe(&mut self) -> Observed {
        self.seen.accepted_at.get_or_insert_with(|| micro(at(self.now)));
        Observed {
            pods: self.pods.clone(),
            queue: self.queue.clone(),
            seen: self.seen.clone(),
            failed_at: self.failed.as_ref().map(|(_, at)| *at),
            ..observed()
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::AddFinalizer => self.job = with_finalizer(self.job.clone()),
            Action::RemoveFinalizer => self.job.metadata.finalizers = None,
            Action::CreatePod(mut pod) => {
                assert!(self.pods.iter().all(|known| known.name_any() != pod.name_any()), "made twice");
                pod.metadata.uid = Some(pod.name_any());
                self.pods.push(*pod);
            }
            Action::DeletePod { uid, .. } => self.pods.retain(|pod| pod.uid().as_ref() != Some(&uid)),
            Action::EnsureQueue => self.queue = queue(0, self.now),
            Action::DeleteQueue => self.queue = QueueSeen { exists: Some(false), ..QueueSeen::default() },
            Action::DeleteJob => panic!("nobody asked for that"),
        }
    }

    /// One look as reconcile has it: plan, apply, plan again for the status only.
    fn look(&mut self) -> Plan {
        let observed = self.observe();
        let mut planned = plan(&self.job, &observed, at(self.now));
        if !planned.actions.is_empty() {
            planned.actions.into_iter().for_each(|action| self.act(action));
            let observed = self.observe();
            planned = plan(&self.job, &observed, at(self.now));
        }
        if planned.write {
            self.save(planned.status.clone());
        }
        planned
    }

    fn save(&mut self, status: FocusJobStatus) {
        self.writes += 1;
        if self.lost.contains(&self.writes) {
            // The operator dies before the write; the next one remembers nothing.
            self.seen = Timeline::default();
            self.failed = None;
            if self.queue.exists == Some(true) {
                self.queue = queue(self.queue.consumers, self.now);
            }
            // Its first list of pods stamps what it finds.
            if self.pods.iter().any(|pod| pod::state(pod) == pod::PodState::Ready) {
                self.seen.pod_ready_at = Some(micro(at(self.now)));
            }
            return;
        }
        if let Some(old) = &self.job.status {
            let kept = old.timeline.merged(&status.timeline);
            assert_eq!(kept, status.timeline, "a milestone was rewritten or lost");
        }
        self.job.status = Some(status);
    }

    fn step(&mut self, seconds: f64) -> Plan {
        self.now += seconds;
        self.look()
    }

    /// The newest pod changes as `change` says, and the watch tells of it.
    fn change_pod(&mut self, change: impl FnOnce(Pod) -> Pod) {
        let newest = self.pods.iter_mut().max_by_key(|pod| pod::attempt(pod)).unwrap();
        *newest = change(newest.clone());
        match pod::state(newest) {
            pod::PodState::Ready => {
                self.seen.pod_ready_at.get_or_insert(micro(at(self.now)));
            }
            pod::PodState::Failed { .. } => self.failed = Some((newest.name_any(), at(self.now))),
            _ => {}
        }
    }
}

#[test]
fn an_analyzer_that_always_fails_is_given_up_after_six() {
    let mut world = World::new(vec![]);
    world.step(0.0);
    for _ in 0..FAILURES {
        world.change_pod(|pod| exited(pod, 1, "boom", 1));
        world.step(0.0);
        for _ in 0..3 {
            world.step(30.0);
        }
    }
    let status = world.job.status.clone().unwrap();
    let finished = conditions::find(&status.conditions, FINISHED).unwrap();
    assert_eq!((status.phase, finished.reason.as_str()), (Some(JobPhase::Failed), "CrashLoop"));
    assert_eq!(status.analyzer.unwrap().restarts, FAILURES - 1);
    assert_eq!((world.pods.len(), world.queue.exists), (0, Some(false)));
}

/// A job comes up in `world`; in which order its parts do, `order` tells.
fn come_up(world: &mut World, consumer_first: bool, fails_once: bool) {
    world.step(0.0);
    world.step(0.01);
    if fails_once {
        world.change_pod(|pod| exited(pod, 1, "boom", 1));
        (0..4).for_each(|_| drop(world.step(1.0)));
    }
    for part in [consumer_first, !consumer_first] {
        if part {
            world.queue = queue(1, world.now);
        } else {
            world.change_pod(ready);
        }
        world.step(0.3);
    }
    // However many writes were lost, the next looks find all that there is to say.
    (0..8).for_each(|_| drop(world.step(1.0)));
}

proptest! {
    #[test]
    fn lost_writes_and_restarts_end_in_ready(
        lost in prop::collection::vec(1_u32..6, 0..4),
        consumer_first: bool,
        fails_once: bool,
    ) {
        let mut world = World::new(lost.clone());
        come_up(&mut world, consumer_first, fails_once);
        let status = world.job.status.clone().unwrap();
        prop_assert_eq!(status.phase, Some(JobPhase::Ready));
        prop_assert_eq!(world.pods.len(), 1);
        let t = &status.timeline;
        for (name, milestone) in [
            ("configured", &t.configured_at), ("accepted", &t.accepted_at), ("queue", &t.queue_ready_at),
            ("consumer", &t.consumer_ready_at), ("pod", &t.pod_ready_at), ("ready", &t.ready_at),
        ] {
            prop_assert!(milestone.is_some(), "{name}");
        }
        prop_assert!(status.phase_seconds.total.is_some_and(|total| total >= 0.0));
        let quiet = world.step(1.0);
        prop_assert!(!quiet.write && quiet.actions.is_empty());
        // With the pod and the finalizer at most four writes in all.
        prop_assert!(fails_once || !lost.is_empty() || world.writes <= 2, "{} writes", world.writes);
    }
}
