//! The server's metrics. No label names an object; every label set starts at zero.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Bounds of the histograms, s: 1 ms to 30 s.
const BUCKETS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0,
    30.0,
];

/// Why a line was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A gap in the numbers of the lines: the broker or the analyzer dropped them.
    Gap,
    /// Pushed out before the display's time by the limit on a job's memory.
    Memory,
    /// No frame, or not a line of the view's size.
    Malformed,
}

impl Dropped {
    const ALL: [Dropped; 3] = [Dropped::Gap, Dropped::Memory, Dropped::Malformed];

    fn as_str(self) -> &'static str {
        match self {
            Dropped::Gap => "gap",
            Dropped::Memory => "memory",
            Dropped::Malformed => "malformed",
        }
    }
}

/// Routes and the codes that they answer.
const ANSWERS: [(&str, &[&str]); 5] = [
    ("ack", &["200"]),
    ("configure", &["200", "400", "404", "413", "422", "429", "503"]),
    ("metadata", &["200", "400", "404", "503"]),
    ("waterfall", &["200", "201", "208", "400", "404", "503"]),
    ("job", &["200", "403", "404", "503"]),
];

/// All metrics.
#[derive(Clone)]
pub struct Metrics {
    /// From the request's arrival to the answer of a `/configure` that made a job, s.
    pub configure: Histogram,
    /// From the request's arrival to the job's first consume-ok, s.
    pub to_consumer: Histogram,
    /// From the request's arrival to the job's first line, s.
    pub to_first_line: Histogram,
    /// Consumers that are attached to a queue.
    pub consumers: IntGauge,
    /// Lines received.
    pub lines: IntCounter,
    dropped: IntCounterVec,
    requests: IntCounterVec,
    /// 1 while the broker is connected.
    pub broker_connected: IntGauge,
    /// 1 while news of queues come by events, 0 while the server asks again and again.
    pub broker_events: IntGauge,
}

impl Metrics {
    /// Makes and registers all metrics.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            configure: histogram(
                registry,
                "focus_server_configure_seconds",
                "Time from the arrival of a configure request to its answer, for requests that made a job.",
            )?,
            to_consumer: histogram(
                registry,
                "focus_server_configure_to_consumer_seconds",
                "Time from the arrival of a configure request to the job's first consumer.",
            )?,
            to_first_line: histogram(
                registry,
                "focus_server_configure_to_first_line_seconds",
                "Time from the arrival of a configure request to the job's first line.",
            )?,
            consumers: register(
                registry,
                IntGauge::new("focus_server_consumers", "Consumers that are attached to a queue.")?,
            )?,
            lines: register(registry, IntCounter::new("focus_server_lines_total", "Lines received.")?)?,
            dropped: register(
                registry,
                IntCounterVec::new(
                    Opts::new("focus_server_lines_dropped_total", "Lines lost, by cause."),
                    &["reason"],
                )?,
            )?,
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new("focus_server_http_requests_total", "Requests answered, by route and code."),
                    &["route", "code"],
                )?,
            )?,
            broker_connected: register(
                registry,
                IntGauge::new("focus_server_broker_connected", "1 while the broker is connected.")?,
            )?,
            broker_events: register(
                registry,
                IntGauge::new(
                    "focus_server_broker_events",
                    "1 while the broker's events tell of new queues, 0 while the server has to ask.",
                )?,
            )?,
        };
        Dropped::ALL.iter().for_each(|reason| metrics.drop_lines(*reason, 0));
        for (route, codes) in ANSWERS {
            codes.iter().for_each(|code| metrics.requests.with_label_values(&[route, *code]).inc_by(0));
        }
        Ok(metrics)
    }

    /// Counts `count` lines lost.
    pub fn drop_lines(&self, reason: Dropped, count: u64) {
        self.dropped.with_label_values(&[reason.as_str()]).inc_by(count);
    }

    /// Counts a request answered with `code`.
    pub fn answered(&self, route: &'static str, code: u16) {
        self.requests.with_label_values(&[route, code.to_string().as_str()]).inc();
    }
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?)
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_start_at_zero() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).expect("fresh registry");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for line in [
            "focus_server_lines_dropped_total{reason=\"gap\"} 0",
            "focus_server_http_requests_total{code=\"404\",route=\"metadata\"} 0",
            "focus_server_consumers 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
