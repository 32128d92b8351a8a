//! What the conditions of a running job say.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use k8s_openapi::jiff::Timestamp;

use super::Observed;
use crate::api::FocusJob;
use crate::api::conditions::{
    self, ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY, UNDER_WAY, Verdict,
};
use crate::api::timeline::{Timeline, seconds_between};
use crate::broker::follow::BrokerState;

/// How long a pod may start before the job says DeadlineExceeded, s.
const POD_DEADLINE_SECONDS: f64 = 120.0;
/// How long a broker that is connected may take to declare the queue before the job says DeadlineExceeded, s.
const QUEUE_DEADLINE_SECONDS: f64 = 10.0;

/// Every condition of a running job, in the order in which they are shown; `old` are those of before.
pub fn running(
    job: &FocusJob,
    observed: &Observed,
    timeline: &Timeline,
    old: &[Condition],
    analyzer: &Verdict,
    now: Timestamp,
) -> Vec<Verdict> {
    let analyzer = late_pod(analyzer, timeline, now);
    let queue = queue(observed, timeline, old, now);
    let consumer = consumer(job, observed, timeline, old, now);
    let ready = summary(&[&queue, &consumer, &analyzer]);
    let finished = Verdict::new(
        FINISHED,
        false,
        "Running",
        "the job runs until it is deleted, idle or at its source's end",
    );
    vec![analyzer, queue, consumer, ready, finished]
}

/// Whether some condition names a cause that does not mend itself within milliseconds.
pub fn in_trouble(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|v| v.type_ != FINISHED && !v.status && !UNDER_WAY.contains(&v.reason.as_str()))
}

fn late_pod(analyzer: &Verdict, timeline: &Timeline, now: Timestamp) -> Verdict {
    let waited = since(&timeline.accepted_at, now);
    let late = timeline.pod_ready_at.is_none() && waited >= POD_DEADLINE_SECONDS;
    if analyzer.status || !late || analyzer.reason != "Starting" {
        return analyzer.clone();
    }
    let message = format!(
        "the analyzer pod is not ready {POD_DEADLINE_SECONDS:.0} s after the job was accepted; look at its events and logs"
    );
    Verdict::new(ANALYZER_READY, false, "DeadlineExceeded", message)
}

fn queue(observed: &Observed, timeline: &Timeline, old: &[Condition], now: Timestamp) -> Verdict {
    let not = |reason: &str, message: String| Verdict::new(QUEUE_READY, false, reason, message);
    match (&observed.broker, &observed.queue) {
        (BrokerState::Disconnected(why), _) => {
            not("BrokerUnreachable", format!("the broker cannot be reached: {why}"))
        }
        (_, seen) if seen.refused.is_some() => {
            let why = seen.refused.clone().unwrap_or_default();
            not(
                "QueueRefused",
                format!(
                    "the broker refused the queue; delete the one of that name, or mend the permissions: {why}"
                ),
            )
        }
        (_, seen) if seen.exists == Some(true) => {
            Verdict::new(QUEUE_READY, true, "Ready", "the queue is there")
        }
        _ if without_queue(timeline, old, now) >= QUEUE_DEADLINE_SECONDS => not(
            "DeadlineExceeded",
            format!(
                "the broker is connected, but has not confirmed the queue for {QUEUE_DEADLINE_SECONDS:.0} s; look at its log and alarms"
            ),
        ),
        _ => not("Declaring", "the queue is being declared".to_owned()),
    }
}

/// How long the job has been without its queue, s: since it was accepted, or since the queue was lost, which is
/// when the condition `QueueReady` in `conditions` turned False.
fn without_queue(timeline: &Timeline, conditions: &[Condition], now: Timestamp) -> f64 {
    match conditions::find(conditions, QUEUE_READY) {
        None => since(&timeline.accepted_at, now),
        Some(condition) if condition.status == "True" => 0.0,
        Some(condition) => seconds_between(condition.last_transition_time.0, now),
    }
}

fn consumer(
    job: &FocusJob,
    observed: &Observed,
    timeline: &Timeline,
    old: &[Condition],
    now: Timestamp,
) -> Verdict {
    let not = |reason: &str, message: String| Verdict::new(CONSUMER_READY, false, reason, message);
    let overdue = was_overdue(old);
    let unknown = match (&observed.broker, observed.queue.exists) {
        (BrokerState::Disconnected(_), _) => Some((
            "BrokerUnreachable",
            "whether a consumer is attached is not known: the broker cannot be reached",
        )),
        (_, Some(true)) => None,
        _ => Some(("WaitingForQueue", "a consumer can attach when the queue is there")),
    };
    match unknown {
        Some((_, why)) if overdue => {
            return not(
                "DeadlineExceeded",
                format!("no consumer was there within its deadline, and now {why}"),
            );
        }
        Some((reason, why)) => return not(reason, why.to_owned()),
        None if observed.queue.consumers > 0 => {
            return Verdict::new(CONSUMER_READY, true, "Attached", "a consumer is attached to the queue");
        }
        None => {}
    }
    let lost = timeline.consumer_ready_at.is_some();
    let (reason, what) = if lost {
        ("ConsumerLost", "the consumer is gone")
    } else {
        ("NoConsumer", "no consumer has attached")
    };
    let deadline = f64::from(job.spec.consumer_deadline_seconds);
    if overdue || without_consumer(observed, timeline, old, now) >= deadline {
        let late = if lost { "and none has come back" } else { "to the queue" };
        return not(
            "DeadlineExceeded",
            format!(
                "{what} {late} within {deadline:.0} s; is the Focus Server running, and does it reach the broker?"
            ),
        );
    }
    not(reason, format!("the queue is there, but {what}"))
}

/// Whether the consumer's deadline had passed by `conditions`. Then it stays passed until one attaches: a broker that
/// was away, or a new operator, knows nothing that would give the consumer a new deadline.
fn was_overdue(conditions: &[Condition]) -> bool {
    conditions::find(conditions, CONSUMER_READY)
        .is_some_and(|condition| condition.reason == "DeadlineExceeded")
}

/// How long the queue has been there without a consumer, s; for a consumer that was lost, since its loss, which
/// is when the condition `ConsumerReady` in `conditions` turned False.
fn without_consumer(
    observed: &Observed,
    timeline: &Timeline,
    conditions: &[Condition],
    now: Timestamp,
) -> f64 {
    let Some(there) = observed.queue.exists_since else { return 0.0 };
    let lost = match conditions::find(conditions, CONSUMER_READY) {
        _ if timeline.consumer_ready_at.is_none() => there,
        None => there,
        Some(condition) if condition.status == "True" => now,
        Some(condition) => condition.last_transition_time.0,
    };
    seconds_between(there.max(lost), now)
}

/// Ready: all of `parts`, or the first that is not.
fn summary(parts: &[&Verdict]) -> Verdict {
    match parts.iter().find(|v| !v.status) {
        None => Verdict::new(READY, true, "Ready", "analyzer, queue and consumer are there"),
        // What is under way gives way to what is in trouble: that is what a person must see.
        Some(first) => {
            let worst =
                parts.iter().find(|v| !v.status && !UNDER_WAY.contains(&v.reason.as_str())).unwrap_or(first);
            Verdict::new(READY, false, worst.reason.clone(), worst.message.clone())
        }
    }
}

/// When a deadline passes that no watch would tell of; `conditions` are those that the status now has.
pub fn next_deadline(
    job: &FocusJob,
    observed: &Observed,
    timeline: &Timeline,
    conditions: &[Condition],
    now: Timestamp,
) -> Option<Duration> {
    let until = |waited: f64, deadline: f64| {
        // A little later, so that it has passed for certain.
        (waited < deadline).then(|| Duration::from_secs_f64(deadline - waited + 0.01))
    };
    let pod = timeline
        .pod_ready_at
        .is_none()
        .then(|| until(since(&timeline.accepted_at, now), POD_DEADLINE_SECONDS));
    let declared = observed.queue.exists == Some(true);
    let queue = (!declared).then(|| until(without_queue(timeline, conditions, now), QUEUE_DEADLINE_SECONDS));
    let waits = declared && observed.queue.consumers == 0;
    let consumer = waits.then(|| {
        let waited = without_consumer(observed, timeline, conditions, now);
        until(waited, f64::from(job.spec.consumer_deadline_seconds))
    });
    [pod.flatten(), queue.flatten(), consumer.flatten()].into_iter().flatten().min()
}

fn since(at: &Option<MicroTime>, now: Timestamp) -> f64 {
    at.as_ref().map_or(0.0, |at| seconds_between(at.0, now))
}
