//! The metrics of the job store.

use std::time::Instant;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use super::outbox::Lost;

/// Bounds of the histogram, s.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What is asked of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Connecting, and making sure of the indexes.
    Prepare,
    /// Storing a job before it is made.
    Claim,
    /// Writing a job's changes.
    Write,
    /// Removing the record of a job that was not made.
    Discard,
    /// Looking for records whose FocusJob is gone.
    Sweep,
    /// Reading for `GET /history`.
    History,
}

impl Operation {
    const ALL: [Operation; 6] = [
        Operation::Prepare,
        Operation::Claim,
        Operation::Write,
        Operation::Discard,
        Operation::Sweep,
        Operation::History,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Operation::Prepare => "prepare",
            Operation::Claim => "claim",
            Operation::Write => "write",
            Operation::Discard => "discard",
            Operation::Sweep => "sweep",
            Operation::History => "history",
        }
    }
}

/// The metrics of the MongoDB store; the Kubernetes store has none.
#[derive(Clone)]
pub struct StoreMetrics {
    seconds: HistogramVec,
    errors: IntCounterVec,
    lost: IntCounterVec,
    /// Jobs with changes that are not written yet.
    pub waiting: IntGauge,
    /// 1 while the database is reached.
    pub connected: IntGauge,
}

impl StoreMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramOpts::new(
            "focus_server_store_seconds",
            "Operations of the database, well or badly ended. The store metrics are there only with --mongodb-uri.",
        );
        let errors = Opts::new(
            "focus_server_store_errors_total",
            "Operations of the database that failed; a window or id that is taken is no failure.",
        );
        let lost = Opts::new(
            "focus_server_store_dropped_total",
            "Changes of jobs that will not be in the database. full: too many jobs wait; change: a job changed too often \
             meanwhile; refused: the database refused it five times.",
        );
        let metrics = Self {
            seconds: HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["operation"])?,
            errors: IntCounterVec::new(errors, &["operation"])?,
            lost: IntCounterVec::new(lost, &["reason"])?,
            waiting: IntGauge::new(
                "focus_server_store_waiting_jobs",
                "Jobs with changes that are not in the database yet; a change lingers for up to a second.",
            )?,
            connected: IntGauge::new("focus_server_store_connected", "1 while the database is reached.")?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.lost.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.connected.clone()))?;
        for operation in Operation::ALL {
            metrics.seconds.with_label_values(&[operation.as_str()]);
            metrics.errors.with_label_values(&[operation.as_str()]);
        }
        Lost::ALL.iter().for_each(|cause| metrics.lost(*cause, 0));
        Ok(metrics)
    }

    /// Counts an operation that began at `begun`.
    pub fn done(&self, operation: Operation, begun: Instant, well: bool) {
        self.seconds.with_label_values(&[operation.as_str()]).observe(begun.elapsed().as_secs_f64());
        if !well {
            self.errors.with_label_values(&[operation.as_str()]).inc();
        }
    }

    /// Counts changes that will not be written.
    pub fn lost(&self, cause: Lost, count: u64) {
        self.lost.with_label_values(&[cause.as_str()]).inc_by(count);
    }
}
