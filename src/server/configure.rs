//! What `POST /configure` does: validate, take a window, store the job, create the FocusJob.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::answer::{self, Configured, StreamAddress};
use super::consumer::Shared;
use super::error::ApiError;
use super::job::Expected;
use super::jobs::Jobs;
use super::retry::Retry;
use super::routes::Received;
use super::store::{Claim, JobStore, StoreError};
use super::validate::validate;
use super::windows::{Windows, job_id};
use crate::api::{AnalyzerSource, FocusJob, FocusJobSpec, names, view};

/// How many names are tried when others have taken them.
const NAMES: i64 = 8;
/// First pause between two tries to take back a job.
const FIRST_UNDO: Duration = Duration::from_millis(500);
/// Longest pause between two tries to take back a job.
const LONGEST_UNDO: Duration = Duration::from_secs(10);

/// Which watches have been read for the first time.
#[derive(Default)]
pub struct Synced {
    jobs: AtomicBool,
    pools: AtomicBool,
}

impl Synced {
    /// Whether the jobs have been read.
    pub fn jobs(&self) -> bool {
        self.jobs.load(Ordering::Acquire)
    }

    /// Whether the pools have been read.
    pub fn pools(&self) -> bool {
        self.pools.load(Ordering::Acquire)
    }

    /// The jobs have been read.
    pub fn set_jobs(&self) {
        self.jobs.store(true, Ordering::Release);
    }

    /// The pools have been read.
    pub fn set_pools(&self) {
        self.pools.store(true, Ordering::Release);
    }
}

/// What the handlers share.
pub struct Server {
    /// What the consumers share too.
    pub shared: Arc<Shared>,
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// Where jobs are recorded.
    pub store: JobStore,
    /// The windows.
    pub windows: Windows,
    /// How many there are.
    pub window_count: u16,
    /// Pool of the jobs that are made here.
    pub pool: String,
    /// Where clients stream from.
    pub stream: StreamAddress,
    /// Which watches have been read.
    pub synced: Arc<Synced>,
    /// Places where waterfall answers are written.
    pub places: Arc<Semaphore>,
    /// Answers those who wait when the server ends.
    pub stop: CancellationToken,
}

/// Makes the job that `request` asks for and answers at once, without waiting for pod, queue or consumer.
///
/// # Errors
/// As docs/http-api.md lists them.
pub async fn configure(
    server: Arc<Server>,
    request: Value,
    received: Received,
) -> Result<Configured, ApiError> {
    let spec = validate(&request, &server.pool)?;
    let source = source(&server)?;
    if let Some(words) = view::refusal(&spec, &source) {
        return Err(ApiError::Rule(words));
    }
    if spec.start_time.is_some() {
        return Err(ApiError::NoRecording);
    }
    let name = make(&server, &spec, &source, Arc::new(request), &received).await?;
    server.shared.metrics.configure.observe(received.instant.elapsed().as_secs_f64());
    info!(job = name, "configured");
    Ok(answer::configured(&name, &spec, &source, &server.stream))
}

fn source(server: &Server) -> Result<AnalyzerSource, ApiError> {
    if !server.synced.pools() || !server.synced.jobs() {
        let message = "the server has not yet read jobs and pools from the API server";
        return Err(ApiError::unavailable("ServerStarting", message));
    }
    server.shared.source(&server.pool).ok_or_else(|| {
        ApiError::unavailable("NoSource", format!("there is no AnalyzerPool named {}", server.pool))
    })
}

/// Gives the job a window, has it stored, and creates it; gives its name.
async fn make(
    server: &Arc<Server>,
    spec: &FocusJobSpec,
    source: &AnalyzerSource,
    request: Arc<Value>,
    received: &Received,
) -> Result<String, ApiError> {
    let deadline = server.store.deadline();
    let mut taken = BTreeSet::new();
    let mut bump = 0;
    while bump < NAMES {
        let live = || server.jobs.windows().union(&taken).copied().collect();
        let reservation = server.windows.reserve(live).ok_or(ApiError::NoWindow(server.window_count))?;
        let window = reservation.window();
        let name = job_id(window, received.at.as_millisecond() + bump);
        let namespace = server.shared.cluster.namespace.clone();
        let request = Arc::clone(&request);
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
        if create(server, &name, &object(&name, spec, window, received.at), source, received).await? {
            return Ok(name);
        }
        bump += 1;
    }
    Err(ApiError::unavailable("NamesTaken", format!("{NAMES} job ids in a row were taken")))
}

/// Creates the job and enters it; false when the name is taken. If it fails, nothing stays behind.
async fn create(
    server: &Arc<Server>,
    name: &str,
    object: &FocusJob,
    source: &AnalyzerSource,
    received: &Received,
) -> Result<bool, ApiError> {
    let expected = Expected { received: received.instant, source: source.clone() };
    server.jobs.expect(name, expected);
    let error = match server.shared.cluster.create(object).await {
        Ok(object) => {
            server.jobs.made(object);
            return Ok(true);
        }
        Err(error) => error,
    };
    server.jobs.unexpect(name);
    match error.code() {
        Some(code @ 400..500) => {
            server.store.discard(&server.shared.cluster.namespace, name);
            if code == 409 { Ok(false) } else { Err(error.into_api_error()) }
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
    let mut retry = Retry::new(FIRST_UNDO, LONGEST_UNDO);
    while let Some(Err(error)) =
        server.stop.run_until_cancelled(server.shared.cluster.undo(&name, &clock(received))).await
    {
        warn!(job = name, %error, "taking back a job whose creation was not confirmed");
        server.stop.run_until_cancelled(tokio::time::sleep(retry.next())).await;
    }
    server.store.discard(&server.shared.cluster.namespace, &name);
}

/// The value of the annotation that tells when the request was received.
fn clock(received: Timestamp) -> String {
    format!("{received:.6}")
}

fn object(name: &str, spec: &FocusJobSpec, window: u16, received: Timestamp) -> FocusJob {
    let mut job = FocusJob::new(name, spec.clone());
    job.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([
            (names::WINDOW_LABEL.to_owned(), window.to_string()),
            ("app.kubernetes.io/managed-by".to_owned(), "focus-server".to_owned()),
        ])),
        annotations: Some(BTreeMap::from([(names::CONFIGURED_AT.to_owned(), clock(received))])),
        finalizers: Some(vec![names::FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::spec;

    #[test]
    fn the_job_carries_window_clock_and_finalizer() {
        let at: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let job = object("18-3", &spec(8), 18, at);
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[names::CONFIGURED_AT], "2026-01-02T03:04:05.678901Z");
        assert_eq!(job.metadata.labels.unwrap_or_default()[names::WINDOW_LABEL], "18");
        assert_eq!(job.metadata.finalizers.unwrap_or_default(), [names::FINALIZER]);
    }
}
