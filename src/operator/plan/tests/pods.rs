//! The pool, the view, and the analyzer pod.

use super::*;

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

#[test]
fn a_refused_pod_is_said_and_tried_again_under_the_same_name() {
    let words = "pods \"view\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let mut observed = observed();
    observed.queue = queue(0, 0.01);
    observed.refused = Some(words.into());
    let mut job = with_finalizer(job());
    for now in [1.0, 2.0] {
        let plan = plan(&job, &observed, at(now));
        assert_eq!((names_of(&plan), plan.status.analyzer.as_ref()), (vec!["CreatePod 0".to_owned()], None));
        for type_ in [ANALYZER_READY, READY] {
            assert_eq!(reason(&plan, type_), ("False", "PodRefused"), "{type_}");
        }
        let told = &conditions::find(&plan.status.conditions, ANALYZER_READY).unwrap().message;
        assert!(told.contains(words), "{told}");
        job = written(job, plan.status);
    }
    // One that replaces another is tried by its own name.
    let lost = plan(&ready_job(), &observed, at(3.0));
    assert_eq!(names_of(&lost), ["CreatePod 1"]);
    assert_eq!(lost.status.analyzer.unwrap().restarts, 0);
    observed.refused = None;
    let taken = plan(&job, &observed, at(3.0));
    assert_eq!(
        (names_of(&taken), reason(&taken, ANALYZER_READY).1),
        (vec!["CreatePod 0".to_owned()], "Starting")
    );
}
