//! Makes a job: gives it a window, has it stored, creates its FocusJob. If it fails, nothing stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use super::cluster::{Cluster, ClusterError};
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
/// An API server that did not answer may still create the job so long afterwards: its own limit for a request.
const LATE: Duration = Duration::from_secs(60);
/// A request that arrived so long ago makes no job any more, so that its answer is there before its client has been
/// told that there is none.
const MAKES_WITHIN: Duration = Duration::from_secs(15);

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
    let deadline = deadline(received);
    let stored_by = server.store.deadline(deadline);
    let mut taken = BTreeSet::new();
    let mut bump = 0;
    while bump < NAMES {
        in_time(deadline)?;
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
        match server.store.claim(&claim, stored_by).await {
            Ok(()) if Instant::now() >= deadline => {
                server.store.discard(&claim);
                return Err(too_late());
            }
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
        if let Some(made) = create(server, &claim, &object, wanted.source, received).await? {
            return Ok(made);
        }
        bump += 1;
    }
    Err(ApiError::unavailable("NamesTaken", format!("{NAMES} job ids in a row were taken")))
}

/// Until when the request may still begin to make a job.
pub fn deadline(received: &Received) -> Instant {
    Instant::from_std(received.instant) + MAKES_WITHIN
}

fn in_time(deadline: Instant) -> Result<(), ApiError> {
    if Instant::now() < deadline { Ok(()) } else { Err(too_late()) }
}

/// What is told when the deadline has passed: nothing was made.
pub fn too_late() -> ApiError {
    let message = format!("the job could not be made within {} s, and none was", MAKES_WITHIN.as_secs());
    ApiError::unavailable("Timeout", message)
}

/// Creates the claimed job and enters it; None when the name is taken.
async fn create(
    server: &Arc<Server>,
    claim: &Claim,
    object: &FocusJob,
    source: &AnalyzerSource,
    received: &Received,
) -> Result<Option<FocusJob>, ApiError> {
    let expected = Expected { received: received.instant, source: source.clone() };
    server.jobs.expect(&claim.job, expected);
    match created(&server.shared.cluster, object, &claim.job, received.at).await {
        Created::Made(object) => {
            server.jobs.made((*object).clone());
            Ok(Some(*object))
        }
        Created::Taken => {
            server.jobs.unexpect(&claim.job);
            server.store.discard(claim);
            Ok(None)
        }
        Created::Refused(error) => {
            server.jobs.unexpect(&claim.job);
            server.store.discard(claim);
            Err(error.into_api_error())
        }
        Created::Unknown(error) => {
            server.jobs.unexpect(&claim.job);
            tokio::spawn(undo(Arc::clone(server), claim.clone()));
            Err(error.into_api_error())
        }
    }
}

/// What has become of a creation.
enum Created {
    Made(Box<FocusJob>),
    /// Another job has the name.
    Taken,
    Refused(ClusterError),
    /// Nobody knows whether it was made.
    Unknown(ClusterError),
}

async fn created(cluster: &Cluster, object: &FocusJob, name: &str, received: Timestamp) -> Created {
    let error = match cluster.create(object).await {
        Ok(object) => return Created::Made(Box::new(object)),
        Err(error) => error,
    };
    match error.code() {
        // The API server may have made it, lost its answer, and been asked again by its client.
        Some(409) => match cluster.made(name, &clock(received)).await {
            Ok(Some(object)) => Created::Made(Box::new(object)),
            Ok(None) => Created::Taken,
            Err(error) => Created::Unknown(error),
        },
        Some(400..500) => Created::Refused(error),
        Some(_) | None => Created::Unknown(error),
    }
}

/// Takes away what a creation without an answer may have made: the client has been told that it failed.
async fn undo(server: Arc<Server>, claim: Claim) {
    let (cluster, job, clock) = (&server.shared.cluster, &claim.job, &clock(claim.configured_at));
    let namespace = &cluster.namespace;
    let look = || async move {
        cluster.undo(job, clock).await.inspect_err(|error| {
            warn!(namespace, job, %error, "taking back a job whose creation was not confirmed");
        })
    };
    // When the server ends first, the record stays: it is closed when its job is known to be gone.
    if server.stop.run_until_cancelled(take_back(look, UNDO_PAUSES, LATE)).await.is_some() {
        server.store.discard(&claim);
    }
}

/// Calls `look` until it has found and taken away the job, or finds none although `late` has passed: one that is not
/// there yet may come.
async fn take_back<E, F: Future<Output = Result<bool, E>>>(
    look: impl Fn() -> F,
    (first, longest): (Duration, Duration),
    late: Duration,
) {
    let until = Instant::now() + late;
    let mut backoff = Backoff::new(first, longest);
    loop {
        let begun = Instant::now();
        match look().await {
            Ok(true) => return,
            Ok(false) if begun >= until => return,
            Ok(false) | Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
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
    annotations.extend(wanted.source.told().map(|source| (names::SOURCE.to_owned(), source)));
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
    use crate::server::cluster::tests::{fake, job};
    use crate::server::security::Caller;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_creation_is_told_from_a_refusal_and_from_one_that_was_repeated() {
        let at: Timestamp = "2026-01-02T03:04:05.678901Z".parse().expect("a time");
        let ours = clock(at);
        for (created_as, found, wanted) in [
            (201, None, "made"),
            (409, Some(ours.as_str()), "made"),
            (409, Some("another time"), "taken"),
            (409, None, "taken"),
            (403, Some(ours.as_str()), "refused"),
            (503, None, "unknown"),
        ] {
            let found = found.map(str::to_owned);
            let (cluster, _) = fake(move |call, _| match (call, &found) {
                ("POST focusjobs", _) => Some((created_as, job("u", "then"))),
                (_, Some(configured_at)) => Some((200, job("u", configured_at))),
                (_, None) => Some((404, Value::Null)),
            });
            let is = match created(&cluster, &FocusJob::new("5-1", spec(8)), "5-1", at).await {
                Created::Made(_) => "made",
                Created::Taken => "taken",
                Created::Refused(_) => "refused",
                Created::Unknown(_) => "unknown",
            };
            assert_eq!(is, wanted, "{created_as}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_waited_for_and_what_never_comes_is_not_for_ever() {
        let ms = Duration::from_millis;
        let looks = Cell::new(0);
        let look = || async {
            looks.set(looks.get() + 1);
            match looks.get() {
                1 => Ok(false),
                2 => Err(()),
                _ => Ok(true),
            }
        };
        take_back(look, (ms(1), ms(2)), Duration::from_secs(60)).await;
        assert_eq!(looks.get(), 3, "it came late, and was found");
        let begun = Instant::now();
        take_back(|| async { Ok::<_, ()>(false) }, (ms(1), ms(5)), ms(50)).await;
        assert!(begun.elapsed() >= ms(50), "given up after {:?}", begun.elapsed());
    }

    #[test]
    fn a_request_makes_nothing_after_its_time() {
        let now = Instant::now();
        let received = Received { instant: now.into_std(), at: Timestamp::now(), caller: None, trace: None };
        assert_eq!(deadline(&received), now + MAKES_WITHIN);
        assert!(in_time(now + Duration::from_secs(1)).is_ok() && in_time(now).is_err());
    }

    #[test]
    fn the_job_carries_window_clock_key_caller_and_finalizer() {
        let at: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let received = |caller| Received { instant: Instant::now().into_std(), at, caller, trace: None };
        let key = Key { label: "ba78".to_owned() };
        let (spec, source) = (spec(8), source());
        let wanted = |key| Wanted { spec: &spec, source: &source, request: Arc::new(Value::Null), key };
        let one = Replicas::alone("a");
        let job = object("18-3", &wanted(Some(&key)), 18, &received(None), &one);
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[names::CONFIGURED_AT], "2026-01-02T03:04:05.678901Z");
        assert!(!annotations.contains_key(names::CALLER) && !annotations.contains_key(names::SERVER));
        assert!(annotations[names::SOURCE].contains(r#""sampleRateHz":1000.0"#), "{annotations:?}");
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
        let received =
            Received { instant: Instant::now().into_std(), at: Timestamp::now(), caller: None, trace };
        let (spec, source) = (spec(8), source());
        let wanted = Wanted { spec: &spec, source: &source, request: Arc::new(Value::Null), key: None };
        let job = object("18-3", &wanted, 18, &received, &Replicas::alone("a"));
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!((&*annotations[names::TRACEPARENT], &*annotations[names::TRACESTATE]), (parent, "a=1"));
    }
}
