//! The operator's metrics. No object names among the labels; every label set starts at zero. `focus metrics` makes
//! the reference in docs/metrics.md of what stands here.

mod calls;
mod ended;
mod jobs;
mod status;

use kube::runtime::reflector::Store;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

pub use calls::{
    ApiCalls, CREATE_POD, Call, DELETE_JOB, DELETE_POD, GET_POD, Outcome, PATCH_JOB, UPDATE_STATUS,
};

use super::error::Error;
use super::queue::Queue;
use crate::api::FocusJob;
use crate::api::focusjob::AnalyzerStart;
use crate::api::timeline::PhaseSeconds;
use crate::broker::follow::BrokerMetrics;
use crate::telemetry::{self, register};

/// From 1 ms to 30 s; 5, 20, 50 and 300 ms and 1 s are thresholds of service level objectives.
pub const PHASE_BUCKETS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];

/// The phases in which a job can be waiting.
const WAITING: [&str; 3] = ["pod", "queue", "consumer"];
const EVENTS: [&str; 2] = ["published", "dropped"];

/// Every metric of the operator.
#[derive(Clone)]
pub struct Metrics {
    /// What `/metrics` shows.
    pub registry: Registry,
    /// Reconciliations done.
    pub reconciles: IntCounter,
    /// Reconciliations failed.
    pub errors: IntCounterVec,
    /// How long one took.
    pub duration: Histogram,
    /// How many are under way.
    pub active: IntGauge,
    /// Calls of the API server.
    pub api: ApiCalls,
    /// Kubernetes Events.
    pub events: IntCounterVec,
    /// Whether this operator leads.
    pub leader: IntGauge,
    /// The broker's part.
    pub broker: BrokerMetrics,
    phases: HistogramVec,
    deadlines: IntCounterVec,
    losses: IntCounterVec,
    ends: IntCounterVec,
}

impl Metrics {
    /// Makes and registers every metric.
    ///
    /// # Errors
    /// When a metric is registered twice.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
        };
        let buckets = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(PHASE_BUCKETS.to_vec());
        let metrics = Self {
            phases: register(
                &registry,
                HistogramVec::new(
                    buckets(
                        "focus_job_phase_duration_seconds",
                        "How long each phase of a FocusJob took; counted once a job, when the status that says so has \
                         been written. Every start is Cold today.",
                    ),
                    &["phase", "start"],
                )?,
            )?,
            reconciles: register(
                &registry,
                IntCounter::new("focus_reconciles_total", "Reconciliations done, well or badly.")?,
            )?,
            errors: counters(
                "focus_reconcile_errors_total",
                "Reconciliations that failed. Conflict is harmless: a newer version was there.",
                "reason",
            )?,
            duration: register(
                &registry,
                Histogram::with_opts(buckets(
                    "focus_reconcile_duration_seconds",
                    "How long a reconciliation took.",
                ))?,
            )?,
            active: register(
                &registry,
                IntGauge::new("focus_reconciles_active", "Reconciliations under way.")?,
            )?,
            api: ApiCalls::new(&registry)?,
            events: counters(
                "focus_events_total",
                "Kubernetes Events published, or dropped because too many waited or publishing failed.",
                "outcome",
            )?,
            deadlines: counters(
                "focus_job_deadline_exceeded_total",
                "Times that a phase of a FocusJob did not end within its deadline: its condition turned to \
                 DeadlineExceeded.",
                "phase",
            )?,
            losses: counters(
                "focus_job_consumers_lost_total",
                "Consumers that were attached to a FocusJob's queue and went away (lost), and of them those that did \
                 not come back within the job's deadline (overdue).",
                "outcome",
            )?,
            ends: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "focus_jobs_ended_total",
                        "FocusJobs that ended by themselves; those that were deleted before are not counted. InvalidView: \
                         the source cannot give the view, in the operator's words or in an analyzer's; Other: any other \
                         word, which the job's status tells.",
                    ),
                    &["outcome", "reason"],
                )?,
            )?,
            leader: register(
                &registry,
                IntGauge::new(
                    "focus_operator_leader",
                    "1 while this operator leads and reconciles, 0 while it stands by; always 1 without leader \
                     election. Standing by, it shows the gauges over all jobs too: take their max over the replicas, \
                     not the sum.",
                )?,
            )?,
            broker: BrokerMetrics::new(&registry)?,
            registry: registry.clone(),
        };
        telemetry::describe_process(&registry, "operator")?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Whether so many jobs are being reconciled that they wait for each other.
    pub fn crowded(&self) -> bool {
        self.active.get() >= super::CROWD
    }

    fn start_at_zero(&self) {
        for (phase, _) in PhaseSeconds::default().named() {
            for start in [AnalyzerStart::Cold, AnalyzerStart::Warm] {
                self.phases.with_label_values(&[phase, start.as_str()]);
            }
        }
        Error::REASONS.iter().for_each(|reason| drop(self.errors.with_label_values(&[reason])));
        EVENTS.iter().for_each(|outcome| drop(self.events.with_label_values(&[outcome])));
        WAITING.iter().for_each(|phase| drop(self.deadlines.with_label_values(&[phase])));
        status::LOSSES.iter().for_each(|outcome| drop(self.losses.with_label_values(&[outcome])));
        for (outcome, reasons) in ended::ENDS {
            reasons.iter().for_each(|reason| drop(self.ends.with_label_values(&[outcome, reason])));
        }
    }

    /// Adds the gauges that are read off the watch's store, and off the queue of what is to be reconciled, at each
    /// scrape.
    ///
    /// # Errors
    /// When they are registered twice.
    pub fn watch_jobs(&self, jobs: Store<FocusJob>, queue: Queue) -> prometheus::Result<()> {
        self.registry.register(Box::new(jobs::JobGauges::new(jobs, queue)?))
    }
}
