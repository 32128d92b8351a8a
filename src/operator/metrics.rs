//! The operator's metrics. No object names among the labels; every label set starts at zero.

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::error::Error;
use crate::api::FocusJob;
use crate::api::conditions::{self, ANALYZER_READY, CONSUMER_READY, QUEUE_READY};
use crate::api::focusjob::{AnalyzerStart, JobPhase};
use crate::api::timeline::{PhaseSeconds, seconds_between};
use crate::broker::follow::BrokerMetrics;
use crate::telemetry;

/// From 1 ms to 30 s; 5, 20, 50 and 300 ms and 1 s are thresholds of service level objectives.
pub const PHASE_BUCKETS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];

/// Every kind of write that the operator makes.
const WRITES: [(&str, &str); 5] = [
    ("patch", "focusjobs"),
    ("delete", "focusjobs"),
    ("update", "focusjobs/status"),
    ("create", "pods"),
    ("delete", "pods"),
];
/// The phases in which a job can be waiting.
const WAITING: [&str; 3] = ["pod", "queue", "consumer"];
const EVENTS: [&str; 2] = ["published", "dropped"];

/// Every metric of the operator.
#[derive(Clone)]
pub struct Metrics {
    /// What `/metrics` shows.
    pub registry: Registry,
    /// How long each phase of a job took.
    pub phases: HistogramVec,
    /// Reconciliations done.
    pub reconciles: IntCounter,
    /// Reconciliations failed.
    pub errors: IntCounterVec,
    /// How long one took.
    pub duration: Histogram,
    /// How many are under way.
    pub active: IntGauge,
    /// Writes to the API server.
    pub api_writes: IntCounterVec,
    /// Kubernetes Events.
    pub events: IntCounterVec,
    /// Deadlines passed.
    pub deadlines: IntCounterVec,
    /// Whether this operator leads.
    pub leader: IntGauge,
    /// The broker's part.
    pub broker: BrokerMetrics,
}

impl Metrics {
    /// Makes and registers every metric.
    ///
    /// # Errors
    /// When a metric is registered twice.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            phases: HistogramVec::new(
                HistogramOpts::new(
                    "focus_job_phase_duration_seconds",
                    "How long each phase of a FocusJob took, s.",
                )
                .buckets(PHASE_BUCKETS.to_vec()),
                &["phase", "start"],
            )?,
            reconciles: IntCounter::new("focus_reconciles_total", "Reconciliations done.")?,
            errors: IntCounterVec::new(
                Opts::new("focus_reconcile_errors_total", "Reconciliations that failed, by reason."),
                &["reason"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new("focus_reconcile_duration_seconds", "How long a reconciliation took, s.")
                    .buckets(PHASE_BUCKETS.to_vec()),
            )?,
            active: IntGauge::new("focus_reconciles_active", "Reconciliations under way.")?,
            api_writes: IntCounterVec::new(
                Opts::new("focus_api_writes_total", "Writes to the API server, by verb and resource."),
                &["verb", "resource"],
            )?,
            events: IntCounterVec::new(
                Opts::new(
                    "focus_events_total",
                    "Kubernetes Events published, or dropped because too many waited or the API server refused.",
                ),
                &["outcome"],
            )?,
            deadlines: IntCounterVec::new(
                Opts::new(
                    "focus_job_deadline_exceeded_total",
                    "Times that a phase did not end within its deadline.",
                ),
                &["phase"],
            )?,
            leader: IntGauge::new(
                "focus_operator_leader",
                "1 while this operator leads and reconciles, 0 while it stands by.",
            )?,
            broker: broker()?,
            registry,
        };
        metrics.register()?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Whether so many jobs are being reconciled that they wait for each other.
    pub fn crowded(&self) -> bool {
        self.active.get() >= super::CROWD
    }

    fn register(&self) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 12] = [
            Box::new(self.phases.clone()),
            Box::new(self.reconciles.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.active.clone()),
            Box::new(self.api_writes.clone()),
            Box::new(self.events.clone()),
            Box::new(self.deadlines.clone()),
            Box::new(self.leader.clone()),
            Box::new(self.broker.connected.clone()),
            Box::new(self.broker.mode.clone()),
            Box::new(self.broker.lag.clone()),
        ];
        all.into_iter().try_for_each(|metric| self.registry.register(metric))?;
        telemetry::describe_process(&self.registry, "operator")
    }

    fn start_at_zero(&self) {
        for (phase, _) in PhaseSeconds::default().named() {
            for start in [AnalyzerStart::Cold, AnalyzerStart::Warm] {
                self.phases.with_label_values(&[phase, start.as_str()]);
            }
        }
        Error::REASONS.iter().for_each(|reason| drop(self.errors.with_label_values(&[reason])));
        WRITES.iter().for_each(|(verb, resource)| drop(self.api_writes.with_label_values(&[verb, resource])));
        EVENTS.iter().for_each(|outcome| drop(self.events.with_label_values(&[outcome])));
        WAITING.iter().for_each(|phase| drop(self.deadlines.with_label_values(&[phase])));
        ["events", "polling"].iter().for_each(|mode| drop(self.broker.mode.with_label_values(&[mode])));
    }

    /// Observes the phases that ended between `old` and `new`.
    pub fn observe_phases(&self, old: &PhaseSeconds, new: &PhaseSeconds, start: AnalyzerStart) {
        for ((phase, before), (_, after)) in old.named().into_iter().zip(new.named()) {
            if let (None, Some(seconds)) = (before, after) {
                self.phases.with_label_values(&[phase, start.as_str()]).observe(seconds);
            }
        }
    }

    /// Adds the gauges that are read off the watch's store at each scrape.
    ///
    /// # Errors
    /// When they are registered twice.
    pub fn watch_jobs(&self, jobs: Store<FocusJob>) -> prometheus::Result<()> {
        self.registry.register(Box::new(JobGauges::new(jobs)?))
    }
}

fn broker() -> prometheus::Result<BrokerMetrics> {
    Ok(BrokerMetrics {
        connected: IntGauge::new("focus_broker_connected", "1 while the broker is connected.")?,
        mode: IntGaugeVec::new(
            Opts::new("focus_consumer_detection_mode", "1 for the mode in which consumers are detected."),
            &["mode"],
        )?,
        lag: Histogram::with_opts(
            HistogramOpts::new(
                "focus_consumer_detection_lag_seconds",
                "From the broker's time of an event to its arrival here, s; the broker's clock has whole milliseconds.",
            )
            .buckets(PHASE_BUCKETS.to_vec()),
        )?,
    })
}

/// Gauges over all jobs, computed when they are scraped.
struct JobGauges {
    jobs: Store<FocusJob>,
    phases: IntGaugeVec,
    oldest: GaugeVec,
}

impl JobGauges {
    fn new(jobs: Store<FocusJob>) -> prometheus::Result<Self> {
        let phases = IntGaugeVec::new(Opts::new("focus_jobs", "FocusJobs, by phase."), &["phase"])?;
        let oldest = GaugeVec::new(
            Opts::new(
                "focus_job_oldest_waiting_seconds",
                "How long the job that has waited longest in a phase has waited, s; 0 when none does.",
            ),
            &["phase"],
        )?;
        Ok(Self { jobs, phases, oldest })
    }
}

impl Collector for JobGauges {
    fn desc(&self) -> Vec<&Desc> {
        [self.phases.desc(), self.oldest.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Timestamp::now();
        let jobs = self.jobs.state();
        for phase in JobPhase::ALL {
            let count = jobs.iter().filter(|job| phase_of(job) == phase).count();
            self.phases.with_label_values(&[phase.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for phase in WAITING {
            let oldest = jobs.iter().filter_map(|job| waiting_seconds(job, phase, now)).fold(0.0, f64::max);
            self.oldest.with_label_values(&[phase]).set(oldest);
        }
        [self.phases.collect(), self.oldest.collect()].concat()
    }
}

fn phase_of(job: &FocusJob) -> JobPhase {
    if job.metadata.deletion_timestamp.is_some() {
        return JobPhase::Terminating;
    }
    job.status.as_ref().and_then(|status| status.phase).unwrap_or(JobPhase::Pending)
}

/// How long `job` has been waiting in `phase`, s; None: it is not.
fn waiting_seconds(job: &FocusJob, phase: &str, now: Timestamp) -> Option<f64> {
    if matches!(
        phase_of(job),
        JobPhase::Suspended | JobPhase::Finished | JobPhase::Failed | JobPhase::Terminating
    ) {
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
