//! The server's metrics. No label names an object; every label set starts at zero.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::stream::fan::Counts;
use crate::broker::consume::ConsumeMetrics;
use crate::telemetry::register;

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
    /// Pushed out before the display's time by the limit on the memory of a job, or of all.
    Memory,
    /// No frame, or not a line of the view's size.
    Malformed,
    /// A reader of a stream was too slow: that reader alone lost it.
    SlowReader,
}

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderKind {
    /// `StreamData`.
    Grpc,
    /// `GET /stream/{job_id}`.
    WebSocket,
}

impl ReaderKind {
    const ALL: [ReaderKind; 2] = [ReaderKind::Grpc, ReaderKind::WebSocket];

    fn as_str(self) -> &'static str {
        match self {
            ReaderKind::Grpc => "grpc",
            ReaderKind::WebSocket => "websocket",
        }
    }
}

impl Dropped {
    const ALL: [Dropped; 4] = [Dropped::Gap, Dropped::Memory, Dropped::Malformed, Dropped::SlowReader];

    fn as_str(self) -> &'static str {
        match self {
            Dropped::Gap => "gap",
            Dropped::Memory => "memory",
            Dropped::Malformed => "malformed",
            Dropped::SlowReader => "slow_reader",
        }
    }
}

/// What is asked for, as the label `route` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route(&'static str);

/// Paths as the router has them, their routes, and the codes that these answer.
const ROUTES: [(&str, &str, &[&str]); 13] = [
    ("/focus-server/ack", "ack", &["200"]),
    ("/focus-server/channels", "channels", &["200", "503"]),
    ("/focus-server/live_metadata", "live_metadata", &["200", "503"]),
    ("/focus-server/recordings_in_time_range", "recordings", &["200", "400", "422", "503"]),
    (
        "/focus-server/configure",
        "configure",
        &["200", "400", "404", "408", "413", "422", "429", "500", "503"],
    ),
    ("/focus-server/metadata/{job_id}", "metadata", &["200", "400", "404", "503"]),
    (
        "/focus-server/waterfall/{job_id}/{row_count}",
        "waterfall",
        &["200", "201", "208", "400", "404", "503"],
    ),
    ("/focus-server/job/{job_id}", "job", &["200", "403", "404", "503"]),
    ("/focus-server/jobs", "jobs", &["200", "400", "503"]),
    ("/focus-server/jobs/{job_id}", "job_details", &["200", "404", "503"]),
    ("/focus-server/jobs/{job_id}/events", "events", &["200", "204", "404", "503"]),
    ("/focus-server/history", "history", &["200", "400", "501", "503"]),
    ("/focus-server/stream/{job_id}", "stream", &["101", "400", "404", "503"]),
];

impl Route {
    /// The route of a path of the router's; None: no path of it matched.
    pub fn of(path: Option<&str>) -> Self {
        let known = ROUTES.iter().find(|(known, _, _)| path == Some(known)).map(|(_, route, _)| *route);
        Self(known.unwrap_or("other"))
    }
}

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
    /// Of these, lines that had come before.
    pub repeated_lines: IntCounter,
    /// Bytes of the lines that are kept.
    pub line_bytes: IntGauge,
    dropped: IntCounterVec,
    readers: IntGaugeVec,
    reader_lines: IntCounterVec,
    requests: IntCounterVec,
    recordings: IntGaugeVec,
    /// Looks at the folder of recordings that failed.
    pub recording_scan_failures: IntCounter,
    /// The connection to the broker.
    pub broker: ConsumeMetrics,
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
                "From a configure request's arrival to its answer, where it made a job.",
            )?,
            to_consumer: histogram(
                registry,
                "focus_server_configure_to_consumer_seconds",
                "From a configure request's arrival to the job's first consumer; only of jobs that this process \
                 configured.",
            )?,
            to_first_line: histogram(
                registry,
                "focus_server_configure_to_first_line_seconds",
                "From a configure request's arrival to the job's first line; only of jobs that this process configured.",
            )?,
            consumers: register(
                registry,
                IntGauge::new("focus_server_consumers", "Consumers that are attached to a queue.")?,
            )?,
            lines: register(
                registry,
                IntCounter::new("focus_server_lines_total", "Lines received, repeated ones included.")?,
            )?,
            repeated_lines: register(
                registry,
                IntCounter::new(
                    "focus_server_lines_repeated_total",
                    "Lines that the broker delivered again although they had been taken: nothing is lost.",
                )?,
            )?,
            line_bytes: register(
                registry,
                IntGauge::new(
                    "focus_server_lines_bytes",
                    "Bytes of the lines that are kept, of all jobs; the limit is 60 % of --memory.",
                )?,
            )?,
            dropped: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "focus_server_lines_dropped_total",
                        "Lines lost. gap: never came; memory: pushed out by the limit on the memory of a job, or of all; malformed: not \
                         readable; slow_reader: a reader of a stream was too slow for them, counted once for each such \
                         reader.",
                    ),
                    &["reason"],
                )?,
            )?,
            readers: register(
                registry,
                IntGaugeVec::new(
                    Opts::new("focus_server_stream_readers", "Readers of streams that are connected."),
                    &["kind"],
                )?,
            )?,
            reader_lines: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "focus_server_stream_lines_total",
                        "Lines given to readers of streams, counted once for each reader.",
                    ),
                    &["kind"],
                )?,
            )?,
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "focus_server_http_requests_total",
                        "Requests answered; other: every path that is not under /focus-server or does not exist.",
                    ),
                    &["route", "code"],
                )?,
            )?,
            recordings: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "focus_server_recordings",
                        "HDF5 files in the folder of recordings: those that historic views can be made of, and those \
                         that are damaged, of no known format or do not tell their time.",
                    ),
                    &["readable"],
                )?,
            )?,
            recording_scan_failures: register(
                registry,
                IntCounter::new(
                    "focus_server_recording_scan_failures_total",
                    "Looks at the folder of recordings that failed.",
                )?,
            )?,
            broker: ConsumeMetrics {
                connected: register(
                    registry,
                    IntGauge::new("focus_server_broker_connected", "1 while the broker is connected.")?,
                )?,
                events: register(
                    registry,
                    IntGauge::new(
                        "focus_server_broker_events",
                        "1 while the broker's events tell of new queues, 0 while the server has to ask.",
                    )?,
                )?,
            },
        };
        Dropped::ALL.iter().for_each(|reason| metrics.drop_lines(*reason, 0));
        metrics.recordings(0, 0);
        ReaderKind::ALL.iter().for_each(|kind| drop(metrics.reader_counts(*kind)));
        let other = ("", "other", ["200", "404"].as_slice());
        for (_, route, codes) in ROUTES.into_iter().chain([other]) {
            codes.iter().for_each(|code| metrics.requests.with_label_values(&[route, *code]).inc_by(0));
        }
        Ok(metrics)
    }

    /// Counts `count` lines lost.
    pub fn drop_lines(&self, reason: Dropped, count: u64) {
        self.dropped.with_label_values(&[reason.as_str()]).inc_by(count);
    }

    /// How many files in the folder of recordings can be shown, and how many cannot.
    pub fn recordings(&self, readable: usize, unreadable: usize) {
        for (label, count) in [("yes", readable), ("no", unreadable)] {
            self.recordings.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What a reader of `kind` is counted in.
    pub fn reader_counts(&self, kind: ReaderKind) -> Counts {
        Counts {
            readers: self.readers.with_label_values(&[kind.as_str()]),
            lines: self.reader_lines.with_label_values(&[kind.as_str()]),
            lost: self.dropped.with_label_values(&[Dropped::SlowReader.as_str()]),
        }
    }

    /// Counts a request answered with `code`.
    pub fn answered(&self, route: Route, code: u16) {
        self.requests.with_label_values(&[route.0, code.to_string().as_str()]).inc();
    }
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_s_route_is_a_word() {
        assert_eq!(Route::of(Some("/focus-server/jobs/{job_id}/events")), Route("events"));
        assert_eq!((Route::of(Some("/docs")), Route::of(None)), (Route("other"), Route("other")));
    }

    #[test]
    fn label_sets_start_at_zero() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).expect("fresh registry");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for line in [
            "focus_server_lines_dropped_total{reason=\"gap\"} 0",
            "focus_server_http_requests_total{code=\"404\",route=\"metadata\"} 0",
            "focus_server_consumers 0",
            "focus_server_lines_dropped_total{reason=\"slow_reader\"} 0",
            "focus_server_stream_readers{kind=\"grpc\"} 0",
            "focus_server_stream_lines_total{kind=\"websocket\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
