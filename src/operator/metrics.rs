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
use crate::api::focusjob::{AnalyzerStart, JobPhase};
use crate::api::timeline::{PhaseSeconds, Timeline, seconds_between};
use crate::broker::connection::BrokerMetrics;

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
                    "Kubernetes Events published, or dropped because too many waited.",
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
            broker: broker()?,
            registry,
        };
        metrics.register()?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let build = IntGaugeVec::new(
            Opts::new("focus_build_info", "1, labelled with what runs."),
            &["version", "role"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), "operator"]).set(1);
        let all: [Box<dyn Collector>; 12] = [
            Box::new(self.phases.clone()),
            Box::new(self.reconciles.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.active.clone()),
            Box::new(self.api_writes.clone()),
            Box::new(self.events.clone()),
            Box::new(self.deadlines.clone()),
            Box::new(self.broker.connected.clone()),
            Box::new(self.broker.mode.clone()),
            Box::new(self.broker.lag.clone()),
            Box::new(build),
        ];
        all.into_iter().try_for_each(|metric| self.registry.register(metric))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))
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

/// How long `job` has been waiting in `phase`; None: it is not.
fn waiting_seconds(job: &FocusJob, phase: &str, now: Timestamp) -> Option<f64> {
    if !matches!(phase_of(job), JobPhase::Pending | JobPhase::Starting) {
        return None;
    }
    let Timeline { accepted_at, pod_ready_at, queue_ready_at, consumer_ready_at, .. } =
        job.status.clone()?.timeline;
    let (from, to) = match phase {
        "pod" => (accepted_at, pod_ready_at),
        "queue" => (accepted_at, queue_ready_at),
        _ => (queue_ready_at, consumer_ready_at),
    };
    if to.is_some() { None } else { Some(seconds_between(from?.0, now)) }
}
