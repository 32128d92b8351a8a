//! Traces by OTLP: one for each job, over all parts of the system. `docs/tracing.md` tells which spans there are.
//!
//! Spans are made when they are over, with the times at which things happened: the phases of a job end at milestones
//! that lie in the past when they are told of. A span is data, and nothing waits for it.

mod context;
mod export;
mod steps;

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt, TraceId};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::trace::{Config, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks};
use prometheus::{IntCounterVec, Opts};

pub use context::{JobTrace, RequestTrace, parse};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanId;
pub use steps::Steps;

use export::Exporting;

/// What may become of a span.
const OUTCOMES: [&str; 2] = ["exported", "dropped"];

static TRACES: OnceLock<Traces> = OnceLock::new();
static COUNTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Spans that the receiver of traces took, and those lost because too many waited for it or because it \
                was away or refused them. Zero where traces are not exported.";
    let counted = IntCounterVec::new(Opts::new("focus_trace_spans_total", help), &["outcome"])
        .expect("the metric's name and label are valid");
    OUTCOMES.iter().for_each(|outcome| drop(counted.with_label_values(&[outcome])));
    counted
});

/// How many spans of this process were exported and dropped.
pub fn counted() -> IntCounterVec {
    COUNTED.clone()
}

/// Which traces are kept, and where their spans go.
struct Traces {
    sampler: Box<dyn ShouldSample>,
    exporting: Option<Exporting>,
    /// How long the end of the process may wait for the last spans.
    flush: Duration,
}

/// A span that is over.
pub struct Span {
    /// Its name: one of few.
    pub name: &'static str,
    /// Its id.
    pub id: SpanId,
    /// The span that it is a part of; `SpanId::INVALID` for none.
    pub parent: SpanId,
    /// Whether it answers a request from outside.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// CamelCase cause, when it ended badly.
    pub failed: Option<String>,
    /// What else is known. Never a secret.
    pub attributes: Vec<KeyValue>,
}

/// Starts to export what this process, called `service`, has to tell, if the environment names a receiver
/// (`OTEL_EXPORTER_OTLP_ENDPOINT`). The end of the process waits for the last spans for as long as `flush`, at most.
/// Must be called within the runtime.
pub fn start(service: &'static str, flush: Duration) {
    // A second start, as in tests, keeps the first.
    let _ =
        TRACES.set(Traces { sampler: Config::default().sampler, exporting: export::start(service), flush });
}

/// Gives the last spans the time to leave.
pub async fn finish() {
    let Some(traces) = TRACES.get().filter(|traces| traces.exporting.is_some()) else { return };
    let finish = move || traces.exporting.as_ref().map(|exporting| exporting.finish(traces.flush));
    // It blocks.
    let _ = tokio::task::spawn_blocking(finish).await;
}

/// Whether spans are exported.
pub fn on() -> bool {
    TRACES.get().is_some_and(|traces| traces.exporting.is_some())
}

/// A random id of a span.
pub fn new_span_id() -> SpanId {
    SpanId::from(rand::random::<u64>().max(1))
}

/// Exports `span` of `trace`, if that is sampled.
fn emit(trace: &SpanContext, span: Span) {
    let exporting = TRACES.get().and_then(|traces| traces.exporting.as_ref());
    if let Some(exporting) = exporting.filter(|_| trace.is_sampled()) {
        exporting.take(data(trace, span));
    }
}

fn data(trace: &SpanContext, span: Span) -> SpanData {
    let Span { name, id, parent, kind, start, end, failed, attributes } = span;
    SpanData {
        span_context: SpanContext::new(
            trace.trace_id(),
            id,
            trace.trace_flags(),
            false,
            trace.trace_state().clone(),
        ),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time: start,
        end_time: end.max(start),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: failed.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("focus-operator")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// Whether a trace is kept, as `OTEL_TRACES_SAMPLER` says. `parent`: what another process has said of it. `id` stands
/// for the trace where a share of all is kept.
fn sampled(parent: Option<&SpanContext>, id: TraceId) -> bool {
    static DEFAULT: LazyLock<Box<dyn ShouldSample>> = LazyLock::new(|| Config::default().sampler);
    let sampler = TRACES.get().map_or(&*DEFAULT, |traces| &traces.sampler);
    let parent = parent.map(|parent| Context::new().with_remote_span_context(parent.clone()));
    let asked = sampler.should_sample(parent.as_ref(), id, "job", &SpanKind::Internal, &[], &[]);
    asked.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_its_times_and_never_ends_before_it_begins() {
        let trace = context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        let trace = trace.expect("valid");
        let at = |us| SystemTime::UNIX_EPOCH + Duration::from_micros(us);
        for (start, end, expected, failed) in
            [(5, 7, 7, None), (5, 5, 5, None), (5, 4, 5, Some("ImagePullBackOff"))]
        {
            let span = Span {
                name: "pod",
                id: new_span_id(),
                parent: trace.span_id(),
                kind: SpanKind::Internal,
                start: at(start),
                end: at(end),
                failed: failed.map(str::to_owned),
                attributes: Vec::new(),
            };
            let id = span.id;
            let made = data(&trace, span);
            assert_eq!((made.start_time, made.end_time), (at(start), at(expected)));
            assert_eq!((made.span_context.trace_id(), made.span_context.span_id()), (trace.trace_id(), id));
            assert_eq!(made.parent_span_id, trace.span_id());
            assert_eq!(made.status, failed.map_or(Status::Unset, Status::error));
        }
    }

    #[test]
    fn nothing_is_exported_where_nothing_was_started() {
        assert!(!on());
        let trace = context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        assert!(trace.is_some_and(|trace| sampled(Some(&trace), trace.trace_id())));
        let not = context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", None);
        assert!(not.is_some_and(|trace| !sampled(Some(&trace), trace.trace_id())));
    }
}
