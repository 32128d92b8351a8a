//! Ends.

use super::*;

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
fn the_queue_of_a_completed_job_is_kept_for_its_last_lines() {
    let ended = |reason: &str| {
        let end = json!({"reason": reason, "message": "m", "failed": false}).to_string();
        let job = annotated(ready_job(), names::END, &end);
        let status = plan(&job, &all_there(), at(100.0)).status;
        written(job, status)
    };
    let cases = [
        ("Completed", 0.0, vec!["DeletePod pod-0"], Duration::from_secs(5)),
        ("Completed", 4.0, vec!["DeletePod pod-0"], Duration::from_secs(1)),
        ("Completed", 5.0, vec!["DeletePod pod-0", "DeleteQueue"], LOOK_AGAIN),
        ("Completed", -60.0, vec!["DeletePod pod-0"], Duration::from_secs(5)),
        ("IdleTimeout", 0.0, vec!["DeletePod pod-0", "DeleteQueue"], LOOK_AGAIN),
    ];
    for (reason, since, expected, requeue) in cases {
        let plan = plan(&ended(reason), &all_there(), at(100.0 + since));
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!((names_of(&plan), plan.requeue), (expected, requeue), "{reason} after {since} s");
        assert!(!plan.write);
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
