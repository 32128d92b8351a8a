//! A job comes up.

use super::*;

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
