//! What the analyzer counts. No label names a job: the scraper knows the pod.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use crate::telemetry::{self, register};

/// The analyzer's metrics; clones count together.
#[derive(Clone)]
pub struct Metrics {
    /// Lines that the broker has confirmed.
    pub published: IntCounter,
    /// Lines that were given up because the broker was away or slow, or the processor too slow.
    pub dropped: IntCounter,
    /// The part of `dropped` that was never computed because the processor was too slow.
    pub skipped: IntCounter,
    /// Attempts to reach the broker after the first.
    pub reconnects: IntCounter,
    /// Bytes of lines that wait for the broker.
    pub waiting_bytes: IntGauge,
    /// Time to compute a line, s.
    pub compute: Histogram,
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// When two metrics have the same name, which is a mistake in this file.
    pub fn new() -> prometheus::Result<(Self, Registry)> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let metrics = Self {
            published: counter("focus_analyzer_lines_published_total", "Lines that the broker confirmed.")?,
            dropped: counter(
                "focus_analyzer_lines_dropped_total",
                "Lines given up because the broker was away or slow, or the processor too slow.",
            )?,
            skipped: counter(
                "focus_analyzer_lines_skipped_total",
                "The part of focus_analyzer_lines_dropped_total that the processor was too slow for.",
            )?,
            reconnects: counter(
                "focus_analyzer_reconnects_total",
                "Attempts to reach the broker after the first.",
            )?,
            waiting_bytes: register(
                &registry,
                IntGauge::new("focus_analyzer_waiting_bytes", "Bytes of lines that wait for the broker.")?,
            )?,
            compute: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "focus_analyzer_line_compute_seconds",
                        "How long a line took to compute.",
                    )
                    .buckets(vec![1e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0]),
                )?,
            )?,
        };
        telemetry::describe_process(&registry, "analyzer")?;
        Ok((metrics, registry))
    }
}
