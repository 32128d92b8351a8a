//! Makes a job: gives it a window, has it stored, creates its FocusJob. If it fails, nothing stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::Value;
use tracing::warn;

use super::configure::Server;
use super::error::ApiError;
use super::idempotency::Key;
use super::job::Expected;
use super::replicas::Replicas;
use super::routes::Received;
use super::store::{Claim, StoreError};
use super::windows::job_id;
use crate::api::{AnalyzerSource, FocusJob, FocusJobSpec, names};
use crate::backoff::Backoff;
use crate::telemetry::traces::RequestTrace;

/// How many names are tried when others have taken them.
const NAMES: i64 = 8;
/// The first and the longest pause between attempts to take back what may have been made.
const UNDO_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The job that is wanted.
pub struct Wanted<'a> {
    /// Its spec.
    pub spec: &'a FocusJobSpec,
    /// The source that its pool declares.
    pub source: &'a AnalyzerSource,
    /// The request as received.
    pub request: Arc<Value>,
    /// Its key.
    pub key: Option<&'a Key>,
}

/// Makes the job in the next free window, and enters it.
///
/// # Errors
/// 429 when all windows are taken, 503 when the job cannot be stored or made.
pub async fn make(
    server: &Arc<Server>,
    wanted: &Wanted<'_>,
    received: &Received,
) -> Result<FocusJob, ApiError> {
    let deadline = server.store.deadline();
    let mut taken = BTreeSet::new();
    let mut bump = 0;
    while bump < NAMES {
        let live = || server.jobs.windows().union(&taken).copied().collect();
        let reservation = server.windows.reserve(live).ok_or(ApiError::NoWindow(server.window_count))?;
        let window = reservation.window();
        let _place = server
            .security
            .place(received.caller.as_ref(), window, |caller| server.jobs.windows_of(caller))?;
        let name = job_id(window, received.at.as_millisecond() + bump);
        let namespace = server.shared.cluster.namespace.clone();
        let request = Arc::clone(&wanted.request);
        let claim = Claim { namespace, job: name.clone(), window, request, configured_at: received.at };
        match server.store.claim(&claim, deadline).await {
            Ok(()) => {}
            Err(StoreError::WindowTaken) => {
                taken.insert(window);
                continue;
            }
            Err(StoreError::IdTaken) => {
                bump += 1;
                continue;
            }
            Err(error) => return Err(ApiError::unavailable("StoreUnavailable", error.to_string())),
        }
        let object = object(&name, wanted, window, received, &server.shared.replicas);
        if let Some(made) = create(server, &name, &object, wanted.source, received).await? {
            return Ok(made);
        }
        bump += 1;
    }
    Err(ApiError::unavailable("NamesTaken", format!("{NAMES} job ids in a row were taken")))
}

/// Creates the job and enters it; None when the name is taken.
async fn create(
    server: &Arc<Server>,
    name: &str,
    object: &FocusJob,
    source: &AnalyzerSource,
    received: &Received,
) -> Result<Option<FocusJob>, ApiError> {
    let expected = Expected { received: received.instant, source: source.clone() };
    server.jobs.expect(name, expected);
    let error = match server.shared.cluster.create(object).await {
        Ok(object) => {
            server.jobs.made(object.clone());
            return Ok(Some(object));
        }
        Err(error) => error,
    };
    server.jobs.unexpect(name);
    match error.code() {
        Some(code @ 400..500) => {
            server.store.discard(&server.shared.cluster.namespace, name);
            if code == 409 { Ok(None) } else { Err(error.into_api_error()) }
        }
        // Nobody knows whether it was made.
        Some(_) | None => {
            tokio::spawn(undo(Arc::clone(server), name.to_owned(), received.at));
            Err(error.into_api_error())
        }
    }
}

/// Takes away what a creation without an answer may have made: the client has been told that it failed.
async fn undo(server: Arc<Server>, name: String, received: Timestamp) {
    let mut backoff = Backoff::new(UNDO_PAUSES.0, UNDO_PAUSES.1);
    while let Some(Err(error)) =
        server.stop.run_until_cancelled(server.shared.cluster.undo(&name, &clock(received))).await
    {
        let namespace = &server.shared.cluster.namespace;
        warn!(namespace, job = name, %error, "taking back a job whose creation was not confirmed");
        server.stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
    }
    server.store.discard(&server.shared.cluster.namespace, &name);
}

/// The value of the annotation that tells when the request was received.
fn clock(received: Timestamp) -> String {
    format!("{received:.6}")
}

fn object(
    name: &str,
    wanted: &Wanted<'_>,
    window: u16,
    received: &Received,
    replicas: &Replicas,
) -> FocusJob {
    let mut labels = BTreeMap::from([
        (names::WINDOW_LABEL.to_owned(), window.to_string()),
        ("app.kubernetes.io/managed-by".to_owned(), "focus-server".to_owned()),
    ]);
    labels.extend(wanted.key.map(|key| (names::KEY_LABEL.to_owned(), key.label.clone())));
    let mut annotations = BTreeMap::from([(names::CONFIGURED_AT.to_owned(), clock(received.at))]);
    annotations
        .extend(received.caller.as_ref().map(|caller| (names::CALLER.to_owned(), caller.name().to_owned())));
    annotations.extend(received.trace.iter().flat_map(RequestTrace::annotations));
    if !replicas.are_one() {
        annotations.insert(names::SERVER.to_owned(), replicas.own().to_owned());
    }
    let mut job = FocusJob::new(name, wanted.spec.clone());
    job.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
        finalizers: Some(vec![names::FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::{source, spec};
    use crate::server::security::Caller;
    use std::time::Instant;

    #[test]
    fn the_job_carries_window_clock_key_caller_and_finalizer() {
        let at: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let received = |caller| Received { instant: Instant::now(), at, caller, trace: None };
        let key = Key { label: "ba78".to_owned() };
        let (spec, source) = (spec(8), source());
        let wanted = |key| Wanted { spec: &spec, source: &source, request: Arc::new(Value::Null), key };
        let one = Replicas::alone("a");
        let job = object("18-3", &wanted(Some(&key)), 18, &received(None), &one);
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[names::CONFIGURED_AT], "2026-01-02T03:04:05.678901Z");
        assert!(!annotations.contains_key(names::CALLER) && !annotations.contains_key(names::SERVER));
        let labels = job.metadata.labels.unwrap_or_default();
        assert_eq!((&*labels[names::WINDOW_LABEL], &*labels[names::KEY_LABEL]), ("18", "ba78"));
        assert_eq!(job.metadata.finalizers.unwrap_or_default(), [names::FINALIZER]);
        let caller = Some(Caller::new("ann", false));
        let job = object("18-3", &wanted(None), 18, &received(caller), &one);
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[names::CALLER], "ann");
        assert!(!annotations.contains_key(names::TRACEPARENT));
    }

    #[test]
    fn the_job_carries_the_request_s_trace() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = [("traceparent", parent), ("tracestate", "a=1")];
        let headers = headers.map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        });
        let trace = RequestTrace::of(&headers.into_iter().collect());
        let received = Received { instant: Instant::now(), at: Timestamp::now(), caller: None, trace };
        let (spec, source) = (spec(8), source());
        let wanted = Wanted { spec: &spec, source: &source, request: Arc::new(Value::Null), key: None };
        let job = object("18-3", &wanted, 18, &received, &Replicas::alone("a"));
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!((&*annotations[names::TRACEPARENT], &*annotations[names::TRACESTATE]), (parent, "a=1"));
    }
}
