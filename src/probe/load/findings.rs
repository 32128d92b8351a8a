//! Joins what creator, broker and watch saw of each job.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::consumers::{Consumers, QueueTimes};
use super::creator::Created;
use super::kubelet::Kubelet;
use crate::probe::outcome::status_rows;
use crate::probe::report::{Failure, Report, Row};
use crate::probe::stats::between;
use crate::probe::watch::{JobWatch, Sighting};

/// How many jobs that did not get there are named.
const NAMED_FAILURES: usize = 20;

/// What a load found.
pub struct Findings {
    answers: Vec<f64>,
    queues: Vec<f64>,
    attached: Vec<f64>,
    operator_saw: Vec<f64>,
    persisted: Vec<f64>,
    ready: Vec<f64>,
    patched: Vec<f64>,
    status: Vec<Row>,
    failures: Vec<Failure>,
    jobs_per_second: Option<f64>,
}

impl Findings {
    /// Joins them by name.
    pub fn gather(
        created: &[Created],
        watch: &JobWatch,
        consumers: &Consumers,
        kubelet: &Kubelet,
        start: Instant,
    ) -> Self {
        let joined: Vec<_> = created
            .iter()
            .map(|c| (c, watch.get(&c.name).unwrap_or_default(), consumers.get(&c.queue)))
            .collect();
        let each = |f: fn(&Created, &Sighting, Option<QueueTimes>) -> Option<f64>| -> Vec<f64> {
            joined.iter().filter_map(|(c, s, q)| f(c, s, *q)).collect()
        };
        let late = joined.iter().filter(|(_, s, _)| s.ready.is_none());
        let mut failures: Vec<_> = late.map(|(c, s, _)| s.failure(&c.name)).collect();
        let more = failures.len().saturating_sub(NAMED_FAILURES);
        failures.truncate(NAMED_FAILURES);
        if more > 0 {
            failures.push(Failure::new("(others)", "NotReady", format!("{more} more jobs are not Ready")));
        }
        let last = joined.iter().map(|(_, s, _)| s.ready).max().flatten().filter(|_| failures.is_empty());
        Self {
            answers: each(|c, _, _| Some((c.answered - c.start).as_secs_f64())),
            queues: each(|c, _, q| Some(between(c.start, q?.created))),
            attached: each(|_, _, q| Some(between(q?.created, q?.consuming?.0))),
            operator_saw: each(|_, s, q| Some(wall_between(q?.consuming?.1, consumer_ready_at(s)?))),
            persisted: each(|_, s, q| Some(between(q?.consuming?.0, s.consumer?))),
            ready: each(|c, s, _| Some(between(c.start, s.ready?))),
            patched: kubelet.patch_seconds(),
            status: status_rows(
                joined.iter().filter_map(|(_, s, _)| Some(&s.status.as_ref()?.phase_seconds)),
            ),
            failures,
            jobs_per_second: last.map(|l| created.len() as f64 / between(start, l)),
        }
    }

    /// Enters them into the report.
    pub fn enter(self, report: &mut Report) {
        report.phases.extend([
            Row::new("create call -> answer", self.answers),
            Row::new("create call -> queue.created event", self.queues),
            Row::new("queue.created event -> consume-ok", self.attached),
            Row::new("consume-ok -> consumerReadyAt (operator's clock)", self.operator_saw),
            Row::new("consume-ok -> status with consumerReadyAt seen", self.persisted),
            Row::new("create call -> Ready seen", self.ready),
            Row::new("fake kubelet: pod seen -> patched Ready", self.patched),
        ]);
        report.phases.extend(self.status);
        report.failures.extend(self.failures);
        if let Some(rate) = self.jobs_per_second {
            report.fact("jobs/s from the first create to the last Ready", rate);
        }
    }
}

fn consumer_ready_at(sighting: &Sighting) -> Option<Timestamp> {
    Some(sighting.status.as_ref()?.timeline.consumer_ready_at.as_ref()?.0)
}

fn wall_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond() - from.as_microsecond()) as f64 / 1e6
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn wall_intervals_may_be_negative() {
        let at = |us| Timestamp::from_microsecond(us).unwrap();
        assert_eq!(wall_between(at(500_000), at(250_000)), -0.25);
    }
}
