//! What the connection tells the metrics.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::broker::queues::QueueError;
use crate::telemetry::register;

/// Bounds of the histograms, s: the broker answers within milliseconds, and is given 5 s.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// How consumers are detected.
const MODES: [&str; 2] = ["events", "polling"];

/// What is asked of the broker about one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Declaring it.
    Declare,
    /// Looking at it, twice when no consumer is found.
    Look,
    /// Deleting it.
    Delete,
}

impl Operation {
    const ALL: [Operation; 3] = [Operation::Declare, Operation::Look, Operation::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Operation::Declare => "declare",
            Operation::Look => "look",
            Operation::Delete => "delete",
        }
    }
}

/// What came of it, as the label `outcome` says it.
const OUTCOMES: [&str; 4] = ["ok", "unreachable", "timeout", "refused"];

fn outcome<T>(answer: &Result<T, QueueError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(QueueError::Unreachable { .. }) => "unreachable",
        Err(QueueError::TimedOut { .. }) => "timeout",
        Err(QueueError::Refused { .. }) => "refused",
    }
}

/// The metrics of one connection.
#[derive(Clone)]
pub struct BrokerMetrics {
    /// 1 while connected.
    pub connected: IntGauge,
    /// From the broker's time of a consumer event to ours, s.
    pub lag: Histogram,
    mode: IntGaugeVec,
    operations: HistogramVec,
}

impl BrokerMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let metrics = Self {
            connected: register(
                registry,
                IntGauge::new("focus_broker_connected", "1 while the broker is connected.")?,
            )?,
            mode: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "focus_consumer_detection_mode",
                        "1 for the mode of the last connection; polling means that the broker's events cannot be read.",
                    ),
                    &["mode"],
                )?,
            )?,
            lag: register(
                registry,
                Histogram::with_opts(histogram(
                    "focus_consumer_detection_lag_seconds",
                    "From the broker's time of an event to its arrival; the broker's clock has whole milliseconds.",
                ))?,
            )?,
            operations: register(
                registry,
                HistogramVec::new(
                    histogram(
                        "focus_broker_operation_seconds",
                        "How long the broker took to do what was asked about a queue, or to fail; a look at a queue \
                         without consumers reads it twice.",
                    ),
                    &["operation", "outcome"],
                )?,
            )?,
        };
        MODES.iter().for_each(|mode| drop(metrics.mode.with_label_values(&[mode])));
        for operation in Operation::ALL {
            OUTCOMES.iter().for_each(|outcome| {
                drop(metrics.operations.with_label_values(&[operation.as_str(), outcome]));
            });
        }
        Ok(metrics)
    }

    /// Shows whether consumers are seen by events.
    pub(super) fn show_mode(&self, mode: &str) {
        for name in MODES {
            self.mode.with_label_values(&[name]).set(i64::from(name == mode));
        }
    }

    /// Counts an operation that began at `begun` and was answered with `answer`.
    pub(super) fn answered<T>(&self, operation: Operation, begun: Instant, answer: &Result<T, QueueError>) {
        let seconds = begun.elapsed().as_secs_f64();
        self.operations.with_label_values(&[operation.as_str(), outcome(answer)]).observe(seconds);
    }
}
