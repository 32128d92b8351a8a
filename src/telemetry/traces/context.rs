//! Which trace a request, and a job, belongs to: the W3C trace context, and how it travels.
//!
//! A request's context goes into annotations of the FocusJob, and from there into the environment of the analyzer. A job
//! without them has its uid for a trace id, so that all parts name the same trace and nobody need write it down.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use kube::ResourceExt;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};

use super::{Span, emit, new_span_id, on, sampled};
use crate::api::{FocusJob, names};

/// The longest `tracestate` that is passed on, bytes: what the specification asks for at least.
const MAX_STATE: usize = 512;

/// The span of a job that all other phases are parts of.
const ROOT: &str = "total";

/// A `traceparent` and its `tracestate`; None when it is not valid. A bad `tracestate` is left out.
pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<SpanContext> {
    let mut parts = traceparent.trim().split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == digits && is_hex).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // A later version may say more; ff is none.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = tracestate.filter(|state| state.len() <= MAX_STATE).and_then(|state| state.parse().ok());
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.is_valid().then_some(context)
}

/// `context` as a `traceparent`, for what is within the span `span`.
fn traceparent(context: &SpanContext, span: SpanId) -> String {
    format!("00-{}-{span}-{:02x}", context.trace_id(), context.trace_flags().to_u8())
}

/// The `tracestate`, if there is one.
fn tracestate(context: &SpanContext) -> Option<String> {
    Some(context.trace_state().header()).filter(|state| !state.is_empty())
}

/// The trace of one HTTP request.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    /// The client's span.
    parent: SpanId,
    /// The request's own span; the client's where traces are not exported.
    own: SpanContext,
}

impl RequestTrace {
    /// The trace that the request's headers name, or a new one. None when they name none and traces are not exported.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::within(given(headers), on())
    }

    fn within(given: Option<SpanContext>, exported: bool) -> Option<Self> {
        if !exported {
            return given.map(|own| Self { parent: own.span_id(), own });
        }
        let (trace, parent, state) = match &given {
            Some(given) => (given.trace_id(), given.span_id(), given.trace_state().clone()),
            None => (TraceId::from(rand::random::<u128>().max(1)), SpanId::INVALID, TraceState::default()),
        };
        let flags = TraceFlags::default().with_sampled(sampled(given.as_ref(), trace));
        Some(Self { parent, own: SpanContext::new(trace, new_span_id(), flags, false, state) })
    }

    /// The annotations of the FocusJob that the request makes.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let parent = (names::TRACEPARENT.to_owned(), traceparent(&self.own, self.own.span_id()));
        let state = tracestate(&self.own).map(|state| (names::TRACESTATE.to_owned(), state));
        [parent].into_iter().chain(state).collect()
    }

    /// Tells that the request for `route`, which arrived at `start`, has just been answered with `status`, and of
    /// which job it was.
    pub fn answered(&self, route: &'static str, start: SystemTime, status: StatusCode, job: Option<&str>) {
        let (method, path) = route.split_once(' ').unwrap_or(("", route));
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", path),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        ];
        attributes.extend(job.map(|job| KeyValue::new("focus.job.name", job.to_owned())));
        emit(
            &self.own,
            Span {
                name: route,
                id: self.own.span_id(),
                parent: self.parent,
                kind: SpanKind::Server,
                start,
                end: SystemTime::now(),
                failed: status.is_server_error().then(|| status.as_str().to_owned()),
                attributes,
            },
        );
    }
}

/// What the headers say, if it is one thing.
fn given(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
    let states = states.collect::<Vec<_>>().join(",");
    parse(parent, Some(&states).filter(|states| !states.is_empty()).map(String::as_str))
}

/// The trace of one job.
#[derive(Clone, Debug)]
pub struct JobTrace {
    /// Trace and span that the job is a part of; an invalid span where it begins its own trace.
    context: SpanContext,
    /// Whether the job came with it.
    given: bool,
    namespace: String,
    name: String,
    uid: String,
}

impl JobTrace {
    /// The trace of `job`.
    pub fn of(job: &FocusJob) -> Self {
        let annotations = job.annotations();
        let state = annotations.get(names::TRACESTATE).map(String::as_str);
        let given = annotations.get(names::TRACEPARENT).and_then(|parent| parse(parent, state));
        let (namespace, uid) = (job.namespace().unwrap_or_default(), job.uid().unwrap_or_default());
        Self::new(&namespace, &job.name_any(), &uid, given)
    }

    /// The trace of the job that is called so, as `given` to this process.
    pub fn new(namespace: &str, name: &str, uid: &str, given: Option<SpanContext>) -> Self {
        let own = trace_of(uid);
        let (trace, span, state) = match &given {
            Some(given) => (given.trace_id(), given.span_id(), given.trace_state().clone()),
            None => (own, SpanId::INVALID, TraceState::default()),
        };
        // Some bits of an uid are the same in all: for a share of all traces, a hash stands for it.
        let id = if trace == own { TraceId::from_bytes(hash(&[uid, "sampled"])) } else { trace };
        let flags = TraceFlags::default().with_sampled(sampled(given.as_ref(), id));
        Self {
            context: SpanContext::new(trace, span, flags, true, state),
            given: given.is_some(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// The span that the job is a part of, as it was given to this process.
    pub fn within(&self) -> SpanId {
        self.context.span_id()
    }

    /// The id of the span of a phase: the same in each process and after each restart.
    pub fn phase(&self, phase: &str) -> SpanId {
        let [a, b, c, d, e, f, g, h, ..] = hash(&[&self.uid, phase]);
        SpanId::from_bytes([a, b, c, d, e, f, g, h])
    }

    /// The span that `phase` is a part of.
    pub fn parent(&self, phase: &str) -> SpanId {
        if phase == ROOT { self.within() } else { self.phase(ROOT) }
    }

    /// The variables of the analyzer's environment: its spans are parts of the phase `pod`.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let parent = ("TRACEPARENT", traceparent(&self.context, self.phase("pod")));
        let state = tracestate(&self.context).map(|state| ("TRACESTATE", state));
        [parent].into_iter().chain(state).collect()
    }

    /// The span in which the log tells of the job.
    pub fn log(&self) -> tracing::Span {
        let trace = (self.given || on()).then(|| self.context.trace_id().to_string());
        crate::telemetry::about_job(&self.namespace, &self.name, &self.uid, trace.as_deref())
    }

    /// Exports `span`, with the job's name.
    pub fn emit(&self, mut span: Span) {
        if self.context.is_sampled() && on() {
            span.attributes.extend([
                KeyValue::new("k8s.namespace.name", self.namespace.clone()),
                KeyValue::new("focus.job.name", self.name.clone()),
                KeyValue::new("focus.job.uid", self.uid.clone()),
            ]);
            emit(&self.context, span);
        }
    }
}

/// The trace of a job that came with none: its uid.
fn trace_of(uid: &str) -> TraceId {
    let digits: String = uid.chars().filter(|c| *c != '-').collect();
    let id = if digits.len() == 32 { TraceId::from_hex(&digits).ok() } else { None };
    id.filter(|id| *id != TraceId::INVALID).unwrap_or_else(|| TraceId::from_bytes(hash(&[uid])))
}

fn hash(parts: &[&str]) -> [u8; 16] {
    let digest = Sha256::digest(parts.join("\0"));
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    first
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UID: &str = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9";

    #[test]
    fn a_valid_traceparent_is_taken_and_nothing_else() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let span = "b7ad6b7169203331";
        let cases = [
            (PARENT.to_owned(), Some(true)),
            (format!(" {PARENT} "), Some(true)),
            (format!("00-{trace}-{span}-00"), Some(false)),
            // Flags that are not known do not count.
            (format!("00-{trace}-{span}-03"), Some(true)),
            (format!("00-{trace}-{span}-fe"), Some(false)),
            (format!("cc-{trace}-{span}-01-what-comes-later"), Some(true)),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("00-{trace}-{span}-01-"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("0-{trace}-{span}-01"), None),
            (format!("00-{trace}-{span}"), None),
            (format!("00-{trace}-{span}-1"), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{}-{span}-01", &trace[1..]), None),
            (format!("00-+{}-{span}-01", &trace[1..]), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{trace}-{}-01", "0".repeat(16)), None),
            (format!("00-{trace}-{}é-01", &span[2..]), None),
            (String::new(), None),
        ];
        for (text, sampled) in cases {
            let parsed = parse(&text, None);
            assert_eq!(parsed.as_ref().map(SpanContext::is_sampled), sampled, "{text}");
            if let Some(parsed) = parsed {
                let flags = if parsed.is_sampled() { "01" } else { "00" };
                assert_eq!(traceparent(&parsed, parsed.span_id()), format!("00-{trace}-{span}-{flags}"));
            }
        }
    }

    #[test]
    fn a_tracestate_is_passed_on_unless_it_is_bad() {
        let long = format!("a={}", "b".repeat(511));
        for (state, expected) in
            [("a=1,b=2", Some("a=1,b=2")), ("", None), ("no pair", None), (long.as_str(), None)]
        {
            let parsed = parse(PARENT, Some(state)).unwrap();
            assert_eq!(tracestate(&parsed).as_deref(), expected, "{state}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn headers_name_one_trace_or_none() {
        let one = given(&headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        assert_eq!(tracestate(&one.unwrap()).as_deref(), Some("a=1,b=2"));
        assert!(given(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_none());
        assert!(given(&headers(&[("tracestate", "a=1")])).is_none());
        assert!(given(&headers(&[("traceparent", "nonsense")])).is_none());
    }

    #[test]
    fn a_request_goes_on_with_its_client_s_trace_or_begins_one() {
        let client = parse(PARENT, Some("a=1")).unwrap();
        // Without export the client's own context is passed on.
        let passed = RequestTrace::within(Some(client.clone()), false).unwrap().annotations();
        assert_eq!((&*passed[names::TRACEPARENT], &*passed[names::TRACESTATE]), (PARENT, "a=1"));
        assert!(RequestTrace::within(None, false).is_none());
        // With it the request is a span of its own.
        let own = RequestTrace::within(Some(client.clone()), true).unwrap();
        assert_eq!((own.own.trace_id(), own.parent), (client.trace_id(), client.span_id()));
        assert_ne!(own.own.span_id(), client.span_id());
        assert!(own.own.is_sampled() && own.annotations()[names::TRACEPARENT].ends_with("-01"));
        let fresh = RequestTrace::within(None, true).unwrap();
        assert!(fresh.own.is_valid() && fresh.own.is_sampled() && fresh.parent == SpanId::INVALID);
        // What the client does not want is not exported, by nobody.
        let unwanted = parse(&PARENT.replace("-01", "-00"), None);
        let unwanted = RequestTrace::within(unwanted, true).unwrap();
        assert!(unwanted.annotations()[names::TRACEPARENT].ends_with("-00"));
    }

    fn job(annotations: serde_json::Value) -> FocusJob {
        serde_json::from_value(json!({
            "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob",
            "metadata": {"name": "view", "namespace": "fibre", "uid": UID, "annotations": annotations},
            "spec": {"viewType": "Waterfall", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024}
        }))
        .unwrap()
    }

    #[test]
    fn a_job_is_in_the_trace_that_it_came_with_else_in_that_of_its_uid() {
        let came = JobTrace::of(&job(json!({names::TRACEPARENT: PARENT, names::TRACESTATE: "a=1"})));
        assert_eq!(came.context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(came.parent(ROOT).to_string(), "b7ad6b7169203331");
        assert_eq!(came.parent("pod"), came.phase(ROOT));
        let environment = came.environment();
        let expected = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", came.phase("pod"));
        assert_eq!(environment, [("TRACEPARENT", expected), ("TRACESTATE", "a=1".to_owned())]);
        for annotations in [json!({}), json!({names::TRACEPARENT: "nonsense"})] {
            let own = JobTrace::of(&job(annotations));
            assert_eq!(own.context.trace_id().to_string(), UID.replace('-', ""));
            assert_eq!((own.parent(ROOT), own.context.is_sampled()), (SpanId::INVALID, true));
            assert_eq!((own.phase("pod"), own.environment().len()), (came.phase("pod"), 1));
        }
    }

    #[test]
    fn the_analyzer_is_in_the_operator_s_trace() {
        let operator = JobTrace::of(&job(json!({})));
        let given = parse(&operator.environment()[0].1, None);
        let analyzer = JobTrace::new("fibre", "view", UID, given);
        assert_eq!(analyzer.context.trace_id(), operator.context.trace_id());
        assert_eq!(analyzer.context.span_id(), operator.phase("pod"));
        let unwanted = JobTrace::of(&job(json!({names::TRACEPARENT: PARENT.replace("-01", "-00")})));
        let given = parse(&unwanted.environment()[0].1, None);
        assert!(!JobTrace::new("fibre", "view", UID, given).context.is_sampled());
    }

    #[test]
    fn a_uid_of_another_kind_makes_a_trace_too() {
        for uid in ["", "u", "00000000-0000-0000-0000-000000000000"] {
            assert_ne!(trace_of(uid), TraceId::INVALID, "{uid}");
        }
        assert_ne!(trace_of("u"), trace_of("v"));
    }
}
