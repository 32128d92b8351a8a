//! Broker, queue and consumer.

use super::*;

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
