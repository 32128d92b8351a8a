//! Milestones are written once.

use super::*;

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
