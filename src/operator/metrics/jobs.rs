//! Gauges over all jobs, computed when they are scraped.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts};

use super::WAITING;
use crate::api::FocusJob;
use crate::api::conditions::{self, ANALYZER_READY, CONSUMER_READY, QUEUE_READY};
use crate::api::focusjob::JobPhase;
use crate::api::timeline::seconds_between;
use crate::operator::queue::Queue;

/// What any other reason is counted as: some are an analyzer's or a kubelet's own words.
const OTHER: &str = "Other";

/// What DeadlineExceeded is counted as for a consumer that had been there.
const LOST_FOR_GOOD: &str = "ConsumerOverdue";

/// Why a part of a job is not ready: the reasons of each condition that are counted by name.
const NOT_READY: [(&str, &[&str]); 3] = [
    (
        ANALYZER_READY,
        &[
            "Starting",
            "PoolNotFound",
            "PoolInvalid",
            "PodConflict",
            "PodRefused",
            "Unschedulable",
            "ImagePullBackOff",
            "CreateContainerConfigError",
            "DeadlineExceeded",
            "PodLost",
            "PodDeleted",
            "PodFailed",
            "AnalyzerFailed",
            "OOMKilled",
            "Evicted",
            OTHER,
        ],
    ),
    (QUEUE_READY, &["Declaring", "BrokerUnreachable", "QueueRefused", "DeadlineExceeded", OTHER]),
    (
        CONSUMER_READY,
        &[
            "WaitingForQueue",
            "NoConsumer",
            "ConsumerLost",
            "BrokerUnreachable",
            "DeadlineExceeded",
            LOST_FOR_GOOD,
            OTHER,
        ],
    ),
];

/// The gauges.
pub(super) struct JobGauges {
    jobs: Store<FocusJob>,
    queue: Queue,
    phases: IntGaugeVec,
    oldest: GaugeVec,
    not_ready: IntGaugeVec,
    depth: IntGauge,
}

impl JobGauges {
    pub(super) fn new(jobs: Store<FocusJob>, queue: Queue) -> prometheus::Result<Self> {
        let gauges =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        Ok(Self {
            jobs,
            queue,
            phases: gauges(
                "focus_jobs",
                "FocusJobs by phase. Pending: no status yet. Terminating: being deleted. No status ever has these two \
                 words.",
                &["phase"],
            )?,
            oldest: GaugeVec::new(
                Opts::new(
                    "focus_job_oldest_waiting_seconds",
                    "How long the job that has waited longest for its pod, queue or consumer has waited, or has been \
                     without a lost one; 0 when none is.",
                ),
                &["phase"],
            )?,
            not_ready: gauges(
                "focus_jobs_not_ready",
                "Running FocusJobs by the condition that is not True and its reason; Other: the word of an analyzer or \
                 a kubelet that has no count of its own, which the job's status tells; ConsumerOverdue: DeadlineExceeded \
                 of a consumer that had been there. A job is counted at each part that it lacks.",
                &["condition", "reason"],
            )?,
            depth: IntGauge::new(
                "focus_reconcile_queue_depth",
                "FocusJobs with news that no reconciliation has taken up yet; retries and deadlines that are not due \
                 are not counted.",
            )?,
        })
    }

    fn count_not_ready(&self, jobs: &[Arc<FocusJob>]) {
        let mut counts: HashMap<(&str, &str), i64> = HashMap::new();
        for job in jobs {
            not_ready(job).for_each(|part| *counts.entry(part).or_default() += 1);
        }
        for (condition, reasons) in NOT_READY {
            for reason in reasons {
                let count = counts.get(&(condition, *reason)).copied().unwrap_or(0);
                self.not_ready.with_label_values(&[condition, reason]).set(count);
            }
        }
    }
}

impl Collector for JobGauges {
    fn desc(&self) -> Vec<&Desc> {
        [self.phases.desc(), self.oldest.desc(), self.not_ready.desc(), self.depth.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Timestamp::now();
        let jobs = self.jobs.state();
        for phase in JobPhase::ALL {
            let count = jobs.iter().filter(|job| phase_of(job) == phase).count();
            self.phases.with_label_values(&[phase.as_str()]).set(gauge(count));
        }
        for phase in WAITING {
            let oldest = jobs.iter().filter_map(|job| waiting_seconds(job, phase, now)).fold(0.0, f64::max);
            self.oldest.with_label_values(&[phase]).set(oldest);
        }
        self.count_not_ready(&jobs);
        self.depth.set(gauge(self.queue.depth()));
        let all =
            [self.phases.collect(), self.oldest.collect(), self.not_ready.collect(), self.depth.collect()];
        all.concat()
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn phase_of(job: &FocusJob) -> JobPhase {
    if job.metadata.deletion_timestamp.is_some() {
        return JobPhase::Terminating;
    }
    job.status.as_ref().and_then(|status| status.phase).unwrap_or(JobPhase::Pending)
}

/// Whether `job` is to run: it has not ended and is not suspended.
fn is_to_run(job: &FocusJob) -> bool {
    match phase_of(job) {
        JobPhase::Pending | JobPhase::Starting | JobPhase::Ready | JobPhase::Degraded => true,
        JobPhase::Suspended | JobPhase::Finished | JobPhase::Failed | JobPhase::Terminating => false,
    }
}

/// Each part that `job` lacks, as condition and counted reason.
fn not_ready(job: &FocusJob) -> impl Iterator<Item = (&'static str, &'static str)> {
    let conditions =
        job.status.as_ref().filter(|_| is_to_run(job)).map_or(&[][..], |status| &status.conditions);
    NOT_READY.into_iter().filter_map(move |(type_, reasons)| {
        let condition = conditions::find(conditions, type_).filter(|condition| condition.status != "True")?;
        let had = job.status.as_ref().is_some_and(|status| status.timeline.consumer_ready_at.is_some());
        let said = match condition.reason.as_str() {
            "DeadlineExceeded" if had && type_ == CONSUMER_READY => LOST_FOR_GOOD,
            reason => reason,
        };
        Some((type_, reasons.iter().find(|reason| **reason == said).copied().unwrap_or(OTHER)))
    })
}

/// How long `job` has been waiting in `phase`, s; None: it is not.
fn waiting_seconds(job: &FocusJob, phase: &str, now: Timestamp) -> Option<f64> {
    if !is_to_run(job) {
        return None;
    }
    let type_ = match phase {
        "pod" => ANALYZER_READY,
        "queue" => QUEUE_READY,
        _ => CONSUMER_READY,
    };
    let status = job.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    if phase == "consumer" && !conditions::is_true(conditions, QUEUE_READY) {
        return None;
    }
    let since = match conditions::find(conditions, type_) {
        Some(condition) if condition.status == "True" => return None,
        // While it has never been True this is when it was first written, a moment after the job was accepted.
        Some(condition) => condition.last_transition_time.0,
        None => job.metadata.creation_timestamp.as_ref()?.0,
    };
    Some(seconds_between(since, now).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FocusJobStatus;
    use crate::api::conditions::Verdict;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn job(phase: Option<JobPhase>, verdicts: &[(&'static str, bool)]) -> FocusJob {
        let spec = serde_json::json!({"viewType": "SingleChannel", "channels": {"min": 1, "max": 1},
            "frequencyRange": {"min": 0, "max": 500}, "nfftSelection": 1024, "displayTimeAxisDuration": 10});
        let mut job = FocusJob::new("j", serde_json::from_value(spec).expect("a spec"));
        job.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let verdicts: Vec<Verdict> =
            verdicts.iter().map(|(type_, is)| Verdict::new(type_, *is, "R", "m")).collect();
        let since = Timestamp::from_second(10).expect("a time");
        job.status = phase.map(|phase| FocusJobStatus {
            phase: Some(phase),
            conditions: conditions::merge(&[], &verdicts, None, since),
            ..FocusJobStatus::default()
        });
        job
    }

    #[test]
    fn each_part_that_is_not_ready_is_counted_with_its_reason() {
        let store = |jobs: Vec<FocusJob>| {
            let (store, mut writer) = kube::runtime::reflector::store();
            for (index, mut job) in jobs.into_iter().enumerate() {
                job.metadata.name = Some(index.to_string());
                writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(job));
            }
            store
        };
        let mut blocked = job(Some(JobPhase::Starting), &[(ANALYZER_READY, false), (QUEUE_READY, true)]);
        let mut unknown = blocked.clone();
        for (job, reason) in [(&mut blocked, "Unschedulable"), (&mut unknown, "RecordingTooShort")] {
            job.status.as_mut().expect("a status").conditions[0].reason = reason.to_owned();
        }
        let mut finished = blocked.clone();
        finished.status.as_mut().expect("a status").phase = Some(JobPhase::Finished);
        let mut never = job(Some(JobPhase::Starting), &[(CONSUMER_READY, false)]);
        let mut gone = job(Some(JobPhase::Degraded), &[(CONSUMER_READY, false)]);
        for job in [&mut never, &mut gone] {
            job.status.as_mut().expect("a status").conditions[0].reason = "DeadlineExceeded".to_owned();
        }
        let timeline = &mut gone.status.as_mut().expect("a status").timeline;
        timeline.consumer_ready_at = Some(crate::api::timeline::micro(Timestamp::UNIX_EPOCH));
        let jobs = vec![blocked.clone(), blocked, unknown, finished, never, gone, job(None, &[])];
        let gauges = JobGauges::new(store(jobs), Queue::default()).expect("gauges");
        gauges.collect();
        for (condition, reason, count) in [
            (ANALYZER_READY, "Unschedulable", 2),
            (ANALYZER_READY, OTHER, 1),
            (ANALYZER_READY, "Starting", 0),
            (QUEUE_READY, "Declaring", 0),
            (CONSUMER_READY, "DeadlineExceeded", 1),
            (CONSUMER_READY, LOST_FOR_GOOD, 1),
        ] {
            assert_eq!(
                gauges.not_ready.with_label_values(&[condition, reason]).get(),
                count,
                "{condition} {reason}"
            );
        }
    }

    /// The words in `source` that follow `before` in quotation marks, however the lines are broken.
    fn quoted_after(source: &str, before: &str) -> Vec<String> {
        let text = source.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
        let before = format!("{before}\"");
        let words = text.split(before.as_str()).skip(1);
        words.filter_map(|rest| rest.split_once('"').map(|(word, _)| word.to_owned())).collect()
    }

    #[test]
    fn every_reason_of_the_operator_s_own_is_counted_by_name() {
        let (analyzer, parts) = (include_str!("../plan/analyzer.rs"), include_str!("../plan/verdicts.rs"));
        let of = |type_: &str| NOT_READY.iter().find(|(of, _)| *of == type_).expect("counted").1;
        let either = [of(QUEUE_READY), of(CONSUMER_READY)].concat();
        for (source, before, counted, known) in [
            (analyzer, "Decision::waiting(old, ", of(ANALYZER_READY), "PodRefused"),
            (analyzer, "verdict(false, ", of(ANALYZER_READY), "Starting"),
            (parts, "not(", &either, "QueueRefused"),
        ] {
            let own = quoted_after(source, before);
            assert!(own.iter().any(|reason| reason == known), "{before}: {own:?}");
            for reason in own {
                assert!(counted.contains(&reason.as_str()), "{reason}");
            }
        }
    }

    #[test]
    fn whoever_waits_is_seen() {
        let now = Timestamp::from_second(30).expect("a time");
        let lost = [(ANALYZER_READY, true), (QUEUE_READY, true), (CONSUMER_READY, false)];
        let no_queue = [(ANALYZER_READY, false), (QUEUE_READY, false), (CONSUMER_READY, false)];
        for (what, job, pod, queue, consumer) in [
            ("not taken up", job(None, &[]), Some(30.0), Some(30.0), None),
            ("starting", job(Some(JobPhase::Starting), &no_queue), Some(20.0), Some(20.0), None),
            ("degraded", job(Some(JobPhase::Degraded), &lost), None, None, Some(20.0)),
            ("suspended", job(Some(JobPhase::Suspended), &no_queue), None, None, None),
            ("failed", job(Some(JobPhase::Failed), &no_queue), None, None, None),
        ] {
            let waited = ["pod", "queue", "consumer"].map(|phase| waiting_seconds(&job, phase, now));
            assert_eq!(waited, [pod, queue, consumer], "{what}");
        }
    }
}
