//! What a job's new status adds to the counters.

use super::Metrics;
use super::ended::ended;
use crate::api::FocusJobStatus;
use crate::api::conditions::{self, ANALYZER_READY, CONSUMER_READY, QUEUE_READY};
use crate::api::focusjob::AnalyzerStart;

/// The consumer that was attached is gone.
const LOST: &str = "lost";
/// It has been gone for longer than the job's deadline.
const OVERDUE: &str = "overdue";
/// What may become of a consumer that was attached.
pub(super) const LOSSES: [&str; 2] = [LOST, OVERDUE];

impl Metrics {
    /// Counts what `new` says and `old`, the status before, did not.
    pub fn observe_status(&self, old: &FocusJobStatus, new: &FocusJobStatus) {
        let start = new.analyzer.as_ref().map_or(AnalyzerStart::Cold, |analyzer| analyzer.start);
        for ((phase, before), (_, after)) in
            old.phase_seconds.named().into_iter().zip(new.phase_seconds.named())
        {
            if let (None, Some(seconds)) = (before, after) {
                self.phases.with_label_values(&[phase, start.as_str()]).observe(seconds);
            }
        }
        let turned = |type_, reason| is(new, type_, reason) && !is(old, type_, reason);
        for (phase, type_) in [("pod", ANALYZER_READY), ("queue", QUEUE_READY)] {
            if turned(type_, "DeadlineExceeded") {
                self.deadlines.with_label_values(&[phase]).inc();
            }
        }
        if turned(CONSUMER_READY, "DeadlineExceeded") {
            // The phase ends with the first consumer: what comes after is a loss, not a phase.
            match new.timeline.consumer_ready_at {
                None => self.deadlines.with_label_values(&["consumer"]).inc(),
                Some(_) => self.losses.with_label_values(&[OVERDUE]).inc(),
            }
        }
        if turned(CONSUMER_READY, "ConsumerLost") {
            self.losses.with_label_values(&[LOST]).inc();
        }
        if let Some((outcome, reason)) = ended(old, new) {
            self.ends.with_label_values(&[outcome, reason]).inc();
        }
    }
}

fn is(status: &FocusJobStatus, type_: &str, reason: &str) -> bool {
    conditions::find(&status.conditions, type_).is_some_and(|condition| condition.reason == reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Verdict;
    use crate::api::timeline::micro;
    use k8s_openapi::jiff::Timestamp;

    /// A status whose consumer's condition has `reason`; `had`: there was a consumer once.
    fn status(reason: &str, had: bool) -> FocusJobStatus {
        let now = Timestamp::UNIX_EPOCH;
        let verdict = Verdict::new(CONSUMER_READY, reason == "Attached", reason, "m");
        let mut status = FocusJobStatus {
            conditions: conditions::merge(&[], &[verdict], None, now),
            ..FocusJobStatus::default()
        };
        status.timeline.consumer_ready_at = had.then(|| micro(now));
        status
    }

    #[test]
    fn a_consumer_that_never_came_is_no_lost_one() {
        for (what, old, new, never, lost, overdue) in [
            ("never came", status("NoConsumer", false), status("DeadlineExceeded", false), 1, 0, 0),
            (
                "still not there",
                status("DeadlineExceeded", false),
                status("DeadlineExceeded", false),
                0,
                0,
                0,
            ),
            ("came", status("NoConsumer", false), status("Attached", true), 0, 0, 0),
            ("went away", status("Attached", true), status("ConsumerLost", true), 0, 1, 0),
            ("stayed away", status("ConsumerLost", true), status("DeadlineExceeded", true), 0, 0, 1),
        ] {
            let metrics = Metrics::new().expect("fresh");
            metrics.observe_status(&old, &new);
            let counts = [
                metrics.deadlines.with_label_values(&["consumer"]).get(),
                metrics.losses.with_label_values(&[LOST]).get(),
                metrics.losses.with_label_values(&[OVERDUE]).get(),
            ];
            assert_eq!(counts, [never, lost, overdue], "{what}");
        }
    }
}
