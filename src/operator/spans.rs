//! The spans of a job: its phases, with the times of its milestones, and what went wrong. `plan` is pure.
//!
//! A phase is told of once, when the status that has its last milestone has been written. An operator that ends between
//! that write and the export takes the span with it; one that comes after does not tell it again.

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use opentelemetry::trace::SpanKind;

use super::events;
use crate::api::conditions::{self, FINISHED};
use crate::api::focusjob::JobPhase;
use crate::api::names;
use crate::api::{FocusJob, FocusJobStatus};
use crate::telemetry::traces::{self, JobTrace, KeyValue, Span};

/// The name of spans that tell what went wrong meanwhile.
const PROBLEM: &str = "problem";

/// A span that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The phase, or `problem`.
    pub name: &'static str,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Why the job ended before the phase did, or what went wrong.
    pub reason: Option<String>,
    /// Whether that is a failure.
    pub failed: bool,
}

/// Tells what `new`, which has just been written, says and `old` did not.
pub fn tell(job: &FocusJob, old: &FocusJobStatus, new: &FocusJobStatus) {
    if !traces::on() {
        return;
    }
    let trace = JobTrace::of(job);
    for planned in plan(old, new, Timestamp::now()) {
        let Planned { name, start, end, reason, failed } = planned;
        let mut attributes = attributes(name, job, new);
        attributes.extend(reason.clone().map(|reason| KeyValue::new("focus.reason", reason)));
        trace.emit(Span {
            name,
            id: if name == PROBLEM { traces::new_span_id() } else { trace.phase(name) },
            parent: trace.parent(name),
            kind: SpanKind::Internal,
            start: SystemTime::from(start),
            end: SystemTime::from(end),
            failed: reason.filter(|_| failed),
            attributes,
        });
    }
}

/// What is to be told when a status changes from `old` to `new` at `now`: the phases whose last milestone is new; at the
/// job's end also those that were still under way; and each warning, in the moment.
pub fn plan(old: &FocusJobStatus, new: &FocusJobStatus, now: Timestamp) -> Vec<Planned> {
    let ended = |status: &FocusJobStatus| conditions::is_true(&status.conditions, FINISHED);
    if ended(old) {
        return Vec::new();
    }
    let end = conditions::find(&new.conditions, FINISHED).filter(|_| ended(new));
    let failed = new.phase == Some(JobPhase::Failed);
    let mut all = Vec::new();
    for ((name, from, to), (_, from_before, to_before)) in
        new.timeline.phases().into_iter().zip(old.timeline.phases())
    {
        let Some(from) = from else { continue };
        match (to, end) {
            (Some(to), _) if from_before.is_none() || to_before.is_none() => {
                all.push(planned(name, from.0, to.0, None, false));
            }
            (None, Some(end)) => {
                let at = new.timeline.finished_at.as_ref().map_or(now, |at| at.0);
                all.push(planned(name, from.0, at, Some(&end.reason), failed));
            }
            _ => {}
        }
    }
    if end.is_none() {
        let warnings = events::changes(old, new).into_iter().filter(|told| told.warning);
        all.extend(warnings.map(|told| planned(PROBLEM, now, now, Some(&told.reason), true)));
    }
    all
}

fn planned(
    name: &'static str,
    start: Timestamp,
    end: Timestamp,
    reason: Option<&str>,
    failed: bool,
) -> Planned {
    Planned { name, start, end: end.max(start), reason: reason.map(str::to_owned), failed }
}

fn attributes(phase: &str, job: &FocusJob, status: &FocusJobStatus) -> Vec<KeyValue> {
    match (phase, &status.analyzer) {
        ("pod", Some(analyzer)) => {
            let node = analyzer.node.clone().map(|node| KeyValue::new("k8s.node.name", node));
            let mut all = vec![
                KeyValue::new("k8s.pod.name", analyzer.pod_name.clone()),
                KeyValue::new("focus.analyzer.start", analyzer.start.as_str()),
            ];
            all.extend(node);
            all
        }
        ("queue" | "consumer", _) => vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.destination.name", names::queue_name(job)),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{CONSUMER_READY, Verdict};
    use crate::api::timeline::{Timeline, micro};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).expect("in range")
    }

    /// A status with these milestones, ms: configured, accepted, queue, consumer, pod, ready.
    fn status(milestones: [Option<i64>; 6]) -> FocusJobStatus {
        let [configured_at, accepted_at, queue_ready_at, consumer_ready_at, pod_ready_at, ready_at] =
            milestones.map(|ms| ms.map(|ms| micro(at(ms))));
        let timeline = Timeline {
            configured_at,
            accepted_at,
            queue_ready_at,
            consumer_ready_at,
            pod_ready_at,
            ready_at,
            ..Timeline::default()
        };
        FocusJobStatus {
            phase_seconds: timeline.phase_seconds(),
            timeline,
            phase: Some(JobPhase::Starting),
            ..FocusJobStatus::default()
        }
    }

    fn says(
        mut status: FocusJobStatus,
        type_: &'static str,
        is: bool,
        reason: &'static str,
    ) -> FocusJobStatus {
        status.conditions = conditions::merge(&[], &[Verdict::new(type_, is, reason, "m")], None, at(0));
        status
    }

    fn finished(status: FocusJobStatus, phase: JobPhase, reason: &'static str) -> FocusJobStatus {
        let mut status = says(status, FINISHED, true, reason);
        status.phase = Some(phase);
        status.timeline.finished_at = Some(micro(at(500)));
        status
    }

    /// Name, start and end in ms, reason, whether failed.
    fn told(
        old: &FocusJobStatus,
        new: &FocusJobStatus,
    ) -> Vec<(&'static str, i64, i64, Option<String>, bool)> {
        let ms = |time: Timestamp| time.as_millisecond() - at(0).as_millisecond();
        let all = plan(old, new, at(900)).into_iter();
        all.map(|p| (p.name, ms(p.start), ms(p.end), p.reason, p.failed)).collect()
    }

    #[test]
    fn each_phase_is_told_once_when_its_end_is_written() {
        let none = FocusJobStatus::default();
        let first = status([Some(0), Some(5), Some(12), Some(20), None, None]);
        let ready = status([Some(0), Some(5), Some(12), Some(20), Some(300), Some(301)]);
        assert_eq!(
            told(&none, &first),
            [
                ("configure", 0, 5, None, false),
                ("queue", 5, 12, None, false),
                ("consumer", 12, 20, None, false)
            ]
        );
        assert_eq!(told(&first, &ready), [("pod", 5, 300, None, false), ("total", 0, 301, None, false)]);
        assert_eq!(told(&ready, &ready), []);
    }

    #[test]
    fn a_phase_lasts_as_long_as_the_status_says() {
        // A consumer that was there before the queue's confirmation.
        let odd = status([Some(0), Some(5), Some(12), Some(11), Some(300), Some(301)]);
        for planned in plan(&FocusJobStatus::default(), &odd, at(900)) {
            let seconds = odd.phase_seconds.named().into_iter().find(|(name, _)| *name == planned.name);
            let lasted = crate::api::timeline::seconds_between(planned.start, planned.end);
            assert_eq!(seconds.and_then(|(_, seconds)| seconds), Some(lasted), "{planned:?}");
        }
    }

    #[test]
    fn what_was_under_way_at_the_job_s_end_ends_with_it() {
        let starting = status([Some(0), Some(5), Some(12), None, None, None]);
        let reason = |reason: &str| Some(reason.to_owned());
        assert_eq!(
            told(&starting, &finished(starting.clone(), JobPhase::Failed, "SourceUnreadable")),
            [
                ("pod", 5, 500, reason("SourceUnreadable"), true),
                ("consumer", 12, 500, reason("SourceUnreadable"), true),
                ("total", 0, 500, reason("SourceUnreadable"), true),
            ]
        );
        let over = finished(starting.clone(), JobPhase::Finished, "IdleTimeout");
        assert!(told(&starting, &over).iter().all(|(.., reason, failed)| reason.is_some() && !failed));
        assert_eq!(told(&over, &over), []);
        let ready = status([Some(0), Some(5), Some(12), Some(20), Some(300), Some(301)]);
        assert_eq!(told(&ready, &finished(ready.clone(), JobPhase::Failed, "CrashLoop")), []);
    }

    #[test]
    fn a_warning_is_told_in_the_moment() {
        let waiting =
            says(status([Some(0), Some(5), Some(12), None, None, None]), CONSUMER_READY, false, "NoConsumer");
        let mut late = waiting.clone();
        late.conditions = conditions::merge(
            &[],
            &[Verdict::new(CONSUMER_READY, false, "DeadlineExceeded", "m")],
            None,
            at(0),
        );
        assert_eq!(told(&waiting, &late), [(PROBLEM, 900, 900, Some("DeadlineExceeded".to_owned()), true)]);
        assert_eq!(told(&late, &late), []);
    }
}
