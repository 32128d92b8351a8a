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

#[test]
fn a_deadline_that_has_passed_stays_passed_until_a_consumer_comes() {
    let mut late = all_there();
    late.queue = queue(0, 0.5);
    let never = written(job(), plan(&with_finalizer(job()), &late, at(31.0)).status);
    let lost = written(ready_job(), plan(&ready_job(), &late, at(3600.0)).status);
    let lost = written(lost.clone(), plan(&lost, &late, at(3631.0)).status);
    let mut away = all_there();
    away.broker = BrokerState::Disconnected("connection refused".into());
    away.queue = QueueSeen::default();
    let mut unseen = all_there();
    unseen.queue = QueueSeen::default();
    for (what, start) in [("never came", never), ("lost", lost)] {
        assert!(is_overdue(&start), "{what}");
        let metrics = crate::operator::metrics::Metrics::new().unwrap();
        let mut job = start;
        // The broker is away; it is back and has not been looked at; it is known that nobody is there.
        let mut back = late.clone();
        back.queue = queue(0, 3700.0);
        for (observed, now) in [(&away, 3698.0), (&unseen, 3699.0), (&back, 3700.0), (&back, 3731.0)] {
            let status = plan(&job, observed, at(now)).status;
            metrics.observe_status(job.status.as_ref().unwrap(), &status);
            job = written(job, status);
            assert!(is_overdue(&job), "{what}, {now}");
        }
        let counted = ["focus_job_deadline_exceeded_total", "focus_job_consumers_lost_total"];
        let families = metrics.registry.gather().into_iter();
        let all: Vec<_> = families.filter(|family| counted.contains(&family.name())).collect();
        let values =
            all.iter().flat_map(|family| family.get_metric()).map(|one| one.get_counter().get_value());
        let (number, sum) = (values.clone().count(), values.sum::<f64>());
        assert!(number > 3, "{number} counters");
        assert_eq!(sum, 0.0, "{what}: counted again");
        back.queue = queue(1, 3700.0);
        assert_eq!(reason(&plan(&job, &back, at(3732.0)), CONSUMER_READY), ("True", "Attached"), "{what}");
    }
}

fn is_overdue(job: &FocusJob) -> bool {
    let conditions = &job.status.as_ref().unwrap().conditions;
    conditions::find(conditions, CONSUMER_READY).unwrap().reason == "DeadlineExceeded"
}
